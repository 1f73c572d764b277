//! `[[modbus.proxy]]`: masters reach a polled device through the server's one connection to it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use crate::client::Client;
use crate::server::{DEADLINE, Folder, Server, nobody, run, until};

/// A master that speaks to one unit, in frames made by hand.
struct Master {
    stream: TcpStream,
    unit: u8,
    sent: u16,
    answered: u16,
}

impl Master {
    fn of(server: &Server, unit: u8) -> Master {
        let stream = TcpStream::connect(server.addr(1)).expect("the server listens");
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket has a read timeout");
        Master { stream, unit, sent: 0, answered: 0 }
    }

    fn send(&mut self, pdu: &[u8]) {
        self.sent += 1;
        let [high, low] = self.sent.to_be_bytes();
        let header = [high, low, 0, 0, 0, pdu.len() as u8 + 1, self.unit];
        self.stream.write_all(&[&header, pdu].concat()).expect("the server takes what is sent");
    }

    /// The next reply, which must be to the oldest request without one.
    #[track_caller]
    fn expect(&mut self, pdu: &[u8]) {
        self.answered += 1;
        let mut header = [0; 7];
        self.stream.read_exact(&mut header).expect("the server answers");
        let mut reply = vec![0; usize::from(header[5]) - 1];
        self.stream.read_exact(&mut reply).expect("the server sends whole frames");
        assert_eq!(u16::from_be_bytes([header[0], header[1]]), self.answered, "replies come in order");
        assert_eq!((header[6], &reply[..]), (self.unit, pdu), "{reply:02x?} instead of {pdu:02x?}");
    }

    #[track_caller]
    fn ask(&mut self, request: &[u8], reply: &[u8]) {
        self.send(request);
        self.expect(reply);
    }
}

/// A slave that answers when it is told to, with what it is told, and counts what it is asked.
struct Slave {
    addr: SocketAddr,
    requests: Arc<AtomicUsize>,
    answers: Sender<Vec<u8>>,
}

impl Slave {
    fn start() -> Slave {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let requests = Arc::new(AtomicUsize::new(0));
        let (answers, told) = mpsc::channel();
        let counted = Arc::clone(&requests);
        thread::spawn(move || {
            // One that is connected to again after it was silent goes on with the new connection.
            for stream in listener.incoming().map_while(Result::ok) {
                Slave::serve(stream, &counted, &told);
            }
        });
        Slave { addr, requests, answers }
    }

    fn serve(mut stream: TcpStream, requests: &AtomicUsize, told: &Receiver<Vec<u8>>) {
        let mut header = [0; 7];
        while stream.read_exact(&mut header).is_ok() {
            let mut pdu = vec![0; usize::from(header[5]) - 1];
            if stream.read_exact(&mut pdu).is_err() {
                break;
            }
            requests.fetch_add(1, Ordering::SeqCst);
            let Ok(answer) = told.recv() else { break };
            if answer.is_empty() {
                continue;
            }
            header[5] = answer.len() as u8 + 1;
            if stream.write_all(&[&header, &answer[..]].concat()).is_err() {
                break;
            }
        }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Answer the request that is there, or the next one; with nothing, keep silent about it.
    fn tell(&self, pdu: &[u8]) {
        self.answers.send(pdu.to_vec()).expect("the slave lives as long as the test");
    }
}

const LISTEN: &str = "
[[listen]]
url = 'line://127.0.0.1:0'
[[listen]]
url = 'modbus://127.0.0.1:0'
";

/// A server whose units 5 and 6 are the device at that address; 6 shares answers for an hour.
fn gateway(device: SocketAddr, keys: &str) -> Server {
    Server::with(&format!(
        "{LISTEN}
        [[listen]]
        url = 'modbus://127.0.0.1:0'
        write = []
        [[modbus.proxy]]
        unit = 5
        device = 'plc'
        [[modbus.proxy]]
        unit = 6
        device = 'plc'
        max_age = '1h'
        [[device]]
        name = 'plc'
        url = 'modbus://{device}'
        retries = 0
        {keys}"
    ))
}

/// Wait until a proxy has a way to its device.
fn connected(server: &Server) {
    let mut client = server.client();
    until("the device is connected", || client.ask_one("GET $device/plc/state").contains("online"));
}

const READ: &[u8] = b"\x03\0\x0a\0\x02";

#[test]
fn masters_reach_the_device_and_its_tags_follow() {
    let plc = Server::with(&format!("[server]\nname = 'press'\n{LISTEN}"));
    let server = gateway(
        plc.addr(1),
        "timeout = '30s'
        rate = '100ms'
        [[device.tag]]
        name = 'setpoint'
        address = 'holding:10'
        type = 'u16'",
    );
    connected(&server);
    let (mut one, mut two) = (Master::of(&server, 5), Master::of(&server, 6));
    one.ask(READ, b"\x03\x04\0\0\0\0");
    one.ask(b"\x10\0\x0a\0\x02\x04\0\x2a\0\x07", b"\x10\0\x0a\0\x02");
    assert!(
        server.client().ask_one("GET plc/setpoint").starts_with("OK 42 good"),
        "as soon as it is confirmed"
    );
    two.ask(READ, b"\x03\x04\0\x2a\0\x07");
    assert!(plc.client().ask_one("GET modbus/1/holding/11").starts_with("OK 7 good"));
    // Write and read, mask, identify: of the device, which is another Lumina.
    two.ask(b"\x17\0\x0a\0\x01\0\x0a\0\x01\x02\0\x2b", b"\x17\x02\0\x2b");
    two.ask(b"\x16\0\x0a\xff\0\0\x05", b"\x16\0\x0a\xff\0\0\x05");
    one.ask(READ, b"\x03\x04\0\x05\0\x07");
    one.ask(b"\x2b\x0e\x04\x06", b"\x2b\x0e\x04\x82\0\0\x01\x06\x05press");
    let mut client = server.client();
    until("a poll brings what was masked", || client.ask_one("GET plc/setpoint").starts_with("OK 5 good"));
    // Pipelined, with a unit that is not there in between.
    one.send(READ);
    one.unit = 9;
    one.send(READ);
    one.unit = 5;
    one.send(b"\x03\xff\xff\0\x02");
    one.expect(b"\x03\x04\0\x05\0\x07");
    one.unit = 9;
    one.expect(b"\x83\x0a");
    one.unit = 5;
    one.expect(b"\x83\x02");
    // Who may not write does not write by this way either.
    let stream = TcpStream::connect(server.addr(2)).expect("the server listens");
    let mut reader = Master { stream, ..Master::of(&server, 5) };
    reader.ask(b"\x06\0\x0a\0\x01", b"\x86\x01");
    reader.ask(READ, b"\x03\x04\0\x05\0\x07");
}

#[test]
fn equal_reads_are_one_request() {
    let slave = Slave::start();
    let server = gateway(slave.addr, "timeout = '30s'");
    let mut masters: Vec<Master> = (0..20).map(|_| Master::of(&server, 5)).collect();
    // When the connection is there the first request gets through.
    let mut first = Master::of(&server, 6);
    first.send(READ);
    connect(&mut first, &slave);
    let mut client = server.client();
    let before = requests_of(&mut client);
    for master in &mut masters {
        master.send(READ);
    }
    // Another one comes behind all of them.
    let mut other = Master::of(&server, 5);
    other.send(b"\x04\0\0\0\x01");
    read_since(&mut client, before, 21);
    slave.tell(b"\x03\x04\0\x01\0\x02");
    slave.tell(b"\x84\x02");
    first.expect(b"\x03\x04\0\x01\0\x02");
    for master in &mut masters {
        master.expect(b"\x03\x04\0\x01\0\x02");
    }
    other.expect(b"\x84\x02");
    assert_eq!(slave.requests(), 2);
    // Kept for those who take it, and asked for again for those who do not.
    first.ask(READ, b"\x03\x04\0\x01\0\x02");
    assert_eq!(slave.requests(), 2);
    slave.tell(b"\x03\x04\0\x03\0\x04");
    masters[0].ask(READ, b"\x03\x04\0\x03\0\x04");
    assert_eq!(slave.requests(), 3);
    // A write is an end to what was kept.
    slave.tell(b"\x06\0\x63\0\x01");
    masters[0].ask(b"\x06\0\x63\0\x01", b"\x06\0\x63\0\x01");
    slave.tell(b"\x03\x04\0\x05\0\x06");
    first.ask(READ, b"\x03\x04\0\x05\0\x06");
    assert_eq!(slave.requests(), 5);
}

/// What a master asked has come to the slave. Before the connection is there, it is told that there is no
/// way, and asks again.
fn connect(master: &mut Master, slave: &Slave) {
    until("the slave is asked", || {
        let mut peeked = [0; 1];
        master.stream.set_nonblocking(true).expect("a socket can be set so");
        let refused = master.stream.peek(&mut peeked).is_ok();
        master.stream.set_nonblocking(false).expect("a socket can be set so");
        if refused {
            master.expect(b"\x83\x0a");
            master.send(READ);
        }
        slave.requests() > 0
    });
}

/// Wait until the server has read so many requests more than when it was asked by `client` and said `before`.
fn read_since(client: &mut Client, before: u64, count: u64) {
    let mut own = 0;
    until("the requests are read", || {
        own += 1;
        requests_of(client) - before - own >= count
    });
}

/// Requests that the server has read so far, of all protocols.
fn requests_of(client: &mut Client) -> u64 {
    let reply = client.ask_one("GET $server/requests");
    reply.split(' ').nth(1).and_then(|count| count.parse().ok()).expect("a count")
}

#[test]
fn a_deaf_device_and_none() {
    let slave = Slave::start();
    let server = gateway(slave.addr, "timeout = '1s'");
    let mut master = Master::of(&server, 5);
    master.send(READ);
    connect(&mut master, &slave);
    slave.tell(b"");
    master.expect(b"\x83\x0b");
    slave.tell(b"");
    master.ask(b"\x06\0\x0a\0\x01", b"\x86\x0b");
    assert_eq!(slave.requests(), 2, "neither is sent again");
    master.ask(READ, b"\x83\x0a");
    // It is probed, and when it answers masters get through.
    slave.tell(b"\x83\x02");
    let mut client = server.client();
    until("it is back", || client.ask_one("GET $device/plc/state").contains("online"));
    slave.tell(b"\x03\x04\0\x01\0\x02");
    master.ask(READ, b"\x03\x04\0\x01\0\x02");
    client.ok_all(["SET $device/plc/enabled false".to_owned()]);
    master.ask(READ, b"\x83\x0a");

    let (_reserved, nobody) = nobody();
    let server = gateway(nobody, "");
    Master::of(&server, 5).ask(READ, b"\x83\x0a");
}

#[test]
fn mistakes_are_told_with_their_place() {
    const GOOD: &str = "[[device]]\nname = 'm'\nurl = 'modbus://127.0.0.1'\n\
        [[modbus.unit]]\nid = 1\nholdings = 9\n\
        [[modbus.proxy]]\nunit = 5\ndevice = 'm'\nmax_age = '0ms'\n\
        [[modbus.proxy]]\nunit = 6\ndevice = 'm'\n";
    #[rustfmt::skip]
    let table = [
        ("",                                                         0, ""),
        ("[[modbus.proxy]]\nunit = 5\ndevice = 'm'",                 2, "the unit 5 is there already"),
        ("[[modbus.proxy]]\nunit = 1\ndevice = 'm'",                 2, "the unit 1 is there already"),
        ("[[modbus.proxy]]\nunit = 0\ndevice = 'm'",                 2, "'unit'"),
        ("[[modbus.proxy]]\nunit = 7\ndevice = 'meter'",             3, "no [[device]] of the name 'meter'"),
        ("[[modbus.proxy]]\nunit = 7",                               1, "'device' is missing"),
        ("[[modbus.proxy]]\nunit = 7\ndevice = 'm'\nmax_age = '2h'", 4, "'max_age'"),
        ("[[modbus.proxy]]\nunit = 7\ndevice = 'm'\nmaxage = '2s'",  4, "max_age"),
        ("[[modbus.map]]\nunit = 5\naddress = 'coil:1'\ntag = 'a'",  2, "the unit 5 is the device m"),
    ];
    let dir = Folder::new();
    for (more, line, what) in table {
        dir.write("it.toml", &format!("{GOOD}{more}"));
        let outcome = run(&dir, &["check", "--config", "it.toml"]);
        if line == 0 {
            assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
            assert!(outcome.stdout.contains("Modbus unit 5: the device m\n"), "{}", outcome.stdout);
            continue;
        }
        let [error] = outcome.stderr.lines().collect::<Vec<_>>()[..] else {
            panic!("{more}\n{}", outcome.stderr)
        };
        let place = format!("it.toml:{}:", GOOD.lines().count() + line);
        assert!(error.starts_with(&place) && error.contains(what), "{more}\n{error}");
    }
}
