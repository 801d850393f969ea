//! Pause, drain, stop and `once`.

use super::script::*;
use crate::engine::*;
use std::ffi::OsString;

use crate::time::Time;

#[test]
fn stop_waits_then_insists() {
    let fail = Order { rerun: false, ..order('b') };
    check(
        settings(),
        vec![
            (0, took(order('a')), "start a1"),
            (0, took(fail.clone()), "start b1"),
            (0, took(order('c')), ""),
            (10, stop(), ""),
            (20, Input::Arrived(vec!["d".into()]), ""),
            (60_009, Input::Tick, ""),
            (60_010, Input::Tick, "term a; term b"),
            (60_011, ended('a', 1, killed()), "again in 0 (dispatcher stopped); queued a1"),
            (60_012, ended('b', 1, killed()), "b=cancelled 130; commit b"),
            (60_013, committed("b"), "announce b; exit 0"),
            (60_014, Input::Tick, ""),
        ],
    );
    check(
        settings(),
        vec![
            (0, took(order('a')), "start a1"),
            (0, took(fail), "start b1"),
            (1, stop(), ""),
            (2, stop(), "term a; term b"),
            (3, stop(), "kill a; kill b"),
            (4, stop(), ""),
            (5, ended('a', 1, exit(0)), "a=succeeded 0; commit a"),
            (6, ended('b', 1, Ended::Trouble("told to end".into())), "again in 0 (dispatcher stopped); queued b1"),
            (7, committed("a"), "announce a; exit 0"),
        ],
    );
}

#[test]
fn drain_keeps_the_queue() {
    let engine = check(
        Settings { workers: 1, ..settings() },
        vec![
            (0, took(order('a')), "start a1"),
            (0, took(order('b')), ""),
            (1, Input::Drain { by: "ana".into() }, ""),
            (900_000, ended('a', 1, exit(0)), "a=succeeded 0; commit a"),
            (900_001, committed("a"), "announce a; exit 0"),
        ],
    );
    assert_eq!(engine.snapshot(at_ms(900_001)).runs.len(), 1);
    assert_eq!(engine.wake_in(at_ms(900_001)), None);
}

#[test]
fn a_pause_holds_what_is_new() {
    let engine = check(
        Settings { workers: 1, ..settings() },
        vec![
            (0, took(order('a')), "start a1"),
            (0, took(order('b')), ""),
            (1, Input::Pause { by: "ana".into(), reason: Some("storm".into()) }, "keep pause"),
            (2, Input::Arrived(vec!["c".into()]), ""),
            (3, ended('a', 1, exit(0)), "a=succeeded 0; commit a"),
            (4, committed("a"), "announce a"),
            (5, Input::Resume { by: "ana".into() }, "keep none; take c; start b1"),
        ],
    );
    assert_eq!(engine.snapshot(at_ms(5)).paused, None);
    let kept = Engine::new(Settings { once: true, ..settings() }, Some("by ana: storm".into()));
    check_from(
        kept,
        vec![
            (0, Input::Arrived(vec!["a".into()]), "fetch"),
            (1, fetched(false), "scan"),
            (2, Input::Scanned, "exit 75"),
        ],
    );
}

#[test]
fn once_ends_when_all_is_published() {
    let once = || Settings { once: true, ..settings() };
    let retried = tried(2, order('a'));
    check_remote(
        once(),
        vec![
            (1, Input::Arrived(vec!["a".into()]), "take a"),
            (1, Input::Scanned, ""),
            (2, took(retried), "start a1"),
            (3, ended('a', 1, exit(75)), "again in 1000 (exit 75); queued a1"),
            (1_003, Input::Tick, "start a2"),
            (1_004, ended('a', 2, exit(75)), "a=failed 75; commit a"),
            (1_005, committed("a"), "announce a; push"),
            (1_006, pushed(), "pushed 1; exit 0"),
        ],
    );
    // What waits for its time is not waited for.
    let until = Time::from_millis(WALL + 3_600_000);
    check_remote(
        once(),
        vec![
            (1, Input::Arrived(vec!["a".into()]), "take a"),
            (1, Input::Scanned, ""),
            (2, Input::Took(OsString::from("a"), TakeReport::Scheduled { until }), "exit 0"),
        ],
    );
    check_remote(
        Settings { push_retries: 1, ..once() },
        vec![
            (1, found('a', Prior::Final), "commit a"),
            (2, Input::Scanned, ""),
            (3, committed("a"), "announce a; push"),
            (4, push_failed(), "give up; degraded push; exit 75"),
        ],
    );
}

#[test]
fn a_stop_before_the_first_look_still_publishes() {
    check_from(Engine::new(settings(), None), vec![(0, stop(), "exit 0")]);
    check_from(
        Engine::new(settings(), Some("by ana".into())),
        vec![
            (0, found('a', Prior::Final), "commit a; fetch"),
            (1, stop(), ""),
            (2, committed("a"), "announce a"),
            (3, fetched(true), "scan; push"),
            (4, pushed(), "pushed 1; exit 0"),
        ],
    );
}
