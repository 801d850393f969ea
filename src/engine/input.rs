//! Everything that can come in.

use std::ffi::OsString;
use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::engine::{Order, Verdict};
use crate::event::RunRef;
use crate::request::RunId;
use crate::time::Time;

/// The two clocks. The monotonic one decides everything but `not_before` and `expires_at`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since the dispatcher started.
    pub mono: Duration,
    /// Of the wall clock.
    pub wall: Time,
}

/// Something came in.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Files lie in the inbox, complete.
    Arrived(Vec<OsString>),
    /// What became of an `Effect::Take`.
    Took(OsString, TakeReport),
    /// A run that an earlier life left behind.
    Found(Box<Found>),
    /// An attempt is over, or never began.
    Ended {
        /// The run.
        id: RunId,
        /// As in the `Effect::Start`.
        attempt: u32,
        /// How.
        ended: Ended,
    },
    /// What became of an `Effect::Commit`.
    Committed(CommitReport),
    /// What became of an `Effect::Fetch`.
    Fetched(FetchReport),
    /// What became of an `Effect::Push`.
    Pushed(PushReport),
    /// What became of an `Effect::Archive`.
    Archived(ArchiveReport),
    /// What became of an `Effect::PushArchive`.
    ArchivePushed(PushReport),
    /// Comes before every `Input::Fetched`, so that nobody takes everything for done in between.
    ArchiveLooked {
        /// True where the remote's archive lacks something of ours.
        lacks: bool,
    },
    /// An `Effect::Scan` has offered everything that lies in the inbox.
    Scanned,
    /// Whether the disk has room for new work.
    Disk {
        /// `Some` says what is short.
        short: Option<String>,
    },
    /// What was written may not be on the disk: a sync failed, and no later one can tell.
    Unsynced(String),
    /// Whether somebody's lock keeps the index behind the branch.
    Index {
        /// `Some` says whose, and what to type.
        locked: Option<(String, Vec<String>)>,
    },
    /// A person wants a run stopped.
    Cancel {
        /// The run.
        id: RunId,
        /// Who.
        by: String,
        /// Why.
        reason: Option<String>,
    },
    /// A person wants no new work to begin.
    Pause {
        /// Who.
        by: String,
        /// Why.
        reason: Option<String>,
    },
    /// The opposite.
    Resume {
        /// Who.
        by: String,
    },
    /// Finish what runs, keep the queue, exit.
    Drain {
        /// Who.
        by: String,
    },
    /// TERM or INT: as drain, but not for longer than `drain_timeout`; the second time at once.
    Stop {
        /// Who.
        by: String,
    },
    /// Look at the remote and the inbox now.
    FetchNow,
    /// Time has passed.
    Tick,
}

/// What became of looking at a file in the inbox.
#[derive(Clone, Debug, PartialEq)]
pub enum TakeReport {
    /// Taken and accepted.
    Accepted {
        /// What was accepted.
        order: Box<Order>,
        /// Who asked, as people read it.
        by: Option<String>,
        /// The request's own words.
        reason: Option<String>,
        /// Only pretend.
        dry_run: bool,
    },
    /// Taken, and it will never run.
    Settled {
        /// The run.
        run: RunRef,
        /// Rejected or duplicate.
        verdict: Box<Verdict>,
    },
    /// Left in the inbox until then.
    Scheduled {
        /// `not_before`.
        until: Time,
    },
    /// Somebody changed it at that very moment: looked at again soon.
    Later,
    /// Not there any more, or a copy of a request that is already taken.
    Nothing,
    /// It could not be taken; it is tried again after a while.
    Failed(String),
}

/// How far an earlier life came with a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The run.
    pub run: RunRef,
    /// How far.
    pub prior: Prior,
}

/// How far an earlier life came with a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Prior {
    /// Taken, perhaps after some attempts, and nothing of it was running.
    Queued {
        /// As it would be taken today.
        order: Box<Order>,
        /// Attempts begun.
        attempt: u32,
        /// Of these, ended badly.
        failures: u32,
        /// Of these, lost to crashes.
        crashes: u32,
    },
    /// An attempt may have begun and did not end.
    Running {
        /// As it would be taken today.
        order: Box<Order>,
        /// The one that was lost.
        attempt: u32,
        /// Earlier ones that ended badly.
        failures: u32,
        /// Earlier ones lost to crashes.
        crashes: u32,
    },
    /// The final status is on disk and not in git.
    Final,
    /// Taken before its request could be understood, or not understood any more.
    Settled {
        /// Rejected, duplicate, or crashed where an attempt had begun.
        verdict: Box<Verdict>,
    },
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// A stranger holds the resource's lock; nothing was started.
    LockBusy,
    /// The handler could not be started, and never can as things stand.
    NotStarted(Box<Diagnostic>),
    /// The shell failed, not the handler; nothing was started.
    Trouble(String),
    /// By itself, or after a TERM of ours.
    Exited {
        /// Its exit code.
        code: i32,
        /// We had told it to stop before it ended.
        terminated: bool,
        /// A result that could not be used.
        problem: Option<Box<Diagnostic>>,
    },
    /// By a signal.
    Signalled {
        /// Its number.
        signal: i32,
        /// We had told it to stop before it ended.
        terminated: bool,
    },
    /// The time box.
    TimedOut,
    /// The memory box.
    OutOfMemory,
    /// The process box.
    TooManyProcesses(Box<Diagnostic>),
    /// Its supervisor died.
    Lost,
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq)]
pub enum CommitReport {
    /// Durable.
    Done {
        /// These are final now.
        ids: Vec<RunId>,
        /// The commit.
        commit: String,
    },
    /// Nothing was recorded.
    Failed {
        /// Of the effect.
        ids: Vec<RunId>,
        /// Why.
        message: String,
    },
}

/// A request that was deleted in git by somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawal {
    /// Its file's name.
    pub name: OsString,
    /// The commit that did it.
    pub commit: String,
    /// Its author.
    pub author: String,
}

/// What became of a fetch and of bringing the branch up to date.
#[derive(Clone, Debug, PartialEq)]
pub enum FetchReport {
    /// There is nowhere to fetch from.
    NoRemote,
    /// The branch stands where the remote's stands, or ahead of it.
    Done {
        /// The branch's tip.
        commit: String,
        /// How many came in.
        commits: usize,
        /// True where the branch has commits that the remote has not.
        ahead: bool,
        /// Requests deleted by what came in.
        withdrawn: Vec<Withdrawal>,
        /// Another host recorded a run of ours.
        second: Option<String>,
    },
    /// The checkout is in the way: another branch, a merge, an edit.
    Blocked {
        /// What, naming the paths.
        detail: String,
        /// What to type, line by line.
        help: Vec<String>,
        /// True where the branch has commits that the remote has not.
        ahead: bool,
    },
    /// The remote was rewritten.
    Diverged {
        /// Our tip.
        local: String,
        /// Its tip.
        remote: String,
        /// What it means.
        message: String,
        /// What to type, line by line.
        help: Vec<String>,
    },
    /// The remote could not be asked.
    Failed {
        /// Why, in its own words.
        message: String,
    },
}

/// What became of a push.
#[derive(Clone, Debug, PartialEq)]
pub enum PushReport {
    /// There is nowhere to push to.
    NoRemote,
    /// The remote has it.
    Done {
        /// This.
        commit: String,
    },
    /// The remote has moved on: fetch, replay, push again.
    Moved,
    /// Its branch is locked or moved in this moment: the same, unless it stays so.
    Busy {
        /// Why, in the remote's own words.
        message: String,
    },
    /// Anything else.
    Failed {
        /// Why, in the remote's own words.
        message: String,
    },
}

/// What became of a step of moving old runs.
#[derive(Clone, Debug, PartialEq)]
pub enum ArchiveReport {
    /// Durable.
    Done {
        /// Of the branch; `None` where nothing left it.
        commit: Option<String>,
        /// The remote's archive lacks what was moved: to be pushed before the next step.
        unpublished: bool,
        /// Another step would move more.
        more: bool,
    },
    /// Nothing was moved that the next try does not find.
    Failed {
        /// Why.
        message: String,
    },
}
