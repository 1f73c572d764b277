//! What a write, of a tag or of a master, means for the points whose registers it changed or may have.
//!
//! Once whoever wrote is answered, no point is good with a value that the write may have replaced: it has the
//! new one, or is in doubt and polled at once, however slow its rate is.

use std::sync::Arc;

use super::Device;
use crate::drivers::modbus::figures::Reason;
use crate::drivers::modbus::writing::{Next, Writing, value_written};
use crate::engine::Context;
use crate::protocols::modbus::{Exception, Request, Response};
use crate::tags::Refusal;
use crate::tags::value::{Input, Quality};

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The registers hold what was written.
    Confirmed,
    /// They may, or something else.
    Unknown,
}

impl Device {
    /// A step of an order was answered.
    pub(in super::super) fn on_order_answered(
        &mut self,
        cx: &mut Context<'_>,
        writing: Box<Writing>,
        result: Result<Response<'_>, Exception>,
    ) {
        self.figures.exceptions.add(u64::from(result.is_err()));
        let ticket = writing.ticket();
        let refusal = match writing.on_reply(&self.settings, result) {
            Next::Step(step) => return self.go_on(step),
            Next::Written(writing, value) => {
                self.tell_written(cx, &writing, value);
                self.on_order_over(cx, &writing, Outcome::Confirmed, Some(writing.order.point));
                None
            }
            Next::Differs { writing, found, reason } => {
                self.figures.altered.add(1);
                let told = found.is_some().then_some(writing.order.point);
                if let Some(found) = found {
                    self.tell_written(cx, &writing, found);
                }
                self.on_order_over(cx, &writing, Outcome::Unknown, told);
                Some(Refusal::Device { reason: reason.into(), code: None })
            }
            Next::Refused(writing, why) => {
                self.on_order_refused(cx, &writing, why);
                Some(Refusal::Device { reason: why.text(), code: Some(why.code()) })
            }
        };
        cx.settle(ticket, refusal.map_or(Ok(()), Err));
        self.is_writing = false;
    }

    /// An order was not confirmed in time: it may have happened.
    pub(in super::super) fn on_order_unanswered(&mut self, cx: &mut Context<'_>, writing: &Writing) {
        self.on_order_over(cx, writing, Outcome::Unknown, None);
    }

    /// The device refused a step of an order.
    fn on_order_refused(&mut self, cx: &mut Context<'_>, writing: &Writing, why: Exception) {
        match writing.has_written() {
            // What it refused is to be read back.
            true => self.on_order_over(cx, writing, Outcome::Unknown, None),
            false => self.on_write_refused(cx, &writing.request(), why),
        }
    }

    /// The device refused a request, which may write.
    pub(super) fn on_write_refused(&mut self, cx: &mut Context<'_>, request: &Request<'_>, why: Exception) {
        if may_have_happened(why) {
            self.on_write_over(cx, request, Outcome::Unknown, None);
        }
    }

    /// Whatever the deadband: who wrote it wants to see it.
    fn tell_written(&mut self, cx: &mut Context<'_>, writing: &Writing, value: Input<'static>) {
        let point = writing.order.point;
        if self.figures.is_enabled() {
            self.tell(cx, point, value);
        } else {
            // Of a device that was paused meanwhile, nothing is good any more.
            cx.report(self.tag_of(point), value, Quality::Uncertain, cx.now().wall);
        }
        self.begin_to_age(self.settings.model.points[point].rate, cx.now().tick);
    }

    fn on_order_over(
        &mut self,
        cx: &mut Context<'_>,
        writing: &Writing,
        outcome: Outcome,
        told: Option<usize>,
    ) {
        if let Some(request) = writing.write_sent() {
            self.on_write_over(cx, &request, outcome, told);
        }
    }

    /// A request is over, which may write. Points of which a confirmed one says all are known by it; the
    /// others that it changed, and those that are to be read back, are in doubt until they are polled. `told`
    /// knows already.
    pub(super) fn on_write_over(
        &mut self,
        cx: &mut Context<'_>,
        request: &Request<'_>,
        outcome: Outcome,
        told: Option<usize>,
    ) {
        let Some((area, span)) = request.writes() else { return };
        let now = cx.now().tick;
        self.written.note(area, span, now);
        // Of a device that was paused meanwhile, nothing is good any more.
        if !self.figures.is_enabled() {
            return;
        }
        let model = Arc::clone(&self.settings.model);
        for (number, point) in model.points.iter().enumerate() {
            let is_refused = matches!(self.figures.reason(number), Reason::Exception(_));
            let is_same = point.address.area() == area && point.span().overlaps(span);
            if Some(number) == told || is_refused || !is_same || leaves_alone(request, point.address.bit()) {
                continue;
            }
            let is_known = outcome == Outcome::Confirmed && !point.verify;
            match value_written(request, span, point).filter(|_| is_known) {
                Some(value) => {
                    match value {
                        Ok(value) => self.tell(cx, number, value),
                        unreadable => self.report(cx, number, unreadable),
                    }
                    self.begin_to_age(point.rate, now);
                }
                None => {
                    if self.figures.reason(number) == Reason::None {
                        self.doubt_point(cx, number, Reason::Overwritten, false);
                    }
                    let group = model.rates.iter().position(|rate| *rate == point.rate);
                    self.schedule.add(group.expect("each point's rate is a group's") as u16, now);
                }
            }
        }
    }
}

/// Whether the device may have done what it refused.
fn may_have_happened(why: Exception) -> bool {
    match why {
        // It failed on the way, is about it, or did not answer whoever asked it for us.
        Exception::ServerDeviceFailure
        | Exception::Acknowledge
        | Exception::GatewayTargetDeviceFailedToRespond => true,
        Exception::IllegalFunction
        | Exception::IllegalDataAddress
        | Exception::IllegalDataValue
        | Exception::ServerDeviceBusy
        | Exception::MemoryParityError
        | Exception::GatewayPathUnavailable => false,
        Exception::Other(_) => true,
    }
}

/// Whether a request writes other bits of a register only.
fn leaves_alone(request: &Request<'_>, bit: Option<u8>) -> bool {
    match (request, bit) {
        (Request::MaskWrite { mask, .. }, Some(bit)) => mask.and >> bit & 1 == 1,
        _ => false,
    }
}
