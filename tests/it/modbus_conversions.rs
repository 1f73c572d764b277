//! Modbus: what the registers of a mapped tag hold, in both directions. All bytes are computed by hand.

use crate::client::Client;
use crate::modbus::{Master, hex, start};

/// Type, order, further keys, the tag's value as the line protocol prints it, its registers.
type Row<'a> = (&'a str, &'a str, &'a str, &'a str, &'a str);

/// Show each row's tag in registers of its own; the row's value is written by one side and read by the other.
#[track_caller]
fn check(rows: &[Row<'_>]) {
    let (server, places) = serve(rows);
    let mut master = Master::tcp(server.addr(0));
    let mut client = Client::connect(server.addr(1));
    for (row, (address, quantity)) in rows.iter().zip(places) {
        let (_, _, _, value, registers) = *row;
        let tag = format!("row/{address}");
        let bytes = hex(registers);
        let read = format!("03 {address:04X} {quantity:04X}");
        assert_eq!(master.ask(1, &read), hex("83 04"), "{row:?}: nobody has written it");

        assert_eq!(client.ask_one(&format!("SET {tag} {value}")), "OK", "{row:?}");
        let answer = [&[3, 2 * quantity as u8], &bytes[..]].concat();
        assert_eq!(master.ask(1, &read), answer, "{row:?}: registers of the value");

        assert_eq!(client.ask_one(&format!("SET {tag} null bad 7")), "OK", "{row:?}");
        let write = format!("10 {address:04X} {quantity:04X} {:02X} {registers}", 2 * quantity);
        assert_eq!(master.ask(1, &write), hex(&write)[..5], "{row:?}");
        let got = client.ask_one(&format!("GET {tag}"));
        assert!(client.matches(&format!("OK {value} good @"), &got), "{row:?}: value of the registers {got}");
    }
}

/// A server that shows the rows, each at the next multiple of 16; their addresses, and how many registers.
fn serve(rows: &[Row<'_>]) -> (crate::server::Server, Vec<(usize, usize)>) {
    let mut config = String::new();
    let mut places = Vec::new();
    for (number, (kind, order, keys, _, registers)) in rows.iter().enumerate() {
        let address = 16 * number;
        config +=
            &format!("[[modbus.map]]\nunit = 1\naddress = 'holding:{address}'\ntag = 'row/{address}'\n");
        config += &format!("type = '{kind}'\norder = '{order}'\n{keys}\n");
        places.push((address, hex(registers).len() / 2));
    }
    (start(&config), places)
}

#[test]
fn types_of_one_register() {
    #[rustfmt::skip]
    check(&[
        ("bool",  "abcd", "", "true",   "0001"),
        ("bool",  "cdab", "", "true",   "0001"),
        ("bool",  "badc", "", "true",   "0100"),
        ("bool",  "dcba", "", "true",   "0100"),
        ("bool",  "abcd", "", "false",  "0000"),
        ("i16",   "abcd", "", "4660",   "1234"),
        ("i16",   "cdab", "", "4660",   "1234"),
        ("i16",   "badc", "", "4660",   "3412"),
        ("i16",   "dcba", "", "4660",   "3412"),
        ("i16",   "abcd", "", "-2",     "FFFE"),
        ("i16",   "badc", "", "-2",     "FEFF"),
        ("i16",   "abcd", "", "-32768", "8000"),
        ("i16",   "abcd", "", "32767",  "7FFF"),
        ("u16",   "abcd", "", "4660",   "1234"),
        ("u16",   "cdab", "", "4660",   "1234"),
        ("u16",   "badc", "", "4660",   "3412"),
        ("u16",   "dcba", "", "4660",   "3412"),
        ("u16",   "abcd", "", "0",      "0000"),
        ("u16",   "abcd", "", "65535",  "FFFF"),
        ("bcd16", "abcd", "", "1234",   "1234"),
        ("bcd16", "cdab", "", "1234",   "1234"),
        ("bcd16", "badc", "", "1234",   "3412"),
        ("bcd16", "dcba", "", "1234",   "3412"),
        ("bcd16", "abcd", "", "9999",   "9999"),
        ("bcd16", "abcd", "", "7",      "0007"),
    ]);
}

#[test]
fn types_of_two_registers() {
    #[rustfmt::skip]
    check(&[
        ("i32",   "abcd", "", "16909060",    "0102 0304"),
        ("i32",   "cdab", "", "16909060",    "0304 0102"),
        ("i32",   "badc", "", "16909060",    "0201 0403"),
        ("i32",   "dcba", "", "16909060",    "0403 0201"),
        ("i32",   "abcd", "", "-2",          "FFFF FFFE"),
        ("i32",   "cdab", "", "-2",          "FFFE FFFF"),
        ("i32",   "badc", "", "-2",          "FFFF FEFF"),
        ("i32",   "dcba", "", "-2",          "FEFF FFFF"),
        ("i32",   "abcd", "", "-2147483648", "8000 0000"),
        ("u32",   "abcd", "", "16909060",    "0102 0304"),
        ("u32",   "cdab", "", "16909060",    "0304 0102"),
        ("u32",   "badc", "", "16909060",    "0201 0403"),
        ("u32",   "dcba", "", "16909060",    "0403 0201"),
        ("u32",   "abcd", "", "4294967294",  "FFFF FFFE"),
        // 3.14 is 4048F5C3, and 0.1 is 3DCCCCCD: the tag has the shortest decimal of it.
        ("f32",   "abcd", "", "3.14",        "4048 F5C3"),
        ("f32",   "cdab", "", "3.14",        "F5C3 4048"),
        ("f32",   "badc", "", "3.14",        "4840 C3F5"),
        ("f32",   "dcba", "", "3.14",        "C3F5 4840"),
        ("f32",   "abcd", "", "0.1",         "3DCC CCCD"),
        ("f32",   "abcd", "", "-1.5",        "BFC0 0000"),
        ("f32",   "abcd", "", "inf",         "7F80 0000"),
        ("f32",   "abcd", "", "16777216.0",  "4B80 0000"),
        ("bcd32", "abcd", "", "12345678",    "1234 5678"),
        ("bcd32", "cdab", "", "12345678",    "5678 1234"),
        ("bcd32", "badc", "", "12345678",    "3412 7856"),
        ("bcd32", "dcba", "", "12345678",    "7856 3412"),
        ("bcd32", "abcd", "", "99999999",    "9999 9999"),
    ]);
}

/// cdab: the words reversed. badc: the bytes of each word swapped. dcba: all of it reversed.
#[test]
fn types_of_four_registers() {
    #[rustfmt::skip]
    check(&[
        ("i64", "abcd", "", "72623859790382856",    "0102 0304 0506 0708"),
        ("i64", "cdab", "", "72623859790382856",    "0708 0506 0304 0102"),
        ("i64", "badc", "", "72623859790382856",    "0201 0403 0605 0807"),
        ("i64", "dcba", "", "72623859790382856",    "0807 0605 0403 0201"),
        ("i64", "abcd", "", "-2",                   "FFFF FFFF FFFF FFFE"),
        ("i64", "cdab", "", "-2",                   "FFFE FFFF FFFF FFFF"),
        ("i64", "abcd", "", "-9223372036854775808", "8000 0000 0000 0000"),
        ("u64", "abcd", "", "72623859790382856",    "0102 0304 0506 0708"),
        ("u64", "cdab", "", "72623859790382856",    "0708 0506 0304 0102"),
        ("u64", "badc", "", "72623859790382856",    "0201 0403 0605 0807"),
        ("u64", "dcba", "", "72623859790382856",    "0807 0605 0403 0201"),
        ("u64", "abcd", "", "9223372036854775807",  "7FFF FFFF FFFF FFFF"),
        ("f64", "abcd", "", "3.14",                 "4009 1EB8 51EB 851F"),
        ("f64", "cdab", "", "3.14",                 "851F 51EB 1EB8 4009"),
        ("f64", "badc", "", "3.14",                 "0940 B81E EB51 1F85"),
        ("f64", "dcba", "", "3.14",                 "1F85 EB51 B81E 0940"),
        ("f64", "abcd", "", "-0.0",                 "8000 0000 0000 0000"),
    ]);
}

/// Two bytes a register, the first one high; what is left is zeros. The order swaps bytes, never registers.
#[test]
fn texts() {
    #[rustfmt::skip]
    check(&[
        ("string(6)", "abcd", "", r#""Lumina""#, "4C75 6D69 6E61"),
        ("string(6)", "cdab", "", r#""Lumina""#, "4C75 6D69 6E61"),
        ("string(6)", "badc", "", r#""Lumina""#, "754C 696D 616E"),
        ("string(6)", "dcba", "", r#""Lumina""#, "754C 696D 616E"),
        ("string(5)", "abcd", "", r#""Lumin""#,  "4C75 6D69 6E00"),
        ("string(5)", "badc", "", r#""Lumin""#,  "754C 696D 006E"),
        ("string(5)", "abcd", "", r#""ab""#,     "6162 0000 0000"),
        ("string(4)", "abcd", "", r#""""#,       "0000 0000"),
        ("string(4)", "abcd", "", r#""20°""#,    "3230 C2B0"),
        ("string(1)", "abcd", "", r#""x""#,      "7800"),
    ]);
}

/// tag = register × scale + offset, as on paper: what binary arithmetic makes of 3 × 0.1 is no 0.3.
#[test]
fn scales_and_offsets() {
    #[rustfmt::skip]
    check(&[
        ("u16",   "abcd", "scale = 0.1",                "0.3",         "0003"),
        ("u16",   "badc", "scale = 0.1",                "0.3",         "0300"),
        ("u16",   "abcd", "scale = 0.1",                "6553.5",      "FFFF"),
        ("u16",   "abcd", "scale = 0.01",               "0.07",        "0007"),
        ("u16",   "abcd", "scale = 0.01",               "0.29",        "001D"),
        ("u16",   "abcd", "scale = 0.1\noffset = 0.2",  "0.3",         "0001"),
        ("i16",   "abcd", "scale = 0.1",                "-0.5",        "FFFB"),
        ("i16",   "abcd", "scale = 0.1\noffset = -40",  "20.5",        "025D"),
        ("i16",   "abcd", "scale = 0.1\noffset = -40",  "-40.1",       "FFFF"),
        ("i16",   "abcd", "scale = -0.5",               "-1.5",        "0003"),
        ("u16",   "abcd", "offset = 0.5",               "3.5",         "0003"),
        // Whole numbers stay whole.
        ("u16",   "abcd", "scale = 10",                 "120",         "000C"),
        ("u16",   "abcd", "scale = 2\noffset = 1",      "7",           "0003"),
        ("u16",   "abcd", "offset = -100",              "-97",         "0003"),
        ("u16",   "abcd", "scale = 1.0",                "3",           "0003"),
        ("i32",   "abcd", "scale = 0.001",              "123.456",     "0001 E240"),
        ("i32",   "cdab", "scale = 0.001",              "-0.001",      "FFFF FFFF"),
        ("u32",   "abcd", "scale = 0.1",                "429496729.5", "FFFF FFFF"),
        ("i64",   "abcd", "scale = 1e-3",               "-0.002",      "FFFF FFFF FFFF FFFE"),
        ("u64",   "abcd", "scale = 0.1",                "0.3",         "0000 0000 0000 0003"),
        ("bcd16", "abcd", "scale = 0.01",               "12.34",       "1234"),
        ("bcd32", "abcd", "scale = 0.1",                "1234567.8",   "1234 5678"),
        // The register holds 3.0, and 0.7.
        ("f32",   "abcd", "scale = 0.1",                "0.3",         "4040 0000"),
        ("f32",   "abcd", "scale = 10",                 "7.0",         "3F33 3333"),
        ("f64",   "abcd", "scale = 0.1",                "0.3",         "4008 0000 0000 0000"),
    ]);
}

/// A tag's value that lies between two registers' goes to the nearest, half away from zero. Of each row the
/// registers are read only: they mean something else.
#[test]
fn rounding() {
    #[rustfmt::skip]
    let rows: [Row<'_>; 20] = [
        ("i16", "abcd", "", "2.4",                       "0002"),
        ("i16", "abcd", "", "2.5",                       "0003"),
        ("i16", "abcd", "", "3.5",                       "0004"),
        ("i16", "abcd", "", "0.5",                       "0001"),
        ("i16", "abcd", "", "0.49999999999999994",       "0000"),
        ("i16", "abcd", "", "-0.5",                      "FFFF"),
        ("i16", "abcd", "", "-2.5",                      "FFFD"),
        ("i16", "abcd", "", "-2.4",                      "FFFE"),
        ("u16", "abcd", "", "65535.4",                   "FFFF"),
        ("u16", "abcd", "", "-0.4",                      "0000"),
        ("i32", "abcd", "", "-1.5",                      "FFFF FFFE"),
        ("bcd16", "abcd", "", "41.5",                    "0042"),
        // In binary 0.35 / 0.1 and 1.15 / 0.1 are a little less than 3.5 and 11.5.
        ("i16", "abcd", "scale = 0.1", "0.35",           "0004"),
        ("i16", "abcd", "scale = 0.1", "-0.35",          "FFFC"),
        ("i16", "abcd", "scale = 0.1", "1.15",           "000C"),
        ("i16", "abcd", "scale = 0.1", "1.1499",         "000B"),
        ("i16", "abcd", "scale = 10\noffset = 5", "10",  "0001"),
        ("i16", "abcd", "scale = 10", "-5",              "FFFF"),
        ("i16", "abcd", "scale = 10", "-4",              "0000"),
        // The nearest of 32 bits.
        ("f32", "abcd", "", "0.30000000000000004",       "3E99 999A"),
    ];
    // Tags that hold any number.
    let (mut config, mut places) = (String::new(), Vec::new());
    for (number, (kind, order, keys, _, registers)) in rows.iter().enumerate() {
        let address = 4 * number;
        config += &format!("[[tag]]\nname = 'row/{address}'\n[[modbus.map]]\nunit = 1\ntype = '{kind}'\n");
        config += &format!("address = 'input:{address}'\ntag = 'row/{address}'\norder = '{order}'\n{keys}\n");
        places.push((address, hex(registers).len() / 2));
    }
    let server = start(&config);
    let mut master = Master::tcp(server.addr(0));
    let mut client = Client::connect(server.addr(1));
    for (row, (address, quantity)) in rows.iter().zip(places) {
        assert_eq!(client.ask_one(&format!("SET row/{address} {}", row.3)), "OK", "{row:?}");
        let got = master.ask(1, &format!("04 {address:04X} {quantity:04X}"));
        assert_eq!(got, [&[4, 2 * quantity as u8], &hex(row.4)[..]].concat(), "{row:?}");
    }
}

/// What the registers cannot hold, or hold in another type, is not shown: exception 4.
#[test]
fn values_that_have_no_registers() {
    #[rustfmt::skip]
    let table = [
        ("u16",       "",            "65536"),
        ("u16",       "",            "65535.5"),
        ("u16",       "",            "-1"),
        ("u16",       "",            "-0.5"),
        ("u16",       "",            "nan"),
        ("u16",       "",            "true"),
        ("u16",       "",            "\"7\""),
        ("i16",       "",            "32768"),
        ("i16",       "",            "-32769"),
        ("u16",       "scale = 0.1", "6553.55"),
        ("i32",       "",            "2147483648"),
        ("u32",       "",            "4294967296"),
        ("u64",       "",            "-1"),
        ("i64",       "",            "1e19"),
        ("bcd16",     "",            "10000"),
        ("bcd16",     "",            "-1"),
        ("bcd32",     "",            "100000000"),
        ("f32",       "",            "1e39"),
        ("f64",       "",            "false"),
        ("bool",      "",            "1"),
        ("string(4)", "",            "\"12345\""),
        ("string(4)", "",            "1234"),
    ];
    let mut config = String::new();
    for (number, (kind, keys, _)) in table.iter().enumerate() {
        let address = 4 * number;
        config += &format!("[[tag]]\nname = 'row/{address}'\n[[modbus.map]]\nunit = 1\ntype = '{kind}'\n");
        config += &format!("address = 'holding:{address}'\ntag = 'row/{address}'\n{keys}\n");
    }
    let server = start(&config);
    let mut master = Master::tcp(server.addr(0));
    let mut client = Client::connect(server.addr(1));
    for (number, row) in table.iter().enumerate() {
        let address = 4 * number;
        let quantity = match row.0 {
            "bool" | "u16" | "i16" | "bcd16" => 1,
            "i64" | "u64" | "f64" => 4,
            _ => 2,
        };
        assert_eq!(client.ask_one(&format!("SET row/{address} {}", row.2)), "OK", "{row:?}");
        let got = master.ask(1, &format!("03 {address:04X} {quantity:04X}"));
        assert_eq!(got, hex("83 04"), "{row:?}");
    }
}

/// Registers with no meaning, or with one that the tag's type cannot hold, are not written.
#[test]
fn registers_that_have_no_value() {
    crate::modbus::check(
        "
        [[tag]]
        name = 'whole'
        type = 'int'
        [[modbus.map]]
        unit = 1
        address = 'holding:0'
        tag = 'whole'
        type = 'u16'
        scale = 0.1
        [[modbus.map]]
        unit = 1
        address = 'holding:1'
        tag = 'large'
        type = 'u64'
        [[modbus.map]]
        unit = 1
        address = 'holding:5'
        tag = 'any'
        type = 'bool'
        ",
        "
        # 20 × 0.1 is 2; 3 × 0.1 is no int.
        1: 06 0000 0014 = 06 0000 0014
        > GET whole
        < OK 2 good @
        1: 06 0000 0003 = 86 04
        > GET whole
        < OK 2 good @
        # 2^63 is beyond what a tag's int holds.
        1: 10 0001 0004 08 7FFF FFFF FFFF FFFF = 10 0001 0004
        1: 10 0001 0004 08 8000 0000 0000 0000 = 90 04
        > GET large
        < OK 9223372036854775807 good @
        # Anything but 0 is true, and reads back as 1.
        1: 06 0005 8000 = 06 0005 8000
        1: 03 0005 0001 = 03 02 0001
        > GET any
        < OK true good @
        ",
    );
}
