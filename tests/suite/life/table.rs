//! Handlers and schemas that change under the daemon.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::world::{Daemon, World, ask};

const FRESH: &str = "#!/bin/sh\necho fresh\n";

#[test]
fn a_pushed_handler_is_used_and_a_broken_edit_is_not() {
    let world = World::new("");
    let daemon = Daemon::start(&world);
    let ana = world.ana();
    let index = fs::read_to_string(ana.join("handlers/index.yml")).unwrap();
    let schema = fs::read_to_string(ana.join("schema/requests.yml")).unwrap();
    world.drop_in("early.yml", "kind: fresh\n");
    let early = world.outcome("early.yml");
    assert_eq!((&early["status"], &early["rc"]), (&"rejected".into(), &64.into()));
    fs::write(ana.join("handlers/fresh.sh"), FRESH).unwrap();
    fs::set_permissions(ana.join("handlers/fresh.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    world.push(&[
        ("schema/requests.yml", &format!("{schema}fresh: {{type: object}}\n")),
        ("requests/fresh.yml", "kind: fresh\n"),
    ]);
    world.ops_do(&["fetch"]).expect(0);
    assert_eq!(world.outcome("fresh.yml")["status"], "succeeded");
    // Pushed together with a request: the last good table serves it.
    let from = world.events().len();
    world.push(&[("handlers/index.yml", "version: 1\nhandlers: [\n"), ("requests/b.yml", &ask("ok", "on: web"))]);
    world.ops_do(&["fetch"]).expect(0);
    world.event(from, "the broken table is told of", |e| e["event"] == "router.broken");
    assert_eq!(world.outcome("b.yml")["status"], "succeeded");
    world.push(&[("handlers/index.yml", &index.replace("  lame:", "  extra: {run: ok.sh}\n  lame:"))]);
    world.ops_do(&["fetch"]).expect(0);
    world.event(from, "the mended table is read", |e| e["event"] == "router.loaded");
    daemon.stop();
    world.sound();
}

#[test]
fn an_edited_handler_runs_as_it_stands_and_is_marked() {
    let world = World::new("");
    fs::write(world.ops().join("handlers/ok.sh"), "#!/bin/sh\necho edited\n").unwrap();
    world.drop_in("a.yml", &ask("ok", "on: web"));
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    let a = world.outcome("a.yml");
    assert_eq!((&a["status"], &a["handler"]["dirty"]), (&"succeeded".into(), &true.into()));
    let log = world.ops_do(&["logs", "a.yml"]).expect(0).out;
    assert!(log.contains("edited"), "{log}");
    assert_eq!(world.git(&world.ops(), &["status", "--porcelain"]), " M handlers/ok.sh\n");
}

#[test]
fn what_cannot_run_says_why() {
    let world = World::new("");
    for (name, text, rc, word) in [
        ("unknown.yml", "kind: okk\n", 64, "okk"),
        ("bad.yml", "kind: [ok\n", 65, "YAML"),
        ("schema.yml", "kind: ok\nparams: {on: web, of: 1}\n", 65, "`of`"),
        ("lame.yml", "kind: lame\nparams: {on: web}\n", 78, "lame.sh"),
    ] {
        world.drop_in(name, text);
        world.ops_do(&["--once", "--no-tui"]).expect(0);
        let status = world.outcome(name);
        assert_eq!((&status["status"], &status["rc"]), (&"rejected".into(), &rc.into()), "{status}");
        let log = world.ops_do(&["logs", name]).expect(0).out;
        assert!(log.contains(word), "{log}");
        assert!(status["error"]["code"].as_str().unwrap().starts_with("E0"), "{status}");
    }
    world.sound();
}
