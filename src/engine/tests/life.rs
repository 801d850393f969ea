//! The life of one run, and who goes first.

use super::script::*;
use crate::engine::*;
use std::time::Duration;

use crate::diagnostic::Diagnostic;
use crate::time::Time;

#[test]
fn a_quiet_life() {
    check_remote(
        settings(),
        vec![
            (1, Input::Scanned, ""),
            (5, Input::Arrived(vec!["a".into()]), "take a"),
            (6, took(order('a')), "start a1"),
            (9, ended('a', 1, exit(0)), "a=succeeded 0; commit a"),
            (12, committed("a"), "announce a; push"),
            (20, pushed(), "pushed 1"),
        ],
    );
}

#[test]
fn priority_goes_first_then_age() {
    let low = Order { priority: -1, ..shared('b') };
    let high = Order { priority: 7, ..shared('d') };
    check(
        settings(),
        vec![
            (1, took(shared('a')), "start a1"),
            (2, took(low), "waiting b0"),
            (3, took(shared('c')), "waiting c0"),
            (4, took(high), "waiting d0"),
            (5, ended('a', 1, exit(0)), "a=succeeded 0; start d1; commit a"),
            (6, ended('d', 1, exit(0)), "d=succeeded 0; start c1"),
            (7, ended('c', 1, exit(0)), "c=succeeded 0; start b1"),
        ],
    );
}

#[test]
fn no_worker_idles_behind_a_lock() {
    check(
        settings(),
        vec![
            (1, took(shared('a')), "start a1"),
            (2, took(shared('b')), "waiting b0"),
            (3, took(order('c')), "start c1"),
            (4, took(order('d')), ""),
            (5, ended('c', 1, exit(1)), "c=failed 1; start d1; commit c"),
        ],
    );
}

#[test]
fn a_strangers_lock_costs_no_attempt() {
    let engine = check(
        settings(),
        vec![
            (1, took(shared('a')), "start a1"),
            (10, ended('a', 1, Ended::LockBusy), "waiting a0"),
            (20, took(shared('b')), "waiting b0"),
            (259, Input::Tick, ""),
            (260, Input::Tick, "start a1"),
            (270, ended('a', 1, Ended::LockBusy), "waiting a0"),
        ],
    );
    assert_eq!(wake_ms(&engine, 270), Some(250));
}

#[test]
fn retries_wait_twice_as_long_each_time() {
    let thrice = tried(4, order('a'));
    check(
        settings(),
        vec![
            (0, took(thrice), "start a1"),
            (0, ended('a', 1, exit(75)), "again in 1000 (exit 75); queued a1"),
            (999, Input::Tick, ""),
            (1_000, Input::Tick, "start a2"),
            (1_000, ended('a', 2, Ended::TimedOut), "again in 2000 (timed_out); queued a2"),
            (3_000, Input::Tick, "start a3"),
            (3_000, ended('a', 3, exit(75)), "again in 4000 (exit 75); queued a3"),
            (7_000, Input::Tick, "start a4"),
            (7_000, ended('a', 4, exit(75)), "a=failed 75; commit a"),
        ],
    );
}

#[test]
fn endings_have_their_states() {
    let box_of = |code| Box::new(Diagnostic::new(code, "what went wrong"));
    for (how, expect) in [
        (exit(0), "a=succeeded 0; commit a"),
        (exit(3), "a=failed 3; commit a"),
        (Ended::Signalled { signal: 9, terminated: false }, "a=failed 137; commit a"),
        (Ended::TimedOut, "a=timed_out 124; commit a"),
        (Ended::OutOfMemory, "a=out_of_memory 137; commit a"),
        (Ended::TooManyProcesses(box_of("E0604")), "a=failed 137; commit a"),
        (Ended::NotStarted(box_of("E0601")), "a=rejected 78; commit a"),
        (Ended::Lost, "again in 0 (crashed); queued a1; start a2"),
        (Ended::Trouble("no descriptor".into()), "again in 1000 (could not begin); queued a1; degraded start"),
    ] {
        check(settings(), vec![(0, took(order('a')), "start a1"), (1, ended('a', 1, how), expect)]);
    }
}

#[test]
fn crashes_are_counted_over_lives() {
    let fail = || Order { rerun: false, ..order('a') };
    for (prior, expect) in [
        (running(order('a'), 1, 0), "again in 0 (crashed); queued a1; start a2; fetch"),
        (running(order('a'), 2, 1), "again in 0 (crashed); queued a2; start a3; fetch"),
        (running(order('a'), 3, 2), "a=crashed 70; commit a; fetch"),
        (running(fail(), 1, 0), "a=crashed 70; commit a; fetch"),
        (Prior::Queued { order: Box::new(fail()), attempt: 1, failures: 1, crashes: 0 }, "start a2; fetch"),
        (Prior::Final, "commit a; fetch"),
    ] {
        check_from(Engine::new(settings(), None), vec![(0, found('a', prior), expect)]);
    }
}

#[test]
fn expiry_comes_at_the_exact_moment() {
    let until = |ms| Order { expires_at: Some(Time::from_millis(WALL + ms)), ..shared('b') };
    let aged = |ms| Order { max_queue_age: Some(Duration::from_millis(ms)), ..shared('b') };
    for late in [until(500), aged(490)] {
        let engine =
            check(settings(), vec![(5, took(shared('a')), "start a1"), (10, took(late.clone()), "waiting b0")]);
        assert_eq!(wake_ms(&engine, 10), Some(490));
        check_from(engine, vec![(499, Input::Tick, ""), (500, Input::Tick, "b=expired 75; commit b")]);
    }
    // What has begun once is not too late any more.
    let again = tried(2, until(500));
    check(
        settings(),
        vec![
            (0, took(again), "start b1"),
            (1, ended('b', 1, exit(75)), "again in 1000 (exit 75); queued b1"),
            (1_001, Input::Tick, "start b2"),
        ],
    );
}

#[test]
fn age_is_counted_over_lives_and_not_by_the_wall_clock() {
    let aged = |taken: i64| Order {
        max_queue_age: Some(Duration::from_secs(60)),
        queued_at: Time::from_millis(WALL + taken),
        ..order('a')
    };
    let queued = |taken| Prior::Queued { order: Box::new(aged(taken)), attempt: 0, failures: 0, crashes: 0 };
    let new = || Engine::new(settings(), Some("by ana".into()));
    let engine = check_from(new(), vec![(0, found('a', queued(-59_000)), "fetch")]);
    check_from(engine, vec![(999, Input::Tick, ""), (1_000, Input::Tick, "a=expired 75; commit a")]);
    // A fresh run is young, whatever the wall clock says.
    check(settings(), vec![(90_000, took(aged(-1_000_000)), "start a1")]);
}

#[test]
fn only_what_has_not_begun_can_be_withdrawn() {
    check_remote(
        Settings { workers: 1, ..settings() },
        vec![
            (1, took(order('a')), "start a1"),
            (2, took(order('b')), ""),
            (3, Input::FetchNow, "fetch; scan"),
            (4, withdrawn(false, &['a', 'b']), "b=cancelled 130; commit b"),
        ],
    );
}

#[test]
fn a_cancelled_run_never_begins_again() {
    let often = || tried(9, order('a'));
    for (how, expect) in [
        (killed(), "a=cancelled 130; commit a"),
        (exit(75), "a=cancelled 130; commit a"),
        (exit(0), "a=succeeded 0; commit a"),
        (Ended::TimedOut, "a=cancelled 130; commit a"),
        (Ended::LockBusy, "a=cancelled 130; commit a"),
        (Ended::Lost, "a=cancelled 130; commit a"),
    ] {
        check(
            settings(),
            vec![(0, took(often()), "start a1"), (1, cancel('a'), "term a"), (2, ended('a', 1, how), expect)],
        );
    }
    check(
        Settings { workers: 1, ..settings() },
        vec![
            (0, took(order('b')), "start b1"),
            (1, took(often()), ""),
            (2, cancel('a'), "a=cancelled 130; commit a"),
            (3, cancel('b'), "term b"),
            (4, cancel('b'), "kill b"),
            (5, cancel('c'), ""),
        ],
    );
}

#[test]
fn a_scheduled_request_is_looked_at_in_time() {
    let until = Time::from_millis(WALL + 90_000);
    let engine = check(
        settings(),
        vec![
            (0, Input::Arrived(vec!["a".into()]), "take a"),
            (0, Input::Took("a".into(), TakeReport::Scheduled { until }), ""),
        ],
    );
    assert_eq!(wake_ms(&engine, 0), Some(60_000), "the wall clock may be set meanwhile");
    let engine = check_from(engine, vec![(60_000, Input::Tick, "")]);
    assert_eq!(wake_ms(&engine, 60_000), Some(30_000));
    let failed = TakeReport::Failed("permission denied".into());
    let engine = check_from(
        engine,
        vec![(90_000, Input::Tick, "take a"), (90_000, Input::Took("a".into(), failed), "degraded inbox")],
    );
    assert_eq!(wake_ms(&engine, 90_000), Some(5_000));
}
