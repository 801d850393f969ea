//! Where news comes from: the daemon's socket, and the files of the checkout. Two threads, one bounded channel; where the
//! screen is slow they wait, and the daemon leaves events out for this viewer, which are then read from the files.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::checkout;
use crate::command::Answer;
use crate::control::{AskError, Client, News, Notice, Watcher};
use crate::dashboard::model::{Link, Model, Standing};
use crate::event::Entry;
use crate::journal::recent_entries;
use crate::request::RunId;
use crate::status::Status;
use crate::time::Time;

/// News that waits for the screen: some frames of a busy daemon.
const WAITING: usize = 1_024;
/// Runs whose status is to be read again.
const WANTED: usize = 4_096;
/// Statuses that come at once.
const BATCH: usize = 256;
/// Bytes of the event stream that are read for what happened before, and for what was left out.
const BEFORE: u64 = 256 << 10;
const LEFT_OUT: u64 = 16 << 20;
/// How long the daemon may take for its answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two tries to reach it: the shortest and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));
/// Between two looks at the files while no daemon tells.
const LOOK: Duration = Duration::from_secs(2);

/// Where the dashboard looks.
#[derive(Clone, Debug)]
pub struct Source {
    /// The repository.
    pub root: PathBuf,
    /// The daemon's socket; none: files alone.
    pub socket: Option<PathBuf>,
    /// The wall clock.
    pub clock: fn() -> Time,
}

/// What comes in.
#[derive(Debug)]
pub enum Feed {
    /// The daemon says how everything stands.
    Standing(Box<Standing>),
    /// Something happened.
    Event(Box<Entry>),
    /// What happened meanwhile or before.
    Events(Vec<Entry>),
    /// Something about the watching itself.
    Notice(Notice),
    /// The daemon went away or cannot be reached; the next try.
    Lost(String, Time),
    /// What files say of runs.
    Statuses(Vec<Status>),
    /// All files have been read once.
    Loaded,
}

/// The ends of the threads that feed the screen.
pub struct Feeds {
    /// What comes in.
    pub news: Receiver<Feed>,
    wanted: Sender<RunId>,
}

impl Source {
    /// Starts to listen and to read.
    ///
    /// # Errors
    /// Where the system gives no threads.
    pub fn start(&self) -> std::io::Result<Feeds> {
        let (to, news) = bounded(WAITING);
        let (wanted, wants) = bounded(WANTED);
        let live = Arc::new(AtomicBool::new(false));
        if let Some(socket) = self.socket.clone() {
            let (source, to, live) = (self.clone(), to.clone(), Arc::clone(&live));
            thread("feed", move || source.listen(&socket, &to, &live))?;
        }
        let source = self.clone();
        thread("files", move || drop(source.read(&to, &wants, &live)))?;
        Ok(Feeds { news, wanted })
    }

    /// Hears what the daemon says, for as long as somebody wants to know.
    fn listen(&self, socket: &std::path::Path, to: &Sender<Feed>, live: &AtomicBool) {
        let (mut seen, mut delay) = (0, RETRY.0);
        loop {
            let before = seen;
            let ended = self.hear(socket, to, live, &mut seen);
            live.store(false, Ordering::Release);
            let Err(why) = ended else { return };
            if seen > before {
                delay = RETRY.0;
            }
            // What was left out is read from the files: at once, nobody is gone.
            let wait = if why == LEFT_OUT_WORDS { Duration::ZERO } else { delay };
            if !wait.is_zero() && to.send(Feed::Lost(why, (self.clock)().plus(wait))).is_err() {
                return;
            }
            std::thread::sleep(wait);
            delay = (delay * 2).min(RETRY.1);
        }
    }

    /// One connection, to its end: `Ok` where nobody wants to know any more, else why it ended.
    fn hear(
        &self,
        socket: &std::path::Path,
        to: &Sender<Feed>,
        live: &AtomicBool,
        seen: &mut u64,
    ) -> Result<(), String> {
        let client = Client::connect(socket).map_err(|error| match error {
            crate::control::ConnectError::NotRunning { .. } => "no daemon is running".to_owned(),
            error => error.to_string(),
        })?;
        let (answer, mut watcher) = client.watch(Some(PATIENCE)).map_err(|error| error.to_string())?;
        let body = match answer {
            Answer::Ok { body, .. } => body,
            Answer::Error { message, .. } => return Err(message),
        };
        let standing: Standing = serde_json::from_value(body).map_err(|error| format!("its answer: {error}"))?;
        // What it says now counts above what its events said before, so those come first.
        let most = if *seen == 0 { BEFORE } else { LEFT_OUT };
        let mut before = recent_entries(&self.root.join("logs"), *seen, most).unwrap_or_default();
        before.retain(|entry| entry.seq <= standing.seq);
        *seen = standing.seq;
        live.store(true, Ordering::Release);
        if to.send(Feed::Events(before)).is_err() || to.send(Feed::Standing(Box::new(standing))).is_err() {
            return Ok(());
        }
        loop {
            match next(&mut watcher)? {
                News::Event(entry) => {
                    if entry.seq > *seen + 1 {
                        return Err(LEFT_OUT_WORDS.to_owned());
                    }
                    *seen = entry.seq.max(*seen);
                    if to.send(Feed::Event(entry)).is_err() {
                        return Ok(());
                    }
                }
                News::Notice(notice) => {
                    if to.send(Feed::Notice(notice)).is_err() {
                        return Ok(());
                    }
                }
                // An event of a later version has a number too.
                News::Unknown => *seen += 1,
            }
        }
    }

    /// Reads what files say: all of it once, then what is asked for, and what changes while no daemon tells.
    fn read(&self, to: &Sender<Feed>, wants: &Receiver<RunId>, live: &AtomicBool) -> Result<(), Gone> {
        let logs = self.root.join("logs");
        let mut seq = 0;
        if self.socket.is_none() {
            seq = self.read_events(&logs, seq, to)?;
        }
        let mut open = BTreeSet::new();
        let mut known = BTreeSet::new();
        self.read_new(&mut known, &mut open, to)?;
        to.send(Feed::Loaded)?;
        loop {
            match wants.recv_timeout(LOOK) {
                Ok(id) => {
                    let ids: Vec<RunId> = std::iter::once(id).chain(wants.try_iter()).collect();
                    let statuses = ids.into_iter().filter_map(|id| checkout::status(&self.root, id).ok()).collect();
                    to.send(Feed::Statuses(statuses))?;
                }
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Err(RecvTimeoutError::Timeout) if live.load(Ordering::Acquire) => {}
                Err(RecvTimeoutError::Timeout) => {
                    if self.socket.is_none() {
                        seq = self.read_events(&logs, seq, to)?;
                    }
                    self.read_new(&mut known, &mut open, to)?;
                }
            }
        }
    }

    fn read_events(&self, logs: &std::path::Path, seq: u64, to: &Sender<Feed>) -> Result<u64, Gone> {
        let most = if seq == 0 { BEFORE } else { LEFT_OUT };
        let entries = recent_entries(logs, seq, most).unwrap_or_default();
        let last = entries.last().map_or(seq, |entry| entry.seq);
        if !entries.is_empty() {
            to.send(Feed::Events(entries))?;
        }
        Ok(last)
    }

    /// The statuses of runs that are new or were not final, newest first.
    fn read_new(&self, known: &mut BTreeSet<RunId>, open: &mut BTreeSet<RunId>, to: &Sender<Feed>) -> Result<(), Gone> {
        let mut ids: Vec<RunId> =
            checkout::run_ids(&self.root).filter(|id| !known.contains(id) || open.contains(id)).collect();
        // The first digits of an id are the clock.
        ids.sort_by_key(|id| Reverse(*id));
        for batch in ids.chunks(BATCH) {
            let mut statuses = Vec::with_capacity(batch.len());
            for &id in batch {
                let Ok(status) = checkout::status(&self.root, id) else { continue };
                known.insert(id);
                if status.finished_at.is_some() {
                    open.remove(&id);
                } else {
                    open.insert(id);
                }
                statuses.push(status);
            }
            to.send(Feed::Statuses(statuses))?;
        }
        Ok(())
    }
}

/// Why a connection is made anew at once.
const LEFT_OUT_WORDS: &str = "events were left out";

/// Nobody wants to know any more.
struct Gone;

impl<T> From<crossbeam_channel::SendError<T>> for Gone {
    fn from(_: crossbeam_channel::SendError<T>) -> Self {
        Self
    }
}

fn next(watcher: &mut Watcher) -> Result<News, String> {
    watcher.next(None).map_err(|error| match error {
        AskError::Closed => "it closed the connection".to_owned(),
        error => error.to_string(),
    })
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

impl Feeds {
    /// Folds one piece of news in.
    pub fn fold(&self, news: Feed, model: &mut Model, now: Time) {
        match news {
            Feed::Event(entry) => model.apply(&entry),
            Feed::Events(entries) => entries.iter().for_each(|entry| model.apply(entry)),
            Feed::Standing(standing) => {
                for id in model.stand(&standing, now) {
                    // Where there is no room, the files are as they are.
                    let _ = self.wanted.try_send(id);
                }
            }
            Feed::Notice(Notice::Viewers(viewers)) => model.viewers = viewers,
            Feed::Notice(Notice::Skipped(skipped)) => model.skipped += skipped,
            Feed::Lost(why, retry) => {
                let since = match &model.link {
                    Link::Lost { since, .. } => *since,
                    _ => now,
                };
                model.link = Link::Lost { since, retry, why };
            }
            Feed::Statuses(statuses) => statuses.iter().for_each(|status| model.absorb(status)),
            Feed::Loaded => model.loaded = true,
        }
    }
}
