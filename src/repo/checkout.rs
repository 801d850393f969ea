//! How the checkout stands: on the branch, elsewhere, or in the hands of another git command.

use std::fs;
use std::time::Duration;

use git2::{ErrorCode, RepositoryState};

use super::error::{Doing, RepoError};
use super::open::Repo;
use crate::text;

/// How the checkout stands. All but `OnBranch` and a short `IndexLocked` hold intake.
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
        /// The lock file.
        path: String,
        /// How old it is.
        age: Duration,
    },
}

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
        if let Ok(meta) = fs::symlink_metadata(&path) {
            let age = meta.modified().ok().and_then(|t| t.elapsed().ok()).unwrap_or_default();
            return Ok(CheckoutState::IndexLocked { path: ".git/index.lock".into(), age });
        }
        Ok(CheckoutState::OnBranch)
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
