//! An engine on a test bench: byte queues for sockets, a clock that is set by hand.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::base::section::Document;
use crate::base::time::Timestamp;
use crate::protocols::by_scheme;
use crate::security::Grants;
use crate::tags::name::TagName;
use crate::tags::value::Input;
#[cfg(test)]
use crate::tags::{Declaration, value::Sample};
use crate::tags::{Declared, Memory, OwnerId, TagSettings, Tags};

/// The wall clock when a rig's time begins, in milliseconds.
pub(crate) const RIG_EPOCH_MS: i64 = 1_700_000_000_000;

/// One end of a virtual connection: what the peer sees and does. Events are edges, as an edge-triggered poll
/// tells them: each once, so that an engine which forgets one is found out.
#[derive(Default)]
pub(crate) struct Line {
    /// Sent by the peer, not read by the engine yet.
    to_engine: VecDeque<u8>,
    /// The peer sends no more.
    shut: bool,
    /// The connection broke.
    broken: Option<ErrorKind>,
    /// Sent by the engine, taken by the peer so far.
    pub(crate) received: Vec<u8>,
    /// How many bytes the engine can send before the queue is full.
    window: usize,
    /// The engine was refused room, and there was none since.
    refused: bool,
    /// What the engine hears of in the next turn.
    event: Ready,
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
    datagrams: Vec<(SocketAddr, Vec<u8>)>,
    /// Wanted by the engine.
    pub(crate) dialled: Vec<(ConnKey, Endpoint)>,
}

impl Line {
    /// A line with room for whatever the engine sends.
    fn open() -> Line {
        Line { window: usize::MAX, ..Line::default() }
    }

    fn check_usable(&self) -> io::Result<()> {
        assert_eq!(self.closed, None, "a connection that was closed is not used");
        self.broken.map_or(Ok(()), |kind| Err(kind.into()))
    }
}

impl Lines {
    fn line(&mut self, key: ConnKey) -> &mut Line {
        self.lines.get_mut(&key).expect("a line that is there")
    }
}

impl Wire for Lines {
    fn recv(&mut self, conn: ConnKey, into: &mut [u8]) -> io::Result<usize> {
        let line = self.line(conn);
        line.check_usable()?;
        assert!(!into.is_empty(), "nothing read would be taken for an end");
        let count = into.len().min(line.to_engine.len());
        if count == 0 && !line.shut {
            return Err(ErrorKind::WouldBlock.into());
        }
        into[..count].iter_mut().for_each(|byte| *byte = line.to_engine.pop_front().expect("counted"));
        Ok(count)
    }

    fn send(&mut self, conn: ConnKey, bytes: &[u8]) -> io::Result<usize> {
        let line = self.line(conn);
        line.check_usable()?;
        assert!(!line.finished && !bytes.is_empty());
        line.writes += 1;
        let count = bytes.len().min(line.window);
        line.refused = count < bytes.len();
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
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
        self.lines.insert(conn, Line::open());
        self.dialled.push((conn, to));
    }

    fn finish(&mut self, conn: ConnKey) {
        let line = self.line(conn);
        assert!(!std::mem::replace(&mut line.finished, true), "a connection is finished once");
    }

    fn close(&mut self, conn: ConnKey, why: End) {
        let line = self.line(conn);
        assert_eq!(line.closed.replace(why), None, "a connection is closed once");
    }
}

/// A device that could be sent anything.
pub(crate) struct Undemanding;

impl Driven for Undemanding {
    fn check(&self, _: TagId, _: &Input<'_>) -> Result<(), Refusal> {
        Ok(())
    }
}

/// An engine, its tags, and the peers' ends of its connections.
pub(crate) struct Rig {
    pub(crate) engine: Engine,
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
    pub(crate) trace_memory: usize,
    pub(crate) write_stall: Duration,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) frame_timeout: Duration,
    pub(crate) stale_after: Option<Duration>,
    /// Names of polled devices.
    pub(crate) owners: Vec<Box<str>>,
    /// Tags that are there from the start.
    pub(crate) declared: Declared,
    /// Keys of the protocol's own, as a `[[listen]]` section has them.
    pub(crate) keys: &'static str,
    /// Further tags that are computed when they are read.
    pub(crate) figures: Option<Arc<dyn Figures>>,
    /// Further cells that become tags when they are named.
    pub(crate) memories: Vec<Arc<dyn Memory>>,
    /// The configuration of what the protocol's listeners share.
    pub(crate) shared: &'static str,
    /// Further listeners: [`Rig::connect_to`] 1 and on.
    pub(crate) more: Vec<Box<dyn Acceptor>>,
}

/// Peers that send datagrams and are remembered by a rig.
pub(crate) const RIG_UDP_PEERS: usize = 4;

impl Default for RigSettings {
    fn default() -> Self {
        RigSettings {
            tags: TagSettings::default(),
            max_connections: 1_000,
            max_subscriptions: 1_000,
            buffer_memory: 16 * 1024 * 1024,
            trace_memory: 1024 * 1024,
            write_stall: Duration::from_secs(30),
            idle_timeout: None,
            frame_timeout: Duration::from_secs(30),
            stale_after: None,
            owners: Vec::new(),
            declared: Declared::default(),
            figures: None,
            memories: Vec::new(),
            keys: "",
            shared: "",
            more: Vec::new(),
        }
    }
}

impl Rig {
    /// A rig whose first listener speaks the protocol of that scheme.
    pub(crate) fn with(scheme: &'static str, rig: RigSettings) -> Rig {
        Rig::shards(1, scheme, rig).pop().expect("one was wanted")
    }

    /// The shards of one server, whose first listener speaks the protocol of that scheme.
    pub(crate) fn shards(count: usize, scheme: &'static str, rig: RigSettings) -> Vec<Rig> {
        let protocol = by_scheme(scheme).expect("a protocol of the table");
        let (shared, document) = (Document::parse("rig", rig.shared), Document::parse("rig", rig.keys));
        let mut declared = rig.declared;
        for (number, owner) in rig.owners.iter().enumerate() {
            declared.add_owner(owner, OwnerId(number as u16));
        }
        let configure = |row: &ServiceRow| (row.configure)(shared.root().table(row.section), &mut declared);
        let service = protocol.service().map(configure);
        let first = protocol.listener(service.as_ref(), &mut document.root());
        assert_eq!((shared.errors(), document.errors()), (Vec::new(), Vec::new()));
        let now = Rig::clocks(0);
        let mut memories = rig.memories;
        memories.extend(service.clone().and_then(|service| service.memory()));
        let tags = Arc::new(Tags::new(rig.tags, rig.owners, count).with_memories(memories));
        declare_system_tags(&tags, rig.figures.as_deref()).unwrap();
        for tag in declared {
            tags.declare(TagName::parse(&tag.name).unwrap(), tag.declaration, now.wall).unwrap();
        }
        let listener = |acceptor: Box<dyn Acceptor>| Listener {
            scheme: protocol.scheme,
            transport: protocol.transport,
            acceptor: acceptor.into(),
            grants: Grants::default(),
            max_connections: None,
            idle_timeout: rig.idle_timeout,
            frame_timeout: rig.frame_timeout,
            stale_after: rig.stale_after,
        };
        let settings = Settings {
            name: "rig".to_owned(),
            max_connections: rig.max_connections,
            max_subscriptions: rig.max_subscriptions,
            max_udp_peers: RIG_UDP_PEERS,
            buffer_memory: rig.buffer_memory,
            trace_memory: rig.trace_memory,
            write_stall: rig.write_stall,
            listeners: std::iter::once(first).chain(rig.more).map(listener).collect(),
            memory_probe: || 0,
        };
        let shared = Shared::new(settings, Arc::clone(&tags));
        let mut engines: Vec<Engine> = (0..count).map(|number| Engine::new(number, &shared, now)).collect();
        for engine in &mut engines {
            rig.figures.iter().for_each(|figures| engine.compute(Arc::clone(figures)));
        }
        if let Some(service) = service {
            service.bind(&tags, now.wall).unwrap();
            service.resident().into_iter().for_each(|session| engines[0].house(session));
        }
        let rig = |engine| Rig { engine, lines: Lines::default(), now_us: 0, next: Tick::NEVER };
        engines.into_iter().map(rig).collect()
    }

    fn clocks(now_us: u64) -> Now {
        let wall = Timestamp(RIG_EPOCH_MS + (now_us / 1_000) as i64);
        Now { tick: Tick::from_micros(now_us), wall }
    }

    /// A new peer of that listener, with room for whatever the engine sends. `None`: it was turned away
    /// without a word.
    pub(crate) fn try_connect(&mut self, listener: usize) -> Option<ConnKey> {
        let peer = "10.0.0.1:40000".parse().unwrap();
        let key = self.engine.accept(listener, peer)?;
        self.lines.lines.insert(key, Line::open());
        self.engine.on_open(key);
        Some(key)
    }

    /// The next connection that the engine wants to make is made.
    #[cfg(test)]
    pub(crate) fn answer_dial(&mut self) -> ConnKey {
        self.answer_dial_with(Ok(()))
    }

    /// The next connection that the engine wants to make turns out so.
    #[cfg(test)]
    pub(crate) fn answer_dial_with(&mut self, result: Result<(), ErrorKind>) -> ConnKey {
        let (key, _) = self.lines.dialled.remove(0);
        self.engine.on_dialled(key, result, &mut self.lines);
        self.settle();
        key
    }

    /// The peer's end of a connection.
    pub(crate) fn line(&mut self, key: ConnKey) -> &mut Line {
        self.lines.line(key)
    }

    /// The peer sends bytes. The engine hears of it in the next turn.
    pub(crate) fn send(&mut self, key: ConnKey, bytes: impl AsRef<[u8]>) {
        let line = self.line(key);
        line.to_engine.extend(bytes.as_ref());
        line.event.readable = true;
    }

    /// The peer sends no more.
    pub(crate) fn half_close(&mut self, key: ConnKey) {
        let line = self.line(key);
        line.shut = true;
        line.event = Ready { readable: true, read_closed: true, ..line.event };
    }

    /// From now on the peer takes nothing.
    pub(crate) fn shut_window(&mut self, key: ConnKey) {
        self.line(key).window = 0;
    }

    /// The peer makes room for what the engine sends.
    pub(crate) fn open_window(&mut self, key: ConnKey, bytes: usize) {
        let line = self.line(key);
        line.window = line.window.saturating_add(bytes);
        line.event.writable |= std::mem::take(&mut line.refused);
    }

    /// One turn: connections to which something happened get their event.
    pub(crate) fn turn(&mut self) {
        self.turn_with(|_, _| {});
    }

    /// One turn in which something happens besides.
    pub(crate) fn turn_with(&mut self, happens: impl FnOnce(&mut Engine, &mut Lines)) {
        self.engine.begin(Rig::clocks(self.now_us), &mut self.lines);
        let mut keys: Vec<ConnKey> = self.lines.lines.keys().copied().collect();
        keys.sort_by_key(|key| key.serial);
        for key in keys {
            self.tell(key);
        }
        happens(&mut self.engine, &mut self.lines);
        self.end();
    }

    fn tell(&mut self, key: ConnKey) {
        let line = self.line(key);
        let event = std::mem::take(&mut line.event);
        if event != Ready::default() && line.closed.is_none() {
            self.engine.on_ready(key.index, event, &mut self.lines);
        }
    }

    fn end(&mut self) {
        self.next = self.engine.end(&mut self.lines);
        let mut taken = 0;
        for (_, Connection { link, .. }) in &self.engine.connections {
            taken += link.input.capacity() + link.output.capacity();
            assert!(link.output.len() <= HIGH_WATER_BYTES, "{} bytes are owed", link.output.len());
        }
        assert_eq!(self.engine.buffer_bytes(), taken, "buffers are accounted for");
    }

    /// Turns until the engine has nothing to do at this time.
    pub(crate) fn settle(&mut self) {
        for _ in 0..100_000 {
            self.turn();
            let quiet = |line: &Line| line.closed.is_some() || line.event == Ready::default();
            if self.next.as_micros() > self.now_us && self.lines.lines.values().all(quiet) {
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

    /// A datagram comes from a port of some peer; what went back there until the engine was at rest.
    pub(crate) fn datagram(&mut self, port: u16, datagram: impl AsRef<[u8]>) -> Vec<Vec<u8>> {
        let peer = SocketAddr::from(([10, 0, 0, 1], port));
        self.turn_with(|engine, lines| engine.on_datagram(0, peer, datagram.as_ref(), lines));
        self.settle();
        let all = std::mem::take(&mut self.lines.datagrams);
        all.into_iter().filter(|(to, _)| *to == peer).map(|(_, datagram)| datagram).collect()
    }
}

/// What the fuzzer does not need.
#[cfg(test)]
impl Rig {
    /// A rig whose only listener speaks the protocol of that scheme.
    pub(crate) fn new(scheme: &'static str) -> Rig {
        Rig::with(scheme, RigSettings::default())
    }

    /// A new peer of that listener, which is let in.
    pub(crate) fn connect_to(&mut self, listener: usize) -> ConnKey {
        self.try_connect(listener).expect("there is room for a connection")
    }

    /// A new peer of the protocol under test.
    pub(crate) fn connect(&mut self) -> ConnKey {
        self.connect_to(0)
    }

    /// A new peer of the protocol under test, on the shard that has the fewest. Says which one that is.
    pub(crate) fn connect_to_some(shards: &mut [Rig]) -> (usize, ConnKey) {
        let peer = "10.0.0.1:40000".parse().unwrap();
        let admission = shards[0].engine.admit(0, peer, NOWHERE).expect("there is room for a connection");
        let shard = admission.shard();
        let rig = &mut shards[shard];
        let key = rig.engine.enter(admission);
        rig.lines.lines.insert(key, Line::open());
        rig.engine.on_open(key);
        (shard, key)
    }

    /// The connection breaks.
    pub(crate) fn break_off(&mut self, key: ConnKey) {
        let line = self.line(key);
        line.broken = Some(ErrorKind::ConnectionReset);
        line.event = Ready { readable: true, writable: true, read_closed: true };
    }

    /// An event comes though nothing happened.
    pub(crate) fn poke(&mut self, key: ConnKey) {
        self.line(key).event = Ready { readable: true, writable: true, read_closed: false };
    }

    /// Within one turn the peer sends this in pieces; each is read before the next comes.
    pub(crate) fn send_in_pieces(&mut self, key: ConnKey, pieces: &[&[u8]]) {
        self.engine.begin(Rig::clocks(self.now_us), &mut self.lines);
        for piece in pieces {
            self.send(key, piece);
            self.tell(key);
        }
        self.end();
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

    /// The time on the monotonic clock.
    pub(crate) fn now(&self) -> Tick {
        Tick::from_micros(self.now_us)
    }

    /// Bytes owed to the peer.
    pub(crate) fn owed(&self, key: ConnKey) -> usize {
        self.engine.connections[key.index as usize].link.output.len()
    }

    /// The size of the largest session in conversation, without what it holds elsewhere.
    pub(crate) fn session_bytes(&self) -> Option<usize> {
        let open = self.engine.connections.iter().filter(|(_, connection)| connection.link.is_open());
        open.map(|(_, connection)| size_of_val(&*connection.session)).max()
    }

    /// All tags.
    pub(crate) fn tags(&self) -> &Tags {
        &self.engine.shard.tags
    }

    /// What is known of a tag.
    pub(crate) fn sample(&self, name: &str) -> Sample {
        self.tags().read(self.tags().find(TagName::parse(name).unwrap()).expect("a tag that is there"))
    }

    /// Declare a tag.
    pub(crate) fn declare(&self, name: &str, declaration: Declaration) -> TagId {
        self.tags().declare(TagName::parse(name).unwrap(), declaration, Timestamp(0)).unwrap()
    }

    /// The end of a scenario: all peers take what they are owed and close. Nothing may be left of them.
    pub(crate) fn wind_up(mut self) {
        let mut keys: Vec<ConnKey> = self.lines.lines.keys().copied().collect();
        keys.sort_by_key(|key| key.serial);
        for key in keys {
            self.open_window(key, usize::MAX);
            self.half_close(key);
        }
        self.settle();
        self.advance(Duration::from_millis(LINGER_MS));
        // Peers that send datagrams never close.
        self.turn_with(|engine, lines| engine.stop(lines));
        self.settle();
        assert!(self.lines.lines.values().all(|line| line.closed.is_some()), "a connection leaks");
        let Engine { shard, connections, udp_peers, timers, flush, resume, starved, .. } = &self.engine;
        assert!(connections.is_empty() && shard.errands.is_empty() && shard.doubts.is_empty());
        assert!(timers.next().is_none() && flush.is_empty() && resume.is_empty() && starved.is_empty());
        assert!(shard.subscriptions.is_empty() && shard.drivers.iter().all(Option::is_none));
        assert!(udp_peers.is_empty() && shard.dials.next().is_none());
        shard.shared.recorder().assert_unused();
        assert_eq!((shard.buffers.taken_bytes(), shard.metrics.connections.value()), (0, 0));
        assert_eq!(shard.pending_writes.len(), 0, "every pending write was settled");
    }
}
