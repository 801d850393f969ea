//! People who work in the dispatcher's own checkout while ten runs are in flight.

use std::fs;

use crate::world::{Daemon, World, ask, eventually};

/// Ten runs at their gates, two more in the queue, and a person who does `what`; then everything goes on.
fn meanwhile(what: impl Fn(&World)) {
    let world = World::new("workers: 12\n");
    let gates: Vec<_> = (0..10).map(|n| world.gate(&format!("g{n}"))).collect();
    let name = |n: usize| format!("requests/{n}.yml");
    let mut files: Vec<(String, String)> =
        (0..10).map(|n| (name(n), ask("gate", &format!("on: r{n}, gate: g{n}")))).collect();
    files.extend([10, 11].map(|n| (name(n), ask("ok", &format!("on: r{}", n - 10)))));
    // Half of them came by git, half were dropped.
    let (pushed, dropped) = files.split_at(5);
    let pushed: Vec<(&str, &str)> = pushed.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    world.push(&pushed);
    let daemon = Daemon::start(&world);
    for (path, text) in dropped {
        world.drop_in(path.strip_prefix("requests/").unwrap(), text);
    }
    let mut open: Vec<_> = gates.iter().map(super::world::Gate::reached).collect();
    world.until("10.yml", "waiting");
    world.until("11.yml", "waiting");
    what(&world);
    // Results are recorded under the person's hands, and what the person did stays.
    world.ops_do(&["fetch"]).expect(0);
    open.truncate(5);
    eventually("the first results are there", || world.recorded("HEAD").len() >= 5);
    what(&world);
    drop(open);
    eventually("all results are there", || world.recorded("HEAD").len() == 12);
    world.ops_do(&["fetch"]).expect(0);
    daemon.stop();
    let ended = world.recorded("HEAD");
    assert_eq!(ended.len(), 12);
    for status in ended.values() {
        assert_eq!((&status["status"], &status["attempt"]), (&"succeeded".into(), &1.into()), "{status}");
    }
    for n in 0..10 {
        let starts = world.lines(&format!("r{n}")).iter().filter(|line| line.starts_with("start")).count();
        assert_eq!(starts, if n < 2 { 2 } else { 1 }, "r{n} ran exactly once per request");
    }
    whole(&world);
    assert_eq!(world.overlaps(), "");
}

/// No commit holds a half of a run: where there is a folder, there are request, final status, log and events.
fn whole(world: &World) {
    let ops = world.ops();
    for commit in world.git(&ops, &["rev-list", "HEAD"]).lines() {
        let files = world.git(&ops, &["ls-tree", "-r", "--name-only", commit, "processed/", "logs/"]);
        for (id, status) in world.recorded(commit) {
            assert!(status["finished_at"].is_string(), "{commit}: {status}");
            for path in [format!("processed/{id}/request.yml"), format!("logs/{id}.log"), format!("logs/{id}.jsonl")] {
                assert!(files.lines().any(|line| line == path), "{commit} lacks {path}");
            }
        }
        let folders = files.lines().filter(|path| path.ends_with("/request.yml")).count();
        assert_eq!(folders, world.recorded(commit).len(), "{commit} has requests without a status");
    }
}

#[test]
fn stash_and_pop() {
    meanwhile(|world| {
        let ops = world.ops();
        fs::write(ops.join("notes.txt"), "mine\n").unwrap();
        world.person(&["stash", "-q", "-u"]);
        world.ops_do(&["fetch"]).expect(0);
        world.person(&["stash", "pop", "-q"]);
        assert_eq!(fs::read_to_string(ops.join("notes.txt")).unwrap(), "mine\n");
        fs::remove_file(ops.join("notes.txt")).unwrap();
    });
}

#[test]
fn add_all_and_commit() {
    meanwhile(|world| {
        let ops = world.ops();
        let text = fs::read_to_string(ops.join("notes.txt")).unwrap_or_default() + "mine\n";
        fs::write(ops.join("notes.txt"), text).unwrap();
        world.person(&["add", "-A"]);
        world.person(&["commit", "-q", "-m", "Notes"]);
        let changed = world.git(&ops, &["show", "--format=", "--name-only", "HEAD"]);
        assert!(!changed.contains("processed/") && !changed.contains("logs/"), "{changed}");
    });
}

#[test]
fn checkout_everything() {
    meanwhile(|world| {
        world.person(&["checkout", "-q", "."]);
    });
}

#[test]
fn reset_hard() {
    meanwhile(|world| {
        world.person(&["reset", "-q", "--hard"]);
    });
}

#[test]
fn what_is_staged_and_edited_stays() {
    let world = World::new("");
    let ops = world.ops();
    world.push(&[("notes.txt", "one\n"), ("requests/a.yml", &ask("ok", "on: web"))]);
    world.git(&ops, &["pull", "-q", "--ff-only", "origin", "main"]);
    fs::write(ops.join("staged.txt"), "staged\n").unwrap();
    world.git(&ops, &["add", "staged.txt"]);
    fs::write(ops.join("notes.txt"), "two\n").unwrap();
    world.git(&ops, &["add", "notes.txt"]);
    fs::write(ops.join("notes.txt"), "three\n").unwrap();
    fs::write(ops.join("loose.txt"), "loose\n").unwrap();
    let before = world.git(&ops, &["diff", "--cached"]) + &world.git(&ops, &["diff"]);
    world.drop_in("b.yml", &ask("ok", "on: web"));
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    assert_eq!(world.recorded("HEAD").len(), 2);
    assert_eq!(world.git(&ops, &["diff", "--cached"]) + &world.git(&ops, &["diff"]), before);
    let status = world.git(&ops, &["status", "--porcelain"]);
    assert_eq!(status, "MM notes.txt\nA  staged.txt\n?? loose.txt\n");
    let ours = world.git(&ops, &["log", "--format=", "--name-only", "--author=dispatcher"]);
    assert!(ours.lines().all(|path| !path.ends_with(".txt")), "{ours}");
    // A fast-forward over the person's edit waits, and says for what.
    world.push(&[("notes.txt", "four\n"), ("requests/c.yml", &ask("ok", "on: web"))]);
    let daemon = Daemon::start(&world);
    let event = world
        .event(0, "the checkout is in the way", |e| e["event"] == "dispatcher.degraded" && e["reason"] == "checkout");
    assert!(event["detail"].as_str().unwrap().contains("notes.txt"), "{event}");
    assert_eq!(fs::read_to_string(ops.join("notes.txt")).unwrap(), "three\n");
    world.person(&["stash", "-q"]);
    world.ops_do(&["fetch"]).expect(0);
    assert_eq!(world.outcome("c.yml")["status"], "succeeded");
    daemon.stop();
}

#[test]
fn an_index_that_stays_locked_is_told_at_the_end() {
    let world = World::new("");
    let ops = world.ops();
    world.push(&[("requests/a.yml", &ask("ok", "on: web"))]);
    // The request has to come in before somebody's git dies.
    world.person(&["pull", "-q", "--ff-only", "origin", "main"]);
    let lock = ops.join(".git/index.lock");
    fs::write(&lock, "").unwrap();
    let said = world.ops_do(&["--once", "--no-tui"]).expect(0);
    assert!(said.out.contains("[E0528]") && said.out.contains("git reset -q"), "{said:?}");
    fs::remove_file(&lock).unwrap();
    assert_ne!(world.git(&ops, &["status", "--porcelain"]), "");
    world.person(&["reset", "-q"]);
    assert_eq!(world.git(&ops, &["status", "--porcelain"]), "");
    assert!(!world.ops_do(&["--once", "--no-tui"]).expect(0).out.contains("E0528"));
    world.sound();
}

#[test]
fn what_a_kill_left_in_the_git_folder_is_in_nobodys_way() {
    let world = World::new("");
    let git = world.ops().join(".git");
    fs::write(git.join("index.dispatcher.lock"), "").unwrap();
    fs::write(git.join("index.dispatcher"), "torn").unwrap();
    fs::write(git.join("index.lock"), "dispatcher 1\n").unwrap();
    fs::write(git.join("refs/heads/main.lock"), "dispatcher 1\n").unwrap();
    world.push(&[("requests/a.yml", &ask("ok", "on: web"))]);
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    assert_eq!(world.outcome("a.yml")["status"], "succeeded");
    world.sound();
}
