//! The local branch and a remote that others push to as well. Only ever extends the remote; refuses, vanishes, moves
//! and lies (an unclear push) as it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::time::Duration;

use dispatcher::engine::{ArchiveReport, FetchReport, PushReport, Withdrawal};
use dispatcher::request::RunId;

#[derive(Clone, Debug)]
pub enum Change {
    Add(OsString, usize),
    Remove(OsString),
    Results(Vec<RunId>),
    /// These have left the branch for the archive.
    Archived(Vec<RunId>),
    Other,
}

#[derive(Clone, Debug)]
pub struct Commit {
    pub number: u64,
    pub change: Change,
}

/// Trouble lasts until its moment of the simulated clock.
#[derive(Debug, Default)]
pub struct Git {
    pub remote: Option<Vec<Commit>>,
    /// How much of the remote the local branch stands on.
    pub base: usize,
    pub local: Vec<Commit>,
    /// `requests/` in the local HEAD.
    pub head: BTreeMap<OsString, usize>,
    pub next: u64,
    pub unreachable: Duration,
    pub refusing: Duration,
    pub diverged: Duration,
    pub blocked: Duration,
    pub broken_commit: Duration,
    pub second: bool,
    /// The local archive, the remote's, and the remote's as it was last seen.
    pub archive: BTreeSet<RunId>,
    pub remote_archive: BTreeSet<RunId>,
    pub seen_archive: BTreeSet<RunId>,
    /// Another dispatcher has moved the remote's archive.
    pub archive_moved: bool,
}

impl Git {
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Another committer pushes.
    pub fn other(&mut self, change: Change) {
        let number = self.number();
        if let Some(remote) = &mut self.remote {
            remote.push(Commit { number, change });
        }
    }

    /// Requests that the remote holds and nobody has removed.
    pub fn open(&self) -> Vec<OsString> {
        let mut open = Vec::new();
        for commit in self.remote.iter().flatten() {
            match &commit.change {
                Change::Add(name, _) => open.push(name.clone()),
                Change::Remove(name) => open.retain(|have| have != name),
                Change::Results(_) | Change::Archived(_) | Change::Other => {}
            }
        }
        open
    }

    /// Fetches and brings the branch up to date; with the requests that came in.
    pub fn fetch(&mut self, t: Duration) -> (FetchReport, Vec<(OsString, usize)>) {
        let Some(remote) = &self.remote else { return (FetchReport::NoRemote, Vec::new()) };
        if t < self.unreachable {
            return (FetchReport::Failed { message: "no route to host".into() }, Vec::new());
        }
        if t < self.diverged {
            let (local, remote) = ("ours".into(), "theirs".into());
            return (
                FetchReport::Diverged { local, remote, message: "rewritten".into(), help: Vec::new() },
                Vec::new(),
            );
        }
        let there: BTreeSet<u64> = remote.iter().map(|commit| commit.number).collect();
        let ahead = self.local.iter().any(|commit| !there.contains(&commit.number));
        let mine: BTreeSet<u64> = self.local.iter().map(|commit| commit.number).collect();
        let news: Vec<Commit> = remote[self.base..].iter().filter(|c| !mine.contains(&c.number)).cloned().collect();
        if t < self.blocked && !news.is_empty() {
            return (FetchReport::Blocked { detail: "an edit in the way".into(), help: Vec::new(), ahead }, Vec::new());
        }
        self.base = remote.len();
        self.local.retain(|commit| !there.contains(&commit.number));
        let (mut withdrawn, mut added) = (Vec::new(), Vec::new());
        for commit in &news {
            match &commit.change {
                Change::Add(name, ask) => {
                    self.head.insert(name.clone(), *ask);
                    added.push((name.clone(), *ask));
                }
                Change::Remove(name) => {
                    self.head.remove(name);
                    added.retain(|(have, _)| have != name);
                    let commit = commit.number.to_string();
                    withdrawn.push(Withdrawal { name: name.clone(), commit, author: "ana".into() });
                }
                Change::Results(_) | Change::Archived(_) | Change::Other => {}
            }
        }
        let second = std::mem::take(&mut self.second).then(|| "ops-2".to_owned());
        let commit = self.next.to_string();
        (FetchReport::Done { commit, commits: news.len(), ahead, withdrawn, second }, added)
    }

    /// Pushes; `unclear`: the answer is lost.
    pub fn push(&mut self, t: Duration, unclear: bool) -> PushReport {
        let Some(remote) = &mut self.remote else { return PushReport::NoRemote };
        if t < self.unreachable {
            return PushReport::Failed { message: "no route to host".into() };
        }
        if t < self.diverged || self.base < remote.len() {
            return PushReport::Moved;
        }
        if t < self.refusing {
            return PushReport::Failed { message: "protected branch hook declined".into() };
        }
        remote.extend(self.local.iter().cloned());
        if unclear {
            return PushReport::Failed { message: "the remote end hung up".into() };
        }
        self.base = remote.len();
        self.local.clear();
        PushReport::Done { commit: self.next.to_string() }
    }

    /// Follows the remote's archive as the fetch saw it; true where that lacks something of ours.
    pub fn look_at_archive(&mut self, t: Duration) -> bool {
        if self.remote.is_some() && t >= self.unreachable {
            self.archive_moved = false;
            self.seen_archive.clone_from(&self.remote_archive);
            self.archive.extend(&self.seen_archive);
        }
        self.archive_lacks()
    }

    fn archive_lacks(&self) -> bool {
        self.remote.is_some() && self.archive != self.seen_archive
    }

    /// Every run that is on the branch, oldest first.
    fn on_branch(&self) -> Vec<RunId> {
        let pushed = self.remote.iter().flat_map(|remote| &remote[..self.base]);
        let mut there = Vec::new();
        for commit in pushed.chain(&self.local) {
            match &commit.change {
                Change::Results(ids) => there.extend(ids),
                Change::Archived(ids) => there.retain(|id| !ids.contains(id)),
                Change::Add(..) | Change::Remove(_) | Change::Other => {}
            }
        }
        there
    }

    /// One step of moving old runs.
    pub fn retire(&mut self, keep: usize, least: usize, most: usize) -> ArchiveReport {
        let done = |commit, unpublished, more| ArchiveReport::Done { commit, unpublished, more };
        if self.archive_lacks() {
            return done(None, true, false);
        }
        let mut there = self.on_branch();
        let beyond = there.len().saturating_sub(keep);
        if beyond < least {
            return done(None, false, false);
        }
        there.truncate(beyond.min(most));
        self.archive.extend(&there);
        if self.archive_lacks() {
            return done(None, true, false);
        }
        let number = self.number();
        self.local.push(Commit { number, change: Change::Archived(there.clone()) });
        done(Some(number.to_string()), false, beyond > there.len())
    }

    /// Pushes the archive; `unclear`: the answer is lost.
    pub fn push_archive(&mut self, t: Duration, unclear: bool) -> PushReport {
        if self.remote.is_none() {
            return PushReport::NoRemote;
        }
        if t < self.unreachable || t < self.refusing {
            return PushReport::Failed { message: "no route to host".into() };
        }
        if self.archive_moved || self.seen_archive != self.remote_archive {
            return PushReport::Moved;
        }
        self.remote_archive.clone_from(&self.archive);
        if unclear {
            return PushReport::Failed { message: "the remote end hung up".into() };
        }
        self.seen_archive.clone_from(&self.archive);
        PushReport::Done { commit: "archive".into() }
    }

    /// A run that is neither on the branch nor in the archive, or in the archive and was never recorded.
    pub fn lost(&self) -> Option<RunId> {
        let archive = if self.remote.is_some() { &self.remote_archive } else { &self.archive };
        let (mut recorded, mut left): (BTreeSet<RunId>, BTreeSet<RunId>) = Default::default();
        for commit in self.remote.iter().flatten().chain(&self.local) {
            match &commit.change {
                Change::Results(ids) => recorded.extend(ids),
                Change::Archived(ids) => left.extend(ids),
                Change::Add(..) | Change::Remove(_) | Change::Other => {}
            }
        }
        let missing = left.iter().find(|id| !archive.contains(id) || !recorded.contains(id));
        missing.copied()
    }

    /// Every recorded run, as often as it is recorded; on the remote where there is one.
    pub fn recorded(&self) -> Vec<RunId> {
        let chain = self.remote.as_ref().unwrap_or(&self.local);
        chain
            .iter()
            .filter_map(|c| if let Change::Results(ids) = &c.change { Some(ids) } else { None })
            .flatten()
            .copied()
            .collect()
    }
}
