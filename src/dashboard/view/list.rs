//! The table of runs.

use std::time::Duration;

use ratatui::layout::Rect;
use ratatui::style::Style;

use super::canvas::Canvas;
use super::focused;
use super::header::{coarse, length};
use crate::dashboard::app::{Focus, View};
use crate::dashboard::model::{Link, Model, Run, Tab};
use crate::dashboard::theme::words;
use crate::quantity::round_duration;
use crate::status::State;

/// Columns and how wide they are; zero where there is no room.
struct Columns {
    kind: u16,
    resource: u16,
    state: u16,
    by: u16,
    waited: u16,
    ran: u16,
    reason: u16,
}

impl Columns {
    /// id, marks and time never drop; the rest drops in a fixed order as the screen gets narrower.
    fn of(width: u16) -> Self {
        let fixed = 3 + 8 + 1 + 8;
        let room = width.saturating_sub(fixed);
        let mut columns = Self { kind: 0, resource: 0, state: 0, by: 0, waited: 0, ran: 0, reason: 0 };
        columns.kind = match room {
            0..=36 => 12,
            37..=70 => 16,
            71..=99 => 18,
            _ => 16,
        };
        columns.resource = if room < 38 { 0 } else { (room / 4).clamp(16, 20) };
        if room >= 100 {
            (columns.by, columns.waited, columns.ran) = (12, 8, 8);
        }
        let used = |c: &Self| {
            [c.kind, c.resource, c.by, c.waited, c.ran].iter().filter(|w| **w > 0).map(|w| w + 1).sum::<u16>()
        };
        let left = room.saturating_sub(used(&columns) + 1);
        columns.state = left.min(if room >= 100 { 24 } else { 60 });
        columns.reason = if room >= 100 { left.saturating_sub(columns.state + 1) } else { 0 };
        columns
    }
}

/// Title, heads, rows.
pub fn draw(canvas: &mut Canvas<'_>, area: Rect, model: &Model, view: &View) {
    if view.tab == Tab::Locks {
        super::side::locks(canvas, area, model, view, focused(view, Focus::List));
        return;
    }
    let rows = model.runs.rows(view.tab);
    let mut body = area;
    let columns = Columns::of(area.width);
    if area.y > 2 || area.height > 6 && view.size.1 >= 24 {
        let heads = usize::from(area.height.saturating_sub(2));
        let last = (view.list_top + heads).min(rows.len());
        let from = if rows.len() == 0 { 0 } else { view.list_top + 1 };
        let facts = match rows.len() {
            0 => "no requests".to_owned(),
            n => format!("sort: state, age   {from}-{last} of {n}"),
        };
        canvas.rule(area, view.tab.names().0, &facts, focused(view, Focus::List));
        head(canvas, Rect { y: area.y + 1, height: 1, ..area }, &columns);
        body = Rect { y: area.y + 2, height: area.height.saturating_sub(2), ..area };
    }
    if rows.len() == 0 {
        empty(canvas, body, model, view);
        return;
    }
    let pinned = view.run(model).filter(|run| view.chosen && rows.row_of(run.id).is_none());
    for y in 0..body.height {
        let row = Rect { y: body.y + y, height: 1, ..body };
        if y == 0
            && let Some(run) = pinned
        {
            draw_run(canvas, row, model, view, (run, &columns));
            canvas.highlight(row, canvas.theme.dim());
            continue;
        }
        let at = view.list_top + usize::from(y) - usize::from(pinned.is_some());
        let Some(run) = rows.get(at) else { break };
        draw_run(canvas, row, model, view, (run, &columns));
    }
}

fn head(canvas: &mut Canvas<'_>, row: Rect, columns: &Columns) {
    let style = canvas.theme.dim();
    let mut x = row.x + 3;
    let mut put = |canvas: &mut Canvas<'_>, words: &str, wide: u16| {
        if wide > 0 {
            canvas.put(x, row.y, words, wide, style);
            x += wide + 1;
        }
    };
    put(canvas, "ID", 8);
    put(canvas, "KIND", columns.kind);
    put(canvas, "RESOURCE", columns.resource);
    put(canvas, "STATE", columns.state);
    put(canvas, "REQUESTED BY", columns.by);
    put(canvas, "  WAITED", columns.waited);
    put(canvas, "     RAN", columns.ran);
    put(canvas, "REASON", columns.reason);
    canvas.right(Rect { width: row.width - 1, ..row }, "TIME", style);
}

fn draw_run(canvas: &mut Canvas<'_>, row: Rect, model: &Model, view: &View, (run, columns): (&Run, &Columns)) {
    let theme = canvas.theme;
    let alive = model.link == Link::Live;
    let style = if run.state == State::Running && !alive { theme.dim() } else { theme.state(run.state) };
    let selected = view.selected == Some(run.id);
    if selected {
        canvas.put(row.x, row.y, ">", 1, theme.bold());
    }
    let glyph = if run.state == State::Running && !alive { "?" } else { theme.glyph(run.state) };
    canvas.put(row.x + 1, row.y, glyph, 1, style);
    let mut x = row.x + 3;
    canvas.put(x, row.y, &run.id.short(), 8, Style::new());
    x += 9;
    let dash = |word: &Option<std::sync::Arc<str>>| word.as_ref().map_or("-".to_owned(), |word| word.to_string());
    let mut put = |canvas: &mut Canvas<'_>, words: &str, wide: u16, style: Style| {
        if wide > 0 {
            canvas.foreign(x, row.y, words, wide, style);
            x += wide + 1;
        }
    };
    put(canvas, &dash(&run.kind), columns.kind, Style::new());
    put(canvas, &dash(&run.resource), columns.resource, Style::new());
    let place = if run.state == State::Queued { model.runs.place(run.id) } else { None };
    put(canvas, &words(run, place, alive), columns.state, style);
    put(canvas, &dash(&run.by), columns.by, Style::new());
    let waited = run.started_at.map(|at| length(at.since(run.queued_at)));
    put(canvas, &format!("{:>8}", waited.as_deref().unwrap_or("-")), columns.waited, theme.dim());
    put(canvas, &format!("{:>8}", ran(run, view)), columns.ran, theme.dim());
    put(canvas, run.reason.as_deref().unwrap_or("-"), columns.reason, theme.dim());
    let time = Rect { width: row.width - 1, ..row };
    canvas.right(time, &time_of(run, view), if run.state.is_final() { theme.dim() } else { Style::new() });
    if selected && focused(view, Focus::List) {
        canvas.highlight(row, theme.reverse());
    }
}

fn ran(run: &Run, view: &View) -> String {
    match (run.duration_ms, run.state, run.started_at) {
        (Some(ms), ..) => round_duration(Duration::from_millis(ms.into())),
        (None, State::Running, Some(at)) => length(view.now.since(at)),
        _ => "-".to_owned(),
    }
}

/// How long it has been as it is, or how long ago it ended.
fn time_of(run: &Run, view: &View) -> String {
    match (run.finished_at, run.state, run.started_at) {
        (Some(at), ..) => format!("{} ago", coarse(view.now.since(at))),
        (None, State::Running, Some(at)) => length(view.now.since(at)),
        _ => length(view.now.since(run.queued_at)),
    }
}

fn empty(canvas: &mut Canvas<'_>, area: Rect, model: &Model, view: &View) {
    let lines: Vec<String> = if !model.loaded {
        vec!["Reading the runs of this checkout.".to_owned()]
    } else if view.tab != Tab::All {
        vec![format!("No run is in this list. 0 shows all {}.", model.runs.len())]
    } else {
        let kinds = model.kinds.map_or(String::new(), |kinds| format!("  Kinds that can be asked for: {kinds}."));
        vec![
            format!("No requests yet.{kinds}"),
            "Try one now, in another terminal:".to_owned(),
            "  dispatcher handlers     what can be asked for".to_owned(),
            "  dispatcher submit KIND --set key=value".to_owned(),
        ]
    };
    for (y, line) in (area.y..area.bottom()).zip(lines) {
        canvas.put(area.x + 3, y, &line, area.width.saturating_sub(4), Style::new());
    }
}
