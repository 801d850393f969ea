//! The thread that keeps the object database small, on a handle of its own: nothing waits for it, and it may end at any
//! moment.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use crate::daemon::clerk::Job;
use crate::daemon::scribe::Scribe;
use crate::engine::Input;
use crate::repo::Repo;

/// Looks whenever it is asked to, until nobody can ask any more.
///
/// A pack whose sync failed is not made again: what is joined would be removed on the word of a disk that has lied.
pub fn work(
    mut repo: Repo,
    asks: &Receiver<()>,
    to_clerk: &Sender<Job>,
    to_engine: &Sender<Input>,
    scribe: &Arc<Scribe>,
) {
    let mut lied = false;
    for () in asks {
        if lied {
            continue;
        }
        match repo.join_packs() {
            Ok(true) if to_clerk.send(Job::Reopen).is_err() => return,
            Ok(_) => {}
            Err(error) => {
                scribe.warn(&error.diagnostic());
                lied = error.is_unsynced();
                if lied && to_engine.send(Input::Unsynced(error.to_string())).is_err() {
                    return;
                }
            }
        }
    }
}
