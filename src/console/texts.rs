//! What stands in a run's own log besides its output: the header of an attempt and the verdict. Multi-line texts for
//! `RunLog::line`; everything foreign is escaped.

use std::time::Duration;

use ansi_term::Style;
use nix::sys::signal::Signal;

use super::lines::{because, count, foreign, rounded, short, style_of};
use super::paint;
use crate::diagnostic::Diagnostic;
use crate::journal::grouped;
use crate::quantity::{show_duration, show_size};
use crate::request::{Kind, Resource, RunId};
use crate::status::{HandlerUsed, RequestedBy, State, Status};
use crate::text;

/// What the header of an attempt tells.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    /// The run.
    pub id: RunId,
    /// What is done.
    pub kind: &'a Kind,
    /// To what.
    pub resource: &'a Resource,
    /// The request's file name.
    pub request: &'a str,
    /// Who asked.
    pub requested_by: &'a RequestedBy,
    /// Why, in the requester's words.
    pub reason: Option<&'a str>,
    /// What runs.
    pub handler: &'a HandlerUsed,
    /// As whom.
    pub user: &'a str,
    /// From 1.
    pub attempt: u32,
    /// How many there may be.
    pub attempts: u32,
    /// Of this attempt.
    pub timeout: Duration,
    /// Of the whole tree, in bytes.
    pub memory: u64,
    /// Of the whole tree.
    pub pids: u64,
    /// Of the whole tree, in CPUs; `None` where it is not limited.
    pub cpus: Option<f64>,
    /// `host` or `none`.
    pub network: &'a str,
    /// Asked for with `dry_run`.
    pub dry_run: bool,
}

/// The header of an attempt, several lines.
#[must_use]
pub fn header(of: &Header<'_>, colour: bool) -> String {
    let dry = if of.dry_run { ", dry run" } else { "" };
    let title =
        format!("{} on {}, attempt {} of {}{dry}", of.kind, foreign(of.resource.as_str()), of.attempt, of.attempts);
    let who = match (&of.requested_by.name, &of.requested_by.email) {
        (Some(name), Some(email)) => format!(" by {} <{}>", foreign(name), foreign(email)),
        (Some(name), None) | (None, Some(name)) => format!(" by {}", foreign(name)),
        (None, None) => String::new(),
    };
    let commit = of.requested_by.commit.as_ref().map_or(String::new(), |commit| format!(" in {}", short(commit)));
    let sha: String = text::line(&of.handler.sha256).chars().take(12).collect();
    let edited = if of.handler.dirty { ", edited, not committed" } else { "" };
    let cpus = of.cpus.map_or(String::new(), |cpus| format!(", {cpus} CPUs"));
    let mut lines = vec![
        paint(colour, Style::new().bold(), &title),
        format!("run      {}", of.id),
        format!("request  {}{who}{commit}", foreign(of.request)),
    ];
    lines.extend(of.reason.map(|reason| format!("reason   {}", foreign(reason))));
    lines.push(format!("handler  {} (sha256 {sha}{edited})", foreign(&of.handler.file)));
    lines.push(format!(
        "limits   user {}, {}, memory {}, {} processes{cpus}, network {}",
        foreign(of.user),
        show_duration(of.timeout),
        show_size(of.memory),
        of.pids,
        foreign(of.network),
    ));
    lines.join("\n")
}

/// The verdict: status, exit code or signal, duration; then every problem in full, for a run that never ran.
#[must_use]
pub fn verdict(status: &Status, problems: &[Diagnostic], colour: bool) -> String {
    let state = status.status;
    let mut out = paint(colour, style_of(state), &format!("{} {}", state.glyph(), state.word()));
    if let Some(rc) = status.rc {
        out += &format!(" rc {rc}");
    }
    if let Some(signal) = status.signal {
        let name = Signal::try_from(signal).map_or("unknown", Signal::as_str);
        out += &format!(" (signal {signal}, {name})");
    }
    if let Some(ms) = status.duration_ms {
        out += &format!(" after {}", rounded(ms));
    }
    out += &because(&status.reason);
    if let Some(usage) = &status.usage {
        match usage.leaked_processes {
            0 => {}
            1 => out += "\n1 process was left behind and killed",
            n => out += &format!("\n{n} processes were left behind and killed"),
        }
        if usage.output_dropped_bytes > 0 {
            out += &format!("\n{} bytes of this log were dropped", grouped(usage.output_dropped_bytes));
        }
    }
    if problems.is_empty()
        && let Some(error) = &status.error
    {
        out += &format!("\nerror[{}]: {}", text::line(&error.code), text::line(&error.message));
    }
    for problem in problems {
        out += "\n";
        out += problem.render().trim_end();
    }
    if !problems.is_empty() && state == State::Rejected {
        let place = problems.iter().find_map(|problem| problem.place.as_ref());
        let file = place.map_or(status.request.as_str(), |place| place.file.as_str());
        out += &format!("\nerror: {} in {}, nothing was run", count(problems.len(), "problem"), foreign(file));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::{Place, status_error};
    use crate::status::Usage;
    use crate::time::Time;

    fn id() -> RunId {
        RunId::new(Time::from_millis(0), [1; 10])
    }

    #[test]
    fn a_header_names_what_runs_and_why() {
        let requested_by = RequestedBy {
            name: Some("Ana \u{1b}[31m".into()),
            email: Some("ana@example.org".into()),
            commit: Some("1a2b3c4d5e6f".into()),
            signer: None,
        };
        let handler = HandlerUsed { file: "rotate.sh".into(), sha256: "0123456789abcdef".repeat(4), dirty: true };
        let of = Header {
            id: id(),
            kind: &"rotate-cert".parse().unwrap(),
            resource: &"host/web-01".parse().unwrap(),
            request: "rotate.yml",
            requested_by: &requested_by,
            reason: Some("CVE-2026-1234\nforged"),
            handler: &handler,
            user: "executor",
            attempt: 1,
            attempts: 3,
            timeout: Duration::from_secs(300),
            memory: 256 << 20,
            pids: 64,
            cpus: Some(1.5),
            network: "host",
            dry_run: true,
        };
        insta::assert_snapshot!(header(&of, false), @r"
        rotate-cert on host/web-01, attempt 1 of 3, dry run
        run      00000000-0000-7101-8101-010101010101
        request  rotate.yml by Ana ^[[31m <ana@example.org> in 1a2b3c4d
        reason   CVE-2026-1234^Jforged
        handler  rotate.sh (sha256 0123456789ab, edited, not committed)
        limits   user executor, 5m, memory 256M, 64 processes, 1.5 CPUs, network host
        ");
        assert!(header(&of, true).starts_with("\x1b[1mrotate-cert on"));
        let local = RequestedBy { name: Some("ana".into()), ..RequestedBy::default() };
        let handler = HandlerUsed { dirty: false, ..handler.clone() };
        let plain = Header { requested_by: &local, reason: None, handler: &handler, cpus: None, dry_run: false, ..of };
        insta::assert_snapshot!(header(&plain, false), @r"
        rotate-cert on host/web-01, attempt 1 of 3
        run      00000000-0000-7101-8101-010101010101
        request  rotate.yml by ana
        handler  rotate.sh (sha256 0123456789ab)
        limits   user executor, 5m, memory 256M, 64 processes, network host
        ");
    }

    fn ended(state: State, rc: i32) -> Status {
        let mut status =
            Status::taken(id(), "deploy.yml".into(), Time::from_millis(0), "ops-1".into(), RequestedBy::default());
        (status.status, status.rc, status.duration_ms) = (state, Some(rc), Some(11_000));
        status
    }

    #[test]
    fn a_verdict_says_how_it_ended() {
        let killed = Status { signal: Some(15), ..ended(State::Failed, 143) };
        let cancelled = Status { reason: Some("by ana: wrong host".into()), ..ended(State::Cancelled, 130) };
        let usage = Usage { leaked_processes: 2, output_dropped_bytes: 9_412_118, ..Usage::default() };
        let loud = Status { usage: Some(usage), ..ended(State::TimedOut, 124) };
        let problem = Diagnostic::new("E0605", "the result is no JSON object");
        let odd = Status { error: status_error(&[problem]), ..ended(State::Succeeded, 0) };
        let all = [killed, cancelled, loud, odd, ended(State::OutOfMemory, 137)];
        let text: Vec<String> = all.iter().map(|status| verdict(status, &[], false)).collect();
        insta::assert_snapshot!(text.join("\n"), @r"
        ✗ failed rc 143 (signal 15, SIGTERM) after 11s
        - cancelled rc 130 after 11s: by ana: wrong host
        ✗ timed_out rc 124 after 11s
        2 processes were left behind and killed
        9,412,118 bytes of this log were dropped
        ✓ succeeded rc 0 after 11s
        error[E0605]: the result is no JSON object
        ✗ out_of_memory rc 137 after 11s
        ");
        assert_eq!(verdict(&ended(State::Succeeded, 0), &[], true), "\x1b[32m✓ succeeded\x1b[0m rc 0 after 11s");
    }

    #[test]
    fn a_rejection_says_all_that_is_needed_to_mend_it() {
        let place = |line, snippet: &str| Place {
            file: "requests/deploy.yml".into(),
            line,
            col: 3,
            len: 6,
            snippet: Some(snippet.into()),
        };
        let problems = [
            Diagnostic::new("E0302", "unknown field `servce` in `params`")
                .at(place(6, "  servce: \u{1b}[2Jnginx"))
                .help("did you mean `service`?"),
            Diagnostic::new("E0302", "`env` is missing in `params`").at(place(2, "  params: {}")),
        ];
        let status = Status { duration_ms: None, ..ended(State::Rejected, 65) };
        insta::assert_snapshot!(verdict(&status, &problems, false), @r"
        ⊘ rejected rc 65
        error[E0302]: unknown field `servce` in `params`
          --> requests/deploy.yml:6:3
           |
         6 |   servce: ^[[2Jnginx
           |   ^^^^^^
           = help: did you mean `service`?
        error[E0302]: `env` is missing in `params`
          --> requests/deploy.yml:2:3
           |
         2 |   params: {}
           |   ^^^^^^
        error: 2 problems in requests/deploy.yml, nothing was run
        ");
    }
}
