//! One line per run: the final status that was recorded first, and what became of it. Owns the judgement of I1 and I2.

use std::collections::BTreeMap;

use git2::Oid;
use serde::Deserialize;

use super::super::error::{Doing, RepoError};
use super::super::open::Repo;
use super::walk::{By, RunChange, Step};
use super::{Audit, Breach};
use crate::diagnostic::{Diagnostic, Place};
use crate::request::RunId;
use crate::status::State;
use crate::text;

/// What of a status counts here; an older or newer version of the format may have more.
#[derive(Deserialize)]
struct Brief {
    id: String,
    request: String,
    status: State,
    rc: Option<i32>,
    finished_at: Option<String>,
}

/// A run with a final status.
struct Line {
    status: Oid,
    /// The commit that brought it.
    brought: Oid,
    /// The newest commit that has another one.
    changed: Option<Oid>,
    /// The newest commit that took it away, and whose that is.
    removed: Option<(Oid, By)>,
}

/// All runs of history.
#[derive(Default)]
pub(super) struct Ledger {
    runs: BTreeMap<RunId, Line>,
    /// Statuses that say that their run goes on, where no final one has come since.
    open: BTreeMap<RunId, Oid>,
    breaches: Vec<Breach>,
}

/// The file of a run that a breach is about.
fn at_status(problem: Diagnostic, id: RunId) -> Diagnostic {
    at(problem, format!("processed/{id}/status.json"))
}

fn at(problem: Diagnostic, file: String) -> Diagnostic {
    problem.at(Place { file, line: 0, col: 0, len: 0, snippet: None })
}

impl Ledger {
    pub(super) fn knows(&self, id: RunId) -> bool {
        self.runs.contains_key(&id)
    }

    /// Enters what a commit did.
    pub(super) fn enter(&mut self, repo: &Repo, step: Step) -> Result<(), RepoError> {
        if step.by != By::Person && step.parents > 1 {
            let problem = Diagnostic::new(
                "E0548",
                format!("{} is a merge commit of the dispatcher's", repo.headline(step.commit)),
            )
            .note("results are replayed on top of the remote, never merged")
            .help(format!("git show {}     shows who made it", step.commit));
            self.breaches.push(Breach::new("I7", problem).by(step.commit));
        }
        let mut results = Vec::new();
        for run in &step.runs {
            let brief = self.enter_run(repo, &step, run)?;
            results.extend(brief.map(|brief| (brief.request, run.request)));
            let other = run.other.map(|oid| brief_of(repo, oid)).transpose()?.flatten();
            results.extend(other.map(|brief| (brief.request, None)));
        }
        // Whoever else removes a request withdraws it; a merge brings what others did.
        if step.by != By::Person && step.parents <= 1 {
            self.account(repo, &step, &results);
        }
        Ok(())
    }

    /// Every request that a commit of ours removed has a result in it: one that names it, and holds its bytes where it
    /// holds any. A status that was torn does not know the name.
    fn account(&mut self, repo: &Repo, step: &Step, results: &[(String, Option<Oid>)]) {
        for (name, oid) in &step.removed {
            let shown = text::bytes(name);
            let is_its = |(request, bytes): &(String, Option<Oid>)| match bytes {
                Some(bytes) => bytes == oid && (*request == shown || request == "?"),
                None => *request == shown,
            };
            if results.iter().any(is_its) {
                continue;
            }
            let message =
                format!("request `{shown}` left the inbox with a commit of the dispatcher's and has no status");
            let problem = at(Diagnostic::new("E0544", message), format!("requests/{shown}"))
                .note(format!("removed in {}", repo.headline(step.commit)))
                .help(format!("git checkout {}^ -- 'requests/{shown}'     asks for it again", step.commit));
            self.breaches.push(Breach::new("I1", problem).by(step.commit));
        }
    }

    /// The status that a commit brought, where it brought one.
    fn enter_run(&mut self, repo: &Repo, step: &Step, run: &RunChange) -> Result<Option<Brief>, RepoError> {
        if run.before == run.after {
            return Ok(None);
        }
        let Some(status) = run.after else {
            if let Some(line) = self.runs.get_mut(&run.id) {
                line.removed = Some((step.commit, step.by));
            }
            return Ok(None);
        };
        let brief = brief_of(repo, status)?;
        if let Some(line) = self.runs.get_mut(&run.id) {
            if line.status != status {
                line.changed = Some(step.commit);
            }
            return Ok(brief);
        }
        let is_final = brief.as_ref().is_some_and(|brief| {
            let done = brief.status.is_final() && brief.rc.is_some() && brief.finished_at.is_some();
            done && brief.id == run.id.to_string()
        });
        if is_final {
            self.open.remove(&run.id);
            self.runs.insert(run.id, Line { status, brought: step.commit, changed: None, removed: None });
        } else {
            self.open.insert(run.id, step.commit);
        }
        Ok(brief)
    }

    /// Compares with what is there now.
    pub(super) fn close(
        self,
        repo: &Repo,
        now: &BTreeMap<RunId, Oid>,
        archive: &BTreeMap<RunId, Vec<Oid>>,
        audit: &mut Audit,
    ) -> Result<(), RepoError> {
        let Self { runs, open, breaches } = self;
        audit.breaches.extend(breaches);
        for (id, commit) in open {
            let problem = Diagnostic::new("E0543", format!("run `{id}` is recorded without a final status of its own"));
            let problem = at_status(problem, id)
                .note(format!("recorded in {}", repo.headline(commit)))
                .help(format!("git show {commit}:processed/{id}/status.json"));
            audit.breaches.push(Breach::new("I1", problem).of(id).by(commit));
        }
        for (id, line) in runs {
            let archived = archive.get(&id).map_or(&[][..], Vec::as_slice);
            let mut there = now.get(&id).into_iter().chain(archived).peekable();
            if there.peek().is_none() {
                audit.breaches.push(gone(repo, id, &line));
            } else if there.any(|status| *status != line.status) {
                audit.breaches.push(changed(repo, id, &line, now.get(&id).is_none_or(|status| *status == line.status)));
            } else if let Some(commit) = line.changed {
                let by = repo.headline(commit);
                audit.notes.push(format!("the status of run `{id}` was changed and put back, last in {by}"));
            }
            audit.recorded.insert(id);
        }
        let strangers = archive.keys().filter(|id| !audit.recorded.contains(id)).count();
        if strangers > 0 {
            audit.notes.push(format!("the archive has {strangers} runs that no commit of the branch ever had"));
        }
        Ok(())
    }
}

/// A status that cannot be read as one is `None`.
fn brief_of(repo: &Repo, oid: Oid) -> Result<Option<Brief>, RepoError> {
    let blob = repo.git.find_blob(oid).doing(&format!("read blob `{oid}`"))?;
    Ok(serde_json::from_slice(blob.content()).ok())
}

fn gone(repo: &Repo, id: RunId, line: &Line) -> Breach {
    let brought = line.brought;
    let problem = Diagnostic::new("E0553", format!("the final status of run `{id}` is gone"));
    let mut problem = at_status(problem, id).note(format!("recorded in {}", repo.headline(brought)));
    if let Some((commit, by)) = line.removed {
        let archive = if by == By::Archive { ", and the archive does not have it" } else { "" };
        problem = problem.note(format!("removed in {}{archive}", repo.headline(commit)));
    }
    let problem = problem.help(format!(
        "git checkout {brought} -- processed/{id} logs/{id}.log logs/{id}.jsonl     brings it back, then commit"
    ));
    let breach = Breach::new("I1", problem).of(id);
    match line.removed {
        Some((commit, _)) => breach.by(commit),
        None => breach,
    }
}

fn changed(repo: &Repo, id: RunId, line: &Line, in_archive: bool) -> Breach {
    let brought = line.brought;
    let problem = Diagnostic::new("E0542", format!("the final status of run `{id}` was changed after it was recorded"));
    let mut problem = at_status(problem, id).note(format!("recorded in {}", repo.headline(brought)));
    if in_archive {
        problem = problem.note("the archive has another one");
    }
    match line.changed {
        Some(commit) => {
            let problem = problem
                .note(format!("changed in {}", repo.headline(commit)))
                .help(format!("git diff {brought} {commit} -- processed/{id}/status.json     shows how"))
                .help(format!("git checkout {brought} -- processed/{id}/status.json     puts it back, then commit"));
            Breach::new("I2", problem).of(id).by(commit)
        }
        None => {
            let problem =
                problem.help(format!("git show {brought}:processed/{id}/status.json     is the one that counts"));
            Breach::new("I2", problem).of(id)
        }
    }
}
