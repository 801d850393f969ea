//! Replay: our unpublished result commits, rebuilt by tree edit on top of the remote, in order, with their authors and
//! dates, no merge commits. Owns what happens where both sides touched the same path.

use std::collections::BTreeMap;

use git2::Oid;

use super::commit::edit;
use super::error::{Doing, RepoError};
use super::forward::Forwarded;
use super::integrate::{Elsewhere, Integrated, TakenPath};
use super::open::Repo;
use super::pack::Batch;
use super::tree::{self, Change, Leaf};
use crate::request::RunId;

/// What was rebuilt.
struct Rebuilt {
    tip: Oid,
    commits: usize,
    elsewhere: Vec<Elsewhere>,
}

impl Repo {
    /// Rebuilds `own` (oldest first) on `remote` and moves the checkout there from `tip`.
    pub(super) fn replay(
        &self,
        tip: Oid,
        base: Oid,
        remote: Oid,
        own: &[Oid],
        taken: &[TakenPath],
    ) -> Result<Option<Integrated>, RepoError> {
        let mut rebuilt = self.rebuild(base, remote, own)?;
        Ok(match self.forward(Some(tip), rebuilt.tip, taken, "dispatcher: replay")? {
            Forwarded::Done { left_out } => {
                rebuilt.elsewhere.extend(self.taken_elsewhere(Some(base), remote, taken)?);
                Some(Integrated::Replayed {
                    from: tip,
                    to: rebuilt.tip,
                    replayed: rebuilt.commits,
                    left_out,
                    elsewhere: rebuilt.elsewhere,
                })
            }
            Forwarded::Blocked(blocked) => Some(Integrated::Blocked(blocked)),
            Forwarded::Stale => None,
        })
    }

    fn rebuild(&self, base: Oid, remote: Oid, own: &[Oid]) -> Result<Rebuilt, RepoError> {
        let mut objects = Batch::open(self)?;
        let mut rebuilt = Rebuilt { tip: remote, commits: 0, elsewhere: Vec::new() };
        let mut root = tree::of_commit(&self.git, remote)?;
        let mut requests = Vec::new();
        for oid in own {
            let commit = self.git.find_commit(*oid).doing("read a commit")?;
            let parent = commit.parent_ids().next().map(|p| tree::of_commit(&self.git, p)).transpose()?;
            let (changes, _) = tree::diff(&self.odb()?, parent, Some(commit.tree_id()))?;
            let edits = edits_on(&objects, root, &changes, *oid, &mut rebuilt.elsewhere, &mut requests)?;
            let edited = edit(&mut objects, Some(root), &edits)?;
            if edited == Some(root) {
                continue;
            }
            let message = String::from_utf8_lossy(commit.message_raw_bytes()).into_owned();
            rebuilt.tip =
                objects.commit(edited, Some(rebuilt.tip), [&commit.author(), &commit.committer()], &message)?;
            rebuilt.commits += 1;
            match edited {
                Some(tree) => root = tree,
                None => return Err(RepoError::new("replay a commit", "nothing would be left in the repository")),
            }
        }
        objects.finish()?;
        let gone = self.withdrawn(base, remote, &requests)?.into_iter().filter(|w| w.recorded);
        rebuilt.elsewhere.extend(gone.map(|w| Elsewhere::Request { name: w.name }));
        Ok(rebuilt)
    }
}

/// The edits of one of our commits as they are to be on `root`. `gone` gets the requests that are not there any more.
fn edits_on(
    objects: &Batch,
    root: Oid,
    changes: &[Change],
    commit: Oid,
    elsewhere: &mut Vec<Elsewhere>,
    gone: &mut Vec<TakenPath>,
) -> Result<BTreeMap<Vec<u8>, Option<Leaf>>, RepoError> {
    let odb = objects.odb()?;
    let mut edits = BTreeMap::new();
    let (mut doubled, mut edited): (Vec<RunId>, Vec<RunId>) = (Vec::new(), Vec::new());
    for change in changes {
        let there = tree::find(&odb, root, &change.path)?;
        match change.new {
            // Other bytes under the same name are a new request: they stay.
            None if there.is_some() && there == change.old => {
                edits.insert(change.path.clone(), None);
            }
            None => {
                let name = change.path.strip_prefix(b"requests/").filter(|_| there.is_none());
                gone.extend(name.zip(change.old).map(|(name, old)| TakenPath { name: name.to_vec(), oid: old.oid }));
                edited.extend(run_of(&change.path).filter(|_| there.is_some()));
            }
            Some(leaf) if there.is_none() || there == change.old || there == Some(leaf) => {
                edits.insert(change.path.clone(), Some(leaf));
            }
            Some(_) => doubled.extend(run_of(&change.path)),
        }
    }
    // A run that somebody edited there stays on the branch as a whole.
    edits.retain(|path, new| new.is_some() || run_of(path).is_none_or(|id| !edited.contains(&id)));
    doubled.sort_unstable();
    doubled.dedup();
    for id in doubled {
        // The other side's was final first; ours is kept whole beside it.
        let own: Vec<(Vec<u8>, Leaf)> = changes
            .iter()
            .filter(|c| run_of(&c.path) == Some(id))
            .filter_map(|c| c.new.map(|leaf| (c.path.clone(), leaf)))
            .collect();
        for (path, leaf) in own {
            edits.remove(&path);
            let name = path.rsplit(|&b| b == b'/').next().unwrap_or_default();
            let mut kept = format!("processed/{id}/other-{}/", &commit.to_string()[..8]).into_bytes();
            kept.extend_from_slice(name);
            edits.insert(kept, Some(leaf));
        }
        elsewhere.push(Elsewhere::Run { id });
    }
    Ok(edits)
}

/// The run that a path belongs to.
pub(super) fn run_of(path: &[u8]) -> Option<RunId> {
    let text = std::str::from_utf8(path).ok()?;
    let rest = text.strip_prefix("processed/").or_else(|| text.strip_prefix("logs/"))?;
    rest.split(['/', '.']).next()?.parse().ok()
}
