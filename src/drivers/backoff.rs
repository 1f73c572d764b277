//! How long to wait before the next attempt to connect.

use std::time::Duration;

use crate::base::random::Random;

/// Before the first attempt after a success.
const FIRST: Duration = Duration::from_millis(100);
/// The longest, before jitter.
const LONGEST: Duration = Duration::from_secs(5);
/// Each wait is longer or shorter by up to a part in so many, so that devices that were lost together do not
/// come back together.
const JITTER: u32 = 4;

/// The waits of one connection: 0.1 s doubling to 5 s, ± 25 %.
#[derive(Clone, Debug)]
pub struct Backoff {
    failures: u32,
    random: Random,
}

impl Backoff {
    /// The same seed gives the same waits; connections have different ones.
    pub fn new(seed: u64) -> Backoff {
        Backoff { failures: 0, random: Random::new(seed) }
    }

    /// The connection was lost, or could not be made: how long to wait before the next attempt.
    pub fn on_failure(&mut self) -> Duration {
        let wait = doubled(FIRST, self.failures, LONGEST);
        self.failures = self.failures.saturating_add(1);
        wait - wait / JITTER + self.random.part_of(wait / JITTER * 2)
    }

    /// The device has answered: the next wait is a short one. That it accepted the connection is no success,
    /// for one that accepts and closes at once would be connected to ten times a second, for ever.
    pub fn on_success(&mut self) {
        self.failures = 0;
    }
}

/// `first`, doubled so many times, but no longer than `longest`.
pub fn doubled(first: Duration, times: u32, longest: Duration) -> Duration {
    first.saturating_mul(1_u32.checked_shl(times).unwrap_or(u32::MAX)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Milliseconds before jitter, by the number of failures before.
    const STEPS: [u64; 9] = [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000];

    proptest! {
        #[test]
        fn waits_double_to_five_seconds_give_or_take_a_quarter(seed: u64) {
            let mut backoff = Backoff::new(seed);
            for step in STEPS.map(Duration::from_millis) {
                let wait = backoff.on_failure();
                prop_assert!((step * 3 / 4..step * 5 / 4).contains(&wait), "{wait:?} for {step:?}");
            }
            backoff.on_success();
            prop_assert!(backoff.on_failure() < Duration::from_millis(125));
        }
    }

    #[test]
    fn jitter_takes_all_of_its_room() {
        let waits: Vec<u128> = (0..1_000).map(|seed| Backoff::new(seed).on_failure().as_millis()).collect();
        for low in (75..125).step_by(10) {
            let count = waits.iter().filter(|wait| (low..low + 10).contains(*wait)).count();
            assert!((150..250).contains(&count), "{count} of 1000 from {low} ms on");
        }
    }

    #[test]
    fn a_weekend_of_failures_does_no_harm() {
        let mut backoff = Backoff::new(1);
        let weekend = Duration::from_secs(3 * 24 * 3_600);
        let (mut passed, mut attempts) = (Duration::ZERO, 0);
        while passed < weekend {
            passed += backoff.on_failure();
            attempts += 1;
        }
        assert!((50_000..54_000).contains(&attempts), "{attempts} attempts");
    }

    #[test]
    fn doubling_ends_at_the_longest() {
        #[track_caller]
        fn check(times: u32, want_ms: u64) {
            let (first, longest) = (Duration::from_millis(7), Duration::from_millis(100));
            assert_eq!(doubled(first, times, longest), Duration::from_millis(want_ms), "{times} times");
        }
        check(0, 7);
        check(1, 14);
        check(3, 56);
        check(4, 100);
        check(31, 100);
        check(32, 100);
        check(u32::MAX, 100);
        assert_eq!(doubled(Duration::MAX, 2, Duration::MAX), Duration::MAX);
    }
}
