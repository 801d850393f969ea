//! Writes what happened: to the event streams and, for people, to the daemon's own log and the terminal. Masks all of it.

use std::sync::Arc;

use crate::console::Console;
use crate::daemon::clock::Clock;
use crate::diagnostic::Diagnostic;
use crate::event::{Entry, Event};
use crate::journal::Journal;
use crate::vault::Vault;

/// The one writer of events. Shared by reference between threads.
pub struct Scribe {
    journal: Journal,
    console: Console,
    clock: Clock,
    vault: Arc<Vault>,
}

impl Scribe {
    /// Writes to these.
    #[must_use]
    pub const fn new(journal: Journal, console: Console, clock: Clock, vault: Arc<Vault>) -> Self {
        Self { journal, console, clock, vault }
    }

    /// Writes an event everywhere.
    pub fn emit(&self, event: Event) {
        let entry = self.journal.write(self.clock.wall(), self.masked(event));
        self.show(&entry);
    }

    /// Writes a run's end to its own events only: it is not final yet.
    pub fn emit_final(&self, event: Event) -> Entry {
        self.journal.write_run_final(self.clock.wall(), self.masked(event))
    }

    /// It is final now.
    pub fn announce(&self, entry: Entry) {
        let entry = self.journal.announce(self.clock.wall(), entry);
        self.show(&entry);
    }

    /// Says something that is no event: a warning about the inbox or the table.
    pub fn warn(&self, problem: &Diagnostic) {
        self.note(&format!("[{}] {}", problem.code, problem.message));
    }

    /// Says something in one line.
    pub fn note(&self, note: &str) {
        self.console.note(self.clock.wall(), &self.vault.mask().text(note));
    }

    fn masked(&self, event: Event) -> Event {
        self.vault.mask().message(&event).unwrap_or(event)
    }

    /// Lines that no disk took so far.
    #[must_use]
    pub fn lost_lines(&self) -> u64 {
        self.journal.losses().lines + self.console.losses().lines
    }

    fn show(&self, entry: &Entry) {
        self.console.show(entry);
    }
}
