//! Where the news of a running attempt goes: its status, its log, the event streams. Runs on the worker's thread, so a
//! handler's output never crosses the engine's channels.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use crossbeam_channel::Sender;

use crate::console::{self, Header};
use crate::daemon::book::{Book, Page};
use crate::daemon::clock::Clock;
use crate::daemon::scribe::Scribe;
use crate::daemon::walls::not_held;
use crate::engine::Input;
use crate::event::Event;
use crate::executor::Sink;
use crate::journal::RunLog;
use crate::launcher::Walls;
use crate::request::RunId;
use crate::router::{Network, OnCrash};
use crate::runs::Runs;
use crate::status::State;
use crate::vault::Vault;

/// Writes what a running attempt says.
pub struct Recorder {
    /// The runs' pages.
    pub book: Book,
    /// The runs' folders.
    pub runs: Runs,
    /// The event streams.
    pub scribe: Arc<Scribe>,
    /// What is masked.
    pub vault: Arc<Vault>,
    /// For the status.
    pub clock: Clock,
    /// Of the repository.
    pub root: PathBuf,
    /// Bytes of one run's log.
    pub log_limit: u64,
    /// For a sync that failed.
    pub to_engine: Sender<Input>,
    /// Who handlers run as.
    pub user: OnceLock<String>,
    /// What they are held by.
    pub walls: OnceLock<Walls>,
}

/// Opens a run's log where it is not open; what it is told is masked.
///
/// # Errors
/// What the file system says, with the path.
pub fn open_log(page: &mut Page, root: &Path, limit: u64, vault: &Vault) -> Result<(), String> {
    if page.log.is_none() {
        let path = root.join("logs").join(format!("{}.log", page.status.id));
        let log = RunLog::open(&path, limit);
        let mut log = log.map_err(|error| format!("failed to open `{}`: {error}", path.display()))?;
        log.set_mask(vault.mask());
        page.log = Some(log);
    }
    Ok(())
}

impl Recorder {
    /// What every attempt's part of the log begins with. Only now: an attempt that finds its lock held leaves no trace.
    fn write_header(&self, page: &mut Page) {
        let status = &page.status;
        let (Some(routed), Some(handler), Some(kind)) = (&page.routed, &status.handler, &status.kind) else { return };
        let walls = self.walls.get().copied().unwrap_or_default();
        let (route, resource) = (&routed.route, status.resource.as_ref().unwrap_or(&routed.resource));
        let text = console::header(
            &Header {
                id: status.id,
                kind,
                resource,
                request: &status.request,
                requested_by: &status.requested_by,
                reason: status.reason.as_deref(),
                handler,
                user: self.user.get().map_or("?", String::as_str),
                attempt: status.attempt,
                attempts: route.retry.attempts.max(status.attempt),
                timeout: routed.timeout,
                memory: route.memory,
                pids: u64::from(route.pids),
                cpus: None,
                network: if route.network == Network::None && walls.no_network() { "none" } else { "host" },
                dry_run: page.request.as_ref().is_some_and(|request| request.dry_run),
            },
            true,
        );
        let lacking = not_held(route, walls);
        let wall = self.clock.wall();
        if let Some(log) = page.log.as_mut() {
            log.line(wall, &text);
            if !lacking.is_empty() {
                log.line(wall, &format!("not held here: {}", lacking.join(", ")));
            }
        }
    }
}

impl Sink for Recorder {
    fn starting(&self, id: RunId, attempt: u32) -> Result<(), String> {
        let wall = self.clock.wall();
        let write = |page: &mut Page| {
            page.status.status = State::Running;
            page.status.attempt = attempt;
            page.status.started_at = Some(wall);
            // Once this is durable, the handler counts as started for ever.
            open_log(page, &self.root, self.log_limit, &self.vault)?;
            if let Some(log) = page.log.as_mut() {
                // It may have been opened before this attempt's secrets were read.
                log.set_mask(self.vault.mask());
            }
            self.write_header(page);
            let once = page.routed.as_ref().is_some_and(|routed| routed.route.on_crash == OnCrash::Fail);
            let durable = once || page.found;
            let begun = if durable { self.runs.begin_once(&page.status) } else { self.runs.write_status(&page.status) };
            begun.map_err(|error| {
                if error.is_unsynced() {
                    // Where nobody takes it the daemon is about to end.
                    let _ = self.to_engine.try_send(Input::Unsynced(error.to_string()));
                }
                error.to_string()
            })
        };
        self.book.with(id, write).unwrap_or_else(|| Err("the run is not known any more".to_owned()))
    }

    fn started(&self, id: RunId, user: &str) {
        let events = self.book.with(id, |page| {
            let acquired = Event::LockAcquired { run: page.run_ref(), waited_ms: page.waited_ms };
            let handler = page.status.handler.as_ref();
            let timeout = page.routed.as_ref().map_or(0, |routed| routed.timeout.as_millis());
            let started = Event::RunStarted {
                run: page.run_ref(),
                attempt: page.status.attempt,
                handler: handler.map_or_else(String::new, |handler| handler.file.clone()),
                dirty: handler.is_some_and(|handler| handler.dirty),
                user: user.to_owned(),
                timeout_ms: u64::try_from(timeout).unwrap_or(u64::MAX),
            };
            [acquired, started]
        });
        events.into_iter().flatten().for_each(|event| self.scribe.emit(event));
    }

    fn output(&self, id: RunId, bytes: &[u8]) {
        let event = self.book.with(id, |page| {
            let log = page.log.as_mut()?;
            let before = log.offset();
            log.output(bytes);
            let told = page.meter.add(log.offset() - before, Instant::now())?;
            Some(Event::Output { run: page.run_ref(), bytes: told })
        });
        if let Some(event) = event.flatten() {
            self.scribe.emit(event);
        }
    }

    fn progress(&self, id: RunId, step: &str, done: Option<u64>, total: Option<u64>) {
        if let Some(run) = self.book.with(id, |page| page.run_ref()) {
            self.scribe.emit(Event::Progress { run, step: step.to_owned(), done, total });
        }
    }
}
