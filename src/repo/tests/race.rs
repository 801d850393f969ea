//! Two committers who race for the same remote branch.

use std::sync::atomic::{AtomicBool, Ordering};

use super::world::{World, git, id, settings, try_git};
use crate::repo::*;

/// Fetch, integrate and push until it is there, as the daemon does.
fn publish(local: &Repo, network: &Repo) -> u32 {
    for attempt in 1.. {
        match network.push().unwrap() {
            PushOutcome::Pushed { .. } | PushOutcome::UpToDate => return attempt,
            PushOutcome::Moved | PushOutcome::Busy { .. } => {}
            other => panic!("{other:?}"),
        }
        network.fetch().unwrap();
        let done = local.integrate(&[]).unwrap();
        assert!(!matches!(done, Integrated::Blocked(_) | Integrated::Diverged { .. }), "{done:?}");
    }
    unreachable!()
}

#[test]
fn handles_go_to_other_threads() {
    fn is_send<T: Send>() {}
    is_send::<Repo>();
    let world = World::new();
    let (local, network) = (world.open(), world.open());
    std::thread::scope(|scope| {
        let network = scope.spawn(move || {
            for _ in 0..20 {
                network.fetch().unwrap();
                network.push().unwrap();
            }
            network
        });
        for n in 0..20 {
            local.commit(&[world.run("none.yml", n, b"x\n")]).unwrap();
            assert_eq!(local.integrate(&[]).unwrap(), Integrated::Unchanged);
        }
        network.join().unwrap().push().unwrap();
    });
    assert_eq!(local.unpublished().unwrap(), []);
    world.remote_is_sound();
}

#[test]
fn two_hundred_racing_pushes_lose_nothing() {
    const ROUNDS: u8 = 100;
    let world = World::new();
    let (local, network) = (world.open(), Repo::open(&world.ours, settings()).unwrap());
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..ROUNDS {
                world.write("theirs", &format!("requests/t{n}.yml"), "kind: t\n");
                git(&world.theirs, &["add", "-A"]);
                git(&world.theirs, &["commit", "-q", "-m", &format!("ask {n}")]);
                while !try_git(&world.theirs, &["push", "-q", "origin", "main"]).status.success() {
                    git(&world.theirs, &["pull", "-q", "--rebase", "origin", "main"]);
                }
            }
            ended.store(true, Ordering::Relaxed);
        });
        for n in 0..ROUNDS {
            local.commit(&[world.run("none.yml", n, b"x\n")]).unwrap();
            publish(&local, &network);
        }
    });
    assert!(ended.load(Ordering::Relaxed));
    network.fetch().unwrap();
    local.integrate(&[]).unwrap();
    world.remote_is_sound();
    git(&world.ours, &["fsck", "--strict"]);
    let log = git(&world.remote, &["log", "--format=%s", "main"]);
    for n in 0..ROUNDS {
        assert_eq!(log.matches(&format!("executor: {} rc=0", id(n))).count(), 1, "ours {n}");
        assert_eq!(log.lines().filter(|l| *l == format!("ask {n}")).count(), 1, "theirs {n}");
        assert!(local.file(format!("requests/t{n}.yml")).unwrap().is_some());
    }
    assert_eq!(world.status(), "");
}
