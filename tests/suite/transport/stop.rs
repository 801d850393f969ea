//! A remote that never answers: every operation ends at its deadline, with the daemon that is told to stop, and with the
//! one that is killed.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::{TcpListener, TcpStream};

use nix::sys::signal::Signal;

use crate::servers::programs;
use crate::world::{Daemon, World, alive, ask, children, eventually};

/// Whoever connects is let in and never answered.
struct Silent(TcpListener);

impl Silent {
    fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").unwrap())
    }

    fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    /// The next one who has said something: a child is at work now.
    fn called(&self) -> TcpStream {
        let (mut stream, _) = self.0.accept().unwrap();
        assert!(stream.read(&mut [0; 512]).unwrap() > 0);
        stream
    }
}

/// Nobody holds the other end any more.
#[track_caller]
fn hung_up(mut stream: TcpStream) {
    stream.set_read_timeout(Some(crate::world::PATIENCE)).unwrap();
    let mut sink = [0; 4096];
    loop {
        match stream.read(&mut sink) {
            Ok(0) => return,
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return,
            Err(e) => panic!("somebody still waits for an answer: {e}"),
        }
    }
}

/// A daemon whose first fetch hangs, with what it has started.
fn hanging(world: &World, silent: &Silent, url: &str) -> (Daemon, TcpStream, Vec<i32>) {
    world.git(&world.ops(), &["remote", "set-url", "origin", url]);
    let daemon = Daemon::spawn(world, &["--no-tui"]);
    let called = silent.called();
    let git = |pid: &i32| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.starts_with(b"dispatcher"));
    let mut found: Vec<i32> = children(daemon.pid()).into_iter().filter(git).collect();
    let mut at = 0;
    while at < found.len() {
        found.extend(children(found[at]));
        at += 1;
    }
    assert!(!found.is_empty());
    (daemon, called, found)
}

/// Each way to a remote on the network.
fn each_way(check: impl Fn(&mut World, &Silent, &str)) {
    for way in ["https://127.0.0.1:PORT/ops.git", "ssh://git@127.0.0.1:PORT/ops.git"] {
        if way.starts_with("ssh") && programs(["ssh"]).is_none() {
            continue;
        }
        // Far more than the patience of a test.
        let mut world = World::new("git_timeout: 1h\n");
        let silent = Silent::start();
        check(&mut world, &silent, &way.replace("PORT", &silent.port().to_string()));
    }
}

#[test]
fn a_stopped_daemon_ends_what_it_has_started() {
    each_way(|world, silent, url| {
        let (daemon, called, started) = hanging(world, silent, url);
        daemon.signal(Signal::SIGTERM);
        daemon.ended();
        hung_up(called);
        assert_eq!(started.into_iter().filter(|&pid| alive(pid)).collect::<Vec<_>>(), [0; 0], "{url}");
        assert_eq!(world.at_home(), [0; 0], "{url}");
    });
}

#[test]
fn who_insists_does_not_wait_for_a_push_that_hangs() {
    each_way(|world, silent, url| {
        let mut daemon = Daemon::start(world);
        world.git(&world.ops(), &["remote", "set-url", "origin", url]);
        world.drop_in("one.yml", &ask("ok", "on: web"));
        let called = silent.called();
        eventually("the daemon ends", || {
            daemon.signal(Signal::SIGTERM);
            !daemon.lives()
        });
        assert_eq!(daemon.ended(), 0);
        hung_up(called);
        assert_eq!(world.at_home(), [0; 0], "{url}");
        world.git(&world.ops(), &["remote", "set-url", "origin", world.remote().to_str().unwrap()]);
        world.ops_do(&["--once", "--no-tui"]).expect(0);
        world.sound();
    });
}

#[test]
fn a_killed_daemon_leaves_nothing_behind() {
    each_way(|world, silent, url| {
        let temp = world.path().join("temp");
        fs::create_dir(&temp).unwrap();
        world.set_env("TMPDIR", temp.to_str().unwrap());
        let (daemon, called, started) = hanging(world, silent, url);
        daemon.kill();
        hung_up(called);
        eventually("all of it ends", || !started.iter().any(|&pid| alive(pid)) && world.at_home().is_empty());
        let left = || fs::read_dir(&temp).unwrap().count();
        assert_eq!(left(), usize::from(url.starts_with("https:")), "what only the next start can clear away: {url}");
        world.git(&world.ops(), &["remote", "set-url", "origin", world.remote().to_str().unwrap()]);
        world.ops_do(&["--once", "--no-tui"]).expect(0);
        assert_eq!(left(), 0, "{url}");
    });
}

#[test]
fn the_deadline_ends_it() {
    let world = World::new("git_timeout: 1s\n");
    let silent = Silent::start();
    let url = format!("https://127.0.0.1:{}/ops.git", silent.port());
    world.git(&world.ops(), &["remote", "set-url", "origin", &url]);
    let said = world.ops_do(&["selftest"]).expect(1);
    assert!(said.out.contains("[E0513] remote `origin` did not answer within 1s"), "{said:?}");
    hung_up(silent.called());
    assert_eq!(world.at_home(), [0; 0]);
}
