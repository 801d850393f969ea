//! How the checkout stands: on the branch, elsewhere, or in the hands of another git command.

use std::fs;
use std::time::Duration;

use git2::{ErrorCode, RepositoryState};

use super::error::{Doing, RepoError};
use super::holder;
use super::open::Repo;
use crate::diagnostic::Diagnostic;
use crate::text;

/// Nobody's git holds the index so long in passing: what is older is said, and not waited for.
const LONG: Duration = Duration::from_secs(10);

/// How the checkout stands. All but `OnBranch` and `IndexLocked` hold intake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckoutState {
    /// The configured branch is checked out, nothing is in progress.
    OnBranch,
    /// HEAD names a commit, not a branch.
    Detached {
        /// That commit, in hex.
        commit: String,
    },
    /// Another branch is checked out.
    OtherBranch {
        /// Its name, escaped.
        name: String,
    },
    /// A merge, rebase, cherry-pick, revert, bisect or `am` was begun and not ended.
    InProgress {
        /// `merge`.
        what: &'static str,
    },
    /// Another git command holds the index, or died with it.
    IndexLocked {
        /// Who, in words that follow the lock's name.
        holder: String,
    },
}

/// What to do about a lock.
pub(super) const REMOVE_LOCK: &str = "rm .git/index.lock     once no git command works here any more";

impl Repo {
    /// How the checkout stands now.
    ///
    /// # Errors
    /// HEAD cannot be read.
    pub fn checkout_state(&self) -> Result<CheckoutState, RepoError> {
        if let Some(away) = self.away()? {
            return Ok(away);
        }
        let path = self.gitdir.join("index.lock");
        if fs::symlink_metadata(&path).is_ok() {
            return Ok(CheckoutState::IndexLocked { holder: holder::words(&path, &self.root) });
        }
        Ok(CheckoutState::OnBranch)
    }

    /// True where somebody's `index.lock` is older than any git command needs.
    pub(super) fn index_is_locked_for_long(&self) -> bool {
        let made = fs::symlink_metadata(self.gitdir.join("index.lock")).and_then(|meta| meta.modified());
        made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age >= LONG))
    }

    /// What a person has to know of an index that is locked for long; `None` while it is not.
    #[must_use]
    pub fn index_lock(&self) -> Option<Diagnostic> {
        if !self.index_is_locked_for_long() {
            return None;
        }
        let holder = holder::words(&self.gitdir.join("index.lock"), &self.root);
        let message = format!(
            "`.git/index.lock` {holder}; results are recorded, and until it is gone `git status` shows them as changes"
        );
        Some(Diagnostic::new("E0514", message).help(REMOVE_LOCK))
    }

    /// As [`Self::checkout_state`] without the index lock, which may be ours.
    pub(super) fn away(&self) -> Result<Option<CheckoutState>, RepoError> {
        let head = self.git.find_reference("HEAD").doing("read HEAD")?;
        match head.symbolic_target_bytes() {
            None => {
                let commit = head.target().map_or_else(String::new, |oid| oid.to_string());
                return Ok(Some(CheckoutState::Detached { commit }));
            }
            Some(name) if name != self.branch_ref().as_bytes() => {
                let name = name.strip_prefix(b"refs/heads/").unwrap_or(name);
                return Ok(Some(CheckoutState::OtherBranch { name: text::bytes(name) }));
            }
            Some(_) => {}
        }
        let what = match self.git.state() {
            RepositoryState::Clean => return Ok(None),
            RepositoryState::Merge => "merge",
            RepositoryState::Revert | RepositoryState::RevertSequence => "revert",
            RepositoryState::CherryPick | RepositoryState::CherryPickSequence => "cherry-pick",
            RepositoryState::Bisect => "bisect",
            RepositoryState::Rebase | RepositoryState::RebaseInteractive | RepositoryState::RebaseMerge => "rebase",
            RepositoryState::ApplyMailbox | RepositoryState::ApplyMailboxOrRebase => "am",
        };
        Ok(Some(CheckoutState::InProgress { what }))
    }

    /// True where HEAD names the configured branch: then index and work tree are those of the branch.
    pub(super) fn head_is_branch(&self) -> bool {
        match self.git.find_reference("HEAD") {
            Ok(head) => head.symbolic_target_bytes() == Some(self.branch_ref().as_bytes()),
            Err(e) => e.code() == ErrorCode::UnbornBranch,
        }
    }
}
