//! `lumina simulate --protocol modbus`: slaves that are asked by frames made by hand.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal};

use crate::client::Client;
use crate::server::{DEADLINE, Folder, Outcome, Server, lines_of, run, until, wait};

/// Slaves until they are interrupted.
struct Slaves {
    child: Child,
    stderr: Receiver<String>,
    /// Of the first slave.
    port: u16,
}

impl Slaves {
    /// On a free port, with these options and `--json`.
    fn start(args: &[&str]) -> Slaves {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lumina"))
            .args(["simulate", "--protocol", "modbus", "--json", "--secs", "0"])
            .args(args)
            .arg("modbus://127.0.0.1:0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the lumina executable starts");
        let stderr = lines_of(child.stderr.take().expect("stderr is piped"));
        let line = stderr.recv_timeout(DEADLINE).expect("it says where the slaves are");
        let port = line.split_once(" slaves at modbus://127.0.0.1:").map(|(_, rest)| rest);
        let port = port.and_then(|rest| rest.split([' ', ',']).next()?.parse().ok());
        let port = port.unwrap_or_else(|| panic!("no port in {line:?}"));
        Slaves { child, stderr, port }
    }

    /// A master of the slave that has the address of that number.
    fn master(&self, number: u32) -> Master {
        Master::connect((Ipv4Addr::from_bits((127 << 24) + number), self.port).into())
    }

    /// End it, and take its summary.
    fn interrupt(&mut self) -> Outcome {
        let pid = Pid::from_child(&self.child);
        rustix::process::kill_process(pid, Signal::INT).expect("it is running");
        let mut stdout = String::new();
        let mut pipe = self.child.stdout.take().expect("stdout is piped");
        pipe.read_to_string(&mut stdout).expect("a summary");
        let status = wait(&mut self.child).expect("it ends");
        let stderr = self.stderr.iter().map(|line| line + "\n").collect();
        Outcome { code: status.code(), stdout, stderr }
    }
}

impl Drop for Slaves {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection to a slave.
struct Master {
    stream: TcpStream,
    id: u16,
}

/// A frame that came.
#[derive(Clone, Debug, PartialEq)]
struct Frame {
    id: u16,
    unit: u8,
    pdu: Vec<u8>,
}

impl Master {
    fn connect(address: SocketAddr) -> Master {
        let stream = TcpStream::connect(address).expect("a slave is there");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time that is not zero");
        Master { stream, id: 0 }
    }

    fn send(&mut self, unit: u8, pdu: &[u8]) -> u16 {
        self.id += 1;
        let mut frame = self.id.to_be_bytes().to_vec();
        frame.extend([0, 0, 0, 1 + pdu.len() as u8, unit]);
        frame.extend(pdu);
        self.stream.write_all(&frame).expect("the slave reads");
        self.id
    }

    /// `None` at the end of the connection; an error where what comes is no frame.
    fn frame(&mut self) -> Result<Option<Frame>, Vec<u8>> {
        let mut header = [0; 7];
        match self.stream.read_exact(&mut header) {
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                return Ok(None);
            }
            result => result.expect("something comes"),
        }
        let [a, b, c, d, high, low, unit] = header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if (c, d) != (0, 0) || !(2..=254).contains(&length) {
            return Err(header.into());
        }
        let mut pdu = vec![0; length - 1];
        match self.stream.read_exact(&mut pdu) {
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                Ok(None)
            }
            result => {
                result.expect("the rest of a frame comes");
                Ok(Some(Frame { id: u16::from_be_bytes([a, b]), unit, pdu }))
            }
        }
    }

    /// Ask a slave that is in order.
    #[track_caller]
    fn ask(&mut self, unit: u8, pdu: &[u8]) -> Vec<u8> {
        let id = self.send(unit, pdu);
        let frame = self.frame().expect("a frame").expect("an answer");
        assert_eq!((frame.id, frame.unit), (id, unit), "{frame:?}");
        frame.pdu
    }

    /// Registers of an area by its function.
    #[track_caller]
    fn registers(&mut self, unit: u8, function: u8, address: u16, count: u16) -> Vec<u16> {
        let pdu = self.ask(unit, &read(function, address, count));
        assert_eq!((pdu[0], usize::from(pdu[1])), (function, pdu.len() - 2), "{pdu:?}");
        pdu[2..].chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
    }
}

fn read(function: u8, address: u16, count: u16) -> [u8; 5] {
    let ([a, b], [c, d]) = (address.to_be_bytes(), count.to_be_bytes());
    [function, a, b, c, d]
}

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_millis() as u64
}

/// What a register holds, as the documents say it.
fn register(slave: u64, table: u64, address: u64, ms: u64) -> u16 {
    let mark = (slave * 1_009 + address * 31 + table * 10_007) % 65_536;
    let value = match address % 4 {
        0 => (mark + ms / 10) % 10_000,
        1 => {
            let phase = (mark + ms % 60_000 * 65_536 / 60_000) % 65_536;
            let x = phase % 32_768;
            let arch = x * (32_768 - x);
            let swing = 64_000 * arch / (5 * 32_768 * 32_768 - 4 * arch);
            if phase < 32_768 { 5_000 + swing } else { 5_000 - swing }
        }
        2 => (mark + ms / 1_000) % 65_536,
        _ => mark,
    };
    value as u16
}

/// Read holding registers from 0, and see that each holds what it did at some time meanwhile.
#[track_caller]
fn check_signals(master: &mut Master, unit: u8, slave: u64) {
    let before = now_ms();
    let values = master.registers(unit, 3, 0, 20);
    let after = now_ms();
    for (address, value) in (0..).zip(values) {
        let mut possible = (before..=after).map(|ms| register(slave, 4, address, ms));
        assert!(possible.any(|held| held == value), "slave {slave}, register {address}: {value}");
    }
}

/// A number of the summary.
#[track_caller]
fn number(outcome: &Outcome, key: &str) -> u64 {
    let value = outcome.stdout.split_once(&format!("\"{key}\":")).map(|(_, rest)| rest);
    let digits = value.and_then(|value| value.split([',', '}']).next()?.parse().ok());
    digits.unwrap_or_else(|| panic!("no number {key}: {}{}", outcome.stdout, outcome.stderr))
}

#[track_caller]
fn check(outcome: &Outcome, expected: &[(&str, u64)]) {
    for (key, value) in expected {
        assert_eq!(number(outcome, key), *value, "{key}: {}{}", outcome.stdout, outcome.stderr);
    }
}

#[test]
fn each_address_is_a_slave() {
    let mut slaves = Slaves::start(&["--devices", "300"]);
    for number in [1, 2, 255, 256, 300] {
        check_signals(&mut slaves.master(number), 1, number.into());
    }
    let mut master = slaves.master(2);
    assert_eq!(master.registers(1, 4, 3, 1), [register(2, 3, 3, 0)]);
    assert_eq!(master.ask(1, &[6, 0, 3, 0x12, 0x34]), [6, 0, 3, 0x12, 0x34]);
    assert_eq!(master.ask(1, &[5, 0, 9, 0xFF, 0]), [5, 0, 9, 0xFF, 0]);
    // It is there for all connections, and for no other slave.
    let mut another = slaves.master(2);
    assert_eq!(another.registers(1, 3, 2, 2)[1], 0x1234);
    assert_eq!(another.ask(1, &read(1, 9, 1)), [1, 1, 1]);
    check_signals(&mut slaves.master(3), 1, 3);
    assert_eq!(master.ask(2, &read(3, 0, 1)), [0x83, 10]);
    assert_eq!(master.ask(1, &[99]), [0xE3, 1]);
    // Where no slave is, nobody answers, though the listener is there.
    for nobody in [301, 2_000] {
        let mut stream = TcpStream::connect((Ipv4Addr::from_bits((127 << 24) + nobody), slaves.port))
            .expect("the listener is there");
        stream.set_read_timeout(Some(DEADLINE)).expect("a time that is not zero");
        let end = stream.read(&mut [0; 8]);
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    let outcome = slaves.interrupt();
    assert_eq!((outcome.code, &*outcome.stderr), (Some(0), ""));
    assert!(outcome.stdout.starts_with('{') && outcome.stdout.ends_with("}\n"), "{}", outcome.stdout);
    check(&outcome, &[("devices", 300), ("asked", 6), ("connections", 8), ("requests", 13)]);
    check(&outcome, &[("answers", 13), ("exceptions", 2), ("elsewhere", 1), ("written", 2), ("strays", 2)]);
}

#[test]
fn slaves_are_ports_or_units() {
    let folder = Folder::new();
    let file = folder.path.join("plant.toml");
    let options = ["--configuration", file.to_str().expect("UTF-8"), "--tags", "5", "--interval", "250"];
    let slaves = Slaves::start(&[&["--spread", "ports", "--devices", "3"][..], &options].concat());
    let text = std::fs::read_to_string(&file).expect("the configuration is written");
    let urls: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("url = \"modbus://")).collect();
    assert_eq!(urls.len(), 3, "{text}");
    for (number, url) in (1..).zip(urls) {
        let address = url.trim_end_matches('"').parse().expect("an address");
        check_signals(&mut Master::connect(address), 1, number);
    }
    assert_eq!(text.matches("address = \"holding:").count(), 5, "{text}");
    assert_eq!(text.matches("\nrate = \"250ms\"\n").count(), 3, "{text}");
    drop(slaves);

    // Its own file may be written over.
    let slaves = Slaves::start(&[&["--spread", "units", "--devices", "250"][..], &options].concat());
    let text = std::fs::read_to_string(&file).expect("the configuration is written");
    let last = format!("url = \"modbus://127.0.0.2:{}\"\nunit = 3\n", slaves.port);
    assert!(text.contains(&last), "{last} in {text}");
    let mut line = slaves.master(1);
    for unit in [1, 2, 247] {
        check_signals(&mut line, unit, unit.into());
    }
    check_signals(&mut slaves.master(2), 3, 250);
    assert_eq!(line.ask(248, &read(3, 0, 1)), [0x83, 10]);
}

/// A slave and its poller are two commands.
#[test]
fn a_server_polls_them_with_the_configuration() {
    let folder = Folder::new();
    let file = folder.path.join("plant.toml");
    let file = file.to_str().expect("UTF-8");
    let options = ["--interval", "100", "--name", "hall", "--tags", "8", "--timeout", "30s"];
    let args = [&["--devices", "10", "--silent", "10%", "--configuration", file][..], &options].concat();
    let slaves = Slaves::start(&args);
    let checked = run(&folder, &["check", "--config", file]);
    assert_eq!((checked.code, &*checked.stderr), (Some(0), ""), "{}", checked.stdout);

    let server = Server::with(&std::fs::read_to_string(file).expect("the configuration is written"));
    let mut client = server.client();
    let is_polled = |slave: &u64, client: &mut Client| {
        let want = format!("OK {} good ", register(*slave, 4, 7, 0));
        client.ask_one(&format!("GET hall-{slave:05}/setpoint7")).starts_with(&want)
    };
    let count = |client: &mut Client| (1..=10).filter(|slave| is_polled(slave, client)).count();
    until("all but the silent one are polled", || count(&mut client) == 9);
    let slave = (1..=10).find(|slave| is_polled(slave, &mut client)).expect("nine are polled");
    assert_eq!(client.ask_one(&format!("SET hall-{slave:05}/setpoint7 77")), "OK");
    assert_eq!(slaves.master(slave as u32).registers(1, 3, 7, 1), [77]);
    until("it is read back", || {
        client.ask_one(&format!("GET hall-{slave:05}/setpoint7")).starts_with("OK 77 good ")
    });
}

#[test]
fn answers_take_the_latency() {
    let slaves = Slaves::start(&["--devices", "1", "--latency", "50ms"]);
    let mut master = slaves.master(1);
    for _ in 0..5 {
        let asked = Instant::now();
        master.ask(1, &read(3, 0, 2));
        assert!(asked.elapsed() >= Duration::from_millis(40));
    }
    // All of a window at once takes no longer than one: all are there, in whatever order.
    let mut sent: Vec<u16> = (0..16).map(|_| master.send(1, &read(3, 0, 2))).collect();
    while !sent.is_empty() {
        let frame = master.frame().expect("a frame").expect("an answer");
        let place = sent.iter().position(|id| *id == frame.id).expect("it was asked");
        sent.remove(place);
    }
}

#[test]
fn the_silent_hold_up_nobody() {
    let mut slaves = Slaves::start(&["--devices", "4", "--silent", "50%"]);
    let mut masters: Vec<Master> = (1..=4).map(|number| slaves.master(number)).collect();
    for master in &mut masters {
        master.send(1, &read(3, 0, 20));
    }
    let has_answered = |master: &Master| {
        master.stream.set_nonblocking(true).expect("a socket");
        let peeked = master.stream.peek(&mut [0; 1]);
        master.stream.set_nonblocking(false).expect("a socket");
        peeked.is_ok_and(|bytes| bytes == 1)
    };
    until("two have answered", || masters.iter().filter(|master| has_answered(master)).count() == 2);
    for (number, master) in (1..).zip(&mut masters).filter(|(_, master)| has_answered(master)) {
        master.frame().expect("a frame").expect("an answer");
        check_signals(master, 1, number);
    }
    assert!(!masters.iter().any(has_answered), "the silent have said something");
    let outcome = slaves.interrupt();
    check(&outcome, &[("silent_slaves", 2), ("silent_requests", 2), ("silent_faults", 2), ("asked", 4)]);
    check(&outcome, &[("requests", 6), ("answers", 4), ("garbage_slaves", 0)]);
}

#[test]
fn the_late_answer_after_later_requests() {
    let slaves = Slaves::start(&["--devices", "1", "--late", "100%", "--timeout", "50ms"]);
    let mut master = slaves.master(1);
    let mut overtaken = 0;
    while overtaken == 0 {
        let sent: Vec<u16> = (0..8).map(|_| master.send(1, &read(3, 0, 2))).collect();
        let frames = sent.iter().map(|_| master.frame().expect("a frame").expect("an answer").id);
        overtaken += frames.zip(&sent).filter(|(came, sent)| came != *sent).count();
    }
}

#[test]
fn garbage_and_then_the_right_answer_again() {
    let mut slaves = Slaves::start(&["--devices", "1", "--garbage", "100%"]);
    let [mut right, mut no_frame, mut id, mut unit, mut function, mut length] = [0; 6];
    let mut left = 2_000;
    while [right, no_frame, id, unit, function, length].contains(&0) {
        left -= 1;
        assert!(left > 0, "{right} {no_frame} {id} {unit} {function} {length}");
        let mut master = slaves.master(1);
        let asked = master.send(1, &read(3, 2, 2));
        // All that comes for it comes before the end.
        master.stream.shutdown(Shutdown::Write).expect("it is connected");
        loop {
            let frame = match master.frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => {
                    no_frame += 1;
                    break;
                }
            };
            match (frame.id == asked, frame.unit, &frame.pdu[..]) {
                (true, 1, [3, 4, _, _, c, d]) => {
                    assert_eq!(u16::from_be_bytes([*c, *d]), register(1, 4, 3, 0));
                    right += 1;
                }
                (false, ..) => id += 1,
                (_, 1, [3, ..]) => length += 1,
                (_, 1, _) => function += 1,
                _ => unit += 1,
            }
        }
    }
    let outcome = slaves.interrupt();
    assert!(number(&outcome, "garbage_faults") > 4, "{}", outcome.stdout);
    assert!(number(&outcome, "garbage_faults") < number(&outcome, "garbage_requests") / 2);
}

#[test]
fn some_addresses_are_not_there_and_some_are_busy() {
    let slaves = Slaves::start(&["--devices", "1", "--exceptions", "100%"]);
    let mut master = slaves.master(1);
    for address in [7, 17] {
        assert_eq!(master.ask(1, &read(3, address, 1)), [0x83, 2]);
        assert_eq!(master.ask(1, &read(4, address - 3, 9)), [0x84, 2]);
    }
    assert_eq!(master.registers(1, 3, 8, 5).len(), 5);
    let [mut busy, mut fine] = [0; 2];
    while busy == 0 || fine == 0 {
        match &master.ask(1, &read(3, 13, 1))[..] {
            [3, 2, ..] => fine += 1,
            [0x83, 6] => busy += 1,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_cut_come_back() {
    let slaves = Slaves::start(&["--devices", "1", "--cut", "100%"]);
    for _ in 0..5 {
        let mut master = slaves.master(1);
        // What was cut in two is the end as well.
        while let Ok(Some(frame)) = {
            master.send(1, &read(3, 3, 1));
            master.frame()
        } {
            assert_eq!(frame.pdu[..2], [3, 2]);
        }
    }
}

#[test]
fn it_ends_by_itself_and_complains_of_what_is_not_modbus() {
    let folder = Folder::new();
    let args = ["simulate", "--protocol", "modbus", "--devices", "5", "--secs", "1", "127.0.0.1:0"];
    let outcome = run(&folder, &args);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(outcome.stdout.contains(" s of 5 slaves at modbus://127.0.0.1:"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("requests   0, 0 requests/s"), "{}", outcome.stdout);
    assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);

    let mut slaves = Slaves::start(&["--devices", "1"]);
    let mut master = slaves.master(1);
    master.stream.write_all(b"PING\r\n\r\n").expect("the slave reads");
    assert_eq!(master.frame(), Ok(None));
    let outcome = slaves.interrupt();
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("1 connections were closed: what came there is not Modbus"));
    check(&outcome, &[("violations", 1), ("requests", 0)]);
}

#[test]
fn what_cannot_be_simulated() {
    let folder = Folder::new();
    folder.write("mine.toml", "[server]\n");
    let slaves = Slaves::start(&["--devices", "1"]);
    let taken = format!("127.0.0.1:{}", slaves.port);
    #[rustfmt::skip]
    let table: [(&[&str], i32, &str); 18] = [
        (&["--churn", "1%"],                              2, "--churn is for devices that report"),
        (&["--faults"],                                   2, "--silent, --slow"),
        (&["--subscribers", "0"],                         2, "--subscribers is for devices"),
        (&["--interval", "100"],                          2, "add --configuration FILE"),
        (&["--name", "hall"],                             2, "add --configuration FILE"),
        (&["--tags", "3"],                                2, "add --configuration FILE"),
        (&["--tags", "0"],                                2, "'0' is not possible"),
        (&["--spread", "racks"],                          2, "expected one of addresses, ports, units"),
        (&["--latency", "20"],                            2, "'20' is not a duration"),
        (&["--timeout", "2h"],                            2, "too long"),
        (&["--silent", "60%", "--late", "60%"],           2, "more than 100 slaves"),
        (&["--spread", "ports", "127.0.0.1:65500"],       2, "more than there are"),
        (&["line://127.0.0.1:5000"],                      2, "not line://"),
        (&["[::1]:1502"],                                 2, "IPv4"),
        (&["--devices", "1000000"],                       1, "ulimit -n"),
        (&["--devices", "1", &taken],                     1, "another process does"),
        (&["--configuration", "mine.toml"],               1, "was not written by lumina simulate"),
        (&["--configuration", "no/where.toml", "[::1]:0", "--devices", "1"], 1, "no/where.toml"),
    ];
    for (args, code, part) in table {
        let outcome = run(&folder, &[&["simulate", "--protocol", "modbus"], args].concat());
        assert_eq!((outcome.code, &*outcome.stdout), (Some(code), ""), "{args:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(part), "{args:?}: {}", outcome.stderr);
    }
    for (option, value, part) in
        [("--silent", "5%", "add --protocol modbus"), ("--protocol", "mqtt", "expected one of line, modbus")]
    {
        let outcome = run(&folder, &["simulate", option, value]);
        assert_eq!(outcome.code, Some(2));
        assert!(outcome.stderr.contains(part), "{}", outcome.stderr);
    }
}
