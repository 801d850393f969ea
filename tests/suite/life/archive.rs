//! Runs that have left the branch for the archive: every command finds them, in every clone.

use std::fs;

use crate::world::{Daemon, World, ask, eventually};

const ID: &str = "0197e0c2-8f7a-7b3c-9d1e-5a6b7c8d9e0f";

fn known(bytes: &str) -> String {
    format!("kind: ok\nid: {ID}\nparams: {{{bytes}}}\n")
}

/// Five runs, of which the three oldest are archived: one with an id of its own, one that failed, and one more.
fn archived() -> World {
    let world = World::new("keep_recent: 2\n");
    for (name, text) in [
        ("1.yml", known("on: web")),
        ("2.yml", ask("code", "on: web, code: 3")),
        ("3.yml", ask("ok", "on: db")),
        ("4.yml", ask("ok", "on: web")),
        ("5.yml", ask("ok", "on: web")),
    ] {
        world.push(&[(&format!("requests/{name}"), &text)]);
        world.ops_do(&["--once", "--no-tui"]).expect(0);
    }
    world
}

#[test]
fn old_runs_are_found_by_every_command_in_every_clone() {
    let world = archived();
    assert_eq!(world.recorded("HEAD").len(), 2);
    let subjects = world.git(&world.remote(), &["log", "--format=%s", "dispatcher/archive"]);
    assert_eq!(subjects, "archive: 1 runs\n".repeat(3));
    world.sound();
    world.git(world.path(), &["clone", "-q", "remote.git", "fresh"]);
    for clone in [world.ops(), world.path().join("fresh")] {
        let on = |args: &[&str]| world.at(&clone, args);
        let all = on(&["list", "-n", "0", "--json"]).expect(0).json();
        let names = all.as_array().unwrap().iter().map(|s| s["request"].as_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(names, ["5.yml", "4.yml", "3.yml", "2.yml", "1.yml"]);
        assert_eq!(on(&["list", "db", "--json"]).expect(0).json()[0]["request"], "3.yml");
        let first = on(&["show", ID, "--json"]).expect(0).json();
        let path = first["path"].as_str().unwrap();
        assert!(path.contains("dispatcher/archive:20") && path.ends_with(ID), "{path}");
        assert!(world.git(&clone, &["show", &format!("{path}/request.yml")]).contains(ID));
        assert!(on(&["show", "5a6b7c8d9e0f"]).expect(0).out.contains(&format!("id: {ID}")), "by its end");
        assert_eq!(on(&["show", "@failed", "--json"]).expect(0).json()["request"], "2.yml");
        assert_eq!(on(&["show", "3.yml", "--json"]).expect(0).json()["status"], "succeeded");
        assert!(on(&["logs", "1.yml"]).expect(0).out.contains("hello from ok\n"));
        on(&["logs", "2.yml", "--exit-status"]).expect(1);
        on(&["wait", "2.yml"]).expect(1);
        assert!(on(&["show", "nope"]).expect(66).err.contains("E0102"));
    }
}

#[test]
fn an_archived_id_is_not_run_again() {
    let world = archived();
    let daemon = Daemon::start(&world);
    let before = world.lines("web").len();
    world.drop_in("again.yml", &known("on: web"));
    let again = world.outcome("again.yml");
    assert_eq!((&again["status"], &again["rc"]), (&"duplicate".into(), &0.into()));
    assert!(again["reason"].as_str().unwrap().contains(ID), "{again}");
    world.drop_in("other.yml", &known("on: db"));
    let other = world.outcome("other.yml");
    assert_eq!((&other["status"], &other["rc"]), (&"rejected".into(), &65.into()));
    assert_eq!(world.lines("web").len(), before);
    // The daemon is asked for what it has in the archive alone.
    assert_eq!(world.ops_do(&["wait", ID, "--json"]).expect(0).json()["status"], "succeeded");
    assert!(world.ops_do(&["cancel", ID]).code != 0, "it is final");
    world.ops_do(&["retry", "2.yml", "--wait"]).expect(1);
    daemon.stop();
}

#[test]
fn a_daemon_archives_when_it_is_quiet_and_follows_the_others() {
    let world = World::new("keep_recent: 1\n");
    world.git(world.path(), &["clone", "-q", "remote.git", "ops2"]);
    let daemon = Daemon::start(&world);
    for name in ["a.yml", "b.yml", "c.yml"] {
        world.drop_in(name, &ask("ok", "on: web"));
    }
    let branch = |rev: &str| world.try_git(&world.remote(), &["ls-tree", "-r", "--name-only", rev]).out;
    eventually("two are archived, and the branch is pushed", || {
        branch("dispatcher/archive").matches("status.json").count() == 2
            && branch("main").matches("status.json").count() == 1
    });
    // Another dispatcher of the same branch takes the archive over as it is.
    let other = world.path().join("ops2");
    world.at(&other, &["--once", "--no-tui"]).expect(0);
    let tip = |rev: &str| world.git(&other, &["rev-parse", rev]);
    assert_eq!(tip("dispatcher/archive"), world.git(&world.remote(), &["rev-parse", "dispatcher/archive"]));
    daemon.stop();
    world.sound();
}

#[test]
fn a_remote_that_takes_no_archive_takes_the_results() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new("keep_recent: 1\n");
    let hook = world.remote().join("hooks/update");
    fs::write(&hook, "#!/bin/sh\ncase $1 in */archive) echo 'main alone'; exit 1;; esac\n").unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    world.push(&[("requests/a.yml", &ask("ok", "on: web")), ("requests/b.yml", &ask("ok", "on: web"))]);
    let said = world.ops_do(&["--once", "--no-tui"]).expect(75);
    assert!(said.out.contains("archive: ") && said.out.contains("main alone"), "{}", said.out);
    assert_eq!(world.recorded("origin/main").len(), 2, "nothing has left the branch");
    fs::remove_file(hook).unwrap();
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    assert_eq!(world.recorded("origin/main").len(), 1);
    world.sound();
}
