//! One seed: virtual time, the shell's part (performing effects, with a crash possible between any two steps), and what
//! survives. Feeds the engine and asks `check` after every step.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ffi::OsString;
use std::time::Duration;

use dispatcher::engine::{CommitReport, Effect, ExitCode, Input, Now, Settings};
use dispatcher::event::Event;
use dispatcher::request::RunId;
use dispatcher::time::Time;

use crate::adapter::Core;
use crate::check::Watch;
use crate::disk::{Ask, Disk};
use crate::git::{Change, Commit, Git};
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
}

/// One life of the dispatcher.
pub struct Life<C> {
    pub engine: C,
    pub watch: Watch,
    pub began: Duration,
    pub once: bool,
    pub healed: bool,
    wake_at: Option<Duration>,
    /// The wall clock was set since the engine last looked.
    stale: bool,
    idle_ticks: u32,
    /// The engine knows what earlier lives left behind.
    found: bool,
    /// Taken, and not yet reported to the engine.
    pub taken: usize,
    /// Recorded, and not yet reported to the engine.
    pub made: usize,
    takes_free: Duration,
    git_free: Duration,
}

/// Everything.
pub struct World<C> {
    pub rng: fastrand::Rng,
    pub t: Duration,
    /// Of the wall clock against virtual time, in milliseconds.
    pub skew: i64,
    heap: BinaryHeap<Reverse<(Duration, u64, usize)>>,
    pending: BTreeMap<usize, Happening>,
    next: usize,
    pub asks: Vec<Ask>,
    pub disk: Disk,
    pub git: Git,
    pub attempts: Vec<Attempt>,
    /// Until when strangers hold resources.
    pub strangers: BTreeMap<usize, Duration>,
    pub life: Option<Life<C>>,
    pub lives: u32,
    make: Box<dyn Fn(Settings, Option<String>) -> C>,
    pub crash_in: Option<u32>,
    pub healed: bool,
    pub short: Duration,
    pub takes_fail: Duration,
    /// When the final life was told to stop, by the wall clock.
    stopped: Option<Time>,
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
            trace: trace.then(Vec::new),
            steps: 0,
        };
        world.git.remote = (world.rng.u32(..8) > 0).then(Vec::new);
        world.at(Duration::ZERO, Happening::Boot);
        world.plan();
        world
    }

    pub fn wall(&self) -> Time {
        Time::from_millis(START + i64::try_from(self.t.as_millis()).unwrap() + self.skew)
    }

    fn now(&self) -> Now {
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
            if self.steps > 60_000 {
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
        if !self.healed && self.lives < 12 && self.rng.u32(..4) != 0 {
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

    /// Feeds the engine and performs what it wants.
    pub fn feed(&mut self, input: Input) -> Done {
        self.point()?;
        let effects = self.ask(input)?;
        for effect in effects {
            self.point()?;
            self.perform(effect)?;
        }
        self.balance()
    }

    /// Feeds the engine and judges what it wants.
    fn ask(&mut self, input: Input) -> Done<Vec<Effect>> {
        let now = self.now();
        if !matches!(input, Input::Tick) {
            self.note(|| format!("<- {input:?}"));
        }
        let Some(life) = &mut self.life else { return Ok(Vec::new()) };
        life.watch.before(now, &input);
        let effects = life.engine.handle(now, input);
        life.wake_at = life.engine.wake_in(now).map(|wait| self.t + wait);
        life.stale = false;
        life.idle_ticks = 0;
        let mut judged = life.watch.after(now, &effects);
        if judged.is_ok() && life.watch.exited.is_none() {
            judged = life.watch.counts(&life.engine.snapshot(now));
        }
        if self.trace.is_some() {
            for effect in &effects {
                self.note(|| format!("   -> {effect:?}"));
            }
            let wake = self.life.as_ref().and_then(|life| life.wake_at);
            self.note(|| format!("   (wakes at {wake:?})"));
        }
        judged.map_err(Halt::Broken)?;
        Ok(effects)
    }

    fn perform(&mut self, effect: Effect) -> Done {
        let life = self.lives;
        match effect {
            Effect::Take(name) => {
                let delay = self.millis(3);
                let at = self.lane(delay, |life| &mut life.takes_free);
                self.at(at, Happening::Take(life, name));
            }
            Effect::Commit(ids) => self.git_job(30, GitJob::Commit(ids)),
            Effect::Fetch => {
                let most = if self.rng.u32(..8) == 0 { 20_000 } else { 300 };
                self.git_job(most, GitJob::Fetch);
            }
            Effect::Push => {
                let most = if self.rng.u32(..8) == 0 { 20_000 } else { 300 };
                self.git_job(most, GitJob::Push);
            }
            Effect::Start { id, attempt, .. } => self.start(id, attempt),
            Effect::Terminate { id, how } => self.terminate(id, how),
            Effect::Mark { id, state, attempt } => {
                let folder = self.disk.folders.get_mut(&id).filter(|folder| folder.verdict.is_none());
                let Some(folder) = folder else { return broken(format!("I2: {id} marked after its end")) };
                (folder.state, folder.attempt) = (state, attempt);
            }
            Effect::Conclude { id, verdict } => self.conclude(id, *verdict)?,
            Effect::Announce { ids, .. } => {
                if let Some(id) = ids.iter().find(|id| !self.disk.folders.get(id).is_some_and(|f| f.recorded)) {
                    return broken(format!("announces {id}, which is not committed"));
                }
            }
            Effect::Scan => {
                self.scan()?;
            }
            Effect::Emit(Event::Retrying { run, attempt, why, .. }) => self.disk.journal.push((run.id, attempt, why)),
            Effect::Emit(_) => {}
            Effect::KeepPause(pause) => self.disk.pause = pause,
            Effect::Exit(code) => return Err(Halt::Exit(code)),
        }
        Ok(())
    }

    fn conclude(&mut self, id: RunId, verdict: dispatcher::engine::Verdict) -> Done {
        if self.attempts.iter().any(|attempt| attempt.id == id && attempt.lives() && attempt.life == self.lives) {
            return broken(format!("I5: {id} concluded while a process of it lives"));
        }
        let Some(folder) = self.disk.folders.get_mut(&id) else { return broken(format!("concludes {id}: no folder")) };
        if folder.verdict.is_some() {
            return broken(format!("I2: the final status of {id} is written twice"));
        }
        folder.state = verdict.state;
        folder.attempt = verdict.attempt;
        folder.verdict = Some(verdict);
        Ok(())
    }

    fn lane(&mut self, delay: Duration, free: impl FnOnce(&mut Life<C>) -> &mut Duration) -> Duration {
        let t = self.t;
        let Some(life) = &mut self.life else { return t };
        let free = free(life);
        *free = (*free).max(t) + delay;
        *free
    }

    fn git_job(&mut self, most: u64, job: GitJob) {
        let delay = self.millis(most);
        let at = self.lane(delay, |life| &mut life.git_free);
        self.at(at, Happening::Git(self.lives, job));
    }

    pub fn deliver(&mut self, input: Input) {
        self.at(self.t, Happening::Deliver(self.lives, Box::new(input)));
    }

    fn git_step(&mut self, job: GitJob) -> Done {
        self.point()?;
        match job {
            GitJob::Commit(ids) => {
                let report = self.commit(ids)?;
                self.point()?;
                if let (CommitReport::Done { ids, .. }, Some(life)) = (&report, &mut self.life) {
                    life.made += ids.len();
                }
                self.deliver(Input::Committed(report));
            }
            GitJob::Fetch => {
                let (report, added) = self.git.fetch(self.t);
                if let dispatcher::engine::FetchReport::Done { withdrawn, .. } = &report {
                    for gone in withdrawn {
                        if let Some(ask) = self.disk.inbox.remove(&gone.name) {
                            self.asks[ask].gone = true;
                        }
                    }
                }
                for (name, ask) in added {
                    self.arrive(name, ask);
                }
                self.point()?;
                self.deliver(Input::Fetched(report));
            }
            GitJob::Push => {
                let unclear = self.rng.u32(..10) == 0 && !self.healed;
                let report = self.git.push(self.t, unclear);
                self.point()?;
                self.deliver(Input::Pushed(report));
            }
        }
        Ok(())
    }

    fn commit(&mut self, ids: Vec<RunId>) -> Done<CommitReport> {
        if self.t < self.git.broken_commit {
            return Ok(CommitReport::Failed { ids, message: "no space left on device".into() });
        }
        for id in &ids {
            let Some(folder) = self.disk.folders.get_mut(id) else { return broken(format!("commits {id}: no folder")) };
            if folder.verdict.is_none() || folder.recorded {
                return broken(format!("I2: commits {id}: final {:?}, recorded {}", folder.verdict, folder.recorded));
            }
            folder.recorded = true;
            let name = &self.asks[folder.ask].name;
            if self.git.head.get(name) == Some(&folder.ask) {
                // A copy that came back and was not looked at yet goes with it: later it would be a new request.
                if self.disk.inbox.get(name) == Some(&folder.ask) {
                    self.disk.inbox.remove(name);
                }
                self.git.head.remove(name);
            }
        }
        let number = self.git.number();
        self.git.local.push(Commit { number, change: Change::Results(ids.clone()) });
        Ok(CommitReport::Done { ids, commit: number.to_string() })
    }

    /// A file lies in the inbox; most of the time somebody sees it at once.
    pub fn arrive(&mut self, name: OsString, ask: usize) {
        if let Some(old) = self.disk.inbox.insert(name.clone(), ask)
            && old != ask
        {
            self.asks[old].gone = true;
        }
        if self.life.is_some() && self.rng.u32(..5) > 0 {
            let delay = self.millis(250);
            self.at(self.t + delay, Happening::Deliver(self.lives, Box::new(Input::Arrived(name))));
        }
    }

    fn scan(&mut self) -> Done {
        let names: Vec<OsString> = self.disk.inbox.keys().cloned().collect();
        for name in names {
            self.deliver(Input::Arrived(name));
        }
        self.deliver(Input::Scanned);
        Ok(())
    }

    pub fn set_wall(&mut self, by: i64) {
        self.skew += by;
        if let Some(life) = &mut self.life {
            life.stale = true;
        }
    }

    /// I8: what lies in `processed/` is what the engine and the shell have in hand.
    fn balance(&self) -> Done {
        let Some(life) = &self.life else { return Ok(()) };
        let open = |stage: &crate::check::Stage| *stage != crate::check::Stage::Final;
        let runs = life.watch.runs.values().filter(|run| open(&run.stage)).count();
        let unrecorded = life.watch.unrecorded();
        let taken = self.disk.folders.values().filter(|folder| folder.taken).count();
        let recorded = self.disk.folders.values().filter(|folder| folder.recorded).count();
        let known = recorded + runs + unrecorded + life.taken - life.made;
        if life.found && taken != known {
            return broken(format!("I8: {taken} taken, {known} accounted for"));
        }
        Ok(())
    }

    /// Nothing is left to do but what waits for its time.
    fn quiet(&self) -> bool {
        let inbox = self.disk.inbox.values().all(|ask| {
            let ask = &self.asks[*ask];
            ask.valid && ask.not_before.is_some_and(|at| at > self.wall())
        });
        inbox
            && self.disk.folders.values().all(|folder| folder.recorded || !folder.taken)
            && (self.git.remote.is_none() || self.git.local.is_empty())
            && self.life.as_ref().is_some_and(|life| life.taken == 0 && life.made == 0)
    }

    /// I1, I2 and I3 over everything that ever was.
    fn finish(&mut self) -> Result<(), String> {
        let mut recorded = self.git.recorded();
        recorded.sort();
        let once = recorded.windows(2).all(|pair| pair[0] != pair[1]);
        if !once {
            return Err("I1: a run is recorded twice".into());
        }
        for (id, folder) in self.disk.folders.iter().filter(|(_, folder)| folder.taken) {
            if recorded.binary_search(id).is_err() {
                return Err(format!("I1: {id} is not recorded: {folder:?}"));
            }
        }
        for (number, ask) in self.asks.iter().enumerate() {
            let runs = self.disk.folders.values().filter(|folder| folder.taken && folder.ask == number).count();
            let waits = self.disk.inbox.get(&ask.name) == Some(&number);
            let dropped = self.git.head.get(&ask.name) == Some(&number) || waits || runs > 0 || ask.gone;
            if runs > 1 {
                return Err(format!("I1: {:?} (#{number}) was taken {runs} times", ask.name));
            }
            let until = self.stopped.unwrap_or(self.wall());
            if waits && !ask.not_before.is_some_and(|at| at > until) {
                return Err(format!("I1: {:?} (#{number}) still lies in the inbox", ask.name));
            }
            if !dropped && !self.unseen(number) {
                return Err(format!("I1: {:?} (#{number}) is lost", ask.name));
            }
        }
        Ok(())
    }

    /// It never reached this clone: withdrawn before it was fetched.
    fn unseen(&self, number: usize) -> bool {
        self.git.remote.iter().flatten().any(|c| matches!(&c.change, Change::Add(_, ask) if *ask == number))
    }
}

pub fn broken<T>(text: String) -> Done<T> {
    Err(Halt::Broken(text))
}
