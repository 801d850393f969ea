//! The table of all kinds: the index, the folder scan and the schemas together. Pure over what the caller has read. Gives
//! a request its route, resource and time; refuses what cannot be run, one kind at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::index::{Index, Line};
use super::route::Route;
use super::scan::{self, Candidate, ExtraFolder, Folders, Found, HandlerFile};
use super::template::Template;
use crate::diagnostic::{Diagnostic, Rejection};
use crate::request::{Kind, Request, Resource};
use crate::schema::{Catalog, KindFacts, Schemas};

/// All kinds that can be asked for, read together from one commit or one working folder.
#[derive(Clone, Debug)]
pub struct Table {
    entries: BTreeMap<Kind, Entry>,
    schemas: Schemas,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    route: Arc<Route>,
    /// Why it cannot run.
    problem: Option<Diagnostic>,
}

/// What a request is run by.
#[derive(Clone, Debug, PartialEq)]
pub struct Routed {
    /// What the table says about its kind. A run keeps it when the table changes.
    pub route: Arc<Route>,
    /// What it locks.
    pub resource: Resource,
    /// Of one attempt: the handler's, or the request's where that is shorter.
    pub timeout: Duration,
}

impl Table {
    /// Puts the table together. `index` is `handlers/index.yml` where it exists, `listing` what is in `handlers/`,
    /// `extra` the folders of `DISPATCHER_HANDLERS` in their order.
    ///
    /// A handler that is missing or not executable does not break the table: its kind is known and rejected.
    ///
    /// # Errors
    /// All problems of the index; else every kind with a schema and several handlers.
    pub fn load(
        index: Option<&[u8]>,
        listing: &[HandlerFile],
        extra: &[ExtraFolder],
        schemas: Schemas,
    ) -> Result<Self, Vec<Diagnostic>> {
        let index = index.map_or_else(|| Ok(Index::default()), Index::read)?;
        let folders = Folders::new(listing, extra);
        let mut entries: BTreeMap<Kind, Entry> =
            index.lines.iter().map(|(kind, line)| (kind.clone(), entry(line, &folders))).collect();
        let candidates = folders
            .kinds(|path, kind| !schemas.has(kind) && index.lines.values().any(|line| line.route.file.path == path));
        let mut problems = Vec::new();
        for (kind, candidate) in candidates.into_iter().filter(|(kind, _)| !index.lines.contains_key(kind)) {
            let meant = schemas.has(&kind);
            let (file, problem) = match candidate {
                Candidate::One(file) => (file, None),
                Candidate::NotExecutable(file) if meant => {
                    let problem = scan::not_executable(&kind, &file);
                    (file, Some(problem))
                }
                Candidate::Several(files) if meant => {
                    problems.push(scan::several(&kind, &files));
                    continue;
                }
                Candidate::Several(mut files) => {
                    let problem = scan::several(&kind, &files);
                    (files.swap_remove(0), Some(problem))
                }
                Candidate::NotExecutable(_) => continue,
            };
            let route = Arc::new(index.scanned(kind.clone(), file));
            entries.insert(kind, Entry { route, problem });
        }
        if problems.is_empty() { Ok(Self { entries, schemas }) } else { Err(problems) }
    }

    /// The route, resource and time of a request that has passed its schema.
    ///
    /// # Errors
    /// 64 for an unknown kind, 78 where its handler cannot be run, 65 where its params give no resource.
    pub fn route(&self, request: &Request) -> Result<Routed, Rejection> {
        let kind = &request.kind;
        let entry = self
            .entries
            .get(kind)
            .ok_or_else(|| Rejection::one(64, Diagnostic::new("E0201", format!("unknown kind `{kind}`"))))?;
        if let Some(problem) = &entry.problem {
            return Err(Rejection::one(78, problem.clone()));
        }
        let route = Arc::clone(&entry.route);
        let resource = match (&route.resource, &request.resource) {
            (Some(template), _) => template.fill(request),
            (None, Some(resource)) => Ok(resource.clone()),
            (None, None) => Template::kind().fill(request),
        };
        let resource = resource.map_err(|error| {
            let mut problem = Diagnostic::new("E0205", error.to_string());
            problem.pointer = Some(error.pointer());
            Rejection::one(65, problem.note(format!("the resource of `{kind}` is made by handlers/index.yml")))
        })?;
        let timeout = request.timeout.map_or(route.timeout, |asked| asked.min(route.timeout));
        Ok(Routed { route, resource, timeout })
    }

    /// Every kind in order, and why it cannot run, where it cannot.
    pub fn entries(&self) -> impl Iterator<Item = (&Arc<Route>, Option<&Diagnostic>)> {
        self.entries.values().map(|entry| (&entry.route, entry.problem.as_ref()))
    }

    /// What the table says about a kind, runnable or not.
    #[must_use]
    pub fn get(&self, kind: &Kind) -> Option<&Arc<Route>> {
        self.entries.get(kind).map(|entry| &entry.route)
    }

    /// The schemas that were read with it.
    #[must_use]
    pub fn schemas(&self) -> &Schemas {
        &self.schemas
    }
}

impl Catalog for Table {
    fn kinds(&self) -> Vec<String> {
        self.entries.keys().map(ToString::to_string).collect()
    }

    fn facts(&self, kind: &Kind) -> Option<KindFacts> {
        let route = self.get(kind)?;
        Some(KindFacts { takes_resource: route.resource.is_none(), dry_run: route.dry_run })
    }
}

fn entry(line: &Line, folders: &Folders<'_>) -> Entry {
    let mut route = line.route.clone();
    let problem = match folders.find(&route.file.path) {
        Some(Found::Executable(file)) => {
            route.file = file;
            None
        }
        Some(Found::NotExecutable(file)) => {
            route.file = file;
            Some(scan::not_executable(&route.kind, &route.file))
        }
        None => Some(scan::missing(&route.kind, &route.file)),
    };
    Entry { problem: problem.map(|problem| problem.at(line.place.clone())), route: Arc::new(route) }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
