//! What the tests of this folder stand on: an executor with everything of its own, handlers as shell scripts, and news
//! that can be waited for.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use dispatcher::executor::{Executor, Finished, Outcome, Setup, Sink};
use dispatcher::launcher::Insist;
use dispatcher::request::RunId;
use dispatcher::sandbox::{Limits, Plan, memory_base};
use dispatcher::time::Time;

/// Longest that any single thing may take; only a failing test waits for it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a sink heard.
#[derive(Debug, PartialEq)]
pub enum News {
    Starting(RunId),
    Started(RunId, String),
    Output(RunId, Vec<u8>),
    Progress(RunId, String, Option<u64>, Option<u64>),
}

struct Heard {
    news: Sender<News>,
    refuse: bool,
}

impl Sink for Heard {
    fn starting(&self, id: RunId, _attempt: u32) -> Result<(), String> {
        let _ = self.news.send(News::Starting(id));
        if self.refuse { Err("the disk is full".to_owned()) } else { Ok(()) }
    }
    fn started(&self, id: RunId, user: &str) {
        let _ = self.news.send(News::Started(id, user.to_owned()));
    }
    fn output(&self, id: RunId, bytes: &[u8]) {
        let _ = self.news.send(News::Output(id, bytes.to_vec()));
    }
    fn progress(&self, id: RunId, step: &str, done: Option<u64>, total: Option<u64>) {
        let _ = self.news.send(News::Progress(id, step.to_owned(), done, total));
    }
}

/// A folder in memory that is removed with its stage.
pub struct Memory(pub PathBuf);

impl Drop for Memory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A folder that every user can pass, with handlers, locks and work folders.
pub struct Stage {
    pub executor: Executor,
    pub news: Receiver<News>,
    pub finished: Receiver<Finished>,
    dir: PathBuf,
    pub memory: Option<Memory>,
    _own: Option<tempfile::TempDir>,
}

impl Stage {
    pub fn new() -> Self {
        Self::with(false)
    }

    /// Its sink says no to every start.
    pub fn refusing() -> Self {
        Self::with(true)
    }

    fn with(refuse: bool) -> Self {
        let own = tempfile::Builder::new().prefix("stage").tempdir().unwrap();
        let dir = own.path().to_owned();
        Self { _own: Some(own), ..Self::at(&dir, refuse) }
    }

    /// It can give secrets as files.
    pub fn with_memory() -> Self {
        let own = tempfile::Builder::new().prefix("stage").tempdir().unwrap();
        let dir = own.path().to_owned();
        let memory = Memory(memory_base(&format!("stage-{}", fastrand::u64(..))).unwrap());
        Self { _own: Some(own), ..Self::made(&dir, false, Some(memory)) }
    }

    /// A stage in a folder that somebody else removes.
    pub fn at(dir: &Path, refuse: bool) -> Self {
        Self::made(dir, refuse, None)
    }

    fn made(dir: &Path, refuse: bool, memory: Option<Memory>) -> Self {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).unwrap();
        DirBuilder::new().recursive(true).mode(0o755).create(dir.join("handlers")).unwrap();
        let launcher = setup(dir);
        let (to_news, news) = unbounded();
        let (to_finished, finished) = unbounded();
        let sink = Arc::new(Heard { news: to_news, refuse });
        let base = memory.as_ref().map(|memory| memory.0.clone()).ok_or_else(|| "there is none".to_owned());
        let setup = Setup { launcher, work: dir.join("work"), memory: base };
        let executor = Executor::start(4, setup, sink, to_finished).unwrap();
        Self { executor, news, finished, dir: dir.to_owned(), memory, _own: None }
    }

    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// A handler with these bytes.
    pub fn file(&self, bytes: &[u8]) -> PathBuf {
        let path = self.dir.join("handlers").join(format!("h{}", fastrand::u64(..)));
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// A plan whose handler is this shell script.
    pub fn script(&self, text: &str) -> Plan {
        self.plan(self.file(format!("#!/bin/sh\n{text}\n").as_bytes()))
    }

    pub fn plan(&self, program: PathBuf) -> Plan {
        let mut random = [0; 10];
        fastrand::fill(&mut random);
        Plan {
            id: RunId::new(Time::from_millis(1_763_900_000_000), random),
            attempt: 1,
            kind: "deploy".parse().unwrap(),
            resource: format!("res-{}", fastrand::u64(..)).parse().unwrap(),
            library: self.dir.join("handlers"),
            program,
            write: Vec::new(),
            no_network: false,
            request: b"kind: deploy\n".to_vec(),
            params: serde_json::Map::new(),
            limits: Limits {
                timeout: Duration::from_secs(60),
                grace: Duration::from_secs(5),
                memory: None,
                pids: None,
            },
            env: Vec::new(),
            secrets: Vec::new(),
            secrets_as_files: false,
            mask: Arc::default(),
            deadline: Time::from_millis(1_763_900_900_000),
            dry_run: false,
        }
    }

    /// Carries a plan out alone; its outcome and output.
    pub fn run(&self, plan: Plan) -> (Outcome, String) {
        self.executor.submit(plan).unwrap();
        let outcome = self.outcome();
        let mut output = Vec::new();
        for news in self.news.try_iter() {
            if let News::Output(_, bytes) = news {
                output.extend(bytes);
            }
        }
        (outcome, String::from_utf8_lossy(&output).into_owned())
    }

    pub fn outcome(&self) -> Outcome {
        self.finished.recv_timeout(PATIENCE).unwrap().outcome
    }

    /// Waits until the output so far satisfies `enough`.
    pub fn output_until(&self, enough: impl Fn(&str) -> bool) -> String {
        let mut output = String::new();
        while !enough(&output) {
            match self.news.recv_timeout(PATIENCE) {
                Ok(News::Output(_, bytes)) => output.push_str(&String::from_utf8_lossy(&bytes)),
                Ok(_) => {}
                Err(_) => panic!("only this was written: {output}"),
            }
        }
        output
    }

    /// A whole line that the handler writes first.
    pub fn first_line(&self) -> String {
        self.output_until(|text| text.contains('\n')).lines().next().unwrap().to_owned()
    }

    pub fn lock_path(&self, plan: &Plan) -> PathBuf {
        self.dir.join("lock").join(plan.resource.lock_file())
    }
}

pub fn setup(dir: &Path) -> dispatcher::launcher::Setup {
    dispatcher::launcher::Setup {
        exe: Some(env!("CARGO_BIN_EXE_dispatcher").into()),
        user: None,
        allow_root: false,
        lock_dir: dir.join("lock"),
        landlock: Insist::Auto,
        seccomp: Insist::Auto,
        hidden: vec![dir.join("work")],
    }
}

/// Alive, and not a zombie that waits to be reaped.
pub fn alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat[stat.rfind(')').unwrap()..].starts_with(") Z"))
}

/// The supervisor above a process of a run.
pub fn supervisor_of(mut pid: i32) -> i32 {
    loop {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        if stat.contains("(dispatcher-run)") {
            return pid;
        }
        pid = stat[stat.rfind(')').unwrap()..].split(' ').nth(2).unwrap().parse().unwrap();
    }
}

/// Waits until it is so: for what no handle of ours can tell.
pub fn eventually(what: &str, so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Processes whose environment has `mark`.
pub fn marked(mark: &str) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|env| env.split(|&b| b == 0).any(|one| one == mark.as_bytes()))
    })
    .collect()
}

/// Whether somebody holds this lock.
pub fn locked(path: &Path) -> bool {
    let Ok(file) = fs::File::options().read(true).write(true).open(path) else { return false };
    fd_lock::RwLock::new(file).try_write().is_err()
}
