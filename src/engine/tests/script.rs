//! Scripts by data: what comes in at which moment, and every effect that follows, in few words.

use std::time::Duration;

use crate::engine::*;
use crate::event::Event;
use crate::request::RunId;
use crate::router::{Retry, RetryOn};
use crate::time::Time;

pub(super) const WALL: i64 = 1_763_900_000_000;

pub(super) fn id(name: char) -> RunId {
    RunId::new(Time::from_millis(i64::from(u32::from(name))), [0; 10])
}

pub(super) fn order(name: char) -> Order {
    Order {
        id: id(name),
        name: name.to_string().into(),
        kind: "work".parse().unwrap(),
        resource: format!("r-{name}").parse().unwrap(),
        priority: 0,
        queued_at: Time::from_millis(WALL),
        expires_at: None,
        max_queue_age: None,
        retry: Retry { attempts: 1, backoff: Duration::from_secs(1), on: vec![RetryOn::Code(75), RetryOn::TimedOut] },
        rerun: true,
    }
}

/// The same, with so many attempts.
pub(super) fn tried(attempts: u32, order: Order) -> Order {
    Order { retry: Retry { attempts, ..order.retry }, ..order }
}

/// An order on the resource that all such orders share.
pub(super) fn shared(name: char) -> Order {
    Order { resource: "shared".parse().unwrap(), ..order(name) }
}

pub(super) fn took(order: Order) -> Input {
    let name = order.name.clone();
    Input::Took(name, TakeReport::Accepted { order: Box::new(order), by: None, reason: None, dry_run: false })
}

pub(super) fn found(name: char, prior: Prior) -> Input {
    Input::Found(Box::new(Found { run: order(name).run_ref(), prior }))
}

pub(super) fn running(order: Order, attempt: u32, crashes: u32) -> Prior {
    Prior::Running { order: Box::new(order), attempt, failures: 0, crashes }
}

pub(super) fn ended(name: char, attempt: u32, ended: Ended) -> Input {
    Input::Ended { id: id(name), attempt, ended }
}

pub(super) fn exit(code: i32) -> Ended {
    Ended::Exited { code, terminated: false, problem: None }
}

pub(super) fn killed() -> Ended {
    Ended::Signalled { signal: 15, terminated: true }
}

pub(super) fn cancel(name: char) -> Input {
    Input::Cancel { id: id(name), by: "ana".into(), reason: None }
}

pub(super) fn fetched(ahead: bool) -> Input {
    withdrawn(ahead, &[])
}

pub(super) fn withdrawn(ahead: bool, names: &[char]) -> Input {
    let gone =
        |name: &char| Withdrawal { name: name.to_string().into(), commit: "c0ffee".into(), author: "ben".into() };
    let withdrawn = names.iter().map(gone).collect();
    Input::Fetched(FetchReport::Done { commit: "tip".into(), commits: 0, ahead, withdrawn, second: None })
}

pub(super) fn committed(names: &str) -> Input {
    Input::Committed(CommitReport::Done { ids: names.chars().map(id).collect(), commit: "c1".into() })
}

pub(super) fn push_failed() -> Input {
    Input::Pushed(PushReport::Failed { message: "declined".into() })
}

pub(super) fn pushed() -> Input {
    Input::Pushed(PushReport::Done { commit: "c1".into() })
}

pub(super) fn stop() -> Input {
    Input::Stop { by: "TERM".into() }
}

pub(super) fn settings() -> Settings {
    Settings {
        workers: 2,
        drain_timeout: Duration::from_secs(60),
        push_retries: 2,
        fetch_interval: Duration::from_secs(100_000),
        keep_recent: 500,
        once: false,
        seed: 1,
    }
}

/// An effect in few words; nothing for events that only accompany another effect.
pub(super) fn words(effect: &Effect) -> Option<String> {
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
        Effect::Archive { .. } => "archive".into(),
        Effect::PushArchive => "push archive".into(),
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

pub(super) fn name(of: &RunId) -> char {
    ('a'..='z').find(|name| id(*name) == *of).unwrap_or('?')
}

/// At a millisecond of the engine's clock: what comes in, and what must follow, joined by `; `.
pub(super) type Line<'a> = (u64, Input, &'a str);

pub(super) fn check_from(mut engine: Engine, script: Vec<Line>) -> Engine {
    for (number, (at, input, expect)) in script.into_iter().enumerate() {
        let now = at_ms(at);
        let shown = format!("step {number} at {at} ms: {input:?}");
        let effects = engine.handle(now, input);
        let got: Vec<String> = effects.iter().filter_map(words).collect();
        assert_eq!(got.join("; "), expect, "{shown}");
    }
    engine
}

pub(super) fn at_ms(at: u64) -> Now {
    let mono = Duration::from_millis(at);
    Now { mono, wall: Time::from_millis(WALL).plus(mono) }
}

/// Settings, and a script for an engine without a remote that has looked around.
pub(super) fn check(settings: Settings, script: Vec<Line>) -> Engine {
    let engine = check_from(
        Engine::new(settings, None),
        vec![(0, Input::Tick, "fetch"), (0, Input::Fetched(FetchReport::NoRemote), "scan")],
    );
    check_from(engine, script)
}

/// The same with a remote that has everything.
pub(super) fn check_remote(settings: Settings, script: Vec<Line>) -> Engine {
    let engine = check_from(Engine::new(settings, None), vec![(0, Input::Tick, "fetch"), (0, fetched(false), "scan")]);
    check_from(engine, script)
}

pub(super) fn wake_ms(engine: &Engine, at: u64) -> Option<u128> {
    engine.wake_in(at_ms(at)).map(|wait| wait.as_millis())
}
