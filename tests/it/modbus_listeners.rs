//! What a listener says of its peers: who may read and write, how many there may be, how long they may be
//! silent. Of Modbus, and of the line protocol where it is the same.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, UdpSocket};

use crate::client::{Client, Peek};
use crate::modbus::{Master, connect, hex, mbap, show, unless_interrupted};
use crate::server::{DEADLINE, Folder, Server, run, until};

/// How long a test looks at a connection that is expected to stay as it is.
const GLANCE: std::time::Duration = std::time::Duration::from_millis(50);

/// Three listeners of a protocol: 127.0.0.2 may do everything, 127.0.0.3 only read, 127.0.0.4 only write. The
/// last listener is of the line protocol and for all.
fn guarded(scheme: &str) -> Server {
    let config = format!(
        "
        [[listen]]
        url = '{scheme}://127.0.0.1:0'
        read = ['127.0.0.2/31']
        write = ['127.0.0.2', '127.0.0.4/32']
        "
    );
    Server::build().config(&config).listen("line://127.0.0.1:0").start()
}

const READS: [&str; 4] = ["01 0000 0001", "02 0000 0001", "03 0000 0001", "04 0000 0001"];
const WRITES: [(&str, &str); 5] = [
    ("05 0000 0000", "05 0000 0000"),
    ("06 0000 0000", "06 0000 0000"),
    ("0F 0000 0001 01 00", "0F 0000 0001"),
    ("10 0000 0001 02 0000", "10 0000 0001"),
    ("16 0000 FFFF 0000", "16 0000 FFFF 0000"),
];
const BOTH: &str = "17 0000 0001 0000 0001 02 0000";
const WHO: (&str, &str) = ("2B 0E 04 00", "2B 0E 04 82 00 00 01 00 06 4C75 6D69 6E61");

#[test]
fn a_peer_with_every_right() {
    let server = guarded("modbus");
    let mut master = Master::tcp_from([127, 0, 0, 2], server.addr(0));
    for request in READS {
        assert_eq!(master.ask(1, request)[0], hex(request)[0]);
    }
    master.check_all(1, &WRITES);
    master.check_all(1, &[WHO, (BOTH, "17 02 0000")]);
}

/// Functions that it may not use are as good as none: that is looked at before the unit.
#[test]
fn a_peer_that_may_only_read() {
    let server = guarded("modbus");
    let mut all = Master::tcp_from([127, 0, 0, 2], server.addr(0));
    all.check(1, "06 0000 1234", "06 0000 1234");
    let mut master = Master::tcp_from([127, 0, 0, 3], server.addr(0));
    for unit in [1, 9] {
        for request in WRITES.map(|(request, _)| request).into_iter().chain([BOTH]) {
            let refused = [hex(request)[0] | 0x80, 1];
            assert_eq!(master.ask(unit, request), refused, "{request}");
        }
    }
    for request in READS {
        assert_eq!(master.ask(1, request)[0], hex(request)[0]);
    }
    master.check(9, "03 0000 0001", "83 0A");
    master.check_all(1, &[WHO, ("03 0000 0001", "03 02 1234")]);
}

#[test]
fn a_peer_that_may_only_write() {
    let server = guarded("modbus");
    let mut master = Master::tcp_from([127, 0, 0, 4], server.addr(0));
    for request in READS.into_iter().chain([BOTH]) {
        let refused = [hex(request)[0] | 0x80, 1];
        assert_eq!(master.ask(1, request), refused, "{request}");
    }
    master.check_all(1, &WRITES);
    master.check_all(1, &[WHO, ("06 0000 1234", "06 0000 1234")]);
    let mut all = Master::tcp_from([127, 0, 0, 2], server.addr(0));
    all.check(1, "03 0000 0001", "03 02 1234");
}

/// Whatever is spoken, a peer with no right at all is closed before it has said anything, and counted.
#[test]
fn a_peer_with_no_right() {
    for scheme in ["modbus", "modbus-rtu", "line"] {
        let server = guarded(scheme);
        let mut stream = connect(server.addr(0), Some([127, 0, 0, 1].into()));
        let end = stream.read_to_end(&mut Vec::new());
        let is_closed = matches!(&end, Ok(0))
            || end.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
        assert!(is_closed, "{scheme}: {end:?}");
        let mut client = Client::connect(server.addr(1));
        assert!(client.ask_one("GET $server/refused").starts_with("OK 1 "), "{scheme}");
        // The listener goes on.
        let mut other = connect(server.addr(0), Some([127, 0, 0, 2].into()));
        other.set_read_timeout(Some(GLANCE)).expect("a socket has a read timeout");
        assert!(
            unless_interrupted(|| other.read(&mut [0]))
                .is_err_and(|error| error.kind() == ErrorKind::WouldBlock),
            "{scheme}"
        );
    }
}

/// RTU and UDP know the same rights.
#[test]
fn rights_by_other_framings() {
    let server = Server::build()
        .config(
            "
            [[listen]]
            url = 'modbus-rtu://127.0.0.1:0'
            write = []
            [[listen]]
            url = 'modbus+udp://127.0.0.1:0'
            write = []
            [[listen]]
            url = 'modbus+udp://127.0.0.1:0'
            read = ['127.0.0.2']
            write = ['127.0.0.2']
            ",
        )
        .listen("line://127.0.0.1:0")
        .start();
    for mut master in [Master::rtu(server.addr(0)), Master::udp(server.addr(1))] {
        master.check(1, "06 0000 1234", "86 01");
        master.check(1, "03 0000 0001", "03 02 0000");
    }
    // Not even by a broadcast.
    let mut master = Master::rtu(server.addr(0));
    let broadcast = master.frame(0, 0, &hex("06 0000 1234"));
    master.send(&broadcast);
    master.check(1, "03 0000 0001", "03 02 0000");

    // A datagram of a peer without a right is as if it had not come.
    let ask = |from: [u8; 4]| {
        let socket = UdpSocket::bind(SocketAddr::from((from, 0))).expect("all of 127.0.0.0/8 is ours");
        socket.set_read_timeout(Some(DEADLINE)).expect("a socket has a read timeout");
        socket.send_to(&mbap(5, 1, &hex("06 0000 1234")), server.addr(2)).expect("it is sent");
        socket
    };
    let refused = ask([127, 0, 0, 1]);
    let mut client = Client::connect(server.addr(3));
    until("it is counted", || client.ask_one("GET $server/refused").starts_with("OK 1 "));
    assert!(client.ask_one("GET modbus/1/holding/0").starts_with("OK 0 good "));
    let served = ask([127, 0, 0, 2]);
    let mut reply = [0; 100];
    let count = unless_interrupted(|| served.recv(&mut reply)).expect("a reply");
    assert_eq!(show(&reply[..count]), "00 05 00 00 00 06 01 06 00 00 12 34");
    refused.set_nonblocking(true).expect("a socket can be asked without waiting");
    assert!(refused.recv(&mut reply).is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
}

/// By the line protocol the refusal has a name.
#[test]
fn rights_by_the_line_protocol() {
    let server = guarded("line");
    let client = |from: [u8; 4]| Client::over(connect(server.addr(0), Some(from.into())));
    let (mut all, mut reader, mut writer) =
        (client([127, 0, 0, 2]), client([127, 0, 0, 3]), client([127, 0, 0, 4]));
    assert_eq!(all.ask_one("SET a 1 good 7"), "OK");
    assert_eq!(all.ask_one("GET a"), "OK 1 good 7");
    for request in ["SET a 2", "SET b 2", "SET $server/name 2"] {
        let reply = reader.ask_one(request);
        assert!(reply.starts_with("ERR denied "), "{request}: {reply}");
    }
    assert_eq!(reader.ask_one("GET a"), "OK 1 good 7");
    assert_eq!(reader.ask("SUB #"), ["VAL a 1 good 7", "OK 1"]);
    for request in ["GET a", "GET b", "READ #", "READ a", "LIST #", "SUB #", "SUB a"] {
        let reply = writer.ask_one(request);
        assert!(reply.starts_with("ERR denied "), "{request}: {reply}");
    }
    assert_eq!(writer.ask_one("SET a 3 good 9"), "OK");
    reader.expect_update("UPD a 3 good 9");
    assert_eq!(reader.ask("LIST #"), ["TAG a any rw -", "OK 1"]);
    // What needs no right.
    for client in [&mut reader, &mut writer] {
        assert_eq!(client.ask_one("PING"), "OK");
    }
}

/// A listener's own limit, and no other's.
#[test]
fn max_connections_of_a_listener() {
    let server = Server::build()
        .config(
            "
            [[listen]]
            url = 'modbus://127.0.0.1:0'
            max_connections = 2
            [[listen]]
            url = 'modbus://127.0.0.1:0'
            [[listen]]
            url = 'line://127.0.0.1:0'
            max_connections = 1
            ",
        )
        .start();
    let read = |master: &mut Master| master.check(1, "03 0000 0001", "03 02 0000");
    let mut masters = [Master::tcp(server.addr(0)), Master::tcp(server.addr(0))];
    masters.iter_mut().for_each(read);
    for _ in 0..3 {
        // Modbus has no word for it.
        Master::tcp(server.addr(0)).expect_end();
    }
    let mut others = [(); 3].map(|()| Master::tcp(server.addr(1)));
    others.iter_mut().for_each(read);
    let mut client = Client::connect(server.addr(2));
    assert!(client.ask_one("GET $server/refused").starts_with("OK 3 "));
    let mut over = Client::connect(server.addr(2));
    over.expect("ERR limit");
    over.expect_end();
    masters.iter_mut().for_each(read);

    // Who leaves makes room.
    let [first, mut second] = masters;
    drop(first);
    until("another one is served", || {
        let mut master = Master::tcp(server.addr(0));
        let frame = master.frame(1, 1, &hex("03 0000 0001"));
        master.send(&frame);
        matches!(master.stream().read(&mut [0; 100]), Ok(1..))
    });
    read(&mut second);
}

/// A master that sends nothing for so long is closed; where none is set, it may be silent.
#[test]
fn idle_timeout() {
    let server = Server::build()
        .config(
            "
            [[listen]]
            url = 'modbus://127.0.0.1:0'
            idle_timeout = '200ms'
            [[listen]]
            url = 'modbus-rtu://127.0.0.1:0'
            idle_timeout = '200ms'
            [[listen]]
            url = 'modbus://127.0.0.1:0'
            ",
        )
        .start();
    let mut patient = Master::tcp(server.addr(2));
    patient.check(1, "06 0000 1234", "06 0000 1234");
    for mut silent in [Master::tcp(server.addr(0)), Master::tcp(server.addr(0)), Master::rtu(server.addr(1))]
    {
        silent.expect_end();
    }
    patient.check(1, "03 0000 0001", "03 02 1234");
    // Also one that has spoken before.
    let mut master = Master::tcp(server.addr(0));
    let frame = master.frame(1, 1, &hex("03 0000 0001"));
    master.send(&frame);
    let mut bytes = Vec::new();
    master.stream().read_to_end(&mut bytes).expect("an end, and in time");
    assert!(bytes.is_empty() || bytes == mbap(1, 1, &hex("03 02 1234")), "{}", show(&bytes));
}

/// A frame that was begun must end in time. Between two frames there is all the time of the world.
#[test]
fn frame_timeout() {
    let server = Server::build()
        .config(
            "
            [[listen]]
            url = 'modbus://127.0.0.1:0'
            frame_timeout = '200ms'
            [[listen]]
            url = 'modbus-rtu://127.0.0.1:0'
            frame_timeout = '200ms'
            [[listen]]
            url = 'modbus://127.0.0.1:0'
            frame_timeout = '10m'
            ",
        )
        .start();
    let mut between = [Master::tcp(server.addr(0)), Master::rtu(server.addr(1))];
    for master in &mut between {
        master.check(1, "06 0000 1234", "06 0000 1234");
    }
    let frame = mbap(1, 1, &hex("03 0000 0001"));
    let (half, rest) = frame.split_at(9);
    let mut patient = Master::tcp(server.addr(2));
    patient.send(half);
    for cut in [1, 4, 6, 7, 11] {
        let mut master = Master::tcp(server.addr(0));
        master.send(&frame[..cut]);
        master.expect_end();
    }
    // A whole frame first: it is answered.
    let mut master = Master::tcp(server.addr(0));
    master.send(&[&frame, half].concat());
    assert_eq!(master.receive(1, 1), hex("03 02 1234"));
    master.expect_end();
    let mut master = Master::rtu(server.addr(1));
    master.send(&hex("01 03 00"));
    master.expect_end();
    // By then a whole frame's time is over for these as well.
    for master in &mut between {
        master.check(1, "03 0000 0001", "03 02 1234");
    }
    patient.send(rest);
    assert_eq!(patient.receive(1, 1), hex("03 02 1234"));
}

/// Where none is set, a frame has two seconds, so a master that stops in the middle is found out.
#[test]
fn the_frame_timeout_that_is_not_set() {
    let server = Server::build().listen("modbus://127.0.0.1:0").listen("line://127.0.0.1:0").start();
    let mut master = Master::tcp(server.addr(0));
    let mut client = Client::connect(server.addr(1));
    client.send("PIN");
    master.send(&hex("0001 0000 0006 01"));
    master.expect_end();
    // The line protocol has half a minute.
    assert_eq!(client.peek(GLANCE), Peek::Quiet);
    client.send("G\n");
    client.expect("OK");
}

/// The port of Modbus is 502, where a URL names none.
#[test]
fn the_default_port() {
    let dir = Folder::new();
    let urls =
        ["modbus://127.0.0.1", "modbus+udp://127.0.0.1", "modbus-rtu://[::1]", "modbus://127.0.0.1:1502"];
    let config: String = urls.map(|url| format!("[[listen]]\nurl = '{url}'\n")).concat();
    dir.write("lumina.toml", &config);
    let outcome = run(&dir, &["check"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    for url in [
        "modbus://127.0.0.1:502",
        "modbus+udp://127.0.0.1:502",
        "modbus-rtu://[::1]:502",
        "modbus://127.0.0.1:1502",
    ] {
        assert!(outcome.stdout.contains(&format!("listen {url}: ")), "{url}: {}", outcome.stdout);
    }
}
