//! Keeping to a quota.

use std::collections::VecDeque;
use std::time::Duration;

use zerotouch_time::Instant;

use super::fixture::Quota;

/// Counts what was let through in the last period: exactly, not in windows that begin anew.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    passed: VecDeque<Instant>,
}

impl Throttle {
    /// Lets one through, or says how long the quota is used up for.
    pub(super) fn pass(&mut self, quota: Quota, now: Instant) -> Result<(), Duration> {
        while self.passed.front().is_some_and(|first| now.since(*first) >= quota.period) {
            self.passed.pop_front();
        }
        if self.passed.len() < quota.count {
            self.passed.push_back(now);
            return Ok(());
        }
        let next = self.passed.front().map_or(now, |first| *first) + quota.period;
        Err(next.since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The period slides: two bursts around the edge of a window are one burst.
    #[test]
    fn a_period_has_no_edges() {
        let quota = Quota { count: 2, period: Duration::from_secs(10) };
        let at = |secs: u64| Instant::from_micros(secs * 1_000_000);
        let mut throttle = Throttle::default();
        assert_eq!(throttle.pass(quota, at(8)), Ok(()));
        assert_eq!(throttle.pass(quota, at(9)), Ok(()));
        assert_eq!(throttle.pass(quota, at(11)), Err(Duration::from_secs(7)));
        assert_eq!(throttle.pass(quota, at(18)), Ok(()));
        assert_eq!(throttle.pass(quota, at(18)), Err(Duration::from_secs(1)));
        assert_eq!(throttle.pass(quota, at(19)), Ok(()));
        let none = Quota { count: 0, ..quota };
        assert_eq!(Throttle::default().pass(none, at(0)), Err(Duration::from_secs(10)));
    }
}
