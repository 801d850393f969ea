//! The event pass: one linear walk that refuses anchors, aliases, tags, merge keys, further documents, double keys,
//! keys that are no strings, depth and number, builds the value, and remembers where every part stands.

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Value};

use super::preflight::{self, Limits, Lines};
use super::scalar::{self, Plain};
use super::syntax;
use crate::diagnostic::{Code, Diagnostic};

/// A place within one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Spot {
    /// 1-based.
    pub(super) line: usize,
    /// 1-based, in characters.
    pub(super) col: usize,
    /// In characters; `usize::MAX` to the end of the line, 0 where nothing is written.
    pub(super) len: usize,
}

/// Where one value stands, and the values inside it in their order.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) key: Option<Spot>,
    pub(super) at: Spot,
    pub(super) children: Vec<usize>,
}

/// Walks the whole text: the value it stands for, and its nodes, the top one first.
pub(super) fn pass(text: &str, file: &str, limits: Limits) -> Result<(Value, Vec<Node>), Diagnostic> {
    let mut walk = Walk { text, file, limits, spent: 0, nodes: Vec::new(), open: Vec::new(), top: None, documents: 0 };
    for next in Parser::new_from_str(text) {
        let (event, span) = next.map_err(|error| syntax::problem(text, file, &error))?;
        walk.event(event, span)?;
    }
    match walk.top.take() {
        None => Err(walk.refuse("E0124", "this file is empty", point(1, 1))),
        Some(Value::Null) => Err(walk.refuse("E0124", "this file holds nothing", walk.first())),
        Some(value @ Value::Object(_)) => Ok((value, walk.nodes)),
        Some(other) => {
            let said = format!("this file must hold a mapping (`key: value`), not {}", name(&other));
            Err(walk.refuse("E0125", said, walk.first()))
        }
    }
}

fn name(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "a list",
        Value::String(_) => "a text",
        Value::Number(_) => "a number",
        _ => "a single value",
    }
}

fn point(line: usize, col: usize) -> Spot {
    Spot { line, col, len: 1 }
}

fn spot(span: Span) -> Spot {
    let len =
        if span.start.line() == span.end.line() { span.end.col().saturating_sub(span.start.col()) } else { usize::MAX };
    Spot { line: span.start.line(), col: span.start.col() + 1, len }
}

/// A list or mapping that is not closed yet.
struct Open {
    node: usize,
    flow: bool,
    holds: Holds,
}

enum Holds {
    List(Vec<Value>),
    Map(Map<String, Value>, Option<(String, Spot)>),
}

struct Walk<'t> {
    text: &'t str,
    file: &'t str,
    limits: Limits,
    spent: usize,
    nodes: Vec<Node>,
    open: Vec<Open>,
    top: Option<Value>,
    documents: usize,
}

impl Walk<'_> {
    fn refuse(&self, code: Code, said: impl Into<String>, at: Spot) -> Diagnostic {
        let head = Lines::new(self.text.as_bytes()).head(self.text.as_bytes(), at.line);
        let place = preflight::place(self.file, at.line, at.col, at.len, &head);
        Diagnostic::new(code, said).at(place)
    }

    fn first(&self) -> Spot {
        self.nodes.first().map_or(point(1, 1), |node| node.at)
    }

    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), Diagnostic> {
        let at = spot(span);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(self
                        .refuse("E0119", "a second document begins here", Spot { len: 3, ..at })
                        .help("one file, one document: take out the `---` or write a second file"));
                }
            }
            Event::Alias(_) => return Err(alias(self.refuse("E0116", "an alias (`*name`) is not accepted", at))),
            Event::Scalar(text, style, anchor, tag) => {
                self.plain_data(anchor, tag.is_some(), at)?;
                self.spend(at)?;
                return self.scalar(&text, style, at);
            }
            Event::SequenceStart(anchor, tag) => {
                self.plain_data(anchor, tag.is_some(), at)?;
                self.begin(Holds::List(Vec::new()), span)?;
            }
            Event::MappingStart(anchor, tag) => {
                self.plain_data(anchor, tag.is_some(), at)?;
                self.begin(Holds::Map(Map::new(), None), span)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn plain_data(&self, anchor: usize, tagged: bool, at: Spot) -> Result<(), Diagnostic> {
        if anchor != 0 {
            let (word, at) = self.word(at, '&');
            return Err(self
                .refuse("E0115", format!("the anchor `{word}` is not accepted"), at)
                .help("write the value out where it is needed; text that begins with `&` goes in quotes"));
        }
        if tagged {
            let (word, at) = self.word(at, '!');
            return Err(self
                .refuse("E0117", format!("the tag `{word}` is not accepted"), at)
                .help("leave the tag out; text that begins with `!`, or that looks like a number, goes in quotes"));
        }
        Ok(())
    }

    /// The word at or behind `at` that begins with `sign`.
    fn word(&self, at: Spot, sign: char) -> (String, Spot) {
        let lines = Lines::new(self.text.as_bytes());
        let line = String::from_utf8_lossy(lines.line(self.text.as_bytes(), at.line));
        let rest: String = line.chars().skip(at.col - 1).skip_while(|c| *c != sign).collect();
        let word: String = rest.chars().take_while(|c| !c.is_whitespace()).collect();
        let col = line.chars().count() - rest.chars().count() + 1;
        (syntax::cut(&word), Spot { col, len: word.chars().count(), ..at })
    }

    fn spend(&mut self, at: Spot) -> Result<(), Diagnostic> {
        self.spent += 1;
        if self.spent <= self.limits.nodes {
            return Ok(());
        }
        let said = format!("this file holds too many values: more than {}", self.limits.nodes);
        Err(self.refuse("E0122", said, at))
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, at: Spot) -> Result<(), Diagnostic> {
        let wants_key = matches!(self.open.last(), Some(Open { holds: Holds::Map(_, None), .. }));
        let meaning = match style {
            ScalarStyle::Plain => scalar::plain(text),
            _ => Plain::Value(Value::String(text.to_owned())),
        };
        let value = match meaning {
            Plain::Value(value) => value,
            Plain::Unfit => {
                let said = format!("the number `{}` does not fit into JSON", syntax::cut(text));
                return Err(self
                    .refuse("E0126", said, at)
                    .help("numbers are 64-bit integers or finite decimals; write anything else as text, in quotes"));
            }
        };
        if wants_key {
            return self.key(text, value, style, at);
        }
        self.node(at);
        self.put(value);
        Ok(())
    }

    fn key(&mut self, text: &str, value: Value, style: ScalarStyle, at: Spot) -> Result<(), Diagnostic> {
        let Value::String(key) = value else {
            let said = if text.is_empty() {
                "a key is missing before `:`".to_owned()
            } else {
                format!("the key `{}` is not text", syntax::cut(text))
            };
            let problem = self.refuse("E0123", said, at);
            return Err(if text.is_empty() {
                problem
            } else {
                problem.help(format!("write it in quotes: \"{text}\""))
            });
        };
        if key == "<<" && style == ScalarStyle::Plain {
            return Err(self.refuse("E0118", "the merge key `<<` is not accepted", at).help("write the fields out"));
        }
        let Some(Open { holds: Holds::Map(map, waiting), node, .. }) = self.open.last_mut() else {
            return Ok(());
        };
        if map.contains_key(&key) {
            let first = map.keys().position(|known| *known == key).unwrap_or(0);
            let child = self.nodes[*node].children.get(first).and_then(|child| self.nodes.get(*child)?.key);
            let line = child.map_or(0, |key| key.line);
            let said = format!("the key `{}` is there twice", syntax::cut(&key));
            return Err(self.refuse("E0120", said, at).note(format!("the first one is in line {line}")));
        }
        *waiting = Some((key, at));
        Ok(())
    }

    /// A new value that stands at `at`, below what is open.
    fn node(&mut self, at: Spot) -> usize {
        let id = self.nodes.len();
        let key = match self.open.last() {
            Some(Open { holds: Holds::Map(_, Some((_, key))), .. }) => Some(*key),
            _ => None,
        };
        self.nodes.push(Node { key, at, children: Vec::new() });
        if let Some(parent) = self.open.last() {
            self.nodes[parent.node].children.push(id);
        }
        id
    }

    fn put(&mut self, value: Value) {
        match self.open.last_mut().map(|open| &mut open.holds) {
            Some(Holds::List(list)) => list.push(value),
            Some(Holds::Map(map, waiting)) => {
                if let Some((key, _)) = waiting.take() {
                    map.insert(key, value);
                }
            }
            None => self.top = Some(value),
        }
    }

    fn begin(&mut self, holds: Holds, span: Span) -> Result<(), Diagnostic> {
        let at = spot(span);
        self.spend(at)?;
        if matches!(self.open.last(), Some(Open { holds: Holds::Map(_, None), .. })) {
            return Err(self.refuse("E0123", "a key must be text, not a list or a mapping", at));
        }
        if self.open.len() >= self.limits.depth {
            return Err(self.refuse("E0121", syntax::too_deep(self.limits.depth), Spot { len: 1, ..at }));
        }
        let flow = span.start.index() != span.end.index();
        let node = self.node(at);
        self.open.push(Open { node, flow, holds });
        Ok(())
    }

    fn end(&mut self, span: Span) {
        let Some(open) = self.open.pop() else { return };
        let at = &mut self.nodes[open.node].at;
        let one_line = open.flow && at.line == span.end.line();
        at.len = if one_line { (span.end.col() + 1).saturating_sub(at.col) } else { usize::MAX };
        let value = match open.holds {
            Holds::List(list) => Value::Array(list),
            Holds::Map(map, _) => Value::Object(map),
        };
        self.put(value);
    }
}

/// What to do about an alias: mostly it was meant as text.
pub(super) fn alias(problem: Diagnostic) -> Diagnostic {
    problem.help("text that begins with `*` goes in quotes; a repeated value is written out")
}
