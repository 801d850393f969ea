//! The push hook and the health pages of a running daemon, which fetches by itself only once an hour.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use nix::sys::signal::Signal;
use sha2::Sha256;

use crate::world::{Daemon, PATIENCE, World, ask, eventually};

const SECRET: &str = "correct horse battery staple";

/// A world whose daemon listens; with a secret, the hook is there.
fn listening(secret: Option<&str>) -> World {
    let world = World::new("");
    let file = world.path().join("webhook");
    let mut config = "listen: 127.0.0.1:0\n".to_owned();
    if let Some(secret) = secret {
        fs::write(&file, secret).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        config += &format!("webhook_secret_file: {}\n", file.display());
    }
    world.configure(&config);
    world
}

/// Where the daemon listens.
fn address(world: &World) -> String {
    world.ops_do(&["status", "--json"]).expect(0).json()["listen"].as_str().unwrap().to_owned()
}

/// The status and the body of the answer.
fn http(address: &str, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.trim_end().to_owned())
}

fn get(address: &str, path: &str) -> (u16, String) {
    http(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
}

/// As Gitea sends it after a push.
fn poke(address: &str, secret: &str, branch: &str, after: &str) -> u16 {
    let body = format!(r#"{{"ref": "refs/heads/{branch}", "before": "", "after": "{after}", "commits": []}}"#);
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let head = format!(
        "POST /hooks/push HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Gitea-Event: push\r\n\
         X-Hub-Signature-256: sha256={hex}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    http(address, &(head + &body)).0
}

/// How often the remote was asked since the daemon started, as the remote's own upload-pack counts it.
fn fetches(world: &World) -> usize {
    fs::read_to_string(world.path().join("fetches")).unwrap_or_default().lines().count()
}

/// Has every `git upload-pack` of the daemon leave a mark.
fn count_fetches(world: &World) {
    let bin = world.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let git = bin.join("git");
    let marks = world.path().join("fetches");
    let path = std::env::var("PATH").unwrap();
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in *upload-pack*) echo x >>{}; esac\nPATH='{path}' exec git \"$@\"\n",
        marks.display()
    );
    fs::write(&git, text).unwrap();
    fs::set_permissions(&git, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_push_that_is_told_of_starts_at_once() {
    let world = listening(Some(SECRET));
    let daemon = Daemon::start(&world);
    let address = address(&world);
    let tip = world.push(&[("requests/a.yml", &ask("ok", "on: web"))]);
    assert_eq!(poke(&address, "wrong horse battery staple", "main", &tip), 403);
    assert_eq!(poke(&address, SECRET, "other", &tip), 204);
    assert_eq!(poke(&address, SECRET, "main", &tip), 202);
    assert_eq!(world.outcome("a.yml")["status"], "succeeded");
    // A new secret counts from the next request on.
    fs::write(world.path().join("webhook"), "another horse\n").unwrap();
    let tip = world.push(&[("requests/b.yml", &ask("ok", "on: web"))]);
    assert_eq!(poke(&address, SECRET, "main", &tip), 403);
    assert_eq!(poke(&address, "another horse", "main", &tip), 202);
    assert_eq!(world.outcome("b.yml")["status"], "succeeded");
    let output = fs::read_to_string(&daemon.output).unwrap();
    assert!(output.contains(&format!("listens on http://{address}")), "{output}");
    let told = "[E0721] the push hook refused 1 request without the right secret, the newest from 127.0.0.1";
    assert_eq!(output.matches(told).count(), 1, "{output}");
    assert!(!output.contains(SECRET) && !output.contains("another horse"), "{output}");
    daemon.stop();
    world.sound();
}

#[test]
fn the_hook_of_our_own_push_asks_nobody() {
    let world = listening(Some(SECRET));
    count_fetches(&world);
    let path = format!("{}:{}", world.path().join("bin").display(), std::env::var("PATH").unwrap());
    let daemon = Daemon::start_after(&world, &format!("export PATH='{path}'"));
    let address = address(&world);
    world.drop_in("a.yml", &ask("ok", "on: web"));
    world.outcome("a.yml");
    let pushed = world.event(0, "it is pushed", |event| event["event"] == "git.pushed");
    let before = fetches(&world);
    assert!(before > 0, "the first look was counted");
    assert_eq!(poke(&address, SECRET, "main", pushed["commit"].as_str().unwrap()), 202);
    // Behind it in the loop's queue: where the hook had led to a fetch, this one would be the second.
    world.ops_do(&["fetch"]).expect(0);
    assert_eq!(fetches(&world), before + 1);
    daemon.stop();
    world.sound();
}

#[test]
fn health_and_readiness_are_pages() {
    let world = listening(None);
    let daemon = Daemon::start(&world);
    let address = address(&world);
    assert_eq!(get(&address, "/healthz"), (200, "ok".to_owned()));
    eventually("it is ready", || get(&address, "/readyz") == (200, "ready".to_owned()));
    world.ops_do(&["pause"]).expect(0);
    assert_eq!(get(&address, "/readyz"), (503, "not ready: paused".to_owned()));
    assert_eq!(get(&address, "/healthz").0, 200);
    world.ops_do(&["resume"]).expect(0);
    assert_eq!(get(&address, "/readyz").0, 200);
    assert_eq!(poke(&address, "", "main", ""), 404, "no secret, no hook");
    daemon.stop();
}

#[test]
fn a_signal_is_a_poke_too() {
    let world = World::new("");
    let daemon = Daemon::start(&world);
    world.ops_do(&["fetch"]).expect(0);
    world.push(&[("requests/a.yml", &ask("ok", "on: web"))]);
    daemon.signal(Signal::SIGUSR1);
    assert_eq!(world.outcome("a.yml")["status"], "succeeded");
    daemon.stop();
    world.sound();
}

#[test]
fn what_cannot_be_served_keeps_the_daemon_from_starting() {
    let world = listening(Some("short"));
    let said = world.ops_do(&["--no-tui"]).expect(78);
    assert!(said.err.contains("E0820") && said.err.contains("less than 8 bytes"), "{}", said.err);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    world.configure(&format!("listen: {}\n", taken.local_addr().unwrap()));
    let said = world.ops_do(&["--no-tui"]).expect(74);
    assert!(said.err.contains("E0720"), "{}", said.err);
    // What works off an inbox once listens nowhere.
    world.ops_do(&["--no-tui", "--once"]).expect(0);
    world.configure(&format!("webhook_secret_file: {}\n", world.path().join("webhook").display()));
    let said = world.ops_do(&["--no-tui", "--once"]).expect(0);
    assert!(said.err.contains("E0810") && said.err.contains("`webhook_secret_file`"), "{}", said.err);
}
