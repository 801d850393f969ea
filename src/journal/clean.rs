//! Makes a handler's output safe for a terminal while it streams by. Lets UTF-8 text, SGR colours, `\n`, `\t` and `\r`
//! through; refuses every other control (caret form or `<U+0085>`), deceptive characters and bad bytes (`\xHH`).
//!
//! ```text
//!              ┌─ ESC ─▶ sequence ─ m ─▶ passed whole
//! text ────────┤            └─ anything else, too long, end ─▶ `^[` and the rest as text
//!   ▲          └─ start of a character ─▶ character ─ complete ─▶ passed or escaped
//!   └──────────────────────────────────────  └─ broken, end ─▶ `\xHH` each
//! ```

use crate::text;

const ESC: u8 = 0x1b;

/// Longest colour sequence that passes, in bytes. Real ones, with two 24-bit colours, stay under 50.
const SEQUENCE_MAX: usize = 64;

/// Digits of one parameter of a handler's colour sequence. The dispatcher's own lines use one digit more
/// ([`super::cut`]), which is what makes them impossible to forge.
const FOREIGN_DIGITS: usize = 3;

/// Bytes that can be copied without a look: printable ASCII, `\n`, `\t`, `\r`, and every byte of a multi-byte character
/// except the first bytes of those that may have to be escaped.
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut at = 0;
    while at < 0x20 {
        plain[at] = matches!(at, 0x09 | 0x0a | 0x0d);
        at += 1;
    }
    plain[0x7f] = false;
    plain[0xc2] = false; // C1 controls
    plain[0xd8] = false; // U+061C
    plain[0xe1] = false; // U+180E
    plain[0xe2] = false; // U+200B to U+2069
    plain[0xef] = false; // U+FEFF
    plain
};

/// A streaming sanitiser. The output does not depend on how the input is cut into pieces.
#[derive(Debug)]
pub struct Cleaner {
    /// The start of a colour sequence or of a character whose rest has not come yet.
    pending: Vec<u8>,
    digits: usize,
    coloured: bool,
}

impl Default for Cleaner {
    fn default() -> Self {
        Self { pending: Vec::new(), digits: FOREIGN_DIGITS, coloured: false }
    }
}

impl Cleaner {
    /// One that also passes the marks of the dispatcher's own lines: for reading a log back.
    #[must_use]
    pub fn trusting() -> Self {
        Self { digits: FOREIGN_DIGITS + 1, ..Self::default() }
    }

    /// Appends the safe form of `bytes` to `out`; what could still become a sequence or a character is held back.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while let Some(&first) = bytes.first() {
            if self.pending.is_empty() {
                bytes = self.text(bytes, out);
            } else if self.feed(first, out) {
                bytes = &bytes[1..];
            }
        }
    }

    /// The stream has ended: what was held back is appended escaped.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if self.pending.first() == Some(&ESC) {
            out.extend_from_slice(b"^[");
            out.extend_from_slice(&self.pending[1..]);
        } else {
            self.pending.iter().for_each(|&byte| push_bad(byte, out));
        }
        self.pending.clear();
    }

    /// True where the last colour sequence was not a plain reset.
    #[must_use]
    pub const fn is_coloured(&self) -> bool {
        self.coloured
    }

    /// Says what became of the colours behind the stream's back.
    pub(super) const fn set_coloured(&mut self, coloured: bool) {
        self.coloured = coloured;
    }

    /// Takes what needs no memory of earlier bytes; returns the rest. `bytes` is not empty, `self.pending` is.
    fn text<'b>(&mut self, bytes: &'b [u8], out: &mut Vec<u8>) -> &'b [u8] {
        if bytes[0] == ESC {
            self.pending.push(ESC);
            return &bytes[1..];
        }
        // Looking for the next ESC first keeps this linear: no byte is checked for UTF-8 twice.
        let end = bytes.iter().position(|&b| b == ESC).unwrap_or(bytes.len());
        let (mut segment, rest) = bytes.split_at(end);
        loop {
            match std::str::from_utf8(segment) {
                Ok(text) => {
                    push_valid(text.as_bytes(), out);
                    return rest;
                }
                Err(error) => {
                    let (good, bad) = segment.split_at(error.valid_up_to());
                    push_valid(good, out);
                    let Some(len) = error.error_len() else {
                        self.pending.extend_from_slice(bad);
                        return rest;
                    };
                    bad[..len].iter().for_each(|&byte| push_bad(byte, out));
                    segment = &bad[len..];
                }
            }
        }
    }

    /// Takes one byte behind a pending start; false where the byte does not belong to it and has to be looked at again.
    fn feed(&mut self, byte: u8, out: &mut Vec<u8>) -> bool {
        if self.pending[0] == ESC {
            if !self.continues_sequence(byte) {
                self.finish(out);
                return false;
            }
            self.pending.push(byte);
            if byte == b'm' {
                self.coloured = self.pending[2..].iter().any(|b| matches!(b, b'1'..=b'9'));
                out.append(&mut self.pending);
            }
            return true;
        }
        self.pending.push(byte);
        match std::str::from_utf8(&self.pending) {
            Ok(_) => {
                push_valid(&self.pending, out);
                self.pending.clear();
                true
            }
            Err(error) if error.error_len().is_none() => true,
            Err(_) => {
                self.pending.pop();
                self.finish(out);
                false
            }
        }
    }

    fn continues_sequence(&self, byte: u8) -> bool {
        if self.pending.len() == 1 {
            return byte == b'[';
        }
        let digits = self.pending.iter().rev().take_while(|b| b.is_ascii_digit()).count();
        self.pending.len() < SEQUENCE_MAX
            && match byte {
                b'0'..=b'9' => digits < self.digits,
                b';' | b':' | b'm' => true,
                _ => false,
            }
    }
}

/// Appends valid UTF-8 without ESC, escaped where it has to be.
fn push_valid(mut valid: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = valid.iter().position(|&b| !PLAIN[usize::from(b)]) {
        out.extend_from_slice(&valid[..at]);
        valid = &valid[at..];
        let len = match valid[0] {
            0..0x80 => {
                out.extend_from_slice(&[b'^', valid[0] ^ 0x40]);
                valid = &valid[1..];
                continue;
            }
            0x80..0xe0 => 2,
            _ => 3,
        };
        let (character, rest) = valid.split_at(len.min(valid.len()));
        push_character(character, out);
        valid = rest;
    }
    out.extend_from_slice(valid);
}

fn push_character(character: &[u8], out: &mut Vec<u8>) {
    // Box drawing and check marks are common in build logs and start like the deceptive ones.
    if matches!(character, [0xe2, 0x82..=0xbf, _]) {
        out.extend_from_slice(character);
        return;
    }
    let mut shown = String::new();
    String::from_utf8_lossy(character).chars().for_each(|c| text::push_escaped(&mut shown, c));
    out.extend_from_slice(shown.as_bytes());
}

fn push_bad(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;

    fn clean<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> Vec<u8> {
        let (mut cleaner, mut out) = (Cleaner::default(), Vec::new());
        pieces.into_iter().for_each(|piece| cleaner.push(piece, &mut out));
        cleaner.finish(&mut out);
        out
    }

    fn check(input: &[u8], expect: &str) {
        assert_eq!(String::from_utf8(clean([input])).unwrap(), expect, "{input:?} at once");
        assert_eq!(String::from_utf8(clean(input.chunks(1))).unwrap(), expect, "{input:?} byte by byte");
    }

    #[test]
    fn only_text_and_colours_pass() {
        for (input, expect) in [
            (&b"plain\ttext\r\n"[..], "plain\ttext\r\n"),
            ("grün ✓ ── 日本 🚀".as_bytes(), "grün ✓ ── 日本 🚀"),
            (
                b"\x1b[31mred\x1b[0m \x1b[m \x1b[38;2;1;2;3m \x1b[4:3m",
                "\x1b[31mred\x1b[0m \x1b[m \x1b[38;2;1;2;3m \x1b[4:3m",
            ),
            (b"\x1b[2J\x1b[H\x1b]0;title\x07\x1bc\x1b[?25l", "^[[2J^[[H^[]0;title^G^[c^[[?25l"),
            (b"\x1b[31\x1b[32mx", "^[[31\x1b[32mx"),
            (b"\x1b[0002mforged", "^[[0002mforged"),
            (b"\x1b[1 mx\x1b[>4mx", "^[[1 mx^[[>4mx"),
            (b"a\x00b\x08c\x7fd\x0b", "a^@b^Hc^?d^K"),
            (
                "\u{85}\u{9b}31m\u{202e}\u{200b}\u{feff}\u{61c}\u{180e}\u{2028}\u{2066}".as_bytes(),
                "<U+0085><U+009B>31m<U+202E><U+200B><U+FEFF><U+061C><U+180E><U+2028><U+2066>",
            ),
            (b"\xff\xc3(\xe2\x82(\xf0\x80\x80\x80", "\\xFF\\xC3(\\xE2\\x82(\\xF0\\x80\\x80\\x80"),
            (b"\xe2\x82\x1b[1mx", "\\xE2\\x82\x1b[1mx"),
            (b"cut \xe2\x82", "cut \\xE2\\x82"),
            (b"cut \x1b[3", "cut ^[[3"),
            (b"cut \x1b", "cut ^["),
        ] {
            check(input, expect);
        }
        let longest = format!("\x1b[{}1m", "0;".repeat(30));
        check(longest.as_bytes(), &longest);
        let longer = format!("\x1b[{}1m", "0;".repeat(31));
        check(longer.as_bytes(), &format!("^{}", &longer.replace('\x1b', "[")));
    }

    #[test]
    fn every_character_is_escaped_as_everywhere_else() {
        for c in ('\0'..=char::MAX).filter(|c| !matches!(c, '\n' | '\t' | '\r')) {
            let mut expect = String::new();
            text::push_escaped(&mut expect, c);
            assert_eq!(clean([c.to_string().as_bytes()]), expect.as_bytes(), "{c:?}");
        }
    }

    #[test]
    fn knows_whether_colours_are_left_on() {
        for (input, expect) in [
            ("plain", false),
            ("\x1b[31mred", true),
            ("\x1b[31mred\x1b[0m", false),
            ("\x1b[31mred\x1b[m", false),
            ("\x1b[0;1m", true),
            ("\x1b[31m\x1b[2J", true),
        ] {
            let mut cleaner = Cleaner::default();
            cleaner.push(input.as_bytes(), &mut Vec::new());
            assert_eq!(cleaner.is_coloured(), expect, "{input:?}");
        }
    }

    #[test]
    fn speed_is_sane() {
        let line =
            "\x1b[32m✓\x1b[0m compiled module 17 of 99 in 12 ms, größer, ── done ──────────────────────────────\n";
        let input = line.repeat((4 << 20) / line.len());
        let (mut cleaner, mut out) = (Cleaner::default(), Vec::with_capacity(8 << 20));
        let start = Instant::now();
        cleaner.push(input.as_bytes(), &mut out);
        let took = start.elapsed();
        assert_eq!(out, input.as_bytes());
        eprintln!("{:.0} MB/s", input.len() as f64 / 1e6 / took.as_secs_f64());
        assert!(took.as_secs() < 10, "{took:?} for 4 MiB");
    }

    fn fragment() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            "[ -~\n\t\r]{0,20}".prop_map(String::into_bytes),
            "\\PC{0,8}".prop_map(String::into_bytes),
            "\x1b\\[[0-9;:]{0,12}[mJ]?".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..12),
            "[\u{80}-\u{9f}\u{200b}-\u{206f}\u{feff}]{1,3}".prop_map(String::into_bytes),
        ]
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_safe_text(
            fragments in prop::collection::vec(fragment(), 0..12), cuts in prop::collection::vec(1_usize..9, 1..40),
        ) {
            let input = fragments.concat();
            let whole = clean([&input[..]]);
            let (mut pieces, mut rest) = (Vec::new(), &input[..]);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() { break; }
                let (piece, tail) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = tail;
            }
            prop_assert_eq!(&clean(pieces), &whole);
            prop_assert_eq!(&clean([&whole[..]]), &whole, "safe text is left alone");
            let text = String::from_utf8(whole).unwrap();
            for (at, c) in text.char_indices() {
                let sequence = c == '\x1b' && text[at + 1..].starts_with('[') && {
                    let end = text[at + 2..].trim_start_matches(|c: char| c.is_ascii_digit() || c == ';' || c == ':');
                    end.starts_with('m')
                };
                prop_assert!(sequence || matches!(c, '\n' | '\t' | '\r') || !(c.is_control() || text::is_deceptive(c)), "{c:?}");
            }
        }
    }
}
