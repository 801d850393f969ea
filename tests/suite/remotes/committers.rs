//! Eight other committers on the same branch, who push as fast as they can while requests run.
//!
//! `DISPATCHER_SECONDS=120 cargo test --release --test suite remotes::committers -- --nocapture` is the long form: two
//! minutes and 500 requests.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{events, on_remote, published};
use crate::world::{Daemon, World, ask, eventually};

const COMMITTERS: usize = 8;

/// What is asked for, by number: half of it comes with the committers' pushes.
fn request(n: usize) -> (String, String) {
    (format!("{n:03}.yml"), ask("ok", &format!("on: r{}", n % 20)))
}

/// One who commits notes and, as long as there are some, requests; how often they pushed, and how many tries it took.
fn committer(world: &World, number: usize, until: Instant, next: &AtomicUsize, most: usize) -> (usize, usize) {
    let clone = world.path().join(format!("p{number}"));
    let git = |args: &[&str]| world.git(&clone, args);
    let (mut commits, mut tries) = (0, 0);
    while Instant::now() < until || next.load(Ordering::Relaxed) < most {
        fs::write(clone.join(format!("notes-{number}.txt")), format!("{commits}\n")).unwrap();
        let n = next.fetch_add(2, Ordering::Relaxed);
        if n < most {
            let (name, text) = request(n);
            fs::write(clone.join("requests").join(name), text).unwrap();
        }
        git(&["add", "-A"]);
        git(&["commit", "-q", "-m", &format!("note {number}-{commits}")]);
        loop {
            tries += 1;
            if world.try_git(&clone, &["push", "-q", "origin", "HEAD:main"]).code == 0 {
                break;
            }
            git(&["pull", "-q", "--rebase", "origin", "main"]);
        }
        commits += 1;
    }
    (commits, tries)
}

#[test]
fn eight_committers_and_hundreds_of_requests() {
    let seconds: u64 = std::env::var("DISPATCHER_SECONDS").map_or(6, |text| text.parse().unwrap());
    let most = usize::try_from(500 * seconds / 120).unwrap();
    let world = World::new("fetch_interval: 1s\n");
    for number in 0..COMMITTERS {
        world.git(world.path(), &["clone", "-q", "remote.git", &format!("p{number}")]);
    }
    let daemon = Daemon::start(&world);
    let until = Instant::now() + Duration::from_secs(seconds);
    let next = AtomicUsize::new(0);
    let pushed = thread::scope(|scope| {
        let (world, next) = (&world, &next);
        let people: Vec<_> =
            (0..COMMITTERS).map(|n| scope.spawn(move || committer(world, n, until, next, most))).collect();
        for n in (1..most).step_by(2) {
            let (name, text) = request(n);
            world.drop_in(&name, &text);
            // What is dropped keeps pace with what is pushed.
            eventually("the others come along", || next.load(Ordering::Relaxed) >= n || Instant::now() >= until);
        }
        people.into_iter().map(|person| person.join().unwrap()).collect::<Vec<_>>()
    });
    eventually("all are recorded", || {
        world.ops_do(&["fetch"]);
        world.recorded("HEAD").len() >= most
    });
    published(&world);
    eventually("all pushes are told", || {
        events(&world, 0, "git.pushed").iter().map(|event| event["runs"].as_u64().unwrap()).sum::<u64>() == most as u64
    });
    let attempts = attempts(&world);
    daemon.stop();
    judge(&world, most, &pushed);
    let (commits, tries) = pushed.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!(
        "{most} requests, {commits} commits of {COMMITTERS} committers in {tries} pushes; ours: {} pushes, attempts \
         p50 {}, p95 {}, most {}",
        attempts.len(),
        attempts[attempts.len() / 2],
        attempts[attempts.len() * 95 / 100],
        attempts[attempts.len() - 1],
    );
}

/// How many attempts each of our pushes took, the fewest first.
fn attempts(world: &World) -> Vec<u64> {
    let mut all: Vec<u64> =
        events(world, 0, "git.pushed").iter().map(|event| event["attempts"].as_u64().unwrap()).collect();
    all.sort_unstable();
    all
}

fn judge(world: &World, most: usize, pushed: &[(usize, usize)]) {
    let expect: Vec<String> = (0..most).map(|n| request(n).0).collect();
    assert_eq!(on_remote(world), expect, "every result once");
    let all = world.recorded("HEAD");
    assert!(all.values().all(|status| status["status"] == "succeeded" && status["attempt"] == 1), "{all:?}");
    let log = world.git(&world.remote(), &["log", "--format=%s", "main"]);
    for (number, (commits, _)) in pushed.iter().enumerate() {
        for n in 0..*commits {
            let subject = format!("note {number}-{n}");
            assert_eq!(log.lines().filter(|line| *line == subject).count(), 1, "{subject}");
        }
    }
    assert_eq!(world.git(&world.remote(), &["rev-list", "--merges", "main"]), "", "merge commits");
    let clones: [PathBuf; 2] = [world.remote(), world.ops()];
    for clone in &clones {
        let fsck = world.try_git(clone as &Path, &["fsck", "--strict", "--no-dangling"]);
        assert_eq!((fsck.code, fsck.out.as_str()), (0, ""), "{}", fsck.err);
    }
    assert!(events(world, 0, "git.diverged").is_empty() && events(world, 0, "git.push_failed").is_empty());
    world.sound();
}
