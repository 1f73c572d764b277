//! Scans: the requests of a poll group, from when it is due until all are settled.

use std::time::Duration;

use super::{Ask, Device, Read};
use crate::base::time::Tick;

/// While it is learned which addresses a device does not have, it is polled again so long after a scan.
const LEARN_ON_AFTER: Duration = Duration::from_secs(1);

/// The last scan of a group.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scan {
    /// Requests that are not settled.
    pub(super) unsettled: u16,
    /// It told something of which addresses the device has.
    pub(super) has_taught: bool,
}

impl Device {
    /// The next poll: of a scan that runs, or of one that is due.
    pub(in super::super) fn next_poll(&mut self, now: Tick) -> Option<Ask> {
        if !self.is_polled() {
            return None;
        }
        while self.reads.is_empty() {
            let group = self.schedule.pop_due(now)?;
            for block in self.quarantine.on_scan(group) {
                let (tries_left, epoch) = (self.settings.retries, self.epoch);
                self.reads.push_back(Read { block, tries_left, is_trial: false, epoch });
            }
            let unsettled = self.reads.len() as u16;
            self.scans[usize::from(group)] = Scan { unsettled, has_taught: false };
            self.try_more(group, now);
            if self.scans[usize::from(group)].unsettled == 0 {
                self.finish_scan(group, now);
            }
        }
        self.reads.pop_front().map(Ask::Read)
    }

    pub(super) fn settle_read(&mut self, read: Read, now: Tick) {
        if read.epoch != self.epoch {
            return;
        }
        let group = read.block.group;
        let unsettled = &mut self.scans[usize::from(group)].unsettled;
        *unsettled = unsettled.saturating_sub(1);
        self.try_more(group, now);
        if self.scans[usize::from(group)].unsettled == 0 {
            self.finish_scan(group, now);
        }
    }

    /// What is to be learned in this scan.
    fn try_more(&mut self, group: u16, now: Tick) {
        if let Some(block) = self.quarantine.next_trial(group, now) {
            self.reads.push_back(Read { block, tries_left: 0, is_trial: true, epoch: self.epoch });
            self.scans[usize::from(group)].unsettled += 1;
        }
    }

    fn finish_scan(&mut self, group: u16, now: Tick) {
        self.schedule.on_done(group, now);
        // Learning takes several scans, and the rate may be slow.
        if self.scans[usize::from(group)].has_taught && self.quarantine.is_learning(group, now) {
            self.schedule.add(group, now + LEARN_ON_AFTER);
        }
        self.figures.overruns.set(self.schedule.overruns());
        let polled =
            self.read_at.iter().zip(self.figures.are_refused()).filter(|(_, is_refused)| !is_refused);
        self.figures.set_oldest(polled.map(|(at, _)| *at).min().unwrap_or(now));
        // Looked for by itself, what is too old would cost a turn of its own, mostly to find nothing.
        if self.schedule.next_due().is_some_and(|due| self.stale_at <= due) {
            self.stale_at = self.next_stale_at();
        }
    }
}
