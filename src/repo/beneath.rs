//! What a commit of ours stands on. A person's git syncs little of what it writes, and a power cut may take a commit away
//! that ours has for a parent. Owns the rule that such commits are written once more, into the pack of the batch.

use std::fs;

use git2::Oid;

use super::error::{Doing, RepoError};
use super::open::Repo;
use super::pack::Batch;

/// Commits from `tip` down to `base`, which is not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beneath {
    pub(super) tip: Oid,
    pub(super) base: Option<Oid>,
}

impl Repo {
    /// What beneath `tip` may not be on the disk; `None` where all of it is.
    pub(super) fn beneath(&self, tip: Option<Oid>) -> Result<Option<Beneath>, RepoError> {
        let durable = self.durable.get().filter(|oid| self.git.find_commit(*oid).is_ok());
        let Some(tip) = tip.filter(|_| tip != durable) else { return Ok(None) };
        if durable.is_some() {
            let loose = self.between(durable, tip)?.into_iter().any(|oid| self.is_loose(oid));
            return Ok(loose.then_some(Beneath { tip, base: durable }));
        }
        // Packs are synced, whoever writes them, and what is beneath a commit of ours was looked at when it was made.
        let mut at = Some(tip);
        while let Some(oid) = at.filter(|oid| self.is_loose(*oid)) {
            at = self.git.find_commit(oid).doing("read history")?.parent_ids().next();
        }
        Ok((at != Some(tip)).then_some(Beneath { tip, base: at }))
    }

    /// Makes all that is beneath `tip` durable, before the branch goes there.
    pub(super) fn settle(&self, tip: Oid) -> Result<(), RepoError> {
        if let Some(beneath) = self.beneath(Some(tip))? {
            let mut objects = Batch::open(self)?;
            objects.add_beneath(beneath);
            objects.finish()?;
        }
        self.durable.set(Some(tip));
        Ok(())
    }

    fn is_loose(&self, oid: Oid) -> bool {
        let hex = oid.to_string();
        let (folder, name) = hex.split_at(2);
        fs::symlink_metadata(self.common.join("objects").join(folder).join(name)).is_ok()
    }
}
