//! A Modbus slave, or several behind one converter: what they answer, when, and what else comes instead.

use std::collections::BTreeMap;

use super::{Ended, Hand, Peer};
use crate::protocols::modbus::{Request, mbap, rtu};
use crate::simulation::checkers;
use crate::simulation::field::{self, Carrier, DevicePlan, LinePlan, Role};
use crate::simulation::net::Dials;

/// Answers that come too late where there are no transaction ids: while the line is still held for them, for
/// later nobody could tell them from others.
const LATE_WITHOUT_IDS_US: std::ops::RangeInclusive<u64> = 105_000..=180_000;
const LATE_US: std::ops::RangeInclusive<u64> = 105_000..=1_200_000;

/// Between two stalls all is as usual for so long, at least.
const BETWEEN_STALLS_US: u64 = 1_000_000;

pub(in crate::simulation) struct Slave {
    line: LinePlan,
    /// What was written, by device and register.
    written: Vec<Vec<Option<u16>>>,
    partial: Vec<u8>,
    framing: rtu::Framing,
    /// Answers by their time, and in the order in which they were made; of which device.
    answers: BTreeMap<(u64, u64), (usize, Vec<u8>)>,
    made: u64,
    /// Until when a device is dead; 0 of one that is not.
    dead_until: Vec<u64>,
    /// Until when nobody takes calls.
    gone_until: u64,
    /// Until when it answers nothing, or did.
    stalled_until: u64,
    has_begun: bool,
}

/// A request as it came.
struct Asked<'a> {
    place: usize,
    tid: u16,
    pdu: &'a [u8],
}

impl Slave {
    pub(in crate::simulation) fn new(line: LinePlan) -> Slave {
        Slave {
            written: line.devices.iter().map(DevicePlan::written_at_first).collect(),
            dead_until: vec![0; line.devices.len()],
            line,
            partial: Vec::new(),
            framing: rtu::Framing::new(rtu::Direction::Requests),
            answers: BTreeMap::new(),
            made: 0,
            gone_until: 0,
            stalled_until: 0,
            has_begun: false,
        }
    }

    fn frame(&self, tid: u16, unit: u8, pdu: &[u8]) -> Vec<u8> {
        if self.line.carrier == Carrier::Rtu {
            return [&[unit], pdu, &rtu::trailer(unit, pdu)].concat();
        }
        let tid = if self.line.carrier == Carrier::WithoutIds { 0 } else { tid };
        [&mbap::header(tid, unit, pdu.len())[..], pdu].concat()
    }

    /// An answer of `asked.place` leaves after `us`.
    fn put(&mut self, hand: &mut Hand<'_>, place: usize, us: u64, bytes: Vec<u8>) {
        self.made += 1;
        self.answers.insert((hand.net.now_us + us, self.made), (place, bytes));
        hand.wake_in(us);
    }

    fn on_request(&mut self, hand: &mut Hand<'_>, tid: u16, unit: u8, pdu: &[u8]) {
        let Some(place) = self.line.devices.iter().position(|device| device.unit == unit) else { return };
        // Where links stall, nobody knows when a request was sent.
        if hand.net.manners_of(hand.me).is_spared || hand.quiet {
            let book = hand.book();
            let mut record = book.open();
            let device = &self.line.devices[place];
            let verdict = checkers::the_paused_are_left_alone(&record, device, "is asked");
            record.judge(verdict);
        }
        if self.dead_until[place] > 0 {
            return;
        }
        let asked = Asked { place, tid, pdu };
        if self.line.is_calm || hand.quiet {
            let answer = self.carry_out(hand, &asked);
            let frame = self.frame(tid, unit, &answer);
            let stall_us = self.stall_us(hand);
            return self.put(hand, place, stall_us + self.line.answer_us, frame);
        }
        self.answer_somehow(hand, &asked);
    }

    /// For how long it answers nothing from now on.
    fn stall_us(&mut self, hand: &mut Hand<'_>) -> u64 {
        let now_us = hand.net.now_us;
        let is_awake = now_us > self.stalled_until + BETWEEN_STALLS_US;
        if self.line.stall_us > 0 && !hand.quiet && is_awake && hand.random().one_in(8) {
            hand.book().meet("a short stall");
            self.stalled_until = now_us + self.line.stall_us;
        }
        self.stalled_until.saturating_sub(now_us)
    }

    fn answer_somehow(&mut self, hand: &mut Hand<'_>, asked: &Asked<'_>) {
        let Asked { place, tid, .. } = *asked;
        let unit = self.line.devices[place].unit;
        let has_ids = self.line.carrier.has_ids();
        let late_us = hand.random().within(if has_ids { LATE_US } else { LATE_WITHOUT_IDS_US });
        let soon_us = *hand.random().pick(&[&500, &500, &5_000, &30_000, &80_000]);
        let choice = hand.random().below(40);
        match choice {
            0 if hand.random().one_in(3) => return self.lose_line(hand),
            1 if hand.random().one_in(2) => {
                let us = hand.random().within(200_000..=2_500_000);
                return self.die(hand, place, us);
            }
            2 | 3 => return hand.book().meet("a request lost"),
            _ => {}
        }
        let answer = match choice {
            4 | 5 => {
                let code = *hand.random().pick(&[&1, &4, &5, &6, &10, &11]);
                hand.book().meet(format!("a slave's exception {code}"));
                vec![asked.pdu[0] | 0x80, code]
            }
            _ => self.carry_out(hand, asked),
        };
        let right = self.frame(tid, unit, &answer);
        let wrong = match choice {
            6 | 7 => return hand.book().meet("an answer lost"),
            8 | 9 => {
                hand.book().meet("an answer too late");
                return self.put(hand, place, late_us, right);
            }
            10 if has_ids => {
                hand.book().meet("an answer twice");
                self.put(hand, place, soon_us, right.clone());
                return self.put(hand, place, soon_us + late_us, right);
            }
            11 | 12 if has_ids => {
                let by = *hand.random().pick(&[&1_000, &0xff00]);
                self.other_registers(hand, asked)
                    .map(|other| ("with a wrong id", self.frame(tid.wrapping_add(by), unit, &other)))
            }
            13..=15 => {
                let other = self.of_other_unit(hand, asked, &answer);
                Some(("of another unit", other))
            }
            16 => {
                let mut other = answer.clone();
                other[0] ^= if other[0] < 5 { 7 } else { 3 };
                Some(("of another function", self.frame(tid, unit, &other)))
            }
            17 => {
                let mut other = answer.clone();
                match other[0] {
                    3 | 4 => {
                        other.extend([0x12, 0x34]);
                        other[1] += 2;
                    }
                    _ => other.push(0),
                }
                Some(("of another length", self.frame(tid, unit, &other)))
            }
            18 => {
                let count = 8 + hand.random().below(40);
                let mut bytes: Vec<u8> = (0..count).map(|_| hand.random().draw() as u8).collect();
                bytes[2] |= 1;
                Some(("that is garbage", bytes))
            }
            19 if self.line.carrier != Carrier::Udp => {
                hand.book().meet("a slave cuts its connection");
                return hand.reset();
            }
            _ => None,
        };
        let Some((what, wrong)) = wrong else { return self.put(hand, place, soon_us, right) };
        hand.book().meet(format!("an answer {what}"));
        self.put(hand, place, 500, wrong);
        // And the right one after it, or none.
        match hand.random().below(3) {
            0 => {}
            1 => self.put(hand, place, late_us, right),
            _ => self.put(hand, place, soon_us + 500, right),
        }
    }

    /// What another unit of the line would say, or one that nobody has asked for.
    fn of_other_unit(&self, hand: &mut Hand<'_>, asked: &Asked<'_>, answer: &[u8]) -> Vec<u8> {
        let other = hand.random().below(self.line.devices.len());
        if other == asked.place {
            let stranger = DevicePlan {
                number: self.line.devices[other].number ^ 8,
                ..self.line.devices[other].clone()
            };
            let read = self.read(&stranger, &[], asked.pdu, hand.net.now_us);
            let unit = stranger.unit.wrapping_add(1);
            return self.frame(asked.tid, unit, read.as_deref().unwrap_or(answer));
        }
        let device = &self.line.devices[other];
        let read = self.read(device, &self.written[other], asked.pdu, hand.net.now_us);
        self.frame(asked.tid, device.unit, read.as_deref().unwrap_or(answer))
    }

    /// As many registers, but others.
    fn other_registers(&self, hand: &mut Hand<'_>, asked: &Asked<'_>) -> Option<Vec<u8>> {
        let mut pdu = asked.pdu.to_vec();
        pdu[2] ^= 4;
        let device = &self.line.devices[asked.place];
        self.read(device, &self.written[asked.place], &pdu, hand.net.now_us)
    }

    /// The answer to a request that reads, if all registers are there.
    fn read(&self, device: &DevicePlan, written: &[Option<u16>], pdu: &[u8], us: u64) -> Option<Vec<u8>> {
        let (area, span) = Request::decode(pdu).ok()?.reads()?;
        let addresses = span.start..span.start + span.quantity;
        let words = addresses.map(|address| field::register_at(device, area, address, us, written));
        let words: Vec<u16> = words.collect::<Option<_>>()?;
        let mut answer = vec![pdu[0], 2 * words.len() as u8];
        answer.extend(words.into_iter().flat_map(u16::to_be_bytes));
        Some(answer)
    }

    /// Do what is asked, and say so.
    fn carry_out(&mut self, hand: &mut Hand<'_>, asked: &Asked<'_>) -> Vec<u8> {
        let refused = || vec![asked.pdu[0] | 0x80, 2];
        let Asked { place, tid, pdu } = *asked;
        let (start, words) = match Request::decode(pdu).expect("the driver sends requests") {
            Request::WriteRegister { address, value } => (address, vec![value]),
            Request::WriteRegisters { address, registers } => (address, registers.iter().collect()),
            _ => {
                let device = &self.line.devices[place];
                let answer = self.read(device, &self.written[place], pdu, hand.net.now_us);
                if answer.is_none() {
                    hand.book().meet("a slave's exception 2");
                }
                return answer.unwrap_or_else(refused);
            }
        };
        let device = &self.line.devices[place];
        let mut written = device.points().filter(|point| point.role == Role::Written);
        let Some(point) = written.find(|point| point.address() == start) else { return refused() };
        let value = point.value_in(&words);
        let is_of_point =
            words.len() == usize::from(point.registers()) && point.version_of(device.number, value).is_some();
        let (tag, link) = (device.tag(point), hand.port.map_or(0, |(link, _)| link));
        {
            let book = hand.book();
            let mut record = book.open();
            let request = (link, if self.line.carrier == Carrier::Udp { tid } else { self.made as u16 });
            let verdict =
                checkers::each_write_reaches_the_device_once(&mut record, &tag, value, is_of_point, request);
            record.judge(verdict);
            record.device_did.insert((tag, value));
        }
        self.made += 1;
        for (address, word) in (start..).zip(words) {
            self.written[place][field::slot_of(address)] = Some(word);
        }
        pdu[..5].to_vec()
    }

    /// A device is dead for a while.
    fn die(&mut self, hand: &mut Hand<'_>, place: usize, us: u64) {
        let until_us = hand.net.now_us.saturating_add(us);
        let book = hand.book();
        let number = self.line.devices[place].number;
        book.note(format_args!("fld{number}"), format_args!("dies"));
        book.meet("a device dies");
        self.answers.retain(|_, (of, _)| *of != place);
        let now_us = hand.net.now_us;
        book.open().field.dead_since.entry(number).or_insert(now_us);
        self.dead_until[place] = self.dead_until[place].max(until_us);
        if until_us < u64::MAX {
            hand.wake_in(us);
        }
    }

    /// The whole line is gone for a while, as if its converter were.
    fn lose_line(&mut self, hand: &mut Hand<'_>) {
        let us = hand.random().within(50_000..=2_500_000);
        hand.book().meet("a line dies");
        for place in 0..self.line.devices.len() {
            self.die(hand, place, us);
        }
        self.gone_until = hand.net.now_us + us;
        let dials = if hand.random().one_in(2) { Dials::Refused } else { Dials::Unheard };
        hand.net.manners_of(hand.me).dials = dials;
        if hand.random().one_in(2) { hand.reset() } else { hand.vanish() }
    }

    /// Whoever has been dead for long enough lives again.
    fn revive(&mut self, hand: &mut Hand<'_>, now_us: u64) {
        for (until, device) in self.dead_until.iter_mut().zip(&self.line.devices) {
            if *until > 0 && *until <= now_us {
                *until = 0;
                hand.book().note(format_args!("fld{}", device.number), format_args!("lives again"));
                hand.book().open().field.dead_since.remove(&device.number);
            }
        }
        if self.gone_until > 0 && self.gone_until <= now_us {
            self.gone_until = 0;
            hand.net.manners_of(hand.me).dials = Dials::Taken;
        }
    }
}

impl Peer for Slave {
    fn on_open(&mut self, hand: &mut Hand<'_>) {
        hand.book().meet("a line's connection");
        self.partial.clear();
        self.answers.clear();
        self.framing = rtu::Framing::new(rtu::Direction::Requests);
    }

    fn on_bytes(&mut self, hand: &mut Hand<'_>, bytes: &[u8]) {
        let mut input = std::mem::take(&mut self.partial);
        input.extend_from_slice(bytes);
        let mut rest = &input[..];
        loop {
            let length = if self.line.carrier == Carrier::Rtu {
                match self.framing.next(rest) {
                    rtu::Next::Frame(frame) => {
                        self.on_request(hand, 0, frame.unit, frame.pdu);
                        frame.bytes()
                    }
                    rtu::Next::Damaged(_) => panic!("the driver sends frames"),
                    rtu::Next::Incomplete => break,
                }
            } else {
                match mbap::Frame::parse(rest).expect("the driver sends frames") {
                    Some(frame) => {
                        self.on_request(hand, frame.transaction, frame.unit, frame.pdu);
                        frame.bytes()
                    }
                    None => break,
                }
            };
            rest = &rest[length..];
        }
        self.partial = rest.to_vec();
    }

    fn on_end(&mut self, _hand: &mut Hand<'_>, _how: Ended) {
        self.answers.clear();
    }

    fn on_wake(&mut self, hand: &mut Hand<'_>) {
        let now_us = hand.net.now_us;
        if !std::mem::replace(&mut self.has_begun, true) {
            for place in 0..self.line.devices.len() {
                match self.line.devices[place].dies_at_us {
                    Some(at_us) if at_us > now_us => hand.wake_in(at_us - now_us),
                    _ => {}
                }
            }
        }
        self.revive(hand, now_us);
        for place in 0..self.line.devices.len() {
            let dies_at_us = self.line.devices[place].dies_at_us;
            if !hand.quiet && dies_at_us.is_some_and(|at_us| at_us <= now_us) && self.dead_until[place] == 0 {
                self.die(hand, place, u64::MAX);
            }
        }
        while let Some(answer) = self.answers.first_entry().filter(|answer| answer.key().0 <= now_us) {
            let (_, bytes) = answer.remove();
            hand.send(&bytes);
        }
    }

    fn on_quiet(&mut self, hand: &mut Hand<'_>) {
        self.revive(hand, u64::MAX);
    }
}
