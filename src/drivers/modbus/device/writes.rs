//! What the answers to writes, of tags and of masters, say of a device's points.

use std::sync::Arc;

use super::Device;
use crate::drivers::modbus::figures::Reason;
use crate::drivers::modbus::points::PointSettings;
use crate::drivers::modbus::writing::{Next, Writing, value_written};
use crate::engine::Context;
use crate::protocols::modbus::{Exception, Request, Response};
use crate::tags::Refusal;
use crate::tags::value::{Input, Quality};

impl Device {
    /// A step of an order was answered.
    pub(in super::super) fn on_order_answered(
        &mut self,
        cx: &mut Context<'_>,
        writing: Box<Writing>,
        result: Result<Response<'_>, Exception>,
    ) {
        self.figures.exceptions.add(u64::from(result.is_err()));
        let (ticket, point) = (writing.ticket(), writing.order.point);
        let refusal = match writing.on_reply(&self.settings, result) {
            Next::Step(step) => return self.go_on(step),
            Next::Written(value) => {
                self.on_written(cx, point, value);
                None
            }
            Next::Differs { found, reason } => {
                self.figures.altered.add(1);
                if let Some(found) = found {
                    self.on_written(cx, point, found);
                }
                Some(Refusal::Device { reason: reason.into(), code: None })
            }
            Next::Refused(why) => {
                Some(Refusal::Device { reason: why.as_str().into(), code: Some(why.code()) })
            }
        };
        cx.settle(ticket, refusal.map_or(Ok(()), Err));
        self.is_writing = false;
    }

    /// A write was confirmed. It is told whatever the deadband: who wrote it wants to see it.
    fn on_written(&mut self, cx: &mut Context<'_>, point: usize, value: Input<'static>) {
        let now = cx.now().tick;
        if self.figures.is_enabled() {
            self.tell(cx, point, value);
        } else {
            // Of a device that was paused meanwhile, nothing is good any more.
            cx.report(self.tag_of(point), value, Quality::Uncertain, cx.now().wall);
        }
        let PointSettings { address, rate, .. } = self.settings.model.points[point];
        self.begin_to_age(rate, now);
        self.written.note(address.area(), self.settings.model.points[point].span(), now);
    }

    /// A master's write was confirmed: points of which it says all are known by it, as by a write of the tag;
    /// the next poll tells of the others, and of those that are to be read back.
    pub(super) fn on_written_by_master(&mut self, cx: &mut Context<'_>, request: &Request<'_>) {
        let Some((area, span)) = request.writes() else { return };
        let model = Arc::clone(&self.settings.model);
        // Of a device that was paused meanwhile, nothing is good any more.
        let is_enabled = self.figures.is_enabled();
        for (number, point) in model.points.iter().enumerate().filter(|_| is_enabled) {
            let is_refused = matches!(self.figures.reason(number), Reason::Exception(_));
            if point.address.area() == area && !point.verify && !is_refused {
                match value_written(request, span, point) {
                    Some(Ok(value)) => self.tell(cx, number, value),
                    Some(unreadable) => self.report(cx, number, unreadable),
                    None => continue,
                }
                self.begin_to_age(point.rate, cx.now().tick);
            }
        }
        self.written.note(area, span, cx.now().tick);
    }
}
