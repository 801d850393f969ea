//! One HTTP/1.x request over one connection, and its response. Owns the bounds: of the head, of the body, and of the
//! time for the whole, whatever the pace of its bytes. Refuses what two readers could understand differently.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// Longest head of a request, in bytes.
const LONGEST_HEAD: usize = 16 << 10;
/// Most header lines.
const MOST_HEADERS: usize = 64;
/// What the other side may still be sending is read for so long: a close with unread bytes would take the response along.
const LINGER: Duration = Duration::from_millis(500);

/// A request without its body.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: String,
    /// Without the query.
    pub(super) path: String,
    headers: Vec<(String, Vec<u8>)>,
    /// Of the body, in bytes.
    pub(super) length: u64,
}

impl Request {
    /// The value of the first header of that name.
    pub(super) fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_slice())
    }
}

/// How a request did not come.
#[derive(Debug)]
pub(super) enum NoRequest {
    /// The other side is gone, or never said anything.
    Closed,
    /// Not within the time.
    Late,
    /// Not HTTP as it is understood here: the status and the words for it.
    Bad(u16, &'static str),
}

/// What is answered: always text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: String,
    /// The methods that the path knows, where another one was used.
    pub(super) allow: Option<&'static str>,
}

impl Response {
    pub(super) fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, body: body.into(), allow: None }
    }
}

/// A connection that is good for one request.
pub(super) struct Wire {
    stream: TcpStream,
    until: Instant,
    read: Vec<u8>,
}

impl Wire {
    /// Everything that follows must be over within `time`.
    pub(super) fn new(stream: TcpStream, time: Duration) -> Self {
        Self { stream, until: Instant::now() + time, read: Vec::new() }
    }

    /// The head of the request.
    pub(super) fn head(&mut self) -> Result<Request, NoRequest> {
        let mut searched = 0;
        let end = loop {
            let end = end_of_head(&self.read, searched);
            if end.unwrap_or(self.read.len()) > LONGEST_HEAD {
                return Err(NoRequest::Bad(431, "the head of the request is too large"));
            }
            if let Some(end) = end {
                break end;
            }
            searched = self.read.len();
            self.more()?;
        };
        let head: Vec<u8> = self.read.drain(..end).collect();
        let request = parse(&head)?;
        if request.header("expect").is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue")) {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        Ok(request)
    }

    /// The body of `length` bytes, piece by piece.
    pub(super) fn body(&mut self, length: u64, each: &mut dyn FnMut(&[u8])) -> Result<(), NoRequest> {
        let mut left = length;
        while left > 0 {
            if self.read.is_empty() {
                self.more()?;
            }
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(self.read.len());
            each(&self.read[..here]);
            self.read.drain(..here);
            left -= here as u64;
        }
        Ok(())
    }

    /// Answers, and ends the connection.
    pub(super) fn answer(mut self, response: &Response, with_body: bool) {
        let Response { status, body, allow } = response;
        let allow = allow.map_or(String::new(), |methods| format!("Allow: {methods}\r\n"));
        let body = if body.is_empty() { String::new() } else { format!("{body}\n") };
        // A response without content has no length either.
        let length = if *status == 204 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        let head = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: text/plain; charset=utf-8\r\n{length}{allow}Cache-Control: no-store\r\n\
             Connection: close\r\n\r\n",
            phrase(*status)
        );
        let text = if with_body && *status != 204 { head + &body } else { head };
        // Whoever went away is not told.
        if self.write(text.as_bytes()).is_ok() && self.stream.shutdown(Shutdown::Write).is_ok() {
            self.until = Instant::now() + LINGER;
            self.read.clear();
            while self.more().is_ok() {
                self.read.clear();
            }
        }
    }

    fn more(&mut self) -> Result<(), NoRequest> {
        loop {
            self.stream.set_read_timeout(Some(self.left()?)).map_err(|_| NoRequest::Closed)?;
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(NoRequest::Closed),
                Ok(n) => {
                    self.read.extend_from_slice(&chunk[..n]);
                    return Ok(());
                }
                Err(error) if is_passing(&error) => {}
                Err(_) => return Err(NoRequest::Closed),
            }
        }
    }

    fn write(&mut self, mut rest: &[u8]) -> Result<(), NoRequest> {
        while !rest.is_empty() {
            self.stream.set_write_timeout(Some(self.left()?)).map_err(|_| NoRequest::Closed)?;
            match self.stream.write(rest) {
                Ok(n) => rest = &rest[n..],
                Err(error) if is_passing(&error) => {}
                Err(_) => return Err(NoRequest::Closed),
            }
        }
        Ok(())
    }

    /// A socket timeout of zero would mean for ever.
    fn left(&self) -> Result<Duration, NoRequest> {
        match self.until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(NoRequest::Late),
            left => Ok(left.max(Duration::from_millis(1))),
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Where the body begins, where the head is complete; what is before `searched` was looked at already.
fn end_of_head(read: &[u8], searched: usize) -> Option<usize> {
    let from = searched.saturating_sub(3);
    let ends = read[from..].iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| from + at + 1);
    ends.filter_map(|line| match &read[line..] {
        [b'\n', ..] => Some(line + 1),
        [b'\r', b'\n', ..] => Some(line + 2),
        _ => None,
    })
    .next()
}

pub(super) fn parse(head: &[u8]) -> Result<Request, NoRequest> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(head) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(NoRequest::Bad(431, "too many header lines")),
        Ok(httparse::Status::Partial) | Err(_) => return Err(NoRequest::Bad(400, "this is not HTTP/1.1")),
    }
    let path = parsed.path.unwrap_or_default();
    let mut request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        path: path.split('?').next().unwrap_or_default().to_owned(),
        headers: parsed.headers.iter().map(|header| (header.name.to_owned(), header.value.to_vec())).collect(),
        length: 0,
    };
    if request.header("transfer-encoding").is_some() {
        return Err(NoRequest::Bad(411, "a body needs a Content-Length"));
    }
    let named = |(header, _): &&(String, Vec<u8>)| header.eq_ignore_ascii_case("content-length");
    let mut lengths = request.headers.iter().filter(named).map(|(_, value)| number(value));
    request.length = match (lengths.next(), lengths.next()) {
        (None, _) => 0,
        (Some(Some(length)), None) => length,
        _ => return Err(NoRequest::Bad(400, "the Content-Length is no number")),
    };
    Ok(request)
}

/// Digits alone: `+1` and ` 1` are read differently by others.
fn number(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok()
}

const fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        202 => "Accepted",
        204 => "No Content",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        411 => "Length Required",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    }
}
