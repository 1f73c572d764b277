//! Listening sockets.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};

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

/// Bind an address and listen on it; peers wait in the backlog until they are accepted.
pub fn bind(address: SocketAddr, keep_alive: KeepAlive) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // So that an IPv4 listener on the same port is a matter of the configuration, not of a system setting.
        socket.set_only_v6(true)?;
    }
    // Accepted sockets inherit both: on Linux that saves five system calls for each.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(keep_alive.time)
            .with_interval(keep_alive.interval)
            .with_retries(keep_alive.retries),
    )?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// A listener in the poll.
pub(super) struct Door {
    /// The number of the listener's settings in the engine.
    pub(super) settings: usize,
    /// Somebody may be waiting: nobody was not the last answer.
    pub(super) waiting: bool,
    listener: TcpListener,
}

pub(super) enum Accepted {
    Peer(TcpStream, SocketAddr),
    Nobody,
    NoDescriptor(io::Error),
}

impl Door {
    pub(super) fn open(
        settings: usize,
        listener: std::net::TcpListener,
        registry: &Registry,
        token: Token,
    ) -> io::Result<Door> {
        let mut listener = TcpListener::from_std(listener);
        registry.register(&mut listener, token, Interest::READABLE)?;
        Ok(Door { settings, waiting: false, listener })
    }

    pub(super) fn accept(&mut self) -> Accepted {
        match self.listener.accept() {
            Ok((stream, peer)) => Accepted::Peer(stream, peer),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    Accepted::NoDescriptor(error)
                }
                Some(Errno::AGAIN) => {
                    self.waiting = false;
                    Accepted::Nobody
                }
                // Errors of the peer that was next (it is gone already), or of nobody: go on with the one behind it.
                _ => Accepted::Nobody,
            },
        }
    }
}
