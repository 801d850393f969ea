//! `wait` and `logs -f`: until a run is final, which means committed.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::cli::args::Logs;
use crate::cli::ask;
use crate::cli::context::Context;
use crate::cli::find::Shelf;
use crate::cli::tail::Tail;
use crate::cli::{Exit, Failure};
use crate::command::Command;
use crate::diagnostic::Diagnostic;
use crate::quantity::{parse_duration, show_duration};
use crate::request::RunId;
use crate::status::Status;

/// Between two looks at a log or a status where no daemon tells.
const LOOK: Duration = Duration::from_millis(100);

/// Waits until `id` is final; `None` where `deadline` comes first.
///
/// # Errors
/// 69 where the run is not final and no daemon runs that could end it.
pub fn until_final(
    context: &Context,
    root: &Path,
    id: RunId,
    deadline: Option<Instant>,
) -> Result<Option<Status>, Failure> {
    loop {
        let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        let client = match ask::connect(context, root)? {
            Some(client) => Some(client),
            None => {
                let status = Shelf::whole(context, root).status(id).filter(|status| status.finished_at.is_some());
                if let Some(status) = status {
                    return Ok(Some(status));
                }
                None
            }
        };
        // A daemon that is being restarted is waited for as long as the caller wants.
        let Some(mut client) = client else {
            if left.is_none() {
                return Err(ask::daemon_of(context, root).err().unwrap_or(Failure::silent(Exit::UNAVAILABLE)));
            }
            if left.is_some_and(|left| left.is_zero()) {
                return Ok(None);
            }
            std::thread::sleep(LOOK);
            continue;
        };
        match ask::ask(&mut client, Command::Wait { id }, left) {
            Ok(body) => {
                let status = serde_json::from_value(body["status"].clone()).map_err(|error| {
                    Failure::new(
                        Exit::VERSIONS,
                        Diagnostic::new("E0709", format!("failed to read the answer: {error}")),
                    )
                })?;
                return Ok(Some(status));
            }
            Err(failure) if left.is_some_and(|_| deadline.is_some_and(|at| Instant::now() >= at)) => {
                drop(failure);
                return Ok(None);
            }
            // The daemon stopped: its successor goes on with the run. Or the run's folder was seen first.
            Err(failure) if failure.exit == Exit::UNAVAILABLE || is_being_taken(&failure) => std::thread::sleep(LOOK),
            Err(failure) => return Err(failure),
        }
    }
}

fn is_being_taken(failure: &Failure) -> bool {
    failure.problems.iter().any(|problem| problem.code == "E0405")
}

/// `wait`.
///
/// # Errors
/// 66 where no run is meant, 69 without a daemon, 124 where the time is over.
pub fn wait(context: &Context, runs: &[String], timeout: Option<&str>) -> Result<Exit, Failure> {
    let root = context.root()?;
    let timeout = timeout.map(parse_duration).transpose().map_err(|error| {
        Failure::new(
            Exit::USAGE,
            Diagnostic::new("E0105", format!("`--timeout`: {error}")).help("dispatcher wait RUN --timeout 10m"),
        )
    })?;
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let shelf = Shelf::whole(context, &root);
    let ids = runs.iter().map(|run| shelf.find(run).map(|status| status.id)).collect::<Result<Vec<_>, _>>()?;
    let mut highest = Exit::DONE;
    for id in ids {
        let Some(status) = until_final(context, &root, id, deadline)? else {
            let within = timeout.map(show_duration).unwrap_or_default();
            let problem = Diagnostic::new("E0140", format!("run `{}` was not final within `{within}`", id.short()))
                .help(format!("dispatcher logs -f {id}     shows what it does; dispatcher status     why it waits"));
            return Err(Failure::new(Exit::WAITED, problem));
        };
        say_end(context, &status)?;
        let exit = Exit::of_run(status.status, status.rc);
        if exit.0 > highest.0 {
            highest = exit;
        }
    }
    Ok(highest)
}

/// One line (or one JSON document) about how a run ended.
///
/// # Errors
/// 74 where stdout cannot be written to.
pub fn say_end(context: &Context, status: &Status) -> Result<(), Failure> {
    if context.common.json {
        return context.print_json(status);
    }
    let kind = status.kind.as_ref().map_or("-", |kind| kind.as_str());
    let words = crate::console::verdict(status, &[], false);
    let words = words.lines().next().unwrap_or_default().to_owned();
    context.print(&format!("{} {kind} {words}\n", status.id.short()))
}

/// `logs`.
///
/// # Errors
/// 66 where no run is meant or it has no log yet, 69 where it is followed and no daemon runs.
pub fn logs(context: &Context, args: &Logs) -> Result<Exit, Failure> {
    let root = context.root()?;
    let shelf = Shelf::whole(context, &root);
    let status = shelf.find(args.run.as_deref().unwrap_or("@"))?;
    let final_now = status.finished_at.is_some();
    if args.follow && !final_now {
        return follow(context, &root, status.id, args.exit_status);
    }
    let tail = Tail::open(&shelf, status.id).map_err(|error| {
        let problem =
            Diagnostic::new("E0136", format!("run `{}` has no log that can be read: {error}", status.id.short()))
                .note(format!("looked for in logs/{}.log; the run is {}", status.id, status.status.word()));
        Failure::new(
            Exit::NO_INPUT,
            problem.help(format!("dispatcher show {}     a log begins with the first attempt", status.id)),
        )
    })?;
    tail.finish(context)?;
    Ok(if args.exit_status { Exit::of_run(status.status, status.rc) } else { Exit::DONE })
}

/// Shows a run's log until it is final.
///
/// # Errors
/// 69 where no daemon runs.
pub fn follow(context: &Context, root: &Path, id: RunId, exit_status: bool) -> Result<Exit, Failure> {
    let (tell, told) = crossbeam_channel::bounded(1);
    let waiter = { (context.clone(), root.to_owned()) };
    std::thread::spawn(move || {
        let (context, root) = waiter;
        // Whoever reads has gone away where this cannot be told.
        let _ = tell.send(until_final(&context, &root, id, None));
    });
    let shelf = Shelf::new(root);
    let mut log = None;
    let status = loop {
        if log.is_none() {
            log = Tail::open(&shelf, id).ok();
        }
        if let Some(log) = log.as_mut() {
            log.copy(context)?;
        }
        if let Ok(ended) = told.recv_timeout(LOOK) {
            break ended?;
        }
    };
    if let Some(log) = log.or_else(|| Tail::open(&shelf, id).ok()) {
        log.finish(context)?;
    }
    Ok(match status {
        Some(status) if exit_status => Exit::of_run(status.status, status.rc),
        _ => Exit::DONE,
    })
}
