//! What a request is: its id, kind, resource and envelope. Constructors hold the invariants, so that everything
//! behind the parser can trust the types. Reading YAML is the business of `schema`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::time::Time;

/// The identity of a run: a UUID, lower case with dashes, the name of its folder and log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(Uuid);

impl RunId {
    /// A fresh UUIDv7 of `now`, made unique and unguessable by `random`.
    #[must_use]
    pub fn new(now: Time, random: [u8; 10]) -> Self {
        let millis = u64::try_from(now.as_millis()).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// When a UUIDv7 was made; `None` for another kind of UUID, which carries no time.
    #[must_use]
    pub fn made(&self) -> Option<Time> {
        let bytes = self.0.as_bytes();
        let millis = bytes[..6].iter().fold(0_i64, |sum, &byte| sum << 8 | i64::from(byte));
        (self.0.get_version_num() == 7).then(|| Time::from_millis(millis))
    }

    /// The last 8 hex digits: what people read and type. (The first digits of a UUIDv7 are the clock.)
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[28..].to_owned()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text breaks a rule of an identifier; says which.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Not a UUID in its canonical form.
    #[error("`{0}` is not a UUID with dashes, such as `0197e0c2-8f7a-7b3c-9d1e-5a6b7c8d9e0f`")]
    Id(String),
    /// Not usable as a kind.
    #[error("`{0}` is not a kind: 1 to 64 of `A-Z a-z 0-9 . _ -`, first a letter or digit")]
    Kind(String),
    /// Not usable as a resource.
    #[error("`{0}` is not a resource: 1 to 80 bytes without control characters")]
    Resource(String),
}

impl FromStr for RunId {
    type Err = BadName;

    /// Any letter case is read; only the hyphenated form is, so that one id has one spelling.
    fn from_str(text: &str) -> Result<Self, BadName> {
        let bad = || BadName::Id(text.to_owned());
        if text.len() != 36 {
            return Err(bad());
        }
        Uuid::try_parse(text).map(Self).map_err(|_| bad())
    }
}

/// What a request asks for, such as `deploy`. Safe as a file name and as a metric label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(String);

impl Kind {
    /// The kind's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Kind {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let rest = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if first && rest && text.len() <= 64 { Ok(Self(text.to_owned())) } else { Err(BadName::Kind(text.to_owned())) }
    }
}

/// What must not be touched by two runs at once, such as `web-prod`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource(String);

impl Resource {
    /// The resource's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of its lock file: `%`-encoded outside `[A-Za-z0-9._-]`, without a leading dot, then `.lock`.
    #[must_use]
    pub fn lock_file(&self) -> String {
        let mut name = String::with_capacity(self.0.len() + 5);
        for (at, byte) in self.0.bytes().enumerate() {
            if byte.is_ascii_alphanumeric() || b"_-".contains(&byte) || (byte == b'.' && at > 0) {
                name.push(char::from(byte));
            } else {
                name.push_str(&format!("%{byte:02X}"));
            }
        }
        name + ".lock"
    }
}

impl FromStr for Resource {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if (1..=80).contains(&text.len()) && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(BadName::Resource(text.to_owned()))
        }
    }
}

macro_rules! text_serde {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
text_serde!(RunId, Kind, Resource);

macro_rules! text_display {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
text_display!(Kind, Resource);

/// A request as its file says it: the envelope is checked, and the params have passed the kind's schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What is asked for.
    pub kind: Kind,
    /// The kind's own parameters: what was validated is what the handler gets.
    pub params: serde_json::Map<String, serde_json::Value>,
    /// Only where the router gives the kind no resource template.
    pub resource: Option<Resource>,
    /// Idempotency key; becomes the run's id.
    pub id: Option<RunId>,
    /// -100 to 100, higher first.
    pub priority: i8,
    /// May only shorten the handler's.
    pub timeout: Option<Duration>,
    /// Stays in the inbox until then.
    pub not_before: Option<Time>,
    /// Not started for the first time by then: expired.
    pub expires_at: Option<Time>,
    /// Free text, shown everywhere.
    pub reason: Option<String>,
    /// Only for handlers that declare it.
    pub dry_run: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_one_spelling() {
        let id = RunId::new(Time::from_millis(1_763_900_000_000), [7; 10]);
        assert_eq!(id.to_string().parse::<RunId>().unwrap(), id);
        assert_eq!(id.to_string().to_uppercase().parse::<RunId>().unwrap(), id);
        assert_eq!(id.short().len(), 8);
        assert!(id.to_string().ends_with(&id.short()));
        for bad in
            ["", "../../etc/passwd", "0197e0c28f7a7b3c9d1e5a6b7c8d9e0f", "{0197e0c2-8f7a-7b3c-9d1e-5a6b7c8d9e0f}"]
        {
            assert!(bad.parse::<RunId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn kinds_are_safe_file_names() {
        for good in ["deploy", "db-vacuum", "a.b_c", "9"] {
            assert!(good.parse::<Kind>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-x", "a/b", "a b", "é", &"x".repeat(65)] {
            assert!(bad.parse::<Kind>().is_err(), "{bad}");
        }
    }

    #[test]
    fn lock_files_are_named_after_the_resource() {
        for (resource, file) in [
            ("web-prod", "web-prod.lock"),
            (".hidden", "%2Ehidden.lock"),
            ("host/web 1", "host%2Fweb%201.lock"),
            ("ü", "%C3%BC.lock"),
        ] {
            assert_eq!(resource.parse::<Resource>().unwrap().lock_file(), file);
        }
        assert!("a\nb".parse::<Resource>().is_err());
        assert!("x".repeat(81).parse::<Resource>().is_err());
    }
}
