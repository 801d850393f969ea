//! The last row: the keys that matter here, as many as fit. Help and quit never drop.

use ratatui::layout::Rect;
use ratatui::style::Style;

use super::canvas::{Canvas, width};
use crate::dashboard::app::{Focus, Screen, View};
use crate::dashboard::keys::{Action, KEYS};

/// A rule where there is room for one, then the keys.
pub fn draw(canvas: &mut Canvas<'_>, area: Rect, view: &View) {
    if area.height > 1 {
        canvas.rule(area, "", "", false);
    }
    let row = Rect { y: area.bottom() - 1, height: 1, ..area };
    if let Some(word) = &view.word {
        canvas.foreign(1, row.y, word, row.width - 2, canvas.theme.warning());
        return;
    }
    let detail = view.screen == Screen::Detail;
    let last = if detail { "Esc back  q back" } else { "q quit" };
    canvas.right(Rect { width: row.width - 1, ..row }, last, Style::new());
    let end = row.right().saturating_sub(width(last) + 3);
    let mut x = canvas.put(1, row.y, "? help", 6, Style::new()) + 2;
    for hint in KEYS.iter().filter(|binding| fits(binding.action, view, detail)).filter_map(|binding| binding.hint) {
        if x + width(hint) > end {
            return;
        }
        x = canvas.put(x, row.y, hint, end - x, Style::new()) + 2;
    }
}

/// A hint is of use with what has the keys.
fn fits(action: Action, view: &View, detail: bool) -> bool {
    match action {
        Action::Open => !detail && view.focus != Focus::Log,
        Action::NextBad => view.focus == Focus::List && !detail,
        Action::Wrap => detail || view.focus == Focus::Log,
        _ => true,
    }
}
