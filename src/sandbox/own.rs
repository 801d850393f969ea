//! Opens a file that a handler was asked to write. The path is the handler's to tamper with, so only a regular file of its
//! own counts; nothing is followed, and nothing blocks.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;

/// What lies there is not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotOwn {
    #[error("is a symlink, not a regular file")]
    Symlink,
    #[error("is not a regular file")]
    Irregular,
    /// A hard link would make the dispatcher read what the handler may not.
    #[error("is not a file of its own")]
    Foreign,
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
}

/// Opens the regular file at `path`, which has to belong to `uid` and have one name; `None` where nothing is there.
pub(super) fn open(path: &Path, uid: u32) -> Result<Option<File>, NotOwn> {
    // Not blocking, because it may be a FIFO.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = match File::options().read(true).custom_flags(flags.bits()).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) if e.raw_os_error() == Some(Errno::ELOOP as i32) => return Err(NotOwn::Symlink),
        Err(e) => return Err(e.into()),
    };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(NotOwn::Irregular);
    }
    if meta.uid() != uid || meta.nlink() != 1 {
        return Err(NotOwn::Foreign);
    }
    Ok(Some(file))
}
