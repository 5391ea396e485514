//! What a fleet has come to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use zerotouch_device::{Failure, Scope};

/// How many steps there are from a time to its double.
const STEPS: u32 = 32;

/// Counts, times and failures of all devices.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Devices that have provisioned and were let in by their hub, and when each was.
    pub(super) provisioned: Vec<Instant>,
    /// How long that took each, the pauses that the service prescribes included.
    pub(super) provisioning: Histogram,
    /// Devices that were connected, to stay.
    pub(super) connected: u32,
    /// Those whose connection then ended without their doing.
    pub(super) lost: u32,
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    pub(super) acknowledgement: Histogram,
    errors: BTreeMap<String, (u32, String)>,
    /// The first one decides what the process ends with.
    pub(super) first: Option<(Scope, Failure)>,
}

impl Tally {
    pub(super) fn failed(&mut self, scope: Scope, failure: Failure) {
        let entry = self.errors.entry(format!("{scope}: {}", failure.layer()));
        entry.or_insert_with(|| (0, failure.to_string())).0 += 1;
        self.first.get_or_insert((scope, failure));
    }

    pub(super) fn failures(&self) -> u32 {
        self.errors.values().map(|(count, _)| count).sum()
    }

    pub(super) fn errors(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        self.errors.iter().map(|(kind, (count, example))| (&**kind, *count, &**example))
    }

    /// Provisionings a second: all of them, and those between the first and the last `at_once`, when as
    /// many were under way as may be.
    pub(super) fn rates(&self, began: Instant, at_once: usize) -> (f64, Option<f64>) {
        let times = &self.provisioned;
        let per_second = |count: usize, from: Instant, to: Instant| {
            count_as_f64(count as u64) / (to - from).as_secs_f64().max(f64::EPSILON)
        };
        let all = times.last().map_or(0.0, |last| per_second(times.len(), began, *last));
        let last = times.len().saturating_sub(at_once + 1);
        let steady =
            (last > at_once).then(|| per_second(last - at_once, times[at_once], times[last]));
        (all, steady)
    }
}

/// Times, in steps of three per cent.
#[derive(Clone, Debug)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    max: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; (64 * STEPS) as usize], max: Duration::ZERO }
    }
}

impl Histogram {
    pub(super) fn record(&mut self, time: Duration) {
        self.counts[step(time)] += 1;
        self.max = self.max.max(time);
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.max = self.max.max(other.max);
    }

    /// The time that so many of a hundred did not exceed; `None` if there is none.
    pub(super) fn percentile(&self, percent: u64) -> Option<Duration> {
        let total: u64 = self.counts.iter().sum();
        let wanted = (total * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let step = self.counts.iter().position(|count| {
            seen += count;
            seen >= wanted
        })?;
        Some(upper_end(step).min(self.max))
    }

    pub(super) fn json(&self) -> Value {
        let Some((p50, p99)) = self.percentile(50).zip(self.percentile(99)) else {
            return Value::Null;
        };
        json!({ "p50": millis(p50), "p99": millis(p99), "max": millis(self.max) })
    }

    pub(super) fn words(&self) -> String {
        let Some((p50, p99)) = self.percentile(50).zip(self.percentile(99)) else {
            return "none".into();
        };
        let [p50, p99, max] = [p50, p99, self.max].map(millis);
        format!("{p50} ms median, {p99} ms for 99 of 100, {max} ms at most")
    }
}

fn step(time: Duration) -> usize {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
    let octave = micros.ilog2();
    // The bits below the first, as far as they choose a step.
    let below = (u128::from(micros - (1 << octave)) * u128::from(STEPS)) >> octave;
    (octave * STEPS) as usize + usize::try_from(below).unwrap_or_default()
}

fn upper_end(step: usize) -> Duration {
    let (octave, below) = (step / STEPS as usize, step % STEPS as usize);
    let micros = (1_u128 << octave) * (STEPS as usize + below + 1) as u128 / u128::from(STEPS);
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

#[allow(clippy::cast_precision_loss, reason = "no run counts to 2^52")]
pub(super) fn count_as_f64(count: u64) -> f64 {
    count as f64
}

/// Milliseconds to the hundredth.
pub(super) fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e5).round() / 1e2
}

#[cfg(test)]
mod tests {
    use super::*;

    // Whoever reads a percentile must not be told less than was measured, nor much more.
    #[test]
    fn percentiles_are_within_a_step() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(50), None);
        (1..=1000).for_each(|n| histogram.record(Duration::from_micros(n * 1000)));
        for (percent, millis) in [(1, 10.0), (50, 500.0), (99, 990.0), (100, 1000.0)] {
            let found = histogram.percentile(percent).unwrap().as_secs_f64() * 1000.0;
            assert!((millis..millis * 1.04).contains(&found), "{percent}: {found}");
        }
        let mut extreme = Histogram::default();
        extreme.record(Duration::ZERO);
        extreme.record(Duration::MAX);
        extreme.add(&histogram);
        assert_eq!(extreme.percentile(100), Some(Duration::from_micros(u64::MAX)));
    }

    // The start, when nobody is done yet, and the end, when nobody follows, are not the rate.
    #[test]
    fn the_steady_rate_is_that_of_the_middle() {
        let began = Instant::now();
        let done = |second: u64| began + Duration::from_secs(second);
        let mut tally = Tally::default();
        assert_eq!(tally.rates(began, 1), (0.0, None));
        tally.provisioned = [10, 20, 21, 22, 23, 90].map(done).into();
        let (all, steady) = tally.rates(began, 1);
        assert!((all - 6.0 / 90.0).abs() < 1e-9, "{all}");
        assert!((steady.unwrap() - 1.0).abs() < 1e-9, "{steady:?}");
    }
}
