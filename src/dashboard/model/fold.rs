//! The model: everything that the dashboard shows, as a fold over events. Live, attached and from files it is the same
//! fold; a snapshot of the daemon and the status files of runs only say where it begins.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde::Deserialize;

use super::kinds::Day;
use super::run::{Run, Step};
use super::runs::{Runs, keep};
use crate::engine::{RunView, Snapshot};
use crate::event::{Entry, Event, RunRef};
use crate::request::RunId;
use crate::status::{State, Status};
use crate::time::Time;

/// Lines of the health feed that are kept.
const HAPPENINGS: usize = 200;

/// What the daemon answers to a viewer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Standing {
    /// How everything stands.
    #[serde(flatten)]
    pub now: Snapshot,
    /// Of the newest event.
    pub seq: u64,
    /// Of the daemon's program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Its machine.
    pub host: String,
    /// Who handlers run as.
    pub user: String,
    /// When it started.
    pub since: Time,
}

/// How the dashboard is connected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// Not yet.
    #[default]
    Connecting,
    /// Events come as they happen.
    Live,
    /// The daemon went away, or cannot be reached.
    Lost {
        /// Since when.
        since: Time,
        /// The next try.
        retry: Time,
        /// Why.
        why: String,
    },
    /// From files alone.
    Offline,
}

/// Whether the daemon begins new work.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// It does.
    #[default]
    Working,
    /// A person holds it.
    Paused {
        /// Who and why.
        words: String,
        /// Since when, where that was seen.
        since: Option<Time>,
    },
    /// It ends when what runs has ended.
    Draining {
        /// Since when, where that was seen.
        since: Option<Time>,
    },
    /// It ended.
    Stopped {
        /// When.
        at: Time,
    },
}

/// The daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Of its program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Its machine.
    pub host: String,
    /// Attempts that may be carried out at once.
    pub workers: usize,
    /// When it started.
    pub since: Time,
    /// Who handlers run as, where it said so.
    pub user: Option<String>,
}

/// The newest push.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Push {
    /// None was seen.
    #[default]
    None,
    /// It arrived.
    Done(Time),
    /// It did not.
    Failed {
        /// When.
        at: Time,
        /// What the remote said.
        message: String,
        /// The next try, where there is one.
        retry: Option<Time>,
    },
}

/// How git stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Git {
    /// There is somewhere to push to; unknown without a daemon.
    pub remote: Option<bool>,
    /// When commits came from the remote.
    pub news: Option<Time>,
    /// Why the newest fetch failed, and when.
    pub fetch_failed: Option<(Time, String)>,
    /// The newest push.
    pub push: Push,
    /// Results that the remote does not have yet.
    pub unpushed: usize,
    /// The newest commit that was seen.
    pub commit: Option<String>,
}

/// A line of the health feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Happening {
    /// When.
    pub at: Time,
    /// It went well, or it is only news.
    pub well: bool,
    /// What it is about.
    pub what: &'static str,
    /// What happened.
    pub text: String,
}

/// Everything that the dashboard shows, but for logs.
#[derive(Debug, Default)]
pub struct Model {
    /// The runs.
    pub runs: Runs,
    /// The daemon, where one was seen.
    pub daemon: Option<Daemon>,
    /// Whether it begins new work.
    pub mode: Mode,
    /// What is not as it should be, by its word.
    pub degraded: BTreeMap<String, String>,
    /// Why the table of handlers is not the newest.
    pub broken_table: Option<String>,
    /// How many kinds there are, where it was said.
    pub kinds: Option<usize>,
    /// Requests that stay in the inbox, and until when.
    pub scheduled: BTreeMap<String, Time>,
    /// How git stands.
    pub git: Git,
    /// How the dashboard is connected.
    pub link: Link,
    /// How many watch.
    pub viewers: usize,
    /// The newest happenings, newest last.
    pub happenings: VecDeque<Happening>,
    /// The last day.
    pub day: Day,
    /// Of the newest event that was folded.
    pub seq: u64,
    /// Events that were left out for this viewer and read from the files afterwards.
    pub skipped: u64,
    /// The files have been read.
    pub loaded: bool,
}

impl Model {
    /// Folds one event in. One that was folded before changes nothing.
    pub fn apply(&mut self, entry: &Entry) {
        if entry.seq <= self.seq {
            return;
        }
        self.seq = entry.seq;
        let at = entry.ts;
        match entry.event.run() {
            Some(run) => self.about_run(run, &entry.event, at),
            None => self.about_daemon(&entry.event, at),
        }
    }

    fn about_run(&mut self, run: &RunRef, event: &Event, at: Time) {
        if matches!(event, Event::Accepted { .. } | Event::Rejected { .. } | Event::Expired { .. }) {
            self.scheduled.remove(&run.req);
        }
        if let Event::Rejected { code, message, .. } = event {
            self.happens(at, false, "reject", format!("{} {}: {code} {message}", run.id.short(), run.req));
        }
        self.runs.change(run.id, &run.req, at, |known, words| {
            if let Some(kind) = &run.kind {
                known.kind = Some(keep(words, kind.as_str()));
            }
            if let Some(resource) = &run.resource {
                known.resource = Some(keep(words, resource.as_str()));
            }
            if let Event::Accepted { by, .. } = event {
                known.by = by.as_deref().map(|by| keep(words, by));
            }
            // What is final stays so: its events may be read after its status.
            if !known.state.is_final() {
                happened_to(known, event, at);
            }
        });
    }

    fn about_daemon(&mut self, event: &Event, at: Time) {
        match event {
            Event::Started { version, pid, host, workers } => {
                let (version, host) = (version.clone(), host.clone());
                self.happens(at, true, "start", format!("dispatcher {version} on {host}, pid {pid}"));
                self.daemon = Some(Daemon { version, pid: *pid, host, workers: *workers, since: at, user: None });
                self.mode = Mode::Working;
                self.degraded.clear();
            }
            Event::Stopping { by, .. } | Event::Draining { by } => {
                self.happens(at, true, "drain", format!("by {by}"));
                self.mode = Mode::Draining { since: Some(at) };
            }
            Event::Stopped { queued, unpushed } => {
                self.happens(at, true, "stop", format!("{queued} queued, {unpushed} not pushed"));
                self.mode = Mode::Stopped { at };
            }
            Event::Paused { by, reason } => {
                let words = reason.as_ref().map_or_else(|| format!("by {by}"), |reason| format!("by {by}: {reason}"));
                self.happens(at, true, "pause", words.clone());
                self.mode = Mode::Paused { words, since: Some(at) };
            }
            Event::Resumed { by } => {
                self.happens(at, true, "resume", format!("by {by}"));
                self.mode = Mode::Working;
            }
            Event::Degraded { reason, detail } => {
                self.happens(at, false, "trouble", format!("{reason}: {detail}"));
                self.degraded.insert(reason.clone(), detail.clone());
            }
            Event::Recovered { reason } => {
                self.happens(at, true, "mended", reason.clone());
                self.degraded.remove(reason);
            }
            Event::RouterLoaded { kinds, .. } => {
                self.kinds = Some(*kinds);
                self.broken_table = None;
                self.happens(at, true, "table", count(*kinds, "kind"));
            }
            Event::RouterBroken { message } => {
                self.happens(at, false, "table", format!("the last good one is kept: {message}"));
                self.broken_table = Some(message.clone());
            }
            Event::Scheduled { req, not_before, .. } => {
                self.scheduled.insert(req.clone(), *not_before);
            }
            event => self.about_git(event, at),
        }
    }

    fn about_git(&mut self, event: &Event, at: Time) {
        match event {
            Event::Fetched { commit, commits } => {
                self.happens(at, true, "fetch", format!("{}, {}", count(*commits, "commit"), short(commit)));
                self.git.news = Some(at);
                self.git.fetch_failed = None;
                self.git.commit = Some(commit.clone());
            }
            Event::FetchFailed { message } => {
                self.happens(at, false, "fetch", message.clone());
                self.git.fetch_failed = Some((at, message.clone()));
            }
            Event::Committed { commit, runs } => {
                self.git.commit = Some(commit.clone());
                self.git.unpushed += runs.len();
            }
            Event::Pushed { commit, runs, .. } => {
                self.happens(at, true, "push", format!("{}, {}", count(*runs, "result"), short(commit)));
                self.git.push = Push::Done(at);
                self.git.unpushed = self.git.unpushed.saturating_sub(*runs);
            }
            Event::PushFailed { message, retry_ms, unpushed, .. } => {
                self.happens(at, false, "push", message.clone());
                let retry = retry_ms.map(|ms| at.plus(Duration::from_millis(ms)));
                self.git.push = Push::Failed { at, message: message.clone(), retry };
                self.git.unpushed = *unpushed;
            }
            Event::Diverged { message, .. } => self.happens(at, false, "git", message.clone()),
            _ => {}
        }
    }

    fn happens(&mut self, at: Time, well: bool, what: &'static str, text: String) {
        if self.happenings.len() == HAPPENINGS {
            self.happenings.pop_front();
        }
        self.happenings.push_back(Happening { at, well, what, text });
    }

    /// The daemon says how everything stands at `now`. Gives the runs that were not final so far and that it does not know:
    /// their status has to be read again.
    pub fn stand(&mut self, standing: &Standing, now: Time) -> Vec<RunId> {
        let Standing { now: snapshot, .. } = standing;
        self.seq = self.seq.max(standing.seq);
        self.link = Link::Live;
        self.daemon = Some(Daemon {
            version: standing.version.clone(),
            pid: standing.pid,
            host: standing.host.clone(),
            workers: snapshot.workers,
            since: standing.since,
            user: Some(standing.user.clone()),
        });
        let since = match &self.mode {
            Mode::Paused { since, .. } | Mode::Draining { since } => *since,
            Mode::Working | Mode::Stopped { .. } => None,
        };
        self.mode = match (snapshot.mode.as_str(), &snapshot.paused) {
            ("draining", _) => Mode::Draining { since },
            (_, Some(words)) => Mode::Paused { words: words.clone(), since },
            (_, None) => Mode::Working,
        };
        self.degraded.clone_from(&snapshot.degraded);
        self.scheduled = snapshot.scheduled.iter().cloned().collect();
        self.git.remote = Some(snapshot.git.remote);
        self.git.unpushed = snapshot.git.unpushed;
        if !snapshot.degraded.contains_key("fetch") {
            self.git.fetch_failed = None;
        }
        if !snapshot.degraded.contains_key("push") && matches!(self.git.push, Push::Failed { .. }) {
            self.git.push = Push::None;
        }
        for view in &snapshot.runs {
            self.runs.change(view.id, &view.request, now, |run, words| {
                run.kind = Some(keep(words, view.kind.as_str()));
                run.resource = Some(keep(words, view.resource.as_str()));
                stands(run, view, now);
            });
        }
        self.runs.settle();
        let known = |run: &&Run| snapshot.runs.iter().any(|view| view.id == run.id);
        self.runs.active().filter(|run| !known(run)).map(|run| run.id).collect()
    }

    /// The status of a run was read from its file. What events say of a run that is not final is newer, unless only
    /// files are read.
    pub fn absorb(&mut self, status: &Status) {
        let live = self.link == Link::Live;
        let known = self.runs.get(status.id).is_some();
        let queued = status.queued_at;
        self.runs.change(status.id, &status.request, queued, |run, words| {
            if known && (run.state.is_final() || (live && !status.status.is_final())) {
                run.by = run.by.take().or_else(|| status.requested_by.name.as_deref().map(|by| keep(words, by)));
                run.reason = run.reason.take().or_else(|| status.reason.as_deref().map(Into::into));
                run.queued_at = queued;
                return;
            }
            // Between its end and its commit a run is not final.
            if status.status.is_final() && status.finished_at.is_none() {
                return;
            }
            run.absorb(status, |word| keep(words, word));
        });
    }

    /// Brings into order what is shown; to be called before a frame.
    pub fn settle(&mut self) {
        self.runs.settle();
    }

    /// Counts the last day anew.
    pub fn count_day(&mut self, now: Time) {
        self.runs.settle();
        self.day = Day::of(&self.runs, now);
    }
}

/// The daemon's view of a run that is not final.
fn stands(run: &mut Run, view: &RunView, now: Time) {
    if run.state.is_final() {
        return;
    }
    let since = Time::from_millis(now.as_millis().saturating_sub(i64::try_from(view.for_ms).unwrap_or(0)));
    run.state = view.status;
    run.attempt = u16::try_from(view.attempt).unwrap_or(u16::MAX);
    match view.status {
        // Measured on the other side's clock: what its own event said is exact.
        State::Running => run.started_at = run.started_at.or(Some(since)),
        _ => run.queued_at = run.queued_at.min(since),
    }
    let live = run.live();
    live.priority = view.priority;
    live.held_by = view.held_by;
    live.why = view.why.as_deref().map(Into::into);
}

/// What an event says of a run that is not final.
fn happened_to(run: &mut Run, event: &Event, at: Time) {
    match event {
        Event::Accepted { priority, reason, .. } => {
            run.queued_at = at;
            run.reason = reason.as_deref().map(Into::into);
            run.live().priority = *priority;
        }
        Event::Rejected { status, rc, message, problems, .. } => {
            run.problems = u16::try_from(*problems).unwrap_or(u16::MAX);
            run.reason = Some(message.as_str().into());
            end(run, *status, *rc, at);
        }
        Event::Duplicate { status, rc, of, .. } => {
            run.reason = Some(format!("of {of}").into());
            end(run, *status, *rc, at);
        }
        Event::Expired { status, rc, reason, .. } => {
            run.reason = Some(reason.as_str().into());
            end(run, *status, *rc, at);
        }
        Event::LockWaiting { held_by, .. } => {
            run.state = State::Waiting;
            let live = run.live();
            live.held_by = *held_by;
            live.why = None;
        }
        Event::LockAcquired { waited_ms, .. } => {
            let live = run.live();
            (live.lock_since, live.waited_ms, live.held_by) = (Some(at), Some(*waited_ms), None);
        }
        Event::LockReleased { .. } => run.live().lock_since = None,
        Event::RunStarted { attempt, timeout_ms, .. } => {
            run.state = State::Running;
            run.attempt = u16::try_from(*attempt).unwrap_or(u16::MAX);
            run.started_at = Some(at);
            let live = run.live();
            (live.timeout_ms, live.why, live.next_at) = (Some(*timeout_ms), None, None);
            live.step = Step::default();
        }
        Event::Progress { step, done, total, .. } => {
            run.live().step = Step { text: step.as_str().into(), of: done.zip(*total) };
        }
        Event::Retrying { why, delay_ms, .. } => {
            run.state = State::Queued;
            let live = run.live();
            live.next_at = Some(at.plus(Duration::from_millis(*delay_ms)));
            live.why = Some(why.as_str().into());
        }
        Event::Cancelling { by, .. } => run.live().cancelling = Some(by.as_str().into()),
        Event::Finished { status, rc, signal, attempt, duration_ms, reason, .. } => {
            run.signal = signal.and_then(|signal| u8::try_from(signal).ok());
            run.attempt = u16::try_from(*attempt).unwrap_or(u16::MAX);
            run.duration_ms = duration_ms.map(|ms| u32::try_from(ms).unwrap_or(u32::MAX));
            if reason.is_some() {
                run.reason = reason.as_deref().map(Into::into);
            }
            end(run, *status, *rc, at);
        }
        _ => {}
    }
}

fn end(run: &mut Run, state: State, rc: i32, at: Time) {
    (run.state, run.rc, run.finished_at, run.live) = (state, Some(rc), Some(at), None);
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn short(commit: &str) -> String {
    commit.chars().take(8).collect()
}
