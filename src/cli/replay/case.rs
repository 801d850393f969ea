//! One golden case on disk: `request.yml`, optional `files/`, `expected.log` and `expected.status.json`. Refuses folders
//! that hold anything else, because a misspelt `expected` would expect nothing.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::play::CameOut;
use crate::checkout;
use crate::cli::{Exit, Failure};
use crate::diagnostic::Diagnostic;
use crate::repo::NewFile;
use crate::text;

const REQUEST: &str = "request.yml";
const FILES: &str = "files";
/// What the log must be.
pub(super) const LOG: &str = "expected.log";
/// What the status must be.
pub(super) const STATUS: &str = "expected.status.json";

/// More than any file of a case has, in bytes.
const MOST: u64 = 64 << 20;

/// A golden case.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// Of its folder.
    pub name: String,
    /// As it was named.
    pub folder: PathBuf,
    path: PathBuf,
    /// Of `request.yml`, which need not be text.
    pub request: Vec<u8>,
    /// What is laid over the repository.
    pub files: Vec<NewFile>,
    /// `None` where there is none yet.
    pub log: Option<String>,
    /// `None` where there is none yet.
    pub status: Option<String>,
}

impl Case {
    /// Reads a case; `folder` is relative to `dir`.
    ///
    /// # Errors
    /// 66 where there is no such folder or no request in it, 65 where it holds what is not known.
    pub fn read(dir: &Path, folder: &Path) -> Result<Self, Failure> {
        let path = dir.join(folder);
        let shown = text::line(&folder.to_string_lossy());
        if !path.is_dir() {
            let problem = Diagnostic::new("E0130", format!("there is no case `{shown}`"))
                .help("a case is a folder with `request.yml`, and `files/` where it needs some");
            return Err(Failure::new(Exit::NO_INPUT, problem));
        }
        let io = |error: io::Error| Failure::io(&format!("read `{shown}`"), &error);
        let Some(request) = optional(&path, REQUEST).map_err(io)? else {
            let problem = Diagnostic::new("E0131", format!("the case `{shown}` has no `{REQUEST}`"))
                .help(format!("dispatcher replay {}/*     replays the cases in a folder", shown.trim_end_matches('/')));
            return Err(Failure::new(Exit::NO_INPUT, problem));
        };
        for entry in fs::read_dir(&path).map_err(io)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let left_over = name.starts_with('.') || name.ends_with('~');
            if !left_over && ![REQUEST, FILES, LOG, STATUS].contains(&name.as_str()) {
                let problem = Diagnostic::new("E0132", format!("the case `{shown}` holds `{}`", text::line(&name)))
                    .note(format!("a case holds `{REQUEST}`, `{FILES}/`, `{LOG}` and `{STATUS}`"))
                    .help(format!("what the run needs belongs into `{FILES}/`"));
                return Err(Failure::bad_data(vec![problem]));
            }
        }
        let name = path.canonicalize().map_err(io)?.file_name().map(|name| name.to_string_lossy().into_owned());
        let expected = |name| {
            let bytes = optional(&path, name).map_err(io)?;
            Ok::<_, Failure>(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        };
        Ok(Self {
            name: name.unwrap_or_else(|| shown.clone()),
            folder: folder.to_owned(),
            files: files_below(&path.join(FILES)).map_err(io)?,
            log: expected(LOG)?,
            status: expected(STATUS)?,
            path,
            request,
        })
    }

    /// Writes what came out as what is expected; true where that was something else.
    ///
    /// # Errors
    /// 74 where the disk fails.
    pub fn bless(&self, came_out: &CameOut) -> Result<bool, Failure> {
        let mut changed = false;
        for (name, old, new) in [(LOG, &self.log, &came_out.log), (STATUS, &self.status, &came_out.status)] {
            if old.as_ref() != Some(new) {
                let path = self.path.join(name);
                fs::write(&path, new).map_err(|error| Failure::io(&format!("write `{}`", path.display()), &error))?;
                changed = true;
            }
        }
        Ok(changed)
    }
}

fn optional(case: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    match checkout::read(case, Path::new(name), MOST) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Every regular file below `folder`, with its path in there; nothing where the folder is missing.
///
/// # Errors
/// Where the disk fails, or a name is not UTF-8.
pub(super) fn files_below(folder: &Path) -> io::Result<Vec<NewFile>> {
    let mut files = Vec::new();
    let mut left = vec![PathBuf::new()];
    while let Some(inner) = left.pop() {
        let entries = match fs::read_dir(folder.join(&inner)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let path = inner.join(entry.file_name());
            let meta = entry.path().symlink_metadata()?;
            if meta.is_dir() {
                left.push(path);
            } else if meta.is_file() {
                let name = path.to_str().ok_or_else(|| {
                    io::Error::other(format!("`{}` is not UTF-8", text::line(&path.to_string_lossy())))
                })?;
                let executable = meta.mode() & 0o111 != 0;
                let bytes = checkout::read(folder, &path, MOST)?;
                files.push(NewFile { path: name.to_owned(), bytes, executable });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_case_is_read_with_its_modes() {
        let dir = tempfile::tempdir().unwrap();
        let case = dir.path().join("one");
        fs::create_dir_all(case.join("files/handlers/lib")).unwrap();
        fs::write(case.join("request.yml"), b"kind: \xff").unwrap();
        fs::write(case.join("files/handlers/act"), "x").unwrap();
        fs::write(case.join("files/handlers/lib/data"), "y").unwrap();
        fs::set_permissions(case.join("files/handlers/act"), fs::Permissions::from_mode(0o755)).unwrap();
        let read = Case::read(dir.path(), Path::new("one/")).unwrap();
        let files: Vec<(&str, bool)> = read.files.iter().map(|f| (f.path.as_str(), f.executable)).collect();
        assert_eq!(files, [("handlers/act", true), ("handlers/lib/data", false)]);
        assert_eq!((read.name.as_str(), read.log, read.request), ("one", None, b"kind: \xff".to_vec()));
    }

    #[test]
    fn what_is_no_case_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let check = |name: &str, code: &str, exit: Exit| {
            let failure = Case::read(dir.path(), Path::new(name)).unwrap_err();
            assert_eq!((failure.problems[0].code, failure.exit), (code, exit), "{name}");
        };
        check("gone", "E0130", Exit::NO_INPUT);
        fs::create_dir(dir.path().join("empty")).unwrap();
        check("empty", "E0131", Exit::NO_INPUT);
        fs::create_dir(dir.path().join("odd")).unwrap();
        fs::write(dir.path().join("odd/request.yml"), "kind: a\n").unwrap();
        fs::write(dir.path().join("odd/.DS_Store"), "").unwrap();
        fs::write(dir.path().join("odd/expected.status.yml"), "").unwrap();
        check("odd", "E0132", Exit::BAD_DATA);
    }
}
