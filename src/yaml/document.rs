//! A file that was read: its value, and where every part of it stands. Owns the order of the three passes.

use serde_json::Value;

use super::events::{self, Node, Spot};
use super::preflight::{self, Lines};
use super::{Limits, strict};
use crate::diagnostic::{Diagnostic, Place};
use crate::text;

/// Which part of a mapping's entry is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The key; of a list's item, or where there is no key, the value.
    Key,
    /// The value; where nothing is written, its key.
    Value,
}

/// One YAML file that was read: always a mapping.
#[derive(Clone, Debug)]
pub struct Document {
    /// The whole value; keys in the order of the file.
    pub value: Value,
    file: String,
    text: String,
    lines: Lines,
    nodes: Vec<Node>,
}

/// Reads one file strictly: see the table of what is refused in the module's own page. `file` is the name that
/// problems carry.
///
/// # Errors
/// The first problem, with its place; nothing of such a file is used.
pub fn read(bytes: &[u8], file: &str, limits: Limits) -> Result<Document, Diagnostic> {
    let text = preflight::check(bytes, file, limits)?;
    let (expected, nodes) = events::pass(text, file, limits)?;
    let lines = Lines::new(bytes);
    let document = Document { value: expected, file: file.to_owned(), text: text.to_owned(), lines, nodes };
    match strict::value(text) {
        Ok(value) => match difference(&document.value, &value) {
            None => Ok(Document { value, ..document }),
            Some(pointer) => Err(disagreement(document.place(&pointer, Part::Value))),
        },
        Err(error) => {
            let place = match error.location() {
                Some(at) => document.spot(Spot { line: at.line(), col: at.column(), len: 1 }),
                None => document.place("", Part::Value),
            };
            Err(disagreement(place).note(text::line(&error.to_string())))
        }
    }
}

fn disagreement(place: Place) -> Diagnostic {
    Diagnostic::new("E0127", "YAML readers do not agree about this")
        .at(place)
        .note("one reader accepts it, another reads it differently or not at all")
        .help("write it in a plainer form: text in double quotes, spaces instead of tabs")
}

/// The pointer of the first part that is not the same in both.
fn difference(one: &Value, other: &Value) -> Option<String> {
    match (one, other) {
        (Value::Object(a), Value::Object(b)) if a.len() == b.len() => {
            a.iter().zip(b).find_map(|((key, a), (same, b))| {
                let below = if key == same { difference(a, b) } else { Some(String::new()) };
                below.map(|rest| format!("/{}{rest}", escape(key)))
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(at, (a, b))| difference(a, b).map(|rest| format!("/{at}{rest}")))
        }
        (a, b) => (a != b).then(String::new),
    }
}

/// A key as a part of a JSON pointer.
pub(crate) fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

impl Document {
    /// Where a part of the file is. `pointer` is a JSON pointer; where nothing is there, the nearest ancestor that is.
    #[must_use]
    pub fn place(&self, pointer: &str, part: Part) -> Place {
        let mut value = &self.value;
        let mut node = self.nodes.first();
        for segment in pointer.split('/').skip(1) {
            let name = segment.replace("~1", "/").replace("~0", "~");
            let step = match value {
                Value::Object(map) => map.iter().position(|(key, _)| *key == name).map(|at| (at, &map[&name])),
                Value::Array(list) => name.parse().ok().and_then(|at: usize| Some((at, list.get(at)?))),
                _ => None,
            };
            let below = |at: usize| node.and_then(|n| n.children.get(at)).and_then(|id| self.nodes.get(*id));
            let Some((child, inner)) = step.and_then(|(at, inner)| Some((below(at)?, inner))) else {
                break;
            };
            (node, value) = (Some(child), inner);
        }
        let spot = match (node, part) {
            (Some(Node { key: Some(key), .. }), Part::Key) => *key,
            (Some(Node { key: Some(key), at, .. }), Part::Value) if at.len == 0 => *key,
            (Some(node), _) => node.at,
            (None, _) => Spot { line: 1, col: 1, len: 1 },
        };
        self.spot(spot)
    }

    fn spot(&self, spot: Spot) -> Place {
        let head = self.lines.head(self.text.as_bytes(), spot.line);
        preflight::place(&self.file, spot.line, spot.col, spot.len, &head)
    }

    /// The name of the file, as problems carry it.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }
}
