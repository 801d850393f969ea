//! Performs what the engine wants, in its order. Decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use crossbeam_channel::Sender;

use crate::console;
use crate::daemon::answers::Waiting;
use crate::daemon::book::{Book, Page};
use crate::daemon::clerk::{Job, Shelf};
use crate::daemon::clock::Clock;
use crate::daemon::courier::Errand;
use crate::daemon::library::Library;
use crate::daemon::scribe::Scribe;
use crate::daemon::sink::open_log;
use crate::diagnostic::{Diagnostic, status_error};
use crate::engine::{Effect, ExitCode, How, Verdict};
use crate::event::Event;
use crate::executor::{self, Executor};
use crate::inbox::Inbox;
use crate::journal::RunLog;
use crate::request::RunId;
use crate::router::{Network, SecretsAs};
use crate::runs::Runs;
use crate::sandbox::{Limits, Plan};
use crate::status::State;
use crate::vault::Vault;

/// Why an attempt could not even be handed to a worker.
pub enum NoStart {
    /// The handler is gone or not what it was: the run is rejected.
    Problem(Diagnostic),
    /// Our own trouble: tried again.
    Trouble(String),
    /// The same, and it was a sync that failed.
    Unsynced(String),
}

/// The hands of the engine.
pub struct Shell {
    pub(super) root: PathBuf,
    pub(super) state: PathBuf,
    pub(super) log_limit: u64,
    pub(super) clock: Clock,
    pub(super) book: Book,
    pub(super) runs: Runs,
    pub(super) scribe: Arc<Scribe>,
    pub(super) vault: Arc<Vault>,
    pub(super) shelf: Shelf,
    pub(super) executor: Executor,
    pub(super) inbox: Inbox,
    pub(super) records: Sender<Job>,
    pub(super) takes: Sender<Job>,
    pub(super) errands: Sender<Errand>,
    pub(super) waiting: Waiting,
    /// The end of a scan is heard as a notice, behind everything that it offered; this says it a second time.
    pub(super) ignored: Sender<()>,
    /// What running attempts were started from: kept until they end, so that the files stay.
    pub(super) in_use: BTreeMap<RunId, Arc<Library>>,
    /// Files that the inbox has seen standing still, for as long as they lie there.
    pub(super) still: BTreeSet<OsString>,
}

impl Shell {
    /// Performs one effect. What cannot be done at once comes back as an input; a start that failed at once is returned.
    pub fn perform(&mut self, effect: Effect) -> Result<Option<ExitCode>, (RunId, u32, NoStart)> {
        match effect {
            // The queues have room for all that the engine asks at a time; a closed one means that the end has come.
            Effect::Take(name) => {
                let still = self.still.contains(&name);
                drop(self.takes.send(Job::Take(name, still)));
            }
            Effect::Commit(ids) => drop(self.records.send(Job::Commit(ids))),
            Effect::Fetch => drop(self.errands.send(Errand::Fetch)),
            Effect::Push => drop(self.errands.send(Errand::Push)),
            Effect::Archive { keep, least, most } => drop(self.records.send(Job::Archive { keep, least, most })),
            Effect::PushArchive => drop(self.errands.send(Errand::PushArchive)),
            Effect::Scan => {
                let token = self.inbox.rescan(self.ignored.clone());
                self.waiting.scan_begins(token);
            }
            Effect::Emit(event) => self.emit(event),
            Effect::Start { id, attempt, waited } => {
                let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
                self.start(id, attempt, waited_ms).map_err(|why| (id, attempt, why))?;
            }
            Effect::Terminate { id, how } => {
                let how = match how {
                    How::Gracefully => executor::How::Gracefully,
                    How::AtOnce => executor::How::Kill,
                };
                self.executor.terminate(id, how);
            }
            Effect::Mark { id, state, attempt } => self.mark(id, state, attempt),
            Effect::Conclude { id, verdict } => self.conclude(id, *verdict),
            Effect::Announce { ids, commit: _ } => self.announce(&ids),
            Effect::KeepPause(pause) => self.keep_pause(pause),
            Effect::Exit(code) => return Ok(Some(code)),
        }
        Ok(None)
    }

    fn emit(&self, mut event: Event) {
        let line = told(&event);
        if let Some(run) = event.run_mut() {
            let id = run.id;
            let offset = self.book.with(id, |page| {
                if let Some(line) = &line {
                    // A log that cannot be opened is told of where the run cannot do without it.
                    let _ = open_log(page, &self.root, self.log_limit, &self.vault);
                    if let Some(log) = page.log.as_mut() {
                        log.line(self.clock.wall(), line);
                    }
                }
                page.log.as_ref().map(RunLog::offset)
            });
            run.log_off = offset.flatten().unwrap_or(run.log_off);
        }
        self.scribe.emit(event);
    }

    fn start(&mut self, id: RunId, attempt: u32, waited_ms: u64) -> Result<(), NoStart> {
        let library = Arc::clone(&self.shelf.lock().unwrap_or_else(PoisonError::into_inner));
        let request = self.request(id)?;
        let plan = self.book.with(id, |page| {
            page.waited_ms = waited_ms;
            self.plan(page, attempt, &library, request)
        });
        let plan = plan.unwrap_or_else(|| Err(NoStart::Trouble("the run is not known any more".to_owned())))?;
        self.executor.submit(plan).map_err(|error| NoStart::Trouble(error.to_string()))?;
        self.in_use.insert(id, library);
        Ok(())
    }

    /// The bytes that were taken; their copy is written again where somebody removed it.
    fn request(&self, id: RunId) -> Result<Vec<u8>, NoStart> {
        let trouble = |error: crate::runs::RunsError| match error.is_unsynced() {
            true => NoStart::Unsynced(error.to_string()),
            false => NoStart::Trouble(error.to_string()),
        };
        let copy = self.runs.request_bytes(id).map_err(trouble)?;
        let Some(kept) = self.book.with(id, |page| page.bytes.clone()).flatten() else {
            return copy.ok_or_else(|| NoStart::Problem(copy_is_gone(id)));
        };
        // Removed by a person, or torn and not to be mended until now.
        if copy.as_deref() != Some(kept.as_slice()) {
            self.runs.replace_request(id, &kept).map_err(trouble)?;
        }
        Ok(kept.to_vec())
    }

    /// The attempt as the table said when the request was taken, with the handler's bytes as they are now.
    fn plan(&self, page: &mut Page, attempt: u32, library: &Library, bytes: Vec<u8>) -> Result<Plan, NoStart> {
        let unknown = || NoStart::Trouble("the request is not known".to_owned());
        let request = page.request.clone().ok_or_else(unknown)?;
        let routed = page.routed.clone().ok_or_else(unknown)?;
        let resource = page.status.resource.clone().unwrap_or_else(|| routed.resource.clone());
        let route = &routed.route;
        let (program, used) = library.program(&route.file).ok_or_else(|| {
            let problem = Diagnostic::new("E0203", format!("handler `{}` is gone", route.file.shown()));
            NoStart::Problem(problem.help("put it back, or ask again: dispatcher retry"))
        })?;
        page.status.handler = Some(used);
        let as_files = route.secrets_as == SecretsAs::File;
        let secrets = self.vault.take(&request.kind, &route.secrets, as_files);
        let secrets = secrets.map_err(|problem| NoStart::Problem(*problem))?;
        Ok(Plan {
            id: page.status.id,
            attempt,
            kind: request.kind,
            resource,
            program,
            library: library.folder().to_owned(),
            write: route.write.clone(),
            no_network: route.network == Network::None,
            request: bytes,
            params: request.params,
            limits: Limits {
                timeout: routed.timeout,
                grace: route.grace,
                memory: Some(route.memory),
                pids: Some(u64::from(route.pids)),
            },
            env: route.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            secrets,
            secrets_as_files: as_files,
            mask: self.vault.mask(),
            deadline: self.clock.wall().plus(routed.timeout),
            dry_run: request.dry_run,
        })
    }

    /// What an attempt left goes into the status; the files of its handler may be removed.
    pub fn attempt_ended(&mut self, id: RunId, outcome: executor::Outcome) {
        self.in_use.remove(&id);
        if let Some(warning) = &outcome.warning {
            self.scribe.warn(warning);
        }
        let event = self.book.with(id, |page| {
            if let Some(log) = page.log.as_mut() {
                log.finish_attempt();
            }
            let told = page.meter.finish();
            let event = told.map(|bytes| Event::Output { run: page.run_ref(), bytes });
            if outcome.started {
                page.output_before += outcome.usage.output_bytes;
            }
            page.outcome = Some(outcome);
            event
        });
        if let Some(event) = event.flatten() {
            self.scribe.emit(event);
        }
    }

    fn mark(&self, id: RunId, state: State, attempt: u32) {
        let written = self.book.with(id, |page| {
            if (page.status.status, page.status.attempt) == (state, attempt) {
                return Ok(());
            }
            page.status.status = state;
            page.status.attempt = attempt;
            if attempt > 0 && state == State::Queued {
                // Between attempts no file is kept open: there may be thousands of queued runs.
                page.log = None;
            }
            self.runs.write_status(&page.status)
        });
        if let Some(Err(error)) = written {
            self.scribe.warn(&Diagnostic::new("E0704", error.to_string()));
        }
    }

    /// Writes the final status, the log's last line and the run's last event.
    pub fn conclude(&mut self, id: RunId, verdict: Verdict) {
        let wall = self.clock.wall();
        let done = self.book.with(id, |page| {
            settle(page, &verdict, wall);
            page.status = self.vault.mask().message(&page.status).unwrap_or_else(|| page.status.clone());
            let opened = open_log(page, &self.root, self.log_limit, &self.vault);
            // The rest of what a person must know to mend it; a run that did run says it in one line.
            let never_ran = matches!(verdict.state, State::Rejected | State::Expired);
            let problems = if never_ran { &verdict.problems[..] } else { &[] };
            if let Some(log) = page.log.as_mut() {
                log.line(wall, &console::verdict(&page.status, problems, true));
                if let Some(usage) = page.status.usage.as_mut() {
                    usage.output_dropped_bytes = log.dropped();
                }
                page.status.log = Some(format!("logs/{id}.log"));
            }
            let status = &page.status;
            let event = Event::Finished {
                run: page.run_ref(),
                status: status.status,
                rc: verdict.rc,
                signal: status.signal,
                attempt: status.attempt,
                duration_ms: status.duration_ms,
                reason: status.reason.clone(),
            };
            page.finished = Some(self.scribe.emit_final(event));
            page.log = None;
            // The commit takes the status from here, not from the disk: a full disk does not lose it.
            let written = self.runs.write_status(&page.status).map_err(|error| error.to_string());
            opened.and(written)
        });
        if let Some(Err(error)) = done {
            self.scribe.warn(&Diagnostic::new("E0704", error));
        }
    }

    fn announce(&mut self, ids: &[RunId]) {
        for &id in ids {
            let status = self.book.with(id, |page| page.status.clone());
            if let Some(entry) = self.book.remove(id) {
                self.scribe.announce(entry);
            }
            if let Some(status) = status {
                self.waiting.is_final(&status);
            }
        }
    }

    fn keep_pause(&self, pause: Option<String>) {
        let path = self.state.join(PAUSE);
        let kept = match pause {
            Some(text) => fs::write(&path, text + "\n"),
            None => match fs::remove_file(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
        };
        if let Err(error) = kept {
            let message = format!("failed to remember the pause in `{}`: {error}", path.display());
            self.scribe.warn(&Diagnostic::new("E0704", message));
        }
    }
}

/// Where a pause is kept over restarts.
pub const PAUSE: &str = "paused";

fn copy_is_gone(id: RunId) -> Diagnostic {
    Diagnostic::new("E0107", format!("the copy `processed/{id}/request.yml` was removed")).help("ask again")
}

/// What a run's own log says of an event, besides header and verdict.
fn told(event: &Event) -> Option<String> {
    match event {
        Event::Retrying { attempt, why, delay_ms, .. } => {
            let delay = crate::quantity::round_duration(std::time::Duration::from_millis(*delay_ms));
            Some(format!("attempt {attempt} ended ({why}); the next one in {delay}"))
        }
        Event::Cancelling { by, reason, .. } => {
            let reason = reason.as_ref().map_or(String::new(), |reason| format!(": {reason}"));
            Some(crate::text::line(&format!("told to end by {by}{reason}")))
        }
        _ => None,
    }
}

/// The verdict and the last attempt's outcome become the final status.
fn settle(page: &mut Page, verdict: &Verdict, wall: crate::time::Time) {
    let output_bytes = page.output_before;
    let status = &mut page.status;
    status.status = verdict.state;
    status.rc = Some(verdict.rc);
    status.signal = verdict.signal;
    status.attempt = verdict.attempt;
    if verdict.reason.is_some() {
        status.reason.clone_from(&verdict.reason);
    }
    status.error = status_error(&verdict.problems);
    status.finished_at = Some(wall);
    if verdict.attempt == 0 {
        // It was about to start, and could not.
        status.started_at = None;
    }
    if let Some(outcome) = page.outcome.take().filter(|outcome| outcome.started) {
        status.duration_ms = Some(u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX));
        status.usage = Some(crate::status::Usage { output_bytes, ..outcome.usage });
        status.result = outcome.result;
        status.sandbox = outcome.sandbox;
    }
}
