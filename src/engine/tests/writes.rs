//! Writes to tags of a polled device, with a driver whose device is the test: each byte is an answer.

use std::collections::VecDeque;

use crate::base::time::Timestamp;
use crate::tags::name::TagName;
use crate::tags::value::{Input, Kind, Limits, Number, Quality};
use crate::tags::{Access, Declaration, OwnerId};

use super::*;

/// `+` confirms the oldest order, and the device reports the value; `-` refuses it; `2` confirms it twice;
/// `r` reports nothing but the value. Orders show up as lines.
#[derive(Default)]
struct Driver {
    orders: VecDeque<WriteOrder>,
}

impl Driver {
    fn report(cx: &mut Context<'_>, order: &WriteOrder) {
        cx.report(order.tag, order.value.as_input(), Quality::Good, Timestamp(7));
    }
}

impl Session for Driver {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Flow {
        cx.attach(OwnerId(0), Arc::new(Undemanding));
        Flow::Continue
    }

    fn on_bytes(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Consumed {
        for byte in input {
            let order = self.orders.pop_front().expect("an order to answer");
            match byte {
                b'+' => {
                    Driver::report(cx, &order);
                    cx.settle(order.ticket, Ok(()));
                }
                b'-' => cx.settle(
                    order.ticket,
                    Err(Refusal::Device { reason: "illegal data address".into(), code: Some(2) }),
                ),
                b'2' => {
                    cx.settle(order.ticket, Ok(()));
                    cx.settle(order.ticket, Err(Refusal::Timeout));
                }
                b'r' => {
                    Driver::report(cx, &order);
                    self.orders.push_front(order);
                }
                _ => unreachable!("not an answer"),
            }
        }
        Consumed { bytes: input.len(), flow: Flow::Continue }
    }

    fn on_write_order(&mut self, cx: &mut Context<'_>, order: WriteOrder) -> Flow {
        cx.put(format!("{}\n", order.value).as_bytes());
        self.orders.push_back(order);
        Flow::Continue
    }
}

struct DriverAcceptor;

impl Acceptor for DriverAcceptor {
    fn accept(&self, _peer: SocketAddr) -> Box<dyn Session> {
        Box::new(Driver::default())
    }

    fn refuse(&self, _refusal: &Refusal, _out: &mut String) {}
}

const OFFLINE: &str =
    "ERR offline the device is not connected, silent, paused or busy for write_expiry; nothing was sent";
const TIMEOUT: &str = "ERR timeout the device did not answer in time; the write may have happened";

/// A rig whose tag `d/out`, an int from 0 to 100, belongs to a device that is not connected yet.
fn rig() -> Rig {
    let more: Vec<Box<dyn Acceptor>> = vec![Box::new(DriverAcceptor)];
    let rig = Rig::with("line", RigSettings { owners: vec!["dev".into()], more, ..RigSettings::default() });
    let limits = Limits::new(Some(Number::Int(0)), Some(Number::Int(100))).unwrap();
    let declaration =
        Declaration { kind: Kind::Int, limits, owner: Some(OwnerId(0)), ..Declaration::default() };
    rig.declare("d/out", declaration.clone());
    rig.declare("d/in", Declaration { access: Access::ReadOnly, ..declaration });
    rig
}

#[test]
fn a_write_is_confirmed_by_the_device() {
    let mut rig = rig();
    let (asker, driver) = (rig.connect(), rig.connect_to(1));
    assert_eq!(rig.ask(asker, "SET d/out 5\nGET d/out\n"), "", "what comes after waits");
    assert_eq!(rig.take(driver), "5\n");
    assert_eq!(rig.sample("d/out").quality, Quality::Bad, "not before the device has it");
    rig.ask(driver, "+");
    assert_eq!(rig.take(asker), "OK\nOK 5 good 7\n");
    check(&mut rig, asker, "LIST d/out", &["TAG d/out int rw dev", "OK 1"]);
    rig.ask(asker, "SET d/out 6\n");
    rig.ask(driver, "-");
    assert_eq!(rig.take(asker), "ERR device illegal data address\n");
    check(&mut rig, asker, "GET d/out", &["OK 5 good 7"]);
    rig.wind_up();
}

#[test]
fn updates_flow_while_a_write_is_pending() {
    let mut rig = rig();
    let (asker, driver, other) = (rig.connect(), rig.connect_to(1), rig.connect());
    rig.ask(asker, "SUB #\n");
    assert_eq!(rig.ask(asker, "SET d/out 5\nPING 1\nSET d/out 6\nPING 2\nPING part"), "");
    check(&mut rig, other, "SET a 1 good 7", &["OK"]);
    assert_eq!(rig.take(asker), "UPD a 1 good 7\n");
    assert_eq!(rig.ask(driver, "r"), "5\n");
    assert_eq!(rig.take(asker), "UPD d/out 5 good 7\n");
    rig.advance(seconds(3_600));
    assert_eq!(rig.take(driver), "", "one order at a time");
    rig.ask(driver, "+");
    assert_eq!(rig.take(asker), "OK\nOK 1\n");
    rig.ask(driver, "+");
    assert_eq!(rig.take(asker), "OK\nOK 2\nUPD d/out 6 good 7\n");
    assert_eq!(rig.ask(asker, "ial\n"), "OK partial\n");
    rig.wind_up();
}

#[test]
fn many_ask_at_once() {
    let mut rig = rig();
    let driver = rig.connect_to(1);
    let askers: Vec<ConnKey> = (0..100).map(|_| rig.connect()).collect();
    for (number, &asker) in askers.iter().enumerate() {
        rig.send(asker, format!("SET d/out {number}\n"));
    }
    rig.settle();
    let orders: String = (0..100).map(|number| format!("{number}\n")).collect();
    assert_eq!(rig.take(driver), orders);
    rig.ask(driver, "+-".repeat(50).as_str());
    for (number, asker) in askers.into_iter().enumerate() {
        let reply = if number % 2 == 0 { "OK\n" } else { "ERR device illegal data address\n" };
        assert_eq!(rig.take(asker), reply);
    }
    rig.wind_up();
}

#[test]
fn what_is_refused_reaches_no_device() {
    let mut rig = rig();
    let asker = rig.connect();
    check(&mut rig, asker, "SET d/out 5", &[OFFLINE]);
    let driver = rig.connect_to(1);
    let value_only = "ERR bad-request this tag is written a value, without quality and time";
    check(&mut rig, asker, "SET d/out 5 good", &[value_only]);
    check(&mut rig, asker, "SET d/out 5 7", &[value_only]);
    check(&mut rig, asker, "SET d/out null bad", &[value_only]);
    check(&mut rig, asker, "SET d/out 101", &["ERR out-of-range the value is outside the tag's limits"]);
    check(&mut rig, asker, "SET d/out 101 good", &["ERR out-of-range the value is outside the tag's limits"]);
    let wrong = "ERR wrong-type the tag's type is int and cannot hold the value";
    check(&mut rig, asker, "SET d/out 1.5", &[wrong]);
    check(&mut rig, asker, "SET d/in 5", &["ERR read-only the tag cannot be written"]);
    assert_eq!(rig.take(driver), "");
    // What converts is sent as the tag's type.
    rig.ask(asker, "SET d/out 5.0\n");
    assert_eq!(rig.take(driver), "5\n");
    rig.wind_up();
}

#[test]
fn settling_twice_does_nothing() {
    let mut rig = rig();
    let (asker, driver) = (rig.connect(), rig.connect_to(1));
    rig.ask(asker, "SET d/out 5\n");
    rig.ask(driver, "2");
    assert_eq!(rig.take(asker), "OK\n");
    check(&mut rig, asker, "PING", &["OK"]);
    rig.wind_up();
}

#[test]
fn the_driver_goes() {
    let mut rig = rig();
    let (asker, driver) = (rig.connect(), rig.connect_to(1));
    // In one turn: asked first, gone before the order is handed out.
    rig.send(asker, "SET d/out 5\nPING\n");
    rig.half_close(driver);
    rig.settle();
    assert_eq!((rig.take(driver).as_str(), rig.take(asker)), ("", format!("{OFFLINE}\nOK\n")));
    check(&mut rig, asker, "SET d/out 5", &[OFFLINE]);

    let driver = rig.connect_to(1);
    rig.ask(asker, "SET d/out 5\nPING\n");
    assert_eq!(rig.take(driver), "5\n");
    rig.break_off(driver);
    rig.settle();
    assert_eq!(rig.take(asker), format!("{TIMEOUT}\nOK\n"), "it may have happened");
    rig.wind_up();
}

#[test]
fn a_driver_is_replaced() {
    let mut rig = rig();
    let (asker, old) = (rig.connect(), rig.connect_to(1));
    rig.ask(asker, "SET d/out 5\n");
    assert_eq!(rig.take(old), "5\n");
    let (new, other) = (rig.connect_to(1), rig.connect());
    rig.ask(other, "SET d/out 6\n");
    assert_eq!((rig.take(old).as_str(), rig.take(new).as_str()), ("", "6\n"));
    rig.half_close(old);
    rig.settle();
    assert_eq!(rig.take(asker), format!("{TIMEOUT}\n"), "its orders go with it");
    rig.ask(new, "+");
    assert_eq!(rig.take(other), "OK\n");
    rig.wind_up();
}

#[test]
fn who_asked_sends_no_more_and_is_answered() {
    let mut rig = rig();
    let (asker, driver) = (rig.connect(), rig.connect_to(1));
    rig.send(asker, "SET d/out 5\nPING\n");
    rig.half_close(asker);
    rig.settle();
    assert_eq!((rig.take(driver).as_str(), rig.line(asker).closed), ("5\n", None));
    rig.ask(driver, "+");
    assert_eq!((rig.take(asker).as_str(), rig.line(asker).closed), ("OK\nOK\n", Some(End::PeerClosed)));
    rig.wind_up();
}

#[test]
fn who_asked_is_gone_when_the_device_answers() {
    let mut rig = rig();
    let (asker, driver) = (rig.connect(), rig.connect_to(1));
    rig.ask(asker, "HELLO panel\nSET d/out 5\n");
    // Another takes its place, in its slot as well.
    let other = rig.connect();
    check(&mut rig, other, "HELLO panel", &["OK lumina 1"]);
    assert!(rig.line(asker).finished);
    rig.half_close(asker);
    rig.settle();
    let next = rig.connect();
    assert_eq!(next.index, asker.index);
    rig.take(asker);
    rig.ask(driver, "+");
    assert_eq!((rig.take(next).as_str(), rig.take(other).as_str(), rig.take(asker).as_str()), ("", "", ""));
    assert_eq!(rig.sample("d/out").quality, Quality::Good);
    rig.wind_up();
}

#[test]
fn a_frame_has_time_while_a_write_is_pending() {
    let mut rig = rig();
    let (asker, driver) = (rig.connect(), rig.connect_to(1));
    rig.ask(asker, "SET d/out 5\nPING part");
    rig.advance(seconds(100));
    rig.ask(driver, "+");
    assert_eq!(rig.take(asker), "OK\n");
    rig.advance(millis(29_999));
    assert_eq!(rig.ask(asker, "ial\n"), "OK partial\n");
    rig.wind_up();
}

/// A driver that dials, and dials again a second after its end.
struct Dialler;

/// What the device said, in a tag; and how the last connection ended.
impl Session for Dialler {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Flow {
        cx.attach(OwnerId(0), Arc::new(Undemanding));
        cx.put(b"hello device");
        Flow::Continue
    }

    fn on_bytes(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Consumed {
        let name = TagName::parse("d/said").unwrap();
        cx.write(name, Input::Int(input.len() as i64), None, Some(Timestamp(7))).unwrap();
        Consumed { bytes: input.len(), flow: Flow::Continue }
    }

    fn on_end(&mut self, cx: &mut Context<'_>, why: End) {
        let name = TagName::parse("d/end").unwrap();
        let text = Input::Text(why.to_string().into());
        cx.write(name, text, None, Some(Timestamp(7))).unwrap();
        cx.dial_at(cx.now().tick + seconds(1), endpoint(), Box::new(Dialler));
    }
}

fn endpoint() -> Endpoint {
    let address: SocketAddr = "10.0.0.2:502".parse().unwrap();
    Endpoint { host: address.into(), from: None, transport: Transport::Stream }
}

#[test]
fn connections_that_we_make() {
    let mut rig = rig();
    let watcher = rig.connect();
    rig.ask(watcher, "SUB d/end\nSUB d/said\n");
    rig.engine.dial_at(Tick::from_micros(500_000), endpoint(), Box::new(Dialler));
    rig.advance(millis(499));
    assert!(rig.lines.dialled.is_empty());
    rig.advance(millis(1));
    let (first, to) = rig.lines.dialled.pop().unwrap();
    assert_eq!(to, endpoint());

    // Refused; never answered, and then answered too late; made.
    let refused = Err(ErrorKind::ConnectionRefused);
    rig.turn_with(|engine, lines| engine.on_dialled(first, refused, lines));
    rig.settle();
    let update = |why: &str| format!("UPD d/end \"the connection could not be made ({why})\" good 7\n");
    assert_eq!(rig.take(watcher), update("connection refused"));
    rig.advance(seconds(1));
    let (second, _) = rig.lines.dialled.pop().unwrap();
    rig.advance(millis(DIAL_MS - 1));
    assert_eq!(rig.take(watcher), "");
    rig.advance(millis(1));
    assert_eq!(rig.take(watcher), update("timed out"));
    rig.turn_with(|engine, lines| engine.on_dialled(second, Ok(()), lines));
    assert_eq!(rig.take(second), "");
    check(&mut rig, watcher, "SET d/out 5", &[OFFLINE]);
    rig.advance(seconds(1));
    let (third, _) = rig.lines.dialled.pop().unwrap();
    rig.turn_with(|engine, lines| engine.on_dialled(third, Ok(()), lines));
    rig.settle();
    assert_eq!(rig.take(third), "hello device");
    rig.advance(seconds(3_600));
    rig.ask(third, "12345");
    assert_eq!(rig.take(watcher), "UPD d/said 5 good 7\n");
    rig.ask(watcher, "SET d/out 5\n");
    rig.half_close(third);
    rig.settle();
    let end = format!("{TIMEOUT}\nUPD d/end \"by the peer\" good 7\n");
    assert_eq!(rig.take(watcher), end);

    // A stop ends dialling, whatever the session wants.
    rig.advance(seconds(1));
    let (fourth, _) = rig.lines.dialled.pop().unwrap();
    rig.turn_with(|engine, lines| engine.stop(lines));
    rig.advance(seconds(60));
    assert_eq!(rig.line(fourth).closed, Some(End::Shutdown));
    assert!(rig.lines.dialled.is_empty() && rig.engine.is_empty());
    assert_eq!(rig.next, Tick::NEVER);
    rig.wind_up();
}
