//! One child process at the other end of a socket. Owns its life: an own process group, one deadline, its words kept
//! within bounds, and its end with everything that it started, at the deadline, when it is told to stop, or when this
//! process dies.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// What is kept of what the other side says on stderr.
const MOST_WORDS: usize = 16 * 1024;

/// Ends the network verbs of one [`Repo`](super::Repo) when it is dropped: what is under way at once, what comes later
/// before it begins.
#[derive(Debug)]
pub struct Stopper(#[expect(dead_code, reason = "held open; its end is the message")] UnixStream);

/// The side of a [`Stopper`] that is listened to.
pub(super) type Stop = Arc<UnixStream>;

impl Stopper {
    /// Both sides.
    pub(super) fn pair() -> io::Result<(Self, Stop)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Self(ours), Arc::new(theirs)))
    }
}

/// One child at a time, and what it has said.
pub(super) struct Wire {
    deadline: Instant,
    stop: Option<Stop>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    line: Option<Line>,
    said: Vec<u8>,
    late: bool,
}

struct Line {
    child: Child,
    io: UnixStream,
    err: UnixStream,
}

/// A poisoned lock only says that another thread panicked; what it guards is whole at every moment.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wire {
    /// Nothing is started yet; whatever will be ends at the latest after `timeout`.
    pub(super) fn new(timeout: Duration, stop: Option<Stop>) -> Self {
        Self { deadline: Instant::now() + timeout, stop, state: Mutex::new(State::default()) }
    }

    /// What it said on stderr so far, the first 16 KiB of it.
    pub(super) fn said(&self) -> Vec<u8> {
        locked(&self.state).said.clone()
    }

    /// True where the deadline ended it.
    pub(super) fn is_late(&self) -> bool {
        locked(&self.state).late
    }

    /// Starts the child. Where `command` leads is the caller's business, all of its descriptors are this one's.
    pub(super) fn start(self: &Arc<Self>, mut command: Command) -> io::Result<Stream> {
        if self.is_stopped() {
            return Err(stopped());
        }
        let (io, theirs) = UnixStream::pair()?;
        let (err, their_err) = UnixStream::pair()?;
        io.set_nonblocking(true)?;
        err.set_nonblocking(true)?;
        command
            .stdin(Stdio::from(OwnedFd::from(theirs.try_clone()?)))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .stderr(Stdio::from(OwnedFd::from(their_err)))
            .current_dir("/")
            .process_group(0);
        die_with_us(&mut command);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|e| io::Error::other(format!("`{program}` cannot be started: {e}")))?;
        let stream = Stream { wire: Arc::clone(self), io: io.try_clone()?, err: Some(err.try_clone()?) };
        locked(&self.state).line = Some(Line { child, io, err });
        Ok(stream)
    }

    /// Lets the child finish until the deadline (a hook after the push may still be at work), then ends it and
    /// everything that it started.
    pub(super) fn end(&self) {
        let Some(mut line) = locked(&self.state).line.take() else { return };
        let _ = line.io.shutdown(std::net::Shutdown::Write);
        let mut end = EndOf { io: &line.io, err: Some(&line.err) };
        let mut sink = [0; 4096];
        while let Ok(1..) = end.read_until(self, &mut sink) {}
        let group = i32::try_from(line.child.id()).map(Pid::from_raw);
        if let (Ok(group), Ok(None)) = (group, line.child.try_wait()) {
            // It closed its output: it is on its way out, or it is to be stopped with all that it started.
            self.pause_until_hung_up(&line.err);
            let _ = killpg(group, Signal::SIGKILL);
        }
        let _ = line.child.wait();
        self.drain(&mut line.err);
    }

    fn is_stopped(&self) -> bool {
        let Some(stop) = &self.stop else { return false };
        let mut fds = [PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
    }

    fn left(&self) -> Duration {
        if self.is_stopped() { Duration::ZERO } else { self.deadline.saturating_duration_since(Instant::now()) }
    }

    /// Its last words come after its last byte.
    fn pause_until_hung_up(&self, err: &UnixStream) {
        let mut err = err;
        while self.left() > Duration::ZERO {
            let mut fds = [PollFd::new(err.as_fd(), PollFlags::POLLIN)];
            let wait = self.left().min(Duration::from_secs(1));
            if !matches!(poll(&mut fds, timeout(wait)), Ok(1..)) || !self.drain(&mut err) {
                return;
            }
        }
    }

    /// Takes what is there of the child's words; false at their end.
    fn drain(&self, err: &mut impl Read) -> bool {
        let mut chunk = [0; 4096];
        loop {
            match err.read(&mut chunk) {
                Ok(0) => return false,
                Ok(n) => {
                    let mut state = locked(&self.state);
                    let room = MOST_WORDS.saturating_sub(state.said.len());
                    state.said.extend_from_slice(&chunk[..n.min(room)]);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return e.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }
}

fn stopped() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the dispatcher stops")
}

/// A child that waits for the network would not notice that nobody listens to it any more. The kernel tells it when the
/// thread that started it is gone; all else that ends it does not depend on this.
#[expect(unsafe_code, reason = "the only way to set it for a child")]
fn die_with_us(command: &mut Command) {
    // SAFETY: runs between fork and exec, and makes one system call that touches no memory.
    unsafe { command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?)) };
}

/// What goes to and comes from the child.
pub(super) struct Stream {
    wire: Arc<Wire>,
    io: UnixStream,
    err: Option<UnixStream>,
}

struct EndOf<'a> {
    io: &'a UnixStream,
    err: Option<&'a UnixStream>,
}

impl EndOf<'_> {
    /// Waits until the socket is ready, keeping what the child says meanwhile.
    fn wait(&mut self, wire: &Wire, want: PollFlags) -> io::Result<()> {
        loop {
            let left = wire.left();
            if wire.is_stopped() {
                return Err(stopped());
            }
            if left.is_zero() {
                locked(&wire.state).late = true;
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the deadline has passed"));
            }
            let mut fds = vec![PollFd::new(self.io.as_fd(), want)];
            fds.extend(self.err.map(|err| PollFd::new(err.as_fd(), PollFlags::POLLIN)));
            fds.extend(wire.stop.as_ref().map(|stop| PollFd::new(stop.as_fd(), PollFlags::POLLIN)));
            match poll(&mut fds, timeout(left)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
            let ready = |at: usize| fds.get(at).and_then(PollFd::revents).is_some_and(|r| !r.is_empty());
            let (io, words) = (ready(0), self.err.is_some() && ready(1));
            if words && self.err.is_some_and(|mut err| !wire.drain(&mut err)) {
                self.err = None;
            }
            if io {
                return Ok(());
            }
        }
    }

    fn read_until(&mut self, wire: &Wire, into: &mut [u8]) -> io::Result<usize> {
        loop {
            self.wait(wire, PollFlags::POLLIN)?;
            match self.io.read(into) {
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                // The child ended without reading all that was sent.
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return Ok(0),
                read => return read,
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut end = EndOf { io: &self.io, err: self.err.as_ref() };
        let read = end.read_until(&self.wire, into);
        if end.err.is_none() {
            self.err = None;
        }
        read
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let mut end = EndOf { io: &self.io, err: self.err.as_ref() };
            end.wait(&self.wire, PollFlags::POLLOUT)?;
            if end.err.is_none() {
                self.err = None;
            }
            match self.io.write(bytes) {
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn timeout(wait: Duration) -> PollTimeout {
    // Rounded up, so that the deadline has really passed afterwards.
    i32::try_from(wait.as_millis() + 1).ok().and_then(|ms| PollTimeout::try_from(ms).ok()).unwrap_or(PollTimeout::MAX)
}
