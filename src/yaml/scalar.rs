//! What an unquoted scalar means. The rules are those of `serde_yaml` (YAML 1.2, not 1.1: `no`, `on`, `010` and
//! `1_000` are strings); the reader compares the two on every file.

use serde_json::{Number, Value};

/// The meaning of an unquoted scalar.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Plain {
    Value(Value),
    /// A number that JSON has no form for: infinite, not a number, or too large.
    Unfit,
}

pub(super) fn plain(text: &str) -> Plain {
    match text {
        "" | "null" | "Null" | "NULL" | "~" => return Plain::Value(Value::Null),
        "true" | "True" | "TRUE" => return Plain::Value(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Plain::Value(Value::Bool(false)),
        _ => {}
    }
    // Nothing that begins otherwise is a number; `f64` would also read `inf` and `nan`.
    if !text.starts_with(['+', '-', '.', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) || padded(text) {
        return Plain::Value(Value::String(text.to_owned()));
    }
    match integer(text) {
        Some(Ok(number)) => Plain::Value(Value::Number(number)),
        Some(Err(())) => Plain::Unfit,
        None => float(text),
    }
}

/// `010`: digits, but not a number in YAML 1.2.
fn padded(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
}

/// `None`: not an integer. `Err`: one that JSON readers do not agree on, outside 64 bits.
fn integer(text: &str) -> Option<Result<Number, ()>> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match unsigned.get(..2) {
        Some("0x") => (16, unsigned.get(2..)?),
        Some("0o") => (8, unsigned.get(2..)?),
        Some("0b") => (2, unsigned.get(2..)?),
        _ => (10, unsigned),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let read = match (u64::from_str_radix(digits, radix), negative) {
        (Ok(number), false) => Some(Number::from(number)),
        (Ok(number), true) => 0i64.checked_sub_unsigned(number).map(Number::from),
        (Err(_), _) => None,
    };
    Some(read.ok_or(()))
}

fn float(text: &str) -> Plain {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF" | ".nan" | ".NaN" | ".NAN") {
        return Plain::Unfit;
    }
    let numeric = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    match unsigned.parse::<f64>() {
        Ok(_) if !numeric => Plain::Value(Value::String(text.to_owned())),
        Ok(number) => {
            let signed = if text.starts_with('-') { -number } else { number };
            Number::from_f64(signed).map_or(Plain::Unfit, |n| Plain::Value(Value::Number(n)))
        }
        Err(_) => Plain::Value(Value::String(text.to_owned())),
    }
}
