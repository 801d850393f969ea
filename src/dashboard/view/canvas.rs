//! Writing to the screen: text that never leaves its place, rules with titles, columns.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Span;
use unicode_width::UnicodeWidthStr as _;

use crate::dashboard::theme::{Sign, Theme};
use crate::text;

/// The screen, and how things look on it.
pub struct Canvas<'b> {
    buffer: &'b mut Buffer,
    /// How things look.
    pub theme: Theme,
}

/// Columns that a text takes.
pub fn width(text: &str) -> u16 {
    u16::try_from(text.width()).unwrap_or(u16::MAX)
}

/// At most `most` columns of a text; where something is left out, the last one says so.
pub fn cut(text: &str, most: u16, theme: Theme) -> String {
    if width(text) <= most {
        return text.to_owned();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let wide = width(c.encode_utf8(&mut [0; 4]));
        if used + wide + 1 > most {
            break;
        }
        out.push(c);
        used += wide;
    }
    if most > 0 {
        out.push_str(theme.sign(Sign::More));
    }
    out
}

impl<'b> Canvas<'b> {
    /// Draws to `buffer`.
    pub fn new(buffer: &'b mut Buffer, theme: Theme) -> Self {
        Self { buffer, theme }
    }

    /// Writes a text of ours or one that was made safe; gives the column behind it.
    pub fn put(&mut self, x: u16, y: u16, words: &str, most: u16, style: Style) -> u16 {
        let area = self.buffer.area;
        if y < area.top() || y >= area.bottom() || x >= area.right() {
            return x;
        }
        let cut = cut(words, most.min(area.right() - x), self.theme);
        self.buffer.set_stringn(x, y, cut, usize::from(most), style).0
    }

    /// Writes a text of somebody else.
    pub fn foreign(&mut self, x: u16, y: u16, words: &str, most: u16, style: Style) -> u16 {
        self.put(x, y, &text::line(words), most, style)
    }

    /// Writes a text of ours at the right end of `area`'s first row; gives the column where it starts.
    pub fn right(&mut self, area: Rect, words: &str, style: Style) -> u16 {
        let wide = width(words).min(area.width);
        let x = area.right() - wide;
        self.put(x, area.y, words, wide, style);
        x
    }

    /// Writes spans from `skip` columns on; gives how many columns they have in all.
    pub fn spans(&mut self, area: Rect, skip: usize, spans: &[Span<'_>]) {
        let (mut x, mut left) = (area.x, skip);
        for span in spans {
            let mut content: &str = &span.content;
            while left > 0
                && let Some(c) = content.chars().next()
            {
                left = left.saturating_sub(usize::from(width(c.encode_utf8(&mut [0; 4]))));
                content = &content[c.len_utf8()..];
            }
            if x >= area.right() {
                return;
            }
            x = self.buffer.set_stringn(x, area.y, content, usize::from(area.right() - x), span.style).0;
        }
    }

    /// A rule over the first row of `area`, with a title on the left and facts on the right.
    pub fn rule(&mut self, area: Rect, title: &str, facts: &str, focused: bool) {
        if area.height == 0 {
            return;
        }
        let theme = self.theme;
        let line = theme.sign(Sign::Rule);
        self.put(area.x, area.y, &line.repeat(usize::from(area.width)), area.width, theme.dim());
        let style = if focused { theme.bold() } else { Style::new() };
        let room = area.width.saturating_sub(2);
        let mut end = area.x + 1;
        if !title.is_empty() {
            end = self.put(area.x + 1, area.y, &format!(" {title} "), room, style);
        }
        let facts = format!(" {facts} ");
        if facts.len() > 2 && width(&facts) + 2 <= area.right().saturating_sub(end) {
            self.put(area.right() - 1 - width(&facts), area.y, &facts, width(&facts), Style::new());
        }
    }

    /// The line down between two panes.
    pub fn side(&mut self, x: u16, y: u16) {
        let (sign, style) = (self.theme.sign(Sign::Side), self.theme.dim());
        self.put(x, y, sign, 1, style);
    }

    /// Gives a row a style on top of what stands there.
    pub fn highlight(&mut self, area: Rect, style: Style) {
        self.buffer.set_style(Rect { height: 1, ..area }, style);
    }
}
