//! Removes a folder that a handler has filled: whatever its modes, links, depth or number of files. Never follows a
//! symlink, and needs one descriptor per level of two however deep the tree is, because it flattens it as it goes.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Removes `path` and all that is in it; nothing to do where it is not there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let top = match folder(AT_FDCWD, path) {
        Ok(top) => top,
        Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::ENOTDIR | Errno::ELOOP) => return fs::remove_file(path),
        Err(errno) => return Err(errno.into()),
    };
    let mut serial = 0_u64;
    loop {
        let names = entries(&top)?;
        if names.is_empty() {
            break;
        }
        for name in names {
            // Most are empty.
            if !unlink(&top, &name)? && unlinkat(&top, name.as_os_str(), UnlinkatFlags::RemoveDir).is_err() {
                let inner = folder(top.as_fd(), name.as_os_str())?;
                for deep in entries(&inner)? {
                    if !unlink(&inner, &deep)? {
                        lift(&inner, &deep, &top, &mut serial)?;
                    }
                }
                unlinkat(&top, name.as_os_str(), UnlinkatFlags::RemoveDir)?;
            }
        }
    }
    fs::remove_dir(path)
}

/// Moves a folder from below up into `top`, under a name that is free there.
fn lift(inner: &OwnedFd, name: &std::ffi::OsStr, top: &OwnedFd, serial: &mut u64) -> io::Result<()> {
    // To be moved, a folder must be writable itself: its `..` changes.
    drop(folder(inner.as_fd(), name)?);
    loop {
        *serial += 1;
        match renameat(inner, name, top, format!("{serial}.removed").as_str()) {
            // The handler has taken that name.
            Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR | Errno::EISDIR) => {}
            other => return Ok(other?),
        }
    }
}

/// Opens a folder, never through a link, and makes it ours to read and change. By its handle, so that what is changed is
/// what was opened.
fn folder<P: ?Sized + nix::NixPath>(at: std::os::fd::BorrowedFd<'_>, name: &P) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let handle = openat(at, name, flags | OFlag::O_PATH, Mode::empty())?;
    let by_handle = format!("/proc/self/fd/{}", handle.as_raw_fd());
    if let Ok(meta) = fs::metadata(&by_handle) {
        use std::os::unix::fs::PermissionsExt as _;
        if meta.permissions().mode() & 0o700 != 0o700 {
            // Where this is not allowed, the next step says why.
            let _ = fs::set_permissions(&by_handle, fs::Permissions::from_mode(0o700));
        }
    }
    open(by_handle.as_str(), OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
}

fn entries(folder: &OwnedFd) -> io::Result<Vec<std::ffi::OsString>> {
    fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()))?.map(|entry| Ok(entry?.file_name())).collect()
}

/// Removes anything but a folder; false where it is one.
fn unlink(folder: &OwnedFd, name: &std::ffi::OsStr) -> io::Result<bool> {
    match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(true),
        Err(Errno::EISDIR | Errno::EPERM) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn whatever_a_handler_leaves_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let outside = dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("kept"), "kept").unwrap();
        let work = dir.path().join("work");
        fs::create_dir_all(work.join("a/b/c")).unwrap();
        fs::write(work.join("a/b/c/file"), "x").unwrap();
        fs::create_dir_all(work.join("1.removed/deep/deeper")).unwrap();
        fs::write(work.join("2.removed"), "the name that we would use").unwrap();
        symlink(&outside, work.join("link")).unwrap();
        symlink("/", work.join("a/b/root")).unwrap();
        symlink("nowhere", work.join("a/dangling")).unwrap();
        nix::unistd::mkfifo(&work.join("a/fifo"), Mode::S_IRUSR).unwrap();
        for name in ["a/b/c", "a/b", "a", "1.removed/deep", "1.removed"] {
            fs::set_permissions(work.join(name), fs::Permissions::from_mode(0o000)).unwrap();
        }
        fs::set_permissions(&work, fs::Permissions::from_mode(0o000)).unwrap();
        remove(&work).unwrap();
        assert!(!work.exists());
        assert_eq!(fs::read_to_string(outside.join("kept")).unwrap(), "kept");
        remove(&work).unwrap();
    }

    #[test]
    fn depth_does_not_matter() {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("work");
        fs::create_dir(&work).unwrap();
        let mut at = folder(AT_FDCWD, &work).unwrap();
        for _ in 0..3_000 {
            nix::sys::stat::mkdirat(&at, "deeper", Mode::S_IRWXU).unwrap();
            at = folder(at.as_fd(), "deeper").unwrap();
        }
        remove(&work).unwrap();
        assert!(!work.exists());
    }

    #[test]
    fn a_link_in_place_of_the_folder_is_removed_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (kept, link) = (dir.path().join("kept"), dir.path().join("link"));
        fs::create_dir(&kept).unwrap();
        symlink(&kept, &link).unwrap();
        remove(&link).unwrap();
        assert!(kept.exists() && !link.is_symlink());
    }
}
