//! Watches one life of the engine from outside: keeps its own short account of every run, made from inputs and effects
//! alone, and says what breaks a rule.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::time::Duration;

use dispatcher::engine::{
    CommitReport, Effect, Ended, ExitCode, FetchReport, Found, Input, Now, Order, Prior, Settings, Snapshot, TakeReport,
};
use dispatcher::event::Event;
use dispatcher::request::{Resource, RunId};
use dispatcher::status::State;

use crate::expect::{Expect, after_end, lost, rc_fits};

pub type Verdict<T = ()> = Result<T, String>;

macro_rules! hold {
    ($fact:expr, $($said:tt)*) => { if !$fact { return Err(format!($($said)*)); } };
}

#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    Queued,
    Running,
    /// Something came in that must move it, with this result, before `handle` returns.
    Due(Expect),
    Final,
}

/// What is known of a run.
#[derive(Debug)]
pub struct Seen {
    pub order: Option<Order>,
    pub stage: Stage,
    pub attempt: u32,
    pub failures: u32,
    pub crashes: u32,
    pub troubles: u32,
    seq: u64,
    after: Duration,
    since: Duration,
    waited: Duration,
    pub cancelled: bool,
    stopped: bool,
    committed: bool,
    announced: bool,
}

/// Troubles that hold the intake.
const HOLD: [&str; 5] = ["checkout", "diverged", "second_dispatcher", "disk", "commit"];

/// One life.
#[derive(Debug)]
pub struct Watch {
    settings: Settings,
    pub runs: BTreeMap<RunId, Seen>,
    pub taking: BTreeSet<OsString>,
    cooling: BTreeMap<Resource, Duration>,
    troubles: BTreeSet<String>,
    pub paused: bool,
    pub stopping: bool,
    draining: bool,
    short: bool,
    looked: bool,
    committing: bool,
    pushing: bool,
    fetching: bool,
    /// A step of moving old runs, or a push of the archive.
    archiving: bool,
    to_announce: BTreeSet<RunId>,
    withdrawn: BTreeSet<OsString>,
    pub exited: Option<ExitCode>,
    seq: u64,
    /// Pushes that failed in a row, as announced.
    failed: u32,
    gave_up: bool,
}

impl Watch {
    pub fn new(settings: Settings, paused: bool) -> Self {
        Self {
            settings,
            runs: BTreeMap::new(),
            taking: BTreeSet::new(),
            cooling: BTreeMap::new(),
            troubles: BTreeSet::new(),
            paused,
            stopping: false,
            draining: false,
            short: false,
            looked: false,
            committing: false,
            pushing: false,
            fetching: false,
            archiving: false,
            to_announce: BTreeSet::new(),
            withdrawn: BTreeSet::new(),
            exited: None,
            seq: 0,
            failed: 0,
            gave_up: false,
        }
    }

    fn may_start(&self) -> bool {
        !self.paused && !self.stopping && !self.short
    }

    fn running(&self) -> usize {
        self.runs.values().filter(|run| run.stage == Stage::Running).count()
    }

    fn add(&mut self, now: Now, id: RunId, order: Option<Order>, stage: Stage, counts: (u32, u32, u32), old: bool) {
        self.seq += 1;
        let waited = order.as_ref().filter(|_| old).map_or(Duration::ZERO, |order| now.wall.since(order.queued_at));
        let (attempt, failures, crashes) = counts;
        let seen = Seen {
            order,
            stage,
            attempt,
            failures,
            crashes,
            troubles: 0,
            seq: self.seq,
            after: Duration::ZERO,
            since: now.mono,
            waited,
            cancelled: false,
            stopped: false,
            committed: false,
            announced: false,
        };
        self.runs.insert(id, seen);
    }

    /// Takes account of what comes in, before the engine sees it.
    pub fn before(&mut self, now: Now, input: &Input) {
        self.withdrawn.clear();
        match input {
            Input::Took(name, report) => self.took(now, name, report),
            Input::Found(found) => self.found(now, found),
            Input::Ended { id, attempt, ended } => self.ended(now, *id, *attempt, ended),
            Input::Committed(report) => {
                self.committing = false;
                if let CommitReport::Done { ids, .. } = report {
                    for id in ids {
                        if let Some(run) = self.runs.get_mut(id) {
                            run.committed = true;
                        }
                        self.to_announce.insert(*id);
                    }
                }
            }
            Input::Fetched(report) => {
                self.fetching = false;
                self.looked = true;
                if let FetchReport::Done { withdrawn, .. } = report {
                    self.withdrawn = withdrawn.iter().map(|gone| gone.name.clone()).collect();
                }
            }
            Input::Pushed(_) => self.pushing = false,
            Input::Archived(_) | Input::ArchivePushed(_) => self.archiving = false,
            Input::Disk { short } => self.short = short.is_some(),
            Input::Cancel { id, .. } => {
                if let Some(run) = self.runs.get_mut(id).filter(|run| run.stage != Stage::Final) {
                    run.cancelled = true;
                    if run.stage == Stage::Queued {
                        run.stage = Stage::Due(Expect::Final(State::Cancelled));
                    }
                }
            }
            Input::Pause { .. } => self.paused = true,
            Input::Resume { .. } => self.paused = false,
            Input::Drain { .. } => {
                self.draining |= !self.stopping;
                self.stopping = true;
            }
            Input::Stop { .. } => self.stopping = true,
            Input::Unsynced(_)
            | Input::Arrived(_)
            | Input::ArchiveLooked { .. }
            | Input::Scanned
            | Input::Index { .. }
            | Input::FetchNow
            | Input::Tick => {}
        }
    }

    fn took(&mut self, now: Now, name: &OsString, report: &TakeReport) {
        self.taking.remove(name);
        match report {
            TakeReport::Accepted { order, .. } => {
                self.add(now, order.id, Some((**order).clone()), Stage::Queued, (0, 0, 0), false);
            }
            TakeReport::Settled { run, verdict } => {
                self.add(now, run.id, None, Stage::Due(Expect::Final(verdict.state)), (0, 0, 0), false);
            }
            TakeReport::Scheduled { .. } | TakeReport::Later | TakeReport::Nothing | TakeReport::Failed(_) => {}
        }
    }

    fn found(&mut self, now: Now, found: &Found) {
        let id = found.run.id;
        match &found.prior {
            Prior::Final => self.add(now, id, None, Stage::Final, (0, 0, 0), true),
            Prior::Settled { verdict } => {
                self.add(now, id, None, Stage::Due(Expect::Final(verdict.state)), (0, 0, 0), true);
            }
            Prior::Queued { order, attempt, failures, crashes } => {
                let counts = (*attempt, *failures, *crashes);
                self.add(now, id, Some((**order).clone()), Stage::Queued, counts, true);
            }
            Prior::Running { order, attempt, failures, crashes } => {
                let counts = (*attempt, *failures, crashes + 1);
                let due = lost(order, crashes + 1, *attempt);
                self.add(now, id, Some((**order).clone()), Stage::Due(due), counts, true);
            }
        }
    }

    fn ended(&mut self, now: Now, id: RunId, attempt: u32, ended: &Ended) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        if run.stage != Stage::Running || run.attempt != attempt {
            return;
        }
        if let (Ended::LockBusy, Some(order), false) = (ended, &run.order, run.cancelled) {
            self.cooling.insert(order.resource.clone(), now.mono + Duration::from_millis(250));
        }
        let due = after_end(run, ended, run.stopped);
        run.stage = Stage::Due(due);
    }

    /// Judges what the engine made of it.
    pub fn after(&mut self, now: Now, effects: &[Effect]) -> Verdict {
        let mut started = Vec::new();
        for effect in effects {
            hold!(self.exited.is_none(), "I5: {effect:?} after the exit");
            match effect {
                Effect::Start { id, attempt, .. } => {
                    self.start(now, *id, *attempt)?;
                    started.push(*id);
                }
                Effect::Terminate { id, .. } => {
                    let run = self.runs.get_mut(id).filter(|run| run.stage == Stage::Running);
                    let Some(run) = run else { return Err(format!("terminates {id}, which does not run")) };
                    run.stopped |= !run.cancelled;
                }
                Effect::Mark { id, state, attempt } => self.mark(*id, *state, *attempt)?,
                Effect::Conclude { id, verdict } => self.conclude(now, *id, verdict)?,
                Effect::Take(name) => self.take(name)?,
                Effect::Commit(ids) => self.commit(ids)?,
                Effect::Announce { ids, .. } => self.announce(ids)?,
                Effect::Push => {
                    hold!(!self.pushing, "two pushes at once");
                    self.pushing = true;
                }
                Effect::Archive { keep, least, most } => {
                    hold!(!self.archiving, "two steps of moving old runs at once");
                    let held = HOLD.iter().find(|word| self.troubles.contains(**word));
                    hold!(held.is_none() && !self.stopping, "moves old runs although held ({held:?})");
                    hold!(*keep == self.settings.keep_recent && *least > 0 && most >= least, "moves too many");
                    self.archiving = true;
                }
                Effect::PushArchive => {
                    hold!(!self.archiving, "pushes the archive while it is being made");
                    self.archiving = true;
                }
                Effect::Fetch => {
                    hold!(!self.fetching, "two fetches at once");
                    self.fetching = true;
                }
                Effect::Emit(event) => self.event(now, event)?,
                Effect::Exit(code) => self.exit(*code)?,
                Effect::Scan | Effect::KeepPause(_) => {}
            }
        }
        self.in_order(now, &started)?;
        self.complete(now)
    }

    fn start(&mut self, now: Now, id: RunId, attempt: u32) -> Verdict {
        hold!(self.may_start(), "starts {id} although paused, stopping or short of disk");
        hold!(self.running() < self.settings.workers, "more than {} attempts at once", self.settings.workers);
        let Some(run) = self.runs.get(&id) else { return Err(format!("starts {id}, which nobody took")) };
        let Some(order) = &run.order else { return Err(format!("starts {id}, which never runs")) };
        hold!(run.stage == Stage::Queued, "starts {id}, which is {:?}", run.stage);
        hold!(!run.cancelled, "starts {id}, which was cancelled");
        hold!(attempt == run.attempt + 1, "{id}: attempt {attempt} after {}", run.attempt);
        hold!(run.after <= now.mono, "{id}: started before its back-off ended");
        hold!(run.failures == 0 || run.failures < order.retry.attempts, "{id}: a retry beyond `attempts`");
        hold!(run.crashes < 3, "I3: {id} started after three lost attempts");
        let rival = self.runs.iter().find(|(other, seen)| {
            **other != id
                && seen.stage == Stage::Running
                && seen.order.as_ref().is_some_and(|have| have.resource == order.resource)
        });
        hold!(rival.is_none(), "I4: {id} started on {} beside {:?}", order.resource, rival.map(|(id, _)| id));
        let cooled = self.cooling.get(&order.resource).is_none_or(|until| *until <= now.mono);
        hold!(cooled, "{id}: asks again too soon for a lock that a stranger holds");
        if let Some(run) = self.runs.get_mut(&id) {
            run.stage = Stage::Running;
            run.attempt = attempt;
        }
        Ok(())
    }

    fn mark(&mut self, id: RunId, state: State, attempt: u32) -> Verdict {
        hold!(matches!(state, State::Queued | State::Waiting), "{id} marked {state:?}");
        let Some(run) = self.runs.get_mut(&id) else { return Err(format!("marks {id}, which nobody took")) };
        match &run.stage {
            Stage::Queued => hold!(attempt == run.attempt, "{id}: marked with attempt {attempt}, has {}", run.attempt),
            Stage::Due(Expect::Again { attempt: wanted, failed, delay }) => {
                hold!(attempt == *wanted, "{id}: marked with attempt {attempt}, not {wanted}");
                let waits = delay.unwrap_or(run.after);
                hold!(run.after >= waits, "{id}: back-off {:?} instead of {waits:?}", run.after);
                run.attempt = attempt;
                run.failures += u32::from(*failed);
                run.stage = Stage::Queued;
                run.stopped = false;
            }
            stage => return Err(format!("I2: {id} marked {state:?} while {stage:?}")),
        }
        Ok(())
    }

    fn conclude(&mut self, now: Now, id: RunId, verdict: &dispatcher::engine::Verdict) -> Verdict {
        let state = verdict.state;
        hold!(rc_fits(verdict), "{id}: {state:?} with rc {}", verdict.rc);
        let Some(run) = self.runs.get_mut(&id) else { return Err(format!("concludes {id}, which nobody took")) };
        hold!(run.stage != Stage::Final, "I2: {id} concluded again, as {state:?}");
        hold!(run.stage != Stage::Running, "I5: {id} concluded as {state:?} while it runs");
        if let Stage::Due(wanted) = &run.stage {
            hold!(*wanted == Expect::Final(state), "{id}: ended as {state:?} instead of {wanted:?}");
        } else {
            let order = run.order.as_ref();
            let name = order.map(|order| order.name.clone()).unwrap_or_default();
            match state {
                State::Expired => {
                    hold!(run.attempt == 0, "{id} expired after it had been started");
                    hold!(late(run, now), "I9: {id} expired before its time");
                }
                State::Cancelled => {
                    let gone = self.withdrawn.contains(&name) && run.attempt == 0;
                    hold!(gone, "{id} cancelled and nobody asked for it");
                }
                _ => return Err(format!("{id} concluded as {state:?} out of the queue")),
            }
        }
        run.stage = Stage::Final;
        Ok(())
    }

    fn take(&mut self, name: &OsString) -> Verdict {
        let held = HOLD.iter().find(|word| self.troubles.contains(**word));
        hold!(self.may_start() && self.looked && held.is_none(), "takes {name:?} although held ({held:?})");
        hold!(self.taking.insert(name.clone()), "takes {name:?} twice at once");
        Ok(())
    }

    fn commit(&mut self, ids: &[RunId]) -> Verdict {
        hold!(!self.committing, "two commits at once");
        let due = self.runs.iter().filter(|(_, run)| run.stage == Stage::Final && !run.committed).map(|(id, _)| *id);
        hold!(!ids.is_empty() && due.eq(ids.iter().copied()), "a commit of {ids:?}, which is not what is due");
        self.committing = true;
        Ok(())
    }

    fn announce(&mut self, ids: &[RunId]) -> Verdict {
        for id in ids {
            let Some(run) = self.runs.get_mut(id) else { return Err(format!("announces {id}, which nobody took")) };
            hold!(run.committed, "announces {id} before its commit");
            hold!(!run.announced, "announces {id} twice");
            run.announced = true;
            self.to_announce.remove(id);
        }
        Ok(())
    }

    fn event(&mut self, now: Now, event: &Event) -> Verdict {
        match event {
            Event::Degraded { reason, .. } => {
                self.troubles.insert(reason.clone());
            }
            Event::Recovered { reason } => {
                hold!(self.troubles.remove(reason), "recovers from {reason}, which never was");
            }
            Event::Retrying { run, delay_ms, .. } => {
                let after = now.mono + Duration::from_millis(*delay_ms);
                let Some(seen) = self.runs.get_mut(&run.id) else { return Err("retries an unknown run".into()) };
                seen.after = after;
                if let Stage::Due(Expect::Again { delay, .. }) = &mut seen.stage {
                    *delay = delay.map(|delay| now.mono + delay);
                }
            }
            Event::PushFailed { attempt, retry_ms, .. } => {
                let most = self.settings.push_retries.max(1);
                hold!(*attempt <= most, "push attempt {attempt} of {most}");
                hold!(retry_ms.is_some() == (*attempt < most), "push attempt {attempt} of {most} with {retry_ms:?}");
                (self.failed, self.gave_up) = (*attempt, retry_ms.is_none());
            }
            Event::Pushed { .. } => (self.failed, self.gave_up) = (0, false),
            _ => {}
        }
        Ok(())
    }

    fn exit(&mut self, code: ExitCode) -> Verdict {
        hold!(self.running() == 0, "I5: exits while something runs");
        hold!(self.taking.is_empty() && !self.committing && !self.archiving, "exits while something is under way");
        hold!(self.stopping || self.settings.once, "exits and nobody asked for it");
        let recorded = self.runs.values().all(|run| run.stage != Stage::Final || run.committed);
        if code == ExitCode::TryLater {
            hold!(!self.stopping, "a stop exits 75");
        } else if !self.stopping {
            hold!(recorded && !self.paused && self.troubles.is_empty(), "`once` exits 0 and is not done");
            hold!(self.runs.values().all(|run| run.stage == Stage::Final), "`once` exits 0 with a queue");
        }
        let broken = self.troubles.contains("commit");
        hold!(recorded || broken, "exits with results that are not committed");
        self.exited = Some(code);
        Ok(())
    }

    /// Who was started went before everybody who waits behind it.
    fn in_order(&self, now: Now, started: &[RunId]) -> Verdict {
        let key = |run: &Seen| (run.order.as_ref().map_or(0, |order| -i16::from(order.priority)), run.seq);
        for first in started {
            let Some(run) = self.runs.get(first) else { continue };
            for (id, other) in self.eligible(now) {
                let same = other.order.as_ref().map(|o| &o.resource) == run.order.as_ref().map(|o| &o.resource);
                let passed = key(other) < key(run) && (same || self.free(now, other));
                hold!(!passed, "{first} overtook {id}");
            }
        }
        Ok(())
    }

    fn eligible(&self, now: Now) -> impl Iterator<Item = (&RunId, &Seen)> {
        self.runs.iter().filter(move |(_, run)| run.stage == Stage::Queued && run.after <= now.mono)
    }

    fn free(&self, now: Now, run: &Seen) -> bool {
        let Some(order) = &run.order else { return false };
        let held = self.runs.values().any(|other| {
            other.stage == Stage::Running && other.order.as_ref().is_some_and(|o| o.resource == order.resource)
        });
        !held && self.cooling.get(&order.resource).is_none_or(|until| *until <= now.mono)
    }

    /// Nothing that was due has been left undone.
    fn complete(&self, now: Now) -> Verdict {
        for (id, run) in &self.runs {
            if let Stage::Due(expect) = &run.stage {
                return Err(format!("{id} should have become {expect:?}"));
            }
            hold!(
                self.exited.is_some() || run.stage != Stage::Queued || run.attempt > 0 || !late(run, now),
                "{id} should have expired"
            );
        }
        hold!(self.to_announce.is_empty(), "{:?} committed and not announced", self.to_announce);
        if self.exited.is_some() {
            return Ok(());
        }
        if self.may_start() && self.running() < self.settings.workers {
            let idle = self.eligible(now).find(|(_, run)| self.free(now, run));
            hold!(idle.is_none(), "a worker idles and {:?} could start", idle.map(|(id, _)| id));
        }
        Ok(())
    }

    /// Final, and not known to be committed.
    pub fn unrecorded(&self) -> usize {
        self.runs.values().filter(|run| run.stage == Stage::Final && !run.committed).count()
    }

    /// I8, as far as one life knows.
    pub fn counts(&self, snapshot: &Snapshot) -> Verdict {
        let in_stage = |stage: &Stage| self.runs.values().filter(|run| run.stage == *stage).count();
        let running = snapshot.runs.iter().filter(|run| run.status == State::Running).count();
        hold!(running == in_stage(&Stage::Running), "I8: {running} running, not {}", in_stage(&Stage::Running));
        let queued = snapshot.runs.len() - running;
        hold!(queued == in_stage(&Stage::Queued), "I8: {queued} queued, not {}", in_stage(&Stage::Queued));
        let due = self.unrecorded();
        hold!(snapshot.git.unrecorded == due, "I8: {} unrecorded, not {due}", snapshot.git.unrecorded);
        for view in &snapshot.runs {
            let known = self.runs.get(&view.id).map(|run| run.attempt);
            hold!(known == Some(view.attempt), "I8: {} shows attempt {}, not {known:?}", view.id, view.attempt);
        }
        hold!(self.gave_up == (snapshot.git.push == "given up") || self.failed > 0, "push is {}", snapshot.git.push);
        Ok(())
    }
}

fn late(run: &Seen, now: Now) -> bool {
    let Some(order) = &run.order else { return false };
    let age = run.waited + now.mono.saturating_sub(run.since);
    order.expires_at.is_some_and(|at| at <= now.wall) || order.max_queue_age.is_some_and(|most| most <= age)
}
