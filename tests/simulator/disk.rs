//! What survives a crash: the inbox, `processed/<id>/`, the event journal and the kept pause. Knows what a restart finds.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::time::Duration;

use dispatcher::engine::{CRASHED, Found, NOT_BEGUN, Order, Prior, STOPPED, Verdict};
use dispatcher::event::RunRef;
use dispatcher::request::RunId;
use dispatcher::router::Retry;
use dispatcher::status::State;
use dispatcher::time::Time;

/// A file that somebody dropped: what it asks for. Its index in `World::asks` is its identity.
#[derive(Clone, Debug)]
pub struct Ask {
    pub name: OsString,
    pub bytes: u64,
    pub valid: bool,
    pub id: Option<RunId>,
    pub resource: usize,
    pub priority: i8,
    pub not_before: Option<Time>,
    pub expires_at: Option<Time>,
    pub max_queue_age: Option<Duration>,
    pub retry: Retry,
    pub rerun: bool,
    /// Overwritten or deleted before it was taken.
    pub gone: bool,
}

/// One `processed/<id>/`.
#[derive(Clone, Debug)]
pub struct Folder {
    pub ask: usize,
    /// The request has been renamed into it.
    pub taken: bool,
    pub queued_at: Time,
    pub state: State,
    pub attempt: u32,
    pub verdict: Option<Verdict>,
    /// What parsing it always leads to, where it never runs.
    pub settled: Option<Verdict>,
    /// Attempts of which nobody knows how they ended.
    pub lost: BTreeSet<u32>,
    pub recorded: bool,
}

#[derive(Debug, Default)]
pub struct Disk {
    pub inbox: BTreeMap<OsString, usize>,
    pub folders: BTreeMap<RunId, Folder>,
    /// `run.retrying`: run, attempt, why.
    pub journal: Vec<(RunId, u32, String)>,
    pub pause: Option<String>,
}

impl Disk {
    /// An unrecorded run was taken from this very file.
    pub fn in_hand(&self, ask: usize) -> bool {
        self.folders.values().any(|folder| folder.ask == ask && folder.taken && !folder.recorded)
    }

    /// What a restart tells the engine, oldest first; sweeps folders that never got their request.
    pub fn restart(&mut self, asks: &[Ask]) -> Vec<Found> {
        self.folders.retain(|_, folder| folder.taken);
        for folder in self.folders.values_mut() {
            if folder.state == State::Running {
                folder.lost.insert(folder.attempt);
            }
        }
        let mut left: Vec<_> = self.folders.iter().filter(|(_, folder)| !folder.recorded).collect();
        left.sort_by_key(|(id, folder)| (folder.queued_at, **id));
        left.iter().map(|(id, folder)| self.found(**id, folder, asks)).collect()
    }

    fn found(&self, id: RunId, folder: &Folder, asks: &[Ask]) -> Found {
        let ask = &asks[folder.ask];
        let order = Box::new(order(id, ask, folder.queued_at));
        let run: RunRef = order.run_ref();
        let attempt = folder.attempt;
        let before = if folder.state == State::Running { attempt } else { attempt + 1 };
        let (failures, crashes) = self.counted(id, before);
        let prior = match (&folder.verdict, &folder.settled, folder.state) {
            (Some(_), ..) => Prior::Final,
            (None, Some(verdict), _) => Prior::Settled { verdict: Box::new(verdict.clone()) },
            (None, None, State::Running) => Prior::Running { order, attempt, failures, crashes },
            _ => Prior::Queued { order, attempt, failures, crashes },
        };
        Found { run, prior }
    }

    /// Attempts below `before` that ended badly, and that were lost, as the journal has them.
    fn counted(&self, id: RunId, before: u32) -> (u32, u32) {
        let mine = self.journal.iter().filter(|(run, attempt, _)| *run == id && *attempt < before);
        let last: BTreeMap<u32, &str> = mine.map(|(_, attempt, why)| (*attempt, why.as_str())).collect();
        let crashes = last.values().filter(|why| **why == CRASHED).count();
        let stopped = last.values().filter(|why| [STOPPED, NOT_BEGUN].contains(why)).count();
        let number = |n: usize| u32::try_from(n).unwrap();
        (number(last.len() - crashes - stopped), number(crashes))
    }
}

/// The order that the shell makes of a request.
pub fn order(id: RunId, ask: &Ask, queued_at: Time) -> Order {
    Order {
        id,
        name: ask.name.clone(),
        kind: "work".parse().unwrap(),
        resource: format!("r{}", ask.resource).parse().unwrap(),
        priority: ask.priority,
        queued_at,
        expires_at: ask.expires_at,
        max_queue_age: ask.max_queue_age,
        retry: ask.retry.clone(),
        rerun: ask.rerun,
    }
}
