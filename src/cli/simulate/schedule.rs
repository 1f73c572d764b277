//! When each report is due. A pure function of the seed: a device that was away finds its place again, and
//! the end knows what should have been sent.

use std::time::Duration;

use crate::base::random::Random;
use crate::base::time::{Now, Tick};
use crate::metrics::Counter;

/// A report is late by up to this share of the interval.
const JITTER: u64 = 10;

pub(super) struct Schedule {
    seed: u64,
    interval_us: u64,
    /// When the first reports are due; all devices' within an interval from here.
    begin: Tick,
    /// The wall clock at `begin`, in milliseconds.
    begin_ms: i64,
    /// No report is due from here on, in microseconds: brought forward where the run is told to stop.
    end: Counter,
}

impl Schedule {
    /// For reports from `begin` on, for `span`.
    pub(super) fn new(seed: u64, interval: Duration, now: Now, begin: Tick, span: Duration) -> Schedule {
        let end = Counter::default();
        end.set((begin + span).as_micros());
        let begin_ms = now.wall.0 + (begin - now.tick).as_millis() as i64;
        Schedule { seed, interval_us: interval.as_micros() as u64, begin, begin_ms, end }
    }

    pub(super) fn begin(&self) -> Tick {
        self.begin
    }

    pub(super) fn end(&self) -> Tick {
        Tick::from_micros(self.end.value())
    }

    /// No report is due from now on.
    pub(super) fn end_now(&self, now: Tick) {
        self.end.set(self.end.value().min(now.as_micros()));
    }

    /// When a device's report of that number is due: each interval, from a point of its own, with jitter.
    /// Later for each number.
    pub(super) fn due(&self, device: usize, slot: u64) -> Tick {
        let spread = Random::of(self.seed, device as u64).within(0..=self.interval_us - 1);
        let most_jitter = self.interval_us.div_ceil(JITTER) - 1;
        let jitter = Random::of(self.seed ^ slot, !(device as u64)).within(0..=most_jitter);
        let after = spread + slot.saturating_mul(self.interval_us) + jitter;
        self.begin + Duration::from_micros(after)
    }

    /// The first slot from `slot` on that is due at `now` or later.
    pub(super) fn next(&self, device: usize, slot: u64, now: Tick) -> u64 {
        // Two slots before the one that `now` would be in, for spread and jitter.
        let passed = (now - self.begin).as_micros() as u64 / self.interval_us;
        let from = slot.max(passed.saturating_sub(2));
        (from..).find(|&slot| self.due(device, slot) >= now).expect("slots have no end")
    }

    /// How many slots from `slot` on are due before the end.
    pub(super) fn left(&self, device: usize, slot: u64) -> u64 {
        self.next(device, slot, self.end()) - slot
    }

    /// Seconds from the beginning to a tick.
    pub(super) fn seconds(&self, tick: Tick) -> f64 {
        (tick - self.begin).as_secs_f64()
    }

    /// The wall clock at a tick, in milliseconds.
    pub(super) fn wall_ms(&self, tick: Tick) -> i64 {
        self.begin_ms + (tick - self.begin).as_millis() as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Timestamp;

    fn schedule(interval_ms: u64) -> Schedule {
        let now = Now { tick: Tick::from_micros(1_000_000), wall: Timestamp(5_000) };
        let begin = Tick::from_micros(3_000_000);
        Schedule::new(1, Duration::from_millis(interval_ms), now, begin, Duration::from_secs(10))
    }

    #[test]
    fn reports_are_due_each_interval() {
        let schedule = schedule(100);
        for device in 0..50 {
            let due: Vec<u64> = (0..100).map(|slot| schedule.due(device, slot).as_micros()).collect();
            assert!((3_000_000..3_110_000).contains(&due[0]), "{}", due[0]);
            assert!(due.windows(2).all(|two| (90_000..=110_000).contains(&(two[1] - two[0]))));
        }
        let first = |device| schedule.due(device, 0).as_micros();
        let early = (0..1_000).filter(|&device| first(device) < 3_050_000).count();
        assert!((350..600).contains(&early), "{early} of 1000 in the first half of the first interval");
        assert_eq!(schedule.wall_ms(Tick::from_micros(3_002_500)), 7_002);
    }

    #[test]
    fn who_was_away_goes_on_with_what_is_due_next() {
        for interval in [1, 7, 1_000] {
            let schedule = schedule(interval);
            for (device, now) in [(0, 0), (1, 3_000_000), (2, 3_500_000), (3, 9_000_000)] {
                let now = Tick::from_micros(now);
                let slot = schedule.next(device, 0, now);
                assert!(schedule.due(device, slot) >= now);
                assert!(slot == 0 || schedule.due(device, slot - 1) < now);
                assert_eq!(schedule.next(device, slot + 5, now), slot + 5);
            }
            let left = schedule.left(4, 3);
            assert!(schedule.due(4, 3 + left) >= schedule.end());
            assert!(left == 0 || schedule.due(4, 2 + left) < schedule.end());
            schedule.end_now(schedule.begin());
            assert_eq!(schedule.left(4, 0), 0);
        }
    }
}
