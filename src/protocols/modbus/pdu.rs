//! What requests and responses are made of: functions, exceptions, spans of addresses, views of bits and
//! registers, and the buffer that a message is written to.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

/// The longest PDU (§4.1): a serial ADU of 256 bytes less its address and its CRC.
pub const MOST_PDU_BYTES: usize = 253;
/// Coils or discretes that one request reads (§6.1, §6.2).
pub const MOST_READ_BITS: u16 = 2_000;
/// Coils that one request writes (§6.11).
pub const MOST_WRITTEN_BITS: u16 = 1_968;
/// Registers that one request reads (§6.3, §6.4, §6.17).
pub const MOST_READ_REGISTERS: u16 = 125;
/// Registers that one request writes (§6.12).
pub const MOST_WRITTEN_REGISTERS: u16 = 123;
/// Registers that a request which also reads writes (§6.17).
pub const MOST_READ_WRITTEN_REGISTERS: u16 = 121;

/// What is set in the function code of a reply that refuses (§7).
const REFUSED: u8 = 0x80;
/// Read Device Identification, of the interfaces that function 43 carries (§6.21).
pub(super) const MEI_IDENTIFICATION: u8 = 14;

/// The functions that are served (§5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Function {
    /// §6.1
    ReadCoils = 1,
    /// §6.2
    ReadDiscretes = 2,
    /// §6.3
    ReadHoldings = 3,
    /// §6.4
    ReadInputs = 4,
    /// §6.5
    WriteCoil = 5,
    /// §6.6
    WriteRegister = 6,
    /// §6.11
    WriteCoils = 15,
    /// §6.12
    WriteRegisters = 16,
    /// §6.16
    MaskWrite = 22,
    /// §6.17: writes, then reads.
    ReadWrite = 23,
    /// §6.21, with its MEI type 14.
    Identify = 43,
}

/// All functions that are served.
pub const FUNCTIONS: [Function; 11] = [
    Function::ReadCoils,
    Function::ReadDiscretes,
    Function::ReadHoldings,
    Function::ReadInputs,
    Function::WriteCoil,
    Function::WriteRegister,
    Function::WriteCoils,
    Function::WriteRegisters,
    Function::MaskWrite,
    Function::ReadWrite,
    Function::Identify,
];

impl Function {
    /// The function that a request PDU asks for; `None` is answered with [`Exception::IllegalFunction`]. A
    /// PDU that is cut before its MEI type is still of function 43: it is its length that is wrong.
    pub fn of(pdu: &[u8]) -> Option<Function> {
        match *pdu {
            [43, mei, ..] if mei != MEI_IDENTIFICATION => None,
            [code, ..] => Function::from_code(code),
            [] => None,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Function> {
        Some(match code {
            1 => Function::ReadCoils,
            2 => Function::ReadDiscretes,
            3 => Function::ReadHoldings,
            4 => Function::ReadInputs,
            5 => Function::WriteCoil,
            6 => Function::WriteRegister,
            15 => Function::WriteCoils,
            16 => Function::WriteRegisters,
            22 => Function::MaskWrite,
            23 => Function::ReadWrite,
            43 => Function::Identify,
            _ => return None,
        })
    }

    /// As it stands in a request.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// As it stands in a reply that refuses.
    pub fn refusal_code(self) -> u8 {
        self.code() | REFUSED
    }

    /// Whether it reads a unit's data; the identification is open to whoever may read or write.
    pub fn reads(self) -> bool {
        use Function::*;
        matches!(self, ReadCoils | ReadDiscretes | ReadHoldings | ReadInputs | ReadWrite)
    }

    /// Whether it writes a unit's data.
    pub fn writes(self) -> bool {
        use Function::*;
        matches!(self, WriteCoil | WriteRegister | WriteCoils | WriteRegisters | MaskWrite | ReadWrite)
    }
}

/// Why a unit refuses (§7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exception {
    /// 1: the unit does not have the function, or not for this peer.
    IllegalFunction,
    /// 2: some address of the request is not there, or not as a whole.
    IllegalDataAddress,
    /// 3: the request is malformed, or a value is not allowed.
    IllegalDataValue,
    /// 4: the unit failed while it carried the request out.
    ServerDeviceFailure,
    /// 5: accepted, and under way for long.
    Acknowledge,
    /// 6: the unit is busy; try again.
    ServerDeviceBusy,
    /// 8: what the unit stored is damaged.
    MemoryParityError,
    /// 10: the gateway has no way to the unit.
    GatewayPathUnavailable,
    /// 11: the unit behind the gateway does not answer.
    GatewayTargetDeviceFailedToRespond,
    /// A code that the standard does not name, as a device sent it; passed on as it is.
    Other(u8),
}

impl Exception {
    /// What a code means.
    pub fn from_code(code: u8) -> Exception {
        match code {
            1 => Exception::IllegalFunction,
            2 => Exception::IllegalDataAddress,
            3 => Exception::IllegalDataValue,
            4 => Exception::ServerDeviceFailure,
            5 => Exception::Acknowledge,
            6 => Exception::ServerDeviceBusy,
            8 => Exception::MemoryParityError,
            10 => Exception::GatewayPathUnavailable,
            11 => Exception::GatewayTargetDeviceFailedToRespond,
            code => Exception::Other(code),
        }
    }

    /// As it stands in a reply.
    pub fn code(self) -> u8 {
        match self {
            Exception::IllegalFunction => 1,
            Exception::IllegalDataAddress => 2,
            Exception::IllegalDataValue => 3,
            Exception::ServerDeviceFailure => 4,
            Exception::Acknowledge => 5,
            Exception::ServerDeviceBusy => 6,
            Exception::MemoryParityError => 8,
            Exception::GatewayPathUnavailable => 10,
            Exception::GatewayTargetDeviceFailedToRespond => 11,
            Exception::Other(code) => code,
        }
    }

    /// Write the reply to a request whose function code, known or not, is `code`.
    pub fn encode(self, code: u8, pdu: &mut Pdu) {
        pdu.begin(code | REFUSED);
        pdu.push(self.code());
    }

    /// The name of the standard, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Exception::IllegalFunction => "illegal function",
            Exception::IllegalDataAddress => "illegal data address",
            Exception::IllegalDataValue => "illegal data value",
            Exception::ServerDeviceFailure => "server device failure",
            Exception::Acknowledge => "acknowledge: it takes long",
            Exception::ServerDeviceBusy => "server device busy",
            Exception::MemoryParityError => "memory parity error",
            Exception::GatewayPathUnavailable => "gateway path unavailable",
            Exception::GatewayTargetDeviceFailedToRespond => "gateway target device failed to respond",
            Exception::Other(_) => "a code that the standard does not name",
        }
    }
}

impl Exception {
    /// As [`as_str`](Self::as_str), and of a code that has no name the code: for who sees nothing else of it.
    pub fn text(self) -> Cow<'static, str> {
        match self {
            Exception::Other(code) => format!("exception {code}, {}", self.as_str()).into(),
            named => named.as_str().into(),
        }
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exception {}, {}", self.code(), self.as_str())
    }
}

/// Consecutive addresses of one area (§4.4: on the wire they begin with 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first.
    pub start: u16,
    /// How many.
    pub quantity: u16,
}

impl Span {
    /// The address behind the last; up to 131,070, so that no sum overflows.
    pub fn end(self) -> u32 {
        u32::from(self.start) + u32::from(self.quantity)
    }

    /// Whether all of it lies in an area of `size` addresses, 65,536 at most. If not, it is
    /// [`Exception::IllegalDataAddress`].
    pub fn is_within(self, size: u32) -> bool {
        self.end() <= size
    }

    /// Whether some address is in both.
    pub fn overlaps(self, other: Span) -> bool {
        u32::from(self.start) < other.end() && u32::from(other.start) < self.end()
    }
}

/// What [`Function::MaskWrite`] makes of a register (§6.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Bits that stay as they are.
    pub and: u16,
    /// Of the others, those that become 1.
    pub or: u16,
}

impl Mask {
    /// The register's new value.
    pub fn apply(self, register: u16) -> u16 {
        (register & self.and) | (self.or & !self.and)
    }
}

/// Bits as messages carry them (§6.1): eight a byte, the first one lowest. What the last byte has besides is
/// ignored.
#[derive(Clone, Copy)]
pub struct Bits<'a> {
    bytes: &'a [u8],
    len: u16,
}

impl<'a> Bits<'a> {
    /// `len` bits in `bytes`, which must be just as many as that takes.
    pub fn new(bytes: &'a [u8], len: u16) -> Option<Bits<'a>> {
        (bytes.len() == usize::from(len).div_ceil(8)).then_some(Bits { bytes, len })
    }

    /// How many.
    pub fn len(self) -> u16 {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The bit at a place from 0.
    pub fn get(self, at: u16) -> Option<bool> {
        (at < self.len).then(|| self.bytes[usize::from(at / 8)] >> (at % 8) & 1 == 1)
    }

    /// All of them.
    pub fn iter(self) -> impl ExactSizeIterator<Item = bool> + 'a {
        (0..self.len).map(move |at| self.bytes[usize::from(at / 8)] >> (at % 8) & 1 == 1)
    }
}

impl PartialEq for Bits<'_> {
    fn eq(&self, other: &Bits<'_>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Bits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(u8::from)).finish()
    }
}

/// Registers as messages carry them (§4.2): two bytes each, the high one first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Registers<'a> {
    bytes: &'a [u8],
}

impl<'a> Registers<'a> {
    /// The registers in `bytes`, which must be an even number.
    pub fn new(bytes: &'a [u8]) -> Option<Registers<'a>> {
        let is_whole = bytes.len() % 2 == 0 && bytes.len() <= 2 * usize::from(u16::MAX);
        is_whole.then_some(Registers { bytes })
    }

    /// How many.
    pub fn len(self) -> u16 {
        (self.bytes.len() / 2) as u16
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.bytes.is_empty()
    }

    /// The register at a place from 0.
    pub fn get(self, at: u16) -> Option<u16> {
        self.part(at, 1).map(|register| u16::from_be_bytes([register.bytes[0], register.bytes[1]]))
    }

    /// `len` registers from a place on, if they are all there.
    pub fn part(self, at: u16, len: u16) -> Option<Registers<'a>> {
        let (from, to) = (2 * usize::from(at), 2 * (usize::from(at) + usize::from(len)));
        self.bytes.get(from..to).map(|bytes| Registers { bytes })
    }

    /// All of them.
    pub fn iter(self) -> impl ExactSizeIterator<Item = u16> + 'a {
        self.bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
    }

    /// As the message has them.
    pub fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }
}

impl fmt::Debug for Registers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A PDU that is being written. It lives on the stack; a message is written over the one before.
#[derive(Clone)]
pub struct Pdu {
    bytes: [u8; MOST_PDU_BYTES],
    len: usize,
}

impl Pdu {
    /// Nothing yet.
    pub fn new() -> Pdu {
        Pdu { bytes: [0; MOST_PDU_BYTES], len: 0 }
    }

    pub(super) fn begin(&mut self, code: u8) {
        self.len = 0;
        self.push(code);
    }

    pub(super) fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    pub(super) fn push_u16(&mut self, word: u16) {
        self.extend(&word.to_be_bytes());
    }

    pub(super) fn extend(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    pub(super) fn push_span(&mut self, span: Span) {
        self.push_u16(span.start);
        self.push_u16(span.quantity);
    }

    /// A byte that tells how many bytes follow, and the bits.
    pub(super) fn push_bits(&mut self, bits: impl Iterator<Item = bool>) {
        let count_at = self.len;
        self.push(0);
        for (at, bit) in bits.enumerate() {
            if at % 8 == 0 {
                self.push(0);
            }
            self.bytes[self.len - 1] |= u8::from(bit) << (at % 8);
        }
        self.bytes[count_at] = (self.len - count_at - 1) as u8;
    }

    /// A byte that tells how many bytes follow, and the registers.
    pub(super) fn push_registers(&mut self, registers: impl Iterator<Item = u16>) {
        let count_at = self.len;
        self.push(0);
        registers.for_each(|register| self.push_u16(register));
        self.bytes[count_at] = (self.len - count_at - 1) as u8;
    }

    /// Free for more.
    pub(super) fn room(&self) -> usize {
        MOST_PDU_BYTES - self.len
    }

    pub(super) fn set(&mut self, at: usize, byte: u8) {
        assert!(at < self.len, "only what is written already is changed");
        self.bytes[at] = byte;
    }
}

impl Default for Pdu {
    fn default() -> Self {
        Pdu::new()
    }
}

impl Deref for Pdu {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl fmt::Debug for Pdu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x?}", &**self)
    }
}

/// The four bytes of an address and a quantity, of which there is at least one and at most `most`.
pub(super) fn span_of(bytes: &[u8], most: u16) -> Option<Span> {
    let &[a, b, c, d] = bytes else { return None };
    let span = Span { start: u16::from_be_bytes([a, b]), quantity: u16::from_be_bytes([c, d]) };
    (1..=most).contains(&span.quantity).then_some(span)
}
