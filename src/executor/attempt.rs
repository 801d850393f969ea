//! One attempt on a worker's thread, from the work folder to the outcome. Never blocks on the handler: it waits for the
//! supervisor's reports and for output at once.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::outcome::{Ended, Outcome};
use super::pool::Shared;
use crate::diagnostic::Diagnostic;
use crate::launcher::{Order, Report, RunSpec, Supervised, sweep};
use crate::sandbox::{MemoryFolder, Plan, WorkFolder};
use crate::status::SandboxUsed;

/// Largest piece of output.
const PIECE: usize = 64 << 10;
/// Between two looks at the progress file.
const LOOK: Duration = Duration::from_millis(100);
/// How long output is still read once the run is over: somebody outside of it may hold the pipe open.
const DRAIN: Duration = Duration::from_secs(2);
/// Supervisors that may die before their run was started.
const TRIES: u32 = 3;

/// Carries `plan` out.
pub(super) fn carry_out(shared: &Shared, plan: &Plan) -> Outcome {
    let memory = match memory(shared, plan) {
        Ok(memory) => memory,
        Err(message) => return not_started(shared, plan, message),
    };
    let mut folder = match WorkFolder::create(&shared.work, plan, shared.launcher.user()) {
        Ok(folder) => folder,
        Err(e) => return not_started(shared, plan, e.to_string()),
    };
    let spec = folder.spec(plan, memory.as_ref());
    let mut outcome = match ready(shared, plan, &spec) {
        Ok(supervised) => Attempt::new(shared, plan, &supervised, &mut folder).run(),
        Err(outcome) => *outcome,
    };
    if outcome.started {
        match folder.result() {
            Ok(result) => outcome.result = result,
            Err(problem) => outcome.problem = outcome.problem.or(Some(*problem)),
        }
        if let Some(result) = &mut outcome.result {
            plan.mask.json(result);
        }
        let walls = shared.launcher.walls();
        outcome.sandbox = Some(SandboxUsed {
            user: shared.launcher.user().name.clone(),
            cgroup: false,
            landlock: walls.landlock.is_some(),
            network: if plan.no_network && walls.no_network() { "none" } else { "host" }.to_owned(),
            seccomp: walls.seccomp,
        });
    }
    let path = folder.path().display().to_string();
    if let Err(e) = folder.remove() {
        outcome.warning = Some(
            Diagnostic::new("E0607", format!("failed to remove work folder `{path}`: {e}"))
                .help(format!("rm -rf {path}")),
        );
    }
    outcome
}

/// Where the run's secrets lie, where they are given as files.
fn memory(shared: &Shared, plan: &Plan) -> Result<Option<MemoryFolder>, String> {
    if plan.secrets.is_empty() || !plan.secrets_as_files {
        return Ok(None);
    }
    let say = |why: &dyn std::fmt::Display| format!("`secrets_as: file` needs a file system in memory: {why}");
    let base = shared.memory.as_ref().map_err(|why| say(why))?;
    MemoryFolder::create(base, &plan.secrets, shared.launcher.user()).map(Some).map_err(|error| say(&error))
}

fn not_started(shared: &Shared, plan: &Plan, message: String) -> Outcome {
    Outcome::not_started(Ended::NotStarted, shared.asked(plan.id), Some(Diagnostic::new("E0603", message)))
}

/// A supervisor whose leader waits at the gate. One that dies before has started nothing, so another one may try.
fn ready(shared: &Shared, plan: &Plan, spec: &RunSpec) -> Result<Arc<Supervised>, Box<Outcome>> {
    for _ in 0..TRIES {
        let supervised = match shared.launcher.spawn(spec) {
            Ok(supervised) => Arc::new(supervised),
            Err(e) => return Err(not_started(shared, plan, e.to_string()).into()),
        };
        shared.attach(plan.id, &supervised);
        match supervised.report() {
            Ok(Some(Report::Ready)) => return Ok(supervised),
            Ok(None) | Err(_) => {}
            Ok(last) => return Err(Outcome::of(last, false, shared.asked(plan.id), &plan.limits).into()),
        }
    }
    Err(Outcome::of(None, false, shared.asked(plan.id), &plan.limits).into())
}

/// An attempt whose handler waits at the gate, or runs.
struct Attempt<'a> {
    shared: &'a Shared,
    plan: &'a Plan,
    supervised: &'a Supervised,
    folder: &'a mut WorkFolder,
    buffer: Vec<u8>,
    output_bytes: u64,
    /// No more output can come.
    silent: bool,
}

impl<'a> Attempt<'a> {
    fn new(shared: &'a Shared, plan: &'a Plan, supervised: &'a Supervised, folder: &'a mut WorkFolder) -> Self {
        Self { shared, plan, supervised, folder, buffer: vec![0; PIECE], output_bytes: 0, silent: false }
    }

    fn run(mut self) -> Outcome {
        let id = self.plan.id;
        if let Err(message) = self.shared.sink.starting(id, self.plan.attempt) {
            // It answers once the leader is gone and the lock is free.
            self.supervised.order(Order::Kill);
            let _ = self.supervised.report();
            return not_started(self.shared, self.plan, message);
        }
        self.supervised.order(Order::Go);
        let since = Instant::now();
        let last = self.follow();
        let duration = since.elapsed();
        if last.is_none() {
            // The launcher kills what the supervisor left; this is for the case that it died too.
            let _ = sweep(&[id]);
        }
        self.drain();
        self.look();
        let mut outcome = Outcome::of(last, true, self.shared.asked(id), &self.plan.limits);
        outcome.duration = if outcome.started { duration } else { Duration::ZERO };
        outcome.usage.output_bytes = self.output_bytes;
        outcome
    }

    /// Passes on output and progress until the supervisor's last word; `None` where it died.
    fn follow(&mut self) -> Option<Report> {
        let mut look_at = Instant::now() + LOOK;
        // The handler may write before its supervisor has said that it runs: what it writes waits in the pipe for that.
        let mut started = false;
        loop {
            let now = Instant::now();
            if look_at <= now {
                self.look();
                look_at = now + LOOK;
            }
            if self.wait(look_at.saturating_duration_since(now), true, started) {
                match self.supervised.report() {
                    Ok(Some(Report::Started)) => {
                        started = true;
                        self.shared.sink.started(self.plan.id, &self.shared.launcher.user().name);
                    }
                    Ok(last) => return last,
                    Err(_) => return None,
                }
            }
            if started {
                self.take();
            }
        }
    }

    /// Waits for output, where it `hears` that, and for a report, where it `listens`; true where there is one.
    fn wait(&self, longest: Duration, listens: bool, hears: bool) -> bool {
        let control = PollFd::new(self.supervised.control(), PollFlags::POLLIN);
        let output = PollFd::new(self.supervised.output().as_fd(), PollFlags::POLLIN);
        let mut fds = [control, output];
        let used = match (listens, self.silent || !hears) {
            (true, true) => &mut fds[..1],
            (true, false) => &mut fds[..],
            (false, _) => &mut fds[1..],
        };
        // Rounded up: a timer that is not yet due must not make a busy loop.
        let timeout = PollTimeout::try_from(longest.as_millis().saturating_add(1)).unwrap_or(PollTimeout::MAX);
        poll(used, timeout).is_ok_and(|ready| ready > 0) && fds[0].any().unwrap_or(false)
    }

    /// Passes on one piece of output, where there is one.
    fn take(&mut self) -> bool {
        if self.silent {
            return false;
        }
        match self.supervised.read_output(&mut self.buffer) {
            Ok(0) => self.silent = true,
            Ok(length) => {
                self.output_bytes += length as u64;
                self.shared.sink.output(self.plan.id, &self.buffer[..length]);
                return true;
            }
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.silent = true,
        }
        false
    }

    /// Passes on what is left in the pipe.
    fn drain(&mut self) {
        let until = Instant::now() + DRAIN;
        while !self.silent {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            if !self.take() && !self.silent {
                self.wait(left, false, true);
            }
        }
    }

    fn look(&mut self) {
        if let Some(step) = self.folder.progress().poll() {
            self.shared.sink.progress(self.plan.id, &step.text, step.done, step.total);
        }
    }
}
