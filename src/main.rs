//! The `dispatcher` program.

use std::process::ExitCode;

use dispatcher::{cli, launcher};

fn main() -> ExitCode {
    // Before anything else: the launcher must stay a process of one thread.
    if std::env::args_os().nth(1).is_some_and(|arg| arg == launcher::ENTRY) {
        return launcher::entry();
    }
    ExitCode::from(cli::main().0)
}
