//! Reading event streams back, for use without a daemon. Skips what is torn, unknown or too long; never fails on the
//! content of a file.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::rotation::older_files;
use crate::event::{Entry, Event};
use crate::request::RunId;

/// Longest line that is read, in bytes. Events carry names and short texts.
const LINE_MAX: u64 = 1 << 20;
/// What was lost by a crash is near the end of the stream: so much of it is looked at, in bytes.
const NEWEST: u64 = 1 << 20;

/// The entries of one file, in its order.
#[derive(Debug)]
pub struct Entries {
    file: BufReader<File>,
}

/// Opens an event stream (`events.jsonl` or `<id>.jsonl`).
///
/// # Errors
/// Where the file cannot be opened.
pub fn read_entries(path: &Path) -> io::Result<Entries> {
    Ok(Entries { file: BufReader::with_capacity(64 << 10, File::open(path)?) })
}

/// The files of the live stream in `logs`, oldest first: `events.jsonl.8` … `events.jsonl`. Only those that exist.
///
/// # Errors
/// Where the folder cannot be read.
pub fn stream_files(logs: &Path) -> io::Result<Vec<PathBuf>> {
    let live = logs.join("events.jsonl");
    let mut files: Vec<PathBuf> = older_files(&live)?.into_iter().rev().map(|(_, path)| path).collect();
    if live.exists() {
        files.push(live);
    }
    Ok(files)
}

/// The newest entries of the live stream in `logs` with a number above `after`, oldest first, out of its last `most`
/// bytes. Follows no link.
///
/// # Errors
/// Where a file cannot be read.
pub fn recent_entries(logs: &Path, after: u64, most: u64) -> io::Result<Vec<Entry>> {
    let (mut newest, mut left) = (Vec::new(), most);
    for path in stream_files(logs)?.iter().rev() {
        let file = File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            break;
        }
        let start = meta.len().saturating_sub(left);
        let mut reader = BufReader::with_capacity(64 << 10, file);
        reader.seek(SeekFrom::Start(start))?;
        if start > 0 {
            skip_line(&mut reader)?;
        }
        let all: Vec<Entry> = Entries { file: reader }.collect();
        let complete = all.first().is_some_and(|first| first.seq <= after.saturating_add(1));
        newest.splice(0..0, all.into_iter().filter(|entry| entry.seq > after));
        left -= meta.len() - start;
        if complete || left == 0 {
            break;
        }
    }
    Ok(newest)
}

impl Iterator for Entries {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = (&mut self.file).take(LINE_MAX).read_until(b'\n', &mut line).ok()?;
            if read == 0 {
                return None;
            }
            if line.last() != Some(&b'\n') {
                // Torn, or too long: nothing of it counts.
                skip_line(&mut self.file).ok()?;
            } else if let Ok(entry) = serde_json::from_slice(&line) {
                return Some(entry);
            }
        }
    }
}

fn skip_line(file: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = file.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let newline = buffer.iter().position(|&b| b == b'\n');
        let used = newline.map_or(buffer.len(), |at| at + 1);
        file.consume(used);
        if newline.is_some() {
            return Ok(());
        }
    }
}

/// The runs of which the newest MiB of the stream in `logs` tells something, and not their end.
///
/// # Errors
/// Where the folder or a file cannot be read.
pub fn runs_without_end(logs: &Path) -> io::Result<BTreeSet<RunId>> {
    let (mut seen, mut ended, mut room) = (BTreeSet::new(), BTreeSet::new(), NEWEST);
    for path in stream_files(logs)?.iter().rev() {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(room)))?;
        // A first line that is cut is none, and is skipped.
        for entry in (Entries { file: BufReader::with_capacity(64 << 10, file) }) {
            let Some(run) = entry.event.run() else { continue };
            seen.insert(run.id);
            if matches!(entry.event, Event::Finished { .. }) {
                ended.insert(run.id);
            }
        }
        room = room.saturating_sub(len);
        if room == 0 {
            break;
        }
    }
    Ok(&seen - &ended)
}

/// The `seq` of the newest readable line in the stream of `logs`; 0 where there is none.
pub(super) fn last_seq(logs: &Path) -> io::Result<u64> {
    for path in stream_files(logs)?.iter().rev() {
        if let Some(seq) = last_seq_of(path)? {
            return Ok(seq);
        }
    }
    Ok(0)
}

fn last_seq_of(path: &Path) -> io::Result<Option<u64>> {
    #[derive(Deserialize)]
    struct Numbered {
        seq: u64,
    }
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut window: u64 = 64 << 10;
    loop {
        let start = len.saturating_sub(window);
        file.seek(SeekFrom::Start(start))?;
        let mut part = Vec::new();
        (&file).take(window).read_to_end(&mut part)?;
        let whole = part.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        let seq = part[..whole]
            .rsplit(|&b| b == b'\n')
            .find_map(|line| serde_json::from_slice::<Numbered>(line).ok())
            .map(|numbered| numbered.seq);
        if seq.is_some() || start == 0 {
            return Ok(seq);
        }
        window = window.saturating_mul(4);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn check(content: &[u8], seqs: &[u64], last: Option<u64>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        fs::write(&path, content).unwrap();
        let read: Vec<u64> = read_entries(&path).unwrap().map(|e| e.seq).collect();
        assert_eq!(read, seqs);
        assert_eq!(last_seq_of(&path).unwrap(), last);
    }

    #[test]
    fn the_newest_are_found_over_rotated_files() {
        let folder = tempfile::tempdir().unwrap();
        let line = |seq: u64| {
            format!(
                "{{\"v\":1,\"seq\":{seq},\"ts\":\"2026-11-23T06:41:07.114Z\",\"event\":\"dispatcher.resumed\",\"by\":\"ana\"}}\n"
            )
        };
        let lines = |from: u64, to: u64| (from..to).map(line).collect::<String>();
        fs::write(folder.path().join("events.jsonl.1"), lines(1, 10)).unwrap();
        fs::write(folder.path().join("events.jsonl"), lines(10, 15)).unwrap();
        let one = line(10).len() as u64;
        for (after, most, expect) in [
            (0, u64::MAX, 1..15),
            (7, u64::MAX, 8..15),
            (12, u64::MAX, 13..15),
            (14, u64::MAX, 15..15),
            (0, 3 * one, 13..15),
            (0, 7 * one, 8..15),
        ] {
            let got: Vec<u64> = recent_entries(folder.path(), after, most).unwrap().iter().map(|e| e.seq).collect();
            assert_eq!(got, expect.collect::<Vec<_>>(), "after {after}, {most} bytes");
        }
    }

    #[test]
    fn runs_without_an_end_are_found_over_rotation() {
        let folder = tempfile::tempdir().unwrap();
        let id = |n: u8| RunId::new(crate::time::Time::from_millis(0), [n; 10]);
        let run = |n: u8, event: &str, more: &str| {
            format!(
                "{{\"v\":1,\"seq\":1,\"ts\":\"2026-11-23T06:41:07.114Z\",\"event\":\"{event}\",\"id\":\"{}\",\
                 \"req\":\"a.yml\",\"kind\":null,\"resource\":null,\"log_off\":0{more}}}\n",
                id(n)
            )
        };
        let output = |n| run(n, "run.output", ",\"bytes\":1");
        let ended =
            ",\"status\":\"succeeded\",\"rc\":0,\"signal\":null,\"attempt\":1,\"duration_ms\":1,\"reason\":null";
        let finished = |n| run(n, "run.finished", ended);
        let write = |name: &str, text: String| fs::write(folder.path().join(name), text).unwrap();
        write("events.jsonl.2", output(9));
        write("events.jsonl.1", output(1) + &output(2) + &"x".repeat(1 << 20) + "\n" + &output(3) + &output(4));
        write("events.jsonl", output(5) + &finished(3) + &finished(5) + &output(6)[..50]);
        assert_eq!(runs_without_end(folder.path()).unwrap(), BTreeSet::from([id(4)]), "older ones are left alone");
        assert_eq!(runs_without_end(&folder.path().join("none")).unwrap_or_default(), BTreeSet::new());
    }

    #[test]
    fn what_is_torn_unknown_or_too_long_is_skipped() {
        let line = |seq: u64| {
            format!(
                "{{\"v\":1,\"seq\":{seq},\"ts\":\"2026-11-23T06:41:07.114Z\",\"event\":\"dispatcher.resumed\",\"by\":\"ana\"}}\n"
            )
        };
        let unknown = "{\"v\":1,\"seq\":9,\"ts\":\"2026-11-23T06:41:07.114Z\",\"event\":\"of.the.future\"}\n";
        check(b"", &[], None);
        check((line(1) + &line(2)).as_bytes(), &[1, 2], Some(2));
        check((line(1) + "{\"v\":1,\"se\n" + &line(2)).as_bytes(), &[1, 2], Some(2));
        check((line(1) + unknown).as_bytes(), &[1], Some(9));
        check((line(1) + &line(2)[..20]).as_bytes(), &[1], Some(1));
        check((line(1) + &"x".repeat(3 << 20) + "\n" + &line(2)).as_bytes(), &[1, 2], Some(2));
        check((line(1) + &"x".repeat(200_000) + "\n").as_bytes(), &[1], Some(1));
        check(&[line(1).as_bytes(), b"\xff\xfe\0\n", line(2).as_bytes()].concat(), &[1, 2], Some(2));
    }
}
