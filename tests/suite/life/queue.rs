//! Pause, resume, drain, cancel, retry; requests for later and requests too late.

use crate::world::{Daemon, World, ask, eventually};

#[test]
fn a_queued_run_is_cancelled() {
    let world = World::new("");
    let gate = world.gate("a");
    let daemon = Daemon::start(&world);
    world.drop_in("1.yml", &ask("gate", "on: web, gate: a"));
    let open = gate.reached();
    world.drop_in("2.yml", &ask("ok", "on: web"));
    let id = world.until("2.yml", "waiting");
    world.ops_do(&["cancel", "2.yml", "--reason", "not needed"]).expect(0);
    world.ops_do(&["wait", &id]).expect(3);
    let status = world.outcome("2.yml");
    assert_eq!((&status["status"], &status["rc"], &status["attempt"]), (&"cancelled".into(), &130.into(), &0.into()));
    assert!(status["reason"].as_str().unwrap().contains("not needed"), "{status}");
    drop(open);
    assert_eq!(world.outcome("1.yml")["status"], "succeeded");
    daemon.stop();
    world.sound();
}

#[test]
fn a_running_run_is_cancelled_and_cancelled_at_once() {
    let world = World::new("");
    let (a, b) = (world.gate("a"), world.gate("b"));
    let daemon = Daemon::start(&world);
    world.drop_in("polite.yml", &ask("polite", "on: web, gate: a"));
    world.drop_in("deaf.yml", &ask("deaf", "on: db, gate: b"));
    let _open = (a.reached(), b.reached());
    let asked = world.ops_do(&["cancel", "polite.yml", "--json"]).expect(0);
    assert!(asked.json().is_object());
    let status = world.outcome("polite.yml");
    assert_eq!((&status["status"], &status["rc"]), (&"cancelled".into(), &130.into()));
    let log = world.ops_do(&["logs", "polite.yml"]).expect(0).out;
    assert!(log.contains("told to end"), "{log}");
    // Its grace is ten minutes: only a second word ends it now.
    world.ops_do(&["cancel", "deaf.yml"]).expect(0);
    world.event(0, "it is told", |e| e["event"] == "run.cancelling" && e["req"] == "deaf.yml");
    assert!(world.outcomes("deaf.yml").is_empty());
    world.ops_do(&["cancel", "deaf.yml"]).expect(0);
    assert_eq!(world.outcome("deaf.yml")["status"], "cancelled");
    let late = world.ops_do(&["cancel", "deaf.yml", "--json"]).expect(75);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&late.err).unwrap()["error"]["code"], "E0404");
    daemon.stop();
    world.sound();
}

#[test]
fn a_pause_lasts_over_a_restart() {
    let world = World::new("");
    let daemon = Daemon::start(&world);
    world.ops_do(&["pause", "--reason", "night"]).expect(0);
    world.drop_in("a.yml", &ask("ok", "on: web"));
    world.ops_do(&["fetch"]).expect(0);
    daemon.stop();
    assert_eq!(world.ops_do(&["--once", "--no-tui"]).code, 75, "a paused dispatcher has not done all");
    let daemon = Daemon::start(&world);
    let status = world.ops_do(&["status", "--json"]).expect(0).json();
    assert!(status["paused"].as_str().unwrap().contains("night"), "{status}");
    world.ops_do(&["fetch"]).expect(0);
    assert_eq!(world.lines("web"), [""; 0]);
    world.ops_do(&["resume"]).expect(0);
    assert_eq!(world.outcome("a.yml")["status"], "succeeded");
    daemon.stop();
    world.sound();
}

#[test]
fn a_drain_finishes_what_runs_and_keeps_the_queue() {
    let world = World::new("");
    let gate = world.gate("a");
    let mut daemon = Daemon::start(&world);
    world.drop_in("1.yml", &ask("gate", "on: web, gate: a"));
    let open = gate.reached();
    world.drop_in("2.yml", &ask("ok", "on: web"));
    world.until("2.yml", "waiting");
    world.ops_do(&["drain"]).expect(0);
    world.event(0, "it drains", |e| e["event"] == "dispatcher.draining");
    assert!(daemon.lives());
    drop(open);
    assert_eq!(daemon.ended(), 0);
    assert_eq!(world.outcome("1.yml")["status"], "succeeded");
    assert!(world.outcomes("2.yml").is_empty());
    let status = world.on_disk().into_iter().find(|s| s["request"] == "2.yml").unwrap();
    assert!(status["finished_at"].is_null() && status["attempt"] == 0, "{status}");
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    assert_eq!(world.outcome("2.yml")["status"], "succeeded");
    world.sound();
}

#[test]
fn later_and_too_late() {
    let world = World::new("");
    let later = jiff(2);
    let daemon = Daemon::start(&world);
    let not_before = format!("{}not_before: {later}\n", ask("ok", "on: web"));
    world.drop_in("later.yml", &not_before);
    world.drop_in("wrong.yml", "kind: ok\nparams: {}\nnot_before: 2999-01-01T00:00:00Z\n");
    world.drop_in("never.yml", &format!("{}not_before: 2999-01-01T00:00:00Z\n", ask("ok", "on: web")));
    world.drop_in("late.yml", &format!("{}expires_at: 2020-01-01T00:00:00Z\n", ask("ok", "on: web")));
    world.event(0, "it is scheduled", |e| e["event"] == "request.scheduled" && e["req"] == "later.yml");
    let late = world.outcome("late.yml");
    assert_eq!((&late["status"], &late["rc"], &late["attempt"]), (&"expired".into(), &75.into(), &0.into()));
    assert_eq!(world.outcome("wrong.yml")["rc"], 65, "validated at once");
    let done = world.outcome("later.yml");
    assert!(done["started_at"].as_str().unwrap() >= later.as_str(), "{done}");
    daemon.stop();
    // What is not due is no reason to wait.
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    assert!(world.ops().join("requests/never.yml").exists() && world.outcomes("never.yml").is_empty());
}

/// So many seconds from now.
fn jiff(seconds: u64) -> String {
    let output = std::process::Command::new("date")
        .args(["-u", "-d", &format!("+{seconds} seconds"), "+%Y-%m-%dT%H:%M:%S.000Z"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_queued_request_expires_too() {
    let world = World::new("");
    let gate = world.gate("a");
    let daemon = Daemon::start(&world);
    world.drop_in("1.yml", &ask("gate", "on: web, gate: a"));
    let open = gate.reached();
    world.drop_in("2.yml", &format!("{}expires_at: {}\n", ask("ok", "on: web"), jiff(2)));
    assert_eq!(world.outcome("2.yml")["status"], "expired");
    drop(open);
    world.outcome("1.yml");
    daemon.stop();
    world.sound();
}

#[test]
fn waiters_go_by_priority_and_then_by_age() {
    let world = World::new("");
    let gate = world.gate("a");
    let daemon = Daemon::start(&world);
    world.drop_in("0.yml", &ask("gate", "on: web, gate: a"));
    let open = gate.reached();
    for (name, priority) in [("1.yml", 0), ("2.yml", -5), ("3.yml", 7), ("4.yml", 0)] {
        world.drop_in(name, &format!("{}priority: {priority}\n", ask("ok", "on: web")));
        world.until(name, "waiting");
    }
    drop(open);
    let order: Vec<String> = ["0.yml", "3.yml", "1.yml", "4.yml", "2.yml"]
        .into_iter()
        .map(|name| format!("start {} 1", world.outcome(name)["id"].as_str().unwrap()))
        .collect();
    let starts: Vec<String> = world.lines("web").into_iter().filter(|line| line.starts_with("start")).collect();
    assert_eq!(starts, order);
    daemon.stop();
    world.sound();
}

#[test]
fn a_later_try_succeeds() {
    let world = World::new("");
    world.drop_in("good.yml", &ask("flaky", "on: web, at: 3"));
    world.drop_in("bad.yml", &ask("flaky", "on: db, at: 9"));
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    let (good, bad) = (world.outcome("good.yml"), world.outcome("bad.yml"));
    assert_eq!((&good["status"], &good["attempt"]), (&"succeeded".into(), &3.into()));
    assert_eq!((&bad["status"], &bad["rc"], &bad["attempt"]), (&"failed".into(), &75.into(), &3.into()));
    world.sound();
}

#[test]
fn a_strangers_lock_is_waited_for() {
    let world = World::new("");
    let daemon = Daemon::start(&world);
    let file = world.path().join("lock/web.lock");
    let file = std::fs::File::options().create(true).truncate(false).write(true).open(file).unwrap();
    let mut lock = fd_lock::RwLock::new(file);
    let held = lock.try_write().unwrap();
    world.drop_in("a.yml", &ask("ok", "on: web"));
    let event = world.event(0, "it waits", |e| e["event"] == "lock.waiting" && e["req"] == "a.yml");
    assert!(event["held_by"].is_null(), "{event}");
    assert_eq!(world.lines("web"), [""; 0]);
    drop(held);
    assert_eq!(world.outcome("a.yml")["status"], "succeeded");
    daemon.stop();
    world.sound();
}

#[test]
fn a_retry_is_a_new_request() {
    let world = World::new("");
    let daemon = Daemon::start(&world);
    let id = "0197e0c2-8f7a-7b3c-9d1e-5a6b7c8d9e0f";
    world.drop_in("a.yml", &format!("id: {id}\n{}", ask("code", "on: web, code: 3")));
    world.outcome("a.yml");
    let said = world.ops_do(&["retry", id, "--wait", "--json"]).expect(1).json();
    assert_eq!((&said["status"], &said["rc"]), (&"failed".into(), &3.into()));
    assert_eq!(said["request"], format!("retry-{}-a.yml", &id[id.len() - 8..]));
    eventually("it is recorded", || world.recorded("HEAD").len() == 2);
    daemon.stop();
    world.sound();
}
