//! How units share a line: whoever does not answer takes a part of its time, and no more than its share.
//!
//! A unit that left its last request unanswered is *in doubt*: it is asked again as long as its own share
//! lasts, and waited for no longer than what is left of that; then it is held for dead, and probed now and
//! then.

use std::time::Duration;

use super::super::device::{Ask, Device};
use super::Line;
use crate::base::time::Tick;

/// What a unit may be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// Anything.
    All,
    /// A poll, for that is the shortest way to learn whether it answers.
    Poll,
    /// Nothing before it is known what comes of the request that is under way.
    Nothing,
}

impl Line {
    pub(super) fn leave(&self, at: usize, now: Tick) -> Leave {
        let device = &self.devices[at];
        if !self.is_in_doubt(device) {
            Leave::All
        } else if self.flights.iter().any(|flight| flight.device == at) {
            Leave::Nothing
        } else if self.may_miss_again(device, now, device.settings.timeout) {
            Leave::All
        } else {
            Leave::Poll
        }
    }

    /// Whoever is alone on the line takes it from nobody.
    fn is_in_doubt(&self, device: &Device) -> bool {
        self.devices.len() > 1 && device.breaker.misses() > 0
    }

    /// How long to wait for the answer to a request.
    pub(super) fn timeout_of(&self, device: &Device, ask: &Ask, is_probe: bool, now: Tick) -> Duration {
        match ask {
            Ask::Read(_) if is_probe => device.settings.timeout,
            Ask::Read(_) if self.is_in_doubt(device) => {
                let left = device.dead_share.room(now).saturating_sub(self.held_after(device));
                device.round_trip.read_timeout().min(left.max(device.round_trip.shortest_timeout()))
            }
            Ask::Read(_) => device.round_trip.read_timeout(),
            // Nor for what masters ask: it may take longer than what we ask, and is not asked again.
            Ask::Write(_) | Ask::Question(_) => device.round_trip.write_timeout(),
        }
    }

    /// A unit did not answer what was sent at that time, and the line was or is held until then.
    pub(super) fn on_silence(&mut self, at: usize, sent: Tick, until: Tick, now: Tick) {
        self.dead_share.on_unanswered(sent, until);
        let device = &mut self.devices[at];
        device.dead_share.on_unanswered(sent, until);
        device.breaker.on_unanswered(sent, now);
        let device = &self.devices[at];
        if self.is_in_doubt(device) && !self.may_miss_again(device, now, device.round_trip.shortest_timeout())
        {
            self.devices[at].breaker.open(now);
        }
    }

    /// Whether the unit's share lasts for one more wait of that `timeout`. A unit that has just answered is
    /// asked a second time in any case, if that need not take long: one request may be lost, or be a write
    /// that takes its time.
    fn may_miss_again(&self, device: &Device, now: Tick, timeout: Duration) -> bool {
        let held = self.held_after(device);
        let has_answered = device.round_trip.smoothed().is_some() && device.breaker.misses() == 1;
        let more = if has_answered { device.round_trip.shortest_timeout() + held } else { Duration::ZERO };
        timeout + held <= device.dead_share.room(now) + more
    }

    /// How long the line is held after a timeout: without ids for as long again.
    fn held_after(&self, device: &Device) -> Duration {
        if self.echo_tid { Duration::ZERO } else { device.settings.timeout }
    }

    /// When a silent device may be probed.
    pub(super) fn probe_due(&self, device: &Device, now: Tick) -> Tick {
        match device.breaker.probe_at() {
            Some(_) if !device.figures.is_enabled() || self.flights.iter().any(|flight| flight.is_probe) => {
                Tick::NEVER
            }
            Some(at) if self.devices.len() == 1 => at,
            Some(at) => {
                let cost = device.settings.timeout + self.held_after(device);
                at.max(self.dead_share.probe_at(now, cost))
            }
            None => Tick::NEVER,
        }
    }
}
