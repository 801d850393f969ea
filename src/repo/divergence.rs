//! A remote that was rewritten: what a person sees, and the two ways on. Owns the only two places where something leaves
//! a branch, and keeps it.

use git2::Oid;

use super::error::{Doing, RepoError};
use super::integrate::{Integrated, TakenPath};
use super::open::Repo;
use crate::diagnostic::Diagnostic;
use crate::text;

/// What a person's decision led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// How the branch stands now.
    pub outcome: Integrated,
    /// The refs that hold both sides as they were: the local one first, the remote's where it has a branch.
    pub kept: Vec<String>,
}

impl Repo {
    /// What a person needs to decide.
    ///
    /// # Errors
    /// History cannot be read.
    pub fn divergence(&self, local: Option<Oid>, remote: Option<Oid>) -> Result<Diagnostic, RepoError> {
        let (name, branch) = (&self.settings.remote, &self.settings.branch);
        let advice = |problem: Diagnostic| {
            problem.help("dispatcher resume --accept-remote     or     dispatcher resume --keep-local")
        };
        let (Some(local), Some(remote)) = (local, remote) else {
            let message = format!("{name}/{branch} was deleted on the remote; no request will start");
            return Ok(advice(Diagnostic::new("E0501", message)));
        };
        let (here, there) = self.git.graph_ahead_behind(local, remote).doing("compare two commits")?;
        let message = format!(
            "local {branch} and {name}/{branch} have diverged ({here} commits here, {there} there); no request will start"
        );
        let author = self.git.find_commit(remote).doing("read the remote branch")?;
        let problem = Diagnostic::new("E0501", message)
            .note(format!(
                "local {}, remote {} by {}",
                self.headline(local),
                self.headline(remote),
                text::bytes(author.author().name_bytes())
            ))
            .note("dispatcher never rewrites or merges history it did not make")
            .help(format!(
                "git -C {} log --oneline --left-right {branch}...{name}/{branch}",
                super::open::show(&self.root)
            ));
        Ok(advice(problem))
    }

    /// True where [`Self::integrate`] would stop at a remote that was rewritten, and where a person's order to replace
    /// such a remote has not been carried out: it may still be decided otherwise.
    ///
    /// # Errors
    /// History cannot be read.
    pub fn is_diverged(&self) -> Result<bool, RepoError> {
        let (local, remote, seen) = (self.tip()?, self.remote_tip()?, self.target(&self.seen_ref())?);
        let Some(remote) = remote else { return Ok(seen.is_some()) };
        if self.ordered(local, remote)?.is_some() || self.is_rewritten(local, remote, seen)? {
            return Ok(true);
        }
        Ok(local.is_some_and(|local| self.git.merge_base(local, remote).is_err()))
    }

    /// The remote tip that a person ordered to be replaced, as long as that was not carried out.
    pub(super) fn ordered(&self, local: Option<Oid>, remote: Oid) -> Result<Option<Oid>, RepoError> {
        let Some(overruled) = self.target(&self.overrule_ref())? else { return Ok(None) };
        let done = local.map_or(Ok(false), |local| self.contains(local, remote))?;
        Ok(Some(overruled).filter(|_| !done))
    }

    /// After a rewrite, takes the remote's side: results of ours that it lacks are replayed on top of it. Both sides as
    /// they were stay under `refs/dispatcher/kept/`.
    ///
    /// # Errors
    /// Git's database or the disk.
    pub fn accept_remote(&self, taken: &[TakenPath]) -> Result<Decided, RepoError> {
        loop {
            let (local, remote) = (self.tip()?, self.remote_tip()?);
            let kept = self.keep_both(local, remote)?;
            let (Some(tip), Some(remote)) = (local, remote) else {
                // A deleted branch is made anew by the next push: there is no other side to take.
                self.delete_ref(&self.seen_ref())?;
                return Ok(Decided { outcome: self.integrate(taken)?, kept });
            };
            self.delete_ref(&self.overrule_ref())?;
            let base = self.git.merge_base(tip, remote).ok();
            let mut ours = Vec::new();
            for oid in self.between(Some(remote), tip)? {
                if self.is_ours(oid)? {
                    ours.push(oid);
                }
            }
            if let Some(outcome) = self.replay(tip, base.unwrap_or(tip), remote, &ours, taken)? {
                if matches!(outcome, Integrated::Replayed { .. }) {
                    self.set_ref(&self.seen_ref(), remote, "")?;
                }
                self.hand_over_git();
                return Ok(Decided { outcome, kept });
            }
        }
    }

    /// After a rewrite, takes the local side: the next push replaces the remote branch, and only if it still is what
    /// was fetched. Both sides as they were stay under `refs/dispatcher/kept/`.
    ///
    /// # Errors
    /// The refs cannot be written.
    pub fn keep_local(&self) -> Result<Decided, RepoError> {
        let remote = self.remote_tip()?;
        let kept = self.keep_both(self.tip()?, remote)?;
        match remote {
            Some(remote) => {
                self.set_ref(&self.overrule_ref(), remote, "")?;
                self.set_ref(&self.seen_ref(), remote, "")?;
            }
            None => self.delete_ref(&self.seen_ref())?,
        }
        self.hand_over_git();
        Ok(Decided { outcome: Integrated::Unchanged, kept })
    }

    fn keep_both(&self, local: Option<Oid>, remote: Option<Oid>) -> Result<Vec<String>, RepoError> {
        local.into_iter().chain(remote).map(|oid| self.keep(oid)).collect()
    }
}
