//! The clerk's part of following the remote: the branch and the archive after a fetch, and a person's decision about a
//! remote that was rewritten.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use crate::command::Side;
use crate::daemon::clerk::Clerk;
use crate::diagnostic::Diagnostic;
use crate::engine::{ArchiveReport, FetchReport, Withdrawal};
use crate::event::Event;
use crate::repo::{
    Blocked, CheckoutState, Decided, Elsewhere, FetchError, FetchOutcome, Integrated, Oid, RepoError, TakenPath, Why,
};

impl Clerk {
    pub(super) fn taken_paths(&self) -> Vec<TakenPath> {
        let taken =
            self.book.taken().into_iter().map(|(name, taken)| TakenPath { name: name.into_vec(), oid: taken.oid });
        taken.collect()
    }

    pub(super) fn integrate(&mut self, fetched: Result<FetchOutcome, FetchError>) -> FetchReport {
        self.mend_index();
        let report = match fetched {
            Err(error) => {
                self.heed(error.is_unsynced(), &error);
                self.unasked(error.diagnostic().message)
            }
            Ok(FetchOutcome::NoRemote) => FetchReport::NoRemote,
            Ok(FetchOutcome::Fetched { new_commits, .. }) => self.bring(new_commits),
        };
        match self.elsewhere() {
            // Also where nothing new had to be brought: the files that lie here are not the branch's.
            Some(problem) if !matches!(report, FetchReport::Diverged { .. } | FetchReport::Blocked { .. }) => {
                blocked(problem, report != FetchReport::NoRemote && self.ahead())
            }
            _ => report,
        }
    }

    /// Why the work tree is not the branch's: another one is checked out, or a merge is in progress.
    pub(super) fn elsewhere(&self) -> Option<Diagnostic> {
        let state = self.repo.checkout_state().ok()?;
        if matches!(state, CheckoutState::OnBranch | CheckoutState::IndexLocked { .. }) {
            return None;
        }
        Some(Blocked { paths: Vec::new(), why: Why::Checkout(state) }.diagnostic())
    }

    /// What cannot be told counts as ahead: a push too many does no harm.
    fn ahead(&self) -> bool {
        self.repo.unpublished().map_or(true, |own| !own.is_empty())
    }

    /// Follows what earlier fetches brought although the remote could not be asked: a crash may have come in the middle
    /// of that, and then requests lie in the inbox that HEAD does not hold.
    fn unasked(&self, message: String) -> FetchReport {
        let before = self.repo.tip().ok();
        let report = self.bring(0);
        if matches!(report, FetchReport::Done { .. }) && before == self.repo.tip().ok() {
            return FetchReport::Failed { message };
        }
        // The report says what became of the checkout; the next fetch says the rest.
        self.scribe.emit(Event::FetchFailed { message });
        report
    }

    /// Whatever goes wrong here holds intake: work tree and HEAD may be of different commits.
    fn bring(&self, commits: usize) -> FetchReport {
        self.follow(commits).unwrap_or_else(|error| {
            self.heed(error.is_unsynced(), &error);
            blocked(error.diagnostic(), self.ahead())
        })
    }

    fn follow(&self, commits: usize) -> Result<FetchReport, RepoError> {
        let integrated = self.repo.integrate(&self.taken_paths())?;
        let ahead = !self.repo.unpublished()?.is_empty();
        let (from, to, elsewhere) = match integrated {
            Integrated::Unchanged => (None, None, Vec::new()),
            Integrated::FastForwarded { from, to, elsewhere, left_out } => {
                self.left_out(&left_out);
                (from, Some(to), elsewhere)
            }
            Integrated::Replayed { from, to, elsewhere, left_out, .. } => {
                self.left_out(&left_out);
                (Some(from), Some(to), elsewhere)
            }
            Integrated::Diverged { local, remote } => {
                let show = |oid: Option<Oid>| oid.map_or_else(|| "nothing".to_owned(), |oid| oid.to_string());
                let Diagnostic { message, help, .. } = self.repo.divergence(local, remote)?;
                return Ok(FetchReport::Diverged { local: show(local), remote: show(remote), message, help });
            }
            Integrated::Blocked(why) => return Ok(blocked(why.diagnostic(), ahead)),
        };
        let tip = match to {
            Some(to) => Some(to),
            None => self.repo.tip()?,
        };
        Ok(FetchReport::Done {
            commit: tip.map_or_else(String::new, |tip| tip.to_string()),
            commits,
            ahead,
            withdrawn: self.withdrawn(from, to)?,
            second: second(&elsewhere),
        })
    }

    fn left_out(&self, paths: &[String]) {
        if !paths.is_empty() {
            let list = paths.join(", ");
            self.scribe
                .warn(&Diagnostic::new("E0515", format!("no work tree can hold {list}: left in the commit only")));
        }
    }

    fn withdrawn(&self, from: Option<Oid>, to: Option<Oid>) -> Result<Vec<Withdrawal>, RepoError> {
        let (Some(from), Some(to)) = (from, to) else { return Ok(Vec::new()) };
        let gone = self.repo.withdrawn(from, to, &self.taken_paths())?;
        let gone = gone.into_iter().filter(|gone| !gone.recorded).map(|gone| Withdrawal {
            name: OsString::from_vec(gone.name),
            commit: gone.commit.to_string(),
            author: gone.author.name.map_or_else(|| "somebody".to_owned(), |name| crate::text::line(&name)),
        });
        Ok(gone.collect())
    }

    pub(super) fn archive(&self, keep: usize, least: usize, most: usize) -> ArchiveReport {
        match self.repo.retire(keep, least, most, &self.taken_paths()) {
            Ok(step) => {
                if step.moved > 0 {
                    self.scribe.note(&format!("moved {} runs from the branch to the archive", step.moved));
                }
                let commit = step.commit.map(|commit| commit.to_string());
                ArchiveReport::Done { commit, unpublished: step.unpublished, more: step.more }
            }
            Err(error) => {
                self.heed(error.is_unsynced(), &error);
                ArchiveReport::Failed { message: error.to_string() }
            }
        }
    }

    /// Brings the archive up to what a fetch saw; true where the remote's lacks something of ours.
    pub(super) fn follow_archive(&self) -> bool {
        let joined = self.repo.join_archives();
        match &joined {
            Ok(told) => told.iter().for_each(|problem| self.scribe.warn(problem)),
            Err(error) => {
                self.heed(error.is_unsynced(), error);
                self.scribe.warn(&error.diagnostic());
            }
        }
        joined.is_ok() && self.repo.archive_is_ahead().unwrap_or(false)
    }

    pub(super) fn decide(&self, side: Side) -> Result<Decided, Diagnostic> {
        // Without a divergence either side would drop a person's commits.
        let heeded = |error: RepoError| {
            self.heed(error.is_unsynced(), &error);
            error.diagnostic()
        };
        if !self.repo.is_diverged().map_err(heeded)? {
            let problem =
                Diagnostic::new("E0520", "local and remote branch have not diverged: nothing is to be decided");
            return Err(problem.help("dispatcher resume     lets new work begin again"));
        }
        let decided = match side {
            Side::AcceptRemote => self.repo.accept_remote(&self.taken_paths()),
            Side::KeepLocal => self.repo.keep_local(),
        };
        match decided.map_err(heeded)? {
            Decided { outcome: Integrated::Blocked(blocked), .. } => Err(blocked.diagnostic()),
            decided => Ok(decided),
        }
    }
}

fn blocked(problem: Diagnostic, ahead: bool) -> FetchReport {
    FetchReport::Blocked { detail: problem.message, help: problem.help, ahead }
}

fn second(elsewhere: &[Elsewhere]) -> Option<String> {
    elsewhere.first().map(|first| match first {
        Elsewhere::Run { id } => format!("another dispatcher recorded run {id} on this branch too"),
        Elsewhere::Request { name, .. } => {
            format!("another dispatcher recorded `{}` on this branch too", crate::text::bytes(name))
        }
    })
}
