//! What a power cut does to the checkout, made by hand: torn files, results of a commit that is gone, locks without an
//! owner.

use std::fs;
use std::os::unix::fs::symlink;

use super::world::{World, git, id};
use crate::repo::Content;

#[test]
fn torn_files_of_recorded_runs_are_written_again() {
    let world = World::new();
    let repo = world.open();
    repo.commit(&[world.take("a.yml", 1)]).unwrap();
    let at = |name: &str| world.ours.join(name.replace("ID", &id(1).to_string()));
    let (log, events, status) = (at("logs/ID.log"), at("logs/ID.jsonl"), at("processed/ID/status.json"));
    assert!(repo.mend_torn().unwrap().is_empty(), "all of them are whole");
    for (file, left) in [(&log, "do"), (&events, ""), (&status, "{\"n\0\0\0\0")] {
        fs::write(file, left).unwrap();
    }
    let mut mended = repo.mend_torn().unwrap();
    mended.sort_unstable();
    let id = id(1);
    assert_eq!(
        mended,
        [format!("logs/{id}.jsonl"), format!("logs/{id}.log"), format!("processed/{id}/status.json")],
        "{mended:?}"
    );
    assert_eq!((fs::read_to_string(&log).unwrap().as_str(), world.status().as_str()), ("done\n", ""));
}

#[test]
fn edits_are_not_taken_for_torn_files() {
    let world = World::new();
    let repo = world.open();
    repo.commit(&[world.take("a.yml", 1)]).unwrap();
    fs::write(world.ours.join(format!("logs/{}.log", id(1))), "dumb").unwrap();
    fs::write(world.ours.join(format!("processed/{}/request.yml", id(1))), "kind: a\n# seen\n").unwrap();
    fs::remove_file(world.ours.join(format!("logs/{}.jsonl", id(1)))).unwrap();
    fs::write(world.ours.join("handlers/a.sh"), "").unwrap();
    let before = world.status();
    assert!(repo.mend_torn().unwrap().is_empty());
    assert_eq!(world.status(), before);
    git(&world.ours, &["checkout", "-q", "--detach"]);
    fs::write(world.ours.join(format!("logs/{}.log", id(1))), "").unwrap();
    assert!(repo.mend_torn().unwrap().is_empty(), "these files are another commit's");
}

#[test]
fn results_of_a_commit_that_is_gone_leave_the_index() {
    let world = World::new();
    let repo = world.open();
    repo.commit(&[world.take("a.yml", 1)]).unwrap();
    world.write("ours", "handlers/b.sh", "staged\n");
    git(&world.ours, &["add", "handlers/b.sh"]);
    let before = git(&world.ours, &["rev-parse", "HEAD"]);
    let mut run = world.run("b.yml", 2, b"kind: b\n");
    repo.commit(&[run.clone()]).unwrap();
    // The index came to the disk, and neither the branch nor the note.
    git(&world.ours, &["update-ref", "refs/heads/main", &before]);
    let repo = world.open();
    repo.unstage_lost().unwrap();
    assert_eq!(world.status(), "A  handlers/b.sh");
    run.files[1].content = Content::Bytes(b"other\n".to_vec());
    world.write("ours", &run.files[1].path, "other\n");
    repo.commit(&[run]).unwrap();
    repo.unstage_lost().unwrap();
    assert_eq!(world.status(), "A  handlers/b.sh");
}

#[test]
fn locks_of_ours_are_known_by_their_name_alone() {
    let world = World::new();
    let repo = world.open();
    let (ours, theirs) = (world.ours.join(".git/index.lock"), world.ours.join(".git/refs/heads/main.lock"));
    symlink("dispatcher 1", &ours).unwrap();
    symlink("somewhere", &theirs).unwrap();
    assert!(!super::world::try_git(&world.ours, &["add", "-A"]).status.success(), "it is a lock for every git");
    assert_eq!(repo.sweep_locks().unwrap(), [ours]);
    assert!(theirs.symlink_metadata().is_ok());
}
