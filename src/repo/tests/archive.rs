//! Old runs leave the branch for the archive: in two steps, never lost in between, and found wherever they lie.

use std::fs;

use super::world::{World, git, id, settings, try_git};
use crate::repo::*;

/// Commits runs that ended one day after the other, from the 1st of the month on.
fn record(world: &World, repo: &Repo, numbers: std::ops::RangeInclusive<u8>) {
    let runs: Vec<RunRecord> = numbers
        .map(|n| {
            let run = world.run(&format!("{n}.yml"), n, format!("kind: k{n}\n").as_bytes());
            let status = format!("{{\"n\": {n}, \"finished_at\": \"2026-11-{n:02}T23:59:59.999Z\"}}\n");
            fs::write(world.ours.join(format!("processed/{}/status.json", run.id)), status).unwrap();
            run
        })
        .collect();
    repo.commit(&runs).unwrap();
}

fn step(repo: &Repo, keep: usize) -> Retired {
    repo.retire(keep, 1, 500, &[]).unwrap()
}

/// Both steps and the push in between.
fn retire(repo: &Repo, keep: usize) -> Retired {
    assert!(step(repo, keep).unpublished);
    assert!(matches!(repo.push_archive().unwrap(), PushOutcome::Pushed { .. }));
    step(repo, keep)
}

fn on_branch(repo: &Repo) -> Vec<crate::request::RunId> {
    repo.recorded_ids().unwrap()
}

#[test]
fn old_runs_leave_the_branch_when_the_remote_has_them() {
    let world = World::new();
    let repo = world.open();
    record(&world, &repo, 1..=5);
    repo.push().unwrap();
    let before = repo.tip().unwrap();
    assert_eq!(step(&repo, 5), Retired::default(), "none is too many");
    assert_eq!(repo.retire(2, 4, 500, &[]).unwrap(), Retired::default(), "too few for a batch");
    assert_eq!(step(&repo, 2), Retired { unpublished: true, ..Retired::default() });
    assert_eq!(step(&repo, 2), Retired { unpublished: true, ..Retired::default() }, "not before they are pushed");
    assert_eq!((repo.tip().unwrap(), on_branch(&repo).len()), (before, 5));
    assert!(matches!(repo.push_archive().unwrap(), PushOutcome::Pushed { .. }));
    assert_eq!(repo.push_archive().unwrap(), PushOutcome::UpToDate);

    // Another life goes on where a crash has ended this one.
    let repo = world.open();
    let done = step(&repo, 2);
    assert_eq!((done.moved, done.commit, done.more), (3, repo.tip().unwrap(), false));
    assert_eq!(on_branch(&repo), [id(5), id(4)]);
    assert_eq!(world.status(), "");
    assert_eq!(git(&world.ours, &["log", "-1", "--format=%s"]), "archive: 3 runs");
    assert_eq!(git(&world.ours, &["log", "--format=%s", "dispatcher/archive"]), "archive: 3 runs");
    assert!(!world.ours.join(format!("processed/{}", id(1))).exists());
    assert!(!world.ours.join(format!("logs/{}.log", id(1))).exists());
    let run = id(3);
    assert_eq!(
        git(&world.ours, &["ls-tree", "-r", "--name-only", "dispatcher/archive", "2026/11/03"]),
        ["jsonl", "log"].map(|end| format!("2026/11/03/{run}/{run}.{end}")).join("\n")
            + &["request.yml", "status.json"].map(|name| format!("\n2026/11/03/{run}/{name}")).concat()
    );
    assert!((1..=5).all(|n| repo.is_recorded(id(n)).unwrap()) && !repo.is_recorded(id(6)).unwrap());
    assert_eq!(repo.file_of(id(3), "request.yml").unwrap().unwrap(), b"kind: k3\n");
    repo.push().unwrap();
    assert_eq!(step(&repo, 2), Retired::default());
    git(&world.ours, &["fsck", "--strict"]);
    world.remote_is_sound();
}

#[test]
fn what_is_recorded_meanwhile_waits_for_the_next_batch() {
    let world = World::new();
    let repo = world.open();
    record(&world, &repo, 1..=5);
    repo.push().unwrap();
    assert!(step(&repo, 2).unpublished);
    repo.push_archive().unwrap();
    record(&world, &repo, 6..=9);
    let done = step(&repo, 2);
    assert_eq!((done.moved, done.unpublished, done.more), (3, false, true));
    assert_eq!(git(&world.ours, &["log", "--format=%s", "dispatcher/archive"]), "archive: 3 runs");
    assert_eq!(retire(&repo, 2).moved, 4);
}

#[test]
fn a_fresh_clone_has_the_archive() {
    let world = World::new();
    let repo = world.open();
    record(&world, &repo, 1..=3);
    repo.push().unwrap();
    assert_eq!(retire(&repo, 1).moved, 2);
    repo.push().unwrap();
    git(world.dir(), &["clone", "-q", "remote.git", "fresh"]);
    let fresh = Repo::open(&world.dir().join("fresh"), settings()).unwrap();
    assert!(fresh.is_recorded(id(1)).unwrap(), "in the remote's, as git cloned it");
    let reader = Archive::open(&world.dir().join("fresh"), "origin").unwrap();
    let run = reader.find(id(2)).unwrap().unwrap();
    assert_eq!(
        (run.day.as_str(), reader.file(&run, "request.yml", 99).unwrap().unwrap()),
        ("2026/11/02", b"kind: k2\n".to_vec())
    );
    assert_eq!(reader.path(&run).unwrap(), format!("origin/dispatcher/archive:2026/11/02/{}", id(2)));
    assert_eq!(
        (reader.days().unwrap(), reader.ids().unwrap()),
        (vec!["2026/11/02".into(), "2026/11/01".into()], vec![id(2), id(1)])
    );
    assert_eq!(fresh.join_archives().unwrap(), None);
    let tips = git(&world.dir().join("fresh"), &["rev-parse", "dispatcher/archive", "origin/dispatcher/archive"]);
    assert_eq!(tips.lines().collect::<std::collections::BTreeSet<_>>().len(), 1, "the local one is made from it");
}

#[test]
fn what_a_person_edits_stays() {
    let world = World::new();
    let repo = world.open();
    record(&world, &repo, 1..=4);
    repo.push().unwrap();
    let edited = format!("processed/{}/status.json", id(1));
    world.write("ours", &edited, "mine\n");
    fs::remove_file(world.ours.join(format!("logs/{}.log", id(2)))).unwrap();
    world.write("ours", &format!("processed/{}/notes.txt", id(3)), "mine too\n");
    assert_eq!(retire(&repo, 1).moved, 2, "what is deleted anyway is in nobody's way");
    assert_eq!(on_branch(&repo), [id(4), id(1)]);
    assert_eq!(world.status(), format!(" M {edited}"));
    assert_eq!(fs::read(world.ours.join(format!("processed/{}/notes.txt", id(3)))).unwrap(), b"mine too\n");
    git(&world.ours, &["switch", "-q", "-c", "elsewhere"]);
    assert_eq!(step(&repo, 1), Retired::default(), "another branch is checked out");
    git(&world.ours, &["switch", "-q", "main"]);
    git(&world.ours, &["checkout", "-q", "--", "."]);
    assert_eq!(retire(&repo, 1).moved, 1);
}

#[test]
fn a_repository_without_a_remote_has_an_archive_too() {
    let world = World::new();
    git(&world.ours, &["remote", "remove", "origin"]);
    let repo = world.open();
    record(&world, &repo, 1..=4);
    let done = repo.retire(1, 1, 2, &[]).unwrap();
    assert_eq!((done.moved, done.unpublished, done.more), (2, false, true));
    assert_eq!(on_branch(&repo), [id(4), id(3)]);
    assert_eq!(repo.push_archive().unwrap(), PushOutcome::NoRemote);
}

#[test]
fn removals_are_replayed_on_what_others_pushed() {
    let world = World::new();
    let repo = world.open();
    record(&world, &repo, 1..=4);
    repo.push().unwrap();
    git(&world.theirs, &["pull", "-q", "origin", "main"]);
    world.write("theirs", &format!("processed/{}/status.json", id(2)), "edited there\n");
    world.write("theirs", "requests/b.yml", "kind: b\n");
    world.push("ask, and edit");
    assert_eq!(retire(&repo, 1).moved, 3);
    assert_eq!(repo.push().unwrap(), PushOutcome::Moved);
    repo.fetch().unwrap();
    let done = repo.integrate(&[]).unwrap();
    assert!(matches!(done, Integrated::Replayed { replayed: 1, .. }), "{done:?}");
    assert_eq!(on_branch(&repo), [id(4), id(2)], "the edited one stays, whole");
    assert!(world.ours.join(format!("logs/{}.log", id(2))).exists());
    assert_eq!(world.status(), "");
    assert!(matches!(repo.push().unwrap(), PushOutcome::Pushed { .. }));
    world.remote_is_sound();
    // When it goes too, the archive keeps what was final first.
    assert_eq!(retire(&repo, 1).moved, 1);
    assert!(repo.file_of(id(2), "status.json").unwrap().unwrap().starts_with(b"{\"n\": 2"));
}

/// A commit with one file, made by somebody who pushes it to the archive's branch.
fn push_archive(world: &World, parent: Option<&str>, path: &str) {
    let blob = super::world::git_with(&world.theirs, &["hash-object", "-w", "--stdin"], b"{}\n");
    git(&world.theirs, &["read-tree", "--empty"]);
    if let Some(parent) = parent {
        git(&world.theirs, &["read-tree", parent]);
    }
    git(&world.theirs, &["update-index", "--add", "--cacheinfo", &format!("100644,{blob},{path}")]);
    let tree = git(&world.theirs, &["write-tree"]);
    let parents = parent.map_or_else(Vec::new, |parent| vec!["-p", parent]);
    let commit = git(&world.theirs, &[&["commit-tree", &tree, "-m", "archive: 1 runs"], parents.as_slice()].concat());
    git(&world.theirs, &["push", "-q", "--force", "origin", &format!("{commit}:refs/heads/dispatcher/archive")]);
}

#[test]
fn two_archives_are_one() {
    let world = World::new();
    let repo = world.open();
    record(&world, &repo, 1..=5);
    repo.push().unwrap();
    // Somebody else was first, with an archive that has nothing to do with ours.
    push_archive(&world, None, &format!("2026/10/31/{}/status.json", id(200)));
    assert!(repo.retire(1, 1, 2, &[]).unwrap().unpublished);
    assert_eq!(repo.push_archive().unwrap(), PushOutcome::Moved);
    repo.fetch().unwrap();
    assert_eq!(repo.join_archives().unwrap(), None);
    assert!(matches!(repo.push_archive().unwrap(), PushOutcome::Pushed { .. }));
    assert_eq!(repo.retire(1, 1, 2, &[]).unwrap().moved, 2);
    // And goes on with it.
    git(&world.theirs, &["fetch", "-q"]);
    push_archive(&world, Some("origin/dispatcher/archive"), &format!("2026/10/31/{}/status.json", id(201)));
    assert!(repo.retire(1, 1, 2, &[]).unwrap().unpublished);
    repo.fetch().unwrap();
    assert_eq!(repo.join_archives().unwrap(), None);
    assert!(matches!(repo.push_archive().unwrap(), PushOutcome::Pushed { .. }));
    assert_eq!(repo.retire(1, 1, 2, &[]).unwrap().moved, 2);
    assert!([1, 2, 3, 4, 200, 201].iter().all(|n| repo.archived(id(*n)).unwrap().is_some()));
    assert!(
        try_git(&world.ours, &["merge-base", "--is-ancestor", "origin/dispatcher/archive", "dispatcher/archive"])
            .status
            .success()
    );
    git(&world.remote, &["fsck", "--strict"]);
}

#[test]
fn a_rewritten_archive_gets_back_what_it_lost() {
    let world = World::new();
    let repo = world.open();
    record(&world, &repo, 1..=3);
    repo.push().unwrap();
    assert_eq!(retire(&repo, 1).moved, 2);
    let old = git(&world.ours, &["rev-parse", "dispatcher/archive"]);
    push_archive(&world, None, &format!("2026/10/31/{}/status.json", id(200)));
    repo.fetch().unwrap();
    let told = repo.join_archives().unwrap().unwrap();
    assert!(told.code == "E0527" && told.notes.join("").contains(&old), "{told:?}");
    assert_eq!(git(&world.ours, &["rev-parse", &format!("refs/dispatcher/kept/{old}")]), old);
    assert!(repo.archive_is_ahead().unwrap());
    assert!(matches!(repo.push_archive().unwrap(), PushOutcome::Pushed { .. }));
    assert!([1, 2, 200].iter().all(|n| repo.archived(id(*n)).unwrap().is_some()));
    // Rolled back, or gone: it is pushed again, whatever was acknowledged before.
    git(&world.remote, &["update-ref", "-d", "refs/heads/dispatcher/archive"]);
    repo.fetch().unwrap();
    assert_eq!(repo.join_archives().unwrap(), None);
    assert!(step(&repo, 1).unpublished);
    assert!(matches!(repo.push_archive().unwrap(), PushOutcome::Pushed { .. }));
}
