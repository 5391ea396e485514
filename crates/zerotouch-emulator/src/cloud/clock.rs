//! Time and unique names, as the services write them.

use chacha20::ChaCha20Rng;
use rand_core::Rng;
use time::format_description::well_known::Rfc3339;
use zerotouch_time::{Instant, Now, UnixTime};

use super::table::{Kept, Single};
use crate::pki::offset_date_time;

/// Both clocks, the wall clock always set: a service knows what time it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) monotonic: Instant,
    pub(super) wall: UnixTime,
}

/// What time of day it is: the caller's, and as far ahead of it as somebody has set it.
#[derive(Debug)]
pub(super) struct TimeOfDay {
    /// The caller's last reading, for when it has none.
    last: UnixTime,
    /// In seconds.
    ahead: Single<i64>,
}

impl TimeOfDay {
    pub(super) const fn new(now: UnixTime) -> Self {
        Self { last: now, ahead: Single::new(0) }
    }

    pub(super) fn read(&mut self, now: Now) -> Clock {
        self.last = now.wall.unwrap_or(self.last);
        let wall = UnixTime::from_secs(self.last.as_secs().saturating_add(*self.ahead.get()));
        Clock { monotonic: now.monotonic, wall }
    }

    pub(super) fn set(&mut self, time: UnixTime) {
        self.ahead.set(time.as_secs().saturating_sub(self.last.as_secs()));
    }

    pub(super) fn table(&mut self) -> (&'static str, &mut dyn Kept) {
        ("timeOfDay", &mut self.ahead)
    }
}

impl Clock {
    pub(super) fn timestamp(self) -> String {
        rfc3339(self.wall)
    }
}

pub(super) fn rfc3339(at: UnixTime) -> String {
    // Its range is within four-digit years, the only thing this format refuses.
    offset_date_time(at).format(&Rfc3339).unwrap_or_default()
}

/// A random UUID (RFC 9562, version 4).
pub(super) fn uuid(rng: &mut ChaCha20Rng) -> String {
    let mut bytes = [0; 16];
    rng.fill_bytes(&mut bytes);
    bytes[6] = bytes[6] & 0x0F | 0x40;
    bytes[8] = bytes[8] & 0x3F | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;

    // Real SDKs parse these with date and GUID parsers.
    #[test]
    fn writes_what_sdks_parse() {
        assert_eq!(rfc3339(UnixTime::from_secs(1_769_863_940)), "2026-01-31T12:52:20Z");
        assert_eq!(rfc3339(UnixTime::from_secs(i64::MAX)), "9999-12-31T23:59:59Z");
        assert_eq!(rfc3339(UnixTime::from_secs(i64::MIN)), "1970-01-01T00:00:00Z");
        let id = uuid(&mut ChaCha20Rng::seed_from_u64(1));
        let lengths: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{id}");
        assert!(id[14..].starts_with('4') && id[19..].starts_with(['8', '9', 'a', 'b']), "{id}");
    }
}
