//! The walk over a YAML document that becomes typed configuration: unknown keys, wrong types and their places are
//! collected, so that all problems of a file are reported at once. Knows no key of any file.

use serde_json::{Map, Value};

use crate::diagnostic::{Code, Diagnostic, Place};
use crate::quantity::{show_duration, show_size};
use crate::text::nearest;
use crate::yaml::{self, Document, Part};

/// Collects the problems of one document.
pub(crate) struct Reading<'d> {
    doc: &'d Document,
    unknown: Code,
    bad: Code,
    problems: Vec<Diagnostic>,
}

impl<'d> Reading<'d> {
    /// A walk over `doc`; unknown keys are reported as `unknown`, everything else as `bad`.
    pub(crate) fn new(doc: &'d Document, unknown: Code, bad: Code) -> Self {
        Self { doc, unknown, bad, problems: Vec::new() }
    }

    /// Where a part of the document is.
    pub(crate) fn place(&self, pointer: &str, part: Part) -> Place {
        self.doc.place(pointer, part)
    }

    /// Reports a value.
    pub(crate) fn bad(&mut self, pointer: &str, message: String) {
        self.report(pointer, Part::Value, message);
    }

    /// Reports a key.
    pub(crate) fn bad_key(&mut self, pointer: &str, message: String) {
        self.report(pointer, Part::Key, message);
    }

    fn report(&mut self, pointer: &str, part: Part, message: String) {
        let mut problem = Diagnostic::new(self.bad, message).at(self.place(pointer, part));
        problem.pointer = Some(pointer.to_owned());
        self.problems.push(problem);
    }

    /// The members of the mapping at `pointer`; anything else is reported under `name`.
    pub(crate) fn mapping(&mut self, pointer: &str, value: &'d Value, name: &str) -> Option<&'d Map<String, Value>> {
        if let Value::Object(members) = value {
            return Some(members);
        }
        self.bad(pointer, format!("`{name}` cannot be {}: give keys and values", describe(value)));
        None
    }

    /// Reports every member that is not in `allowed`, with the nearest name that is. `name` is the mapping's own, empty
    /// at the top of the file.
    pub(crate) fn refuse_unknown(&mut self, pointer: &str, members: &Map<String, Value>, allowed: &[&str], name: &str) {
        for key in members.keys().filter(|key| !allowed.contains(&key.as_str())) {
            let inside = if name.is_empty() { String::new() } else { format!(" in `{name}`") };
            let at = child(pointer, key);
            let problem = Diagnostic::new(self.unknown, format!("unknown key `{}`{inside}", yaml::cut(key)))
                .at(self.place(&at, Part::Key))
                .help(suggestion(key, allowed));
            self.problems.push(Diagnostic { pointer: Some(at), ..problem });
        }
    }

    /// All problems that were found, in the order of the file.
    pub(crate) fn finish(mut self) -> Vec<Diagnostic> {
        self.problems.sort_by_key(|p| p.place.as_ref().map(|place| (place.line, place.col)));
        self.problems
    }
}

/// The pointer of a member.
pub(crate) fn child(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", yaml::escape(key))
}

/// `did you mean …?`, or all names where none is near.
pub(crate) fn suggestion(word: &str, known: &[&str]) -> String {
    nearest(word, known.iter().copied())
        .map_or_else(|| format!("known here: `{}`", known.join("`, `")), |near| format!("did you mean `{near}`?"))
}

/// A value as a message names it.
pub(crate) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "empty".to_owned(),
        Value::String(text) => format!("the text `{}`", yaml::cut(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
        scalar => format!("`{scalar}`"),
    }
}

/// A whole number within bounds.
pub(crate) fn whole(text: &str, least: u32, most: u32) -> Result<u32, String> {
    let read = text.parse().ok().filter(|number| (least..=most).contains(number));
    read.ok_or_else(|| format!("give a whole number from {least} to {most}"))
}

/// A duration within bounds, in milliseconds.
pub(crate) fn duration(text: &str, least: u64, most: u64) -> Result<std::time::Duration, String> {
    use std::time::Duration;
    let (least, most) = (Duration::from_millis(least), Duration::from_millis(most));
    let read = crate::quantity::parse_duration(text).ok().filter(|span| (least..=most).contains(span));
    read.ok_or_else(|| {
        format!("give a duration from `{}` to `{}`, such as `90s`", show_duration(least), show_duration(most))
    })
}

/// A size within bounds, in bytes.
pub(crate) fn size(text: &str, least: u64, most: u64) -> Result<u64, String> {
    let read = crate::quantity::parse_size(text).ok().filter(|bytes| (least..=most).contains(bytes));
    read.ok_or_else(|| format!("give a size from `{}` to `{}`, such as `64M`", show_size(least), show_size(most)))
}

/// A name of an environment variable that may be handed to a handler: `strict` asks for upper case.
///
/// # Errors
/// What to write instead, where the name has another form or belongs to the dispatcher or the dynamic linker.
pub(crate) fn variable_name(name: &str, strict: bool) -> Result<(), String> {
    let letter = |b: u8| b == b'_' || b.is_ascii_uppercase() || (!strict && b.is_ascii_lowercase());
    let formed = name.bytes().next().is_some_and(letter) && name.bytes().all(|b| letter(b) || b.is_ascii_digit());
    if !formed || name.len() > 128 {
        let case = if strict { "`A-Z`" } else { "`A-Z`, `a-z`" };
        return Err(format!("give a name of {case}, `0-9` and `_`, first no digit, up to 128 characters"));
    }
    for taken in ["DISPATCH_", "PARAM_", "LD_"] {
        if name.starts_with(taken) {
            return Err(format!("names that start with `{taken}` are not yours to set"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found() {
        let known = ["workers", "remote", "branch", "sandbox"];
        for (word, expect) in
            [("worker", Some("workers")), ("barnch", Some("branch")), ("sandbax", Some("sandbox")), ("listen", None)]
        {
            assert_eq!(nearest(word, known.into_iter()), expect, "{word}");
        }
        assert_eq!(suggestion("ab", &["a-b", "c"]), "did you mean `a-b`?");
        assert_eq!(suggestion("zzz", &["a-b", "c"]), "known here: `a-b`, `c`");
    }

    #[test]
    fn pointers_are_escaped() {
        assert_eq!(child("/a", "b/c~d"), "/a/b~1c~0d");
    }

    #[test]
    fn variable_names() {
        for (name, strict, good) in [
            ("TOKEN", true, true),
            ("_T9", true, true),
            ("token", true, false),
            ("token", false, true),
            ("9T", false, false),
            ("", false, false),
            ("A-B", false, false),
            ("DISPATCH_ID", false, false),
            ("PARAM_X", true, false),
            ("LD_PRELOAD", false, false),
            ("LDX", false, true),
        ] {
            assert_eq!(variable_name(name, strict).is_ok(), good, "{name}");
        }
    }
}
