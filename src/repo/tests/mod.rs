//! The git part against the real `git` and real bare remotes.

mod archive;
mod checkout;
mod durable;
mod half;
mod hostile;
mod life;
mod open;
mod race;
mod remote;
mod rewritten;
mod torn;
mod world;
