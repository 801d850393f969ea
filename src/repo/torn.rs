//! What a power cut did to the checkout: files of recorded runs of which only a beginning is left, and results in the
//! index whose commit never came to the branch. Owns their mending; refuses to touch what is not the beginning of what was
//! recorded, because that is somebody's edit.

use std::collections::BTreeSet;
use std::fs;

use git2::{Index, IndexEntry};

use super::error::{Doing, RepoError};
use super::index::as_path;
use super::open::Repo;
use super::replay::run_of;
use super::tree::{self, Change, Leaf};
use crate::request::RunId;
use crate::text;

impl Repo {
    /// Writes files below `processed/` and `logs/` again of which only a beginning is left, and names them. Only under the
    /// instance lock.
    ///
    /// # Errors
    /// Git's database or the disk.
    pub fn mend_torn(&self) -> Result<Vec<String>, RepoError> {
        let Some(tip) = self.tip()?.filter(|_| self.head_is_branch()) else { return Ok(Vec::new()) };
        let path = self.gitdir.join("index");
        let index = Index::open(&path).doing_to("read", &path)?;
        let suspects: Vec<IndexEntry> = index.iter().filter(|entry| self.is_short(entry)).collect();
        let (odb, root) = (self.odb()?, tree::of_commit(&self.git, tip)?);
        let mut mended = Vec::new();
        for entry in suspects {
            let Some(leaf) = tree::find(&odb, root, &entry.path)? else { continue };
            if self.is_beginning(&entry.path, leaf)? {
                let change = Change { path: entry.path.clone(), old: None, new: Some(leaf) };
                self.apply(&change).doing_to("restore", as_path(&entry.path))?;
                mended.push(text::bytes(&entry.path));
            }
        }
        Ok(mended)
    }

    /// Takes results out of the index that were entered for a commit which the branch does not have: it is made again, with
    /// other results perhaps, and then a person's commit would bring these back. Only under the instance lock.
    ///
    /// # Errors
    /// Git's database or the disk.
    pub fn unstage_lost(&self) -> Result<(), RepoError> {
        if !self.head_is_branch() {
            return Ok(());
        }
        // Whoever holds the index at this moment will not let it go: the next start tries again.
        let Some(mut open) = self.lock_index(1)? else { return Ok(()) };
        let recorded: BTreeSet<RunId> = self.recorded_ids()?.into_iter().collect();
        let lost = |entry: &IndexEntry| run_of(&entry.path).is_some_and(|id| !recorded.contains(&id));
        let mut lost: Vec<Vec<u8>> = open.index.iter().filter(lost).map(|entry| entry.path).collect();
        if let Some(tip) = self.tip()? {
            // A person may have deleted a part of a result.
            let (odb, root) = (self.odb()?, tree::of_commit(&self.git, tip)?);
            let found: Result<Vec<_>, _> = lost.iter().map(|path| tree::find(&odb, root, path)).collect();
            let mut found = found?.into_iter();
            lost.retain(|_| found.next().flatten().is_none());
        }
        if lost.is_empty() {
            return Ok(());
        }
        for path in lost {
            open.index.remove(as_path(&path), 0).doing_to("unstage", as_path(&path))?;
        }
        self.write_index(&mut open)
    }

    /// By its size alone: most files are as long as the index says, and are not read. It says 0 where it does not know.
    fn is_short(&self, entry: &IndexEntry) -> bool {
        let ours = [&b"processed/"[..], b"logs/"].iter().any(|folder| entry.path.starts_with(folder));
        let meta = || fs::symlink_metadata(self.root.join(as_path(&entry.path))).ok();
        let is_known = |size: u64| size != 0 && size == u64::from(entry.file_size);
        ours && meta().is_some_and(|meta| meta.is_file() && !is_known(meta.len()))
    }

    fn is_beginning(&self, path: &[u8], leaf: Leaf) -> Result<bool, RepoError> {
        let blob = self.git.find_blob(leaf.oid).doing("read what was recorded")?;
        let file = self.root.join(as_path(path));
        let longest = blob.content().len() as u64;
        if fs::symlink_metadata(&file).doing_to("look at", &file)?.len() > longest {
            return Ok(false);
        }
        let mut left = fs::read(&file).doing_to("read", &file)?;
        let torn = left != blob.content();
        // Some file systems give a file its length before its bytes.
        left.truncate(left.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1));
        Ok(torn && blob.content().starts_with(&left))
    }
}
