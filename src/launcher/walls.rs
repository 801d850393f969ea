//! What holds a handler besides its user: Landlock, a filter of system calls, a network of its own. Finds out by trying
//! what this machine gives, and puts it in force in the leader; a run is refused where what was found cannot be had.

use nix::errno::Errno;
use nix::unistd::ForkResult;

use super::calls::Filters;
use super::files::{Fence, View};
use super::protocol::{Insist, RunSpec, Setup, Walls};
use super::sys;

/// Everything that is made once for all runs.
pub(super) struct Kit {
    walls: Walls,
    view: View,
    filters: Option<Filters>,
}

impl Kit {
    /// By the configuration and by what this machine gives.
    ///
    /// # Errors
    /// For the administrator: a part is required and cannot be had.
    pub(super) fn new(setup: &Setup) -> Result<Self, String> {
        let mut kit = Self { walls: Walls::default(), view: View::new(&setup.hidden), filters: Filters::new() };
        if setup.landlock != Insist::Off && tried(|| kit.view.fence(&RunSpec::bare()).is_ok_and(closes)) {
            kit.walls.landlock = sys::landlock_version();
        }
        if setup.landlock == Insist::Require && kit.walls.landlock.is_none() {
            return Err("`sandbox.landlock` is `require`, and this kernel has no Landlock, or keeps it from the \
                 dispatcher; boot with `landlock` in `lsm=`, in a container allow its system calls, or set \
                 `sandbox.landlock: auto`"
                .to_owned());
        }
        if setup.seccomp == Insist::Off {
            kit.filters = None;
        }
        kit.walls.seccomp = kit.filters.as_ref().is_some_and(|filters| tried(|| filtered(filters, true)));
        if setup.seccomp == Insist::Require && !kit.walls.seccomp {
            return Err(
                "`sandbox.seccomp` is `require`, and system calls cannot be filtered here; build the kernel with \
                 `CONFIG_SECCOMP_FILTER`, in a container allow `seccomp`, or set `sandbox.seccomp: auto`"
                    .to_owned(),
            );
        }
        kit.walls.network = tried(|| sys::new_network().is_ok());
        Ok(kit)
    }

    pub(super) fn walls(&self) -> Walls {
        self.walls
    }

    /// Before every fork: what the machine has got since the last one is seen by the run.
    pub(super) fn refresh(&mut self) {
        if self.walls.landlock.is_some() {
            self.view.refresh();
        }
    }

    /// In the leader, while it still has its privileges.
    pub(super) fn prepare(&self, spec: &RunSpec) -> Result<Option<Fence>, Errno> {
        if spec.no_network && self.walls.network {
            sys::new_network()?;
        }
        let fence = self.walls.landlock.map(|_| self.view.fence(spec));
        fence.transpose().map_err(|_| Errno::ENOSYS)
    }

    /// In the leader, with all privileges given up; nothing but the exec may come after it. Proves what can be proven.
    pub(super) fn close(&self, spec: &RunSpec, fence: Option<Fence>) -> Result<(), Errno> {
        if let Some(fence) = fence
            && !(closes(fence) && self.view.holds())
        {
            return Err(Errno::EACCES);
        }
        let Some(filters) = self.filters.as_ref().filter(|_| self.walls.seccomp) else { return Ok(()) };
        if filtered(filters, spec.no_network) { Ok(()) } else { Err(Errno::EPERM) }
    }
}

fn closes(fence: Fence) -> bool {
    nix::sys::prctl::set_no_new_privs().is_ok() && fence.close().unwrap_or(false)
}

/// Puts the filter in force, and has the kernel say so.
fn filtered(filters: &Filters, no_network: bool) -> bool {
    let on = |status: String| status.lines().any(|line| line == "Seccomp:\t2");
    filters.close(no_network).is_ok() && std::fs::read_to_string("/proc/self/status").is_ok_and(on)
}

/// Whether it can be done, tried in a child that ends with it.
fn tried(work: impl FnOnce() -> bool) -> bool {
    match sys::fork() {
        Ok(ForkResult::Child) => sys::exit(i32::from(!work())),
        Ok(ForkResult::Parent { child }) => sys::wait_for(child.as_raw()) == 0,
        Err(_) => false,
    }
}
