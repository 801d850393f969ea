//! Who watches: what a viewer hears, and that it costs a run nothing.

use dispatcher::command::Answer;
use dispatcher::control::{AskError, Client, News, Notice, Watcher};
use dispatcher::event::{Entry, Event};

use crate::world::{Daemon, PATIENCE, World, ask, eventually};

fn socket(world: &World) -> std::path::PathBuf {
    let mut found = None;
    eventually("there is a socket", || {
        let files = std::fs::read_dir(world.path().join("run")).unwrap().flatten().map(|entry| entry.path());
        found = files.into_iter().find(|path| path.extension().is_some_and(|end| end == "sock"));
        found.is_some()
    });
    found.unwrap()
}

fn watch(world: &World) -> (serde_json::Value, Watcher) {
    let client = Client::connect(&socket(world)).unwrap();
    match client.watch(Some(PATIENCE)).unwrap() {
        (Answer::Ok { body, .. }, watcher) => (body, watcher),
        (answer, _) => panic!("{answer:?}"),
    }
}

fn next(watcher: &mut Watcher) -> Entry {
    loop {
        match watcher.next(Some(PATIENCE)).unwrap() {
            News::Event(entry) => return *entry,
            News::Notice(Notice::Viewers(_)) => {}
            news => panic!("{news:?}"),
        }
    }
}

#[test]
fn a_viewer_hears_what_the_stream_on_disk_says() {
    let world = World::new("");
    let daemon = Daemon::start(&world);
    let (body, mut watcher) = watch(&world);
    assert_eq!((body["mode"].as_str(), body["workers"].as_u64()), (Some("working"), Some(4)), "{body}");
    let seq = body["seq"].as_u64().unwrap();
    world.drop_in("a.yml", &ask("ok", "on: web"));
    let mut heard = Vec::new();
    while !heard.iter().any(|entry: &Entry| matches!(entry.event, Event::Pushed { .. })) {
        heard.push(next(&mut watcher));
    }
    let numbers: Vec<u64> = heard.iter().map(|entry| entry.seq).collect();
    assert_eq!(numbers, (seq + 1..=seq + numbers.len() as u64).collect::<Vec<_>>());
    let written: Vec<Entry> = world.events().into_iter().map(|event| serde_json::from_value(event).unwrap()).collect();
    assert_eq!(written[written.len() - heard.len()..], heard);
    let (_, mut second) = watch(&world);
    assert_eq!(watcher.next(Some(PATIENCE)).unwrap(), News::Notice(Notice::Viewers(2)));
    drop(watcher);
    while second.next(Some(PATIENCE)).unwrap() != News::Notice(Notice::Viewers(1)) {}
    daemon.kill();
    assert!(matches!(second.next(Some(PATIENCE)), Err(AskError::Closed)));
    // What it leaves of its socket is replaced without a word.
    let daemon = Daemon::start(&world);
    let (body, _watcher) = watch(&world);
    assert!(body["seq"].as_u64().unwrap() > *numbers.last().unwrap());
    daemon.stop();
    world.sound();
}

#[test]
fn a_viewer_that_stands_still_holds_nobody_up() {
    let world = World::new("");
    let daemon = Daemon::start(&world);
    // Connected, and never read from.
    let viewers: Vec<_> = (0..20).map(|_| watch(&world)).collect();
    for n in 0..8 {
        world.drop_in(&format!("{n}.yml"), &ask("ok", &format!("on: web-{n}")));
    }
    for n in 0..8 {
        assert_eq!(world.outcome(&format!("{n}.yml"))["status"], "succeeded");
    }
    world.ops_do(&["status"]).expect(0);
    drop(viewers);
    let (_, mut watcher) = watch(&world);
    while watcher.next(Some(PATIENCE)).unwrap() != News::Notice(Notice::Viewers(1)) {}
    daemon.stop();
    world.sound();
}
