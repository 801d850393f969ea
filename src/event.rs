//! What happened, past tense: the only type that is written to the event streams (CONTRACT section 6).

use serde::{Deserialize, Serialize};

use crate::request::{Kind, Resource, RunId};
use crate::status::State;
use crate::time::Time;

/// One line of `events.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Of the format: 1.
    pub v: u32,
    /// Rises by one per event and goes on over restarts.
    pub seq: u64,
    /// When it was written.
    pub ts: Time,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Which run an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRef {
    /// The run.
    pub id: RunId,
    /// The request's file name.
    pub req: String,
    /// Where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Kind>,
    /// Where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Resource>,
    /// Byte offset in the run's uncut human log at that moment.
    #[serde(default)]
    pub log_off: u64,
}

/// Everything that can happen. Times are in the entry; durations are milliseconds, sizes bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event")]
#[expect(missing_docs, reason = "the names and fields are the contract's own words")]
pub enum Event {
    #[serde(rename = "dispatcher.started")]
    Started { version: String, pid: u32, host: String, workers: usize },
    #[serde(rename = "dispatcher.stopping")]
    Stopping { by: String, running: usize, queued: usize },
    #[serde(rename = "dispatcher.stopped")]
    Stopped { queued: usize, unpushed: usize },
    #[serde(rename = "dispatcher.paused")]
    Paused { by: String, reason: Option<String> },
    #[serde(rename = "dispatcher.resumed")]
    Resumed { by: String },
    #[serde(rename = "dispatcher.draining")]
    Draining { by: String },
    #[serde(rename = "dispatcher.degraded")]
    Degraded { reason: String, detail: String },
    #[serde(rename = "dispatcher.recovered")]
    Recovered { reason: String },
    #[serde(rename = "router.loaded")]
    RouterLoaded { kinds: usize, commit: Option<String> },
    #[serde(rename = "router.broken")]
    RouterBroken { message: String },
    #[serde(rename = "request.accepted")]
    Accepted {
        #[serde(flatten)]
        run: RunRef,
        priority: i8,
        by: Option<String>,
        reason: Option<String>,
        dry_run: bool,
    },
    /// Stays in the inbox until `not_before`; it has no run yet.
    #[serde(rename = "request.scheduled")]
    Scheduled { req: String, kind: Kind, not_before: Time },
    #[serde(rename = "request.rejected")]
    Rejected {
        #[serde(flatten)]
        run: RunRef,
        status: State,
        rc: i32,
        code: String,
        message: String,
        problems: usize,
    },
    #[serde(rename = "request.duplicate")]
    Duplicate {
        #[serde(flatten)]
        run: RunRef,
        status: State,
        rc: i32,
        of: RunId,
    },
    #[serde(rename = "request.expired")]
    Expired {
        #[serde(flatten)]
        run: RunRef,
        status: State,
        rc: i32,
        reason: String,
    },
    /// `held_by` is absent where a stranger's `flock` holds it.
    #[serde(rename = "lock.waiting")]
    LockWaiting {
        #[serde(flatten)]
        run: RunRef,
        held_by: Option<RunId>,
    },
    #[serde(rename = "lock.acquired")]
    LockAcquired {
        #[serde(flatten)]
        run: RunRef,
        waited_ms: u64,
    },
    #[serde(rename = "lock.released")]
    LockReleased {
        #[serde(flatten)]
        run: RunRef,
        held_ms: u64,
    },
    #[serde(rename = "run.started")]
    RunStarted {
        #[serde(flatten)]
        run: RunRef,
        attempt: u32,
        handler: String,
        dirty: bool,
        user: String,
        timeout_ms: u64,
    },
    /// The last line that the handler appended to `$DISPATCH_PROGRESS`.
    #[serde(rename = "run.progress")]
    Progress {
        #[serde(flatten)]
        run: RunRef,
        step: String,
        done: Option<u64>,
        total: Option<u64>,
    },
    /// `bytes` more of the log since the last such event; `log_off` is where they end.
    #[serde(rename = "run.output")]
    Output {
        #[serde(flatten)]
        run: RunRef,
        bytes: u64,
    },
    /// `attempt` has ended so; the next one comes in `delay_ms`.
    #[serde(rename = "run.retrying")]
    Retrying {
        #[serde(flatten)]
        run: RunRef,
        attempt: u32,
        why: String,
        delay_ms: u64,
    },
    #[serde(rename = "run.cancelling")]
    Cancelling {
        #[serde(flatten)]
        run: RunRef,
        by: String,
        reason: Option<String>,
    },
    #[serde(rename = "run.finished")]
    Finished {
        #[serde(flatten)]
        run: RunRef,
        status: State,
        rc: i32,
        signal: Option<i32>,
        attempt: u32,
        duration_ms: Option<u64>,
        reason: Option<String>,
    },
    #[serde(rename = "git.fetched")]
    Fetched { commit: String, commits: usize },
    #[serde(rename = "git.fetch_failed")]
    FetchFailed { message: String },
    #[serde(rename = "git.committed")]
    Committed { commit: String, runs: Vec<RunId> },
    #[serde(rename = "git.pushed")]
    Pushed { commit: String, runs: usize, attempts: u32 },
    #[serde(rename = "git.push_failed")]
    PushFailed { message: String, attempt: u32, retry_ms: Option<u64>, unpushed: usize },
    #[serde(rename = "git.diverged")]
    Diverged { local: String, remote: String, message: String },
}

/// One list of the events that are about a run, for both ways to borrow it.
macro_rules! run_of {
    ($event:ident) => {
        match $event {
            Self::Accepted { run, .. }
            | Self::Rejected { run, .. }
            | Self::Duplicate { run, .. }
            | Self::Expired { run, .. }
            | Self::LockWaiting { run, .. }
            | Self::LockAcquired { run, .. }
            | Self::LockReleased { run, .. }
            | Self::RunStarted { run, .. }
            | Self::Progress { run, .. }
            | Self::Output { run, .. }
            | Self::Retrying { run, .. }
            | Self::Cancelling { run, .. }
            | Self::Finished { run, .. } => Some(run),
            _ => None,
        }
    };
}

impl Event {
    /// The run that this is about.
    #[must_use]
    pub const fn run(&self) -> Option<&RunRef> {
        run_of!(self)
    }

    /// The same, to be completed.
    pub const fn run_mut(&mut self) -> Option<&mut RunRef> {
        run_of!(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_back() {
        let id = RunId::new(Time::from_millis(0), [1; 10]);
        let run = RunRef {
            id,
            req: "a.yml".into(),
            kind: "deploy".parse().ok(),
            resource: "web".parse().ok(),
            log_off: 94_211,
        };
        let event = Event::Finished {
            run,
            status: State::Succeeded,
            rc: 0,
            signal: None,
            attempt: 1,
            duration_ms: Some(12),
            reason: None,
        };
        let entry = Entry { v: 1, seq: 88, ts: Time::from_millis(0), event };
        let text = serde_json::to_string(&entry).unwrap();
        assert!(
            text.starts_with("{\"v\":1,\"seq\":88,\"ts\":\"1970-01-01T00:00:00.000Z\",\"event\":\"run.finished\","),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Entry>(&text).unwrap(), entry);
    }
}
