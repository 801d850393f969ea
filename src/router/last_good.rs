//! The table in force: the newest that could be read. A broken edit keeps the last good one, and says so once.

use std::sync::Arc;

use super::table::Table;
use crate::diagnostic::Diagnostic;

/// What an offer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A table that says something else is in force, or the first after a broken one.
    Loaded,
    /// The offer cannot be used; the last good table stays.
    Broken,
    /// There is nothing new to say.
    Unchanged,
}

/// Holds the last good table and what is wrong with the newest one.
#[derive(Clone, Debug, Default)]
pub struct LastGood {
    table: Option<Arc<Table>>,
    problems: Vec<Diagnostic>,
}

impl LastGood {
    /// Takes what was read. A good table is in force from now on, even where it says nothing new.
    pub fn offer(&mut self, read: Result<Table, Vec<Diagnostic>>) -> Change {
        match read {
            Ok(table) => {
                let told = self.problems.is_empty() && self.table.as_ref().is_some_and(|old| old.same(&table));
                self.problems.clear();
                self.table = Some(Arc::new(table));
                if told { Change::Unchanged } else { Change::Loaded }
            }
            Err(problems) if problems == self.problems => Change::Unchanged,
            Err(problems) => {
                self.problems = problems;
                Change::Broken
            }
        }
    }

    /// The table in force; none before the first good one.
    #[must_use]
    pub fn table(&self) -> Option<&Arc<Table>> {
        self.table.as_ref()
    }

    /// What is wrong with the newest table; empty where it is the one in force.
    #[must_use]
    pub fn problems(&self) -> &[Diagnostic] {
        &self.problems
    }
}
