//! The golden cases as they stand, what `replay` says of a case that comes out otherwise, and the demo: with the program
//! itself, as whoever runs the tests.
#![expect(clippy::unwrap_used, reason = "a test that cannot do its steps has failed")]

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The program, in an environment that names no home and no places.
fn dispatcher(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dispatcher"));
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    if let Some(temp) = std::env::var_os("TMPDIR") {
        command.env("TMPDIR", temp);
    }
    command.current_dir(dir).stdin(Stdio::null());
    command
}

fn run(dir: &Path, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
    dispatcher(dir).args(args).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> =
        fs::read_dir(root().join("tests/golden")).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

/// A dispatch repository with one kind and one case whose handler prints what stands in `says`.
fn repo_with_case(says: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let made = run(dir.path(), ["init", "."]);
    assert!(made.status.success(), "{}", err(&made));
    let case = dir.path().join("cases/one");
    fs::create_dir_all(case.join("files/handlers")).unwrap();
    fs::write(case.join("request.yml"), "kind: speak\n").unwrap();
    let handler = case.join("files/handlers/speak.sh");
    fs::write(&handler, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
    fs::set_permissions(&handler, fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir_all(dir.path().join("schema")).unwrap();
    fs::write(dir.path().join("schema/requests.yml"), "speak: {type: object}\n").unwrap();
    dir
}

#[test]
fn all_golden_cases_come_out_as_expected() {
    let cases = cases();
    assert!(cases.len() >= 60);
    let args = ["--json", "replay"].map(Into::into).into_iter().chain(cases.iter().cloned());
    let output = run(root(), args);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", err(&output)));
    let all = document["cases"].as_array().unwrap();
    let wrong: Vec<String> = all
        .iter()
        .filter(|case| case["result"] != "same")
        .map(|case| format!("{}: {}\n{}", case["name"], case["result"], case["diff"].as_str().unwrap_or_default()))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!((all.len(), output.status.code(), &document["ok"]), (cases.len(), Some(0), &Value::Bool(true)));
}

#[test]
fn every_end_that_needs_no_person_has_a_case() {
    let ends: Vec<(String, i64)> = cases()
        .iter()
        .map(|case| {
            let status: Value = serde_json::from_slice(&fs::read(case.join("expected.status.json")).unwrap()).unwrap();
            (status["status"].as_str().unwrap().to_owned(), status["rc"].as_i64().unwrap())
        })
        .collect();
    for end in [
        ("succeeded", 0),
        ("failed", 3),
        ("failed", 143),
        ("timed_out", 124),
        ("out_of_memory", 137),
        ("rejected", 64),
        ("rejected", 65),
        ("rejected", 78),
        ("expired", 75),
        ("duplicate", 0),
    ] {
        assert!(ends.iter().any(|(status, rc)| (status.as_str(), *rc) == end), "{end:?}");
    }
}

#[test]
fn a_case_is_blessed_and_then_guards() {
    let dir = repo_with_case("as ever");
    let case = dir.path().join("cases/one");

    let fresh = run(dir.path(), ["replay", "cases/one"]);
    assert_eq!(fresh.status.code(), Some(1));
    assert!(out(&fresh).contains("there is no `expected.log` yet; --bless writes"), "{}", out(&fresh));

    let blessed = run(dir.path(), ["replay", "--bless", "cases/one/"]);
    assert_eq!(blessed.status.code(), Some(0), "{}{}", out(&blessed), err(&blessed));
    assert!(out(&blessed).starts_with("BLESS one "), "{}", out(&blessed));
    let log = fs::read_to_string(case.join("expected.log")).unwrap();
    assert!(log.contains("\nas ever\n<time>        ✓ succeeded rc 0 after <took>\n"), "{log}");
    let same = run(dir.path(), ["replay", "cases/one"]);
    assert_eq!((same.status.code(), out(&same).starts_with("ok    one ")), (Some(0), true), "{}", out(&same));

    fs::write(case.join("expected.log"), log.replace("as ever", "as never")).unwrap();
    let differs = run(dir.path(), ["replay", "cases/one"]);
    assert_eq!(differs.status.code(), Some(1));
    let text = out(&differs);
    for line in [
        "DIFF  one ",
        "--- expected.log",
        "+++ came out",
        "-as never",
        "+as ever",
        "1 case: 0 as expected, 1 different",
    ] {
        assert!(text.contains(line), "`{line}` is missing:\n{text}");
    }
    assert!(!text.contains("expected.status.json") && !text.contains('\u{1b}'), "{text}");
    let document: Value = serde_json::from_slice(&run(dir.path(), ["--json", "replay", "cases/one"]).stdout).unwrap();
    assert_eq!(document["cases"][0]["result"], "different");

    let again = run(dir.path(), ["replay", "cases/one", "--bless"]);
    assert_eq!(again.status.code(), Some(0));
    assert_eq!(fs::read_to_string(case.join("expected.log")).unwrap(), log);
}

#[test]
fn a_case_that_is_none_is_refused() {
    let dir = repo_with_case("x");
    for (case, exit, code) in [("cases/gone", 66, "E0130"), ("cases", 66, "E0131")] {
        let output = run(dir.path(), ["replay", case]);
        assert_eq!(output.status.code(), Some(exit), "{case}");
        assert!(err(&output).contains(code), "{}", err(&output));
    }
    fs::write(dir.path().join("cases/one/request.yml"), "kind: speak\nnot_before: 2999-01-01T00:00:00Z\n").unwrap();
    let output = run(dir.path(), ["replay", "cases/one"]);
    assert_eq!(output.status.code(), Some(65));
    assert!(out(&output).contains("FAIL  one ") && out(&output).contains("E0134"), "{}", out(&output));
}

#[test]
fn a_replay_leaves_the_repository_as_it_is() {
    let dir = repo_with_case("x");
    let tip = |dir: &Path| fs::read_to_string(dir.join(".git/refs/heads/main")).unwrap();
    let before = tip(dir.path());
    run(dir.path(), ["replay", "cases/one"]);
    assert_eq!(tip(dir.path()), before);
    assert_eq!(fs::read_dir(dir.path().join("processed")).unwrap().count(), 1, "only .gitkeep");
}

#[test]
fn the_demo_ends_as_it_should() {
    let temp = tempfile::tempdir().unwrap();
    fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let output = dispatcher(temp.path()).env("TMPDIR", temp.path()).arg("demo").output().unwrap();
    let text = out(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", err(&output));
    for words in [
        "✓ succeeded  ",
        "✗ failed  ",
        "✗ timed_out  ",
        "✗ out_of_memory  ",
        "⊘ rejected  ",
        "⊘ expired  ",
        "= duplicate  ",
        "held by",
        "retrying",
        "All 13 ended as they should",
        "error[E0302]: missing field `month` in `params`",
        "demo --keep",
    ] {
        assert!(text.contains(words), "`{words}` is missing:\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "no terminal, no colours");
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0, "all of it is removed");
}

#[test]
fn a_kept_demo_can_be_gone_on_with() {
    let temp = tempfile::tempdir().unwrap();
    let home = temp.path().join("home");
    fs::create_dir(&home).unwrap();
    let demo = dispatcher(temp.path()).args(["demo", "--json", "--keep", "kept here"]).output().unwrap();
    let document: Value = serde_json::from_slice(&demo.stdout).unwrap_or_else(|_| panic!("{}", err(&demo)));
    let wrong: Vec<&Value> =
        document["runs"].as_array().unwrap().iter().filter(|run| run["as_expected"] != true).collect();
    assert!(wrong.is_empty() && document["ok"] == true && demo.status.code() == Some(0), "{wrong:?}");
    let clone = PathBuf::from(document["clone"].as_str().unwrap());
    let list = run(&clone, ["--json", "list", "-n", "0"]);
    let listed: Value = serde_json::from_slice(&list.stdout).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 13);
    let show = run(&clone, ["show", "06-fetch-feed"]);
    assert!(out(&show).contains(r#"{"items":42}"#), "{}{}", out(&show), err(&show));

    let again = run(temp.path(), ["demo", "--keep", "kept here"]);
    assert_eq!(again.status.code(), Some(73));
    assert!(err(&again).contains("error[E0129]: `"), "{}", err(&again));
}

#[test]
fn the_demo_says_that_it_needs_git() {
    let temp = tempfile::tempdir().unwrap();
    let output = dispatcher(temp.path()).env("PATH", temp.path()).arg("demo").output().unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert!(err(&output).contains("error[E0518]: there is no program `git` in `PATH`"), "{}", err(&output));
    assert!(out(&output).is_empty());
}
