//! The state machine of every run. Pure: no clock, file, thread or process; time and chance come in from outside.
//!
//! ```text
//!            ┌────────────── between attempts, after a crash, after a stop ──────────────┐
//!            ▼                                                                           │
//! Taken ─▶ queued ─▶ waiting (for the lock) ─▶ running ─▶ final ─▶ recorded (committed) ─▶ forgotten
//!            │                                    │         ▲
//!            └─ expired, cancelled, withdrawn ────┴─────────┘
//! ```
//!
//! `Engine::handle(now, Input) -> Vec<Effect>`: the shell performs the effects in their order and reports every result
//! as a new input. A crash may come between any two effects; what a restart finds comes in as [`Found`].

mod archive;
mod core;
mod effect;
mod git;
mod input;
mod life;
mod order;
mod snapshot;
mod stop;
#[cfg(test)]
mod tests;

pub use core::{Engine, Settings};
pub use effect::{Effect, ExitCode, How, Verdict};
pub use input::{
    ArchiveReport, CommitReport, Ended, FetchReport, Found, Input, Now, Prior, PushReport, TakeReport, Withdrawal,
};
pub use life::{CRASHED, NOT_BEGUN, STOPPED};
pub use order::Order;
pub use snapshot::{GitView, RunView, Snapshot, TroubleView};
