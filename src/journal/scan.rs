//! Reads a run's log back in pieces, whatever its size: how much of it is what a `RunLog` would have written, and where
//! it was cut.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::Cleaner;
use super::cut::{MARK_LEN, find_mark};

const CHUNK: u64 = 64 << 10;

/// What a log that is found says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// Up to here it is clean text; behind it something is torn, or was never ours.
    pub clean: u64,
    /// The colours at that point are not reset.
    pub coloured: bool,
}

/// Reads the first `len` bytes.
pub(super) fn scan(file: &File, len: u64) -> io::Result<Scan> {
    let mut cleaner = Cleaner::trusting();
    let mut result = Scan { clean: 0, coloured: false };
    // What the cleaner holds back, then the next piece; `out` has to be how it starts.
    let (mut input, mut out) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < len {
        let held = input.len();
        input.resize(held + usize::try_from((len - at).min(CHUNK)).unwrap_or(0), 0);
        let piece = &mut input[held..];
        file.read_exact_at(piece, at)?;
        at += piece.len() as u64;
        out.clear();
        cleaner.push(piece, &mut out);
        let same = input.iter().zip(&out).take_while(|(a, b)| a == b).count();
        result.clean += same as u64;
        if same < out.len() {
            result.coloured = true;
            break;
        }
        input.drain(..same);
        result.coloured = cleaner.is_coloured();
    }
    Ok(result)
}

/// Where the line of a cut starts in the first `len` bytes, or as many as there still are.
pub(super) fn find_mark_in(file: &File, len: u64) -> io::Result<Option<u64>> {
    let mut window = Vec::new();
    let mut at = 0;
    while at < len {
        let overlap = window.len();
        window.resize(overlap + usize::try_from((len - at).min(CHUNK)).unwrap_or(0), 0);
        let read = file.read_at(&mut window[overlap..], at)?;
        if read == 0 {
            break;
        }
        window.truncate(overlap + read);
        if let Some(found) = find_mark(&window) {
            return Ok(Some(at - overlap as u64 + found as u64));
        }
        at += read as u64;
        window.drain(..window.len().saturating_sub(MARK_LEN - 1));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::cut::Cut;
    use super::*;

    fn check(content: &[u8], expect: Scan) -> File {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        fs::write(&path, content).unwrap();
        let file = File::open(path).unwrap();
        assert_eq!(scan(&file, content.len() as u64).unwrap(), expect);
        file
    }

    #[test]
    fn says_what_is_ours() {
        let plain = |clean| Scan { clean, coloured: false };
        check(b"", plain(0));
        check("a\tb\r\ngrün\n".as_bytes(), plain(11));
        check(b"text\xe2\x94", plain(4));
        check(b"text\x1b[3", plain(4));
        check(b"text\0\0\0", Scan { coloured: true, ..plain(4) });
        check(b"\x1b[31mred", Scan { coloured: true, ..plain(8) });
        check(b"\x1b[0;0002mown\x1b[0m\n", plain(17));
        check("x\u{202e}y".as_bytes(), Scan { coloured: true, ..plain(1) });
        let line = Cut { from: 1, to: 2 }.line();
        for before in [0, 5, CHUNK - 12, CHUNK - 1, CHUNK, 3 * CHUNK - 7] {
            let content = "é".repeat(usize::try_from(before / 2).unwrap()) + &"x".repeat(before as usize % 2) + &line;
            let file = check(content.as_bytes(), plain(content.len() as u64));
            assert_eq!(find_mark_in(&file, content.len() as u64).unwrap(), Some(before));
            assert_eq!(find_mark_in(&file, before + 5).unwrap(), None);
        }
    }
}
