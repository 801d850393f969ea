//! Channels, threads, the one loop, performing effects.
//!
//! ```text
//! inbox ──────┐                              ┌──▶ clerk: takes, commits, follows the remote (owns the repository)
//! signals ────┤                              ├──▶ courier: fetches and pushes (a handle of its own)
//! control ────┼─▶ loop ─▶ engine ─▶ shell ───┼──▶ executor: workers ─▶ launcher ─▶ supervisors ─▶ handlers
//! clock ──────┤                              └──▶ scribe: event streams, human log
//! clerk, courier, executor: results come back as inputs
//! ```

mod answers;
mod book;
mod clerk;
mod clock;
mod courier;
mod follow;
mod gate;
mod intake;
mod keeper;
mod library;
mod open;
mod recovery;
mod run;
mod scribe;
mod shell;
mod sink;
mod turn;
mod walls;

pub use clock::{Clock, wall};
pub use intake::{Understood, understand};
pub use library::{Library, LibraryError, Source};
pub use open::{Options, Refused, Reread, find_places, git_settings, host_name, never_made, open_repo};
pub use run::run;
pub use walls::{Part, insist, parts};
