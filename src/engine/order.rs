//! What the engine must know of an accepted run, and nothing more.

use std::ffi::OsString;
use std::time::Duration;

use crate::event::RunRef;
use crate::request::{Kind, Resource, RunId};
use crate::status::State;
use crate::time::Time;

/// Which ending of an attempt is worth another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryOn {
    /// This exit code.
    Exit(i32),
    /// Any attempt that would end so.
    State(State),
}

/// An accepted run.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// The run.
    pub id: RunId,
    /// Its file's name in `requests/`, as bytes on disk.
    pub name: OsString,
    /// What is asked for.
    pub kind: Kind,
    /// Whose lock it takes.
    pub resource: Resource,
    /// Higher goes first.
    pub priority: i8,
    /// When it was taken.
    pub queued_at: Time,
    /// Not started for the first time by then: expired.
    pub expires_at: Option<Time>,
    /// Not started for the first time after so long in the queue: expired.
    pub max_queue_age: Option<Duration>,
    /// Attempts that may end badly before the run does; at least 1.
    pub attempts: u32,
    /// The first delay between attempts; doubles up to 16 times itself.
    pub backoff: Duration,
    /// What is worth another attempt.
    pub retry_on: Vec<RetryOn>,
    /// False: never started twice on this machine.
    pub rerun: bool,
}

impl Order {
    /// The run as events name it. The shell fills in `log_off`.
    #[must_use]
    pub fn run_ref(&self) -> RunRef {
        RunRef {
            id: self.id,
            req: crate::text::bytes(self.name.as_encoded_bytes()),
            kind: Some(self.kind.clone()),
            resource: Some(self.resource.clone()),
            log_off: 0,
        }
    }

    /// True where an attempt that ended so is worth another one.
    #[must_use]
    pub fn retries(&self, state: State, rc: i32) -> bool {
        self.retry_on.iter().any(|on| match *on {
            RetryOn::Exit(code) => state == State::Failed && rc == code,
            RetryOn::State(wanted) => wanted == state,
        })
    }
}
