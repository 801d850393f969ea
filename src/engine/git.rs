//! When to commit, fetch and push. Two results that are ready together share a commit; a push that was refused because
//! the remote moved is repeated at once after a fetch; any other failure backs off, is given up, and is tried again with
//! the next result or fetch.

use std::time::Duration;

use crate::backoff;
use crate::engine::core::Trouble;
use crate::engine::{CommitReport, Effect, Engine, FetchReport, Now, PushReport};
use crate::event::Event;
use crate::request::RunId;

/// The first delay after a push that failed; doubles up to [`PUSH_MOST`].
const PUSH_FIRST: Duration = Duration::from_secs(1);
const PUSH_MOST: Duration = Duration::from_secs(60);
/// The same where the remote had merely moved.
const MOVED_FIRST: Duration = Duration::from_millis(20);
const MOVED_MOST: Duration = Duration::from_secs(2);
/// A remote that moves away so often in a row counts as a failure.
const MOVED_OFTEN: u32 = 64;
/// While other runs are about to end, a result waits for company for so long: a commit costs the same with one run as with
/// ten, and so does its push.
const GATHER: Duration = Duration::from_millis(100);
/// So many results are enough for a commit.
const ENOUGH: usize = 64;
/// After a commit that failed.
const COMMIT_AGAIN: Duration = Duration::from_secs(2);

/// How git stands.
#[derive(Debug, Default)]
pub(super) struct Git {
    fetching: bool,
    fetch_again: bool,
    /// The first fetch has been answered, one way or the other.
    looked: bool,
    /// False where there is nowhere to fetch from or push to.
    remote: Option<bool>,
    next_fetch: Duration,
    committing: bool,
    /// When the oldest result was ready that no commit holds yet.
    gathering: Option<Duration>,
    commit_failures: u32,
    commit_after: Duration,
    /// Rises with every commit that the remote may lack.
    made: u64,
    /// The value of `made` that the remote has.
    published: u64,
    /// Results that the remote lacks.
    unpushed: usize,
    push: Push,
    failures: u32,
    moved: u32,
}

/// Where publishing stands.
#[derive(Debug, Default, PartialEq, Eq)]
enum Push {
    #[default]
    Idle,
    /// On its way with everything up to this `made`.
    Flying(u64),
    /// Fetch first, from this moment on, then push.
    Waiting(Duration),
    /// The fetch before the push is on its way.
    Looking,
    /// Until the next result or fetch.
    GaveUp,
}

impl Git {
    pub(super) const fn looked(&self) -> bool {
        self.looked
    }

    pub(super) const fn unpushed(&self) -> usize {
        self.unpushed
    }

    pub(super) const fn committing(&self) -> bool {
        self.committing
    }

    pub(super) fn has_remote(&self) -> bool {
        self.remote.unwrap_or(true)
    }

    /// `working`: false while the dispatcher stops, and so asks the remote no more of its own accord.
    pub(super) fn wake(&self, working: bool) -> Option<Duration> {
        let fetch = (working && self.looked && self.has_remote() && !self.fetching).then_some(self.next_fetch);
        let push = match self.push {
            Push::Waiting(until) if !self.fetching => Some(until),
            _ => None,
        };
        let again = (self.commit_failures > 0).then_some(self.commit_after);
        let commit = again.or(self.gathering.map(|since| since + GATHER)).filter(|_| !self.committing);
        [fetch, push, commit].into_iter().flatten().min()
    }

    /// Nothing is left to publish, or it cannot be done for now. `patient`: back-off is waited for.
    pub(super) fn settled(&self, patient: bool) -> bool {
        let behind = self.has_remote() && self.made > self.published;
        match self.push {
            Push::Idle => !behind,
            Push::Waiting(_) => !patient && self.failures > 0,
            Push::GaveUp => true,
            Push::Flying(_) | Push::Looking => false,
        }
    }

    /// Commits cannot be made for now.
    pub(super) const fn stuck(&self) -> bool {
        self.commit_failures > 0 && !self.committing
    }

    pub(super) fn failing(&self) -> bool {
        self.push == Push::GaveUp || self.failures > 0
    }

    pub(super) const fn fetching(&self) -> bool {
        self.fetching
    }

    pub(super) const fn push_word(&self) -> &'static str {
        match self.push {
            Push::Idle => "ok",
            Push::Flying(_) | Push::Looking => "pushing",
            Push::Waiting(_) => "backing off",
            Push::GaveUp => "given up",
        }
    }
}

impl Engine {
    pub(super) fn commit_due(&mut self, now: Now, out: &mut Vec<Effect>) {
        if self.git.committing || self.finals.is_empty() {
            return;
        }
        let since = *self.git.gathering.get_or_insert(now.mono);
        let more = self.finals.len() < ENOUGH && (self.running() > 0 || !self.taking.is_empty());
        let due = if more { self.git.commit_after.max(since + GATHER) } else { self.git.commit_after };
        if now.mono < due {
            return;
        }
        self.git.gathering = None;
        self.git.committing = true;
        out.push(Effect::Commit(self.finals.iter().copied().collect::<Vec<RunId>>()));
    }

    pub(super) fn committed(&mut self, now: Now, report: CommitReport, out: &mut Vec<Effect>) {
        self.git.committing = false;
        match report {
            CommitReport::Done { ids, commit } => {
                self.git.commit_failures = 0;
                self.git.commit_after = Duration::ZERO;
                self.trouble(Trouble::Commit, None, out);
                for id in &ids {
                    self.finals.remove(id);
                }
                self.git.made += 1;
                self.git.unpushed += ids.len();
                if self.git.push == Push::GaveUp {
                    self.try_once_more(now);
                }
                out.push(Effect::Emit(Event::Committed { commit: commit.clone(), runs: ids.clone() }));
                out.push(Effect::Announce { ids, commit });
            }
            CommitReport::Failed { message, .. } => {
                let most = Duration::from_secs(60);
                let delay = backoff::ceiling(COMMIT_AGAIN, most, self.git.commit_failures);
                self.git.commit_failures += 1;
                self.git.commit_after = now.mono + delay;
                self.trouble(Trouble::Commit, Some(message), out);
            }
        }
    }

    pub(super) fn fetch_now(&mut self, out: &mut Vec<Effect>) {
        if self.git.fetching {
            self.git.fetch_again = true;
        } else {
            self.git.fetching = true;
            out.push(Effect::Fetch);
        }
        out.push(Effect::Scan);
    }

    pub(super) fn fetch_due(&mut self, now: Now, out: &mut Vec<Effect>) {
        let first = !self.git.looked;
        let due = first || self.git.fetch_again || (self.git.has_remote() && now.mono >= self.git.next_fetch);
        if due && !self.git.fetching && (self.working() || self.git.fetch_again) {
            self.git.fetch_again = false;
            self.git.fetching = true;
            out.push(Effect::Fetch);
        }
    }

    pub(super) fn fetched(&mut self, now: Now, report: FetchReport, out: &mut Vec<Effect>) {
        let first = !self.git.looked;
        self.git.looked = true;
        self.git.fetching = false;
        self.git.remote = Some(report != FetchReport::NoRemote);
        let jitter = 0.9 + 0.2 * self.chance.f64();
        self.git.next_fetch = now.mono + self.settings.fetch_interval.mul_f64(jitter);
        let wanted = std::mem::replace(&mut self.git.push, Push::Idle);
        match report {
            FetchReport::NoRemote => self.heal_checkout(out),
            FetchReport::Done { commit, commits, ahead, withdrawn, second } => {
                self.heal_checkout(out);
                self.trouble(Trouble::Fetch, None, out);
                self.trouble(Trouble::SecondDispatcher, second.or_else(|| self.kept_second()), out);
                if commits > 0 {
                    out.push(Effect::Emit(Event::Fetched { commit, commits }));
                }
                self.withdraw(&withdrawn, out);
                self.now_known(ahead);
                self.looked_before_push(now, wanted);
            }
            FetchReport::Blocked { detail, ahead } => {
                self.trouble(Trouble::Fetch, None, out);
                self.trouble(Trouble::Checkout, Some(detail.clone()), out);
                self.now_known(ahead);
                self.push_went_wrong(now, wanted, detail, out);
            }
            FetchReport::Diverged { local, remote, message } => {
                self.trouble(Trouble::Fetch, None, out);
                if !self.troubles.contains_key(&Trouble::Diverged) {
                    let message = message.clone();
                    out.push(Effect::Emit(Event::Diverged { local, remote, message }));
                }
                self.trouble(Trouble::Diverged, Some(message.clone()), out);
                self.push_went_wrong(now, wanted, message, out);
            }
            FetchReport::Failed { message } => {
                out.push(Effect::Emit(Event::FetchFailed { message: message.clone() }));
                self.trouble(Trouble::Fetch, Some(message.clone()), out);
                self.push_went_wrong(now, wanted, message, out);
            }
        }
        if matches!(self.git.push, Push::Waiting(_)) && self.git.made <= self.git.published {
            // The remote has everything after all: there is nothing to wait for.
            (self.git.push, self.git.failures, self.git.moved) = (Push::Idle, 0, 0);
        }
        if first {
            out.push(Effect::Scan);
        }
    }

    fn heal_checkout(&mut self, out: &mut Vec<Effect>) {
        self.trouble(Trouble::Checkout, None, out);
        self.trouble(Trouble::Diverged, None, out);
    }

    /// A second dispatcher stays a trouble until a person resumes.
    fn kept_second(&self) -> Option<String> {
        self.troubles.get(&Trouble::SecondDispatcher).cloned()
    }

    fn now_known(&mut self, ahead: bool) {
        if ahead && self.git.made == self.git.published {
            self.git.made += 1;
        }
        if !ahead {
            self.git.published = self.git.made;
            self.git.unpushed = 0;
        }
    }

    /// The remote answered: a push that waited for that goes on, one that was given up gets another chance.
    fn looked_before_push(&mut self, now: Now, wanted: Push) {
        self.git.push = if wanted == Push::Looking { Push::Idle } else { wanted };
        if self.git.push == Push::GaveUp && self.git.made > self.git.published {
            self.try_once_more(now);
        }
    }

    /// A fetch that went wrong takes a push that waited for it along.
    fn push_went_wrong(&mut self, now: Now, wanted: Push, message: String, out: &mut Vec<Effect>) {
        if wanted == Push::Looking {
            self.push_failed(now, message, out);
        } else {
            self.git.push = wanted;
        }
    }

    /// After giving up: one push, and if that fails no back-off.
    fn try_once_more(&mut self, now: Now) {
        self.git.failures = self.settings.push_retries.saturating_sub(1);
        self.git.push = Push::Waiting(now.mono);
    }

    pub(super) fn push_due(&mut self, now: Now, out: &mut Vec<Effect>) {
        if !self.git.has_remote() || self.git.made <= self.git.published || !self.git.looked {
            return;
        }
        match self.git.push {
            Push::Idle => {
                self.git.push = Push::Flying(self.git.made);
                out.push(Effect::Push);
            }
            Push::Waiting(until) if until <= now.mono && !self.git.fetching => {
                self.git.push = Push::Looking;
                self.git.fetching = true;
                out.push(Effect::Fetch);
            }
            _ => {}
        }
    }

    pub(super) fn pushed(&mut self, now: Now, report: PushReport, out: &mut Vec<Effect>) {
        let Push::Flying(upto) = std::mem::replace(&mut self.git.push, Push::Idle) else { return };
        match report {
            PushReport::NoRemote => self.git.remote = Some(false),
            PushReport::Done { commit } => {
                let attempts = self.git.failures + self.git.moved + 1;
                (self.git.failures, self.git.moved) = (0, 0);
                self.git.published = self.git.published.max(upto);
                let runs = self.git.unpushed;
                if self.git.published == self.git.made {
                    self.git.unpushed = 0;
                }
                self.trouble(Trouble::Push, None, out);
                out.push(Effect::Emit(Event::Pushed { commit, runs, attempts }));
            }
            PushReport::Moved if self.git.moved < MOVED_OFTEN => {
                let ceiling = backoff::ceiling(MOVED_FIRST, MOVED_MOST, self.git.moved);
                let delay = backoff::full_jitter(ceiling, self.chance.u32(..));
                self.git.moved += 1;
                self.git.push = Push::Waiting(now.mono + delay);
            }
            PushReport::Moved => self.push_failed(now, "the remote moved away again and again".to_owned(), out),
            PushReport::Failed { message } => self.push_failed(now, message, out),
        }
    }

    fn push_failed(&mut self, now: Now, message: String, out: &mut Vec<Effect>) {
        let delay = backoff::ceiling(PUSH_FIRST, PUSH_MOST, self.git.failures);
        let delay = backoff::full_jitter(delay, self.chance.u32(..));
        self.git.failures += 1;
        self.git.moved = 0;
        let over = self.git.failures >= self.settings.push_retries;
        self.git.push = if over { Push::GaveUp } else { Push::Waiting(now.mono + delay) };
        out.push(Effect::Emit(Event::PushFailed {
            message: message.clone(),
            attempt: self.git.failures,
            retry_ms: (!over).then(|| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX)),
            unpushed: self.git.unpushed,
        }));
        if over {
            self.trouble(Trouble::Push, Some(message), out);
        }
    }
}
