//! Health and counts, above everything else.

use std::time::Duration;

use ratatui::layout::Rect;
use ratatui::style::Style;

use super::canvas::{Canvas, width};
use crate::dashboard::app::View;
use crate::dashboard::model::{Link, Mode, Model, Push, Tab};
use crate::dashboard::theme::Sign;
use crate::quantity::round_duration;
use crate::text;
use crate::time::Time;

/// In whole seconds: what still counts must not flicker.
pub fn length(duration: Duration) -> String {
    match duration.as_secs() {
        secs @ 0..=59 => format!("{secs}s"),
        _ => round_duration(duration),
    }
}

fn since(now: Time, then: Time) -> String {
    coarse(now.since(then))
}

/// The largest unit is enough of what is over.
pub fn coarse(duration: Duration) -> String {
    let secs = duration.as_secs();
    match secs {
        0..=59 => format!("{secs}s"),
        60..=3_599 => format!("{}m", secs / 60),
        3_600..=86_399 => format!("{}h", secs / 3_600),
        _ => format!("{}d", secs / 86_400),
    }
}

/// Who is at work: `RUNNING 2/4`.
fn at_work(model: &Model) -> (String, bool) {
    let running = model.runs.count(Tab::Running);
    let of = model.daemon.as_ref().map_or(String::new(), |daemon| format!("/{}", daemon.workers));
    let word = match (&model.link, &model.mode) {
        (Link::Offline, _) => return ("OFFLINE".to_owned(), true),
        (Link::Connecting, _) => return ("CONNECTING".to_owned(), true),
        (Link::Lost { .. }, _) => return ("LOST".to_owned(), true),
        (Link::Live, Mode::Working) => "RUNNING",
        (Link::Live, Mode::Paused { .. }) => "PAUSED",
        (Link::Live, Mode::Draining { .. }) => "DRAINING",
        (Link::Live, Mode::Stopped { .. }) => "STOPPED",
    };
    (format!("{word} {running}{of}"), word != "RUNNING")
}

/// All that fits where nothing else does.
pub fn one_line(canvas: &mut Canvas<'_>, area: Rect, model: &Model) {
    let push = match model.git.push {
        Push::Failed { .. } => "push failed",
        Push::Done(_) | Push::None => "push ok",
    };
    let words = format!(
        "dispatcher: {}, {} failed, {push} {} enlarge to 50x7",
        at_work(model).0,
        model.runs.count(Tab::Failed),
        if canvas.theme.ascii { "-" } else { "\u{2013}" },
    );
    canvas.put(area.x, area.y, &words, area.width, Style::new());
}

/// Two or three rows.
pub fn draw(canvas: &mut Canvas<'_>, area: Rect, model: &Model, view: &View) {
    let theme = canvas.theme;
    let first = Rect { height: 1, ..area };
    let (work, notable) = at_work(model);
    if area.height < 3 {
        let x = canvas.put(1, area.y, "dispatcher", 10, theme.bold());
        let style = if notable { theme.warning() } else { Style::new() };
        let x = canvas.put(x + 2, area.y, &work, 20, style);
        if trouble(model).is_some() {
            canvas.put(x + 2, area.y, "!! work is held", 18, theme.bad());
        } else {
            health(canvas, x + 2, area.y, area.right().saturating_sub(1), model, view);
        }
        counts(canvas, 1, area.y + 1, area.width - 2, model, view, true);
        return;
    }
    top(canvas, first, model, view, (&work, notable));
    let second = Rect { y: area.y + 1, height: 1, ..area };
    if !banner(canvas, second, model, view) {
        let end = health(canvas, 1, second.y, second.right() - 1, model, view);
        facts(canvas, second, end, model, view);
    }
    counts(canvas, 1, area.y + 2, area.width - 2, model, view, area.width < 110);
    if area.width >= 110 {
        day(canvas, Rect { y: area.y + 2, width: area.width - 1, height: 1, ..area }, model);
    }
}

fn top(canvas: &mut Canvas<'_>, area: Rect, model: &Model, view: &View, (work, notable): (&str, bool)) {
    let theme = canvas.theme;
    let room = Rect { width: area.width - 1, ..area };
    let clock = view.now.to_string();
    let clock = if area.width < 110 {
        format!("{}Z", clock.get(11..19).unwrap_or_default())
    } else {
        format!("{} {}Z", clock.get(..10).unwrap_or_default(), clock.get(11..19).unwrap_or_default())
    };
    let mut right = canvas.right(room, &clock, Style::new());
    let mut before = |canvas: &mut Canvas<'_>, words: &str, style: Style| {
        right = canvas.right(Rect { width: right.saturating_sub(area.x + 2), ..area }, words, style);
    };
    if let (Some(daemon), Link::Live) = (&model.daemon, &model.link) {
        before(canvas, &format!("up {}", since(view.now, daemon.since)), Style::new());
    }
    before(canvas, work, if notable { theme.warning().patch(theme.bold()) } else { theme.bold() });
    let mut x = canvas.put(1, area.y, "dispatcher", 10, theme.bold());
    let name = view.root.file_name().map_or_else(String::new, |name| text::line(&name.to_string_lossy()));
    let branch = view.branch.as_ref().map_or(String::new(), |branch| format!("@{branch}"));
    let most = right.saturating_sub(x + 4);
    x = canvas.put(x + 2, area.y, &format!("{name}{branch}"), most, Style::new());
    if area.width >= 110
        && let (Some(daemon), Link::Live) = (&model.daemon, &model.link)
    {
        let host = format!("host {}  pid {}", text::line(&daemon.host), daemon.pid);
        canvas.put(x + 3, area.y, &host, right.saturating_sub(x + 5), theme.dim());
    }
}

/// The one thing that a person must know first, across the whole row; false where all is well.
fn banner(canvas: &mut Canvas<'_>, row: Rect, model: &Model, view: &View) -> bool {
    let theme = canvas.theme;
    let queued = model.runs.count(Tab::Queue);
    let running = model.runs.count(Tab::Running);
    let ago = |at: &Option<Time>| at.map_or(String::new(), |at| format!(" {} ago", since(view.now, at)));
    let (words, style) = match (&model.link, trouble(model), &model.mode) {
        (Link::Lost { since: at, retry, why }, ..) => {
            let left = retry.since(view.now).as_secs();
            let words = format!(
                "-- daemon lost {} ago ({}), next try in {left}s; showing the last state --",
                since(view.now, *at),
                text::line(why)
            );
            (words, theme.warning())
        }
        (Link::Offline, ..) => {
            let words = "-- OFFLINE: from the files of this checkout, read only; no daemon is asked --".to_owned();
            (words, theme.dim())
        }
        (_, Some((word, detail)), _) => (format!("!! {word}: {} !!", text::line(&detail)), theme.bad()),
        (_, None, Mode::Paused { words, since: at }) => {
            let words = format!("** PAUSED {}{} ** {queued} held, {running} running", text::line(words), ago(at));
            (words, theme.warning())
        }
        (_, None, Mode::Draining { since: at }) => {
            let words = format!("** DRAINING{} ** {running} running, {queued} stay queued", ago(at));
            (words, theme.warning())
        }
        (_, None, Mode::Stopped { at }) => {
            (format!("-- the daemon stopped {} ago --", since(view.now, *at)), theme.warning())
        }
        (Link::Connecting, ..) => ("connecting to the daemon".to_owned(), theme.dim()),
        (Link::Live, None, Mode::Working) => return false,
    };
    let style = if theme.colour { style.patch(theme.bold()) } else { theme.reverse() };
    canvas.put(1, row.y, &words, row.width - 2, style);
    true
}

/// What keeps work from beginning, or results from leaving.
fn trouble(model: &Model) -> Option<(String, String)> {
    let holds =
        |word: &&String| ["diverged", "checkout", "disk", "commit", "second_dispatcher"].contains(&word.as_str());
    let first = model.degraded.keys().find(holds);
    if let Some(word) = first {
        return Some((word.replace('_', " "), model.degraded.get(word).cloned().unwrap_or_default()));
    }
    model.broken_table.as_ref().map(|why| ("handlers, the last good table is kept".to_owned(), why.clone()))
}

/// Fetch, what is not pushed, push; gives the column behind it.
fn health(canvas: &mut Canvas<'_>, x: u16, y: u16, end: u16, model: &Model, view: &View) -> u16 {
    let theme = canvas.theme;
    let wide = end > 60;
    let mut at = x;
    let mut put = |canvas: &mut Canvas<'_>, words: &str, style: Style, gap: u16| {
        at = canvas.put(at, y, words, end.saturating_sub(at), style) + gap;
    };
    if model.git.remote == Some(false) {
        put(canvas, "no remote: results stay here", theme.dim(), 0);
        return at;
    }
    let (good, bad) = (theme.sign(Sign::Good), theme.sign(Sign::Bad));
    match (&model.git.fetch_failed, model.git.news) {
        (Some((when, why)), _) => {
            put(canvas, "fetch ", Style::new(), 0);
            put(canvas, bad, theme.bad(), 1);
            if wide {
                let words = format!("{} ago: {}", since(view.now, *when), text::line(why));
                let cut = super::canvas::cut(&words, 46, theme);
                put(canvas, &cut, theme.bad(), 2);
            }
        }
        (None, news) => {
            put(canvas, "fetch ", Style::new(), 0);
            put(canvas, good, theme.good(), 1);
            if let (true, Some(news)) = (wide, news) {
                put(canvas, &format!("news {} ago", since(view.now, news)), Style::new(), 1);
            }
        }
    }
    if !wide {
        put(canvas, " push ", Style::new(), 0);
    } else {
        put(canvas, " unpushed ", Style::new(), 0);
        let style = if model.git.unpushed > 0 { theme.warning() } else { Style::new() };
        put(canvas, &model.git.unpushed.to_string(), style, 2);
        put(canvas, "push ", Style::new(), 0);
    }
    match &model.git.push {
        Push::None => put(canvas, if model.git.unpushed == 0 { good } else { "-" }, theme.good(), 0),
        Push::Done(when) => {
            put(canvas, good, theme.good(), 1);
            if wide {
                put(canvas, &format!("{} ago", since(view.now, *when)), Style::new(), 0);
            }
        }
        Push::Failed { message, retry, .. } => {
            put(canvas, bad, theme.bad(), 1);
            if wide {
                let next = match retry {
                    Some(retry) => format!(" (next in {})", length(retry.since(view.now))),
                    None => " (given up for now)".to_owned(),
                };
                put(canvas, &(text::line(message) + &next), theme.bad(), 0);
            }
        }
    }
    at
}

/// What else there is to know, at the right end of the health row.
fn facts(canvas: &mut Canvas<'_>, row: Rect, end: u16, model: &Model, view: &View) {
    let mut facts = Vec::new();
    if !model.scheduled.is_empty() {
        facts.push(format!("scheduled {}", model.scheduled.len()));
    }
    if let Some(user) = model.daemon.as_ref().and_then(|daemon| daemon.user.as_ref()) {
        facts.push(format!("runs as {}", text::line(user)));
    }
    if model.viewers > 0 {
        facts.push(format!("viewers {}", model.viewers));
    }
    if model.skipped > 0 {
        facts.push(format!("{} UI updates skipped", model.skipped));
    }
    if let Some(commit) = &model.git.commit
        && view.size.0 >= 160
    {
        facts.push(format!("commit {}", text::line(commit).chars().take(8).collect::<String>()));
    }
    while !facts.is_empty() {
        let words = facts.join("   ");
        if width(&words) + 4 <= row.right().saturating_sub(end) {
            canvas.right(Rect { width: row.width - 1, ..row }, &words, Style::new());
            return;
        }
        facts.pop();
    }
}

fn counts(canvas: &mut Canvas<'_>, x: u16, y: u16, most: u16, model: &Model, view: &View, short: bool) {
    let theme = canvas.theme;
    let end = x + most;
    let mut x = x;
    for (number, tab) in Tab::ALL.into_iter().enumerate() {
        let count = match tab {
            Tab::Locks => model.runs.active().filter(|run| run.state == crate::status::State::Running).count(),
            tab => model.runs.count(tab),
        };
        let (long, brief) = tab.names();
        let name = if short { brief } else { long };
        let words = format!("{number} {name} {count}");
        let chosen = tab == view.tab;
        let words = if chosen { format!("[{words}]") } else { words };
        let gap = if chosen { 1 } else { 2 };
        if x + width(&words) > end {
            return;
        }
        let style = match tab {
            _ if chosen => theme.bold(),
            Tab::Failed if count > 0 => theme.bad(),
            Tab::Rejected if count > 0 => theme.state(crate::status::State::Rejected),
            Tab::Running if count > 0 => theme.state(crate::status::State::Running),
            _ if count == 0 => theme.dim(),
            _ => Style::new(),
        };
        x = canvas.put(x, y, &words, end - x, style) + gap;
    }
}

fn day(canvas: &mut Canvas<'_>, row: Rect, model: &Model) {
    let Some(ok) = model.day.ok else { return };
    let p95 =
        model.day.p95.map_or(String::new(), |ms| format!("  p95 {}", round_duration(Duration::from_millis(ms.into()))));
    canvas.right(row, &format!("24h: ok {}.{}%{p95}", ok / 10, ok % 10), Style::new());
}
