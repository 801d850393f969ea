//! Who dies, and what must hold then: locks exclude, trees end, runs of a dead launcher go on.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use dispatcher::executor::{Ended, How};
use dispatcher::launcher::sweep;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::stage::{News, PATIENCE, Stage, alive, eventually, locked, marked, supervisor_of};

#[test]
fn a_lock_of_a_stranger_is_respected() {
    let stage = Stage::new();
    let plan = stage.script("echo ran");
    let mut stranger = Command::new("flock")
        .arg(stage.lock_path(&plan))
        .args(["sh", "-c", "echo held; read line"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    BufReader::new(stranger.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let (outcome, output) = stage.run(plan.clone());
    assert_eq!((outcome.ended, outcome.started, output.as_str()), (Ended::LockBusy, false, ""));
    drop(stranger.stdin.take());
    stranger.wait().unwrap();
    let (outcome, output) = stage.run(plan);
    assert_eq!((outcome.ended, output.as_str()), (Ended::Exited(0), "ran\n"));
}

#[test]
fn two_runs_never_hold_one_lock() {
    let stage = Stage::new();
    let first = stage.script("echo up; while [ ! -e $TMPDIR/stop ]; do sleep 0.05; done");
    let lock = stage.lock_path(&first);
    stage.executor.submit(first.clone()).unwrap();
    stage.first_line();
    assert!(locked(&lock));
    let mut second = stage.script("echo ran");
    second.resource = first.resource.clone();
    assert_eq!(stage.run(second.clone()).0.ended, Ended::LockBusy);
    let another = Stage::at(stage.path(), false);
    assert_eq!(another.run(second.clone()).0.ended, Ended::LockBusy, "nor does a second dispatcher");
    stage.executor.terminate(first.id, How::Kill);
    stage.outcome();
    // At once: who hears of the end finds the lock free.
    assert_eq!(stage.run(second).0.ended, Ended::Exited(0));
    assert!(lock.exists(), "the file stays");
}

#[test]
fn the_lock_is_free_whenever_a_run_is_over() {
    let stage = Stage::new();
    let plan = stage.script("sleep 600 & exit 0");
    for _ in 0..50 {
        assert_eq!(stage.run(plan.clone()).0.ended, Ended::Exited(0));
    }
}

#[test]
fn runs_outlive_their_launcher() {
    let stage = Stage::new();
    let plan = stage.script("echo up; while [ ! -e ../stop ]; do sleep 0.05; done; echo end; exit 6");
    let stop = stage.path().join("work").join(format!("{}.1", plan.id)).join("stop");
    stage.executor.submit(plan).unwrap();
    stage.first_line();
    let launcher = i32::try_from(stage.executor.launcher().pid()).unwrap();
    kill(Pid::from_raw(launcher), Signal::SIGKILL).unwrap();
    eventually("the launcher is dead", || !alive(launcher));
    let (outcome, _) = stage.run(stage.script("exit 8"));
    assert_eq!(outcome.ended, Ended::Exited(8), "another launcher");
    assert_ne!(stage.executor.launcher().pid(), launcher.unsigned_abs());
    std::fs::write(stop, "").unwrap();
    assert_eq!(stage.outcome().ended, Ended::Exited(6));
}

#[test]
fn a_dead_supervisor_lets_neither_tree_nor_lock_go() {
    let stage = Stage::new();
    let plan = stage.script("setsid sleep 600 & echo up; wait");
    let (mark, lock) = (format!("DISPATCH_ID={}", plan.id), stage.lock_path(&plan));
    stage.executor.submit(plan.clone()).unwrap();
    stage.first_line();
    let supervisor = supervisor_of(marked(&mark)[0]);
    kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
    let outcome = stage.outcome();
    assert_eq!(outcome.ended, Ended::Lost);
    assert_eq!(outcome.problem.unwrap().code, "E0606");
    assert_eq!(marked(&mark), [0; 0]);
    eventually("the lock is free", || !locked(&lock));
}

/// Not a test of its own: the dispatcher that the next test kills.
#[test]
fn role_dispatcher() {
    let Some(dir) = std::env::var_os("SUITE_DISPATCHER") else { return };
    let stage = Stage::at(dir.as_ref(), false);
    let mut plan = stage.script(
        "trap '' TERM; setsid sh -c 'trap \"\" TERM; (sleep 600; sleep 600) & exec sleep 600' & (sleep 600 &); echo up; wait",
    );
    plan.resource = "the-lock".parse().unwrap();
    println!("\nrun {}", plan.id);
    stage.executor.submit(plan).unwrap();
    stage.first_line();
    println!("\nup");
    let _ = stage.finished.recv();
}

#[test]
fn a_dead_dispatcher_leaves_no_tree_and_then_a_free_lock() {
    let dir = tempfile::tempdir().unwrap();
    let mut dispatcher = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "launcher::crash::role_dispatcher", "--nocapture"])
        .env("SUITE_DISPATCHER", dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(dispatcher.stdout.take().unwrap()).lines().map(Result::unwrap);
    let id = lines.find_map(|line| Some(line.strip_prefix("run ")?.to_owned())).unwrap();
    lines.find(|line| line == "up").unwrap();
    let (mark, lock) = (format!("DISPATCH_ID={id}"), dir.path().join("lock/the-lock.lock"));
    eventually("the tree is up", || marked(&mark).len() >= 5);
    let tree = marked(&mark);
    assert!(locked(&lock));
    dispatcher.kill().unwrap();
    dispatcher.wait().unwrap();
    eventually("the lock is free", || {
        // In this order: whoever gets the lock must find nobody alive.
        let free = !locked(&lock);
        let left: Vec<&i32> = tree.iter().filter(|&&pid| alive(pid)).collect();
        assert!(!free || left.is_empty(), "{left:?} under a free lock");
        free
    });
    assert_eq!(marked(&mark), [0; 0]);
}

#[test]
fn leftovers_are_found_by_the_run_that_they_name() {
    let stage = Stage::new();
    let (plan, other) = (stage.script(""), stage.script(""));
    let start = |id: String| {
        let mut child = Command::new("sh");
        child.args(["-c", "sleep 600 & sleep 600"]).env("DISPATCH_ID", id).spawn().unwrap()
    };
    let mut mine = start(plan.id.to_string());
    let mut foreign = start(other.id.to_string());
    let mark = format!("DISPATCH_ID={}", plan.id);
    eventually("it is up", || marked(&mark).len() == 3);
    assert_eq!(sweep(&[plan.id]), 3);
    assert_eq!(marked(&mark), [0; 0]);
    assert_eq!(sweep(&[plan.id]), 0);
    assert_eq!(sweep(&[]), 0);
    mine.wait().unwrap();
    assert!(foreign.try_wait().unwrap().is_none(), "another run's is left alone");
    assert!(sweep(&[other.id]) >= 1);
    foreign.wait().unwrap();
}

#[test]
fn news_come_in_order() {
    let stage = Stage::new();
    let plan = stage.script("echo hello");
    let id = plan.id;
    stage.executor.submit(plan.clone()).unwrap();
    assert!(stage.executor.submit(plan).is_err(), "the same run twice");
    assert_eq!(stage.news.recv_timeout(PATIENCE), Ok(News::Starting(id)));
    let user = stage.executor.user().name.clone();
    let rest: Vec<News> = std::iter::repeat_with(|| stage.news.recv_timeout(PATIENCE).unwrap()).take(2).collect();
    assert!(rest.contains(&News::Started(id, user)) && rest.contains(&News::Output(id, b"hello\n".to_vec())));
    assert_eq!(stage.outcome().ended, Ended::Exited(0));
    stage.executor.join();
}
