//! A server and clients over real sockets.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::*;
use crate::command::{Answer, Command, PROTOCOL};
use crate::event::{Entry, Event};
use crate::request::RunId;
use crate::time::Time;

const LONG: Duration = Duration::from_secs(20);

struct World {
    _dir: tempfile::TempDir,
    path: PathBuf,
    server: Server,
    calls: Receiver<Call>,
}

fn world() -> World {
    watched().0
}

/// A server and those who watch.
fn watched() -> (World, Viewers) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("3f9a1c7e5b0e.sock");
    let (to, calls) = bounded(4);
    let viewers = Viewers::default();
    let server = Server::bind(&path, None, to, viewers.clone()).unwrap();
    (World { _dir: dir, path, server, calls }, viewers)
}

impl World {
    fn client(&self) -> Client {
        Client::connect(&self.path).unwrap()
    }

    /// Sends `line` as it is and reads one line.
    fn raw(&self, line: &[u8]) -> String {
        let mut stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let _ = stream.write_all(line);
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        answer
    }
}

fn wait() -> Command {
    Command::Wait { id: RunId::new(Time::from_millis(0), [1; 10]) }
}

/// Waits in another thread; its answer comes on the channel.
fn waiter(mut client: Client) -> Receiver<Result<Answer, AskError>> {
    let (to, from): (Sender<_>, _) = bounded(1);
    std::thread::spawn(move || to.send(client.ask(wait(), Some(LONG))));
    from
}

#[test]
fn commands_come_with_their_peer_and_answers_go_back() {
    let world = world();
    assert_eq!(std::fs::metadata(&world.path).unwrap().permissions().mode() & 0o777, 0o660);
    let commands = [
        Command::Status,
        Command::Cancel { id: RunId::new(Time::from_millis(0), [1; 10]), reason: Some("no\n\u{1b}".into()) },
        Command::Pause { reason: None },
        Command::Resume { side: None },
        Command::Drain,
        Command::Fetch,
        wait(),
    ];
    let calls = world.calls.clone();
    let daemon = std::thread::spawn(move || {
        let seen: Vec<Call> = calls.iter().take(7).inspect(|c| c.reply.send(Answer::ok(1.into())).unwrap()).collect();
        seen
    });
    let mut client = world.client();
    for command in &commands {
        assert_eq!(client.ask(command.clone(), Some(LONG)).unwrap(), Answer::ok(1.into()));
    }
    let seen = daemon.join().unwrap();
    assert_eq!(seen.iter().map(|c| c.command.clone()).collect::<Vec<_>>(), commands);
    assert!(seen.iter().all(|c| c.peer.uid == nix::unistd::geteuid().as_raw() && !c.peer.user.is_empty()));
}

#[test]
fn other_versions_and_bad_lines_are_told_so() {
    let world = world();
    for (line, code, exit) in [
        (&b"{\"v\":2,\"cmd\":\"status\"}\n"[..], "E0709", 76),
        (b"{\"v\":99,\"cmd\":\"fly\",\"x\":1}\n", "E0709", 76),
        (b"{\"v\":2,\"cmd\":\"watch\"}\n", "E0709", 76),
        (b"{\"cmd\":\"status\"}\n", "E0706", 65),
        (b"{\"v\":1,\"cmd\":\"fly\"}\n", "E0706", 65),
        (b"{\"v\":1,\"cmd\":\"pause\",\"reason\":null,\"by\":\"x\"}\n", "E0706", 65),
        (b"{\"v\":1,\"cmd\":\"wait\",\"id\":\"../../x\"}\n", "E0706", 65),
        (b"\xff\xfe\n", "E0706", 65),
        (b"\n", "E0706", 65),
        (&[b'x'; 70 << 10], "E0706", 65),
    ] {
        match serde_json::from_str(&world.raw(line)).unwrap() {
            Answer::Error { v, code: seen, exit: left, .. } => assert_eq!((v, &*seen, left), (PROTOCOL, code, exit)),
            answer @ Answer::Ok { .. } => panic!("{answer:?}"),
        }
    }
    assert!(world.calls.is_empty());
}

#[test]
fn a_wait_lasts_until_its_run_ends_or_its_client_leaves() {
    let world = world();
    let answer = waiter(world.client());
    let first = world.calls.recv_timeout(LONG).unwrap();
    let mut leaving = UnixStream::connect(&world.path).unwrap();
    leaving.write_all(b"{\"v\":1,\"cmd\":\"wait\",\"id\":\"00000000-0000-7000-8000-000000000000\"}\n").unwrap();
    let second = world.calls.recv_timeout(LONG).unwrap();
    // One that only stopped sending still gets its answer.
    leaving.shutdown(std::net::Shutdown::Write).unwrap();
    second.reply.send(Answer::ok("half".into())).unwrap();
    let mut line = String::new();
    leaving.read_to_string(&mut line).unwrap();
    assert!(line.contains("half"), "{line}");

    let mut gone = UnixStream::connect(&world.path).unwrap();
    gone.write_all(b"{\"v\":1,\"cmd\":\"wait\",\"id\":\"00000000-0000-7000-8000-000000000000\"}\n").unwrap();
    let third = world.calls.recv_timeout(LONG).unwrap();
    drop(gone);
    let started = std::time::Instant::now();
    while third.reply.send_timeout(Answer::ok(3.into()), Duration::from_millis(10)).is_ok() {
        // The one place in the buffer may be taken before the hangup is seen.
        let _ = third.reply.send_timeout(Answer::ok(4.into()), LONG);
        assert!(started.elapsed() < LONG);
    }
    first.reply.send(Answer::ok(1.into())).unwrap();
    assert_eq!(answer.recv_timeout(LONG).unwrap().unwrap(), Answer::ok(1.into()));
}

#[test]
fn many_waiters_leave_room_for_questions_and_a_crowd_is_refused() {
    let world = world();
    let waiters: Vec<_> = (0..20).map(|_| waiter(world.client())).collect();
    let waits: Vec<Call> = (0..20).map(|_| world.calls.recv_timeout(LONG).unwrap()).collect();
    let silent: Vec<_> = (0..16).map(|_| UnixStream::connect(&world.path).unwrap()).collect();
    let Answer::Error { code, exit, .. } = world.client().ask(Command::Status, Some(LONG)).unwrap() else {
        panic!("the 17th was let in");
    };
    assert_eq!((&*code, exit), ("E0705", 75));
    drop(silent);
    for call in waits {
        call.reply.send(Answer::ok(0.into())).unwrap();
    }
    for waiter in waiters {
        assert_eq!(waiter.recv_timeout(LONG).unwrap().unwrap(), Answer::ok(0.into()));
    }
}

#[test]
fn a_daemon_that_forgets_or_stops_is_told_as_an_error() {
    let world = world();
    let answer = waiter(world.client());
    drop(world.calls.recv_timeout(LONG).unwrap());
    assert!(matches!(answer.recv_timeout(LONG).unwrap(), Ok(Answer::Error { exit: 69, .. })));
    let answer = waiter(world.client());
    let call = world.calls.recv_timeout(LONG).unwrap();
    let path = world.path.clone();
    drop(world.server);
    assert!(matches!(answer.recv_timeout(LONG).unwrap(), Ok(Answer::Error { exit: 69, .. })));
    drop(call);
    assert!(!path.exists());
    assert!(matches!(Client::connect(&path), Err(ConnectError::NotRunning { .. })));
}

#[test]
fn a_stale_socket_is_replaced() {
    let world = world();
    let before = std::fs::metadata(&world.path).unwrap().ino();
    let (to, calls) = bounded(1);
    let second = Server::bind(&world.path, None, to, Viewers::default()).unwrap();
    assert_ne!(std::fs::metadata(&world.path).unwrap().ino(), before);
    drop(world.server);
    assert!(world.path.exists(), "another's socket is not removed");
    let mut client = Client::connect(&world.path).unwrap();
    let daemon = std::thread::spawn(move || calls.recv().unwrap().reply.send(Answer::ok(2.into())).unwrap());
    assert_eq!(client.ask(Command::Status, Some(LONG)).unwrap(), Answer::ok(2.into()));
    daemon.join().unwrap();
    drop(second);
    let long = world.path.with_file_name("x".repeat(120));
    assert!(Server::bind(&long, None, bounded(1).0, Viewers::default()).is_err());
}

#[test]
fn a_client_has_deadlines() {
    let world = world();
    let mut client = world.client();
    assert!(matches!(client.ask(Command::Status, Some(Duration::from_millis(50))), Err(AskError::TimedOut)));
}

#[test]
fn the_mode_of_the_socket_is_the_permission() {
    let world = world();
    std::fs::set_permissions(&world.path, std::fs::Permissions::from_mode(0o0)).unwrap();
    match Client::connect(&world.path) {
        Ok(_) => assert!(nix::unistd::geteuid().is_root(), "only root may pass a closed mode"),
        Err(error) => {
            assert_eq!(error.exit(), 77);
            let text = error.diagnostic(std::path::Path::new("/srv/ops"), None).render();
            assert!(text.contains("mode 0000; you are "), "{text}");
        }
    }
}

#[test]
fn messages_say_what_to_do() {
    let path = PathBuf::from("/run/dispatcher/3f9a1c7e5b0e.sock");
    let repo = std::path::Path::new("/srv/ops-requests");
    let down = ConnectError::NotRunning { path: path.clone() };
    assert_eq!(down.exit(), 69);
    assert_eq!(
        down.diagnostic(repo, Some("last seen 06:02, stopped by systemd")).render(),
        "error[E0701]: dispatcher is not running for /srv/ops-requests\n\
         \u{20}  = note: no one answers on /run/dispatcher/3f9a1c7e5b0e.sock (last seen 06:02, stopped by systemd)\n\
         \u{20}  = help: systemctl start dispatcher     or look at old runs without it: dispatcher list\n"
    );
    let closed = ConnectError::NotPermitted {
        path,
        why: Box::new(Refused {
            owned: Some(("root".into(), "dispatcher".into(), 0o660)),
            user: "ana".into(),
            groups: vec!["ana".into(), "docker".into()],
        }),
    };
    assert_eq!(closed.exit(), 77);
    assert_eq!(
        closed.diagnostic(repo, None).render(),
        "error[E0702]: no permission for /run/dispatcher/3f9a1c7e5b0e.sock\n\
         \u{20}  = note: owned by root:dispatcher mode 0660; you are ana (groups: ana, docker)\n\
         \u{20}  = help: sudo usermod -aG dispatcher ana   then log in again\n"
    );
}

#[test]
fn a_viewer_hears_of_everything_after_the_answer() {
    let (world, viewers) = watched();
    let calls = world.calls.clone();
    let daemon = std::thread::spawn(move || calls.recv().unwrap().reply.send(Answer::ok(7.into())).unwrap());
    let (answer, mut watcher) = world.client().watch(Some(LONG)).unwrap();
    daemon.join().unwrap();
    assert_eq!(answer, Answer::ok(7.into()));
    assert_eq!(watcher.next(Some(LONG)).unwrap(), News::Notice(Notice::Viewers(1)));
    assert!(matches!(watcher.next(Some(Duration::from_millis(1))), Err(AskError::TimedOut)));
    let entry = |seq| Entry { v: 1, seq, ts: Time::from_millis(0), event: Event::Resumed { by: "ana\n".into() } };
    (1..=3).for_each(|seq| viewers.publish(&entry(seq)));
    for seq in 1..=3 {
        assert_eq!(watcher.next(Some(LONG)).unwrap(), News::Event(Box::new(entry(seq))));
    }
    drop(world.server);
    assert!(matches!(watcher.next(Some(LONG)), Err(AskError::Closed)));
}

#[test]
fn a_viewer_that_stands_still_is_left_behind_and_told_so() {
    let (world, viewers) = watched();
    let calls = world.calls.clone();
    let daemon = std::thread::spawn(move || calls.recv().unwrap().reply.send(Answer::ok(7.into())).unwrap());
    let (_, mut watcher) = world.client().watch(Some(LONG)).unwrap();
    daemon.join().unwrap();
    let by = "x".repeat(1_000);
    let all = 20_000;
    for seq in 0..all {
        // Never waits: nobody reads while this goes on.
        let event = Event::Resumed { by: by.clone() };
        viewers.publish(&Entry { v: 1, seq, ts: Time::from_millis(0), event });
    }
    let (mut heard, mut skipped) = (0, 0);
    while heard + skipped < all {
        match watcher.next(Some(LONG)).unwrap() {
            News::Event(_) => heard += 1,
            News::Notice(Notice::Skipped(n)) => skipped += n,
            News::Notice(Notice::Viewers(n)) => assert_eq!(n, 1),
            News::Unknown => panic!("no line is unknown"),
        }
    }
    assert_eq!(heard + skipped, all);
    assert!(skipped > 0, "the queue is bounded");
}
