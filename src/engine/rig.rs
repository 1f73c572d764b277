//! An engine on a test bench: byte queues for sockets, a clock that is set by hand.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::base::section::Document;
use crate::base::time::Timestamp;
use crate::protocols::by_scheme;
use crate::tags::TagSettings;

/// The wall clock when a rig's time begins, in milliseconds.
pub(crate) const RIG_EPOCH_MS: i64 = 1_700_000_000_000;

/// One end of a virtual connection: what the peer sees and does.
#[derive(Default)]
pub(crate) struct Line {
    /// Sent by the peer, not read by the engine yet.
    to_engine: VecDeque<u8>,
    /// The peer sends no more.
    pub(crate) shut: bool,
    /// Sent by the engine, taken by the peer so far.
    pub(crate) received: Vec<u8>,
    /// How many bytes the engine can send before the queue is full.
    pub(crate) window: usize,
    /// The engine sends no more.
    pub(crate) finished: bool,
    /// The engine closed, and why.
    pub(crate) closed: Option<End>,
    /// Writes that the engine made.
    pub(crate) writes: usize,
}

#[derive(Default)]
pub(crate) struct Lines {
    lines: HashMap<ConnKey, Line>,
    /// Sent by the engine.
    pub(crate) datagrams: Vec<(SocketAddr, Vec<u8>)>,
    /// Wanted by the engine.
    pub(crate) dialled: Vec<(ConnKey, Endpoint)>,
}

impl Wire for Lines {
    fn recv(&mut self, conn: ConnKey, into: &mut [u8]) -> io::Result<usize> {
        let line = self.lines.get_mut(&conn).expect("a line that is there");
        let count = into.len().min(line.to_engine.len());
        if count == 0 && !line.shut {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        into[..count].iter_mut().for_each(|byte| *byte = line.to_engine.pop_front().expect("counted"));
        Ok(count)
    }

    fn send(&mut self, conn: ConnKey, bytes: &[u8]) -> io::Result<usize> {
        let line = self.lines.get_mut(&conn).expect("a line that is there");
        assert!(!line.finished && !bytes.is_empty());
        line.writes += 1;
        let count = bytes.len().min(line.window);
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        line.window -= count;
        line.received.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn send_to(&mut self, _listener: usize, peer: SocketAddr, datagram: &[u8]) -> io::Result<()> {
        self.datagrams.push((peer, datagram.to_vec()));
        Ok(())
    }

    fn dial(&mut self, conn: ConnKey, to: Endpoint) {
        self.dialled.push((conn, to));
    }

    fn finish(&mut self, conn: ConnKey) {
        self.lines.get_mut(&conn).expect("a line that is there").finished = true;
    }

    fn close(&mut self, conn: ConnKey, why: End) {
        let line = self.lines.get_mut(&conn).expect("a line that is there");
        assert_eq!(line.closed.replace(why), None, "a connection is closed once");
    }
}

/// An engine, its tags, and the peers' ends of its connections.
pub(crate) struct Rig {
    pub(crate) engine: Engine,
    pub(crate) tags: Arc<Tags>,
    pub(crate) lines: Lines,
    /// Microseconds since the rig's time began.
    now_us: u64,
    /// When the engine wants its next turn.
    pub(crate) next: Tick,
}

/// What a test changes of a rig's settings.
pub(crate) struct RigSettings {
    pub(crate) tags: TagSettings,
    pub(crate) max_connections: usize,
    pub(crate) max_subscriptions: usize,
    pub(crate) buffer_memory: usize,
    pub(crate) write_stall: Duration,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) frame_timeout: Duration,
    pub(crate) stale_after: Option<Duration>,
    /// Names of polled devices.
    pub(crate) owners: Vec<Box<str>>,
    /// Instead of the protocol's own.
    pub(crate) acceptor: Option<Box<dyn Acceptor>>,
}

impl Default for RigSettings {
    fn default() -> Self {
        RigSettings {
            tags: TagSettings::default(),
            max_connections: 1_000,
            max_subscriptions: 1_000,
            buffer_memory: 16 * 1024 * 1024,
            write_stall: Duration::from_secs(30),
            idle_timeout: None,
            frame_timeout: Duration::from_secs(30),
            stale_after: None,
            owners: Vec::new(),
            acceptor: None,
        }
    }
}

impl Rig {
    /// A rig whose only listener speaks the protocol of that scheme.
    pub(crate) fn new(scheme: &'static str) -> Rig {
        Rig::with(scheme, RigSettings::default())
    }

    pub(crate) fn with(scheme: &'static str, rig: RigSettings) -> Rig {
        let tags = Arc::new(Tags::new(rig.tags, rig.owners, 1));
        declare_system_tags(&tags).unwrap();
        let document = Document::parse("rig", "");
        let protocol = by_scheme(scheme).expect("a protocol of the table");
        let acceptor = rig.acceptor.unwrap_or_else(|| (protocol.listener)(&mut document.root()));
        let listener = Listener {
            transport: protocol.transport,
            acceptor: acceptor.into(),
            idle_timeout: rig.idle_timeout,
            frame_timeout: rig.frame_timeout,
            stale_after: rig.stale_after,
        };
        let settings = Settings {
            name: "rig".to_owned(),
            max_connections: rig.max_connections,
            max_subscriptions: rig.max_subscriptions,
            max_udp_peers: 4,
            buffer_memory: rig.buffer_memory,
            write_stall: rig.write_stall,
            listeners: vec![listener],
            memory_probe: || 0,
        };
        let now = Rig::clocks(0);
        let engine = Engine::new(0, Arc::new(settings), Arc::clone(&tags), Arc::default(), now);
        Rig { engine, tags, lines: Lines::default(), now_us: 0, next: Tick::NEVER }
    }

    fn clocks(now_us: u64) -> Now {
        let wall = Timestamp(RIG_EPOCH_MS + (now_us / 1_000) as i64);
        Now { tick: Tick::from_micros(now_us), wall }
    }

    /// A new peer, with room for whatever the engine sends. `None`: it was turned away without a word.
    pub(crate) fn connect(&mut self) -> Option<ConnKey> {
        let peer = "10.0.0.1:40000".parse().unwrap();
        let key = self.engine.accept(0, peer)?;
        self.lines.lines.insert(key, Line { window: usize::MAX, ..Line::default() });
        self.engine.on_open(key);
        Some(key)
    }

    /// The next connection that the engine wants to make is made.
    pub(crate) fn answer_dial(&mut self) -> ConnKey {
        let (key, _) = self.lines.dialled.remove(0);
        self.lines.lines.insert(key, Line { window: usize::MAX, ..Line::default() });
        self.engine.on_dialled(key, Ok(()), &mut self.lines);
        self.settle();
        key
    }

    /// The peer's end of a connection.
    pub(crate) fn line(&mut self, key: ConnKey) -> &mut Line {
        self.lines.lines.get_mut(&key).expect("a line that is there")
    }

    /// The peer sends bytes. The engine hears of it in the next turn.
    pub(crate) fn send(&mut self, key: ConnKey, bytes: impl AsRef<[u8]>) {
        self.line(key).to_engine.extend(bytes.as_ref());
    }

    /// The peer makes room for what the engine sends.
    pub(crate) fn open_window(&mut self, key: ConnKey, bytes: usize) {
        let line = self.line(key);
        line.window = line.window.saturating_add(bytes);
    }

    /// A datagram comes from the peer of that port.
    pub(crate) fn datagram(&mut self, port: u16, bytes: &[u8]) {
        let peer = SocketAddr::from(([10, 0, 0, 1], port));
        if self.engine.transport(0) == Transport::Datagram {
            self.engine.on_datagram(0, peer, bytes, &mut self.lines);
        }
    }

    /// One turn: all connections that have something to read or room for output get their event.
    pub(crate) fn turn(&mut self) {
        self.engine.begin(Rig::clocks(self.now_us), &mut self.lines);
        let mut keys: Vec<ConnKey> = self.lines.lines.keys().copied().collect();
        keys.sort_by_key(|key| key.serial);
        for key in keys {
            let line = self.line(key);
            if line.closed.is_some() {
                continue;
            }
            let ready = Ready {
                readable: !line.to_engine.is_empty() || line.shut,
                writable: line.window > 0,
                read_closed: line.shut,
            };
            self.engine.on_ready(key.index, ready, &mut self.lines);
        }
        self.next = self.engine.end(&mut self.lines);
    }

    /// Turns until the engine has nothing to do at this time.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            self.turn();
            if self.next.as_micros() > self.now_us {
                return;
            }
        }
        panic!("the engine does not come to rest");
    }

    /// Let time pass, with a turn whenever one is due.
    pub(crate) fn advance(&mut self, span: Duration) {
        let until = self.now_us + span.as_micros() as u64;
        self.settle();
        while self.next.as_micros() <= until {
            self.now_us = self.next.as_micros();
            self.settle();
        }
        self.now_us = until;
        self.settle();
    }

    /// Send, let the engine settle, and take what came back.
    pub(crate) fn ask(&mut self, key: ConnKey, text: &str) -> String {
        self.send(key, text);
        self.settle();
        self.take(key)
    }

    /// What the peer received since it was asked last.
    pub(crate) fn take(&mut self, key: ConnKey) -> String {
        String::from_utf8(std::mem::take(&mut self.line(key).received)).expect("replies are UTF-8")
    }
}
