//! The event streams: `logs/events.jsonl` for everything, `logs/<id>.jsonl` for one run. Owns `seq`. A disk that takes no
//! lines never stops the daemon: the line is lost, its `seq` is used up (so the gap shows it), and the loss is counted.
//!
//! `seq` is given out when a line is written to `events.jsonl`, and rises there by one. `run.finished` is in the run's own
//! file first, because that file is committed with it: there it carries the number that is next at that moment, which
//! is above all others of that file; in `events.jsonl` the number of its announcement.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::entries::last_seq;
use super::rotation::{Losses, Rotate, Rotating, append_line, open_lines};
use crate::event::{Entry, Event};
use crate::request::RunId;
use crate::text;
use crate::time::Time;

const IGNORE: &str = "dispatcher.log*\nevents.jsonl*\n";

/// The writer of all event streams. Shared by reference between threads.
#[derive(Debug)]
pub struct Journal {
    logs: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    next: u64,
    stream: Rotating,
    losses: Losses,
}

impl Journal {
    /// Opens the streams of `logs`, made if need be, with its `.gitignore`. `seq` goes on after the newest readable line.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(logs: &Path, rotate: Rotate) -> io::Result<Self> {
        fs::create_dir_all(logs)?;
        let ignore = logs.join(".gitignore");
        if fs::symlink_metadata(&ignore).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            fs::write(ignore, IGNORE)?;
        }
        let next = last_seq(logs)?.saturating_add(1);
        let stream = Rotating::open(logs.join("events.jsonl"), rotate)?;
        Ok(Self { logs: logs.to_owned(), inner: Mutex::new(Inner { next, stream, losses: Losses::default() }) })
    }

    /// Writes an event to `events.jsonl` and, where it is about a run, to that run's own file.
    pub fn write(&self, ts: Time, event: Event) -> Entry {
        let mut inner = self.lock();
        let entry = inner.number(ts, event);
        let line = line_of(&entry);
        if let Some(run) = entry.event.run() {
            let outcome = self.append_to_run(run.id, &line);
            inner.losses.count(outcome);
        }
        inner.append(&line);
        entry
    }

    /// Writes a run's last event to its own file only: to be called before the commit. [`announce`](Self::announce) follows.
    pub fn write_run_final(&self, ts: Time, event: Event) -> Entry {
        let mut inner = self.lock();
        let entry = Entry { v: 1, seq: inner.next, ts, event };
        if let Some(run) = entry.event.run() {
            let outcome = self.append_to_run(run.id, &line_of(&entry));
            inner.losses.count(outcome);
        }
        entry
    }

    /// Writes to `events.jsonl` what [`write_run_final`](Self::write_run_final) has put into the run's own file: to be
    /// called after the commit, at `ts`. `seq` is given out anew.
    pub fn announce(&self, ts: Time, entry: Entry) -> Entry {
        let mut inner = self.lock();
        let entry = inner.number(ts, entry.event);
        inner.append(&line_of(&entry));
        entry
    }

    /// The number of the newest event; 0 before the first.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.lock().next.saturating_sub(1)
    }

    /// Lines that could not be written so far.
    #[must_use]
    pub fn losses(&self) -> Losses {
        self.lock().losses.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append_to_run(&self, id: RunId, line: &[u8]) -> io::Result<()> {
        // Opened for each line: a run has few of them a second, and thousands of queued runs must not hold a descriptor.
        append_line(&open_lines(&self.logs.join(format!("{id}.jsonl")))?, line)
    }
}

impl Inner {
    fn number(&mut self, ts: Time, event: Event) -> Entry {
        let seq = self.next;
        self.next = seq.saturating_add(1);
        Entry { v: 1, seq, ts, event }
    }

    fn append(&mut self, line: &[u8]) {
        let outcome = self.stream.append(line);
        self.losses.count(outcome);
    }
}

/// JSON leaves some controls in strings as they are, and people `cat` these files.
fn line_of(entry: &Entry) -> Vec<u8> {
    let line = serde_json::to_string(entry).unwrap_or_default();
    (text::json(&line) + "\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::event::RunRef;
    use crate::journal::{read_entries, stream_files};
    use crate::status::State;

    const ROTATE: Rotate = Rotate { size: 16 << 20, keep: 8 };

    fn id(n: u8) -> RunId {
        RunId::new(Time::from_millis(0), [n; 10])
    }

    fn run(n: u8) -> RunRef {
        RunRef { id: id(n), req: "a.yml".into(), kind: "deploy".parse().ok(), resource: None, log_off: 7 }
    }

    fn finished(n: u8) -> Event {
        Event::Finished {
            run: run(n),
            status: State::Succeeded,
            rc: 0,
            signal: None,
            attempt: 1,
            duration_ms: Some(12),
            reason: None,
        }
    }

    fn resumed() -> Event {
        Event::Resumed { by: "ana".into() }
    }

    fn now() -> Time {
        Time::from_millis(1_763_900_000_000)
    }

    fn seqs(path: &Path) -> Vec<u64> {
        read_entries(path).unwrap().map(|e| e.seq).collect()
    }

    #[test]
    fn a_finished_run_is_announced_after_its_commit() {
        let logs = tempfile::tempdir().unwrap();
        let journal = Journal::open(logs.path(), ROTATE).unwrap();
        journal.write(now(), resumed());
        journal.write(now(), Event::Output { run: run(1), bytes: 5 });
        let entry = journal.write_run_final(now(), finished(1));
        let own = logs.path().join(format!("{}.jsonl", id(1)));
        let stream = logs.path().join("events.jsonl");
        assert_eq!(seqs(&own), [2, 3]);
        assert_eq!(seqs(&stream), [1, 2], "not final yet");
        journal.write(now(), Event::Committed { commit: "c".into(), runs: vec![id(1)] });
        assert_eq!(journal.announce(Time::from_millis(0), entry).seq, 4);
        assert_eq!(seqs(&stream), [1, 2, 3, 4]);
        assert_eq!(seqs(&own), [2, 3]);
        assert_eq!(fs::read_to_string(logs.path().join(".gitignore")).unwrap(), IGNORE);
    }

    #[test]
    fn seq_goes_on_wherever_the_stream_was_cut() {
        let logs = tempfile::tempdir().unwrap();
        let stream = logs.path().join("events.jsonl");
        let journal = Journal::open(logs.path(), ROTATE).unwrap();
        for _ in 0..3 {
            journal.write(now(), resumed());
        }
        drop(journal);
        let whole = fs::read(&stream).unwrap();
        for len in 0..=whole.len() {
            fs::write(&stream, &whole[..len]).unwrap();
            let lines = whole[..len].iter().filter(|&&b| b == b'\n').count() as u64;
            let journal = Journal::open(logs.path(), ROTATE).unwrap();
            assert_eq!(journal.write(now(), resumed()).seq, lines + 1);
            assert_eq!(seqs(&stream), (1..=lines + 1).collect::<Vec<_>>(), "cut at {len}");
        }
    }

    #[test]
    fn seq_goes_on_over_rotation_and_its_crash() {
        let logs = tempfile::tempdir().unwrap();
        let small = Rotate { size: 500, keep: 3 };
        for round in 0_u64..40 {
            let journal = Journal::open(logs.path(), small).unwrap();
            assert_eq!(journal.write(now(), resumed()).seq, round + 1);
            if round % 10 == 9 {
                let live = logs.path().join("events.jsonl");
                let older = logs.path().join("events.jsonl.1");
                if !older.exists() {
                    fs::rename(live, older).unwrap();
                }
            }
        }
        let all: Vec<u64> = stream_files(logs.path()).unwrap().iter().flat_map(|f| seqs(f)).collect();
        assert!(all.windows(2).all(|w| w[0] < w[1]), "{all:?}");
        assert_eq!(all.last(), Some(&40));
    }

    #[test]
    fn many_threads_one_order() {
        let logs = tempfile::tempdir().unwrap();
        let journal = Journal::open(logs.path(), ROTATE).unwrap();
        thread::scope(|scope| {
            for n in 0..4 {
                let journal = &journal;
                scope.spawn(move || {
                    for bytes in 0..50 {
                        journal.write(now(), Event::Output { run: run(n), bytes });
                    }
                });
            }
        });
        assert_eq!(seqs(&logs.path().join("events.jsonl")), (1..=200).collect::<Vec<_>>());
        let own = seqs(&logs.path().join(format!("{}.jsonl", id(2))));
        assert_eq!(own.len(), 50);
        assert!(own.windows(2).all(|w| w[0] < w[1]));
        assert_eq!(journal.losses(), Losses::default());
    }

    #[test]
    fn a_disk_that_takes_nothing_loses_lines_and_no_more() {
        let logs = tempfile::tempdir().unwrap();
        let journal = Journal::open(logs.path(), ROTATE).unwrap();
        journal.write(now(), resumed());
        // A folder in the way is refused for every user, root too.
        let own = logs.path().join(format!("{}.jsonl", id(1)));
        fs::create_dir(&own).unwrap();
        assert_eq!(journal.write_run_final(now(), finished(1)).seq, 2);
        assert_eq!(journal.losses().lines, 1);
        assert!(journal.losses().error.is_some());
        fs::remove_dir(&own).unwrap();

        let stream = logs.path().join("events.jsonl");
        fs::remove_file(&stream).unwrap();
        fs::create_dir(&stream).unwrap();
        assert_eq!(journal.write(now(), resumed()).seq, 2);
        assert_eq!(journal.losses().lines, 2);
        fs::remove_dir(&stream).unwrap();
        assert_eq!(journal.write(now(), resumed()).seq, 3);
        assert_eq!(seqs(&stream), [3], "the gap shows what is missing");
        assert_eq!(journal.losses(), Losses { lines: 2, error: None });
    }

    #[test]
    fn a_torn_line_of_a_run_is_cut_off() {
        let logs = tempfile::tempdir().unwrap();
        let own = logs.path().join(format!("{}.jsonl", id(1)));
        let journal = Journal::open(logs.path(), ROTATE).unwrap();
        journal.write(now(), Event::Output { run: run(1), bytes: 5 });
        let whole = fs::read(&own).unwrap();
        fs::write(&own, [&whole[..], b"{\"v\":1,"].concat()).unwrap();
        journal.write_run_final(now(), finished(1));
        assert_eq!(seqs(&own), [1, 2]);
    }
}
