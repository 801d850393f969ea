//! What the host's administrator decides: every setting of `config.yml`, typed, with its default. Reading them is the
//! business of `load`; a value of this type is within all bounds.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::request::Kind;

/// How much a part of the sandbox is insisted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Use it, and say so where it cannot be had.
    Auto,
    /// Refuse to start without it.
    Require,
    /// Do without.
    Off,
}

/// What a handler is held by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxSettings {
    /// Name or number of the user that handlers run as; none: `nobody` where root starts the dispatcher, else its own
    /// user.
    pub user: Option<String>,
    /// Handlers may run as root.
    pub allow_root: bool,
    /// Control group v2.
    pub cgroup: Mode,
    /// The delegated control group to work in; none: found out.
    pub cgroup_path: Option<PathBuf>,
    /// Landlock.
    pub landlock: Mode,
    /// The system call filter.
    pub seccomp: Mode,
}

/// How https remotes are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpsSettings {
    /// File with the access token, or `user:password`.
    pub token_file: Option<PathBuf>,
    /// The same as a systemd credential; counts where there is no file.
    pub token_credential: Option<String>,
    /// Certificates that a remote is trusted by.
    pub ca_file: Option<PathBuf>,
}

/// Author and committer of result commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The name.
    pub name: String,
    /// The address; none: `dispatcher@HOST`.
    pub email: Option<String>,
}

/// Rotation of `dispatcher.log` and `events.jsonl`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRotate {
    /// Bytes after which a new file is begun.
    pub size: u64,
    /// How many old files are kept.
    pub keep: u32,
}

/// Where the value of a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In a file, by absolute path.
    File(PathBuf),
    /// In a variable of the dispatcher's own environment.
    Env(String),
    /// In a systemd credential.
    Credential(String),
}

/// A secret that handlers of some kinds may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// Where its value is.
    pub source: SecretSource,
    /// The kinds that may have it; at least one.
    pub kinds: Vec<Kind>,
}

/// Every setting of the host (CONTRACT section 9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Name of the git remote.
    pub remote: String,
    /// The branch that carries requests and results.
    pub branch: String,
    /// How often the remote is looked at.
    pub fetch_interval: Duration,
    /// How often the inbox is scanned.
    pub scan_interval: Duration,
    /// Deadline of one network operation of git.
    pub git_timeout: Duration,
    /// Pushes that are tried again before the dispatcher waits for the next result or fetch.
    pub push_retries: u32,
    /// How https remotes are reached.
    pub https: HttpsSettings,
    /// Runs at the same time.
    pub workers: usize,
    /// How long a stop waits for running handlers.
    pub drain_timeout: Duration,
    /// Runs that stay on the branch; older ones are archived.
    pub keep_recent: usize,
    /// Author and committer of result commits.
    pub identity: Identity,
    /// What a handler is held by.
    pub sandbox: SandboxSettings,
    /// Secrets by the name of the variable that carries them.
    pub secrets: BTreeMap<String, Secret>,
    /// Bytes of one run's log, over all attempts.
    pub log_limit: u64,
    /// Rotation of the dispatcher's own logs.
    pub log_rotate: LogRotate,
    /// Free bytes below which new work waits; 0 switches the floor off.
    pub min_free: u64,
    /// Where metrics, health and the push hook are served; none: nowhere.
    pub listen: Option<SocketAddr>,
    /// File with the secret of the push hook.
    pub webhook_secret_file: Option<PathBuf>,
    /// `requests/.dispatcher.yml` in git can pause intake.
    pub git_pause: bool,
    /// Folder of the resource locks; none: found out (see `places`).
    pub lock_dir: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            remote: "origin".to_owned(),
            branch: "main".to_owned(),
            fetch_interval: Duration::from_secs(15),
            scan_interval: Duration::from_secs(30),
            git_timeout: Duration::from_secs(60),
            push_retries: 8,
            https: HttpsSettings::default(),
            workers: 4,
            drain_timeout: Duration::from_secs(300),
            keep_recent: 500,
            identity: Identity { name: "dispatcher".to_owned(), email: None },
            sandbox: SandboxSettings {
                user: None,
                allow_root: false,
                cgroup: Mode::Auto,
                cgroup_path: None,
                landlock: Mode::Auto,
                seccomp: Mode::Auto,
            },
            secrets: BTreeMap::new(),
            log_limit: 4 << 20,
            log_rotate: LogRotate { size: 16 << 20, keep: 8 },
            min_free: 1 << 30,
            listen: None,
            webhook_secret_file: None,
            git_pause: false,
            lock_dir: None,
        }
    }
}
