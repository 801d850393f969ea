//! The two clocks, read nowhere else.

use std::time::{Instant, SystemTime};

use crate::engine::Now;
use crate::time::Time;

/// The monotonic clock since the start, and the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// The monotonic clock starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Both clocks.
    #[must_use]
    pub fn now(&self) -> Now {
        Now { mono: self.started.elapsed(), wall: self.wall() }
    }

    /// The wall clock.
    #[must_use]
    pub fn wall(&self) -> Time {
        wall()
    }
}

/// The wall clock, also for those who have no monotonic one.
#[must_use]
pub fn wall() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Time::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
