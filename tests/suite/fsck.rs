//! `fsck` on sound repositories says so, and names every breach that is planted with plain git commands.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::world::{Daemon, Said, World, ask};

/// A world in which these requests have been run and recorded; the ids, in that order.
fn ran(names: &[&str]) -> (World, Vec<String>) {
    let world = World::new("");
    let files: Vec<(String, String)> =
        names.iter().map(|name| (format!("requests/{name}"), ask("ok", &format!("on: {name}")))).collect();
    for (path, text) in &files {
        world.push(&[(path.as_str(), text.as_str())]);
        world.ops_do(&["--once", "--no-tui"]).expect(0);
    }
    let ids = names.iter().map(|name| world.outcome(name)["id"].as_str().unwrap().to_owned()).collect();
    let ana = world.ana();
    world.git(&ana, &["pull", "-q", "--ff-only", "origin", "main"]);
    (world, ids)
}

/// What the person did goes to the remote and into the dispatcher's clone.
fn bring(world: &World) {
    world.git(&world.ana(), &["push", "-q", "--force", "origin", "HEAD:main"]);
    let ops = world.ops();
    world.git(&ops, &["pull", "-q", "--ff-only", "origin", "main"]);
}

fn commit(world: &World, subject: &str) -> String {
    let ana = world.ana();
    world.git(&ana, &["add", "-A"]);
    world.git(&ana, &["commit", "-q", "-m", subject]);
    world.git(&ana, &["rev-parse", "HEAD"]).trim().to_owned()
}

fn json(world: &World, code: i32) -> Value {
    world.ops_do(&["fsck", "--json"]).expect(code).json()
}

/// Exactly this is found, in JSON and for people; the breach.
#[track_caller]
fn breach(world: &World, invariant: &str, code: &str, words: &str) -> Value {
    let found = json(world, 1);
    let breaches = found["breaches"].as_array().unwrap();
    let found = breaches.iter().find(|breach| breach["code"] == code).unwrap_or_else(|| panic!("no {code}: {found}"));
    assert_eq!(found["invariant"], invariant, "{found}");
    assert!(found["message"].as_str().unwrap().contains(words), "{found}");
    assert!(!found["help"].as_array().unwrap().is_empty(), "what to type: {found}");
    let Said { out, err, .. } = world.ops_do(&["fsck"]).expect(1);
    assert!(out.contains(&format!("{invariant}  error[{code}]: ")) && err.is_empty(), "{out}{err}");
    found.clone()
}

#[track_caller]
fn only(world: &World, invariant: &str, code: &str, words: &str) -> Value {
    let found = breach(world, invariant, code, words);
    assert_eq!(json(world, 1)["breaches"].as_array().unwrap().len(), 1, "nothing else");
    found
}

#[test]
fn a_sound_repository_is_sound() {
    let world = World::new("");
    assert_eq!(json(&world, 0)["recorded"], 0);
    let gate = world.gate("g");
    let daemon = Daemon::start(&world);
    world.push(&[
        ("requests/good.yml", &ask("ok", "on: a")),
        ("requests/bad.yml", &ask("code", "on: b, code: 3")),
        ("requests/odd\u{202e}name.yml", "kind: nothing\n"),
        ("requests/torn.yml", "kind: [\n"),
    ]);
    std::os::unix::fs::symlink("/etc/passwd", world.ana().join("requests/link.yml")).unwrap();
    world.push(&[]);
    world.ops_do(&["fetch"]).expect(0);
    for name in ["good.yml", "bad.yml", "torn.yml", "link.yml"] {
        world.outcome(name);
    }
    world.drop_in("gate.yml", &ask("gate", "on: c, gate: g"));
    let open = gate.reached();
    world.drop_in("next.yml", &ask("ok", "on: c"));
    world.until("next.yml", "waiting");
    world.drop_in("local.yml", &ask("ok", "on: d"));
    world.outcome("local.yml");
    let found = json(&world, 0);
    assert_eq!(
        (&found["ok"], &found["breaches"], &found["daemon"]),
        (&true.into(), &Value::Array(vec![]), &true.into())
    );
    let count = |key: &str| found[key].as_u64().unwrap();
    assert_eq!((count("recorded"), count("running"), count("waiting")), (6, 1, 1), "{found}");
    let said = world.ops_do(&["fsck"]).expect(0);
    assert!(said.out.contains("all of it holds: 6 runs recorded in "), "{said:?}");
    // Killed in the middle: what runs is unfinished business, and no breach.
    daemon.kill();
    let found = json(&world, 0);
    assert_eq!((&found["daemon"], found["running"].as_u64()), (&false.into(), Some(1)), "{found}");
    drop(open);
    // A clone that no dispatcher ever worked in can be checked as well.
    let said = world.at(&world.ana(), &["fsck", "--json"]).expect(0);
    assert_eq!(said.json()["ok"], true);
}

#[test]
fn a_changed_status_is_named() {
    let (world, ids) = ran(&["a.yml", "b.yml"]);
    let path = format!("processed/{}/status.json", ids[0]);
    let file = world.ana().join(&path);
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("\"rc\": 0", "\"rc\": 1")).unwrap();
    let by = commit(&world, "Beautify");
    bring(&world);
    let found = only(&world, "I2", "E0542", "was changed after it was recorded");
    assert_eq!(
        (&found["run"], &found["commit"], &found["file"]),
        (&ids[0].clone().into(), &by.clone().into(), &path.into())
    );
    assert!(found["notes"].to_string().contains(&format!("{} Beautify", &by[..7])), "{found}");
    fs::write(&file, text).unwrap();
    commit(&world, "Put it back");
    bring(&world);
    let found = json(&world, 0);
    assert!(found["notes"][0].as_str().unwrap().contains("was changed and put back"), "{found}");
}

#[test]
fn a_status_that_is_gone_is_named() {
    let (world, ids) = ran(&["a.yml", "b.yml"]);
    world.git(&world.ana(), &["rm", "-rq", &format!("processed/{}", ids[1])]);
    let by = commit(&world, "Tidy up");
    bring(&world);
    let found = only(&world, "I1", "E0553", "is gone");
    assert_eq!((&found["run"], &found["commit"]), (&ids[1].clone().into(), &by.into()));
}

#[test]
fn a_status_that_is_not_final_is_named() {
    let (world, ids) = ran(&["a.yml"]);
    let id = "0197e0c2-8f7a-7b3c-9d1e-5a6b7c8d9e0f";
    let text = fs::read_to_string(world.ana().join(format!("processed/{}/status.json", ids[0]))).unwrap();
    fs::create_dir(world.ana().join(format!("processed/{id}"))).unwrap();
    // Another run's status is none of its own either.
    fs::write(world.ana().join(format!("processed/{id}/status.json")), text).unwrap();
    let by = commit(&world, "Copy");
    bring(&world);
    let found = only(&world, "I1", "E0543", "without a final status");
    assert_eq!((&found["run"], &found["commit"]), (&id.into(), &by.into()));
}

#[test]
fn a_request_that_went_without_a_result_is_named() {
    let (world, _) = ran(&["a.yml"]);
    fs::write(world.ana().join("requests/b.yml"), ask("ok", "on: web")).unwrap();
    commit(&world, "Ask");
    world.git(&world.ana(), &["rm", "-q", "requests/b.yml"]);
    let by = commit(&world, "executor: 0197e0c2-8f7a-7b3c-9d1e-5a6b7c8d9e0f rc=0");
    bring(&world);
    let found = only(&world, "I1", "E0544", "`b.yml`");
    assert_eq!((&found["commit"], &found["file"]), (&by.into(), &"requests/b.yml".into()));
}

#[test]
fn a_merge_of_ours_is_named_and_a_persons_is_not() {
    for (subject, is_ours) in [("Merge main", false), ("executor: 2 runs (2 ok, 0 failed)", true)] {
        let (world, _) = ran(&["a.yml"]);
        let ana = world.ana();
        world.git(&ana, &["checkout", "-q", "-b", "side", "HEAD~1"]);
        world.git(&ana, &["commit", "-q", "--allow-empty", "-m", "Aside"]);
        // The results are on the second parent's side.
        world.git(&ana, &["merge", "-q", "--no-ff", "-m", subject, "main"]);
        bring(&world);
        if is_ours {
            only(&world, "I7", "E0548", "is a merge commit");
        } else {
            json(&world, 0);
        }
    }
}

#[test]
fn a_rewritten_remote_is_named() {
    let (world, ids) = ran(&["a.yml"]);
    let (ana, ops) = (world.ana(), world.ops());
    world.git(&ana, &["reset", "-q", "--hard", "HEAD~2"]);
    world.git(&ana, &["commit", "-q", "--allow-empty", "-m", "Another history"]);
    world.git(&ana, &["push", "-q", "--force", "origin", "HEAD:main"]);
    world.git(&ops, &["fetch", "-q", "origin"]);
    only(&world, "I7", "E0545", "origin/main was rewritten");
    // Taken over by hand, the result is in no commit any more.
    world.git(&ops, &["reset", "-q", "--hard", "origin/main"]);
    let found = breach(&world, "I1", "E0550", "was announced as final");
    assert_eq!(found["run"], ids[0]);
}

#[test]
fn what_was_kept_is_not_lost() {
    let (world, ids) = ran(&["a.yml"]);
    let ana = world.ana();
    world.git(&ana, &["reset", "-q", "--hard", "HEAD~2"]);
    world.git(&ana, &["commit", "-q", "--allow-empty", "-m", "Another history"]);
    world.git(&ana, &["push", "-q", "--force", "origin", "HEAD:main"]);
    let daemon = Daemon::start(&world);
    world.event(0, "the rewrite is seen", |event| event["event"] == "git.diverged");
    world.ops_do(&["resume", "--accept-remote"]).expect(0);
    world.ops_do(&["fetch"]).expect(0);
    daemon.stop();
    let found = json(&world, 0);
    let kept = found["kept"].as_u64().unwrap() + found["recorded"].as_u64().unwrap();
    assert_eq!(kept, 1, "{} is replayed or kept: {found}", ids[0]);
}

#[test]
fn a_kept_ref_that_leads_nowhere_is_named() {
    let (world, _) = ran(&["a.yml"]);
    let kept = world.ops().join(".git/refs/dispatcher/kept");
    fs::create_dir_all(&kept).unwrap();
    let none = "1234567890123456789012345678901234567890";
    fs::write(kept.join(none), format!("{none}\n")).unwrap();
    only(&world, "I7", "E0546", none);
    fs::remove_file(kept.join(none)).unwrap();
    let tip = world.git(&world.ops(), &["rev-parse", "HEAD"]);
    fs::write(kept.join(tip.trim()), &tip).unwrap();
    json(&world, 0);
    fs::write(kept.join(none), &tip).unwrap();
    only(&world, "I7", "E0546", none);
}

#[test]
fn a_push_over_something_is_named() {
    let (world, _) = ran(&["a.yml"]);
    let ops = world.ops();
    let parent = world.git(&ops, &["rev-parse", "HEAD~1"]).trim().to_owned();
    let tip = world.git(&ops, &["rev-parse", "HEAD"]).trim().to_owned();
    let lost = world.git(&ops, &["commit-tree", "-p", &parent, "-m", "Lost", "HEAD^{tree}"]).trim().to_owned();
    let log = ops.join(".git/logs/refs/remotes/origin/main");
    let before = fs::read_to_string(&log).unwrap();
    fs::write(&log, format!("{before}{lost} {tip} d <d@x> 1700000000 +0000\tdispatcher: push\n")).unwrap();
    let found = only(&world, "I7", "E0547", "Lost");
    assert_eq!(found["commit"], lost);
    world.git(&ops, &["update-ref", &format!("refs/dispatcher/kept/{lost}"), &lost]);
    json(&world, 0);
}

#[test]
fn a_request_that_is_nowhere_is_named() {
    let (world, _) = ran(&["a.yml"]);
    world.push(&[("requests/b.yml", &ask("ok", "on: web"))]);
    bring(&world);
    json(&world, 0);
    fs::remove_file(world.ops().join("requests/b.yml")).unwrap();
    let found = only(&world, "I1", "E0549", "`b.yml`");
    assert_eq!(found["file"], "requests/b.yml");
    world.git(&world.ops(), &["checkout", "-q", "--", "requests/b.yml"]);
    json(&world, 0);
}

#[test]
fn a_run_that_vanished_is_named_with_and_without_its_daemon() {
    let world = World::new("");
    let gate = world.gate("g");
    let daemon = Daemon::start(&world);
    world.drop_in("a.yml", &ask("gate", "on: web, gate: g"));
    let open = gate.reached();
    let id = world.until("a.yml", "running");
    json(&world, 0);
    let away = world.path().join("away");
    fs::rename(world.ops().join("processed").join(&id), &away).unwrap();
    let found = breach(&world, "I8", "E0552", "is not in `processed/`");
    assert_eq!(found["run"], id);
    daemon.kill();
    let found = only(&world, "I8", "E0551", "neither recorded nor in `processed/`");
    assert_eq!(found["run"], id);
    // And one that the daemon has never heard of.
    fs::rename(&away, world.ops().join("processed").join(&id)).unwrap();
    drop(open);
    let daemon = Daemon::start(&world);
    drop(gate.reached());
    world.outcome("a.yml");
    let other = "0197e0c2-8f7a-7b3c-9d1e-5a6b7c8d9e0f";
    let folder = world.ops().join("processed").join(other);
    fs::create_dir(&folder).unwrap();
    let status = fs::read_to_string(world.ops().join(format!("processed/{id}/status.json"))).unwrap();
    let status = status.replace(&id, other).replace("\"succeeded\"", "\"queued\"");
    fs::write(folder.join("status.json"), status).unwrap();
    fs::write(folder.join("request.yml"), "kind: ok\n").unwrap();
    let found = breach(&world, "I8", "E0552", "the daemon does not know it");
    assert_eq!(found["run"], other);
    daemon.kill();
}

/// Moves a run into the archive branch as `archive: 1 runs` does, with this status where one is given.
fn archive(world: &World, id: &str, status: Option<&str>) {
    let ana = world.ana();
    let script = format!(
        "set -e; export GIT_INDEX_FILE=.git/archive.index; git read-tree --empty
         git read-tree --prefix=2026/11/24/{id}/ HEAD:processed/{id}
         test ! -e ../other.json || git update-index --add --cacheinfo 100644,$(git hash-object -w ../other.json),2026/11/24/{id}/status.json
         git push -q --force origin $(git commit-tree -m 'archive: 1 runs' $(git write-tree)):refs/heads/dispatcher/archive
         unset GIT_INDEX_FILE; git rm -rq --ignore-unmatch processed/{id} logs/{id}.log logs/{id}.jsonl"
    );
    if let Some(status) = status {
        fs::write(world.path().join("other.json"), status).unwrap();
    }
    let done = world.command("sh", &ana).args(["-c", &script]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    commit(world, "archive: 1 runs");
    bring(world);
    fetch_archive(world, &world.ops());
}

fn fetch_archive(world: &World, clone: &Path) {
    world.git(clone, &["fetch", "-q", "origin", "+refs/heads/dispatcher/archive:refs/heads/dispatcher/archive"]);
}

#[test]
fn what_is_in_the_archive_is_not_gone() {
    let (world, ids) = ran(&["a.yml", "b.yml"]);
    archive(&world, &ids[0], None);
    let found = json(&world, 0);
    assert_eq!((found["archived"].as_u64(), found["recorded"].as_u64()), (Some(1), Some(2)), "{found}");
    for name in ["refs/heads/dispatcher/archive", "refs/remotes/origin/dispatcher/archive"] {
        world.git(&world.ops(), &["update-ref", "-d", name]);
    }
    let found = only(&world, "I1", "E0553", "is gone");
    assert!(found["notes"].to_string().contains("and the archive does not have it"), "{found}");
}

#[test]
fn another_status_in_the_archive_is_named() {
    let (world, ids) = ran(&["a.yml"]);
    archive(&world, &ids[0], Some("{}\n"));
    let found = only(&world, "I2", "E0542", "was changed");
    assert!(found["notes"].to_string().contains("the archive has another one"), "{found}");
    assert_eq!(found["run"], ids[0]);
}
