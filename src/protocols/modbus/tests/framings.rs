//! Frames in a stream: any cut gives the same frames, and damage costs no more than it must.

use proptest::prelude::*;

use super::super::pdu::MOST_PDU_BYTES;
use super::super::rtu::{self, Direction, Framing, Next};
use super::super::{Request, mbap};
use super::messages::{encoded, hex, parts};

/// What comes of a stream: frames as (transaction, unit, PDU), or how the stream broke.
type Tcp = (Vec<(u16, u8, Vec<u8>)>, Option<mbap::Violation>);

/// Feed `stream` as a connection would, in pieces that end at `cuts`.
fn tcp(stream: &[u8], cuts: &[usize]) -> Tcp {
    let (mut held, mut frames) = (Vec::new(), Vec::new());
    for piece in pieces(stream, cuts) {
        held.extend_from_slice(piece);
        loop {
            match mbap::Frame::parse(&held) {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    frames.push((frame.transaction, frame.unit, frame.pdu.to_vec()));
                    let bytes = frame.bytes();
                    held.drain(..bytes);
                }
                Err(violation) => return (frames, Some(violation)),
            }
        }
        assert!(held.len() < mbap::MOST_FRAME_BYTES, "no more than a frame is held");
    }
    (frames, None)
}

/// What comes of a stream: frames as (unit, PDU), and the bytes dropped each time.
type Rtu = (Vec<(u8, Vec<u8>)>, Vec<usize>);

fn rtu(direction: Direction, stream: &[u8], cuts: &[usize]) -> Rtu {
    let (mut held, mut frames, mut damaged) = (Vec::new(), Vec::new(), Vec::new());
    let mut framing = Framing::new(direction);
    for piece in pieces(stream, cuts) {
        held.extend_from_slice(piece);
        loop {
            match framing.next(&held) {
                Next::Incomplete => break,
                Next::Frame(frame) => {
                    frames.push((frame.unit, frame.pdu.to_vec()));
                    let bytes = frame.bytes();
                    held.drain(..bytes);
                }
                Next::Damaged(bytes) => {
                    assert!(bytes > 0);
                    damaged.push(bytes);
                    held.drain(..bytes);
                }
            }
        }
        assert!(held.len() < rtu::MOST_FRAME_BYTES, "no more than a frame is held");
    }
    (frames, damaged)
}

fn pieces<'a>(stream: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let (mut pieces, mut from) = (Vec::new(), 0);
    for &cut in cuts.iter().chain([&stream.len()]) {
        let cut = cut.clamp(from, stream.len());
        pieces.push(&stream[from..cut]);
        from = cut;
    }
    pieces
}

fn every_byte(stream: &[u8]) -> Vec<usize> {
    (1..stream.len()).collect()
}

pub(super) fn rtu_frame(unit: u8, pdu: &[u8]) -> Vec<u8> {
    [&[unit], pdu, &rtu::trailer(unit, pdu)].concat()
}

pub(super) fn tcp_frame(transaction: u16, unit: u8, pdu: &[u8]) -> Vec<u8> {
    [&mbap::header(transaction, unit, pdu.len())[..], pdu].concat()
}

/// A few requests of each kind of length, and functions that we do not know.
fn pdus() -> Vec<Vec<u8>> {
    [
        "03 006B 0003",
        "10 0001 0002 04 000A 0102",
        "0F 0013 000A 02 CD01",
        "07",
        "05 00AC FF00",
        "16 0004 00F2 0025",
        "17 0003 0006 000E 0003 06 00FF 00FF 00FF",
        "2B 0E 01 00",
        "63 01 02 03",
        "06 0001 0003",
        "2B 0D 00 01",
        "10 0001 0002 03 000A 01",
        "00",
        "FF 0102",
        "01 0013 0013",
    ]
    .map(hex)
    .to_vec()
}

/// *Messaging* §3.1.3, and the example of its appendix: read register 5 of unit 0xFF as transaction 0x1501.
#[test]
fn tcp_frames() {
    let stream = hex("1501 0000 0006 FF 03 0004 0001");
    assert_eq!(tcp_frame(0x1501, 0xFF, &hex("03 0004 0001")), stream);
    assert_eq!(tcp(&stream, &[]), (vec![(0x1501, 0xFF, hex("03 0004 0001"))], None));
    for length in 0..=0xFFFF_u16 {
        let input = [&[0, 1, 0, 0][..], &length.to_be_bytes(), &[9; 300]].concat();
        let got = mbap::Frame::parse(&input);
        match usize::from(length) {
            2..=254 => assert_eq!(got.unwrap().unwrap().pdu.len(), usize::from(length) - 1),
            _ => assert_eq!(got, Err(mbap::Violation::Length(length))),
        }
    }
    for protocol in 1..=0xFFFF_u16 {
        let input = [&[0, 1][..], &protocol.to_be_bytes(), &[0, 6, 1, 3, 0, 0, 0, 1]].concat();
        assert_eq!(mbap::Frame::parse(&input), Err(mbap::Violation::Protocol(protocol)));
    }
    let message = mbap::Violation::Length(1).to_string();
    assert_eq!(message, "length 1, expected 2 to 254");
}

#[test]
fn tcp_streams_may_be_cut_anywhere() {
    let good: Vec<u8> =
        pdus().iter().zip(7..).flat_map(|(pdu, at)| tcp_frame(at * 999, at as u8, pdu)).collect();
    for tail in ["", "0001 0001 0006 01", "0001 0000 0001 01", "0001 0000 00FF 01", "0001 0000 0006 01 03"] {
        let stream = [good.clone(), hex(tail)].concat();
        let whole = tcp(&stream, &[]);
        assert_eq!(whole.0.len(), pdus().len());
        assert_eq!(tcp(&stream, &every_byte(&stream)), whole);
        for first in 0..stream.len() {
            assert_eq!(tcp(&stream, &[first]), whole, "cut at {first}");
            for second in (first..stream.len()).step_by(7) {
                assert_eq!(tcp(&stream, &[first, second]), whole, "cut at {first} and {second}");
            }
        }
    }
}

/// *Serial Line* appendix B gives 0x1241 for `02 07`; the other two are from manuals.
#[test]
fn the_crc_is_that_of_the_standard() {
    assert_eq!(rtu::crc16(&hex("02 07")), 0x1241);
    assert_eq!(rtu::crc16(b"123456789"), 0x4B37);
    assert_eq!(rtu_frame(1, &hex("03 0000 0001")), hex("01 03 0000 0001 840A"));
    assert_eq!(rtu_frame(0x11, &hex("03 006B 0003")), hex("11 03 006B 0003 7687"));
}

#[test]
fn rtu_streams_may_be_cut_anywhere() {
    let stream: Vec<u8> = pdus().iter().flat_map(|pdu| rtu_frame(9, pdu)).collect();
    let whole = rtu(Direction::Requests, &stream, &[]);
    let expected: Vec<(u8, Vec<u8>)> = pdus().into_iter().map(|pdu| (9, pdu)).collect();
    assert_eq!(whole, (expected, vec![]));
    assert_eq!(rtu(Direction::Requests, &stream, &every_byte(&stream)), whole);
    for first in 0..stream.len() {
        for second in (first..stream.len()).step_by(5) {
            assert_eq!(rtu(Direction::Requests, &stream, &[first, second]), whole);
        }
    }
}

/// Whichever bit the line damages: the frame is not taken, it is counted, and the master is understood again
/// at the latest when it has asked twice more, even if it never pauses.
#[test]
fn a_damaged_bit_costs_little() {
    let next = rtu_frame(9, &hex("04 0100 0002"));
    let mut lost_one_more = 0;
    let mut tried = 0;
    for pdu in pdus() {
        let frame = rtu_frame(9, &pdu);
        for bit in 0..8 * frame.len() {
            let mut stream = frame.clone();
            stream[bit / 8] ^= 1 << (bit % 8);
            for _ in 0..6 {
                stream.extend_from_slice(&next);
            }
            let whole = rtu(Direction::Requests, &stream, &[]);
            let (frames, damaged) = &whole;
            assert!(!damaged.is_empty(), "{pdu:02x?} bit {bit}");
            assert!(
                frames.iter().all(|frame| *frame == (9, hex("04 0100 0002"))),
                "{pdu:02x?} {bit} {frames:x?}"
            );
            assert!(frames.len() >= 4, "{pdu:02x?} bit {bit}: {frames:02x?} {damaged:?}");
            lost_one_more += usize::from(frames.len() < 6);
            tried += 1;
            assert_eq!(rtu(Direction::Requests, &stream, &every_byte(&stream)), whole);
        }
    }
    assert!(lost_one_more * 20 < tried, "{lost_one_more} of {tried} damaged bits cost more than their frame");
}

#[test]
fn bytes_that_are_no_frames_are_dropped() {
    #[track_caller]
    fn check(before: &str, dropped: &[usize]) {
        let good = rtu_frame(9, &hex("03 0000 0001"));
        let stream = [hex(before), good.clone(), good].concat();
        let whole = rtu(Direction::Requests, &stream, &[]);
        assert_eq!(whole.1, dropped, "{before}");
        assert!(
            !whole.0.is_empty() && whole.0.iter().all(|frame| *frame == (9, hex("03 0000 0001"))),
            "{before}"
        );
        assert_eq!(rtu(Direction::Requests, &stream, &every_byte(&stream)), whole);
    }
    check("FF", &[1]);
    check("FFFF", &[2]);
    check("00FF00", &[3]);
    check("01 03 0000 0001 840B", &[8]);
    // After damage what looks like a frame is looked into as well.
    check("01 03 0000 0001 840B 01 03 0000 0001 840B", &[8, 4, 4]);
    // What looks like the beginning of a frame takes the bytes of one with it.
    check("0003", &[8, 2]);
    // A byte count that contradicts the quantity is not trusted.
    check("01 10 0000 0001 F0 0000", &[9]);
    // One that no frame has room for.
    check("01 10 0000 00FF FE 0000", &[9]);
    check(&"55".repeat(300), &[256, 44]);
}

/// A frame in the data of another is data.
#[test]
fn a_frame_within_a_frame_is_data() {
    let inner = rtu_frame(9, &hex("06 0000 0001"));
    let mut data = hex("10 0000 0004 08");
    data.extend_from_slice(&inner);
    let outer = rtu_frame(9, &data);
    for end in 0..outer.len() {
        assert_eq!(Framing::new(Direction::Requests).next(&outer[..end]), Next::Incomplete);
    }
    assert_eq!(rtu(Direction::Requests, &outer, &[]), (vec![(9, data)], vec![]));
    let mut damaged = outer.clone();
    damaged[3] ^= 1;
    assert_eq!(rtu(Direction::Requests, &damaged, &every_byte(&damaged)), (vec![], vec![outer.len()]));
}

#[test]
fn rtu_replies() {
    let pdus = [
        "01 03 CD6B05",
        "03 06 022B 0000 0064",
        "83 02",
        "10 0001 0002",
        "16 0004 00F2 0025",
        "05 00AC FF00",
        "2B 0E 01 81 00 00 02 00 03 414243 01 00",
        "AB 02",
        "17 02 0001",
        "2B 0D 01",
        "04 02 000A",
    ]
    .map(hex);
    let stream: Vec<u8> = pdus.iter().flat_map(|pdu| rtu_frame(9, pdu)).collect();
    let expected: Vec<(u8, Vec<u8>)> = pdus.into_iter().map(|pdu| (9, pdu)).collect();
    for cuts in [vec![], every_byte(&stream)] {
        assert_eq!(rtu(Direction::Responses, &stream, &cuts), (expected.clone(), vec![]));
    }
    // An identification that promises more than a frame holds is not waited for for ever.
    let endless = [hex("09 2B 0E 01 81 00 00 FF"), vec![0; 600]].concat();
    assert!(!rtu(Direction::Responses, &endless, &[]).1.is_empty());
}

fn bytes(len: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), len)
}

/// Often what looks like the beginning of a frame.
fn function_or_any() -> impl Strategy<Value = u8> {
    prop_oneof![Just(0_u8), Just(3), Just(16), Just(22), Just(43), any::<u8>()]
}

proptest! {
    #[test]
    fn a_tcp_frame_is_read_back(transaction: u16, unit: u8, pdu in bytes(1..=253)) {
        let frame = tcp_frame(transaction, unit, &pdu);
        prop_assert_eq!(tcp(&frame, &[]), (vec![(transaction, unit, pdu)], None));
    }

    #[test]
    fn requests_are_read_back(
        all in prop::collection::vec((parts(), any::<u8>()), 1..6),
        cuts in prop::collection::vec(0..1_000_usize, 0..6),
    ) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        let pdus = all.iter().map(|(parts, unit)| (*unit, encoded(&parts.request())));
        let pdus: Vec<(u8, Vec<u8>)> = pdus.collect();
        let stream: Vec<u8> = pdus.iter().flat_map(|(unit, pdu)| rtu_frame(*unit, pdu)).collect();
        prop_assert_eq!(rtu(Direction::Requests, &stream, &cuts), (pdus.clone(), vec![]));
        let stream: Vec<u8> = pdus.iter().flat_map(|(unit, pdu)| tcp_frame(5, *unit, pdu)).collect();
        let frames: Vec<(u16, u8, Vec<u8>)> = pdus.into_iter().map(|(unit, pdu)| (5, unit, pdu)).collect();
        prop_assert_eq!(tcp(&stream, &cuts), (frames.clone(), None));
        for (_, _, pdu) in &frames {
            prop_assert!(Request::decode(pdu).is_ok());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_bytes_give_the_same_however_cut(
        bytes in prop::collection::vec(function_or_any(), 0..700),
        cuts in prop::collection::vec(0..700_usize, 0..8),
        frame in 0..15_usize,
        at in 0..700_usize,
    ) {
        let mut cuts = cuts;
        cuts.sort_unstable();
        let mut stream = bytes;
        let at = at.min(stream.len());
        stream.splice(at..at, rtu_frame(7, &pdus()[frame]));
        for direction in [Direction::Requests, Direction::Responses] {
            let whole = rtu(direction, &stream, &[]);
            prop_assert_eq!(&rtu(direction, &stream, &cuts), &whole);
            prop_assert_eq!(&rtu(direction, &stream, &every_byte(&stream)), &whole);
            prop_assert!(whole.0.iter().all(|(_, pdu)| (1..=MOST_PDU_BYTES).contains(&pdu.len())));
        }
        let whole = tcp(&stream, &[]);
        prop_assert_eq!(&tcp(&stream, &cuts), &whole);
        prop_assert_eq!(&tcp(&stream, &every_byte(&stream)), &whole);
    }
}
