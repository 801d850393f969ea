//! The child that becomes the handler: it gives up everything, waits at the gate, and execs. Refuses to go on where any
//! step fails.

use std::ffi::CString;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Pid, Uid};

use super::protocol::{RunSpec, Stage, User};
use super::walls::Kit;
use super::{privileges, sys};

/// Tries and their distance where the file is still open for writing somewhere: at most 2 s.
const BUSY_TRIES: u32 = 40;
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// What a leader writes into its status pipe, five bytes at a time: that it is ready, or what failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Ready,
    Failed(Stage, i32),
}

impl Word {
    pub(super) const LENGTH: usize = 5;
    const STAGES: [Stage; 6] =
        [Stage::Prepare, Stage::User, Stage::Privileges, Stage::Folder, Stage::Walls, Stage::Exec];

    fn bytes(self) -> [u8; Self::LENGTH] {
        let (tag, errno) = match self {
            Self::Ready => (0, 0),
            Self::Failed(stage, errno) => {
                let at = Self::STAGES.iter().position(|&s| s == stage).unwrap_or(0);
                (u8::try_from(at + 1).unwrap_or(1), errno)
            }
        };
        let number = errno.to_le_bytes();
        [tag, number[0], number[1], number[2], number[3]]
    }

    pub(super) fn parse(bytes: [u8; Self::LENGTH]) -> Self {
        let [tag, a, b, c, d] = bytes;
        match usize::from(tag).checked_sub(1) {
            None => Self::Ready,
            Some(at) => {
                let stage = Self::STAGES.get(at).copied().unwrap_or(Stage::Prepare);
                Self::Failed(stage, i32::from_le_bytes([a, b, c, d]))
            }
        }
    }
}

/// The leader's ends of its pipes.
pub(super) struct Pipes {
    pub output: OwnedFd,
    pub gate: OwnedFd,
    pub status: OwnedFd,
}

/// Runs in the forked child and never returns.
pub(super) fn become_handler(spec: &RunSpec, user: &User, kit: &Kit, pipes: &Pipes, parent: Pid) -> ! {
    let failed = match prepare(spec, user, kit, pipes, parent) {
        Ok(strings) => {
            say(pipes, Word::Ready);
            match nix::unistd::read(&pipes.gate, &mut [0]) {
                Ok(1) => (Stage::Exec, exec(&strings)),
                // The gate was closed: nobody wants this run any more.
                _ => sys::exit(0),
            }
        }
        Err(failed) => failed,
    };
    say(pipes, Word::Failed(failed.0, failed.1 as i32));
    sys::exit(127)
}

/// Tells the supervisor.
pub(super) fn say(pipes: &Pipes, word: Word) {
    let _ = nix::unistd::write(&pipes.status, &word.bytes());
}

/// The strings of `execve`, made before the gate so that nothing but `execve` is left to do behind it.
struct Strings {
    program: CString,
    argv: Vec<CString>,
    env: Vec<CString>,
}

fn strings(spec: &RunSpec) -> Result<Strings, Errno> {
    let text = |bytes: &[u8]| CString::new(bytes).map_err(|_| Errno::EINVAL);
    let program = text(spec.program.as_os_str().as_bytes())?;
    let mut argv = vec![program.clone()];
    for arg in &spec.args {
        argv.push(text(arg.as_bytes())?);
    }
    let plain = spec.env.iter().map(|(name, value)| (name, value.as_bytes()));
    let secret = spec.secrets.iter().map(|(name, value)| (name, value.expose()));
    let env = plain.chain(secret).map(|(name, value)| text(&[name.as_bytes(), b"=", value].concat()));
    Ok(Strings { program, argv, env: env.collect::<Result<_, _>>()? })
}

fn prepare(spec: &RunSpec, user: &User, kit: &Kit, pipes: &Pipes, parent: Pid) -> Result<Strings, (Stage, Errno)> {
    let at = |stage: Stage| move |errno: Errno| (stage, errno);
    if !user.switch {
        // Else its own files in `/proc` would belong to root.
        prctl::set_dumpable(true).map_err(at(Stage::Prepare))?;
    }
    descriptors(pipes, user).map_err(at(Stage::Prepare))?;
    nix::unistd::setsid().map_err(at(Stage::Prepare))?;
    sys::reset_signals().map_err(at(Stage::Prepare))?;
    umask(Mode::from_bits_truncate(0o022));
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(at(Stage::Prepare))?;
    // Raising is always allowed; before the switch, because afterwards the file belongs to root.
    let raised = File::options().write(true).open("/proc/self/oom_score_adj").and_then(|mut f| f.write_all(b"500"));
    raised.map_err(|e| (Stage::Prepare, Errno::from_raw(e.raw_os_error().unwrap_or(0))))?;
    let fence = kit.prepare(spec).map_err(at(Stage::Walls))?;
    privileges::give_up(user)?;
    // After the switch, which clears it. A belt only: the supervisor's own end is what the launcher looks for.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(at(Stage::Prepare))?;
    if nix::unistd::getppid() != parent {
        sys::exit(0);
    }
    nix::unistd::chdir(&spec.cwd).map_err(at(Stage::Folder))?;
    let strings = strings(spec).map_err(at(Stage::Exec))?;
    kit.close(spec, fence).map_err(at(Stage::Walls))?;
    Ok(strings)
}

/// 0 is `/dev/null`, 1 and 2 the output; gate and status stay until the exec; all others are closed.
fn descriptors(pipes: &Pipes, user: &User) -> Result<(), Errno> {
    if user.switch {
        // Else `> /dev/stderr` would be refused to the handler: it opens the pipe anew, by its owner.
        nix::unistd::fchown(&pipes.output, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))?;
    }
    let null = File::options().read(true).open("/dev/null").map_err(|_| Errno::ENODEV)?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&pipes.output)?;
    nix::unistd::dup2_stderr(&pipes.output)?;
    drop(null);
    sys::close_all_but([pipes.gate.as_raw_fd(), pipes.status.as_raw_fd()])
}

fn exec(strings: &Strings) -> Errno {
    let mut errno = Errno::ETXTBSY;
    for _ in 0..BUSY_TRIES {
        errno = sys::execve(&strings.program, &strings.argv, &strings.env);
        if errno != Errno::ETXTBSY {
            break;
        }
        std::thread::sleep(BUSY_PAUSE);
    }
    errno
}
