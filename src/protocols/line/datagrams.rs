//! The line protocol in datagrams. A datagram holds whole lines, and its replies go back in a few datagrams
//! that are cut at line ends: never more than 8, so that a forged sender's address cannot be flooded.

use std::net::SocketAddr;

use super::fault::{Code, Fault};
use super::{Line, LineListener, put_fault, without_cr};
use crate::engine::{Acceptor, Consumed, Context, Flow, Session, Ticket, Transport};
use crate::tags::Refusal;

/// What fits one Ethernet frame.
const DATAGRAM_BYTES: usize = 1_472;
/// Datagrams of the reply to one datagram.
const MOST_DATAGRAMS: usize = 8;
/// No `ERR` line is longer, and none of the short replies.
const SHORT_REPLY_BYTES: usize = 160;

pub(super) struct Listener(pub(super) LineListener);

impl Acceptor for Listener {
    fn accept(&self, _peer: SocketAddr) -> Box<dyn Session> {
        let line = Line::new(self.0.max_line, Transport::Datagram);
        Box::new(DatagramLine { line, packed: Packed::default() })
    }

    fn refuse(&self, refusal: &Refusal, out: &mut String) {
        self.0.refuse(refusal, out);
    }
}

/// One peer's conversation: that of a stream, its output cut.
struct DatagramLine {
    line: Line,
    /// The output, as far as requests are answered.
    packed: Packed,
}

/// Output that is packed into datagrams.
#[derive(Clone, Copy, Default)]
struct Packed {
    /// Where each full datagram ends. All of them fit 16 bits, and a session stays small.
    cuts: [u16; MOST_DATAGRAMS],
    /// How many datagrams are full.
    full: usize,
    /// Where the last datagram, which is not full, ends.
    end: usize,
}

impl Session for DatagramLine {
    fn on_bytes(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Consumed {
        self.forget_sent(cx);
        let mut bytes = 0;
        while bytes < input.len() {
            let rest = &input[bytes..];
            if !self.packed.has_room(2 * SHORT_REPLY_BYTES) {
                // One refusal for all that is left: what was not answered was not carried out.
                self.refuse(cx, "reply: 8 datagrams are full; the rest of this one was not carried out");
                return Consumed { bytes: input.len(), flow: Flow::Continue };
            }
            let end = rest.iter().position(|&byte| byte == b'\n');
            bytes += end.map_or(rest.len(), |end| end + 1);
            let flow = self.line.on_line(cx, without_cr(&rest[..end.unwrap_or(rest.len())]));
            let flow = self.pack(cx, flow);
            if flow != Flow::Continue {
                return Consumed { bytes, flow };
            }
        }
        Consumed { bytes, flow: Flow::Continue }
    }

    fn on_room(&mut self, cx: &mut Context<'_>) -> Flow {
        let flow = self.line.on_room(cx);
        self.pack(cx, flow)
    }

    fn on_write_done(&mut self, cx: &mut Context<'_>, ticket: Ticket, result: Result<(), Refusal>) -> Flow {
        self.forget_sent(cx);
        let flow = self.line.on_write_done(cx, ticket, result);
        self.pack(cx, flow)
    }
}

impl DatagramLine {
    fn forget_sent(&mut self, cx: &Context<'_>) {
        if cx.owed().is_empty() {
            self.packed = Packed::default();
        }
    }

    /// Pack what the request at hand has put; if it is too much, refuse the request instead.
    fn pack(&mut self, cx: &mut Context<'_>, flow: Flow) -> Flow {
        match self.packed.and(cx.owed()) {
            // Nothing of a long reply is cut before all of it is known to fit.
            Some(_) if flow == Flow::More => flow,
            Some(packed) => {
                self.take(cx, packed);
                flow
            }
            None => {
                self.line.listing = None;
                cx.take_back(self.packed.end);
                self.refuse(
                    cx,
                    "reply: it needs more than 8 datagrams of 1,472 bytes; ask for less, or by TCP",
                );
                Flow::Continue
            }
        }
    }

    fn refuse(&mut self, cx: &mut Context<'_>, text: &'static str) {
        put_fault(cx, &Fault::new(Code::Limit, text));
        let packed = self.packed.and(cx.owed()).expect("room for a refusal was left");
        self.take(cx, packed);
    }

    fn take(&mut self, cx: &mut Context<'_>, packed: Packed) {
        packed.cuts[self.packed.full..packed.full].iter().for_each(|&cut| cx.cut(cut.into()));
        self.packed = packed;
    }
}

impl Packed {
    /// Where the last datagram begins.
    fn last(&self) -> usize {
        self.full.checked_sub(1).map_or(0, |before| self.cuts[before].into())
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.full + 1 < MOST_DATAGRAMS || self.end - self.last() + bytes <= DATAGRAM_BYTES
    }

    /// With the lines of `output` behind `end` packed as well. `None`: they do not fit.
    fn and(mut self, output: &[u8]) -> Option<Packed> {
        while let Some(length) = output[self.end..].iter().position(|&byte| byte == b'\n') {
            let end = self.end + length + 1;
            if end - self.last() > DATAGRAM_BYTES {
                if self.full + 1 == MOST_DATAGRAMS || end - self.end > DATAGRAM_BYTES {
                    return None;
                }
                self.cuts[self.full] = self.end as u16;
                self.full += 1;
            }
            self.end = end;
        }
        Some(self)
    }
}
