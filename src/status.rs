//! `processed/<id>/status.json`: how a run stands or ended. Owns the format (CONTRACT section 3) and the one list of
//! states with what follows from each.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::request::{Kind, Resource, RunId};
use crate::text;
use crate::time::Time;

/// How a run stands or ended.
///
/// ```text
/// queued ──▶ waiting ──▶ running ──▶ succeeded | failed | timed_out | out_of_memory | cancelled | crashed
///   ▲  └──────────────────▲  └─▶ queued (between attempts)
///   └─ taken                        rejected | expired | duplicate: never ran
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Taken, or between two attempts.
    Queued,
    /// For its resource's lock.
    Waiting,
    /// The handler may have been started.
    Running,
    /// Exit 0.
    Succeeded,
    /// Any other exit, or a signal.
    Failed,
    /// The time box; the whole tree is gone.
    TimedOut,
    /// The memory box.
    OutOfMemory,
    /// By a person or a stop.
    Cancelled,
    /// Never ran: not understood.
    Rejected,
    /// Never ran: too late.
    Expired,
    /// Never ran: a known id with the same bytes.
    Duplicate,
    /// The dispatcher or the machine died during the run, and it is not rerun.
    Crashed,
}

impl State {
    /// All states, in the order of the contract.
    pub const ALL: [Self; 12] = [
        Self::Queued,
        Self::Waiting,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::TimedOut,
        Self::OutOfMemory,
        Self::Cancelled,
        Self::Rejected,
        Self::Expired,
        Self::Duplicate,
        Self::Crashed,
    ];

    /// Written once and never changed.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Waiting | Self::Running)
    }

    /// The word in files, on the command line and on the screen.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::OutOfMemory => "out_of_memory",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Duplicate => "duplicate",
            Self::Crashed => "crashed",
        }
    }

    /// The glyph beside the word, so that nothing depends on colour.
    #[must_use]
    pub const fn glyph(self) -> &'static str {
        match self {
            Self::Queued => "·",
            Self::Waiting => "L",
            Self::Running => "▸",
            Self::Succeeded => "✓",
            Self::Failed | Self::TimedOut | Self::OutOfMemory | Self::Crashed => "✗",
            Self::Cancelled => "-",
            Self::Rejected | Self::Expired => "⊘",
            Self::Duplicate => "=",
        }
    }
}

/// Who asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestedBy {
    /// Commit author, or the owner of a locally dropped file.
    pub name: Option<String>,
    /// Commit author's address.
    pub email: Option<String>,
    /// The commit that gave the file its present bytes.
    pub commit: Option<String>,
    /// Reserved for signed requests.
    pub signer: Option<String>,
}

/// Which executable ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandlerUsed {
    /// Its name in `handlers/`.
    pub file: String,
    /// Of its bytes, in hex.
    pub sha256: String,
    /// An edited or untracked working file.
    pub dirty: bool,
}

/// What held the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxUsed {
    /// The user that the handler ran as.
    pub user: String,
    /// An own cgroup v2 leaf.
    pub cgroup: bool,
    /// A Landlock domain.
    pub landlock: bool,
    /// `host` or `none`.
    pub network: String,
    /// A seccomp filter.
    pub seccomp: bool,
}

/// What the run used, over all attempts for the output, of the last attempt for the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// User and system time of the whole tree.
    pub cpu_ms: u64,
    /// Largest resident size seen.
    pub max_rss_bytes: u64,
    /// Written by the handler to stdout and stderr.
    pub output_bytes: u64,
    /// Left out of the log because of `log_limit`.
    pub output_dropped_bytes: u64,
    /// Processes that outlived the leader and were killed.
    pub leaked_processes: u64,
}

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Relative to the repository.
    pub file: Option<String>,
    /// 1-based.
    pub line: Option<usize>,
    /// 1-based, in characters.
    pub col: Option<usize>,
    /// JSON pointer of the value.
    pub pointer: Option<String>,
    /// What is wrong.
    pub message: String,
}

/// Why a run did not do what was asked, where it is not the handler's own exit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusError {
    /// Stable code, `E0302`.
    pub code: String,
    /// Complete on its own.
    pub message: String,
    /// All of them at once.
    pub problems: Vec<Problem>,
}

/// The whole of `status.json`, keys in this order, absent values `null`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// Of the format: 1.
    pub version: u32,
    /// The run.
    pub id: RunId,
    /// The request's file name.
    pub request: String,
    /// Absent where the request could not be read that far.
    pub kind: Option<Kind>,
    /// Absent where it never got one.
    pub resource: Option<Resource>,
    /// How it stands.
    pub status: State,
    /// Absent until it is final.
    pub rc: Option<i32>,
    /// That ended the handler.
    pub signal: Option<i32>,
    /// Free text: who cancelled and why, what it is a duplicate of.
    pub reason: Option<String>,
    /// The newest one; 0 where it never ran.
    pub attempt: u32,
    /// When it was taken.
    pub queued_at: Time,
    /// Of the newest attempt.
    pub started_at: Option<Time>,
    /// Set with the final state.
    pub finished_at: Option<Time>,
    /// From the start of the newest attempt to its end, on the monotonic clock.
    pub duration_ms: Option<u64>,
    /// The machine that ran it.
    pub host: String,
    /// Who asked.
    pub requested_by: RequestedBy,
    /// What ran.
    pub handler: Option<HandlerUsed>,
    /// What the handler left in `$DISPATCH_RESULT`.
    pub result: Option<Value>,
    /// Why not.
    pub error: Option<StatusError>,
    /// What held it.
    pub sandbox: Option<SandboxUsed>,
    /// What it used.
    pub usage: Option<Usage>,
    /// Path of the human log, relative to the repository, at finish.
    pub log: Option<String>,
    /// Files held back from the commit because a secret was found in them.
    pub withheld: Vec<String>,
}

impl Status {
    /// A run that was just taken.
    #[must_use]
    pub fn taken(id: RunId, request: String, queued_at: Time, host: String, requested_by: RequestedBy) -> Self {
        Self {
            version: 1,
            id,
            request,
            kind: None,
            resource: None,
            status: State::Queued,
            rc: None,
            signal: None,
            reason: None,
            attempt: 0,
            queued_at,
            started_at: None,
            finished_at: None,
            duration_ms: None,
            host,
            requested_by,
            handler: None,
            result: None,
            error: None,
            sandbox: None,
            usage: None,
            log: None,
            withheld: Vec::new(),
        }
    }

    /// The bytes of the file: indented JSON and a newline, safe to show: `git show` writes it to a terminal.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let json = serde_json::to_string_pretty(self).unwrap_or_default();
        (text::json(&json) + "\n").into_bytes()
    }

    /// How long the newest attempt took.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        self.duration_ms.map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_the_contract() {
        let id = RunId::new(Time::from_millis(0), [1; 10]);
        let status = Status::taken(id, "a.yml".into(), Time::from_millis(0), "ops-1".into(), RequestedBy::default());
        let text = String::from_utf8(status.to_bytes()).unwrap();
        let keys: Vec<&str> =
            text.lines().filter(|l| l.starts_with("  \"")).filter_map(|l| l.split('"').nth(1)).collect();
        assert_eq!(
            keys.join(" "),
            "version id request kind resource status rc signal reason attempt queued_at started_at finished_at \
             duration_ms host requested_by handler result error sandbox usage log withheld"
        );
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    }

    #[test]
    fn words_are_those_of_the_files() {
        for state in State::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.word());
        }
    }
}
