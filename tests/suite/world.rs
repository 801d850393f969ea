//! A bare remote, a person's clone and a dispatcher's clone in one temporary folder, and the real program on them. Owns
//! every process that it starts. Refuses to touch anything outside of its folder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// For what must come: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(120);

const PROGRAM: &str = env!("CARGO_BIN_EXE_dispatcher");

/// Waits until it is so: for what no pipe or process of ours can tell.
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What the program said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The one JSON document on stdout.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// The temporary folder with everything in it.
pub struct World {
    dir: tempfile::TempDir,
    /// Stands in the environment of every handler.
    mark: String,
    /// More variables for every program.
    env: BTreeMap<&'static str, String>,
}

impl World {
    /// The handlers of `tests/suite/handlers/`, in all clones; the daemon's configuration gets `config` lines more.
    pub fn new(config: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("suite").tempdir().unwrap();
        let mark = format!("SUITE_WORLD={}", dir.path().file_name().unwrap().to_str().unwrap());
        let world = Self { dir, mark, env: BTreeMap::new() };
        fs::set_permissions(world.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let folder = |name: &str, mode| {
            fs::DirBuilder::new().create(world.path().join(name)).unwrap();
            fs::set_permissions(world.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        folder("home", 0o755);
        folder("run", 0o755);
        folder("marks", 0o777);
        world.configure(config);
        world.git(world.path(), &["init", "-q", "--bare", "-b", "main", "remote.git"]);
        world.git(world.path(), &["clone", "-q", "remote.git", "ana"]);
        let ana = world.ana();
        world.fill(&ana);
        world.git(&ana, &["add", "-A"]);
        world.git(&ana, &["commit", "-q", "-m", "Begin"]);
        world.git(&ana, &["push", "-q", "origin", "HEAD:main"]);
        world.git(world.path(), &["clone", "-q", "remote.git", "ops"]);
        world
    }

    fn fill(&self, clone: &Path) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/handlers");
        for folder in ["requests", "processed", "logs", "handlers", "schema"] {
            fs::create_dir_all(clone.join(folder)).unwrap();
        }
        for folder in ["requests", "processed", "logs"] {
            fs::write(clone.join(folder).join(".gitkeep"), "").unwrap();
        }
        fs::write(clone.join("logs/.gitignore"), "dispatcher.log*\nevents.jsonl*\n").unwrap();
        for entry in fs::read_dir(source).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let text = fs::read_to_string(entry.path()).unwrap();
            let marks = self.marks();
            let text = text
                .replace("@MARKS@", marks.to_str().unwrap())
                .replace("@WORLD@", self.mark.split_once('=').unwrap().1);
            let to = if name == "requests.yml" { clone.join("schema") } else { clone.join("handlers") };
            fs::write(to.join(&name), text).unwrap();
            let mode = if name.ends_with(".sh") && name != "lib.sh" && name != "lame.sh" { 0o755 } else { 0o644 };
            fs::set_permissions(to.join(&name), fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    /// Writes the host's configuration: fetches only when told, everything inside of the folder, and `more`.
    pub fn configure(&self, more: &str) {
        let lock = self.path().join("lock");
        let interval = if more.contains("fetch_interval") { "" } else { "fetch_interval: 1h\n" };
        let free = if more.contains("min_free") { "" } else { "min_free: 0\n" };
        let text = format!("{interval}{free}lock_dir: {}\n{more}", lock.display());
        fs::write(self.path().join("config.yml"), text).unwrap();
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where handlers leave their marks.
    pub fn marks(&self) -> PathBuf {
        self.path().join("marks")
    }

    /// The person's clone.
    pub fn ana(&self) -> PathBuf {
        self.path().join("ana")
    }

    /// The dispatcher's clone.
    pub fn ops(&self) -> PathBuf {
        self.path().join("ops")
    }

    pub fn remote(&self) -> PathBuf {
        self.path().join("remote.git")
    }

    /// A program in a closed environment.
    pub fn command(&self, program: &str, at: &Path) -> Command {
        let mut command = Command::new(program);
        let state = self.path().join(format!("state-{}", at.file_name().unwrap().to_str().unwrap()));
        let path = std::env::var_os("PATH").unwrap_or_default();
        command
            .current_dir(at)
            .env_clear()
            .env("PATH", path)
            .env("HOME", self.path().join("home"))
            .env("LANG", "C.UTF-8")
            .env("STATE_DIRECTORY", state)
            .env("RUNTIME_DIRECTORY", self.path().join("run"))
            .env("DISPATCHER_CONFIG", self.path().join("config.yml"))
            .envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_TERMINAL_PROMPT", "0")])
            .envs([("GIT_AUTHOR_NAME", "Ana"), ("GIT_AUTHOR_EMAIL", "ana@example.org")])
            .envs([("GIT_COMMITTER_NAME", "Ana"), ("GIT_COMMITTER_EMAIL", "ana@example.org")])
            .envs(&self.env);
        command
    }

    /// From now on in the environment of every program.
    pub fn set_env(&mut self, name: &'static str, value: impl Into<String>) {
        self.env.insert(name, value.into());
    }

    /// What git says, which must succeed.
    #[track_caller]
    pub fn git(&self, at: &Path, args: &[&str]) -> String {
        let said = self.try_git(at, args);
        assert_eq!(said.code, 0, "git {args:?}: {}{}", said.out, said.err);
        said.out
    }

    /// A person's git beside a dispatcher that works: where it meets the index lock, it is tried again, as git says.
    pub fn person(&self, args: &[&str]) -> String {
        let mut said = self.try_git(&self.ops(), args);
        eventually("the index is free", || {
            let met = said.code != 0 && said.err.contains("index.lock': File exists");
            if met {
                said = self.try_git(&self.ops(), args);
            }
            !met
        });
        assert_eq!(said.code, 0, "git {args:?}: {}{}", said.out, said.err);
        said.out
    }

    pub fn try_git(&self, at: &Path, args: &[&str]) -> Said {
        let output = self.command("git", at).args(args).stdin(Stdio::null()).output().unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// A verb in a clone.
    pub fn at(&self, clone: &Path, args: &[&str]) -> Said {
        Said::of(self.command(PROGRAM, clone).args(args).stdin(Stdio::null()).output().unwrap())
    }

    /// A verb in the dispatcher's clone.
    pub fn ops_do(&self, args: &[&str]) -> Said {
        self.at(&self.ops(), args)
    }

    /// A verb with something on stdin.
    pub fn with_stdin(&self, clone: &Path, args: &[&str], text: &str) -> Said {
        let mut command = self.command(PROGRAM, clone);
        let mut child =
            command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        Said::of(child.wait_with_output().unwrap())
    }

    /// A verb that goes on while the test does other things.
    pub fn background(&self, clone: &Path, args: &[&str]) -> Child {
        let mut command = self.command(PROGRAM, clone);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Commits files in the person's clone and pushes, over whatever came meanwhile.
    #[track_caller]
    pub fn push(&self, files: &[(&str, &str)]) -> String {
        let ana = self.ana();
        self.git(&ana, &["pull", "-q", "--rebase", "--autostash", "origin", "main"]);
        for (path, text) in files {
            fs::write(ana.join(path), text).unwrap();
        }
        self.git(&ana, &["add", "-A"]);
        self.git(&ana, &["commit", "-q", "-m", "Ask"]);
        eventually("the push goes through", || {
            self.git(&ana, &["pull", "-q", "--rebase", "origin", "main"]);
            self.try_git(&ana, &["push", "-q", "origin", "HEAD:main"]).code == 0
        });
        self.git(&ana, &["rev-parse", "HEAD"]).trim().to_owned()
    }

    /// Drops a whole file into the dispatcher's inbox.
    pub fn drop_in(&self, name: &str, text: &str) {
        let inbox = self.ops().join("requests");
        let hidden = inbox.join(format!(".{name}.tmp"));
        fs::write(&hidden, text).unwrap();
        fs::rename(hidden, inbox.join(name)).unwrap();
    }

    /// Every status that a commit of the dispatcher's clone holds.
    pub fn recorded(&self, rev: &str) -> BTreeMap<String, Value> {
        statuses(self, &self.ops(), rev)
    }

    /// The one final status of the request `name`, waited for.
    #[track_caller]
    pub fn outcome(&self, name: &str) -> Value {
        let mut found = Vec::new();
        eventually(&format!("`{name}` is recorded"), || {
            found = self.outcomes(name);
            !found.is_empty()
        });
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    /// The final statuses of requests of that name, by id.
    pub fn outcomes(&self, name: &str) -> Vec<Value> {
        self.recorded("HEAD").into_values().filter(|status| status["request"] == name).collect()
    }

    /// Waits until a run of the request `name` has that status on disk; its id.
    pub fn until(&self, name: &str, status: &str) -> String {
        let mut id = None;
        eventually(&format!("`{name}` is {status}"), || {
            id = self.on_disk().into_iter().find(|s| s["request"] == name && s["status"] == status);
            id.is_some()
        });
        id.unwrap()["id"].as_str().unwrap().to_owned()
    }

    /// Every status in the dispatcher's clone, final or not.
    pub fn on_disk(&self) -> Vec<Value> {
        let folders = fs::read_dir(self.ops().join("processed")).unwrap().flatten();
        folders
            .filter_map(|entry| serde_json::from_slice(&fs::read(entry.path().join("status.json")).ok()?).ok())
            .collect()
    }

    /// The daemon's events so far.
    pub fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.ops().join("logs/events.jsonl")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Waits for an event; what was before `from` does not count.
    pub fn event(&self, from: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        eventually(what, || {
            found = self.events().into_iter().skip(from).find(|event| wanted(event));
            found.is_some()
        });
        found.unwrap()
    }

    /// A gate that `gate` handlers wait at.
    pub fn gate(&self, name: &str) -> Gate {
        let path = self.marks().join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        Gate { path }
    }

    /// What the handlers of a resource wrote: one line per start and end.
    pub fn lines(&self, resource: &str) -> Vec<String> {
        let text = fs::read_to_string(self.marks().join(format!("{resource}.runs"))).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Runs that found another run of their resource alive.
    pub fn overlaps(&self) -> String {
        fs::read_to_string(self.marks().join("overlaps")).unwrap_or_default()
    }

    /// Living processes of handlers of this world.
    pub fn survivors(&self) -> Vec<i32> {
        processes().into_iter().filter(|&pid| has_mark(pid, &self.mark) && alive(pid)).collect()
    }

    /// Living processes that have this folder's home: what dispatchers of this world have started for git, and they
    /// themselves.
    pub fn at_home(&self) -> Vec<i32> {
        let home = format!("HOME={}", self.path().join("home").display());
        processes().into_iter().filter(|&pid| has_mark(pid, &home) && alive(pid)).collect()
    }

    /// What must hold of both repositories whenever all is said and done.
    #[track_caller]
    pub fn sound(&self) {
        assert_eq!(self.breaches(), [""; 0]);
        self.sound_for_git();
    }

    /// The codes of what `fsck` finds.
    pub fn breaches(&self) -> Vec<String> {
        let said = self.ops_do(&["fsck"]);
        let lines = said.out.lines().filter_map(|line| line.split_once("error[")?.1.get(..5));
        let found: Vec<String> = lines.map(str::to_owned).collect();
        assert_eq!(said.code, i32::from(!found.is_empty()), "{said:?}");
        found
    }

    /// As `sound`, where a person has written into the record.
    pub fn sound_for_git(&self) {
        let ops = self.ops();
        assert_eq!(self.git(&ops, &["rev-list", "--merges", "HEAD"]), "", "merge commits");
        let tip = |at: &Path| self.git(at, &["rev-parse", "main"]);
        assert_eq!(tip(&ops), tip(&self.remote()), "the remote's tip");
        assert_eq!(self.git(&ops, &["status", "--porcelain"]), "", "git status");
        let fsck = self.try_git(&ops, &["fsck", "--strict", "--no-dangling"]);
        assert_eq!((fsck.code, fsck.out.as_str()), (0, ""), "{}", fsck.err);
        assert_eq!(self.overlaps(), "", "runs that overlap");
        assert_eq!(self.survivors(), [0; 0], "survivors");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for pid in self.survivors() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// A pipe with a name: a handler reads from it until the test has let it go.
pub struct Gate {
    path: PathBuf,
}

impl Gate {
    /// Waits until a handler stands at the gate; it goes on when what is returned is dropped.
    pub fn reached(&self) -> File {
        let mut file = None;
        eventually("a handler stands at the gate", || {
            file = File::options().write(true).custom_flags(libc::O_NONBLOCK).open(&self.path).ok();
            file.is_some()
        });
        file.unwrap()
    }
}

/// A running daemon; killed at the end of its scope.
pub struct Daemon {
    child: Child,
    /// Where it says what it does.
    pub output: PathBuf,
}

impl Daemon {
    /// Starts one in the dispatcher's clone and waits until it answers.
    pub fn start(world: &World) -> Self {
        Self::start_with(world, &["--no-tui"])
    }

    pub fn start_with(world: &World, args: &[&str]) -> Self {
        let daemon = Self::spawn(world, args);
        eventually("the daemon answers", || world.ops_do(&["status"]).code == 0);
        daemon
    }

    /// Starts one without waiting for anything.
    pub fn spawn(world: &World, args: &[&str]) -> Self {
        let mut command = world.command(PROGRAM, &world.ops());
        command.args(args);
        Self::spawned(world, command)
    }

    /// Starts one where a shell has done `first` (limits, umask, variables), and waits until it answers.
    pub fn start_after(world: &World, first: &str) -> Self {
        let mut command = world.command("sh", &world.ops());
        command.args(["-c", &format!("{first}; exec \"$0\" --no-tui"), PROGRAM]);
        let daemon = Self::spawned(world, command);
        eventually("the daemon answers", || world.ops_do(&["status"]).code == 0);
        daemon
    }

    fn spawned(world: &World, mut command: Command) -> Self {
        let output = world.path().join("daemon.out");
        let file = File::options().create(true).append(true).open(&output).unwrap();
        let both = file.try_clone().unwrap();
        let child = command.stdin(Stdio::null()).stdout(file).stderr(both).spawn().unwrap();
        Self { child, output }
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn ended(mut self) -> i32 {
        let status = self.wait();
        status.code().unwrap_or_else(|| panic!("{status}"))
    }

    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        let output = fs::read_to_string(&self.output).unwrap_or_default();
        eventually(&format!("the daemon ends: {output}"), || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Still there.
    pub fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// TERM, and its end.
    #[track_caller]
    pub fn stop(self) {
        self.signal(Signal::SIGTERM);
        assert_eq!(self.ended(), 0);
    }

    /// `kill -9`, and its end.
    pub fn kill(mut self) {
        self.signal(Signal::SIGKILL);
        self.wait();
    }

    /// Its launchers and supervisors, living or not reaped.
    pub fn helpers(&self) -> Vec<i32> {
        let mut found = Vec::new();
        let mut left = children(self.pid());
        while let Some(pid) = left.pop() {
            if fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"dispatcher-launcher")) {
                found.push(pid);
            }
            left.extend(children(pid));
        }
        found
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The children of a process, of all of its threads.
pub fn children(pid: i32) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let texts = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    texts.flat_map(|text| text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<i32>>()).collect()
}

/// Alive, and not a zombie that waits to be reaped.
pub fn alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat[stat.rfind(')').unwrap()..].starts_with(") Z"))
}

fn processes() -> Vec<i32> {
    fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn has_mark(pid: i32, mark: &str) -> bool {
    fs::read(format!("/proc/{pid}/environ")).is_ok_and(|env| env.split(|&b| b == 0).any(|one| one == mark.as_bytes()))
}

/// Every status of a commit, by id, read in one go.
pub fn statuses(world: &World, clone: &Path, rev: &str) -> BTreeMap<String, Value> {
    let tree = world.git(clone, &["ls-tree", "-r", rev, "processed/"]);
    let wanted: Vec<(String, String)> = tree
        .lines()
        .filter_map(|line| {
            let (meta, path) = line.split_once('\t')?;
            let id = path.strip_prefix("processed/")?.strip_suffix("/status.json")?;
            Some((id.to_owned(), meta.split(' ').nth(2)?.to_owned()))
        })
        .collect();
    let asked = wanted.iter().map(|(_, oid)| format!("{oid}\n")).collect::<String>();
    let questions = world.path().join(format!("questions-{:?}", std::thread::current().id()));
    fs::write(&questions, asked).unwrap();
    let mut command = world.command("git", clone);
    let output = command.args(["cat-file", "--batch"]).stdin(File::open(questions).unwrap()).output().unwrap();
    let mut rest = output.stdout.as_slice();
    let mut found = BTreeMap::new();
    for (id, _) in wanted {
        let end = rest.iter().position(|&b| b == b'\n').unwrap();
        let head = std::str::from_utf8(&rest[..end]).unwrap();
        let size: usize = head.rsplit(' ').next().unwrap().parse().unwrap();
        let body = &rest[end + 1..end + 1 + size];
        found.insert(id, serde_json::from_slice(body).unwrap());
        rest = &rest[end + 2 + size..];
    }
    found
}

/// What a handler of a kind is asked for: params as written in YAML.
pub fn ask(kind: &str, params: &str) -> String {
    format!("kind: {kind}\nparams: {{{params}}}\n")
}
