//! Frames that are recorded, and those who follow them.

use super::super::connection::LOW_WATER_BYTES;
use super::*;
use crate::base::host::Host;
use crate::tags::name::DeviceName;

/// A reader's lines, with frames' bytes as text: `press3 in SET a 1⏎`.
fn frames(lines: &str) -> Vec<String> {
    let text = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        let ["FRAME", time, name, direction, hex, rest @ ..] = &fields[..] else { return line.to_owned() };
        assert!(time.parse::<i64>().is_ok_and(|time| time >= RIG_EPOCH_MS), "{line}");
        let bytes = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
        let bytes = String::from_utf8(bytes.collect()).unwrap().replace('\n', "⏎");
        let rest: String = rest.iter().map(|field| format!(" {field}")).collect();
        format!("{name} {direction} {bytes}{rest}")
    };
    lines.lines().map(text).collect()
}

#[track_caller]
fn told(rig: &mut Rig, reader: ConnKey, expected: &[&str]) {
    rig.settle();
    let lines = rig.take(reader);
    assert_eq!(frames(&lines), expected, "{lines}");
}

#[test]
fn a_device_is_followed_from_its_last_frames_on() {
    let mut rig = Rig::new("line");
    let (device, reader) = (rig.connect(), rig.connect());
    rig.ask(device, "SET a 0\nHELLO press3\n");
    rig.advance(millis(5));
    rig.ask(device, "SET a 1\nSET a 2\n");
    let lines = rig.ask(reader, "TRACE press3\n");
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let expected = [
        "OK".to_owned(),
        format!("FRAME {RIG_EPOCH_MS} press3 in {}", hex("SET a 0\nHELLO press3\n")),
        format!("FRAME {RIG_EPOCH_MS} press3 out {}", hex("OK\nOK lumina 1\n")),
        format!("FRAME {} press3 in {}", RIG_EPOCH_MS + 5, hex("SET a 1\nSET a 2\n")),
        format!("FRAME {} press3 out {}", RIG_EPOCH_MS + 5, hex("OK\nOK\n")),
    ];
    assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
    assert_eq!(rig.next, Tick::NEVER, "whoever follows costs nothing while nothing happens");
    rig.ask(device, "GET a");
    told(&mut rig, reader, &[]);
    rig.ask(device, "\n");
    told(&mut rig, reader, &["press3 in GET a⏎", "press3 out OK 2 good 1700000000005⏎"]);
    check(&mut rig, reader, "UNTRACE press3", &["OK"]);
    rig.ask(device, "PING\n");
    told(&mut rig, reader, &[]);
    check(&mut rig, reader, "UNTRACE press3", &["ERR not-found no such trace"]);
    rig.wind_up();
}

#[test]
fn a_device_is_followed_over_its_connections() {
    let mut rig = Rig::new("line");
    let reader = rig.connect();
    check(&mut rig, reader, "TRACE press3 detail=yes", &["OK"]);
    let (old, new) = (rig.connect(), rig.connect());
    rig.ask(old, "HELLO press3\n");
    // What is left of a frame is recorded when its connection ends.
    rig.send(old, "SET a");
    rig.settle();
    rig.ask(new, "HELLO press3\n");
    let from = |key: ConnKey| format!("via=line from=10.0.0.1:40000 conn={}", key.serial);
    let expected = [
        format!("press3 in HELLO press3⏎ {}", from(old)),
        format!("press3 out OK lumina 1⏎ {}", from(old)),
        format!("press3 in HELLO press3⏎ {}", from(new)),
        format!("press3 in SET a {}", from(old)),
        format!("press3 out OK lumina 1⏎ {}", from(new)),
    ];
    told(&mut rig, reader, &expected.each_ref().map(String::as_str));
    rig.half_close(new);
    rig.settle();
    // Also after it left.
    let late = rig.connect();
    let lines = rig.ask(late, "TRACE press3\n");
    assert_eq!(frames(&lines).len(), 6);
    rig.wind_up();
}

#[test]
fn any_connection_is_recorded_on_request() {
    let mut rig = Rig::new("line");
    let (before, reader) = (rig.connect(), rig.connect());
    rig.ask(before, "PING 0\n");
    // All peers of a rig have the same address, the reader as well; what it is sent is not recorded.
    check(&mut rig, reader, "TRACE 10.0.0.1:40000", &["OK"]);
    rig.ask(before, "PING 1\n");
    told(&mut rig, reader, &["10.0.0.1:40000 in PING 1⏎", "10.0.0.1:40000 out OK 1⏎"]);
    let after = rig.connect();
    rig.ask(after, "HELLO press3\n");
    told(&mut rig, reader, &["10.0.0.1:40000 in HELLO press3⏎", "10.0.0.1:40000 out OK lumina 1⏎"]);
    rig.send(reader, "PING 2\n");
    told(&mut rig, reader, &["OK 2", "10.0.0.1:40000 in PING 2⏎"]);
    let other = rig.connect();
    check(&mut rig, other, "TRACE [::1]:5000", &["OK"]);
    rig.take(reader);
    // A device by its name, and its connection.
    rig.ask(reader, "TRACE press3\n");
    rig.ask(after, "PING 3\n");
    let mut lines = frames(&rig.take(reader));
    lines.sort_unstable();
    let expected =
        ["10.0.0.1:40000 in PING 3⏎", "10.0.0.1:40000 out OK 3⏎", "press3 in PING 3⏎", "press3 out OK 3⏎"];
    assert_eq!(lines, expected);
    // Nobody asks any more, and nobody is recorded any more.
    rig.half_close(reader);
    rig.settle();
    let late = rig.connect();
    check(&mut rig, late, "TRACE 10.0.0.1:40000", &["OK"]);
    rig.wind_up();
}

#[test]
fn who_follows_itself_does_not_go_on_for_ever() {
    let mut rig = Rig::new("line");
    let (one, other) = (rig.connect(), rig.connect());
    rig.ask(one, "HELLO one\nTRACE one\nTRACE other\n");
    rig.ask(other, "HELLO other\nTRACE one\nTRACE other\n");
    rig.settle();
    assert_eq!(rig.next, Tick::NEVER);
    rig.take(one);
    rig.send(other, "PING\n");
    told(&mut rig, one, &["other in PING⏎"]);
    rig.ask(other, "UNTRACE one\nUNTRACE other\n");
    rig.take(one);
    rig.send(other, "PING\n");
    told(&mut rig, one, &["other in PING⏎", "other out OK⏎"]);
    rig.wind_up();
}

#[test]
fn secrets_are_not_recorded() {
    let mut rig = Rig::new("line");
    let (device, reader) = (rig.connect(), rig.connect());
    rig.ask(device, "HELLO press3\n");
    for line in ["AUTH user hunter2\n", " auth hunter2\n", "PING 1\nAUTH user hunter2\nPING 2\n"] {
        rig.ask(device, line);
    }
    rig.ask(device, "PING 3\n");
    let other = rig.connect();
    rig.ask(other, "AUTH user hunter2\nHELLO press4\n");
    rig.ask(other, "PING 4\n");
    let lines = frames(&rig.ask(reader, "TRACE press3\nTRACE press4\n"));
    assert!(!lines.iter().any(|line| line.contains("hunter2")), "{lines:?}");
    assert!(lines.contains(&"press3 in PING 3⏎".to_owned()), "{lines:?}");
    assert!(lines.contains(&"press4 in PING 4⏎".to_owned()), "{lines:?}");
    rig.wind_up();
}

#[test]
fn a_slow_follower_holds_nothing_up() {
    let trace_memory = 256 * 1024;
    let mut rig = Rig::with("line", RigSettings { trace_memory, ..RigSettings::default() });
    let (device, reader) = (rig.connect(), rig.connect());
    rig.ask(device, "HELLO press3\n");
    rig.shut_window(reader);
    rig.ask(reader, "TRACE press3\n");
    const COUNT: u32 = 20_000;
    for number in 0..COUNT {
        rig.send(device, format!("PING {number:08}\n"));
        rig.turn();
        assert!(rig.owed(reader) <= LOW_WATER_BYTES + 1_024, "{} bytes are owed", rig.owed(reader));
    }
    assert_eq!(rig.take(device).lines().count(), COUNT as usize, "the device is served as ever");
    // It is heard all the same.
    rig.send(reader, "PING reader\n");
    rig.settle();
    rig.open_window(reader, usize::MAX);
    rig.settle();
    let lines = rig.take(reader);
    assert!(lines.contains("OK reader\n"));
    let frames = frames(&lines);
    let skipped: Vec<u64> =
        frames.iter().filter_map(|line| line.split_once(" skipped=")?.1.parse().ok()).collect();
    let [skipped] = skipped[..] else { panic!("skipped once: {skipped:?}") };
    let told = frames.iter().filter(|line| line.starts_with("press3")).count() as u64;
    assert_eq!(told + skipped, 2 + 2 * u64::from(COUNT), "what was not told was counted");
    assert_eq!(frames.last().unwrap(), &format!("press3 out OK {:08}⏎", COUNT - 1));
    rig.wind_up();
}

#[test]
fn frames_come_between_replies() {
    let mut rig = Rig::new("line");
    fill(&mut rig, 3_000);
    let (device, reader) = (rig.connect(), rig.connect());
    rig.ask(device, "HELLO press3\n");
    rig.ask(reader, "TRACE press3\n");
    rig.send(reader, "READ t/#\n");
    for _ in 0..20 {
        rig.send(device, "PING\n");
        rig.turn();
    }
    rig.settle();
    let lines = rig.take(reader);
    let kinds: Vec<&str> = lines.lines().map(|line| line.split(' ').next().unwrap()).collect();
    let first = kinds.iter().position(|kind| *kind == "VAL").unwrap();
    assert_eq!(kinds[first..first + 3_000], ["VAL"; 3_000]);
    assert_eq!(kinds[first + 3_000], "OK");
    assert_eq!(kinds.iter().filter(|kind| **kind == "FRAME").count(), 40);
    rig.wind_up();
}

#[test]
fn frames_wait_while_memory_is_short() {
    const BUFFERS: usize = 4 * 64 * 1024;
    let settings =
        RigSettings { buffer_memory: BUFFERS, write_stall: seconds(1_000), ..RigSettings::default() };
    let mut rig = Rig::with("line", settings);
    fill(&mut rig, 5_000);
    let (device, reader) = (rig.connect(), rig.connect());
    rig.ask(device, "HELLO press3\n");
    rig.ask(reader, "TRACE press3\n");
    let greedy: Vec<ConnKey> = (0..4).map(|_| rig.connect()).collect();
    rig.send(device, "PING\n");
    for &peer in &greedy {
        rig.shut_window(peer);
        rig.send(peer, "READ #\n");
    }
    rig.turn();
    for &peer in &greedy {
        rig.open_window(peer, usize::MAX);
    }
    told(&mut rig, reader, &["press3 in PING⏎", "press3 out OK⏎"]);
    rig.wind_up();
}

#[test]
fn a_datagram_is_a_frame() {
    let mut rig = Rig::new("line+udp");
    rig.datagram(7, "PING 1");
    let peer = SocketAddr::from(([10, 0, 0, 1], 7));
    let seat = rig.engine.shard.seat(99);
    rig.engine.shard.shared.recorder().follow(seat, Traced::Peer(peer), false).unwrap();
    rig.engine.watch_wanted();
    rig.datagram(7, "PING 2\nPING 3");
    rig.datagram(8, "PING 4");
    let mut got = Vec::new();
    let (mut name, mut bytes) = (String::new(), Vec::new());
    while let Some(told) = rig.engine.shard.shared.recorder().next_frame(seat, &mut name, &mut bytes) {
        assert_eq!((told.origin.scheme, told.origin.peer), ("line+udp", peer));
        got.push((told.direction, String::from_utf8(bytes.clone()).unwrap()));
    }
    let expected =
        [(Direction::In, "PING 2\nPING 3".to_owned()), (Direction::Out, "OK 2\nOK 3\n".to_owned())];
    assert_eq!(got, expected);
    rig.engine.shard.shared.recorder().unfollow_all(seat);
    rig.wind_up();
}

/// A driver. What comes on a line of its own is recorded as the device; on a shared line each byte says which
/// device it is of.
struct Driver {
    shared: bool,
}

impl Session for Driver {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Flow {
        if !self.shared {
            cx.record_as(DeviceName::parse("meter7").unwrap());
        }
        cx.put(b"ask");
        Flow::Continue
    }

    fn on_bytes(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Consumed {
        // A frame has three bytes.
        let bytes = input.len() / 3 * 3;
        for frame in input[..bytes].chunks(3).filter(|_| self.shared) {
            let unit = format!("unit{}", char::from(frame[0]));
            let unit = DeviceName::parse(&unit).unwrap();
            cx.trace(unit, "modbus", Direction::In, frame);
        }
        Consumed { bytes, flow: Flow::Continue }
    }

    fn asks_in(&self) -> Option<&'static str> {
        Some("modbus")
    }
}

#[test]
fn a_host_with_a_name_is_followed_by_the_address_that_was_found() {
    let mut rig = Rig::new("line");
    let reader = rig.connect();
    rig.ask(reader, "TRACE 10.0.0.9:502 detail=yes\n");
    let host = Host::parse("meter7.plant.local", 502).unwrap();
    let to = Endpoint { host, from: None, transport: Transport::Stream };
    rig.engine.dial_at(Tick::from_micros(0), to, Box::new(Driver { shared: true }));
    rig.settle();
    let dialled = rig.lines.dialled[0].0;
    rig.engine.on_looked_up(dialled, SocketAddr::from(([10, 0, 0, 9], 502)));
    let conn = rig.answer_dial();
    rig.send(conn, "1xx");
    rig.settle();
    let expected = format!("10.0.0.9:502 in 1xx via=modbus to=10.0.0.9:502 conn={}", conn.serial);
    assert_eq!(frames(&rig.take(reader)).last(), Some(&expected));
    rig.wind_up();
}

#[test]
fn drivers_record_their_devices() {
    let mut rig = Rig::new("line");
    let reader = rig.connect();
    for (shared, port) in [(false, 502), (true, 503)] {
        let to = Endpoint {
            host: SocketAddr::from(([10, 0, 0, 9], port)).into(),
            from: None,
            transport: Transport::Stream,
        };
        rig.engine.dial_at(Tick::from_micros(0), to, Box::new(Driver { shared }));
    }
    rig.settle();
    let (own, shared) = (rig.answer_dial(), rig.answer_dial());
    rig.send(reader, "TRACE meter7 detail=yes\n");
    rig.send(own, "abcd");
    let to = |port: u16, key: ConnKey| format!(" via=modbus to=10.0.0.9:{port} conn={}", key.serial);
    rig.settle();
    rig.send(own, "ef");
    rig.settle();
    let lines = frames(&rig.take(reader));
    let expected = [("out", "ask"), ("in", "abc"), ("in", "def")];
    let expected = expected.map(|(direction, text)| format!("meter7 {direction} {text}{}", to(502, own)));
    assert_eq!((lines[0].as_str(), &lines[1..]), ("OK", &expected[..]));
    rig.ask(reader, "UNTRACE meter7\nTRACE unit1 detail=yes\nTRACE unit2\n");
    rig.send(shared, "1xx2yy1zz");
    rig.settle();
    let mut lines = frames(&rig.take(reader));
    lines.sort_unstable();
    let of_unit1 = |text| format!("unit1 in {text}{}", to(503, shared));
    assert_eq!(lines, [of_unit1("1xx"), of_unit1("1zz"), "unit2 in 2yy".to_owned()]);
    // The line as a whole, by its address.
    rig.ask(reader, "UNTRACE unit1\nUNTRACE unit2\nTRACE 10.0.0.9:503 detail=yes\n");
    rig.send(shared, "1xx2yy");
    rig.settle();
    assert_eq!(frames(&rig.take(reader)), [format!("10.0.0.9:503 in 1xx2yy{}", to(503, shared))]);
    rig.wind_up();
}
