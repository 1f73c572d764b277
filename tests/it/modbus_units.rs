//! Modbus: units of raw memory, and their registers as tags.

use std::time::Instant;

use crate::client::Client;
use crate::modbus::{Master, check, hex, start};
use crate::server::{DEADLINE, Server};

/// A server that is told of no unit has one, with all addresses.
#[test]
fn the_unit_of_a_server_without_units() {
    let server = start("");
    let mut master = Master::tcp(server.addr(0));
    master.check_all(
        1,
        &[
            ("06 FFFF 1234", "06 FFFF 1234"),
            ("03 FFFF 0001", "03 02 1234"),
            ("03 FFFE 0002", "03 04 0000 1234"),
            ("04 FFFF 0001", "04 02 0000"),
            ("05 FFFF FF00", "05 FFFF FF00"),
            ("01 FFFF 0001", "01 01 01"),
            ("02 FFFF 0001", "02 01 00"),
            // One more would be behind the last: the address does not begin again at 0.
            ("03 FFFF 0002", "83 02"),
            ("04 FFFF 0002", "84 02"),
            ("01 FFFF 0002", "81 02"),
            ("02 FFFF 0002", "82 02"),
            ("10 FFFF 0002 04 5555 5555", "90 02"),
            ("0F FFFF 0002 01 00", "8F 02"),
            ("17 FFFF 0002 0000 0001 02 5555", "97 02"),
            ("17 0000 0001 FFFF 0002 04 5555 5555", "97 02"),
            ("03 0000 0001", "03 02 0000"),
            ("03 FFFF 0001", "03 02 1234"),
        ],
    );
    master.check(2, "03 0000 0001", "83 0A");
}

/// Its 262,144 registers cost no tags, and no memory before they are written.
#[test]
fn addresses_that_nobody_named_are_no_tags() {
    let server = Server::build()
        .config("[server]\nmax_tags = 2")
        .listen("modbus://127.0.0.1:0")
        .listen("line://127.0.0.1:0")
        .start();
    let mut master = Master::tcp(server.addr(0));
    let mut client = Client::connect(server.addr(1));
    for address in (0..0xFFFF).step_by(100) {
        master.check(1, &format!("06 {address:04X} 1234"), &format!("06 {address:04X} 1234"));
    }
    assert_eq!(client.ask("READ #"), ["OK 0"]);
    client.send("GET modbus/1/holding/0\nGET modbus/1/holding/100\nGET modbus/1/holding/200\nLIST #\n");
    client.expect("OK 4660 good @");
    client.expect("OK 4660 good @");
    client.expect("ERR limit");
    client.expect("TAG modbus/1/holding/0 int rw -");
    client.expect("TAG modbus/1/holding/100 int rw -");
    client.expect("OK 2");
    // The memory is there all the same.
    master.check(1, "03 00C8 0001", "03 02 1234");
}

/// The first and the last address of each area, and one beyond.
#[test]
fn areas_end_where_they_are_said_to() {
    let server = start("[[modbus.unit]]\nid = 7\ncoils = 9\ndiscretes = 17\ninputs = 3\nholdings = 65536\n");
    let mut master = Master::tcp(server.addr(0));
    master.check_all(
        7,
        &[
            ("01 0000 0009", "01 02 0000"),
            ("01 0008 0001", "01 01 00"),
            ("01 0009 0001", "81 02"),
            ("01 0000 000A", "81 02"),
            ("01 FFFF 0001", "81 02"),
            ("05 0008 FF00", "05 0008 FF00"),
            ("05 0009 FF00", "85 02"),
            ("0F 0000 0009 02 0001", "0F 0000 0009"),
            ("0F 0001 0009 02 0001", "8F 02"),
            ("0F 0009 0001 01 01", "8F 02"),
            ("01 0000 0009", "01 02 0001"),
            ("02 0000 0011", "02 03 000000"),
            ("02 0010 0001", "02 01 00"),
            ("02 0011 0001", "82 02"),
            ("02 0000 0012", "82 02"),
            ("04 0000 0003", "04 06 0000 0000 0000"),
            ("04 0002 0001", "04 02 0000"),
            ("04 0003 0001", "84 02"),
            ("04 0002 0002", "84 02"),
            ("04 FFFF 0001", "84 02"),
            ("06 0000 0001", "06 0000 0001"),
            ("06 FFFF 0002", "06 FFFF 0002"),
            ("03 FFFF 0001", "03 02 0002"),
            ("03 FFFF 0002", "83 02"),
            ("16 FFFF 0000 0004", "16 FFFF 0000 0004"),
            ("03 FFFF 0001", "03 02 0004"),
        ],
    );
}

/// What an area has not been given is not there.
#[test]
fn an_area_that_is_not_named_has_no_address() {
    let server = start("[[modbus.unit]]\nid = 1\nholdings = 1\ninputs = 0");
    let mut master = Master::tcp(server.addr(0));
    for (request, reply) in [
        ("01 0000 0001", "81 02"),
        ("02 0000 0001", "82 02"),
        ("04 0000 0001", "84 02"),
        ("05 0000 FF00", "85 02"),
        ("0F 0000 0001 01 01", "8F 02"),
        ("03 0000 0001", "03 02 0000"),
        ("03 0001 0001", "83 02"),
        ("06 0001 0001", "86 02"),
        ("16 0001 0000 0000", "96 02"),
    ] {
        master.check(1, request, reply);
    }
}

/// Units 0 and 255 mean the only one, whatever its number is.
#[test]
fn the_only_unit() {
    let server = start("[[modbus.unit]]\nid = 17\nholdings = 10");
    let mut master = Master::tcp(server.addr(0));
    master.check(17, "06 0003 1234", "06 0003 1234");
    for unit in [0, 17, 255] {
        master.check(unit, "03 0003 0001", "03 02 1234");
        master.check(unit, "2B 0E 04 00", "2B 0E 04 82 00 00 01 00 06 4C75 6D69 6E61");
    }
    for unit in [1, 16, 18, 254] {
        master.check(unit, "03 0003 0001", "83 0A");
        master.check(unit, "2B 0E 04 00", "AB 0A");
    }
}

/// Where there are two, 0 and 255 are none of them. One is of tags, the other of raw memory.
#[test]
fn two_units() {
    let server = start(
        "
        [[modbus.unit]]
        id = 1
        holdings = 10
        [[modbus.map]]
        unit = 2
        address = 'holding:3'
        tag = 'speed'
        type = 'u16'
        ",
    );
    let mut master = Master::tcp(server.addr(0));
    master.check(1, "06 0003 1111", "06 0003 1111");
    master.check(2, "06 0003 2222", "06 0003 2222");
    master.check(1, "03 0003 0001", "03 02 1111");
    master.check(2, "03 0003 0001", "03 02 2222");
    for unit in (0..=255).filter(|unit| ![1, 2].contains(unit)) {
        master.check(unit, "03 0003 0001", "83 0A");
    }
}

/// A unit may have the number 255, which then means this one.
#[test]
fn a_unit_255() {
    let server = start("[[modbus.unit]]\nid = 255\nholdings = 1\n[[modbus.unit]]\nid = 1\nholdings = 2");
    let mut master = Master::tcp(server.addr(0));
    master.check(255, "03 0000 0002", "83 02");
    master.check(1, "03 0000 0002", "03 04 0000 0000");
    master.check(0, "03 0000 0001", "83 0A");
}

/// Registers are tags of the line protocol when they are named, and the same in both directions.
#[test]
fn registers_as_tags() {
    check(
        "",
        "
        1: 10 0005 0001 02 1234 = 10 0005 0001
        > GET modbus/1/holding/5
        < OK 4660 good @
        > SET modbus/1/holding/5 65535
        < OK
        1: 03 0005 0001 = 03 02 FFFF
        1: 06 0005 0000 = 06 0005 0000
        > READ modbus/1/holding/5
        < VAL modbus/1/holding/5 0 good @
        < OK 1
        # The other areas, named by a write.
        > SET modbus/1/input/65535 40000
        < OK
        1: 04 FFFF 0001 = 04 02 9C40
        > SET modbus/1/coil/0 true
        < OK
        1: 01 0000 0001 = 01 01 01
        1: 05 0000 0000 = 05 0000 0000
        > GET modbus/1/coil/0
        < OK false good @
        > SET modbus/1/discrete/9 true
        < OK
        1: 02 0008 0002 = 02 01 02
        > LIST #
        < TAG modbus/1/coil/0 bool rw -
        < TAG modbus/1/discrete/9 bool rw -
        < TAG modbus/1/holding/5 int rw -
        < TAG modbus/1/input/65535 int rw -
        < OK 4
        # Every function that writes.
        1: 16 0005 0000 1234 = 16 0005 0000 1234
        > GET modbus/1/holding/5
        < OK 4660 good @
        1: 17 0000 0001 0004 0003 06 0001 0002 0003 = 17 02 0000
        > GET modbus/1/holding/5
        < OK 2 good @
        1: 0F 0000 0001 01 01 = 0F 0000 0001
        > GET modbus/1/coil/0
        < OK true good @
        # A whole number is one, however it is written.
        > SET modbus/1/holding/5 7.0
        < OK
        1: 03 0005 0001 = 03 02 0007
        ",
    );
}

/// A device's name goes with what it wrote.
#[test]
fn the_source_of_a_register() {
    check(
        "",
        "
        > HELLO press3
        < OK lumina 1
        > SET modbus/1/holding/5 7
        < OK
        > LIST modbus/1/holding/5
        < TAG modbus/1/holding/5 int rw press3
        < OK 1
        1: 06 0005 0008 = 06 0005 0008
        > LIST modbus/1/holding/5
        < TAG modbus/1/holding/5 int rw -
        < OK 1
        ",
    );
}

#[test]
fn subscribers_are_told_what_masters_write() {
    check(
        "",
        "
        1: 06 0005 0007 = 06 0005 0007
        > SUB modbus/1/holding/5
        < VAL modbus/1/holding/5 7 good @
        < OK 1
        > SUB modbus/1/coil/3
        < VAL modbus/1/coil/3 false good @
        < OK 1
        1: 06 0005 0008 = 06 0005 0008
        < UPD modbus/1/holding/5 8 good @
        1: 0F 0000 0008 01 FF = 0F 0000 0008
        < UPD modbus/1/coil/3 true good @
        # Neighbours, and the same value again, are no news; the order of these two shows it.
        1: 10 0004 0003 06 0001 0008 0001 = 10 0004 0003
        1: 06 0005 0009 = 06 0005 0009
        < UPD modbus/1/holding/5 9 good @
        > LIST #
        < TAG modbus/1/coil/3 bool rw -
        < TAG modbus/1/holding/5 int rw -
        < OK 2
        ",
    );
}

/// A pattern finds what is there, and makes nothing.
#[test]
fn a_wildcard_names_no_register() {
    check(
        "",
        "
        1: 06 0005 0007 = 06 0005 0007
        > READ modbus/1/holding/+
        < OK 0
        > LIST modbus/#
        < OK 0
        > SUB modbus/+/holding/5
        < OK 0
        > READ modbus/1/holding/5
        < VAL modbus/1/holding/5 7 good @
        < OK 1
        # Who subscribed before is told of the new tag.
        < UPD modbus/1/holding/5 7 good @
        > READ modbus/1/holding/+
        < VAL modbus/1/holding/5 7 good @
        < OK 1
        > LIST modbus/#
        < TAG modbus/1/holding/5 int rw -
        < OK 1
        1: 06 0005 0008 = 06 0005 0008
        < UPD modbus/1/holding/5 8 good @
        ",
    );
}

/// Each register has one name, and names below `modbus/` are registers or nothing.
#[test]
fn what_is_no_register() {
    let server = start("[[modbus.unit]]\nid = 1\nholdings = 100\ncoils = 8\n[[modbus.unit]]\nid = 20");
    let mut client = Client::connect(server.addr(1));
    let names = [
        "modbus/1/holding/05",
        "modbus/1/holding/00",
        "modbus/01/holding/5",
        "modbus/1/holding/100",
        "modbus/1/holding/65536",
        "modbus/1/holding/4294967301",
        "modbus/1/holding/-1",
        "modbus/1/holding/5x",
        "modbus/1/holding/5/1",
        "modbus/1/holding/5.3",
        "modbus/1/holding",
        "modbus/1",
        "modbus/1/holdings/5",
        "modbus/1/Holding/5",
        "modbus/1/coil/8",
        "modbus/1/input/0",
        "modbus/1/discrete/0",
        "modbus/0/holding/5",
        "modbus/2/holding/5",
        "modbus/255/holding/5",
        "modbus/257/holding/5",
        "modbus/65537/holding/5",
        "modbus/x/holding/5",
        // A unit of tags.
        "modbus/20/holding/5",
    ];
    for name in names {
        for request in [format!("GET {name}"), format!("SET {name} 1")] {
            let reply = client.ask_one(&request);
            assert!(reply.starts_with("ERR not-found "), "{request}: {reply}");
        }
        for verb in ["READ", "LIST", "SUB"] {
            assert_eq!(client.ask(&format!("{verb} {name}")), ["OK 0"], "{verb} {name}");
        }
    }
    assert_eq!(client.ask("LIST #"), ["OK 0"]);
    // Others may begin alike.
    assert_eq!(client.ask_one("SET modbus 1"), "OK");
    assert_eq!(client.ask_one("SET modbus1/1/holding/05 1"), "OK");
}

#[test]
fn what_a_register_does_not_take() {
    check(
        "",
        "
        1: 06 0005 0007 = 06 0005 0007
        > SET modbus/1/holding/5 65536
        < ERR out-of-range
        > SET modbus/1/holding/5 -1
        < ERR out-of-range
        > SET modbus/1/holding/5 1.5
        < ERR wrong-type
        > SET modbus/1/holding/5 true
        < ERR wrong-type
        > SET modbus/1/holding/5 \"7\"
        < ERR wrong-type
        > SET modbus/1/coil/5 1
        < ERR wrong-type
        # A register has a value and nothing else.
        > SET modbus/1/holding/5 null bad
        < ERR bad-request
        > SET modbus/1/holding/5 8 uncertain
        < ERR bad-request
        > SET modbus/1/holding/5 8 good 7
        < ERR bad-request
        > GET modbus/1/holding/5
        < OK 7 good @
        1: 03 0005 0001 = 03 02 0007
        ",
    );
}

/// A register can be declared, for its first value and whatever else a tag has.
#[test]
fn a_declared_register() {
    check(
        "
        [[tag]]
        name = 'modbus/1/input/5'
        initial = 77
        [[tag]]
        name = 'modbus/1/discrete/9'
        type = 'bool'
        initial = true
        [[tag]]
        name = 'modbus/1/holding/0'
        type = 'int'
        max = 100
        [[tag]]
        name = 'modbus/1/input/6'
        access = 'ro'
        initial = 78
        ",
        "
        1: 04 0004 0003 = 04 06 0000 004D 004E
        1: 02 0008 0002 = 02 01 02
        > READ modbus/#
        < VAL modbus/1/discrete/9 true good @
        < VAL modbus/1/holding/0 0 good @
        < VAL modbus/1/input/5 77 good @
        < VAL modbus/1/input/6 78 good @
        < OK 4
        > SET modbus/1/holding/0 101
        < ERR out-of-range
        > SET modbus/1/input/6 1
        < ERR read-only
        > SET modbus/1/input/5 78
        < OK
        1: 04 0005 0001 = 04 02 004E
        ",
    );
}

/// Without Modbus these names are as good as any.
#[test]
fn the_names_of_a_server_without_modbus() {
    let server = Server::start();
    let mut client = server.client();
    assert!(client.ask_one("GET modbus/1/holding/5").starts_with("ERR not-found "));
    assert_eq!(client.ask_one("SET modbus/1/holding/05 \"text\""), "OK");
}

/// One request is read and written as a whole: no master sees half of what another one writes.
#[test]
fn a_request_is_carried_out_as_one() {
    const ROUNDS: usize = 500;
    let server = start("");
    let addr = server.addr(0);
    let write = |byte: u8| [&hex("10 0000 0064 C8")[..], &[byte; 200]].concat();
    let mut writers: Vec<Master> = (0..3).map(|_| Master::tcp(addr)).collect();
    let mut reader = Master::tcp(addr);
    let mut seen = [0; 256];
    std::thread::scope(|scope| {
        for (number, writer) in (1..).zip(&mut writers) {
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    assert_eq!(writer.ask_bytes(1, &write(number)), hex("10 0000 0064"));
                }
            });
        }
        // Until somebody has written, too.
        let end = Instant::now() + DEADLINE;
        let mut rounds = 0;
        while rounds < ROUNDS || (seen[1..=3] == [0; 3] && Instant::now() < end) {
            rounds += 1;
            let reply = reader.ask(1, "03 0000 0064");
            let (header, registers) = reply.split_at(2);
            assert_eq!(header, hex("03 C8"));
            assert!(registers.iter().all(|byte| *byte == registers[0]), "a mixture: {registers:?}");
            seen[usize::from(registers[0])] += 1;
        }
    });
    assert!(seen[1..=3].iter().sum::<usize>() > 0, "the reader saw none of the writes");
}

/// An area that nobody writes in time takes its safe value, once; a write begins a new time.
#[test]
fn the_watchdog_of_an_area() {
    check(
        "
        [[modbus.unit]]
        id = 1
        inputs = 10
        coils = { size = 10, watchdog = '1s', safe = true }
        holdings = { size = 10, watchdog = '1s', safe = 7 }
        [[modbus.unit]]
        id = 2
        coils = 10
        holdings = { size = 4 }
        ",
        "
        2: 06 0003 1234 = 06 0003 1234
        # All of the area; reading it does not count as a write.
        until 1: 03 0000 000A = 03 14 0007 0007 0007 0007 0007 0007 0007 0007 0007 0007
        until 1: 01 0000 000A = 01 02 FF03
        > SUB modbus/1/holding/9
        < VAL modbus/1/holding/9 7 good @
        < OK 1
        1: 06 0009 0005 = 06 0009 0005
        < UPD modbus/1/holding/9 5 good @
        < UPD modbus/1/holding/9 7 good @
        # By the line protocol as well.
        > SET modbus/1/holding/9 6
        < OK
        < UPD modbus/1/holding/9 6 good @
        < UPD modbus/1/holding/9 7 good @
        1: 0F 0000 000A 02 0000 = 0F 0000 000A
        until 1: 01 0000 000A = 01 02 FF03
        # Others are left alone.
        1: 04 0000 0001 = 04 02 0000
        2: 03 0003 0001 = 03 02 1234
        2: 01 0000 000A = 01 02 0000
        ",
    );
}
