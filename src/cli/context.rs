//! What every verb starts from: the repository that it works on, and how it speaks to the terminal.

use std::io::{IsTerminal as _, Write};
use std::path::PathBuf;

use ansi_term::{Color as Paint, Style};

use crate::cli::{Color, Common, Exit, Failure};
use crate::daemon;
use crate::diagnostic::Diagnostic;
use crate::status::State;
use crate::text;

/// The options that every verb knows, resolved.
#[derive(Clone, Debug)]
pub struct Context {
    /// As typed.
    pub common: Common,
    /// Where the command works: `-C`, else here.
    pub dir: PathBuf,
    /// Colours on stdout.
    pub colors: bool,
}

impl Context {
    /// Resolves the options.
    ///
    /// # Errors
    /// 66 where the folder of `-C` cannot be entered.
    pub fn new(common: Common) -> Result<Self, Failure> {
        let dir = common.chdir.clone().unwrap_or_else(|| PathBuf::from("."));
        let dir = dir.canonicalize().map_err(|error| {
            let problem = Diagnostic::new("E0137", format!("failed to enter `{}`: {error}", dir.display()))
                .help("`-C DIR` takes the folder of a repository, or one inside of it");
            Failure::new(Exit::NO_INPUT, problem)
        })?;
        if !dir.is_dir() {
            let problem = Diagnostic::new("E0137", format!("failed to enter `{}`: it is not a folder", dir.display()));
            let parent = dir.parent().unwrap_or(&dir).display().to_string();
            return Err(Failure::new(Exit::NO_INPUT, problem.help(format!("dispatcher -C {parent} …"))));
        }
        // As if started there: other paths on the command line are meant from there too.
        std::env::set_current_dir(&dir).map_err(|error| Failure::io(&format!("enter `{}`", dir.display()), &error))?;
        let wanted = match common.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        };
        Ok(Self { colors: wanted && !common.plain, common, dir })
    }

    /// The dispatch repository around the folder that the command works in.
    ///
    /// # Errors
    /// 78 where there is none.
    pub fn root(&self) -> Result<PathBuf, Failure> {
        let mut ancestors = self.dir.ancestors();
        let Some(root) = ancestors.find(|dir| dir.join(".git").exists()) else {
            let problem = Diagnostic::new("E0503", format!("`{}` is in no git repository", self.dir.display()))
                .help("dispatcher init     makes one, or name another folder: dispatcher -C DIR …");
            return Err(Failure::new(Exit::CONFIG, problem));
        };
        if !root.join("requests").is_dir() && !root.join("handlers").is_dir() {
            return Err(daemon::never_made(root).into());
        }
        Ok(root.to_owned())
    }

    /// Prints to stdout. A reader that went away ends the command quietly.
    ///
    /// # Errors
    /// 74 where stdout cannot be written to.
    pub fn print(&self, text: &str) -> Result<(), Failure> {
        self.write(text.as_bytes())
    }

    /// Writes bytes to stdout, as [`Self::print`] does.
    ///
    /// # Errors
    /// 74 where stdout cannot be written to.
    pub fn write(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::silent(Exit::DONE)),
            Err(error) => Err(Failure::io("write to stdout", &error)),
            Ok(()) => Ok(()),
        }
    }

    /// Says on stderr what does not keep the command from going on. Nobody is left to tell where that fails.
    pub fn warn(&self, warning: &Diagnostic) {
        let line = if self.common.json {
            let warning = serde_json::json!({ "code": warning.code, "message": warning.message });
            text::json(&serde_json::json!({ "warning": warning }).to_string())
        } else {
            format!("warning[{}]: {}", warning.code, text::line(&warning.message))
        };
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }

    /// Prints one JSON document on one line.
    ///
    /// # Errors
    /// As [`Self::print`].
    pub fn print_json(&self, value: &impl serde::Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).map_err(|error| {
            Failure::new(Exit::BUG, Diagnostic::new("E0799", format!("failed to write JSON: {error}")))
        })?;
        self.print(&(text::json(&text) + "\n"))
    }

    /// A state as people read it: glyph and word, in its colour.
    #[must_use]
    pub fn state(&self, state: State, words: &str) -> String {
        let glyph = if self.common.plain { "" } else { state.glyph() };
        let text = format!("{glyph:1} {words}");
        self.paint(style_of(state), &text)
    }

    /// Text in a style, where colours are wanted.
    #[must_use]
    pub fn paint(&self, style: Style, text: &str) -> String {
        if self.colors { style.paint(text).to_string() } else { text.to_owned() }
    }

    /// Text in bold.
    #[must_use]
    pub fn bold(&self, text: &str) -> String {
        self.paint(Style::new().bold(), text)
    }

    /// Text that steps back.
    #[must_use]
    pub fn dim(&self, text: &str) -> String {
        self.paint(Style::new().dimmed(), text)
    }
}

fn style_of(state: State) -> Style {
    match state {
        State::Succeeded => Paint::Green.normal(),
        State::Running => Paint::Cyan.normal(),
        State::Queued | State::Waiting => Paint::Yellow.normal(),
        State::Failed | State::TimedOut | State::OutOfMemory | State::Crashed => Paint::Red.bold(),
        State::Rejected | State::Expired => Paint::Purple.normal(),
        State::Cancelled | State::Duplicate => Style::new().dimmed(),
    }
}
