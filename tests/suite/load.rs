//! Two hundred requests that end in every way there is, in one go.

use std::collections::BTreeMap;

use crate::world::{Daemon, World, ask};

/// A request and how it must end.
struct Case {
    name: String,
    text: String,
    status: &'static str,
    rc: i64,
}

const FIRST: &str = "0197e0c2-8f7a-7b3c-9d1e-5a6b7c8d9e0f";

fn cases() -> Vec<Case> {
    (0..200)
        .map(|n| {
            // Three of the ten resources get most of the work.
            let on = if n % 4 == 0 { format!("cold{}", n / 4 % 7) } else { format!("hot{}", n % 3) };
            let on = format!("on: {on}");
            let (text, status, rc) = match n % 20 {
                1 => (ask("code", &format!("{on}, code: {}", n % 200 + 1)), "failed", n % 200 + 1),
                2 => (ask("signal", &on), "failed", 137),
                3 => (ask("late", &on), "timed_out", 124),
                4 => (ask("hog", &on), "out_of_memory", 137),
                5 => (format!("kind: nobody{n}\n"), "rejected", 64),
                6 => (format!("kind: [ok{n}\n"), "rejected", 65),
                7 => (ask("ok", &format!("{on}, more: {n}")), "rejected", 65),
                8 => (ask("lame", &on), "rejected", 78),
                9 => (format!("{}expires_at: 2020-01-01T00:00:00Z\n", ask("ok", &on)), "expired", 75),
                10 => (format!("kind: ok\nid: {FIRST}\nparams: {{on: first}}\n"), "duplicate", 0),
                11 => (format!("kind: ok\nid: {FIRST}\nparams: {{on: x{n}}}\n"), "rejected", 65),
                12 => (ask("flaky", &format!("{on}, at: 2")), "succeeded", 0),
                13 => (ask("flaky", &format!("{on}, at: 9")), "failed", 75),
                14 => (ask("work", &format!("{on}, for: 0.05")), "succeeded", 0),
                15 => (format!("{}priority: {}\n", ask("ok", &on), n % 100), "succeeded", 0),
                _ => (ask("ok", &on), "succeeded", 0),
            };
            Case { name: format!("{n:03}.yml"), text, status, rc }
        })
        .collect()
}

#[test]
fn two_hundred_requests_end_as_they_must() {
    let world = World::new("");
    let (crash, stop) = (world.gate("crash"), world.gate("stop"));
    world.drop_in("crash.yml", &ask("once", "on: hot0, gate: crash"));
    world.drop_in("first.yml", &format!("kind: ok\nid: {FIRST}\nparams: {{on: first}}\n"));
    let daemon = Daemon::start(&world);
    let open = crash.reached();
    world.outcome("first.yml");
    daemon.kill();
    drop(open);
    let cases = cases();
    let files: Vec<(String, &str)> = cases.iter().map(|c| (format!("requests/{}", c.name), c.text.as_str())).collect();
    let cancelled = ask("polite", "on: hot1, gate: stop");
    let mut files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    files.push(("requests/cancelled.yml", &cancelled));
    world.push(&files);
    let daemon = Daemon::spawn(&world, &["--no-tui", "--once"]);
    let open = stop.reached();
    world.ops_do(&["cancel", "cancelled.yml"]).expect(0);
    assert_eq!(daemon.ended(), 0);
    drop(open);
    let ended: BTreeMap<String, (String, i64)> = world
        .recorded("HEAD")
        .into_values()
        .map(|s| {
            let text = |key: &str| s[key].as_str().unwrap().to_owned();
            (text("request"), (text("status"), s["rc"].as_i64().unwrap()))
        })
        .collect();
    assert_eq!(world.recorded("HEAD").len(), 203);
    let mut expect: BTreeMap<String, (String, i64)> =
        cases.into_iter().map(|case| (case.name, (case.status.to_owned(), case.rc))).collect();
    for (name, status, rc) in
        [("first.yml", "succeeded", 0), ("crash.yml", "crashed", 70), ("cancelled.yml", "cancelled", 130)]
    {
        expect.insert(name.to_owned(), (status.to_owned(), rc));
    }
    let wrong: Vec<_> = expect.iter().filter(|(name, end)| ended.get(*name) != Some(*end)).collect();
    assert!(wrong.is_empty(), "expected {wrong:?}, got {:?}", wrong.iter().map(|w| ended.get(w.0)).collect::<Vec<_>>());
    let inbox: Vec<_> = std::fs::read_dir(world.ops().join("requests")).unwrap().flatten().collect();
    assert_eq!(inbox.len(), 1, "{inbox:?}");
    world.sound();
}
