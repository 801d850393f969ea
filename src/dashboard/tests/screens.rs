//! Every screen and state at the sizes that matter, and that no size or text breaks one.

use proptest::prelude::*;

use super::scene::{NOW, Scene, id, lines, lost, run, standing};
use crate::dashboard::keys::Action;
use crate::dashboard::model::{Link, Tab};
use crate::event::Event;
use crate::status::{RequestedBy, State, Status};
use crate::time::Time;

const SIZES: [(u16, u16); 4] = [(52, 7), (80, 24), (120, 40), (200, 60)];

/// One snapshot of a scene at each size.
fn snap(name: &str, scene: &mut Scene, sizes: &[(u16, u16)]) {
    for &(width, height) in sizes {
        let text = scene.text(width, height);
        let most = text.lines().map(unicode_width::UnicodeWidthStr::width).max().unwrap_or(0);
        assert!(most <= usize::from(width));
        insta::assert_snapshot!(format!("{name}-{width}x{height}"), text);
    }
}

#[test]
fn main_screen() {
    snap("main", &mut Scene::full(), &SIZES);
}

#[test]
fn a_run_in_full() {
    let mut scene = Scene::full();
    scene.draw(80, 24);
    scene.view.act(Action::Open, &scene.model);
    snap("detail", &mut scene, &SIZES);
    for _ in 0..2 {
        scene.view.act(Action::NextPane, &scene.model);
    }
    snap("detail-request", &mut scene, &[(80, 24)]);
}

#[test]
fn help() {
    let mut scene = Scene::full();
    scene.draw(80, 24);
    scene.view.act(Action::Help, &scene.model);
    snap("help", &mut scene, &SIZES);
}

#[test]
fn states_of_the_daemon() {
    type Change = fn(&mut Scene);
    let each: [(&str, Change); 8] = [
        ("empty", |scene| *scene = Scene::empty()),
        ("offline", |scene| scene.model.link = Link::Offline),
        ("lost", |scene| scene.model.link = lost()),
        ("paused", |scene| {
            scene.happens(720, Event::Paused { by: "ana".into(), reason: Some("db migration".into()) });
        }),
        ("draining", |scene| scene.happens(60, Event::Draining { by: "ana".into() })),
        ("held", |scene| {
            let detail = "local main and origin/main have diverged (2 vs 1 commits)".to_owned();
            scene.happens(60, Event::Degraded { reason: "diverged".into(), detail });
        }),
        ("unreachable", |scene| {
            scene.happens(240, Event::FetchFailed { message: "ssh: connect timed out".into() });
            let message = "remote rejected (protected branch)".to_owned();
            scene.happens(5, Event::PushFailed { message, attempt: 4, retry_ms: Some(60_000), unpushed: 3 });
        }),
        ("broken-table", |scene| scene.happens(5, Event::RouterBroken { message: "unknown key `timeot`".into() })),
    ];
    for (name, change) in each {
        let mut scene = Scene::full();
        change(&mut scene);
        snap(name, &mut scene, &[(80, 24)]);
    }
}

#[test]
fn lists_and_panes() {
    let mut scene = Scene::full();
    scene.view.act(Action::Tab(4), &scene.model);
    snap("failed", &mut scene, &[(80, 24)]);
    scene.view.act(Action::Tab(6), &scene.model);
    snap("locks", &mut scene, &[(80, 24)]);
    scene.view.act(Action::Tab(0), &scene.model);
    scene.view.act(Action::NextPane, &scene.model);
    scene.view.act(Action::Zoom, &scene.model);
    snap("log-zoomed", &mut scene, &[(80, 24)]);
    scene.view.act(Action::PageUp, &scene.model);
    scene.view.act(Action::Times, &scene.model);
    snap("log-scrolled", &mut scene, &[(80, 24)]);
    scene.view.act(Action::Back, &scene.model);
    scene.view.act(Action::NextPane, &scene.model);
    snap("events", &mut scene, &[(80, 24)]);
}

#[test]
fn log_and_events_scroll_together() {
    let mut scene = Scene::full();
    scene.draw(200, 60);
    scene.view.act(Action::NextPane, &scene.model);
    scene.view.act(Action::Top, &scene.model);
    scene.draw(200, 60);
    let shown = scene.view.log.window.len();
    assert_eq!(scene.view.log.top, Some(0));
    assert_eq!(scene.view.events.cursor, Some(shown - 2), "the event of the last line that is shown");
    scene.view.act(Action::NextPane, &scene.model);
    scene.view.act(Action::Top, &scene.model);
    scene.view.act(Action::Down, &scene.model);
    scene.view.act(Action::Open, &scene.model);
    scene.draw(200, 60);
    assert_eq!(scene.view.log.top, Some(3), "behind the third line");
    scene.view.act(Action::Follow, &scene.model);
    scene.draw(200, 60);
    assert_eq!((scene.view.log.top, scene.view.events.cursor), (None, None));
}

#[test]
fn the_selection_belongs_to_a_run() {
    let mut scene = Scene::full();
    scene.draw(80, 24);
    assert_eq!(scene.view.selected, Some(id(1)), "what runs");
    scene.view.act(Action::Down, &scene.model);
    assert_eq!(scene.view.selected, Some(id(2)));
    scene.view.act(Action::Tab(2), &scene.model);
    let event = Event::Finished {
        run: run(2, "rotate-cert", "host/web-01"),
        status: State::Succeeded,
        rc: 0,
        signal: None,
        attempt: 1,
        duration_ms: Some(9_000),
        reason: None,
    };
    scene.happens(0, event);
    let text = scene.text(80, 24);
    assert_eq!(scene.view.selected, Some(id(2)));
    let pinned = text.lines().find(|line| line.starts_with(">✓")).unwrap();
    assert!(pinned.contains("ok 9.0s"), "{text}");
    scene.view.act(Action::Down, &scene.model);
    scene.draw(80, 24);
    assert_eq!(scene.view.selected, Some(id(1)));
}

#[test]
fn files_and_events_tell_the_same() {
    let mut live = Scene::empty();
    let mut status = Status::taken(
        id(7),
        "a.yml".into(),
        Time::from_millis(NOW - 50_000),
        "h".into(),
        RequestedBy { name: Some("ana".into()), ..RequestedBy::default() },
    );
    (status.kind, status.resource) = ("deploy".parse().ok(), "web".parse().ok());
    (status.status, status.rc, status.attempt) = (State::Failed, Some(3), 1);
    (status.started_at, status.finished_at) =
        (Some(Time::from_millis(NOW - 49_000)), Some(Time::from_millis(NOW - 10_000)));
    status.duration_ms = Some(39_000);
    let run = crate::event::RunRef { req: "a.yml".into(), ..run(7, "deploy", "web") };
    live.happens(
        50,
        Event::Accepted { run: run.clone(), priority: 0, by: Some("ana".into()), reason: None, dry_run: false },
    );
    let started = Event::RunStarted {
        run: run.clone(),
        attempt: 1,
        handler: "h".into(),
        dirty: false,
        user: "u".into(),
        timeout_ms: 1,
    };
    live.happens(49, started);
    let finished = Event::Finished {
        run,
        status: State::Failed,
        rc: 3,
        signal: None,
        attempt: 1,
        duration_ms: Some(39_000),
        reason: None,
    };
    live.happens(10, finished);
    let mut files = Scene::empty();
    files.model.absorb(&status);
    assert_eq!(live.model.runs.get(id(7)), files.model.runs.get(id(7)));
    live.model.absorb(&status);
    assert_eq!(live.model.runs.get(id(7)), files.model.runs.get(id(7)));
    live.model.settle();
    assert_eq!((live.model.runs.count(Tab::All), live.model.runs.count(Tab::Failed)), (1, 1));
}

#[test]
fn what_the_daemon_does_not_know_is_read_again() {
    let mut scene = Scene::full();
    let mut standing = standing();
    standing.seq = 10_000;
    let mut gone = scene.model.stand(&standing, Time::from_millis(NOW));
    gone.sort();
    assert_eq!(gone, (1..6).map(id).collect::<Vec<_>>());
    let before = scene.model.runs.count(Tab::Running);
    scene.happens(0, Event::Resumed { by: "ana".into() });
    assert_eq!(scene.model.runs.count(Tab::Running), before);
}

#[test]
fn every_size_holds_what_is_shown() {
    let mut scene = Scene::full();
    let actions =
        [Action::Escape, Action::Open, Action::NextPane, Action::Zoom, Action::Help, Action::Back, Action::Zoom];
    for action in actions {
        scene.view.act(action, &scene.model);
        for width in [1, 2, 49, 50, 52, 79, 80, 109, 110, 159, 160, 300] {
            for height in [1, 6, 7, 8, 23, 24, 29, 30, 44, 45, 80] {
                scene.draw(width, height);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_text_of_others_commands_the_terminal(
        name in "\\PC{0,30}|[\u{0}-\u{9f}]{0,30}|(\u{1b}\\]52;c;aGk=\u{7}|\u{202e}|\u{9b}2J){1,4}",
        log in prop::collection::vec(any::<u8>(), 0..400), wide in 50_u16..220, high in 7_u16..70,
    ) {
        let mut scene = Scene::full();
        let mut status = Status::taken(id(40), name.clone(), Time::from_millis(NOW), name.clone(), RequestedBy {
            name: Some(name.clone()), email: Some(name.clone()), commit: Some(name.clone()), signer: None,
        });
        status.reason = Some(name.clone());
        status.kind = name.parse().ok();
        status.resource = name.parse().ok();
        let folder = scene.root().join(format!("processed/{}", id(40)));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("status.json"), status.to_bytes()).unwrap();
        std::fs::write(folder.join("request.yml"), format!("params: {name}\n{name}")).unwrap();
        for end in ["log", "jsonl"] {
            std::fs::write(scene.root().join(format!("logs/{}.{end}", id(40))), &log).unwrap();
        }
        scene.model.absorb(&status);
        scene.happens(0, Event::Paused { by: name.clone(), reason: Some(name.clone()) });
        scene.happens(0, Event::FetchFailed { message: name.clone() });
        scene.happens(0, Event::Degraded { reason: name.clone(), detail: name });
        (scene.view.selected, scene.view.chosen) = (Some(id(40)), true);
        for action in [Action::Escape, Action::Open, Action::NextPane, Action::NextPane, Action::NextPane] {
            scene.view.act(action, &scene.model);
            let text = lines(&scene.draw(wide, high));
            let bad = text.chars().find(|c| *c != '\n' && (c.is_control() || crate::text::is_deceptive(*c)));
            prop_assert_eq!(bad, None);
        }
    }
}
