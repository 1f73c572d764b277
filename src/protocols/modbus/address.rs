//! How people name a place in a unit: `holding:100` as it is on the wire, or `40101` and `4x101` as manuals
//! count.

use std::fmt;

/// The four tables of a unit (§4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Area {
    /// Bits that can be written.
    Coil,
    /// Bits that cannot.
    Discrete,
    /// Registers that cannot be written.
    Input,
    /// Registers that can.
    Holding,
}

/// All areas, in the order of the digits that manuals give them.
pub const AREAS: [Area; 4] = [Area::Coil, Area::Discrete, Area::Input, Area::Holding];

/// Addresses in an area.
pub const AREA_SIZE: u32 = 65_536;
/// Bits of a register.
const REGISTER_BITS: u8 = 16;

impl Area {
    /// As an address begins.
    pub fn as_str(self) -> &'static str {
        match self {
            Area::Coil => "coil",
            Area::Discrete => "discrete",
            Area::Input => "input",
            Area::Holding => "holding",
        }
    }

    /// From the form that [`Area::as_str`] gives.
    pub fn parse(text: &str) -> Option<Area> {
        AREAS.into_iter().find(|area| area.as_str() == text)
    }

    /// Whether a place in it is one bit.
    pub fn is_bits(self) -> bool {
        matches!(self, Area::Coil | Area::Discrete)
    }

    /// Whether a master can write there.
    pub fn is_writable(self) -> bool {
        matches!(self, Area::Coil | Area::Holding)
    }

    /// From the first digit of a manual's number.
    fn from_digit(digit: u8) -> Option<Area> {
        Some(match digit {
            b'0' => Area::Coil,
            b'1' => Area::Discrete,
            b'3' => Area::Input,
            b'4' => Area::Holding,
            _ => return None,
        })
    }
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A place in a unit: a coil, a discrete, a register, or one bit of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    area: Area,
    number: u16,
    bit: Option<u8>,
}

impl Address {
    /// A whole coil, discrete or register.
    pub fn new(area: Area, number: u16) -> Address {
        Address { area, number, bit: None }
    }

    /// Parse `holding:100` and `holding:100.3` (area and address as they are on the wire, bit 0 the lowest),
    /// or what manuals write: an area's digit and a number from 1, as `40101` (five or six digits in all) or
    /// `4x101`.
    pub fn parse(text: &str) -> Result<Address, AddressError> {
        let (place, bit) = match text.split_once('.') {
            Some((place, bit)) => (place, Some(bit)),
            None => (text, None),
        };
        let (area, number) = match place.split_once(':') {
            Some((area, number)) => {
                let area = Area::parse(area).ok_or(AddressError::Area)?;
                let number = decimal(number).ok_or(AddressError::Form)?;
                (area, number.try_into().map_err(|_| AddressError::Number)?)
            }
            None => parse_manual(place)?,
        };
        let bit = match bit {
            None => None,
            Some(_) if area.is_bits() => return Err(AddressError::BitOfBit),
            Some(bit) => {
                let bit = decimal(bit).ok_or(AddressError::Bit)?;
                Some(u8::try_from(bit).ok().filter(|bit| *bit < REGISTER_BITS).ok_or(AddressError::Bit)?)
            }
        };
        Ok(Address { area, number, bit })
    }

    /// Which table it is in.
    pub fn area(self) -> Area {
        self.area
    }

    /// The address as it is on the wire, from 0.
    pub fn number(self) -> u16 {
        self.number
    }

    /// Of a register, which bit alone is meant; 0 is the lowest.
    pub fn bit(self) -> Option<u8> {
        self.bit
    }

    /// Whether it is one bit: a coil, a discrete, or a bit of a register.
    pub fn is_bit(self) -> bool {
        self.area.is_bits() || self.bit.is_some()
    }
}

/// `40101`, `400101` or `4x101`.
fn parse_manual(text: &str) -> Result<(Area, u16), AddressError> {
    let Some((&digit, rest)) = text.as_bytes().split_first() else { return Err(AddressError::Form) };
    if !digit.is_ascii_digit() {
        return Err(AddressError::Form);
    }
    let digits = text[1..].strip_prefix(['x', 'X']).unwrap_or(&text[1..]);
    // Without an x only the length tells the area's digit from the number's.
    if digits.len() == rest.len() && !matches!(rest.len(), 4 | 5) {
        return Err(AddressError::Form);
    }
    let number = decimal(digits).ok_or(AddressError::Form)?;
    let area = Area::from_digit(digit).ok_or(AddressError::Digit)?;
    let number = number.checked_sub(1).ok_or(AddressError::ManualNumber)?;
    Ok((area, number.try_into().map_err(|_| AddressError::ManualNumber)?))
}

/// Digits and nothing else; more than fit are as good as the largest.
fn decimal(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u32::MAX))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.area, self.number)?;
        match self.bit {
            Some(bit) => write!(f, ".{bit}"),
            None => Ok(()),
        }
    }
}

/// Why something is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressError {
    /// It has none of the forms.
    Form,
    /// There is no area of that name.
    Area,
    /// There is no area of that digit.
    Digit,
    /// The number is above 65,535.
    Number,
    /// The number is not within 1 to 65,536.
    ManualNumber,
    /// The bit is not within 0 to 15.
    Bit,
    /// A coil or a discrete has no bits.
    BitOfBit,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressError::Form => {
                "not an address, expected one such as holding:100, holding:100.3, 40101, 400101 or 4x101"
            }
            AddressError::Area => "unknown area, expected coil, discrete, input or holding",
            AddressError::Digit => "unknown area, expected 0 (coil), 1 (discrete), 3 (input) or 4 (holding)",
            AddressError::Number => "the number behind the colon is as on the wire, expected 0 to 65535",
            AddressError::ManualNumber => "numbers in this form count from 1, expected 1 to 65536",
            AddressError::Bit => "a register has the bits .0 (the lowest) to .15",
            AddressError::BitOfBit => "a coil or a discrete is one bit already, expected no .bit behind it",
        })
    }
}

impl std::error::Error for AddressError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_are_parsed_and_printed() {
        #[track_caller]
        fn check(text: &str, want: &str) {
            assert_eq!(
                Address::parse(text).map(|address| address.to_string()).as_deref(),
                Ok(want),
                "{text}"
            );
        }
        check("holding:100", "holding:100");
        check("holding:100.3", "holding:100.3");
        check("holding:65535.15", "holding:65535.15");
        check("coil:7", "coil:7");
        check("input:0", "input:0");
        check("input:0.0", "input:0.0");
        check("discrete:3", "discrete:3");
        check("holding:007", "holding:7");
        check("40101", "holding:100");
        check("40001", "holding:0");
        check("49999", "holding:9998");
        check("400101", "holding:100");
        check("465536", "holding:65535");
        check("4x101", "holding:100");
        check("4X1", "holding:0");
        check("4x011", "holding:10");
        check("4x65536", "holding:65535");
        check("40101.3", "holding:100.3");
        check("4x101.15", "holding:100.15");
        check("00001", "coil:0");
        check("000001", "coil:0");
        check("0x10", "coil:9");
        check("10001", "discrete:0");
        check("1x1", "discrete:0");
        check("30001", "input:0");
        check("3x1.1", "input:0.1");
    }

    #[test]
    fn what_is_not_an_address() {
        #[track_caller]
        fn check(text: &str, want: AddressError) {
            assert_eq!(Address::parse(text), Err(want), "{text}");
        }
        for text in ["", " ", "holding", "100", "4", "4x", "x1", "4xx1", "4x-1", "4x+1", "4001", "4000001"] {
            check(text, AddressError::Form);
        }
        for text in
            ["holding:", "holding:x", "holding:-1", "holding:+1", "holding: 1", "é0101", "4é101", "0x1f"]
        {
            check(text, AddressError::Form);
        }
        for text in ["holdings:1", "Holding:1", "register:1", ":1"] {
            check(text, AddressError::Area);
        }
        for text in ["20001", "2x1", "5x1", "60001", "99999"] {
            check(text, AddressError::Digit);
        }
        for text in ["holding:65536", "holding:99999999999999999999"] {
            check(text, AddressError::Number);
        }
        for text in ["40000", "400000", "4x0", "465537", "4x65537", "4x99999999999"] {
            check(text, AddressError::ManualNumber);
        }
        for text in
            ["holding:1.16", "holding:1.", "holding:1.x", "holding:1.1.1", "40001.99999999999", "40001.-1"]
        {
            check(text, AddressError::Bit);
        }
        for text in ["coil:1.1", "00001.0", "discrete:1."] {
            check(text, AddressError::BitOfBit);
        }
    }

    #[test]
    fn errors_say_what_is_expected() {
        for text in ["", "a:1", "2x1", "coil:70000", "4x0", "4x1.16", "0x1.1"] {
            let message = Address::parse(text).expect_err(text).to_string();
            assert!(message.contains("expected") || message.contains(".15"), "{text}: {message}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(area in 0..4_usize, number: u16, bit in prop::option::of(0..16_u8)) {
            let area = AREAS[area];
            let address = Address { area, number, bit: bit.filter(|_| !area.is_bits()) };
            prop_assert_eq!(Address::parse(&address.to_string()), Ok(address));
        }

        #[test]
        fn all_forms_agree(digit in "[0134]", number in 1..=65_536_u32) {
            let by_x = Address::parse(&format!("{digit}x{number}"));
            prop_assert!(by_x.is_ok());
            prop_assert_eq!(Address::parse(&format!("{digit}{number:05}")), by_x);
            if number < 10_000 {
                prop_assert_eq!(Address::parse(&format!("{digit}{number:04}")), by_x);
            }
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,12}", near in "[a-h0-9x:.]{0,8}") {
            let _ = (Address::parse(&text), Address::parse(&near));
        }
    }
}
