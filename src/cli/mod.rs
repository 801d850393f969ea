//! One file per verb; exit codes in one place.

mod args;
mod exit;

pub use args::{Args, Color, Common, Verb};
pub use exit::Exit;
