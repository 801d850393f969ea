//! The pool: who works on what, and who is to be told to end. One slot per run from submission to its end.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::attempt::carry_out;
use super::outcome::{Ended, Finished, Outcome};
use crate::launcher::{Launcher, Order, StartError, Supervised, User};
use crate::request::RunId;
use crate::sandbox::Plan;

/// What an executor needs to know of the host.
#[derive(Clone, Debug)]
pub struct Setup {
    /// For the launcher.
    pub launcher: crate::launcher::Setup,
    /// Folder of the work folders; every folder above it has to be passable for the handlers' user.
    pub work: PathBuf,
    /// Folder for secrets as files, or why there is none.
    pub memory: Result<PathBuf, String>,
}

/// Where the news of an attempt goes while it runs. Called on the worker's thread, one run at a time per thread.
pub trait Sink: Send + Sync {
    /// The lock is held and the handler waits at its gate: what has to be durable before it may run is written here.
    ///
    /// # Errors
    /// Why it must not run; it is then not started.
    fn starting(&self, id: RunId, attempt: u32) -> Result<(), String>;
    /// The handler runs, as `user`.
    fn started(&self, id: RunId, user: &str);
    /// Bytes of stdout and stderr as they came, up to 64 KiB. Untrusted.
    fn output(&self, id: RunId, bytes: &[u8]);
    /// A new step, at most ten times a second. Safe to show.
    fn progress(&self, id: RunId, step: &str, done: Option<u64>, total: Option<u64>);
}

/// How a run is told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// TERM to the tree, KILL after its grace time.
    Gracefully,
    /// KILL to the tree.
    Kill,
}

impl How {
    const fn order(self) -> Order {
        match self {
            Self::Gracefully => Order::Terminate,
            Self::Kill => Order::Kill,
        }
    }
}

/// An attempt was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// All workers are busy and their queue is full.
    #[error("all workers are busy")]
    Full,
    /// An attempt of the same run is not over.
    #[error("an attempt of this run is still being carried out")]
    Running,
}

/// What is known of a run that was submitted.
#[derive(Default)]
struct Slot {
    asked: Option<How>,
    supervised: Option<Arc<Supervised>>,
}

/// What all workers share.
pub(super) struct Shared {
    pub launcher: Launcher,
    pub work: PathBuf,
    pub memory: Result<PathBuf, String>,
    pub sink: Arc<dyn Sink>,
    slots: Mutex<HashMap<RunId, Slot>>,
}

impl Shared {
    fn slots(&self) -> MutexGuard<'_, HashMap<RunId, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on orders go to `supervised`; the one that was given before is passed on.
    pub(super) fn attach(&self, id: RunId, supervised: &Arc<Supervised>) {
        if let Some(slot) = self.slots().get_mut(&id) {
            slot.supervised = Some(Arc::clone(supervised));
            if let Some(how) = slot.asked {
                supervised.order(how.order());
            }
        }
    }

    /// Whether the run was told to end.
    pub(super) fn asked(&self, id: RunId) -> bool {
        self.slots().get(&id).is_some_and(|slot| slot.asked.is_some())
    }
}

/// The pool of workers and their launcher.
pub struct Executor {
    shared: Arc<Shared>,
    queue: Sender<Plan>,
    threads: Vec<JoinHandle<()>>,
}

impl Executor {
    /// Starts the launcher, then `workers` threads. What becomes of every submitted attempt is sent on `finished`.
    ///
    /// # Errors
    /// [`StartError`] of the launcher, or a thread that could not be started.
    pub fn start(
        workers: usize,
        setup: Setup,
        sink: Arc<dyn Sink>,
        finished: Sender<Finished>,
    ) -> Result<Self, StartError> {
        let launcher = Launcher::start(setup.launcher.clone())?;
        let Setup { work: folder, memory, .. } = setup;
        let shared = Arc::new(Shared { launcher, work: folder, memory, sink, slots: Mutex::default() });
        // The engine starts no more runs than there are workers; a second one each is for those that are just ending.
        let (queue, plans) = bounded(workers * 2);
        let mut threads = Vec::with_capacity(workers);
        for number in 1..=workers {
            let (shared, plans, finished) = (Arc::clone(&shared), plans.clone(), finished.clone());
            let name = format!("worker-{number}");
            threads.push(std::thread::Builder::new().name(name).spawn(move || work(&shared, &plans, &finished))?);
        }
        Ok(Self { shared, queue, threads })
    }

    /// Who handlers run as.
    #[must_use]
    pub fn user(&self) -> &User {
        self.shared.launcher.user()
    }

    /// The launcher, for its state.
    #[must_use]
    pub fn launcher(&self) -> &Launcher {
        &self.shared.launcher
    }

    /// Hands an attempt to the next free worker; does not block.
    ///
    /// # Errors
    /// [`SubmitError`], with the attempt not taken.
    pub fn submit(&self, plan: Plan) -> Result<(), SubmitError> {
        let id = plan.id;
        let mut slots = self.shared.slots();
        if slots.contains_key(&id) {
            return Err(SubmitError::Running);
        }
        match self.queue.try_send(plan) {
            Ok(()) => {
                slots.insert(id, Slot::default());
                Ok(())
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(SubmitError::Full),
        }
    }

    /// Tells a run to end, wherever it is; a second, harder order replaces the first. No effect on a run that is over.
    pub fn terminate(&self, id: RunId, how: How) {
        if let Some(slot) = self.shared.slots().get_mut(&id) {
            slot.asked = Some(how);
            if let Some(supervised) = &slot.supervised {
                supervised.order(how.order());
            }
        }
    }

    /// Waits until everything that was submitted is over, then ends the workers and the launcher.
    pub fn join(self) {
        let Self { shared, queue, threads } = self;
        drop(queue);
        for thread in threads {
            // A worker's panic was caught and reported with its run.
            let _ = thread.join();
        }
        if let Ok(memory) = &shared.memory {
            // Empty by now; what is not is cleared at the next start.
            let _ = std::fs::remove_dir(memory);
        }
        drop(shared);
    }
}

fn work(shared: &Shared, plans: &Receiver<Plan>, finished: &Sender<Finished>) {
    for plan in plans {
        let (id, attempt) = (plan.id, plan.attempt);
        // Dropping the run's socket on the way out has its supervisor kill the tree.
        let outcome = catch_unwind(AssertUnwindSafe(|| carry_out(shared, &plan)));
        shared.slots().remove(&id);
        let outcome =
            outcome.unwrap_or_else(|_| Outcome { started: true, ..Outcome::of(None, true, false, &plan.limits) });
        debug_assert!(outcome.started || !matches!(outcome.ended, Ended::Exited(_)));
        if finished.send(Finished { id, attempt, outcome }).is_err() {
            return;
        }
    }
}
