//! The file operations that `runs` is made of: each atomic, none follows a link.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::fcntl::renameat;

use crate::inbox::{MAX_REQUEST, Odd, Stamp};

/// The largest file of ours that is read back: a status with its result, a request.
const OWN: u64 = 4 << 20;
/// Ends the names of files that are being written.
const NEW: &str = ".new";

/// A file that may be a request.
pub(super) enum Read {
    /// Its bytes, and the look that they belong to.
    Whole(Vec<u8>, Stamp),
    /// Somebody wrote while it was read.
    Changing,
    /// It is none.
    Odd(Odd),
}

/// Reads a possible request: never follows, never blocks, never more than the limit.
pub(super) fn read_request(path: &Path) -> io::Result<Read> {
    // Looked at first: opening a device can do things.
    let meta = path.symlink_metadata()?;
    if let Some(odd) = judge(&meta) {
        return Ok(Read::Odd(odd));
    }
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Ok(Read::Odd(Odd::Symlink)),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(Read::Odd(Odd::Unreadable)),
        Err(error) => return Err(error),
    };
    let before = file.metadata()?;
    if let Some(odd) = judge(&before) {
        return Ok(Read::Odd(odd));
    }
    let mut bytes = Vec::new();
    (&file).take(MAX_REQUEST + 1).read_to_end(&mut bytes)?;
    let after = Stamp::of(&file.metadata()?);
    if Stamp::of(&before) != after || bytes.len() as u64 != after.size {
        return Ok(Read::Changing);
    }
    Ok(Read::Whole(bytes, after))
}

/// Why this cannot be kept as a request.
pub(super) fn judge(meta: &fs::Metadata) -> Option<Odd> {
    if meta.is_symlink() {
        Some(Odd::Symlink)
    } else if !meta.is_file() {
        Some(Odd::NotRegular)
    } else if meta.len() > MAX_REQUEST {
        Some(Odd::TooLarge { bytes: meta.len() })
    } else {
        None
    }
}

/// Reads a file of ours; `None` where it is missing.
pub(super) fn read_own(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(OWN).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Replaces `folder/name` as a whole. `sync`: its bytes are on the disk before its name is.
pub(super) fn replace(folder: &Path, name: &str, bytes: &[u8], sync: bool) -> io::Result<()> {
    let new = folder.join(format!(".{name}{NEW}"));
    let open = || {
        let flags = libc::O_NOFOLLOW;
        File::options().write(true).create_new(true).mode(0o644).custom_flags(flags).open(&new)
    };
    let mut file = match open() {
        // Left by a crash: its inode may have another name, so it is not written to.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(&new)?;
            open()?
        }
        opened => opened?,
    };
    file.write_all(bytes)?;
    if sync {
        file.sync_data().map_err(unsynced)?;
    }
    fs::rename(&new, folder.join(name))
}

/// A sync that failed.
#[derive(Debug, thiserror::Error)]
#[error("fsync: {0}")]
pub(super) struct Unsynced(io::Error);

fn unsynced(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), Unsynced(error))
}

/// Gives `folder/name` a second name; on a file system without links it goes without.
pub(super) fn keep_as(folder: &Path, name: &str, second: &str) -> io::Result<()> {
    match fs::hard_link(folder.join(name), folder.join(second)) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT | libc::EIO | libc::EROFS)) => {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// Makes the bytes of a file of ours durable.
pub(super) fn sync_file(path: &Path) -> io::Result<()> {
    File::options()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)?
        .sync_data()
        .map_err(unsynced)
}

/// Makes the names in `folder` durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    open_folder(folder)?.sync_all().map_err(unsynced)
}

fn open_folder(folder: &Path) -> io::Result<File> {
    File::options().read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW).open(folder)
}

/// Moves `from/name` to `into/name`, both being real folders.
pub(super) fn rename_in(from: &Path, name: &OsStr, into: &Path) -> io::Result<()> {
    Ok(renameat(open_folder(from)?, name, open_folder(into)?, name)?)
}

/// Moves `from/name` back to `into/name` unless something newer has that name; then it was replaced there, and goes.
pub(super) fn return_to(from: &Path, name: &OsStr, into: &Path) -> io::Result<()> {
    let old = from.join(name);
    if link_back(from, name, into)? {
        return Ok(());
    }
    match fs::symlink_metadata(&old)?.is_dir() {
        true => Err(ErrorKind::AlreadyExists.into()),
        false => fs::remove_file(old),
    }
}

/// Moves `from/name` back to `into/name`; false where something has that name, and then nothing is moved.
pub(super) fn link_back(from: &Path, name: &OsStr, into: &Path) -> io::Result<bool> {
    let (old, back) = (from.join(name), into.join(name));
    match fs::hard_link(&old, &back) {
        Ok(()) => fs::remove_file(old).map(|()| true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        // Another user's file, a folder, or a file system without links.
        Err(_) if back.symlink_metadata().is_err() => rename_in(from, name, into).map(|()| true),
        Err(error) => Err(error),
    }
}

/// The name of the only entry.
pub(super) fn only_entry(folder: &Path) -> io::Result<Option<OsString>> {
    match fs::read_dir(folder) {
        Ok(mut entries) => entries.next().transpose().map(|entry| entry.map(|e| e.file_name())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes half-written files.
pub(super) fn remove_temporaries(folder: &Path) {
    for name in [super::STATUS, super::REQUEST] {
        // Missing is what is wanted; a file that stays is replaced when it is written next.
        let _ = fs::remove_file(folder.join(format!(".{name}{NEW}")));
    }
}
