//! What masters ask of a device through us: their requests as they are, who waits for the same answer, and
//! answers that are young enough to be given again.

use std::collections::VecDeque;
use std::time::Duration;

use super::writing::Order;
use crate::base::time::Tick;
use crate::engine::{Context, Question, Ticket};
use crate::protocols::modbus::Request;
use crate::tags::Refusal;

/// Requests that wait for their turn with one device: reads of masters, and writes of anybody. Over it a
/// master is told that the device is busy. Who waits for an answer that is on its way is not counted.
pub(super) const MOST_WAITING: usize = 64;
/// Answers kept for one device, at most; the oldest goes first.
const MOST_KEPT: usize = 64;

/// A request of masters.
pub(super) struct Asked {
    pdu: Box<[u8]>,
    /// Of a write there is one.
    tickets: Vec<Ticket>,
    /// When it came.
    pub(super) since: Tick,
    pub(super) writes: bool,
    /// The longest that one of those who wait gave.
    max_age: Duration,
}

impl Asked {
    /// `Err` if it is no request.
    pub(super) fn new(question: Question, now: Tick) -> Result<Asked, (Ticket, Refusal)> {
        let Question { ticket, bytes, max_age, .. } = question;
        let writes = match Request::decode(&bytes) {
            Ok(request) => request.function().writes(),
            Err(why) => {
                return Err((ticket, Refusal::Device { reason: why.text(), code: Some(why.code()) }));
            }
        };
        Ok(Asked { pdu: bytes, tickets: vec![ticket], since: now, writes, max_age })
    }

    pub(super) fn request(&self) -> Request<'_> {
        Request::decode(&self.pdu).expect("it was decoded when it came")
    }

    /// Whether one answer is for both.
    fn is_like(&self, other: &Asked) -> bool {
        !self.writes && self.pdu == other.pdu
    }

    fn join(&mut self, other: Asked) {
        self.tickets.extend(other.tickets);
        self.max_age = self.max_age.max(other.max_age);
    }

    /// Tell all who wait.
    pub(super) fn answer(self, cx: &mut Context<'_>, result: Result<&[u8], Refusal>) {
        for ticket in self.tickets {
            cx.answer(ticket, result.clone());
        }
    }
}

/// A write that waits for its turn.
pub(super) enum Wanted {
    /// Of a tag.
    Order(Order),
    /// A master's own request.
    Question(Box<Asked>),
}

impl Wanted {
    pub(super) fn since(&self) -> Tick {
        match self {
            Wanted::Order(order) => order.since,
            Wanted::Question(asked) => asked.since,
        }
    }

    pub(super) fn refuse(self, cx: &mut Context<'_>, why: Refusal) {
        match self {
            Wanted::Order(order) => cx.settle(order.ticket, Err(why)),
            Wanted::Question(asked) => asked.answer(cx, Err(why)),
        }
    }
}

/// The reads that masters ask of one device.
#[derive(Default)]
pub(super) struct Questions {
    /// Not sent yet.
    waiting: VecDeque<Box<Asked>>,
    kept: VecDeque<Kept>,
    /// When the device was written last, or may have been. What was sent before may show what was before, and
    /// who wrote and reads then must not see that.
    written: Option<Tick>,
}

/// An answer that may do for others.
struct Kept {
    pdu: Box<[u8]>,
    answer: Box<[u8]>,
    /// When it came.
    at: Tick,
}

impl Questions {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Answer it by what is known or will be: an answer that is young enough, or one to the same read that is
    /// under way (those of `flying`, with the time when each was sent) or waits. `Some` if there is none.
    pub(super) fn share<'a>(
        &mut self,
        cx: &mut Context<'_>,
        asked: Asked,
        flying: impl Iterator<Item = (&'a mut Asked, Tick)>,
    ) -> Option<Asked> {
        let now = cx.now().tick;
        if asked.writes {
            return Some(asked);
        }
        let mut kept = self.kept.iter();
        if let Some(kept) = kept.find(|kept| kept.pdu == asked.pdu && now - kept.at < asked.max_age) {
            asked.answer(cx, Ok(&kept.answer));
            return None;
        }
        let flying = flying.filter(|(_, sent)| is_after(*sent, self.written)).map(|(flying, _)| flying);
        let waiting = self.waiting.iter_mut().map(|waiting| &mut **waiting);
        match flying.chain(waiting).find(|other| asked.is_like(other)) {
            Some(other) => other.join(asked),
            None => return Some(asked),
        }
        None
    }

    /// It is to be sent when its turn comes.
    pub(super) fn push(&mut self, asked: Asked) {
        self.waiting.push_back(Box::new(asked));
    }

    /// The next one to send.
    pub(super) fn next(&mut self) -> Option<Box<Asked>> {
        self.waiting.pop_front()
    }

    /// Those that have waited for `expiry` are never sent.
    pub(super) fn expire(&mut self, cx: &mut Context<'_>, expiry: Duration) {
        let now = cx.now().tick;
        while self.waiting.front().is_some_and(|asked| asked.since + expiry <= now) {
            let expired = self.waiting.pop_front().expect("it was looked at");
            expired.answer(cx, Err(Refusal::Offline));
        }
    }

    /// When the first of them came.
    pub(super) fn oldest(&self) -> Option<Tick> {
        self.waiting.front().map(|asked| asked.since)
    }

    /// A read that was sent at that time is answered, and not with an exception.
    pub(super) fn keep(&mut self, asked: &Asked, answer: &[u8], sent: Tick, now: Tick) {
        if asked.max_age == Duration::ZERO || !is_after(sent, self.written) {
            return;
        }
        self.kept.retain(|kept| kept.pdu != asked.pdu);
        if self.kept.len() == MOST_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(Kept { pdu: asked.pdu.clone(), answer: answer.into(), at: now });
    }

    /// The device was written, or may have been.
    pub(super) fn on_written(&mut self, now: Tick) {
        self.written = Some(now);
        self.kept.clear();
    }

    /// The device cannot be asked any more, for now.
    pub(super) fn give_up(&mut self, cx: &mut Context<'_>) {
        self.kept.clear();
        for asked in self.waiting.drain(..) {
            asked.answer(cx, Err(Refusal::Offline));
        }
    }
}

/// What was sent in the moment of a write may have been before it.
fn is_after(sent: Tick, written: Option<Tick>) -> bool {
    written.is_none_or(|written| sent > written)
}

#[cfg(test)]
mod tests;
