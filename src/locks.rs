//! Who holds which resource inside this dispatcher. The `flock` that strangers see is the supervisor's; this table only
//! keeps two of our own runs from asking for it at once.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::request::{Resource, RunId};

/// Why a resource cannot be had now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// One of our own runs has it.
    Held(RunId),
    /// A stranger's `flock` has it; worth another look at this moment of the monotonic clock.
    Stranger(Duration),
}

/// Holders by resource.
#[derive(Clone, Debug, Default)]
pub struct Locks {
    held: BTreeMap<Resource, (RunId, Duration)>,
    strangers: BTreeMap<Resource, Duration>,
}

impl Locks {
    /// What keeps `resource` from being taken at `now`.
    #[must_use]
    pub fn busy(&self, resource: &Resource, now: Duration) -> Option<Busy> {
        match (self.held.get(resource), self.strangers.get(resource)) {
            (Some((id, _)), _) => Some(Busy::Held(*id)),
            (None, Some(&until)) if until > now => Some(Busy::Stranger(until)),
            _ => None,
        }
    }

    /// Gives `resource` to `id`. The caller has asked [`Self::busy`] before.
    pub fn acquire(&mut self, resource: &Resource, id: RunId, now: Duration) {
        self.strangers.remove(resource);
        self.held.insert(resource.clone(), (id, now));
    }

    /// Takes `resource` back from `id`; how long it was held.
    pub fn release(&mut self, resource: &Resource, id: RunId, now: Duration) -> Duration {
        match self.held.get(resource) {
            Some(&(holder, since)) if holder == id => {
                self.held.remove(resource);
                now.saturating_sub(since)
            }
            _ => Duration::ZERO,
        }
    }

    /// A stranger holds `resource`: nobody asks again before `until`.
    pub fn stranger(&mut self, resource: &Resource, until: Duration) {
        self.strangers.insert(resource.clone(), until);
    }

    /// The next moment at which a stranger's lock is worth another look.
    #[must_use]
    pub fn next_look(&self, now: Duration) -> Option<Duration> {
        self.strangers.values().copied().filter(|&until| until > now).min()
    }

    /// Forgets strangers whose moment has passed, so that the table does not grow with every name ever asked for.
    pub fn tidy(&mut self, now: Duration) {
        self.strangers.retain(|_, until| *until > now);
    }

    /// Holder and since when, by resource.
    pub fn iter(&self) -> impl Iterator<Item = (&Resource, RunId, Duration)> {
        self.held.iter().map(|(resource, (id, since))| (resource, *id, *since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;

    #[test]
    fn one_holder_and_polite_looks() {
        let (a, b) = (RunId::new(Time::from_millis(1), [0; 10]), RunId::new(Time::from_millis(2), [0; 10]));
        let web: Resource = "web".parse().unwrap();
        let at = Duration::from_secs;
        let mut locks = Locks::default();
        assert_eq!(locks.busy(&web, at(0)), None);
        locks.acquire(&web, a, at(1));
        assert_eq!(locks.busy(&web, at(1)), Some(Busy::Held(a)));
        assert_eq!(locks.release(&web, b, at(2)), Duration::ZERO, "not its lock");
        assert_eq!(locks.release(&web, a, at(3)), at(2));
        locks.stranger(&web, at(5));
        assert_eq!(locks.busy(&web, at(4)), Some(Busy::Stranger(at(5))));
        assert_eq!(locks.next_look(at(4)), Some(at(5)));
        assert_eq!(locks.busy(&web, at(5)), None);
        locks.tidy(at(5));
        assert_eq!(locks.next_look(at(0)), None);
    }
}
