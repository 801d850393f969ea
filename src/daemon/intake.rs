//! What becomes of one file in the inbox: looked at, understood or not, taken, or left where it is.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use crate::daemon::book::Page;
use crate::daemon::clerk::Clerk;
use crate::daemon::library::Library;
use crate::daemon::walls;
use crate::diagnostic::{Diagnostic, Rejection};
use crate::engine::{Order, TakeReport, Verdict};
use crate::event::Event;
use crate::inbox::{Odd, Stamp};
use crate::repo::TakenRequest;
use crate::request::{Kind, Request, RunId};
use crate::router::{OnCrash, Routed};
use crate::runs::{RunsError, Taken};
use crate::schema;
use crate::status::{RequestedBy, State, Status};
use crate::text;
use crate::yaml;

/// A request that was understood, and where it goes.
pub struct Understood {
    /// What is asked for.
    pub request: Request,
    /// Where it goes.
    pub routed: Arc<Routed>,
}

/// Reads a request as the library understands it. One that makes a parser panic is as bad as any other.
///
/// # Errors
/// The rejection with all problems.
pub fn understand(library: &Library, bytes: &[u8], file: &str) -> Result<Understood, Rejection> {
    guarded(|| read(library, bytes, file)).unwrap_or_else(|| Err(Rejection::one(65, crashing(file))))
}

/// What `work` gives; `None` where it panics: whoever may write a file must not be able to end the thread that reads it.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    // Nothing is shared that the work changes.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).ok()
}

fn crashing(file: &str) -> Diagnostic {
    Diagnostic::new("E0151", format!("`{file}` cannot be read: the program that reads it fails on its contents"))
        .help("write it more simply; this is a mistake of the dispatcher, and worth a report with that file")
}

fn read(library: &Library, bytes: &[u8], file: &str) -> Result<Understood, Rejection> {
    let request = schema::parse(bytes, file, &library.schemas, &library.table)?;
    let routed = library.table.route(&request)?;
    if routed.route.container.is_some() {
        let problem =
            Diagnostic::new("E0602", format!("handler `{}` asks for `container`, which cannot be given", request.kind))
                .note("it was not run with less")
                .help("handlers/index.yml: leave it out, or wait for a version that can hold it");
        return Err(Rejection::one(78, problem));
    }
    Ok(Understood { request, routed: Arc::new(routed) })
}

/// What the engine must know.
#[must_use]
pub fn order(page: &Page, understood: &Understood) -> Order {
    let route = &understood.routed.route;
    Order {
        id: page.status.id,
        name: page.name.clone(),
        kind: understood.request.kind.clone(),
        resource: understood.routed.resource.clone(),
        priority: understood.request.priority,
        queued_at: page.status.queued_at,
        expires_at: understood.request.expires_at,
        max_queue_age: route.max_queue_age,
        retry: route.retry.clone(),
        rerun: route.on_crash == OnCrash::Rerun,
    }
}

/// The verdict on a request that is not understood.
#[must_use]
pub fn rejected(rejection: Rejection) -> Verdict {
    Verdict { problems: rejection.problems, ..Verdict::plain(State::Rejected, rejection.rc, 0) }
}

impl Clerk {
    /// Reads a request as the library understands it, and refuses one whose handler asks for a secret that it may not
    /// have, or for a sandbox that this machine does not have.
    pub(super) fn understand(&self, library: &Library, bytes: &[u8], file: &str) -> Result<Understood, Rejection> {
        let understood = understand(library, bytes, file)?;
        let allowed = self.vault.allows(&understood.request.kind, &understood.routed.route.secrets);
        let strict = walls::strict(&understood.request.kind, &understood.routed.route, self.walls, &self.user);
        allowed.and(strict).map_err(|problem| Rejection::one(78, *problem))?;
        Ok(understood)
    }

    /// Looks at `requests/<name>` and takes it where it is due. One that has not stood `still` is taken only where its
    /// bytes are HEAD's; the inbox names it again otherwise.
    pub(super) fn take(&mut self, name: &OsStr, still: bool) -> TakeReport {
        if let Some(why) = self.elsewhere() {
            return TakeReport::Failed(why.message);
        }
        let peeked = match self.runs.peek(name) {
            Ok(peeked) => peeked,
            Err(RunsError::Gone(_)) => return TakeReport::Nothing,
            Err(RunsError::Changed(_)) => return TakeReport::Later,
            Err(RunsError::Odd(..)) if !still => return TakeReport::Nothing,
            Err(RunsError::Odd(_, odd)) => return self.take_odd(name, odd),
            Err(error) => return TakeReport::Failed(error.to_string()),
        };
        self.take_bytes(name, &peeked.bytes, &peeked.stamp, still).unwrap_or_else(TakeReport::Failed)
    }

    fn take_bytes(&mut self, name: &OsStr, bytes: &[u8], stamp: &Stamp, still: bool) -> Result<TakeReport, String> {
        let shown = text::bytes(name.as_bytes());
        let file = format!("requests/{shown}");
        let path = path_of(name);
        let text = |error: crate::repo::RepoError| error.to_string();
        let taken = TakenRequest::of(path.as_slice(), bytes).map_err(text)?;
        let tracked = self.repo.holds(&path, bytes).map_err(text)?;
        if !still && !tracked {
            return Ok(TakeReport::Nothing);
        }
        if let Some(twin) = Some(&taken).filter(|_| tracked).and_then(|taken| self.book.same_request(name, taken)) {
            // The checkout gave back what was taken from it.
            self.runs.put_back(name, twin).map_err(|error| error.to_string())?;
            return Ok(TakeReport::Nothing);
        }
        let library = self.library();
        let understood = self.understand(&library, bytes, &file);
        let wall = self.clock.wall();
        if let Ok(Understood { request, .. }) = &understood
            && let Some(until) = request.not_before.filter(|&until| until > wall)
        {
            let kind = request.kind.clone();
            if self.scheduled.insert(name.to_owned(), until) != Some(until) {
                self.scribe.emit(Event::Scheduled { req: shown, kind, not_before: until });
            }
            return Ok(TakeReport::Scheduled { until });
        }
        let first = understood.as_ref().ok().and_then(|understood| understood.request.id);
        let known = first.map(|id| self.known(id).map(|known| (id, known))).transpose()?;
        let meant = understood.as_ref().ok().map(|understood| {
            (understood.request.kind.clone(), understood.routed.resource.clone(), understood.request.reason.clone())
        });
        let (id, mut fate) = match (understood, known) {
            (Err(rejection), _) => (self.fresh_id(), Err(rejected(rejection))),
            (Ok(understood), None) => (self.fresh_id(), Ok(understood)),
            (Ok(understood), Some((id, None))) => (id, Ok(understood)),
            (Ok(_), Some((id, Some(before)))) if before == bytes => (self.fresh_id(), Err(duplicate(id))),
            (Ok(_), Some((id, Some(_)))) => (self.fresh_id(), Err(other_bytes(id))),
        };
        let by = self.requested_by(tracked, name, bytes)?;
        let mut status = Status::taken(id, shown, wall, self.host.clone(), by.clone());
        if let Some((kind, resource, reason)) = meant {
            (status.kind, status.resource, status.reason) = (Some(kind), Some(resource), reason);
        } else {
            status.kind = kind_of(bytes, &file);
        }
        match self.runs.take(name, &status, Some(stamp), !tracked) {
            Ok(Taken::Request(now)) if now == bytes => {}
            Ok(_) => fate = Err(changed(&file)),
            Err(RunsError::Gone(_)) => return Ok(TakeReport::Nothing),
            Err(RunsError::Changed(_)) => return Ok(TakeReport::Later),
            Err(error) => {
                self.heed(error.is_unsynced(), &error);
                return Err(error.to_string());
            }
        }
        let mut page = Page::new(name.to_owned(), status);
        page.taken = Some(taken);
        page.tracked = tracked;
        page.bytes = fate.is_ok().then(|| Arc::new(bytes.to_vec()));
        Ok(self.report(page, fate, by, first))
    }

    /// Opens the page of a taken request and says what is to follow.
    fn report(
        &self,
        mut page: Page,
        fate: Result<Understood, Verdict>,
        by: RequestedBy,
        of: Option<RunId>,
    ) -> TakeReport {
        let report = match fate {
            Ok(understood) => {
                let order = Box::new(order(&page, &understood));
                let reason = understood.request.reason.clone();
                let dry_run = understood.request.dry_run;
                page.request = Some(understood.request);
                page.routed = Some(understood.routed);
                TakeReport::Accepted { order, by: by.name, reason, dry_run }
            }
            Err(verdict) => {
                let run = page.run_ref();
                if let (State::Duplicate, Some(of)) = (verdict.state, of) {
                    let (status, rc) = (verdict.state, verdict.rc);
                    self.scribe.emit(Event::Duplicate { run: run.clone(), status, rc, of });
                }
                TakeReport::Settled { run, verdict: Box::new(verdict) }
            }
        };
        self.book.insert(page);
        report
    }

    /// Takes what can never be a request: set aside and rejected.
    fn take_odd(&mut self, name: &OsStr, odd: Odd) -> TakeReport {
        let by = RequestedBy { name: self.owner(name), ..RequestedBy::default() };
        let status =
            Status::taken(self.fresh_id(), text::bytes(name.as_bytes()), self.clock.wall(), self.host.clone(), by);
        let mut problem = odd.problem(name);
        let mut page = Page::new(name.to_owned(), status);
        match self.runs.take(name, &page.status, None, true) {
            Ok(Taken::Aside { path, .. }) => {
                page.taken = self.repo.set_aside(path_of(name), &path).ok().flatten();
                problem = problem.note(format!("set aside as {}", path.display()));
            }
            // It has become a regular file meanwhile: its bytes are kept, and it is rejected all the same.
            Ok(Taken::Request(bytes)) => {
                page.taken = TakenRequest::of(path_of(name), &bytes).ok();
            }
            Err(RunsError::Gone(_)) => return TakeReport::Nothing,
            Err(RunsError::Changed(_)) => return TakeReport::Later,
            Err(error) => {
                self.heed(error.is_unsynced(), &error);
                return TakeReport::Failed(error.to_string());
            }
        }
        let verdict = rejected(Rejection::one(65, problem));
        self.report(page, Err(verdict), RequestedBy::default(), None)
    }

    /// The bytes with which an id was asked before; the inner `None` where it never was.
    pub(super) fn known(&self, id: RunId) -> Result<Option<Vec<u8>>, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        // A folder alone proves nothing: a take that did not happen may have left one.
        let here = self.book.has(id) || !self.runs.is_hollow(id);
        let bytes = if here { self.runs.request_bytes(id).map_err(|e| text(&e))? } else { None };
        if bytes.is_some() || !(here || self.repo.is_recorded(id).map_err(|e| text(&e))?) {
            return Ok(bytes);
        }
        Ok(Some(self.repo.file_of(id, "request.yml").map_err(|e| text(&e))?.unwrap_or_default()))
    }

    pub(super) fn requested_by(&self, tracked: bool, name: &OsStr, bytes: &[u8]) -> Result<RequestedBy, String> {
        let found = if tracked { self.repo.requested_by(path_of(name), bytes) } else { Ok(None) };
        let dropped = || RequestedBy { name: self.owner(name), ..RequestedBy::default() };
        Ok(found.map_err(|error| error.to_string())?.unwrap_or_else(dropped))
    }
}

/// Where the file lies in the repository.
pub(super) fn path_of(name: &OsStr) -> Vec<u8> {
    [b"requests/", name.as_bytes()].concat()
}

/// What a rejected request asked for, where that can be read.
fn kind_of(bytes: &[u8], file: &str) -> Option<Kind> {
    let document = guarded(|| yaml::read(bytes, file, yaml::Limits::REQUEST))?.ok()?;
    document.value.get("kind")?.as_str()?.parse().ok()
}

fn changed(file: &str) -> Verdict {
    let problem = Diagnostic::new("E0135", format!("`{file}` was written to while it was taken"))
        .help("write it under another name and rename it: mv .a.yml.tmp a.yml");
    rejected(Rejection::one(65, problem))
}

pub(super) fn duplicate(of: RunId) -> Verdict {
    Verdict::plain(State::Duplicate, 0, 0).because(format!("asked before as {of}"))
}

pub(super) fn other_bytes(id: RunId) -> Verdict {
    let problem = Diagnostic::new("E0106", format!("id `{id}` was asked before with other bytes"))
        .help(format!("dispatcher show {id}     a new request needs a new id, or none"));
    rejected(Rejection::one(65, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parser_that_panics_is_survived() {
        assert_eq!(guarded(|| 1), Some(1));
        let hostile = [1_u8, 2];
        assert_eq!(guarded(|| hostile.iter().position(|&byte| byte == 3).unwrap()), None);
        let problem = crashing("requests/a.yml");
        assert!(problem.code == "E0151" && problem.message.contains("`requests/a.yml`"), "{problem:?}");
    }
}
