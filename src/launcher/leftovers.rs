//! Kills what an earlier life of the dispatcher has left: processes whose environment names an unfinished run. A belt
//! behind the supervisors, who do it at once when a dispatcher dies.

use std::collections::HashSet;
use std::fs;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::{sys, tree};
use crate::request::RunId;

/// Rounds without success after which the rest is left: what cannot be killed (an uninterruptible wait) must not keep
/// the dispatcher from starting.
const ROUNDS: usize = 25;
/// How long one process may take to end.
const PATIENCE: Duration = Duration::from_millis(200);

/// Kills every process that has `DISPATCH_ID` of one of `ids` in its environment, again and again until none is left;
/// how many were killed.
#[must_use]
pub fn sweep(ids: &[RunId]) -> usize {
    let marks: HashSet<Vec<u8>> = ids.iter().map(|id| format!("DISPATCH_ID={id}").into_bytes()).collect();
    let mut killed = 0;
    for _ in 0..ROUNDS {
        let mut handles = Vec::new();
        for pid in tree::numbers() {
            // The handle first, then the look: what is seen is what is hit.
            let Ok(pidfd) = sys::pidfd_open(pid) else { continue };
            if belongs(pid, &marks) && sys::pidfd_signal(pidfd.as_fd(), Signal::SIGKILL).is_ok() {
                handles.push(pidfd);
            }
        }
        if handles.is_empty() {
            break;
        }
        killed += handles.len();
        for pidfd in &handles {
            let timeout = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::ZERO);
            let _ = poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout);
        }
    }
    killed
}

/// A zombie has no environment and so belongs to nobody.
fn belongs(pid: i32, marks: &HashSet<Vec<u8>>) -> bool {
    pid != nix::unistd::getpid().as_raw()
        && fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|env| env.split(|&b| b == 0).any(|one| marks.contains(one)))
}
