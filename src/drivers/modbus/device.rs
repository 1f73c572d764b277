//! One device: what is to be asked of it next, and what its answers and its silence mean for its tags.

mod aging;
mod scanning;
mod writes;

use std::collections::VecDeque;
use std::sync::Arc;

use scanning::Scan;
use writes::Outcome;

use super::asking::{Asked, MOST_WAITING, Questions, Wanted};
use super::figures::{DeviceFigures, Reason, State};
use super::places::Block;
use super::quarantine::{Quarantine, Verdict};
use super::settings::DeviceSettings;
use super::writing::{Order, Outlook, Writing, written};
use super::written::Written;
use crate::base::time::Tick;
use crate::drivers::breaker::{Breaker, Permit};
use crate::drivers::dead_share::DeadShare;
use crate::drivers::round_trip::RoundTrip;
use crate::drivers::schedule::Schedule;
use crate::engine::Context;
use crate::protocols::modbus::{Bits, Exception, Registers, Response};
use crate::tags::value::{Input, Quality};
use crate::tags::{Limit, Refusal, TagId};

pub(super) struct Device {
    pub(super) settings: DeviceSettings,
    pub(super) figures: Arc<DeviceFigures>,
    pub(super) breaker: Breaker,
    pub(super) round_trip: RoundTrip,
    /// What it takes of its line.
    pub(super) dead_share: DeadShare,
    /// What its orders are refused for, and which tags they are of.
    pub(super) outlook: Arc<Outlook>,
    quarantine: Quarantine,
    schedule: Schedule,
    /// Requests of the scans that run, which are not sent yet.
    reads: VecDeque<Read>,
    /// Of each group.
    scans: Vec<Scan>,
    /// How often all scans were given up.
    epoch: u32,
    /// Writes that are not sent yet, in their order.
    orders: VecDeque<Wanted>,
    /// The next step of the order that is being carried out.
    next_step: Option<Box<Writing>>,
    /// An order is being carried out: the next one waits for it.
    pub(super) is_writing: bool,
    /// Reads of masters.
    pub(super) questions: Questions,
    /// A master's read was sent last, so that a poll is before the next one.
    is_polls_turn: bool,
    /// How many probes were sent.
    probes: usize,
    /// When each point was read last.
    read_at: Box<[Tick]>,
    /// When some good point may be too old.
    stale_at: Tick,
    written: Written,
}

/// A request that reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    pub(super) block: Block,
    /// How often it may be sent again.
    tries_left: u8,
    /// It is sent to learn.
    is_trial: bool,
    /// Given up together with its scan, it settles nothing any more.
    epoch: u32,
}

/// What a device wants to send next.
pub(super) enum Ask {
    Read(Read),
    Write(Box<Writing>),
    Question(Box<Asked>),
}

impl Device {
    pub(super) fn new(
        settings: DeviceSettings,
        figures: Arc<DeviceFigures>,
        dead_share: DeadShare,
        first_tag: TagId,
        now: Tick,
    ) -> Device {
        let model = &settings.model;
        Device {
            // As many as a poll of one request uses up, twice: one lost packet is no death.
            breaker: Breaker::new(2 * (u32::from(settings.retries) + 1)),
            round_trip: RoundTrip::new(settings.timeout),
            dead_share,
            outlook: Arc::new(Outlook { model: Arc::clone(model), figures: Arc::clone(&figures), first_tag }),
            figures,
            quarantine: Quarantine::new(Arc::clone(&model.plan)),
            schedule: Schedule::new(settings.owner.0.into(), &model.rates, now),
            reads: VecDeque::new(),
            scans: vec![Scan::default(); model.rates.len()],
            epoch: 0,
            orders: VecDeque::new(),
            next_step: None,
            is_writing: false,
            questions: Questions::default(),
            is_polls_turn: false,
            probes: 0,
            read_at: vec![Tick::default(); model.points.len()].into(),
            stale_at: Tick::NEVER,
            written: Written::new(settings.timeout),
            settings,
        }
    }

    /// Somebody wants a tag of it written.
    pub(super) fn on_order(&mut self, cx: &mut Context<'_>, order: Order) {
        let refusal = if !self.breaker.is_closed() || !self.figures.is_enabled() {
            Some(Refusal::Offline)
        } else {
            Writing::begin(&self.settings, &order).err()
        };
        let is_full = self.orders.len() + self.questions.len() >= MOST_WAITING;
        match refusal {
            Some(refusal) => cx.settle(order.ticket, Err(refusal)),
            None if is_full => {
                cx.settle(order.ticket, Err(Refusal::Limit(Limit::PendingWrites(MOST_WAITING))));
            }
            None => self.orders.push_back(Wanted::Order(order)),
        }
    }

    /// A master asks something of it. `flying` is what masters have asked and was sent, and when.
    pub(super) fn on_question<'a>(
        &mut self,
        cx: &mut Context<'_>,
        asked: Asked,
        flying: impl Iterator<Item = (&'a mut Asked, Tick)>,
    ) {
        if !self.breaker.is_closed() || !self.figures.is_enabled() {
            return asked.answer(cx, Err(Refusal::Offline));
        }
        let Some(asked) = self.questions.share(cx, asked, flying) else { return };
        if self.orders.len() + self.questions.len() >= MOST_WAITING {
            asked.answer(cx, Err(Refusal::Limit(Limit::PendingWrites(MOST_WAITING))));
        } else if asked.writes {
            self.orders.push_back(Wanted::Question(Box::new(asked)));
        } else {
            self.questions.push(asked);
        }
    }

    /// The device answered what a master asked at `sent`.
    pub(super) fn on_asked(
        &mut self,
        cx: &mut Context<'_>,
        asked: Asked,
        answer: &[u8],
        sent: Tick,
        result: Result<Response<'_>, Exception>,
    ) {
        let now = cx.now().tick;
        match result {
            Ok(response) if asked.writes => {
                let (request, written) = (asked.request(), written(asked.request(), &response));
                self.figures.altered.add(u64::from(written != request));
                self.on_write_over(cx, &written, Outcome::Confirmed, None);
            }
            Ok(_) => self.questions.keep(&asked, answer, sent, now),
            Err(why) => {
                self.figures.exceptions.add(1);
                self.on_write_refused(cx, &asked.request(), why);
            }
        }
        self.end_asked(&asked, now);
        asked.answer(cx, Ok(answer));
    }

    /// What a master asked was not answered in time. It is not sent again: the master may.
    pub(super) fn on_asked_in_vain(&mut self, cx: &mut Context<'_>, asked: Asked) {
        self.on_write_over(cx, &asked.request(), Outcome::Unknown, None);
        self.end_asked(&asked, cx.now().tick);
        asked.answer(cx, Err(Refusal::Timeout));
    }

    fn end_asked(&mut self, asked: &Asked, now: Tick) {
        if asked.writes {
            self.is_writing = false;
            self.questions.on_written(now);
        }
    }

    fn tag_of(&self, point: usize) -> TagId {
        TagId(self.outlook.first_tag.0 + point as u32)
    }

    /// The next write, if there is one that may be sent: a step of the one that is under way, or the first
    /// of another.
    pub(super) fn next_write(&mut self, cx: &mut Context<'_>, may_begin: bool) -> Option<Ask> {
        if let Some(step) = self.next_step.take() {
            return Some(Ask::Write(step));
        }
        self.expire_orders(cx);
        if !may_begin || !self.has_write() {
            return None;
        }
        let ask = match self.orders.pop_front()? {
            Wanted::Order(order) => {
                let writing = Writing::begin(&self.settings, &order).expect("it was tried when it came");
                Ask::Write(Box::new(writing))
            }
            Wanted::Question(asked) => Ask::Question(asked),
        };
        self.is_writing = true;
        Some(ask)
    }

    /// Orders that have waited too long are never sent.
    fn expire_orders(&mut self, cx: &mut Context<'_>) {
        let (now, expiry) = (cx.now().tick, self.settings.write_expiry);
        while self.orders.front().is_some_and(|order| order.since() + expiry <= now) {
            let expired = self.orders.pop_front().expect("it was looked at");
            expired.refuse(cx, Refusal::Offline);
        }
    }

    /// The next read. Those of masters and polls take turns: whichever there is more of, the other one gets
    /// its half.
    pub(super) fn next_read(&mut self, cx: &mut Context<'_>) -> Option<Ask> {
        let now = cx.now().tick;
        if !self.is_polled() {
            return None;
        }
        self.questions.expire(cx, self.settings.write_expiry);
        let polled = if self.is_polls_turn { self.next_poll(now) } else { None };
        let ask = polled.or_else(|| self.questions.next().map(Ask::Question)).or_else(|| self.next_poll(now));
        self.is_polls_turn = matches!(ask, Some(Ask::Question(_)));
        ask
    }

    /// The one request that may tell whether a silent device answers again.
    pub(super) fn probe(&mut self, now: Tick) -> Option<Ask> {
        if !self.figures.is_enabled() || self.breaker.permit(now) != Permit::Probe {
            return None;
        }
        // One after the other: there are devices that leave what they do not have unanswered.
        let blocks = self.settings.model.plan.blocks();
        let block = blocks.get(self.probes % blocks.len().max(1)).copied().unwrap_or(Block::ANY);
        self.probes = self.probes.wrapping_add(1);
        self.breaker.on_probe(now);
        // No scan waits for it.
        Some(Ask::Read(Read { block, tries_left: 0, is_trial: false, epoch: self.epoch }))
    }

    /// When something is too old: a value, or what waits to be sent.
    pub(super) fn expires_at(&self) -> Tick {
        let expires = |since: Tick| since + self.settings.write_expiry;
        let order = self.orders.front().map(|order| expires(order.since()));
        let question = self.questions.oldest().map(expires);
        [order, question, Some(self.stale_at)].into_iter().flatten().min().unwrap_or(Tick::NEVER)
    }

    /// When it is to be read next, by a poll or because a master asks; at once if that is waiting.
    pub(super) fn read_at(&self) -> Tick {
        if self.is_polled() && !self.questions.is_empty() { Tick::default() } else { self.poll_at() }
    }

    /// When it is to be polled next.
    pub(super) fn poll_at(&self) -> Tick {
        if !self.is_polled() {
            Tick::NEVER
        } else if !self.reads.is_empty() {
            Tick::default()
        } else {
            self.schedule.next_due().unwrap_or(Tick::NEVER)
        }
    }

    fn is_polled(&self) -> bool {
        self.figures.is_enabled() && self.breaker.is_closed()
    }

    /// Whether there is something to be written now.
    pub(super) fn has_write(&self) -> bool {
        let is_free = !self.is_writing && self.breaker.is_closed() && self.figures.is_enabled();
        self.next_step.is_some() || (is_free && !self.orders.is_empty())
    }

    /// The device answered a read, which was sent at that time.
    pub(super) fn on_read(
        &mut self,
        cx: &mut Context<'_>,
        read: Read,
        response: &Response<'_>,
        sent: Tick,
        was_probe: bool,
    ) {
        let model = Arc::clone(&self.settings.model);
        // Of a device that was paused meanwhile, nothing is good any more.
        let is_enabled = self.figures.is_enabled();
        let now = cx.now().tick;
        for found in model.plan.found(&read.block).filter(|_| is_enabled) {
            let point = &model.points[found.point];
            if self.written.is_newer(point, sent) {
                continue;
            }
            let value = match response {
                Response::ReadCoils(bits) | Response::ReadDiscretes(bits) => Ok(bit(*bits, found.offset)),
                Response::ReadHoldings(registers) | Response::ReadInputs(registers) => {
                    let part = registers.part(found.offset, point.quantity());
                    point.value(part.expect("a block reads all registers of its points"))
                }
                _ => unreachable!("the response fits its request, which reads"),
            };
            self.report(cx, found.point, value);
        }
        if let Some(rate) = model.rates.get(usize::from(read.block.group)) {
            self.begin_to_age(*rate, now);
        }
        self.written.forget_old(now);
        if !was_probe {
            self.quarantine.on_read(&read.block);
            self.scans[usize::from(read.block.group)].has_taught |= read.is_trial;
            if self.figures.quarantined.value() > 0 {
                self.count_quarantined();
            }
            self.settle_read(read, now);
        }
    }

    /// The device refused a read.
    pub(super) fn on_read_refused(
        &mut self,
        cx: &mut Context<'_>,
        mut read: Read,
        why: Exception,
        was_probe: bool,
    ) {
        self.figures.exceptions.add(1);
        if was_probe {
            return;
        }
        let now = cx.now().tick;
        // It may be otherwise soon: the device is busy, or it is only a gateway that speaks.
        let is_passing =
            matches!(why, Exception::Acknowledge | Exception::ServerDeviceBusy) || is_gateways(why);
        if is_passing && read.tries_left > 0 && read.epoch == self.epoch {
            read.tries_left -= 1;
            self.reads.push_back(read);
            return;
        }
        let verdict = match why {
            Exception::IllegalDataAddress => {
                self.scans[usize::from(read.block.group)].has_taught = true;
                self.quarantine.on_refused(&read.block, now)
            }
            _ => Verdict::Open,
        };
        let is_bad = match (why, verdict) {
            (Exception::IllegalDataAddress, Verdict::Bad | Verdict::Unit) => true,
            (Exception::IllegalDataAddress, Verdict::Open) => false,
            // Whatever else it says, it says of these points, and again with each scan.
            _ => !is_passing,
        };
        self.doubt(cx, read.block, Reason::Exception(why.code()), is_bad);
        self.count_quarantined();
        self.settle_read(read, now);
    }

    fn count_quarantined(&self) {
        self.figures.quarantined.set(self.quarantine.bad().count() as u64);
    }

    /// A read was not answered in time. It is sent again if it may be; otherwise its tags are in doubt.
    pub(super) fn on_read_unanswered(&mut self, cx: &mut Context<'_>, mut read: Read, was_probe: bool) {
        self.round_trip.on_timeout();
        if was_probe {
            return;
        }
        if read.epoch == self.epoch && read.tries_left > 0 {
            read.tries_left -= 1;
            self.reads.push_front(read);
            return;
        }
        self.doubt(cx, read.block, Reason::Timeout, false);
        self.settle_read(read, cx.now().tick);
    }

    /// A point has this value, or registers without meaning.
    pub(super) fn report(
        &mut self,
        cx: &mut Context<'_>,
        point: usize,
        value: Result<Input<'static>, &'static str>,
    ) {
        let (now, tag) = (cx.now(), self.tag_of(point));
        let settings = &self.settings.model.points[point];
        let value = match value {
            Ok(value) => value,
            Err(_) => {
                cx.report(tag, Input::Null, Quality::Bad, now.wall);
                self.read_at[point] = now.tick;
                return self.figures.set_reason(cx.tags(), point, Reason::Unreadable, now.wall);
            }
        };
        match settings.deadband.map(|band| (band, cx.read(tag).value)) {
            Some((band, told)) if band.holds(&told.as_input(), &value) => {
                self.tell(cx, point, told.as_input());
            }
            _ => self.tell(cx, point, value),
        }
    }

    /// A point is known to be so now.
    fn tell(&mut self, cx: &mut Context<'_>, point: usize, value: Input<'_>) {
        let now = cx.now();
        cx.report(self.tag_of(point), value, Quality::Good, now.wall);
        self.read_at[point] = now.tick;
        self.figures.set_reason(cx.tags(), point, Reason::None, now.wall);
    }

    /// An order goes on with another request.
    pub(super) fn go_on(&mut self, step: Box<Writing>) {
        self.next_step = Some(step);
    }

    /// The points of a block are not known now.
    fn doubt(&mut self, cx: &mut Context<'_>, block: Block, reason: Reason, is_bad: bool) {
        let model = Arc::clone(&self.settings.model);
        for found in model.plan.found(&block) {
            self.doubt_point(cx, found.point, reason, is_bad);
        }
    }

    fn doubt_point(&mut self, cx: &mut Context<'_>, point: usize, reason: Reason, is_bad: bool) {
        let tag = self.tag_of(point);
        if is_bad {
            cx.report(tag, Input::Null, Quality::Bad, cx.now().wall);
            return self.figures.set_reason(cx.tags(), point, reason, cx.now().wall);
        }
        cx.degrade(tag);
        // What made it bad is more than that the device is not there now.
        let is_refused = matches!(self.figures.reason(point), Reason::Exception(_) | Reason::Unreadable);
        if !(is_refused && cx.read(tag).quality == Quality::Bad) {
            self.figures.set_reason(cx.tags(), point, reason, cx.now().wall);
        }
    }

    /// It cannot be asked any more, for now: all of its tags are in doubt, and orders that were not sent
    /// never will be.
    pub(super) fn give_up(&mut self, cx: &mut Context<'_>, state: State, reason: Reason) {
        self.figures.set_state(state);
        for point in 0..self.read_at.len() {
            self.doubt_point(cx, point, reason, false);
        }
        for order in self.orders.drain(..) {
            order.refuse(cx, Refusal::Offline);
        }
        self.questions.give_up(cx);
        if let Some(step) = self.next_step.take() {
            // Part of it has reached the device.
            cx.settle(step.ticket(), Err(Refusal::Timeout));
            self.is_writing = false;
        }
        self.reads.clear();
        self.epoch = self.epoch.wrapping_add(1);
        let now = cx.now().tick;
        for group in 0..self.scans.len() {
            if std::mem::take(&mut self.scans[group].unsettled) > 0 {
                self.schedule.on_done(group as u16, now);
            }
        }
    }

    /// It can be asked again, after a time in which it could not.
    pub(super) fn on_return(&mut self, now: Tick) {
        self.schedule.on_return(self.settings.owner.0.into(), now);
    }

    /// There is a new connection.
    pub(super) fn on_connected(&mut self, now: Tick) {
        if self.figures.is_enabled() {
            self.figures.set_state(State::Connecting);
        }
        self.breaker.on_reconnect(now);
        self.schedule.skip(now);
        self.quarantine.on_reconnect();
        self.is_writing = false;
        self.written.clear();
    }

    /// It has answered something.
    pub(super) fn on_answer(&mut self, now: Tick) {
        if !self.breaker.is_closed() {
            self.on_return(now);
        }
        self.breaker.on_reply();
        if self.figures.is_enabled() {
            self.figures.set_state(State::Online);
        }
        if let Some(smoothed) = self.round_trip.smoothed() {
            self.figures.rtt_us.set(smoothed.as_micros() as u64);
        }
    }
}

/// Whether a gateway says that there is no way to the unit, or that it does not answer.
pub(super) fn is_gateways(why: Exception) -> bool {
    matches!(why, Exception::GatewayPathUnavailable | Exception::GatewayTargetDeviceFailedToRespond)
}

fn bit(bits: Bits<'_>, at: u16) -> Input<'static> {
    Input::Bool(bits.get(at).expect("a block reads all bits of its points"))
}

/// Registers of a reply that reads some.
pub(super) fn registers<'a>(response: &Response<'a>) -> Option<Registers<'a>> {
    match response {
        Response::ReadHoldings(registers) | Response::ReadInputs(registers) => Some(*registers),
        _ => None,
    }
}
