//! What lies in the checkout and what a daemon says of it: every request is in the inbox or taken (I1), and taken is
//! recorded, unrecorded, running or waiting (I8). A daemon that works moves things meanwhile: with one, only what stays
//! wrong over several looks is wrong.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use crate::cli::{Exit, Failure, ask};
use crate::command::Command;
use crate::control::Client;
use crate::diagnostic::{Diagnostic, Place};
use crate::engine::Snapshot;
use crate::event::Event;
use crate::inbox;
use crate::journal;
use crate::repo::{Audit, Breach, CheckoutState, Repo, RepoError};
use crate::request::RunId;
use crate::runs::Runs;
use crate::status::State;
use crate::text;

/// Looks at a working daemon, at most.
const LOOKS: usize = 20;
/// Between two of them: a taking or a commit is over by then.
const PAUSE: Duration = Duration::from_millis(250);
/// For the daemon's answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs that are taken and not recorded.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    /// Final, not in a commit yet.
    pub(super) unrecorded: usize,
    pub(super) running: usize,
    pub(super) waiting: usize,
    /// A daemon was asked.
    pub(super) daemon: bool,
}

/// The checkout.
pub(super) struct Local<'a> {
    root: &'a Path,
    repo: &'a Repo,
    audit: &'a Audit,
    runs: Runs,
}

/// A run whose folder no commit has.
struct Taken {
    id: RunId,
    /// The request's name and how it stands, where that can be read.
    status: Option<(String, State)>,
}

impl<'a> Local<'a> {
    pub(super) fn new(root: &'a Path, state: &Path, repo: &'a Repo, audit: &'a Audit) -> Self {
        // The host's name only goes into statuses that are written, and none is.
        Self { root, repo, audit, runs: Runs::new(root, state.join("aside"), "") }
    }

    /// Looks until nothing is wrong, or what is wrong stays so.
    pub(super) fn check(&self, mut client: Option<&mut Client>) -> Result<(Vec<Breach>, Counts), Failure> {
        let mut wrong: Option<Vec<Breach>> = None;
        for look in 1.. {
            let now = client.as_deref_mut().map(snapshot).transpose()?;
            let (mut found, counts) = self.look(now.as_ref())?;
            if let Some(before) = wrong.take() {
                found.retain(|breach| before.contains(breach));
            }
            if found.is_empty() || now.is_none() || look == LOOKS {
                return Ok((found, counts));
            }
            wrong = Some(found);
            std::thread::sleep(PAUSE);
        }
        Ok((Vec::new(), Counts::default()))
    }

    fn look(&self, daemon: Option<&Snapshot>) -> Result<(Vec<Breach>, Counts), Failure> {
        let failed = |error: RepoError| Failure::new(Exit::IO, error.diagnostic());
        let taken = self.taken()?;
        let mut found = Vec::new();
        self.requests(&taken, &mut found).map_err(failed)?;
        self.events(&taken, &mut found).map_err(failed)?;
        let is = |run: &&Taken, wanted: fn(State) -> bool| run.status.as_ref().is_some_and(|(_, state)| wanted(*state));
        let unrecorded = taken.iter().filter(|run| is(run, State::is_final)).count();
        let running = taken.iter().filter(|run| is(run, |state| state == State::Running)).count();
        let mut counts =
            Counts { unrecorded, running, waiting: taken.len() - unrecorded - running, daemon: daemon.is_some() };
        if let Some(now) = daemon {
            compare(now, &taken, &mut found);
            counts.unrecorded = now.git.unrecorded;
            counts.running = now.runs.iter().filter(|run| run.status == State::Running).count();
            counts.waiting = now.runs.len() - counts.running;
        }
        Ok((found, counts))
    }

    fn is_recorded(&self, id: RunId) -> Result<bool, RepoError> {
        // History may have gone on since it was read.
        Ok(self.audit.recorded.contains(&id) || self.repo.is_recorded(id)?)
    }

    /// Runs with a folder that no commit has; what a take that did not happen has left does not count.
    fn taken(&self) -> Result<Vec<Taken>, Failure> {
        let failed =
            |error: &dyn std::fmt::Display| Failure::new(Exit::IO, Diagnostic::new("E0704", error.to_string()));
        let mut ids = self.runs.ids().map_err(|error| failed(&error))?;
        ids.sort_unstable();
        let mut taken = Vec::new();
        for id in ids {
            if self.runs.is_hollow(id) || self.is_recorded(id).map_err(|error| failed(&error))? {
                continue;
            }
            // A torn status is the restart's to mend.
            let status = self.runs.read_status(id).ok().flatten();
            taken.push(Taken { id, status: status.map(|status| (status.request, status.status)) });
        }
        Ok(taken)
    }

    /// Every request of the tip lies in the inbox or was taken from it.
    fn requests(&self, taken: &[Taken], found: &mut Vec<Breach>) -> Result<(), RepoError> {
        // Of another branch, the inbox holds other requests.
        if !matches!(self.repo.checkout_state()?, CheckoutState::OnBranch | CheckoutState::IndexLocked { .. }) {
            return Ok(());
        }
        for name in self.repo.committed_requests()?.into_iter().filter(|name| inbox::is_request(name)) {
            let shown = text::bytes(&name);
            let path =
                self.root.join("requests").join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&name));
            let is_taken = |run: &Taken| run.status.as_ref().is_none_or(|(request, _)| *request == shown);
            if path.symlink_metadata().is_ok() || taken.iter().any(is_taken) {
                continue;
            }
            let file = format!("requests/{shown}");
            let problem = Diagnostic::new(
                "E0549",
                format!("request `{shown}` is in the branch, and neither in the inbox nor taken"),
            )
            .at(Place { file: file.clone(), line: 0, col: 0, len: 0, snippet: None })
            .help(format!("git checkout -- '{file}'     puts it back; git rm '{file}'     withdraws it"));
            found.push(Breach::new("I1", problem));
        }
        Ok(())
    }

    /// Whatever the event streams tell of is somewhere.
    fn events(&self, taken: &[Taken], found: &mut Vec<Breach>) -> Result<(), RepoError> {
        let (mut accepted, mut finished) = (BTreeSet::new(), BTreeSet::new());
        // Where no daemon ever was, there are no streams.
        for file in journal::stream_files(&self.root.join("logs")).unwrap_or_default() {
            let Ok(entries) = journal::read_entries(&file) else { continue };
            for entry in entries {
                match entry.event {
                    Event::Accepted { run, .. } => accepted.insert(run.id),
                    Event::Finished { run, .. } => finished.insert(run.id),
                    _ => false,
                };
            }
        }
        for &id in accepted.union(&finished) {
            if self.audit.kept.contains(&id) || self.is_recorded(id)? {
                continue;
            }
            let (invariant, problem) = if finished.contains(&id) {
                let problem = Diagnostic::new(
                    "E0550",
                    format!("run `{id}` was announced as final, and no commit has its status"),
                );
                ("I1", problem.help("git reflog     shows where the branch was; other clones may have the commit"))
            } else if taken.iter().any(|run| run.id == id) {
                continue;
            } else {
                let problem = Diagnostic::new(
                    "E0551",
                    format!("run `{id}` was taken, and is neither recorded nor in `processed/`"),
                );
                (
                    "I8",
                    problem.help(format!("grep {id} logs/dispatcher.log     shows what it was; then ask for it again")),
                )
            };
            found.push(Breach::new(invariant, problem).of(id));
        }
        Ok(())
    }
}

fn snapshot(client: &mut Client) -> Result<Snapshot, Failure> {
    let body = ask::ask(client, Command::Status, Some(PATIENCE))?;
    serde_json::from_value(body).map_err(|error| {
        Failure::new(Exit::VERSIONS, Diagnostic::new("E0709", format!("failed to read the daemon's answer: {error}")))
    })
}

/// What the daemon counts is what lies in `processed/`.
fn compare(now: &Snapshot, taken: &[Taken], found: &mut Vec<Breach>) {
    let help = "dispatcher drain     then start it again: a restart finds what is in `processed/`";
    let known: BTreeSet<RunId> = now.runs.iter().map(|run| run.id).collect();
    for run in taken.iter().filter(|run| !known.contains(&run.id)) {
        if run.status.as_ref().is_some_and(|(_, state)| !state.is_final()) {
            let message = format!("run `{}` is in `processed/` and the daemon does not know it", run.id);
            found.push(Breach::new("I8", Diagnostic::new("E0552", message).help(help)).of(run.id));
        }
    }
    for &id in known.iter().filter(|id| !taken.iter().any(|run| run.id == **id)) {
        let message = format!("the daemon has run `{id}`, which is not in `processed/`");
        found.push(Breach::new("I8", Diagnostic::new("E0552", message).help(help)).of(id));
    }
    let finals = taken.iter().filter(|run| run.status.as_ref().is_some_and(|(_, state)| state.is_final())).count();
    if finals != now.git.unrecorded {
        let unrecorded = now.git.unrecorded;
        let message = format!(
            "the daemon is to record {unrecorded} runs, and `processed/` holds {finals} ended ones that no commit has"
        );
        found.push(Breach::new("I8", Diagnostic::new("E0552", message).help(help)));
    }
}
