//! The dashboard: shows on a terminal what the daemon and its runs do, live over the control socket or from the files of
//! a checkout alone.
//!
//! ```text
//! control socket ─▶ feed ──┐                                     ┌─▶ view::render(&Model, &View, frame)
//! files ──────────▶ feed ──┼─▶ loop ─▶ Model::apply(&Entry) ─────┤
//! terminal ───────▶ input ─┘    └───▶ View::act(Action) ─────────┘   logs and events of the shown run: pread
//! ```
//!
//! It is always a client of the daemon, also where both are in one process, and never holds it up. What it shows is a fold
//! over events; the same fold works over files. It acts only by sending commands to the control socket.

mod ansi;
mod app;
mod feed;
mod keys;
mod log_file;
mod model;
mod panes;
mod terminal;
#[cfg(test)]
mod tests;
mod theme;
mod view;

pub use feed::Source;
pub use terminal::{Ended, Options, open};
