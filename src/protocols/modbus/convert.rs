//! What registers mean: the types and orders in which devices lay numbers and texts out, and the scale
//! between a register and its tag. `tag = register × scale + offset`, computed as on paper.

use std::fmt;
use std::num::NonZeroI64;

use super::decimal::Decimal;
use super::pdu::{MOST_WRITTEN_REGISTERS, Registers};
use crate::tags::value::{Input, Kind};

/// What one or more registers hold. A bit of its own (a coil, a discrete, one bit of a register) is always a
/// bool and needs no conversion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// A register: 0 is false, anything else true; true is written as 1.
    Bool,
    I16,
    U16,
    I32,
    U32,
    I64,
    /// More than an int of a tag can hold, 2^63 and above, is unreadable: devices that do not have a value
    /// say so with all bits set.
    U64,
    /// Carried as the 64-bit number of its shortest decimal: 0.1 is 0.1 and not 0.10000000149011612.
    F32,
    F64,
    /// Four decimal digits, the highest first.
    Bcd16,
    /// Eight.
    Bcd32,
    /// So many bytes of UTF-8, two a register, the high byte first. A shorter text ends with a zero byte.
    Text(u8),
}

/// All types with a fixed size, by name; the other is `string(n)`.
const TYPES: [(&str, Type); 11] = [
    ("bool", Type::Bool),
    ("i16", Type::I16),
    ("u16", Type::U16),
    ("i32", Type::I32),
    ("u32", Type::U32),
    ("i64", Type::I64),
    ("u64", Type::U64),
    ("f32", Type::F32),
    ("f64", Type::F64),
    ("bcd16", Type::Bcd16),
    ("bcd32", Type::Bcd32),
];

/// As many as one request can write.
const MOST_TEXT_BYTES: u8 = 2 * MOST_WRITTEN_REGISTERS as u8;

impl Type {
    /// From its name: `u16`, `string(20)`. The error says what is expected.
    pub fn parse(text: &str) -> Result<Type, String> {
        if let Some((_, found)) = TYPES.iter().find(|(name, _)| *name == text) {
            return Ok(*found);
        }
        let digits = text.strip_prefix("string(").and_then(|rest| rest.strip_suffix(')'));
        if let Some(digits) = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())) {
            let bytes = digits.parse().ok().filter(|bytes| (1..=MOST_TEXT_BYTES).contains(bytes));
            return bytes.map(Type::Text).ok_or_else(|| {
                format!("'{text}' is not a type, expected string(1) to string({MOST_TEXT_BYTES}) (bytes)")
            });
        }
        let names: Vec<&str> = TYPES.iter().map(|(name, _)| *name).collect();
        Err(format!("'{text}' is not a type, expected {} or string(n)", names.join(", ")))
    }

    /// How many registers it takes.
    pub fn registers(self) -> u16 {
        match self {
            Type::Bool | Type::I16 | Type::U16 | Type::Bcd16 => 1,
            Type::I32 | Type::U32 | Type::F32 | Type::Bcd32 => 2,
            Type::I64 | Type::U64 | Type::F64 => 4,
            Type::Text(bytes) => u16::from(bytes).div_ceil(2),
        }
    }

    /// Whether it is a number, and so can have a scale.
    pub fn is_number(self) -> bool {
        !matches!(self, Type::Bool | Type::Text(_))
    }

    fn is_float(self) -> bool {
        matches!(self, Type::F32 | Type::F64)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Type::Text(bytes) = self {
            return write!(f, "string({bytes})");
        }
        let name = TYPES.iter().find(|(_, found)| found == self).map(|(name, _)| *name);
        f.write_str(name.expect("every other type is in the table"))
    }
}

/// In which order the bytes of a value come, `a` being the highest of a 32-bit value. In texts the registers
/// always come in the order of the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// As the standard has it (§4.2) for one register.
    #[default]
    Abcd,
    /// The registers reversed.
    Cdab,
    /// The bytes of each register swapped.
    Badc,
    /// Both: all bytes reversed.
    Dcba,
}

/// The names of all orders.
pub const ORDERS: [(&str, Order); 4] =
    [("abcd", Order::Abcd), ("cdab", Order::Cdab), ("badc", Order::Badc), ("dcba", Order::Dcba)];

impl Order {
    /// As configuration writes it.
    pub fn as_str(self) -> &'static str {
        ORDERS[self as usize].0
    }

    /// Whether the bytes of a single register come swapped.
    pub(super) fn swaps_bytes(self) -> bool {
        matches!(self, Order::Badc | Order::Dcba)
    }

    /// From the order of the wire to the highest byte first, and back: each order undoes itself.
    fn arrange<const N: usize>(self, mut bytes: [u8; N]) -> [u8; N] {
        if matches!(self, Order::Cdab | Order::Dcba) {
            bytes.reverse();
        }
        // Reversing all bytes has swapped those of each register as well.
        if matches!(self, Order::Cdab | Order::Badc) {
            bytes.chunks_exact_mut(2).for_each(|register| register.swap(0, 1));
        }
        bytes
    }
}

/// How a value's registers and its tag belong together. 32 bytes: there may be one for each of 100,000
/// points.
#[derive(Clone, Copy, Debug)]
pub struct Conversion {
    kind: Type,
    order: Order,
    scaling: Option<Scaling>,
}

/// The shortest decimals of scale and offset: mantissas and powers of ten.
#[derive(Clone, Copy, Debug)]
struct Scaling {
    scale: NonZeroI64,
    offset: i64,
    scale_exponent: i16,
    offset_exponent: i16,
}

const _: () = assert!(size_of::<Conversion>() <= 32);

/// Why no conversion can be made of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScaleError {
    /// The scale is 0, infinite or NaN.
    Scale,
    /// The offset is infinite or NaN.
    Offset,
    /// A bool or a text has a scale or an offset.
    NotANumber,
}

impl fmt::Display for ScaleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ScaleError::Scale => "expected a scale that is a number other than 0",
            ScaleError::Offset => "expected an offset that is a finite number",
            ScaleError::NotANumber => "only numbers have a scale and an offset",
        })
    }
}

impl std::error::Error for ScaleError {}

/// Why registers have no meaning: the tag is `bad`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// A digit of a BCD number is above 9.
    Digit,
    /// The number is more than an int of a tag can hold.
    TooLarge,
    /// The text is not UTF-8.
    NotText,
}

impl Unreadable {
    /// For people. It does not borrow, so that it can be a reason that is kept.
    pub fn as_str(self) -> &'static str {
        match self {
            Unreadable::Digit => "a BCD digit in the registers is above 9",
            Unreadable::TooLarge => "the number in the registers is beyond 64 bits with a sign",
            Unreadable::NotText => "the text in the registers is not UTF-8",
        }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for Unreadable {}

/// Why a value cannot be written to registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwritable {
    /// There is no value, or it is of another type.
    WrongType,
    /// The number is beyond what the registers' type holds.
    OutOfRange,
    /// The text has more bytes than the registers.
    TooLong,
    /// A zero byte in a text would end it.
    ZeroByte,
}

impl Unwritable {
    /// For people. It does not borrow, so that it can be the text of a refusal.
    pub fn as_str(self) -> &'static str {
        match self {
            Unwritable::WrongType => "the registers hold another type",
            Unwritable::OutOfRange => "the number does not fit the registers",
            Unwritable::TooLong => "the text does not fit the registers",
            Unwritable::ZeroByte => "a text in registers cannot hold a zero byte",
        }
    }
}

impl fmt::Display for Unwritable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::error::Error for Unwritable {}

impl Conversion {
    /// A conversion of that type and order. A scale of 1 and an offset of 0 are none.
    pub fn new(
        kind: Type,
        order: Order,
        scale: Option<f64>,
        offset: Option<f64>,
    ) -> Result<Conversion, ScaleError> {
        let (scale, offset) = (scale.unwrap_or(1.0), offset.unwrap_or(0.0));
        let parts = |float| Decimal::shortest(float).and_then(Decimal::parts);
        let (mantissa, scale_exponent) = parts(scale).ok_or(ScaleError::Scale)?;
        let (offset_mantissa, offset_exponent) = parts(offset).ok_or(ScaleError::Offset)?;
        let scaling = Scaling {
            scale: NonZeroI64::new(mantissa).ok_or(ScaleError::Scale)?,
            offset: offset_mantissa,
            scale_exponent,
            offset_exponent,
        };
        let scaling = (scale != 1.0 || offset != 0.0).then_some(scaling);
        if scaling.is_some() && !kind.is_number() {
            return Err(ScaleError::NotANumber);
        }
        Ok(Conversion { kind, order, scaling })
    }

    /// What the registers hold.
    pub fn of(&self) -> Type {
        self.kind
    }

    /// In which order.
    pub fn order(&self) -> Order {
        self.order
    }

    /// How many registers.
    pub fn registers(&self) -> u16 {
        self.kind.registers()
    }

    /// What the tag holds: an int where register, scale and offset are whole numbers, whatever the registers
    /// hold.
    pub fn tag_kind(&self) -> Kind {
        match self.kind {
            Type::Bool => Kind::Bool,
            Type::Text(_) => Kind::Text,
            kind if kind.is_float() || self.scaling.is_some_and(|scaling| !scaling.is_whole()) => Kind::Float,
            _ => Kind::Int,
        }
    }

    /// The tag's value. Only text is allocated.
    ///
    /// # Panics
    /// If these are not just the registers of the value.
    pub fn read(&self, registers: Registers<'_>) -> Result<Input<'static>, Unreadable> {
        assert_eq!(registers.len(), self.registers(), "a value is read from all of its registers");
        let bytes = registers.as_bytes();
        let number = match self.kind {
            Type::Bool => return Ok(Input::Bool(bytes != [0, 0])),
            Type::Text(len) => return self.read_text(usize::from(len), bytes),
            Type::I16 => Raw::Int(i16::from_be_bytes(self.take(bytes)).into()),
            Type::U16 => Raw::Int(u16::from_be_bytes(self.take(bytes)).into()),
            Type::I32 => Raw::Int(i32::from_be_bytes(self.take(bytes)).into()),
            Type::U32 => Raw::Int(u32::from_be_bytes(self.take(bytes)).into()),
            Type::I64 => Raw::Int(i64::from_be_bytes(self.take(bytes)).into()),
            Type::U64 => Raw::Int(u64::from_be_bytes(self.take(bytes)).into()),
            Type::F32 => Raw::Single(f32::from_be_bytes(self.take(bytes))),
            Type::F64 => Raw::Double(f64::from_be_bytes(self.take(bytes))),
            Type::Bcd16 => Raw::Int(from_bcd(u16::from_be_bytes(self.take(bytes)).into())?),
            Type::Bcd32 => Raw::Int(from_bcd(u32::from_be_bytes(self.take(bytes)))?),
        };
        match self.scaling {
            Some(scaling) => scaling.apply(number),
            None => number.into_input(),
        }
    }

    /// Write a tag's value into the bytes of its registers: the nearest that they can hold, half away from
    /// zero.
    ///
    /// # Panics
    /// If there are not just as many bytes as the registers have.
    pub fn write(&self, value: &Input<'_>, bytes: &mut [u8]) -> Result<(), Unwritable> {
        assert_eq!(
            bytes.len(),
            2 * usize::from(self.registers()),
            "a value is written to all of its registers"
        );
        match (self.kind, value) {
            (Type::Bool, Input::Bool(on)) => self.put(u16::from(*on).to_be_bytes(), bytes),
            (Type::Text(len), Input::Text(text)) => return self.write_text(usize::from(len), text, bytes),
            (Type::F64, Input::Int(_) | Input::Float(_)) => {
                self.put(finite(value, self.unscaled(value))?.to_be_bytes(), bytes);
            }
            (Type::F32, Input::Int(_) | Input::Float(_)) => {
                let single = match (value, self.scaling) {
                    // Straight to 32 bits: by way of 64 it would be rounded twice.
                    (Input::Int(int), None) => *int as f32,
                    _ => self.unscaled(value) as f32,
                };
                self.put((finite(value, single.into())? as f32).to_be_bytes(), bytes);
            }
            (kind, Input::Int(_) | Input::Float(_)) if kind.is_number() => {
                let int = self.unscaled_int(value).ok_or(Unwritable::OutOfRange)?;
                self.put_int(int, bytes).ok_or(Unwritable::OutOfRange)?;
            }
            _ => return Err(Unwritable::WrongType),
        }
        Ok(())
    }

    /// The bytes of a number, the highest first.
    fn take<const N: usize>(&self, bytes: &[u8]) -> [u8; N] {
        self.order.arrange(bytes.try_into().expect("a type takes as many registers as it says"))
    }

    fn put<const N: usize>(&self, number: [u8; N], bytes: &mut [u8]) {
        bytes.copy_from_slice(&self.order.arrange(number));
    }

    /// `None` if it does not fit.
    fn put_int(&self, int: i128, bytes: &mut [u8]) -> Option<()> {
        match self.kind {
            Type::I16 => self.put(i16::try_from(int).ok()?.to_be_bytes(), bytes),
            Type::U16 => self.put(u16::try_from(int).ok()?.to_be_bytes(), bytes),
            Type::I32 => self.put(i32::try_from(int).ok()?.to_be_bytes(), bytes),
            Type::U32 => self.put(u32::try_from(int).ok()?.to_be_bytes(), bytes),
            Type::I64 => self.put(i64::try_from(int).ok()?.to_be_bytes(), bytes),
            Type::U64 => self.put(u64::try_from(int).ok()?.to_be_bytes(), bytes),
            Type::Bcd16 => self.put((to_bcd(int, 4)? as u16).to_be_bytes(), bytes),
            Type::Bcd32 => self.put(to_bcd(int, 8)?.to_be_bytes(), bytes),
            Type::Bool | Type::F32 | Type::F64 | Type::Text(_) => return None,
        }
        Some(())
    }

    /// The register's whole number for a tag's number; `None` if it is none, or far out of range.
    fn unscaled_int(&self, value: &Input<'_>) -> Option<i128> {
        let Some(scaling) = self.scaling else {
            return match *value {
                Input::Int(int) => Some(int.into()),
                Input::Float(float) => whole(float),
                _ => None,
            };
        };
        let exact = scaling.over_offset(value).and_then(|above| above.divided_to_int(scaling.scale()));
        exact.or_else(|| whole(self.unscaled(value)))
    }

    /// The register's number for a tag's number.
    fn unscaled(&self, value: &Input<'_>) -> f64 {
        let float = match *value {
            Input::Int(int) => int as f64,
            Input::Float(float) => float,
            _ => f64::NAN,
        };
        let Some(scaling) = self.scaling else { return float };
        let exact = scaling.over_offset(value).and_then(|above| above.divided(scaling.scale()));
        exact.unwrap_or_else(|| (float - scaling.offset().to_f64()) / scaling.scale().to_f64())
    }

    fn read_text(&self, len: usize, bytes: &[u8]) -> Result<Input<'static>, Unreadable> {
        let mut text = bytes.to_vec();
        if self.order.swaps_bytes() {
            swap_registers(&mut text);
        }
        let end = text.iter().take(len).position(|&byte| byte == 0).unwrap_or(len);
        text.truncate(end);
        let text = String::from_utf8(text).map_err(|_| Unreadable::NotText)?;
        Ok(Input::Text(text.into()))
    }

    fn write_text(&self, len: usize, text: &str, bytes: &mut [u8]) -> Result<(), Unwritable> {
        if text.len() > len {
            return Err(Unwritable::TooLong);
        }
        if text.contains('\0') {
            return Err(Unwritable::ZeroByte);
        }
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        bytes[text.len()..].fill(0);
        if self.order.swaps_bytes() {
            swap_registers(bytes);
        }
        Ok(())
    }
}

/// A register's number.
#[derive(Clone, Copy, Debug)]
enum Raw {
    Int(i128),
    Single(f32),
    Double(f64),
}

impl Raw {
    fn into_input(self) -> Result<Input<'static>, Unreadable> {
        Ok(match self {
            Raw::Int(int) => Input::Int(int.try_into().map_err(|_| Unreadable::TooLarge)?),
            Raw::Single(single) => Input::Float(widened(single)),
            Raw::Double(double) => Input::Float(double),
        })
    }

    fn decimal(self) -> Option<Decimal> {
        match self {
            Raw::Int(int) => Some(int.into()),
            Raw::Single(single) => Decimal::shortest_single(single),
            Raw::Double(double) => Decimal::shortest(double),
        }
    }

    fn float(self) -> f64 {
        match self {
            Raw::Int(int) => int as f64,
            Raw::Single(single) => widened(single),
            Raw::Double(double) => double,
        }
    }
}

impl Scaling {
    fn scale(&self) -> Decimal {
        Decimal::new(self.scale.get(), self.scale_exponent)
    }

    fn offset(&self) -> Decimal {
        Decimal::new(self.offset, self.offset_exponent)
    }

    fn is_whole(&self) -> bool {
        self.scale().is_whole() && self.offset().is_whole()
    }

    fn apply(&self, raw: Raw) -> Result<Input<'static>, Unreadable> {
        let exact = raw.decimal().and_then(|decimal| decimal.times(self.scale())?.plus(self.offset()));
        if matches!(raw, Raw::Int(_)) && self.is_whole() {
            let int = exact.and_then(Decimal::to_int).and_then(|int| i64::try_from(int).ok());
            return int.map(Input::Int).ok_or(Unreadable::TooLarge);
        }
        // What has too many digits for a decimal has too many to be shown, so floats do.
        let float = || raw.float() * self.scale().to_f64() + self.offset().to_f64();
        Ok(Input::Float(exact.map_or_else(float, Decimal::to_f64)))
    }

    /// Tag less offset; `None` if it is no finite number, or has too many digits.
    fn over_offset(&self, value: &Input<'_>) -> Option<Decimal> {
        let tag = match *value {
            Input::Int(int) => Decimal::from(i128::from(int)),
            Input::Float(float) => Decimal::shortest(float)?,
            _ => return None,
        };
        tag.minus(self.offset())
    }
}

/// The 64-bit number of a 32-bit number's shortest decimal.
fn widened(single: f32) -> f64 {
    let double = f64::from(single);
    // Zeros with their sign, infinities, NaN, and small whole numbers are the same in both.
    let is_small_int = double.trunc() == double && double.abs() < f64::from(1 << 24);
    let decimal = if is_small_int { None } else { Decimal::shortest_single(single) };
    decimal.map_or(double, Decimal::to_f64)
}

/// Only what is infinite already may become so.
fn finite(value: &Input<'_>, result: f64) -> Result<f64, Unwritable> {
    let was_finite = !matches!(value, Input::Float(float) if !float.is_finite());
    if was_finite && !result.is_finite() { Err(Unwritable::OutOfRange) } else { Ok(result) }
}

/// The nearest whole number, half away from zero; `None` for NaN and what is beyond any register.
fn whole(float: f64) -> Option<i128> {
    let rounded = float.round();
    (rounded.abs() < 1e30).then_some(rounded as i128)
}

fn from_bcd(digits: u32) -> Result<i128, Unreadable> {
    (0..8).rev().try_fold(0, |number, place| match digits >> (4 * place) & 0xF {
        digit @ 0..=9 => Ok(10 * number + i128::from(digit)),
        _ => Err(Unreadable::Digit),
    })
}

fn to_bcd(int: i128, places: u32) -> Option<u32> {
    let mut left = u32::try_from(int).ok().filter(|int| *int < 10_u32.pow(places))?;
    let mut digits = 0;
    for place in 0..places {
        digits |= (left % 10) << (4 * place);
        left /= 10;
    }
    Some(digits)
}

fn swap_registers(bytes: &mut [u8]) {
    bytes.chunks_exact_mut(2).for_each(|register| register.swap(0, 1));
}
