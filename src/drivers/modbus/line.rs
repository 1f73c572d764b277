//! A line: one connection, and the devices behind it that share it. Decides who is asked next, and which
//! request an answer belongs to.

mod belonging;
mod choosing;
mod connection;
mod sharing;

use std::sync::Arc;
use std::time::Duration;

use belonging::name_of;
use sharing::Leave;

use super::asking::Asked;
use super::device::{Ask, Device, is_gateways};
use super::figures::{FleetFigures, Reason, State};
use super::settings::{Carrier, LineSettings};
use super::writing::Order;
#[cfg(test)]
use crate::base::mutants::{self, Mutant};
use crate::base::time::Tick;
use crate::drivers::backoff::Backoff;
use crate::drivers::dead_share::DeadShare;
use crate::engine::{Context, Direction, Endpoint, Question, WriteOrder};
use crate::protocols::modbus::response::ReplyError;
use crate::protocols::modbus::{Exception, Pdu, Request, Response, mbap, rtu};
use crate::tags::{Refusal, TagId};

/// Timeouts alone end a connection only when nothing at all has come for so long.
const DEAD_AFTER: Duration = Duration::from_secs(5);
/// Of so many requests an answer may still come, and is late; one to an id before is to none of ours.
const MOST_LATE_TIDS: u16 = 256;
/// How often it is looked whether a device is to be paused, or to go on.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(1);

pub(super) struct Line {
    pub(super) to: Endpoint,
    url: Box<str>,
    carrier: Carrier,
    window: usize,
    min_gap: Duration,
    echo_tid: bool,
    pub(super) devices: Vec<Device>,
    /// Requests that are sent and not answered.
    flights: Vec<Flight>,
    /// Without transaction ids: after a timeout nothing is sent, for the answer may still come.
    hold: Option<Hold>,
    last_tid: u16,
    /// How many of the ids up to that one were given out, as far as is remembered.
    late_tids: u16,
    /// The devices that were written and read last: each kind goes round by itself.
    write_turn: usize,
    read_turn: usize,
    /// Writes that were sent while reads may have waited for them, as far as it matters.
    writes_in_a_row: u8,
    dead_share: DeadShare,
    pub(super) backoff: Backoff,
    /// Since when something is asked and nothing at all has come.
    unheard_since: Option<Tick>,
    /// Not before: `min_gap` after the last answer.
    ready_at: Tick,
    framing: rtu::Framing,
    /// Bytes that have come and are no whole frame yet.
    partial_bytes: usize,
    /// Who was waited for when they came.
    partial_of: usize,
    /// As many of them came before the last request was sent, and are no part of its answer.
    void_bytes: usize,
    was_connected: bool,
    /// It has answered since it was connected to.
    has_answered: bool,
    /// Why there is no connection.
    fault: Option<Arc<str>>,
    /// That was not told yet.
    is_fault_news: bool,
    /// The output is full, for the peer takes nothing.
    is_stuck: bool,
    /// When something is due.
    pub(super) next: Tick,
}

struct Flight {
    tid: u16,
    device: usize,
    ask: Ask,
    is_probe: bool,
    sent: Tick,
    deadline: Tick,
}

/// A line on which a late answer is waited for.
struct Hold {
    /// Until when it has to be quiet.
    until: Tick,
    quiet_for: Duration,
    /// When it is quiet no more by itself.
    at_most_until: Tick,
    /// What the late answer is known by: its unit, and its function.
    device: usize,
    function: u8,
}

/// A frame that has come.
struct Answer<'a> {
    tid: u16,
    unit: u8,
    pdu: &'a [u8],
}

impl Line {
    /// The devices' tags are consecutive; `first_tag` says where those of a device begin.
    pub(super) fn new(
        settings: LineSettings,
        figures: &FleetFigures,
        first_tag: impl Fn(&str) -> TagId,
        now: Tick,
    ) -> Line {
        let LineSettings { url, carrier, host, window, min_gap, echo_tid, dead_share, devices, .. } =
            settings;
        let seed = devices.first().map_or(0, |device| u64::from(device.owner.0));
        // Without ids the line is held after a timeout, for as long again.
        let share_of = |timeout: Duration| DeadShare::new(dead_share, timeout * if echo_tid { 1 } else { 2 });
        let longest = devices.iter().map(|device| device.timeout).max().unwrap_or_default();
        let devices = devices.into_iter().map(|device| {
            let first = device.model.points.first();
            let first = first.map_or(TagId(0), |point| first_tag(&format!("{}/{}", device.name, point.name)));
            let (figures, share) = (figures.of(device.owner), share_of(device.timeout));
            Device::new(device, figures, share, first, now)
        });
        Line {
            to: Endpoint { host, from: None, transport: carrier.transport() },
            url,
            carrier,
            window,
            min_gap,
            echo_tid,
            devices: devices.collect(),
            dead_share: share_of(longest),
            flights: Vec::new(),
            hold: None,
            last_tid: 0,
            late_tids: 0,
            write_turn: 0,
            read_turn: 0,
            writes_in_a_row: 0,
            backoff: Backoff::new(seed),
            unheard_since: None,
            ready_at: now,
            framing: rtu::Framing::new(rtu::Direction::Responses),
            partial_bytes: 0,
            partial_of: 0,
            void_bytes: 0,
            was_connected: false,
            has_answered: false,
            fault: None,
            is_fault_news: false,
            is_stuck: false,
            next: now,
        }
    }

    /// The scheme of its URL.
    pub(super) fn scheme(&self) -> &'static str {
        self.carrier.scheme()
    }

    /// For people.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Whether any device is to be polled.
    pub(super) fn is_enabled(&self) -> bool {
        self.devices.iter().any(|device| device.figures.is_enabled())
    }

    /// Somebody wants a tag written.
    pub(super) fn on_order(&mut self, cx: &mut Context<'_>, order: WriteOrder) {
        let now = cx.now().tick;
        let found =
            self.devices.iter_mut().find_map(|device| Some((device.outlook.point_of(order.tag)?, device)));
        match found {
            Some((point, device)) => device.on_order(cx, Order::new(order, point, now)),
            None => cx.settle(order.ticket, Err(Refusal::Offline)),
        }
        self.pump(cx);
    }

    /// A master asks something of a device.
    pub(super) fn on_question(&mut self, cx: &mut Context<'_>, question: Question) {
        let Line { devices, flights, .. } = self;
        let found =
            devices.iter_mut().enumerate().find(|(_, device)| device.settings.owner == question.owner);
        match (found, Asked::new(question, cx.now().tick)) {
            (Some((at, device)), Ok(asked)) => {
                let flying = flights.iter_mut().filter(|flight| flight.device == at);
                let flying = flying.filter_map(|flight| match &mut flight.ask {
                    Ask::Question(asked) => Some((&mut **asked, flight.sent)),
                    Ask::Read(_) | Ask::Write(_) => None,
                });
                device.on_question(cx, asked, flying);
            }
            (None, Ok(asked)) => asked.answer(cx, Err(Refusal::Offline)),
            (_, Err((ticket, refusal))) => cx.answer(ticket, Err(refusal)),
        }
        self.pump(cx);
    }

    /// Bytes have come; says how many are finished with. `Err`: where the next frame begins cannot be known.
    pub(super) fn on_bytes(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Result<usize, mbap::Violation> {
        let now = cx.now().tick;
        if let Some(hold) = &mut self.hold {
            hold.until = now + hold.quiet_for;
        }
        let mut bytes = std::mem::take(&mut self.void_bytes);
        if bytes > 0 {
            self.framing = rtu::Framing::new(rtu::Direction::Responses);
            self.on_damaged(cx, self.partial_of, &input[..bytes]);
        }
        loop {
            let rest = &input[bytes..];
            let (answer, length) = match self.carrier {
                Carrier::Rtu => match self.framing.next(rest) {
                    rtu::Next::Incomplete => break,
                    rtu::Next::Damaged(length) => (None, length),
                    rtu::Next::Frame(frame) => {
                        (Some(Answer { tid: 0, unit: frame.unit, pdu: frame.pdu }), frame.bytes())
                    }
                },
                Carrier::Tcp | Carrier::Udp => match mbap::Frame::parse(rest) {
                    Ok(Some(frame)) => {
                        let answer = Answer { tid: frame.transaction, unit: frame.unit, pdu: frame.pdu };
                        (Some(answer), frame.bytes())
                    }
                    Ok(None) if self.carrier == Carrier::Tcp || rest.is_empty() => break,
                    Err(violation) if self.carrier == Carrier::Tcp => {
                        self.on_mismatch(cx, self.awaited(), rest);
                        return Err(violation);
                    }
                    // What is no frame at the end of a datagram is not continued by the next.
                    Ok(None) | Err(_) => (None, rest.len()),
                },
            };
            bytes += length;
            match answer {
                Some(answer) => {
                    let owner = self.owner_of(&answer);
                    self.trace(cx, owner, Direction::In, &rest[..length]);
                    self.on_answer(cx, answer, owner);
                }
                None => self.on_damaged(cx, self.awaited(), &rest[..length]),
            }
        }
        (self.partial_bytes, self.partial_of) = (input.len() - bytes, self.awaited());
        self.unheard_since = (!self.flights.is_empty()).then_some(now);
        self.pump(cx);
        Ok(bytes)
    }

    /// It belongs to the device `owner`, as far as is known.
    fn on_answer(&mut self, cx: &mut Context<'_>, answer: Answer<'_>, owner: usize) {
        let now = cx.now().tick;
        let figures = &self.devices[owner].figures;
        if let Some(Hold { device, function, .. }) = self.hold {
            // The code of a refusal has the highest bit set.
            let is_unit = self.devices[device].settings.unit == answer.unit;
            if is_unit && answer.pdu[0] & 0x7F == function {
                self.hold = None;
                figures.late.add(1);
            } else {
                figures.mismatched.add(1);
            }
            return;
        }
        let any_id = !self.echo_tid;
        #[cfg(test)]
        let any_id = any_id || mutants::strikes(Mutant::IdIgnored);
        let Some(place) = self.flights.iter().position(|flight| any_id || flight.tid == answer.tid) else {
            // Ids are given out in a row: one that was given out of late was, and is not waited for any more.
            let is_late = self.last_tid.wrapping_sub(answer.tid) < self.late_tids;
            let count = if is_late { &figures.late } else { &figures.mismatched };
            count.add(1);
            return;
        };
        let flight = &self.flights[place];
        let device = &self.devices[flight.device];
        let is_unit = device.settings.unit == answer.unit;
        #[cfg(test)]
        let is_unit = is_unit || mutants::strikes(Mutant::UnitIgnored);
        if !is_unit {
            device.figures.mismatched.add(1);
            return;
        }
        let request = flight.ask.request();
        let result = match Response::decode(&request, answer.pdu) {
            // Without ids it may be the answer to an earlier write, of another value, that comes after the
            // line was held for it. A tag is read back then, which shows what is true; a master would be told
            // what became of another one's write.
            Err(ReplyError::Altered(response)) if self.echo_tid || matches!(flight.ask, Ask::Write(_)) => {
                Ok(response)
            }
            Err(ReplyError::Altered(_) | ReplyError::Mismatch(_)) => {
                device.figures.mismatched.add(1);
                return;
            }
            Err(ReplyError::Exception(exception)) => Err(exception),
            Ok(response) => Ok(response),
        };
        let flight = self.flights.swap_remove(place);
        self.ready_at = now + self.min_gap;
        self.backoff.on_success();
        self.has_answered = true;
        self.settle(cx, flight, result, answer.pdu);
    }

    /// A request is answered, by that `pdu`.
    fn settle(
        &mut self,
        cx: &mut Context<'_>,
        flight: Flight,
        result: Result<Response<'_>, Exception>,
        pdu: &[u8],
    ) {
        let now = cx.now().tick;
        let is_unit_gone = result.as_ref().is_err_and(|why| is_gateways(*why));
        if is_unit_gone {
            self.on_silence(flight.device, flight.sent, now, now);
        }
        let device = &mut self.devices[flight.device];
        match flight.ask {
            Ask::Read(_) => device.round_trip.on_reply(now - flight.sent),
            Ask::Write(_) => device.questions.on_written(now),
            Ask::Question(_) => {}
        }
        if !is_unit_gone {
            device.on_answer(now);
        }
        match (flight.ask, result) {
            (Ask::Read(read), Ok(response)) => {
                device.on_read(cx, read, &response, flight.sent, flight.is_probe);
            }
            (Ask::Read(read), Err(exception)) => {
                device.on_read_refused(cx, read, exception, flight.is_probe);
            }
            (Ask::Question(asked), result) => {
                device.on_asked(cx, *asked, pdu, flight.sent, result);
            }
            (Ask::Write(writing), result) => {
                device.on_order_answered(cx, writing, result);
            }
        }
        if is_unit_gone && !device.breaker.is_closed() {
            device.give_up(cx, State::Silent, Reason::Silent);
        }
    }

    /// Time has passed. `false`: the connection is of no use any more.
    pub(super) fn on_deadline(&mut self, cx: &mut Context<'_>) -> bool {
        let now = cx.now().tick;
        let mut is_noisy = false;
        if let Some(hold) = self.hold.take_if(|hold| hold.until.min(hold.at_most_until) <= now) {
            is_noisy = now < hold.until;
        }
        let mut timed_out = false;
        while let Some(place) = self.flights.iter().position(|flight| flight.deadline <= now) {
            let flight = self.flights.swap_remove(place);
            timed_out = true;
            self.on_unanswered(cx, flight);
        }
        self.devices.iter_mut().for_each(|device| device.expire(cx));
        if timed_out && self.unheard_since.is_some_and(|since| now - since >= DEAD_AFTER) {
            log::warn!("{}: nothing came for {DEAD_AFTER:?}, the connection is made anew", self.url);
            return false;
        }
        if is_noisy {
            log::warn!("{}: what comes answers nothing, the connection is made anew", self.url);
            return false;
        }
        self.pump(cx);
        self.is_enabled() || !self.flights.is_empty()
    }

    /// Devices are paused, and go on, when somebody writes their figures.
    pub(super) fn see_who_is_paused(&mut self, cx: &mut Context<'_>) {
        for device in &mut self.devices {
            match (device.figures.is_enabled(), device.figures.state()) {
                (true, State::Disabled) => {
                    device.figures.set_state(State::Connecting);
                    device.on_return(cx.now().tick);
                }
                (false, State::Disabled) | (true, _) => {}
                (false, _) => device.give_up(cx, State::Disabled, Reason::Disabled),
            }
        }
    }

    fn on_unanswered(&mut self, cx: &mut Context<'_>, flight: Flight) {
        let now = cx.now().tick;
        let device = &mut self.devices[flight.device];
        device.figures.timeouts.add(1);
        if !self.echo_tid {
            // As long as is configured: a reply that comes after a shorter timeout is late and no rarity.
            let quiet_for = device.settings.timeout;
            self.hold = Some(Hold {
                until: now + quiet_for,
                quiet_for,
                at_most_until: now + quiet_for + DEAD_AFTER,
                device: flight.device,
                function: flight.ask.request().function().code(),
            });
        }
        let until = self.hold.as_ref().map_or(now, |hold| hold.until);
        self.on_silence(flight.device, flight.sent, until, now);
        let may_repeat = self.leave(flight.device, now) == Leave::All;
        let device = &mut self.devices[flight.device];
        match flight.ask {
            Ask::Read(read) => device.on_read_unanswered(cx, read, flight.is_probe),
            Ask::Write(mut writing) if writing.tries_left > 0 && device.breaker.is_closed() && may_repeat => {
                writing.tries_left -= 1;
                device.go_on(writing);
            }
            Ask::Write(writing) => {
                device.is_writing = false;
                device.questions.on_written(now);
                device.on_order_unanswered(cx, &writing);
                cx.settle(writing.ticket(), Err(Refusal::Timeout));
            }
            Ask::Question(asked) => device.on_asked_in_vain(cx, *asked),
        }
        if !device.breaker.is_closed() && device.figures.state() != State::Silent {
            log::warn!("{} does not answer, and is asked now and then only", device.settings.name);
            device.give_up(cx, State::Silent, Reason::Silent);
        }
    }

    /// Send what can be sent now.
    fn pump(&mut self, cx: &mut Context<'_>) {
        let now = cx.now().tick;
        // Each time, for an answer would put off the next look.
        self.see_who_is_paused(cx);
        while self.flights.len() < self.window && self.hold.is_none() && self.ready_at <= now {
            self.is_stuck = cx.room() < mbap::MOST_FRAME_BYTES;
            if self.is_stuck {
                break;
            }
            let Some((device, ask, is_probe)) = self.choose(cx) else { break };
            self.send(cx, device, ask, is_probe);
        }
        self.next = self.next_due(now);
    }

    fn send(&mut self, cx: &mut Context<'_>, at: usize, ask: Ask, is_probe: bool) {
        let now = cx.now().tick;
        self.last_tid = self.last_tid.wrapping_add(1);
        self.late_tids = (self.late_tids + 1).min(MOST_LATE_TIDS);
        let device = &self.devices[at];
        let (unit, timeout) = (device.settings.unit, self.timeout_of(device, &ask, is_probe, now));
        device.figures.requests.add(1);
        let mut pdu = Pdu::new();
        ask.request().encode(&mut pdu);
        let pdu = &pdu[..];
        let before = cx.owed().len();
        match self.carrier {
            Carrier::Tcp | Carrier::Udp => {
                cx.put(&mbap::header(self.last_tid, unit, pdu.len()));
                cx.put(pdu);
                cx.cut(cx.owed().len());
            }
            Carrier::Rtu => {
                // On a serial line silence would have ended it. Waited for, it would swallow one answer after
                // the other.
                self.void_bytes = self.partial_bytes;
                cx.put(&[unit]);
                cx.put(pdu);
                cx.put(&rtu::trailer(unit, pdu));
            }
        }
        if self.devices.len() > 1 {
            let mut frame = [0; mbap::MOST_FRAME_BYTES];
            let sent = &cx.owed()[before..];
            let frame = &mut frame[..sent.len()];
            frame.copy_from_slice(sent);
            self.trace(cx, at, Direction::Out, frame);
        }
        let deadline = now + timeout;
        self.unheard_since.get_or_insert(now);
        self.flights.push(Flight { tid: self.last_tid, device: at, ask, is_probe, sent: now, deadline });
    }

    fn next_due(&self, now: Tick) -> Tick {
        let mut next = now + LOOK_AGAIN;
        for flight in &self.flights {
            next = next.min(flight.deadline);
        }
        let can_send = self.flights.len() < self.window && self.hold.is_none() && !self.is_stuck;
        for (at, device) in self.devices.iter().enumerate() {
            next = next.min(device.expires_at());
            // While the line is busy or held, what is due waits for that to end.
            if can_send {
                let probe = self.probe_due(device, now);
                let other = match self.leave(at, now) {
                    Leave::All if device.has_write() => now,
                    Leave::All => device.read_at(),
                    Leave::Poll => device.poll_at(),
                    Leave::Nothing => Tick::NEVER,
                };
                next = next.min(probe.min(other).max(self.ready_at));
            }
        }
        let hold = self.hold.as_ref().map_or(Tick::NEVER, |hold| hold.until.min(hold.at_most_until));
        next.min(hold)
    }
}

impl Ask {
    fn request(&self) -> Request<'_> {
        match self {
            Ask::Read(read) => Request::read(read.block.area, read.block.span),
            Ask::Write(writing) => writing.request(),
            Ask::Question(asked) => asked.request(),
        }
    }
}
