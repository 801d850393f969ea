//! Which run is meant: an id, a part of one, `@`, `@running`, `@failed`, or a request's file name.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use crate::checkout;
use crate::cli::context::Context;
use crate::cli::{Exit, Failure, serve};
use crate::diagnostic::{Diagnostic, Place};
use crate::quantity::round_duration;
use crate::repo::{Archive, Archived};
use crate::request::RunId;
use crate::status::{State, Status};
use crate::text;
use crate::time::Time;

/// The runs of a repository: those that lie in the checkout, read from its files, and behind them the archive.
pub struct Shelf {
    root: PathBuf,
    /// Whose archive is looked into; `None` for the checkout alone.
    remote: Option<String>,
    archive: OnceCell<Option<Archive>>,
}

impl Shelf {
    /// The runs in the checkout at `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), remote: None, archive: OnceCell::new() }
    }

    /// The runs in the checkout at `root` and in the archive.
    #[must_use]
    pub fn whole(context: &Context, root: &Path) -> Self {
        // Looking at runs needs no configuration: where it is broken other verbs say so.
        let remote = serve::config(context, root).map_or_else(|_| "origin".to_owned(), |config| config.remote);
        Self { remote: Some(remote), ..Self::new(root) }
    }

    /// Opened when something is not in the checkout. Where it cannot be read there are no more runs than there.
    fn archive(&self) -> Option<&Archive> {
        let remote = self.remote.as_ref()?;
        self.archive.get_or_init(|| Archive::open(&self.root, remote).ok()).as_ref()
    }

    fn archived(&self, id: RunId) -> Option<(&Archive, Archived)> {
        let archive = self.archive()?;
        Some((archive, archive.find(id).ok().flatten()?))
    }

    /// The status of one run; `None` where there is none that can be read.
    #[must_use]
    pub fn status(&self, id: RunId) -> Option<Status> {
        self.read(id).ok()
    }

    fn read(&self, id: RunId) -> io::Result<Status> {
        status_in(&self.file(id, "status.json", checkout::STATUS)?, id)
    }

    /// A file of a run by its name in the run's folder.
    ///
    /// # Errors
    /// Where it is missing, is no regular file or has more than `most` bytes.
    pub fn file(&self, id: RunId, name: &str, most: u64) -> io::Result<Vec<u8>> {
        let read = checkout::read(&self.root, &PathBuf::from(format!("processed/{id}/{name}")), most);
        self.or_archived(read, id, name, most)
    }

    /// The log of a run.
    ///
    /// # Errors
    /// Where there is none, or none that may be read.
    pub fn log(&self, id: RunId) -> io::Result<File> {
        let name = format!("{id}.log");
        let opened = checkout::open(&self.root, &Path::new("logs").join(&name));
        if !opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return opened;
        }
        let bytes = self.or_archived(opened.map(|_| Vec::new()), id, &name, u64::MAX)?;
        let mut file = tempfile::tempfile()?;
        file.write_all(&bytes)?;
        file.rewind()?;
        Ok(file)
    }

    fn or_archived(&self, read: io::Result<Vec<u8>>, id: RunId, name: &str, most: u64) -> io::Result<Vec<u8>> {
        let Err(missing) = &read else { return read };
        if missing.kind() != io::ErrorKind::NotFound {
            return read;
        }
        let Some((archive, run)) = self.archived(id) else { return read };
        archive.file(&run, name, most).map_err(io::Error::other)?.map_or(read, Ok)
    }

    /// Where a person finds the files of a run: in the checkout, or as git names it.
    #[must_use]
    pub fn place(&self, id: RunId) -> String {
        let path = format!("processed/{id}");
        if self.root.join(&path).is_dir() {
            return path;
        }
        self.archived(id).and_then(|(archive, run)| archive.path(&run).ok()).unwrap_or(path)
    }

    /// The ids of all runs, in no order.
    pub fn ids(&self) -> impl Iterator<Item = RunId> {
        checkout::run_ids(&self.root)
    }

    /// Every run, newest first.
    #[must_use]
    pub fn all(&self) -> Vec<Status> {
        let mut all: Vec<Status> = self.ids().filter_map(|id| self.status(id)).collect();
        all.sort_by_key(|status| std::cmp::Reverse((status.queued_at, status.id)));
        all
    }

    /// The archived runs that do not lie in the checkout too, newest first, each read when it is asked for.
    pub fn older(&self) -> impl Iterator<Item = Status> {
        let here: HashSet<RunId> = self.ids().collect();
        let archive = self.archive();
        let days = archive.and_then(|archive| archive.days().ok()).unwrap_or_default();
        days.into_iter().zip(std::iter::repeat(archive)).flat_map(move |(day, archive)| {
            let runs = archive.and_then(|archive| Some((archive, archive.runs_of(&day).ok()?)));
            let statuses = runs.into_iter().flat_map(|(archive, runs)| runs.into_iter().map(move |run| (archive, run)));
            let mut statuses: Vec<Status> = statuses
                .filter(|(_, run)| !here.contains(&run.id))
                .filter_map(|(archive, run)| {
                    let bytes = archive.file(&run, "status.json", checkout::STATUS).ok().flatten()?;
                    status_in(&bytes, run.id).ok()
                })
                .collect();
            statuses.sort_by_key(|status| std::cmp::Reverse((status.queued_at, status.id)));
            statuses
        })
    }

    /// The ids of the archived runs that do not lie in the checkout too.
    #[must_use]
    pub fn older_ids(&self) -> Vec<RunId> {
        let here: HashSet<RunId> = self.ids().collect();
        let ids = self.archive().and_then(|archive| archive.ids().ok()).unwrap_or_default();
        ids.into_iter().filter(|id| !here.contains(id)).collect()
    }

    /// The one run that `what` means.
    ///
    /// # Errors
    /// 66 where it means none or several.
    pub fn find(&self, what: &str) -> Result<Status, Failure> {
        if let Ok(id) = what.parse() {
            match self.read(id) {
                Ok(status) => return Ok(status),
                // It may be the name of a request.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(unreadable(id, &error)),
            }
        }
        let all = self.all();
        let first = |wanted: &dyn Fn(&Status) -> bool| all.iter().find(|status| wanted(status)).cloned();
        let named = match what {
            "@" => first(&|_| true),
            "@running" => first(&|s| s.status == State::Running),
            "@failed" => first(&|s| bad(s.status)),
            name => first(&|s| s.request == name || s.request == format!("{name}.yml")),
        };
        if let Some(status) = named {
            return Ok(status);
        }
        let part = what.to_ascii_lowercase();
        if part.len() >= 4 && !what.starts_with('@') {
            let mut hits: Vec<Status> = all.iter().filter(|s| is_part(&s.id, &part)).cloned().collect();
            let older = self.older_ids().into_iter().filter(|id| is_part(id, &part));
            hits.extend(older.filter_map(|id| self.status(id)));
            match hits.as_slice() {
                [] => {}
                [one] => return Ok(one.clone()),
                several => return Err(ambiguous(what, several)),
            }
        }
        let older = match what {
            "@" => self.older().next(),
            "@failed" => self.older().find(|s| bad(s.status)),
            // What runs is not archived.
            what if what.starts_with('@') => None,
            name => self.older().find(|s| s.request == name || s.request == format!("{name}.yml")),
        };
        older.ok_or_else(|| self.none(what, &all))
    }

    fn none(&self, what: &str, all: &[Status]) -> Failure {
        let shown = text::line(what);
        let place = self.root.join("processed");
        let problem = match (what, all.len()) {
            (_, 0) => Diagnostic::new("E0102", format!("no run is meant by `{shown}`: there are no runs yet"))
                .note(format!("looked for in {}", place.display()))
                .help("dispatcher submit KIND     asks for one; git pull     gets those of others"),
            ("@running", _) => Diagnostic::new("E0102", "no run is meant by `@running`: none is running")
                .help("dispatcher status     says what waits, and why"),
            ("@failed", _) => Diagnostic::new("E0102", "no run is meant by `@failed`: none has failed")
                .help("dispatcher list     shows all"),
            (_, several) => {
                let problem = Diagnostic::new("E0102", format!("no run is called `{shown}`"))
                    .note(format!("looked at {several} in {}", place.display()));
                let near = text::nearest(what, all.iter().map(|status| status.request.as_str()));
                let problem = match near {
                    Some(near) => problem.help(format!("did you mean `{}`?", text::line(near))),
                    None => problem,
                };
                problem.help("dispatcher list     a run is an id, 4 or more characters from either end of one, `@`, `@running`, `@failed`, or a request's file name")
            }
        };
        Failure::new(Exit::NO_INPUT, problem)
    }
}

/// Ended otherwise than well.
#[must_use]
pub fn bad(state: State) -> bool {
    state.is_final() && !matches!(state, State::Succeeded | State::Duplicate)
}

fn is_part(id: &RunId, part: &str) -> bool {
    let full = id.to_string();
    let bare = full.replace('-', "");
    full.starts_with(part) || full.ends_with(part) || bare.starts_with(part) || bare.ends_with(part)
}

fn status_in(bytes: &[u8], id: RunId) -> io::Result<Status> {
    let status: Status = serde_json::from_slice(bytes)?;
    if status.id == id { Ok(status) } else { Err(io::Error::other("it is the status of another run")) }
}

fn inner(id: RunId) -> PathBuf {
    PathBuf::from(format!("processed/{id}/status.json"))
}

fn unreadable(id: RunId, error: &io::Error) -> Failure {
    let file = inner(id).display().to_string();
    let problem = Diagnostic::new("E0150", format!("the status of run `{}` cannot be read: {error}", id.short()))
        .help(format!("git log -- {file}     shows who wrote it"))
        .at(Place { file, line: 0, col: 0, len: 0, snippet: None });
    Failure::new(Exit::NO_INPUT, problem)
}

fn ambiguous(what: &str, hits: &[Status]) -> Failure {
    let mut problem = Diagnostic::new("E0103", format!("run `{}` is ambiguous", text::line(what)));
    for status in hits.iter().take(8) {
        let kind = status.kind.as_ref().map_or("-", |kind| kind.as_str());
        problem = problem.note(format!("{}  {kind}  {}", status.id, status.status.word()));
    }
    let longer = hits.iter().take(2).map(|s| s.id.short()).collect::<Vec<_>>().join(" or ");
    Failure::new(Exit::NO_INPUT, problem.help(format!("give more characters, such as {longer}")))
}

/// How long ago, as people read it.
#[must_use]
pub fn ago(now: Time, then: Time) -> String {
    format!("{} ago", round_duration(std::time::Duration::from_secs(now.since(then).as_secs())))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::status::RequestedBy;

    fn shelf() -> (tempfile::TempDir, Shelf, Vec<RunId>) {
        let dir = tempfile::tempdir().unwrap();
        let mut ids = Vec::new();
        for (n, state) in [State::Succeeded, State::Failed, State::Running].into_iter().enumerate() {
            let n = u8::try_from(n).unwrap();
            let time = Time::from_millis(1_763_900_000_000 + i64::from(n));
            let id = RunId::new(time, [n; 10]);
            let mut status = Status::taken(id, format!("r{n}.yml"), time, "h".into(), RequestedBy::default());
            status.status = state;
            let folder = dir.path().join("processed").join(id.to_string());
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("status.json"), status.to_bytes()).unwrap();
            ids.push(id);
        }
        let shelf = Shelf::new(dir.path());
        (dir, shelf, ids)
    }

    #[test]
    fn what_is_not_found_leads_on() {
        let (_dir, shelf, _) = shelf();
        let nothing = tempfile::tempdir().unwrap();
        let empty = Shelf::new(nothing.path());
        for (shelf, what, part) in [
            (&shelf, "r11.yml", "did you mean `r1.yml`?"),
            (&shelf, "@nobody", "looked at 3 in"),
            (&empty, "@", "no run is meant by `@`: there are no runs yet"),
            (&empty, "x.yml", "dispatcher submit KIND"),
            (&empty, "@running", "there are no runs yet"),
        ] {
            let failure = shelf.find(what).unwrap_err();
            assert!(failure.render().contains(part), "{what}: {}", failure.render());
        }
    }

    #[test]
    fn a_status_is_read_from_its_own_folder_alone() {
        let (dir, shelf, ids) = shelf();
        let path = |id: RunId| dir.path().join(format!("processed/{id}/status.json"));
        fs::remove_file(path(ids[0])).unwrap();
        std::os::unix::fs::symlink("/dev/zero", path(ids[0])).unwrap();
        fs::copy(path(ids[2]), path(ids[1])).unwrap();
        let all: Vec<RunId> = shelf.all().iter().map(|status| status.id).collect();
        assert_eq!(all, [ids[2]], "a link, and another run's status");
    }

    #[test]
    fn every_way_to_name_a_run() {
        let (_dir, shelf, ids) = shelf();
        for (what, at) in [
            (ids[0].to_string(), 0),
            (ids[1].short(), 1),
            (ids[1].short()[4..].to_owned(), 1),
            ("@".into(), 2),
            ("@running".into(), 2),
            ("@failed".into(), 1),
            ("r0.yml".into(), 0),
            ("r0".into(), 0),
        ] {
            assert_eq!(shelf.find(&what).unwrap().id, ids[at], "{what}");
        }
        for (what, code) in
            [("zzzz", "E0102"), ("@nobody", "E0102"), (&ids[0].to_string()[..8], "E0103"), ("02", "E0102")]
        {
            let failure = shelf.find(what).unwrap_err();
            assert_eq!((failure.problems[0].code, failure.exit), (code, Exit::NO_INPUT), "{what}");
        }
    }
}
