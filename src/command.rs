//! What a person can ask a running daemon for, and what it answers: one JSON line each way on the control socket.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::request::RunId;

/// Of the socket's protocol. Another version is told so and refused (exit 76).
pub const PROTOCOL: u32 = 1;

/// One request line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// [`PROTOCOL`].
    pub v: u32,
    /// What is wanted.
    #[serde(flatten)]
    pub command: Command,
}

/// What is wanted of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cmd", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// How the daemon, its queue, locks and git stand.
    Status,
    /// Answers once the run is final and committed, or at once where it already is.
    Wait {
        /// The run.
        id: RunId,
    },
    /// Stop a run, or take it off the queue.
    Cancel {
        /// The run.
        id: RunId,
        /// Free text.
        reason: Option<String>,
    },
    /// Take no new work; lasts over restarts.
    Pause {
        /// Free text.
        reason: Option<String>,
    },
    /// Take work again.
    Resume {
        /// Where the remote was rewritten: whose history counts.
        side: Option<Side>,
    },
    /// Finish what runs, keep the queue, exit.
    Drain,
    /// Look at the remote and at the inbox now; answers when both are done.
    Fetch,
    /// How everything stands, with the number of the newest event; then every event, as a line of its own, until the
    /// client hangs up. A client that reads too slowly misses some and is told how many.
    Watch,
}

/// Whose history counts after a remote was rewritten. Both sides as they were stay under `refs/dispatcher/kept/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The remote's.
    AcceptRemote,
    /// Ours: the remote's is replaced by the next push.
    KeepLocal,
}

impl Side {
    /// As it is typed.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::AcceptRemote => "dispatcher resume --accept-remote",
            Self::KeepLocal => "dispatcher resume --keep-local",
        }
    }
}

/// Who asked, from the socket's peer credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Numeric user.
    pub uid: u32,
    /// Its name, or the number.
    pub user: String,
}

/// One answer line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// Done; what was asked for, or what is to be said about it.
    Ok {
        /// [`PROTOCOL`].
        v: u32,
        /// Command by command.
        body: Value,
    },
    /// Not done.
    Error {
        /// [`PROTOCOL`].
        v: u32,
        /// Message code.
        code: String,
        /// Complete on its own.
        message: String,
        /// What to do next.
        help: Vec<String>,
        /// What the command line exits with.
        exit: i32,
    },
}

impl Answer {
    /// Done, with `body`.
    #[must_use]
    pub fn ok(body: Value) -> Self {
        Self::Ok { v: PROTOCOL, body }
    }
}
