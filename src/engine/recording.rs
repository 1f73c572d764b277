//! What connections record, and recorded frames on their way to those who follow them.

use super::Engine;
use super::connection::{Connection, LOW_WATER_BYTES, Phase};
use super::context::Context;
use super::session::ConnKey;
use super::trace::{Direction, Frame, Origin, Told};

/// Frames told to one connection in one go.
const FRAMES_AT_ONCE: usize = 256;

impl Engine {
    /// A session has finished with bytes.
    pub(super) fn record_input(&mut self, index: usize, bytes: &[u8]) {
        self.record(index, Direction::In, bytes);
    }

    /// The wire has taken the first `count` bytes of what is owed.
    pub(super) fn record_output(&mut self, index: usize, count: usize) {
        let output = std::mem::take(&mut self.connections[index].link.output);
        self.record_sent(index, &output[..count]);
        self.connections[index].link.output = output;
    }

    /// The wire has taken bytes.
    pub(super) fn record_sent(&mut self, index: usize, bytes: &[u8]) {
        if !self.connections[index].link.flags.is_tracer {
            self.record(index, Direction::Out, bytes);
        }
    }

    /// A conversation is over: what came and was not finished with may be the reason.
    pub(super) fn record_rest(&mut self, index: usize) {
        let input = std::mem::take(&mut self.connections[index].link.input);
        self.record(index, Direction::In, &input);
        self.connections[index].link.input = input;
    }

    fn record(&mut self, index: usize, direction: Direction, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let Engine { shard, connections, .. } = self;
        let Connection { serial, link, session } = &mut connections[index];
        let mut recorder = shard.shared.recorder();
        let watched = recorder.watched(shard.seat(index as u32)).filter(|ring| link.ring != Some(*ring));
        let origin = match session.asks_in() {
            Some(scheme) => Origin { scheme, we_ask: true, peer: link.peer, serial: *serial },
            None => {
                let scheme = shard.settings.listener(link).map_or("", |listener| listener.scheme);
                Origin { scheme, we_ask: false, peer: link.peer, serial: *serial }
            }
        };
        let mut is_followed = false;
        for ring in link.ring.into_iter().chain(watched) {
            is_followed |= recorder.record(ring, shard.now.wall, &origin, direction, bytes);
        }
        drop(recorder);
        if is_followed {
            shard.shared.ring_for_frames();
        }
    }

    /// A connection is gone.
    pub(super) fn end_recording(&mut self, index: usize) {
        let Engine { shard, connections, .. } = self;
        let link = &mut connections[index].link;
        if link.flags.is_recorded {
            let mut recorder = shard.shared.recorder();
            recorder.unwatch(shard.seat(index as u32));
            if let Some(ring) = link.ring.take() {
                recorder.release(ring);
            }
        }
    }

    /// Record a connection whose peer somebody follows.
    pub(super) fn watch(&mut self, index: usize) {
        let link = &mut self.connections[index].link;
        if link.phase != Phase::Gone && !link.flags.is_resident {
            link.flags.is_recorded = true;
            self.shard.shared.recorder().watch(self.shard.seat(index as u32), link.peer);
        }
    }

    /// Record the connections whose peers somebody follows.
    pub(super) fn watch_wanted(&mut self) {
        let found: Vec<usize> = {
            let recorder = self.shard.shared.recorder();
            let wanted = self.connections.iter().filter(|(_, other)| recorder.wants(other.link.peer));
            wanted.map(|(index, _)| index).collect()
        };
        found.into_iter().for_each(|index| self.watch(index));
    }

    /// Tell frames to those who follow them.
    pub(super) fn deal_frames(&mut self) {
        if !self.shard.shared.has_frames_due(self.shard.number) {
            return;
        }
        let mut tracers = std::mem::take(&mut self.dealer.tracers);
        self.shard.shared.recorder().take_due(self.shard.number as u16, &mut tracers);
        for index in tracers.drain(..) {
            let index = index as usize;
            let is_ready = |connection: &Connection| {
                let link = &connection.link;
                link.is_open() && link.phase != Phase::Producing && link.flags.is_tracer
            };
            // Others are told when their reply is complete.
            if self.connections.get(index).is_some_and(is_ready) {
                self.tell_frames(index);
                self.settle(index);
            }
        }
        self.dealer.tracers = tracers;
    }

    /// Tell a connection the frames that it follows, as long as it is owed little: replies and changes find
    /// room besides. It is told the rest when that is sent.
    pub(super) fn tell_frames(&mut self, index: usize) {
        for _ in 0..FRAMES_AT_ONCE {
            let Engine { shard, connections, dealer, .. } = self;
            let connection = &mut connections[index];
            let key = ConnKey::of(index, connection);
            let Connection { link, session, .. } = connection;
            if !link.is_open() || link.output.len() > LOW_WATER_BYTES {
                return;
            }
            if shard.buffers.are_short() {
                if shard.shared.recorder().is_behind(shard.seat(key.index)) {
                    self.starve(index);
                }
                return;
            }
            let seat = shard.seat(key.index);
            let told = shard.shared.recorder().next_frame(seat, &mut dealer.name, &mut dealer.frame);
            let Some(Told { time, direction, origin, skipped, detailed }) = told else { return };
            let (name, bytes) = (&*dealer.name, &*dealer.frame);
            let frame = Frame { name, time, direction, origin, bytes, skipped, detailed };
            let flow = session.on_frame(&mut Context { shard, link, key }, &frame);
            self.apply_end(index, flow);
        }
        self.queue_resume(index);
    }
}
