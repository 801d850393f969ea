//! Where a run's log may be cut, and the one line that stands for what was dropped. Owns the mark of the dispatcher's
//! own lines: a colour sequence with a parameter of four digits (`ESC [ 0 ; 0002 m`, reset and dim on every terminal).
//! The [`Cleaner`](super::Cleaner) lets a handler have three digits at most, so no handler can write such a line: the
//! log says by itself which lines are the dispatcher's and how much is missing.

/// Starts every line of the dispatcher's own in a run's log.
pub(super) const OWN: &str = "\x1b[0;0002m";
pub(super) const RESET: &str = "\x1b[0m";
const CUT: &[u8] = "\x1b[0;0002m\u{2500}\u{2500} ".as_bytes();
const END: &str = " \u{2500}\u{2500}\x1b[0m\n";

/// Longest line that stands for a cut, with its newline.
pub(super) const CUT_LINE_MAX: usize = 192;

/// The range of the uncut log that is not in the file: `from` is where the head ends, `to` where the tail starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// First dropped byte.
    pub from: u64,
    /// First byte that is kept again.
    pub to: u64,
}

/// A cut and the place of its line in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// What is dropped.
    pub cut: Cut,
    /// File position where the tail starts: there the uncut offset is `cut.to`.
    pub tail_at: u64,
}

/// The file's own state of a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Complete.
    Done(Cut),
    /// The bytes `start..end` of the file are being moved behind this line, and are then its tail.
    Moving { cut: Cut, start: u64, end: u64 },
}

impl Cut {
    /// The line as it stands in the log.
    pub(super) fn line(self) -> String {
        let dropped = grouped(self.to.saturating_sub(self.from));
        format!("{OWN}\u{2500}\u{2500} {dropped} bytes dropped (offset {}-{}){END}", self.from, self.to)
    }
}

/// The line that stands in the log while a cut is under way, as long as `len`, the length of the final one.
pub(super) fn moving_line(cut: Cut, start: u64, end: u64, len: usize) -> String {
    let fixed = format!("{OWN}\u{2500}\u{2500} cutting {}-{} {start}-{end}", cut.from, cut.to);
    let pad = len.saturating_sub(fixed.len() + END.len());
    format!("{fixed}{:pad$}{END}", "")
}

/// The cut of a log that is given as a whole, if it has one.
#[must_use]
pub fn find_cut(log: &[u8]) -> Option<Found> {
    let at = find_mark(log)?;
    match parse(&log[at..])? {
        (Mark::Done(cut), len) => Some(Found { cut, tail_at: u64::try_from(at + len).ok()? }),
        (Mark::Moving { .. }, _) => None,
    }
}

/// True where a line of a run's log was written by the dispatcher. No handler can forge it; colours that a handler left
/// behind may stand before the mark.
#[must_use]
pub fn is_own_line(line: &[u8]) -> bool {
    line.windows(OWN.len()).any(|window| window == OWN.as_bytes())
}

/// Where the line of a cut starts.
pub(super) fn find_mark(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    // Colours are rare: looking for their first byte is much faster than for the whole mark.
    while let Some(esc) = bytes[at..].iter().position(|&b| b == CUT[0]) {
        at += esc;
        if bytes[at..].starts_with(CUT) {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Length of what [`find_mark`] looks for.
pub(super) const MARK_LEN: usize = CUT.len();

/// Reads the line that starts here, and its length with the newline.
pub(super) fn parse(line: &[u8]) -> Option<(Mark, usize)> {
    let len = line.iter().take(CUT_LINE_MAX).position(|&b| b == b'\n')? + 1;
    let text = std::str::from_utf8(line[..len].strip_prefix(CUT)?).ok()?.strip_suffix(END)?.trim_end();
    let range = |text: &str| {
        let (from, to) = text.split_once('-')?;
        Some((from.parse::<u64>().ok()?, to.parse::<u64>().ok()?))
    };
    let mark = if let Some(rest) = text.strip_prefix("cutting ") {
        let (dropped, moved) = rest.split_once(' ')?;
        let ((from, to), (start, end)) = (range(dropped)?, range(moved)?);
        Mark::Moving { cut: Cut { from, to }, start, end }
    } else {
        let (_, rest) = text.split_once(" bytes dropped (offset ")?;
        let (from, to) = range(rest.strip_suffix(')')?)?;
        Mark::Done(Cut { from, to })
    };
    Some((mark, len))
}

/// How much of `window`, the end of what could be the head, is kept: up to the last line border, else up to a border
/// of a character that lies outside a colour sequence.
pub(super) fn head_end(window: &[u8]) -> usize {
    if let Some(at) = window.iter().rposition(|&b| b == b'\n') {
        return at + 1;
    }
    let mut end = window.len();
    if let Some(lead) = window.iter().rposition(|&b| b & 0xc0 != 0x80)
        && std::str::from_utf8(&window[lead..]).is_err()
    {
        end = lead;
    }
    match window[..end].iter().rposition(|&b| b == 0x1b) {
        Some(esc) if !window[esc..end].contains(&b'm') => esc,
        _ => end,
    }
}

/// How much of `window` is skipped to start the tail at a line border, else at a border of a character outside a
/// colour sequence. `before` are the bytes before the window, at least one whole colour sequence of them.
pub(super) fn tail_start(before: &[u8], window: &[u8]) -> usize {
    if let Some(at) = window.iter().position(|&b| b == b'\n') {
        return at + 1;
    }
    let in_sequence = before.iter().rposition(|&b| b == 0x1b).is_some_and(|esc| !before[esc..].contains(&b'm'));
    if in_sequence {
        return window.iter().position(|&b| b == b'm').map_or(0, |at| at + 1);
    }
    window.iter().take_while(|&&b| b & 0xc0 == 0x80).count()
}

/// A number with a comma between groups of three digits: `9,412,118`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_reads_back() {
        let cut = Cut { from: 2_097_152, to: 11_509_270 };
        let line = cut.line();
        assert_eq!(line, "\x1b[0;0002m── 9,412,118 bytes dropped (offset 2097152-11509270) ──\x1b[0m\n");
        assert_eq!(parse(line.as_bytes()), Some((Mark::Done(cut), line.len())));
        let moving = moving_line(cut, 3_000_000, 4_000_000, line.len());
        assert_eq!(moving.len(), line.len());
        let mark = Mark::Moving { cut, start: 3_000_000, end: 4_000_000 };
        assert_eq!(parse(moving.as_bytes()), Some((mark, line.len())));
        assert!(Cut { from: u64::MAX / 2, to: u64::MAX }.line().len() <= CUT_LINE_MAX);
        for (from, to, start, end) in [
            (0, 800, 3_300, 4_095),
            (2_048, 3_300, 3_300, 4_095),
            (500_000_000, 900_000_000, 900_000_000, 1_000_000_000),
        ] {
            let cut = Cut { from, to };
            assert_eq!(moving_line(cut, start, end, cut.line().len()).len(), cut.line().len());
        }
        let log = [b"head\n", line.as_bytes(), b"tail"].concat();
        assert_eq!(find_cut(&log), Some(Found { cut, tail_at: 5 + line.len() as u64 }));
        for torn in 0..line.len() {
            assert_eq!(parse(&line.as_bytes()[..torn]), None);
        }
    }

    #[test]
    fn heads_end_at_borders() {
        for (window, expect) in [
            (&b"one\ntwo"[..], "one\n"),
            (b"one\n", "one\n"),
            (b"long line", "long line"),
            ("grü".as_bytes(), "grü"),
            (b"gr\xc3", "gr"),
            (b"x\xe2\x94", "x"),
            (b"red \x1b[31", "red "),
            (b"red \x1b", "red "),
            (b"\x1b[31mred", "\x1b[31mred"),
            (b"", ""),
        ] {
            assert_eq!(&window[..head_end(window)], expect.as_bytes(), "{window:?}");
        }
    }

    #[test]
    fn tails_start_at_borders() {
        for (before, window, expect) in [
            (&b"on"[..], &b"e\ntwo"[..], "two"),
            (b"on", b"e two", "e two"),
            (b"gr\xc3", b"\xbcn", "n"),
            (b"\x1b[3", b"1mred", "red"),
            (b"\x1b[31m", b"mred", "mred"),
            (b"\x1b", b"[31mred", "red"),
        ] {
            assert_eq!(&window[tail_start(before, window)..], expect.as_bytes(), "{before:?} {window:?}");
        }
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, expect) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(grouped(number), expect);
        }
    }
}
