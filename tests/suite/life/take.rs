//! What stands in the way of taking a request: limits of the system, and what lies around the repository.

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
