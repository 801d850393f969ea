//! The door through which the simulator drives an engine, and engines that are broken on purpose behind the same door.

use std::time::Duration;

use dispatcher::engine::{Effect, Engine, ExitCode, Input, Now, Prior, Settings, Snapshot, TakeReport};

pub trait Core {
    fn handle(&mut self, now: Now, input: Input) -> Vec<Effect>;
    fn wake_in(&self, now: Now) -> Option<Duration>;
    fn snapshot(&self, now: Now) -> Snapshot;
}

impl Core for Engine {
    fn handle(&mut self, now: Now, input: Input) -> Vec<Effect> {
        Self::handle(self, now, input)
    }

    fn wake_in(&self, now: Now) -> Option<Duration> {
        Self::wake_in(self, now)
    }

    fn snapshot(&self, now: Now) -> Snapshot {
        Self::snapshot(self, now)
    }
}

/// What is wrong with the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Gives a run's lock to the next one while its attempt still runs.
    LockReleasedEarly,
    /// Concludes a run again, as something else, once it is committed.
    FinalRewritten,
    /// Treats `on_crash: fail` as `rerun` after a restart.
    FailIsRerun,
    /// Does not count the crashes of earlier lives.
    CrashesForgotten,
    /// Announces with the commit's beginning.
    AnnouncedEarly,
    /// Sleeps three times as long as it may.
    WakesLate,
    /// Never sleeps.
    NeverSleeps,
    /// Allows more attempts than the handler's `retry`.
    RetriesTooOften,
    /// Does not wait between attempts.
    NoBackoff,
    /// Loses an accepted run.
    RunForgotten,
    /// Starts low priorities first.
    OrderReversed,
    /// Does not hear a pause.
    PauseIgnored,
    /// Uses one worker more than there are.
    OneWorkerMore,
    /// Makes a second commit while one is being made.
    TwoCommits,
    /// Pushes again while a push is under way.
    TwoPushes,
    /// Moves old runs while they are being moved.
    TwoArchives,
    /// Does not hear that a run is cancelled.
    CancelIgnored,
    /// Exits as soon as it is told to stop.
    ExitsEarly,
    /// Never exits.
    NeverExits,
    /// Tells nobody that a run is final.
    NeverAnnounces,
    /// Forgets what earlier lives left in `processed/`.
    FoundForgotten,
}

impl Fault {
    pub const ALL: [Self; 21] = [
        Self::LockReleasedEarly,
        Self::FinalRewritten,
        Self::FailIsRerun,
        Self::CrashesForgotten,
        Self::AnnouncedEarly,
        Self::WakesLate,
        Self::NeverSleeps,
        Self::RetriesTooOften,
        Self::NoBackoff,
        Self::RunForgotten,
        Self::OrderReversed,
        Self::PauseIgnored,
        Self::OneWorkerMore,
        Self::TwoCommits,
        Self::TwoPushes,
        Self::TwoArchives,
        Self::CancelIgnored,
        Self::ExitsEarly,
        Self::NeverExits,
        Self::NeverAnnounces,
        Self::FoundForgotten,
    ];
}

/// An engine with one fault, made by tampering with what goes in and what comes out.
pub struct Faulty {
    inner: Engine,
    fault: Fault,
}

impl Faulty {
    pub fn new(mut settings: Settings, pause: Option<String>, fault: Fault) -> Self {
        if fault == Fault::OneWorkerMore {
            settings.workers += 1;
        }
        Self { inner: Engine::new(settings, pause), fault }
    }

    fn tamper(&self, input: &mut Input) {
        match input {
            Input::Took(_, report) => {
                if self.fault == Fault::RunForgotten && matches!(report, TakeReport::Accepted { .. }) {
                    *report = TakeReport::Nothing;
                } else if let TakeReport::Accepted { order, .. } = report {
                    self.reorder(order);
                }
            }
            Input::Found(found) => match &mut found.prior {
                Prior::Queued { order, crashes, .. } | Prior::Running { order, crashes, .. } => {
                    self.reorder(order);
                    if self.fault == Fault::FailIsRerun {
                        order.rerun = true;
                    }
                    if self.fault == Fault::CrashesForgotten {
                        *crashes = 0;
                    }
                }
                Prior::Final | Prior::Settled { .. } => {}
            },
            _ => {}
        }
        let deaf = match input {
            Input::Pause { .. } => self.fault == Fault::PauseIgnored,
            Input::Cancel { .. } => self.fault == Fault::CancelIgnored,
            Input::Found(_) => self.fault == Fault::FoundForgotten,
            _ => false,
        };
        if deaf {
            *input = Input::Tick;
        }
    }

    fn reorder(&self, order: &mut dispatcher::engine::Order) {
        match self.fault {
            Fault::RetriesTooOften => order.retry.attempts += 1,
            Fault::NoBackoff => order.retry.backoff = Duration::ZERO,
            // To the engine no two runs share a lock, so that none of them holds it to the end.
            Fault::LockReleasedEarly => {
                order.resource = format!("{}-{}", order.resource, order.id.short()).parse().unwrap();
            }
            Fault::OrderReversed => order.priority = -order.priority,
            _ => {}
        }
    }
}

impl Core for Faulty {
    fn handle(&mut self, now: Now, mut input: Input) -> Vec<Effect> {
        let stopping = matches!(input, Input::Stop { .. });
        self.tamper(&mut input);
        let mut out = self.inner.handle(now, input);
        match self.fault {
            Fault::FinalRewritten => {
                let again = out.iter().find_map(|effect| match effect {
                    Effect::Announce { ids, .. } => ids.first().copied(),
                    _ => None,
                });
                if let Some(id) = again {
                    let verdict = dispatcher::engine::Verdict::plain(dispatcher::status::State::Crashed, 70, 1);
                    out.push(Effect::Conclude { id, verdict: Box::new(verdict) });
                }
                out
            }
            Fault::AnnouncedEarly => {
                out.retain(|effect| !matches!(effect, Effect::Announce { .. }));
                if let Some(Effect::Commit(ids)) = out.iter().find(|effect| matches!(effect, Effect::Commit(_))) {
                    let ids = ids.clone();
                    out.push(Effect::Announce { ids, commit: "soon".into() });
                }
                out
            }
            Fault::TwoCommits | Fault::TwoPushes | Fault::TwoArchives => {
                let twice = |effect: &&Effect| match effect {
                    Effect::Commit(_) => self.fault == Fault::TwoCommits,
                    Effect::Push => self.fault == Fault::TwoPushes,
                    Effect::Archive { .. } => self.fault == Fault::TwoArchives,
                    _ => false,
                };
                let again: Vec<Effect> = out.iter().filter(twice).cloned().collect();
                out.extend(again);
                out
            }
            Fault::ExitsEarly if stopping => {
                out.retain(|effect| !matches!(effect, Effect::Exit(_)));
                out.push(Effect::Exit(ExitCode::Done));
                out
            }
            Fault::NeverExits => {
                out.retain(|effect| !matches!(effect, Effect::Exit(_)));
                out
            }
            Fault::NeverAnnounces => {
                out.retain(|effect| !matches!(effect, Effect::Announce { .. }));
                out
            }
            _ => out,
        }
    }

    fn wake_in(&self, now: Now) -> Option<Duration> {
        let wake = self.inner.wake_in(now);
        match self.fault {
            Fault::WakesLate => wake.map(|wait| wait * 3),
            Fault::NeverSleeps => wake.map(|_| Duration::ZERO),
            _ => wake,
        }
    }

    fn snapshot(&self, now: Now) -> Snapshot {
        self.inner.snapshot(now)
    }
}
