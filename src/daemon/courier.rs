//! The thread that talks to the remote, on a handle of its own, so that a slow network holds up nothing else.

use crossbeam_channel::{Receiver, Sender};

use crate::daemon::clerk::Job;
use crate::engine::{Input, PushReport};
use crate::repo::{PushOutcome, Repo};

/// The engine asks for one fetch and one push at a time.
pub const ERRANDS: usize = 4;

/// Work for the courier.
pub enum Errand {
    /// Ask the remote; the clerk goes on from there.
    Fetch,
    /// Bring the remote up to date.
    Push,
}

/// Works until the queue is closed.
pub fn work(repo: &Repo, errands: &Receiver<Errand>, to_clerk: &Sender<Job>, to_engine: &Sender<Input>) {
    for errand in errands {
        let gone = match errand {
            Errand::Fetch => to_clerk.send(Job::Integrate(repo.fetch())).is_err(),
            Errand::Push => push(repo).into_iter().any(|input| to_engine.send(input).is_err()),
        };
        if gone {
            return;
        }
    }
}

fn push(repo: &Repo) -> Vec<Input> {
    let pushed = repo.push();
    let unsynced = pushed.as_ref().err().filter(|error| error.is_unsynced()).map(|error| error.to_string());
    let report = match pushed {
        Ok(PushOutcome::Pushed { oid }) => PushReport::Done { commit: oid.to_string() },
        Ok(PushOutcome::UpToDate) => {
            let tip = repo.tip().ok().flatten();
            PushReport::Done { commit: tip.map_or_else(String::new, |tip| tip.to_string()) }
        }
        Ok(PushOutcome::Moved) => PushReport::Moved,
        Ok(PushOutcome::Refused { words }) => PushReport::Failed { message: format!("the remote refused: {words}") },
        Ok(PushOutcome::Unreachable { words }) => PushReport::Failed { message: words },
        Ok(PushOutcome::NoRemote) => PushReport::NoRemote,
        Err(error) => PushReport::Failed { message: error.diagnostic().message },
    };
    unsynced.map(Input::Unsynced).into_iter().chain([Input::Pushed(report)]).collect()
}
