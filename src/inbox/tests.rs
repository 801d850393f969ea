//! The inbox over real folders: with inotify and on scans alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, unbounded};

use super::*;

const LONG: Duration = Duration::from_secs(30);

struct World {
    dir: tempfile::TempDir,
    folder: PathBuf,
    inbox: Inbox,
    notices: Receiver<Notice>,
}

/// With inotify, scans are so rare that only hints can find something; without, they are all there is.
fn settings(folder: &std::path::Path, watch: bool) -> Settings {
    let scan_interval = if watch { Duration::from_secs(3_600) } else { Duration::from_millis(50) };
    Settings { watch, ..Settings::new(folder, scan_interval) }
}

fn world_with(change: impl FnOnce(&mut Settings), fill: impl FnOnce(&std::path::Path)) -> World {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("requests");
    fs::create_dir(&folder).unwrap();
    fill(&folder);
    let mut settings = settings(&folder, true);
    change(&mut settings);
    let (to, notices) = unbounded();
    let inbox = Inbox::start(settings, to).unwrap();
    World { dir, folder, inbox, notices }
}

fn world(watch: bool) -> World {
    let world = world_with(|s| *s = settings(&s.folder, watch), |_| ());
    world.until_scan(&[]);
    world
}

impl World {
    fn next(&self) -> Notice {
        self.notices.recv_timeout(LONG).unwrap()
    }

    /// The names of the next `count` candidates.
    fn offers(&self, count: usize) -> Vec<OsString> {
        let mut names = Vec::new();
        while names.len() < count {
            match self.next() {
                Notice::Candidate { name, .. } => names.push(name),
                Notice::ScanDone { .. } => {}
                Notice::Warn(warning) => panic!("{warning:?}"),
            }
        }
        names
    }

    /// All notices up to the end of the scan with `tokens`.
    fn until_scan(&self, tokens: &[u64]) -> Vec<Notice> {
        let mut seen = Vec::new();
        loop {
            match self.next() {
                Notice::ScanDone { tokens: t, .. } if t == tokens => return seen,
                Notice::ScanDone { .. } => {}
                notice => seen.push(notice),
            }
        }
    }

    /// Everything that an asked-for scan brings to light, hints included.
    fn rescan(&self) -> Vec<Notice> {
        let (done, is_done) = bounded(1);
        let token = self.inbox.rescan(done);
        let seen = self.until_scan(&[token]);
        is_done.recv_timeout(LONG).unwrap();
        seen
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).unwrap();
    }
}

fn names(notices: &[Notice]) -> Vec<&OsStr> {
    notices.iter().filter_map(|n| if let Notice::Candidate { name, .. } = n { Some(&**name) } else { None }).collect()
}

fn codes(notices: &[Notice]) -> Vec<&str> {
    notices.iter().filter_map(|n| if let Notice::Warn(w) = n { Some(w.code) } else { None }).collect()
}

#[test]
fn what_was_there_is_offered_in_order_of_names() {
    for watch in [true, false] {
        let fill = |folder: &std::path::Path| {
            for name in ["b.yml", "a.yaml", "10.yml", "9.yml", ".hidden.yml", "c.yml~", "d.yml.tmp", "e.part", "f.swp"]
            {
                fs::write(folder.join(name), "kind: x\n").unwrap();
            }
        };
        let world = world_with(|s| *s = settings(&s.folder, watch), fill);
        let seen = world.until_scan(&[]);
        assert_eq!(names(&seen), ["10.yml", "9.yml", "a.yaml", "b.yml"]);
        assert!(codes(&seen).is_empty() && world.rescan().is_empty(), "each once");
        world.inbox.forget(OsStr::new("9.yml"));
        assert_eq!(names(&world.rescan()), ["9.yml"]);
        fs::write(world.folder.join("b.yml"), "kind: other\n").unwrap();
        assert_eq!(world.offers(1), ["b.yml"]);
        fs::remove_file(world.folder.join("a.yaml")).unwrap();
        assert!(world.rescan().is_empty());
        world.write("a.yaml", "kind: x\n");
        assert_eq!(world.offers(1), ["a.yaml"], "the same name is a new request");
    }
}

#[test]
fn a_file_written_in_pieces_is_offered_when_it_is_closed() {
    let world = world(true);
    let mut file = File::create(world.folder.join("slow.yml")).unwrap();
    let started = Instant::now();
    for n in 0..20 {
        writeln!(file, "line: {n}").unwrap();
        // The writer's own pace is what is tested: pauses longer than the quiet time.
        std::thread::sleep(Duration::from_millis(270));
        assert!(names(&world.rescan()).is_empty(), "offered while it is being written");
    }
    assert!(started.elapsed() > Duration::from_secs(5));
    drop(file);
    let Notice::Candidate { name, stamp, odd: None } = world.next() else { panic!("something else") };
    assert_eq!(
        (name, stamp.size),
        (OsString::from("slow.yml"), fs::metadata(world.folder.join("slow.yml")).unwrap().len())
    );
}

#[test]
fn editors_save_one_complete_request() {
    for watch in [true, false] {
        let world = world(watch);
        world.write("a.yml", "kind: old\n");
        assert_eq!(world.offers(1), ["a.yml"]);
        let path = |name: &str| world.folder.join(name);
        let vim = || {
            world.write("4913", "");
            fs::remove_file(path("4913")).unwrap();
            world.write(".a.yml.swp", "swap");
            fs::rename(path("a.yml"), path("a.yml~")).unwrap();
            world.write("a.yml", "kind: vim\n");
            fs::remove_file(path("a.yml~")).unwrap();
            fs::remove_file(path(".a.yml.swp")).unwrap();
        };
        let nano = || {
            let mut file = File::options().write(true).truncate(true).open(path("a.yml")).unwrap();
            file.write_all(b"kind: ").unwrap();
            file.write_all(b"nano\n").unwrap();
        };
        let emacs = || {
            symlink("ana@ops-1.77", path(".#a.yml")).unwrap();
            fs::rename(path("a.yml"), path("a.yml~")).unwrap();
            world.write("a.yml", "kind: emacs-\n");
            fs::remove_file(path(".#a.yml")).unwrap();
        };
        let atomic = || {
            world.write(".a.yml.new", "kind: renamed-in\n");
            fs::rename(path(".a.yml.new"), path("a.yml")).unwrap();
        };
        let saves: [(&dyn Fn(), u64); 4] = [(&vim, 10), (&nano, 11), (&emacs, 13), (&atomic, 17)];
        for (save, size) in saves {
            save();
            let Notice::Candidate { stamp, odd: None, .. } = next_but_scans(&world) else { panic!("{size}") };
            assert_eq!(stamp.size, size);
            assert!(world.rescan().is_empty(), "{size} once");
        }
    }
}

fn next_but_scans(world: &World) -> Notice {
    loop {
        let notice = world.next();
        if !matches!(notice, Notice::ScanDone { .. }) {
            return notice;
        }
    }
}

#[test]
fn odd_things_are_warned_of_once_and_names_are_bytes() {
    for watch in [true, false] {
        let world = world(watch);
        let path = |name: &[u8]| world.folder.join(OsStr::from_bytes(name));
        nix::unistd::mkfifo(&path(b"fifo.yml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = UnixListener::bind(path(b"socket.yml")).unwrap();
        fs::create_dir(path(b"folder.yml")).unwrap();
        fs::create_dir(path(b"module")).unwrap();
        fs::write(path(b"module/.git"), "gitdir: x\n").unwrap();
        fs::write(path(b"README.md"), "hello\n").unwrap();
        symlink("/etc/passwd", path(b"link.yml")).unwrap();
        File::create(path(b"sparse.yml")).unwrap().set_len(1 << 40).unwrap();
        fs::write(path(b"just.yml"), vec![b'#'; 1 << 20]).unwrap();
        fs::write(path(b"\xff\xfe.yml"), "kind: x\n").unwrap();
        fs::write(path(b"a\n\x1b[31m.yml"), "kind: x\n").unwrap();
        fs::write(world.dir.path().join("source"), "kind: x\n").unwrap();
        fs::hard_link(world.dir.path().join("source"), path(b"hard.yml")).unwrap();
        let mut seen = Vec::new();
        while codes(&seen).len() < 5 || names(&seen).len() < 6 {
            seen.push(next_but_scans(&world));
        }
        seen.extend(world.rescan());
        let mut found = codes(&seen);
        found.sort_unstable();
        assert_eq!(found, ["E0145", "E0146", "E0146", "E0147", "E0147"]);
        let odd: BTreeMap<&[u8], Option<Odd>> = seen
            .iter()
            .filter_map(|notice| match notice {
                Notice::Candidate { name, odd, .. } => Some((name.as_bytes(), *odd)),
                _ => None,
            })
            .collect();
        assert_eq!(
            odd,
            BTreeMap::from([
                (&b"link.yml"[..], Some(Odd::Symlink)),
                (b"sparse.yml", Some(Odd::TooLarge { bytes: 1 << 40 })),
                (b"just.yml", None),
                (b"\xff\xfe.yml", None),
                (b"a\n\x1b[31m.yml", None),
                (b"hard.yml", None),
            ])
        );
        assert!(path(b"fifo.yml").symlink_metadata().is_ok() && world.rescan().is_empty());
    }
}

#[test]
fn ten_thousand_files_through_a_tiny_queue_are_all_offered_once() {
    for watch in [true, false] {
        let world = world_with(|s| (s.watch, s.hints) = (watch, 4), |_| ());
        world.until_scan(&[]);
        let expect: BTreeSet<OsString> = (0..10_000).map(|n| OsString::from(format!("{n:05}.yml"))).collect();
        for name in &expect {
            fs::write(world.folder.join(name), "kind: x\n").unwrap();
        }
        let mut seen: Vec<OsString> = names(&world.rescan()).into_iter().map(OsStr::to_owned).collect();
        seen.extend(names(&world.rescan()).into_iter().map(OsStr::to_owned));
        assert_eq!(seen.len(), 10_000);
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), expect);
    }
}

#[test]
fn a_folder_that_is_deleted_and_made_again_is_watched_again() {
    for watch in [true, false] {
        let world = world(watch);
        fs::remove_dir_all(&world.folder).unwrap();
        let Notice::Warn(missing) = next_but_scans(&world) else { panic!("no warning") };
        assert_eq!(missing.code, "E0148");
        assert!(world.rescan().is_empty(), "warned once");
        fs::create_dir(&world.folder).unwrap();
        world.write("a.yml", "kind: x\n");
        assert_eq!(world.offers(1), ["a.yml"]);
        world.write("b.yml", "kind: x\n");
        assert_eq!(world.offers(1), ["b.yml"]);
        // Moved away, and a new one in its place at once.
        fs::rename(&world.folder, world.dir.path().join("old")).unwrap();
        fs::create_dir(&world.folder).unwrap();
        world.write("c.yml", "kind: x\n");
        let seen: Vec<Notice> = std::iter::repeat_with(|| next_but_scans(&world))
            .take_while(|n| names(std::slice::from_ref(n)) != ["c.yml"])
            .collect();
        assert!(seen.iter().all(|n| matches!(n, Notice::Warn(w) if w.code == "E0148")), "{seen:?}");
        fs::write(world.dir.path().join("old").join("d.yml"), "kind: x\n").unwrap();
        assert!(world.rescan().is_empty(), "the old folder is nobody's");
    }
}

#[test]
fn a_link_in_place_of_the_folder_is_not_followed() {
    let world = world(true);
    fs::rename(&world.folder, world.dir.path().join("real")).unwrap();
    fs::write(world.dir.path().join("real").join("a.yml"), "kind: x\n").unwrap();
    symlink("real", &world.folder).unwrap();
    let seen = world.rescan();
    assert!(names(&seen).is_empty());
    assert_eq!(codes(&seen), ["E0148"]);
}

#[test]
fn it_ends_although_nobody_takes_its_notices() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..10 {
        fs::write(dir.path().join(format!("{n}.yml")), "kind: x\n").unwrap();
    }
    let (to, notices) = bounded(1);
    let inbox = Inbox::start(settings(dir.path(), true), to).unwrap();
    assert!(notices.recv_timeout(LONG).is_ok());
    let (done, is_done) = bounded(1);
    inbox.rescan(done);
    inbox.forget(OsStr::new("1.yml"));
    drop(inbox);
    assert!(is_done.recv_timeout(LONG).is_err(), "an unanswered question ends with the inbox");
}

#[test]
fn a_folder_that_cannot_be_read_is_not_an_empty_one() {
    use std::os::unix::fs::{PermissionsExt as _, chown};
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let folder = dir.path().join("requests");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("a.yml"), "kind: x\n").unwrap();
    let mode = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o000);
    let (to, notices) = unbounded();
    let settings = settings(&folder, false);
    let inbox = std::thread::spawn(move || {
        // Root reads everything; the thread of the inbox inherits what this one may.
        if nix::unistd::geteuid().is_root() {
            chown(&settings.folder, Some(65_534), Some(65_534)).unwrap();
            nix::unistd::setfsuid(65_534.into());
        }
        Inbox::start(settings, to).unwrap()
    });
    let inbox = inbox.join().unwrap();
    let (done, is_done) = bounded(1);
    let token = inbox.rescan(done);
    let mut warned = 0;
    let mut failed = 0;
    while failed < 3 {
        match notices.recv_timeout(LONG).unwrap() {
            Notice::Warn(warning) if warning.code == "E0152" => warned += 1,
            // Without leave to read it, the folder cannot be watched either.
            Notice::Warn(warning) => assert_eq!(warning.code, "E0149"),
            Notice::ScanDone { tokens, failed: true } => failed += usize::from(tokens == [token]),
            notice => panic!("{notice:?}"),
        }
    }
    assert!(warned == 1 && is_done.is_empty());
    mode(0o755);
    let mut seen = Vec::new();
    loop {
        match notices.recv_timeout(LONG).unwrap() {
            Notice::ScanDone { tokens, failed: false } if tokens == [token] => break,
            Notice::ScanDone { .. } => {}
            notice => seen.push(notice),
        }
    }
    is_done.recv_timeout(LONG).unwrap();
    assert_eq!(names(&seen), ["a.yml"]);
}
