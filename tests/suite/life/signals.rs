//! What signals and deaths of the daemon do to runs.

use nix::sys::signal::Signal;

use crate::world::{Daemon, World, ask, eventually};

#[test]
fn term_lets_short_runs_finish() {
    let world = World::new("");
    let gate = world.gate("a");
    let daemon = Daemon::start(&world);
    world.drop_in("a.yml", &ask("gate", "on: web, gate: a"));
    let open = gate.reached();
    world.drop_in("b.yml", &ask("ok", "on: web"));
    world.until("b.yml", "waiting");
    daemon.signal(Signal::SIGTERM);
    world.event(0, "it stops", |e| e["event"] == "dispatcher.stopping");
    drop(open);
    assert_eq!(daemon.ended(), 0);
    assert_eq!(world.outcome("a.yml")["status"], "succeeded");
    assert!(world.outcomes("b.yml").is_empty(), "a queued run stays taken");
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    let b = world.outcome("b.yml");
    assert_eq!((&b["status"], &b["attempt"]), (&"succeeded".into(), &1.into()));
    world.sound();
}

/// A long run ends with the dispatcher: `stop` says how.
fn long(config: &str, kind: &str, times: u32) {
    let world = World::new(config);
    let (a, b) = (world.gate("a"), world.gate("b"));
    let mut daemon = Daemon::start(&world);
    world.drop_in("a.yml", &ask(kind, "on: web, gate: a"));
    world.drop_in("b.yml", &ask("once", "on: db, gate: b"));
    let open = (a.reached(), b.reached());
    for n in 0..times {
        daemon.signal(Signal::SIGTERM);
        if n + 1 < times {
            world.event(0, "it stops", |e| e["event"] == "dispatcher.stopping");
            assert!(daemon.lives());
        }
    }
    if times > 2 {
        // Two of them at the same moment are one, as the kernel has it.
        eventually("it gives in", || {
            daemon.signal(Signal::SIGTERM);
            !daemon.lives()
        });
    }
    assert_eq!(daemon.wait().code(), Some(0));
    drop(open);
    assert_eq!(world.survivors(), [0; 0]);
    let b = world.outcome("b.yml");
    assert_eq!(
        (&b["status"], &b["rc"], &b["reason"]),
        (&"cancelled".into(), &130.into(), &"dispatcher stopped".into())
    );
    assert!(world.outcomes("a.yml").is_empty());
    let a_now = world.on_disk().into_iter().find(|s| s["request"] == "a.yml").unwrap();
    assert_eq!(a_now["status"], "queued", "{a_now}");
    let daemon = Daemon::start(&world);
    drop(a.reached());
    let a = world.outcome("a.yml");
    assert_eq!((&a["status"], &a["attempt"]), (&"succeeded".into(), &2.into()));
    daemon.stop();
    assert_eq!(world.lines("db").len(), 1, "`on_crash: fail` is not started again");
    world.sound();
}

#[test]
fn term_ends_long_runs_after_the_drain_time() {
    long("drain_timeout: 300ms\n", "polite", 1);
}

#[test]
fn term_twice_ends_long_runs_now() {
    long("drain_timeout: 1h\n", "gate", 2);
}

#[test]
fn term_three_times_ends_the_deaf_too() {
    long("drain_timeout: 1h\n", "deaf", 3);
}

#[test]
fn usr1_fetches_and_hup_reads_again() {
    let world = World::new("");
    let daemon = Daemon::start(&world);
    world.push(&[("requests/a.yml", &ask("ok", "on: web"))]);
    daemon.signal(Signal::SIGUSR1);
    assert_eq!(world.outcome("a.yml")["status"], "succeeded");
    let from = world.events().len();
    let index = world.ops().join("handlers/index.yml");
    let text = std::fs::read_to_string(&index).unwrap();
    std::fs::write(&index, text.replace("  lame:", "  extra: {run: ok.sh}\n  lame:")).unwrap();
    daemon.signal(Signal::SIGHUP);
    world.event(from, "the table is read again", |e| e["event"] == "router.loaded");
    daemon.stop();
}

#[test]
fn hup_reads_the_configuration_again() {
    let world = World::new("");
    let daemon = Daemon::start(&world);
    let disk = |what: &'static str| move |e: &serde_json::Value| e["event"] == what && e["reason"] == "disk";
    let log = || std::fs::read_to_string(world.ops().join("logs/dispatcher.log")).unwrap();
    // No disk is as large: new work waits from the next look on.
    world.configure("min_free: 1000000G\n");
    let from = world.events().len();
    daemon.signal(Signal::SIGHUP);
    world.event(from, "the disk is too small now", disk("dispatcher.degraded"));
    // A broken one changes nothing and is told; the good one that follows does.
    world.configure("min_fre: 0\n");
    daemon.signal(Signal::SIGHUP);
    eventually("the broken configuration is told", || log().contains("the configuration stays as it was"));
    world.configure("workers: 9\n");
    let from = world.events().len();
    daemon.signal(Signal::SIGHUP);
    world.event(from, "the disk is large enough again", disk("dispatcher.recovered"));
    assert!(log().contains("takes effect at the next start"), "{}", log());
    daemon.stop();
}

#[test]
fn a_second_one_is_told_who_the_first_is() {
    let world = World::new("");
    let daemon = Daemon::start(&world);
    for args in [&["--no-tui"][..], &["--once", "--no-tui"]] {
        let said = world.ops_do(args).expect(75);
        assert!(said.err.contains(&format!("process {}", daemon.pid())), "{said:?}");
    }
    let said = world.ops_do(&["--no-tui", "--json"]).expect(75);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&said.err).unwrap()["error"]["code"], "E0703");
    daemon.stop();
}

#[test]
fn a_killed_daemon_leaves_nothing_behind_and_its_successor_goes_on() {
    let world = World::new("");
    let (a, b) = (world.gate("a"), world.gate("b"));
    let daemon = Daemon::start(&world);
    world.drop_in("a.yml", &ask("gate", "on: web, gate: a"));
    world.drop_in("b.yml", &ask("once", "on: db, gate: b"));
    let open = (a.reached(), b.reached());
    world.drop_in("c.yml", &ask("ok", "on: web"));
    world.until("c.yml", "waiting");
    daemon.kill();
    eventually("nothing of a run outlives it", || world.survivors().is_empty());
    drop(open);
    let daemon = Daemon::start(&world);
    drop(a.reached());
    let (a, b, c) = (world.outcome("a.yml"), world.outcome("b.yml"), world.outcome("c.yml"));
    assert_eq!((&a["status"], &a["attempt"]), (&"succeeded".into(), &2.into()));
    assert_eq!((&b["status"], &b["rc"]), (&"crashed".into(), &70.into()));
    assert_eq!((&c["status"], &c["attempt"]), (&"succeeded".into(), &1.into()));
    world.ops_do(&["wait", "b.yml"]).expect(5);
    daemon.stop();
    assert_eq!(world.lines("db").len(), 1);
    world.sound();
}

#[test]
fn three_lost_attempts_are_enough() {
    let world = World::new("");
    let gate = world.gate("a");
    world.drop_in("a.yml", &ask("gate", "on: web, gate: a"));
    for _ in 0..3 {
        let daemon = Daemon::start(&world);
        let _open = gate.reached();
        daemon.kill();
        eventually("nothing of a run outlives it", || world.survivors().is_empty());
    }
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    let a = world.outcome("a.yml");
    assert_eq!((&a["status"], &a["rc"], &a["attempt"]), (&"crashed".into(), &70.into(), &3.into()));
    assert_eq!(world.lines("web").len(), 3);
    world.sound();
}
