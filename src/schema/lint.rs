//! What is wrong with a schema as it is written: what the meta-schema says, and what it lets through. A misspelt
//! keyword is no error to JSON Schema, it is only never checked; here it is one.

use std::collections::BTreeSet;

use jsonschema::PatternOptions;
use serde_json::{Map, Value, json};

use super::problem;
use super::refs::{Sources, Stand, Target, inside, reference};
use super::suggest;
use crate::diagnostic::{Code, Diagnostic};
use crate::yaml::{self, Part};

/// A compiled pattern takes at most this many bytes.
const PATTERN_BYTES: usize = 1 << 20;

const TYPES: [&str; 7] = ["string", "integer", "number", "boolean", "array", "object", "null"];

const FORMATS: [&str; 18] = [
    "date-time",
    "date",
    "time",
    "duration",
    "email",
    "idn-email",
    "hostname",
    "ipv4",
    "ipv6",
    "uri",
    "uri-reference",
    "iri",
    "iri-reference",
    "uuid",
    "uri-template",
    "json-pointer",
    "relative-json-pointer",
    "regex",
];

const KEYWORDS: [&str; 57] = [
    "$schema",
    "$id",
    "$ref",
    "$defs",
    "$comment",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentSchemas",
    "prefixItems",
    "items",
    "contains",
    "properties",
    "patternProperties",
    "additionalProperties",
    "propertyNames",
    "unevaluatedItems",
    "unevaluatedProperties",
    "type",
    "const",
    "enum",
    "multipleOf",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "maxContains",
    "minContains",
    "maxProperties",
    "minProperties",
    "required",
    "dependentRequired",
    "title",
    "description",
    "default",
    "deprecated",
    "readOnly",
    "writeOnly",
    "examples",
    "format",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "$anchor",
    "$dynamicAnchor",
    "$dynamicRef",
    "$vocabulary",
];

/// The options that every validator here is built with.
pub(super) fn options() -> jsonschema::ValidationOptions<'static> {
    jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .should_validate_formats(true)
        .should_ignore_unknown_formats(false)
        .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_BYTES))
        .offline()
}

/// Checks a kind's schema and all that it refers to. Each part is checked once, however many kinds use it.
pub(super) struct Lint<'s, 'f> {
    pub(super) sources: &'s mut Sources<'f>,
    pub(super) done: BTreeSet<Target>,
    pub(super) problems: Vec<Diagnostic>,
}

impl Lint<'_, '_> {
    /// Checks the schema at `start` and what it refers to.
    pub(super) fn check(&mut self, start: &Target) {
        let mut queue = vec![start.clone()];
        while let Some(target) = queue.pop() {
            if !self.done.insert(target.clone()) {
                continue;
            }
            let Some(schema) = self.sources.schema(&target).cloned() else { continue };
            let before = self.problems.len();
            self.walk(&schema, &target, &target.pointer.clone(), &mut queue);
            if self.problems.len() == before {
                self.meta(&schema, &target);
            }
        }
        self.circle(start);
    }

    /// A problem with a whole line of the table.
    pub(super) fn refuse(&mut self, target: &Target, part: Part, problem: Diagnostic) {
        self.report(target, &target.pointer, part, problem);
    }

    fn report(&mut self, target: &Target, pointer: &str, part: Part, problem: Diagnostic) {
        let problem = match (&problem.place, self.sources.document(&target.file)) {
            (None, Some(document)) => problem.at(document.place(pointer, part)),
            _ => problem,
        };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn walk(&mut self, schema: &Value, from: &Target, pointer: &str, queue: &mut Vec<Target>) {
        let Value::Object(map) = schema else {
            if !schema.is_boolean() {
                let said = format!("a schema is a mapping, not {}", problem::describe(schema));
                self.report(from, pointer, Part::Value, Diagnostic::new("E0310", said));
            }
            return;
        };
        for (keyword, value) in map {
            let at = format!("{pointer}/{}", yaml::escape(keyword));
            if let Some(problem) = keyword_problem(keyword, map) {
                self.report(from, &at, Part::Key, problem);
            }
            match keyword.as_str() {
                "type" => self.types(value, from, &at),
                "format" => self.format(value, from, &at),
                "pattern" => self.pattern(value.as_str().unwrap_or_default(), from, &at, Part::Value),
                "$schema" if value.as_str().map(|uri| uri.trim_end_matches('#')) != Some(DRAFT) => {
                    let said = format!("`$schema` must be `{DRAFT}`, not {}", problem::describe(value));
                    self.report(from, &at, Part::Value, Diagnostic::new("E0310", said));
                }
                "patternProperties" => {
                    for name in value.as_object().into_iter().flat_map(Map::keys) {
                        self.pattern(name, from, &format!("{at}/{}", yaml::escape(name)), Part::Key);
                    }
                }
                "$ref" => match value.as_str().map(|text| self.sources.resolve(from, text)) {
                    Some(Ok(target)) => queue.push(target),
                    Some(Err(problem)) => self.report(from, &at, Part::Value, *problem),
                    None => {}
                },
                _ => {}
            }
            for (rest, inner) in inside(keyword, value).map(|(_, schemas)| schemas).unwrap_or_default() {
                self.walk(inner, from, &format!("{at}{rest}"), queue);
            }
        }
    }

    fn types(&mut self, value: &Value, from: &Target, at: &str) {
        let names = match value {
            Value::Array(list) => list.iter().enumerate().map(|(i, name)| (format!("{at}/{i}"), name)).collect(),
            one => vec![(at.to_owned(), one)],
        };
        for (at, name) in names {
            if name.as_str().is_some_and(|name| TYPES.contains(&name)) {
                continue;
            }
            let said = format!("`type` must be one of {}, not {}", suggest::list(TYPES), problem::describe(name));
            let mut problem = Diagnostic::new("E0310", said);
            if name.is_null() {
                problem = problem.help("write it in quotes: \"null\"");
            } else if let Some(near) = name.as_str().and_then(|name| suggest::did_you_mean(name, TYPES)) {
                problem = problem.help(near);
            }
            self.report(from, &at, Part::Value, problem);
        }
    }

    fn format(&mut self, value: &Value, from: &Target, at: &str) {
        let Some(name) = value.as_str().filter(|name| !FORMATS.contains(name)) else { return };
        let said = format!("unknown format `{}`", yaml::cut(name));
        let help = suggest::did_you_mean(name, FORMATS).unwrap_or_else(|| format!("known: {}", FORMATS.join(", ")));
        self.report(from, at, Part::Value, Diagnostic::new("E0314", said).help(help));
    }

    fn pattern(&mut self, pattern: &str, from: &Target, at: &str, part: Part) {
        if options().build(&json!({ "pattern": pattern })).is_ok() {
            return;
        }
        let said = format!("the pattern `{}` cannot be used", yaml::cut(pattern));
        let problem = Diagnostic::new("E0313", said)
            .note("patterns are matched in linear time: no look-around, no back-references, and of bounded size");
        self.report(from, at, part, problem);
    }

    fn meta(&mut self, schema: &Value, target: &Target) {
        let mut found: Vec<(String, Diagnostic)> = Vec::new();
        for error in jsonschema::draft202012::meta::validator().iter_errors(schema).take(problem::MOST) {
            let path = error.instance_path().to_string();
            let subject = if path.is_empty() { "the schema".to_owned() } else { problem::subject("", &path) };
            let said = problem::text(&error, &subject);
            found.push((format!("{}{path}", target.pointer), said.into_diagnostic("E0310")));
        }
        for (pointer, problem) in found {
            self.report(target, &pointer, Part::Value, problem);
        }
    }

    /// Finds a schema that leads back to itself while still speaking of the same value: checking it would never end.
    fn circle(&mut self, start: &Target) {
        let (mut done, mut queue) = (BTreeSet::new(), vec![start.clone()]);
        while let Some(target) = queue.pop() {
            if !done.insert(target.clone()) {
                continue;
            }
            let Some(schema) = self.sources.schema(&target).cloned() else { continue };
            let (mut here, mut all) = (Vec::new(), Vec::new());
            self.leads_to(&schema, &target, true, &mut here, &mut all);
            let (mut seen, mut next) = (BTreeSet::new(), here);
            while let Some(step) = next.pop() {
                if step == target {
                    let said = "this schema refers to itself without going deeper into the value";
                    let pointer = target.pointer.clone();
                    self.report(&target, &pointer, Part::Key, Diagnostic::new("E0315", said));
                    return;
                }
                if let Some(schema) = self.sources.schema(&step).cloned().filter(|_| seen.insert(step.clone())) {
                    self.leads_to(&schema, &step, true, &mut next, &mut Vec::new());
                }
            }
            queue.append(&mut all);
        }
    }

    /// The targets of all references in a schema; into `here` those that speak of the same value.
    fn leads_to(&mut self, schema: &Value, from: &Target, same: bool, here: &mut Vec<Target>, all: &mut Vec<Target>) {
        let Value::Object(map) = schema else { return };
        if let Some(Ok(target)) = reference(map).map(|text| self.sources.resolve(from, text)) {
            if same {
                here.push(target.clone());
            }
            all.push(target);
        }
        for (stand, schemas) in map.iter().filter_map(|(keyword, value)| inside(keyword, value)) {
            let same = same && matches!(stand, Stand::Branch | Stand::Test);
            for (_, inner) in schemas.into_iter().filter(|_| stand != Stand::Definition) {
                self.leads_to(inner, from, same, here, all);
            }
        }
    }
}

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

fn keyword_problem(keyword: &str, map: &Map<String, Value>) -> Option<Diagnostic> {
    let (code, said): (Code, String) = match keyword {
        "$anchor" | "$dynamicAnchor" | "$dynamicRef" | "$vocabulary" => {
            ("E0312", format!("`{keyword}` is not supported: `$ref` goes by path, such as `#/$defs/name`"))
        }
        "then" | "else" if !map.contains_key("if") => ("E0311", format!("`{keyword}` without `if` is never checked")),
        _ if KEYWORDS.contains(&keyword) || keyword.starts_with("x-") => return None,
        _ => ("E0311", format!("unknown keyword `{}`", yaml::cut(keyword))),
    };
    let old = match keyword {
        "definitions" => Some("write `$defs`"),
        "dependencies" => Some("write `dependentRequired` or `dependentSchemas`"),
        "additionalItems" => Some("write `prefixItems` and `items`"),
        "nullable" => Some("write `type: [string, \"null\"]`"),
        "example" => Some("write `examples` and a list"),
        "id" => Some("a field of this name stands below `properties`"),
        _ => None,
    };
    let problem = Diagnostic::new(code, said);
    Some(match old.map(str::to_owned).or_else(|| suggest::did_you_mean(keyword, KEYWORDS)) {
        Some(help) if code == "E0311" && !KEYWORDS.contains(&keyword) => problem.help(help),
        _ => problem,
    })
}
