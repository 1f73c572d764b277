//! All that a session may ask of the server.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::connection::Link;
use super::orders::Outcome;
use super::pending_writes::{Driven, Ticket};
use super::session::{ConnKey, Endpoint, Session};
use super::shard::Shard;
use super::trace::{Direction, Origin, Traced};
use crate::base::time::{Now, Tick, Timestamp};
use crate::tags::name::{DeviceName, Pattern, TagName};
use crate::tags::value::{Input, Quality, Sample};
use crate::tags::{Admitted, Limit, OwnerId, Refusal, Scan, SourceId, TagId, Tags, Write};

/// A session's view of the server during one call: the clocks, the tags, its own output.
pub struct Context<'a> {
    pub(super) shard: &'a mut Shard,
    pub(super) link: &'a mut Link,
    pub(super) key: ConnKey,
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is done: every connection's read sees it, or something newer.
    Done,
    /// It is on its way to a device; `on_write_done` tells what became of it.
    Pending(Ticket),
}

/// Figures about the server, for people.
#[derive(Clone, Debug)]
pub struct Info {
    /// The configured name.
    pub name: String,
    /// Time since start.
    pub uptime: Duration,
    /// Open connections.
    pub connections: u64,
    /// Tags, without the server's own.
    pub tags: usize,
    /// Requests since start.
    pub requests: u64,
    /// Subscriptions of all connections.
    pub subscriptions: u64,
    /// Bytes read since start.
    pub bytes_in: u64,
    /// Bytes written since start.
    pub bytes_out: u64,
    /// Resident memory of the process.
    pub memory_bytes: u64,
}

impl Context<'_> {
    /// The clocks, as they stood at the start of the turn.
    pub fn now(&self) -> Now {
        self.shard.now
    }

    /// When bytes came from the peer last.
    pub fn heard(&self) -> Tick {
        self.link.heard
    }

    /// How many bytes may be put before the high-water mark. A reply that might not fit is not begun: the
    /// session returns `Flow::More` and goes on in `on_room`.
    pub fn room(&self) -> usize {
        if self.shard.buffers.are_short() { 0 } else { self.link.room() }
    }

    /// How long a text value may be, in bytes.
    pub fn max_text(&self) -> usize {
        self.shard.tags.settings().max_text
    }

    /// Append bytes to what is sent at the end of the turn.
    pub fn put(&mut self, bytes: &[u8]) {
        self.shard.buffers.append(&mut self.link.output, bytes);
    }

    /// What is owed to the peer: put, and not sent yet.
    pub fn owed(&self) -> &[u8] {
        &self.link.output
    }

    /// Take back what was put beyond the first `bytes` of what is owed.
    pub fn take_back(&mut self, bytes: usize) {
        self.link.output.truncate(bytes);
    }

    /// Where the peer sends datagrams: a datagram of ours ends after the first `bytes` of what is owed. The
    /// last one ends by itself.
    pub fn cut(&mut self, bytes: usize) {
        if let Some(cuts) = &mut self.link.cuts {
            cuts.0.push(bytes);
        }
    }

    /// Connect to `to` at that time, and let `session` speak there; it hears of a failure by `on_end`.
    pub fn dial_at(&mut self, at: Tick, to: Endpoint, session: Box<dyn Session>) {
        self.shard.dials.add(at, to, session);
    }

    /// Count a frame that was dropped because it is damaged, or no frame.
    pub fn count_damaged(&mut self) {
        self.shard.metrics.damaged.add(1);
    }

    /// Count a request.
    pub fn count_request(&mut self) {
        self.shard.metrics.requests.add(1);
    }

    /// Whether the peer may read tags. Calls that find tags see to it; who finds them in another way asks.
    pub fn may_read(&self) -> bool {
        self.link.rights.read
    }

    /// Whether the peer may write tags. All calls that write see to it.
    pub fn may_write(&self) -> bool {
        self.link.rights.write
    }

    /// The server's configured name.
    pub fn server_name(&self) -> &str {
        &self.shard.settings.name
    }

    /// The tag of that name.
    pub fn find(&self, name: TagName<'_>) -> Result<TagId, Refusal> {
        self.check_may_read()?;
        self.shard.tags.find_or_name(name, self.shard.now.wall)
    }

    fn check_may_read(&self) -> Result<(), Refusal> {
        if self.may_read() { Ok(()) } else { Err(Refusal::Denied) }
    }

    fn check_may_write(&self) -> Result<(), Refusal> {
        if self.may_write() { Ok(()) } else { Err(Refusal::Denied) }
    }

    /// The current sample.
    pub fn read(&self, tag: TagId) -> Sample {
        self.shard.system_sample(tag).unwrap_or_else(|| self.shard.tags.read(tag))
    }

    /// Write a sample to the tag `name`: of its declared type, within its limits; created if it does not
    /// exist and that is allowed. `time` is now unless given. A tag that a polled device owns, or that shows
    /// a cell of a memory, takes a value only.
    pub fn write(
        &mut self,
        name: TagName<'_>,
        mut value: Input<'_>,
        quality: Option<Quality>,
        time: Option<Timestamp>,
    ) -> Result<Written, Refusal> {
        self.check_may_write()?;
        let admitted = self.shard.tags.admit(name, &mut value, self.shard.now.wall)?;
        self.carry_out(admitted, value, quality, time)
    }

    /// Whether `value` could be written to `tag` now; what the tag's type makes of it is left in `value`. For
    /// who writes several tags or none.
    pub fn check(&self, tag: TagId, value: &mut Input<'_>) -> Result<Admitted, Refusal> {
        self.check_may_write()?;
        let admitted = self.shard.tags.admit_to(tag, value)?;
        match admitted.owner {
            Some(owner) => self.shard.check_order(owner, tag, value).map(|()| admitted),
            None => Ok(admitted),
        }
    }

    /// Write what was checked.
    pub fn write_checked(&mut self, admitted: Admitted, value: Input<'_>) -> Result<Written, Refusal> {
        self.carry_out(admitted, value, None, None)
    }

    fn carry_out(
        &mut self,
        admitted: Admitted,
        value: Input<'_>,
        quality: Option<Quality>,
        time: Option<Timestamp>,
    ) -> Result<Written, Refusal> {
        let Admitted { tag, owner, cell, stale_after } = admitted;
        let is_value_only = quality.is_none() && time.is_none() && !matches!(value, Input::Null);
        if (owner.is_some() || cell.is_some()) && !is_value_only {
            return Err(Refusal::ValueOnly);
        }
        let figure = self.shard.figure(tag);
        // What goes to the table is looked at there.
        if (owner.is_some() || figure.is_some()) && !self.speaks() {
            return Err(self.is_taken_over());
        }
        if let Some(owner) = owner {
            let order = self.shard.order(self.key, owner, tag, value.into_value());
            return order.map(Written::Pending);
        }
        if let Some((figures, number)) = figure {
            return figures.write(number, &value).map(|()| Written::Done);
        }
        let quality = quality.unwrap_or(Quality::Good);
        let listener = self.shard.settings.listener(self.link);
        let of_listener = listener.and_then(|listener| listener.stale_after);
        let stale_after = match (stale_after, of_listener) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let now = self.shard.now;
        let stale_at = stale_after.map_or(Tick::NEVER, |span| now.tick + span);
        let time = time.unwrap_or(now.wall);
        let source = self.link.source.map(|source| self.shard.speaker(self.key, source));
        let write = Write { value, quality, time, source, stale_at };
        if !self.shard.tags.write(admitted, now.tick, write) {
            return Err(self.is_taken_over());
        }
        if stale_at < Tick::NEVER {
            self.shard.stale.arm_no_later(tag.0, stale_at);
        }
        Ok(Written::Done)
    }

    /// Whether the connection still speaks for its device, if it is one's.
    fn speaks(&self) -> bool {
        let speaker = self.link.source.map(|source| self.shard.speaker(self.key, source));
        speaker.is_none_or(|speaker| self.shard.tags.is_speaker(speaker))
    }

    /// It was told so by a letter that is still under way.
    fn is_taken_over(&mut self) -> Refusal {
        self.shard.taken_over.push(self.key);
        Refusal::TakenOver
    }

    /// Ask a polled device something in its own language; `on_answer` tells what it said. An answer that it
    /// gave to the same request will do if it is younger than `max_age`. What the bytes read or write only
    /// the protocol knows, so it sees to it that the peer [may](Self::may_read).
    pub fn ask(&mut self, owner: OwnerId, bytes: Box<[u8]>, max_age: Duration) -> Result<Ticket, Refusal> {
        self.shard.question(self.key, owner, bytes, max_age)
    }

    /// Begin to look for the tags that match.
    pub fn begin_scan(&self, pattern: Pattern<'_>) -> Result<Scan, Refusal> {
        self.check_may_read()?;
        self.name_cell(pattern);
        Ok(Scan::default())
    }

    /// Look for more tags that match; what is found is in byte order of the names. A slice at a time, so that
    /// a pattern that matches little of much does not hold up others.
    pub fn scan(&self, pattern: Pattern<'_>, scan: &mut Scan) {
        self.shard.tags.scan(pattern, scan);
    }

    /// A pattern may name cells of a memory.
    fn name_cell(&self, pattern: Pattern<'_>) {
        match pattern.as_name() {
            Some(name) => {
                // There may be no such tag yet.
                let _ = self.shard.tags.find_or_name(name, self.shard.now.wall);
            }
            None => self.shard.tags.name_cells(pattern, self.shard.now.wall),
        }
    }

    /// The shared tags, for what is formatted from them: names, declarations, sources.
    pub fn tags(&self) -> &Tags {
        &self.shard.tags
    }

    /// Be told of the changes of tags that match, from now on.
    pub fn subscribe(&mut self, pattern: Pattern<'_>) -> Result<(), Refusal> {
        self.check_may_read()?;
        self.name_cell(pattern);
        let most = self.shard.settings.max_subscriptions;
        let held = self.link.subscriber.as_ref().map_or(0, |subscriber| subscriber.patterns.len());
        if held >= most && !self.is_subscribed(pattern) {
            return Err(Refusal::Limit(Limit::Subscriptions(most)));
        }
        if pattern.is_system() {
            self.shard.refresh_system_tags_once();
        }
        let since = self.shard.tags.last_number();
        let first = self.shard.subscriptions.is_empty();
        let (id, added) = self.shard.subscriptions.add(self.key.index, pattern, since);
        if added.is_new() {
            let patterns = &mut self.link.subscriber.get_or_insert_default().patterns;
            let place = patterns.binary_search(&id).expect_err("a new subscription is not held yet");
            patterns.insert(place, id);
            self.shard.metrics.subscriptions.set(self.shard.subscriptions.count() as u64);
        }
        if first {
            self.shard.tags.want_changes(self.shard.number, true);
        }
        Ok(())
    }

    fn is_subscribed(&self, pattern: Pattern<'_>) -> bool {
        let id = self.shard.subscriptions.find(pattern.as_str());
        let subscriber = self.link.subscriber.as_ref();
        id.is_some_and(|id| {
            subscriber.is_some_and(|subscriber| subscriber.patterns.binary_search(&id).is_ok())
        })
    }

    /// End a subscription.
    pub fn unsubscribe(&mut self, pattern: Pattern<'_>) -> Result<(), Refusal> {
        let id = self.shard.subscriptions.find(pattern.as_str());
        let held = self.link.subscriber.as_mut().zip(id).and_then(|(subscriber, id)| {
            let place = subscriber.patterns.binary_search(&id).ok()?;
            Some(subscriber.patterns.remove(place))
        });
        let id = held.ok_or(Refusal::NoSuchSubscription)?;
        self.shard.end_subscription(self.key.index, id);
        if let Some(subscriber) = &mut self.link.subscriber {
            // What it was told of that pattern's tags will not be dealt to it any more.
            subscriber.told.clear();
            if subscriber.patterns.is_empty() {
                self.link.subscriber = None;
            }
        }
        Ok(())
    }

    /// The current sample, which the peer is told of as part of a reply: the change that may be waiting for
    /// this connection is known then.
    pub fn read_to_tell(&mut self, tag: TagId) -> Sample {
        let Some(subscriber) = &mut self.link.subscriber else { return self.read(tag) };
        subscriber.behind.remove(tag);
        self.shard.sample_to_tell(subscriber, tag)
    }

    /// The peer says which device it is. Another connection that said so before is closed; its tags stay as
    /// they are. `None` if this connection has said it before.
    pub fn introduce(&mut self, device: DeviceName<'_>) -> Option<SourceId> {
        if self.link.source.is_some() {
            return None;
        }
        let holder = self.shard.holder(self.key);
        let (source, before) = self.shard.tags.take_over(device.as_str(), holder);
        self.link.source = Some(source);
        self.record_as(device);
        if let Some(before) = before {
            self.shard.take_over_from(before);
        }
        Some(source)
    }

    /// The device at the other end is silent: what it wrote last turns uncertain.
    pub fn doubt_own_tags(&mut self) {
        if let Some(source) = self.link.source {
            let left = self.shard.tags.fall_silent(self.shard.speaker(self.key, source));
            self.shard.doubt(source, left);
        }
    }

    /// The frames of this connection are recorded under the device's name from now on: what is sent to it,
    /// and what the session finishes with, in the pieces in which it does. For connections that one device
    /// has to itself; [`introduce`](Self::introduce) sees to it by itself.
    pub fn record_as(&mut self, device: DeviceName<'_>) {
        let mut recorder = self.shard.shared.recorder();
        if let Some(before) = self.link.ring.take() {
            recorder.release(before);
        }
        self.link.ring = recorder.attach(device);
        self.link.flags.is_recorded |= self.link.ring.is_some();
    }

    /// Record a frame under a device's name: for connections that several devices share, frame by frame.
    /// `scheme` is that of the protocol in which we ask.
    pub fn trace(
        &mut self,
        device: DeviceName<'_>,
        scheme: &'static str,
        direction: Direction,
        frame: &[u8],
    ) {
        let origin = Origin { scheme, we_ask: true, peer: self.link.peer, serial: self.key.serial };
        let Shard { shared, now, .. } = &*self.shard;
        let is_followed = {
            let mut recorder = shared.recorder();
            let ring = recorder.of_device(device);
            ring.is_some_and(|ring| recorder.record(ring, now.wall, &origin, direction, frame))
        };
        if is_followed {
            shared.ring_for_frames();
        }
    }

    /// There is a secret in what this call was given: it is not recorded.
    pub fn keep_secret(&mut self) {
        self.link.flags.is_secret = true;
    }

    /// Be told the frames of a device or of the connection with a peer: those that are kept, and then each
    /// that is recorded. Whether there is such a device or connection does not matter: it may come. Asked for
    /// a second time it begins anew. `detailed` is given back with each frame.
    pub fn follow(&mut self, traced: Traced<'_>, detailed: bool) -> Result<(), Refusal> {
        self.check_may_read()?;
        let seat = self.shard.seat(self.key.index);
        let has_new_peer = self.shard.shared.recorder().follow(seat, traced, detailed)?;
        if has_new_peer {
            self.shard.shared.look_for_wanted();
        }
        self.link.flags.is_tracer = true;
        Ok(())
    }

    /// Be told no more of them. Whether they were followed.
    pub fn unfollow(&mut self, traced: Traced<'_>) -> bool {
        let seat = self.shard.seat(self.key.index);
        let mut recorder = self.shard.shared.recorder();
        let was_followed = recorder.unfollow(seat, traced);
        self.link.flags.is_tracer = recorder.is_tracer(seat);
        was_followed
    }

    /// Drivers: orders for the tags of `owner` come to this connection from now on. What is known of the
    /// `device` is the same for as long as the server runs: the first time counts.
    pub fn attach(&mut self, owner: OwnerId, device: Arc<dyn Driven>) {
        self.shard.attach(owner, self.key, device);
        self.link.flags.drives = true;
    }

    /// Drivers: what the device says that a tag is.
    pub fn report(&mut self, tag: TagId, value: Input<'_>, quality: Quality, time: Timestamp) {
        self.shard.tags.store(tag, Write { value, quality, time, source: None, stale_at: Tick::NEVER });
    }

    /// Drivers: what the device said last of a tag is in doubt.
    pub fn degrade(&mut self, tag: TagId) {
        self.shard.tags.degrade_now(tag);
    }

    /// Let a session live without a peer, for what it has to do by itself; it ends when it closes, or when
    /// the server stops.
    pub fn house(&mut self, session: Box<dyn Session>) {
        self.shard.homeless.push(session);
    }

    /// Drivers: what became of an order. Settling one twice, or after the connection that asked is gone, does
    /// nothing.
    pub fn settle(&mut self, ticket: Ticket, result: Result<(), Refusal>) {
        self.shard.settle(ticket, Outcome::Settled(result));
    }

    /// Drivers: what the device answered to a question, or why nothing. As with [`settle`](Self::settle), the
    /// second time does nothing.
    pub fn answer(&mut self, ticket: Ticket, result: Result<&[u8], Refusal>) {
        self.shard.settle(ticket, Outcome::Answered(result.map(Box::from)));
    }

    /// Figures about the server.
    pub fn info(&self) -> Info {
        let Shard { shared, settings, now, started, tags, .. } = &*self.shard;
        Info {
            name: settings.name.clone(),
            uptime: now.tick - *started,
            connections: shared.total(|metrics| &metrics.connections),
            tags: tags.len(),
            requests: shared.total(|metrics| &metrics.requests),
            subscriptions: shared.total(|metrics| &metrics.subscriptions),
            bytes_in: shared.total(|metrics| &metrics.bytes_in),
            bytes_out: shared.total(|metrics| &metrics.bytes_out),
            memory_bytes: (settings.memory_probe)(),
        }
    }
}

/// Formatted text goes to the output without a detour.
impl fmt::Write for Context<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text.as_bytes());
        Ok(())
    }
}
