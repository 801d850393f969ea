//! What is read, what is refused and in which words, and that neither time nor memory follows the input.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn refused(bytes: &[u8]) -> crate::diagnostic::Diagnostic {
    read(bytes, "r.yml", Limits::REQUEST).unwrap_err()
}

fn value(text: &str) -> Value {
    match read(text.as_bytes(), "r.yml", Limits::REQUEST) {
        Ok(document) => document.value,
        Err(problem) => panic!("{text:?}: {}", problem.render()),
    }
}

/// `refused.txt`: a line `=== ` with the input as a JSON string, then what is shown.
#[test]
fn every_refusal_says_what_and_where() {
    let mut codes = std::collections::BTreeSet::new();
    for case in include_str!("refused.txt").split("=== ").skip(1) {
        let (input, expect) = case.split_once('\n').unwrap();
        let input: String = serde_json::from_str(input).unwrap();
        let problem = refused(input.as_bytes());
        assert_eq!(problem.render(), expect, "{input:?}");
        codes.insert(problem.code);
    }
    for code in [101].into_iter().chain(112..=120).chain(123..=128) {
        assert!(codes.contains(format!("E0{code}").as_str()), "no case for E0{code}");
    }
}

#[test]
fn bytes_that_are_no_text_have_a_place_too() {
    assert_eq!(
        refused(b"a: 1\nb: caf\xe9\n").render(),
        "error[E0111]: this file is not UTF-8: byte 12 of it is `0xE9`\n  --> r.yml:2:7\n   |\n 2 | b: caf\u{fffd}\n   |       ^\n   = help: save it as UTF-8, or: iconv -f latin1 -t utf-8 r.yml\n"
    );
    assert_eq!(refused(b"a: ! 1").code, "E0117");
    assert_eq!(refused(b"a: \0").code, "E0113");
    assert_eq!(refused(&"a: 1".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()).code, "E0113");
    assert_eq!(
        refused(&[b' '; (1 << 20) + 1]).render(),
        "error[E0110]: this file is too large: 1048577 bytes, and 1M are allowed\n  --> r.yml\n"
    );
    assert_eq!(refused(&[b' '; 1 << 20]).code, "E0124");
}

#[test]
fn scalars_mean_what_yaml_1_2_says() {
    for (text, expect) in [
        ("no", json!("no")),
        ("yes", json!("yes")),
        ("on", json!("on")),
        ("Off", json!("Off")),
        ("y", json!("y")),
        ("010", json!("010")),
        ("-010", json!("-010")),
        ("1_000", json!("1_000")),
        ("0o10", json!(8)),
        ("0x1F", json!(31)),
        ("0b101", json!(5)),
        ("-0x1f", json!(-31)),
        ("+12", json!(12)),
        ("0", json!(0)),
        ("-0", json!(0)),
        ("1.10", json!(1.1)),
        ("1e3", json!(1000.0)),
        (".5", json!(0.5)),
        ("1.", json!(1.0)),
        ("12:30:45", json!("12:30:45")),
        ("2026-01-01", json!("2026-01-01")),
        ("1.2.3", json!("1.2.3")),
        ("0x", json!("0x")),
        ("inf", json!("inf")),
        ("+inf", json!("+inf")),
        ("nan", json!("nan")),
        ("=", json!("=")),
        ("18446744073709551615", json!(u64::MAX)),
        ("-9223372036854775808", json!(i64::MIN)),
        ("~", json!(null)),
        ("Null", json!(null)),
        ("", json!(null)),
        ("TRUE", json!(true)),
        ("'1'", json!("1")),
        ("\"<<\"", json!("<<")),
        ("\"\\u001b\\0\"", json!("\u{1b}\0")),
    ] {
        assert_eq!(value(&format!("a: {text}\n"))["a"], expect, "{text}");
    }
}

#[test]
fn text_blocks_and_folds_come_out_the_same_in_both_readers() {
    for text in [
        "a: |\n  x\n\n   y\nb: >-\n  x\n  y\n\n  z\n",
        "a: x\n  y\n\n  z # c\nb: 'it''s\n  here'\n",
        "a: \"x \\\n  y\\t\\u00e9\"\n",
        "a: |+\n  x\n\n\nb: |2-\n    y\n",
        "{a: [1, {b: c}, [], {}], \"d\": e}\n",
        "a:\n- b\n- - c\n  - d\n-\n  e: f\r\ng: h\r\n",
        "--- # start\na: 1\n...\n",
    ] {
        assert!(value(text).is_object(), "{text}");
    }
    assert_eq!(value("b: 1\na: 2\n").to_string(), r#"{"b":1,"a":2}"#, "in the order of the file");
}

#[test]
fn every_part_has_a_place() {
    let text = "kind: x\nparams:\n  ü: [1, {c~/d: \"e\"}]\n  empty:\n  text: |\n    hi\n  map:\n    k: v # c\n";
    let document = read(text.as_bytes(), "r.yml", Limits::REQUEST).unwrap();
    for (pointer, part, expect) in [
        ("/kind", Part::Key, (1, 1, 4)),
        ("/kind", Part::Value, (1, 7, 1)),
        ("/params", Part::Key, (2, 1, 6)),
        ("/params/ü", Part::Key, (3, 3, 1)),
        ("/params/ü", Part::Value, (3, 6, 16)),
        ("/params/ü/0", Part::Key, (3, 7, 1)),
        ("/params/ü/1/c~0~1d", Part::Key, (3, 11, 4)),
        ("/params/ü/1/c~0~1d", Part::Value, (3, 17, 3)),
        ("/params/ü/7", Part::Value, (3, 6, 16)),
        ("/params/empty", Part::Value, (4, 3, 5)),
        ("/params/text", Part::Value, (6, 5, 2)),
        ("/params/map", Part::Value, (8, 5, 8)),
        ("/params/map/k/deep/er", Part::Value, (8, 8, 1)),
        ("/nothing", Part::Key, (1, 1, 7)),
        ("", Part::Value, (1, 1, 7)),
    ] {
        let place = document.place(pointer, part);
        assert_eq!((place.line, place.col, place.len), expect, "{pointer} {part:?}");
        assert_eq!(place.snippet.as_deref(), text.lines().nth(place.line - 1), "{pointer}");
    }
}

#[test]
fn depth_and_number_are_bounded_before_anything_is_built() {
    let limits = Limits { bytes: 1 << 20, nodes: 10, depth: 3 };
    let code = |text: &str| read(text.as_bytes(), "r.yml", limits).map(|_| "").unwrap_or_else(|problem| problem.code);
    assert_eq!(code("a: [[1]]"), "");
    assert_eq!(code("a: [[[1]]]"), "E0121");
    assert_eq!(code("a:\n  b:\n    c:\n      d: 1\n"), "E0121");
    assert_eq!(code("a: [1, 2, 3, 4, 5, 6, 7]"), "");
    assert_eq!(code("a: [1, 2, 3, 4, 5, 6, 7, 8]"), "E0122");
    let said = |text: &str| read(text.as_bytes(), "r.yml", limits).unwrap_err().render();
    assert_eq!(
        said("a: [[[1]]]"),
        "error[E0121]: this is nested too deeply: more than 3 lists and mappings inside one another\n  --> r.yml:1:6\n   |\n 1 | a: [[[1]]]\n   |      ^\n"
    );
    assert_eq!(
        said("a: [1, 2, 3, 4, 5, 6, 7, 8]"),
        "error[E0122]: this file holds too many values: more than 10\n  --> r.yml:1:26\n   |\n 1 | a: [1, 2, 3, 4, 5, 6, 7, 8]\n   |                          ^\n"
    );
    let mega = 1 << 20;
    for (text, expect) in [
        ("[".repeat(mega), "E0121"),
        ("{a: ".repeat(mega / 4), "E0121"),
        ("- ".repeat(mega / 2), "E0121"),
        ("? ".repeat(mega / 2), "E0123"),
        ("a: ".repeat(mega / 3), "E0101"),
        (format!("a: [{}", "1,".repeat(mega / 2 - 2)), "E0122"),
        (format!("a: [{}", "[],".repeat(mega / 3 - 2)), "E0122"),
        ((0..90_000).map(|i| format!("k{i}: 1\n")).collect(), "E0122"),
        (format!("a: {}", "x".repeat(mega - 3)), ""),
        (format!("a: \"{}\"", "\\n".repeat(mega / 2 - 3)), ""),
        (format!("a: |\n{}", "  x\n".repeat(mega / 4 - 2)), ""),
    ] {
        let code = read(text.as_bytes(), "r.yml", Limits::REQUEST).map(|_| "").unwrap_or_else(|problem| problem.code);
        assert_eq!(code, expect, "{:.20}", text);
    }
}

#[test]
fn very_long_lines_are_not_copied_into_every_problem() {
    let text = format!("{{{}a: 1, a: 2}}", " ".repeat(900_000));
    let place = refused(text.as_bytes()).place.unwrap();
    assert_eq!((place.col, place.snippet), (900_008, None));
    let text = format!("a: &x{}", "y".repeat(900_000));
    assert!(refused(text.as_bytes()).render().len() < 1_000);
}

/// Text that is likely to be YAML, and to be wrong.
fn yamlish() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "a", "b", ": ", ":", "- ", "-", "\n", "\n  ", "\n    ", "[", "]", "{", "}", ", ", "'", "\"", "#", " #c", "|",
        ">", "|-\n", "&x ", "*x", "!t ", "<<: ", "? ", "---\n", "...\n", "~", "1", "-", ".", "e", "0x", "_", "\t",
        "\\", "\r", "é", "%", "@", "null", "true", " ", "0", "+", "inf", "\u{85}", "\u{a0}",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

/// JSON is YAML: any value that JSON can write is read as itself.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        "[ -~é\n]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[a-z ~/.<-]{1,6}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes, "r.yml", Limits::REQUEST).map_err(|problem| problem.render());
    }

    #[test]
    fn any_yaml_is_read_or_refused_with_a_place(text in yamlish()) {
        match read(text.as_bytes(), "r.yml", Limits::REQUEST) {
            Ok(document) => prop_assert!(document.value.is_object()),
            Err(problem) => {
                prop_assert!(problem.place.as_ref().is_some_and(|place| place.line > 0 && place.col > 0));
                let _ = problem.render();
            }
        }
    }

    #[test]
    fn a_scalar_means_the_same_in_both_readers(text in "[-+.0-9a-fox_eEinf]{1,8}") {
        if let Err(problem) = read(format!("a: {text}").as_bytes(), "r.yml", Limits::REQUEST) {
            prop_assert!(problem.code != "E0127", "{}", problem.render());
        }
    }

    #[test]
    fn json_is_read_as_itself(value in json_value()) {
        let text = serde_json::to_string(&Value::from_iter([("a", value)])).unwrap();
        let read = read(text.as_bytes(), "r.yml", Limits::REQUEST);
        let read = read.map_err(|problem| TestCaseError::fail(problem.render()))?;
        prop_assert_eq!(read.value.to_string(), text);
    }
}
