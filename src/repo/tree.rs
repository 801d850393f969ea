//! Git trees as bytes: read, compare, edit. Owns the walk over trees that strangers made, so it neither trusts a name,
//! nor recurses into them, nor normalizes what it was not asked to change.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use git2::{ObjectType, Odb, Oid, Repository};

use super::error::{Doing, RepoError};

pub(super) const FOLDER: u32 = 0o040_000;
pub(super) const FILE: u32 = 0o100_644;
pub(super) const EXECUTABLE: u32 = 0o100_755;
pub(super) const SYMLINK: u32 = 0o120_000;
pub(super) const SUBMODULE: u32 = 0o160_000;

/// More changed paths than this are not a change but an attack on memory.
const MOST_CHANGES: usize = 1_000_000;
/// Longer paths cannot be opened.
const LONGEST_PATH: usize = 4_000;

/// One line of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) mode: u32,
    pub(super) name: Vec<u8>,
    pub(super) oid: Oid,
}

/// What a path holds, folders excepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) mode: u32,
    pub(super) oid: Oid,
}

/// A path that differs between two trees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) path: Vec<u8>,
    pub(super) old: Option<Leaf>,
    pub(super) new: Option<Leaf>,
}

/// Reads the raw bytes of a tree; `None` where they are none.
pub(super) fn parse(mut bytes: &[u8]) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|&b| b == b' ')?;
        let mode = u32::from_str_radix(std::str::from_utf8(&bytes[..space]).ok()?, 8).ok()?;
        bytes = &bytes[space + 1..];
        let end = bytes.iter().position(|&b| b == 0)?;
        let name = bytes[..end].to_vec();
        let oid = Oid::from_bytes(bytes.get(end + 1..end + 21)?).ok()?;
        bytes = &bytes[end + 21..];
        entries.push(Entry { mode, name, oid });
    }
    Some(entries)
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * 64);
    for entry in entries {
        bytes.extend_from_slice(format!("{:o} ", entry.mode).as_bytes());
        bytes.extend_from_slice(&entry.name);
        bytes.push(0);
        bytes.extend_from_slice(entry.oid.as_bytes());
    }
    bytes
}

/// Git's order: a folder sorts as if its name ended in `/`.
fn order(a: &Entry, b: &Entry) -> Ordering {
    let key = |e: &Entry| {
        let mut key = e.name.clone();
        if e.mode == FOLDER {
            key.push(b'/');
        }
        key
    };
    key(a).cmp(&key(b))
}

/// Reads one tree.
pub(super) fn read(odb: &Odb<'_>, oid: Oid) -> Result<Vec<Entry>, RepoError> {
    let doing = || format!("read tree `{oid}`");
    let object = odb.read(oid).map_err(|e| RepoError::new(doing(), e.message()))?;
    if object.kind() != ObjectType::Tree {
        return Err(RepoError::new(doing(), "it is another kind of object"));
    }
    parse(object.data()).ok_or_else(|| RepoError::new(doing(), "it is damaged"))
}

/// What `path` holds below `root`, folders included.
pub(super) fn find(odb: &Odb<'_>, root: Oid, path: &[u8]) -> Result<Option<Leaf>, RepoError> {
    let mut at = Leaf { mode: FOLDER, oid: root };
    for name in path.split(|&b| b == b'/') {
        if at.mode != FOLDER {
            return Ok(None);
        }
        match read(odb, at.oid)?.into_iter().find(|e| e.name == name) {
            Some(entry) => at = Leaf { mode: entry.mode, oid: entry.oid },
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

/// The tree of a commit.
pub(super) fn of_commit(git: &Repository, commit: Oid) -> Result<Oid, RepoError> {
    git.find_commit(commit).map(|c| c.tree_id()).doing(&format!("read commit `{commit}`"))
}

/// Every path that differs, in no particular order. Names that no work tree can hold (`..`, `.git`, a slash, a path
/// of 4,000 bytes) are left out and given back apart.
pub(super) fn diff(
    odb: &Odb<'_>,
    old: Option<Oid>,
    new: Option<Oid>,
) -> Result<(Vec<Change>, Vec<Vec<u8>>), RepoError> {
    let (mut changes, mut unfit) = (Vec::new(), Vec::new());
    let mut open = vec![(Vec::new(), old, new)];
    while let Some((prefix, old, new)) = open.pop() {
        if old == new {
            continue;
        }
        let mut pairs: BTreeMap<Vec<u8>, [Option<Leaf>; 2]> = BTreeMap::new();
        for (side, tree) in [old, new].into_iter().enumerate() {
            for entry in tree.map_or_else(|| Ok(Vec::new()), |oid| read(odb, oid))? {
                pairs.entry(entry.name).or_default()[side] = Some(Leaf { mode: entry.mode, oid: entry.oid });
            }
        }
        for (name, [old, new]) in pairs {
            if old == new {
                continue;
            }
            let mut path: Vec<u8> = prefix.clone();
            path.extend_from_slice(&name);
            if !is_fit(&name) || path.len() > LONGEST_PATH {
                unfit.push(path);
                continue;
            }
            let folder = |leaf: Option<Leaf>| leaf.filter(|l| l.mode == FOLDER).map(|l| l.oid);
            let file = |leaf: Option<Leaf>| leaf.filter(|l| l.mode != FOLDER);
            if file(old) != file(new) {
                changes.push(Change { path: path.clone(), old: file(old), new: file(new) });
            }
            if folder(old) != folder(new) {
                path.push(b'/');
                open.push((path, folder(old), folder(new)));
            }
        }
        if changes.len() + unfit.len() + open.len() > MOST_CHANGES {
            return Err(RepoError::new("compare two commits", "more than 1,000,000 paths differ"));
        }
    }
    Ok((changes, unfit))
}

/// Adds every object below the tree `new` that is not at the same place in `old`, `new` itself included.
pub(super) fn added(odb: &Odb<'_>, old: Option<Oid>, new: Oid, into: &mut BTreeSet<Oid>) -> Result<(), RepoError> {
    let mut open = vec![(old, new)];
    while let Some((old, new)) = open.pop() {
        if old == Some(new) || !into.insert(new) {
            continue;
        }
        let before = old.map_or_else(|| Ok(Vec::new()), |oid| read(odb, oid))?;
        let before: BTreeMap<&[u8], &Entry> = before.iter().map(|e| (e.name.as_slice(), e)).collect();
        for entry in read(odb, new)? {
            let was = before.get(entry.name.as_slice()).filter(|was| was.mode == entry.mode);
            match entry.mode {
                FOLDER => open.push((was.map(|was| was.oid), entry.oid)),
                SUBMODULE => {}
                _ if was.is_some_and(|was| was.oid == entry.oid) => {}
                _ => drop(into.insert(entry.oid)),
            }
        }
    }
    Ok(())
}

/// True for a name that may become a file: not `.git` in any spelling that some file system folds to it.
pub(super) fn is_fit(name: &[u8]) -> bool {
    let lower = name.to_ascii_lowercase();
    let dotgit = lower == b".git"
        || lower.starts_with(b".git ")
        || lower.starts_with(b".git.") && lower[5..].iter().all(|&b| b == b'.' || b == b' ');
    !(name.is_empty()
        || name == b"."
        || name == b".."
        || name.len() > 255
        || name.contains(&b'/')
        || dotgit
        || lower.starts_with(b"git~1"))
}

/// Applies `edits` (`None` removes) to the tree `base` and writes what changed through `write`. `None` is the empty
/// tree. Removing what is not there is no error.
pub(super) fn edit(
    odb: &Odb<'_>,
    base: Option<Oid>,
    edits: &BTreeMap<Vec<u8>, Option<Leaf>>,
    write: &mut dyn FnMut(&[u8]) -> Result<Oid, RepoError>,
) -> Result<Option<Oid>, RepoError> {
    let mut entries = base.map_or_else(|| Ok(Vec::new()), |oid| read(odb, oid))?;
    let mut below: BTreeMap<&[u8], BTreeMap<Vec<u8>, Option<Leaf>>> = BTreeMap::new();
    let mut leaves: BTreeMap<&[u8], Option<Leaf>> = BTreeMap::new();
    for (path, leaf) in edits {
        match path.iter().position(|&b| b == b'/') {
            Some(at) => {
                below.entry(&path[..at]).or_default().insert(path[at + 1..].to_vec(), *leaf);
            }
            None => {
                leaves.insert(path, *leaf);
            }
        }
    }
    // Once over the tree for all edits: it may have many thousands of entries.
    entries.retain(|e| leaves.get(e.name.as_slice()).is_none_or(|leaf| leaf.is_none() && e.mode == FOLDER));
    let there = entries.iter().filter(|e| e.mode == FOLDER && below.contains_key(e.name.as_slice()));
    let folders: BTreeMap<Vec<u8>, Oid> = there.map(|e| (e.name.clone(), e.oid)).collect();
    let mut edited: BTreeMap<&[u8], Option<Oid>> = BTreeMap::new();
    for (name, edits) in below {
        let folder = folders.get(name).copied();
        if folder.is_none() && edits.values().all(Option::is_none) {
            continue;
        }
        let new = edit(odb, folder, &edits, write)?;
        if new != folder {
            edited.insert(name, new);
        }
    }
    entries.retain(|e| !edited.contains_key(e.name.as_slice()));
    let made = |(name, oid): (&[u8], Option<Oid>)| Some(Entry { mode: FOLDER, name: name.to_vec(), oid: oid? });
    entries.extend(edited.into_iter().filter_map(made));
    let leaf =
        |(name, leaf): (&[u8], Option<Leaf>)| leaf.map(|l| Entry { mode: l.mode, name: name.to_vec(), oid: l.oid });
    entries.extend(leaves.into_iter().filter_map(leaf));
    if entries.is_empty() {
        return Ok(None);
    }
    entries.sort_by(order);
    write(&encode(&entries)).map(Some)
}
