//! Secrets from the host's configuration to a handler, and nowhere else: nothing that people or git can read has a byte
//! of them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::sys::signal::Signal;

use crate::world::{Daemon, World, ask, eventually};

const TOKEN: &str = "tok'en-5f\"2a 9c/7";
const KEY: &str = "-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA7x\nq83vEjRWeJq83vEjRW\n-----END KEY-----";

struct Safe {
    world: World,
}

impl Safe {
    fn new() -> Self {
        let world = World::new("");
        let safe = Self { world };
        safe.write("token", TOKEN);
        safe.write("key", KEY);
        let at = |name: &str| safe.world.path().join(name).display().to_string();
        safe.world.configure(&format!(
            "secrets:\n  TOKEN: {{file: {}, kinds: [tell]}}\n  KEY: {{file: {}, kinds: [tell, tellfile]}}\n",
            at("token"),
            at("key")
        ));
        safe
    }

    fn write(&self, name: &str, value: &str) {
        let path = self.world.path().join(name);
        let new = path.with_extension("new");
        fs::write(&new, format!("{value}\n")).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, path).unwrap();
    }

    fn ask(&self, name: &str, kind: &str, sh: &str) {
        let params = serde_json::json!({ "on": "web", "sh": sh });
        self.world.drop_in(name, &format!("kind: {kind}\nparams: {params}\n"));
    }

    /// Everything in the dispatcher's clone and the remote, every object of git unpacked.
    fn grep(&self, words: &[&str]) {
        let ops = self.world.ops();
        let objects =
            self.world.git(&ops, &["cat-file", "--batch-all-objects", "--batch-check=%(objectname) %(objecttype)"]);
        for line in objects.lines() {
            let (oid, kind) = line.split_once(' ').unwrap();
            if kind != "tree" {
                let text = self.world.try_git(&ops, &["cat-file", kind, oid]).out;
                assert_clean(&format!("object {oid}"), &text, words);
            }
        }
        let mut left = vec![ops.join("logs"), ops.join("processed"), self.world.path().join("daemon.out")];
        while let Some(path) = left.pop() {
            if path.is_dir() {
                left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            } else {
                assert_clean(&path.display().to_string(), &String::from_utf8_lossy(&fs::read(&path).unwrap()), words);
            }
        }
    }
}

fn assert_clean(what: &str, text: &str, words: &[&str]) {
    for word in words {
        assert!(!text.contains(word), "`{word}` is in {what}: {text}");
    }
}

/// Pieces of the values that no form of them may show.
const PIECES: [&str; 6] = ["en-5f", "2a 9c", "MIIEpAIBAAKCAQEA7x", "q83vEjRW", "746f6b27656e", "dG9rJ2VuLTVm"];

#[test]
fn a_handler_gets_its_secrets_and_nobody_else_reads_them() {
    let safe = Safe::new();
    let daemon = Daemon::start(&safe.world);
    safe.ask(
        "a.yml",
        "tell",
        "echo it has ${#TOKEN} characters
         echo \"plain $TOKEN\"; printf %s \"$TOKEN\" | base64; printf 'x%s' \"$TOKEN\" | base64; printf %s \"$TOKEN\" | od -An -v -tx1 | tr -d ' \\n'
         echo; echo \"$KEY\"; set -x; : \"$TOKEN\"; set +x
         printf '%s\\n' \"2/3 using $TOKEN\" >>$DISPATCH_PROGRESS
         printf '{\"said\": \"%s\", \"n\": 1}' \"$(printf %s \"$TOKEN\" | sed 's/\"/\\\\\"/')\" >$DISPATCH_RESULT",
    );
    let status = safe.world.outcome("a.yml");
    assert_eq!((&status["status"], &status["result"]["said"]), (&"succeeded".into(), &"[masked]".into()), "{status}");
    assert_eq!(status["withheld"], serde_json::json!([]));
    let id = status["id"].as_str().unwrap();
    let log = safe.world.ops_do(&["logs", id]).expect(0).out;
    assert!(log.contains(&format!("it has {} characters", TOKEN.len())) && log.contains("plain [masked]"), "{log}");
    assert_eq!(log.matches("[masked]").count(), 6, "{log}");
    let progress = safe.world.event(0, "its step is told", |event| event["event"] == "run.progress");
    assert_eq!(progress["step"], "using [masked]");
    safe.ask("file.yml", "tellfile", "cmp -s $KEY $KEY && cat $KEY && stat -f -c %T $KEY");
    let status = safe.world.outcome("file.yml");
    let log = safe.world.ops_do(&["logs", status["id"].as_str().unwrap()]).expect(0).out;
    assert!(log.contains("[masked]\n") && log.contains("tmpfs"), "{log}");
    safe.grep(&PIECES);
    daemon.stop();
    safe.grep(&PIECES);
    safe.world.sound();
}

#[test]
fn files_in_memory_do_not_outlive_a_dispatcher_that_is_killed() {
    let safe = Safe::new();
    let daemon = Daemon::start(&safe.world);
    safe.ask("a.yml", "tellfile", "echo \"at $KEY.\"; sleep 600");
    let id = safe.world.until("a.yml", "running");
    let log = safe.world.ops().join(format!("logs/{id}.log"));
    let mut path = None;
    eventually("it says where", || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        path = text.split_once("at /").and_then(|(_, rest)| Some(format!("/{}", rest.split_once('.')?.0)));
        path.is_some()
    });
    let path = path.unwrap();
    assert!(Path::new(&path).is_file(), "{path}");
    daemon.kill();
    eventually("its supervisor has removed it", || !Path::new(&path).parent().unwrap().exists());
    let daemon = Daemon::start(&safe.world);
    safe.world.until("a.yml", "running");
    safe.world.ops_do(&["cancel", "a.yml"]).expect(0);
    assert_eq!(safe.world.outcome("a.yml")["status"], "cancelled");
    daemon.stop();
    safe.world.sound();
}

#[test]
fn a_kind_that_is_not_on_the_list_is_refused() {
    let safe = Safe::new();
    let at = safe.world.path().join("token").display().to_string();
    safe.world
        .configure(&format!("secrets:\n  TOKEN: {{file: {at}, kinds: [tell]}}\n  KEY: {{file: {at}, kinds: [ok]}}\n"));
    let daemon = Daemon::start(&safe.world);
    for (kind, expect) in [("tell", "handlers of this kind may not have it"), ("tellfile", "secret `KEY`")] {
        let name = format!("{kind}.yml");
        safe.ask(&name, kind, "echo ran");
        let status = safe.world.outcome(&name);
        assert_eq!(
            (&status["status"], &status["rc"], &status["error"]["code"]),
            (&"rejected".into(), &78.into(), &"E0609".into()),
            "{status}"
        );
        assert!(status["error"]["message"].as_str().unwrap().contains(expect), "{status}");
    }
    daemon.stop();
}

#[test]
fn a_rotated_secret_is_the_next_runs_and_one_that_cannot_be_read_is_nobodys() {
    let safe = Safe::new();
    let daemon = Daemon::start(&safe.world);
    // Between two attempts: the log of both has neither the old nor the new one.
    let script = "echo \"now $TOKEN\"; test $DISPATCH_ATTEMPT = 2 || { while ! test -e $MARKS/rotated; do sleep 0.05; done; exit 75; }";
    safe.ask("a.yml", "tell", script);
    let id = safe.world.until("a.yml", "running");
    let log = safe.world.ops().join(format!("logs/{id}.log"));
    eventually("the first attempt has spoken", || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("now [masked]"))
    });
    safe.write("token", "rotated-value-0123");
    fs::write(safe.world.marks().join("rotated"), "").unwrap();
    let status = safe.world.outcome("a.yml");
    assert_eq!((&status["status"], &status["attempt"]), (&"succeeded".into(), &2.into()), "{status}");
    let text = fs::read_to_string(&log).unwrap();
    assert_eq!(text.matches("now [masked]").count(), 2, "{text}");
    safe.grep(&["rotated-value", PIECES[0], PIECES[1]]);
    // Others may read it now.
    fs::set_permissions(safe.world.path().join("token"), fs::Permissions::from_mode(0o644)).unwrap();
    safe.ask("b.yml", "tell", "echo ran");
    let status = safe.world.outcome("b.yml");
    assert_eq!(
        (&status["status"], &status["rc"], &status["error"]["code"]),
        (&"rejected".into(), &78.into(), &"E0610".into()),
        "{status}"
    );
    fs::set_permissions(safe.world.path().join("token"), fs::Permissions::from_mode(0o600)).unwrap();
    safe.ask("c.yml", "tell", "echo ran");
    assert_eq!(safe.world.outcome("c.yml")["status"], "succeeded");
    daemon.stop();
    safe.world.sound();
}

#[test]
fn what_masking_missed_does_not_get_into_a_commit() {
    let safe = Safe::new();
    let gate = safe.world.gate("a");
    let daemon = Daemon::start(&safe.world);
    // A value that was printed before it became a secret, which no mask of that run knows.
    safe.world.drop_in("a.yml", &ask("gate", "on: late-secret-0123, gate: a"));
    let open = gate.reached();
    let id = safe.world.until("a.yml", "running");
    safe.write("token", "late-secret-0123");
    daemon.signal(Signal::SIGHUP);
    eventually("the secret is known", || {
        fs::read_to_string(&daemon.output).unwrap().contains("the configuration was read again")
    });
    drop(open);
    let status = safe.world.outcome("a.yml");
    let withheld: Vec<&str> =
        status["withheld"].as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
    let (request, log, events) =
        (format!("processed/{id}/request.yml"), format!("logs/{id}.log"), format!("logs/{id}.jsonl"));
    assert_eq!(withheld, [&request, &log, &events]);
    assert_eq!((&status["error"]["code"], &status["log"]), (&"E0611".into(), &serde_json::Value::Null), "{status}");
    let ops = safe.world.ops();
    let tree = safe.world.git(&ops, &["ls-tree", "-r", "--name-only", "HEAD"]);
    for path in [&request, &log, &events] {
        assert!(!tree.contains(path.as_str()) && !ops.join(path).exists(), "{path}: {tree}");
    }
    let aside = safe.world.path().join("state-ops/withheld").join(&id);
    assert!(aside.join(format!("{id}.log")).is_file());
    assert_eq!(mode(&aside), 0o700);
    let alarm =
        safe.world.event(0, "an alarm", |event| event["event"] == "dispatcher.degraded" && event["reason"] == "leak");
    assert!(alarm["detail"].as_str().unwrap().contains(&id), "{alarm}");
    let message = safe.world.git(&ops, &["log", "--format=%B", "-1"]);
    assert_clean("the commit's message", &message, &["late-secret"]);
    assert_clean("the status", &status.to_string(), &["late-secret"]);
    daemon.stop();
    safe.world.sound();
}

/// `DISPATCHER_RUNS=1000 cargo test --test suite many_runs` is the long form.
#[test]
fn nothing_of_them_is_anywhere_after_many_runs() {
    let runs: usize = std::env::var("DISPATCHER_RUNS").map_or(40, |text| text.parse().unwrap());
    let safe = Safe::new();
    let daemon = Daemon::start(&safe.world);
    let script = "echo \"$TOKEN $KEY\"; echo \"1/2 $TOKEN\" >>$DISPATCH_PROGRESS; printf '{\"k\": \"%s\"}' \"$(echo $KEY)\" >$DISPATCH_RESULT; exit $((DISPATCH_ATTEMPT % 3))";
    for run in 0..runs {
        let params = serde_json::json!({ "on": format!("r{run}"), "sh": script });
        safe.world.drop_in(&format!("{run}.yml"), &format!("kind: tell\nparams: {params}\n"));
    }
    let done = || safe.world.events().iter().filter(|event| event["event"] == "run.finished").count();
    let mut seen = 0;
    while done() < runs {
        seen += look_around();
    }
    daemon.stop();
    println!("{runs} runs, {seen} looks at processes");
    safe.grep(&PIECES);
    safe.world.sound();
}

/// No process has a secret in its command line, and none but the handlers' in its environment; how many were looked at.
fn look_around() -> usize {
    let pids =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut looks = 0;
    for pid in pids {
        let (Ok(line), Ok(env)) = (fs::read(format!("/proc/{pid}/cmdline")), fs::read(format!("/proc/{pid}/environ")))
        else {
            continue;
        };
        looks += 1;
        assert_clean("a command line", &String::from_utf8_lossy(&line), &PIECES);
        if !env.split(|&b| b == 0).any(|one| one.starts_with(b"DISPATCH_ID=")) {
            assert_clean("an environment", &String::from_utf8_lossy(&env), &PIECES);
        }
    }
    looks
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}
