//! What daemon, launcher and supervisors say to each other. Plain data; both ends are the same program.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::secret::SecretValue;

/// What a launcher is told once, at its start, by the host's configuration. Never by a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Setup {
    /// The program to exec as launcher; the running one where absent.
    pub exe: Option<PathBuf>,
    /// User name or number for handlers. Absent: `nobody` where users can be switched, else the dispatcher's own.
    pub user: Option<String>,
    /// Whether handlers may run as root (without capabilities).
    pub allow_root: bool,
    /// Folder of the locks; made where it is missing.
    pub lock_dir: PathBuf,
    /// Landlock.
    pub landlock: Insist,
    /// The filter of system calls.
    pub seccomp: Insist,
    /// Files and folders that no handler may read, whatever its user may; absolute.
    pub hidden: Vec<PathBuf>,
}

/// How much a part of the sandbox is insisted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Insist {
    /// Used where it can be had.
    Auto,
    /// No launcher without it.
    Require,
    /// Not used.
    Off,
}

/// What holds the handlers of a launcher besides their user, found out by trying.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walls {
    /// The version of Landlock's interface; absent where it is not in use.
    pub landlock: Option<u32>,
    /// System calls are filtered.
    pub seccomp: bool,
    /// A run can get a network namespace of its own.
    pub network: bool,
}

impl Walls {
    /// Whether a run can be kept from the network: by its namespace, or by a filter that refuses it sockets.
    #[must_use]
    pub const fn no_network(self) -> bool {
        self.network || self.seccomp
    }
}

/// The user that handlers run as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its name, or the number where it has none.
    pub name: String,
    /// Numeric user.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// Not the dispatcher's own: the leader switches.
    pub switch: bool,
}

/// The launcher's first words.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Hello {
    Ready { user: User, isolated: bool, walls: Walls },
    Refused(String),
}

/// Asks the launcher for a supervisor. Beside it: the spec as a memory file, the control socket, the output pipe.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Fork {
    /// File name in the lock folder.
    pub lock: String,
}

/// What the tree of a run is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boxes {
    /// From `Go` to TERM.
    pub timeout: Duration,
    /// From TERM to KILL.
    pub grace: Duration,
    /// Resident bytes of the whole tree.
    pub memory: Option<u64>,
    /// Tasks (processes and threads) of the whole tree.
    pub pids: Option<u64>,
}

/// One run, as its supervisor gets it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunSpec {
    /// File name in the lock folder.
    pub lock: String,
    /// Absolute path.
    pub program: PathBuf,
    /// Without the program's own name.
    pub args: Vec<String>,
    /// The whole environment, but for what follows.
    pub env: Vec<(String, String)>,
    /// Variables that hold secrets; no name is in `env` too.
    pub secrets: Vec<(String, SecretValue)>,
    /// A folder that the supervisor removes when nothing of the run is left: whoever made it may be dead by then.
    pub scrub: Option<PathBuf>,
    /// Working folder.
    pub cwd: PathBuf,
    /// The folder of the run, which it may read and write.
    pub own: PathBuf,
    /// What it may read besides what is hidden from nobody.
    pub read: Vec<PathBuf>,
    /// What it may write besides its own folder.
    pub write: Vec<PathBuf>,
    /// It gets no network, where that can be had.
    pub no_network: bool,
    /// Its limits.
    pub boxes: Boxes,
}

impl RunSpec {
    /// One that asks for everything and means nothing: to try the walls with.
    pub(super) fn bare() -> Self {
        let boxes = Boxes { timeout: Duration::ZERO, grace: Duration::ZERO, memory: None, pids: None };
        Self {
            lock: String::new(),
            program: PathBuf::new(),
            args: Vec::new(),
            env: Vec::new(),
            secrets: Vec::new(),
            scrub: None,
            cwd: PathBuf::new(),
            own: PathBuf::new(),
            read: Vec::new(),
            write: Vec::new(),
            no_network: true,
            boxes,
        }
    }
}

/// Worker to supervisor. A closed socket means: kill the tree at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Open the gate.
    Go,
    /// TERM to the tree, KILL after the grace time.
    Terminate,
    /// KILL to the tree.
    Kill,
}

/// Where a start failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// In the launcher or the supervisor: opening the lock file, reading the spec, forking.
    Fork,
    /// Session, descriptors, signals, limits.
    Prepare,
    /// Switching to the run's user.
    User,
    /// Giving up privileges, or proving it.
    Privileges,
    /// Entering the working folder.
    Folder,
    /// Landlock, the filter of system calls, the network.
    Walls,
    /// Told to stop before the gate was opened.
    Gate,
    /// `execve`.
    Exec,
}

/// Why the tree was told to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// The leader ended by itself.
    Own,
    /// Time box.
    TimedOut,
    /// Memory box.
    OutOfMemory,
    /// Process box.
    TooManyProcesses,
    /// By an [`Order`].
    Terminated,
}

/// Supervisor to worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// Somebody else holds the resource's lock; nothing was started.
    LockBusy,
    /// The lock is held; the leader waits at the gate, all privileges given up.
    Ready,
    /// The handler runs.
    Started,
    /// It never ran; nothing of it is left and the lock is free.
    Refused {
        /// How far it came.
        stage: Stage,
        /// What the system said; 0 where it said nothing.
        errno: i32,
        /// Complete on its own.
        message: String,
        /// What to do next.
        help: Option<String>,
    },
    /// The leader ended, nothing of the tree is left and the lock is free.
    Exited {
        /// Exit code of the leader.
        code: Option<i32>,
        /// Signal that ended the leader.
        signal: Option<i32>,
        /// User and system time of the tree.
        cpu_ms: u64,
        /// Largest resident size seen.
        max_rss_bytes: u64,
        /// Processes that were alive when the leader had ended by itself.
        leaked_processes: u64,
        /// What made it end.
        why: Why,
    },
}
