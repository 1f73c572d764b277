//! Changes on their way to subscribers: dealt once a turn where there is room, remembered by tag where there
//! is none.

use super::Engine;
use super::connection::{Connection, Phase, Subscriber};
use super::context::Context;
use super::session::{Change, ConnKey};
use super::shard::Shard;
use crate::tags::TagId;
use crate::tags::value::Sample;

/// Changes handed to sessions, at most, in one turn (and what one more tag's subscribers need); the rest next
/// turn.
pub(super) const DELIVERIES_PER_TURN: usize = 16_384;
/// Tags taken from the dirty set under one lock.
const TAGS_PER_LOCK: usize = 16;
/// Changes told to one connection that was behind, in one go.
const CATCH_UP_PER_TURN: usize = 1_024;
/// A change is told only where so much room is left for each byte that a text may have: it may be written as
/// `\u001f`, and two more leave room for all else.
const CHANGE_ROOM_FACTOR: usize = 8;
/// So that there is room for all else where texts are short.
const LEAST_CHANGE_TEXT_BYTES: usize = 256;

impl Shard {
    /// No update is longer.
    fn change_room(&self) -> usize {
        CHANGE_ROOM_FACTOR * self.tags.settings().max_text.max(LEAST_CHANGE_TEXT_BYTES)
    }

    /// What a subscriber is told of a tag now, besides its changes. Another shard may just have written it:
    /// then it is not told the same once more as a change.
    pub(super) fn sample_to_tell(&self, subscriber: &mut Subscriber, tag: TagId) -> Sample {
        if let Some(sample) = self.system_sample(tag) {
            return sample;
        }
        if self.shared.shards() == 1 {
            return self.tags.read(tag);
        }
        let (sample, change) = self.tags.read_before_change(self.number, tag);
        if let Some(number) = change {
            subscriber.told.insert(tag, number);
        }
        sample
    }
}

impl Engine {
    /// Deal out what has changed.
    pub(super) fn deal_changes(&mut self) {
        if self.shard.subscriptions.is_empty() {
            return;
        }
        let mut tags = std::mem::take(&mut self.dealer.tags);
        while self.dealer.budget > 0 {
            self.shard.tags.take_changes(self.shard.number, TAGS_PER_LOCK, &mut tags);
            if tags.is_empty() {
                break;
            }
            for tag in tags.drain(..) {
                let deliveries = 1 + self.deal(tag);
                self.dealer.budget = self.dealer.budget.saturating_sub(deliveries);
            }
        }
        self.dealer.tags = tags;
    }

    /// Tell every subscriber of a tag that it changed. Returns how many there are.
    fn deal(&mut self, tag: TagId) -> usize {
        let Engine { shard, dealer, .. } = self;
        let (sample, changed) = shard.tags.read_change(shard.number, tag);
        // A reader may have been told of the server's own tags since they were put into the table.
        let sample = shard.system_sample(tag).unwrap_or(sample);
        let mut subscribers = std::mem::take(&mut dealer.subscribers);
        {
            let catalog = shard.tags.catalog();
            shard.subscriptions.for_each_match(
                tag,
                || catalog.name(tag),
                |subscriber, since| {
                    if changed > since {
                        subscribers.push(subscriber);
                    }
                },
            );
        }
        let count = subscribers.len();
        if count > 0 {
            dealer.name.clear();
            shard.tags.push_name(tag, &mut dealer.name);
            dealer.rendering.clear();
            dealer.serial += 1;
        }
        for index in subscribers.drain(..) {
            let index = index as usize;
            let Engine { shard, connections, dealer, .. } = self;
            let connection = &mut connections[index];
            let key = ConnKey::of(index, connection);
            let Connection { link, session, .. } = connection;
            let roomy = link.room() >= shard.change_room();
            // Several of its patterns match, and its session was over with the first.
            let Some(subscriber) = &mut link.subscriber else { continue };
            if std::mem::replace(&mut subscriber.dealt, dealer.serial) == dealer.serial {
                continue;
            }
            if !subscriber.told.is_empty() && subscriber.told.remove(&tag) == Some(changed) {
                continue;
            }
            let short = shard.buffers.are_short();
            if link.phase == Phase::Producing || !subscriber.behind.is_empty() || short {
                subscriber.behind.insert(tag);
                if short {
                    self.starve(index);
                }
                continue;
            }
            if !roomy {
                subscriber.behind.insert(tag);
                continue;
            }
            let change = Change { tag, name: &dealer.name, sample: &sample, rendering: &dealer.rendering };
            let flow = session.on_change(&mut Context { shard, link, key }, &change);
            self.apply_end(index, flow);
            self.queue_flush(index);
        }
        self.dealer.subscribers = subscribers;
        count
    }

    /// Tell a connection that was behind of what it missed, as it is now. Whether it may go on with its
    /// input; if not, it is resumed when there is room.
    pub(super) fn catch_up(&mut self, index: usize) -> bool {
        for _ in 0..CATCH_UP_PER_TURN {
            let Engine { shard, connections, dealer, .. } = self;
            let connection = &mut connections[index];
            let key = ConnKey::of(index, connection);
            let Connection { link, session, .. } = connection;
            if shard.buffers.are_short() {
                self.starve(index);
                return false;
            }
            if link.room() < shard.change_room() {
                return false;
            }
            let Some(subscriber) = &mut link.subscriber else { return true };
            let Some(tag) = subscriber.take_behind() else { return true };
            dealer.name.clear();
            shard.tags.push_name(tag, &mut dealer.name);
            // The subscription that marked the tag may have ended since.
            let matching = shard.subscriptions.matching(tag, || &dealer.name);
            if !matching.iter().any(|id| subscriber.patterns.binary_search(id).is_ok()) {
                continue;
            }
            let sample = shard.sample_to_tell(subscriber, tag);
            dealer.rendering.clear();
            let change = Change { tag, name: &dealer.name, sample: &sample, rendering: &dealer.rendering };
            let flow = session.on_change(&mut Context { shard, link, key }, &change);
            self.apply_end(index, flow);
            if !self.connections[index].link.is_open() {
                return true;
            }
        }
        self.queue_resume(index);
        false
    }
}
