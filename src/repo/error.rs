//! What can fail below every verb: git's database or the disk. Owns the one error that all verbs share; trouble that a
//! verb expects is a value of that verb.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::diagnostic::Diagnostic;
use crate::text;

/// The local repository could not be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to {doing}: {words}")]
pub struct RepoError {
    /// What was tried, `read commit ...`.
    pub doing: String,
    /// Why not, in git's or the system's words, escaped.
    pub words: String,
}

impl RepoError {
    pub(super) fn new(doing: impl Into<String>, words: &str) -> Self {
        Self { doing: doing.into(), words: text::line(words.trim()) }
    }

    /// True where the disk did not say that it has what was written.
    #[must_use]
    pub fn is_unsynced(&self) -> bool {
        // libgit2's words, and ours.
        ["failed to fsync ", "could not fsync ", UNSYNCED].iter().any(|words| self.words.starts_with(words))
    }

    /// The error as people read it.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        Diagnostic::new("E0509", self.to_string())
            .help("git fsck     then look at free space and permissions of the repository")
    }
}

/// Begins the words of a sync that failed.
const UNSYNCED: &str = "fsync: ";

/// Makes a file's bytes, or a folder's names, durable.
pub(super) fn sync(file: &File) -> io::Result<()> {
    file.sync_all().map_err(|e| io::Error::new(e.kind(), format!("{UNSYNCED}{e}")))
}

/// Says what was being done when something below failed.
pub(super) trait Doing<T> {
    fn doing(self, what: &str) -> Result<T, RepoError>;
    fn doing_to(self, what: &str, path: &Path) -> Result<T, RepoError>;
}

impl<T> Doing<T> for Result<T, git2::Error> {
    fn doing(self, what: &str) -> Result<T, RepoError> {
        self.map_err(|e| RepoError::new(what, e.message()))
    }

    fn doing_to(self, what: &str, path: &Path) -> Result<T, RepoError> {
        self.map_err(|e| RepoError::new(named(what, path), e.message()))
    }
}

impl<T> Doing<T> for Result<T, io::Error> {
    fn doing(self, what: &str) -> Result<T, RepoError> {
        self.map_err(|e| RepoError::new(what, &e.to_string()))
    }

    fn doing_to(self, what: &str, path: &Path) -> Result<T, RepoError> {
        self.map_err(|e| RepoError::new(named(what, path), &e.to_string()))
    }
}

fn named(what: &str, path: &Path) -> String {
    format!("{what} `{}`", text::line(&path.to_string_lossy()))
}
