//! What the silence of one costs the others.

use proptest::prelude::*;

use super::*;
use crate::base::time::Tick;

/// Two units on a line.
fn pair(keys: &str, url: &str) -> String {
    let both = plain(keys) + &plain(&format!("{keys}\nunit = 2")).replace("'m'", "'deaf'");
    both.replace("modbus://10.0.0.7", url)
}

/// What came to unit 1 and to unit 2 while time passed.
fn serve_one(bench: &mut Bench, span: Duration) -> [Vec<Tick>; 2] {
    let mut times = [Vec::new(), Vec::new()];
    bench.serve(span, |asked| {
        times[usize::from(asked.unit == 2)].push(asked.at);
        (asked.unit == 1).then(|| orderly(asked))
    });
    times
}

#[test]
fn a_deaf_unit_takes_a_tenth_of_its_line_at_most() {
    // Without ids the line is held after each timeout, which is the deaf unit's time as well.
    for (url, cost_ms) in [("modbus://10.0.0.7", 400), ("modbus-rtu://10.0.0.7", 800)] {
        let mut bench = Bench::new(&pair("timeout = '400ms'\nrate = '200ms'", url));
        let conn = bench.accept();
        bench.serve(seconds(10), |asked| Some(orderly(asked)));
        serve_one(&mut bench, seconds(10));
        assert_eq!(bench.figure("deaf", "state"), "silent");
        bench.check("deaf/a", "2010 uncertain");
        bench.check_reason("deaf", "a", "the device is silent");
        let span = seconds(100);
        let [healthy, deaf] = serve_one(&mut bench, span);
        let taken = deaf.len() as u64 * cost_ms;
        assert!(
            (2_000..=10_000 + cost_ms).contains(&taken),
            "{url}: {taken} ms of 100 s, {} probes",
            deaf.len()
        );
        for (at, probe) in deaf.iter().enumerate() {
            let within = deaf[at..].iter().filter(|later| **later - *probe < seconds(10)).count() as u64;
            assert!(within * cost_ms <= 1_000, "{url}: {within} probes within 10 s");
        }
        assert!(healthy.len() as u64 * 200 >= 88_000, "{url}: {} polls of the healthy one", healthy.len());
        bench.check("m/a", "1010 good");
        assert!(!bench.is_closed(conn), "{url}: one unit's silence is not the line's");
        // It is back, and noticed.
        bench.serve(seconds(21), |asked| Some(orderly(asked)));
        assert_eq!(bench.figure("deaf", "state"), "online");
        bench.check("deaf/a", "2010 good");
        bench.wind_up();
    }
}

/// How long the line was kept from others by requests to unit 2 that it did not answer, in any ten seconds.
/// `asked` is all that came to the line, by unit.
fn most_taken_ms(asked: &[(u8, Tick)], dead_from: Tick) -> u64 {
    let taken: Vec<(Tick, Tick)> = asked
        .windows(2)
        .filter(|two| two[0].0 == 2 && two[0].1 >= dead_from)
        .map(|two| (two[0].1, two[1].1))
        .collect();
    let within = |end: Tick| {
        let begin = Tick::from_micros(end.as_micros().saturating_sub(10_000_000));
        taken.iter().map(|(from, to)| *to.min(&end) - *from.max(&begin)).sum::<Duration>()
    };
    taken.iter().map(|(_, to)| within(*to).as_millis() as u64).max().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whenever it dies, whatever its timeout and retries, and while somebody writes to it.
    #[test]
    fn a_dying_unit_takes_a_tenth_of_any_ten_seconds(
        timeout_ms in 100..1_500_u64,
        retries in 0..4_u8,
        dies_after_ms in 0..4_000_u64,
        is_rtu: bool,
        is_written: bool,
    ) {
        let url = if is_rtu { "modbus-rtu://10.0.0.7" } else { "modbus://10.0.0.7" };
        let keys = format!("timeout = '{timeout_ms}ms'\nretries = {retries}\nstale_after = '1m'");
        let keys = keys + "\nrate = '50ms'";
        let config = pair(&keys, url).replace("type = 'u16'", "type = 'u16'\naccess = 'rw'");
        let mut bench = Bench::new(&config);
        bench.accept();
        let mut asked_at = Vec::new();
        bench.serve(millis(dies_after_ms), |asked| Some(orderly(asked)));
        let dead_from = bench.now();
        for _ in 0..25 {
            if is_written {
                bench.set("deaf/a", "5");
            }
            bench.serve(seconds(1), |asked| {
                asked_at.push((asked.unit, asked.at));
                (asked.unit == 1).then(|| orderly(asked))
            });
        }
        prop_assert_eq!(bench.figure("deaf", "state"), "silent");
        bench.check("m/a", "1010 good");
        // Without ids the line is held after a timeout; and a request is repeated once in any case.
        let held_ms = if is_rtu { timeout_ms } else { 0 };
        let once_more_ms = if is_rtu || is_written { timeout_ms.min(100) + held_ms } else { 0 };
        let most_ms = 1_000.max(timeout_ms + held_ms) + once_more_ms;
        // Slaves look each 5 ms.
        let taken_ms = most_taken_ms(&asked_at, dead_from);
        prop_assert!(taken_ms <= most_ms + 50, "{taken_ms} ms, {most_ms} at most: {asked_at:?}");
        bench.wind_up();
    }
}

/// One answer that is lost is one poll that comes later, whatever the timeout.
#[test]
fn a_lost_answer_is_no_death() {
    for (url, keys, most_ms) in [
        ("modbus://10.0.0.7", "retries = 1", 150),
        ("modbus://10.0.0.7", "retries = 0", 1_150),
        ("modbus-rtu://10.0.0.7", "retries = 1", 1_150),
        ("modbus-rtu://10.0.0.7", "retries = 0", 1_350),
    ] {
        let mut bench = Bench::new(&pair(&format!("{keys}\nrate = '1s'"), url));
        bench.accept();
        bench.serve(seconds(5), |asked| Some(orderly(asked)));
        let (mut lost, mut found) = (None, None);
        bench.serve(seconds(5), |asked| {
            if asked.unit == 2 && lost.is_none() {
                lost = Some(asked.at);
                return None;
            }
            if asked.unit == 2 {
                found.get_or_insert(asked.at);
            }
            Some(orderly(asked))
        });
        let (lost, found) = (lost.expect("it is polled"), found.expect("it is polled again"));
        assert!(found - lost <= millis(most_ms), "{url} {keys}: {:?}", found - lost);
        assert_eq!(bench.figure("deaf", "state"), "online");
        bench.check("deaf/a", "2010 good");
        bench.wind_up();
    }
}

#[test]
fn the_breaker_opens_after_two_polls_in_vain_and_one_reply_closes_it() {
    let mut bench = Bench::new(&pair("timeout = '300ms'\ndead_share = 100", "modbus://10.0.0.7"));
    bench.accept();
    let mut probes = Vec::new();
    bench.serve(seconds(3), |asked| Some(orderly(asked)));
    bench.serve(seconds(30), |asked| {
        if asked.unit == 2 {
            probes.push(asked.at);
        }
        (asked.unit == 1).then(|| orderly(asked))
    });
    // A poll and its retry, twice; then a second, two, four, eight, ten.
    let gaps: Vec<u128> = probes.windows(2).map(|two| (two[1] - two[0]).as_millis() / 500).collect();
    assert_eq!(gaps[..8], [0, 1, 0, 2, 4, 8, 16, 20], "{probes:?}");
    assert_eq!(bench.count("deaf", "timeouts") as usize, probes.len());
    let asked = loop {
        let asked = bench.next();
        if asked.unit == 2 {
            break asked;
        }
        bench.reply(&asked, &orderly(&asked));
    };
    // A refusal is an answer, too.
    bench.reply(&asked, b"\x83\x04");
    assert_eq!(bench.figure("deaf", "state"), "online");
    bench.serve(seconds(2), |asked| Some(orderly(asked)));
    bench.check("deaf/a", "2010 good");
    bench.wind_up();
}

/// The probe that it answers reads one block only.
#[test]
fn who_answers_a_probe_is_polled_within_a_second() {
    let mut bench = Bench::new(&pair("timeout = '100ms'\nrate = '1m'", "modbus://10.0.0.7"));
    bench.accept();
    serve_one(&mut bench, seconds(130));
    assert_eq!(bench.figure("deaf", "state"), "silent");
    let mut times = Vec::new();
    bench.serve(seconds(12), |asked| {
        if asked.unit == 2 {
            times.push(asked.at);
        }
        Some(orderly(asked))
    });
    assert!(times.len() >= 2 && times[1] - times[0] <= millis(1_010), "{times:?}");
    assert!(times.len() <= 3, "{times:?}");
    bench.wind_up();
}

#[test]
fn a_late_reply_does_not_close_the_breaker() {
    let mut bench = Bench::new(&pair("timeout = '300ms'", "modbus://10.0.0.7"));
    bench.accept();
    let mut slow = None;
    for _ in 0..60 {
        bench.serve(millis(500), |asked| {
            if asked.unit == 2 {
                slow = Some(asked.clone());
            }
            (asked.unit == 1).then(|| orderly(asked))
        });
        // Half a second old by then, or nearly.
        bench.advance(millis(300));
        if let Some(asked) = slow.take() {
            bench.reply(&asked, &orderly(&asked));
        }
    }
    assert_eq!(bench.figure("deaf", "state"), "silent");
    bench.check("deaf/a", "null bad");
    assert!(bench.count("deaf", "late") > 4);
    bench.wind_up();
}

#[test]
fn devices_on_other_connections_are_never_delayed() {
    let other = plain("rate = '100ms'\nunit = 2").replace("'m'", "'n'").replace("10.0.0.7", "10.0.0.8");
    let mut bench = Bench::new(&(plain("timeout = '5s'") + &other));
    let mut polls = 0;
    bench.serve(seconds(60), |asked| {
        polls += u32::from(asked.unit == 2);
        (asked.unit == 2).then(|| orderly(asked))
    });
    assert!(polls >= 590, "{polls} polls");
    bench.check("n/a", "2010 good");
    bench.check("m/a", "null bad");
    bench.wind_up();
}

#[test]
fn reads_are_missed_sooner_where_replies_come_soon_and_writes_are_not() {
    let tag = [("a", "holding:10", "type = 'u16'\naccess = 'rw'")];
    let mut bench = Bench::new(&device("", &tag));
    bench.accept();
    bench.serve(seconds(5), |asked| Some(orderly(asked)));
    bench.next();
    let retry = bench.next_after(100);
    bench.advance(millis(900));
    assert_eq!((bench.count("m", "timeouts"), bench.asked()), (1, vec![]), "the second wait is whole");
    bench.reply(&retry, &orderly(&retry));
    bench.check("m/a", "1010 good");

    bench.serve(seconds(2), |asked| Some(orderly(asked)));
    let writer = bench.set("m/a", "5");
    let asked = bench.next();
    assert_eq!(asked.pdu, b"\x06\0\x0a\0\x05");
    bench.advance(millis(900));
    assert_eq!(bench.said(writer), "");
    bench.reply(&asked, &orderly(&asked));
    assert_eq!(bench.said(writer), "OK\n");
    bench.check("m/a", "5 good");
    bench.wind_up();
}

/// A gateway's word that the unit does not answer (exceptions 10 and 11) is a unit's silence, and no refusal.
#[test]
fn what_a_gateway_says_of_a_dead_unit() {
    for code in [10, 11] {
        let mut bench = Bench::new(&pair("", "modbus://10.0.0.7"));
        let conn = bench.accept();
        bench.serve(seconds(3), |asked| Some(orderly(asked)));
        bench.check("deaf/a", "2010 good");
        let mut requests = 0;
        let mut slave = |asked: &Asked| {
            requests += u32::from(asked.unit == 2);
            Some(if asked.unit == 2 { vec![0x83, code] } else { orderly(asked) })
        };
        bench.serve(seconds(1), &mut slave);
        bench.check("deaf/a", "2010 uncertain");
        bench.serve(seconds(60), &mut slave);
        bench.check("deaf/a", "2010 uncertain");
        assert_eq!(bench.figure("deaf", "state"), "silent");
        assert!(requests < 16, "{requests} requests");
        bench.check("m/a", "1010 good");
        assert!(!bench.is_closed(conn));
        bench.serve(seconds(12), |asked| Some(orderly(asked)));
        bench.check("deaf/a", "2010 good");
        bench.wind_up();
    }
}

#[test]
fn half_of_many_lines_are_dead_and_the_others_are_on_time() {
    let meter = |number: u8| {
        plain(&format!("unit = {number}"))
            .replace("'m'", &format!("'m{number}'"))
            .replace("0.7", &format!("0.{number}"))
    };
    let mut bench = Bench::new(&(1..=20).map(meter).collect::<String>());
    bench.serve(seconds(60), |asked| (asked.unit % 2 == 0).then(|| orderly(asked)));
    for number in (2..=20).step_by(2) {
        let name = format!("m{number}");
        bench.check(&format!("{name}/a"), &format!("{} good", 1_000 * number + 10));
        assert!(bench.count(&name, "requests") >= 58, "{name}: {}", bench.count(&name, "requests"));
        assert_eq!(bench.count(&name, "overruns") + bench.count(&name, "timeouts"), 0);
        assert!(bench.count(&name, "oldest_ms") <= 1_020);
    }
    bench.wind_up();
}

/// A device that says nothing for a moment, as many do now and then, leaves all unanswered that is in flight.
#[test]
fn a_short_stall_is_no_death_however_much_is_in_flight() {
    let names: Vec<_> = (0..16).map(|at| (format!("t{at}"), format!("holding:{}", 10 * at))).collect();
    let tags: Vec<_> = names.iter().map(|(name, address)| (&**name, &**address, "type = 'u16'")).collect();
    for window in [1, 4, 8, 16] {
        let keys = format!("window = {window}\nmerge_gap = 0\nretries = 1\nstale_after = '1m'");
        let mut bench = Bench::new(&device(&keys, &tags));
        bench.accept();
        bench.serve(seconds(5), |asked| Some(orderly(asked)));
        for _ in 0..3 {
            let mut held = vec![bench.next()];
            for _ in 0..60 {
                held.extend(bench.asked());
                bench.advance(millis(5));
                for (at, (name, _)) in names.iter().enumerate() {
                    bench.check(&format!("m/{name}"), &format!("{} good", 1_000 + 10 * at));
                }
            }
            held.extend(bench.asked());
            assert_eq!(held.len(), 2 * window, "each was missed once and sent again");
            for asked in held {
                bench.reply(&asked, &orderly(&asked));
            }
            bench.serve(millis(4_000), |asked| Some(orderly(asked)));
        }
        assert_eq!(bench.figure("m", "state"), "online", "window {window}");
        assert_eq!(
            (bench.count("m", "timeouts"), bench.count("m", "late")),
            (3 * window as u64, 3 * window as u64)
        );
        bench.wind_up();
    }
}

/// What is in flight together is one sign of death, and as many are needed as where it is one by one.
#[test]
fn whoever_is_dead_is_found_to_be_so_however_much_is_in_flight() {
    let tags = ["a", "b", "c", "d"].into_iter().zip(["holding:10", "holding:30", "holding:50", "holding:70"]);
    let tags: Vec<_> = tags.map(|(name, address)| (name, address, "type = 'u16'")).collect();
    for window in [1, 4] {
        let keys = format!("window = {window}\nretries = 1\ntimeout = '500ms'");
        let mut bench = Bench::new(&device(&keys, &tags));
        bench.accept();
        bench.serve(seconds(5), |asked| Some(orderly(asked)));
        let died = bench.next().at;
        while bench.figure("m", "state") != "silent" {
            bench.advance(millis(10));
            assert!(bench.now() < died + seconds(4), "window {window}");
        }
        // A poll and its retry, twice.
        assert!(bench.now() >= died + millis(1_500), "window {window}: {:?}", bench.now() - died);
        bench.wind_up();
    }
}
