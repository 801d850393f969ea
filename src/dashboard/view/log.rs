//! A run's human log. No sign stands beside its text, so that it can be copied as it is.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Span;

use super::canvas::{Canvas, width};
use super::focused;
use super::header::length;
use crate::dashboard::ansi;
use crate::dashboard::app::{Focus, Screen, Times, View};
use crate::dashboard::log_file::Line;
use crate::dashboard::model::{Model, Run};
use crate::dashboard::panes::LogState;
use crate::dashboard::theme::Sign;
use crate::journal::{grouped, is_own_line};
use crate::quantity::show_size;
use crate::time::Time;

/// Columns of a time and the gap behind it.
const CLOCK: u16 = 10;
/// Characters of the time in a line of the dispatcher's own.
const STAMP: usize = "00:00:00.000".len();

/// Title and text.
pub fn draw(canvas: &mut Canvas<'_>, area: Rect, model: &Model, view: &View) {
    let run = view.run(model);
    title(canvas, area, run, view);
    let body = Rect { y: area.y + 1, height: area.height.saturating_sub(1), ..area };
    let note = match &view.log.state {
        LogState::Open => None,
        LogState::None => Some("no run is selected".to_owned()),
        LogState::Unreadable(why) => Some(format!("the log cannot be read: {why}")),
        LogState::NotYet => Some(match run {
            Some(run) if run.state.is_final() => "this run has no log here".to_owned(),
            Some(run) => format!(
                "waiting for the first output ({})",
                run.started_at.map_or_else(
                    || "not started".to_owned(),
                    |at| format!("started {} ago", length(view.now.since(at)))
                )
            ),
            None => "this run is not known here".to_owned(),
        }),
    };
    if let Some(note) = note {
        canvas.foreign(body.x + 1, body.y, &note, body.width.saturating_sub(2), canvas.theme.dim());
        return;
    }
    text(canvas, body, run, view);
}

fn title(canvas: &mut Canvas<'_>, area: Rect, run: Option<&Run>, view: &View) {
    let name = run.map_or_else(String::new, |run| {
        let words =
            [Some(run.id.short()), run.kind.as_deref().map(str::to_owned), run.resource.as_deref().map(str::to_owned)];
        crate::text::line(&words.into_iter().flatten().collect::<Vec<_>>().join(" "))
    });
    let (lines, bytes, done) = view.log.size();
    let mut facts = Vec::new();
    match (view.log.top, view.log.new_lines()) {
        _ if view.log.state != LogState::Open => {}
        (None, _) => facts.push("FOLLOW".to_owned()),
        (Some(top), 0) => facts.push(format!("line {}  f follow", grouped(top + 1))),
        (Some(top), new) => facts.push(format!("line {}  +{} new  f follow", grouped(top + 1), grouped(new))),
    }
    if done < 100 {
        facts.push(format!("counting {done}%"));
    } else if lines > 0 {
        facts.push(format!("{} lines", grouped(lines)));
    }
    if area.width >= 100 && bytes > 0 {
        facts.push(if bytes < 10 << 10 { format!("{bytes} B") } else { show_size(bytes >> 10 << 10) });
    }
    if view.log.restarted {
        facts.push("restarted".to_owned());
    }
    if view.log.left > 0 {
        facts.push(format!("column {}", view.log.left + 1));
    }
    if view.log.wrap {
        facts.push("wrap".to_owned());
    }
    let title = if view.screen == Screen::Detail { super::detail::leaves(view) } else { format!("Log {name}") };
    let title = super::canvas::cut(title.trim_end(), area.width.saturating_sub(30), canvas.theme);
    let focus = focused(view, Focus::Log) || view.screen == Screen::Detail;
    canvas.rule(area, &title, &facts.join("  "), focus);
}

fn text(canvas: &mut Canvas<'_>, area: Rect, run: Option<&Run>, view: &View) {
    let theme = canvas.theme;
    let mut rows: Vec<(Option<String>, Vec<Span<'_>>)> = Vec::new();
    let room = usize::from(area.width.saturating_sub(if view.times == Times::None { 1 } else { 1 + CLOCK }));
    for line in &view.log.window {
        let mut spans = ansi::spans(&line.bytes, !theme.colour);
        if line.more > 0 {
            let more = format!(" {} +{} bytes", theme.sign(Sign::More), grouped(line.more));
            spans.push(Span::styled(more, theme.warning()));
        }
        let time = if is_own_line(&line.bytes) { own(&mut spans, canvas) } else { time_of(line, run, view) };
        mark(&mut spans, canvas);
        if view.log.wrap {
            let mut parts = wrapped(spans, room.max(1)).into_iter();
            rows.push((time, parts.next().unwrap_or_default()));
            rows.extend(parts.map(|part| (None, part)));
        } else {
            rows.push((time, spans));
        }
    }
    let height = usize::from(area.height);
    let skip = if view.log.top.is_none() { rows.len().saturating_sub(height) } else { 0 };
    let mut before: Option<&String> = None;
    for (y, (time, spans)) in (area.y..area.bottom()).zip(rows.iter().skip(skip)) {
        let mut x = area.x + 1;
        if view.times != Times::None {
            // A time that is the same as above says nothing new.
            if let Some(shown) = time.as_ref().filter(|time| before != Some(*time)) {
                canvas.put(x, y, shown, CLOCK - 1, theme.dim());
            }
            before = time.as_ref().or(before);
            x += CLOCK;
        }
        let row = Rect { x, y, width: area.right().saturating_sub(x), height: 1 };
        canvas.spans(row, if view.log.wrap { 0 } else { view.log.left }, spans);
    }
}

/// A line of the dispatcher's own brings its time: it goes where times stand, and the line steps back.
fn own(spans: &mut Vec<Span<'_>>, canvas: &Canvas<'_>) -> Option<String> {
    let stamp = spans.iter().position(|span| span.content.len() == STAMP && span.content.ends_with(is_stamp))?;
    let time = spans.remove(stamp).content.get(..8).map(str::to_owned);
    if let Some(next) = spans.get_mut(stamp) {
        next.content = next.content.trim_start_matches("  ").to_owned().into();
    }
    for span in spans.iter_mut().filter(|span| span.style == Style::new()) {
        span.style = canvas.theme.dim();
    }
    time.filter(|time| !time.trim().is_empty())
}

fn is_stamp(c: char) -> bool {
    c.is_ascii_digit() || c == ' '
}

/// Warnings and errors in a handler's plain text stand out.
fn mark(spans: &mut [Span<'_>], canvas: &Canvas<'_>) {
    let [only] = spans else { return };
    if only.style != Style::new() {
        return;
    }
    let has = |words: &[&str]| only.content.split(|c: char| !c.is_ascii_alphabetic()).any(|word| words.contains(&word));
    if has(&["ERROR", "FATAL", "CRITICAL"]) {
        only.style = canvas.theme.bad();
    } else if has(&["WARN", "WARNING"]) {
        only.style = canvas.theme.warning();
    }
}

/// Spans in rows of `room` columns.
fn wrapped(spans: Vec<Span<'_>>, room: usize) -> Vec<Vec<Span<'static>>> {
    let mut rows = vec![Vec::new()];
    let mut used = 0;
    for span in spans {
        let mut part = String::new();
        for c in span.content.chars() {
            let wide = usize::from(width(c.encode_utf8(&mut [0; 4])));
            if used + wide > room {
                if let Some(row) = rows.last_mut() {
                    row.push(Span::styled(std::mem::take(&mut part), span.style));
                }
                rows.push(Vec::new());
                used = 0;
            }
            part.push(c);
            used += wide;
        }
        if let Some(row) = rows.last_mut() {
            row.push(Span::styled(part, span.style));
        }
    }
    rows
}

fn time_of(line: &Line, run: Option<&Run>, view: &View) -> Option<String> {
    let at = view.events.time_at(view.log.offset_of(line.at))?;
    match view.times {
        Times::Clock => at.clock().get(..8).map(str::to_owned),
        Times::Since => {
            let start: Time = run.and_then(|run| run.started_at)?;
            Some(format!("+{}", length(at.since(start))))
        }
        Times::None => None,
    }
}
