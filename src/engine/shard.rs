//! What all connections of a shard share: settings, the clocks of this turn, tags, subscriptions, buffers,
//! and what a session's call left to be done.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::buffers::Buffers;
use super::connection::{Link, Subscriber};
use super::dials::Dials;
use super::pending_writes::{PendingWrites, Question, Ticket, WriteOrder};
use super::session::{Acceptor, ConnKey, Session, Transport};
use super::shared::{Letter, Shared};
use super::system::SystemTags;
use super::trace::Seat;
use crate::base::bell::Bell;
use crate::base::time::{Now, Tick};
use crate::base::timers::Timers;
use crate::metrics::Metrics;
use crate::security::Grants;
use crate::tags::{Holder, PatternId, Refusal, SourceId, Speaker, Subscriptions, TagId, Tags};

/// How a server is set.
pub struct Settings {
    /// Its name, for people.
    pub name: String,
    /// How many connections it serves at once.
    pub max_connections: usize,
    /// How many subscriptions a connection may have.
    pub max_subscriptions: usize,
    /// How many peers that send datagrams are remembered.
    pub max_udp_peers: usize,
    /// What all connections' buffers together may hold, in bytes.
    pub buffer_memory: usize,
    /// What the flight recorder may hold, in bytes; 0 is none.
    pub trace_memory: usize,
    /// How long a peer may take nothing of what it is owed.
    pub write_stall: Duration,
    /// The listeners, in the order of the configuration.
    pub listeners: Vec<Listener>,
    /// The memory that the process holds, in bytes; the engine opens no file itself.
    pub memory_probe: fn() -> u64,
}

/// What the buffers of one shard may hold, at least: some replies at once.
pub const LEAST_BUFFER_BYTES: usize = 256 * 1024;

impl Settings {
    /// What the buffers of each of so many shards may hold, in bytes.
    pub fn buffer_memory_of_each(&self, shards: usize) -> usize {
        (self.buffer_memory / shards).max(LEAST_BUFFER_BYTES.min(self.buffer_memory))
    }

    pub(super) fn listener(&self, link: &Link) -> Option<&Listener> {
        link.listener.map(|listener| &self.listeners[usize::from(listener)])
    }
}

/// What the engine knows of a listener.
pub struct Listener {
    /// The scheme of its protocol, as frames that are recorded name it.
    pub scheme: &'static str,
    /// What carries its protocol.
    pub transport: Transport,
    /// Meets its peers.
    pub acceptor: Arc<dyn Acceptor>,
    /// What they may do.
    pub grants: Grants,
    /// Connections that it serves at once, besides the limit of all.
    pub max_connections: Option<usize>,
    /// A connection from which nothing comes for so long is closed.
    pub idle_timeout: Option<Duration>,
    /// A frame that was begun must end within this time.
    pub frame_timeout: Duration,
    /// A value written here that is not written again in this time turns uncertain.
    pub stale_after: Option<Duration>,
}

/// Something that a call into a session left for the engine to do with another connection, at the end of the
/// turn.
pub(super) enum Errand {
    /// Give a driver its order.
    Order(ConnKey, WriteOrder),
    /// Tell who asked what became of a write.
    Settled(ConnKey, Ticket, Result<(), Refusal>),
    /// Give a driver a question.
    Question(ConnKey, Question),
    /// Tell who asked what the device answered.
    Answered(ConnKey, Ticket, Result<Box<[u8]>, Refusal>),
}

/// Values that a lost source leaves behind, to turn uncertain; worked off in slices.
pub(super) struct Doubt {
    pub(super) source: SourceId,
    /// Number of the last write before the source was lost.
    pub(super) up_to: u64,
    pub(super) tags: Vec<TagId>,
}

/// Tags that turn uncertain, at most, in one turn.
pub(super) const DOUBTS_PER_TURN: usize = 4_096;

pub(super) struct Shard {
    pub(super) number: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) settings: Arc<Settings>,
    pub(super) now: Now,
    pub(super) started: Tick,
    pub(super) tags: Arc<Tags>,
    pub(super) system: SystemTags,
    pub(super) subscriptions: Subscriptions,
    pub(super) buffers: Buffers,
    pub(super) metrics: Arc<Metrics>,
    pub(super) pending_writes: PendingWrites,
    /// The driver's connection of each polled device that has one.
    pub(super) drivers: Vec<Option<ConnKey>>,
    pub(super) errands: VecDeque<Errand>,
    /// Connections whose device another one speaks for since the call into its session.
    pub(super) taken_over: Vec<ConnKey>,
    pub(super) doubts: VecDeque<Doubt>,
    /// When the values of this shard's writers are too old.
    pub(super) stale: Timers,
    pub(super) turns: TurnTimes,
    /// Connections to be made.
    pub(super) dials: Dials,
    /// Sessions without a peer that have no place yet.
    pub(super) homeless: Vec<Box<dyn Session>>,
    /// Orders and questions that are pending at each other shard.
    pub(super) elsewhere: Box<[usize]>,
    /// Room for the letters that are taken from the mailbox.
    pub(super) letters: Vec<Letter>,
}

impl Shard {
    /// Wakes this shard.
    pub(super) fn bell(&self) -> &Bell {
        self.tags.bell(self.number)
    }

    /// Names a connection of any shard.
    pub(super) fn holder(&self, key: ConnKey) -> Holder {
        Holder(((self.number as u64) << 56) | (u64::from(key.index) << 32) | u64::from(key.serial))
    }

    /// Another connection speaks now for the device of the one that `holder` names; that one is closed.
    pub(super) fn take_over_from(&mut self, holder: Holder) {
        let key = ConnKey { index: (holder.0 >> 32) as u32 & 0x00ff_ffff, serial: holder.0 as u32 };
        let shard = (holder.0 >> 56) as usize;
        if shard == self.number {
            self.taken_over.push(key);
        } else {
            // Where the shard is over, so is the connection.
            let _ = self.shared.post(shard, Letter::TakenOver(key));
        }
    }

    /// The connection, as who speaks for a device.
    pub(super) fn speaker(&self, key: ConnKey, source: SourceId) -> Speaker {
        Speaker { source, holder: self.holder(key) }
    }

    /// The connection, as the flight recorder knows it.
    pub(super) fn seat(&self, index: u32) -> Seat {
        Seat { shard: self.number as u16, index }
    }

    /// Let what was left behind by a source turn uncertain: those tags, where write number `up_to` or an
    /// earlier one was the last.
    pub(super) fn doubt(&mut self, source: SourceId, left: Option<(Vec<TagId>, u64)>) {
        let Some((mut tags, up_to)) = left else { return };
        if !tags.is_empty() {
            // A hash set gives them in any order; the order in which subscribers hear of them should be the
            // same again.
            tags.sort_unstable();
            self.doubts.push_back(Doubt { source, up_to, tags });
        }
    }

    /// Work off some doubts and let overdue values turn uncertain.
    pub(super) fn doubt_some(&mut self) {
        let mut budget = DOUBTS_PER_TURN;
        while let Some(doubt) = self.doubts.front_mut() {
            let from = doubt.tags.len() - budget.min(doubt.tags.len());
            budget -= doubt.tags.len() - from;
            for tag in doubt.tags.drain(from..) {
                self.tags.degrade(tag, doubt.source, doubt.up_to);
            }
            if !doubt.tags.is_empty() {
                return;
            }
            self.doubts.pop_front();
        }
        while budget > 0 {
            let Some(number) = self.stale.pop_due(self.now.tick) else { return };
            budget -= 1;
            if let Some(later) = self.tags.expire(TagId(number), self.now.tick) {
                self.stale.arm(number, later);
            }
        }
    }

    /// A connection does not want to be told any more of what matches a pattern.
    pub(super) fn end_subscription(&mut self, index: u32, pattern: PatternId) {
        self.subscriptions.remove(index, pattern);
        self.metrics.subscriptions.set(self.subscriptions.count() as u64);
        if self.subscriptions.is_empty() {
            self.tags.want_changes(self.number, false);
        }
    }

    /// A conversation is over: end what it had begun elsewhere.
    pub(super) fn part_with(
        &mut self,
        key: ConnKey,
        source: Option<SourceId>,
        subscriber: Option<Box<Subscriber>>,
        is_tracer: bool,
        drives: bool,
    ) {
        for pattern in subscriber.into_iter().flat_map(|subscriber| subscriber.patterns) {
            self.end_subscription(key.index, pattern);
        }
        if is_tracer {
            self.shared.recorder().unfollow_all(self.seat(key.index));
        }
        if let Some(source) = source {
            let left = self.tags.leave(self.speaker(key, source));
            self.doubt(source, left);
        }
        if drives {
            self.detach_all(key);
        }
    }
}

/// How long the last turns took.
#[derive(Default)]
pub(super) struct TurnTimes {
    /// Sixteen times the mean: a shift-free moving average.
    mean_16_us: u64,
    max_us: u64,
    max_before_us: u64,
    max_until: Tick,
}

/// The longest turn is forgotten after this time, or twice this time.
const TURN_MAX_SPAN: Duration = Duration::from_secs(5);

impl TurnTimes {
    /// A turn took so long; says the mean and the longest.
    pub(super) fn note(&mut self, now: Tick, took: Duration) -> (u64, u64) {
        let took_us = took.as_micros() as u64;
        self.mean_16_us = self.mean_16_us - self.mean_16_us / 16 + took_us;
        if now >= self.max_until {
            self.max_until = now + TURN_MAX_SPAN;
            self.max_before_us = std::mem::take(&mut self.max_us);
        }
        self.max_us = self.max_us.max(took_us);
        (self.mean_16_us / 16, self.max_us.max(self.max_before_us))
    }
}
