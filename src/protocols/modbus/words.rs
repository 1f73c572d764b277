//! What messages say, in words: for people who read recorded frames. What a frame does not bear out is said,
//! too.

use std::fmt::{self, Display, Write};

use super::address::Area;
use super::identification::{Identify, MOST_OBJECT_BYTES, Object};
use super::pdu::{Bits, Exception, Function, MEI_IDENTIFICATION, Mask, Registers, Span};
use super::request::{Request, coil_of, two_words};
use super::response::Response;
use super::{mbap, rtu};
use crate::base::log::one_line;
use crate::engine::Side;

/// Registers that are listed; of more the first ones.
const MOST_REGISTERS: usize = 16;
/// Bits that are listed.
const MOST_BITS: usize = 64;
/// Set in the function code of a reply that refuses (§7).
const REFUSED: u8 = 0x80;

/// Frames of Modbus over TCP and UDP, one behind the other.
pub fn of_mbap(side: Side, mut bytes: &[u8]) -> String {
    let mut words = Vec::new();
    while !bytes.is_empty() {
        let count = bytes.len();
        match mbap::Frame::parse(bytes) {
            Ok(Some(frame)) => {
                let (transaction, unit, said) = (frame.transaction, frame.unit, of_pdu(side, frame.pdu));
                words.push(format!("transaction {transaction}, unit {unit}: {said}"));
                bytes = &bytes[frame.bytes()..];
                continue;
            }
            Ok(None) => words.push(format!("{count} bytes of a frame that goes on")),
            Err(violation) => words.push(format!("{count} bytes that are no frame: {violation}")),
        }
        break;
    }
    words.join("; ")
}

/// RTU frames, one behind the other.
pub fn of_rtu(side: Side, mut bytes: &[u8]) -> String {
    let mut words = Vec::new();
    let mut framing = rtu::Framing::new(match side {
        Side::Asks => rtu::Direction::Requests,
        Side::Answers => rtu::Direction::Responses,
    });
    while !bytes.is_empty() {
        let count = match framing.next(bytes) {
            rtu::Next::Frame(frame) => {
                let said = of_pdu(side, frame.pdu);
                words.push(match frame.unit {
                    rtu::BROADCAST_UNIT => format!("all units: {said}"),
                    unit => format!("unit {unit}: {said}"),
                });
                frame.bytes()
            }
            rtu::Next::Damaged(count) => {
                words.push(format!("{count} bytes that are no frame, or a damaged one"));
                count
            }
            rtu::Next::Incomplete => {
                words.push(format!("{} bytes of a frame that goes on", bytes.len()));
                break;
            }
        };
        bytes = &bytes[count..];
    }
    words.join("; ")
}

fn of_pdu(side: Side, pdu: &[u8]) -> String {
    let said = match side {
        Side::Asks => Request::decode(pdu).ok().map(|request| of_request(&request)),
        Side::Answers => of_answer(pdu),
    };
    said.unwrap_or_else(|| match Function::of(pdu) {
        Some(function) => format!("function {}, malformed", function.code()),
        None => format!("function {}, of which nothing is known", pdu.first().copied().unwrap_or(0)),
    })
}

fn of_request(request: &Request<'_>) -> String {
    let place = |(area, span)| Place { area, span };
    let (read, written) = (request.reads().map(place), request.writes().map(place));
    match (request, read, written) {
        (Request::ReadWrite { registers, .. }, Some(read), Some(written)) => {
            format!("write {written}: {}, then read {read}", Values(*registers))
        }
        (Request::WriteCoil { on, .. }, _, Some(coil)) => format!("write {coil}: {}", on_off(*on)),
        (Request::WriteRegister { value, .. }, _, Some(register)) => format!("write {register}: {value}"),
        (Request::WriteCoils { coils, .. }, _, Some(written)) => {
            format!("write {written}: {}", Digits(*coils))
        }
        (Request::WriteRegisters { registers, .. }, _, Some(written)) => {
            format!("write {written}: {}", Values(*registers))
        }
        (Request::MaskWrite { mask, .. }, _, Some(register)) => format!("mask {register}: {}", masks(mask)),
        (Request::Identify(Identify { access, object }), ..) => {
            format!("read device identification, {access:?}, from object {object}").to_lowercase()
        }
        (_, Some(read), _) => format!("read {read}"),
        (_, _, written) => format!("write {}", written.map(|place| place.to_string()).unwrap_or_default()),
    }
}

/// An answer says little of what was asked: of bits not even how many are meant.
fn of_answer(pdu: &[u8]) -> Option<String> {
    let (&code, body) = pdu.split_first()?;
    if code & REFUSED != 0 {
        let &[exception] = body else { return None };
        return Some(Exception::from_code(exception).to_string());
    }
    let counted = || {
        let (&count, data) = body.split_first()?;
        (data.len() == usize::from(count)).then_some(data)
    };
    let one = |area, start| Place { area, span: Span { start, quantity: 1 } };
    Some(match Function::of(pdu)? {
        function @ (Function::ReadCoils | Function::ReadDiscretes) => {
            let data = counted()?;
            let bits = Bits::new(data, 8 * data.len() as u16)?;
            let name = if function == Function::ReadCoils { "coils" } else { "discrete inputs" };
            format!("up to {} {name}: {}", bits.len(), Digits(bits))
        }
        Function::ReadHoldings | Function::ReadInputs | Function::ReadWrite => {
            let registers = Registers::new(counted()?)?;
            let name = if registers.len() == 1 { "register" } else { "registers" };
            format!("{} {name}: {}", registers.len(), Values(registers))
        }
        Function::WriteCoil => {
            let (address, value) = two_words(body)?;
            format!("wrote {}: {}", one(Area::Coil, address), on_off(coil_of(value)?))
        }
        Function::WriteRegister => {
            let (address, value) = two_words(body)?;
            format!("wrote {}: {value}", one(Area::Holding, address))
        }
        function @ (Function::WriteCoils | Function::WriteRegisters) => {
            let (start, quantity) = two_words(body)?;
            let area = if function == Function::WriteCoils { Area::Coil } else { Area::Holding };
            format!("wrote {}", Place { area, span: Span { start, quantity } })
        }
        Function::MaskWrite => {
            let Ok(Request::MaskWrite { address, mask }) = Request::decode(pdu) else { return None };
            format!("masked {}: {}", one(Area::Holding, address), masks(&mask))
        }
        Function::Identify => {
            let &[_, access, _, _, _, _, object, ..] = body else { return None };
            let asked = Identify::decode(&[MEI_IDENTIFICATION, access, object])?;
            let Ok(Response::Identify(identification)) = Response::decode(&Request::Identify(asked), pdu)
            else {
                return None;
            };
            let text =
                |object: Object<'_>| one_line(String::from_utf8_lossy(object.value), MOST_OBJECT_BYTES);
            let texts: Vec<String> = identification.objects().map(text).collect();
            format!("identification: {}", texts.join(", "))
        }
    })
}

/// `holding registers 100..109`
struct Place {
    area: Area,
    span: Span,
}

impl Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.area {
            Area::Coil => "coil",
            Area::Discrete => "discrete input",
            Area::Input => "input register",
            Area::Holding => "holding register",
        })?;
        match self.span {
            Span { start, quantity: 1 } => write!(f, " {start}"),
            Span { start, quantity: 0 } => write!(f, "s {start}, none"),
            span => write!(f, "s {}..{}", span.start, span.end() - 1),
        }
    }
}

/// Registers as unsigned numbers.
struct Values<'a>(Registers<'a>);

impl Display for Values<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, value) in self.0.iter().take(MOST_REGISTERS).enumerate() {
            write!(f, "{}{value}", if at > 0 { " " } else { "" })?;
        }
        if usize::from(self.0.len()) > MOST_REGISTERS { f.write_str(" …") } else { Ok(()) }
    }
}

/// Bits, the first one first.
struct Digits<'a>(Bits<'a>);

impl Display for Digits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(MOST_BITS).try_for_each(|bit| f.write_char(if bit { '1' } else { '0' }))?;
        if usize::from(self.0.len()) > MOST_BITS { f.write_str("…") } else { Ok(()) }
    }
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

fn masks(mask: &Mask) -> String {
    format!("and 0x{:04x}, or 0x{:04x}", mask.and, mask.or)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(side: Side, pdu: &[u8], words: &str) {
        let mut frame = mbap::header(7, 1, pdu.len()).to_vec();
        frame.extend_from_slice(pdu);
        assert_eq!(of_mbap(side, &frame), format!("transaction 7, unit 1: {words}"));
        let rtu = [&[9], pdu, &rtu::trailer(9, pdu)].concat();
        assert_eq!(of_rtu(side, &rtu), format!("unit 9: {words}"));
    }

    #[test]
    fn requests() {
        let check = |pdu: &[u8], words: &str| check(Side::Asks, pdu, words);
        check(&[1, 0, 0, 0, 10], "read coils 0..9");
        check(&[2, 0, 7, 0, 1], "read discrete input 7");
        check(&[3, 0, 100, 0, 10], "read holding registers 100..109");
        check(&[4, 0xff, 0xff, 0, 2], "read input registers 65535..65536");
        check(&[5, 0, 7, 0xff, 0], "write coil 7: on");
        check(&[6, 0, 10, 0, 42], "write holding register 10: 42");
        check(&[15, 0, 4, 0, 10, 2, 0b1000_1101, 1], "write coils 4..13: 1011000110");
        check(&[16, 0, 0, 0, 2, 4, 0x12, 0x34, 0, 5], "write holding registers 0..1: 4660 5");
        check(&[22, 0, 4, 0, 0xf2, 0, 0x25], "mask holding register 4: and 0x00f2, or 0x0025");
        check(
            &[23, 0, 0, 0, 2, 0, 9, 0, 1, 2, 0xab, 0xcd],
            "write holding register 9: 43981, then read holding registers 0..1",
        );
        check(&[43, 14, 1, 0], "read device identification, basic, from object 0");
        check(&[3, 0, 100, 0, 0], "function 3, malformed");
        check(&[99, 1], "function 99, of which nothing is known");
        let long = [&[16, 0, 0, 0, 17, 34][..], &[0; 34]].concat();
        check(&long, &format!("write holding registers 0..16: {}…", "0 ".repeat(16)));
    }

    #[test]
    fn answers() {
        let check = |pdu: &[u8], words: &str| check(Side::Answers, pdu, words);
        check(&[1, 2, 0b1000_1101, 1], "up to 16 coils: 1011000110000000");
        check(&[2, 1, 1], "up to 8 discrete inputs: 10000000");
        check(&[3, 4, 0, 1, 0xff, 0xff], "2 registers: 1 65535");
        check(&[4, 2, 0, 42], "1 register: 42");
        check(&[5, 0, 7, 0, 0], "wrote coil 7: off");
        check(&[6, 0, 10, 0, 42], "wrote holding register 10: 42");
        check(&[15, 0, 4, 0, 10], "wrote coils 4..13");
        check(&[16, 0, 0, 0, 1], "wrote holding register 0");
        check(&[22, 0, 4, 0, 0xf2, 0, 0x25], "masked holding register 4: and 0x00f2, or 0x0025");
        check(&[23, 2, 0, 1], "1 register: 1");
        check(&[43, 14, 1, 1, 0, 0, 2, 0, 2, b'L', b'\n', 1, 1, b'x'], "identification: L\\n, x");
        check(&[0x83, 2], "exception 2, illegal data address");
        check(&[0x90, 77], "exception 77, a code that the standard does not name");
    }

    #[test]
    fn several_frames_and_parts_of_one() {
        let frame = [0, 7, 0, 0, 0, 6, 1, 3, 0, 100, 0, 1];
        let read = "transaction 7, unit 1: read holding register 100";
        assert_eq!(of_mbap(Side::Asks, &[frame, frame].concat()), format!("{read}; {read}"));
        assert_eq!(of_mbap(Side::Asks, &frame[..9]), "9 bytes of a frame that goes on");
        let garbage = of_mbap(Side::Asks, &[&frame[..], b"GET / HTTP"].concat());
        assert_eq!(garbage, format!("{read}; 10 bytes that are no frame: protocol id 21536, expected 0"));
        let answer = of_mbap(Side::Answers, &[0, 7, 0, 0, 0, 3, 1, 3, 9]);
        assert_eq!(answer, "transaction 7, unit 1: function 3, malformed");
        let rtu = [0, 6, 0, 1, 0, 2, 0x58, 0x1a];
        assert_eq!(of_rtu(Side::Asks, &rtu), "all units: write holding register 1: 2");
        let damaged = [&rtu[..7], &[0], &rtu[..]].concat();
        let words = "8 bytes that are no frame, or a damaged one; all units: write holding register 1: 2";
        assert_eq!(of_rtu(Side::Asks, &damaged), words);
        assert_eq!(of_rtu(Side::Answers, &rtu[..5]), "5 bytes of a frame that goes on");
        assert_eq!(of_rtu(Side::Asks, b"") + &of_mbap(Side::Asks, b""), "");
    }

    proptest! {
        #[test]
        fn any_bytes_have_words(bytes in prop::collection::vec(any::<u8>(), 1..80), code in 0..50u8) {
            let pdu = [&[code][..], &bytes].concat();
            for side in [Side::Asks, Side::Answers] {
                let all = [of_mbap(side, &bytes), of_rtu(side, &bytes), of_pdu(side, &pdu)];
                for words in all {
                    prop_assert!(!words.is_empty() && !words.contains(char::is_control), "{}", words);
                }
            }
        }
    }
}
