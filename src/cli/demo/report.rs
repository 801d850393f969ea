//! What the demo says: before, and a summary after. Everything fits 80 columns but for paths.

use std::path::Path;

use serde_json::{Value, json};

use super::cast::{MISTAKES, ROLES};
use super::stage::{Played, Stage};
use crate::cli::context::Context;
use crate::cli::list::table;
use crate::text;

/// How many problems of the rejection are shown.
const EXCERPT: usize = 3;

/// What is about to happen.
pub(super) fn prologue(context: &Context, stage: &Stage) -> String {
    let title = context.bold("dispatcher demo");
    let where_ = if stage.kept { "" } else { " (a temporary folder, removed at the end)" };
    let base = stage.ops().parent().map_or_else(String::new, show);
    format!(
        "{title}\n\n  Ana commits {} requests to requests/ and pushes them. A dispatcher with a\n  \
         clone of its own fetches and runs them, and pushes what came of it.\n  \
         All of it lies in {base}{where_}\n\n",
        ROLES.len()
    )
}

/// What happened, and what to try next.
pub(super) fn epilogue(context: &Context, stage: &Stage, runs: &[Played]) -> String {
    let mut out = heading(context, "What happened");
    let rows = runs.iter().map(|run| row(context, run)).collect();
    out += &indent(&table(context, &["RUN", "KIND", "RESOURCE", "STATUS", " RC", "IT SHOWS"], rows));
    let wrong = runs.iter().filter(|run| !run.is_as_expected()).count();
    out += &match wrong {
        0 => format!("\n  All {} ended as they should, each recorded in a commit and pushed.\n", runs.len()),
        n => format!("\n  {} of {} did not end as they should, see above.\n", n, runs.len()),
    };
    out += &rejection(context, stage, runs);
    out + &next(context, stage)
}

fn heading(context: &Context, words: &str) -> String {
    format!("\n{}\n", context.bold(words))
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}").trim_end().to_owned() + "\n").collect()
}

fn row(context: &Context, run: &Played) -> Vec<String> {
    let dash = || "-".to_owned();
    let Some(status) = &run.status else {
        let name = run.role.name.trim_end_matches(".yml").to_owned();
        return vec![dash(), name, dash(), "no run".to_owned(), dash(), expected(run)];
    };
    let shows = if run.is_as_expected() { run.role.shows.to_owned() } else { expected(run) };
    let kind = status.kind.as_ref().map_or_else(dash, ToString::to_string);
    let resource = status.resource.as_ref().map(|resource| text::line(resource.as_str()));
    vec![
        status.id.short(),
        kind,
        resource.unwrap_or_else(dash),
        context.state(status.status, status.status.word()),
        format!("{:>3}", status.rc.map_or_else(dash, |rc| rc.to_string())),
        shows,
    ]
}

fn expected(run: &Played) -> String {
    format!("expected {} {}", run.role.state.word(), run.role.rc)
}

/// The beginning of what a person reads whose request was rejected.
fn rejection(context: &Context, stage: &Stage, runs: &[Played]) -> String {
    let Some(status) = runs.iter().find(|run| run.role.name == MISTAKES).and_then(|run| run.status.as_ref()) else {
        return String::new();
    };
    let mut out = heading(context, "What Ana reads of a rejected request");
    let mut problems = 0;
    // The first line is the verdict, which the table has; the last one counts the problems.
    for line in stage.own_lines(status).iter().skip(1).filter(|line| !line.starts_with("error: ")) {
        problems += usize::from(line.starts_with("error["));
        if problems <= EXCERPT {
            out += &format!("  {}\n", text::line(line));
        }
    }
    if problems > EXCERPT {
        out += &context.dim(&format!("  … and {} more in the same log", problems - EXCERPT));
        out += "\n";
    }
    if context.common.plain { out.replace('…', "...") } else { out }
}

fn next(context: &Context, stage: &Stage) -> String {
    let program = program();
    if !stage.kept {
        let mut out = heading(context, "What to try next");
        out += "  Keep it, look around, ask for more:\n\n";
        out += &format!("    {program} demo --keep dispatcher-demo\n\n");
        out += "  Make a repository of your own (or make one that you have a dispatch repository):\n\n";
        return out + &format!("    {program} init ops\n");
    }
    let (ops, ana) = (show(&stage.ops()), show(&stage.ana()));
    let mut out = heading(context, "Where things lie");
    for (path, what) in [
        (stage.ops(), "the dispatcher's clone: handlers, schema, router"),
        (stage.ana(), "Ana's clone: where she asks, and reads the results"),
        (stage.remote(), "the bare repository between the two"),
    ] {
        out += &format!("  {}\n    {}\n", show(&path), context.dim(what));
    }
    out += &format!("  In both clones, of each run: {}\n", context.dim("processed/<id>/status.json, logs/<id>.log"));
    out += &heading(context, "What to try next");
    for (what, command) in [
        ("One run in full, and its log", format!("{program} -C {ana} show 01-report")),
        ("", format!("{program} -C {ana} logs 06-fetch-feed")),
        ("What went wrong lately", format!("{program} -C {ana} list bad")),
        ("The results as commits", format!("git -C {ana} log --stat -3")),
        ("Ask for something else, and let it be done", format!("{program} -C {ana} submit restart --set host=web-2")),
        ("", format!("{program} -C {ops} --no-tui --once")),
        ("Or leave the dispatcher on, and stop it with Ctrl-C", format!("{program} -C {ops} --no-tui")),
    ] {
        if !what.is_empty() {
            out += &context.dim(&format!("  # {what}\n"));
        }
        out += &format!("  {command}\n");
    }
    out
}

/// A path as a shell reads it.
fn show(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+@%,:".contains(c);
    if text.chars().all(is_plain) { text.into_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// This program as a shell finds it: by its name where that leads here, else by its path.
fn program() -> String {
    let Some(exe) = std::env::current_exe().ok().and_then(|exe| exe.canonicalize().ok()) else {
        return "dispatcher".to_owned();
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("dispatcher")).find(|file| file.is_file());
    match found.and_then(|file| file.canonicalize().ok()) {
        Some(found) if found == exe => "dispatcher".to_owned(),
        _ => show(&exe),
    }
}

/// The same for programs.
pub(super) fn document(stage: &Stage, runs: &[Played]) -> Value {
    let kept = |path: std::path::PathBuf| stage.kept.then(|| path.display().to_string());
    let runs_as_json = runs.iter().map(|run| {
        json!({
            "request": run.role.name,
            "shows": run.role.shows,
            "as_expected": run.is_as_expected(),
            "expected": { "status": run.role.state, "rc": run.role.rc, "attempt": run.role.attempts },
            "status": run.status,
        })
    });
    json!({
        "ok": runs.iter().all(Played::is_as_expected),
        "repository": kept(stage.ops()),
        "clone": kept(stage.ana()),
        "remote": kept(stage.remote()),
        "runs": runs_as_json.collect::<Vec<Value>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_can_be_pasted() {
        for (path, shown) in [("/tmp/a-b_c.d", "/tmp/a-b_c.d"), ("/a b", "'/a b'"), ("/it's", "'/it'\\''s'")] {
            assert_eq!(show(Path::new(path)), shown);
        }
    }
}
