//! The flight recorder: `TRACE` in the line protocol, and `lumina trace`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;

use rustix::process::{Pid, Signal};

use crate::client::{Client, matches};
use crate::server::{DEADLINE, Folder, Server, lines_of, run, until, wait};

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn expect_frame(client: &mut Client, pattern: &str) {
    let line = client.update();
    assert!(client.matches(pattern, &line), "expected {pattern:?}, got {line:?}");
}

#[test]
fn the_frames_of_a_device() {
    let server = Server::start();
    let (mut device, mut reader) = (server.client(), server.client());
    device.ask_one("HELLO press3");
    device.ask_one("SET a 1");
    // The last frames first, though it began later.
    assert_eq!(reader.ask_one("TRACE press3"), "OK");
    let frames = [("in", "HELLO press3\n"), ("out", "OK lumina 1\n"), ("in", "SET a 1\n"), ("out", "OK\n")];
    for (direction, text) in frames {
        expect_frame(&mut reader, &format!("FRAME @ press3 {direction} {}", hex(text)));
    }
    device.ask_one("PING x");
    expect_frame(&mut reader, &format!("FRAME @ press3 in {}", hex("PING x\n")));
    expect_frame(&mut reader, &format!("FRAME @ press3 out {}", hex("OK x\n")));
    assert_eq!(reader.ask_one("UNTRACE press3"), "OK");
    device.ask_one("PING y");
    reader.ask_one("PING");
    assert_eq!(reader.updates_left(), [""; 0]);
}

#[test]
fn what_is_refused() {
    let server = Server::with("[server]\ntrace_memory = '0B'\n[[listen]]\nurl = 'line://127.0.0.1:0'");
    let mut client = server.client();
    client.send("TRACE\nTRACE a b\nTRACE a/b\nTRACE a\nUNTRACE a\nTRACE a detail=yes c\n");
    for code in ["bad-request", "bad-request", "bad-name", "limit", "not-found", "bad-request"] {
        client.expect(&format!("ERR {code}"));
    }
    let outcome = run(&Folder::new(), &["trace", "a", &server.addr(0).to_string()]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""));
    assert!(outcome.stderr.contains("ERR limit traces: "), "{}", outcome.stderr);
}

/// Peers that may not read may not read what others say either.
#[test]
fn who_may_not_read_follows_nobody() {
    let server = Server::with("[[listen]]\nurl = 'line://127.0.0.1:0'\nread = []");
    let mut client = server.client();
    client.send("TRACE press3\n");
    client.expect("ERR denied");
}

/// A master on a port of the server's second listener, which speaks Modbus.
fn master(server: &Server) -> (TcpStream, SocketAddr) {
    let stream = TcpStream::connect(server.addr(1)).expect("the server listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket has a read timeout");
    let addr = stream.local_addr().expect("it is connected");
    (stream, addr)
}

/// Ask, and wait for an answer of so many bytes.
fn ask(master: &mut TcpStream, frame: &[u8], answer_bytes: usize) {
    master.write_all(frame).expect("the server reads");
    master.read_exact(&mut vec![0; answer_bytes]).expect("the server answers");
}

const READ: &[u8] = &[0, 7, 0, 0, 0, 6, 1, 3, 0, 100, 0, 10];
const READ_BYTES: usize = 29;
const NO_SUCH_FUNCTION: &[u8] = &[0, 8, 0, 0, 0, 2, 1, 99];
const WRITE: &[u8] = &[0, 9, 0, 0, 0, 6, 1, 6, 0, 100, 0, 42];

#[test]
fn a_master_on_request() {
    let server = Server::build().listen("line://127.0.0.1:0").listen("modbus://127.0.0.1:0").start();
    let (mut master, addr) = master(&server);
    ask(&mut master, READ, READ_BYTES);
    let mut reader = server.client();
    assert_eq!(reader.ask_one(&format!("TRACE {addr} detail=yes")), "OK");
    // From now on only: before, nobody had asked.
    ask(&mut master, WRITE, WRITE.len());
    for direction in ["in", "out"] {
        let bytes = "00090000000601060064002a";
        let pattern = format!("FRAME @ {addr} {direction} {bytes} via=modbus from={addr} conn=1");
        expect_frame(&mut reader, &pattern);
    }
}

#[test]
fn a_device_in_words() {
    let server = Server::start();
    let mut device = server.client();
    device.ask_one("HELLO press3");
    let trace = Tracing::start(&server, &["press3"]);
    trace.expect("# connection 1 from *: line");
    trace.expect("* <- 13 48 45 4c 4c 4f 20 70 72 65 73 73 33 0a HELLO press3");
    trace.expect("* -> 12 4f 4b 20 6c 75 6d 69 6e 61 20 31 0a OK lumina 1");
    device.ask_one("PING");
    trace.expect("* <- 5 50 49 4e 47 0a PING");
    trace.expect("* -> 3 4f 4b 0a OK");
    trace.end();
}

#[test]
fn a_master_in_words_and_for_wireshark() {
    let server = Server::build().listen("line://127.0.0.1:0").listen("modbus://127.0.0.1:0").start();
    let (mut master, addr) = master(&server);
    let dir = Folder::new();
    let file = dir.path.join("master.pcapng").display().to_string();
    let trace = Tracing::start(&server, &[&addr.to_string(), "--pcapng", &file]);
    until("it is followed", || {
        ask(&mut master, READ, READ_BYTES);
        trace.lines.try_recv().is_ok()
    });
    ask(&mut master, NO_SUCH_FUNCTION, 9);
    ask(&mut master, WRITE, WRITE.len());
    let said = "transaction 7, unit 1: read holding registers 100..109";
    trace.expect_some(&format!("* <- 12 00 07 00 00 00 06 01 03 00 64 00 0a {said}"));
    trace.expect_some("* -> 29 ... transaction 7, unit 1: 10 registers: 0 0 0 0 0 0 0 0 0 0");
    let refused = "transaction 8, unit 1: exception 1, illegal function";
    trace.expect_some(&format!("* -> 9 00 08 00 00 00 03 01 e3 01 {refused}"));
    trace.expect_some("* <- 12 ... transaction 9, unit 1: write holding register 100: 42");
    trace.expect_some("* -> 12 ... transaction 9, unit 1: wrote holding register 100: 42");
    trace.end();
    check_with_tshark(&file);
}

/// Where `tshark` is installed, it must understand every packet and complain of none.
fn check_with_tshark(file: &str) {
    let tshark = |args: &[&str]| {
        let output = Command::new("tshark")
            .args(["-r", file, "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"])
            .args(args)
            .output();
        output.ok().map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let fields = ["-Y", "modbus", "-T", "fields", "-e", "mbtcp.trans_id", "-e", "modbus.func_code"];
    let Some(frames) = tshark(&fields) else {
        eprintln!("tshark is not installed; the capture was not held against it");
        return;
    };
    let last: Vec<&str> = frames.lines().rev().take(4).collect();
    assert_eq!(last, ["9\t6", "9\t6", "8\t99", "8\t99"], "{frames}");
    let wrong = "_ws.malformed || tcp.analysis.flags || tcp.checksum.status == 0 \
                 || ip.checksum.status == 0 || (tcp.len > 0 && !modbus)";
    assert_eq!(tshark(&["-Y", wrong]).as_deref(), Some(""));
    let handshake = tshark(&["-Y", "tcp.flags.syn == 1 && tcp.dstport == 502"]);
    assert_eq!(handshake.map(|packets| packets.lines().count()), Some(1));
}

/// Polled devices, one on a connection of its own and two behind one, by this server from two others.
#[test]
fn polled_devices() {
    let slave = || {
        let units = [1, 2].map(|id| format!("[[modbus.unit]]\nid = {id}\nholdings = 300\n")).concat();
        Server::with(&format!("{units}[[listen]]\nurl = 'modbus://127.0.0.1:0'"))
    };
    let (one, two) = (slave(), slave());
    let device = |name, slave: &Server, unit| {
        let url = format!("modbus://{}", slave.addr(0));
        let keys = format!("name = '{name}'\nurl = '{url}'\nunit = {unit}\nrate = '10ms'\ntimeout = '30s'\n");
        format!("[[device]]\n{keys}[[device.tag]]\nname = 'a'\naddress = 'holding:{unit}00'\ntype = 'u16'\n")
    };
    let server = Server::with(
        &[device("meter7", &one, 1), device("unit1", &two, 1), device("unit2", &two, 2)].concat(),
    );
    for (name, slave, unit) in [("meter7", &one, 1), ("unit1", &two, 1), ("unit2", &two, 2)] {
        let trace = Tracing::start(&server, &[name]);
        trace.expect_some(&format!("# connection * to {}: modbus", slave.addr(0)));
        trace.expect_some(&format!("* -> 12 ... unit {unit}: read holding register {unit}00"));
        trace.expect_some(&format!("* <- 11 ... unit {unit}: 1 register: 0"));
        assert!(trace.lines.iter().take(20).all(|line| line.contains(&format!("unit {unit}: "))));
    }
}

/// Whoever mistypes a name is told, also where nobody looks at a terminal.
#[test]
fn of_a_device_that_is_not_known_it_is_said() {
    let server = Server::start();
    let mut trace = Command::new(env!("CARGO_BIN_EXE_lumina"))
        .args(["trace", "nope", &server.addr(0).to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the lumina executable starts");
    let lines = lines_of(trace.stderr.take().expect("stderr is piped"));
    let said = lines.recv_timeout(DEADLINE).expect("it is said");
    assert!(said.contains("nothing is known of 'nope'"), "{said}");
    trace.kill().and_then(|()| trace.wait()).expect("it can be ended");
}

#[test]
fn a_capture_on_standard_output() {
    let server = Server::start();
    server.client().ask_one("HELLO press3");
    let mut trace = Tracing::spawn(&server, &["press3", "--pcapng", "-"]);
    let mut stdout = trace.stdout.take().expect("stdout is piped");
    let mut bytes = Vec::new();
    while !bytes.windows(12).any(|window| window == b"OK lumina 1\n") {
        let mut chunk = [0; 4_096];
        let count = stdout.read(&mut chunk).expect("a pipe can be read");
        assert!(count > 0, "it ended before its time");
        bytes.extend_from_slice(&chunk[..count]);
    }
    assert_eq!(bytes[..4], [0x0a, 0x0d, 0x0d, 0x0a], "a section begins, and nothing comes before");
    assert!(bytes.windows(13).any(|window| window == b"HELLO press3\n"));
    drop(stdout);
    // Whoever read has seen enough.
    server.client().ask_one("HELLO press3");
    assert_eq!(wait(&mut trace).expect("it ends").code(), Some(0));
}

#[test]
fn the_command_line() {
    let dir = Folder::new();
    #[rustfmt::skip]
    let table: [(&[&str], i32, &str); 6] = [
        (&[],                                                         2, "device"),
        (&["a/b"],                                                    2, "'a/b' is neither a device nor"),
        (&["a", "b:x"],                                               2, "'b:x' is not an address"),
        (&["a", "--pcapng"],                                          2, "--pcapng"),
        (&["a", "no-such-host.invalid"],                              1, "'no-such-host.invalid'"),
        (&["a", "127.0.0.1:1", "--pcapng", "no/such/folder/file"],    1, "'no/such/folder/file' cannot be"),
    ];
    for (args, code, message) in table {
        let args: Vec<&str> = ["trace"].iter().chain(args).copied().collect();
        let outcome = run(&dir, &args);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(code), ""), "{args:?} {}", outcome.stderr);
        assert!(outcome.stderr.contains(message), "{args:?} {}", outcome.stderr);
    }
    let help = run(&dir, &["trace", "--help"]);
    assert_eq!(help.code, Some(0));
    for word in ["--pcapng", "HOST:PORT", "127.0.0.1:5000", "wireshark", "Ctrl-C"] {
        assert!(help.stdout.contains(word), "{word}: {}", help.stdout);
    }
}

#[test]
fn a_server_that_leaves() {
    let mut server = Server::start();
    server.client().ask_one("HELLO press3");
    let mut trace = Tracing::start(&server, &["press3"]);
    trace.expect_some("* -> 12 ... OK lumina 1");
    server.signal(Signal::TERM);
    server.wait_for_exit();
    assert_eq!(wait(&mut trace.child).expect("it ends").code(), Some(1));
}

/// Lines that may come before one that is waited for.
const MOST_OTHERS: usize = 1_000;

/// `lumina trace` while the test goes on.
struct Tracing {
    child: Child,
    lines: Receiver<String>,
}

impl Tracing {
    fn spawn(server: &Server, args: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_lumina"))
            .arg("trace")
            .args(args)
            .arg(server.addr(0).to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the lumina executable starts")
    }

    fn start(server: &Server, args: &[&str]) -> Tracing {
        let mut child = Tracing::spawn(server, args);
        let lines = lines_of(child.stdout.take().expect("stdout is piped"));
        Tracing { child, lines }
    }

    /// The next line matches the pattern, blanks apart; `...` stands for any fields.
    #[track_caller]
    fn expect(&self, pattern: &str) {
        let line = self.lines.recv_timeout(DEADLINE).expect("a line");
        assert!(fits(pattern, &line), "expected {pattern:?}, got {line:?}");
    }

    /// Some later line does.
    #[track_caller]
    fn expect_some(&self, pattern: &str) {
        let mut others = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(DEADLINE) {
            if fits(pattern, &line) {
                return;
            }
            others.push(line);
            if others.len() == MOST_OTHERS {
                break;
            }
        }
        panic!("expected {pattern:?}, got {others:#?}");
    }

    /// Ctrl-C.
    fn end(mut self) {
        rustix::process::kill_process(Pid::from_child(&self.child), Signal::INT).expect("it runs");
        assert_eq!(wait(&mut self.child).expect("it ends").code(), Some(0));
        assert_eq!(self.lines.iter().collect::<Vec<_>>(), [""; 0]);
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn fits(pattern: &str, line: &str) -> bool {
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    match pattern.split_once(" ... ") {
        None => {
            // `*` may be a part of a field.
            let pattern: Vec<&str> =
                pattern.split(' ').map(|field| if field.contains('*') { "*" } else { field }).collect();
            matches(&pattern.join(" "), &line, 0)
        }
        Some((head, tail)) => matches(&format!("{head} ..."), &line, 0) && line.ends_with(tail),
    }
}
