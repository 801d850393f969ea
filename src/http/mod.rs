//! The HTTP listener: health, readiness and the push hook.
//!
//! Owns the listening socket, its connections and their bounds; refuses to decide anything about the dispatcher: what
//! is asked goes to the main loop over a channel, and its answer comes back. Plain HTTP: where it listens on more than
//! loopback, a proxy with TLS belongs in front.
//!
//! ```text
//! listener ─▶ connection: one request, one deadline ─▶ Site: path, method ─┬─▶ /healthz, /readyz ─▶ main loop
//!                                                                          └─▶ /hooks/push: secret ─▶ main loop
//! ```

mod hook;
mod server;
mod site;
#[cfg(test)]
mod tests;
mod wire;

pub use server::{BindError, Server};
pub use site::{Call, Health, Site};
