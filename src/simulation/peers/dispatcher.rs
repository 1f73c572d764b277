//! An operator of polled devices: writes their points through the line protocol, and pauses devices.

use super::{Ended, Hand, Peer, Table};
use crate::simulation::client::{Asked, Client};
use crate::simulation::field::{DevicePlan, FLOOD_BEGINS_AT_US, FieldPlan, Point};
use crate::simulation::link::Appetite;
use crate::simulation::plan::LINE;
use crate::simulation::record::Book;

/// Requests that wait for replies, at most.
const MOST_WAITING: usize = 6;
/// Versions fit a byte.
const MOST_VERSIONS: u64 = 250;
/// Whoever floods a device with writes has the next one waiting when one is done.
const FLOOD_PAUSE_US: u64 = 2_000;

/// One connection at a time, which nobody harms: so what is sent is carried out in order.
pub(in crate::simulation) struct Dispatcher {
    client: Client,
    points: Vec<Written>,
    /// Devices that may be paused, and whether they are.
    pauses: Vec<(String, bool)>,
    pause_us: u64,
    begins_at_us: u64,
}

struct Written {
    tag: String,
    device: u16,
    point: &'static Point,
    version: u64,
}

impl Written {
    fn new(device: &DevicePlan, point: &'static Point) -> Written {
        Written { tag: device.tag(point), device: device.number, point, version: 0 }
    }
}

impl Dispatcher {
    /// The operator of that number, of so many.
    pub(in crate::simulation) fn new(
        name: &str,
        field: &FieldPlan,
        (number, of): (usize, usize),
        pause_us: u64,
        book: Book,
    ) -> Dispatcher {
        let mine = field.written_in_flood(false).enumerate().filter(|(at, _)| at % of == number);
        let points = mine.map(|(_, (device, point))| Written::new(device, point)).collect();
        let rough = field.devices().filter(|(line, device)| !line.is_calm && device.number % 3 == 0);
        let pauses = rough.filter(|_| number == 0).map(|(_, device)| (device.name(), false)).collect();
        let client = Client::new(name.to_owned(), book);
        Dispatcher { client, points, pauses, pause_us, begins_at_us: 0 }
    }

    /// One that writes a point of that device without a pause, once all is polled.
    pub(in crate::simulation) fn flood(
        name: &str,
        device: &DevicePlan,
        point: &'static Point,
        book: Book,
    ) -> Dispatcher {
        Dispatcher {
            client: Client::new(name.to_owned(), book),
            points: vec![Written::new(device, point)],
            pauses: Vec::new(),
            pause_us: FLOOD_PAUSE_US,
            begins_at_us: FLOOD_BEGINS_AT_US,
        }
    }

    fn request(&mut self, hand: &mut Hand<'_>, out: &mut String) {
        let at = hand.random().below(self.points.len());
        let written = &mut self.points[at];
        match hand.random().below(16) {
            0..=3 => self.client.ask_get(&written.tag, out),
            4 if !self.pauses.is_empty() => {
                let at = hand.random().below(self.pauses.len());
                let (device, is_paused) = &mut self.pauses[at];
                let tag = format!("$device/{device}/enabled");
                let line = format!("SET {tag} {is_paused}");
                *is_paused = !*is_paused;
                self.client.ask(Asked::Set(tag, 0, false), &line, out);
            }
            _ if written.version < MOST_VERSIONS => {
                written.version += 1;
                let value = written.point.value(written.device, written.version);
                self.client.ask_set(&written.tag, value, 0, out);
            }
            _ => {}
        }
    }
}

impl Peer for Dispatcher {
    fn on_bytes(&mut self, _hand: &mut Hand<'_>, bytes: &[u8]) {
        self.client.on_bytes(bytes);
    }

    fn on_end(&mut self, hand: &mut Hand<'_>, how: Ended) {
        if how == Ended::Orderly {
            self.client.on_end();
        }
        hand.wake_in(50_000);
    }

    fn on_wake(&mut self, hand: &mut Hand<'_>) {
        if hand.quiet {
            return;
        }
        if let Some(us) = self.begins_at_us.checked_sub(hand.net.now_us).filter(|us| *us > 0) {
            return hand.wake_in(us);
        }
        if !hand.is_connected() {
            self.client.on_open();
            hand.call(LINE);
        } else if self.client.waiting() < MOST_WAITING && !self.points.is_empty() {
            let mut out = String::new();
            self.request(hand, &mut out);
            hand.send(out.as_bytes());
        }
        let us = self.pause_us / 2 + hand.random().below(self.pause_us as usize) as u64;
        hand.wake_in(us);
    }

    fn on_quiet(&mut self, hand: &mut Hand<'_>) {
        hand.read_at(Appetite::HEARTY);
    }

    fn check_quiet(&self, _table: &Table) {
        self.client.check_nothing_waits("when all is quiet");
    }
}
