//! How handlers end: by themselves, late, or not at all.

use std::time::{Duration, Instant};

use dispatcher::executor::{Ended, How};

use super::stage::{News, PATIENCE, Stage, alive, eventually, marked};

#[test]
fn every_exit_code_and_signal() {
    let stage = Stage::new();
    for code in [0, 1, 2, 75, 124, 126, 127, 128, 137, 255] {
        let (outcome, _) = stage.run(stage.script(&format!("exit {code}")));
        assert_eq!((outcome.ended, outcome.problem), (Ended::Exited(code), None));
        assert!(outcome.started && !outcome.terminated);
    }
    // The real-time signals too: 34 and 64.
    for signal in [1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 31, 34, 64] {
        let (outcome, _) = stage.run(stage.script(&format!("kill -{signal} $$")));
        assert_eq!(outcome.ended, Ended::Signaled(signal));
    }
}

#[test]
fn what_cannot_be_executed_is_told_in_words() {
    let stage = Stage::new();
    let check = |bytes: &[u8], expect: &str| {
        let (outcome, output) = stage.run(stage.plan(stage.file(bytes)));
        assert_eq!((outcome.ended, outcome.started, output.as_str()), (Ended::NotStarted, false, ""));
        let problem = outcome.problem.unwrap();
        assert_eq!(problem.code, "E0601");
        assert!(problem.message.contains(expect), "{}", problem.render());
    };
    check(b"#!/no/such/interpreter -x\n", "names an interpreter that this machine lacks: `/no/such/interpreter -x`");
    check(b"#!/bin/sh\r\necho\r\n", "lacks: `/bin/sh^M`");
    check(b"echo no shebang\n", "neither a program of this machine nor a script");
    check(b"", "neither a program");
    let (outcome, _) = stage.run(stage.plan("/no/such/handler".into()));
    assert!(outcome.problem.unwrap().message.contains("`handler` is not there any more"));
    let plain = stage.file(b"#!/bin/sh\n");
    std::fs::set_permissions(&plain, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let (outcome, _) = stage.run(stage.plan(plain));
    assert!(outcome.problem.unwrap().message.contains("is not executable"));
    let mut plan = stage.script("exit 0");
    plan.env = (0..200).map(|n| (format!("V{n}"), "x".repeat(100_000))).collect();
    let (outcome, _) = stage.run(plan);
    assert!(outcome.problem.unwrap().message.contains("environment is too large"));
}

#[test]
fn a_file_that_is_still_open_for_writing_is_waited_for() {
    let stage = Stage::new();
    let plan = stage.script("exit 3");
    let writer = std::fs::File::options().append(true).open(&plan.program).unwrap();
    stage.executor.submit(plan).unwrap();
    assert!(matches!(stage.news.recv_timeout(PATIENCE), Ok(News::Starting(_))));
    drop(writer);
    assert_eq!(stage.outcome().ended, Ended::Exited(3));
}

#[test]
fn a_survivor_that_left_session_and_output_is_killed() {
    let stage = Stage::new();
    let plan = stage.script("(setsid sh -c 'exec >/dev/null 2>&1 <&-; sleep 600 & touch $TMPDIR/up; exec sleep 600' &)\nuntil [ -e $TMPDIR/up ]; do sleep 0.05; done; exit 4");
    let mark = format!("DISPATCH_ID={}", plan.id);
    let (outcome, _) = stage.run(plan);
    assert_eq!(outcome.ended, Ended::Exited(4));
    assert_eq!(outcome.usage.leaked_processes, 2);
    assert_eq!(marked(&mark), [0; 0]);
}

#[test]
fn a_grandchild_that_keeps_stdout_holds_nothing_up() {
    let stage = Stage::new();
    let begin = Instant::now();
    let (outcome, output) = stage.run(stage.script("echo before; sleep 600 & exit 0"));
    assert_eq!((outcome.ended, output.as_str()), (Ended::Exited(0), "before\n"));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[test]
fn term_at_the_deadline_and_kill_after_the_grace() {
    let stage = Stage::new();
    let mut plan = stage.script("trap 'echo bye; exit 9' TERM; echo up; while :; do sleep 0.05; done");
    plan.limits.timeout = Duration::from_millis(300);
    let (outcome, output) = stage.run(plan);
    assert_eq!(outcome.ended, Ended::TimedOut);
    assert!(output.ends_with("bye\n"), "{output}");
    assert!(outcome.duration >= Duration::from_millis(300) && outcome.duration < Duration::from_secs(4));
    assert!(!outcome.terminated);

    let mut plan = stage.script("trap '' TERM; echo up; setsid sleep 600 & while :; do sleep 0.05; done");
    (plan.limits.timeout, plan.limits.grace) = (Duration::from_millis(300), Duration::from_millis(200));
    let (outcome, _) = stage.run(plan);
    assert_eq!(outcome.ended, Ended::TimedOut);
    assert!(outcome.duration >= Duration::from_millis(500) && outcome.duration < Duration::from_secs(4));
}

#[test]
fn what_a_trap_starts_is_left_alone_until_the_grace_is_over() {
    let stage = Stage::new();
    let mut plan = stage.script("trap 'sleep 0.2 && echo cleaned; exit 9' TERM; echo up; while :; do sleep 0.05; done");
    plan.limits.timeout = Duration::from_millis(300);
    let (outcome, output) = stage.run(plan);
    assert_eq!(outcome.ended, Ended::TimedOut);
    assert!(output.ends_with("cleaned\n"), "{output}");
}

#[test]
fn told_to_end() {
    let stage = Stage::new();
    let plan = stage.script("trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done");
    let id = plan.id;
    stage.executor.submit(plan.clone()).unwrap();
    stage.first_line();
    stage.executor.terminate(id, How::Gracefully);
    let outcome = stage.outcome();
    assert_eq!((outcome.ended, outcome.terminated), (Ended::Exited(7), true));
    stage.news.try_iter().for_each(drop);

    let plan = stage.script("trap '' TERM; echo up; while :; do sleep 0.05; done");
    let id = plan.id;
    stage.executor.submit(plan).unwrap();
    stage.first_line();
    stage.executor.terminate(id, How::Gracefully);
    stage.executor.terminate(id, How::Kill);
    let outcome = stage.outcome();
    assert_eq!((outcome.ended, outcome.terminated), (Ended::Signaled(9), true));
    assert!(outcome.duration < Duration::from_secs(4), "it did not wait for the grace time");

    stage.executor.terminate(id, How::Kill);
    assert!(stage.finished.is_empty(), "a run that is over is not touched");
}

#[test]
fn a_start_that_the_daemon_cannot_record_does_not_happen() {
    let stage = Stage::refusing();
    let plan = stage.script("echo ran");
    let lock = stage.lock_path(&plan);
    let (outcome, output) = stage.run(plan);
    assert_eq!((outcome.ended, outcome.started, output.as_str()), (Ended::NotStarted, false, ""));
    assert_eq!(outcome.problem.unwrap().message, "the disk is full");
    assert!(!super::stage::locked(&lock));
}

#[test]
fn output_flows_whatever_its_form() {
    let stage = Stage::new();
    let plan = stage.script("head -c 200000000 /dev/zero | tr '\\0' x; exit 5");
    stage.executor.submit(plan).unwrap();
    let outcome = stage.outcome();
    assert_eq!((outcome.ended, outcome.usage.output_bytes), (Ended::Exited(5), 200_000_000));
    let bytes: usize = stage.news.try_iter().map(|news| if let News::Output(_, b) = news { b.len() } else { 0 }).sum();
    assert_eq!(bytes, 200_000_000);

    let (_, output) = stage.run(stage.script("echo a; echo b >&2; echo c > /dev/stderr; echo d > /dev/stdout"));
    assert_eq!(output, "a\nb\nc\nd\n", "merged in order, and the pipe can be opened by name");
}

#[test]
fn progress_and_result() {
    let stage = Stage::new();
    let plan = stage.script(
        "echo 1/2 first >> $DISPATCH_PROGRESS; sleep 0.4; echo 2/2 last >> $DISPATCH_PROGRESS\n\
        echo '{\"host\": \"a\"}' > $DISPATCH_RESULT.new; mv $DISPATCH_RESULT.new $DISPATCH_RESULT; echo end",
    );
    let id = plan.id;
    stage.executor.submit(plan).unwrap();
    let outcome = stage.outcome();
    assert_eq!(outcome.result, Some(serde_json::json!({"host": "a"})));
    let steps: Vec<News> = stage.news.try_iter().filter(|n| matches!(n, News::Progress(..))).collect();
    let step = |text: &str, done| News::Progress(id, text.into(), Some(done), Some(2));
    assert_eq!(steps, [step("first", 1), step("last", 2)]);

    for bad in [
        "ln -sf /etc/passwd $DISPATCH_RESULT",
        "rm $DISPATCH_RESULT; mkfifo $DISPATCH_RESULT",
        "head -c 70000 /dev/zero > $DISPATCH_RESULT",
        "echo '[]' > $DISPATCH_RESULT",
    ] {
        let (outcome, _) = stage.run(stage.script(&format!("{bad}; exit 3")));
        assert_eq!((outcome.ended, outcome.result), (Ended::Exited(3), None), "{bad}");
        assert_eq!(outcome.problem.unwrap().code, "E0605", "{bad}");
    }
}

#[test]
fn a_tree_of_two_thousand_is_gone_within_a_second() {
    let stage = Stage::new();
    let plan = stage.script("i=0; while [ $i -lt 50 ]; do setsid sh -c 'j=0; while [ $j -lt 39 ]; do sleep 600 & j=$((j+1)); done; echo up; wait' & i=$((i+1)); done; wait");
    let (id, mark) = (plan.id, format!("DISPATCH_ID={}", plan.id));
    stage.executor.submit(plan).unwrap();
    stage.output_until(|text| text.matches("up").count() == 50);
    eventually("all are up", || marked(&mark).len() >= 2_000);
    let begin = Instant::now();
    stage.executor.terminate(id, How::Kill);
    let outcome = stage.outcome();
    let took = begin.elapsed();
    println!("2,001 processes gone after {took:?}");
    assert_eq!(outcome.ended, Ended::Signaled(9));
    assert_eq!(marked(&mark), [0; 0]);
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(!alive(i32::MAX));
}
