//! What needs a device behind the tags, or the clock: writes that devices confirm, watchdogs. The device is
//! the test: it sees each order as a line, and each byte it sends is an answer.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::rig::{Rig, RigSettings};
use crate::engine::{Acceptor, ConnKey, Consumed, Context, Driven, Flow, Session, WriteOrder};
use crate::tags::value::{Input, Kind, Limits, Number, Quality, Value};
use crate::tags::{Declaration, Declared, DeclaredTag, OwnerId, Refusal, TagId};

/// `+` confirms the oldest order and reports its value; `-` refuses it with exception 6; `?` does not answer.
#[derive(Default)]
struct Device {
    orders: VecDeque<WriteOrder>,
}

impl Session for Device {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Flow {
        cx.attach(OwnerId(0), Arc::new(Registers));
        Flow::Continue
    }

    fn on_bytes(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Consumed {
        for answer in input {
            let order = self.orders.pop_front().expect("an order to answer");
            let result = match answer {
                b'+' => {
                    cx.report(order.tag, order.value.as_input(), Quality::Good, cx.now().wall);
                    Ok(())
                }
                b'-' => Err(Refusal::Device { reason: "busy".into(), code: Some(6) }),
                _ => Err(Refusal::Timeout),
            };
            cx.settle(order.ticket, result);
        }
        Consumed { bytes: input.len(), flow: Flow::Continue }
    }

    fn on_write_order(&mut self, cx: &mut Context<'_>, order: WriteOrder) -> Flow {
        cx.put(format!("{}\n", order.value).as_bytes());
        self.orders.push_back(order);
        Flow::Continue
    }
}

/// Those of the device hold numbers up to 900, fewer than its tags admit.
struct Registers;

impl Driven for Registers {
    fn check(&self, _: TagId, value: &Input<'_>) -> Result<(), Refusal> {
        if matches!(value, Input::Int(901..)) { Err(Refusal::OutOfRange) } else { Ok(()) }
    }
}

struct Devices;

impl Acceptor for Devices {
    fn accept(&self, _: SocketAddr) -> Box<dyn Session> {
        Box::new(Device::default())
    }

    fn refuse(&self, _: &Refusal, _: &mut String) {}
}

/// Unit 1: two registers of the device, one of nobody's, a flag of the device's.
const MAP: &str = r#"
    [[modbus.map]]
    unit = 1
    address = "holding:0"
    tag = "d/speed"
    type = "u16"
    [[modbus.map]]
    unit = 1
    address = "holding:1"
    tag = "d/torque"
    type = "u16"
    [[modbus.map]]
    unit = 1
    address = "holding:2"
    tag = "mine"
    type = "u16"
    [[modbus.map]]
    unit = 1
    address = "coil:0"
    tag = "d/run"
"#;

fn rig_with(scheme: &'static str, shared: &'static str) -> Rig {
    shards_with(1, scheme, shared).pop().expect("one was wanted")
}

fn shards_with(count: usize, scheme: &'static str, shared: &'static str) -> Vec<Rig> {
    let owned = |name: &str, kind| {
        let limits = Limits::new(Some(Number::Int(0)), Some(Number::Int(1_000))).unwrap();
        let declaration = Declaration { kind, limits, owner: Some(OwnerId(0)), ..Declaration::default() };
        DeclaredTag { name: name.into(), declaration, initial: None }
    };
    let mut declared = Declared::default();
    declared.add(owned("d/speed", Kind::Int));
    declared.add(owned("d/torque", Kind::Int));
    declared.add(owned("d/run", Kind::Bool));
    Rig::shards(
        count,
        scheme,
        RigSettings {
            owners: vec!["d".into()],
            declared,
            shared,
            more: vec![Box::new(Devices)],
            ..RigSettings::default()
        },
    )
}

/// Send a frame of unit 1, and say what came back by then: frames without their headers.
fn ask(rig: &mut Rig, master: ConnKey, pdu: &[u8]) -> Vec<Vec<u8>> {
    send(rig, master, pdu);
    replies(rig, master)
}

fn send(rig: &mut Rig, master: ConnKey, pdu: &[u8]) {
    rig.send(master, [&[0, 9, 0, 0, 0, pdu.len() as u8 + 1, 1], pdu].concat());
    rig.settle();
}

fn replies(rig: &mut Rig, master: ConnKey) -> Vec<Vec<u8>> {
    rig.settle();
    let received = std::mem::take(&mut rig.line(master).received);
    let mut rest = &received[..];
    let mut pdus = Vec::new();
    while let [_, _, _, _, _, length, _, ..] = *rest {
        let end = 6 + usize::from(length);
        pdus.push(rest[7..end].to_vec());
        rest = &rest[end..];
    }
    assert!(rest.is_empty(), "half a frame: {rest:02x?}");
    pdus
}

fn orders(rig: &mut Rig, device: ConnKey) -> String {
    rig.settle();
    rig.take(device)
}

#[test]
fn a_write_is_answered_when_the_device_has_confirmed_and_what_follows_waits() {
    let mut rig = rig_with("modbus", MAP);
    let (master, other, device) = (rig.connect(), rig.connect(), rig.connect_to(1));
    rig.settle();
    assert_eq!(ask(&mut rig, master, b"\x06\0\0\0\x2a"), [b""; 0]);
    assert_eq!(ask(&mut rig, master, b"\x03\0\0\0\x01"), [b""; 0], "it comes behind the write");
    assert_eq!(ask(&mut rig, other, b"\x03\0\0\0\x01"), [b"\x83\x04"], "nothing is confirmed yet");
    assert_eq!(orders(&mut rig, device), "42\n");
    rig.send(device, b"+");
    assert_eq!(replies(&mut rig, master), [&b"\x06\0\0\0\x2a"[..], b"\x03\x02\0\x2a"]);
    assert_eq!(ask(&mut rig, master, b"\x05\0\0\xff\0"), [b""; 0]);
    assert_eq!(orders(&mut rig, device), "true\n");
    rig.send(device, b"+");
    assert_eq!(replies(&mut rig, master), [b"\x05\0\0\xff\0"]);
    rig.wind_up();
}

#[test]
fn what_the_device_says_is_passed_on() {
    let mut rig = rig_with("modbus", MAP);
    let master = rig.connect();
    assert_eq!(ask(&mut rig, master, b"\x06\0\0\0\x01"), [b"\x86\x0a"], "no device, no way to it");
    let device = rig.connect_to(1);
    rig.settle();
    for (answer, exception) in [(b"-", 6), (b"?", 11)] {
        send(&mut rig, master, b"\x06\0\0\0\x01");
        rig.send(device, answer);
        assert_eq!(replies(&mut rig, master), [[0x86, exception]]);
    }
    send(&mut rig, master, b"\x06\0\0\0\x01");
    rig.half_close(device);
    assert_eq!(replies(&mut rig, master), [b"\x86\x0b"], "it was sent, and then the device was lost");
    assert_eq!(ask(&mut rig, master, b"\x06\0\0\x03\xe9"), [b"\x86\x03"], "beyond the limits: not sent");
    rig.wind_up();
}

#[test]
fn several_devices_tags_are_one_answer_and_the_first_refusal_wins() {
    let mut rig = rig_with("modbus", MAP);
    let (master, device) = (rig.connect(), rig.connect_to(1));
    rig.settle();
    let write = b"\x10\0\0\0\x03\x06\0\x0a\0\x14\0\x1e";
    assert_eq!(ask(&mut rig, master, write), [b""; 0]);
    assert_eq!(orders(&mut rig, device), "10\n20\n");
    rig.send(device, b"+");
    assert_eq!(replies(&mut rig, master), [b""; 0], "one has confirmed, the other not yet");
    rig.send(device, b"+");
    assert_eq!(replies(&mut rig, master), [b"\x10\0\0\0\x03"]);
    assert_eq!(ask(&mut rig, master, b"\x03\0\0\0\x03"), [b"\x03\x06\0\x0a\0\x14\0\x1e"]);

    send(&mut rig, master, write);
    rig.send(device, b"-?");
    assert_eq!(replies(&mut rig, master), [b"\x90\x06"]);
    orders(&mut rig, device);

    // One that is outside the limits: nothing is written, and nobody is asked.
    assert_eq!(ask(&mut rig, master, b"\x10\0\0\0\x03\x06\0\x01\xff\xff\0\x01"), [b"\x90\x03"]);
    assert_eq!(orders(&mut rig, device), "");
    assert_eq!(ask(&mut rig, master, b"\x03\0\x02\0\x01"), [b"\x03\x02\0\x1e"]);
    rig.wind_up();
}

/// Also where the device belongs to another shard.
#[test]
fn what_a_device_could_not_be_sent_is_refused_before_anything_is_written() {
    for count in [1, 2] {
        let mut shards = shards_with(count, "modbus", MAP);
        let mut of_master = shards.pop().expect("there is a shard");
        let mut of_device = shards.pop();
        let device = of_device.as_mut().unwrap_or(&mut of_master).connect_to(1);
        of_device.iter_mut().for_each(Rig::settle);
        let master = of_master.connect();
        ask(&mut of_master, master, b"\x06\0\x02\0\x1e");
        // To two tags of the device and one of nobody's; the second does not fit.
        let write = b"\x10\0\0\0\x03\x06\0\x0a\x03\x85\0\x1f";
        assert_eq!(ask(&mut of_master, master, write), [b"\x90\x03"], "{count} shards");
        of_device.iter_mut().for_each(Rig::settle);
        assert_eq!(orders(of_device.as_mut().unwrap_or(&mut of_master), device), "", "{count} shards");
        assert_eq!(ask(&mut of_master, master, b"\x03\0\x02\0\x01"), [b"\x03\x02\0\x1e"]);
        of_master.wind_up();
    }
}

#[test]
fn function_23_reads_what_the_device_has_confirmed() {
    let mut rig = rig_with("modbus", MAP);
    let (master, device) = (rig.connect(), rig.connect_to(1));
    rig.settle();
    assert_eq!(ask(&mut rig, master, b"\x17\0\0\0\x01\0\0\0\x01\x02\0\x63"), [b""; 0]);
    rig.send(device, b"+");
    assert_eq!(replies(&mut rig, master), [b"\x17\x02\0\x63"]);
    orders(&mut rig, device);
    // What is read besides has no value: nothing is written.
    assert_eq!(ask(&mut rig, master, b"\x17\0\0\0\x02\0\0\0\x01\x02\0\x64"), [b"\x97\x04"]);
    assert_eq!(orders(&mut rig, device), "");
    rig.wind_up();
}

#[test]
fn a_broadcast_reaches_devices_and_nobody_waits() {
    let mut rig = rig_with("modbus-rtu", MAP);
    let (master, device) = (rig.connect(), rig.connect_to(1));
    rig.settle();
    let frame = |unit: u8, pdu: &[u8]| [&[unit], pdu, &super::rtu::trailer(unit, pdu)].concat();
    rig.send(master, frame(0, b"\x06\0\0\0\x2a"));
    assert_eq!(orders(&mut rig, device), "42\n");
    rig.send(master, frame(1, b"\x06\0\x02\0\x07"));
    rig.settle();
    assert_eq!(rig.line(master).received, frame(1, b"\x06\0\x02\0\x07"), "before the device has confirmed");
    rig.line(master).received.clear();
    rig.send(device, b"+");
    rig.settle();
    assert!(rig.line(master).received.is_empty());
    assert!(rig.sample("d/speed").value.same(&Value::Int(42)));
    rig.wind_up();
}

const WATCHED: &str = r#"
    [[modbus.unit]]
    id = 2
    holdings = { size = 3, watchdog = "5s", safe = 9 }
    inputs = 3
    [[modbus.map]]
    unit = 1
    address = "holding:0"
    tag = "d/speed"
    type = "u16"
    watchdog = "2s"
    safe = 0
    [[modbus.map]]
    unit = 1
    address = "holding:1"
    tag = "mine"
    type = "u16"
    watchdog = "3s"
    safe = 33
"#;

fn check(rig: &Rig, tag: &str, value: Value) {
    let found = rig.sample(tag).value;
    assert!(found.same(&value), "{tag}: {found} instead of {value}");
}

#[test]
fn what_no_master_writes_in_time_takes_its_safe_value_once() {
    let second = Duration::from_secs(1);
    let mut rig = rig_with("modbus", WATCHED);
    let master = rig.connect();
    // The same value again and again is a sign of life, too.
    for _ in 0..10 {
        rig.advance(second);
        assert_eq!(ask(&mut rig, master, b"\x06\0\x01\0\x05"), [b"\x06\0\x01\0\x05"]);
    }
    rig.advance(Duration::from_millis(2_999));
    check(&rig, "mine", Value::Int(5));
    rig.advance(Duration::from_millis(1));
    check(&rig, "mine", Value::Int(33));
    // By hand, without the master: it stays.
    ask(&mut rig, master, b"\x06\0\x01\0\x06");
    rig.advance(3 * second);
    check(&rig, "mine", Value::Int(33));
    rig.advance(20 * second);
    assert_eq!(ask(&mut rig, master, b"\x06\0\x01\0\x07"), [b"\x06\0\x01\0\x07"]);
    rig.advance(Duration::from_millis(2_999));
    check(&rig, "mine", Value::Int(7));
    rig.advance(Duration::from_millis(1));
    check(&rig, "mine", Value::Int(33));
    rig.wind_up();
}

#[test]
fn a_device_that_comes_back_is_given_its_safe_value() {
    let mut rig = rig_with("modbus", WATCHED);
    rig.advance(Duration::from_secs(9));
    let device = rig.connect_to(1);
    assert_eq!(orders(&mut rig, device), "");
    rig.advance(Duration::from_secs(2));
    assert_eq!(orders(&mut rig, device), "0\n");
    rig.send(device, b"+");
    rig.advance(Duration::from_secs(20));
    assert_eq!(orders(&mut rig, device), "", "once");
    check(&rig, "d/speed", Value::Int(0));
    rig.wind_up();
}

#[test]
fn a_watched_area_of_raw_memory_falls_back_as_a_whole() {
    let mut rig = rig_with("modbus", WATCHED);
    let master = rig.connect();
    let to_two = |pdu: &[u8]| [&[0, 1, 0, 0, 0, pdu.len() as u8 + 1, 2], pdu].concat();
    let line = |rig: &mut Rig| {
        rig.send(master, to_two(b"\x03\0\0\0\x03"));
        replies(rig, master).concat()
    };
    assert_eq!(line(&mut rig), b"\x03\x06\0\0\0\0\0\0");
    rig.advance(Duration::from_secs(5));
    assert_eq!(line(&mut rig), b"\x03\x06\0\x09\0\x09\0\x09");
    rig.send(master, to_two(b"\x06\0\x01\0\x05"));
    assert_eq!(replies(&mut rig, master), [b"\x06\0\x01\0\x05"]);
    rig.advance(Duration::from_millis(4_999));
    assert_eq!(line(&mut rig), b"\x03\x06\0\x09\0\x05\0\x09");
    rig.advance(Duration::from_millis(1));
    assert_eq!(line(&mut rig), b"\x03\x06\0\x09\0\x09\0\x09");
    rig.wind_up();
}
