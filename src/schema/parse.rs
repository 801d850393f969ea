//! A request from its bytes: every problem at once, and the exit code that the worst of them has.

use std::collections::BTreeSet;
use std::rc::Rc;

use jsonschema::error::ValidationErrorKind as Rule;
use serde_json::{Map, Value};

use super::envelope::{Envelope, at};
use super::load::{Compiled, Schemas};
use super::refs::inside;
use super::{problem, suggest};
use crate::diagnostic::{Diagnostic, Rejection};
use crate::request::{Kind, Request};
use crate::yaml::{self, Document, Limits, Part};

/// More problems than this are only counted.
const SHOWN: usize = 50;

/// What the router knows of the kinds that have a handler.
pub trait Catalog {
    /// The names of all kinds.
    fn kinds(&self) -> Vec<String>;
    /// What the envelope of a kind may hold; `None` for a kind without a handler.
    fn facts(&self, kind: &Kind) -> Option<KindFacts>;
}

/// What the envelope of one kind may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindFacts {
    /// The request may name its resource: the router has no template for it.
    pub takes_resource: bool,
    /// The handler declares that it can run dry.
    pub dry_run: bool,
}

/// Reads and checks one request. `file` is the name that problems carry.
///
/// # Errors
/// A rejection with every problem and the exit code: 64 unknown kind, 78 a kind without schema or handler, else 65.
/// YAML problems stand alone.
pub fn parse(bytes: &[u8], file: &str, schemas: &Schemas, catalog: &dyn Catalog) -> Result<Request, Rejection> {
    let document = yaml::read(bytes, file, Limits::REQUEST).map_err(|problem| Rejection::one(65, problem))?;
    let mut problems = Vec::new();
    let (envelope, mut untold) = Envelope::read(&document, &mut problems);
    let mut verdict = (65, None);
    if let Some(kind) = &envelope.kind {
        let facts = catalog.facts(kind);
        let compiled = schemas.compiled(kind);
        verdict = match (facts, compiled) {
            (None, None) => (64, Some(unknown_kind(&document, kind, catalog))),
            (None, Some(_)) => (78, Some(no_handler(&document, kind))),
            (Some(_), None) => (78, Some(no_schema(&document, kind, envelope.params.as_ref()))),
            (Some(_), Some(_)) => (65, None),
        };
        if let Some(facts) = facts {
            not_declared(&document, kind, facts, &envelope, &mut problems);
        }
        if let (Some(compiled), Some(params)) = (compiled, &envelope.params) {
            untold += check_params(&document, kind, compiled, &Value::Object(params.clone()), &mut problems);
        }
    }
    problems.sort_by_key(|problem| problem.place.as_ref().map(|place| (place.line, place.col)));
    let (rc, first) = verdict;
    problems.splice(0..0, first);
    match envelope.request() {
        Some(request) if problems.is_empty() => Ok(request),
        _ => Err(Rejection { rc, problems: limited(problems, untold, file) }),
    }
}

fn limited(mut problems: Vec<Diagnostic>, untold: usize, file: &str) -> Vec<Diagnostic> {
    let more = problems.len().saturating_sub(SHOWN) + untold;
    if more > 0 {
        problems.truncate(SHOWN);
        let plural = if more == 1 { "" } else { "s" };
        problems.push(Diagnostic::new("E0302", format!("and {more} more problem{plural} in `{}`", yaml::cut(file))));
    }
    problems
}

fn unknown_kind(document: &Document, kind: &Kind, catalog: &dyn Catalog) -> Diagnostic {
    let kinds = catalog.kinds();
    let mut problem = at(document, "kind", Part::Value, "E0201", format!("unknown kind `{kind}`"));
    problem.label = Some("no handler has this name".to_owned());
    let all = match kinds.len() {
        0 => return problem.help(format!("there is no handler yet: dispatcher new {kind}")),
        1 => "`dispatcher handlers` lists the only one".to_owned(),
        count => format!("`dispatcher handlers` lists all {count}"),
    };
    match suggest::did_you_mean(kind.as_str(), kinds.iter().map(String::as_str)) {
        Some(near) => problem.help(format!("{near}  {all}")),
        None => problem.help(all),
    }
}

fn no_handler(document: &Document, kind: &Kind) -> Diagnostic {
    let mut problem = at(document, "kind", Part::Value, "E0202", format!("the kind `{kind}` has no handler"));
    problem.label = Some("there is only a schema for it".to_owned());
    problem.help(format!("add an executable `handlers/{kind}`, or a line `{kind}: FILE` to handlers/index.yml"))
}

fn no_schema(document: &Document, kind: &Kind, params: Option<&Map<String, Value>>) -> Diagnostic {
    let said = format!("the kind `{kind}` has no line in `schema/requests.yml`");
    let mut problem = at(document, "kind", Part::Value, "E0303", said);
    problem.label = Some("its params cannot be checked".to_owned());
    problem.help(format!("add this line to schema/requests.yml: {}", schema_line(kind, params)))
}

/// The line that would let this very request through.
fn schema_line(kind: &Kind, params: Option<&Map<String, Value>>) -> String {
    let quoted = |name: &str| match name {
        "true" | "false" | "null" | "True" | "False" | "Null" | "TRUE" | "FALSE" | "NULL" => format!("\"{name}\""),
        name if name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)) =>
        {
            name.to_owned()
        }
        name => Value::from(name).to_string(),
    };
    let params = params.into_iter().flatten().collect::<Vec<_>>();
    let name = quoted(kind.as_str());
    if params.is_empty() || params.len() > 8 || params.iter().any(|(name, _)| name.len() > 40) {
        let open = if params.is_empty() { "" } else { ", additionalProperties: true" };
        return format!("{name}: {{type: object{open}}}");
    }
    let fields: Vec<_> = params
        .iter()
        .map(|(name, value)| {
            let holds = match value {
                Value::Null => "\"null\"",
                Value::Bool(_) => "boolean",
                Value::Number(number) if number.is_f64() => "number",
                Value::Number(_) => "integer",
                Value::String(_) => "string",
                Value::Array(_) => "array",
                Value::Object(_) => "object, additionalProperties: true",
            };
            format!("{}: {{type: {holds}}}", quoted(name))
        })
        .collect();
    format!("{name}: {{type: object, properties: {{{}}}}}", fields.join(", "))
}

fn not_declared(document: &Document, kind: &Kind, facts: KindFacts, envelope: &Envelope, to: &mut Vec<Diagnostic>) {
    if document.value.get("resource").is_some() && !facts.takes_resource {
        let said = format!("`resource` cannot be given: the router names the resource of `{kind}`");
        to.push(at(document, "resource", Part::Key, "E0304", said).help("take the line out"));
    }
    if envelope.dry_run && !facts.dry_run {
        let said = format!("`{kind}` cannot run dry: its handler does not declare `dry_run`");
        let help = "take the line out, or give the handler `dry_run: true` in handlers/index.yml";
        to.push(at(document, "dry_run", Part::Key, "E0305", said).help(help));
    }
}

/// One problem of the params, with its place.
fn found(document: &Document, path: &str, part: Part, said: problem::Said) -> Diagnostic {
    let pointer = format!("/params{path}");
    let mut problem = said.into_diagnostic("E0302").at(document.place(&pointer, part));
    problem.pointer = Some(pointer);
    problem
}

/// Adds the problems of the params; gives the number of those that were not looked at, of very many.
fn check_params(
    document: &Document,
    kind: &Kind,
    schema: &Compiled,
    params: &Value,
    to: &mut Vec<Diagnostic>,
) -> usize {
    let (mut unknown, mut others) = (Vec::new(), BTreeSet::new());
    let mut problems = Vec::new();
    let mut errors = schema.validator.iter_errors(params);
    let mut untold = 0;
    for error in errors.by_ref().take(problem::MOST) {
        let path = error.instance_path().to_string();
        let subject = problem::subject("params", &path);
        let said = problem::text(&error, &subject);
        match error.kind() {
            Rule::AdditionalProperties { unexpected } | Rule::UnevaluatedProperties { unexpected } => {
                let known = Rc::new(known_names(&schema.bundle, error.schema_path().as_str()));
                let room = problem::MOST.saturating_sub(unknown.len());
                untold += unexpected.len().saturating_sub(room);
                unknown
                    .extend(unexpected.iter().take(room).map(|name| (path.clone(), name.clone(), Rc::clone(&known))));
                continue;
            }
            Rule::Required { property } => {
                let mut problem = found(document, &path, Part::Key, said);
                problem.label = Some(format!("needs `{}`", yaml::cut(property.as_str().unwrap_or_default())));
                problems.push(problem.help(format!("`dispatcher schema {kind}` prints what it needs")));
            }
            Rule::PropertyNames { error } => {
                let name = error.instance().as_str().unwrap_or_default();
                problems.push(found(document, &format!("{path}/{}", yaml::escape(name)), Part::Key, said));
            }
            Rule::FalseSchema => problems.push(found(document, &path, Part::Key, said)),
            _ => problems.push(found(document, &path, Part::Value, said)),
        }
        others.insert(path);
    }
    let mut told = BTreeSet::new();
    for (path, name, known) in unknown {
        let pointer = format!("{path}/{}", yaml::escape(&name));
        let near = others.iter().any(|other| *other == path || other.starts_with(&format!("{path}/")));
        // A field that the schema knows counts as unknown only because the branch that knows it failed.
        if (known.contains(&name) && near) || !told.insert(pointer.clone()) {
            continue;
        }
        problems.push(unknown_field(document, kind, (&path, &pointer), &name, &known));
    }
    // Two branches can say the same.
    let mut said = BTreeSet::new();
    to.extend(problems.into_iter().filter(|one| said.insert((one.pointer.clone(), one.message.clone()))));
    untold + errors.count()
}

fn unknown_field(
    document: &Document,
    kind: &Kind,
    (path, pointer): (&str, &str),
    name: &str,
    known: &BTreeSet<String>,
) -> Diagnostic {
    let (subject, shown) = (problem::subject("params", path), yaml::cut(name));
    let names = || known.iter().map(String::as_str);
    let (message, label, help) = if known.contains(name) {
        let said = format!("field `{shown}` in `{subject}` does not go with the others");
        (said, "not allowed with these fields".to_owned(), None)
    } else {
        let label = if path.is_empty() { format!("not a field of {kind}") } else { "not a field here".to_owned() };
        let near = suggest::did_you_mean(name, names());
        let help = match near {
            None if known.is_empty() => Some("no fields are allowed here".to_owned()),
            None => Some(format!("allowed: {}", suggest::list(names()))),
            near => near,
        };
        (format!("unknown field `{shown}` in `{subject}`"), label, help)
    };
    let print = format!("`dispatcher schema {kind}`");
    let help = vec![help.map_or(print.clone(), |help| format!("{help}  {print}"))];
    found(document, pointer, Part::Key, problem::Said { message, label: Some(label), notes: Vec::new(), help })
}

/// The names of all fields that a schema and its branches know. `keyword` is the pointer of the keyword that refused.
fn known_names(bundle: &Value, keyword: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let Some(schema) = keyword.rsplit_once('/').and_then(|(schema, _)| bundle.pointer(schema)) else {
        return names;
    };
    let (mut queue, mut seen) = (vec![schema], BTreeSet::new());
    while let Some(schema) = queue.pop().and_then(Value::as_object) {
        names.extend(schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys).cloned());
        if let Some(reference) = super::refs::reference(schema)
            && seen.insert(reference)
        {
            queue.extend(bundle.pointer(reference.trim_start_matches('#')));
        }
        for (stand, schemas) in schema.iter().filter_map(|(keyword, value)| inside(keyword, value)) {
            if stand == super::refs::Stand::Branch {
                queue.extend(schemas.into_iter().map(|(_, inner)| inner));
            }
        }
    }
    names
}
