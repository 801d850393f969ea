//! The daemon from its start to its end: channels, threads, and who is given what.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, never};

use crate::config::{Config, read_secrets};
use crate::control::Server;
use crate::daemon::answers::Facts;
use crate::daemon::book::Book;
use crate::daemon::clerk::{Clerk, JOBS};
use crate::daemon::courier::{Courier, ERRANDS};
use crate::daemon::keeper;
use crate::daemon::library::{Library, LibraryError, Source};
use crate::daemon::open::{Ground, Options, Refused, open_repo, shelf};
use crate::daemon::shell::{PAUSE, Shell};
use crate::daemon::sink::Recorder;
use crate::daemon::turn::{Daemon, Ears, engine_settings};
use crate::daemon::walls;
use crate::diagnostic::Diagnostic;
use crate::engine::{Engine, ExitCode};
use crate::event::Event;
use crate::executor::{self, Executor};
use crate::http;
use crate::inbox::{self, Inbox};
use crate::launcher;
use crate::repo::Repo;
use crate::runs::Runs;
use crate::signals::Listener;

/// Inputs that wait for the engine: the clerk and the courier have few at a time, see [`JOBS`].
const INPUTS: usize = 512;
/// Notices of the inbox that wait: a scan waits for room, so a full inbox slows the scan and nothing else.
const NOTICES: usize = 1_024;
/// Calls that wait: as many as there can be connections.
const CALLS: usize = 16;
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
