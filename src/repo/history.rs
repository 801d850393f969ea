//! Who asked, and who took it back: bounded walks over history.

use git2::{Commit, ErrorCode, Oid};

use super::error::{Doing, RepoError};
use super::integrate::TakenPath;
use super::open::Repo;
use super::read::blob_oid;
use super::tree;
use crate::status::RequestedBy;

/// A file that nobody touched for longer than this has no known author.
const FURTHEST: usize = 10_000;

/// A request that a commit deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawn {
    /// Its file name in `requests/`: bytes, as git's names are.
    pub name: Vec<u8>,
    /// Of the bytes that were deleted.
    pub oid: Oid,
    /// The commit that deleted it.
    pub commit: Oid,
    /// The commit's author.
    pub author: RequestedBy,
    /// True where the commit is a result commit of another dispatcher: it was not withdrawn but done.
    pub recorded: bool,
}

impl Repo {
    /// The author of the newest first-parent commit that gave the file these bytes; `None` where the branch does not
    /// hold them (a file that was dropped here) or the walk ended after 10,000 commits.
    ///
    /// # Errors
    /// History cannot be read.
    pub fn requested_by(&self, path: impl AsRef<[u8]>, bytes: &[u8]) -> Result<Option<RequestedBy>, RepoError> {
        let Some(tip) = self.tip()? else { return Ok(None) };
        let (odb, wanted) = (self.odb()?, blob_oid(bytes)?);
        let holds = |commit: &Commit<'_>| {
            tree::find(&odb, commit.tree_id(), path.as_ref()).map(|leaf| leaf.is_some_and(|l| l.oid == wanted))
        };
        let mut commit = self.git.find_commit(tip).doing("read history")?;
        if !holds(&commit)? {
            return Ok(None);
        }
        for _ in 0..FURTHEST {
            match commit.parent(0) {
                Ok(parent) if holds(&parent)? => commit = parent,
                Ok(_) => return Ok(Some(author_of(&commit))),
                Err(e) if e.code() == ErrorCode::NotFound => return Ok(Some(author_of(&commit))),
                Err(e) => return Err(e).doing("read history"),
            }
        }
        Ok(None)
    }

    /// Which of the requests `taken` were deleted by the commits between `from` and `to`, and by whom. Other bytes under
    /// the same name are another request; a name that holds anything in `to` is not deleted.
    ///
    /// # Errors
    /// History cannot be read.
    pub fn withdrawn(&self, from: Oid, to: Oid, taken: &[TakenPath]) -> Result<Vec<Withdrawn>, RepoError> {
        let odb = self.odb()?;
        let end = tree::of_commit(&self.git, to)?;
        let held = |root: Oid, taken: &TakenPath| {
            tree::find(&odb, root, &[b"requests/", taken.name.as_slice()].concat()).map(|leaf| leaf.map(|l| l.oid))
        };
        let mut open: Vec<&TakenPath> = Vec::new();
        for taken in taken {
            if held(end, taken)?.is_none() {
                open.push(taken);
            }
        }
        let mut found = Vec::new();
        if open.is_empty() {
            return Ok(found);
        }
        for oid in self.between(Some(from), to)?.into_iter().rev() {
            let commit = self.git.find_commit(oid).doing("read history")?;
            let Some(before) = commit.parent_ids().next().map(|p| tree::of_commit(&self.git, p)).transpose()? else {
                continue;
            };
            let mut deleted = Vec::new();
            for taken in &open {
                if held(before, taken)? == Some(taken.oid) && held(commit.tree_id(), taken)?.is_none() {
                    deleted.push(*taken);
                }
            }
            if deleted.is_empty() {
                continue;
            }
            let recorded = self.is_ours(oid)?;
            open.retain(|taken| !deleted.contains(taken));
            found.extend(deleted.into_iter().map(|taken| Withdrawn {
                name: taken.name.clone(),
                oid: taken.oid,
                commit: oid,
                author: author_of(&commit),
                recorded,
            }));
        }
        Ok(found)
    }
}

fn author_of(commit: &Commit<'_>) -> RequestedBy {
    let author = commit.author();
    let text = |bytes: &[u8]| Some(String::from_utf8_lossy(bytes).into_owned());
    RequestedBy {
        name: text(author.name_bytes()),
        email: text(author.email_bytes()),
        commit: Some(commit.id().to_string()),
        signer: None,
    }
}
