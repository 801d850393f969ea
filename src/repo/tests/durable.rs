//! What a batch costs: its syncs, whatever its size, and a person's git that works in the same moment.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::world::{World, git, id, settings, try_git};
use crate::repo::*;
use crate::request::RunId;
use crate::time::Time;

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

const BENCH: &str = "DISPATCHER_BENCH_AT";

/// The measuring half of `tests/bench/batch.sh`: commits in a new repository below the folder that it names.
#[test]
fn what_a_batch_costs() {
    const ROUNDS: u16 = 20;
    let Some(at) = std::env::var_os(BENCH) else { return };
    let dir = tempfile::tempdir_in(at).unwrap();
    git(dir.path(), &["init", "-q", "-b", "main"]);
    fs::create_dir(dir.path().join("requests")).unwrap();
    let repo = Repo::open(dir.path(), settings()).unwrap();
    let mut next = 0_u16;
    for size in [1, 10, 100] {
        let mut spent = std::time::Duration::ZERO;
        for _ in 0..ROUNDS {
            let batch: Vec<RunRecord> = (0..size).map(|_| large_run(&mut next)).collect();
            let start = std::time::Instant::now();
            repo.commit(&batch).unwrap();
            spent += start.elapsed();
        }
        let commit = spent.as_secs_f64() * 1_000.0 / f64::from(ROUNDS);
        println!("batch of {size:>3}: {commit:>6.1} ms a commit, {:>6.2} ms a run", commit / f64::from(size));
    }
}

/// A run with files as large as they usually are.
fn large_run(next: &mut u16) -> RunRecord {
    *next += 1;
    let [high, low] = next.to_be_bytes();
    let id = RunId::new(Time::from_millis(1_763_900_000_000), [high, low, 0, 0, 0, 0, 0, 0, 0, 0]);
    let file = |path: String, size: usize| RecordFile {
        path,
        content: Content::Bytes(format!("{next}\n").into_bytes().into_iter().cycle().take(size).collect()),
    };
    let files = vec![
        file(format!("processed/{id}/request.yml"), 100),
        file(format!("processed/{id}/status.json"), 900),
        file(format!("logs/{id}.log"), 1_500),
        file(format!("logs/{id}.jsonl"), 1_200),
    ];
    let state = crate::status::State::Succeeded;
    RunRecord {
        id,
        name: "a.yml".into(),
        rc: 0,
        kind: None,
        resource: None,
        state,
        duration: None,
        request: None,
        files,
    }
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
    if !traced.as_ref().is_ok_and(|traced| traced.status.success()) {
        // Where all tools are said to be there, that one is missing is a failure.
        assert!(std::env::var_os("DISPATCHER_ALL_TOOLS").is_none(), "{traced:?}");
        println!("SKIPPED: no syncs were counted, for want of a strace that may trace: {traced:?}");
        return;
    }
    let trace = fs::read_to_string(&out).unwrap();
    let lines: Vec<&str> = trace.lines().collect();
    let find = |from: usize, what: &[&str]| {
        let hit = lines.iter().skip(from).position(|line| what.iter().all(|part| line.contains(part)));
        from + hit.unwrap_or_else(|| panic!("{what:?} from {from}: {trace}"))
    };
    // The pack, its folder; the index; the branch, its folder: each before the next names it.
    let mut at = 0;
    for step in [
        &["sync(", "/objects/dispatcher-tmp", "idx"][..],
        &["sync(", "/objects/dispatcher-tmp", "/pack_"],
        &["rename", ".idx\")"],
        &["sync(", "/objects/pack>"],
        &["sync(", "/index.dispatcher>"],
        &["rename", "/.git/index\""],
        &["sync(", "/.git/dispatcher-tmp"],
        &["rename", "/refs/heads/main\""],
        &["sync(", "/refs/heads>"],
    ] {
        at = find(at, step);
    }
    assert!(lines.iter().filter(|line| line.contains("sync(")).count() <= 8, "{trace}");
    assert_eq!(git(&world.ours, &["rev-list", "--count", "HEAD"]), "2");
}

/// As after a power cut: whatever was not synced is gone.
fn lose_loose_objects(world: &World) {
    for entry in fs::read_dir(world.ours.join(".git/objects")).unwrap().flatten() {
        if entry.file_name().len() == 2 {
            fs::remove_dir_all(entry.path()).unwrap();
        }
    }
}

#[test]
fn what_a_person_committed_beneath_is_in_our_pack() {
    let world = World::new();
    let repo = world.open();
    for n in 1..=3 {
        world.write("ours", "handlers/a/b.sh", &format!("{n}\n"));
        git(&world.ours, &["add", "handlers"]);
        git(&world.ours, &["commit", "-q", "-m", "person"]);
        repo.commit(&[world.run("none.yml", n, b"x\n")]).unwrap();
        lose_loose_objects(&world);
        git(&world.ours, &["fsck", "--strict"]);
        assert_eq!(git(&world.ours, &["show", "HEAD:handlers/a/b.sh"]), n.to_string());
    }
    assert_eq!(world.status(), "");
}

#[test]
fn what_a_person_fetched_is_durable_before_the_branch_follows() {
    let world = World::new();
    let repo = world.open();
    for n in 1..=3 {
        world.write("theirs", "handlers/c.sh", &format!("{n}\n"));
        let tip = world.push("theirs");
        git(&world.ours, &["fetch", "-q"]);
        assert!(matches!(repo.integrate(&[]).unwrap(), Integrated::FastForwarded { .. }));
        lose_loose_objects(&world);
        git(&world.ours, &["fsck", "--strict"]);
        assert_eq!(git(&world.ours, &["rev-parse", "HEAD"]), tip);
    }
    assert_eq!(world.status(), "");
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
        assert!(repo.file(format!("handlers/p{n}.sh")).unwrap().is_some());
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

/// The packs of our repository.
fn packs(world: &World) -> usize {
    let entries = fs::read_dir(world.ours.join(".git/objects/pack")).unwrap().flatten();
    entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "pack")).count()
}

#[test]
fn many_small_packs_become_one() {
    let world = World::new();
    let mut repo = world.open();
    let beside = world.open();
    let commit = |repo: &Repo, n: u8| {
        repo.commit(&[world.run(&format!("{n}.yml"), n, &[n])]).unwrap();
        assert!(beside.is_recorded(id(n)).unwrap());
    };
    (1..40).for_each(|n| commit(&repo, n));
    assert!(!repo.join_packs().unwrap(), "they are not many yet");
    (40..=60).for_each(|n| commit(&repo, n));
    let large = world.ours.join(".git/objects/pack/pack-large.pack");
    fs::File::create(&large).unwrap().set_len(2 << 20).unwrap();
    let kept = fs::read_dir(large.parent().unwrap()).unwrap().flatten().map(|e| e.path());
    let kept = kept.filter(|p| p.extension().is_some_and(|e| e == "idx")).min().unwrap();
    fs::write(kept.with_extension("keep"), "").unwrap();
    assert!(repo.join_packs().unwrap());
    assert!(large.exists() && kept.exists() && kept.with_extension("pack").exists());
    fs::remove_file(large).unwrap();
    assert_eq!(packs(&world), 2);
    git(&world.ours, &["fsck", "--strict"]);
    for repo in [&repo, &beside, &world.open()] {
        assert_eq!(repo.unpublished().unwrap().len(), 60);
        assert!((1..=60).all(|n| repo.status_of(id(n)).unwrap().is_some()));
    }
    (61..=70).for_each(|n| commit(&repo, n));
    assert!(!repo.join_packs().unwrap());
    assert!(matches!(beside.push().unwrap(), PushOutcome::Pushed { .. }));
    world.remote_is_sound();
    assert_eq!(world.status(), "");
}

#[test]
fn packs_of_a_person_who_tidies_up_are_left_alone() {
    let world = World::new();
    let mut repo = world.open();
    for n in 1..=60 {
        repo.commit(&[world.run(&format!("{n}.yml"), n, &[n])]).unwrap();
    }
    let before = packs(&world);
    for busy in [".git/gc.pid", ".git/objects/pack/multi-pack-index"] {
        fs::write(world.ours.join(busy), "").unwrap();
        assert!(!repo.join_packs().unwrap());
        fs::remove_file(world.ours.join(busy)).unwrap();
    }
    assert_eq!(packs(&world), before);
    git(&world.ours, &["gc", "-q"]);
    assert!(!repo.join_packs().unwrap());
    assert_eq!(repo.unpublished().unwrap().len(), 60);
}

/// `git gc` removes an index that has no pack; ours is never seen without.
#[test]
fn an_index_comes_after_its_pack() {
    let world = World::new();
    let out = world.dir().join("trace");
    let traced = Command::new("strace")
        .args(["-f", "-y", "-e", "trace=rename,renameat,renameat2", "-o"])
        .arg(&out)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "repo::tests::durable::traced_batch"])
        .env(CHILD, &world.ours)
        .output();
    if !traced.is_ok_and(|t| t.status.success()) {
        println!("no strace, or it may not trace: the renames were not seen");
        return;
    }
    let trace = fs::read_to_string(&out).unwrap();
    let into = |end: &str| {
        let named = |l: &str| l.rsplit('"').nth(1).is_some_and(|to| to.contains("/objects/pack/") && to.ends_with(end));
        trace.lines().position(named).unwrap_or_else(|| panic!("{end}: {trace}"))
    };
    assert!(into(".pack") < into(".idx"), "{trace}");
    let left = fs::read_dir(world.ours.join(".git/objects")).unwrap().flatten().map(|e| e.file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().starts_with("dispatcher-tmp-")));
}
