//! Refs, moved by compare-and-swap and durable with their folder. Owns every write to a ref; libgit2 would sync the
//! reflogs too, which nobody needs after a power cut.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use git2::{ErrorCode, Oid};

use super::archive;
use super::error::{Doing, RepoError};
use super::holder;
use super::lock::{self, Lock};
use super::open::Repo;

/// About two seconds.
const TRIES: u32 = 100;

/// How a move of a ref ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Move {
    Done,
    /// It is not where it was expected.
    Stale,
}

impl Repo {
    pub(super) fn branch_ref(&self) -> String {
        format!("refs/heads/{}", self.settings.branch)
    }

    pub(super) fn tracking_ref(&self) -> String {
        format!("refs/remotes/{}/{}", self.settings.remote, self.settings.branch)
    }

    pub(super) fn seen_ref(&self) -> String {
        format!("refs/dispatcher/seen/{}/{}", self.settings.remote, self.settings.branch)
    }

    pub(super) fn overrule_ref(&self) -> String {
        format!("refs/dispatcher/overrule/{}/{}", self.settings.remote, self.settings.branch)
    }

    pub(super) fn archive_seen_ref(&self) -> String {
        format!("refs/dispatcher/seen/{}/{}", self.settings.remote, archive::BRANCH)
    }

    /// What the ref names; `None` where it does not exist.
    pub(super) fn target(&self, name: &str) -> Result<Option<Oid>, RepoError> {
        match self.git.find_reference(name) {
            Ok(reference) => match reference.target() {
                Some(oid) => Ok(Some(oid)),
                None => Err(RepoError::new(format!("read `{name}`"), "it is a symbolic reference")),
            },
            Err(e) if e.code() == ErrorCode::NotFound => Ok(None),
            Err(e) => Err(e).doing(&format!("read `{name}`")),
        }
    }

    /// Moves a ref from `expected` (`None`: it must not exist) to `new`.
    pub(super) fn move_ref(&self, name: &str, expected: Option<Oid>, new: Oid, why: &str) -> Result<Move, RepoError> {
        let path = self.common.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).doing_to("make", folder)?;
        }
        let Some(_lock) = Lock::take(&path, TRIES)? else {
            let lock = self.common.join(format!("{name}.lock"));
            let words = format!("`.git/{name}.lock` {}", holder::words(&lock, &self.root));
            return Err(RepoError::new(format!("move `{name}`"), &words));
        };
        if self.target(name)? != expected {
            return Ok(Move::Stale);
        }
        lock::replace(&path, &self.common, format!("{new}\n").as_bytes(), true)?;
        self.log_move(name, expected, new, why);
        Ok(Move::Done)
    }

    /// Points a ref at `new`, wherever it was.
    pub(super) fn set_ref(&self, name: &str, new: Oid, why: &str) -> Result<(), RepoError> {
        for _ in 0..TRIES {
            let old = self.target(name)?;
            if old == Some(new) || self.move_ref(name, old, new, why)? == Move::Done {
                return Ok(());
            }
        }
        Err(RepoError::new(format!("move `{name}`"), "somebody else keeps moving it"))
    }

    pub(super) fn delete_ref(&self, name: &str) -> Result<(), RepoError> {
        match self.git.find_reference(name).and_then(|mut r| r.delete()) {
            Err(e) if e.code() != ErrorCode::NotFound => Err(e).doing(&format!("delete `{name}`")),
            _ => Ok(()),
        }
    }

    /// Keeps a commit whatever becomes of the branches; the name of its ref.
    pub(super) fn keep(&self, oid: Oid) -> Result<String, RepoError> {
        let name = format!("refs/dispatcher/kept/{oid}");
        self.set_ref(&name, oid, "")?;
        Ok(name)
    }

    /// The reflog is a help for people, not a record: a failure to write it fails nothing.
    fn log_move(&self, name: &str, old: Option<Oid>, new: Oid, why: &str) {
        let wanted = self.git.config().and_then(|c| c.get_bool("core.logallrefupdates")).unwrap_or(true);
        if !wanted || name.starts_with("refs/dispatcher/") {
            return;
        }
        let Ok(who) = self.signature() else { return };
        let (when, old) = (who.when(), old.unwrap_or(Oid::ZERO_SHA1));
        let minutes = when.offset_minutes();
        let zone = format!("{}{:02}{:02}", when.sign(), minutes.abs() / 60, minutes.abs() % 60);
        let (id, why) = (&self.settings.identity, why.replace('\n', " "));
        let line = format!("{old} {new} {} <{}> {} {zone}\t{why}\n", id.name, id.email, when.seconds());
        let append = |path: &Path| {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            OpenOptions::new().create(true).append(true).open(path)?.write_all(line.as_bytes())
        };
        let _ = append(&self.common.join("logs").join(name));
        if name == self.branch_ref() && self.head_is_branch() {
            let _ = append(&self.gitdir.join("logs/HEAD"));
        }
    }
}
