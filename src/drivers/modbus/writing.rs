//! An order on its way to a device: one request, or two or three where a bit is written by hand or what was
//! written is read back.

use std::sync::Arc;

use super::figures::{DeviceFigures, State};
use super::points::PointSettings;
use super::settings::{BitWrite, DeviceSettings, Model};
use crate::base::time::Tick;
use crate::engine::{Driven, Ticket, WriteOrder};
use crate::protocols::modbus::convert::Unwritable;
use crate::protocols::modbus::{Area, Bits, Exception, Mask, Pdu, Registers, Request, Response, Span};
use crate::tags::value::{Input, Kind, Value};
use crate::tags::{Refusal, TagId};

/// Somebody wants a point written.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) ticket: Ticket,
    pub(super) point: usize,
    pub(super) value: Value,
    /// When it came.
    pub(super) since: Tick,
}

impl Order {
    pub(super) fn new(order: WriteOrder, point: usize, since: Tick) -> Order {
        Order { ticket: order.ticket, point, value: order.value, since }
    }
}

/// An order that is being carried out.
#[derive(Debug)]
pub(super) struct Writing {
    pub(super) order: Order,
    step: Step,
    /// The request of this step.
    pub(super) pdu: Box<[u8]>,
    /// What was written, as the device says, once that is read back.
    written: Option<Box<[u8]>>,
    /// How often the request may be sent again.
    pub(super) tries_left: u8,
    /// What the registers hold afterwards; of a coil, `[0, 1]` or `[0, 0]`.
    bytes: Box<[u8]>,
    /// What the device says that it wrote, where that is something else.
    altered: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    /// The register of which one bit is to be written is read.
    Read,
    Write,
    /// It is read again.
    ReadBack,
}

/// What comes after a reply.
pub(super) enum Next {
    /// Another request.
    Step(Box<Writing>),
    /// The device has it: the point's value.
    Written(Box<Writing>, Input<'static>),
    /// It has something else: what is read back, if that has a meaning.
    Differs { writing: Box<Writing>, found: Option<Input<'static>>, reason: String },
    /// It refuses.
    Refused(Box<Writing>, Exception),
}

impl Writing {
    /// The first request. `Err` if the registers cannot hold the value.
    pub(super) fn begin(device: &DeviceSettings, order: &Order) -> Result<Writing, Refusal> {
        let (model, point) = (&device.model, &device.model.points[order.point]);
        let bytes = bytes_of(point, &order.value.as_input())?;
        let address = point.address.number();
        let on = bytes.last() == Some(&1);
        let coil = [u8::from(on)];
        let (step, request) = match (point.address.area(), point.address.bit()) {
            (Area::Coil, _) if model.write_single => (Step::Write, Request::WriteCoil { address, on }),
            (Area::Coil, _) => {
                let coils = Bits::new(&coil, 1).expect("one bit");
                (Step::Write, Request::WriteCoils { address, coils })
            }
            (_, Some(bit)) if model.bit_write == Some(BitWrite::Mask) => {
                let mask = Mask { and: !(1 << bit), or: u16::from(on) << bit };
                (Step::Write, Request::MaskWrite { address, mask })
            }
            (_, Some(_)) => (Step::Read, Request::ReadHoldings(Span { start: address, quantity: 1 })),
            (_, None) => (Step::Write, write_of(address, &bytes, model.write_single)),
        };
        let pdu = encoded(&request);
        Ok(Writing {
            order: order.clone(),
            step,
            pdu,
            written: None,
            tries_left: device.write_retries,
            bytes,
            altered: None,
        })
    }

    pub(super) fn ticket(&self) -> Ticket {
        self.order.ticket
    }

    /// What its request asks for.
    pub(super) fn request(&self) -> Request<'_> {
        Request::decode(&self.pdu).expect("we made it")
    }

    /// The request that writes, if it is more than about to be sent.
    pub(super) fn write_sent(&self) -> Option<Request<'_>> {
        match (&self.written, self.step) {
            (Some(pdu), _) => Some(Request::decode(pdu).expect("we made it")),
            (None, Step::Read) => None,
            (None, _) => Some(self.request()),
        }
    }

    /// Whether the device has confirmed the request that writes.
    pub(super) fn has_written(&self) -> bool {
        self.written.is_some()
    }

    /// The device has answered this step.
    pub(super) fn on_reply(
        mut self: Box<Self>,
        device: &DeviceSettings,
        result: Result<Response<'_>, Exception>,
    ) -> Next {
        let response = match (result, &self.altered) {
            (Ok(response), _) => response,
            (Err(why), None) => return Next::Refused(self, why),
            // It cannot be read back, so that is all there is to know.
            (Err(_), Some(altered)) => {
                let reason = format!("wrote {altered} instead of {}", self.order.value);
                return Next::Differs { writing: self, found: None, reason };
            }
        };
        let point = &device.model.points[self.order.point];
        let address = point.address.number();
        match self.step {
            Step::Read => {
                let register = super::device::registers(&response).and_then(|registers| registers.get(0));
                let register = register.expect("the response fits its request");
                let bit = 1 << point.address.bit().expect("only a bit is read before");
                let value = if self.bytes.last() == Some(&1) { register | bit } else { register & !bit };
                self.pdu = encoded(&write_of(address, &value.to_be_bytes(), device.model.write_single));
                self.step = Step::Write;
                Next::Step(self)
            }
            Step::Write => {
                let is_altered = Response::echo(&self.request()) != Some(response);
                if is_altered {
                    // Of a register of which only one bit was meant, the others may be as they like.
                    let wanted = self.value(point);
                    let is_wanted =
                        |value: &Value| wanted.as_ref().is_some_and(|wanted| wanted.same(&value.as_input()));
                    self.altered = altered(point, &response).filter(|value| !is_wanted(value));
                }
                if point.verify || is_altered {
                    let span = Span { start: address, quantity: point.quantity() };
                    self.written = Some(encoded(&written(self.request(), &response)));
                    self.pdu = encoded(&Request::read(point.address.area(), span));
                    self.step = Step::ReadBack;
                    return Next::Step(self);
                }
                match self.value(point) {
                    Some(value) => Next::Written(self, value),
                    None => self.differs(point.verify, None),
                }
            }
            Step::ReadBack => {
                let found = match response {
                    Response::ReadCoils(bits) => Some(Input::Bool(bits.get(0) == Some(true))),
                    _ => super::device::registers(&response).and_then(|read| point.value(read).ok()),
                };
                match (self.value(point), found) {
                    (Some(wanted), Some(found)) if wanted.same(&found) => Next::Written(self, found),
                    (_, found) => self.differs(point.verify, found),
                }
            }
        }
    }

    /// Where reading back is what was asked for, the words are fixed.
    fn differs(self: Box<Self>, verify: bool, found: Option<Input<'static>>) -> Next {
        let reason = if verify {
            "read-back differs".to_owned()
        } else {
            let value = found.clone().map(|found| found.into_value().to_string());
            let value = value.unwrap_or_else(|| "no value".to_owned());
            format!("read back {value} instead of {}", self.order.value)
        };
        Next::Differs { writing: self, found, reason }
    }

    /// What the tag shows when the registers hold what was written.
    fn value(&self, point: &PointSettings) -> Option<Input<'static>> {
        match point.conversion {
            Some(_) => point.value(Registers::new(&self.bytes).expect("whole registers")).ok(),
            None => Some(Input::Bool(self.bytes.last() == Some(&1))),
        }
    }
}

/// What a point has if a device wrote, of one register or coil, what it says.
fn altered(point: &PointSettings, response: &Response<'_>) -> Option<Value> {
    let value = match *response {
        Response::WriteCoil { on, .. } => Input::Bool(on),
        Response::WriteRegister { value, .. } => {
            point.value(Registers::new(&value.to_be_bytes()).expect("one register")).ok()?
        }
        _ => return None,
    };
    Some(value.into_value())
}

/// What a device says that it wrote: of one register or coil it may be another value than was asked for.
pub(super) fn written<'a>(asked: Request<'a>, response: &Response<'_>) -> Request<'a> {
    match *response {
        Response::WriteCoil { address, on } => Request::WriteCoil { address, on },
        Response::WriteRegister { address, value } => Request::WriteRegister { address, value },
        _ => asked,
    }
}

/// What can be said of orders for a device before they are given, on whatever shard.
pub(super) struct Outlook {
    pub(super) model: Arc<Model>,
    pub(super) figures: Arc<DeviceFigures>,
    /// Its points' tags are consecutive.
    pub(super) first_tag: TagId,
}

impl Outlook {
    /// The point that a tag shows, if it is one of this device's.
    pub(super) fn point_of(&self, tag: TagId) -> Option<usize> {
        let point = tag.0.checked_sub(self.first_tag.0)? as usize;
        (point < self.model.points.len()).then_some(point)
    }
}

impl Driven for Outlook {
    fn check(&self, tag: TagId, value: &Input<'_>) -> Result<(), Refusal> {
        let is_asked = self.figures.is_enabled() && self.figures.state() != State::Silent;
        let point = self.point_of(tag).filter(|_| is_asked).ok_or(Refusal::Offline)?;
        bytes_of(&self.model.points[point], value).map(drop)
    }
}

/// What the registers of a point hold for a value.
fn bytes_of(point: &PointSettings, value: &Input<'_>) -> Result<Box<[u8]>, Refusal> {
    let Some(conversion) = point.conversion else {
        return match value {
            Input::Bool(on) => Ok([0, u8::from(*on)].into()),
            _ => Err(Refusal::WrongType(Kind::Bool)),
        };
    };
    let mut bytes = vec![0; 2 * usize::from(conversion.registers())];
    conversion.write(value, &mut bytes).map_err(|why| match why {
        Unwritable::WrongType => Refusal::WrongType(conversion.tag_kind()),
        Unwritable::OutOfRange | Unwritable::TooLong | Unwritable::ZeroByte => {
            Refusal::DoesNotFit(why.as_str())
        }
    })?;
    if !point.may_hold(&bytes) {
        return Err(Refusal::DoesNotFit("what the registers hold next to it is outside the tag's limits"));
    }
    Ok(bytes.into())
}

/// The value of a point, if a request writes all of it.
pub(super) fn value_written(
    request: &Request<'_>,
    span: Span,
    point: &PointSettings,
) -> Option<Result<Input<'static>, &'static str>> {
    let at = point.address.number().checked_sub(span.start)?;
    match *request {
        Request::WriteCoil { on, .. } => (at == 0).then_some(Ok(Input::Bool(on))),
        Request::WriteCoils { coils, .. } => Some(Ok(Input::Bool(coils.get(at)?))),
        Request::WriteRegister { value, .. } => {
            let bytes = value.to_be_bytes();
            let register = Registers::new(&bytes).expect("one register");
            Some(point.value(register.part(at, point.quantity())?))
        }
        Request::WriteRegisters { registers, .. } | Request::ReadWrite { registers, .. } => {
            Some(point.value(registers.part(at, point.quantity())?))
        }
        // Of a register that was masked, some bits are known at most.
        Request::MaskWrite { mask, .. } => {
            let bit = point.address.bit().filter(|bit| mask.and >> bit & 1 == 0)?;
            Some(Ok(Input::Bool(mask.or >> bit & 1 == 1)))
        }
        _ => None,
    }
}

fn write_of(address: u16, bytes: &[u8], write_single: bool) -> Request<'_> {
    match *bytes {
        [high, low] if write_single => {
            Request::WriteRegister { address, value: u16::from_be_bytes([high, low]) }
        }
        _ => Request::WriteRegisters { address, registers: Registers::new(bytes).expect("whole registers") },
    }
}

fn encoded(request: &Request<'_>) -> Box<[u8]> {
    let mut pdu = Pdu::new();
    request.encode(&mut pdu);
    pdu[..].into()
}
