//! What else people and programs put into `requests/`: nothing of it stops the dispatcher, and nothing is followed.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use crate::world::{Daemon, World, ask, eventually};

fn rejected(world: &World, name: &str, word: &str) {
    let status = world.outcome(name);
    assert_eq!((&status["status"], &status["rc"]), (&"rejected".into(), &65.into()), "{status}");
    let message = status["error"]["message"].as_str().unwrap();
    assert!(message.contains(word), "{message}");
}

#[test]
fn things_that_are_no_files() {
    let world = World::new("");
    let daemon = Daemon::start(&world);
    let inbox = world.ops().join("requests");
    let secret = world.path().join("secret.yml");
    fs::write(&secret, ask("ok", "on: secret")).unwrap();
    std::os::unix::fs::symlink(&secret, inbox.join("link.yml")).unwrap();
    std::os::unix::fs::symlink("/nowhere", inbox.join("dangling.yml")).unwrap();
    nix::unistd::mkfifo(&inbox.join("fifo.yml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = UnixListener::bind(inbox.join("socket.yml")).unwrap();
    fs::create_dir(inbox.join("folder.yml")).unwrap();
    for name in [".hidden.yml", "backup.yml~", "half.tmp", "half.part", ".a.yml.swp"] {
        fs::write(inbox.join(name), ask("ok", "on: ignored")).unwrap();
    }
    fs::write(inbox.join("note.txt"), "hello").unwrap();
    rejected(&world, "link.yml", "link.yml");
    rejected(&world, "dangling.yml", "dangling.yml");
    world.drop_in("good.yml", &ask("ok", "on: web"));
    assert_eq!(world.outcome("good.yml")["status"], "succeeded");
    world.ops_do(&["fetch"]).expect(0);
    world.ops_do(&["fetch"]).expect(0);
    for name in ["fifo.yml", "socket.yml", "folder.yml", ".hidden.yml", "backup.yml~", "half.tmp", "note.txt"] {
        assert!(inbox.join(name).symlink_metadata().is_ok(), "{name} is left alone");
    }
    let told = fs::read_to_string(&daemon.output).unwrap();
    for name in ["fifo.yml", "socket.yml", "folder.yml", "note.txt"] {
        assert_eq!(told.matches(&format!("`requests/{name}`")).count(), 1, "{name} is warned of once: {told}");
    }
    for name in [".hidden.yml", "backup.yml~", "half.tmp"] {
        assert!(!told.contains(name), "{name}: {told}");
    }
    assert_eq!(world.recorded("HEAD").len(), 3);
    assert!(world.lines("secret").is_empty() && secret.exists());
    let log = world.git(&world.ops(), &["log", "--format=", "--name-only"]);
    assert!(!log.contains("secret"), "{log}");
    daemon.stop();
}

#[test]
fn contents_that_cannot_be_a_request() {
    let world = World::new("");
    let daemon = Daemon::start(&world);
    let inbox = world.ops().join("requests");
    let write = |name: &str, bytes: &[u8]| {
        fs::write(inbox.join(format!(".{name}")), bytes).unwrap();
        fs::rename(inbox.join(format!(".{name}")), inbox.join(name)).unwrap();
    };
    let mut large = b"kind: ok\nparams: {on: web}\n#".to_vec();
    large.resize((1 << 20) + 1, b'x');
    write("large.yml", &large);
    large.truncate(1 << 20);
    write("largest.yml", &large);
    write("latin.yml", b"kind: ok\nparams: {on: caf\xe9}\n");
    write("empty.yml", b"");
    write("nul.yml", b"kind: ok\0\n");
    rejected(&world, "large.yml", "large.yml");
    rejected(&world, "latin.yml", "UTF-8");
    rejected(&world, "empty.yml", "");
    rejected(&world, "nul.yml", "");
    assert_eq!(world.outcome("largest.yml")["status"], "succeeded");
    let large = world.outcome("large.yml");
    let id = large["id"].as_str().unwrap();
    let files = world.git(&world.ops(), &["ls-tree", "-r", "--name-only", "HEAD", &format!("processed/{id}/")]);
    assert_eq!(files.trim(), format!("processed/{id}/status.json"), "what is set aside is not committed");
    let log = world.ops_do(&["logs", id]).expect(0).out;
    assert!(log.contains(world.path().to_str().unwrap()), "it says where it is: {log}");
    daemon.stop();
    world.sound();
}

#[test]
fn hostile_names_are_shown_escaped() {
    let world = World::new("");
    let daemon = Daemon::start(&world);
    let inbox = world.ops().join("requests");
    let names: [&[u8]; 5] =
        [b"a\nb.yml", b"\x1b[2Jc.yml", b"--upload-pack=x.yml", b"d \xff.yml", "e\u{202e}lmy.yml".as_bytes()];
    for (n, name) in names.iter().enumerate() {
        let hidden = inbox.join(format!(".{n}.tmp"));
        fs::write(&hidden, ask("ok", &format!("on: r{n}"))).unwrap();
        fs::rename(hidden, inbox.join(Path::new(std::ffi::OsStr::from_bytes(name)))).unwrap();
    }
    eventually("all are recorded", || world.recorded("HEAD").len() == names.len());
    for status in world.recorded("HEAD").values() {
        let shown = status["request"].as_str().unwrap();
        assert!(!shown.contains(['\n', '\u{1b}', '\u{202e}']), "{shown:?}");
    }
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    let output = daemon.output.clone();
    assert_eq!(daemon.ended(), 0);
    let told = fs::read_to_string(output).unwrap();
    let list = world.ops_do(&["list"]).expect(0).out;
    let messages = world.git(&world.ops(), &["log", "--format=%B"]);
    let log = fs::read_to_string(world.ops().join("logs/dispatcher.log")).unwrap();
    for text in [told, list, messages, log] {
        assert!(!text.contains("\u{1b}[2J") && !text.contains("a\nb.yml") && !text.contains('\u{202e}'), "{text:?}");
    }
    world.sound();
}

#[test]
fn a_file_written_in_pieces_is_taken_whole() {
    let world = World::new("scan_interval: 200ms\n");
    let daemon = Daemon::start(&world);
    let text = format!("{}reason: {}\n", ask("ok", "on: web"), "x".repeat(400));
    let mut file = File::create(world.ops().join("requests/slow.yml")).unwrap();
    for piece in text.as_bytes().chunks(text.len() / 19) {
        file.write_all(piece).unwrap();
        // The pause of the writer is the case itself: longer than the quiet time at times.
        std::thread::sleep(Duration::from_millis(150));
        assert!(world.recorded("HEAD").is_empty() && world.on_disk().is_empty(), "half a request was taken");
    }
    drop(file);
    let status = world.outcome("slow.yml");
    assert_eq!(status["status"], "succeeded");
    let id = status["id"].as_str().unwrap();
    assert_eq!(world.git(&world.ops(), &["show", &format!("HEAD:processed/{id}/request.yml")]), text);
    daemon.stop();
    world.sound();
}

#[test]
fn save_habits_of_editors() {
    let world = World::new("");
    let daemon = Daemon::start(&world);
    let inbox = world.ops().join("requests");
    let text = ask("ok", "on: web");
    // vim: a probe, a swap file, the old one moved away, the new one written, the old one removed.
    File::create(inbox.join("4913")).unwrap();
    fs::remove_file(inbox.join("4913")).unwrap();
    fs::write(inbox.join(".vim.yml.swp"), "b0VIM").unwrap();
    fs::write(inbox.join("vim.yml~"), "old").unwrap();
    fs::write(inbox.join("vim.yml"), &text).unwrap();
    fs::remove_file(inbox.join("vim.yml~")).unwrap();
    fs::remove_file(inbox.join(".vim.yml.swp")).unwrap();
    // nano: written in place.
    fs::write(inbox.join(".nano.yml.swp"), "nano").unwrap();
    let mut nano = File::create(inbox.join("nano.yml")).unwrap();
    nano.write_all(text.as_bytes()).unwrap();
    nano.sync_all().unwrap();
    drop(nano);
    fs::remove_file(inbox.join(".nano.yml.swp")).unwrap();
    // emacs: a dangling link as its lock, a backup, a temporary file renamed over.
    std::os::unix::fs::symlink("ana@host.1:2", inbox.join(".#emacs.yml")).unwrap();
    fs::write(inbox.join("#emacs.yml#"), &text).unwrap();
    fs::write(inbox.join("emacs.yml.tmp"), &text).unwrap();
    fs::rename(inbox.join("emacs.yml.tmp"), inbox.join("emacs.yml")).unwrap();
    fs::remove_file(inbox.join(".#emacs.yml")).unwrap();
    fs::remove_file(inbox.join("#emacs.yml#")).unwrap();
    // A hard link to a file elsewhere.
    let elsewhere = world.path().join("elsewhere.yml");
    fs::write(&elsewhere, &text).unwrap();
    fs::hard_link(&elsewhere, inbox.join("hard.yml")).unwrap();
    for name in ["vim.yml", "nano.yml", "emacs.yml", "hard.yml"] {
        assert_eq!(world.outcome(name)["status"], "succeeded", "{name}");
    }
    world.ops_do(&["fetch"]).expect(0);
    assert_eq!(world.recorded("HEAD").len(), 4);
    assert_eq!(fs::read_to_string(elsewhere).unwrap(), text);
    daemon.stop();
    world.sound();
}

#[test]
fn five_hundred_at_once() {
    let world = World::new("workers: 8\n");
    let daemon = Daemon::start(&world);
    for n in 0..500 {
        world.drop_in(&format!("{n:03}.yml"), &ask("ok", &format!("on: r{}", n % 50)));
    }
    eventually("all are recorded", || world.recorded("HEAD").len() == 500);
    let good = world.recorded("HEAD").into_values().filter(|s| s["status"] == "succeeded").count();
    assert_eq!(good, 500);
    let starts: usize =
        (0..50).map(|n| world.lines(&format!("r{n}")).iter().filter(|l| l.starts_with("start")).count()).sum();
    assert_eq!(starts, 500);
    daemon.stop();
    world.sound();
}
