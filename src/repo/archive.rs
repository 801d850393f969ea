//! The archive branch (CONTRACT section 1), read: where a run lies that is not on the branch any more. Owns the layout
//! `<yyyy>/<mm>/<dd>/<id>/…` and the way from an id to its day. Changes nothing.
//!
//! A run's day is that of its `finished_at`, which its id does not tell: a UUIDv7 carries when it was made, so its day
//! is that one or a later one; an id of a person's own may be anything. So days are looked through in the likeliest
//! order, and what was read of a day is kept until its tree changes.

use std::cell::{OnceCell, RefCell};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;

use git2::{Odb, Oid, Repository};

use super::error::{Doing, RepoError};
use super::library;
use super::open::Repo;
use super::tree;
use crate::request::RunId;

/// Never checked out.
pub(super) const BRANCH: &str = "dispatcher/archive";

/// A run in the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    /// The run.
    pub id: RunId,
    /// `<yyyy>/<mm>/<dd>`.
    pub day: String,
    /// The tree of its files.
    tree: Oid,
}

/// Which runs lie where, as far as it was read.
#[derive(Default)]
pub(super) struct Days {
    roots: Vec<Oid>,
    /// By day and the day's tree, of which there are two where two archives differ.
    days: BTreeMap<(String, Oid), OnceCell<Vec<RunId>>>,
}

impl Days {
    /// Brings the list of days up to the trees `roots`; days that did not change keep what was read of them.
    fn refresh(&mut self, odb: &Odb<'_>, roots: &[Oid]) -> Result<(), RepoError> {
        if self.roots == roots {
            return Ok(());
        }
        let mut now = BTreeMap::new();
        for root in roots {
            for (year, tree) in folders(odb, *root)?.filter(is_number) {
                for (month, tree) in folders(odb, tree)?.filter(is_number) {
                    for (day, tree) in folders(odb, tree)?.filter(is_number) {
                        let key = (format!("{year}/{month}/{day}"), tree);
                        let known = self.days.remove(&key).unwrap_or_default();
                        now.entry(key).or_insert(known);
                    }
                }
            }
        }
        (self.roots, self.days) = (roots.to_vec(), now);
        Ok(())
    }

    fn ids<'a>(odb: &Odb<'_>, tree: Oid, cell: &'a OnceCell<Vec<RunId>>) -> Result<&'a [RunId], RepoError> {
        if let Some(ids) = cell.get() {
            return Ok(ids);
        }
        let mut ids: Vec<RunId> = folders(odb, tree)?.filter_map(|(name, _)| name.parse().ok()).collect();
        ids.sort_unstable();
        Ok(cell.get_or_init(|| ids))
    }

    /// The day and the day's tree of a run.
    fn find(&self, odb: &Odb<'_>, id: RunId) -> Result<Option<(String, Oid)>, RepoError> {
        let made = id.made().map(|at| at.day()).unwrap_or_default();
        let (earlier, later): (Vec<_>, Vec<_>) = self.days.iter().partition(|((day, _), _)| *day < made);
        for ((day, tree), cell) in later.into_iter().chain(earlier.into_iter().rev()) {
            if Self::ids(odb, *tree, cell)?.binary_search(&id).is_ok() {
                return Ok(Some((day.clone(), *tree)));
            }
        }
        Ok(None)
    }
}

/// The folders of a tree whose names are text.
fn folders(odb: &Odb<'_>, oid: Oid) -> Result<impl Iterator<Item = (String, Oid)> + use<>, RepoError> {
    let entries = tree::read(odb, oid)?.into_iter().filter(|e| e.mode == tree::FOLDER && tree::is_fit(&e.name));
    Ok(entries.filter_map(|e| Some((String::from_utf8(e.name).ok()?, e.oid))))
}

/// A year, a month or a day; anybody may push other names.
fn is_number(folder: &(String, Oid)) -> bool {
    matches!(folder.0.len(), 2 | 4) && folder.0.bytes().all(|b| b.is_ascii_digit())
}

/// The archive of a repository, for whoever only reads: the local one, and the remote's as it was last fetched.
pub struct Archive {
    git: Repository,
    remote: String,
    days: RefCell<Days>,
}

impl Archive {
    /// The archive of the repository at `root`, which may be empty.
    ///
    /// # Errors
    /// There is no repository that can be read.
    pub fn open(root: &Path, remote: &str) -> Result<Self, RepoError> {
        library::prepare()?;
        let git = Repository::open(root).doing_to("open", root)?;
        Ok(Self { git, remote: remote.to_owned(), days: RefCell::default() })
    }

    fn look<T>(&self, work: impl FnOnce(&Days, &Odb<'_>) -> Result<T, RepoError>) -> Result<T, RepoError> {
        looked(&self.git, &self.remote, &self.days, work)
    }

    /// Where a run lies; `None` where it is not in the archive.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub fn find(&self, id: RunId) -> Result<Option<Archived>, RepoError> {
        self.look(|days, odb| located(days, odb, id))
    }

    /// The days that hold runs, newest first.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub fn days(&self) -> Result<Vec<String>, RepoError> {
        let mut days = self.look(|days, _| Ok(days.days.keys().map(|(day, _)| day.clone()).collect::<Vec<_>>()))?;
        days.dedup();
        days.reverse();
        Ok(days)
    }

    /// The runs of a day, newest first by id.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub fn runs_of(&self, day: &str) -> Result<Vec<Archived>, RepoError> {
        self.look(|days, odb| {
            let mut found: BTreeMap<Reverse<RunId>, Archived> = BTreeMap::new();
            for ((name, tree), _) in days.days.iter().filter(|((name, _), _)| name == day) {
                for (id, tree) in folders(odb, *tree)? {
                    let Ok(id) = id.parse() else { continue };
                    found.entry(Reverse(id)).or_insert_with(|| Archived { id, day: name.clone(), tree });
                }
            }
            Ok(found.into_values().collect())
        })
    }

    /// Every id in the archive, newest day first.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub fn ids(&self) -> Result<Vec<RunId>, RepoError> {
        self.look(|days, odb| {
            let mut all = Vec::new();
            for ((_, tree), cell) in days.days.iter().rev() {
                all.extend_from_slice(Days::ids(odb, *tree, cell)?);
            }
            Ok(all)
        })
    }

    /// The bytes of a file of a run, by its name in the run's folder; `None` where it has no such file, or a larger one
    /// than `most` bytes.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub fn file(&self, run: &Archived, name: &str, most: u64) -> Result<Option<Vec<u8>>, RepoError> {
        file_of(&self.git, run, name, most)
    }

    /// Where a person finds the run's files, as git names it.
    ///
    /// # Errors
    /// The refs cannot be read.
    pub fn path(&self, run: &Archived) -> Result<String, RepoError> {
        let local = self.git.find_reference(&local_ref()).is_ok();
        let branch = if local { BRANCH.to_owned() } else { format!("{}/{BRANCH}", self.remote) };
        Ok(format!("{branch}:{}/{}", run.day, run.id))
    }
}

impl Repo {
    fn look_into_archive<T>(&self, work: impl FnOnce(&Days, &Odb<'_>) -> Result<T, RepoError>) -> Result<T, RepoError> {
        looked(&self.git, &self.settings.remote, &self.days, work)
    }

    /// Where an archived run lies; `None` where it is not in the archive.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub fn archived(&self, id: RunId) -> Result<Option<Archived>, RepoError> {
        self.look_into_archive(|days, odb| located(days, odb, id))
    }

    /// The bytes of a file of an archived run.
    ///
    /// # Errors
    /// The archive cannot be read.
    pub fn archived_file(&self, run: &Archived, name: &str) -> Result<Option<Vec<u8>>, RepoError> {
        file_of(&self.git, run, name, u64::MAX)
    }
}

pub(super) fn local_ref() -> String {
    format!("refs/heads/{BRANCH}")
}

pub(super) fn tracking_ref(remote: &str) -> String {
    format!("refs/remotes/{remote}/{BRANCH}")
}

/// Works with the days of the local archive and of the remote's as they are now.
fn looked<T>(
    git: &Repository,
    remote: &str,
    days: &RefCell<Days>,
    work: impl FnOnce(&Days, &Odb<'_>) -> Result<T, RepoError>,
) -> Result<T, RepoError> {
    let odb = git.odb().doing("open the object database")?;
    let mut roots = Vec::new();
    for name in [local_ref(), tracking_ref(remote)] {
        let tip = git.find_reference(&name).ok().and_then(|found| found.target());
        if let Some(tip) = tip {
            let root = tree::of_commit(git, tip)?;
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
    }
    days.borrow_mut().refresh(&odb, &roots)?;
    work(&days.borrow(), &odb)
}

fn located(days: &Days, odb: &Odb<'_>, id: RunId) -> Result<Option<Archived>, RepoError> {
    let Some((day, tree)) = days.find(odb, id)? else { return Ok(None) };
    let leaf = tree::find(odb, tree, id.to_string().as_bytes())?;
    Ok(leaf.map(|leaf| Archived { id, day, tree: leaf.oid }))
}

fn file_of(git: &Repository, run: &Archived, name: &str, most: u64) -> Result<Option<Vec<u8>>, RepoError> {
    let odb = git.odb().doing("open the object database")?;
    let leaf = tree::find(&odb, run.tree, name.as_bytes())?;
    let regular = |l: &tree::Leaf| !matches!(l.mode, tree::FOLDER | tree::SUBMODULE | tree::SYMLINK);
    let Some(leaf) = leaf.filter(regular) else { return Ok(None) };
    let (size, _) = odb.read_header(leaf.oid).doing(&format!("read blob `{}`", leaf.oid))?;
    if size as u64 > most {
        return Ok(None);
    }
    odb.read(leaf.oid).map(|object| Some(object.data().to_vec())).doing(&format!("read blob `{}`", leaf.oid))
}
