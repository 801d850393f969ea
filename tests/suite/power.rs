//! The power goes under load, again and again, at random moments after a run was announced. What was announced is there
//! afterwards, the repository opens and is whole, and the rest is done as if nothing had been.
//!
//! `DISPATCHER_CUTS=100 cargo test --test suite power -- --nocapture` is the long form; `DISPATCHER_SEED` repeats one.

use std::collections::BTreeMap;
use std::fs::{self, File};

use fastrand::Rng;
use serde_json::Value;

use crate::disk::{Disk, Loss};
use crate::torture;
use crate::world::{Daemon, World, ask, eventually};

/// New requests before each cut.
const REQUESTS: usize = 10;
/// How many resources they share.
const RESOURCES: u32 = 6;

/// A world whose dispatcher lives on a disk of its own: clone and local state.
struct Rig {
    /// Before the world, whose folder it is mounted in.
    disk: Disk,
    world: World,
    rng: Rng,
    /// What was asked for, and is owed: the text of each request by its name.
    asked: BTreeMap<String, String>,
    /// Runs that were announced, as people read them, with their status.
    heard: BTreeMap<String, String>,
}

#[test]
fn what_was_announced_survives_a_power_cut() {
    let cuts: u32 = std::env::var("DISPATCHER_CUTS").map_or(10, |text| text.parse().unwrap());
    let seed = std::env::var("DISPATCHER_SEED").map_or_else(|_| fastrand::u64(..1 << 32), |text| text.parse().unwrap());
    println!("seed {seed}");
    let Some(mut rig) = Rig::new(seed) else { return };
    for cut in 0..cuts {
        rig.round(cut);
    }
    rig.finish(cuts);
}

impl Rig {
    /// `None`, with a word about it, where the machine lacks something.
    fn new(seed: u64) -> Option<Self> {
        // All that is announced stays on the branch, where it is looked for.
        let world = World::new("fetch_interval: 300ms\nscan_interval: 500ms\nkeep_recent: 100000\n");
        let disk = match Disk::make(&world.path().join("disk")) {
            Ok(disk) => disk,
            Err(why) => {
                println!("SKIPPED: no power was cut, for want of a file system to cut it from: {why}");
                return None;
            }
        };
        // The state folder is found by the clone's name; both are links to the disk.
        for name in ["ops", "state-ops"] {
            let (there, link) = (world.path().join("disk").join(name), world.path().join(name));
            if link.exists() {
                fs::remove_dir_all(&link).unwrap();
            }
            fs::create_dir(&there).unwrap();
            std::os::unix::fs::symlink(there, link).unwrap();
        }
        world.git(&world.ops(), &["clone", "-q", "../../remote.git", "."]);
        nix::unistd::syncfs(File::open(world.path().join("disk")).unwrap()).unwrap();
        let rng = Rng::with_seed(seed);
        Some(Self { disk, world, rng, asked: BTreeMap::new(), heard: BTreeMap::new() })
    }

    /// Work, a cut, and a look at what is left.
    fn round(&mut self, cut: u32) {
        let loss = [Loss::Journal, Loss::Data, Loss::Journal, Loss::Data, Loss::Nothing][cut as usize % 5];
        let before = self.heard.len();
        let daemon = Daemon::start(&self.world);
        self.ask(cut);
        let wanted = before + self.rng.usize(1..=REQUESTS / 2);
        eventually("runs are announced", || {
            self.listen(&daemon);
            self.heard.len() >= wanted
        });
        // The moment itself is what is random.
        std::thread::sleep(std::time::Duration::from_millis(self.rng.u64(..100)));
        self.disk.cut(loss);
        let helpers = daemon.helpers();
        let output = daemon.output.clone();
        daemon.kill();
        eventually("nothing of it lives", || {
            self.world.survivors().is_empty() && !helpers.iter().any(|&pid| crate::world::alive(pid))
        });
        // What was said after the cut was true as well.
        self.hear(&fs::read_to_string(output).unwrap());
        // Without its help for programs that do not sync, ext4 is as strict as other file systems.
        let options = if self.rng.bool() { "noauto_da_alloc" } else { "" };
        self.disk.revive(options);
        println!("cut {cut}: {loss:?} lost, {} runs announced so far, next mount `{options}`", self.heard.len());
        self.whole();
    }

    /// New work by every way there is; each is owed from the moment on at which its asker was told so.
    fn ask(&mut self, cut: u32) {
        let mut pushed = Vec::new();
        for n in 0..REQUESTS {
            let on = format!("on: r{}", self.rng.u32(..RESOURCES));
            let time = format!("{on}, for: 0.{:02}", self.rng.u32(1..30));
            let text = match n % 5 {
                0 | 1 => ask("work", &time),
                2 => ask("workonce", &time),
                3 => ask("code", &format!("{on}, code: {}", self.rng.u32(1..70))),
                _ => ask("nobody", &on),
            };
            let name = format!("{cut:03}-{n}.yml");
            match self.rng.u32(..3) {
                0 => pushed.push((format!("requests/{name}"), text.clone())),
                // What is asked for in vain is refused at once there.
                1 if !text.contains("nobody") => self.submit(&name, &text),
                _ => self.drop_in(&name, &text),
            }
            self.asked.insert(name, text);
        }
        let files: Vec<(&str, &str)> = pushed.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        if !files.is_empty() {
            self.world.push(&files);
        }
    }

    fn submit(&self, name: &str, text: &str) {
        let file = self.world.path().join(name);
        fs::write(&file, text).unwrap();
        self.world.ops_do(&["submit", file.to_str().unwrap()]).expect(0);
    }

    /// As a careful program writes a file.
    fn drop_in(&self, name: &str, text: &str) {
        let inbox = self.world.ops().join("requests");
        let hidden = inbox.join(format!(".{name}.tmp"));
        fs::write(&hidden, text).unwrap();
        File::open(&hidden).unwrap().sync_all().unwrap();
        fs::rename(hidden, inbox.join(name)).unwrap();
        File::open(inbox).unwrap().sync_all().unwrap();
    }

    /// What was announced so far.
    fn listen(&mut self, daemon: &Daemon) {
        for event in self.world.events().iter().filter(|event| event["event"] == "run.finished") {
            let word = |key: &str| event[key].as_str().unwrap();
            self.announced(&word("id")[28..], word("status"));
        }
        self.hear(&fs::read_to_string(&daemon.output).unwrap_or_default());
    }

    fn announced(&mut self, name: &str, status: &str) {
        let before = self.heard.insert(name.to_owned(), status.to_owned());
        assert!(before.is_none_or(|before| before == status), "{name} was announced as {status} too");
    }

    /// What the daemon has said so far: to a file that is not on the disk.
    fn hear(&mut self, text: &str) {
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            // The time, a sign, the state, the run.
            let words: Vec<&str> = line.split_whitespace().collect();
            if let [_, _, state, name, ..] = words[..]
                && END.contains(&state)
            {
                self.announced(name, state);
            }
        }
    }

    /// The repository is whole, and holds what was announced.
    fn whole(&self) {
        let ops = self.world.ops();
        let fsck = self.world.try_git(&ops, &["fsck", "--strict", "--no-dangling"]);
        assert_eq!((fsck.code, fsck.out.as_str()), (0, ""), "{}", fsck.err);
        let recorded = self.world.recorded("HEAD");
        for (short, state) in &self.heard {
            let found: Vec<&Value> =
                recorded.iter().filter(|(id, _)| id.ends_with(short.as_str())).map(|(_, status)| status).collect();
            assert!(matches!(&found[..], [status] if status["status"] == **state), "{short} {state}: {found:?}");
        }
        self.contents(&recorded);
    }

    /// What is recorded holds its request as it was asked, and its logs.
    fn contents(&self, recorded: &BTreeMap<String, Value>) {
        let files = self.world.git(&self.world.ops(), &["ls-tree", "-r", "-l", "HEAD", "processed", "logs"]);
        let files: BTreeMap<&str, (&str, &str)> = files
            .lines()
            .map(|line| {
                let (meta, path) = line.split_once('\t').unwrap();
                let meta: Vec<&str> = meta.split_whitespace().collect();
                (path, (meta[2], meta[3]))
            })
            .collect();
        for (id, status) in recorded {
            let name = status["request"].as_str().unwrap();
            let text = self.asked.get(name).unwrap_or_else(|| panic!("who asked for this? {status}"));
            let oid = git2::Oid::hash_object(git2::ObjectType::Blob, text.as_bytes()).unwrap().to_string();
            assert_eq!(files[format!("processed/{id}/request.yml").as_str()].0, oid, "{status}");
            for log in [format!("logs/{id}.log"), format!("logs/{id}.jsonl")] {
                let size = files.get(log.as_str()).map(|(_, size)| *size);
                assert!(size.is_some_and(|size| size != "0"), "{log}: {size:?}, {status}");
            }
        }
    }

    /// All that was asked is done, each once.
    fn finish(&mut self, cuts: u32) {
        let last = Daemon::spawn(&self.world, &["--no-tui", "--once"]);
        let output = last.output.clone();
        assert_eq!(last.ended(), 0, "{}", fs::read_to_string(&output).unwrap());
        self.hear(&fs::read_to_string(output).unwrap());
        self.whole();
        self.world.sound();
        let ended = self.world.recorded("HEAD");
        let mut names: Vec<&str> = ended.values().map(|status| status["request"].as_str().unwrap()).collect();
        names.sort_unstable();
        assert_eq!(names, self.asked.keys().collect::<Vec<_>>(), "every request exactly once");
        let marks: Vec<String> = (0..RESOURCES).flat_map(|n| self.world.lines(&format!("r{n}"))).collect();
        // A run's first start is not synced: a cut may take its record along, and then it is not counted.
        torture::judge_runs(&ended, &marks, 4);
        println!("{cuts} cuts: {} requests, {} runs announced, none lost", self.asked.len(), self.heard.len());
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let output = fs::read_to_string(self.world.path().join("daemon.out")).unwrap_or_default();
            println!("{output}\n{}", self.world.try_git(&self.world.ops(), &["status"]).out);
        }
    }
}

#[test]
fn a_sync_that_failed_stops_intake() {
    let world = World::new("scan_interval: 500ms\n");
    // The folder of the packs alone: other syncs succeed, and must not make it forgotten.
    let packs = world.ops().join(".git/objects/pack");
    let under = format!("exec strace -D -f -qq -o /dev/null -P {} -e trace=fsync", packs.display());
    let under = format!("{under} -e inject=fsync:error=EIO");
    let may = world.command("sh", world.path()).args(["-c", &format!("{under} true")]).output().unwrap();
    if !may.status.success() {
        assert!(std::env::var_os("DISPATCHER_ALL_TOOLS").is_none(), "{may:?}");
        println!("SKIPPED: no sync failed, for want of a strace that may trace: {may:?}");
        return;
    }
    let daemon = Daemon::start_after(&world, &format!("{under} \"$0\" --no-tui"));
    world.drop_in("a.yml", &ask("ok", "on: web"));
    let degraded = |reason: &str| {
        let event = world.event(0, reason, |e| e["event"] == "dispatcher.degraded" && e["reason"] == reason);
        assert!(event["detail"].as_str().unwrap().contains("fsync"), "{event}");
    };
    degraded("sync");
    degraded("commit");
    world.drop_in("b.yml", &ask("ok", "on: web"));
    // Two scans and a fetch later.
    for _ in 0..2 {
        world.ops_do(&["fetch"]);
    }
    assert!(world.ops().join("requests/b.yml").exists(), "nothing is taken any more");
    assert!(world.events().iter().all(|event| event["event"] != "run.finished"), "nothing is announced");
    assert!(world.recorded("HEAD").is_empty());
    let status = world.ops_do(&["status"]);
    assert!(status.out.contains("sync"), "{status:?}");
    daemon.stop();
    let last = Daemon::spawn(&world, &["--no-tui", "--once"]);
    assert_eq!(last.ended(), 0);
    for name in ["a.yml", "b.yml"] {
        assert_eq!(world.outcome(name)["status"], "succeeded", "{name}");
    }
    assert_eq!(world.lines("web").iter().filter(|line| line.starts_with("start")).count(), 2, "each ran once");
    world.sound();
}

/// The words for a run's end.
const END: [&str; 6] = ["succeeded", "failed", "timed_out", "out_of_memory", "cancelled", "crashed"];
