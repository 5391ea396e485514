//! Clock types for engines that never read a clock.
//!
//! An engine is told the time with every input. Two clocks exist, because they answer different
//! questions: the *monotonic* clock ([`Instant`]) drives every deadline and backoff and never steps;
//! the *wall* clock ([`UnixTime`]) is needed for certificate validity and token expiry only, may
//! step either way, and may be unset on a device that has no battery behind its clock. [`Now`]
//! carries both.
//!
//! ```
//! use core::time::Duration;
//! use zerotouch_time::{Instant, UnixTime};
//!
//! let start = Instant::from_micros(1_000);
//! let deadline = start + Duration::from_secs(2);
//! assert_eq!(deadline - start, Duration::from_secs(2));
//! assert_eq!(UnixTime::from_secs(60) + Duration::from_secs(1), UnixTime::from_secs(61));
//! ```

#![no_std]
#![forbid(unsafe_code)]

use core::fmt;
use core::ops::{Add, Sub};
use core::time::Duration;

/// A point on the caller's monotonic clock: microseconds since an origin the caller chooses.
///
/// Arithmetic saturates, so a hostile delay cannot overflow a deadline: the far end, about 584,000
/// years after the origin, is never reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The origin of the caller's clock.
    pub const ZERO: Self = Self(0);

    /// The instant `micros` microseconds after the origin.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the origin.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`, zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        // Rounded up: a deadline may be late by a microsecond, never early.
        let micros = duration.as_nanos().div_ceil(1_000);
        Self(self.0.saturating_add(u64::try_from(micros).unwrap_or(u64::MAX)))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

/// A reading of the wall clock: seconds since 1970-01-01T00:00:00Z, leap seconds not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixTime(i64);

impl UnixTime {
    /// The time `secs` seconds after the epoch.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs)
    }

    /// Seconds since the epoch.
    pub const fn as_secs(self) -> i64 {
        self.0
    }

    /// The time from `earlier` to `self`, zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        let secs = self.0.saturating_sub(earlier.0);
        Duration::from_secs(if secs < 0 { 0 } else { secs.unsigned_abs() })
    }
}

impl Add<Duration> for UnixTime {
    type Output = Self;

    /// Whole seconds are added; a fraction is dropped. Saturates.
    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add_unsigned(duration.as_secs()))
    }
}

impl Sub<Duration> for UnixTime {
    type Output = Self;

    /// Whole seconds are taken off; a fraction is dropped. Saturates.
    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub_unsigned(duration.as_secs()))
    }
}

impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s since 1970", self.0)
    }
}

/// Both clocks, read together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock: every deadline is measured on it.
    pub monotonic: Instant,
    /// The wall clock, `None` while it is known to be unset.
    pub wall: Option<UnixTime>,
}

#[cfg(test)]
mod tests {
    use super::*;

    // A service may name any delay; the arithmetic behind a deadline must not wrap into the past.
    #[test]
    fn arithmetic_saturates() {
        assert_eq!(
            Instant::from_micros(u64::MAX - 1) + Duration::MAX,
            Instant::from_micros(u64::MAX)
        );
        assert_eq!(Instant::ZERO - Instant::from_micros(5), Duration::ZERO);
        assert_eq!(UnixTime::from_secs(i64::MAX) + Duration::MAX, UnixTime::from_secs(i64::MAX));
        assert_eq!(UnixTime::from_secs(i64::MIN) - Duration::MAX, UnixTime::from_secs(i64::MIN));
        assert_eq!(
            UnixTime::from_secs(i64::MIN).since(UnixTime::from_secs(i64::MAX)),
            Duration::ZERO
        );
        assert_eq!(
            UnixTime::from_secs(i64::MAX).since(UnixTime::from_secs(i64::MIN)).as_secs(),
            i64::MAX.unsigned_abs()
        );
    }

    // Deadlines are promises to a service ("not before"): rounding must never make one early.
    #[test]
    fn deadlines_round_up() {
        assert_eq!(Instant::ZERO + Duration::from_nanos(1), Instant::from_micros(1));
        assert_eq!(Instant::ZERO + Duration::from_micros(7), Instant::from_micros(7));
    }
}
