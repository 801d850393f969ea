//! Joining our many small packs: every batch is one, and every lookup asks all of them. Refuses to touch what somebody
//! marked, packs of a size that a person's `git gc` is for, and anything while such a command is at work.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use git2::{Oid, Repository};

use super::error::{Doing, RepoError};
use super::open::Repo;

/// So many small packs become one.
const MANY: usize = 50;
/// Bytes. What is joined grows up to this and is left alone from then on, so that joining stays a matter of a moment.
const SMALL: u64 = 1 << 20;
/// Files beside a pack that say that it is more than a plain one.
const MARKS: [&str; 4] = ["keep", "promisor", "mtimes", "bitmap"];
/// The index goes first: without it nobody looks for the rest.
const PARTS: [&str; 3] = ["idx", "pack", "rev"];

impl Repo {
    /// Joins our small packs where they have become many. True where it did.
    ///
    /// Nothing is lost whenever this ends: the old packs go when the new one is durable. Whoever reads one of them in
    /// this moment looks again, as after `git gc`.
    ///
    /// # Errors
    /// The packs cannot be read or written.
    pub fn join_packs(&mut self) -> Result<bool, RepoError> {
        let folder = self.common.join("objects/pack");
        if self.common.join("gc.pid").exists() || folder.join("multi-pack-index").exists() {
            return Ok(false);
        }
        let small = small_packs(&folder).doing_to("look into", &folder)?;
        if small.len() < MANY {
            return Ok(false);
        }
        let mut objects = BTreeSet::new();
        for pack in &small {
            objects.extend(objects_of(&pack.with_extension("idx"))?);
        }
        let joined = self.write_joined(&objects, &folder)?;
        if !objects_of(&joined)?.is_superset(&objects) {
            return Err(RepoError::new("join packs", "the new pack lacks objects"));
        }
        for pack in small.iter().filter(|pack| pack.with_extension("idx") != joined) {
            for part in PARTS {
                match fs::remove_file(pack.with_extension(part)) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).doing_to("remove", pack),
                    _ => {}
                }
            }
        }
        // The old handle still has the old packs open.
        self.git = Repository::open(&self.gitdir).doing_to("open", &self.gitdir)?;
        self.hand_over_git();
        Ok(true)
    }

    /// Writes these into one durable pack and names its index.
    fn write_joined(&self, objects: &BTreeSet<Oid>, folder: &Path) -> Result<PathBuf, RepoError> {
        let write = || {
            let git = Repository::open(&self.gitdir)?;
            let mut builder = git.packbuilder()?;
            builder.set_threads(1);
            for oid in objects {
                builder.insert_object(*oid, None)?;
            }
            builder.write(folder, 0)?;
            Ok(builder.name()?.map(str::to_owned))
        };
        let name: Option<String> = write().map_err(|e: git2::Error| RepoError::new("join packs", e.message()))?;
        let name = name.ok_or_else(|| RepoError::new("join packs", "the new pack has no name"))?;
        Ok(folder.join(format!("pack-{name}.idx")))
    }
}

/// The small packs that nobody marked and that have an index.
fn small_packs(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let marked = || MARKS.iter().any(|mark| path.with_extension(mark).exists());
        let ready = path.extension().is_some_and(|e| e == "pack") && path.with_extension("idx").exists();
        if ready && entry.metadata()?.len() <= SMALL && !marked() {
            found.push(path);
        }
    }
    Ok(found)
}

/// The objects that the index of a pack names.
fn objects_of(index: &Path) -> Result<BTreeSet<Oid>, RepoError> {
    let bytes = fs::read(index).doing_to("read", index)?;
    let parse = || -> Option<BTreeSet<Oid>> {
        // Version 2: a magic number, the version, 256 counts of which the last is the sum, and the sorted names.
        let rest = bytes.strip_prefix(b"\xfftOc\x00\x00\x00\x02")?;
        let sum = u32::from_be_bytes(*rest.get(255 * 4..)?.first_chunk()?);
        let names = rest.get(256 * 4..)?.get(..usize::try_from(sum).ok()?.checked_mul(20)?)?;
        names.chunks_exact(20).map(|name| Oid::from_bytes(name).ok()).collect()
    };
    parse().ok_or_else(|| RepoError::new("read the index of a pack", "it is of an unknown kind"))
}
