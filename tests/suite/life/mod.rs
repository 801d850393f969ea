//! The life of a request from a person's `git push` to their `git pull`, and everything that people do meanwhile.

mod archive;
mod git;
mod queue;
mod secrets;
mod signals;
mod table;
mod take;
mod verbs;
mod walls;
