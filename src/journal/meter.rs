//! At most ten `run.output` and ten `run.progress` events a second and run, and never without the last one. Reads no
//! clock: the caller passes `now`.

use std::time::{Duration, Instant};

/// Between two events of one name and run.
const EVERY: Duration = Duration::from_millis(100);

/// Keeps only the newest of values that come too fast.
#[derive(Debug)]
pub struct Latest<T> {
    last: Option<Instant>,
    held: Option<T>,
}

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self { last: None, held: None }
    }
}

impl<T> Latest<T> {
    /// A new value; returned where it may be told now, else held back in the place of an older one.
    pub fn offer(&mut self, value: T, now: Instant) -> Option<T> {
        self.held = Some(value);
        self.due(now)
    }

    /// The value that was held back, once its time has come.
    pub fn due(&mut self, now: Instant) -> Option<T> {
        if self.held.is_some() && self.wait(now).is_some_and(|wait| wait.is_zero()) {
            self.last = Some(now);
            return self.held.take();
        }
        None
    }

    /// How long until [`due`](Self::due) has something to tell; `None` where nothing is held back.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        self.held.as_ref()?;
        Some(self.last.map_or(Duration::ZERO, |last| EVERY.saturating_sub(now.saturating_duration_since(last))))
    }

    /// The run has ended: what was held back is told at once.
    pub fn finish(&mut self) -> Option<T> {
        self.held.take()
    }
}

/// Sums up output: the value to tell is the number of bytes since the last event.
#[derive(Debug, Default)]
pub struct OutputMeter(Latest<u64>);

impl OutputMeter {
    /// `bytes` more were written to the log; returns what to tell now.
    pub fn add(&mut self, bytes: u64, now: Instant) -> Option<u64> {
        if bytes == 0 {
            return self.due(now);
        }
        let sum = self.0.held.unwrap_or(0).saturating_add(bytes);
        self.0.offer(sum, now)
    }

    /// What was held back, once its time has come.
    pub fn due(&mut self, now: Instant) -> Option<u64> {
        self.0.due(now)
    }

    /// How long until [`due`](Self::due) has something to tell; `None` where nothing is held back.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        self.0.wait(now)
    }

    /// The run has ended: what was held back is told at once.
    pub fn finish(&mut self) -> Option<u64> {
        self.0.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_ten_a_second_and_every_byte_once() {
        let start = Instant::now();
        let mut meter = OutputMeter::default();
        let mut told = Vec::new();
        for ms in 0..1_000 {
            told.extend(meter.add(7, start + Duration::from_millis(ms)));
        }
        assert_eq!(told.len(), 10);
        told.extend(meter.finish());
        assert_eq!(told.iter().sum::<u64>(), 7_000);
        assert_eq!(meter.finish(), None);
    }

    #[test]
    fn what_is_held_back_comes_when_due() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut steps = Latest::default();
        assert_eq!(steps.wait(at(0)), None);
        assert_eq!(steps.offer("1/7", at(0)), Some("1/7"));
        assert_eq!(steps.offer("2/7", at(10)), None);
        assert_eq!(steps.offer("3/7", at(20)), None);
        assert_eq!(steps.wait(at(30)), Some(Duration::from_millis(70)));
        assert_eq!(steps.due(at(99)), None);
        assert_eq!(steps.due(at(100)), Some("3/7"), "only the newest");
        assert_eq!(steps.due(at(300)), None);
    }
}
