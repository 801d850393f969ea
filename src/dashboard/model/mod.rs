//! What the dashboard knows: the runs and the daemon, as a fold over events. `run` is one run, `runs` all of them in
//! order, `kinds` what they say about the last day, `fold` the model itself.

mod fold;
mod kinds;
mod run;
mod runs;

pub use fold::{Link, Mode, Model, Push, Standing};
pub use run::Run;
pub use runs::Tab;
