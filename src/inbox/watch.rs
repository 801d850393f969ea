//! The thread that watches `requests/` and says what it finds. Owns the timers of the inbox; reads the monotonic clock.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select};

use super::judge::{self, Look, Odd, Stamp, Verdict};
use super::shelf::{Hint, Shelf};
use super::watcher::{Hints, News, NoHints, Watch};
use crate::diagnostic::Diagnostic;

/// How the inbox works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `requests/`; may be missing.
    pub folder: PathBuf,
    /// Use inotify. Without it, everything is found by scans.
    pub watch: bool,
    /// Between two scans.
    pub scan_interval: Duration,
    /// How long a file that only a scan found must stand still.
    pub quiet: Duration,
    /// How long a file that was seen being written may pause before it counts as complete although nobody closed it.
    pub hold: Duration,
    /// Hints that wait to be looked at; a hint without room costs one scan, and nothing is lost.
    pub hints: usize,
}

impl Settings {
    /// The settings of a daemon.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>, scan_interval: Duration) -> Self {
        Self {
            folder: folder.into(),
            watch: true,
            scan_interval,
            quiet: Duration::from_millis(250),
            hold: Duration::from_secs(30),
            hints: 4_096,
        }
    }
}

/// What the inbox says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A complete file under a request's name. It is not offered again before it changes or is forgotten.
    Candidate {
        /// In bytes, one path component.
        name: OsString,
        /// How it looked; taking it compares.
        stamp: Stamp,
        /// Why it cannot be kept as a request.
        odd: Option<Odd>,
    },
    /// Something for a person, once for each thing.
    Warn(Diagnostic),
    /// A scan is over: everything that it found complete was offered before this.
    ScanDone {
        /// Of [`Inbox::rescan`]; empty for the first scan and those on the timer.
        tokens: Vec<u64>,
        /// The folder is there and could not be read: nothing is known of it, and the tokens come again with the next
        /// scan.
        failed: bool,
    },
}

/// The thread could not be started.
#[derive(Debug, thiserror::Error)]
#[error("failed to start the thread that watches `{folder}`: {source}")]
pub struct StartError {
    folder: PathBuf,
    source: io::Error,
}

/// A running watch over `requests/`. Ends when dropped.
pub struct Inbox {
    mail: Arc<Mutex<Mail>>,
    wake: Sender<()>,
    /// Nothing is ever sent here: its end is the thread's end.
    life: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the engine asks. Not a channel: the engine must never wait for the inbox, which may be waiting for the engine.
#[derive(Default)]
struct Mail {
    asked: u64,
    rescans: Vec<(u64, Sender<()>)>,
    forget: Vec<OsString>,
}

fn lock(mail: &Mutex<Mail>) -> MutexGuard<'_, Mail> {
    mail.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inbox {
    /// Starts to watch and to scan. Notices wait for room in `to`.
    ///
    /// # Errors
    /// `StartError` where the system gives no thread.
    pub fn start(settings: Settings, to: Sender<Notice>) -> Result<Self, StartError> {
        // One is enough: a wake-up says only that there is mail.
        let (wake, woken) = bounded(1);
        let (life, alive) = bounded(0);
        let mail = Arc::new(Mutex::new(Mail::default()));
        let folder = settings.folder.clone();
        let keeper = Keeper::new(settings, to, Arc::clone(&mail), (woken, alive));
        let thread = std::thread::Builder::new()
            .name("inbox".into())
            .spawn(move || keeper.run())
            .map_err(|source| StartError { folder, source })?;
        Ok(Self { mail, wake, life: Some(life), thread: Some(thread) })
    }

    /// Asks for a scan now. When everything that it found complete was offered, `done` is told, and a
    /// [`Notice::ScanDone`] with the returned token comes behind the offers. Where the folder cannot be read, the token
    /// comes marked as failed, and once more after each later scan up to the first that reads it.
    pub fn rescan(&self, done: Sender<()>) -> u64 {
        let mut mail = lock(&self.mail);
        mail.asked += 1;
        let token = mail.asked;
        mail.rescans.push((token, done));
        drop(mail);
        self.wake();
        token
    }

    /// Offers `name` again although it has not changed.
    pub fn forget(&self, name: &OsStr) {
        lock(&self.mail).forget.push(name.to_owned());
        self.wake();
    }

    fn wake(&self) {
        // Full means that it is awake already.
        let _ = self.wake.try_send(());
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        drop(self.life.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How often the folder is compared with the one that is watched.
const FOLDER_CHECK: Duration = Duration::from_secs(1);

/// The inbox was dropped, or nobody listens any more.
struct Stop;

/// A scan whose finds may still be in their quiet time.
struct Scan {
    over: Instant,
    asked: Vec<(u64, Sender<()>)>,
    failed: bool,
}

struct Keeper {
    settings: Settings,
    to: Sender<Notice>,
    mail: Arc<Mutex<Mail>>,
    woken: Receiver<()>,
    alive: Receiver<()>,
    shelf: Shelf,
    hints: Hints,
    watch: Option<Watch>,
    /// Device and inode of the folder; absent while it is missing.
    folder: Option<(u64, u64)>,
    scans: Vec<Scan>,
    next_scan: Instant,
    next_check: Instant,
    told_missing: bool,
    told_degraded: bool,
    told_unread: bool,
    /// Of scans that could not read the folder.
    unanswered: Vec<(u64, Sender<()>)>,
}

impl Keeper {
    fn new(
        settings: Settings,
        to: Sender<Notice>,
        mail: Arc<Mutex<Mail>>,
        wakes: (Receiver<()>, Receiver<()>),
    ) -> Self {
        let now = Instant::now();
        Self {
            shelf: Shelf::new(settings.quiet, settings.hold),
            hints: Hints::new(settings.hints),
            settings,
            to,
            mail,
            woken: wakes.0,
            alive: wakes.1,
            watch: None,
            folder: None,
            scans: Vec::new(),
            next_scan: now,
            next_check: now,
            told_missing: false,
            told_degraded: false,
            told_unread: false,
            unanswered: Vec::new(),
        }
    }

    fn run(mut self) {
        while self.turn().is_ok() {}
    }

    /// Waits for something, takes all that is ready, then says what follows.
    fn turn(&mut self) -> Result<(), Stop> {
        let mut hinted = BTreeMap::new();
        let mut look = self.wait(&mut hinted)?;
        // More than one queue's worth at once would let a busy writer keep us here.
        for news in self.hints.receiver().try_iter().take(self.settings.hints) {
            look |= note(&mut hinted, news);
        }
        let now = Instant::now();
        for (name, hint) in hinted {
            let seen = judge::look(&self.settings.folder, &name);
            self.shelf.hinted(now, &name, hint, seen);
        }
        if self.hints.take_lost() || look {
            self.shelf.hints_lost(now);
            (self.next_check, self.next_scan) = (now, now);
        }
        let (asked, forget) = {
            let mut mail = lock(&self.mail);
            (std::mem::take(&mut mail.rescans), std::mem::take(&mut mail.forget))
        };
        if !asked.is_empty() {
            (self.next_check, self.next_scan) = (now, now);
        }
        for name in forget {
            let seen = judge::look(&self.settings.folder, &name);
            self.shelf.relooked(now, &name, seen, false);
            self.shelf.forget(&name);
        }
        self.check_folder(now)?;
        self.scan(now, asked)?;
        self.settle()
    }

    fn wait(&self, hinted: &mut BTreeMap<OsString, Hint>) -> Result<bool, Stop> {
        let over = self.scans.iter().map(|scan| scan.over).min();
        let next = [Some(self.next_scan), Some(self.next_check), self.shelf.next(), over];
        let wait =
            next.into_iter().flatten().min().map_or(FOLDER_CHECK, |at| at.saturating_duration_since(Instant::now()));
        select! {
            recv(self.hints.receiver()) -> news => Ok(news.is_ok_and(|news| note(hinted, news))),
            recv(self.woken) -> _ => Ok(false),
            recv(self.alive) -> _ => Err(Stop),
            default(wait) => Ok(false),
        }
    }

    /// Watches the folder that is there now, whatever became of the one that was.
    fn check_folder(&mut self, now: Instant) -> Result<(), Stop> {
        if now < self.next_check {
            return Ok(());
        }
        self.next_check = now + FOLDER_CHECK;
        let meta = self.settings.folder.symlink_metadata().ok().filter(std::fs::Metadata::is_dir);
        let Some(found) = meta.map(|m| (m.dev(), m.ino())) else {
            (self.folder, self.watch) = (None, None);
            self.shelf.clear();
            if !std::mem::replace(&mut self.told_missing, true) {
                let shown = self.settings.folder.display();
                let missing = Diagnostic::new("E0148", format!("`{shown}` is not a folder; no request is found"));
                return self.say(Notice::Warn(missing.help("make it again; it is looked for all the time")));
            }
            return Ok(());
        };
        self.told_missing = false;
        let is_new = self.folder != Some(found);
        if is_new {
            self.watch = None;
            self.shelf.hints_lost(now);
            (self.folder, self.next_scan) = (Some(found), now);
        }
        // Where inotify refuses, it is asked again with each scan.
        if self.settings.watch && self.watch.is_none() && (is_new || now >= self.next_scan) {
            match self.hints.watch(&self.settings.folder) {
                Ok(watch) => (self.watch, self.next_scan) = (Some(watch), now),
                Err(NoHints::NoFolder) => self.folder = None,
                Err(NoHints::Degraded(why)) => return self.degraded(&why),
            }
        }
        Ok(())
    }

    fn degraded(&mut self, why: &str) -> Result<(), Stop> {
        if std::mem::replace(&mut self.told_degraded, true) {
            return Ok(());
        }
        let every = crate::quantity::round_duration(self.settings.scan_interval);
        let warning = Diagnostic::new("E0149", format!("requests are found only by a scan every {every}: no inotify"))
            .note(why)
            .help("sysctl fs.inotify.max_user_watches fs.inotify.max_user_instances, and raise what is used up");
        self.say(Notice::Warn(warning))
    }

    fn scan(&mut self, now: Instant, mut asked: Vec<(u64, Sender<()>)>) -> Result<(), Stop> {
        if now < self.next_scan {
            return Ok(());
        }
        self.next_scan = now + self.settings.scan_interval;
        let failed = match self.folder.map(|_| self.list()) {
            None => None,
            Some(Ok(found)) => {
                self.told_unread = false;
                self.shelf.scanned(now, found);
                None
            }
            // The next check says what became of the folder.
            Some(Err(error)) => {
                self.next_check = now;
                Some(error).filter(|error| error.kind() != io::ErrorKind::NotFound)
            }
        };
        let over = if self.shelf.is_settling() { now + self.settings.quiet } else { now };
        asked.append(&mut self.unanswered);
        self.scans.push(Scan { over, asked, failed: failed.is_some() });
        failed.map_or(Ok(()), |error| self.unread(&error))
    }

    fn unread(&mut self, error: &io::Error) -> Result<(), Stop> {
        if std::mem::replace(&mut self.told_unread, true) {
            return Ok(());
        }
        let shown = self.settings.folder.display();
        let warning = Diagnostic::new("E0152", format!("`{shown}` cannot be read; no request is found"))
            .note(error.to_string())
            .help("give the dispatcher's user the right to list it; it is tried again all the time");
        self.say(Notice::Warn(warning))
    }

    fn list(&self) -> io::Result<BTreeMap<OsString, Look>> {
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(&self.settings.folder)? {
            let name = entry?.file_name();
            if let Some(look) = judge::look(&self.settings.folder, &name) {
                found.insert(name, look);
            }
        }
        Ok(found)
    }

    /// Says what stood still for long enough, then which scans are over with that.
    fn settle(&mut self) -> Result<(), Stop> {
        let now = Instant::now();
        for name in self.shelf.expired(now) {
            let seen = judge::look(&self.settings.folder, &name);
            self.shelf.relooked(now, &name, seen, true);
        }
        for (name, look) in self.shelf.tell() {
            self.say(match look.verdict {
                Verdict::Candidate(odd) => Notice::Candidate { name, stamp: look.stamp, odd },
                Verdict::Leave(why) => Notice::Warn(why.warning(&name)),
            })?;
        }
        let (over, still): (Vec<Scan>, _) = std::mem::take(&mut self.scans).into_iter().partition(|s| s.over <= now);
        self.scans = still;
        for scan in over {
            let tokens = scan.asked.iter().map(|(token, _)| *token).collect();
            self.say(Notice::ScanDone { tokens, failed: scan.failed })?;
            if scan.failed {
                self.unanswered.extend(scan.asked);
                continue;
            }
            for (_, done) in scan.asked {
                // Who asked may have gone.
                let _ = done.try_send(());
            }
        }
        Ok(())
    }

    /// Waits for room, but not beyond the inbox's own end.
    fn say(&self, notice: Notice) -> Result<(), Stop> {
        select! {
            send(self.to, notice) -> sent => sent.map_err(|_| Stop),
            recv(self.alive) -> _ => Err(Stop),
        }
    }
}

/// Keeps the newest hint of each name; true where everything is to be looked at.
fn note(hinted: &mut BTreeMap<OsString, Hint>, news: News) -> bool {
    match news {
        News::Entry(name, hint) => {
            hinted.insert(name, hint);
            false
        }
        News::Look => true,
    }
}
