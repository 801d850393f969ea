//! The daemon: channels, threads, and the one loop that asks the engine what follows.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, never, select};

use crate::config::{Config, read_secrets};
use crate::control::{Call, Server};
use crate::daemon::answers::Facts;
use crate::daemon::book::Book;
use crate::daemon::clerk::{Clerk, JOBS, Job};
use crate::daemon::courier::{Courier, ERRANDS};
use crate::daemon::keeper;
use crate::daemon::library::{Library, LibraryError, Source};
use crate::daemon::open::{Ground, Options, Refused, open_repo, shelf};
use crate::daemon::shell::{NoStart, PAUSE, Shell};
use crate::daemon::sink::Recorder;
use crate::daemon::walls;
use crate::diagnostic::Diagnostic;
use crate::engine::{self, Engine, ExitCode, Found, Input, TakeReport};
use crate::event::Event;
use crate::executor::{self, Executor, Finished};
use crate::http;
use crate::inbox::{self, Inbox, Notice};
use crate::launcher;
use crate::repo::{Repo, Stopper};
use crate::runs::Runs;
use crate::signals::{Listener, Signal};

/// Inputs that wait for the engine: the clerk and the courier have few at a time, see [`JOBS`].
const INPUTS: usize = 512;
/// Notices of the inbox that wait: a scan waits for room, so a full inbox slows the scan and nothing else.
const NOTICES: usize = 1_024;
/// Calls that wait: as many as there can be connections.
const CALLS: usize = 16;
/// The TERM that ends what the network is at: the first lets handlers finish, the second ends them.
const INSISTS: u32 = 3;
/// How often the disk is looked at.
const DISK: Duration = Duration::from_secs(5);

/// Everything that can wake the loop.
struct Ears {
    inputs: Receiver<Input>,
    finished: Receiver<Finished>,
    notices: Receiver<Notice>,
    signals: Receiver<Signal>,
    calls: Receiver<Call>,
    site: Receiver<http::Call>,
}

/// Runs the daemon to its end.
///
/// # Errors
/// Why it could not start.
pub fn run(options: &Options) -> Result<ExitCode, Refused> {
    let ground = Ground::prepare(options)?;
    let config = &options.config;
    let (to_engine, inputs) = bounded(INPUTS);
    // One each in the workers' hands and one on its way.
    let (to_finished, finished) = bounded(config.workers * 2);
    let (to_notices, notices) = bounded(NOTICES);
    let (to_signals, signals) = bounded(8);
    let (to_calls, calls) = bounded(CALLS);
    let (http, site) = listen(options)?.map_or_else(|| (None, never()), |(server, site)| (Some(server), site));
    let ears = Ears { inputs, finished, notices, signals, calls, site };
    let _signals = Listener::start(to_signals).map_err(|error| Refused::io("catch signals", &error))?;

    let Ground { repo, places, instance, scribe, vault, memory, clock, host, source } = ground;
    let root = repo.root().to_owned();
    let state = places.state.path.clone();
    let runs = Runs::new(&root, state.join("aside"), &host);
    let book = Book::default();
    // Before the files themselves: what changes in between is read again.
    let signature = source.signature(&repo).map_err(|error| Refused { exit: 78, problems: error.problems() })?;
    let library = first_library(&source, &repo)?;
    let kinds = library.table.entries().count();
    let loaded = Event::RouterLoaded { kinds, commit: library.commit.clone() };
    let shelf = shelf(library);
    let sink = Arc::new(Recorder {
        book: book.clone(),
        runs: runs.clone(),
        scribe: Arc::clone(&scribe),
        vault: Arc::clone(&vault),
        clock,
        root: root.clone(),
        log_limit: config.log_limit,
        to_engine: to_engine.clone(),
        user: OnceLock::new(),
        walls: OnceLock::new(),
    });
    let hidden = walls::hidden(&repo, config, &places, memory.as_ref().ok());
    let setup = executor_setup(config, &state, &places.lock.path, memory, hidden);
    let executor = Executor::start(config.workers, setup, Arc::<Recorder>::clone(&sink), to_finished)
        .map_err(|error| Refused::new(78, Diagnostic::new("E0603", error.to_string())))?;
    let (user, walls) = (executor.user().clone(), executor.launcher().walls());
    let _ = (sink.user.set(user.name.clone()), sink.walls.set(walls));
    walls::warnings(walls, config, &user).iter().for_each(|warning| scribe.warn(warning));

    let (keeper, tidyings) = bounded(1);
    let mut clerk = Clerk {
        repo,
        runs: runs.clone(),
        book: book.clone(),
        scribe: Arc::clone(&scribe),
        vault: Arc::clone(&vault),
        walls,
        user,
        aside: state.join("withheld"),
        clock,
        host: host.clone(),
        root: root.clone(),
        shelf: Arc::clone(&shelf),
        source,
        signature,
        to_engine: to_engine.clone(),
        log_limit: config.log_limit,
        unsynced: std::cell::Cell::new(None),
        keeper,
        index_lags: true,
        index_said: false,
        named: std::collections::BTreeMap::new(),
        scheduled: std::collections::BTreeMap::new(),
    };
    scribe.emit(Event::Started {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        host: host.clone(),
        workers: config.workers,
    });
    scribe.emit(loaded);
    let found = clerk.recover().map_err(|error| Refused::io("find what an earlier life left", &error))?;
    let (records, record_jobs) = bounded(JOBS);
    let (takes, take_jobs) = bounded(JOBS);
    let (errands, errand_jobs) = bounded(ERRANDS);
    let mut courier_repo = open_repo(&root, config)?;
    let stopper = courier_repo.stopper().map_err(|error| Refused::io("make a socket", &error))?;
    let courier = Courier {
        repo: courier_repo,
        scribe: Arc::clone(&scribe),
        to_clerk: records.clone(),
        to_engine: to_engine.clone(),
    };
    let (keeper_repo, keeper_to_clerk, keeper_scribe) =
        (open_repo(&root, config)?, records.clone(), Arc::clone(&scribe));
    let threads = [
        thread("clerk", move || clerk.work(&record_jobs, &take_jobs))?,
        thread("courier", move || courier.work(&errand_jobs))?,
        thread("keeper", move || keeper::work(keeper_repo, &tidyings, &keeper_to_clerk, &to_engine, &keeper_scribe))?,
    ];
    let settings =
        inbox::Settings { watch: options.watch, ..inbox::Settings::new(root.join("requests"), config.scan_interval) };
    let inbox = Inbox::start(settings, to_notices).map_err(|error| Refused::io("watch the inbox", &error))?;
    let server = Server::bind(&places.socket(), None, to_calls, scribe.viewers())
        .map_err(|error| Refused::io("listen", &error))?;

    let listens = http.as_ref().map(http::Server::address);
    if let Some(address) = listens {
        scribe.note(&format!("listens on http://{address}"));
    }
    let user = executor.user().name.clone();
    let facts = Facts { root: root.clone(), since: clock.wall(), host, user, listens };
    let shell = Shell {
        root,
        state: state.clone(),
        log_limit: config.log_limit,
        clock,
        book,
        runs,
        scribe,
        vault,
        shelf,
        executor,
        inbox,
        records,
        takes,
        errands,
        waiting: super::answers::Waiting::default(),
        ignored: bounded(1).0,
        in_use: std::collections::BTreeMap::new(),
        still: std::collections::BTreeSet::new(),
    };
    let pause = std::fs::read_to_string(state.join(PAUSE)).ok().map(|text| text.trim_end().to_owned());
    let engine = Engine::new(engine_settings(options), pause);
    let mut daemon = Daemon {
        engine,
        shell,
        facts,
        min_free: config.min_free,
        next_disk: Duration::ZERO,
        lost: 0,
        options: options.clone(),
        unread: false,
        terms: 0,
        network: Some(stopper),
    };
    let ended = match daemon.work(found, &ears, &threads) {
        Ok(ExitCode::Done) if options.once && daemon.unread => Ok(ExitCode::TryLater),
        ended => ended,
    };
    if matches!(ended, Ok(ExitCode::TryLater)) {
        daemon.say_what_is_left();
    }
    drop((server, http, daemon.network.take()));
    let how = match (&ended, options.once) {
        (Err(_), _) => "it broke",
        (Ok(_), true) => "done (--once)",
        (Ok(_), false) => "stopped",
    };
    if let Err(error) = instance.seen(clock.wall(), Some(how)) {
        daemon.shell.scribe.warn(&error.diagnostic(&daemon.facts.root));
    }
    let code = ended?;
    daemon.end(threads);
    Ok(code)
}

/// Handlers and schemas to begin with. Where they are broken the remote may have mended them already: what was pushed
/// must be able to repair what was pushed.
fn first_library(source: &Source, repo: &Repo) -> Result<Arc<Library>, Refused> {
    let refused = |error: LibraryError| Refused { exit: 78, problems: error.problems() };
    match source.load(repo) {
        Err(LibraryError::Broken(problems)) => {
            let followed = repo.fetch().is_ok() && repo.integrate(&[]).is_ok();
            if followed { source.load(repo).map_err(refused) } else { Err(Refused { exit: 78, problems }) }
        }
        loaded => loaded.map_err(refused),
    }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Refused> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(work).map_err(|error| Refused::io("start a thread", &error))
}

/// Health, readiness and the push hook, where they are to be served. What works off an inbox once is not asked.
fn listen(options: &Options) -> Result<Option<(http::Server, Receiver<http::Call>)>, Refused> {
    let Some(address) = options.config.listen.filter(|_| !options.once) else { return Ok(None) };
    let secret_file = options.config.webhook_secret_file.clone();
    if let Some(Err(problem)) = secret_file.as_deref().map(read_secrets) {
        return Err(Refused::new(78, problem));
    }
    let (to_site, site) = bounded(CALLS);
    let branch = options.config.branch.clone();
    let server = http::Server::bind(address, http::Site::new(to_site, branch, secret_file)).map_err(|error| {
        let problem = Diagnostic::new("E0720", error.to_string());
        Refused::new(74, problem.help(format!("ss -ltnp 'sport = :{}'     shows who listens there", address.port())))
    })?;
    Ok(Some((server, site)))
}

fn executor_setup(
    config: &Config,
    state: &std::path::Path,
    locks: &std::path::Path,
    memory: Result<PathBuf, String>,
    hidden: Vec<PathBuf>,
) -> executor::Setup {
    executor::Setup {
        launcher: launcher::Setup {
            exe: None,
            user: config.sandbox.user.clone(),
            allow_root: config.sandbox.allow_root,
            lock_dir: locks.to_owned(),
            landlock: walls::insist(config.sandbox.landlock),
            seccomp: walls::insist(config.sandbox.seccomp),
            hidden,
        },
        work: state.join("work"),
        memory,
    }
}

fn engine_settings(options: &Options) -> engine::Settings {
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
struct Daemon {
    engine: Engine,
    shell: Shell,
    facts: Facts,
    min_free: u64,
    next_disk: Duration,
    /// Lines that could not be written so far.
    lost: u64,
    options: Options,
    /// The newest scan could not read the inbox.
    unread: bool,
    /// How often it was told to end.
    terms: u32,
    /// Let go when the loop has ended, or when somebody insists: what the courier is at then, nobody waits for.
    network: Option<Stopper>,
}

impl Daemon {
    fn work(&mut self, found: Vec<Found>, ears: &Ears, threads: &[JoinHandle<()>]) -> Result<ExitCode, Refused> {
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
    fn say_what_is_left(&self) {
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
    fn end(self, threads: [JoinHandle<()>; 3]) {
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
