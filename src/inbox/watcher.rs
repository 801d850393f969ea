//! inotify as a bounded queue of hints about the entries of one folder. Refuses to be the truth: a hint that finds no
//! room is counted as lost and costs a scan.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender};
use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Config, Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use super::shelf::Hint;

/// What the kernel said.
#[derive(Debug)]
pub(super) enum News {
    /// Of one entry.
    Entry(OsString, Hint),
    /// The folder itself was removed or renamed, or hints were lost: look at everything.
    Look,
}

/// Why there are no hints.
#[derive(Debug)]
pub(super) enum NoHints {
    /// inotify's limits are used up, or it is not there at all.
    Degraded(String),
    /// The folder went away meanwhile.
    NoFolder,
}

/// The queue's receiving end, which outlives single watches.
pub(super) struct Hints {
    news: Receiver<News>,
    into: Sender<News>,
    lost: Arc<AtomicBool>,
}

/// One live watch; ends when dropped.
pub(super) struct Watch {
    _inotify: RecommendedWatcher,
}

impl Hints {
    /// A queue of `room` hints.
    pub(super) fn new(room: usize) -> Self {
        let (into, news) = crossbeam_channel::bounded(room.max(1));
        Self { news, into, lost: Arc::default() }
    }

    pub(super) fn receiver(&self) -> &Receiver<News> {
        &self.news
    }

    /// True once after hints were lost.
    pub(super) fn take_lost(&self) -> bool {
        self.lost.swap(false, Ordering::AcqRel)
    }

    /// Starts to watch `folder`.
    pub(super) fn watch(&self, folder: &Path) -> Result<Watch, NoHints> {
        let (into, lost, own) = (self.into.clone(), Arc::clone(&self.lost), folder.to_owned());
        // Runs on inotify's own thread, which must never block.
        let on_event = move |event: notify::Result<Event>| {
            if let Some(news) = news(&own, event)
                && into.try_send(news).is_err()
            {
                lost.store(true, Ordering::Release);
            }
        };
        let config = Config::default().with_follow_symlinks(false);
        let mut inotify = RecommendedWatcher::new(on_event, config).map_err(|e| NoHints::Degraded(e.to_string()))?;
        match inotify.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => Ok(Watch { _inotify: inotify }),
            Err(_) if !folder.is_dir() => Err(NoHints::NoFolder),
            Err(error) => Err(NoHints::Degraded(error.to_string())),
        }
    }
}

fn news(folder: &Path, event: notify::Result<Event>) -> Option<News> {
    let Ok(event) = event else { return Some(News::Look) };
    if event.need_rescan() {
        return Some(News::Look);
    }
    let hint = match event.kind {
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_)) => Hint::Changed,
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Hint::Complete,
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) | EventKind::Remove(_) => Hint::Gone,
        _ => return None,
    };
    let path: PathBuf = event.paths.into_iter().next()?;
    if path == folder {
        return (hint == Hint::Gone).then_some(News::Look);
    }
    Some(News::Entry(path.file_name()?.to_owned(), hint))
}
