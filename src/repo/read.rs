//! Reading what is committed: trees, files, results. Changes nothing.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use git2::{ErrorCode, ObjectType, Odb, Oid, Sort};

use super::commit::TakenRequest;
use super::error::{Doing, RepoError};
use super::open::Repo;
use super::tree;
use crate::request::RunId;

/// One file of a folder in a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeFile {
    /// Relative to the folder that was read, `/` between parts. Bytes, because git's names are bytes.
    pub path: Vec<u8>,
    /// May be executed.
    pub executable: bool,
    /// A symbolic link: its blob is the target.
    pub symlink: bool,
    /// Its blob.
    pub oid: Oid,
}

impl Repo {
    pub(super) fn odb(&self) -> Result<Odb<'_>, RepoError> {
        self.git.odb().doing("open the object database")
    }

    /// The newest commit of the local branch; `None` where it has none yet.
    ///
    /// # Errors
    /// The ref cannot be read.
    pub fn tip(&self) -> Result<Option<Oid>, RepoError> {
        self.target(&self.branch_ref())
    }

    /// The remote branch as it was last seen by a fetch or push.
    ///
    /// # Errors
    /// The ref cannot be read.
    pub fn remote_tip(&self) -> Result<Option<Oid>, RepoError> {
        self.target(&self.tracking_ref())
    }

    /// All files below a folder of a commit, sorted by path; submodules and names that no file can have are left out.
    ///
    /// # Errors
    /// The commit or a tree of it cannot be read.
    pub fn read_folder(&self, commit: Oid, folder: &str) -> Result<Vec<TreeFile>, RepoError> {
        let odb = self.odb()?;
        let root = tree::of_commit(&self.git, commit)?;
        let Some(leaf) = tree::find(&odb, root, folder.as_bytes())?.filter(|l| l.mode == tree::FOLDER) else {
            return Ok(Vec::new());
        };
        let (changes, _) = tree::diff(&odb, None, Some(leaf.oid))?;
        let mut files: Vec<TreeFile> = changes
            .into_iter()
            .filter_map(|change| change.new.map(|leaf| (change.path, leaf)))
            .filter(|(_, leaf)| leaf.mode != tree::SUBMODULE)
            .map(|(path, leaf)| TreeFile {
                path,
                executable: leaf.mode == tree::EXECUTABLE,
                symlink: leaf.mode == tree::SYMLINK,
                oid: leaf.oid,
            })
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// The bytes of a blob.
    ///
    /// # Errors
    /// There is no such blob.
    pub fn blob(&self, oid: Oid) -> Result<Vec<u8>, RepoError> {
        self.git.find_blob(oid).map(|b| b.content().to_vec()).doing(&format!("read blob `{oid}`"))
    }

    /// The bytes of a file in a commit; `None` where there is no regular file of that path.
    ///
    /// # Errors
    /// The commit or an object of it cannot be read.
    pub fn file_at(&self, commit: Oid, path: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, RepoError> {
        let leaf = tree::find(&self.odb()?, tree::of_commit(&self.git, commit)?, path.as_ref())?;
        let regular = leaf.filter(|l| !matches!(l.mode, tree::FOLDER | tree::SUBMODULE | tree::SYMLINK));
        regular.map(|l| self.blob(l.oid)).transpose()
    }

    /// The bytes of a file at the tip of the branch.
    ///
    /// # Errors
    /// As [`Self::file_at`].
    pub fn file(&self, path: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>, RepoError> {
        self.tip()?.map_or(Ok(None), |tip| self.file_at(tip, path))
    }

    /// True where the tip holds exactly these bytes under this path.
    ///
    /// # Errors
    /// An object of the tip cannot be read.
    pub fn holds(&self, path: impl AsRef<[u8]>, bytes: &[u8]) -> Result<bool, RepoError> {
        let Some(tip) = self.tip()? else { return Ok(false) };
        let oid = blob_oid(bytes)?;
        let leaf = tree::find(&self.odb()?, tree::of_commit(&self.git, tip)?, path.as_ref())?;
        Ok(leaf.is_some_and(|l| l.oid == oid))
    }

    /// The blob of a file or symbolic link at the tip of the branch.
    ///
    /// # Errors
    /// An object of the tip cannot be read.
    pub fn leaf_oid(&self, path: impl AsRef<[u8]>) -> Result<Option<Oid>, RepoError> {
        let Some(tip) = self.tip()? else { return Ok(None) };
        let leaf = tree::find(&self.odb()?, tree::of_commit(&self.git, tip)?, path.as_ref())?;
        Ok(leaf.filter(|l| !matches!(l.mode, tree::FOLDER | tree::SUBMODULE)).map(|l| l.oid))
    }

    /// The request that a file or symbolic link was before it was set aside as `file`, where the tip holds just that
    /// under `path`; it is not followed and may be of any size.
    ///
    /// # Errors
    /// An object of the tip cannot be read.
    pub fn set_aside(&self, path: Vec<u8>, file: &Path) -> Result<Option<TakenRequest>, RepoError> {
        let Some(oid) = self.leaf_oid(&path)? else { return Ok(None) };
        let now = match fs::symlink_metadata(file) {
            Ok(meta) if meta.is_symlink() => {
                let target = fs::read_link(file).ok();
                target.and_then(|t| Oid::hash_object(ObjectType::Blob, t.as_os_str().as_bytes()).ok())
            }
            Ok(meta) if meta.is_file() => Oid::hash_file(ObjectType::Blob, file).ok(),
            _ => None,
        };
        Ok((now == Some(oid)).then_some(TakenRequest { path, oid }))
    }

    /// True where the run's results are committed, on the branch or in the archive.
    ///
    /// # Errors
    /// An object of the tip or the archive cannot be read.
    pub fn is_recorded(&self, id: RunId) -> Result<bool, RepoError> {
        let root = self.tip()?.map(|tip| tree::of_commit(&self.git, tip)).transpose()?;
        let path = format!("processed/{id}");
        let there = root.map_or(Ok(None), |root| tree::find(&self.odb()?, root, path.as_bytes()))?;
        Ok(there.is_some() || self.archived(id)?.is_some())
    }

    /// All runs on the branch, newest first (by id: a UUIDv7 begins with its time).
    ///
    /// # Errors
    /// An object of the tip cannot be read.
    pub fn recorded_ids(&self) -> Result<Vec<RunId>, RepoError> {
        let Some(tip) = self.tip()? else { return Ok(Vec::new()) };
        let odb = self.odb()?;
        let Some(folder) = tree::find(&odb, tree::of_commit(&self.git, tip)?, b"processed")? else {
            return Ok(Vec::new());
        };
        let entries = if folder.mode == tree::FOLDER { tree::read(&odb, folder.oid)? } else { Vec::new() };
        let ids: BTreeSet<RunId> = entries
            .iter()
            .filter(|e| e.mode == tree::FOLDER)
            .filter_map(|e| std::str::from_utf8(&e.name).ok()?.parse().ok())
            .collect();
        Ok(ids.into_iter().rev().collect())
    }

    /// The committed `status.json` of a run.
    ///
    /// # Errors
    /// As [`Self::file_of`].
    pub fn status_of(&self, id: RunId) -> Result<Option<Vec<u8>>, RepoError> {
        self.file_of(id, "status.json")
    }

    /// A file of a run as it is committed, by its name in the run's folder: on the branch, or else in the archive.
    ///
    /// # Errors
    /// An object of the tip or the archive cannot be read.
    pub fn file_of(&self, id: RunId, name: &str) -> Result<Option<Vec<u8>>, RepoError> {
        let file = self.file(format!("processed/{id}/{name}"))?;
        if file.is_some() {
            return Ok(file);
        }
        self.archived(id)?.map_or(Ok(None), |run| self.archived_file(&run, name))
    }

    /// Local commits that the remote branch does not have as far as is known, oldest first. All of them where the
    /// remote branch was never seen.
    ///
    /// # Errors
    /// History cannot be read.
    pub fn unpublished(&self) -> Result<Vec<Oid>, RepoError> {
        match self.tip()? {
            Some(tip) => self.between(self.remote_tip()?, tip),
            None => Ok(Vec::new()),
        }
    }

    /// True where the remote branch, as far as is known, contains the commit.
    ///
    /// # Errors
    /// History cannot be read.
    pub fn published(&self, commit: Oid) -> Result<bool, RepoError> {
        self.remote_tip()?.map_or(Ok(false), |remote| self.contains(remote, commit))
    }

    /// True where `commit` is `tip` or an ancestor of it.
    pub(super) fn contains(&self, tip: Oid, commit: Oid) -> Result<bool, RepoError> {
        if tip == commit {
            return Ok(true);
        }
        match self.git.graph_descendant_of(tip, commit) {
            Err(e) if e.code() == ErrorCode::NotFound => Ok(false),
            known => known.doing("compare two commits"),
        }
    }

    /// The commits of `to` that none of `from` has, oldest first.
    pub(super) fn between(&self, from: impl IntoIterator<Item = Oid>, to: Oid) -> Result<Vec<Oid>, RepoError> {
        let walk = || {
            let mut walk = self.git.revwalk()?;
            walk.set_sorting(Sort::TOPOLOGICAL | Sort::REVERSE)?;
            walk.push(to)?;
            from.into_iter().try_for_each(|from| walk.hide(from))?;
            walk.collect::<Result<Vec<Oid>, git2::Error>>()
        };
        walk().doing("read history")
    }
}

pub(super) fn blob_oid(bytes: &[u8]) -> Result<Oid, RepoError> {
    Oid::hash_object(ObjectType::Blob, bytes).doing("hash a file")
}
