//! A remote whose history changed, and a second dispatcher at work on it.

use std::fs;

use super::world::{World, git, id, settings, taken};
use crate::repo::*;

fn settle(repo: &Repo) -> Integrated {
    repo.fetch().unwrap();
    repo.integrate(&[]).unwrap()
}

/// A world whose remote was rewritten after it was seen, with an unpublished result of ours.
fn rewritten() -> (World, Repo, Oid, Oid) {
    let world = World::new();
    let repo = world.open();
    world.write("theirs", "handlers/b.sh", "b\n");
    world.push("b");
    assert!(matches!(settle(&repo), Integrated::FastForwarded { .. }));
    let made = repo.commit(&[world.take("a.yml", 1)]).unwrap();
    git(&world.theirs, &["commit", "-q", "--amend", "-m", "b, rewritten"]);
    git(&world.theirs, &["push", "-q", "--force", "origin", "main"]);
    let there = Oid::from_str(&git(&world.theirs, &["rev-parse", "HEAD"])).unwrap();
    (world, repo, made.oid, there)
}

fn kept_ref(oid: Oid) -> String {
    format!("refs/dispatcher/kept/{oid}")
}

/// The refs of both sides, which must hold them.
fn holds_both(world: &World, here: Oid, there: Oid) {
    for oid in [here, there] {
        assert_eq!(git(&world.ours, &["rev-parse", &kept_ref(oid)]), oid.to_string());
    }
}

#[test]
fn a_rewritten_remote_waits_for_a_person() {
    let (world, repo, here, there) = rewritten();
    let diverged = Integrated::Diverged { local: Some(here), remote: Some(there) };
    assert!(!repo.is_diverged().unwrap(), "it was not asked yet");
    assert_eq!(settle(&repo), diverged);
    let text = repo.divergence(Some(here), Some(there)).unwrap().render();
    assert!(
        text.starts_with("error[E0501]: local main and origin/main have diverged (2 commits here, 1 there)"),
        "{text}"
    );
    assert!(text.contains("b, rewritten by Ana"), "{text}");
    assert_eq!(repo.push().unwrap(), PushOutcome::Moved);
    assert_eq!(repo.integrate(&[]).unwrap(), diverged, "it stays so");
    assert!(repo.is_diverged().unwrap());

    let Decided { outcome, kept } = repo.accept_remote(&[]).unwrap();
    let Integrated::Replayed { to, replayed: 1, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(git(&world.ours, &["rev-parse", "main~1"]), there.to_string());
    assert_eq!(kept, [here, there].map(kept_ref));
    holds_both(&world, here, there);
    assert_eq!(world.status(), "");
    assert!(!repo.is_diverged().unwrap());
    assert_eq!(repo.push().unwrap(), PushOutcome::Pushed { oid: to });
    assert_eq!(settle(&repo), Integrated::Unchanged);
    world.remote_is_sound();
}

#[test]
fn a_person_can_keep_the_local_side() {
    let (world, repo, here, there) = rewritten();
    settle(&repo);
    let expect = Decided { outcome: Integrated::Unchanged, kept: [here, there].map(kept_ref).to_vec() };
    assert_eq!(repo.keep_local().unwrap(), expect);
    holds_both(&world, here, there);
    assert_eq!(repo.integrate(&[]).unwrap(), Integrated::Unchanged);
    assert!(repo.is_diverged().unwrap(), "it may still be decided otherwise");
    // The order is for what was fetched: a remote that moved on since is not replaced.
    world.write("theirs", "requests/c.yml", "kind: c\n");
    let later = world.push("ask for c");
    assert_eq!(repo.push().unwrap(), PushOutcome::Moved);
    assert_eq!(git(&world.remote, &["rev-parse", "main"]), later);
    let moved = Oid::from_str(&later).unwrap();
    assert_eq!(settle(&repo), Integrated::Diverged { local: Some(here), remote: Some(moved) }, "nor is it followed");
    assert!(repo.is_diverged().unwrap());
    assert_eq!(repo.push().unwrap(), PushOutcome::Moved);
    repo.keep_local().unwrap();
    holds_both(&world, here, moved);
    assert_eq!(repo.push().unwrap(), PushOutcome::Pushed { oid: here });
    assert_eq!(settle(&repo), Integrated::Unchanged);
    assert!(!repo.is_diverged().unwrap());
}

#[test]
fn an_order_stands_while_the_remote_is_as_it_was() {
    let (world, repo, here, there) = rewritten();
    settle(&repo);
    repo.keep_local().unwrap();
    world.write("theirs", "requests/c.yml", "kind: c\n");
    world.push("ask for c");
    assert_eq!(repo.push().unwrap(), PushOutcome::Moved);
    git(&world.remote, &["update-ref", "refs/heads/main", &there.to_string()]);
    assert_eq!(repo.push().unwrap(), PushOutcome::Pushed { oid: here });
    assert_eq!(settle(&repo), Integrated::Unchanged);
    assert!(!repo.is_diverged().unwrap());
}

#[test]
fn unrelated_history_and_a_deleted_branch_wait_for_a_person() {
    let world = World::new();
    let repo = world.open();
    settle(&repo);
    git(&world.theirs, &["switch", "-q", "--orphan", "fresh"]);
    world.write("theirs", "requests/x.yml", "kind: x\n");
    git(&world.theirs, &["add", "-A"]);
    git(&world.theirs, &["commit", "-q", "-m", "another world"]);
    git(&world.theirs, &["push", "-q", "--force", "origin", "fresh:main"]);
    assert!(matches!(settle(&repo), Integrated::Diverged { remote: Some(_), .. }));
    assert!(repo.is_diverged().unwrap());
    git(&world.remote, &["update-ref", "-d", "refs/heads/main"]);
    assert!(matches!(settle(&repo), Integrated::Diverged { remote: None, .. }));
    assert!(repo.is_diverged().unwrap());
    repo.keep_local().unwrap();
    assert!(matches!(repo.push().unwrap(), PushOutcome::Pushed { .. }));
    assert_eq!(settle(&repo), Integrated::Unchanged);
}

#[test]
fn a_remote_that_forgot_our_results_gets_them_again() {
    let world = World::new();
    let repo = world.open();
    settle(&repo);
    let before = git(&world.remote, &["rev-parse", "main"]);
    let made = repo.commit(&[world.take("a.yml", 1)]).unwrap();
    assert_eq!(repo.push().unwrap(), PushOutcome::Pushed { oid: made.oid });
    git(&world.remote, &["update-ref", "refs/heads/main", &before]);
    assert_eq!(settle(&repo), Integrated::Unchanged);
    assert_eq!(repo.unpublished().unwrap(), [made.oid]);
    assert_eq!(repo.push().unwrap(), PushOutcome::Pushed { oid: made.oid });
}

#[test]
fn a_remote_that_forgot_a_persons_commit_waits_for_a_person() {
    let world = World::new();
    let repo = world.open();
    world.write("theirs", "handlers/b.sh", "b\n");
    world.push("b");
    settle(&repo);
    git(&world.remote, &["update-ref", "refs/heads/main", "main~1"]);
    assert!(matches!(settle(&repo), Integrated::Diverged { .. }));
    let Decided { outcome: Integrated::Replayed { replayed: 0, .. }, .. } = repo.accept_remote(&[]).unwrap() else {
        panic!()
    };
    assert!(!world.ours.join("handlers/b.sh").exists());
    assert_eq!(world.status(), "");
}

#[test]
fn a_changed_request_survives_the_replay_of_its_removal() {
    let world = World::new();
    let repo = world.open();
    repo.commit(&[world.take("a.yml", 1)]).unwrap();
    world.write("theirs", "requests/a.yml", "kind: changed\n");
    world.push("change a");
    repo.fetch().unwrap();
    let Integrated::Replayed { elsewhere, .. } = repo.integrate(&[]).unwrap() else { panic!() };
    assert_eq!(elsewhere, []);
    assert_eq!(repo.file("requests/a.yml").unwrap().unwrap(), b"kind: changed\n");
    assert_eq!(fs::read(world.ours.join("requests/a.yml")).unwrap(), b"kind: changed\n");
    assert_eq!(world.status(), "");
}

/// Their clone as a second dispatcher.
fn second(world: &World, name: &str, n: u8, result: &str) {
    let there = Repo::open(&world.theirs, settings()).unwrap();
    let run = RunRecord {
        files: vec![RecordFile {
            path: format!("processed/{}/status.json", id(n)),
            content: Content::Bytes(result.as_bytes().to_vec()),
        }],
        ..world.run(name, n, b"kind: a\n")
    };
    fs::remove_dir_all(world.ours.join("processed").join(id(n).to_string())).unwrap();
    fs::remove_file(world.theirs.join("requests").join(name)).unwrap();
    there.commit(&[run]).unwrap();
    assert!(matches!(there.push().unwrap(), PushOutcome::Pushed { .. }));
}

#[test]
fn both_results_of_a_run_that_two_recorded_are_kept() {
    let world = World::new();
    let repo = world.open();
    second(&world, "a.yml", 1, "theirs\n");
    let made = repo.commit(&[world.take("a.yml", 1)]).unwrap();
    repo.fetch().unwrap();
    let Integrated::Replayed { elsewhere, .. } = repo.integrate(&[]).unwrap() else { panic!() };
    assert!(elsewhere.contains(&Elsewhere::Run { id: id(1) }), "{elsewhere:?}");
    assert!(elsewhere.contains(&Elsewhere::Request { name: b"a.yml".to_vec() }), "{elsewhere:?}");
    assert_eq!(repo.status_of(id(1)).unwrap().unwrap(), b"theirs\n");
    let ours = format!("processed/{}/other-{}/status.json", id(1), &made.oid.to_string()[..8]);
    assert_eq!(repo.file(&ours).unwrap().unwrap(), b"{\"n\": 1}\n");
    assert_eq!(world.status(), "");
    assert!(matches!(repo.push().unwrap(), PushOutcome::Pushed { .. }));
}

#[test]
fn a_request_that_two_took_is_noticed() {
    let world = World::new();
    let repo = world.open();
    let run = world.take("a.yml", 1);
    second(&world, "a.yml", 2, "theirs\n");
    repo.fetch().unwrap();
    let Integrated::FastForwarded { elsewhere, .. } = repo.integrate(&[taken(&run)]).unwrap() else { panic!() };
    assert_eq!(elsewhere, [Elsewhere::Request { name: b"a.yml".to_vec() }]);
    repo.commit(&[run]).unwrap();
    assert_eq!(repo.recorded_ids().unwrap(), [id(2), id(1)], "both results are kept");
}
