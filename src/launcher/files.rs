//! Which files a handler can reach: Landlock, where the kernel has it. Read everything that its user may, but nothing
//! hidden; write to its own folder, to what its table line names, and to a few devices. Also: no TCP where it has no
//! network, and no signals to processes outside.
//!
//! Landlock knows no exceptions below what is allowed, so a folder that has something hidden below it is given child by
//! child; it cannot be listed itself. Which children there are is looked up once and again when such a folder changes.

use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, Ruleset, RulesetAttr as _, RulesetCreated,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

use super::protocol::RunSpec;

/// Devices that programs write to.
const DEVICES: [&str; 7] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/dev/ptmx"];

/// A folder with more entries than this is not given child by child beyond it: a start must not take for ever.
const MOST: usize = 4_096;

/// What is asked for; how much of it there is depends on the kernel: renaming between folders since 5.19, truncating
/// since 6.2, TCP since 6.7, signals since 6.12, sockets by their path later.
const FILES: ABI = ABI::V3;

/// Two changes within this time may leave the same stamp.
const TICK: Duration = Duration::from_millis(20);

/// What handlers may read of this machine.
pub(super) struct View {
    /// As they were named: where they really are may change.
    named: Vec<PathBuf>,
    hidden: Vec<PathBuf>,
    open: Vec<PathBuf>,
    /// The folders that were given child by child, and what they looked like.
    folders: Vec<(PathBuf, Stamp)>,
    /// When they first looked so.
    since: Instant,
    /// Looked up again since then, so late that no change can have been missed.
    settled: bool,
}

type Stamp = Option<(u64, u64, i64, i64)>;

fn stamp(folder: &Path) -> Stamp {
    let meta = folder.symlink_metadata().ok()?;
    Some((meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec()))
}

impl View {
    /// Everything but `hidden`: absolute paths, which need not exist.
    pub(super) fn new(hidden: &[PathBuf]) -> Self {
        let (named, since) = (hidden.to_vec(), Instant::now());
        let mut view = Self { named, hidden: Vec::new(), open: Vec::new(), folders: Vec::new(), since, settled: false };
        view.find();
        view.look();
        view
    }

    /// Finds where the hidden really are; true where that has changed.
    fn find(&mut self) -> bool {
        let mut hidden: Vec<PathBuf> = self.named.iter().map(|path| real(path)).collect();
        hidden.sort();
        hidden.dedup();
        let moved = hidden != self.hidden;
        self.hidden = hidden;
        moved
    }

    fn look(&mut self) {
        let mut spread = Spread { hidden: &self.hidden, open: Vec::new(), folders: Vec::new() };
        spread.add(Path::new("/"));
        (self.open, self.folders) = (spread.open, spread.folders);
    }

    /// Looks at what has changed; cheap where nothing has.
    pub(super) fn refresh(&mut self) {
        let same = !self.find() && self.folders.iter().all(|(folder, was)| stamp(folder) == *was);
        if same && self.settled {
            return;
        }
        let now = Instant::now();
        self.settled = same && now.duration_since(self.since) >= TICK;
        if !same {
            self.since = now;
        }
        let before = std::mem::take(&mut self.folders);
        self.look();
        self.settled &= before == self.folders;
    }

    /// True where none of what is hidden can be opened by this process.
    pub(super) fn holds(&self) -> bool {
        // Not waiting for whoever writes into a FIFO.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        self.hidden.iter().all(|path| open(path, flags, Mode::empty()).is_err())
    }

    /// The rules of one run, to be put in force later. Before the switch of users, so that every path can be opened.
    pub(super) fn fence(&self, spec: &RunSpec) -> Result<Fence, RulesetError> {
        let (read, write) = (AccessFs::from_read(FILES), AccessFs::from_all(FILES));
        let mut rules = Ruleset::default().handle_access(write | AccessFs::ResolveUnix)?;
        let mut scope = BitFlags::from(Scope::Signal);
        if spec.no_network {
            rules = rules.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?;
            scope |= Scope::AbstractUnixSocket;
        }
        let mut rules = rules.scope(scope)?.create()?.no_new_privs(false);
        let mut allow = |path: &Path, access: BitFlags<AccessFs>| -> Result<(), RulesetError> {
            // What is not there, or cannot be opened, needs no rule.
            if let Ok(fd) = handle(path) {
                (&mut rules).add_rule(PathBeneath::new(fd.as_fd(), access))?;
            }
            Ok(())
        };
        for path in self.open.iter().cloned().chain(spec.read.iter().map(|path| real(path))) {
            allow(&path, read | AccessFs::ResolveUnix)?;
        }
        for path in &spec.write {
            // A line of the table cannot open what the host hides.
            let mut spread = Spread { hidden: &self.hidden, open: Vec::new(), folders: Vec::new() };
            spread.add(&real(path));
            for path in spread.open {
                allow(&path, write | AccessFs::ResolveUnix)?;
            }
        }
        allow(&real(&spec.own), write | AccessFs::ResolveUnix)?;
        let device = AccessFs::ReadFile | AccessFs::WriteFile;
        for path in DEVICES {
            allow(&real(Path::new(path)), device)?;
        }
        allow(Path::new("/dev/pts"), device | AccessFs::ReadDir)?;
        Ok(Fence(rules))
    }
}

/// Rules that are ready to be put in force.
pub(super) struct Fence(RulesetCreated);

impl Fence {
    /// Holds this process and all that it starts. Needs `no_new_privs`. True where the kernel does it.
    pub(super) fn close(self) -> Result<bool, RulesetError> {
        Ok(self.0.restrict_self()?.ruleset != RulesetStatus::NotEnforced)
    }
}

/// Opens where the path is, through no link: who may write to a folder could put one there that leads to what is hidden.
fn handle(path: &Path) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(AT_FDCWD, path, how)
}

/// Where a path really is; for one that is not there yet, where it will be.
fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| match (path.parent().map(Path::canonicalize), path.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    })
}

/// Folders and files that together are some paths without what is hidden.
struct Spread<'a> {
    hidden: &'a [PathBuf],
    open: Vec<PathBuf>,
    folders: Vec<(PathBuf, Stamp)>,
}

impl Spread<'_> {
    /// Links are left out: what they lead to is elsewhere.
    fn add(&mut self, path: &Path) {
        let mut left = vec![path.to_owned()];
        while let Some(path) = left.pop() {
            if self.hidden.iter().any(|one| path.starts_with(one)) {
                continue;
            }
            if !self.hidden.iter().any(|one| one.starts_with(&path)) {
                self.open.push(path);
                continue;
            }
            self.folders.push((path.clone(), stamp(&path)));
            let entries = fs::read_dir(&path).into_iter().flatten().flatten().take(MOST);
            left.extend(entries.filter(|e| e.file_type().is_ok_and(|kind| !kind.is_symlink())).map(|e| e.path()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_left_out_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        for folder in ["a/b/hidden/deep", "a/c", "d"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        fs::write(at("a/b/file"), "").unwrap();
        std::os::unix::fs::symlink(at("a/b/hidden"), at("a/b/link")).unwrap();
        let check = |from: &str, hidden: &[&str], expect: &[&str]| {
            let hidden: Vec<PathBuf> = hidden.iter().map(|path| at(path)).collect();
            let mut spread = Spread { hidden: &hidden, open: Vec::new(), folders: Vec::new() };
            spread.add(&at(from));
            spread.open.sort();
            assert_eq!(spread.open, expect.iter().map(|path| at(path)).collect::<Vec<_>>(), "{hidden:?}");
        };
        check("a", &["a/b/hidden"], &["a/b/file", "a/c"]);
        check("a", &["a/b/hidden", "a/c"], &["a/b/file"]);
        check("a", &["d"], &["a"]);
        check("a/b/hidden/deep", &["a/b/hidden"], &[]);
        check("a", &["a/none"], &["a/b", "a/c"]);
        check("d/none", &["d"], &[]);
    }

    #[test]
    fn a_link_hides_what_it_leads_to_at_the_moment() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().canonicalize().unwrap().join(path);
        fs::create_dir_all(at("links")).unwrap();
        fs::create_dir_all(at("values")).unwrap();
        let lead = |to: &str| {
            let _ = fs::remove_file(at("links/token"));
            std::os::unix::fs::symlink(at(to), at("links/token")).unwrap();
        };
        for file in ["values/one", "values/two", "links/beside"] {
            fs::write(at(file), "").unwrap();
        }
        lead("values/one");
        let mut view = View::new(&[at("links/token")]);
        let is_open = |view: &View, file: &str| view.open.iter().any(|path| at(file).starts_with(path));
        let three = |view: &View| ["values/one", "values/two", "links/beside"].map(|file| is_open(view, file));
        assert_eq!(three(&view), [false, true, true]);
        lead("values/two");
        view.refresh();
        assert_eq!(three(&view), [true, false, true]);
        assert!(handle(&at("links/token")).is_err() && handle(&at("links/beside")).is_ok(), "no link is followed");
        assert_eq!(real(&at("values/none")), at("values/none"));
    }

    #[test]
    fn what_comes_later_is_seen_and_what_is_hidden_never() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().canonicalize().unwrap().join(path);
        fs::create_dir(at("hidden")).unwrap();
        let mut view = View::new(&[at("hidden")]);
        for number in 0..50 {
            let path = at(&format!("f{number}"));
            fs::write(&path, "").unwrap();
            view.refresh();
            assert!(view.open.contains(&path), "{number}");
            fs::remove_file(&path).unwrap();
            view.refresh();
            assert!(!view.open.contains(&path) && !view.open.contains(&at("hidden")), "{number}");
        }
    }
}
