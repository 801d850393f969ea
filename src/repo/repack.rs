//! Joining our many packs: every batch is one, and every lookup asks all of them. What is joined grows, and is joined
//! again only with as much as it holds itself, so that there are ever few packs and each object is written a few times in
//! its life. Refuses to touch what somebody marked, packs of a size that a person's `git gc` is for, and anything while
//! such a command is at work.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use git2::{Oid, Repository};

use super::error::{Doing, RepoError};
use super::open::Repo;
use super::pack::write_pack;

/// So many packs are too many.
const MANY: usize = 50;
/// Bytes. What is joined grows up to this and is left alone from then on, so that joining stays a matter of seconds.
const LARGE: u64 = 64 << 20;
/// By the number of objects: how many times larger than all smaller ones together a pack is that stays as it is.
const STEP: u64 = 2;
/// Files beside a pack that say that it is more than a plain one.
const MARKS: [&str; 4] = ["keep", "promisor", "mtimes", "bitmap"];
/// The index goes first: without it nobody looks for the rest.
const PARTS: [&str; 3] = ["idx", "pack", "rev"];

impl Repo {
    /// Joins our packs where they have become many. True where it did.
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
        let mut small = our_packs(&folder).doing_to("look into", &folder)?;
        if small.len() < MANY {
            return Ok(false);
        }
        small.sort_unstable();
        small.truncate(to_join(&small.iter().map(|(size, _)| *size).collect::<Vec<u64>>()));
        let small: Vec<PathBuf> = small.into_iter().map(|(_, pack)| pack).collect();
        let mut objects = BTreeSet::new();
        for pack in &small {
            objects.extend(objects_of(&pack.with_extension("idx"))?);
        }
        let git = Repository::open(&self.gitdir).doing_to("open", &self.gitdir)?;
        let joined = write_pack(&git, &objects, None, &self.common.join("objects"))?;
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
        self.reopen()?;
        self.hand_over_git();
        Ok(true)
    }

    /// Lets go of packs that are gone: an open handle keeps them on the disk.
    ///
    /// # Errors
    /// The repository cannot be opened.
    pub fn reopen(&mut self) -> Result<(), RepoError> {
        self.git = Repository::open(&self.gitdir).doing_to("open", &self.gitdir)?;
        Ok(())
    }
}

/// How many of the packs of these sizes, smallest first, are joined: afterwards each is at least [`STEP`] times as large
/// as the one before it.
fn to_join(sizes: &[u64]) -> usize {
    let uneven = (1..sizes.len()).rev().find(|&at| sizes[at] < sizes[at - 1].saturating_mul(STEP));
    let mut upto = uneven.map_or(0, |at| at + 1);
    let mut sum: u64 = sizes[..upto].iter().sum();
    while upto > 0 && upto < sizes.len() && sizes[upto] < sum.saturating_mul(STEP) {
        sum += sizes[upto];
        upto += 1;
    }
    upto
}

/// The packs that nobody marked and that have an index, with its size; large ones are left out. The index counts the
/// objects, and joining does not change their number: the pack itself, fresh from a commit, has its trees in full.
fn our_packs(folder: &Path) -> std::io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let marked = || MARKS.iter().any(|mark| path.with_extension(mark).exists());
        let ready = path.extension().is_some_and(|e| e == "pack") && path.with_extension("idx").exists();
        if ready && entry.metadata()?.len() <= LARGE && !marked() {
            found.push((fs::metadata(path.with_extension("idx"))?.len(), path));
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

#[cfg(test)]
mod tests {
    use super::to_join;

    #[test]
    fn each_pack_is_larger_than_all_before_it() {
        for (sizes, expect) in [
            (&[][..], 0),
            (&[5], 0),
            (&[1, 2, 4], 0),
            (&[1, 1, 1, 1], 4),
            (&[1, 1, 1, 1, 8], 4),
            (&[1, 1, 1, 1, 7], 5),
            (&[1, 3, 10, 10, 100], 4),
            (&[1, 1, 4, 8, 11, 100], 5),
        ] {
            assert_eq!(to_join(sizes), expect, "{sizes:?}");
        }
    }

    /// Fifty packs of size 1 again and again: few packs, and each byte is written a few times.
    #[test]
    fn packs_stay_few_and_are_seldom_written() {
        let (mut packs, mut written) = (Vec::<u64>::new(), 0);
        for _ in 0..100_000 {
            packs.insert(0, 1);
            if packs.len() < super::MANY {
                continue;
            }
            let joined: u64 = packs.drain(..to_join(&packs.clone())).sum();
            written += joined;
            packs.push(joined);
            packs.sort_unstable();
            assert!(packs.len() < 20, "{packs:?}");
        }
        assert!(written < 1_000_000, "{written}");
    }
}
