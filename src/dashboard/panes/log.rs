//! A run's human log: follows its end or stays at a line. Reads only what is shown.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::checkout;
use crate::dashboard::log_file::{Line, LogFile, Seen};
use crate::journal::{Found, find_cut};
use crate::request::RunId;

/// Time that the index may take between two frames.
const SLICE: Duration = Duration::from_millis(8);
/// A log of more bytes is taken for uncut: looking for the place of a cut would read all of it.
const CUT_MOST: u64 = 32 << 20;

/// What there is to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogState {
    /// No run is shown.
    #[default]
    None,
    /// The run has no log yet.
    NotYet,
    /// The log cannot be read.
    Unreadable(String),
    /// There is one.
    Open,
}

/// The log of the shown run.
#[derive(Debug, Default)]
pub struct LogPane {
    id: Option<RunId>,
    file: Option<LogFile>,
    cut: Option<Found>,
    /// What there is to show.
    pub state: LogState,
    /// The first line that is shown, 0-based; `None` follows the end.
    pub top: Option<u64>,
    /// Columns that are scrolled off to the left.
    pub left: usize,
    /// Long lines go on in the next row.
    pub wrap: bool,
    /// What is shown.
    pub window: Vec<Line>,
    /// The number of the first of them, where it is known.
    pub first: Option<u64>,
    /// Lines when following ended.
    seen: u64,
    /// The log was cut or replaced while it was shown.
    pub restarted: bool,
}

impl LogPane {
    /// Shows the log of a run, from its end.
    pub fn show(&mut self, id: Option<RunId>) {
        if self.id != id {
            *self = Self { id, wrap: self.wrap, ..Self::default() };
        }
    }

    /// Looks whether the file has changed and loads the rows that are shown. True where there is more to index.
    pub fn load(&mut self, root: &Path, rows: usize) -> bool {
        match self.try_load(root, rows) {
            Ok(more) => more,
            Err(error) => {
                let gone = error.kind() == ErrorKind::NotFound;
                self.state = if gone { LogState::NotYet } else { LogState::Unreadable(error.to_string()) };
                (self.file, self.window, self.first) = (None, Vec::new(), None);
                false
            }
        }
    }

    fn try_load(&mut self, root: &Path, rows: usize) -> std::io::Result<bool> {
        let Some(id) = self.id else {
            self.state = LogState::None;
            return Ok(false);
        };
        let inner = PathBuf::from(format!("logs/{id}.log"));
        // A file that was replaced lies on under another name.
        let inode = std::fs::symlink_metadata(root.join(&inner)).map(|meta| meta.ino()).ok();
        let kept = self.file.take().filter(|file| inode.is_none_or(|inode| inode == file.inode()));
        let mut fresh = kept.is_none();
        let mut file = match kept {
            Some(file) => file,
            None => LogFile::over(checkout::open(root, &inner)?)?,
        };
        if file.look()? == Seen::Restarted {
            (self.restarted, self.top, fresh) = (!fresh, None, true);
        }
        file.index(Instant::now() + SLICE)?;
        if fresh && file.len() <= CUT_MOST {
            let whole = checkout::read(root, &inner, CUT_MOST).unwrap_or_default();
            self.cut = find_cut(&whole);
        }
        let last = file.lines().saturating_sub(rows as u64);
        (self.window, self.first) = match self.top {
            None => {
                let window = file.tail(rows)?;
                let first = file.is_indexed().then(|| file.lines().saturating_sub(window.len() as u64));
                (window, first)
            }
            Some(top) => {
                let top = top.min(last);
                self.top = Some(top);
                (file.window(top, rows)?, Some(top))
            }
        };
        let more = !file.is_indexed();
        self.state = LogState::Open;
        self.file = Some(file);
        Ok(more)
    }

    /// Lines so far, bytes, and hundredths that are counted.
    #[must_use]
    pub fn size(&self) -> (u64, u64, u64) {
        self.file.as_ref().map_or((0, 0, 100), |file| (file.lines(), file.len(), file.done()))
    }

    /// Lines that came since following ended.
    #[must_use]
    pub fn new_lines(&self) -> u64 {
        if self.top.is_some() { self.size().0.saturating_sub(self.seen) } else { 0 }
    }

    /// Moves by rows; below the last one it follows.
    pub fn scroll(&mut self, by: i64, rows: usize) {
        let last = self.size().0.saturating_sub(rows as u64);
        let now = self.top.or(self.first).unwrap_or(last);
        self.go(now.saturating_add_signed(by), rows);
    }

    /// Goes to a line; at the last ones it follows.
    pub fn go(&mut self, line: u64, rows: usize) {
        let lines = self.size().0;
        if self.top.is_none() {
            self.seen = lines;
        }
        self.top = if line >= lines.saturating_sub(rows as u64) { None } else { Some(line) };
    }

    /// Follows the end, or stays.
    pub fn follow(&mut self, on: bool) {
        if on {
            self.top = None;
        } else if self.top.is_none() {
            self.seen = self.size().0;
            self.top = self.first;
        }
    }

    /// The place in the uncut log, as events name it, of a place in the file.
    #[must_use]
    pub fn offset_of(&self, at: u64) -> u64 {
        match self.cut {
            Some(Found { cut, tail_at }) if at >= tail_at => cut.to + (at - tail_at),
            _ => at,
        }
    }

    /// Goes to where the log stood at an event.
    pub fn go_to_offset(&mut self, offset: u64, rows: usize) {
        let at = match self.cut {
            Some(Found { cut, tail_at }) if offset >= cut.to => tail_at + (offset - cut.to),
            Some(Found { cut, tail_at }) if offset >= cut.from => tail_at.saturating_sub(1).max(cut.from),
            _ => offset,
        };
        if let Some(line) = self.file.as_ref().and_then(|file| file.line_at(at).ok()) {
            self.go(line, rows);
        }
    }
}
