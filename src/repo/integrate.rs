//! Bringing the local branch and the remote branch together. Owns the decision: fast-forward, replay, or stop and let a
//! person decide. Never merges, never drops.
//!
//! ```text
//! remote == local, or behind it      Unchanged
//! local behind remote                FastForwarded
//! both have commits: ours here       Replayed (our result commits, rebuilt on top of the remote)
//!                    a person's here Blocked
//! remote no longer contains the tip that was seen last    Diverged, unless all that it lost was ours
//! ```

use git2::Oid;

use super::error::{Doing, RepoError};
use super::forward::Forwarded;
use super::obstacle::{Blocked, Why};
use super::open::Repo;
use super::tree;
use crate::request::RunId;
use crate::text;

/// A request that was renamed out of the work tree and is not recorded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenPath {
    /// Its file name in `requests/`: bytes, as git's names are.
    pub name: Vec<u8>,
    /// Of the bytes that were taken.
    pub oid: Oid,
}

/// What another dispatcher recorded that we took or recorded too: two work on one branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Elsewhere {
    /// The same run, in commit `commit`. Ours lies below `processed/<id>/other-…/`.
    Run {
        /// The run.
        id: RunId,
    },
    /// The same request, under another id.
    Request {
        /// Its file name in `requests/`.
        name: Vec<u8>,
    },
}

/// How local and remote stand after a try to bring them together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Integrated {
    /// Nothing new on the remote.
    Unchanged,
    /// The checkout followed the remote.
    FastForwarded {
        /// The tip before; `None` for an unborn branch.
        from: Option<Oid>,
        /// The tip now.
        to: Oid,
        /// Paths that no work tree can hold, escaped; they are in the commit only.
        left_out: Vec<String>,
        /// Taken requests that another dispatcher recorded.
        elsewhere: Vec<Elsewhere>,
    },
    /// Our unpublished results were rebuilt on top of the remote.
    Replayed {
        /// The tip before.
        from: Oid,
        /// The tip now.
        to: Oid,
        /// How many of our commits.
        replayed: usize,
        /// As in `FastForwarded`.
        left_out: Vec<String>,
        /// Requests and runs that another dispatcher recorded.
        elsewhere: Vec<Elsewhere>,
    },
    /// The remote was rewritten: a person decides ([`Repo::accept_remote`], [`Repo::keep_local`]).
    Diverged {
        /// The local tip.
        local: Option<Oid>,
        /// The remote's; `None` where its branch was deleted.
        remote: Option<Oid>,
    },
    /// Something of a person's is in the way.
    Blocked(Blocked),
}

impl Repo {
    /// Brings the local branch up to the remote branch as the last fetch saw it.
    ///
    /// # Errors
    /// Git's database or the disk; nothing has moved then that the next try does not finish.
    pub fn integrate(&self, taken: &[TakenPath]) -> Result<Integrated, RepoError> {
        loop {
            match self.try_integrate(taken)? {
                // The branch moved meanwhile, or a lock was let go just now.
                None => {}
                Some(Integrated::Blocked(b))
                    if b.is_passing() && self.checkout_state()? == super::CheckoutState::OnBranch => {}
                Some(done) => return Ok(done),
            }
        }
    }

    fn try_integrate(&self, taken: &[TakenPath]) -> Result<Option<Integrated>, RepoError> {
        let (local, remote) = (self.tip()?, self.remote_tip()?);
        let seen = self.target(&self.seen_ref())?;
        let Some(remote) = remote else {
            let gone = seen.is_some();
            return Ok(Some(if gone { Integrated::Diverged { local, remote } } else { Integrated::Unchanged }));
        };
        let ordered = self.ordered(local, remote)?;
        if ordered == Some(remote) {
            return Ok(Some(Integrated::Unchanged));
        }
        // The order was about another tip: who moved the remote since is not overruled, and not followed either.
        if ordered.is_some() || self.is_rewritten(local, remote, seen)? {
            return Ok(Some(Integrated::Diverged { local, remote: Some(remote) }));
        }
        let done = self.join(local, remote, taken)?;
        if matches!(done, Some(Integrated::Unchanged | Integrated::FastForwarded { .. } | Integrated::Replayed { .. }))
        {
            self.set_ref(&self.seen_ref(), remote, "")?;
            self.hand_over_git();
        }
        Ok(done)
    }

    fn join(&self, local: Option<Oid>, remote: Oid, taken: &[TakenPath]) -> Result<Option<Integrated>, RepoError> {
        let Some(tip) = local else { return self.follow(None, remote, taken) };
        if self.contains(tip, remote)? {
            return Ok(Some(Integrated::Unchanged));
        }
        if self.contains(remote, tip)? {
            return self.follow(local, remote, taken);
        }
        let Ok(base) = self.git.merge_base(tip, remote) else {
            return Ok(Some(Integrated::Diverged { local, remote: Some(remote) }));
        };
        let own = self.between(Some(remote), tip)?;
        let mut strangers = Vec::new();
        for oid in &own {
            if !self.is_ours(*oid)? {
                strangers.push(*oid);
            }
        }
        if !strangers.is_empty() {
            let paths = strangers.iter().take(20).map(|oid| self.headline(*oid)).collect();
            return Ok(Some(Integrated::Blocked(Blocked { paths, why: Why::OwnCommits })));
        }
        self.replay(tip, base, remote, &own, taken)
    }

    fn follow(&self, from: Option<Oid>, to: Oid, taken: &[TakenPath]) -> Result<Option<Integrated>, RepoError> {
        Ok(match self.forward(from, to, taken, "dispatcher: fast-forward")? {
            Forwarded::Done { left_out } => {
                let elsewhere = self.taken_elsewhere(from, to, taken)?;
                Some(Integrated::FastForwarded { from, to, left_out, elsewhere })
            }
            Forwarded::Blocked(blocked) => Some(Integrated::Blocked(blocked)),
            Forwarded::Stale => None,
        })
    }

    /// The remote no longer contains what was seen of it, and that was not ours alone.
    pub(super) fn is_rewritten(&self, local: Option<Oid>, remote: Oid, seen: Option<Oid>) -> Result<bool, RepoError> {
        let Some(seen) = seen else { return Ok(false) };
        Ok(!self.contains(remote, seen)? && !self.lost_only_ours(local, remote, seen)?)
    }

    /// A remote that went back over nothing but our own commits (a power cut of its own) gets them again.
    fn lost_only_ours(&self, local: Option<Oid>, remote: Oid, seen: Oid) -> Result<bool, RepoError> {
        let Some(local) = local else { return Ok(false) };
        if !self.contains(seen, remote)? || !self.contains(local, seen)? {
            return Ok(false);
        }
        for oid in self.between(Some(remote), seen)? {
            if !self.is_ours(oid)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// True for a result commit: one parent, our subject, and nothing but results added and requests removed. The
    /// identity does not count: it may be configured anew while results wait.
    pub(super) fn is_ours(&self, oid: Oid) -> Result<bool, RepoError> {
        let commit = self.git.find_commit(oid).doing("read a commit")?;
        let subject = commit.message_bytes();
        if commit.parent_count() > 1 || !(subject.starts_with(b"executor: ") || subject.starts_with(b"archive: ")) {
            return Ok(false);
        }
        let parent = commit.parent_ids().next().map(|p| tree::of_commit(&self.git, p)).transpose()?;
        let (changes, unfit) = tree::diff(&self.odb()?, parent, Some(commit.tree_id()))?;
        let result = |c: &tree::Change| {
            c.path.starts_with(b"processed/")
                || c.path.starts_with(b"logs/")
                || (c.path.starts_with(b"requests/") && c.new.is_none())
        };
        Ok(unfit.is_empty() && changes.iter().all(result))
    }

    /// Taken requests that a result commit of somebody else removed between two commits.
    pub(super) fn taken_elsewhere(
        &self,
        from: Option<Oid>,
        to: Oid,
        taken: &[TakenPath],
    ) -> Result<Vec<Elsewhere>, RepoError> {
        let Some(from) = from else { return Ok(Vec::new()) };
        let gone = self.withdrawn(from, to, taken)?.into_iter().filter(|w| w.recorded);
        Ok(gone.map(|w| Elsewhere::Request { name: w.name }).collect())
    }

    pub(super) fn headline(&self, oid: Oid) -> String {
        let subject = self
            .git
            .find_commit(oid)
            .ok()
            .map(|c| c.message_bytes().split(|&b| b == b'\n').next().unwrap_or_default().to_vec());
        format!("{} {}", &oid.to_string()[..7], text::bytes(&subject.unwrap_or_default()))
    }
}
