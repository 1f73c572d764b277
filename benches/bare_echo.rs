//! The floor that the server's figures are held against: what mio, the kernel and loopback cost by
//! themselves.
//!
//! One thread, one listening socket, edge-triggered; for every event one `read` into one shared buffer and
//! one `write` of the same bytes, nothing else: no parsing, no buffers, no timers, no limits.
//!
//! `bare_echo ADDR` prints the address it bound (`127.0.0.1:0` picks a port) and serves until it is killed.
//! `bare_echo ADDR fan-out` writes what comes to all other connections instead: one `write` of the bytes
//! each. Without an address, as `cargo bench` and `cargo test --benches` call it, it serves itself one round
//! trip.

#![forbid(unsafe_code)]

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::thread;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use socket2::{Domain, Socket, Type};

/// With 1,024 a burst of 10,000 connects crawls: the kernel drops what does not fit and the peer tries again
/// after a second.
const BACKLOG: i32 = 4096;
const BUFFER_BYTES: usize = 64 * 1024;
const EVENTS: usize = 1024;
const LISTENER: Token = Token(usize::MAX);

/// What is done when a peer has sent something; `false` when its connection is at its end.
type Answer = fn(&mut Slab<TcpStream>, usize, &mut [u8]) -> bool;

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).and_then(|argument| argument.parse::<SocketAddr>().ok());
    let Some(address) = address else { return serve_itself() };
    let listener = listen(address)?;
    println!("{}", listener.local_addr()?);
    match std::env::args().nth(2).as_deref() {
        Some("fan-out") => serve(listener, fan_out),
        _ => serve(listener, echo),
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn serve(mut listener: TcpListener, answer: Answer) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(EVENTS);
    let mut peers: Slab<TcpStream> = Slab::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    loop {
        if let Err(error) = poll.poll(&mut events, None) {
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&poll, &listener, &mut peers)?;
                continue;
            }
            // The last bytes and the end may come in one edge; no second one would tell of the end.
            let key = event.token().0;
            if !answer(&mut peers, key, &mut buffer) || event.is_read_closed() {
                peers.remove(key);
            }
        }
    }
}

fn accept(poll: &Poll, listener: &TcpListener, peers: &mut Slab<TcpStream>) -> io::Result<()> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        let entry = peers.vacant_entry();
        poll.registry().register(&mut stream, Token(entry.key()), Interest::READABLE)?;
        entry.insert(stream);
    }
}

/// Sends back what has come; `false` when the connection is at its end. A reply that the kernel does not take
/// whole ends it too: a floor that kept bytes back would be a server.
fn echo(peers: &mut Slab<TcpStream>, key: usize, buffer: &mut [u8]) -> bool {
    let stream = &mut peers[key];
    loop {
        match stream.read(buffer) {
            Ok(0) => return false,
            Ok(n) if !matches!(stream.write(&buffer[..n]), Ok(written) if written == n) => return false,
            // Only a read that filled the buffer can have left something behind; then no second edge would
            // come.
            Ok(n) if n < buffer.len() => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

/// Sends what has come to all others, of which nobody lags.
fn fan_out(peers: &mut Slab<TcpStream>, key: usize, buffer: &mut [u8]) -> bool {
    match peers[key].read(buffer) {
        Ok(0) => false,
        Ok(n) => {
            let others = peers.iter_mut().filter(|(other, _)| *other != key);
            for (_, other) in others {
                // One that takes less has ended, or will be missed by whoever counts.
                let _ = other.write(&buffer[..n]);
            }
            true
        }
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// One round trip, so that `cargo test --benches` proves that this program still works.
fn serve_itself() -> io::Result<()> {
    let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = listener.local_addr()?;
    // Ends with the process: the serving loop has no end of its own.
    thread::spawn(move || serve(listener, echo));
    let mut peer = std::net::TcpStream::connect(address)?;
    let mut reply = [0; 5];
    peer.write_all(b"floor")?;
    peer.read_exact(&mut reply)?;
    assert_eq!(&reply, b"floor", "the echo must send back what came");
    println!("bare_echo: one round trip done; to serve: bare_echo 127.0.0.1:0");
    Ok(())
}
