//! The engine's exact answers, by data: what comes in at which second, and every effect that follows. Owns no model of
//! the world; schedules and crashes are the simulator's.

use std::ffi::OsString;
use std::time::Duration;

use super::*;
use crate::diagnostic::Diagnostic;
use crate::event::Event;
use crate::request::RunId;
use crate::status::State;
use crate::time::Time;

const WALL: i64 = 1_763_900_000_000;

fn id(name: char) -> RunId {
    RunId::new(Time::from_millis(i64::from(u32::from(name))), [0; 10])
}

fn order(name: char) -> Order {
    Order {
        id: id(name),
        name: name.to_string().into(),
        kind: "work".parse().unwrap(),
        resource: format!("r-{name}").parse().unwrap(),
        priority: 0,
        queued_at: Time::from_millis(WALL),
        expires_at: None,
        max_queue_age: None,
        attempts: 1,
        backoff: Duration::from_secs(1),
        retry_on: vec![RetryOn::Exit(75), RetryOn::State(State::TimedOut)],
        rerun: true,
    }
}

/// An order on the resource that all such orders share.
fn shared(name: char) -> Order {
    Order { resource: "shared".parse().unwrap(), ..order(name) }
}

fn took(order: Order) -> Input {
    let name = order.name.clone();
    Input::Took(name, TakeReport::Accepted { order: Box::new(order), by: None, reason: None, dry_run: false })
}

fn found(name: char, prior: Prior) -> Input {
    Input::Found(Box::new(Found { run: order(name).run_ref(), prior }))
}

fn running(order: Order, attempt: u32, crashes: u32) -> Prior {
    Prior::Running { order: Box::new(order), attempt, failures: 0, crashes }
}

fn ended(name: char, attempt: u32, ended: Ended) -> Input {
    Input::Ended { id: id(name), attempt, ended }
}

fn exit(code: i32) -> Ended {
    Ended::Exited { code, terminated: false, problem: None }
}

fn killed() -> Ended {
    Ended::Signalled { signal: 15, terminated: true }
}

fn cancel(name: char) -> Input {
    Input::Cancel { id: id(name), by: "ana".into(), reason: None }
}

fn fetched(ahead: bool) -> Input {
    withdrawn(ahead, &[])
}

fn withdrawn(ahead: bool, names: &[char]) -> Input {
    let gone =
        |name: &char| Withdrawal { name: name.to_string().into(), commit: "c0ffee".into(), author: "ben".into() };
    let withdrawn = names.iter().map(gone).collect();
    Input::Fetched(FetchReport::Done { commit: "tip".into(), commits: 0, ahead, withdrawn, second: None })
}

fn committed(names: &str) -> Input {
    Input::Committed(CommitReport::Done { ids: names.chars().map(id).collect(), commit: "c1".into() })
}

fn push_failed() -> Input {
    Input::Pushed(PushReport::Failed { message: "declined".into() })
}

fn pushed() -> Input {
    Input::Pushed(PushReport::Done { commit: "c1".into() })
}

fn stop() -> Input {
    Input::Stop { by: "TERM".into() }
}

fn settings() -> Settings {
    Settings {
        workers: 2,
        drain_timeout: Duration::from_secs(60),
        push_retries: 2,
        fetch_interval: Duration::from_secs(100_000),
        once: false,
        seed: 1,
    }
}

/// An effect in few words; nothing for events that only accompany another effect.
fn words(effect: &Effect) -> Option<String> {
    let names = |ids: &[RunId]| ids.iter().map(name).collect::<String>();
    Some(match effect {
        Effect::Take(file) => format!("take {}", file.display()),
        Effect::Start { id, attempt, .. } => format!("start {}{attempt}", name(id)),
        Effect::Terminate { id, how: How::Gracefully } => format!("term {}", name(id)),
        Effect::Terminate { id, how: How::AtOnce } => format!("kill {}", name(id)),
        Effect::Mark { id, state, attempt } => format!("{} {}{attempt}", state.word(), name(id)),
        Effect::Conclude { id, verdict } => format!("{}={} {}", name(id), verdict.state.word(), verdict.rc),
        Effect::Commit(ids) => format!("commit {}", names(ids)),
        Effect::Announce { ids, .. } => format!("announce {}", names(ids)),
        Effect::Fetch => "fetch".into(),
        Effect::Push => "push".into(),
        Effect::Scan => "scan".into(),
        Effect::KeepPause(Some(_)) => "keep pause".into(),
        Effect::KeepPause(None) => "keep none".into(),
        Effect::Exit(ExitCode::Done) => "exit 0".into(),
        Effect::Exit(ExitCode::TryLater) => "exit 75".into(),
        Effect::Emit(Event::Retrying { why, delay_ms, .. }) => format!("again in {delay_ms} ({why})"),
        Effect::Emit(Event::PushFailed { retry_ms: None, .. }) => "give up".into(),
        Effect::Emit(Event::Pushed { runs, .. }) => format!("pushed {runs}"),
        Effect::Emit(Event::Degraded { reason, .. }) => format!("degraded {reason}"),
        Effect::Emit(Event::Recovered { reason }) => format!("recovered {reason}"),
        Effect::Emit(_) => return None,
    })
}

fn name(of: &RunId) -> char {
    ('a'..='z').find(|name| id(*name) == *of).unwrap_or('?')
}

/// At a millisecond of the engine's clock: what comes in, and what must follow, joined by `; `.
type Line<'a> = (u64, Input, &'a str);

fn check_from(mut engine: Engine, script: Vec<Line>) -> Engine {
    for (number, (at, input, expect)) in script.into_iter().enumerate() {
        let now = at_ms(at);
        let shown = format!("step {number} at {at} ms: {input:?}");
        let effects = engine.handle(now, input);
        let got: Vec<String> = effects.iter().filter_map(words).collect();
        assert_eq!(got.join("; "), expect, "{shown}");
    }
    engine
}

fn at_ms(at: u64) -> Now {
    let mono = Duration::from_millis(at);
    Now { mono, wall: Time::from_millis(WALL).plus(mono) }
}

/// Settings, and a script for an engine without a remote that has looked around.
fn check(settings: Settings, script: Vec<Line>) -> Engine {
    let engine = check_from(
        Engine::new(settings, None),
        vec![(0, Input::Tick, "fetch"), (0, Input::Fetched(FetchReport::NoRemote), "scan")],
    );
    check_from(engine, script)
}

/// The same with a remote that has everything.
fn check_remote(settings: Settings, script: Vec<Line>) -> Engine {
    let engine = check_from(Engine::new(settings, None), vec![(0, Input::Tick, "fetch"), (0, fetched(false), "scan")]);
    check_from(engine, script)
}

fn wake_ms(engine: &Engine, at: u64) -> Option<u128> {
    engine.wake_in(at_ms(at)).map(|wait| wait.as_millis())
}

#[test]
fn a_quiet_life() {
    check_remote(
        settings(),
        vec![
            (1, Input::Scanned, ""),
            (5, Input::Arrived("a".into()), "take a"),
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
    let thrice = Order { attempts: 4, ..order('a') };
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
        (Ended::Trouble("no descriptor".into()), "again in 5000 (crashed); queued a1"),
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
    let again = Order { attempts: 2, ..until(500) };
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
    let often = || Order { attempts: 9, ..order('a') };
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
fn stop_waits_then_insists() {
    let fail = Order { rerun: false, ..order('b') };
    check(
        settings(),
        vec![
            (0, took(order('a')), "start a1"),
            (0, took(fail.clone()), "start b1"),
            (0, took(order('c')), ""),
            (10, stop(), ""),
            (20, Input::Arrived("d".into()), ""),
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
            (2, Input::Arrived("c".into()), ""),
            (3, ended('a', 1, exit(0)), "a=succeeded 0; commit a"),
            (4, committed("a"), "announce a"),
            (5, Input::Resume { by: "ana".into() }, "keep none; take c; start b1"),
        ],
    );
    assert_eq!(engine.snapshot(at_ms(5)).paused, None);
    let kept = Engine::new(Settings { once: true, ..settings() }, Some("by ana: storm".into()));
    check_from(
        kept,
        vec![(0, Input::Arrived("a".into()), "fetch"), (1, fetched(false), "scan"), (2, Input::Scanned, "exit 75")],
    );
}

#[test]
fn once_ends_when_all_is_published() {
    let once = || Settings { once: true, ..settings() };
    let retried = Order { attempts: 2, ..order('a') };
    check_remote(
        once(),
        vec![
            (1, Input::Arrived("a".into()), "take a"),
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
            (1, Input::Arrived("a".into()), "take a"),
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
fn a_scheduled_request_is_looked_at_in_time() {
    let until = Time::from_millis(WALL + 90_000);
    let engine = check(
        settings(),
        vec![
            (0, Input::Arrived("a".into()), "take a"),
            (0, Input::Took("a".into(), TakeReport::Scheduled { until }), ""),
        ],
    );
    assert_eq!(wake_ms(&engine, 0), Some(60_000), "the wall clock may be set meanwhile");
    let engine = check_from(engine, vec![(60_000, Input::Tick, "")]);
    assert_eq!(wake_ms(&engine, 60_000), Some(30_000));
    let failed = TakeReport::Failed("permission denied".into());
    let engine =
        check_from(engine, vec![(90_000, Input::Tick, "take a"), (90_000, Input::Took("a".into(), failed), "")]);
    assert_eq!(wake_ms(&engine, 90_000), Some(5_000));
}

#[test]
fn a_moved_remote_is_fetched_first() {
    check_remote(
        settings(),
        vec![
            (0, found('a', Prior::Final), "commit a"),
            (1, committed("a"), "announce a; push"),
            (2, Input::Pushed(PushReport::Moved), ""),
            (30, Input::Tick, "fetch"),
            (31, fetched(true), "push"),
            (32, pushed(), "pushed 1"),
        ],
    );
}

#[test]
fn a_push_gives_up_and_recovers() {
    let gave_up = || {
        check_remote(
            settings(),
            vec![
                (0, found('a', Prior::Final), "commit a"),
                (1, committed("a"), "announce a; push"),
                (2, push_failed(), ""),
                (1_002, Input::Tick, "fetch"),
                (1_003, fetched(true), "push"),
                (1_004, push_failed(), "give up; degraded push"),
                (600_000, Input::Tick, ""),
            ],
        )
    };
    let by_fetch = vec![
        (600_001, Input::FetchNow, "fetch; scan"),
        (600_002, fetched(true), "fetch"),
        (600_003, fetched(true), "push"),
        (600_004, pushed(), "recovered push; pushed 1"),
    ];
    let by_result = vec![
        (600_001, found('b', Prior::Final), "commit b"),
        (600_002, committed("b"), "announce b; fetch"),
        (600_003, fetched(true), "push"),
        (600_004, push_failed(), "give up"),
    ];
    let by_itself = vec![
        (600_001, Input::FetchNow, "fetch; scan"),
        (600_002, fetched(false), "recovered push; pushed 1"),
        (600_003, stop(), "exit 0"),
    ];
    for rest in [by_fetch, by_result, by_itself] {
        check_from(gave_up(), rest);
    }
}

#[test]
fn an_unclear_push_that_arrived_is_done() {
    let engine = check_remote(
        Settings { once: true, ..settings() },
        vec![
            (0, found('a', Prior::Final), "commit a"),
            (1, committed("a"), "announce a; push"),
            (2, Input::Scanned, ""),
            (3, push_failed(), ""),
            (1_003, Input::Tick, "fetch"),
            (1_004, fetched(false), "pushed 1; exit 0"),
        ],
    );
    assert_eq!(engine.snapshot(at_ms(1_004)).git.push, "ok");
}

#[test]
fn nothing_spins_while_git_is_slow() {
    let engine = check_remote(
        settings(),
        vec![
            (0, found('a', Prior::Final), "commit a"),
            (1, committed("a"), "announce a; push"),
            (2, Input::FetchNow, "fetch; scan"),
            (3, Input::Pushed(PushReport::Moved), ""),
            (5_000, Input::Tick, ""),
        ],
    );
    assert_eq!(wake_ms(&engine, 5_000), None, "the fetch under way comes first");
    let engine = check(settings(), vec![(0, took(order('a')), "start a1"), (1, Input::Drain { by: "ana".into() }, "")]);
    assert_eq!(wake_ms(&engine, 999_000_000), None, "only the run's end matters");
}

#[test]
fn a_commit_that_fails_is_tried_again() {
    let failed = || Input::Committed(CommitReport::Failed { ids: vec![id('a')], message: "disk full".into() });
    check(
        settings(),
        vec![
            (0, took(order('a')), "start a1"),
            (1, ended('a', 1, exit(0)), "a=succeeded 0; commit a"),
            (2, failed(), "degraded commit"),
            (3, Input::Arrived("b".into()), ""),
            (2_002, Input::Tick, "commit a"),
            (2_003, failed(), ""),
            (6_003, Input::Tick, "commit a"),
            (6_004, committed("a"), "recovered commit; announce a; take b"),
        ],
    );
}

#[test]
fn trouble_holds_the_intake_until_it_is_over() {
    let blocked = FetchReport::Blocked { detail: "x".into(), ahead: false };
    let second = FetchReport::Done {
        commit: "tip".into(),
        commits: 0,
        ahead: false,
        withdrawn: Vec::new(),
        second: Some("ops-2".into()),
    };
    check_remote(
        settings(),
        vec![
            (0, Input::Disk { short: Some("1 M".into()) }, "degraded disk"),
            (1, Input::Arrived("a".into()), ""),
            (2, Input::Disk { short: None }, "recovered disk; take a"),
            (3, took(order('a')), "start a1"),
            (4, Input::FetchNow, "fetch; scan"),
            (5, Input::Fetched(blocked), "degraded checkout"),
            (6, Input::Arrived("b".into()), ""),
            (7, Input::FetchNow, "fetch; scan"),
            (8, Input::Fetched(second), "recovered checkout; degraded second_dispatcher"),
            (9, Input::FetchNow, "fetch; scan"),
            (10, fetched(false), ""),
            (11, Input::Resume { by: "ana".into() }, "recovered second_dispatcher; take b"),
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
