//! Sockets that peers come to: those that listen, and those that get datagrams.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

use crate::engine::Transport;

/// With 1,024, ten thousand devices that come back at once crawl: their SYNs are dropped and tried again.
const BACKLOG: i32 = 4_096;

/// When a peer that is gone without a word is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// After so long without anything received, probes are sent.
    pub time: Duration,
    /// Between two probes.
    pub interval: Duration,
    /// Probes in vain before the connection is broken.
    pub retries: u32,
}

impl Default for KeepAlive {
    fn default() -> Self {
        KeepAlive { time: Duration::from_secs(60), interval: Duration::from_secs(10), retries: 3 }
    }
}

/// A socket with an address.
#[derive(Debug)]
pub enum BoundSocket {
    /// Peers connect to it.
    Stream(std::net::TcpListener),
    /// Peers send datagrams to it.
    Datagram(std::net::UdpSocket),
}

impl BoundSocket {
    /// Its address, with the port that was found where any was asked for.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            BoundSocket::Stream(listener) => listener.local_addr(),
            BoundSocket::Datagram(socket) => socket.local_addr(),
        }
    }
}

/// Bind an address; peers wait in the backlog until they are accepted, datagrams in the socket's buffer.
pub fn bind(transport: Transport, address: SocketAddr, keep_alive: KeepAlive) -> io::Result<BoundSocket> {
    let (kind, protocol) = match transport {
        Transport::Stream => (Type::STREAM, Protocol::TCP),
        Transport::Datagram => (Type::DGRAM, Protocol::UDP),
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if address.is_ipv6() {
        // So that an IPv4 listener on the same port is a matter of the configuration, not of a system
        // setting.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    if transport == Transport::Datagram {
        // Without SO_REUSEADDR: on Linux it would let another process take our datagrams.
        socket.bind(&address.into())?;
        return Ok(BoundSocket::Datagram(socket.into()));
    }
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit both: on Linux that saves five system calls for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(keep_alive.time)
            .with_interval(keep_alive.interval)
            .with_retries(keep_alive.retries),
    )?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(BoundSocket::Stream(socket.into()))
}

/// A listener in the poll.
pub(super) struct Door {
    /// Its number in the engine's settings.
    pub(super) listener: usize,
    /// Somebody may be waiting: nobody was not the last answer.
    pub(super) waiting: bool,
    socket: TcpListener,
    /// Where it is bound.
    address: SocketAddr,
}

pub(super) enum Accepted {
    Peer(Newcomer),
    Nobody,
    NotNow(io::Error),
}

pub(super) struct Newcomer {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    /// The address of ours that it came to.
    pub(super) local: SocketAddr,
}

impl Door {
    pub(super) fn open(
        listener: usize,
        socket: std::net::TcpListener,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Door> {
        let address = socket.local_addr()?;
        let mut socket = TcpListener::from_std(socket);
        registry.register(&mut socket, token, Interest::READABLE)?;
        Ok(Door { listener, waiting: false, socket, address })
    }

    pub(super) fn accept(&mut self) -> Accepted {
        match self.socket.accept() {
            Ok((stream, peer)) => {
                let local = self.local(&stream);
                Accepted::Peer(Newcomer { stream, peer, local })
            }
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::AGAIN) => {
                    self.waiting = false;
                    Accepted::Nobody
                }
                // Of the peer that was next, which is gone already: go on with the one behind it.
                Some(Errno::CONNABORTED | Errno::INTR | Errno::PROTO) => Accepted::Nobody,
                // Most likely descriptors ran out. A lasting error must not make the loop spin.
                _ => Accepted::NotNow(error),
            },
        }
    }

    /// Only a socket bound to all addresses has to ask which of them a peer came to.
    fn local(&self, stream: &TcpStream) -> SocketAddr {
        if self.address.ip().is_unspecified() {
            // It fails where the peer is gone already, which the first read tells.
            stream.local_addr().unwrap_or(self.address)
        } else {
            self.address
        }
    }
}
