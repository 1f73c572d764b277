//! Masters on one side, a device on the other, both played by the test. The master's units 5 and 6 are the
//! device `m`, unit 7 on its line; 6 shares answers for half a second.

use std::sync::Arc;
use std::time::Duration;

use super::super::figures::FleetFigures;
use super::super::{sessions, settings};
use super::*;
use crate::base::section::Document;
use crate::engine::ConnKey;
use crate::engine::rig::{Rig, RigSettings};
use crate::protocols::by_scheme;
use crate::tags::value::{Quality, Sample, Value};
use crate::tags::{Declared, OwnerId};

const UNITS: &str = "
    [[modbus.proxy]]
    unit = 5
    device = 'm'
    [[modbus.proxy]]
    unit = 6
    device = 'm'
    max_age = '500ms'
";

/// A value that is polled each second, in one request.
const SPEED: &str = "
    [[device.tag]]
    name = 'speed'
    address = 'holding:0'
    type = 'u16'
    access = 'rw'
    [[device.tag]]
    name = 'total'
    address = 'holding:1'
    type = 'u32'
";

struct Plant {
    rig: Rig,
    device: ConnKey,
    figures: Arc<FleetFigures>,
}

impl Plant {
    fn new(keys: &str, points: &str) -> Plant {
        let text = format!(
            "[[device]]\nname = 'm'\nurl = 'modbus://10.0.0.7'\nunit = 7\nretries = 0\n{keys}\n{points}"
        );
        let document = Document::parse("plant", &text);
        let mut declared = Declared::default();
        let root = document.root();
        let (fleet, wrong) = settings::read(&root, &mut declared, &|_| unreachable!("no file is named"));
        root.finish();
        assert_eq!((document.errors(), wrong), (Vec::new(), Vec::new()));
        let figures = Arc::new(FleetFigures::new(&fleet));
        let line = by_scheme("line").unwrap().listener(None, &mut Document::parse("line", "").root());
        let owners = fleet.names.clone();
        let rig = RigSettings { owners, declared, shared: UNITS, more: vec![line], ..RigSettings::default() };
        let mut rig = Rig::with("modbus", rig);
        let lines: Vec<_> = sessions(fleet.lines, &figures, rig.tags(), Tick::default()).collect();
        lines.into_iter().for_each(|session| rig.engine.house(session));
        rig.settle();
        let device = rig.answer_dial();
        Plant { rig, device, figures }
    }

    /// With the points, of which the first poll has been answered: the speed is 1, the total 2.
    fn polled(keys: &str) -> Plant {
        let mut plant = Plant::new(keys, SPEED);
        assert_eq!(plant.asked(), [POLL]);
        plant.answer(0, b"\x03\x06\0\x01\0\0\0\x02");
        plant.expect_speed(1, Quality::Good);
        plant
    }

    fn master(&mut self) -> ConnKey {
        self.rig.connect()
    }

    /// A master asks something of a unit.
    fn ask(&mut self, master: ConnKey, unit: u8, pdu: &[u8]) {
        self.rig.send(master, [&[0, 9, 0, 0, 0, pdu.len() as u8 + 1, unit], pdu].concat());
        self.rig.settle();
    }

    /// What it was answered since.
    fn replies(&mut self, master: ConnKey) -> Vec<Vec<u8>> {
        self.frames(master).into_iter().map(|(_, _, pdu)| pdu).collect()
    }

    /// What the device was asked since.
    fn asked(&mut self) -> Vec<Vec<u8>> {
        let frames = self.frames(self.device);
        let pdu = |(_, unit, pdu)| {
            assert_eq!(unit, 7, "the device is asked as the unit that it is on its line");
            pdu
        };
        frames.into_iter().map(pdu).collect()
    }

    fn frames(&mut self, key: ConnKey) -> Vec<(u16, u8, Vec<u8>)> {
        self.rig.settle();
        let received = std::mem::take(&mut self.rig.line(key).received);
        let mut rest = &received[..];
        let mut frames = Vec::new();
        while let [high, low, 0, 0, 0, length, unit, ..] = *rest {
            let end = 6 + usize::from(length);
            frames.push((u16::from_be_bytes([high, low]), unit, rest[7..end].to_vec()));
            rest = &rest[end..];
        }
        assert!(rest.is_empty(), "half a frame: {rest:02x?}");
        frames
    }

    /// The device answers the request of that number, counted from the first.
    fn answer(&mut self, number: u8, pdu: &[u8]) {
        self.answer_as(number, 7, pdu);
    }

    fn answer_as(&mut self, number: u8, unit: u8, pdu: &[u8]) {
        self.rig.send(self.device, [&[0, number + 1, 0, 0, 0, pdu.len() as u8 + 1, unit], pdu].concat());
        self.rig.settle();
    }

    fn advance(&mut self, ms: u64) {
        self.rig.advance(Duration::from_millis(ms));
    }

    #[track_caller]
    fn expect_speed(&mut self, value: i64, quality: Quality) {
        self.rig.settle();
        let sample: Sample = self.rig.sample("m/speed");
        assert!(sample.value.same(&Value::Int(value)), "{} instead of {value}", sample.value);
        assert_eq!(sample.quality, quality);
    }
}

const POLL: &[u8] = b"\x03\0\0\0\x03";
const READ: &[u8] = b"\x03\0\x64\0\x01";
const READ_REPLY: &[u8] = b"\x03\x02\x12\x34";
const WRITE: &[u8] = b"\x06\0\0\0\x2a";
const NONE: [&[u8]; 0] = [];

#[test]
fn every_function_is_passed_on_and_its_answer_comes_back_as_it_is() {
    #[rustfmt::skip]
    let table: [(&[u8], &[u8]); 14] = [
        (b"\x01\0\0\0\x03",                           b"\x01\x01\x05"),
        (b"\x02\0\0\0\x03",                           b"\x02\x01\x05"),
        (READ,                                        READ_REPLY),
        (b"\x04\0\0\0\x01",                           b"\x04\x02\x12\x34"),
        (b"\x05\0\x07\xff\0",                         b"\x05\0\x07\xff\0"),
        (b"\x06\0\x07\0\x01",                         b"\x06\0\x07\0\x01"),
        (b"\x0f\0\x07\0\x03\x01\x05",                 b"\x0f\0\x07\0\x03"),
        (b"\x10\0\x07\0\x01\x02\0\x05",               b"\x10\0\x07\0\x01"),
        (b"\x16\0\x07\0\xf2\0\x25",                   b"\x16\0\x07\0\xf2\0\x25"),
        (b"\x17\0\0\0\x01\0\x07\0\x01\x02\0\x05",     b"\x17\x02\x12\x34"),
        (b"\x2b\x0e\x01\0",                           b"\x2b\x0e\x01\x01\0\0\x01\0\x02ab"),
        (READ,                                        b"\x83\x02"),
        (b"\x06\0\x07\0\x01",                         b"\x86\x06"),
        // Of a code that the standard does not name.
        (READ,                                        b"\x83\x63"),
    ];
    let mut plant = Plant::new("", "");
    let master = plant.master();
    for (number, (request, reply)) in table.into_iter().enumerate() {
        plant.ask(master, 5, request);
        assert_eq!(plant.asked(), [request]);
        assert_eq!(plant.replies(master), NONE);
        plant.answer(number as u8, reply);
        assert_eq!(plant.replies(master), [reply], "{request:02x?}");
    }
    // What is no request does not reach it.
    for (request, reply) in [(&b"\x63"[..], b"\xe3\x01"), (b"\x03\0\0\0\0", b"\x83\x03")] {
        plant.ask(master, 5, request);
        assert_eq!((plant.asked(), plant.replies(master)), (vec![], vec![reply.to_vec()]));
    }
    plant.rig.wind_up();
}

#[test]
fn replies_come_in_the_order_of_the_requests() {
    let mut plant = Plant::new("window = 4", "");
    let master = plant.master();
    for unit in [5, 9, 6] {
        plant.ask(master, unit, READ);
    }
    assert_eq!((plant.asked(), plant.frames(master)), (vec![READ.to_vec()], vec![]), "one after the other");
    plant.answer(0, READ_REPLY);
    assert_eq!(plant.frames(master), [(9, 5, READ_REPLY.to_vec()), (9, 9, b"\x83\x0a".to_vec())]);
    assert_eq!(plant.asked(), [READ], "without max_age nothing is kept");
    plant.answer(1, b"\x83\x04");
    assert_eq!(plant.frames(master), [(9, 6, b"\x83\x04".to_vec())]);
    plant.rig.wind_up();
}

#[test]
fn equal_reads_under_way_share_an_answer() {
    let mut plant = Plant::new("", "");
    let masters: Vec<ConnKey> = (0..10).map(|_| plant.master()).collect();
    // The first is sent; the other read waits for it, and two share it.
    plant.ask(masters[0], 5, READ);
    plant.ask(masters[1], 5, b"\x03\0\x64\0\x02");
    plant.ask(masters[2], 6, b"\x03\0\x64\0\x02");
    for &master in &masters[3..] {
        plant.ask(master, 5 + u8::from(master.index % 2 == 0), READ);
    }
    assert_eq!(plant.asked(), [READ]);
    plant.answer(0, READ_REPLY);
    assert_eq!(plant.replies(masters[0]), [READ_REPLY]);
    for &master in &masters[3..] {
        assert_eq!(plant.replies(master), [READ_REPLY]);
    }
    assert_eq!(plant.asked(), [b"\x03\0\x64\0\x02"]);
    plant.answer(1, b"\x83\x02");
    assert_eq!(plant.replies(masters[1]), [b"\x83\x02"]);
    assert_eq!(plant.replies(masters[2]), [b"\x83\x02"]);
    assert_eq!(plant.asked(), NONE);
    plant.rig.wind_up();
}

#[test]
fn an_answer_that_is_young_enough_does() {
    let mut plant = Plant::new("", "");
    let master = plant.master();
    plant.ask(master, 6, READ);
    plant.advance(300);
    plant.answer(0, READ_REPLY);
    plant.asked();
    // By the age of the answer, not of the question.
    plant.advance(499);
    plant.ask(master, 6, READ);
    assert_eq!((plant.asked(), plant.replies(master)), (vec![], vec![READ_REPLY.to_vec(); 2]));
    // Who wants it fresh gets it fresh, and the other one has that then.
    plant.ask(master, 5, READ);
    assert_eq!(plant.asked(), [READ]);
    plant.answer(1, b"\x03\x02\x56\x78");
    plant.advance(1);
    plant.ask(master, 6, READ);
    assert_eq!(plant.asked(), [READ], "nobody said that the second answer would be of use");
    plant.answer(2, READ_REPLY);
    plant.replies(master);
    // A refusal is nobody else's.
    plant.ask(master, 6, b"\x04\0\0\0\x01");
    plant.answer(3, b"\x84\x06");
    plant.ask(master, 6, b"\x04\0\0\0\x01");
    assert_eq!(plant.asked().len(), 2);
    plant.answer(4, b"\x84\x06");
    // After a write nothing from before is told.
    plant.ask(master, 5, WRITE);
    plant.answer(5, WRITE);
    plant.ask(master, 6, READ);
    assert_eq!(plant.asked(), [WRITE, READ]);
    plant.rig.wind_up();
}

#[test]
fn who_has_written_reads_what_was_asked_for_after_it() {
    let mut plant = Plant::new("window = 3", "");
    let (reader, writer) = (plant.master(), plant.master());
    plant.ask(reader, 6, READ);
    plant.ask(writer, 5, WRITE);
    plant.advance(1);
    plant.answer(1, WRITE);
    plant.advance(1);
    plant.ask(writer, 6, READ);
    assert_eq!(plant.asked(), [READ, WRITE, READ], "the read under way may show what was before");
    plant.answer(0, READ_REPLY);
    assert_eq!(plant.replies(reader), [READ_REPLY]);
    plant.ask(reader, 6, READ);
    plant.answer(2, b"\x03\x02\x56\x78");
    assert_eq!(plant.replies(writer), [WRITE, b"\x03\x02\x56\x78"]);
    assert_eq!(plant.replies(reader), [b"\x03\x02\x56\x78"], "nor is that one kept");
    plant.rig.wind_up();
}

#[test]
fn writes_go_first_in_the_order_in_which_they_came() {
    let mut plant = Plant::new("", SPEED);
    let (one, two, people) = (plant.master(), plant.master(), plant.rig.connect_to(1));
    // The first poll is under way.
    assert_eq!(plant.asked(), [POLL]);
    plant.ask(one, 5, READ);
    plant.ask(two, 5, WRITE);
    plant.rig.ask(people, "SET m/speed 43\n");
    plant.answer(0, b"\x03\x06\0\x01\0\0\0\x02");
    assert_eq!(plant.asked(), [WRITE]);
    plant.answer(1, WRITE);
    assert_eq!(plant.asked(), [b"\x06\0\0\0\x2b"]);
    plant.expect_speed(42, Quality::Good);
    plant.answer(2, b"\x06\0\0\0\x2b");
    assert_eq!(plant.rig.take(people), "OK\n");
    plant.expect_speed(43, Quality::Good);
    assert_eq!(plant.asked(), [READ]);
    plant.rig.wind_up();
}

#[test]
fn no_poll_from_before_undoes_what_a_master_wrote() {
    let mut plant = Plant::polled("window = 2");
    let master = plant.master();
    plant.advance(1_000);
    assert_eq!(plant.asked(), [POLL]);
    plant.ask(master, 5, WRITE);
    plant.advance(1);
    assert_eq!(plant.asked(), [WRITE]);
    plant.expect_speed(1, Quality::Good);
    plant.answer(2, WRITE);
    plant.expect_speed(42, Quality::Good);
    plant.answer(1, b"\x03\x06\0\x01\0\0\0\x03");
    plant.expect_speed(42, Quality::Good);
    assert!(plant.rig.sample("m/total").value.same(&Value::Int(3)), "nobody wrote that");
    plant.advance(1_000);
    plant.answer(3, b"\x03\x06\0\x2b\0\0\0\x03");
    plant.expect_speed(43, Quality::Good);
    plant.rig.wind_up();
}

/// What a master's write says of the tags: those that it changes in part are in doubt until they are polled.
#[test]
fn a_tag_is_known_by_a_write_that_covers_it() {
    use Quality::{Good, Uncertain as Doubt};
    type Known = (i64, Quality);
    #[rustfmt::skip]
    let table: [(&[u8], &[u8], Known, Known); 9] = [
        (b"\x06\0\0\0\x2a", b"\x06\0\0\0\x2a", (42, Good), (2, Good)),
        // The device has limited it.
        (b"\x06\0\0\0\x2a", b"\x06\0\0\0\x0a", (10, Good), (2, Good)),
        (b"\x10\0\0\0\x03\x06\0\x2a\0\x01\0\0", b"\x10\0\0\0\x03", (42, Good), (0x1_0000, Good)),
        (b"\x17\0\x09\0\x01\0\x01\0\x02\x04\0\0\0\x07", b"\x17\x02\0\0", (1, Good), (7, Good)),
        // Half of the total, some bits of the speed, what no tag shows, what was refused, what failed.
        (b"\x06\0\x02\0\x2a", b"\x06\0\x02\0\x2a", (1, Good), (2, Doubt)),
        (b"\x16\0\0\0\xf2\0\x25", b"\x16\0\0\0\xf2\0\x25", (1, Doubt), (2, Good)),
        (b"\x06\0\x09\0\x2a", b"\x06\0\x09\0\x2a", (1, Good), (2, Good)),
        (b"\x06\0\0\0\x2a", b"\x86\x03", (1, Good), (2, Good)),
        (b"\x06\0\0\0\x2a", b"\x86\x04", (1, Doubt), (2, Good)),
    ];
    for (request, reply, (speed, is_speed), (total, is_total)) in table {
        let mut plant = Plant::polled("");
        let master = plant.master();
        plant.ask(master, 5, request);
        plant.answer(1, reply);
        assert_eq!(plant.replies(master), [reply]);
        plant.expect_speed(speed, is_speed);
        let sample = plant.rig.sample("m/total");
        assert!(sample.value.same(&Value::Int(total)), "{request:02x?}");
        assert_eq!(sample.quality, is_total, "{request:02x?}");
        plant.rig.wind_up();
    }
}

#[test]
fn what_is_written_to_a_device_that_was_paused_meanwhile_makes_nothing_good() {
    let mut plant = Plant::polled("");
    let master = plant.master();
    plant.ask(master, 5, WRITE);
    plant.figures.of(OwnerId(0)).set_enabled(false);
    plant.advance(10);
    plant.answer(1, WRITE);
    assert_eq!(plant.replies(master), [WRITE], "it is done all the same");
    plant.advance(2_000);
    plant.expect_speed(1, Quality::Uncertain);
    plant.rig.wind_up();
}

#[test]
fn what_does_not_fit_the_question_is_no_answer() {
    let mut plant = Plant::new("", "");
    let master = plant.master();
    plant.ask(master, 5, READ);
    plant.answer(6, READ_REPLY);
    plant.answer_as(0, 8, READ_REPLY);
    plant.answer(0, b"\x03\x04\x12\x34\x56\x78");
    plant.answer(0, b"\x04\x02\x12\x34");
    assert_eq!(plant.replies(master), NONE);
    plant.advance(1_000);
    assert_eq!(plant.replies(master), [b"\x83\x0b"]);
    plant.answer(0, READ_REPLY);
    assert_eq!(plant.replies(master), NONE, "too late");
    assert_eq!(plant.asked(), [READ], "and it is not asked again");
    plant.rig.wind_up();
}

/// It may be the answer to what another master wrote before.
#[test]
fn without_ids_another_value_is_no_answer() {
    let mut plant = Plant::polled("echo_tid = false");
    let master = plant.master();
    plant.ask(master, 5, WRITE);
    plant.answer(1, b"\x06\0\0\0\x0a");
    assert_eq!(plant.replies(master), NONE);
    plant.answer(1, WRITE);
    assert_eq!(plant.replies(master), [WRITE]);
    plant.expect_speed(42, Quality::Good);
    plant.rig.wind_up();
}

#[test]
fn a_device_that_cannot_be_asked_is_no_path() {
    const NO_PATH: &[u8] = b"\x83\x0a";
    let mut plant = Plant::new("", "");
    let (master, other) = (plant.master(), plant.master());
    // Paused.
    plant.figures.of(OwnerId(0)).set_enabled(false);
    plant.ask(master, 5, READ);
    assert_eq!((plant.asked(), plant.replies(master)), (vec![], vec![NO_PATH.to_vec()]));
    plant.figures.of(OwnerId(0)).set_enabled(true);
    // It does not answer, which two requests in a row show; others that wait are not sent then.
    for request in [READ, WRITE] {
        plant.ask(master, 5, request);
        plant.advance(1_000);
        assert_eq!(plant.replies(master), [[request[0] | 0x80, 0x0b]]);
        assert_eq!(plant.asked(), [request]);
    }
    plant.ask(other, 5, READ);
    assert_eq!((plant.asked(), plant.replies(other)), (vec![], vec![NO_PATH.to_vec()]));
    // It is looked for, though nothing of it is polled, and found.
    plant.advance(1_000);
    assert_eq!(plant.asked(), [b"\x03\0\0\0\x01"]);
    plant.answer(2, b"\x83\x02");
    plant.ask(other, 5, READ);
    assert_eq!(plant.asked(), [READ]);
    plant.ask(master, 5, WRITE);
    // The connection is lost: what was sent may have been done, what was not sent is not done.
    let device = plant.device;
    plant.rig.break_off(device);
    plant.rig.settle();
    assert_eq!(
        (plant.replies(other), plant.replies(master)),
        (vec![b"\x83\x0b".to_vec()], vec![b"\x86\x0a".to_vec()])
    );
    plant.ask(other, 5, READ);
    assert_eq!(plant.replies(other), [NO_PATH]);
    plant.rig.wind_up();
}

#[test]
fn what_waits_is_bounded_in_number_and_time() {
    let mut plant = Plant::new("timeout = '10s'\nwrite_expiry = '2s'", "");
    let first = plant.master();
    plant.ask(first, 5, READ);
    let masters: Vec<ConnKey> = (0..MOST_WAITING + 1).map(|_| plant.master()).collect();
    for (number, &master) in masters.iter().enumerate() {
        let request = [3 + 3 * (number as u8 % 2), 0, number as u8, 0, 1];
        plant.ask(master, 5, &request);
    }
    let (&last, waiting) = masters.split_last().unwrap();
    assert_eq!(plant.replies(last), [b"\x83\x06"], "busy");
    // Who only listens in needs no room.
    plant.ask(last, 5, READ);
    plant.advance(2_000);
    for (number, &master) in waiting.iter().enumerate() {
        assert_eq!(plant.replies(master), [[0x83 + 3 * (number as u8 % 2), 0x0a]], "it waited for too long");
    }
    assert_eq!(plant.asked(), [READ]);
    plant.answer(0, READ_REPLY);
    assert_eq!(plant.replies(last), [READ_REPLY]);
    assert_eq!(plant.asked(), NONE, "what has waited is never sent");
    plant.rig.wind_up();
}

#[test]
fn masters_and_polls_take_turns() {
    // As many polls as the line can carry, and more than as many requests of masters.
    let mut plant = Plant::new("rate = '1ms'", SPEED);
    let masters: Vec<ConnKey> = (0..4).map(|_| plant.master()).collect();
    for (number, &master) in masters.iter().enumerate() {
        plant.ask(master, 5, &[3, 1, number as u8, 0, 1]);
    }
    let mut seen = Vec::new();
    for number in 0..40_u8 {
        let asked = plant.asked();
        let [request] = &asked[..] else { panic!("{asked:02x?}") };
        seen.push(request[1]);
        plant.advance(5);
        match &request[..] {
            POLL => plant.answer(number, b"\x03\x06\0\x01\0\0\0\x02"),
            _ => {
                plant.answer(number, READ_REPLY);
                let master = masters[usize::from(request[2])];
                assert_eq!(plant.replies(master), [READ_REPLY]);
                plant.ask(master, 5, request);
            }
        }
    }
    assert_eq!(seen[..6], [0, 1, 0, 1, 0, 1]);
    assert_eq!(seen.iter().filter(|from| **from == 1).count(), 20, "half of them each");
    plant.rig.wind_up();
}
