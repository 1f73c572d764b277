//! Who is asked next on a line, and what.

use super::super::device::Ask;
use super::Line;
use super::sharing::Leave;
#[cfg(test)]
use crate::base::mutants::{self, Mutant};
use crate::engine::Context;

/// What somebody writes at a time is written at once; whoever goes on writing shares the line with polls.
const MOST_WRITES_IN_A_ROW: u8 = 3;

/// The place of a device, what is asked of it, and whether that is a probe.
type Chosen = (usize, Ask, bool);

impl Line {
    /// Writes go first. But after a few in a row a read that is due has its turn before another is begun, and
    /// after each then, until there are none that wait: however much is written, all devices are polled.
    pub(super) fn choose(&mut self, cx: &mut Context<'_>) -> Option<Chosen> {
        let is_reads_turn = self.writes_in_a_row >= MOST_WRITES_IN_A_ROW;
        #[cfg(test)]
        let is_reads_turn = is_reads_turn && !mutants::strikes(Mutant::WritesAlwaysFirst);
        if let Some(write) = self.choose_write(cx, !is_reads_turn) {
            return Some(write);
        }
        let read = self.choose_read(cx);
        match read {
            None if is_reads_turn => self.choose_write(cx, true),
            Some(_) if is_reads_turn => {
                self.writes_in_a_row = MOST_WRITES_IN_A_ROW - 1;
                read
            }
            _ => {
                self.writes_in_a_row = 0;
                read
            }
        }
    }

    /// A write; one that is under way goes on in any case.
    fn choose_write(&mut self, cx: &mut Context<'_>, may_begin: bool) -> Option<Chosen> {
        let now = cx.now().tick;
        for at in self.order_after(self.write_turn) {
            if self.leave(at, now) != Leave::All {
                continue;
            }
            if let Some(ask) = self.devices[at].next_write(cx, may_begin) {
                self.write_turn = at;
                self.writes_in_a_row = (self.writes_in_a_row + 1).min(MOST_WRITES_IN_A_ROW);
                return Some((at, ask, false));
            }
        }
        None
    }

    /// A probe for which there is a share of the time, or else a read; devices take turns.
    fn choose_read(&mut self, cx: &mut Context<'_>) -> Option<Chosen> {
        let now = cx.now().tick;
        let order = self.order_after(self.read_turn);
        let probes = order.clone().filter(|at| self.probe_due(&self.devices[*at], now) <= now);
        if let Some(at) = probes.min_by_key(|at| self.devices[*at].breaker.probe_at()) {
            if let Some(ask) = self.devices[at].probe(now) {
                self.read_turn = at;
                return Some((at, ask, true));
            }
        }
        for at in order {
            let ask = match self.leave(at, now) {
                Leave::All => self.devices[at].next_read(cx),
                Leave::Poll => self.devices[at].next_poll(now),
                Leave::Nothing => None,
            };
            if let Some(ask) = ask {
                self.read_turn = at;
                return Some((at, ask, false));
            }
        }
        None
    }

    /// All devices, that one last.
    fn order_after(&self, last: usize) -> impl Iterator<Item = usize> + Clone + use<> {
        let count = self.devices.len();
        (1..=count).map(move |step| (last + step) % count)
    }
}
