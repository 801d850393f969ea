//! The table of rooms: a module imports only what stands in its row, and the core does no I/O. `mod` does not forbid
//! circles, and reviewers forget.
#![expect(clippy::unwrap_used, reason = "a test that cannot read the sources has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Module -> what it may import, in layer order: everything in the vocabulary may be imported by everybody below it.
const VOCABULARY: &[&str] =
    &["text", "time", "quantity", "request", "status", "event", "diagnostic", "command", "secret"];
const ROOMS: &[(&str, &[&str])] = &[
    ("text", &[]),
    ("time", &[]),
    ("quantity", &[]),
    ("request", &["time"]),
    ("status", &["request", "text", "time"]),
    ("event", &["request", "status", "time"]),
    ("diagnostic", &["status", "text"]),
    ("command", &["request"]),
    ("secret", &[]),
    // What is masked is masked by the same rules everywhere.
    ("mask", &[]),
    ("yaml", &[]),
    ("reading", &["yaml"]),
    ("config", &["yaml", "reading"]),
    ("vault", &["config", "mask"]),
    ("schema", &["yaml"]),
    ("router", &["yaml", "reading", "schema"]),
    ("backoff", &[]),
    ("locks", &[]),
    ("queue", &[]),
    ("engine", &["router", "locks", "queue", "backoff"]),
    ("inbox", &[]),
    ("runs", &["inbox"]),
    ("launcher", &[]),
    ("sandbox", &["launcher", "mask"]),
    ("executor", &["sandbox", "launcher"]),
    ("repo", &[]),
    ("journal", &["mask"]),
    ("checkout", &[]),
    ("console", &["journal"]),
    ("signals", &[]),
    ("instance", &[]),
    ("control", &["instance"]),
    // The file with the secret of the hook is read as the configuration says.
    ("http", &["config"]),
    (
        "daemon",
        &[
            "config", "yaml", "schema", "router", "engine", "inbox", "runs", "launcher", "sandbox", "executor", "repo",
            "journal", "console", "signals", "instance", "control", "mask", "vault", "http",
        ],
    ),
    // `engine` for the snapshot's type alone: the dashboard is a client of the daemon like any other.
    ("dashboard", &["engine", "journal", "checkout", "control"]),
    (
        "cli",
        &[
            "config",
            "yaml",
            "schema",
            "router",
            "engine",
            "inbox",
            "runs",
            "launcher",
            "sandbox",
            "executor",
            "repo",
            "journal",
            "checkout",
            "console",
            "signals",
            "instance",
            "control",
            "daemon",
            "dashboard",
            "mask",
        ],
    ),
];

/// Nothing that reads a clock or touches the world may be named in these.
const PURE: &[&str] = &["engine", "locks", "queue", "backoff", "mask"];
const IMPURE: &[&str] =
    &["std::fs", "std::net", "std::process", "std::thread", "std::io", "Instant::now", "SystemTime", "libc::", "nix::"];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every Rust file of a room, with its text up to the first test module.
fn files(room: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut left = vec![source().join(room), source().join(format!("{room}.rs"))];
    while let Some(path) = left.pop() {
        if path.is_dir() && path.ends_with("tests") {
            continue;
        }
        if path.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.is_file()
            && path.extension().is_some_and(|e| e == "rs")
            && path.file_name().is_some_and(|n| n != "tests.rs")
        {
            let text = fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or("").to_owned();
            found.push((path, text));
        }
    }
    found
}

/// The modules of this crate that a text names as `crate::<module>`, in lists and nested paths too.
fn imports(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices("crate::") {
        let rest = &text[at + "crate::".len()..];
        let word = |s: &str| s.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            Some(list) => {
                let mut depth = 0;
                let mut start = true;
                for (i, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && depth == 0 && !c.is_whitespace() => {
                            found.insert(word(&list[i..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
            None => {
                found.insert(word(rest));
            }
        }
    }
    found
}

#[test]
fn every_room_stands_in_the_table() {
    let known: BTreeSet<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    for entry in fs::read_dir(source()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let room = name.trim_end_matches(".rs");
        assert!(["lib", "main"].contains(&room) || known.contains(room), "`{room}` is in no row of the table");
    }
}

#[test]
fn rooms_import_only_what_their_row_allows() {
    let order: BTreeMap<&str, usize> = ROOMS.iter().enumerate().map(|(at, (room, _))| (*room, at)).collect();
    let mut wrong = Vec::new();
    for (room, allowed) in ROOMS {
        for import in allowed.iter() {
            assert!(order[import] < order[room], "the table itself: `{room}` before `{import}`");
        }
        for (path, text) in files(room) {
            for import in imports(&text) {
                let vocabulary = VOCABULARY.contains(&import.as_str()) && !VOCABULARY.contains(room);
                if import != *room && !vocabulary && !allowed.contains(&import.as_str()) {
                    wrong.push(format!("{}: `{room}` imports `{import}`", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_core_is_pure() {
    for room in PURE {
        for (path, text) in files(room) {
            for word in IMPURE {
                assert!(!text.contains(word), "{}: the core must not name `{word}`", path.display());
            }
        }
    }
}

/// What only these files may do.
const OWNERS: &[(&str, &[&str])] = &[
    ("Command::new", &["launcher/handle.rs", "repo/transport.rs", "repo/person.rs"]),
    ("SystemTime::now", &["daemon/clock.rs"]),
    ("libc::fork", &["launcher/sys.rs"]),
];

#[test]
fn effects_have_one_owner() {
    for (room, _) in ROOMS {
        for (path, text) in files(room) {
            for (word, owners) in OWNERS {
                let owner = owners.iter().any(|owner| path.ends_with(owner));
                assert!(owner || !text.contains(word), "{}: `{word}` belongs to {owners:?}", path.display());
            }
        }
    }
}

#[test]
fn files_say_what_they_own_and_stay_small() {
    for (room, _) in ROOMS {
        for (path, text) in files(room) {
            assert!(text.starts_with("//!"), "{}: what does it own?", path.display());
            let lines = text.lines().count();
            assert!(lines <= 600, "{}: {lines} lines", path.display());
        }
    }
}

/// The codes that a text has as string literals.
fn codes(text: &str) -> BTreeSet<String> {
    let is_code = |word: &&str| {
        let digits = word.strip_prefix("E0").unwrap_or_default();
        word.len() == 5 && digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    text.split('"').filter(is_code).map(str::to_owned).collect()
}

#[test]
fn every_code_has_one_row_and_says_where_it_is_said() {
    let mut said: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (room, _) in ROOMS {
        for (path, text) in files(room) {
            let inner = path.strip_prefix(source()).unwrap().to_str().unwrap().to_owned();
            if inner != "diagnostic/codes.rs" && !inner.ends_with("_tests.rs") {
                for code in codes(&text) {
                    said.entry(code).or_default().insert(inner.clone());
                }
            }
        }
    }
    let mut table: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut meanings = BTreeSet::new();
    for (code, means, files) in dispatcher::diagnostic::CODES {
        assert!(meanings.insert(means), "`{means}` is there twice");
        let files = files.iter().map(|&file| file.to_owned()).collect();
        assert_eq!(table.insert((*code).to_owned(), files), None, "{code} is there twice");
    }
    assert!(dispatcher::diagnostic::CODES.is_sorted_by_key(|(code, ..)| *code), "in order");
    for code in said.keys().chain(table.keys()) {
        let (said, table) = (said.get(code), table.get(code));
        assert_eq!(said, table, "{code}: left is where it is said, right is its row in src/diagnostic/codes.rs");
    }
}

#[test]
fn codes_are_found_as_literals_alone() {
    assert_eq!(
        codes(r#"new("E0101", "E01"); // `E0102` "E01x2" "E0103""#),
        ["E0101", "E0103"].map(String::from).into()
    );
}

#[test]
fn the_reader_of_imports_sees_them() {
    let text = "use crate::{a::{b, c}, d};\nuse crate::e::F;\nfn f() { crate::g::h() }";
    assert_eq!(imports(text), ["a", "d", "e", "g"].map(String::from).into());
}
