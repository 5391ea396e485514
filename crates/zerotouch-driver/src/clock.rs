//! Both clocks of the operating system.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zerotouch_time::{Instant, Now, UnixTime};

/// A wall clock that shows less than this (2025-01-01) was never set: no device of this kind is older
/// than its software.
const EARLIEST: i64 = 1_735_689_600;

/// Reads the clocks for an engine.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: std::time::Instant,
}

impl Clock {
    /// A clock whose monotonic origin is now.
    pub fn new() -> Self {
        Self { origin: std::time::Instant::now() }
    }

    /// Both clocks. The wall clock counts as unset while it shows a time before this software.
    pub fn now(&self) -> Now {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall = i64::try_from(since_epoch.as_secs()).ok().filter(|secs| *secs >= EARLIEST);
        Now {
            monotonic: Instant::ZERO + self.origin.elapsed(),
            wall: wall.map(UnixTime::from_secs),
        }
    }

    /// How long it is until `instant`; zero if it has passed.
    pub fn until(&self, instant: Instant) -> Duration {
        instant - self.now().monotonic
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
