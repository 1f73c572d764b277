//! Peers that send datagrams: a connection record each, found by listener and address, so that sessions,
//! limits and pending writes work as for streams. A datagram that cannot be handled or sent now is lost, as
//! the network may lose it.

use std::net::SocketAddr;

use super::Engine;
use super::connection::{Connection, Link, Phase};
use super::session::{ConnKey, Consumed, End, Flow, Wire};
use crate::security::Rights;

impl Engine {
    /// A datagram has come to a listener (by its place in the settings).
    pub fn on_datagram<W: Wire>(&mut self, listener: usize, peer: SocketAddr, datagram: &[u8], wire: &mut W) {
        if self.stopping {
            return;
        }
        let rights = self.shard.settings.listeners[listener].grants.of(peer.ip());
        if rights == Rights::NONE {
            self.shard.metrics.refused.add(1);
            return;
        }
        let index = self.udp_peer(listener as u16, peer, wire);
        let link = &mut self.connections[index].link;
        link.rights = rights;
        link.heard = self.shard.now.tick;
        self.shard.metrics.bytes_in.add(datagram.len() as u64);
        // While a write to a device is pending, what follows it in its datagram waits, and nothing else does.
        if link.phase != Phase::Reading || !link.input.is_empty() || self.shard.buffers.are_short() {
            return;
        }
        let Consumed { bytes, flow } = self.feed(index, datagram);
        let link = &mut self.connections[index].link;
        if link.is_open() && flow != Flow::Continue {
            self.shard.buffers.append(&mut link.input, &datagram[bytes..]);
        }
        self.apply(index, flow);
        self.settle(index);
        // Not at the end of the turn: the reply to the next datagram has datagrams of its own.
        self.send_datagrams(index, wire);
    }

    fn udp_peer<W: Wire>(&mut self, listener: u16, peer: SocketAddr, wire: &mut W) -> usize {
        let known = self.udp_peers.get(&(listener, peer)).map(|&index| index as usize);
        if let Some(index) = known {
            return index;
        }
        if self.udp_peers.len() == self.udp_peers.cap().get() {
            if let Some((_, oldest)) = self.udp_peers.pop_lru() {
                self.drop_now(oldest as usize, End::Forgotten, wire);
            }
        }
        let session = self.shard.settings.listeners[usize::from(listener)].acceptor.accept(peer);
        let mut link = Link::new(peer, Some(listener), self.shard.now.tick);
        link.cuts = Some(Box::default());
        let key = self.insert(link, session);
        self.shard.shared.give_to(self.shard.number);
        self.udp_peers.put((listener, peer), key.index);
        self.shard.metrics.accepted.add(1);
        self.shard.metrics.connections.add(1);
        self.on_open(key);
        key.index as usize
    }

    /// Send what is owed, a datagram at a time; a peer that is closed is forgotten.
    pub(super) fn send_datagrams<W: Wire>(&mut self, index: usize, wire: &mut W) {
        let Connection { link, serial, .. } = &mut self.connections[index];
        let serial = *serial;
        if link.phase == Phase::Gone {
            // What was owed went with it; where it was cut did not.
            return;
        }
        if link.phase == Phase::Producing {
            // How the reply is cut is known when all of it is. Who is starved is resumed when there is
            // memory.
            if !link.flags.starved {
                self.queue_resume(index);
            }
            return;
        }
        let key = ConnKey { index: index as u32, serial };
        let cuts = link.cuts.as_mut().expect("asked for peers that send datagrams only");
        cuts.0.push(link.output.len());
        let (listener, peer, is_recorded) = (link.listener, link.peer, link.flags.is_recorded);
        let (mut cuts, mut output) = (std::mem::take(&mut cuts.0), std::mem::take(&mut link.output));
        let mut begin = 0;
        for end in cuts.drain(..) {
            if begin < end {
                let datagram = &output[begin..end];
                let sent = match listener {
                    Some(listener) => wire.send_to(usize::from(listener), peer, datagram),
                    // One of ours, with a socket of its own.
                    None => wire.send(key, datagram).map(drop),
                };
                if sent.is_ok() {
                    self.shard.metrics.bytes_out.add(datagram.len() as u64);
                    if is_recorded {
                        self.record_sent(index, datagram);
                    }
                }
            }
            begin = end;
        }
        self.shard.buffers.give_back(&mut output);
        let link = &mut self.connections[index].link;
        link.cuts.as_mut().expect("it had them").0 = cuts;
        if link.phase == Phase::Closing {
            self.drop_now(index, End::Idle, wire);
        } else if !link.input.is_empty() && link.phase == Phase::Reading {
            self.queue_resume(index);
        }
    }

    /// Forget a peer whose record is about to go.
    pub(super) fn forget_udp_peer(&mut self, key: ConnKey) {
        let link = &self.connections[key.index as usize].link;
        if let (Some(_), Some(listener)) = (&link.cuts, link.listener) {
            let known = (listener, link.peer);
            if self.udp_peers.peek(&known) == Some(&key.index) {
                self.udp_peers.pop(&known);
            }
        }
    }
}
