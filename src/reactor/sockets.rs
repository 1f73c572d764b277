//! The wire that is made of sockets: a stream for each connection of the engine, by slab index, and a socket
//! for each listener that gets datagrams.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mio::event::Source;
use mio::net::{TcpStream, UdpSocket};
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::names::{LookedUp, Lookups};
use crate::base::host::Host;
use crate::engine::{ConnKey, End, Endpoint, Transport, Wire};

pub(super) struct Sockets {
    registry: Registry,
    streams: Vec<Option<Stream>>,
    udp: Vec<Udp>,
    /// Connections of ours that failed before there was a socket to tell.
    failed: Vec<(ConnKey, ErrorKind)>,
    /// Connections of ours that wait for the address of a name.
    pub(super) lookups: Lookups,
    /// Whether a descriptor came back since it was asked last.
    closed: bool,
}

enum Stream {
    Open(TcpStream),
    /// We wait for the first event, which tells whether it is connected.
    Dialling(ConnKey, TcpStream),
    /// One peer's datagrams; the key, until the first event.
    Datagrams(Option<ConnKey>, UdpSocket),
}

struct Udp {
    listener: usize,
    socket: UdpSocket,
    /// There may be a datagram: `WouldBlock` was not the last answer.
    waiting: bool,
}

impl Sockets {
    pub(super) fn new(registry: Registry, lookups: Lookups) -> Sockets {
        let (streams, udp, failed) = (Vec::new(), Vec::new(), Vec::new());
        Sockets { registry, streams, udp, failed, lookups, closed: false }
    }

    /// Registered once, edge-triggered, for both directions: no other system call is ever needed for it.
    pub(super) fn add(&mut self, key: ConnKey, mut stream: TcpStream) -> io::Result<()> {
        self.register(key, &mut stream)?;
        self.put(key, Stream::Open(stream));
        Ok(())
    }

    fn register(&self, key: ConnKey, stream: &mut impl Source) -> io::Result<()> {
        let token = Token(key.index as usize);
        self.registry.register(stream, token, Interest::READABLE | Interest::WRITABLE)
    }

    fn put(&mut self, key: ConnKey, stream: Stream) {
        let index = key.index as usize;
        if index >= self.streams.len() {
            self.streams.resize_with(index + 1, || None);
        }
        self.streams[index] = Some(stream);
    }

    /// Whether a descriptor came back since it was last taken note of.
    pub(super) fn has_closed(&self) -> bool {
        self.closed
    }

    /// Whether a descriptor came back since the last call.
    pub(super) fn take_closed(&mut self) -> bool {
        std::mem::take(&mut self.closed)
    }

    fn stream(&mut self, key: ConnKey) -> &mut Stream {
        let stream = self.streams.get_mut(key.index as usize).and_then(Option::as_mut);
        stream.expect("the engine uses a connection between its accept (or dial) and its close")
    }

    /// An event came for the stream at `index`: if that is one of ours which was being connected, how it
    /// went.
    pub(super) fn dialled(&mut self, index: u32) -> Option<(ConnKey, Result<(), ErrorKind>)> {
        let place = self.streams.get_mut(index as usize)?;
        if let Some(Stream::Datagrams(key, _)) = place {
            return key.take().map(|key| (key, Ok(())));
        }
        let Some(Stream::Dialling(key, stream)) = place else { return None };
        let key = *key;
        let result = match stream.take_error() {
            Ok(Some(error)) | Err(error) => Err(error.kind()),
            Ok(None) => match stream.peer_addr() {
                // Not connected yet, and no error either: an event that means nothing.
                Err(error) if error.kind() == ErrorKind::NotConnected => return None,
                Err(error) => Err(error.kind()),
                // Where nobody listens, a port of the ephemeral range may meet itself.
                Ok(peer) if stream.local_addr().is_ok_and(|local| local == peer) => {
                    Err(ErrorKind::ConnectionRefused)
                }
                Ok(_) => Ok(()),
            },
        };
        if result.is_ok() {
            if let Some(Stream::Dialling(_, stream)) = place.take() {
                *place = Some(Stream::Open(stream));
            }
        }
        Some((key, result))
    }

    /// A connection of ours that could not even be begun.
    pub(super) fn take_failed(&mut self) -> Option<(ConnKey, ErrorKind)> {
        self.failed.pop()
    }

    /// A listener gets datagrams at this socket.
    pub(super) fn open(
        &mut self,
        listener: usize,
        socket: std::net::UdpSocket,
        token: Token,
    ) -> io::Result<()> {
        let mut socket = UdpSocket::from_std(socket);
        self.registry.register(&mut socket, token, Interest::READABLE)?;
        self.udp.push(Udp { listener, socket, waiting: false });
        Ok(())
    }

    /// An event came for a listener: if it gets datagrams, there may be some.
    pub(super) fn on_datagrams(&mut self, listener: usize) {
        if let Some(udp) = self.udp.iter_mut().find(|udp| udp.listener == listener) {
            udp.waiting = true;
        }
    }

    /// Whether any listener gets datagrams.
    pub(super) fn get_datagrams(&self) -> bool {
        !self.udp.is_empty()
    }

    /// Whether there may be datagrams to receive.
    pub(super) fn have_datagrams(&self) -> bool {
        self.udp.iter().any(|udp| udp.waiting)
    }

    /// Receive one: its listener, its sender, its length.
    pub(super) fn receive(&mut self, into: &mut [u8]) -> Option<(usize, SocketAddr, usize)> {
        for _ in 0..self.udp.len() {
            // The next one first: a listener that is flooded must not keep the others from theirs.
            self.udp.rotate_left(1);
            let udp = &mut self.udp[0];
            if !udp.waiting {
                continue;
            }
            match udp.socket.recv_from(into) {
                Ok((bytes, peer)) => return Some((udp.listener, peer, bytes)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => udp.waiting = false,
                // What the network said of a datagram that we sent: nobody waits for it.
                Err(_) => {}
            }
        }
        None
    }

    /// A name was looked up: connect. Says where to, or why that is not known.
    pub(super) fn on_looked_up(
        &mut self,
        LookedUp { conn, to, address }: LookedUp,
    ) -> Result<SocketAddr, String> {
        let address = address?;
        self.begin(conn, &to, address);
        Ok(address)
    }

    fn begin(&mut self, key: ConnKey, to: &Endpoint, address: SocketAddr) {
        if let Err(error) = self.connect(key, to, address) {
            self.failed.push((key, error.kind()));
        }
    }

    fn connect(&mut self, key: ConnKey, to: &Endpoint, address: SocketAddr) -> io::Result<()> {
        if to.transport == Transport::Datagram {
            let any = match address {
                SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
                SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
            };
            let mut socket = UdpSocket::bind(SocketAddr::new(to.from.unwrap_or(any), 0))?;
            socket.connect(address)?;
            self.register(key, &mut socket)?;
            self.put(key, Stream::Datagrams(Some(key), socket));
            return Ok(());
        }
        let mut stream = match to.from {
            None => TcpStream::connect(address)?,
            Some(from) => connect_from(from, address)?,
        };
        stream.set_nodelay(true)?;
        self.register(key, &mut stream)?;
        self.put(key, Stream::Dialling(key, stream));
        Ok(())
    }
}

/// Begin to connect from an address of ours, and any port of it.
fn connect_from(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(from, 0).into())?;
    match socket.connect(&to.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => Err(error),
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// One datagram of one peer. An empty one says nothing, and must not be taken for an end.
fn receive(socket: &UdpSocket, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match retried(|| socket.recv(into)) {
            Ok(0) => {}
            result => return result,
        }
    }
}

fn retried(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl Wire for Sockets {
    fn recv(&mut self, conn: ConnKey, into: &mut [u8]) -> io::Result<usize> {
        match self.stream(conn) {
            Stream::Open(stream) | Stream::Dialling(_, stream) => retried(|| stream.read(into)),
            Stream::Datagrams(_, socket) => receive(socket, into),
        }
    }

    fn send(&mut self, conn: ConnKey, bytes: &[u8]) -> io::Result<usize> {
        match self.stream(conn) {
            Stream::Open(stream) | Stream::Dialling(_, stream) => retried(|| stream.write(bytes)),
            Stream::Datagrams(_, socket) => retried(|| socket.send(bytes)),
        }
    }

    fn send_to(&mut self, listener: usize, peer: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        let udp = self.udp.iter().find(|udp| udp.listener == listener);
        let udp = udp.expect("the engine sends datagrams from listeners that get some");
        udp.socket.send_to(datagram, peer).map(|_| ())
    }

    fn dial(&mut self, conn: ConnKey, to: Endpoint) {
        match to.host {
            Host::Address(address) => self.begin(conn, &to, address),
            Host::Name(ref host) => {
                let name = Arc::clone(&host.name);
                self.lookups.begin(conn, &name, to);
            }
        }
    }

    fn finish(&mut self, conn: ConnKey) {
        if let Stream::Open(stream) = self.stream(conn) {
            // It fails where the peer is gone already, which the next read tells.
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    fn close(&mut self, conn: ConnKey, why: End) {
        self.lookups.forget(conn);
        // There is no socket where connecting could not even be begun: no address, no route, no descriptor.
        let place = self.streams.get_mut(conn.index as usize);
        let Some(stream) = place.and_then(Option::take) else { return };
        self.closed = true;
        if let (End::Aborted, Stream::Open(stream)) = (why, &stream) {
            // Makes a reset of it; where it fails, the connection ends less rudely.
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
        // Closing a descriptor takes it out of the poll.
        drop(stream);
    }
}
