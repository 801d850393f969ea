//! One run as a row shows it. Small, because there may be a hundred thousand.

use std::sync::Arc;

use crate::request::RunId;
use crate::status::{State, Status};
use crate::time::Time;

/// What a handler last said about its progress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Its words.
    pub text: Box<str>,
    /// Steps done and steps in all, where it said so.
    pub of: Option<(u64, u64)>,
}

/// What is known only of a run that is not final.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Higher goes first.
    pub priority: i8,
    /// Who holds the lock that it waits for; `None` where that is another program.
    pub held_by: Option<RunId>,
    /// Since when it holds its own.
    pub lock_since: Option<Time>,
    /// How long it waited for it, in milliseconds.
    pub waited_ms: Option<u64>,
    /// Of an attempt, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// The next attempt may begin then.
    pub next_at: Option<Time>,
    /// Who told it to end.
    pub cancelling: Option<Box<str>>,
    /// The newest step.
    pub step: Step,
    /// What the daemon said why it does not run.
    pub why: Option<Box<str>>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Which.
    pub id: RunId,
    /// Its file's name.
    pub request: Box<str>,
    /// What is asked for, where it is known.
    pub kind: Option<Arc<str>>,
    /// Whose lock it takes, where it is known.
    pub resource: Option<Arc<str>>,
    /// Who asked.
    pub by: Option<Arc<str>>,
    /// Why, or how it came to its end.
    pub reason: Option<Box<str>>,
    /// How it stands.
    pub state: State,
    /// What it exits with, once it is final.
    pub rc: Option<i32>,
    /// That ended it.
    pub signal: Option<u8>,
    /// The newest one.
    pub attempt: u16,
    /// What is wrong with the request.
    pub problems: u16,
    /// When it was taken.
    pub queued_at: Time,
    /// When its newest attempt began.
    pub started_at: Option<Time>,
    /// When it became final.
    pub finished_at: Option<Time>,
    /// Of the newest attempt, in milliseconds.
    pub duration_ms: Option<u32>,
    /// Only while it is not final.
    pub live: Option<Box<Live>>,
}

impl Run {
    /// A run of which no more is known than that it was taken.
    #[must_use]
    pub fn taken(id: RunId, request: &str, at: Time) -> Self {
        Self {
            id,
            request: request.into(),
            kind: None,
            resource: None,
            by: None,
            reason: None,
            state: State::Queued,
            rc: None,
            signal: None,
            attempt: 0,
            problems: 0,
            queued_at: at,
            started_at: None,
            finished_at: None,
            duration_ms: None,
            live: None,
        }
    }

    /// What is known of it while it is not final.
    pub fn live(&mut self) -> &mut Live {
        self.live.get_or_insert_default()
    }

    /// Takes over what its status says; `word` keeps one copy of words that many runs share.
    pub fn absorb(&mut self, status: &Status, mut word: impl FnMut(&str) -> Arc<str>) {
        self.kind = status.kind.as_ref().map(|kind| word(kind.as_str()));
        self.resource = status.resource.as_ref().map(|resource| word(resource.as_str()));
        self.by = status.requested_by.name.as_deref().map(&mut word);
        self.reason = status.reason.as_deref().map(Into::into);
        self.state = status.status;
        self.rc = status.rc;
        self.signal = status.signal.and_then(|signal| u8::try_from(signal).ok());
        self.attempt = u16::try_from(status.attempt).unwrap_or(u16::MAX);
        let problems = status.error.as_ref().map_or(0, |error| error.problems.len().max(1));
        self.problems = u16::try_from(problems).unwrap_or(u16::MAX);
        self.queued_at = status.queued_at;
        self.started_at = status.started_at;
        self.finished_at = status.finished_at;
        self.duration_ms = status.duration_ms.map(|ms| u32::try_from(ms).unwrap_or(u32::MAX));
        if self.state.is_final() {
            self.live = None;
        }
    }
}
