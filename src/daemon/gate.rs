//! The last look before a commit: a file in which a secret of this host is found, in any form that is masked, does not get
//! in. Masking has failed then, so this is loud: the file is set aside in the local state, the status names it, and an
//! alarm goes to the event stream.

use std::borrow::Cow;
use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::daemon::clerk::Clerk;
use crate::diagnostic::{Diagnostic, status_error};
use crate::event::Event;
use crate::mask::Mask;
use crate::repo::{self, Content, RunRecord};
use crate::request::RunId;
use crate::status::Status;
use crate::text;

impl Clerk {
    /// The record without what must not be recorded. What is left is what was looked at, byte for byte; a file that cannot
    /// be read is left out, as it is without secrets.
    ///
    /// # Errors
    /// This machine is short of something, and the file may be read in a moment.
    pub(super) fn gate(&self, mut record: RunRecord) -> Result<RunRecord, String> {
        let mask = self.vault.mask();
        if mask.is_empty() {
            return Ok(record);
        }
        let withheld = self.book.with(record.id, |page| page.status.withheld.clone()).unwrap_or_default();
        // An earlier life was killed before it moved them.
        let left = withheld.iter().filter(|path| self.root.join(path).symlink_metadata().is_ok());
        left.for_each(|path| self.put_aside(record.id, path));
        record.name = mask.text(&record.name).into_owned();
        record.resource = record.resource.filter(|resource| !mask.finds(resource.as_str().as_bytes()));
        let own = format!("processed/{}/status.json", record.id);
        let mut hits = Vec::new();
        let mut short = None;
        record.files.retain_mut(|file| {
            let bytes = match file.content.read() {
                Ok(bytes) => bytes,
                Err(error) => {
                    let what = format!("failed to read `{}` of run `{}`: {error}", file.path, record.id);
                    if repo::is_short(&error) {
                        short = Some(what);
                    } else {
                        let problem = Diagnostic::new("E0510", what);
                        self.scribe.warn(&problem.help("the run was recorded without it"));
                    }
                    return false;
                }
            };
            if file.path == own || !mask.finds(&bytes) {
                file.content = Content::Bytes(bytes.into_owned());
                return true;
            }
            hits.push(file.path.clone());
            false
        });
        if let Some(message) = short {
            return Err(message);
        }
        if !hits.is_empty() {
            self.withhold(record.id, &hits);
        }
        let status = self.book.with(record.id, |page| {
            page.status = clean(&mask, &page.status);
            page.status.to_bytes()
        });
        if let (Some(bytes), Some(file)) = (status, record.files.iter_mut().find(|file| file.path == own)) {
            file.content = Content::Bytes(bytes);
        }
        Ok(record)
    }

    fn withhold(&self, id: RunId, hits: &[String]) {
        let folder = self.aside.join(id.to_string());
        let list = hits.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
        let problem = Diagnostic::new("E0611", format!("a secret of this host is in {list}: not committed"))
            .help(format!("on the dispatcher's host: {}     then give the secret another value", folder.display()));
        let written = self.book.with(id, |page| {
            let status = &mut page.status;
            status.withheld.extend_from_slice(hits);
            status.log = status.log.take().filter(|log| !hits.contains(log));
            status.error = status.error.take().or_else(|| status_error(std::slice::from_ref(&problem)));
            // Before the files are moved: a restart must not take the rest for all there is.
            self.runs.write_status(status)
        });
        if let Some(Err(error)) = written {
            self.scribe.warn(&Diagnostic::new("E0704", error.to_string()));
        }
        hits.iter().for_each(|path| self.put_aside(id, path));
        let detail = format!("run {id}: {}; kept in {}", problem.message, text::line(&folder.display().to_string()));
        self.scribe.emit(Event::Degraded { reason: "leak".to_owned(), detail });
    }

    fn put_aside(&self, id: RunId, path: &str) {
        let folder = self.aside.join(id.to_string());
        if let Err(error) = set_aside(&self.root.join(path), &folder) {
            let what = format!("failed to move `{path}` to `{}`: {error}", folder.display());
            self.scribe.warn(&Diagnostic::new("E0704", what));
        }
    }
}

/// A status in whose bytes nothing is found: it is the record of the run, so it is never left out.
fn clean(mask: &Arc<Mask>, status: &Status) -> Status {
    let bytes = status.to_bytes();
    let Cow::Owned(masked) = mask.bytes(&bytes) else { return status.clone() };
    // A marker in the place of what is no text, such as a number, makes it unreadable: then without what a handler or a
    // person may have written.
    serde_json::from_slice(&masked).unwrap_or_else(|_| Status {
        request: mask.text(&status.request).into_owned(),
        resource: None,
        reason: None,
        result: None,
        error: None,
        ..status.clone()
    })
}

/// Moves a file into a folder that its owner alone can enter.
fn set_aside(path: &Path, folder: &Path) -> io::Result<()> {
    let mut above = DirBuilder::new();
    above.recursive(true).mode(0o700).create(folder)?;
    let name: PathBuf = path.file_name().map(PathBuf::from).unwrap_or_default();
    let to = folder.join(name);
    match fs::rename(path, &to) {
        Err(error) if error.kind() == ErrorKind::CrossesDevices => {
            fs::copy(path, &to)?;
            fs::set_permissions(&to, Permissions::from_mode(0o600))?;
            fs::remove_file(path)
        }
        moved => moved,
    }
}
