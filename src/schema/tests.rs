//! What people see of a request or a schema that does not fit, and what the closing of schemas lets through.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::diagnostic::Diagnostic;
use crate::request::{Kind, Request};
use crate::text;

/// Knows `deploy` (resource from the router), `open` (all allowed), and some without a schema.
struct Handlers;

impl Catalog for Handlers {
    fn kinds(&self) -> Vec<String> {
        ["backup", "deploy", "open", "no-schema"].map(str::to_owned).to_vec()
    }

    fn facts(&self, kind: &Kind) -> Option<KindFacts> {
        let free = kind.as_str() != "deploy";
        self.kinds().contains(&kind.to_string()).then_some(KindFacts { takes_resource: free, dry_run: free })
    }
}

/// A file of cases: `=== what`, the input, `--- ` and the outcome, what is shown.
fn cases(all: &'static str) -> impl Iterator<Item = (&'static str, &'static str, &'static str, &'static str)> {
    all.split("=== ").skip(1).map(|case| {
        let (what, rest) = case.split_once('\n').unwrap();
        let (input, rest) = rest.split_once("--- ").unwrap();
        let (outcome, shown) = rest.split_once('\n').unwrap();
        (what, input, outcome, shown)
    })
}

fn render(problems: &[Diagnostic]) -> String {
    problems.iter().map(Diagnostic::render).collect()
}

const BESIDE: &str = r##"$defs:
  base: {type: object, properties: {x: {type: integer}}}
  name: {type: string}
$ref: "#/$defs/base"
properties: {z: {type: boolean}}
"##;

fn files(table: &str) -> BTreeMap<String, Vec<u8>> {
    BTreeMap::from([
        ("requests.yml".to_owned(), table.into()),
        ("common.yml".to_owned(), BESIDE.into()),
        ("README.md".to_owned(), "not: [yaml".into()),
    ])
}

fn schemas(table: &str) -> Schemas {
    Schemas::load(&files(table)).unwrap_or_else(|problems| panic!("{}", render(&problems)))
}

fn request(text: &str) -> Result<Request, (i32, String)> {
    let schemas = schemas(include_str!("cases/requests.yml"));
    parse(text.as_bytes(), "requests/r.yml", &schemas, &Handlers).map_err(|no| (no.rc, render(&no.problems)))
}

#[test]
fn every_problem_of_a_request_says_what_and_where() {
    for (what, input, rc, shown) in cases(include_str!("cases/rejected.txt")) {
        let (found, problems) = request(input).expect_err(what);
        assert_eq!((found.to_string().as_str(), problems.as_str()), (rc, shown), "{what}");
    }
}

#[test]
fn every_problem_of_a_schema_says_what_and_where() {
    for (what, input, count, shown) in cases(include_str!("cases/schemas.txt")) {
        let problems = Schemas::load(&files(input)).expect_err(what);
        assert_eq!((problems.len().to_string().as_str(), render(&problems).as_str()), (count, shown), "{what}");
    }
}

#[test]
fn every_code_has_a_case() {
    let shown = [include_str!("cases/rejected.txt"), include_str!("cases/schemas.txt")].concat();
    let table = include_str!("mod.rs").lines().filter_map(|line| line.strip_prefix("//! | ")?.get(..5));
    let codes: BTreeSet<_> = table.filter(|code| code.starts_with('E')).collect();
    assert!(codes.len() > 10);
    for code in codes {
        assert!(shown.contains(&format!("error[{code}]")), "no case for {code}");
    }
}

#[test]
fn object_schemas_that_say_nothing_are_closed_at_every_level() {
    for (schema, params, fits) in [
        ("{type: object}", "{}", true),
        ("{type: object}", "{a: 1}", false),
        ("{properties: {a: {}}}", "{a: {b: 1}}", true),
        ("{properties: {a: {type: [object, string]}}}", "{a: {b: 1}}", false),
        ("{properties: {a: {type: object, additionalProperties: true}}}", "{a: {b: 1}}", true),
        ("{properties: {a: {type: object}}, additionalProperties: {type: integer}}", "{a: {}, b: 1}", true),
        ("{properties: {a: {items: {properties: {b: {}}}}}}", "{a: [{b: 1}, {c: 1}]}", false),
        ("{properties: {a: {prefixItems: [{properties: {b: {}}}]}}}", "{a: [{c: 1}]}", false),
        ("{patternProperties: {\"^x\": {properties: {b: {}}}}}", "{x1: {b: 1}}", true),
        ("{patternProperties: {\"^x\": {properties: {b: {}}}}}", "{x1: {c: 1}}", false),
        ("{properties: {a: {type: object, enum: [{b: 1}]}}}", "{a: {b: 1}}", true),
        ("{properties: {a: {const: {b: 1}, type: object}}}", "{a: {b: 1}}", true),
        // Branches see each other's fields, and only theirs.
        ("{allOf: [{properties: {a: {}}}, {properties: {b: {}}}]}", "{a: 1, b: 1}", true),
        ("{allOf: [{properties: {a: {}}}, {properties: {b: {}}}]}", "{a: 1, c: 1}", false),
        ("{properties: {a: {}}, anyOf: [{properties: {b: {}}, required: [b]}, {required: [a]}]}", "{a: 1}", true),
        ("{properties: {a: {}}, anyOf: [{properties: {b: {}}, required: [b]}, {required: [a]}]}", "{a: 1, b: 1}", true),
        (
            "{properties: {a: {}}, anyOf: [{properties: {b: {}}, required: [b]}, {required: [a]}]}",
            "{a: 1, c: 1}",
            false,
        ),
        ("{allOf: [{properties: {a: {properties: {b: {}}}}}]}", "{a: {c: 1}}", false),
        ("{properties: {a: {}}, dependentSchemas: {a: {properties: {b: {}}}}}", "{a: 1, b: 1}", true),
        ("{properties: {a: {}}, dependentSchemas: {a: {properties: {b: {}}}}}", "{b: 1}", false),
        // What only asks is not closed, at no level.
        (
            "{properties: {a: {type: object, properties: {k: {}, z: {}}}, b: {}}, \
             if: {properties: {a: {properties: {k: {const: 1}}}}}, then: {required: [b]}}",
            "{a: {k: 1, z: 2}}",
            false,
        ),
        ("{properties: {a: {contains: {properties: {k: {const: 1}}, required: [k]}}}}", "{a: [{k: 1, z: 2}]}", true),
        (
            "{type: object, additionalProperties: true, not: {properties: {a: {const: 1}}, required: [a]}}",
            "{a: 2, b: 3}",
            true,
        ),
        // A definition is closed where it stands alone and open where it is a branch.
        ("{$ref: common.yml}", "{x: 1, z: true}", true),
        ("{$ref: common.yml}", "{x: 1, y: 1}", false),
        ("{$ref: \"common.yml#/$defs/base\", properties: {y: {}}}", "{x: 1, y: 1}", true),
        ("{$ref: \"./common.yml#/$defs/base\"}", "{x: 1, y: 1}", false),
        ("{properties: {p: {$ref: \"common.yml#/$defs/base\"}}}", "{p: {x: 1, y: 1}}", false),
        (
            "{properties: {p: {allOf: [{$ref: \"common.yml#/$defs/base\"}, {properties: {y: {}}}]}}}",
            "{p: {x: 1, y: 1}}",
            true,
        ),
        // Recursion goes as deep as the value.
        (TREE, "{name: a, children: [{name: b, children: [{name: c}]}]}", true),
        (TREE, "{name: a, children: [{name: b, children: [{nam: c}]}]}", false),
        // `default` is not applied, and a format is checked.
        ("{properties: {a: {default: 1}}, required: [a]}", "{}", false),
        ("{properties: {a: {format: date}}}", "{a: 2026-13-01}", false),
        ("{properties: {a: {format: ipv4}}}", "{a: 10.0.0.1}", true),
    ] {
        let schemas = schemas(&format!("open: {schema}\n"));
        let read = parse(format!("kind: open\nparams: {params}\n").as_bytes(), "r.yml", &schemas, &Handlers);
        let shown = read.as_ref().map_or_else(|no| render(&no.problems), |_| String::new());
        assert_eq!(read.is_ok(), fits, "{schema} {params}\n{shown}");
    }
}

const TREE: &str = "{properties: {name: {$ref: \"common.yml#/$defs/name\"}, children: {items: {$ref: \"#\"}}}}";

#[test]
fn names_are_suggested_through_references() {
    let schemas = schemas(&format!("open: {TREE}\n"));
    let no = parse(b"kind: open\nparams: {children: [{nmae: b}]}", "r.yml", &schemas, &Handlers).unwrap_err();
    assert_eq!(no.problems[0].help, ["did you mean `name`?  `dispatcher schema open`"]);
    assert_eq!(no.problems[0].pointer.as_deref(), Some("/params/children/0/nmae"));
}

#[test]
fn what_the_user_wrote_is_what_is_shown() {
    let schemas = schemas("b: {$ref: \"requests.yml#/a\"}\na: {$ref: \"common.yml#/$defs/name\"}\nc: {title: x}\n");
    let kind = |name: &str| name.parse::<Kind>().unwrap();
    assert_eq!(schemas.kinds().map(Kind::as_str).collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(schemas.source(&kind("b")), Some(&json!({"type": "string"})));
    assert_eq!(schemas.source(&kind("c")), Some(&json!({"title": "x"})));
    assert!(schemas.has(&kind("a")) && !schemas.has(&kind("d")));
    for nothing in [BTreeMap::new(), files("# no kinds yet\n"), files("{}\n")] {
        assert_eq!(Schemas::load(&nothing).unwrap().kinds().count(), 0);
    }
    fn shared<T: Send + Sync + Clone>(_: &T) {}
    shared(&schemas);
}

#[test]
fn a_whole_request_is_read() {
    let read = request(
        "kind: open\nparams: {x: 1}\nresource: web-prod\nid: 0197E0C2-8F7A-7B3C-9D1E-5A6B7C8D9E0F\npriority: -100\n\
         timeout: 5m\nnot_before: 2026-11-23T22:00:00Z\nexpires_at: 2026-11-24T00:00:00+01:00\nreason: \"010\"\ndry_run: true\n",
    )
    .unwrap();
    assert_eq!(Value::Object(read.params), json!({"x": 1}));
    assert_eq!(read.id.unwrap().to_string(), "0197e0c2-8f7a-7b3c-9d1e-5a6b7c8d9e0f");
    assert_eq!((read.priority, read.timeout), (-100, Some(std::time::Duration::from_secs(300))));
    assert_eq!(read.expires_at.unwrap().to_string(), "2026-11-23T23:00:00.000Z");
    assert_eq!((read.reason.as_deref(), read.dry_run), (Some("010"), true));
    assert_eq!(request("kind: open\n").unwrap().params.len(), 0);
}

#[test]
fn the_printed_envelope_and_the_checked_one_are_the_same() {
    let validator = lint::options().build(&envelope()).unwrap();
    for line in [
        "",
        "kindd: x",
        "params: {}",
        "params: []",
        "params:",
        "resource: web",
        "resource: \"\"",
        "resource: \"a\\nb\"",
        "resource: 1",
        "id: 0197e0c2-8f7a-7b3c-9d1e-5a6b7c8d9e0f",
        "id: 0197e0c28f7a7b3c9d1e5a6b7c8d9e0f",
        "id: x",
        "priority: 100",
        "priority: 101",
        "priority: -100",
        "priority: -101",
        "priority: 1.0",
        "priority: 1.5",
        "priority: x",
        "timeout: 5m",
        "timeout: 0s",
        "timeout: 000s",
        "timeout: 5",
        "timeout: 1.5s",
        "timeout: \" 5m\"",
        "not_before: 2026-11-23T22:00:00Z",
        "not_before: 2026-11-23",
        "expires_at: 2026-11-23T22:00:00+02:00",
        "expires_at: 2026-11-23T22:00:00",
        "reason: text",
        "reason: 1",
        "reason: ~",
        "dry_run: false",
        "dry_run: no",
    ] {
        let text = format!("kind: open\n{line}\n");
        let value = crate::yaml::read(text.as_bytes(), "r.yml", crate::yaml::Limits::REQUEST).unwrap().value;
        assert_eq!(validator.is_valid(&value), request(&text).is_ok(), "{line}");
    }
    assert!(!validator.is_valid(&json!({"params": {}})), "without a kind");
}

#[test]
fn the_line_that_is_proposed_lets_the_request_through() {
    let text =
        "kind: no-schema\nparams: {a: 1, \"on\": [x], \"a: }b\": {c: d}, \"null\": 1.5, \"e\\nf\": ~, \"1\": yes}\n";
    let no = parse(text.as_bytes(), "r.yml", &Schemas::default(), &Handlers).unwrap_err();
    let line = no.problems[0].help[0].strip_prefix("add this line to schema/requests.yml: ").unwrap();
    assert!(parse(text.as_bytes(), "r.yml", &schemas(line), &Handlers).is_ok(), "{line}");
}

#[test]
fn of_very_many_problems_the_rest_is_counted() {
    for (text, last) in [
        (
            format!("kind: deploy\nparams: {{service: web, env: dev, hosts: [{}]}}\n", "1, ".repeat(20_000)),
            "and 19952 more problems",
        ),
        (
            format!("kind: open\nparams: {{{}}}\n", (0..20_000).map(|i| format!("k{i}: 1, ")).collect::<String>()),
            "and 19950 more problems",
        ),
        (format!("kind: open\n{}", (0..51).map(|i| format!("k{i}: 1\n")).collect::<String>()), "and 1 more problem"),
    ] {
        let schemas = schemas(include_str!("cases/requests.yml"));
        let no = parse(text.as_bytes(), "r.yml", &schemas, &Handlers).unwrap_err();
        assert_eq!(no.problems.len(), 51);
        assert_eq!(no.problems[50].message, format!("{last} in `r.yml`"));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_request_or_a_rejection(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = parse(&bytes, "r.yml", &Schemas::default(), &Handlers).map_err(|no| render(&no.problems));
    }

    #[test]
    fn params_come_out_as_they_were_written(params in prop::collection::btree_map("[a-zA-Z ~/_-]{1,8}", any_value(), 0..6)) {
        let params = Value::Object(params.into_iter().collect());
        let schemas = schemas("open: {type: object, additionalProperties: true}\n");
        let text = format!("kind: open\nparams: {params}\n");
        let read = parse(text.as_bytes(), "r.yml", &schemas, &Handlers);
        let read = read.map_err(|no| TestCaseError::fail(render(&no.problems)))?;
        prop_assert_eq!(Value::Object(read.params).to_string(), params.to_string());
    }

    #[test]
    fn any_envelope_is_read_or_refused_in_single_lines(name in "[a-z_]{1,10}", value in any_value()) {
        let text = format!("kind: deploy\n{name}: {value}\nparams: {value}\n");
        if let Err(no) = parse(text.as_bytes(), "r.yml", &schemas(include_str!("cases/requests.yml")), &Handlers) {
            prop_assert!(!no.problems.is_empty());
            for problem in no.problems {
                prop_assert_eq!(&text::line(&problem.message), &problem.message);
            }
        }
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~\\n\\x1bé]{0,90}".prop_map(Value::from),
        prop::collection::vec("[a-z]{0,3}", 0..4).prop_map(Value::from),
        prop::collection::btree_map("[a-z]{1,3}", any::<u8>(), 0..3)
            .prop_map(|map| Value::Object(map.into_iter().map(|(key, value)| (key, value.into())).collect())),
    ]
}
