//! What the engine must know of an accepted run, and nothing more.

use std::ffi::OsString;
use std::time::Duration;

use crate::event::RunRef;
use crate::request::{Kind, Resource, RunId};
use crate::router::Retry;
use crate::time::Time;

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
    /// When it is tried again.
    pub retry: Retry,
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
}
