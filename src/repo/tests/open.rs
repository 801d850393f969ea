//! Which repositories are refused, and what is prepared in those that are not.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::Path;

use super::world::{World, git, settings};
use crate::repo::*;

fn refused(dir: &Path, message: &str) {
    let error = Repo::open(dir, settings()).err().unwrap();
    assert!(error.to_string().contains(message), "{error}");
    let diagnostic = error.diagnostic();
    assert!(diagnostic.code.starts_with("E05") && !diagnostic.help.is_empty(), "{diagnostic:?}");
}

#[test]
fn what_cannot_be_worked_on_is_refused_with_advice() {
    let world = World::new();
    let at = |name: &str| world.dir().join(name);
    refused(world.dir(), "is not in a git repository");
    refused(&world.remote, "is a bare repository");
    git(world.dir(), &["init", "-q", "--object-format=sha256", "sha256"]);
    refused(&at("sha256"), "uses the object format `sha256`");
    git(world.dir(), &["init", "-q", "--ref-format=reftable", "reftable"]);
    refused(&at("reftable"), "stores its refs as `reftable`");
    let url = format!("file://{}", world.remote.display());
    git(&world.remote, &["config", "uploadpack.allowFilter", "true"]);
    git(world.dir(), &["clone", "-q", "--filter=blob:none", &url, "partial"]);
    refused(&at("partial"), "is a partial clone");
    world.write("theirs", "x", "x");
    world.push("more");
    git(world.dir(), &["clone", "-q", "--depth=1", &url, "shallow"]);
    refused(&at("shallow"), "is a shallow clone");
    for branch in ["", "-x", "a b", "a..b", "x.lock", "HEAD:x"] {
        let settings = Settings { branch: branch.into(), ..settings() };
        assert!(matches!(Repo::open(&world.ours, settings), Err(OpenError::Name { .. })), "{branch}");
    }
    let identity = Identity { name: "a\nb".into(), email: "x".into() };
    assert!(matches!(Repo::open(&world.ours, Settings { identity, ..settings() }), Err(OpenError::Identity(_))));
}

#[test]
fn sub_folders_and_linked_work_trees_are_found() {
    let world = World::new();
    let repo = Repo::open(&world.ours.join("requests"), settings()).unwrap();
    assert_eq!(repo.root(), fs::canonicalize(&world.ours).unwrap());
    git(&world.ours, &["switch", "-q", "-c", "other"]);
    git(&world.ours, &["worktree", "add", "-q", "../linked", "main"]);
    let linked = Repo::open(&world.dir().join("linked"), settings()).unwrap();
    assert_eq!(linked.checkout_state().unwrap(), CheckoutState::OnBranch);
    linked.info_exclude().unwrap();
    linked.commit(&[world.run("none.yml", 1, b"x\n")]).unwrap();
    assert_eq!(git(&world.ours, &["status", "--porcelain"]), "");
    git(&world.ours, &["fsck", "--strict"]);
}

#[test]
fn exclude_lines_are_added_once() {
    let world = World::new();
    let path = world.ours.join(".git/info/exclude");
    fs::write(&path, "mine").unwrap();
    let repo = world.open();
    repo.info_exclude().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine\n/processed/*\n/logs/*\n");
    world.run("a.yml", 1, b"x");
    assert_eq!(world.status(), "");
}

#[test]
fn another_users_repository() {
    let world = World::new();
    let git_dir = world.ours.join(".git");
    if chown(&git_dir, Some(12_345), Some(12_345)).is_err() {
        // An ordinary user cannot give a folder away; what is theirs opens.
        assert_eq!(world.open().owner().0, nix::unistd::geteuid().as_raw());
        return;
    }
    let repo = world.open();
    let run = world.take("a.yml", 1);
    let made = repo.commit(&[run]).unwrap();
    assert_eq!(repo.push().unwrap(), PushOutcome::Pushed { oid: made.oid });
    git(&world.theirs, &["pull", "-q", "--ff-only"]);
    world.write("theirs", "handlers/deep/b.sh", "b\n");
    world.push("b");
    repo.fetch().unwrap();
    repo.integrate(&[]).unwrap();
    let packs = fs::read_dir(git_dir.join("objects/pack")).unwrap().map(|e| e.unwrap().path());
    let paths =
        ["refs/heads/main", "refs/dispatcher/seen/origin/main", "index", "info/exclude"].map(|p| git_dir.join(p));
    let tree = ["handlers/deep", "handlers/deep/b.sh"].map(|p| world.ours.join(p));
    for path in packs.chain(paths).chain(tree) {
        assert_eq!(fs::metadata(&path).unwrap().uid(), 12_345, "{}", path.display());
    }
}
