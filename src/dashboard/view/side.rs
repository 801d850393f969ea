//! Who holds which resource and who waits for it; what the kinds did in a day; what happened to the daemon.

use std::time::Duration;

use ratatui::layout::Rect;
use ratatui::style::Style;

use super::canvas::Canvas;
use super::header::length;
use crate::dashboard::app::View;
use crate::dashboard::model::{Model, Run};
use crate::dashboard::theme::Sign;
use crate::quantity::round_duration;
use crate::status::State;

/// Locks above kinds above the health feed, as far as there is room.
pub fn draw(canvas: &mut Canvas<'_>, area: Rect, model: &Model, view: &View) {
    for y in area.top()..area.bottom() {
        canvas.side(area.x, y);
    }
    let area = Rect { x: area.x + 1, width: area.width - 1, ..area };
    let big = area.height >= 18 && area.width >= 50;
    let held =
        2 + u16::try_from(model.runs.active().filter(|run| holds(run) || waits(run)).count()).unwrap_or(u16::MAX);
    let most = if big { area.height / 3 } else { area.height / 2 };
    let locks_rows = held.clamp(4, most.max(4));
    let (upper, rest) = split(area, locks_rows);
    locks(canvas, upper, model, view, false);
    let kinds_rows = if big {
        (2 + u16::try_from(model.day.kinds.len()).unwrap_or(0)).clamp(4, rest.height / 2)
    } else {
        rest.height
    };
    let (middle, lower) = split(rest, kinds_rows);
    kinds(canvas, middle, model);
    if lower.height > 2 {
        health(canvas, lower, model);
    }
}

fn split(area: Rect, rows: u16) -> (Rect, Rect) {
    let rows = rows.min(area.height);
    (Rect { height: rows, ..area }, Rect { y: area.y + rows, height: area.height - rows, ..area })
}

fn holds(run: &Run) -> bool {
    run.state == State::Running
}

fn waits(run: &Run) -> bool {
    run.state == State::Waiting
}

/// Holders, each with who waits for it.
pub fn locks(canvas: &mut Canvas<'_>, area: Rect, model: &Model, view: &View, focused: bool) {
    let theme = canvas.theme;
    let held: Vec<&Run> = model.runs.active().filter(|run| holds(run)).collect();
    let waiting: Vec<&Run> = model.runs.active().filter(|run| waits(run)).collect();
    canvas.rule(area, "Locks", &format!("{} held, {} waiting", held.len(), waiting.len()), focused);
    let wide = area.width >= 50;
    let resource = area.width.saturating_sub(if wide { 38 } else { 18 });
    let mut y = area.y + 1;
    if held.is_empty() && waiting.is_empty() {
        canvas.put(area.x + 1, y, "nothing is locked", area.width.saturating_sub(2), theme.dim());
        return;
    }
    let mut line = |canvas: &mut Canvas<'_>, cells: [&str; 4], style: Style| {
        if y >= area.bottom() {
            return;
        }
        // Who waits takes the holder's column too.
        let most = if cells[1].is_empty() { resource + 9 } else { resource };
        let mut x = canvas.foreign(area.x + 1, y, cells[0], most, style).max(area.x + 2 + resource);
        x = canvas.foreign(x, y, cells[1], 8, style).max(x + 9);
        if wide {
            canvas.foreign(x, y, cells[2], 17, style);
        }
        canvas.right(Rect { y, height: 1, width: area.width - 1, ..area }, cells[3], style);
        y += 1;
    };
    if area.height > 3 {
        line(canvas, ["RESOURCE", "HOLDER", "KIND", "HELD"], theme.dim());
    }
    let kind = |run: &Run| run.kind.as_ref().map_or_else(String::new, ToString::to_string);
    let resource_of = |run: &Run| run.resource.as_ref().map_or_else(String::new, ToString::to_string);
    let mut told = Vec::new();
    for holder in held {
        let since = holder.live.as_ref().and_then(|live| live.lock_since).or(holder.started_at);
        let time = since.map_or("-".to_owned(), |at| length(view.now.since(at)));
        line(canvas, [&resource_of(holder), &holder.id.short(), &kind(holder), &time], theme.state(State::Running));
        for waiter in waiting.iter().filter(|run| run.live.as_ref().is_some_and(|live| live.held_by == Some(holder.id)))
        {
            let time = length(view.now.since(waiter.queued_at));
            let who = format!("  <- {} {}", waiter.id.short(), kind(waiter));
            line(canvas, [&who, "", "", &time], theme.state(State::Waiting));
            told.push(waiter.id);
        }
    }
    for waiter in waiting.iter().filter(|run| !told.contains(&run.id)) {
        let time = length(view.now.since(waiter.queued_at));
        let who = format!("  <- {} {}", waiter.id.short(), kind(waiter));
        line(canvas, [&resource_of(waiter), "another", "program", ""], theme.state(State::Waiting));
        line(canvas, [&who, "", "", &time], theme.state(State::Waiting));
    }
}

fn kinds(canvas: &mut Canvas<'_>, area: Rect, model: &Model) {
    canvas.rule(area, "Kinds (24 h)", "", false);
    let theme = canvas.theme;
    let wide = area.width >= 50;
    let name = area.width.saturating_sub(if wide { 28 } else { 19 });
    let mut y = area.y + 1;
    let mut line = |canvas: &mut Canvas<'_>, kind: &str, cells: [String; 4], style: Style| {
        if y >= area.bottom() {
            return;
        }
        canvas.foreign(area.x + 1, y, kind, name, style);
        let [runs, ok, p50, p95] = cells;
        let numbers =
            if wide { format!("{runs:>5} {ok:>4} {p50:>7} {p95:>7}") } else { format!("{runs:>4} {ok:>4} {p95:>6}") };
        canvas.right(Rect { y, height: 1, width: area.width - 1, ..area }, &numbers, style);
        y += 1;
    };
    line(canvas, "KIND", ["RUNS", "OK%", "P50", "P95"].map(str::to_owned), theme.dim());
    if model.day.kinds.is_empty() {
        line(canvas, "none ended yet", [const { String::new() }; 4], theme.dim());
    }
    let time = |ms: Option<u32>| ms.map_or("-".to_owned(), |ms| round_duration(Duration::from_millis(ms.into())));
    for row in &model.day.kinds {
        let ok = row.ok.map_or("-".to_owned(), |ok| ok.to_string());
        let style = if row.ok.is_some_and(|ok| ok < 50) { theme.fg(ratatui::style::Color::Red) } else { Style::new() };
        line(canvas, &row.kind, [row.runs.to_string(), ok, time(row.p50), time(row.p95)], style);
    }
}

fn health(canvas: &mut Canvas<'_>, area: Rect, model: &Model) {
    canvas.rule(area, "Health", "", false);
    let theme = canvas.theme;
    let lines = model.happenings.iter().rev();
    for (y, line) in (area.y + 1..area.bottom()).zip(lines) {
        let clock = line.at.clock();
        let x = canvas.put(area.x + 1, y, clock.get(..8).unwrap_or_default(), 8, theme.dim());
        canvas.put(x + 1, y, line.what, 7, Style::new());
        let (sign, style) = if line.well { (Sign::Good, theme.good()) } else { (Sign::Bad, theme.bad()) };
        canvas.put(x + 9, y, theme.sign(sign), 1, style);
        let style = if line.well { Style::new() } else { style };
        canvas.foreign(x + 11, y, &line.text, area.right().saturating_sub(x + 12), style);
    }
}
