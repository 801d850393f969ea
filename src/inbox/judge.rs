//! What one directory entry is to the inbox: a candidate, something to warn of, or nothing. Judges names as bytes and
//! files by `lstat` alone; opens nothing.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::diagnostic::{Diagnostic, Place};
use crate::text;

/// The largest request, in bytes.
pub const MAX_REQUEST: u64 = 1 << 20;

/// What tells whether a file is still the same and unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Device of the inode.
    pub dev: u64,
    /// Number of the inode.
    pub ino: u64,
    /// In bytes.
    pub size: u64,
    /// Last change of the content, in nanoseconds since 1970.
    pub mtime_ns: i128,
    /// Last change of the inode, in nanoseconds since 1970.
    pub ctime_ns: i128,
}

impl Stamp {
    /// The stamp of what `lstat` or `fstat` saw.
    #[must_use]
    pub fn of(meta: &Metadata) -> Self {
        let ns = |secs: i64, part: i64| i128::from(secs) * 1_000_000_000 + i128::from(part);
        Self {
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.size(),
            mtime_ns: ns(meta.mtime(), meta.mtime_nsec()),
            ctime_ns: ns(meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// True where inode, size and content time are the same. A rename changes nothing else but `ctime_ns`.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        Self { ctime_ns: 0, ..*self } == Self { ctime_ns: 0, ..*other }
    }
}

/// Why a file under a request's name cannot be kept as a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Odd {
    /// Never followed.
    Symlink,
    /// More than [`MAX_REQUEST`].
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// It became something else than a regular file after it was offered.
    NotRegular,
    /// The dispatcher may not read it.
    Unreadable,
}

impl Odd {
    /// Why the request under `name` is rejected (rc 65).
    #[must_use]
    pub fn problem(&self, name: &OsStr) -> Diagnostic {
        let (code, what, help) = match self {
            Self::Symlink => ("E0141", "is a symbolic link, which is never followed".into(), "commit the file itself"),
            Self::TooLarge { bytes } => (
                "E0142",
                format!("has {bytes} bytes; a request has at most {MAX_REQUEST}"),
                "put large data elsewhere and name it in `params`",
            ),
            Self::NotRegular => ("E0143", "is not a regular file".into(), "a request is a regular file"),
            Self::Unreadable => {
                ("E0144", "cannot be read by the dispatcher".into(), "give it read permission and drop it again")
            }
        };
        Diagnostic::new(code, format!("`{}` {what}", text::bytes(name.as_bytes()))).at(place(name)).help(help)
    }
}

/// Why an entry is left where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ignored {
    OtherName,
    Folder,
    Submodule,
    Special(&'static str),
}

impl Ignored {
    /// What a person is told, once.
    pub(crate) fn warning(self, name: &OsStr) -> Diagnostic {
        let shown = text::bytes(name.as_bytes());
        let (code, message, help) = match self {
            Self::OtherName => (
                "E0145",
                format!("`requests/{shown}` is ignored: a request's name ends in `.yml` or `.yaml`"),
                "rename it, or move it out of `requests/`",
            ),
            Self::Folder => (
                "E0146",
                format!("the folder `requests/{shown}` is ignored: the inbox is flat"),
                "put its requests directly into `requests/`",
            ),
            Self::Submodule => (
                "E0146",
                format!("the submodule `requests/{shown}` is ignored: the inbox is flat"),
                "put its requests directly into `requests/`",
            ),
            Self::Special(what) => (
                "E0147",
                format!("`requests/{shown}` is a {what} and is left alone"),
                "a request is a regular file; remove it",
            ),
        };
        Diagnostic::new(code, message).at(place(name)).help(help)
    }
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Candidate(Option<Odd>),
    Leave(Ignored),
}

/// What `lstat` saw of an entry that is not ignored silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) stamp: Stamp,
    pub(crate) verdict: Verdict,
    /// A regular file with one name: it can be in the middle of being written after a create.
    pub(crate) writable: bool,
}

/// Looks at `folder/name`; `None` where there is nothing or it is ignored silently.
pub(crate) fn look(folder: &Path, name: &OsStr) -> Option<Look> {
    if is_silent(name.as_bytes()) {
        return None;
    }
    let path = folder.join(name);
    let meta = path.symlink_metadata().ok()?;
    let verdict = judge(name.as_bytes(), &meta, || path.join(".git").symlink_metadata().is_ok());
    // A folder's size and times change with its content; what counts is that it is there.
    let stamp = match verdict {
        Verdict::Candidate(_) => Stamp::of(&meta),
        Verdict::Leave(_) => Stamp { size: 0, mtime_ns: 0, ctime_ns: 0, ..Stamp::of(&meta) },
    };
    Some(Look { stamp, verdict, writable: meta.is_file() && meta.nlink() == 1 })
}

/// Names of editors' and downloaders' temporary files, and hidden ones.
pub(crate) fn is_silent(name: &[u8]) -> bool {
    name.is_empty()
        || name.starts_with(b".")
        || [&b"~"[..], b".tmp", b".part", b".swp"].iter().any(|end| name.ends_with(end))
}

/// True for a name that a request may have.
#[must_use]
pub fn is_request(name: &[u8]) -> bool {
    !is_silent(name) && !name.contains(&b'/') && (name.ends_with(b".yml") || name.ends_with(b".yaml"))
}

fn judge(name: &[u8], meta: &Metadata, is_submodule: impl FnOnce() -> bool) -> Verdict {
    let kind = meta.file_type();
    if kind.is_dir() {
        return Verdict::Leave(if is_submodule() { Ignored::Submodule } else { Ignored::Folder });
    }
    let special = [
        (kind.is_fifo(), "FIFO"),
        (kind.is_socket(), "socket"),
        (kind.is_block_device() || kind.is_char_device(), "device"),
    ];
    if let Some((_, what)) = special.iter().find(|(is, _)| *is) {
        return Verdict::Leave(Ignored::Special(what));
    }
    if !is_request(name) {
        return Verdict::Leave(Ignored::OtherName);
    }
    Verdict::Candidate(if kind.is_symlink() {
        Some(Odd::Symlink)
    } else if meta.size() > MAX_REQUEST {
        Some(Odd::TooLarge { bytes: meta.size() })
    } else {
        None
    })
}

fn place(name: &OsStr) -> Place {
    let file = format!("requests/{}", text::bytes(name.as_bytes()));
    Place { file, line: 0, col: 0, len: 0, snippet: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_and_hidden_names_are_silent() {
        for name in [".a.yml", "a.yml~", "a.yml.tmp", "a.yml.part", ".a.yml.swp", ".gitkeep", ".dispatcher.yml"] {
            assert!(is_silent(name.as_bytes()), "{name}");
        }
        for name in ["a.yml", "README.md", "4913", "#a.yml#", "a.yml.bak"] {
            assert!(!is_silent(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn messages_escape_the_name() {
        let name = OsStr::from_bytes(b"a\x1b[31m\n\xff.yml");
        for text in [Odd::Symlink.problem(name).render(), Ignored::OtherName.warning(name).render()] {
            assert!(text.contains("a^[[31m^J\\xFF.yml") && !text.contains('\u{1b}'), "{text}");
        }
    }
}
