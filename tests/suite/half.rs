//! A checkout that stopped half-way, and runs that cannot be recorded as they are: nothing runs twice, and one run holds
//! up no other.

use std::fs;

use crate::world::{Daemon, World, ask, eventually};

#[test]
fn a_checkout_that_fails_takes_nothing() {
    let world = World::new("");
    let ana = world.ana();
    let daemon = Daemon::start(&world);
    fs::write(ana.join("requests/x.yml"), ask("ok", "on: web")).unwrap();
    fs::write(world.path().join("empty"), "").unwrap();
    let blob = world.git(&ana, &["hash-object", "-w", "../empty"]);
    world.git(&ana, &["add", "-A"]);
    world.git(&ana, &["update-index", "--add", "--cacheinfo", &format!("120000,{},zz", blob.trim())]);
    world.git(&ana, &["commit", "-q", "-m", "A link without a target"]);
    world.git(&ana, &["push", "-q", "origin", "HEAD:main"]);
    world.ops_do(&["fetch"]);
    let event = world
        .event(0, "the checkout is in the way", |e| e["event"] == "dispatcher.degraded" && e["reason"] == "checkout");
    assert!(event["detail"].as_str().unwrap().contains("`zz`"), "{event}");
    for _ in 0..3 {
        world.ops_do(&["fetch"]);
        assert!(!world.ops().join("requests/x.yml").exists() && world.on_disk().is_empty());
    }
    world.git(&ana, &["rm", "-q", "--cached", "zz"]);
    world.git(&ana, &["commit", "-q", "-m", "Mend"]);
    world.git(&ana, &["push", "-q", "origin", "HEAD:main"]);
    world.ops_do(&["fetch"]).expect(0);
    assert_eq!(world.outcome("x.yml")["status"], "succeeded");
    world.ops_do(&["fetch"]).expect(0);
    assert_eq!(world.lines("web").iter().filter(|line| line.starts_with("start")).count(), 1);
    daemon.stop();
    world.sound();
}

#[test]
fn what_a_crash_left_is_finished_without_the_remote() {
    let world = World::new("");
    let ops = world.ops();
    let asked = world.push(&[("requests/x.yml", &ask("ok", "on: web")), ("notes.txt", "later\n")]);
    world.git(&ops, &["fetch", "-q"]);
    // As a kill leaves it: the request is written, the branch has not moved.
    fs::copy(world.ana().join("requests/x.yml"), ops.join("requests/x.yml")).unwrap();
    let away = world.path().join("away.git");
    fs::rename(world.remote(), &away).unwrap();
    let daemon = Daemon::start(&world);
    assert_eq!(world.outcome("x.yml")["status"], "succeeded");
    assert!(ops.join("notes.txt").exists(), "the branch has followed");
    fs::rename(away, world.remote()).unwrap();
    world.ops_do(&["fetch"]).expect(0);
    let status = world.outcome("x.yml");
    assert_eq!(status["requested_by"]["commit"], asked.trim(), "{status}");
    assert_eq!(world.lines("web").iter().filter(|line| line.starts_with("start")).count(), 1);
    let tip = |at: &std::path::Path| world.git(at, &["rev-parse", "refs/heads/main"]);
    eventually("the result is published", || tip(&ops) == tip(&world.remote()));
    daemon.stop();
    world.sound();
}

#[test]
fn a_strange_name_holds_up_nobody() {
    let world = World::new("");
    let daemon = Daemon::start(&world);
    world.drop_in("git~1.yml", &ask("ok", "on: web"));
    world.drop_in("good.yml", &ask("ok", "on: web"));
    for name in ["git~1.yml", "good.yml"] {
        assert_eq!(world.outcome(name)["status"], "succeeded", "{name}");
    }
    world.ops_do(&["fetch"]).expect(0);
    assert!(world.events().iter().all(|event| event["event"] != "dispatcher.degraded"));
    daemon.stop();
    world.sound();
}

#[test]
fn odd_requests_leave_the_branch_and_can_be_mended() {
    let world = World::new("");
    let ana = world.ana();
    let daemon = Daemon::start(&world);
    std::os::unix::fs::symlink("/etc/passwd", ana.join("requests/link.yml")).unwrap();
    fs::write(ana.join("requests/large.yml"), "x".repeat((1 << 20) + 1)).unwrap();
    world.push(&[]);
    world.ops_do(&["fetch"]).expect(0);
    for name in ["link.yml", "large.yml"] {
        assert_eq!(world.outcome(name)["status"], "rejected", "{name}");
    }
    assert!(!world.git(&world.ops(), &["ls-tree", "--name-only", "HEAD:requests"]).contains(".yml"));
    let tip = |at: &std::path::Path| world.git(at, &["rev-parse", "refs/heads/main"]);
    eventually("it is published", || tip(&world.ops()) == tip(&world.remote()));
    let good = ask("ok", "on: web");
    world.push(&[("requests/link.yml", &good), ("requests/large.yml", &good)]);
    world.ops_do(&["fetch"]).expect(0);
    for name in ["link.yml", "large.yml"] {
        eventually("the mended one has run", || world.outcomes(name).iter().any(|s| s["status"] == "succeeded"));
    }
    daemon.stop();
    world.sound();
}

#[test]
fn nothing_is_decided_without_a_divergence() {
    let world = World::new("");
    let ops = world.ops();
    fs::write(ops.join("notes.txt"), "mine\n").unwrap();
    world.git(&ops, &["add", "-A"]);
    world.git(&ops, &["commit", "-q", "-m", "Only here"]);
    world.push(&[("requests/x.yml", &ask("ok", "on: web"))]);
    let daemon = Daemon::start(&world);
    world.event(0, "own commits are in the way", |e| e["event"] == "dispatcher.degraded" && e["reason"] == "checkout");
    let tips = || (world.git(&ops, &["rev-parse", "main"]), world.git(&world.remote(), &["rev-parse", "main"]));
    let before = tips();
    for side in ["--accept-remote", "--keep-local"] {
        let said = world.ops_do(&["resume", side]).expect(75);
        assert!(said.err.contains("have not diverged"), "{}", said.err);
    }
    world.ops_do(&["fetch"]);
    assert_eq!(tips(), before);
    assert!(ops.join("notes.txt").exists());
    // No pause is left, and still work is held: that is said, not that it begins again.
    let said = world.ops_do(&["resume"]).expect(75);
    assert!(said.out.contains("work is held: checkout"), "{}", said.out);
    daemon.stop();
}

#[test]
fn small_packs_are_joined_in_a_quiet_moment() {
    let world = World::new("");
    let ops = world.ops();
    let packs = ops.join(".git/objects/pack");
    let count = || {
        let names = fs::read_dir(&packs).unwrap().flatten().map(|entry| entry.path());
        names.filter(|path| path.extension().is_some_and(|e| e == "pack")).count()
    };
    for n in 0..60 {
        fs::write(world.path().join("blob"), format!("{n}\n")).unwrap();
        let blob = world.git(&ops, &["hash-object", "-w", "../blob"]);
        fs::write(world.path().join("blobs"), blob).unwrap();
        let script = "git pack-objects -q .git/objects/pack/pack < ../blobs";
        world.git(&ops, &["-c", &format!("alias.pack=!{script}"), "pack"]);
    }
    assert!(count() >= 60);
    let daemon = Daemon::start(&world);
    world.drop_in("a.yml", &ask("ok", "on: web"));
    assert_eq!(world.outcome("a.yml")["status"], "succeeded");
    eventually("the packs are joined", || count() < 10);
    world.drop_in("b.yml", &ask("ok", "on: web"));
    assert_eq!(world.outcome("b.yml")["status"], "succeeded");
    daemon.stop();
    world.git(&ops, &["fsck", "--strict"]);
    world.sound();
}

#[test]
fn an_end_that_a_crash_kept_from_the_events_is_told_by_the_next_life() {
    let world = World::new("");
    let stream = world.ops().join("logs/events.jsonl");
    let daemon = Daemon::start(&world);
    for name in ["a.yml", "b.yml"] {
        world.drop_in(name, &ask("ok", "on: web"));
        world.outcome(name);
    }
    world.event(0, "both are told", |e| e["event"] == "run.finished" && e["req"] == "b.yml");
    daemon.kill();
    // As a crash between the commit and its announcement leaves it.
    let text = fs::read_to_string(&stream).unwrap();
    let told = text.rfind("\"run.finished\"").unwrap();
    fs::write(&stream, &text[..text[..told].rfind('\n').unwrap() + 1]).unwrap();
    for _ in 0..2 {
        Daemon::start(&world).stop();
        let ends: Vec<_> = world.events().into_iter().filter(|e| e["event"] == "run.finished").collect();
        let names: Vec<&str> = ends.iter().map(|e| e["req"].as_str().unwrap()).collect();
        assert_eq!(names, ["a.yml", "b.yml"], "once each");
        assert_eq!((&ends[1]["status"], &ends[1]["rc"]), (&"succeeded".into(), &0.into()));
    }
    let seqs: Vec<u64> = world.events().iter().map(|e| e["seq"].as_u64().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[1] == pair[0] + 1), "{seqs:?}");
    world.sound();
}
