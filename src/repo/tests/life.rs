//! A run's whole way: fetch, take, commit, push; what the commit says and holds.

use std::fs;

use super::world::{World, git, id, settings, taken};
use crate::repo::*;

#[test]
fn a_request_comes_in_and_its_result_goes_out() {
    let world = World::new();
    let repo = world.open();
    world.write("theirs", "requests/b.yml", "kind: b\n");
    let pushed = world.push("ask for b");
    let FetchOutcome::Fetched { remote_tip: Some(tip), new_commits: 1 } = repo.fetch().unwrap() else { panic!() };
    assert_eq!(tip.to_string(), pushed);
    let done = repo.integrate(&[]).unwrap();
    assert!(matches!(done, Integrated::FastForwarded { to, .. } if to == tip), "{done:?}");
    assert_eq!(fs::read(world.ours.join("requests/b.yml")).unwrap(), b"kind: b\n");
    assert_eq!(world.status(), "");

    let by = repo.requested_by("requests/b.yml", b"kind: b\n").unwrap().unwrap();
    assert_eq!((by.name.as_deref(), by.commit), (Some("Ana"), Some(pushed)));
    assert!(repo.holds("requests/b.yml", b"kind: b\n").unwrap());

    let run = world.take("b.yml", 1);
    assert_eq!(world.status(), " D requests/b.yml", "runs in flight are out of sight");
    let made = repo.commit(std::slice::from_ref(&run)).unwrap();
    assert!(made.indexed);
    assert_eq!(world.status(), "");
    assert_eq!(repo.unpublished().unwrap(), [made.oid]);
    assert_eq!(
        git(&world.ours, &["log", "-1", "--format=%an <%ae>%n%B"]),
        format!(
            "dispatcher <dispatcher@test>\nexecutor: {} rc=0\n\nkind: deploy\nresource: web-prod\nstatus: succeeded\n\
             request: b.yml\nduration: 1.2s",
            run.id
        )
    );
    assert_eq!(
        git(&world.ours, &["show", "--no-renames", "--name-status", "--format=", "HEAD"]),
        format!(
            "A\tlogs/{0}.jsonl\nA\tlogs/{0}.log\nA\tprocessed/{0}/request.yml\nA\tprocessed/{0}/status.json\nD\trequests/b.yml",
            run.id
        )
    );
    assert!(!repo.published(made.oid).unwrap());
    assert_eq!(repo.push().unwrap(), PushOutcome::Pushed { oid: made.oid });
    assert_eq!(repo.push().unwrap(), PushOutcome::UpToDate);
    assert!(repo.published(made.oid).unwrap());
    assert_eq!(git(&world.remote, &["rev-parse", "main"]), made.oid.to_string());
    assert!(repo.is_recorded(run.id).unwrap());
    assert_eq!(repo.recorded_ids().unwrap(), [run.id]);
    assert_eq!(repo.status_of(run.id).unwrap().unwrap(), b"{\"n\": 1}\n");
    git(&world.ours, &["fsck", "--strict"]);
    world.remote_is_sound();
}

#[test]
fn several_runs_share_a_commit_and_its_syncs() {
    let world = World::new();
    let repo = world.open();
    let mut runs: Vec<RunRecord> = (1..=50).map(|n| world.run(&format!("{n}.yml"), n, b"x\n")).collect();
    runs[7].rc = 3;
    let made = repo.commit(&runs).unwrap();
    let body = git(&world.ours, &["log", "-1", "--format=%B"]);
    assert!(body.starts_with("executor: 50 runs (49 ok, 1 failed)\n\nexecutor: "), "{body}");
    assert!(body.contains(&format!("executor: {} rc=3", id(8))));
    assert_eq!(repo.recorded_ids().unwrap().len(), 50);
    assert_eq!(repo.recorded_ids().unwrap()[0], id(50), "newest first");
    assert_eq!(world.status(), "");
    assert_eq!(repo.push().unwrap(), PushOutcome::Pushed { oid: made.oid });
    assert!(matches!(repo.commit(&[]), Err(CommitError::Empty)));
}

#[test]
fn final_results_never_change() {
    let world = World::new();
    let repo = world.open();
    let mut run = world.run("a.yml", 1, b"kind: a\n");
    repo.commit(std::slice::from_ref(&run)).unwrap();
    run.files[1].content = Content::Bytes(b"other".to_vec());
    assert_eq!(repo.commit(&[run.clone()]), Err(CommitError::Recorded(run.id)));
    for path in ["handlers/x", "processed/../x", "logs/other.log", ".git/config"] {
        run.files[0].path = path.into();
        assert!(matches!(repo.commit(&[run.clone()]), Err(CommitError::Path { .. })), "{path}");
    }
}

#[test]
fn other_bytes_under_the_same_name_stay() {
    let world = World::new();
    let repo = world.open();
    let run = world.take("a.yml", 1);
    world.write("ours", "requests/a.yml", "kind: new\n");
    git(&world.ours, &["commit", "-q", "-am", "ask anew"]);
    repo.commit(&[run]).unwrap();
    assert_eq!(repo.file("requests/a.yml").unwrap().unwrap(), b"kind: new\n");
    assert_eq!(fs::read(world.ours.join("requests/a.yml")).unwrap(), b"kind: new\n");
    assert_eq!(world.status(), "");
}

#[test]
fn a_request_that_came_back_is_removed_again() {
    let world = World::new();
    let repo = world.open();
    let run = world.take("a.yml", 1);
    git(&world.ours, &["checkout", "."]);
    assert!(world.ours.join("requests/a.yml").exists());
    repo.commit(&[run]).unwrap();
    assert!(!world.ours.join("requests/a.yml").exists());
    assert_eq!(world.status(), "");
}

#[test]
fn withdrawn_requests_are_told_from_recorded_ones() {
    let world = World::new();
    let repo = world.open();
    world.write("theirs", "requests/b.yml", "kind: b\n");
    world.push("ask for b");
    repo.fetch().unwrap();
    repo.integrate(&[]).unwrap();
    let from = repo.tip().unwrap().unwrap();
    let runs = [world.take("a.yml", 1), world.take("b.yml", 2)];
    fs::remove_file(world.theirs.join("requests/a.yml")).unwrap();
    let gone = world.push("never mind");
    repo.fetch().unwrap();
    let done = repo.integrate(&runs.each_ref().map(taken)).unwrap();
    let Integrated::FastForwarded { to, elsewhere, .. } = done else { panic!("{done:?}") };
    assert_eq!(elsewhere, []);
    let mut asked = runs.each_ref().map(taken).to_vec();
    // Dropped here under the same name, with other bytes: nobody withdrew that.
    asked.push(TakenPath { name: b"a.yml".to_vec(), oid: asked[1].oid });
    let found = repo.withdrawn(from, to, &asked).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].name.as_slice(), found[0].commit.to_string(), found[0].recorded),
        (&b"a.yml"[..], gone, false)
    );
    assert_eq!((found[0].oid, found[0].author.name.as_deref()), (asked[0].oid, Some("Ana")));
}

#[test]
fn new_repositories_are_plain_git() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    init_bare(&at("remote.git"), "main").unwrap();
    let files = [
        NewFile { path: "requests/.gitkeep".into(), bytes: Vec::new(), executable: false },
        NewFile { path: "handlers/hello.sh".into(), bytes: b"#!/bin/sh\n".to_vec(), executable: true },
    ];
    let repo = init(&at("work"), settings(), "begin", &files).unwrap();
    assert_eq!(git(&at("work"), &["status", "--porcelain"]), "");
    assert_eq!(repo.fetch().unwrap(), FetchOutcome::NoRemote);
    assert_eq!(repo.push().unwrap(), PushOutcome::NoRemote);
    assert_eq!(repo.integrate(&[]).unwrap(), Integrated::Unchanged);
    repo.add_remote("../remote.git").unwrap();
    assert_eq!(repo.fetch().unwrap(), FetchOutcome::Fetched { remote_tip: None, new_commits: 0 });
    assert_eq!(repo.integrate(&[]).unwrap(), Integrated::Unchanged);
    let tip = repo.tip().unwrap().unwrap();
    assert_eq!(repo.push().unwrap(), PushOutcome::Pushed { oid: tip }, "the first push makes the branch");
    let clone = clone_path(&at("remote.git"), &at("clone"), settings()).unwrap();
    assert_eq!(clone.tip().unwrap(), Some(tip));
    assert_eq!(git(&at("clone"), &["status", "--porcelain"]), "");
    let handlers = clone.read_folder(tip, "handlers").unwrap();
    assert_eq!((handlers[0].path.as_slice(), handlers[0].executable), (b"hello.sh".as_slice(), true));
    assert!(init(&at("work"), settings(), "again", &files).is_err());
    fs::create_dir_all(at("full/handlers")).unwrap();
    fs::write(at("full/handlers/hello.sh"), "mine").unwrap();
    assert!(clone_path(&at("remote.git"), &at("full"), settings()).is_err(), "nothing is overwritten");
    assert_eq!(fs::read(at("full/handlers/hello.sh")).unwrap(), b"mine");
    git(&at("clone"), &["fsck", "--strict"]);
}
