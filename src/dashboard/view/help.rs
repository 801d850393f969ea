//! The help: the whole key map, from the table that the keys are read from.

use ratatui::layout::Rect;
use ratatui::style::Style;

use super::canvas::Canvas;
use crate::dashboard::app::View;
use crate::dashboard::keys::{Group, KEYS};

/// Columns of the keys themselves.
const KEY: u16 = 15;

/// The whole screen.
pub fn draw(canvas: &mut Canvas<'_>, area: Rect, view: &View) {
    let theme = canvas.theme;
    let all = lines();
    let two = area.width >= 80;
    let rows = usize::from(area.height.saturating_sub(2));
    let columns = if two { 2 } else { 1 };
    // A heading does not stand alone at the foot of a column.
    let half = all.len().div_ceil(2);
    let per = if two {
        (half..all.len()).find(|at| matches!(all.get(*at), Some(Line::Gap))).map_or(half, |at| at + 1)
    } else {
        all.len()
    };
    let last = per.saturating_sub(rows);
    let top = view.help_top.min(last);
    let more = if last > 0 { format!("j k to scroll, {} of {}   ", top + 1, last + 1) } else { String::new() };
    canvas.rule(area, "Help", &format!("{more}Esc close"), true);
    let wide = area.width / columns;
    for column in 0..columns {
        let x = area.x + column * wide;
        let from = usize::from(column) * per + top;
        for (y, line) in (area.y + 1..area.bottom().saturating_sub(1)).zip(all.iter().skip(from).take(per - top)) {
            match line {
                Line::Heading(words) => {
                    canvas.put(x + 1, y, words, wide.saturating_sub(2), theme.bold());
                }
                Line::Key(keys, what) => {
                    canvas.put(x + 1, y, keys, KEY, theme.fg(ratatui::style::Color::Cyan));
                    canvas.put(x + 2 + KEY, y, what, wide.saturating_sub(KEY + 3), Style::new());
                }
                Line::Gap => {}
            }
        }
    }
    let foot = Rect { y: area.bottom() - 1, height: 1, ..area };
    canvas.rule(foot, "", &format!("dispatcher {}", env!("CARGO_PKG_VERSION")), false);
}

enum Line {
    Heading(&'static str),
    Key(&'static str, &'static str),
    Gap,
}

fn lines() -> Vec<Line> {
    let mut lines = Vec::new();
    for group in Group::ALL {
        if !lines.is_empty() {
            lines.push(Line::Gap);
        }
        lines.push(Line::Heading(group.heading()));
        lines.extend(
            KEYS.iter()
                .filter(|key| key.group == group && !key.shown.is_empty())
                .map(|key| Line::Key(key.shown, key.what)),
        );
    }
    lines
}
