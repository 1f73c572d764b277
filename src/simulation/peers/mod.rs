//! Who lives in a world besides the server, and how they behave.

mod datagrams;
mod dispatcher;
mod master;
mod master_datagrams;
mod noise;
mod plc;
mod slave;
mod talker;

use super::link::{Appetite, Port};
use super::net::{Happening, Net};
use super::record::Book;
use crate::base::random::Random;
use crate::engine::End;

pub(super) use datagrams::DatagramPeer;
pub(super) use dispatcher::Dispatcher;
pub(super) use master::Master;
pub(super) use master_datagrams::MasterByDatagrams;
pub(super) use noise::Noise;
pub(super) use plc::Plc;
pub(super) use slave::Slave;
pub(super) use talker::{POLLED_TAGS_EACH, Part, Talker, polled_tag};

/// How a connection came to its end, as its peer saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The server sends no more.
    Orderly,
    /// A reset, or a call that was refused.
    Broken,
}

/// Somebody with at most one connection at a time.
pub(super) trait Peer {
    /// A connection that was called for, or that an engine has dialled, is there.
    fn on_open(&mut self, _hand: &mut Hand<'_>) {}

    /// Bytes came.
    fn on_bytes(&mut self, hand: &mut Hand<'_>, bytes: &[u8]);

    /// A datagram came.
    fn on_datagram(&mut self, _hand: &mut Hand<'_>, _datagram: &[u8]) {}

    /// The connection is at its end.
    fn on_end(&mut self, hand: &mut Hand<'_>, how: Ended);

    /// It is the time that was asked for.
    fn on_wake(&mut self, hand: &mut Hand<'_>);

    /// From now on nothing is begun; what was begun is brought to its end.
    fn on_quiet(&mut self, _hand: &mut Hand<'_>) {}

    /// All has been quiet for long.
    fn check_quiet(&self, _table: &Table) {}

    /// For what the server may close it, besides what is always allowed.
    fn excused(&self) -> &[End] {
        &[]
    }
}

/// The tags as they stand in the server.
pub(super) type Table = std::collections::BTreeMap<String, super::checkers::State>;

/// What a peer can do.
pub(super) struct Hand<'a> {
    pub(super) net: &'a mut Net,
    pub(super) me: usize,
    pub(super) port: &'a mut Option<Port>,
    /// The world comes to rest.
    pub(super) quiet: bool,
}

impl Hand<'_> {
    pub(super) fn random(&mut self) -> &mut Random {
        &mut self.net.random
    }

    pub(super) fn book(&self) -> Book {
        self.net.book.clone()
    }

    /// Call a listener of the server.
    pub(super) fn call(&mut self, listener: usize) {
        let port = self.net.call(self.me, 0, listener);
        *self.port = Some(port);
        let name = self.net.name_of(port);
        self.net.book.note(format_args!("{name}"), format_args!("calls"));
    }

    pub(super) fn is_connected(&self) -> bool {
        self.port.is_some()
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        if let Some(port) = *self.port {
            if !bytes.is_empty() {
                self.net.peer_send(port, bytes);
            }
        }
    }

    /// Send no more.
    pub(super) fn finish(&mut self) {
        if let Some(port) = *self.port {
            self.net.peer_finish(port);
        }
    }

    /// Break the connection.
    pub(super) fn reset(&mut self) {
        if let Some(port) = self.port.take() {
            let name = self.net.name_of(port);
            self.net.book.note(format_args!("{name}"), format_args!("resets"));
            self.net.abandon(port, true);
        }
    }

    /// Be gone, and say nothing: a cable that is pulled.
    pub(super) fn vanish(&mut self) {
        if let Some(port) = self.port.take() {
            let name = self.net.name_of(port);
            self.net.book.note(format_args!("{name}"), format_args!("vanishes"));
            self.net.abandon(port, false);
        }
    }

    /// Read so fast from now on.
    pub(super) fn read_at(&mut self, appetite: Appetite) {
        if let Some(port) = *self.port {
            self.net.set_appetite(port, appetite);
        }
    }

    pub(super) fn wake_in(&mut self, us: u64) {
        let me = self.me;
        self.net.after(us, Happening::Wake(me));
    }
}
