//! New objects, gathered in memory and written as one durable pack. Owns the way objects get into the database: never
//! loose, never before all of a batch is there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use git2::{Commit, ObjectType, Odb, Oid, Repository, Signature};

use super::beneath::Beneath;
use super::error::{Doing, RepoError, sync};
use super::lock;
use super::open::Repo;

/// Objects that are not in the database yet. Reads see them and everything that is there.
pub(super) struct Batch {
    git: Repository,
    objects: PathBuf,
    new: Vec<Oid>,
    beneath: Option<Beneath>,
}

impl Batch {
    /// A batch for the repository of `repo`, on a handle of its own: libgit2 cannot take a backend out again.
    pub(super) fn open(repo: &Repo) -> Result<Self, RepoError> {
        let git = Repository::open(&repo.gitdir).doing_to("open", &repo.gitdir)?;
        git.odb().and_then(|odb| odb.add_new_mempack_backend(1_000).map(|_| ())).doing("gather new objects")?;
        Ok(Self { git, objects: repo.common.join("objects"), new: Vec::new(), beneath: None })
    }

    pub(super) fn odb(&self) -> Result<Odb<'_>, RepoError> {
        self.git.odb().doing("open the object database")
    }

    /// These are written too, although the database has them.
    pub(super) fn add_beneath(&mut self, beneath: Beneath) {
        self.beneath = Some(beneath);
    }

    /// Adds one object.
    pub(super) fn write(&mut self, kind: ObjectType, bytes: &[u8]) -> Result<Oid, RepoError> {
        let oid = self.git.odb().and_then(|odb| odb.write(kind, bytes)).doing("add an object")?;
        self.new.push(oid);
        Ok(oid)
    }

    /// Adds a commit of `tree` (the empty tree where there is none).
    pub(super) fn commit(
        &mut self,
        tree: Option<Oid>,
        parent: Option<Oid>,
        people: [&Signature<'_>; 2],
        message: &str,
    ) -> Result<Oid, RepoError> {
        let doing = "make a commit";
        let tree = match tree {
            Some(oid) => oid,
            None => self.write(ObjectType::Tree, b"")?,
        };
        let raw = {
            let tree = self.git.find_tree(tree).doing(doing)?;
            let parent = parent.map(|oid| self.git.find_commit(oid)).transpose().doing(doing)?;
            let parents: Vec<&Commit<'_>> = parent.iter().collect();
            let buf = self.git.commit_create_buffer(people[0], people[1], message, &tree, &parents).doing(doing)?;
            buf.to_vec()
        };
        self.write(ObjectType::Commit, &raw)
    }

    /// Writes the pack and its index, durably.
    pub(super) fn finish(mut self) -> Result<(), RepoError> {
        self.new.sort_unstable();
        self.new.dedup();
        if self.new.is_empty() && self.beneath.is_none() {
            return Ok(());
        }
        write_pack(&self.git, &self.new, self.beneath, &self.objects).map(drop)
    }
}

/// Writes a pack of these below the folder `objects` of the database, synced with its index and their folder, and gives
/// the path of the index.
///
/// Made beside and renamed in, the pack before its index: libgit2 gives the index its name first, and an index without a
/// pack is what a `git gc` of the same moment removes as garbage.
pub(super) fn write_pack<'a>(
    git: &Repository,
    new: impl IntoIterator<Item = &'a Oid>,
    beneath: Option<Beneath>,
    objects: &Path,
) -> Result<PathBuf, RepoError> {
    let folder = objects.join("pack");
    let beside = objects.join(lock::scratch_name());
    let build = || -> Result<Option<String>, git2::Error> {
        let mut builder = git.packbuilder()?;
        builder.set_threads(1);
        for oid in new {
            builder.insert_object(*oid, None)?;
        }
        if let Some(Beneath { tip, base }) = beneath {
            let mut walk = git.revwalk()?;
            walk.push(tip)?;
            base.map_or(Ok(()), |base| walk.hide(base))?;
            builder.insert_walk(&mut walk)?;
        }
        builder.write(&beside, 0)?;
        Ok(builder.name()?.map(str::to_owned))
    };
    fs::create_dir(&beside).doing_to("make", &beside)?;
    let written = build().doing_to("write a pack into", &beside).and_then(|name| {
        let name = name.ok_or_else(|| RepoError::new("write a pack", "it has no name"))?;
        let file = |end: &str| format!("pack-{name}.{end}");
        for end in ["pack", "idx"] {
            fs::rename(beside.join(file(end)), folder.join(file(end))).doing_to("move a pack into", &folder)?;
        }
        File::open(&folder).and_then(|folder| sync(&folder)).doing_to("sync", &folder)?;
        Ok(folder.join(file("idx")))
    });
    // What stays is swept by the next life.
    let _ = fs::remove_dir_all(&beside);
    written
}
