//! Reading what lies in a checkout. Whoever may push decides what is there, so nothing below the root is followed
//! through a symbolic link, only regular files are read, and never more than fits the purpose.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open as open_at_once, openat};
use nix::sys::stat::Mode;

use crate::request::RunId;
use crate::status::Status;

/// The largest status that is read, in bytes.
pub const STATUS: u64 = 1 << 20;
/// The largest request that is read, in bytes.
pub const REQUEST: u64 = 1 << 20;

/// Opens the regular file `inner` of the checkout at `root`.
///
/// # Errors
/// Where it is missing, is no regular file, or lies behind a symbolic link.
pub fn open(root: &Path, inner: &Path) -> io::Result<File> {
    let always = OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let mut names = Vec::new();
    for component in inner.components() {
        let Component::Normal(name) = component else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the path leads out of the repository"));
        };
        names.push(name);
    }
    let Some((last, folders)) = names.split_last() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let mut at: OwnedFd = open_at_once(root, always | OFlag::O_DIRECTORY, Mode::empty())?;
    for folder in folders {
        at = openat(&at, *folder, always | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty()).map_err(plain)?;
    }
    // Without O_NONBLOCK a FIFO would be waited for.
    let flags = always | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = File::from(openat(&at, *last, flags, Mode::empty()).map_err(plain)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is not a regular file")) }
}

/// A link shows as `ELOOP`, which nobody takes for what it is.
fn plain(errno: Errno) -> io::Error {
    if errno == Errno::ELOOP { io::Error::other("it is a symbolic link, which is not followed") } else { errno.into() }
}

/// Reads the regular file `inner` of the checkout at `root`.
///
/// # Errors
/// As [`open`]; where it has more than `most` bytes.
pub fn read(root: &Path, inner: &Path, most: u64) -> io::Result<Vec<u8>> {
    whole(open(root, inner)?, most)
}

/// Everything that `from` gives.
///
/// # Errors
/// Where that is more than `most` bytes, or reading fails.
pub fn whole(from: impl io::Read, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

/// The ids of all runs of the checkout at `root`, in no order.
pub fn run_ids(root: &Path) -> impl Iterator<Item = RunId> {
    let entries = std::fs::read_dir(root.join("processed")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse::<RunId>().ok())
}

/// The status of one run.
///
/// # Errors
/// Where there is none that can be read, or it is another run's.
pub fn status(root: &Path, id: RunId) -> io::Result<Status> {
    let bytes = read(root, &PathBuf::from(format!("processed/{id}/status.json")), STATUS)?;
    let status: Status = serde_json::from_slice(&bytes)?;
    if status.id == id { Ok(status) } else { Err(io::Error::other("it is the status of another run")) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_regular_files_of_the_checkout_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("a/folder")).unwrap();
        fs::write(root.join("a/good"), "12345").unwrap();
        fs::write(root.join("secret"), "x").unwrap();
        symlink("/dev/zero", root.join("a/zero")).unwrap();
        symlink("good", root.join("a/link")).unwrap();
        symlink("a", root.join("b")).unwrap();
        nix::unistd::mkfifo(&root.join("a/fifo"), Mode::S_IRWXU).unwrap();
        let check = |inner: &str, expect: Result<&str, &str>| match (read(root, Path::new(inner), 5), expect) {
            (Ok(bytes), Ok(text)) => assert_eq!(bytes, text.as_bytes(), "{inner}"),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{inner}: {error}"),
            (got, _) => panic!("{inner}: {got:?}"),
        };
        check("a/good", Ok("12345"));
        check("a/zero", Err("symbolic link"));
        check("a/link", Err("symbolic link"));
        check("b/good", Err("Not a directory"));
        check("a/fifo", Err("not a regular file"));
        check("a/folder", Err("not a regular file"));
        check("a/gone", Err("No such file"));
        check("a/../secret", Err("out of the repository"));
        check("/etc/passwd", Err("out of the repository"));
        fs::write(root.join("a/good"), "123456").unwrap();
        check("a/good", Err("more than 5 bytes"));
    }
}
