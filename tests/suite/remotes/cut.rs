//! The line to the remote is cut, in each direction and after any number of bytes, in a fetch and in a push. What is
//! between is a real process that carries so many bytes and dies.
//!
//! `DISPATCHER_ROUNDS=500 cargo test --test suite remotes::cut` cuts at so many places of each of the four.

use std::fs;
use std::path::Path;

use super::{events, on_remote, published};
use crate::world::{Daemon, World, ask, eventually};

/// Stands in for `ssh`: the last argument is the command for the other side. `cut` holds what is to be cut, which way,
/// and after how many bytes; it is used up by the first command that it fits. `hang` at its end: the line is not
/// closed, nothing comes any more. `whole` in place of the bytes: nothing is cut, and a copy is kept.
const LINE: &str = r#"#!/bin/sh
for command; do :; done
cd "$(dirname "$0")" || exit 1
run() { eval "exec git ${command#git-}"; }
carry() {
  [ "$1" != whole ] || exec tee carried
  dd bs=1 count="$1" status=none
  [ "$2" != hang ] || exec sleep 600
}
read -r verb way bytes then <cut 2>/dev/null
case "$command" in "git-${verb:-none} "*) mv cut cut.used ;; *) run ;; esac
case "$way" in
  up) carry "$bytes" "$then" | run ;;
  down) run | { carry "$bytes" "$then"; [ "$bytes" = whole ] || kill -9 0; } ;;
esac
"#;

/// A world whose dispatcher reaches its remote over such a line.
fn over_a_line(config: &str) -> (World, Daemon) {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new(config);
    let line = world.path().join("line");
    fs::write(world.path().join("line.tmp"), LINE).unwrap();
    fs::set_permissions(world.path().join("line.tmp"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(world.path().join("line.tmp"), &line).unwrap();
    let url = format!("ssh://git@line{}", world.remote().display());
    world.git(&world.ops(), &["remote", "set-url", "origin", &url]);
    let daemon = Daemon::start_after(&world, &format!("export GIT_SSH_COMMAND='{}'", line.display()));
    (world, daemon)
}

/// Orders the next cut.
fn cut(world: &World, order: &str) {
    let _ = fs::remove_file(world.path().join("cut.used"));
    fs::write(world.path().join("cut.tmp"), format!("{order}\n")).unwrap();
    fs::rename(world.path().join("cut.tmp"), world.path().join("cut")).unwrap();
}

fn was_cut(world: &World) -> bool {
    world.path().join("cut.used").exists()
}

/// Where to cut: after the first bytes, and then evenly over what the line carried when nothing was cut.
fn places(world: &World) -> Vec<usize> {
    let carried = usize::try_from(fs::metadata(world.path().join("carried")).unwrap().len()).unwrap();
    let rounds = std::env::var("DISPATCHER_ROUNDS").map_or(8, |text| text.parse().unwrap());
    let first = rounds / 4;
    (0..rounds).map(|n| if n < first { n } else { (n - first) * carried / (rounds - first) }).collect()
}

/// Nothing half-done is left in the clone.
#[track_caller]
fn whole(world: &World, clone: &Path) {
    let fsck = world.try_git(clone, &["fsck", "--strict", "--no-dangling"]);
    assert_eq!((fsck.code, fsck.out.as_str()), (0, ""), "{}", fsck.err);
}

/// A request comes with a fetch that is cut; true where that did any harm.
fn fetch(world: &World, name: &str, order: &str) -> bool {
    world.push(&[(&format!("requests/{name}"), &ask("ok", "on: web"))]);
    cut(world, order);
    let said = world.ops_do(&["fetch"]);
    assert!(was_cut(world), "{order}");
    let harmed = said.code != 0;
    if harmed {
        assert!(said.expect(69).err.contains("E0512"));
        whole(world, &world.ops());
        world.ops_do(&["fetch"]).expect(0);
    }
    assert_eq!(world.outcome(name)["status"], "succeeded");
    published(world);
    harmed
}

/// A result goes with a push that is cut; true where that did any harm.
fn push(world: &World, name: &str, order: &str) -> bool {
    let told = |what: &str| events(world, 0, what).len();
    let (failed, pushed) = (told("git.push_failed"), told("git.pushed"));
    cut(world, order);
    world.drop_in(name, &ask("ok", "on: web"));
    assert_eq!(world.outcome(name)["status"], "succeeded");
    published(world);
    eventually("the push is told", || told("git.pushed") > pushed);
    assert!(was_cut(world), "{order}");
    told("git.push_failed") > failed
}

fn check(verb: &str, way: &str, round: fn(&World, &str, &str) -> bool) {
    let (world, daemon) = over_a_line("");
    assert!(!round(&world, "whole.yml", &format!("{verb} {way} whole")));
    let places = places(&world);
    let mut expect = vec!["whole.yml".to_owned()];
    let mut harm = 0;
    for (n, bytes) in places.iter().enumerate() {
        let name = format!("{n}.yml");
        harm += usize::from(round(&world, &name, &format!("{verb} {way} {bytes}")));
        expect.push(name);
    }
    assert!(harm > places.len() / 2, "{harm} of {} cuts did any harm", places.len());
    ended(&world, daemon, expect);
}

fn ended(world: &World, daemon: Daemon, mut expect: Vec<String>) {
    assert!(events(world, 0, "git.diverged").is_empty());
    daemon.stop();
    expect.sort_unstable();
    assert_eq!(on_remote(world), expect);
    whole(world, &world.remote());
    world.sound();
}

#[test]
fn what_we_ask_in_a_fetch() {
    check("upload-pack", "up", fetch);
}

#[test]
fn what_comes_in_a_fetch() {
    check("upload-pack", "down", fetch);
}

#[test]
fn what_we_send_in_a_push() {
    check("receive-pack", "up", push);
}

#[test]
fn what_is_answered_to_a_push() {
    check("receive-pack", "down", push);
}

#[test]
fn a_line_that_falls_silent_ends_at_the_deadline() {
    let (world, daemon) = over_a_line("git_timeout: 2s\n");
    world.push(&[("requests/a.yml", &ask("ok", "on: web"))]);
    cut(&world, "upload-pack down 700 hang");
    let said = world.ops_do(&["fetch"]).expect(69);
    assert!(said.err.contains("did not answer within 2s"), "{}", said.err);
    cut(&world, "receive-pack up 300 hang");
    world.ops_do(&["fetch"]).expect(0);
    assert_eq!(world.outcome("a.yml")["status"], "succeeded");
    world.event(0, "the deadline", |e| {
        e["event"] == "git.push_failed" && e["message"].as_str().unwrap().contains("did not answer within 2s")
    });
    published(&world);
    ended(&world, daemon, vec!["a.yml".to_owned()]);
}
