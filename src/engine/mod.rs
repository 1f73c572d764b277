//! The engine: sessions, buffering, back-pressure, subscriptions, timers. It reads no clock, opens no socket
//! and spawns no thread: bytes and times are handed in, bytes are handed out through a [`Wire`].
//!
//! A turn is: [`begin`](Engine::begin) with the clocks, [`accept`](Engine::accept) and
//! [`on_ready`](Engine::on_ready) for what happened, [`end`](Engine::end) to deal out changes and to send; it
//! says when the next is due.

mod buffers;
mod connection;
mod context;
mod conversation;
mod datagrams;
mod dealing;
mod dials;
mod orders;
mod pending_writes;
mod recording;
#[cfg(any(test, feature = "simulation"))]
pub(crate) mod rig;
mod service;
mod session;
mod shard;
mod shared;
mod system;
#[cfg(test)]
mod tests;
mod trace;

use std::collections::BinaryHeap;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use slab::Slab;

use crate::base::time::{Now, Tick};
use crate::base::timers::Timers;
use crate::metrics::Metrics;
use crate::security::Rights;
use crate::tags::{Limit, Refusal, Subscriptions, TagId};

pub use connection::{DIAL_MS, HIGH_WATER_BYTES, LINGER_MS, LOW_WATER_BYTES};
pub use context::{Context, Info, Written};
pub use pending_writes::{Driven, Question, Ticket, WriteOrder};
pub use service::{Service, ServiceRow};
pub use session::{
    Acceptor, Change, ConnKey, Consumed, End, Endpoint, Flow, Listening, Protocol, Ready, Session, Transport,
    Wire,
};
pub use shard::{LEAST_BUFFER_BYTES, Listener, Settings};
pub use shared::Shared;
pub use system::{Figures, declare_system_tags, system_tag_kind};
pub use trace::{Direction, Frame, LEAST_TRACE_MEMORY, MOST_FRAME_BYTES, Origin, Side, Traced};

use buffers::Buffers;
use connection::{Connection, Link, Phase};
use dials::Dials;
use pending_writes::PendingWrites;
use session::Rendering;
use shard::{Errand, Shard, TurnTimes};
use system::SystemTags;

/// What a connection may hold in the scratch buffer: the end of a partial frame and one read.
pub const SCRATCH_BYTES: usize = 64 * 1024;
/// Connections over `max_connections` that are told so at any one time; further ones are just closed.
pub const REFUSED_AT_ONCE: usize = 16;
/// Deadlines of connections handled in one turn.
const TIMERS_PER_TURN: usize = 4_096;
/// Errands run in one turn.
const ERRANDS_PER_TURN: usize = 4_096;
/// Connections of ours begun in one turn, before those that are there have theirs.
const DIALS_PER_TURN: usize = 64;
/// How long the buffers may be short before those who hold the most are closed: peers that read have long
/// made room.
const SHORT_OF_MEMORY: Duration = Duration::from_millis(250);
/// Where there is no address, or none is known.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// One shard's sessions and all that they need; a server with one shard is one of these and a reactor around
/// it.
pub struct Engine {
    shard: Shard,
    connections: Slab<Connection>,
    /// Slab indices of peers that send datagrams, by listener and address; the least recently heard is the
    /// first to be forgotten.
    udp_peers: LruCache<(u16, SocketAddr), u32>,
    /// Sessions without a peer.
    residents: usize,
    /// The serial of the last connection; no two shards give the same.
    serial: u32,
    /// Of connections, by slab index.
    timers: Timers,
    /// Connections with output to send, or an end to make, at the end of the turn.
    flush: Vec<u32>,
    /// Connections that go on next turn though no event will come for them.
    resume: Vec<u32>,
    /// Those of last turn, while they are resumed.
    resuming: Vec<u32>,
    /// Connections that wait until buffer memory is back.
    starved: Vec<u32>,
    /// Closed in this turn.
    gone: Vec<u32>,
    /// Since when buffer memory is short.
    short_since: Option<Tick>,
    /// No more is accepted or read.
    stopping: bool,
    /// What is read goes here first.
    scratch: Vec<u8>,
    dealer: Dealer,
}

/// A peer that may be served, and where; or that is turned away with some words.
pub struct Admission {
    shard: usize,
    listener: usize,
    peer: SocketAddr,
    local: SocketAddr,
    rights: Rights,
    /// There are so many connections already.
    over: Option<usize>,
}

impl Admission {
    /// The shard that serves it.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// The peer's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }
}

/// Room for dealing out one change after another without allocating.
#[derive(Default)]
struct Dealer {
    serial: u64,
    /// Deliveries that this turn has left.
    budget: usize,
    tags: Vec<TagId>,
    name: String,
    subscribers: Vec<u32>,
    rendering: Rendering,
    /// Connections that are told frames.
    tracers: Vec<u32>,
    frame: Vec<u8>,
}

impl Engine {
    /// An engine without connections, for the shard of that number; each number is used once.
    pub fn new(number: usize, shared: &Arc<Shared>, now: Now) -> Engine {
        let settings = &shared.settings;
        let most_udp_peers = NonZeroUsize::new(settings.max_udp_peers).unwrap_or(NonZeroUsize::MIN);
        Engine {
            shard: Shard {
                number,
                now,
                started: now.tick,
                tags: Arc::clone(&shared.tags),
                system: SystemTags::default(),
                subscriptions: Subscriptions::default(),
                buffers: Buffers::new(settings.buffer_memory_of_each(shared.shards())),
                metrics: Arc::clone(shared.metrics(number)),
                pending_writes: PendingWrites::default(),
                drivers: Vec::new(),
                errands: Default::default(),
                taken_over: Vec::new(),
                doubts: Default::default(),
                stale: Timers::default(),
                turns: TurnTimes::default(),
                dials: Dials::default(),
                homeless: Vec::new(),
                elsewhere: vec![0; shared.shards()].into(),
                letters: Vec::new(),
                settings: Arc::clone(settings),
                shared: Arc::clone(shared),
            },
            connections: Slab::new(),
            udp_peers: LruCache::new(most_udp_peers),
            residents: 0,
            // So that the first is one more than the number of its shard.
            serial: (number as u32 + 1).wrapping_sub(shared.shards() as u32),
            timers: Timers::default(),
            flush: Vec::new(),
            resume: Vec::new(),
            resuming: Vec::new(),
            starved: Vec::new(),
            gone: Vec::new(),
            short_since: None,
            stopping: false,
            scratch: vec![0; SCRATCH_BYTES],
            dealer: Dealer::default(),
        }
    }

    /// The number of its shard.
    pub fn number(&self) -> usize {
        self.shard.number
    }

    /// What it shares with the engines of other shards.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shard.shared
    }

    /// How many connections there are, closing ones included.
    pub fn len(&self) -> usize {
        self.connections.len() - self.residents
    }

    /// Whether there is none, and no session without a peer.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Orders and questions that are not settled, and places that are taken at other shards.
    #[cfg(any(test, feature = "simulation"))]
    pub fn pending(&self) -> (usize, usize) {
        (self.shard.pending_writes.len(), self.shard.elsewhere.iter().sum())
    }

    /// Peers that send datagrams and are remembered.
    #[cfg(any(test, feature = "simulation"))]
    pub fn datagram_peers(&self) -> usize {
        self.udp_peers.len()
    }

    /// Bytes of memory in connections' buffers.
    pub fn buffer_bytes(&self) -> usize {
        self.shard.buffers.taken_bytes()
    }

    /// The counters of this shard.
    pub fn metrics(&self) -> &Metrics {
        &self.shard.metrics
    }

    /// Compute these tags when they are read; they were declared with the server's own.
    pub fn compute(&mut self, figures: Arc<dyn Figures>) {
        self.shard.system.compute(figures);
    }

    /// A value of a declared tag with `stale_after` begins to age: the configuration gave it one.
    pub fn watch_staleness(&mut self, tag: TagId, at: Tick) {
        self.shard.stale.arm_no_later(tag.0, at);
    }

    /// A turn begins: handle what is due by the clocks.
    pub fn begin<W: Wire>(&mut self, now: Now, wire: &mut W) {
        self.shard.bell().wake_up();
        self.shard.now = now;
        self.dealer.budget = dealing::DELIVERIES_PER_TURN;
        // Before anything is read: whoever follows a peer sees what it sends from now on.
        if self.shard.shared.take_wanted(self.shard.number) {
            self.watch_wanted();
        }
        for _ in 0..TIMERS_PER_TURN {
            let Some(index) = self.timers.pop_due(now.tick) else { break };
            self.on_timer(index as usize, wire);
        }
        if self.stopping {
            // Sessions that were closed may have asked for successors.
            self.shard.dials.clear();
        }
        for _ in 0..DIALS_PER_TURN {
            let Some(dial) = self.shard.dials.pop_due(now.tick) else { break };
            self.dial(dial, wire);
        }
        self.shard.doubt_some();
        self.shard.refresh_due_system_tags();
    }

    /// A peer has connected to a listener (by its place in the settings), where it may be served by this
    /// shard only. `None`: it has no right or there is no room, close it. Otherwise
    /// [`on_open`](Self::on_open) must follow.
    pub fn accept(&mut self, listener: usize, peer: SocketAddr) -> Option<ConnKey> {
        let admission = self.admit(listener, peer, NOWHERE)?;
        Some(self.enter(admission))
    }

    /// A peer has connected to a listener (by its place in the settings), at that address of ours. `None`: it
    /// has no right or there is no room, close it. Otherwise it is to [`enter`](Self::enter) its shard.
    pub fn admit(&mut self, listener: usize, peer: SocketAddr, local: SocketAddr) -> Option<Admission> {
        let settings = Arc::clone(&self.shard.settings);
        let Listener { grants, max_connections, .. } = &settings.listeners[listener];
        let rights = grants.of(peer.ip());
        if rights == Rights::NONE {
            self.shard.metrics.refused.add(1);
            log::warn!("{peer} refused: it may neither read nor write (the listener's read and write)");
            return None;
        }
        let (all, here) = self.shard.shared.accepted(listener);
        let at_most = |most: usize, count: usize| (count >= most).then_some(most);
        let over = at_most(settings.max_connections, all).or_else(|| at_most((*max_connections)?, here));
        if let Some(most) = over {
            self.shard.metrics.refused.add(1);
            log::warn!("{peer} refused: there are {most} connections already (max_connections)");
            if self.shard.shared.turned_away() >= REFUSED_AT_ONCE {
                return None;
            }
            self.shard.shared.count_turned_away();
        } else {
            self.shard.metrics.accepted.add(1);
            self.shard.shared.count_accepted(listener);
        }
        let shard = self.shard.shared.give_to_least_loaded();
        Some(Admission { shard, listener, peer, local, rights, over })
    }

    /// The peer is served here. [`on_open`](Self::on_open) must follow.
    ///
    /// # Panics
    /// If it was admitted to another shard.
    pub fn enter(&mut self, admission: Admission) -> ConnKey {
        let Admission { shard, listener, peer, local, rights, over } = admission;
        assert_eq!(shard, self.shard.number, "a peer enters the shard that it was admitted to");
        let settings = Arc::clone(&self.shard.settings);
        let acceptor = &settings.listeners[listener].acceptor;
        let session = acceptor.accept_at(peer, local);
        let mut link = Link::new(peer, Some(listener as u16), self.shard.now.tick);
        link.rights = rights;
        if over.is_none() {
            self.shard.metrics.connections.add(1);
        }
        if let Some(most) = over {
            let mut text = String::new();
            acceptor.refuse(&Refusal::Limit(Limit::Connections(most)), &mut text);
            self.shard.buffers.append(&mut link.output, text.as_bytes());
            link.flags.is_turned_away = true;
            link.phase = Phase::Closing;
        }
        let key = self.insert(link, session);
        if over.is_some() {
            // Also where there are no last words.
            self.queue_flush(key.index as usize);
            self.settle(key.index as usize);
        }
        log::debug!("{peer} connected");
        key
    }

    /// Let a session live here that has no peer: it has deadlines, tags and orders, and what it puts goes
    /// nowhere. It ends when the engine stops.
    pub fn house(&mut self, session: Box<dyn Session>) {
        let mut link = Link::new(NOWHERE, None, self.shard.now.tick);
        link.flags.is_resident = true;
        self.residents += 1;
        let key = self.insert(link, session);
        self.on_open(key);
    }

    fn insert(&mut self, link: Link, session: Box<dyn Session>) -> ConnKey {
        self.serial = self.serial.wrapping_add(self.shard.shared.shards() as u32);
        let is_wanted = self.shard.shared.recorder().wants(link.peer);
        let index = self.connections.insert(Connection { serial: self.serial, link, session });
        if is_wanted {
            self.watch(index);
        }
        ConnKey { index: index as u32, serial: self.serial }
    }

    /// An accepted connection can be used from now on.
    pub fn on_open(&mut self, key: ConnKey) {
        let index = key.index as usize;
        if self.connections[index].link.is_open() {
            let flow = self.with_session(index, |session, cx| session.on_open(cx));
            self.apply(index, flow);
            self.settle(index);
        }
    }

    /// An accepted connection cannot be used after all.
    pub fn on_broken<W: Wire>(&mut self, key: ConnKey, why: ErrorKind, wire: &mut W) {
        self.drop_now(key.index as usize, End::Broken(why), wire);
    }

    /// Something happened to the connection at `index`.
    pub fn on_ready<W: Wire>(&mut self, index: u32, ready: Ready, wire: &mut W) {
        let Some(connection) = self.connections.get_mut(index as usize) else { return };
        let flags = &mut connection.link.flags;
        flags.readable |= ready.readable;
        flags.writable |= ready.writable;
        flags.read_closed |= ready.read_closed;
        if ready.writable && !connection.link.output.is_empty() {
            self.queue_flush(index as usize);
        }
        self.pump(index as usize, wire);
    }

    /// A turn ends: run errands, go on with what waited, deal out changes, send. Says when the next turn is
    /// due if nothing happens before; `Tick::NEVER` if none is.
    pub fn end<W: Wire>(&mut self, wire: &mut W) -> Tick {
        self.shard.open_letters();
        self.close_taken_over();
        self.run_errands(wire);
        while let Some(session) = self.shard.homeless.pop().filter(|_| !self.stopping) {
            self.house(session);
        }
        self.resume_waiting(wire);
        self.deal_changes();
        self.deal_frames();
        self.flush(wire);
        self.relieve_memory(wire);
        for index in self.gone.drain(..) {
            self.connections.remove(index as usize);
        }
        self.shard.metrics.buffer_bytes.set(self.buffer_bytes() as u64);
        self.next_turn()
    }

    /// Go on with the connections that were to be resumed; those that must wait again come next turn.
    fn resume_waiting<W: Wire>(&mut self, wire: &mut W) {
        std::mem::swap(&mut self.resume, &mut self.resuming);
        for place in 0..self.resuming.len() {
            let index = self.resuming[place] as usize;
            if let Some(connection) = self.connections.get_mut(index) {
                connection.link.flags.in_resume = false;
                self.pump(index, wire);
            }
        }
        self.resuming.clear();
    }

    /// How long the turn took, for the figures.
    pub fn on_turn_measured(&mut self, took: Duration) {
        let (mean, max) = self.shard.turns.note(self.shard.now.tick, took);
        self.shard.metrics.turn_mean_us.set(mean);
        self.shard.metrics.turn_max_us.set(max);
    }

    /// Stop: read no more, answer what was read, send, close.
    pub fn stop<W: Wire>(&mut self, wire: &mut W) {
        self.stopping = true;
        self.shard.dials.clear();
        let indices: Vec<usize> = self.connections.iter().map(|(index, _)| index).collect();
        for index in indices {
            if self.connections[index].link.phase == Phase::Dialling {
                self.drop_now(index, End::Shutdown, wire);
            } else {
                self.queue_resume(index);
            }
        }
    }

    /// There is no other turn: whatever other shards still want of this one is refused.
    pub fn retire(&mut self) {
        self.shard.close_mailbox();
    }

    fn next_turn(&mut self) -> Tick {
        let shard = &mut self.shard;
        let busy = !self.resume.is_empty()
            || !shard.errands.is_empty()
            || !shard.doubts.is_empty()
            || !shard.homeless.is_empty();
        let system = shard.refresh_due_system_tags();
        // From here on others wake this shard, so what they have left before is looked for only now.
        shard.bell().fall_asleep();
        if busy || shard.tags.has_changes(shard.number) || shard.shared.has_left(shard.number) {
            shard.bell().wake_up();
            return shard.now.tick;
        }
        let short = self.short_since.map(|since| since + SHORT_OF_MEMORY);
        let due = [self.timers.next(), shard.stale.next(), shard.dials.next(), short, system];
        due.into_iter().flatten().min().unwrap_or(Tick::NEVER)
    }

    fn run_errands<W: Wire>(&mut self, wire: &mut W) {
        for _ in 0..ERRANDS_PER_TURN {
            let Some(errand) = self.shard.errands.pop_front() else { return };
            match errand {
                Errand::Order(driver, order) => {
                    if !self.shard.pending_writes.hand_out(order.ticket) || !self.is_open(driver) {
                        continue;
                    }
                    let index = driver.index as usize;
                    let flow = self.with_session(index, |session, cx| session.on_write_order(cx, order));
                    self.apply_end(index, flow);
                    self.settle(index);
                }
                Errand::Settled(asker, ticket, result) => {
                    if !self.is_open(asker) {
                        continue;
                    }
                    let index = asker.index as usize;
                    let flow =
                        self.with_session(index, |session, cx| session.on_write_done(cx, ticket, result));
                    self.apply(index, flow);
                    self.pump(index, wire);
                }
                Errand::Question(driver, question) => {
                    if !self.shard.pending_writes.hand_out(question.ticket) || !self.is_open(driver) {
                        continue;
                    }
                    let index = driver.index as usize;
                    let flow = self.with_session(index, |session, cx| session.on_question(cx, question));
                    self.apply_end(index, flow);
                    self.settle(index);
                }
                Errand::Answered(asker, ticket, result) => {
                    if !self.is_open(asker) {
                        continue;
                    }
                    let (index, result) = (asker.index as usize, result.as_deref().map_err(Clone::clone));
                    let flow = self.with_session(index, |session, cx| session.on_answer(cx, ticket, result));
                    self.apply(index, flow);
                    self.pump(index, wire);
                }
            }
        }
    }

    /// Whether the key names a connection whose session is in conversation.
    fn is_open(&self, key: ConnKey) -> bool {
        let connection = self.connections.get(key.index as usize);
        connection.is_some_and(|connection| connection.serial == key.serial && connection.link.is_open())
    }

    /// Resume who waited for buffer memory; where it has been short for a while, close those that hold the
    /// most until a quarter is back.
    fn relieve_memory<W: Wire>(&mut self, wire: &mut W) {
        if self.shard.buffers.are_short() {
            let now = self.shard.now.tick;
            let since = *self.short_since.get_or_insert(now);
            if now < since + SHORT_OF_MEMORY {
                return;
            }
            self.close_largest(wire);
        }
        self.short_since = None;
        for index in std::mem::take(&mut self.starved) {
            if let Some(connection) = self.connections.get_mut(index as usize) {
                connection.link.flags.starved = false;
                self.queue_resume(index as usize);
            }
        }
    }

    fn close_largest<W: Wire>(&mut self, wire: &mut W) {
        let held = |link: &Link| link.output.capacity() + link.input.capacity();
        let mut debtors: BinaryHeap<(usize, usize)> =
            self.connections.iter().map(|(index, connection)| (held(&connection.link), index)).collect();
        while let Some((bytes, index)) = debtors.pop() {
            if bytes == 0 || self.shard.buffers.are_relieved() {
                break;
            }
            self.drop_now(index, End::Memory, wire);
        }
    }
}
