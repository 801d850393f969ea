//! The launcher: a small single-threaded process that forks a supervisor per run. It alone may switch users.
//!
//! ```text
//! daemon ──exec itself──▶ launcher ──fork──▶ supervisor ──fork──▶ leader ──gate──▶ exec handler
//!   │ worker ◀────────── control socket, output pipe ──────────▶ │ holds the resource's flock, kills the tree
//! ```
//!
//! A supervisor is the subreaper of its run: whatever the handler starts stays its descendant, so the tree is empty
//! exactly when the kernel says that there is no child left, and only then is the lock let go. When the dispatcher's
//! end of the control socket closes, the supervisor kills the tree. The launcher is the subreaper of the supervisors:
//! it keeps a second handle of every lock, and where a supervisor dies it kills what that one leaves before it lets
//! the lock go. All unsafe code of the crate is in [`sys`](self) and says why it is sound.

mod calls;
mod channel;
mod entry;
mod files;
mod handle;
mod leader;
mod leftovers;
mod namespace;
mod privileges;
mod protocol;
mod supervisor;
mod sys;
mod tree;
mod trouble;
mod walls;

pub use entry::{ENTRY, entry};
pub use handle::{Launcher, SpawnError, StartError, Supervised};
pub use leftovers::sweep;
pub use protocol::{Boxes, Insist, Order, Report, RunSpec, Setup, Stage, User, Walls, Why};
