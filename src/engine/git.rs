//! When to commit, fetch and push. Two results that are ready together share a commit; a push that was refused because
//! the remote moved is repeated at once after a fetch; any other failure backs off, is given up, and is tried again with
//! the next result or fetch.

use std::collections::BTreeMap;
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
/// So does one whose branch is busy so often in a row, and no news come of it: a lock that nobody holds any more.
const BUSY_OFTEN: u32 = 5;
/// After a commit that failed.
const COMMIT_AGAIN: Duration = Duration::from_secs(2);

/// While other runs are under way, results gather for so long after a commit, so that they share the next one: a commit
/// costs as much as several runs. In quiet times nothing waits.
const GATHER: Duration = Duration::from_millis(100);
/// The same for pushes, which cost more and which nobody here waits for.
const GATHER_PUSH: Duration = Duration::from_millis(500);

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
    commit_failures: u32,
    commit_after: Duration,
    /// Rises with every commit that the remote may lack.
    made: u64,
    /// The value of `made` that the remote has.
    published: u64,
    /// The newest commit of ours that was heard of.
    tip: String,
    /// The newest one that the remote took.
    pushed: String,
    /// How many results the remote lacks, by the value of `made` that they came with.
    unpushed: BTreeMap<u64, usize>,
    push: Push,
    push_after: Duration,
    failures: u32,
    moved: u32,
    busy: u32,
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

    pub(super) fn unpushed(&self) -> usize {
        // Without a remote nothing is owed to anybody.
        if self.has_remote() { self.unpushed.values().sum() } else { 0 }
    }

    pub(super) const fn committing(&self) -> bool {
        self.committing
    }

    pub(super) fn has_remote(&self) -> bool {
        self.remote.unwrap_or(true)
    }

    /// `working`: false while the dispatcher stops, and so asks the remote no more of its own accord.
    pub(super) fn wake(&self, working: bool, results: bool) -> Option<Duration> {
        let fetch = (working && self.looked && !self.fetching).then_some(self.next_fetch);
        let push = match self.push {
            Push::Waiting(until) if !self.fetching => Some(until),
            Push::Idle if self.behind() && self.looked => Some(self.push_after),
            _ => None,
        };
        let commit = (results && !self.committing).then_some(self.commit_after);
        [fetch, push, commit].into_iter().flatten().min()
    }

    /// The remote lacks something of ours.
    fn behind(&self) -> bool {
        self.has_remote() && self.made > self.published
    }

    /// Nothing is left to publish, or it cannot be done for now. `patient`: back-off is waited for.
    pub(super) fn settled(&self, patient: bool) -> bool {
        match self.push {
            Push::Idle => !self.behind(),
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

    /// The branch has a commit more, which holds no results.
    pub(super) fn made_more(&mut self, commit: String) {
        self.made += 1;
        self.tip = commit;
    }

    /// The remote is asked once more, soon.
    pub(super) const fn look_again(&mut self) {
        self.fetch_again = true;
    }

    pub(super) const fn fetching(&self) -> bool {
        self.fetching
    }

    pub(super) fn has(&self, commit: &str) -> bool {
        [&self.tip, &self.pushed].into_iter().any(|known| known == commit)
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
        let waits = self.git.commit_failures > 0 || self.busy();
        if self.commit_held()
            || self.git.committing
            || self.finals.is_empty()
            || (waits && now.mono < self.git.commit_after)
        {
            return;
        }
        self.git.committing = true;
        out.push(Effect::Commit(self.finals.iter().copied().collect::<Vec<RunId>>()));
    }

    /// A commit that could not be synced is not made again until a person says so: what it left may look recorded.
    pub(super) fn commit_held(&self) -> bool {
        self.git.commit_failures > 0 && self.troubles.contains_key(&Trouble::Sync)
    }

    pub(super) fn committed(&mut self, now: Now, report: CommitReport, out: &mut Vec<Effect>) {
        self.git.committing = false;
        match report {
            CommitReport::Done { ids, commit } => {
                self.git.commit_failures = 0;
                self.git.commit_after = now.mono + GATHER;
                self.trouble(Trouble::Commit, None, out);
                for id in &ids {
                    self.finals.remove(id);
                }
                self.git.made += 1;
                self.git.tip.clone_from(&commit);
                self.git.unpushed.insert(self.git.made, ids.len());
                self.more_recorded(now, ids.len());
                if self.git.push == Push::GaveUp {
                    self.try_once_more(now);
                }
                let event = Event::Committed { commit: commit.clone(), runs: ids.clone() };
                out.push(Effect::Announce { ids, commit });
                out.push(Effect::Emit(event));
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
        // Without a remote too: the checkout is looked at, and somebody may have added a remote.
        let due = first || self.git.fetch_again || now.mono >= self.git.next_fetch;
        // A dispatcher that was told to stop before its first look still publishes what it has recorded.
        let wanted = self.working() || self.git.fetch_again || (first && self.git.behind());
        if due && !self.git.fetching && wanted {
            self.git.fetch_again = false;
            self.git.fetching = true;
            out.push(Effect::Fetch);
        }
    }

    pub(super) fn fetched(&mut self, now: Now, report: FetchReport, out: &mut Vec<Effect>) {
        let first = !self.git.looked;
        let news = matches!(report, FetchReport::Done { commits: 1.., .. });
        self.git.looked = true;
        self.git.fetching = false;
        match report {
            FetchReport::NoRemote => self.git.remote = Some(false),
            // It says nothing about the remote.
            FetchReport::Blocked { .. } => {}
            _ => self.git.remote = Some(true),
        }
        let jitter = 0.9 + 0.2 * self.chance.f64();
        self.git.next_fetch = now.mono + self.settings.fetch_interval.mul_f64(jitter);
        let wanted = std::mem::replace(&mut self.git.push, Push::Idle);
        match report {
            FetchReport::NoRemote => {
                self.heal_checkout(out);
                self.trouble(Trouble::Fetch, None, out);
                self.trouble(Trouble::Push, None, out);
                (self.git.failures, self.git.moved) = (0, 0);
            }
            FetchReport::Done { commit, commits, ahead, withdrawn, second } => {
                self.heal_checkout(out);
                self.trouble(Trouble::Fetch, None, out);
                self.trouble(Trouble::SecondDispatcher, second.or_else(|| self.kept_second()), out);
                self.git.tip.clone_from(&commit);
                if commits > 0 {
                    self.git.busy = 0;
                    out.push(Effect::Emit(Event::Fetched { commit, commits }));
                }
                self.withdraw(&withdrawn, out);
                self.now_known(ahead, out);
                self.looked_before_push(now, wanted);
            }
            FetchReport::Blocked { detail, help, ahead } => {
                self.trouble(Trouble::Fetch, None, out);
                self.trouble(Trouble::Checkout, Some(detail.clone()), out);
                self.advise(Trouble::Checkout, help);
                self.now_known(ahead, out);
                self.push_went_wrong(now, wanted, detail, out);
            }
            FetchReport::Diverged { local, remote, message, help } => {
                self.trouble(Trouble::Fetch, None, out);
                if !self.troubles.contains_key(&Trouble::Diverged) {
                    let message = message.clone();
                    out.push(Effect::Emit(Event::Diverged { local, remote, message }));
                }
                self.trouble(Trouble::Diverged, Some(message.clone()), out);
                self.advise(Trouble::Diverged, help);
                self.push_went_wrong(now, wanted, message, out);
            }
            FetchReport::Failed { message } => {
                out.push(Effect::Emit(Event::FetchFailed { message: message.clone() }));
                self.trouble(Trouble::Fetch, Some(message.clone()), out);
                self.push_went_wrong(now, wanted, message, out);
            }
        }
        // Scheduled requests may have been withdrawn or changed where nobody saw it.
        self.inbox.extend(std::mem::take(&mut self.scheduled).into_keys().map(|name| (name, now.mono)));
        // What came in with a fetch lies in the inbox now; `once` must not end before it was offered.
        if first || (news && self.settings.once) {
            self.scanned = false;
            out.push(Effect::Scan);
        }
    }

    fn heal_checkout(&mut self, out: &mut Vec<Effect>) {
        self.trouble(Trouble::Checkout, None, out);
        self.trouble(Trouble::Diverged, None, out);
    }

    /// A second dispatcher stays a trouble until a person resumes.
    fn kept_second(&self) -> Option<String> {
        self.troubles.get(&Trouble::SecondDispatcher).map(|plight| plight.detail.clone())
    }

    /// Where the remote already has what an unclear push may have brought, that push is done.
    fn now_known(&mut self, ahead: bool, out: &mut Vec<Effect>) {
        if ahead {
            self.git.made = self.git.made.max(self.git.published + 1);
        } else if self.git.behind() {
            self.published(self.git.made, self.git.tip.clone(), self.git.failures + self.git.moved, out);
        }
    }

    /// The remote has everything up to this `made`.
    fn published(&mut self, upto: u64, commit: String, attempts: u32, out: &mut Vec<Effect>) {
        (self.git.failures, self.git.moved, self.git.busy) = (0, 0, 0);
        self.git.published = self.git.published.max(upto);
        self.git.pushed.clone_from(&commit);
        let later = self.git.unpushed.split_off(&(upto + 1));
        let runs = std::mem::replace(&mut self.git.unpushed, later).values().sum();
        self.trouble(Trouble::Push, None, out);
        out.push(Effect::Emit(Event::Pushed { commit, runs, attempts }));
    }

    /// The remote answered: a push that waited for that goes on, one that was given up gets another chance.
    fn looked_before_push(&mut self, now: Now, wanted: Push) {
        let over = wanted == Push::Looking || (!self.git.behind() && !matches!(wanted, Push::Flying(_)));
        self.git.push = if over { Push::Idle } else { wanted };
        if self.git.push == Push::GaveUp {
            self.try_once_more(now);
        }
    }

    /// A fetch that went wrong takes a push that waited for it along.
    fn push_went_wrong(&mut self, now: Now, wanted: Push, message: String, out: &mut Vec<Effect>) {
        match wanted {
            Push::Looking | Push::Waiting(_) | Push::GaveUp if !self.git.behind() => self.git.push = Push::Idle,
            Push::Looking => self.push_failed(now, message, out),
            wanted => self.git.push = wanted,
        }
    }

    /// After giving up: one push, and if that fails no back-off.
    fn try_once_more(&mut self, now: Now) {
        self.git.failures = self.settings.push_retries.saturating_sub(1);
        self.git.push = Push::Waiting(now.mono);
    }

    pub(super) fn push_due(&mut self, now: Now, out: &mut Vec<Effect>) {
        if !self.git.behind() || !self.git.looked {
            return;
        }
        match self.git.push {
            Push::Idle if self.busy() && now.mono < self.git.push_after => {}
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

    /// Other runs are under way, whose results will want to be recorded too.
    fn busy(&self) -> bool {
        self.running() > 0 || !self.taking.is_empty()
    }

    pub(super) fn pushed(&mut self, now: Now, report: PushReport, out: &mut Vec<Effect>) {
        self.git.push_after = now.mono + GATHER_PUSH;
        let Push::Flying(upto) = std::mem::replace(&mut self.git.push, Push::Idle) else { return };
        match report {
            PushReport::NoRemote => self.git.remote = Some(false),
            PushReport::Done { commit } => {
                self.published(upto, commit, self.git.failures + self.git.moved + 1, out);
            }
            // A fetch has told meanwhile that the remote has everything.
            PushReport::Moved | PushReport::Busy { .. } | PushReport::Failed { .. } if !self.git.behind() => {}
            PushReport::Moved if self.git.moved < MOVED_OFTEN => self.push_at_once(now),
            PushReport::Busy { .. } if self.git.busy < BUSY_OFTEN => {
                self.git.busy += 1;
                self.push_at_once(now);
            }
            PushReport::Busy { message } => self.push_failed(now, message, out),
            PushReport::Moved => self.push_failed(now, "the remote moved away again and again".to_owned(), out),
            PushReport::Failed { message } => self.push_failed(now, message, out),
        }
    }

    /// After a fetch. The others must not meet us again at the same moment.
    fn push_at_once(&mut self, now: Now) {
        let ceiling = backoff::ceiling(MOVED_FIRST, MOVED_MOST, self.git.moved);
        let delay = backoff::full_jitter(ceiling, self.chance.u32(..));
        self.git.moved += 1;
        self.git.push = Push::Waiting(now.mono + delay);
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
            unpushed: self.git.unpushed(),
        }));
        if over {
            self.trouble(Trouble::Push, Some(message), out);
        }
    }
}
