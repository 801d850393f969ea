//! Moving old runs from the branch to the archive, and bringing the local archive and the remote's together. Owns the
//! order: what leaves the branch is in the archive before, durably, and on the remote where there is one. A crash in
//! between leaves a run in both, never in none. The archive only grows: what one side lacks it is given.

use std::collections::{BTreeMap, BTreeSet};

use git2::{Index, Odb, Oid};

use super::archive::{self, local_ref, tracking_ref};
use super::checkout::CheckoutState;
use super::commit::edit;
use super::error::{Doing, RepoError};
use super::forward::Forwarded;
use super::integrate::TakenPath;
use super::obstacle::Survey;
use super::open::Repo;
use super::pack::Batch;
use super::refs::Move;
use super::tree::{self, Change, Leaf};
use crate::diagnostic::Diagnostic;
use crate::request::RunId;
use crate::time::Time;

/// Another process moves the archive only when a person does.
const MOVE_TRIES: u32 = 10;

type Edits = BTreeMap<Vec<u8>, Option<Leaf>>;

/// What one step of moving old runs has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retired {
    /// So many runs have left the branch.
    pub moved: usize,
    /// By this commit.
    pub commit: Option<Oid>,
    /// The remote's archive lacks something of ours: until it is pushed nothing leaves the branch.
    pub unpublished: bool,
    /// Another step would move more.
    pub more: bool,
}

/// A run on the branch that may leave it.
struct Old {
    /// `<yyyy>/<mm>/<dd>`.
    day: String,
    id: RunId,
    /// Its paths on the branch.
    files: Vec<(Vec<u8>, Leaf)>,
}

impl Old {
    /// Where its files lie in the archive: all of them in its one folder.
    fn archived(&self) -> impl Iterator<Item = (Vec<u8>, Leaf)> {
        let folder = format!("{}/{}/", self.day, self.id).into_bytes();
        let inner = format!("processed/{}/", self.id).into_bytes();
        self.files.iter().map(move |(path, leaf)| {
            let name = path.strip_prefix(inner.as_slice()).or_else(|| path.strip_prefix(b"logs/")).unwrap_or(path);
            ([&folder, name].concat(), *leaf)
        })
    }
}

impl Repo {
    /// One step towards the newest `keep` runs alone on the branch: enters at most `most` of the others into the archive,
    /// or, where the archive is published (or nothing is to be published), takes them off the branch. Nothing is done for
    /// fewer than `least`. A run with a file that a person has edited stays.
    ///
    /// # Errors
    /// Git's database or the disk; every run is on the branch or in the archive then, or in both.
    pub fn retire(&self, keep: usize, least: usize, most: usize, taken: &[TakenPath]) -> Result<Retired, RepoError> {
        let mut done = Retired { unpublished: self.archive_is_ahead()?, ..Retired::default() };
        let Some(tip) = self.tip()? else { return Ok(done) };
        if done.unpublished || self.checkout_state()? != CheckoutState::OnBranch {
            return Ok(done);
        }
        let (mut old, beyond) = self.old_runs(tip, keep, least.max(1))?;
        self.drop_edited(&mut old, taken)?;
        old.truncate(most);
        if old.is_empty() {
            return Ok(done);
        }
        // What has been entered goes first: under load there would be ever more to enter.
        let entered = self.entered(&old)?;
        if entered.contains(&true) {
            let mut entered = entered.into_iter();
            old.retain(|_| entered.next() == Some(true));
        } else if old.len() < least.max(1) {
            // The others have been edited.
            return Ok(done);
        } else {
            // What a person committed may not be on the disk, and the archive is about to name it.
            self.settle(tip)?;
            self.enter(&old)?;
            done.unpublished = self.archive_is_ahead()?;
            if done.unpublished {
                return Ok(done);
            }
        }
        let edits: Edits = old.iter().flat_map(|run| &run.files).map(|(path, _)| (path.clone(), None)).collect();
        let mut objects = Batch::open(self)?;
        let left = edit(&mut objects, Some(tree::of_commit(&self.git, tip)?), &edits)?;
        let who = self.signature()?;
        let commit = objects.commit(left, Some(tip), [&who, &who], &message(old.len()))?;
        objects.finish()?;
        if let Forwarded::Done { .. } = self.forward(Some(tip), commit, taken, "dispatcher: archive")? {
            (done.moved, done.commit, done.more) = (old.len(), Some(commit), beyond > old.len());
        }
        Ok(done)
    }

    /// The final runs of the branch beyond the newest `keep`, oldest first, and how many these are; none where they are
    /// fewer than `least`.
    fn old_runs(&self, tip: Oid, keep: usize, least: usize) -> Result<(Vec<Old>, usize), RepoError> {
        let odb = self.odb()?;
        let root = tree::of_commit(&self.git, tip)?;
        let folder = |name: &[u8]| -> Result<Vec<tree::Entry>, RepoError> {
            match tree::find(&odb, root, name)? {
                Some(leaf) if leaf.mode == tree::FOLDER => tree::read(&odb, leaf.oid),
                _ => Ok(Vec::new()),
            }
        };
        let runs = folder(b"processed")?;
        let runs = runs.iter().filter(|e| e.mode == tree::FOLDER).filter_map(|e| Some((id_of(&e.name)?, e.oid)));
        let runs: Vec<(RunId, Oid)> = runs.collect();
        if runs.len() < keep.saturating_add(least) {
            return Ok((Vec::new(), 0));
        }
        let mut finished = Vec::new();
        for (id, tree) in runs {
            match finished_at(&odb, tree)? {
                Some(at) => finished.push((at, id, tree, at.day())),
                // Edited beyond reading, where the archive has it already.
                None => {
                    let day = self.archived(id)?.map(|run| run.day);
                    finished.extend(day.map(|day| (Time::from_millis(0), id, tree, day)));
                }
            }
        }
        finished.sort_unstable();
        let beyond = finished.len().saturating_sub(keep);
        if beyond < least {
            return Ok((Vec::new(), 0));
        }
        finished.truncate(beyond);
        let mut logs: BTreeMap<RunId, Vec<(Vec<u8>, Leaf)>> = BTreeMap::new();
        for entry in folder(b"logs")?.into_iter().filter(|e| e.mode != tree::FOLDER) {
            let id = entry.name.iter().position(|&b| b == b'.').and_then(|at| id_of(&entry.name[..at]));
            if let Some(id) = id {
                let leaf = Leaf { mode: entry.mode, oid: entry.oid };
                logs.entry(id).or_default().push(([b"logs/", entry.name.as_slice()].concat(), leaf));
            }
        }
        let mut old = Vec::new();
        for (_, id, tree, day) in finished {
            let (changes, _) = tree::diff(&odb, None, Some(tree))?;
            let inner = changes.into_iter().filter_map(|c| Some((c.path, c.new?)));
            let prefix = format!("processed/{id}/").into_bytes();
            let files = inner.map(|(path, leaf)| ([prefix.as_slice(), &path].concat(), leaf));
            old.push(Old { day, id, files: files.chain(logs.remove(&id).unwrap_or_default()).collect() });
        }
        Ok((old, beyond))
    }

    /// Leaves out the runs of which a person has edited or staged something.
    fn drop_edited(&self, old: &mut Vec<Old>, taken: &[TakenPath]) -> Result<(), RepoError> {
        let path = self.gitdir.join("index");
        let index = Index::open(&path).doing_to("read", &path)?;
        let gone = |(path, leaf): &(Vec<u8>, Leaf)| Change { path: path.clone(), old: Some(*leaf), new: None };
        let changes: Vec<Change> = old.iter().flat_map(|run| &run.files).map(gone).collect();
        let survey = Survey::new(self, &index, taken, &changes);
        let mut each = changes.iter();
        old.retain(|run| {
            // All of a run's, so that the next run's come next.
            let blocked = each.by_ref().take(run.files.len()).filter(|c| survey.obstacle(c).is_some()).count();
            blocked == 0
        });
        Ok(())
    }

    /// Which of these lie in the local archive as they are.
    fn entered(&self, old: &[Old]) -> Result<Vec<bool>, RepoError> {
        let tip = self.target(&local_ref())?;
        let root = tip.map(|oid| tree::of_commit(&self.git, oid)).transpose()?;
        let mut there = There::new(self, root)?;
        old.iter().map(|run| Ok(!there.lacks(run.archived(), &mut Edits::new())?)).collect()
    }

    /// Enters runs into the local archive, durably, in one commit; those that lie there already are left alone.
    fn enter(&self, old: &[Old]) -> Result<(), RepoError> {
        for _ in 0..MOVE_TRIES {
            let tip = self.target(&local_ref())?;
            let root = tip.map(|oid| tree::of_commit(&self.git, oid)).transpose()?;
            let mut there = There::new(self, root)?;
            let (mut edits, mut runs) = (Edits::new(), 0);
            for run in old {
                runs += usize::from(there.lacks(run.archived(), &mut edits)?);
            }
            if edits.is_empty() || self.commit_to_archive(tip, root, &edits, runs)? == Move::Done {
                return Ok(());
            }
        }
        Err(RepoError::new("enter runs into the archive", "somebody else keeps moving it"))
    }

    fn commit_to_archive(
        &self,
        tip: Option<Oid>,
        root: Option<Oid>,
        edits: &Edits,
        runs: usize,
    ) -> Result<Move, RepoError> {
        let mut objects = Batch::open(self)?;
        let tree = edit(&mut objects, root, edits)?;
        let who = self.signature()?;
        let commit = objects.commit(tree, tip, [&who, &who], &message(runs))?;
        objects.finish()?;
        let moved = self.move_ref(&local_ref(), tip, commit, &format!("archive: {runs} runs"))?;
        self.hand_over_git();
        Ok(moved)
    }

    /// True where there is a remote, and its archive is not ours as far as is known.
    ///
    /// # Errors
    /// The refs cannot be read.
    pub fn archive_is_ahead(&self) -> Result<bool, RepoError> {
        let Some(local) = self.target(&local_ref())? else { return Ok(false) };
        let has_remote = self.remote_names().contains(&self.settings.remote);
        Ok(has_remote && self.target(&tracking_ref(&self.settings.remote))? != Some(local))
    }

    /// Brings the local archive up to the remote's as the last fetch saw it. Where both have runs that the other lacks,
    /// ours are entered on top of the remote's. Gives what a person should know.
    ///
    /// # Errors
    /// Git's database or the disk; the local archive is as it was then.
    pub fn join_archives(&self) -> Result<Option<Diagnostic>, RepoError> {
        for _ in 0..MOVE_TRIES {
            let tracking = tracking_ref(&self.settings.remote);
            let (local, Some(remote)) = (self.target(&local_ref())?, self.target(&tracking)?) else { return Ok(None) };
            let seen = self.target(&self.archive_seen_ref())?;
            if seen == Some(remote) && local == seen {
                return Ok(None);
            }
            let rewritten = seen.map_or(Ok(false), |seen| self.contains(remote, seen).map(|still| !still))?;
            let (moved, told) = match local {
                None => (self.move_ref(&local_ref(), None, remote, "dispatcher: fetch")?, None),
                Some(local) if self.contains(local, remote)? => (Move::Done, None),
                Some(local) if self.contains(remote, local)? => {
                    (self.move_ref(&local_ref(), Some(local), remote, "dispatcher: fast-forward")?, None)
                }
                Some(local) => (self.unite(local, remote)?, rewritten.then(|| self.told_of_rewrite(local))),
            };
            if moved == Move::Done {
                self.set_ref(&self.archive_seen_ref(), remote, "")?;
                self.hand_over_git();
                return Ok(told);
            }
        }
        Err(RepoError::new("follow the remote's archive", "somebody else keeps moving the local one"))
    }

    /// Puts what only `local` has on top of `remote`, and moves the local archive there. Its old tip is kept.
    fn unite(&self, local: Oid, remote: Oid) -> Result<Move, RepoError> {
        let (ours, theirs) = (tree::of_commit(&self.git, local)?, tree::of_commit(&self.git, remote)?);
        let (changes, _) = tree::diff(&self.odb()?, Some(theirs), Some(ours))?;
        let files = changes.into_iter().filter_map(|c| Some((c.path, c.new?)));
        let mut edits = Edits::new();
        There::new(self, Some(theirs))?.lacks(files, &mut edits)?;
        self.keep(local)?;
        if edits.is_empty() {
            return self.move_ref(&local_ref(), Some(local), remote, "dispatcher: fast-forward");
        }
        let runs: BTreeSet<&[u8]> = edits.keys().filter_map(|path| path.split(|&b| b == b'/').nth(3)).collect();
        let mut objects = Batch::open(self)?;
        let tree = edit(&mut objects, Some(theirs), &edits)?;
        let who = self.signature()?;
        let commit = objects.commit(tree, Some(remote), [&who, &who], &message(runs.len()))?;
        objects.finish()?;
        self.move_ref(&local_ref(), Some(local), commit, "dispatcher: replay")
    }

    fn told_of_rewrite(&self, local: Oid) -> Diagnostic {
        let name = format!("{}/{}", self.settings.remote, archive::BRANCH);
        Diagnostic::new("E0527", format!("{name} was rewritten; the runs that it lacks are put back"))
            .note(format!("the archive as it was here is kept as refs/dispatcher/kept/{local}"))
            .help("to remove something for good, stop the dispatcher and rewrite the branch here and on the remote")
    }
}

/// What lies in an archive. A day's list is read once: it may be of many thousands of runs.
struct There<'r> {
    odb: Odb<'r>,
    root: Option<Oid>,
    days: BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Leaf>>,
}

impl<'r> There<'r> {
    fn new(repo: &'r Repo, root: Option<Oid>) -> Result<Self, RepoError> {
        Ok(Self { odb: repo.odb()?, root, days: BTreeMap::new() })
    }

    fn find(&mut self, path: &[u8]) -> Result<Option<Leaf>, RepoError> {
        let Some(root) = self.root else { return Ok(None) };
        let slashes: Vec<usize> = (0..path.len()).filter(|&at| path[at] == b'/').take(4).collect();
        let [_, _, day, run] = slashes[..] else { return tree::find(&self.odb, root, path) };
        let (day, id, name) = (&path[..day], &path[day + 1..run], &path[run + 1..]);
        if !self.days.contains_key(day) {
            let folder = tree::find(&self.odb, root, day)?.filter(|leaf| leaf.mode == tree::FOLDER);
            let runs = folder.map_or_else(|| Ok(Vec::new()), |leaf| tree::read(&self.odb, leaf.oid))?;
            let runs = runs.into_iter().map(|e| (e.name, Leaf { mode: e.mode, oid: e.oid })).collect();
            self.days.insert(day.to_vec(), runs);
        }
        match self.days.get(day).and_then(|runs| runs.get(id)) {
            Some(run) if run.mode == tree::FOLDER => tree::find(&self.odb, run.oid, name),
            _ => Ok(None),
        }
    }

    /// Adds the edits that bring `files` into the archive. What lies there already under the same path and is something
    /// else stays; the new one is put beside it. True where there is anything to bring.
    fn lacks(&mut self, files: impl Iterator<Item = (Vec<u8>, Leaf)>, edits: &mut Edits) -> Result<bool, RepoError> {
        let mut brought = false;
        for (mut path, leaf) in files {
            let mut there = self.find(&path)?;
            if there.is_some_and(|there| there != leaf) {
                let Some(aside) = beside(&path, leaf) else { continue };
                path = aside;
                there = self.find(&path)?;
            }
            if there != Some(leaf) {
                edits.insert(path, Some(leaf));
                brought = true;
            }
        }
        Ok(brought)
    }
}

/// Where a file of a run goes whose place is taken by another: `<day>/<id>/other-…/…`. `None` outside of a run.
fn beside(path: &[u8], leaf: Leaf) -> Option<Vec<u8>> {
    let (at, _) = path.iter().enumerate().filter(|(_, b)| **b == b'/').nth(3)?;
    let (folder, name) = path.split_at(at + 1);
    Some([folder, format!("other-{}/", &leaf.oid.to_string()[..8]).as_bytes(), name].concat())
}

fn message(runs: usize) -> String {
    format!("archive: {runs} runs\n")
}

fn id_of(name: &[u8]) -> Option<RunId> {
    std::str::from_utf8(name).ok()?.parse().ok()
}

/// When the run of the folder `tree` ended, as its status says; `None` where it does not say.
fn finished_at(odb: &Odb<'_>, tree: Oid) -> Result<Option<Time>, RepoError> {
    let Some(leaf) = tree::find(odb, tree, b"status.json")?.filter(|l| l.mode != tree::FOLDER) else {
        return Ok(None);
    };
    let object = odb.read(leaf.oid).doing(&format!("read blob `{}`", leaf.oid))?;
    let status: Option<serde_json::Value> = serde_json::from_slice(object.data()).ok();
    let at: Option<Time> = status.and_then(|status| status.get("finished_at")?.as_str()?.parse().ok());
    // A day is ten bytes in every path of the archive.
    Ok(at.filter(|at| at.day().len() == 10))
}
