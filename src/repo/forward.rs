//! Moving the branch, the work tree and the index from one commit to another: only the paths that differ, each by temp
//! file and rename, so that a crash in between is finished by the next try. Owns the order: requests come last, and go
//! away again where the branch could not follow, because whatever lies in the inbox is taken.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, symlink};
use std::path::Path;

use git2::Oid;

use super::checkout::CheckoutState;
use super::error::{Doing, RepoError, sync};
use super::index::{OpenIndex, as_path, entry_of, is_sparse};
use super::integrate::TakenPath;
use super::lock;
use super::obstacle::{Blocked, Survey, Why, not_folders};
use super::open::Repo;
use super::refs::Move;
use super::tree::{self, Change};
use crate::text;

/// About three seconds.
const INDEX_TRIES: u32 = 150;

/// Folders that the watchers stand in: they stay, even empty.
const STAY: [&str; 4] = ["requests", "handlers", "processed", "logs"];

/// How a move of the checkout ended.
#[derive(Debug)]
pub(super) enum Forwarded {
    /// Names that no work tree can hold were left out, escaped.
    Done {
        left_out: Vec<String>,
    },
    Blocked(Blocked),
    /// The branch is not where it was.
    Stale,
}

impl Repo {
    /// Moves the checked out branch.
    pub(super) fn forward(
        &self,
        from: Option<Oid>,
        to: Oid,
        taken: &[TakenPath],
        why: &str,
    ) -> Result<Forwarded, RepoError> {
        let blocked = |state| Ok(Forwarded::Blocked(Blocked { paths: Vec::new(), why: Why::Checkout(state) }));
        let Some(mut open) = self.lock_index(INDEX_TRIES)? else {
            return blocked(self.checkout_state()?);
        };
        // Asked under the lock: `git switch` needs it too.
        if let Some(away) = self.away()? {
            return blocked(away);
        }
        if self.tip()? != from {
            return Ok(Forwarded::Stale);
        }
        self.mend(&mut open, from)?;
        let old = from.map(|oid| tree::of_commit(&self.git, oid)).transpose()?;
        let (mut changes, unfit) = tree::diff(&self.odb()?, old, Some(tree::of_commit(&self.git, to)?))?;
        let paths = not_folders(&changes);
        if !paths.is_empty() {
            return Ok(Forwarded::Blocked(Blocked { paths, why: Why::NotFolders }));
        }
        let paths = Survey::new(self, &open.index, taken, &changes).obstacles(&changes);
        if !paths.is_empty() {
            return Ok(Forwarded::Blocked(Blocked { paths, why: Why::Edited }));
        }
        // Removals first, the deepest first: they make room.
        changes.sort_by(|a, b| (asks(a), a.new.is_some(), b.path.len()).cmp(&(asks(b), b.new.is_some(), a.path.len())));
        let mut undo = Vec::new();
        let moved = self
            .settle(to)
            .and_then(|()| self.check_out(&open, &changes, &mut undo))
            .and_then(|()| self.note_index_bases([from, Some(to)]))
            .and_then(|()| self.step_index(&mut open, from, Some(to)))
            .and_then(|()| self.write_index(&mut open))
            .and_then(|()| self.move_ref(&self.branch_ref(), from, to, why));
        if !matches!(moved, Ok(Move::Done)) {
            for change in &undo {
                // What stays although it should not is found again by the next try, and nothing is taken until then.
                let _ = self.apply(change);
            }
        }
        if moved? == Move::Stale {
            return Ok(Forwarded::Stale);
        }
        self.forget_index_bases();
        self.hand_over_git();
        Ok(Forwarded::Done { left_out: unfit.iter().map(|p| text::bytes(p)).collect() })
    }

    /// Writes the work tree. `undo` gets what takes the requests away again that are written by then.
    fn check_out(&self, open: &OpenIndex, changes: &[Change], undo: &mut Vec<Change>) -> Result<(), RepoError> {
        for change in changes {
            let path = as_path(&change.path);
            if is_sparse(entry_of(&open.index, path).1) {
                continue;
            }
            let there = fs::symlink_metadata(self.root.join(path)).is_ok();
            self.apply(change).doing_to("check out", path)?;
            // A file that was there before and is not HEAD's has been dropped by somebody: it stays.
            if asks(change) && (!there || change.old.is_some()) {
                let old = change.old.filter(|_| there);
                undo.push(Change { path: change.path.clone(), old: change.new, new: old });
            }
        }
        Ok(())
    }

    pub(super) fn apply(&self, change: &Change) -> io::Result<()> {
        let file = self.root.join(as_path(&change.path));
        match change.new {
            None => self.remove(&file),
            Some(leaf) if leaf.mode == tree::SUBMODULE => {
                self.make_room(&file, true)?;
                self.make_folders(&file)
            }
            Some(leaf) => {
                let blob = self.git.find_blob(leaf.oid).map_err(|e| io::Error::other(e.message().to_owned()))?;
                self.make_folders(file.parent().unwrap_or(&self.root))?;
                self.make_room(&file, false)?;
                if leaf.mode == tree::SYMLINK {
                    return self.place(&file, |beside| symlink(as_path(blob.content()), beside));
                }
                let mode = if leaf.mode == tree::EXECUTABLE { 0o777 } else { 0o666 };
                self.place(&file, |beside| {
                    let mut out = OpenOptions::new().write(true).create_new(true).mode(mode).open(beside)?;
                    out.write_all(blob.content())?;
                    // An empty file after a power cut would pass for a person's edit, or for a request.
                    sync(&out)
                })
            }
        }
    }

    /// Makes a file out of everybody's sight and renames it to its place.
    fn place(&self, file: &Path, make: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
        let device = |path: &Path| fs::symlink_metadata(path).map(|meta| meta.dev()).ok();
        // A git folder elsewhere (a linked work tree) may be on another file system; the inbox ignores dot files.
        let beside = match file.parent() {
            Some(folder) if device(folder) != device(&self.gitdir) => folder.join(".dispatcher.tmp"),
            _ => self.gitdir.join(lock::scratch_name()),
        };
        match fs::remove_file(&beside) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let placed = make(&beside).and_then(|()| {
            self.hand_over(&beside);
            fs::rename(&beside, file)
        });
        if placed.is_err() {
            let _ = fs::remove_file(&beside);
        }
        placed
    }

    fn remove(&self, file: &Path) -> io::Result<()> {
        match fs::symlink_metadata(file) {
            // A submodule's folder; git leaves it too where it is not empty.
            Ok(meta) if meta.is_dir() => drop(fs::remove_dir(file)),
            Ok(_) => fs::remove_file(file)?,
            Err(_) => return Ok(()),
        }
        for folder in file.ancestors().skip(1) {
            let below = folder.strip_prefix(&self.root).unwrap_or(folder);
            if below.as_os_str().is_empty()
                || STAY.iter().any(|s| below == Path::new(s))
                || fs::remove_dir(folder).is_err()
            {
                break;
            }
        }
        Ok(())
    }

    /// Clears what the survey found to be leaving: empty folders where a file comes, a link where a folder comes.
    fn make_room(&self, file: &Path, folder_comes: bool) -> io::Result<()> {
        match fs::symlink_metadata(file) {
            Ok(meta) if meta.is_dir() && !folder_comes => remove_empty(file),
            Ok(meta) if !meta.is_dir() && folder_comes => fs::remove_file(file),
            _ => Ok(()),
        }
    }

    fn make_folders(&self, folder: &Path) -> io::Result<()> {
        let below = folder.strip_prefix(&self.root).unwrap_or(Path::new(""));
        let mut at = self.root.clone();
        for part in below.components() {
            at.push(part);
            match fs::create_dir(&at) {
                Ok(()) => self.hand_over(&at),
                // Never through a link: the survey saw none, and none may have come since.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && fs::symlink_metadata(&at)?.is_dir() => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// True where a file comes into the inbox.
fn asks(change: &Change) -> bool {
    change.new.is_some() && change.path.starts_with(b"requests/")
}

/// Removes a folder that holds only folders.
fn remove_empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_empty(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

impl Blocked {
    /// An index that was locked and is free by now is worth another try.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self.why, Why::Checkout(CheckoutState::OnBranch | CheckoutState::IndexLocked { .. }))
    }
}
