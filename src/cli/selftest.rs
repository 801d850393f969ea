//! `selftest`: what this machine and this repository can do, shown by doing it: a real handler runs as the handlers' user.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;

use crate::cli::context::Context;
use crate::cli::{Exit, Failure, serve};
use crate::config::Config;
use crate::daemon::{self, Source};
use crate::diagnostic::Diagnostic;
use crate::executor::{Ended, Executor, Finished, Setup, Sink};
use crate::launcher::{self, User, Walls};
use crate::mask::{MARKER, Mask, Masker};
use crate::repo::{FetchOutcome, Repo};
use crate::request::RunId;
use crate::sandbox::{self, Limits, Plan};
use crate::secret::SecretValue;
use crate::text;

/// How one check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    Good,
    /// Works, with less than there could be.
    Less,
    Bad,
}

/// One check.
struct Check {
    what: &'static str,
    mark: Mark,
    words: String,
    help: Vec<String>,
}

fn good(what: &'static str, words: impl Into<String>) -> Check {
    Check { what, mark: Mark::Good, words: words.into(), help: Vec::new() }
}

fn less(what: &'static str, words: impl Into<String>, help: &str) -> Check {
    Check { what, mark: Mark::Less, words: words.into(), help: vec![help.to_owned()] }
}

fn bad(what: &'static str, problem: &Diagnostic) -> Check {
    let words = format!("[{}] {}", problem.code, problem.message);
    Check { what, mark: Mark::Bad, words, help: problem.help.clone() }
}

/// `selftest`.
///
/// # Errors
/// 1 where a check fails (silently: it was printed), 74 where stdout is closed.
pub fn selftest(context: &Context) -> Result<Exit, Failure> {
    let mut checks = vec![program()];
    match context.root() {
        Ok(root) => repository(context, &root, &mut checks),
        Err(failure) => {
            let words = failure.problems.first().map_or_else(String::new, |problem| problem.message.clone());
            checks.push(less(
                "repository",
                words,
                "dispatcher init DIR     then run the selftest there: dispatcher -C DIR selftest",
            ));
            match tempfile::tempdir() {
                Ok(folder) => checks.extend(sandbox(&Config::default(), folder.path())),
                Err(error) => checks.push(bad("handlers", &Diagnostic::new("E0704", error.to_string()))),
            }
        }
    }
    let failed = checks.iter().any(|check| check.mark == Mark::Bad);
    print(context, &checks, failed)?;
    if failed { Err(Failure::silent(Exit::FAILED)) } else { Ok(Exit::DONE) }
}

fn print(context: &Context, checks: &[Check], failed: bool) -> Result<(), Failure> {
    let word = |mark| match mark {
        Mark::Good => "ok",
        Mark::Less => "less",
        Mark::Bad => "failed",
    };
    if context.common.json {
        let all: Vec<_> = checks
            .iter()
            .map(|c| json!({ "check": c.what, "outcome": word(c.mark), "words": c.words, "help": c.help }))
            .collect();
        return context.print_json(&json!({ "ok": !failed, "version": env!("CARGO_PKG_VERSION"), "checks": all }));
    }
    for check in checks {
        let style = match check.mark {
            Mark::Good => ansi_term::Color::Green.normal(),
            Mark::Less => ansi_term::Color::Yellow.normal(),
            Mark::Bad => ansi_term::Color::Red.bold(),
        };
        let mark = context.paint(style, &format!("{:6}", word(check.mark)));
        context.print(&format!("{mark}  {:12}  {}\n", check.what, text::line(&check.words)))?;
        for help in &check.help {
            context.print(&format!("                      = help: {}\n", text::line(help)))?;
        }
    }
    Ok(())
}

fn program() -> Check {
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    good("program", format!("dispatcher {} ({profile})", env!("CARGO_PKG_VERSION")))
}

fn repository(context: &Context, root: &Path, checks: &mut Vec<Check>) {
    let loaded = match serve::loaded(context, root) {
        Ok(loaded) => loaded,
        Err(failure) => return checks.extend(failure.problems.iter().map(|problem| bad("config", problem))),
    };
    let unmet = loaded.unmet();
    checks.extend(unmet.iter().map(|problem| bad("config", problem)));
    match loaded.idle() {
        _ if !unmet.is_empty() => {}
        Some(warning) => checks.push(less("config", warning.message, "leave out what is not there yet")),
        None => checks.push(good("config", "read and within all bounds")),
    }
    let config = loaded.config;
    let repo = match daemon::open_repo(root, &config) {
        Ok(repo) => repo,
        Err(refused) => return checks.extend(refused.problems.iter().map(|problem| bad("repository", problem))),
    };
    checks.push(good("repository", root.display().to_string()));
    checks.push(remote(&repo));
    let places = daemon::find_places(&config, root).and_then(|places| {
        places.make(nix::unistd::geteuid().as_raw())?;
        Ok(places)
    });
    match places {
        Ok(places) => {
            checks.push(good("state", places.state.path.display().to_string()));
            checks.push(good("socket", places.socket().display().to_string()));
            checks.push(good("locks", places.lock.path.display().to_string()));
            checks.push(table(&repo, root, &places.state.path));
            // The probe's lock lies with the probe: lock files are never removed from where others lock.
            checks.extend(sandbox(&config, &places.state.path));
        }
        Err(problem) => checks.push(bad("state", &problem)),
    }
}

fn remote(repo: &Repo) -> Check {
    match repo.fetch() {
        Ok(FetchOutcome::Fetched { remote_tip: Some(tip), .. }) => {
            good("remote", format!("answers, its branch is at {tip}"))
        }
        Ok(FetchOutcome::Fetched { remote_tip: None, .. }) => {
            good("remote", "answers, its branch is made by the first push")
        }
        Ok(FetchOutcome::NoRemote) => {
            less("remote", "there is none: results are committed and stay here", "git remote add origin URL")
        }
        Err(error) => bad("remote", &error.diagnostic()),
    }
}

fn table(repo: &Repo, root: &Path, state: &Path) -> Check {
    let staging = state.join(format!("selftest-{}", std::process::id())).join("staged");
    let source = Source { root: root.to_owned(), extra: serve::handler_folders(), staging: staging.clone() };
    let loaded = source.load(repo);
    let check = match &loaded {
        Ok(library) => {
            let broken = library.table.entries().filter_map(|(_, problem)| problem).next().cloned();
            match broken {
                Some(problem) => bad("handlers", &problem),
                None => good("handlers", format!("{} kinds", library.table.entries().count())),
            }
        }
        Err(error) => match error.problems().first() {
            Some(problem) => bad("handlers", problem),
            None => bad("handlers", &Diagnostic::new("E0704", error.to_string())),
        },
    };
    drop(loaded);
    // The staged files went with the library; what is left are empty folders.
    let _ = staging.parent().map(fs::remove_dir_all);
    check
}

/// What the handler of the selftest says, masked as a log is.
struct Heard(Mutex<(Masker, Vec<u8>)>);

impl Sink for Heard {
    fn starting(&self, _: RunId, _: u32) -> Result<(), String> {
        Ok(())
    }
    fn started(&self, _: RunId, _: &str) {}
    fn output(&self, _: RunId, bytes: &[u8]) {
        let (masker, heard) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        masker.push(bytes, heard);
    }
    fn progress(&self, _: RunId, _: &str, _: Option<u64>, _: Option<u64>) {}
}

const PROBE: &str = "#!/bin/sh
echo uid=$(id -u)
grep -E '^(CapPrm|CapEff|CapAmb|NoNewPrivs)' /proc/self/status | tr -d '\\t'
env | cut -d= -f1 | tr '\\n' ' '
echo \"canary=$SELFTEST_SECRET\"
printf %s \"$SELFTEST_SECRET\" | od -An -v -tx1 | tr -d ' \\n'
echo
( : >/etc/dispatcher-selftest ) 2>/dev/null && echo WROTE
( : >>\"$SELFTEST_DIR/hidden/open\" ) 2>/dev/null && echo WROTE-HIDDEN
cat \"$SELFTEST_DIR/hidden/open\" 2>/dev/null
grep -E '^Seccomp:' /proc/self/status | tr -d '\\t'
exit 0
";

/// Whether a canary that the probe printed was masked, and whether secrets can be given as files.
fn secrets(heard: &str) -> Vec<Check> {
    let masked = heard.contains(&format!("canary={MARKER}\n{MARKER}"));
    let first = if masked && !heard.contains("canary-") {
        good("secrets", "a canary is masked in what a handler prints; masking is an airbag, not a wall")
    } else {
        bad("secrets", &Diagnostic::new("E0608", "a canary that the probe printed was not masked"))
    };
    let second = match sandbox::memory_base(&format!("selftest-{}", std::process::id())) {
        Ok(base) => {
            let words = format!("`secrets_as: file` uses a folder in memory, such as {}", base.display());
            // Ours alone, and empty.
            let _ = fs::remove_dir(base);
            good("secrets", words)
        }
        Err(why) => {
            less("secrets", format!("`secrets_as: file` is refused: {why}"), "mount a tmpfs on /dev/shm or /run")
        }
    };
    vec![first, second]
}

/// What holds handlers besides their user; what was found by trying is believed only where the probe felt it.
fn held_by(walls: Walls, user: &User, heard: &str) -> Vec<Check> {
    let has = |line: &str| heard.lines().any(|l| l == line);
    let read = has("READ-HIDDEN") || has("WROTE-HIDDEN");
    if (walls.landlock.is_some() && read) || (walls.seccomp && !has("Seccomp:2")) {
        let words = format!("a handler is not held by what was put in force: {}", text::line(heard));
        return vec![bad("sandbox", &Diagnostic::new("E0608", words))];
    }
    // The first part is the user, which has a line of its own.
    let mut checks: Vec<Check> = daemon::parts(walls, user)[1..]
        .iter()
        .map(|part| match (part.there, walls.landlock.filter(|_| part.name == "Landlock")) {
            (true, Some(version)) => good("sandbox", format!("{}, version {version} of its interface", part.name)),
            (true, None) => good("sandbox", part.name),
            (false, _) => less("sandbox", format!("without {}", part.name), part.help),
        })
        .collect();
    checks.push(match (walls.network, walls.seccomp) {
        (true, _) => good("network", "`network: none` is an empty network of the run's own"),
        (false, true) => good("network", "`network: none` refuses every socket that leaves this machine"),
        (false, false) => less(
            "network",
            "`network: none` cannot be held: such handlers see the machine's network",
            "start the dispatcher as root, or let it filter system calls",
        ),
    });
    checks
}

/// What came of the probe.
struct Probed {
    finished: Finished,
    heard: String,
    user: User,
    walls: Walls,
}

/// A file that everybody may read and write, in a folder that is hidden from handlers.
fn hide(folder: &Path) -> std::io::Result<PathBuf> {
    let (hidden, file) = (folder.join("hidden"), folder.join("hidden/open"));
    fs::create_dir(&hidden)?;
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o711))?;
    fs::write(&file, "READ-HIDDEN\n")?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666))?;
    Ok(hidden)
}

/// Runs a real handler as the handlers' user and looks at what it could do.
fn sandbox(config: &Config, state: &Path) -> Vec<Check> {
    let folder = state.join(format!("selftest-{}", std::process::id()));
    let outcome = probe(config, &folder);
    // Ours alone, and empty but for the probe.
    let _ = fs::remove_dir_all(&folder);
    let Probed { finished, heard, user, walls } = match outcome {
        Ok(outcome) => outcome,
        Err(problem) => return vec![bad("sandbox", &problem)],
    };
    if finished.outcome.ended != Ended::Exited(0) {
        let problem = finished.outcome.problem.unwrap_or_else(|| {
            Diagnostic::new(
                "E0608",
                format!("the probe ended with {:?}: {}", finished.outcome.ended, text::line(&heard)),
            )
        });
        return vec![bad("sandbox", &problem)];
    }
    let has = |line: &str| heard.lines().any(|l| l == line);
    let none = "0000000000000000";
    let bare = has(&format!("CapPrm:{none}")) && has(&format!("CapEff:{none}")) && has(&format!("CapAmb:{none}"));
    let held = bare && has("NoNewPrivs:1") && (!has("uid=0") || config.sandbox.allow_root) && !has("WROTE");
    let mut checks = Vec::new();
    if held {
        checks.push(good(
            "sandbox",
            format!("handlers run as {}, without capabilities, with no_new_privs, closed environment", user.name),
        ));
    } else {
        let words = format!("a handler could do more than it may: {}", text::line(&heard));
        checks.push(bad("sandbox", &Diagnostic::new("E0608", words)));
    }
    if nix::unistd::geteuid().is_root() && config.sandbox.user.is_none() {
        checks.push(less(
            "user",
            "handlers run as `nobody`",
            "sandbox: {user: executor} in the host configuration gives them a user of their own",
        ));
    } else if !nix::unistd::geteuid().is_root() {
        checks.push(less(
            "user",
            format!("handlers run as {}, the dispatcher's own user", user.name),
            "start the dispatcher as root (systemd does), and it switches users",
        ));
    }
    checks.extend(secrets(&heard));
    checks.extend(held_by(walls, &user, &heard));
    checks
}

fn probe(config: &Config, folder: &Path) -> Result<Probed, Diagnostic> {
    let failed =
        |what: &str, error: &dyn std::fmt::Display| Diagnostic::new("E0704", format!("failed to {what}: {error}"));
    let make = |path: &Path| fs::DirBuilder::new().recursive(true).mode(0o711).create(path);
    let locks = folder.join("lock");
    make(folder).and_then(|()| make(&locks)).map_err(|error| failed("make a folder", &error))?;
    let program: PathBuf = folder.join("probe");
    let written =
        fs::write(&program, PROBE).and_then(|()| fs::set_permissions(&program, fs::Permissions::from_mode(0o755)));
    written.map_err(|error| failed("write the probe", &error))?;
    let hidden = hide(folder).map_err(|error| failed("hide a file from the probe", &error))?;
    let canary = SecretValue::from(format!("canary-{:016x}", fastrand::u64(..)).into_bytes());
    let mask = Arc::new(Mask::new([canary.expose()]).map_err(|error| failed("mask the canary", &error))?);
    let heard = Arc::new(Heard(Mutex::new((Masker::new(Arc::clone(&mask)), Vec::new()))));
    let (tell, told) = crossbeam_channel::bounded(1);
    let setup = Setup {
        launcher: launcher::Setup {
            exe: None,
            user: config.sandbox.user.clone(),
            allow_root: config.sandbox.allow_root,
            lock_dir: locks,
            landlock: daemon::insist(config.sandbox.landlock),
            seccomp: daemon::insist(config.sandbox.seccomp),
            hidden: vec![hidden],
        },
        work: folder.join("work"),
        memory: Err("the probe has no files".to_owned()),
    };
    let executor = Executor::start(1, setup, Arc::<Heard>::clone(&heard), tell)
        .map_err(|error| Diagnostic::new("E0603", error.to_string()))?;
    let now = daemon::wall();
    let name = |text: &str| text.to_owned();
    let plan = Plan {
        id: RunId::new(now, std::array::from_fn(|_| fastrand::u8(..))),
        attempt: 1,
        kind: "selftest".parse().map_err(|error| failed("name the probe", &error))?,
        resource: format!("selftest-{}", std::process::id())
            .parse()
            .map_err(|error| failed("name the probe", &error))?,
        library: program.clone(),
        program,
        write: Vec::new(),
        no_network: true,
        request: b"kind: selftest\n".to_vec(),
        params: serde_json::Map::new(),
        limits: Limits { timeout: Duration::from_secs(20), grace: Duration::from_secs(1), memory: None, pids: None },
        env: vec![(name("SELFTEST_DIR"), folder.display().to_string())],
        secrets: vec![(name("SELFTEST_SECRET"), canary)],
        secrets_as_files: false,
        mask,
        deadline: now.plus(Duration::from_secs(20)),
        dry_run: false,
    };
    executor.submit(plan).map_err(|error| failed("start the probe", &error))?;
    let finished = told.recv_timeout(Duration::from_secs(30)).map_err(|error| failed("hear of the probe", &error))?;
    let (user, walls) = (executor.user().clone(), executor.launcher().walls());
    executor.join();
    let (masker, bytes) = &mut *heard.0.lock().unwrap_or_else(PoisonError::into_inner);
    masker.finish(bytes);
    let heard = String::from_utf8_lossy(bytes).into_owned();
    Ok(Probed { finished, heard, user, walls })
}
