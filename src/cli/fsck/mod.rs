//! `fsck`: does everything hold that the dispatcher promises of requests, statuses and history (I1, I2, I7, I8)? History
//! is the repository's to judge; what lies here and what a running daemon says is judged in `local`.

mod local;

use serde_json::json;

use crate::cli::context::Context;
use crate::cli::failure::in_full;
use crate::cli::{Exit, Failure, ask, serve};
use crate::daemon;
use crate::repo::{Audit, Breach};
use crate::text;
use local::{Counts, Local};

/// `fsck`.
///
/// # Errors
/// 1 where something does not hold (silently: it was printed), 74 where the repository cannot be read, 78 where it or
/// the configuration cannot be used.
pub fn fsck(context: &Context) -> Result<Exit, Failure> {
    let root = context.root()?;
    let config = serve::config(context, &root)?;
    let repo = daemon::open_repo(&root, &config)?;
    let audit = repo.audit().map_err(|error| Failure::new(Exit::IO, error.diagnostic()))?;
    // Nobody who may read the repository is kept from checking it because the daemon is somebody else's.
    let (mut client, unasked) = match ask::connect(context, &root) {
        Ok(client) => (client, None),
        Err(failure) => (None, failure.problems.into_iter().next()),
    };
    let places = daemon::find_places(&config, &root).map_err(|problem| Failure::config(vec![problem]))?;
    let local = Local::new(&root, &places.state.path, &repo, &audit);
    let (found, counts) = local.check(client.as_mut())?;
    let mut audit = audit;
    audit.breaches.extend(found);
    audit.notes.extend(unasked.map(|problem| format!("the daemon was not asked: {}", problem.message)));
    tell(context, &audit, &counts)?;
    if audit.breaches.is_empty() { Ok(Exit::DONE) } else { Err(Failure::silent(Exit::FAILED)) }
}

fn tell(context: &Context, audit: &Audit, counts: &Counts) -> Result<(), Failure> {
    if context.common.json {
        return context.print_json(&json!({
            "ok": audit.breaches.is_empty(),
            "commits": audit.commits,
            "recorded": audit.recorded.len(),
            "archived": audit.archived,
            "kept": audit.kept.len(),
            "unrecorded": counts.unrecorded,
            "running": counts.running,
            "waiting": counts.waiting,
            "daemon": counts.daemon,
            "breaches": audit.breaches.iter().map(in_json).collect::<Vec<_>>(),
            "notes": audit.notes,
        }));
    }
    for breach in &audit.breaches {
        context.print(&format!("{}  {}", context.bold(breach.invariant), breach.problem.render()))?;
    }
    for note in &audit.notes {
        context.print(&format!("note: {}\n", text::line(note)))?;
    }
    let verdict = match audit.breaches.len() {
        0 => "all of it holds".to_owned(),
        1 => "1 breach".to_owned(),
        n => format!("{n} breaches"),
    };
    context.print(&format!(
        "{verdict}: {} runs recorded in {} commits ({} archived), {} not recorded yet, {} running, {} waiting{}\n",
        audit.recorded.len(),
        audit.commits,
        audit.archived,
        counts.unrecorded,
        counts.running,
        counts.waiting,
        if counts.daemon { "" } else { "; no daemon was asked" }
    ))
}

fn in_json(breach: &Breach) -> serde_json::Value {
    let mut value = in_full(&breach.problem);
    value["invariant"] = breach.invariant.into();
    value["run"] = breach.run.map(|id| id.to_string()).into();
    value["commit"] = breach.commit.clone().into();
    value
}
