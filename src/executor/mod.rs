//! The pool of named worker threads that carry attempts out, one at a time each: work folder, supervisor, output,
//! progress, result. Decides nothing about retries, states or locks that are busy: it says how an attempt ended.

mod attempt;
mod outcome;
mod pool;

pub use outcome::{Ended, Finished, Outcome};
pub use pool::{Executor, How, Setup, Sink, SubmitError};
