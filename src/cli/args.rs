//! What can be typed. Owns names, options and help texts; what they do is in the verb's own file.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args as ClapArgs, Parser, Subcommand, ValueEnum};

/// Git is the message bus: runs the requests that are committed to (or dropped into) `requests/`.
///
/// Without a command: the daemon, on the repository that it stands in.
#[derive(Debug, Parser)]
#[command(name = "dispatcher", version, disable_help_subcommand = true)]
pub struct Args {
    /// Options that every command knows.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// Options that every command knows.
#[derive(Clone, Debug, Default, ClapArgs)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub struct Common {
    /// Work as if started in DIR
    #[arg(short = 'C', value_name = "DIR", global = true)]
    pub chdir: Option<PathBuf>,
    /// Host configuration [default: $DISPATCHER_CONFIG, /etc/dispatcher/config.yml, built in]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Never open the dashboard: the daemon's progress goes to the terminal as lines
    #[arg(long, global = true)]
    pub no_tui: bool,
    /// Fetch, work until nothing is left to do, publish, exit
    #[arg(long)]
    pub once: bool,
    /// No colours and no glyphs beyond ASCII
    #[arg(long, global = true)]
    pub plain: bool,
    /// When to use colours
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = Color::Auto, global = true)]
    pub color: Color,
    /// Exactly one JSON document on stdout (streams: one per line)
    #[arg(long, global = true)]
    pub json: bool,
    /// Check what this machine and repository can do, then exit
    #[arg(long)]
    pub selftest: bool,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Also into pipes and files.
    Always,
    /// Not at all.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// The dashboard of the running daemon; without one, of the files alone
    #[command(visible_alias = "attach")]
    Watch {
        /// From the files of this checkout alone, read only
        #[arg(long)]
        offline: bool,
    },
    /// How the daemon stands: what runs, waits, is held back, and why
    Status,
    /// Put a request into the inbox: a file, `-` for stdin, or a kind with --set
    Submit(Submit),
    /// Runs, newest first; filters such as `failed`, `kind=deploy`, `resource=web-prod`
    List(List),
    /// One run: its status, request and files
    Show {
        /// An id, 4 or more characters of one, `@`, `@running`, `@failed`, or a request's file name
        run: String,
    },
    /// A run's human log; with --json one `{"line": …}` per line
    Logs(Logs),
    /// Wait until runs are final (committed); with --json one status per line
    Wait {
        /// Which
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<String>,
        /// Give up after this time (exit 124)
        #[arg(long, value_name = "DURATION")]
        timeout: Option<String>,
    },
    /// Stop a run, or take it off the queue
    Cancel {
        /// Which
        run: String,
        /// Why, for the record
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Ask for a finished run again, as a new request
    Retry(Retry),
    /// A scratch repository with every outcome: made, run, and shown
    Demo {
        /// Make it here and keep it
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
    },
    /// Make a repository (or the one in DIR) a dispatch repository
    Init {
        /// Where [default: here]
        dir: Option<PathBuf>,
    },
    /// Check request files as the dispatcher would, without running anything
    Validate {
        /// Files, or `-` for stdin
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Every kind: its handler, resource and limits
    Handlers,
    /// The schema of a kind's params, or of the request itself
    Schema {
        /// A kind
        kind: Option<String>,
    },
    /// Run golden cases in fresh scratch repositories and compare
    Replay {
        /// Folders with `request.yml`, `expected.log`, `expected.status.json`
        #[arg(required = true, value_name = "CASE")]
        cases: Vec<PathBuf>,
        /// Write what came out as what is expected
        #[arg(long)]
        bless: bool,
    },
    /// Begin no new work; lasts over restarts
    Pause {
        /// Why, for those who wonder
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// Begin new work again
    Resume {
        /// Where the remote was rewritten: follow it; what was only here is kept under refs/dispatcher/kept/
        #[arg(long, conflicts_with = "keep_local")]
        accept_remote: bool,
        /// Where the remote was rewritten: replace it by what is here
        #[arg(long)]
        keep_local: bool,
    },
    /// Finish what runs, keep the queue, exit
    Drain,
    /// Look at the remote and the inbox now
    Fetch,
    /// Who holds which resource, and who waits
    Locks,
    /// Check history, refs and local state against what is promised; names every breach (exit 1)
    Fsck,
    /// Check what this machine and repository can do
    Selftest,
}

/// Where a new request comes from.
#[derive(Debug, ClapArgs)]
pub struct Submit {
    /// A file, `-` for stdin, or a kind
    #[arg(value_name = "FILE|-|KIND")]
    pub what: OsString,
    /// The resource, where the kind has no template of its own
    #[arg(short, long, value_name = "RESOURCE")]
    pub resource: Option<String>,
    /// A parameter of the kind; VALUE is read as YAML
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Why, shown everywhere
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Only commit, where no daemon runs
    #[arg(long)]
    pub no_push: bool,
    /// How to go on.
    #[command(flatten)]
    pub follow: Follow,
}

/// What to wait for.
#[derive(Clone, Debug, ClapArgs)]
pub struct Follow {
    /// Wait for the end and exit as the run did
    #[arg(long)]
    pub wait: bool,
    /// Show the log meanwhile
    #[arg(short, long = "follow")]
    pub follow: bool,
}

/// Asking again.
#[derive(Debug, ClapArgs)]
pub struct Retry {
    /// Which
    pub run: String,
    /// Only commit, where no daemon runs
    #[arg(long)]
    pub no_push: bool,
    /// How to go on.
    #[command(flatten)]
    pub follow: Follow,
}

/// Which runs.
#[derive(Debug, ClapArgs)]
pub struct List {
    /// A status, `kind=…`, `resource=…`, `status=…`, `request=…`, or text that any of them contains
    #[arg(value_name = "FILTER")]
    pub filters: Vec<String>,
    /// At most so many (0: all)
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
}

/// Whose log.
#[derive(Debug, ClapArgs)]
pub struct Logs {
    /// Which [default: the newest]
    pub run: Option<String>,
    /// Go on until the run is final
    #[arg(short, long)]
    pub follow: bool,
    /// Exit as the run did
    #[arg(long)]
    pub exit_status: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn no_message_names_a_command_that_is_not_there() {
        let command = Args::command();
        let known: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        let mut left = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
        while let Some(path) = left.pop() {
            if path.is_dir() {
                left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
            for start in ["`dispatcher ", "\"dispatcher "] {
                for (at, _) in text.match_indices(start) {
                    let rest = &text[at + start.len()..];
                    let word: String = rest.chars().take_while(char::is_ascii_lowercase).collect();
                    // Prose goes on with one space, a command with its arguments or with a gap.
                    let is_command = start.starts_with('`') || rest[word.len()..].starts_with("     ");
                    let shown = path.display();
                    assert!(!is_command || word.is_empty() || known.contains(&word.as_str()), "{shown}: `{word}`");
                }
            }
        }
    }
}
