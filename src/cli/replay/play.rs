//! Running one case: a fresh repository, one commit with the request, a daemon of this process until all is done.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::case::{Case, files_below};
use super::normal::Normal;
use crate::checkout;
use crate::cli::context::Context;
use crate::cli::scratch::Scratch;
use crate::cli::{Exit, Failure, init, serve};
use crate::config::Config;
use crate::daemon::{self, Options};
use crate::diagnostic::Diagnostic;
use crate::engine::ExitCode;
use crate::repo::{self, Identity, NewFile, Repo, Settings};
use crate::request::RunId;
use crate::status::Status;

/// More than any log of a case has, in bytes.
const LOG: u64 = 64 << 20;

/// What came out of a case, without what differs from run to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CameOut {
    pub log: String,
    pub status: String,
}

/// What all cases have in common.
pub(super) struct Ground {
    files: BTreeMap<String, NewFile>,
    config: Config,
    handlers: Vec<PathBuf>,
}

fn io(what: &'static str) -> impl Fn(std::io::Error) -> Failure {
    move |error| Failure::io(what, &error)
}

fn failed(problem: Diagnostic) -> Failure {
    Failure::new(Exit::IO, problem)
}

impl Ground {
    /// The handlers and schemas of the repository around the command, as they lie there. The host's configuration
    /// counts only where it is named on the command line, so that a case comes out the same everywhere.
    ///
    /// # Errors
    /// 78 outside a dispatch repository, 74 where its files cannot be read.
    pub fn of(context: &Context) -> Result<Self, Failure> {
        let root = context.root()?;
        let config = match &context.common.config {
            Some(_) => serve::config(context, &root)?,
            None => Config::default(),
        };
        let own = |file: &NewFile| file.path.starts_with("handlers/") || file.path.starts_with("schema/");
        let mut files: BTreeMap<String, NewFile> = BTreeMap::new();
        let mut add = |file: NewFile| files.insert(file.path.clone(), file);
        init::files().into_iter().filter(|file| !own(file)).for_each(|file| drop(add(file)));
        for folder in ["handlers", "schema"] {
            for file in files_below(&root.join(folder)).map_err(io("read the repository's handlers and schemas"))? {
                add(NewFile { path: format!("{folder}/{}", file.path), ..file });
            }
        }
        let config = Config { listen: None, lock_dir: None, workers: 1, ..config };
        Ok(Self { files, config, handlers: serve::handler_folders() })
    }

    /// Runs a case.
    ///
    /// # Errors
    /// The daemon's, where it does not start; 65 where the request became no run.
    pub fn play(&self, case: &Case) -> Result<CameOut, Failure> {
        let scratch = Scratch::new("dispatcher-case-")?;
        let root = scratch.path().join("ops");
        let identity = Identity { name: "Golden".to_owned(), email: "golden@example.org".to_owned() };
        let settings = Settings { identity, ..daemon::git_settings(&self.config) };
        let mut files = self.files.clone();
        files.extend(case.files.iter().map(|file| (file.path.clone(), file.clone())));
        let files: Vec<NewFile> = files.into_values().collect();
        let repo =
            repo::init(&root, settings, "The case's files", &files).map_err(|error| failed(error.diagnostic()))?;
        let request =
            NewFile { path: "requests/request.yml".to_owned(), bytes: case.request.clone(), executable: false };
        let added = repo.add_files("request: request.yml", &[request]).map_err(|error| failed(error.diagnostic()))?;
        added.map_err(|blocked| failed(blocked.diagnostic()))?;
        let before = runs(&root).map_err(io("read the case's runs"))?;
        let options = Options { handlers: self.handlers.clone(), ..scratch.options(&root, self.config.clone()) };
        let code = daemon::run(&options)?;
        let new: Vec<RunId> =
            runs(&root).map_err(io("read the case's runs"))?.into_iter().filter(|id| !before.contains(id)).collect();
        match (new.as_slice(), code) {
            (&[id], ExitCode::Done) => came_out(case, &scratch, &repo, &root, id),
            _ => Err(no_run(case, &new)),
        }
    }
}

fn no_run(case: &Case, new: &[RunId]) -> Failure {
    let problem = Diagnostic::new(
        "E0134",
        format!("the request of case `{}` became {} finished runs, and one is wanted", case.name, new.len()),
    );
    Failure::bad_data(vec![
        problem.help("a request with `not_before` in the future stays in the inbox, which no case can show"),
    ])
}

/// The runs that lie in a repository.
fn runs(root: &Path) -> std::io::Result<Vec<RunId>> {
    let entries = fs::read_dir(root.join("processed"))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// What was recorded of the run.
fn came_out(case: &Case, scratch: &Scratch, repo: &Repo, root: &Path, id: RunId) -> Result<CameOut, Failure> {
    let recorded = repo.status_of(id).map_err(|error| failed(error.diagnostic()))?.unwrap_or_default();
    let status: Status = serde_json::from_slice(&recorded)
        .map_err(|error| failed(Diagnostic::new("E0134", format!("the status of case `{}`: {error}", case.name))))?;
    let log = checkout::read(root, Path::new(status.log.as_deref().unwrap_or_default()), LOG)
        .map_err(io("read the case's log"))?;
    let normal = Normal::of(Some(&id.to_string()), &case.request, Some(scratch.path()));
    let status = normal.status(&recorded).unwrap_or_default();
    Ok(CameOut { log: normal.log(&String::from_utf8_lossy(&log)), status })
}
