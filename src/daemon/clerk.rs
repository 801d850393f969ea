//! The thread that owns the repository and the folders of runs: takes, commits, brings the branch up to date. Its jobs
//! come one after the other, so that no taking falls between a commit and the index; recording goes before taking.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, select_biased};

use crate::command::{Answer, Side};
use crate::daemon::answers::{self, Question};
use crate::daemon::book::Book;
use crate::daemon::clock::Clock;
use crate::daemon::library::{Library, LibraryError, Signature, Source};
use crate::daemon::scribe::Scribe;
use crate::diagnostic::Diagnostic;
use crate::engine::{CommitReport, Input};
use crate::event::Event;
use crate::inbox;
use crate::launcher::{User, Walls};
use crate::repo::{self, Content, FetchError, FetchOutcome, Oid, RecordFile, Repo, RunRecord};
use crate::request::RunId;
use crate::runs::Runs;
use crate::status::Status;
use crate::time::Time;
use crate::vault::Vault;

/// What the main loop may have in the queue: the engine takes at most 64 files at once, and asks for one commit and one
/// fetch at a time; the rest is room for people's questions.
pub const JOBS: usize = 256;

/// How often a locked index is tried again: until then a person's commit would drop our results.
const MEND: Duration = Duration::from_millis(100);
/// So long after the last job what was committed is tidied up.
const QUIET: Duration = Duration::from_secs(5);
/// So many commits wait for no quiet moment: each is a pack.
const UNTIDY: u32 = 50;
/// Nothing is to be done without a job.
const IDLE: Duration = Duration::from_secs(3_600);

/// Work for the clerk.
pub enum Job {
    /// Look at a file in the inbox; `true` where it has stood still long enough to be complete whatever it holds.
    Take(OsString, bool),
    /// Record these.
    Commit(Vec<RunId>),
    /// One step of moving old runs to the archive.
    Archive {
        /// So many stay.
        keep: usize,
        /// Fewer are not moved.
        least: usize,
        /// More are not moved at once.
        most: usize,
    },
    /// The remote was asked: follow it.
    Integrate(Result<FetchOutcome, FetchError>),
    /// Read handlers and schemas again where they changed.
    Reload,
    /// Packs were joined: let go of the old ones.
    Reopen,
    /// A person decided what is to follow from a remote that was rewritten.
    Decide(Side, Sender<Answer>),
    /// About a run that is not in the book any more.
    Recorded(RunId, Question, Sender<Answer>),
}

/// The handlers and schemas in force, for whoever starts a run.
pub type Shelf = Arc<Mutex<Arc<Library>>>;

/// The clerk's desk.
pub struct Clerk {
    pub(super) repo: Repo,
    pub(super) runs: Runs,
    pub(super) book: Book,
    pub(super) scribe: Arc<Scribe>,
    pub(super) vault: Arc<Vault>,
    /// What handlers are held by.
    pub(super) walls: Walls,
    /// Who they run as.
    pub(super) user: User,
    /// Where files with secrets in them are put instead of into a commit.
    pub(super) aside: PathBuf,
    pub(super) clock: Clock,
    pub(super) host: String,
    pub(super) root: PathBuf,
    pub(super) shelf: Shelf,
    pub(super) source: Source,
    pub(super) signature: Signature,
    pub(super) to_engine: Sender<Input>,
    /// Bytes of one run's log.
    pub(super) log_limit: u64,
    /// The newest sync that failed and that the engine has not been told of.
    pub(super) unsynced: Cell<Option<String>>,
    /// A commit is in the branch and not yet in the index, which somebody else had locked.
    pub(super) index_lags: bool,
    /// The engine has been told why.
    pub(super) index_said: bool,
    /// Asks for the object database to be tidied up.
    pub(super) keeper: Sender<()>,
    /// Requests in HEAD that the engine has been told of.
    pub(super) named: BTreeMap<OsString, Oid>,
    /// Requests that stay in the inbox, as the event streams have them.
    pub(super) scheduled: BTreeMap<OsString, Time>,
}

impl Clerk {
    /// Works until both queues are closed.
    pub fn work(mut self, records: &Receiver<Job>, takes: &Receiver<Job>) {
        // Of an earlier life.
        let mut untidy: u32 = 1;
        loop {
            let patience = match (self.index_lags, untidy) {
                (true, _) => MEND,
                (false, 1..) => QUIET,
                (false, 0) => IDLE,
            };
            // Recording first: a long inbox must not keep results from becoming final.
            let job = select_biased! {
                recv(records) -> job => Some(job),
                recv(takes) -> job => Some(job),
                default(patience) => None,
            };
            let inputs = match job {
                Some(Ok(job)) => {
                    untidy += u32::from(matches!(job, Job::Commit(_) | Job::Archive { .. }));
                    self.perform(job)
                }
                Some(Err(_)) => return self.leave(),
                None => {
                    self.mend_index();
                    self.tidy_up(&mut untidy);
                    Vec::new()
                }
            };
            if untidy >= UNTIDY {
                self.tidy_up(&mut untidy);
            }
            let inputs: Vec<Input> = inputs.into_iter().chain(self.say_index()).collect();
            // First: what the report leads to must not begin.
            for input in self.unsynced.take().map(Input::Unsynced).into_iter().chain(inputs) {
                if self.to_engine.send(input).is_err() {
                    return;
                }
            }
        }
    }

    /// Nobody mends the index any more until the next start: a person's commit before that would drop results.
    fn leave(&mut self) {
        self.mend_index();
        if self.index_lags {
            let message = "results are in the branch and not in the index: another git holds or left `index.lock`";
            self.scribe.warn(&Diagnostic::new("E0528", message));
            self.scribe.note("  = help: once it is gone, and before you commit here: git reset -q");
        }
    }

    fn perform(&mut self, job: Job) -> Vec<Input> {
        match job {
            Job::Take(name, still) => {
                self.reload();
                let report = self.take(&name, still);
                vec![Input::Took(name, report)]
            }
            Job::Commit(ids) => vec![Input::Committed(self.commit(ids))],
            Job::Archive { keep, least, most } => vec![Input::Archived(self.archive(keep, least, most))],
            Job::Integrate(fetched) => {
                let lacks = self.follow_archive();
                let report = self.integrate(fetched);
                self.reload();
                let looked = Input::ArchiveLooked { lacks };
                let inputs = [looked, Input::Fetched(report), Input::Arrived(self.committed_requests())];
                inputs.into_iter().filter(|input| *input != Input::Arrived(Vec::new())).collect()
            }
            Job::Reload => {
                self.reload();
                Vec::new()
            }
            Job::Reopen => {
                if let Err(error) = self.repo.reopen() {
                    self.scribe.warn(&error.diagnostic());
                }
                Vec::new()
            }
            Job::Decide(side, reply) => {
                // A client that went away is not told.
                let decided = self.decide(side);
                if let Ok(decided) = &decided {
                    self.scribe.note(&format!("{}: kept {}", side.word(), decided.kept.join(", ")));
                }
                let _ = reply.try_send(answers::decided(side, decided));
                vec![Input::FetchNow]
            }
            Job::Recorded(id, _, reply) if self.book.has(id) => {
                // It was taken while the question came here.
                let _ = reply.try_send(answers::being_taken(id));
                Vec::new()
            }
            Job::Recorded(id, question, reply) => {
                let bytes = self.repo.status_of(id).ok().flatten();
                let status: Option<Status> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
                let _ = reply.try_send(answers::about(id, question, status.as_ref()));
                Vec::new()
            }
        }
    }

    /// Requests that HEAD holds and that were not named before. They need not stand still first: whether a file is
    /// complete is seen by its bytes, which must be HEAD's.
    fn committed_requests(&mut self) -> Vec<OsString> {
        let files = self.repo.tip().ok().flatten().and_then(|tip| self.repo.read_folder(tip, "requests").ok());
        let requests = files.into_iter().flatten().filter(|file| !file.symlink && inbox::is_request(&file.path));
        let now: BTreeMap<OsString, Oid> = requests.map(|file| (OsString::from_vec(file.path), file.oid)).collect();
        let new = now.iter().filter(|(name, oid)| self.named.get(*name) != Some(oid));
        let new = new.map(|(name, _)| name.clone()).collect();
        self.named = now;
        new
    }

    /// Remembers where it was a sync that failed.
    pub(super) fn heed(&self, is_unsynced: bool, error: &dyn std::fmt::Display) {
        if is_unsynced {
            self.unsynced.set(Some(error.to_string()));
        }
    }

    /// The handlers and schemas in force.
    pub(super) fn library(&self) -> Arc<Library> {
        Arc::clone(&self.shelf.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A fresh id of now.
    pub(super) fn fresh_id(&self) -> RunId {
        let mut random = [0; 10];
        random.fill_with(|| fastrand::u8(..));
        RunId::new(self.clock.wall(), random)
    }

    /// The owner of a file in the inbox, by name.
    pub(super) fn owner(&self, name: &OsStr) -> Option<String> {
        let meta = self.root.join("requests").join(name).symlink_metadata().ok()?;
        let user = nix::unistd::User::from_uid(meta.uid().into()).ok().flatten();
        Some(user.map_or_else(|| meta.uid().to_string(), |user| user.name))
    }

    /// Reads handlers and schemas again where they changed; broken ones are told and change nothing.
    fn reload(&mut self) {
        let signature = match self.source.signature(&self.repo) {
            Ok(signature) if signature == self.signature => return,
            Ok(signature) => signature,
            Err(error) => return self.broken(&error),
        };
        match self.source.load(&self.repo) {
            Ok(library) => {
                let event =
                    Event::RouterLoaded { kinds: library.table.entries().count(), commit: library.commit.clone() };
                *self.shelf.lock().unwrap_or_else(PoisonError::into_inner) = library;
                self.scribe.emit(event);
            }
            Err(error) => {
                self.broken(&error);
                // Trouble of git or of the disk passes without a change of the files: tried again.
                if !matches!(error, LibraryError::Broken(_)) {
                    return;
                }
            }
        }
        self.signature = signature;
    }

    fn broken(&self, error: &LibraryError) {
        let problems = error.problems();
        let message = problems.first().map_or_else(|| error.to_string(), |problem| problem.message.clone());
        self.scribe.emit(Event::RouterBroken { message });
        problems.iter().for_each(|problem| self.scribe.warn(problem));
    }

    /// Records the first of these, as many as fit into one commit; the engine asks for the others again.
    fn commit(&mut self, mut ids: Vec<RunId>) -> CommitReport {
        let known = |id: &RunId| self.book.with(*id, |page| self.record(page));
        let mut records: Vec<RunRecord> = ids.iter().filter_map(known).collect();
        records.truncate(repo::fitting(&records));
        let gated: Result<Vec<RunRecord>, String> = records.into_iter().map(|record| self.gate(record)).collect();
        let records = match gated {
            Ok(records) => records,
            Err(message) => return CommitReport::Failed { ids, message },
        };
        if let Some(last) = records.last() {
            // Whoever has no page is recorded.
            let upto = ids.iter().position(|id| *id == last.id).map_or(ids.len(), |at| at + 1);
            ids.truncate(upto);
        }
        match self.repo.record(records) {
            Ok(recorded) => {
                self.index_lags |= !recorded.indexed;
                ids.iter().for_each(|id| self.runs.release(*id));
                recorded.problems.iter().for_each(|problem| self.scribe.warn(problem));
                CommitReport::Done { ids, commit: recorded.commit.to_string() }
            }
            Err(error) => {
                self.heed(error.is_unsynced(), &error);
                CommitReport::Failed { ids, message: error.diagnostic().message }
            }
        }
    }

    /// Brings the index up to what a commit left undone.
    pub(super) fn mend_index(&mut self) {
        match self.repo.mend_index() {
            Ok(mended) => self.index_lags &= !mended,
            Err(error) => {
                self.heed(error.is_unsynced(), &error);
                self.scribe.warn(&error.diagnostic());
            }
        }
    }

    /// An index that stays behind is told of once, and once more when it is not behind any more.
    fn say_index(&mut self) -> Option<Input> {
        let locked = if self.index_lags { self.repo.index_lock() } else { None };
        // Behind and not locked: the next try mends it.
        if locked.is_some() == self.index_said || (locked.is_none() && self.index_lags) {
            return None;
        }
        self.index_said = locked.is_some();
        Some(Input::Index { locked: locked.map(|problem| (problem.message, problem.help)) })
    }

    /// The keeper looks once more after all that it was asked before; one question that waits is enough.
    fn tidy_up(&self, untidy: &mut u32) {
        if std::mem::take(untidy) > 0 {
            let _ = self.keeper.try_send(());
        }
    }

    fn record(&self, page: &crate::daemon::book::Page) -> RunRecord {
        let status = &page.status;
        let id = status.id;
        let mut files = vec![RecordFile {
            path: format!("processed/{id}/status.json"),
            content: Content::Bytes(status.to_bytes()),
        }];
        for path in [format!("processed/{id}/request.yml"), format!("logs/{id}.log"), format!("logs/{id}.jsonl")] {
            let on_disk = self.root.join(&path);
            if status.withheld.contains(&path) {
                continue;
            }
            if on_disk.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
                files.push(RecordFile { path, content: Content::File(on_disk) });
            }
        }
        RunRecord {
            id,
            name: status.request.clone(),
            rc: status.rc.unwrap_or_default(),
            kind: status.kind.clone(),
            resource: status.resource.clone(),
            state: status.status,
            duration: status.duration(),
            request: page.taken.clone(),
            files,
        }
    }
}
