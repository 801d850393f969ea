//! What must become of an attempt that ended so, said once more and independently of the engine.

use std::time::Duration;

use dispatcher::engine::{Ended, Order, Verdict};
use dispatcher::status::State;

use crate::check::Seen;

/// What must become of a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Expect {
    Final(State),
    /// Back into the queue, with so many attempts begun.
    Again {
        attempt: u32,
        failed: bool,
        /// Least wait; made a moment of the clock by the event that announces it.
        delay: Option<Duration>,
    },
}

/// The rc that the contract gives to a state.
pub fn rc_fits(verdict: &Verdict) -> bool {
    match verdict.state {
        State::Succeeded | State::Duplicate => verdict.rc == 0,
        State::Failed => verdict.rc != 0 && verdict.signal.is_none_or(|signal| verdict.rc == 128 + signal),
        State::TimedOut => verdict.rc == 124,
        State::OutOfMemory => verdict.rc == 137,
        State::Cancelled => verdict.rc == 130,
        State::Rejected => [64, 65, 77, 78].contains(&verdict.rc),
        State::Expired => verdict.rc == 75,
        State::Crashed => verdict.rc == 70,
        State::Queued | State::Waiting | State::Running => false,
    }
}

/// An attempt of which nobody knows how it ended; `crashes` counts it.
pub fn lost(order: &Order, crashes: u32, attempt: u32) -> Expect {
    if !order.rerun || crashes >= 3 {
        Expect::Final(State::Crashed)
    } else {
        Expect::Again { attempt, failed: false, delay: Some(Duration::ZERO) }
    }
}

/// `stopped`: it had been told to end because the dispatcher stops.
pub fn after_end(run: &mut Seen, ended: &Ended, stopped: bool) -> Expect {
    let attempt = run.attempt;
    let Some(order) = run.order.clone() else { return Expect::Final(State::Crashed) };
    let told = matches!(ended, Ended::Exited { terminated: true, .. } | Ended::Signalled { terminated: true, .. });
    let again = |failed, delay| Expect::Again { attempt, failed, delay };
    if run.cancelled && (told || matches!(ended, Ended::LockBusy | Ended::Trouble(_) | Ended::Lost)) {
        return Expect::Final(State::Cancelled);
    }
    if stopped && told {
        return if order.rerun { again(false, None) } else { Expect::Final(State::Cancelled) };
    }
    let (state, rc) = match ended {
        Ended::LockBusy => return Expect::Again { attempt: attempt - 1, failed: false, delay: None },
        Ended::NotStarted(_) if run.failures + run.crashes > 0 => return Expect::Final(State::Failed),
        Ended::NotStarted(_) => return Expect::Final(State::Rejected),
        Ended::Trouble(_) if stopped => return again(false, None),
        Ended::Trouble(_) => {
            let delay = Duration::from_secs(60.min(1 << run.troubles.min(6)));
            run.troubles += 1;
            return again(false, Some(delay));
        }
        Ended::Lost => {
            run.crashes += 1;
            return lost(&order, run.crashes, attempt);
        }
        Ended::Exited { code: 0, .. } => return Expect::Final(State::Succeeded),
        Ended::Exited { code, .. } => (State::Failed, *code),
        Ended::Signalled { signal, .. } => (State::Failed, 128 + signal),
        Ended::TooManyProcesses(_) => (State::Failed, 137),
        Ended::TimedOut => (State::TimedOut, 124),
        Ended::OutOfMemory => (State::OutOfMemory, 137),
    };
    let failures = run.failures + 1;
    if !order.retry.wants(state, rc) || failures >= order.retry.attempts {
        Expect::Final(state)
    } else if run.cancelled {
        Expect::Final(State::Cancelled)
    } else {
        again(true, Some(order.retry.backoff * (1 << (failures - 1).min(4))))
    }
}
