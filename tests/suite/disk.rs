//! An ext4 file system in an image file, whose power can be cut: what was not synced by then is gone. Owns the image, its
//! mount and the loop device behind it. Refuses nothing but what the machine lacks, and says what that is.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::world::eventually;

/// `_IOR('X', 125, __u32)`: no word reaches the disk any more.
const EXT4_IOC_SHUTDOWN: libc::c_ulong = 0x8004_587d;

/// What still gets to the disk when the power goes.
#[derive(Clone, Copy, Debug)]
pub enum Loss {
    /// Nothing: the journal in memory is lost too.
    Journal = 2,
    /// The journal: names are there, and what was written to the files is not.
    Data = 1,
    /// All of it, as where the power goes in a quiet moment.
    Nothing = 0,
}

/// A mounted file system of its own.
pub struct Disk {
    image: PathBuf,
    at: PathBuf,
    copies: u32,
}

impl Disk {
    /// Makes one at `at`, with the image beside it. Else, what the machine lacks.
    pub fn make(at: &Path) -> Result<Self, String> {
        if !nix::unistd::geteuid().is_root() {
            return Err("only root can mount one".to_owned());
        }
        let image = at.with_extension("img");
        File::create(&image).and_then(|file| file.set_len(256 << 20)).unwrap();
        fs::create_dir(at).unwrap();
        let mut mkfs = Command::new("mkfs.ext4");
        mkfs.args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"]).arg(&image);
        match mkfs.output() {
            Ok(made) => assert!(made.status.success(), "mkfs.ext4: {}", String::from_utf8_lossy(&made.stderr)),
            Err(error) => {
                // A loop device cannot be had everywhere; a tool can.
                assert!(std::env::var_os("DISPATCHER_ALL_TOOLS").is_none(), "mkfs.ext4: {error}");
                return Err(format!("there is no mkfs.ext4: {error}"));
            }
        }
        let disk = Self { image, at: at.to_owned(), copies: 0 };
        disk.mount("").map_err(|words| format!("it cannot be mounted: {words}"))?;
        fs::remove_dir(at.join("lost+found")).unwrap();
        Ok(disk)
    }

    /// Mounts it with these options more; the journal is replayed first. The kernel writes little of its own accord.
    fn mount(&self, options: &str) -> Result<(), String> {
        let options = format!("loop,commit=300,{options}");
        let mut command = Command::new("mount");
        let said = command.args(["-t", "ext4", "-o", options.trim_end_matches(',')]).arg(&self.image).arg(&self.at);
        let Output { status, stderr, .. } = said.output().map_err(|error| error.to_string())?;
        if status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&stderr).trim().to_owned()) }
    }

    /// Cuts the power.
    #[expect(unsafe_code, reason = "the only door to this is an ioctl that no crate has")]
    pub fn cut(&self, loss: Loss) {
        let folder = File::open(&self.at).unwrap();
        let flags = loss as u32;
        // SAFETY: the ioctl reads one u32, which lives until it returns.
        let done = unsafe { libc::ioctl(folder.as_raw_fd(), EXT4_IOC_SHUTDOWN, &raw const flags) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }

    /// Gives the power back: all that used the file system must be over or end soon. What is mounted is a copy of the image,
    /// because a mount namespace of somebody else may keep the old one alive, cut as it is.
    pub fn revive(&mut self, options: &str) {
        eventually("nothing uses the file system any more", || unmount(&self.at, &[]));
        self.copies += 1;
        let copy = self.at.with_extension(format!("{}.img", self.copies));
        let copied = Command::new("cp").arg("--sparse=always").args([&self.image, &copy]).status().unwrap();
        assert!(copied.success());
        fs::remove_file(std::mem::replace(&mut self.image, copy)).unwrap();
        self.mount(options).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if !unmount(&self.at, &[]) {
            // A test that failed may have left a process on it.
            unmount(&self.at, &["-l"]);
        }
    }
}

fn unmount(at: &Path, options: &[&str]) -> bool {
    Command::new("umount").args(options).arg(at).output().is_ok_and(|said| said.status.success())
}
