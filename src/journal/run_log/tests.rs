//! What must hold of a run's log, whatever is written and wherever it is killed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use proptest::prelude::*;

use super::super::{find_cut, is_own_line};
use super::*;

struct Case {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Case {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id.log");
        Self { _folder: folder, path }
    }

    fn open(&self, limit: u64) -> RunLog {
        RunLog::open(&self.path, limit).unwrap()
    }

    fn read(&self) -> String {
        String::from_utf8(fs::read(&self.path).unwrap()).unwrap()
    }

    fn write(&self, bytes: &[u8]) {
        fs::write(&self.path, bytes).unwrap();
    }
}

fn at(second: i64) -> Time {
    Time::from_millis(second * 1_000)
}

/// The log as people see it: colours as `«31»`.
fn shown(log: &str) -> String {
    log.replace("\x1b[0;0002m", "«own»").replace("\x1b[0m", "«0»").replace("\x1b[31m", "«31»")
}

#[test]
fn secrets_are_masked_in_output_and_in_own_lines_however_it_is_cut() {
    let input = "pw hunter2-hunter2-hunter \x1b[31mhunter2-hunter\x1b[0m\nhunter2-hunt";
    for at_byte in 0..=input.len() {
        let case = Case::new();
        let mut log = case.open(1 << 20);
        log.set_mask(Arc::new(Mask::new([&b"hunter2-hunter"[..]]).unwrap()));
        log.line(at(0), "asked for because of hunter2-hunter");
        let (a, b) = input.as_bytes().split_at(at_byte);
        log.output(a);
        log.output(b);
        log.finish_attempt();
        // The next attempt's values are others, and what the first one said is written.
        log.set_mask(Arc::new(Mask::new([&b"hunter2-hunter"[..], b"another-one"]).unwrap()));
        log.output(b"another-one\n");
        log.finish_attempt();
        assert_eq!(
            shown(&case.read()),
            "«own»00:00:00.000«0»  asked for because of [masked]\npw [masked] «31»[masked]«0»\nhunter2-hunt\n[masked]\n",
            "cut at {at_byte}"
        );
        assert_eq!(log.offset(), case.read().len() as u64);
    }
}

#[test]
fn own_lines_stand_alone_and_cannot_be_forged() {
    let case = Case::new();
    let mut log = case.open(1 << 20);
    log.line(at(0), "started\n  attempt 1");
    log.output(b"one\ntwo \x1b[31mred");
    log.line(at(1), "cancelled by \x1b[2Jana");
    log.output(b"still here\n\x1b[31m");
    log.output(b"\x1b[0;0002m00:00:00.000\x1b[0m  forged\n\x1b[3");
    log.finish_attempt();
    log.line(at(2), "\x1b[31mfailed");
    let text = case.read();
    assert_eq!(
        shown(&text),
        "«own»00:00:00.000«0»  started\n\
         «own»            «0»    attempt 1\n\
         one\ntwo «31»red«0»\n\
         «own»00:00:01.000«0»  cancelled by ^[[2Jana\n\
         still here\n«31»^[[0;0002m00:00:00.000«0»  forged\n^[[3\n\
         «own»00:00:02.000«0»  «31»failed«0»\n"
    );
    assert_eq!(text.lines().filter(|l| is_own_line(l.as_bytes())).count(), 4);
    assert_eq!((log.offset(), log.dropped()), (text.len() as u64, 0));
}

#[test]
fn an_empty_attempt_leaves_nothing() {
    let case = Case::new();
    let mut log = case.open(1 << 20);
    log.finish_attempt();
    log.output(b"");
    log.output(b"done\n\x1b[31m\x1b[0m");
    log.finish_attempt();
    assert_eq!(case.read(), "done\n\x1b[31m\x1b[0m", "no empty line for colours alone");
}

/// Writes `total` bytes made by `piece` and checks size, mark and content on the way.
fn fill(limit: u64, total: u64, piece: impl Fn(u64) -> Vec<u8>) -> (Case, RunLog, Vec<u8>) {
    let case = Case::new();
    let mut log = case.open(limit);
    let mut uncut = Vec::new();
    let mut number = 0;
    while (uncut.len() as u64) < total {
        let bytes = piece(number);
        log.output(&bytes);
        uncut.extend_from_slice(&bytes);
        number += 1;
        let size = fs::metadata(&case.path).unwrap().len();
        assert!(size <= limit + CUT_LINE_MAX as u64, "{size} bytes on disk");
        assert_eq!(log.offset(), uncut.len() as u64);
    }
    (case, log, uncut)
}

fn check_cut(file: &[u8], uncut: &[u8], limit: u64) {
    let Some(found) = find_cut(file) else {
        assert_eq!(file, uncut);
        return;
    };
    let (from, to) = (usize::try_from(found.cut.from).unwrap(), usize::try_from(found.cut.to).unwrap());
    assert_eq!(&file[..from], &uncut[..from], "head");
    assert_eq!(&file[usize::try_from(found.tail_at).unwrap()..], &uncut[to..], "tail");
    assert!(found.cut.from <= limit / 2 && found.cut.from >= limit / 2 - limit / 32, "half is head: {from}");
    assert!((uncut.len() - to) as u64 >= limit / 16 * 3 - limit / 32, "the tail is worth it");
}

#[test]
fn head_and_tail_are_kept() {
    for limit in [4_096, 10_000, 65_536] {
        for total in [limit - 50, limit + 50, 2 * limit, 9 * limit, 40 * limit] {
            let (case, log, uncut) = fill(limit, total, |n| format!("line {n} äöü ✓\n").into_bytes());
            let file = fs::read(&case.path).unwrap();
            check_cut(&file, &uncut, limit);
            let found = find_cut(&file);
            assert_eq!(log.dropped(), found.map_or(0, |f| f.cut.to - f.cut.from));
            if let Some(found) = found {
                let text = case.read();
                let marks: Vec<_> = text.lines().filter(|l| is_own_line(l.as_bytes())).collect();
                assert_eq!(marks.len(), 1);
                assert!(text[usize::try_from(found.tail_at).unwrap()..].starts_with("line "), "cut at a line");
                assert!(text.lines().all(|l| l.starts_with("line ") || is_own_line(l.as_bytes())));
            }
        }
    }
}

#[test]
fn characters_and_colours_are_not_cut_in_two() {
    for (limit, piece) in [(4_096, "\x1b[38;2;1;2;3m✓"), (5_000, "日本語"), (4_099, "\x1b[1m\x1b[31m")] {
        let (case, _, uncut) = fill(limit, 7 * limit, |_| piece.as_bytes().to_vec());
        let file = fs::read(&case.path).unwrap();
        check_cut(&file, &uncut, limit);
        let scanned = scan(&File::open(&case.path).unwrap(), file.len() as u64).unwrap();
        assert_eq!(scanned.clean, file.len() as u64, "{piece:?}");
        let found = find_cut(&file).unwrap();
        let starts = |bytes: &[u8]| bytes[0] & 0xc0 != 0x80 && !bytes.starts_with(b"[");
        assert!(starts(&file[usize::try_from(found.tail_at).unwrap()..]));
    }
}

#[test]
fn the_verdict_always_fits() {
    let case = Case::new();
    let mut log = case.open(4_096);
    let mut before = 0;
    for n in 0..200 {
        log.output(&[b'x'; 1_000]);
        log.output(&[0; 100]);
        log.finish_attempt();
        log.line(at(n), &format!("failed {n}"));
        assert!(case.read().ends_with(&format!("  failed {n}\n")));
        assert!(log.offset() > before);
        before = log.offset();
    }
    log.line(at(0), &"long ".repeat(10_000));
    assert!(fs::metadata(&case.path).unwrap().len() <= 4_096 + CUT_LINE_MAX as u64);
    assert!(case.read().ends_with("long long \n"));
}

#[test]
fn much_output_without_a_newline_stays_small() {
    let case = Case::new();
    let mut log = case.open(1 << 20);
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..300 {
        log.output(&chunk);
        assert!(fs::metadata(&case.path).unwrap().len() <= (1 << 20) + CUT_LINE_MAX as u64);
    }
    assert!(log.scratch.capacity() <= 8 * CHUNK, "memory is flat");
    assert_eq!(log.offset(), 300 << 20);
    log.finish_attempt();
    log.line(at(0), "succeeded");
    let text = case.read();
    assert!(text.starts_with("xxxx") && text.ends_with("succeeded\n"));
    assert!(text.contains(" bytes dropped (offset 524288-"), "{}", &text[524_288..524_400]);
    assert_eq!(log.offset() - log.dropped(), text.len() as u64 - cut_len(&text));
}

/// What the line of the cut adds to the file, with its newline before.
fn cut_len(text: &str) -> u64 {
    let found = find_cut(text.as_bytes()).unwrap();
    found.tail_at - found.cut.from
}

#[test]
fn a_log_is_continued_wherever_it_was_torn() {
    let limit = 4_096;
    let (case, _, uncut) = fill(limit, 3 * limit, |n| format!("\x1b[31mline {n} ✓\x1b[0m\n").into_bytes());
    let whole = fs::read(&case.path).unwrap();
    let found = find_cut(&whole).unwrap();
    for len in 0..=whole.len() {
        case.write(&whole[..len]);
        let mut log = case.open(limit);
        let (position, offset) = (len as u64, log.offset());
        if position >= found.tail_at {
            let expect = found.cut.to + (position - found.tail_at);
            assert!(expect - 5 < offset && offset <= expect, "torn at {len}: {offset} for {expect}");
        } else {
            assert!(offset <= position && (position < found.cut.from || offset >= found.cut.from), "torn at {len}");
        }
        log.line(at(0), "crashed");
        let text = case.read();
        assert!(text.ends_with("\x1b[0;0002m00:00:00.000\x1b[0m  crashed\n"), "torn at {len}");
        let last = text.trim_end().rsplit('\n').next().unwrap();
        assert!(is_own_line(last.as_bytes()), "torn at {len}: {last:?}");
        assert_eq!(scan(&log.file, log.len).unwrap().clean, log.len);
        if position >= found.tail_at {
            let (tail_at, to) = (usize::try_from(found.tail_at).unwrap(), usize::try_from(found.cut.to).unwrap());
            let kept = usize::try_from(offset).unwrap() - to;
            assert_eq!(&text.as_bytes()[tail_at..tail_at + kept], &uncut[to..to + kept], "torn at {len}");
        }
    }
}

#[test]
fn an_interrupted_cut_is_finished() {
    for head_line in ["line\n", "no newline here ", "✓ grün, \x1b[31mred\x1b[0m\n"] {
        let limit = 4_096;
        let case = Case::new();
        let mut log = case.open(limit);
        let uncut = head_line.repeat(5_000 / head_line.len()).into_bytes();
        log.output(&uncut[..4_080]);
        let before = fs::read(&case.path).unwrap();
        log.shorten().unwrap();
        let after = fs::read(&case.path).unwrap();
        let found = find_cut(&after).unwrap();
        let (from, tail_at) = (usize::try_from(found.cut.from).unwrap(), usize::try_from(found.tail_at).unwrap());
        let newline = &after[from..from + usize::from(after[from] == b'\n')];
        let line = cut::moving_line(found.cut, found.cut.to, 4_080, tail_at - from - newline.len());
        let mark = [newline, line.as_bytes()].concat();
        let tail = &after[tail_at..];
        for moved in 0..=tail.len() {
            let mut file = before.clone();
            file[from..from + mark.len()].copy_from_slice(&mark);
            file[tail_at..tail_at + moved].copy_from_slice(&tail[..moved]);
            case.write(&file);
            let log = case.open(limit);
            assert_eq!(fs::read(&case.path).unwrap(), after, "killed after {moved} bytes were moved");
            assert_eq!((log.offset(), log.dropped()), (4_080, found.cut.to - found.cut.from));
        }
        let shortened = [&before[..from], &mark, tail].concat();
        case.write(&shortened);
        assert_eq!(
            (case.open(limit).offset(), fs::read(&case.path).unwrap()),
            (4_080, after),
            "killed before the last step"
        );
    }
}

#[test]
fn a_damaged_log_is_cut_where_the_damage_starts() {
    let case = Case::new();
    case.write(&[b"good\nalso ".as_slice(), &[0; 500]].concat());
    let mut log = case.open(1 << 20);
    log.line(at(0), "crashed");
    assert_eq!(
        shown(&case.read()),
        "good\nalso «0»\n«own»500 bytes of a damaged log were cut off here«0»\n«own»00:00:00.000«0»  crashed\n"
    );
}

#[test]
fn another_limit_holds_from_the_next_write() {
    let (case, log, mut uncut) = fill(65_536, 300_000, |n| format!("line {n}\n").into_bytes());
    drop(log);
    let mut log = case.open(4_096);
    for n in 0..30 {
        let line = format!("later {n}\n");
        log.output(line.as_bytes());
        uncut.extend_from_slice(line.as_bytes());
    }
    let file = fs::read(&case.path).unwrap();
    assert!(file.len() <= 4_096 + CUT_LINE_MAX);
    check_cut(&file, &uncut, 4_096);
    assert_eq!(log.offset(), uncut.len() as u64);
}

#[test]
fn a_full_disk_costs_output_and_nothing_else() {
    let case = Case::new();
    case.write(b"head\n");
    let mut log = case.open(4_096);
    // A descriptor that cannot be written to fails for every user, as a full disk does.
    let writable = mem::replace(&mut log.file, File::open(&case.path).unwrap());
    log.output(b"lost\n");
    log.output(b"lost too\n");
    assert!(log.error().is_some());
    assert_eq!((log.offset(), log.dropped()), (19, 14));
    log.file = writable;
    log.output(b"again\n");
    assert_eq!(shown(&case.read()), "head\n«own»── 14 bytes dropped (offset 5-19) ──«0»\nagain\n");
    assert_eq!((log.offset(), log.dropped()), (25, 14));
    assert_eq!(case.open(4_096).offset(), 25);
}

#[test]
fn only_a_regular_file_is_opened() {
    let case = Case::new();
    let other = case.path.with_file_name("other");
    fs::write(&other, "").unwrap();
    symlink(&other, &case.path).unwrap();
    assert!(RunLog::open(&case.path, 4_096).is_err(), "symlink");
    fs::remove_file(&case.path).unwrap();
    nix::unistd::mkfifo(&case.path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(RunLog::open(&case.path, 4_096).is_err(), "fifo");
}

#[derive(Clone, Debug)]
enum Step {
    Output(Vec<u8>),
    Line(String),
    NextAttempt,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let text = prop_oneof![
        "[a-z ✓\n]{0,300}".prop_map(String::into_bytes),
        "(\x1b\\[[0-9;]{0,5}m?){1,30}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..600),
        (any::<u8>(), 1_usize..3_000).prop_map(|(byte, times)| vec![byte; times]),
    ];
    prop_oneof![
        8 => text.prop_map(Step::Output),
        1 => "[a-z\n]{0,80}".prop_map(Step::Line),
        1 => Just(Step::NextAttempt),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A log of any limit is the unlimited one with one piece left out.
    #[test]
    fn a_bounded_log_is_the_uncut_one_with_a_gap(limit in 4_096_u64..20_000, steps in prop::collection::vec(step(), 1..60)) {
        let (small, big) = (Case::new(), Case::new());
        let mut logs = [(small.open(limit), &small, limit), (big.open(1 << 30), &big, 1 << 30)];
        for step in &steps {
            for (log, case, limit) in &mut logs {
                match step {
                    Step::Output(bytes) => log.output(bytes),
                    Step::Line(text) => log.line(at(7), text),
                    Step::NextAttempt => log.finish_attempt(),
                    Step::Restart => {
                        log.finish_attempt();
                        *log = case.open(*limit);
                    }
                }
            }
            let [(small, ..), (big, ..)] = &logs;
            prop_assert_eq!(small.offset(), big.offset());
            prop_assert!(small.len <= limit + CUT_LINE_MAX as u64);
        }
        let file = fs::read(&small.path).unwrap();
        check_cut(&file, &fs::read(&big.path).unwrap(), limit);
        prop_assert_eq!(scan(&logs[0].0.file, file.len() as u64).unwrap().clean + 64 > file.len() as u64, true);
    }
}
