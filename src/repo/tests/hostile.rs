//! Commits that somebody made by hand to do harm.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use super::world::{World, git, git_with};
use crate::repo::*;

/// Writes a tree object byte by byte, past every check of git.
fn tree(world: &World, entries: &[(&str, &[u8], &str)]) -> String {
    let mut raw = Vec::new();
    for (mode, name, oid) in entries {
        raw.extend_from_slice(mode.as_bytes());
        raw.push(b' ');
        raw.extend_from_slice(name);
        raw.push(0);
        raw.extend((0..40).step_by(2).map(|at| u8::from_str_radix(&oid[at..at + 2], 16).unwrap()));
    }
    git_with(&world.theirs, &["hash-object", "-t", "tree", "-w", "--literally", "--stdin"], &raw)
}

#[test]
fn names_that_no_file_can_have_are_left_out() {
    let world = World::new();
    let repo = world.open();
    let blob = git_with(&world.theirs, &["hash-object", "-w", "--stdin"], b"harm\n");
    let requests = tree(
        &world,
        &[
            ("100644", b"--upload-pack=x.yml", &blob),
            ("100644", b"..", &blob),
            ("100644", b".git", &blob),
            ("100644", b"a/../../b", &blob),
            ("100644", b"esc\x1b[31m.yml", &blob),
            ("120000", b"link.yml", &blob),
            ("100644", b"new\nline.yml", &blob),
            ("160000", b"sub", &"1".repeat(40)),
            ("100644", b"\xff\xfe.yml", &blob),
        ],
    );
    let hooks = tree(&world, &[("100755", b"pre-push", &blob)]);
    let root = tree(&world, &[("40000", b".GIT", &hooks), ("40000", b"..", &hooks), ("40000", b"requests", &requests)]);
    let head = git(&world.theirs, &["rev-parse", "HEAD"]);
    let commit = git(&world.theirs, &["commit-tree", "-p", &head, "-m", "harm", &root]);
    git(&world.theirs, &["push", "-q", "origin", &format!("{commit}:main")]);

    repo.fetch().unwrap();
    let Integrated::FastForwarded { to, mut left_out, .. } = repo.integrate(&[]).unwrap() else { panic!() };
    assert_eq!(to.to_string(), commit);
    left_out.sort();
    assert_eq!(left_out, ["..", ".GIT", "requests/..", "requests/.git", "requests/a/../../b"]);
    let mut names: Vec<Vec<u8>> = fs::read_dir(world.ours.join("requests"))
        .unwrap()
        .map(|e| e.unwrap().file_name().as_bytes().to_vec())
        .collect();
    names.sort();
    let expect: [&[u8]; 6] =
        [b"--upload-pack=x.yml", b"esc\x1b[31m.yml", b"link.yml", b"new\nline.yml", b"sub", b"\xff\xfe.yml"];
    assert_eq!(names, expect);
    assert!(fs::symlink_metadata(world.ours.join("requests/link.yml")).unwrap().is_symlink());
    assert!(!world.dir().join("b").exists() && !world.ours.join(".git/hooks/pre-push").exists());

    let mut run = world.run("none.yml", 1, b"x\n");
    let strange = b"requests/\xff\xfe.yml".to_vec();
    assert!(repo.holds(&strange, b"harm\n").unwrap());
    assert_eq!(repo.requested_by(&strange, b"harm\n").unwrap().unwrap().commit, Some(commit));
    run.request = Some(TakenRequest::of(strange, b"harm\n").unwrap());
    let made = repo.commit(&[run]).unwrap();
    let kept = git(&world.ours, &["ls-tree", &format!("{}:requests", made.oid)]);
    assert_eq!(kept.lines().count(), 8, "our commit changes nothing else of it");
    assert!(repo.push().is_ok());
}

#[test]
fn links_in_trees_are_not_followed() {
    let world = World::new();
    let repo = world.open();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), world.theirs.join("handlers/lib")).unwrap();
    world.push("a link");
    repo.fetch().unwrap();
    repo.integrate(&[]).unwrap();
    assert!(fs::symlink_metadata(world.ours.join("handlers/lib")).unwrap().is_symlink());
    fs::remove_file(world.theirs.join("handlers/lib")).unwrap();
    world.write("theirs", "handlers/lib/x.sh", "x\n");
    world.push("and a file behind it");
    repo.fetch().unwrap();
    assert!(matches!(repo.integrate(&[]).unwrap(), Integrated::FastForwarded { .. }));
    assert_eq!(fs::read(world.ours.join("handlers/lib/x.sh")).unwrap(), b"x\n");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(world.status(), "");
}

#[test]
fn modes_come_along() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let repo = world.open();
    git(&world.theirs, &["update-index", "--chmod=+x", "handlers/a.sh"]);
    git(&world.theirs, &["commit", "-q", "-m", "executable"]);
    git(&world.theirs, &["push", "-q"]);
    repo.fetch().unwrap();
    repo.integrate(&[]).unwrap();
    let mode = fs::metadata(world.ours.join("handlers/a.sh")).unwrap().permissions().mode();
    assert_eq!(mode & 0o111, 0o111);
    assert_eq!(world.status(), "");
}

#[test]
fn hooks_of_the_checkout_and_of_the_repository_never_run() {
    let world = World::new();
    let repo = world.open();
    let ran = world.dir().join("ran");
    for hook in ["pre-commit", "post-commit", "commit-msg", "reference-transaction", "pre-push", "post-merge"] {
        let path = world.ours.join(".git/hooks").join(hook);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\ntouch {}\n", ran.display())).unwrap();
        std::process::Command::new("chmod").arg("+x").arg(&path).status().unwrap();
    }
    world.write("theirs", ".gitattributes", "* filter=harm\n");
    git(&world.ours, &["config", "filter.harm.smudge", &format!("touch {}; cat", ran.display())]);
    world.push("a filter");
    repo.fetch().unwrap();
    repo.integrate(&[]).unwrap();
    repo.commit(&[world.take("a.yml", 1)]).unwrap();
    repo.push().unwrap();
    assert!(!ran.exists());
}
