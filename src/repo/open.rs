//! Opening a repository. Owns the list of repositories that are refused, each with what to do about it.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::{Config, ErrorCode, Oid, Reference, Repository, Signature};

use super::archive::{self, Days};
use super::error::{Doing, RepoError};
use super::login::HttpsSettings;
use super::wire::{Stop, Stopper};
use super::{https, library, lock};
use crate::diagnostic::Diagnostic;
use crate::text;

/// Who makes our commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `dispatcher`.
    pub name: String,
    /// `dispatcher@HOST`.
    pub email: String,
}

/// What the host's configuration says about git.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The remote's name; a repository that has none of this name works alone.
    pub remote: String,
    /// The one branch that is worked on.
    pub branch: String,
    /// Of each network operation.
    pub timeout: Duration,
    /// How https remotes are reached.
    pub https: HttpsSettings,
    /// Author and committer.
    pub identity: Identity,
}

/// An open repository with a work tree. `Send`, not `Sync`: each thread opens its own.
pub struct Repo {
    pub(super) git: Repository,
    pub(super) root: PathBuf,
    /// Index and HEAD.
    pub(super) gitdir: PathBuf,
    /// Objects and refs; the same folder except in a linked work tree.
    pub(super) common: PathBuf,
    pub(super) settings: Settings,
    /// User and group of the git folder: whom new files belong to.
    pub(super) owner: (u32, u32),
    /// The newest commit that is on the disk for sure, with all that it needs.
    pub(super) durable: Cell<Option<Oid>>,
    /// Hangs up where the network verbs are to end.
    pub(super) stop: Option<Stop>,
    /// What was read of the archive.
    pub(super) days: RefCell<Days>,
}

/// A repository that cannot be worked on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No git folder here or above.
    #[error("`{0}` is not in a git repository")]
    NotARepo(String),
    /// No work tree.
    #[error("`{0}` is a bare repository; the dispatcher works in a checkout")]
    Bare(String),
    /// Another object format than SHA-1.
    #[error("`{dir}` uses the object format `{format}`; only `sha1` can be read")]
    ObjectFormat {
        /// The repository.
        dir: String,
        /// As its configuration says.
        format: String,
    },
    /// Another ref storage than files.
    #[error("`{dir}` stores its refs as `{format}`; only `files` can be read")]
    RefStorage {
        /// The repository.
        dir: String,
        /// As its configuration says.
        format: String,
    },
    /// A partial clone: objects may be missing.
    #[error("`{0}` is a partial clone; the dispatcher needs all objects")]
    Partial(String),
    /// A shallow clone: history is missing.
    #[error("`{0}` is a shallow clone; the dispatcher needs the whole history")]
    Shallow(String),
    /// It belongs to somebody else.
    #[error("`{dir}` belongs to user {owner}, and this is user {user}")]
    Foreign {
        /// The git folder.
        dir: String,
        /// Its numeric owner.
        owner: u32,
        /// The numeric effective user.
        user: u32,
    },
    /// The configured branch or remote cannot be a name in git.
    #[error("`{value}` cannot be the name of a {what}")]
    Name {
        /// `branch` or `remote`.
        what: &'static str,
        /// As configured.
        value: String,
    },
    /// The configured identity cannot be written into a commit.
    #[error("`{0}` cannot be the author of a commit")]
    Identity(String),
    /// Anything else.
    #[error(transparent)]
    Git(#[from] RepoError),
}

impl OpenError {
    /// The error as people read it.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        let (code, help): (_, &[&str]) = match self {
            Self::NotARepo(_) => {
                ("E0503", &["dispatcher init     makes a repository here", "dispatcher -C DIR   works on another one"])
            }
            Self::Bare(_) => {
                ("E0504", &["git clone THIS-REPOSITORY /srv/ops-requests     then start the dispatcher there"])
            }
            Self::ObjectFormat { .. } => ("E0505", &["make it anew with `git init --object-format=sha1`"]),
            Self::RefStorage { .. } => ("E0505", &["git refs migrate --ref-format=files"]),
            Self::Partial(_) => ("E0506", &["clone it again without `--filter`"]),
            Self::Shallow(_) => ("E0506", &["git fetch --unshallow"]),
            Self::Foreign { .. } => ("E0507", &["run the dispatcher as the owner of the repository, or as root"]),
            Self::Name { .. } => (
                "E0508",
                &["`branch` and `remote` in the host configuration are plain names such as `main` and `origin`"],
            ),
            Self::Identity(_) => (
                "E0508",
                &["`identity` in the host configuration needs a name and an address without `<`, `>` and line breaks"],
            ),
            Self::Git(e) => return e.diagnostic(),
        };
        help.iter().fold(Diagnostic::new(code, self.to_string()), |d, h| d.help(*h))
    }
}

impl Repo {
    /// Opens the repository that `dir` lies in.
    ///
    /// # Errors
    /// Every variant of [`OpenError`]; all of them are configuration (exit 78) but `Git`.
    pub fn open(dir: &Path, settings: Settings) -> Result<Self, OpenError> {
        library::prepare()?;
        check_settings(&settings)?;
        let no_ceiling: [&Path; 0] = [];
        let gitdir = Repository::discover_path(dir, no_ceiling).map_err(|e| match e.code() {
            ErrorCode::NotFound => OpenError::NotARepo(show(dir)),
            _ => OpenError::Git(RepoError::new(format!("open `{}`", show(dir)), e.message())),
        })?;
        let meta = fs::metadata(&gitdir).doing_to("look at", &gitdir)?;
        let user = nix::unistd::geteuid();
        if !user.is_root() && meta.uid() != user.as_raw() {
            return Err(OpenError::Foreign { dir: show(&gitdir), owner: meta.uid(), user: user.as_raw() });
        }
        check_formats(&gitdir)?;
        let git = Repository::open(&gitdir).doing_to("open", &gitdir)?;
        let Some(root) = git.workdir().filter(|_| !git.is_bare()).map(Path::to_owned) else {
            return Err(OpenError::Bare(show(&gitdir)));
        };
        if git.is_shallow() {
            return Err(OpenError::Shallow(show(&root)));
        }
        let root = fs::canonicalize(&root).doing_to("look at", &root)?;
        let (gitdir, common) = (git.path().to_owned(), git.commondir().to_owned());
        Ok(Self {
            git,
            root,
            gitdir,
            common,
            settings,
            owner: (meta.uid(), meta.gid()),
            durable: Cell::new(None),
            stop: None,
            days: RefCell::default(),
        })
    }

    /// The real path of the work tree.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What ends this handle's network verbs when it is dropped.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn stopper(&mut self) -> std::io::Result<Stopper> {
        let (stopper, stop) = Stopper::pair()?;
        self.stop = Some(stop);
        Ok(stopper)
    }

    /// The git folder that all work trees of this clone share.
    #[must_use]
    pub fn common(&self) -> &Path {
        &self.common
    }

    /// The remotes that the repository knows.
    #[must_use]
    pub fn remote_names(&self) -> Vec<String> {
        let names = self.git.remotes();
        let names = names.iter().flat_map(|names| names.iter());
        names.filter_map(|name| name.ok().flatten().map(str::to_owned)).collect()
    }

    /// Numeric user and group that own the git folder.
    #[must_use]
    pub const fn owner(&self) -> (u32, u32) {
        self.owner
    }

    /// Keeps runs in flight out of a person's `git add -A` and `git stash -u`: adds our lines to `.git/info/exclude`
    /// where they are missing.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn info_exclude(&self) -> Result<(), RepoError> {
        let folder = self.common.join("info");
        let path = folder.join("exclude");
        fs::create_dir_all(&folder).doing_to("make", &folder)?;
        let old = match fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            read => read.doing_to("read", &path)?,
        };
        let has = |line: &str| old.split(|&b| b == b'\n').any(|l| l.trim_ascii_end() == line.as_bytes());
        let missing: Vec<&str> = ["/processed/*", "/logs/*"].into_iter().filter(|l| !has(l)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&path).doing_to("open", &path)?;
        let start = if old.is_empty() || old.ends_with(b"\n") { "" } else { "\n" };
        file.write_all(format!("{start}{}\n", missing.join("\n")).as_bytes()).doing_to("write", &path)?;
        self.hand_over(&path);
        Ok(())
    }

    /// Removes locks and temp files that a crash of ours left, and names the locks. Only under the instance lock.
    ///
    /// # Errors
    /// A lock that is ours cannot be removed.
    pub fn sweep_locks(&self) -> Result<Vec<PathBuf>, RepoError> {
        let mut swept = Vec::new();
        let archive = [archive::local_ref(), archive::tracking_ref(&self.settings.remote), self.archive_seen_ref()];
        let refs = [self.branch_ref(), self.tracking_ref(), self.seen_ref(), self.overrule_ref()];
        let refs = refs.iter().chain(&archive);
        let locks = refs.map(|name| self.common.join(format!("{name}.lock")));
        for path in locks.chain([self.gitdir.join("index.lock")]) {
            if lock::sweep(&path)? {
                swept.push(path);
            }
        }
        lock::sweep_scratch(&self.common);
        lock::sweep_scratch(&self.common.join("objects"));
        lock::sweep_scratch(&self.gitdir);
        lock::sweep_kept(&self.common.join("objects/pack"));
        https::sweep();
        Ok(swept)
    }

    pub(super) fn signature(&self) -> Result<Signature<'static>, RepoError> {
        Signature::now(&self.settings.identity.name, &self.settings.identity.email).doing("sign a commit")
    }

    /// Gives a new file to the owner of the repository; only root works for somebody else.
    pub(super) fn hand_over(&self, path: &Path) {
        if nix::unistd::geteuid().is_root() && self.owner.0 != 0 {
            // Root keeps what cannot be given away; the work goes on.
            let _ = lchown(path, Some(self.owner.0), Some(self.owner.1));
        }
    }

    /// As [`Self::hand_over`], for everything that a verb may have made in the git folder.
    pub(super) fn hand_over_git(&self) {
        if !nix::unistd::geteuid().is_root() || self.owner.0 == 0 {
            return;
        }
        self.hand_over(&self.gitdir.join("index"));
        let mut open = ["objects/pack", "refs", "logs"].map(|f| self.common.join(f)).to_vec();
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let Ok(meta) = entry.metadata() else { continue };
                if meta.uid() != self.owner.0 {
                    self.hand_over(&entry.path());
                }
                if meta.is_dir() {
                    open.push(entry.path());
                }
            }
        }
    }
}

pub(super) fn show(path: &Path) -> String {
    text::line(&path.to_string_lossy())
}

fn check_settings(settings: &Settings) -> Result<(), OpenError> {
    let bad = |what, value: &str| Err(OpenError::Name { what, value: text::line(value) });
    // `@` alone and leading dashes are legal refs and a trap on every command line.
    let fit = |name: &str| !name.starts_with('-') && Reference::is_valid_name(&format!("refs/heads/{name}"));
    // Git has no ref beside or below `dispatcher/archive`.
    let archive = ["dispatcher", archive::BRANCH].contains(&settings.branch.as_str());
    if archive || !fit(&settings.branch) {
        return bad("branch", &settings.branch);
    }
    if !fit(&settings.remote) {
        return bad("remote", &settings.remote);
    }
    let id = &settings.identity;
    let clean = |s: &str| !s.trim().is_empty() && !s.contains(['<', '>']) && !s.chars().any(char::is_control);
    if !clean(&id.name) || !clean(&id.email) {
        return Err(OpenError::Identity(text::line(&format!("{} <{}>", id.name, id.email))));
    }
    Ok(())
}

/// What libgit2 would refuse in words that nobody understands.
fn check_formats(gitdir: &Path) -> Result<(), OpenError> {
    let common = match fs::read_to_string(gitdir.join("commondir")) {
        Ok(path) => gitdir.join(path.trim_end()),
        Err(_) => gitdir.to_owned(),
    };
    let path = common.join("config");
    let config = Config::open(&path).doing_to("read", &path)?;
    let get = |key: &str| config.get_string(key).ok();
    let dir = show(gitdir);
    if let Some(format) = get("extensions.objectformat").filter(|f| !f.eq_ignore_ascii_case("sha1")) {
        return Err(OpenError::ObjectFormat { dir, format: text::line(&format) });
    }
    if let Some(format) = get("extensions.refstorage").filter(|f| !f.eq_ignore_ascii_case("files")) {
        return Err(OpenError::RefStorage { dir, format: text::line(&format) });
    }
    let mut promisor = false;
    if let Ok(entries) = config.entries(Some("^remote\\..*\\.promisor$")) {
        let _ = entries.for_each(|_| promisor = true);
    }
    if promisor || get("extensions.partialclone").is_some() {
        return Err(OpenError::Partial(dir));
    }
    Ok(())
}
