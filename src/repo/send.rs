//! The sending half of a push: which objects the remote lacks, and the words of git's protocol around them. Owns the
//! cost of a push: what is new since the last one, however much there is besides. (libgit2's own marks every tree that
//! the remote has in any branch, which with an archive is all of history.)

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{self, Read, Write};

use git2::{Error, ErrorClass, ErrorCode, Oid};

use super::error::RepoError;
use super::open::Repo;
use super::transport::Conversation;
use super::tree;

/// What the remote reported about our ref.
#[derive(Default)]
pub(super) struct Verdict {
    /// `Some(None)`: it was taken.
    pub(super) status: Option<Option<String>>,
    /// The ref was not what was seen last; nothing was sent.
    pub(super) moved: bool,
    /// What it said to people.
    pub(super) sideband: Vec<u8>,
}

/// One ref that is to move.
pub(super) struct Parcel<'a> {
    pub(super) name: &'a str,
    pub(super) seen: Option<Oid>,
    pub(super) tip: Oid,
    /// A commit whose files the remote has.
    pub(super) known: Option<Oid>,
}

/// What is kept of the remote's words.
const MOST_WORDS: usize = 16 * 1024;
/// So many of its refs are looked at where ours is new to it.
const MOST_REFS: usize = 1_000;
/// More than any remote has to report about one ref.
const MOST_REPORT: usize = 1 << 20;

impl Repo {
    /// Moves the remote's ref. What becomes of it is in the verdict, as far as the remote said so.
    pub(super) fn send(
        &self,
        talk: &Conversation,
        verdict: &RefCell<Verdict>,
        parcel: &Parcel<'_>,
    ) -> Result<(), Error> {
        let mut wire = talk.receive_pack().map_err(on_the_way)?;
        let remote = Advertised::read(&mut wire, parcel.name).map_err(on_the_way)?;
        if remote.at != parcel.seen {
            verdict.borrow_mut().moved = true;
            // Nothing is wanted: the remote need not wait for us.
            return wire.write_all(b"0000").map_err(on_the_way);
        }
        let objects = self.lacking(parcel, &remote.others).map_err(|e| Error::from_str(&e.to_string()))?;
        let mut builder = self.git.packbuilder()?;
        builder.set_threads(1);
        for oid in objects {
            builder.insert_object(oid, None)?;
        }
        // The lease: the remote compares with the old value once more when it moves the ref.
        let old = parcel.seen.unwrap_or(Oid::ZERO_SHA1);
        let band = if remote.has("side-band-64k") { " side-band-64k" } else { "" };
        let line = format!("{old} {} {}\0report-status{band}", parcel.tip, parcel.name);
        let mut sent = wire.write_all(format!("{:04x}{line}0000", line.len() + 4).as_bytes());
        builder.foreach(|chunk| {
            if sent.is_ok() {
                sent = wire.write_all(chunk);
            }
            sent.is_ok()
        })?;
        // Where it stopped listening it may have said why.
        let report = Report::read(&mut wire, !band.is_empty(), verdict);
        verdict.borrow_mut().status = report.as_ref().ok().and_then(|report| report.about(parcel.name));
        sent.and(report.map(drop)).map_err(on_the_way)
    }

    /// Every object that `tip` has beyond `seen`, as far as its commits brought it; beyond what the remote has in its
    /// `others` where the ref is new.
    fn lacking(&self, parcel: &Parcel<'_>, others: &[Oid]) -> Result<BTreeSet<Oid>, RepoError> {
        let odb = self.odb()?;
        let mut known = BTreeSet::new();
        if let Some(commit) = parcel.known {
            let root = tree::of_commit(&self.git, commit)?;
            for folder in [&b"processed"[..], b"logs"] {
                if let Some(leaf) = tree::find(&odb, root, folder)?.filter(|l| l.mode == tree::FOLDER) {
                    tree::added(&odb, None, leaf.oid, &mut known)?;
                }
            }
        }
        let mut objects = BTreeSet::new();
        let there = parcel.seen.as_ref().map_or(others, std::slice::from_ref);
        let there = there.iter().copied().filter(|oid| self.git.find_commit(*oid).is_ok());
        for oid in self.between(there, parcel.tip)? {
            let commit = self.git.find_commit(oid).map_err(|e| RepoError::new("read history", e.message()))?;
            let parent = commit.parent_ids().next().map(|p| tree::of_commit(&self.git, p)).transpose()?;
            objects.insert(oid);
            tree::added(&odb, parent, commit.tree_id(), &mut objects)?;
        }
        Ok(objects.difference(&known).copied().collect())
    }
}

fn on_the_way(error: io::Error) -> Error {
    Error::new(ErrorCode::GenericError, ErrorClass::Net, error.to_string())
}

fn nonsense(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the remote does not speak git's protocol: {what}"))
}

/// Reads one packet; `None` for the flush that ends a list.
fn packet(wire: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    wire.read_exact(&mut length)?;
    let text = std::str::from_utf8(&length).map_err(|_| nonsense("a packet has no length"))?;
    let length = usize::from_str_radix(text, 16).map_err(|_| nonsense("a packet has no length"))?;
    let Some(length) = length.checked_sub(4) else { return Ok(None) };
    let mut bytes = vec![0; length];
    wire.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}

/// What the remote says when it is called.
struct Advertised {
    /// Where our ref is.
    at: Option<Oid>,
    /// Where its refs are, ours included.
    others: Vec<Oid>,
    can: Vec<u8>,
}

impl Advertised {
    fn read(wire: &mut impl Read, name: &str) -> io::Result<Self> {
        let mut remote = Self { at: None, others: Vec::new(), can: Vec::new() };
        let mut first = true;
        while let Some(line) = packet(wire)? {
            if let Some(words) = line.strip_prefix(b"ERR ") {
                return Err(io::Error::other(String::from_utf8_lossy(words).into_owned()));
            }
            let (line, can) = match line.iter().position(|&b| b == 0) {
                Some(at) if first => (&line[..at], &line[at + 1..]),
                _ => (line.as_slice(), &b""[..]),
            };
            if std::mem::take(&mut first) {
                remote.can = can.trim_ascii_end().to_vec();
            }
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            let Some((oid, rest)) = line.split_at_checked(40) else { continue };
            let oid = std::str::from_utf8(oid).ok().and_then(|oid| Oid::from_str(oid).ok());
            if rest.strip_prefix(b" ") == Some(name.as_bytes()) {
                remote.at = Some(oid.ok_or_else(|| nonsense("a ref is at no commit"))?);
            }
            remote.others.extend(oid.filter(|_| remote.others.len() < MOST_REFS));
        }
        if remote.can.split(|&b| b == b' ').any(|can| can.starts_with(b"object-format=") && !can.ends_with(b"=sha1")) {
            return Err(io::Error::other("the remote's object format is not `sha1`"));
        }
        Ok(remote)
    }

    fn has(&self, word: &str) -> bool {
        self.can.split(|&b| b == b' ').any(|can| can == word.as_bytes())
    }
}

/// What the remote reports at the end.
struct Report(Vec<Vec<u8>>);

impl Report {
    fn read(wire: &mut impl Read, banded: bool, verdict: &RefCell<Verdict>) -> io::Result<Self> {
        if !banded {
            return Self::lines(wire);
        }
        let mut report = Vec::new();
        while let Some(bytes) = packet(wire)? {
            match bytes.split_first() {
                Some((1, rest)) if report.len() + rest.len() <= MOST_REPORT => {
                    report.extend_from_slice(rest);
                    // It is complete by its own end. What comes after is a hook's that may take for ever.
                    match Self::lines(&mut report.as_slice()) {
                        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
                        complete => return complete,
                    }
                }
                Some((2 | 3, rest)) => {
                    let said = &mut verdict.borrow_mut().sideband;
                    said.extend_from_slice(&rest[..rest.len().min(MOST_WORDS.saturating_sub(said.len()))]);
                    if bytes.first() == Some(&3) {
                        return Err(io::Error::other("the remote gave up"));
                    }
                }
                _ => return Err(nonsense("a packet is of an unknown kind")),
            }
        }
        Self::lines(&mut report.as_slice())
    }

    fn lines(from: &mut impl Read) -> io::Result<Self> {
        let (mut lines, mut size) = (Vec::new(), 0);
        while let Some(line) = packet(from)? {
            size += line.len();
            if size > MOST_REPORT {
                return Err(nonsense("its report has no end"));
            }
            lines.push(line.trim_ascii_end().to_vec());
        }
        Ok(Self(lines))
    }

    /// What became of the ref: `Some(None)` where it was taken, else why not; `None` where nothing was said of it.
    fn about(&self, name: &str) -> Option<Option<String>> {
        self.0.iter().find_map(|line| {
            if line.strip_prefix(b"ok ") == Some(name.as_bytes()) {
                return Some(None);
            }
            let why = line.strip_prefix(b"ng ")?.strip_prefix(name.as_bytes())?.strip_prefix(b" ")?;
            Some(Some(String::from_utf8_lossy(why).into_owned()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(lines: &[&[u8]]) -> Vec<u8> {
        let packet = |line: &&[u8]| [format!("{:04x}", line.len() + 4).as_bytes(), line].concat();
        [lines.iter().flat_map(packet).collect(), b"0000".to_vec()].concat()
    }

    #[test]
    fn the_remote_says_where_its_ref_is() {
        let oid = "a".repeat(40);
        let read = |lines: &[&[u8]]| {
            let remote = Advertised::read(&mut packed(lines).as_slice(), "refs/heads/main")?;
            Ok::<_, io::Error>((remote.at.map(|oid| oid.to_string()), remote.has("side-band-64k")))
        };
        let line = |name: &str, rest: &str| format!("{oid} {name}{rest}\n").into_bytes();
        let can = "\0report-status side-band-64k";
        let none = format!("{} capabilities^{{}}{can}\n", "0".repeat(40)).into_bytes();
        assert_eq!(read(&[&none]).unwrap(), (None, true));
        assert_eq!(read(&[&line("refs/heads/main", can)]).unwrap(), (Some(oid.clone()), true));
        let several = [line("refs/heads/a", can), line("refs/heads/main", ""), line("refs/heads/main2", can)];
        let several: Vec<&[u8]> = several.iter().map(Vec::as_slice).collect();
        assert_eq!(read(&several).unwrap(), (Some(oid.clone()), true));
        for (lines, words) in [
            (vec![&b"ERR access denied"[..]], "access denied"),
            (vec![&line("refs/heads/main", "\0object-format=sha256")[..]], "object format"),
        ] {
            assert!(read(&lines).unwrap_err().to_string().contains(words));
        }
        assert!(Advertised::read(&mut &b"HTTP/1.1 200"[..], "x").is_err());
    }

    #[test]
    fn the_remote_says_what_became_of_it() {
        let ng = b"ng refs/heads/main pre-receive hook declined\n";
        for (lines, expect) in [
            (vec![&b"unpack ok\n"[..], b"ok refs/heads/main\n"], Some(None)),
            (vec![b"unpack ok\n", ng], Some(Some("pre-receive hook declined".to_owned()))),
            (vec![b"unpack ok\n", b"ok refs/heads/main2\n"], None),
            (vec![], None),
        ] {
            let report = packed(&lines);
            let halves = report.split_at(report.len() / 2);
            let banded = packed(&[&[&[1], halves.0].concat(), b"\x02hello\n", &[&[1], halves.1].concat()]);
            for (bytes, is_banded) in [(&report, false), (&banded, true)] {
                let verdict = RefCell::default();
                let read = Report::read(&mut bytes.as_slice(), is_banded, &verdict).unwrap();
                assert_eq!(read.about("refs/heads/main"), expect);
                assert_eq!(verdict.into_inner().sideband, if is_banded { &b"hello\n"[..] } else { b"" });
            }
        }
        let verdict = RefCell::default();
        assert!(Report::read(&mut packed(&[b"\x03fatal\n"]).as_slice(), true, &verdict).is_err());
        assert_eq!(verdict.into_inner().sideband, b"fatal\n");
    }
}
