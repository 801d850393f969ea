//! One seed: virtual time and what happens in it, the lives of the dispatcher, and what survives them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ffi::OsString;
use std::time::Duration;

use dispatcher::engine::{CommitReport, ExitCode, Input, Now, Settings};
use dispatcher::request::RunId;
use dispatcher::time::Time;

use crate::adapter::Core;
use crate::check::Watch;
use crate::disk::{Ask, Disk};
use crate::git::Git;
use crate::people::Action;
use crate::processes::{Attempt, Step};

/// Why a step was not finished.
#[derive(Debug)]
pub enum Halt {
    Crash,
    Exit(ExitCode),
    Broken(String),
}

pub type Done<T = ()> = Result<T, Halt>;

/// Something that is going to happen. The number is the life that it belongs to.
#[derive(Debug)]
pub enum Happening {
    Boot,
    Deliver(u32, Box<Input>),
    Take(u32, OsString),
    Git(u32, GitJob),
    Attempt(usize, Step),
    Scan(u32),
    Do(Action),
    Heal,
}

#[derive(Clone, Debug)]
pub enum GitJob {
    Commit(Vec<RunId>),
    Fetch,
    Push,
    Archive { keep: usize, least: usize, most: usize },
    PushArchive,
}

/// One life of the dispatcher.
pub struct Life<C> {
    pub engine: C,
    pub watch: Watch,
    pub began: Duration,
    pub once: bool,
    pub healed: bool,
    pub wake_at: Option<Duration>,
    /// The wall clock was set since the engine last looked.
    pub stale: bool,
    pub idle_ticks: u32,
    /// The engine knows what earlier lives left behind.
    pub found: bool,
    /// Taken, and not yet reported to the engine.
    pub taken: usize,
    /// Recorded, and not yet reported to the engine.
    pub made: usize,
    pub takes_free: Duration,
    pub git_free: Duration,
}

/// Everything.
pub struct World<C> {
    pub rng: fastrand::Rng,
    pub t: Duration,
    /// Of the wall clock against virtual time, in milliseconds.
    pub skew: i64,
    pub heap: BinaryHeap<Reverse<(Duration, u64, usize)>>,
    pub pending: BTreeMap<usize, Happening>,
    pub next: usize,
    pub asks: Vec<Ask>,
    pub disk: Disk,
    pub git: Git,
    pub attempts: Vec<Attempt>,
    /// Until when strangers hold resources.
    pub strangers: BTreeMap<usize, Duration>,
    pub life: Option<Life<C>>,
    pub lives: u32,
    pub make: Box<dyn Fn(Settings, Option<String>) -> C>,
    pub crash_in: Option<u32>,
    pub healed: bool,
    pub short: Duration,
    pub takes_fail: Duration,
    /// When the final life was told to stop, by the wall clock.
    pub stopped: Option<Time>,
    /// Crash follows crash, and attempts take long.
    pub stormy: bool,
    /// Only what the models of disk, processes and git see counts; what `check` says does not.
    pub blind: bool,
    pub trace: Option<Vec<String>>,
    pub steps: u64,
}

const START: i64 = 1_763_900_000_000;

impl<C: Core> World<C> {
    pub fn new(seed: u64, trace: bool, make: Box<dyn Fn(Settings, Option<String>) -> C>) -> Self {
        let mut world = Self {
            rng: fastrand::Rng::with_seed(seed),
            t: Duration::ZERO,
            skew: 0,
            heap: BinaryHeap::new(),
            pending: BTreeMap::new(),
            next: 0,
            asks: Vec::new(),
            disk: Disk::default(),
            git: Git::default(),
            attempts: Vec::new(),
            strangers: BTreeMap::new(),
            life: None,
            lives: 0,
            make,
            crash_in: None,
            healed: false,
            short: Duration::ZERO,
            takes_fail: Duration::ZERO,
            stopped: None,
            stormy: false,
            blind: false,
            trace: trace.then(Vec::new),
            steps: 0,
        };
        world.stormy = world.rng.u32(..5) == 0;
        world.git.remote = (world.rng.u32(..8) > 0).then(Vec::new);
        world.at(Duration::ZERO, Happening::Boot);
        world.plan();
        world
    }

    pub fn wall(&self) -> Time {
        Time::from_millis(START + i64::try_from(self.t.as_millis()).unwrap() + self.skew)
    }

    pub fn now(&self) -> Now {
        let began = self.life.as_ref().map_or(self.t, |life| life.began);
        Now { mono: self.t - began, wall: self.wall() }
    }

    pub fn at(&mut self, t: Duration, what: Happening) {
        let number = self.next;
        self.next += 1;
        self.pending.insert(number, what);
        self.heap.push(Reverse((t, number as u64, number)));
    }

    pub fn millis(&mut self, most: u64) -> Duration {
        Duration::from_micros(self.rng.u64(0..=most * 1000))
    }

    pub fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>12.6} life {} {}", self.t.as_secs_f64(), self.lives, text()));
        }
    }

    /// The dispatcher may die here.
    pub fn point(&mut self) -> Done {
        if self.life.is_some()
            && let Some(left) = &mut self.crash_in
        {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.crash_in = None;
                return Err(Halt::Crash);
            }
        }
        Ok(())
    }

    /// Runs to the end; says what broke.
    pub fn run(&mut self) -> Result<(), String> {
        loop {
            self.steps += 1;
            if self.steps > 20_000 {
                return Err(format!("no end after {} steps", self.steps));
            }
            let halted = match self.step() {
                Ok(true) => return self.finish(),
                Ok(false) => continue,
                Err(halt) => halt,
            };
            match halted {
                Halt::Broken(text) => return Err(text),
                Halt::Crash => self.die(),
                Halt::Exit(code) => {
                    if self.exited(code)? {
                        return self.finish();
                    }
                }
            }
        }
    }

    /// One happening; true where everything is done.
    fn step(&mut self) -> Done<bool> {
        if self.healed && self.quiet() && self.stopped.is_none() {
            let life = self.life.as_ref().filter(|life| !life.once && !life.watch.stopping);
            if life.is_some() {
                self.stopped = Some(self.wall());
                self.feed(Input::Stop { by: "test".into() })?;
                return Ok(false);
            }
        }
        let next = self.heap.peek().map(|Reverse((t, ..))| *t);
        let wake = self.life.as_ref().and_then(|life| life.wake_at);
        let soonest = [next, wake].into_iter().flatten().min();
        if self.probe(soonest)? {
            return Ok(false);
        }
        match (next, wake) {
            (Some(at), wake) if wake.is_none_or(|wake| at <= wake) => {
                let Some(Reverse((at, _, number))) = self.heap.pop() else { return Ok(false) };
                self.t = self.t.max(at);
                if let Some(what) = self.pending.remove(&number) {
                    self.happen(what)?;
                }
                Ok(false)
            }
            (_, Some(wake)) => {
                self.t = self.t.max(wake);
                if self.rng.u32(..4) == 0 {
                    let late = self.millis(3);
                    self.t += late;
                }
                self.tick()?;
                Ok(false)
            }
            _ => Err(Halt::Broken("lost wake-up: the engine sleeps for ever and is not done".into())),
        }
    }

    fn tick(&mut self) -> Done {
        let before = self.life.as_ref().map_or(0, |life| life.idle_ticks);
        self.feed(Input::Tick)?;
        let t = self.t;
        if let Some(life) = &mut self.life {
            life.idle_ticks = if life.wake_at == Some(t) { before + 1 } else { 0 };
            if life.idle_ticks > 3 {
                return Err(Halt::Broken("busy loop: the engine wants to be woken again and again".into()));
            }
        }
        Ok(())
    }

    /// Now and then looks in before the engine wants to be woken: nothing may be due.
    fn probe(&mut self, soonest: Option<Duration>) -> Done<bool> {
        let fresh = self.life.as_ref().is_some_and(|life| !life.stale);
        let Some(soonest) = soonest.filter(|at| *at > self.t + Duration::from_millis(2)) else { return Ok(false) };
        if !fresh || self.rng.u32(..12) != 0 {
            return Ok(false);
        }
        let gap = u64::try_from((soonest - self.t).as_micros()).unwrap();
        // The wall clock ticks in milliseconds: something may be due by it a little before the engine asked to be woken.
        self.t += Duration::from_micros(self.rng.u64(1..gap - 1000));
        let effects = self.ask(Input::Tick)?;
        if let Some(effect) = effects.first() {
            return Err(Halt::Broken(format!("lost wake-up: {effect:?} was due before the engine would have woken")));
        }
        Ok(true)
    }

    fn happen(&mut self, what: Happening) -> Done {
        match what {
            Happening::Boot => self.boot(),
            Happening::Deliver(life, input) if self.alive(life) => {
                let life = self.life.as_mut();
                match (&*input, life) {
                    (Input::Took(_, report), Some(life)) => {
                        use dispatcher::engine::TakeReport;
                        let counts = matches!(report, TakeReport::Accepted { .. } | TakeReport::Settled { .. });
                        life.taken -= usize::from(counts);
                    }
                    (Input::Committed(CommitReport::Done { ids, .. }), Some(life)) => life.made -= ids.len(),
                    _ => {}
                }
                self.feed(*input)
            }
            Happening::Take(life, name) if self.alive(life) => self.take(&name),
            Happening::Git(life, job) if self.alive(life) => self.git_step(job),
            Happening::Scan(life) if self.alive(life) => {
                self.at(self.t + Duration::from_secs(30), Happening::Scan(life));
                self.scan()
            }
            Happening::Attempt(number, step) => self.attempt_step(number, step),
            Happening::Do(action) => self.act(action),
            Happening::Heal => self.heal(),
            Happening::Deliver(..) | Happening::Take(..) | Happening::Git(..) | Happening::Scan(_) => Ok(()),
        }
    }

    pub fn alive(&self, life: u32) -> bool {
        self.life.is_some() && self.lives == life
    }

    fn boot(&mut self) -> Done {
        if self.life.is_some() {
            return Ok(());
        }
        let once = self.rng.u32(..if self.healed { 2 } else { 6 }) == 0;
        if self.healed && once {
            self.disk.pause = None;
        }
        let settings = Settings {
            workers: self.rng.usize(1..=4),
            drain_timeout: Duration::from_secs(self.rng.u64(1..60)),
            push_retries: self.rng.u32(1..=8),
            fetch_interval: Duration::from_secs(15),
            keep_recent: self.rng.usize(1..=12),
            once,
            seed: self.rng.u64(..),
        };
        self.lives += 1;
        self.note(|| format!("BOOT {settings:?}"));
        let pause = self.disk.pause.clone();
        let watch = Watch::new(settings.clone(), pause.is_some());
        let engine = (self.make)(settings, pause);
        let t = self.t;
        self.life = Some(Life {
            engine,
            watch,
            began: t,
            once,
            healed: self.healed,
            wake_at: None,
            stale: false,
            idle_ticks: 0,
            found: false,
            taken: 0,
            made: 0,
            takes_free: t,
            git_free: t,
        });
        if self.stormy && !self.healed && self.lives < 20 {
            self.crash_in = Some(self.rng.u32(20..200));
        } else if !self.healed && self.lives < 12 && self.rng.u32(..4) != 0 {
            let most = if self.rng.bool() { 20 } else { 600 };
            self.crash_in = Some(self.rng.u32(1..most));
        }
        for found in self.disk.restart(&self.asks) {
            self.feed(Input::Found(Box::new(found)))?;
        }
        if let Some(life) = &mut self.life {
            life.found = true;
        }
        self.at(self.t + Duration::from_secs(30), Happening::Scan(self.lives));
        if self.t < self.short {
            self.feed(Input::Disk { short: Some("below `min_free`".into()) })?;
        }
        if self.healed && self.disk.pause.is_some() {
            self.feed(Input::Resume { by: "ana".into() })?;
        }
        self.feed(Input::Tick)
    }

    /// The dispatcher is gone; only what was written stays.
    fn die(&mut self) {
        self.note(|| "CRASH".into());
        // A push that was under way may still arrive.
        let life = self.lives;
        let flying = self.pending.values().any(|what| matches!(what, Happening::Git(of, GitJob::Push) if *of == life));
        if flying && self.rng.bool() {
            let _ = self.git.push(self.t, true);
        }
        let archive =
            self.pending.values().any(|what| matches!(what, Happening::Git(of, GitJob::PushArchive) if *of == life));
        if archive && self.rng.bool() {
            let _ = self.git.push_archive(self.t, true);
        }
        self.end_life();
        let delay = self.millis(3_000);
        self.at(self.t + delay, Happening::Boot);
    }

    fn end_life(&mut self) {
        self.life = None;
        self.crash_in = None;
        self.orphan();
    }

    /// The dispatcher has ended; true where that was the last life.
    fn exited(&mut self, code: ExitCode) -> Result<bool, String> {
        self.note(|| format!("EXIT {code:?}"));
        let life = self.lives;
        if self.attempts.iter().any(|attempt| attempt.life == life && attempt.lives()) {
            return Err("I5: something runs after the exit".into());
        }
        let (once, healed) =
            self.life.as_ref().map_or((false, false), |life| (life.once && !life.watch.stopping, life.healed));
        if once && code == ExitCode::Done && self.git.remote.is_some() && !self.git.local.is_empty() {
            return Err("`once` exits 0 and something is not pushed".into());
        }
        if once && code == ExitCode::Done {
            let ripe = self.disk.inbox.iter().find(|(name, ask)| {
                let due = self.asks[**ask].not_before.is_none_or(|at| at <= self.wall());
                due && self.git.head.get(*name) == Some(ask)
            });
            if let Some((name, _)) = ripe {
                return Err(format!("`once` exits 0 and {name:?}, which it fetched, still lies in the inbox"));
            }
        }
        self.end_life();
        if healed && once && code != ExitCode::Done {
            return Err("`once` exits 75 and nothing is wrong".into());
        }
        let over = healed && (self.stopped.is_some() || once);
        if !over {
            self.stopped = None;
            let delay = self.millis(5_000);
            self.at(self.t + delay, Happening::Boot);
        }
        Ok(over)
    }

    pub fn set_wall(&mut self, by: i64) {
        self.skew += by;
        if let Some(life) = &mut self.life {
            life.stale = true;
        }
    }
}

pub fn broken<T>(text: String) -> Done<T> {
    Err(Halt::Broken(text))
}
