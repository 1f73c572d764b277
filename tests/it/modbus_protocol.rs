//! Modbus: functions, exceptions and the order of checks, frames of Modbus TCP. Mostly the memory is that of
//! a server which is told of no units: unit 1, all of a PLC's addresses.

use crate::modbus::{Master, check, hex, mbap, show, start};
use crate::server::Server;

/// A frame that comes in pieces must not be given up because the machine is slow.
const PATIENT: &str = "
    [[listen]]
    url = 'modbus://127.0.0.1:0'
    frame_timeout = '10m'
    ";

#[test]
fn every_function() {
    check(
        "",
        "
        # 5, write single coil: FF00 is on, 0000 is off. 1, read coils.
        1: 05 0013 FF00 = 05 0013 FF00
        1: 01 0013 0001 = 01 01 01
        1: 05 0013 0000 = 05 0013 0000
        1: 01 0013 0001 = 01 01 00
        # 15, write multiple coils: the standard's example. The first coil is the lowest bit; what the last
        # byte has besides is nothing.
        1: 0F 0013 000A 02 CDFD = 0F 0013 000A
        1: 01 0013 000A = 01 02 CD01
        1: 01 0012 000C = 01 02 9A03
        # 2, read discrete inputs. Nobody has set any but these two.
        > SET modbus/1/discrete/196 true
        < OK
        > SET modbus/1/discrete/217 true
        < OK
        1: 02 00C4 0016 = 02 03 010020
        # 6, write single register. 3, read holding registers.
        1: 06 0001 0003 = 06 0001 0003
        1: 03 0000 0003 = 03 06 0000 0003 0000
        # 16, write multiple registers.
        1: 10 0001 0002 04 000A 0102 = 10 0001 0002
        1: 03 0000 0004 = 03 08 0000 000A 0102 0000
        # 4, read input registers: other memory.
        > SET modbus/1/input/8 10
        < OK
        1: 04 0007 0002 = 04 04 0000 000A
        # 22, mask write register: the standard's example, 12 becomes 17.
        1: 06 0004 0012 = 06 0004 0012
        1: 16 0004 00F2 0025 = 16 0004 00F2 0025
        1: 03 0004 0001 = 03 02 0017
        # 23, read and write: the write comes first, and the two may be far apart.
        1: 17 0003 0002 0004 0001 02 ABCD = 17 04 0000 ABCD
        1: 17 0004 0001 FF00 0002 04 1111 2222 = 17 02 ABCD
        1: 03 FF00 0002 = 03 04 1111 2222
        ",
    );
}

/// §6.21. The server has five objects, the last one its name.
#[test]
fn identification() {
    let server = start("[server]\nname = 'press hall'");
    let mut master = Master::tcp(server.addr(0));
    let version = env!("CARGO_PKG_VERSION");
    let object = |id: u8, text: &str| [&[id, text.len() as u8], text.as_bytes()].concat();
    let basic = [object(0, "Lumina"), object(1, "lumina-server"), object(2, version)].concat();
    let regular = [basic.clone(), object(4, "Lumina Server"), object(6, "press hall")].concat();
    let reply = |header: &str, objects: &[u8]| [&hex(header)[..], objects].concat();
    // Access, conformity 82 (regular, and one by one), no more follows, next object 0, how many.
    let table = [
        ("2B 0E 01 00", reply("2B 0E 01 82 00 00 03", &basic)),
        ("2B 0E 02 00", reply("2B 0E 02 82 00 00 05", &regular)),
        // A stream begins where it is asked to; where that object is not there, at the first.
        ("2B 0E 01 02", reply("2B 0E 01 82 00 00 01", &object(2, version))),
        ("2B 0E 02 06", reply("2B 0E 02 82 00 00 01", &object(6, "press hall"))),
        ("2B 0E 01 05", reply("2B 0E 01 82 00 00 03", &basic)),
        // There are no extended objects: what is there is answered.
        ("2B 0E 03 00", reply("2B 0E 03 82 00 00 05", &regular)),
        // One object.
        ("2B 0E 04 00", reply("2B 0E 04 82 00 00 01", &object(0, "Lumina"))),
        ("2B 0E 04 06", reply("2B 0E 04 82 00 00 01", &object(6, "press hall"))),
        ("2B 0E 04 03", hex("AB 02")),
        ("2B 0E 04 80", hex("AB 02")),
        // No such access; a PDU that is too short, too long.
        ("2B 0E 00 00", hex("AB 03")),
        ("2B 0E 05 00", hex("AB 03")),
        ("2B 0E 01", hex("AB 03")),
        ("2B 0E", hex("AB 03")),
        ("2B", hex("AB 03")),
        ("2B 0E 01 00 00", hex("AB 03")),
        // Another interface of function 43.
        ("2B 0D 01 00", hex("AB 01")),
    ];
    for (request, reply) in table {
        let got = master.ask(1, request);
        assert!(got == reply, "{request}: {}, expected {}", show(&got), show(&reply));
    }
}

/// A name for which the others leave no room comes with the next request.
#[test]
fn identification_in_two_parts() {
    let name = "x".repeat(220);
    let server = start(&format!("[server]\nname = '{name}'"));
    let mut master = Master::tcp(server.addr(0));
    let first = master.ask(1, "2B 0E 02 00");
    assert_eq!(first[..7], hex("2B 0E 02 82 FF 06 04"), "{}", show(&first));
    let second = master.ask(1, "2B 0E 02 06");
    assert_eq!(second, [&hex("2B 0E 02 82 00 00 01 06 DC")[..], name.as_bytes()].concat());
}

#[test]
fn every_other_function_code() {
    let server = start("");
    let mut master = Master::tcp(server.addr(0));
    let served = [1, 2, 3, 4, 5, 6, 15, 16, 22, 23, 43];
    for code in (0..=255).filter(|code| !served.contains(code)) {
        for rest in [&[][..], &[0, 0, 0, 1], &[0; 252]] {
            let got = master.ask_bytes(1, &[&[code], rest].concat());
            assert_eq!(got, [code | 0x80, 1], "function {code} and {} bytes", rest.len());
        }
    }
}

/// Function (1), unit (10), what the request is made of (3), addresses (2): the first that is wrong is told.
#[test]
fn the_order_of_checks() {
    let server = start("[[modbus.unit]]\nid = 1\ncoils = 10\ndiscretes = 10\ninputs = 10\nholdings = 10");
    let mut master = Master::tcp(server.addr(0));
    #[rustfmt::skip]
    let table = [
        // All four are wrong, then three, two, one, none.
        (7, "63 FFFF 0000",       "E3 01"),
        (7, "03 FFFF 0000",       "83 0A"),
        (1, "03 FFFF 0000",       "83 03"),
        (1, "03 FFFF 0001",       "83 02"),
        (1, "03 0000 0001",       "03 02 0000"),
        // The same of writes. A coil is FF00 or 0000.
        (7, "05 FFFF 1234",       "85 0A"),
        (1, "05 FFFF 1234",       "85 03"),
        (1, "05 FFFF FF00",       "85 02"),
        (7, "10 FFFF 0001 03 00", "90 0A"),
        (1, "10 FFFF 0001 03 00", "90 03"),
        (1, "10 FFFF 0001 02 00 00", "90 02"),
        (7, "2B 0E 09 00",        "AB 0A"),
        (7, "2B",                 "AB 0A"),
        (7, "2B 0D",              "AB 01"),
        // A PDU that ends after its function code.
        (7, "16",                 "96 0A"),
        (1, "16",                 "96 03"),
    ];
    for (unit, request, reply) in table {
        master.check(unit, request, reply);
    }
}

/// Each is of unit 1 with all addresses: only what it is made of can be wrong.
#[test]
fn sizes_quantities_and_byte_counts() {
    let server = start("");
    let mut master = Master::tcp(server.addr(0));
    // The quantities that there may be: 1 to so many.
    let table = [("01", 2000), ("02", 2000), ("03", 125), ("04", 125)];
    for (function, most) in table {
        let mut ask = |quantity: u16| master.ask(1, &format!("{function} 0000 {quantity:04X}"));
        let refused = [0x80 | hex(function)[0], 3];
        // 2000 bits are as many bytes as 125 registers.
        assert_eq!(ask(most)[..2], [hex(function)[0], 250]);
        assert_eq!(ask(1)[0], hex(function)[0]);
        for quantity in [0, most + 1, 0x8001, 0xFFFF] {
            assert_eq!(ask(quantity), refused, "{function} of {quantity}");
        }
    }
    let zeros = |bytes: usize| "00".repeat(bytes);
    let table = [
        // 15: 1 to 1968 coils, and as many bytes as they take.
        (format!("0F 0000 07B0 F6 {}", zeros(246)), "0F 0000 07B0"),
        (format!("0F 0000 07B1 F7 {}", zeros(247)), "8F 03"),
        ("0F 0000 0000 00".to_owned(), "8F 03"),
        ("0F 0000 0008 01 00".to_owned(), "0F 0000 0008"),
        ("0F 0000 0009 01 00".to_owned(), "8F 03"),
        ("0F 0000 0008 02 0000".to_owned(), "8F 03"),
        ("0F 0000 0008 02 00".to_owned(), "8F 03"),
        ("0F 0000 0008 01 0000".to_owned(), "8F 03"),
        ("0F 0000 0008 01".to_owned(), "8F 03"),
        ("0F 0000 0008".to_owned(), "8F 03"),
        // 16: 1 to 123 registers.
        (format!("10 0000 007B F6 {}", zeros(246)), "10 0000 007B"),
        (format!("10 0000 007C F8 {}", zeros(247)), "90 03"),
        (format!("10 0000 007C F6 {}", zeros(246)), "90 03"),
        ("10 0000 0000 00".to_owned(), "90 03"),
        ("10 0000 0001 03 000000".to_owned(), "90 03"),
        ("10 0000 0002 02 0000".to_owned(), "90 03"),
        ("10 0000 0001 02 00".to_owned(), "90 03"),
        ("10 0000 0001 02 000000".to_owned(), "90 03"),
        // 23: reads 1 to 125, writes 1 to 121.
        (format!("17 0000 0001 0000 0079 F2 {}", zeros(242)), "17 02 0000"),
        (format!("17 0000 0001 0000 007A F3 {}", zeros(243)), "97 03"),
        ("17 0000 0000 0000 0001 02 0000".to_owned(), "97 03"),
        ("17 0000 007E 0000 0001 02 0000".to_owned(), "97 03"),
        ("17 0000 0001 0000 0000 00".to_owned(), "97 03"),
        ("17 0000 0001 0000 0001 01 00".to_owned(), "97 03"),
        ("17 0000 0001 0000 0001 02 00".to_owned(), "97 03"),
        ("17 0000 0001 0000 0001".to_owned(), "97 03"),
        // One byte too many, one too few.
        ("01 0000 0001 00".to_owned(), "81 03"),
        ("02 0000 00".to_owned(), "82 03"),
        ("03 0000 0001 00".to_owned(), "83 03"),
        ("03 0000".to_owned(), "83 03"),
        ("03".to_owned(), "83 03"),
        ("04 0000 00".to_owned(), "84 03"),
        ("05 0000 FF00 00".to_owned(), "85 03"),
        ("05 0000 FF".to_owned(), "85 03"),
        ("06 0000 1234 00".to_owned(), "86 03"),
        ("06 0000 12".to_owned(), "86 03"),
        ("16 0000 0000 0000 00".to_owned(), "96 03"),
        ("16 0000 0000 00".to_owned(), "96 03"),
        // Neither on nor off.
        ("05 0000 FF01".to_owned(), "85 03"),
        ("05 0000 0001".to_owned(), "85 03"),
    ];
    for (request, reply) in table {
        master.check(1, &request, reply);
    }
}

/// What a read and what a write asks for is looked at before anything is written.
#[test]
fn a_refused_request_changes_nothing() {
    check(
        "[[modbus.unit]]\nid = 1\ncoils = 10\nholdings = 10",
        "
        1: 10 0000 000A 14 0000 0001 0002 0003 0004 0005 0006 0007 0008 0009 = 10 0000 000A
        1: 10 0009 0002 04 1111 2222 = 90 02
        1: 17 0009 0002 0000 0001 02 1111 = 97 02
        1: 17 0000 0001 0009 0002 04 1111 2222 = 97 02
        1: 17 0000 0001 0000 0001 03 1111 22 = 97 03
        1: 16 000A 0000 FFFF = 96 02
        1: 0F 0009 0002 01 03 = 8F 02
        1: 03 0000 000A = 03 14 0000 0001 0002 0003 0004 0005 0006 0007 0008 0009
        1: 01 0000 000A = 01 02 0000
        ",
    );
}

/// Where a frame ends is not known any more: the connection is closed. What came before is answered, what
/// comes after is not carried out.
#[test]
fn a_header_that_is_none() {
    let server = Server::build().config(PATIENT).listen("line://127.0.0.1:0").start();
    let write = |value| mbap(1, 1, &[6, 0, 0, 0, value]);
    #[rustfmt::skip]
    let table = [
        ("length 0",                 "0002 0000 0000 01 03 0000 0001"),
        ("length 1",                 "0002 0000 0001 01 03 0000 0001"),
        ("length 255",               "0002 0000 00FF 01 03 0000 0001"),
        ("length 65535",             "0002 0000 FFFF 01 03 0000 0001"),
        ("protocol 1",               "0002 0001 0006 01 03 0000 0001"),
        ("protocol 256",             "0002 0100 0006 01 03 0000 0001"),
    ];
    for (number, (what, bad)) in table.into_iter().enumerate() {
        let value = number as u8 + 1;
        let mut master = Master::tcp(server.addr(0));
        master.send(&[write(value), hex(bad), write(99)].concat());
        assert_eq!(master.receive(1, 1), [6, 0, 0, 0, value], "{what}");
        master.expect_end();
        Master::tcp(server.addr(0)).check(1, "03 0000 0001", &format!("03 02 00 {value:02X}"));
    }
    // No more of a frame is waited for than tells that it is none.
    for bad in ["0002 0001", "0002 0000 0001", "0002 0000 00FF"] {
        let mut master = Master::tcp(server.addr(0));
        master.send(&hex(bad));
        master.expect_end();
    }
}

/// The shortest frame and the longest.
#[test]
fn lengths_2_and_254() {
    let server = start("");
    let mut master = Master::tcp(server.addr(0));
    master.check(1, "03", "83 03");
    let longest = format!("10 0000 007B F6 {}", "AB".repeat(246));
    assert_eq!(mbap(0, 1, &hex(&longest)).len(), 6 + 253);
    master.check(1, &longest, "10 0000 007B");
    // No function needs the 254th byte, and a frame that has it is one all the same.
    let padded = format!("10 0000 007B F6 {}", "AB".repeat(247));
    assert_eq!(mbap(0, 1, &hex(&padded))[4..6], [0, 254]);
    master.check(1, &padded, "90 03");
    master.check(1, "03 0000 0001", "03 02 ABAB");
}

/// Hundreds of requests in one write, of all sizes, each answered in its turn.
#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = start("");
    let mut master = Master::tcp(server.addr(0));
    let (mut bytes, mut replies) = (Vec::new(), Vec::new());
    for number in 0..900_u16 {
        let [high, low] = number.to_be_bytes();
        let (request, reply) = match number % 3 {
            0 => (vec![6, 0, 7, high, low], vec![6, 0, 7, high, low]),
            // What the request before has written.
            1 => {
                let [high, low] = (number - 1).to_be_bytes();
                (hex("03 0007 0001"), vec![3, 2, high, low])
            }
            _ => (hex("04 0000 007D"), [&[4, 250][..], &[0; 250]].concat()),
        };
        bytes.extend(mbap(number, 1, &request));
        replies.push(reply);
    }
    let sender = master.send_aside(bytes);
    for (number, reply) in replies.into_iter().enumerate() {
        assert_eq!(master.receive(number as u16, 1), reply, "request {number}");
    }
    sender.join().expect("the sender got through");
}

/// Five megabytes of replies to requests that come as fast as they go.
#[test]
fn more_replies_than_the_server_holds_for_a_peer() {
    const REQUESTS: u16 = 20_000;
    let server = Server::build().config(PATIENT).start();
    let mut master = Master::tcp(server.addr(0));
    master.check(1, "10 0000 0002 04 1234 5678", "10 0000 0002");
    let request = hex("03 0000 007D");
    let requests: Vec<u8> = (0..REQUESTS).flat_map(|number| mbap(number, 1, &request)).collect();
    let sender = master.send_aside(requests);
    let reply = [&hex("03 FA 1234 5678")[..], &[0; 246]].concat();
    for number in 0..REQUESTS {
        assert!(master.receive(number, 1) == reply, "reply {number}");
    }
    sender.join().expect("the sender got through");
}

/// Wherever a conversation is cut, the replies are the same.
#[test]
fn chopped_requests() {
    let server = Server::build().config(PATIENT).start();
    let requests = ["10 0000 0002 04 1234 5678", "03 0000 0002", "63", "17 0001 0001 0000 0001 02 ABCD"];
    let replies = ["10 0000 0002", "03 04 1234 5678", "E3 01", "17 02 5678"];
    let frames = |from: u16| -> Vec<u8> {
        (from..).zip(requests).flat_map(|(number, request)| mbap(number, 1, &hex(request))).collect()
    };
    let mut master = Master::tcp(server.addr(0));
    let mut check = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        pieces.for_each(|piece| master.send(piece));
        for (number, reply) in (0..).zip(replies) {
            assert_eq!(master.receive(number, 1), hex(reply), "request {number}");
        }
    };
    let frames = frames(0);
    for cut in 1..frames.len() {
        let (one, other) = frames.split_at(cut);
        check(&mut [one, other].into_iter());
    }
    for size in [1, 2, 3, 5, 7, 11] {
        check(&mut frames.chunks(size));
    }
}

/// The transaction and the unit of a reply are those of its request, whatever they are.
#[test]
fn transactions_are_repeated() {
    let server = start("");
    let mut master = Master::tcp(server.addr(0));
    for (transaction, unit) in [(0, 1), (0xFFFF, 1), (0x0A0D, 255), (7, 0), (7, 1), (8, 9)] {
        let frame = master.frame(transaction, unit, &hex("03 0000 0001"));
        master.send(&frame);
        let reply = if unit == 9 { hex("83 0A") } else { hex("03 02 0000") };
        assert_eq!(master.receive(transaction, unit), reply);
    }
}
