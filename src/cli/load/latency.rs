//! How long answers took, from when their requests were due.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

/// Longer ones count as this long.
const LONGEST_US: u64 = 600_000_000;
/// Three digits: 180 KiB.
const DIGITS: u8 = 3;

/// The answer times of a run, in microseconds. Shared by its sessions, which run in one thread: the lock is
/// for the compiler.
pub(in crate::cli) struct Latency(Mutex<Histogram<u64>>);

/// The figures that people ask for, in microseconds; all are 0 where nothing was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Percentiles {
    pub(in crate::cli) p50_us: u64,
    pub(in crate::cli) p90_us: u64,
    pub(in crate::cli) p99_us: u64,
    pub(in crate::cli) p999_us: u64,
    pub(in crate::cli) max_us: u64,
}

impl Default for Latency {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST_US, DIGITS);
        Latency(Mutex::new(histogram.expect("the bounds and digits are in the histogram's range")))
    }
}

impl Latency {
    pub(in crate::cli) fn note(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.histogram().saturating_record(micros);
    }

    /// Whether nothing was noted.
    pub(in crate::cli) fn is_empty(&self) -> bool {
        self.histogram().is_empty()
    }

    pub(in crate::cli) fn percentiles(&self) -> Percentiles {
        Latency::percentiles_of(&self.histogram())
    }

    /// Those of both together.
    pub(in crate::cli) fn percentiles_with(&self, other: &Latency) -> Percentiles {
        let mut both = self.histogram().clone();
        both.add(&*other.histogram()).expect("all histograms have the same bounds");
        Latency::percentiles_of(&both)
    }

    fn histogram(&self) -> MutexGuard<'_, Histogram<u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn percentiles_of(histogram: &Histogram<u64>) -> Percentiles {
        if histogram.is_empty() {
            return Percentiles::default();
        }
        Percentiles {
            p50_us: histogram.value_at_quantile(0.5),
            p90_us: histogram.value_at_quantile(0.9),
            p99_us: histogram.value_at_quantile(0.99),
            p999_us: histogram.value_at_quantile(0.999),
            max_us: histogram.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_noted() {
        let latency = Latency::default();
        assert_eq!((latency.percentiles(), latency.is_empty()), (Percentiles::default(), true));
        (1..=1_000).for_each(|micros| latency.note(Duration::from_micros(micros)));
        let expected = Percentiles { p50_us: 500, p90_us: 900, p99_us: 990, p999_us: 999, max_us: 1_000 };
        assert_eq!(latency.percentiles(), expected);
        let other = Latency::default();
        (1_001..=2_000).for_each(|micros| other.note(Duration::from_micros(micros)));
        let expected =
            Percentiles { p50_us: 1_000, p90_us: 1_800, p99_us: 1_980, p999_us: 1_998, max_us: 2_000 };
        assert_eq!(latency.percentiles_with(&other), expected);
    }

    /// Whatever the size, to a thousandth; and what is too long counts as the longest.
    #[test]
    fn percentiles_are_exact_to_a_thousandth() {
        for micros in [1, 999, 12_345, 7_654_321, LONGEST_US] {
            let latency = Latency::default();
            latency.note(Duration::from_micros(micros));
            let Percentiles { p50_us, max_us, .. } = latency.percentiles();
            for figure in [p50_us, max_us] {
                assert!(figure >= micros && figure - micros <= micros / 1_000, "{figure} for {micros}");
            }
        }
        let latency = Latency::default();
        latency.note(Duration::MAX);
        assert!(latency.percentiles().max_us >= LONGEST_US);
    }
}
