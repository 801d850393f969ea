//! The smart transport of ours: starts `git upload-pack` or `git receive-pack` here or behind the system's `ssh`, and
//! carries the protocol over a socket. libgit2's own transport for paths is no compare-and-swap and loses commits of
//! others. Owns the child: closed environment, own process group, one deadline, its words kept within bounds.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use git2::transport::{Service, SmartSubtransport, SmartSubtransportStream, Transport};
use git2::{Error, ErrorClass, ErrorCode, Remote};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::remote::Target;
use crate::text;

/// The scheme of the URLs that libgit2 sees: no `insteadOf` and no person has it.
pub(super) const SCHEME: &str = "dispatcher-session";

/// What is kept of what the other side says on stderr.
const MOST_WORDS: usize = 16 * 1024;
/// What of it is shown.
const MOST_SHOWN: usize = 1_000;

static SESSIONS: Mutex<BTreeMap<u64, Arc<Session>>> = Mutex::new(BTreeMap::new());
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A poisoned lock only says that another thread panicked; the map and the child are whole at every moment.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One conversation with the remote; ends its child when dropped.
pub(super) struct Conversation {
    number: u64,
    session: Arc<Session>,
}

struct Session {
    target: Target,
    deadline: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    wire: Option<Wire>,
    said: Vec<u8>,
    late: bool,
}

struct Wire {
    child: Child,
    io: UnixStream,
    err: UnixStream,
}

impl Conversation {
    /// Prepares a conversation that ends at the latest after `timeout`. Nothing is started yet.
    pub(super) fn new(target: Target, timeout: Duration) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let session =
            Arc::new(Session { target, deadline: Instant::now() + timeout, state: Mutex::new(State::default()) });
        locked(&SESSIONS).insert(number, Arc::clone(&session));
        Self { number, session }
    }

    /// What libgit2 is told to connect to.
    pub(super) fn url(&self) -> String {
        format!("{SCHEME}://{}", self.number)
    }

    /// Ends the child and says what it said, escaped; empty where it said nothing.
    pub(super) fn words(&self) -> String {
        self.session.end();
        let mut said = shown(&locked(&self.session.state).said);
        if let Some((at, _)) = said.char_indices().nth(MOST_SHOWN) {
            said.truncate(at);
            said.push('…');
        }
        said
    }

    /// True where the deadline ended it.
    pub(super) fn is_late(&self) -> bool {
        locked(&self.session.state).late
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        locked(&SESSIONS).remove(&self.number);
        self.session.end();
    }
}

/// The lines that somebody said as one line.
pub(super) fn shown(said: &[u8]) -> String {
    let lines = said.split(|&b| b == b'\n' || b == b'\r').map(|l| text::bytes(l.trim_ascii()));
    lines.filter(|l| !l.is_empty()).collect::<Vec<_>>().join("; ")
}

/// The factory that libgit2 calls for our scheme.
pub(super) fn connect(remote: &Remote<'_>) -> Result<Transport, Error> {
    let number = remote.url().ok().and_then(|url| url.rsplit('/').next()?.parse().ok()).unwrap_or(0);
    let Some(session) = locked(&SESSIONS).get(&number).cloned() else {
        return Err(Error::from_str("no such conversation"));
    };
    Transport::smart(remote, false, Sub(session))
}

struct Sub(Arc<Session>);

impl SmartSubtransport for Sub {
    fn action(&self, _url: &str, service: Service) -> Result<Box<dyn SmartSubtransportStream>, Error> {
        let verb = match service {
            Service::UploadPackLs | Service::UploadPack => "upload-pack",
            Service::ReceivePackLs | Service::ReceivePack => "receive-pack",
        };
        let stream =
            self.0.start(verb).map_err(|e| Error::new(ErrorCode::GenericError, ErrorClass::Os, e.to_string()))?;
        Ok(Box::new(stream))
    }

    fn close(&self) -> Result<(), Error> {
        self.0.end();
        Ok(())
    }
}

struct Stream {
    session: Arc<Session>,
    io: UnixStream,
    err: Option<UnixStream>,
}

impl Session {
    fn start(self: &Arc<Self>, verb: &str) -> io::Result<Stream> {
        let (io, theirs) = UnixStream::pair()?;
        let (err, their_err) = UnixStream::pair()?;
        io.set_nonblocking(true)?;
        err.set_nonblocking(true)?;
        let mut command = command(&self.target, verb);
        command
            .stdin(Stdio::from(OwnedFd::from(theirs.try_clone()?)))
            .stdout(Stdio::from(OwnedFd::from(theirs)))
            .stderr(Stdio::from(OwnedFd::from(their_err)))
            .current_dir("/")
            .process_group(0);
        let program = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().map_err(|e| io::Error::other(format!("`{program}` cannot be started: {e}")))?;
        let stream = Stream { session: Arc::clone(self), io: io.try_clone()?, err: Some(err.try_clone()?) };
        locked(&self.state).wire = Some(Wire { child, io, err });
        Ok(stream)
    }

    /// Lets the child finish until the deadline (a hook after the push may still be at work), then ends it and
    /// everything that it started.
    fn end(&self) {
        let Some(mut wire) = locked(&self.state).wire.take() else { return };
        let _ = wire.io.shutdown(std::net::Shutdown::Write);
        let mut stream = Stream::of(&wire);
        let mut sink = [0; 4096];
        while let Ok(1..) = stream.read_until(self, &mut sink) {}
        let group = i32::try_from(wire.child.id()).map(Pid::from_raw);
        if let (Ok(group), Ok(None)) = (group, wire.child.try_wait()) {
            // It closed its output: it is on its way out, or it is to be stopped with all that it started.
            self.pause_until_hung_up(&wire.err);
            let _ = killpg(group, Signal::SIGKILL);
        }
        let _ = wire.child.wait();
        self.drain(&mut wire.err);
    }

    fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
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

struct EndOf<'a> {
    io: &'a UnixStream,
    err: Option<&'a UnixStream>,
}

impl Stream {
    fn of(wire: &Wire) -> EndOf<'_> {
        EndOf { io: &wire.io, err: Some(&wire.err) }
    }
}

impl EndOf<'_> {
    /// Waits until the socket is ready, keeping what the child says meanwhile.
    fn wait(&mut self, session: &Session, want: PollFlags) -> io::Result<()> {
        loop {
            let left = session.left();
            if left.is_zero() {
                locked(&session.state).late = true;
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the deadline has passed"));
            }
            let mut fds = vec![PollFd::new(self.io.as_fd(), want)];
            fds.extend(self.err.map(|err| PollFd::new(err.as_fd(), PollFlags::POLLIN)));
            match poll(&mut fds, timeout(left)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
            let ready = |at: usize| fds.get(at).and_then(PollFd::revents).is_some_and(|r| !r.is_empty());
            let (io, words) = (ready(0), ready(1));
            if words && self.err.is_some_and(|mut err| !session.drain(&mut err)) {
                self.err = None;
            }
            if io {
                return Ok(());
            }
        }
    }

    fn read_until(&mut self, session: &Session, into: &mut [u8]) -> io::Result<usize> {
        loop {
            self.wait(session, PollFlags::POLLIN)?;
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
        let read = end.read_until(&self.session, into);
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
            end.wait(&self.session, PollFlags::POLLOUT)?;
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

fn command(target: &Target, verb: &str) -> Command {
    let mut command = match target {
        Target::Path(path) => {
            let mut command = Command::new("git");
            command.arg(verb).arg(path);
            command
        }
        Target::Ssh { host, port, path } => {
            let mut command = ssh();
            command.args(["-oBatchMode=yes", "-oConnectTimeout=15", "-x"]);
            if let Some(port) = port {
                command.arg("-p").arg(port.to_string());
            }
            command
                .arg("--")
                .arg(host)
                .arg(format!("git-{verb} '{}'", path.replace('\'', "'\\''").replace('!', "'\\!'")));
            command
        }
    };
    command.env_clear();
    for name in ["HOME", "PATH", "USER", "LOGNAME", "SSH_AUTH_SOCK"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.env("LC_ALL", "C.UTF-8").env("GIT_TERMINAL_PROMPT", "0");
    command
}

/// `ssh`, or what the account chose in its place, as git does it.
fn ssh() -> Command {
    if let Some(line) = std::env::var_os("GIT_SSH_COMMAND").filter(|l| !l.is_empty()) {
        let mut command = Command::new("sh");
        let mut script = line;
        script.push(" \"$@\"");
        command.arg("-c").arg(script).arg("ssh");
        return command;
    }
    Command::new(std::env::var_os("GIT_SSH").filter(|p| !p.is_empty()).unwrap_or_else(|| "ssh".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_asked_without_a_shell_in_between() {
        let line = |target: &Target| {
            let command = command(target, "receive-pack");
            let args = command.get_args().map(|a| a.to_string_lossy().into_owned());
            [command.get_program().to_string_lossy().into_owned()].into_iter().chain(args).collect::<Vec<_>>()
        };
        assert_eq!(line(&Target::Path("/srv/a b".into())), ["git", "receive-pack", "/srv/a b"]);
        let ssh = Target::Ssh { host: "git@host".into(), port: Some(2222), path: "/srv/it's".into() };
        assert_eq!(
            line(&ssh)[1..],
            [
                "-oBatchMode=yes",
                "-oConnectTimeout=15",
                "-x",
                "-p",
                "2222",
                "--",
                "git@host",
                r"git-receive-pack '/srv/it'\''s'"
            ]
        );
    }

    #[test]
    fn words_are_one_safe_line() {
        assert_eq!(shown(b"fatal: no\r\n  \n\x1b[31mbad\xff\n"), r"fatal: no; ^[[31mbad\xFF");
    }
}
