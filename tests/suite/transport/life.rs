//! The whole life of a request, over every transport.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::servers::{Https, Ssh};
use crate::world::{Daemon, World, ask, eventually};

/// From a push to a pull, with everything that a remote may answer in between. Both clones go to `url`.
fn whole_life(world: &World, url: &str) {
    for clone in [world.ana(), world.ops()] {
        world.git(&clone, &["remote", "set-url", "origin", url]);
    }
    let gate = world.gate("a");
    let daemon = Daemon::start(world);
    world.push(&[
        ("requests/slow.yml", &ask("gate", "on: web, gate: a")),
        ("requests/good.yml", &ask("ok", "on: db")),
        ("requests/bad.yml", &ask("code", "on: db, code: 3")),
        ("requests/wrong.yml", &ask("ok", "off: db")),
    ]);
    world.ops_do(&["fetch"]).expect(0);
    let open = gate.reached();
    assert_eq!(world.outcome("good.yml")["status"], "succeeded");
    assert_eq!(world.outcome("bad.yml")["rc"], 3);
    assert_eq!(world.outcome("wrong.yml")["rc"], 65);
    // Others push while it works: what it has is put on top of theirs.
    world.push(&[("notes.txt", "not a request\n")]);
    drop(open);
    assert_eq!(world.outcome("slow.yml")["status"], "succeeded");
    pulled(world, 4);
    // A person's own commit goes along, larger than what git sends in one piece.
    let large: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(3 << 20).collect();
    fs::write(world.ops().join("large"), large).unwrap();
    world.git(&world.ops(), &["add", "large"]);
    world.git(&world.ops(), &["commit", "-q", "-m", "Mine"]);
    refused_for_a_while(world);
    moved_in_the_middle(world);
    daemon.stop();
    world.sound();
    let packs: Vec<_> = fs::read_dir(world.ops().join(".git/objects/pack")).unwrap().flatten().collect();
    assert!(packs.iter().all(|entry| entry.path().extension().is_none_or(|end| end != "keep")), "{packs:?}");
    // One made the person's commit durable.
    let large = packs.iter().filter(|entry| entry.metadata().unwrap().len() >= 2 << 20).count();
    assert!(large <= 1, "what was here was fetched again: {packs:?}");
}

/// Somebody's push arrives while the remote looks at ours.
fn moved_in_the_middle(world: &World) {
    let ana = world.ana();
    fs::write(ana.join("theirs.txt"), "faster\n").unwrap();
    world.git(&ana, &["add", "theirs.txt"]);
    world.git(&ana, &["commit", "-q", "-m", "Faster"]);
    world.git(&ana, &["push", "-q", "origin", "HEAD:side"]);
    world.git(&ana, &["reset", "-q", "--hard", "HEAD~1"]);
    let side = world.git(&world.remote(), &["rev-parse", "side"]);
    let move_on = "rm \"$0\"; unset GIT_QUARANTINE_PATH; exec git update-ref refs/heads/main refs/heads/side";
    hook(world, move_on);
    world.drop_in("slower.yml", &ask("ok", "on: web"));
    assert_eq!(world.outcome("slower.yml")["status"], "succeeded");
    pulled(world, 6);
    world.git(&ana, &["merge-base", "--is-ancestor", side.trim(), "HEAD"]);
}

/// What the remote does before it takes a push.
fn hook(world: &World, script: &str) -> PathBuf {
    let hook = world.remote().join("hooks/pre-receive");
    fs::write(&hook, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    hook
}

/// The remote does not want it, says why, and has thought better of it.
fn refused_for_a_while(world: &World) {
    let hook = hook(world, "printf 'closed \\033[31mtoday\\n' >&2; exit 1");
    let from = world.events().len();
    world.drop_in("late.yml", &ask("ok", "on: web"));
    assert_eq!(world.outcome("late.yml")["status"], "succeeded");
    let failed = world.event(from, "the push fails", |event| event["event"] == "git.push_failed").to_string();
    assert!(failed.contains("pre-receive hook declined") && failed.contains("closed ^[[31mtoday"), "{failed}");
    fs::remove_file(&hook).unwrap();
    world.ops_do(&["fetch"]).expect(0);
    pulled(world, 5);
}

/// The person has so many results.
#[track_caller]
fn pulled(world: &World, results: usize) {
    let ana = world.ana();
    eventually("the results are pulled", || {
        world.git(&ana, &["pull", "-q", "--ff-only", "origin", "main"]);
        let files = world.git(&ana, &["ls-tree", "-r", "--name-only", "HEAD", "processed/"]);
        files.lines().filter(|path| path.ends_with("/status.json")).count() == results
    });
}

#[test]
fn over_a_path() {
    let world = World::new("");
    whole_life(&world, world.remote().to_str().unwrap());
}

#[test]
fn over_ssh() {
    let mut world = World::new("");
    let Some(server) = Ssh::start(&world) else { return };
    let known = server.known_hosts(Some("host"));
    world.set_env("GIT_SSH_COMMAND", server.command("good", &known));
    whole_life(&world, &server.url(&world.remote()));
}

/// Git of the person's clone comes in by what that clone's own configuration says; the dispatcher sees nothing of it.
fn let_ana_in(world: &World, server: &Https) {
    let ana = world.ana();
    let store = world.path().join("ana-credentials");
    fs::write(&store, server.stored("robot")).unwrap();
    world.git(&ana, &["config", "http.sslCAInfo", server.authority().to_str().unwrap()]);
    world.git(&ana, &["config", "credential.helper", &format!("store --file={}", store.display())]);
}

fn secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn over_https_with_a_token_and_a_private_authority() {
    let world = World::new("");
    let Some(server) = Https::start(&world) else { return };
    let_ana_in(&world, &server);
    let token = world.path().join("token");
    secret(&token, &format!("robot:{}\n", super::PASSWORD));
    let authority = server.authority();
    world.configure(&format!("https: {{token_file: {}, ca_file: {}}}\n", token.display(), authority.display()));
    whole_life(&world, &server.url("remote.git"));
    the_token_expires(&world, &token);
    nothing_of_the_password(&world);
}

/// What was right is wrong, and right again: nobody starts the dispatcher anew for that.
fn the_token_expires(world: &World, token: &Path) {
    let good = fs::read_to_string(token).unwrap();
    let daemon = Daemon::start(world);
    secret(token, "robot:over-and-out");
    let from = world.events().len();
    world.drop_in("expired.yml", &ask("ok", "on: web"));
    let failed = world.event(from, "the push fails", |event| event["event"] == "git.push_failed").to_string();
    assert!(failed.contains("refused the token or password"), "{failed}");
    secret(token, &good);
    world.event(from, "it is pushed", |event| event["event"] == "git.pushed");
    daemon.stop();
    world.sound();
}

#[test]
fn over_https_through_a_proxy() {
    let mut world = World::new("");
    let Some(server) = Https::start(&world) else { return };
    let token = world.path().join("token");
    secret(&token, &format!("robot:{}", super::PASSWORD));
    let authority = server.authority();
    world.configure(&format!("https: {{token_file: {}, ca_file: {}}}\n", token.display(), authority.display()));
    world.git(&world.ops(), &["remote", "set-url", "origin", &server.url("remote.git")]);
    world.drop_in("one.yml", &ask("ok", "on: web"));
    let proxy = Proxy::start();
    world.set_env("https_proxy", format!("http://127.0.0.1:{}", proxy.port));
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    world.sound();
    let asked = proxy.asked.lock().unwrap().clone();
    let address = server.url("").replacen("https://", "", 1);
    assert!(asked.len() >= 2, "a fetch and a push: {asked:?}");
    for head in asked {
        assert!(head.starts_with(&format!("CONNECT {} HTTP/1.1", address.trim_end_matches('/'))), "{head}");
        assert!(!head.contains("Authorization"), "the token is not the proxy's: {head}");
    }
}

#[test]
fn over_https_with_a_systemd_credential() {
    let mut world = World::new("");
    let Some(server) = Https::start(&world) else { return };
    let folder = world.path().join("credentials");
    fs::create_dir(&folder).unwrap();
    // As systemd makes it: readable by an access list, which looks like a mode for the group.
    secret(&folder.join("git"), super::PASSWORD);
    fs::set_permissions(folder.join("git"), fs::Permissions::from_mode(0o440)).unwrap();
    world.set_env("CREDENTIALS_DIRECTORY", folder.to_str().unwrap());
    world.configure(&format!("https: {{token_credential: git, ca_file: {}}}\n", server.authority().display()));
    let url = server.url("remote.git").replacen("https://", "https://robot@", 1);
    world.git(&world.ops(), &["remote", "set-url", "origin", &url]);
    world.drop_in("one.yml", &ask("ok", "on: web"));
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    world.sound();
    assert!(server.log().contains(" robot ") && !server.log().contains("x-access-token"), "{}", server.log());
}

#[test]
fn over_https_with_a_credential_helper_of_the_account() {
    let world = World::new("");
    let Some(server) = Https::start(&world) else { return };
    let home = world.path().join("home");
    secret(&home.join(".git-credentials"), &server.stored("robot"));
    // What the account is used to counts, but for what would weaken it.
    let authority = server.authority();
    let text = format!(
        "[credential]\n\thelper = store\n[http]\n\tsslCAInfo = {}\n\tsslVerify = false\n[core]\n\thooksPath = /nowhere\n",
        authority.display()
    );
    fs::write(home.join(".gitconfig"), text).unwrap();
    whole_life(&world, &server.url("remote.git"));
    nothing_of_the_password(&world);
}

/// Carries connections to where they ask for, and remembers what they asked.
struct Proxy {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heads = Arc::clone(&asked);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, heads) = (client.unwrap(), Arc::clone(&heads));
                std::thread::spawn(move || carry(&client, &heads));
            }
        });
        Self { port, asked }
    }
}

fn carry(mut client: &TcpStream, heads: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let address = head.split(' ').nth(1).unwrap().to_owned();
    heads.lock().unwrap().push(head);
    let mut server = TcpStream::connect(address).unwrap();
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
    let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    // Either side may hang up as it likes.
    let there = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(Shutdown::Both);
    let _ = there.join();
}

/// Neither in any file of the repositories, nor in what the daemon said.
fn nothing_of_the_password(world: &World) {
    let word = super::PASSWORD.split(':').next().unwrap();
    for folder in [world.ops(), world.remote(), world.path().join("state-ops"), world.path().join("daemon.out")] {
        let found = world.command("grep", world.path()).args(["-rla", word]).arg(&folder).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "in {}", folder.display());
    }
}
