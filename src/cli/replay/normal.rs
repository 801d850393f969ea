//! Takes out of logs and statuses what differs from run to run and from machine to machine: ids, times, durations,
//! paths of the scratch folder, commits, checksums, who ran where. What a case itself says stays as it is: an id or a
//! time that stands in the request is expected literally. Doing it twice changes nothing more.

use std::path::Path;

use serde_json::Value;

/// Begins a line of the dispatcher's own in a log; no handler can write it.
const OWN: &str = "\u{1b}[0;0002m";
/// Ends the stamp of such a line.
const STAMP_END: &str = "\u{1b}[0m  ";
/// What a stamp becomes, as wide as a clock.
const CLOCK: &str = "<time>      ";

/// How much of a time is compared with the request: what stands behind it may be written otherwise.
const SECONDS: usize = "0000-00-00T00:00:00".len();

/// What is taken out.
pub(super) struct Normal {
    replace: Vec<(String, &'static str)>,
    request: String,
}

impl Normal {
    /// For the run `id` of `request`, in the scratch folder `scratch`.
    pub fn of(id: Option<&str>, request: &[u8], scratch: Option<&Path>) -> Self {
        let request = String::from_utf8_lossy(request).into_owned();
        let mut replace = Vec::new();
        if let Some(scratch) = scratch {
            let path = scratch.to_string_lossy().into_owned();
            replace.push((format!("{path}/ops"), "<repo>"));
            replace.push((format!("{path}/daemon/state"), "<state>"));
            replace.push((path, "<scratch>"));
        }
        if let Some(id) = id.filter(|id| id.len() == 36 && !request.contains(*id)) {
            replace.push((id.to_owned(), "<id>"));
            replace.push((id[28..].to_owned(), "<id>"));
        }
        Self { replace, request }
    }

    /// Any text.
    pub fn text(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for (what, with) in &self.replace {
            out = out.replace(what.as_str(), with);
        }
        // Its last part is made up anew for every set of handlers.
        out = with_word_after(&out, "<state>/staged/handlers-", &|_| Some(""));
        let mut normal = String::with_capacity(out.len());
        let mut rest = out.as_str();
        while let Some(c) = rest.chars().next() {
            let len = time_len(rest).filter(|_| !self.request.contains(&rest[..SECONDS]));
            match len {
                Some(_) => normal.push_str("<time>"),
                None => normal.push(c),
            }
            rest = &rest[len.unwrap_or(c.len_utf8())..];
        }
        normal
    }

    /// A run's log: the dispatcher's own lines lose their colours, those of the handler show theirs.
    pub fn log(&self, log: &str) -> String {
        let mut out = String::new();
        for line in log.split_inclusive('\n') {
            match line.strip_prefix(OWN).and_then(|rest| rest.split_once(STAMP_END)) {
                Some((stamp, rest)) => {
                    let stamp = if stamp.trim().is_empty() { stamp } else { CLOCK };
                    out += stamp;
                    out += "  ";
                    out += &own_line(&self.text(&without_colours(rest)));
                }
                None => out += &self.text(line).replace('\u{1b}', "\u{241b}"),
            }
        }
        out
    }

    /// A status; `None` where it is no JSON.
    pub fn status(&self, status: &[u8]) -> Option<String> {
        let mut value: Value = serde_json::from_slice(status).ok()?;
        self.strings(&mut value);
        for (path, word) in [
            ("/queued_at", "<time>"),
            ("/started_at", "<time>"),
            ("/finished_at", "<time>"),
            ("/duration_ms", "<ms>"),
            ("/host", "<host>"),
            ("/requested_by/commit", "<commit>"),
            ("/handler/sha256", "<sha256>"),
            ("/sandbox/user", "<user>"),
            ("/sandbox/cgroup", "<machine>"),
            ("/sandbox/landlock", "<machine>"),
            ("/sandbox/seccomp", "<machine>"),
            ("/usage/cpu_ms", "<ms>"),
            ("/usage/max_rss_bytes", "<bytes>"),
            // Its log has what was put out, and paths have lengths of their own.
            ("/usage/output_bytes", "<bytes>"),
        ] {
            if let Some(value) = value.pointer_mut(path).filter(|value| !value.is_null()) {
                *value = word.into();
            }
        }
        serde_json::to_string_pretty(&value).ok().map(|text| text + "\n")
    }

    fn strings(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(all) => all.iter_mut().for_each(|value| self.strings(value)),
            Value::Object(all) => all.values_mut().for_each(|value| self.strings(value)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

/// The facts in a header or a verdict that are not the case's.
fn own_line(line: &str) -> String {
    let is = |fact: &str| line.starts_with(fact);
    if is("limits   user ") {
        with_word_after(line, "limits   user ", &|_| Some("<user>"))
    } else if is("handler  ") {
        with_word_after(line, "(sha256 ", &|_| Some("<sha256>"))
    } else if is("request  ") {
        let is_commit = |word: &str| word.len() == 8 && word.bytes().all(|b| b.is_ascii_hexdigit());
        with_word_after(line, " in ", &|word| is_commit(word).then_some("<commit>"))
    } else if line.contains(" rc ") {
        let is_duration = |word: &str| word.starts_with(|c: char| c.is_ascii_digit());
        with_word_after(line, " after ", &|word| is_duration(word).then_some("<took>"))
    } else {
        line.to_owned()
    }
}

/// Puts what `with` says in the place of the word (up to a space, `,`, `)`, `:`, `/` or the end of the line) that
/// follows each `mark`.
fn with_word_after(text: &str, mark: &str, with: &dyn Fn(&str) -> Option<&'static str>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(mark) {
        let (before, after) = rest.split_at(at + mark.len());
        let end = after.find(|c: char| c.is_whitespace() || ",):/".contains(c)).unwrap_or(after.len());
        out += before;
        out += with(&after[..end]).unwrap_or(&after[..end]);
        rest = &after[end..];
    }
    out + rest
}

fn without_colours(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        out += before;
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    out + rest
}

/// How long the RFC 3339 time in UTC is that `text` begins with.
fn time_len(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let shape = b"0000-00-00T00:00:00";
    let fits = bytes.len() > shape.len()
        && shape.iter().zip(bytes).all(|(shape, byte)| match shape {
            b'0' => byte.is_ascii_digit(),
            other => other == byte,
        });
    if !fits {
        return None;
    }
    let fraction = match bytes[shape.len()..].strip_prefix(b".") {
        Some(rest) => 1 + rest.iter().take_while(|byte| byte.is_ascii_digit()).count(),
        None => 0,
    };
    let end = shape.len() + fraction;
    (bytes.get(end) == Some(&b'Z')).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01a2088e-15ee-76f8-bdf0-af58b2076b04";

    fn normal(request: &str) -> Normal {
        Normal::of(Some(ID), request.as_bytes(), Some(Path::new("/tmp/dispatcher-case-x")))
    }

    #[test]
    fn texts_lose_what_differs() {
        for (text, expect) in [
            ("run b2076b04, or 01a2088e-15ee-76f8-bdf0-af58b2076b04", "run <id>, or <id>"),
            ("other 0197e0c2-8f7a-7b3c-9d1e-5a6b7c8d9e0f", "other 0197e0c2-8f7a-7b3c-9d1e-5a6b7c8d9e0f"),
            ("at 2026-11-23T13:17:39.218Z, 2026-11-23T13:17:39Z.", "at <time>, <time>."),
            ("2026-11-23T13:17:39+01:00 2026-11-23 13:17:39", "2026-11-23T13:17:39+01:00 2026-11-23 13:17:39"),
            ("/tmp/dispatcher-case-x/ops/logs", "<repo>/logs"),
            (
                "/tmp/dispatcher-case-x/daemon/state/staged/handlers-Ab3dEf/handlers/act.sh",
                "<state>/staged/handlers-/handlers/act.sh",
            ),
            (
                "/tmp/dispatcher-case-x/daemon/state/work/01a2088e-15ee-76f8-bdf0-af58b2076b04.1/cwd",
                "<state>/work/<id>.1/cwd",
            ),
            ("ü 2025-01-01T00:00:00.000Z", "ü 2025-01-01T00:00:00.000Z"),
        ] {
            let normal = normal("expires_at: 2025-01-01T00:00:00Z");
            assert_eq!(normal.text(text), expect);
            assert_eq!(normal.text(expect), expect, "twice");
        }
        assert_eq!(normal(&format!("id: {ID}")).text(&ID[28..]), &ID[28..], "the request's own");
    }

    #[test]
    fn own_lines_lose_colours_and_facts_of_the_machine() {
        for (line, expect) in [
            ("\x1b[1mact on act\x1b[0m, attempt 1 of 2\n", "act on act, attempt 1 of 2\n"),
            ("limits   user nobody, 1s, memory 512M\n", "limits   user <user>, 1s, memory 512M\n"),
            ("handler  act.sh (sha256 fde6767d23f2)\n", "handler  act.sh (sha256 <sha256>)\n"),
            (
                "request  request.yml by Golden <g@e.org> in 0e4ed97d\n",
                "request  request.yml by Golden <g@e.org> in <commit>\n",
            ),
            ("\x1b[31m✗ failed\x1b[0m rc 3 after 1.3s: it took long\n", "✗ failed rc 3 after <took>: it took long\n"),
            ("✗ failed rc 3\n", "✗ failed rc 3\n"),
        ] {
            let log = format!("{OWN}13:17:39.192{STAMP_END}{line}");
            assert_eq!(normal("").log(&log), format!("<time>        {expect}"));
        }
        let log = format!("out \x1b[31mred\x1b[0m rc 3 after 1.3s\n{OWN}            {STAMP_END}more");
        assert_eq!(normal("").log(&log), "out ␛[31mred␛[0m rc 3 after 1.3s\n              more");
    }

    #[test]
    fn a_status_keeps_its_order_and_its_nulls() {
        let status = br#"{"id":"01a2088e-15ee-76f8-bdf0-af58b2076b04","queued_at":"2026-11-23T13:17:39.218Z",
            "started_at":null,"host":"vm","usage":{"cpu_ms":3,"leaked_processes":1},"rc":3}"#;
        let expect = "{\n  \"id\": \"<id>\",\n  \"queued_at\": \"<time>\",\n  \"started_at\": null,\n  \
                      \"host\": \"<host>\",\n  \"usage\": {\n    \"cpu_ms\": \"<ms>\",\n    \"leaked_processes\": 1\n  },\n  \"rc\": 3\n}\n";
        assert_eq!(normal("").status(status).unwrap(), expect);
        assert_eq!(normal("").status(expect.as_bytes()).unwrap(), expect, "twice");
        assert_eq!(normal("").status(b"{torn"), None);
    }
}
