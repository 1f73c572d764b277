//! What is no answer, made of one: bytes that are no frame, and frames with a wrong transaction, unit,
//! function or length. Where such a frame has data, it is not the slave's: who believes it is found out by
//! what it then holds.

use crate::base::random::Random;
use crate::protocols::modbus::mbap::HEADER_BYTES;

/// What is made in place of a frame is no longer than it is and this.
pub(super) const MOST_NOISE_BYTES: usize = 64;
const LEAST_NOISE_BYTES: usize = 8;

const TRANSACTION_AT: usize = 0;
const PROTOCOL_LOW_AT: usize = 3;
const LENGTH_AT: usize = 4;
const UNIT_AT: usize = 6;
const FUNCTION_AT: usize = HEADER_BYTES;
const BYTE_COUNT_AT: usize = HEADER_BYTES + 1;
const DATA_AT: usize = HEADER_BYTES + 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Noise,
    Transaction,
    Unit,
    Function,
    Length,
}

const KINDS: [Kind; 5] = [Kind::Noise, Kind::Transaction, Kind::Unit, Kind::Function, Kind::Length];

/// Something that looks more or less like `answer`, a whole frame, and is none.
pub(super) fn garble(random: &mut Random, answer: &[u8]) -> Vec<u8> {
    let kind = KINDS[random.below(KINDS.len())];
    garble_as(kind, random, answer)
}

fn garble_as(kind: Kind, random: &mut Random, answer: &[u8]) -> Vec<u8> {
    let mut frame = answer.to_vec();
    if answers_with_data(answer) {
        frame[DATA_AT..].iter_mut().for_each(|byte| *byte = !*byte);
    }
    match kind {
        Kind::Noise => return noise(random),
        // Far from those in flight.
        Kind::Transaction => frame[TRANSACTION_AT] ^= 0x80,
        Kind::Unit => frame[UNIT_AT] ^= 0x80,
        // 3 and 4 change places, as do 1 and 6, 2 and 5; 15 becomes 8, 16 becomes 23.
        Kind::Function => frame[FUNCTION_AT] ^= 7,
        Kind::Length => change_length(random, &mut frame),
    }
    frame
}

/// Whether a frame carries what was read.
fn answers_with_data(frame: &[u8]) -> bool {
    matches!(frame[FUNCTION_AT], 1..=4 | 23)
}

/// A register or a byte too little or too much; the byte count goes with it, or says what it said.
fn change_length(random: &mut Random, frame: &mut Vec<u8>) {
    let has_data = answers_with_data(frame);
    let change: i16 = if frame.len() > DATA_AT + 2 { -2 } else { 1 };
    if change < 0 {
        frame.truncate(frame.len() - 2);
    } else {
        frame.push(0);
    }
    let length = u16::from_be_bytes([frame[LENGTH_AT], frame[LENGTH_AT + 1]]).wrapping_add_signed(change);
    frame[LENGTH_AT..UNIT_AT].copy_from_slice(&length.to_be_bytes());
    if has_data && random.one_in(2) {
        frame[BYTE_COUNT_AT] = frame[BYTE_COUNT_AT].wrapping_add_signed(change as i8);
    }
}

/// Bytes whose place of the protocol id says that they are no frame.
fn noise(random: &mut Random) -> Vec<u8> {
    let bytes = LEAST_NOISE_BYTES + random.below(MOST_NOISE_BYTES - LEAST_NOISE_BYTES);
    let mut noise: Vec<u8> = (0..bytes).map(|_| random.draw() as u8).collect();
    noise[PROTOCOL_LOW_AT] |= 1;
    noise
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocols::modbus::mbap::{self, Frame};
    use crate::protocols::modbus::{Area, Bits, Pdu, Request, Response, Span};

    /// A request and the frame that answers it.
    fn check(request: Request<'_>, answer: Response<'_>) {
        let mut pdu = Pdu::new();
        answer.encode(&mut pdu);
        let right = [&mbap::header(0x1234, 9, pdu.len())[..], &pdu].concat();
        for (round, kind) in KINDS.into_iter().cycle().enumerate().take(500) {
            let mut random = Random::of(3, round as u64);
            let garbled = garble_as(kind, &mut random, &right);
            assert!(garbled.len() <= right.len() + MOST_NOISE_BYTES);
            let frame = match Frame::parse(&garbled) {
                Ok(frame) => frame.expect("garbage is whole, so that it does not eat the next frame"),
                Err(_) => {
                    assert_eq!(kind, Kind::Noise);
                    continue;
                }
            };
            assert_eq!(frame.bytes(), garbled.len());
            let fits = frame.transaction == 0x1234 && frame.unit == 9;
            let is_answer = fits && Response::decode(&request, frame.pdu).is_ok();
            assert!(!is_answer, "{kind:?}: {garbled:02x?} answers {request:?}");
            if let Ok(Response::ReadHoldings(registers)) = Response::decode(&request, frame.pdu) {
                assert!(registers.iter().all(|register| register == !0x0102), "{registers:?}");
            }
        }
    }

    #[test]
    fn garbage_is_no_answer() {
        let registers = [1, 2].repeat(20);
        let registers = crate::protocols::modbus::Registers::new(&registers).unwrap();
        let read = |quantity| Request::read(Area::Holding, Span { start: 4, quantity });
        check(read(20), Response::ReadHoldings(registers));
        check(read(1), Response::ReadHoldings(registers.part(0, 1).unwrap()));
        let bits = Bits::new(&[1], 3).unwrap();
        check(Request::read(Area::Coil, Span { start: 4, quantity: 3 }), Response::ReadCoils(bits));
        check(
            Request::WriteRegister { address: 7, value: 9 },
            Response::WriteRegister { address: 7, value: 9 },
        );
    }
}
