//! Push: the branch as it is, to the remote as it was last seen. A refusal is a result, not an error. Owns the verdict:
//! only what the remote reported about the ref counts.

use std::cell::RefCell;

use git2::{Error, Oid};

use super::access::Access;
use super::archive;
use super::error::RepoError;
use super::fetch::{FetchError, in_libgit2};
use super::login::LoginError;
use super::open::Repo;
use super::remote::{Https, Target, UrlError};
use super::send::{Parcel, Verdict};
use super::transport::{Conversation, shown};
use crate::diagnostic::Diagnostic;
use crate::text;

/// How a push ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushOutcome {
    /// The remote branch is this commit now.
    Pushed {
        /// The commit.
        oid: Oid,
    },
    /// There was nothing to push.
    UpToDate,
    /// The remote branch is not what was last seen: fetch, integrate, push again.
    Moved,
    /// The remote branch is locked or moved by somebody in this moment: as `Moved`, but only the remote knows.
    Busy {
        /// The remote's own, escaped.
        words: String,
    },
    /// The remote does not want it: a hook, a protected branch.
    Refused {
        /// The remote's own, escaped.
        words: String,
    },
    /// The remote lets us not in, for a cause that is known.
    NoAccess(Box<Access>),
    /// No verdict: the commit may have arrived. Fetch, then ask [`Repo::published`].
    Unreachable {
        /// Git's or ssh's own, escaped.
        words: String,
    },
    /// The repository has no remote of the configured name.
    NoRemote,
}

impl PushOutcome {
    /// The failure as people read it, with `waiting` results kept here; `None` where there is nothing to say.
    #[must_use]
    pub fn diagnostic(&self, remote: &str, waiting: usize) -> Option<Diagnostic> {
        let (words, help) = match self {
            Self::NoAccess(access) => return Some(access.diagnostic().note(kept(waiting))),
            Self::Refused { words } => (words, "let the dispatcher's user push to the branch, or change the hook"),
            Self::Unreachable { words } => (words, "dispatcher fetch     once the remote is back"),
            Self::Pushed { .. } | Self::UpToDate | Self::Moved | Self::Busy { .. } | Self::NoRemote => return None,
        };
        let message = format!("push to {} failed, {waiting} results are kept locally", text::line(remote));
        let problem = Diagnostic::new("E0502", message).note(format!("remote said: {words}"));
        Some(problem.note("runs go on; nothing is lost").help(help))
    }
}

fn kept(waiting: usize) -> String {
    format!("{waiting} results are kept locally; runs go on; nothing is lost")
}

/// A push that was not tried.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The remote's URL cannot be used.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// The token or the certificates of the configuration cannot be used.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// The local repository.
    #[error(transparent)]
    Git(#[from] RepoError),
}

impl PushError {
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
            Self::Git(e) => e.diagnostic(),
        }
    }
}

impl Repo {
    /// Pushes the local branch.
    ///
    /// # Errors
    /// See [`PushError`]; nothing was sent then.
    pub fn push(&self) -> Result<PushOutcome, PushError> {
        let Some(target) = self.target_of_remote(true)? else { return Ok(PushOutcome::NoRemote) };
        let (Some(tip), seen) = (self.tip()?, self.remote_tip()?) else { return Ok(PushOutcome::UpToDate) };
        if seen == Some(tip) {
            return Ok(PushOutcome::UpToDate);
        }
        let extends = seen.map_or(Ok(true), |seen| self.contains(tip, seen))?;
        let overrule = self.target(&self.overrule_ref())?.filter(|_| !extends);
        if !extends && (overrule.is_none() || overrule != seen) {
            return Ok(PushOutcome::Moved);
        }
        let parcel = Parcel { name: &self.branch_ref(), seen, tip, known: None };
        let outcome = self.push_to(target, &parcel)?;
        if matches!(outcome, PushOutcome::Pushed { .. }) {
            self.set_ref(&self.tracking_ref(), tip, "dispatcher: push")?;
            self.set_ref(&self.seen_ref(), tip, "")?;
            self.delete_ref(&self.overrule_ref())?;
            self.hand_over_git();
        }
        Ok(outcome)
    }

    /// Pushes the archive, which is only ever extended.
    ///
    /// # Errors
    /// See [`PushError`]; nothing was sent then.
    pub fn push_archive(&self) -> Result<PushOutcome, PushError> {
        let Some(target) = self.target_of_remote(true)? else { return Ok(PushOutcome::NoRemote) };
        let tracking = archive::tracking_ref(&self.settings.remote);
        let (Some(tip), seen) = (self.target(&archive::local_ref())?, self.target(&tracking)?) else {
            return Ok(PushOutcome::UpToDate);
        };
        if seen == Some(tip) {
            return Ok(PushOutcome::UpToDate);
        }
        if !seen.map_or(Ok(true), |seen| self.contains(tip, seen))? {
            return Ok(PushOutcome::Moved);
        }
        // Its runs come from the branch, where the remote has had them for long.
        let parcel = Parcel { name: &archive::local_ref(), seen, tip, known: self.remote_tip()? };
        let outcome = self.push_to(target, &parcel)?;
        if matches!(outcome, PushOutcome::Pushed { .. }) {
            self.set_ref(&tracking, tip, "dispatcher: push")?;
            self.set_ref(&self.archive_seen_ref(), tip, "")?;
            self.hand_over_git();
        }
        Ok(outcome)
    }

    fn push_to(&self, target: Target, parcel: &Parcel<'_>) -> Result<PushOutcome, PushError> {
        let talk = self.talk(target)?;
        let verdict = RefCell::new(Verdict::default());
        let sent = match talk.target() {
            Target::Https(https) => self.send_by_https(&talk, https, &verdict, parcel),
            Target::Path(_) | Target::Ssh { .. } => self.send(&talk, &verdict, parcel),
        };
        Ok(self.judge(&talk, sent, &verdict.into_inner(), parcel.tip))
    }

    /// As `send`. What is no fast-forward is let through by the lease alone, after `push` has looked at it.
    fn send_by_https(
        &self,
        talk: &Conversation,
        https: &Https,
        verdict: &RefCell<Verdict>,
        parcel: &Parcel<'_>,
    ) -> Result<(), Error> {
        let names = [parcel.name.to_owned()];
        let mut helper = self.helper(talk, https)?;
        let moved = helper.look(&names, true).map_err(in_libgit2)? != [parcel.seen];
        verdict.borrow_mut().moved = moved;
        if !moved {
            verdict.borrow_mut().status = Some(helper.push(parcel.tip, parcel.name, parcel.seen).map_err(in_libgit2)?);
        }
        Ok(())
    }

    fn judge(&self, talk: &Conversation, sent: Result<(), Error>, verdict: &Verdict, tip: Oid) -> PushOutcome {
        if verdict.moved {
            return PushOutcome::Moved;
        }
        match (&verdict.status, sent) {
            (Some(None), _) => PushOutcome::Pushed { oid: tip },
            (Some(Some(status)), _) => {
                let said = [shown(&verdict.sideband), talk.words()].into_iter().filter(|s| !s.is_empty());
                let words: Vec<String> = [text::line(status)].into_iter().chain(said).collect();
                refusal(words.join("; "))
            }
            (None, Err(e)) if e.code() == git2::ErrorCode::NotFastForward => PushOutcome::Moved,
            (None, Ok(())) => {
                PushOutcome::Unreachable { words: "the remote did not say what became of the push".into() }
            }
            (None, Err(e)) => match self.fetch_error(talk, &e) {
                FetchError::Unreachable { words, .. } => PushOutcome::Unreachable { words },
                FetchError::Access(access) => PushOutcome::NoAccess(access),
                other => PushOutcome::Unreachable { words: other.to_string() },
            },
        }
    }
}

/// A ref that another push holds or has moved is no refusal; a disk that is full is one.
fn refusal(words: String) -> PushOutcome {
    let has = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
    let stuck = has(&["Permission denied", "No space left", "Read-only file system", "Disk quota"]);
    let moved = has(&[
        "non-fast-forward",
        "fetch first",
        "failed to update ref",
        "cannot lock ref",
        "failed to lock",
        "stale info",
        "but expected",
    ]);
    // A hook's free text may hold any of these words; its verdict does not.
    if moved && !stuck && !words.starts_with("pre-receive hook declined") && !words.starts_with("hook declined") {
        PushOutcome::Busy { words }
    } else {
        PushOutcome::Refused { words }
    }
}
