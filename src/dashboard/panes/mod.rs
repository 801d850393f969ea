//! The panes that show files of a run: its human log and its events. Each keeps what is on the screen, and where that
//! stands in the file; the two scroll together.

mod events;
mod log;

pub use events::{EventLine, EventsPane, Level};
pub use log::{LogPane, LogState};
