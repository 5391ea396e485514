//! Delays between attempts.

use core::time::Duration;

use rand_core::Rng;

use crate::Backoff;

/// How far up its ladder an effort is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ladder {
    failures: u32,
}

impl Ladder {
    /// The delay before the next attempt: `floor`, and full jitter above it.
    ///
    /// Never clamped back to the cap: jitter that is dropped there synchronises a fleet again.
    pub(crate) fn next(
        &mut self,
        backoff: Backoff,
        floor: Duration,
        rng: &mut impl Rng,
    ) -> Duration {
        let doubled = backoff.initial.saturating_mul(1 << self.failures.min(30));
        self.failures = self.failures.saturating_add(1);
        floor + up_to(doubled.min(backoff.cap), rng)
    }

    pub(crate) fn failures(self) -> u32 {
        self.failures
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Some time from none to `top`, drawn evenly.
pub(crate) fn up_to(top: Duration, rng: &mut impl Rng) -> Duration {
    let top = u64::try_from(top.as_micros()).unwrap_or(u64::MAX - 1);
    Duration::from_micros(rng.next_u64() % (top + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chacha20::ChaCha8Rng;
    use chacha20::rand_core::SeedableRng;

    // Full jitter: the whole range is used, the cap holds for the jitter, the floor for the sum.
    #[test]
    fn delays_double_to_the_cap_and_spread_over_their_whole_range() {
        let backoff = Backoff { initial: Duration::from_secs(1), cap: Duration::from_secs(60) };
        let floor = Duration::from_secs(100);
        let mut rng = ChaCha8Rng::from_seed([3; 32]);
        let (mut lowest, mut highest) = (Duration::MAX, Duration::ZERO);
        for _ in 0..500 {
            let mut ladder = Ladder::default();
            for failures in 0..40_u32 {
                let top = Duration::from_secs(1 << failures.min(6)).min(backoff.cap);
                let delay = ladder.next(backoff, floor, &mut rng);
                assert!(delay >= floor && delay <= floor + top, "{failures}: {delay:?}");
                lowest = lowest.min(delay);
                highest = highest.max(delay);
            }
        }
        assert!(
            lowest < floor + Duration::from_millis(50) && highest > floor + Duration::from_secs(59)
        );
    }
}
