//! One master's conversation: frames in, frames out, in order.

use std::sync::Arc;

use super::super::identification::{self, Object};
use super::super::pdu::{Exception, Function, Pdu};
use super::super::request::Request;
use super::super::{mbap, rtu};
use super::{Outcome, Units};
#[cfg(test)]
use crate::base::mutants::{self, Mutant};
use crate::engine::{Consumed, Context, End, Flow, Session, Ticket};
use crate::tags::Refusal;

/// How frames are found and answered.
#[derive(Clone, Copy, Debug)]
pub(super) enum Framing {
    /// Frames with a header, in a stream.
    Tcp,
    /// The same, one a datagram.
    Udp,
    /// Frames with a CRC, in a stream.
    Rtu(rtu::Framing),
}

/// A conversation. Small: most of many are idle.
pub(super) struct Conversation {
    units: Arc<Units>,
    framing: Framing,
    /// A request that waits for devices; no other is begun before it is answered.
    pending: Option<Box<Pending>>,
}

/// Where a reply goes: what is repeated of the request's frame.
#[derive(Clone, Copy)]
struct To {
    /// Of RTU frames, nothing.
    transaction: u16,
    unit: u8,
}

struct Pending {
    to: To,
    pdu: Box<[u8]>,
    /// Writes that are not settled yet, or the one question.
    tickets: Vec<Ticket>,
    /// What the first device that refused said.
    refused: Option<Exception>,
}

/// What is at the front of the input.
enum Next<'a> {
    /// Not all of a frame.
    Incomplete,
    /// A frame of so many bytes.
    Frame { to: To, pdu: &'a [u8], bytes: usize },
    /// So many bytes that are dropped.
    Damaged(usize),
    /// Where the next frame begins cannot be known.
    Violation(mbap::Violation),
}

/// The longest frame of a reply.
const MOST_REPLY_BYTES: usize = mbap::MOST_FRAME_BYTES;

impl Conversation {
    pub(super) fn new(units: Arc<Units>, framing: Framing) -> Conversation {
        Conversation { units, framing, pending: None }
    }

    fn next<'a>(&mut self, input: &'a [u8]) -> Next<'a> {
        let of_mbap = |frame: mbap::Frame<'a>| Next::Frame {
            to: To { transaction: frame.transaction, unit: frame.unit },
            pdu: frame.pdu,
            bytes: frame.bytes(),
        };
        match &mut self.framing {
            Framing::Tcp => match mbap::Frame::parse(input) {
                Ok(frame) => frame.map_or(Next::Incomplete, of_mbap),
                Err(violation) => Next::Violation(violation),
            },
            Framing::Udp => match mbap::Frame::parse(input) {
                _ if input.is_empty() => Next::Incomplete,
                Ok(Some(frame)) if frame.bytes() == input.len() => of_mbap(frame),
                _ => Next::Damaged(input.len()),
            },
            Framing::Rtu(framing) => match framing.next(input) {
                rtu::Next::Incomplete => Next::Incomplete,
                rtu::Next::Damaged(bytes) => Next::Damaged(bytes),
                rtu::Next::Frame(frame) => Next::Frame {
                    to: To { transaction: 0, unit: frame.unit },
                    pdu: frame.pdu,
                    bytes: frame.bytes(),
                },
            },
        }
    }

    fn on_request(&mut self, cx: &mut Context<'_>, to: To, pdu: &[u8]) {
        cx.count_request();
        if matches!(self.framing, Framing::Rtu(_)) && to.unit == rtu::BROADCAST_UNIT {
            return self.on_broadcast(cx, pdu);
        }
        let mut reply = Pdu::new();
        match execute(&self.units, cx, to.unit, pdu, &mut reply) {
            Ok(Outcome::Done) => {}
            Ok(Outcome::Pending(tickets)) => {
                self.pending = Some(Box::new(Pending { to, pdu: pdu.into(), tickets, refused: None }));
                return;
            }
            Err(exception) => exception.encode(pdu[0], &mut reply),
        }
        self.put(cx, to, &reply);
    }

    /// All units carry it out, and none answers (*Serial Line* §2.1).
    fn on_broadcast(&self, cx: &mut Context<'_>, pdu: &[u8]) {
        let request = match Request::decode(pdu) {
            Ok(request) if request.function().writes() => request,
            _ => return,
        };
        if may(cx, request.function()) {
            for unit in &self.units.units {
                // There is nobody to tell what came of it.
                let _ = unit.execute(cx, &request, &mut Pdu::new());
            }
        }
    }

    fn put(&self, cx: &mut Context<'_>, to: To, reply: &[u8]) {
        #[cfg(test)]
        if matches!(self.framing, Framing::Tcp)
            && !cx.owed().is_empty()
            && mutants::strikes(Mutant::ReplyOvertakes)
        {
            let owed = cx.owed().to_vec();
            cx.take_back(0);
            self.put(cx, to, reply);
            return cx.put(&owed);
        }
        match self.framing {
            Framing::Tcp | Framing::Udp => {
                cx.put(&mbap::header(to.transaction, to.unit, reply.len()));
                cx.put(reply);
            }
            Framing::Rtu(_) => {
                cx.put(&[to.unit]);
                cx.put(reply);
                cx.put(&rtu::trailer(to.unit, reply));
            }
        }
    }
}

/// Carry a request out. The checks come in this order: function, unit, what it is made of, addresses.
fn execute(
    units: &Units,
    cx: &mut Context<'_>,
    unit: u8,
    pdu: &[u8],
    reply: &mut Pdu,
) -> Result<Outcome, Exception> {
    let function = Function::of(pdu).filter(|function| may(cx, *function));
    function.ok_or(Exception::IllegalFunction)?;
    let unit = units.find(unit).ok_or(Exception::GatewayPathUnavailable)?;
    let request = Request::decode(pdu)?;
    match request {
        Request::Identify(asked) if !unit.is_proxied() => {
            identification::answer(asked, &identity(cx.server_name()), reply)?;
            Ok(Outcome::Done)
        }
        _ => unit.execute(cx, &request, reply),
    }
}

/// Whether the peer may use the function. The identification is open to whoever may do anything.
fn may(cx: &Context<'_>, function: Function) -> bool {
    (cx.may_read() || !function.reads()) && (cx.may_write() || !function.writes())
}

/// Who answers here: vendor, product code, revision; product, application.
fn identity(server_name: &str) -> [Object<'_>; 5] {
    [
        Object { id: 0, value: b"Lumina" },
        Object { id: 1, value: b"lumina-server" },
        Object { id: 2, value: env!("CARGO_PKG_VERSION").as_bytes() },
        Object { id: 4, value: b"Lumina Server" },
        Object { id: 6, value: server_name.as_bytes() },
    ]
}

impl Session for Conversation {
    fn on_bytes(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Consumed {
        let mut consumed = 0;
        let flow = loop {
            if self.pending.is_some() {
                break Flow::Hold;
            }
            if cx.room() < MOST_REPLY_BYTES {
                break Flow::More;
            }
            match self.next(&input[consumed..]) {
                Next::Incomplete => break Flow::Continue,
                Next::Frame { to, pdu, bytes } => {
                    consumed += bytes;
                    self.on_request(cx, to, pdu);
                }
                Next::Damaged(bytes) => {
                    consumed += bytes;
                    cx.count_damaged();
                }
                Next::Violation(violation) => {
                    log::debug!("what came is not Modbus: {violation}");
                    break Flow::Close(End::Violation);
                }
            }
        };
        Consumed { bytes: consumed, flow }
    }

    fn on_write_done(&mut self, cx: &mut Context<'_>, ticket: Ticket, result: Result<(), Refusal>) -> Flow {
        // The ticket may be of a broadcast, for which nobody waits.
        let Some(mut pending) = self.pending.take() else { return Flow::Continue };
        if let Some(place) = pending.tickets.iter().position(|waiting| *waiting == ticket) {
            pending.tickets.swap_remove(place);
            #[cfg(test)]
            let result = if mutants::strikes(Mutant::RefusalUnheard) { Ok(()) } else { result };
            pending.refused = pending.refused.or(result.err().map(Exception::from));
        }
        if !pending.tickets.is_empty() {
            self.pending = Some(pending);
            return Flow::Hold;
        }
        let mut reply = Pdu::new();
        let answered = match pending.refused {
            Some(exception) => Err(exception),
            None => {
                let request = Request::decode(&pending.pdu).expect("it was decoded before");
                let unit = self.units.find(pending.to.unit).expect("it was found before");
                unit.answer(cx, &request, &mut reply)
            }
        };
        if let Err(exception) = answered {
            exception.encode(pending.pdu[0], &mut reply);
        }
        self.put(cx, pending.to, &reply);
        Flow::Continue
    }

    fn on_answer(&mut self, cx: &mut Context<'_>, ticket: Ticket, result: Result<&[u8], Refusal>) -> Flow {
        // As above, nobody may be waiting for it.
        let waits = |pending: &Pending| pending.tickets.contains(&ticket);
        if !self.pending.as_deref().is_some_and(waits) {
            return if self.pending.is_some() { Flow::Hold } else { Flow::Continue };
        }
        let pending = self.pending.take().expect("it was looked at");
        match result {
            Ok(pdu) => self.put(cx, pending.to, pdu),
            Err(refusal) => {
                let mut reply = Pdu::new();
                Exception::from(refusal).encode(pending.pdu[0], &mut reply);
                self.put(cx, pending.to, &reply);
            }
        }
        Flow::Continue
    }
}
