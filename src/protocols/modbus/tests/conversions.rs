//! Registers and values: all types, orders and scales.

use proptest::prelude::*;

use super::super::convert::{ORDERS, ScaleError, Unreadable, Unwritable};
use super::super::{Conversion, Order, Registers, Type};
use super::messages::hex;
use crate::tags::value::{Input, Kind};

const TYPES: [Type; 13] = [
    Type::Bool,
    Type::I16,
    Type::U16,
    Type::I32,
    Type::U32,
    Type::I64,
    Type::U64,
    Type::F32,
    Type::F64,
    Type::Bcd16,
    Type::Bcd32,
    Type::Text(7),
    Type::Text(20),
];

fn plain(kind: Type, order: Order) -> Conversion {
    Conversion::new(kind, order, None, None).unwrap()
}

fn scaled(kind: Type, scale: f64, offset: f64) -> Conversion {
    Conversion::new(kind, Order::Abcd, Some(scale), Some(offset)).unwrap()
}

fn read(conversion: &Conversion, bytes: &[u8]) -> Result<Input<'static>, Unreadable> {
    conversion.read(Registers::new(bytes).unwrap())
}

fn write(conversion: &Conversion, value: &Input<'_>) -> Result<Vec<u8>, Unwritable> {
    let mut bytes = vec![0xAA; 2 * usize::from(conversion.registers())];
    conversion.write(value, &mut bytes).map(|()| bytes)
}

fn input(field: &str) -> Input<'_> {
    Input::parse(field).unwrap()
}

fn printed(value: Input<'_>) -> String {
    value.into_value().to_string()
}

/// Read and write agree.
#[track_caller]
fn check(conversion: &Conversion, registers: &str, value: &str) {
    let bytes = hex(registers);
    assert_eq!(read(conversion, &bytes).map(printed).as_deref(), Ok(value), "reading {registers}");
    assert_eq!(write(conversion, &input(value)), Ok(bytes), "writing {value}");
}

#[test]
fn numbers_in_all_orders() {
    #[track_caller]
    fn orders(kind: Type, registers: [&str; 4], value: &str) {
        for ((_, order), registers) in ORDERS.into_iter().zip(registers) {
            check(&plain(kind, order), registers, value);
        }
    }
    orders(Type::U16, ["0102", "0102", "0201", "0201"], "258");
    orders(Type::I16, ["FFFE", "FFFE", "FEFF", "FEFF"], "-2");
    orders(Type::Bcd16, ["1234", "1234", "3412", "3412"], "1234");
    orders(Type::Bool, ["0001", "0001", "0100", "0100"], "true");
    orders(Type::U32, ["01020304", "03040102", "02010403", "04030201"], "16909060");
    orders(Type::I32, ["FFFFFF01", "FF01FFFF", "FFFF01FF", "01FFFFFF"], "-255");
    orders(Type::Bcd32, ["12345678", "56781234", "34127856", "78563412"], "12345678");
    orders(Type::F32, ["3F8CCCCD", "CCCD3F8C", "8C3FCDCC", "CDCC8C3F"], "1.1");
    let long = ["0102030405060708", "0708050603040102", "0201040306050807", "0807060504030201"];
    orders(Type::I64, long, "72623859790382856");
    orders(Type::U64, long, "72623859790382856");
    let double = ["3FF199999999999A", "999A999999993FF1", "F13F999999999A99", "9A9999999999F13F"];
    orders(Type::F64, double, "1.1");
    orders(Type::Text(4), ["41424344", "41424344", "42414443", "42414443"], "\"ABCD\"");
}

#[test]
fn the_ends_of_each_type() {
    #[track_caller]
    fn ends(kind: Type, ends: [(&str, &str); 2], outside: [&str; 2]) {
        for (registers, value) in ends {
            check(&plain(kind, Order::Abcd), registers, value);
        }
        for value in outside.into_iter().chain(["1e300", "-1e300", "nan", "inf", "-inf"]) {
            let got = write(&plain(kind, Order::Abcd), &input(value));
            assert_eq!(got, Err(Unwritable::OutOfRange), "{value} as {kind}");
        }
    }
    ends(Type::I16, [("8000", "-32768"), ("7FFF", "32767")], ["-32769", "32768"]);
    ends(Type::U16, [("0000", "0"), ("FFFF", "65535")], ["-1", "65536"]);
    ends(Type::I32, [("80000000", "-2147483648"), ("7FFFFFFF", "2147483647")], ["-2147483649", "2147483648"]);
    ends(Type::U32, [("00000000", "0"), ("FFFFFFFF", "4294967295")], ["-1", "4294967296"]);
    let most = [("8000000000000000", "-9223372036854775808"), ("7FFFFFFFFFFFFFFF", "9223372036854775807")];
    ends(Type::I64, most, ["-9223372036854777856.0", "9223372036854775808.0"]);
    let most = [("0000000000000000", "0"), ("7FFFFFFFFFFFFFFF", "9223372036854775807")];
    ends(Type::U64, most, ["-1", "18446744073709551616.0"]);
    ends(Type::Bcd16, [("0000", "0"), ("9999", "9999")], ["-1", "10000"]);
    ends(Type::Bcd32, [("00000000", "0"), ("99999999", "99999999")], ["-1", "100000000"]);
}

#[test]
fn numbers_are_rounded_half_away_from_zero() {
    #[track_caller]
    fn check(conversion: Conversion, value: &str, want: i16) {
        let bytes = write(&conversion, &input(value)).unwrap();
        assert_eq!(i16::from_be_bytes([bytes[0], bytes[1]]), want, "{value}");
    }
    for (value, want) in [
        ("0.5", 1),
        ("-0.5", -1),
        ("1.5", 2),
        ("2.5", 3),
        ("-2.5", -3),
        ("2.4999999999999996", 2),
        ("0.49999999999999994", 0),
        ("32767.4", 32767),
        ("-32768.49", -32768),
        ("-0.0", 0),
        ("1e-300", 0),
    ] {
        check(plain(Type::I16, Order::Abcd), value, want);
    }
    let tenth = scaled(Type::I16, 0.1, 0.0);
    // In binary 0.35 / 0.1 is 3.4999999999999996, and 1.15 / 0.1 11.499999999999998.
    for (value, want) in
        [("0.3", 3), ("0.35", 4), ("0.34", 3), ("-0.35", -4), ("1.15", 12), ("7", 70), ("1e-300", 0)]
    {
        check(tenth, value, want);
    }
    check(scaled(Type::I16, -0.5, 3.0), "2.75", 1);
    check(scaled(Type::I16, 0.3, 0.0), "0.15", 1);
    for outside in ["3276.75", "-3276.85", "1e300", "nan", "inf"] {
        assert_eq!(write(&tenth, &input(outside)), Err(Unwritable::OutOfRange), "{outside}");
    }
}

#[test]
fn scaled_values_are_those_of_paper() {
    check(&scaled(Type::U16, 0.1, 0.0), "0003", "0.3");
    check(&scaled(Type::U16, 0.1, 0.0), "000A", "1.0");
    check(&scaled(Type::I16, 0.1, -40.0), "FFFF", "-40.1");
    check(&scaled(Type::U16, 0.01, 0.0), "0045", "0.69");
    check(&scaled(Type::U16, 0.001, 0.0), "03E9", "1.001");
    check(&scaled(Type::U32, 0.1, 273.15), "00000007", "273.85");
    check(&scaled(Type::I32, 1e-7, 0.0), "00000003", "3e-7");
    check(&scaled(Type::Bcd16, 0.1, 0.0), "0123", "12.3");
    check(&scaled(Type::U16, 0.30000000000000004, 0.0), "0001", "0.30000000000000004");
    check(&scaled(Type::F32, 0.1, 0.0), "40400000", "0.3");
    check(&scaled(Type::F32, 0.1, 0.0), "3DCCCCCD", "0.01");
    check(&scaled(Type::F64, 0.1, 0.0), "3FD3333333333333", "0.03");
    check(&scaled(Type::F32, 2.0, 0.5), "7F800000", "inf");
    check(&scaled(Type::F32, -2.0, 0.5), "FF800000", "inf");
    check(&scaled(Type::F64, 2.0, 0.5), "7FF8000000000000", "nan");
    // Whole numbers stay so.
    check(&scaled(Type::U16, 10.0, 0.0), "0003", "30");
    check(&scaled(Type::U16, 1.0, -50.0), "0003", "-47");
    check(&scaled(Type::U16, 100.0, 7.0), "FFFF", "6553507");
    assert_eq!(
        read(&scaled(Type::I64, 10.0, 0.0), &hex("7FFFFFFFFFFFFFFF")).err(),
        Some(Unreadable::TooLarge)
    );
    // Beyond what a decimal holds it is floats that are multiplied.
    let got = read(&scaled(Type::F64, 1e300, 1.0), &hex("3FF199999999999A")).unwrap();
    assert!(matches!(got, Input::Float(float) if (float / 1.1e300 - 1.0).abs() < 1e-15), "{got:?}");
    assert!(write(&scaled(Type::F64, 1e-300, 0.0), &input("1e300")).is_err(), "more than a float holds");
}

#[test]
fn what_a_tag_holds() {
    for kind in TYPES {
        let want = match kind {
            Type::Bool => Kind::Bool,
            Type::F32 | Type::F64 => Kind::Float,
            Type::Text(_) => Kind::Text,
            _ => Kind::Int,
        };
        assert_eq!(plain(kind, Order::Abcd).tag_kind(), want);
        let wrong = Conversion::new(kind, Order::Abcd, Some(0.5), None);
        assert_eq!(wrong.is_ok(), kind.is_number());
        if kind.is_number() {
            assert_eq!(wrong.unwrap().tag_kind(), Kind::Float);
            assert_eq!(scaled(kind, 10.0, -5.0).tag_kind(), want);
            assert_eq!(scaled(kind, 10.0, 0.5).tag_kind(), Kind::Float);
        }
    }
    let new = |scale, offset| Conversion::new(Type::U16, Order::Abcd, Some(scale), Some(offset)).err();
    for scale in [0.0, -0.0, f64::NAN, f64::INFINITY] {
        assert_eq!(new(scale, 0.0), Some(ScaleError::Scale));
    }
    assert_eq!(new(1.0, f64::NEG_INFINITY), Some(ScaleError::Offset));
    assert!(Conversion::new(Type::Bool, Order::Abcd, Some(1.0), Some(0.0)).is_ok(), "that is no scale");
}

#[test]
fn single_precision_is_carried_as_its_shortest_decimal() {
    let single = plain(Type::F32, Order::Abcd);
    for (registers, value) in [
        ("3DCCCCCD", "0.1"),
        ("42A50000", "82.5"),
        ("7F7FFFFF", "3.4028235e38"),
        ("00000001", "1e-45"),
        ("80000000", "-0.0"),
        ("4B800000", "16777216.0"),
        ("7F800000", "inf"),
        ("FF800000", "-inf"),
        ("7FC00000", "nan"),
        ("3F800000", "1.0"),
        ("C2C80000", "-100.0"),
        ("501502F9", "10000000000.0"),
    ] {
        check(&single, registers, value);
    }
    for outside in ["3.5e38", "-1e39", "1e300"] {
        assert_eq!(write(&single, &input(outside)), Err(Unwritable::OutOfRange), "{outside}");
    }
    assert_eq!(write(&single, &input("16777217")), Ok(hex("4B800000")), "rounded once");
    assert_eq!(write(&plain(Type::F64, Order::Abcd), &input("7")), Ok(hex("401C000000000000")));
}

#[test]
fn texts() {
    let text = plain(Type::Text(5), Order::Abcd);
    check(&text, "48616C6C6F00", "\"Hallo\"");
    check(&text, "48C3A9000000", "\"Hé\"");
    check(&text, "000000000000", "\"\"");
    check(&text, "202041200000", "\"  A \"");
    assert_eq!(read(&text, &hex("48616C6C6F21")).map(printed).as_deref(), Ok("\"Hallo\""), "5 of 6 bytes");
    assert_eq!(read(&text, &hex("480061620000")).map(printed).as_deref(), Ok("\"H\""), "to the zero byte");
    assert_eq!(read(&text, &hex("48FF00000000")).err(), Some(Unreadable::NotText));
    assert_eq!(write(&text, &input("\"Hallo!\"")), Err(Unwritable::TooLong));
    assert_eq!(write(&text, &input("\"a\\u0000b\"")), Err(Unwritable::ZeroByte));
}

#[test]
fn bools_and_what_is_of_another_type() {
    let bool = plain(Type::Bool, Order::Abcd);
    check(&bool, "0001", "true");
    check(&bool, "0000", "false");
    assert_eq!(read(&bool, &hex("0200")).map(printed).as_deref(), Ok("true"));
    for (kind, value) in [
        (Type::Bool, "1"),
        (Type::Bool, "\"true\""),
        (Type::U16, "true"),
        (Type::U16, "\"1\""),
        (Type::F32, "true"),
        (Type::Text(4), "1"),
        (Type::Text(4), "false"),
        (Type::Bcd16, "false"),
        (Type::F64, "\"1.0\""),
    ] {
        assert_eq!(
            write(&plain(kind, Order::Abcd), &input(value)),
            Err(Unwritable::WrongType),
            "{value} {kind}"
        );
    }
    for kind in TYPES {
        assert_eq!(write(&plain(kind, Order::Abcd), &Input::Null), Err(Unwritable::WrongType));
    }
}

#[test]
fn registers_without_a_meaning() {
    for registers in ["000A", "A000", "0F00", "FFFF"] {
        assert_eq!(read(&plain(Type::Bcd16, Order::Abcd), &hex(registers)).err(), Some(Unreadable::Digit));
        let registers = format!("{registers}0000");
        assert_eq!(read(&plain(Type::Bcd32, Order::Cdab), &hex(&registers)).err(), Some(Unreadable::Digit));
    }
    for registers in ["FFFFFFFFFFFFFFFF", "8000000000000000"] {
        assert_eq!(read(&plain(Type::U64, Order::Abcd), &hex(registers)).err(), Some(Unreadable::TooLarge));
    }
    // As a float it can be carried.
    let half = read(&scaled(Type::U64, 0.5, 0.0), &hex("8000000000000000")).map(printed);
    assert_eq!(half.as_deref(), Ok("4.611686018427388e18"));
}

#[test]
fn types_have_names() {
    for kind in TYPES {
        assert_eq!(Type::parse(&kind.to_string()), Ok(kind));
    }
    assert_eq!(Type::parse("string(20)").map(Type::registers), Ok(10));
    assert_eq!(Type::parse("string(246)").map(Type::registers), Ok(123));
    for wrong in [
        "",
        "int",
        "U16",
        "u8",
        "string",
        "string()",
        "string(0)",
        "string(247)",
        "string(1.5)",
        "string(+1)",
    ] {
        assert!(Type::parse(wrong).is_err_and(|message| message.contains("expected")), "{wrong}");
    }
    for (name, order) in ORDERS {
        assert_eq!(order.as_str(), name);
    }
}

fn any_type() -> impl Strategy<Value = Type> {
    prop::sample::select(TYPES.to_vec())
}

fn any_number() -> impl Strategy<Value = Type> {
    prop::sample::select(TYPES.into_iter().filter(|kind| kind.is_number()).collect::<Vec<_>>())
}

fn any_order() -> impl Strategy<Value = Order> {
    prop::sample::select(ORDERS.map(|(_, order)| order).to_vec())
}

/// Scales that people configure.
fn any_scale() -> impl Strategy<Value = f64> {
    prop::sample::select(vec![
        1.0,
        0.1,
        0.01,
        0.001,
        10.0,
        100.0,
        -1.0,
        -0.1,
        0.5,
        0.25,
        2.54,
        1.0 / 3.0,
        1e-6,
        60.0,
    ])
}

fn any_offset() -> impl Strategy<Value = f64> {
    prop::sample::select(vec![0.0, 1.0, -40.0, 273.15, 0.1, -1e4])
}

fn is_nan(value: &Input<'_>) -> bool {
    matches!(value, Input::Float(float) if float.is_nan())
}

proptest! {
    /// Whatever the registers hold, if it can be read, it is written as it was.
    #[test]
    fn registers_survive(kind in any_type(), order in any_order(), seed: [u8; 20]) {
        let conversion = plain(kind, order);
        let mut bytes = seed[..2 * usize::from(kind.registers())].to_vec();
        if let Type::Text(len) = kind {
            bytes.iter_mut().for_each(|byte| *byte &= 0x7F);
            // What is behind the text is not kept.
            let text = bytes.iter().take(len.into()).position(|byte| *byte == 0).unwrap_or(len.into());
            bytes[text..].fill(0);
            if matches!(order, Order::Badc | Order::Dcba) {
                bytes.chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
            }
        }
        let Ok(value) = read(&conversion, &bytes) else { return Ok(()) };
        prop_assert!(conversion.tag_kind().convert(value.clone()).is_ok_and(|same| same.same(&value)));
        let written = write(&conversion, &value).unwrap();
        if kind == Type::Bool {
            prop_assert_eq!(read(&conversion, &written).unwrap().same(&value), true);
        } else if !is_nan(&value) {
            prop_assert_eq!(written, bytes, "{:?}", value);
        } else {
            prop_assert!(is_nan(&read(&conversion, &written).unwrap()));
        }
    }

    /// With a scale too, as far as the tag's 15 digits go.
    #[test]
    fn scaled_registers_survive(
        kind in any_number(),
        order in any_order(),
        scale in any_scale(),
        offset in any_offset(),
        raw: i64,
        bits in 24..63_u32,
    ) {
        let conversion = Conversion::new(kind, order, Some(scale), Some(offset)).unwrap();
        let raw = raw >> bits;
        let unscaled = plain(kind, order);
        let Ok(bytes) = write(&unscaled, &Input::Int(raw)) else { return Ok(()) };
        let value = read(&conversion, &bytes).unwrap();
        prop_assert!(conversion.tag_kind().convert(value.clone()).is_ok_and(|same| same.same(&value)));
        let again = write(&conversion, &value).unwrap();
        match kind {
            Type::F32 | Type::F64 => {
                // The offset takes digits of small numbers with it.
                let [before, after] = [bytes, again].map(|bytes| match read(&unscaled, &bytes) {
                    Ok(Input::Float(float)) => float,
                    other => panic!("{other:?}"),
                });
                let tolerance = (before.abs() + (offset / scale).abs()) * 1e-15 + before.abs() * 1.2e-7;
                prop_assert!((before - after).abs() <= tolerance, "{} {} by {:?}", before, after, value);
            }
            _ => prop_assert_eq!(again, bytes, "{:?}", value),
        }
    }

    /// What is shown is what a person would have computed: the exact product and sum, to the last of 15
    /// digits.
    #[test]
    fn scaled_values_have_no_dirt(raw: i32, places in 0..6_u32, offset in -10_000..10_000_i32) {
        let (scale, unit) = (10_f64.powi(-(places as i32)), 10_i64.pow(places));
        let conversion = scaled(Type::I32, scale, f64::from(offset));
        let value = read(&conversion, &raw.to_be_bytes()).unwrap();
        let exact = i64::from(raw) + i64::from(offset) * unit;
        let sign = if exact < 0 { "-" } else { "" };
        let (whole, rest) = (exact.abs() / unit, exact.abs() % unit);
        let width = places.max(1) as usize;
        let by_hand: f64 = format!("{sign}{whole}.{rest:0width$}").parse().unwrap();
        match value {
            Input::Float(float) => prop_assert_eq!(float, by_hand),
            Input::Int(int) => prop_assert_eq!(int, exact),
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn any_number_is_written_as_the_nearest_or_not_at_all(
        kind in any_number(), bits: u64, near in -70_000.0..70_000.0_f64, scale in any_scale(),
    ) {
        let conversion = Conversion::new(kind, Order::Abcd, Some(scale), None).unwrap();
        for value in [f64::from_bits(bits), near] {
            let Ok(bytes) = write(&conversion, &Input::Float(value)) else { continue };
            let back = match read(&conversion, &bytes) {
                Ok(Input::Float(float)) => float,
                Ok(Input::Int(int)) => int as f64,
                // 2^63 and more can be written to a u64, and not be read as an int.
                Err(Unreadable::TooLarge) => continue,
                other => panic!("{other:?}"),
            };
            let step = match kind {
                Type::F32 => (back.abs() * 1.2e-7).max(scale.abs() * 1e-44),
                Type::F64 => (back.abs() * 1e-15).max(scale.abs() * 1e-323),
                _ => scale.abs() * 0.5000001 + back.abs() * 1e-15,
            };
            let is_same = value == back || (value.is_nan() && back.is_nan());
            prop_assert!(is_same || (value - back).abs() <= step, "{} became {} ({})", value, back, kind);
        }
    }

    #[test]
    fn nothing_panics(
        kind in any_type(),
        order in any_order(),
        scale: u64,
        offset: u64,
        seed: [u8; 20],
        int: i64,
        float: u64,
        text: String,
    ) {
        let (scale, offset) = (f64::from_bits(scale), f64::from_bits(offset));
        for scaling in [None, Some(scale)] {
            let offset = scaling.map(|_| offset);
            let Ok(conversion) = Conversion::new(kind, order, scaling, offset) else { continue };
            let _ = read(&conversion, &seed[..2 * usize::from(kind.registers())]);
            let float = Input::Float(f64::from_bits(float));
            for value in [Input::Int(int), float, Input::Text(text.as_str().into())] {
                let _ = write(&conversion, &value);
            }
        }
    }
}
