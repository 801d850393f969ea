//! `logs/<id>.log`: what one run said over all its attempts, and the dispatcher's own lines between. Owns the limit:
//! beyond it the head and a rolling tail stay, joined by one line that names the dropped range. Refuses symlinks, what
//! its [`Mask`] covers, and everything that the [`Cleaner`] refuses; never fails a run because of the disk.
//!
//! The limit is kept in place, so that it costs no second file and no free space:
//!
//! ```text
//! before   │ head (half) │ older lines …                 │ start … end (3/16) │
//! 1 mark   │ head        │ «cutting start-end at offset» │ …                  │   nothing is lost: `start…end` is whole
//! 2 move   │ head        │ «cutting …» │ tail │ …        │ start … end        │   never overlaps: can be done again
//! 3 shorten│ head        │ «cutting …» │ tail │
//! 4 mark   │ head        │ «N bytes dropped» │ tail │
//! ```
//!
//! Each step moves 3/16 of the limit for at least 1/4 of new output, so the cost per byte is constant. The state is in the
//! file alone: no handler can write the mark ([`super::cut`]), and an interrupted step is finished by the next `open`.
//! A log without the mark is uncut, so its length is its offset.

use std::fs::File;
use std::io;
use std::mem;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::Cleaner;
use super::cut::{self, CUT_LINE_MAX, Cut, Mark, OWN, RESET, grouped};
use super::rotation::open_regular;
use super::scan::{find_mark_in, scan};
use crate::mask::{Mask, Masker};
use crate::time::Time;

/// Read, cleaned and moved at once.
const CHUNK: usize = 64 << 10;

/// Below this the parts of a log would be too small to be of use.
const LIMIT_MIN: u64 = 4 << 10;

/// The head of a log that was cut.
#[derive(Clone, Copy, Debug)]
struct Head {
    cut: Cut,
    /// File position of the tail.
    tail_at: u64,
}

/// The human log of one run.
#[derive(Debug)]
pub struct RunLog {
    file: File,
    limit: u64,
    len: u64,
    head: Option<Head>,
    /// Bytes after the end of the file that could not be written.
    missing: u64,
    masker: Masker,
    cleaner: Cleaner,
    masked: Vec<u8>,
    scratch: Vec<u8>,
    /// Something visible stands on the last line.
    open_line: bool,
    error: Option<io::Error>,
}

impl RunLog {
    /// Opens the log, made if need be; an existing one is continued, also after a crash. `limit` is in bytes, at least
    /// 4 KiB. A character that a crash has torn is cut off; so is what a power cut has damaged, and a line says so.
    ///
    /// # Errors
    /// What the file system says; a symlink or anything but a regular file at `path`.
    pub fn open(path: &Path, limit: u64) -> io::Result<Self> {
        let file = open_regular(path)?;
        let len = file.metadata()?.len();
        let mut log = Self {
            file,
            limit: limit.max(LIMIT_MIN),
            len,
            head: None,
            missing: 0,
            masker: Masker::new(Arc::default()),
            cleaner: Cleaner::default(),
            masked: Vec::new(),
            scratch: Vec::new(),
            open_line: false,
            error: None,
        };
        if log.len > 0 {
            log.recover()?;
        }
        Ok(log)
    }

    /// From here on this is masked. To be called between two attempts: what an earlier mask holds back is written.
    pub fn set_mask(&mut self, mask: Arc<Mask>) {
        let mut rest = Vec::new();
        self.masker.finish(&mut rest);
        self.clean(&rest);
        self.masker = Masker::new(mask);
    }

    /// Raw output of the handler.
    pub fn output(&mut self, bytes: &[u8]) {
        if self.masker.mask().is_empty() {
            return self.clean(bytes);
        }
        let mut masked = mem::take(&mut self.masked);
        for chunk in bytes.chunks(CHUNK) {
            masked.clear();
            // Before anything else: what is cut or escaped later is not recognised any more.
            self.masker.push(chunk, &mut masked);
            self.clean(&masked);
        }
        self.masked = masked;
    }

    fn clean(&mut self, bytes: &[u8]) {
        let mut clean = mem::take(&mut self.scratch);
        for chunk in bytes.chunks(CHUNK) {
            clean.clear();
            self.cleaner.push(chunk, &mut clean);
            self.append(&clean);
        }
        self.scratch = clean;
    }

    /// A line of the dispatcher's own, on a line of its own; `text` may have several and colours, all else is escaped.
    pub fn line(&mut self, time: Time, text: &str) {
        let mask = Arc::clone(self.masker.mask());
        let text = mask.text(text);
        let mut bytes = self.fresh_line();
        let clock = time.clock();
        let mut stamp = clock.clone();
        for line in text.strip_suffix('\n').unwrap_or(&text).split('\n') {
            bytes.extend_from_slice(format!("{OWN}{stamp}{RESET}  ").as_bytes());
            let mut cleaner = Cleaner::default();
            cleaner.push(line.as_bytes(), &mut bytes);
            cleaner.finish(&mut bytes);
            if cleaner.is_coloured() {
                bytes.extend_from_slice(RESET.as_bytes());
            }
            bytes.push(b'\n');
            stamp = " ".repeat(clock.len());
        }
        self.append(&bytes);
    }

    /// The handler has ended: what was held back is written, its line is ended and its colours are reset.
    pub fn finish_attempt(&mut self) {
        let mut rest = Vec::new();
        self.masker.finish(&mut rest);
        self.clean(&rest);
        let mut clean = Vec::new();
        self.cleaner.finish(&mut clean);
        self.append(&clean);
        let end = self.fresh_line();
        self.append(&end);
    }

    /// Bytes of the uncut log so far: the dispatcher's lines too, without the line that stands for a cut.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset_at(self.len).saturating_add(self.missing)
    }

    /// Bytes of the uncut log that are not in the file.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.head.map_or(0, |head| head.cut.to.saturating_sub(head.cut.from)).saturating_add(self.missing)
    }

    /// Why the log is not whole, where the disk refused a write since it was opened.
    #[must_use]
    pub const fn error(&self) -> Option<&io::Error> {
        self.error.as_ref()
    }

    /// What has to stand before a line of our own.
    fn fresh_line(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.cleaner.is_coloured() {
            bytes.extend_from_slice(RESET.as_bytes());
            self.cleaner.set_coloured(false);
        }
        if self.open_line {
            bytes.push(b'\n');
        }
        bytes
    }

    fn offset_at(&self, position: u64) -> u64 {
        self.head.map_or(position, |head| head.cut.to.saturating_add(position.saturating_sub(head.tail_at)))
    }

    fn append(&mut self, bytes: &[u8]) {
        let (line, fresh) = match bytes.iter().rposition(|&b| b == b'\n') {
            Some(at) => (&bytes[at + 1..], true),
            None => (bytes, false),
        };
        self.open_line = is_visible(line) || (self.open_line && !fresh);
        // Small steps against the limit, so that what is moved never overlaps where it is moved to.
        for piece in bytes.chunks(usize::try_from(self.limit / 32).unwrap_or(CHUNK).min(CHUNK)) {
            if let Err(error) = self.write(piece) {
                self.missing = self.missing.saturating_add(piece.len() as u64);
                self.error = Some(error);
            }
        }
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        if self.missing > 0 {
            return self.start_tail(piece);
        }
        if self.len + piece.len() as u64 > self.limit {
            self.shorten()?;
        }
        if let Err(error) = self.file.write_all_at(piece, self.len) {
            self.error = Some(error);
            return self.start_tail(piece);
        }
        self.len += piece.len() as u64;
        Ok(())
    }

    /// Gives up the tail for a new one that starts with `piece`: where the disk is full, that frees what it needs.
    fn start_tail(&mut self, piece: &[u8]) -> io::Result<()> {
        let cut = Cut { from: self.head_end()?, to: self.offset() };
        self.file.set_len(cut.from)?;
        let offset = self.offset();
        (self.head, self.len, self.missing) = (None, cut.from, offset - cut.from);
        let mut bytes = self.cut_line(cut)?;
        let tail_at = cut.from + bytes.len() as u64;
        bytes.extend_from_slice(piece);
        self.file.write_all_at(&bytes, cut.from).inspect_err(|_| {
            // Where even this fails, the next write or `open` cuts it off.
            let _ = self.file.set_len(cut.from);
        })?;
        (self.head, self.len, self.missing) = (Some(Head { cut, tail_at }), cut.from + bytes.len() as u64, 0);
        Ok(())
    }

    /// Drops the older part of the tail. See the module's own picture.
    fn shorten(&mut self) -> io::Result<()> {
        let from = self.head_end()?;
        let start = self.tail_start(from)?;
        let cut = Cut { from, to: self.offset_at(start) };
        let len = self.cut_line(cut)?.len();
        let newline = usize::from(len > cut.line().len());
        let moving = "\n".repeat(newline) + &cut::moving_line(cut, start, self.len, len - newline);
        self.file.write_all_at(moving.as_bytes(), from)?;
        self.finish_move(cut, start, self.len)
    }

    /// Steps 2 to 4: the file's own line says what is to be moved, and `end` may already be gone.
    fn finish_move(&mut self, cut: Cut, start: u64, end: u64) -> io::Result<()> {
        let line = self.cut_line(cut)?;
        let tail_at = cut.from + line.len() as u64;
        let mut tail_end = tail_at + end.saturating_sub(start);
        let len = self.file.metadata()?.len();
        if len > tail_end {
            let (mut at, mut to) = (start, tail_at);
            let mut buffer = vec![0; CHUNK];
            while at < end.min(len) {
                let part = &mut buffer[..usize::try_from(end.min(len) - at).unwrap_or(CHUNK).min(CHUNK)];
                self.file.read_exact_at(part, at)?;
                self.file.write_all_at(part, to)?;
                at += part.len() as u64;
                to += part.len() as u64;
            }
            tail_end = to;
            self.file.set_len(tail_end)?;
        } else {
            tail_end = len;
        }
        self.file.write_all_at(&line, cut.from)?;
        (self.head, self.len) = (Some(Head { cut, tail_at }), tail_end.max(tail_at));
        Ok(())
    }

    /// The line for `cut`, with a newline before it where the head does not end a line.
    fn cut_line(&self, cut: Cut) -> io::Result<Vec<u8>> {
        let mut last = [b'\n'];
        if cut.from > 0 {
            self.file.read_exact_at(&mut last, cut.from - 1)?;
        }
        let mut line = if last == [b'\n'] { Vec::new() } else { vec![b'\n'] };
        line.extend_from_slice(cut.line().as_bytes());
        Ok(line)
    }

    /// How far a border is searched: a longer line is cut inside.
    fn reach(&self) -> u64 {
        (self.limit / 32).min(8 << 10)
    }

    fn head_end(&self) -> io::Result<u64> {
        let half = self.limit / 2;
        let (end, reach) = match self.head {
            Some(head) if head.cut.from <= half => return Ok(head.cut.from),
            // Cut early, because of the disk: the last write may have ended inside a character.
            None if self.len <= half => (self.len, 64),
            _ => (half, self.reach()),
        };
        let start = end.saturating_sub(reach);
        let window = self.read(start, end)?;
        Ok(start + cut::head_end(&window) as u64)
    }

    fn tail_start(&self, from: u64) -> io::Result<u64> {
        let oldest = self.head.map_or(from, |head| head.tail_at);
        let wanted = self.len.saturating_sub(self.limit / 16 * 3).max(oldest);
        let before = self.read(wanted.saturating_sub(64).max(oldest), wanted)?;
        let window = self.read(wanted, (wanted + self.reach()).min(self.len))?;
        Ok(wanted + cut::tail_start(&before, &window) as u64)
    }

    fn read(&self, start: u64, end: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(end.saturating_sub(start)).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, start)?;
        Ok(bytes)
    }

    /// Finds out from the file alone how the log stands.
    fn recover(&mut self) -> io::Result<()> {
        // First of all: half moved, the file has characters that are cut in two and whole again in a moment.
        if let Some(at) = find_mark_in(&self.file, self.len)? {
            let line = self.read(at, (at + CUT_LINE_MAX as u64).min(self.len))?;
            match cut::parse(&line) {
                Some((Mark::Done(cut), len)) => self.head = Some(Head { cut, tail_at: at + len as u64 }),
                Some((Mark::Moving { cut, start, end }, _)) => self.finish_move(cut, start, end)?,
                None => self.shrink_to(at)?,
            }
        }
        let found = scan(&self.file, self.len)?;
        let torn = self.len - found.clean;
        self.shrink_to(found.clean)?;
        self.cleaner.set_coloured(found.coloured);
        self.head = self.head.filter(|head| head.tail_at <= self.len);
        let last = self.read(self.len.saturating_sub(4096), self.len)?;
        self.open_line = is_visible(last.rsplit(|&b| b == b'\n').next().unwrap_or_default());
        if torn > 64 {
            let mut note = self.fresh_line();
            note.extend_from_slice(
                format!("{OWN}{} bytes of a damaged log were cut off here{RESET}\n", grouped(torn)).as_bytes(),
            );
            self.append(&note);
        }
        Ok(())
    }

    fn shrink_to(&mut self, len: u64) -> io::Result<()> {
        if len < self.len {
            self.file.set_len(len)?;
            self.len = len;
        }
        Ok(())
    }
}

/// True where anything but colours stands in `line`.
fn is_visible(mut line: &[u8]) -> bool {
    while line.first() == Some(&0x1b) {
        let end = line.iter().position(|&b| b == b'm').map_or(line.len(), |at| at + 1);
        line = &line[end..];
    }
    !line.is_empty()
}

#[cfg(test)]
mod tests;
