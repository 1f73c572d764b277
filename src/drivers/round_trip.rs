//! How long a device takes to answer, and how long to wait for it.

use std::time::Duration;

/// No wait is shortened below this: a device may do other things for a while.
const LEAST_TIMEOUT: Duration = Duration::from_millis(100);
/// A reply counts for a part in 2^3 of the smoothed time.
const WEIGHT_SHIFT: u32 = 3;

/// The smoothed round trip of one device, and the timeouts that follow from it.
///
/// A device that answers in 5 ms is missed after 100 ms, not after the second that was configured: on a
/// shared line the rest of that second belongs to others. A device that has become slower is not lost by it:
/// after a wait in vain the next ones are whole, until a reply tells how long it takes now.
#[derive(Clone, Debug)]
pub struct RoundTrip {
    configured: Duration,
    /// The smoothed time, shifted by `WEIGHT_SHIFT` so that nothing is lost by rounding; `None` before the
    /// first reply.
    scaled_us: Option<u64>,
    /// The last read was not answered in time.
    missed: bool,
}

impl RoundTrip {
    /// `configured` is the longest wait.
    pub fn new(configured: Duration) -> RoundTrip {
        RoundTrip { configured, scaled_us: None, missed: false }
    }

    /// A read was answered after so long. Writes are not reported: they may take their time.
    pub fn on_reply(&mut self, took: Duration) {
        let sample_us = took.as_micros().min(self.configured.as_micros()) as u64;
        self.scaled_us = Some(match self.scaled_us {
            None => sample_us << WEIGHT_SHIFT,
            Some(scaled) => scaled - (scaled >> WEIGHT_SHIFT) + sample_us,
        });
        self.missed = false;
    }

    /// A read was not answered in time.
    pub fn on_timeout(&mut self) {
        self.missed = true;
    }

    /// The smoothed time from request to reply; `None` before the first reply.
    pub fn smoothed(&self) -> Option<Duration> {
        self.scaled_us.map(|scaled| Duration::from_micros(scaled >> WEIGHT_SHIFT))
    }

    /// How long to wait for the reply to a read: the [shortest](Self::shortest_timeout) wait, and after one
    /// in vain all that is configured.
    pub fn read_timeout(&self) -> Duration {
        if self.missed { self.configured } else { self.shortest_timeout() }
    }

    /// A read that is waited for no longer than this may be one that is answered: four times the smoothed
    /// round trip, at least 100 ms, at most what is configured.
    pub fn shortest_timeout(&self) -> Duration {
        let usual = self.smoothed().map(|smoothed| (4 * smoothed).max(LEAST_TIMEOUT));
        usual.map_or(self.configured, |usual| usual.min(self.configured))
    }

    /// How long to wait for the reply to a write: always what is configured, for a write that was given up
    /// too early leaves everybody in doubt.
    pub fn write_timeout(&self) -> Duration {
        self.configured
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// After so many replies of that time, how long is waited for a read, in milliseconds.
    #[track_caller]
    fn check(configured_ms: u64, replies: &[(usize, u64)], want_ms: u64) {
        let mut trip = RoundTrip::new(ms(configured_ms));
        for &(count, took_ms) in replies {
            (0..count).for_each(|_| trip.on_reply(ms(took_ms)));
        }
        assert_eq!(trip.read_timeout().as_millis(), u128::from(want_ms), "{replies:?}");
        assert_eq!(trip.write_timeout(), ms(configured_ms));
    }

    #[test]
    fn a_read_is_waited_for_four_round_trips() {
        check(1_000, &[], 1_000);
        check(1_000, &[(1, 40)], 160);
        check(1_000, &[(100, 200)], 800);
    }

    #[test]
    fn within_a_tenth_of_a_second_and_what_is_configured() {
        check(1_000, &[(1, 0)], 100);
        check(1_000, &[(1, 25)], 100);
        check(1_000, &[(1, 26)], 104);
        check(1_000, &[(1, 250)], 1_000);
        check(1_000, &[(1, 900)], 1_000);
        check(60, &[(1, 5)], 60);
    }

    #[test]
    fn a_reply_counts_for_an_eighth() {
        check(1_000, &[(1, 40), (1, 120)], 200);
        check(1_000, &[(1, 120), (1, 40)], 440);
        check(1_000, &[(1, 40), (60, 120)], 479);
    }

    /// A reply that came an hour late says no more than that the wait was too short.
    #[test]
    fn no_reply_counts_for_more_than_what_is_configured() {
        check(1_000, &[(1, 5), (1, 3_600_000)], 517);
    }

    #[test]
    fn after_a_wait_in_vain_the_next_are_whole_until_a_reply() {
        let mut trip = RoundTrip::new(ms(1_000));
        trip.on_reply(ms(5));
        for _ in 0..3 {
            trip.on_timeout();
            assert_eq!(trip.read_timeout(), ms(1_000));
        }
        trip.on_reply(ms(5));
        assert_eq!(trip.read_timeout(), ms(100));
    }

    /// A device whose replies come much later than before, but within what is configured, is found again.
    #[test]
    fn a_device_that_became_slow_is_not_lost() {
        let mut trip = RoundTrip::new(ms(1_000));
        trip.on_reply(ms(5));
        let answered = (0..20).filter(|_| {
            let in_time = trip.read_timeout() >= ms(700);
            if in_time {
                trip.on_reply(ms(700))
            } else {
                trip.on_timeout()
            }
            in_time
        });
        assert_eq!(answered.count(), 17);
        assert_eq!(trip.read_timeout(), ms(1_000));
    }

    proptest! {
        #[test]
        fn the_smoothed_time_is_among_the_samples(took_us in prop::collection::vec(0..900_000_u64, 1..50)) {
            let mut trip = RoundTrip::new(ms(1_000));
            took_us.iter().for_each(|&us| trip.on_reply(Duration::from_micros(us)));
            let (least, most) = (took_us.iter().min(), took_us.iter().max());
            let smoothed = trip.smoothed().map(|smoothed| smoothed.as_micros() as u64);
            prop_assert!(least <= smoothed.as_ref() && smoothed.as_ref() <= most, "{smoothed:?}");
        }

        #[test]
        fn it_settles_on_what_does_not_change(first_us in 0..900_000_u64, then_us in 0..900_000_u64) {
            let mut trip = RoundTrip::new(ms(1_000));
            trip.on_reply(Duration::from_micros(first_us));
            (0..150).for_each(|_| trip.on_reply(Duration::from_micros(then_us)));
            let smoothed = trip.smoothed().expect("there were replies").as_micros() as u64;
            prop_assert!(smoothed.abs_diff(then_us) <= 1, "{smoothed} for {then_us}");
        }
    }
}
