//! A checkout that cannot follow to the end: the inbox holds nothing then that HEAD does not hold. And runs that
//! cannot be recorded as they are: the others are.

use std::fs;
use std::os::unix::fs::symlink;

use super::world::{World, git, git_with, id, taken};
use crate::repo::*;

/// Commits, in their clone, a link without a target under this path: git can store it and no work tree can hold it.
fn push_unwritable(world: &World, path: &str) {
    let blob = git_with(&world.theirs, &["hash-object", "-w", "--stdin"], b"");
    git(&world.theirs, &["add", "-A"]);
    git(&world.theirs, &["update-index", "--add", "--cacheinfo", &format!("120000,{blob},{path}")]);
    git(&world.theirs, &["commit", "-q", "-m", "a broken link"]);
    git(&world.theirs, &["push", "-q", "origin", "main"]);
}

/// What lies in our inbox.
fn inbox(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.ours.join("requests")).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// `broken` cannot be written; then it is mended.
fn check(broken: &str) {
    let world = World::new();
    let repo = world.open();
    let run = world.take("a.yml", 1);
    world.write("theirs", "requests/new-and-long.yml", "kind: new\n");
    world.write("theirs", "requests/a.yml", "kind: other\n");
    push_unwritable(&world, broken);
    repo.fetch().unwrap();
    let tip = repo.tip().unwrap();
    for _ in 0..2 {
        let error = repo.integrate(&[taken(&run)]).unwrap_err();
        assert!(error.to_string().contains(&format!("check out `{broken}`")), "{error}");
        assert_eq!((inbox(&world), repo.tip().unwrap()), (vec![".gitkeep".to_owned()], tip), "{broken}");
    }
    git(&world.theirs, &["rm", "-q", "--cached", broken]);
    world.push("mend");
    repo.fetch().unwrap();
    assert!(matches!(repo.integrate(&[taken(&run)]).unwrap(), Integrated::FastForwarded { .. }));
    assert_eq!(inbox(&world), [".gitkeep", "a.yml", "new-and-long.yml"]);
    assert_eq!(world.status(), "");
}

#[test]
fn requests_come_last_and_go_again() {
    check("zz");
    check("handlers/zz.sh");
    check("requests/z.yml");
}

#[test]
fn what_was_there_before_stays() {
    let world = World::new();
    let repo = world.open();
    for clone in ["ours", "theirs"] {
        world.write(clone, "requests/dropped.yml", "kind: dropped\n");
    }
    world.write("theirs", "requests/a.yml", "kind: other\n");
    push_unwritable(&world, "requests/z");
    repo.fetch().unwrap();
    repo.integrate(&[]).unwrap_err();
    assert_eq!(inbox(&world), [".gitkeep", "a.yml", "dropped.yml"]);
    assert_eq!(fs::read(world.ours.join("requests/a.yml")).unwrap(), b"kind: a\n");
    assert_eq!(world.status(), "?? requests/dropped.yml");
}

#[test]
fn the_dispatchers_folders_stay_folders() {
    for folder in ["handlers", "schema", "processed", "logs", "requests"] {
        let world = World::new();
        let repo = world.open();
        let outside = tempfile::tempdir().unwrap();
        let _ = fs::remove_dir_all(world.theirs.join(folder));
        symlink(outside.path(), world.theirs.join(folder)).unwrap();
        world.write("theirs", "new.txt", "new\n");
        world.push("a link");
        repo.fetch().unwrap();
        let Integrated::Blocked(blocked) = repo.integrate(&[]).unwrap() else { panic!("{folder}") };
        assert_eq!((blocked.why.clone(), blocked.paths.as_slice()), (Why::NotFolders, [folder.to_owned()].as_slice()));
        let text = blocked.diagnostic().message;
        assert!(text.starts_with(&format!("the remote made something else of the folder `{folder}`")), "{text}");
        assert!(!world.ours.join("new.txt").exists());
        assert_eq!(world.status(), "");
        fs::remove_file(world.theirs.join(folder)).unwrap();
        world.push("and away again");
        repo.fetch().unwrap();
        assert!(matches!(repo.integrate(&[]).unwrap(), Integrated::FastForwarded { .. }), "{folder}");
    }
}

#[test]
fn a_name_that_no_work_tree_can_hold_is_recorded() {
    let world = World::new();
    let repo = world.open();
    let runs = [world.run("git~1.yml", 1, b"x\n"), world.take("a.yml", 2)];
    repo.commit(&runs).unwrap();
    assert_eq!(repo.recorded_ids().unwrap(), [id(2), id(1)]);
    assert_eq!(repo.file("requests/a.yml").unwrap(), None);
    assert_eq!(world.status(), "");
}

#[test]
fn one_bad_run_holds_up_no_other() {
    let world = World::new();
    let repo = world.open();
    repo.commit(&[world.run("old.yml", 1, b"x\n")]).unwrap();
    let mut runs: Vec<RunRecord> = (1..=5).map(|n| world.run(&format!("{n}.yml"), n, b"x\n")).collect();
    runs[0].files[1].content = Content::Bytes(b"other\n".to_vec());
    let broken = [runs[2].files[2].path.clone(), runs[3].files[3].path.clone()];
    fs::remove_file(world.ours.join(&broken[0])).unwrap();
    fs::remove_file(world.ours.join(&broken[1])).unwrap();
    symlink("/etc/passwd", world.ours.join(&broken[1])).unwrap();
    assert!(matches!(repo.commit(&runs), Err(CommitError::Unreadable { .. })));
    let done = repo.record(runs.clone()).unwrap();
    assert_eq!(Some(done.commit), repo.tip().unwrap());
    assert_eq!(repo.recorded_ids().unwrap().len(), 5);
    assert_eq!(repo.status_of(id(1)).unwrap().unwrap(), b"{\"n\": 1}\n", "what is final stays");
    for n in 2..=5 {
        assert_eq!(repo.status_of(id(n)).unwrap().unwrap(), format!("{{\"n\": {n}}}\n").as_bytes());
    }
    for path in &broken {
        assert_eq!(repo.file(path).unwrap(), None);
        assert!(done.problems.iter().any(|p| p.message.contains(path)), "{:?}", done.problems);
    }
    assert!(done.problems.iter().any(|p| p.message.contains("already recorded")), "{:?}", done.problems);
    let again = repo.record(vec![runs.swap_remove(0)]).unwrap();
    assert_eq!((again.commit, again.problems.len()), (done.commit, 1), "there is nothing to commit");
}

#[test]
fn a_batch_is_bounded() {
    let world = World::new();
    let mut runs: Vec<RunRecord> = (1..=120).map(|n| world.run(&format!("{n}.yml"), n, b"x\n")).collect();
    assert_eq!(fitting(&runs), 100);
    let large = fs::File::create(world.ours.join("large")).unwrap();
    large.set_len(20 << 20).unwrap();
    for at in [0, 3, 7] {
        runs[at].files[0].content = Content::File(world.ours.join("large"));
    }
    assert_eq!(fitting(&runs), 3);
    large.set_len(40 << 20).unwrap();
    assert_eq!((fitting(&runs), fitting(&runs[1..])), (1, 2));
}

#[test]
fn what_is_set_aside_leaves_the_branch() {
    let world = World::new();
    let repo = world.open();
    symlink("/etc/passwd", world.theirs.join("requests/link.yml")).unwrap();
    world.write("theirs", "requests/large.yml", "large\n");
    world.push("odd ones");
    repo.fetch().unwrap();
    repo.integrate(&[]).unwrap();
    assert!(repo.leaf_oid("requests/link.yml").unwrap().is_some());
    assert_eq!(repo.leaf_oid("requests").unwrap(), None);
    let aside = |name: &str| {
        let (from, to) = (world.ours.join("requests").join(name), world.dir().join(name));
        fs::rename(from, &to).unwrap();
        repo.set_aside(format!("requests/{name}").into_bytes(), &to).unwrap()
    };
    let mut runs = [world.run("link.yml", 1, b"x\n"), world.run("large.yml", 2, b"x\n"), world.run("a.yml", 3, b"x\n")];
    for (run, name) in runs.iter_mut().zip(["link.yml", "large.yml"]) {
        run.request = aside(name);
        assert!(run.request.is_some(), "{name}");
    }
    // Something else than what is committed was in its place.
    fs::remove_file(world.ours.join("requests/a.yml")).unwrap();
    symlink("/nowhere", world.ours.join("requests/a.yml")).unwrap();
    runs[2].request = aside("a.yml");
    assert_eq!(runs[2].request, None);
    repo.commit(&runs).unwrap();
    assert_eq!(git(&world.ours, &["ls-tree", "--name-only", "HEAD:requests"]), ".gitkeep\na.yml");
}
