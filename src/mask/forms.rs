//! The forms in which a value may be printed. Each is a pattern of its own; nothing is ever decoded.

use std::collections::BTreeSet;

use serde_json::Value;

use super::SHORTEST;
use crate::text;

/// Every form of every value.
pub(super) fn of_all<'v>(values: impl IntoIterator<Item = &'v [u8]>) -> BTreeSet<Vec<u8>> {
    let mut leaves = BTreeSet::new();
    for value in values {
        add_leaves(value, &mut leaves);
    }
    let mut all = BTreeSet::new();
    for leaf in &leaves {
        encodings(leaf, &mut all);
    }
    all
}

/// Long enough to be looked for.
fn is_long(value: &[u8]) -> bool {
    std::str::from_utf8(value).map_or(value.len(), |text| text.chars().count()) >= SHORTEST
}

/// The value, each of its lines, and each text in it where it is JSON.
fn add_leaves(value: &[u8], leaves: &mut BTreeSet<Vec<u8>>) {
    let mut add = |leaf: &[u8]| {
        if is_long(leaf) {
            leaves.insert(leaf.to_vec());
        }
    };
    add(value);
    add(value.trim_ascii());
    if value.contains(&b'\n') {
        value.split(|&b| b == b'\n').for_each(|line| add(line.trim_ascii()));
    }
    if let Ok(json @ (Value::Object(_) | Value::Array(_) | Value::String(_))) = serde_json::from_slice(value) {
        let mut texts = Vec::new();
        add_texts(&json, &mut texts);
        for text in texts {
            add(text.as_bytes());
            text.split('\n').for_each(|line| add(line.trim_ascii().as_bytes()));
        }
    }
}

fn add_texts<'v>(value: &'v Value, texts: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(items) => items.iter().for_each(|item| add_texts(item, texts)),
        Value::Object(members) => members.values().for_each(|member| add_texts(member, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn encodings(leaf: &[u8], all: &mut BTreeSet<Vec<u8>>) {
    all.insert(leaf.to_vec());
    all.insert(text::bytes(leaf).into_bytes());
    for alphabet in [STANDARD, URL_SAFE] {
        all.insert(base64(alphabet, leaf));
        for shift in 0..3 {
            all.insert(base64_inside(alphabet, leaf, shift));
        }
    }
    for digits in [LOWER, UPPER] {
        all.insert(leaf.iter().flat_map(|&b| hex(digits, b)).collect());
        for plain in ["-_.~", "-_.!~*'()", "-_.~/", "-_.*"] {
            all.insert(percent(digits, leaf, plain, false));
            all.insert(percent(digits, leaf, plain, true));
        }
    }
    if let Ok(text) = std::str::from_utf8(leaf) {
        json(text, all);
        shell(text, all);
    }
    // An empty text has no form, and a form is never shorter than its value.
    all.remove(&Vec::new());
}

const LOWER: &[u8; 16] = b"0123456789abcdef";
const UPPER: &[u8; 16] = b"0123456789ABCDEF";
const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn hex(digits: &[u8; 16], byte: u8) -> [u8; 2] {
    [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]
}

/// Without the padding.
fn base64(alphabet: &[u8; 64], bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() * 4 / 3 + 2);
    for group in bytes.chunks(3) {
        let at = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for i in 0..=group.len() {
            out.push(alphabet[usize::try_from(bits >> (18 - 6 * i) & 63).unwrap_or(0)]);
        }
    }
    out
}

/// What all texts have in common that hold `bytes` behind `shift` other bytes (of three), whatever is around them.
fn base64_inside(alphabet: &[u8; 64], bytes: &[u8], shift: usize) -> Vec<u8> {
    let all = base64(alphabet, &[&[0, 0][..shift], bytes].concat());
    // Characters of which each bit is the value's.
    let (first, last) = ((shift * 8).div_ceil(6), (shift + bytes.len()) * 8 / 6);
    all[first..last].to_vec()
}

fn percent(digits: &[u8; 16], bytes: &[u8], plain: &str, plus: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b' ' if plus => out.push(b'+'),
            _ if byte.is_ascii_alphanumeric() || plain.as_bytes().contains(&byte) => out.push(byte),
            _ => {
                out.push(b'%');
                out.extend(hex(digits, byte));
            }
        }
    }
    out
}

/// As it stands between the quotes of a JSON text, by the habits of several writers.
fn json(text: &str, all: &mut BTreeSet<Vec<u8>>) {
    let quoted = Value::from(text).to_string();
    let inner = quoted[1..quoted.len() - 1].to_owned();
    let escaped = |wanted: &dyn Fn(char) -> bool| {
        let mut out = String::new();
        for c in inner.chars() {
            if wanted(c) {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
            } else {
                out.push(c);
            }
        }
        out
    };
    let ascii = escaped(&|c| !c.is_ascii());
    all.insert(ascii.replace('/', "\\/").into_bytes());
    all.insert(inner.replace('/', "\\/").into_bytes());
    all.insert(ascii.into_bytes());
    all.insert(escaped(&|c| "<>&\u{2028}\u{2029}".contains(c)).into_bytes());
    all.insert(escaped(&|c| "<>&'+".contains(c) || !c.is_ascii()).into_bytes());
    all.insert(inner.into_bytes());
}

/// As shells print words: in single quotes, in double quotes, with backslashes, and as `$'…'`.
fn shell(text: &str, all: &mut BTreeSet<Vec<u8>>) {
    all.insert(text.replace('\'', "'\\''").into_bytes());
    all.insert(text.replace('\'', "'\"'\"'").into_bytes());
    let behind_backslash = |special: &str| {
        text.chars().flat_map(|c| special.contains(c).then_some('\\').into_iter().chain([c])).collect::<String>()
    };
    for special in ["\"\\$`", "\"\\$`!", " !\"#$&'()*,;<=>?[\\]^`{|}~", " !\"#$&'()*;<>?[\\]^`{|}", "\\'"] {
        all.insert(behind_backslash(special).into_bytes());
    }
    let mut ansi = String::new();
    for c in text.chars() {
        match c {
            '\\' | '\'' => ansi.extend(['\\', c]),
            '\n' => ansi.push_str("\\n"),
            '\t' => ansi.push_str("\\t"),
            '\r' => ansi.push_str("\\r"),
            '\u{1b}' => ansi.push_str("\\E"),
            c if c.is_ascii_control() => ansi.push_str(&format!("\\{:03o}", u32::from(c))),
            c if c.is_ascii() => ansi.push(c),
            c => c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| ansi.push_str(&format!("\\{b:03o}"))),
        }
    }
    all.insert(ansi.into_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &[u8], expect: &[&str]) {
        let forms = of_all([value]);
        for wanted in expect {
            let shown: Vec<_> = forms.iter().map(|form| String::from_utf8_lossy(form)).collect();
            assert!(forms.contains(wanted.as_bytes()), "{wanted} is not among {shown:#?}");
        }
    }

    #[test]
    fn quoted_forms() {
        check(
            b"pass word/\"x'&<1>",
            &[
                "pass word/\"x'&<1>",
                "7061737320776f72642f227827263c313e",
                "pass%20word%2F%22x%27%26%3C1%3E",
                "pass%20word%2f%22x'%26%3c1%3e",
                "pass+word/%22x%27%26%3C1%3E",
                "pass word/\\\"x'&<1>",
                "pass word\\/\\\"x'&<1>",
                "pass word/\\\"x'\\u0026\\u003c1\\u003e",
                "pass word/\"x'\\''&<1>",
                "pass word/\"x'\"'\"'&<1>",
                "pass\\ word/\\\"x\\'\\&\\<1\\>",
                "pass word/\"x\\'&<1>",
            ],
        );
        check(
            "größe-ünd".as_bytes(),
            &["gr\\u00f6\\u00dfe-\\u00fcnd", "gr%C3%B6%C3%9Fe-%C3%BCnd", "gr\\303\\266\\303\\237e-\\303\\274nd"],
        );
        check(b"tab\there\x01x", &["tab\\there\\u0001x", "tab\\there\\001x", "tab^Ihere^Ax"]);
    }
}
