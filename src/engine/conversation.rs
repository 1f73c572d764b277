//! How one connection goes on: reading, feeding its session, sending, closing.

use super::connection::{Connection, Flags, HIGH_WATER_BYTES, LINGER_MS, LOW_WATER_BYTES, Phase};
use super::context::Context;
use super::session::{ConnKey, Consumed, End, Flow, Session, Wire};
use super::{Engine, SCRATCH_BYTES};
#[cfg(test)]
use crate::base::mutants::{self, Mutant};
use crate::base::time::Tick;
use std::io::ErrorKind;
use std::time::Duration;

/// Bytes read from a connection in one turn before the others have theirs.
const READ_BUDGET_BYTES: usize = SCRATCH_BYTES;

impl Engine {
    pub(super) fn with_session<R>(
        &mut self,
        index: usize,
        call: impl FnOnce(&mut dyn Session, &mut Context<'_>) -> R,
    ) -> R {
        let connection = &mut self.connections[index];
        let key = ConnKey::of(index, connection);
        let Connection { link, session, .. } = connection;
        call(session.as_mut(), &mut Context { shard: &mut self.shard, link, key })
    }

    /// Do all that a connection can do now: produce, tell of changes, feed what was read, read.
    pub(super) fn pump<W: Wire>(&mut self, index: usize, wire: &mut W) {
        let mut budget = READ_BUDGET_BYTES;
        let mut produced = false;
        loop {
            let link = &self.connections[index].link;
            match link.phase {
                Phase::Gone | Phase::Closing | Phase::Aborting | Phase::Dialling => break,
                Phase::Lingering => return self.discard(index, wire),
                Phase::Producing if link.output.len() > LOW_WATER_BYTES => break,
                Phase::Producing if self.shard.buffers.are_short() => {
                    self.starve(index);
                    break;
                }
                Phase::Producing if produced => {
                    // If there is output, its flush resumes; if a slice found nothing, nobody else would.
                    self.queue_resume(index);
                    break;
                }
                Phase::Producing => {
                    produced = true;
                    // What has changed so far is in this slice; told before, it is not told again as a
                    // change.
                    self.deal_changes();
                    let flow = self.with_session(index, |session, cx| session.on_room(cx));
                    self.apply(index, flow);
                    continue;
                }
                Phase::Reading | Phase::Holding => {}
            }
            if link.is_behind() && !self.catch_up(index) {
                break;
            }
            if self.connections[index].link.flags.is_tracer {
                self.tell_frames(index);
            }
            let link = &self.connections[index].link;
            if link.phase != Phase::Reading {
                if link.is_open() {
                    break;
                }
                continue;
            }
            let flags = link.flags;
            if !link.input.is_empty() && !flags.partial {
                self.feed_held(index);
            } else if flags.at_end {
                // What changed before the end is told; afterwards nobody would be there.
                self.deal_changes();
                self.close(index, End::PeerClosed);
            } else if self.stopping {
                self.close(index, End::Shutdown);
            } else if !flags.readable || link.output.len() >= HIGH_WATER_BYTES {
                break;
            } else if self.shard.buffers.are_short() {
                self.starve(index);
                break;
            } else if budget == 0 {
                self.queue_resume(index);
                break;
            } else {
                self.read(index, &mut budget, wire);
            }
        }
        self.settle(index);
    }

    fn read<W: Wire>(&mut self, index: usize, budget: &mut usize, wire: &mut W) {
        let connection = &mut self.connections[index];
        let key = ConnKey::of(index, connection);
        let link = &mut connection.link;
        let held = link.input.len();
        assert!(held < SCRATCH_BYTES, "a session refuses a frame before it fills the scratch buffer");
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch[..held].copy_from_slice(&link.input);
        let end = SCRATCH_BYTES.min(held + *budget);
        match wire.recv(key, &mut scratch[held..end]) {
            Ok(0) => {
                link.flags.at_end = true;
                link.flags.readable = false;
            }
            Ok(count) => {
                *budget -= count;
                self.shard.metrics.bytes_in.add(count as u64);
                link.heard = self.shard.now.tick;
                // Of datagrams there may be more behind a short one.
                if count < end - held && !link.flags.read_closed && link.cuts.is_none() {
                    link.flags.readable = false;
                }
                self.shard.buffers.give_back(&mut link.input);
                let input = &scratch[..held + count];
                let Consumed { bytes, flow } = self.feed(index, input);
                let link = &mut self.connections[index].link;
                if link.is_open() {
                    self.shard.buffers.append(&mut link.input, &input[bytes..]);
                }
                self.apply(index, flow);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => link.flags.readable = false,
            Err(error) => self.drop_now(index, End::Broken(error.kind()), wire),
        }
        self.scratch = scratch;
    }

    /// Feed what is held of earlier reads.
    fn feed_held(&mut self, index: usize) {
        let mut input = std::mem::take(&mut self.connections[index].link.input);
        let Consumed { bytes, flow } = self.feed(index, &input);
        input.drain(..bytes);
        // Meanwhile it may have learned that another connection speaks for its device, and be closed.
        if input.is_empty() || !self.connections[index].link.is_open() {
            self.shard.buffers.give_back(&mut input);
        }
        self.connections[index].link.input = input;
        self.apply(index, flow);
    }

    pub(super) fn feed(&mut self, index: usize, input: &[u8]) -> Consumed {
        let consumed = self.with_session(index, |session, cx| session.on_bytes(cx, input));
        assert!(consumed.bytes <= input.len(), "a session finishes with no more than it was given");
        let flags = &mut self.connections[index].link.flags;
        if !std::mem::take(&mut flags.is_secret) && flags.is_recorded {
            self.record_input(index, &input[..consumed.bytes]);
        }
        self.close_taken_over();
        let left = input.len() - consumed.bytes;
        let link = &mut self.connections[index].link;
        link.flags.partial = consumed.flow == Flow::Continue;
        if left == 0 || !link.flags.partial {
            link.frame_since = Tick::NEVER;
        } else if consumed.bytes > 0 || link.frame_since == Tick::NEVER {
            link.frame_since = self.shard.now.tick;
        }
        consumed
    }

    /// Close those whose device another connection speaks for now. At once, not as an errand: what they have
    /// still to say is older than what the other writes.
    pub(super) fn close_taken_over(&mut self) {
        while let Some(before) = self.shard.taken_over.pop() {
            if self.is_open(before) {
                self.close(before.index as usize, End::TakenOver);
            }
        }
    }

    /// Go on as the session says.
    pub(super) fn apply(&mut self, index: usize, flow: Flow) {
        let link = &mut self.connections[index].link;
        if !link.is_open() {
            return;
        }
        match flow {
            Flow::Continue => link.phase = Phase::Reading,
            Flow::More => link.phase = Phase::Producing,
            Flow::Hold => link.phase = Phase::Holding,
            Flow::Close(why) => self.close(index, why),
        }
    }

    /// Go on as before, unless the session says that it is over: for calls that do not answer input.
    pub(super) fn apply_end(&mut self, index: usize, flow: Flow) {
        if let Flow::Close(_) = flow {
            self.apply(index, flow);
        }
    }

    /// After anything that a connection did: see to its flush and its deadline.
    pub(super) fn settle(&mut self, index: usize) {
        if !self.connections[index].link.output.is_empty() {
            self.queue_flush(index);
        }
        self.settle_deadline(index);
    }

    pub(super) fn settle_deadline(&mut self, index: usize) {
        let Connection { link, session, .. } = &self.connections[index];
        if link.phase == Phase::Gone {
            return;
        }
        let mut at = link.deadline(&self.shard.settings);
        if link.is_open() {
            at = at.min(session.deadline().unwrap_or(Tick::NEVER));
        }
        if link.flags.drives {
            // The timeout of a request that is answered lies long before the next one: it would wake us up in
            // vain after each poll.
            self.timers.arm(index as u32, at);
        } else if at < Tick::NEVER {
            self.timers.arm_no_later(index as u32, at);
        }
    }

    /// The deadline that a connection was armed for has come; it may have moved since.
    pub(super) fn on_timer<W: Wire>(&mut self, index: usize, wire: &mut W) {
        let now = self.shard.now.tick;
        let Connection { link, session, .. } = &mut self.connections[index];
        let settings = &self.shard.settings;
        if link.phase == Phase::Lingering {
            if link.stalled_since <= now {
                return self.drop_now(index, End::Quit, wire);
            }
        } else if link.phase == Phase::Dialling {
            if link.stalled_since <= now {
                return self.drop_now(index, End::NotConnected(ErrorKind::TimedOut), wire);
            }
        } else if link.stalled_since + settings.write_stall <= now {
            return self.drop_now(index, End::Slow, wire);
        } else if link.is_open() {
            let listener = settings.listener(link);
            if listener.is_some_and(|listener| link.frame_since + listener.frame_timeout <= now) {
                if link.is_read() && link.flags.partial {
                    self.close(index, End::FrameTimeout);
                } else {
                    // It was us who did not read on.
                    link.frame_since = now;
                }
            } else if listener
                .and_then(|listener| listener.idle_timeout)
                .is_some_and(|idle| link.heard + idle <= now)
            {
                if link.is_read() {
                    self.close(index, End::Idle);
                } else {
                    // It was us who did not read.
                    link.heard = now;
                }
            } else if session.deadline().is_some_and(|at| at <= now) {
                let flow = self.with_session(index, |session, cx| session.on_deadline(cx));
                self.apply_end(index, flow);
            }
        }
        self.settle(index);
    }

    /// The conversation is over: forget the input, send what is owed (unless we abort), then close.
    pub(super) fn close(&mut self, index: usize, why: End) {
        self.end_session(index, why);
        if why == End::Aborted {
            self.connections[index].link.phase = Phase::Aborting;
        }
        self.queue_flush(index);
        self.settle_deadline(index);
    }

    fn end_session(&mut self, index: usize, why: End) {
        let connection = &self.connections[index];
        if !connection.link.is_open() && connection.link.phase != Phase::Dialling {
            return;
        }
        let key = ConnKey::of(index, connection);
        let peer = connection.link.peer;
        if connection.link.flags.is_recorded {
            self.record_rest(index);
        }
        let level = if why.is_fault() { log::Level::Warn } else { log::Level::Debug };
        log::log!(level, "{peer} closed: {why}");
        self.with_session(index, |session, cx| session.on_end(cx, why));
        let link = &mut self.connections[index].link;
        link.phase = Phase::Closing;
        link.frame_since = Tick::NEVER;
        self.shard.buffers.give_back(&mut link.input);
        let (source, subscriber) = (link.source.take(), link.subscriber.take());
        let Flags { is_tracer, drives, .. } = link.flags;
        if !link.flags.is_resident {
            self.shard.metrics.connections.sub(1);
        }
        self.shard.part_with(key, source, subscriber, is_tracer, drives);
    }

    /// Close without another word.
    pub(super) fn drop_now<W: Wire>(&mut self, index: usize, why: End, wire: &mut W) {
        self.end_session(index, why);
        let connection = &mut self.connections[index];
        let key = ConnKey::of(index, connection);
        let link = &mut connection.link;
        if link.phase == Phase::Gone {
            return;
        }
        link.phase = Phase::Gone;
        self.shard.buffers.give_back(&mut link.output);
        let listener = link.listener;
        let Flags { is_resident, is_turned_away, .. } = link.flags;
        let is_datagram = link.cuts.is_some() && listener.is_some();
        if is_resident {
            self.residents -= 1;
        } else if is_datagram {
            self.forget_udp_peer(key);
            self.shard.shared.take_from(self.shard.number);
        } else if let Some(listener) = listener {
            match is_turned_away {
                true => self.shard.shared.count_gone(),
                false => self.shard.shared.count_closed(usize::from(listener)),
            }
            self.shard.shared.take_from(self.shard.number);
        }
        self.end_recording(index);
        self.timers.disarm(key.index);
        self.gone.push(key.index);
        if !is_resident && !is_datagram {
            wire.close(key, why);
        }
    }

    /// One write for each connection that has something to send.
    pub(super) fn flush<W: Wire>(&mut self, wire: &mut W) {
        let mut queue = std::mem::take(&mut self.flush);
        for index in queue.drain(..) {
            self.connections[index as usize].link.flags.in_flush = false;
            self.send(index as usize, wire);
        }
        assert!(self.flush.is_empty(), "sending makes nothing to be sent");
        self.flush = queue;
    }

    fn send<W: Wire>(&mut self, index: usize, wire: &mut W) {
        if self.connections[index].link.phase == Phase::Aborting {
            return self.drop_now(index, End::Aborted, wire);
        }
        if self.connections[index].link.cuts.is_some() {
            return self.send_datagrams(index, wire);
        }
        if self.connections[index].link.flags.is_resident {
            self.shard.buffers.give_back(&mut self.connections[index].link.output);
            if !self.connections[index].link.is_open() {
                self.drop_now(index, End::Shutdown, wire);
            }
            return;
        }
        let connection = &mut self.connections[index];
        let key = ConnKey::of(index, connection);
        let link = &mut connection.link;
        let now = self.shard.now.tick;
        if link.flags.writable && !link.output.is_empty() {
            #[cfg(test)]
            if mutants::strikes(Mutant::FlushOutOfOrder) {
                let first = link.output.iter().position(|&byte| byte == b'\n').map_or(0, |end| end + 1);
                link.output.rotate_left(first);
            }
            match wire.send(key, &link.output) {
                Ok(count) => {
                    self.shard.metrics.bytes_out.add(count as u64);
                    if link.flags.is_recorded {
                        self.record_output(index, count);
                    }
                    let link = &mut self.connections[index].link;
                    let all = count == link.output.len();
                    link.flags.writable = all;
                    link.stalled_since = if all { Tick::NEVER } else { now };
                    if all {
                        self.shard.buffers.give_back(&mut link.output);
                    } else {
                        link.output.drain(..count);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    link.flags.writable = false;
                    link.stalled_since = link.stalled_since.min(now);
                }
                Err(error) => return self.drop_now(index, End::Broken(error.kind()), wire),
            }
        }
        let link = &mut self.connections[index].link;
        if link.phase == Phase::Closing && link.output.is_empty() {
            wire.finish(key);
            if link.flags.at_end {
                return self.drop_now(index, End::PeerClosed, wire);
            }
            // Unread input would turn our last words into a reset, so what still comes is read and discarded.
            link.phase = Phase::Lingering;
            link.stalled_since = now + Duration::from_millis(LINGER_MS);
            self.queue_resume(index);
        } else if link.is_open() && link.output.len() <= LOW_WATER_BYTES {
            let waits = link.phase == Phase::Producing
                || link.is_behind()
                || (link.flags.is_tracer
                    && self.shard.shared.recorder().is_behind(self.shard.seat(key.index)))
                || (link.phase == Phase::Reading
                    && (link.flags.readable || (!link.input.is_empty() && !link.flags.partial)));
            // Who is starved is resumed when there is memory; before, its turns would be for nothing.
            if waits && !link.flags.starved {
                self.queue_resume(index);
            }
        }
        self.settle_deadline(index);
    }

    /// Read and forget, until the peer closes.
    fn discard<W: Wire>(&mut self, index: usize, wire: &mut W) {
        let connection = &mut self.connections[index];
        let key = ConnKey::of(index, connection);
        let flags = &mut connection.link.flags;
        if !flags.readable {
            return;
        }
        match wire.recv(key, &mut self.scratch) {
            Ok(0) => self.drop_now(index, End::Quit, wire),
            Ok(count) => {
                if count < self.scratch.len() && !flags.read_closed {
                    flags.readable = false;
                } else {
                    self.queue_resume(index);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => flags.readable = false,
            Err(error) => self.drop_now(index, End::Broken(error.kind()), wire),
        }
    }

    pub(super) fn queue_flush(&mut self, index: usize) {
        let flags = &mut self.connections[index].link.flags;
        if !std::mem::replace(&mut flags.in_flush, true) {
            self.flush.push(index as u32);
        }
    }

    pub(super) fn queue_resume(&mut self, index: usize) {
        #[cfg(test)]
        if mutants::strikes(Mutant::ForgottenResume) {
            return;
        }
        let flags = &mut self.connections[index].link.flags;
        if !std::mem::replace(&mut flags.in_resume, true) {
            self.resume.push(index as u32);
        }
    }

    pub(super) fn starve(&mut self, index: usize) {
        let flags = &mut self.connections[index].link.flags;
        if !std::mem::replace(&mut flags.starved, true) {
            self.starved.push(index as u32);
        }
    }
}
