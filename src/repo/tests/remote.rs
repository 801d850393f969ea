//! Remotes that refuse, vanish, hang or lie.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use super::world::{World, git, settings};
use crate::repo::*;

impl World {
    fn hook(&self, name: &str, script: &str) {
        let path = self.remote.join("hooks").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn open_for(&self, timeout: Duration) -> Repo {
        Repo::open(&self.ours, Settings { timeout, ..settings() }).unwrap()
    }
}

#[test]
fn a_hook_that_declines_is_a_refusal_with_its_words() {
    for hook in ["pre-receive", "update"] {
        let world = World::new();
        let repo = world.open();
        world.hook(hook, "printf 'not \\033[31mtoday: cannot lock ref\\n' >&2; exit 1");
        let made = repo.commit(&[world.take("a.yml", 1)]).unwrap();
        let refused = repo.push().unwrap();
        assert!(
            refused.diagnostic("origin", 1).unwrap().render().starts_with("error[E0502]: push to origin failed, 1")
        );
        let PushOutcome::Refused { words } = refused else { panic!() };
        assert!(words.contains("hook declined") && words.contains("not ^[[31mtoday"), "{words}");
        assert_eq!(repo.unpublished().unwrap(), [made.oid], "nothing is lost");
        fs::remove_file(world.remote.join("hooks").join(hook)).unwrap();
        assert_eq!(repo.push().unwrap(), PushOutcome::Pushed { oid: made.oid });
    }
}

#[test]
fn a_moved_remote_is_replayed_upon() {
    let world = World::new();
    let repo = world.open();
    repo.commit(&[world.take("a.yml", 1)]).unwrap();
    let second = repo.commit(&[world.run("none.yml", 2, b"x\n")]).unwrap();
    world.write("theirs", "requests/b.yml", "kind: b\n");
    let theirs = world.push("ask for b");
    assert_eq!(repo.push().unwrap(), PushOutcome::Moved);
    repo.fetch().unwrap();
    let before = git(&world.ours, &["log", "-2", "--format=%s %an %ae %ad %cd"]);
    let Integrated::Replayed { from, to, replayed: 2, elsewhere, .. } = repo.integrate(&[]).unwrap() else { panic!() };
    assert_eq!((from, elsewhere), (second.oid, vec![]));
    assert_eq!(git(&world.ours, &["log", "-2", "--format=%s %an %ae %ad %cd"]), before, "authors and dates are kept");
    assert_eq!(git(&world.ours, &["rev-parse", "main~2"]), theirs);
    assert_eq!(git(&world.ours, &["for-each-ref", "refs/dispatcher/kept"]), "", "all of it lives on");
    assert_eq!(world.status(), "");
    assert_eq!(repo.push().unwrap(), PushOutcome::Pushed { oid: to });
    world.remote_is_sound();
}

#[test]
fn the_lease_is_checked_by_the_remote_too() {
    let world = World::new();
    let repo = world.open();
    repo.commit(&[world.take("a.yml", 1)]).unwrap();
    // Between our look and our update somebody else moves the branch: only the hook is late enough.
    world.write("theirs", "requests/b.yml", "kind: b\n");
    git(&world.theirs, &["add", "-A"]);
    git(&world.theirs, &["commit", "-q", "-m", "ask for b"]);
    git(&world.theirs, &["push", "-q", "origin", "HEAD:refs/heads/side"]);
    let side = git(&world.theirs, &["rev-parse", "HEAD"]);
    world.hook("pre-receive", "unset GIT_QUARANTINE_PATH\ngit update-ref refs/heads/main refs/heads/side");
    let PushOutcome::Busy { words } = repo.push().unwrap() else { panic!() };
    assert!(words.contains("cannot lock ref") || words.contains("failed to update ref"), "{words}");
    assert_eq!(git(&world.remote, &["rev-parse", "main"]), side, "the other commit is still there");
}

#[test]
fn a_remote_that_is_not_there_says_so_in_gits_words() {
    let world = World::new();
    let repo = world.open();
    let made = repo.commit(&[world.take("a.yml", 1)]).unwrap();
    fs::rename(&world.remote, world.dir().join("away")).unwrap();
    let error = repo.fetch().unwrap_err();
    let text = error.diagnostic().render();
    assert!(text.starts_with("error[E0539]: remote `origin`: there is no repository at `/"), "{text}");
    assert!(
        text.contains("= note: git said: fatal: '/") && text.contains("does not appear to be a git repo"),
        "{text}"
    );
    let PushOutcome::NoAccess(access) = repo.push().unwrap() else { panic!() };
    assert_eq!(FetchError::Access(access), error);
    fs::rename(world.dir().join("away"), &world.remote).unwrap();
    assert_eq!(repo.push().unwrap(), PushOutcome::Pushed { oid: made.oid });
}

#[test]
fn a_remote_that_hangs_ends_at_the_deadline_with_all_its_children() {
    let world = World::new();
    let repo = world.open_for(Duration::from_millis(700));
    repo.commit(&[world.take("a.yml", 1)]).unwrap();
    let pid = world.dir().join("pid");
    world.hook("pre-receive", &format!("echo $$ > {}; sleep 600", pid.display()));
    let start = Instant::now();
    let PushOutcome::Unreachable { words } = repo.push().unwrap() else { panic!() };
    assert!(words.contains("did not answer within 700ms"), "{words}");
    assert!(start.elapsed() < Duration::from_secs(10));
    let hook = fs::read_to_string(pid).unwrap();
    let stat = || fs::read_to_string(format!("/proc/{}/stat", hook.trim())).unwrap_or_default();
    while !(stat().is_empty() || stat().contains(") Z ")) {
        assert!(start.elapsed() < Duration::from_secs(60), "the hook lives on: {}", stat());
        std::thread::yield_now();
    }
}

#[test]
fn a_push_whose_hook_hangs_afterwards_is_a_push() {
    let world = World::new();
    let repo = world.open_for(Duration::from_secs(2));
    let made = repo.commit(&[world.take("a.yml", 1)]).unwrap();
    world.hook("post-receive", "sleep 600");
    let outcome = repo.push().unwrap();
    assert_eq!(git(&world.remote, &["rev-parse", "main"]), made.oid.to_string());
    assert_eq!(outcome, PushOutcome::Pushed { oid: made.oid });
}

#[test]
fn an_unclear_push_is_settled_by_a_look() {
    let world = World::new();
    let repo = world.open();
    let made = repo.commit(&[world.take("a.yml", 1)]).unwrap();
    // The remote dies after it moved the branch and before it said so.
    world.hook("reference-transaction", "if [ \"$1\" = committed ]; then kill -9 $PPID; fi; exit 0");
    assert!(matches!(repo.push().unwrap(), PushOutcome::Unreachable { .. }));
    assert!(!repo.published(made.oid).unwrap());
    repo.fetch().unwrap();
    assert!(repo.published(made.oid).unwrap());
    assert_eq!(repo.push().unwrap(), PushOutcome::UpToDate);
}

#[test]
fn an_empty_remote_and_no_remote() {
    let world = World::new();
    let empty = world.dir().join("empty.git");
    init_bare(&empty, "main").unwrap();
    git(&world.ours, &["remote", "set-url", "origin", "../empty.git"]);
    git(&world.ours, &["update-ref", "-d", "refs/remotes/origin/main"]);
    let repo = world.open();
    assert_eq!(repo.fetch().unwrap(), FetchOutcome::Fetched { remote_tip: None, new_commits: 0 });
    assert_eq!(repo.integrate(&[]).unwrap(), Integrated::Unchanged);
    let made = repo.commit(&[world.take("a.yml", 1)]).unwrap();
    assert_eq!(repo.unpublished().unwrap().len(), 2);
    assert_eq!(repo.push().unwrap(), PushOutcome::Pushed { oid: made.oid });
    assert_eq!(repo.unpublished().unwrap(), []);
    git(&world.ours, &["remote", "remove", "origin"]);
    assert_eq!(repo.fetch().unwrap(), FetchOutcome::NoRemote);
    assert_eq!(repo.push().unwrap(), PushOutcome::NoRemote);
}

#[test]
fn an_unborn_branch_follows_and_a_first_result_makes_one() {
    let world = World::new();
    git(world.dir(), &["init", "-q", "-b", "main", "fresh"]);
    git(&world.dir().join("fresh"), &["remote", "add", "origin", "../remote.git"]);
    let repo = Repo::open(&world.dir().join("fresh"), settings()).unwrap();
    assert_eq!((repo.tip().unwrap(), repo.recorded_ids().unwrap()), (None, vec![]));
    repo.fetch().unwrap();
    assert!(matches!(repo.integrate(&[]).unwrap(), Integrated::FastForwarded { from: None, .. }));
    assert_eq!(git(&world.dir().join("fresh"), &["status", "--porcelain"]), "");
    git(world.dir(), &["init", "-q", "-b", "main", "alone"]);
    let alone = Repo::open(&world.dir().join("alone"), settings()).unwrap();
    let made = alone.commit(&[world.run("x.yml", 1, b"x\n")]).unwrap();
    assert_eq!(alone.tip().unwrap(), Some(made.oid));
    assert_eq!(git(&world.dir().join("alone"), &["rev-list", "--count", "HEAD"]), "1");
}

#[test]
fn urls_that_cannot_be_used_are_refused() {
    let world = World::new();
    let repo = world.open();
    git(&world.ours, &["remote", "set-url", "origin", "http://ana:s3cr3t@host/ops.git"]);
    git(&world.ours, &["config", "url./elsewhere/.insteadOf", "http://"]);
    let error = repo.fetch().unwrap_err();
    let text = error.diagnostic().render();
    assert!(text.starts_with("error[E0511]: remote `origin`: `http://host/ops.git` is not encrypted"), "{text}");
    assert!(text.contains("git remote set-url origin https://host/ops.git") && !text.contains("s3cr3t"), "{text}");
    let made = repo.commit(&[world.take("a.yml", 1)]).unwrap();
    assert!(matches!(repo.push(), Err(PushError::Url(_))));
    git(&world.ours, &["remote", "set-url", "origin", world.remote.to_str().unwrap()]);
    git(&world.ours, &["config", "url./elsewhere/.insteadOf", "/"]);
    assert_eq!(repo.push().unwrap(), PushOutcome::Pushed { oid: made.oid }, "no rewriting behind our back");
}

#[test]
fn children_get_a_closed_environment() {
    let world = World::new();
    let repo = world.open();
    let out = world.dir().join("env");
    world.hook("pre-receive", &format!("env > {}", out.display()));
    repo.commit(&[world.take("a.yml", 1)]).unwrap();
    repo.push().unwrap();
    let env = fs::read_to_string(out).unwrap();
    assert!(std::env::vars().any(|(name, _)| name.starts_with("CARGO")) && !env.contains("CARGO"), "{env}");
    assert!(env.contains("GIT_TERMINAL_PROMPT=0"));
}

#[test]
fn a_damaged_remote_changes_nothing_here() {
    let world = World::new();
    let repo = world.open();
    world.write("theirs", "requests/b.yml", "kind: b\n");
    world.push("ask for b");
    let before = git(&world.ours, &["for-each-ref"]);
    let blob = git(&world.remote, &["rev-parse", "main:requests/b.yml"]);
    let object = world.remote.join("objects").join(&blob[..2]).join(&blob[2..]);
    fs::set_permissions(&object, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&object, "damaged").unwrap();
    assert!(repo.fetch().is_err());
    assert_eq!(git(&world.ours, &["for-each-ref"]), before);
    git(&world.ours, &["fsck", "--strict"]);
}
