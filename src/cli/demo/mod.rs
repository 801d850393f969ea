//! `demo`: a scratch repository with its own remote, where requests show every way in which a run can end. `cast` is
//! what is played and what must come out, `stage` makes the repositories and plays it, `report` tells of it.

mod cast;
mod report;
mod stage;

use std::path::Path;

use crate::cli::context::Context;
use crate::cli::{Exit, Failure};

/// `demo`.
///
/// # Errors
/// 69 without git, 73 where something lies in the folder to keep, 74 where the disk fails.
pub fn demo(context: &Context, keep: Option<&Path>) -> Result<Exit, Failure> {
    let stage = stage::Stage::new(context, keep)?;
    if !context.common.json {
        context.print(&report::prologue(context, &stage))?;
    }
    let runs = stage.play(context)?;
    if context.common.json {
        context.print_json(&report::document(&stage, &runs))?;
    } else {
        context.print(&report::epilogue(context, &stage, &runs))?;
    }
    let all_well = runs.iter().all(stage::Played::is_as_expected);
    Ok(if all_well { Exit::DONE } else { Exit::FAILED })
}
