//! What the shell must remember of every run until it is recorded. The engine decides without it; the workers, the
//! clerk and the main loop write into it, each its own part.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::event::{Entry, RunRef};
use crate::executor::Outcome;
use crate::journal::{OutputMeter, RunLog};
use crate::repo::TakenRequest;
use crate::request::{Request, RunId};
use crate::router::Routed;
use crate::status::Status;

/// One run.
pub struct Page {
    /// Its file's name in `requests/`.
    pub name: OsString,
    /// As it stands or ended.
    pub status: Status,
    /// Its bytes as git knows them; absent where they could not be kept.
    pub taken: Option<TakenRequest>,
    /// Of an accepted request, for writing the copy again where a person's `git clean` has removed it.
    pub bytes: Option<Arc<Vec<u8>>>,
    /// HEAD held those bytes under that name when it was taken.
    pub tracked: bool,
    /// What is asked for; absent where it was not understood.
    pub request: Option<Request>,
    /// As the table says at the newest start.
    pub routed: Option<Arc<Routed>>,
    /// Open while something is written to it.
    pub log: Option<RunLog>,
    /// Of the output events.
    pub meter: OutputMeter,
    /// Of the newest attempt, from its end to the verdict.
    pub outcome: Option<Outcome>,
    /// Of earlier attempts.
    pub output_before: u64,
    /// How long the newest attempt stood in the queue.
    pub waited_ms: u64,
    /// An earlier life left it: a power cut must not take the count of its attempts again and again.
    pub found: bool,
    /// Written to the run's own events; everybody else hears of it after the commit.
    pub finished: Option<Entry>,
}

impl Page {
    /// A run of which nothing but its status is known.
    #[must_use]
    pub fn new(name: OsString, status: Status) -> Self {
        Self {
            name,
            status,
            taken: None,
            bytes: None,
            tracked: false,
            request: None,
            routed: None,
            log: None,
            meter: OutputMeter::default(),
            outcome: None,
            output_before: 0,
            waited_ms: 0,
            found: false,
            finished: None,
        }
    }

    /// The run as events name it, with the log's offset where the log is open.
    #[must_use]
    pub fn run_ref(&self) -> RunRef {
        RunRef {
            id: self.status.id,
            req: self.status.request.clone(),
            kind: self.status.kind.clone(),
            resource: self.status.resource.clone(),
            log_off: self.log.as_ref().map_or(0, RunLog::offset),
        }
    }
}

/// All runs that are not recorded.
#[derive(Clone, Default)]
pub struct Book(Arc<Mutex<BTreeMap<RunId, Arc<Mutex<Page>>>>>);

impl Book {
    fn pages(&self) -> MutexGuard<'_, BTreeMap<RunId, Arc<Mutex<Page>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a page.
    pub fn insert(&self, page: Page) {
        self.pages().insert(page.status.id, Arc::new(Mutex::new(page)));
    }

    /// Works on a run's page; `None` where there is none.
    pub fn with<T>(&self, id: RunId, work: impl FnOnce(&mut Page) -> T) -> Option<T> {
        let page = self.pages().get(&id).cloned()?;
        let mut page = page.lock().unwrap_or_else(PoisonError::into_inner);
        Some(work(&mut page))
    }

    /// Closes a page.
    pub fn remove(&self, id: RunId) -> Option<Entry> {
        let page = self.pages().remove(&id)?;
        let mut page = page.lock().unwrap_or_else(PoisonError::into_inner);
        page.finished.take()
    }

    /// True where the run is not recorded yet.
    #[must_use]
    pub fn has(&self, id: RunId) -> bool {
        self.pages().contains_key(&id)
    }

    /// The unrecorded run that was taken from `name` while git held exactly these bytes there.
    #[must_use]
    pub fn same_request(&self, name: &OsStr, taken: &TakenRequest) -> Option<RunId> {
        let pages: Vec<_> = self.pages().iter().map(|(id, page)| (*id, Arc::clone(page))).collect();
        let same =
            |page: &Page| page.tracked && page.name == name && page.taken.as_ref().is_some_and(|t| t.oid == taken.oid);
        pages.into_iter().find(|(_, page)| same(&page.lock().unwrap_or_else(PoisonError::into_inner))).map(|(id, _)| id)
    }

    /// What was taken and is not recorded: missing from the work tree on purpose.
    #[must_use]
    pub fn taken(&self) -> Vec<(OsString, TakenRequest)> {
        let pages: Vec<_> = self.pages().values().cloned().collect();
        let taken = pages.iter().filter_map(|page| {
            let page = page.lock().unwrap_or_else(PoisonError::into_inner);
            Some((page.name.clone(), page.taken.clone()?))
        });
        taken.collect()
    }
}
