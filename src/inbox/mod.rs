//! What lies in `requests/`: inotify hints, the scan that is the truth, quiet time.
//!
//! Owns the decision *when* a file is offered; refuses to open, move or read one (that is `runs`), and to follow links.
//!
//! ```text
//!            create, modify                     close-write, rename-in
//! (unseen) ────────────────▶ Writing ─────────────────────────────────▶ Ready ──▶ Told
//!    │                          │ nothing for `hold`, or hints were lost   ▲        │ changed, or forgotten
//!    │ found by a scan          ▼                                          │        ▼
//!    └─────────────────────▶ Settling ──── unchanged for `quiet` ──────────┘    (from the start)
//! ```

mod judge;
mod shelf;
#[cfg(test)]
mod tests;
mod watch;
mod watcher;

pub use judge::{MAX_REQUEST, Odd, Stamp, is_request};
pub use watch::{Inbox, Notice, Settings, StartError};
