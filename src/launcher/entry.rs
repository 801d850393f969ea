//! The launcher process itself: waits for orders to fork, reaps supervisors, and kills what a dead one leaves. Refuses
//! run specs any say in users, lock folders or privileges.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::process::ExitCode;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{ForkResult, geteuid};

use super::channel::Channel;
use super::protocol::{Fork, Hello, Setup, Stage};
use super::supervisor::{self, By};
use super::sys::{self, Reaped};
use super::tree::Census;
use super::walls::Kit;
use super::{namespace, privileges, trouble};

/// First argument that makes this program a launcher.
pub const ENTRY: &str = "__launcher";

/// Between two sweeps while orphans of a dead supervisor live.
const SWEEP_PAUSE_MS: u16 = 20;

/// What a terminal or a service manager sends to the whole group: the dispatcher decides what it means for runs.
const IGNORED: [Signal; 10] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGPIPE,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
];

/// The launcher's `main`: standard input is the socket to the daemon. Returns when the daemon has closed it and the
/// last supervisor has ended.
#[must_use]
pub fn entry() -> ExitCode {
    match launch() {
        Ok(()) => ExitCode::SUCCESS,
        // EX_OSERR. Nobody reads its words: the daemon sees the closed socket and this code.
        Err(_) => ExitCode::from(71),
    }
}

/// A supervisor that has not been reaped yet.
struct Held {
    pid: i32,
    /// The same open file that the supervisor has locked: should it die, the lock stays until its orphans are gone.
    #[expect(dead_code, reason = "held, not used: its descriptor keeps the lock")]
    lock: File,
}

fn launch() -> io::Result<()> {
    sys::ignore(&IGNORED)?;
    let daemon = Channel::from_fd(io::stdin().as_fd().try_clone_to_owned()?);
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    prctl::set_child_subreaper(true)?;
    prctl::set_name(c"dispatcher-lnch")?;
    // Run specs hold secrets, and handlers may run as the same user.
    prctl::set_dumpable(false)?;
    let Some((setup, _)) = daemon.receive::<Setup>()? else { return Ok(()) };
    let ready = privileges::resolve(&setup).and_then(|user| lock_dir(&setup.lock_dir).map(|()| user));
    let ready = ready.and_then(|user| Kit::new(&setup).map(|kit| (user, kit)));
    let (user, kit) = match ready {
        Ok(ready) => ready,
        Err(message) => return daemon.send(&Hello::Refused(message), &[]),
    };
    // Only where handlers are another user: a run of one's own user keeps the view of the machine that one has.
    let isolated = user.switch && namespace::available();
    daemon.send(&Hello::Ready { user: user.clone(), isolated, walls: kit.walls() }, &[])?;
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block()?;
    let children = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let by = By { user, isolated, kit };
    serve(Launching { daemon: Some(daemon), children, held: Vec::new(), dead: Vec::new() }, &setup.lock_dir, by)
}

fn lock_dir(path: &Path) -> Result<(), String> {
    let say = |why: String| format!("lock folder `{}`: {why}", path.display());
    // Handlers must not be able to take the locks of others; an administrator may make the folder and open it further.
    DirBuilder::new().recursive(true).mode(0o750).create(path).map_err(|e| say(format!("failed to make it: {e}")))?;
    let meta = path.symlink_metadata().map_err(|e| say(e.to_string()))?;
    let own = geteuid().as_raw();
    if !meta.is_dir() || (meta.uid() != own && meta.uid() != 0) {
        return Err(say(format!("it must be a folder of user {own} or of root")));
    }
    Ok(())
}

struct Launching {
    /// `None` once the daemon has gone.
    daemon: Option<Channel>,
    children: SignalFd,
    held: Vec<Held>,
    /// Supervisors that died before their tree was empty.
    dead: Vec<Held>,
}

fn serve(mut state: Launching, lock_dir: &Path, mut by: By) -> io::Result<()> {
    loop {
        state.reap();
        if state.daemon.is_none() && state.held.is_empty() && state.dead.is_empty() {
            return Ok(());
        }
        let timeout = if state.dead.is_empty() { PollTimeout::NONE } else { PollTimeout::from(SWEEP_PAUSE_MS) };
        let mut fds = vec![PollFd::new(state.children.as_fd(), PollFlags::POLLIN)];
        fds.extend(state.daemon.as_ref().map(|daemon| PollFd::new(daemon.as_fd(), PollFlags::POLLIN)));
        let _ = poll(&mut fds, timeout);
        if !fds.get(1).is_some_and(|fd| fd.any().unwrap_or(false)) {
            continue;
        }
        match state.daemon.as_ref().map(Channel::receive::<Fork>) {
            Some(Ok(Some((fork, fds)))) => {
                by.kit.refresh();
                if let Some(child) = state.fork(&fork, fds, lock_dir) {
                    drop(state);
                    supervisor::supervise(child.lock, child.spec, child.control, child.output, &by);
                    sys::exit(0);
                }
            }
            _ => state.daemon = None,
        }
    }
}

/// What a forked supervisor goes on with.
struct Child {
    lock: File,
    spec: OwnedFd,
    control: Channel,
    output: OwnedFd,
}

impl Launching {
    /// Forks a supervisor; `Some` in the child only.
    fn fork(&mut self, fork: &Fork, fds: Vec<OwnedFd>, lock_dir: &Path) -> Option<Child> {
        let [spec, control, output] = <[OwnedFd; 3]>::try_from(fds).ok()?;
        let control = Channel::from_fd(control);
        let lock = match open_lock(lock_dir, &fork.lock) {
            Ok(lock) => lock,
            Err(e) => {
                let _ =
                    control.send(&trouble::refused(Stage::Fork, &e, "failed to open the resource's lock file"), &[]);
                return None;
            }
        };
        match sys::fork() {
            Ok(ForkResult::Child) => Some(Child { lock, spec, control, output }),
            Ok(ForkResult::Parent { child }) => {
                self.held.push(Held { pid: child.as_raw(), lock });
                None
            }
            Err(errno) => {
                let _ = control.send(&trouble::refused(Stage::Fork, &errno.into(), "failed to fork"), &[]);
                None
            }
        }
    }

    fn reap(&mut self) {
        while let Ok(Some(_)) = self.children.read_signal() {}
        self.take();
        if !self.dead.is_empty() {
            let mut census = Census::sparing(self.held.iter().map(|held| held.pid).collect());
            census.kill(&mut || self.take());
            if census.full().is_empty() {
                self.dead.clear();
            }
        }
    }

    fn take(&mut self) {
        while let Reaped::Ended(pid) = sys::ended_child() {
            let status = sys::reap(pid);
            if let Some(at) = self.held.iter().position(|held| held.pid == pid) {
                let held = self.held.swap_remove(at);
                if !libc::WIFEXITED(status) || libc::WEXITSTATUS(status) != 0 {
                    self.dead.push(held);
                }
            }
        }
    }
}

/// Opens a lock file, never a link and never outside the folder. It is never removed: a second holder could get in.
fn open_lock(dir: &Path, name: &str) -> io::Result<File> {
    if name.is_empty() || name.starts_with('.') || name.contains('/') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the name of a lock file"));
    }
    let mut options = File::options();
    options.read(true).write(true).create(true).mode(0o640);
    options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits()).open(dir.join(name))
}
