//! Modbus: units whose registers show tags.

use crate::client::Client;
use crate::modbus::{Master, check, hex, start};
use crate::server::Server;

/// A line of the map of unit 1.
fn map(address: &str, tag: &str, keys: &str) -> String {
    format!("[[modbus.map]]\nunit = 1\naddress = '{address}'\ntag = '{tag}'\n{keys}\n")
}

/// Several of them: address, tag, further keys.
fn maps(rows: &[(&str, &str, &str)]) -> String {
    rows.iter().map(|(address, tag, keys)| map(address, tag, keys)).collect()
}

/// The example of the manual: a tag in unit 2, besides raw memory in unit 1.
#[test]
fn a_tag_shown_as_registers() {
    check(
        "
        [[modbus.unit]]
        id = 1
        coils = 1000
        discretes = 1000
        inputs = 1000
        holdings = 1000
        [[modbus.map]]
        unit = 2
        address = 'holding:100'
        tag = 'line1/press3/temperature'
        type = 'f32'
        order = 'abcd'
        scale = 0.1
        on_bad = 'exception'
        ",
        "
        2: 03 0064 0002 = 83 04
        > SET line1/press3/temperature 81.5
        < OK
        # 815.0
        2: 03 0064 0002 = 03 04 444B C000
        2: 10 0064 0002 04 444B 0000 = 10 0064 0002
        > GET line1/press3/temperature
        < OK 81.2 good @
        > LIST line1/#
        < TAG line1/press3/temperature float rw -
        < OK 1
        1: 03 0064 0002 = 03 04 0000 0000
        ",
    );
}

/// Addresses as they are on the wire, and as manuals count: from 1, behind the digit of their area.
#[test]
fn addresses() {
    #[rustfmt::skip]
    let table = [
        // Where it is, and the request that reads it.
        ("holding:100",   "03 0064 0001"),
        ("40102",         "03 0065 0001"),
        ("400103",        "03 0066 0001"),
        ("4x104",         "03 0067 0001"),
        ("4X105",         "03 0068 0001"),
        ("465536",        "03 FFFF 0001"),
        ("40001",         "03 0000 0001"),
        ("input:100",     "04 0064 0001"),
        ("30102",         "04 0065 0001"),
        ("300103",        "04 0066 0001"),
        ("3x104",         "04 0067 0001"),
        ("coil:7",        "01 0007 0001"),
        ("00009",         "01 0008 0001"),
        ("000010",        "01 0009 0001"),
        ("0x11",          "01 000A 0001"),
        ("discrete:7",    "02 0007 0001"),
        ("10009",         "02 0008 0001"),
        ("100010",        "02 0009 0001"),
        ("1x11",          "02 000A 0001"),
    ];
    let config: String = (0..)
        .zip(table)
        .map(|(number, (address, read))| {
            let is_bit = read.starts_with("01") || read.starts_with("02");
            map(address, &format!("tag/{number}"), if is_bit { "" } else { "type = 'bool'" })
        })
        .collect();
    let server = start(&config);
    let mut master = Master::tcp(server.addr(0));
    let mut client = Client::connect(server.addr(1));
    for (number, (address, read)) in (0..).zip(table) {
        master.check(1, read, &format!("8{} 04", &read[1..2]));
        assert_eq!(client.ask_one(&format!("SET tag/{number} true")), "OK");
        let got = master.ask(1, read);
        assert_eq!(got.last(), Some(&1), "{address}");
        assert_eq!(client.ask_one(&format!("SET tag/{number} false")), "OK");
        let got = master.ask(1, read);
        assert!(got[0] < 0x80 && got.last() == Some(&0), "{address}");
    }
}

#[test]
fn coils_and_discretes() {
    let rows = maps(&[
        ("coil:3", "pump/run", ""),
        ("coil:4", "pump/auto", "type = 'bool'"),
        ("discrete:3", "pump/run", ""),
    ]);
    check(
        &rows,
        "
        1: 0F 0003 0002 01 01 = 0F 0003 0002
        > READ pump/+
        < VAL pump/auto false good @
        < VAL pump/run true good @
        < OK 2
        1: 01 0003 0002 = 01 01 01
        1: 02 0003 0001 = 02 01 01
        1: 05 0004 FF00 = 05 0004 FF00
        1: 01 0003 0002 = 01 01 03
        > SET pump/run false
        < OK
        1: 01 0003 0002 = 01 01 02
        1: 02 0003 0001 = 02 01 00
        # What shows nothing is not there.
        1: 01 0002 0001 = 81 02
        1: 01 0003 0003 = 81 02
        1: 02 0004 0001 = 82 02
        1: 05 0005 FF00 = 85 02
        1: 0F 0003 0003 01 07 = 8F 02
        1: 03 0003 0001 = 83 02
        > GET pump/run
        < OK false good @
        ",
    );
}

/// Bits of one register, bit 0 the lowest, each a tag.
#[test]
fn bits_of_a_register() {
    let rows = maps(&[
        ("holding:5.0", "b0", ""),
        ("4x6.3", "b3", "type = 'bool'"),
        ("40006.15", "b15", ""),
        ("input:5.3", "b3", ""),
        ("holding:6", "word", "type = 'u16'"),
    ]);
    check(
        &rows,
        "
        # Each has to have a value.
        > SET b0 false
        < OK
        > SET b3 true
        < OK
        1: 03 0005 0001 = 83 04
        > SET b15 true
        < OK
        1: 03 0005 0001 = 03 02 8008
        1: 04 0005 0001 = 04 02 0008
        # Bits that show nothing are 0, and are not written.
        1: 06 0005 7FF1 = 06 0005 7FF1
        1: 03 0005 0001 = 03 02 0001
        > READ +
        < VAL b0 true good @
        < VAL b15 false good @
        < VAL b3 false good @
        < VAL word null bad 0
        < OK 4
        1: 10 0005 0002 04 8009 1234 = 10 0005 0002
        1: 03 0005 0002 = 03 04 8009 1234
        # A mask writes the bits that it names, and no other: that of b3 here, to 0.
        > SET b0 true good 7
        < OK
        1: 16 0005 FFF7 0000 = 16 0005 FFF7 0000
        1: 03 0005 0001 = 03 02 8001
        > GET b0
        < OK true good 7
        1: 16 0006 00FF 5500 = 16 0006 00FF 5500
        1: 03 0006 0001 = 03 02 5534
        1: 17 0005 0002 0005 0001 02 0008 = 17 04 0008 5534
        ",
    );
}

const MIXED: [(&str, &str, &str); 5] = [
    ("holding:10", "speed", "type = 'f32'"),
    ("holding:12", "count", "type = 'u16'"),
    ("holding:14", "total", "type = 'i64'"),
    ("holding:18", "name", "type = 'string(4)'"),
    ("holding:65535", "last", "type = 'u16'"),
];

/// No request may have a part of a value, nor what is not there.
#[test]
fn values_are_not_cut_and_gaps_are_not_there() {
    check(
        &maps(&MIXED),
        "
        1: 10 000A 0003 06 3FC0 0000 0007 = 10 000A 0003
        1: 10 000E 0006 0C 0000 0000 0000 0009 6162 6364 = 10 000E 0006
        1: 03 000A 0002 = 03 04 3FC0 0000
        1: 03 000A 0003 = 03 06 3FC0 0000 0007
        1: 03 000E 0006 = 03 0C 0000 0000 0000 0009 6162 6364
        1: 03 0012 0002 = 03 04 6162 6364
        # Halves.
        1: 03 000A 0001 = 83 02
        1: 03 000B 0001 = 83 02
        1: 03 000B 0002 = 83 02
        1: 03 000E 0003 = 83 02
        1: 03 000F 0003 = 83 02
        1: 03 000C 0001 = 03 02 0007
        1: 03 0010 0003 = 83 02
        # Gaps, before, between, behind.
        1: 03 0009 0001 = 83 02
        1: 03 0009 0003 = 83 02
        1: 03 000D 0001 = 83 02
        1: 03 000A 000A = 83 02
        1: 03 0012 0003 = 83 02
        1: 03 FFFE 0001 = 83 02
        1: 03 FFFE 0002 = 83 02
        1: 03 FFFF 0002 = 83 02
        1: 04 000A 0002 = 84 02
        1: 01 000A 0001 = 81 02
        # Writes, by each function.
        1: 06 000A 0000 = 86 02
        1: 06 000D 0000 = 86 02
        1: 10 000B 0002 04 0000 0000 = 90 02
        1: 10 000C 0002 04 1111 1111 = 90 02
        1: 10 000A 0001 02 0000 = 90 02
        1: 16 000A 0000 0000 = 96 02
        1: 16 000D 0000 0000 = 96 02
        1: 17 000C 0001 000B 0001 02 0000 = 97 02
        1: 17 000B 0001 000C 0001 02 1111 = 97 02
        1: 10 FFFF 0002 04 1111 1111 = 90 02
        > READ +
        < VAL count 7 good @
        < VAL last null bad 0
        < VAL name \"abcd\" good @
        < VAL speed 1.5 good @
        < VAL total 9 good @
        < OK 5
        ",
    );
}

/// With `fill = 0` a block of registers can be read and written whatever is between. Values are not cut, as
/// no master is to see half of one; nor is there anything behind the last address.
#[test]
fn gaps_that_are_filled() {
    let unit = "[[modbus.unit]]\nid = 1\nfill = 0\n";
    check(
        &(unit.to_owned() + &maps(&MIXED) + &map("coil:3", "run", "") + &map("input:5.15", "run", "")),
        "
        1: 03 0000 0008 = 03 10 0000 0000 0000 0000 0000 0000 0000 0000
        1: 10 000A 0004 08 3FC0 0000 0007 DEAD = 10 000A 0004
        1: 10 0012 0004 08 6162 6364 DEAD DEAD = 10 0012 0004
        1: 10 000D 0005 0A DEAD 0000 0000 0000 0009 = 10 000D 0005
        1: 03 0009 000D = 03 1A 0000 3FC0 0000 0007 0000 0000 0000 0000 0009 6162 6364 0000 0000
        1: 06 0000 DEAD = 06 0000 DEAD
        1: 16 0000 0000 DEAD = 16 0000 0000 DEAD
        1: 03 0000 0001 = 03 02 0000
        1: 04 0000 0002 = 04 04 0000 0000
        1: 0F 0000 0008 01 FF = 0F 0000 0008
        1: 01 0000 0008 = 01 01 08
        1: 02 0000 0008 = 02 01 00
        1: 04 0004 0003 = 04 06 0000 8000 0000
        1: 06 FFFF 0001 = 06 FFFF 0001
        1: 03 FFFE 0002 = 03 04 0000 0001
        1: 03 FFFF 0002 = 83 02
        1: 10 FFFF 0002 04 0002 0002 = 90 02
        1: 03 000A 0001 = 83 02
        1: 03 0000 000B = 83 02
        1: 03 000B 0008 = 83 02
        1: 06 000A 0000 = 86 02
        1: 10 0000 000B 16 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 0000 = 90 02
        > READ +
        < VAL count 7 good @
        < VAL last 1 good @
        < VAL name \"abcd\" good @
        < VAL run true good @
        < VAL speed 1.5 good @
        < VAL total 9 good @
        < OK 6
        ",
    );
}

const GUARDED: &str = "
    [server]
    max_text = 16
    [[tag]]
    name = 'first'
    type = 'int'
    initial = 1
    [[tag]]
    name = 'limited'
    type = 'int'
    min = 10
    max = 20
    initial = 15
    [[tag]]
    name = 'fixed'
    type = 'int'
    access = 'ro'
    initial = 3
    [[tag]]
    name = 'whole'
    type = 'int'
    initial = 4
    [[tag]]
    name = 'words'
    type = 'text'
    initial = 'old'
    [[tag]]
    name = 'last'
    type = 'int'
    initial = 6
    [[tag]]
    name = 'lamp/one'
    type = 'bool'
    initial = false
    [[tag]]
    name = 'lamp/two'
    type = 'bool'
    access = 'ro'
    initial = false
    [[tag]]
    name = 'lamp/three'
    type = 'bool'
    initial = false
    ";

/// All that a request writes is checked before any of it is written.
#[test]
fn a_write_over_several_tags_is_checked_in_full() {
    let rows = maps(&[
        ("holding:0", "first", "type = 'u16'"),
        ("holding:1", "limited", "type = 'u16'"),
        ("holding:2", "last", "type = 'u16'"),
        ("holding:3", "fixed", "type = 'u16'"),
        ("holding:4", "last", "type = 'u16'"),
        ("holding:5", "whole", "type = 'u16'\nscale = 0.5"),
        ("holding:6", "words", "type = 'string(20)'"),
        ("holding:16", "first", "type = 'u16'"),
        ("holding:17", "last", "show = 'quality'"),
        ("holding:20.0", "lamp/one", ""),
        ("holding:20.1", "lamp/two", ""),
        ("coil:0", "lamp/one", ""),
        ("coil:1", "lamp/two", ""),
        ("coil:2", "lamp/three", ""),
    ]);
    check(
        &(GUARDED.to_owned() + &rows),
        "
        # Outside the limits: 3, wherever it is.
        1: 10 0000 0003 06 0065 0009 0065 = 90 03
        1: 10 0000 0003 06 0065 0015 0065 = 90 03
        1: 06 0001 0015 = 86 03
        1: 16 0001 FF00 0015 = 96 03
        1: 17 0000 0003 0000 0003 06 0065 0015 0065 = 97 03
        # Read-only: 2.
        1: 10 0002 0003 06 0065 0003 0065 = 90 02
        1: 06 0003 0003 = 86 02
        1: 17 0000 0001 0002 0003 06 0065 0003 0065 = 97 02
        # It does not fit: 4. A whole number is not 1.5, and the text is longer than max_text.
        1: 10 0004 0002 04 0065 0003 = 90 04
        1: 10 0005 000B 16 0002 6162 6364 6566 6768 6162 6364 6566 6768 6900 0000 = 90 04
        # A quality is not written.
        1: 10 0010 0002 04 0065 0000 = 90 02
        # Bits, and coils.
        1: 06 0014 0003 = 86 02
        1: 0F 0000 0003 01 07 = 8F 02
        1: 05 0001 FF00 = 85 02
        > READ #
        < VAL first 1 good @
        < VAL fixed 3 good @
        < VAL lamp/one false good @
        < VAL lamp/three false good @
        < VAL lamp/two false good @
        < VAL last 6 good @
        < VAL limited 15 good @
        < VAL whole 4 good @
        < VAL words \"old\" good @
        < OK 9
        # The same without what was wrong.
        1: 10 0000 0003 06 0065 0014 0066 = 10 0000 0003
        1: 10 0004 0002 04 0067 0004 = 10 0004 0002
        1: 16 0001 FF00 000A = 16 0001 FF00 000A
        1: 16 0014 FFFE 0001 = 16 0014 FFFE 0001
        1: 05 0002 FF00 = 05 0002 FF00
        > READ #
        < VAL first 101 good @
        < VAL fixed 3 good @
        < VAL lamp/one true good @
        < VAL lamp/three true good @
        < VAL lamp/two false good @
        < VAL last 103 good @
        < VAL limited 10 good @
        < VAL whole 2 good @
        < VAL words \"old\" good @
        < OK 9
        ",
    );
}

/// The server's own tags, and registers of raw memory, can be shown as well.
#[test]
fn tags_of_the_server_and_registers_of_another_unit() {
    let rows = maps(&[
        ("input:0", "$server/connections", "type = 'u16'"),
        ("holding:0", "$server/connections", "type = 'u32'"),
        ("holding:2", "modbus/7/holding/5", "type = 'u16'\norder = 'badc'"),
        ("coil:0", "modbus/7/coil/5", ""),
    ]);
    check(
        &format!("[[modbus.unit]]\nid = 7\nholdings = 10\ncoils = 10\n{rows}"),
        "
        # This master and the client of the line protocol.
        until 1: 04 0000 0001 = 04 02 0002
        1: 03 0000 0002 = 03 04 0000 0002
        1: 10 0000 0002 04 0000 0002 = 90 02
        7: 06 0005 1234 = 06 0005 1234
        1: 03 0002 0001 = 03 02 3412
        1: 06 0002 7856 = 06 0002 7856
        7: 03 0005 0001 = 03 02 5678
        1: 05 0000 FF00 = 05 0000 FF00
        7: 01 0000 000A = 01 02 2000
        > GET modbus/7/holding/5
        < OK 22136 good @
        ",
    );
}

/// Also what a register of raw memory cannot hold is seen before anything is written.
#[test]
fn a_register_that_cannot_hold_the_value() {
    let rows =
        maps(&[("holding:0", "first", "type = 'u16'"), ("holding:1", "modbus/7/holding/5", "type = 'i16'")]);
    check(
        &format!("[[modbus.unit]]\nid = 7\nholdings = 10\n{rows}"),
        "
        1: 10 0000 0002 04 0005 7FFF = 10 0000 0002
        1: 10 0000 0002 04 0006 FFFF = 90 03
        1: 03 0000 0002 = 03 04 0005 7FFF
        7: 03 0005 0001 = 03 02 7FFF
        ",
    );
}

/// A tag in more than one place, and in more than one way.
#[test]
fn a_tag_in_several_places() {
    let rows = "[[tag]]\nname = 'level'\ntype = 'float'\n".to_owned()
        + &maps(&[
            ("holding:0", "level", "type = 'f32'"),
            ("holding:2", "level", "type = 'u16'\nscale = 0.1"),
            ("input:0", "level", "type = 'i32'\norder = 'cdab'"),
        ])
        + "[[modbus.map]]\nunit = 2\naddress = 'holding:0'\ntag = 'level'\ntype = 'f64'\n";
    check(
        &rows,
        "
        1: 06 0002 0019 = 06 0002 0019
        > GET level
        < OK 2.5 good @
        1: 03 0000 0003 = 03 06 4020 0000 0019
        1: 04 0000 0002 = 04 04 0003 0000
        2: 03 0000 0004 = 03 08 4004 0000 0000 0000
        # Of a request that writes it twice the last one counts.
        1: 10 0000 0003 06 3F80 0000 0014 = 10 0000 0003
        > GET level
        < OK 2.0 good @
        ",
    );
}

/// Two masters write a float, a third one never sees half of it.
#[test]
fn no_master_sees_half_of_a_float() {
    const ROUNDS: usize = 500;
    let server = start(&map("holding:0", "speed", "type = 'f32'"));
    let addr = server.addr(0);
    let write = |master: &mut Master, registers: &str| {
        master.check(1, &format!("10 0000 0002 04 {registers}"), "10 0000 0002");
    };
    // 3.14 and 0.1: no half of one is a half of the other.
    let values = ["4048 F5C3", "3DCC CCCD"];
    let mut reader = Master::tcp(addr);
    write(&mut reader, values[0]);
    std::thread::scope(|scope| {
        for value in values {
            scope.spawn(move || {
                let mut master = Master::tcp(addr);
                (0..ROUNDS).for_each(|_| write(&mut master, value));
            });
        }
        for _ in 0..ROUNDS {
            let reply = reader.ask(1, "03 0000 0002");
            let whole = values.map(|value| [&hex("03 04")[..], &hex(value)].concat());
            assert!(whole.contains(&reply), "half of each: {reply:X?}");
        }
    });
}

/// What many masters do with many tags at once: each sees what it wrote last.
#[test]
fn many_masters() {
    let rows: String = (0..50)
        .map(|number| map(&format!("holding:{}", 2 * number), &format!("t/{number}"), "type = 'i32'"))
        .collect();
    let server: Server = start(&rows);
    let mut masters: Vec<Master> = (0..50).map(|_| Master::tcp(server.addr(0))).collect();
    for round in 0..20 {
        for (number, master) in masters.iter_mut().enumerate() {
            let address = 2 * number;
            master.check(
                1,
                &format!("10 {address:04X} 0002 04 {number:04X} {round:04X}"),
                &format!("10 {address:04X} 0002"),
            );
        }
        for (number, master) in masters.iter_mut().enumerate() {
            let address = 2 * number;
            master.check(1, &format!("03 {address:04X} 0002"), &format!("03 04 {number:04X} {round:04X}"));
        }
    }
}
