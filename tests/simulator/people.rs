//! What people, other programs and the weather do: a plan drawn from the seed.

use std::ffi::OsString;
use std::time::Duration;

use dispatcher::engine::Input;
use dispatcher::request::RunId;
use dispatcher::router::{Retry, RetryOn};

use crate::adapter::Core;
use crate::disk::Ask;
use crate::git::Change;
use crate::world::{Done, Happening, World};

#[derive(Clone, Copy, Debug)]
pub enum Action {
    Drop,
    DropMany,
    Request,
    Withdraw,
    Other,
    Copy,
    Cancel,
    CancelTwice,
    Pause,
    Resume,
    Drain,
    Stop,
    StopTwice,
    FetchNow,
    SetClock,
    Stranger,
    Unreachable,
    Refuse,
    Diverge,
    Block,
    BreakCommit,
    Second,
    Disk,
    TakesFail,
    /// The disk has room again.
    Room,
}

use Action as A;
/// Drawn evenly; what is listed twice comes twice as often.
const MENU: [Action; 34] = [
    A::Drop,
    A::Drop,
    A::Drop,
    A::DropMany,
    A::DropMany,
    A::Request,
    A::Request,
    A::Request,
    A::Withdraw,
    A::Other,
    A::Other,
    A::Copy,
    A::Copy,
    A::Cancel,
    A::Cancel,
    A::CancelTwice,
    A::Pause,
    A::Resume,
    A::Resume,
    A::Drain,
    A::Stop,
    A::StopTwice,
    A::FetchNow,
    A::SetClock,
    A::Stranger,
    A::Stranger,
    A::Unreachable,
    A::Refuse,
    A::Diverge,
    A::Block,
    A::BreakCommit,
    A::Second,
    A::Disk,
    A::TakesFail,
];

impl<C: Core> World<C> {
    pub fn plan(&mut self) {
        let length = self.rng.u64(20..150);
        for _ in 0..self.rng.u32(8..36) {
            let action = MENU[self.rng.usize(..MENU.len())];
            let at = self.millis(length * 1000);
            self.at(at, Happening::Do(action));
        }
        self.at(Duration::from_secs(length), Happening::Heal);
    }

    pub fn act(&mut self, action: Action) -> Done {
        self.note(|| format!("** {action:?}"));
        let by = || "ana".to_owned();
        match action {
            A::Drop => self.drop_file(),
            A::DropMany => (0..self.rng.u32(2..7)).for_each(|_| self.drop_file()),
            A::Request | A::Withdraw | A::Other => self.others(action),
            A::Copy => self.copy_back(),
            A::Cancel | A::CancelTwice => return self.cancel(matches!(action, A::CancelTwice)),
            A::Pause => return self.tell(Input::Pause { by: by(), reason: None }),
            A::Resume => return self.tell(Input::Resume { by: by() }),
            A::Drain => return self.tell(Input::Drain { by: by() }),
            A::Stop => return self.tell(Input::Stop { by: by() }),
            A::StopTwice => {
                self.tell(Input::Stop { by: by() })?;
                return self.tell(Input::Stop { by: by() });
            }
            A::FetchNow => return self.tell(Input::FetchNow),
            A::SetClock => {
                let by = [3_600_000, -3_600_000, 315_360_000_000][self.rng.usize(..3)];
                self.set_wall(by);
            }
            A::Room => {
                if self.t >= self.short {
                    return self.tell(Input::Disk { short: None });
                }
            }
            A::Disk => {
                self.short = self.t + self.millis(20_000);
                self.at(self.short, Happening::Do(A::Room));
                return self.tell(Input::Disk { short: Some("below `min_free`".into()) });
            }
            _ => self.weather(action),
        }
        Ok(())
    }

    fn weather(&mut self, action: Action) {
        let until = self.t + self.millis(40_000);
        match action {
            A::Stranger => {
                let resource = self.rng.usize(..3);
                self.strangers.insert(resource, until);
            }
            A::Unreachable => self.git.unreachable = until,
            A::Refuse => self.git.refusing = until + self.millis(200_000),
            A::Diverge => self.git.diverged = until,
            A::Block => self.git.blocked = until,
            A::BreakCommit => self.git.broken_commit = until,
            A::Second => self.git.second = true,
            A::TakesFail => self.takes_fail = until,
            _ => {}
        }
    }

    fn others(&mut self, action: Action) {
        if self.git.remote.is_none() {
            return;
        }
        match action {
            A::Request => {
                let name = format!("g{}.yml", self.asks.len());
                let number = self.write(name.into());
                let name = self.asks[number].name.clone();
                self.git.other(Change::Add(name, number));
            }
            A::Withdraw => {
                let open = self.git.open();
                if !open.is_empty() {
                    let name = open[self.rng.usize(..open.len())].clone();
                    self.git.other(Change::Remove(name));
                }
            }
            _ => self.git.other(Change::Other),
        }
    }

    fn tell(&mut self, input: Input) -> Done {
        if self.life.is_some() { self.feed(input) } else { Ok(()) }
    }

    fn cancel(&mut self, twice: bool) -> Done {
        let ids: Vec<RunId> = self.disk.folders.keys().copied().collect();
        if ids.is_empty() {
            return Ok(());
        }
        let id = ids[self.rng.usize(..ids.len())];
        for _ in 0..=u32::from(twice) {
            self.tell(Input::Cancel { id, by: "ana".into(), reason: None })?;
        }
        Ok(())
    }

    /// A file that was taken comes back, as after `git stash -u`.
    fn copy_back(&mut self) {
        let held =
            self.disk.folders.values().filter(|folder| folder.taken && !folder.recorded).map(|folder| folder.ask);
        let held: Vec<usize> = held.filter(|ask| self.git.head.get(&self.asks[*ask].name) == Some(ask)).collect();
        if held.is_empty() {
            return;
        }
        let number = held[self.rng.usize(..held.len())];
        let name = self.asks[number].name.clone();
        if !self.disk.inbox.contains_key(&name) {
            self.arrive(name, number);
        }
    }

    fn drop_file(&mut self) {
        let name = format!("l{}.yml", self.rng.u32(..40));
        let number = self.write(name.into());
        let name = self.asks[number].name.clone();
        self.arrive(name, number);
    }

    /// Somebody writes a request.
    fn write(&mut self, name: OsString) -> usize {
        let wall = self.wall();
        let one_in = |rng: &mut fastrand::Rng, n: u32| rng.u32(..n) == 0;
        let rng = &mut self.rng;
        let seconds = |rng: &mut fastrand::Rng, most: u64| Duration::from_secs(rng.u64(0..most));
        let keyed = one_in(rng, 5).then(|| rng.u64(..4));
        let id = keyed.map(|n| RunId::new(dispatcher::time::Time::from_millis(1), [u8::try_from(n).unwrap(); 10]));
        let bytes = match keyed {
            Some(n) => n * 2 + u64::from(rng.bool()),
            None => rng.u64(..),
        };
        let all = [RetryOn::Code(75), RetryOn::TimedOut, RetryOn::Code(1), RetryOn::Failed];
        let ask = Ask {
            name,
            bytes,
            valid: !one_in(rng, 8),
            id,
            resource: rng.usize(..3),
            priority: if one_in(rng, 3) { rng.i8(-100..=100) } else { 0 },
            not_before: one_in(rng, 6).then(|| wall.plus(seconds(rng, 100))),
            expires_at: one_in(rng, 6).then(|| wall.plus(seconds(rng, 60))),
            max_queue_age: one_in(rng, 6).then(|| Duration::from_secs(1) + seconds(rng, 40)),
            retry: Retry {
                attempts: rng.u32(1..5),
                backoff: Duration::from_millis(rng.u64(1..4000)),
                on: all.into_iter().filter(|_| rng.bool()).collect(),
            },
            rerun: rng.u32(..3) > 0,
            gone: false,
        };
        self.asks.push(ask);
        self.asks.len() - 1
    }

    /// The weather clears and people mend what they broke. The clock may stay wrong.
    pub fn heal(&mut self) -> Done {
        self.note(|| "HEALED".into());
        self.healed = true;
        self.crash_in = None;
        let t = self.t;
        let git = &mut self.git;
        for until in
            [&mut git.unreachable, &mut git.refusing, &mut git.diverged, &mut git.blocked, &mut git.broken_commit]
        {
            *until = t;
        }
        git.second = false;
        (self.short, self.takes_fail) = (t, t);
        self.strangers.clear();
        if self.rng.bool() {
            self.set_wall(-self.skew);
        }
        self.tell(Input::Disk { short: None })?;
        self.tell(Input::Resume { by: "ana".into() })?;
        // A scan after the healing finds what nobody has announced.
        self.tell(Input::FetchNow)
    }
}
