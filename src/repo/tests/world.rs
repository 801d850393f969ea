//! A bare remote, a person's clone and ours, in one temporary folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::repo::*;
use crate::request::RunId;
use crate::status::State;
use crate::time::Time;

pub(super) struct World {
    _dir: tempfile::TempDir,
    pub(super) remote: PathBuf,
    pub(super) ours: PathBuf,
    pub(super) theirs: PathBuf,
}

pub(super) fn settings() -> Settings {
    Settings {
        remote: "origin".into(),
        branch: "main".into(),
        timeout: Duration::from_secs(60),
        https: HttpsSettings::default(),
        identity: Identity { name: "dispatcher".into(), email: "dispatcher@test".into() },
    }
}

fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.current_dir(dir).args(args).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", "/nonexistent").env("GIT_CONFIG_NOSYSTEM", "1");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Ana").env(format!("GIT_{who}_EMAIL"), "ana@test");
    }
    command
}

/// Runs git, which has to succeed, and gives its output.
pub(super) fn git(dir: &Path, args: &[&str]) -> String {
    let out = try_git(dir, args);
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap().trim_end().to_owned()
}

pub(super) fn try_git(dir: &Path, args: &[&str]) -> Output {
    command(dir, args).output().unwrap()
}

/// Runs git with something on its stdin.
pub(super) fn git_with(dir: &Path, args: &[&str], input: &[u8]) -> String {
    use std::io::Write as _;
    use std::process::Stdio;
    let mut child = command(dir, args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success(), "git {args:?}");
    String::from_utf8(out.stdout).unwrap().trim_end().to_owned()
}

impl World {
    /// A remote with one commit (a request and a handler), cloned twice by git.
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let world = Self { remote: at("remote.git"), ours: at("ours"), theirs: at("theirs"), _dir: dir };
        git(Path::new("/"), &["init", "-q", "--bare", "-b", "main", world.remote.to_str().unwrap()]);
        git(world.dir(), &["clone", "-q", "remote.git", "theirs"]);
        git(&world.theirs, &["switch", "-q", "-c", "main"]);
        world.write("theirs", "requests/a.yml", "kind: a\n");
        world.write("theirs", "requests/.gitkeep", "");
        world.write("theirs", "handlers/a.sh", "#!/bin/sh\n");
        world.push("first");
        git(world.dir(), &["clone", "-q", "remote.git", "ours"]);
        world
    }

    pub(super) fn dir(&self) -> &Path {
        self.remote.parent().unwrap()
    }

    pub(super) fn write(&self, clone: &str, path: &str, text: &str) {
        let file = self.dir().join(clone).join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    /// Commits everything in their clone and pushes it.
    pub(super) fn push(&self, subject: &str) -> String {
        git(&self.theirs, &["add", "-A"]);
        git(&self.theirs, &["commit", "-q", "-m", subject]);
        git(&self.theirs, &["push", "-q", "origin", "main"]);
        git(&self.theirs, &["rev-parse", "HEAD"])
    }

    pub(super) fn open(&self) -> Repo {
        let repo = Repo::open(&self.ours, settings()).unwrap();
        repo.info_exclude().unwrap();
        repo
    }

    pub(super) fn status(&self) -> String {
        git(&self.ours, &["status", "--porcelain"])
    }

    /// Takes a request as the daemon does: renames it away and writes the results.
    pub(super) fn take(&self, name: &str, n: u8) -> RunRecord {
        let bytes = fs::read(self.ours.join("requests").join(name)).unwrap();
        let run = self.run(name, n, &bytes);
        fs::remove_file(self.ours.join("requests").join(name)).unwrap();
        run
    }

    /// The record of a run whose files are written.
    pub(super) fn run(&self, name: &str, n: u8, bytes: &[u8]) -> RunRecord {
        let id = id(n);
        let file = |path: String, bytes: &[u8]| {
            let disk = self.ours.join(&path);
            fs::create_dir_all(disk.parent().unwrap()).unwrap();
            fs::write(&disk, bytes).unwrap();
            RecordFile { path, content: Content::File(disk) }
        };
        let files = vec![
            file(format!("processed/{id}/request.yml"), bytes),
            file(format!("processed/{id}/status.json"), format!("{{\"n\": {n}}}\n").as_bytes()),
            file(format!("logs/{id}.log"), b"done\n"),
            file(format!("logs/{id}.jsonl"), b"{}\n"),
        ];
        RunRecord {
            id,
            name: name.into(),
            rc: 0,
            kind: "deploy".parse().ok(),
            resource: "web-prod".parse().ok(),
            state: State::Succeeded,
            duration: Some(Duration::from_millis(1_234)),
            request: Some(TakenRequest::of(format!("requests/{name}"), bytes).unwrap()),
            files,
        }
    }

    /// The remote is whole, its history a line, and its files are those.
    pub(super) fn remote_is_sound(&self) {
        git(&self.remote, &["fsck", "--strict"]);
        assert_eq!(git(&self.remote, &["rev-list", "--merges", "main"]), "", "no merge commits");
    }
}

pub(super) fn id(n: u8) -> RunId {
    RunId::new(Time::from_millis(1_763_900_000_000 + i64::from(n)), [n; 10])
}

pub(super) fn taken(run: &RunRecord) -> TakenPath {
    TakenPath { name: run.name.clone().into(), oid: run.request.as_ref().unwrap().oid }
}
