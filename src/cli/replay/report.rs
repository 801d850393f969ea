//! Comparing what came out with what was expected, and saying so.

use std::path::PathBuf;
use std::time::Duration;

use ansi_term::{Color as Paint, Style};
use serde_json::{Value, json};
use similar::TextDiff;

use super::case::{Case, LOG, STATUS};
use super::normal::Normal;
use super::play::CameOut;
use crate::cli::context::Context;
use crate::cli::{Exit, Failure};
use crate::quantity::round_duration;
use crate::text;

/// What became of one case.
pub(super) struct Verdict {
    pub name: String,
    pub folder: PathBuf,
    pub ended: Ended,
    pub took: Duration,
}

/// How a case ended.
pub(super) enum Ended {
    /// As expected.
    Same,
    /// What came out is expected from now on.
    Blessed,
    /// Unified diffs, one per file.
    Different(String),
    /// It could not be run.
    Failed(Failure),
}

/// Compares; what is expected may also be a log and a status as a run leaves them.
pub(super) fn compare(case: &Case, came_out: &CameOut) -> Ended {
    let json = case.status.as_ref().and_then(|text| serde_json::from_str::<Value>(text).ok());
    let id = json.as_ref().and_then(|value| value["id"].as_str());
    let normal = Normal::of(id, &case.request, None);
    let log = case.log.as_ref().map(|log| normal.log(log));
    // What is no JSON is shown as it is.
    let status = case.status.as_ref().map(|text| normal.status(text.as_bytes()).unwrap_or_else(|| text.clone()));
    let diff = diff(LOG, log.as_deref(), &came_out.log) + &diff(STATUS, status.as_deref(), &came_out.status);
    if diff.is_empty() { Ended::Same } else { Ended::Different(diff) }
}

fn diff(name: &str, expected: Option<&str>, came_out: &str) -> String {
    let Some(expected) = expected else {
        return format!("--- {name}\n+++ came out\nthere is no `{name}` yet; --bless writes what came out\n");
    };
    if expected == came_out {
        return String::new();
    }
    let diff = TextDiff::from_lines(expected, came_out);
    diff.unified_diff().context_radius(3).header(name, "came out").to_string()
}

/// One case as people read it, with its diff.
pub(super) fn line(context: &Context, verdict: &Verdict) -> String {
    let (word, style) = match &verdict.ended {
        Ended::Same => ("ok    ", Paint::Green.normal()),
        Ended::Blessed => ("BLESS ", Paint::Yellow.normal()),
        Ended::Different(_) => ("DIFF  ", Paint::Red.bold()),
        Ended::Failed(_) => ("FAIL  ", Paint::Red.bold()),
    };
    let took = context.dim(&format!("  {}", round_duration(verdict.took)));
    let mut out = format!("{}{}{took}\n", context.paint(style, word), text::line(&verdict.name));
    match &verdict.ended {
        Ended::Same | Ended::Blessed => {}
        Ended::Different(diff) => {
            for line in diff.lines() {
                out += &format!("      {}\n", context.paint(style_of(line), &text::line(line)));
            }
        }
        Ended::Failed(failure) => {
            for line in failure.render().lines() {
                out += &format!("      {line}\n");
            }
        }
    }
    out
}

fn style_of(line: &str) -> Style {
    match line.as_bytes().first() {
        _ if line.starts_with("---") || line.starts_with("+++") => Style::new().bold(),
        Some(b'-') => Paint::Red.normal(),
        Some(b'+') => Paint::Green.normal(),
        Some(b'@') => Paint::Cyan.normal(),
        _ => Style::new(),
    }
}

fn count(ended: &[Verdict], wanted: impl Fn(&Ended) -> bool) -> usize {
    ended.iter().filter(|verdict| wanted(&verdict.ended)).count()
}

/// All cases in one line, and what to do next.
pub(super) fn summary(context: &Context, ended: &[Verdict]) -> String {
    let different = count(ended, |ended| matches!(ended, Ended::Different(_)));
    let mut parts = vec![format!("{} as expected", count(ended, |ended| matches!(ended, Ended::Same)))];
    for (number, word) in [
        (count(ended, |ended| matches!(ended, Ended::Blessed)), "blessed"),
        (different, "different"),
        (count(ended, |ended| matches!(ended, Ended::Failed(_))), "failed to run"),
    ] {
        if number > 0 {
            parts.push(format!("{number} {word}"));
        }
    }
    let plural = if ended.len() == 1 { "" } else { "s" };
    let mut out = context.bold(&format!("{} case{plural}: {}", ended.len(), parts.join(", "))) + "\n";
    if different > 0 {
        out += "  where what came out is right: dispatcher replay --bless CASE\n";
    }
    out
}

/// All cases for programs.
pub(super) fn document(ended: &[Verdict]) -> Value {
    let case = |verdict: &Verdict| {
        let (result, diff, error) = match &verdict.ended {
            Ended::Same => ("same", None, None),
            Ended::Blessed => ("blessed", None, None),
            Ended::Different(diff) => ("different", Some(diff.as_str()), None),
            Ended::Failed(failure) => {
                ("failed", None, failure.problems.first().map(|problem| problem.message.as_str()))
            }
        };
        let took = u64::try_from(verdict.took.as_millis()).unwrap_or(u64::MAX);
        json!({
            "case": verdict.folder.to_string_lossy(),
            "name": verdict.name,
            "result": result,
            "diff": diff,
            "error": error,
            "took_ms": took,
        })
    };
    json!({ "ok": exit(ended) == Exit::DONE, "cases": ended.iter().map(case).collect::<Vec<Value>>() })
}

/// 1 where one differs; where one could not be run, what kept it from running.
pub(super) fn exit(ended: &[Verdict]) -> Exit {
    let failed = ended.iter().find_map(|verdict| match &verdict.ended {
        Ended::Failed(failure) => Some(failure.exit),
        _ => None,
    });
    let differs = count(ended, |ended| matches!(ended, Ended::Different(_))) > 0;
    failed.unwrap_or(if differs { Exit::FAILED } else { Exit::DONE })
}
