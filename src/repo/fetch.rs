//! Fetch: the network part alone. Moves `refs/remotes/<remote>/<branch>` and nothing else; what to do about it is the
//! business of `integrate`.

use std::time::Duration;

use git2::{AutotagOption, Direction, ErrorClass, FetchOptions, Oid, Remote};

use super::access::Access;
use super::archive;
use super::error::{Doing, RepoError};
use super::https::{Ground, Helper, Kept, settings};
use super::login::LoginError;
use super::open::Repo;
use super::remote::{Https, Target, UrlError};
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
    /// The token or the certificates of the configuration cannot be used.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The remote lets us not in, for a cause that is known.
    #[error("{0}")]
    Access(Box<Access>),
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
            Self::Login(e) => e.diagnostic(),
            Self::Access(access) => access.diagnostic(),
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
        let talk = self.talk(target)?;
        let fetched = match talk.target() {
            Target::Https(https) => self.download_by_https(&talk, https),
            Target::Path(_) | Target::Ssh { .. } => self.download(&talk).map(|tips| (tips, None)),
        };
        // Until a ref names them the new commits are held by what git has put beside their pack.
        let ([remote_tip, archive], kept) = fetched.map_err(|e| self.fetch_error(&talk, &e))?;
        drop(talk);
        self.track_archive(archive)?;
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
        drop(kept);
        self.hand_over_git();
        Ok(FetchOutcome::Fetched { remote_tip, new_commits })
    }

    /// Everything that a conversation needs is there.
    pub(super) fn talk(&self, target: Target) -> Result<Conversation, LoginError> {
        let login = match &target {
            Target::Https(https) => settings(&self.settings.https, https, self.settings.timeout)?,
            Target::Path(_) | Target::Ssh { .. } => Vec::new(),
        };
        Ok(Conversation::new(target, login, self.settings.timeout, self.stop.clone()))
    }

    fn download_by_https(
        &self,
        talk: &Conversation,
        https: &Https,
    ) -> Result<([Option<Oid>; 2], Option<Kept>), git2::Error> {
        let names = [self.branch_ref(), archive::local_ref()];
        let mut helper = self.helper(talk, https)?;
        let tips = helper.look(&names, false).map_err(in_libgit2)?;
        let found = tips.into_iter().zip(&names).filter_map(|(tip, name)| Some((tip?, name)));
        let new: Vec<(Oid, &String)> = found.filter(|(oid, _)| self.git.find_commit(*oid).is_err()).collect();
        let kept = if new.is_empty() { None } else { Some(helper.fetch(new.into_iter()).map_err(in_libgit2)?) };
        Ok((tips, kept))
    }

    pub(super) fn helper<'t>(&self, talk: &'t Conversation, https: &Https) -> Result<Helper<'t>, git2::Error> {
        let archives = [archive::local_ref(), archive::tracking_ref(&self.settings.remote)];
        let archives = archives.map(|name| self.target(&name));
        let tips = [self.tip(), self.remote_tip()].into_iter().chain(archives).map(|tip| tip.ok().flatten());
        let known: Vec<Oid> = tips.flatten().filter(|oid| self.git.find_commit(*oid).is_ok()).collect();
        let ground = Ground { objects: &self.common.join("objects"), known: &known };
        Helper::start(talk, https, &ground).map_err(in_libgit2)
    }

    /// Gets what is new of the branch and of the archive, and says where they are.
    fn download(&self, talk: &Conversation) -> Result<[Option<Oid>; 2], git2::Error> {
        let mut remote = self.git.remote_anonymous(&talk.url())?;
        let names = [self.branch_ref(), archive::local_ref()];
        let tips = look(&mut remote, &names)?;
        let is_new = |tip: Option<Oid>| tip.is_some_and(|oid| self.git.find_commit(oid).is_err());
        let new = names.iter().zip(tips).filter(|(_, tip)| is_new(*tip));
        let specs: Vec<String> = new.map(|(name, _)| format!("+{name}:{name}")).collect();
        if !specs.is_empty() {
            let mut options = FetchOptions::new();
            options.download_tags(AutotagOption::None).update_fetchhead(false);
            remote.download(&specs, Some(&mut options))?;
        }
        remote.disconnect()?;
        Ok(tips)
    }

    fn track_archive(&self, tip: Option<Oid>) -> Result<(), RepoError> {
        let tracking = archive::tracking_ref(&self.settings.remote);
        match tip {
            Some(tip) => {
                self.git.find_commit(tip).doing("read the remote's archive")?;
                self.set_ref(&tracking, tip, "dispatcher: fetch")
            }
            None => self.delete_ref(&tracking),
        }
    }

    pub(super) fn fetch_error(&self, talk: &Conversation, error: &git2::Error) -> FetchError {
        let said = talk.words();
        let remote = self.settings.remote.clone();
        if talk.is_late() {
            return FetchError::Deadline { remote, after: self.settings.timeout };
        }
        let ours = RepoError::new("fetch", error.message());
        let is_local = matches!(error.class(), ErrorClass::Reference | ErrorClass::Odb | ErrorClass::Indexer);
        // A sync of what came in fails as an error of the system, or of the network where git did it.
        if ours.is_unsynced() || (is_local && said.is_empty()) {
            return FetchError::Git(ours);
        }
        let words = if said.is_empty() { text::line(error.message()) } else { said };
        match Access::of(&remote, talk.target(), talk.has_login(), &words) {
            Some(access) => FetchError::Access(Box::new(access)),
            None => FetchError::Unreachable { remote, words },
        }
    }
}

/// Trouble on the way in the form that the other transports have for it.
pub(super) fn in_libgit2(error: std::io::Error) -> git2::Error {
    git2::Error::new(git2::ErrorCode::GenericError, ErrorClass::Net, error.to_string())
}

/// Connects and finds where the remote's branches of these names are.
fn look(remote: &mut Remote<'_>, names: &[String; 2]) -> Result<[Option<Oid>; 2], git2::Error> {
    if !remote.connected() {
        // Not `connect_auth`: what it returns hangs up when it is dropped, and a second call costs as much again.
        remote.connect(Direction::Fetch)?;
    }
    let heads = remote.list()?;
    Ok(names.each_ref().map(|name| heads.iter().find(|head| head.name() == name).map(git2::RemoteHead::oid)))
}
