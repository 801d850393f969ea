//! What a batch costs: its syncs, whatever its size, and a person's git that works in the same moment.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::world::{World, git, id, settings, try_git};
use crate::repo::*;

const CHILD: &str = "DISPATCHER_TEST_SYNCS";

/// The traced half of the test below: one batch of fifty in the repository that the parent made.
#[test]
fn traced_batch() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let repo = Repo::open(Path::new(&dir), settings()).unwrap();
    let batch: Vec<RunRecord> = (1..=50)
        .map(|n| RunRecord {
            id: id(n),
            name: "a.yml".into(),
            rc: 0,
            kind: None,
            resource: None,
            state: crate::status::State::Succeeded,
            duration: None,
            request: None,
            files: ["request.yml", "status.json"]
                .map(|name| RecordFile {
                    path: format!("processed/{}/{name}", id(n)),
                    content: Content::Bytes(vec![n]),
                })
                .to_vec(),
        })
        .collect();
    let start = std::time::Instant::now();
    repo.commit(&batch).unwrap();
    println!("fifty runs: {:?}", start.elapsed());
}

#[test]
fn a_batch_costs_eight_syncs_at_most() {
    let world = World::new();
    let out = world.dir().join("trace");
    let traced = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=fsync,fdatasync,rename,renameat,renameat2", "-o"])
        .arg(&out)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "repo::tests::durable::traced_batch"])
        .env(CHILD, &world.ours)
        .output();
    if !traced.is_ok_and(|t| t.status.success()) {
        println!("no strace, or it may not trace: the syncs were not counted");
        return;
    }
    let trace = fs::read_to_string(&out).unwrap();
    let syncs: Vec<&str> = trace.lines().filter(|l| l.contains("sync(")).collect();
    assert!((5..=8).contains(&syncs.len()), "{trace}");
    let at = |what: &str| trace.lines().position(|l| l.contains(what)).unwrap_or_else(|| panic!("{what}: {trace}"));
    assert!(at("objects/pack>") < at("refs/heads/main"), "objects before the ref that names them: {trace}");
    assert!(trace.lines().any(|l| l.contains("sync(") && l.contains("/refs/heads>")), "{trace}");
    assert_eq!(git(&world.ours, &["rev-list", "--count", "HEAD"]), "2");
}

#[test]
fn a_person_commits_in_the_same_moment() {
    const ROUNDS: u8 = 40;
    let world = World::new();
    let repo = world.open();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..ROUNDS {
                world.write("ours", &format!("handlers/p{n}.sh"), "p\n");
                while !try_git(&world.ours, &["add", "handlers"]).status.success() {}
                while !try_git(&world.ours, &["commit", "-q", "-m", &format!("person {n}")]).status.success() {}
            }
        });
        for n in 0..ROUNDS {
            let made = repo.commit(&[world.run("none.yml", n, b"x\n")]).unwrap();
            // Where a slow git held the index for seconds, its owner has to be caught up with before they commit again.
            while !made.indexed && !repo.mend_index().unwrap() {}
        }
    });
    let log = git(&world.ours, &["log", "--format=%s"]);
    for n in 0..ROUNDS {
        assert_eq!(log.matches(&format!("executor: {} rc=0", id(n))).count(), 1, "ours {n}");
        assert_eq!(log.lines().filter(|l| *l == format!("person {n}")).count(), 1, "theirs {n}");
        assert!(repo.is_recorded(id(n)).unwrap(), "no commit of the person undid ours");
        assert!(repo.file(&format!("handlers/p{n}.sh")).unwrap().is_some());
    }
    assert_eq!(world.status(), "");
    git(&world.ours, &["fsck", "--strict"]);
}

#[test]
fn packs_do_not_stay_open_for_ever() {
    let world = World::new();
    let repo = world.open();
    for n in 1..=100 {
        repo.commit(&[world.run(&format!("{n}.yml"), n, &[n])]).unwrap();
        assert!(repo.is_recorded(id(n)).unwrap());
    }
    let own = world.ours.join(".git/objects/pack");
    let targets = fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
    let open = targets.filter(|target| target.starts_with(&own)).count();
    assert!(open <= 64, "{open} packs are open");
    assert_eq!(repo.unpublished().unwrap().len(), 100);
}
