//! Event streams and human logs: what happened, as one JSON object per line (`events.jsonl`, `<id>.jsonl`), and what
//! a run said (`<id>.log`), both bounded in size and safe to show on a terminal.
//!
//! ```text
//! handler ─bytes─▶ mask ─▶ RunLog: Cleaner ─▶ logs/<id>.log    head │ one line for what is dropped │ rolling tail
//! Event ─▶ Journal ─┬─▶ logs/events.jsonl (.1 … .keep)
//!                   └─▶ logs/<id>.jsonl
//! ```

mod clean;
mod cut;
mod entries;
mod follow;
mod meter;
mod rotation;
mod run_log;
mod scan;
mod streams;

pub use clean::Cleaner;
pub(crate) use cut::grouped;
pub use cut::{Cut, Found, find_cut, is_own_line};
pub use entries::{Entries, read_entries, recent_entries, runs_without_end, stream_files};
pub use follow::{Followed, LogFollower};
pub use meter::{Latest, OutputMeter};
pub use rotation::{Losses, Rotate, Rotating};
pub use run_log::RunLog;
pub use streams::Journal;
