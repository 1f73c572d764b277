//! What the server has confirmed, and what it turned out to hold at the end.

use super::machine::SIGNALS;

/// A sample, as far as it must be recognized: its time, which grows with each report of a device, and the
/// fingerprint of its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) time: i64,
    pub(super) print: u64,
}

/// Of each device.
pub(super) struct Ledger {
    devices: Vec<Entry>,
}

#[derive(Clone, Default)]
struct Entry {
    /// It said `HELLO` and was answered, once at least.
    greeted: bool,
    /// The next report's number.
    slot: u64,
    /// The time of the last report that was sent.
    sent: i64,
    /// From the first to the last report that a cut left without an answer: such a one may arrive behind
    /// those sent later, by another connection.
    unknown: Option<(i64, i64)>,
    confirmed: [Option<Seen>; SIGNALS.len()],
    found: [Option<Seen>; SIGNALS.len()],
}

impl Ledger {
    pub(super) fn new(devices: usize) -> Ledger {
        Ledger { devices: vec![Entry::default(); devices] }
    }

    pub(super) fn devices(&self) -> usize {
        self.devices.len()
    }

    /// A device was answered to its `HELLO`; goes on with the report of that number.
    pub(super) fn on_greeted(&mut self, device: usize, slot: u64) {
        let entry = &mut self.devices[device];
        entry.greeted = true;
        entry.slot = slot;
    }

    /// How many devices were ever greeted.
    pub(super) fn greeted(&self) -> usize {
        self.devices.iter().filter(|entry| entry.greeted).count()
    }

    /// The number of a device's next report.
    pub(super) fn slot(&self, device: usize) -> u64 {
        self.devices[device].slot
    }

    /// The time of a device's next report: what its clock says, or a little later than the last.
    pub(super) fn on_report(&mut self, device: usize, clock_ms: i64) -> i64 {
        let entry = &mut self.devices[device];
        entry.slot += 1;
        entry.sent = clock_ms.max(entry.sent + 1);
        entry.sent
    }

    pub(super) fn on_confirmed(&mut self, device: usize, signal: usize, seen: Seen) {
        self.devices[device].confirmed[signal] = Some(seen);
    }

    /// A cut left reports of these times without an answer.
    pub(super) fn on_unknown(&mut self, device: usize, first: i64, last: i64) {
        let unknown = &mut self.devices[device].unknown;
        *unknown = Some(unknown.map_or((first, last), |(earliest, _)| (earliest, last)));
    }

    /// Whether a sample of that time may come behind a later one.
    pub(super) fn excuses(&self, device: usize, time: i64) -> bool {
        let unknown = self.devices.get(device).and_then(|entry| entry.unknown);
        unknown.is_some_and(|(first, last)| (first..=last).contains(&time))
    }

    /// The server is asked (once more) for what it holds.
    pub(super) fn forget_found(&mut self) {
        self.devices.iter_mut().for_each(|entry| entry.found = Default::default());
    }

    /// The server holds that.
    pub(super) fn on_found(&mut self, device: usize, signal: usize, seen: Seen) {
        if let Some(entry) = self.devices.get_mut(device) {
            entry.found[signal] = Some(seen);
        }
    }

    /// What the server was found to hold.
    pub(super) fn found(&self, device: usize, signal: usize) -> Option<Seen> {
        self.devices.get(device).and_then(|entry| entry.found[signal])
    }

    /// How many values were confirmed as the last of their tag, and neither they nor newer ones were found.
    pub(super) fn lost(&self) -> u64 {
        let lost = |device| (0..SIGNALS.len()).filter(move |&signal| self.is_lost(device, signal)).count();
        (0..self.devices.len()).map(lost).sum::<usize>() as u64
    }

    fn is_lost(&self, device: usize, signal: usize) -> bool {
        let entry = &self.devices[device];
        let Some(confirmed) = entry.confirmed[signal] else { return false };
        match entry.found[signal] {
            None => true,
            Some(found) if found.time == confirmed.time => found.print != confirmed.print,
            // Nobody sent anything of a later time.
            Some(found) if found.time > entry.sent => true,
            Some(found) => found.time < confirmed.time && !self.excuses(device, found.time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost() {
        let seen = |time, print| Some(Seen { time, print });
        // Reports were sent at 10, 20, 30, 40; that of 20 was cut, that of 30 is the last confirmed.
        #[rustfmt::skip]
        let table = [
            ("the last confirmed",        seen(30, 3), 0),
            ("a newer one, unconfirmed",  seen(40, 9), 0),
            ("overtaken after a cut",     seen(20, 9), 0),
            ("another value",             seen(30, 4), 1),
            ("an older one",              seen(10, 1), 1),
            ("one that nobody sent",      seen(50, 3), 1),
            ("nothing",                   None,        1),
        ];
        for (what, found, lost) in table {
            let mut ledger = Ledger::new(2);
            for clock in [10, 20, 30, 40] {
                assert_eq!(ledger.on_report(1, clock), clock);
            }
            ledger.on_unknown(1, 20, 20);
            ledger.on_confirmed(1, 0, Seen { time: 30, print: 3 });
            if let Some(found) = found {
                ledger.on_found(1, 0, found);
            }
            ledger.on_found(7, 0, Seen { time: 1, print: 1 });
            assert_eq!(ledger.lost(), lost, "{what}");
            assert_eq!((ledger.slot(1), ledger.greeted()), (4, 0));
        }
    }

    #[test]
    fn times_grow() {
        let mut ledger = Ledger::new(1);
        assert_eq!([10, 10, 5, 30].map(|clock| ledger.on_report(0, clock)), [10, 11, 12, 30]);
        ledger.on_unknown(0, 10, 11);
        ledger.on_unknown(0, 30, 30);
        assert!([10, 12, 30].map(|time| ledger.excuses(0, time)).iter().all(|yes| *yes));
        assert!(!ledger.excuses(0, 31) && !ledger.excuses(1, 10));
    }
}
