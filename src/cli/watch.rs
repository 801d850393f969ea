//! `watch`: the dashboard of a running daemon, or of the files alone.

use std::io::IsTerminal as _;

use crate::cli::context::Context;
use crate::cli::{Exit, Failure, ask};
use crate::command::Command;
use crate::daemon;
use crate::dashboard::{self, Ended, Options, Source};
use crate::diagnostic::Diagnostic;

/// `watch`.
///
/// # Errors
/// 2 without a terminal, 76 where the daemon is of another version, 77 where it may not be asked.
pub fn watch(context: &Context, offline: bool) -> Result<Exit, Failure> {
    let root = context.root()?;
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        let problem = Diagnostic::new("E0105", "`watch` needs a terminal")
            .help("dispatcher status     says how everything stands; dispatcher logs -f     follows a run");
        return Err(Failure::new(Exit::USAGE, problem));
    }
    let socket = if offline { None } else { Some(ask::socket(context, &root)?) };
    // Asked once before the screen is taken: another version, or no permission, is said where it can be read.
    if socket.is_some()
        && let Some(mut client) = ask::connect(context, &root)?
    {
        ask::ask(&mut client, Command::Status, Some(ask::PATIENCE))?;
    }
    let source = Source { root, socket, clock: daemon::wall };
    let options = Options { source, colour: context.colors, ascii: context.common.plain || !is_utf8() };
    match dashboard::open(&options).map_err(|error| Failure::io("use the terminal", &error))? {
        Ended::Left => Ok(Exit::DONE),
    }
}

/// The terminal's characters are UTF-8, as far as the environment says.
fn is_utf8() -> bool {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"];
    let set = names.iter().find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    set.is_some_and(|value| value.to_ascii_uppercase().replace('-', "").contains("UTF8"))
}
