//! Modbus: frames with a CRC, as serial converters speak them over TCP, and frames in datagrams.

use crate::client::Client;
use crate::modbus::{Master, hex, mbap};
use crate::server::{Server, until};

/// Whatever frames them, requests are the same.
#[test]
fn the_same_memory_by_every_listener() {
    let server = Server::build()
        .listen("modbus://127.0.0.1:0")
        .listen("modbus-rtu://127.0.0.1:0")
        .listen("modbus+udp://127.0.0.1:0")
        .start();
    let masters = [Master::tcp(server.addr(0)), Master::rtu(server.addr(1)), Master::udp(server.addr(2))];
    for (number, mut master) in (1..).zip(masters) {
        let table = [
            (1, format!("10 0000 0002 04 1234 000{number}"), "10 0000 0002".to_owned()),
            (1, "03 0000 0002".to_owned(), format!("03 04 1234 000{number}")),
            (1, "04 0000 007D".to_owned(), format!("04 FA {}", "00".repeat(250))),
            (1, "05 0007 FF00".to_owned(), "05 0007 FF00".to_owned()),
            (1, "01 0000 000A".to_owned(), "01 02 8000".to_owned()),
            (1, "0F 0007 0001 01 00".to_owned(), "0F 0007 0001".to_owned()),
            (1, "02 0000 0001".to_owned(), "02 01 00".to_owned()),
            (1, "06 0005 00FF".to_owned(), "06 0005 00FF".to_owned()),
            (1, "16 0005 00F0 0000".to_owned(), "16 0005 00F0 0000".to_owned()),
            (1, "17 0005 0001 0006 0001 02 0000".to_owned(), "17 02 00F0".to_owned()),
            (1, "2B 0E 04 00".to_owned(), "2B 0E 04 82 00 00 01 00 06 4C75 6D69 6E61".to_owned()),
            (1, "03 FFFF 0002".to_owned(), "83 02".to_owned()),
            (1, "03 0000 0000".to_owned(), "83 03".to_owned()),
            (2, "03 0000 0001".to_owned(), "83 0A".to_owned()),
            (1, "63 00".to_owned(), "E3 01".to_owned()),
            (255, "03 0005 0001".to_owned(), "03 02 00F0".to_owned()),
        ];
        for (unit, request, reply) in table {
            master.check(unit, &request, &reply);
        }
    }
}

/// A frame that the line has damaged is dropped without an answer and counted; those after it are carried
/// out.
#[test]
fn rtu_a_wrong_crc() {
    let server = Server::build().listen("modbus-rtu://127.0.0.1:0").listen("line://127.0.0.1:0").start();
    let mut master = Master::rtu(server.addr(0));
    let mut client = Client::connect(server.addr(1));
    let damaged = |client: &mut Client| {
        let reply = client.ask_one("GET $server/damaged");
        reply.split(' ').nth(1).and_then(|count| count.parse::<u64>().ok()).expect("a count")
    };
    assert_eq!(damaged(&mut client), 0);
    // Read two registers, as others have published that frame; the reply is four bytes of 0.
    master.send(&hex("01 03 0000 0002 C40B"));
    assert_eq!(master.receive(0, 1), hex("03 04 0000 0000"));

    // One bit is wrong: in the CRC, the unit, the data; then both bytes of the CRC are swapped.
    let bad =
        ["01 06 0000 1234 84BC", "03 06 0000 1234 84BD", "01 06 0000 1235 84BD", "01 06 0000 1234 BD84"];
    for (number, frame) in (1..).zip(bad) {
        master.send(&hex(frame));
        until("it is counted", || damaged(&mut client) == number);
        // There was no answer, as this one is the next.
        master.check(1, "03 0000 0001", "03 02 0000");
    }
    assert_eq!(damaged(&mut client), 4);
    master.send(&hex("01 06 0000 1234 84BD"));
    assert_eq!(master.receive(0, 1), hex("06 0000 1234"));

    // Behind one another in one write: damaged ones cost no other.
    let frames =
        ["01 03 0000 0001 840A", "01 03 0000 0001 840B", "01 03 0000 0002 C40B", "01 03 0000 0001 850A"];
    master.send(&hex(&frames.concat()));
    assert_eq!(master.receive(0, 1), hex("03 02 1234"));
    assert_eq!(master.receive(0, 1), hex("03 04 1234 0000"));
    master.check(1, "03 0000 0001", "03 02 1234");
    assert_eq!(damaged(&mut client), 6);
}

/// Whatever is wrong with it, a frame with a right CRC is answered, also one of a function that nobody knows.
#[test]
fn rtu_exceptions() {
    let server = Server::build().listen("modbus-rtu://127.0.0.1:0").start();
    let mut master = Master::rtu(server.addr(0));
    let served = [1, 2, 3, 4, 5, 6, 15, 16, 22, 23, 43];
    for code in (0..=255).filter(|code| !served.contains(code)) {
        assert_eq!(master.ask_bytes(1, &[code, 0x55, 0xAA, 0x12, 0x34]), [code | 0x80, 1], "function {code}");
    }
    let table = [
        ("2B 0D 01 00", "AB 01"),
        ("0F 0000 0009 01 00", "8F 03"),
        ("10 0000 0001 04 0000 0000", "90 03"),
        ("05 0000 1234", "85 03"),
    ];
    master.check_all(1, &table);
}

/// Wherever a conversation is cut, the replies are the same.
#[test]
fn rtu_chopped_requests() {
    let config = "[[listen]]\nurl = 'modbus-rtu://127.0.0.1:0'\nframe_timeout = '10m'";
    let server = Server::build().config(config).start();
    let mut master = Master::rtu(server.addr(0));
    let requests = ["10 0000 0002 04 1234 5678", "03 0000 0002", "63", "17 0001 0001 0000 0001 02 ABCD"];
    let replies = ["10 0000 0002", "03 04 1234 5678", "E3 01", "17 02 5678"];
    let frames: Vec<u8> =
        requests.into_iter().flat_map(|request| master.frame(0, 1, &hex(request))).collect();
    for cut in 1..frames.len() {
        let (one, other) = frames.split_at(cut);
        for piece in [one, other] {
            master.send(piece);
        }
        for reply in replies {
            assert_eq!(master.receive(0, 1), hex(reply), "cut behind {cut} bytes");
        }
    }
}

/// Unit 0 is all of them: they carry it out, and none answers.
#[test]
fn rtu_broadcast() {
    let server = Server::build()
        .config(
            "
            [[modbus.unit]]
            id = 1
            holdings = 10
            coils = 10
            [[modbus.unit]]
            id = 2
            holdings = 5
            coils = 10
            [[modbus.map]]
            unit = 3
            address = 'holding:1'
            tag = 'speed'
            type = 'u16'
            ",
        )
        .listen("modbus-rtu://127.0.0.1:0")
        .listen("line://127.0.0.1:0")
        .start();
    let mut master = Master::rtu(server.addr(0));
    let broadcast = |master: &mut Master, pdu: &str| {
        let frame = master.frame(0, 0, &hex(pdu));
        master.send(&frame);
    };
    broadcast(&mut master, "06 0001 1234");
    broadcast(&mut master, "0F 0000 0003 01 05");
    // Unit 2 has no such address, and unit 3 neither: unit 1 has.
    broadcast(&mut master, "10 0005 0001 02 5678");
    // Reads, and what is malformed, unknown or refused, are not answered either.
    for pdu in ["03 0000 0001", "03 0000 0000", "63", "2B 0E 01 00", "06 FFFF 0000"] {
        broadcast(&mut master, pdu);
    }
    // The next thing that comes is the answer to this.
    master.check(1, "03 0000 0006", "03 0C 0000 1234 0000 0000 0000 5678");
    master.check(1, "01 0000 0008", "01 01 05");
    master.check(2, "03 0000 0005", "03 0A 0000 1234 0000 0000 0000");
    master.check(2, "01 0000 0008", "01 01 05");
    master.check(3, "03 0001 0001", "03 02 1234");
    assert!(Client::connect(server.addr(1)).ask_one("GET speed").starts_with("OK 4660 good "));
}

/// Also where there is one unit only, which unit 0 means elsewhere.
#[test]
fn rtu_broadcast_to_the_only_unit() {
    let server = Server::build().listen("modbus-rtu://127.0.0.1:0").start();
    let mut master = Master::rtu(server.addr(0));
    let frame = master.frame(0, 0, &hex("06 0001 1234"));
    master.send(&frame);
    let frame = master.frame(0, 0, &hex("03 0001 0001"));
    master.send(&frame);
    master.check(1, "03 0001 0002", "03 04 1234 0000");
}

/// A frame is a datagram.
#[test]
fn udp_datagrams() {
    let server = Server::build().listen("modbus+udp://127.0.0.1:0").listen("line://127.0.0.1:0").start();
    let mut master = Master::udp(server.addr(0));
    let mut client = Client::connect(server.addr(1));
    master.check(1, "06 0000 1234", "06 0000 1234");
    let write = mbap(9, 1, &hex("06 0000 5678"));
    let cut = &write[..write.len() - 1];
    let long = [&write[..], &[0]].concat();
    let two = write.repeat(2);
    let wrong = [&hex("0009 0001")[..], &write[4..]].concat();
    let none: [&[u8]; 6] = [cut, &long, &two, &wrong, &hex("00 09"), &hex("0009 0000 0001 01 06")];
    for (number, datagram) in (1..).zip(none) {
        master.send(datagram);
        let counted = format!("OK {number} ");
        until("it is counted", || client.ask_one("GET $server/damaged").starts_with(&counted));
        // Neither answered nor carried out, and the peer is served as before.
        master.check(1, "03 0000 0001", "03 02 1234");
    }
    // Many that come at once: each has its own answer.
    let mut masters: Vec<Master> = (0..50).map(|_| Master::udp(server.addr(0))).collect();
    for (number, master) in (0..).zip(&mut masters) {
        master.send(&mbap(number, 1, &[&hex("06 0001")[..], &number.to_be_bytes()].concat()));
    }
    for (number, master) in (0..).zip(&mut masters) {
        assert_eq!(master.receive(number, 1)[..3], hex("06 0001"));
    }
}
