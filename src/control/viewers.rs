//! Who watches: every event goes to each viewer's own bounded queue, and is left out for one whose queue is full. The
//! daemon never waits here; what a viewer missed lies in the event stream on disk.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use serde::{Deserialize, Serialize};

use crate::event::Entry;

/// Events that wait for one viewer: some seconds of a busy daemon. More would only be old news.
const WAITING_EVENTS: usize = 4_096;

/// Besides the events themselves, what a viewer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// So many events were left out for this viewer.
    Skipped(u64),
    /// So many viewers there are now.
    Viewers(usize),
}

/// All viewers of a daemon. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Viewers {
    seats: Arc<Mutex<Vec<Seat>>>,
}

#[derive(Debug)]
struct Seat {
    lines: Sender<Arc<[u8]>>,
    skipped: Arc<AtomicU64>,
}

/// One viewer's end. Its seat is free again with the next event after it is dropped.
pub(super) struct Subscription {
    pub(super) lines: Receiver<Arc<[u8]>>,
    skipped: Arc<AtomicU64>,
}

impl Subscription {
    /// How many events were left out since the last look.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped.swap(0, Ordering::AcqRel)
    }
}

impl Viewers {
    /// Tells every viewer of an event.
    pub fn publish(&self, entry: &Entry) {
        let mut seats = self.lock();
        if !seats.is_empty() {
            tell(&mut seats, serde_json::to_vec(entry).unwrap_or_default());
        }
    }

    pub(super) fn subscribe(&self) -> Subscription {
        let (to, lines) = bounded(WAITING_EVENTS);
        let skipped = Arc::new(AtomicU64::new(0));
        let mut seats = self.lock();
        seats.push(Seat { lines: to, skipped: Arc::clone(&skipped) });
        count(&mut seats);
        Subscription { lines, skipped }
    }

    /// A viewer went away: the others are told.
    pub(super) fn left(&self) {
        count(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells everybody how many they are; a seat that nobody holds any more is found by the telling, and told of too.
fn count(seats: &mut Vec<Seat>) {
    loop {
        let before = seats.len();
        tell(seats, serde_json::to_vec(&Notice::Viewers(before)).unwrap_or_default());
        if seats.len() == before {
            return;
        }
    }
}

fn tell(seats: &mut Vec<Seat>, line: Vec<u8>) {
    let line: Arc<[u8]> = line.into();
    seats.retain(|seat| match seat.lines.try_send(Arc::clone(&line)) {
        Ok(()) => true,
        Err(TrySendError::Full(_)) => {
            seat.skipped.fetch_add(1, Ordering::AcqRel);
            true
        }
        Err(TrySendError::Disconnected(_)) => false,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::time::Time;

    fn entry(seq: u64) -> Entry {
        Entry { v: 1, seq, ts: Time::from_millis(0), event: Event::Resumed { by: "ana".into() } }
    }

    #[test]
    fn a_viewer_that_reads_nothing_loses_events_and_holds_nobody_up() {
        let viewers = Viewers::default();
        let (slow, quick) = (viewers.subscribe(), viewers.subscribe());
        let mut read = 0;
        for seq in 0..2 * WAITING_EVENTS as u64 {
            viewers.publish(&entry(seq));
            read += quick.lines.try_iter().count();
        }
        assert_eq!(read, 2 * WAITING_EVENTS + 1, "every event, and how many viewers there are");
        assert_eq!(slow.lines.len(), WAITING_EVENTS);
        assert_eq!(slow.skipped(), WAITING_EVENTS as u64 + 2);
        assert_eq!((slow.skipped(), quick.skipped()), (0, 0));
    }

    #[test]
    fn who_goes_is_not_counted() {
        let viewers = Viewers::default();
        let (one, two) = (viewers.subscribe(), viewers.subscribe());
        drop(one);
        viewers.left();
        let told: Vec<Notice> = two.lines.try_iter().map(|line| serde_json::from_slice(&line).unwrap()).collect();
        assert_eq!(told.last(), Some(&Notice::Viewers(1)), "{told:?}");
    }
}
