//! Lines over a socket: bounded in length and by a deadline over the whole line, whatever the pace of its bytes.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How a line did not come.
#[derive(Debug)]
pub(super) enum NoLine {
    /// The other side is done.
    Closed,
    /// Not within the time.
    TimedOut,
    /// Longer than allowed.
    TooLong,
    /// Anything else.
    Io(io::Error),
}

/// One side of a connection.
pub(super) struct Lines {
    pub(super) stream: UnixStream,
    read: Vec<u8>,
}

impl Lines {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, read: Vec::new() }
    }

    /// The next line without its end, of at most `most` bytes. Without a `time`, waits for ever.
    pub(super) fn next(&mut self, most: usize, time: Option<Duration>) -> Result<Vec<u8>, NoLine> {
        let deadline = time.map(|time| Instant::now() + time);
        let mut searched = 0;
        loop {
            if let Some(end) = self.read.iter().skip(searched).position(|b| *b == b'\n') {
                let mut line: Vec<u8> = self.read.drain(..=searched + end).collect();
                line.pop();
                return if line.len() > most { Err(NoLine::TooLong) } else { Ok(line) };
            }
            searched = self.read.len();
            if searched > most {
                return Err(NoLine::TooLong);
            }
            self.stream.set_read_timeout(left(deadline)?).map_err(NoLine::Io)?;
            let mut chunk = [0; 8 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(NoLine::Closed),
                Ok(n) => self.read.extend_from_slice(&chunk[..n]),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => {}
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return Err(NoLine::Closed),
                    _ => return Err(NoLine::Io(error)),
                },
            }
        }
    }

    /// Sends `line` and a newline within `time`.
    pub(super) fn send(&mut self, mut line: Vec<u8>, time: Option<Duration>) -> Result<(), NoLine> {
        line.push(b'\n');
        let deadline = time.map(|time| Instant::now() + time);
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            self.stream.set_write_timeout(left(deadline)?).map_err(NoLine::Io)?;
            match self.stream.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => {}
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return Err(NoLine::Closed),
                    _ => return Err(NoLine::Io(error)),
                },
            }
        }
        Ok(())
    }
}

/// What is left until `deadline`; a socket timeout of zero would mean for ever.
fn left(deadline: Option<Instant>) -> Result<Option<Duration>, NoLine> {
    let Some(deadline) = deadline else { return Ok(None) };
    match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(NoLine::TimedOut),
        left => Ok(Some(left.max(Duration::from_millis(1)))),
    }
}
