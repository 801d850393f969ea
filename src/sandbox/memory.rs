//! Secrets as files in memory: a folder per run that its user alone can enter, on a file system that has no disk. Refuses
//! to put a value on one that has.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nix::sys::statfs::{TMPFS_MAGIC, statfs};

use super::remove;
use crate::launcher::User;
use crate::secret::SecretValue;

/// A folder for the secrets of many runs, where this machine has a file system in memory for it: passable for all, to be
/// listed by nobody else. What an earlier life left in it is removed. `name` is the repository's own.
///
/// # Errors
/// Why none will do, with the reason for each place.
pub fn memory_base(name: &str) -> Result<PathBuf, String> {
    let mut places = vec![PathBuf::from("/dev/shm"), PathBuf::from("/run")];
    places.extend(std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute()));
    let mut refused = Vec::new();
    for place in places {
        match base_in(&place, name) {
            Ok(base) => return Ok(base),
            Err(why) => refused.push(format!("`{}`: {why}", place.display())),
        }
    }
    Err(refused.join("; "))
}

fn base_in(place: &Path, name: &str) -> Result<PathBuf, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    // `ramfs` has no name in the library.
    let kind = statfs(place).map_err(|errno| errno.desc().to_owned())?.filesystem_type();
    if kind != TMPFS_MAGIC && kind.0 != 0x8584_58f6 {
        return Err("not in memory".to_owned());
    }
    let own = nix::unistd::geteuid().as_raw();
    let base = place.join(format!("dispatcher-{own}-{name}"));
    match DirBuilder::new().mode(0o711).create(&base) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(text(&error)),
        _ => {}
    }
    // Everybody may write to some of these places: one that was there before must be ours, and no link.
    let meta = base.symlink_metadata().map_err(|error| text(&error))?;
    if !meta.is_dir() || meta.uid() != own {
        return Err(format!("`{}` is there and belongs to somebody else", base.display()));
    }
    fs::set_permissions(&base, fs::Permissions::from_mode(0o711)).map_err(|error| text(&error))?;
    for left in fs::read_dir(&base).map_err(|error| text(&error))?.flatten() {
        remove::remove(&left.path()).map_err(|error| text(&error))?;
    }
    Ok(base)
}

/// The secrets of one attempt. Removed when dropped; the run's supervisor removes it too.
#[derive(Debug)]
pub struct MemoryFolder {
    path: PathBuf,
}

impl MemoryFolder {
    /// Makes a folder in `base` with a file for each of `secrets`. Its name cannot be guessed: runs of one user cannot
    /// look for each other's.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(base: &Path, secrets: &[(String, SecretValue)], user: &User) -> io::Result<Self> {
        let mut name = tempfile::Builder::new();
        let path =
            name.prefix("").rand_bytes(24).permissions(fs::Permissions::from_mode(0o700)).tempdir_in(base)?.keep();
        let folder = Self { path };
        let own = |path: &Path| match user.switch {
            true => std::os::unix::fs::lchown(path, Some(user.uid), Some(user.gid)),
            false => Ok(()),
        };
        for (name, value) in secrets {
            let path = folder.file(name);
            let mut file = File::options().write(true).create_new(true).mode(0o400).open(&path)?;
            file.write_all(value.expose())?;
            own(&path)?;
        }
        own(&folder.path)?;
        Ok(folder)
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of a secret.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for MemoryFolder {
    fn drop(&mut self) {
        // What stays is removed at the next start.
        let _ = remove::remove(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_its_files_and_they_go_with_it() {
        let name = format!("test-{}", fastrand::u64(..));
        let base = memory_base(&name).unwrap();
        let user = User { name: "me".into(), uid: 0, gid: 0, switch: false };
        let secrets = [("TOKEN".to_owned(), SecretValue::from(b"hunter2-hunter".to_vec()))];
        let folder = MemoryFolder::create(&base, &secrets, &user).unwrap();
        let path = folder.path().to_owned();
        assert_eq!(fs::read(folder.file("TOKEN")).unwrap(), b"hunter2-hunter");
        let mode = |path: &Path| path.metadata().unwrap().mode() & 0o777;
        assert_eq!((mode(&base), mode(&path), mode(&folder.file("TOKEN"))), (0o711, 0o700, 0o400));
        drop(folder);
        assert!(!path.exists());
        std::mem::forget(MemoryFolder::create(&base, &secrets, &user).unwrap());
        assert_eq!(memory_base(&name).unwrap(), base);
        assert_eq!(fs::read_dir(&base).unwrap().count(), 0, "what an earlier life left");
        fs::remove_dir(&base).unwrap();
    }

    #[test]
    fn a_place_that_is_on_a_disk_or_somebody_elses_will_not_do() {
        assert_eq!(base_in(Path::new("/proc"), "x").unwrap_err(), "not in memory");
        let name = format!("test-{}", fastrand::u64(..));
        let taken = PathBuf::from(format!("/dev/shm/dispatcher-{}-{name}", nix::unistd::geteuid()));
        std::os::unix::fs::symlink("/tmp", &taken).unwrap();
        let refused = base_in(Path::new("/dev/shm"), &name);
        fs::remove_file(&taken).unwrap();
        assert!(refused.unwrap_err().contains("belongs to somebody else"));
    }
}
