//! `replay`: golden cases. Each is a request, files that it needs, and what its log and status must be; it runs in a
//! scratch repository of its own with the handlers and schemas of the repository around the command. `case` reads a
//! case, `play` runs it, `normal` takes out what differs from run to run, `report` compares and tells.

mod case;
mod normal;
mod play;
mod report;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, bounded};

use self::case::Case;
use self::play::Ground;
use self::report::{Ended, Verdict};
use crate::cli::context::Context;
use crate::cli::{Exit, Failure};
use crate::diagnostic::Diagnostic;
use crate::signals::{Listener, Signal};

/// Signals on their way: the first one ends it all.
const SIGNALS: usize = 8;

/// `replay`.
///
/// # Errors
/// 66 where a case is not there, 65 where it is not one; 3 where a signal came between.
pub fn replay(context: &Context, folders: &[PathBuf], bless: bool) -> Result<Exit, Failure> {
    let cases = read(context, folders)?;
    let ground = Ground::of(context)?;
    let (to_signals, signals) = bounded(SIGNALS);
    let _listener = Listener::start(to_signals).map_err(|error| Failure::io("catch signals", &error))?;
    let mut ended = Vec::new();
    let told = in_order(
        &cases,
        &signals,
        |case| one(case, &ground, bless),
        |verdict| {
            if !context.common.json {
                context.print(&report::line(context, &verdict))?;
            }
            ended.push(verdict);
            Ok(())
        },
    );
    told?;
    if ended.len() < cases.len() {
        let message = format!("stopped by a signal after {} of {} cases", ended.len(), cases.len());
        return Err(Failure::new(Exit::CANCELLED, Diagnostic::new("E0133", message)));
    }
    if context.common.json {
        context.print_json(&report::document(&ended))?;
    } else {
        context.print(&report::summary(context, &ended))?;
    }
    Ok(report::exit(&ended))
}

/// Every case, or what is wrong with all of them at once.
fn read(context: &Context, folders: &[PathBuf]) -> Result<Vec<Case>, Failure> {
    let mut cases = Vec::new();
    let mut refused: Option<Failure> = None;
    for folder in folders {
        match (Case::read(&context.dir, folder), &mut refused) {
            (Ok(case), _) => cases.push(case),
            (Err(failure), None) => refused = Some(failure),
            (Err(failure), Some(refused)) => refused.problems.extend(failure.problems),
        }
    }
    refused.map_or(Ok(cases), Err)
}

fn one(case: &Case, ground: &Ground, bless: bool) -> Verdict {
    let began = Instant::now();
    let ended = match ground.play(case) {
        Err(failure) => Ended::Failed(failure),
        Ok(came_out) if bless => match case.bless(&came_out) {
            Ok(true) => Ended::Blessed,
            Ok(false) => Ended::Same,
            Err(failure) => Ended::Failed(failure),
        },
        Ok(came_out) => report::compare(case, &came_out),
    };
    Verdict { name: case.name.clone(), folder: case.folder.clone(), ended, took: began.elapsed() }
}

/// Runs `work` on every case, some at the same time, and hands each result to `tell` in the cases' order. Ends early at
/// a signal, and where `tell` fails.
fn in_order<T: Send>(
    cases: &[Case],
    signals: &Receiver<Signal>,
    work: impl Fn(&Case) -> T + Sync,
    mut tell: impl FnMut(T) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let next = AtomicUsize::new(0);
    // A case mostly waits, for the disk and for its time-outs.
    let threads = std::thread::available_parallelism().map_or(2, |cores| cores.get() * 2).min(cases.len());
    let (results, done) = bounded(threads);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (next, work, results) = (&next, &work, results.clone());
            scope.spawn(move || {
                while signals.is_empty()
                    && let Some((at, case)) =
                        Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|at| Some((at, cases.get(at)?)))
                {
                    if results.send((at, work(case))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(results);
        let mut early = BTreeMap::new();
        let mut due = 0;
        // Moved in here: whoever still works gives up where nobody hears the result.
        for (at, result) in done {
            if !signals.is_empty() {
                // A daemon that was told to stop has left its case half done.
                break;
            }
            early.insert(at, result);
            while let Some(result) = early.remove(&due) {
                due += 1;
                tell(result)?;
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_went_away_ends_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("request.yml"), "kind: a\n").unwrap();
        let case = Case::read(dir.path(), std::path::Path::new(".")).unwrap();
        let cases = vec![case; 200];
        let (_to_signals, signals) = bounded(1);
        let (ended, told) = bounded(1);
        std::thread::spawn(move || {
            let outcome = in_order(&cases, &signals, |case| case.name.clone(), |_| Err(Failure::silent(Exit::DONE)));
            ended.send(outcome.unwrap_err().exit).unwrap();
        });
        assert_eq!(told.recv_timeout(std::time::Duration::from_secs(20)).unwrap(), Exit::DONE);
    }
}
