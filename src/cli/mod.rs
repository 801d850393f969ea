//! One file per verb; exit codes in one place.

mod args;
mod ask;
mod context;
mod demo;
mod exit;
mod failure;
mod find;
mod follow;
mod fsck;
mod init;
mod list;
mod replay;
mod scratch;
mod selftest;
mod serve;
mod submit;
mod tail;
mod usage;
mod validate;
mod watch;

use clap::Parser as _;

pub use args::{Args, Color, Common, Verb};
pub use context::Context;
pub use exit::Exit;
pub use failure::Failure;

/// The whole program, but for the launcher: reads the command line, does what it says, says what went wrong.
#[must_use]
pub fn main() -> Exit {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return usage::tell(&error, std::env::args_os().skip(1)),
    };
    let json = args.common.json;
    match perform(args) {
        Ok(exit) => exit,
        Err(failure) => failure.tell(json),
    }
}

fn perform(args: Args) -> Result<Exit, Failure> {
    let context = Context::new(args.common)?;
    if context.common.selftest {
        return selftest::selftest(&context);
    }
    match args.verb {
        None => serve::serve(&context),
        Some(Verb::Watch { offline }) => watch::watch(&context, offline),
        Some(Verb::Status) => ask::status(&context),
        Some(Verb::Submit(args)) => submit::submit(&context, &args),
        Some(Verb::List(args)) => list::list(&context, &args),
        Some(Verb::Show { run }) => list::show(&context, &run),
        Some(Verb::Logs(args)) => follow::logs(&context, &args),
        Some(Verb::Wait { runs, timeout }) => follow::wait(&context, &runs, timeout.as_deref()),
        Some(Verb::Cancel { run, reason }) => ask::cancel(&context, &run, reason),
        Some(Verb::Retry(args)) => submit::retry(&context, &args),
        Some(Verb::Init { dir }) => init::init(&context, dir.as_deref()),
        Some(Verb::Validate { files }) => validate::validate(&context, &files),
        Some(Verb::Handlers) => validate::handlers(&context),
        Some(Verb::Schema { kind }) => validate::schema(&context, kind.as_deref()),
        Some(Verb::Pause { reason }) => ask::pause(&context, reason),
        Some(Verb::Resume { accept_remote, keep_local }) => ask::resume(&context, accept_remote, keep_local),
        Some(Verb::Drain) => ask::drain(&context),
        Some(Verb::Fetch) => ask::fetch(&context),
        Some(Verb::Locks) => ask::locks(&context),
        Some(Verb::Fsck) => fsck::fsck(&context),
        Some(Verb::Selftest) => selftest::selftest(&context),
        Some(Verb::Demo { keep }) => demo::demo(&context, keep.as_deref()),
        Some(Verb::Replay { cases, bless }) => replay::replay(&context, &cases, bless),
    }
}
