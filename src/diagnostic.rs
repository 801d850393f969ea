//! One problem of an input, and how a person reads it: code, what, place, snippet, help. Owns the form of every error
//! message; who finds the problem fills it in.

mod codes;

use std::fmt::Write as _;

pub use codes::{CODES, Row, known};

use crate::status::{Problem, StatusError};
use crate::text;

/// A stable message code such as `E0302`; [`CODES`] has them all.
pub type Code = &'static str;

/// Where in a file a problem is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as the reader knows it, relative to the repository where it lies in it.
    pub file: String,
    /// 1-based; 0 where the problem has no line of its own (an unreadable file).
    pub line: usize,
    /// 1-based, in characters.
    pub col: usize,
    /// How many characters are underlined; at least 1 where there is a snippet.
    pub len: usize,
    /// The whole source line, where there is one to show.
    pub snippet: Option<String>,
}

/// A problem with all that a person needs to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable code.
    pub code: Code,
    /// What is wrong, complete on its own, with the value in backquotes.
    pub message: String,
    /// Where.
    pub place: Option<Place>,
    /// JSON pointer of the value, where the problem is one of the schema.
    pub pointer: Option<String>,
    /// Stands after the underline.
    pub label: Option<String>,
    /// Facts, one per line.
    pub notes: Vec<String>,
    /// What to type or write next.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// A problem that has no place in a file.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            place: None,
            pointer: None,
            label: None,
            notes: Vec::new(),
            help: Vec::new(),
        }
    }

    /// Says where.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// Adds a fact.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds what to do next.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }

    /// The problem as `status.json` keeps it.
    #[must_use]
    pub fn problem(&self) -> Problem {
        Problem {
            file: self.place.as_ref().map(|p| p.file.clone()),
            line: self.place.as_ref().map(|p| p.line).filter(|&l| l > 0),
            col: self.place.as_ref().map(|p| p.col).filter(|&c| c > 0),
            pointer: self.pointer.clone(),
            message: self.message.clone(),
        }
    }

    /// The whole message as people read it, without colours, every control character escaped; ends with a newline.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = format!("error[{}]: {}\n", self.code, text::line(&self.message));
        let mut margin = 2;
        if let Some(place) = &self.place {
            margin = place.line.to_string().len() + 1;
            let pad = " ".repeat(margin);
            let file = text::line(&place.file);
            match (place.line, &place.snippet) {
                (0, _) => {
                    let _ = writeln!(out, "{pad}--> {file}");
                }
                (line, None) => {
                    let _ = writeln!(out, "{pad}--> {file}:{line}:{}", place.col);
                }
                (line, Some(snippet)) => {
                    let (shown, under) = text::snippet(snippet, place.col, place.len);
                    let label = self.label.as_ref().map_or(String::new(), |l| format!(" {}", text::line(l)));
                    let _ = writeln!(out, "{pad}--> {file}:{line}:{}", place.col);
                    let _ = writeln!(out, "{pad} |\n{line:>margin$} | {shown}\n{pad} | {under}{label}");
                }
            }
        }
        let pad = " ".repeat(margin);
        for note in &self.notes {
            let _ = writeln!(out, "{pad} = note: {}", text::line(note));
        }
        for help in &self.help {
            let _ = writeln!(out, "{pad} = help: {}", text::line(help));
        }
        out
    }
}

/// A request that is not run: every problem of its file, and what its status says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// 64 unknown kind, 65 bad YAML or schema, 78 no schema line, handler missing or not executable.
    pub rc: i32,
    /// At least one.
    pub problems: Vec<Diagnostic>,
}

impl Rejection {
    /// A rejection for one problem.
    #[must_use]
    pub fn one(rc: i32, problem: Diagnostic) -> Self {
        Self { rc, problems: vec![problem] }
    }
}

/// All problems of one file as `status.json` keeps them: the first one speaks for all.
#[must_use]
pub fn status_error(problems: &[Diagnostic]) -> Option<StatusError> {
    let first = problems.first()?;
    Some(StatusError {
        code: first.code.to_owned(),
        message: first.message.clone(),
        problems: problems.iter().map(Diagnostic::problem).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_reads_as_people_expect() {
        let mut problem = Diagnostic::new("E0302", "unknown field `servce` in `params`")
            .at(Place {
                file: "requests/bad.yaml".into(),
                line: 6,
                col: 3,
                len: 6,
                snippet: Some("  servce: \u{1b}[31mnginx".into()),
            })
            .help("did you mean `service`?");
        problem.label = Some("not a field of restart-service".into());
        assert_eq!(
            problem.render(),
            "error[E0302]: unknown field `servce` in `params`\n  --> requests/bad.yaml:6:3\n   |\n 6 |   servce: ^[[31mnginx\n   |   ^^^^^^ not a field of restart-service\n   = help: did you mean `service`?\n"
        );
    }
}
