//! A run's events, beside its log.

use ratatui::layout::Rect;
use ratatui::style::Style;

use super::canvas::Canvas;
use super::focused;
use crate::dashboard::app::{Focus, Leaf, Screen, View};
use crate::dashboard::panes::{EventLine, Level};

/// Title and lines.
pub fn draw(canvas: &mut Canvas<'_>, area: Rect, view: &View) {
    let theme = canvas.theme;
    let pane = &view.events;
    let count = pane.lines.len() + pane.left_out;
    let facts = if pane.cursor.is_some() {
        format!("{} of {count}", pane.cursor.unwrap_or(0) + pane.left_out + 1)
    } else {
        format!("{count} events")
    };
    let alone = view.screen == Screen::Detail && view.leaf == Leaf::Events;
    let short = view.selected.map_or_else(String::new, |id| id.short());
    let title = if alone && area.x == 0 { super::detail::leaves(view) } else { format!("Events {short}  (JSONL)") };
    let keyed = focused(view, Focus::Events) || alone;
    canvas.rule(area, &title, &facts, keyed);
    let rows = usize::from(area.height.saturating_sub(1));
    if pane.lines.is_empty() {
        let words = if view.selected.is_none() { "no run is selected" } else { "no events here yet" };
        canvas.put(area.x + 1, area.y + 1, words, area.width.saturating_sub(2), theme.dim());
        return;
    }
    let first = pane.first(rows);
    for (y, (at, line)) in (area.y + 1..area.bottom()).zip(pane.lines.iter().enumerate().skip(first)) {
        let row = Rect { y, height: 1, ..area };
        draw_line(canvas, row, line);
        if pane.cursor == Some(at) {
            let style = if keyed { theme.reverse() } else { theme.bold() };
            canvas.highlight(row, style);
        }
    }
}

fn draw_line(canvas: &mut Canvas<'_>, row: Rect, line: &EventLine) {
    let theme = canvas.theme;
    let style = match line.level {
        Level::Info => Style::new(),
        Level::Warn => theme.warning(),
        Level::Error => theme.bad(),
    };
    let clock = line.at.map_or_else(|| "-".to_owned(), |at| at.clock());
    let room = row.width.saturating_sub(1);
    canvas.put(row.x + 1, row.y, &clock, 12.min(room), theme.dim());
    canvas.put(row.x + 14, row.y, line.level.word(), 5.min(room.saturating_sub(13)), style);
    let end = canvas.put(row.x + 20, row.y, &line.name, room.saturating_sub(19), style);
    let x = end.max(row.x + 38) + 1;
    canvas.put(x, row.y, &line.facts, row.right().saturating_sub(x), style);
}
