//! Modbus: masters that write tags of a polled device. The device is written out in bytes, too.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::client::Client;
use crate::modbus::{Master, hex, mbap, start, unless_interrupted};
use crate::server::{DEADLINE, Server, nobody, until};

/// What the device does with a write.
#[derive(Clone, Copy)]
enum Habit {
    Confirm,
    /// It confirms when the test says so.
    Wait,
    Refuse(u8),
    /// It does not answer.
    Ignore,
}

/// A device with ten registers of 0, which answers reads at once.
struct Device {
    addr: SocketAddr,
    habit: Arc<Mutex<Habit>>,
    /// The writes that have come.
    writes: Receiver<Vec<u8>>,
    go_on: Sender<()>,
}

impl Device {
    fn start() -> Device {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("it is bound");
        let habit = Arc::new(Mutex::new(Habit::Confirm));
        let (sender, writes) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel();
        let shared = Arc::clone(&habit);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("a connection");
                // It ends when the server closes it.
                let _ = Device::serve(stream, &shared, &sender, &may_go_on);
            }
        });
        Device { addr, habit, writes, go_on }
    }

    fn serve(
        mut stream: TcpStream,
        habit: &Mutex<Habit>,
        writes: &Sender<Vec<u8>>,
        may_go_on: &Receiver<()>,
    ) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        loop {
            let mut header = [0; 7];
            stream.read_exact(&mut header)?;
            let [a, b, _, _, high, low, unit] = header;
            let mut pdu = vec![0; usize::from(u16::from_be_bytes([high, low])) - 1];
            stream.read_exact(&mut pdu)?;
            let reply = match pdu[..] {
                [3, _, _, _, quantity] => {
                    [&[3, 2 * quantity], &vec![0; 2 * usize::from(quantity)][..]].concat()
                }
                _ => {
                    // The test may be over.
                    let _ = writes.send(pdu.clone());
                    let habit = *habit.lock().expect("nobody panics while holding it");
                    match habit {
                        Habit::Confirm => pdu,
                        Habit::Wait => {
                            let _ = may_go_on.recv();
                            pdu
                        }
                        Habit::Refuse(code) => vec![pdu[0] | 0x80, code],
                        Habit::Ignore => continue,
                    }
                }
            };
            stream.write_all(&mbap(u16::from_be_bytes([a, b]), unit, &reply))?;
        }
    }

    fn does(&self, habit: Habit) {
        *self.habit.lock().expect("nobody panics while holding it") = habit;
    }

    fn next_write(&self) -> Vec<u8> {
        self.writes.recv_timeout(DEADLINE).expect("a write comes to the device")
    }
}

/// A server that polls the device at `addr`, and shows its tag at holding 0 and 3, the tag's quality at 1,
/// and a tag of its own at 2.
fn polling(addr: SocketAddr, timeout: &str) -> Server {
    start(&format!(
        "
        [[device]]
        name = 'press'
        url = 'modbus://{addr}'
        rate = '20ms'
        timeout = '{timeout}'
        retries = 0
        [[device.tag]]
        name = 'speed'
        address = 'holding:5'
        type = 'u16'
        access = 'rw'
        max = 1000
        [[device.tag]]
        name = 'length'
        address = 'holding:6'
        type = 'u16'
        scale = 0.1
        access = 'rw'
        [[modbus.map]]
        unit = 1
        address = 'holding:0'
        tag = 'press/speed'
        type = 'u16'
        [[modbus.map]]
        unit = 1
        address = 'holding:1'
        tag = 'press/speed'
        show = 'quality'
        [[modbus.map]]
        unit = 1
        address = 'holding:2'
        tag = 'own'
        type = 'u16'
        [[modbus.map]]
        unit = 1
        address = 'holding:3'
        tag = 'press/speed'
        type = 'u16'
        [[modbus.map]]
        unit = 1
        address = 'holding:4'
        tag = 'press/length'
        type = 'f32'
        "
    ))
}

/// A master, once the device's tag is good.
fn master(server: &Server) -> Master {
    let mut master = Master::tcp(server.addr(0));
    until("the device is polled", || master.ask(1, "03 0000 0002") == [3, 4, 0, 0, 0, 0]);
    master
}

/// A master is answered when the device has confirmed; what it asks next waits, and others do not.
#[test]
fn a_write_is_answered_after_the_device_did() {
    let device = Device::start();
    let server = polling(device.addr, "10m");
    let (mut writer, mut other) = (master(&server), master(&server));
    device.does(Habit::Wait);
    let write = writer.frame(1, 1, &hex("06 0000 0007"));
    let read = writer.frame(2, 1, &hex("03 0002 0001"));
    other.check(1, "06 0002 1234", "06 0002 1234");
    writer.send(&[write, read].concat());
    assert_eq!(device.next_write(), hex("06 0005 0007"));
    other.check(1, "03 0002 0001", "03 02 1234");
    other.check(1, "06 0002 5678", "06 0002 5678");
    writer.stream().set_nonblocking(true).expect("a socket can be asked without waiting");
    let early = unless_interrupted(|| writer.stream().peek(&mut [0]));
    assert!(early.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "answered before the device");
    writer.stream().set_nonblocking(false).expect("a socket can be waited for");
    device.go_on.send(()).expect("the device is there");
    assert_eq!(writer.receive(1, 1), hex("06 0000 0007"));
    assert_eq!(writer.receive(2, 1), hex("03 02 5678"));
}

/// By every function that writes registers, and what the device was sent.
#[test]
fn every_write_goes_to_the_device() {
    let device = Device::start();
    let server = polling(device.addr, "10m");
    let mut master = master(&server);
    let table = [
        ("06 0000 0001", "06 0000 0001", 1),
        ("10 0000 0001 02 0002", "10 0000 0001", 2),
        ("16 0000 0000 0003", "16 0000 0000 0003", 3),
        ("17 0002 0001 0000 0001 02 0004", "97 04", 0),
    ];
    for (request, reply, value) in table {
        master.check(1, request, reply);
        if value > 0 {
            assert_eq!(device.next_write(), [6, 0, 5, 0, value], "{request}");
        }
    }
    // Limits are looked at before the device is asked.
    master.check(1, "06 0000 03E9", "86 03");
    master.check(1, "06 0000 0005", "06 0000 0005");
    assert_eq!(device.next_write(), hex("06 0005 0005"));
}

/// 6553.5 fits the device's register, 6553.6 does not: it is said before the other tags are written.
#[test]
fn what_does_not_fit_the_devices_registers_is_refused_as_a_whole() {
    let device = Device::start();
    let server = polling(device.addr, "10m");
    let mut master = master(&server);
    master.check(1, "06 0002 1234", "06 0002 1234");
    master.check(1, "10 0002 0004 08 5678 0007 45CC CCCD", "90 03");
    master.check(1, "03 0002 0001", "03 02 1234");
    master.check(1, "10 0003 0003 06 0008 45CC CC00", "10 0003 0003");
    // The refused ones were sent nothing.
    assert_eq!(device.next_write(), hex("06 0005 0008"));
    assert_eq!(device.next_write(), hex("06 0006 FFFF"));
    let mut client = Client::connect(server.addr(1));
    assert!(client.ask_one("SET press/length 6553.6").starts_with("ERR out-of-range "));
}

#[test]
fn an_exception_of_the_device_is_passed_on() {
    let device = Device::start();
    let server = polling(device.addr, "10m");
    let mut master = master(&server);
    for code in [1, 2, 3, 4, 6, 8, 0x42] {
        device.does(Habit::Refuse(code));
        assert_eq!(master.ask(1, "06 0000 0007"), [0x86, code]);
        assert_eq!(device.next_write(), hex("06 0005 0007"));
        assert_eq!(master.ask(1, "10 0000 0001 02 0007"), [0x90, code]);
        assert_eq!(device.next_write(), hex("06 0005 0007"));
    }
    device.does(Habit::Confirm);
    master.check(1, "06 0000 0007", "06 0000 0007");
}

/// Also where it is a gateway that cannot reach it, which may be the end of further writes.
#[test]
fn an_exception_of_a_gateway_is_passed_on() {
    for code in [10, 11] {
        let device = Device::start();
        let server = polling(device.addr, "10m");
        let mut master = master(&server);
        device.does(Habit::Refuse(code));
        assert_eq!(master.ask(1, "06 0000 0007"), [0x86, code]);
        assert_eq!(device.next_write(), hex("06 0005 0007"));
    }
}

/// It has the request and does not answer: 11.
#[test]
fn a_device_that_does_not_answer() {
    let device = Device::start();
    let server = polling(device.addr, "300ms");
    let mut master = master(&server);
    device.does(Habit::Ignore);
    // Of a device that was slow to answer a poll just now nobody asks anything.
    until("it was asked and did not answer", || master.ask(1, "06 0000 0007") == hex("86 0B"));
    assert_eq!(device.next_write(), hex("06 0005 0007"));
}

/// There is nobody to send it to: 10. Its tag has no value that could be shown.
#[test]
fn a_device_that_is_not_there() {
    let (_reserved, nobody) = nobody();
    let server = polling(nobody, "300ms");
    let mut master = Master::tcp(server.addr(0));
    let mut client = Client::connect(server.addr(1));
    until("it is known", || master.ask(1, "06 0000 0007") == hex("86 0A"));
    assert!(client.ask_one("SET press/speed 7").starts_with("ERR offline "));
    master.check(1, "03 0000 0001", "83 04");
    // A tag of the server's own is written without it, and together with it not at all.
    master.check(1, "06 0002 1234", "06 0002 1234");
    master.check(1, "10 0002 0002 04 5678 0007", "90 0A");
    master.check(1, "03 0002 0001", "03 02 1234");
}
