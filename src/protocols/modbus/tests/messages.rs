//! Requests, responses, exceptions: the standard's examples, every bound, what is wrong, and what was
//! encoded.

use proptest::prelude::*;

use super::super::identification::{self, Access, Identification, Identify, MOST_OBJECT_BYTES, Object};
use super::super::pdu::{FUNCTIONS, MOST_PDU_BYTES, Span};
use super::super::response::{Mismatch, encode_bits, encode_registers};
use super::super::{Area, Bits, Exception, Function, Mask, Pdu, Registers, ReplyError, Request, Response};

pub(super) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

pub(super) fn span(start: u16, quantity: u16) -> Span {
    Span { start, quantity }
}

pub(super) fn encoded(request: &Request<'_>) -> Vec<u8> {
    let mut pdu = Pdu::new();
    request.encode(&mut pdu);
    pdu.to_vec()
}

/// The request and response of each example in §6 of the standard, with what they mean.
const EXAMPLES: [(&str, &str); 10] = [
    ("01 0013 0013", "01 03 CD6B05"),
    ("02 00C4 0016", "02 03 ACDB35"),
    ("03 006B 0003", "03 06 022B 0000 0064"),
    ("04 0008 0001", "04 02 000A"),
    ("05 00AC FF00", "05 00AC FF00"),
    ("06 0001 0003", "06 0001 0003"),
    ("0F 0013 000A 02 CD01", "0F 0013 000A"),
    ("10 0001 0002 04 000A 0102", "10 0001 0002"),
    ("16 0004 00F2 0025", "16 0004 00F2 0025"),
    ("17 0003 0006 000E 0003 06 00FF 00FF 00FF", "17 0C 00FE 0ACD 0001 0003 000D 00FF"),
];

#[test]
fn examples_of_the_standard() {
    #[track_caller]
    fn check(at: usize, request: Request<'_>, response: Response<'_>) {
        let (asked, answered) = (hex(EXAMPLES[at].0), hex(EXAMPLES[at].1));
        assert_eq!(Request::decode(&asked), Ok(request));
        assert_eq!(encoded(&request), asked);
        assert_eq!(Response::decode(&request, &answered), Ok(response));
        let mut pdu = Pdu::new();
        response.encode(&mut pdu);
        assert_eq!(*pdu, *answered);
        assert_eq!(request.function(), response.function());
    }
    let bits = |bytes, len| Bits::new(bytes, len).unwrap();
    let registers = |bytes| Registers::new(bytes).unwrap();
    check(0, Request::ReadCoils(span(19, 19)), Response::ReadCoils(bits(&[0xCD, 0x6B, 0x05], 19)));
    check(1, Request::ReadDiscretes(span(196, 22)), Response::ReadDiscretes(bits(&[0xAC, 0xDB, 0x35], 22)));
    check(
        2,
        Request::ReadHoldings(span(107, 3)),
        Response::ReadHoldings(registers(&[0x02, 0x2B, 0, 0, 0, 100])),
    );
    check(3, Request::ReadInputs(span(8, 1)), Response::ReadInputs(registers(&[0, 10])));
    check(4, Request::WriteCoil { address: 172, on: true }, Response::WriteCoil { address: 172, on: true });
    check(
        5,
        Request::WriteRegister { address: 1, value: 3 },
        Response::WriteRegister { address: 1, value: 3 },
    );
    check(
        6,
        Request::WriteCoils { address: 19, coils: bits(&[0xCD, 0x01], 10) },
        Response::WriteCoils(span(19, 10)),
    );
    check(
        7,
        Request::WriteRegisters { address: 1, registers: registers(&[0, 10, 1, 2]) },
        Response::WriteRegisters(span(1, 2)),
    );
    let mask = Mask { and: 0xF2, or: 0x25 };
    check(8, Request::MaskWrite { address: 4, mask }, Response::MaskWrite { address: 4, mask });
    assert_eq!(mask.apply(0x12), 0x17);
    check(
        9,
        Request::ReadWrite {
            read: span(3, 6),
            address: 14,
            registers: registers(&[0, 0xFF, 0, 0xFF, 0, 0xFF]),
        },
        Response::ReadWrite(registers(&[0, 0xFE, 0x0A, 0xCD, 0, 1, 0, 3, 0, 13, 0, 0xFF])),
    );
}

/// §7: a read of coil 1185 that is not there.
#[test]
fn exceptions() {
    let mut pdu = Pdu::new();
    Exception::IllegalDataAddress.encode(0x01, &mut pdu);
    assert_eq!(*pdu, [0x81, 0x02]);
    Exception::IllegalFunction.encode(0xE3, &mut pdu);
    assert_eq!(*pdu, [0xE3, 0x01], "what is set already stays set");
    let asked = Request::ReadCoils(span(1185, 1));
    for code in 0..=255 {
        let exception = Exception::from_code(code);
        assert_eq!(exception.code(), code);
        assert_eq!(Response::decode(&asked, &[0x81, code]), Err(ReplyError::Exception(exception)));
        let is_named = matches!(code, 1..=6 | 8 | 10 | 11);
        assert_eq!(matches!(exception, Exception::Other(_)), !is_named);
        assert!(exception.to_string().starts_with(&format!("exception {code}, ")));
    }
}

#[test]
fn any_other_function_is_illegal_whatever_follows() {
    let served: Vec<u8> = FUNCTIONS.map(Function::code).to_vec();
    assert_eq!(served, [1, 2, 3, 4, 5, 6, 15, 16, 22, 23, 43]);
    for code in 0..=255 {
        for body in [&[][..], &[14], &[0, 0, 0, 1], &[0; 100]] {
            let pdu = [&[code], body].concat();
            let is_identification = code != 43 || body.first().is_none_or(|mei| *mei == 14);
            let is_known = served.contains(&code) && is_identification;
            assert_eq!(Function::of(&pdu).is_some(), is_known, "{code} {body:?}");
            let got = Request::decode(&pdu);
            assert_eq!(got == Err(Exception::IllegalFunction), !is_known, "{code} {body:?}: {got:?}");
        }
    }
    for mei in 0..=255 {
        assert_eq!(Function::of(&[43, mei, 1, 0]).is_some(), mei == 14);
    }
    assert_eq!(Request::decode(&[]), Err(Exception::IllegalFunction));
}

#[test]
fn quantities_are_what_the_standard_allows() {
    #[track_caller]
    fn check(most: u16, pdu: impl Fn(u16) -> Vec<u8>) {
        for quantity in (0..=2_100).chain([4_096, 0x7FFF, 0x8000, 0xFFFF]) {
            let got = Request::decode(&pdu(quantity)).is_ok();
            assert_eq!(got, (1..=most).contains(&quantity), "{quantity} of {most}");
        }
    }
    let words = |words: &[u16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
    for (code, most) in [(1, 2_000), (2, 2_000), (3, 125), (4, 125)] {
        check(most, |quantity| [vec![code], words(&[0xFFFF, quantity])].concat());
    }
    // The byte count follows as far as one byte goes; beyond, what it cannot say is wrong anyhow.
    let write = |code, start: &[u16], quantity: u16, bytes: usize| {
        [vec![code], words(start), words(&[quantity]), vec![bytes as u8], vec![0; usize::from(bytes as u8)]]
            .concat()
    };
    check(1_968, |quantity| write(15, &[0], quantity, usize::from(quantity).div_ceil(8)));
    check(123, |quantity| write(16, &[0], quantity, 2 * usize::from(quantity)));
    check(121, |quantity| write(23, &[0, 1, 0], quantity, 2 * usize::from(quantity)));
    check(125, |quantity| write(23, &[0, quantity, 0], 1, 2));
}

#[test]
fn values_and_counts_that_are_wrong() {
    for pdu in [
        "05 0000 FF01",
        "05 0000 0001",
        "05 0000 00FF",
        "05 0000 0100",
        "05 0000 FE00",
        "0F 0000 000A 01 FF",
        "0F 0000 000A 03 FFFFFF",
        "0F 0000 000A 02 FF",
        "0F 0000 000A 02 FFFFFF",
        "0F 0000 0008 02 FFFF",
        "0F 0000 0000 00",
        "10 0000 0001 01 FF",
        "10 0000 0001 04 00000000",
        "10 0000 0002 02 0000",
        "10 0000 0001 02 00",
        "10 0000 0000 00",
        "10 0000 0001 03 000000",
        "17 0000 0001 0000 0001 04 00000000",
        "17 0000 0001 0000 0002 02 0000",
        "17 0000 0000 0000 0001 02 0000",
        "17 0000 0001 0000 0000 00",
        "2B 0E 00 00",
        "2B 0E 05 00",
        "2B 0E FF 00",
        "2B",
        "2B 0E",
        "2B 0E 01",
    ] {
        assert_eq!(Request::decode(&hex(pdu)), Err(Exception::IllegalDataValue), "{pdu}");
    }
}

#[test]
fn a_request_cut_anywhere_or_with_more_behind_is_wrong() {
    for (request, _) in EXAMPLES.into_iter().chain([("2B 0E 01 00", "")]) {
        let pdu = hex(request);
        assert!(Request::decode(&pdu).is_ok());
        for end in 1..pdu.len() {
            assert_eq!(Request::decode(&pdu[..end]), Err(Exception::IllegalDataValue), "{request} to {end}");
        }
        for more in [&[0][..], &[0, 0], &pdu] {
            let longer = [&pdu, more].concat();
            assert_eq!(Request::decode(&longer), Err(Exception::IllegalDataValue), "{request} and {more:?}");
        }
    }
}

/// What a driver may believe: nothing but the answer to its own question.
#[test]
fn a_reply_that_does_not_fit_is_refused() {
    #[track_caller]
    fn check(request: &str, reply: &str, want: Mismatch) {
        let (request, reply) = (hex(request), hex(reply));
        let request = Request::decode(&request).unwrap();
        assert_eq!(Response::decode(&request, &reply), Err(ReplyError::Mismatch(want)));
    }
    check("03 006B 0003", "", Mismatch::Function);
    check("03 006B 0003", "04 06 022B 0000 0064", Mismatch::Function);
    check("03 006B 0003", "84 02", Mismatch::Function);
    check("03 006B 0003", "83", Mismatch::Length);
    check("03 006B 0003", "83 02 00", Mismatch::Length);
    check("03 006B 0003", "03", Mismatch::Length);
    check("03 006B 0003", "03 04 022B 0000", Mismatch::Length);
    check("03 006B 0003", "03 06 022B 0000", Mismatch::Length);
    check("03 006B 0003", "03 04 022B 0000 0064", Mismatch::Length);
    check("03 006B 0003", "03 06 022B 0000 0064 00", Mismatch::Length);
    check("01 0013 0013", "01 02 CD6B", Mismatch::Length);
    check("01 0013 0013", "01 04 CD6B0500", Mismatch::Length);
    check("05 00AC FF00", "05 00AC 0001", Mismatch::Echo);
    check("05 00AC FF00", "05 00AD 0000", Mismatch::Echo);
    check("05 00AC FF00", "05 00AC", Mismatch::Length);
    check("06 0001 0003", "06 0002 0003", Mismatch::Echo);
    check("10 0001 0002 04 000A 0102", "10 0001 0001", Mismatch::Echo);
    check("10 0001 0002 04 000A 0102", "10 0001 0002 04 000A 0102", Mismatch::Length);
    for (request, response) in EXAMPLES {
        let (request, response) = (hex(request), hex(response));
        let request = Request::decode(&request).unwrap();
        // Of data only the first byte, its length, can be told to be wrong.
        let told = if Response::echo(&request).is_some() { response.len() } else { 2 };
        for (byte, bit) in (0..told).flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
            let mut damaged = response.clone();
            damaged[byte] ^= 1 << bit;
            assert!(Response::decode(&request, &damaged).is_err(), "{request:?} {damaged:02x?}");
        }
        for end in 0..response.len() {
            assert!(Response::decode(&request, &response[..end]).is_err());
        }
    }
}

/// A unit may write something else than it was asked for, and says so: of one register or coil.
#[test]
fn another_value_was_written() {
    #[track_caller]
    fn check(request: &str, response: &str, altered: Response<'static>) {
        let (request, response) = (hex(request), hex(response));
        let request = Request::decode(&request).unwrap();
        assert_eq!(Response::decode(&request, &response), Err(ReplyError::Altered(altered)));
    }
    check("05 00AC FF00", "05 00AC 0000", Response::WriteCoil { address: 0xAC, on: false });
    check("05 00AC 0000", "05 00AC FF00", Response::WriteCoil { address: 0xAC, on: true });
    check("06 0001 0003", "06 0001 0002", Response::WriteRegister { address: 1, value: 2 });
}

#[test]
fn addresses_beyond_the_last_are_for_the_unit_to_refuse() {
    let read = Request::decode(&[3, 0xFF, 0xFF, 0, 2]).unwrap();
    assert_eq!(read.reads(), Some((Area::Holding, span(65_535, 2))));
    assert!(!span(65_535, 2).is_within(65_536) && span(65_535, 1).is_within(65_536));
    assert!(
        span(0, 10).is_within(10)
            && !span(1, 10).is_within(10)
            && !span(u16::MAX, u16::MAX).is_within(65_536)
    );
}

#[test]
fn what_a_request_touches() {
    #[track_caller]
    fn check(request: &str, reads: Option<(Area, Span)>, writes: Option<(Area, Span)>) {
        let pdu = hex(request);
        let request = Request::decode(&pdu).unwrap();
        assert_eq!((request.reads(), request.writes()), (reads, writes));
        assert_eq!(request.function().reads(), reads.is_some());
        assert_eq!(request.function().writes(), writes.is_some());
        if let (Some((area, span)), None) = (reads, writes) {
            assert_eq!(Request::read(area, span), request);
        }
    }
    let at = |area, start, quantity| Some((area, span(start, quantity)));
    check(EXAMPLES[0].0, at(Area::Coil, 19, 19), None);
    check(EXAMPLES[1].0, at(Area::Discrete, 196, 22), None);
    check(EXAMPLES[2].0, at(Area::Holding, 107, 3), None);
    check(EXAMPLES[3].0, at(Area::Input, 8, 1), None);
    check(EXAMPLES[4].0, None, at(Area::Coil, 172, 1));
    check(EXAMPLES[5].0, None, at(Area::Holding, 1, 1));
    check(EXAMPLES[6].0, None, at(Area::Coil, 19, 10));
    check(EXAMPLES[7].0, None, at(Area::Holding, 1, 2));
    check(EXAMPLES[8].0, None, at(Area::Holding, 4, 1));
    check(EXAMPLES[9].0, at(Area::Holding, 3, 6), at(Area::Holding, 14, 3));
    check("2B 0E 04 02", None, None);
}

const OBJECTS: [Object<'static>; 5] = [
    Object { id: 0, value: b"Lumina" },
    Object { id: 1, value: b"server" },
    Object { id: 2, value: b"V0.1" },
    Object { id: 4, value: b"Lumina Server" },
    Object { id: 0x80, value: b"private" },
];

/// What a unit with `objects` answers; the objects' ids and the next one.
#[track_caller]
fn identify(objects: &[Object<'_>], access: Access, object: u8) -> Result<(Vec<u8>, Option<u8>), Exception> {
    let asked = Identify { access, object };
    let mut pdu = Pdu::new();
    identification::answer(asked, objects, &mut pdu)?;
    let request = Request::Identify(asked);
    assert_eq!(Request::decode(&encoded(&request)), Ok(request));
    let Ok(Response::Identify(answer)) = Response::decode(&request, &pdu) else {
        panic!("{pdu:?} answers {asked:?}")
    };
    assert_eq!(answer.access, access);
    for object in answer.objects() {
        assert!(objects.iter().any(|known| known.id == object.id && known.value.starts_with(object.value)));
    }
    let mut again = Pdu::new();
    Response::Identify(answer).encode(&mut again);
    assert_eq!(*again, *pdu);
    Ok((answer.objects().map(|object| object.id).collect(), answer.next))
}

#[test]
fn identification_gives_what_there_is() {
    assert_eq!(identify(&OBJECTS, Access::Basic, 0), Ok((vec![0, 1, 2], None)));
    assert_eq!(identify(&OBJECTS, Access::Basic, 1), Ok((vec![1, 2], None)));
    assert_eq!(identify(&OBJECTS, Access::Basic, 4), Ok((vec![0, 1, 2], None)), "begins anew");
    assert_eq!(identify(&OBJECTS, Access::Regular, 0), Ok((vec![0, 1, 2, 4], None)));
    assert_eq!(identify(&OBJECTS, Access::Regular, 3), Ok((vec![0, 1, 2, 4], None)), "begins anew");
    assert_eq!(identify(&OBJECTS, Access::Extended, 0), Ok((vec![0, 1, 2, 4, 0x80], None)));
    assert_eq!(identify(&OBJECTS[..3], Access::Extended, 0), Ok((vec![0, 1, 2], None)), "what it has");
    assert_eq!(identify(&OBJECTS, Access::Individual, 4), Ok((vec![4], None)));
    assert_eq!(identify(&OBJECTS, Access::Individual, 3), Err(Exception::IllegalDataAddress));
    assert_eq!(identify(&[], Access::Basic, 0), Ok((vec![], None)));
    let mut pdu = Pdu::new();
    for (objects, level) in [(&OBJECTS[..3], 0x81), (&OBJECTS[..4], 0x82), (&OBJECTS[..], 0x83)] {
        identification::answer(Identify { access: Access::Basic, object: 0 }, objects, &mut pdu).unwrap();
        assert_eq!(pdu[3], level);
    }
}

#[test]
fn identification_continues_where_it_had_no_room() {
    let long = [b'x'; 300];
    let object = |id, len| Object { id, value: &long[..len] };
    let objects = [object(0, 100), object(1, 100), object(2, 100), object(3, 300), object(4, 5)];
    assert_eq!(identify(&objects, Access::Regular, 0), Ok((vec![0, 1], Some(2))));
    assert_eq!(identify(&objects, Access::Regular, 2), Ok((vec![2], Some(3))));
    assert_eq!(identify(&objects, Access::Regular, 3), Ok((vec![3], Some(4))), "cut to {MOST_OBJECT_BYTES}");
    assert_eq!(identify(&objects, Access::Regular, 4), Ok((vec![4], None)));
    assert_eq!(identify(&objects, Access::Basic, 0), Ok((vec![0, 1], Some(2))));
}

#[test]
fn identification_of_a_device_is_believed_only_whole() {
    let basic = Request::Identify(Identify { access: Access::Basic, object: 0 });
    let single = Request::Identify(Identify { access: Access::Individual, object: 2 });
    let is_ok = |request: &Request<'_>, reply: &str| Response::decode(request, &hex(reply)).is_ok();
    assert!(is_ok(&basic, "2B 0E 01 01 00 00 02 00 01 41 01 02 4242"));
    assert!(is_ok(&basic, "2B 0E 01 01 FF 02 01 00 01 41"));
    for wrong in [
        "2B 0D 01 01 00 00 01 00 01 41",
        "2B 0E 02 01 00 00 01 00 01 41",
        "2B 0E 01 01 01 00 01 00 01 41",
        "2B 0E 01 01 00 00 02 00 01 41",
        "2B 0E 01 01 00 00 01 00 02 41",
        "2B 0E 01 01 00 00 01 00 01 41 00",
        "2B 0E 01 01 00 00",
        "2B 0E 01 01 00 00 01",
        "2B 0E 01 01 00 00 01 00",
    ] {
        assert!(!is_ok(&basic, wrong), "{wrong}");
    }
    assert!(is_ok(&single, "2B 0E 04 81 00 00 01 02 01 41"));
    assert!(!is_ok(&single, "2B 0E 04 81 00 00 01 03 01 41") && !is_ok(&single, "2B 0E 04 81 00 00 00"));
}

#[test]
fn views_tell_what_is_there() {
    let bits = Bits::new(&[0b101, 1], 9).unwrap();
    assert_eq!(
        (bits.len(), bits.get(0), bits.get(1), bits.get(8), bits.get(9)),
        (9, Some(true), Some(false), Some(true), None)
    );
    assert_eq!(bits, Bits::new(&[0b101, 0xFF], 9).unwrap(), "what is left of the last byte means nothing");
    assert_ne!(bits, Bits::new(&[0b101, 1], 10).unwrap());
    assert!(
        Bits::new(&[0], 9).is_none() && Bits::new(&[0], 0).is_none() && Bits::new(&[], 0).unwrap().is_empty()
    );
    let registers = Registers::new(&[1, 2, 3, 4]).unwrap();
    assert_eq!((registers.len(), registers.get(1), registers.get(2)), (2, Some(0x0304), None));
    assert_eq!(registers.part(1, 1).map(Registers::as_bytes), Some(&[3, 4][..]));
    assert_eq!((registers.part(2, 0).map(Registers::len), registers.part(1, 2)), (Some(0), None));
    assert!(Registers::new(&[1]).is_none() && Registers::new(&[]).unwrap().is_empty());
    assert_eq!(format!("{bits:?} {registers:?}"), "[1, 0, 1, 0, 0, 0, 0, 0, 1] [258, 772]");
}

/// All that a message of any function may hold.
#[derive(Clone, Debug)]
pub(super) struct Parts {
    function: usize,
    address: u16,
    other: u16,
    share: f64,
    bytes: Vec<u8>,
}

pub(super) fn parts() -> impl Strategy<Value = Parts> {
    let bytes = prop::collection::vec(any::<u8>(), 250);
    let share = prop_oneof![Just(0.0), Just(1.0), 0.0..1.0];
    (0..FUNCTIONS.len(), any::<u16>(), any::<u16>(), share, bytes)
        .prop_map(|(function, address, other, share, bytes)| Parts { function, address, other, share, bytes })
}

impl Parts {
    fn quantity(&self, most: u16) -> u16 {
        1 + (f64::from(most - 1) * self.share) as u16
    }

    fn bits(&self, most: u16) -> Bits<'_> {
        let len = self.quantity(most);
        Bits::new(&self.bytes[..usize::from(len).div_ceil(8)], len).unwrap()
    }

    fn registers(&self, most: u16) -> Registers<'_> {
        Registers::new(&self.bytes[..2 * usize::from(self.quantity(most))]).unwrap()
    }

    pub(super) fn request(&self) -> Request<'_> {
        let (address, other) = (self.address, self.other);
        match FUNCTIONS[self.function] {
            Function::ReadCoils => Request::ReadCoils(span(address, self.quantity(2_000))),
            Function::ReadDiscretes => Request::ReadDiscretes(span(address, self.quantity(2_000))),
            Function::ReadHoldings => Request::ReadHoldings(span(address, self.quantity(125))),
            Function::ReadInputs => Request::ReadInputs(span(address, self.quantity(125))),
            Function::WriteCoil => Request::WriteCoil { address, on: other > 9 },
            Function::WriteRegister => Request::WriteRegister { address, value: other },
            Function::WriteCoils => Request::WriteCoils { address, coils: self.bits(1_968) },
            Function::WriteRegisters => Request::WriteRegisters { address, registers: self.registers(123) },
            Function::MaskWrite => Request::MaskWrite { address, mask: Mask { and: other, or: !address } },
            Function::ReadWrite => Request::ReadWrite {
                read: span(other, self.quantity(125)),
                address,
                registers: self.registers(121),
            },
            Function::Identify => {
                let access = [Access::Basic, Access::Regular, Access::Extended, Access::Individual];
                Request::Identify(Identify { access: access[usize::from(other % 4)], object: address as u8 })
            }
        }
    }

    /// An answer to the request. An identification is made elsewhere.
    fn response(&self) -> Option<Response<'_>> {
        let request = self.request();
        Some(match request {
            Request::ReadCoils(_) => Response::ReadCoils(self.bits(2_000)),
            Request::ReadDiscretes(_) => Response::ReadDiscretes(self.bits(2_000)),
            Request::ReadHoldings(_) => Response::ReadHoldings(self.registers(125)),
            Request::ReadInputs(_) => Response::ReadInputs(self.registers(125)),
            Request::ReadWrite { .. } => Response::ReadWrite(self.registers(125)),
            Request::Identify(_) => return None,
            write => Response::echo(&write)?,
        })
    }
}

proptest! {
    #[test]
    fn what_was_encoded_is_decoded(parts in parts()) {
        let request = parts.request();
        let pdu = encoded(&request);
        prop_assert!(pdu.len() <= MOST_PDU_BYTES);
        prop_assert_eq!(Request::decode(&pdu), Ok(request));
        if let Some(response) = parts.response() {
            let mut pdu = Pdu::new();
            response.encode(&mut pdu);
            prop_assert!(pdu.len() <= MOST_PDU_BYTES);
            prop_assert_eq!(Response::decode(&request, &pdu), Ok(response));
            let mut direct = Pdu::new();
            match response {
                Response::ReadCoils(bits) | Response::ReadDiscretes(bits) => {
                    encode_bits(response.function(), bits.iter(), &mut direct);
                    prop_assert_eq!(&*direct, &*pdu);
                }
                Response::ReadHoldings(registers) | Response::ReadInputs(registers) => {
                    encode_registers(response.function(), registers.iter(), &mut direct);
                    prop_assert_eq!(&*direct, &*pdu);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn an_identification_is_decoded(
        ids in prop::collection::btree_set(any::<u8>(), 0..20),
        len in 0..300_usize,
        access in 0..4_usize,
        first: u8,
    ) {
        let text = vec![b'x'; len];
        let objects: Vec<Object<'_>> = ids.iter().map(|&id| Object { id, value: &text }).collect();
        let access = [Access::Basic, Access::Regular, Access::Extended, Access::Individual][access];
        // Each part begins where the one before said; together they are the whole.
        let (mut seen, mut at) = (Vec::new(), first);
        while let Ok((found, next)) = identify(&objects, access, at) {
            seen.extend(found);
            let Some(next) = next else { break };
            prop_assert!(seen.last().is_some_and(|last| *last < next));
            at = next;
        }
        prop_assert!(seen.is_sorted());
        let is_there = ids.contains(&first);
        prop_assert!(access != Access::Individual || seen.is_empty() != is_there);
    }

    #[test]
    fn what_was_decoded_is_encoded_again(
        code in prop::sample::select(FUNCTIONS.map(Function::code).to_vec()),
        mut body in prop::collection::vec(any::<u8>(), 0..260),
        count in 0..32_usize,
    ) {
        // Mostly a request whose counts agree, else hardly one would be well-formed.
        for (high, low, at) in [(2, 3, 4), (6, 7, 8)] {
            if let Some(quantity) = body.get_mut(high..=low) {
                quantity.copy_from_slice(&(count as u16).to_be_bytes());
            }
            let bytes = if code == 15 { count.div_ceil(8) } else { 2 * count };
            if (code == 23) == (at == 8) && matches!(code, 15 | 16 | 23) && body.len() > at + bytes {
                body[at] = bytes as u8;
                body.truncate(at + 1 + bytes);
            }
        }
        if matches!(code, 1..=6) {
            body.truncate(4);
        }
        let pdu = [vec![code], body].concat();
        if let Ok(request) = Request::decode(&pdu) {
            let again = encoded(&request);
            prop_assert_eq!(Request::decode(&again), Ok(request));
            // Of coils the rest of the last byte is not kept.
            prop_assert!(code == 15 || again == pdu);
        }
    }

    #[test]
    fn random_bytes_never_panic(parts in parts(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = (Function::of(&bytes), Request::decode(&bytes));
        let request = parts.request();
        for code in [None, Some(request.function().code())] {
            let mut pdu = bytes.clone();
            if let (Some(first), Some(code)) = (pdu.first_mut(), code) {
                *first = code;
            }
            let _ = (Request::decode(&pdu), Response::decode(&request, &pdu));
        }
        let identify = Request::Identify(Identify { access: Access::Basic, object: 0 });
        let pdu = [&[43, 14, 1, 1, 0, 0][..], &bytes].concat();
        if let Ok(Response::Identify(found)) = Response::decode(&identify, &pdu) {
            let _: Identification<'_> = found;
            prop_assert_eq!(found.objects().count(), usize::from(bytes[0]));
        }
    }
}
