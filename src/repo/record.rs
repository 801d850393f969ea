//! Recording what can be recorded: one run that cannot be committed as it is must not hold up the others. Owns what is
//! left out then, and says so.

use std::fs;

use git2::Oid;

use super::commit::{CommitError, Content, RunRecord};
use super::open::Repo;
use crate::diagnostic::Diagnostic;

/// More runs are recorded by several commits.
const MOST_RUNS: usize = 100;
/// Files are in memory while they are committed. One run is never divided.
const MOST_BYTES: u64 = 32 << 20;

/// A batch of which everything is recorded that can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The commit; the tip where nothing was left to commit.
    pub commit: Oid,
    /// As in [`super::Committed`].
    pub indexed: bool,
    /// What was left out, for people.
    pub problems: Vec<Diagnostic>,
}

impl Repo {
    /// As [`Repo::commit`], but a file that cannot be read is left out, and so is a run that is recorded already with
    /// another status: what is final stays.
    ///
    /// # Errors
    /// What concerns no single run; the branch is then as it was.
    pub fn record(&self, mut batch: Vec<RunRecord>) -> Result<Recorded, CommitError> {
        let mut problems = Vec::new();
        loop {
            let error = match self.commit(&batch) {
                Ok(done) => return Ok(Recorded { commit: done.oid, indexed: done.indexed, problems }),
                Err(error) => error,
            };
            match &error {
                CommitError::Unreadable { id, path, .. } => {
                    for run in batch.iter_mut().filter(|run| run.id == *id) {
                        run.files.retain(|file| file.path != *path);
                    }
                }
                CommitError::Recorded(id) => batch.retain(|run| run.id != *id),
                CommitError::Empty => {
                    let tip = self.tip()?.ok_or(error)?;
                    return Ok(Recorded { commit: tip, indexed: true, problems });
                }
                _ => return Err(error),
            }
            problems.push(error.diagnostic());
        }
    }
}

/// How many of these, from the first one on, fit into one commit: at least one.
#[must_use]
pub fn fitting(batch: &[RunRecord]) -> usize {
    let size = |content: &Content| match content {
        Content::Bytes(bytes) => bytes.len() as u64,
        Content::File(path) => fs::symlink_metadata(path).map_or(0, |meta| meta.len()),
    };
    let mut sum = 0_u64;
    let sums = batch.iter().map(|run| {
        sum = run.files.iter().fold(sum, |sum, file| sum.saturating_add(size(&file.content)));
        sum
    });
    sums.take(MOST_RUNS).take_while(|&sum| sum <= MOST_BYTES).count().max(1)
}
