//! What a tag can hold, and its text form: one parser and one printer for the line protocol, the
//! configuration and whatever else speaks in lines.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::sync::Arc;

use crate::base::time::Timestamp;

pub use super::kind::{KINDS, Kind, Limits, Mismatch, Number};

/// A value as it is stored.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// No value.
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// Shared, so that a copy for a reader is a count and not an allocation.
    Text(Arc<str>),
}

const _: () = assert!(size_of::<Value>() <= 24);

impl Value {
    /// Same type and same bit pattern: 0.0 and -0.0 differ, all NaN are one.
    pub fn same(&self, other: &Value) -> bool {
        self.as_input().same(&other.as_input())
    }

    /// The borrowed form.
    pub fn as_input(&self) -> Input<'_> {
        match self {
            Value::Null => Input::Null,
            Value::Bool(bool) => Input::Bool(*bool),
            Value::Int(int) => Input::Int(*int),
            Value::Float(float) => Input::Float(*float),
            Value::Text(text) => Input::Text(Cow::Borrowed(text)),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_value(self, f)
    }
}

/// How far a value can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    Good,
    /// The last known value; its source is gone, silent or overdue.
    Uncertain,
    /// No usable value.
    Bad,
}

impl Quality {
    /// As the line protocol writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Quality::Good => "good",
            Quality::Uncertain => "uncertain",
            Quality::Bad => "bad",
        }
    }

    /// From the form that [`Quality::as_str`] gives, as text or bytes.
    pub fn parse<T: AsRef<[u8]> + ?Sized>(text: &T) -> Option<Quality> {
        match text.as_ref() {
            b"good" => Some(Quality::Good),
            b"uncertain" => Some(Quality::Uncertain),
            b"bad" => Some(Quality::Bad),
            _ => None,
        }
    }
}

/// What a tag holds at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    pub value: Value,
    pub quality: Quality,
    pub time: Timestamp,
}

impl Sample {
    /// The state of a tag that never had a value.
    pub fn never() -> Sample {
        Sample { value: Value::Null, quality: Quality::Bad, time: Timestamp(0) }
    }
}

/// A value on its way in: nothing is allocated for it until it is accepted, unless it is text with escapes.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'a, str>),
}

impl<'a> Input<'a> {
    /// Parses one whole field. The length of a text is for the caller to check.
    pub fn parse(field: &'a str) -> Result<Input<'a>, ValueError> {
        match field.as_bytes() {
            [b'"', ..] => parse_text(&field[1..]).map(Input::Text),
            [b'0'..=b'9', ..] | [b'-', b'0'..=b'9', ..] => parse_number(field),
            b"true" => Ok(Input::Bool(true)),
            b"false" => Ok(Input::Bool(false)),
            b"null" => Ok(Input::Null),
            b"nan" => Ok(Input::Float(f64::NAN)),
            b"inf" => Ok(Input::Float(f64::INFINITY)),
            b"-inf" => Ok(Input::Float(f64::NEG_INFINITY)),
            _ => Err(ValueError::Unknown),
        }
    }

    /// Length of a text in bytes; 0 for any other type.
    pub fn text_len(&self) -> usize {
        if let Input::Text(text) = self { text.len() } else { 0 }
    }

    /// As [`Value::same`].
    pub fn same(&self, other: &Input<'_>) -> bool {
        match (self, other) {
            (Input::Null, Input::Null) => true,
            (Input::Bool(a), Input::Bool(b)) => a == b,
            (Input::Int(a), Input::Int(b)) => a == b,
            (Input::Float(a), Input::Float(b)) => a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()),
            (Input::Text(a), Input::Text(b)) => a == b,
            _ => false,
        }
    }

    /// Allocates once for text, and for nothing else.
    #[inline]
    pub fn into_value(self) -> Value {
        match self {
            Input::Null => Value::Null,
            Input::Bool(bool) => Value::Bool(bool),
            Input::Int(int) => Value::Int(int),
            Input::Float(float) => Value::Float(float),
            Input::Text(text) => Value::Text(Arc::from(text.as_ref())),
        }
    }
}

/// Why a field is not a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueError {
    Unknown,
    /// More than 64 bits can hold.
    TooLarge,
    NoClosingQuote,
    AfterClosingQuote,
    ControlCharacter,
    Escape,
    LoneSurrogate,
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ValueError::Unknown => "not a value; write text in double quotes",
            ValueError::TooLarge => "the number does not fit 64 bits",
            ValueError::NoClosingQuote => "the text has no closing quote",
            ValueError::AfterClosingQuote => "something follows the closing quote",
            ValueError::ControlCharacter => "a control character in text must be escaped",
            ValueError::Escape => "not an escape of JSON",
            ValueError::LoneSurrogate => "half of a surrogate pair stands alone",
        })
    }
}

impl std::error::Error for ValueError {}

/// Prints a value so that [`Input::parse`] reads the same one back.
pub fn write_value(value: &Value, out: &mut impl Write) -> fmt::Result {
    match value {
        Value::Null => out.write_str("null"),
        Value::Bool(true) => out.write_str("true"),
        Value::Bool(false) => out.write_str("false"),
        Value::Int(int) => out.write_str(itoa::Buffer::new().format(*int)),
        Value::Float(float) if float.is_nan() => out.write_str("nan"),
        Value::Float(float) if float.is_infinite() => {
            out.write_str(if *float > 0.0 { "inf" } else { "-inf" })
        }
        Value::Float(float) => {
            let mut buffer = zmij::Buffer::new();
            let text = buffer.format_finite(*float);
            match text.split_once("e+") {
                Some((digits, exponent)) => write!(out, "{digits}e{exponent}"),
                None => out.write_str(text),
            }
        }
        Value::Text(text) => write_text(text, out),
    }
}

fn parse_number(text: &str) -> Result<Input<'_>, ValueError> {
    let field = text.as_bytes();
    let digits = |from: usize| field[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = usize::from(field[0] == b'-');
    at += digits(at);
    if at == field.len() {
        return text.parse().map(Input::Int).map_err(|_| ValueError::TooLarge);
    }
    if field[at] == b'.' {
        let fraction = digits(at + 1);
        at += 1 + fraction;
        if fraction == 0 {
            return Err(ValueError::Unknown);
        }
    }
    if let Some(b'e' | b'E') = field.get(at) {
        at += 1 + usize::from(matches!(field.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at);
        at += exponent;
        if exponent == 0 {
            return Err(ValueError::Unknown);
        }
    }
    if at != field.len() {
        return Err(ValueError::Unknown);
    }
    let float: f64 = text.parse().expect("the grammar of floats is a part of Rust's");
    if float.is_finite() { Ok(Input::Float(float)) } else { Err(ValueError::TooLarge) }
}

/// Parses what follows the opening quote, the closing quote included.
fn parse_text(mut rest: &str) -> Result<Cow<'_, str>, ValueError> {
    let mut decoded = String::new();
    loop {
        let special = |byte: &u8| *byte < 0x20 || matches!(byte, b'"' | b'\\');
        let at = rest.as_bytes().iter().position(special).ok_or(ValueError::NoClosingQuote)?;
        let (plain, after) = (&rest[..at], &rest[at + 1..]);
        match rest.as_bytes()[at] {
            b'"' if !after.is_empty() => return Err(ValueError::AfterClosingQuote),
            // No escape stands for nothing, so nothing decoded means that none came.
            b'"' if decoded.is_empty() => return Ok(Cow::Borrowed(plain)),
            b'"' => return Ok(Cow::Owned(decoded + plain)),
            b'\\' => {
                decoded.push_str(plain);
                let (char, length) = parse_escape(after.as_bytes())?;
                decoded.push(char);
                rest = &after[length..];
            }
            _ => return Err(ValueError::ControlCharacter),
        }
    }
}

/// Parses what follows a backslash; returns the character and how many bytes stood for it.
fn parse_escape(after: &[u8]) -> Result<(char, usize), ValueError> {
    let char = match after {
        [char @ (b'"' | b'\\' | b'/'), ..] => char::from(*char),
        [b'b', ..] => '\u{8}',
        [b'f', ..] => '\u{c}',
        [b'n', ..] => '\n',
        [b'r', ..] => '\r',
        [b't', ..] => '\t',
        [b'u', hex @ ..] => {
            let first = parse_hex(hex)?;
            if let Some(char) = char::from_u32(first) {
                return Ok((char, 5));
            }
            let [_, _, _, _, b'\\', b'u', hex @ ..] = hex else { return Err(ValueError::LoneSurrogate) };
            let second = parse_hex(hex)?;
            if !(0xD800..0xDC00).contains(&first) || !(0xDC00..0xE000).contains(&second) {
                return Err(ValueError::LoneSurrogate);
            }
            let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
            return Ok((char::from_u32(code).expect("a surrogate pair is a character"), 11));
        }
        _ => return Err(ValueError::Escape),
    };
    Ok((char, 1))
}

fn parse_hex(hex: &[u8]) -> Result<u32, ValueError> {
    let digits = hex.get(..4).ok_or(ValueError::Escape)?;
    digits.iter().try_fold(0, |code, &digit| {
        let digit = char::from(digit).to_digit(16).ok_or(ValueError::Escape)?;
        Ok((code << 4) | digit)
    })
}

/// Prints text as a JSON string; only what must be escaped is.
pub fn write_text(mut text: &str, out: &mut impl Write) -> fmt::Result {
    out.write_char('"')?;
    while let Some(at) = text.bytes().position(|byte| byte < 0x20 || matches!(byte, b'"' | b'\\')) {
        out.write_str(&text[..at])?;
        match text.as_bytes()[at] {
            b'"' => out.write_str("\\\"")?,
            b'\\' => out.write_str("\\\\")?,
            b'\n' => out.write_str("\\n")?,
            b'\r' => out.write_str("\\r")?,
            b'\t' => out.write_str("\\t")?,
            0x08 => out.write_str("\\b")?,
            0x0c => out.write_str("\\f")?,
            control => write!(out, "\\u{control:04x}")?,
        }
        text = &text[at + 1..];
    }
    out.write_str(text)?;
    out.write_char('"')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_parsed_and_printed() {
        #[track_caller]
        fn check(field: &str, want: Value, printed: &str) {
            let got = Input::parse(field).unwrap().into_value();
            assert!(got.same(&want), "{field}: {got:?}");
            assert_eq!(got.to_string(), printed);
        }
        let text = |text: &str| Value::Text(text.into());
        check("null", Value::Null, "null");
        check("true", Value::Bool(true), "true");
        check("false", Value::Bool(false), "false");
        check("0", Value::Int(0), "0");
        check("-0", Value::Int(0), "0");
        check("-007", Value::Int(-7), "-7");
        check("00000000000000000000000000000000080", Value::Int(80), "80");
        check("9223372036854775807", Value::Int(i64::MAX), "9223372036854775807");
        check("-9223372036854775808", Value::Int(i64::MIN), "-9223372036854775808");
        check("80.0", Value::Float(80.0), "80.0");
        check("-0.0", Value::Float(-0.0), "-0.0");
        check("007.50", Value::Float(7.5), "7.5");
        check("8e1", Value::Float(80.0), "80.0");
        check("1.5E+300", Value::Float(1.5e300), "1.5e300");
        check("1e-7", Value::Float(1e-7), "1e-7");
        check("0.1", Value::Float(0.1), "0.1");
        check("9223372036854775808.0", Value::Float(9223372036854775808.0), "9.223372036854776e18");
        check("1e-999", Value::Float(0.0), "0.0");
        check("nan", Value::Float(f64::NAN), "nan");
        check("inf", Value::Float(f64::INFINITY), "inf");
        check("-inf", Value::Float(f64::NEG_INFINITY), "-inf");
        check(r#""""#, text(""), r#""""#);
        check(r#""off line""#, text("off line"), r#""off line""#);
        check(r#""a\"b\\c\/d""#, text("a\"b\\c/d"), r#""a\"b\\c/d""#);
        check(r#""\b\f\n\r\t\u0000\u001F""#, text("\u{8}\u{c}\n\r\t\0\u{1f}"), r#""\b\f\n\r\t\u0000\u001f""#);
        check(r#""\u00e9\uD83D\ude00\uFFFF""#, text("é😀\u{ffff}"), "\"é😀\u{ffff}\"");
        check("\"\u{7f}\u{85}\"", text("\u{7f}\u{85}"), "\"\u{7f}\u{85}\"");
    }

    #[test]
    fn what_is_not_a_value() {
        #[track_caller]
        fn check(field: &str, want: ValueError) {
            assert_eq!(Input::parse(field).err(), Some(want), "{field}");
        }
        for field in [
            "", "warm", "True", "NaN", "-nan", "+inf", "infinity", "+1", "-", "--1", ".5", "-.5", "5.",
            "1.e5",
        ] {
            check(field, ValueError::Unknown);
        }
        for field in ["1e", "1e+", "1.5e-", "1e5.0", "0x10", "1_000", "1 ", "12a", "1.2.3", "1\0", "'a'", "é"]
        {
            check(field, ValueError::Unknown);
        }
        for field in
            ["9223372036854775808", "-9223372036854775809", "99999999999999999999", "1e309", "-2.5e999"]
        {
            check(field, ValueError::TooLarge);
        }
        for field in [r#"""#, r#""abc"#, r#""abc\""#, r#""abc\\\""#] {
            check(field, ValueError::NoClosingQuote);
        }
        for field in [r#""a"b"#, r#""a"""#, r#""\n" "#] {
            check(field, ValueError::AfterClosingQuote);
        }
        for field in ["\"a\tb\"", "\"\0\"", "\"\x1f\""] {
            check(field, ValueError::ControlCharacter);
        }
        for field in [
            r#""\x""#,
            r#""\U0041""#,
            r#""\u12""#,
            r#""\u12G4""#,
            r#""\u+123""#,
            r#""\"#,
            r#""\é""#,
            r#""\u00é""#,
        ] {
            check(field, ValueError::Escape);
        }
        for field in [
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800\u0041""#,
            r#""\ud800\ud800""#,
            r#""\udc00\ud800""#,
            r#""\ud800a""#,
        ] {
            check(field, ValueError::LoneSurrogate);
        }
    }

    #[test]
    fn text_without_escapes_is_borrowed() {
        let borrowed = |field: &str| matches!(Input::parse(field), Ok(Input::Text(Cow::Borrowed(_))));
        assert!(borrowed(r#""""#) && borrowed(r#""off line""#) && !borrowed(r#""off\nline""#));
        assert_eq!(Input::parse("\"é\"").unwrap().text_len(), 2);
    }

    #[test]
    fn what_is_the_same_value() {
        #[track_caller]
        fn check(one: &str, other: &str, same: bool) {
            let value = |field| Input::parse(field).unwrap().into_value();
            assert_eq!(value(one).same(&value(other)), same, "{one} {other}");
        }
        check("1", "1", true);
        check("1", "2", false);
        check("1", "1.0", false);
        check("0.0", "-0.0", false);
        check("nan", "nan", true);
        check(r#""a""#, r#""a""#, true);
        check("null", "null", true);
        let other_nan = Value::Float(f64::from_bits(f64::NAN.to_bits() | 1 << 63 | 1));
        assert!(Value::Float(f64::NAN).same(&other_nan));
    }

    #[test]
    fn qualities_have_names() {
        for quality in [Quality::Good, Quality::Uncertain, Quality::Bad] {
            assert_eq!(Quality::parse(quality.as_str()), Some(quality));
        }
        assert_eq!(Quality::parse(b"GOOD"), None);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
            any::<i32>().prop_map(|int| Value::Float(f64::from(int))),
            any::<String>().prop_map(|text| Value::Text(text.into())),
            "[\0-\u{ff}]{0,20}".prop_map(|text| Value::Text(text.into())),
        ]
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(value in any_value()) {
            let printed = value.to_string();
            let read = Input::parse(&printed).unwrap().into_value();
            prop_assert!(read.same(&value), "{} {:?}", printed, read);
            prop_assert!(!printed.bytes().any(|byte| byte < 0x20));
            if let Value::Float(_) = value {
                let named = ["nan", "inf", "-inf"].contains(&printed.as_str());
                prop_assert!(named || printed.contains(['.', 'e']), "{}", printed);
            }
        }

        #[test]
        fn parsing_never_panics(field in any::<String>()) {
            let _ = Input::parse(&field);
        }

        #[test]
        fn parsing_never_panics_near_the_grammar(field in "\"?[0-9a-fu.eE+\\-\\\\\"d8]{0,12}\"?") {
            let _ = Input::parse(&field);
        }
    }
}
