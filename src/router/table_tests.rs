//! Which file a kind gets, what a request is routed to, and which table is in force.

use std::path::PathBuf;

use super::*;
use crate::router::Folder;

/// A listing out of names; `!` marks what is not executable.
fn files(names: &str) -> Vec<HandlerFile> {
    let file =
        |name: &str| HandlerFile { path: name.trim_start_matches('!').to_owned(), executable: !name.starts_with('!') };
    names.split_whitespace().map(file).collect()
}

fn schemas(kinds: &str) -> Schemas {
    let lines: String = kinds.split_whitespace().map(|kind| format!("{kind}: {{type: object}}\n")).collect();
    Schemas::load(&BTreeMap::from([("requests.yml".to_owned(), lines.into_bytes())])).unwrap()
}

fn load(index: &str, listing: &str, extra: &[(&str, &str)]) -> Result<Table, Vec<Diagnostic>> {
    let folder = |(folder, names): &(&str, &str)| ExtraFolder { folder: PathBuf::from(folder), files: files(names) };
    let extra: Vec<ExtraFolder> = extra.iter().map(folder).collect();
    let index = (!index.is_empty()).then(|| format!("version: 1\nhandlers: {{{index}}}\n"));
    Table::load(index.as_ref().map(String::as_bytes), &files(listing), &extra, schemas("deploy backup"))
}

fn request(yaml: &str) -> Request {
    let value = crate::yaml::read(yaml.as_bytes(), "r.yml", crate::yaml::Limits::REQUEST).unwrap().value;
    Request {
        kind: value["kind"].as_str().unwrap().parse().unwrap(),
        params: value.get("params").and_then(|params| params.as_object()).cloned().unwrap_or_default(),
        resource: value.get("resource").map(|resource| resource.as_str().unwrap().parse().unwrap()),
        id: None,
        priority: 0,
        timeout: value.get("timeout").map(|span| crate::quantity::parse_duration(span.as_str().unwrap()).unwrap()),
        not_before: None,
        expires_at: None,
        reason: None,
        dry_run: false,
    }
}

/// `kind file`, or `kind code message | help`, of every kind.
fn shown(table: &Table) -> Vec<String> {
    let show = |(route, problem): (&Arc<Route>, Option<&Diagnostic>)| match problem {
        None => format!("{} {}", route.kind, route.file.shown()),
        Some(problem) => {
            let help: String = problem.help.iter().map(|line| format!(" | {line}")).collect();
            format!("{} {} {}{help}", route.kind, problem.code, problem.message)
        }
    };
    table.entries().map(show).collect()
}

#[test]
fn kinds_get_their_files() {
    let check = |index, listing, extra: &[(&str, &str)], expect: &[&str]| {
        assert_eq!(shown(&load(index, listing, extra).unwrap()), expect, "{index} {listing} {extra:?}");
    };
    check("", "", &[], &[]);
    check("", "deploy.sh", &[], &["deploy handlers/deploy.sh"]);
    check("", "deploy", &[], &["deploy handlers/deploy"]);
    check("", "deploy.v2.sh", &[], &["deploy.v2 handlers/deploy.v2.sh"]);
    check("", "index.yml !README.md .hidden lib/deploy.sh deploy.sh~ deploy.sh.orig", &[], &[]);
    check("", "deploy.sh !deploy.md", &[], &["deploy handlers/deploy.sh"]);
    check("deploy: bin/x.sh", "bin/x.sh deploy.sh deploy.py", &[], &["deploy handlers/bin/x.sh"]);
    check("deploy: roll-out.sh", "roll-out.sh", &[], &["deploy handlers/roll-out.sh"]);
    check("deploy: x.sh", "x.sh", &[("/etc/h", "x.sh")], &["deploy /etc/h/x.sh"]);
    check("deploy: x.sh", "x.sh", &[("/etc/h", "!x.sh")], &["deploy handlers/x.sh"]);
    check(
        "",
        "deploy.sh",
        &[("/a", "other"), ("/b", "deploy"), ("/c", "deploy")],
        &["deploy /b/deploy", "other /a/other"],
    );
    check("deploy: x.sh", "x.sh", &[("/a", "deploy")], &["deploy handlers/x.sh"]);
}

#[test]
fn a_handler_that_cannot_run_does_not_break_the_table() {
    let check = |index, listing, extra: &[(&str, &str)], expect: &[&str]| {
        assert_eq!(shown(&load(index, listing, extra).unwrap()), expect, "{index} {listing} {extra:?}");
    };
    check(
        "deploy: x.sh, backup: b",
        "b",
        &[],
        &[
            "backup handlers/b",
            "deploy E0203 the handler of `deploy` is missing: there is no `handlers/x.sh` | add the file, or name another one in `run`",
        ],
    );
    let bit = "deploy E0203 the handler of `deploy` is not executable: `handlers/x.sh` | chmod +x handlers/x.sh   or   git update-index --chmod=+x handlers/x.sh";
    check("deploy: x.sh", "!x.sh", &[], &[bit]);
    check("", "!deploy.sh", &[], &[&bit.replace("x.sh", "deploy.sh")]);
    check(
        "deploy: x.sh",
        "",
        &[("/a", "!x.sh")],
        &["deploy E0203 the handler of `deploy` is not executable: `/a/x.sh` | chmod +x /a/x.sh"],
    );
    check(
        "",
        "lib.sh lib.py",
        &[],
        &[
            "lib E0204 the kind `lib` has 2 handlers: `handlers/lib.sh`, `handlers/lib.py` | say which in handlers/index.yml: `lib: lib.sh`, or take the executable bit from the others",
        ],
    );
    let table = load("deploy: x.sh", "", &[]).unwrap();
    let rejection = table.route(&request("kind: deploy")).unwrap_err();
    assert_eq!(rejection.rc, 78);
    let place = rejection.problems[0].place.as_ref().unwrap();
    assert_eq!((place.file.as_str(), place.line, place.col), ("handlers/index.yml", 2, 20));
}

#[test]
fn two_executables_for_a_kind_with_a_schema_break_the_table() {
    let found = load("", "deploy.sh deploy backup", &[]).unwrap_err();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].code, found[0].message.as_str()),
        ("E0204", "the kind `deploy` has 2 handlers: `handlers/deploy.sh`, `handlers/deploy`")
    );
    assert_eq!(
        found[0].help,
        ["say which in handlers/index.yml: `deploy: deploy.sh`, or take the executable bit from the others"]
    );
}

#[test]
fn requests_are_routed() {
    let table =
        load("deploy: {run: d.sh, resource: \"{params.service}-{params.env}\", timeout: 5m}", "d.sh backup", &[])
            .unwrap();
    let check = |yaml: &str, expect: Result<(&str, u64), (i32, &str)>| {
        let found = table.route(&request(yaml));
        let found = found.map(|routed| (routed.resource.to_string(), routed.timeout.as_secs())).map_err(|rejection| {
            (rejection.rc, format!("{} {}", rejection.problems[0].code, rejection.problems[0].message))
        });
        let expect = expect.map(|(name, secs)| (name.to_owned(), secs)).map_err(|(rc, text)| (rc, text.to_owned()));
        assert_eq!(found, expect, "{yaml}");
    };
    check("{kind: deploy, params: {service: web, env: prod}}", Ok(("web-prod", 300)));
    check("{kind: deploy, params: {service: web, env: prod}, timeout: 1m}", Ok(("web-prod", 60)));
    check("{kind: deploy, params: {service: web, env: prod}, timeout: 1h}", Ok(("web-prod", 300)));
    check("{kind: backup}", Ok(("backup", 900)));
    check("{kind: backup, resource: disk/1}", Ok(("disk/1", 900)));
    check(
        "{kind: deploy, params: {service: web}}",
        Err((65, "E0205 the resource `{params.service}-{params.env}` needs `params.env`, which is missing")),
    );
    check("{kind: other}", Err((64, "E0201 unknown kind `other`")));
}

#[test]
fn the_schema_is_told_what_a_kind_allows() {
    let table = load("deploy: {run: d.sh, resource: x, dry_run: true}, gone: x", "d.sh backup", &[]).unwrap();
    let facts = |kind: &str| Catalog::facts(&table, &kind.parse().unwrap());
    assert_eq!(Catalog::kinds(&table), ["backup", "deploy", "gone"]);
    assert_eq!(facts("deploy"), Some(KindFacts { takes_resource: false, dry_run: true }));
    assert_eq!(facts("backup"), Some(KindFacts { takes_resource: true, dry_run: false }));
    assert_eq!(facts("gone"), Some(KindFacts { takes_resource: true, dry_run: false }));
    assert_eq!(facts("other"), None);
    assert!(table.schemas().has(&"deploy".parse().unwrap()));
    assert_eq!(table.get(&"backup".parse().unwrap()).unwrap().file.folder, Folder::Builtin);
}
