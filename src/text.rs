//! Makes foreign text safe to show: names, authors, messages, log bytes. Everything that people read passes here once.

/// True for characters that change how their neighbours are shown: bidi controls, zero-width, line separators.
#[must_use]
pub fn is_deceptive(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{061c}' | '\u{feff}' | '\u{180e}')
}

/// Appends one character, in caret form (`^[`) where it is a control, as `<U+202E>` where it deceives.
pub fn push_escaped(out: &mut String, c: char) {
    match c {
        '\u{0}'..='\u{1f}' => {
            out.push('^');
            out.push(char::from(u8::try_from(u32::from(c)).unwrap_or(0) + 0x40));
        }
        '\u{7f}' => out.push_str("^?"),
        c if c.is_control() || is_deceptive(c) => out.push_str(&format!("<U+{:04X}>", u32::from(c))),
        c => out.push(c),
    }
}

/// Foreign text as one safe line: every control and every deceptive character escaped.
#[must_use]
pub fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| push_escaped(&mut out, c));
    out
}

/// Foreign bytes as one safe line: as [`line()`], bad UTF-8 as `\xHH`.
#[must_use]
pub fn bytes(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|c| push_escaped(&mut out, c));
        chunk.invalid().iter().for_each(|b| out.push_str(&format!("\\x{b:02X}")));
    }
    out
}

/// JSON as it may be shown: the controls and deceptive characters that JSON allows in strings stand as `\\uXXXX`, which
/// means the same.
#[must_use]
pub fn json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\n' => out.push(c),
            c if c.is_control() || is_deceptive(c) => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// A source line cut to the part around column `col` (1-based) that fits 100 characters, and the line of carets that
/// underlines `len` characters of it.
#[must_use]
pub fn snippet(source: &str, col: usize, len: usize) -> (String, String) {
    let first = col.saturating_sub(1);
    let skip = first.saturating_sub(60);
    let mut shown = String::new();
    let (mut before, mut under) = (0, 0);
    let mut width = 0;
    for (at, c) in source.chars().enumerate().skip(skip).take(100) {
        let start = shown.chars().count();
        if c == '\t' {
            shown.push(' ')
        } else {
            push_escaped(&mut shown, c)
        }
        let added = shown.chars().count() - start;
        if at < first {
            before += added;
        } else if at < first + len.max(1) {
            under += added;
        }
        width = before.max(width);
    }
    (shown, " ".repeat(width) + &"^".repeat(under.max(1)))
}

/// The nearest of `known`, if it is near enough to have been meant.
#[must_use]
pub fn nearest<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // Long text is not a misspelt name, and the distance is quadratic.
    if written.chars().count() > 80 {
        return None;
    }
    let lower = written.to_lowercase();
    let allowed = 1 + written.chars().count() / 4;
    known
        .into_iter()
        .filter(|name| *name != written && name.len() <= 200)
        .filter_map(|name| {
            let other = name.to_lowercase();
            let short = lower.len().min(other.len());
            let distance = if short >= 3 && (lower.starts_with(&other) || other.starts_with(&lower)) {
                1
            } else {
                strsim::damerau_levenshtein(&lower, &other)
            };
            (distance <= allowed && distance < short).then_some((distance, name))
        })
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_raw_gets_through() {
        assert_eq!(line("a\u{1b}[31m\n\u{7f}\u{9b}b\u{202e}c"), "a^[[31m^J^?<U+009B>b<U+202E>c");
        assert_eq!(bytes(b"ok\xff\xc3("), "ok\\xFF\\xC3(");
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({ "a\u{9b}": ["\u{1b}[0m\n", "\u{202e}\u{7f}", "grün 🚀"] });
        let shown = json(&value.to_string());
        assert!(!shown.chars().any(|c| c.is_control() || is_deceptive(c)), "{shown:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn snippets_underline_what_is_shown() {
        assert_eq!(snippet("kind: restart", 7, 7), ("kind: restart".into(), "      ^^^^^^^".into()));
        let (shown, under) = snippet(&"x".repeat(5_000), 3_000, 1);
        assert_eq!((shown.len(), under.len()), (100, 61));
    }
}
