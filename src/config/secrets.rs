//! The `secrets` section: names, where each value is, which kinds may have it. Looks at the shape only; no value is
//! ever read here.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::keys::{credential, path};
use super::settings::{Secret, SecretSource};
use crate::reading::{Reading, child, describe, variable_name};
use crate::request::Kind;

const SOURCES: [&str; 3] = ["file", "env", "credential"];

/// Reads the whole section; what is wrong with it goes to `reading`.
pub(super) fn read<'d>(reading: &mut Reading<'d>, pointer: &str, section: &'d Value) -> BTreeMap<String, Secret> {
    let mut secrets = BTreeMap::new();
    let Some(members) = reading.mapping(pointer, section, "secrets") else { return secrets };
    for (name, value) in members {
        let at = child(pointer, name);
        if let Err(hint) = variable_name(name, true) {
            reading.bad_key(&at, format!("a secret cannot be called `{name}`: {hint}"));
        }
        if let Some(secret) = one(reading, &at, name, value) {
            secrets.insert(name.clone(), secret);
        }
    }
    secrets
}

fn one<'d>(reading: &mut Reading<'d>, pointer: &str, name: &str, value: &'d Value) -> Option<Secret> {
    let full = format!("secrets.{name}");
    let members = reading.mapping(pointer, value, &full)?;
    reading.refuse_unknown(pointer, members, &["file", "env", "credential", "kinds"], &full);
    let source = source(reading, pointer, name, members);
    let kinds = kinds(reading, pointer, name, members.get("kinds"));
    Some(Secret { source: source?, kinds: kinds? })
}

fn source(reading: &mut Reading<'_>, pointer: &str, name: &str, members: &Map<String, Value>) -> Option<SecretSource> {
    let given: Vec<&str> = SOURCES.into_iter().filter(|source| members.contains_key(*source)).collect();
    let [source] = given[..] else {
        let found = if given.is_empty() { "no source".to_owned() } else { format!("`{}`", given.join("` and `")) };
        reading.bad_key(
            pointer,
            format!("secret `{name}` has {found}: give exactly one of `file`, `env` and `credential`"),
        );
        return None;
    };
    let at = child(pointer, source);
    let value = &members[source];
    let read = value.as_str().ok_or("give text").map_err(str::to_owned).and_then(|text| match source {
        "file" => path(text).map(SecretSource::File),
        "env" => variable(text).map(SecretSource::Env),
        _ => credential(text).map(SecretSource::Credential),
    });
    read.map_err(|hint| reading.bad(&at, format!("`secrets.{name}.{source}` cannot be {}: {hint}", describe(value))))
        .ok()
}

fn variable(text: &str) -> Result<String, String> {
    let letter = |b: u8| b == b'_' || b.is_ascii_alphabetic();
    let formed = text.bytes().next().is_some_and(letter) && text.bytes().all(|b| letter(b) || b.is_ascii_digit());
    if formed { Ok(text.to_owned()) } else { Err("give the name of an environment variable".to_owned()) }
}

fn kinds(reading: &mut Reading<'_>, pointer: &str, name: &str, value: Option<&Value>) -> Option<Vec<Kind>> {
    let Some(value) = value else {
        reading.bad_key(pointer, format!("secret `{name}` has no `kinds`: list the kinds that may have it"));
        return None;
    };
    let at = child(pointer, "kinds");
    let Some(items) = value.as_array().filter(|items| !items.is_empty()) else {
        let found = if value.is_array() { "an empty list".to_owned() } else { describe(value) };
        reading.bad(
            &at,
            format!("`secrets.{name}.kinds` cannot be {found}: list the kinds that may have it, as `[deploy]`"),
        );
        return None;
    };
    let mut kinds = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        match item.as_str().and_then(|text| text.parse().ok()) {
            Some(kind) => kinds.push(kind),
            None => reading.bad(
                &child(&at, &index.to_string()),
                format!("`secrets.{name}.kinds` cannot hold {}: give names of kinds", describe(item)),
            ),
        }
    }
    (kinds.len() == items.len()).then_some(kinds)
}
