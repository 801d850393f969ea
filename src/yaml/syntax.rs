//! The words for text that is not YAML: what was opened and not closed, what was expected. Owns every sentence that
//! stands for a parser's own.

use saphyr_parser::ScanError;

use super::events;
use super::preflight::{self, Lines};
use crate::diagnostic::{Diagnostic, Place};
use crate::text;

/// A parser's words (a part of them), what a person reads, what stands at the place, and what to do.
type Saying = (&'static str, &'static str, &'static str, &'static str);

const QUOTE: &str = "put the text in quotes: \"…\"";
const SAYINGS: [Saying; 20] = [
    ("mapping values are not allowed", "a second `key: value` in this place", "not expected here", QUOTE),
    ("illegal placement of ':'", "a `:` in this place", "not expected here", QUOTE),
    ("tab", "a tab is used as indentation", "expected spaces", "indent with spaces"),
    ("simple key expect", "a line has no `: ` after its key", "expected `key: value` before this", ""),
    ("expected '-' indicator", "a list goes on without `- `", "expected `- ` or less indentation", ""),
    ("block mapping, did not find expected key", "the indentation fits nothing above", "expected `key: value`", ""),
    ("invalid trailing content", "text goes on after its closing quote", "expected the end of the line", ""),
    ("unexpected character", "no text can begin with this character", "not expected here", QUOTE),
    ("misplaced bracket", "this bracket closes nothing", "nothing is open", QUOTE),
    ("unknown escape", "a `\\` escape that does not exist", "in this text", "write `\\\\`, or use single quotes"),
    (
        "hexadecimal number",
        "an escape without its hexadecimal digits",
        "in this text",
        "write `\\\\`, or use single quotes",
    ),
    (
        "Unicode character escape",
        "an escape that is no character",
        "in this text",
        "write `\\\\`, or use single quotes",
    ),
    ("document end marker", "text after the `...` that ends the document", "not expected here", ""),
    ("<document start>", "text after the end of the document", "not expected here", "indent it, or give it a key"),
    ("document indicator", "a document marker inside a quoted text", "expected a closing quote", ""),
    ("block scalar", "the text block after `|` or `>` is broken", "here", "indent all its lines by the same spaces"),
    ("invalid indentation", "the indentation fits nothing above", "here", ""),
    ("plain scalar", "this text has a form that YAML does not know", "here", QUOTE),
    ("flow", "a list or mapping in brackets is broken", "not expected here", ""),
    ("block sequence entries", "a list item in this place", "not expected here", "begin the list on a line of its own"),
];

/// The problem that a parser's refusal stands for.
pub(super) fn problem(text: &str, file: &str, error: &ScanError) -> Diagnostic {
    let at = Mark { line: error.marker().line().max(1), col: error.marker().col() + 1 };
    let source = Source { text, file, lines: Lines::new(text.as_bytes()) };
    let info = error.info();
    if info.contains("recursion limit") {
        return Diagnostic::new("E0121", too_deep(super::Limits::REQUEST.depth)).at(source.place(at, 1));
    }
    if info.contains("anchor") {
        let word = source.word(at);
        let alias = word.starts_with('*');
        let (code, what) = if alias { ("E0116", "alias") } else { ("E0115", "anchor") };
        let said = format!("the {what} `{}` is not accepted", cut(&word));
        let problem = Diagnostic::new(code, said).at(source.place(at, word.chars().count()));
        return if alias { events::alias(problem) } else { problem };
    }
    if info.contains("tag") && !info.contains("tabs") {
        let word = source.word(at);
        let said = format!("the tag `{}` is not accepted", cut(&word));
        return Diagnostic::new("E0117", said).at(source.place(at, word.chars().count())).help(QUOTE);
    }
    if info.contains("byte order mark") {
        return Diagnostic::new("E0112", "a byte order mark is not allowed here").at(source.place(at, 1));
    }
    if info.contains("quoted scalar") && (info.contains("indentation") || info.contains("end of stream")) {
        return source.never_closed_text(at);
    }
    if let Some(open) = source.open_bracket(at).filter(|_| flow(info)) {
        return source.never_closed(&open, at);
    }
    let known = SAYINGS.iter().find(|(part, ..)| info.contains(part));
    let (said, label, help) = known.map_or((info, "here", ""), |(_, said, label, help)| (*said, *label, *help));
    let problem = not_yaml(said, source.place(source.within(at), 1), label);
    if help.is_empty() { problem } else { problem.help(help) }
}

/// The message about a list or mapping that lies too deep.
pub(super) fn too_deep(depth: usize) -> String {
    format!("this is nested too deeply: more than {depth} lists and mappings inside one another")
}

/// A value of the file as a part of a message: one line, at most 60 characters.
pub(crate) fn cut(value: &str) -> String {
    let mut short: String = value.chars().take(60).collect();
    if short.len() < value.len() {
        short.push('…');
    }
    text::line(&short)
}

fn flow(info: &str) -> bool {
    ["flow", "illegal placement", "expected node content", "eof", "mapping values", "simple key"]
        .iter()
        .any(|part| info.contains(part))
}

fn not_yaml(said: &str, place: Place, label: &str) -> Diagnostic {
    let mut problem = Diagnostic::new("E0101", format!("this is not valid YAML: {said}"))
        .at(place)
        .note("YAML 1.2; anchors and custom tags are not accepted");
    problem.label = Some(label.to_owned());
    problem
}

/// A place as people count: both from 1, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mark {
    line: usize,
    col: usize,
}

struct Source<'t> {
    text: &'t str,
    file: &'t str,
    lines: Lines,
}

impl Source<'_> {
    fn line(&self, line: usize) -> String {
        String::from_utf8_lossy(self.lines.line(self.text.as_bytes(), line)).into_owned()
    }

    fn place(&self, at: Mark, len: usize) -> Place {
        preflight::place(self.file, at.line, at.col, len, &self.line(at.line))
    }

    fn word(&self, at: Mark) -> String {
        self.line(at.line).chars().skip(at.col - 1).take_while(|c| !c.is_whitespace()).collect()
    }

    /// The parser sometimes stops behind the last line; people look at the last one that has text.
    fn within(&self, at: Mark) -> Mark {
        if at.col > 1 || !self.line(at.line).trim().is_empty() {
            return at;
        }
        let last = (1..at.line).rev().map(|line| (line, self.line(line))).find(|(_, text)| !text.trim().is_empty());
        last.map_or(at, |(line, text)| Mark { line, col: text.trim_end().chars().count() })
    }

    fn at_end(&self, at: Mark) -> bool {
        let rest = self.line(at.line).chars().skip(at.col - 1).any(|c| !c.is_whitespace());
        let below = self.text.lines().skip(at.line).any(|line| !line.trim().is_empty());
        !rest && !below
    }

    fn never_closed_text(&self, at: Mark) -> Diagnostic {
        let quote = self.word(at).chars().next().filter(|c| matches!(c, '"' | '\''));
        let label =
            quote.map_or("expected a closing quote".to_owned(), |quote| format!("expected a closing `{quote}`"));
        not_yaml("the text opened here is never closed", self.place(at, 1), &label)
    }

    fn never_closed(&self, open: &Bracket, at: Mark) -> Diagnostic {
        let (what, close) = if open.list { ("list", ']') } else { ("mapping", '}') };
        let said = format!("the {what} opened here is never closed");
        let place = self.place(open.at, 1);
        if self.at_end(at) {
            return not_yaml(&said, place, &format!("expected `{close}` before the end of the file"));
        }
        if open.at.line < at.line {
            return not_yaml(&said, place, &format!("expected `{close}` before the next key"));
        }
        let said = format!("the {what} is broken here");
        not_yaml(&said, self.place(at, 1), &format!("expected `,` or `{close}`"))
    }

    /// The innermost bracket that is open before `until`, as a person would see it: quotes and comments skipped, in
    /// block context only brackets that a value begins with.
    fn open_bracket(&self, until: Mark) -> Option<Bracket> {
        let mut open: Vec<Bracket> = Vec::new();
        for number in 1..=until.line {
            let line = self.line(number);
            let (mut quote, mut before) = (None, ' ');
            for (col, c) in (1..).zip(line.chars()) {
                let at = Mark { line: number, col };
                if at >= until {
                    break;
                }
                let begins = !open.is_empty() || matches!(before, ' ' | '\t');
                match (quote, c) {
                    (Some(q), _) if q == c => quote = None,
                    (Some(_), _) => {}
                    (None, '"' | '\'') if !before.is_alphanumeric() => quote = Some(c),
                    (None, '#') if matches!(before, ' ' | '\t') => break,
                    (None, '[' | '{') if begins => open.push(Bracket { at, list: c == '[' }),
                    (None, ']' | '}') if open.last().is_some_and(|last| last.list == (c == ']')) => {
                        open.pop();
                    }
                    _ => {}
                }
                before = c;
            }
        }
        open.pop()
    }
}

struct Bracket {
    at: Mark,
    list: bool,
}
