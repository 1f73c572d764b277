//! How long answers took, from when their requests were due.

use std::sync::{Mutex, PoisonError};
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(micros);
    }

    pub(in crate::cli) fn percentiles(&self) -> Percentiles {
        let histogram = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if histogram.is_empty() {
            return Percentiles::default();
        }
        Percentiles {
            p50_us: histogram.value_at_quantile(0.5),
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
        assert_eq!(latency.percentiles(), Percentiles::default());
        (1..=1_000).for_each(|micros| latency.note(Duration::from_micros(micros)));
        let Percentiles { p50_us, p99_us, p999_us, max_us } = latency.percentiles();
        assert_eq!((p50_us, p99_us, p999_us, max_us), (500, 990, 999, 1_000));
    }
}
