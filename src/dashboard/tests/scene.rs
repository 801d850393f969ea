//! A repository with runs in every state, and the dashboard on it.

use std::fs;
use std::path::Path;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Color;

use crate::dashboard::app::View;
use crate::dashboard::model::{Link, Model, Standing};
use crate::dashboard::theme::Theme;
use crate::dashboard::view::render;
use crate::event::{Entry, Event, RunRef};
use crate::request::RunId;
use crate::status::State;
use crate::time::Time;

/// 2026-11-23 06:41:07 UTC.
pub const NOW: i64 = 1_795_416_067_000;
const PLAIN: Theme = Theme { colour: true, ascii: false };

/// The dashboard and the checkout that it looks at.
pub struct Scene {
    _dir: tempfile::TempDir,
    pub model: Model,
    pub view: View,
    seq: u64,
}

pub fn id(n: u8) -> RunId {
    RunId::new(
        Time::from_millis(NOW - 1_000_000 + i64::from(n)),
        [n, n ^ 0x5a, n, n, n, 0xa0 | (n & 0xf), n, n, n ^ 0x77, n],
    )
}

pub fn run(n: u8, kind: &str, resource: &str) -> RunRef {
    RunRef {
        id: id(n),
        req: format!("{kind}-{n}.yml"),
        kind: kind.parse().ok(),
        resource: resource.parse().ok(),
        log_off: 0,
    }
}

impl Scene {
    /// Nothing has happened yet.
    pub fn empty() -> Self {
        let dir = tempfile::Builder::new().prefix("scene").tempdir().unwrap();
        let root = dir.path().join("ops-requests");
        for folder in ["logs", "processed", ".git"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
        let view = View::new(PLAIN, root, Time::from_millis(NOW));
        let mut scene = Self { _dir: dir, model: Model::default(), view, seq: 0 };
        scene.model.loaded = true;
        scene.model.stand(&standing(), Time::from_millis(NOW));
        scene
    }

    /// Runs in every state.
    pub fn full() -> Self {
        let mut scene = Self::empty();
        scene.ended(60 * 24, run(9, "drain-node", "node/ip-10-0-3-9"), State::Cancelled, Some("by ana: wrong node"));
        for n in 0..30 {
            let shard = format!("db/shard-{n}");
            scene.ended(1_500 - 40 * i64::from(n), run(100 + n, "db-vacuum", &shard), State::Succeeded, None);
        }
        scene.ended(700, run(11, "rotate-cert", "host/größe-日本"), State::TimedOut, None);
        scene.ended(690, run(12, "rotate-cert", "host/web-12"), State::OutOfMemory, None);
        scene.ended(680, run(13, "rotate-cert", "host/web-13"), State::Crashed, None);
        let rejected = Event::Rejected {
            run: RunRef { resource: None, req: "bad.yaml".into(), ..run(14, "restart-service", "x") },
            status: State::Rejected,
            rc: 65,
            code: "E0302".into(),
            message: "unknown field `servce` in `params`".into(),
            problems: 5,
        };
        scene.happens(540, rejected);
        scene.ended(360, run(15, "restart-service", "host/web-02"), State::Failed, None);
        let (drain, rotate) = (run(1, "drain-node", "node/ip-10-0-3-7"), run(2, "rotate-cert", "host/web-01"));
        scene.runs(252, drain.clone(), Some("kernel CVE-2026-1234"));
        let progress = |done| Event::Progress {
            run: run(1, "drain-node", "node/ip-10-0-3-7"),
            step: "evict".into(),
            done: Some(done),
            total: Some(7),
        };
        scene.happens(100, progress(3));
        scene.runs(8, rotate, None);
        for n in 3..6 {
            let resource = if n == 3 { "host/web-01".to_owned() } else { format!("db/shop-{n}") };
            let kind = if n == 3 { "restart-service" } else { "db-vacuum" };
            let run = run(n, kind, &resource);
            scene.accepted(7 - i64::from(n) / 2, run.clone(), None);
            if n == 3 {
                scene.happens(6, Event::LockWaiting { run, held_by: Some(id(2)) });
            }
        }
        scene.happens(30, Event::Fetched { commit: "7be1f02a".into(), commits: 1 });
        scene.happens(3, Event::Pushed { commit: "a91c0047".into(), runs: 1, attempts: 1 });
        scene.files(&drain);
        scene.model.settle();
        scene.model.count_day(Time::from_millis(NOW));
        scene
    }

    /// An event `ago` seconds before now.
    pub fn happens(&mut self, ago: i64, event: Event) {
        self.seq += 1;
        let ts = Time::from_millis(NOW - ago * 1_000);
        self.model.apply(&Entry { v: 1, seq: 100 + self.seq, ts, event });
    }

    fn accepted(&mut self, ago: i64, run: RunRef, reason: Option<&str>) {
        let event = Event::Accepted {
            run,
            priority: 0,
            by: Some("ana".into()),
            reason: reason.map(str::to_owned),
            dry_run: false,
        };
        self.happens(ago, event);
    }

    fn runs(&mut self, ago: i64, run: RunRef, reason: Option<&str>) {
        self.accepted(ago + 2, run.clone(), reason);
        self.happens(ago, Event::LockAcquired { run: run.clone(), waited_ms: 2_000 });
        let event = Event::RunStarted {
            run,
            attempt: 1,
            handler: "handler.sh".into(),
            dirty: false,
            user: "executor".into(),
            timeout_ms: 1_800_000,
        };
        self.happens(ago, event);
    }

    fn ended(&mut self, ago: i64, run: RunRef, status: State, reason: Option<&str>) {
        self.runs(ago + 41, run.clone(), None);
        let rc = if status == State::Succeeded { 0 } else { 3 };
        let event = Event::Finished {
            run,
            status,
            rc,
            signal: None,
            attempt: 1,
            duration_ms: Some(41_000),
            reason: reason.map(str::to_owned),
        };
        self.happens(ago, event);
    }

    /// Log, events, request of a run.
    fn files(&self, run: &RunRef) {
        let root = self.root();
        let mut log = String::from(
            "\u{1b}[0;0002m06:36:55.010\u{1b}[0m  \u{1b}[1mdrain-node on node/ip-10-0-3-7, attempt 1 of 1\u{1b}[0m\n",
        );
        let mut events = String::new();
        let start = Time::from_millis(NOW - 252_000);
        for n in 0..40_u32 {
            let at = start.plus(std::time::Duration::from_secs(u64::from(n) * 6));
            log += &match n % 10 {
                4 => format!("evict   cart-{n}   WARN  disruption budget blocks eviction, retry 1/5 in 30 s\n"),
                7 => format!("ERROR pod {n} is gone\n"),
                _ => format!("\u{1b}[32mevict\u{1b}[0m   api-6d9f7c-{n:05}   ok\n"),
            };
            events += &format!(
                "{{\"v\":1,\"seq\":{n},\"ts\":\"{at}\",\"event\":\"run.progress\",\"log_off\":{},\"step\":\"evict {n}\",\"done\":3,\"total\":7}}\n",
                log.len()
            );
        }
        fs::write(root.join(format!("logs/{}.log", run.id)), log).unwrap();
        fs::write(root.join(format!("logs/{}.jsonl", run.id)), events).unwrap();
        let folder = root.join(format!("processed/{}", run.id));
        fs::create_dir_all(&folder).unwrap();
        let request =
            "kind: drain-node\nparams:\n  node: ip-10-0-3-7\n  grace_seconds: 30\nreason: kernel CVE-2026-1234\n";
        fs::write(folder.join("request.yml"), request).unwrap();
    }

    pub fn root(&self) -> &Path {
        &self.view.root
    }

    /// What stands on a screen of this size.
    pub fn draw(&mut self, width: u16, height: u16) -> Buffer {
        self.view.size = (width, height);
        self.model.settle();
        while self.view.prepare(&self.model) {}
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
        render(&self.model, &self.view, &mut buffer);
        buffer
    }

    /// The same as text, and that colours say nothing that the text does not.
    pub fn text(&mut self, width: u16, height: u16) -> String {
        self.view.theme = PLAIN;
        let coloured = lines(&self.draw(width, height));
        self.view.theme = Theme { colour: false, ascii: false };
        let mono = self.draw(width, height);
        let colour = mono.content.iter().find(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset);
        assert_eq!(colour, None, "colours where there should be none");
        assert_eq!(lines(&mono), coloured, "without colours something else is said");
        self.view.theme = Theme { colour: false, ascii: true };
        let ascii = lines(&self.draw(width, height));
        let own = |c: &char| !c.is_ascii() && !"größe日本".contains(*c);
        assert_eq!(ascii.chars().find(own), None, "{ascii}");
        self.view.theme = PLAIN;
        coloured
    }
}

/// The rows of a screen.
pub fn lines(buffer: &Buffer) -> String {
    let mut out = String::new();
    for y in 0..buffer.area.height {
        let mut row = String::new();
        let mut skip = 0;
        for x in 0..buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            if skip == 0 {
                row.push_str(symbol);
                skip = unicode_width::UnicodeWidthStr::width(symbol).saturating_sub(1);
            } else {
                skip -= 1;
            }
        }
        out += row.trim_end();
        out.push('\n');
    }
    out
}

/// What a daemon says that has nothing to do.
pub fn standing() -> Standing {
    serde_json::from_value(serde_json::json!({
        "mode": "working", "paused": null, "degraded": {}, "workers": 4, "runs": [], "scheduled": [], "inbox": 0,
        "git": {"remote": true, "unrecorded": 0, "unpushed": 0, "push": "ok"}, "seq": 100, "version": "0.1.0",
        "pid": 4121, "host": "ops-1", "user": "executor", "root": "/srv/ops", "up_ms": 1,
        "since": Time::from_millis(NOW - 6 * 86_400_000 - 15_000_000).to_string(),
    }))
    .unwrap()
}

/// The daemon went away.
pub fn lost() -> Link {
    let at = |ms| Time::from_millis(NOW + ms);
    Link::Lost { since: at(-3_000), retry: at(2_000), why: "it closed the connection".into() }
}
