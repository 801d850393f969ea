//! The life of one run: taken, queued, started, ended, again or final.

use std::ffi::OsString;
use std::time::Duration;

use crate::backoff;
use crate::diagnostic::Diagnostic;
use crate::engine::core::{Phase, Run, Trouble, Why};
use crate::engine::{Effect, Ended, Engine, Found, How, Now, Order, Prior, TakeReport, Verdict, Withdrawal};
use crate::event::Event;
use crate::locks::Busy;
use crate::request::RunId;
use crate::status::State;

/// Why an attempt was not the last, in `run.retrying`: what a restart counts by. Anything else is a failure.
pub const CRASHED: &str = "crashed";
/// The dispatcher stopped: nobody's fault.
pub const STOPPED: &str = "dispatcher stopped";
/// The attempt could not begin: not the request's fault.
pub const NOT_BEGUN: &str = "could not begin";

/// How often a stranger's lock is tried again.
const STRANGER: Duration = Duration::from_millis(250);
/// When a file is looked at again that was just being changed.
const LATER: Duration = Duration::from_millis(250);
/// Attempts that may be lost to crashes.
const CRASHES: u32 = 3;
/// A delay between attempts grows to this many times the first one.
const BACKOFF_GROWTH: u32 = 16;
/// After trouble of our own, before the next try; doubles up to [`TROUBLE_MOST`].
const TROUBLE_FIRST: Duration = Duration::from_secs(1);
const TROUBLE_MOST: Duration = Duration::from_secs(60);

impl Engine {
    pub(super) fn took(&mut self, now: Now, name: OsString, report: TakeReport, out: &mut Vec<Effect>) {
        self.taking.remove(&name);
        if !matches!(report, TakeReport::Failed(_)) {
            self.taken_well(&name, out);
        }
        match report {
            TakeReport::Accepted { order, by, reason, dry_run } => {
                let run = order.run_ref();
                out.push(Effect::Emit(Event::Accepted { run, priority: order.priority, by, reason, dry_run }));
                self.enqueue(now, *order, Duration::ZERO, 0, 0, 0);
            }
            TakeReport::Settled { run, verdict } => {
                let (status, rc) = (verdict.state, verdict.rc);
                let id = run.id;
                if let Some(first) = verdict.problems.first() {
                    let (code, message) = (first.code.to_owned(), first.message.clone());
                    let problems = verdict.problems.len();
                    out.push(Effect::Emit(Event::Rejected { run, status, rc, code, message, problems }));
                }
                self.settle(id, *verdict, out);
            }
            TakeReport::Scheduled { until } => {
                self.scheduled.insert(name, until);
            }
            TakeReport::Later => {
                self.inbox.insert(name, now.mono + LATER);
            }
            TakeReport::Nothing => {}
            TakeReport::Failed(why) => self.retake(now, name, why, out),
        }
    }

    fn enqueue(&mut self, now: Now, order: Order, aged: Duration, attempt: u32, failures: u32, crashes: u32) {
        let id = order.id;
        let ticket = self.queue.push(id, order.priority, None);
        let phase = Phase::Queued { after: Duration::ZERO, waiting: false };
        let since = now.mono;
        self.runs.insert(
            id,
            Run { order, phase, attempt, failures, crashes, troubles: 0, waits: false, ticket, since, aged },
        );
    }

    pub(super) fn found(&mut self, now: Now, found: Found, out: &mut Vec<Effect>) {
        let id = found.run.id;
        match found.prior {
            Prior::Final => {
                self.finals.insert(id);
            }
            Prior::Settled { verdict } => self.settle(id, *verdict, out),
            Prior::Queued { order, attempt, failures, crashes } => {
                let aged = now.wall.since(order.queued_at);
                self.enqueue(now, *order, aged, attempt, failures, crashes);
            }
            Prior::Running { order, attempt, failures, crashes } => {
                self.enqueue(now, *order, Duration::ZERO, attempt, failures, crashes);
                self.crashed(now, id, "the dispatcher or the machine died during the run", out);
            }
        }
    }

    /// An attempt of which the handler may have begun was lost: once more, or never again.
    fn crashed(&mut self, now: Now, id: RunId, what: &str, out: &mut Vec<Effect>) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.crashes += 1;
        let verdict = Verdict::plain(State::Crashed, 70, run.attempt);
        if !run.order.rerun {
            self.conclude(id, verdict.because(format!("{what}; `on_crash: fail`: it is not started again")), out);
        } else if run.crashes >= CRASHES {
            self.conclude(id, verdict.because(format!("{what}; {CRASHES} attempts were lost so")), out);
        } else {
            self.requeue(now, id, Duration::ZERO, CRASHED, out);
        }
    }

    /// The attempt could not even begin, through no fault of the request: it is tried again for as long as it takes.
    fn not_begun(&mut self, now: Now, id: RunId, what: String, out: &mut Vec<Effect>) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let delay = backoff::ceiling(TROUBLE_FIRST, TROUBLE_MOST, run.troubles);
        run.troubles += 1;
        self.requeue(now, id, delay, NOT_BEGUN, out);
        self.trouble(Trouble::Start, Some(what), out);
    }

    pub(super) fn start_due(&mut self, now: Now, out: &mut Vec<Effect>) {
        if !self.may_start() {
            return;
        }
        self.locks.tidy(now.mono);
        let mut free = self.settings.workers.saturating_sub(self.running());
        for id in self.queue.iter().collect::<Vec<_>>() {
            if free == 0 {
                return;
            }
            let Some(run) = self.runs.get_mut(&id) else { continue };
            let Phase::Queued { after, waiting } = &mut run.phase else { continue };
            if *after > now.mono {
                continue;
            }
            match self.locks.busy(&run.order.resource, now.mono) {
                Some(busy) if !*waiting => {
                    *waiting = true;
                    let by = if let Busy::Held(by) = busy { Some(by) } else { None };
                    wait(run, by, out);
                }
                Some(_) => {}
                None => {
                    self.locks.acquire(&run.order.resource, id, now.mono);
                    self.queue.remove(id);
                    run.attempt += 1;
                    run.phase = Phase::Running { since: now.mono, end: None };
                    out.push(Effect::Start { id, attempt: run.attempt, waited: run.age(now) });
                    free -= 1;
                }
            }
        }
    }

    pub(super) fn ended(&mut self, now: Now, id: RunId, attempt: u32, ended: Ended, out: &mut Vec<Effect>) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let Phase::Running { since, end } = &run.phase else { return };
        if run.attempt != attempt {
            return;
        }
        let (since, end) = (*since, end.clone());
        self.locks.release(&run.order.resource, id, now.mono);
        if matches!(ended, Ended::LockBusy) {
            return self.lock_was_busy(now, id, end, out);
        }
        if !matches!(ended, Ended::NotStarted(_) | Ended::Trouble(_)) {
            let held_ms = u64::try_from(now.mono.saturating_sub(since).as_millis()).unwrap_or(u64::MAX);
            out.push(Effect::Emit(Event::LockReleased { run: run.order.run_ref(), held_ms }));
        }
        if !matches!(ended, Ended::Trouble(_)) {
            self.trouble(Trouble::Start, None, out);
        }
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.waits = false;
        let told = match &ended {
            Ended::Exited { terminated, .. } | Ended::Signalled { terminated, .. } => *terminated,
            // It could not begin, or was lost, while it was being told to end: that is as good as having ended.
            Ended::Trouble(_) | Ended::Lost => matches!(end, Some(Why::Person { .. })),
            _ => false,
        };
        match end {
            Some(Why::Person { by, reason }) if told => {
                self.conclude(id, cancelled(attempt, &by, reason.as_deref()), out)
            }
            Some(Why::Stop) if told => {
                if run.order.rerun {
                    self.requeue(now, id, Duration::ZERO, STOPPED, out);
                } else {
                    let verdict = Verdict::plain(State::Cancelled, 130, attempt).because(STOPPED);
                    self.conclude(id, verdict, out);
                }
            }
            // Nothing was started, so that even `on_crash: fail` may begin at the next start.
            Some(Why::Stop) if matches!(ended, Ended::Trouble(_)) => {
                self.requeue(now, id, Duration::ZERO, STOPPED, out);
            }
            end => self.judge(now, id, attempt, end, ended, out),
        }
    }

    /// A stranger holds the lock: the attempt did not happen.
    fn lock_was_busy(&mut self, now: Now, id: RunId, end: Option<Why>, out: &mut Vec<Effect>) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.attempt -= 1;
        if let Some(Why::Person { by, reason }) = end {
            let verdict = cancelled(run.attempt, &by, reason.as_deref());
            return self.conclude(id, verdict, out);
        }
        self.locks.stranger(&run.order.resource, now.mono + STRANGER);
        run.phase = Phase::Queued { after: Duration::ZERO, waiting: true };
        wait(run, None, out);
        self.queue.push(id, run.order.priority, Some(run.ticket));
    }

    /// What an attempt that ran to an end of its own means for the run.
    fn judge(&mut self, now: Now, id: RunId, attempt: u32, end: Option<Why>, ended: Ended, out: &mut Vec<Effect>) {
        let plain = |state, rc| Verdict::plain(state, rc, attempt);
        let verdict = match ended {
            Ended::Exited { code: 0, problem, .. } => with(plain(State::Succeeded, 0), problem.as_deref()),
            Ended::Exited { code, problem, .. } => with(plain(State::Failed, code), problem.as_deref()),
            Ended::Signalled { signal, .. } => {
                Verdict { signal: Some(signal), ..plain(State::Failed, 128_i32.saturating_add(signal)) }
            }
            Ended::TimedOut => plain(State::TimedOut, 124),
            Ended::OutOfMemory => plain(State::OutOfMemory, 137),
            Ended::TooManyProcesses(problem) => {
                with(Verdict { signal: Some(9), ..plain(State::Failed, 137) }, Some(&problem))
            }
            Ended::NotStarted(problem) => return self.never_started(id, attempt, &problem, out),
            Ended::Trouble(what) => return self.not_begun(now, id, what, out),
            Ended::Lost => return self.crashed(now, id, "the run's supervisor died", out),
            Ended::LockBusy => return,
        };
        let Some(run) = self.runs.get_mut(&id) else { return };
        if verdict.state != State::Succeeded {
            run.failures += 1;
            if run.order.retry.wants(verdict.state, verdict.rc) && run.failures < run.order.retry.attempts {
                if let Some(Why::Person { by, reason }) = end {
                    // It ended before it heard of it; whoever cancelled it does not want the next attempt either.
                    return self.conclude(id, cancelled(attempt, &by, reason.as_deref()), out);
                }
                let most = run.order.retry.backoff.saturating_mul(BACKOFF_GROWTH);
                let delay = backoff::ceiling(run.order.retry.backoff, most, run.failures - 1);
                let why = match verdict.state {
                    State::Failed => format!("exit {}", verdict.rc),
                    state => state.word().to_owned(),
                };
                return self.requeue(now, id, delay, &why, out);
            }
        }
        self.conclude(id, verdict, out);
    }

    /// The handler cannot be started at all: the attempt did not happen.
    fn never_started(&mut self, id: RunId, attempt: u32, problem: &Diagnostic, out: &mut Vec<Effect>) {
        let Some(run) = self.runs.get(&id) else { return };
        if run.failures + run.crashes > 0 {
            // Earlier attempts did run: it cannot be said that it never did.
            return self.conclude(id, with(Verdict::plain(State::Failed, 78, attempt - 1), Some(problem)), out);
        }
        let (status, rc) = (State::Rejected, 78);
        let (code, message) = (problem.code.to_owned(), problem.message.clone());
        out.push(Effect::Emit(Event::Rejected { run: run.order.run_ref(), status, rc, code, message, problems: 1 }));
        self.conclude(id, with(Verdict::plain(status, rc, attempt - 1), Some(problem)), out);
    }

    /// Back into the queue, for another attempt after `delay`.
    fn requeue(&mut self, now: Now, id: RunId, delay: Duration, why: &str, out: &mut Vec<Effect>) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.phase = Phase::Queued { after: now.mono + delay, waiting: false };
        (run.since, run.aged) = (now.mono, Duration::ZERO);
        self.queue.push(id, run.order.priority, Some(run.ticket));
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let attempt = run.attempt;
        // The event first: it is what a restart counts lost attempts by.
        out.push(Effect::Emit(Event::Retrying { run: run.order.run_ref(), attempt, why: why.to_owned(), delay_ms }));
        out.push(Effect::Mark { id, state: State::Queued, attempt });
    }

    /// Ends a run that is not final.
    pub(super) fn conclude(&mut self, id: RunId, verdict: Verdict, out: &mut Vec<Effect>) {
        self.queue.remove(id);
        self.runs.remove(&id);
        self.settle(id, verdict, out);
    }

    fn settle(&mut self, id: RunId, verdict: Verdict, out: &mut Vec<Effect>) {
        out.push(Effect::Conclude { id, verdict: Box::new(verdict) });
        self.finals.insert(id);
    }

    pub(super) fn expire(&mut self, now: Now, out: &mut Vec<Effect>) {
        let late = self.runs.values().filter(|run| run.attempt == 0 && matches!(run.phase, Phase::Queued { .. }));
        let late = late.filter_map(|run| Some((run.order.id, lateness(run, now)?)));
        for (id, reason) in late.collect::<Vec<_>>() {
            let Some(run) = self.runs.get(&id) else { continue };
            let run = run.order.run_ref();
            let (status, rc) = (State::Expired, 75);
            out.push(Effect::Emit(Event::Expired { run, status, rc, reason: reason.clone() }));
            let problem = Diagnostic::new("E0403", format!("not started: {reason}"));
            self.conclude(id, with(Verdict::plain(status, rc, 0).because(reason), Some(&problem)), out);
        }
    }

    pub(super) fn cancel(&mut self, _: Now, id: RunId, by: String, reason: Option<String>, out: &mut Vec<Effect>) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let event = Event::Cancelling { run: run.order.run_ref(), by: by.clone(), reason: reason.clone() };
        out.push(Effect::Emit(event));
        match &mut run.phase {
            Phase::Queued { .. } => {
                let verdict = cancelled(run.attempt, &by, reason.as_deref());
                self.conclude(id, verdict, out);
            }
            Phase::Running { end, .. } => {
                let how = if matches!(end, Some(Why::Person { .. })) { How::AtOnce } else { How::Gracefully };
                *end = Some(Why::Person { by, reason });
                out.push(Effect::Terminate { id, how });
            }
        }
    }

    /// Requests that somebody deleted in git: not yet started ones are not wanted any more.
    pub(super) fn withdraw(&mut self, withdrawals: &[Withdrawal], out: &mut Vec<Effect>) {
        for gone in withdrawals {
            self.scheduled.remove(&gone.name);
            let hit = self.runs.values().find(|run| {
                run.order.name == gone.name && run.attempt == 0 && matches!(run.phase, Phase::Queued { .. })
            });
            let Some(id) = hit.map(|run| run.order.id) else { continue };
            let reason = format!("withdrawn in {} by {}", gone.commit, gone.author);
            self.conclude(id, Verdict::plain(State::Cancelled, 130, 0).because(reason), out);
        }
    }
}

/// It waits for its lock; others are told once, however often the lock is tried.
fn wait(run: &mut Run, held_by: Option<RunId>, out: &mut Vec<Effect>) {
    out.push(Effect::Mark { id: run.order.id, state: State::Waiting, attempt: run.attempt });
    if !std::mem::replace(&mut run.waits, true) {
        out.push(Effect::Emit(Event::LockWaiting { run: run.order.run_ref(), held_by }));
    }
}

fn cancelled(attempt: u32, by: &str, reason: Option<&str>) -> Verdict {
    let reason = reason.map_or_else(|| format!("by {by}"), |reason| format!("by {by}: {reason}"));
    Verdict::plain(State::Cancelled, 130, attempt).because(reason)
}

fn with(verdict: Verdict, problem: Option<&Diagnostic>) -> Verdict {
    Verdict { problems: problem.cloned().into_iter().collect(), ..verdict }
}

fn lateness(run: &Run, now: Now) -> Option<String> {
    if let Some(at) = run.order.expires_at.filter(|&at| at <= now.wall) {
        return Some(format!("`expires_at` {at} has passed"));
    }
    let age = run.order.max_queue_age.filter(|&age| run.age(now) >= age)?;
    Some(format!("`max_queue_age` of {} has passed", crate::quantity::show_duration(age)))
}
