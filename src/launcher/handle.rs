//! The daemon's handle of the launcher: starts it, asks it for supervisors, starts another one where it died. Runs of a
//! dead launcher go on.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::pipe2;

use super::channel::Channel;
use super::entry::ENTRY;
use super::protocol::{Fork, Hello, Order, Report, RunSpec, Setup, User, Walls};

/// The launcher could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system said no.
    #[error("failed to start the launcher: {0}")]
    Io(#[from] io::Error),
    /// The configuration and what the dispatcher may do do not go together; for the administrator.
    #[error("{0}")]
    Refused(String),
    /// It ended before it said a word.
    #[error("failed to start the launcher: it ended with {0}")]
    Died(String),
}

/// A run's supervisor could not be asked for.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The system said no.
    #[error("failed to hand a run to the launcher: {0}")]
    Io(#[from] io::Error),
    /// The launcher had died, and another one did not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// The launcher of this process. Shared by all workers.
#[derive(Debug)]
pub struct Launcher {
    setup: Setup,
    user: User,
    isolated: bool,
    walls: Walls,
    live: Mutex<Live>,
}

#[derive(Debug)]
struct Live {
    channel: Channel,
    child: Child,
}

impl Launcher {
    /// Starts the launcher process, which looks up the handlers' user and makes the lock folder.
    ///
    /// # Errors
    /// [`StartError::Refused`] where the setup cannot be honoured, the others where the process does not start.
    pub fn start(setup: Setup) -> Result<Self, StartError> {
        let (live, user, isolated, walls) = exec(&setup)?;
        Ok(Self { setup, user, isolated, walls, live: Mutex::new(live) })
    }

    /// Who handlers run as.
    #[must_use]
    pub fn user(&self) -> &User {
        &self.user
    }

    /// Whether every run gets a PID namespace of its own: then its tree ends at one moment whatever it does.
    #[must_use]
    pub fn isolated(&self) -> bool {
        self.isolated
    }

    /// What holds handlers besides their user.
    #[must_use]
    pub fn walls(&self) -> Walls {
        self.walls
    }

    /// The launcher's process number, for tests and for people.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.live().child.id()
    }

    /// Asks for a supervisor of `spec`. What becomes of it comes as [`Report`]s; a closed socket before
    /// [`Report::Ready`] means that nothing was started.
    ///
    /// # Errors
    /// Where the request could not be handed over, also to a launcher that was started for it.
    pub fn spawn(&self, spec: &RunSpec) -> Result<Supervised, SpawnError> {
        let mut memory = File::from(memfd_create("run", MFdFlags::MFD_CLOEXEC).map_err(io::Error::from)?);
        memory.write_all(&serde_json::to_vec(spec).map_err(io::Error::from)?)?;
        memory.rewind()?;
        let (control, theirs) = Channel::pair()?;
        let (output, write) = pipe2(OFlag::O_CLOEXEC).map_err(io::Error::from)?;
        fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(io::Error::from)?;
        let theirs = theirs.into_fd();
        let fork = Fork { lock: spec.lock.clone() };
        let fds = [memory.as_fd(), theirs.as_fd(), write.as_fd()];
        let mut live = self.live();
        if live.channel.send(&fork, &fds).is_err() {
            let (another, user, _, walls) = exec(&self.setup)?;
            if user != self.user {
                let (was, is) = (&self.user.name, &user.name);
                return Err(StartError::Refused(format!("handlers ran as `{was}` and would now run as `{is}`")).into());
            }
            if walls != self.walls {
                let message = "this machine holds handlers by other means than when the dispatcher started";
                return Err(StartError::Refused(message.to_owned()).into());
            }
            let mut before = std::mem::replace(&mut *live, another);
            // It has closed its socket, so it is ending.
            let _ = before.child.wait();
            live.channel.send(&fork, &fds)?;
        }
        Ok(Supervised { control, output })
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        let live = self.live.get_mut().unwrap_or_else(PoisonError::into_inner);
        // It ends by itself once the socket is closed and its last run is over.
        let _ = live.child.try_wait();
    }
}

fn exec(setup: &Setup) -> Result<(Live, User, bool, Walls), StartError> {
    let (channel, theirs) = Channel::pair()?;
    let program = setup.exe.as_deref().unwrap_or(Path::new("/proc/self/exe"));
    let mut child = Command::new(program)
        .arg0("dispatcher-launcher")
        .arg(ENTRY)
        .env_clear()
        .current_dir("/")
        .stdin(theirs.into_fd())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()?;
    channel.send(setup, &[])?;
    match channel.receive::<Hello>()? {
        Some((Hello::Ready { user, isolated, walls }, _)) => Ok((Live { channel, child }, user, isolated, walls)),
        Some((Hello::Refused(message), _)) => {
            let _ = child.wait();
            Err(StartError::Refused(message))
        }
        None => Err(StartError::Died(child.wait()?.to_string())),
    }
}

/// The worker's ends of one run. Dropping it kills the run.
#[derive(Debug)]
pub struct Supervised {
    control: Channel,
    output: OwnedFd,
}

impl Supervised {
    /// Gives an order. Orders to a supervisor that has ended are lost, which is fine.
    pub fn order(&self, order: Order) {
        let _ = self.control.send(&order, &[]);
    }

    /// Waits for the next report; `None` where the supervisor has ended.
    ///
    /// # Errors
    /// A broken socket.
    pub fn report(&self) -> io::Result<Option<Report>> {
        Ok(self.control.receive()?.map(|(report, _)| report))
    }

    /// Readable when there is a report.
    #[must_use]
    pub fn control(&self) -> std::os::fd::BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// What the handler writes to stdout and stderr; does not block.
    #[must_use]
    pub fn output(&self) -> &OwnedFd {
        &self.output
    }

    /// Reads output: 0 bytes at the end, `WouldBlock` where there is none now.
    ///
    /// # Errors
    /// As `read`.
    pub fn read_output(&self, buffer: &mut [u8]) -> io::Result<usize> {
        debug_assert!(self.output.as_raw_fd() > 2);
        nix::unistd::read(&self.output, buffer).map_err(io::Error::from)
    }
}
