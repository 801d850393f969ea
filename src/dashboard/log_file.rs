//! A log of any size, by lines: an index with the place of every 256th line, grown as the file grows, and windows of lines
//! read where they are shown. Refuses to keep text, and to map the file: it may be cut while it is read.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::time::Instant;

/// Lines between two marks.
const STRIDE: u64 = 256;
/// Read at once while the index grows.
const CHUNK: usize = 256 << 10;
/// Longest line that is shown, in bytes.
pub const LINE_MAX: usize = 64 << 10;
/// Bytes before the indexed end that must stay what they are; where they do not, the file is another one.
const PRINT: usize = 64;

/// One line as it stands in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Where it starts.
    pub at: u64,
    /// Without its end, at most [`LINE_MAX`].
    pub bytes: Vec<u8>,
    /// Bytes of it that are left out.
    pub more: u64,
}

/// What became of a file since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Nothing.
    Same,
    /// It has more.
    Grown,
    /// It was cut or replaced: line numbers of before mean nothing any more.
    Restarted,
}

/// An open log and its index.
#[derive(Debug)]
pub struct LogFile {
    file: File,
    inode: u64,
    len: u64,
    /// Where every 256th line starts, from the first.
    marks: Vec<u64>,
    /// Bytes that are indexed, and how many line ends they have.
    indexed: u64,
    ends: u64,
    print: Vec<u8>,
    buffer: Vec<u8>,
}

impl LogFile {
    /// Nothing is read yet.
    ///
    /// # Errors
    /// Where the file cannot be asked for its size.
    pub fn over(file: File) -> io::Result<Self> {
        let meta = file.metadata()?;
        Ok(Self {
            file,
            inode: meta.ino(),
            len: meta.len(),
            marks: vec![0],
            indexed: 0,
            ends: 0,
            print: Vec::new(),
            buffer: Vec::new(),
        })
    }

    /// Bytes of the file at the last look.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// The same file is still the one of this inode.
    #[must_use]
    pub const fn inode(&self) -> u64 {
        self.inode
    }

    /// Lines that are indexed, with the one that has no end yet.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.ends + if self.indexed > 0 && !self.ends_with_newline() { 1 } else { 0 }
    }

    fn ends_with_newline(&self) -> bool {
        matches!(self.print.last(), None | Some(b'\n'))
    }

    /// Hundredths of the file that are indexed.
    #[must_use]
    pub fn done(&self) -> u64 {
        (self.indexed * 100).checked_div(self.len).unwrap_or(100).min(100)
    }

    /// The whole file is indexed.
    #[must_use]
    pub const fn is_indexed(&self) -> bool {
        self.indexed >= self.len
    }

    /// Looks whether the file has changed.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn look(&mut self) -> io::Result<Seen> {
        let len = self.file.metadata()?.len();
        let mut now = vec![0; self.print.len()];
        let start = self.indexed - self.print.len() as u64;
        if len < self.indexed || self.file.read_exact_at(&mut now, start).is_err() || now != self.print {
            (self.len, self.indexed, self.ends) = (len, 0, 0);
            self.print.clear();
            self.marks = vec![0];
            return Ok(Seen::Restarted);
        }
        Ok(if std::mem::replace(&mut self.len, len) == len { Seen::Same } else { Seen::Grown })
    }

    /// Indexes what is not indexed yet, until `deadline`; at least one piece.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn index(&mut self, deadline: Instant) -> io::Result<()> {
        while self.indexed < self.len {
            self.buffer.resize(CHUNK, 0);
            let wanted = usize::try_from(self.len - self.indexed).unwrap_or(CHUNK).min(CHUNK);
            let read = self.file.read_at(&mut self.buffer[..wanted], self.indexed)?;
            if read == 0 {
                break;
            }
            for (at, byte) in self.buffer[..read].iter().enumerate() {
                if *byte == b'\n' {
                    self.ends += 1;
                    if self.ends.is_multiple_of(STRIDE) {
                        self.marks.push(self.indexed + at as u64 + 1);
                    }
                }
            }
            self.indexed += read as u64;
            self.print.extend_from_slice(&self.buffer[read.saturating_sub(PRINT)..read]);
            self.print.drain(..self.print.len().saturating_sub(PRINT));
            if Instant::now() >= deadline {
                break;
            }
        }
        self.buffer = Vec::new();
        Ok(())
    }

    /// Up to `count` lines from line `from` on, 0-based, of those that are indexed.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn window(&self, from: u64, count: usize) -> io::Result<Vec<Line>> {
        let mark = usize::try_from(from / STRIDE).unwrap_or(usize::MAX);
        let Some(&start) = self.marks.get(mark) else { return Ok(Vec::new()) };
        let mut reader = Reader::new(&self.file, start, self.len);
        for _ in 0..from % STRIDE {
            if !reader.skip()? {
                return Ok(Vec::new());
            }
        }
        let mut lines = Vec::with_capacity(count);
        while lines.len() < count
            && let Some(line) = reader.line()?
        {
            lines.push(line);
        }
        Ok(lines)
    }

    /// The last `count` lines, whether or not they are indexed.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn tail(&self, count: usize) -> io::Result<Vec<Line>> {
        let mut span = 16 << 10;
        loop {
            let start = self.len.saturating_sub(span);
            let mut reader = Reader::new(&self.file, start, self.len);
            // The first one may begin before the span.
            if start > 0 && !reader.skip()? && span < self.len {
                span *= 8;
                continue;
            }
            let mut lines = Vec::new();
            while let Some(line) = reader.line()? {
                lines.push(line);
            }
            if lines.len() >= count || start == 0 || span > 64 << 20 {
                lines.drain(..lines.len().saturating_sub(count));
                return Ok(lines);
            }
            span *= 8;
        }
    }

    /// The line, 0-based, in which the byte at `offset` stands, of those that are indexed.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn line_at(&self, offset: u64) -> io::Result<u64> {
        let mark = self.marks.partition_point(|&mark| mark <= offset).saturating_sub(1);
        let mut reader = Reader::new(&self.file, self.marks.get(mark).copied().unwrap_or(0), self.len);
        let mut line = mark as u64 * STRIDE;
        while reader.skip()? && reader.at() <= offset {
            line += 1;
        }
        Ok(line.min(self.lines().saturating_sub(1)))
    }
}

/// Lines from a place in a file on.
struct Reader<'a> {
    file: &'a File,
    buffer: Vec<u8>,
    /// Next byte in the buffer, and where the buffer's end stands in the file.
    next: usize,
    read: u64,
    end: u64,
}

impl<'a> Reader<'a> {
    const fn new(file: &'a File, start: u64, end: u64) -> Self {
        Self { file, buffer: Vec::new(), next: 0, read: start, end }
    }

    fn at(&self) -> u64 {
        self.read - (self.buffer.len() - self.next) as u64
    }

    fn fill(&mut self) -> io::Result<bool> {
        if self.next < self.buffer.len() {
            return Ok(true);
        }
        let wanted = usize::try_from(self.end.saturating_sub(self.read)).unwrap_or(LINE_MAX).min(LINE_MAX);
        self.buffer.resize(wanted, 0);
        let read = self.file.read_at(&mut self.buffer, self.read)?;
        self.buffer.truncate(read);
        (self.next, self.read) = (0, self.read + read as u64);
        Ok(read > 0)
    }

    /// Goes behind the next line end; false where there is none.
    fn skip(&mut self) -> io::Result<bool> {
        while self.fill()? {
            match self.buffer[self.next..].iter().position(|&byte| byte == b'\n') {
                Some(end) => {
                    self.next += end + 1;
                    return Ok(true);
                }
                None => self.next = self.buffer.len(),
            }
        }
        Ok(false)
    }

    fn line(&mut self) -> io::Result<Option<Line>> {
        if !self.fill()? {
            return Ok(None);
        }
        let mut line = Line { at: self.at(), bytes: Vec::new(), more: 0 };
        while self.fill()? {
            let rest = &self.buffer[self.next..];
            let end = rest.iter().position(|&byte| byte == b'\n');
            let part = &rest[..end.unwrap_or(rest.len())];
            let room = LINE_MAX.saturating_sub(line.bytes.len()).min(part.len());
            line.bytes.extend_from_slice(&part[..room]);
            line.more += (part.len() - room) as u64;
            self.next += part.len() + usize::from(end.is_some());
            if end.is_some() {
                break;
            }
        }
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use super::*;

    fn all(log: &mut LogFile) {
        while !log.is_indexed() {
            log.index(Instant::now()).unwrap();
        }
    }

    fn text(lines: &[Line]) -> Vec<String> {
        lines.iter().map(|line| String::from_utf8_lossy(&line.bytes).into_owned()).collect()
    }

    #[test]
    fn windows_are_the_lines_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let lines: Vec<String> = (0..3_000).map(|n| format!("line {n} {}", "x".repeat(n % 200))).collect();
        fs::write(&path, lines.join("\n")).unwrap();
        let mut log = LogFile::over(File::open(&path).unwrap()).unwrap();
        assert_eq!(text(&log.tail(3).unwrap()), lines[2_997..], "before anything is indexed");
        all(&mut log);
        assert_eq!((log.lines(), log.done()), (3_000, 100));
        for from in [0, 1, 255, 256, 257, 1_000, 2_990] {
            let got = log.window(from as u64, 20).unwrap();
            assert_eq!(text(&got), lines[from..(from + 20).min(3_000)]);
            assert_eq!(log.line_at(got[0].at).unwrap(), from as u64);
            assert_eq!(log.line_at(got[0].at + 3).unwrap(), from as u64);
        }
        assert_eq!(text(&log.tail(5_000).unwrap()), lines);
        assert!(log.window(3_000, 5).unwrap().is_empty());
    }

    #[test]
    fn a_file_that_grows_is_indexed_on_and_one_that_is_cut_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, "a\nb").unwrap();
        let mut log = LogFile::over(File::open(&path).unwrap()).unwrap();
        all(&mut log);
        assert_eq!(log.lines(), 2);
        assert_eq!(log.look().unwrap(), Seen::Same);
        File::options().append(true).open(&path).unwrap().write_all(b"c\nd\n").unwrap();
        assert_eq!(log.look().unwrap(), Seen::Grown);
        all(&mut log);
        assert_eq!(text(&log.window(0, 9).unwrap()), ["a", "bc", "d"]);
        assert_eq!(log.lines(), 3);
        fs::write(&path, "x\n").unwrap();
        assert_eq!(log.look().unwrap(), Seen::Restarted);
        all(&mut log);
        assert_eq!(text(&log.tail(9).unwrap()), ["x"]);
        fs::write(&path, "y\nz\nlonger than before\n").unwrap();
        assert_eq!(log.look().unwrap(), Seen::Restarted, "as long, and another text");
    }

    #[test]
    fn a_line_without_end_is_cut_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut content = vec![b'x'; 3 << 20];
        content.extend_from_slice(b"\nlast\n");
        fs::write(&path, &content).unwrap();
        let mut log = LogFile::over(File::open(&path).unwrap()).unwrap();
        all(&mut log);
        let lines = log.window(0, 2).unwrap();
        assert_eq!((lines[0].bytes.len(), lines[0].more), (LINE_MAX, (3 << 20) - LINE_MAX as u64));
        assert_eq!(lines[1].bytes, b"last");
        assert_eq!(text(&log.tail(1).unwrap()), ["last"]);
        assert_eq!(log.line_at(5_000).unwrap(), 0);
        assert_eq!(log.line_at((3 << 20) + 2).unwrap(), 1);
    }
}
