//! The command line as people and programs meet it: with the program itself, in repositories that others pushed to.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot do its steps has failed")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const ID: &str = "0197e0c2-8f7a-7b3c-9d1e-5a6b7c8d9e0f";
const OTHER: &str = "0197e0c2-8f7a-7b3c-9d1e-5a6b7c8d9e10";
/// Takes the clipboard, clears the screen, in both ways to begin a sequence.
const EVIL: &str = "\u{1b}]52;c;aGk=\u{7}\u{1b}[2J\u{9b}2J";

/// A dispatch repository of its own, and a home for the program.
struct Place {
    dir: tempfile::TempDir,
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Place {
    fn new() -> Self {
        let place = Self { dir: tempfile::tempdir().unwrap() };
        let said = place.run(&["init", "ops"]);
        assert_eq!(said.code, 0, "{}", said.err);
        place
    }

    fn ops(&self) -> PathBuf {
        self.dir.path().join("ops")
    }

    fn run(&self, args: &[&str]) -> Said {
        let home = self.dir.path().join("home");
        let mut command = Command::new(env!("CARGO_BIN_EXE_dispatcher"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", &home);
        command.env("STATE_DIRECTORY", home.join("state")).env("RUNTIME_DIRECTORY", home.join("run"));
        command.env("DISPATCHER_LOCK_DIR", home.join("lock")).env("DISPATCHER_MIN_FREE", "0");
        let mut child = command
            .args(args)
            .current_dir(if self.ops().exists() { self.ops() } else { self.dir.path().to_owned() })
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(60);
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > until {
                child.kill().unwrap();
                panic!("{args:?} hangs");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let output = child.wait_with_output().unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// A run as somebody may have pushed it.
    fn pushed(&self, id: &str, more: &Value) -> PathBuf {
        let mut status = json!({
            "version": 1, "id": id, "request": "a.yml", "kind": "hello", "resource": null, "status": "failed", "rc": 3,
            "signal": null, "reason": null, "attempt": 1, "queued_at": "2026-01-01T00:00:00.000Z",
            "started_at": "2026-01-01T00:00:00.000Z", "finished_at": "2026-01-01T00:00:01.000Z", "duration_ms": 1000,
            "host": "h", "requested_by": {"name": null, "email": null, "commit": null, "signer": null},
            "handler": null, "sandbox": null, "usage": null, "result": null, "error": null, "log": null,
            "withheld": [],
        });
        for (key, value) in more.as_object().unwrap() {
            status[key] = value.clone();
        }
        let folder = self.ops().join("processed").join(id);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("status.json"), status.to_string()).unwrap();
        folder
    }
}

#[test]
fn the_dashboard_needs_a_terminal() {
    let place = Place::new();
    for args in [&["watch"][..], &["attach"], &["watch", "--offline"]] {
        let said = place.run(args);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{args:?}");
        assert!(said.err.contains("needs a terminal") && said.err.contains("dispatcher status"), "{}", said.err);
    }
}

#[track_caller]
fn no_controls(text: &str) {
    assert!(!text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')), "{text:?}");
}

#[test]
fn nothing_that_was_pushed_commands_the_terminal() {
    let place = Place::new();
    let folder = place.pushed(
        ID,
        &json!({
            "request": EVIL, "reason": EVIL, "host": EVIL, "log": EVIL,
            "requested_by": {"name": EVIL, "email": EVIL, "commit": EVIL, "signer": EVIL},
            "handler": {"file": EVIL, "sha256": EVIL, "dirty": false},
            "error": {"code": EVIL, "message": EVIL, "problems": []},
            "sandbox": {"user": EVIL, "cgroup": false, "landlock": false, "network": EVIL, "seccomp": false},
        }),
    );
    fs::write(folder.join("request.yml"), format!("kind: {EVIL}\n")).unwrap();
    let log = format!("\u{1b}[0;0002mours\u{1b}[0m\n\u{1b}[31mred {EVIL}\n");
    fs::write(place.ops().join(format!("logs/{ID}.log")), log).unwrap();
    for args in
        [&["list"][..], &["list", "--json"], &["show", ID], &["show", ID, "--json"], &["wait", ID], &["logs", ID]]
    {
        let said = place.run(args);
        assert!(said.out.len() > 20, "{args:?}: {}", said.err);
        no_controls(&said.out);
        no_controls(&said.err);
    }
    let coloured = place.run(&["logs", ID, "--color", "always"]).out;
    assert_eq!(coloured, "\u{1b}[0;0002mours\u{1b}[0m\n\u{1b}[31mred ^[]52;c;aGk=^G^[[2J<U+009B>2J\n\u{1b}[0m");
    let lines: Vec<Value> =
        place.run(&["logs", ID, "--json"]).out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines, [json!({"line": "ours"}), json!({"line": "red ^[]52;c;aGk=^G^[[2J<U+009B>2J"})]);
}

#[test]
fn links_that_were_pushed_are_not_followed() {
    let place = Place::new();
    let folder = place.pushed(ID, &json!({}));
    let secret = place.dir.path().join("secret");
    fs::write(&secret, "kind: hello\nparams: {name: TOPSECRET}\n").unwrap();
    symlink(&secret, folder.join("request.yml")).unwrap();
    symlink(&secret, place.ops().join(format!("logs/{ID}.log"))).unwrap();
    let other = place.pushed(OTHER, &json!({}));
    fs::remove_file(other.join("status.json")).unwrap();
    symlink("/dev/zero", other.join("status.json")).unwrap();
    let list = place.run(&["list", "--json"]);
    let list: Value = serde_json::from_str(&list.out).unwrap();
    assert_eq!(list.as_array().unwrap().len(), 1, "{list}");
    for (args, code) in [(&["retry", ID][..], 66), (&["logs", ID], 66), (&["show", ID], 0), (&["show", OTHER], 66)] {
        let said = place.run(args);
        assert_eq!(said.code, code, "{args:?}: {}", said.err);
        let both = said.out + &said.err;
        assert!(!both.contains("TOPSECRET"), "{args:?}: {both}");
        assert!(both.contains("symbolic link"), "{args:?}: {both}");
    }
    assert_eq!(fs::read_dir(place.ops().join("requests")).unwrap().count(), 1, "only .gitkeep");
    let inbox = place.ops().join("requests");
    fs::remove_dir_all(&inbox).unwrap();
    symlink(place.dir.path(), &inbox).unwrap();
    assert_eq!(place.run(&["submit", "hello", "--set", "name=a", "--no-push"]).code, 78);
}

#[test]
fn a_file_without_end_is_no_request() {
    let place = Place::new();
    for verb in ["validate", "submit"] {
        let said = place.run(&[verb, "/dev/zero"]);
        assert_ne!(said.code, 0, "{verb}: {}", said.err);
    }
    let said = place.run(&["validate", "/dev/zero", "."]);
    assert!(said.err.contains("`/dev/zero`: it has more than") && said.err.contains("`.`"), "{}", said.err);
}

#[test]
fn a_daemon_does_not_start_with_less_than_is_required() {
    let place = Place::new();
    let config = place.dir.path().join("config.yml");
    let config = config.to_str().unwrap();
    fs::write(config, "sandbox:\n  landlock: require\n  cgroup: require\n  seccomp: require\n").unwrap();
    let said = place.run(&["--config", config, "--no-tui", "--once"]);
    assert_eq!((said.code, said.err.matches("error[E0809]").count()), (78, 1), "{}", said.err);
    assert!(said.err.contains("config.yml:3"), "{}", said.err);
    let said = place.run(&["--config", config, "--once", "--json"]);
    assert_eq!((said.code, error(&said)["problems"].as_array().unwrap().len()), (78, 1));
    fs::write(config, "secrets:\n  A: {file: /a, kinds: [hello]}\ngit_pause: true\nsandbox: {cgroup_path: /a}\n")
        .unwrap();
    let said = place.run(&["--config", config, "--no-tui", "--once"]);
    assert_eq!((said.code, said.err.matches("warning[E0810]").count()), (0, 1), "{}", said.err);
    assert!(said.err.contains("`git_pause` (file, line 3), `sandbox.cgroup_path` (file, line 4)"), "{}", said.err);
    let said = place.run(&["--once", "--json"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(serde_json::from_str::<Value>(&said.out).unwrap(), json!({"ended": "done", "exit": 0}));
}

/// The one JSON object on stderr; nothing is on stdout.
#[track_caller]
fn error(said: &Said) -> Value {
    assert_eq!(said.out, "");
    let value: Value = serde_json::from_str(&said.err).unwrap_or_else(|error| panic!("{error}: {}", said.err));
    assert_eq!(value["error"]["exit"], said.code);
    value["error"].clone()
}

#[test]
fn every_mistake_is_one_json_object() {
    let place = Place::new();
    let folder = place.ops().join("processed").join(OTHER);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("status.json"), "{").unwrap();
    for (args, code, name) in [
        (&["frobnicate"][..], 2, "E0105"),
        (&["wait"], 2, "E0105"),
        (&["list", "-n", "x"], 2, "E0105"),
        (&["list", "kin=x"], 2, "E0105"),
        (&["wait", "@", "--timeout", "soon"], 2, "E0105"),
        (&["submit", "hello", "--set", "name"], 2, "E0105"),
        (&["-C", "/nowhere", "list"], 66, "E0137"),
        (&["-C", "handlers/hello.sh", "list"], 66, "E0137"),
        (&["-C", "/", "list"], 78, "E0503"),
        (&["--config", "/nowhere", "--once"], 78, "E0801"),
        (&["status"], 69, "E0701"),
        (&["locks"], 69, "E0701"),
        (&["pause"], 69, "E0701"),
        (&["resume"], 69, "E0701"),
        (&["resume", "--keep-local", "--accept-remote"], 2, "E0105"),
        (&["drain"], 69, "E0701"),
        (&["fetch"], 69, "E0701"),
        (&["wait", "@"], 66, "E0102"),
        (&["logs"], 66, "E0102"),
        (&["show", "x"], 66, "E0102"),
        (&["cancel", "x"], 66, "E0102"),
        (&["retry", "x"], 66, "E0102"),
        (&["show", OTHER], 66, "E0150"),
        (&["submit", "helo"], 64, "E0201"),
        (&["submit", "gone.yml"], 66, "E0104"),
        (&["schema", "helo"], 64, "E0201"),
        (&["init", "."], 73, "E0517"),
        (&["replay", "gone"], 66, "E0130"),
        (&["demo", "--keep", "handlers"], 73, "E0129"),
    ] {
        let said = place.run(&[args, &["--json"]].concat());
        let error = error(&said);
        assert_eq!((said.code, error["code"].as_str()), (code, Some(name)), "{args:?}: {error}");
        let helps = error["problems"].as_array().unwrap().iter().all(|problem| problem["help"] != json!([]));
        assert!(helps, "{args:?} shows no way out: {error}");
    }
}

#[test]
fn every_answer_is_one_json_document() {
    let place = Place::new();
    assert_eq!(place.run(&["list", "--json"]).out, "[]\n");
    place.pushed(ID, &json!({}));
    fs::write(place.ops().join("processed").join(ID).join("request.yml"), "kind: hello\nparams: {name: a}\n").unwrap();
    fs::write(place.ops().join("bad.yml"), "kind: helo\n").unwrap();
    for (args, code) in [
        (&["list"][..], 0),
        (&["show", ID], 0),
        (&["wait", ID], 1),
        (&["handlers"], 0),
        (&["schema"], 0),
        (&["schema", "hello"], 0),
        (&["validate", "bad.yml"], 64),
        (&["submit", "hello", "--set", "name=a", "--no-push"], 0),
        (&["retry", ID, "--no-push"], 0),
        (&["init", "../new"], 0),
        (&["--version"], 0),
        (&["--help"], 0),
        (&["list", "--help"], 0),
        (&["--once"], 0),
    ] {
        let said = place.run(&[args, &["--json"]].concat());
        assert_eq!((said.code, said.err.as_str()), (code, ""), "{args:?}: {}", said.out);
        assert_eq!(said.out.lines().count(), 1, "{args:?}: {}", said.out);
        let value: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{args:?}: {error}"));
        if args[0] == "validate" {
            assert_eq!((&value["problems"][0]["code"], &value["problems"][0]["line"]), (&json!("E0201"), &json!(1)));
        }
    }
}

#[test]
fn every_mistake_leads_on() {
    let place = Place::new();
    let check = |args: &[&str], code: i32, parts: &[&str]| {
        let said = place.run(args);
        assert_eq!(said.code, code, "{args:?}: {}", said.err);
        for part in parts {
            assert!(said.err.contains(part), "{args:?} lacks `{part}`: {}", said.err);
        }
    };
    check(
        &["statsu"],
        2,
        &["error[E0105]: unrecognized subcommand `statsu`", "similar", "`status`", "dispatcher --help"],
    );
    check(&["-C", "handlers/hello.sh", "list"], 66, &["hello.sh`: it is not a folder", "help: dispatcher -C "]);
    check(&["submit", "helo"], 64, &["unknown kind `helo`", "command line:1", "did you mean `hello`?"]);
    check(&["submit", "gone.yml"], 66, &["failed to read `gone.yml`", "relative to"]);
    check(&["logs"], 66, &["there are no runs yet", "processed", "dispatcher submit"]);
    check(&["wait", "@running"], 66, &["there are no runs yet"]);
    check(&["validate", "requests"], 66, &["failed to read `requests`: Is a directory"]);
    place.pushed(ID, &json!({}));
    check(&["logs", ID], 66, &["no log that can be read", ID, "dispatcher show"]);
    check(&["wait", "@running"], 66, &["none is running"]);
    check(&["show", "b.yml"], 66, &["no run is called `b.yml`", "looked at 1", "dispatcher list"]);
    check(&["cancel", ID], 75, &["error[E0404]", "it is failed since 2026-01-01", "dispatcher retry"]);
    check(&["retry", ID], 66, &["cannot be read: No such file", "processed", "dispatcher submit FILE"]);
}

#[test]
fn files_are_named_from_where_the_command_works() {
    let place = Place::new();
    fs::write(place.ops().join("good.yml"), "kind: hello\nparams: {name: a}\n").unwrap();
    let requests = place.ops().join("requests");
    for args in
        [&["-C", "requests", "validate", "../good.yml"], &["-C", requests.to_str().unwrap(), "validate", "../good.yml"]]
    {
        let said = place.run(args);
        assert_eq!((said.code, said.out.as_str()), (0, "../good.yml ok\n"), "{}", said.err);
    }
}
