//! How old a device's points may be before they are good no more.

use std::time::Duration;

use super::Device;
use crate::base::time::Tick;
use crate::drivers::modbus::figures::Reason;
use crate::engine::Context;

/// Without `stale_after`, a value is too old after so many rates.
const STALE_AFTER_RATES: u32 = 3;

impl Device {
    /// Points of that rate were told of now. Once for all of a request, for there are many.
    pub(super) fn begin_to_age(&mut self, rate: Duration, now: Tick) {
        self.stale_at = self.stale_at.min(now + self.stale_after(rate));
    }

    /// Let what was not read for too long turn uncertain, and orders that were not sent in time be refused.
    pub(in super::super) fn expire(&mut self, cx: &mut Context<'_>) {
        self.expire_orders(cx);
        self.questions.expire(cx, self.settings.write_expiry);
        let now = cx.now().tick;
        if self.stale_at > now {
            return;
        }
        for point in 0..self.read_at.len() {
            if self.figures.reason(point) == Reason::None && self.point_stale_at(point) <= now {
                self.doubt_point(cx, point, Reason::Stale, false);
            }
        }
        self.stale_at = self.next_stale_at();
    }

    /// When the first of the points that are good will be too old.
    pub(super) fn next_stale_at(&self) -> Tick {
        let good = (0..self.read_at.len()).filter(|point| self.figures.reason(*point) == Reason::None);
        good.map(|point| self.point_stale_at(point)).min().unwrap_or(Tick::NEVER)
    }

    fn point_stale_at(&self, point: usize) -> Tick {
        self.read_at[point] + self.stale_after(self.settings.model.points[point].rate)
    }

    fn stale_after(&self, rate: Duration) -> Duration {
        self.settings.stale_after.unwrap_or(STALE_AFTER_RATES * rate)
    }
}
