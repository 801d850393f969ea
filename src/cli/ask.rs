//! Asking the running daemon: the way to its socket, and the verbs that are one question each.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::cli::context::Context;
use crate::cli::find::Shelf;
use crate::cli::list::table;
use crate::cli::serve;
use crate::cli::{Exit, Failure};
use crate::command::{Answer, Command, Side};
use crate::control::{AskError, Client, ConnectError};
use crate::daemon;
use crate::diagnostic::{self, Diagnostic};
use crate::engine::{RunView, Snapshot};
use crate::instance;
use crate::quantity::round_duration;
use crate::text;

/// How long the daemon may take to answer what it can answer at once.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The socket of the daemon of a repository, and its local state.
fn places(context: &Context, root: &Path) -> Result<(PathBuf, PathBuf), Failure> {
    let config = serve::config(context, root)?;
    let places = daemon::find_places(&config, root).map_err(|problem| Failure::config(vec![problem]))?;
    Ok((places.socket(), places.state.path))
}

/// The socket of the daemon of a repository, whether or not one runs.
///
/// # Errors
/// 78 where the configuration or the environment says no such place.
pub fn socket(context: &Context, root: &Path) -> Result<PathBuf, Failure> {
    places(context, root).map(|(socket, _)| socket)
}

/// A connection to the daemon; `None` where none runs.
///
/// # Errors
/// 77 where it may not be asked.
pub fn connect(context: &Context, root: &Path) -> Result<Option<Client>, Failure> {
    let (socket, state) = places(context, root)?;
    match Client::connect(&socket) {
        Ok(client) => Ok(Some(client)),
        Err(ConnectError::NotRunning { .. }) => Ok(None),
        Err(error) => Err(refused(&error, root, &state)),
    }
}

fn refused(error: &ConnectError, root: &Path, state: &Path) -> Failure {
    let seen = instance::last_seen(state).map(|seen| seen.words());
    Failure::new(Exit::from_code(error.exit()), error.diagnostic(root, seen.as_deref()))
}

/// A connection to the daemon.
///
/// # Errors
/// 69 where none runs, 77 where it may not be asked.
pub fn daemon_of(context: &Context, root: &Path) -> Result<Client, Failure> {
    let (socket, state) = places(context, root)?;
    Client::connect(&socket).map_err(|error| refused(&error, root, &state))
}

/// Asks and gives what was answered.
///
/// # Errors
/// What the daemon says, with its exit code; 69, 75, 76 where it says nothing that can be used.
pub fn ask(client: &mut Client, command: Command, time: Option<Duration>) -> Result<Value, Failure> {
    match client.ask(command, time) {
        Ok(Answer::Ok { body, .. }) => Ok(body),
        Ok(Answer::Error { code, message, help, exit, .. }) => {
            let problem = answered(&code, message);
            Err(Failure::new(Exit::from_code(exit), help.into_iter().fold(problem, Diagnostic::help)))
        }
        Err(error) => {
            let (code, help) = match &error {
                AskError::TimedOut => ("E0708", "dispatcher status     shows whether it is there; ask again later"),
                AskError::Closed => ("E0707", "dispatcher status     shows whether it is there again"),
                AskError::Version(_) => ("E0709", "restart the daemon, or use its version of `dispatcher`"),
                AskError::Io(_) => ("E0704", "dispatcher status"),
            };
            Err(Failure::new(Exit::from_code(error.exit()), Diagnostic::new(code, error.to_string()).help(help)))
        }
    }
}

/// The problem that an answer tells of. A daemon of another version may have codes that this one does not know.
fn answered(code: &str, message: String) -> Diagnostic {
    match diagnostic::known(code) {
        Some(code) => Diagnostic::new(code, message),
        None => Diagnostic::new("E0710", message).note(format!("the dispatcher calls it {code}")),
    }
}

/// Asks the daemon of the repository that the command stands in.
fn ask_here(context: &Context, command: Command) -> Result<Value, Failure> {
    let root = context.root()?;
    ask(&mut daemon_of(context, &root)?, command, Some(PATIENCE))
}

fn done(context: &Context, body: &Value, words: &str) -> Result<Exit, Failure> {
    if context.common.json {
        context.print_json(body)?
    } else {
        context.print(&format!("{words}\n"))?
    }
    Ok(Exit::DONE)
}

/// `pause`.
///
/// # Errors
/// As [`ask`].
pub fn pause(context: &Context, reason: Option<String>) -> Result<Exit, Failure> {
    let body = ask_here(context, Command::Pause { reason })?;
    done(context, &body, "paused: no new work begins, what runs goes on; dispatcher resume ends it")
}

/// `resume`.
///
/// # Errors
/// As [`ask`].
pub fn resume(context: &Context, accept_remote: bool, keep_local: bool) -> Result<Exit, Failure> {
    let side = match (accept_remote, keep_local) {
        (true, _) => Some(Side::AcceptRemote),
        (false, true) => Some(Side::KeepLocal),
        (false, false) => None,
    };
    let body = ask_here(context, Command::Resume { side })?;
    if let Some(side) = side {
        return done(context, &body, &decided(side, &body));
    }
    let holds = |word: &str| ["checkout", "diverged", "disk", "sync", "commit"].contains(&word);
    let held = body["degraded"].as_object().into_iter().flatten().find(|(word, _)| holds(word));
    let Some((word, detail)) = held else { return done(context, &body, "new work begins again") };
    let words = format!("nothing is paused now, but work is held: {word}: {}", detail.as_str().unwrap_or_default());
    done(context, &body, &text::line(&words))?;
    Ok(Exit::TRY_LATER)
}

/// What a decision led to, and where both sides are kept.
fn decided(side: Side, body: &Value) -> String {
    let mut kept = body["kept"].as_array().into_iter().flatten().filter_map(Value::as_str).map(text::line);
    let mut words = match side {
        Side::AcceptRemote => {
            format!("the remote's history counts; {} commits of results were put on top of it", body["replayed"])
        }
        Side::KeepLocal => "the local history counts; the next push replaces the remote's".to_owned(),
    };
    for whose in ["local", "remote"] {
        if let Some(kept) = kept.next() {
            words += &format!("\n{whose} side as it was: {kept}");
        }
    }
    words
}

/// `drain`.
///
/// # Errors
/// As [`ask`].
pub fn drain(context: &Context) -> Result<Exit, Failure> {
    let body = ask_here(context, Command::Drain)?;
    let running = body["running"].as_u64().unwrap_or(0);
    done(
        context,
        &body,
        &format!("draining: {running} running, the queue is kept; the daemon exits when they have ended"),
    )
}

/// `fetch`.
///
/// # Errors
/// As [`ask`].
pub fn fetch(context: &Context) -> Result<Exit, Failure> {
    let root = context.root()?;
    let config = serve::config(context, &root)?;
    // A fetch and a scan: as long as git may take, and some more.
    let patience = config.git_timeout + PATIENCE;
    let body = ask(&mut daemon_of(context, &root)?, Command::Fetch, Some(patience))?;
    let trouble = body["degraded"].as_object().and_then(|all| all.get("fetch")).and_then(Value::as_str);
    match trouble {
        Some(words) => {
            let problem = Diagnostic::new("E0512", format!("the remote was not reached: {}", text::line(words)));
            Err(Failure::new(Exit::UNAVAILABLE, problem))
        }
        None => done(context, &body, "remote and inbox were looked at"),
    }
}

/// `cancel`.
///
/// # Errors
/// 66 where no run is meant, 75 where it has ended already; as [`ask`].
pub fn cancel(context: &Context, run: &str, reason: Option<String>) -> Result<Exit, Failure> {
    let root = context.root()?;
    let status = Shelf::whole(context, &root).find(run)?;
    let id = status.id;
    if let Some(at) = status.finished_at {
        let message = format!("run `{}` has ended: it is {} since {at}", id.short(), status.status.word());
        let problem = Diagnostic::new("E0404", message)
            .help(format!("dispatcher show {id}     shows how; dispatcher retry {id}     asks for it again"));
        return Err(Failure::new(Exit::TRY_LATER, problem));
    }
    let body = ask(&mut daemon_of(context, &root)?, Command::Cancel { id, reason }, Some(PATIENCE))?;
    done(context, &body, &format!("{} is told to end", id.short()))
}

fn snapshot(body: &Value) -> Result<Snapshot, Failure> {
    serde_json::from_value(body.clone()).map_err(|error| {
        Failure::new(Exit::VERSIONS, Diagnostic::new("E0709", format!("failed to read the daemon's answer: {error}")))
    })
}

/// `status`.
///
/// # Errors
/// As [`ask`].
pub fn status(context: &Context) -> Result<Exit, Failure> {
    let body = ask_here(context, Command::Status)?;
    if context.common.json {
        context.print_json(&body)?;
        return Ok(Exit::DONE);
    }
    let now = snapshot(&body)?;
    let running = now.runs.iter().filter(|run| run.status == crate::status::State::Running).count();
    let word = |key: &str| body[key].as_str().map(text::line).unwrap_or_default();
    let up = round_duration(Duration::from_millis(body["up_ms"].as_u64().unwrap_or(0)));
    let mut out = format!(
        "{}  {}  pid {}  up {up}  version {}\n",
        context.bold(&format!("dispatcher {}", text::line(&now.mode))),
        word("root"),
        body["pid"],
        word("version")
    );
    out += &format!(
        "runs      {running} of {} slots, {} queued, {} in the inbox; handlers run as {}\n",
        now.workers,
        now.runs.len() - running,
        now.inbox,
        word("user")
    );
    let remote = if now.git.remote { format!("push {}", text::line(&now.git.push)) } else { "no remote".to_owned() };
    out += &format!("git       {} unrecorded, {} not pushed, {remote}\n", now.git.unrecorded, now.git.unpushed);
    if let Some(paused) = &now.paused {
        out += &format!("paused    {}\n", text::line(paused));
    }
    for trouble in &now.troubles {
        out += &format!("degraded  {}: {}\n", text::line(&trouble.reason), text::line(&trouble.detail));
        out += &format!("          since {}\n", trouble.since);
        for help in &trouble.help {
            out += &format!("          = help: {}\n", text::line(help));
        }
    }
    for (name, until) in &now.scheduled {
        out += &format!("scheduled {} not before {until}\n", text::line(name));
    }
    context.print(&out)?;
    if !now.runs.is_empty() {
        let rows = now.runs.iter().map(|run| run_row(context, run)).collect();
        let head = ["ID", "KIND", "RESOURCE", "STATUS", "FOR", "WHY"];
        context.print(&format!("\n{}", table(context, &head, rows)))?;
    }
    Ok(Exit::DONE)
}

fn run_row(context: &Context, run: &RunView) -> Vec<String> {
    vec![
        run.id.short(),
        run.kind.to_string(),
        text::line(run.resource.as_str()),
        context.state(run.status, run.status.word()),
        round_duration(Duration::from_millis(run.for_ms)),
        run.why.as_deref().map(text::line).unwrap_or_default(),
    ]
}

/// `locks`.
///
/// # Errors
/// As [`ask`].
pub fn locks(context: &Context) -> Result<Exit, Failure> {
    let now = snapshot(&ask_here(context, Command::Status)?)?;
    let held = |run: &&RunView| run.status == crate::status::State::Running;
    if context.common.json {
        let locks: Vec<Value> = now
            .runs
            .iter()
            .filter(held)
            .map(|run| {
                let waiting = now.runs.iter().filter(|other| other.held_by == Some(run.id)).map(|other| other.id);
                serde_json::json!({
                    "resource": run.resource, "holder": run.id, "kind": run.kind, "held_ms": run.for_ms,
                    "waiting": waiting.collect::<Vec<_>>(), "file": run.resource.lock_file(),
                })
            })
            .collect();
        context.print_json(&locks)?;
        return Ok(Exit::DONE);
    }
    // A lock that another program holds is seen only by who waits for it.
    let outside = |run: &&RunView| run.status == crate::status::State::Waiting && run.held_by.is_none();
    if !now.runs.iter().any(|run| held(&run) || outside(&run)) {
        context.print("no locks are held\n")?;
        return Ok(Exit::DONE);
    }
    let mut rows = Vec::new();
    for run in now.runs.iter().filter(held) {
        let held_for = round_duration(Duration::from_millis(run.for_ms));
        rows.push(vec![text::line(run.resource.as_str()), run.id.short(), run.kind.to_string(), held_for]);
        for waiter in now.runs.iter().filter(|other| other.held_by == Some(run.id)) {
            let waits = round_duration(Duration::from_millis(waiter.for_ms));
            rows.push(vec!["  <-".to_owned(), waiter.id.short(), waiter.kind.to_string(), waits]);
        }
    }
    for run in now.runs.iter().filter(outside) {
        let waits = round_duration(Duration::from_millis(run.for_ms));
        rows.push(vec![text::line(run.resource.as_str()), "another program".to_owned(), String::new(), String::new()]);
        rows.push(vec!["  <-".to_owned(), run.id.short(), run.kind.to_string(), waits]);
    }
    context.print(&table(context, &["RESOURCE", "RUN", "KIND", "FOR"], rows))?;
    Ok(Exit::DONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_answers_are_those_of_the_table() {
        for (code, shown) in [("E0404", "E0404"), ("E0515", "E0515"), ("E0708", "E0708"), ("E4711", "E0710")] {
            let problem = answered(code, "no".to_owned());
            assert_eq!(problem.code, shown);
            assert_eq!(problem.render().contains("calls it E4711"), code == "E4711", "{}", problem.render());
        }
    }
}
