//! The handlers and schemas in force: HEAD's files, overlaid with edited and untracked working files, read together and
//! copied to a folder that the handlers' user can read and not change. Read again when any of them changes; a broken
//! edit keeps the last good ones.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::daemon::intake::guarded;
use crate::diagnostic::Diagnostic;
use crate::repo::{Repo, RepoError};
use crate::router::{ExtraFolder, Folder, HandlerFile, HandlerSource, Table};
use crate::schema::Schemas;
use crate::status::HandlerUsed;

/// Files of more than this in total are no handlers but data that belongs elsewhere.
const MOST: u64 = 256 << 20;

/// Where they lie in the repository.
const FOLDERS: [&str; 2] = ["handlers", "schema"];

/// Handlers and schemas as they were at one moment.
pub struct Library {
    /// Kind -> handler, resource, limits.
    pub table: Table,
    /// Of the params.
    pub schemas: Schemas,
    /// The commit that they are from, where there is one.
    pub commit: Option<String>,
    used: BTreeMap<String, HandlerUsed>,
    staged: PathBuf,
}

impl Library {
    /// The staged executable of a handler, and what `status.json` says of it.
    #[must_use]
    pub fn program(&self, source: &HandlerSource) -> Option<(PathBuf, HandlerUsed)> {
        let place = place_of(source);
        let used = self.used.get(&place)?;
        Some((self.staged.join(&place), used.clone()))
    }

    /// The folder of all that is staged: handlers may read it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.staged
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // Nothing runs from it any more: whoever starts a handler keeps the library until it has ended.
        let _ = fs::remove_dir_all(&self.staged);
    }
}

fn place_of(source: &HandlerSource) -> String {
    match &source.folder {
        Folder::Builtin => format!("handlers/{}", source.path),
        Folder::Extra(folder) => format!("{}/{}", extra_name(folder), source.path),
    }
}

fn extra_name(folder: &Path) -> String {
    let digest = Sha256::digest(folder.as_os_str().as_encoded_bytes());
    format!("extra-{}", hex(&digest[..6]))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One file that is to be staged.
struct Piece {
    bytes: Vec<u8>,
    executable: bool,
    dirty: bool,
}

/// Where handlers and schemas come from.
#[derive(Clone, Debug)]
pub struct Source {
    /// Of the repository.
    pub root: PathBuf,
    /// `DISPATCHER_HANDLERS`.
    pub extra: Vec<PathBuf>,
    /// In the local state; each library gets a folder of its own in it.
    pub staging: PathBuf,
}

/// Why there is no new library.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// The files are wrong: all of their problems.
    #[error("handlers or schemas are broken")]
    Broken(Vec<Diagnostic>),
    /// Git did not give them.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The disk did not give or keep them.
    #[error("failed to {0}: {1}")]
    Io(String, io::Error),
}

impl LibraryError {
    /// What a person reads.
    #[must_use]
    pub fn problems(&self) -> Vec<Diagnostic> {
        match self {
            Self::Broken(problems) => problems.clone(),
            Self::Repo(error) => vec![error.diagnostic()],
            Self::Io(..) => vec![Diagnostic::new("E0704", self.to_string())],
        }
    }
}

/// What the files looked like: equal while nothing has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signature(Vec<String>);

impl Source {
    /// What the files look like now; cheap.
    ///
    /// # Errors
    /// Where git or the disk cannot be read.
    pub fn signature(&self, repo: &Repo) -> Result<Signature, LibraryError> {
        let mut parts = Vec::new();
        if let Some(tip) = repo.tip()? {
            for folder in FOLDERS {
                let files = repo.read_folder(tip, folder)?;
                parts.extend(files.iter().map(|f| format!("{folder} {:?} {} {}", f.path, f.oid, f.executable)));
            }
        }
        let folders = FOLDERS.map(|name| self.root.join(name));
        parts.extend(
            folders.iter().filter(|folder| is_diverted(folder)).map(|folder| format!("{} -> ?", folder.display())),
        );
        for folder in folders.iter().filter(|folder| !is_diverted(folder)).chain(&self.extra) {
            for (path, meta) in walk(folder)? {
                let stamp = (meta.ino(), meta.size(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
                parts.push(format!("{path} {stamp:?} {}", meta.mode()));
            }
        }
        Ok(Signature(parts))
    }

    /// Reads, checks and stages everything.
    ///
    /// # Errors
    /// `Broken` with every problem of the files; else where git or the disk fails.
    pub fn load(&self, repo: &Repo) -> Result<Arc<Library>, LibraryError> {
        let diverted: Vec<_> = FOLDERS.iter().filter(|name| is_diverted(&self.root.join(name))).map(diverted).collect();
        if !diverted.is_empty() {
            return Err(LibraryError::Broken(diverted));
        }
        let mut pieces = self.pieces(repo, "handlers")?;
        let schema_pieces = self.pieces(repo, "schema")?;
        let index = pieces.get("handlers/index.yml").map(|piece| piece.bytes.clone());
        let mut extra = Vec::new();
        for folder in &self.extra {
            let name = extra_name(folder);
            let mut found = BTreeMap::new();
            overlay(folder, &name, &mut found, &|_, _| true)?;
            extra.push(ExtraFolder { folder: folder.clone(), files: files_of(&found, &format!("{name}/")) });
            pieces.extend(found);
        }
        let files = schema_pieces
            .into_iter()
            .filter_map(|(path, piece)| Some((path.strip_prefix("schema/")?.to_owned(), piece.bytes)));
        let read = guarded(|| {
            let schemas = Schemas::load(&files.collect())?;
            let table = Table::load(index.as_deref(), &files_of(&pieces, "handlers/"), &extra, schemas.clone())?;
            Ok((schemas, table))
        });
        let (schemas, table) = read.unwrap_or_else(|| Err(vec![crashing()])).map_err(LibraryError::Broken)?;
        let commit = repo.tip()?.map(|tip| tip.to_string());
        let (staged, used) = self.stage(&pieces)?;
        Ok(Arc::new(Library { table, schemas, commit, used, staged }))
    }

    /// HEAD's files of a folder, overlaid with those of the work tree that differ.
    fn pieces(&self, repo: &Repo, folder: &str) -> Result<BTreeMap<String, Piece>, LibraryError> {
        let mut pieces = BTreeMap::new();
        let mut committed = BTreeMap::new();
        if let Some(tip) = repo.tip()? {
            for file in repo.read_folder(tip, folder)? {
                let Ok(path) = String::from_utf8(file.path.clone()) else { continue };
                if file.symlink {
                    continue;
                }
                let bytes = repo.blob(file.oid)?;
                committed.insert(format!("{folder}/{path}"), (bytes.clone(), file.executable));
                let piece = Piece { bytes, executable: file.executable, dirty: false };
                pieces.insert(format!("{folder}/{path}"), piece);
            }
        }
        let differs = |path: &str, piece: &Piece| {
            committed
                .get(path)
                .is_none_or(|(bytes, executable)| *bytes != piece.bytes || *executable != piece.executable)
        };
        overlay(&self.root.join(folder), folder, &mut pieces, &differs)?;
        Ok(pieces)
    }

    fn stage(
        &self,
        pieces: &BTreeMap<String, Piece>,
    ) -> Result<(PathBuf, BTreeMap<String, HandlerUsed>), LibraryError> {
        let failed = |error| LibraryError::Io(format!("stage the handlers in `{}`", self.staging.display()), error);
        fs::create_dir_all(&self.staging).and_then(|()| open_to_all(&self.staging)).map_err(failed)?;
        let staged = tempfile::Builder::new().prefix("handlers-").tempdir_in(&self.staging).map_err(failed)?;
        open_to_all(staged.path()).map_err(failed)?;
        make_folders(staged.path(), Path::new("handlers")).map_err(failed)?;
        let mut used = BTreeMap::new();
        for (path, piece) in pieces {
            let to = staged.path().join(path);
            if let Some(parent) = Path::new(path).parent() {
                make_folders(staged.path(), parent).map_err(failed)?;
            }
            let mode = if piece.executable { 0o755 } else { 0o644 };
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&to).map_err(failed)?;
            io::Write::write_all(&mut file, &piece.bytes).map_err(failed)?;
            file.set_permissions(fs::Permissions::from_mode(mode)).map_err(failed)?;
            let shown = path.strip_prefix("handlers/").unwrap_or(path).to_owned();
            let sha256 = hex(&Sha256::digest(&piece.bytes));
            used.insert(path.clone(), HandlerUsed { file: shown, sha256, dirty: piece.dirty });
        }
        // Only a whole copy stays.
        let staged = staged.keep();
        Ok((staged, used))
    }
}

/// The handlers' user passes and reads it, whatever the umask is.
fn open_to_all(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

/// Makes `below` in `top`, each folder on the way open to all.
fn make_folders(top: &Path, below: &Path) -> io::Result<()> {
    let mut at = top.to_owned();
    for part in below {
        at.push(part);
        match fs::create_dir(&at) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => made.and_then(|()| open_to_all(&at))?,
        }
    }
    Ok(())
}

fn files_of(pieces: &BTreeMap<String, Piece>, prefix: &str) -> Vec<HandlerFile> {
    let files = pieces.iter().filter_map(|(path, piece)| {
        Some(HandlerFile { path: path.strip_prefix(prefix)?.to_owned(), executable: piece.executable })
    });
    files.collect()
}

/// Adds the regular files below `folder` that `wanted` wants, under `name`.
fn overlay(
    folder: &Path,
    name: &str,
    pieces: &mut BTreeMap<String, Piece>,
    wanted: &dyn Fn(&str, &Piece) -> bool,
) -> Result<(), LibraryError> {
    let mut total = 0;
    for (path, meta) in walk(folder)? {
        total += meta.size();
        if total > MOST {
            let error = io::Error::other(format!("more than {} bytes lie in it", MOST));
            return Err(LibraryError::Io(format!("read `{}`", folder.display()), error));
        }
        let from = folder.join(&path);
        let bytes = match read_plain(&from, meta.size()) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            // It has become a link since it was listed.
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => continue,
            Err(error) => return Err(LibraryError::Io(format!("read `{}`", from.display()), error)),
        };
        let executable = meta.mode() & 0o111 != 0;
        let key = format!("{name}/{path}");
        let piece = Piece { bytes, executable, dirty: true };
        if wanted(&key, &piece) {
            pieces.insert(key, piece);
        }
    }
    Ok(())
}

/// Reads a file as far as it was long when it was looked at; never through a link, never waiting for a writer.
fn read_plain(path: &Path, size: u64) -> io::Result<Vec<u8>> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, size), &mut bytes)?;
    Ok(bytes)
}

/// True where something else than a folder has the name of one.
fn is_diverted(folder: &Path) -> bool {
    folder.symlink_metadata().is_ok_and(|meta| !meta.is_dir())
}

/// Whoever may push must not decide which folders of this machine are read.
fn diverted(name: &&str) -> Diagnostic {
    Diagnostic::new("E0206", format!("`{name}` is not a folder, and no link is followed"))
        .help(format!("make it a folder with its files: git rm --cached {name}"))
}

fn crashing() -> Diagnostic {
    Diagnostic::new("E0207", "`handlers/` and `schema/` cannot be read: the program that reads them fails on a file")
        .help("write the newest change more simply; this is a mistake of the dispatcher, and worth a report")
}

/// Every regular file below `folder` with its path relative to it, in order; symlinks and strange names are left out.
fn walk(folder: &Path) -> Result<Vec<(String, fs::Metadata)>, LibraryError> {
    let mut found = Vec::new();
    let mut left = vec![PathBuf::new()];
    while let Some(inner) = left.pop() {
        let here = folder.join(&inner);
        let entries = match fs::read_dir(&here) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(LibraryError::Io(format!("read `{}`", here.display()), error)),
        };
        for entry in entries.flatten() {
            let Ok(meta) = entry.path().symlink_metadata() else { continue };
            let path = inner.join(entry.file_name());
            match path.to_str() {
                Some(_) if meta.is_dir() => left.push(path),
                Some(text) if meta.is_file() => found.push((text.to_owned(), meta)),
                _ => {}
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_fails_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let source = Source { root: dir.path().into(), extra: Vec::new(), staging: dir.path().join("staged") };
        let piece = || Piece { bytes: b"#!/bin/sh\n".to_vec(), executable: true, dirty: true };
        let pieces = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), piece())).collect();
        let left = || fs::read_dir(dir.path().join("staged")).unwrap().count();
        assert!(source.stage(&pieces(&["handlers/a", "handlers/a/b"])).is_err());
        assert_eq!(left(), 0);
        let (staged, used) = source.stage(&pieces(&["handlers/a", "handlers/b/c"])).unwrap();
        assert_eq!((left(), used.len()), (1, 2));
        for (path, mode) in [("", 0o755), ("handlers", 0o755), ("handlers/b", 0o755), ("handlers/b/c", 0o755)] {
            assert_eq!(staged.join(path).metadata().unwrap().mode() & 0o777, mode, "{path}");
        }
    }
}
