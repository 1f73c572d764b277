//! What a master asks for: decoded by the server, encoded by the driver.

use super::address::Area;
use super::identification::Identify;
use super::pdu::{
    Bits, Exception, Function, MEI_IDENTIFICATION, MOST_READ_BITS, MOST_READ_REGISTERS,
    MOST_READ_WRITTEN_REGISTERS, MOST_WRITTEN_BITS, MOST_WRITTEN_REGISTERS, Mask, Pdu, Registers, Span,
    span_of,
};

/// A well-formed request. Its quantities are what the standard allows; whether its addresses are there is for
/// the unit to say (also where they reach beyond 65,535).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Request<'a> {
    /// §6.1
    ReadCoils(Span),
    /// §6.2
    ReadDiscretes(Span),
    /// §6.3
    ReadHoldings(Span),
    /// §6.4
    ReadInputs(Span),
    /// §6.5
    WriteCoil { address: u16, on: bool },
    /// §6.6
    WriteRegister { address: u16, value: u16 },
    /// §6.11
    WriteCoils { address: u16, coils: Bits<'a> },
    /// §6.12
    WriteRegisters { address: u16, registers: Registers<'a> },
    /// §6.16
    MaskWrite { address: u16, mask: Mask },
    /// §6.17: the write comes first.
    ReadWrite { read: Span, address: u16, registers: Registers<'a> },
    /// §6.21
    Identify(Identify),
}

impl<'a> Request<'a> {
    /// Decode a whole PDU. The errors are the exceptions to answer with: first
    /// [`Exception::IllegalFunction`], then for anything else [`Exception::IllegalDataValue`], also if bytes
    /// are missing or left over (§7, and the diagrams of §6). A server that must check the unit between the
    /// two asks [`Function::of`] first.
    pub fn decode(pdu: &'a [u8]) -> Result<Request<'a>, Exception> {
        let function = Function::of(pdu).ok_or(Exception::IllegalFunction)?;
        Request::decode_body(function, &pdu[1..]).ok_or(Exception::IllegalDataValue)
    }

    fn decode_body(function: Function, body: &'a [u8]) -> Option<Request<'a>> {
        Some(match function {
            Function::ReadCoils => Request::ReadCoils(span_of(body, MOST_READ_BITS)?),
            Function::ReadDiscretes => Request::ReadDiscretes(span_of(body, MOST_READ_BITS)?),
            Function::ReadHoldings => Request::ReadHoldings(span_of(body, MOST_READ_REGISTERS)?),
            Function::ReadInputs => Request::ReadInputs(span_of(body, MOST_READ_REGISTERS)?),
            Function::WriteCoil => {
                let (address, value) = two_words(body)?;
                Request::WriteCoil { address, on: coil_of(value)? }
            }
            Function::WriteRegister => {
                let (address, value) = two_words(body)?;
                Request::WriteRegister { address, value }
            }
            Function::WriteCoils => {
                let (Span { start, quantity }, data) = written(body, MOST_WRITTEN_BITS)?;
                Request::WriteCoils { address: start, coils: Bits::new(data, quantity)? }
            }
            Function::WriteRegisters => {
                let (span, data) = written(body, MOST_WRITTEN_REGISTERS)?;
                Request::WriteRegisters { address: span.start, registers: registers_of(span, data)? }
            }
            Function::MaskWrite => {
                let (address, rest) = body.split_at_checked(2)?;
                let (and, or) = two_words(rest)?;
                Request::MaskWrite { address: word(address)?, mask: Mask { and, or } }
            }
            Function::ReadWrite => {
                let (read, rest) = body.split_at_checked(4)?;
                let (span, data) = written(rest, MOST_READ_WRITTEN_REGISTERS)?;
                Request::ReadWrite {
                    read: span_of(read, MOST_READ_REGISTERS)?,
                    address: span.start,
                    registers: registers_of(span, data)?,
                }
            }
            Function::Identify => Request::Identify(Identify::decode(body)?),
        })
    }

    /// Write the request as a PDU.
    ///
    /// # Panics
    /// If a quantity is none that the standard allows: whoever plans requests knows the bounds.
    pub fn encode(&self, pdu: &mut Pdu) {
        pdu.begin(self.function().code());
        match *self {
            Request::ReadCoils(span) | Request::ReadDiscretes(span) => {
                assert_allowed(span.quantity, MOST_READ_BITS);
                pdu.push_span(span);
            }
            Request::ReadHoldings(span) | Request::ReadInputs(span) => {
                assert_allowed(span.quantity, MOST_READ_REGISTERS);
                pdu.push_span(span);
            }
            Request::WriteCoil { address, on } => {
                pdu.push_u16(address);
                pdu.push_u16(coil_word(on));
            }
            Request::WriteRegister { address, value } => {
                pdu.push_u16(address);
                pdu.push_u16(value);
            }
            Request::WriteCoils { address, coils } => {
                assert_allowed(coils.len(), MOST_WRITTEN_BITS);
                pdu.push_span(Span { start: address, quantity: coils.len() });
                pdu.push_bits(coils.iter());
            }
            Request::WriteRegisters { address, registers } => {
                assert_allowed(registers.len(), MOST_WRITTEN_REGISTERS);
                pdu.push_span(Span { start: address, quantity: registers.len() });
                pdu.push_registers(registers.iter());
            }
            Request::MaskWrite { address, mask } => {
                pdu.push_u16(address);
                pdu.push_u16(mask.and);
                pdu.push_u16(mask.or);
            }
            Request::ReadWrite { read, address, registers } => {
                assert_allowed(read.quantity, MOST_READ_REGISTERS);
                assert_allowed(registers.len(), MOST_READ_WRITTEN_REGISTERS);
                pdu.push_span(read);
                pdu.push_span(Span { start: address, quantity: registers.len() });
                pdu.push_registers(registers.iter());
            }
            Request::Identify(identify) => {
                pdu.push(MEI_IDENTIFICATION);
                pdu.push(identify.access as u8);
                pdu.push(identify.object);
            }
        }
    }

    /// Which function it is.
    pub fn function(&self) -> Function {
        match self {
            Request::ReadCoils(_) => Function::ReadCoils,
            Request::ReadDiscretes(_) => Function::ReadDiscretes,
            Request::ReadHoldings(_) => Function::ReadHoldings,
            Request::ReadInputs(_) => Function::ReadInputs,
            Request::WriteCoil { .. } => Function::WriteCoil,
            Request::WriteRegister { .. } => Function::WriteRegister,
            Request::WriteCoils { .. } => Function::WriteCoils,
            Request::WriteRegisters { .. } => Function::WriteRegisters,
            Request::MaskWrite { .. } => Function::MaskWrite,
            Request::ReadWrite { .. } => Function::ReadWrite,
            Request::Identify(_) => Function::Identify,
        }
    }

    /// What it reads and answers with.
    pub fn reads(&self) -> Option<(Area, Span)> {
        match *self {
            Request::ReadCoils(span) => Some((Area::Coil, span)),
            Request::ReadDiscretes(span) => Some((Area::Discrete, span)),
            Request::ReadInputs(span) => Some((Area::Input, span)),
            Request::ReadHoldings(span) | Request::ReadWrite { read: span, .. } => {
                Some((Area::Holding, span))
            }
            _ => None,
        }
    }

    /// What it writes.
    pub fn writes(&self) -> Option<(Area, Span)> {
        let (area, start, quantity) = match *self {
            Request::WriteCoil { address, .. } => (Area::Coil, address, 1),
            Request::WriteCoils { address, coils } => (Area::Coil, address, coils.len()),
            Request::WriteRegister { address, .. } | Request::MaskWrite { address, .. } => {
                (Area::Holding, address, 1)
            }
            Request::WriteRegisters { address, registers }
            | Request::ReadWrite { address, registers, .. } => (Area::Holding, address, registers.len()),
            _ => return None,
        };
        Some((area, Span { start, quantity }))
    }

    /// A request that reads `span` of an area.
    pub fn read(area: Area, span: Span) -> Request<'static> {
        match area {
            Area::Coil => Request::ReadCoils(span),
            Area::Discrete => Request::ReadDiscretes(span),
            Area::Input => Request::ReadInputs(span),
            Area::Holding => Request::ReadHoldings(span),
        }
    }
}

fn assert_allowed(quantity: u16, most: u16) {
    assert!((1..=most).contains(&quantity), "a request is for 1 to {most}, not for {quantity}");
}

fn word(bytes: &[u8]) -> Option<u16> {
    bytes.try_into().ok().map(u16::from_be_bytes)
}

pub(super) fn two_words(bytes: &[u8]) -> Option<(u16, u16)> {
    let (first, second) = bytes.split_at_checked(2)?;
    Some((word(first)?, word(second)?))
}

/// `0xFF00` is on, `0x0000` off, and nothing else is anything (§6.5).
pub(super) fn coil_of(word: u16) -> Option<bool> {
    match word {
        0xFF00 => Some(true),
        0x0000 => Some(false),
        _ => None,
    }
}

pub(super) fn coil_word(on: bool) -> u16 {
    if on { 0xFF00 } else { 0x0000 }
}

/// Address and quantity, a byte that tells how many bytes follow, and those bytes.
fn written(body: &[u8], most: u16) -> Option<(Span, &[u8])> {
    let (span, rest) = body.split_at_checked(4)?;
    let (&count, data) = rest.split_first()?;
    (data.len() == usize::from(count)).then_some((span_of(span, most)?, data))
}

fn registers_of(span: Span, data: &[u8]) -> Option<Registers<'_>> {
    Registers::new(data).filter(|registers| registers.len() == span.quantity)
}
