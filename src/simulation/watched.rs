//! The server's sessions, with somebody looking over their shoulders.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::checkers;
use super::record::{Book, LinkId};
use crate::base::time::Tick;
use crate::engine::{
    Acceptor, Change, Consumed, Context, End, Flow, Frame, HIGH_WATER_BYTES, Session, Ticket, WriteOrder,
};
use crate::tags::Refusal;

/// A listener's acceptor whose sessions are watched.
pub(super) struct WatchedAcceptor {
    pub(super) inner: Box<dyn Acceptor>,
    pub(super) book: Book,
    pub(super) host: usize,
}

impl Acceptor for WatchedAcceptor {
    fn accept(&self, peer: SocketAddr) -> Box<dyn Session> {
        Box::new(Watched {
            inner: self.inner.accept(peer),
            book: self.book.clone(),
            host: self.host,
            link: link_at(peer),
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
    host: usize,
    link: LinkId,
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
        let consumed = self.inner.on_bytes(cx, input);
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
            record.meet(match &result {
                Ok(()) => "a write to a device done",
                Err(Refusal::Offline) => "a write to a device offline",
                Err(Refusal::Timeout) => "a write to a device timed out",
                Err(_) => "a write to a device refused",
            });
            if let Some(write) = record.ordered.get(&(self.host, ticket)).cloned() {
                record.ends_of_orders.entry(write).or_default().push(exception_of(&result));
            }
            let verdict = checkers::each_ticket_settles_once(&mut record, &who, self.host, ticket, waits);
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
        }
        self.inner.on_end(cx, why);
    }

    fn deadline(&self) -> Option<Tick> {
        self.inner.deadline()
    }
}

/// How Modbus calls what went wrong with a write to a device.
fn exception_of(result: &Result<(), Refusal>) -> Option<u8> {
    match result {
        Ok(()) => None,
        Err(Refusal::Device { code: Some(code), .. }) => Some(*code),
        Err(Refusal::Offline) => Some(10),
        Err(Refusal::Timeout) => Some(11),
        Err(_) => Some(4),
    }
}

/// An acceptor for a listener, watched.
pub(super) fn watched(inner: Box<dyn Acceptor>, book: &Book, host: usize) -> Arc<dyn Acceptor> {
    Arc::new(WatchedAcceptor { inner, book: book.clone(), host })
}
