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

    /// Reads a time as services write it (RFC 3339), such as `2026-01-31T12:52:20.565000000Z`, with any
    /// number of decimals, which are dropped, and with an offset in place of `Z`. `None` for anything else.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let number = |range: core::ops::Range<usize>| {
            let digits = text.get(range)?;
            digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse::<i64>().ok())?
        };
        let punctuation =
            |at: usize, marks: &[u8]| marks.contains(text.as_bytes().get(at)?).then_some(());
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
        for (at, marks) in [(4, &b"-"[..]), (7, b"-"), (10, b"Tt "), (13, b":"), (16, b":")] {
            punctuation(at, marks)?;
        }
        let possible = (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && (0..24).contains(&hour)
            && (0..60).contains(&minute)
            && (0..=60).contains(&second);
        let rest = text.get(19..).filter(|_| possible)?;
        let zone = match rest.strip_prefix('.') {
            Some(decimals) => decimals.trim_start_matches(|c: char| c.is_ascii_digit()),
            None => rest,
        };
        let offset = match zone.as_bytes() {
            b"Z" | b"z" => 0,
            [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2]
                if [h1, h2, m1, m2].into_iter().all(u8::is_ascii_digit) =>
            {
                let two = |high: &u8, low: &u8| i64::from(high - b'0') * 10 + i64::from(low - b'0');
                let seconds = two(h1, h2) * 3600 + two(m1, m2) * 60;
                if *sign == b'-' { -seconds } else { seconds }
            }
            _ => return None,
        };
        let time_of_day = hour * 3600 + minute * 60 + second;
        Some(Self(days_since_1970(year, month, day) * 86_400 + time_of_day - offset))
    }

    /// The time from `earlier` to `self`, zero if `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        let secs = self.0.saturating_sub(earlier.0);
        Duration::from_secs(if secs < 0 { 0 } else { secs.unsigned_abs() })
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, whose years are begun with March here, so that
/// the day that some have is their last.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // From March on, five months have 153 days.
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
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

/// As RFC 3339 writes it, `2026-06-01T00:00:00Z`; what no four digits of a year can say, as seconds.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: i64 = 24 * 60 * 60;
        let (days, secs) = (self.0.div_euclid(DAY), self.0.rem_euclid(DAY));
        let (year, month, day) = civil(days);
        if !(0..=9999).contains(&year) {
            return write!(f, "{} s since 1970", self.0);
        }
        let (hour, minute, second) = (secs / 3600, secs / 60 % 60, secs % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

/// Year, month and day of the `days`th day after 1970-01-01 in the Gregorian calendar. Years are
/// counted from March, so that the leap day is their last; 400 of them are one era.
const fn civil(days: i64) -> (i64, i64, i64) {
    const ERA: i64 = 400 * 365 + 97;
    // 1970-01-01 is 719,468 days after 0000-03-01.
    let days = days + 719_468;
    let day_of_era = days.rem_euclid(ERA);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + days.div_euclid(ERA) * 400 + (month <= 2) as i64;
    (year, month, day)
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
    extern crate std;

    use super::*;
    use std::string::ToString;

    // People read these in messages and compare them with what other tools print.
    #[test]
    fn shows_dates() {
        for (secs, shown) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_780_272_000, "2026-06-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
            (-62_167_219_200, "0000-01-01T00:00:00Z"),
            (253_402_300_800, "253402300800 s since 1970"),
            (i64::MAX, "9223372036854775807 s since 1970"),
            (i64::MIN, "-9223372036854775808 s since 1970"),
        ] {
            assert_eq!(UnixTime::from_secs(secs).to_string(), shown, "{secs}");
        }
    }

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

    // The seconds are those of `date -u -d … +%s`.
    #[test]
    fn times_of_services_are_read() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2026-01-31T12:52:20.565000000Z", 1_769_863_940),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("2000-03-01T00:00:00.1Z", 951_868_800),
            ("2100-03-01T00:00:00z", 4_107_542_400),
            ("1969-12-31T23:59:59Z", -1),
            ("2026-11-24T12:00:00+02:30", 1_795_512_600),
            ("2026-11-24T12:00:00.5-00:30", 1_795_523_400),
        ] {
            assert_eq!(UnixTime::parse_rfc3339(text), Some(UnixTime(seconds)), "{text}");
        }
        for text in [
            "",
            "2026",
            "2026-01-31",
            "2026-01-31T12:52:20",
            "2026-01-31T12:52:20.5",
            "2026-13-31T12:52:20Z",
            "2026-01-00T12:52:20Z",
            "2026-01-31T24:52:20Z",
            "+026-01-31T12:52:20Z",
            "2026-01-31T12:52:20Zx",
            "2026-01-31T12:52:20+0200",
            "2026-01-31T12:52:2\u{e9}Z",
        ] {
            assert_eq!(UnixTime::parse_rfc3339(text), None, "{text}");
        }
    }

    // Deadlines are promises to a service ("not before"): rounding must never make one early.
    #[test]
    fn deadlines_round_up() {
        assert_eq!(Instant::ZERO + Duration::from_nanos(1), Instant::from_micros(1));
        assert_eq!(Instant::ZERO + Duration::from_micros(7), Instant::from_micros(7));
    }
}
