//! Follows `$DISPATCH_PROGRESS`: the last whole line is the run's shown step.

use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::PathBuf;
use std::sync::Arc;

use super::own;
use crate::mask::Mask;
use crate::text;

/// Most bytes that are looked at in one go; of more, the end.
const WINDOW: u64 = 16 << 10;
/// Longest step that is shown, in characters.
const LONGEST: usize = 200;

/// What a handler said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Safe to show, at most 200 characters.
    pub text: String,
    /// Of `3/7 evict`: 3.
    pub done: Option<u64>,
    /// Of `3/7 evict`: 7.
    pub total: Option<u64>,
}

/// The file, and how far it has been read.
#[derive(Debug)]
pub struct Progress {
    path: PathBuf,
    uid: u32,
    /// The first file of the handler's own that was seen there.
    file: Option<File>,
    /// Size and time of the last change that was seen.
    seen: (u64, i64, i64),
    last: Option<Step>,
    mask: Arc<Mask>,
}

impl Progress {
    /// Follows the file that `uid` will make at `path`.
    #[must_use]
    pub fn new(path: PathBuf, uid: u32, mask: Arc<Mask>) -> Self {
        Self { path, uid, file: None, seen: (0, 0, 0), last: None, mask }
    }

    /// The newest step, where it is another one than the last time.
    pub fn poll(&mut self) -> Option<Step> {
        if self.file.is_none() {
            self.file = own::open(&self.path, self.uid).ok().flatten();
        }
        let file = self.file.as_ref()?;
        let meta = file.metadata().ok()?;
        let now = (meta.size(), meta.mtime(), meta.mtime_nsec());
        if now == self.seen || now.0 == 0 {
            self.seen = now;
            return None;
        }
        self.seen = now;
        let start = now.0.saturating_sub(WINDOW);
        let mut bytes = vec![0; usize::try_from(now.0 - start).ok()?];
        let length = file.read_at(&mut bytes, start).ok()?;
        // Of a line whose beginning is not seen nothing is shown: what it has of a secret would not be recognised.
        let skipped = if start > 0 { bytes[..length].iter().position(|&b| b == b'\n')? + 1 } else { 0 };
        // Before it is cut.
        let step = last_step(&self.mask.bytes(&bytes[skipped..length]))?;
        if self.last.as_ref() == Some(&step) {
            return None;
        }
        self.last = Some(step.clone());
        Some(step)
    }
}

/// The last line that is whole and not blank.
fn last_step(bytes: &[u8]) -> Option<Step> {
    let whole = &bytes[..bytes.iter().rposition(|&b| b == b'\n')?];
    let line = whole.split(|&b| b == b'\n').rev().find(|line| !line.trim_ascii().is_empty())?.trim_ascii();
    // Before it is escaped, so that the work is bounded too.
    let line = &line[..line.len().min(LONGEST * 4)];
    let (counts, rest) = counts(line).map_or((None, line), |(done, total, rest)| (Some((done, total)), rest));
    Some(Step {
        text: text::bytes(rest).chars().take(LONGEST).collect(),
        done: counts.map(|c| c.0),
        total: counts.map(|c| c.1),
    })
}

/// Splits `3/7 evict` into its parts.
fn counts(line: &[u8]) -> Option<(u64, u64, &[u8])> {
    let end = line.iter().position(|&b| b == b' ' || b == b'\t').unwrap_or(line.len());
    let (done, total) = std::str::from_utf8(&line[..end]).ok()?.split_once('/')?;
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    Some((number(done)?, number(total)?, line[end..].trim_ascii()))
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::*;

    fn check(bytes: &[u8], expect: Option<(&str, Option<u64>, Option<u64>)>) {
        let expect = expect.map(|(text, done, total)| Step { text: text.into(), done, total });
        assert_eq!(last_step(bytes), expect, "{}", text::bytes(bytes));
    }

    #[test]
    fn the_last_whole_line_counts() {
        check(b"3/7 evict\n", Some(("evict", Some(3), Some(7))));
        check(b"1/2 a\n2/2 b\n\n \n", Some(("b", Some(2), Some(2))));
        check(b"1/2 a\n2/2 unfinished", Some(("a", Some(1), Some(2))));
        check(b"unfinished", None);
        check(b"draining\r\n", Some(("draining", None, None)));
        check(b"5/9\n", Some(("", Some(5), Some(9))));
        check(b"a/b c\n", Some(("a/b c", None, None)));
        check(b"+1/2 x\n", Some(("+1/2 x", None, None)));
        check(b"99999999999999999999/1 x\n", Some(("99999999999999999999/1 x", None, None)));
        check(b"1/2 \x1b[31mred\xff\n", Some(("^[[31mred\\xFF", Some(1), Some(2))));
        check(&[b"x".repeat(5_000), b"\n".to_vec()].concat(), Some((&"x".repeat(200), None, None)));
    }

    #[test]
    fn every_change_is_seen_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("progress");
        let mut progress = Progress::new(path.clone(), nix::unistd::geteuid().as_raw(), Arc::default());
        assert_eq!(progress.poll(), None);
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert_eq!(progress.poll(), None, "a link is not followed");
        std::fs::remove_file(&path).unwrap();
        let mut file = File::create(&path).unwrap();
        assert_eq!(progress.poll(), None);
        file.write_all(b"1/2 a\n").unwrap();
        assert_eq!(progress.poll().unwrap().done, Some(1));
        assert_eq!(progress.poll(), None);
        file.write_all(b"2/2 b\n").unwrap();
        assert_eq!(progress.poll().unwrap().text, "b");
        // `echo 1/9 again > file`
        file.set_len(0).unwrap();
        file.rewind().unwrap();
        file.write_all(b"1/9 again\n").unwrap();
        assert_eq!(progress.poll().unwrap().total, Some(9));
        file.write_all(&b"y\n".repeat(1 << 20)).unwrap();
        assert_eq!(progress.poll().unwrap().text, "y", "only the end of much is read");
    }

    #[test]
    fn a_secret_is_masked_before_the_line_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("progress");
        let mut file = File::create(&path).unwrap();
        let mask = Arc::new(Mask::new([&b"hunter2-hunter"[..]]).unwrap());
        let mut progress = Progress::new(path, nix::unistd::geteuid().as_raw(), mask);
        for before in [0, LONGEST - 4, LONGEST * 4 - 4, 20_000] {
            let line = "y".repeat(before) + "hunter2-hunter\n";
            file.write_all(line.as_bytes()).unwrap();
            let step = progress.poll();
            assert!(step.as_ref().is_none_or(|step| !step.text.contains("hunt")), "{before}: {step:?}");
            assert_eq!(step.is_some(), before < 20_000, "{before}");
        }
    }
}
