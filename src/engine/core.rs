//! The engine's state and the one door into it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::time::Duration;

use crate::engine::archive::Archive;
use crate::engine::git::Git;
use crate::engine::stop::Mode;
use crate::engine::{Effect, Input, Now, Order};
use crate::event::Event;
use crate::locks::Locks;
use crate::queue::Queue;
use crate::request::RunId;
use crate::time::Time;

/// How long a file that could not be taken is left alone.
const RETAKE: Duration = Duration::from_secs(5);
/// Files that are looked at at a time: the rest waits in the inbox, where it is safest.
const TAKING: usize = 64;

/// What the host's configuration says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Attempts at once; at least 1.
    pub workers: usize,
    /// How long a stop waits for what runs.
    pub drain_timeout: Duration,
    /// Pushes that may fail in a row.
    pub push_retries: u32,
    /// Between two looks at the remote.
    pub fetch_interval: Duration,
    /// Runs that stay on the branch.
    pub keep_recent: usize,
    /// Work until nothing is left to do, then exit.
    pub once: bool,
    /// Of the jitter.
    pub seed: u64,
}

/// A run that is not final.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) order: Order,
    pub(super) phase: Phase,
    /// Begun over all lives.
    pub(super) attempt: u32,
    /// Ended badly.
    pub(super) failures: u32,
    /// Lost to crashes.
    pub(super) crashes: u32,
    /// Could not begin, in this life.
    pub(super) troubles: u32,
    /// Others have been told that it waits for its lock, and it has not had it since.
    pub(super) waits: bool,
    pub(super) ticket: u64,
    /// When it came into the queue, on this life's clock.
    pub(super) since: Duration,
    /// How long it had stood in the queue before this life. No monotonic clock outlives a life, so this alone is by the
    /// wall clock.
    pub(super) aged: Duration,
}

impl Run {
    /// How long it has stood in the queue.
    pub(super) fn age(&self, now: Now) -> Duration {
        self.aged + now.mono.saturating_sub(self.since)
    }
}

/// Where a run stands; each variant carries only what is true in it.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Queued {
        /// Between attempts: not before this moment.
        after: Duration,
        /// Others have been told that it waits for its lock.
        waiting: bool,
    },
    Running {
        since: Duration,
        end: Option<Why>,
    },
}

/// Why a running attempt was told to end.
#[derive(Clone, Debug)]
pub(super) enum Why {
    Person { by: String, reason: Option<String> },
    Stop,
}

/// Something that is not as it should be; those that hold the intake come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    Checkout,
    Diverged,
    SecondDispatcher,
    Disk,
    Sync,
    Commit,
    Inbox,
    Start,
    Index,
    Fetch,
    Push,
    Archive,
}

impl Trouble {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Checkout => "checkout",
            Self::Diverged => "diverged",
            Self::SecondDispatcher => "second_dispatcher",
            Self::Disk => "disk",
            Self::Sync => "sync",
            Self::Commit => "commit",
            Self::Inbox => "inbox",
            Self::Start => "start",
            Self::Index => "index",
            Self::Fetch => "fetch",
            Self::Push => "push",
            Self::Archive => "archive",
        }
    }

    pub(super) const fn holds_intake(self) -> bool {
        !matches!(self, Self::Inbox | Self::Start | Self::Index | Self::Fetch | Self::Push | Self::Archive)
    }
}

/// How a trouble stands.
#[derive(Clone, Debug)]
pub(super) struct Plight {
    /// What is wrong.
    pub(super) detail: String,
    /// When it began, by the wall clock.
    pub(super) since: Time,
    /// What to type, line by line.
    pub(super) help: Vec<String>,
}

/// Decides; see the module's page.
#[derive(Debug)]
pub struct Engine {
    pub(super) settings: Settings,
    pub(super) chance: fastrand::Rng,
    pub(super) runs: BTreeMap<RunId, Run>,
    pub(super) queue: Queue,
    pub(super) locks: Locks,
    /// Files to be looked at, and from when on.
    pub(super) inbox: BTreeMap<OsString, Duration>,
    pub(super) taking: BTreeSet<OsString>,
    /// Files that could not be taken when they were last looked at.
    pub(super) refused: BTreeSet<OsString>,
    pub(super) scheduled: BTreeMap<OsString, Time>,
    /// Final on disk, not yet in git.
    pub(super) finals: BTreeSet<RunId>,
    pub(super) git: Git,
    pub(super) archive: Archive,
    pub(super) mode: Mode,
    pub(super) pause: Option<String>,
    pub(super) troubles: BTreeMap<Trouble, Plight>,
    /// Of the newest input, for people.
    pub(super) wall: Time,
    pub(super) scanned: bool,
    pub(super) exited: bool,
}

impl Engine {
    /// An engine that knows of nothing. `pause` is what an earlier life kept with [`Effect::KeepPause`].
    #[must_use]
    pub fn new(settings: Settings, pause: Option<String>) -> Self {
        Self {
            chance: fastrand::Rng::with_seed(settings.seed),
            settings,
            runs: BTreeMap::new(),
            queue: Queue::default(),
            locks: Locks::default(),
            inbox: BTreeMap::new(),
            taking: BTreeSet::new(),
            refused: BTreeSet::new(),
            scheduled: BTreeMap::new(),
            finals: BTreeSet::new(),
            git: Git::default(),
            archive: Archive::default(),
            mode: Mode::Working,
            pause,
            troubles: BTreeMap::new(),
            wall: Time::from_millis(0),
            scanned: false,
            exited: false,
        }
    }

    /// What follows from `input` at `now`.
    pub fn handle(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        if self.exited {
            return out;
        }
        self.wall = now.wall;
        match input {
            Input::Arrived(names) => {
                for name in names {
                    self.scheduled.remove(&name);
                    self.inbox.insert(name, now.mono);
                }
            }
            Input::Took(name, report) => self.took(now, name, report, &mut out),
            Input::Found(found) => self.found(now, *found, &mut out),
            Input::Ended { id, attempt, ended } => self.ended(now, id, attempt, ended, &mut out),
            Input::Committed(report) => self.committed(now, report, &mut out),
            Input::Fetched(report) => self.fetched(now, report, &mut out),
            Input::Pushed(report) => self.pushed(now, report, &mut out),
            Input::Archived(report) => self.archived(now, report, &mut out),
            Input::ArchivePushed(report) => self.archive_pushed(now, report, &mut out),
            Input::ArchiveLooked { lacks } => self.archive_looked(now, lacks),
            Input::Scanned => self.scanned = true,
            Input::Disk { short } => self.trouble(Trouble::Disk, short, &mut out),
            // The next sync would say that all is well, and mean only what was written since.
            Input::Unsynced(what) => self.trouble(Trouble::Sync, Some(what), &mut out),
            Input::Index { locked } => {
                let (detail, help) = locked.unzip();
                self.trouble(Trouble::Index, detail, &mut out);
                self.advise(Trouble::Index, help.unwrap_or_default());
            }
            Input::Cancel { id, by, reason } => self.cancel(now, id, by, reason, &mut out),
            Input::Pause { by, reason } => self.set_pause(by, reason, &mut out),
            Input::Resume { by } => self.unset_pause(by, &mut out),
            Input::Drain { by } => self.drain(by, &mut out),
            Input::Stop { by } => self.stop(now, by, &mut out),
            Input::FetchNow => self.fetch_now(&mut out),
            Input::Tick => {}
        }
        self.go_on(now, &mut out);
        out
    }

    /// How long the shell may wait before the next [`Input::Tick`]; `None` for as long as it likes.
    #[must_use]
    pub fn wake_in(&self, now: Now) -> Option<Duration> {
        if self.exited {
            return None;
        }
        let queued = self.runs.values().filter_map(|run| match run.phase {
            Phase::Queued { after, .. } if after > now.mono => Some(after),
            _ => None,
        });
        let ages = self
            .runs
            .values()
            .filter(|run| run.attempt == 0)
            .filter_map(|run| run.order.max_queue_age.map(|most| run.since + most.saturating_sub(run.aged)));
        let retakes = self.inbox.values().copied().filter(|&at| at > now.mono);
        let mono = queued
            .chain(ages)
            .chain(retakes)
            .chain(self.locks.next_look(now.mono))
            .chain(self.git.wake(self.working(), !self.finals.is_empty() && !self.commit_held()))
            .chain(self.archive.wake(now.mono).filter(|_| self.working()));
        let mono = mono.chain(self.mode.wake()).min().map(|at| at.saturating_sub(now.mono));
        let expiries = self.runs.values().filter(|run| run.attempt == 0).filter_map(|run| run.order.expires_at);
        let wall = expiries.chain(self.scheduled.values().copied()).min();
        // The wall clock may be set at any time: look at least once a minute while it decides something.
        let wall = wall.map(|at| at.since(now.wall).min(Duration::from_secs(60)));
        [mono, wall].into_iter().flatten().min()
    }

    /// Everything that follows from the state alone, whatever came in.
    fn go_on(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.hurry_stop(now, out);
        self.expire(now, out);
        self.take_due(now, out);
        self.start_due(now, out);
        self.commit_due(now, out);
        self.push_due(now, out);
        self.archive_due(now, out);
        self.fetch_due(now, out);
        self.exit_due(now, out);
    }

    /// True where new work may be taken from the inbox.
    pub(super) fn takes_work(&self) -> bool {
        self.may_start() && self.git.looked() && !self.troubles.keys().any(|trouble| trouble.holds_intake())
    }

    /// True where taken work may begin.
    pub(super) fn may_start(&self) -> bool {
        let held = [Trouble::Disk, Trouble::Sync].iter().any(|trouble| self.troubles.contains_key(trouble));
        matches!(self.mode, Mode::Working) && self.pause.is_none() && !held
    }

    fn take_due(&mut self, now: Now, out: &mut Vec<Effect>) {
        let ripe = self.scheduled.iter().filter(|(_, at)| **at <= now.wall).map(|(name, _)| name.clone());
        for name in ripe.collect::<Vec<_>>() {
            self.scheduled.remove(&name);
            self.inbox.insert(name, now.mono);
        }
        if !self.takes_work() {
            return;
        }
        let due = self.inbox.iter().filter(|(name, at)| **at <= now.mono && !self.taking.contains(*name));
        let room = TAKING.saturating_sub(self.taking.len());
        for name in due.map(|(name, _)| name.clone()).take(room).collect::<Vec<_>>() {
            self.inbox.remove(&name);
            self.taking.insert(name.clone());
            out.push(Effect::Take(name));
        }
    }

    /// A take failed: the file stays where it is and is looked at again.
    pub(super) fn retake(&mut self, now: Now, name: OsString, why: String, out: &mut Vec<Effect>) {
        let shown = crate::text::bytes(name.as_encoded_bytes());
        self.trouble(Trouble::Inbox, Some(format!("`requests/{shown}` cannot be taken: {why}")), out);
        self.refused.insert(name.clone());
        self.inbox.insert(name, now.mono + RETAKE);
    }

    /// A file was looked at without trouble.
    pub(super) fn taken_well(&mut self, name: &OsString, out: &mut Vec<Effect>) {
        if self.refused.remove(name) && self.refused.is_empty() {
            self.trouble(Trouble::Inbox, None, out);
        }
    }

    /// Enters or leaves a trouble, and says so once.
    pub(super) fn trouble(&mut self, trouble: Trouble, detail: Option<String>, out: &mut Vec<Effect>) {
        let reason = trouble.word().to_owned();
        match detail {
            Some(detail) => {
                let before = self.troubles.remove(&trouble);
                let since = before.as_ref().map_or(self.wall, |before| before.since);
                if before.is_none_or(|before| before.detail != detail) {
                    out.push(Effect::Emit(Event::Degraded { reason, detail: detail.clone() }));
                }
                self.troubles.insert(trouble, Plight { detail, since, help: Vec::new() });
            }
            None => {
                if self.troubles.remove(&trouble).is_some() {
                    out.push(Effect::Emit(Event::Recovered { reason }));
                }
            }
        }
    }

    /// Says what to type about a trouble.
    pub(super) fn advise(&mut self, trouble: Trouble, help: Vec<String>) {
        if let Some(plight) = self.troubles.get_mut(&trouble) {
            plight.help = help;
        }
    }

    /// The host's configuration has changed. How many workers there are cannot change while they live.
    pub fn configure(&mut self, settings: Settings) {
        self.settings = Settings { workers: self.settings.workers, once: self.settings.once, ..settings };
    }

    /// True where a remote that stands at `commit` has nothing new: it is our own tip, or what we pushed last. While
    /// something is wrong, a look may mend it.
    #[must_use]
    pub fn knows_tip(&self, commit: &str) -> bool {
        self.troubles.is_empty() && !commit.is_empty() && self.git.has(commit)
    }

    /// True while a fetch is on its way.
    #[must_use]
    pub const fn fetching(&self) -> bool {
        self.git.fetching()
    }

    /// True for a run that is taken and not final.
    #[must_use]
    pub fn knows(&self, id: RunId) -> bool {
        self.runs.contains_key(&id)
    }

    /// How many attempts are carried out now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.runs.len() - self.queue.len()
    }
}
