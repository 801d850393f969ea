//! The work folder of one attempt: `<work>/<id>.<attempt>/` with `cwd`, `home`, `tmp` and the files through which the
//! handler and the dispatcher speak. It belongs to the run's user and is removed afterwards, whatever lies in it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use super::environment::{Files, environment};
use super::memory::MemoryFolder;
use super::plan::Plan;
use super::progress::Progress;
use super::{remove, result};
use crate::diagnostic::Diagnostic;
use crate::launcher::{Boxes, RunSpec, User};

/// A work folder could not be made.
#[derive(Debug, thiserror::Error)]
#[error("failed to make work folder `{path}`: {error}")]
pub struct WorkError {
    /// Of the folder.
    pub path: PathBuf,
    /// What the system said.
    pub error: io::Error,
}

/// A run's work folder. [`WorkFolder::remove`] it; dropped alone it stays.
#[derive(Debug)]
pub struct WorkFolder {
    path: PathBuf,
    user: User,
    progress: Progress,
}

impl WorkFolder {
    /// Makes the folder of this attempt in `root`, which handlers can pass but not list. A folder of the same name is
    /// what an earlier life left, and is removed first.
    ///
    /// # Errors
    /// [`WorkError`] with the path.
    pub fn create(root: &Path, plan: &Plan, user: &User) -> Result<Self, WorkError> {
        let path = root.join(format!("{}.{}", plan.id, plan.attempt));
        let wrap = |error| WorkError { path: path.clone(), error };
        let filled = match fill(&path, plan, user) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Set, not only asked for: the umask may keep the handlers' user out.
                fs::create_dir_all(root)
                    .and_then(|()| fs::set_permissions(root, fs::Permissions::from_mode(0o711)))
                    .map_err(wrap)?;
                fill(&path, plan, user)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                remove::remove(&path).map_err(wrap)?;
                fill(&path, plan, user)
            }
            filled => filled,
        };
        let progress = filled.map_err(wrap)?;
        Ok(Self { path, user: user.clone(), progress })
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the launcher needs to know of the attempt, whose secrets lie in `memory` where they are given as files.
    #[must_use]
    pub fn spec(&self, plan: &Plan, memory: Option<&MemoryFolder>) -> RunSpec {
        let at = |name| self.path.join(name);
        let (home, tmp, request, params) = (at("home"), at("tmp"), at(REQUEST), at(PARAMS));
        let (result, progress) = (at(RESULT), at(PROGRESS));
        let files =
            Files { home: &home, tmp: &tmp, request: &request, params: &params, result: &result, progress: &progress };
        let limits = plan.limits;
        let mut env = environment(plan, &files);
        env.retain(|(name, _)| plan.secrets.iter().all(|(secret, _)| secret != name));
        let secrets = match memory {
            Some(memory) => {
                env.extend(plan.secrets.iter().map(|(name, _)| (name.clone(), text(&memory.file(name)))));
                Vec::new()
            }
            None => plan.secrets.clone(),
        };
        RunSpec {
            lock: plan.resource.lock_file(),
            program: plan.program.clone(),
            args: vec![text(&request)],
            env,
            secrets,
            scrub: memory.map(|memory| memory.path().to_owned()),
            cwd: at("cwd"),
            own: self.path.clone(),
            read: std::iter::once(&*plan.library).chain(memory.map(MemoryFolder::path)).map(Path::to_owned).collect(),
            write: plan.write.clone(),
            no_network: plan.no_network,
            boxes: Boxes { timeout: limits.timeout, grace: limits.grace, memory: limits.memory, pids: limits.pids },
        }
    }

    /// What the handler said of its progress.
    pub fn progress(&mut self) -> &mut Progress {
        &mut self.progress
    }

    /// What the handler left as its result; `None` where it wrote nothing.
    ///
    /// # Errors
    /// E0605 where it is no regular file of the handler's, too large, or no JSON object.
    pub fn result(&self) -> Result<Option<Value>, Box<Diagnostic>> {
        result::read_result(&self.path.join(RESULT), self.user.uid)
    }

    /// Removes the folder and all that is in it. Nothing of the run may be alive any more.
    ///
    /// # Errors
    /// What could not be removed, by the system's words.
    pub fn remove(self) -> io::Result<()> {
        remove::remove(&self.path)
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

const REQUEST: &str = "request.yml";
const PARAMS: &str = "params.json";
const RESULT: &str = "result.json";
const PROGRESS: &str = "progress";

/// Fills the folder; the file of the progress.
fn fill(path: &Path, plan: &Plan, user: &User) -> io::Result<Progress> {
    let own = |path: &Path| match user.switch {
        true => std::os::unix::fs::lchown(path, Some(user.uid), Some(user.gid)),
        false => Ok(()),
    };
    let folder = |name: &str| {
        let path = path.join(name);
        DirBuilder::new().mode(0o700).create(&path).and_then(|()| own(&path))
    };
    let file = |name: &str, bytes: &[u8]| {
        let path = path.join(name);
        File::options().write(true).create_new(true).mode(0o600).open(&path)?.write_all(bytes)?;
        own(&path)
    };
    // Everything is made before the folder becomes the user's: until then nobody else can reach into it.
    DirBuilder::new().mode(0o700).create(path)?;
    for name in ["cwd", "home", "tmp"] {
        folder(name)?;
    }
    file(REQUEST, &plan.request)?;
    file(PARAMS, &serde_json::to_vec(&plan.params)?)?;
    // Result and progress are the handler's to make: most make neither.
    own(path)?;
    Ok(Progress::new(path.join(PROGRESS), user.uid, Arc::clone(&plan.mask)))
}

/// Removes every work folder that an earlier life left; how many.
///
/// # Errors
/// Where the folder of work folders cannot be read, or one of them not be removed; the others are.
pub fn clear(root: &Path) -> io::Result<usize> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(e),
    };
    let (mut removed, mut stayed) = (0, None);
    for entry in entries {
        match entry.and_then(|entry| remove::remove(&entry.path())) {
            Ok(()) => removed += 1,
            Err(error) => stayed = stayed.or(Some(error)),
        }
    }
    stayed.map_or(Ok(removed), Err)
}
