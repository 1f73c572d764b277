//! Slaves on byte queues and virtual time.

use std::sync::Arc;
use std::time::Duration;

use super::faults::{FAULTS, Fault};
use super::plant::Plant;
use super::session::Reception;
use super::signals;
use super::spread::{Places, Spread};
use crate::base::time::Timestamp;
use crate::engine::rig::{RIG_EPOCH_MS, Rig, RigSettings};
use crate::engine::{Acceptor, ConnKey, End};
use crate::protocols::modbus::mbap::{self, Frame};
use crate::protocols::modbus::{Area, Pdu, Request, Response, Span};

const LATENCY: Duration = Duration::from_millis(20);
const TIMEOUT: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Slaves that are units of one address, all with the same fault, and a master.
struct Bench {
    rig: Rig,
    plant: Arc<Plant>,
    master: ConnKey,
    /// Milliseconds since the rig's time began.
    now_ms: i64,
    next_id: u16,
}

/// A frame that came, taken apart.
#[derive(Clone, Debug, PartialEq)]
struct Came {
    id: u16,
    unit: u8,
    pdu: Vec<u8>,
}

impl Bench {
    fn new(fault: Option<Fault>, latency: Duration) -> Bench {
        let places = Places::new(Spread::Units, 3, "127.0.0.1:1502".parse().unwrap()).unwrap();
        let plant = Arc::new(Plant::new(places, 1, vec![fault; 3], latency, TIMEOUT));
        let more: Vec<Box<dyn Acceptor>> = vec![Box::new(Reception::new(Arc::clone(&plant), 0))];
        let mut rig = Rig::with("line", RigSettings { more, ..RigSettings::default() });
        let master = rig.connect_to(1);
        Bench { rig, plant, master, now_ms: 0, next_id: 0 }
    }

    fn connect_again(&mut self) {
        self.master = self.rig.connect_to(1);
    }

    fn send(&mut self, unit: u8, request: Request<'_>) -> u16 {
        self.next_id += 1;
        let mut pdu = Pdu::new();
        request.encode(&mut pdu);
        let frame = [&mbap::header(self.next_id, unit, pdu.len())[..], &pdu].concat();
        self.rig.send(self.master, frame);
        self.next_id
    }

    fn read(&mut self, unit: u8) -> u16 {
        self.send(unit, read_request())
    }

    fn pass(&mut self, span: Duration) {
        self.rig.advance(span);
        self.now_ms += span.as_millis() as i64;
    }

    /// What came since the last call, if it is frames and nothing else.
    fn frames(&mut self) -> Option<Vec<Came>> {
        let bytes = std::mem::take(&mut self.rig.line(self.master).received);
        let (mut rest, mut came) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let frame = Frame::parse(rest).ok()??;
            came.push(Came { id: frame.transaction, unit: frame.unit, pdu: frame.pdu.to_vec() });
            rest = &rest[frame.bytes()..];
        }
        Some(came)
    }

    fn ids(&mut self) -> Vec<u16> {
        self.frames().expect("frames").iter().map(|came| came.id).collect()
    }

    fn is_closed(&mut self) -> bool {
        let line = self.rig.line(self.master);
        line.finished || line.closed.is_some()
    }

    fn deeds(&self, fault: Fault) -> u64 {
        self.plant.counts.of(fault).deeds.value()
    }
}

fn read_request() -> Request<'static> {
    Request::read(Area::Holding, Span { start: 10, quantity: 4 })
}

/// What that reads of a slave.
fn registers(slave: u32, ms: i64) -> Vec<u16> {
    let time = Timestamp(RIG_EPOCH_MS + ms);
    (10..14).map(|address| signals::value(slave, Area::Holding, address, time)).collect()
}

fn values(came: &Came) -> Vec<u16> {
    match Response::decode(&read_request(), &came.pdu) {
        Ok(Response::ReadHoldings(registers)) => registers.iter().collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_unit_answers_for_itself() {
    let mut bench = Bench::new(None, Duration::ZERO);
    let ids = [bench.read(2), bench.read(3), bench.read(1)];
    bench.rig.settle();
    let came = bench.frames().unwrap();
    assert_eq!(came.iter().map(|came| came.id).collect::<Vec<_>>(), ids);
    for (came, unit) in came.iter().zip([2_u8, 3, 1]) {
        assert_eq!((came.unit, values(came)), (unit, registers(unit.into(), 0)));
    }
    bench.pass(Duration::from_secs(1));
    bench.read(2);
    bench.send(4, read_request());
    bench.rig.settle();
    let came = bench.frames().unwrap();
    assert_eq!(values(&came[0]), registers(2, bench.now_ms));
    assert_eq!(came[1].pdu, [0x83, 10], "there is no unit 4");
    let counts = &bench.plant.counts;
    assert_eq!((counts.requests.value(), counts.answers.value(), counts.asked.value()), (5, 5, 3));
    assert_eq!((counts.elsewhere.value(), counts.exceptions.value()), (1, 1));
    bench.rig.wind_up();
}

#[test]
fn answers_come_after_the_latency() {
    let mut bench = Bench::new(None, LATENCY);
    for round in 0..50 {
        let asked_ms = bench.now_ms;
        let id = bench.read(1);
        bench.pass(LATENCY.mul_f64(0.75));
        assert_eq!(bench.frames(), Some(vec![]), "round {round}");
        bench.pass(LATENCY.mul_f64(0.5));
        let came = bench.frames().unwrap();
        assert_eq!(came.len(), 1, "round {round}");
        assert_eq!((came[0].id, values(&came[0])), (id, registers(1, asked_ms)));
    }
    bench.read(1);
    bench.rig.settle();
    let plant = Arc::clone(&bench.plant);
    bench.rig.wind_up();
    assert_eq!((plant.counts.answers.value(), plant.counts.unsent.value()), (50, 1));
}

#[test]
fn no_more_wait_than_a_window() {
    let mut bench = Bench::new(None, LATENCY);
    let ids: Vec<u16> = (0..18).map(|_| bench.read(1)).collect();
    bench.rig.settle();
    let came = bench.frames().unwrap();
    assert_eq!(came.iter().map(|came| came.id).collect::<Vec<_>>(), ids[16..]);
    assert!(came.iter().all(|came| came.pdu == [0x83, 6]), "{came:?}");
    bench.pass(LATENCY * 2);
    let mut late = bench.ids();
    late.sort_unstable();
    assert_eq!(late, ids[..16]);
    assert_eq!(bench.plant.counts.overruns.value(), 2);
    bench.rig.wind_up();
}

/// The rig sees to it that no more than the high-water mark is owed.
#[test]
fn a_master_that_takes_nothing_holds_up_itself() {
    for latency in [Duration::ZERO, LATENCY] {
        let mut bench = Bench::new(None, latency);
        bench.rig.shut_window(bench.master);
        for _ in 0..3_000 {
            bench.send(1, Request::read(Area::Holding, Span { start: 0, quantity: 125 }));
            bench.pass(MILLISECOND * 3);
        }
        bench.rig.open_window(bench.master, usize::MAX);
        bench.pass(TIMEOUT);
        let all: Vec<u16> = (1..=3_000).collect();
        let mut came = bench.ids();
        came.sort_unstable();
        assert_eq!(came, all, "{latency:?}");
        bench.rig.wind_up();
    }
}

#[test]
fn the_silent_are_there_and_say_nothing() {
    let mut bench = Bench::new(Some(Fault::Silent), LATENCY);
    for _ in 0..100 {
        bench.read(1);
        bench.pass(TIMEOUT);
    }
    assert_eq!(bench.frames(), Some(vec![]));
    assert!(!bench.is_closed());
    assert_eq!(bench.deeds(Fault::Silent), 100);
    bench.rig.wind_up();
}

#[test]
fn the_slow_answer_within_the_timeout() {
    let mut bench = Bench::new(Some(Fault::Slow), LATENCY);
    for _ in 0..50 {
        let id = bench.read(1);
        bench.pass(TIMEOUT / 2);
        assert_eq!(bench.frames(), Some(vec![]));
        bench.pass(TIMEOUT / 2);
        assert_eq!(bench.ids(), [id]);
    }
    bench.rig.wind_up();
}

/// A late answer comes after that to a later request, and holds what was true when it was asked for.
#[test]
fn the_late_are_overtaken() {
    let mut bench = Bench::new(Some(Fault::Late), LATENCY);
    let (mut waiting, mut late) = (Vec::new(), 0);
    for _ in 0..200 {
        let asked_ms = bench.now_ms;
        let id = bench.read(1);
        waiting.push((id, asked_ms));
        bench.pass(TIMEOUT);
        for came in bench.frames().unwrap() {
            let place = waiting.iter().position(|(id, _)| *id == came.id).expect("it was asked");
            let (_, asked_ms) = waiting.remove(place);
            assert_eq!(values(&came), registers(1, asked_ms));
            late += u64::from(came.id != id);
            assert!(came.id == id || bench.now_ms - asked_ms > TIMEOUT.as_millis() as i64);
        }
    }
    assert!((10..50).contains(&late), "{late} of 200");
    assert_eq!(bench.deeds(Fault::Late), late + waiting.len() as u64);
    bench.rig.wind_up();
}

#[test]
fn garbage_comes_now_and_then() {
    let mut bench = Bench::new(Some(Fault::Garbage), Duration::ZERO);
    let [mut right, mut none, mut no_frame, mut wrong] = [0; 4];
    for _ in 0..800 {
        let id = bench.read(1);
        bench.rig.settle();
        let Some(came) = bench.frames() else {
            no_frame += 1;
            continue;
        };
        let answers = |came: &&Came| {
            let fits = came.id == id && came.unit == 1;
            fits && Response::decode(&read_request(), &came.pdu).is_ok()
        };
        match came.iter().find(answers) {
            Some(answer) => {
                assert_eq!(values(answer), registers(1, bench.now_ms));
                right += 1;
            }
            None => none += 1,
        }
        wrong += came.iter().filter(|came| !answers(came)).count();
    }
    assert!(right > 600 && none > 10 && no_frame > 5 && wrong > 30, "{right} {none} {no_frame} {wrong}");
    assert!((60..140).contains(&bench.deeds(Fault::Garbage)), "{}", bench.deeds(Fault::Garbage));
    bench.rig.wind_up();
}

#[test]
fn the_cut_close_in_the_middle_or_at_once() {
    let mut bench = Bench::new(Some(Fault::Cut), Duration::ZERO);
    let [mut halves, mut ends, mut resets] = [0; 3];
    for _ in 0..3_000 {
        bench.read(1);
        bench.rig.settle();
        let is_half = bench.frames().is_none();
        if !bench.is_closed() {
            assert!(!is_half);
            continue;
        }
        let was_reset = bench.rig.line(bench.master).closed == Some(End::Aborted);
        resets += u32::from(was_reset);
        ends += u32::from(!was_reset);
        halves += u32::from(is_half);
        bench.connect_again();
    }
    assert!(resets > 20 && ends > 20 && halves > 10, "{resets} {ends} {halves}");
    assert_eq!(bench.deeds(Fault::Cut), u64::from(resets + ends));
    bench.rig.wind_up();
}

#[test]
fn what_is_not_modbus_ends_the_connection() {
    let mut bench = Bench::new(None, LATENCY);
    bench.rig.send(bench.master, b"GET / HTTP/1.1\r\n\r\n");
    bench.rig.settle();
    assert!(bench.is_closed());
    assert_eq!(bench.plant.counts.violations.value(), 1);
    bench.rig.wind_up();
}

/// The same seed, the same deeds; and no fault does anything to the counts of another.
#[test]
fn chance_can_be_repeated() {
    for fault in FAULTS {
        let run = || {
            let mut bench = Bench::new(Some(fault), Duration::ZERO);
            for _ in 0..100 {
                bench.send(1, Request::read(Area::Input, Span { start: 13, quantity: 1 }));
                bench.rig.settle();
                if bench.is_closed() {
                    bench.connect_again();
                }
            }
            FAULTS.map(|fault| bench.deeds(fault))
        };
        let deeds = run();
        assert_eq!(run(), deeds);
        let [struck] = FAULTS.into_iter().zip(deeds).filter(|(_, deeds)| *deeds > 0).collect::<Vec<_>>()[..]
        else {
            panic!("{fault:?}: {deeds:?}");
        };
        assert_eq!(struck.0, fault);
    }
}
