//! Scratch folders for `demo` and `replay`: made, used by a daemon of this process, removed. Everything that a daemon
//! leaves on a machine (local state, socket, locks) lies in them too; refuses to touch the places of real daemons.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::cli::{Exit, Failure};
use crate::config::Config;
use crate::config::places::{Places, check_exec};
use crate::console::Terminal;
use crate::daemon::Options;
use crate::diagnostic::Diagnostic;

/// A control socket's path may have 100 bytes; what stands behind the folder needs some of them.
const LONGEST: usize = 60;

/// A folder that is removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    folder: TempDir,
}

impl Scratch {
    /// Makes one whose name begins with `prefix`, where handlers can be started and reached.
    ///
    /// # Errors
    /// 74 where no folder for temporary files will do, with the reason for each.
    pub fn new(prefix: &str) -> Result<Self, Failure> {
        let mut refused = Diagnostic::new("E0704", "no folder for temporary files can be used")
            .help("set `TMPDIR` to one where programs may be started");
        let mut candidates = vec![std::env::temp_dir(), PathBuf::from("/tmp"), PathBuf::from("/var/tmp")];
        candidates.dedup();
        for candidate in candidates {
            match Self::make(&candidate, prefix) {
                Ok(scratch) => return Ok(scratch),
                Err(why) => refused = refused.note(format!("`{}`: {why}", candidate.display())),
            }
        }
        Err(Failure::new(Exit::IO, refused))
    }

    fn make(parent: &Path, prefix: &str) -> Result<Self, String> {
        let parent = parent.canonicalize().map_err(|error| error.to_string())?;
        if parent.as_os_str().len() + prefix.len() > LONGEST {
            return Err("the path is too long for a socket".to_owned());
        }
        check_exec(&parent).map_err(|problem| problem.message)?;
        // Root's handlers run as somebody else, who must get through to them.
        let closed = |dir: &Path| dir.metadata().is_ok_and(|meta| meta.mode() & 0o001 == 0);
        if nix::unistd::geteuid().is_root()
            && let Some(dir) = parent.ancestors().find(|dir| closed(dir))
        {
            return Err(format!("other users cannot get through `{}`", dir.display()));
        }
        let folder = tempfile::Builder::new().prefix(prefix).tempdir_in(&parent).map_err(|error| error.to_string())?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711))
            .map_err(|error| error.to_string())?;
        Ok(Self { folder })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A daemon that works on `repo` until nothing is left to do, with all of its places in here, and says nothing.
    #[must_use]
    pub fn options(&self, repo: &Path, config: Config) -> Options {
        Options {
            dir: repo.to_owned(),
            config: Config { min_free: 0, ..config },
            once: true,
            terminal: Terminal::Off,
            colors: false,
            plain: false,
            handlers: Vec::new(),
            watch: false,
            places: Some(Places::inside(&self.path().join("daemon"), repo)),
            reread: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_folder_is_passable_and_goes_away() {
        let scratch = Scratch::new("dispatcher-test-").unwrap();
        let path = scratch.path().to_owned();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o711);
        let options = scratch.options(&path.join("ops"), Config::default());
        let places = options.places.unwrap();
        for place in [&places.state, &places.runtime, &places.lock] {
            assert!(place.path.starts_with(&path), "{}", place.path.display());
        }
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn a_folder_that_will_not_do_is_left_out_with_its_reason() {
        let outer = tempfile::tempdir().unwrap();
        let long = outer.path().join("x".repeat(80));
        std::fs::create_dir(&long).unwrap();
        assert_eq!(Scratch::make(&long, "a-").unwrap_err(), "the path is too long for a socket");
        assert!(Scratch::make(&outer.path().join("gone"), "a-").unwrap_err().contains("No such file"));
    }
}
