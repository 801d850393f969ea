//! Takes that are cut short at every step, with real files.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;

use super::*;
use crate::status::{RequestedBy, State};
use crate::time::Time;

struct World {
    _dir: tempfile::TempDir,
    root: PathBuf,
    runs: Runs,
}

const NAME: &str = "a.yml";

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("repo");
    fs::create_dir_all(root.join("requests")).unwrap();
    let runs = Runs::new(&root, dir.path().join("aside"), "ops-1");
    World { _dir: dir, root, runs }
}

fn id(n: u8) -> RunId {
    RunId::new(Time::from_millis(1_763_900_000_000), [n; 10])
}

fn status(n: u8) -> Status {
    Status::taken(id(n), NAME.into(), Time::from_millis(1_763_900_000_000), "ops-1".into(), RequestedBy::default())
}

impl World {
    fn path(&self) -> PathBuf {
        self.root.join("requests").join(NAME)
    }

    fn drop_request(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }

    fn files(&self, n: u8) -> BTreeSet<String> {
        let entries = fs::read_dir(self.runs.folder(id(n)));
        entries.map_or_else(|_| BTreeSet::new(), |e| e.map(|e| e.unwrap().file_name().into_string().unwrap()).collect())
    }

    fn check_files(&self) {
        assert_eq!(self.files(1), BTreeSet::from([REQUEST.to_owned(), STATUS.to_owned()]));
    }

    fn restart(&self) -> Vec<Leftover> {
        let left = self.runs.unfinished(&|_| false).unwrap();
        assert_eq!(self.runs.unfinished(&|_| false).unwrap(), left, "a second restart finds the same");
        left
    }

    /// The request is in the inbox or a run, never both and never neither.
    fn check_once(&self, text: &str, expect_run: bool) {
        let left = self.restart();
        assert_eq!((left.len(), self.path().exists()), (usize::from(expect_run), !expect_run));
        if expect_run {
            assert_eq!(left[0].content, Content::Request);
            assert_eq!(left[0].status.status, State::Queued);
            assert_eq!(self.runs.request_bytes(id(1)).unwrap().unwrap(), text.as_bytes());
            self.runs.release(id(1));
            self.check_files();
        } else {
            assert_eq!(fs::read_to_string(self.path()).unwrap(), text);
            assert!(!self.runs.folder(id(1)).exists());
        }
    }
}

#[test]
fn a_request_is_taken_once() {
    let world = world();
    world.drop_request("kind: x\n");
    let peeked = world.runs.peek(OsStr::new(NAME)).unwrap();
    let taken = world.runs.take(OsStr::new(NAME), &status(1), Some(&peeked.stamp), true).unwrap();
    assert_eq!(taken, Taken::Request(peeked.bytes));
    assert_eq!(world.runs.read_status(id(1)).unwrap(), Some(status(1)));
    assert!(matches!(world.runs.take(OsStr::new(NAME), &status(2), None, true), Err(RunsError::Gone(_))));
    world.drop_request("kind: y\n");
    assert!(matches!(world.runs.take(OsStr::new(NAME), &status(1), None, true), Err(RunsError::Exists(_))));
    assert!(world.path().exists() && !world.runs.folder(id(2)).exists());
    assert!(world.runs.unfinished(&|_| true).unwrap().is_empty());
    fs::remove_file(world.path()).unwrap();
    world.check_once("kind: x\n", true);
}

#[test]
fn a_crash_at_any_step_loses_and_doubles_nothing() {
    type Step = fn(&World);
    let prepare: Step = |w| w.runs.prepare(&status(1)).unwrap();
    let capture: Step = |w| w.runs.capture(OsStr::new(NAME), id(1), TAKEN).unwrap();
    let folder: Step = |w| fs::create_dir_all(w.runs.folder(id(1))).unwrap();
    let half: Step = |w| fs::write(w.runs.folder(id(1)).join(".status.json.new"), "{\"ver").unwrap();
    let place: Step = |w| fs::create_dir(w.runs.folder(id(1)).join(TAKEN)).unwrap();
    let half_copy: Step = |w| fs::write(w.runs.folder(id(1)).join(".request.yml.new"), "ki").unwrap();
    let copied: Step = |w| fs::write(w.runs.folder(id(1)).join(REQUEST), "kind: x\n").unwrap();
    let original: Step = |w| fs::remove_file(w.runs.folder(id(1)).join(TAKEN).join(NAME)).unwrap();
    for (steps, is_run) in [
        (vec![folder], false),
        (vec![folder, half], false),
        (vec![prepare], false),
        (vec![prepare, place], false),
        (vec![prepare, capture], true),
        (vec![prepare, capture, half_copy], true),
        (vec![prepare, capture, copied], true),
        (vec![prepare, capture, copied, original], true),
    ] {
        let world = world();
        world.drop_request("kind: x\n");
        steps.iter().for_each(|step| step(&world));
        world.check_once("kind: x\n", is_run);
    }
}

#[test]
fn a_torn_status_is_a_queued_run() {
    for torn in [&b""[..], b"{\"version\": 1,", b"\0\0\0\0", b"{}"] {
        for begun in [false, true] {
            let world = world();
            world.drop_request("kind: x\n");
            world.runs.take(OsStr::new(NAME), &status(1), None, true).unwrap();
            if begun {
                world.runs.begin_once(&status(1)).unwrap();
            }
            fs::write(world.runs.folder(id(1)).join(STATUS), torn).unwrap();
            let left = world.restart();
            assert_eq!((left[0].torn, &left[0].content), (begun, &Content::Request));
            let now = &left[0].status;
            assert_eq!((now.id, now.status, &*now.host), (id(1), State::Queued, "ops-1"));
            assert_eq!(now.request, if begun { "?" } else { NAME }, "the taken file still has its name");
        }
    }
}

#[test]
fn a_torn_copy_is_made_again() {
    let long = format!("kind: x\n# {}\n", "n".repeat(9_000));
    for left in [0, 4_096, 8_192] {
        let world = world();
        world.drop_request(&long);
        world.runs.take(OsStr::new(NAME), &status(1), None, false).unwrap();
        File::options().write(true).open(world.runs.folder(id(1)).join(REQUEST)).unwrap().set_len(left).unwrap();
        world.check_once(&long, true);
    }
}

#[test]
fn the_taken_file_is_kept_until_the_run_is_durable_without_it() {
    for end in ["recorded", "begun", "found recorded"] {
        let world = world();
        world.drop_request("kind: x\n");
        world.runs.take(OsStr::new(NAME), &status(1), None, false).unwrap();
        assert!(world.runs.folder(id(1)).join(TAKEN).join(NAME).exists());
        match end {
            "recorded" => world.runs.release(id(1)),
            "begun" => {
                world.runs.begin_once(&status(1)).unwrap();
                assert!(!world.runs.folder(id(1)).join(TAKEN).exists());
                world.runs.release(id(1));
            }
            _ => assert!(world.runs.unfinished(&|_| true).unwrap().is_empty()),
        }
        world.check_files();
    }
}

#[test]
fn a_run_that_began_once_is_known_to_have_begun() {
    let world = world();
    world.drop_request("kind: x\n");
    world.runs.take(OsStr::new(NAME), &status(1), None, true).unwrap();
    let now = |state, attempt| Status { status: state, attempt, ..status(1) };
    for attempt in [1, 2] {
        world.runs.begin_once(&now(State::Running, attempt)).unwrap();
        world.runs.write_status(&now(State::Failed, attempt)).unwrap();
        // Another file takes its place: what has two names must not be written to.
        fs::remove_file(world.runs.folder(id(1)).join(STATUS)).unwrap();
        fs::write(world.runs.folder(id(1)).join(STATUS), "").unwrap();
        let expect = Leftover { status: now(State::Running, attempt), torn: true, content: Content::Request };
        assert_eq!(world.restart(), [expect]);
    }
    world.runs.release(id(1));
    assert_eq!(world.files(1), BTreeSet::from([REQUEST.to_owned(), STATUS.to_owned()]));
}

#[test]
fn states_are_found_as_they_were() {
    for state in State::ALL {
        for has_request in [true, false] {
            let world = world();
            world.drop_request("kind: x\n");
            world.runs.take(OsStr::new(NAME), &status(1), None, true).unwrap();
            let now = Status { status: state, attempt: 1, ..status(1) };
            if state == State::Running {
                world.runs.begin_once(&now).unwrap();
            } else {
                world.runs.write_status(&now).unwrap();
            }
            if !has_request {
                world.runs.release(id(1));
                fs::remove_file(world.runs.folder(id(1)).join(REQUEST)).unwrap();
            }
            let content = if has_request { Content::Request } else { Content::Missing };
            assert_eq!(world.restart(), [Leftover { status: now, torn: false, content }]);
        }
    }
}

#[test]
fn a_status_is_written_where_the_folder_was_cleaned_away() {
    let world = world();
    let end = Status { status: State::Succeeded, rc: Some(0), ..status(1) };
    world.runs.write_status(&end).unwrap();
    assert_eq!(world.runs.read_status(id(1)).unwrap(), Some(end));
    assert_eq!(world.runs.read_status(id(2)).unwrap(), None);
}

#[test]
fn a_writer_that_keeps_the_file_open_cannot_change_the_copy() {
    let world = world();
    world.drop_request("kind: x\n");
    let mut writer = File::options().append(true).open(world.path()).unwrap();
    world.runs.take(OsStr::new(NAME), &status(1), None, true).unwrap();
    writer.write_all(b"evil: true\n").unwrap();
    world.restart();
    assert_eq!(world.runs.request_bytes(id(1)).unwrap().unwrap(), b"kind: x\n");
}

#[test]
fn a_second_name_of_the_file_stays() {
    let world = world();
    world.drop_request("kind: x\n");
    let other = world.root.join("other");
    fs::hard_link(world.path(), &other).unwrap();
    world.runs.take(OsStr::new(NAME), &status(1), None, true).unwrap();
    fs::write(&other, "kind: evil\n").unwrap();
    world.check_once("kind: x\n", true);
}

#[test]
fn a_file_that_changed_stays_in_the_inbox() {
    let world = world();
    world.drop_request("kind: x\n");
    let stamp = world.runs.peek(OsStr::new(NAME)).unwrap().stamp;
    world.drop_request("kind: longer\n");
    assert!(matches!(world.runs.take(OsStr::new(NAME), &status(1), Some(&stamp), true), Err(RunsError::Changed(_))));
    world.check_once("kind: longer\n", false);
    // Changed between the look and the rename.
    world.runs.prepare(&status(1)).unwrap();
    world.runs.capture(OsStr::new(NAME), id(1), TAKEN).unwrap();
    assert!(matches!(world.runs.keep(id(1), Some(&stamp), true), Err(RunsError::Changed(_))));
    world.check_once("kind: longer\n", false);
}

#[test]
fn odd_files_are_set_aside_and_never_followed() {
    type Make = fn(&Path);
    let link: Make = |p| symlink("/etc/passwd", p).unwrap();
    let large: Make = |p| File::create(p).unwrap().set_len(1 << 40).unwrap();
    let just: Make = |p| File::create(p).unwrap().set_len(crate::inbox::MAX_REQUEST + 1).unwrap();
    let folder: Make = |p| fs::create_dir(p).unwrap();
    let fifo: Make = |p| nix::unistd::mkfifo(p, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for (make, odd) in [
        (link, Odd::Symlink),
        (large, Odd::TooLarge { bytes: 1 << 40 }),
        (just, Odd::TooLarge { bytes: (1 << 20) + 1 }),
        (folder, Odd::NotRegular),
        (fifo, Odd::NotRegular),
    ] {
        for crash in [false, true] {
            let world = world();
            make(&world.path());
            assert!(matches!(world.runs.peek(OsStr::new(NAME)), Err(RunsError::Odd(_, o)) if o == odd));
            if crash {
                world.runs.prepare(&status(1)).unwrap();
                world.runs.capture(OsStr::new(NAME), id(1), TAKEN).unwrap();
            } else {
                let Taken::Aside { odd: seen, path } =
                    world.runs.take(OsStr::new(NAME), &status(1), None, true).unwrap()
                else {
                    panic!("kept {odd:?}");
                };
                assert!(seen == odd && path.ends_with(NAME) && path.symlink_metadata().is_ok());
            }
            let left = world.restart();
            assert!(
                matches!(&left[0].content, Content::Aside { odd: o, path } if *o == odd && path.starts_with(&world.runs.aside))
            );
            assert!(left[0].status == status(1) && world.path().symlink_metadata().is_err());
            assert_eq!(world.files(1), BTreeSet::from([STATUS.to_owned()]));
        }
    }
}

#[test]
fn a_file_that_may_not_be_read_is_set_aside() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = world();
    world.drop_request("kind: x\n");
    fs::set_permissions(world.path(), fs::Permissions::from_mode(0o0)).unwrap();
    let taken = world.runs.take(OsStr::new(NAME), &status(1), None, true).unwrap();
    if nix::unistd::geteuid().is_root() {
        assert_eq!(taken, Taken::Request(b"kind: x\n".to_vec()));
    } else {
        assert!(matches!(taken, Taken::Aside { odd: Odd::Unreadable, .. }), "{taken:?}");
        assert!(matches!(world.restart()[0].content, Content::Aside { odd: Odd::Unreadable, .. }));
    }
}

#[test]
fn the_state_folder_may_be_on_another_file_system() {
    let shm = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let world = world();
    let is_other =
        Stamp::of(&fs::metadata(shm.path()).unwrap()).dev != Stamp::of(&fs::metadata(&world.root).unwrap()).dev;
    let runs = Runs::new(&world.root, shm.path().join("aside"), "ops-1");
    File::create(world.path()).unwrap().set_len(1 << 40).unwrap();
    let Taken::Aside { path, .. } = runs.take(OsStr::new(NAME), &status(1), None, true).unwrap() else {
        panic!("kept")
    };
    assert_eq!(path.starts_with(&world.root), is_other);
    let left = runs.unfinished(&|_| false).unwrap();
    assert!(matches!(&left[0].content, Content::Aside { path: p, .. } if *p == path));
}

#[test]
fn names_are_one_component() {
    let world = world();
    fs::write(world.root.join("secret"), "x").unwrap();
    for bad in ["", ".", "..", "../secret", "/etc/passwd", "a/b.yml", "./a.yml", "a.yml/"] {
        let name = OsStr::new(bad);
        assert!(matches!(world.runs.peek(name), Err(RunsError::BadName(_))), "{bad}");
        assert!(matches!(world.runs.take(name, &status(1), None, true), Err(RunsError::BadName(_))), "{bad}");
        assert!(matches!(world.runs.put_back(name, id(1)), Err(RunsError::BadName(_))), "{bad}");
    }
    for (n, good) in [&b"\xff\xfe.yml"[..], b"a\n\x1b[31m.yml", b"--upload-pack=x.yml", &[b'x'; 255]].iter().enumerate()
    {
        let name = OsStr::from_bytes(good);
        fs::write(world.root.join("requests").join(name), "kind: x\n").unwrap();
        let taken = world.runs.take(name, &status(n as u8), None, true).unwrap();
        assert_eq!(taken, Taken::Request(b"kind: x\n".to_vec()));
    }
}

#[test]
fn the_inbox_itself_is_not_followed_elsewhere() {
    let world = world();
    let elsewhere = world.root.join("elsewhere");
    fs::rename(world.root.join("requests"), &elsewhere).unwrap();
    fs::write(elsewhere.join(NAME), "kind: x\n").unwrap();
    symlink(&elsewhere, world.root.join("requests")).unwrap();
    assert!(world.runs.take(OsStr::new(NAME), &status(1), None, true).is_err());
    assert!(elsewhere.join(NAME).exists() && !world.runs.folder(id(1)).exists());
}

#[test]
fn a_returned_copy_is_removed_and_nothing_else() {
    let world = world();
    world.drop_request("kind: x\n");
    world.runs.take(OsStr::new(NAME), &status(1), None, true).unwrap();
    world.drop_request("kind: x\n");
    assert!(world.runs.put_back(OsStr::new(NAME), id(1)).unwrap());
    assert!(!world.runs.put_back(OsStr::new(NAME), id(1)).unwrap());
    world.drop_request("kind: z\n");
    assert!(!world.runs.put_back(OsStr::new(NAME), id(1)).unwrap());
    assert!(world.path().exists());
    // A newer file came between the look and the capture, and then the machine died.
    world.runs.capture(OsStr::new(NAME), id(1), BACK).unwrap();
    assert_eq!(world.restart().len(), 1);
    assert_eq!(fs::read_to_string(world.path()).unwrap(), "kind: z\n");
    world.runs.release(id(1));
    world.check_files();
}

#[test]
fn strangers_in_processed_are_left_alone() {
    let world = world();
    let processed = world.root.join("processed");
    fs::create_dir_all(processed.join("notes")).unwrap();
    fs::create_dir_all(processed.join(id(3).to_string()).join("mine")).unwrap();
    fs::create_dir_all(processed.join(id(171).to_string().to_uppercase())).unwrap();
    fs::write(processed.join(".gitkeep"), "").unwrap();
    symlink("/etc", processed.join(id(4).to_string())).unwrap();
    assert!(world.restart().is_empty());
    assert!(processed.join(id(3).to_string()).join("mine").exists() && processed.join("notes").exists());
    assert!(processed.join(id(171).to_string().to_uppercase()).exists());
}

/// The repository under a path of `length` bytes: what goes beyond the system's 4,095 cannot be written, and shorter
/// names beside it can.
fn deep(length: usize) -> World {
    let dir = tempfile::tempdir().unwrap();
    let mut root = dir.path().to_owned();
    while root.as_os_str().len() < length {
        let left = length - root.as_os_str().len() - 1;
        // Nothing may be left over that one more separator could not fill.
        root.push("d".repeat(if left > 202 { 200 } else { left }));
    }
    assert_eq!(root.as_os_str().len(), length);
    fs::create_dir_all(root.join("requests")).unwrap();
    let runs = Runs::new(&root, dir.path().join("aside"), "ops-1");
    World { _dir: dir, root, runs }
}

#[test]
fn a_take_that_fails_leaves_the_request_in_the_inbox() {
    let long = format!("{}.yml", "n".repeat(96));
    // The status cannot be written; the taken file, renamed already, cannot be read.
    for (length, name) in [(4_034, NAME), (3_960, long.as_str())] {
        let mut world = deep(length);
        fs::write(world.root.join("requests").join(name), "kind: x\n").unwrap();
        let taken = world.runs.take(OsStr::new(name), &status(1), None, true);
        assert!(matches!(taken, Err(RunsError::Io { .. })), "{taken:?}");
        assert_eq!(fs::read_to_string(world.root.join("requests").join(name)).unwrap(), "kind: x\n");
        assert!(!world.runs.folder(id(1)).exists() && world.runs.is_hollow(id(1)));
        // The trouble is over: the same request is taken as the same run.
        let short = world._dir.path().join("short");
        fs::rename(&world.root, &short).unwrap();
        world.runs = Runs::new(&short, world._dir.path().join("aside"), "ops-1");
        let taken = world.runs.take(OsStr::new(name), &status(1), None, true).unwrap();
        assert_eq!(taken, Taken::Request(b"kind: x\n".to_vec()));
        assert!(!world.runs.is_hollow(id(1)));
    }
}

#[test]
fn a_failed_take_does_not_replace_a_newer_request() {
    let world = world();
    world.drop_request("kind: x\n");
    world.runs.prepare(&status(1)).unwrap();
    world.runs.capture(OsStr::new(NAME), id(1), TAKEN).unwrap();
    world.drop_request("kind: newer\n");
    world.runs.undo(id(1));
    assert_eq!(fs::read_to_string(world.path()).unwrap(), "kind: newer\n");
    assert_eq!(world.restart()[0].content, Content::Request, "the older one is a run after a restart");
}

#[test]
fn what_a_failed_take_could_not_remove_is_no_run() {
    let world = world();
    world.drop_request("kind: x\n");
    let folder = world.runs.folder(id(1));
    fs::create_dir_all(folder.join(TAKEN)).unwrap();
    fs::write(folder.join(".status.json.new"), "{").unwrap();
    assert!(world.runs.is_hollow(id(1)));
    world.runs.take(OsStr::new(NAME), &status(1), None, true).unwrap();
    world.runs.release(id(1));
    world.check_files();
}

#[test]
fn a_request_that_was_cleaned_away_is_written_again() {
    let world = world();
    world.runs.replace_request(id(1), b"ki").unwrap();
    world.runs.replace_request(id(1), b"kind: x\n").unwrap();
    assert_eq!(world.runs.request_bytes(id(1)).unwrap().unwrap(), b"kind: x\n");
    assert_eq!(world.files(1), BTreeSet::from([REQUEST.to_owned()]));
}
