//! A server with devices, and the other end of each of its connections.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use super::super::figures::FleetFigures;
use super::super::{sessions, settings};
use super::millis;
use crate::base::section::{ConfigError, Document};
use crate::base::time::Tick;
use crate::engine::rig::{Rig, RigSettings};
use crate::engine::{ConnKey, Endpoint};
use crate::protocols::modbus::response::{Response, encode_bits, encode_registers};
use crate::protocols::modbus::{Area, Pdu, Request, mbap, rtu};
use crate::tags::Declared;

/// Slaves look so often what has come.
const STEP: Duration = Duration::from_millis(5);
/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A request as it comes to a slave.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) conn: ConnKey,
    pub(super) at: Tick,
    /// 0 where frames have none.
    pub(super) tid: u16,
    pub(super) unit: u8,
    pub(super) pdu: Vec<u8>,
}

pub(super) struct Bench {
    pub(super) rig: Rig,
    /// Speaks the line protocol.
    client: ConnKey,
    /// Connections that were made, the oldest first, and where they lead.
    made: Vec<(ConnKey, Endpoint)>,
    inbox: VecDeque<Asked>,
    is_rtu: bool,
}

/// What a configuration says of devices; the files that it names are these.
pub(super) fn read(text: &str, files: &[(&str, &str)]) -> (settings::Fleet, Declared, Vec<ConfigError>) {
    let document = Document::parse("plant.toml", text);
    let root = document.root();
    let mut declared = Declared::default();
    let load = |name: &str| {
        let file = files.iter().find(|(known, _)| *known == name);
        file.map(|(_, text)| (*text).to_owned()).ok_or(ErrorKind::NotFound.into())
    };
    let (fleet, wrong) = settings::read(&root, &mut declared, &load);
    root.finish();
    let mut errors = document.errors();
    errors.extend(wrong);
    (fleet, declared, errors)
}

impl Bench {
    pub(super) fn new(config: &str) -> Bench {
        let (fleet, declared, errors) = read(config, &[]);
        assert_eq!(errors, Vec::new(), "{config}");
        let figures = Arc::new(FleetFigures::new(&fleet));
        let of_rig = RigSettings {
            owners: fleet.names,
            declared,
            figures: Some(Arc::clone(&figures) as _),
            memories: vec![Arc::clone(&figures) as _],
            ..RigSettings::default()
        };
        let mut rig = Rig::with("line", of_rig);
        let housed: Vec<_> = sessions(fleet.lines, &figures, rig.tags(), rig.now()).collect();
        housed.into_iter().for_each(|session| rig.engine.house(session));
        let client = rig.connect();
        rig.settle();
        let is_rtu = config.contains("modbus-rtu:");
        Bench { rig, client, made: Vec::new(), inbox: VecDeque::new(), is_rtu }
    }

    pub(super) fn now(&self) -> Tick {
        self.rig.now()
    }

    /// Milliseconds since the start.
    pub(super) fn ms(&self) -> u64 {
        self.now().as_micros() / 1_000
    }

    pub(super) fn advance(&mut self, span: Duration) {
        self.rig.advance(span);
    }

    /// Let time pass until something is so.
    #[track_caller]
    fn until(&mut self, what: &str, is_so: impl Fn(&mut Bench) -> bool) {
        let end = self.now() + PATIENCE;
        while !is_so(self) {
            assert!(self.now() < end, "{what} never came");
            self.rig.advance(millis(1));
        }
    }

    /// Wait until the driver wants a connection. The one before to the same place is closed by then.
    #[track_caller]
    pub(super) fn wait_for_dial(&mut self) -> Endpoint {
        self.until("a dial", |bench| !bench.rig.lines.dialled.is_empty());
        let to = self.rig.lines.dialled[0].1.clone();
        for (conn, _) in self.made.iter().filter(|(_, before)| *before == to) {
            assert!(self.rig.line(*conn).closed.is_some(), "two connections to {to:?}");
        }
        to
    }

    /// The next connection that the driver wants is made.
    #[track_caller]
    pub(super) fn accept(&mut self) -> ConnKey {
        let to = self.wait_for_dial();
        let conn = self.rig.answer_dial();
        self.made.push((conn, to));
        conn
    }

    /// The next connection that the driver wants cannot be made.
    #[track_caller]
    pub(super) fn refuse(&mut self) {
        self.wait_for_dial();
        self.rig.answer_dial_with(Err(ErrorKind::ConnectionRefused));
    }

    pub(super) fn is_closed(&mut self, conn: ConnKey) -> bool {
        self.rig.line(conn).closed.is_some()
    }

    /// Take in what has come.
    fn collect(&mut self) {
        for place in 0..self.made.len() {
            let conn = self.made[place].0;
            let received = std::mem::take(&mut self.rig.line(conn).received);
            let mut rest = &received[..];
            while !rest.is_empty() {
                let (tid, unit, pdu, bytes) = if self.is_rtu {
                    let rtu::Next::Frame(frame) = rtu::Framing::new(rtu::Direction::Requests).next(rest)
                    else {
                        panic!("no frame: {rest:02x?}");
                    };
                    (0, frame.unit, frame.pdu, frame.bytes())
                } else {
                    let frame = mbap::Frame::parse(rest).expect("a frame").expect("all of it");
                    (frame.transaction, frame.unit, frame.pdu, frame.bytes())
                };
                self.inbox.push_back(Asked { conn, at: self.rig.now(), tid, unit, pdu: pdu.to_vec() });
                rest = &rest[bytes..];
            }
        }
    }

    /// All requests that have come by now and were not taken yet.
    pub(super) fn asked(&mut self) -> Vec<Asked> {
        self.rig.settle();
        self.collect();
        self.inbox.drain(..).collect()
    }

    /// Wait for the next request.
    #[track_caller]
    pub(super) fn next(&mut self) -> Asked {
        self.until("a request", |bench| {
            bench.collect();
            !bench.inbox.is_empty()
        });
        self.inbox.pop_front().expect("there is one")
    }

    /// Wait for the next request, which comes after so many milliseconds.
    #[track_caller]
    pub(super) fn next_after(&mut self, ms: u64) -> Asked {
        let before = self.ms();
        let asked = self.next();
        assert_eq!(self.ms() - before, ms, "ms until {asked:?}");
        asked
    }

    /// For so long nothing is asked.
    #[track_caller]
    pub(super) fn quiet_for(&mut self, span: Duration) {
        assert_eq!(self.asked(), []);
        self.advance(span);
        assert_eq!(self.asked(), []);
    }

    /// The slave sends bytes.
    pub(super) fn send(&mut self, conn: ConnKey, bytes: &[u8]) {
        self.rig.send(conn, bytes);
        self.rig.settle();
    }

    /// The slave sends a frame.
    pub(super) fn send_frame(&mut self, conn: ConnKey, tid: u16, unit: u8, pdu: &[u8]) {
        let frame = self.frame(tid, unit, pdu);
        self.send(conn, &frame);
    }

    pub(super) fn frame(&self, tid: u16, unit: u8, pdu: &[u8]) -> Vec<u8> {
        if self.is_rtu {
            [&[unit], pdu, &rtu::trailer(unit, pdu)].concat()
        } else {
            [&mbap::header(tid, unit, pdu.len())[..], pdu].concat()
        }
    }

    /// The slave answers.
    pub(super) fn reply(&mut self, asked: &Asked, pdu: &[u8]) {
        self.send_frame(asked.conn, asked.tid, asked.unit, pdu);
    }

    /// Orderly slaves answer all that has come.
    pub(super) fn answer(&mut self) {
        for asked in self.asked() {
            self.reply(&asked, &orderly(&asked));
        }
    }

    /// Let time pass while slaves answer what comes, or do not. Connections are made as they are wanted.
    #[track_caller]
    pub(super) fn serve(&mut self, span: Duration, mut slave: impl FnMut(&Asked) -> Option<Vec<u8>>) {
        let end = self.now() + span;
        loop {
            while !self.rig.lines.dialled.is_empty() {
                self.accept();
            }
            for asked in self.asked() {
                // It may have been given up meanwhile.
                if let Some(pdu) = slave(&asked).filter(|_| !self.is_closed(asked.conn)) {
                    self.reply(&asked, &pdu);
                }
            }
            if self.now() >= end {
                return;
            }
            self.rig.advance(STEP.min(end - self.now()));
        }
    }

    /// What a client reads of a tag: value and quality.
    pub(super) fn get(&mut self, tag: &str) -> String {
        let reply = self.rig.ask(self.client, &format!("GET {tag}\n"));
        let sample = reply.strip_prefix("OK ").unwrap_or_else(|| panic!("{tag}: {reply}"));
        sample.rsplit_once(' ').expect("a sample has a time").0.to_owned()
    }

    /// The time of a tag's value, in milliseconds since the start.
    pub(super) fn time(&mut self, tag: &str) -> i64 {
        self.rig.sample(tag).time.0 - crate::engine::rig::RIG_EPOCH_MS
    }

    #[track_caller]
    pub(super) fn check(&mut self, tag: &str, sample: &str) {
        assert_eq!(self.get(tag), sample, "{tag} at {} ms", self.ms());
    }

    /// One of the figures of `device`.
    pub(super) fn figure(&mut self, device: &str, name: &str) -> String {
        let sample = self.get(&format!("$device/{device}/{name}"));
        sample.strip_suffix(" good").expect("figures are good").trim_matches('"').to_owned()
    }

    pub(super) fn count(&mut self, device: &str, name: &str) -> u64 {
        self.figure(device, name).parse().expect("a count")
    }

    /// Why a tag is not good; empty for one that is.
    #[track_caller]
    pub(super) fn check_reason(&mut self, device: &str, tag: &str, reason: &str) {
        assert_eq!(
            self.figure(device, &format!("reason/{tag}")),
            reason,
            "{device}/{tag} at {} ms",
            self.ms()
        );
    }

    /// A client of its own writes a tag; it waits until [`said`](Self::said) tells.
    pub(super) fn set(&mut self, tag: &str, value: &str) -> ConnKey {
        let writer = self.rig.connect();
        self.rig.send(writer, format!("SET {tag} {value}\n"));
        self.rig.settle();
        writer
    }

    /// What a client has been told since it was asked last, a line each.
    pub(super) fn said(&mut self, client: ConnKey) -> String {
        self.rig.settle();
        self.rig.take(client)
    }

    /// Nothing may be left, and no order unsettled.
    pub(super) fn wind_up(self) {
        self.rig.wind_up();
    }
}

/// What a register holds: it tells unit and address, so that none can be taken for another.
pub(super) fn holds(unit: u8, address: u16) -> u16 {
    1_000 * u16::from(unit) + address
}

/// What an orderly slave answers; a bit is on where its address is odd.
pub(super) fn orderly(asked: &Asked) -> Vec<u8> {
    let request = Request::decode(&asked.pdu).expect("a request");
    let mut pdu = Pdu::new();
    match request.reads() {
        Some((area, span)) => {
            let addresses = span.start..=(span.end() - 1) as u16;
            match area {
                Area::Coil | Area::Discrete => {
                    encode_bits(request.function(), addresses.map(|address| address % 2 == 1), &mut pdu);
                }
                Area::Holding | Area::Input => {
                    let registers = addresses.map(|address| holds(asked.unit, address));
                    encode_registers(request.function(), registers, &mut pdu);
                }
            }
        }
        None => Response::echo(&request).expect("it repeats what was written").encode(&mut pdu),
    }
    pdu.to_vec()
}

/// The reply to a request that reads registers.
pub(super) fn read_reply(asked: &Asked, registers: &[u16]) -> Vec<u8> {
    let mut pdu = vec![asked.pdu[0], 2 * registers.len() as u8];
    registers.iter().for_each(|register| pdu.extend(register.to_be_bytes()));
    pdu
}
