//! Remotes whose history is not what was seen of it. No request starts until a person has decided, both decisions keep
//! every result, and what was lost by a remote of nothing but ours is pushed again without asking.

use std::fs;
use std::process::Command;

use super::{degraded, events, hook, on_remote, published, recovered, unhook};
use crate::world::{Daemon, World, ask, eventually};

/// How somebody rewrites the remote, in words and in git.
type Rewrite = (&'static str, fn(&World));

const REWRITES: [Rewrite; 4] = [
    ("an older tip", |world| {
        world.git(&world.remote(), &["update-ref", "refs/heads/main", "main~2"]);
    }),
    ("the same, told otherwise", |world| {
        let ana = world.ana();
        world.git(&ana, &["fetch", "-q"]);
        world.git(&ana, &["reset", "-q", "--hard", "origin/main~1"]);
        world.git(&ana, &["commit", "-q", "--amend", "-m", "Notes, \u{1b}[31mamended"]);
        world.git(&ana, &["push", "-q", "--force", "origin", "HEAD:main"]);
    }),
    ("another history", |world| {
        let ana = world.ana();
        world.git(&ana, &["fetch", "-q"]);
        world.git(&ana, &["reset", "-q", "--hard", "origin/main~2"]);
        world.git(&ana, &["checkout", "-q", "--orphan", "fresh"]);
        world.git(&ana, &["commit", "-q", "-m", "Another world"]);
        world.git(&ana, &["push", "-q", "--force", "origin", "HEAD:main"]);
    }),
    ("no branch at all", |world| {
        world.git(&world.remote(), &["update-ref", "-d", "refs/heads/main"]);
    }),
];

/// A published result, a person's commit, another result, and one that no remote has; then the remote is rewritten, and
/// the daemon has seen it.
fn rewritten(rewrite: fn(&World)) -> (World, Daemon) {
    let world = World::new("");
    let daemon = Daemon::start(&world);
    world.drop_in("a.yml", &ask("ok", "on: web"));
    world.outcome("a.yml");
    published(&world);
    world.push(&[("notes.txt", "one\n")]);
    world.ops_do(&["fetch"]).expect(0);
    world.drop_in("b.yml", &ask("ok", "on: web"));
    world.outcome("b.yml");
    published(&world);
    rewrite(&world);
    world.drop_in("c.yml", &ask("ok", "on: web"));
    world.outcome("c.yml");
    world.event(0, "the rewrite is noticed", |e| e["event"] == "git.diverged");
    (world, daemon)
}

/// What `status` must say, and that no request starts, over a restart too.
fn held(world: &World, daemon: Daemon) -> Daemon {
    let detail = degraded(world, 0, "diverged");
    let status = world.ops_do(&["status"]).expect(0).out;
    for word in [detail.as_str(), "since 20", "dispatcher resume --accept-remote", "dispatcher resume --keep-local"] {
        assert!(status.contains(word), "`{word}`: {status}");
    }
    assert!(!status.contains('\u{1b}'), "{status:?}");
    let trouble = world.ops_do(&["status", "--json"]).expect(0).json()["troubles"][0].clone();
    assert_eq!((&trouble["reason"], &trouble["detail"]), (&"diverged".into(), &detail.as_str().into()));
    assert!(trouble["since"].as_str().unwrap().ends_with('Z') && trouble["help"].is_array(), "{trouble}");
    world.drop_in("d.yml", &ask("ok", "on: web"));
    world.ops_do(&["fetch"]).expect(0);
    daemon.stop();
    let from = world.events().len();
    let daemon = Daemon::start(world);
    degraded(world, from, "diverged");
    world.ops_do(&["fetch"]).expect(0);
    assert!(world.ops().join("requests/d.yml").exists(), "intake is held");
    daemon
}

/// Decides, and checks that the refs that the answer names hold all that was there on both sides.
fn decide(world: &World, side: &str) {
    let ops = world.ops();
    let tips = [world.git(&ops, &["rev-parse", "main"]), world.try_git(&world.remote(), &["rev-parse", "main^0"]).out];
    let there = world.try_git(&world.remote(), &["rev-parse", "--verify", "-q", "main"]).code == 0;
    let from = world.events().len();
    let said = world.ops_do(&["resume", side]).expect(0).out;
    for (whose, tip) in ["local", "remote"].into_iter().zip(tips).take(if there { 2 } else { 1 }) {
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("{whose} side as it was: ")));
        let name = line.unwrap_or_else(|| panic!("{whose} is not named: {said}"));
        assert_eq!(world.git(&ops, &["rev-parse", name]), tip, "{whose}");
    }
    recovered(world, from, "diverged");
}

#[test]
fn the_remotes_side_can_be_taken_and_keeps_every_result() {
    for (what, rewrite) in REWRITES {
        println!("{what}");
        let (world, daemon) = rewritten(rewrite);
        let daemon = held(&world, daemon);
        decide(&world, "--accept-remote");
        assert_eq!(world.outcome("d.yml")["status"], "succeeded");
        published(&world);
        daemon.stop();
        assert_eq!(on_remote(&world), ["a.yml", "b.yml", "c.yml", "d.yml"], "{what}");
        assert_eq!(world.lines("web").iter().filter(|line| line.starts_with("start")).count(), 4, "{what}");
        world.sound();
    }
}

#[test]
fn the_local_side_can_be_kept_and_keeps_every_result() {
    for (what, rewrite) in REWRITES {
        println!("{what}");
        let (world, daemon) = rewritten(rewrite);
        let daemon = held(&world, daemon);
        let before = world.git(&world.ops(), &["rev-parse", "main"]);
        decide(&world, "--keep-local");
        assert_eq!(world.outcome("d.yml")["status"], "succeeded");
        published(&world);
        daemon.stop();
        assert_eq!(on_remote(&world), ["a.yml", "b.yml", "c.yml", "d.yml"], "{what}");
        world.git(&world.ops(), &["merge-base", "--is-ancestor", before.trim(), "main"]);
        assert_eq!(world.git(&world.remote(), &["show", "main:notes.txt"]), "one\n", "the person's commit too");
        world.sound();
    }
}

/// Puts the remote back to what it was.
fn copy(world: &World, from: &str, to: &str) {
    let to = world.path().join(to);
    let _ = fs::remove_dir_all(&to);
    let copied = Command::new("cp").arg("-a").arg(world.path().join(from)).arg(to).status().unwrap();
    assert!(copied.success());
}

#[test]
fn a_remote_from_a_backup_gets_our_commits_again() {
    for noticed_by_a_result in [true, false] {
        let world = World::new("");
        let daemon = Daemon::start(&world);
        world.drop_in("a.yml", &ask("ok", "on: web"));
        world.outcome("a.yml");
        published(&world);
        copy(&world, "remote.git", "backup.git");
        for name in ["b.yml", "c.yml"] {
            world.drop_in(name, &ask("ok", "on: web"));
            world.outcome(name);
            published(&world);
        }
        copy(&world, "backup.git", "remote.git");
        assert_eq!(on_remote(&world), ["a.yml"]);
        let mut expect = vec!["a.yml", "b.yml", "c.yml"];
        if noticed_by_a_result {
            world.drop_in("d.yml", &ask("ok", "on: web"));
            world.outcome("d.yml");
            expect.push("d.yml");
        } else {
            world.ops_do(&["fetch"]).expect(0);
        }
        published(&world);
        assert_eq!(on_remote(&world), expect);
        assert!(events(&world, 0, "git.diverged").is_empty() && events(&world, 0, "dispatcher.degraded").is_empty());
        daemon.stop();
        world.sound();
    }
}

#[test]
fn a_backup_without_a_persons_commit_waits_for_a_person_and_gets_our_results_again() {
    let world = World::new("");
    let daemon = Daemon::start(&world);
    copy(&world, "remote.git", "backup.git");
    world.push(&[("notes.txt", "one\n"), ("requests/a.yml", &ask("ok", "on: web"))]);
    world.ops_do(&["fetch"]).expect(0);
    world.outcome("a.yml");
    published(&world);
    copy(&world, "backup.git", "remote.git");
    world.ops_do(&["fetch"]).expect(0);
    degraded(&world, 0, "diverged");
    decide(&world, "--accept-remote");
    published(&world);
    daemon.stop();
    assert_eq!(on_remote(&world), ["a.yml"]);
    world.sound();
}

#[test]
fn a_damaged_remote_holds_up_no_run_and_gets_everything_once_it_is_mended() {
    let world = World::new("push_retries: 1\n");
    let daemon = Daemon::start(&world);
    world.push(&[("requests/a.yml", &ask("ok", "on: web"))]);
    let blob = world.git(&world.remote(), &["rev-parse", "main:requests/a.yml"]);
    let object = world.remote().join("objects").join(&blob[..2]).join(blob[2..].trim());
    let whole = fs::read(&object).unwrap();
    let write = |bytes: &[u8]| {
        fs::remove_file(&object).unwrap();
        fs::write(&object, bytes).unwrap();
    };
    write(b"damaged");
    world.ops_do(&["fetch"]).expect(69);
    let from = world.events().len();
    world.drop_in("b.yml", &ask("ok", "on: web"));
    assert_eq!(world.outcome("b.yml")["status"], "succeeded");
    degraded(&world, from, "push");
    assert!(world.ops_do(&["status"]).expect(0).out.contains("degraded  fetch: "));
    assert_eq!(world.git(&world.ops(), &["fsck", "--strict", "--no-dangling"]), "", "nothing of it came here");
    write(&whole);
    world.ops_do(&["fetch"]).expect(0);
    assert_eq!(world.outcome("a.yml")["status"], "succeeded");
    published(&world);
    recovered(&world, from, "push");
    recovered(&world, from, "fetch");
    daemon.stop();
    assert_eq!(on_remote(&world), ["a.yml", "b.yml"]);
    world.sound();
}

#[test]
fn a_decision_that_the_checkout_is_in_the_way_of_says_so_and_can_be_made_again() {
    let (world, daemon) = rewritten(REWRITES[1].1);
    let ops = world.ops();
    fs::write(world.ana().join("notes.txt"), "theirs\n").unwrap();
    world.git(&world.ana(), &["commit", "-q", "-am", "Change the notes"]);
    world.git(&world.ana(), &["push", "-q", "origin", "HEAD:main"]);
    world.ops_do(&["fetch"]).expect(0);
    fs::write(ops.join("notes.txt"), "mine\n").unwrap();
    let said = world.ops_do(&["resume", "--accept-remote"]).expect(75);
    assert!(said.err.contains("notes.txt") && said.err.contains("git stash"), "{}", said.err);
    assert_eq!(fs::read_to_string(ops.join("notes.txt")).unwrap(), "mine\n");
    world.git(&ops, &["stash", "-q"]);
    decide(&world, "--accept-remote");
    // The hook shows that what follows is an ordinary push.
    hook(&world, "update", "git merge-base --is-ancestor \"$2\" \"$3\"");
    published(&world);
    unhook(&world, "update");
    daemon.stop();
    assert_eq!(on_remote(&world), ["a.yml", "b.yml", "c.yml"]);
    assert_eq!(fs::read_to_string(ops.join("notes.txt")).unwrap(), "theirs\n");
    eventually("the stash is there", || !world.git(&ops, &["stash", "list"]).is_empty());
    world.sound();
}
