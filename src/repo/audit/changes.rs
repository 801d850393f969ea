//! Two trees, compared line by line without a copy of either: history has a hundred thousand of them.

use std::cmp::Ordering;

use git2::Oid;

use super::super::error::RepoError;

/// One line of a tree, borrowed from its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    mode: &'a [u8],
    pub(super) name: &'a [u8],
    oid: &'a [u8],
}

impl Line<'_> {
    pub(super) fn is_folder(&self) -> bool {
        self.mode == b"40000"
    }

    /// A file or a link, which is what can be a request.
    pub(super) fn is_file(&self) -> bool {
        self.mode.starts_with(b"10") || self.mode == b"120000"
    }

    pub(super) fn oid(&self) -> Oid {
        // Twenty bytes, or it would not be a line.
        Oid::from_bytes(self.oid).unwrap_or(Oid::ZERO_SHA1)
    }

    /// Git's order: a folder sorts as if its name ended in `/`.
    fn order(&self, other: &Self) -> Ordering {
        let shared = self.name.len().min(other.name.len());
        let next = |line: &Self| match line.name.get(shared) {
            Some(byte) => Some(*byte),
            None => line.is_folder().then_some(b'/'),
        };
        self.name[..shared].cmp(&other.name[..shared]).then_with(|| next(self).cmp(&next(other)))
    }
}

/// The lines of a tree's bytes.
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<Option<Line<'a>>, RepoError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let line = || {
            let space = self.rest.iter().position(|&byte| byte == b' ')?;
            let end = space + 1 + self.rest[space + 1..].iter().position(|&byte| byte == 0)?;
            let line = Line {
                mode: &self.rest[..space],
                name: &self.rest[space + 1..end],
                oid: self.rest.get(end + 1..end + 21)?,
            };
            Some((line, &self.rest[end + 21..]))
        };
        let (line, rest) = line().ok_or_else(|| RepoError::new("read a tree", "it is damaged"))?;
        self.rest = rest;
        Ok(Some(line))
    }
}

/// Tells of every name whose line differs, with the line before and after.
pub(super) fn compare<'a>(
    old: &'a [u8],
    new: &'a [u8],
    each: &mut dyn FnMut(Option<Line<'a>>, Option<Line<'a>>) -> Result<(), RepoError>,
) -> Result<(), RepoError> {
    let (mut olds, mut news) = (Lines { rest: old }, Lines { rest: new });
    let (mut before, mut after) = (olds.next()?, news.next()?);
    loop {
        let order = match (&before, &after) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(before), Some(after)) => before.order(after),
        };
        match order {
            Ordering::Less => {
                each(before, None)?;
                before = olds.next()?;
            }
            Ordering::Greater => {
                each(None, after)?;
                after = news.next()?;
            }
            Ordering::Equal => {
                if before != after {
                    each(before, after)?;
                }
                (before, after) = (olds.next()?, news.next()?);
            }
        }
    }
}

/// The object of a name in a tree's bytes; `folder`: of that kind.
pub(super) fn find(bytes: &[u8], name: &[u8], folder: bool) -> Result<Option<Oid>, RepoError> {
    let mut lines = Lines { rest: bytes };
    while let Some(line) = lines.next()? {
        if line.name == name {
            let fits = if folder { line.is_folder() } else { line.is_file() };
            return Ok(fits.then(|| line.oid()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A tree of these names; those that end in `/` are folders.
    fn bytes(names: &[(&str, u8)]) -> Vec<u8> {
        let mut lines: Vec<(String, Vec<u8>)> = names
            .iter()
            .map(|(name, oid)| {
                let mode = if name.ends_with('/') { "40000" } else { "100644" };
                let mut line = format!("{mode} {}\0", name.trim_end_matches('/')).into_bytes();
                line.extend([*oid; 20]);
                ((*name).to_owned(), line)
            })
            .collect();
        lines.sort();
        lines.into_iter().flat_map(|(_, line)| line).collect()
    }

    fn compared(old: &[u8], new: &[u8]) -> Vec<String> {
        let mut seen = Vec::new();
        let show = |line: Option<Line<'_>>| {
            line.map_or_else(|| "-".to_owned(), |l| format!("{}{}", String::from_utf8_lossy(l.name), l.oid[0]))
        };
        compare(old, new, &mut |before, after| {
            seen.push(format!("{} {}", show(before), show(after)));
            Ok(())
        })
        .unwrap();
        seen
    }

    #[test]
    fn lines_that_differ_are_told() {
        let old = bytes(&[("a", 1), ("b/", 1), ("c", 1), ("d.x", 1), ("d/", 1)]);
        assert_eq!(compared(&old, &old), Vec::<String>::new());
        let new = bytes(&[("a", 2), ("c", 1), ("d", 1), ("d.x", 1), ("e/", 1)]);
        assert_eq!(compared(&old, &new), ["a1 a2", "b1 -", "- d1", "d1 -", "- e1"]);
        assert_eq!(compared(b"", &bytes(&[("a", 1)])), ["- a1"]);
        assert_eq!((find(&old, b"b", true).unwrap().is_some(), find(&old, b"b", false).unwrap()), (true, None));
    }

    #[test]
    fn damaged_trees_are_errors() {
        for bad in [&b"40000"[..], b"40000 a", b"40000 a\0", b"40000 a\0short"] {
            assert!(compare(bad, b"", &mut |_, _| Ok(())).is_err());
        }
    }

    proptest! {
        #[test]
        fn it_is_what_a_slow_comparison_finds(old: std::collections::BTreeMap<String, u8>, new: std::collections::BTreeMap<String, u8>) {
            let clean = |map: &std::collections::BTreeMap<String, u8>| -> std::collections::BTreeMap<String, u8> {
                map.iter().map(|(name, oid)| (name.replace(['\0', '/'], "_") + "x", *oid)).collect()
            };
            let (old, new) = (clean(&old), clean(&new));
            let tree = |map: &std::collections::BTreeMap<String, u8>| bytes(&map.iter().map(|(n, o)| (n.as_str(), *o)).collect::<Vec<_>>());
            let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            let differ = names.into_iter().filter(|name| old.get(*name) != new.get(*name)).count();
            prop_assert_eq!(compared(&tree(&old), &tree(&new)).len(), differ);
        }
    }
}
