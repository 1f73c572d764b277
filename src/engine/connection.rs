//! The record of one connection: what the engine must remember between two events. Kept small: an idle one is
//! all that a quiet device costs.

use std::net::SocketAddr;

use hashbrown::HashMap;

use super::session::{ConnKey, End, Session};
use super::shard::Settings;
use super::trace::RingId;
use crate::base::time::Tick;
use crate::security::Rights;
use crate::tags::{PatternId, SourceId, TagId, TagSet};

/// Owed output at which a connection is no longer read and nothing more is produced for it.
pub const HIGH_WATER_BYTES: usize = 64 * 1024;
/// Owed output at which it goes on.
pub const LOW_WATER_BYTES: usize = 16 * 1024;
/// How long the peer may take to close its side after we have closed ours.
pub const LINGER_MS: u64 = 1_000;
/// How long a connection of ours may take to be made.
pub const DIAL_MS: u64 = 5_000;

pub(super) struct Connection {
    pub(super) serial: u32,
    pub(super) link: Link,
    pub(super) session: Box<dyn Session>,
}

/// The engine's side of a connection, apart from the session so that a session can be called with it.
pub(super) struct Link {
    pub(super) phase: Phase,
    pub(super) flags: Flags,
    /// What the peer may do.
    pub(super) rights: Rights,
    /// The place of its listener in the settings; none if we dialled.
    pub(super) listener: Option<u16>,
    /// Who the peer says it is (`HELLO`).
    pub(super) source: Option<SourceId>,
    /// The device under whose name its frames are recorded.
    pub(super) ring: Option<RingId>,
    /// What the session has not finished with: the beginning of a frame, or frames that wait for room.
    pub(super) input: Vec<u8>,
    /// What is owed to the peer.
    pub(super) output: Vec<u8>,
    /// When bytes came last.
    pub(super) heard: Tick,
    /// Since when the frame that `input` begins is incomplete.
    pub(super) frame_since: Tick,
    /// Since when bytes are owed and none was taken; while dialling or lingering, until when.
    pub(super) stalled_since: Tick,
    /// Only while it has a subscription.
    pub(super) subscriber: Option<Box<Subscriber>>,
    /// Only where the peer sends datagrams.
    pub(super) cuts: Option<Box<Cuts>>,
    pub(super) peer: SocketAddr,
}

/// The places where the output is cut into datagrams.
#[derive(Default)]
pub(super) struct Cuts(pub(super) Vec<usize>);

/// Where a conversation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// We wait for the connection to be made.
    Dialling,
    /// Input is wanted.
    Reading,
    /// The session has more to say first (`Flow::More`).
    Producing,
    /// The session waits for a pending write (`Flow::Hold`).
    Holding,
    /// The session is over; what is owed is still sent.
    Closing,
    /// The session is over; what is owed is forgotten.
    Aborting,
    /// All is sent, our side is shut down; what still comes is discarded.
    Lingering,
    /// Closed; leaves the slab at the end of the turn, so that no stale event meets a reused slot.
    Gone,
}

/// One bit each would save four bytes and cost clarity.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flags {
    /// The wire may have bytes: no `WouldBlock` since the last event.
    pub(super) readable: bool,
    /// The wire took all it was given since the last event.
    pub(super) writable: bool,
    /// An event said that the peer has closed its side: read until the end shows up.
    pub(super) read_closed: bool,
    /// The end has shown up.
    pub(super) at_end: bool,
    /// `input` holds no whole frame.
    pub(super) partial: bool,
    pub(super) in_flush: bool,
    pub(super) in_resume: bool,
    /// Reading or producing stopped for want of buffer memory.
    pub(super) starved: bool,
    /// Its session is or was a driver: it may have orders.
    pub(super) drives: bool,
    /// There is no peer and no socket.
    pub(super) is_resident: bool,
    /// It was one too many: it hears that, and takes nobody's place.
    pub(super) is_turned_away: bool,
    /// Its frames are recorded, under a device's name or on request.
    pub(super) is_recorded: bool,
    /// It follows what others record; what it is sent is not recorded, or it might follow itself for ever.
    pub(super) is_tracer: bool,
    /// What its session is fed just now is not to be recorded.
    pub(super) is_secret: bool,
}

/// What a connection with subscriptions has besides.
#[derive(Default)]
pub(super) struct Subscriber {
    pub(super) patterns: Vec<PatternId>,
    /// Changed tags that there was no room to tell of.
    pub(super) behind: TagSet,
    /// Changes that it was told of before they were dealt out, by their numbers.
    pub(super) told: HashMap<TagId, u64>,
    /// Where to go on in `behind`, so that low ids do not starve high ones.
    pub(super) cursor: u32,
    /// The last change that was dealt to it: a change that several of its patterns match is dealt once.
    pub(super) dealt: u64,
}

impl Subscriber {
    /// The next tag to tell of, going round.
    pub(super) fn take_behind(&mut self) -> Option<TagId> {
        let next = self.behind.next_from(TagId(self.cursor));
        let tag = next.or_else(|| self.behind.next_from(TagId(0)))?;
        self.behind.remove(tag);
        self.cursor = tag.0 + 1;
        Some(tag)
    }
}

/// An idle connection costs little more.
const _: () = assert!(size_of::<Connection>() <= 176);

impl Link {
    pub(super) fn new(peer: SocketAddr, listener: Option<u16>, now: Tick) -> Link {
        Link {
            phase: Phase::Reading,
            // A new socket can be written to; the first event may come late or say only that it can be read.
            flags: Flags { writable: true, ..Flags::default() },
            rights: Rights::ALL,
            listener,
            source: None,
            ring: None,
            input: Vec::new(),
            output: Vec::new(),
            heard: now,
            frame_since: Tick::NEVER,
            stalled_since: Tick::NEVER,
            subscriber: None,
            cuts: None,
            peer,
        }
    }

    /// Whether the session is still in conversation.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Reading | Phase::Producing | Phase::Holding)
    }

    /// Bytes that may still be appended to the output before the high-water mark.
    pub(super) fn room(&self) -> usize {
        HIGH_WATER_BYTES.saturating_sub(self.output.len())
    }

    /// Whether what the peer sends is read when it comes.
    pub(super) fn is_read(&self) -> bool {
        let waits = self.room() == 0 || self.is_behind() || self.flags.starved;
        self.phase == Phase::Reading && !waits
    }

    pub(super) fn is_behind(&self) -> bool {
        self.subscriber.as_ref().is_some_and(|subscriber| !subscriber.behind.is_empty())
    }

    /// When something is due of the engine's own: idleness, an unfinished frame, a stall, the end of
    /// lingering.
    pub(super) fn deadline(&self, settings: &Settings) -> Tick {
        let stall = self.stalled_since + settings.write_stall;
        match self.phase {
            Phase::Dialling | Phase::Lingering => return self.stalled_since,
            Phase::Closing | Phase::Aborting | Phase::Gone => return stall,
            Phase::Reading | Phase::Producing | Phase::Holding => {}
        }
        let Some(listener) = settings.listener(self) else { return stall };
        let idle = listener.idle_timeout.map_or(Tick::NEVER, |idle| self.heard + idle);
        let frame = self.frame_since + listener.frame_timeout;
        stall.min(idle).min(frame)
    }
}

impl ConnKey {
    pub(super) fn of(index: usize, connection: &Connection) -> ConnKey {
        ConnKey { index: index as u32, serial: connection.serial }
    }
}

impl End {
    /// Whether the peer is to blame, and an operator may want to know.
    pub(super) fn is_fault(self) -> bool {
        matches!(self, End::Violation | End::FrameTimeout | End::Slow | End::Memory)
    }
}
