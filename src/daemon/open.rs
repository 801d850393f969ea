//! Start-up: everything that must be there before the first request is looked at, in the order in which it must be.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::config::Config;
use crate::config::places::{Host, Places};
use crate::console::{Colours, Console, Terminal};
use crate::daemon::clock::Clock;
use crate::daemon::library::Source;
use crate::daemon::scribe::Scribe;
use crate::diagnostic::Diagnostic;
use crate::instance::{Holder, Instance};
use crate::journal::{Journal, Rotate};
use crate::launcher;
use crate::repo::{HttpsSettings, Identity, Repo, Settings, Token};
use crate::request::RunId;
use crate::runs::Runs;
use crate::sandbox;
use crate::vault::Vault;

/// Reads the host's configuration again.
#[derive(Clone)]
pub struct Reread(pub Arc<dyn Fn() -> Result<Config, Vec<Diagnostic>> + Send + Sync>);

impl std::fmt::Debug for Reread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reread")
    }
}

/// How the daemon was started.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where; the repository is found from here.
    pub dir: PathBuf,
    /// Of the host.
    pub config: Config,
    /// Work until nothing is left to do, then exit.
    pub once: bool,
    /// Where people watch.
    pub terminal: Terminal,
    /// Colours on the terminal.
    pub colors: bool,
    /// No glyphs beyond ASCII on the terminal.
    pub plain: bool,
    /// `DISPATCHER_HANDLERS`.
    pub handlers: Vec<PathBuf>,
    /// inotify; scans alone find everything too.
    pub watch: bool,
    /// Where local state, socket and locks lie; none: found from configuration and environment.
    pub places: Option<Places>,
    /// On HUP; none: the configuration stays as it is.
    pub reread: Option<Reread>,
}

/// The daemon could not start, or could not go on.
#[derive(Clone, Debug)]
pub struct Refused {
    /// What the process exits with.
    pub exit: i32,
    /// Why.
    pub problems: Vec<Diagnostic>,
}

impl Refused {
    /// One problem.
    #[must_use]
    pub fn new(exit: i32, problem: Diagnostic) -> Self {
        Self { exit, problems: vec![problem] }
    }

    /// Reading or writing failed.
    #[must_use]
    pub fn io(what: &str, error: &dyn std::fmt::Display) -> Self {
        Self::new(74, Diagnostic::new("E0704", format!("failed to {what}: {error}")))
    }
}

/// What the daemon stands on.
pub struct Ground {
    pub(super) repo: Repo,
    pub(super) places: Places,
    pub(super) instance: Instance,
    pub(super) scribe: Arc<Scribe>,
    pub(super) vault: Arc<Vault>,
    pub(super) memory: Result<PathBuf, String>,
    pub(super) clock: Clock,
    pub(super) host: String,
    pub(super) source: Source,
}

/// The machine's name.
#[must_use]
pub fn host_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "localhost".to_owned())
}

/// The environment and the user, for finding places.
fn places(config: &Config, root: &Path) -> Result<Places, Diagnostic> {
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    Places::find(config, Host { env: &env, uid: nix::unistd::geteuid().as_raw() }, root)
}

/// Where local state, socket and locks of the repository at `root` lie.
///
/// # Errors
/// E0807 where the environment names no folder for local state.
pub fn find_places(config: &Config, root: &Path) -> Result<Places, Diagnostic> {
    places(config, root)
}

/// What git needs to know.
#[must_use]
pub fn git_settings(config: &Config) -> Settings {
    let email = config.identity.email.clone().unwrap_or_else(|| format!("dispatcher@{}", host_name()));
    Settings {
        remote: config.remote.clone(),
        branch: config.branch.clone(),
        timeout: config.git_timeout,
        https: HttpsSettings {
            token: match (&config.https.token_file, &config.https.token_credential) {
                (Some(path), _) => Some(Token::File(path.clone())),
                (None, Some(name)) => Some(Token::Credential(name.clone())),
                (None, None) => None,
            },
            ca_file: config.https.ca_file.clone(),
        },
        identity: Identity { name: config.identity.name.clone(), email },
    }
}

/// Opens the repository that `dir` lies in and refuses one that was never made a dispatch repository.
///
/// # Errors
/// 78 with what to do.
pub fn open_repo(dir: &Path, config: &Config) -> Result<Repo, Refused> {
    let repo = Repo::open(dir, git_settings(config)).map_err(|error| Refused::new(78, error.diagnostic()))?;
    let root = repo.root();
    if !root.join("requests").is_dir() && !root.join("handlers").is_dir() {
        return Err(never_made(root));
    }
    let remotes = repo.remote_names();
    if !remotes.is_empty() && !remotes.contains(&config.remote) {
        let list = remotes.iter().map(|name| format!("`{}`", crate::text::line(name))).collect::<Vec<_>>().join(", ");
        let problem = Diagnostic::new("E0819", format!("this repository has no remote `{}`", config.remote))
            .note(format!("it has {list}; results would never be pushed"))
            .help("name one of them: `remote:` in the host configuration, or DISPATCHER_REMOTE");
        return Err(Refused::new(78, problem));
    }
    Ok(repo)
}

/// The repository has none of the folders that it should have.
#[must_use]
pub fn never_made(root: &Path) -> Refused {
    let problem = Diagnostic::new("E0516", format!("`{}` was never made a dispatch repository", root.display()))
        .note("it has neither `handlers/` nor `requests/`")
        .help(format!("dispatcher init {}", root.display()));
    Refused::new(78, problem)
}

impl Ground {
    /// Takes the instance lock and opens everything that a run writes to.
    ///
    /// # Errors
    /// 78 configuration, 75 where another dispatcher works on the repository, 74 where the disk fails.
    pub fn prepare(options: &Options) -> Result<Self, Refused> {
        let clock = Clock::start();
        let repo = open_repo(&options.dir, &options.config)?;
        let root = repo.root().to_owned();
        let places = match &options.places {
            Some(places) => places.clone(),
            None => find_places(&options.config, &root).map_err(|problem| Refused::new(78, problem))?,
        };
        places.make(nix::unistd::geteuid().as_raw()).map_err(|problem| Refused::new(78, problem))?;
        let host = host_name();
        let holder = Holder {
            pid: std::process::id(),
            since: clock.wall(),
            host: host.clone(),
            socket: places.socket(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let mut instance = Instance::acquire(&places.state.path, &holder)
            .map_err(|error| Refused::new(error.exit(), error.diagnostic(&root)))?;
        instance
            .claim(repo.common(), repo.owner(), &holder)
            .map_err(|error| Refused::new(error.exit(), error.diagnostic(&root)))?;
        close_git_folder(&repo, &options.config);
        // From here on everything that an earlier life left is ours.
        let swept = repo.sweep_locks().map_err(|error| Refused::new(74, error.diagnostic()))?;
        repo.info_exclude().map_err(|error| Refused::new(74, error.diagnostic()))?;
        for folder in ["requests", "processed", "logs"] {
            let path = root.join(folder);
            std::fs::create_dir_all(&path)
                .map_err(|error| Refused::io(&format!("make `{}`", path.display()), &error))?;
        }
        let keep = usize::try_from(options.config.log_rotate.keep).unwrap_or(usize::MAX);
        let rotate = Rotate { size: options.config.log_rotate.size, keep };
        let logs = root.join("logs");
        let failed = |error: std::io::Error| Refused::io(&format!("open the logs in `{}`", logs.display()), &error);
        let journal = Journal::open(&logs, rotate).map_err(failed)?;
        let colours = Colours { log: true, terminal: options.colors, plain: options.plain };
        let console = Console::open(&logs, rotate, options.terminal, colours).map_err(failed)?;
        let vault = Arc::new(Vault::new(options.config.secrets.clone()));
        let unread = vault.read_all();
        if !options.config.secrets.is_empty() {
            // Its memory and its environment are nobody else's business, nor that of a core dump: handlers may run as
            // the same user.
            nix::sys::prctl::set_dumpable(false).map_err(|errno| Refused::io("close the own memory", &errno))?;
        }
        let scribe = Arc::new(Scribe::new(journal, console, clock, Arc::clone(&vault)));
        unread.iter().for_each(|problem| scribe.warn(problem));
        for path in swept {
            scribe.note(&format!("removed `{}`, left by a dispatcher that was killed", path.display()));
        }
        repo.unstage_lost().map_err(|error| Refused::new(74, error.diagnostic()))?;
        let torn = repo.mend_torn().map_err(|error| Refused::new(74, error.diagnostic()))?;
        if let Some(first) = torn.first() {
            scribe.note(&format!("wrote {} torn files of recorded runs again, `{first}` first", torn.len()));
        }
        let staging = places.state.path.join("staged");
        let work = places.state.path.join("work");
        let runs = Runs::new(&root, places.state.path.join("aside"), &host);
        end_leftovers(&repo, &runs, &work, &scribe)?;
        let memory = memory_base(&options.config, &places);
        for (what, folder) in [("the staged handlers", &staging), ("the work folders", &work)] {
            // They are in nobody's way: every copy and every attempt has a folder of its own.
            if let Err(error) = sandbox::clear(folder) {
                scribe.warn(&Diagnostic::new(
                    "E0704",
                    format!("failed to clear {what} in `{}`: {error}", folder.display()),
                ));
            }
        }
        let source = Source { root, extra: options.handlers.clone(), staging };
        Ok(Self { repo, places, instance, scribe, vault, memory, clock, host, source })
    }
}

/// Where secrets that are given as files lie. A name of its own for each local state: two daemons clear nothing of each
/// other's. Made also where it is not needed, because that clears what an earlier life left.
fn memory_base(config: &Config, places: &Places) -> Result<PathBuf, String> {
    let base = sandbox::memory_base(&crate::config::places::repo_id(&places.state.path))?;
    if config.secrets.is_empty() {
        let _ = std::fs::remove_dir(base);
        return Err("no secret was configured when the dispatcher started; start it again".to_owned());
    }
    Ok(base)
}

/// Where handlers run as another user, that user has no business in the git folder: it is closed to all but its owner and
/// group. (Handlers that run as the dispatcher's own user are held by nothing there.)
fn close_git_folder(repo: &Repo, config: &Config) {
    use std::os::unix::fs::PermissionsExt as _;
    let switched = nix::unistd::geteuid().is_root() && !config.sandbox.allow_root;
    let Ok(meta) = std::fs::metadata(repo.common()) else { return };
    let mode = meta.permissions().mode();
    if switched && mode & 0o007 != 0 {
        // Where this cannot be done, as on a file system without modes, things stay as they are.
        let _ = std::fs::set_permissions(repo.common(), std::fs::Permissions::from_mode(mode & 0o7770));
    }
}

/// Kills what an earlier life has left of its runs, before anything that they may still use is removed. Only by what a
/// process itself carries, never by a stored number: numbers are used again.
fn end_leftovers(repo: &Repo, runs: &Runs, work: &Path, scribe: &Scribe) -> Result<(), Refused> {
    let failed = |error: &dyn std::fmt::Display| Refused::io("find what an earlier life left", error);
    let recorded: BTreeSet<RunId> = repo.recorded_ids().map_err(|error| failed(&error))?.into_iter().collect();
    let mut ids = runs.ids().map_err(|error| failed(&error))?;
    ids.retain(|id| !recorded.contains(id) && !repo.archived(*id).is_ok_and(|run| run.is_some()));
    // A run whose folder a person has removed had a work folder, `<id>.<attempt>`, while it ran.
    let names = std::fs::read_dir(work).into_iter().flatten().flatten().map(|entry| entry.file_name());
    ids.extend(names.filter_map(|name| name.to_str()?.split_once('.')?.0.parse::<RunId>().ok()));
    let killed = if ids.is_empty() { 0 } else { launcher::sweep(&ids) };
    if killed > 0 {
        scribe.note(&format!("killed {killed} processes that an earlier life had left"));
    }
    Ok(())
}

/// A shelf with one library on it.
pub fn shelf(library: Arc<super::library::Library>) -> super::clerk::Shelf {
    Arc::new(Mutex::new(library))
}
