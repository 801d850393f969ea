//! One event as one line: time, glyph and word, which run, what people want to know. Everything foreign is escaped.

use std::time::Duration;

use ansi_term::{Color, Style};

use super::paint;
use crate::event::{Entry, Event, RunRef};
use crate::quantity::{round_duration, show_duration};
use crate::status::State;
use crate::text;

/// Longest foreign text on a line, in characters as shown. The whole of it is in the event stream.
const FOREIGN_MAX: usize = 400;

/// The line of an event, without a newline; `None` for what only programs want to know.
#[must_use]
pub fn line(entry: &Entry, colour: bool) -> Option<String> {
    let said = of_run(&entry.event).or_else(|| of_dispatcher(&entry.event)).or_else(|| of_git(&entry.event))?;
    let mark = paint(colour, said.style, &format!("{} {:<10}", said.glyph, said.word));
    Some(format!("{}  {mark} {}", entry.ts.clock(), said.text))
}

struct Said {
    glyph: &'static str,
    word: &'static str,
    style: Style,
    text: String,
}

impl Said {
    fn new(glyph: &'static str, word: &'static str, color: Color, text: String) -> Option<Self> {
        Some(Self { glyph, word, style: color.normal(), text })
    }

    fn quiet(glyph: &'static str, word: &'static str, text: String) -> Option<Self> {
        Some(Self { glyph, word, style: Style::new().dimmed(), text })
    }

    fn state(state: State, text: String) -> Option<Self> {
        Some(Self { glyph: state.glyph(), word: state.word(), style: style_of(state), text })
    }
}

/// The colour of a state, the same wherever one is shown as text.
pub(super) fn style_of(state: State) -> Style {
    match state {
        State::Succeeded => Color::Green.normal(),
        State::Failed | State::TimedOut | State::OutOfMemory | State::Crashed => Color::Red.bold(),
        State::Rejected | State::Expired => Color::Red.normal(),
        State::Waiting | State::Cancelled => Color::Yellow.normal(),
        State::Running => Color::Cyan.normal(),
        State::Queued | State::Duplicate => Style::new().dimmed(),
    }
}

fn of_run(event: &Event) -> Option<Said> {
    match event {
        Event::Accepted { run, priority, by, reason, dry_run } => {
            let by = by.as_ref().map_or(String::new(), |by| format!(" by {}", foreign(by)));
            let mut facts = Vec::new();
            if *priority != 0 {
                facts.push(format!("priority {priority}"));
            }
            if *dry_run {
                facts.push("dry run".to_owned());
            }
            let text = format!("{}, {}{by}{}{}", run_name(run), foreign(&run.req), bracket(&facts), because(reason));
            Said::quiet("·", "accepted", text)
        }
        Event::Rejected { run, status, rc, code, message, problems } => {
            let facts = [format!("rc {rc}"), count(*problems, "problem")];
            let text =
                format!("{}, {}: {code} {}{}", run_name(run), foreign(&run.req), foreign(message), bracket(&facts));
            Said::state(*status, text)
        }
        Event::Duplicate { run, status, of, .. } => {
            Said::state(*status, format!("{}, {} of {}", run_name(run), foreign(&run.req), of.short()))
        }
        Event::Expired { run, status, reason, .. } => {
            Said::state(*status, format!("{}, {}: {}", run_name(run), foreign(&run.req), foreign(reason)))
        }
        Event::LockWaiting { run, held_by } => {
            let holder = held_by.map_or("another program".to_owned(), |id| id.short());
            Said::state(State::Waiting, format!("{} (held by {holder})", run_name(run)))
        }
        Event::RunStarted { run, attempt, dirty, timeout_ms, .. } => {
            let mut facts = vec![format!("attempt {attempt}"), format!("limit {}", exact(*timeout_ms))];
            if *dirty {
                facts.push("handler edited, not committed".to_owned());
            }
            Said::new("▸", "started", Color::Cyan, format!("{}{}", run_name(run), bracket(&facts)))
        }
        Event::Progress { run, step, .. } => Said::quiet("▸", "step", format!("{}: {}", run_name(run), foreign(step))),
        Event::Retrying { run, attempt, why, delay_ms } => {
            let text = format!("{} in {} (attempt {attempt}: {})", run_name(run), rounded(*delay_ms), foreign(why));
            Said::new("↻", "retrying", Color::Yellow, text)
        }
        Event::Cancelling { run, by, reason } => {
            let text = format!("{} by {}{}", run_name(run), foreign(by), because(reason));
            Said::new("-", "cancelling", Color::Yellow, text)
        }
        // Said when it was found out, with the reason.
        Event::Finished { status: State::Rejected | State::Duplicate | State::Expired, .. } => None,
        Event::Finished { run, status, rc, signal, attempt, duration_ms, reason } => {
            let mut facts = vec![format!("rc {rc}")];
            facts.extend(signal.map(|signal| format!("signal {signal}")));
            facts.extend(duration_ms.map(rounded));
            if *attempt > 1 {
                facts.push(format!("attempt {attempt}"));
            }
            Said::state(*status, format!("{}{}{}", run_name(run), bracket(&facts), because(reason)))
        }
        _ => None,
    }
}

fn of_dispatcher(event: &Event) -> Option<Said> {
    match event {
        Event::Started { version, pid, host, workers } => {
            let facts = [format!("pid {pid}"), count(*workers, "worker")];
            let text = format!("dispatcher {} on {}{}", foreign(version), foreign(host), bracket(&facts));
            Said::new("●", "started", Color::Green, text)
        }
        Event::Stopping { by, running, queued } => {
            let text = format!("by {} ({running} running, {queued} queued)", foreign(by));
            Said::new("●", "stopping", Color::Yellow, text)
        }
        Event::Stopped { queued, unpushed } => {
            let text = format!("{queued} queued, {} not pushed", count(*unpushed, "result"));
            Said::new("●", "stopped", Color::Yellow, text)
        }
        Event::Paused { by, reason } => {
            Said::new("●", "paused", Color::Yellow, format!("by {}{}", foreign(by), because(reason)))
        }
        Event::Resumed { by } => Said::new("●", "resumed", Color::Green, format!("by {}", foreign(by))),
        Event::Draining { by } => Said::new("●", "draining", Color::Yellow, format!("by {}", foreign(by))),
        Event::Degraded { reason, detail } => {
            Said::new("!", "degraded", Color::Red, format!("{}: {}", foreign(reason), foreign(detail)))
        }
        Event::Recovered { reason } => Said::new("●", "recovered", Color::Green, foreign(reason)),
        Event::RouterLoaded { kinds, commit } => {
            let from = commit.as_ref().map_or("the working files".to_owned(), |commit| short(commit));
            Said::quiet("●", "loaded", format!("{} from {from}", count(*kinds, "kind")))
        }
        Event::RouterBroken { message } => {
            Said::new("!", "broken", Color::Red, format!("the last good table is kept: {}", foreign(message)))
        }
        Event::Scheduled { req, kind, not_before } => {
            Said::quiet("·", "scheduled", format!("{kind}, {} (not before {not_before})", foreign(req)))
        }
        _ => None,
    }
}

fn of_git(event: &Event) -> Option<Said> {
    match event {
        Event::Fetched { commit, commits } if *commits > 0 => {
            Said::quiet("↓", "fetched", format!("{} ({})", short(commit), count(*commits, "commit")))
        }
        Event::FetchFailed { message } => Said::new("✗", "fetch", Color::Red, format!("failed: {}", foreign(message))),
        Event::Committed { commit, runs } => {
            Said::quiet("●", "committed", format!("{} ({})", short(commit), count(runs.len(), "run")))
        }
        Event::Pushed { commit, runs, attempts } => {
            let mut facts = vec![count(*runs, "run")];
            if *attempts > 1 {
                facts.push(count(*attempts as usize, "attempt"));
            }
            Said::quiet("↑", "pushed", format!("{}{}", short(commit), bracket(&facts)))
        }
        Event::PushFailed { message, attempt, retry_ms, unpushed } => {
            let mut facts = vec![format!("attempt {attempt}")];
            facts.extend(retry_ms.map(|ms| format!("next in {}", rounded(ms))));
            facts.push(format!("{} kept locally", count(*unpushed, "result")));
            Said::new("✗", "push", Color::Red, format!("failed: {}{}", foreign(message), bracket(&facts)))
        }
        Event::Diverged { local, remote, message } => {
            let text = format!("local {}, remote {}: {}", short(local), short(remote), foreign(message));
            Said::new("!", "diverged", Color::Red, text)
        }
        _ => None,
    }
}

/// Short id, kind and resource, as far as they are known.
fn run_name(run: &RunRef) -> String {
    let mut name = run.id.short();
    if let Some(kind) = &run.kind {
        name = name + " " + kind.as_str();
    }
    if let Some(resource) = &run.resource {
        name = name + " " + &text::line(resource.as_str());
    }
    name
}

/// Foreign text, safe and not too long.
pub(super) fn foreign(text: &str) -> String {
    let safe = text::line(text);
    match safe.char_indices().nth(FOREIGN_MAX) {
        Some((end, _)) => format!("{}\u{2026}", &safe[..end]),
        None => safe,
    }
}

pub(super) fn because(reason: &Option<String>) -> String {
    reason.as_ref().map_or(String::new(), |reason| format!(": {}", foreign(reason)))
}

/// The first digits of a commit id.
pub(super) fn short(commit: &str) -> String {
    text::line(commit).chars().take(8).collect()
}

pub(super) fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn bracket(facts: &[String]) -> String {
    if facts.is_empty() { String::new() } else { format!(" ({})", facts.join(", ")) }
}

pub(super) fn rounded(ms: u64) -> String {
    round_duration(Duration::from_millis(ms))
}

fn exact(ms: u64) -> String {
    show_duration(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::RunId;
    use crate::time::Time;

    fn run() -> RunRef {
        RunRef {
            id: RunId::new(Time::from_millis(0), [1; 10]),
            req: "rotate.yml".into(),
            kind: "rotate-cert".parse().ok(),
            resource: "host/web-01".parse().ok(),
            log_off: 0,
        }
    }

    fn unknown() -> RunRef {
        RunRef { kind: None, resource: None, req: "bad\u{1b}[2J\n\u{202e}.yml".into(), ..run() }
    }

    fn at(ms: i64, event: Event) -> Entry {
        Entry { v: 1, seq: 1, ts: Time::from_millis(24_067_114 + ms), event }
    }

    fn check(events: Vec<Event>) -> String {
        let lines: Vec<String> =
            events.into_iter().map(|event| line(&at(0, event), false).unwrap_or_else(|| "-".into())).collect();
        lines.join("\n")
    }

    fn finished(status: State, rc: i32, signal: Option<i32>, attempt: u32, reason: Option<&str>) -> Event {
        let reason = reason.map(str::to_owned);
        Event::Finished { run: run(), status, rc, signal, attempt, duration_ms: Some(11_000), reason }
    }

    #[test]
    fn runs() {
        let id = RunId::new(Time::from_millis(0), [2; 10]);
        let events = vec![
            Event::Accepted {
                run: run(),
                priority: 5,
                by: Some("Ana".into()),
                reason: Some("CVE\n".into()),
                dry_run: true,
            },
            Event::Accepted { run: run(), priority: 0, by: None, reason: None, dry_run: false },
            Event::Rejected {
                run: unknown(),
                status: State::Rejected,
                rc: 65,
                code: "E0302".into(),
                message: "unknown field `x`".into(),
                problems: 2,
            },
            Event::Duplicate { run: run(), status: State::Duplicate, rc: 0, of: id },
            Event::Expired { run: run(), status: State::Expired, rc: 75, reason: "not started by 06:00".into() },
            Event::LockWaiting { run: run(), held_by: Some(id) },
            Event::LockWaiting { run: run(), held_by: None },
            Event::LockAcquired { run: run(), waited_ms: 3 },
            Event::LockReleased { run: run(), held_ms: 3 },
            Event::RunStarted {
                run: run(),
                attempt: 1,
                handler: "rotate.sh".into(),
                dirty: true,
                user: "executor".into(),
                timeout_ms: 300_000,
            },
            Event::Progress { run: run(), step: "3/7 evict\u{1b}".into(), done: Some(3), total: Some(7) },
            Event::Output { run: run(), bytes: 17 },
            Event::Retrying { run: run(), attempt: 2, why: "exit 75".into(), delay_ms: 5_000 },
            Event::Cancelling { run: run(), by: "ana".into(), reason: Some("wrong host".into()) },
            finished(State::Succeeded, 0, None, 1, None),
            finished(State::Failed, 143, Some(15), 3, None),
            finished(State::OutOfMemory, 137, None, 1, None),
            finished(State::Cancelled, 130, None, 1, Some("by ana: wrong host")),
            finished(State::Rejected, 65, None, 0, None),
        ];
        insta::assert_snapshot!(check(events), @r"
        06:41:07.114  · accepted   01010101 rotate-cert host/web-01, rotate.yml by Ana (priority 5, dry run): CVE^J
        06:41:07.114  · accepted   01010101 rotate-cert host/web-01, rotate.yml
        06:41:07.114  ⊘ rejected   01010101, bad^[[2J^J<U+202E>.yml: E0302 unknown field `x` (rc 65, 2 problems)
        06:41:07.114  = duplicate  01010101 rotate-cert host/web-01, rotate.yml of 02020202
        06:41:07.114  ⊘ expired    01010101 rotate-cert host/web-01, rotate.yml: not started by 06:00
        06:41:07.114  L waiting    01010101 rotate-cert host/web-01 (held by 02020202)
        06:41:07.114  L waiting    01010101 rotate-cert host/web-01 (held by another program)
        -
        -
        06:41:07.114  ▸ started    01010101 rotate-cert host/web-01 (attempt 1, limit 5m, handler edited, not committed)
        06:41:07.114  ▸ step       01010101 rotate-cert host/web-01: 3/7 evict^[
        -
        06:41:07.114  ↻ retrying   01010101 rotate-cert host/web-01 in 5.0s (attempt 2: exit 75)
        06:41:07.114  - cancelling 01010101 rotate-cert host/web-01 by ana: wrong host
        06:41:07.114  ✓ succeeded  01010101 rotate-cert host/web-01 (rc 0, 11s)
        06:41:07.114  ✗ failed     01010101 rotate-cert host/web-01 (rc 143, signal 15, 11s, attempt 3)
        06:41:07.114  ✗ out_of_memory 01010101 rotate-cert host/web-01 (rc 137, 11s)
        06:41:07.114  - cancelled  01010101 rotate-cert host/web-01 (rc 130, 11s): by ana: wrong host
        -
        ");
    }

    #[test]
    fn the_dispatcher() {
        let events = vec![
            Event::Started { version: "0.1.0".into(), pid: 4_242, host: "ops-1".into(), workers: 4 },
            Event::Stopping { by: "SIGTERM".into(), running: 2, queued: 3 },
            Event::Stopped { queued: 3, unpushed: 1 },
            Event::Paused { by: "ana".into(), reason: Some("maintenance".into()) },
            Event::Resumed { by: "ana".into() },
            Event::Draining { by: "ana".into() },
            Event::Degraded { reason: "disk".into(), detail: "512M free, 1G wanted".into() },
            Event::Recovered { reason: "disk".into() },
            Event::RouterLoaded { kinds: 1, commit: Some("1a2b3c4d5e6f".into()) },
            Event::RouterLoaded { kinds: 4, commit: None },
            Event::RouterBroken { message: "unknown key `timeot`".into() },
            Event::Scheduled {
                req: "later.yml".into(),
                kind: "deploy".parse().unwrap(),
                not_before: Time::from_millis(86_400_000),
            },
        ];
        insta::assert_snapshot!(check(events), @r"
        06:41:07.114  ● started    dispatcher 0.1.0 on ops-1 (pid 4242, 4 workers)
        06:41:07.114  ● stopping   by SIGTERM (2 running, 3 queued)
        06:41:07.114  ● stopped    3 queued, 1 result not pushed
        06:41:07.114  ● paused     by ana: maintenance
        06:41:07.114  ● resumed    by ana
        06:41:07.114  ● draining   by ana
        06:41:07.114  ! degraded   disk: 512M free, 1G wanted
        06:41:07.114  ● recovered  disk
        06:41:07.114  ● loaded     1 kind from 1a2b3c4d
        06:41:07.114  ● loaded     4 kinds from the working files
        06:41:07.114  ! broken     the last good table is kept: unknown key `timeot`
        06:41:07.114  · scheduled  deploy, later.yml (not before 1970-01-02T00:00:00.000Z)
        ");
    }

    #[test]
    fn git() {
        let id = RunId::new(Time::from_millis(0), [2; 10]);
        let commit = || "1a2b3c4d5e6f".to_owned();
        let events = vec![
            Event::Fetched { commit: commit(), commits: 0 },
            Event::Fetched { commit: commit(), commits: 2 },
            Event::FetchFailed { message: "no route to host\u{9b}31m".into() },
            Event::Committed { commit: commit(), runs: vec![id] },
            Event::Pushed { commit: commit(), runs: 3, attempts: 1 },
            Event::Pushed { commit: commit(), runs: 1, attempts: 4 },
            Event::PushFailed { message: "hook declined".into(), attempt: 4, retry_ms: Some(60_000), unpushed: 3 },
            Event::PushFailed { message: "no route".into(), attempt: 8, retry_ms: None, unpushed: 1 },
            Event::Diverged { local: commit(), remote: "88aa0c1".into(), message: "intake holds".into() },
        ];
        insta::assert_snapshot!(check(events), @r"
        -
        06:41:07.114  ↓ fetched    1a2b3c4d (2 commits)
        06:41:07.114  ✗ fetch      failed: no route to host<U+009B>31m
        06:41:07.114  ● committed  1a2b3c4d (1 run)
        06:41:07.114  ↑ pushed     1a2b3c4d (3 runs)
        06:41:07.114  ↑ pushed     1a2b3c4d (1 run, 4 attempts)
        06:41:07.114  ✗ push       failed: hook declined (attempt 4, next in 1m00s, 3 results kept locally)
        06:41:07.114  ✗ push       failed: no route (attempt 8, 1 result kept locally)
        06:41:07.114  ! diverged   local 1a2b3c4d, remote 88aa0c1: intake holds
        ");
    }

    #[test]
    fn colours_are_never_the_only_sign() {
        let entry = at(1, finished(State::Failed, 1, None, 1, None));
        let (plain, coloured) = (line(&entry, false).unwrap(), line(&entry, true).unwrap());
        assert_eq!(coloured.replace("\u{1b}[1;31m", "").replace("\u{1b}[0m", ""), plain);
        assert!(plain.starts_with("06:41:07.115  ✗ failed"));
    }

    #[test]
    fn long_words_of_others_are_cut() {
        assert_eq!(foreign(&"é".repeat(FOREIGN_MAX)), "é".repeat(FOREIGN_MAX));
        assert_eq!(foreign(&"é".repeat(FOREIGN_MAX + 1)), "é".repeat(FOREIGN_MAX) + "…");
    }
}
