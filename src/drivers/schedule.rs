//! When the polls of a device are due.

use std::time::Duration;

use crate::base::time::Tick;

/// First polls are spread over the rate, but over no more than this: nobody is to wait an hour for the first
/// value of an hourly tag. As many devices with a rate of ten seconds would be no greater load.
const FIRST_POLLS_WITHIN: Duration = Duration::from_secs(10);

/// First polls begin at multiples of this, or of a part in so many of a shorter rate: a turn for some dozens
/// of polls costs little more than one for a single poll.
const TOGETHER: Duration = Duration::from_millis(5);
const LEAST_PLACES: u32 = 10;

/// Whoever has just come back is polled within this time, spread as at first.
const SOON: Duration = Duration::from_secs(1);

/// 2^64 divided by the golden ratio (Knuth, TAOCP 3, §6.4): multiples of it fall as far from one another as
/// can be.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The poll groups of one device, one for each rate, and when each is due.
///
/// A group is due at its first time and then each rate; that is never shifted, however late a poll begins.
/// What is due while the poll before is still running, or has not begun yet, is skipped and counted; what was
/// due while the device could not be polled ([`skip`](Self::skip)) is not counted. Polls can be asked for in
/// between.
#[derive(Clone, Debug)]
pub struct Schedule {
    groups: Vec<Group>,
    overruns: u64,
}

#[derive(Clone, Debug)]
struct Group {
    rate: Duration,
    due: Tick,
    /// A poll besides, which changes nothing of when others are due.
    extra: Option<Tick>,
    running: bool,
}

impl Schedule {
    /// Groups are numbered as their rates are. `device` is the device's number, which says where in the rate
    /// its polls lie, counted from `start`.
    ///
    /// # Panics
    /// If a rate is 0; configuration refuses it.
    pub fn new(device: u32, rates: &[Duration], start: Tick) -> Schedule {
        assert!(rates.iter().all(|rate| *rate >= Duration::from_micros(1)), "a rate is longer than nothing");
        let first = |rate: Duration| {
            let step_us = TOGETHER.min(rate / LEAST_PLACES).as_micros().max(1);
            let place_us = spread(device, rate.min(FIRST_POLLS_WITHIN)).as_micros();
            start + Duration::from_micros((place_us - place_us % step_us) as u64)
        };
        let groups = rates.iter().map(|&rate| Group { rate, due: first(rate), extra: None, running: false });
        Schedule { groups: groups.collect(), overruns: 0 }
    }

    /// When the next poll can begin, as far as is known: a group whose poll is running comes in by
    /// [`on_done`](Self::on_done). `None` if all are running.
    pub fn next_due(&self) -> Option<Tick> {
        self.groups.iter().filter(|group| !group.running).map(Group::next).min()
    }

    /// Begin the poll that is due for the longest time, and say of which group. [`on_done`](Self::on_done)
    /// must follow.
    pub fn pop_due(&mut self, now: Tick) -> Option<u16> {
        let groups = self.groups.iter().enumerate();
        let (number, _) = groups
            .filter(|(_, group)| !group.running && group.next() <= now)
            .min_by_key(|(_, group)| group.next())?;
        let group = &mut self.groups[number];
        group.running = true;
        group.extra = None;
        if group.due <= now {
            // It was due so often, and is polled once.
            let missed = group.missed(now);
            group.advance(missed + 1);
            self.overruns += missed as u64;
        }
        Some(number as u16)
    }

    /// The device could not be polled until now: what was due meanwhile is one poll, and none was overrun.
    pub fn skip(&mut self, now: Tick) {
        for group in self.groups.iter_mut().filter(|group| !group.running && group.due <= now) {
            group.advance(group.missed(now));
        }
    }

    /// Poll a group at that time, if it is not due before.
    pub fn add(&mut self, group: u16, at: Tick) {
        let group = &mut self.groups[usize::from(group)];
        group.extra = Some(group.extra.map_or(at, |extra| extra.min(at)));
    }

    /// The device has just come back: poll it soon, however slow its rates are. `device` is its number.
    pub fn on_return(&mut self, device: u32, now: Tick) {
        self.skip(now);
        for group in 0..self.groups.len() {
            if self.groups[group].due > now + SOON {
                self.add(group as u16, now + spread(device, SOON));
            }
        }
    }

    /// The poll of a group is over, whatever came of it.
    pub fn on_done(&mut self, group: u16, now: Tick) {
        let group = &mut self.groups[usize::from(group)];
        group.running = false;
        let skipped = (now - group.due).as_micros().div_ceil(group.rate.as_micros());
        group.advance(skipped);
        self.overruns += skipped as u64;
    }

    /// How often a poll was skipped because the one before was still running, or had not begun.
    pub fn overruns(&self) -> u64 {
        self.overruns
    }
}

impl Group {
    fn next(&self) -> Tick {
        self.extra.map_or(self.due, |extra| extra.min(self.due))
    }

    /// How many due times have passed since the one that comes next, which has come.
    fn missed(&self, now: Tick) -> u128 {
        (now - self.due).as_micros() / self.rate.as_micros()
    }

    /// Leave so many due times out.
    fn advance(&mut self, times: u128) {
        let due_us = u128::from(self.due.as_micros()) + times * self.rate.as_micros();
        self.due = Tick::from_micros(u64::try_from(due_us).unwrap_or(u64::MAX));
    }
}

/// A part of `over` for each `number`: any run of consecutive numbers is spread evenly, so that neither a
/// thousand devices nor the twenty on one line are polled at the same time.
pub fn spread(number: u32, over: Duration) -> Duration {
    let turn = u64::from(number).wrapping_mul(GOLDEN);
    Duration::from_micros(((u128::from(turn) * over.as_micros()) >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START_MS: u64 = 1_000_000;

    fn at(ms: u64) -> Tick {
        Tick::from_micros((START_MS + ms) * 1_000)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Of the device 0, whose polls are due at the start of each rate.
    fn schedule(rates_ms: &[u64]) -> Schedule {
        let rates: Vec<_> = rates_ms.iter().copied().map(ms).collect();
        Schedule::new(0, &rates, at(0))
    }

    /// Milliseconds from the start to what is due next.
    fn next_ms(schedule: &Schedule) -> Option<u64> {
        schedule.next_due().map(|due| (due - at(0)).as_millis() as u64)
    }

    #[test]
    fn polls_do_not_drift() {
        let mut schedule = schedule(&[100]);
        for poll in 0..1_000 {
            assert_eq!(next_ms(&schedule), Some(100 * poll));
            let begun = 100 * poll + poll % 40;
            assert_eq!(schedule.pop_due(at(begun)), Some(0));
            assert_eq!(schedule.next_due(), None, "it is running");
            schedule.on_done(0, at(begun + 50));
        }
        assert_eq!(schedule.overruns(), 0);
    }

    #[test]
    fn nothing_is_due_early_and_each_due_time_gives_one_poll() {
        let mut schedule = schedule(&[100]);
        assert_eq!(schedule.pop_due(at(0)), Some(0));
        assert_eq!(schedule.pop_due(at(0)), None);
        schedule.on_done(0, at(10));
        assert_eq!(schedule.pop_due(at(99)), None);
        assert_eq!(schedule.pop_due(at(100)), Some(0));
    }

    #[test]
    fn a_poll_that_is_still_running_when_it_is_due_is_skipped_and_counted() {
        #[track_caller]
        fn check(done_ms: u64, overruns: u64, next: u64) {
            let mut schedule = schedule(&[100]);
            assert_eq!(schedule.pop_due(at(0)), Some(0));
            assert_eq!(schedule.pop_due(at(done_ms)), None, "it is running");
            schedule.on_done(0, at(done_ms));
            assert_eq!(
                (schedule.overruns(), next_ms(&schedule)),
                (overruns, Some(next)),
                "done at {done_ms}"
            );
        }
        check(0, 0, 100);
        check(99, 0, 100);
        check(100, 0, 100);
        check(101, 1, 200);
        check(200, 1, 200);
        check(950, 9, 1_000);
    }

    #[test]
    fn a_long_stall_is_followed_by_one_poll() {
        #[track_caller]
        fn check(end: impl Fn(&mut Schedule), overruns: u64) {
            let mut schedule = schedule(&[100]);
            end(&mut schedule);
            assert_eq!(schedule.pop_due(at(3_600_050)), Some(0));
            schedule.on_done(0, at(3_600_060));
            assert_eq!(schedule.pop_due(at(3_600_060)), None);
            assert_eq!((next_ms(&schedule), schedule.overruns()), (Some(3_600_100), overruns));
        }
        // It was the line's fault, or the device's, which was not there.
        check(|_| {}, 36_000);
        check(|schedule| schedule.skip(at(3_600_050)), 0);
        check(|schedule| schedule.on_return(0, at(3_600_049)), 0);
        check(|schedule| schedule.skip(at(1_800_000)), 18_000);
    }

    #[test]
    fn a_poll_that_begins_late_is_counted_only_if_another_was_due() {
        #[track_caller]
        fn check(begun_ms: u64, overruns: u64) {
            let mut schedule = schedule(&[100]);
            assert_eq!(schedule.pop_due(at(begun_ms)), Some(0));
            assert_eq!(schedule.overruns(), overruns, "begun after {begun_ms} ms");
        }
        check(0, 0);
        check(99, 0);
        check(100, 1);
        check(199, 1);
        check(950, 9);
    }

    #[test]
    fn a_poll_in_between_changes_nothing_of_the_others() {
        let mut schedule = schedule(&[60_000]);
        assert_eq!(schedule.pop_due(at(0)), Some(0));
        schedule.on_done(0, at(10));
        schedule.add(0, at(2_000));
        schedule.add(0, at(1_000));
        assert_eq!((next_ms(&schedule), schedule.pop_due(at(999))), (Some(1_000), None));
        assert_eq!(schedule.pop_due(at(1_000)), Some(0));
        schedule.on_done(0, at(1_010));
        assert_eq!(next_ms(&schedule), Some(60_000), "it was one poll");
        schedule.add(0, at(70_000));
        assert_eq!(schedule.pop_due(at(60_005)), Some(0));
        schedule.on_done(0, at(60_010));
        assert_eq!((next_ms(&schedule), schedule.overruns()), (Some(120_000), 0), "it was due before");
    }

    #[test]
    fn who_comes_back_is_polled_within_a_second() {
        let polled_after = |device: u32| {
            let mut schedule = Schedule::new(device, &[ms(3_600_000)], at(0));
            assert_eq!(schedule.pop_due(at(20_000)), Some(0));
            schedule.on_done(0, at(20_000));
            schedule.on_return(device, at(20_000));
            schedule.next_due().expect("it is idle") - at(20_000)
        };
        let mut times: Vec<_> = (0..1_000).map(polled_after).collect();
        times.sort_unstable();
        assert!(times[999] < SOON);
        assert!(times.windows(2).all(|two| two[1] - two[0] <= ms(3)), "spread as evenly as first polls");
        let mut often = schedule(&[500]);
        assert_eq!(often.pop_due(at(0)), Some(0));
        often.on_done(0, at(0));
        often.on_return(0, at(100));
        assert_eq!(next_ms(&often), Some(500), "soon enough by itself");
    }

    #[test]
    fn what_is_due_for_the_longest_time_comes_first() {
        let mut schedule = schedule(&[100, 250, 1_000]);
        let begun: Vec<_> = std::iter::from_fn(|| schedule.pop_due(at(0))).collect();
        assert_eq!(begun, [0, 1, 2]);
        (0..3).for_each(|group| schedule.on_done(group, at(90)));
        let begun: Vec<_> = std::iter::from_fn(|| schedule.pop_due(at(1_001))).collect();
        assert_eq!(begun, [0, 1, 2], "due at 100, 250 and 1000 ms");
        (0..3).for_each(|group| schedule.on_done(group, at(1_050)));
        let begun: Vec<_> = std::iter::from_fn(|| schedule.pop_due(at(1_300))).collect();
        assert_eq!(begun, [0, 1], "due at 1100 and 1250 ms");
        assert_eq!(next_ms(&schedule), Some(2_000));
    }

    #[test]
    fn first_polls_are_spread_over_the_rate_but_not_over_hours() {
        #[track_caller]
        fn check(rate: Duration, within: Duration) {
            let first =
                |device| Schedule::new(device, &[rate], at(0)).next_due().expect("it is idle") - at(0);
            let firsts: Vec<_> = (0..1_000).map(first).collect();
            assert!(firsts.iter().all(|first| *first < within));
            for tenth in 0..10 {
                let part = within / 10 * tenth..within / 10 * (tenth + 1);
                let count = firsts.iter().filter(|first| part.contains(*first)).count();
                assert!((98..=102).contains(&count), "{count} of 1000 in the tenth {tenth} of {within:?}");
            }
        }
        check(ms(50), ms(50));
        check(ms(1_000), ms(1_000));
        check(ms(10_000), ms(10_000));
        check(ms(3_600_000), ms(10_000));
    }

    /// What is due in one moment is one turn.
    #[test]
    fn first_polls_come_together() {
        #[track_caller]
        fn check(rate: Duration, moments: usize) {
            let first = |device| Schedule::new(device, &[rate], at(0)).next_due().expect("it is idle");
            let firsts: std::collections::HashSet<_> = (0..5_000).map(first).collect();
            assert_eq!(firsts.len(), moments, "of 5000 devices that are polled each {rate:?}");
        }
        check(ms(1_000), 200);
        check(ms(30), 10);
        check(Duration::from_micros(3), 3);
    }

    proptest! {
        /// However few devices share a line, and wherever their numbers begin, no two are polled together.
        #[test]
        fn consecutive_numbers_lie_apart(first in 0..100_000_u32, count in 2..500_u32) {
            let over = Duration::from_secs(1_000);
            let mut places: Vec<_> = (first..first + count).map(|number| spread(number, over)).collect();
            places.sort_unstable();
            let nearest = places.windows(2).map(|two| two[1] - two[0]).min().expect("there are two");
            let widest = places.windows(2).map(|two| two[1] - two[0]).max().expect("there are two");
            prop_assert!(nearest >= over / (3 * count), "{nearest:?} between two of {count}");
            prop_assert!(widest <= over / count * 3, "{widest:?} between two of {count}");
        }

        /// Against the plainest model there is: a list of all due times.
        #[test]
        fn each_due_time_is_polled_or_skipped(
            rate in 1..50_u64,
            steps in prop::collection::vec((0..120_u64, 0..120_u64), 1..40),
        ) {
            let mut schedule = schedule(&[rate]);
            let (mut now, mut overruns) = (0, 0);
            let mut last_begun = None;
            for (idle, busy) in steps {
                now += idle;
                let newest = now / rate;
                let is_due = last_begun.is_none_or(|last| newest > last);
                prop_assert_eq!(schedule.pop_due(at(now)).is_some(), is_due);
                if is_due {
                    overruns += newest - last_begun.map_or(0, |last: u64| last + 1);
                    // One that is due at the very end of a poll is not late.
                    let end = now + busy;
                    let skipped = if end == 0 { 0 } else { ((end - 1) / rate).saturating_sub(newest) };
                    overruns += skipped;
                    last_begun = Some(newest + skipped);
                    now = end;
                    schedule.on_done(0, at(now));
                }
                prop_assert_eq!(schedule.overruns(), overruns);
                let next = last_begun.expect("the first poll is due at once") + 1;
                prop_assert_eq!(next_ms(&schedule).map(|due| due % rate), Some(0));
                prop_assert_eq!(next_ms(&schedule), Some(next * rate));
            }
        }
    }
}
