//! `list` and `show`: runs from the files of the checkout, with or without a daemon.

use std::io;

use crate::checkout;
use crate::cli::args::List;
use crate::cli::context::Context;
use crate::cli::find::{Shelf, ago, bad};
use crate::cli::{Exit, Failure};
use crate::daemon::wall;
use crate::diagnostic::Diagnostic;
use crate::quantity::{round_duration, show_size};
use crate::status::{State, Status};
use crate::text;
use crate::time::Time;

/// `list`.
///
/// # Errors
/// 2 for a filter that names no field, 74 where stdout is closed.
pub fn list(context: &Context, args: &List) -> Result<Exit, Failure> {
    let shelf = Shelf::whole(context, &context.root()?);
    let filters: Vec<Filter> = args.filters.iter().map(|text| Filter::read(text)).collect::<Result<_, _>>()?;
    let most = if args.limit == 0 { usize::MAX } else { args.limit };
    let wanted = |status: &Status| filters.iter().all(|filter| filter.keeps(status));
    // One more than is shown tells whether there are more: the archive is not read to its end for that.
    let all = shelf.all().into_iter().chain(std::iter::once_with(|| shelf.older()).flatten()).filter(wanted);
    let mut shown: Vec<Status> = all.take(most.saturating_add(1)).collect();
    let more = shown.len() > most;
    shown.truncate(most);
    if context.common.json {
        context.print_json(&shown)?;
        return Ok(Exit::DONE);
    }
    if shown.is_empty() {
        context.print("no runs\n")?;
        return Ok(Exit::DONE);
    }
    let now = wall();
    let rows = shown.iter().map(|status| row(context, status, now)).collect();
    context.print(&table(context, &["ID", "KIND", "RESOURCE", "STATUS", "WHEN", "TOOK", "REASON"], rows))?;
    if more {
        context.print(&context.dim("more: dispatcher list -n 0\n"))?;
    }
    Ok(Exit::DONE)
}

/// One thing that a listed run must be.
enum Filter {
    State(State),
    Failed,
    Kind(String),
    Resource(String),
    Request(String),
    Any(String),
}

impl Filter {
    fn read(filter: &str) -> Result<Self, Failure> {
        let Some((field, value)) = filter.split_once('=') else {
            let state = State::ALL.into_iter().find(|state| state.word() == filter);
            return Ok(match (state, filter) {
                (Some(State::Failed), _) | (None, "bad") => Self::Failed,
                (Some(state), _) => Self::State(state),
                (None, text) => Self::Any(text.to_owned()),
            });
        };
        let value = value.to_owned();
        match field {
            "kind" => Ok(Self::Kind(value)),
            "resource" => Ok(Self::Resource(value)),
            "request" => Ok(Self::Request(value)),
            "status" => {
                let state = State::ALL.into_iter().find(|state| state.word() == value).ok_or_else(|| {
                    let words = State::ALL.map(State::word).join(", ");
                    usage(format!("`{}` is not a status", text::line(&value)), &format!("one of {words}"))
                })?;
                Ok(Self::State(state))
            }
            other => Err(usage(
                format!("`{}` is not a field to filter by", text::line(other)),
                "one of kind=…, resource=…, request=…, status=…, a status, or any text",
            )),
        }
    }

    fn keeps(&self, status: &Status) -> bool {
        let kind = status.kind.as_ref().map_or("", |kind| kind.as_str());
        let resource = status.resource.as_ref().map_or("", |resource| resource.as_str());
        match self {
            Self::State(state) => status.status == *state,
            Self::Failed => bad(status.status),
            Self::Kind(wanted) => kind == wanted,
            Self::Resource(wanted) => resource == wanted,
            Self::Request(wanted) => status.request == *wanted,
            Self::Any(part) => {
                let reason = status.reason.as_deref().unwrap_or("");
                [kind, resource, &status.request, reason, &status.id.to_string()].iter().any(|text| text.contains(part))
            }
        }
    }
}

fn usage(message: String, help: &str) -> Failure {
    Failure::new(Exit::USAGE, Diagnostic::new("E0105", message).help(help))
}

fn row(context: &Context, status: &Status, now: Time) -> Vec<String> {
    let dash = || "-".to_owned();
    let words = match (status.status, status.rc, status.signal) {
        (State::Failed, _, Some(signal)) => format!("failed signal {signal}"),
        (State::Failed, Some(rc), None) => format!("failed exit {rc}"),
        (State::Rejected, Some(rc), _) => format!("rejected {rc}"),
        (state, _, _) => state.word().to_owned(),
    };
    vec![
        status.id.short(),
        status.kind.as_ref().map_or_else(dash, ToString::to_string),
        status.resource.as_ref().map_or_else(dash, |resource| text::line(resource.as_str())),
        context.state(status.status, &words),
        ago(now, status.finished_at.or(status.started_at).unwrap_or(status.queued_at)),
        status.duration().map_or_else(dash, round_duration),
        status.reason.as_deref().map_or_else(String::new, |reason| cut(&text::line(reason), 48)),
    ]
}

/// At most `most` characters, the last one `…` where something was left out.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

/// Columns as wide as they must be; the last one is not padded.
pub fn table(context: &Context, head: &[&str], rows: Vec<Vec<String>>) -> String {
    let width_of = visible;
    let widths: Vec<usize> = (0..head.len())
        .map(|at| rows.iter().map(|row| width_of(&row[at])).chain([head[at].len()]).max().unwrap_or(0))
        .collect();
    let line = |cells: &[String]| {
        let mut line = String::new();
        for (at, cell) in cells.iter().enumerate() {
            line.push_str(cell);
            if at + 1 < cells.len() {
                line.push_str(&" ".repeat(widths[at] - width_of(cell) + 2));
            }
        }
        line.trim_end().to_owned() + "\n"
    };
    let head: Vec<String> = head.iter().map(|cell| context.dim(cell)).collect();
    line(&head) + &rows.iter().map(|row| line(row)).collect::<String>()
}

/// How many characters are seen: all but SGR sequences.
fn visible(text: &str) -> usize {
    let mut count = 0;
    let mut inside = false;
    for c in text.chars() {
        match c {
            '\u{1b}' => inside = true,
            'm' if inside => inside = false,
            _ if inside => {}
            _ => count += 1,
        }
    }
    count
}

/// `show`.
///
/// # Errors
/// 66 where no run is meant, 74 where stdout is closed.
pub fn show(context: &Context, what: &str) -> Result<Exit, Failure> {
    let root = context.root()?;
    let shelf = Shelf::whole(context, &root);
    let status = shelf.find(what)?;
    let path = shelf.place(status.id);
    if context.common.json {
        let mut value = serde_json::to_value(&status).unwrap_or_default();
        value["path"] = path.into();
        context.print_json(&value)?;
        return Ok(Exit::DONE);
    }
    context.print(&sheet(context, &status))?;
    match shelf.file(status.id, "request.yml", checkout::REQUEST) {
        Ok(bytes) => {
            let mut out = format!("\n{}\n", context.bold(&format!("{path}/request.yml")));
            for line in bytes.split_inclusive(|&byte| byte == b'\n') {
                out += &format!("  {}\n", text::bytes(line.strip_suffix(b"\n").unwrap_or(line)));
            }
            context.print(&out)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => context.print(&format!("\n{path}/request.yml is not shown: {error}\n"))?,
    }
    Ok(Exit::DONE)
}

/// A run's facts, one per line, absent ones left out.
fn sheet(context: &Context, status: &Status) -> String {
    let mut out = String::new();
    let mut fact = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            out.push_str(&format!("{} {value}\n", context.dim(&format!("{name:<13}"))));
        }
    };
    let rc = status.rc.map_or(String::new(), |rc| format!(" rc={rc}"));
    let signal = status.signal.map_or(String::new(), |signal| format!(" signal={signal}"));
    fact("id", Some(status.id.to_string()));
    fact("status", Some(context.state(status.status, status.status.word()) + &rc + &signal));
    fact("reason", status.reason.as_deref().map(text::line));
    fact("request", Some(text::line(&status.request)));
    fact("kind", status.kind.as_ref().map(ToString::to_string));
    fact("resource", status.resource.as_ref().map(|resource| text::line(resource.as_str())));
    fact("requested by", requester(status));
    fact("attempt", (status.attempt > 0).then(|| status.attempt.to_string()));
    fact("queued", Some(status.queued_at.to_string()));
    fact("started", status.started_at.map(|time| time.to_string()));
    fact("finished", status.finished_at.map(|time| time.to_string()));
    fact("took", status.duration().map(round_duration));
    fact("host", Some(text::line(&status.host)));
    fact(
        "handler",
        status.handler.as_ref().map(|handler| {
            let dirty = if handler.dirty { " (edited, not committed)" } else { "" };
            format!("{} sha256 {}{dirty}", text::line(&handler.file), short_hash(&handler.sha256))
        }),
    );
    fact(
        "sandbox",
        status.sandbox.as_ref().map(|held| {
            format!(
                "user {}, cgroup {}, landlock {}, network {}, seccomp {}",
                text::line(&held.user),
                held.cgroup,
                held.landlock,
                text::line(&held.network),
                held.seccomp
            )
        }),
    );
    fact(
        "usage",
        status.usage.as_ref().map(|usage| {
            format!(
                "cpu {} ms, memory {}, output {} bytes ({} dropped), leaked processes {}",
                usage.cpu_ms,
                show_size(usage.max_rss_bytes),
                usage.output_bytes,
                usage.output_dropped_bytes,
                usage.leaked_processes
            )
        }),
    );
    fact("result", status.result.as_ref().map(|result| text::line(&result.to_string())));
    fact(
        "error",
        status
            .error
            .as_ref()
            .map(|error| format!("[{}] {}", cut(&text::line(&error.code), 16), text::line(&error.message))),
    );
    fact("log", status.log.as_deref().map(text::line));
    out
}

/// The beginning of what should be a hash.
fn short_hash(hash: &str) -> String {
    text::line(hash).chars().take(12).collect()
}

fn requester(status: &Status) -> Option<String> {
    let by = &status.requested_by;
    let name = text::line(by.name.as_deref()?);
    let email = by.email.as_deref().map_or(String::new(), |email| format!(" <{}>", text::line(email)));
    let commit = by.commit.as_deref().map_or(String::new(), |commit| format!(" in {}", short_hash(commit)));
    Some(name + &email + &commit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::RunId;
    use crate::status::{HandlerUsed, RequestedBy, StatusError};

    #[test]
    fn colours_do_not_count() {
        assert_eq!(visible("\u{1b}[1;31mab\u{1b}[0mc"), 3);
        assert_eq!(cut("abcdef", 4), "abc…");
    }

    #[test]
    fn what_was_pushed_is_shown_escaped_and_bounded() {
        let time = Time::from_millis(1_763_900_000_000);
        let evil = "\u{1b}]0;x\u{7}\u{9b}2J".to_owned();
        let by = RequestedBy {
            name: Some(evil.clone()),
            email: Some(evil.clone()),
            commit: Some(evil.repeat(9)),
            ..RequestedBy::default()
        };
        let id = RunId::new(time, [1; 10]);
        let mut status = Status::taken(id, evil.clone(), time, evil.clone(), by);
        status.error = Some(StatusError { code: evil.repeat(9), message: evil.clone(), problems: Vec::new() });
        status.handler = Some(HandlerUsed { file: evil.clone(), sha256: evil.repeat(9), dirty: false });
        status.reason = Some(evil.clone());
        status.log = Some(evil);
        let context = Context { common: crate::cli::Common::default(), dir: std::path::PathBuf::new(), colors: false };
        let all = sheet(&context, &status) + &row(&context, &status, time).concat();
        assert!(!all.chars().any(|c| c != '\n' && c.is_control()), "{all:?}");
        assert!(all.lines().all(|line| line.chars().count() < 200), "{all}");
    }

    #[test]
    fn filters_say_what_they_do_not_know() {
        for (filter, good) in
            [("failed", true), ("kind=x", true), ("status=expired", true), ("status=lost", false), ("kin=x", false)]
        {
            assert_eq!(Filter::read(filter).is_ok(), good, "{filter}");
        }
    }
}
