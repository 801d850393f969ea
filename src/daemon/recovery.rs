//! What an earlier life left behind: runs that are taken and not recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::daemon::book::Page;
use crate::daemon::clerk::Clerk;
use crate::daemon::intake::{Understood, duplicate, order, other_bytes, path_of, rejected};
use crate::daemon::sink::open_log;
use crate::diagnostic::{Diagnostic, Rejection};
use crate::engine::{CRASHED, Found, NOT_BEGUN, Prior, STOPPED, Verdict};
use crate::event::Event;
use crate::journal::{read_entries, runs_without_end};
use crate::repo::TakenRequest;
use crate::request::RunId;
use crate::runs::{Content, Leftover};
use crate::status::{RequestedBy, State};

/// How often a run began again, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tries {
    failures: u32,
    crashes: u32,
}

impl Clerk {
    /// Finds them and opens their pages. Nothing of them is alive any more.
    ///
    /// # Errors
    /// Where the folders cannot be read: nothing is known then, and no work may be taken.
    pub fn recover(&mut self) -> Result<Vec<Found>, String> {
        let recorded = self.repo.recorded_ids().map_err(|error| error.to_string())?;
        let recorded: BTreeSet<RunId> = recorded.into_iter().collect();
        self.announce_missed(&recorded);
        // A folder of an archived run is left where a person has put something into it.
        let mut archived = BTreeSet::new();
        for id in self.runs.ids().map_err(|error| error.to_string())? {
            if !recorded.contains(&id) && self.repo.archived(id).map_err(|error| error.to_string())?.is_some() {
                archived.insert(id);
            }
        }
        let is_recorded = |id| recorded.contains(&id) || archived.contains(&id);
        let mut left = self.runs.unfinished(&is_recorded).map_err(|error| error.to_string())?;
        // The queue goes by age, and the engine takes the order of what is found for that.
        left.sort_by_key(|left| (left.status.queued_at, left.status.id));
        left.into_iter().map(|leftover| self.found(leftover)).collect()
    }

    /// Tells the end of runs that a crash came in between: they were recorded, and nobody had been told yet.
    fn announce_missed(&self, recorded: &BTreeSet<RunId>) {
        // A stream that cannot be read cannot be mended either; the runs themselves are recorded.
        let untold = runs_without_end(&self.root.join("logs")).unwrap_or_default();
        for id in untold.intersection(recorded) {
            let entries = read_entries(&self.root.join("logs").join(format!("{id}.jsonl"))).ok().into_iter().flatten();
            if let Some(entry) = entries.filter(|entry| matches!(entry.event, Event::Finished { .. })).last() {
                self.scribe.announce(entry);
            }
        }
    }

    fn found(&self, leftover: Leftover) -> Result<Found, String> {
        let Leftover { status, torn, content } = leftover;
        let id = status.id;
        let mut page = Page { found: true, ..Page::new(self.real_name(&status.request), status) };
        let bytes = match &content {
            Content::Request => self.runs.request_bytes(id).ok().flatten().map(|copy| self.whole(id, &page.name, copy)),
            Content::Aside { path, .. } => {
                page.taken = self.repo.set_aside(path_of(&page.name), path).ok().flatten();
                None
            }
            Content::Missing => None,
        };
        if let Some(bytes) = &bytes {
            let path = path_of(&page.name);
            page.tracked = self.repo.holds(&path, bytes).unwrap_or(false);
            page.taken = TakenRequest::of(path, bytes).ok();
            if page.status.requested_by == RequestedBy::default() {
                page.status.requested_by = self.requested_by(page.tracked, &page.name, bytes).unwrap_or_default();
            }
        }
        let run = page.run_ref();
        let prior = if page.status.status.is_final() {
            page.finished = self.finished(&mut page);
            Prior::Final
        } else {
            self.prior(&mut page, bytes.as_deref(), content, torn)?
        };
        page.bytes = bytes.filter(|_| page.request.is_some()).map(Arc::new);
        self.book.insert(page);
        Ok(Found { run, prior })
    }

    /// The copy of a request that git holds is not synced: where a power cut has torn it, git has the whole.
    fn whole(&self, id: RunId, name: &OsStr, copy: Vec<u8>) -> Vec<u8> {
        let held = self.repo.file(path_of(name)).ok().flatten();
        match held.filter(|held| held.len() > copy.len() && held.starts_with(&copy)) {
            // What cannot be written now is written again before it is used.
            Some(held) => {
                let _ = self.runs.replace_request(id, &held);
                held
            }
            None => copy,
        }
    }

    /// The status knows a name as people read it; git knows it as it is.
    fn real_name(&self, shown: &str) -> OsString {
        let files = self.repo.tip().ok().flatten().and_then(|tip| self.repo.read_folder(tip, "requests").ok());
        let hit = files.into_iter().flatten().find(|file| crate::text::bytes(&file.path) == shown);
        hit.map_or_else(|| OsString::from(shown), |file| OsString::from_vec(file.path))
    }

    fn prior(&self, page: &mut Page, bytes: Option<&[u8]>, content: Content, torn: bool) -> Result<Prior, String> {
        let attempt = page.status.attempt;
        let file = format!("requests/{}", page.status.request);
        let odd = match content {
            Content::Aside { odd, path } => {
                let problem = odd.problem(&page.name);
                Some(problem.note(format!("set aside as {}", path.display())))
            }
            Content::Missing => {
                Some(Diagnostic::new("E0107", format!("the copy of `{file}` was removed")).help("ask again"))
            }
            Content::Request => None,
        };
        let understood = match odd {
            Some(problem) => Err(Rejection::one(65, problem)),
            None => self.understand(&self.library(), bytes.unwrap_or_default(), &file),
        };
        let understood = match understood {
            Ok(understood) => understood,
            Err(rejection) if attempt == 0 => {
                return Ok(Prior::Settled { verdict: Box::new(rejected(rejection)) });
            }
            // It has been started: that it would not be accepted today does not undo that.
            Err(rejection) => {
                let verdict = Verdict {
                    problems: rejection.problems,
                    ..Verdict::plain(State::Crashed, 70, attempt)
                        .because("lost, and its request is not accepted any more")
                };
                return Ok(Prior::Settled { verdict: Box::new(verdict) });
            }
        };
        // The folder's own name is not the request's id where that one was asked before, with these bytes or others.
        if let Some(asked) = understood.request.id.filter(|&asked| asked != page.status.id) {
            let verdict = match self.known(asked)? {
                Some(before) if Some(before.as_slice()) != bytes => other_bytes(asked),
                _ => duplicate(asked),
            };
            return Ok(Prior::Settled { verdict: Box::new(verdict) });
        }
        Ok(self.queued(page, understood, torn, attempt))
    }

    fn queued(&self, page: &mut Page, understood: Understood, torn: bool, attempt: u32) -> Prior {
        page.status.kind = Some(understood.request.kind.clone());
        // Its lock is the one that it was taken with: another run may hold what it would be given today.
        let resource = page.status.resource.get_or_insert_with(|| understood.routed.resource.clone()).clone();
        let path = self.root.join("logs").join(format!("{}.jsonl", page.status.id));
        // What was guessed for a torn status does not know of the newest attempts; the events do, unless they are torn too.
        let begun = begun(&path);
        let running = page.status.status == State::Running || torn || begun > attempt;
        let attempt = attempt.max(begun);
        // An attempt that is lost now has not been counted yet, whatever was written of it.
        let before = if running { attempt.saturating_sub(1) } else { attempt };
        let Tries { failures, crashes } = tries(&path, before);
        let order = Box::new(crate::engine::Order { resource, ..order(page, &understood) });
        page.request = Some(understood.request);
        page.routed = Some(understood.routed);
        if running {
            Prior::Running { order, attempt, failures, crashes }
        } else {
            Prior::Queued { order, attempt, failures, crashes }
        }
    }

    /// Says in a run's log that its end may be missing there. A run whose status came to the disk and whose events did not
    /// may have lost more.
    fn mend_log(&self, page: &mut Page) {
        if open_log(page, &self.root, self.log_limit, &self.vault).is_ok()
            && let Some(mut log) = page.log.take()
        {
            log.line(self.clock.wall(), "the machine died before this run was recorded: lines may be missing above");
        }
    }

    /// The run's last event, written again where the earlier life did not come so far.
    fn finished(&self, page: &mut Page) -> Option<crate::event::Entry> {
        let path = self.root.join("logs").join(format!("{}.jsonl", page.status.id));
        let entries = read_entries(&path).ok().into_iter().flatten();
        let written = entries.filter(|entry| matches!(entry.event, Event::Finished { .. })).last();
        if written.is_some() {
            return written;
        }
        self.mend_log(page);
        let status = &page.status;
        let event = Event::Finished {
            run: page.run_ref(),
            status: status.status,
            rc: status.rc.unwrap_or_default(),
            signal: status.signal,
            attempt: status.attempt,
            duration_ms: status.duration_ms,
            reason: status.reason.clone(),
        };
        Some(self.scribe.emit_final(event))
    }
}

/// The newest attempt that a run's own events know of.
fn begun(path: &Path) -> u32 {
    let attempt = |event: &Event| match event {
        Event::RunStarted { attempt, .. } => Some(*attempt),
        _ => None,
    };
    let entries = read_entries(path).ok().into_iter().flatten();
    entries.filter_map(|entry| attempt(&entry.event)).max().unwrap_or_default()
}

/// Counts in a run's own events how the attempts up to `last` ended. Of an attempt that is told twice (a crash came
/// between the event and the status), the later word counts; one that is not told at all was lost with the machine.
fn tries(path: &Path, last: u32) -> Tries {
    let mut ends = BTreeMap::new();
    for entry in read_entries(path).ok().into_iter().flatten() {
        if let Event::Retrying { attempt, why, .. } = entry.event
            && attempt <= last
        {
            ends.insert(attempt, why);
        }
    }
    for attempt in 1..=last {
        ends.entry(attempt).or_insert_with(|| CRASHED.to_owned());
    }
    let count = |wanted: &dyn Fn(&str) -> bool| {
        u32::try_from(ends.values().filter(|why| wanted(why)).count()).unwrap_or(u32::MAX)
    };
    Tries {
        crashes: count(&|why| why == CRASHED),
        failures: count(&|why| ![CRASHED, STOPPED, NOT_BEGUN].contains(&why)),
    }
}
