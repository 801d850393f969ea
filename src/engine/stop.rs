//! Pause, drain and stop, and when everything is done.

use std::time::Duration;

use crate::engine::core::{Phase, Trouble, Why};
use crate::engine::{Effect, Engine, ExitCode, How, Now};
use crate::event::Event;

/// So many attempts in a row that could not begin are enough for `once`.
const HOPELESS: u32 = 3;

/// Whether new work begins.
#[derive(Debug)]
pub(super) enum Mode {
    Working,
    /// What runs may go on, until the moment comes or somebody insists.
    Stopping {
        until: Option<Duration>,
        told: Told,
    },
}

/// How firmly running attempts have been told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Told {
    Nothing,
    Gracefully,
    AtOnce,
}

impl Mode {
    pub(super) fn wake(&self) -> Option<Duration> {
        match self {
            Self::Stopping { until, told: Told::Nothing } => *until,
            _ => None,
        }
    }
}

impl Engine {
    pub(super) fn working(&self) -> bool {
        matches!(self.mode, Mode::Working)
    }

    pub(super) fn set_pause(&mut self, by: String, reason: Option<String>, out: &mut Vec<Effect>) {
        let kept = reason.as_ref().map_or_else(|| format!("by {by}"), |reason| format!("by {by}: {reason}"));
        self.pause = Some(kept.clone());
        out.push(Effect::KeepPause(Some(kept)));
        out.push(Effect::Emit(Event::Paused { by, reason }));
    }

    pub(super) fn unset_pause(&mut self, by: String, out: &mut Vec<Effect>) {
        self.trouble(Trouble::SecondDispatcher, None, out);
        self.trouble(Trouble::Sync, None, out);
        if self.pause.take().is_some() {
            out.push(Effect::KeepPause(None));
            out.push(Effect::Emit(Event::Resumed { by }));
        }
    }

    pub(super) fn drain(&mut self, by: String, out: &mut Vec<Effect>) {
        if self.working() {
            self.mode = Mode::Stopping { until: None, told: Told::Nothing };
            out.push(Effect::Emit(Event::Draining { by }));
        }
    }

    pub(super) fn stop(&mut self, now: Now, by: String, out: &mut Vec<Effect>) {
        let soon = now.mono + self.settings.drain_timeout;
        match &mut self.mode {
            Mode::Stopping { until: Some(_), told: Told::Nothing } => self.tell_all(How::Gracefully, out),
            Mode::Stopping { until: Some(_), told } => {
                if *told < Told::AtOnce {
                    self.tell_all(How::AtOnce, out);
                }
            }
            mode => {
                *mode = Mode::Stopping { until: Some(soon), told: Told::Nothing };
                let (running, queued) = (self.running(), self.queue.len());
                out.push(Effect::Emit(Event::Stopping { by, running, queued }));
            }
        }
    }

    /// The time that a stop gives to running attempts is over.
    pub(super) fn hurry_stop(&mut self, now: Now, out: &mut Vec<Effect>) {
        if let Mode::Stopping { until: Some(until), told: Told::Nothing } = self.mode
            && until <= now.mono
        {
            self.tell_all(How::Gracefully, out);
        }
    }

    fn tell_all(&mut self, how: How, out: &mut Vec<Effect>) {
        if let Mode::Stopping { told, .. } = &mut self.mode {
            *told = if how == How::Gracefully { Told::Gracefully } else { Told::AtOnce };
        }
        for (id, run) in &mut self.runs {
            if let Phase::Running { end, .. } = &mut run.phase {
                end.get_or_insert(Why::Stop);
                out.push(Effect::Terminate { id: *id, how });
            }
        }
    }

    /// Exits where nothing is left that this life should wait for.
    pub(super) fn exit_due(&mut self, _: Now, out: &mut Vec<Effect>) {
        let idle = self.running() == 0 && self.taking.is_empty() && !self.git.committing() && self.archive.idle();
        if !idle {
            return;
        }
        let recorded = self.finals.is_empty();
        let code = match self.mode {
            Mode::Stopping { .. } if (recorded && self.git.settled(false)) || self.git.stuck() => ExitCode::Done,
            Mode::Working if self.settings.once && self.nothing_to_do() => {
                let kept = !recorded || self.git.failing() || self.pause.is_some() || !self.troubles.is_empty();
                if kept { ExitCode::TryLater } else { ExitCode::Done }
            }
            _ => return,
        };
        self.exited = true;
        let (queued, unpushed) = (self.queue.len(), self.git.unpushed());
        out.push(Effect::Emit(Event::Stopped { queued, unpushed }));
        out.push(Effect::Exit(code));
    }

    /// For `--once`: all that can be done now is done.
    fn nothing_to_do(&self) -> bool {
        let asked = self.git.looked() && self.scanned && !self.git.fetching();
        let inbox = self.inbox.keys().all(|name| self.refused.contains(name)) || !self.takes_work();
        // What cannot begin on this machine as things stand is left to a later life.
        let hopeless = || self.runs.values().all(|run| run.troubles >= HOPELESS);
        let queue = self.queue.is_empty() || !self.may_start() || hopeless();
        let written = (self.finals.is_empty() && self.git.settled(true)) || self.git.stuck();
        asked && inbox && queue && written
    }
}
