//! The crate `modbus-core` as a second opinion, on what it can do: it knows neither function 22 nor 43,
//! encodes the answer to function 5 without its value, and is content with requests that are too long.

use modbus_core::{self as core, Data, Encode, ExceptionResponse, FunctionCode, RequestPdu, ResponsePdu};
use proptest::prelude::*;

use super::super::{Exception, Pdu, Request, Response, rtu};
use super::framings::{rtu_frame, tcp_frame};
use super::messages::{Parts, encoded, parts};

/// The request in the other's terms; coils are packed into `buffer`.
fn theirs<'a>(request: &Request<'a>, buffer: &'a mut [u8]) -> Option<core::Request<'a>> {
    Some(match *request {
        Request::ReadCoils(span) => core::Request::ReadCoils(span.start, span.quantity),
        Request::ReadDiscretes(span) => core::Request::ReadDiscreteInputs(span.start, span.quantity),
        Request::ReadHoldings(span) => core::Request::ReadHoldingRegisters(span.start, span.quantity),
        Request::ReadInputs(span) => core::Request::ReadInputRegisters(span.start, span.quantity),
        Request::WriteCoil { address, on } => core::Request::WriteSingleCoil(address, on),
        Request::WriteRegister { address, value } => core::Request::WriteSingleRegister(address, value),
        Request::WriteCoils { address, coils } => {
            let bools: Vec<bool> = coils.iter().collect();
            core::Request::WriteMultipleCoils(address, core::Coils::from_bools(&bools, buffer).ok()?)
        }
        Request::WriteRegisters { address, registers } => {
            core::Request::WriteMultipleRegisters(address, Data::try_from(registers.as_bytes()).ok()?)
        }
        Request::ReadWrite { read, address, registers } => {
            let data = Data::try_from(registers.as_bytes()).ok()?;
            core::Request::ReadWriteMultipleRegisters(read.start, read.quantity, address, data)
        }
        Request::MaskWrite { .. } | Request::Identify(_) => return None,
    })
}

/// What the two say of one PDU, in words.
fn compare(ours: &Request<'_>, theirs: &core::Request<'_>) -> bool {
    let mut buffer = [0; 300];
    let Some(expected) = self::theirs(ours, &mut buffer) else { return false };
    match (expected, *theirs) {
        (core::Request::WriteMultipleCoils(a, coils), core::Request::WriteMultipleCoils(b, others)) => {
            a == b && coils.into_iter().eq(others)
        }
        (expected, theirs) => expected == theirs,
    }
}

fn check(parts: &Parts, unit: u8, transaction: u16) -> Result<(), TestCaseError> {
    let request = parts.request();
    let pdu = encoded(&request);
    let (mut data, mut out) = ([0; 300], [0; 300]);
    let Some(other) = theirs(&request, &mut data) else { return Ok(()) };

    let len = other.encode(&mut out).unwrap();
    prop_assert_eq!(&out[..len], &*pdu);
    let decoded = core::Request::try_from(&*pdu).unwrap();
    prop_assert!(compare(&request, &decoded), "{:?} {:?}", request, decoded);

    let hdr = core::tcp::Header { transaction_id: transaction, unit_id: unit };
    let adu = core::tcp::RequestAdu { hdr, pdu: RequestPdu(other) };
    let len = core::tcp::client::encode_request(adu, &mut out).unwrap();
    prop_assert_eq!(&out[..len], &*tcp_frame(transaction, unit, &pdu));
    let adu = core::rtu::RequestAdu { hdr: core::rtu::Header { slave: unit }, pdu: RequestPdu(other) };
    let len = core::rtu::client::encode_request(adu, &mut out).unwrap();
    prop_assert_eq!(&out[..len], &*rtu_frame(unit, &pdu));
    Ok(())
}

fn words() -> impl Strategy<Value = Vec<u16>> {
    prop::collection::vec(any::<u16>(), 1..=125)
}

proptest! {
    #[test]
    fn requests_are_the_same(parts in parts(), unit: u8, transaction: u16) {
        check(&parts, unit, transaction)?;
    }

    #[test]
    fn what_we_take_for_a_request_is_one(bytes: [u8; 7], len in 1..7_usize, code in 1..24_u8) {
        for first in [bytes[0], code] {
            // Of five bytes mostly: requests that random bytes often make.
            let mut pdu = bytes[..len.min(5)].to_vec();
            pdu[0] = first;
            if let Ok(request) = Request::decode(&pdu) {
                let theirs = core::Request::try_from(&*pdu).unwrap();
                prop_assert!(compare(&request, &theirs), "{:?} {:?}", request, theirs);
            }
        }
    }

    #[test]
    fn responses_are_the_same(words in words(), count in 1..=2_000_usize) {
        let count = count.min(16 * words.len());
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        let quantity = words.len() as u16;
        let mut out = [0; 300];
        let mut pdu = Pdu::new();
        let registers = super::super::Registers::new(&bytes).unwrap();
        Response::ReadHoldings(registers).encode(&mut pdu);
        let mut buffer = [0; 300];
        let theirs = core::Response::ReadHoldingRegisters(Data::try_from(&*bytes).unwrap());
        let len = ResponsePdu(Ok(theirs)).encode(&mut out).unwrap();
        prop_assert_eq!(&out[..len], &*pdu);
        let asked = Request::read(super::super::Area::Holding, super::messages::span(7, quantity));
        prop_assert_eq!(Response::decode(&asked, &out[..len]), Ok(Response::ReadHoldings(registers)));

        let bits = super::super::Bits::new(&bytes[..count.div_ceil(8)], count as u16).unwrap();
        Response::ReadCoils(bits).encode(&mut pdu);
        let bools: Vec<bool> = bits.iter().collect();
        let coils = core::Coils::from_bools(&bools, &mut buffer).unwrap();
        let len = ResponsePdu(Ok(core::Response::ReadCoils(coils))).encode(&mut out).unwrap();
        prop_assert_eq!(&out[..len], &*pdu);
    }

    #[test]
    fn the_crc_is_the_same(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        // Theirs has its bytes in the order of the wire.
        prop_assert_eq!(rtu::crc16(&bytes), core::rtu::crc16(&bytes).swap_bytes());
    }
}

#[test]
fn exceptions_are_the_same() {
    for (code, function) in (0..=255_u8).flat_map(|code| [1, 3, 16, 23].map(|function| (code, function))) {
        let Ok(exception) = core::Exception::try_from(code) else {
            assert_eq!(Exception::from_code(code), Exception::Other(code));
            continue;
        };
        let (mut pdu, mut out) = (Pdu::new(), [0; 2]);
        Exception::from_code(code).encode(function, &mut pdu);
        let theirs = ExceptionResponse { function: FunctionCode::new(function), exception };
        assert_eq!(ResponsePdu(Err(theirs)).encode(&mut out), Ok(2));
        assert_eq!(*pdu, out);
    }
}
