//! Reads a run's log while it grows and while it is cut: every byte of the uncut log at most once and in order. Needs no
//! daemon and never disturbs the writer; refuses to show what a cut was just moving.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::cut::{self, CUT_LINE_MAX, Mark};
use super::scan::find_mark_in;

/// Read at once: most logs as a whole.
const STEP: u64 = 1 << 20;

/// How often a read is tried again because the log was cut meanwhile.
const TRIES: usize = 8;

/// What came since the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// Bytes that were dropped before `bytes`, because of the limit.
    pub skipped: u64,
    /// Uncut offset of the first of `bytes`.
    pub offset: u64,
    /// Safe to show as they are; empty where there is nothing new.
    pub bytes: Vec<u8>,
}

/// A reader of one run's log.
#[derive(Debug)]
pub struct LogFollower {
    file: File,
    next: u64,
    mark_at: Option<u64>,
    seen: Option<(u64, i64, i64)>,
}

impl LogFollower {
    /// Opens a log; the first look starts at uncut offset `from`, such as an event's `log_off`.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub fn open(path: &Path, from: u64) -> io::Result<Self> {
        Ok(Self::over(File::open(path)?, from))
    }

    /// As [`Self::open`], over a log that is open already.
    #[must_use]
    pub const fn over(file: File, from: u64) -> Self {
        Self { file, next: from, mark_at: None, seen: None }
    }

    /// What is new, up to 1 MiB; to be called again until `bytes` is empty.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn read(&mut self) -> io::Result<Followed> {
        for _ in 0..TRIES {
            let meta = self.file.metadata()?;
            let state = state_of(&meta);
            if self.seen == Some(state) {
                break;
            }
            let before = self.mark(meta.len())?;
            let (position, end) = match before {
                // The writer is at it: the bytes are somewhere in between.
                Some((_, Mark::Moving { .. }, _)) => break,
                Some((_, Mark::Done(cut), _)) if self.next < cut.from => (self.next, cut.from),
                Some((at, Mark::Done(cut), len)) => (at + len + self.next.saturating_sub(cut.to), meta.len()),
                None => (self.next, meta.len()),
            };
            let mut bytes = vec![0; usize::try_from(end.saturating_sub(position).min(STEP)).unwrap_or(0)];
            let read = self.file.read_at(&mut bytes, position)?;
            bytes.truncate(read);
            // The mark is written before anything is moved: where it is the same, nothing was.
            if self.mark(self.file.metadata()?.len())? != before {
                continue;
            }
            let offset = match before {
                Some((_, Mark::Done(cut), _)) if self.next >= cut.from => self.next.max(cut.to),
                _ => self.next,
            };
            let skipped = offset - self.next;
            self.next = offset + read as u64;
            if read == 0 {
                self.seen = Some(state);
            }
            return Ok(Followed { skipped, offset, bytes });
        }
        Ok(Followed { offset: self.next, ..Followed::default() })
    }

    /// The line of the cut: where it starts, what it says, how long it is.
    fn mark(&mut self, len: u64) -> io::Result<Option<(u64, Mark, u64)>> {
        if let Some(at) = self.mark_at
            && let Some(found) = self.mark_here(at)?
        {
            return Ok(Some(found));
        }
        self.mark_at = find_mark_in(&self.file, len)?;
        self.mark_at.map_or(Ok(None), |at| self.mark_here(at))
    }

    fn mark_here(&self, at: u64) -> io::Result<Option<(u64, Mark, u64)>> {
        let mut line = [0; CUT_LINE_MAX];
        let read = self.file.read_at(&mut line, at)?;
        Ok(cut::parse(&line[..read]).map(|(mark, len)| (at, mark, len as u64)))
    }
}

fn state_of(meta: &Metadata) -> (u64, i64, i64) {
    (meta.len(), meta.mtime(), meta.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::super::RunLog;
    use super::*;

    /// Reads all there is: skipped ranges as (offset, bytes), and the bytes with their offsets checked.
    fn drain(follower: &mut LogFollower, uncut: &[u8]) -> u64 {
        let mut skipped = 0;
        loop {
            let part = follower.read().unwrap();
            if part.bytes.is_empty() {
                return skipped;
            }
            let start = usize::try_from(part.offset).unwrap();
            assert!(uncut[start..].starts_with(&part.bytes), "wrong bytes at {start}");
            skipped += part.skipped;
        }
    }

    #[test]
    fn follows_over_a_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = RunLog::open(&path, 4_096).unwrap();
        let uncut: Vec<u8> = (0..5_000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
        log.output(&uncut[..3_500]);
        let mut follower = LogFollower::open(&path, 0).unwrap();
        assert_eq!(drain(&mut follower, &uncut), 0);
        log.output(&uncut[3_500..4_500]);
        assert_eq!(drain(&mut follower, &uncut), 0, "what was not read yet is still there");
        log.output(&uncut[4_500..]);
        assert!(drain(&mut follower, &uncut) > 10_000);
        assert_eq!(follower.next, uncut.len() as u64);

        let mut late = LogFollower::open(&path, 0).unwrap();
        assert_eq!(drain(&mut late, &uncut), log.dropped());
        let mut middle = LogFollower::open(&path, 20_000).unwrap();
        assert!(drain(&mut middle, &uncut) < log.dropped());
        assert_eq!((late.next, middle.next), (follower.next, follower.next));
    }

    #[test]
    fn never_shows_what_is_being_moved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut log = RunLog::open(&path, 4_096).unwrap();
        let uncut: Vec<u8> = (0..60_000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                uncut.chunks(100).for_each(|chunk| log.output(chunk));
                done.store(true, Ordering::SeqCst);
            });
            let mut follower = LogFollower::open(&path, 0).unwrap();
            while !done.load(Ordering::SeqCst) {
                drain(&mut follower, &uncut);
            }
            drain(&mut follower, &uncut);
            assert_eq!(follower.next, uncut.len() as u64);
        });
    }
}
