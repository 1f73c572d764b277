//! Connections of ours: when they are made (the earliest first), and how that turns out.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use super::connection::{DIAL_MS, Link, Phase};
use super::session::{ConnKey, End, Endpoint, Session, Transport, Wire};
use super::{Engine, NOWHERE};
use crate::base::host::Host;
use crate::base::time::Tick;

#[derive(Default)]
pub(super) struct Dials {
    waiting: BinaryHeap<Reverse<Dial>>,
    count: u64,
}

pub(super) struct Dial {
    at: Tick,
    /// Among those of the same time the first come is the first.
    number: u64,
    pub(super) to: Endpoint,
    pub(super) session: Box<dyn Session>,
}

impl Dials {
    pub(super) fn add(&mut self, at: Tick, to: Endpoint, session: Box<dyn Session>) {
        self.count += 1;
        self.waiting.push(Reverse(Dial { at, number: self.count, to, session }));
    }

    pub(super) fn next(&self) -> Option<Tick> {
        self.waiting.peek().map(|Reverse(dial)| dial.at)
    }

    pub(super) fn pop_due(&mut self, now: Tick) -> Option<Dial> {
        if self.next()? > now {
            return None;
        }
        self.waiting.pop().map(|Reverse(dial)| dial)
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

impl Engine {
    /// Connect to `to` at that time, and let `session` speak there; it hears of a failure by `on_end`.
    pub fn dial_at(&mut self, at: Tick, to: Endpoint, session: Box<dyn Session>) {
        self.shard.dials.add(at, to, session);
    }

    pub(super) fn dial<W: Wire>(&mut self, dial: Dial, wire: &mut W) {
        let now = self.shard.now.tick;
        let peer = match dial.to.host {
            Host::Address(address) => address,
            Host::Name(_) => NOWHERE,
        };
        let mut link = Link::new(peer, None, now);
        link.phase = Phase::Dialling;
        if dial.to.transport == Transport::Datagram {
            link.cuts = Some(Box::default());
        }
        link.stalled_since = now + Duration::from_millis(DIAL_MS);
        self.shard.metrics.connections.add(1);
        let key = self.insert(link, dial.session);
        self.settle_deadline(key.index as usize);
        wire.dial(key, dial.to);
    }

    /// The wire has looked up the name that a connection is to be made to.
    pub fn on_looked_up(&mut self, key: ConnKey, address: SocketAddr) {
        let index = key.index as usize;
        if self.is_dialling(key) {
            self.connections[index].link.peer = address;
            let is_wanted = self.shard.shared.recorder().wants(address);
            if is_wanted {
                self.watch(index);
            }
        }
    }

    /// The wire cannot look up the name that a connection is to be made to.
    pub fn on_unresolved<W: Wire>(&mut self, key: ConnKey, why: &str, wire: &mut W) {
        if self.is_dialling(key) {
            let index = key.index as usize;
            self.with_session(index, |session, _| session.on_unresolved(why));
            self.drop_now(index, End::Unresolved, wire);
        }
    }

    fn is_dialling(&self, key: ConnKey) -> bool {
        let connection = self.connections.get(key.index as usize);
        let connection = connection.filter(|connection| connection.serial == key.serial);
        connection.is_some_and(|connection| connection.link.phase == Phase::Dialling)
    }

    /// How a connection that the wire was asked for has turned out.
    pub fn on_dialled<W: Wire>(&mut self, key: ConnKey, result: Result<(), ErrorKind>, wire: &mut W) {
        if !self.is_dialling(key) {
            return;
        }
        let index = key.index as usize;
        match result {
            Ok(()) => {
                let link = &mut self.connections[index].link;
                link.phase = Phase::Reading;
                link.stalled_since = Tick::NEVER;
                link.heard = self.shard.now.tick;
                self.on_open(key);
            }
            Err(why) => self.drop_now(index, End::NotConnected(why), wire),
        }
    }
}

impl Ord for Dial {
    fn cmp(&self, other: &Dial) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Dial {
    fn partial_cmp(&self, other: &Dial) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Dial {
    fn eq(&self, other: &Dial) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Dial {}
