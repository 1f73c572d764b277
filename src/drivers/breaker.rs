//! A circuit breaker for each unit: whoever does not answer is asked no more, but for a probe now and then.

use std::time::Duration;

use super::backoff::doubled;
#[cfg(test)]
use crate::base::mutants::{self, Mutant};
use crate::base::time::Tick;

/// Between the last request in vain and the first probe.
const FIRST_PROBE_AFTER: Duration = Duration::from_secs(1);
/// Between probes, at most: so long it takes until a unit that came back is noticed.
const PROBES_WITHIN: Duration = Duration::from_secs(10);

/// Whether one unit is worth asking.
///
/// ```text
///             opens_after in a row               probe_at
///             not answered                       has come
///   Closed ─────────────────────► Open ──────────────────────► (a probe may be sent)
///     ▲                            ▲                                   │
///     │ a reply                    │ not answered: the wait doubles    │ on_probe
///     └─────────────────────── HalfOpen ◄──────────────────────────────┘
/// ```
#[derive(Clone, Debug)]
pub struct Breaker {
    opens_after: u32,
    /// In a row: requests while it was closed, and probes since.
    unanswered: u32,
    /// When the last of them was found to be unanswered.
    missed_at: Tick,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { probe_at: Tick },
    HalfOpen { since: Tick },
}

/// What may be sent to a unit now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    /// Anything.
    All,
    /// One request, announced by [`Breaker::on_probe`].
    Probe,
    /// Nothing: the unit is held for dead. Orders are refused as offline.
    Nothing,
}

impl Breaker {
    /// Closed. It opens when so many requests in a row, retries included, were not answered; no fewer than a
    /// request has attempts, or retries that are configured would not be made. Requests that are in flight
    /// together count as one: a device that does not answer for a moment leaves all of them unanswered.
    ///
    /// # Panics
    /// If `opens_after` is 0.
    pub fn new(opens_after: u32) -> Breaker {
        assert!(opens_after > 0, "only a request that was not answered opens a breaker");
        Breaker { opens_after, unanswered: 0, missed_at: Tick::default(), state: State::Closed }
    }

    /// What may be sent at that time.
    pub fn permit(&self, now: Tick) -> Permit {
        match self.state {
            State::Closed => Permit::All,
            State::Open { probe_at } if probe_at <= now => Permit::Probe,
            State::Open { .. } | State::HalfOpen { .. } => Permit::Nothing,
        }
    }

    /// Whether the unit is believed to answer.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// So many requests in a row were not answered, and the unit is still believed to answer.
    pub fn misses(&self) -> u32 {
        if self.is_closed() { self.unanswered } else { 0 }
    }

    /// When a probe may be sent; `None` if none is needed, or one is under way.
    pub fn probe_at(&self) -> Option<Tick> {
        match self.state {
            State::Open { probe_at } => Some(probe_at),
            State::Closed | State::HalfOpen { .. } => None,
        }
    }

    /// The one request was sent that [`Permit::Probe`] allowed.
    pub fn on_probe(&mut self, now: Tick) {
        assert!(matches!(self.state, State::Open { .. }), "a probe is for an open breaker without one");
        self.state = State::HalfOpen { since: now };
    }

    /// The unit replied in time, be it with an exception of its own. A reply that came too late is none: it
    /// would let a unit back in that makes others wait with each request. Nor is a gateway's word that the
    /// unit does not answer (exceptions 10 and 11).
    pub fn on_reply(&mut self) {
        #[cfg(test)]
        if !self.is_closed() && mutants::strikes(Mutant::BreakerStaysOpen) {
            return;
        }
        self.unanswered = 0;
        self.state = State::Closed;
    }

    /// A request that was sent at `sent` was not answered in time. Those that were in flight when another was
    /// missed, or when the breaker opened, say nothing new.
    pub fn on_unanswered(&mut self, sent: Tick, now: Tick) {
        let is_new = sent >= self.missed_at;
        #[cfg(test)]
        let is_new = is_new || mutants::strikes(Mutant::MissesAddUp);
        match self.state {
            State::Closed if is_new => {}
            State::HalfOpen { since } if sent >= since => {}
            State::Closed | State::Open { .. } | State::HalfOpen { .. } => return,
        }
        self.missed_at = now;
        self.unanswered = self.unanswered.saturating_add(1);
        if self.unanswered >= self.opens_after {
            self.open(now);
        }
    }

    /// Nothing but probes is sent from now on, however few requests were in vain: others cannot wait for
    /// more.
    pub fn open(&mut self, now: Tick) {
        self.unanswered = self.unanswered.max(self.opens_after);
        let wait = doubled(FIRST_PROBE_AFTER, self.unanswered - self.opens_after, PROBES_WITHIN);
        self.state = State::Open { probe_at: now + wait };
    }

    /// The connection is a new one: what was not answered on the old one says little. A unit that was held
    /// for dead is probed at once.
    pub fn on_reconnect(&mut self, now: Tick) {
        self.unanswered = 0;
        if !self.is_closed() {
            self.unanswered = self.opens_after - 1;
            self.state = State::Open { probe_at: now };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ms: u64) -> Tick {
        Tick::from_micros(ms * 1_000)
    }

    /// What happens to a breaker that opens after 2, and what it says then. `permit` is asked after each
    /// step.
    #[track_caller]
    fn check(steps: &[(u64, &str, Permit)]) {
        let mut breaker = Breaker::new(2);
        for &(ms, step, want) in steps {
            match step {
                "" => {}
                "reply" => breaker.on_reply(),
                "unanswered" => breaker.on_unanswered(at(ms), at(ms)),
                "unanswered at last" => breaker.on_unanswered(at(0), at(ms)),
                "probe" => breaker.on_probe(at(ms)),
                "reconnect" => breaker.on_reconnect(at(ms)),
                "open" => breaker.open(at(ms)),
                _ => panic!("no such step: {step}"),
            }
            assert_eq!(breaker.permit(at(ms)), want, "at {ms} ms: {step}");
            assert_eq!(breaker.is_closed(), want == Permit::All, "at {ms} ms: {step}");
            if let Some(probe_at) = breaker.probe_at() {
                assert_eq!(breaker.permit(probe_at), Permit::Probe, "at {ms} ms: {step}");
            }
        }
    }

    use Permit::{All, Nothing, Probe};

    #[test]
    fn it_opens_after_as_many_in_a_row_as_it_was_told() {
        check(&[(0, "", All), (100, "unanswered", All), (200, "unanswered", Nothing)]);
        check(&[(100, "unanswered", All), (150, "reply", All), (200, "unanswered", All)]);
        let mut patient = Breaker::new(4);
        (0..3).for_each(|_| patient.on_unanswered(at(0), at(0)));
        assert!(patient.is_closed());
        patient.on_unanswered(at(0), at(0));
        assert!(!patient.is_closed());
    }

    #[test]
    fn requests_that_are_in_flight_together_are_missed_once() {
        check(&[
            (100, "unanswered", All),
            (100, "unanswered at last", All),
            (101, "unanswered at last", All),
            (150, "unanswered", Nothing),
        ]);
        // Also where another one was answered meanwhile.
        check(&[
            (100, "unanswered", All),
            (110, "reply", All),
            (120, "unanswered at last", All),
            (200, "unanswered", All),
            (300, "unanswered", Nothing),
        ]);
    }

    #[test]
    fn it_may_be_opened_sooner() {
        let mut breaker = Breaker::new(3);
        breaker.on_unanswered(at(0), at(100));
        assert_eq!(breaker.misses(), 1);
        breaker.open(at(100));
        assert_eq!((breaker.misses(), breaker.probe_at()), (0, Some(at(1_100))));
        check(&[(0, "open", Nothing), (1_000, "", Probe), (1_000, "probe", Nothing), (1_001, "reply", All)]);
    }

    #[test]
    fn half_open_it_lets_one_probe_through() {
        check(&[
            (0, "unanswered", All),
            (0, "unanswered", Nothing),
            (999, "", Nothing),
            (1_000, "", Probe),
            (5_000, "", Probe),
            (5_000, "probe", Nothing),
            (60_000, "", Nothing),
            (60_000, "reply", All),
            (60_001, "unanswered", All),
        ]);
    }

    #[test]
    fn a_probe_in_vain_doubles_the_wait_up_to_ten_seconds() {
        let mut breaker = Breaker::new(1);
        let mut now_ms = 0;
        breaker.on_unanswered(at(0), at(now_ms));
        let mut waits = Vec::new();
        for _ in 0..7 {
            let probe_at = breaker.probe_at().expect("it is open");
            waits.push((probe_at - at(now_ms)).as_millis());
            breaker.on_probe(probe_at);
            assert_eq!(breaker.probe_at(), None, "one probe at a time");
            now_ms = probe_at.as_micros() / 1_000 + 300;
            breaker.on_unanswered(probe_at, at(now_ms));
        }
        assert_eq!(waits, [1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 10_000]);
        breaker.on_reply();
        breaker.on_unanswered(at(now_ms), at(now_ms));
        assert_eq!(breaker.probe_at(), Some(at(now_ms + 1_000)), "a reply begins it anew");
    }

    #[test]
    fn what_was_in_flight_when_it_opened_changes_nothing_in_vain_and_closes_it_answered() {
        check(&[
            (0, "unanswered", All),
            (0, "unanswered", Nothing),
            (900, "unanswered at last", Nothing),
            (1_000, "", Probe),
            (1_000, "probe", Nothing),
            (1_200, "unanswered at last", Nothing),
            (9_000, "", Nothing),
            (9_000, "reply", All),
        ]);
    }

    #[test]
    fn a_new_connection_is_tried_at_once_by_one_probe() {
        check(&[
            (0, "unanswered", All),
            (0, "unanswered", Nothing),
            (10, "reconnect", Probe),
            (10, "probe", Nothing),
            (20, "reconnect", Probe),
            (20, "probe", Nothing),
            (30, "unanswered", Nothing),
            (1_029, "", Nothing),
            (1_030, "", Probe),
        ]);
        check(&[(0, "unanswered", All), (1, "reconnect", All), (2, "unanswered", All)]);
    }

    proptest! {
        /// A unit that is dead for ever is asked once in ten seconds, and no more.
        #[test]
        fn the_dead_are_asked_seldom(opens_after in 1..6_u32, timeout_ms in 1..3_000_u64) {
            let mut breaker = Breaker::new(opens_after);
            let (mut now, mut sent) = (at(0), 0);
            while now < at(1_000_000) {
                if let Some(probe_at) = breaker.probe_at() {
                    now = probe_at;
                    breaker.on_probe(now);
                }
                sent += 1;
                let begun = now;
                now = now + Duration::from_millis(timeout_ms);
                breaker.on_unanswered(begun, now);
            }
            let most = u64::from(opens_after) + 5 + 1_000_000 / (10_000 + timeout_ms);
            prop_assert!((most - 5..=most).contains(&sent), "{sent} requests, {most} at most");
        }

        /// A unit that answers again is back within ten seconds and a timeout.
        #[test]
        fn who_comes_back_is_noticed(back_ms in 0..200_000_u64) {
            let (mut breaker, back) = (Breaker::new(2), at(back_ms));
            let (mut now, timeout) = (at(0), Duration::from_millis(300));
            while !(breaker.is_closed() && now >= back) {
                if let Some(probe_at) = breaker.probe_at() {
                    now = probe_at;
                    breaker.on_probe(now);
                }
                prop_assert!(now <= back + PROBES_WITHIN + timeout, "asked only at {now:?}");
                if now >= back {
                    breaker.on_reply();
                } else {
                    let begun = now;
                    now = now + timeout;
                    breaker.on_unanswered(begun, now);
                }
            }
        }
    }
}
