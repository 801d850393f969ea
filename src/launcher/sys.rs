//! The system calls that neither `std` nor `nix` offers in a safe form. Each wrapper is safe to call as described.
#![expect(unsafe_code, reason = "raw system calls; each block says why it is sound")]

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::unistd::ForkResult;

/// Forks. Only the launcher and its children call it: they have one thread each.
pub(super) fn fork() -> nix::Result<ForkResult> {
    // SAFETY: the launcher never starts a thread, so no lock can be held by another one at this moment.
    unsafe { nix::unistd::fork() }
}

/// Ends the process at once: no destructors, no `atexit`.
pub(super) fn exit(code: i32) -> ! {
    // SAFETY: `_exit` takes any integer and does not return.
    unsafe { libc::_exit(code) }
}

/// A handle of a living process, so that a signal cannot hit another one with the same number.
pub(super) fn pidfd_open(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: no pointers are passed; a result that is not negative is a new descriptor that nobody else owns.
    unsafe {
        let fd = Errno::result(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
        Ok(OwnedFd::from_raw_fd(i32::try_from(fd).map_err(|_| Errno::EBADF)?))
    }
}

/// Sends `signal` to the process behind `pidfd`.
pub(super) fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: Signal) -> nix::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null `siginfo` is allowed and means what `kill` would fill in.
    let done = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal as i32, none, 0) };
    Errno::result(done).map(drop)
}

/// Closes every descriptor but 0 to 2 and `kept`. Only for a process that is about to exec or exit: owners of the
/// others must not be used or dropped afterwards.
pub(super) fn close_all_but(kept: [RawFd; 2]) -> nix::Result<()> {
    let mut first = 3;
    let [low, high] = [kept[0].min(kept[1]), kept[0].max(kept[1])].map(i32::unsigned_abs);
    for last in [low - 1, high - 1, u32::MAX] {
        if first <= last {
            // SAFETY: no pointers are passed; the caller gives up all owners.
            Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
        first = last.saturating_add(2);
    }
    Ok(())
}

/// From now on the kernel takes this process's dead children itself, on the time of the dying.
pub(super) fn disown_the_dead() {
    // SAFETY: ignoring runs no code of ours.
    let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigIgn) };
}

/// Takes over descriptors that a message has just brought.
pub(super) fn adopt(fds: Vec<RawFd>) -> Vec<OwnedFd> {
    // SAFETY: the kernel made these numbers for this message; nobody else owns them.
    fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect()
}

/// What there is to take of this process's children.
#[derive(Clone, Copy)]
pub(super) enum Reaped {
    /// This one has ended.
    Ended(i32),
    /// All that are left live.
    AllAlive,
    /// There is none.
    NoChild,
}

/// Names a child that has ended, without taking it: its number stays its own until [`reap`].
pub(super) fn ended_child() -> Reaped {
    loop {
        // SAFETY: a `siginfo_t` of zeroes is valid, and the pointer is to a local that outlives the call.
        let (done, pid) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let done = libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT);
            (done, info.si_pid())
        };
        match (done, pid) {
            (0, 0) => return Reaped::AllAlive,
            (0, pid) => return Reaped::Ended(pid),
            _ if Errno::last() == Errno::EINTR => {}
            _ => return Reaped::NoChild,
        }
    }
}

/// Takes the child `pid`, which has ended; its `wait` status. (`nix` knows no real-time signals and would lose such an
/// end.)
pub(super) fn reap(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: the pointer is to a local that outlives the call.
    unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) };
    status
}

/// Waits for the end of one child, and takes it; its `wait` status.
pub(super) fn wait_for(pid: i32) -> i32 {
    let mut status = -1;
    loop {
        // SAFETY: the pointer is to a local that outlives the call.
        let done = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        if done != -1 || Errno::last() != Errno::EINTR {
            return status;
        }
    }
}

/// Waits for the end of any child, and takes it: its number and `wait` status. `None` where there is no child.
pub(super) fn wait_for_any() -> Option<(i32, i32)> {
    let mut status = 0;
    loop {
        // SAFETY: the pointer is to a local that outlives the call.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        if pid != -1 {
            return Some((pid, status));
        }
        if Errno::last() != Errno::EINTR {
            return None;
        }
    }
}

/// KILL to a child that has not been reaped, so that its number is still its own.
pub(super) fn kill_child(pid: i32) {
    // SAFETY: numbers only.
    unsafe { libc::kill(pid, libc::SIGKILL) };
}

/// KILL to every other process of the namespace. Refused outside of a namespace of ours, where it would be a disaster.
pub(super) fn kill_all() {
    if nix::unistd::getpid().as_raw() == 1 && nix::unistd::getppid().as_raw() == 0 {
        // SAFETY: numbers only; the first process of a namespace cannot reach beyond it.
        unsafe { libc::kill(-1, libc::SIGKILL) };
    }
}

/// The next child is the first process of a new PID namespace.
pub(super) fn new_pid_namespace() -> nix::Result<()> {
    // SAFETY: flags only.
    Errno::result(unsafe { libc::unshare(libc::CLONE_NEWPID) }).map(drop)
}

/// Gives this process a network with nothing in it.
pub(super) fn new_network() -> nix::Result<()> {
    // SAFETY: flags only.
    Errno::result(unsafe { libc::unshare(libc::CLONE_NEWNET) }).map(drop)
}

/// The version of Landlock's interface; `None` where the kernel has none.
pub(super) fn landlock_version() -> Option<u32> {
    const ASK_VERSION: u32 = 1;
    // SAFETY: with this flag the call takes no structure, and makes nothing.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, ASK_VERSION) };
    u32::try_from(version).ok().filter(|version| *version > 0)
}

/// Gives this process its own view of the mounts, with a `/proc` of its own PID namespace. What the machine mounts
/// later is still seen; nothing that is mounted here is seen outside.
pub(super) fn own_proc() -> nix::Result<()> {
    let none = std::ptr::null();
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    // SAFETY: flags, null where the call allows it, and literals that end in NUL.
    unsafe {
        Errno::result(libc::unshare(libc::CLONE_NEWNS))?;
        Errno::result(libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_SLAVE, none.cast()))?;
        let proc = c"proc".as_ptr();
        Errno::result(libc::mount(proc, c"/proc".as_ptr(), proc, flags, none.cast())).map(drop)
    }
}

/// KILL to the group of a leader that has not been reaped, so that its number is still its own. At one moment for all
/// of the group: a fork bomb in it cannot run away.
pub(super) fn kill_group(leader: i32) {
    // SAFETY: numbers only. No such group is no trouble.
    unsafe { libc::kill(-leader, libc::SIGKILL) };
}

/// Gives every signal its default action and unblocks all.
pub(super) fn reset_signals() -> nix::Result<()> {
    // The kernel's own structure, all of it zero: default action, no flags, empty mask.
    let default = [0_u64; 8];
    for number in 1..=64 {
        // SAFETY: the structure is larger than the kernel's on every machine and outlives the call, and the default
        // action runs no code of ours. Not through libc, which leaves out two numbers that may be ignored from outside.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, number, default.as_ptr(), std::ptr::null_mut::<u8>(), 8) };
    }
    SigSet::empty().thread_set_mask()
}

/// Ignores `signals` in this process.
pub(super) fn ignore(signals: &[Signal]) -> nix::Result<()> {
    for &one in signals {
        // SAFETY: ignoring runs no code of ours.
        unsafe { signal(one, SigHandler::SigIgn) }?;
    }
    Ok(())
}

/// Takes every capability out of the bounding set. Needs `CAP_SETPCAP`.
pub(super) fn drop_bounding() -> nix::Result<()> {
    for number in 0..64 {
        // SAFETY: numbers only.
        match Errno::result(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0) }) {
            Ok(_) => {}
            Err(Errno::EINVAL) if number > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Asks for the processor before all others where that is allowed: else a fork bomb would starve who is to end it.
pub(super) fn hurry() {
    // SAFETY: numbers only; a refusal changes nothing.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -20) };
}

/// Replaces the process; returns only where that failed.
pub(super) fn execve(program: &CString, argv: &[CString], env: &[CString]) -> Errno {
    match nix::unistd::execve(program, argv, env) {
        Ok(never) => match never {},
        Err(errno) => errno,
    }
}
