//! The flight recorder: the last frames of each device, and of any connection that somebody asks for, kept in
//! one bounded memory (`trace_memory`) and told to those who follow them.
//!
//! A *ring* is the frames under one name, a device's or a peer's address. All rings share one pool of blocks.
//! Where it is full, the oldest frames of the ring that has the most go, so that none gets less than its fair
//! share while it has something to keep. Who is not recorded costs nothing; a frame costs two copies and no
//! allocation.

mod frame;
mod largest;
mod pool;
mod records;
#[cfg(test)]
mod tests;

use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use slab::Slab;

use crate::base::time::Timestamp;
use crate::tags::name::DeviceName;
use crate::tags::{Limit, Refusal};

pub use frame::{Direction, Frame, Origin, Side, Traced};

use largest::Largest;
use pool::{BLOCK_BYTES, Chain, Place, Pool};
use records::{HEADER_BYTES, Kind, PackedOrigin, Record, header, read_header};

/// What is longer is recorded in pieces of this length.
pub const MOST_FRAME_BYTES: usize = 4_096;
/// The smallest `trace_memory` that is of use.
pub const LEAST_TRACE_MEMORY: usize = 64 * 1024;

/// A quarter of the memory is for the rings themselves, the rest for what they keep.
const SHARE_OF_RINGS: usize = 4;
/// What a ring takes besides its frames: its record, its places in the tables, its name.
const RING_BYTES: usize = 176;
/// All names together have so many bytes a ring.
const NAME_BYTES: usize = 32;
/// Names that may be followed at once, each by whoever follows it; and no more than one in so many rings.
const MOST_FOLLOWS: usize = 256;
const RINGS_PER_FOLLOW: usize = 4;

/// Names a ring for as long as somebody holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RingId(NonZeroU32);

impl RingId {
    fn of(key: usize) -> RingId {
        RingId(NonZeroU32::MIN.saturating_add(key as u32))
    }

    fn key(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// A connection of any shard, by its slab index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Seat {
    pub(super) shard: u16,
    pub(super) index: u32,
}

/// The frames under one name.
struct Ring {
    name: Box<str>,
    chain: Chain,
    /// The number of the oldest frame that is kept; each gets the next.
    first: u64,
    /// The number of the next frame.
    next: u64,
    /// The connection that recorded last.
    writer: Option<u32>,
    /// The connection of the oldest frame.
    origin: PackedOrigin,
    /// Connections that record under this name.
    holders: u32,
    followers: u32,
    /// It is there for its followers only.
    on_request: bool,
    /// The recorder's count when something was recorded last.
    used: u64,
}

/// All that a server records.
pub(super) struct Recorder {
    rings: Slab<Ring>,
    most_rings: usize,
    /// Of all rings.
    name_bytes: usize,
    by_name: HashTable<u32>,
    hasher: DefaultHashBuilder,
    largest: Largest,
    pool: Pool,
    /// Those that origins name by number.
    schemes: Vec<&'static str>,
    /// Frames recorded so far.
    count: u64,
    /// Connections that follow.
    tracers: HashMap<Seat, Tracer>,
    /// How many names they follow, all together.
    follows: usize,
    /// Peers whose connections are recorded on request.
    wanted: HashMap<SocketAddr, RingId>,
    /// Connections that are recorded on request.
    watched: HashMap<Seat, RingId>,
    due: Due,
    has_complained: bool,
}

/// Connections that have frames to be told.
struct Due {
    /// By shard, their slab indices.
    of: Box<[Vec<u32>]>,
    /// Whether a shard has any, for it to see without a lock.
    flags: Arc<[AtomicBool]>,
}

/// What a connection follows.
#[derive(Default)]
struct Tracer {
    follows: Vec<Follow>,
    /// Whose turn it is among them.
    turn: usize,
    is_due: bool,
}

struct Follow {
    ring: RingId,
    /// The number of the next frame to tell.
    next: u64,
    /// Where it is, if the one before is still kept.
    place: Place,
    /// The connection of the one before.
    origin: PackedOrigin,
    detailed: bool,
}

/// What a follower is told of a frame besides its name and its bytes.
pub(super) struct Told {
    pub(super) time: Timestamp,
    pub(super) direction: Direction,
    pub(super) origin: Origin,
    pub(super) skipped: u64,
    pub(super) detailed: bool,
}

impl Recorder {
    /// A recorder that holds `memory` bytes at most; one with 0 records nothing. It raises the flag of each
    /// shard that has frames to tell.
    pub(super) fn new(memory: usize, flags: Arc<[AtomicBool]>) -> Recorder {
        let memory = if memory < LEAST_TRACE_MEMORY { 0 } else { memory };
        let for_rings = memory / SHARE_OF_RINGS;
        Recorder {
            rings: Slab::new(),
            most_rings: for_rings / RING_BYTES,
            name_bytes: 0,
            by_name: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            largest: Largest::default(),
            pool: Pool::new((memory - for_rings) / BLOCK_BYTES),
            schemes: Vec::new(),
            count: 0,
            tracers: HashMap::new(),
            follows: 0,
            wanted: HashMap::new(),
            watched: HashMap::new(),
            due: Due { of: flags.iter().map(|_| Vec::new()).collect(), flags },
            has_complained: false,
        }
    }

    /// A connection records under that name from now on. `None`: there is no room for another name.
    pub(super) fn attach(&mut self, device: DeviceName<'_>) -> Option<RingId> {
        let id = self.ring(device.as_str(), true);
        match id {
            Some(id) => {
                let ring = &mut self.rings[id.key()];
                ring.holders += 1;
                ring.on_request = false;
            }
            None => self.complain(),
        }
        id
    }

    /// A connection does so no more.
    pub(super) fn release(&mut self, id: RingId) {
        self.rings[id.key()].holders -= 1;
        self.remove_if_unused(id);
    }

    /// The ring of that device, for a frame whose session knows the device itself.
    pub(super) fn of_device(&mut self, device: DeviceName<'_>) -> Option<RingId> {
        // What is recorded so, frame by frame, pushes nobody out: it would be pushed out itself at the next.
        let id = self.ring(device.as_str(), false);
        match id {
            Some(id) => self.rings[id.key()].on_request = false,
            None => self.complain(),
        }
        id
    }

    /// Keep a frame. Whether somebody follows it.
    pub(super) fn record(
        &mut self,
        id: RingId,
        time: Timestamp,
        origin: &Origin,
        direction: Direction,
        bytes: &[u8],
    ) -> bool {
        for piece in bytes.chunks(MOST_FRAME_BYTES) {
            self.push(id, time, origin, direction, piece);
        }
        if self.rings[id.key()].followers == 0 {
            return false;
        }
        for (&connection, tracer) in &mut self.tracers {
            if tracer.follows.iter().any(|follow| follow.ring == id) {
                tracer.become_due(connection, &mut self.due);
            }
        }
        true
    }

    fn push(&mut self, id: RingId, time: Timestamp, origin: &Origin, direction: Direction, bytes: &[u8]) {
        let is_new = self.rings[id.key()].writer != Some(origin.serial);
        let packed = if is_new { Some(PackedOrigin::pack(origin, &mut self.schemes)) } else { None };
        let of_origin = packed.map_or(0, |packed| HEADER_BYTES + packed.0.len());
        if !self.make_room(id, of_origin + HEADER_BYTES + bytes.len()) {
            return;
        }
        self.count += 1;
        let ring = &mut self.rings[id.key()];
        if let Some(packed) = packed {
            ring.writer = Some(origin.serial);
            self.pool.append(&mut ring.chain, &header(time, Kind::Origin, packed.0.len()));
            self.pool.append(&mut ring.chain, &packed.0);
        }
        self.pool.append(&mut ring.chain, &header(time, Kind::Frame(direction), bytes.len()));
        self.pool.append(&mut ring.chain, bytes);
        ring.next += 1;
        ring.used = self.count;
        self.largest.set(id.key() as u32, ring.chain.blocks());
    }

    /// Let the oldest frames of those that have the most go, until there are blocks for so many bytes more.
    fn make_room(&mut self, id: RingId, bytes: usize) -> bool {
        loop {
            let chain = &self.rings[id.key()].chain;
            let needed = chain.blocks_for(bytes);
            if needed <= self.pool.available() {
                return true;
            }
            let largest = self.largest.first().expect("a ring is there") as usize;
            let most = self.rings[largest].chain.blocks();
            if most == 0 {
                return false;
            }
            // Its own, where it would be one of the largest then: no other has to be fetched from memory.
            let is_large = chain.blocks() > 0 && chain.blocks() + needed >= most;
            let largest = if is_large { id.key() } else { largest };
            self.drop_oldest(largest);
            if largest != id.key() {
                self.remove_if_unused(RingId::of(largest));
            }
        }
    }

    /// Let go of a ring's oldest frames, until a block is free.
    fn drop_oldest(&mut self, key: usize) {
        let Recorder { rings, pool, largest, .. } = self;
        let ring = &mut rings[key];
        let before = ring.chain.blocks();
        while ring.chain.blocks() == before {
            let mut place = ring.chain.head();
            let Record { kind, len, .. } = read_header(pool, &mut place);
            if kind == Kind::Origin {
                pool.read(&mut place, &mut ring.origin.0);
            } else {
                ring.first += 1;
                pool.skip(&mut place, len);
            }
            pool.drop_until(&mut ring.chain, place);
        }
        largest.set(key as u32, ring.chain.blocks());
    }

    /// Find the ring of a name, or make it. `None` where there is no room: then a name that nobody uses any
    /// more may be forgotten for it.
    fn ring(&mut self, name: &str, may_forget: bool) -> Option<RingId> {
        let hash = self.hasher.hash_one(name);
        let found = self.by_name.find(hash, |&key| *self.rings[key as usize].name == *name);
        if let Some(&key) = found {
            return Some(RingId::of(key as usize));
        }
        let most_name_bytes = NAME_BYTES * self.most_rings;
        while self.rings.len() == self.most_rings || self.name_bytes + name.len() > most_name_bytes {
            if !may_forget || !self.forget_one() {
                return None;
            }
        }
        if self.rings.len() == self.rings.capacity() {
            // As a vector grows by itself, but never beyond what is counted on.
            let more = self.rings.len().max(16).min(self.most_rings - self.rings.len());
            self.rings.reserve_exact(more);
            self.largest.reserve_exact(more);
        }
        let key = self.rings.insert(Ring {
            name: name.into(),
            chain: Chain::EMPTY,
            first: 0,
            next: 0,
            writer: None,
            origin: PackedOrigin::default(),
            holders: 0,
            followers: 0,
            on_request: false,
            used: self.count,
        });
        self.name_bytes += name.len();
        let Recorder { rings, by_name, hasher, .. } = self;
        by_name.insert_unique(hash, key as u32, |&key| hasher.hash_one(&*rings[key as usize].name));
        self.largest.add(key as u32);
        Some(RingId::of(key))
    }

    /// Forget what nobody uses and was recorded longest ago.
    fn forget_one(&mut self) -> bool {
        let unused = self.rings.iter().filter(|(_, ring)| !ring.is_used());
        let Some((key, _)) = unused.min_by_key(|(_, ring)| ring.used) else { return false };
        self.remove(key);
        true
    }

    fn remove_if_unused(&mut self, id: RingId) {
        let ring = &self.rings[id.key()];
        if !ring.is_used() && (ring.on_request || ring.chain.blocks() == 0) {
            self.remove(id.key());
        }
    }

    fn remove(&mut self, key: usize) {
        let mut ring = self.rings.remove(key);
        self.pool.clear(&mut ring.chain);
        self.largest.remove(key as u32);
        self.name_bytes -= ring.name.len();
        let hash = self.hasher.hash_one(&*ring.name);
        if let Ok(entry) = self.by_name.find_entry(hash, |&other| other as usize == key) {
            entry.remove();
        }
    }

    fn complain(&mut self) {
        if self.most_rings > 0 && !std::mem::replace(&mut self.has_complained, true) {
            let count = self.rings.len();
            log::warn!("the frames of {count} devices are recorded, of further ones not (trace_memory)");
        }
    }
}

/// Following.
impl Recorder {
    /// A connection follows a name from now on: what is kept, and then what comes. Whether the connections of
    /// another peer are to be recorded from now on.
    pub(super) fn follow(
        &mut self,
        connection: Seat,
        traced: Traced<'_>,
        detailed: bool,
    ) -> Result<bool, Refusal> {
        self.unfollow(connection, traced);
        let most = MOST_FOLLOWS.min(self.most_rings / RINGS_PER_FOLLOW);
        let name = traced.to_string();
        let id = if self.follows < most { self.ring(&name, true) } else { None };
        let id = id.ok_or(Refusal::Limit(Limit::Traces(most)))?;
        let ring = &mut self.rings[id.key()];
        ring.on_request |= ring.holders == 0 && ring.chain.blocks() == 0;
        ring.followers += 1;
        self.follows += 1;
        let (next, place) = (ring.first, ring.chain.head());
        let tracer = self.tracers.entry(connection).or_default();
        tracer.follows.push(Follow { ring: id, next, place, origin: ring.origin, detailed });
        tracer.become_due(connection, &mut self.due);
        match traced {
            Traced::Peer(peer) => Ok(self.wanted.insert(peer, id).is_none()),
            Traced::Device(_) => Ok(false),
        }
    }

    /// It does so no more. Whether it did.
    pub(super) fn unfollow(&mut self, connection: Seat, traced: Traced<'_>) -> bool {
        let Some(tracer) = self.tracers.get_mut(&connection) else { return false };
        let name = traced.to_string();
        let place = tracer.follows.iter().position(|follow| *self.rings[follow.ring.key()].name == *name);
        let Some(place) = place else { return false };
        let follow = tracer.follows.remove(place);
        if tracer.follows.is_empty() {
            self.tracers.remove(&connection);
        }
        self.end_follow(&follow);
        true
    }

    /// Whether a connection follows anything.
    pub(super) fn is_tracer(&self, connection: Seat) -> bool {
        self.tracers.contains_key(&connection)
    }

    /// A connection ends.
    pub(super) fn unfollow_all(&mut self, connection: Seat) {
        let follows = self.tracers.remove(&connection).map(|tracer| tracer.follows);
        follows.into_iter().flatten().for_each(|follow| self.end_follow(&follow));
    }

    fn end_follow(&mut self, follow: &Follow) {
        self.follows -= 1;
        let ring = &mut self.rings[follow.ring.key()];
        ring.followers -= 1;
        if ring.followers == 0 {
            self.wanted.retain(|_, id| *id != follow.ring);
            self.watched.retain(|_, id| *id != follow.ring);
        }
        self.remove_if_unused(follow.ring);
    }

    /// Connections of a shard with frames to be told since this was asked last.
    pub(super) fn take_due(&mut self, shard: u16, into: &mut Vec<u32>) {
        self.due.flags[usize::from(shard)].store(false, Ordering::SeqCst);
        std::mem::swap(&mut self.due.of[usize::from(shard)], into);
        for &index in into.iter() {
            if let Some(tracer) = self.tracers.get_mut(&Seat { shard, index }) {
                tracer.is_due = false;
            }
        }
    }

    /// Whether a connection has frames to be told.
    pub(super) fn is_behind(&self, connection: Seat) -> bool {
        let Some(tracer) = self.tracers.get(&connection) else { return false };
        tracer.follows.iter().any(|follow| follow.next < self.rings[follow.ring.key()].next)
    }

    /// The next frame that a connection is to be told; those of what it follows in turn.
    pub(super) fn next_frame(
        &mut self,
        connection: Seat,
        name: &mut String,
        bytes: &mut Vec<u8>,
    ) -> Option<Told> {
        let tracer = self.tracers.get_mut(&connection)?;
        for _ in 0..tracer.follows.len() {
            tracer.turn = (tracer.turn + 1) % tracer.follows.len();
            let follow = &mut tracer.follows[tracer.turn];
            let ring = &self.rings[follow.ring.key()];
            if follow.next == ring.next {
                continue;
            }
            let skipped = ring.first.saturating_sub(follow.next);
            if follow.next <= ring.first {
                // What stood before it may be gone, and with it the place behind.
                follow.next = ring.first;
                follow.place = ring.chain.head();
                follow.origin = ring.origin;
            }
            let (time, direction) = loop {
                let Record { time, kind, len } = read_header(&self.pool, &mut follow.place);
                match kind {
                    Kind::Origin => self.pool.read(&mut follow.place, &mut follow.origin.0),
                    Kind::Frame(direction) => {
                        bytes.resize(len, 0);
                        self.pool.read(&mut follow.place, bytes);
                        break (time, direction);
                    }
                }
            };
            follow.next += 1;
            name.clear();
            name.push_str(&ring.name);
            let origin = follow.origin.unpack(&self.schemes);
            return Some(Told { time, direction, origin, skipped, detailed: follow.detailed });
        }
        None
    }
}

/// Connections that are recorded on request.
impl Recorder {
    /// Whether a new connection with that peer is to be watched.
    pub(super) fn wants(&self, peer: SocketAddr) -> bool {
        !self.wanted.is_empty() && self.wanted.contains_key(&peer)
    }

    /// A connection with a wanted peer.
    pub(super) fn watch(&mut self, connection: Seat, peer: SocketAddr) {
        if let Some(&id) = self.wanted.get(&peer) {
            self.watched.insert(connection, id);
        }
    }

    /// The ring of a connection that is recorded on request.
    pub(super) fn watched(&self, connection: Seat) -> Option<RingId> {
        self.watched.get(&connection).copied()
    }

    /// A connection is gone.
    pub(super) fn unwatch(&mut self, connection: Seat) {
        self.watched.remove(&connection);
    }
}

#[cfg(any(test, feature = "simulation"))]
impl Recorder {
    /// Nobody is recorded and nobody follows any more.
    pub(super) fn assert_unused(&self) {
        assert!(self.tracers.is_empty() && self.wanted.is_empty() && self.watched.is_empty());
        assert!(self.rings.iter().all(|(_, ring)| !ring.is_used()) && self.follows == 0);
    }
}

impl Ring {
    fn is_used(&self) -> bool {
        self.holders > 0 || self.followers > 0
    }
}

impl Tracer {
    fn become_due(&mut self, connection: Seat, due: &mut Due) {
        if !std::mem::replace(&mut self.is_due, true) {
            let shard = usize::from(connection.shard);
            due.of[shard].push(connection.index);
            due.flags[shard].store(true, Ordering::SeqCst);
        }
    }
}
