//! The control socket: one JSON line each way, and for a viewer every event as a line of its own.
//!
//! Owns the socket file, the connections and their deadlines; refuses to decide anything: a command goes to the daemon's
//! channel and its answer comes back. Who may connect may command: the socket's mode (0660) is the permission.

mod client;
mod server;
#[cfg(test)]
mod tests;
mod viewers;
mod wire;

pub use client::{AskError, Client, ConnectError, News, Refused, Watcher};
pub use server::{BindError, Call, Server};
pub use viewers::{Notice, Viewers};
