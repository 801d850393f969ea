//! What the table says about one kind: plain data without I/O, so that the engine and the executor can rely on it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::template::Template;
use crate::request::Kind;
use crate::status::State;

/// The folder that a handler lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Folder {
    /// `handlers/` of the repository.
    Builtin,
    /// One of `DISPATCHER_HANDLERS`.
    Extra(PathBuf),
}

/// The executable of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandlerSource {
    /// The folder.
    pub folder: Folder,
    /// Relative to the folder; never leads out of it.
    pub path: String,
}

impl HandlerSource {
    /// Its path as people know it: `handlers/deploy.sh`, or the whole path in another folder.
    #[must_use]
    pub fn shown(&self) -> String {
        match &self.folder {
            Folder::Builtin => format!("handlers/{}", self.path),
            Folder::Extra(folder) => folder.join(Path::new(&self.path)).display().to_string(),
        }
    }
}

/// Which network a handler sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// That of the machine.
    Host,
    /// None at all.
    None,
}

/// How a handler is given its secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretsAs {
    /// As environment variables.
    Env,
    /// As files; the variable holds the path.
    File,
}

/// What follows when the dispatcher or the machine dies during a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnCrash {
    /// Run again with the next attempt: the handler is idempotent.
    Rerun,
    /// Never start it twice on this machine.
    Fail,
}

/// An end of an attempt that is worth another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RetryOn {
    /// The handler's exit code (128+n for a signal), 1 to 255.
    Code(u8),
    /// Any exit code but 0, and any signal.
    Failed,
    /// The time box.
    TimedOut,
    /// The memory box.
    OutOfMemory,
}

/// When a run is tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// All attempts together, the first one too; 1: never tried again.
    pub attempts: u32,
    /// The first delay; it doubles from attempt to attempt.
    pub backoff: Duration,
    /// The ends that are worth it.
    pub on: Vec<RetryOn>,
}

impl Retry {
    /// Never tried again.
    #[must_use]
    pub fn never() -> Self {
        Self { attempts: 1, backoff: Duration::from_secs(5), on: vec![RetryOn::Code(75)] }
    }

    /// Whether an attempt that ended so is worth another one. How many there were already is the caller's business.
    #[must_use]
    pub fn wants(&self, ended: State, rc: i32) -> bool {
        self.on.iter().any(|on| match (on, ended) {
            (RetryOn::Code(code), State::Failed) => i32::from(*code) == rc,
            (RetryOn::Failed, State::Failed)
            | (RetryOn::TimedOut, State::TimedOut)
            | (RetryOn::OutOfMemory, State::OutOfMemory) => true,
            _ => false,
        })
    }
}

/// Which program runs containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerEngine {
    /// `podman`
    Podman,
    /// `docker`
    Docker,
}

/// A container in place of a local process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Reference of the image.
    pub image: String,
    /// What runs it.
    pub engine: ContainerEngine,
}

/// What the table says about one kind, with the defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The kind.
    pub kind: Kind,
    /// What is executed.
    pub file: HandlerSource,
    /// How the resource is made; none: the request's own, else the kind's name.
    pub resource: Option<Template>,
    /// Of one attempt.
    pub timeout: Duration,
    /// From TERM to KILL.
    pub grace: Duration,
    /// Bytes of the whole tree.
    pub memory: u64,
    /// Thousandths of a processor; none: no limit.
    pub cpus: Option<u32>,
    /// Processes and threads of the whole tree.
    pub pids: u32,
    /// What it sees of the network.
    pub network: Network,
    /// Absolute paths that it may write to besides its own work folder.
    pub write: Vec<PathBuf>,
    /// Variables that it is given.
    pub env: BTreeMap<String, String>,
    /// Names of the secrets that it asks for.
    pub secrets: Vec<String>,
    /// How it is given them.
    pub secrets_as: SecretsAs,
    /// `sandbox: strict`: refuse to run where a part of the sandbox is missing.
    pub strict: bool,
    /// Not started by then: expired.
    pub max_queue_age: Option<Duration>,
    /// When it is tried again.
    pub retry: Retry,
    /// After a crash.
    pub on_crash: OnCrash,
    /// It knows what to do with `dry_run`.
    pub dry_run: bool,
    /// Instead of a local process.
    pub container: Option<Container>,
    /// For people.
    pub description: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_is_for_the_ends_that_are_named() {
        use RetryOn::{Code, Failed, OutOfMemory, TimedOut};
        let check = |on: &[RetryOn], ended, rc, expect| {
            let retry = Retry { on: on.to_vec(), ..Retry::never() };
            assert_eq!(retry.wants(ended, rc), expect, "{on:?} {ended:?} {rc}");
        };
        check(&[Code(75)], State::Failed, 75, true);
        check(&[Code(75)], State::Failed, 1, false);
        check(&[Code(124)], State::TimedOut, 124, false);
        check(&[Code(137)], State::OutOfMemory, 137, false);
        check(&[Code(143)], State::Failed, 143, true);
        check(&[Failed], State::Failed, 1, true);
        check(&[Failed], State::TimedOut, 124, false);
        check(&[TimedOut], State::TimedOut, 124, true);
        check(&[OutOfMemory], State::OutOfMemory, 137, true);
        check(&[Failed, TimedOut, OutOfMemory], State::Cancelled, 130, false);
        check(&[Failed, TimedOut, OutOfMemory], State::Succeeded, 0, false);
    }
}
