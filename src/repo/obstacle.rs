//! What is in the way of moving the checkout. Owns the rule (CONTRACT section 7): nothing that a person edited or staged
//! is overwritten, and no path is followed through a symbolic link.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use git2::{Index, ObjectType, Oid};

use super::checkout::{CheckoutState, REMOVE_LOCK};
use super::index::{Held, as_path, entry_of, is_sparse};
use super::integrate::TakenPath;
use super::open::Repo;
use super::tree::{self, Change, Leaf};
use crate::diagnostic::Diagnostic;
use crate::text;

/// The checkout cannot follow the branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    /// What is in the way, escaped, at most 20 of them; empty where it is no path.
    pub paths: Vec<String>,
    /// Why.
    pub why: Why,
}

/// Why a checkout cannot follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Not on the branch, or another git command is at work.
    Checkout(CheckoutState),
    /// Files that were edited, staged, deleted or put in the way.
    Edited,
    /// A person's own commits here, and others there. The paths are the commits here.
    OwnCommits,
    /// Folders that the dispatcher works in would become files or links.
    NotFolders,
}

/// What is always a folder. Behind a link of this name everything would be read and written somewhere else.
const FOLDERS: [&[u8]; 5] = [b"handlers", b"logs", b"processed", b"requests", b"schema"];

impl Blocked {
    /// The obstacle as people read it.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        let paths = self.paths.iter().map(|p| format!("`{p}`")).collect::<Vec<_>>().join(", ");
        let (message, help) = match &self.why {
            Why::Checkout(CheckoutState::Detached { commit }) => {
                (format!("HEAD is detached at `{commit}`; no request will be taken"), "git switch -")
            }
            Why::Checkout(CheckoutState::OtherBranch { name }) => {
                (format!("branch `{name}` is checked out here; no request will be taken"), "git switch -")
            }
            Why::Checkout(CheckoutState::InProgress { what }) => (
                format!("a {what} is in progress here; no request will be taken"),
                "git status     shows how to end it",
            ),
            Why::Checkout(CheckoutState::IndexLocked { holder }) => {
                (format!("`.git/index.lock` {holder}; no request will be taken"), REMOVE_LOCK)
            }
            Why::Checkout(CheckoutState::OnBranch) => {
                ("`.git/index.lock` was held until now; no request will be taken".to_owned(), "dispatcher fetch")
            }
            Why::Edited => (
                format!("the remote changed what is edited here: {paths}; no request will be taken"),
                "git stash     or commit and push the edit",
            ),
            Why::OwnCommits => (
                format!("commits that are only here ({paths}) and new ones on the remote; no request will be taken"),
                "git pull --rebase && git push",
            ),
            Why::NotFolders => (
                format!("the remote made something else of the folder {paths}; no request will be taken"),
                "git revert     the commit that did it, and push",
            ),
        };
        Diagnostic::new("E0514", message).help(help)
    }
}

/// The folders of the dispatcher that would be none after `changes`.
pub(super) fn not_folders(changes: &[Change]) -> Vec<String> {
    let bad = changes.iter().filter(|c| c.new.is_some() && FOLDERS.contains(&c.path.as_slice()));
    let mut bad: Vec<String> = bad.map(|c| text::bytes(&c.path)).collect();
    bad.sort();
    bad
}

/// What the work tree shows at a path.
enum Found {
    Nothing,
    Folder,
    /// A regular file or a symbolic link, with what a blob of it would be.
    Leaf(Leaf),
    /// A socket, a device, something unreadable.
    Strange,
}

/// Looks for everything that is in the way of `changes`.
pub(super) struct Survey<'a> {
    pub(super) repo: &'a Repo,
    pub(super) index: &'a Index,
    pub(super) taken: &'a [TakenPath],
    /// Paths that the move removes: they make room.
    pub(super) leaving: BTreeSet<&'a [u8]>,
    /// False on file systems that keep no executable bit.
    modes: bool,
}

impl<'a> Survey<'a> {
    pub(super) fn new(repo: &'a Repo, index: &'a Index, taken: &'a [TakenPath], changes: &'a [Change]) -> Self {
        let leaving = changes.iter().filter(|c| c.new.is_none()).map(|c| c.path.as_slice()).collect();
        let modes = repo.git.config().and_then(|c| c.get_bool("core.filemode")).unwrap_or(true);
        Self { repo, index, taken, leaving, modes }
    }

    /// The paths in the way, escaped.
    pub(super) fn obstacles(&self, changes: &[Change]) -> Vec<String> {
        let mut found: Vec<String> = changes.iter().filter_map(|c| self.obstacle(c)).map(|p| text::bytes(&p)).collect();
        found.sort();
        found.dedup();
        found.truncate(20);
        found
    }

    pub(super) fn obstacle(&self, change: &Change) -> Option<Vec<u8>> {
        let path = as_path(&change.path);
        let (held, flags) = entry_of(self.index, path);
        if held != Held::from(change.old) && held != Held::from(change.new) {
            return Some(change.path.clone());
        }
        if is_sparse(flags) {
            return None;
        }
        if let Some(folder) = self.closed_folder(&change.path) {
            return Some(folder);
        }
        let clean = match self.look(path, change.old) {
            Found::Nothing => change.old.is_none() || change.new.is_none() || self.is_taken(change),
            Found::Leaf(leaf) => Some(leaf) == change.new || Some(leaf) == change.old,
            Found::Folder => return self.folder_in_the_way(change),
            Found::Strange => false,
        };
        (!clean).then(|| change.path.clone())
    }

    /// A request that was renamed away by us is no edit of a person.
    fn is_taken(&self, change: &Change) -> bool {
        let name = change.path.strip_prefix(b"requests/");
        let was = |t: &TakenPath| Some(t.name.as_slice()) == name && change.old.is_some_and(|old| old.oid == t.oid);
        name.is_some() && self.taken.iter().any(was)
    }

    /// A part of the path above it that is no folder and does not leave.
    fn closed_folder(&self, path: &[u8]) -> Option<Vec<u8>> {
        for (at, _) in path.iter().enumerate().filter(|(_, b)| **b == b'/') {
            let above = &path[..at];
            match fs::symlink_metadata(self.repo.root.join(as_path(above))) {
                Ok(meta) if meta.is_dir() => {}
                Ok(_) if self.leaving.contains(above) => return None,
                Ok(_) => return Some(above.to_vec()),
                Err(_) => return None,
            }
        }
        None
    }

    fn look(&self, path: &Path, old: Option<Leaf>) -> Found {
        let file = self.repo.root.join(path);
        let Ok(meta) = fs::symlink_metadata(&file) else { return Found::Nothing };
        if meta.is_dir() {
            return Found::Folder;
        }
        let leaf = if meta.is_symlink() {
            let target = fs::read_link(&file).ok();
            let hash = |t: std::path::PathBuf| Oid::hash_object(ObjectType::Blob, t.as_os_str().as_bytes()).ok();
            target.and_then(hash).map(|oid| Leaf { mode: tree::SYMLINK, oid })
        } else if meta.is_file() {
            self.unchanged(path, &meta, old).or_else(|| {
                let oid = Oid::hash_file(ObjectType::Blob, &file).ok()?;
                let mode = old.map(|o| o.mode).filter(|_| !self.modes).unwrap_or_else(|| mode_of(&meta));
                Some(Leaf { mode, oid })
            })
        } else {
            None
        };
        leaf.map_or(Found::Strange, Found::Leaf)
    }

    /// Git's own knowledge of a file that it checked out through a filter: its bytes are not the blob's, and still
    /// nobody edited it.
    fn unchanged(&self, path: &Path, meta: &Metadata, old: Option<Leaf>) -> Option<Leaf> {
        use std::os::unix::fs::MetadataExt as _;
        let (old, entry) = (old?, self.index.get_path(path, 0)?);
        let written = fs::metadata(self.repo.gitdir.join("index")).ok()?.mtime();
        #[expect(clippy::cast_possible_truncation, reason = "the index keeps 32 bits of each")]
        let same = entry.id == old.oid
            && (entry.mode == mode_of(meta) || !self.modes)
            && entry.file_size != 0
            && entry.file_size == meta.len() as u32
            && entry.ino == meta.ino() as u32
            && i64::from(entry.mtime.seconds()) == meta.mtime()
            && i64::from(entry.mtime.nanoseconds()) == meta.mtime_nsec()
            && i64::from(entry.ctime.seconds()) == meta.ctime()
            && meta.mtime() < written;
        same.then_some(old)
    }

    /// A folder where a file is to be: everything in it has to leave. A submodule's folder is its own business.
    fn folder_in_the_way(&self, change: &Change) -> Option<Vec<u8>> {
        match change.new {
            None => None,
            Some(leaf) if leaf.mode == tree::SUBMODULE => None,
            Some(_) => self.stays(&change.path),
        }
    }

    fn stays(&self, folder: &[u8]) -> Option<Vec<u8>> {
        let mut open = vec![folder.to_vec()];
        while let Some(folder) = open.pop() {
            let Ok(entries) = fs::read_dir(self.repo.root.join(as_path(&folder))) else { return Some(folder) };
            for entry in entries {
                let Ok(entry) = entry else { return Some(folder) };
                let path = [&folder, b"/".as_slice(), entry.file_name().as_bytes()].concat();
                if entry.file_type().is_ok_and(|t| t.is_dir()) {
                    open.push(path);
                } else if !self.leaving.contains(path.as_slice()) {
                    return Some(path);
                }
            }
        }
        None
    }
}

fn mode_of(meta: &Metadata) -> u32 {
    if meta.permissions().mode() & 0o100 == 0 { tree::FILE } else { tree::EXECUTABLE }
}
