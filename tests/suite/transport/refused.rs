//! Remotes that let nobody in: each cause has its own message, with what to do about it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use crate::servers::{Https, Ssh, programs};
use crate::world::{Said, World, ask};

/// What the selftest says about the remote: its code, its words, and one of its helps.
#[track_caller]
fn check(world: &World, url: &str, code: &str, parts: &[&str]) {
    world.git(&world.ops(), &["remote", "set-url", "origin", url]);
    let said = world.ops_do(&["selftest", "--json"]).expect(1).json();
    let checks = said["checks"].as_array().unwrap();
    let remote = checks.iter().find(|check| check["check"] == "remote").unwrap();
    assert_eq!(remote["outcome"], "failed", "{remote}");
    let words = remote["words"].as_str().unwrap();
    assert!(words.starts_with(&format!("[{code}] ")), "{remote}");
    assert!(remote["help"].as_array().is_some_and(|help| !help.is_empty()), "{remote}");
    // Backslashes and quotes are none of the words that are looked for.
    let text = remote.to_string();
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in {text}");
    }
    assert!(!text.contains("s3cr3t"), "{text}");
}

/// What `submit` says, which fetches, commits and pushes.
fn submit(world: &World, code: i32) -> Said {
    world.ops_do(&["submit", "ok", "--set", "on=web"]).expect(code)
}

#[test]
fn ssh_says_what_is_wrong_with_keys_and_hosts() {
    let mut world = World::new("");
    let Some(server) = Ssh::start(&world) else { return };
    let url = server.url(&world.remote());
    let known = server.known_hosts(Some("host"));

    world.set_env("GIT_SSH_COMMAND", server.command("stranger", &known));
    check(&world, &url, "E0530", &["accepts no ssh key of this account", "shows which keys are offered"]);
    world.set_env("GIT_SSH_COMMAND", server.command("good", &server.known_hosts(None)));
    check(&world, &url, "E0531", &["host key of `127.0.0.1` is not known", "compare the fingerprint"]);
    let other = server.known_hosts(Some("other-host"));
    world.set_env("GIT_SSH_COMMAND", server.command("good", &other));
    let fix = format!("ssh-keygen -f {} -R '{}'", other.display(), server.host());
    check(&world, &url, "E0532", &[&format!("is not the one in {}:1", other.display()), &fix]);
    world.set_env("GIT_SSH_COMMAND", server.command("good", &known));
    check(&world, &server.url(&world.path().join("other.git")), "E0539", &["there is no repository at"]);

    // Who may read and not write hears of it with the first result.
    world.set_env("GIT_SSH_COMMAND", server.command("reader", &known));
    world.git(&world.ops(), &["remote", "set-url", "origin", &url]);
    let said = submit(&world, 69);
    assert!(
        said.err.starts_with("error[E0535]: remote `origin`: ") && said.err.contains("marked as read only"),
        "{said:?}"
    );
    // What could not be pushed goes with the next try.
    world.set_env("GIT_SSH_COMMAND", server.command("good", &known));
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    world.sound();
}

#[test]
fn https_says_what_is_wrong_with_passwords_and_certificates() {
    let world = World::new("");
    let Some(server) = Https::start(&world) else { return };
    let (url, authority) = (server.url("remote.git"), server.authority());
    let token = world.path().join("token");
    let give = |text: &str, mode: u32| {
        fs::write(&token, text).unwrap();
        fs::set_permissions(&token, fs::Permissions::from_mode(mode)).unwrap();
    };
    let trusted = format!("ca_file: {}", authority.display());
    let with_token = format!("https: {{token_file: {}, {trusted}}}\n", token.display());

    world.configure(&format!("https: {{{trusted}}}\n"));
    check(&world, &url, "E0534", &["asks for user and password, and none is configured", "token_file"]);
    let with_password = url.replacen("https://", "https://robot:s3cr3t@", 1);
    check(&world, &with_password, "E0533", &["refused the token or password", "https.token_file"]);

    world.configure(&with_token);
    check(&world, &url, "E0537", &["No such file or directory"]);
    give("robot:s3cr3t\n", 0o604);
    check(&world, &url, "E0537", &["its mode is 0604, others can get at it", "chmod 0600"]);
    give("\n", 0o600);
    check(&world, &url, "E0537", &["it is empty"]);
    give("robot:s3cr3t\n", 0o600);
    check(&world, &url, "E0533", &["refused the token or password", "https.token_file"]);

    give(&format!("robot:{}", super::PASSWORD), 0o600);
    check(&world, &server.url("other.git"), "E0539", &["there is no repository at"]);
    check(&world, &server.url("moved/remote.git"), "E0540", &["sends on to another address", "remote set-url"]);
    check(&world, &url.replacen("https://", "http://", 1), "E0511", &["is not encrypted"]);
    world.configure(&format!("https: {{token_file: {}}}\n", token.display()));
    check(&world, &url, "E0536", &["is not trusted", "ca_file"]);
    world.configure("https: {ca_file: /nowhere/ca.pem}\n");
    check(&world, &url, "E0541", &["/nowhere/ca.pem"]);

    world.configure(&with_token);
    give(&format!("reader:{}", super::PASSWORD), 0o600);
    world.git(&world.ops(), &["remote", "set-url", "origin", &url]);
    let said = submit(&world, 69);
    assert!(said.err.starts_with("error[E0535]: remote `origin`: ") && said.err.contains("403"), "{said:?}");
    give(&format!("robot:{}", super::PASSWORD), 0o600);
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    world.sound();
}

#[test]
fn nobody_there_is_said_so() {
    let world = World::new("");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    check(
        &world,
        &format!("https://{closed}/ops.git"),
        "E0538",
        &["nobody listens there", "git remote get-url origin"],
    );
    check(&world, "https://nowhere.invalid/ops.git", "E0538", &["its name is not known"]);
    if programs(["ssh"]).is_some() {
        check(&world, &format!("ssh://git@{closed}/ops.git"), "E0538", &["nobody listens there"]);
        check(&world, "git@nowhere.invalid:ops.git", "E0538", &["its name is not known"]);
    }
}

#[test]
fn the_daemon_says_once_what_to_do_and_each_time_that_it_is_so() {
    let world = World::new("fetch_interval: 100ms\n");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    world.git(&world.ops(), &["remote", "set-url", "origin", &format!("https://{closed}/ops.git")]);
    world.drop_in("one.yml", &ask("ok", "on: web"));
    let daemon = crate::world::Daemon::start(&world);
    world.event(0, "fetches fail", |event| {
        let all = world.events();
        event["event"] == "git.fetch_failed" && all.iter().filter(|e| e["event"] == "git.fetch_failed").count() > 2
    });
    world.event(0, "pushes fail", |event| event["event"] == "git.push_failed");
    world.git(&world.ops(), &["remote", "set-url", "origin", world.remote().to_str().unwrap()]);
    world.event(0, "it is pushed", |event| event["event"] == "git.pushed");
    daemon.stop();
    let log = fs::read_to_string(world.ops().join("logs/dispatcher.log")).unwrap();
    let told = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert!((1..=2).contains(&told("[E0538] remote `origin`: no connection to")), "{log}");
    assert!((1..=2).contains(&told("= help: git remote get-url origin")), "{log}");
    world.sound();
}
