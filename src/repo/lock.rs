//! Lock files as git knows them (`X.lock`, made with `O_EXCL`). Owns their life: ours say so inside, so that a restart
//! can tell what a crash of ours left from what a person's git is holding right now.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::error::{Doing, RepoError, sync};

const MARK: &str = "dispatcher";
const SCRATCH: &str = "dispatcher-tmp-";

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
            match make(&path) {
                Ok(()) => return Ok(Some(Self { path })),
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

/// Makes a lock file that has our mark from its first moment on: a kill in between would leave one that nobody owns. The
/// mark is where a link leads, because a name is in the journal of a file system, and the bytes of a file may be lost
/// when the power goes.
fn make(path: &Path) -> io::Result<()> {
    let mark = format!("{MARK} {}", std::process::id());
    match symlink(&mark, path) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EPERM | libc::EOPNOTSUPP)) => {
            // A file system without links.
            OpenOptions::new().write(true).create_new(true).open(path)?.write_all(mark.as_bytes())
        }
        made => made,
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
    let mark = match fs::read_link(path) {
        Ok(mark) => mark.into_os_string().into_encoded_bytes(),
        Err(_) => {
            let mut head = [0; MARK.len()];
            let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
            read.map_or_else(|_| Vec::new(), |()| head.to_vec())
        }
    };
    if mark.starts_with(MARK.as_bytes()) {
        return fs::remove_file(path).doing_to("remove", path).map(|()| true);
    }
    Ok(false)
}

/// Writes `bytes` to a temp file in `scratch`, which is on the same file system, and renames it to `path`; `durable`
/// also syncs the file and its new folder. Not beside `path`: below `refs/` a leftover would be a ref.
pub(super) fn replace(path: &Path, scratch: &Path, bytes: &[u8], durable: bool) -> Result<(), RepoError> {
    let temp = scratch.join(scratch_name());
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&temp)?;
        file.write_all(bytes)?;
        if durable {
            sync(&file)?;
        }
        fs::rename(&temp, path)?;
        match path.parent() {
            Some(folder) if durable => sync(&File::open(folder)?),
            _ => Ok(()),
        }
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temp);
    }
    written.doing_to("write", path)
}

/// A name for a temp file or folder in the git folder that no other thread uses.
pub(super) fn scratch_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{SCRATCH}{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Removes temp files and folders that a crash of ours left.
pub(super) fn sweep_scratch(scratch: &Path) {
    for entry in fs::read_dir(scratch).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(SCRATCH.as_bytes()) {
            // Left behind it costs its size. A pack was made in a folder.
            let _ = fs::remove_file(entry.path()).or_else(|_| fs::remove_dir_all(entry.path()));
        }
    }
}

/// Removes marks that keep a fetched pack from being joined and that a `git fetch-pack` left which is gone: ours ends
/// with us before a ref names the new commits. A person's own marks say something else.
pub(super) fn sweep_kept(packs: &Path) {
    let gone = |path: &Path| {
        let mark = fs::read_to_string(path).ok()?;
        let (pid, host) = mark.trim_end().strip_prefix("fetch-pack ")?.split_once(" on ")?;
        if host != nix::unistd::gethostname().ok()?.to_str()? {
            return None;
        }
        let pid: u32 = pid.parse().ok()?;
        (!Path::new("/proc").join(pid.to_string()).exists()).then_some(())
    };
    for entry in fs::read_dir(packs).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|end| end == "keep") && gone(&path).is_some() {
            // Left behind it costs a pack that is never joined with others.
            let _ = fs::remove_file(&path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_of_fetches_that_are_gone_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let me = std::process::id();
        let host = nix::unistd::gethostname().unwrap().into_string().unwrap();
        // No process has a number beyond 2^22.
        for (name, mark) in [
            ("a.keep", format!("fetch-pack 4194999 on {host}\n")),
            ("b.keep", format!("fetch-pack {me} on {host}\n")),
            ("c.keep", "mine\n".to_owned()),
            ("d.keep", "fetch-pack 4194999 on another\n".to_owned()),
            ("e.pack", format!("fetch-pack 4194999 on {host}\n")),
        ] {
            fs::write(dir.path().join(name), mark).unwrap();
        }
        sweep_kept(dir.path());
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["b.keep", "c.keep", "d.keep", "e.pack"]);
    }
}
