use proptest::prelude::*;
use serde_json::json;

use super::*;

fn mask(values: &[&[u8]]) -> Arc<Mask> {
    Arc::new(Mask::new(values.iter().copied()).unwrap())
}

fn pieces<'b>(mask: &Arc<Mask>, pieces: impl IntoIterator<Item = &'b [u8]>) -> Vec<u8> {
    let (mut masker, mut out) = (Masker::new(Arc::clone(mask)), Vec::new());
    pieces.into_iter().for_each(|piece| masker.push(piece, &mut out));
    masker.finish(&mut out);
    out
}

/// The same in one piece, in two at every border, and byte by byte.
#[track_caller]
fn check(values: &[&[u8]], input: &[u8], expect: &[u8]) {
    let mask = mask(values);
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for at in 0..=input.len() {
        let (a, b) = input.split_at(at);
        assert_eq!(shown(&pieces(&mask, [a, b])), shown(expect), "{} cut at {at}", shown(input));
    }
    assert_eq!(shown(&pieces(&mask, input.chunks(1))), shown(expect), "{} byte by byte", shown(input));
    assert_eq!(mask.finds(input), input != expect, "{}", shown(input));
}

#[test]
fn what_occurs_is_covered() {
    check(&[b"hunter2-hunter"], b"pw=hunter2-hunter!", b"pw=[masked]!");
    check(&[b"hunter2-hunter"], b"hunter2-hunte", b"hunter2-hunte");
    check(&[b"hunter2-hunter"], b"hunter2-hunter2-hunterhunter2-hunter", b"[masked]");
    // Written in two pieces, where the second one begins inside of what looked like the first.
    check(&[b"ababc12345"], b"abababc12345.", b"ab[masked].");
    check(&[b"aaaaaaaa"], b"aaaaaaaaaaab", b"[masked]b");
    // The longest one, and those that reach into each other.
    check(&[b"abcdefgh", b"abcdefghijkl"], b"xabcdefghijkz abcdefghijklz", b"x[masked]ijkz [masked]z");
    check(&[b"01234567", b"456789ab"], b"<0123456789ab>", b"<[masked]>");
    check(&[b"01234567", b"xx123456yy"], b"xx123456yz01234567", b"xx123456yz[masked]");
    check(&[], b"anything", b"anything");
    check(&[b"short"], b"short", b"short");
}

#[test]
fn lines_and_json_texts_are_secrets_too() {
    let key = b"-----BEGIN KEY-----\nMIIEpAIBAAKCAQEA\nshort\r\n  indented-line\n-----END KEY-----\n";
    check(&[key], b"> MIIEpAIBAAKCAQEA\n", b"> [masked]\n");
    check(&[key], b"indented-line short", b"[masked] short");
    let json = br#"{"user": "admin", "password": "pass\"word\nsecond-line", "list": ["listed-item"]}"#;
    check(&[json], b"pass\"word\nsecond-line", b"[masked]");
    check(&[json], b"second-line and listed-item, admin", b"[masked] and [masked], admin");
}

#[test]
fn base64_is_found_wherever_it_begins() {
    let secret = b"correct-horse-9";
    let mask = mask(&[secret]);
    for before in 0..7 {
        for after in 0..7 {
            let text = [&b"#######"[..before], secret, &b"......."[..after]].concat();
            let coded = encode(&text);
            let out = String::from_utf8(mask.bytes(coded.as_bytes()).into_owned()).unwrap();
            assert!(out.contains(MARKER), "{coded} -> {out}");
            // What is left beside it is less than a byte's worth of the value on each side.
            let left = out.replace(MARKER, "").len();
            assert!(left <= (before + after) * 4 / 3 + 6, "{coded} -> {out}");
        }
    }
}

fn encode(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let mut bits = group.iter().fold(0_u32, |bits, &b| bits << 8 | u32::from(b));
        bits <<= 8 * (3 - group.len());
        for at in 0..4 {
            let six = usize::try_from(bits >> (18 - 6 * at) & 63).unwrap();
            out.push(if at <= group.len() { char::from(ALPHABET[six]) } else { '=' });
        }
    }
    out
}

#[test]
fn messages_are_masked_text_by_text() {
    let mask = mask(&[b"hunter2-hunter", b"12345678", b"with \"quote\""]);
    let mut value =
        json!({"a": ["x hunter2-hunter", 12_345_678, 1], "hunter2-hunter": {"b": "with \"quote\""}, "n": null});
    mask.json(&mut value);
    assert_eq!(value, json!({"a": ["x [masked]", MARKER, 1], "n": null, "[masked]": {"b": MARKER}}));
    assert_eq!(mask.message(&vec!["hunter2-hunter".to_owned()]), Some(vec![MARKER.to_owned()]));
    assert_eq!(mask.message(&vec!["nothing".to_owned()]), None);
    assert_eq!(mask.message(&vec![12_345_678_u64]), None, "that is no number any more");
    assert_eq!(mask.text("a hunter2-hunter b"), "a [masked] b");
    assert!(matches!(mask.text("nothing"), Cow::Borrowed("nothing")));
}

#[test]
fn nothing_of_a_value_is_shown_by_debug() {
    let mask = mask(&[b"hunter2-hunter"]);
    let mut masker = Masker::new(Arc::clone(&mask));
    masker.push(b"hunter2", &mut Vec::new());
    assert!(!format!("{mask:?} {masker:?}").contains("hunter"));
}

/// What the stream must give: every byte that any occurrence of any form covers, looked for one by one.
fn plainly(patterns: &[Vec<u8>], input: &[u8]) -> Vec<u8> {
    let mut covered = vec![false; input.len()];
    for pattern in patterns {
        for at in 0..(input.len() + 1).saturating_sub(pattern.len()) {
            if input[at..].starts_with(pattern) {
                covered[at..at + pattern.len()].fill(true);
            }
        }
    }
    let mut out = Vec::new();
    for (at, &byte) in input.iter().enumerate() {
        match (covered[at], at > 0 && covered[at - 1]) {
            (false, _) => out.push(byte),
            (true, false) => out.extend_from_slice(MARKER.as_bytes()),
            (true, true) => {}
        }
    }
    out
}

fn secret() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        // Few letters: they overlap themselves and each other.
        "[ab]{8,14}".prop_map(String::into_bytes),
        "[!-~]{8,40}".prop_map(String::into_bytes),
        "[ -~]{4,12}\n[ -~ü\"']{8,20}\n".prop_map(String::into_bytes),
        "\\PC{8,16}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 8..24),
        "[a-z]{8,12}".prop_map(|text| json!({"user": "someone", "key": text + "\"\\"}).to_string().into_bytes()),
    ]
}

/// A case has fifty secrets and hundreds of cuts: it counts for sixteen.
fn cases() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { cases: config.cases.div_ceil(16), ..config }
}

proptest! {
    #![proptest_config(cases())]

    /// Fifty secrets, each of their forms in the text, cut at every border.
    #[test]
    fn no_form_gets_through_however_it_is_cut(
        secrets in prop::collection::vec(secret(), 50), noise in "[ab -~]{0,12}", seed in any::<u64>(),
    ) {
        let mask = Arc::new(Mask::new(secrets.iter().map(Vec::as_slice)).unwrap());
        let patterns: Vec<Vec<u8>> = forms::of_all(secrets.iter().map(Vec::as_slice)).into_iter().collect();
        let mut random = fastrand::Rng::with_seed(seed);
        let mut input = noise.clone().into_bytes();
        for _ in 0..6 {
            let form = &patterns[random.usize(..patterns.len())];
            // Whole, or without its end: a beginning that is followed by something else.
            let len = if random.bool() { form.len() } else { random.usize(1..=form.len()) };
            input.extend_from_slice(&form[..len]);
            input.extend_from_slice(&noise.as_bytes()[..random.usize(0..=noise.len())]);
        }
        let expect = plainly(&patterns, &input);
        for at in 0..=input.len() {
            let (a, b) = input.split_at(at);
            prop_assert_eq!(pieces(&mask, [a, b]), expect.clone(), "cut at {}", at);
        }
        prop_assert_eq!(pieces(&mask, input.chunks(1)), expect);
    }

    #[test]
    fn every_form_of_every_secret_is_found(secrets in prop::collection::vec(secret(), 50)) {
        let mask = Arc::new(Mask::new(secrets.iter().map(Vec::as_slice)).unwrap());
        for form in forms::of_all(secrets.iter().map(Vec::as_slice)) {
            prop_assert!(mask.finds(&form));
            prop_assert_eq!(&*mask.bytes(&form), MARKER.as_bytes());
        }
    }
}
