//! Recording runs: one commit per batch, made by tree edit, written as one pack. Owns the message (CONTRACT section 7)
//! and refuses to commit anything but a run's own paths and the removal of its request.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use git2::{ObjectType, Oid};

use super::error::{Doing, RepoError};
use super::index::{OpenIndex, as_path};
use super::open::Repo;
use super::pack::Batch;
use super::read::blob_oid;
use super::refs::Move;
use super::tree::{self, Leaf};
use crate::diagnostic::Diagnostic;
use crate::quantity;
use crate::request::{Kind, Resource, RunId};
use crate::status::State;
use crate::text;

/// About three seconds for a person's git command to let the index go.
const INDEX_TRIES: u32 = 150;
/// The branch moves under us only when a person commits in the same moment.
const MOVE_TRIES: u32 = 10;

/// The bytes of a file to commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// These.
    Bytes(Vec<u8>),
    /// Those of this regular file, read at the commit; symbolic links are not followed.
    File(PathBuf),
}

impl Content {
    /// The bytes as they are now.
    ///
    /// # Errors
    /// As reading the file; it is not a regular file.
    pub fn read(&self) -> std::io::Result<Cow<'_, [u8]>> {
        match self {
            Self::Bytes(bytes) => Ok(Cow::Borrowed(bytes)),
            Self::File(path) => read_regular(path).map(Cow::Owned),
        }
    }
}

/// One file of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordFile {
    /// In the repository: below `processed/<id>/`, or `logs/<id>.…`.
    pub path: String,
    /// What it holds.
    pub content: Content,
}

/// The request that a run was taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenRequest {
    /// `requests/NAME`: bytes, as git's names are.
    pub path: Vec<u8>,
    /// Of the bytes that were taken (of the target, for a symbolic link).
    pub oid: Oid,
}

impl TakenRequest {
    /// The request of these bytes.
    ///
    /// # Errors
    /// Hashing failed.
    pub fn of(path: impl Into<Vec<u8>>, bytes: &[u8]) -> Result<Self, RepoError> {
        Ok(Self { path: path.into(), oid: blob_oid(bytes)? })
    }
}

/// A finished run as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRecord {
    /// The run.
    pub id: RunId,
    /// The request's file name.
    pub name: String,
    /// As in the status.
    pub rc: i32,
    /// As in the status.
    pub kind: Option<Kind>,
    /// As in the status.
    pub resource: Option<Resource>,
    /// As in the status.
    pub state: State,
    /// Absent where it never ran.
    pub duration: Option<Duration>,
    /// Absent where the request was not taken from a file of the inbox.
    pub request: Option<TakenRequest>,
    /// Everything that the commit adds.
    pub files: Vec<RecordFile>,
}

/// A batch that is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The commit.
    pub oid: Oid,
    /// Its tree.
    pub tree: Oid,
    /// False where another git held the index: `git status` shows our paths until [`Repo::mend_index`] gets it.
    pub indexed: bool,
}

/// A batch that is not recorded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Nothing was given.
    #[error("a commit needs at least one run")]
    Empty,
    /// A path that does not belong to the run.
    #[error("`{path}` does not belong to run `{id}`")]
    Path {
        /// The run.
        id: RunId,
        /// The path, escaped.
        path: String,
    },
    /// A file of a run cannot be read.
    #[error("failed to read `{path}` of run `{id}`: {words}")]
    Unreadable {
        /// The run.
        id: RunId,
        /// The path in the repository.
        path: String,
        /// Why not, in the system's words.
        words: String,
    },
    /// A final status is already committed, and it says something else.
    #[error("run `{0}` is already recorded with another status")]
    Recorded(RunId),
    /// The branch moved under us again and again.
    #[error("the branch moved {MOVE_TRIES} times while a commit was made")]
    Moving,
    /// Git's database or the disk.
    #[error(transparent)]
    Git(#[from] RepoError),
}

impl CommitError {
    /// As [`RepoError::is_unsynced`].
    #[must_use]
    pub fn is_unsynced(&self) -> bool {
        matches!(self, Self::Git(error) if error.is_unsynced())
    }

    /// The error as people read it.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        match self {
            Self::Git(e) => e.diagnostic(),
            Self::Moving => Diagnostic::new("E0510", self.to_string()).help("stop what else commits in this checkout"),
            Self::Recorded(id) => {
                Diagnostic::new("E0510", self.to_string()).help(format!("git log -- processed/{id}/status.json"))
            }
            Self::Unreadable { .. } => {
                Diagnostic::new("E0510", self.to_string()).help("the run was recorded without it")
            }
            Self::Empty | Self::Path { .. } => Diagnostic::new("E0510", self.to_string()),
        }
    }
}

impl Repo {
    /// Records a batch of finished runs in one commit on the branch and makes it durable.
    ///
    /// The request is removed from the tree only where its bytes are the ones taken and its name is fit; a copy of such a
    /// request that came back into the work tree is removed with it. Nothing staged or edited gets in.
    ///
    /// # Errors
    /// See [`CommitError`]; the branch is then as it was.
    pub fn commit(&self, batch: &[RunRecord]) -> Result<Committed, CommitError> {
        if batch.is_empty() {
            return Err(CommitError::Empty);
        }
        let files = contents(batch)?;
        // From the first: `git commit` reads the index and locks it then, and a lock that came and went in between would leave
        // it to write back what it had read, without ours. One that cannot be locked or read is a person's to mend; results
        // are recorded all the same.
        let tries = if self.index_is_locked_for_long() { 1 } else { INDEX_TRIES };
        let mut open = if self.head_is_branch() { self.lock_index(tries).unwrap_or(None) } else { None };
        for _ in 0..MOVE_TRIES {
            let tip = self.tip()?;
            let mut objects = Batch::open(self)?;
            let (edits, removed) = self.edits(batch, &files, tip, &mut objects)?;
            let base = tip.map(|oid| tree::of_commit(&self.git, oid)).transpose()?;
            let tree = edit(&mut objects, base, &edits)?;
            let who = self.signature()?;
            let oid = objects.commit(tree, tip, [&who, &who], &message(batch))?;
            self.beneath(tip)?.into_iter().for_each(|beneath| objects.add_beneath(beneath));
            objects.finish()?;
            // Somewhere else the files are those of another branch.
            let here = self.head_is_branch();
            if here {
                self.note_index_bases([tip, Some(oid)])?;
                removed.iter().for_each(|(path, oid)| self.remove_resurrected(path, *oid));
            }
            open = open.filter(|_| here).map(|open| self.index_before(open, oid)).transpose()?.flatten();
            if self.move_ref(&self.branch_ref(), tip, oid, "commit: executor")? == Move::Stale {
                continue;
            }
            self.durable.set(Some(oid));
            let indexed = open.is_some() || !here;
            if open.is_some() {
                self.forget_index_bases();
            }
            self.hand_over_git();
            return Ok(Committed { oid, tree: tree::of_commit(&self.git, oid)?, indexed });
        }
        Err(CommitError::Moving)
    }

    /// Whatever is wrong with the index is no failure of the commit: the note stays, and it is mended later. But where a
    /// sync fails, nothing more is to be built on this disk.
    fn index_before(&self, mut open: OpenIndex, commit: Oid) -> Result<Option<OpenIndex>, RepoError> {
        let entered = self.mend(&mut open, Some(commit)).and_then(|()| self.write_index(&mut open));
        match entered {
            Err(error) if error.is_unsynced() => Err(error),
            entered => Ok(entered.is_ok().then_some(open)),
        }
    }

    #[expect(clippy::type_complexity, reason = "two lists that are made in one pass")]
    fn edits(
        &self,
        batch: &[RunRecord],
        files: &[(String, Vec<u8>)],
        tip: Option<Oid>,
        objects: &mut Batch,
    ) -> Result<(BTreeMap<Vec<u8>, Option<Leaf>>, Vec<(Vec<u8>, Oid)>), CommitError> {
        let (mut edits, mut removed) = (BTreeMap::new(), Vec::new());
        for (path, bytes) in files {
            let oid = objects.write(ObjectType::Blob, bytes)?;
            edits.insert(path.clone().into_bytes(), Some(Leaf { mode: tree::FILE, oid }));
        }
        let Some(tip) = tip else { return Ok((edits, removed)) };
        let (odb, root) = (self.odb()?, tree::of_commit(&self.git, tip)?);
        for run in batch {
            let status = format!("processed/{}/status.json", run.id).into_bytes();
            let recorded = tree::find(&odb, root, &status)?;
            if recorded.is_some() && edits.get(&status).is_some_and(|new| *new != recorded) {
                return Err(CommitError::Recorded(run.id));
            }
            // A name that no work tree can hold came from no commit, and a commit of ours must not speak of it.
            let Some(request) = run.request.as_ref().filter(|r| is_request(&r.path)) else { continue };
            if tree::find(&odb, root, &request.path)?.is_some_and(|l| l.oid == request.oid) {
                edits.insert(request.path.clone(), None);
                removed.push((request.path.clone(), request.oid));
            }
        }
        Ok((edits, removed))
    }

    /// A taken request that came back into the inbox with the same bytes is the same request.
    fn remove_resurrected(&self, path: &[u8], oid: Oid) {
        let file = self.root.join(as_path(path));
        let same = match fs::symlink_metadata(&file) {
            Ok(meta) if meta.is_file() => Oid::hash_file(ObjectType::Blob, &file).is_ok_and(|o| o == oid),
            _ => false,
        };
        if same {
            // Where it cannot be removed, the inbox meets it again and knows it.
            let _ = fs::remove_file(&file);
        }
    }
}

/// Edits the tree `base` and writes the new trees into the batch.
pub(super) fn edit(
    objects: &mut Batch,
    base: Option<Oid>,
    edits: &BTreeMap<Vec<u8>, Option<Leaf>>,
) -> Result<Option<Oid>, RepoError> {
    let mut trees = Vec::new();
    let odb = objects.odb()?;
    let edited = tree::edit(&odb, base, edits, &mut |bytes| {
        trees.push(bytes.to_vec());
        Oid::hash_object(ObjectType::Tree, bytes).doing("hash a tree")
    })?;
    drop(odb);
    for bytes in trees {
        objects.write(ObjectType::Tree, &bytes)?;
    }
    Ok(edited)
}

/// Checks every path and reads every file: what is committed is what was there at this moment.
fn contents(batch: &[RunRecord]) -> Result<Vec<(String, Vec<u8>)>, CommitError> {
    let mut files = Vec::new();
    for run in batch {
        let bad = |path: &str| CommitError::Path { id: run.id, path: text::line(path) };
        for file in &run.files {
            let rest = file.path.strip_prefix(&format!("processed/{}/", run.id));
            let log = file.path.strip_prefix(&format!("logs/{}.", run.id)).filter(|r| !r.contains('/'));
            let fit = rest.or(log).is_some_and(|r| r.split('/').all(|part| tree::is_fit(part.as_bytes())));
            if !fit {
                return Err(bad(&file.path));
            }
            let bytes = match &file.content {
                Content::Bytes(bytes) => bytes.clone(),
                Content::File(path) => match read_regular(path) {
                    Err(e) if !is_short(&e) => {
                        let words = text::line(&e.to_string());
                        return Err(CommitError::Unreadable { id: run.id, path: file.path.clone(), words });
                    }
                    read => read.doing_to("read", path)?,
                },
            };
            files.push((file.path.clone(), bytes));
        }
    }
    Ok(files)
}

fn is_request(path: &[u8]) -> bool {
    path.strip_prefix(b"requests/").is_some_and(tree::is_fit)
}

/// True where the machine is short of something: that is no fault of the file.
#[must_use]
pub fn is_short(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EINTR))
}

fn read_regular(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Subject and body of the commit of a batch.
fn message(batch: &[RunRecord]) -> String {
    if let [run] = batch {
        let or_dash = |text: Option<&str>| text.map_or_else(|| "-".to_owned(), text::line);
        return format!(
            "executor: {} rc={}\n\nkind: {}\nresource: {}\nstatus: {}\nrequest: {}\nduration: {}\n",
            run.id,
            run.rc,
            or_dash(run.kind.as_ref().map(Kind::as_str)),
            or_dash(run.resource.as_ref().map(Resource::as_str)),
            run.state.word(),
            text::line(&run.name),
            run.duration.map_or_else(|| "-".to_owned(), quantity::round_duration),
        );
    }
    let ok = batch.iter().filter(|run| run.rc == 0).count();
    let mut out = format!("executor: {} runs ({ok} ok, {} failed)\n\n", batch.len(), batch.len() - ok);
    for run in batch {
        let _ = writeln!(out, "executor: {} rc={}", run.id, run.rc);
    }
    out
}
