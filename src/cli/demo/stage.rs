//! The demo's repositories: a bare remote, the dispatcher's clone, and the clone of a person who pushes the requests.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::cast::{self, ROLES, Role};
use crate::checkout;
use crate::cli::context::Context;
use crate::cli::find::Shelf;
use crate::cli::scratch::Scratch;
use crate::cli::{Exit, Failure};
use crate::config::Config;
use crate::console::Terminal;
use crate::daemon::{self, Options};
use crate::diagnostic::Diagnostic;
use crate::repo::{self, Identity, NewFile, PushOutcome, Repo, Settings};
use crate::status::Status;

/// More than any log of the demo has, in bytes.
const LOG: u64 = 1 << 20;

/// Where the demo is played.
pub(super) struct Stage {
    scratch: Scratch,
    base: PathBuf,
    /// The folder is the user's, and stays.
    pub kept: bool,
}

/// A request of the demo and what became of it.
pub(super) struct Played {
    pub role: Role,
    /// `None` where no run of that name was recorded.
    pub status: Option<Status>,
}

impl Played {
    /// Ended as it should.
    pub fn is_as_expected(&self) -> bool {
        self.status.as_ref().is_some_and(|status| {
            (status.status, status.rc, status.attempt) == (self.role.state, Some(self.role.rc), self.role.attempts)
        })
    }
}

impl Stage {
    /// A temporary folder for what a daemon leaves, and one for the repositories: `keep`, else in the first.
    pub fn new(context: &Context, keep: Option<&Path>) -> Result<Self, Failure> {
        find_git()?;
        let scratch = Scratch::new("dispatcher-demo-")?;
        let base = match keep {
            Some(dir) => own(&context.dir.join(dir))?,
            None => scratch.path().to_owned(),
        };
        Ok(Self { scratch, base, kept: keep.is_some() })
    }

    /// The dispatcher's clone.
    pub fn ops(&self) -> PathBuf {
        self.base.join("ops")
    }

    /// The clone of the person who asks.
    pub fn ana(&self) -> PathBuf {
        self.base.join("ana")
    }

    /// The bare repository between them.
    pub fn remote(&self) -> PathBuf {
        self.base.join("remote.git")
    }

    /// Makes the repositories, pushes the requests and runs a daemon until all of them have ended.
    pub fn play(&self, context: &Context) -> Result<Vec<Played>, Failure> {
        let config = Config::default();
        let settings = daemon::git_settings(&config);
        let failed = |problem: Diagnostic| Failure::new(Exit::IO, problem);
        repo::init_bare(&self.remote(), &config.branch).map_err(|error| failed(error.diagnostic()))?;
        let made = repo::init(&self.ops(), settings.clone(), "Make this a dispatch repository", &cast::files());
        let ops = made.map_err(|error| failed(error.diagnostic()))?;
        ops.add_remote(&self.remote().to_string_lossy()).map_err(|error| failed(error.diagnostic()))?;
        push(&ops)?;
        let identity = Identity { name: "Ana".to_owned(), email: "ana@example.org".to_owned() };
        let settings = Settings { identity, ..settings };
        let ana = repo::clone_path(&self.remote(), &self.ana(), settings);
        let ana = ana.map_err(|error| failed(error.diagnostic()))?;
        commit(&ana, "Ask for thirteen things", &cast::requests())?;
        push(&ana)?;
        let terminal = if context.common.json { Terminal::Off } else { Terminal::Stdout };
        let options = self.scratch.options(&self.ops(), config);
        daemon::run(&Options { terminal, colors: context.colors, plain: context.common.plain, ..options })?;
        // Ana sees the results the way she sent the requests.
        ana.fetch().map_err(|error| failed(error.diagnostic()))?;
        ana.integrate(&[]).map_err(|error| failed(Diagnostic::new("E0509", error.to_string())))?;
        let all = Shelf::new(&self.ana()).all();
        let status = |role: &Role| all.iter().find(|status| status.request == role.name).cloned();
        Ok(ROLES.into_iter().map(|role| Played { status: status(&role), role }).collect())
    }

    /// A run's own lines of its log, without times and colours.
    pub fn own_lines(&self, status: &Status) -> Vec<String> {
        let inner = Path::new(status.log.as_deref().unwrap_or_default());
        let bytes = checkout::read(&self.ana(), inner, LOG).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().filter_map(|line| line.split_once("\u{1b}[0m  "));
        lines.map(|(_, line)| line.to_owned()).collect()
    }
}

/// The folder that the user wants to keep: it must be empty or not there, and everybody may look into it.
fn own(dir: &Path) -> Result<PathBuf, Failure> {
    let failed = |error: io::Error| Failure::io(&format!("make `{}`", dir.display()), &error);
    let taken = match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => true,
        Err(error) => return Err(failed(error)),
    };
    if taken {
        let problem = Diagnostic::new("E0129", format!("`{}` exists and is not an empty folder", dir.display()))
            .help("dispatcher demo --keep DIR     with a folder that is not there yet");
        return Err(Failure::new(Exit::EXISTS, problem));
    }
    let is_new = !dir.exists();
    fs::create_dir_all(dir).map_err(failed)?;
    if is_new {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).map_err(failed)?;
    }
    dir.canonicalize().map_err(failed)
}

/// Pushing to a folder takes the `git` program on the other end.
fn find_git() -> Result<(), Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_program =
        |file: PathBuf| file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0);
    if std::env::split_paths(&path).any(|folder| is_program(folder.join("git"))) {
        return Ok(());
    }
    let problem = Diagnostic::new("E0518", "there is no program `git` in `PATH`")
        .note("the demo pushes to a remote in a folder, where `git` takes the other end")
        .help("install git, for example: apt install git");
    Err(Failure::new(Exit::UNAVAILABLE, problem))
}

fn commit(repo: &Repo, subject: &str, files: &[NewFile]) -> Result<(), Failure> {
    let added = repo.add_files(subject, files).map_err(|error| Failure::new(Exit::IO, error.diagnostic()))?;
    added.map(|_| ()).map_err(|blocked| Failure::new(Exit::IO, blocked.diagnostic()))
}

fn push(repo: &Repo) -> Result<(), Failure> {
    let failed = |problem: Diagnostic| Failure::new(Exit::UNAVAILABLE, problem);
    match repo.push().map_err(|error| failed(error.diagnostic()))? {
        PushOutcome::Pushed { .. } | PushOutcome::UpToDate => Ok(()),
        outcome => Err(failed(Diagnostic::new("E0502", format!("the push to the demo's remote failed: {outcome:?}")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_folder_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("a/b");
        assert_eq!(own(&new).unwrap(), new.canonicalize().unwrap());
        assert!(own(&new).is_ok(), "empty");
        fs::write(new.join("file"), "").unwrap();
        for taken in [new.clone(), new.join("file")] {
            assert_eq!(own(&taken).unwrap_err().exit, Exit::EXISTS);
        }
        assert!(new.join("file").exists());
    }
}
