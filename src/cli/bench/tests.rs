//! Requesters and subscribers on byte queues and virtual time.

use std::sync::Arc;
use std::time::Duration;

use super::conductor::Conductor;
use super::plan::{Pace, Plan, Speech};
use super::requester::Requester;
use super::run::Run;
use super::subscriber::{Subscriber, Watch};
use super::summary::Summary;
use crate::base::time::{Now, Tick, Timestamp};
use crate::cli::load::{Outcome, endpoint};
use crate::engine::ConnKey;
use crate::engine::rig::Rig;
use crate::reactor::Course;

const MS: Duration = Duration::from_millis(1);

/// A run whose server is the test.
struct Bench {
    rig: Rig,
    run: Arc<Run>,
    server: ConnKey,
}

impl Bench {
    /// One connection, before anything was answered.
    fn connect(plan: Plan) -> Bench {
        Bench::connect_at(Timestamp::default(), plan)
    }

    /// One whose clock begins at that time.
    fn connect_at(wall: Timestamp, plan: Plan) -> Bench {
        let run = Arc::new(Run::new(plan, Now { wall, ..Now::default() }));
        let session = Box::new(Requester::new(Arc::clone(&run), 0));
        let mut rig = Rig::new("line");
        rig.advance(MS);
        rig.engine.dial_at(Tick::default(), endpoint(run.plan.server, 0), session);
        rig.settle();
        let server = rig.answer_dial();
        rig.settle();
        Bench { rig, run, server }
    }

    /// The same in the line protocol, when its only tag was written and requests begin.
    fn begin(plan: Plan) -> Bench {
        let mut bench = Bench::connect(plan);
        assert!(bench.rig.take(bench.server).starts_with("SET bench/0 "));
        bench.rig.ask(bench.server, "OK\n");
        assert_eq!((bench.run.counts.ready.value(), bench.rig.take(bench.server).as_str()), (1, ""));
        bench.run.begin_at(bench.rig.now() + 100 * MS);
        bench.rig.advance(100 * MS);
        bench
    }

    /// The values of the writes that came.
    #[track_caller]
    fn writes(&mut self) -> Vec<u64> {
        let text = self.rig.take(self.server);
        let value =
            |line: &str| line.strip_prefix("SET bench/0 ").unwrap_or_else(|| panic!("{text}")).parse();
        text.lines().map(|line| value(line).unwrap()).collect()
    }

    fn answer(&mut self, text: &str) {
        self.rig.send(self.server, text);
        self.rig.settle();
    }
}

#[test]
fn a_closed_loop_keeps_so_many_in_flight() {
    let mut bench = Bench::begin(Plan { pipeline: 3, ..Plan::of_test() });
    assert_eq!(bench.writes().len(), 3);
    bench.rig.advance(500 * MS);
    assert_eq!(bench.writes().len(), 0, "it waits for answers");
    bench.answer("OK\nO");
    assert_eq!(bench.writes().len(), 1);
    bench.answer("K\nOK\n");
    assert_eq!(bench.writes().len(), 2);
    let Run { counts, writes, .. } = &*bench.run;
    assert_eq!((counts.writes.value(), counts.in_flight.value()), (3, 3));
    let max_us = writes.percentiles().max_us;
    assert!((500_000..501_000).contains(&max_us), "{max_us}");
    bench.rig.advance(500 * MS);
    bench.answer("OK\nOK\nOK\n");
    assert_eq!(bench.writes().len(), 0, "the end has come");
    assert_eq!((bench.run.counts.writes.value(), bench.run.counts.in_flight.value()), (6, 0));
}

/// A server that stalls is asked no less in an open loop, and what waits meanwhile has its time counted.
#[test]
fn an_open_loop_omits_nothing() {
    let pace = Some(Pace { rate: 10, connections: 1 });
    let mut bench = Bench::begin(Plan { pace, ..Plan::of_test() });
    let begin = bench.run.begin().as_micros();
    assert_eq!(bench.writes(), [begin]);
    bench.rig.advance(950 * MS);
    assert_eq!(bench.writes(), [] as [u64; 0], "one in flight");
    for number in 1..10 {
        bench.answer("OK\n");
        assert_eq!(bench.writes(), [begin + number * 100_000], "a value says when its write was due");
    }
    bench.answer("OK\n");
    bench.rig.advance(1_000 * MS);
    assert_eq!(bench.writes(), [] as [u64; 0], "the end has come");
    let Run { counts, writes, lateness, .. } = &*bench.run;
    assert_eq!((counts.writes.value(), counts.queued.value(), counts.unsent.value()), (10, 9, 0));
    let took = writes.percentiles();
    assert!((950_000..=951_000).contains(&took.max_us), "{took:?}");
    assert!((450_000..=451_000).contains(&took.p50_us), "{took:?}");
    assert_eq!(lateness.percentiles().max_us, 0, "the server was behind, not we");
}

#[test]
fn what_is_never_answered_or_sent_counts() {
    let pace = Some(Pace { rate: 10, connections: 1 });
    let mut bench = Bench::begin(Plan { pace, ..Plan::of_test() });
    bench.rig.advance(650 * MS);
    bench.rig.break_off(bench.server);
    bench.rig.settle();
    let Run { counts, writes, faults, .. } = &*bench.run;
    assert_eq!((counts.unanswered.value(), counts.unsent.value(), counts.lost.value()), (1, 6, 1));
    assert_eq!((counts.cut.value(), counts.closed.value()), (1, 1));
    let took = writes.percentiles();
    assert!((650_000..=651_000).contains(&took.max_us), "{took:?}");
    assert!((350_000..=351_000).contains(&took.p50_us), "{took:?}");
    assert_eq!(faults.count(), 1, "{:?}", faults.lines());
}

impl Bench {
    /// One whose conductor says when requests begin: 100 ms from now.
    fn conducted(plan: Plan) -> (Bench, Conductor) {
        let mut bench = Bench::connect(plan);
        bench.rig.take(bench.server);
        bench.rig.ask(bench.server, "OK\n");
        let mut conductor = Conductor::new(Arc::clone(&bench.run), Vec::new(), None, None);
        assert!(matches!(conductor.conduct(bench.rig.now(), false), Course::GoOn(_)));
        (bench, conductor)
    }

    /// A turn, so much later, in which so many answers come.
    fn turn(&mut self, conductor: &mut Conductor, later: Duration, answers: usize) -> Course {
        self.rig.advance(later);
        self.answer(&"OK\n".repeat(answers));
        conductor.conduct(self.rig.now(), false)
    }
}

/// What comes of a backlog after the end, or from before the beginning, is no speed of the server's.
#[test]
fn a_second_is_of_the_time_that_is_measured() {
    let pace = Some(Pace { rate: 10, connections: 1 });
    let plan = Plan { pace, pipeline: 100, warm_up: 500 * MS, ..Plan::of_test() };
    let (mut bench, mut conductor) = Bench::conducted(plan);
    for (later, answers) in [(100, 0), (400, 2), (100, 0), (500, 2), (400, 1), (100, 0)] {
        assert!(matches!(bench.turn(&mut conductor, later * MS, answers), Course::GoOn(_)));
    }
    assert!(matches!(bench.turn(&mut conductor, 400 * MS, 10), Course::Stop));
    let summary = Summary::of(&bench.run, &mut conductor).unwrap();
    let json = summary.json();
    for part in ["\"requests\":10,", "\"requests_per_s\":3,", "\"writes_per_s\":3,", "\"complaints\":[]"] {
        assert!(json.contains(part), "no {part} in {json}");
    }
    assert!(summary.notes().join("\n").contains("the rate was not reached: 3 of 10"), "{json}");
}

#[test]
fn a_backlog_of_the_warm_up_is_not_sent() {
    let pace = Some(Pace { rate: 10, connections: 1 });
    let mut bench = Bench::begin(Plan { pace, warm_up: 1_000 * MS, ..Plan::of_test() });
    let begin = bench.run.begin().as_micros();
    assert_eq!(bench.writes(), [begin]);
    bench.rig.advance(700 * MS);
    bench.answer("OK\n");
    assert_eq!(bench.writes(), [begin + 100_000]);
    bench.rig.advance(500 * MS);
    bench.answer("OK\n");
    assert_eq!(bench.writes(), [begin + 1_000_000], "the first that counts");
    assert_eq!(bench.run.counts.queued.value(), 1);
}

/// What is left of a backlog some time after the end is not sent, and what was sent has its time.
#[test]
fn a_backlog_is_not_sent_for_ever() {
    let pace = Some(Pace { rate: 100, connections: 1 });
    let (mut bench, mut conductor) = Bench::conducted(Plan { pace, ..Plan::of_test() });
    bench.turn(&mut conductor, 100 * MS, 0);
    bench.turn(&mut conductor, 500 * MS, 1);
    bench.turn(&mut conductor, 500 * MS, 1);
    // Five seconds of backlog, an answer in each.
    for _ in 0..5 {
        assert!(matches!(bench.turn(&mut conductor, 900 * MS, 1), Course::GoOn(_)));
    }
    bench.rig.take(bench.server);
    assert!(matches!(bench.turn(&mut conductor, 499 * MS, 0), Course::GoOn(_)));
    assert!(matches!(bench.turn(&mut conductor, 1_000 * MS, 0), Course::GoOn(_)), "one is in flight");
    assert!(matches!(bench.turn(&mut conductor, 1_000 * MS, 1), Course::Stop));
    assert_eq!(bench.rig.take(bench.server), "", "nothing more is sent");
    bench.rig.engine.stop(&mut bench.rig.lines);
    bench.rig.settle();
    let Run { counts, .. } = &*bench.run;
    assert_eq!((counts.writes.value(), counts.unanswered.value(), counts.unsent.value()), (8, 0, 92));
    let summary = Summary::of(&bench.run, &mut conductor).unwrap();
    assert_eq!(summary.complaints(), [] as [&str; 0]);
    assert!(summary.notes().join("\n").contains("the rate was not reached: 2 of 100"), "{summary}");
}

#[test]
fn nobody_waits_for_connections_that_were_lost() {
    let (mut bench, mut conductor) = Bench::conducted(Plan { pipeline: 2, ..Plan::of_test() });
    bench.turn(&mut conductor, 100 * MS, 0);
    bench.rig.advance(250 * MS);
    bench.rig.break_off(bench.server);
    bench.rig.advance(50 * MS);
    assert!(matches!(conductor.conduct(bench.rig.now(), false), Course::Stop));
    let summary = Summary::of(&bench.run, &mut conductor).unwrap();
    let complaints = summary.complaints();
    for part in [
        "all 1 connections were lost, which ended the run at 0.3 s",
        "2 requests were not answered before their connections were lost",
    ] {
        assert!(complaints.iter().any(|complaint| complaint.contains(part)), "no {part:?}: {complaints:?}");
    }
    assert!(!complaints.iter().any(|complaint| complaint.contains("after the end")), "{complaints:?}");
}

/// Writing what an earlier run left would be no change: nobody would be told of it, nor could see it.
#[test]
fn a_run_writes_nothing_that_an_earlier_one_wrote() {
    let later = Timestamp(0x1020);
    let mut first = Bench::connect(Plan::of_test());
    let mut second = Bench::connect_at(later, Plan::of_test());
    assert_eq!(first.writes(), [1_000], "a millisecond after the beginning");
    assert_eq!(second.writes(), [4_129_000]);

    let speech = Speech::Modbus { unit: 5, address: 0, registers: 1 };
    let plan = || Plan { speech: speech.clone(), ..Plan::of_test() };
    let [mut first, mut second] = [Timestamp::default(), later].map(|wall| Bench::connect_at(wall, plan()));
    assert_eq!(first.rig.take(first.server).as_bytes(), b"\0\x01\0\0\0\x06\x05\x06\0\0\0\x01");
    assert_eq!(second.rig.take(second.server).as_bytes(), b"\0\x01\0\0\0\x06\x05\x06\0\0\x10\x21");
}

#[test]
fn what_was_not_measured_is_null() {
    let (mut bench, mut conductor) = Bench::conducted(Plan::of_test());
    for (later, answers) in [(100, 0), (400, 1), (600, 0)] {
        bench.turn(&mut conductor, later * MS, answers);
    }
    assert!(matches!(bench.turn(&mut conductor, MS, 1), Course::Stop));
    let summary = Summary::of(&bench.run, &mut conductor).unwrap();
    let json = summary.json();
    for key in ["reads_per_s", "reads_p50_us", "updates_per_s", "updates_max_us", "conflated", "unsent"] {
        assert!(json.contains(&format!("\"{key}\":null")), "{key}: {json}");
    }
    assert!(!json.contains("\"writes_p50_us\":null") && json.contains("\"reads\":0,"), "{json}");
}

#[test]
fn a_run_without_time_measures_nothing() {
    let (mut bench, mut conductor) = Bench::conducted(Plan::of_test());
    assert!(matches!(bench.turn(&mut conductor, 5_000 * MS, 1), Course::Stop));
    let error = Summary::of(&bench.run, &mut conductor).err().unwrap_or_default();
    assert!(error.starts_with("nothing was measured: "), "{error}");
}

#[test]
fn answers_in_the_line_protocol_are_checked() {
    #[rustfmt::skip]
    let table = [
        (1.0, "OK\n",                        ""),
        (1.0, "OK 5\n",                      "no answer to SET: OK 5"),
        (1.0, "ERR limit 5 tags\n",          "ERR limit 5 tags"),
        (1.0, "OK\nOK\n",                    "unasked: OK"),
        (1.0, "OK\nERR limit 9 in all\n",    "ERR limit 9 in all"),
        (1.0, "HTTP/1.1 400 Bad Request\n",  "a line that is no answer: HTTP/1.1 400 Bad Request"),
        (0.0, "OK @ good 5\n",               ""),
        (0.0, "OK \"@\" good 5\n",           ""),
        (0.0, "OK 1 good 5\n",               "a value that was not there when it was read"),
        (0.0, "OK 1e300 good 5\n",           "a value that nobody wrote: OK 1e300 good 5"),
        (0.0, "OK @ uncertain 5\n",          "no good sample in answer to GET"),
        (0.0, "OK\n",                        "no good sample in answer to GET: OK"),
        (0.0, "ERR not-found bench/0\n",     "ERR not-found bench/0"),
    ];
    for (writes, answer, wrong) in table {
        let mut bench = Bench::begin(Plan { writes, ..Plan::of_test() });
        let request = bench.rig.take(bench.server);
        assert!(
            request.starts_with(if writes > 0.0 { "SET bench/0 " } else { "GET bench/0\n" }),
            "{request}"
        );
        // The last of several is no answer to the next request, which comes at the end of the turn.
        bench.answer(&answer.replace('@', &bench.run.sent(0).to_string()));
        let faults = bench.run.faults.lines().join("; ");
        assert!(faults.contains(wrong) && faults.is_empty() == wrong.is_empty(), "{answer}: {faults}");
    }
}

#[test]
fn answers_in_modbus_are_checked() {
    const GOOD: &[u8] = b"\0\x02\0\0\0\x07\x05\x03\x04\0\x01\0\x02";
    #[rustfmt::skip]
    let table: [(&[u8], &str); 8] = [
        (GOOD,                                             ""),
        (b"\0\x02\0\0\0\x07\x05\x03\x04\0\x01\0\x03",      "registers of different writes"),
        (b"\0\x02\0\0\0\x07\x05\x03\x04\0\x09\0\x0a",      "a value that nobody wrote"),
        (b"\0\x02\0\0\0\x07\x06\x03\x04\0\x01\0\x02",      "the answer of unit 6"),
        (b"\0\x09\0\0\0\x07\x05\x03\x04\0\x01\0\x02",      "an answer to transaction 9, unasked"),
        (b"\0\x02\0\0\0\x05\x05\x03\x02\0\x01",            "the reply's length"),
        (b"\0\x02\0\0\0\x03\x05\x83\x02",                  "exception 2, illegal data address"),
        (b"OK\r\nOK\r\n",                                  "no Modbus: protocol id"),
    ];
    let speech = Speech::Modbus { unit: 5, address: 258, registers: 2 };
    for (answer, wrong) in table {
        // It writes at first, then it reads: the share is that of chance.
        let mut bench = Bench::connect(Plan { speech: speech.clone(), writes: 1e-9, ..Plan::of_test() });
        let write = bench.rig.take(bench.server);
        assert_eq!(write.as_bytes(), b"\0\x01\0\0\0\x0b\x05\x10\x01\x02\0\x02\x04\0\x01\0\x02");
        for byte in b"\0\x01\0\0\0\x06\x05\x10\x01\x02\0\x02" {
            assert_eq!(bench.run.counts.ready.value(), 0);
            bench.rig.send(bench.server, [*byte]);
            bench.rig.settle();
        }
        bench.run.begin_at(bench.rig.now() + 100 * MS);
        bench.rig.advance(100 * MS);
        assert_eq!(bench.rig.take(bench.server).as_bytes(), b"\0\x02\0\0\0\x06\x05\x03\x01\x02\0\x02");
        bench.rig.send(bench.server, answer);
        bench.rig.settle();
        let faults = bench.run.faults.lines().join("; ");
        assert!(faults.contains(wrong) && faults.is_empty() == wrong.is_empty(), "{answer:x?}: {faults}");
        assert_eq!(bench.run.counts.reads.value(), u64::from(wrong.is_empty()), "{answer:x?}");
    }
}

#[test]
fn subscribers_hold_updates_against_what_was_sent() {
    let now = Now { wall: Timestamp(1_000), ..Now::default() };
    let run = Arc::new(Run::new(Plan { places: 2, subscribers: 1, ..Plan::of_test() }, now));
    let watch = Arc::new(Watch::new(2));
    let mut rig = Rig::new("line");
    rig.advance(MS);
    let subscriber = Subscriber::new(Arc::clone(&run), Arc::clone(&watch), "bench");
    rig.engine.dial_at(Tick::default(), endpoint(run.plan.server, 0), Box::new(subscriber));
    rig.settle();
    let server = rig.answer_dial();
    rig.settle();
    assert_eq!(rig.take(server), "SUB bench/+\n");
    // What an earlier run left is no news.
    rig.ask(server, "VAL bench/0 7777777777 good 1\nVAL bench/elsewhere 1 good 1\nOK 2\n");
    assert_eq!((run.counts.ready.value(), watch.behind(&run)), (1, 0));
    run.begin_at(rig.now());
    let begin = run.value_at(run.begin());
    for (place, value) in [(0, begin), (1, begin + 10)] {
        run.on_sent(place, value);
        run.on_confirmed(place, value);
    }
    assert_eq!(watch.behind(&run), 2);
    rig.advance(20 * MS);
    rig.ask(server, &format!("UPD bench/0 {begin} good 1\nUPD bench/1 \"{}\" good 1\n", begin + 10));
    assert_eq!((run.counts.updates.value(), watch.behind(&run), run.faults.count()), (2, 0, 0));
    let took = run.updates.percentiles();
    assert!((19_900..20_100).contains(&took.p50_us), "{took:?}");
    #[rustfmt::skip]
    let table = [
        (format!("UPD bench/0 {} good 1", begin + 1),  "an update with a value that nobody wrote"),
        (format!("UPD bench/1 {} good 1", begin + 9),  "an update that is older than one before"),
        ("UPD bench/1 true good 1".to_owned(),         "an update with a value that nobody wrote"),
        ("ERR denied".to_owned(),                      "ERR denied"),
        ("OK".to_owned(),                              "a line that is no update"),
    ];
    for (number, (line, wrong)) in table.into_iter().enumerate() {
        rig.ask(server, &format!("{line}\n"));
        assert_eq!(run.faults.count(), number as u64 + 1, "{line}");
        let lines = run.faults.lines();
        assert!(lines.iter().any(|line| line.contains(wrong)), "{line}: {lines:?}");
    }
}
