//! One file per verb; exit codes in one place.

mod args;
mod context;
mod exit;
mod failure;
mod find;
mod list;

pub use args::{Args, Color, Common, Verb};
pub use exit::Exit;
pub use failure::Failure;
