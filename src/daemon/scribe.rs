//! Writes what happened: to the event streams and, for people, to the daemon's own log and the terminal. Masks all of it.

use std::sync::{Arc, Mutex, PoisonError};

use crate::console::Console;
use crate::control::Viewers;
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
    viewers: Viewers,
    /// Viewers hear of events in the order of their numbers.
    order: Mutex<()>,
}

impl Scribe {
    /// Writes to these.
    #[must_use]
    pub fn new(journal: Journal, console: Console, clock: Clock, vault: Arc<Vault>) -> Self {
        Self { journal, console, clock, vault, viewers: Viewers::default(), order: Mutex::new(()) }
    }

    /// Writes an event everywhere.
    pub fn emit(&self, event: Event) {
        let event = self.masked(event);
        self.tell(|| self.journal.write(self.clock.wall(), event));
    }

    /// Writes a run's end to its own events only: it is not final yet.
    pub fn emit_final(&self, event: Event) -> Entry {
        self.journal.write_run_final(self.clock.wall(), self.masked(event))
    }

    /// It is final now.
    pub fn announce(&self, entry: Entry) {
        self.tell(|| self.journal.announce(self.clock.wall(), entry));
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

    /// Who watches.
    #[must_use]
    pub fn viewers(&self) -> Viewers {
        self.viewers.clone()
    }

    /// The number of the newest event; 0 before the first.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.journal.seq()
    }

    fn tell(&self, write: impl FnOnce() -> Entry) {
        let entry = {
            let _order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = write();
            self.viewers.publish(&entry);
            entry
        };
        self.console.show(&entry);
    }
}
