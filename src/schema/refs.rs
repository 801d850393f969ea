//! Which parts of a schema are schemas again, and what a `$ref` points to: the schema itself or a file beside it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::diagnostic::Diagnostic;
use crate::schema::suggest;
use crate::yaml::{self, Document, Limits};

/// The file that has a line per kind.
pub(super) const TABLE: &str = "requests.yml";

/// How a sub-schema stands to the schema that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stand {
    /// Speaks of the same value: a branch, closed only by the schema that holds it.
    Branch,
    /// Speaks of the same value and only asks (`if`, `not`): closing it would change the answer.
    Test,
    /// Speaks of a part of the value.
    Below,
    /// Asks about a part of the value (`contains`).
    TestBelow,
    /// Only a definition, used by reference.
    Definition,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    One,
    List,
    Map,
}

/// Every keyword that holds schemas.
const APPLICATORS: [(&str, Form, Stand); 19] = [
    ("$defs", Form::Map, Stand::Definition),
    ("allOf", Form::List, Stand::Branch),
    ("anyOf", Form::List, Stand::Branch),
    ("oneOf", Form::List, Stand::Branch),
    ("then", Form::One, Stand::Branch),
    ("else", Form::One, Stand::Branch),
    ("dependentSchemas", Form::Map, Stand::Branch),
    ("if", Form::One, Stand::Test),
    ("not", Form::One, Stand::Test),
    ("properties", Form::Map, Stand::Below),
    ("patternProperties", Form::Map, Stand::Below),
    ("additionalProperties", Form::One, Stand::Below),
    ("unevaluatedProperties", Form::One, Stand::Below),
    ("propertyNames", Form::One, Stand::Below),
    ("items", Form::One, Stand::Below),
    ("prefixItems", Form::List, Stand::Below),
    ("unevaluatedItems", Form::One, Stand::Below),
    ("contentSchema", Form::One, Stand::TestBelow),
    ("contains", Form::One, Stand::TestBelow),
];

/// The schemas directly inside the value of one keyword: how they stand, and each with its pointer below the keyword.
pub(super) fn inside<'v>(keyword: &str, value: &'v Value) -> Option<(Stand, Vec<(String, &'v Value)>)> {
    let (_, form, stand) = APPLICATORS.iter().find(|(name, ..)| *name == keyword)?;
    let found = match (form, value) {
        (Form::One, value) => vec![(String::new(), value)],
        (Form::List, Value::Array(list)) => {
            list.iter().enumerate().map(|(at, item)| (format!("/{at}"), item)).collect()
        }
        (Form::Map, Value::Object(map)) => {
            map.iter().map(|(name, item)| (format!("/{}", yaml::escape(name)), item)).collect()
        }
        _ => Vec::new(),
    };
    Some((*stand, found))
}

/// One schema: a place in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    pub(super) file: String,
    /// What `#` means here: the schema's own root.
    pub(super) root: String,
    /// From the file's top.
    pub(super) pointer: String,
}

impl Target {
    /// The schema of one kind as its line says it.
    pub(super) fn kind(name: &str) -> Self {
        let pointer = format!("/{}", yaml::escape(name));
        Self { file: TABLE.to_owned(), root: pointer.clone(), pointer }
    }
}

/// The files in `schema/`, read when something first refers to them.
pub(super) struct Sources<'f> {
    files: &'f BTreeMap<String, Vec<u8>>,
    read: BTreeMap<String, Document>,
}

impl<'f> Sources<'f> {
    pub(super) fn new(files: &'f BTreeMap<String, Vec<u8>>) -> Self {
        Self { files, read: BTreeMap::new() }
    }

    /// Reads a file once.
    pub(super) fn open(&mut self, file: &str) -> Result<(), Box<Diagnostic>> {
        if self.read.contains_key(file) {
            return Ok(());
        }
        let bytes = self.files.get(file).map(Vec::as_slice).unwrap_or_default();
        let document = yaml::read(bytes, &format!("schema/{file}"), Limits::CONFIG).map_err(Box::new)?;
        self.read.insert(file.to_owned(), document);
        Ok(())
    }

    pub(super) fn document(&self, file: &str) -> Option<&Document> {
        self.read.get(file)
    }

    /// The schema at a target that `resolve` gave.
    pub(super) fn schema(&self, target: &Target) -> Option<&Value> {
        self.read.get(&target.file)?.value.pointer(&target.pointer)
    }

    /// What a `$ref` in the schema `from` points to; the problem says why it points to nothing, without its place.
    pub(super) fn resolve(&mut self, from: &Target, reference: &str) -> Result<Target, Box<Diagnostic>> {
        let refuse = |said: String| Box::new(Diagnostic::new("E0312", said));
        let shown = yaml::cut(reference);
        let (path, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let path = path.strip_prefix("./").unwrap_or(path);
        if !fragment.is_empty() && !fragment.starts_with('/') {
            return Err(Box::new(
                refuse(format!("`$ref: {shown}` names an anchor"))
                    .help(format!("write the path to it: `#/$defs/{}`", yaml::cut(fragment))),
            ));
        }
        let mut target = Target { file: path.to_owned(), root: String::new(), pointer: fragment.to_owned() };
        if path.is_empty() {
            target = Target { pointer: format!("{}{fragment}", from.root), ..from.clone() };
        } else if path.contains([':', '/', '\\']) || path.starts_with('.') {
            let help = "the files beside `schema/requests.yml` are all that a schema may refer to";
            return Err(Box::new(refuse(format!("`$ref: {shown}` does not name a file beside this one")).help(help)));
        } else if !self.files.contains_key(path) {
            let near = suggest::did_you_mean(path, self.files.keys().map(String::as_str));
            let problem = refuse(format!("`$ref: {shown}`: there is no file `schema/{}`", yaml::cut(path)));
            return Err(match near {
                Some(near) => Box::new(problem.help(near)),
                None => problem,
            });
        } else if path == TABLE {
            let end = fragment.get(1..).and_then(|rest| rest.find('/')).map_or(fragment.len(), |at| at + 1);
            target.root = fragment.get(..end).unwrap_or_default().to_owned();
        }
        self.open(&target.file)?;
        match self.schema(&target) {
            Some(Value::Object(_) | Value::Bool(_)) => Ok(target),
            Some(_) => Err(refuse(format!("`$ref: {shown}` points to something that is not a schema"))),
            None => Err(refuse(format!("`$ref: {shown}` points to nothing"))),
        }
    }
}

/// The reference of a schema, where it has one.
pub(super) fn reference(schema: &Map<String, Value>) -> Option<&str> {
    schema.get("$ref").and_then(Value::as_str)
}

/// Whether the keyword's value is a schema itself, not a list or mapping of schemas.
pub(super) fn is_one(keyword: &str) -> bool {
    APPLICATORS.iter().any(|(name, form, _)| *name == keyword && *form == Form::One)
}
