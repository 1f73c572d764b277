//! An engine behind a wire that costs nothing: requests come from memory, replies are taken and dropped.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lumina::base::section::Document;
use lumina::base::time::{Now, Tick, Timestamp};
use lumina::engine::{
    ConnKey, End, Endpoint, Engine, Listener, Ready, Settings, Shared, Wire, declare_system_tags,
};
use lumina::protocols::by_scheme;
use lumina::security::Grants;
use lumina::tags::{TagSettings, Tags};

/// What passes between two turns, on both clocks.
const TURN_US: u64 = 10;
const EPOCH_MS: i64 = 1_700_000_000_000;

/// One turn's wire: one connection has bytes to read, all take what they are sent.
struct NullWire<'a> {
    sender: ConnKey,
    requests: &'a [u8],
    /// What the sender is sent, where somebody wants to know.
    replies: Option<&'a mut Vec<u8>>,
}

impl Wire for NullWire<'_> {
    fn recv(&mut self, conn: ConnKey, into: &mut [u8]) -> io::Result<usize> {
        let count = self.requests.len().min(into.len());
        if count == 0 || conn != self.sender {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let (now, later) = self.requests.split_at(count);
        into[..count].copy_from_slice(now);
        self.requests = later;
        Ok(count)
    }

    fn send(&mut self, conn: ConnKey, bytes: &[u8]) -> io::Result<usize> {
        if let Some(replies) = self.replies.as_mut().filter(|_| conn == self.sender) {
            replies.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn send_to(&mut self, _listener: usize, _peer: SocketAddr, _datagram: &[u8]) -> io::Result<()> {
        unreachable!("no listener takes datagrams")
    }

    fn dial(&mut self, _conn: ConnKey, _to: Endpoint) {
        unreachable!("nothing is dialled")
    }

    fn finish(&mut self, _conn: ConnKey) {}

    fn close(&mut self, conn: ConnKey, why: End) {
        panic!("{conn:?} was closed {why}");
    }
}

/// An engine that speaks the line protocol, and its clock.
pub struct Bench {
    engine: Engine,
    now_us: u64,
}

impl Bench {
    /// No tags but the server's own, no connections.
    pub fn new() -> Bench {
        let tags = Arc::new(Tags::new(TagSettings::default(), Vec::new(), 1));
        declare_system_tags(&tags, None).expect("there is room for the server's own tags");
        let protocol = by_scheme("line").expect("the line protocol is in the table");
        let listener = Listener {
            scheme: protocol.scheme,
            transport: protocol.transport,
            acceptor: protocol.listener(None, &mut Document::parse("bench", "").root()).into(),
            grants: Grants::default(),
            max_connections: None,
            idle_timeout: None,
            frame_timeout: Duration::from_secs(30),
            stale_after: None,
        };
        let settings = Settings {
            name: "bench".to_owned(),
            max_connections: 10_000,
            max_subscriptions: 1_000,
            max_udp_peers: 1,
            buffer_memory: 64 * 1024 * 1024,
            trace_memory: 64 * 1024,
            write_stall: Duration::from_secs(30),
            listeners: vec![listener],
            memory_probe: || 0,
        };
        let engine = Engine::new(0, &Shared::new(settings, tags), clocks(0));
        Bench { engine, now_us: 0 }
    }

    /// A new peer.
    pub fn connect(&mut self) -> ConnKey {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
        let key = self.engine.accept(0, peer).expect("there is room for another connection");
        self.engine.on_open(key);
        key
    }

    /// One turn of the loop, in which a peer's bytes are there to be read. Whether another is due at once.
    pub fn turn(&mut self, sender: ConnKey, requests: &[u8]) -> bool {
        self.turn_on(&mut NullWire { sender, requests, replies: None })
    }

    /// Turns until all is answered. Returns the replies, of which none may be an `ERR`.
    pub fn ask(&mut self, sender: ConnKey, requests: &str) -> String {
        let mut replies = Vec::new();
        let mut wire = NullWire { sender, requests: requests.as_bytes(), replies: Some(&mut replies) };
        while self.turn_on(&mut wire) {}
        let replies = String::from_utf8(replies).expect("replies are UTF-8");
        assert!(!replies.contains("ERR"), "{replies}");
        replies
    }

    /// Bytes that the engine has sent, to all peers.
    pub fn sent_bytes(&self) -> u64 {
        self.engine.metrics().bytes_out.value()
    }

    fn turn_on(&mut self, wire: &mut NullWire<'_>) -> bool {
        self.now_us += TURN_US;
        let now = clocks(self.now_us);
        self.engine.begin(now, wire);
        if !wire.requests.is_empty() {
            let ready = Ready { readable: true, ..Ready::default() };
            self.engine.on_ready(wire.sender.index, ready, wire);
        }
        self.engine.end(wire) <= now.tick
    }
}

fn clocks(now_us: u64) -> Now {
    let wall = Timestamp(EPOCH_MS + (now_us / 1_000) as i64);
    Now { tick: Tick::from_micros(now_us), wall }
}
