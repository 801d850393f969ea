//! The thread that talks to the remote, on a handle of its own, so that a slow network holds up nothing else.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use crate::daemon::clerk::Job;
use crate::daemon::scribe::Scribe;
use crate::diagnostic::{Code, Diagnostic};
use crate::engine::{Input, PushReport};
use crate::repo::{PushError, PushOutcome, Repo};

/// The engine asks for one fetch and one push of each branch at a time.
pub const ERRANDS: usize = 4;

/// Work for the courier.
pub enum Errand {
    /// Ask the remote; the clerk goes on from there.
    Fetch,
    /// Bring the remote up to date.
    Push,
    /// Bring the remote's archive up to date.
    PushArchive,
}

/// Who works, and whom he tells.
pub struct Courier {
    pub(super) repo: Repo,
    pub(super) scribe: Arc<Scribe>,
    pub(super) to_clerk: Sender<Job>,
    pub(super) to_engine: Sender<Input>,
}

impl Courier {
    /// Works until the queue is closed.
    pub fn work(self, errands: &Receiver<Errand>) {
        // Each of its own: who may fetch may still not push.
        let (mut of_fetch, mut of_push, mut of_archive) = (None, None, None);
        for errand in errands {
            let gone = match errand {
                Errand::Fetch => {
                    let fetched = self.repo.fetch();
                    self.tell(&mut of_fetch, fetched.as_ref().err().map(crate::repo::FetchError::diagnostic));
                    self.to_clerk.send(Job::Integrate(fetched)).is_err()
                }
                Errand::Push => {
                    let pushed = pushed(&self.repo, self.repo.push());
                    self.report(pushed, &mut of_push, Input::Pushed)
                }
                Errand::PushArchive => {
                    let pushed = pushed(&self.repo, self.repo.push_archive());
                    self.report(pushed, &mut of_archive, Input::ArchivePushed)
                }
            };
            if gone {
                return;
            }
        }
    }

    /// Tells the engine and people; true where the engine is gone.
    fn report(&self, pushed: Told, told: &mut Option<Code>, input: impl FnOnce(PushReport) -> Input) -> bool {
        self.tell(told, pushed.problem);
        let inputs = pushed.unsynced.map(Input::Unsynced).into_iter().chain([input(pushed.report)]);
        inputs.into_iter().any(|input| self.to_engine.send(input).is_err())
    }

    /// Says what a person can do about a problem, once: the events say each time that it is still there.
    fn tell(&self, told: &mut Option<Code>, problem: Option<Diagnostic>) {
        let code = problem.as_ref().map(|problem| problem.code);
        if let Some(problem) = problem.filter(|_| *told != code) {
            self.scribe.warn(&problem);
            problem.notes.iter().for_each(|note| self.scribe.note(&format!("  = note: {note}")));
            problem.help.iter().for_each(|help| self.scribe.note(&format!("  = help: {help}")));
        }
        *told = code;
    }
}

/// What became of a push.
struct Told {
    report: PushReport,
    /// A sync that failed.
    unsynced: Option<String>,
    /// What people can read.
    problem: Option<Diagnostic>,
}

fn pushed(repo: &Repo, outcome: Result<PushOutcome, PushError>) -> Told {
    let failed = |message: String| PushReport::Failed { message };
    let unsynced = outcome.as_ref().err().filter(|error| error.is_unsynced()).map(|error| error.to_string());
    let (report, problem) = match outcome {
        Ok(PushOutcome::Pushed { oid }) => (PushReport::Done { commit: oid.to_string() }, None),
        Ok(PushOutcome::UpToDate) => {
            let tip = repo.tip().ok().flatten();
            (PushReport::Done { commit: tip.map_or_else(String::new, |tip| tip.to_string()) }, None)
        }
        Ok(PushOutcome::Moved) => (PushReport::Moved, None),
        Ok(PushOutcome::Busy { words }) => (PushReport::Busy { message: words }, None),
        Ok(PushOutcome::Refused { words }) => (failed(format!("the remote refused: {words}")), None),
        Ok(PushOutcome::NoAccess(access)) => (failed(access.to_string()), Some(access.diagnostic())),
        Ok(PushOutcome::Unreachable { words }) => (failed(words), None),
        Ok(PushOutcome::NoRemote) => (PushReport::NoRemote, None),
        Err(error) => {
            let problem = error.diagnostic();
            (failed(problem.message.clone()), Some(problem))
        }
    };
    Told { report, unsynced, problem }
}
