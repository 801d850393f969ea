//! The index (`.git/index`): our paths are entered, a person's staged entries stay. Owns the rule that an entry is only
//! moved on where it is the one of the old commit, and the note of which commit the index still reflects where it
//! could not be written.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use git2::{Index, IndexEntry, IndexEntryExtendedFlag, IndexTime, ObjectType, Odb, Oid};

use super::error::{Doing, RepoError, sync};
use super::lock::{self, Lock};
use super::open::Repo;
use super::tree::{self, Change, Leaf};

/// The index, locked against every other git.
pub(super) struct OpenIndex {
    _lock: Lock,
    copy: PathBuf,
    path: PathBuf,
    pub(super) index: Index,
    /// Seconds; entries that are not older than the index itself may hide a later edit.
    written: i64,
}

impl Drop for OpenIndex {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.copy);
    }
}

impl Repo {
    fn note(&self) -> PathBuf {
        self.gitdir.join("dispatcher-index")
    }

    /// The commits that the index may reflect where that is not the tip for sure: it was held when the branch moved, or
    /// we died between writing it and moving the branch. `None` in the list is the unborn branch.
    pub(super) fn index_bases(&self) -> Vec<Option<Oid>> {
        let text = fs::read_to_string(self.note()).unwrap_or_default();
        let oids = text.lines().filter_map(|line| Oid::from_str(line.trim()).ok());
        let known = oids.filter(|oid| oid.is_zero() || self.git.find_commit(*oid).is_ok());
        known.map(|oid| Some(oid).filter(|oid| !oid.is_zero())).collect()
    }

    /// Notes that the branch is about to move between these commits; older notes stay.
    pub(super) fn note_index_bases(&self, between: [Option<Oid>; 2]) -> Result<(), RepoError> {
        let mut bases = self.index_bases();
        let noted = bases.len();
        bases.extend(between);
        bases.dedup();
        if bases.len() == noted {
            return Ok(());
        }
        let lines: String = bases.iter().map(|oid| format!("{}\n", oid.unwrap_or(Oid::ZERO_SHA1))).collect();
        lock::replace(&self.note(), &self.gitdir, lines.as_bytes(), false)
    }

    pub(super) fn forget_index_bases(&self) {
        // Left behind it costs one comparison: entries that moved on are not moved again.
        let _ = fs::remove_file(self.note());
    }

    /// Locks and reads the index. `None` where another git held it for `tries` times 20 ms.
    pub(super) fn lock_index(&self, tries: u32) -> Result<Option<OpenIndex>, RepoError> {
        let path = self.gitdir.join("index");
        let Some(lock) = Lock::take(&path, tries)? else { return Ok(None) };
        let copy = self.gitdir.join("index.dispatcher");
        // libgit2's own lock of the copy: under the index lock it can only be a leftover of a crash.
        let _ = fs::remove_file(self.gitdir.join("index.dispatcher.lock"));
        let written = match fs::copy(&path, &copy) {
            Ok(_) => fs::metadata(&path).doing_to("look at", &path)?.mtime(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let _ = fs::remove_file(&copy);
                0
            }
            Err(e) => return Err(e).doing_to("copy", &path),
        };
        let index = Index::open(&copy).doing_to("read", &path)?;
        Ok(Some(OpenIndex { _lock: lock, copy, path, index, written }))
    }

    /// Brings an index that lags behind up to `tip`, in memory.
    pub(super) fn mend(&self, open: &mut OpenIndex, tip: Option<Oid>) -> Result<(), RepoError> {
        self.index_bases().into_iter().try_for_each(|base| self.step_index(open, base, tip))
    }

    /// Moves every entry that is the one of commit `from` on to the one of commit `to`.
    pub(super) fn step_index(&self, open: &mut OpenIndex, from: Option<Oid>, to: Option<Oid>) -> Result<(), RepoError> {
        let odb = self.odb()?;
        let tree = |commit: Option<Oid>| commit.map(|oid| tree::of_commit(&self.git, oid)).transpose();
        let (mut changes, _) = tree::diff(&odb, tree(from)?, tree(to)?)?;
        // Removals first: a file may make room for a folder of its name.
        changes.sort_by_key(|c| c.new.is_some());
        for change in &changes {
            self.step_entry(open, &odb, change)?;
        }
        Ok(())
    }

    fn step_entry(&self, open: &mut OpenIndex, odb: &Odb<'_>, change: &Change) -> Result<(), RepoError> {
        let path = as_path(&change.path);
        let (held, flags) = entry_of(&open.index, path);
        if held != Held::from(change.old) {
            return Ok(());
        }
        match change.new {
            None => open.index.remove(path, 0).doing_to("unstage", path),
            Some(leaf) => {
                let mut entry = self.new_entry(odb, &change.path, leaf);
                entry.flags_extended = flags;
                open.index.add(&entry).doing_to("stage", path)
            }
        }
    }

    /// An index entry with the file's times, where the file holds these very bytes; else without, and git looks itself.
    fn new_entry(&self, odb: &Odb<'_>, path: &[u8], leaf: Leaf) -> IndexEntry {
        let zero = || IndexTime::new(0, 0);
        let mut entry = IndexEntry {
            ctime: zero(),
            mtime: zero(),
            dev: 0,
            ino: 0,
            mode: leaf.mode,
            uid: 0,
            gid: 0,
            file_size: 0,
            id: leaf.oid,
            flags: 0,
            flags_extended: 0,
            path: path.to_vec(),
        };
        let file = self.root.join(as_path(path));
        let Ok(meta) = fs::symlink_metadata(&file) else { return entry };
        let sizes = meta.is_file() && odb.read_header(leaf.oid).is_ok_and(|(size, _)| size as u64 == meta.len());
        if sizes && Oid::hash_file(ObjectType::Blob, &file).is_ok_and(|oid| oid == leaf.oid) {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "the index keeps 32 bits of each"
            )]
            {
                entry.ctime = IndexTime::new(meta.ctime() as i32, meta.ctime_nsec() as u32);
                entry.mtime = IndexTime::new(meta.mtime() as i32, meta.mtime_nsec() as u32);
                (entry.dev, entry.ino) = (meta.dev() as u32, meta.ino() as u32);
                (entry.uid, entry.gid, entry.file_size) = (meta.uid(), meta.gid(), meta.len() as u32);
            }
        }
        entry
    }

    /// Writes the index and keeps it locked.
    ///
    /// Before the branch moves, not after: a `git commit` that starts in between reads HEAD and then the index, without
    /// the lock. With the old HEAD and the new index it fails when it moves the branch; with the new HEAD and the old
    /// index it would succeed and undo what we committed.
    pub(super) fn write_index(&self, open: &mut OpenIndex) -> Result<(), RepoError> {
        // The new file will be younger than its entries, and git then trusts their times. Entries as young as the old
        // file may hide an edit of the same second: without a size git compares the bytes.
        let is_young = |e: &IndexEntry| i64::from(e.mtime.seconds()) >= open.written && e.flags >> 12 & 3 == 0;
        let young: Vec<IndexEntry> = open.index.iter().filter(|e| is_young(e) && e.file_size != 0).collect();
        for mut entry in young {
            entry.file_size = 0;
            open.index.add(&entry).doing("refresh the index")?;
        }
        open.index.write().doing_to("write", &open.path)?;
        // Without its bytes on the disk a power cut would leave an empty one, and then no git opens the repository.
        File::open(&open.copy).and_then(|file| sync(&file)).doing_to("write", &open.path)?;
        // Its new name comes to the disk with the branch's, whose folder is synced: file systems with a journal keep order.
        fs::rename(&open.copy, &open.path).doing_to("write", &open.path)?;
        open.written = fs::metadata(&open.path).doing_to("look at", &open.path)?.mtime();
        self.hand_over(&open.path);
        Ok(())
    }

    /// Brings an index up to date that was held when the branch moved. True where nothing is left to mend.
    ///
    /// # Errors
    /// The index cannot be read or written.
    pub fn mend_index(&self) -> Result<bool, RepoError> {
        if self.index_bases().is_empty() {
            return Ok(true);
        }
        if !self.head_is_branch() {
            // Whoever left the branch wrote a whole index.
            self.forget_index_bases();
            return Ok(true);
        }
        let Some(mut open) = self.lock_index(1)? else { return Ok(false) };
        self.mend(&mut open, self.tip()?)?;
        self.write_index(&mut open)?;
        self.forget_index_bases();
        Ok(true)
    }
}

/// What the index says about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Nothing,
    Entry(Leaf),
    /// A conflict of a merge.
    Unmerged,
}

impl From<Option<Leaf>> for Held {
    fn from(leaf: Option<Leaf>) -> Self {
        leaf.map_or(Self::Nothing, Self::Entry)
    }
}

/// The entry of a path and its extended flags.
pub(super) fn entry_of(index: &Index, path: &Path) -> (Held, u16) {
    if let Some(entry) = index.get_path(path, 0) {
        return (Held::Entry(Leaf { mode: entry.mode, oid: entry.id }), entry.flags_extended);
    }
    let unmerged = (1..=3).any(|stage| index.get_path(path, stage).is_some());
    (if unmerged { Held::Unmerged } else { Held::Nothing }, 0)
}

/// True where a sparse checkout leaves the file out of the work tree.
pub(super) fn is_sparse(flags: u16) -> bool {
    flags & IndexEntryExtendedFlag::SKIP_WORKTREE.bits() != 0
}

pub(super) fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
