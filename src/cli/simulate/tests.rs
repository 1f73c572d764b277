//! Devices on byte queues and virtual time, and what the command line means.

use std::sync::Arc;
use std::time::Duration;

use super::device::Device;
use super::ledger::Seen;
use super::run::Run;
use super::schedule::Schedule;
use super::subscriber::{Scope, Subscriber, Watch};
use crate::base::time::{Now, Tick, Timestamp};
use crate::cli::load::{root, share};
use crate::engine::rig::{RIG_EPOCH_MS, Rig};
use crate::engine::{ConnKey, End};

const INTERVAL: Duration = Duration::from_secs(1);
const REPORTS: u64 = 10;

/// A run of one device and its end of the connection, with time at its beginning.
struct Bench {
    rig: Rig,
    run: Arc<Run>,
    device: ConnKey,
}

impl Bench {
    fn new(churn: f64) -> Bench {
        let now = Now { tick: Tick::default(), wall: Timestamp(RIG_EPOCH_MS) };
        let schedule = Schedule::new(1, INTERVAL, now, now.tick, INTERVAL * REPORTS as u32);
        let server = "10.0.0.2:5000".parse().unwrap();
        let run = Arc::new(Run::new(server, "sim".to_owned(), 1, schedule, churn, Duration::ZERO, 1));
        let mut rig = Rig::new("line");
        let device = Device::new(Arc::clone(&run), 0);
        rig.engine.dial_at(Tick::default(), run.endpoint(0), Box::new(device));
        rig.settle();
        let device = rig.answer_dial();
        assert_eq!(rig.take(device), "HELLO sim-00000\n");
        Bench { rig, run, device }
    }

    /// Until the next report is there.
    fn report(&mut self) -> String {
        self.rig.advance(INTERVAL + INTERVAL / 10);
        self.rig.take(self.device)
    }

    fn counts(&self) -> [u64; 5] {
        let counts = &self.run.counts;
        let [sent, confirmed, unknown, missed] =
            [&counts.sent, &counts.confirmed, &counts.unknown, &counts.missed].map(|count| count.value());
        [sent, confirmed, unknown, missed, self.run.faults.count()]
    }
}

#[test]
fn a_device_reports_when_it_was_greeted() {
    let mut bench = Bench::new(0.0);
    assert_eq!(bench.report(), "", "not before it was greeted");
    bench.rig.ask(bench.device, "OK lumina 1\r\n");
    let report = bench.report();
    let names: Vec<&str> = report.lines().map(|line| line.split(' ').nth(1).unwrap()).collect();
    let signals = ["temperature", "level", "parts", "state", "pressure"];
    assert_eq!(names, signals.map(|signal| format!("sim/00000/{signal}")));
    let times: Vec<&str> = report.lines().map(|line| line.rsplit(' ').next().unwrap()).collect();
    assert!(times.iter().all(|time| *time == times[0]), "{report}");
    assert_eq!(bench.counts(), [5, 0, 0, 1, 0]);
    assert_eq!(bench.run.counts.in_flight.value(), 1);
}

#[test]
fn replies_come_in_any_pieces() {
    let mut bench = Bench::new(0.0);
    for piece in ["O", "K lumi", "na 1\n"] {
        bench.rig.ask(bench.device, piece);
    }
    let sent = bench.report().lines().count();
    assert_eq!(sent % 5, 0);
    for piece in ["OK\nO", "", "K\r", "\nINFO later versions say more\nERR limit 5", " tags\nOK\n", "OK\n"] {
        bench.rig.ask(bench.device, piece);
    }
    assert_eq!(bench.counts(), [sent as u64, 4, 0, 0, 1]);
    assert_eq!(bench.run.faults.lines(), ["1 × ERR limit 5 tags"]);
    assert_eq!(bench.run.counts.in_flight.value(), sent as u64 / 5 - 1);
}

/// Late is late from when the report was due, however late it was sent.
#[test]
fn answers_count_from_when_the_report_was_due() {
    let mut bench = Bench::new(0.0);
    bench.rig.ask(bench.device, "OK lumina 1\n");
    bench.report();
    let due = bench.run.schedule.due(0, 0);
    bench.rig.advance(Duration::from_secs(5));
    bench.rig.ask(bench.device, "OK\nOK\nOK\nOK\nOK\n");
    let answered = Tick::default() + INTERVAL + INTERVAL / 10 + Duration::from_secs(5);
    let expected = (answered - due).as_micros() as u64;
    let noted = bench.run.latency.percentiles().max_us;
    assert!(noted.abs_diff(expected) <= expected / 500, "{noted} is not {expected}");
}

#[test]
fn what_a_cut_leaves_is_unknown_and_the_device_comes_back() {
    let mut bench = Bench::new(0.0);
    bench.rig.ask(bench.device, "OK lumina 1\n");
    bench.report();
    bench.rig.ask(bench.device, "OK\nOK\n");
    let [sent, ..] = bench.counts();
    bench.rig.half_close(bench.device);
    bench.rig.settle();
    assert_eq!(bench.counts(), [sent, 2, sent - 2, 0, 1]);
    assert_eq!(bench.run.counts.online.value(), 0);

    bench.rig.advance(Duration::from_secs(1));
    bench.device = bench.rig.answer_dial();
    assert_eq!(bench.rig.take(bench.device), "HELLO sim-00000\n");
    bench.rig.ask(bench.device, "OK lumina 1\n");
    let again = bench.report();
    assert_eq!(again.lines().count() % 5, 0, "{again}");
    assert!(!again.is_empty());
}

#[test]
fn what_no_server_says_ends_the_connection() {
    for wrong in ["OK\nOK\n".to_owned(), format!("OK\n{}", "x".repeat(40_000))] {
        let mut bench = Bench::new(0.0);
        bench.rig.send(bench.device, wrong);
        bench.rig.settle();
        assert_eq!(bench.run.faults.count(), 1);
        assert!(bench.rig.line(bench.device).finished);
    }
}

/// The reports that were not sent while it was away are counted, and nothing is an error.
#[test]
fn a_device_that_leaves_comes_back() {
    let mut bench = Bench::new(2.0);
    bench.rig.ask(bench.device, "OK lumina 1\n");
    let mut ways = Vec::new();
    loop {
        bench.rig.advance(Duration::from_millis(50));
        let sent = bench.rig.take(bench.device);
        let answers: String = sent.lines().map(|_| "OK\n").collect();
        bench.rig.send(bench.device, &answers);
        let line = bench.rig.line(bench.device);
        let (quit, closed) = (sent.ends_with("QUIT\n"), line.closed);
        if quit || line.finished || closed.is_some() {
            ways.push((quit, closed));
            bench.rig.half_close(bench.device);
            bench.rig.advance(Duration::from_secs(1));
            if bench.rig.lines.dialled.is_empty() {
                break;
            }
            bench.device = bench.rig.answer_dial();
            bench.rig.take(bench.device);
            bench.rig.send(bench.device, "OK lumina 1\n");
        } else if bench.rig.next == Tick::NEVER && sent.is_empty() {
            break;
        }
    }
    let [sent, confirmed, unknown, _, errors] = bench.counts();
    assert_eq!((errors, sent), (0, confirmed + unknown));
    assert!(ways.len() >= 2, "{ways:?}");
    assert!(ways.iter().all(|(_, closed)| matches!(closed, None | Some(End::Aborted))), "{ways:?}");
}

#[test]
fn subscribers_see_samples_in_order() {
    #[rustfmt::skip]
    let table: [(&str, &[&str]); 6] = [
        ("UPD sim/00000/temperature 2.5 good 11\n",      &[]),
        ("UPD sim/00000/temperature 1.5 uncertain 10\n", &[]),
        ("UPD sim/00000/state \"idle\" good 9\n",        &[]),
        ("UPD sim/00000/temperature 2.5 good 9\n",
         &["a subscriber saw an older sample after a newer one"]),
        ("VAL sim/00000/temperature 2.5 good 10\n",
         &["a subscriber saw two values of the same time"]),
        ("ERR bad-name x\n",                             &["ERR bad-name x"]),
    ];
    for (line, expected) in table {
        let Bench { mut rig, run, .. } = Bench::new(0.0);
        let watch = Arc::new(Watch::new(Scope::of(0, 1), 1));
        let subscriber = Subscriber::new(Arc::clone(&run), Arc::clone(&watch), 0);
        rig.engine.dial_at(Tick::default(), run.endpoint(0), Box::new(subscriber));
        rig.settle();
        let key = rig.answer_dial();
        assert_eq!(rig.take(key), "SUB sim/+/temperature\n");
        rig.ask(key, "VAL sim/00000/temperature 1.5 good 10\nOK 1\n");
        rig.ask(key, line);
        let expected: Vec<_> = expected.iter().map(|what| format!("1 × {what}")).collect();
        assert_eq!(run.faults.lines(), expected, "{line}");
        run.ledger().on_found(0, 0, Seen { time: 12, print: 3 });
        assert_eq!(watch.behind(&run.ledger()), 1);
    }
}

#[test]
fn shares_and_names() {
    #[rustfmt::skip]
    let table = [
        ("1%", Some(0.01)), ("0.25", Some(0.25)), ("100%", Some(1.0)), ("0", Some(0.0)),
        ("101%", None), ("-1%", None), ("one", None), ("nan", None), ("", None),
    ];
    for (text, expected) in table {
        assert_eq!(share(text).ok(), expected, "{text}");
    }
    assert!(root("plant-2").is_ok());
    assert!(root("a/b").is_err() && root("").is_err() && root("$server").is_err());
}
