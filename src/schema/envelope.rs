//! The envelope of a request: one table of its fields, which is checked here and printed as JSON Schema.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{problem, suggest};
use crate::diagnostic::{Code, Diagnostic};
use crate::quantity;
use crate::request::{Kind, Request, Resource, RunId};
use crate::time::Time;
use crate::yaml::{self, Document, Part};

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Kind,
    Params,
    Resource,
    Id,
    Priority,
    Duration,
    Time,
    Text,
    Flag,
}

struct Field {
    name: &'static str,
    shape: Shape,
    about: &'static str,
}

const fn field(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { name, shape, about }
}

const LOWEST: i8 = -100;
const HIGHEST: i8 = 100;

/// All fields, in the order that people write them.
const FIELDS: [Field; 10] = [
    field("kind", Shape::Kind, "What is asked for; `dispatcher handlers` lists what there is."),
    field("params", Shape::Params, "Checked by the kind's own schema: `dispatcher schema KIND`. Default: {}."),
    field("resource", Shape::Resource, "What no other run may touch meanwhile; only where the router does not say it."),
    field("id", Shape::Id, "Idempotency key: becomes the run's id, and a known one is not run again."),
    field("priority", Shape::Priority, "Higher first, then oldest first. Default: 0."),
    field("timeout", Shape::Duration, "Per attempt; may only shorten the handler's own. More than nothing."),
    field("not_before", Shape::Time, "Stays in the inbox until then."),
    field("expires_at", Shape::Time, "Not started for the first time by then: expired. Not before `not_before`."),
    field("reason", Shape::Text, "Free text, shown everywhere."),
    field("dry_run", Shape::Flag, "Only for handlers that declare it. Default: false."),
];

/// The JSON Schema of a request's envelope: what `dispatcher schema` prints.
#[must_use]
pub fn envelope() -> Value {
    let properties: Map<String, Value> = FIELDS
        .iter()
        .map(|field| {
            let mut schema = field.shape.schema();
            schema["description"] = json!(field.about);
            (field.name.to_owned(), schema)
        })
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A request to dispatcher",
        "type": "object",
        "required": ["kind"],
        "additionalProperties": false,
        "properties": properties,
    })
}

impl Shape {
    fn schema(self) -> Value {
        match self {
            Self::Kind => json!({"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}),
            Self::Params => json!({"type": "object"}),
            Self::Resource => {
                json!({"type": "string", "minLength": 1, "maxLength": 80, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$"})
            }
            Self::Id => json!({"type": "string", "format": "uuid"}),
            Self::Priority => json!({"type": "integer", "minimum": LOWEST, "maximum": HIGHEST}),
            Self::Duration => json!({"type": "string", "pattern": "^0*[1-9][0-9]*(ms|s|m|h|d)$"}),
            Self::Time => json!({"type": "string", "format": "date-time"}),
            Self::Text => json!({"type": "string"}),
            Self::Flag => json!({"type": "boolean"}),
        }
    }

    /// What to write, where something else stands.
    fn wanted(self) -> &'static str {
        match self {
            Self::Kind => "the name of a kind",
            Self::Params => "a mapping",
            Self::Resource => "a name",
            Self::Id => "a UUID",
            Self::Priority => "a whole number from -100 to 100",
            Self::Duration => "a duration such as `30s`",
            Self::Time => "a time such as `2026-11-23T22:00:00Z`",
            Self::Text => "a string",
            Self::Flag => "`true` or `false`",
        }
    }
}

/// What could be read of an envelope; the problems are told apart from it.
#[derive(Debug, Default)]
pub(super) struct Envelope {
    pub(super) kind: Option<Kind>,
    /// `None` where something else than a mapping stands there.
    pub(super) params: Option<Map<String, Value>>,
    resource: Option<Resource>,
    id: Option<RunId>,
    priority: i8,
    timeout: Option<Duration>,
    not_before: Option<Time>,
    expires_at: Option<Time>,
    reason: Option<String>,
    pub(super) dry_run: bool,
}

impl Envelope {
    /// Reads all fields. Every problem goes into `problems`, with its place; of very many, the rest is only counted.
    pub(super) fn read(document: &Document, problems: &mut Vec<Diagnostic>) -> (Self, usize) {
        let mut untold = 0;
        let mut envelope = Self { params: Some(Map::new()), ..Self::default() };
        for (name, value) in document.value.as_object().into_iter().flatten() {
            match FIELDS.iter().find(|field| field.name == name) {
                None if problems.len() >= problem::MOST => untold += 1,
                None => problems.push(unknown(document, name)),
                Some(field) => {
                    if let Err(said) = envelope.set(field, value) {
                        let mut problem = at(document, field.name, Part::Value, "E0301", said);
                        problem.label = Some(format!("expected {}", field.shape.wanted()));
                        if value.is_null() {
                            problem = problem.help("write a value, or take the line out");
                        }
                        problems.push(problem);
                    }
                }
            }
        }
        if document.value.get("kind").is_none() {
            let problem = at(document, "", Part::Value, "E0301", "missing field `kind`".to_owned());
            problems.push(problem.help("begin with `kind: NAME`; `dispatcher handlers` lists what there is"));
        }
        if let (Some(from), Some(until)) = (envelope.not_before, envelope.expires_at)
            && until < from
        {
            let said = format!("`expires_at` ({until}) is before `not_before` ({from}): it would never run");
            problems.push(at(document, "expires_at", Part::Value, "E0306", said));
        }
        (envelope, untold)
    }

    fn set(&mut self, field: &Field, value: &Value) -> Result<(), String> {
        let wrong = || format!("`{}` must be {}, not {}", field.name, field.shape.wanted(), problem::describe(value));
        let text = || value.as_str().ok_or_else(wrong);
        match field.shape {
            Shape::Params => {
                self.params = value.as_object().cloned();
                self.params.is_some().then_some(()).ok_or_else(wrong)?;
            }
            Shape::Kind => self.kind = Some(parsed(text()?)?),
            Shape::Resource => self.resource = Some(parsed(text()?)?),
            Shape::Id => self.id = Some(parsed(text()?)?),
            Shape::Priority => self.priority = priority(value).ok_or_else(wrong)?,
            Shape::Duration => self.timeout = Some(duration(text()?)?),
            Shape::Time if field.name == "not_before" => self.not_before = Some(parsed(text()?)?),
            Shape::Time => self.expires_at = Some(parsed(text()?)?),
            Shape::Text => self.reason = Some(text()?.to_owned()),
            Shape::Flag => self.dry_run = value.as_bool().ok_or_else(wrong)?,
        }
        Ok(())
    }

    /// The request, once nothing is wrong with it.
    pub(super) fn request(self) -> Option<Request> {
        Some(Request {
            kind: self.kind?,
            params: self.params?,
            resource: self.resource,
            id: self.id,
            priority: self.priority,
            timeout: self.timeout,
            not_before: self.not_before,
            expires_at: self.expires_at,
            reason: self.reason,
            dry_run: self.dry_run,
        })
    }
}

/// A problem of one envelope field.
pub(super) fn at(document: &Document, name: &str, part: Part, code: Code, said: String) -> Diagnostic {
    let pointer = if name.is_empty() { String::new() } else { format!("/{}", yaml::escape(name)) };
    let mut problem = Diagnostic::new(code, said).at(document.place(&pointer, part));
    problem.pointer = Some(pointer);
    problem
}

fn unknown(document: &Document, name: &str) -> Diagnostic {
    let names = FIELDS.iter().map(|field| field.name);
    let mut problem = at(document, name, Part::Key, "E0301", format!("unknown field `{}`", yaml::cut(name)));
    problem.label = Some("not a field of a request".to_owned());
    match suggest::did_you_mean(name, names) {
        Some(near) => problem.help(format!("{near}  `dispatcher schema` prints them all")),
        None => problem.help("what the kind asks for goes below `params`; `dispatcher schema` prints the fields"),
    }
}

fn parsed<T>(text: &str) -> Result<T, String>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| problem::shorten(&error.to_string(), text))
}

fn duration(text: &str) -> Result<Duration, String> {
    match quantity::parse_duration(text) {
        Ok(Duration::ZERO) => Err(format!("`timeout` must be more than nothing, not `{}`", yaml::cut(text))),
        Ok(duration) => Ok(duration),
        Err(error) => Err(problem::shorten(&error.to_string(), text)),
    }
}

/// As in JSON Schema, `1.0` is a whole number.
fn priority(value: &Value) -> Option<i8> {
    (LOWEST..=HIGHEST).find(|number| value.as_f64() == Some(f64::from(*number)))
}
