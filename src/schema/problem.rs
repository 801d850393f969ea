//! One broken rule of a schema in words: which value, and which are allowed. Values are shown on one line, cut to 60
//! characters.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as Rule};
use serde_json::Value;

use super::suggest;
use crate::diagnostic::{Code, Diagnostic};
use crate::yaml::cut;

/// At most so many broken rules of one value are looked at.
pub(super) const MOST: usize = 1_000;

/// A problem before it has a place.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) message: String,
    pub(super) label: Option<String>,
    pub(super) notes: Vec<String>,
    pub(super) help: Vec<String>,
}

impl Said {
    fn new(message: String) -> Self {
        Self { message, ..Self::default() }
    }

    fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    fn help(mut self, help: Option<impl Into<String>>) -> Self {
        self.help.extend(help.map(Into::into));
        self
    }

    pub(super) fn into_diagnostic(self, code: Code) -> Diagnostic {
        Diagnostic { label: self.label, notes: self.notes, help: self.help, ..Diagnostic::new(code, self.message) }
    }
}

/// A value as a part of a sentence: ``the string `three` ``, `a list`.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "`null`".to_owned(),
        Value::Bool(value) => format!("`{value}`"),
        Value::Number(number) => format!("the number `{number}`"),
        Value::String(text) if text.is_empty() => "an empty string".to_owned(),
        Value::String(text) => format!("the string `{}`", cut(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
    }
}

/// A value alone, as somebody would write it.
fn written(value: &Value) -> String {
    match value {
        Value::String(text) => cut(text),
        other => cut(&other.to_string()),
    }
}

/// A message with the value that it quotes in full cut to what can be shown.
pub(super) fn shorten(message: &str, value: &str) -> String {
    if value.is_empty() { message.to_owned() } else { message.replacen(value, &cut(value), 1) }
}

/// The value at a JSON pointer as people would name it: `params.hosts[0].name`.
pub(super) fn subject(top: &str, pointer: &str) -> String {
    let mut name = top.to_owned();
    for segment in pointer.split('/').skip(1) {
        let key = segment.replace("~1", "/").replace("~0", "~");
        if !key.is_empty() && key.bytes().all(|b| b.is_ascii_digit()) {
            name.push_str(&format!("[{key}]"));
        } else {
            name.push_str(if name.is_empty() { "" } else { "." });
            name.push_str(&cut(&key));
        }
    }
    match name.char_indices().rev().nth(99) {
        Some((at, _)) if at > 0 => format!("…{}", &name[at..]),
        _ => name,
    }
}

/// What the rule says of `subject`.
pub(super) fn text(error: &ValidationError<'_>, subject: &str) -> Said {
    let value = error.instance().as_ref();
    let is = describe(value);
    let must = |what: String| Said::new(format!("`{subject}` must {what}, not {is}"));
    match error.kind() {
        Rule::Type { kind } => wrong_type(kind, value, subject),
        Rule::Enum { options } => one_of(options, value, subject),
        Rule::Constant { expected_value } => must(format!("be `{}`", written(expected_value))),
        Rule::Minimum { limit } => must(format!("be at least {limit}")).label("too small"),
        Rule::Maximum { limit } => must(format!("be at most {limit}")).label("too large"),
        Rule::ExclusiveMinimum { limit } => must(format!("be more than {limit}")).label("too small"),
        Rule::ExclusiveMaximum { limit } => must(format!("be less than {limit}")).label("too large"),
        Rule::MultipleOf { multiple_of } => must(format!("be a multiple of {multiple_of}")),
        Rule::Pattern { pattern } => must(format!("match `{}`", cut(pattern))),
        Rule::Format { format } => must(format!("be of the format `{format}`")),
        Rule::MinLength { limit } => length(value, subject, "at least", *limit).label("too short"),
        Rule::MaxLength { limit } => length(value, subject, "at most", *limit).label("too long"),
        Rule::MinItems { limit } => items(value, subject, "at least", *limit),
        Rule::MaxItems { limit } => items(value, subject, "at most", *limit),
        Rule::AdditionalItems { limit } => items(value, subject, "at most", *limit as u64),
        Rule::MinProperties { limit } => fields(value, subject, "at least", *limit),
        Rule::MaxProperties { limit } => fields(value, subject, "at most", *limit),
        Rule::UniqueItems => Said::new(format!("`{subject}` holds the same item twice")),
        Rule::UnevaluatedItems { unexpected } => {
            Said::new(format!("`{subject}` holds {} that its schema does not know", count(unexpected.len(), "item")))
        }
        Rule::Contains => Said::new(format!("`{subject}` does not hold the items that it must")),
        Rule::Required { property } => Said::new(format!("missing field `{}` in `{subject}`", written(property))),
        Rule::AdditionalProperties { unexpected } | Rule::UnevaluatedProperties { unexpected } => {
            Said::new(format!("unknown {} in `{subject}`", suggest::list(unexpected.iter().map(String::as_str))))
        }
        Rule::PropertyNames { error } => Said::new(format!(
            "the field name `{}` is not allowed in `{subject}`: {}",
            written(error.instance()),
            text(error, "it").message.replacen("`it`", "it", 1)
        )),
        Rule::FalseSchema => Said::new(format!("`{subject}` is not allowed here")).label("not allowed here"),
        Rule::Not { .. } => Said::new(format!("`{subject}` must not be {is}")),
        Rule::AnyOf { context } | Rule::OneOfNotValid { context } => forms(context, subject, &is),
        Rule::OneOfMultipleValid { .. } => {
            Said::new(format!("`{subject}` fits several forms of its schema, and must fit exactly one"))
        }
        _ => Said::new(format!("`{subject}`: {}", cut(&error.masked().to_string()))),
    }
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

fn bound(subject: &str, verb: &str, most: &str, limit: u64, what: &str, is: usize) -> Said {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    Said::new(format!("`{subject}` must {verb} {most} {}, not {is}", count(limit, what)))
}

fn length(value: &Value, subject: &str, most: &str, limit: u64) -> Said {
    bound(subject, "have", most, limit, "character", value.as_str().map_or(0, |text| text.chars().count()))
}

fn items(value: &Value, subject: &str, most: &str, limit: u64) -> Said {
    bound(subject, "hold", most, limit, "item", value.as_array().map_or(0, Vec::len))
}

fn fields(value: &Value, subject: &str, most: &str, limit: u64) -> Said {
    bound(subject, "hold", most, limit, "field", value.as_object().map_or(0, serde_json::Map::len))
}

fn wrong_type(kind: &TypeKind, value: &Value, subject: &str) -> Said {
    let names: Vec<String> = match kind {
        TypeKind::Single(name) => vec![name.to_string()],
        TypeKind::Multiple(names) => names.iter().map(|name| name.to_string()).collect(),
    };
    let words: Vec<_> = names.iter().map(|name| type_name(name)).collect();
    let wants = |name: &str| names.iter().any(|known| known == name);
    let help = match value {
        Value::Number(_) | Value::Bool(_) if wants("string") => Some("in quotes it is a string"),
        Value::String(text) if wants("integer") && text.parse::<i64>().is_ok() => Some("without quotes it is a number"),
        Value::String(text) if wants("number") && text.parse::<f64>().is_ok() => Some("without quotes it is a number"),
        Value::String(text) if wants("boolean") => match text.to_lowercase().as_str() {
            "yes" | "on" | "y" | "true" => Some("write `true`: in YAML 1.2 only `true` and `false` are booleans"),
            "no" | "off" | "n" | "false" => Some("write `false`: in YAML 1.2 only `true` and `false` are booleans"),
            _ => None,
        },
        _ => None,
    };
    Said::new(format!("`{subject}` must be {}, not {}", words.join(" or "), describe(value)))
        .label(format!("expected {}", words.join(" or ")))
        .help(help)
}

fn type_name(name: &str) -> &'static str {
    match name {
        "string" => "a string",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "`true` or `false`",
        "array" => "a list",
        "object" => "a mapping",
        _ => "`null`",
    }
}

fn one_of(options: &Value, value: &Value, subject: &str) -> Said {
    let options: Vec<String> = options.as_array().into_iter().flatten().map(written).collect();
    let allowed = suggest::list(options.iter().map(String::as_str));
    let near = value.as_str().and_then(|text| suggest::did_you_mean(text, options.iter().map(String::as_str)));
    Said::new(format!("`{subject}` must be one of {allowed}, not {}", describe(value))).help(near)
}

/// None of several forms fits: one fact per form, the first thing that is wrong with it.
fn forms(context: &[Vec<ValidationError<'static>>], subject: &str, is: &str) -> Said {
    let mut said = Said::new(format!("`{subject}` must fit one of {} forms, and {is} fits none", context.len()));
    for (number, errors) in (1..).zip(context).take(4) {
        if let Some(error) = errors.first() {
            let deeper = error.instance_path().to_string();
            let inner = if deeper.is_empty() { subject.to_owned() } else { self::subject("params", &deeper) };
            said.notes.push(format!("form {number}: {}", text(error, &inner).message));
        }
    }
    said
}
