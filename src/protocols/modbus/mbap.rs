//! Frames of Modbus over TCP and UDP: a header of seven bytes and a PDU (*MODBUS Messaging on TCP/IP
//! Implementation Guide V1.0b* §3.1.2, §3.1.3).

use std::fmt;

use super::pdu::MOST_PDU_BYTES;

/// Transaction, protocol, length, unit.
pub const HEADER_BYTES: usize = 7;
/// The longest frame.
pub const MOST_FRAME_BYTES: usize = HEADER_BYTES + MOST_PDU_BYTES;
/// The bytes that the length field counts from: up to and with the field itself.
const UNCOUNTED_BYTES: usize = 6;
/// A unit and at least a function code.
const LEAST_LENGTH: usize = 2;
/// A unit and the longest PDU.
const MOST_LENGTH: usize = 1 + MOST_PDU_BYTES;

/// A frame in the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Chosen by the master and repeated by the unit: tells which request is answered.
    pub transaction: u16,
    /// Which unit behind the address it is for.
    pub unit: u8,
    /// At least a function code.
    pub pdu: &'a [u8],
}

/// Why what comes is not Modbus: where the next frame begins cannot be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A protocol id other than 0.
    Protocol(u16),
    /// A length that no frame has.
    Length(u16),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::Protocol(id) => write!(f, "protocol id {id}, expected 0"),
            Violation::Length(length) => {
                write!(f, "length {length}, expected {LEAST_LENGTH} to {MOST_LENGTH}")
            }
        }
    }
}

impl std::error::Error for Violation {}

impl<'a> Frame<'a> {
    /// The frame at the front of the input; `None` if its end has not come yet.
    pub fn parse(input: &'a [u8]) -> Result<Option<Frame<'a>>, Violation> {
        // What cannot be right is an error before more comes.
        if let &[_, _, high, low, ..] = input {
            let protocol = u16::from_be_bytes([high, low]);
            if protocol != 0 {
                return Err(Violation::Protocol(protocol));
            }
        }
        let &[a, b, _, _, high, low, ref rest @ ..] = input else { return Ok(None) };
        let length = u16::from_be_bytes([high, low]);
        if !(LEAST_LENGTH..=MOST_LENGTH).contains(&usize::from(length)) {
            return Err(Violation::Length(length));
        }
        let Some((&unit, pdu)) = rest.get(..usize::from(length)).and_then(<[u8]>::split_first) else {
            return Ok(None);
        };
        Ok(Some(Frame { transaction: u16::from_be_bytes([a, b]), unit, pdu }))
    }

    /// How long it is in the input.
    pub fn bytes(&self) -> usize {
        HEADER_BYTES + self.pdu.len()
    }
}

/// What goes before a PDU of `pdu_bytes`.
pub fn header(transaction: u16, unit: u8, pdu_bytes: usize) -> [u8; HEADER_BYTES] {
    debug_assert!((1..=MOST_PDU_BYTES).contains(&pdu_bytes), "a PDU has 1 to {MOST_PDU_BYTES} bytes");
    let [a, b] = transaction.to_be_bytes();
    let [high, low] = ((HEADER_BYTES - UNCOUNTED_BYTES + pdu_bytes) as u16).to_be_bytes();
    [a, b, 0, 0, high, low, unit]
}
