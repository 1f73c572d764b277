//! RTU frames in a stream of bytes, as converters between a serial line and TCP carry them: a unit, a PDU, a
//! CRC (*MODBUS over Serial Line Specification V1.02* §2.5.1). On the serial line silence parts the frames;
//! TCP keeps no silence, so the end of a frame is known from its function, or where that is unknown, from its
//! CRC.
//!
//! Each answer follows from the bytes alone, never from how they were cut on their way.

use std::ops::RangeInclusive;

use super::pdu::{Function, MEI_IDENTIFICATION, MOST_PDU_BYTES};

/// The longest frame.
pub const MOST_FRAME_BYTES: usize = 1 + MOST_PDU_BYTES + CRC_BYTES;
/// A frame for all units on a line, which none answers (*Serial Line* §2.1).
pub const BROADCAST_UNIT: u8 = 0;

const CRC_BYTES: usize = 2;
/// A unit, a function code, a CRC.
const LEAST_FRAME_BYTES: usize = 2 + CRC_BYTES;
const REFUSED: u8 = 0x80;

/// Which way the bytes go: the two have different lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From a master.
    Requests,
    /// From a unit.
    Responses,
}

/// A frame in the input, with a right CRC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Which unit on the line it is for or from.
    pub unit: u8,
    /// At least a function code.
    pub pdu: &'a [u8],
}

impl Frame<'_> {
    /// How long it is in the input.
    pub fn bytes(&self) -> usize {
        1 + self.pdu.len() + CRC_BYTES
    }
}

/// What is at the front of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// The beginning of a frame.
    Incomplete,
    /// A frame.
    Frame(Frame<'a>),
    /// So many bytes that are no frame, or a frame that the line damaged: to be dropped, counted, and not
    /// answered.
    Damaged(usize),
}

/// What is known of the length of the frame that begins with some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    /// Too few bytes yet.
    Open,
    /// So many bytes, CRC included. All that tells the length agrees.
    Sure(usize),
    /// So many bytes, but quantity and byte count contradict each other: one of them may be damaged.
    Doubtful(usize),
    /// Only the CRC can tell: a function that we do not know.
    Unknown,
}

/// Finds the frames of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Framing {
    direction: Direction,
    /// Whether the last bytes were damaged, so that the next may not be where they seem to be.
    is_suspect: bool,
}

impl Framing {
    /// At the beginning of a stream.
    pub fn new(direction: Direction) -> Framing {
        Framing { direction, is_suspect: false }
    }

    /// Look at the front of the input; what is found there is to be taken from it.
    ///
    /// A frame whose length is sure is waited for and then taken or dropped as a whole: what looks like a
    /// frame inside another one's data must not be carried out. Where the length is in doubt, whichever frame
    /// ends first is taken, be it the doubtful one or a sure one that begins later; so a damaged byte seldom
    /// costs more than its own frame.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> Next<'a> {
        let next = match length(self.direction, input) {
            Length::Open => Next::Incomplete,
            Length::Sure(bytes) if input.len() < bytes => Next::Incomplete,
            Length::Sure(bytes) => match frame(&input[..bytes]) {
                Some(frame) => Next::Frame(frame),
                None => Next::Damaged(self.give_up(&input[..bytes])),
            },
            Length::Doubtful(bytes) => self.hunt(input, bytes.min(MOST_FRAME_BYTES), bytes..=bytes),
            Length::Unknown => self.hunt(input, MOST_FRAME_BYTES, LEAST_FRAME_BYTES..=MOST_FRAME_BYTES),
        };
        match next {
            Next::Incomplete => {}
            Next::Frame(_) => self.is_suspect = false,
            Next::Damaged(_) => self.is_suspect = true,
        }
        next
    }

    /// Look for the frame that ends first in the next `horizon` bytes: the one at the front, whose length is
    /// among `own`, or a sure one behind. The horizon makes the answer independent of what has come beyond
    /// it.
    fn hunt<'a>(&self, input: &'a [u8], horizon: usize, own: RangeInclusive<usize>) -> Next<'a> {
        let seen = &input[..input.len().min(horizon)];
        let first_own = ends_with_crc(seen, own).and_then(|bytes| frame(&seen[..bytes]));
        let mut end = first_own.map_or(seen.len() + 1, |frame| frame.bytes());
        let mut start = 0;
        for at in 1..seen.len() {
            match length(self.direction, &seen[at..]) {
                Length::Sure(bytes) if at + bytes < end && frame(&seen[at..at + bytes]).is_some() => {
                    (start, end) = (at, at + bytes);
                }
                _ => {}
            }
        }
        match first_own {
            _ if start > 0 => Next::Damaged(start),
            Some(frame) => Next::Frame(frame),
            None if seen.len() < horizon => Next::Incomplete,
            None => Next::Damaged(self.give_up(seen)),
        }
    }

    /// How many of these bytes, which are no frame, to drop. Mostly they were one, and all of them go. But
    /// where the bytes before were none either, we may have taken the middle of a frame for its beginning,
    /// and might do so for ever: what may be a frame that goes on behind them is kept.
    fn give_up(&self, bytes: &[u8]) -> usize {
        let may_go_on = |at: &usize| match length(self.direction, &bytes[*at..]) {
            Length::Sure(length) => at + length > bytes.len(),
            Length::Open => true,
            Length::Doubtful(_) | Length::Unknown => false,
        };
        let kept = if self.is_suspect { (1..bytes.len()).find(may_go_on) } else { None };
        kept.unwrap_or(bytes.len())
    }
}

/// The shortest of these lengths at which the bytes end with their CRC.
fn ends_with_crc(bytes: &[u8], lengths: RangeInclusive<usize>) -> Option<usize> {
    let mut crc = CRC_OF_NOTHING;
    for (at, pair) in bytes.windows(CRC_BYTES).enumerate() {
        if lengths.contains(&(at + CRC_BYTES)) && crc.to_le_bytes() == *pair {
            return Some(at + CRC_BYTES);
        }
        crc = crc_with(crc, pair[0]);
    }
    None
}

/// The frame that is all of these bytes, if the CRC says so.
fn frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let (covered, crc) = bytes.split_last_chunk()?;
    let (&unit, pdu) = covered.split_first()?;
    (!pdu.is_empty() && crc16(covered).to_le_bytes() == *crc).then_some(Frame { unit, pdu })
}

fn length(direction: Direction, bytes: &[u8]) -> Length {
    let Some(&code) = bytes.get(1) else { return Length::Open };
    match (direction, Function::from_code(code)) {
        (Direction::Requests, Some(function)) => request_length(function, bytes),
        (Direction::Responses, Some(function)) => response_length(function, bytes),
        (Direction::Responses, None) if Function::from_code(code ^ REFUSED).is_some() => Length::Sure(5),
        (_, None) => Length::Unknown,
    }
}

/// Of the frame `unit function …` that begins with these bytes.
fn request_length(function: Function, bytes: &[u8]) -> Length {
    use Function::*;
    let counted = |before: usize, per_register: bool| {
        let Some(&count) = bytes.get(before) else { return Length::Open };
        let quantity = usize::from(u16::from_be_bytes([bytes[before - 2], bytes[before - 1]]));
        let expected = if per_register { 2 * quantity } else { quantity.div_ceil(8) };
        let length = before + 1 + usize::from(count) + CRC_BYTES;
        let is_sure = usize::from(count) == expected && length <= MOST_FRAME_BYTES;
        if is_sure { Length::Sure(length) } else { Length::Doubtful(length) }
    };
    match function {
        ReadCoils | ReadDiscretes | ReadHoldings | ReadInputs | WriteCoil | WriteRegister => Length::Sure(8),
        WriteCoils => counted(6, false),
        WriteRegisters => counted(6, true),
        ReadWrite => counted(10, true),
        MaskWrite => Length::Sure(10),
        Identify => match bytes.get(2) {
            None => Length::Open,
            Some(&MEI_IDENTIFICATION) => Length::Sure(7),
            Some(_) => Length::Unknown,
        },
    }
}

fn response_length(function: Function, bytes: &[u8]) -> Length {
    use Function::*;
    let counted = |unit: usize| match bytes.get(2) {
        None => Length::Open,
        Some(&count) => {
            let (count, length) = (usize::from(count), 3 + usize::from(count) + CRC_BYTES);
            let is_sure = count > 0 && count % unit == 0 && length <= MOST_FRAME_BYTES;
            if is_sure { Length::Sure(length) } else { Length::Doubtful(length) }
        }
    };
    match function {
        ReadCoils | ReadDiscretes => counted(1),
        ReadHoldings | ReadInputs | ReadWrite => counted(2),
        WriteCoil | WriteRegister | WriteCoils | WriteRegisters => Length::Sure(8),
        MaskWrite => Length::Sure(10),
        Identify => match bytes {
            [_, _, mei, ..] if *mei != MEI_IDENTIFICATION => Length::Unknown,
            [_, _, _, _, _, _, _, count, objects @ ..] => identification_length(*count, objects),
            _ => Length::Open,
        },
    }
}

/// Each object tells its own length only. No object is waited for that no frame has room for.
fn identification_length(count: u8, objects: &[u8]) -> Length {
    let mut length = 8 + CRC_BYTES;
    for _ in 0..count {
        if length > MOST_FRAME_BYTES {
            return Length::Doubtful(length);
        }
        let Some(&len) = objects.get(length - 8 - CRC_BYTES + 1) else { return Length::Open };
        length += 2 + usize::from(len);
    }
    if length <= MOST_FRAME_BYTES { Length::Sure(length) } else { Length::Doubtful(length) }
}

/// What goes behind unit and PDU: their CRC, its low byte first.
pub fn trailer(unit: u8, pdu: &[u8]) -> [u8; CRC_BYTES] {
    pdu.iter().fold(crc_with(CRC_OF_NOTHING, unit), |crc, &byte| crc_with(crc, byte)).to_le_bytes()
}

/// The CRC of some bytes (*Serial Line* §6.2.2, appendix B).
pub fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(CRC_OF_NOTHING, |crc, &byte| crc_with(crc, byte))
}

const CRC_OF_NOTHING: u16 = 0xFFFF;

fn crc_with(crc: u16, byte: u8) -> u16 {
    (crc >> 8) ^ CRC_TABLE[usize::from(crc as u8 ^ byte)]
}

/// For each byte what eight steps of the polynomial make of it.
const CRC_TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u16;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0xA001 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};
