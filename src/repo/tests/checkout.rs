//! A person works in the same checkout: nothing of theirs gets in, is overwritten or lost.

use std::fs;
use std::os::unix::fs::symlink;

use super::world::{World, git, taken, try_git};
use crate::repo::*;

/// Lets a person do `edit` in our checkout, then the other side do `push`; says what is in the way.
fn check(edit: impl Fn(&World), push: impl Fn(&World), expect: &[&str]) {
    let world = World::new();
    let repo = world.open();
    edit(&world);
    let before = world.status();
    push(&world);
    world.push("change");
    repo.fetch().unwrap();
    let tip = repo.tip().unwrap();
    match repo.integrate(&[]).unwrap() {
        Integrated::Blocked(Blocked { paths, why: Why::Edited }) => {
            assert_eq!(paths, expect);
            assert_eq!((world.status(), repo.tip().unwrap()), (before, tip), "nothing moved");
        }
        Integrated::FastForwarded { .. } => {
            assert_eq!(expect, [""; 0]);
            assert_eq!(world.status(), before, "what a person did is as it was");
        }
        other => panic!("{other:?}"),
    }
    assert!(!world.ours.join(".git/index.lock").exists());
    git(&world.ours, &["fsck", "--strict"]);
}

#[test]
fn edits_elsewhere_are_left_alone() {
    let push = |w: &World| w.write("theirs", "requests/b.yml", "kind: b\n");
    check(|w| w.write("ours", "handlers/a.sh", "edited\n"), push, &[]);
    check(|w| fs::remove_file(w.ours.join("handlers/a.sh")).unwrap(), push, &[]);
    check(|w| w.write("ours", "new.txt", "untracked\n"), push, &[]);
    let staged = |w: &World| {
        w.write("ours", "handlers/a.sh", "staged\n");
        w.write("ours", "handlers/b.sh", "staged too\n");
        git(&w.ours, &["add", "-A"]);
        w.write("ours", "handlers/a.sh", "and edited\n");
    };
    check(staged, push, &[]);
}

#[test]
fn edits_of_what_changed_are_in_the_way() {
    let push = |w: &World| w.write("theirs", "handlers/a.sh", "theirs\n");
    check(|w| w.write("ours", "handlers/a.sh", "ours\n"), push, &["handlers/a.sh"]);
    check(|w| fs::remove_file(w.ours.join("handlers/a.sh")).unwrap(), push, &["handlers/a.sh"]);
    let staged = |w: &World| {
        w.write("ours", "handlers/a.sh", "staged\n");
        git(&w.ours, &["add", "-A"]);
    };
    check(staged, push, &["handlers/a.sh"]);
    check(|w| drop(git(&w.ours, &["rm", "-q", "--cached", "handlers/a.sh"])), push, &["handlers/a.sh"]);
    check(|w| drop(git(&w.ours, &["update-index", "--chmod=+x", "handlers/a.sh"])), push, &["handlers/a.sh"]);
    let deleted = |w: &World| fs::remove_file(w.theirs.join("handlers/a.sh")).unwrap();
    check(|w| w.write("ours", "handlers/a.sh", "ours\n"), deleted, &["handlers/a.sh"]);
}

#[test]
fn untracked_files_are_in_the_way_unless_they_are_the_same() {
    let push = |w: &World| w.write("theirs", "handlers/b/c.sh", "new\n");
    check(|w| w.write("ours", "handlers/b/c.sh", "other\n"), push, &["handlers/b/c.sh"]);
    check(|w| w.write("ours", "handlers/b", "a file\n"), push, &["handlers/b"]);
    let world = World::new();
    let repo = world.open();
    world.write("ours", "handlers/b/c.sh", "new\n");
    push(&world);
    world.push("change");
    repo.fetch().unwrap();
    assert!(matches!(repo.integrate(&[]).unwrap(), Integrated::FastForwarded { .. }));
    assert_eq!(world.status(), "");
}

#[test]
fn nothing_is_written_through_a_link() {
    let outside = tempfile::tempdir().unwrap();
    let path = outside.path().to_owned();
    let link = |w: &World| symlink(&path, w.ours.join("handlers/lib")).unwrap();
    check(link, |w| w.write("theirs", "handlers/lib/x.sh", "new\n"), &["handlers/lib"]);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn files_and_folders_change_places() {
    let swap = |w: &World| {
        fs::remove_file(w.theirs.join("handlers/a.sh")).unwrap();
        w.write("theirs", "handlers/a.sh/inner", "now a folder\n");
    };
    check(|_| {}, swap, &[]);
    let world = World::new();
    let repo = world.open();
    let follow = || {
        repo.fetch().unwrap();
        repo.integrate(&[]).unwrap()
    };
    swap(&world);
    world.push("to a folder");
    assert!(matches!(follow(), Integrated::FastForwarded { .. }));
    assert_eq!(fs::read(world.ours.join("handlers/a.sh/inner")).unwrap(), b"now a folder\n");
    fs::remove_dir_all(world.theirs.join("handlers/a.sh")).unwrap();
    world.write("theirs", "handlers/a.sh", "a file again\n");
    world.push("and back");
    world.write("ours", "handlers/a.sh/mine", "untracked\n");
    let Integrated::Blocked(blocked) = follow() else { panic!() };
    assert_eq!(blocked.paths, ["handlers/a.sh/mine"]);
    fs::remove_file(world.ours.join("handlers/a.sh/mine")).unwrap();
    assert!(matches!(follow(), Integrated::FastForwarded { .. }));
    assert_eq!(fs::read(world.ours.join("handlers/a.sh")).unwrap(), b"a file again\n");
    assert_eq!(world.status(), "");
}

#[test]
fn taken_requests_are_no_edits() {
    let world = World::new();
    let repo = world.open();
    let run = world.take("a.yml", 1);
    world.write("theirs", "requests/a.yml", "kind: new\n");
    world.push("ask anew under the same name");
    repo.fetch().unwrap();
    assert!(matches!(repo.integrate(&[]).unwrap(), Integrated::Blocked(_)), "a person's deletion is an edit");
    assert!(matches!(repo.integrate(&[taken(&run)]).unwrap(), Integrated::FastForwarded { .. }));
    assert_eq!(fs::read(world.ours.join("requests/a.yml")).unwrap(), b"kind: new\n");
    repo.commit(&[run]).unwrap();
    assert!(world.ours.join("requests/a.yml").exists(), "it is another request");
    assert_eq!(world.status(), "");
}

#[test]
fn our_commit_takes_nothing_of_a_person_along() {
    let world = World::new();
    let repo = world.open();
    world.write("ours", "handlers/b.sh", "staged\n");
    git(&world.ours, &["add", "handlers/b.sh"]);
    world.write("ours", "handlers/a.sh", "edited\n");
    let run = world.take("a.yml", 1);
    repo.commit(&[run]).unwrap();
    assert_eq!(world.status(), " M handlers/a.sh\nA  handlers/b.sh");
    assert_eq!(git(&world.ours, &["show", "--name-only", "--format=", "HEAD", "--", "handlers"]), "");
    // An edit of the same second and size as the checkout must not hide behind our rewrite of the index.
    world.write("ours", "handlers/a.sh", "#!/bin/SH\n");
    assert_eq!(world.status(), " M handlers/a.sh\nA  handlers/b.sh");
}

#[test]
fn a_person_elsewhere_holds_intake_and_not_the_results() {
    for (args, expect) in [
        (vec!["switch", "-q", "-c", "topic"], CheckoutState::OtherBranch { name: "topic".into() }),
        (vec!["switch", "-q", "--detach"], CheckoutState::Detached { commit: String::new() }),
    ] {
        let world = World::new();
        let repo = world.open();
        assert_eq!(repo.checkout_state().unwrap(), CheckoutState::OnBranch);
        let run = world.take("a.yml", 1);
        git(&world.ours, &args);
        let state = repo.checkout_state().unwrap();
        match (&state, &expect) {
            (CheckoutState::Detached { commit }, CheckoutState::Detached { .. }) => {
                assert_eq!(*commit, git(&world.ours, &["rev-parse", "HEAD"]));
            }
            _ => assert_eq!(state, expect),
        }
        let before = world.status();
        let made = repo.commit(std::slice::from_ref(&run)).unwrap();
        assert_eq!(git(&world.ours, &["rev-parse", "main"]), made.oid.to_string());
        assert_eq!(world.status(), before, "index and files of the other branch are as they were");
        assert_eq!(repo.push().unwrap(), PushOutcome::Pushed { oid: made.oid });
        git(&world.theirs, &["pull", "-q", "--ff-only"]);
        world.write("theirs", "requests/c.yml", "kind: c\n");
        world.push("ask for c");
        repo.fetch().unwrap();
        let Integrated::Blocked(blocked) = repo.integrate(&[]).unwrap() else { panic!() };
        assert_eq!(blocked.why, Why::Checkout(state));
        git(&world.ours, &["checkout", "-q", "--", "requests"]);
        git(&world.ours, &["switch", "-q", "main"]);
        assert!(matches!(repo.integrate(&[]).unwrap(), Integrated::FastForwarded { .. }));
        assert_eq!(world.status(), "");
    }
}

#[test]
fn a_merge_in_progress_holds_intake() {
    let world = World::new();
    let repo = world.open();
    git(&world.ours, &["switch", "-q", "-c", "topic"]);
    world.write("ours", "handlers/a.sh", "topic\n");
    git(&world.ours, &["commit", "-q", "-am", "topic"]);
    git(&world.ours, &["switch", "-q", "main"]);
    world.write("ours", "handlers/a.sh", "main\n");
    git(&world.ours, &["commit", "-q", "-am", "main"]);
    assert!(!try_git(&world.ours, &["merge", "-q", "topic"]).status.success());
    assert_eq!(repo.checkout_state().unwrap(), CheckoutState::InProgress { what: "merge" });
    let run = world.take("a.yml", 1);
    assert!(repo.commit(&[run]).unwrap().indexed);
    assert_eq!(world.status(), "UU handlers/a.sh", "the conflict is as it was");
}

#[test]
fn a_held_index_is_mended_later() {
    let world = World::new();
    let repo = world.open();
    let lock = world.ours.join(".git/index.lock");
    fs::write(&lock, "").unwrap();
    let CheckoutState::IndexLocked { holder } = repo.checkout_state().unwrap() else { panic!() };
    assert!(holder.starts_with("was left by a git command that died"), "{holder}");
    assert_eq!(repo.index_lock(), None, "it may be in passing");
    let made = repo.commit(&[world.take("a.yml", 1)]).unwrap();
    assert!(!made.indexed);
    assert!(!repo.mend_index().unwrap());
    assert_eq!(repo.sweep_locks().unwrap(), [""; 0].map(std::path::PathBuf::from), "it is not ours");
    fs::remove_file(&lock).unwrap();
    assert!(world.status().contains("D  processed/"), "the index lags behind");
    world.write("ours", "handlers/b.sh", "staged\n");
    git(&world.ours, &["add", "handlers/b.sh"]);
    assert!(repo.mend_index().unwrap());
    assert_eq!(world.status(), "A  handlers/b.sh");
}

#[test]
fn a_crash_in_the_middle_is_finished_by_the_next_try() {
    let world = World::new();
    let repo = world.open();
    world.write("theirs", "requests/b.yml", "kind: b\n");
    world.write("theirs", "handlers/a.sh", "new\n");
    fs::remove_file(world.theirs.join("requests/a.yml")).unwrap();
    let to = world.push("change");
    repo.fetch().unwrap();
    // Died after the work tree was written, holding the index.
    fs::write(world.ours.join("handlers/a.sh"), "new\n").unwrap();
    fs::remove_file(world.ours.join("requests/a.yml")).unwrap();
    fs::write(world.ours.join(".git/index.lock"), "dispatcher 1\n").unwrap();
    fs::write(world.ours.join(".git/refs/heads/main.lock"), "dispatcher 1\n").unwrap();
    assert_eq!(repo.sweep_locks().unwrap().len(), 2);
    let from = git(&world.ours, &["rev-parse", "main"]);
    let index = fs::read(world.ours.join(".git/index")).unwrap();
    assert!(matches!(repo.integrate(&[]).unwrap(), Integrated::FastForwarded { .. }));
    assert_eq!(world.status(), "");
    // Died after the branch had moved while the index was held.
    fs::write(world.ours.join(".git/index"), index).unwrap();
    fs::write(world.ours.join(".git/dispatcher-index"), format!("{from}\n")).unwrap();
    assert_ne!(world.status(), "");
    let repo = world.open();
    assert!(repo.mend_index().unwrap());
    assert_eq!((world.status().as_str(), repo.tip().unwrap().unwrap().to_string()), ("", to.clone()));
    // Died after the index was written and before the branch moved; the run is recorded with another result then.
    let mut run = world.run("none.yml", 1, b"x\n");
    let made = repo.commit(&[run.clone()]).unwrap().oid;
    git(&world.ours, &["update-ref", "refs/heads/main", &to]);
    fs::write(world.ours.join(".git/dispatcher-index"), format!("{to}\n{made}\n")).unwrap();
    assert!(world.status().contains("A  processed/"));
    run.files[1].content = Content::Bytes(b"other\n".to_vec());
    world.write("ours", &run.files[1].path, "other\n");
    repo.commit(&[run]).unwrap();
    assert_eq!(world.status(), "");
    assert!(!world.ours.join(".git/dispatcher-index").exists());
}

#[test]
fn own_commits_are_pushed_along_and_never_replayed() {
    let world = World::new();
    let repo = world.open();
    world.write("ours", "handlers/a.sh", "mine\n");
    git(&world.ours, &["commit", "-q", "-am", "my own \u{1b}[31mwork"]);
    let own = git(&world.ours, &["rev-parse", "HEAD"]);
    let made = repo.commit(&[world.take("a.yml", 1)]).unwrap();
    assert_eq!(repo.push().unwrap(), PushOutcome::Pushed { oid: made.oid });
    assert_eq!(git(&world.remote, &["rev-parse", "main~1"]), own);
    world.write("ours", "handlers/a.sh", "mine again\n");
    git(&world.ours, &["commit", "-q", "-am", "more \u{1b}[31mwork"]);
    git(&world.theirs, &["pull", "-q", "--ff-only"]);
    world.write("theirs", "requests/b.yml", "kind: b\n");
    world.push("ask for b");
    assert_eq!(repo.push().unwrap(), PushOutcome::Moved);
    repo.fetch().unwrap();
    assert_eq!(repo.push().unwrap(), PushOutcome::Moved);
    let Integrated::Blocked(blocked) = repo.integrate(&[]).unwrap() else { panic!() };
    assert_eq!(blocked.why, Why::OwnCommits);
    assert!(blocked.paths.len() == 1 && blocked.paths[0].ends_with(" more ^[[31mwork"), "{:?}", blocked.paths);
    assert!(blocked.diagnostic().render().starts_with("error[E0514]: commits that are only here"));
}
