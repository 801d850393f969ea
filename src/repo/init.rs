//! New repositories: a work repository with its first commit, a bare remote, a clone over a path. Also a plain commit
//! of new files, for `submit` and `init` in a repository that exists.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use git2::{ObjectType, Oid, Repository, RepositoryInitOptions};

use super::checkout::CheckoutState;
use super::commit::edit;
use super::error::{Doing, RepoError};
use super::fetch::FetchError;
use super::forward::Forwarded;
use super::integrate::Integrated;
use super::library;
use super::obstacle::{Blocked, Why};
use super::open::{OpenError, Repo, Settings};
use super::pack::Batch;
use super::tree::{self, Leaf};
use crate::text;

/// A file to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewFile {
    /// In the repository.
    pub path: String,
    /// What it holds.
    pub bytes: Vec<u8>,
    /// May be executed.
    pub executable: bool,
}

fn make(dir: &Path, bare: bool, branch: &str) -> Result<Repository, RepoError> {
    library::prepare()?;
    fs::create_dir_all(dir).doing_to("make", dir)?;
    let mut options = RepositoryInitOptions::new();
    // No templates: they bring hooks.
    options.bare(bare).external_template(false).no_reinit(true).initial_head(branch);
    Repository::init_opts(dir, &options).doing_to("make a repository in", dir)
}

/// Makes a repository in `dir` on `settings.branch`; its first commit holds `files`, which are written there too.
///
/// # Errors
/// There is a repository already, or the disk fails.
pub fn init(dir: &Path, settings: Settings, subject: &str, files: &[NewFile]) -> Result<Repo, OpenError> {
    make(dir, false, &settings.branch)?;
    let repo = Repo::open(dir, settings)?;
    match repo.add_files(subject, files)? {
        Ok(_) => Ok(repo),
        Err(blocked) => Err(RepoError::new("make the first commit", &blocked.diagnostic().message).into()),
    }
}

/// Makes an empty bare repository, a remote for the demo.
///
/// # Errors
/// There is a repository already, or the disk fails.
pub fn init_bare(dir: &Path, branch: &str) -> Result<(), RepoError> {
    make(dir, true, branch).map(|_| ())
}

/// Clones the repository at `from` into `to`: its one branch, checked out.
///
/// # Errors
/// The remote cannot be reached, `to` is a repository already, or the disk fails.
pub fn clone_path(from: &Path, to: &Path, settings: Settings) -> Result<Repo, FetchError> {
    make(to, false, &settings.branch)?;
    let path = fs::canonicalize(from).doing_to("look at", from)?;
    let repo = Repo::open(to, settings).map_err(|e| RepoError::new("open the new clone", &e.to_string()))?;
    repo.add_remote(&path.to_string_lossy())?;
    repo.fetch()?;
    match repo.integrate(&[])? {
        Integrated::Blocked(blocked) => {
            Err(RepoError::new("check out the new clone", &blocked.diagnostic().message).into())
        }
        _ => Ok(repo),
    }
}

impl Repo {
    /// Adds the configured remote, with the branch tracking it.
    ///
    /// # Errors
    /// There is one of that name already.
    pub fn add_remote(&self, url: &str) -> Result<(), RepoError> {
        let (remote, branch) = (&self.settings.remote, &self.settings.branch);
        let add = || {
            self.git.remote(remote, url)?;
            let mut config = self.git.config()?;
            config.set_str(&format!("branch.{branch}.remote"), remote)?;
            config.set_str(&format!("branch.{branch}.merge"), &self.branch_ref())
        };
        add().doing(&format!("add remote `{}`", text::line(remote)))?;
        self.hand_over(&self.common.join("config"));
        Ok(())
    }

    /// Commits these files, and nothing else that is staged or edited, on the checked out branch and writes them into
    /// the work tree. The inner error: something of a person's is in the way.
    ///
    /// # Errors
    /// A path that cannot be one, git's database or the disk.
    pub fn add_files(&self, subject: &str, files: &[NewFile]) -> Result<Result<Oid, Blocked>, RepoError> {
        loop {
            let tip = self.tip()?;
            if let Some(done) = self.add_on(tip, tip, subject, files)? {
                return Ok(done);
            }
        }
    }

    /// Makes the commit `mine` of [`Self::add_files`] again, on top of the remote branch as the last fetch saw it: it is
    /// the tip and was never published, so nobody else has it. `None` where that is not so.
    ///
    /// # Errors
    /// As [`Self::add_files`].
    pub fn add_files_again(
        &self,
        mine: Oid,
        subject: &str,
        files: &[NewFile],
    ) -> Result<Option<Result<Oid, Blocked>>, RepoError> {
        let Some(remote) = self.remote_tip()? else { return Ok(None) };
        let below = self.git.find_commit(mine).doing("read a commit")?.parent_id(0).ok();
        let alone = match below {
            Some(below) => self.contains(remote, below)? && !self.contains(remote, mine)?,
            None => false,
        };
        if self.tip()? != Some(mine) || !alone {
            return Ok(None);
        }
        self.add_on(Some(mine), Some(remote), subject, files)
    }

    /// Commits the files on `base` and moves the checkout there from `tip`; `None` where the branch moved meanwhile.
    fn add_on(
        &self,
        tip: Option<Oid>,
        base: Option<Oid>,
        subject: &str,
        files: &[NewFile],
    ) -> Result<Option<Result<Oid, Blocked>>, RepoError> {
        let mut objects = Batch::open(self)?;
        let mut edits = BTreeMap::new();
        for file in files {
            if !file.path.split('/').all(|part| tree::is_fit(part.as_bytes())) {
                return Err(RepoError::new(format!("commit `{}`", text::line(&file.path)), "it cannot be a path"));
            }
            let mode = if file.executable { tree::EXECUTABLE } else { tree::FILE };
            let oid = objects.write(ObjectType::Blob, &file.bytes)?;
            edits.insert(file.path.clone().into_bytes(), Some(Leaf { mode, oid }));
        }
        let root = base.map(|oid| tree::of_commit(&self.git, oid)).transpose()?;
        let tree = edit(&mut objects, root, &edits)?;
        let who = self.signature()?;
        let oid = objects.commit(tree, base, [&who, &who], subject)?;
        objects.finish()?;
        Ok(match self.forward(tip, oid, &[], subject)? {
            Forwarded::Done { .. } => Some(Ok(oid)),
            Forwarded::Blocked(Blocked { why: Why::Checkout(CheckoutState::OnBranch), .. }) | Forwarded::Stale => None,
            Forwarded::Blocked(blocked) => Some(Err(blocked)),
        })
    }
}
