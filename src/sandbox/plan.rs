//! One attempt of a run as it is to be carried out: plain data, all decisions taken.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::mask::Mask;
use crate::request::{Kind, Resource, RunId};
use crate::secret::SecretValue;
use crate::time::Time;

/// What one attempt is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Per attempt, from the start of the handler: then TERM to the whole tree.
    pub timeout: Duration,
    /// From TERM to KILL.
    pub grace: Duration,
    /// Resident bytes of the whole tree.
    pub memory: Option<u64>,
    /// Processes and threads of the whole tree.
    pub pids: Option<u64>,
}

/// One attempt.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The run.
    pub id: RunId,
    /// 1 for the first.
    pub attempt: u32,
    /// What is asked for.
    pub kind: Kind,
    /// What is locked meanwhile.
    pub resource: Resource,
    /// Absolute path of the staged handler; the run's user can read and execute it.
    pub program: PathBuf,
    /// The folder of all that is staged beside it.
    pub library: PathBuf,
    /// Paths outside its own folder that it may write to.
    pub write: Vec<PathBuf>,
    /// It gets no network.
    pub no_network: bool,
    /// The request's bytes as they were taken.
    pub request: Vec<u8>,
    /// What was validated.
    pub params: Map<String, Value>,
    /// What it is held to.
    pub limits: Limits,
    /// The router's variables; a later name wins.
    pub env: Vec<(String, String)>,
    /// By the names of the variables that carry them.
    pub secrets: Vec<(String, SecretValue)>,
    /// The variables hold paths of files in memory instead of the values.
    pub secrets_as_files: bool,
    /// Of what the handler says through its files: progress and result.
    pub mask: Arc<Mask>,
    /// When the time box ends, on the wall clock; only told to the handler, nothing is decided by it.
    pub deadline: Time,
    /// Told to the handler.
    pub dry_run: bool,
}
