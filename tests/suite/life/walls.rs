//! What a handler of the whole dispatcher can reach, what the status says of it, and who is refused.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::world::{World, ask};

/// Handlers that do what their params say, and one that asks for the whole sandbox.
const TABLE: &str = "version: 1
handlers:
  tell: {run: tell.sh, write: [\"@MARKS@\"]}
  apart: {run: tell.sh, network: none}
  whole: {run: tell.sh, sandbox: strict}
";

fn world(config: &str) -> World {
    let world = World::new("");
    let secret = world.path().join("secret");
    fs::write(&secret, "a value of eight letters\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    world.configure(&format!("secrets:\n  S: {{file: {}, kinds: [other]}}\n{config}", secret.display()));
    let marks = world.marks().display().to_string();
    fs::write(world.ops().join("handlers/index.yml"), TABLE.replace("@MARKS@", &marks)).unwrap();
    let schema = "{type: object, properties: {sh: {type: string}}}";
    let schemas = format!("tell: {schema}\napart: {schema}\nwhole: {schema}\n");
    fs::write(world.ops().join("schema/requests.yml"), schemas).unwrap();
    world
}

fn tell(world: &World, name: &str, kind: &str, sh: &str) {
    world.drop_in(name, &ask(kind, &format!("sh: {}", serde_json::json!(sh))));
}

#[test]
fn the_repository_its_state_and_secrets_are_not_seen() {
    let world = world("");
    // As open as modes can make it: what is left is the sandbox.
    let state = world.path().join("state-ops");
    for folder in [world.path().to_owned(), world.ops()] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let open = world.ops().join("open");
    fs::write(&open, "of the repository").unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o666)).unwrap();
    let (top, ops) = (world.path().display().to_string(), world.ops().display().to_string());
    tell(
        &world,
        "a.yml",
        "tell",
        &format!(
            "for f in {ops}/open {ops}/.git/HEAD {ops}/handlers/tell.sh {top}/secret {state}/instance.lock; do\n\
             head -c 1 $f >/dev/null 2>&1 && echo READ $f; (: >>$f) 2>/dev/null && echo WROTE $f; done\n\
             for d in {ops} {ops}/.git {ops}/requests {state} {state}/work {state}/staged {top}/run; do\n\
             ls $d >/dev/null 2>&1 && echo LISTED $d; (: >$d/new) 2>/dev/null && echo MADE $d; done\n\
             head -c 1 \"$0\" >/dev/null && ls \"$(dirname \"$0\")\" >/dev/null && echo staged; echo x >{marks}/new && echo marked",
            state = state.display(),
            marks = world.marks().display()
        ),
    );
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    let a = world.outcome("a.yml");
    assert_eq!(a["status"], "succeeded", "{a}");
    let log = world.ops_do(&["logs", "a.yml"]).expect(0).out;
    let said = log.lines().filter(|line| line.split(' ').count() < 3).collect::<Vec<_>>();
    assert!(said.ends_with(&["staged", "marked"]), "{log}");
    assert!(!["READ", "WROTE", "LISTED", "MADE"].iter().any(|word| log.contains(word)), "{log}");
    assert_eq!((&a["sandbox"]["landlock"], &a["sandbox"]["seccomp"]), (&true.into(), &true.into()));
}

#[test]
fn the_status_says_what_held_the_run() {
    let world = world("sandbox: {landlock: off, seccomp: off}\n");
    tell(&world, "a.yml", "tell", "true");
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    let a = world.outcome("a.yml");
    let user = a["sandbox"]["user"].as_str().unwrap().to_owned();
    let held = |landlock: bool, network: &str, seccomp: bool| {
        serde_json::json!({
            "user": user, "cgroup": false, "landlock": landlock, "network": network, "seccomp": seccomp
        })
    };
    assert_eq!(a["sandbox"], held(false, "host", false));
    world.configure("");
    tell(&world, "b.yml", "apart", "true");
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    assert_eq!(world.outcome("b.yml")["sandbox"], held(true, "none", true));
    let log = world.ops_do(&["logs", "b.yml"]).expect(0).out;
    assert!(log.contains("network none") && !log.contains("not held"), "{log}");
}

#[test]
fn who_asks_for_the_whole_sandbox_is_not_run_with_less() {
    let world = world("sandbox: {seccomp: off}\n");
    tell(&world, "a.yml", "whole", "echo RAN");
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    let a = world.outcome("a.yml");
    assert_eq!((&a["status"], &a["rc"], &a["error"]["code"]), (&"rejected".into(), &78.into(), &"E0602".into()));
    let message = a["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("handler `whole` asks for `sandbox: strict`, and this is missing: "), "{message}");
    assert!(message.contains("control groups") && message.contains("a filter of system calls"), "{message}");
    let log = world.ops_do(&["logs", "a.yml"]).expect(0).out;
    assert!(log.contains("it was not run with less") && !log.contains("RAN"), "{log}");
}
