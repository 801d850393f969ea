//! The process tree of a run as `/proc` shows it: who is in it, how large it is, and signals to all of it. Never acts on
//! a stored process number: a signal goes through a pidfd whose process was seen in the tree with the same start time.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::AsFd;

use nix::sys::signal::Signal;

use super::sys;

/// Samples between two full looks at all processes of the machine.
const FULL_EVERY: u32 = 10;
/// Rounds of STOP after which a tree that still grows is signalled as it is; the next sweep finds the rest.
const STOP_ROUNDS: u32 = 50;

/// One process as it was seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pub pid: i32,
    ppid: i32,
    /// Ticks since boot; with the number it names the process for good.
    start: u64,
    state: u8,
    /// Threads.
    pub tasks: u64,
    /// Resident bytes, shared pages included.
    pub resident: u64,
}

impl Process {
    /// Reads `/proc/<pid>/stat`; `None` where the process is gone.
    fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(stat: &[u8]) -> Option<Self> {
        // The name in parentheses may hold anything, also `) R 1`: the last one counts.
        let open = stat.iter().position(|&b| b == b'(')?;
        let close = stat.iter().rposition(|&b| b == b')')?;
        let pid = std::str::from_utf8(&stat[..open]).ok()?.trim().parse().ok()?;
        let rest: Vec<&str> = std::str::from_utf8(stat.get(close + 1..)?).ok()?.split_whitespace().collect();
        let number = |at: usize| rest.get(at)?.parse::<u64>().ok();
        Some(Self {
            pid,
            ppid: rest.get(1)?.parse().ok()?,
            start: number(19)?,
            state: *rest.first()?.as_bytes().first()?,
            tasks: number(17)?,
            resident: number(21)? * page_size(),
        })
    }

    /// Not a zombie.
    pub(super) fn alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// The process itself, whatever its number stands for by now.
    pub(super) fn identity(&self) -> (i32, u64) {
        (self.pid, self.start)
    }

    /// Sends `signal` to this very process; false where it is gone or may not be signalled.
    pub(super) fn signal(&self, signal: Signal) -> bool {
        let Ok(pidfd) = sys::pidfd_open(self.pid) else { return false };
        let same = Self::read(self.pid).is_some_and(|now| now.identity() == self.identity());
        same && sys::pidfd_signal(pidfd.as_fd(), signal).is_ok()
    }

    /// Bytes that are its own: resident without file and shared memory pages.
    fn private(&self) -> u64 {
        let shared = fs::read_to_string(format!("/proc/{}/statm", self.pid))
            .ok()
            .and_then(|text| text.split(' ').nth(2)?.parse::<u64>().ok());
        self.resident.saturating_sub(shared.unwrap_or(0) * page_size())
    }

    /// Its fair share of resident memory: a page that n processes map counts a n-th.
    fn proportional(&self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid)).ok()?;
        let kib: u64 = text.lines().find_map(|l| l.strip_prefix("Pss:"))?.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kib << 10)
    }
}

fn page_size() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|size| size.try_into().ok())
        .unwrap_or(4096)
}

/// Every process number that `/proc` lists now.
pub(super) fn numbers() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Memory of a tree at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Memory {
    /// Private pages of all, the best figure without a walk through every mapping.
    pub shown: u64,
    /// Over the box for certain.
    pub over: bool,
}

/// Weighs the tree. Resident sizes count shared pages once per process, so their sum is never too small: at or below
/// the box it clears the tree. Above it, the fair shares (PSS) decide; where they cannot be read, the private pages.
pub(super) fn weigh(tree: &[Process], limit: Option<u64>) -> Memory {
    let shown = tree.iter().map(Process::private).sum();
    let resident: u64 = tree.iter().map(|p| p.resident).sum();
    let over = limit.is_some_and(|limit| {
        resident > limit && tree.iter().map(|p| p.proportional().unwrap_or_else(|| p.private())).sum::<u64>() > limit
    });
    Memory { shown, over }
}

/// Looks for the descendants of this process.
#[derive(Debug, Default)]
pub(super) struct Census {
    /// Processes that were seen and are no descendants. Nobody becomes one later; a number that is used anew may.
    strangers: HashSet<i32>,
    samples: u32,
    /// Children that do not count, with all that is below them.
    spared: Vec<i32>,
    /// A child that does not count, while all that is below it does.
    skipped: Option<i32>,
}

impl Census {
    /// A census that leaves out these children of this process and all that is below them.
    pub(super) fn sparing(spared: Vec<i32>) -> Self {
        Self { spared, ..Self::default() }
    }

    /// A census that leaves out this child of this process, and counts all that is below it.
    pub(super) fn skipping(skipped: Option<i32>) -> Self {
        Self { skipped, ..Self::default() }
    }

    /// All descendants, zombies too, with a look at every process of the machine.
    pub(super) fn full(&mut self) -> Vec<Process> {
        self.strangers.clear();
        self.look()
    }

    /// All descendants, without looking again at processes that were no descendants a moment ago.
    pub(super) fn sample(&mut self) -> Vec<Process> {
        self.samples += 1;
        if self.samples.is_multiple_of(FULL_EVERY) { self.full() } else { self.look() }
    }

    fn look(&mut self) -> Vec<Process> {
        let numbers = numbers();
        let seen: Vec<Process> =
            numbers.into_iter().filter(|pid| !self.strangers.contains(pid)).filter_map(Process::read).collect();
        let mut below: HashMap<i32, Vec<Process>> = HashMap::new();
        for &process in &seen {
            below.entry(process.ppid).or_default().push(process);
        }
        let mut tree = Vec::new();
        let mut next = vec![nix::unistd::getpid().as_raw()];
        while let Some(parent) = next.pop() {
            for process in below.remove(&parent).unwrap_or_default() {
                if !self.spared.contains(&process.pid) {
                    next.push(process.pid);
                    if self.skipped != Some(process.pid) {
                        tree.push(process);
                    }
                }
            }
        }
        let ours: HashSet<i32> = tree.iter().map(|p| p.pid).chain(self.skipped).collect();
        self.strangers.extend(seen.iter().map(|p| p.pid).filter(|pid| !ours.contains(pid)));
        tree
    }

    /// Stops the whole tree, so that it cannot grow while it is being signalled; what is alive in it.
    ///
    /// `reap` is called between the rounds: the dead of a fork bomb would else fill the machine's process table.
    fn freeze(&mut self, reap: &mut dyn FnMut()) -> Vec<Process> {
        let mut stopped = HashSet::new();
        let mut alive = Vec::new();
        for _ in 0..STOP_ROUNDS {
            alive = self.full();
            alive.retain(Process::alive);
            let new: Vec<&Process> = alive.iter().filter(|p| stopped.insert(p.identity())).collect();
            if new.is_empty() {
                break;
            }
            for process in new {
                process.signal(Signal::SIGSTOP);
            }
            reap();
        }
        alive
    }

    /// TERM to every process of the tree as it is at one moment: what its traps start afterwards is not hit.
    pub(super) fn terminate(&mut self, reap: &mut dyn FnMut()) {
        let tree = self.freeze(reap);
        for signal in [Signal::SIGTERM, Signal::SIGCONT] {
            for process in &tree {
                process.signal(signal);
            }
        }
    }

    /// KILL to every process of the tree.
    pub(super) fn kill(&mut self, reap: &mut dyn FnMut()) {
        for process in self.freeze(reap) {
            process.signal(Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_do_not_confuse_the_parser() {
        let tail = "S 7 1 1 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 3 0 4711 1000 25 18446744073709551615";
        for name in ["sh", ") R 1 (", "a b", "\n", "((("] {
            let process = Process::parse(format!("42 ({name}) {tail}").as_bytes()).unwrap();
            assert_eq!((process.pid, process.ppid, process.start, process.tasks), (42, 7, 4711, 3), "{name:?}");
            assert_eq!(process.resident, 25 * page_size());
            assert!(process.alive());
        }
        let bytes = [b"42 (\xff\xfe) ".as_slice(), tail.as_bytes()].concat();
        assert!(Process::parse(&bytes).is_some(), "a name need not be UTF-8");
        assert!(Process::parse(b"42 (sh) S").is_none());
    }

    #[test]
    fn a_signal_goes_only_to_the_process_that_was_seen() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let seen = Process::read(i32::try_from(child.id()).unwrap()).unwrap();
        let another = Process { start: seen.start + 1, ..seen };
        assert!(!another.signal(Signal::SIGKILL), "same number, another process");
        assert!(seen.signal(Signal::SIGKILL));
        child.wait().unwrap();
        assert!(!seen.signal(Signal::SIGKILL), "gone");
    }

    #[test]
    fn shared_memory_is_not_counted_twice() {
        let me = Process::read(nix::unistd::getpid().as_raw()).unwrap();
        assert!(!weigh(&[me], Some(u64::MAX)).over);
        assert!(weigh(&[me], Some(1)).over);
        let memory = weigh(&[me], None);
        assert!(memory.shown > 0 && memory.shown <= me.resident && !memory.over);
    }
}
