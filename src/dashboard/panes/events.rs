//! A run's events, one line each, and what they say about when its log was written.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::checkout;
use crate::request::RunId;
use crate::text;
use crate::time::Time;

/// Events that are kept: the newest.
const MOST: usize = 20_000;
/// Read at once, and between two frames.
const CHUNK: usize = 256 << 10;
const SLICE: usize = 4 << 20;
/// Longest line that is understood, in bytes.
const LINE_MAX: usize = 1 << 20;
/// Characters of one event's facts that are kept.
const TEXT_MAX: usize = 400;
/// What stands in every event, or in a column of its own.
const COMMON: [&str; 9] = ["v", "seq", "ts", "event", "id", "req", "kind", "resource", "log_off"];

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Info,
    /// Something needs care.
    Warn,
    /// Something went wrong.
    Error,
}

impl Level {
    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// One event as a line shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLine {
    /// When.
    pub at: Option<Time>,
    /// How much it matters.
    pub level: Level,
    /// Its name.
    pub name: Box<str>,
    /// Its own facts, `key=value`.
    pub facts: Box<str>,
    /// Where the run's log stood.
    pub log_off: u64,
    /// Where its line stands in the file, and how long it is.
    pub place: (u64, u32),
}

/// The events of the shown run.
#[derive(Debug, Default)]
pub struct EventsPane {
    id: Option<RunId>,
    file: Option<File>,
    read: u64,
    /// The start of a line whose end has not come yet.
    rest: Vec<u8>,
    /// The newest.
    pub lines: VecDeque<EventLine>,
    /// So many older ones are not kept.
    pub left_out: usize,
    /// Where the log stood when; at most one a second.
    times: Vec<(u64, Time)>,
    /// The first that is shown; `None` follows the end.
    pub top: Option<usize>,
    /// The one that is meant by `Enter`.
    pub cursor: Option<usize>,
}

impl EventsPane {
    /// Shows the events of a run, from the newest.
    pub fn show(&mut self, id: Option<RunId>) {
        if self.id != id {
            *self = Self { id, ..Self::default() };
        }
    }

    /// Reads what is new. True where there is more.
    pub fn load(&mut self, root: &Path) -> bool {
        self.try_load(root).unwrap_or_else(|_| {
            self.file = None;
            false
        })
    }

    fn try_load(&mut self, root: &Path) -> io::Result<bool> {
        let Some(id) = self.id else { return Ok(false) };
        if self.file.is_none() {
            let file = checkout::open(root, &PathBuf::from(format!("logs/{id}.jsonl")))?;
            *self = Self { id: self.id, file: Some(file), top: self.top, cursor: self.cursor, ..Self::default() };
        }
        let mut budget = SLICE;
        let mut chunk = vec![0; CHUNK];
        while budget > 0 {
            let Some(file) = &self.file else { return Ok(false) };
            if file.metadata()?.len() < self.read {
                self.file = None;
                return Ok(true);
            }
            let read = file.read_at(&mut chunk, self.read)?;
            if read == 0 {
                return Ok(false);
            }
            self.take(&chunk[..read]);
            budget = budget.saturating_sub(read);
        }
        Ok(true)
    }

    fn take(&mut self, bytes: &[u8]) {
        let mut at = self.read - self.rest.len() as u64;
        self.read += bytes.len() as u64;
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        for line in all.split_inclusive(|&byte| byte == b'\n') {
            if line.last() != Some(&b'\n') && line.len() < LINE_MAX {
                self.rest = line.to_vec();
                break;
            }
            self.add(at, line.strip_suffix(b"\n").unwrap_or(line));
            at += line.len() as u64;
        }
    }

    fn add(&mut self, at: u64, bytes: &[u8]) {
        let place = (at, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        let Ok(Value::Object(fields)) = serde_json::from_slice::<Value>(bytes) else {
            let facts: String = text::bytes(bytes).chars().take(TEXT_MAX).collect();
            return self.push(EventLine {
                at: None,
                level: Level::Warn,
                name: "no event".into(),
                facts: facts.into(),
                log_off: 0,
                place,
            });
        };
        let word = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or_default();
        let when: Option<Time> = word("ts").parse().ok();
        let log_off = fields.get("log_off").and_then(Value::as_u64).unwrap_or(0);
        if let Some(when) = when
            && self.times.last().is_none_or(|(off, last)| when.since(*last).as_secs() >= 1 && log_off > *off)
        {
            self.times.push((log_off, when));
        }
        let name = word("event");
        if name == "run.output" {
            return;
        }
        let facts = fields.iter().filter(|(key, value)| !COMMON.contains(&key.as_str()) && !value.is_null());
        let facts: Vec<String> = facts
            .map(|(key, value)| match value {
                // As people read ids everywhere.
                Value::String(words) => match words.parse::<RunId>() {
                    Ok(id) => format!("{key}={}", id.short()),
                    Err(_) => format!("{key}={words}"),
                },
                value => format!("{key}={value}"),
            })
            .collect();
        let facts: String = text::line(&facts.join(" ")).chars().take(TEXT_MAX).collect();
        let name: String = text::line(name).chars().take(40).collect();
        let level = level(&name, word("status"));
        self.push(EventLine { at: when, level, name: name.into(), facts: facts.into(), log_off, place });
    }

    fn push(&mut self, line: EventLine) {
        if self.lines.len() == MOST {
            self.lines.pop_front();
            self.left_out += 1;
            // What is shown stays what it is.
            self.top = self.top.map(|top| top.saturating_sub(1));
            self.cursor = self.cursor.map(|cursor| cursor.saturating_sub(1));
        }
        self.lines.push_back(line);
    }

    /// About when the byte at `offset` of the uncut log was written.
    #[must_use]
    pub fn time_at(&self, offset: u64) -> Option<Time> {
        // An event says where the log stood when it was written: its byte came before the first one that is behind it.
        let at = self.times.partition_point(|(off, _)| *off <= offset);
        self.times.get(at).or(self.times.last()).map(|(_, when)| *when)
    }

    /// The first row that is shown of `rows`.
    #[must_use]
    pub fn first(&self, rows: usize) -> usize {
        let last = self.lines.len().saturating_sub(rows);
        self.top.map_or(last, |top| top.min(last))
    }

    /// Moves by rows; at the end it follows.
    pub fn scroll(&mut self, by: i64, rows: usize) {
        let last = self.lines.len().saturating_sub(1);
        let now = self.cursor.unwrap_or(last);
        let now = i64::try_from(now).unwrap_or(i64::MAX).saturating_add(by).clamp(0, i64::try_from(last).unwrap_or(0));
        self.go(usize::try_from(now).unwrap_or(0), rows);
    }

    /// Goes to an event; at the last one it follows.
    pub fn go(&mut self, line: usize, rows: usize) {
        if line + 1 >= self.lines.len() {
            (self.cursor, self.top) = (None, None);
            return;
        }
        let first = self.first(rows);
        self.cursor = Some(line);
        self.top = Some(if line < first {
            line
        } else if line >= first + rows {
            (line + 1).saturating_sub(rows)
        } else {
            first
        });
    }

    /// Shows what happened up to a place in the uncut log; `None` follows.
    pub fn go_to_offset(&mut self, offset: Option<u64>, rows: usize) {
        let Some(offset) = offset else {
            (self.cursor, self.top) = (None, None);
            return;
        };
        let line = self.lines.partition_point(|line| line.log_off <= offset).saturating_sub(1);
        self.go(line, rows);
    }

    /// The event that is meant by `Enter`.
    #[must_use]
    pub fn current(&self) -> Option<&EventLine> {
        self.lines.get(self.cursor.unwrap_or(self.lines.len().saturating_sub(1)))
    }
}

fn level(name: &str, status: &str) -> Level {
    match (name, status) {
        ("run.finished", "succeeded" | "duplicate") => Level::Info,
        ("run.finished", "cancelled") | ("run.retrying" | "run.cancelling", _) => Level::Warn,
        ("run.finished" | "request.rejected" | "request.expired", _) => Level::Error,
        _ => Level::Info,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn events_become_lines_whatever_stands_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("logs")).unwrap();
        let id = RunId::new(Time::from_millis(0), [1; 10]);
        let path = dir.path().join(format!("logs/{id}.jsonl"));
        let line = |ts: u32, event: &str, off: u32, more: &str| {
            format!(
                "{{\"v\":1,\"seq\":1,\"ts\":\"1970-01-01T00:00:{ts:02}.000Z\",\"event\":\"{event}\",\"log_off\":{off}{more}}}\n"
            )
        };
        let text = line(1, "run.started", 10, ",\"attempt\":1,\"dirty\":null")
            + &line(2, "run.output", 50, ",\"bytes\":40")
            + "\u{1b}[2Jnot json\n"
            + &line(4, "run.finished", 90, ",\"status\":\"failed\",\"reason\":\"a\u{202e}b\"");
        let (first, second) = text.split_at(100);
        fs::write(&path, first).unwrap();
        let mut pane = EventsPane::default();
        pane.show(Some(id));
        assert!(!pane.load(dir.path()));
        fs::write(&path, format!("{first}{second}")).unwrap();
        pane.load(dir.path());
        let shown: Vec<(&str, &str, Level)> =
            pane.lines.iter().map(|line| (&*line.name, &*line.facts, line.level)).collect();
        assert_eq!(
            shown,
            [
                ("run.started", "attempt=1", Level::Info),
                ("no event", "^[[2Jnot json", Level::Warn),
                ("run.finished", "status=failed reason=a<U+202E>b", Level::Error),
            ]
        );
        for (offset, second) in [(0, 1), (9, 1), (10, 2), (49, 2), (50, 4), (500, 4)] {
            assert_eq!(pane.time_at(offset), Some(Time::from_millis(second * 1_000)), "{offset}");
        }
    }

    #[test]
    fn the_cursor_moves_and_the_end_is_followed() {
        let mut pane = EventsPane::default();
        for n in 0..10_u64 {
            let name = n.to_string().into();
            let line =
                EventLine { at: None, level: Level::Info, name, facts: "".into(), log_off: n * 10, place: (0, 0) };
            pane.push(line);
        }
        assert_eq!(pane.first(4), 6);
        pane.scroll(-1, 4);
        assert_eq!((pane.cursor, pane.first(4)), (Some(8), 6));
        pane.scroll(-4, 4);
        assert_eq!((pane.cursor, pane.first(4)), (Some(4), 4));
        pane.go_to_offset(Some(25), 4);
        assert_eq!((pane.cursor, pane.first(4)), (Some(2), 2));
        pane.scroll(100, 4);
        assert_eq!((pane.cursor, pane.top), (None, None));
    }
}
