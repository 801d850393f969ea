//! Every verb once: its exit code and its `--json` form.

use std::fs;

use serde_json::Value;

use crate::world::{Daemon, World, ask};

fn error(said: &str) -> String {
    let error: Value = serde_json::from_str(said).unwrap_or_else(|error| panic!("{error}: {said}"));
    error["error"]["code"].as_str().unwrap().to_owned()
}

#[test]
fn verbs_of_a_running_daemon() {
    let world = World::new("");
    let gate = world.gate("a");
    let daemon = Daemon::start(&world);
    let request = world.path().join("good.yml");
    fs::write(&request, ask("ok", "on: web")).unwrap();
    let file = request.to_str().unwrap();
    let said = world.ops_do(&["submit", file, "--wait", "--json"]).expect(0).json();
    assert_eq!(said["status"], "succeeded");
    let id = said["id"].as_str().unwrap().to_owned();
    let said = world.ops_do(&["submit", "code", "--set", "on=db", "--set", "code=9", "--reason", "x", "--wait"]);
    assert!(said.out.contains("failed rc 9"), "{said:?}");
    said.expect(1);
    let said = world.with_stdin(&world.ops(), &["submit", "-", "--json"], &ask("gate", "on: web, gate: a")).expect(0);
    assert!(said.json()["request"].as_str().unwrap().starts_with("requests/request-"));
    let open = gate.reached();
    let status = world.ops_do(&["status", "--json"]).expect(0).json();
    assert_eq!((status["mode"].as_str(), status["runs"].as_array().unwrap().len()), (Some("working"), 1), "{status}");
    let locks = world.ops_do(&["locks", "--json"]).expect(0).json();
    assert_eq!((&locks[0]["resource"], &locks[0]["kind"]), (&"web".into(), &"gate".into()));
    world.ops_do(&["locks"]).expect(0);
    world.ops_do(&["wait", "@running", "--timeout", "50ms"]).expect(124);
    drop(open);
    let waited = world.ops_do(&["wait", "@", "--json"]).expect(0).json();
    assert_eq!(waited["kind"], "gate");
    world.ops_do(&["wait", &id, "@failed"]).expect(1);
    let list = world.ops_do(&["list", "--json"]).expect(0).json();
    assert_eq!(list.as_array().unwrap().len(), 3);
    let list = world.ops_do(&["list", "kind=ok", "--json"]).expect(0).json();
    assert_eq!(list.as_array().unwrap().len(), 1);
    let show = world.ops_do(&["show", &id[id.len() - 8..], "--json"]).expect(0).json();
    assert_eq!(show["path"], format!("processed/{id}"));
    world.ops_do(&["logs", &id, "--exit-status"]).expect(0);
    world.ops_do(&["logs", "@failed", "--exit-status"]).expect(1);
    assert!(world.ops_do(&["logs", &id, "-f"]).expect(0).out.contains("hello from ok"));
    for verb in ["fetch", "pause", "resume", "drain"] {
        assert!(world.ops_do(&[verb, "--json"]).expect(0).json().is_object(), "{verb}");
    }
    assert_eq!(daemon.ended(), 0);
    world.sound();
}

#[test]
fn following_a_run_shows_its_log_and_exits_as_it_did() {
    let world = World::new("");
    let gate = world.gate("a");
    let daemon = Daemon::start(&world);
    world.drop_in("a.yml", &ask("polite", "on: web, gate: a"));
    let open = gate.reached();
    let child = world.background(&world.ops(), &["logs", "a.yml", "-f", "--exit-status"]);
    let waiter = world.background(&world.ops(), &["wait", "a.yml"]);
    world.ops_do(&["cancel", "a.yml"]).expect(0);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("at the gate") && text.contains("cancelled"), "{text}");
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert_eq!(waiter.wait_with_output().unwrap().status.code(), Some(3));
    drop(open);
    daemon.stop();
}

#[test]
fn ends_of_runs_become_exit_codes() {
    let world = World::new("");
    let daemon = Daemon::start(&world);
    for (kind, params, code) in [
        ("ok", "on: a", 0),
        ("code", "on: a, code: 200", 1),
        ("signal", "on: a", 1),
        ("late", "on: a", 4),
        ("hog", "on: a", 1),
    ] {
        let said = world.with_stdin(&world.ops(), &["submit", "-", "--wait"], &ask(kind, params));
        assert_eq!(said.code, code, "{kind}: {said:?}");
    }
    let expired = format!("{}expires_at: 2020-01-01T00:00:00Z\n", ask("ok", "on: a"));
    world.with_stdin(&world.ops(), &["submit", "-", "--wait"], &expired).expect(75);
    daemon.stop();
    world.sound();
}

#[test]
fn verbs_without_a_daemon() {
    let world = World::new("");
    for verb in ["status", "locks", "pause", "resume", "drain", "fetch"] {
        assert_eq!(error(&world.ops_do(&[verb, "--json"]).expect(69).err), "E0701", "{verb}");
    }
    assert_eq!(error(&world.ops_do(&["show", "nobody", "--json"]).expect(66).err), "E0102");
    for args in [&["wait", "nobody"][..], &["cancel", "nobody"], &["retry", "nobody"], &["logs", "nobody"]] {
        world.ops_do(args).expect(66);
    }
    assert_eq!(world.ops_do(&["list", "--json"]).expect(0).json(), Value::Array(Vec::new()));
    let kinds = world.ops_do(&["handlers", "--json"]).expect(0).json();
    assert!(kinds.to_string().contains("workonce"), "{kinds}");
    world.ops_do(&["handlers"]).expect(0);
    assert!(world.ops_do(&["schema", "ok", "--json"]).expect(0).json().is_object());
    world.ops_do(&["schema", "okk"]).expect(64);
    let write = |name: &str, text: &str| {
        let path = world.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (good, bad) = (write("g.yml", &ask("ok", "on: web")), write("b.yml", "kind: ok\n"));
    world.ops_do(&["validate", &good]).expect(0);
    world.ops_do(&["validate", &bad, "--json"]).expect(65);
    world.ops_do(&["validate", &write("u.yml", "kind: okk\n")]).expect(64);
    world.ops_do(&["validate", "/nowhere.yml"]).expect(66);
    world.ops_do(&["submit", &bad]).expect(65);
    world.ops_do(&["submit", "okk"]).expect(64);
    world.ops_do(&["submit", &good, "--wait"]).expect(69);
    world.ops_do(&["list", "kin=x"]).expect(2);
    world.ops_do(&["frobnicate"]).expect(2);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = world.command(env!("CARGO_BIN_EXE_dispatcher"), &world.ops());
    assert_eq!(command.arg("handlers").stdout(full).status().unwrap().code(), Some(74));
    assert!(world.ops_do(&["--version"]).expect(0).out.starts_with("dispatcher "));
    world.ops_do(&["--help"]).expect(0);
}

#[test]
fn a_submit_from_any_clone_is_a_commit() {
    let world = World::new("");
    let ana = world.ana();
    let said = world.at(&ana, &["submit", "ok", "--set", "on=web", "--json"]).expect(0).json();
    let name = said["request"].as_str().unwrap().strip_prefix("requests/").unwrap().to_owned();
    assert_eq!(said["commit"].as_str().unwrap(), world.git(&world.remote(), &["rev-parse", "main"]).trim());
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    let status = world.outcome(&name);
    assert_eq!(status["status"], "succeeded");
    assert_eq!(
        (&status["requested_by"]["name"], &status["requested_by"]["email"]),
        (&"Ana".into(), &"ana@example.org".into())
    );
    // The same clone again, which the results have overtaken.
    let said = world.at(&ana, &["submit", "ok", "--set", "on=web"]).expect(0);
    assert!(said.out.contains("committed as"), "{said:?}");
    world.git(&ana, &["pull", "-q", "--ff-only", "origin", "main"]);
    let id = status["id"].as_str().unwrap();
    let retried = world.at(&ana, &["retry", id, "--no-push", "--json"]).expect(0).json();
    assert!(retried["request"].as_str().unwrap().starts_with("requests/retry-"), "{retried}");
    let first = world.git(&ana, &["ls-tree", "-r", "--name-only", "HEAD", "requests/"]);
    let taken = first.lines().find(|path| path.ends_with(".yml")).unwrap();
    world.at(&ana, &["submit", taken]).expect(73);
    world.git(&ana, &["push", "-q", "origin", "HEAD:main"]);
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    assert_eq!(world.recorded("HEAD").len(), 3);
    world.sound();
}

#[test]
fn places_that_are_no_dispatch_repository() {
    let world = World::new("");
    let empty = world.path().join("empty");
    fs::create_dir(&empty).unwrap();
    world.at(&empty, &["status"]).expect(78);
    world.git(&empty, &["init", "-q", "-b", "main"]);
    let said = world.at(&empty, &["--once", "--no-tui"]).expect(78);
    assert!(said.err.contains("dispatcher init"), "{said:?}");
    world.at(&empty, &["-C", "/nowhere/at/all", "status"]).expect(66);
    world.at(&empty, &["init", "--json"]).expect(0).json();
    world.at(&empty, &["init"]).expect(73);
    world.at(&empty, &["submit", "hello", "--set", "name=ana", "--no-push"]).expect(0);
    world.at(&empty, &["--once", "--no-tui"]).expect(0);
    assert!(world.at(&empty, &["logs", "@"]).expect(0).out.contains("hello, ana"));
    fs::write(world.path().join("config.yml"), "workers: many\nwrkers: 1\n").unwrap();
    let said = world.at(&empty, &["--once", "--no-tui"]).expect(78);
    assert!(said.err.contains("wrkers") && said.err.contains("many"), "all problems at once: {said:?}");
}
