//! Reads the values of one mapping of the router table, each by a function that says what it takes; every refusal is
//! reported with the value's place. Knows no key.

use serde_json::{Map, Value};

use crate::reading::{Reading, child, describe};
use crate::yaml::Part;

/// One mapping that is being read.
pub(super) struct Fields<'r, 'd> {
    reading: &'r mut Reading<'d>,
    pointer: String,
    name: String,
    members: &'d Map<String, Value>,
}

impl<'r, 'd> Fields<'r, 'd> {
    /// The mapping at `pointer`, called `name` in messages; keys that are not in `allowed` are reported.
    pub(super) fn open(
        reading: &'r mut Reading<'d>,
        pointer: String,
        name: &str,
        value: &'d Value,
        allowed: &[&str],
    ) -> Option<Self> {
        let shown = if name.is_empty() { "the router table" } else { name };
        let members = reading.mapping(&pointer, value, shown)?;
        reading.refuse_unknown(&pointer, members, allowed, name);
        Some(Self { reading, pointer, name: name.to_owned(), members })
    }

    /// A mapping inside this one.
    pub(super) fn inner(&mut self, key: &str, allowed: &[&str]) -> Option<Fields<'_, 'd>> {
        let value = self.members.get(key)?;
        let (pointer, name) = (child(&self.pointer, key), self.full(key));
        Fields::open(self.reading, pointer, &name, value, allowed)
    }

    /// All members, for mappings whose keys are free.
    pub(super) fn members(&self) -> &'d Map<String, Value> {
        self.members
    }

    /// True where the key is there.
    pub(super) fn has(&self, key: &str) -> bool {
        self.members.contains_key(key)
    }

    /// The value of `key`, where it is there and good.
    pub(super) fn get<T>(&mut self, key: &str, read: impl FnOnce(&'d Value) -> Result<T, String>) -> Option<T> {
        let value = self.members.get(key)?;
        match read(value) {
            Ok(good) => Some(good),
            Err(hint) => {
                let message = format!("`{}` cannot be {}: {hint}", self.full(key), describe(value));
                self.reading.bad(&child(&self.pointer, key), message);
                None
            }
        }
    }

    /// Sets `into` where the key is there and good.
    pub(super) fn set<T>(&mut self, key: &str, into: &mut T, read: impl FnOnce(&'d Value) -> Result<T, String>) {
        if let Some(value) = self.get(key, read) {
            *into = value;
        }
    }

    /// The good items of a list; none may be there twice.
    pub(super) fn list<T: PartialEq>(
        &mut self,
        key: &str,
        read: impl Fn(&'d Value) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let items = self.get(key, |value| value.as_array().ok_or_else(|| "give a list".to_owned()))?;
        let mut good = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let at = child(&child(&self.pointer, key), &index.to_string());
            match read(item) {
                Ok(value) if good.contains(&value) => {
                    self.reading.bad(&at, format!("`{}` names {} twice", self.full(key), describe(item)));
                }
                Ok(value) => good.push(value),
                Err(hint) => {
                    self.reading.bad(&at, format!("`{}` cannot hold {}: {hint}", self.full(key), describe(item)));
                }
            }
        }
        Some(good)
    }

    /// Reports a key of this mapping.
    pub(super) fn bad_key(&mut self, key: &str, message: String) {
        self.reading.bad_key(&child(&self.pointer, key), message);
    }

    /// Reports the mapping itself.
    pub(super) fn bad(&mut self, message: String) {
        self.reading.bad_key(&self.pointer, message);
    }

    /// Where a key of this mapping is.
    pub(super) fn place(&self, key: &str, part: Part) -> crate::diagnostic::Place {
        self.reading.place(&child(&self.pointer, key), part)
    }

    fn full(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

/// Text that `read` takes.
pub(super) fn text<T>(read: impl FnOnce(&str) -> Result<T, String>) -> impl FnOnce(&Value) -> Result<T, String> {
    |value| read(value.as_str().unwrap_or_default())
}

/// A number or text that `read` takes as text: sizes may be bare bytes.
pub(super) fn quantity<T>(read: impl FnOnce(&str) -> Result<T, String>) -> impl FnOnce(&Value) -> Result<T, String> {
    |value| match value {
        Value::String(text) => read(text),
        Value::Number(number) => read(&number.to_string()),
        _ => read(""),
    }
}

/// A number that `read` takes as text.
pub(super) fn number<T>(read: impl FnOnce(&str) -> Result<T, String>) -> impl FnOnce(&Value) -> Result<T, String> {
    |value| read(&value.as_number().map(ToString::to_string).unwrap_or_default())
}

/// `true` or `false`.
pub(super) fn switch(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "give `true` or `false`".to_owned())
}

/// One of a few words.
pub(super) fn word<T: Copy>(words: &[(&str, T)]) -> impl Fn(&Value) -> Result<T, String> {
    move |value| {
        let found = value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!("give `{}`", words.join("` or `"))
        })
    }
}
