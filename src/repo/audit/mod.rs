//! Does history keep what the dispatcher promises (I1, I2, I7)? Reads every commit of the branch, the archive, and the
//! dispatcher's own refs; names each breach with the commit and what to type. Changes nothing, asks no remote.
//!
//! ```text
//! commits, oldest first ─▶ what each did to requests/ and processed/ ─▶ ledger: one line per run ─┐
//! tip and archive       ─▶ where each final status lies now ─────────────────────────────────────┴▶ breaches
//! ```
//!
//! Memory: about 100 bytes per run and 40 per commit, whatever the size of the files.

mod changes;
mod ledger;
mod refs;
mod walk;

use std::collections::BTreeSet;

use git2::Oid;

use super::error::RepoError;
use super::open::Repo;
use super::tree;
use crate::diagnostic::Diagnostic;
use crate::request::RunId;

/// Something that must hold, and does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// `I1`, `I2`, `I7` or `I8`.
    pub invariant: &'static str,
    /// What is wrong, where, and what to type.
    pub problem: Diagnostic,
    /// Of which run.
    pub run: Option<RunId>,
    /// The commit that broke it.
    pub commit: Option<String>,
}

impl Breach {
    /// Of this invariant.
    #[must_use]
    pub const fn new(invariant: &'static str, problem: Diagnostic) -> Self {
        Self { invariant, problem, run: None, commit: None }
    }

    /// Of this run.
    #[must_use]
    pub const fn of(mut self, run: RunId) -> Self {
        self.run = Some(run);
        self
    }

    /// By this commit.
    #[must_use]
    pub fn by(mut self, commit: Oid) -> Self {
        self.commit = Some(commit.to_string());
        self
    }
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Commits of the branch.
    pub commits: usize,
    /// Every run with a final status in one of them.
    pub recorded: BTreeSet<RunId>,
    /// Those that lie in the archive now.
    pub archived: usize,
    /// Runs that only commits under `refs/dispatcher/kept/` hold.
    pub kept: BTreeSet<RunId>,
    /// In the order in which they happened, those of the refs last.
    pub breaches: Vec<Breach>,
    /// What looks odd and breaks nothing.
    pub notes: Vec<String>,
}

impl Repo {
    /// Reads all of history.
    ///
    /// # Errors
    /// An object is missing or damaged: `git fsck` names it.
    pub fn audit(&self) -> Result<Audit, RepoError> {
        let mut audit = Audit::default();
        let Some(head) = self.audited_tip()? else { return Ok(audit) };
        let mut ledger = ledger::Ledger::default();
        let order = self.between(None, head)?;
        audit.commits = order.len();
        let reachable: BTreeSet<Oid> = order.iter().copied().collect();
        self.walk(&order, &mut |step| ledger.enter(self, step))?;
        let now = self.results_of(head)?;
        let archive = self.archived_results()?;
        audit.archived = archive.keys().filter(|id| ledger.knows(**id)).count();
        ledger.close(self, &now, &archive, &mut audit)?;
        self.audit_refs(&reachable, &mut audit)?;
        Ok(audit)
    }

    /// The newest state of the branch that is here: what the remote has, where that contains all that is local.
    fn audited_tip(&self) -> Result<Option<Oid>, RepoError> {
        Ok(match (self.tip()?, self.remote_tip()?) {
            (Some(local), Some(remote)) if self.contains(remote, local)? => Some(remote),
            (Some(local), _) => Some(local),
            (None, remote) => remote,
        })
    }

    /// Requests in the tip of the local branch, by name; links too, other things not.
    ///
    /// # Errors
    /// The tip cannot be read.
    pub fn committed_requests(&self) -> Result<Vec<Vec<u8>>, RepoError> {
        let Some(tip) = self.tip()? else { return Ok(Vec::new()) };
        let odb = self.odb()?;
        let folder = tree::find(&odb, tree::of_commit(&self.git, tip)?, b"requests")?;
        let Some(folder) = folder.filter(|leaf| leaf.mode == tree::FOLDER) else { return Ok(Vec::new()) };
        let entries = tree::read(&odb, folder.oid)?.into_iter();
        Ok(entries.filter(|e| !matches!(e.mode, tree::FOLDER | tree::SUBMODULE)).map(|e| e.name).collect())
    }
}
