//! Exit codes, all of them (CONTRACT section 8).

use crate::status::State;

/// What the process exits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    /// Done.
    pub const DONE: Self = Self(0);
    /// A run failed, a golden case differs, `selftest` found something.
    pub const FAILED: Self = Self(1);
    /// The command line was not understood.
    pub const USAGE: Self = Self(2);
    /// The run was cancelled.
    pub const CANCELLED: Self = Self(3);
    /// The run hit its time box.
    pub const TIMED_OUT: Self = Self(4);
    /// The run was lost in a crash.
    pub const CRASHED: Self = Self(5);
    /// Bad data.
    pub const BAD_DATA: Self = Self(65);
    /// No such file or run.
    pub const NO_INPUT: Self = Self(66);
    /// Daemon or remote not reachable.
    pub const UNAVAILABLE: Self = Self(69);
    /// Our own mistake.
    pub const BUG: Self = Self(70);
    /// The target exists.
    pub const EXISTS: Self = Self(73);
    /// Input or output failed.
    pub const IO: Self = Self(74);
    /// Try later.
    pub const TRY_LATER: Self = Self(75);
    /// The other side speaks another version.
    pub const VERSIONS: Self = Self(76);
    /// Not permitted.
    pub const NOT_PERMITTED: Self = Self(77);
    /// Configuration.
    pub const CONFIG: Self = Self(78);
    /// `--timeout` was reached.
    pub const WAITED: Self = Self(124);

    /// For following a run: what its end means for the one who waited.
    #[must_use]
    pub fn of_run(state: State, rc: Option<i32>) -> Self {
        match state {
            State::Succeeded | State::Duplicate => Self::DONE,
            State::Failed | State::OutOfMemory | State::Queued | State::Waiting | State::Running => Self::FAILED,
            State::Cancelled => Self::CANCELLED,
            State::TimedOut => Self::TIMED_OUT,
            State::Crashed => Self::CRASHED,
            State::Expired => Self::TRY_LATER,
            State::Rejected => rc.and_then(|rc| u8::try_from(rc).ok()).map_or(Self::BAD_DATA, Self),
        }
    }

    /// The code of the contract for a number that came over the control socket.
    #[must_use]
    pub fn from_code(code: i32) -> Self {
        u8::try_from(code).map_or(Self::BUG, Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_followed_run_decides_the_exit_code() {
        for (state, rc, exit) in [
            (State::Succeeded, 0, 0),
            (State::Failed, 3, 1),
            (State::OutOfMemory, 137, 1),
            (State::Cancelled, 130, 3),
            (State::TimedOut, 124, 4),
            (State::Crashed, 70, 5),
            (State::Rejected, 64, 64),
            (State::Rejected, 65, 65),
            (State::Rejected, 78, 78),
            (State::Expired, 75, 75),
            (State::Duplicate, 0, 0),
        ] {
            assert_eq!(Exit::of_run(state, Some(rc)), Exit(exit), "{}", state.word());
        }
    }
}
