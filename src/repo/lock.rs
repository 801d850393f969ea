//! Lock files as git knows them (`X.lock`, made with `O_EXCL`). Owns their life: ours say so inside, so that a restart
//! can tell what a crash of ours left from what a person's git is holding right now.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::error::{Doing, RepoError};

const MARK: &str = "dispatcher";

/// How long one look at a held lock waits for the next.
const PAUSE: Duration = Duration::from_millis(20);

/// A lock file that is ours; removed when dropped.
pub(super) struct Lock {
    path: PathBuf,
}

impl Lock {
    /// Takes the lock of `file`, looking `tries` times, 20 ms apart. `None` where somebody held it all the time.
    pub(super) fn take(file: &Path, tries: u32) -> Result<Option<Self>, RepoError> {
        let mut name = file.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        for left in (0..tries).rev() {
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(mut made) => {
                    let lock = Self { path };
                    writeln!(made, "{MARK} {}", std::process::id()).doing_to("write", &lock.path)?;
                    return Ok(Some(lock));
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    if left > 0 {
                        thread::sleep(PAUSE);
                    }
                }
                Err(e) => return Err(e).doing_to("lock", &path),
            }
        }
        Ok(None)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // A lock that cannot be removed is found by `sweep` at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes a lock file that a crash of ours left; true where there was one.
pub(super) fn sweep(path: &Path) -> Result<bool, RepoError> {
    let mut head = [0; MARK.len()];
    match File::open(path).and_then(|mut file| file.read_exact(&mut head)) {
        Ok(()) if head == *MARK.as_bytes() => fs::remove_file(path).doing_to("remove", path).map(|()| true),
        _ => Ok(false),
    }
}

/// Writes `bytes` beside `path` and renames it there; `durable` also syncs the file and its folder.
pub(super) fn replace(path: &Path, bytes: &[u8], durable: bool) -> Result<(), RepoError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".dispatcher");
    let beside = PathBuf::from(name);
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&beside)?;
        file.write_all(bytes)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&beside, path)?;
        match path.parent() {
            Some(folder) if durable => File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    })();
    written.doing_to("write", path)
}
