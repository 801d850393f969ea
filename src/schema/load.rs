//! The kinds' schemas: read, checked, closed and compiled together, so that a table either works as a whole or says
//! everything that is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::compile;
use super::lint::{self, Lint};
use super::problem;
use super::refs::{Sources, TABLE, Target};
use crate::diagnostic::Diagnostic;
use crate::request::Kind;
use crate::yaml::{self, Part};

/// The schema of every kind that has a line in `schema/requests.yml`. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct Schemas(Arc<BTreeMap<Kind, Compiled>>);

/// One kind's schema, ready to use.
#[derive(Debug)]
pub(super) struct Compiled {
    /// What the user wrote.
    source: Value,
    /// What is checked: without outside references, closed.
    pub(super) bundle: Value,
    pub(super) validator: jsonschema::Validator,
}

impl Schemas {
    /// Reads `requests.yml` and what it refers to. The keys of `files` are names relative to `schema/`; a missing or
    /// empty `requests.yml` is a table without kinds.
    ///
    /// # Errors
    /// Every problem of every kind, with its place.
    pub fn load(files: &BTreeMap<String, Vec<u8>>) -> Result<Self, Vec<Diagnostic>> {
        let mut sources = Sources::new(files);
        match files.contains_key(TABLE).then(|| sources.open(TABLE)) {
            Some(Err(problem)) if problem.code != "E0124" => return Err(vec![*problem]),
            Some(Ok(())) => {}
            _ => return Ok(Self::default()),
        }
        let table =
            sources.document(TABLE).and_then(|document| document.value.as_object().cloned()).unwrap_or_default();
        let mut kinds = BTreeMap::new();
        let mut lint = Lint { sources: &mut sources, done: BTreeSet::new(), problems: Vec::new() };
        for (name, line) in &table {
            let target = Target::kind(name);
            match (name.parse::<Kind>(), line) {
                (Err(bad), _) => lint.refuse(&target, Part::Key, Diagnostic::new("E0316", lint_name(&bad, name))),
                (Ok(_), Value::Null) => lint.refuse(
                    &target,
                    Part::Key,
                    Diagnostic::new("E0310", format!("`{name}` has no schema"))
                        .help(format!("for a kind without params: `{name}: {{type: object}}`")),
                ),
                (Ok(kind), Value::Object(_)) => {
                    lint.check(&target);
                    kinds.insert(kind, target);
                }
                (Ok(_), other) => {
                    let said = format!("the schema of `{name}` must be a mapping, not {}", problem::describe(other));
                    lint.refuse(&target, Part::Value, Diagnostic::new("E0310", said));
                }
            }
        }
        if !lint.problems.is_empty() {
            lint.problems.sort_by_key(|one| one.place.as_ref().map(|at| (at.file.clone(), at.line, at.col)));
            return Err(lint.problems);
        }
        Self::compile(&mut sources, kinds)
    }

    fn compile(sources: &mut Sources<'_>, kinds: BTreeMap<Kind, Target>) -> Result<Self, Vec<Diagnostic>> {
        let (mut compiled, mut problems) = (BTreeMap::new(), Vec::new());
        for (kind, target) in kinds {
            let bundle = compile::bundle(sources, &target);
            match lint::options().build(&bundle) {
                Ok(validator) => {
                    let source = written(sources, &target);
                    compiled.insert(kind, Compiled { source, bundle, validator });
                }
                Err(error) => {
                    let said =
                        format!("the schema of `{kind}` cannot be used: {}", yaml::cut(&error.masked().to_string()));
                    let problem = Diagnostic::new("E0310", said);
                    problems.push(match sources.document(TABLE) {
                        Some(document) => problem.at(document.place(&target.pointer, Part::Key)),
                        None => problem,
                    });
                }
            }
        }
        if problems.is_empty() { Ok(Self(Arc::new(compiled))) } else { Err(problems) }
    }

    /// All kinds that have a schema, in order.
    pub fn kinds(&self) -> impl Iterator<Item = &Kind> {
        self.0.keys()
    }

    /// Whether the kind has a line in `schema/requests.yml`.
    #[must_use]
    pub fn has(&self, kind: &Kind) -> bool {
        self.0.contains_key(kind)
    }

    /// The schema as it was written; where the line is only a `$ref`, what it refers to.
    #[must_use]
    pub fn source(&self, kind: &Kind) -> Option<&Value> {
        self.0.get(kind).map(|compiled| &compiled.source)
    }

    pub(super) fn compiled(&self, kind: &Kind) -> Option<&Compiled> {
        self.0.get(kind)
    }
}

fn lint_name(bad: &crate::request::BadName, name: &str) -> String {
    problem::shorten(&bad.to_string(), name)
}

/// Follows a line that is nothing but a `$ref`.
fn written(sources: &mut Sources<'_>, start: &Target) -> Value {
    let mut target = start.clone();
    loop {
        let schema = sources.schema(&target).cloned().unwrap_or_default();
        let only = schema.as_object().filter(|map| map.len() == 1).and_then(super::refs::reference);
        match only.map(|text| sources.resolve(&target, text)) {
            Some(Ok(next)) => target = next,
            _ => return schema,
        }
    }
}
