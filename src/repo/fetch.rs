//! Fetch: the network part alone. Moves `refs/remotes/<remote>/<branch>` and nothing else; what to do about it is the
//! business of `integrate`.

use std::time::Duration;

use git2::{AutotagOption, Direction, ErrorClass, FetchOptions, Oid, Remote, RemoteCallbacks};

use super::error::{Doing, RepoError};
use super::open::Repo;
use super::remote::UrlError;
use super::transport::Conversation;
use crate::diagnostic::Diagnostic;
use crate::quantity;
use crate::text;

/// What a fetch found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchOutcome {
    /// The remote answered.
    Fetched {
        /// Its branch; `None` where it has none of that name.
        remote_tip: Option<Oid>,
        /// Commits that were not known before.
        new_commits: usize,
    },
    /// The repository has no remote of the configured name.
    NoRemote,
}

/// A fetch that found nothing out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The remote's URL cannot be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// No answer, or one that makes no sense.
    #[error("remote `{remote}` cannot be reached: {words}")]
    Unreachable {
        /// The remote's name.
        remote: String,
        /// Git's or ssh's own, escaped.
        words: String,
    },
    /// No end within `git_timeout`.
    #[error("remote `{remote}` did not answer within {}", quantity::show_duration(*.after))]
    Deadline {
        /// The remote's name.
        remote: String,
        /// `git_timeout`.
        after: Duration,
    },
    /// The local repository.
    #[error(transparent)]
    Git(#[from] RepoError),
}

impl FetchError {
    /// As [`RepoError::is_unsynced`].
    #[must_use]
    pub fn is_unsynced(&self) -> bool {
        matches!(self, Self::Git(error) if error.is_unsynced())
    }

    /// The error as people read it.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Url(e) => e.diagnostic(),
            Self::Git(e) => e.diagnostic(),
            Self::Unreachable { remote, .. } => Diagnostic::new("E0512", self.to_string())
                .help(format!("git fetch {remote}     as the dispatcher's user shows whether it works by hand")),
            Self::Deadline { .. } => Diagnostic::new("E0513", self.to_string())
                .help("raise `git_timeout` in the host configuration where the remote is only slow"),
        }
    }
}

impl Repo {
    /// Looks at the remote branch and gets its commits.
    ///
    /// # Errors
    /// See [`FetchError`]; nothing has moved then.
    pub fn fetch(&self) -> Result<FetchOutcome, FetchError> {
        let Some(target) = self.target_of_remote(false)? else { return Ok(FetchOutcome::NoRemote) };
        let talk = Conversation::new(target, self.settings.timeout);
        let fetched = self.download(&talk);
        let remote_tip = fetched.map_err(|e| self.fetch_error(&talk, &e))?;
        drop(talk);
        let known = self.remote_tip()?;
        let new_commits = match remote_tip {
            Some(tip) if known != Some(tip) => {
                self.git.find_commit(tip).doing("read the remote branch")?;
                let from = known.or(self.tip()?).filter(|oid| self.git.find_commit(*oid).is_ok());
                let new = self.between(from, tip)?.len();
                self.set_ref(&self.tracking_ref(), tip, "dispatcher: fetch")?;
                new
            }
            None if known.is_some() => {
                self.delete_ref(&self.tracking_ref())?;
                0
            }
            _ => 0,
        };
        self.hand_over_git();
        Ok(FetchOutcome::Fetched { remote_tip, new_commits })
    }

    fn download(&self, talk: &Conversation) -> Result<Option<Oid>, git2::Error> {
        let mut remote = self.git.remote_anonymous(&talk.url())?;
        let tip = self.look(&mut remote)?;
        if tip.is_some_and(|oid| self.git.find_commit(oid).is_err()) {
            let mut options = FetchOptions::new();
            options.download_tags(AutotagOption::None).update_fetchhead(false);
            let spec = format!("+{}:{}", self.branch_ref(), self.tracking_ref());
            remote.download(&[spec.as_str()], Some(&mut options))?;
        }
        remote.disconnect()?;
        Ok(tip)
    }

    /// Connects and finds the remote's branch.
    fn look(&self, remote: &mut Remote<'_>) -> Result<Option<Oid>, git2::Error> {
        if !remote.connected() {
            remote.connect_auth(Direction::Fetch, Some(RemoteCallbacks::new()), None)?.list()?;
        }
        let name = self.branch_ref();
        Ok(remote.list()?.iter().find(|head| head.name() == name).map(git2::RemoteHead::oid))
    }

    pub(super) fn fetch_error(&self, talk: &Conversation, error: &git2::Error) -> FetchError {
        let said = talk.words();
        let remote = self.settings.remote.clone();
        if talk.is_late() {
            return FetchError::Deadline { remote, after: self.settings.timeout };
        }
        if matches!(error.class(), ErrorClass::Reference | ErrorClass::Odb | ErrorClass::Indexer) && said.is_empty() {
            return FetchError::Git(RepoError::new("fetch", error.message()));
        }
        let words = if said.is_empty() { text::line(error.message()) } else { said };
        FetchError::Unreachable { remote, words }
    }
}
