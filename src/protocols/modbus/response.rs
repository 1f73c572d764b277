//! What a unit answers: encoded by the server, decoded by the driver, which trusts nothing that does not fit
//! what it asked.

use std::fmt;

use super::identification::Identification;
use super::pdu::{Bits, Exception, Function, Mask, Pdu, Registers, Span};
use super::request::{Request, coil_word};

/// A request carried out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Response<'a> {
    /// §6.1
    ReadCoils(Bits<'a>),
    /// §6.2
    ReadDiscretes(Bits<'a>),
    /// §6.3
    ReadHoldings(Registers<'a>),
    /// §6.4
    ReadInputs(Registers<'a>),
    /// §6.5: as the request.
    WriteCoil { address: u16, on: bool },
    /// §6.6: as the request.
    WriteRegister { address: u16, value: u16 },
    /// §6.11: what was written.
    WriteCoils(Span),
    /// §6.12: what was written.
    WriteRegisters(Span),
    /// §6.16: as the request.
    MaskWrite { address: u16, mask: Mask },
    /// §6.17: what was read.
    ReadWrite(Registers<'a>),
    /// §6.21
    Identify(Identification<'a>),
}

/// What came is not the result that was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ReplyError {
    /// The unit refuses.
    Exception(Exception),
    /// It answers the write of one register or coil (§6.5, §6.6), and says that the unit wrote another value:
    /// one that it had to limit, for example.
    Altered(Response<'static>),
    /// It is no answer to the request: nothing of it may be used.
    Mismatch(Mismatch),
}

/// Where a reply does not fit its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// It answers another function.
    Function,
    /// It is longer or shorter than the answer is, or its byte count differs from its length.
    Length,
    /// It repeats another address, quantity or mask.
    Echo,
    /// Its identification objects are malformed or not those asked for.
    Objects,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mismatch::Function => "the reply answers another function",
            Mismatch::Length => "the reply's length is not that of the answer",
            Mismatch::Echo => "the reply repeats another address, quantity or mask",
            Mismatch::Objects => "the reply's identification objects are not those asked for",
        })
    }
}

impl fmt::Display for ReplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplyError::Exception(exception) => exception.fmt(f),
            ReplyError::Altered(_) => f.write_str("the reply says that another value was written"),
            ReplyError::Mismatch(mismatch) => mismatch.fmt(f),
        }
    }
}

impl std::error::Error for ReplyError {}

impl From<Mismatch> for ReplyError {
    fn from(mismatch: Mismatch) -> ReplyError {
        ReplyError::Mismatch(mismatch)
    }
}

impl<'a> Response<'a> {
    /// Decode a whole PDU as the answer to `request`. Function, length, byte count and whatever is repeated
    /// must fit.
    pub fn decode(request: &Request<'_>, pdu: &'a [u8]) -> Result<Response<'a>, ReplyError> {
        let function = request.function();
        let body = match pdu.split_first() {
            Some((&code, body)) if code == function.code() => body,
            Some((&code, &[exception])) if code == function.refusal_code() => {
                return Err(ReplyError::Exception(Exception::from_code(exception)));
            }
            Some((&code, _)) if code == function.refusal_code() => return Err(Mismatch::Length.into()),
            _ => return Err(Mismatch::Function.into()),
        };
        Ok(match *request {
            Request::ReadCoils(span) => Response::ReadCoils(bits_of(span, body)?),
            Request::ReadDiscretes(span) => Response::ReadDiscretes(bits_of(span, body)?),
            Request::ReadHoldings(span) => Response::ReadHoldings(registers_of(span, body)?),
            Request::ReadInputs(span) => Response::ReadInputs(registers_of(span, body)?),
            Request::ReadWrite { read, .. } => Response::ReadWrite(registers_of(read, body)?),
            Request::Identify(identify) => {
                Response::Identify(Identification::decode(identify, body).ok_or(Mismatch::Objects)?)
            }
            _ => {
                let echo = Response::echo(request).expect("every other function repeats its request");
                let mut expected = Pdu::new();
                echo.encode(&mut expected);
                if expected.len() != pdu.len() {
                    return Err(Mismatch::Length.into());
                }
                if *expected != *pdu {
                    let altered = Response::altered(request, body).map(ReplyError::Altered);
                    return Err(altered.unwrap_or(Mismatch::Echo.into()));
                }
                echo
            }
        })
    }

    /// The answer to the write of one register or coil, but for the value.
    fn altered(request: &Request<'_>, body: &[u8]) -> Option<Response<'static>> {
        let &[high, low, first, second] = body else { return None };
        let (at, value) = (u16::from_be_bytes([high, low]), u16::from_be_bytes([first, second]));
        match *request {
            Request::WriteCoil { address, on } if at == address && value == coil_word(!on) => {
                Some(Response::WriteCoil { address, on: !on })
            }
            Request::WriteRegister { address, .. } if at == address => {
                Some(Response::WriteRegister { address, value })
            }
            _ => None,
        }
    }

    /// The answer to a write, which says nothing that its request does not; `None` for a request that is
    /// answered with data.
    pub fn echo(request: &Request<'_>) -> Option<Response<'static>> {
        Some(match *request {
            Request::WriteCoil { address, on } => Response::WriteCoil { address, on },
            Request::WriteRegister { address, value } => Response::WriteRegister { address, value },
            Request::WriteCoils { address, coils } => {
                Response::WriteCoils(Span { start: address, quantity: coils.len() })
            }
            Request::WriteRegisters { address, registers } => {
                Response::WriteRegisters(Span { start: address, quantity: registers.len() })
            }
            Request::MaskWrite { address, mask } => Response::MaskWrite { address, mask },
            _ => return None,
        })
    }

    /// Which function it answers.
    pub fn function(&self) -> Function {
        match self {
            Response::ReadCoils(_) => Function::ReadCoils,
            Response::ReadDiscretes(_) => Function::ReadDiscretes,
            Response::ReadHoldings(_) => Function::ReadHoldings,
            Response::ReadInputs(_) => Function::ReadInputs,
            Response::WriteCoil { .. } => Function::WriteCoil,
            Response::WriteRegister { .. } => Function::WriteRegister,
            Response::WriteCoils(_) => Function::WriteCoils,
            Response::WriteRegisters(_) => Function::WriteRegisters,
            Response::MaskWrite { .. } => Function::MaskWrite,
            Response::ReadWrite(_) => Function::ReadWrite,
            Response::Identify(_) => Function::Identify,
        }
    }

    /// Write the response as a PDU.
    ///
    /// # Panics
    /// If there is more in it than fits: what is answered was asked for, so it fits.
    pub fn encode(&self, pdu: &mut Pdu) {
        let function = self.function();
        match *self {
            Response::ReadCoils(bits) | Response::ReadDiscretes(bits) => {
                encode_bits(function, bits.iter(), pdu);
            }
            Response::ReadHoldings(registers)
            | Response::ReadInputs(registers)
            | Response::ReadWrite(registers) => encode_registers(function, registers.iter(), pdu),
            Response::WriteCoil { address, on } => {
                pdu.begin(function.code());
                pdu.push_u16(address);
                pdu.push_u16(coil_word(on));
            }
            Response::WriteRegister { address, value } => {
                pdu.begin(function.code());
                pdu.push_u16(address);
                pdu.push_u16(value);
            }
            Response::WriteCoils(span) | Response::WriteRegisters(span) => {
                pdu.begin(function.code());
                pdu.push_span(span);
            }
            Response::MaskWrite { address, mask } => {
                pdu.begin(function.code());
                pdu.push_u16(address);
                pdu.push_u16(mask.and);
                pdu.push_u16(mask.or);
            }
            Response::Identify(identification) => identification.encode(pdu),
        }
    }
}

/// Write the answer to a request that reads bits, from wherever they come.
///
/// # Panics
/// If there are more than fit.
pub fn encode_bits(function: Function, bits: impl Iterator<Item = bool>, pdu: &mut Pdu) {
    pdu.begin(function.code());
    pdu.push_bits(bits);
}

/// Write the answer to a request that reads registers, from wherever they come.
///
/// # Panics
/// If there are more than fit.
pub fn encode_registers(function: Function, registers: impl Iterator<Item = u16>, pdu: &mut Pdu) {
    pdu.begin(function.code());
    pdu.push_registers(registers);
}

/// A byte that tells how many bytes follow, and those bytes.
fn counted(body: &[u8]) -> Result<&[u8], Mismatch> {
    match body.split_first() {
        Some((&count, data)) if data.len() == usize::from(count) => Ok(data),
        _ => Err(Mismatch::Length),
    }
}

fn bits_of(asked: Span, body: &[u8]) -> Result<Bits<'_>, Mismatch> {
    Bits::new(counted(body)?, asked.quantity).ok_or(Mismatch::Length)
}

fn registers_of(asked: Span, body: &[u8]) -> Result<Registers<'_>, Mismatch> {
    let registers = Registers::new(counted(body)?).filter(|registers| registers.len() == asked.quantity);
    registers.ok_or(Mismatch::Length)
}
