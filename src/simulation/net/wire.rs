//! The network as an engine sees it.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use super::{Dials, Happening, Manners, Net, looked_up};
use crate::base::host::Host;
use crate::engine::{ConnKey, End, Endpoint, Transport, Wire};
use crate::simulation::link::{Holder, Port, Side};

/// What segments take on the links of whoever is spared.
const SPARED_DELAY_US: (u64, u64) = (50, 1_500);

/// How often a name cannot be looked up.
const UNRESOLVED_ONE_IN: usize = 6;

/// The network as one engine sees it.
pub(in crate::simulation) struct HostWire<'a> {
    pub(in crate::simulation) net: &'a mut Net,
    pub(in crate::simulation) host: usize,
}

impl HostWire<'_> {
    fn port(&self, conn: ConnKey) -> Port {
        self.net.port_of(self.host, conn).expect("the engine uses a connection before it closes it")
    }
}

impl Wire for HostWire<'_> {
    fn recv(&mut self, conn: ConnKey, into: &mut [u8]) -> io::Result<usize> {
        let port = self.port(conn);
        let result = self.net.recv(port, into);
        if !matches!(result, Err(ErrorKind::WouldBlock)) {
            let (host, (link, _)) = (self.host, port);
            self.net.book.note(format_args!("host{host}~{link}"), format_args!("reads {result:?}"));
        }
        result.map_err(io::Error::from)
    }

    fn send(&mut self, conn: ConnKey, bytes: &[u8]) -> io::Result<usize> {
        let port = self.port(conn);
        let (link, side) = port;
        assert!(!bytes.is_empty(), "the engine writes something");
        assert!(!self.net.links[link].from(side).end_sent, "the engine writes nothing after its end");
        let result = self.net.send(port, bytes);
        let mut record = self.net.book.open();
        let host = self.host;
        match &result {
            Ok(count) => record.note_bytes(format_args!("host{host}~{link}"), "──▶", &bytes[..*count]),
            Err(kind) => record.note(format_args!("host{host}~{link}"), format_args!("cannot write: {kind}")),
        }
        result.map_err(io::Error::from)
    }

    fn send_to(&mut self, _listener: usize, peer: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let IpAddr::V4(ip) = peer.ip() else { panic!("the world has IPv4 addresses") };
        let peer = usize::from(ip.octets()[3]);
        let name = self.net.names[peer].clone();
        self.net.book.open().note_bytes(format_args!("{name}"), "◀──", datagram);
        self.net.send_datagram(|bytes| Happening::DatagramOut { peer, bytes }, datagram);
        Ok(())
    }

    fn dial(&mut self, conn: ConnKey, to: Endpoint) {
        let address = match &to.host {
            Host::Address(address) => *address,
            Host::Name(name) => looked_up(name),
        };
        let IpAddr::V4(ip) = address.ip() else { panic!("the world has IPv4 addresses") };
        let [_, network, _, number] = ip.octets();
        let number = usize::from(number);
        let taker = if network == 200 { Holder::Peer(number) } else { Holder::Host(number, None) };
        let host = self.host;
        let Manners { is_spared, dials } = match taker {
            Holder::Peer(peer) => *self.net.manners_of(peer),
            _ => Manners::default(),
        };
        let may_fail = self.net.rough && dials == Dials::ByChance && matches!(to.host, Host::Name(_));
        if may_fail && self.net.random.one_in(UNRESOLVED_ONE_IN) {
            self.net.book.note(format_args!("host{host}"), format_args!("finds no address of {}", to.host));
            self.net.inboxes[host].unresolved.push(conn);
            return self.net.wake_host(host);
        }
        let chance = match dials {
            Dials::ByChance if self.net.rough => self.net.random.below(6),
            Dials::ByChance | Dials::Taken => 5,
            Dials::Refused => 0,
            Dials::Unheard => 1,
        };
        match chance {
            0 => {
                self.net.book.note(format_args!("host{host}"), format_args!("dials in vain"));
                self.net.inboxes[host].dialled.push((conn, Err(ErrorKind::ConnectionRefused)));
                self.net.wake_host(host);
            }
            // Nobody ever answers.
            1 => self.net.book.note(format_args!("host{host}"), format_args!("dials, and nobody answers")),
            _ => {
                let link = self.net.lay(Holder::Host(host, Some(conn)), taker);
                if is_spared {
                    self.net.links[link].weather.delay_us = SPARED_DELAY_US;
                }
                if to.transport == Transport::Datagram {
                    self.net.links[link].be_datagrams();
                }
                self.net.bind((link, Side::Caller), host, conn);
                self.net.book.note(format_args!("host{host}~{link}"), format_args!("dials {}", to.host));
                let us = self.net.delay(link);
                self.net.links[link].to(Side::Taker).not_before_us = self.net.now_us + us;
                self.net.links[link].to(Side::Caller).not_before_us = self.net.now_us + us;
                self.net.after(us, Happening::Taken(link));
            }
        }
    }

    fn finish(&mut self, conn: ConnKey) {
        let port = self.port(conn);
        let (link, _) = port;
        self.net.book.note(format_args!("host{}~{link}", self.host), format_args!("──▶ end"));
        self.net.finish(port);
    }

    fn close(&mut self, conn: ConnKey, why: End) {
        // Peers by datagrams have no link, nor have calls that were never answered.
        let Some(port) = self.net.port_of(self.host, conn) else { return };
        let (link, _) = port;
        {
            let mut record = self.net.book.open();
            record.note(format_args!("host{}~{link}", self.host), format_args!("closes: {why}"));
            // The session may have ended well before, and the last words were not taken.
            if matches!(why, End::Memory | End::Slow) {
                record.ended.insert(link, why);
            }
        }
        self.net.by_key.remove(&(self.host, conn.index, conn.serial));
        self.net.close(port);
    }
}
