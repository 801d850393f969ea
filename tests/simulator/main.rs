//! A seeded simulator of the dispatcher: drives the real engine against models of disk, processes, git and people,
//! crashes it between any two steps, restarts it from what was durable, and checks the invariants.
//!
//! `DISPATCHER_SEEDS=1000000` sets how many seeds are run; `DISPATCHER_SEED=7` runs one and prints all of it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail anywhere")]

mod account;
mod adapter;
mod check;
mod disk;
mod expect;
mod git;
mod people;
mod processes;
mod shell;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use dispatcher::engine::Engine;

use crate::adapter::{Core, Fault, Faulty};
use crate::world::World;

/// One seed; what broke and the trace, where it was asked for.
fn run<C: Core>(mut world: World<C>) -> (Result<(), String>, Vec<String>) {
    let result = catch_unwind(AssertUnwindSafe(|| world.run()));
    let result = result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(format!("panic: {}", text.unwrap_or_else(|| "without words".into())))
    });
    (result, world.trace.unwrap_or_default())
}

fn healthy(seed: u64, trace: bool) -> (Result<(), String>, Vec<String>) {
    run(World::new(seed, trace, Box::new(Engine::new)))
}

fn faulty(seed: u64, blind: bool, fault: Fault) -> Result<(), String> {
    let mut world = World::new(seed, false, Box::new(move |settings, pause| Faulty::new(settings, pause, fault)));
    world.blind = blind;
    run(world).0
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// The smallest of the seeds that break, over all cores.
fn first_broken(seeds: u64) -> Option<u64> {
    let next = AtomicU64::new(0);
    let worst = AtomicU64::new(u64::MAX);
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.min(worst.load(Ordering::Relaxed)) {
                        return;
                    }
                    if healthy(seed, false).0.is_err() {
                        worst.fetch_min(seed, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    Some(worst.into_inner()).filter(|&seed| seed < u64::MAX)
}

#[test]
fn seeds_are_clean() {
    if let Some(seed) = number("DISPATCHER_SEED") {
        let (result, trace) = healthy(seed, true);
        println!("{}", trace.join("\n"));
        return result.unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
    }
    let seeds = number("DISPATCHER_SEEDS").unwrap_or(10_000);
    if let Some(seed) = first_broken(seeds) {
        let (result, trace) = healthy(seed, true);
        let last = trace[trace.len().saturating_sub(40)..].join("\n");
        panic!(
            "{last}\nseed {seed}: {}\nrepeat: DISPATCHER_SEED={seed} cargo test --test simulator seeds -- --nocapture",
            result.expect_err("the same seed breaks again")
        );
    }
    println!("{seeds} seeds clean");
}

/// What a fault is found by: one of these words.
fn symptoms(fault: Fault) -> &'static [&'static str] {
    match fault {
        Fault::LockReleasedEarly => &["I4", "asks again too soon"],
        Fault::FinalRewritten => &["I2"],
        Fault::FailIsRerun | Fault::CrashesForgotten => &["while Due(Final(Crashed))", "I3"],
        Fault::AnnouncedEarly => &["before its commit"],
        Fault::WakesLate => &["lost wake-up"],
        Fault::NeverSleeps => &["busy loop"],
        Fault::RetriesTooOften => &["while Due(Final("],
        Fault::NoBackoff => &["back-off"],
        Fault::RunForgotten => &["could start", "I8"],
        Fault::OrderReversed => &["overtook"],
        Fault::PauseIgnored => &["although paused", "although held"],
        Fault::OneWorkerMore => &["attempts at once"],
        Fault::TwoCommits => &["two commits"],
        Fault::TwoPushes => &["two pushes"],
        Fault::TwoArchives => &["two steps"],
        Fault::CancelIgnored => &["Final(Cancelled)"],
        Fault::ExitsEarly => &["exits while", "exits with results", "I5"],
        Fault::NeverExits => &["no end after"],
        Fault::NeverAnnounces => &["not announced"],
        Fault::FoundForgotten => &["I8", "could start", "should have"],
    }
}

#[test]
fn broken_engines_are_caught() {
    for fault in Fault::ALL {
        let caught = (0..1_000).find_map(|seed| Some((seed, faulty(seed, false, fault).err()?)));
        let (seed, broken) = caught.unwrap_or_else(|| panic!("{fault:?} is not caught within 1,000 seeds"));
        assert!(symptoms(fault).iter().any(|word| broken.contains(word)), "{fault:?} shows itself as: {broken}");
        println!("{fault:?}: caught by seed {seed}: {broken}");
    }
}

/// The worst faults are seen in what they do to disk, processes and git as well, without looking at the engine.
#[test]
fn damage_is_seen_where_it_is_done() {
    for (fault, symptoms) in [
        (Fault::LockReleasedEarly, &["I4"][..]),
        (Fault::FinalRewritten, &["I2: the final status"]),
        (Fault::FailIsRerun, &["I3"]),
        (Fault::CrashesForgotten, &["I3"]),
        (Fault::AnnouncedEarly, &["which is not committed"]),
        (Fault::TwoCommits, &["I2: commits"]),
        (Fault::ExitsEarly, &["I5"]),
        (Fault::RunForgotten, &["I1", "no end"]),
        (Fault::FoundForgotten, &["I1", "no end"]),
    ] {
        let caught = (0..1_000).find_map(|seed| Some((seed, faulty(seed, true, fault).err()?)));
        let (seed, broken) = caught.unwrap_or_else(|| panic!("{fault:?} is not caught within 1,000 seeds"));
        assert!(symptoms.iter().any(|word| broken.contains(word)), "{fault:?} shows itself as: {broken}");
        println!("{fault:?}: seen by seed {seed}: {broken}");
    }
}

/// The simulator is worth as much as what it reaches.
#[test]
fn everything_happens() {
    let mut missing = vec![
        "state: Succeeded",
        "state: Failed",
        "state: TimedOut",
        "state: OutOfMemory",
        "state: Cancelled",
        "state: Rejected",
        "state: Expired",
        "state: Duplicate",
        "state: Crashed",
        "state: Waiting",
        "LockBusy",
        "TooManyProcesses",
        "NotStarted",
        "ended: Lost",
        "ended: Trouble",
        "Scheduled {",
        "Failed(\"permission",
        ", Nothing)",
        "prior: Queued",
        "prior: Running",
        "prior: Final",
        "prior: Settled",
        "withdrawn in",
        "it is not started again",
        "3 attempts were lost so",
        "why: \"dispatcher stopped\"",
        "Some(\"dispatcher stopped\")",
        "`expires_at`",
        "`max_queue_age`",
        "how: Gracefully",
        "how: AtOnce",
        "Fetched(NoRemote)",
        "Fetched(Blocked",
        "Fetched(Diverged",
        "Fetched(Failed",
        "Pushed(Moved)",
        "the remote end hung up",
        "retry_ms: None",
        "Recovered { reason: \"push\"",
        "Recovered { reason: \"second_dispatcher\"",
        "Recovered { reason: \"commit\"",
        "KeepPause(Some",
        "commit: Some(",
        "unpublished: true",
        "ArchivePushed(Moved)",
        "ArchivePushed(Failed",
        "Recovered { reason: \"archive\"",
        "CRASH",
        "EXIT Done",
        "EXIT TryLater",
        "once: true",
    ];
    for seed in 0..2_000 {
        let (_, trace) = healthy(seed, true);
        missing.retain(|word| !trace.iter().any(|line| line.contains(word)));
        if missing.is_empty() {
            return;
        }
    }
    panic!("2,000 seeds never reach {missing:?}");
}
