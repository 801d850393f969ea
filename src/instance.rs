//! One daemon per repository: the locks in the state folder and in the git folder, who holds them, and how the last one
//! ended. Refuses to judge by a process id: only the locks say whether a daemon lives.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::diagnostic::Diagnostic;
use crate::text;
use crate::time::Time;

/// Who holds the lock: what a second daemon is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// When it started.
    pub since: Time,
    /// The machine.
    pub host: String,
    /// Its control socket.
    pub socket: PathBuf,
    /// Of the program.
    pub version: String,
}

/// When a daemon was last known to be there, and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSeen {
    /// When this was written.
    pub at: Time,
    /// Such as `stopped by systemd`; absent where it ended without a word.
    pub how: Option<String>,
}

impl LastSeen {
    /// As message E0701 says it: `last seen 2026-11-23 06:02 UTC, stopped by systemd`.
    #[must_use]
    pub fn words(&self) -> String {
        let at = self.at.to_string().replace('T', " ");
        let how = self.how.as_deref().unwrap_or("then it ended without a word");
        format!("last seen {} UTC, {}", at.get(..16).unwrap_or(&at), text::line(how))
    }
}

/// The lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// A daemon lives (exit 75). Unnamed where it has only just started.
    #[error("another dispatcher works on this repository")]
    Held(Option<Box<Holder>>),
    /// The state folder cannot be used (exit 74).
    #[error("failed to use `{path}`: {source}")]
    Io {
        /// What could not be used.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl InstanceError {
    /// What a person reads, E0703 or E0704. `repo` is the repository.
    #[must_use]
    pub fn diagnostic(&self, repo: &Path) -> Diagnostic {
        match self {
            Self::Held(None) => Diagnostic::new("E0703", format!("another dispatcher works on `{}`", repo.display()))
                .note("it has only just started and has not said who it is")
                .help("dispatcher status"),
            Self::Held(Some(holder)) => Diagnostic::new(
                "E0703",
                format!("another dispatcher works on `{}`: process {}", repo.display(), holder.pid),
            )
            .note(format!(
                "on {} since {}, version {}, socket {}",
                holder.host,
                holder.since,
                holder.version,
                holder.socket.display()
            ))
            .help("dispatcher status     or stop it first: dispatcher drain"),
            Self::Io { .. } => Diagnostic::new("E0704", self.to_string())
                .help("the folder must be on a local disk and belong to the dispatcher's user"),
        }
    }

    /// What the program exits with.
    #[must_use]
    pub const fn exit(&self) -> i32 {
        match self {
            Self::Held(_) => 75,
            Self::Io { .. } => 74,
        }
    }
}

/// The lock, held for as long as this lives. A process that is forked meanwhile shares it until it ends or closes it;
/// one that is executed does not.
pub struct Instance {
    state: PathBuf,
    locks: Vec<fd_lock::RwLock<File>>,
}

/// In the git folder: the state folder depends on the environment, and two daemons may each have one of their own.
const CLAIM: &str = "dispatcher.lock";
const LOCK: &str = "instance.lock";
const LAST: &str = "last-seen.json";

impl Instance {
    /// Takes the lock of the state folder `state`, which exists, for `me`. Does not wait.
    ///
    /// # Errors
    /// `Held` by another daemon, or the folder cannot be used.
    pub fn acquire(state: &Path, me: &Holder) -> Result<Self, InstanceError> {
        let lock = take(&state.join(LOCK), None, me)?;
        let instance = Self { state: state.to_owned(), locks: vec![lock] };
        instance.seen(me.since, None)?;
        Ok(instance)
    }

    /// Takes the lock in the git folder `git` as well, whose files belong to the user and group `owner`.
    ///
    /// # Errors
    /// As [`Self::acquire`].
    pub fn claim(&mut self, git: &Path, owner: (u32, u32), me: &Holder) -> Result<(), InstanceError> {
        self.locks.push(take(&git.join(CLAIM), Some(owner), me)?);
        Ok(())
    }

    /// Writes down that the daemon was there `at`, and at its end `how` it ended (`stopped by systemd`).
    ///
    /// # Errors
    /// `Io` where the state folder cannot be written to.
    pub fn seen(&self, at: Time, how: Option<&str>) -> Result<(), InstanceError> {
        let path = self.state.join(LAST);
        let write = || -> io::Result<()> {
            let mut file = tempfile::NamedTempFile::new_in(&self.state)?;
            serde_json::to_writer(&mut file, &LastSeen { at, how: how.map(str::to_owned) })?;
            file.write_all(b"\n")?;
            nix::sys::stat::fchmod(&file, nix::sys::stat::Mode::from_bits_truncate(0o644))?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|source| InstanceError::Io { path: path.clone(), source })
    }
}

/// Locks `path`, which is made for `owner`, and writes into it who holds it.
fn take(path: &Path, owner: Option<(u32, u32)>, me: &Holder) -> Result<fd_lock::RwLock<File>, InstanceError> {
    let failed = |source| InstanceError::Io { path: path.to_owned(), source };
    // Never truncated on opening (it may be another's) and never unlinked (a second holder would get in).
    let file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .map_err(failed)?;
    if let Some((user, group)) = owner.filter(|_| nix::unistd::geteuid().is_root()) {
        // Root keeps what cannot be given away; the lock holds all the same.
        let _ = std::os::unix::fs::fchown(&file, Some(user), Some(group));
    }
    let own = file.try_clone().map_err(failed)?;
    let mut lock = fd_lock::RwLock::new(file);
    match lock.try_write() {
        // Held until the descriptors are closed: the guard only borrows.
        Ok(guard) => std::mem::forget(guard),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(InstanceError::Held(holder(&own))),
        Err(error) => return Err(failed(error)),
    }
    let mut line = serde_json::to_vec(me).map_err(|e| failed(e.into()))?;
    line.push(b'\n');
    own.set_len(0).and_then(|()| own.write_all_at(&line, 0)).map_err(failed)?;
    Ok(lock)
}

/// Who is in the lock file, where that is the one who holds it now: between lock and first write it is the last holder.
fn holder(file: &File) -> Option<Box<Holder>> {
    let mut line = vec![0; 16 << 10];
    let read = file.read_at(&mut line, 0).ok()?;
    let holder: Holder = serde_json::from_slice(line.get(..read)?).ok()?;
    Path::new("/proc").join(holder.pid.to_string()).exists().then(|| Box::new(holder))
}

/// How the daemon of the state folder `state` was last seen; `None` where there was none or nothing can be read.
#[must_use]
pub fn last_seen(state: &Path) -> Option<LastSeen> {
    let mut bytes = Vec::new();
    File::open(state.join(LAST)).ok()?.take(16 << 10).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me(pid: u32) -> Holder {
        Holder {
            pid,
            since: Time::from_millis(1_763_900_000_000),
            host: "ops-1".into(),
            socket: "/run/dispatcher/3f9a1c7e5b0e.sock".into(),
            version: "0.1.0".into(),
        }
    }

    #[test]
    fn a_second_one_is_told_who_the_first_is() {
        let state = tempfile::tempdir().unwrap();
        let first = me(std::process::id());
        let held = Instance::acquire(state.path(), &first).unwrap();
        let Err(error) = Instance::acquire(state.path(), &me(1)) else { panic!("two daemons") };
        assert!(matches!(&error, InstanceError::Held(Some(holder)) if **holder == first), "{error:?}");
        assert_eq!(error.exit(), 75);
        let text = error.diagnostic(Path::new("/srv/ops")).render();
        assert!(
            text.contains(&format!("process {}", first.pid)) && text.contains("on ops-1 since 2025-11-23T"),
            "{text}"
        );
        drop(held);
        let again = Instance::acquire(state.path(), &me(std::process::id())).unwrap();
        drop(again);
    }

    #[test]
    fn a_holder_that_is_gone_is_not_named() {
        let state = tempfile::tempdir().unwrap();
        let held = Instance::acquire(state.path(), &me(u32::MAX)).unwrap();
        assert!(matches!(Instance::acquire(state.path(), &me(1)), Err(InstanceError::Held(None))));
        drop(held);
    }

    #[test]
    fn the_end_is_written_down() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(last_seen(state.path()), None);
        let held = Instance::acquire(state.path(), &me(1)).unwrap();
        assert_eq!(
            last_seen(state.path()).unwrap().words(),
            "last seen 2025-11-23 12:13 UTC, then it ended without a word"
        );
        held.seen(Time::from_millis(1_763_900_060_000), Some("stopped by systemd")).unwrap();
        drop(held);
        assert_eq!(last_seen(state.path()).unwrap().words(), "last seen 2025-11-23 12:14 UTC, stopped by systemd");
        std::fs::write(state.path().join(LAST), "{torn").unwrap();
        assert_eq!(last_seen(state.path()), None);
    }

    #[test]
    fn a_killed_daemon_leaves_the_lock_free() {
        // A foreign process holds the very flock; killing it frees the lock.
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join(LOCK);
        let mut child = std::process::Command::new("flock")
            .arg(&path)
            .args(["sh", "-c", "echo held; exec sleep 1000"])
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut word = [0; 5];
        child.stdout.as_mut().unwrap().read_exact(&mut word).unwrap();
        assert!(matches!(Instance::acquire(state.path(), &me(1)), Err(InstanceError::Held(None))));
        // `flock` forks: its child inherits the lock, and ends when its output cannot be what keeps it.
        let pid = child.id();
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        for one in children.split_whitespace().map(|c| c.parse().unwrap()).chain([i32::try_from(pid).unwrap()]) {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(one), nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        let mut rest = Vec::new();
        child.stdout.as_mut().unwrap().read_to_end(&mut rest).unwrap();
        child.wait().unwrap();
        Instance::acquire(state.path(), &me(1)).unwrap();
    }
}
