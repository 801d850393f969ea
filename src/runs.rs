//! `processed/<id>/`: take by rename, write status atomically, what a restart finds. Owns the files of a run that is
//! not recorded yet; refuses to follow links, to join a name that is not one path component, and to judge a request.
//!
//! ```text
//! requests/NAME            processed/<id>/
//!     │ 1 prepare             status.json (queued)
//!     └ 2 capture ──────────▶ .taken/NAME            the file itself, by rename
//!       3 keep                request.yml            a copy that no writer of the old file can reach
//!       4 begin_once, release                        .taken/ is removed: the run is durable without it
//! ```
//!
//! A crash before 2 leaves the request in the inbox and [`Runs::unfinished`] sweeps the folder; after it, the run is
//! found and its take is finished. A power cut may tear what was not synced, status and copy; the file that was renamed
//! keeps its name and bytes, and says that a run of `on_crash: fail` was never started. What cannot be kept as a request
//! goes from `.taken/` to `aside/<id>/NAME`.

mod disk;
mod restart;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::inbox::{Odd, Stamp};
use crate::request::RunId;
use crate::status::Status;
use crate::text;

pub use restart::{Content, Leftover};

/// The copy of the request.
const REQUEST: &str = "request.yml";
/// How the run stands.
const STATUS: &str = "status.json";
/// The durable status with which a run of `on_crash: fail`, or one that an earlier life left, began: a power cut may leave a later `status.json` empty.
const BEGUN: &str = ".status.json.begun";
/// Holds the file that was taken until it is copied.
const TAKEN: &str = ".taken";
/// Holds a returned copy while it is compared.
const BACK: &str = ".back";
/// Holds what cannot be kept as a request where the state folder is on another file system.
const ASIDE: &str = "aside";

/// Something was not done with a file of a run.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    /// The request is not in the inbox any more.
    #[error("`requests/{0}` is gone")]
    Gone(String),
    /// It changed after it was offered, or while it was read; it is in the inbox.
    #[error("`requests/{0}` is still changing")]
    Changed(String),
    /// It cannot be kept as a request.
    #[error("`requests/{0}` cannot be a request: {1:?}")]
    Odd(String, Odd),
    /// A run with this id has a folder already.
    #[error("`processed/{0}` exists already")]
    Exists(RunId),
    /// The name is not one path component.
    #[error("`{0}` is not a file name")]
    BadName(String),
    /// The disk said no.
    #[error("failed to {doing} `{path}`: {source}")]
    Io {
        /// A verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl RunsError {
    /// True where the disk did not say that it has what was written.
    #[must_use]
    pub fn is_unsynced(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        source.get_ref().is_some_and(|inner| inner.is::<disk::Unsynced>())
    }

    fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}

/// What became of a file that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// `request.yml` holds these bytes.
    Request(Vec<u8>),
    /// It cannot be kept as a request and was set aside.
    Aside {
        /// Why.
        odd: Odd,
        /// Where it is now.
        path: PathBuf,
    },
}

/// A request that was looked at in the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peeked {
    /// All of it.
    pub bytes: Vec<u8>,
    /// To be compared when it is taken.
    pub stamp: Stamp,
}

/// The runs of one repository that are not recorded yet.
#[derive(Clone, Debug)]
pub struct Runs {
    root: PathBuf,
    aside: PathBuf,
    host: String,
}

impl Runs {
    /// `root` is the checkout, `aside` a folder of the local state that may be missing, `host` this machine's name.
    pub fn new(root: impl Into<PathBuf>, aside: impl Into<PathBuf>, host: impl Into<String>) -> Self {
        Self { root: root.into(), aside: aside.into(), host: host.into() }
    }

    /// `processed/<id>`.
    #[must_use]
    pub fn folder(&self, id: RunId) -> PathBuf {
        self.root.join("processed").join(id.to_string())
    }

    fn requests(&self) -> PathBuf {
        self.root.join("requests")
    }

    /// Reads a request without taking it: a regular file of at most 1 MiB that did not change meanwhile.
    ///
    /// # Errors
    /// `Gone`, `Changed`, `Odd`, `BadName` or `Io`.
    pub fn peek(&self, name: &OsStr) -> Result<Peeked, RunsError> {
        let shown = component(name)?;
        let path = self.requests().join(name);
        match disk::read_request(&path) {
            Ok(disk::Read::Whole(bytes, stamp)) => Ok(Peeked { bytes, stamp }),
            Ok(disk::Read::Changing) => Err(RunsError::Changed(shown)),
            Ok(disk::Read::Odd(odd)) => Err(RunsError::Odd(shown, odd)),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(RunsError::Gone(shown)),
            Err(error) => Err(RunsError::io("read", path)(error)),
        }
    }

    /// Takes `requests/name` as the run `status.id`, whose folder must be new, where it still looks as `expected` (any
    /// look will do where that is absent). `durable`: the copy survives a power cut once this returns; git holds the bytes
    /// otherwise. After an error the request is in the inbox again; only where the disk does not even give it back,
    /// [`Self::unfinished`] finds it.
    ///
    /// # Errors
    /// `Gone`, `Changed`, `Exists`, `BadName` or `Io`.
    pub fn take(
        &self,
        name: &OsStr,
        status: &Status,
        expected: Option<&Stamp>,
        durable: bool,
    ) -> Result<Taken, RunsError> {
        let shown = component(name)?;
        let path = self.requests().join(name);
        let look = || path.symlink_metadata().map(|meta| Stamp::of(&meta));
        match look() {
            Ok(stamp) if expected.is_none_or(|e| e.same_content(&stamp)) => {}
            Ok(_) => return Err(RunsError::Changed(shown)),
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(RunsError::Gone(shown)),
            Err(error) => return Err(RunsError::io("look at", path)(error)),
        }
        self.prepare(status)?;
        if let Err(error) = self.capture(name, status.id, TAKEN) {
            self.sweep(status.id)?;
            return Err(error);
        }
        let kept = self.keep(status.id, expected, durable);
        if matches!(kept, Err(RunsError::Io { .. })) {
            self.undo(status.id);
        }
        kept
    }

    /// Step 1: the folder and its status.
    fn prepare(&self, status: &Status) -> Result<(), RunsError> {
        let folder = self.folder(status.id);
        let made = match fs::create_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => fs::create_dir_all(&folder),
            made => made,
        };
        match made {
            // What a take that did not happen could not even remove is no run.
            Err(error) if error.kind() == ErrorKind::AlreadyExists && self.is_hollow(status.id) => {
                disk::remove_temporaries(&folder);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(RunsError::Exists(status.id)),
            made => made.map_err(RunsError::io("make", &folder))?,
        }
        let written = disk::replace(&folder, STATUS, &status.to_bytes(), false);
        if written.is_err() {
            // What stays is hollow.
            let _ = self.sweep(status.id);
        }
        written.map_err(RunsError::io("write", folder.join(STATUS)))
    }

    /// True where the run's folder is missing or holds nothing of a request: a take began there and did not happen.
    #[must_use]
    pub fn is_hollow(&self, id: RunId) -> bool {
        let Ok(entries) = fs::read_dir(self.folder(id)) else { return !self.folder(id).exists() };
        let ours = [STATUS, ".status.json.new", ".request.yml.new"];
        entries.into_iter().all(|entry| {
            entry.is_ok_and(|entry| {
                let name = entry.file_name();
                let empty = || matches!(disk::only_entry(&entry.path()), Ok(None));
                ours.iter().any(|own| name == *own) || ([TAKEN, BACK, ASIDE].iter().any(|own| name == *own) && empty())
            })
        })
    }

    /// Gives a taken file that could not be kept back to the inbox. Where that fails as well, or another file has its
    /// name by now, it stays where it is: a restart finishes the take.
    fn undo(&self, id: RunId) {
        let place = self.folder(id).join(TAKEN);
        let returned = match disk::only_entry(&place) {
            Ok(Some(name)) => disk::link_back(&place, &name, &self.requests()).unwrap_or(false),
            Ok(None) | Err(_) => false,
        };
        if returned {
            let _ = self.sweep(id);
            let _ = fs::remove_dir(self.aside.join(id.to_string()));
        }
    }

    /// Step 2: the file itself, with the name that it had, into the folder `into` of the run.
    fn capture(&self, name: &OsStr, id: RunId, into: &str) -> Result<(), RunsError> {
        let place = self.folder(id).join(into);
        match fs::create_dir(&place) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => made.map_err(RunsError::io("make", &place))?,
        }
        match disk::rename_in(&self.requests(), name, &place) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let _ = fs::remove_dir(&place);
                Err(RunsError::Gone(text::bytes(name.as_bytes())))
            }
            done => done.map_err(RunsError::io("take", self.requests().join(name))),
        }
    }

    /// Step 3: the copy.
    fn keep(&self, id: RunId, expected: Option<&Stamp>, durable: bool) -> Result<Taken, RunsError> {
        let folder = self.folder(id);
        let place = folder.join(TAKEN);
        let Some(name) = disk::only_entry(&place).map_err(RunsError::io("read", &place))? else {
            return Err(RunsError::Gone(TAKEN.into()));
        };
        let taken = place.join(&name);
        let stamp = taken.symlink_metadata().map(|meta| Stamp::of(&meta)).map_err(RunsError::io("look at", &taken))?;
        if expected.is_some_and(|e| !e.same_content(&stamp)) {
            return self.give_back(id, TAKEN, &name);
        }
        match disk::read_request(&taken).map_err(RunsError::io("read", &taken))? {
            disk::Read::Changing => self.give_back(id, TAKEN, &name),
            disk::Read::Odd(odd) => {
                let path = self.set_aside(id, &name)?;
                let _ = fs::remove_dir(&place);
                Ok(Taken::Aside { odd, path })
            }
            disk::Read::Whole(bytes, _) => {
                let written = disk::replace(&folder, REQUEST, &bytes, durable);
                written.map_err(RunsError::io("write", folder.join(REQUEST)))?;
                Ok(Taken::Request(bytes))
            }
        }
    }

    /// Undoes a take: somebody still writes, so the file goes on waiting in the inbox.
    fn give_back(&self, id: RunId, from: &str, name: &OsStr) -> Result<Taken, RunsError> {
        let place = self.folder(id).join(from);
        disk::return_to(&place, name, &self.requests()).map_err(RunsError::io("return", place.join(name)))?;
        self.sweep(id)?;
        Err(RunsError::Changed(text::bytes(name.as_bytes())))
    }

    /// Moves the taken file out of what is committed.
    fn set_aside(&self, id: RunId, name: &OsStr) -> Result<PathBuf, RunsError> {
        let taken = self.folder(id).join(TAKEN);
        let places = [self.aside.join(id.to_string()), self.folder(id).join(ASIDE)];
        let mut refused = None;
        for place in places {
            fs::create_dir_all(&place).map_err(RunsError::io("make", &place))?;
            match disk::rename_in(&taken, name, &place) {
                Ok(()) => return Ok(place.join(name)),
                // Too large to copy, perhaps endless: it stays on its own file system.
                Err(error) if error.kind() == ErrorKind::CrossesDevices => {
                    let _ = fs::remove_dir(&place);
                    refused = Some(error);
                }
                Err(error) => return Err(RunsError::io("set aside", taken.join(name))(error)),
            }
        }
        Err(RunsError::io("set aside", taken.join(name))(refused.unwrap_or_else(|| ErrorKind::Other.into())))
    }

    /// Writes the run's `status.json` atomically.
    ///
    /// # Errors
    /// `Io`.
    pub fn write_status(&self, status: &Status) -> Result<(), RunsError> {
        self.replace_status(status, false)
    }

    fn replace_status(&self, status: &Status, durable: bool) -> Result<(), RunsError> {
        let folder = self.folder(status.id);
        let write = || disk::replace(&folder, STATUS, &status.to_bytes(), durable);
        let written = match write() {
            // A person's `git clean` has removed the folder.
            Err(error) if error.kind() == ErrorKind::NotFound => fs::create_dir_all(&folder).and_then(|()| write()),
            written => written,
        };
        written.map_err(RunsError::io("write", folder.join(STATUS)))
    }

    /// Writes the run's `status.json` so that request and status survive a power cut once this returns, and the run is
    /// not found as one that was never started any more (step 4).
    ///
    /// # Errors
    /// `Io`. Nothing is known then; it is not to be repeated as if nothing had happened.
    pub fn begin_once(&self, status: &Status) -> Result<(), RunsError> {
        let folder = self.folder(status.id);
        self.replace_status(status, true)?;
        match disk::sync_file(&folder.join(REQUEST)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(RunsError::io("sync", folder.join(REQUEST))(error));
            }
            _ => {}
        }
        self.release(status.id);
        disk::keep_as(&folder, STATUS, BEGUN).map_err(RunsError::io("write", folder.join(BEGUN)))?;
        let sync = |folder: &Path| disk::sync_folder(folder).map_err(RunsError::io("sync", folder));
        sync(&folder)?;
        sync(&self.root.join("processed"))
    }

    /// Removes the file that was taken: the run is recorded, or durable without it (step 4).
    pub fn release(&self, id: RunId) {
        let place = self.folder(id).join(TAKEN);
        let _ = fs::remove_file(self.folder(id).join(BEGUN));
        if let Ok(Some(name)) = disk::only_entry(&place) {
            // What stays lies in a folder that git ignores; the next start removes it.
            let _ = fs::remove_file(place.join(name));
        }
        let _ = fs::remove_dir(place);
    }

    /// The run's status; `None` where there is none, or it cannot be understood.
    ///
    /// # Errors
    /// `Io` where the file is there and cannot be read.
    pub fn read_status(&self, id: RunId) -> Result<Option<Status>, RunsError> {
        self.read_status_in(id, STATUS)
    }

    fn read_status_in(&self, id: RunId, name: &str) -> Result<Option<Status>, RunsError> {
        let path = self.folder(id).join(name);
        let bytes = disk::read_own(&path).map_err(RunsError::io("read", &path))?;
        Ok(bytes.and_then(|b| serde_json::from_slice(&b).ok()).filter(|status: &Status| status.id == id))
    }

    /// The bytes of the run's `request.yml`, where it has one.
    ///
    /// # Errors
    /// `Io` where the file is there and cannot be read.
    pub fn request_bytes(&self, id: RunId) -> Result<Option<Vec<u8>>, RunsError> {
        let path = self.folder(id).join(REQUEST);
        disk::read_own(&path).map_err(RunsError::io("read", &path))
    }

    /// Writes the run's `request.yml` anew, durably.
    ///
    /// # Errors
    /// `Io`.
    pub fn replace_request(&self, id: RunId, bytes: &[u8]) -> Result<(), RunsError> {
        let folder = self.folder(id);
        // A person's `git clean` may have removed it.
        fs::create_dir_all(&folder).map_err(RunsError::io("make", &folder))?;
        disk::replace(&folder, REQUEST, bytes, true).map_err(RunsError::io("write", folder.join(REQUEST)))
    }

    /// Removes `requests/name` where it is the request of run `id` once more (a stash or a checkout brought it back).
    /// Other bytes stay. True where it was removed.
    ///
    /// # Errors
    /// `BadName` or `Io`.
    pub fn put_back(&self, name: &OsStr, id: RunId) -> Result<bool, RunsError> {
        component(name)?;
        let Some(own) = self.request_bytes(id)? else { return Ok(false) };
        match self.peek(name) {
            Ok(peeked) if peeked.bytes == own => {}
            Ok(_) | Err(RunsError::Gone(_) | RunsError::Changed(_) | RunsError::Odd(..)) => return Ok(false),
            Err(error) => return Err(error),
        }
        // Captured before it is removed: a newer file of that name may arrive at any moment.
        match self.capture(name, id, BACK) {
            Ok(()) => self.settle_back(id),
            Err(RunsError::Gone(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes what was captured where it is the run's request, else returns it. True where it was removed.
    fn settle_back(&self, id: RunId) -> Result<bool, RunsError> {
        let place = self.folder(id).join(BACK);
        let mut removed = false;
        while let Some(name) = disk::only_entry(&place).map_err(RunsError::io("read", &place))? {
            let own = self.request_bytes(id)?;
            let path = place.join(&name);
            let same = match disk::read_request(&path).map_err(RunsError::io("read", &path))? {
                disk::Read::Whole(bytes, _) => own.as_ref() == Some(&bytes),
                disk::Read::Changing | disk::Read::Odd(_) => false,
            };
            if same {
                fs::remove_file(&path).map_err(RunsError::io("remove", &path))?;
                removed = true;
            } else {
                disk::return_to(&place, &name, &self.requests()).map_err(RunsError::io("return", path))?;
            }
        }
        let _ = fs::remove_dir(&place);
        Ok(removed)
    }

    /// Removes what a take that did not happen has left; leaves everything that it does not know.
    fn sweep(&self, id: RunId) -> Result<(), RunsError> {
        let folder = self.folder(id);
        disk::remove_temporaries(&folder);
        for empty in [TAKEN, BACK, ASIDE] {
            let _ = fs::remove_dir(folder.join(empty));
        }
        let status = folder.join(STATUS);
        match fs::remove_file(&status) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(RunsError::io("remove", status)(error)),
            _ => {}
        }
        let _ = fs::remove_dir(folder);
        Ok(())
    }
}

/// The name in readable form where it is one path component.
fn component(name: &OsStr) -> Result<String, RunsError> {
    let shown = text::bytes(name.as_bytes());
    let is_one = Path::new(name).file_name() == Some(name) && !name.as_bytes().contains(&0);
    if is_one { Ok(shown) } else { Err(RunsError::BadName(shown)) }
}
