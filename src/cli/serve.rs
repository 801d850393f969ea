//! The bare command: the daemon, with lines on the terminal.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cli::context::Context;
use crate::cli::{Exit, Failure};
use crate::config::{Config, Loaded};
use crate::console::Terminal;
use crate::daemon::{self, Options, Refused, Reread};
use crate::engine::ExitCode;

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self { exit: Exit::from_code(refused.exit), problems: refused.problems }
    }
}

/// The host's configuration, which must not lie in the repository.
///
/// # Errors
/// 78 with every problem.
pub fn config(context: &Context, root: &Path) -> Result<Config, Failure> {
    loaded(context, root).map(|loaded| loaded.config)
}

/// The same, with where each value came from.
///
/// # Errors
/// As [`config`].
pub fn loaded(context: &Context, root: &Path) -> Result<Loaded, Failure> {
    let env =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let loaded = Config::load(&[], env, context.common.config.as_deref()).map_err(Failure::config)?;
    loaded.refuse_inside(root).map_err(|problem| Failure::config(vec![problem]))?;
    Ok(loaded)
}

/// The folders of `DISPATCHER_HANDLERS`.
#[must_use]
pub fn handler_folders() -> Vec<PathBuf> {
    let folders = std::env::var_os("DISPATCHER_HANDLERS").unwrap_or_default();
    std::env::split_paths(&folders).filter(|folder| !folder.as_os_str().is_empty()).collect()
}

/// How a daemon on the repository at `root` is started from the command line.
fn options(context: &Context, root: &Path, config: Config) -> Options {
    let colors = context.colors && std::io::stdout().is_terminal() || context.common.color == crate::cli::Color::Always;
    Options {
        dir: root.to_owned(),
        config,
        once: context.common.once,
        terminal: if context.common.json { Terminal::Off } else { Terminal::Stdout },
        colors: colors && !context.common.plain,
        plain: context.common.plain,
        handlers: handler_folders(),
        watch: true,
        places: None,
        reread: Some(Reread(Arc::new({
            let (context, root) = (context.clone(), root.to_owned());
            move || self::config(&context, &root).map_err(|failure| failure.problems)
        }))),
    }
}

/// The daemon.
///
/// # Errors
/// What kept it from starting.
pub fn serve(context: &Context) -> Result<Exit, Failure> {
    let root = context.root()?;
    let loaded = loaded(context, &root)?;
    let unmet = loaded.unmet();
    if !unmet.is_empty() {
        return Err(Failure::config(unmet));
    }
    if let Some(warning) = loaded.idle() {
        context.warn(&warning);
    }
    let (exit, word) = match daemon::run(&options(context, &root, loaded.config))? {
        ExitCode::Done => (Exit::DONE, "done"),
        ExitCode::TryLater => (Exit::TRY_LATER, "try_later"),
    };
    if context.common.json {
        context.print_json(&serde_json::json!({ "ended": word, "exit": exit.0 }))?;
    }
    Ok(exit)
}
