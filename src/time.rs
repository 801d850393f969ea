//! Wall-clock times as they are written everywhere: RFC 3339, UTC, milliseconds. Owns no clock: only `daemon` reads one.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment of the wall clock, in milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(i64);

impl Time {
    /// The moment that is `ms` milliseconds after 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The time between `earlier` and `self`, zero where the clock went backwards.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0).max(0).unsigned_abs())
    }

    /// `self` moved forward by `by`.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Hours, minutes and seconds of the UTC day, as a log line starts: `06:41:07.114`.
    #[must_use]
    pub fn clock(self) -> String {
        self.format("%H:%M:%S%.3f")
    }

    /// The UTC day as a path: `2026/11/23`.
    #[must_use]
    pub fn day(self) -> String {
        self.format("%Y/%m/%d")
    }

    fn format(self, format: &str) -> String {
        match Timestamp::from_millisecond(self.0) {
            Ok(stamp) => stamp.strftime(format).to_string(),
            Err(_) => format!("@{}ms", self.0),
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.format("%Y-%m-%dT%H:%M:%S%.3fZ"))
    }
}

/// The text is no RFC 3339 time with `Z` or an offset.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time with `Z` or an offset, such as `2026-11-23T22:00:00Z`")]
pub struct BadTime(pub String);

impl FromStr for Time {
    type Err = BadTime;

    fn from_str(text: &str) -> Result<Self, BadTime> {
        let stamp: Timestamp = text.parse().map_err(|_| BadTime(text.to_owned()))?;
        Ok(Self(stamp.as_millisecond()))
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_with_milliseconds() {
        let time: Time = "2026-11-23T23:00:00+01:00".parse().unwrap();
        assert_eq!(time.to_string(), "2026-11-23T22:00:00.000Z");
        assert_eq!(time.plus(Duration::from_millis(1_114)).clock(), "22:00:01.114");
        assert_eq!(time.day(), "2026/11/23");
        assert_eq!(serde_json::to_string(&time).unwrap(), "\"2026-11-23T22:00:00.000Z\"");
        assert!("2026-11-23T22:00:00".parse::<Time>().is_err(), "no offset");
        assert_eq!(time.since(time.plus(Duration::from_secs(1))), Duration::ZERO);
    }
}
