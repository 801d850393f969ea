//! Who holds a lock file of git. A file does not say it, so this looks at the processes: one that has it open, or a git
//! command that works in this checkout (`git commit` closes its lock while a person writes the message). A guess for
//! people, never a reason to remove a lock.

use std::fs;
use std::path::{Path, PathBuf};

use crate::text;

/// How somebody's lock stands, in words that follow its name.
pub(super) fn words(lock: &Path, root: &Path) -> String {
    match holder(lock, root) {
        Some(holder) => format!("is held by {holder}"),
        None => "was left by a git command that died: none is at work here".to_owned(),
    }
}

/// The process that seems to hold the lock: its name and number.
fn holder(lock: &Path, root: &Path) -> Option<String> {
    let lock = fs::canonicalize(lock).ok()?;
    let own = std::process::id();
    let pids = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|&pid: &u32| pid != own).find_map(|pid| {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let name = fs::read(process.join("comm")).ok()?;
        let name = name.trim_ascii_end();
        let works_here = || fs::read_link(process.join("cwd")).is_ok_and(|folder| folder.starts_with(root));
        let is_git = name == b"git" || name.starts_with(b"git-");
        let holds = (is_git && works_here()) || has_open(&process, &lock);
        holds.then(|| format!("`{}` (process {pid})", text::bytes(name)))
    })
}

fn has_open(process: &Path, file: &Path) -> bool {
    let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    open.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|path| path == file)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_lock_that_is_open_somewhere_is_held() {
        let dir = tempfile::tempdir().unwrap();
        let lock = dir.path().join("index.lock");
        File::create(&lock).unwrap();
        assert_eq!(words(&lock, dir.path()), "was left by a git command that died: none is at work here");
        let open = File::open(&lock).unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(open).spawn().unwrap();
        let expect = format!("is held by `cat` (process {})", child.id());
        // Executed as soon as it echoes.
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"x").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        assert_eq!(words(&lock, dir.path()), expect);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(words(&lock, dir.path()).starts_with("was left"));
    }
}
