//! What a daemon starts, seen by `strace`: on a repository whose content does all that content can do to be run, nothing
//! but itself, the handlers, git with our arguments, and ssh.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::servers::{Https, PASSWORD, Ssh, programs};
use crate::world::{World, ask};

/// What git's own programs start to do what they were asked for.
const OF_GIT: &[&str] = &[
    "fetch-pack",
    "for-each-ref",
    "gc",
    "index-pack",
    "maintenance",
    "pack-objects",
    "receive-pack",
    "remote-https",
    "rev-list",
    "send-pack",
    "unpack-objects",
    "upload-pack",
];

/// Puts everything that could make git run something into the tree and, as if a person had fallen for it, into the
/// clone's own configuration. Whatever is run leaves a mark.
fn bait(world: &World, evil: &Path) {
    let run = format!("echo \"$0 $*\" >>{}; cat", evil.display());
    let ana = world.ana();
    fs::create_dir_all(ana.join("hooks")).unwrap();
    for hook in [
        "pre-push",
        "post-checkout",
        "post-merge",
        "post-commit",
        "reference-transaction",
        "fsmonitor",
        "post-index-change",
    ] {
        let path = ana.join("hooks").join(hook);
        fs::write(&path, format!("#!/bin/sh\n{run}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let drivers = format!(
        "[filter \"evil\"]\n\tclean = {run:?}\n\tsmudge = {run:?}\n\tprocess = {run:?}\n\trequired = true\n\
         [diff \"evil\"]\n\ttextconv = {run:?}\n[merge \"evil\"]\n\tdriver = {run:?}\n\
         [core]\n\thooksPath = hooks\n\tfsmonitor = hooks/fsmonitor\n\tsshCommand = {run:?}\n\tgitProxy = {run:?}\n\taskPass = {run:?}\n\
         [credential]\n\thelper = \"!{command}\"\n[uploadpack]\n\tpackObjectsHook = {run:?}\n[gpg]\n\tprogram = {run:?}\n",
        command = run.replace('"', "\\\""),
    );
    fs::write(ana.join(".gitconfig"), &drivers).unwrap();
    fs::write(ana.join(".gitattributes"), "* filter=evil diff=evil merge=evil ident\n").unwrap();
    fs::create_dir(ana.join("sub")).unwrap();
    let module = format!("[submodule \"sub\"]\n\tpath = sub\n\turl = \"ext::sh -c touch% {}\"\n", evil.display());
    fs::write(ana.join(".gitmodules"), module).unwrap();
    let head = world.git(&ana, &["rev-parse", "HEAD"]);
    world.git(&ana, &["update-index", "--add", "--cacheinfo", &format!("160000,{},sub", head.trim())]);
    world.push(&[("requests/one.yml", &ask("ok", "on: web"))]);
    let config = world.ops().join(".git/config");
    let own = fs::read_to_string(&config).unwrap();
    fs::write(&config, own + &drivers).unwrap();
}

/// One program that was started: its path, its arguments, and whether a handler did it.
#[derive(Debug)]
struct Start {
    path: PathBuf,
    args: Vec<String>,
    by_handler: bool,
}

/// The calls of `execve`, without those that are known to have failed.
fn starts(trace: &Path) -> Vec<Start> {
    let text = fs::read_to_string(trace).unwrap();
    let line = |line: &str| {
        let rest = line.split_once("execve(\"")?.1;
        if !line.ends_with(" = 0") && !line.ends_with("<unfinished ...>") {
            return None;
        }
        let (path, rest) = rest.split_once("\", [")?;
        let (args, env) = rest.split_once("], [")?;
        let args = args.trim_matches('"').split("\", \"").map(str::to_owned).collect();
        Some(Start { path: path.into(), args, by_handler: env.contains("\"DISPATCH_ID=") })
    };
    text.lines().filter_map(line).collect()
}

/// Lets a dispatcher fetch, run, commit and push under `strace`, and looks at all that it started. `ours`: the whole
/// command lines that it may start, all of which have to be there.
fn traced(world: &World, url: &str, ours: &[Vec<String>]) {
    let evil = world.marks().join("evil");
    let config = world.ops().join(".git/config");
    world.git(&world.ops(), &["remote", "set-url", "origin", url]);
    let own = fs::read_to_string(&config).unwrap();
    bait(world, &evil);
    let trace = world.path().join("trace");
    let said = world
        .command("strace", &world.ops())
        .args(["-f", "-v", "-s", "65536", "-e", "trace=execve,execveat", "-e", "signal=none", "-o"])
        .arg(&trace)
        .args([env!("CARGO_BIN_EXE_dispatcher"), "--once", "--no-tui"])
        .output()
        .unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert!(!evil.exists(), "{}", fs::read_to_string(&evil).unwrap_or_default());
    world.try_git(&world.ops(), &["status"]);
    assert!(evil.exists(), "git itself takes the bait");
    fs::write(&config, own).unwrap();
    let starts = starts(&trace);
    for start in starts.iter().filter(|start| !start.by_handler) {
        let name = start.path.file_name().unwrap().to_str().unwrap();
        let verb = start.args.iter().skip(1).find(|arg| !arg.starts_with('-')).map_or("", String::as_str);
        let of_git = match name {
            "git" => OF_GIT.contains(&verb),
            _ => name.strip_prefix("git-").is_some_and(|verb| OF_GIT.contains(&verb)),
        };
        let itself = name == "dispatcher" || start.args[0] == "dispatcher-launcher";
        assert!(itself || of_git || ours.contains(&start.args), "{start:?} of {starts:#?}");
    }
    for one in ours {
        assert!(starts.iter().any(|start| start.args == *one), "{one:?} is not in {starts:#?}");
    }
    assert!(starts.iter().any(|start| start.by_handler), "{starts:#?}");
    assert_eq!(world.outcome("one.yml")["status"], "succeeded");
    assert_eq!(world.git(&world.remote(), &["rev-parse", "main"]), world.git(&world.ops(), &["rev-parse", "main"]));
}

fn line(args: &[&str]) -> Vec<String> {
    args.iter().map(|&arg| arg.to_owned()).collect()
}

#[test]
fn over_a_path_nothing_of_the_content_is_started() {
    let world = World::new("");
    if programs(["strace"]).is_none() {
        return;
    }
    let remote = world.remote().to_str().unwrap().to_owned();
    traced(&world, &remote, &["upload-pack", "receive-pack"].map(|verb| line(&["git", verb, &remote])));
}

#[test]
fn over_ssh_nothing_of_the_content_is_started() {
    let mut world = World::new("");
    let (Some(server), Some(_)) = (Ssh::start(&world), programs(["strace"])) else { return };
    let command = server.command("good", &server.known_hosts(Some("host")));
    world.set_env("GIT_SSH_COMMAND", &command);
    let url = server.url(&world.remote());
    let (host, port) = url.strip_prefix("ssh://").unwrap().split_once(':').unwrap();
    let port = port.split('/').next().unwrap();
    let asked = |verb: &str| {
        let options = "-oBatchMode=yes -oStrictHostKeyChecking=yes -oConnectTimeout=15 -oServerAliveInterval=5 \
                       -oServerAliveCountMax=3 -x -p";
        let mut args: Vec<String> = options.split(' ').map(str::to_owned).collect();
        args.extend(line(&[port, "--", host, &format!("git-{verb} '{}'", world.remote().display())]));
        args
    };
    let both = ["upload-pack", "receive-pack"].map(asked);
    let shell =
        both.iter().map(|args| [line(&["sh", "-c", &format!("{command} \\\"$@\\\""), "ssh"]), args.clone()].concat());
    let ssh = both.iter().map(|args| [command.split(' ').map(str::to_owned).collect(), args.clone()].concat());
    let ours: Vec<Vec<String>> = shell.chain(ssh).collect();
    traced(&world, &url, &ours);
}

#[test]
fn over_https_nothing_of_the_content_is_started() {
    let world = World::new("");
    let (Some(server), Some(_)) = (Https::start(&world), programs(["strace"])) else { return };
    let token = world.path().join("token");
    fs::write(&token, format!("robot:{PASSWORD}")).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    let authority = server.authority();
    world.configure(&format!("https: {{token_file: {}, ca_file: {}}}\n", token.display(), authority.display()));
    let url = server.url("remote.git");
    traced(&world, &url, &[line(&["git", "remote-https", "dispatcher", &url])]);
    // The trace has every environment, and so the header; it has no argument with a part of it.
    let starts = starts(&world.path().join("trace"));
    assert!(starts.iter().flat_map(|start| &start.args).all(|arg| !arg.contains("Authorization")), "{starts:#?}");
}
