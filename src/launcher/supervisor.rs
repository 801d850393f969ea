//! One run's supervisor: lock, gate, deadline, boxes, tree kill. Refuses to let the lock go while anything lives.
//!
//! ```text
//! lock ─busy─▶ LockBusy
//!  └─▶ fork leader ─failed─▶ Refused        every arrow out of `run` goes through the same end:
//!       └─▶ Ready ─Go─▶ Started ─▶ run ─▶   KILL the tree, reap until there is no child, let the lock go, report
//! ```

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{ForkResult, getpid, pipe2, setsid};

use super::channel::Channel;
use super::leader::{self, Pipes, Word};
use super::namespace::{self, LastWords};
use super::protocol::{Order, Report, RunSpec, Stage, User, Why};
use super::sys::{self, Reaped};
use super::tree::{Census, Process, weigh};
use super::trouble;
use super::walls::Kit;

/// Between two samples of memory and process count.
const SAMPLE: Duration = Duration::from_millis(100);
/// Longest pause between two sweeps of a tree that does not end (a process in an uninterruptible wait).
const SWEEP_PAUSE: Duration = Duration::from_millis(20);

struct Supervisor<'a> {
    control: &'a Channel,
    spec: &'a RunSpec,
    signals: SignalFd,
    census: Census,
    children: Children,
    why: Why,
    kill_at: Option<Instant>,
    max_rss: u64,
}

/// What all runs of a launcher are held by.
pub(super) struct By {
    pub user: User,
    /// Every run gets a PID namespace.
    pub isolated: bool,
    pub kit: Kit,
}

/// Runs in the forked child until nothing of the run is left.
pub(super) fn supervise(lock: File, spec: OwnedFd, control: Channel, output: OwnedFd, by: &By) {
    let mut lock = fd_lock::RwLock::new(lock);
    let guard = match lock.try_write() {
        Ok(guard) => guard,
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return tell(&control, &Report::LockBusy),
        Err(e) => return tell(&control, &trouble::refused(Stage::Fork, &e, "failed to lock the resource")),
    };
    // `flock` belongs to the open file, which the launcher has open too: dropping the guard unlocks it for both, while
    // the death of this process does not.
    let last = hold(spec, &control, output, by)
        .unwrap_or_else(|e| trouble::refused(Stage::Fork, &e, "failed to start the run's supervisor"));
    drop(guard);
    tell(&control, &last);
}

fn tell(control: &Channel, report: &Report) {
    // The worker may be gone: then nobody is interested.
    let _ = control.send(report, &[]);
}

/// From the fork of the leader to the end of the tree; what to say last.
fn hold(spec: OwnedFd, control: &Channel, output: OwnedFd, by: &By) -> io::Result<Report> {
    let By { user, isolated, kit } = by;
    let isolated = *isolated;
    setsid()?;
    prctl::set_child_subreaper(true)?;
    prctl::set_name(c"dispatcher-run")?;
    let mut text = Vec::new();
    File::from(spec).read_to_end(&mut text)?;
    let spec: RunSpec = serde_json::from_slice(&text)?;
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let (gate, opener) = pipe2(OFlag::O_CLOEXEC)?;
    let (words, status) = pipe2(OFlag::O_CLOEXEC)?;
    let pipes = Pipes { output, gate, status };
    let me = getpid();
    let (last_words, theirs) = pipe2(OFlag::O_CLOEXEC)?;
    if isolated {
        sys::new_pid_namespace()?;
    }
    let first = match sys::fork()? {
        ForkResult::Child if isolated => namespace::be_first(&spec, user, kit, &pipes, &theirs),
        ForkResult::Child => leader::become_handler(&spec, user, kit, &pipes, me),
        ForkResult::Parent { child } => child.as_raw(),
    };
    drop((pipes, theirs));
    sys::hurry();
    let mut supervisor = Supervisor {
        control,
        spec: &spec,
        signals,
        census: Census::skipping(isolated.then_some(first)),
        children: Children {
            first,
            last_words: isolated.then_some(last_words),
            isolated,
            end: None,
            killed: 0,
            taken: 0,
            killing: false,
        },
        why: Why::Own,
        kill_at: None,
        max_rss: 0,
    };
    let failed = supervisor.start(opener, &words);
    if failed.is_none() {
        supervisor.run();
    }
    supervisor.finish();
    if let Some(folder) = &spec.scrub {
        // The worker does it as well, and says so where it cannot be done.
        let _ = std::fs::remove_dir_all(folder);
    }
    Ok(failed.unwrap_or_else(|| supervisor.exited()))
}

/// One word of the leader; `None` once its end is closed.
fn read_word(words: &OwnedFd) -> Option<Word> {
    let mut bytes = [0; Word::LENGTH];
    loop {
        match nix::unistd::read(words, &mut bytes) {
            Err(Errno::EINTR) => {}
            Ok(Word::LENGTH) => return Some(Word::parse(bytes)),
            _ => return None,
        }
    }
}

/// What is known of the children.
struct Children {
    /// The leader, or the first process of its namespace: when that one has ended, so have all.
    first: i32,
    /// Where it is the latter: what it says of the leader's end.
    last_words: Option<OwnedFd>,
    isolated: bool,
    /// The leader's `wait` status, once it has ended.
    end: Option<i32>,
    /// Ended by KILL since then.
    killed: u64,
    /// All that were taken while the tree was being killed.
    taken: u32,
    /// The tree is being killed.
    killing: bool,
}

/// Children that are taken one by one while the tree is being killed. More are a bomb: taking one can last milliseconds
/// under its load, and meanwhile it would grow faster than it is stopped.
const MANY: u32 = 500;

impl Children {
    /// Takes every child that has ended; false where there is no child at all.
    fn reap(&mut self) -> bool {
        loop {
            match sys::ended_child() {
                Reaped::Ended(pid) if pid == self.first => {
                    // Now, while the group's number cannot stand for another one.
                    sys::kill_group(pid);
                    let status = sys::reap(pid);
                    self.end = Some(status);
                    if let Some(words) = self.last_words.take() {
                        let words = LastWords::read(words);
                        self.end = Some(words.map_or(libc::SIGKILL, |words| words.status));
                        self.killed = words.map_or(0, |words| u64::from(words.killed));
                    }
                }
                Reaped::Ended(pid) => {
                    if self.killing {
                        self.taken += 1;
                        if self.taken == MANY {
                            sys::disown_the_dead();
                        }
                    }
                    let status = sys::reap(pid);
                    let by_kill = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGKILL;
                    self.killed += u64::from(self.end.is_some() && by_kill);
                }
                Reaped::AllAlive => return true,
                Reaped::NoChild => return false,
            }
        }
    }
}

impl Supervisor<'_> {
    /// From the fork to the exec. What to report where the handler never ran.
    fn start(&mut self, opener: OwnedFd, words: &OwnedFd) -> Option<Report> {
        match read_word(words) {
            Some(Word::Ready) => {}
            Some(Word::Failed(stage, errno)) => {
                return Some(trouble::explain(self.spec, stage, Errno::from_raw(errno)));
            }
            None => return Some(trouble::gone(Stage::Prepare, "the handler's process was killed before it was ready")),
        }
        tell(self.control, &Report::Ready);
        match self.control.receive::<Order>() {
            Ok(Some((Order::Go, _))) => {}
            Ok(Some(_)) => {
                return Some(trouble::gone(Stage::Gate, "the run was stopped before its handler was started"));
            }
            Ok(None) | Err(_) => {
                return Some(trouble::gone(Stage::Gate, "the dispatcher ended before the handler was started"));
            }
        }
        if nix::unistd::write(&opener, &[1]).is_err() {
            return Some(trouble::gone(Stage::Gate, "the handler's process was killed before it was started"));
        }
        drop(opener);
        match read_word(words) {
            Some(Word::Failed(stage, errno)) => Some(trouble::explain(self.spec, stage, Errno::from_raw(errno))),
            // The pipe is closed by the exec.
            _ => {
                tell(self.control, &Report::Started);
                None
            }
        }
    }

    /// Until the leader has ended, or everything is to be killed.
    fn run(&mut self) {
        let deadline = Instant::now().checked_add(self.spec.boxes.timeout);
        let mut sample_at = Instant::now() + SAMPLE;
        self.reap();
        while self.children.end.is_none() {
            let now = Instant::now();
            if self.kill_at.is_some_and(|at| at <= now) {
                return;
            }
            if self.kill_at.is_none() && deadline.is_some_and(|at| at <= now) {
                self.terminate(Why::TimedOut);
            }
            if sample_at <= now {
                if self.burst() {
                    return;
                }
                // Counted from the end of the look, so that a slow look cannot take all of a processor.
                sample_at = Instant::now() + SAMPLE;
            }
            let next = [self.kill_at.or(deadline), Some(sample_at)].into_iter().flatten().min();
            let pause = next.map_or(SAMPLE, |at| at.saturating_duration_since(Instant::now()));
            if self.wait(pause, true) && self.obey() {
                return;
            }
            self.reap();
        }
    }

    /// Does what the worker says; true where everything is to be killed now.
    fn obey(&mut self) -> bool {
        match self.control.receive::<Order>() {
            Ok(Some((Order::Terminate, _))) => {
                if self.kill_at.is_none() {
                    self.terminate(Why::Terminated);
                }
                false
            }
            Ok(Some((Order::Kill, _))) => {
                self.blame(Why::Terminated);
                true
            }
            Ok(Some((Order::Go, _))) => false,
            // The dispatcher is dead.
            Ok(None) | Err(_) => {
                self.blame(Why::Terminated);
                true
            }
        }
    }

    /// The first reason is the reason.
    fn blame(&mut self, why: Why) {
        if self.why == Why::Own {
            self.why = why;
        }
    }

    fn terminate(&mut self, why: Why) {
        self.blame(why);
        self.census.terminate(&mut || {
            self.children.reap();
        });
        self.kill_at = Instant::now().checked_add(self.spec.boxes.grace);
    }

    /// Looks at memory and process count; true where the tree has burst a box.
    fn burst(&mut self) -> bool {
        let mut tree = self.census.sample();
        tree.retain(Process::alive);
        let memory = weigh(&tree, self.spec.boxes.memory);
        self.max_rss = self.max_rss.max(memory.shown);
        let tasks: u64 = tree.iter().map(|p| p.tasks).sum();
        if memory.over {
            self.blame(Why::OutOfMemory);
        } else if self.spec.boxes.pids.is_some_and(|limit| tasks > limit) {
            self.blame(Why::TooManyProcesses);
        } else {
            return false;
        }
        true
    }

    /// Kills until the kernel says that there is no child left: as subreaper this process is the parent of every
    /// descendant whose own parent is gone, so no child means no descendant.
    fn finish(&mut self) {
        let mut pause = Duration::from_millis(1);
        self.children.killing = true;
        if self.children.end.is_none() {
            sys::kill_child(self.children.first);
            sys::kill_group(self.children.first);
        }
        while self.reap() {
            if self.children.isolated {
                // The kernel does the rest.
                self.wait(SWEEP_PAUSE, false);
                continue;
            }
            self.census.kill(&mut || {
                self.children.reap();
            });
            self.wait(pause, false);
            pause = (pause * 2).min(SWEEP_PAUSE);
        }
    }

    /// Takes every child that has ended; false where there is no child at all.
    fn reap(&mut self) -> bool {
        while let Ok(Some(_)) = self.signals.read_signal() {}
        self.children.reap()
    }

    /// Waits until a child has ended or, where it `listens`, an order has come; true where one has.
    fn wait(&self, longest: Duration, listens: bool) -> bool {
        let children = PollFd::new(self.signals.as_fd(), PollFlags::POLLIN);
        let control = PollFd::new(self.control.as_fd(), PollFlags::POLLIN);
        let mut fds = [children, control];
        let used = if listens { &mut fds[..] } else { &mut fds[..1] };
        // Rounded up: a timer that is not yet due must not make a busy loop.
        let millis = longest.as_millis().saturating_add(1);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        poll(used, timeout).is_ok_and(|ready| ready > 0) && fds[1].any().unwrap_or(false)
    }

    fn exited(&self) -> Report {
        let status = self.children.end.unwrap_or(libc::SIGKILL);
        let (mut cpu_ms, mut largest) = (0, 0);
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) {
            let millis = |t: nix::sys::time::TimeVal| t.tv_sec() * 1_000 + t.tv_usec() / 1_000;
            cpu_ms = u64::try_from(millis(usage.user_time()) + millis(usage.system_time())).unwrap_or(0);
            largest = u64::try_from(usage.max_rss()).unwrap_or(0) << 10;
        }
        Report::Exited {
            code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
            signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
            cpu_ms,
            max_rss_bytes: self.max_rss.max(largest),
            leaked_processes: if self.why == Why::Own { self.children.killed } else { 0 },
            why: self.why,
        }
    }
}
