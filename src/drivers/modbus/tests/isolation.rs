//! What the silence of one costs the others.

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
