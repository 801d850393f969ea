//! Why a command could not do what was asked: a diagnostic and an exit code.

use std::io::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::cli::Exit;
use crate::diagnostic::{Diagnostic, Rejection};

/// A command that did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the process exits with.
    pub exit: Exit,
    /// Said in this order; may be empty where the command has said all itself.
    pub problems: Vec<Diagnostic>,
}

impl Failure {
    /// One problem.
    #[must_use]
    pub fn new(exit: Exit, problem: Diagnostic) -> Self {
        Self { exit, problems: vec![problem] }
    }

    /// Everything was said already.
    #[must_use]
    pub const fn silent(exit: Exit) -> Self {
        Self { exit, problems: Vec::new() }
    }

    /// Reading or writing failed (exit 74).
    #[must_use]
    pub fn io(what: &str, error: &std::io::Error) -> Self {
        Self::new(Exit::IO, Diagnostic::new("E0704", format!("failed to {what}: {error}")))
    }

    /// A file that was named on the command line cannot be read (exit 66); `-` is stdin.
    #[must_use]
    pub fn no_input(named: &str, error: &std::io::Error) -> Self {
        let what = if named == "-" { "stdin".to_owned() } else { format!("`{named}`") };
        let problem = Diagnostic::new("E0104", format!("failed to read {what}: {error}"));
        let help = match error.kind() {
            std::io::ErrorKind::NotFound if Path::new(named).is_relative() => {
                "paths are relative to here, or to DIR with `-C DIR`"
            }
            _ => "name a file that holds one request, or `-` for stdin",
        };
        Self::new(Exit::NO_INPUT, problem.help(help))
    }

    /// Bad data (exit 65).
    #[must_use]
    pub fn bad_data(problems: Vec<Diagnostic>) -> Self {
        Self { exit: Exit::BAD_DATA, problems }
    }

    /// The configuration is at fault (exit 78).
    #[must_use]
    pub fn config(problems: Vec<Diagnostic>) -> Self {
        Self { exit: Exit::CONFIG, problems }
    }

    /// As people read it.
    #[must_use]
    pub fn render(&self) -> String {
        self.problems.iter().map(Diagnostic::render).collect()
    }

    /// As programs read it: one JSON object on one line.
    #[must_use]
    pub fn json(&self) -> String {
        let first = self.problems.first();
        let error = serde_json::json!({
            "code": first.map(|problem| problem.code),
            "message": first.map(|problem| problem.message.as_str()),
            "help": first.map_or(&[][..], |problem| &problem.help),
            "problems": self.problems.iter().map(in_full).collect::<Vec<_>>(),
            "exit": self.exit.0,
        });
        crate::text::json(&serde_json::json!({ "error": error }).to_string())
    }

    /// Says it on stderr, unless the command has said all itself. Nobody is left to tell where that fails.
    pub fn tell(&self, json: bool) -> Exit {
        let text = match (self.problems.is_empty(), json) {
            (true, _) => String::new(),
            (false, true) => self.json() + "\n",
            (false, false) => self.render(),
        };
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
        self.exit
    }
}

/// A problem with all that people would see of it.
pub(super) fn in_full(problem: &Diagnostic) -> Value {
    let mut value = serde_json::to_value(problem.problem()).unwrap_or_default();
    value["code"] = problem.code.into();
    value["notes"] = problem.notes.clone().into();
    value["help"] = problem.help.clone().into();
    value
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self { exit: Exit::from_code(rejection.rc), problems: rejection.problems }
    }
}
