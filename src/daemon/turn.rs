//! The loop: hears what happens, asks the engine what follows, and has it done.

use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, select};

use crate::config::Config;
use crate::control::Call;
use crate::daemon::answers::Facts;
use crate::daemon::clerk::Job;
use crate::daemon::open::{Options, Refused};
use crate::daemon::shell::{NoStart, Shell};
use crate::diagnostic::Diagnostic;
use crate::engine::{self, Engine, ExitCode, Found, Input, TakeReport};
use crate::executor::{self, Finished};
use crate::http;
use crate::inbox::Notice;
use crate::repo::Stopper;
use crate::signals::Signal;

/// The TERM that ends what the network is at: the first lets handlers finish, the second ends them.
const INSISTS: u32 = 3;
/// How often the disk is looked at.
const DISK: Duration = Duration::from_secs(5);

/// Everything that can wake the loop.
pub(super) struct Ears {
    pub(super) inputs: Receiver<Input>,
    pub(super) finished: Receiver<Finished>,
    pub(super) notices: Receiver<Notice>,
    pub(super) signals: Receiver<Signal>,
    pub(super) calls: Receiver<Call>,
    pub(super) site: Receiver<http::Call>,
}

pub(super) fn engine_settings(options: &Options) -> engine::Settings {
    engine::Settings {
        workers: options.config.workers,
        drain_timeout: options.config.drain_timeout,
        push_retries: options.config.push_retries,
        fetch_interval: options.config.fetch_interval,
        keep_recent: options.config.keep_recent,
        once: options.once,
        seed: fastrand::u64(..),
    }
}

/// Nobody speaks into a channel any more.
struct Deaf;

impl From<crossbeam_channel::RecvError> for Deaf {
    fn from(_: crossbeam_channel::RecvError) -> Self {
        Self
    }
}

fn dead(thread: &str) -> Refused {
    let message = format!("`{thread}` has ended on its own; what runs is ended, and nothing that was taken is lost");
    Refused::new(70, Diagnostic::new("E0711", message).help("start the dispatcher again, and report this"))
}

/// The loop's own.
pub(super) struct Daemon {
    pub(super) engine: Engine,
    pub(super) shell: Shell,
    pub(super) facts: Facts,
    pub(super) min_free: u64,
    pub(super) next_disk: Duration,
    /// Lines that could not be written so far.
    pub(super) lost: u64,
    pub(super) options: Options,
    /// The newest scan could not read the inbox.
    pub(super) unread: bool,
    /// How often it was told to end.
    pub(super) terms: u32,
    /// Let go when the loop has ended, or when somebody insists: what the courier is at then, nobody waits for.
    pub(super) network: Option<Stopper>,
}

impl Daemon {
    pub(super) fn work(
        &mut self,
        found: Vec<Found>,
        ears: &Ears,
        threads: &[JoinHandle<()>],
    ) -> Result<ExitCode, Refused> {
        let first = found.into_iter().map(|found| Input::Found(Box::new(found)));
        let disk = Input::Disk { short: self.short_of_disk() };
        for input in first.chain([disk]) {
            if let Some(code) = self.feed(input) {
                return Ok(code);
            }
        }
        loop {
            let now = self.shell.clock.now();
            if now.mono >= self.next_disk {
                self.next_disk = now.mono + DISK;
                // None of them ends before this loop does: one that did has said why, and nothing can go on without it.
                if let Some(ended) = threads.iter().find(|thread| thread.is_finished()) {
                    return Err(dead(ended.thread().name().unwrap_or("thread")));
                }
                let short = self.short_of_disk();
                if let Some(code) = self.feed(Input::Disk { short }) {
                    return Ok(code);
                }
            }
            let wait = self.engine.wake_in(self.shell.clock.now()).unwrap_or(DISK).min(DISK);
            let input = self.listen(ears, wait).map_err(|Deaf| dead("a thread"))?;
            if let Some(input) = input
                && let Some(code) = self.feed(input)
            {
                return Ok(code);
            }
        }
    }

    /// Waits for the next thing that happens.
    fn listen(&mut self, ears: &Ears, wait: Duration) -> Result<Option<Input>, Deaf> {
        Ok(select! {
            recv(ears.inputs) -> input => Some(input?),
            recv(ears.finished) -> finished => Some(self.finished(finished?)),
            recv(ears.notices) -> notice => match notice? {
                Notice::Candidate { name, .. } => {
                    self.shell.still.insert(name.clone());
                    Some(Input::Arrived(vec![name]))
                }
                Notice::Warn(problem) => {
                    self.shell.scribe.warn(&problem);
                    None
                }
                Notice::ScanDone { tokens, failed: false } => {
                    self.unread = false;
                    let (engine, clock) = (&self.engine, self.shell.clock);
                    self.shell.waiting.scanned(&tokens, || engine.snapshot(clock.now()));
                    (!tokens.is_empty()).then_some(Input::Scanned)
                }
                // Said again with the first scan that works; what works off an inbox once does not wait for that.
                Notice::ScanDone { tokens, failed: true } => {
                    self.unread = true;
                    (self.options.once && !tokens.is_empty()).then_some(Input::Scanned)
                }
            },
            recv(ears.signals) -> signal => match signal? {
                Signal::Terminate => {
                    self.terms += 1;
                    if self.terms == INSISTS {
                        self.network = None;
                    }
                    Some(Input::Stop { by: "signal".to_owned() })
                }
                Signal::Fetch => Some(Input::FetchNow),
                Signal::Reload => {
                    drop(self.shell.records.send(Job::Reload));
                    self.reread();
                    None
                }
            },
            recv(ears.calls) -> call => self.shell.answer(call?, &self.engine, &self.facts),
            recv(ears.site) -> call => match call? {
                http::Call::Pushed(Some(tip)) if self.engine.knows_tip(&tip) => None,
                http::Call::Pushed(_) => Some(Input::FetchNow),
                http::Call::Health(reply) => {
                    // A client that went away is not told.
                    let _ = reply.try_send(http::Health { holds: self.engine.holds() });
                    None
                }
                http::Call::Warn(problem) => {
                    self.shell.scribe.warn(&problem);
                    None
                }
            },
            default(wait) => Some(Input::Tick),
        })
    }

    /// Why `--once` ends with something left to do.
    pub(super) fn say_what_is_left(&self) {
        let now = self.engine.snapshot(self.shell.clock.now());
        let paused = now.paused.map(|who| format!("paused {who}; `dispatcher resume` ends it"));
        let troubles = now.degraded.into_iter().map(|(word, detail)| format!("{word}: {detail}"));
        for why in paused.into_iter().chain(troubles) {
            self.shell.scribe.note(&format!("not all is done: {why}"));
        }
    }

    /// Reads the configuration again: what can change while the daemon lives changes, the rest is named.
    fn reread(&mut self) {
        let Some(reread) = self.options.reread.clone() else { return };
        let config = match (reread.0)() {
            Ok(config) => config,
            Err(problems) => {
                problems.iter().for_each(|problem| self.shell.scribe.warn(problem));
                return self.shell.scribe.note("the configuration stays as it was");
            }
        };
        let old = std::mem::replace(&mut self.options.config, config);
        let new = &self.options.config;
        // What may change: all else has been handed to threads and other processes at the start.
        let live = Config {
            fetch_interval: new.fetch_interval,
            drain_timeout: new.drain_timeout,
            push_retries: new.push_retries,
            keep_recent: new.keep_recent,
            min_free: new.min_free,
            log_limit: new.log_limit,
            secrets: new.secrets.clone(),
            ..old
        };
        let note = if live == *new {
            "the configuration was read again"
        } else {
            "the configuration was read again; some of what changed takes effect at the next start"
        };
        self.shell.scribe.note(note);
        if !live.secrets.is_empty()
            && let Err(errno) = nix::sys::prctl::set_dumpable(false)
        {
            self.shell.scribe.note(&format!("the own memory stays open to others of this user: {}", errno.desc()));
        }
        (self.min_free, self.shell.log_limit) = (live.min_free, live.log_limit);
        self.shell.vault.configure(live.secrets.clone());
        self.shell.vault.read_all().iter().for_each(|problem| self.shell.scribe.warn(problem));
        self.options.config = live;
        self.engine.configure(engine_settings(&self.options));
    }

    fn finished(&mut self, finished: Finished) -> Input {
        let Finished { id, attempt, outcome } = finished;
        let ended = ended(&outcome);
        self.shell.attempt_ended(id, outcome);
        Input::Ended { id, attempt, ended }
    }

    /// Asks the engine and does what it says, and what follows from that.
    fn feed(&mut self, input: Input) -> Option<ExitCode> {
        let fetched = matches!(input, Input::Fetched(_));
        if let Input::Took(name, TakeReport::Accepted { .. } | TakeReport::Settled { .. } | TakeReport::Nothing) =
            &input
        {
            self.shell.still.remove(name);
        }
        let mut inputs = std::collections::VecDeque::from([input]);
        let mut code = None;
        while let Some(input) = inputs.pop_front() {
            for effect in self.engine.handle(self.shell.clock.now(), input) {
                match self.shell.perform(effect) {
                    Ok(exit) => code = code.or(exit),
                    Err((id, attempt, why)) => {
                        if let NoStart::Unsynced(what) = &why {
                            inputs.push_back(Input::Unsynced(what.clone()));
                        }
                        inputs.push_back(Input::Ended { id, attempt, ended: not_started(why) });
                    }
                }
            }
        }
        if fetched {
            let (engine, clock) = (&self.engine, self.shell.clock);
            self.shell.waiting.fetched(|| engine.snapshot(clock.now()));
        }
        code
    }

    fn short_of_disk(&mut self) -> Option<String> {
        let lost = self.shell.scribe.lost_lines();
        if lost > std::mem::replace(&mut self.lost, lost) {
            return Some(format!(
                "{lost} lines of the event streams and logs could not be written; no new work begins"
            ));
        }
        let free = |path: &PathBuf| {
            let stat = nix::sys::statvfs::statvfs(path).ok()?;
            Some(stat.blocks_available().saturating_mul(stat.fragment_size()))
        };
        let places = [&self.facts.root, &self.shell.state];
        let short = places.into_iter().find_map(|path| Some((path, free(path).filter(|&free| free < self.min_free)?)));
        short.map(|(path, free)| {
            let wanted = crate::quantity::show_size(self.min_free);
            format!(
                "`{}` has {} MiB free, less than `min_free` {wanted}; no new work begins",
                path.display(),
                free >> 20
            )
        })
    }

    /// Ends the threads in the order in which they depend on each other.
    pub(super) fn end(self, threads: [JoinHandle<()>; 3]) {
        let Self { shell, .. } = self;
        let Shell { executor, inbox, records, takes, errands, .. } = shell;
        drop((records, takes, errands, inbox));
        executor.join();
        let [clerk, courier, _keeper] = threads;
        for thread in [clerk, courier] {
            // A thread that panicked has said so itself.
            let _ = thread.join();
        }
    }
}

fn not_started(why: NoStart) -> engine::Ended {
    match why {
        NoStart::Problem(problem) => engine::Ended::NotStarted(Box::new(problem)),
        NoStart::Trouble(what) | NoStart::Unsynced(what) => engine::Ended::Trouble(what),
    }
}

/// The executor's words in the engine's.
fn ended(outcome: &executor::Outcome) -> engine::Ended {
    let terminated = outcome.terminated;
    let problem = outcome.problem.clone().map(Box::new);
    match (outcome.ended, problem) {
        (executor::Ended::LockBusy, _) => engine::Ended::LockBusy,
        (executor::Ended::Exited(code), problem) => engine::Ended::Exited { code, terminated, problem },
        (executor::Ended::Signaled(signal), _) => engine::Ended::Signalled { signal, terminated },
        (executor::Ended::TimedOut, _) => engine::Ended::TimedOut,
        (executor::Ended::OutOfMemory, _) => engine::Ended::OutOfMemory,
        (executor::Ended::TooManyProcesses, Some(problem)) => engine::Ended::TooManyProcesses(problem),
        (executor::Ended::TooManyProcesses, None) => engine::Ended::Signalled { signal: 9, terminated },
        (executor::Ended::Lost, _) => engine::Ended::Lost,
        // Only that the handler itself cannot be executed is the request's matter; everything else is ours.
        (executor::Ended::NotStarted, Some(problem)) if problem.code == "E0601" && !terminated => {
            engine::Ended::NotStarted(problem)
        }
        (executor::Ended::NotStarted, problem) => {
            engine::Ended::Trouble(problem.map_or_else(|| "the attempt could not begin".to_owned(), |p| p.message))
        }
    }
}
