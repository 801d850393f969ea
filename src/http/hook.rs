//! The push hook's judgement: who may poke, and whether what was pushed matters here. Owns the comparison with the
//! secret, which takes the same time whatever is wrong, and holds no more of a body than its beginning.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};
use sha2::Sha256;

use super::wire::Request;

/// Largest body, in bytes: what GitHub sends at most.
pub(super) const LONGEST_BODY: u64 = 25 << 20;
/// The ref stands among the first fields of every forge's event; what comes behind is only checked.
const KEPT: usize = 64 << 10;

/// What shows that the sender knows the secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// HMAC-SHA256 over the body: GitHub, Gitea, Forgejo.
    Signature(Vec<u8>),
    /// The secret itself: GitLab.
    Token(Vec<u8>),
}

impl Proof {
    /// What the request's headers bring; a signature goes before a token.
    pub(super) fn of(request: &Request) -> Option<Self> {
        match request.header("x-hub-signature-256") {
            Some(value) => hex(value.strip_prefix(b"sha256=")?).map(Self::Signature),
            None => request.header("x-gitlab-token").map(|token| Self::Token(token.to_vec())),
        }
    }
}

fn hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let whole = digits.len().is_multiple_of(2);
    whole.then(|| digits.chunks(2).map(|pair| Some(digit(pair[0])? * 16 + digit(pair[1])?)).collect()).flatten()
}

/// A body that is being checked.
pub(super) struct Check {
    proof: Proof,
    /// One for each secret that counts.
    macs: Vec<Hmac<Sha256>>,
    beginning: Vec<u8>,
}

impl Check {
    pub(super) fn new(proof: Proof, secrets: &[Vec<u8>]) -> Self {
        let macs = match &proof {
            Proof::Signature(_) => secrets.iter().filter_map(|secret| Hmac::new_from_slice(secret).ok()).collect(),
            Proof::Token(_) => secrets.iter().filter_map(|secret| digest(secret)).collect(),
        };
        Self { proof, macs, beginning: Vec::new() }
    }

    /// The next piece of the body.
    pub(super) fn feed(&mut self, piece: &[u8]) {
        if matches!(self.proof, Proof::Signature(_)) {
            self.macs.iter_mut().for_each(|mac| mac.update(piece));
        }
        let room = KEPT.saturating_sub(self.beginning.len());
        self.beginning.extend_from_slice(&piece[..room.min(piece.len())]);
    }

    /// The beginning of the body, where the proof holds.
    pub(super) fn beginning(self) -> Option<Vec<u8>> {
        let Self { proof, macs, beginning } = self;
        let wanted = match proof {
            Proof::Signature(signature) => signature,
            Proof::Token(token) => digest(&token)?.finalize().into_bytes().to_vec(),
        };
        // All of them, so that the time does not tell which one it was.
        let held = macs.into_iter().fold(false, |held, mac| mac.verify_slice(&wanted).is_ok() | held);
        held.then_some(beginning)
    }
}

/// Of texts that are to be compared in constant time, whatever their lengths.
fn digest(text: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::new_from_slice(b"x-gitlab-token").ok()?;
    mac.update(text);
    Some(mac)
}

/// What an event says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// `refs/heads/main`.
    pub(super) reference: Option<String>,
    /// Where that is now.
    pub(super) tip: Option<String>,
}

impl Told {
    /// Reads what is there of the JSON object, which may be cut off; nothing where it is none.
    pub(super) fn read(beginning: &[u8]) -> Self {
        let mut told = Self::default();
        // An error is the end of what can be read, and what was read before it counts.
        let _ = serde_json::Deserializer::from_slice(beginning).deserialize_map(&mut told);
        told
    }
}

impl<'de> Visitor<'de> for &mut Told {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(key) = members.next_key::<String>()? {
            match key.as_str() {
                "ref" if self.reference.is_some() => return Err(A::Error::custom("`ref` is there twice")),
                "ref" => self.reference = members.next_value()?,
                "after" => self.tip = members.next_value()?,
                _ => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// What is to follow from an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The forge tries whether somebody answers.
    Ping,
    /// Look at the remote.
    Push(Option<String>),
    /// It is about something else.
    Nothing,
}

/// The headers that forges name their events in; some send several.
const EVENTS: [&str; 4] = ["x-github-event", "x-gitea-event", "x-forgejo-event", "x-gitlab-event"];

/// What the event in `beginning` means for `branch`. One that names no branch counts: a look too many does no harm.
pub(super) fn meaning(request: &Request, beginning: &[u8], branch: &str) -> Meaning {
    let event = EVENTS.into_iter().find_map(|name| request.header(name)).unwrap_or(b"push");
    let told = Told::read(beginning);
    match event {
        b"ping" => return Meaning::Ping,
        b"push" | b"Push Hook" => {}
        // GitLab's hook for the whole instance: pushes among others.
        b"System Hook" if told.reference.is_some() => {}
        _ => return Meaning::Nothing,
    }
    match told.reference {
        Some(reference) if reference.strip_prefix("refs/heads/") != Some(branch) => Meaning::Nothing,
        _ => Meaning::Push(told.tip),
    }
}
