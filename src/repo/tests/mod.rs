//! The git part against the real `git` and real bare remotes.

mod life;
mod race;
mod world;
