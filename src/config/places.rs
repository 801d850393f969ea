//! Where a repository's local state, control socket and resource locks lie on this machine (CONTRACT sections 1 and 9),
//! and making those folders so that nobody else can put something in their place. Finding is pure; only `make` and
//! `check_exec` touch the disk. Refuses a folder of strangers and one on a `noexec` mount.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};
use sha2::{Digest as _, Sha256};

use super::Config;
use crate::diagnostic::Diagnostic;

/// Who asks, and in which environment.
#[derive(Clone, Copy)]
pub struct Host<'a> {
    /// Looks an environment variable up.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// The effective user.
    pub uid: u32,
}

/// Who may reach what is in a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// 0711: whoever knows a name in it, such as the run's user.
    Through,
    /// 0755: everybody may look.
    Open,
    /// 0700: its owner alone.
    Own,
    /// 0700, in a folder where everybody may create: it must be ours, no symlink, and closed to all others.
    OwnAmongStrangers,
}

/// A folder, and how it has to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its absolute path.
    pub path: PathBuf,
    /// Who may reach it.
    pub access: Access,
    /// A folder above it that has to be safe first.
    above: Option<PathBuf>,
}

impl Place {
    fn new(path: impl Into<PathBuf>, access: Access) -> Self {
        Self { path: path.into(), access, above: None }
    }

    /// Makes the folder and those above it where they are missing, and checks what is there already.
    ///
    /// # Errors
    /// E0807 where it cannot be made, belongs to somebody else, or is open to others.
    pub fn make(&self, uid: u32) -> Result<(), Diagnostic> {
        if let Some(above) = &self.above {
            make_folder(above, Access::OwnAmongStrangers, uid)?;
        }
        make_folder(&self.path, self.access, uid)
    }
}

/// The places of one repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// 12 hex digits that stand for the repository.
    pub repo_id: String,
    /// What is never committed: instance lock, what is set aside, staged copies, work folders.
    pub state: Place,
    /// The folder of the control socket.
    pub runtime: Place,
    /// The folder of the resource locks.
    pub lock: Place,
}

impl Places {
    /// The places of the repository whose top folder is `repo`.
    ///
    /// # Errors
    /// E0807 where the environment names no folder for local state.
    pub fn find(config: &Config, host: Host<'_>, repo: &Path) -> Result<Self, Diagnostic> {
        let repo_id = repo_id(repo);
        let state = state_dir(host, &repo_id)?;
        Ok(Self { state, runtime: runtime_dir(host), lock: lock_dir(config, host), repo_id })
    }

    /// Places of a repository that all lie in one folder of the caller's, apart from those of real daemons.
    #[must_use]
    pub fn inside(folder: &Path, repo: &Path) -> Self {
        Self {
            repo_id: repo_id(repo),
            state: Place::new(folder.join("state"), Access::Through),
            runtime: Place::new(folder.join("run"), Access::Own),
            lock: Place::new(folder.join("lock"), Access::Open),
        }
    }

    /// The path of the control socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.runtime.path.join(format!("{}.sock", self.repo_id))
    }

    /// Makes all three folders and makes sure that handlers can be started from the local state.
    ///
    /// # Errors
    /// The first that fails: E0807, or E0808 for a `noexec` mount.
    pub fn make(&self, uid: u32) -> Result<(), Diagnostic> {
        self.state.make(uid)?;
        check_exec(&self.state.path)?;
        self.runtime.make(uid)?;
        self.lock.make(uid)
    }
}

/// 12 hex digits of the SHA-256 of the repository's real path: of the path as it is where it does not exist.
#[must_use]
pub fn repo_id(repo: &Path) -> String {
    let real = repo.canonicalize().or_else(|_| std::path::absolute(repo)).unwrap_or_else(|_| repo.to_path_buf());
    Sha256::digest(real.as_os_str().as_bytes())[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `$STATE_DIRECTORY`, else `/var/lib/dispatcher/<repo-id>` as root, else `$XDG_STATE_HOME/dispatcher/<repo-id>`, where
/// an unset `XDG_STATE_HOME` means `~/.local/state`.
///
/// # Errors
/// E0807 where neither it nor `HOME` is set.
pub fn state_dir(host: Host<'_>, repo_id: &str) -> Result<Place, Diagnostic> {
    if let Some(path) = absolute(host, "STATE_DIRECTORY") {
        return Ok(Place::new(path, Access::Through));
    }
    let base = if host.uid == 0 {
        PathBuf::from("/var/lib")
    } else {
        absolute(host, "XDG_STATE_HOME").or_else(|| Some(absolute(host, "HOME")?.join(".local/state"))).ok_or_else(
            || {
                Diagnostic::new("E0807", "there is no folder for the local state: `HOME` is not set")
                    .help("set `XDG_STATE_HOME` or `STATE_DIRECTORY` to a folder that is yours")
            },
        )?
    };
    Ok(Place::new(base.join("dispatcher").join(repo_id), Access::Through))
}

/// `$RUNTIME_DIRECTORY`, else `/run/dispatcher` as root, else `$XDG_RUNTIME_DIR/dispatcher`, else
/// `/tmp/dispatcher-<uid>`.
#[must_use]
pub fn runtime_dir(host: Host<'_>) -> Place {
    if let Some(path) = absolute(host, "RUNTIME_DIRECTORY") {
        return Place::new(path, Access::Open);
    }
    match (host.uid, absolute(host, "XDG_RUNTIME_DIR")) {
        (0, _) => Place::new("/run/dispatcher", Access::Open),
        (_, Some(base)) => Place::new(base.join("dispatcher"), Access::Own),
        (uid, None) => Place::new(format!("/tmp/dispatcher-{uid}"), Access::OwnAmongStrangers),
    }
}

/// The configured `lock_dir`, else `/run/lock/dispatcher` as root, else `$XDG_RUNTIME_DIR/dispatcher/lock`, else
/// `/tmp/dispatcher-<uid>/lock`.
#[must_use]
pub fn lock_dir(config: &Config, host: Host<'_>) -> Place {
    if let Some(path) = &config.lock_dir {
        return Place::new(path, Access::Open);
    }
    match (host.uid, absolute(host, "XDG_RUNTIME_DIR")) {
        (0, _) => Place::new("/run/lock/dispatcher", Access::Open),
        (_, Some(base)) => Place::new(base.join("dispatcher/lock"), Access::Own),
        (uid, None) => {
            let above = PathBuf::from(format!("/tmp/dispatcher-{uid}"));
            Place { path: above.join("lock"), access: Access::OwnAmongStrangers, above: Some(above) }
        }
    }
}

/// Refuses a folder on a mount that forbids to execute what lies on it: staged handlers could not be started.
///
/// # Errors
/// E0808 with what to do; E0807 where the file system cannot be asked.
pub fn check_exec(folder: &Path) -> Result<(), Diagnostic> {
    let stat = statvfs(folder).map_err(|error| failed(folder, "look at the file system of", &error.into()))?;
    refuse_noexec(folder, stat.flags())
}

fn refuse_noexec(folder: &Path, flags: FsFlags) -> Result<(), Diagnostic> {
    if !flags.contains(FsFlags::ST_NOEXEC) {
        return Ok(());
    }
    Err(Diagnostic::new("E0808", format!("the local state `{}` lies on a `noexec` mount", folder.display()))
        .note("handlers are staged there and could not be started")
        .help("name a folder on another mount: set `STATE_DIRECTORY`, or StateDirectory= in the unit"))
}

/// The first absolute path in a variable: systemd joins several folders with colons, and a relative path counts as
/// unset, as the base directory rules have it.
fn absolute(host: Host<'_>, variable: &str) -> Option<PathBuf> {
    let value = (host.env)(variable)?;
    let first = if variable.ends_with("_DIRECTORY") { value.split(':').next()? } else { value.as_str() };
    Path::new(first).is_absolute().then(|| PathBuf::from(first))
}

fn make_folder(path: &Path, access: Access, uid: u32) -> Result<(), Diagnostic> {
    let mode = match access {
        Access::Through => 0o711,
        Access::Open => 0o755,
        Access::Own | Access::OwnAmongStrangers => 0o700,
    };
    create(path, mode).map_err(|error| failed(path, "make", &error))?;
    let found = if access == Access::OwnAmongStrangers { fs::symlink_metadata(path) } else { fs::metadata(path) };
    let found = found.map_err(|error| failed(path, "look at", &error))?;
    let Some(wrong) = wrong(&found, access, uid) else { return Ok(()) };
    let problem = Diagnostic::new("E0807", format!("the folder `{}` cannot be used: {wrong}", path.display()));
    Err(if found.is_dir() && found.uid() == uid {
        problem.help(format!("chmod {mode:o} {}", path.display()))
    } else {
        problem.help("look at who made it and why, then remove it")
    })
}

/// Makes a folder and those above it; existing ones are left as they are. The mode is set once more after making because
/// the process's umask would narrow it.
fn create(path: &Path, mode: u32) -> io::Result<()> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = path.parent().ok_or(error)?;
            create(above, mode)?;
            create(path, mode)
        }
        Err(error) => Err(error),
    }
}

/// What forbids to use a folder.
fn wrong(found: &Metadata, access: Access, uid: u32) -> Option<String> {
    let strangers = access == Access::OwnAmongStrangers;
    if found.is_symlink() {
        return Some("it is a symlink".to_owned());
    }
    if !found.is_dir() {
        return Some("it is not a folder".to_owned());
    }
    if found.uid() != uid && (strangers || found.uid() != 0) {
        return Some(format!("it belongs to user {}, not to user {uid}", found.uid()));
    }
    let forbidden = if strangers { 0o077 } else { 0o022 };
    if found.mode() & forbidden != 0 {
        return Some(format!("its mode is {:04o}, others can get at it", found.mode() & 0o7777));
    }
    None
}

fn failed(path: &Path, verb: &str, error: &io::Error) -> Diagnostic {
    Diagnostic::new("E0807", format!("cannot {verb} the folder `{}`: {error}", path.display()))
}

#[cfg(test)]
#[path = "places_tests.rs"]
mod tests;
