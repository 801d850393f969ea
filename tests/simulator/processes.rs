//! Attempts as the machine sees them: a lock that is held while anything lives, an end that may come by itself, by a
//! signal of ours or with the dispatcher's death.

use std::ffi::OsString;
use std::time::Duration;

use dispatcher::diagnostic::Diagnostic;
use dispatcher::engine::{Ended, How, Input, TakeReport, Verdict};
use dispatcher::request::RunId;
use dispatcher::status::State;

use crate::adapter::Core;
use crate::disk::{Folder, order};
use crate::world::{Done, Happening, World, broken};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Not yet past the gate.
    Preparing,
    Alive,
    /// Its dispatcher died; it is being killed.
    Orphan,
    Gone,
}

#[derive(Debug)]
pub struct Attempt {
    pub id: RunId,
    number: u32,
    pub resource: usize,
    pub life: u32,
    stage: Stage,
    told: bool,
    /// The newest planned end; older ones are void.
    plan: u32,
    ended: Ended,
}

impl Attempt {
    pub fn lives(&self) -> bool {
        matches!(self.stage, Stage::Preparing | Stage::Alive)
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Step {
    Begin,
    End(u32),
    Reaped,
}

impl<C: Core> World<C> {
    pub fn start(&mut self, id: RunId, number: u32) {
        let Some(folder) = self.disk.folders.get(&id) else { return };
        let resource = self.asks[folder.ask].resource;
        let ended = self.ending();
        let life = self.lives;
        self.attempts.push(Attempt {
            id,
            number,
            resource,
            life,
            stage: Stage::Preparing,
            told: false,
            plan: 0,
            ended,
        });
        let at = self.t + self.millis(5);
        self.at(at, Happening::Attempt(self.attempts.len() - 1, Step::Begin));
    }

    /// How an attempt that is left alone ends.
    fn ending(&mut self) -> Ended {
        let problem = |text: &str| Box::new(Diagnostic::new("E0601", text));
        let exited = |code| Ended::Exited { code, terminated: false, problem: None };
        match self.rng.u32(..100) {
            0..50 => exited(0),
            50..65 => exited(75),
            65..75 => exited(1),
            75..80 => Ended::Signalled { signal: 11, terminated: false },
            80..88 => Ended::TimedOut,
            88..91 => Ended::OutOfMemory,
            91..93 => Ended::TooManyProcesses(problem("too many processes")),
            93..96 => Ended::Lost,
            96..98 => Ended::NotStarted(problem("not executable")),
            _ => Ended::Trouble("no file descriptor is free".into()),
        }
    }

    pub fn attempt_step(&mut self, at: usize, step: Step) -> Done {
        match (step, self.attempts[at].stage) {
            (Step::Begin, Stage::Preparing) => self.begin(at),
            (Step::End(plan), Stage::Alive) if plan == self.attempts[at].plan => {
                self.attempts[at].stage = Stage::Gone;
                self.report(at);
                Ok(())
            }
            (Step::Reaped, Stage::Orphan) => {
                self.attempts[at].stage = Stage::Gone;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn report(&mut self, at: usize) {
        let attempt = &self.attempts[at];
        let (id, number, ended) = (attempt.id, attempt.number, attempt.ended.clone());
        if matches!(ended, Ended::Lost)
            && let Some(folder) = self.disk.folders.get_mut(&id)
        {
            folder.lost.insert(number);
        }
        self.deliver(Input::Ended { id, attempt: number, ended });
    }

    /// The lock, the mark, the gate.
    fn begin(&mut self, at: usize) -> Done {
        self.point()?;
        let (id, number, resource) = (self.attempts[at].id, self.attempts[at].number, self.attempts[at].resource);
        let strange = self.strangers.get(&resource).is_some_and(|until| self.t < *until);
        let alive = |other: &Attempt| matches!(other.stage, Stage::Alive | Stage::Orphan);
        let rival = self.attempts.iter().find(|other| other.resource == resource && alive(other));
        if let Some(rival) = rival.filter(|rival| rival.life == self.lives) {
            return broken(format!("I4: {id} asks for the lock of {}, which runs in this life", rival.id));
        }
        let early = if strange || rival.is_some() {
            Some(Ended::LockBusy)
        } else if self.attempts[at].told {
            Some(if self.rng.bool() {
                Ended::Trouble("told to end before it began".into())
            } else {
                Ended::Signalled { signal: 15, terminated: true }
            })
        } else {
            let ended = &self.attempts[at].ended;
            matches!(ended, Ended::NotStarted(_) | Ended::Trouble(_)).then(|| ended.clone())
        };
        if let Some(ended) = early {
            self.attempts[at].ended = ended;
            self.attempts[at].stage = Stage::Gone;
            self.report(at);
            return Ok(());
        }
        let rerun = self.disk.folders.get(&id).map(|folder| self.asks[folder.ask].rerun);
        let Some(folder) = self.disk.folders.get_mut(&id) else { return broken(format!("starts {id}: no folder")) };
        if folder.verdict.is_some() {
            return broken(format!("I2: {id} started after its end"));
        }
        if folder.lost.len() >= 3 || (rerun == Some(false) && !folder.lost.is_empty()) {
            return broken(format!("I3: {id} started again after {:?} were lost", folder.lost));
        }
        (folder.state, folder.attempt) = (State::Running, number);
        self.note(|| format!("   {id} runs, attempt {number}"));
        self.point()?;
        self.attempts[at].stage = Stage::Alive;
        let most = if self.stormy || self.rng.u32(..6) == 0 { 60_000 } else { 4_000 };
        let end = self.t + self.millis(most);
        self.at(end, Happening::Attempt(at, Step::End(0)));
        self.point()
    }

    pub fn terminate(&mut self, id: RunId, how: How) {
        let mine = self.attempts.iter().position(|attempt| attempt.id == id && attempt.lives());
        let Some(at) = mine else { return };
        let first = !self.attempts[at].told;
        self.attempts[at].told = true;
        if self.attempts[at].stage != Stage::Alive || (first && self.rng.u32(..8) == 0) {
            // It is about to end by itself, and the signal comes too late.
            return;
        }
        let (signal, delay) = match how {
            How::AtOnce => (9, self.millis(10)),
            How::Gracefully if self.rng.u32(..4) == 0 => (9, Duration::from_secs(10)),
            How::Gracefully => (15, self.millis(500)),
        };
        let attempt = &mut self.attempts[at];
        attempt.ended = if signal == 15 && delay.as_micros() % 2 == 0 {
            Ended::Exited { code: 143, terminated: true, problem: None }
        } else {
            Ended::Signalled { signal, terminated: true }
        };
        attempt.plan += 1;
        let plan = attempt.plan;
        self.at(self.t + delay, Happening::Attempt(at, Step::End(plan)));
    }

    /// The dispatcher is gone: what waits at the gate never begins, what runs is killed after a while.
    pub fn orphan(&mut self) {
        for at in 0..self.attempts.len() {
            match self.attempts[at].stage {
                Stage::Preparing => self.attempts[at].stage = Stage::Gone,
                Stage::Alive => {
                    self.attempts[at].stage = Stage::Orphan;
                    let most = if self.rng.u32(..4) == 0 { 20_000 } else { 500 };
                    let delay = self.millis(most);
                    self.at(self.t + delay, Happening::Attempt(at, Step::Reaped));
                }
                Stage::Orphan | Stage::Gone => {}
            }
        }
    }

    /// Looks at a file and takes it, step by step.
    pub fn take(&mut self, name: &OsString) -> Done {
        self.point()?;
        let report = self.take_report(name)?;
        if let (TakeReport::Accepted { .. } | TakeReport::Settled { .. }, Some(life)) = (&report, &mut self.life) {
            life.taken += 1;
        }
        self.deliver(Input::Took(name.clone(), report));
        Ok(())
    }

    fn take_report(&mut self, name: &OsString) -> Done<TakeReport> {
        let Some(&number) = self.disk.inbox.get(name) else { return Ok(TakeReport::Nothing) };
        if self.disk.in_hand(number) {
            self.disk.inbox.remove(name);
            return Ok(TakeReport::Nothing);
        }
        if self.t < self.takes_fail {
            return Ok(TakeReport::Failed("permission denied".into()));
        }
        let ask = self.asks[number].clone();
        if let Some(until) = ask.not_before.filter(|at| ask.valid && *at > self.wall()) {
            return Ok(TakeReport::Scheduled { until });
        }
        let first = ask.id.and_then(|id| self.disk.folders.get(&id)).map(|folder| self.asks[folder.ask].bytes);
        let (id, settled) = match (ask.valid, ask.id, first) {
            (true, Some(id), None) => (id, None),
            (true, Some(id), Some(bytes)) if bytes == ask.bytes => {
                (self.fresh(), Some(Verdict::plain(State::Duplicate, 0, 0).because(format!("of {id}"))))
            }
            (true, None, _) => (self.fresh(), None),
            _ => (self.fresh(), Some(Verdict::plain(State::Rejected, 65, 0))),
        };
        let queued_at = self.wall();
        let mut folder = Folder {
            ask: number,
            taken: false,
            queued_at,
            state: State::Queued,
            attempt: 0,
            verdict: None,
            settled: settled.clone(),
            lost: std::collections::BTreeSet::new(),
            recorded: false,
        };
        self.disk.folders.insert(id, folder.clone());
        self.point()?;
        folder.taken = true;
        self.disk.inbox.remove(name);
        self.disk.folders.insert(id, folder);
        self.point()?;
        let order = order(id, &ask, queued_at);
        Ok(match settled {
            Some(verdict) => TakeReport::Settled { run: order.run_ref(), verdict: Box::new(verdict) },
            None => TakeReport::Accepted { order: Box::new(order), by: None, reason: None, dry_run: false },
        })
    }

    fn fresh(&mut self) -> RunId {
        let mut random = [0; 10];
        self.rng.fill(&mut random);
        RunId::new(self.wall(), random)
    }
}
