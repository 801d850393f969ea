//! `validate`, `handlers` and `schema`: what the dispatcher would accept, from the files of the checkout.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use crate::checkout;
use crate::cli::context::Context;
use crate::cli::list::table;
use crate::cli::serve;
use crate::cli::{Exit, Failure, failure};
use crate::daemon::{self, Library, Source, understand};
use crate::diagnostic::Diagnostic;
use crate::quantity::{show_duration, show_size};
use crate::request::Kind;
use crate::schema;
use crate::text;

/// Handlers and schemas of a checkout, staged in a folder of their own.
pub struct Kinds {
    library: Arc<Library>,
    _staging: tempfile::TempDir,
}

/// Reads them.
///
/// # Errors
/// 78 with every problem of them.
pub fn kinds(context: &Context, root: &Path) -> Result<Kinds, Failure> {
    let config = serve::config(context, root)?;
    let repo = daemon::open_repo(root, &config)?;
    let staging = tempfile::tempdir().map_err(|error| Failure::io("make a temporary folder", &error))?;
    let source =
        Source { root: root.to_owned(), extra: serve::handler_folders(), staging: staging.path().join("staged") };
    let library = source.load(&repo).map_err(|error| Failure::config(error.problems()))?;
    Ok(Kinds { library, _staging: staging })
}

impl Kinds {
    /// Checks a request.
    ///
    /// # Errors
    /// 64, 65, 78 with every problem.
    pub fn check(&self, bytes: &[u8], file: &str) -> Result<(), Failure> {
        understand(&self.library, bytes, file).map(|_| ()).map_err(Failure::from)
    }
}

/// `validate`.
///
/// # Errors
/// The highest of the files' exit codes, with every problem.
pub fn validate(context: &Context, files: &[PathBuf]) -> Result<Exit, Failure> {
    let kinds = kinds(context, &context.root()?)?;
    let mut all = Vec::new();
    let mut exit = Exit::DONE;
    let mut good = Vec::new();
    for file in files {
        let shown = file.display().to_string();
        let read = if shown == "-" {
            checkout::whole(std::io::stdin().lock(), checkout::REQUEST)
        } else {
            let opened = fs::File::open(context.dir.join(file));
            opened.and_then(|file| checkout::whole(file, checkout::REQUEST))
        };
        let checked = match read {
            Ok(bytes) => kinds.check(&bytes, if shown == "-" { "stdin" } else { &shown }),
            Err(error) => Err(Failure::no_input(&shown, &error)),
        };
        match checked {
            Ok(()) => good.push(shown),
            Err(failure) => {
                exit = if failure.exit.0 > exit.0 { failure.exit } else { exit };
                all.extend(failure.problems);
            }
        }
    }
    if context.common.json {
        let problems: Vec<_> = all.iter().map(failure::in_full).collect();
        context.print_json(&json!({ "valid": good, "problems": problems }))?;
        return if exit == Exit::DONE { Ok(exit) } else { Err(Failure::silent(exit)) };
    }
    for file in &good {
        context.print(&format!("{} ok\n", text::line(file)))?;
    }
    if exit == Exit::DONE { Ok(exit) } else { Err(Failure { exit, problems: all }) }
}

/// `handlers`.
///
/// # Errors
/// 78 where the table is broken.
pub fn handlers(context: &Context) -> Result<Exit, Failure> {
    let kinds = kinds(context, &context.root()?)?;
    let library = &kinds.library;
    let missing =
        |kind: &Kind| (!library.schemas.has(kind)).then(|| format!("no line `{kind}:` in schema/requests.yml"));
    let entries = library.table.entries().map(|(route, problem)| {
        (route, problem.map(|problem| problem.message.clone()).or_else(|| missing(&route.kind)))
    });
    if context.common.json {
        let all: Vec<_> = entries
            .map(|(route, problem)| {
                json!({
                    "kind": route.kind, "handler": route.file.shown(),
                    "resource": route.resource.as_ref().map(ToString::to_string),
                    "timeout_ms": u64::try_from(route.timeout.as_millis()).unwrap_or(u64::MAX),
                    "memory_bytes": route.memory, "pids": route.pids, "attempts": route.retry.attempts,
                    "dry_run": route.dry_run, "description": route.description, "problem": problem,
                })
            })
            .collect();
        context.print_json(&all)?;
        return Ok(Exit::DONE);
    }
    let rows: Vec<_> = entries
        .map(|(route, problem)| {
            let resource = route.resource.as_ref().map_or_else(|| format!("({})", route.kind), ToString::to_string);
            let about =
                problem.map_or_else(|| route.description.clone().unwrap_or_default(), |p| format!("cannot run: {p}"));
            vec![
                route.kind.to_string(),
                text::line(&route.file.shown()),
                text::line(&resource),
                show_duration(route.timeout),
                show_size(route.memory),
                text::line(&about),
            ]
        })
        .collect();
    if rows.is_empty() {
        context.print("no handlers: put an executable into handlers/ and a line for it into schema/requests.yml\n")?;
        return Ok(Exit::DONE);
    }
    context.print(&table(context, &["KIND", "HANDLER", "RESOURCE", "TIMEOUT", "MEMORY", "ABOUT"], rows))?;
    Ok(Exit::DONE)
}

/// `schema`.
///
/// # Errors
/// 64 where there is no such kind.
pub fn schema(context: &Context, kind: Option<&str>) -> Result<Exit, Failure> {
    let value = match kind {
        None => schema::envelope(),
        Some(name) => {
            let kinds = kinds(context, &context.root()?)?;
            let source = name.parse::<Kind>().ok().and_then(|kind| kinds.library.schemas.source(&kind).cloned());
            source.ok_or_else(|| {
                let message = format!("no line for kind `{}` in schema/requests.yml", text::line(name));
                Failure::new(Exit(64), Diagnostic::new("E0201", message).help("dispatcher handlers lists all kinds"))
            })?
        }
    };
    if context.common.json {
        context.print_json(&value)?;
    } else {
        let pretty = serde_json::to_string_pretty(&value).unwrap_or_default();
        context.print(&(text::json(&pretty) + "\n"))?;
    }
    Ok(Exit::DONE)
}
