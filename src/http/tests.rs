//! Real clients over real sockets, a main loop of the test's own, and a secret in a file.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::hook::{Told, meaning};
use super::wire::parse;
use super::{Call, Health, Server, Site};

const SECRET: &str = "It's a Secret to Everybody";
const PATIENCE: Duration = Duration::from_secs(60);

struct World {
    dir: tempfile::TempDir,
    server: Server,
    calls: Receiver<Call>,
}

fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    write_secret(&dir.path().join("secret"), SECRET);
    let (to, calls) = bounded(16);
    let site = Site::new(to, "main".to_owned(), Some(dir.path().join("secret")));
    let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), site).unwrap();
    World { dir, server, calls }
}

fn write_secret(path: &PathBuf, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn signed(secret: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("X-Hub-Signature-256: sha256={hex}\r\n")
}

fn post(headers: &str, body: &str) -> String {
    format!("POST /hooks/push HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
}

impl World {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.server.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends bytes as they are; the whole answer.
    fn say(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The status of the answer, and how often a look at the remote was asked for.
    #[track_caller]
    fn check(&self, request: &str, status: u16, looks: usize) {
        let answer = self.say(request);
        let shown: String = request.chars().take(200).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown}\n{answer}");
        let calls: Vec<Call> = self.calls.try_iter().collect();
        let pushed = calls.iter().filter(|call| matches!(call, Call::Pushed(_))).count();
        assert_eq!(pushed, looks, "{shown}: {calls:?}");
    }
}

#[test]
fn the_signature_of_githubs_documentation_holds() {
    assert_eq!(
        signed(SECRET, "Hello, World!"),
        "X-Hub-Signature-256: sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17\r\n"
    );
}

#[test]
fn who_knows_the_secret_may_poke() {
    let world = world();
    let body = r#"{"ref": "refs/heads/main", "after": "0123"}"#;
    world.check(&post(&signed(SECRET, body), body), 202, 1);
    world.check(&post(&format!("X-Gitlab-Token: {SECRET}\r\nX-Gitlab-Event: Push Hook\r\n"), body), 202, 1);
    // A form, as GitHub sends it where nobody chose JSON: no ref can be read, and a look too many does no harm.
    let form = "payload=%7B%22ref%22%3A%22refs%2Fheads%2Fother%22%7D";
    world.check(&post(&signed(SECRET, form), form), 202, 1);
    world.check(&post(&signed(SECRET, ""), ""), 202, 1);
}

#[test]
fn who_does_not_is_refused_without_a_reason() {
    let world = world();
    let body = r#"{"ref": "refs/heads/main"}"#;
    let good = signed(SECRET, body);
    let digits = good.trim_end().rsplit('=').next().unwrap().to_owned();
    let mut answers = Vec::new();
    for headers in [
        String::new(),
        signed("another secret", body),
        signed(SECRET, "another body"),
        good.replace("sha256=", "sha1="),
        good.replace("sha256=", ""),
        good.replace(&digits, &digits[..62]),
        good.replace(&digits, ""),
        good.replace(&digits[..1], "g"),
        // A wrong signature is not made good by a token.
        format!("{}X-Gitlab-Token: {SECRET}\r\n", signed("another secret", body)),
        "X-Gitlab-Token: \r\n".to_owned(),
        format!("X-Gitlab-Token: {}\r\n", &SECRET[..25]),
        format!("X-Gitlab-Token: {SECRET}!\r\n"),
    ] {
        let request = post(&headers, body);
        world.check(&request, 403, 0);
        answers.push(world.say(&request));
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "nothing tells them apart: {answers:?}");
}

#[test]
fn refusals_are_told_once_in_a_while() {
    let world = world();
    for _ in 0..5 {
        world.say(&post("", "{}"));
    }
    let told: Vec<Call> = world.calls.try_iter().collect();
    let [Call::Warn(problem)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(problem.code, "E0721");
    let words = "the push hook refused 1 request without the right secret, the newest from 127.0.0.1";
    assert_eq!(problem.message, words);
}

#[test]
fn a_new_secret_needs_no_restart() {
    let world = world();
    let secret = world.dir.path().join("secret");
    write_secret(&secret, &format!("another secret\n{SECRET}\n"));
    for known in [SECRET, "another secret"] {
        world.check(&post(&signed(known, "{}"), "{}"), 202, 1);
        world.check(&post(&format!("X-Gitlab-Token: {known}\r\n"), "{}"), 202, 1);
    }
    write_secret(&secret, "another secret\n");
    world.check(&post(&signed(SECRET, "{}"), "{}"), 403, 0);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    world.say(&post(&signed("another secret", "{}"), "{}"));
    let told = world.calls.try_iter().last();
    assert!(matches!(&told, Some(Call::Warn(problem)) if problem.code == "E0820"), "{told:?}");
    world.check(&post(&signed("another secret", "{}"), "{}"), 503, 0);
}

#[test]
fn without_a_secret_there_is_no_hook() {
    let (to, calls) = bounded(1);
    let site = Site::new(to, "main".to_owned(), None);
    let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0)), site).unwrap();
    let world = World { dir: tempfile::tempdir().unwrap(), server, calls };
    world.check(&post(&signed("", "{}"), "{}"), 404, 0);
}

#[test]
fn events_mean_what_forges_mean() {
    let world = world();
    let main = r#"{"object_kind":"push","ref":"refs/heads/main"}"#;
    let other = r#"{"ref":"refs/heads/main2","after":"0123"}"#;
    for (event, body, status, looks) in [
        ("X-GitHub-Event: ping", r#"{"zen":"x","hook":{"ref":"refs/heads/main"}}"#, 200, 0),
        ("X-GitHub-Event: push", main, 202, 1),
        ("X-GitHub-Event: push", other, 204, 0),
        ("X-GitHub-Event: push", r#"{"ref":"refs/tags/main"}"#, 204, 0),
        ("X-GitHub-Event: push", r#"{"ref":"main"}"#, 204, 0),
        ("X-GitHub-Event: issues", main, 204, 0),
        ("X-Gitea-Event: push", main, 202, 1),
        ("X-Forgejo-Event: push", other, 204, 0),
        ("X-Gitlab-Event: Push Hook", main, 202, 1),
        ("X-Gitlab-Event: Tag Push Hook", main, 204, 0),
        ("X-Gitlab-Event: System Hook", main, 202, 1),
        ("X-Gitlab-Event: System Hook", r#"{"event_name":"user_create"}"#, 204, 0),
    ] {
        world.check(&post(&format!("{event}\r\n{}", signed(SECRET, body)), body), status, looks);
    }
}

#[test]
fn the_beginning_of_an_event_is_enough() {
    let told = |text: &str| {
        let Told { reference, tip } = Told::read(text.as_bytes());
        (reference.unwrap_or_default(), tip.unwrap_or_default())
    };
    let both = ("refs/heads/main".to_owned(), "0123".to_owned());
    assert_eq!(told(r#"{"after":"0123","ref":"refs/heads/main","commits":[{"id":"#), both);
    assert_eq!(told(r#"{"x":{"ref":"no"},"ref":"refs/heads/main","after":"0123"}"#), both);
    assert_eq!(told(r#"{"ref":"refs/hea"#), Default::default());
    assert_eq!(told(r#"{"ref":7,"after":"0123"}"#), Default::default());
    assert_eq!(told(r#"[{"ref":"refs/heads/main"}]"#), Default::default());
    assert_eq!(told(&"[".repeat(100_000)), Default::default());
}

#[test]
fn a_large_event_is_checked_as_a_whole_and_not_kept() {
    let world = world();
    let body = format!(r#"{{"ref":"refs/heads/other","commits":"{}"}}"#, "x".repeat(3 << 20));
    world.check(&post(&signed(SECRET, &body), &body), 204, 0);
    let end = body.len() - 3;
    let other = format!("{}y{}", &body[..end], &body[end + 1..]);
    world.check(&post(&signed(SECRET, &body), &other), 403, 0);
    let head = format!("POST /hooks/push HTTP/1.1\r\n{}", signed(SECRET, &body));
    world.check(&format!("{head}Content-Length: {}\r\n\r\n", (25 << 20) + 1), 413, 0);
}

#[test]
fn curl_that_asks_before_it_sends_is_told_to() {
    let world = world();
    let mut stream = world.connect();
    let head = format!(
        "POST /hooks/push HTTP/1.1\r\n{}Expect: 100-continue\r\nContent-Length: 2\r\n\r\n",
        signed(SECRET, "{}")
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut said = [0; 25];
    stream.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
}

#[test]
fn what_is_not_understood_the_same_by_all_is_refused() {
    let world = world();
    let hook = "POST /hooks/push HTTP/1.1\r\nX-Gitlab-Token: x\r\n";
    for (request, status) in [
        ("hello\r\n\r\n".to_owned(), 400),
        ("GET /healthz\r\n\r\n".to_owned(), 400),
        ("\u{1}\u{2}\r\n\r\n".to_owned(), 400),
        (format!("{hook}Content-Length: 1\r\nContent-Length: 2\r\n\r\n"), 400),
        (format!("{hook}Content-Length: +1\r\n\r\n"), 400),
        (format!("{hook}Content-Length: 99999999999999999999\r\n\r\n"), 400),
        (format!("{hook}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 411),
        (format!("{hook}Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\nx"), 411),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20_000)), 431),
        (format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(100)), 431),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 404),
        ("GET /hooks/push/ HTTP/1.1\r\n\r\n".to_owned(), 404),
        ("GET /hooks/push HTTP/1.1\r\n\r\n".to_owned(), 405),
        ("POST /healthz HTTP/1.1\r\n\r\n".to_owned(), 405),
    ] {
        world.check(&request, status, 0);
    }
    let answer = world.say("GET /hooks/push HTTP/1.1\n\n");
    assert!(answer.contains("\r\nAllow: POST\r\n"), "{answer}");
}

#[test]
fn a_client_that_goes_away_in_the_middle_changes_nothing() {
    let world = world();
    for half in ["", "POST /hoo", "POST /hooks/push HTTP/1.1\r\nX-Gitlab-Token: x\r\nContent-Length: 9\r\n\r\n{"] {
        assert_eq!(world.say(half), "", "{half}");
    }
    assert_eq!(world.calls.try_iter().count(), 0);
}

#[test]
fn more_clients_than_seats_do_not_pile_up() {
    let world = world();
    let silent: Vec<TcpStream> = (0..16).map(|_| world.connect()).collect();
    // Accepted in order: when this one is, all the others sit.
    let mut one_more = world.connect();
    let mut answer = String::new();
    one_more.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    // They get up as soon as they are gone; until then others may be told to come again.
    drop(silent);
    let told = (0..).map(|_| world.say("GET / HTTP/1.1\r\n\r\n")).find(|answer| !answer.starts_with("HTTP/1.1 503 "));
    assert!(told.unwrap().starts_with("HTTP/1.1 404 "));
}

#[test]
fn health_is_the_loops_own_answer() {
    let world = world();
    let calls = world.calls.clone();
    let (to_holds, holds) = bounded::<Vec<&'static str>>(1);
    let main_loop = std::thread::spawn(move || {
        for holds in holds {
            let Ok(Call::Health(reply)) = calls.recv_timeout(PATIENCE) else { panic!("another call") };
            reply.send(Health { holds }).unwrap();
        }
    });
    for (path, holds, status, body) in [
        ("/healthz", vec![], 200, "ok\n"),
        ("/healthz?x=1", vec!["paused"], 200, "ok\n"),
        ("/readyz", vec![], 200, "ready\n"),
        ("/readyz", vec!["paused", "disk"], 503, "not ready: paused, disk\n"),
    ] {
        to_holds.send(holds).unwrap();
        let answer = world.say(&format!("GET {path} HTTP/1.1\r\n\r\n"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.ends_with(body), "{answer}");
    }
    to_holds.send(vec![]).unwrap();
    let answer = world.say("HEAD /healthz HTTP/1.1\r\n\r\n");
    assert!(answer.contains("Content-Length: 3\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
    drop(to_holds);
    main_loop.join().unwrap();
    // Nobody takes the question.
    let World { server, calls, dir: _dir } = world;
    drop(calls);
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[test]
fn the_end_of_the_server_frees_the_address() {
    let world = world();
    let address = world.server.address();
    let (to, _calls) = bounded(1);
    assert!(Server::bind(address, Site::new(to, "main".to_owned(), None)).is_err());
    drop(world);
    let (to, _calls) = bounded(1);
    assert!(Server::bind(address, Site::new(to, "main".to_owned(), None)).is_ok());
}

/// Never panics, whatever the bytes.
#[test]
fn any_bytes_are_survived() {
    proptest::proptest!(|(bytes: Vec<u8>)| {
        if let Ok(request) = parse(&bytes) {
            let _ = meaning(&request, &bytes, "main");
        }
        let _ = Told::read(&bytes);
    });
}
