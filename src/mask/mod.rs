//! Masking: no occurrence of a secret, in any of the forms that programs print values in, gets through. Pure. Owns the
//! forms, the search and the marker; where values come from and which streams are masked is the business of others.
//!
//! Every byte that belongs to any occurrence of any form is covered, also where occurrences overlap (a secret that
//! overlaps itself can be written so that a search for one occurrence after the other misses the second). A run of
//! covered bytes becomes one marker. What comes out depends on the bytes alone, not on the pieces in which they come.
//!
//! This is an airbag, not a wall: a handler that reverses, encrypts or spells out a secret is not stopped by it.

mod forms;
mod search;
mod stream;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use search::Search;
pub use stream::Masker;

/// Stands for what was covered.
pub const MARKER: &str = "[masked]";

/// Shortest value that can be masked, in characters: shorter ones stand in ordinary text by chance.
pub const SHORTEST: usize = 8;

/// The values together are too large to be looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secrets together are too large to be masked")]
pub struct TooLarge;

/// What is looked for. Shared by all streams; without values it costs nothing.
#[derive(Default)]
pub struct Mask(Option<Search>);

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Mask(secrets)" } else { "Mask(nothing)" })
    }
}

impl Mask {
    /// A mask for these values in all their forms. Values of less than [`SHORTEST`] characters are left out: whoever
    /// hands out secrets refuses them.
    ///
    /// # Errors
    /// [`TooLarge`], beyond some hundred MiB.
    pub fn new<'v>(values: impl IntoIterator<Item = &'v [u8]>) -> Result<Self, TooLarge> {
        let patterns = forms::of_all(values);
        if patterns.is_empty() {
            return Ok(Self(None));
        }
        Search::new(&patterns).map(|search| Self(Some(search)))
    }

    /// True where there is nothing to look for.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether any form of any value occurs.
    #[must_use]
    pub fn finds(&self, bytes: &[u8]) -> bool {
        self.0.as_ref().is_some_and(|search| search.finds(bytes))
    }

    /// The bytes with markers; the same ones where nothing occurs.
    #[must_use]
    pub fn bytes<'b>(self: &Arc<Self>, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        if !self.finds(bytes) {
            return Cow::Borrowed(bytes);
        }
        let mut out = Vec::with_capacity(bytes.len());
        let mut masker = Masker::new(Arc::clone(self));
        masker.push(bytes, &mut out);
        masker.finish(&mut out);
        Cow::Owned(out)
    }

    /// The text with markers.
    #[must_use]
    pub fn text<'t>(self: &Arc<Self>, text: &'t str) -> Cow<'t, str> {
        match self.bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            // A value that is no text itself may have torn a character.
            Cow::Owned(bytes) => Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// Masks every text of a JSON value, names of members too, and numbers that are a secret.
    pub fn json(self: &Arc<Self>, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Cow::Owned(masked) = self.text(text) {
                    *text = masked;
                }
            }
            Value::Number(number) => {
                if self.finds(number.to_string().as_bytes()) {
                    *value = Value::String(MARKER.to_owned());
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.json(item)),
            Value::Object(members) => {
                members.values_mut().for_each(|member| self.json(member));
                if members.keys().any(|name| self.finds(name.as_bytes())) {
                    let old = std::mem::take(members);
                    members.extend(old.into_iter().map(|(name, member)| (self.text(&name).into_owned(), member)));
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// A message with every text in it masked; `None` where nothing occurs, or where it would not be such a message any
    /// more.
    #[must_use]
    pub fn message<T: Serialize + DeserializeOwned>(self: &Arc<Self>, message: &T) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let mut value = serde_json::to_value(message).ok()?;
        let before = value.clone();
        self.json(&mut value);
        if value == before { None } else { serde_json::from_value(value).ok() }
    }
}

#[cfg(test)]
mod tests;
