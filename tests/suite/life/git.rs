//! Requests that come and go by git.

use std::fs;

use crate::world::{Daemon, World, ask, eventually, statuses};

#[test]
fn a_push_comes_back_as_a_result() {
    let world = World::new("fetch_interval: 500ms\n");
    let daemon = Daemon::start(&world);
    let asked = world.push(&[("requests/hello.yml", &ask("ok", "on: web"))]);
    let ana = world.ana();
    let mut found = None;
    eventually("the result is pulled", || {
        world.git(&ana, &["pull", "-q", "--ff-only", "origin", "main"]);
        found = statuses(&world, &ana, "HEAD").into_iter().next();
        found.is_some()
    });
    let (id, status) = found.unwrap();
    for (key, expect) in [
        ("request", "hello.yml"),
        ("kind", "ok"),
        ("resource", "web"),
        ("status", "succeeded"),
        ("log", &format!("logs/{id}.log")),
    ] {
        assert_eq!(status[key], expect, "{key}");
    }
    assert_eq!((status["rc"].as_i64(), status["attempt"].as_i64()), (Some(0), Some(1)));
    let by = &status["requested_by"];
    assert_eq!((&by["name"], &by["email"], &by["commit"]), (&"Ana".into(), &"ana@example.org".into(), &asked.into()));
    assert_eq!((&status["handler"]["file"], &status["handler"]["dirty"]), (&"ok.sh".into(), &false.into()));
    assert!(!ana.join("requests/hello.yml").exists(), "the request is gone");
    assert_eq!(fs::read_to_string(ana.join(format!("processed/{id}/request.yml"))).unwrap(), ask("ok", "on: web"));
    assert!(fs::read_to_string(ana.join(format!("logs/{id}.log"))).unwrap().contains("hello from ok\n"));
    let events = fs::read_to_string(ana.join(format!("logs/{id}.jsonl"))).unwrap();
    assert!(events.lines().last().unwrap().contains("\"run.finished\""), "{events}");
    let message = world.git(&ana, &["log", "-1", "--format=%an <%ae>%n%s%n%b"]);
    let mut lines = message.lines();
    assert!(lines.next().unwrap().starts_with("dispatcher <dispatcher@"), "{message}");
    assert_eq!(lines.next().unwrap(), format!("executor: {id} rc=0"));
    for part in ["ok", "web", "succeeded", "hello.yml"] {
        assert!(message.contains(part), "{message}");
    }
    let changed = world.git(&ana, &["show", "--format=", "--name-status", "HEAD"]);
    let mut changed: Vec<&str> = changed.lines().collect();
    changed.sort_unstable();
    let mut expect = vec![
        format!("A\tlogs/{id}.jsonl"),
        format!("A\tlogs/{id}.log"),
        format!("A\tprocessed/{id}/status.json"),
        format!("R100\trequests/hello.yml\tprocessed/{id}/request.yml"),
    ];
    expect.sort_unstable();
    assert_eq!(changed, expect);
    daemon.stop();
    world.sound();
}

#[test]
fn a_dropped_file_needs_no_git() {
    let world = World::new("");
    let daemon = Daemon::start(&world);
    world.drop_in("local.yml", &ask("ok", "on: web"));
    let status = world.outcome("local.yml");
    assert_eq!(status["status"], "succeeded");
    let by = &status["requested_by"];
    assert!(by["name"].is_string() && by["email"].is_null() && by["commit"].is_null(), "{by}");
    daemon.stop();
    world.sound();
}

#[test]
fn a_request_withdrawn_before_it_starts_is_cancelled() {
    let world = World::new("workers: 1\n");
    let gate = world.gate("a");
    world.push(&[("requests/1.yml", &ask("gate", "on: web, gate: a"))]);
    let daemon = Daemon::start(&world);
    let open = gate.reached();
    world.push(&[("requests/2.yml", &ask("ok", "on: web")), ("requests/3.yml", &ask("ok", "on: db"))]);
    world.ops_do(&["fetch"]).expect(0);
    world.until("3.yml", "queued");
    let ana = world.ana();
    world.git(&ana, &["rm", "-q", "requests/1.yml", "requests/2.yml"]);
    let commit = world.push(&[]);
    world.ops_do(&["fetch"]).expect(0);
    let status = world.outcome("2.yml");
    assert_eq!((&status["status"], &status["rc"]), (&"cancelled".into(), &130.into()));
    let reason = status["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("withdrawn in ") && reason.contains(&commit[..7]) && reason.ends_with(" by Ana"),
        "{reason}"
    );
    drop(open);
    assert_eq!(world.outcome("1.yml")["status"], "succeeded", "it had started");
    assert_eq!(world.outcome("3.yml")["status"], "succeeded");
    daemon.stop();
    world.sound();
}

#[test]
fn the_same_id_is_run_once() {
    let world = World::new("");
    let id = "0197e0c2-8f7a-7b3c-9d1e-5a6b7c8d9e0f";
    let text = format!("kind: ok\nid: {id}\nparams: {{on: web}}\n");
    let other = format!("kind: ok\nid: {id}\nparams: {{on: db}}\n");
    let daemon = Daemon::start(&world);
    world.drop_in("first.yml", &text);
    assert_eq!(world.outcome("first.yml")["id"], id);
    world.drop_in("second.yml", &text);
    let second = world.outcome("second.yml");
    assert_eq!((&second["status"], &second["rc"]), (&"duplicate".into(), &0.into()));
    assert!(second["reason"].as_str().unwrap().contains(id) && second["id"] != id, "{second}");
    world.drop_in("third.yml", &other);
    let third = world.outcome("third.yml");
    assert_eq!((&third["status"], &third["rc"]), (&"rejected".into(), &65.into()));
    assert!(third["id"] != id && third["error"]["message"].as_str().unwrap().contains(id), "{third}");
    assert_eq!(world.lines("web").len(), 2, "{:?}", world.lines("web"));
    daemon.stop();
    world.sound();
}

#[test]
fn the_same_bytes_pushed_again_are_a_new_request() {
    let world = World::new("");
    for n in 1..=2 {
        world.push(&[("requests/a.yml", &ask("ok", "on: web"))]);
        world.ops_do(&["--once", "--no-tui"]).expect(0);
        assert_eq!(world.outcomes("a.yml").len(), n);
    }
    world.sound();
}

#[test]
fn once_says_whether_all_is_published() {
    let world = World::new("push_retries: 1\n");
    world.push(&[("requests/a.yml", &ask("code", "on: web, code: 3"))]);
    let hook = world.remote().join("hooks/pre-receive");
    fs::write(&hook, "#!/bin/sh\necho 'not today'\nexit 1\n").unwrap();
    fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let said = world.ops_do(&["--once", "--no-tui"]).expect(75);
    assert!(format!("{}{}", said.out, said.err).contains("not today"), "{said:?}");
    let status = world.outcome("a.yml");
    assert_eq!((&status["status"], &status["rc"]), (&"failed".into(), &3.into()), "recorded all the same");
    fs::remove_file(hook).unwrap();
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    world.sound();
}

#[test]
fn a_repository_without_a_remote_keeps_its_results() {
    let world = World::new("");
    world.git(&world.ops(), &["remote", "remove", "origin"]);
    world.drop_in("a.yml", &ask("ok", "on: web"));
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    assert_eq!(world.outcome("a.yml")["status"], "succeeded");
}

#[test]
fn two_dispatchers_on_two_clones_keep_both_results() {
    let world = World::new("");
    let other = world.path().join("ops2");
    world.git(world.path(), &["clone", "-q", "remote.git", "ops2"]);
    let daemon = Daemon::start(&world);
    let file = fs::File::create(world.path().join("lock/web.lock")).unwrap();
    let mut lock = fd_lock::RwLock::new(file);
    let held = lock.try_write().unwrap();
    world.push(&[("requests/a.yml", &ask("ok", "on: web"))]);
    world.ops_do(&["fetch"]).expect(0);
    world.event(0, "it waits", |e| e["event"] == "lock.waiting");
    // The other one stands for another machine: it has locks of its own.
    let config = world.path().join("other.yml");
    fs::write(&config, format!("lock_dir: {}\nmin_free: 0\n", world.path().join("lock2").display())).unwrap();
    world.at(&other, &["--config", config.to_str().unwrap(), "--once", "--no-tui"]).expect(0);
    drop(held);
    world.event(0, "two dispatchers are noticed", |e| {
        e["event"] == "dispatcher.degraded" && e["reason"] == "second_dispatcher"
    });
    assert_eq!(world.outcomes("a.yml").len(), 2, "both results are kept");
    world.drop_in("b.yml", &ask("ok", "on: web"));
    let status = world.ops_do(&["status", "--json"]).expect(0).json();
    assert!(status["degraded"]["second_dispatcher"].is_string(), "{status}");
    assert!(world.outcomes("b.yml").is_empty(), "intake is stopped");
    world.ops_do(&["resume"]).expect(0);
    assert_eq!(world.outcome("b.yml")["status"], "succeeded");
    daemon.stop();
    world.sound();
}

#[test]
fn people_who_submit_at_once_all_get_through() {
    let world = World::new("fetch_interval: 100ms\n");
    world.git(world.path(), &["clone", "-q", "remote.git", "ben"]);
    let daemon = Daemon::start(&world);
    std::thread::scope(|scope| {
        for clone in [world.ana(), world.path().join("ben")] {
            let world = &world;
            scope.spawn(move || {
                for n in 0..8 {
                    world.at(&clone, &["submit", "ok", "--set", &format!("on=r{n}")]).expect(0);
                }
            });
        }
    });
    eventually("all are recorded", || world.recorded("HEAD").len() == 16);
    daemon.stop();
    world.sound();
}

#[test]
fn another_branch_holds_intake_although_the_remote_has_no_news() {
    let world = World::new("");
    let ops = world.ops();
    let head = world.git(&world.remote(), &["rev-parse", "main"]);
    for (leave, back) in [(&["checkout", "-q", "-b", "wip"][..], "main"), (&["checkout", "-q", "--detach"], "main")] {
        world.git(&ops, leave);
        world.drop_in("b.yml", &ask("ok", "on: web"));
        let said = world.ops_do(&["--once", "--no-tui"]).expect(75);
        assert!(said.out.contains("not all is done: checkout"), "{}", said.out);
        assert!(ops.join("requests/b.yml").exists(), "it waits in the inbox");
        assert_eq!(world.git(&world.remote(), &["rev-parse", "main"]), head, "nothing was recorded");
        world.git(&ops, &["checkout", "-q", back]);
    }
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    assert_eq!(world.outcome("b.yml")["status"], "succeeded");
}

#[test]
fn a_remote_of_another_name_is_refused() {
    let world = World::new("remote: nope\n");
    let said = world.ops_do(&["--once", "--no-tui"]).expect(78);
    assert!(said.err.contains("E0819") && said.err.contains("`origin`"), "{}", said.err);
}

#[test]
fn the_git_folder_is_closed_to_handlers_of_another_user() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new("");
    let git = world.ops().join(".git");
    fs::set_permissions(&git, fs::Permissions::from_mode(0o755)).unwrap();
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    let mode = fs::metadata(&git).unwrap().permissions().mode() & 0o777;
    // Only where handlers run as somebody else does closing it hold them off.
    assert_eq!(mode, if nix::unistd::geteuid().is_root() { 0o750 } else { 0o755 });
}
