//! The thread that keeps the object database small, on a handle of its own: nothing waits for it, and it may end at any
//! moment.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use crate::daemon::clerk::Job;
use crate::daemon::scribe::Scribe;
use crate::repo::Repo;

/// Looks whenever it is asked to, until nobody can ask any more.
pub fn work(mut repo: Repo, asks: &Receiver<()>, to_clerk: &Sender<Job>, scribe: &Arc<Scribe>) {
    for () in asks {
        match repo.join_packs() {
            Ok(true) if to_clerk.send(Job::Reopen).is_err() => return,
            Ok(_) => {}
            Err(error) => scribe.warn(&error.diagnostic()),
        }
    }
}
