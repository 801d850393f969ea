//! People who work with git where the dispatcher does, here and on the remote: they change and delete requests that are
//! under way, touch results, leave the branch, and hold or forget git's locks.

use std::fs;
use std::process::{Child, Stdio};

use super::{degraded, events, on_remote, published, recovered};
use crate::world::{Daemon, World, ask, eventually};

fn starts(world: &World, resource: &str) -> usize {
    world.lines(resource).iter().filter(|line| line.starts_with("start")).count()
}

#[test]
fn a_request_that_was_changed_while_it_ran_is_another_request() {
    let world = World::new("");
    let gate = world.gate("g");
    world.push(&[("requests/a.yml", &ask("gate", "on: first, gate: g"))]);
    let daemon = Daemon::start(&world);
    let open = gate.reached();
    world.push(&[("requests/a.yml", &ask("ok", "on: second"))]);
    world.ops_do(&["fetch"]).expect(0);
    eventually("the changed one has run", || !world.outcomes("a.yml").is_empty());
    drop(open);
    eventually("both are recorded", || world.outcomes("a.yml").len() == 2);
    published(&world);
    assert_eq!((starts(&world, "first"), starts(&world, "second")), (1, 1));
    for status in world.outcomes("a.yml") {
        assert_eq!(status["status"], "succeeded", "{status}");
        let kept = world
            .git(&world.ops(), &["show", &format!("HEAD:processed/{}/request.yml", status["id"].as_str().unwrap())]);
        assert_eq!(kept.contains("first"), status["resource"] == "first", "{status}: {kept}");
    }
    daemon.stop();
    world.sound();
}

#[test]
fn results_that_a_person_changes_or_deletes_are_not_made_again() {
    let world = World::new("");
    let daemon = Daemon::start(&world);
    for name in ["a.yml", "b.yml"] {
        world.push(&[(&format!("requests/{name}"), &ask("ok", "on: web"))]);
        world.ops_do(&["fetch"]).expect(0);
    }
    let id = |name: &str| world.outcome(name)["id"].as_str().unwrap().to_owned();
    let (a, b) = (id("a.yml"), id("b.yml"));
    published(&world);
    let ana = world.ana();
    world.git(&ana, &["pull", "-q", "--rebase", "origin", "main"]);
    fs::write(ana.join(format!("processed/{a}/note.txt")), "looked at by Ana\n").unwrap();
    fs::write(ana.join(format!("logs/{a}.log")), "nothing to see\n").unwrap();
    world.git(&ana, &["rm", "-q", "-r", &format!("processed/{b}"), &format!("logs/{b}.log")]);
    // One result is here alone meanwhile, and is replayed on top of what the person did.
    world.drop_in("c.yml", &ask("ok", "on: web"));
    world.push(&[]);
    world.outcome("c.yml");
    world.ops_do(&["fetch"]).expect(0);
    published(&world);
    assert_eq!(on_remote(&world), ["a.yml", "c.yml"], "what a person deleted stays deleted");
    assert_eq!(world.git(&world.ops(), &["show", &format!("main:logs/{a}.log")]), "nothing to see\n");
    assert_eq!(fs::read_to_string(world.ops().join(format!("processed/{a}/note.txt"))).unwrap(), "looked at by Ana\n");
    daemon.stop();
    let daemon = Daemon::start(&world);
    world.drop_in("d.yml", &ask("ok", "on: web"));
    world.outcome("d.yml");
    published(&world);
    daemon.stop();
    assert_eq!(starts(&world, "web"), 4, "nothing ran twice");
    assert_eq!(on_remote(&world), ["a.yml", "c.yml", "d.yml"]);
    world.sound_for_git();
    assert_eq!(world.breaches(), ["E0553"], "what the person deleted is missing");
}

#[test]
fn a_result_that_a_person_invents_is_in_the_way_and_ours_is_kept() {
    let world = World::new("");
    let gate = world.gate("g");
    let id = "0197e0c2-8f7a-7b3c-9d1e-5a6b7c8d9e0f";
    world.push(&[("requests/a.yml", &format!("{}id: {id}\n", ask("gate", "on: web, gate: g")))]);
    let daemon = Daemon::start(&world);
    let open = gate.reached();
    let ana = world.ana();
    fs::create_dir_all(ana.join(format!("processed/{id}"))).unwrap();
    world.push(&[(&format!("processed/{id}/status.json"), "{\"status\": \"succeeded\"}\n")]);
    world.ops_do(&["fetch"]);
    let detail = degraded(&world, 0, "checkout");
    assert!(detail.contains(&format!("processed/{id}/status.json")), "{detail}");
    drop(open);
    world.until("a.yml", "succeeded");
    world.git(&ana, &["rm", "-q", "-r", &format!("processed/{id}")]);
    world.push(&[]);
    world.ops_do(&["fetch"]);
    assert_eq!(world.outcome("a.yml")["id"], id);
    published(&world);
    recovered(&world, 0, "checkout");
    daemon.stop();
    assert_eq!(starts(&world, "web"), 1);
    world.sound_for_git();
    assert_eq!(world.breaches(), ["E0543"], "what the person invented is in history");
}

/// Leaves the branch in some way; what must be said then, and how one comes back.
fn away(leave: fn(&World), word: &str, back: fn(&World)) {
    let world = World::new("");
    let ops = world.ops();
    let gate = world.gate("g");
    world.drop_in("a.yml", &ask("gate", "on: web, gate: g"));
    let daemon = Daemon::start(&world);
    let open = gate.reached();
    leave(&world);
    let before = world.git(&ops, &["status", "--porcelain"]);
    world.ops_do(&["fetch"]);
    let detail = degraded(&world, 0, "checkout");
    assert!(detail.contains(word), "{detail}");
    let status = world.ops_do(&["status"]).expect(0).out;
    assert!(status.contains(&detail) && status.contains("since 20") && status.contains("= help: git "), "{status}");
    world.drop_in("b.yml", &ask("ok", "on: web"));
    drop(open);
    let main = || world.recorded("refs/heads/main");
    eventually("the result is recorded on the branch", || main().values().any(|s| s["request"] == "a.yml"));
    published(&world);
    let after = world.git(&ops, &["status", "--porcelain"]);
    assert_eq!(after.replace("?? requests/b.yml\n", ""), before, "index and files of the person are as they were");
    assert!(ops.join("requests/b.yml").exists(), "intake is held");
    back(&world);
    world.ops_do(&["fetch"]).expect(0);
    recovered(&world, 0, "checkout");
    assert_eq!(world.outcome("b.yml")["status"], "succeeded");
    published(&world);
    daemon.stop();
    assert_eq!(on_remote(&world), ["a.yml", "b.yml"]);
    world.sound();
}

#[test]
fn a_person_on_another_branch() {
    let leave = |world: &World| drop(world.git(&world.ops(), &["switch", "-q", "-c", "topic"]));
    away(leave, "branch `topic` is checked out here", |world| {
        world.git(&world.ops(), &["switch", "-q", "main"]);
    });
}

#[test]
fn a_person_on_a_commit() {
    let leave = |world: &World| drop(world.git(&world.ops(), &["switch", "-q", "--detach"]));
    away(leave, "HEAD is detached at `", |world| {
        world.git(&world.ops(), &["switch", "-q", "main"]);
    });
}

#[test]
fn a_person_in_the_middle_of_a_merge() {
    let merging = |world: &World| {
        let ops = world.ops();
        world.git(&ops, &["switch", "-q", "-c", "topic"]);
        fs::write(ops.join("notes.txt"), "topic\n").unwrap();
        world.git(&ops, &["add", "notes.txt"]);
        world.git(&ops, &["commit", "-q", "-m", "On the topic"]);
        world.git(&ops, &["switch", "-q", "main"]);
        fs::write(ops.join("notes.txt"), "main\n").unwrap();
        world.git(&ops, &["add", "notes.txt"]);
        world.git(&ops, &["commit", "-q", "-m", "On the branch"]);
        assert_ne!(world.try_git(&ops, &["merge", "-q", "topic"]).code, 0);
    };
    away(merging, "a merge is in progress here", |world| {
        world.git(&world.ops(), &["merge", "--abort"]);
    });
}

/// `git commit` with its editor open: it holds `index.lock`, and the file is not open.
fn committing(world: &World) -> Child {
    let ops = world.ops();
    fs::write(ops.join("notes.txt"), "mine\n").unwrap();
    world.git(&ops, &["add", "notes.txt"]);
    let mut command = world.command("git", &ops);
    command.args(["commit", "-q", "-a"]).env("GIT_EDITOR", "sh -c 'read -r line && echo \"$line\" >\"$1\"' sh");
    let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the index is locked", || ops.join(".git/index.lock").exists());
    child
}

#[test]
fn an_index_that_is_held_for_long_is_said_with_who_holds_it() {
    use std::io::Write as _;
    let world = World::new("");
    let ops = world.ops();
    let daemon = Daemon::start(&world);
    let mut child = committing(&world);
    world.drop_in("a.yml", &ask("ok", "on: web"));
    assert_eq!(world.outcome("a.yml")["status"], "succeeded", "it is recorded all the same");
    published(&world);
    let detail = degraded(&world, 0, "index");
    assert!(detail.contains(&format!("`.git/index.lock` is held by `git` (process {})", child.id())), "{detail}");
    let status = world.ops_do(&["status"]).expect(0).out;
    assert!(status.contains("degraded  index: ") && status.contains("= help: rm .git/index.lock"), "{status}");
    // Intake goes on. The person's commit would undo ours: git itself sees that the branch has moved.
    world.drop_in("b.yml", &ask("ok", "on: web"));
    assert_eq!(world.outcome("b.yml")["status"], "succeeded");
    child.stdin.take().unwrap().write_all(b"Mine\n").unwrap();
    assert!(!child.wait().unwrap().success());
    recovered(&world, 0, "index");
    assert_eq!(world.git(&ops, &["status", "--porcelain"]), "A  notes.txt\n", "what was staged is staged");
    world.git(&ops, &["commit", "-q", "-m", "Mine"]);
    world.drop_in("c.yml", &ask("ok", "on: web"));
    world.outcome("c.yml");
    published(&world);
    daemon.stop();
    assert_eq!(on_remote(&world), ["a.yml", "b.yml", "c.yml"]);
    world.sound();
}

#[test]
fn an_index_lock_that_a_dead_git_left_is_said_and_not_removed() {
    let world = World::new("");
    let lock = world.ops().join(".git/index.lock");
    let mut child = committing(&world);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(lock.exists());
    world.git(&world.ana(), &["pull", "-q", "--rebase", "origin", "main"]);
    let daemon = Daemon::start(&world);
    world.drop_in("a.yml", &ask("ok", "on: web"));
    assert_eq!(world.outcome("a.yml")["status"], "succeeded");
    assert!(degraded(&world, 0, "index").contains("was left by a git command that died"));
    // What comes from the remote has to wait, and says for what.
    world.push(&[("requests/b.yml", &ask("ok", "on: web"))]);
    world.ops_do(&["fetch"]);
    let detail = degraded(&world, 0, "checkout");
    assert!(detail.contains("`.git/index.lock` was left by a git command that died"), "{detail}");
    assert!(lock.exists(), "it is not ours");
    fs::remove_file(&lock).unwrap();
    recovered(&world, 0, "index");
    world.ops_do(&["fetch"]).expect(0);
    assert_eq!(world.outcome("b.yml")["status"], "succeeded");
    recovered(&world, 0, "checkout");
    published(&world);
    daemon.stop();
    world.git(&world.ops(), &["rm", "-q", "--cached", "-f", "notes.txt"]);
    fs::remove_file(world.ops().join("notes.txt")).unwrap();
    world.sound();
}

#[test]
fn locks_of_refs_that_others_left_are_said_and_not_removed() {
    let world = World::new("");
    let git = world.ops().join(".git");
    let daemon = Daemon::start(&world);
    let branch = git.join("refs/heads/main.lock");
    fs::write(&branch, "").unwrap();
    world.drop_in("a.yml", &ask("ok", "on: web"));
    let detail = degraded(&world, 0, "commit");
    assert!(detail.contains("`.git/refs/heads/main.lock` was left by a git command that died"), "{detail}");
    assert!(branch.exists() && world.outcomes("a.yml").is_empty());
    fs::remove_file(branch).unwrap();
    assert_eq!(world.outcome("a.yml")["status"], "succeeded");
    recovered(&world, 0, "commit");
    // Its own lock of that ref is gone then.
    world.event(0, "the push is told", |e| e["event"] == "git.pushed");
    let tracking = git.join("refs/remotes/origin/main.lock");
    fs::write(&tracking, "").unwrap();
    world.push(&[("requests/b.yml", &ask("ok", "on: web"))]);
    let from = world.events().len();
    let said = world.ops_do(&["fetch"]).expect(69);
    assert!(said.err.contains("`.git/refs/remotes/origin/main.lock` was left by"), "{}", said.err);
    fs::remove_file(tracking).unwrap();
    world.ops_do(&["fetch"]).expect(0);
    recovered(&world, from, "fetch");
    assert_eq!(world.outcome("b.yml")["status"], "succeeded");
    published(&world);
    daemon.stop();
    assert!(events(&world, 0, "git.diverged").is_empty());
    assert_eq!(on_remote(&world), ["a.yml", "b.yml"]);
    world.sound();
}
