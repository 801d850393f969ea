//! A run's log on its way to stdout. Anybody who may push can write `logs/<id>.log`, so what stands in it is cleaned
//! once more: text and colours pass, everything else is shown escaped.

use crate::cli::Failure;
use crate::cli::context::Context;
use crate::cli::find::Shelf;
use crate::journal::{Cleaner, LogFollower};
use crate::request::RunId;

const RESET: &[u8] = b"\x1b[0m";

/// A log that is shown while it grows.
pub struct Tail {
    log: LogFollower,
    cleaner: Cleaner,
    /// The line that has not ended yet, where whole lines are printed.
    line: Vec<u8>,
}

impl Tail {
    /// The log of a run.
    ///
    /// # Errors
    /// Where there is none, or none that may be read.
    pub fn open(shelf: &Shelf, id: RunId) -> std::io::Result<Self> {
        let file = shelf.log(id)?;
        Ok(Self { log: LogFollower::over(file, 0), cleaner: Cleaner::trusting(), line: Vec::new() })
    }

    /// Prints what the log has more by now.
    ///
    /// # Errors
    /// 74 where it cannot be read, or stdout not be written to.
    pub fn copy(&mut self, context: &Context) -> Result<(), Failure> {
        loop {
            let more = self.log.read().map_err(|error| Failure::io("read the log", &error))?;
            if more.skipped > 0 {
                self.say_dropped(context, more.skipped)?;
            }
            if more.bytes.is_empty() {
                return Ok(());
            }
            let mut clean = Vec::with_capacity(more.bytes.len());
            self.cleaner.push(&more.bytes, &mut clean);
            self.put(context, &clean)?;
        }
    }

    /// The log is complete: prints what was held back, and leaves the terminal without colours.
    ///
    /// # Errors
    /// As [`Self::copy`].
    pub fn finish(mut self, context: &Context) -> Result<(), Failure> {
        self.copy(context)?;
        let mut clean = Vec::new();
        self.cleaner.finish(&mut clean);
        if context.colors && self.cleaner.is_coloured() {
            clean.extend_from_slice(RESET);
        }
        self.put(context, &clean)?;
        if context.common.json && !self.line.is_empty() {
            let last = std::mem::take(&mut self.line);
            return print_line(context, &last);
        }
        Ok(())
    }

    fn say_dropped(&mut self, context: &Context, bytes: u64) -> Result<(), Failure> {
        if context.common.json {
            return context.print_json(&serde_json::json!({ "dropped_bytes": bytes }));
        }
        context.print(&context.dim(&format!("-- {bytes} bytes were dropped before they could be shown --\n")))
    }

    fn put(&mut self, context: &Context, clean: &[u8]) -> Result<(), Failure> {
        if !context.common.json {
            return if context.colors { context.write(clean) } else { context.write(&strip(clean)) };
        }
        self.line.extend_from_slice(&strip(clean));
        while let Some(at) = self.line.iter().position(|&byte| byte == b'\n') {
            let rest = self.line.split_off(at + 1);
            let line = std::mem::replace(&mut self.line, rest);
            print_line(context, &line[..at])?;
        }
        Ok(())
    }
}

fn print_line(context: &Context, line: &[u8]) -> Result<(), Failure> {
    context.print_json(&serde_json::json!({ "line": String::from_utf8_lossy(line) }))
}

/// Without colours: a cleaned log holds no other escape sequences, and each of them whole.
fn strip(clean: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(clean.len());
    let mut rest = clean;
    while let Some(at) = rest.iter().position(|&byte| byte == 0x1b) {
        out.extend_from_slice(&rest[..at]);
        let end = rest[at..].iter().position(|&byte| byte == b'm').map_or(rest.len(), |end| at + end + 1);
        rest = &rest[end..];
    }
    out.extend_from_slice(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log as it reaches the terminal, read in pieces of `step` bytes: with colours, and without.
    fn shown(log: &str, step: usize) -> (String, String) {
        let mut cleaner = Cleaner::trusting();
        let (mut coloured, mut plain) = (Vec::new(), Vec::new());
        for piece in log.as_bytes().chunks(step) {
            let mut clean = Vec::new();
            cleaner.push(piece, &mut clean);
            plain.extend(strip(&clean));
            coloured.extend(clean);
        }
        (String::from_utf8(coloured).unwrap(), String::from_utf8(plain).unwrap())
    }

    #[test]
    fn a_pushed_log_cannot_command_the_terminal() {
        for (log, coloured, plain) in [
            ("\x1b[0;0002mours\x1b[0m\n", "\x1b[0;0002mours\x1b[0m\n", "ours\n"),
            ("\x1b[31mred\x1b[0m\tx\r\n", "\x1b[31mred\x1b[0m\tx\r\n", "red\tx\r\n"),
            ("\x1b]52;c;aGk=\x07\x1b[2J!", "^[]52;c;aGk=^G^[[2J!", "^[]52;c;aGk=^G^[[2J!"),
            ("\u{9b}2Jm\u{7f}\u{202e}.", "<U+009B>2Jm^?<U+202E>.", "<U+009B>2Jm^?<U+202E>."),
            ("\x1bPq\x1b\\m\x1b[5n.", "^[Pq^[\\m^[[5n.", "^[Pq^[\\m^[[5n."),
        ] {
            for step in [1, 3, 1_000] {
                assert_eq!(shown(log, step), (coloured.to_owned(), plain.to_owned()), "{log:?} by {step}");
            }
        }
    }
}
