//! A PID namespace per run, where this process may make one: its first process is a small one of ours, and when that
//! one ends, the kernel kills all others at one moment and lets nothing be forked meanwhile. Without it a tree is killed
//! by looking for its processes again and again.

use std::io::Read as _;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::{ForkResult, Pid};

use super::leader::{self, Pipes, Word};
use super::protocol::{RunSpec, Stage, User};
use super::sys;
use super::walls::Kit;

/// How the leader ended, as the first process of its namespace tells it in its last words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LastWords {
    /// The leader's `wait` status.
    pub status: i32,
    /// Processes that were alive then.
    pub killed: u32,
}

impl LastWords {
    fn bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.status.to_le_bytes());
        bytes[4..].copy_from_slice(&self.killed.to_le_bytes());
        bytes
    }

    /// Reads them once the first process has ended; `None` where it was killed.
    pub(super) fn read(from: OwnedFd) -> Option<Self> {
        let mut bytes = [0; 8];
        std::fs::File::from(from).read_exact(&mut bytes).ok()?;
        let [a, b, c, d, e, f, g, h] = bytes;
        Some(Self { status: i32::from_le_bytes([a, b, c, d]), killed: u32::from_le_bytes([e, f, g, h]) })
    }
}

/// Whether this machine lets this process do it. Tried in a child, all of it.
pub(super) fn available() -> bool {
    let child = match sys::fork() {
        Ok(ForkResult::Child) => sys::exit(i32::from(try_it().is_err())),
        Ok(ForkResult::Parent { child }) => child,
        Err(_) => return false,
    };
    sys::wait_for(child.as_raw()) == 0
}

fn try_it() -> nix::Result<()> {
    sys::new_pid_namespace()?;
    match sys::fork()? {
        ForkResult::Child => sys::exit(i32::from(sys::own_proc().is_err())),
        ForkResult::Parent { child } => match sys::wait_for(child.as_raw()) {
            0 => Ok(()),
            _ => Err(Errno::EPERM),
        },
    }
}

/// The first process of the namespace: starts the leader, waits for its end, kills the rest, says so and ends. Runs in
/// the forked child and never returns. It keeps none of the supervisor's descriptors, the lock least of all.
pub(super) fn be_first(spec: &RunSpec, user: &User, kit: &Kit, pipes: &Pipes, last_words: &OwnedFd) -> ! {
    let _ = prctl::set_name(c"dispatcher-init");
    let leader = sys::own_proc().and_then(|()| sys::fork());
    let leader = match leader {
        Ok(ForkResult::Child) => leader::become_handler(spec, user, kit, pipes, Pid::from_raw(1)),
        Ok(ForkResult::Parent { child }) => child.as_raw(),
        Err(errno) => {
            leader::say(pipes, Word::Failed(Stage::Prepare, errno as i32));
            sys::exit(1)
        }
    };
    let kept = last_words.as_raw_fd();
    if sys::close_all_but([kept, kept]).is_err() {
        sys::exit(1);
    }
    let mut words = LastWords { status: libc::SIGKILL, killed: 0 };
    let mut over = false;
    while let Some((pid, status)) = sys::wait_for_any() {
        if pid == leader {
            words.status = status;
            over = true;
            // All but this process, at one moment.
            sys::kill_all();
        } else if over && libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL {
            words.killed += 1;
        }
    }
    let _ = nix::unistd::write(last_words, &words.bytes());
    sys::exit(0)
}
