//! What part of a shared line its dead units may take, so that the others keep the rest.
//!
//! All units that are held for dead share one budget. A budget for each would not do: of thirty units with a
//! tenth each, ten dead ones could take the whole line. Each has one of its own besides, from its first
//! request in vain on: that others are dead is no reason not to ask it again.

use std::collections::VecDeque;
use std::time::Duration;

use crate::base::time::Tick;

/// Over so long a time the share is measured, wherever it begins.
pub const WINDOW: Duration = Duration::from_secs(10);
/// Waits in vain that are remembered one by one; of more, the two oldest become one.
const MOST_WAITS: usize = 32;

/// How long one line has waited in vain of late.
#[derive(Clone, Debug)]
pub struct DeadShare {
    percent: u32,
    /// Over which it is measured: so long that the longest wait is no more than its share.
    window: Duration,
    /// The oldest first; all that ended within the window.
    waits: VecDeque<Wait>,
}

#[derive(Clone, Copy, Debug)]
struct Wait {
    end: Tick,
    span: Duration,
}

impl DeadShare {
    /// Dead units may take so many hundredths of the line's time. No wait is longer than `longest`.
    ///
    /// # Panics
    /// If `percent` is not within 1 to 100.
    pub fn new(percent: u32, longest: Duration) -> DeadShare {
        assert!((1..=100).contains(&percent), "a share is 1 to 100 percent, not {percent}");
        DeadShare { percent, window: WINDOW.max(longest * 100 / percent), waits: VecDeque::new() }
    }

    /// For how long the line may wait in vain from now on, so that the share is kept.
    pub fn room(&self, now: Tick) -> Duration {
        let recent = self.waits.iter().filter(|wait| wait.end + self.window > now);
        (self.window * self.percent / 100).saturating_sub(recent.map(|wait| wait.span).sum())
    }

    /// From when on a probe keeps the share even if it is in vain and the line waits for `timeout`: no window
    /// that ends with it holds more. If the timeout is more than the share of a window, the line has to have
    /// been free of such waits for so long that the wait is its share of that time.
    ///
    /// One probe at a time: the next is asked for when the outcome of this one is known.
    pub fn probe_at(&self, now: Tick, timeout: Duration) -> Tick {
        let window = WINDOW.max(timeout * 100 / self.percent);
        let mut room = (window * self.percent / 100).saturating_sub(timeout);
        for wait in self.waits.iter().rev() {
            match room.checked_sub(wait.span) {
                Some(rest) => room = rest,
                // This one has to have left the window when the probe ends; those before it have left then.
                None => return now.max(wait.end + (window - timeout)),
            }
        }
        now
    }

    /// The line waited in vain from `begin` to `end`: for a probe, or for a request to a unit that was still
    /// believed to answer. Requests that are under way together are waited for once.
    pub fn on_unanswered(&mut self, begin: Tick, end: Tick) {
        let begin = self.waits.back().map_or(begin, |last| last.end.max(begin));
        while self.waits.front().is_some_and(|oldest| oldest.end + self.window <= end) {
            self.waits.pop_front();
        }
        if self.waits.len() == MOST_WAITS {
            let oldest = self.waits.pop_front().expect("it is full");
            self.waits[0].span += oldest.span;
        }
        self.waits.push_back(Wait { end, span: end - begin });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Tick {
        Tick::from_micros(ms * 1_000)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const LONGEST_MS: u64 = 3_000;

    /// After these waits, from when on a probe may be sent, in milliseconds.
    #[track_caller]
    fn check(waits: &[(u64, u64)], now: u64, timeout: u64, want: u64) {
        let mut share = DeadShare::new(10, ms(LONGEST_MS));
        waits.iter().for_each(|&(begin, end)| share.on_unanswered(at(begin), at(end)));
        assert_eq!(share.probe_at(at(now), ms(timeout)), at(want), "{timeout} ms at {now} after {waits:?}");
    }

    #[test]
    fn a_tenth_of_ten_seconds() {
        check(&[], 5, 1_000, 5);
        check(&[(0, 1_000)], 1_000, 1_000, 10_000);
        check(&[(0, 1_000)], 12_000, 1_000, 12_000);
        check(&[(0, 300)], 400, 700, 400);
        check(&[(0, 300)], 400, 701, 9_599);
        check(&[(0, 300), (500, 800), (900, 1_200)], 1_300, 100, 1_300);
        check(&[(0, 300), (500, 800), (900, 1_200)], 1_300, 300, 10_000);
        check(&[(0, 300), (500, 800), (900, 1_200)], 1_300, 700, 10_100);
        check(&[(0, 300), (500, 800), (900, 1_200)], 1_300, 701, 10_499);
    }

    #[test]
    fn a_longer_timeout_waits_until_it_is_a_tenth() {
        check(&[], 0, 3_000, 0);
        check(&[(0, 3_000)], 3_000, 3_000, 30_000);
        check(&[(0, 100)], 200, 3_000, 27_100);
        check(&[(0, 3_000)], 3_000, 500, 12_500);
    }

    #[test]
    fn what_is_left_of_it() {
        let mut share = DeadShare::new(10, ms(400));
        let room_ms = |share: &DeadShare, now| share.room(at(now)).as_millis();
        assert_eq!(room_ms(&share, 0), 1_000);
        share.on_unanswered(at(0), at(100));
        share.on_unanswered(at(2_000), at(2_400));
        assert_eq!(room_ms(&share, 2_400), 500);
        // Two requests at the same time.
        share.on_unanswered(at(2_100), at(2_500));
        assert_eq!(room_ms(&share, 2_500), 400);
        assert_eq!([10_099, 10_100, 12_400, 12_500].map(|now| room_ms(&share, now)), [400, 500, 900, 1_000]);
        share.on_unanswered(at(20_000), at(23_000));
        assert_eq!(room_ms(&share, 23_000), 0);
        assert_eq!(
            DeadShare::new(10, ms(3_000)).room(at(0)),
            ms(3_000),
            "the longest wait has to be allowed"
        );
    }

    #[test]
    fn a_share_of_its_own() {
        let mut half = DeadShare::new(50, ms(LONGEST_MS));
        half.on_unanswered(at(0), at(1_000));
        assert_eq!(half.probe_at(at(1_000), ms(4_000)), at(1_000));
        half.on_unanswered(at(1_000), at(5_000));
        assert_eq!(half.probe_at(at(5_000), ms(1_000)), at(10_000));
        let all = DeadShare::new(100, ms(LONGEST_MS));
        assert_eq!(all.probe_at(at(7), ms(60_000)), at(7));
    }

    #[test]
    fn many_short_waits_are_remembered_in_little() {
        let mut share = DeadShare::new(10, ms(LONGEST_MS));
        for wait in 0..1_000 {
            assert_eq!(share.probe_at(at(2 * wait), ms(1)), at(2 * wait), "after {wait}");
            share.on_unanswered(at(2 * wait), at(2 * wait + 1));
            assert!(share.waits.len() <= MOST_WAITS);
        }
        let next = share.probe_at(at(2_000), ms(1));
        // By itself the first wait would leave at 10.001 s; what became one leaves with its last.
        assert!((at(10_000)..at(12_000)).contains(&next), "{next:?}");
    }

    /// Time waited in vain within `WINDOW` before `end`.
    fn waited(waits: &[(u64, u64)], end: u64) -> u64 {
        let from = end.saturating_sub(WINDOW.as_millis() as u64);
        waits.iter().map(|&(begin, end)| end.saturating_sub(begin.max(from))).sum()
    }

    proptest! {
        /// Probes of any timeouts, some answered before, each sent as soon as that is allowed: no ten seconds
        /// hold more than a tenth of waiting in vain, or than one wait that is longer than that by itself.
        #[test]
        fn no_window_holds_more(probes in prop::collection::vec((1..1_500_u64, 0..100_u64), 1..60)) {
            let mut share = DeadShare::new(10, ms(LONGEST_MS));
            let (mut now, mut waits) = (0, Vec::new());
            for (timeout, percent) in probes {
                let begin = share.probe_at(at(now), ms(timeout)).as_micros().div_ceil(1_000);
                prop_assert!(begin >= now);
                now = begin + timeout * percent.max(1).div_ceil(100);
                share.on_unanswered(at(begin), at(now));
                waits.push((begin, now));
                let span = now - begin;
                prop_assert!(waited(&waits, now) <= span.max(1_000), "{waits:?}");
            }
        }

        /// A line of many dead units, each probed as soon as that is allowed, is used as far as it may be.
        #[test]
        fn the_share_is_used(timeout in 1..3_000_u64) {
            let mut share = DeadShare::new(10, ms(timeout));
            let (mut now, mut sum) = (0, 0);
            while now < 1_000_000 {
                let begin = share.probe_at(at(now), ms(timeout)).as_micros().div_ceil(1_000);
                now = begin + timeout;
                share.on_unanswered(at(begin), at(now));
                sum += timeout;
            }
            let percent = sum * 100 / now;
            prop_assert!((5..=10).contains(&percent), "{percent} %");
        }
    }
}
