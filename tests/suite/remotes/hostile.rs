//! Commits that somebody made by hand to do harm: names that no file has, authors and words that play with a terminal,
//! and everything in a tree that some program might execute.

use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;

use super::published;
use crate::world::{Daemon, World, ask, eventually};

/// Characters that a terminal acts upon, or that hide what is there.
const TRAPS: [char; 6] = ['\u{1b}', '\u{7}', '\u{7f}', '\u{9b}', '\u{202e}', '\u{200b}'];

/// Runs git in the person's clone with something on its stdin.
fn git_with(world: &World, args: &[&str], input: &[u8]) -> String {
    let mut command = world.command("git", &world.ana());
    let mut child = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "git {args:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

/// Writes a tree object byte by byte, past every check of git.
fn tree(world: &World, entries: &[(&str, &[u8], &str)]) -> String {
    let mut raw = Vec::new();
    for (mode, name, oid) in entries {
        raw.extend_from_slice(mode.as_bytes());
        raw.push(b' ');
        raw.extend_from_slice(name);
        raw.push(0);
        raw.extend((0..40).step_by(2).map(|at| u8::from_str_radix(&oid[at..at + 2], 16).unwrap()));
    }
    git_with(world, &["hash-object", "-t", "tree", "-w", "--literally", "--stdin"], &raw)
}

/// Commits the root tree of `main` with other `requests`, as an author whose name and message are traps, and pushes it.
fn push_requests(world: &World, requests: &str) {
    let ana = world.ana();
    world.git(&ana, &["fetch", "-q"]);
    let lines = world.git(&ana, &["ls-tree", "origin/main"]);
    let others: String = lines.lines().filter(|line| !line.ends_with("\trequests")).map(|l| format!("{l}\n")).collect();
    let root = git_with(world, &["mktree"], format!("{others}040000 tree {requests}\trequests\n").as_bytes());
    let parent = world.git(&ana, &["rev-parse", "origin/main"]);
    let traps: String = TRAPS.iter().collect();
    let who = format!("Eve {traps}[2J <eve{traps}@example.org> 1763900000 +0000");
    let commit = format!("tree {root}\nparent {}\nauthor {who}\ncommitter {who}\n\nharm {traps}[31m\n", parent.trim());
    let commit = git_with(world, &["hash-object", "-t", "commit", "-w", "--literally", "--stdin"], commit.as_bytes());
    world.git(&ana, &["push", "-q", "origin", &format!("{commit}:main")]);
}

/// Nothing in it acts upon a terminal but colours.
#[track_caller]
fn is_safe(what: &str, text: &str) {
    let mut plain = String::new();
    for (n, piece) in text.split("\u{1b}[").enumerate() {
        let colour = piece.find('m').filter(|&end| piece[..end].chars().all(|c| c.is_ascii_digit() || c == ';'));
        assert!(n == 0 || colour.is_some(), "{what}: {text:?}");
        plain += piece;
    }
    let bad = plain.chars().find(|c| TRAPS.contains(c) || (c.is_control() && !['\n', '\t'].contains(c)));
    assert_eq!(bad, None, "{what}: {text:?}");
}

#[test]
fn entries_and_words_of_a_commit_that_means_harm() {
    let world = World::new("workers: 1\n");
    let gate = world.gate("g");
    let blob = |text: &str| git_with(&world, &["hash-object", "-w", "--stdin"], text.as_bytes());
    let good = blob("kind: ok\nparams: {on: web}\nreason: \"\\e[31m\\u202E\\x9b\"\n");
    let bad = blob("kind: \"\\e]0;\\u202Ename\"\n");
    let waits = blob(&ask("gate", "on: web, gate: g"));
    let keep = blob("");
    let requests = tree(
        &world,
        &[
            ("100644", b"--upload-pack=x.yml", &good),
            ("100644", b"..", &good),
            ("100644", b".git", &good),
            ("100644", b".gitkeep", &keep),
            ("100644", b"a/../../b.yml", &good),
            ("100644", b"bad\x1b]0;x\x07.yml", &bad),
            ("100644", b"esc\x1b[31m\xc2\x9b2J.yml", &waits),
            ("100755", b"exec.yml", &good),
            ("120000", b"link.yml", &blob("/etc/passwd")),
            ("100644", b"new\nline.yml", &good),
            ("40000", b"folder.yml", &tree(&world, &[("100644", b"x.yml", &good)])),
            ("160000", b"sub.yml", &"1".repeat(40)),
            ("100644", "\u{202e}lmy.yml".as_bytes(), &good),
            ("100644", b"\xff\xfe.yml", &good),
        ],
    );
    push_requests(&world, &requests);
    let daemon = Daemon::start(&world);
    let open = gate.reached();
    let verbs: [&[&str]; 12] = [
        &["status"],
        &["status", "--json"],
        &["list"],
        &["list", "--json"],
        &["locks"],
        &["locks", "--json"],
        &["show", "@"],
        &["show", "@", "--json"],
        &["show", "@failed"],
        &["logs", "@"],
        &["logs", "@failed"],
        &["logs", "@", "--json"],
    ];
    let look = || {
        for verb in verbs {
            let said = world.ops_do(verb);
            is_safe(&format!("{verb:?}"), &(said.out + &said.err));
        }
    };
    look();
    drop(open);
    eventually("all are recorded", || world.recorded("HEAD").len() == 8);
    look();
    let mut ends: Vec<(String, String)> = world
        .recorded("HEAD")
        .into_values()
        .map(|s| (s["request"].as_str().unwrap().to_owned(), s["status"].as_str().unwrap().to_owned()))
        .collect();
    ends.sort_unstable();
    let expect = [
        ("--upload-pack=x.yml", "succeeded"),
        ("<U+202E>lmy.yml", "succeeded"),
        (r"\xFF\xFE.yml", "succeeded"),
        ("bad^[]0;x^G.yml", "rejected"),
        ("esc^[[31m<U+009B>2J.yml", "succeeded"),
        ("exec.yml", "succeeded"),
        ("link.yml", "rejected"),
        ("new^Jline.yml", "succeeded"),
    ];
    assert_eq!(ends, expect.map(|(name, end)| (name.to_owned(), end.to_owned())));
    published(&world);
    let logs = world.ops().join("logs");
    for entry in fs::read_dir(&logs).unwrap().flatten().filter(|e| e.file_type().unwrap().is_file()) {
        is_safe(&entry.path().display().to_string(), &fs::read_to_string(entry.path()).unwrap());
    }
    is_safe("the daemon's output", &fs::read_to_string(&daemon.output).unwrap());
    let ours = world.git(&world.ops(), &["log", "--format=%B", "--author=dispatcher"]);
    is_safe("our messages", &ours);
    let statuses = world.git(&world.ops(), &["grep", "-h", "", "HEAD", "--", "processed/*/status.json"]);
    is_safe("statuses", &statuses);
    assert!(statuses.contains("Eve \\u001b\\u0007\\u007f\\u009b\\u202e\\u200b[2J"), "the author is whole: {statuses}");
    let left: Vec<Vec<u8>> = fs::read_dir(world.ops().join("requests"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().as_bytes().to_vec())
        .filter(|name| name != b".gitkeep")
        .collect();
    assert_eq!(left.len(), 2, "a folder and a submodule's: {left:?}");
    assert!(!world.path().join("b.yml").exists() && !world.ops().join("b.yml").exists());
    daemon.stop();
}

#[test]
fn a_withdrawal_by_such_an_author_is_told_safely() {
    let world = World::new("workers: 1\n");
    let gate = world.gate("g");
    world.push(&[("requests/a.yml", &ask("gate", "on: web, gate: g"))]);
    let daemon = Daemon::start(&world);
    let open = gate.reached();
    world.push(&[("requests/b.yml", &ask("ok", "on: web"))]);
    world.ops_do(&["fetch"]).expect(0);
    world.until("b.yml", "queued");
    let keep = git_with(&world, &["hash-object", "-w", "--stdin"], b"");
    push_requests(&world, &tree(&world, &[("100644", b".gitkeep", &keep)]));
    world.ops_do(&["fetch"]).expect(0);
    let status = world.outcome("b.yml");
    assert_eq!(status["status"], "cancelled", "{status}");
    is_safe("the reason", status["reason"].as_str().unwrap());
    drop(open);
    world.outcome("a.yml");
    for verb in [&["list"][..], &["show", "b.yml"], &["logs", "b.yml"], &["show", "b.yml", "--json"]] {
        let said = world.ops_do(verb).expect(0);
        is_safe(&format!("{verb:?}"), &said.out);
    }
    is_safe("the daemon's output", &fs::read_to_string(&daemon.output).unwrap());
    daemon.stop();
    world.sound();
}

#[test]
fn nothing_of_the_tree_is_executed() {
    let world = World::new("");
    let trace = world.path().join("trace");
    if world.command("strace", world.path()).args(["-o", "/dev/null", "true"]).status().is_err() {
        println!("no strace: nothing was traced");
        return;
    }
    let ana = world.ana();
    let harm = "#!/bin/sh\ntouch /tmp/harm\n";
    for (path, text) in [
        (".gitattributes", "* filter=harm diff=harm merge=harm\n"),
        (".gitconfig", "[core]\n\tfsmonitor = ./harm\n\thooksPath = hooks\n[filter \"harm\"]\n\tsmudge = ./harm\n"),
        (".gitmodules", "[submodule \"sub\"]\n\tpath = sub\n\turl = ext::./harm\n\tupdate = checkout\n"),
        (".lfsconfig", "[lfs]\n\turl = ext::./harm\n"),
        (".envrc", "./harm\n"),
        ("harm", harm),
        ("hooks/post-checkout", harm),
        ("hooks/post-merge", harm),
        ("hooks/pre-push", harm),
        ("config", "[core]\n\tsshCommand = ./harm\n"),
        ("handlers/unused.sh", harm),
        ("requests/a.yml", &ask("ok", "on: web")),
    ] {
        fs::create_dir_all(ana.join(path).parent().unwrap()).unwrap();
        fs::write(ana.join(path), text).unwrap();
        let mode = if text == harm { 0o755 } else { 0o644 };
        fs::set_permissions(ana.join(path), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    }
    let commit = world.git(&ana, &["rev-parse", "HEAD"]);
    world.git(&ana, &["update-index", "--add", "--cacheinfo", &format!("160000,{},sub", commit.trim())]);
    world.push(&[]);
    let traced =
        format!("exec strace -f -qq -e trace=execve -e status=successful -o {} \"$0\" --no-tui", trace.display());
    let mut daemon = Daemon::start_after(&world, &traced);
    assert_eq!(world.outcome("a.yml")["status"], "succeeded");
    world.push(&[("requests/b.yml", &ask("ok", "on: web")), ("harm", "changed\n")]);
    world.ops_do(&["fetch"]).expect(0);
    assert_eq!(world.outcome("b.yml")["status"], "succeeded");
    published(&world);
    world.ops_do(&["drain"]).expect(0);
    daemon.wait();
    let trace = fs::read_to_string(trace).unwrap();
    let mut programs: Vec<&str> = trace
        .lines()
        .filter_map(|line| line.split_once("execve(\"")?.1.split('"').next()?.rsplit('/').next())
        .collect();
    programs.sort_unstable();
    programs.dedup();
    println!("executed: {programs:?}");
    // The daemon and its launcher, git, and what the handler is and calls.
    let allowed = ["dirname", "dispatcher", "exe", "flock", "git", "git-receive-pack", "git-upload-pack", "ok.sh"];
    let others: Vec<&&str> = programs.iter().filter(|name| !allowed.contains(name)).collect();
    assert!(others.is_empty() && programs.contains(&"ok.sh") && programs.contains(&"git"), "{others:?}: {trace}");
}
