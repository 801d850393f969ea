//! How everything stands, for `status`, `locks` and whoever else asks. Reads only.

use serde::{Deserialize, Serialize};

use crate::engine::core::Phase;
use crate::engine::stop::Mode;
use crate::engine::{Engine, Now};
use crate::request::{Kind, Resource, RunId};
use crate::status::State;
use crate::time::Time;

/// How everything stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// `working`, `paused`, `draining`.
    pub mode: String,
    /// Who paused it and why.
    pub paused: Option<String>,
    /// What is not as it should be, by its word.
    pub degraded: std::collections::BTreeMap<String, String>,
    /// The same with all that a person needs; those that hold the intake come first.
    #[serde(default)]
    pub troubles: Vec<TroubleView>,
    /// Attempts that may be carried out at once.
    pub workers: usize,
    /// Running ones first, then in the order of the queue.
    pub runs: Vec<RunView>,
    /// Requests that stay in the inbox for now, and until when.
    pub scheduled: Vec<(String, Time)>,
    /// Files in the inbox that are not taken yet.
    pub inbox: usize,
    /// How git stands.
    pub git: GitView,
}

/// A run that is not final.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunView {
    /// The run.
    pub id: RunId,
    /// Its file's name.
    pub request: String,
    /// What is asked for.
    pub kind: Kind,
    /// Whose lock it takes.
    pub resource: Resource,
    /// `queued`, `waiting` or `running`.
    pub status: State,
    /// Begun so far.
    pub attempt: u32,
    /// Higher goes first.
    pub priority: i8,
    /// Since it came into the queue, or since the attempt began.
    pub for_ms: u64,
    /// Why it does not run: `waits for …`, `slots full`, `paused`, `next attempt in …`.
    pub why: Option<String>,
    /// Whose run holds its lock.
    pub held_by: Option<RunId>,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TroubleView {
    /// Its word, as in `degraded`.
    pub reason: String,
    /// What is wrong.
    pub detail: String,
    /// When it began.
    pub since: Time,
    /// What to type, line by line; empty where that depends.
    pub help: Vec<String>,
}

/// How git stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GitView {
    /// There is somewhere to push to.
    pub remote: bool,
    /// Final on disk, not yet committed.
    pub unrecorded: usize,
    /// Committed, not yet on the remote.
    pub unpushed: usize,
    /// `ok`, `pushing`, `backing off`, `given up`.
    pub push: String,
}

impl Engine {
    /// How everything stands at `now`.
    #[must_use]
    pub fn snapshot(&self, now: Now) -> Snapshot {
        let mode = match (&self.mode, &self.pause) {
            (Mode::Stopping { .. }, _) => "draining",
            (Mode::Working, Some(_)) => "paused",
            (Mode::Working, None) => "working",
        };
        let running = self.runs.iter().filter(|(_, run)| matches!(run.phase, Phase::Running { .. }));
        let ids = running.map(|(id, _)| *id).chain(self.queue.iter());
        Snapshot {
            mode: mode.to_owned(),
            paused: self.pause.clone(),
            degraded: self.troubles.iter().map(|(t, plight)| (t.word().to_owned(), plight.detail.clone())).collect(),
            troubles: self
                .troubles
                .iter()
                .map(|(trouble, plight)| TroubleView {
                    reason: trouble.word().to_owned(),
                    detail: plight.detail.clone(),
                    since: plight.since,
                    help: plight.help.clone(),
                })
                .collect(),
            workers: self.settings.workers,
            runs: ids.filter_map(|id| self.view(now, id)).collect(),
            scheduled: self
                .scheduled
                .iter()
                .map(|(name, at)| (crate::text::bytes(name.as_encoded_bytes()), *at))
                .collect(),
            inbox: self.inbox.len() + self.taking.len(),
            git: GitView {
                remote: self.git.has_remote(),
                unrecorded: self.finals.len(),
                unpushed: self.git.unpushed(),
                push: self.git.push_word().to_owned(),
            },
        }
    }

    /// Why no new work is taken, in single words; empty where it is.
    #[must_use]
    pub fn holds(&self) -> Vec<&'static str> {
        let mode = match (&self.mode, &self.pause) {
            (Mode::Stopping { .. }, _) => Some("stopping"),
            (Mode::Working, Some(_)) => Some("paused"),
            (Mode::Working, None) => None,
        };
        // Not even the first look at the remote has been answered.
        let begins = (!self.git.looked()).then_some("starting");
        let troubles = self.troubles.keys().filter(|trouble| trouble.holds_intake()).map(|trouble| trouble.word());
        mode.into_iter().chain(begins).chain(troubles).collect()
    }

    fn view(&self, now: Now, id: RunId) -> Option<RunView> {
        let run = self.runs.get(&id)?;
        let held = self.locks.iter().find(|(resource, holder, _)| **resource == run.order.resource && *holder != id);
        let held_by = held.map(|(_, holder, _)| holder);
        let (status, length, why) = match &run.phase {
            Phase::Running { since, end } => {
                (State::Running, now.mono.saturating_sub(*since), end.as_ref().map(|_| "told to end".to_owned()))
            }
            Phase::Queued { after, waiting } => {
                let why = if let Some(holder) = held_by {
                    format!("waits for {}", holder.short())
                } else if *waiting {
                    "waits for a lock that another program holds".to_owned()
                } else if *after > now.mono {
                    format!("next attempt in {}", crate::quantity::round_duration(*after - now.mono))
                } else if !self.may_start() {
                    "held: no new work begins".to_owned()
                } else {
                    "slots full".to_owned()
                };
                let state = if *waiting { State::Waiting } else { State::Queued };
                (state, run.age(now), Some(why))
            }
        };
        Some(RunView {
            id,
            request: run.order.run_ref().req,
            kind: run.order.kind.clone(),
            resource: run.order.resource.clone(),
            status,
            attempt: run.attempt,
            priority: run.order.priority,
            for_ms: u64::try_from(length.as_millis()).unwrap_or(u64::MAX),
            why,
            held_by,
        })
    }
}
