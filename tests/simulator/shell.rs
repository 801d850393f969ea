//! The shell's part: feeds the engine, asks `check` after every step, and performs effects, with a crash possible between
//! any two and in the middle of those that take time.

use std::ffi::OsString;
use std::time::Duration;

use dispatcher::engine::{CommitReport, Effect, FetchReport, Input, Verdict};
use dispatcher::event::Event;
use dispatcher::request::RunId;

use crate::adapter::Core;
use crate::git::{Change, Commit};
use crate::world::{Done, GitJob, Halt, Happening, Life, World, broken};

impl<C: Core> World<C> {
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
    pub fn ask(&mut self, input: Input) -> Done<Vec<Effect>> {
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
        if !self.blind {
            judged.map_err(Halt::Broken)?;
        }
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
            Effect::Archive { keep, least, most } => self.git_job(100, GitJob::Archive { keep, least, most }),
            Effect::PushArchive => self.git_job(300, GitJob::PushArchive),
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

    fn conclude(&mut self, id: RunId, verdict: Verdict) -> Done {
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

    pub fn git_step(&mut self, job: GitJob) -> Done {
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
                if let FetchReport::Done { withdrawn, .. } = &report {
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
                let lacks = self.git.look_at_archive(self.t);
                self.deliver(Input::ArchiveLooked { lacks });
                self.deliver(Input::Fetched(report));
            }
            GitJob::Archive { keep, least, most } => {
                let report = self.git.retire(keep, least, most);
                if let Some(id) = self.git.lost() {
                    return broken(format!("I1: {id} left the branch and is not in the archive"));
                }
                self.point()?;
                self.deliver(Input::Archived(report));
            }
            GitJob::PushArchive => {
                self.git.archive_moved |= self.rng.u32(..10) == 0 && !self.healed;
                let unclear = self.rng.u32(..10) == 0 && !self.healed;
                let report = self.git.push_archive(self.t, unclear);
                self.point()?;
                self.deliver(Input::ArchivePushed(report));
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
            self.at(self.t + delay, Happening::Deliver(self.lives, Box::new(Input::Arrived(vec![name]))));
        }
    }

    pub fn scan(&mut self) -> Done {
        let names: Vec<OsString> = self.disk.inbox.keys().cloned().collect();
        for name in names {
            self.deliver(Input::Arrived(vec![name]));
        }
        self.deliver(Input::Scanned);
        Ok(())
    }
}
