//! `kill -9` at random moments of a load: of the daemon, of its launcher, of everything at once. Nothing is lost, nothing
//! runs twice that must not, nothing survives.
//!
//! `DISPATCHER_ROUNDS=50 cargo test --test suite torture -- --nocapture` is the long form; `DISPATCHER_SEED` repeats a
//! round.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::world::{Daemon, World, ask, eventually};

/// How many requests a round has.
const REQUESTS: usize = 60;
/// How often something is killed in a round.
const KILLS: usize = 8;

/// What is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Daemon,
    Launcher,
    Everything,
}

#[test]
fn nothing_is_lost_whoever_is_killed() {
    let rounds: u64 = std::env::var("DISPATCHER_ROUNDS").map_or(5, |text| text.parse().unwrap());
    let seed: Option<u64> = std::env::var("DISPATCHER_SEED").ok().map(|text| text.parse().unwrap());
    let first = seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    let rounds = if seed.is_some() { 1 } else { rounds };
    let mut sum = Tally::default();
    for round in 0..rounds {
        let seed = first + round;
        let victim = [Victim::Daemon, Victim::Launcher, Victim::Everything][usize::try_from(seed % 3).unwrap()];
        println!("round {round}: seed {seed}, victim {victim:?}");
        let tally = torture(seed, victim);
        println!("round {round}: {tally:?}");
        sum.add(&tally);
    }
    println!("{rounds} rounds: {sum:?}");
}

/// What was seen.
#[derive(Debug, Default)]
struct Tally {
    requests: usize,
    kills: usize,
    reruns: usize,
    crashed: usize,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.kills += other.kills;
        self.reruns += other.reruns;
        self.crashed += other.crashed;
    }
}

fn requests(rng: &mut Rng) -> Vec<(String, String)> {
    (0..REQUESTS)
        .map(|n| {
            let on = format!("on: r{}", rng.u32(..6));
            let time = format!("{on}, for: 0.{:02}", rng.u32(1..30));
            let text = match n % 6 {
                0 | 1 => ask("work", &time),
                2 | 3 => ask("workonce", &time),
                4 => ask("code", &format!("{on}, code: {}", rng.u32(1..70))),
                _ => ask("nobody", &on),
            };
            (format!("{n:02}.yml"), text)
        })
        .collect()
}

fn torture(seed: u64, victim: Victim) -> Tally {
    let rng = &mut Rng::with_seed(seed);
    let world = World::new("fetch_interval: 300ms\nscan_interval: 500ms\n");
    let mut left = requests(rng);
    let mut daemon = Daemon::spawn(&world, &["--no-tui"]);
    let mut seen: BTreeMap<String, Value> = BTreeMap::new();
    for _ in 0..KILLS {
        // New work comes while things die: some by git, some by hand.
        let some = left.split_off(left.len() - (REQUESTS / KILLS + 1).min(left.len()));
        let (pushed, dropped) = some.split_at(some.len() / 2);
        for (name, text) in dropped {
            world.drop_in(name, text);
        }
        let files: Vec<(String, &str)> =
            pushed.iter().map(|(name, text)| (format!("requests/{name}"), text.as_str())).collect();
        if !files.is_empty() {
            world.push(&files.iter().map(|(path, text)| (path.as_str(), *text)).collect::<Vec<_>>());
        }
        // The moment itself is what is random.
        std::thread::sleep(Duration::from_millis(rng.u64(..900)));
        daemon = strike(&world, daemon, victim);
        keeps(&mut seen, world.recorded("HEAD"));
    }
    for (name, text) in left {
        world.drop_in(&name, &text);
    }
    // A TERM before it catches signals would be one more kill.
    eventually("the daemon answers", || world.ops_do(&["status"]).code == 0);
    daemon.stop();
    let last = Daemon::spawn(&world, &["--no-tui", "--once"]);
    assert_eq!(last.ended(), 0, "{}", std::fs::read_to_string(world.path().join("daemon.out")).unwrap());
    keeps(&mut seen, world.recorded("HEAD"));
    judge(&world, &seen)
}

/// Kills, and starts again what has to be started again.
fn strike(world: &World, daemon: Daemon, victim: Victim) -> Daemon {
    let helpers = daemon.helpers();
    let dead = |pid: &i32| {
        // It may have ended by itself.
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    };
    match victim {
        Victim::Daemon => {
            daemon.kill();
            eventually("nothing of a run outlives the daemon", || world.survivors().is_empty());
            Daemon::spawn(world, &["--no-tui"])
        }
        Victim::Launcher => {
            let own = crate::world::children(daemon.pid());
            helpers.iter().filter(|pid| own.contains(pid)).for_each(dead);
            daemon
        }
        Victim::Everything => {
            helpers.iter().for_each(dead);
            daemon.kill();
            Daemon::spawn(world, &["--no-tui"])
        }
    }
}

/// What was recorded once is there for ever, as it was.
fn keeps(seen: &mut BTreeMap<String, Value>, now: BTreeMap<String, Value>) {
    for (id, before) in &*seen {
        assert_eq!(now.get(id), Some(before), "a final status has changed");
    }
    *seen = now;
}

fn judge(world: &World, ended: &BTreeMap<String, Value>) -> Tally {
    world.sound();
    let changed = world.git(
        &world.ops(),
        &["log", "--diff-filter=MDRT", "--format=", "--name-status", "--no-renames", "--", "processed"],
    );
    assert_eq!(changed, "", "a recorded run was touched");
    let mut names: Vec<&str> = ended.values().map(|s| s["request"].as_str().unwrap()).collect();
    names.sort_unstable();
    let all: Vec<String> = (0..REQUESTS).map(|n| format!("{n:02}.yml")).collect();
    assert_eq!(names, all, "every request exactly once");
    let marks: Vec<String> = (0..6).flat_map(|n| world.lines(&format!("r{n}"))).collect();
    let (crashed, reruns) = judge_runs(ended, &marks, 3);
    Tally { requests: REQUESTS, kills: KILLS, reruns, crashed }
}

/// Every recorded run against the marks that its handlers left, `most` starts of each; how many crashed, and how many ran
/// more than once.
pub fn judge_runs(ended: &BTreeMap<String, Value>, marks: &[String], most: usize) -> (usize, usize) {
    let (mut crashed, mut reruns) = (0, 0);
    for (id, status) in ended {
        let of = |word: &str| -> Vec<u64> {
            let prefix = format!("{word} {id} ");
            marks.iter().filter_map(|line| line.strip_prefix(&prefix)?.parse().ok()).collect()
        };
        run(status, &of("start"), &of("end"), most);
        crashed += usize::from(status["status"] == "crashed");
        reruns += usize::from(status["attempt"].as_u64().unwrap() > 1);
    }
    (crashed, reruns)
}

/// One run: its status, the attempts that began and those that came to their end.
fn run(status: &Value, starts: &[u64], ends: &[u64], most: usize) {
    let (state, attempt) = (status["status"].as_str().unwrap(), status["attempt"].as_u64().unwrap());
    let told = format!("{status}: {starts:?} {ends:?}");
    assert!(status["finished_at"].is_string(), "{told}");
    match status["kind"].as_str() {
        None | Some("nobody") => return assert_eq!((state, starts.len()), ("rejected", 0), "{told}"),
        Some("workonce") => assert!(starts.len() <= 1 && attempt <= 1, "started twice: {told}"),
        Some("code") => assert!(matches!(state, "failed" | "crashed"), "{told}"),
        _ => assert!(matches!(state, "succeeded" | "crashed"), "{told}"),
    }
    assert!(attempt <= 3 && starts.len() <= most, "too many attempts: {told}");
    let once = status["kind"] == "workonce";
    assert!(state != "crashed" || once || attempt == 3, "given up too early: {told}");
    assert!(state == "crashed" || ends.contains(&attempt), "an end that never was: {told}");
    for interrupted in starts.iter().filter(|attempt| !ends.contains(attempt)) {
        assert!(state == "crashed" || attempt > *interrupted, "an interruption that is not visible: {told}");
    }
}
