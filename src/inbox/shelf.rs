//! What the inbox remembers of each entry and when that becomes an offer. Pure: looks and times are passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::time::{Duration, Instant};

use super::judge::{Look, Verdict};

/// Where an entry stands; drawn in the module's docs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    Writing { last: Instant },
    Settling { since: Instant },
    Ready,
    Told,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    look: Look,
    stand: Stand,
}

/// What inotify said of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    /// Created or written to.
    Changed,
    /// Closed after writing, or renamed in.
    Complete,
    /// Removed, or renamed away.
    Gone,
}

/// How many names that were warned of are remembered.
const WARNED: usize = 1_024;

/// All entries of the folder.
pub(super) struct Shelf {
    quiet: Duration,
    hold: Duration,
    entries: BTreeMap<OsString, Entry>,
    warned: BTreeSet<OsString>,
}

impl Shelf {
    pub(super) fn new(quiet: Duration, hold: Duration) -> Self {
        Self { quiet, hold, entries: BTreeMap::new(), warned: BTreeSet::new() }
    }

    /// The folder as a scan found it.
    pub(super) fn scanned(&mut self, now: Instant, found: BTreeMap<OsString, Look>) {
        self.entries.retain(|name, _| found.contains_key(name));
        for (name, look) in found {
            self.relooked(now, &name, Some(look), false);
        }
    }

    /// inotify said something of `name`, and this is how it looks now.
    pub(super) fn hinted(&mut self, now: Instant, name: &OsStr, hint: Hint, look: Option<Look>) {
        let Some(look) = look else {
            self.entries.remove(name);
            return;
        };
        if self.entries.get(name).is_some_and(|e| e.look == look && matches!(e.stand, Stand::Told | Stand::Ready)) {
            return;
        }
        let is_candidate = matches!(look.verdict, Verdict::Candidate(_));
        let stand = match hint {
            Hint::Complete if is_candidate => Stand::Ready,
            Hint::Changed if is_candidate && look.writable => Stand::Writing { last: now },
            // A link, a folder, a second name of a file: no close will follow.
            _ => Stand::Settling { since: now },
        };
        self.entries.insert(name.to_owned(), Entry { look, stand });
    }

    /// Hints were lost: what is being written can only be told by watching it stand still.
    pub(super) fn hints_lost(&mut self, now: Instant) {
        for entry in self.entries.values_mut() {
            if let Stand::Writing { .. } = entry.stand {
                entry.stand = Stand::Settling { since: now };
            }
        }
    }

    /// Names whose time of waiting is over; each wants a [`Self::relooked`].
    pub(super) fn expired(&self, now: Instant) -> Vec<OsString> {
        let over = |entry: &Entry| self.deadline(entry).is_some_and(|at| at <= now);
        self.entries.iter().filter(|(_, e)| over(e)).map(|(name, _)| name.clone()).collect()
    }

    /// How `name` looks now; `is_over` where its time of waiting was, so that an unchanged one becomes ready.
    pub(super) fn relooked(&mut self, now: Instant, name: &OsStr, look: Option<Look>, is_over: bool) {
        let Some(look) = look else {
            self.entries.remove(name);
            return;
        };
        match self.entries.get_mut(name) {
            Some(entry) if entry.look == look => {
                if is_over {
                    entry.stand = Stand::Ready;
                }
            }
            Some(Entry { look: old, stand: Stand::Writing { last } }) => (*old, *last) = (look, now),
            _ => {
                let stand = Stand::Settling { since: now };
                self.entries.insert(name.to_owned(), Entry { look, stand });
            }
        }
    }

    /// Offers `name` again although it has not changed.
    pub(super) fn forget(&mut self, name: &OsStr) {
        if let Some(entry) = self.entries.get_mut(name)
            && entry.stand == Stand::Told
        {
            entry.stand = Stand::Ready;
        }
    }

    /// Nothing is there any more.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
    }

    /// When the next entry expires.
    pub(super) fn next(&self) -> Option<Instant> {
        self.entries.values().filter_map(|entry| self.deadline(entry)).min()
    }

    /// True while an entry waits for its quiet time. One that is being written does not count: that may take for ever.
    pub(super) fn is_settling(&self) -> bool {
        self.entries.values().any(|entry| matches!(entry.stand, Stand::Settling { .. }))
    }

    /// What is to be told, in order of names. Something that is left alone comes once.
    pub(super) fn tell(&mut self) -> Vec<(OsString, Look)> {
        let mut told = Vec::new();
        for (name, entry) in &mut self.entries {
            if entry.stand != Stand::Ready {
                continue;
            }
            entry.stand = Stand::Told;
            let is_new = match entry.look.verdict {
                Verdict::Candidate(_) => true,
                Verdict::Leave(_) => self.warned.len() < WARNED && self.warned.insert(name.clone()),
            };
            if is_new {
                told.push((name.clone(), entry.look));
            }
        }
        if self.warned.len() >= WARNED {
            self.warned.retain(|name| self.entries.contains_key(name));
        }
        told
    }

    fn deadline(&self, entry: &Entry) -> Option<Instant> {
        match entry.stand {
            Stand::Writing { last } => Some(last + self.hold),
            Stand::Settling { since } => Some(since + self.quiet),
            Stand::Ready | Stand::Told => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::judge::{Ignored, Stamp};

    const QUIET: Duration = Duration::from_millis(250);
    const HOLD: Duration = Duration::from_secs(30);

    fn file(size: u64) -> Look {
        let stamp = Stamp { dev: 1, ino: 1, size, mtime_ns: 0, ctime_ns: 0 };
        Look { stamp, verdict: Verdict::Candidate(None), writable: true }
    }

    enum Do {
        Scan(u64),
        Hint(Hint, u64),
        Lost,
        Forget,
        /// Moves the clock, as the thread does: what expired is looked at again.
        Wait(Duration, u64),
    }

    /// Does `steps` to one file and counts the offers after each.
    fn check(steps: &[Do], expect: &[usize]) {
        let mut now = Instant::now();
        let mut shelf = Shelf::new(QUIET, HOLD);
        let name = OsString::from("a.yml");
        let mut seen = Vec::new();
        for step in steps {
            match step {
                Do::Scan(size) => shelf.scanned(now, BTreeMap::from([(name.clone(), file(*size))])),
                Do::Hint(hint, size) => shelf.hinted(now, &name, *hint, Some(file(*size))),
                Do::Lost => shelf.hints_lost(now),
                Do::Forget => shelf.forget(&name),
                Do::Wait(time, size) => {
                    now += *time;
                    for name in shelf.expired(now) {
                        shelf.relooked(now, &name, Some(file(*size)), true);
                    }
                }
            }
            seen.push(shelf.tell().len());
        }
        assert_eq!(seen, expect);
    }

    #[test]
    fn a_found_file_is_offered_once_it_stood_still() {
        let almost = QUIET - Duration::from_millis(1);
        check(&[Do::Scan(1), Do::Wait(almost, 1), Do::Wait(QUIET, 1), Do::Scan(1)], &[0, 0, 1, 0]);
        check(&[Do::Scan(1), Do::Wait(QUIET, 2), Do::Wait(almost, 2), Do::Wait(QUIET, 2)], &[0, 0, 0, 1]);
        check(&[Do::Scan(1), Do::Scan(2), Do::Wait(QUIET, 2), Do::Scan(3), Do::Wait(QUIET, 3)], &[0, 0, 1, 0, 1]);
    }

    #[test]
    fn a_file_that_is_seen_being_written_waits_for_its_close() {
        let changed = |size| Do::Hint(Hint::Changed, size);
        check(&[changed(0), Do::Wait(QUIET * 8, 1), Do::Scan(1), changed(2)], &[0; 4]);
        check(&[changed(0), Do::Wait(QUIET, 1), Do::Hint(Hint::Complete, 1), changed(1)], &[0, 0, 1, 0]);
        check(&[changed(1), Do::Wait(HOLD, 2), Do::Wait(HOLD, 2)], &[0, 0, 1]);
        check(&[changed(1), Do::Lost, Do::Wait(QUIET, 1)], &[0, 0, 1]);
        check(&[Do::Scan(1), changed(2), Do::Wait(QUIET * 2, 2)], &[0; 3]);
    }

    #[test]
    fn an_offer_is_repeated_when_it_is_forgotten_or_changed() {
        let complete = |size| Do::Hint(Hint::Complete, size);
        check(&[complete(1), complete(1), Do::Forget, Do::Forget, complete(2)], &[1, 0, 1, 1, 1]);
        check(&[complete(1), Do::Hint(Hint::Changed, 2), Do::Forget, complete(2)], &[1, 0, 0, 1]);
    }

    #[test]
    fn memory_of_warnings_is_bounded() {
        let mut shelf = Shelf::new(QUIET, HOLD);
        let start = Instant::now();
        let odd = Look { verdict: Verdict::Leave(Ignored::Folder), ..file(0) };
        let mut told = 0;
        for n in 0_u32..20 {
            let now = start + QUIET * 2 * n;
            let found = (0..500).map(|i| (OsString::from(format!("{n}-{i}")), odd)).collect();
            shelf.scanned(now, found);
            for name in shelf.expired(now + QUIET) {
                shelf.relooked(now + QUIET, &name, Some(odd), true);
            }
            told += shelf.tell().len();
            assert!(shelf.warned.len() <= WARNED);
        }
        assert!(told > 5_000, "{told}");
    }
}
