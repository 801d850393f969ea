//! The daemon's side: accepts, reads one command per line, hands it on, sends the answer back. A slow, silent or
//! hostile client costs one of a bounded number of threads for a bounded time.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{Shutdown, getsockopt, shutdown, sockopt::PeerCredentials};

use super::viewers::{Notice, Subscription, Viewers};
use super::wire::{Lines, NoLine};
use crate::command::{Answer, Ask, Command, PROTOCOL, Peer};

/// Longest command line, in bytes.
const LONGEST: usize = 64 << 10;
/// Connections that are read from or written to at the same time: people and their tools, not a service for many.
const BUSY: usize = 16;
/// Connections that wait for the end of a run or watch; each is a thread that is idle most of the time.
const WAITING: usize = 256;
/// How long a new client waits for one of the others: most are done at once.
const PATIENCE: Duration = Duration::from_secs(1);
/// For a whole command line, and for an answer to be read.
const LINE_TIME: Duration = Duration::from_secs(10);
/// For the daemon to answer; the longest command is a fetch, which has deadlines of its own.
const ANSWER_TIME: Duration = Duration::from_secs(600);
/// Bytes of events that are written to a viewer at once.
const BATCH: usize = 64 << 10;
/// How often a wait looks whether its client is still there.
const HANGUP_CHECK: Duration = Duration::from_millis(200);

/// A command on its way to the daemon.
#[derive(Debug)]
pub struct Call {
    /// What is wanted.
    pub command: Command,
    /// Who wants it.
    pub peer: Peer,
    /// Where the answer goes: has room for one, never blocks. An error of sending means that the client went away.
    pub reply: Sender<Answer>,
}

/// The socket was not made.
#[derive(Debug, thiserror::Error)]
#[error("failed to listen on `{path}`: {source}")]
pub struct BindError {
    path: PathBuf,
    source: io::Error,
}

/// A listening control socket. Ends and removes the socket when dropped.
pub struct Server {
    path: PathBuf,
    inode: u64,
    listener: Arc<UnixListener>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `path` with mode 0660, owned by `group` where that is given. What a dead daemon left there is
    /// replaced, so the caller must hold the instance lock; the folder must exist.
    ///
    /// # Errors
    /// `BindError`, also for a path that is longer than a socket's may be (100 bytes).
    pub fn bind(path: &Path, group: Option<u32>, calls: Sender<Call>, viewers: Viewers) -> Result<Self, BindError> {
        let failed = |source| BindError { path: path.to_owned(), source };
        // Made complete under another name: nobody can connect before mode and group are right.
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        let make = || -> io::Result<(UnixListener, u64)> {
            match fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let listener = UnixListener::bind(&new)?;
            std::os::unix::fs::chown(&new, None, group)?;
            fs::set_permissions(&new, fs::Permissions::from_mode(0o660))?;
            let inode = fs::symlink_metadata(&new)?.ino();
            fs::rename(&new, path)?;
            Ok((listener, inode))
        };
        let (listener, inode) = make().map_err(failed)?;
        let (listener, stopped) = (Arc::new(listener), Arc::new(AtomicBool::new(false)));
        let door = Door { listener: Arc::clone(&listener), stopped: Arc::clone(&stopped), calls, viewers };
        let thread = std::thread::Builder::new().name("control".into()).spawn(move || door.run()).map_err(failed)?;
        Ok(Self { path: path.to_owned(), inode, listener, stopped, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Release);
        // Wakes the accept: it fails from now on.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A bounded number of seats: each is a token in a channel.
#[derive(Clone)]
struct Seats {
    free: Receiver<()>,
    back: Sender<()>,
}

/// One of them, given back when dropped.
struct Seat(Sender<()>);

impl Seats {
    fn new(most: usize) -> Self {
        let (back, free) = bounded(most);
        for _ in 0..most {
            let _ = back.try_send(());
        }
        Self { free, back }
    }

    fn take(&self, patience: Duration) -> Option<Seat> {
        self.free.recv_timeout(patience).ok().map(|()| Seat(self.back.clone()))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let _ = self.0.try_send(());
    }
}

struct Door {
    listener: Arc<UnixListener>,
    stopped: Arc<AtomicBool>,
    calls: Sender<Call>,
    viewers: Viewers,
}

impl Door {
    fn run(self) {
        let (busy, waiting) = (Seats::new(BUSY), Seats::new(WAITING));
        while !self.stopped.load(Ordering::Acquire) {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(_) if self.stopped.load(Ordering::Acquire) => return,
                Err(_) => {
                    // Out of descriptors: the client stays in the queue, and trying at once would only burn time.
                    std::thread::sleep(Duration::from_millis(100));
                    continue;
                }
            };
            let Some(seat) = busy.take(PATIENCE) else {
                refuse(stream, "E0705", &format!("{BUSY} clients are being answered already"), 75);
                continue;
            };
            let talk = Talk {
                calls: self.calls.clone(),
                viewers: self.viewers.clone(),
                stopped: Arc::clone(&self.stopped),
                waiting: waiting.clone(),
                busy: busy.clone(),
            };
            // Where the system gives no thread, the connection closes, and the client says so.
            let _ = std::thread::Builder::new().name("client".into()).spawn(move || talk.run(stream, seat));
        }
    }
}

fn error(code: &str, message: &str, help: &str, exit: i32) -> Answer {
    Answer::Error { v: PROTOCOL, code: code.into(), message: message.into(), help: vec![help.into()], exit }
}

/// Tells a client why, without ever waiting for it: the kernel's buffer has room for one line.
fn refuse(stream: UnixStream, code: &str, message: &str, exit: i32) {
    let answer = error(code, message, "try again", exit);
    let _ = Lines::new(stream).send(serde_json::to_vec(&answer).unwrap_or_default(), Some(Duration::from_millis(1)));
}

struct Talk {
    calls: Sender<Call>,
    viewers: Viewers,
    stopped: Arc<AtomicBool>,
    waiting: Seats,
    busy: Seats,
}

impl Talk {
    fn run(self, stream: UnixStream, seat: Seat) {
        let Some(peer) = peer(&stream) else { return };
        let mut lines = Lines::new(stream);
        let mut seat = Some(seat);
        while !self.stopped.load(Ordering::Acquire) {
            let (answer, go_on) = match lines.next(LONGEST, Some(LINE_TIME)) {
                Ok(line) => match read(&line) {
                    Ok(Command::Watch) => return self.watch(lines, &peer, &mut seat),
                    Ok(command) => {
                        let Some(answer) = self.ask(command, &peer, &lines.stream, &mut seat) else { return };
                        (answer, seat.is_some())
                    }
                    Err(answer) => (answer, true),
                },
                Err(NoLine::TooLong) => {
                    let what = format!("a command has at most {LONGEST} bytes");
                    (error("E0706", &what, "use the same version of `dispatcher` on both sides", 65), false)
                }
                Err(_) => return,
            };
            let Ok(line) = serde_json::to_vec(&answer) else { return };
            if lines.send(line, Some(LINE_TIME)).is_err() || !go_on {
                return;
            }
        }
    }

    /// Answers how everything stands, and then writes every event that comes. A viewer that does not read is written to
    /// for a bounded time and then left; it can come again.
    fn watch(&self, mut lines: Lines, peer: &Peer, seat: &mut Option<Seat>) {
        let Some(_bench) = self.waiting.take(Duration::ZERO) else {
            let full = error("E0705", &format!("{WAITING} clients wait or watch already"), "try again", 75);
            let _ = lines.send(serde_json::to_vec(&full).unwrap_or_default(), Some(LINE_TIME));
            return;
        };
        // Before the question: what happens between the answer and the first event must be in one of the two.
        let events = self.viewers.subscribe();
        if let Some(answer) = self.ask(Command::Watch, peer, &lines.stream, seat) {
            *seat = None;
            let first = serde_json::to_vec(&answer).unwrap_or_default();
            if lines.send(first, Some(LINE_TIME)).is_ok() && matches!(answer, Answer::Ok { .. }) {
                self.stream(&mut lines, &events);
            }
        }
        drop(events);
        self.viewers.left();
    }

    fn stream(&self, lines: &mut Lines, events: &Subscription) {
        loop {
            let mut batch = match events.lines.recv_timeout(HANGUP_CHECK) {
                Ok(line) => line.to_vec(),
                Err(_) if self.stopped.load(Ordering::Acquire) || has_hung_up(&lines.stream) => return,
                Err(_) => continue,
            };
            while batch.len() < BATCH
                && let Ok(line) = events.lines.try_recv()
            {
                batch.push(b'\n');
                batch.extend_from_slice(&line);
            }
            let skipped = events.skipped();
            if skipped > 0 {
                batch.push(b'\n');
                batch.extend(serde_json::to_vec(&Notice::Skipped(skipped)).unwrap_or_default());
            }
            if lines.send(batch, Some(LINE_TIME)).is_err() {
                return;
            }
        }
    }

    /// The daemon's answer; `None` where the client went away first. `seat` is empty afterwards where all are taken.
    fn ask(&self, command: Command, peer: &Peer, stream: &UnixStream, seat: &mut Option<Seat>) -> Option<Answer> {
        let waits = matches!(command, Command::Wait { .. });
        let mut bench = None;
        if waits {
            bench = self.waiting.take(Duration::ZERO);
            if bench.is_none() {
                return Some(error("E0705", &format!("{WAITING} clients wait for runs already"), "try again", 75));
            }
            // Somebody who waits for hours must not keep others from asking.
            *seat = None;
        }
        let (reply, answers) = bounded(1);
        let deadline = Instant::now() + ANSWER_TIME;
        let gone = || error("E0707", "the dispatcher stops and did not answer", "dispatcher status", 69);
        let late = || error("E0708", "the dispatcher is there and does not answer", "dispatcher status", 75);
        let call = Call { command, peer: peer.clone(), reply };
        match self.calls.send_timeout(call, ANSWER_TIME) {
            Ok(()) => {}
            Err(error) => return Some(if error.is_timeout() { late() } else { gone() }),
        }
        let answer = loop {
            match self.wait(&answers) {
                Ok(answer) => break answer,
                Err(RecvTimeoutError::Disconnected) => break gone(),
                Err(RecvTimeoutError::Timeout) if has_hung_up(stream) => return None,
                Err(RecvTimeoutError::Timeout) if !waits && Instant::now() >= deadline => break late(),
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        if waits {
            drop(bench);
            *seat = self.busy.take(Duration::ZERO);
        }
        Some(answer)
    }

    fn wait(&self, answers: &Receiver<Answer>) -> Result<Answer, RecvTimeoutError> {
        match answers.recv_timeout(HANGUP_CHECK) {
            Err(RecvTimeoutError::Timeout) if self.stopped.load(Ordering::Acquire) => {
                Err(RecvTimeoutError::Disconnected)
            }
            answer => answer,
        }
    }
}

/// The command of a line, or why it is none.
fn read(line: &[u8]) -> Result<Command, Answer> {
    let bad = |why: &dyn std::fmt::Display| {
        error("E0706", &format!("this is not a command: {why}"), "use `dispatcher` to talk to the daemon", 65)
    };
    let value: serde_json::Value = serde_json::from_slice(line).map_err(|e| bad(&e))?;
    // The version first: another one may have commands that this one cannot read.
    match value.get("v").and_then(serde_json::Value::as_u64) {
        Some(v) if v == u64::from(PROTOCOL) => {}
        Some(v) => {
            let what = format!("the daemon speaks protocol {PROTOCOL}, not {v}");
            return Err(error("E0709", &what, "restart the daemon, or use its version of `dispatcher`", 76));
        }
        None => return Err(bad(&"`v` is missing")),
    }
    serde_json::from_value(value).map(|ask: Ask| ask.command).map_err(|e| bad(&e))
}

fn peer(stream: &UnixStream) -> Option<Peer> {
    let uid = getsockopt(stream, PeerCredentials).ok()?.uid();
    let name = nix::unistd::User::from_uid(uid.into()).ok().flatten().map(|user| user.name);
    Some(Peer { uid, user: name.unwrap_or_else(|| uid.to_string()) })
}

/// True where the client closed its end; one that only stopped sending still wants its answer.
fn has_hung_up(stream: &UnixStream) -> bool {
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    let seen = poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0);
    seen && fds[0].revents().is_some_and(|r| r.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
}
