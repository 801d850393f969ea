//! The command line's and the dashboard's side: connects, asks, and says in a person's words why that did not work.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Gid, Group, Uid, User};

use super::viewers::Notice;
use super::wire::{Lines, NoLine};
use crate::command::{Answer, Ask, Command, PROTOCOL};
use crate::diagnostic::Diagnostic;
use crate::event::Entry;

/// Longest answer, in bytes.
const LONGEST: usize = 16 << 20;

/// Nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No daemon listens there (exit 69).
    #[error("no one answers on `{path}`")]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// A daemon may be there, and this user may not ask it (exit 77).
    #[error("no permission for `{path}`")]
    NotPermitted {
        /// The socket, or the folder that hides it.
        path: PathBuf,
        /// Whom it belongs to and who asked.
        why: Box<Refused>,
    },
    /// Anything else (exit 69).
    #[error("failed to connect to `{path}`: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Why the system refused a connection.
#[derive(Debug)]
pub struct Refused {
    /// Owner's name, group's name and mode, where they can be seen.
    pub owned: Option<(String, String, u32)>,
    /// Who asked.
    pub user: String,
    /// And their groups.
    pub groups: Vec<String>,
}

impl ConnectError {
    /// What a person reads (E0701, E0702): `repo` is the repository, `last_seen` what is known of its last daemon, as
    /// [`crate::instance::LastSeen::words`] says it.
    #[must_use]
    pub fn diagnostic(&self, repo: &Path, last_seen: Option<&str>) -> Diagnostic {
        match self {
            Self::NotRunning { path } => {
                let last = last_seen.map_or(String::new(), |words| format!(" ({words})"));
                Diagnostic::new("E0701", format!("dispatcher is not running for {}", repo.display()))
                    .note(format!("no one answers on {}{last}", path.display()))
                    .help("systemctl start dispatcher     or look at old runs without it: dispatcher list")
            }
            Self::NotPermitted { path, why } => {
                let Refused { owned, user, groups } = &**why;
                let diagnostic = Diagnostic::new("E0702", format!("no permission for {}", path.display()));
                let you = format!("you are {user} (groups: {})", groups.join(", "));
                match owned {
                    None => diagnostic.note(you).help("ask as root, or as the dispatcher's user"),
                    Some((owner, group, mode)) => {
                        let note = format!("owned by {owner}:{group} mode {mode:04o}; {you}");
                        let may_join = mode & 0o020 != 0 && group != "root" && !groups.contains(group);
                        diagnostic.note(note).help(if may_join {
                            format!("sudo usermod -aG {group} {user}   then log in again")
                        } else {
                            format!("ask as {owner}: sudo -u {owner} dispatcher …")
                        })
                    }
                }
            }
            Self::Io { .. } => {
                Diagnostic::new("E0701", self.to_string()).help("dispatcher list works without a daemon")
            }
        }
    }

    /// What the program exits with.
    #[must_use]
    pub const fn exit(&self) -> i32 {
        match self {
            Self::NotPermitted { .. } => 77,
            Self::NotRunning { .. } | Self::Io { .. } => 69,
        }
    }
}

/// A question got no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Not within the time (exit 75; `wait --timeout`: 124).
    #[error("the dispatcher did not answer in time")]
    TimedOut,
    /// The daemon ended (exit 69).
    #[error("the dispatcher closed the connection")]
    Closed,
    /// The answer is of another version (exit 76).
    #[error("the dispatcher speaks another protocol than {PROTOCOL}: {0}")]
    Version(String),
    /// Anything else (exit 74).
    #[error("failed to talk to the dispatcher: {0}")]
    Io(#[from] io::Error),
}

impl AskError {
    /// What the program exits with.
    #[must_use]
    pub const fn exit(&self) -> i32 {
        match self {
            Self::TimedOut => 75,
            Self::Closed => 69,
            Self::Version(_) => 76,
            Self::Io(_) => 74,
        }
    }
}

impl From<NoLine> for AskError {
    fn from(none: NoLine) -> Self {
        match none {
            NoLine::Closed => Self::Closed,
            NoLine::TimedOut => Self::TimedOut,
            NoLine::TooLong => Self::Version(format!("an answer of more than {LONGEST} bytes")),
            NoLine::Io(error) => Self::Io(error),
        }
    }
}

/// A connection to a running daemon. After an `AskError` it is of no more use.
pub struct Client {
    lines: Lines,
}

impl Client {
    /// Connects to the daemon's socket.
    ///
    /// # Errors
    /// `ConnectError`, which says what to do.
    pub fn connect(path: &Path) -> Result<Self, ConnectError> {
        match UnixStream::connect(path) {
            Ok(stream) => Ok(Self { lines: Lines::new(stream) }),
            Err(source) => Err(match source.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
                    ConnectError::NotRunning { path: path.to_owned() }
                }
                ErrorKind::PermissionDenied => not_permitted(path),
                _ => ConnectError::Io { path: path.to_owned(), source },
            }),
        }
    }

    /// Asks for `command` and waits for the answer: for ever without a `time`.
    ///
    /// # Errors
    /// `AskError`. That something was not done is an [`Answer`].
    pub fn ask(&mut self, command: Command, time: Option<Duration>) -> Result<Answer, AskError> {
        let line = serde_json::to_vec(&Ask { v: PROTOCOL, command }).map_err(io::Error::from)?;
        let sent = self.lines.send(line, time);
        // A daemon that refuses the connection says why before it closes it.
        let line = match self.lines.next(LONGEST, time) {
            Ok(line) => line,
            Err(none) => return Err(sent.err().unwrap_or(none).into()),
        };
        let answer = serde_json::from_slice(&line).map_err(|e| AskError::Version(e.to_string()))?;
        let (Answer::Ok { v, .. } | Answer::Error { v, .. }) = &answer;
        if *v == PROTOCOL { Ok(answer) } else { Err(AskError::Version(format!("it is {v}"))) }
    }
}

/// What a viewer hears.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// Something happened.
    Event(Box<Entry>),
    /// Something about the watching itself.
    Notice(Notice),
    /// A line of a later version of the daemon.
    Unknown,
}

/// A connection that hears of everything that happens. After an `AskError` other than `TimedOut` it is of no more use.
pub struct Watcher {
    lines: Lines,
}

impl Client {
    /// Asks how everything stands and hears of every event from then on. The answer is the first of the two.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn watch(mut self, time: Option<Duration>) -> Result<(Answer, Watcher), AskError> {
        let answer = self.ask(Command::Watch, time)?;
        Ok((answer, Watcher { lines: self.lines }))
    }
}

impl Watcher {
    /// The next thing that happens: waits for ever without a `time`.
    ///
    /// # Errors
    /// `TimedOut` where nothing happened, `Closed` where the daemon ended or this viewer was too slow.
    pub fn next(&mut self, time: Option<Duration>) -> Result<News, AskError> {
        let line = self.lines.next(LONGEST, time)?;
        Ok(match serde_json::from_slice(&line) {
            Ok(entry) => News::Event(Box::new(entry)),
            Err(_) => serde_json::from_slice(&line).map_or(News::Unknown, News::Notice),
        })
    }
}

fn not_permitted(path: &Path) -> ConnectError {
    // Where the socket cannot even be seen, its folder is what is closed.
    let seen = [Some(path), path.parent()].into_iter().flatten().find_map(|p| Some((p, p.symlink_metadata().ok()?)));
    let owned = seen.as_ref().map(|(_, meta)| (user(meta.uid()), group(meta.gid().into()), meta.mode() & 0o7777));
    let path = seen.map_or(path, |(path, _)| path).to_owned();
    let mut groups: Vec<Gid> = vec![nix::unistd::getegid()];
    groups.extend(nix::unistd::getgroups().unwrap_or_default());
    groups.dedup();
    let groups = groups.into_iter().map(group).collect();
    let why = Refused { owned, user: user(nix::unistd::geteuid().as_raw()), groups };
    ConnectError::NotPermitted { path, why: Box::new(why) }
}

fn user(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

fn group(gid: Gid) -> String {
    Group::from_gid(gid).ok().flatten().map_or_else(|| gid.to_string(), |group| group.name)
}
