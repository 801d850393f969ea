//! How an attempt ended, and the words for what went wrong with it.

use std::time::Duration;

use serde_json::Value;

use crate::diagnostic::Diagnostic;
use crate::launcher::{Report, Stage, Why};
use crate::request::RunId;
use crate::sandbox::Limits;
use crate::status::{SandboxUsed, Usage};

/// How the handler ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Somebody else holds the resource's lock; nothing was started.
    LockBusy,
    /// With this exit code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
    /// The time box.
    TimedOut,
    /// The memory box.
    OutOfMemory,
    /// The process box.
    TooManyProcesses,
    /// It never ran.
    NotStarted,
    /// Its supervisor died; what was left of the run has been killed.
    Lost,
}

/// What came of one attempt. Nothing of it is alive, and its lock is free.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// How the handler ended.
    pub ended: Ended,
    /// It was told to end by [`super::Executor::terminate`] before it had ended by itself.
    pub terminated: bool,
    /// The gate was opened: the handler may have run.
    pub started: bool,
    /// What it used.
    pub usage: Usage,
    /// From the opening of the gate to the end, on the monotonic clock.
    pub duration: Duration,
    /// What it left in `$DISPATCH_RESULT`.
    pub result: Option<Value>,
    /// Why it was not started, or what is wrong besides its exit: E0601, E0603 to E0606.
    pub problem: Option<Diagnostic>,
    /// Of the host, not of the run: its work folder could not be removed.
    pub warning: Option<Diagnostic>,
    /// What held it; absent where it was not started.
    pub sandbox: Option<SandboxUsed>,
}

/// An attempt is over.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// The run.
    pub id: RunId,
    /// Which attempt.
    pub attempt: u32,
    /// What came of it.
    pub outcome: Outcome,
}

impl Outcome {
    /// An attempt that did not get as far as the handler.
    pub(super) fn not_started(ended: Ended, terminated: bool, problem: Option<Diagnostic>) -> Self {
        Self {
            ended,
            terminated,
            started: false,
            usage: Usage::default(),
            duration: Duration::ZERO,
            result: None,
            problem,
            warning: None,
            sandbox: None,
        }
    }

    /// What a supervisor's last word means, without times, output and result.
    pub(super) fn of(last: Option<Report>, started: bool, terminated: bool, limits: &Limits) -> Self {
        let mut outcome = Self { started, ..Self::not_started(Ended::Lost, terminated, None) };
        match last {
            Some(Report::Exited { code, signal, cpu_ms, max_rss_bytes, leaked_processes, why }) => {
                let own = signal.map_or(Ended::Exited(code.unwrap_or(0)), Ended::Signaled);
                outcome.usage = Usage { cpu_ms, max_rss_bytes, leaked_processes, ..Usage::default() };
                outcome.terminated = why == Why::Terminated;
                outcome.ended = match why {
                    Why::Own | Why::Terminated => own,
                    Why::TimedOut => Ended::TimedOut,
                    Why::OutOfMemory => Ended::OutOfMemory,
                    Why::TooManyProcesses => Ended::TooManyProcesses,
                };
                if why == Why::TooManyProcesses {
                    outcome.problem = Some(too_many(limits));
                }
            }
            Some(Report::LockBusy) => return Self::not_started(Ended::LockBusy, terminated, None),
            Some(Report::Refused { stage, message, help, .. }) => {
                let code = if stage == Stage::Exec { "E0601" } else { "E0603" };
                let problem = Diagnostic { help: help.into_iter().collect(), ..Diagnostic::new(code, message) };
                // Whoever asked for the end need not be told that it came early.
                let problem = Some(problem).filter(|_| !(terminated && stage == Stage::Gate));
                return Self::not_started(Ended::NotStarted, terminated, problem);
            }
            Some(Report::Ready | Report::Started) | None => {
                outcome.problem = Some(
                    Diagnostic::new(
                        "E0606",
                        "the run's supervisor was killed; what was left of the run was killed too",
                    )
                    .help("look for the kernel's out-of-memory killer, and for whoever sends SIGKILL on this machine"),
                );
                if !started {
                    outcome.ended = Ended::NotStarted;
                }
            }
        }
        outcome
    }
}

fn too_many(limits: &Limits) -> Diagnostic {
    let limit = limits.pids.unwrap_or(0);
    Diagnostic::new("E0604", format!("the handler had more than `{limit}` processes and threads; all were killed"))
        .help("start fewer at a time, or raise the handler's `pids` in handlers/index.yml")
}
