//! The bytes before any parser sees them: size, encoding, characters, directives. Also where a byte is in lines and
//! columns.

use crate::diagnostic::{Diagnostic, Place};

/// How much a file may ask of the reader. Time and memory are bounded by these, whatever the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size of the file.
    pub bytes: usize,
    /// Scalars, lists and mappings together, keys included.
    pub nodes: usize,
    /// Lists and mappings inside one another.
    pub depth: usize,
}

impl Limits {
    /// A request. The depth also keeps `libyaml` linear, which is quadratic in it.
    pub const REQUEST: Self = Self { bytes: 1 << 20, nodes: 50_000, depth: 64 };
    /// The router, the schemas, the host configuration.
    pub const CONFIG: Self = Self { bytes: 1 << 20, nodes: 50_000, depth: 64 };
}

/// Source lines longer than this are not shown: a snippet is for reading.
const SHOWN_COLUMNS: usize = 4_096;

/// So much of a line is kept behind the place.
const SHOWN_BEHIND: usize = 200;

/// Where the lines of a text begin. A line ends at `\n`, `\r\n` or `\r`, as YAML has it.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut starts = vec![0];
        for (at, byte) in bytes.iter().enumerate() {
            if *byte == b'\n' || (*byte == b'\r' && bytes.get(at + 1) != Some(&b'\n')) {
                starts.push(at + 1);
            }
        }
        Self { starts }
    }

    /// The bytes of a 1-based line, without its end.
    pub(super) fn line<'t>(&self, bytes: &'t [u8], line: usize) -> &'t [u8] {
        let start = self.starts.get(line.wrapping_sub(1)).copied().unwrap_or(bytes.len());
        let end = self.starts.get(line).copied().unwrap_or(bytes.len());
        let mut found = bytes.get(start..end).unwrap_or_default();
        while let [rest @ .., b'\n' | b'\r'] = found {
            found = rest;
        }
        found
    }

    /// The beginning of a line, as much of it as is ever shown.
    pub(super) fn head(&self, bytes: &[u8], line: usize) -> String {
        let whole = self.line(bytes, line);
        let most = (SHOWN_COLUMNS + SHOWN_BEHIND) * 4;
        String::from_utf8_lossy(whole.get(..most).unwrap_or(whole)).into_owned()
    }

    /// The 1-based line of a byte, and the byte that the line begins with.
    fn of(&self, at: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= at).max(1);
        (line, self.starts.get(line - 1).copied().unwrap_or(0))
    }

    /// The place of `len` characters that begin at a byte.
    pub(super) fn place(&self, bytes: &[u8], file: &str, at: usize, len: usize) -> Place {
        let (line, start) = self.of(at);
        let before = String::from_utf8_lossy(bytes.get(start..at).unwrap_or_default());
        place(file, line, before.chars().count() + 1, len, &self.head(bytes, line))
    }
}

/// A place whose snippet is cut behind what is shown of it, and whose length ends with the line's text.
pub(super) fn place(file: &str, line: usize, col: usize, len: usize, head: &str) -> Place {
    let shown = col <= SHOWN_COLUMNS;
    let room = head.trim_end().chars().count().saturating_sub(col - 1).max(1);
    let snippet = shown.then(|| head.chars().take(col + SHOWN_BEHIND).collect());
    let len = len.clamp(1, if shown { room } else { SHOWN_BEHIND });
    Place { file: file.to_owned(), line, col, len, snippet }
}

/// Checks the bytes and gives them as text.
pub(super) fn check<'b>(bytes: &'b [u8], file: &str, limits: Limits) -> Result<&'b str, Diagnostic> {
    if bytes.len() > limits.bytes {
        let place = Place { file: file.to_owned(), line: 0, col: 0, len: 1, snippet: None };
        let said = format!(
            "this file is too large: {} bytes, and {} are allowed",
            bytes.len(),
            crate::quantity::show_size(limits.bytes as u64)
        );
        return Err(Diagnostic::new("E0110", said).at(place));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| not_utf8(bytes, file, error.valid_up_to()))?;
    match text.char_indices().find_map(|(at, c)| Some((at, c, refusal(c)?))) {
        Some((at, c, (code, what, help))) => {
            let said = format!("{what} U+{:04X} is not allowed here", u32::from(c));
            let place = Lines::new(bytes).place(bytes, file, at, 1);
            Err(Diagnostic::new(code, said).at(place).help(help))
        }
        None => directive(text, file),
    }
}

fn not_utf8(bytes: &[u8], file: &str, at: usize) -> Diagnostic {
    let byte = bytes.get(at).copied().unwrap_or_default();
    let said = format!("this file is not UTF-8: byte {} of it is `0x{byte:02X}`", at + 1);
    let place = Lines::new(bytes).place(bytes, file, at, 1);
    Diagnostic::new("E0111", said).at(place).help(format!("save it as UTF-8, or: iconv -f latin1 -t utf-8 {file}"))
}

fn refusal(c: char) -> Option<(&'static str, &'static str, &'static str)> {
    match c {
        '\t' | '\n' | '\r' => None,
        '\u{feff}' => Some(("E0112", "the byte order mark", "save the file as UTF-8 without a byte order mark")),
        '\u{2028}' | '\u{2029}' => {
            Some(("E0113", "the line separator", "YAML readers disagree about it; use a line end"))
        }
        c if c.is_control() => {
            Some(("E0113", "the control character", "in a string, write it as an escape in double quotes"))
        }
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            Some(("E0114", "the direction control", "it makes text read differently from what it is; take it out"))
        }
        _ => None,
    }
}

/// Directives stand before the document, alone on their lines; only there is a leading `%` one.
fn directive<'t>(text: &'t str, file: &str) -> Result<&'t str, Diagnostic> {
    let mut at = 0;
    for line in text.split_inclusive(['\n', '\r']) {
        if line.starts_with('%') {
            let name = line.split_whitespace().next().unwrap_or("%");
            let place = Lines::new(text.as_bytes()).place(text.as_bytes(), file, at, name.chars().count());
            let said = format!("the directive `{name}` is not accepted");
            return Err(Diagnostic::new("E0128", said).at(place).help("take the line out: files are read as YAML 1.2"));
        }
        if !line.trim_start().is_empty() && !line.trim_start().starts_with('#') {
            break;
        }
        at += line.len();
    }
    Ok(text)
}
