//! One run: what was asked, by whom, what held it, how it went, and its files below.

use std::time::Duration;

use ratatui::layout::Rect;
use ratatui::style::Style;

use super::canvas::{Canvas, cut, width};
use super::header::length;
use super::{Shape, down, events, log};
use crate::dashboard::app::{Leaf, View};
use crate::dashboard::model::{Link, Model, Run, Tab};
use crate::dashboard::theme::{Sign, words};
use crate::quantity::{round_duration, show_duration, show_size};
use crate::status::{State, Status};
use crate::text;

/// The whole screen but for the keys.
pub fn draw(canvas: &mut Canvas<'_>, model: &Model, view: &View, shape: &Shape) {
    let Some(run) = view.run(model) else {
        canvas.put(1, 0, "this run is not known any more; Esc goes back", shape.header.width, Style::new());
        return;
    };
    head(canvas, shape.header, model, view, run);
    if let Some(area) = shape.facts {
        facts(canvas, area, model, view, run);
    }
    if let Some(area) = shape.log {
        match view.leaf {
            Leaf::Request => lines(canvas, area, view, &view.sheet.request),
            Leaf::Status => lines(canvas, area, view, &view.sheet.json),
            Leaf::Log | Leaf::Events => log::draw(canvas, area, model, view),
        }
    }
    if let Some(area) = shape.events {
        events::draw(canvas, area, view);
    }
    if let Some(area) = shape.divider {
        down(canvas, area);
    }
}

/// The names of the leaves, the shown one in brackets.
pub fn leaves(view: &View) -> String {
    let name = |leaf: Leaf| if leaf == view.leaf { format!("[{}]", leaf.name()) } else { leaf.name().to_owned() };
    Leaf::ALL.map(name).join("  ")
}

fn head(canvas: &mut Canvas<'_>, row: Rect, model: &Model, view: &View, run: &Run) {
    let theme = canvas.theme;
    let rows = model.runs.rows(view.tab);
    let place = match rows.row_of(run.id) {
        Some(at) => format!("run {} of {}   [ ] previous/next", at + 1, rows.len()),
        None => format!("now in {}", Tab::of(run.state).names().0),
    };
    let right = canvas.right(Rect { width: row.width - 1, ..row }, &place, theme.dim());
    let words = format!("< {} / {}", view.tab.names().0, run.id);
    canvas.put(1, row.y, &words, right.saturating_sub(3), theme.bold());
}

/// A table of facts; the first row is the run itself, with how it stands.
fn facts(canvas: &mut Canvas<'_>, area: Rect, model: &Model, view: &View, run: &Run) {
    let theme = canvas.theme;
    let name = [run.kind.as_deref().unwrap_or("-"), run.resource.as_deref().unwrap_or("-")].map(text::line).join("  ");
    let place = if run.state == State::Queued { model.runs.place(run.id) } else { None };
    let state = format!("{} {}", theme.glyph(run.state), text::line(&words(run, place, model.link == Link::Live)));
    let time = match (run.state, run.started_at) {
        (State::Running, Some(at)) => {
            let limit = run.live.as_ref().and_then(|live| live.timeout_ms);
            let limit =
                limit.map_or(String::new(), |ms| format!(" of max {}", show_duration(Duration::from_millis(ms))));
            format!("  {}{limit}", length(view.now.since(at)))
        }
        _ => String::new(),
    };
    canvas.rule(area, &cut(&name, area.width / 2, theme), "", true);
    let state = cut(&format!(" {state}{time} "), area.width / 2, theme);
    canvas.put(area.right().saturating_sub(width(&state) + 1), area.y, &state, area.width, theme.state(run.state));
    for (y, (name, value, style)) in (area.y + 1..area.bottom()).zip(rows(canvas, model, view, run)) {
        canvas.put(1, y, name, 9, theme.dim());
        canvas.put(11, y, &value, area.width.saturating_sub(12), style);
    }
}

type Fact = (&'static str, String, Style);

fn rows(canvas: &Canvas<'_>, model: &Model, view: &View, run: &Run) -> Vec<Fact> {
    let theme = canvas.theme;
    let plain = Style::new();
    let status = view.sheet.status.as_ref();
    let mut rows: Vec<Fact> = Vec::new();
    let commit = status.and_then(|status| status.requested_by.commit.as_deref());
    let commit = commit.map_or(String::new(), |commit| {
        format!("   commit {}", text::line(commit).chars().take(8).collect::<String>())
    });
    let by = run.by.as_deref().map_or(String::new(), |by| format!(" by {}", text::line(by)));
    let at = run.queued_at.clock();
    let taken = at.get(..8).unwrap_or_default();
    rows.push(("request", format!("requests/{}{by}{commit}   received {taken}", text::line(&run.request)), plain));
    if let Some(params) = params(&view.sheet.request) {
        rows.push(("params", params, plain));
    }
    if let Some(reason) = &run.reason {
        rows.push(("reason", text::line(reason), plain));
    }
    if let Some(status) = status {
        rows.extend(of_status(canvas, status));
    }
    let live = run.live.as_deref();
    if let Some(since) = live.and_then(|live| live.lock_since) {
        let waited = live.and_then(|live| live.waited_ms).unwrap_or(0);
        let resource = run.resource.as_deref().map(text::line).unwrap_or_default();
        let clock = since.clock();
        let waited = round_duration(Duration::from_millis(waited));
        rows.push((
            "lock",
            format!("{resource}   acquired {} after {waited}", clock.get(..8).unwrap_or_default()),
            plain,
        ));
    }
    if let Some(why) = why(model, view, run) {
        rows.push(("waits", why, theme.warning()));
    }
    rows.push(("course", course(canvas, view, run), plain));
    if let Some(step) = live.map(|live| &live.step).filter(|step| !step.text.is_empty()) {
        let bar = step.of.map_or(String::new(), |of| format!("{}  {}/{}  ", bar(canvas, of), of.0, of.1));
        rows.push(("step", format!("{bar}{}", text::line(&step.text)), theme.state(State::Running)));
    }
    rows
}

fn of_status(canvas: &Canvas<'_>, status: &Status) -> Vec<Fact> {
    let theme = canvas.theme;
    let mut rows = Vec::new();
    if let Some(handler) = &status.handler {
        let sha: String = text::line(&handler.sha256).chars().take(8).collect();
        let edited = if handler.dirty { "   edited, not committed" } else { "" };
        let held = status.sandbox.as_ref().map_or(String::new(), |held| {
            let on = |on: bool| if on { "yes" } else { "no" };
            format!(
                "   user {}, network {}, cgroup {}, landlock {}, seccomp {}",
                text::line(&held.user),
                text::line(&held.network),
                on(held.cgroup),
                on(held.landlock),
                on(held.seccomp)
            )
        });
        rows.push(("handler", format!("{} {sha}{edited}{held}", text::line(&handler.file)), Style::new()));
    }
    if let Some(usage) = &status.usage {
        let cpu = round_duration(Duration::from_millis(usage.cpu_ms));
        let dropped = match usage.output_dropped_bytes {
            0 => String::new(),
            bytes => format!(", {} of the log dropped", show_size(bytes >> 10 << 10)),
        };
        let memory = show_size(usage.max_rss_bytes >> 10 << 10);
        rows.push((
            "used",
            format!("cpu {cpu}, memory {memory}, output {} bytes{dropped}", usage.output_bytes),
            Style::new(),
        ));
    }
    if let Some(result) = &status.result {
        rows.push(("result", text::line(&result.to_string()), Style::new()));
    }
    if let Some(error) = &status.error {
        rows.push(("error", format!("[{}] {}", text::line(&error.code), text::line(&error.message)), theme.bad()));
    }
    rows
}

/// The params on one line, as they are written in the request.
fn params(request: &[String]) -> Option<String> {
    let start = request.iter().position(|line| line.starts_with("params:"))?;
    let first = request.get(start)?.trim_start_matches("params:").trim();
    let more = request.iter().skip(start + 1).take_while(|line| line.starts_with([' ', '\t']) || line.is_empty());
    let all: Vec<&str> =
        std::iter::once(first).chain(more.map(|line| line.trim())).filter(|part| !part.is_empty()).collect();
    (!all.is_empty()).then(|| all.join("  "))
}

/// Why it does not run, where it does not.
fn why(model: &Model, view: &View, run: &Run) -> Option<String> {
    let live = run.live.as_deref()?;
    match run.state {
        State::Waiting => Some(match live.held_by.and_then(|id| model.runs.get(id)) {
            Some(holder) => {
                let kind = holder.kind.as_deref().unwrap_or("-");
                let time =
                    holder.started_at.map_or(String::new(), |at| format!(", running {}", length(view.now.since(at))));
                format!("the lock is held by {} {}{time}", holder.id.short(), text::line(kind))
            }
            None => "the lock is held by another program".to_owned(),
        }),
        State::Queued => Some(match (live.next_at, &model.mode, &live.why) {
            (Some(at), ..) if at > view.now => {
                let last = live
                    .why
                    .as_deref()
                    .map_or(String::new(), |why| format!(" (the last one ended: {})", text::line(why)));
                format!("attempt {} in {}{last}", run.attempt + 1, length(at.since(view.now)))
            }
            (_, crate::dashboard::model::Mode::Paused { words, .. }, _) => {
                format!("held: paused {}", text::line(words))
            }
            (_, _, Some(why)) => text::line(why),
            (_, _, None) => "slots full".to_owned(),
        }),
        _ => None,
    }
}

/// What it went through, with how long each part took.
fn course(canvas: &Canvas<'_>, view: &View, run: &Run) -> String {
    let good = canvas.theme.sign(Sign::Good);
    let clock = run.queued_at.clock();
    let mut parts = vec![format!("received {good} {}", clock.get(..8).unwrap_or_default())];
    if let Some(at) = run.started_at {
        parts.push(format!("started {good} +{}", round_duration(at.since(run.queued_at))));
    }
    match (run.state, run.started_at, run.finished_at) {
        (State::Running, Some(at), _) => parts.push(format!("RUNNING {}", length(view.now.since(at)))),
        (state, _, Some(at)) => {
            let took = run
                .duration_ms
                .map_or(String::new(), |ms| format!(" after {}", round_duration(Duration::from_millis(ms.into()))));
            let clock = at.clock();
            parts.push(format!("{} {}{took}", canvas.theme.glyph(state), clock.get(..8).unwrap_or_default()));
        }
        (state, ..) => parts.push(state.word().to_uppercase()),
    }
    if run.attempt > 1 {
        parts.push(format!("attempt {}", run.attempt));
    }
    parts.join(" > ")
}

fn bar(canvas: &Canvas<'_>, (done, total): (u64, u64)) -> String {
    const WIDE: u64 = 20;
    let full = done.min(total).saturating_mul(WIDE).checked_div(total).unwrap_or(0).min(WIDE);
    let theme = canvas.theme;
    let part = |sign: Sign, n: u64| theme.sign(sign).repeat(usize::try_from(n).unwrap_or(0));
    part(Sign::Full, full) + &part(Sign::Empty, WIDE - full)
}

fn lines(canvas: &mut Canvas<'_>, area: Rect, view: &View, lines: &[String]) {
    canvas.rule(area, &leaves(view), &format!("{} lines", lines.len()), true);
    if lines.is_empty() {
        canvas.put(1, area.y + 1, "there is no such file here", area.width, canvas.theme.dim());
    }
    for (y, line) in (area.y + 1..area.bottom()).zip(lines.iter().skip(view.leaf_top)) {
        canvas.put(1, y, line, area.width.saturating_sub(1), Style::new());
    }
}
