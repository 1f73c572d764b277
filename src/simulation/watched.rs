//! The server's sessions, with somebody looking over their shoulders.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::checkers;
use super::record::{Book, LinkId};
use crate::base::time::Tick;
use crate::engine::{
    Acceptor, Change, Consumed, Context, End, Flow, Frame, HIGH_WATER_BYTES, Question, Session, Ticket,
    WriteOrder,
};
use crate::tags::Refusal;

/// A listener's acceptor whose sessions are watched.
pub(super) struct WatchedAcceptor {
    pub(super) inner: Box<dyn Acceptor>,
    pub(super) book: Book,
}

impl Acceptor for WatchedAcceptor {
    fn accept(&self, peer: SocketAddr) -> Box<dyn Session> {
        Box::new(Watched {
            inner: self.inner.accept(peer),
            book: self.book.clone(),
            link: link_at(peer),
            device: None,
            holding: false,
            ended: false,
        })
    }

    fn refuse(&self, refusal: &Refusal, out: &mut String) {
        self.inner.refuse(refusal, out);
    }
}

/// Where the server sees the peer of a link.
pub(super) fn address_of(link: LinkId) -> SocketAddr {
    let [_, high, middle, low] = (link as u32).to_be_bytes();
    SocketAddr::from(([10, high, middle, low], 40_000))
}

fn link_at(address: SocketAddr) -> LinkId {
    let IpAddr::V4(ip) = address.ip() else { panic!("the world has IPv4 addresses") };
    let [_, high, middle, low] = ip.octets();
    u32::from_be_bytes([0, high, middle, low]) as LinkId
}

/// So near to the high-water mark nothing is begun.
const NEARLY_FULL_BYTES: usize = 8 * 1024;

struct Watched {
    inner: Box<dyn Session>,
    book: Book,
    link: LinkId,
    /// The name that its peer gave in `HELLO`.
    device: Option<String>,
    /// It waits for a ticket.
    holding: bool,
    ended: bool,
}

impl Watched {
    fn who(&self) -> String {
        format!("link {}", self.link)
    }

    fn before(&mut self, call: &str) {
        if self.ended {
            self.book.judge(checkers::nothing_after_the_end(&self.who(), self.ended, call));
        }
    }

    fn after(&mut self, cx: &Context<'_>, flow: Flow) -> Flow {
        self.holding = flow == Flow::Hold;
        self.look(cx);
        flow
    }

    /// A device says who it is in the first line.
    fn hear_hello(&mut self, input: &[u8]) {
        let name = input.strip_prefix(b"HELLO ").and_then(|rest| rest.split(u8::is_ascii_whitespace).next());
        if let Some(name) = name {
            let name = String::from_utf8_lossy(name).into_owned();
            let mut record = self.book.open();
            let shard = record.turn_of;
            record.speakers.insert(name.clone(), (shard, self.link));
            self.device = Some(name);
        }
    }

    fn hear_denials(&self, replies: &[u8]) {
        let Some(device) = &self.device else { return };
        let mut record = self.book.open();
        let speaks = record.speakers.get(device).is_some_and(|(_, link)| *link == self.link);
        let is_denied = replies.split(|&byte| byte == b'\n').any(|line| line.starts_with(b"ERR denied"));
        if is_denied {
            record.meet("a writer that another shard has taken over from");
        }
        record.judge(checkers::only_who_was_taken_over_is_denied(&self.who(), is_denied, speaks));
    }

    fn see_who_wrote(&self, tag: &str) {
        let mut record = self.book.open();
        let writer = tag.split('/').next().and_then(|device| record.speakers.get(device));
        if writer.is_some_and(|(shard, _)| *shard != record.turn_of) {
            record.meet("a change that was written on another shard");
        }
    }

    fn look(&self, cx: &Context<'_>) {
        let owed = cx.owed().len();
        let mut record = self.book.open();
        if owed > HIGH_WATER_BYTES - NEARLY_FULL_BYTES {
            record.meet("an output nearly full");
        }
        if owed == 0 && cx.room() == 0 {
            record.meet("memory short");
        }
        record.judge(checkers::owed_within_limits(&self.who(), owed));
    }
}

impl Session for Watched {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Flow {
        let flow = self.inner.on_open(cx);
        self.after(cx, flow)
    }

    fn on_bytes(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Consumed {
        self.before("on_bytes");
        let owed = cx.owed().len();
        let consumed = self.inner.on_bytes(cx, input);
        self.hear_hello(&input[..consumed.bytes]);
        self.hear_denials(&cx.owed()[owed..]);
        self.after(cx, consumed.flow);
        consumed
    }

    fn on_room(&mut self, cx: &mut Context<'_>) -> Flow {
        self.before("on_room");
        self.book.meet("a reply in slices");
        let flow = self.inner.on_room(cx);
        self.after(cx, flow)
    }

    fn on_change(&mut self, cx: &mut Context<'_>, change: &Change<'_>) -> Flow {
        self.before("on_change");
        self.see_who_wrote(change.name);
        let flow = self.inner.on_change(cx, change);
        self.look(cx);
        flow
    }

    fn on_write_done(&mut self, cx: &mut Context<'_>, ticket: Ticket, result: Result<(), Refusal>) -> Flow {
        self.before("on_write_done");
        let waits = std::mem::take(&mut self.holding);
        {
            let who = self.who();
            let mut record = self.book.open();
            let end = match &result {
                Ok(()) => "done",
                Err(Refusal::Offline) => "offline",
                Err(Refusal::Timeout) => "timed out",
                Err(_) => "refused",
            };
            record.meet(format!("a write to a device {end}"));
            if record.plc_at.is_some_and(|driver| driver != record.turn_of) {
                record.meet(format!("a write to a device of another shard {end}"));
            }
            let verdict = checkers::each_ticket_settles_once(&mut record, &who, ticket, waits);
            record.judge(verdict);
        }
        let flow = self.inner.on_write_done(cx, ticket, result);
        self.after(cx, flow)
    }

    fn on_write_order(&mut self, cx: &mut Context<'_>, order: WriteOrder) -> Flow {
        self.inner.on_write_order(cx, order)
    }

    fn on_frame(&mut self, cx: &mut Context<'_>, frame: &Frame<'_>) -> Flow {
        self.before("on_frame");
        let flow = self.inner.on_frame(cx, frame);
        self.look(cx);
        flow
    }

    fn on_answer(&mut self, cx: &mut Context<'_>, ticket: Ticket, result: Result<&[u8], Refusal>) -> Flow {
        self.before("on_answer");
        let waits = std::mem::take(&mut self.holding);
        {
            let who = self.who();
            let mut record = self.book.open();
            let verdict = checkers::each_ticket_settles_once(&mut record, &who, ticket, waits);
            record.judge(verdict);
        }
        let flow = self.inner.on_answer(cx, ticket, result);
        self.after(cx, flow)
    }

    fn on_question(&mut self, cx: &mut Context<'_>, question: Question) -> Flow {
        self.inner.on_question(cx, question)
    }

    fn on_deadline(&mut self, cx: &mut Context<'_>) -> Flow {
        self.before("on_deadline");
        let flow = self.inner.on_deadline(cx);
        self.look(cx);
        flow
    }

    fn on_end(&mut self, cx: &mut Context<'_>, why: End) {
        self.before("on_end");
        self.ended = true;
        {
            let mut record = self.book.open();
            record.ended.insert(self.link, why);
            record.note(format_args!("server"), format_args!("~{} ends: {why}", self.link));
            record.meet(format!("an end {why}"));
            let by = self.device.as_ref().and_then(|device| record.speakers.get(device));
            if why == End::TakenOver && by.is_some_and(|(shard, _)| *shard != record.turn_of) {
                record.meet("a device that speaks on another shard now");
            }
        }
        self.inner.on_end(cx, why);
    }

    fn deadline(&self) -> Option<Tick> {
        self.inner.deadline()
    }
}

/// An acceptor for a listener, watched.
pub(super) fn watched(inner: Box<dyn Acceptor>, book: &Book) -> Arc<dyn Acceptor> {
    Arc::new(WatchedAcceptor { inner, book: book.clone() })
}
