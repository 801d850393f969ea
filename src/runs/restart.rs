//! What a restart finds in `processed/`: finishes takes that were cut short, sweeps those that never happened.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{ASIDE, Runs, RunsError, TAKEN, Taken, disk};
use crate::inbox::Odd;
use crate::request::RunId;
use crate::status::{RequestedBy, State, Status};
use crate::text;
use crate::time::Time;

/// Every system's pages are multiples of it.
const PAGE: usize = 4096;

/// What a run was asked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Its `request.yml` is there.
    Request,
    /// It could not be kept as a request; to be rejected.
    Aside {
        /// Why.
        odd: Odd,
        /// Where it is.
        path: PathBuf,
    },
    /// Somebody removed it.
    Missing,
}

/// A run that is taken and not recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Leftover {
    /// As its file says it. Where that is torn: as it began, or `queued` with what can be known.
    pub status: Status,
    /// The file was missing or torn, and so is what a run keeps until it is started or recorded: the request's name is
    /// unknown (`?`), and it may have been started.
    pub torn: bool,
    /// What it was asked with.
    pub content: Content,
}

impl Runs {
    /// Every run in `processed/` that is not `recorded`, in order of ids. A request is in the inbox or in this list,
    /// never in both and never in neither.
    ///
    /// # Errors
    /// `Io`: nothing is known then, and no work may be taken.
    pub fn unfinished(&self, recorded: &dyn Fn(RunId) -> bool) -> Result<Vec<Leftover>, RunsError> {
        let mut ids = self.ids()?;
        ids.retain(|id| {
            let is_recorded = recorded(*id);
            if is_recorded {
                self.release(*id);
            }
            !is_recorded
        });
        ids.sort_unstable();
        let mut left = Vec::new();
        for id in ids {
            left.extend(self.leftover(id)?);
        }
        Ok(left)
    }

    /// Every run that has a folder in `processed/`, in no order.
    ///
    /// # Errors
    /// `Io`.
    pub fn ids(&self) -> Result<Vec<RunId>, RunsError> {
        let processed = self.root.join("processed");
        let entries = match fs::read_dir(&processed) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(RunsError::io("read", &processed))?,
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.map_err(RunsError::io("read", &processed))?;
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let id: Option<RunId> = entry.file_name().to_str().and_then(|name| name.parse().ok());
            // Another spelling of an id is not a folder of ours.
            ids.extend(id.filter(|id| is_folder && entry.file_name() == OsStr::new(&id.to_string())));
        }
        Ok(ids)
    }

    fn leftover(&self, id: RunId) -> Result<Option<Leftover>, RunsError> {
        let folder = self.folder(id);
        let name = disk::only_entry(&folder.join(TAKEN)).map_err(RunsError::io("read", folder.join(TAKEN)))?;
        let content = self.finish_take(id)?;
        disk::remove_temporaries(&folder);
        self.settle_back(id)?;
        let found = self.read_status(id)?;
        let torn = found.is_none() && name.is_none();
        let found = if torn { self.read_status_in(id, super::BEGUN)? } else { found };
        let status = found.unwrap_or_else(|| self.guess(id, name.as_deref(), &content));
        let never_taken = content == Content::Missing && status.status == State::Queued && status.attempt == 0;
        if never_taken {
            self.sweep(id)?;
            return Ok(None);
        }
        Ok(Some(Leftover { status, torn, content }))
    }

    /// Ends a take after its rename; says what there is to work with.
    fn finish_take(&self, id: RunId) -> Result<Content, RunsError> {
        let folder = self.folder(id);
        let taken = folder.join(TAKEN);
        let original = disk::only_entry(&taken).map_err(RunsError::io("read", &taken))?;
        if self.is_copied(id, original.as_deref())? {
            return Ok(Content::Request);
        }
        if original.is_some() {
            match self.keep(id, None, true) {
                Ok(Taken::Request(_)) => return Ok(Content::Request),
                Ok(Taken::Aside { odd, path }) => return Ok(Content::Aside { odd, path }),
                // It is in the inbox again.
                Err(RunsError::Changed(_)) => return Ok(Content::Missing),
                Err(error) => return Err(error),
            }
        }
        let _ = fs::remove_dir(&taken);
        for place in [self.aside.join(id.to_string()), folder.join(ASIDE)] {
            if let Some(name) = disk::only_entry(&place).map_err(RunsError::io("read", &place))? {
                let path = place.join(name);
                let meta = path.symlink_metadata().map_err(RunsError::io("look at", &path))?;
                return Ok(Content::Aside { odd: disk::judge(&meta).unwrap_or(Odd::Unreadable), path });
            }
        }
        Ok(Content::Missing)
    }

    /// True where the copy is whole. It counts even where the file that was taken has been written to since; a power cut
    /// tears what was not synced at a whole page, often at the first.
    fn is_copied(&self, id: RunId, original: Option<&OsStr>) -> Result<bool, RunsError> {
        let Some(copy) = self.request_bytes(id)? else { return Ok(false) };
        let Some(name) = original else { return Ok(true) };
        let taken = self.folder(id).join(TAKEN).join(name);
        let meta = taken.symlink_metadata().map_err(RunsError::io("look at", taken))?;
        let torn = copy.len().is_multiple_of(PAGE) && (copy.len() as u64) < meta.len();
        Ok(!torn || disk::judge(&meta).is_some())
    }

    /// What can be known of a run without its status.
    fn guess(&self, id: RunId, taken: Option<&OsStr>, content: &Content) -> Status {
        let name = match content {
            Content::Aside { path, .. } => path.file_name(),
            Content::Request | Content::Missing => taken,
        };
        let name = name.map_or_else(|| "?".to_owned(), |name| text::bytes(name.as_bytes()));
        let at = changed(&self.folder(id).join(super::REQUEST)).or_else(|| changed(&self.folder(id)));
        let at = at.unwrap_or(Time::from_millis(0));
        Status::taken(id, name, at, self.host.clone(), RequestedBy::default())
    }
}

fn changed(path: &Path) -> Option<Time> {
    let meta = path.symlink_metadata().ok()?;
    Some(Time::from_millis(meta.mtime() * 1_000 + meta.mtime_nsec() / 1_000_000))
}
