//! Who goes first: higher priority, then longer in the queue, then file name within one scan.

use std::collections::BTreeMap;

use crate::request::RunId;

/// A place in the queue. `ticket` rises with every taking, so that it stands for age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    /// Negated priority: higher goes first.
    rank: i16,
    ticket: u64,
}

/// The runs that wait for anything, in the order in which they may go.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    order: BTreeMap<Place, RunId>,
    places: BTreeMap<RunId, Place>,
    next_ticket: u64,
}

impl Queue {
    /// Gives `id` its place; a run that comes back between attempts keeps the ticket that it had.
    pub fn push(&mut self, id: RunId, priority: i8, ticket: Option<u64>) -> u64 {
        let ticket = ticket.unwrap_or(self.next_ticket);
        self.next_ticket = self.next_ticket.max(ticket + 1);
        let place = Place { rank: -i16::from(priority), ticket };
        self.order.insert(place, id);
        self.places.insert(id, place);
        ticket
    }

    /// Takes `id` out; false where it was not queued.
    pub fn remove(&mut self, id: RunId) -> bool {
        self.places.remove(&id).is_some_and(|place| self.order.remove(&place).is_some())
    }

    /// First to last.
    pub fn iter(&self) -> impl Iterator<Item = RunId> + '_ {
        self.order.values().copied()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// True where nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;

    #[test]
    fn priority_then_age() {
        let ids: Vec<RunId> = (0..4).map(|n| RunId::new(Time::from_millis(n), [0; 10])).collect();
        let mut queue = Queue::default();
        let first = queue.push(ids[0], 0, None);
        queue.push(ids[1], 0, None);
        queue.push(ids[2], 100, None);
        queue.push(ids[3], -100, None);
        assert_eq!(queue.iter().collect::<Vec<_>>(), [ids[2], ids[0], ids[1], ids[3]]);
        assert!(queue.remove(ids[0]) && !queue.remove(ids[0]));
        queue.push(ids[0], 0, Some(first));
        assert_eq!(queue.iter().nth(1), Some(ids[0]), "back in its old place");
    }
}
