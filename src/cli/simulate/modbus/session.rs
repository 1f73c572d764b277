//! A master's connection to a slave, or to several that are units of one address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::faults::Fault;
use super::garbage::{MOST_NOISE_BYTES, garble};
use super::plant::Plant;
use super::slave::Slave;
use super::spread::Group;
use crate::base::time::Tick;
use crate::engine::{Acceptor, Consumed, Context, End, Flow, Session};
use crate::protocols::modbus::mbap::{self, Frame};
use crate::protocols::modbus::{Exception, Pdu};
use crate::tags::Refusal;

/// Answers of a connection that wait until they are due: as many as a master may have in flight. Who asks for
/// more is told that the slave is busy, at once.
const MOST_WAITING: usize = 16;
/// The most that is put for one request: an answer, and garbage ahead of it.
const MOST_REPLY_BYTES: usize = 2 * mbap::MOST_FRAME_BYTES + MOST_NOISE_BYTES;
/// An answer that there is no room for tries again after so long.
const NO_ROOM: Duration = Duration::from_millis(10);

/// Meets the masters of one listening socket.
pub(super) struct Reception {
    plant: Arc<Plant>,
    listener: usize,
}

/// A connection.
struct Conversation {
    plant: Arc<Plant>,
    group: Group,
    /// Sorted by when they are due.
    waiting: Vec<Message>,
}

struct Message {
    due: Tick,
    kind: Kind,
    bytes: Box<[u8]>,
}

/// What is sent, as it is counted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Answer,
    Exception,
    Garbage,
}

impl Reception {
    pub(super) fn new(plant: Arc<Plant>, listener: usize) -> Reception {
        Reception { plant, listener }
    }
}

impl Acceptor for Reception {
    /// Where no slave is, whoever comes is turned away.
    fn accept(&self, _peer: SocketAddr) -> Box<dyn Session> {
        self.plant.counts.strays.add(1);
        Box::new(Nobody)
    }

    fn accept_at(&self, peer: SocketAddr, local: SocketAddr) -> Box<dyn Session> {
        let plant = Arc::clone(&self.plant);
        match plant.places.met(self.listener, local.ip()) {
            Some(group) => Box::new(Conversation { plant, group, waiting: Vec::new() }),
            None => self.accept(peer),
        }
    }

    fn refuse(&self, _refusal: &Refusal, _out: &mut String) {}
}

impl Conversation {
    fn on_request(&mut self, cx: &mut Context<'_>, frame: &Frame<'_>) -> Flow {
        cx.count_request();
        let plant = Arc::clone(&self.plant);
        let counts = &plant.counts;
        counts.requests.add(1);
        let Some(number) = self.group.slave(frame.unit) else {
            counts.elsewhere.add(1);
            return self.refuse(cx, frame, Exception::GatewayPathUnavailable);
        };
        let mut slave = plant.slave(number);
        if !std::mem::replace(&mut slave.was_asked, true) {
            counts.asked.add(1);
        }
        let fault = slave.fault;
        if let Some(fault) = fault {
            counts.of(fault).requests.add(1);
        }
        if self.waiting.len() >= MOST_WAITING {
            counts.overruns.add(1);
            return self.refuse(cx, frame, Exception::ServerDeviceBusy);
        }
        let due = cx.now().tick + plant.delay(&mut slave.random);
        match fault {
            Some(Fault::Exceptions) | None => {
                let (kind, answer) = carry_out(&plant, &mut slave, cx, frame);
                if fault.is_some() && kind == Kind::Exception {
                    counts.of(Fault::Exceptions).deeds.add(1);
                }
                self.send(cx, due, kind, answer)
            }
            Some(fault) if fault.strikes(&mut slave.random) => {
                counts.of(fault).deeds.add(1);
                self.misbehave(cx, &mut slave, fault, frame, due)
            }
            Some(_) => {
                let (kind, answer) = carry_out(&plant, &mut slave, cx, frame);
                self.send(cx, due, kind, answer)
            }
        }
    }

    /// A fault strikes, at an answer that would be due then.
    fn misbehave(
        &mut self,
        cx: &mut Context<'_>,
        slave: &mut Slave,
        fault: Fault,
        frame: &Frame<'_>,
        due: Tick,
    ) -> Flow {
        if fault == Fault::Silent {
            return Flow::Continue;
        }
        let (kind, answer) = carry_out(&self.plant, slave, cx, frame);
        match fault {
            Fault::Garbage => {
                let garbage = garble(&mut slave.random, &answer);
                let flow = self.send(cx, due, Kind::Garbage, garbage);
                let goes_ahead = slave.random.one_in(2);
                if goes_ahead { self.send(cx, due, kind, answer) } else { flow }
            }
            Fault::Cut => {
                if slave.random.one_in(2) {
                    cx.put(&answer[..answer.len() / 2]);
                }
                Flow::Close(if slave.random.one_in(2) { End::Aborted } else { End::Quit })
            }
            _ => {
                let due = due + self.plant.fault_delay(fault, &mut slave.random);
                self.send(cx, due, kind, answer)
            }
        }
    }

    /// Refuse at once what does not come to a slave.
    fn refuse(&mut self, cx: &mut Context<'_>, frame: &Frame<'_>, exception: Exception) -> Flow {
        let mut reply = Pdu::new();
        exception.encode(frame.pdu[0], &mut reply);
        self.send(cx, cx.now().tick, Kind::Exception, framed(frame, &reply))
    }

    /// Now or when it is due.
    fn send(&mut self, cx: &mut Context<'_>, due: Tick, kind: Kind, bytes: Vec<u8>) -> Flow {
        if due <= cx.now().tick {
            self.put(cx, kind, &bytes);
        } else {
            let place = self.waiting.partition_point(|message| message.due <= due);
            self.waiting.insert(place, Message { due, kind, bytes: bytes.into() });
        }
        Flow::Continue
    }

    fn put(&self, cx: &mut Context<'_>, kind: Kind, bytes: &[u8]) {
        let counts = &self.plant.counts;
        cx.put(bytes);
        counts.answers.add(u64::from(kind != Kind::Garbage));
        counts.exceptions.add(u64::from(kind == Kind::Exception));
    }
}

/// What a slave answers, as a frame.
fn carry_out(plant: &Plant, slave: &mut Slave, cx: &Context<'_>, frame: &Frame<'_>) -> (Kind, Vec<u8>) {
    let mut reply = Pdu::new();
    let kind = match slave.execute(frame.pdu, cx.now().wall, &plant.counts.written, &mut reply) {
        Ok(()) => Kind::Answer,
        Err(exception) => {
            exception.encode(frame.pdu[0], &mut reply);
            Kind::Exception
        }
    };
    (kind, framed(frame, &reply))
}

/// The frame that answers another.
fn framed(asked: &Frame<'_>, reply: &Pdu) -> Vec<u8> {
    [&mbap::header(asked.transaction, asked.unit, reply.len())[..], reply].concat()
}

impl Session for Conversation {
    fn on_open(&mut self, _cx: &mut Context<'_>) -> Flow {
        self.plant.counts.connections.add(1);
        Flow::Continue
    }

    fn on_bytes(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Consumed {
        let mut bytes = 0;
        loop {
            if cx.room() < MOST_REPLY_BYTES {
                return Consumed { bytes, flow: Flow::More };
            }
            let flow = match Frame::parse(&input[bytes..]) {
                Ok(None) => return Consumed { bytes, flow: Flow::Continue },
                Ok(Some(frame)) => {
                    bytes += frame.bytes();
                    self.on_request(cx, &frame)
                }
                Err(_) => Flow::Close(End::Violation),
            };
            if flow != Flow::Continue {
                return Consumed { bytes, flow };
            }
        }
    }

    fn on_deadline(&mut self, cx: &mut Context<'_>) -> Flow {
        let now = cx.now().tick;
        while self.waiting.first().is_some_and(|message| message.due <= now) {
            if cx.room() < MOST_REPLY_BYTES {
                self.waiting.iter_mut().for_each(|message| message.due = message.due.max(now + NO_ROOM));
                break;
            }
            let message = self.waiting.remove(0);
            self.plant.lateness.note(now - message.due);
            self.put(cx, message.kind, &message.bytes);
        }
        Flow::Continue
    }

    fn deadline(&self) -> Option<Tick> {
        self.waiting.first().map(|message| message.due)
    }

    fn on_end(&mut self, _cx: &mut Context<'_>, why: End) {
        let counts = &self.plant.counts;
        counts.unsent.add(self.waiting.len() as u64);
        if matches!(why, End::Violation | End::FrameTimeout) {
            counts.violations.add(1);
        }
    }
}

/// Where no slave is: as nearly as can be as if nobody listened.
struct Nobody;

impl Session for Nobody {
    fn on_open(&mut self, _cx: &mut Context<'_>) -> Flow {
        Flow::Close(End::Aborted)
    }

    fn on_bytes(&mut self, _cx: &mut Context<'_>, input: &[u8]) -> Consumed {
        Consumed { bytes: input.len(), flow: Flow::Close(End::Aborted) }
    }
}
