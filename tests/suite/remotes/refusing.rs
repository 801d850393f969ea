//! Remotes that do not take a push: for a while, for ever, too slowly, or without saying what became of it.

use std::fs;

use super::{degraded, events, hook, on_remote, published, recovered, unhook};
use crate::world::{Daemon, World, ask, eventually};

#[test]
fn refused_three_times_and_then_accepted() {
    let world = World::new("");
    fs::write(world.remote().join("refusals"), "3").unwrap();
    let script = "n=$(cat refusals); [ \"$n\" -gt 0 ] || exit 0\n\
                  echo $((n - 1)) >refusals; echo 'come back later'; exit 1";
    hook(&world, "pre-receive", script);
    let daemon = Daemon::start(&world);
    world.drop_in("a.yml", &ask("ok", "on: web"));
    world.outcome("a.yml");
    world.drop_in("b.yml", &ask("ok", "on: web"));
    world.outcome("b.yml");
    published(&world);
    let failed = events(&world, 0, "git.push_failed");
    let attempts: Vec<u64> = failed.iter().map(|event| event["attempt"].as_u64().unwrap()).collect();
    assert_eq!(attempts, [1, 2, 3]);
    for event in &failed {
        let message = event["message"].as_str().unwrap();
        assert!(message.contains("the remote refused") && message.contains("come back later"), "{event}");
        assert!(event["retry_ms"].is_u64(), "{event}");
    }
    world.event(0, "the push is told", |e| e["event"] == "git.pushed" && e["attempts"] == 4);
    let degraded = events(&world, 0, "dispatcher.degraded");
    assert!(degraded.is_empty(), "the retries were enough: {degraded:?}");
    daemon.stop();
    assert_eq!(on_remote(&world), ["a.yml", "b.yml"]);
    world.sound();
}

#[test]
fn refused_for_ever_is_said_and_ends_with_the_next_fetch_or_result() {
    let world = World::new("push_retries: 2\n");
    let refuse = || hook(&world, "pre-receive", "printf 'protected \\033[31mbranch\\nask Ben\\n' >&2; exit 1");
    let daemon = Daemon::start(&world);
    refuse();
    world.drop_in("a.yml", &ask("ok", "on: web"));
    let detail = degraded(&world, 0, "push");
    assert!(detail.contains("protected ^[[31mbranch; ask Ben"), "the remote's own words, escaped: {detail}");
    let status = world.ops_do(&["status", "--json"]).expect(0).json();
    assert_eq!((&status["git"]["push"], &status["git"]["unpushed"]), (&"given up".into(), &1.into()), "{status}");
    let said = world.ops_do(&["status"]).expect(0).out;
    assert!(said.contains("degraded  push: the remote refused: ") && said.contains("since 20"), "{said}");
    assert!(!said.contains('\u{1b}'), "{said:?}");
    // Work goes on, and each result is one more try.
    let before = events(&world, 0, "git.push_failed").len();
    world.drop_in("b.yml", &ask("ok", "on: web"));
    assert_eq!(world.outcome("b.yml")["status"], "succeeded");
    eventually("it was tried with the next result", || events(&world, 0, "git.push_failed").len() > before);
    unhook(&world, "pre-receive");
    world.ops_do(&["fetch"]).expect(0);
    published(&world);
    recovered(&world, 0, "push");
    assert_eq!(on_remote(&world), ["a.yml", "b.yml"]);
    // And once more, ended by a result alone.
    let from = world.events().len();
    refuse();
    world.drop_in("c.yml", &ask("ok", "on: web"));
    degraded(&world, from, "push");
    unhook(&world, "pre-receive");
    world.drop_in("d.yml", &ask("ok", "on: web"));
    published(&world);
    recovered(&world, from, "push");
    let told = fs::read_to_string(&daemon.output).unwrap();
    daemon.stop();
    let log = fs::read_to_string(world.ops().join("logs/dispatcher.log")).unwrap();
    for text in [told, log] {
        assert!(text.contains("protected ^[[31mbranch") && !text.contains("\u{1b}[31mbranch"), "{text:?}");
    }
    assert_eq!(on_remote(&world), ["a.yml", "b.yml", "c.yml", "d.yml"]);
    world.sound();
}

#[test]
fn what_was_refused_survives_a_restart() {
    let world = World::new("push_retries: 1\n");
    hook(&world, "update", "echo no; exit 1");
    let daemon = Daemon::start(&world);
    world.drop_in("a.yml", &ask("ok", "on: web"));
    degraded(&world, 0, "push");
    daemon.kill();
    unhook(&world, "update");
    let daemon = Daemon::start(&world);
    published(&world);
    daemon.stop();
    assert_eq!(on_remote(&world), ["a.yml"]);
    world.sound();
}

#[test]
fn a_quota_of_the_remote_is_told_in_its_words() {
    let world = World::new("push_retries: 1\n");
    world.git(&world.remote(), &["config", "receive.maxInputSize", "1"]);
    let daemon = Daemon::start(&world);
    world.drop_in("a.yml", &ask("ok", "on: web"));
    let detail = degraded(&world, 0, "push");
    assert!(detail.contains("exceeds maximum allowed size"), "{detail}");
    world.git(&world.remote(), &["config", "--unset", "receive.maxInputSize"]);
    world.ops_do(&["fetch"]).expect(0);
    published(&world);
    daemon.stop();
    world.sound();
}

#[test]
fn a_hook_that_sleeps_ends_at_the_deadline_and_holds_up_no_run() {
    let world = World::new("git_timeout: 2s\n");
    let pid = world.path().join("hook.pid");
    hook(&world, "pre-receive", &format!("echo $$ >{0}.tmp; mv {0}.tmp {0}; exec sleep 600", pid.display()));
    let daemon = Daemon::start(&world);
    world.drop_in("a.yml", &ask("ok", "on: web"));
    eventually("the hook sleeps", || pid.exists());
    let sleeper: i32 = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    world.drop_in("b.yml", &ask("ok", "on: web"));
    assert_eq!(world.outcome("b.yml")["status"], "succeeded", "it is recorded meanwhile");
    let failed = world.event(0, "the deadline", |e| e["event"] == "git.push_failed");
    assert!(failed["message"].as_str().unwrap().contains("did not answer within 2s"), "{failed}");
    eventually("nothing of the push is left", || !crate::world::alive(sleeper));
    unhook(&world, "pre-receive");
    published(&world);
    daemon.stop();
    assert_eq!(on_remote(&world), ["a.yml", "b.yml"]);
    world.sound();
}

#[test]
fn an_unclear_push_is_settled_by_looking() {
    for (name, when, arrived) in [("pre-receive", "", false), ("reference-transaction", "committed", true)] {
        let world = World::new("");
        // The remote dies just before or just after it has moved its branch, once, and says nothing.
        let script = format!("[ \"$1\" = \"{when}\" ] && [ ! -e died ] || exit 0\ntouch died; kill -9 $PPID; exit 1");
        hook(&world, name, &script);
        let daemon = Daemon::start(&world);
        world.drop_in("a.yml", &ask("ok", "on: web"));
        world.event(0, "the push has failed", |e| e["event"] == "git.push_failed");
        world.event(0, "the push is told", |e| e["event"] == "git.pushed");
        published(&world);
        let pushes = events(&world, 0, "git.pushed");
        assert_eq!(pushes.len(), 1, "{pushes:?}");
        assert_eq!(pushes[0]["runs"], 1);
        let reflog = world.git(&world.ops(), &["reflog", "show", "--format=%gs", "refs/remotes/origin/main"]);
        assert_eq!(reflog.contains("dispatcher: push"), !arrived, "pushed twice, or never: {reflog}");
        daemon.stop();
        assert_eq!(on_remote(&world), ["a.yml"]);
        world.sound();
    }
}

#[test]
fn a_lock_that_a_dead_server_left_is_told_in_the_remotes_words() {
    let world = World::new("push_retries: 2\n");
    let daemon = Daemon::start(&world);
    let lock = world.remote().join("refs/heads/main.lock");
    fs::write(&lock, "").unwrap();
    world.drop_in("a.yml", &ask("ok", "on: web"));
    let detail = degraded(&world, 0, "push");
    assert!(detail.contains("main.lock': File exists"), "{detail}");
    fs::remove_file(lock).unwrap();
    world.ops_do(&["fetch"]).expect(0);
    published(&world);
    recovered(&world, 0, "push");
    daemon.stop();
    assert_eq!(on_remote(&world), ["a.yml"]);
    world.sound();
}
