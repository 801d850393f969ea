//! What is said about a command line that is not understood, and about `--help` and `--version`: for people and as JSON.

use std::ffi::OsString;
use std::io::Write as _;

use clap::error::ErrorKind;

use crate::cli::{Exit, Failure};
use crate::diagnostic::Diagnostic;
use crate::text;

/// Shows what clap has to say; the exit code is 2 where that is a mistake.
pub fn tell(error: &clap::Error, args: impl IntoIterator<Item = OsString>) -> Exit {
    let json = wants_json(args);
    if error.use_stderr() {
        return Failure::new(Exit::USAGE, problem(&error.render().to_string())).tell(json);
    }
    if json {
        let document = match error.kind() {
            ErrorKind::DisplayVersion => serde_json::json!({ "version": env!("CARGO_PKG_VERSION") }),
            _ => serde_json::json!({ "help": error.render().to_string() }),
        };
        let _ = writeln!(std::io::stdout().lock(), "{}", text::json(&document.to_string()));
    } else {
        // Nobody is left to tell where that fails.
        let _ = error.print();
    }
    Exit::DONE
}

/// A line that is not understood as a whole may still ask for JSON.
fn wants_json(args: impl IntoIterator<Item = OsString>) -> bool {
    args.into_iter().take_while(|arg| arg != "--").any(|arg| arg == "--json")
}

/// Clap's words in our form: the first paragraph is the message, its tips are help.
fn problem(words: &str) -> Diagnostic {
    let mut paragraphs = words.split("\n\n");
    let first = paragraphs.next().unwrap_or_default();
    let message = first.strip_prefix("error: ").unwrap_or(first).split_whitespace().collect::<Vec<_>>().join(" ");
    let mut problem = Diagnostic::new("E0105", quoted(&message));
    let mut verb: Option<String> = None;
    for paragraph in paragraphs {
        let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(usage) = line.strip_prefix("Usage: ") {
            verb = usage
                .split(' ')
                .nth(1)
                .filter(|word| word.bytes().all(|byte| byte.is_ascii_lowercase()))
                .map(str::to_owned);
            problem = problem.note(format!("it is used as: {usage}"));
        } else if let Some(tips) = line.strip_prefix("tip: ") {
            problem = tips.split(" tip: ").fold(problem, |problem, tip| problem.help(quoted(tip)));
        } else if line.starts_with('[') {
            problem = problem.note(quoted(&line));
        }
    }
    problem.help(match verb {
        Some(verb) => format!("dispatcher {verb} --help     lists its options"),
        None => "dispatcher --help     lists all commands and options".to_owned(),
    })
}

/// Values in backquotes, as everywhere else; an apostrophe within a word is none.
fn quoted(words: &str) -> String {
    let mut out = String::with_capacity(words.len());
    let mut inside = false;
    for (at, c) in words.char_indices() {
        let before = words[..at].chars().next_back();
        if c == '\'' && (inside || before.is_none_or(|c| !c.is_alphanumeric())) {
            inside = !inside;
            out.push('`');
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Args;

    #[test]
    fn mistakes_are_said_in_our_form() {
        for (args, message, tip) in [
            (&["frobnicate"][..], "unrecognized subcommand `frobnicate`", "lists all commands"),
            (&["statsu"], "unrecognized subcommand `statsu`", "similar subcommand exists: `status`"),
            (&["wait"], "the following required arguments were not provided: <RUN>...", "dispatcher wait --help"),
            (&["list", "--limt", "3"], "unexpected argument `--limt` found", "`--limit`"),
            (&["list", "-n", "x"], "invalid value `x` for `--limit <N>`: invalid digit found in string", "--help"),
            (
                &["list", "--color", "red"],
                "invalid value `red` for `--color <WHEN>` [possible values: auto, always, never]",
                "--help",
            ),
        ] {
            let error = Args::try_parse_from([&["dispatcher"], args].concat()).unwrap_err();
            let problem = problem(&error.render().to_string());
            assert_eq!((problem.code, problem.message.as_str()), ("E0105", message), "{args:?}");
            assert!(problem.help.iter().any(|help| help.contains(tip)), "{args:?}: {:?}", problem.help);
        }
    }

    #[test]
    fn json_is_asked_for_anywhere_before_the_dashes() {
        for (args, wants) in
            [(&["x", "--json"][..], true), (&["--json"], true), (&["--", "--json"], false), (&["x"], false)]
        {
            assert_eq!(wants_json(args.iter().map(OsString::from)), wants, "{args:?}");
        }
    }
}
