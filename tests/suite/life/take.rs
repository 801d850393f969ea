//! What stands in the way of taking a request: limits of the system, and what lies around the repository.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use crate::world::{Daemon, World, ask, eventually};

#[test]
fn a_request_that_cannot_be_kept_waits_in_the_inbox() {
    let world = World::new("");
    // No file may grow beyond 300 KiB, as on a disk that is nearly full.
    let daemon = Daemon::start_after(&world, "trap '' XFSZ; ulimit -S -f 600");
    let filler = "#".repeat(400 << 10);
    let id = "0196f3a1-7b2e-7c4d-9a10-0123456789ab";
    world.drop_in("own.yml", &format!("id: {id}\n{}{filler}\n", ask("ok", "on: web")));
    let inbox = world.ops().join("requests/own.yml");
    let stamp = || inbox.symlink_metadata().ok().map(|meta| (meta.ctime(), meta.ctime_nsec()));
    let dropped = stamp();
    // Moving a file there and back leaves its mark.
    eventually("it is back in the inbox", || {
        !world.ops().join("processed").join(id).exists() && stamp().is_some_and(|now| Some(now) != dropped)
    });
    world.drop_in("small.yml", &ask("ok", "on: web"));
    assert_eq!(world.outcome("small.yml")["status"], "succeeded");
    let lifted = Command::new("prlimit").args(["--pid", &daemon.pid().to_string(), "--fsize=unlimited"]).status();
    assert!(lifted.unwrap().success());
    let own = world.outcome("own.yml");
    assert_eq!((&own["status"], &own["id"]), (&"succeeded".into(), &id.into()), "{own}");
    daemon.stop();
    world.sound();
}

#[test]
fn a_strict_umask_keeps_no_handler_from_starting() {
    for umask in ["027", "077"] {
        let world = World::new("");
        let daemon = Daemon::start_after(&world, &format!("umask {umask}"));
        world.drop_in("a.yml", &ask("ok", "on: web"));
        let status = world.outcome("a.yml");
        assert_eq!(status["status"], "succeeded", "umask {umask}: {status}");
        daemon.stop();
        world.sound();
    }
}

#[test]
fn folders_of_handlers_are_not_followed_elsewhere() {
    for name in ["handlers", "schema"] {
        let world = World::new("");
        let daemon = Daemon::start(&world);
        let (own, elsewhere) = (world.ops().join(name), world.path().join("elsewhere"));
        fs::rename(&own, &elsewhere).unwrap();
        fs::write(elsewhere.join("index.yml"), "secret").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &own).unwrap();
        world.drop_in("a.yml", &ask("ok", "on: web"));
        assert_eq!(world.outcome("a.yml")["status"], "succeeded", "the last good ones are in force");
        world.drop_in("b.yml", &ask("ok", "on: web"));
        world.outcome("b.yml");
        let told = fs::read_to_string(&daemon.output).unwrap();
        assert_eq!(told.matches("E0206").count(), 1, "{told}");
        daemon.stop();
        let started = world.ops_do(&["--once", "--no-tui"]).expect(78);
        assert!(started.err.contains("E0206"), "{started:?}");
    }
}

#[test]
fn a_crash_does_not_turn_other_bytes_into_a_duplicate() {
    let world = World::new("");
    let id = "0196f3a1-7b2e-7c4d-9a10-0123456789ab";
    let text = format!("id: {id}\n{}", ask("ok", "on: web"));
    world.drop_in("a.yml", &text);
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    assert_eq!(world.outcome("a.yml")["id"], id);
    // Taken, and killed before anything was concluded.
    for (fresh, text) in
        [("0196f3a1-7b2e-7c4d-9a10-00000000000a", text.clone()), ("0196f3a1-7b2e-7c4d-9a10-00000000000b", text + "#")]
    {
        let folder = world.ops().join("processed").join(fresh);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("request.yml"), text).unwrap();
    }
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    let recorded = world.recorded("HEAD");
    let fate = |id: &str| (recorded[id]["status"].clone(), recorded[id]["rc"].clone());
    assert_eq!(fate("0196f3a1-7b2e-7c4d-9a10-00000000000a"), ("duplicate".into(), 0.into()));
    assert_eq!(fate("0196f3a1-7b2e-7c4d-9a10-00000000000b"), ("rejected".into(), 65.into()));
    world.sound();
}

#[test]
fn a_queued_request_that_is_cleaned_away_is_started_with_its_bytes() {
    let world = World::new("");
    let gate = world.gate("a");
    let daemon = Daemon::start(&world);
    world.drop_in("a.yml", &ask("gate", "on: web, gate: a"));
    let open = gate.reached();
    let text = ask("ok", "on: web");
    world.drop_in("b.yml", &text);
    let id = world.until("b.yml", "waiting");
    fs::remove_file(world.ops().join("processed").join(&id).join("request.yml")).unwrap();
    drop(open);
    assert_eq!(world.outcome("b.yml")["status"], "succeeded");
    assert_eq!(world.git(&world.ops(), &["show", &format!("HEAD:processed/{id}/request.yml")]), text);
    daemon.stop();
    world.sound();
}

#[test]
fn a_second_daemon_with_a_state_folder_of_its_own_is_refused() {
    let world = World::new("");
    let daemon = Daemon::start(&world);
    let mut second = world.command(env!("CARGO_BIN_EXE_dispatcher"), &world.ops());
    for name in ["STATE_DIRECTORY", "RUNTIME_DIRECTORY"] {
        let own = world.path().join(name);
        fs::create_dir(&own).unwrap();
        second.env(name, own);
    }
    let output = second.args(["--once", "--no-tui"]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(75), "{told}");
    assert!(told.contains("E0703") && told.contains(&format!("process {}", daemon.pid())), "{told}");
    daemon.stop();
    world.sound();
}

#[test]
fn leftovers_end_before_their_folders_are_cleared_and_what_stays_is_a_warning() {
    let world = World::new("");
    let state = world.path().join("state-ops");
    let id = "0196f3a1-7b2e-7c4d-9a10-0123456789ab";
    let work = state.join("work").join(format!("{id}.1"));
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    fs::create_dir_all(&work).unwrap();
    // It fills its folder faster than that can be cleared.
    let script = "while :; do mkdir -p d; for n in 1 2 3 4 5 6 7 8; do : >d/$n.$$; done; done";
    let writer = |n: u32| {
        let mut command = world.command("sh", &work);
        command.args(["-c", script, &n.to_string()]).env("DISPATCH_ID", id).stderr(std::process::Stdio::null());
        command.spawn().unwrap()
    };
    let writers: Vec<_> = (0..4).map(writer).collect();
    let said = world.ops_do(&["--once", "--no-tui"]).expect(0);
    for mut writer in writers {
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&writer.wait().unwrap()), Some(9), "{said:?}");
    }
    assert!(!work.exists());
    // What cannot be cleared keeps nobody from starting.
    fs::remove_dir(state.join("work")).unwrap();
    fs::write(state.join("work"), "").unwrap();
    let said = world.ops_do(&["--once", "--no-tui"]).expect(0);
    assert!(format!("{said:?}").contains("E0704"), "{said:?}");
    world.sound();
}

#[test]
fn an_inbox_that_cannot_be_read_is_not_empty() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new("sandbox: {allow_root: true}\n");
    world.drop_in("a.yml", &ask("ok", "on: web"));
    let inbox = world.ops().join("requests");
    fs::set_permissions(&inbox, fs::Permissions::from_mode(0o000)).unwrap();
    let program = env!("CARGO_BIN_EXE_dispatcher");
    // Root reads everything, unless it gives up that right.
    let mut command = match nix::unistd::geteuid().is_root() {
        true => {
            let mut command = world.command("setpriv", &world.ops());
            command.args(["--bounding-set", "-dac_override,-dac_read_search", program]);
            command
        }
        false => world.command(program, &world.ops()),
    };
    let output = command.args(["--once", "--no-tui"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), told.matches("E0152").count()), (Some(75), 1), "{told}");
    fs::set_permissions(&inbox, fs::Permissions::from_mode(0o755)).unwrap();
    world.ops_do(&["--once", "--no-tui"]).expect(0);
    assert_eq!(world.outcome("a.yml")["status"], "succeeded");
    world.sound();
}
