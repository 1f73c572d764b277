//! A Modbus master that is written out in bytes: nothing of the server's own codec, so that a reader can hold
//! each frame against the *MODBUS Application Protocol Specification V1.1b3*.
//!
//! Bytes are written as hexadecimal digits, with blanks where they help: `03 0000 0002`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::thread;

use socket2::{Domain, Socket, Type};

use crate::client::{Client, now_ms};
use crate::server::{DEADLINE, Server, until};

/// One master. What it reads is checked: a reply repeats transaction and unit, its length is right, and so is
/// its CRC.
pub struct Master {
    wire: Wire,
    /// The last one used.
    transaction: u16,
}

/// How frames go.
pub enum Wire {
    /// With a header of seven bytes: transaction, protocol 0, length from the unit on, unit.
    Tcp(TcpStream),
    /// The same, one a datagram.
    Udp(UdpSocket),
    /// Unit, PDU, CRC.
    Rtu(TcpStream),
}

impl Master {
    pub fn tcp(addr: SocketAddr) -> Master {
        Master::over(Wire::Tcp(connect(addr, None)))
    }

    /// From an address of this machine's network 127.0.0.0/8.
    pub fn tcp_from(from: [u8; 4], addr: SocketAddr) -> Master {
        Master::over(Wire::Tcp(connect(addr, Some(from.into()))))
    }

    pub fn rtu(addr: SocketAddr) -> Master {
        Master::over(Wire::Rtu(connect(addr, None)))
    }

    pub fn udp(addr: SocketAddr) -> Master {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.connect(addr).expect("a datagram socket connects to anything");
        socket.set_read_timeout(Some(DEADLINE)).expect("a socket has a read timeout");
        Master::over(Wire::Udp(socket))
    }

    fn over(wire: Wire) -> Master {
        Master { wire, transaction: 0x0100 }
    }

    /// A request and its reply, both without what frames them.
    #[track_caller]
    pub fn check(&mut self, unit: u8, request: &str, reply: &str) {
        let got = self.ask(unit, request);
        assert!(got == hex(reply), "{unit}: {request} = {reply}, but it is {}", show(&got));
    }

    /// Several in turn.
    #[track_caller]
    pub fn check_all(&mut self, unit: u8, table: &[(&str, &str)]) {
        for (request, reply) in table {
            self.check(unit, request, reply);
        }
    }

    /// The PDU that answers `request`.
    #[track_caller]
    pub fn ask(&mut self, unit: u8, request: &str) -> Vec<u8> {
        self.ask_bytes(unit, &hex(request))
    }

    #[track_caller]
    pub fn ask_bytes(&mut self, unit: u8, request: &[u8]) -> Vec<u8> {
        self.transaction = self.transaction.wrapping_add(1);
        let frame = self.frame(self.transaction, unit, request);
        self.send(&frame);
        self.receive(self.transaction, unit)
    }

    /// A request in its frame; the transaction is left out where frames have none.
    pub fn frame(&self, transaction: u16, unit: u8, pdu: &[u8]) -> Vec<u8> {
        match self.wire {
            Wire::Tcp(_) | Wire::Udp(_) => mbap(transaction, unit, pdu),
            Wire::Rtu(_) => {
                let mut frame = [&[unit], pdu].concat();
                frame.extend(crc(&frame).to_le_bytes());
                frame
            }
        }
    }

    /// Bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        match &mut self.wire {
            Wire::Tcp(stream) | Wire::Rtu(stream) => {
                stream.write_all(bytes).expect("the server takes what is sent");
            }
            Wire::Udp(socket) => assert_eq!(socket.send(bytes).expect("it is sent"), bytes.len()),
        }
    }

    /// Bytes from a thread of its own, for what is more than the sockets hold.
    pub fn send_aside(&self, bytes: Vec<u8>) -> thread::JoinHandle<()> {
        let mut stream = self.stream().try_clone().expect("a descriptor for the sender");
        thread::spawn(move || stream.write_all(&bytes).expect("the server takes what is sent"))
    }

    /// The PDU of the next frame, which must answer that transaction of that unit.
    #[track_caller]
    pub fn receive(&mut self, transaction: u16, unit: u8) -> Vec<u8> {
        let frame = match &mut self.wire {
            Wire::Tcp(stream) => {
                let mut frame = vec![0; 7];
                stream.read_exact(&mut frame).expect("a reply, and in time");
                let length = usize::from(u16::from_be_bytes([frame[4], frame[5]]));
                assert!((3..=254).contains(&length), "a reply of that length: {}", show(&frame));
                frame.resize(6 + length, 0);
                stream.read_exact(&mut frame[7..]).expect("a whole reply, and in time");
                frame
            }
            Wire::Udp(socket) => {
                let mut datagram = [0; 65_536];
                let count = unless_interrupted(|| socket.recv(&mut datagram)).expect("a reply, and in time");
                datagram[..count].to_vec()
            }
            Wire::Rtu(stream) => return receive_rtu(stream, unit),
        };
        assert!(frame.len() > 7, "a reply is cut: {}", show(&frame));
        let expected = mbap(transaction, unit, &frame[7..]);
        assert!(frame == expected, "the frame is {}, expected {}", show(&frame), show(&expected));
        frame[7..].to_vec()
    }

    /// The stream ends here: neither another byte nor a reset.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let mut rest = Vec::new();
        self.stream().read_to_end(&mut rest).expect("an end, and in time");
        assert!(rest.is_empty(), "bytes before the end: {}", show(&rest));
    }

    pub fn stream(&self) -> &TcpStream {
        match &self.wire {
            Wire::Tcp(stream) | Wire::Rtu(stream) => stream,
            Wire::Udp(_) => panic!("datagrams are no stream"),
        }
    }
}

/// A reply's frame has no length in it: it ends where its CRC fits. None is shorter than an exception.
#[track_caller]
fn receive_rtu(stream: &mut TcpStream, unit: u8) -> Vec<u8> {
    let mut frame = vec![0; 5];
    stream.read_exact(&mut frame).expect("a reply, and in time");
    while frame[frame.len() - 2..] != crc(&frame[..frame.len() - 2]).to_le_bytes() {
        assert!(frame.len() < 256, "no CRC fits: {}", show(&frame));
        frame.push(0);
        let last = frame.len() - 1;
        stream.read_exact(&mut frame[last..]).expect("a whole reply, and in time");
    }
    assert_eq!(frame[0], unit, "a reply of another unit: {}", show(&frame));
    frame[1..frame.len() - 2].to_vec()
}

/// Signals of other tests come here, too.
pub fn unless_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// A connection from `from`, if that matters.
pub fn connect(addr: SocketAddr, from: Option<IpAddr>) -> TcpStream {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).expect("a socket");
    if let Some(from) = from {
        socket.bind(&SocketAddr::new(from, 0).into()).expect("all of 127.0.0.0/8 is this machine");
    }
    socket.connect(&addr.into()).expect("the server listens");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket has a read timeout");
    stream.set_write_timeout(Some(DEADLINE)).expect("a socket has a write timeout");
    stream.set_nodelay(true).expect("a socket has TCP_NODELAY");
    stream
}

/// A frame of Modbus TCP (*MODBUS Messaging on TCP/IP Implementation Guide V1.0b* §3.1.3).
pub fn mbap(transaction: u16, unit: u8, pdu: &[u8]) -> Vec<u8> {
    let length = (pdu.len() + 1) as u16;
    [&transaction.to_be_bytes()[..], &[0, 0], &length.to_be_bytes(), &[unit], pdu].concat()
}

/// Bit by bit, as *MODBUS over Serial Line V1.02* §2.5.1.2 describes it. The low byte goes first.
pub fn crc(bytes: &[u8]) -> u16 {
    let mut crc = 0xFFFF;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xA001 } else { crc >> 1 };
        }
    }
    crc
}

/// Bytes from their digits.
#[track_caller]
pub fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_ascii_whitespace().collect();
    assert!(digits.len() % 2 == 0, "half a byte in {text:?}");
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16);
    (0..digits.len()).step_by(2).map(byte).collect::<Result<_, _>>().expect("hexadecimal digits")
}

/// Digits from bytes.
pub fn show(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(" ")
}

/// A server with a Modbus listener and a listener of the line protocol, in that order.
pub fn start(config: &str) -> Server {
    Server::build().config(config).listen("modbus://127.0.0.1:0").listen("line://127.0.0.1:0").start()
}

/// Play `script` against such a server: a master and a client of the line protocol take turns.
///
/// ```text
/// 1: 03 0000 0002 = 03 04 1234 5678     a request to unit 1, and its reply
/// until 1: 03 0000 0001 = 03 02 0007    ask until that is the reply
/// > GET modbus/1/holding/0              the client of the line protocol sends a line
/// < OK 4660 good @                      and its next reply line is this, or its next update of that tag
/// # a comment
/// ```
#[track_caller]
pub fn check(config: &str, script: &str) {
    let started = now_ms();
    let server = start(config);
    let mut master = Master::tcp(server.addr(0));
    let mut client = Client::connect(server.addr(1)).since(started);
    for (index, line) in script.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(request) = line.strip_prefix("> ") {
            client.send(format!("{request}\n"));
        } else if let Some(pattern) = line.strip_prefix("< ") {
            let got = match pattern.strip_prefix("UPD ") {
                Some(rest) => client.update_of(rest.split(' ').next().unwrap_or_default()),
                None => client.reply_line(),
            };
            assert!(client.matches(pattern, &got), "script line {index}: expected {line:?}, got {got:?}");
        } else {
            let (is_awaited, exchange) =
                line.strip_prefix("until ").map_or((false, line), |exchange| (true, exchange));
            let (unit, request, reply) = parse(exchange).unwrap_or_else(|| panic!("line {index}: {line}"));
            if is_awaited {
                until(line, || master.ask(unit, request) == hex(reply));
            } else {
                let got = master.ask(unit, request);
                assert!(got == hex(reply), "script line {index}: {line}, but it is {}", show(&got));
            }
        }
    }
    assert_eq!(client.ask_one("PING end of script"), "OK end of script", "a reply that nobody expected");
}

/// `1: 03 0000 0002 = 03 04 1234 5678`
fn parse(exchange: &str) -> Option<(u8, &str, &str)> {
    let (unit, exchange) = exchange.split_once(':')?;
    let (request, reply) = exchange.split_once('=')?;
    Some((unit.parse().ok()?, request.trim(), reply.trim()))
}

/// Frames that others have published.
#[test]
fn modbus_frames_of_the_test_itself() {
    assert_eq!(mbap(0x1501, 0xFF, &hex("03 0004 0001")), hex("1501 0000 0006 FF 03 0004 0001"));
    assert_eq!(crc(&hex("01 03 0000 0002")).to_le_bytes(), [0xC4, 0x0B]);
    assert_eq!(crc(&hex("02 07")).to_le_bytes(), [0x41, 0x12]);
    assert_eq!(show(&hex("0a F 0")), "0A F0");
}
