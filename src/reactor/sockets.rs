//! The wire that is made of sockets: one stream for each connection of the engine, by slab index.

use std::io::{self, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::engine::{ConnKey, End, Wire};

#[derive(Default)]
pub(super) struct Sockets {
    streams: Vec<Option<TcpStream>>,
    /// Whether a descriptor came back since it was asked last.
    closed: bool,
}

impl Sockets {
    /// Registered once, edge-triggered, for both directions: no other system call is ever needed for it.
    pub(super) fn add(&mut self, key: ConnKey, mut stream: TcpStream, registry: &Registry) -> io::Result<()> {
        let index = key.index as usize;
        registry.register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        if index >= self.streams.len() {
            self.streams.resize_with(index + 1, || None);
        }
        self.streams[index] = Some(stream);
        Ok(())
    }

    /// Whether a descriptor came back since the last call.
    pub(super) fn take_closed(&mut self) -> bool {
        std::mem::take(&mut self.closed)
    }

    fn stream(&mut self, key: ConnKey) -> &mut TcpStream {
        let stream = self.streams.get_mut(key.index as usize).and_then(Option::as_mut);
        stream.expect("the engine uses a connection between its accept and its close")
    }
}

fn retried(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl Wire for Sockets {
    fn recv(&mut self, conn: ConnKey, into: &mut [u8]) -> io::Result<usize> {
        let stream = self.stream(conn);
        retried(|| stream.read(into))
    }

    fn send(&mut self, conn: ConnKey, bytes: &[u8]) -> io::Result<usize> {
        let stream = self.stream(conn);
        retried(|| stream.write(bytes))
    }

    fn finish(&mut self, conn: ConnKey) {
        // It fails where the peer is gone already, which the next read tells.
        let _ = self.stream(conn).shutdown(Shutdown::Write);
    }

    fn close(&mut self, conn: ConnKey, _why: End) {
        // Closing a descriptor takes it out of the poll.
        if let Some(stream) = self.streams.get_mut(conn.index as usize) {
            *stream = None;
            self.closed = true;
        }
    }
}
