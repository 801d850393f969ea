//! When old runs move to the archive. In quiet times, or when so many were recorded without one that waiting costs more;
//! never in the way of results: a remote that takes these and not the archive only keeps the branch from getting smaller.
//!
//! ```text
//! idle ──quiet──▶ moving ──▶ idle (nothing to push)
//!                  │  ▲
//!      unpublished ▼  └── the next step, at once where all is quiet
//!                 pushing ──moved──▶ looking (until the next fetch) ──▶ idle
//! ```

use std::time::Duration;

use crate::backoff;
use crate::engine::core::Trouble;
use crate::engine::{ArchiveReport, Effect, Engine, Now, PushReport};

/// So long after a commit nothing else is expected.
const QUIET: Duration = Duration::from_secs(5);
/// So many runs recorded since the last step do not wait for a quiet moment.
const OVERDUE: usize = 1_000;
/// Runs in one commit.
const MOST: usize = 500;
/// One more than `keep_recent` by this part of it makes a batch: a commit of its own for each run would double the work.
const PART: usize = 10;
/// After a failure; doubles up to [`AGAIN_MOST`].
const AGAIN: Duration = Duration::from_secs(60);
const AGAIN_MOST: Duration = Duration::from_secs(3_600);
/// The same where the remote's archive had merely moved.
const MOVED: Duration = Duration::from_millis(20);
const MOVED_MOST: Duration = Duration::from_secs(2);
const MOVED_OFTEN: u32 = 64;

/// How the archive stands.
#[derive(Debug, Default)]
pub(super) struct Archive {
    step: Step,
    /// The remote's archive was asked for, and the local one brought up to it.
    looked: bool,
    /// Not before this moment; `None` until something is recorded.
    due: Option<Duration>,
    /// Runs recorded since all that could be moved was.
    recorded: usize,
    failures: u32,
    moved: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Idle,
    Moving,
    Pushing,
    /// The remote's archive is not what was seen last: until the next fetch.
    Looking,
}

impl Archive {
    /// Nothing of it is under way.
    pub(super) fn idle(&self) -> bool {
        self.step == Step::Idle
    }

    pub(super) fn wake(&self, now: Duration) -> Option<Duration> {
        self.due.filter(|&due| self.idle() && due > now)
    }
}

impl Engine {
    /// So many runs were recorded.
    pub(super) fn more_recorded(&mut self, now: Now, runs: usize) {
        let wait = if self.settings.once { Duration::ZERO } else { QUIET };
        self.archive.recorded += runs;
        if self.archive.failures == 0 && self.archive.looked {
            self.archive.due = Some(now.mono + wait);
        }
    }

    pub(super) fn archive_due(&mut self, now: Now, out: &mut Vec<Effect>) {
        let due = self.archive.due.is_some_and(|due| due <= now.mono);
        let held = self.troubles.keys().any(|trouble| trouble.holds_intake());
        let overdue = self.archive.recorded >= OVERDUE;
        // What is overdue waits for no quiet moment; after a failure it waits as long as everything else.
        let due = due || (overdue && self.archive.failures == 0);
        let may = self.working() && self.archive.looked && self.git.looked() && !held;
        if self.archive.idle() && due && may && (overdue || self.is_quiet()) {
            self.archive.step = Step::Moving;
            let keep = self.settings.keep_recent;
            out.push(Effect::Archive { keep, least: (keep / PART).max(1), most: MOST });
        }
    }

    fn is_quiet(&self) -> bool {
        let resting = self.running() == 0 && self.taking.is_empty() && self.finals.is_empty();
        resting && !self.git.committing() && self.git.settled(true) && !self.git.failing()
    }

    pub(super) fn archived(&mut self, now: Now, report: ArchiveReport, out: &mut Vec<Effect>) {
        if self.archive.step != Step::Moving {
            return;
        }
        self.archive.step = Step::Idle;
        match report {
            ArchiveReport::Done { commit, unpublished, more } => {
                if let Some(commit) = commit {
                    self.git.made_more(commit);
                }
                if unpublished {
                    self.archive.step = Step::Pushing;
                    out.push(Effect::PushArchive);
                    return;
                }
                self.archive.due = more.then_some(now.mono);
                if !more {
                    self.archive.recorded = 0;
                }
                self.archive_works(out);
            }
            ArchiveReport::Failed { message } => self.archive_failed(now, message, out),
        }
    }

    pub(super) fn archive_pushed(&mut self, now: Now, report: PushReport, out: &mut Vec<Effect>) {
        if self.archive.step != Step::Pushing {
            return;
        }
        self.archive.step = Step::Idle;
        match report {
            PushReport::Done { .. } | PushReport::NoRemote => {
                self.archive.due = Some(now.mono);
                self.archive.moved = 0;
                self.archive_works(out);
            }
            PushReport::Moved | PushReport::Busy { .. } if self.archive.moved < MOVED_OFTEN => {
                self.archive.step = Step::Looking;
                self.git.look_again();
            }
            PushReport::Moved => {
                self.archive_failed(now, "the remote's archive moved away again and again".to_owned(), out);
            }
            PushReport::Busy { message } | PushReport::Failed { message } => self.archive_failed(now, message, out),
        }
    }

    /// A fetch is about to be answered. `lacks`: the remote's archive lacks something of ours.
    pub(super) fn archive_looked(&mut self, now: Now, lacks: bool) {
        // What an earlier life recorded is looked at too.
        let first = !std::mem::replace(&mut self.archive.looked, true);
        if self.archive.step == Step::Looking {
            let ceiling = backoff::ceiling(MOVED, MOVED_MOST, self.archive.moved);
            let delay = backoff::full_jitter(ceiling, self.chance.u32(..));
            self.archive.moved += 1;
            self.archive.step = Step::Idle;
            self.archive.due = Some(now.mono + delay);
        } else if (lacks || first) && self.archive.failures == 0 && self.archive.due.is_none() {
            self.archive.due = Some(now.mono);
        }
    }

    fn archive_works(&mut self, out: &mut Vec<Effect>) {
        self.archive.failures = 0;
        self.trouble(Trouble::Archive, None, out);
    }

    fn archive_failed(&mut self, now: Now, message: String, out: &mut Vec<Effect>) {
        let delay = backoff::ceiling(AGAIN, AGAIN_MOST, self.archive.failures);
        self.archive.failures += 1;
        self.archive.moved = 0;
        self.archive.due = Some(now.mono + delay);
        self.trouble(Trouble::Archive, Some(message), out);
    }
}
