//! One kind's schema as a single schema without outside references, its object schemas closed.
//!
//! A schema that speaks of an object and says nothing of further properties gets `unevaluatedProperties: false`, and
//! all its branches (`allOf`, `anyOf`, `oneOf`, `then`, `else`, `dependentSchemas`, `$ref`) are left open, since the
//! schema that holds them sees through them. So one definition is needed in two forms: closed where it stands alone,
//! open where it is a branch. What only asks (`if`, `not`, `contains`) is left as it is, at every level.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::refs::{Sources, Stand, Target, inside, reference};

/// How a schema is taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    /// Closed, if it speaks of an object and does not say otherwise.
    Closed,
    /// A branch: open itself, closed below.
    Open,
    /// A question: nothing is added.
    Test,
}

impl Mode {
    fn inside(self, stand: Stand) -> Self {
        match (self, stand) {
            (Self::Test, _) | (_, Stand::Test | Stand::TestBelow) => Self::Test,
            (_, Stand::Branch) => Self::Open,
            (_, Stand::Below | Stand::Definition) => Self::Closed,
        }
    }
}

/// Puts one kind's schema together. All references must have been resolved before.
pub(super) fn bundle(sources: &mut Sources<'_>, start: &Target) -> Value {
    let mut work = Bundler { sources, names: BTreeMap::new(), queue: Vec::new() };
    let first = work.name(start.clone(), Mode::Closed);
    let mut definitions = Map::new();
    while let Some((target, mode, name)) = work.queue.pop() {
        let schema = work.sources.schema(&target).cloned().unwrap_or(Value::Bool(false));
        definitions.insert(name, work.take(&schema, &target, mode));
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": format!("#/$defs/{first}"),
        "$defs": definitions,
    })
}

struct Bundler<'s, 'f> {
    sources: &'s mut Sources<'f>,
    names: BTreeMap<(Target, Mode), String>,
    queue: Vec<(Target, Mode, String)>,
}

impl Bundler<'_, '_> {
    fn name(&mut self, target: Target, mode: Mode) -> String {
        if let Some(name) = self.names.get(&(target.clone(), mode)) {
            return name.clone();
        }
        let name = format!("s{}", self.names.len());
        self.names.insert((target.clone(), mode), name.clone());
        self.queue.push((target, mode, name.clone()));
        name
    }

    fn take(&mut self, schema: &Value, from: &Target, mode: Mode) -> Value {
        let Value::Object(map) = schema else {
            return schema.clone();
        };
        let mut out = Map::new();
        for (keyword, value) in map {
            if matches!(keyword.as_str(), "$defs" | "$schema" | "$id" | "$comment" | "default" | "examples") {
                continue;
            }
            let taken = match (keyword.as_str(), value) {
                ("$ref", Value::String(text)) => match self.sources.resolve(from, text) {
                    Ok(target) => json!(format!("#/$defs/{}", self.name(target, mode.inside(Stand::Branch)))),
                    Err(_) => continue,
                },
                _ => self.keyword(keyword, value, from, mode),
            };
            out.insert(keyword.clone(), taken);
        }
        let says = ["additionalProperties", "unevaluatedProperties", "const", "enum"];
        if mode == Mode::Closed
            && !says.iter().any(|word| map.contains_key(*word))
            && speaks_of_objects(self.sources, schema, from, &mut BTreeSet::new())
        {
            out.insert("unevaluatedProperties".to_owned(), Value::Bool(false));
        }
        Value::Object(out)
    }

    fn keyword(&mut self, keyword: &str, value: &Value, from: &Target, mode: Mode) -> Value {
        let Some((stand, _)) = inside(keyword, value) else {
            return value.clone();
        };
        let mode = mode.inside(stand);
        let one = matches!(value, Value::Bool(_)) || super::refs::is_one(keyword);
        match value {
            _ if one => self.take(value, from, mode),
            Value::Array(list) => list.iter().map(|item| self.take(item, from, mode)).collect(),
            Value::Object(map) => {
                Value::Object(map.iter().map(|(name, item)| (name.clone(), self.take(item, from, mode))).collect())
            }
            other => other.clone(),
        }
    }
}

/// Whether a schema, or one of its branches, describes an object.
fn speaks_of_objects(sources: &mut Sources<'_>, schema: &Value, from: &Target, seen: &mut BTreeSet<Target>) -> bool {
    let Value::Object(map) = schema else {
        return false;
    };
    let typed = match map.get("type") {
        Some(Value::String(name)) => name == "object",
        Some(Value::Array(names)) => names.iter().any(|name| name == "object"),
        _ => false,
    };
    if typed || map.contains_key("properties") || map.contains_key("patternProperties") {
        return true;
    }
    if let Some(Ok(target)) = reference(map).map(|text| sources.resolve(from, text))
        && seen.insert(target.clone())
        && let Some(referred) = sources.schema(&target).cloned()
        && speaks_of_objects(sources, &referred, &target, seen)
    {
        return true;
    }
    map.iter().filter_map(|(keyword, value)| inside(keyword, value)).any(|(stand, schemas)| {
        stand == Stand::Branch && schemas.iter().any(|(_, branch)| speaks_of_objects(sources, branch, from, seen))
    })
}
