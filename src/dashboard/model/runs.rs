//! All runs, and the lists in which they are shown: what is not final first, then the rest, newest end first. Lists are
//! kept in order, so that a frame costs the same with ten runs and with a hundred thousand.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::run::Run;
use crate::request::RunId;
use crate::status::State;
use crate::time::Time;

/// A list of runs, or of the locks that they hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tab {
    /// Every run.
    #[default]
    All,
    /// Queued, and waiting for a lock.
    Queue,
    /// Running.
    Running,
    /// Ended without failing.
    Done,
    /// Ended badly.
    Failed,
    /// Never ran.
    Rejected,
    /// Who holds which resource.
    Locks,
}

impl Tab {
    /// In the order of their keys, `0` to `6`.
    pub const ALL: [Self; 7] =
        [Self::All, Self::Queue, Self::Running, Self::Done, Self::Failed, Self::Rejected, Self::Locks];

    /// Its name, long and short.
    #[must_use]
    pub const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::All => ("All", "All"),
            Self::Queue => ("Queue", "Queue"),
            Self::Running => ("Running", "Run"),
            Self::Done => ("Done", "Done"),
            Self::Failed => ("Failed", "Fail"),
            Self::Rejected => ("Rejected", "Reject"),
            Self::Locks => ("Locks", "Locks"),
        }
    }

    /// The list of a state, besides `All`.
    #[must_use]
    pub const fn of(state: State) -> Self {
        match state {
            State::Queued | State::Waiting => Self::Queue,
            State::Running => Self::Running,
            State::Succeeded | State::Cancelled | State::Duplicate => Self::Done,
            State::Failed | State::TimedOut | State::OutOfMemory | State::Crashed => Self::Failed,
            State::Rejected | State::Expired => Self::Rejected,
        }
    }
}

/// All runs.
#[derive(Debug, Default)]
pub struct Runs {
    all: Vec<Run>,
    at: HashMap<RunId, u32>,
    words: HashSet<Arc<str>>,
    /// Not final, in the order in which they are shown.
    active: Vec<u32>,
    /// Final, oldest end first: all, done, failed, rejected.
    finals: [Vec<u32>; 4],
    /// The lists are not in order.
    disordered: bool,
    active_changed: bool,
}

/// Where a tab's finals are kept.
const fn shelf(tab: Tab) -> Option<usize> {
    match tab {
        Tab::All => Some(0),
        Tab::Done => Some(1),
        Tab::Failed => Some(2),
        Tab::Rejected => Some(3),
        Tab::Queue | Tab::Running | Tab::Locks => None,
    }
}

impl Runs {
    /// One run.
    #[must_use]
    pub fn get(&self, id: RunId) -> Option<&Run> {
        self.at.get(&id).and_then(|&at| self.all.get(at as usize))
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.all.len()
    }

    /// One copy of a word that many runs share.
    pub fn word(&mut self, word: &str) -> Arc<str> {
        keep(&mut self.words, word)
    }

    /// Changes one run, which is made where it is not known, through `change`.
    pub fn change(
        &mut self,
        id: RunId,
        request: &str,
        at: Time,
        change: impl FnOnce(&mut Run, &mut HashSet<Arc<str>>),
    ) {
        let index = match self.at.get(&id) {
            Some(&index) => index,
            None => {
                let index = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
                self.all.push(Run::taken(id, request, at));
                self.at.insert(id, index);
                self.active.push(index);
                self.active_changed = true;
                index
            }
        };
        let Some(run) = self.all.get_mut(index as usize) else { return };
        let before = (run.state, run.finished_at);
        change(run, &mut self.words);
        let after = (run.state, run.finished_at);
        if !before.0.is_final() {
            self.active_changed = true;
        }
        match (before.0.is_final(), after.0.is_final()) {
            (false, true) => self.ended(index, after.0),
            (true, _) if before != after => self.disordered = true,
            _ => {}
        }
    }

    /// A run is final: it goes where it belongs, which is the end unless it was read from a file.
    fn ended(&mut self, index: u32, state: State) {
        for shelf in [Some(0), shelf(Tab::of(state))].into_iter().flatten() {
            let last = self.finals[shelf].last().map(|&last| key(&self.all, last));
            self.disordered |= last.is_some_and(|last| last > key(&self.all, index));
            self.finals[shelf].push(index);
        }
    }

    /// Puts the lists in order. To be called before they are shown.
    pub fn settle(&mut self) {
        let all = &self.all;
        if std::mem::take(&mut self.active_changed) {
            self.active.retain(|&at| all.get(at as usize).is_some_and(|run| !run.state.is_final()));
            self.active.sort_by_key(|&at| all.get(at as usize).map(order));
        }
        if std::mem::take(&mut self.disordered) {
            let mut ends: Vec<u32> =
                (0..u32::try_from(all.len()).unwrap_or(u32::MAX)).filter(|&at| is_final(all, at)).collect();
            ends.sort_by_key(|&at| key(all, at));
            for tab in [Tab::Done, Tab::Failed, Tab::Rejected] {
                let of = |at: &&u32| all.get(**at as usize).is_some_and(|run| Tab::of(run.state) == tab);
                if let Some(shelf) = shelf(tab) {
                    self.finals[shelf] = ends.iter().filter(of).copied().collect();
                }
            }
            self.finals[0] = ends;
        }
    }

    /// How many runs a tab has.
    #[must_use]
    pub fn count(&self, tab: Tab) -> usize {
        self.rows(tab).len()
    }

    /// The rows of a tab.
    #[must_use]
    pub fn rows(&self, tab: Tab) -> Rows<'_> {
        let part = |state: fn(State) -> bool| {
            let is = |at: &u32| self.all.get(*at as usize).is_some_and(|run| state(run.state));
            // The order keeps each state together.
            let start = self.active.iter().position(is).unwrap_or(0);
            let len = self.active.iter().skip(start).take_while(|at| is(at)).count();
            self.active.get(start..start + len).unwrap_or_default()
        };
        let active = match tab {
            Tab::All => &self.active[..],
            Tab::Queue => part(|state| matches!(state, State::Queued | State::Waiting)),
            Tab::Running => part(|state| state == State::Running),
            Tab::Done | Tab::Failed | Tab::Rejected | Tab::Locks => &[],
        };
        let finals = shelf(tab).map_or(&[][..], |shelf| &self.finals[shelf]);
        Rows { all: &self.all, active, finals }
    }

    /// Every run that is not final, in order.
    pub fn active(&self) -> impl Iterator<Item = &Run> {
        self.active.iter().filter_map(|&at| self.all.get(at as usize))
    }

    /// Final runs, newest end first.
    pub fn finals(&self) -> impl Iterator<Item = &Run> {
        self.finals[0].iter().rev().filter_map(|&at| self.all.get(at as usize))
    }

    /// The place in the queue of a run that is in it, from 1.
    #[must_use]
    pub fn place(&self, id: RunId) -> Option<usize> {
        let mut queue: Vec<&Run> = self.rows(Tab::Queue).iter().collect();
        queue.sort_by_key(|run| turn(run));
        queue.iter().position(|run| run.id == id).map(|at| at + 1)
    }
}

/// One copy of `word`.
pub fn keep(words: &mut HashSet<Arc<str>>, word: &str) -> Arc<str> {
    if let Some(kept) = words.get(word) {
        return Arc::clone(kept);
    }
    let kept: Arc<str> = word.into();
    words.insert(Arc::clone(&kept));
    kept
}

/// When it is a run's turn: higher priority first, then oldest first.
fn turn(run: &Run) -> (Reverse<i8>, Time, RunId) {
    (Reverse(run.live.as_ref().map_or(0, |live| live.priority)), run.queued_at, run.id)
}

/// Running ones first, then those that wait, then the rest of the queue.
fn order(run: &Run) -> (u8, Reverse<i8>, Time, RunId) {
    let rank = match run.state {
        State::Running => 0,
        State::Waiting => 1,
        _ => 2,
    };
    let (priority, queued, id) = turn(run);
    let since = if rank == 0 { run.started_at.unwrap_or(queued) } else { queued };
    (rank, if rank == 0 { Reverse(0) } else { priority }, since, id)
}

fn key(all: &[Run], at: u32) -> (Option<Time>, Option<RunId>) {
    let run = all.get(at as usize);
    (run.map(|run| run.finished_at.unwrap_or(run.queued_at)), run.map(|run| run.id))
}

fn is_final(all: &[Run], at: u32) -> bool {
    all.get(at as usize).is_some_and(|run| run.state.is_final())
}

/// The rows of a list.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    all: &'a [Run],
    active: &'a [u32],
    finals: &'a [u32],
}

impl<'a> Rows<'a> {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.active.len() + self.finals.len()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, row: usize) -> Option<&'a Run> {
        let at = match row.checked_sub(self.active.len()) {
            None => self.active.get(row),
            Some(behind) => self.finals.len().checked_sub(behind + 1).and_then(|at| self.finals.get(at)),
        };
        at.and_then(|&at| self.all.get(at as usize))
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = &'a Run> {
        (0..self.len()).filter_map(move |row| self.get(row))
    }

    /// In which row a run stands.
    #[must_use]
    pub fn row_of(&self, id: RunId) -> Option<usize> {
        self.iter().position(|run| run.id == id)
    }
}
