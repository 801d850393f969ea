//! The walk over history: what each commit did to `requests/` and to the results of runs, compared with its first parent.
//! The trees of the commit before are kept, because it nearly always is the parent.

use std::collections::BTreeMap;

use git2::{Odb, Oid};

use super::super::error::{Doing, RepoError};
use super::super::open::Repo;
use super::super::tree;
use super::changes::{compare, find};
use crate::request::RunId;

/// What one commit did.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) commit: Oid,
    pub(super) parents: usize,
    /// As far as it decides: whose commit it is.
    pub(super) by: By,
    /// Requests that are not there any more.
    pub(super) removed: Vec<(Vec<u8>, Oid)>,
    /// Runs whose folder differs.
    pub(super) runs: Vec<RunChange>,
}

/// Whose commit it is, by its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// Results of runs.
    Executor,
    /// Old results on their way into the archive.
    Archive,
    /// Somebody else.
    Person,
}

/// What became of a run's folder.
#[derive(Debug)]
pub(super) struct RunChange {
    pub(super) id: RunId,
    pub(super) before: Option<Oid>,
    /// Its `status.json`.
    pub(super) after: Option<Oid>,
    /// Its `request.yml`, where it is new.
    pub(super) request: Option<Oid>,
    /// The status of a second dispatcher that came beside it.
    pub(super) other: Option<Oid>,
}

/// The two folders of a commit: their trees' ids and bytes.
#[derive(Clone, Default)]
struct Folders {
    requests: (Option<Oid>, Vec<u8>),
    processed: (Option<Oid>, Vec<u8>),
}

pub(super) fn bytes(odb: &Odb<'_>, oid: Oid) -> Result<Vec<u8>, RepoError> {
    odb.read(oid).map(|object| object.data().to_vec()).doing(&format!("read tree `{oid}`"))
}

impl Folders {
    fn of(odb: &Odb<'_>, root: Oid, near: &Self) -> Result<Self, RepoError> {
        let root = bytes(odb, root)?;
        let read = |name: &[u8], near: &(Option<Oid>, Vec<u8>)| -> Result<(Option<Oid>, Vec<u8>), RepoError> {
            let oid = find(&root, name, true)?;
            if oid == near.0 {
                return Ok(near.clone());
            }
            Ok((oid, oid.map_or_else(|| Ok(Vec::new()), |oid| bytes(odb, oid))?))
        };
        Ok(Self { requests: read(b"requests", &near.requests)?, processed: read(b"processed", &near.processed)? })
    }
}

impl Repo {
    /// Goes through these commits, parents first, and tells what each did.
    pub(super) fn walk(
        &self,
        order: &[Oid],
        each: &mut dyn FnMut(Step) -> Result<(), RepoError>,
    ) -> Result<(), RepoError> {
        let odb = self.odb()?;
        let mut last: Option<(Oid, Folders)> = None;
        for &oid in order {
            let commit = self.git.find_commit(oid).doing(&format!("read commit `{oid}`"))?;
            let parent = commit.parent_ids().next();
            let before = match (parent, last.take()) {
                (None, _) => Folders::default(),
                (Some(parent), Some((at, folders))) if at == parent => folders,
                (Some(parent), near) => {
                    let near = near.map(|(_, folders)| folders).unwrap_or_default();
                    Folders::of(&odb, tree::of_commit(&self.git, parent)?, &near)?
                }
            };
            let after = Folders::of(&odb, commit.tree_id(), &before)?;
            let by = match commit.message_raw_bytes() {
                subject if subject.starts_with(b"executor: ") => By::Executor,
                subject if subject.starts_with(b"archive: ") => By::Archive,
                _ => By::Person,
            };
            let step = Step {
                commit: oid,
                parents: commit.parent_count(),
                by,
                removed: removed(&before.requests.1, &after.requests.1)?,
                runs: runs(&odb, &before.processed.1, &after.processed.1)?,
            };
            each(step)?;
            last = Some((oid, after));
        }
        Ok(())
    }

    /// The status of every run in a commit.
    pub(super) fn results_of(&self, commit: Oid) -> Result<BTreeMap<RunId, Oid>, RepoError> {
        let odb = self.odb()?;
        let folders = Folders::of(&odb, tree::of_commit(&self.git, commit)?, &Folders::default())?;
        let runs = runs(&odb, &[], &folders.processed.1)?.into_iter();
        Ok(runs.filter_map(|run| Some((run.id, run.after?))).collect())
    }

    /// The statuses of every run in the archive, here and as the remote's was seen last.
    pub(super) fn archived_results(&self) -> Result<BTreeMap<RunId, Vec<Oid>>, RepoError> {
        let odb = self.odb()?;
        let names = [
            "refs/heads/dispatcher/archive".to_owned(),
            format!("refs/remotes/{}/dispatcher/archive", self.settings.remote),
        ];
        let mut roots = Vec::new();
        for name in names {
            if let Some(tip) = self.target(&name)? {
                roots.push(tree::of_commit(&self.git, tip)?);
            }
        }
        roots.dedup();
        let mut found: BTreeMap<RunId, Vec<Oid>> = BTreeMap::new();
        for root in roots {
            for day in days(&odb, root)? {
                for run in runs(&odb, &[], &bytes(&odb, day)?)? {
                    let known = found.entry(run.id).or_default();
                    known.extend(run.after.filter(|oid| !known.contains(oid)));
                }
            }
        }
        Ok(found)
    }
}

/// The trees of `<yyyy>/<mm>/<dd>`.
fn days(odb: &Odb<'_>, root: Oid) -> Result<Vec<Oid>, RepoError> {
    let mut level = vec![root];
    for _ in 0..3 {
        let mut below = Vec::new();
        for oid in level {
            let numbers = |line: &tree::Entry| line.mode == tree::FOLDER && line.name.iter().all(u8::is_ascii_digit);
            below.extend(tree::read(odb, oid)?.into_iter().filter(numbers).map(|line| line.oid));
        }
        level = below;
    }
    Ok(level)
}

fn removed(before: &[u8], after: &[u8]) -> Result<Vec<(Vec<u8>, Oid)>, RepoError> {
    let mut removed = Vec::new();
    compare(before, after, &mut |old, new| {
        // Other bytes under the same name are another request.
        if let (Some(old), None) = (old.filter(super::changes::Line::is_file), new) {
            removed.push((old.name.to_vec(), old.oid()));
        }
        Ok(())
    })?;
    // A name that no request can have is no request.
    removed.retain(|(name, _)| !name.starts_with(b"."));
    Ok(removed)
}

fn runs(odb: &Odb<'_>, before: &[u8], after: &[u8]) -> Result<Vec<RunChange>, RepoError> {
    let mut runs = Vec::new();
    compare(before, after, &mut |old, new| {
        let name = old.or(new).map(|line| line.name).unwrap_or_default();
        let Some(id) = std::str::from_utf8(name).ok().and_then(|name| name.parse::<RunId>().ok()) else {
            return Ok(());
        };
        // One id has one spelling; others are not the dispatcher's.
        if id.to_string().as_bytes() != name {
            return Ok(());
        }
        let folder = |line: Option<super::changes::Line<'_>>| {
            line.filter(super::changes::Line::is_folder).map_or_else(|| Ok(Vec::new()), |line| bytes(odb, line.oid()))
        };
        let (old, new) = (folder(old)?, folder(new)?);
        let file = |folder: &[u8], name: &[u8]| find(folder, name, false);
        let mut change = RunChange {
            id,
            before: file(&old, b"status.json")?,
            after: file(&new, b"status.json")?,
            request: file(&new, b"request.yml")?,
            other: None,
        };
        compare(&old, &new, &mut |_, new| {
            if let Some(other) = new.filter(|line| line.is_folder() && line.name.starts_with(b"other-")) {
                change.other = find(&bytes(odb, other.oid())?, b"status.json", false)?;
            }
            Ok(())
        })?;
        runs.push(change);
        Ok(())
    })?;
    Ok(runs)
}
