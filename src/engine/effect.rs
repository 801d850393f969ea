//! Everything that the engine can want done.

use std::ffi::OsString;
use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::event::Event;
use crate::request::RunId;
use crate::status::State;

/// Do this. Performed in order; results come back as inputs.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Look at a file in the inbox and take it where it is due.
    Take(OsString),
    /// Carry out one attempt.
    Start {
        /// The run.
        id: RunId,
        /// Counts from 1 over all lives.
        attempt: u32,
        /// How long it stood in the queue.
        waited: Duration,
    },
    /// Tell the whole tree of a run to end.
    Terminate {
        /// The run.
        id: RunId,
        /// How firmly.
        how: How,
    },
    /// Write a status that is not final.
    Mark {
        /// The run.
        id: RunId,
        /// `queued` or `waiting`.
        state: State,
        /// Begun so far.
        attempt: u32,
    },
    /// Write the final status and the log's last line.
    Conclude {
        /// The run.
        id: RunId,
        /// How it ended.
        verdict: Box<Verdict>,
    },
    /// Record these runs in git, durably.
    Commit(Vec<RunId>),
    /// These are final: tell everybody who waits.
    Announce {
        /// These.
        ids: Vec<RunId>,
        /// Recorded by this commit.
        commit: String,
    },
    /// Ask the remote, and bring the branch up to date.
    Fetch,
    /// Bring the remote up to date.
    Push,
    /// One step of moving old runs from the branch to the archive.
    Archive {
        /// So many, the newest, stay.
        keep: usize,
        /// Fewer are not moved.
        least: usize,
        /// More are not moved at once.
        most: usize,
    },
    /// Bring the remote's archive up to date.
    PushArchive,
    /// Offer everything that lies in the inbox.
    Scan,
    /// Write to the event streams.
    Emit(Event),
    /// Remember over restarts that no new work may begin, or that it may.
    KeepPause(Option<String>),
    /// Everything is done.
    Exit(ExitCode),
}

/// How firmly a run is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// TERM, and KILL after the handler's grace.
    Gracefully,
    /// KILL.
    AtOnce,
}

/// How the dispatcher ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// 0
    Done,
    /// 75: something is kept locally, or nothing was to be done because of a pause.
    TryLater,
}

/// A final status, as far as the engine decides it. The shell adds usage, result and sandbox of the last attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// A final one.
    pub state: State,
    /// As the contract says for the state.
    pub rc: i32,
    /// That ended the handler.
    pub signal: Option<i32>,
    /// Who and why.
    pub reason: Option<String>,
    /// What is wrong; the first one speaks for all.
    pub problems: Vec<Diagnostic>,
    /// Begun over all lives.
    pub attempt: u32,
}

impl Verdict {
    /// A verdict without anything to add.
    #[must_use]
    pub const fn plain(state: State, rc: i32, attempt: u32) -> Self {
        Self { state, rc, signal: None, reason: None, problems: Vec::new(), attempt }
    }

    /// Says who and why.
    #[must_use]
    pub fn because(mut self, reason: impl Into<String>) -> Self {
        self.reason = Some(reason.into());
        self
    }
}
