//! One connection: when it is made, closed and made again, and what its devices have in common.

use super::*;
use crate::base::host::Host;

/// Waits between a failure and the next attempt, in milliseconds.
fn waits(bench: &mut Bench, attempts: usize, mut fail: impl FnMut(&mut Bench)) -> Vec<u64> {
    let mut waits = Vec::new();
    bench.wait_for_dial();
    for _ in 0..attempts {
        fail(bench);
        let failed = bench.ms();
        bench.wait_for_dial();
        waits.push(bench.ms() - failed);
    }
    waits
}

#[track_caller]
fn check_doubling(waits: &[u64]) {
    for (&wait, step) in waits.iter().zip([100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]) {
        assert!((step * 3 / 4..=step * 5 / 4 + 1).contains(&wait), "{wait} for {step} in {waits:?}");
    }
}

#[test]
fn attempts_are_further_and_further_apart_until_the_device_answers() {
    let mut bench = Bench::new(&plain(""));
    let refused = waits(&mut bench, 8, Bench::refuse);
    check_doubling(&refused);
    assert_eq!(bench.figure("m", "state"), "offline");
    // That it is accepted is nothing yet.
    let closed = |bench: &mut Bench| {
        let conn = bench.accept();
        bench.rig.half_close(conn);
        bench.rig.settle();
    };
    assert!(waits(&mut bench, 2, closed).iter().all(|wait| *wait > 3_000));
    bench.accept();
    bench.answer();
    let conn = bench.next().conn;
    bench.rig.break_off(conn);
    bench.rig.settle();
    let lost = bench.ms();
    bench.wait_for_dial();
    check_doubling(&[bench.ms() - lost]);
    let others = waits(&mut bench, 4, Bench::refuse);
    check_doubling(&others.iter().map(|wait| wait / 2).collect::<Vec<_>>());
    bench.wind_up();
}

#[test]
fn two_that_are_lost_together_do_not_come_back_together() {
    let other = plain("").replace("'m'", "'n'").replace("10.0.0.7", "10.0.0.8");
    let mut bench = Bench::new(&(plain("") + &other));
    let mut waits = [Vec::new(), Vec::new()];
    while waits.iter().any(|waits| waits.len() < 6) {
        let to = bench.wait_for_dial();
        waits[usize::from(to.host.to_string() == "10.0.0.8:502")].push(bench.ms());
        bench.refuse();
    }
    assert!((1..6).all(|at| waits[0][at] != waits[1][at]), "{waits:?}");
    bench.wind_up();
}

/// The next connection that the driver wants leads to nobody knows where.
#[track_caller]
fn lose_the_name(bench: &mut Bench, why: &str) {
    bench.wait_for_dial();
    let (key, _) = bench.rig.lines.dialled.remove(0);
    bench.rig.turn_with(|engine, lines| engine.on_unresolved(key, why, lines));
    bench.rig.settle();
}

#[test]
fn a_name_that_cannot_be_looked_up_is_told_and_looked_up_again() {
    let text = plain("").replace("10.0.0.7", "Meter7.plant.local");
    let mut bench = Bench::new(&text);
    assert_eq!(bench.wait_for_dial().host.to_string(), "meter7.plant.local:502");
    bench.check_reason("m", "a", "not read yet");
    let unknown = "'meter7.plant.local' could not be looked up: nobody knows it";
    let attempts = waits(&mut bench, 3, |bench| lose_the_name(bench, unknown));
    check_doubling(&attempts);
    assert_eq!(bench.figure("m", "state"), "offline");
    bench.check_reason("m", "a", unknown);
    assert_eq!(bench.figure("m", "reason"), unknown);
    // Tags that say why follow.
    lose_the_name(&mut bench, "it takes too long");
    bench.check_reason("m", "a", "it takes too long");
    assert_eq!(bench.figure("m", "reason"), "it takes too long");

    bench.refuse();
    bench.check_reason("m", "a", "the device is not connected");
    assert_eq!(bench.figure("m", "reason"), "the connection could not be made (connection refused)");
    let conn = bench.accept();
    assert_eq!(bench.figure("m", "reason"), "");
    bench.answer();
    bench.check("m/a", "1010 good");
    bench.check_reason("m", "a", "");
    bench.rig.break_off(conn);
    lose_the_name(&mut bench, unknown);
    bench.check("m/a", "1010 uncertain");
    bench.check_reason("m", "a", unknown);
    bench.wind_up();
}

#[test]
fn the_next_address_has_its_turn_until_one_answers() {
    #[track_caller]
    fn turn(bench: &mut Bench) -> u32 {
        match bench.wait_for_dial().host {
            Host::Name(host) => host.turn,
            Host::Address(address) => panic!("{address} is no name"),
        }
    }
    let mut bench = Bench::new(&plain("").replace("10.0.0.7", "meter7"));
    assert_eq!(turn(&mut bench), 0);
    // No address, no turn.
    lose_the_name(&mut bench, "nobody knows it");
    assert_eq!(turn(&mut bench), 0);
    bench.refuse();
    assert_eq!(turn(&mut bench), 1);
    // It may be anybody who accepts.
    let silent = bench.accept();
    bench.rig.break_off(silent);
    bench.asked();
    assert_eq!(turn(&mut bench), 2);
    let conn = bench.accept();
    let asked = bench.next();
    bench.reply(&asked, &orderly(&asked));
    bench.check("m/a", "1010 good");
    bench.rig.break_off(conn);
    assert_eq!(turn(&mut bench), 2);
    bench.refuse();
    assert_eq!(turn(&mut bench), 3);
    bench.wind_up();
}

#[test]
fn an_attempt_that_nobody_answers_is_given_up() {
    let mut bench = Bench::new(&plain(""));
    bench.wait_for_dial();
    bench.rig.lines.dialled.remove(0);
    bench.advance(millis(4_999));
    assert!(bench.rig.lines.dialled.is_empty());
    bench.accept();
    bench.answer();
    bench.check("m/a", "1010 good");
    bench.wind_up();
}

#[test]
fn five_seconds_without_a_byte_end_a_connection_and_nothing_else_does() {
    let mut bench = Bench::new(&plain("timeout = '900ms'"));
    let first = bench.accept();
    let begun = bench.ms();
    while !bench.is_closed(first) {
        bench.advance(millis(10));
        assert!(bench.ms() - begun < 10_000, "never closed");
    }
    assert!((5_000..7_000).contains(&(bench.ms() - begun)), "closed after {} ms", bench.ms() - begun);
    assert_eq!(bench.figure("m", "state"), "offline");
    bench.asked();

    // Bytes are a sign of life, though no request is answered.
    let second = bench.accept();
    for _ in 0..30 {
        bench.advance(millis(1_000));
        bench.send_frame(second, 0, 1, b"\x03\x02\0\0");
    }
    assert!(!bench.is_closed(second));
    assert_eq!(bench.count("m", "reconnects"), 1);
    bench.wind_up();
}

#[test]
fn who_is_seldom_asked_is_not_cut_off_for_one_timeout() {
    let mut bench = Bench::new(&plain("rate = '60s'"));
    let conn = bench.accept();
    bench.answer();
    bench.advance(seconds(60));
    assert_eq!(bench.asked().len(), 1);
    bench.advance(millis(1_000));
    assert_eq!((bench.count("m", "timeouts"), bench.is_closed(conn)), (1, false));
    bench.answer();
    bench.check("m/a", "1010 good");
    bench.wind_up();
}

#[test]
fn devices_of_one_url_share_a_connection() {
    let unit = |number: u8| plain(&format!("unit = {number}")).replace("'m'", &format!("'m{number}'"));
    let mut bench = Bench::new(&(1..=3).map(unit).collect::<String>());
    let conn = bench.accept();
    bench.serve(seconds(3), |asked| Some(orderly(asked)));
    for number in 1..=3 {
        bench.check(&format!("m{number}/a"), &format!("{number}010 good"));
        assert_eq!(bench.figure(&format!("m{number}"), "state"), "online");
    }
    assert!(bench.rig.lines.dialled.is_empty());
    bench.rig.break_off(conn);
    bench.rig.settle();
    for number in 1..=3 {
        bench.check(&format!("m{number}/a"), &format!("{number}010 uncertain"));
        assert_eq!(bench.figure(&format!("m{number}"), "state"), "offline");
    }
    bench.serve(seconds(3), |asked| Some(orderly(asked)));
    bench.check("m3/a", "3010 good");
    assert_eq!(bench.count("m3", "reconnects"), 1);
    bench.wind_up();
}

#[test]
fn first_connections_and_first_polls_are_spread_over_the_rate() {
    let meter = |number: usize| {
        plain("rate = '1s'")
            .replace("'m'", &format!("'m{number}'"))
            .replace("0.7", &format!("0.{}", number + 1))
    };
    let mut bench = Bench::new(&(0..20).map(meter).collect::<String>());
    let mut dials = Vec::new();
    let mut polls = Vec::new();
    for _ in 0..200 {
        while !bench.rig.lines.dialled.is_empty() {
            dials.push(bench.ms());
            bench.accept();
        }
        for asked in bench.asked() {
            polls.push(asked.at);
            bench.reply(&asked, &orderly(&asked));
        }
        bench.advance(millis(10));
    }
    assert_eq!(dials.len(), 20);
    assert!(dials.iter().max() > Some(&800) && dials.iter().max() <= Some(&1_010), "{dials:?}");
    let at_once = polls.chunk_by(|one, next| one == next).map(<[_]>::len).max();
    assert!(at_once <= Some(4), "{at_once:?} polls at one time");
    bench.wind_up();
}

#[test]
fn a_gap_is_kept_between_a_reply_and_the_next_request() {
    let tags = [("a", "holding:10", "type = 'u16'"), ("z", "holding:900", "type = 'u16'")];
    let mut bench = Bench::new(&device("min_gap = '30ms'\nrate = '100ms'", &tags));
    bench.accept();
    let mut replied = None;
    for _ in 0..40 {
        let asked = bench.next();
        let gap = replied.map_or(30, |at: u64| bench.ms() - at);
        assert!(gap >= 30, "{gap} ms");
        bench.advance(millis(3));
        bench.reply(&asked, &orderly(&asked));
        replied = Some(bench.ms());
    }
    bench.wind_up();
}

#[test]
fn a_poll_that_is_due_while_the_last_one_runs_is_skipped_and_counted() {
    let mut bench = Bench::new(&plain("rate = '100ms'"));
    bench.accept();
    let mut requests = 0;
    for _ in 0..10 {
        let asked = bench.next();
        requests += 1;
        bench.advance(millis(350));
        assert_eq!(bench.asked(), []);
        bench.reply(&asked, &orderly(&asked));
    }
    assert_eq!(bench.count("m", "overruns"), 30);
    assert_eq!(bench.count("m", "requests"), requests);
    bench.wind_up();
}

/// Ten units, of which each is due ten times a second, and a line that carries twenty requests.
#[test]
fn all_that_an_overloaded_line_skips_is_counted() {
    let unit = |number: u8| {
        plain(&format!("unit = {number}\nrate = '100ms'")).replace("'m'", &format!("'m{number}'"))
    };
    let mut bench = Bench::new(&(1..=10).map(unit).collect::<String>());
    bench.accept();
    for _ in 0..240 {
        let asked = bench.next();
        bench.advance(millis(50));
        bench.reply(&asked, &orderly(&asked));
    }
    for number in 1..=10 {
        let [requests, overruns] =
            ["requests", "overruns"].map(|name| bench.count(&format!("m{number}"), name));
        // Twelve seconds; what is running or waiting is not counted yet.
        assert!((23..=25).contains(&requests), "{requests} requests");
        assert!((113..=120).contains(&(requests + overruns)), "{requests} requests and {overruns} skipped");
    }
    bench.wind_up();
}

/// Who was paused, silent or not connected was not overrun.
#[test]
fn what_was_due_while_it_could_not_be_polled_is_not_counted() {
    let mut bench = Bench::new(&plain("rate = '100ms'\ntimeout = '90ms'"));
    // Nobody is there at first.
    for _ in 0..4 {
        bench.refuse();
    }
    bench.accept();
    bench.serve(seconds(2), |asked| Some(orderly(asked)));
    bench.set("$device/m/enabled", "false");
    bench.serve(seconds(5), |asked| Some(orderly(asked)));
    bench.set("$device/m/enabled", "true");
    let conn = bench.accept();
    bench.serve(seconds(5), |asked| Some(orderly(asked)));
    bench.rig.break_off(conn);
    bench.rig.settle();
    bench.refuse();
    bench.refuse();
    bench.serve(seconds(5), |asked| Some(orderly(asked)));
    assert_eq!(bench.count("m", "overruns"), 0);
    bench.serve(seconds(4), |_| None);
    assert_eq!(bench.figure("m", "state"), "silent");
    let overruns = bench.count("m", "overruns");
    bench.serve(seconds(15), |asked| Some(orderly(asked)));
    assert_eq!(bench.figure("m", "state"), "online");
    assert_eq!(bench.count("m", "overruns"), overruns, "those of polls in vain");
    bench.wind_up();
}

#[test]
fn a_device_can_be_paused() {
    let mut bench = Bench::new(&plain(""));
    let conn = bench.accept();
    bench.answer();
    let asked = bench.next();
    let client = bench.set("$device/m/enabled", "false");
    assert_eq!(bench.said(client), "OK\n");
    // What is under way is not asked again, and says nothing any more.
    bench.reply(&asked, &read_reply(&asked, &[1, 2]));
    bench.serve(seconds(2), |asked| panic!("{asked:?}"));
    assert!(bench.is_closed(conn));
    assert_eq!(bench.figure("m", "state"), "disabled");
    bench.check("m/a", "1010 uncertain");
    bench.serve(seconds(60), |asked| panic!("{asked:?}"));
    let client = bench.set("$device/m/enabled", "true");
    assert_eq!(bench.said(client), "OK\n");
    bench.serve(seconds(3), |asked| Some(orderly(asked)));
    bench.check("m/a", "1010 good");
    assert_eq!(bench.figure("m", "state"), "online");
    bench.wind_up();
}

/// At a slow rate, too, whether it was lost or paused.
#[test]
fn who_comes_back_is_polled_within_a_second() {
    let mut bench = Bench::new(&plain("rate = '1h'"));
    let check_good = |bench: &mut Bench| {
        bench.serve(millis(1_050), |asked| Some(orderly(asked)));
        bench.check("m/a", "1010 good");
        // Once, and then at its rate again.
        let before = bench.count("m", "requests");
        bench.serve(seconds(60), |asked| Some(orderly(asked)));
        assert_eq!(bench.count("m", "requests"), before);
    };
    let conn = bench.accept();
    check_good(&mut bench);

    bench.rig.break_off(conn);
    bench.rig.settle();
    bench.check("m/a", "1010 uncertain");
    bench.wait_for_dial();
    check_good(&mut bench);

    bench.set("$device/m/enabled", "false");
    bench.serve(seconds(2), |asked| Some(orderly(asked)));
    bench.check("m/a", "1010 uncertain");
    bench.set("$device/m/enabled", "true");
    bench.serve(seconds(2), |asked| Some(orderly(asked)));
    check_good(&mut bench);
    bench.wind_up();
}

#[test]
fn one_of_two_on_a_line_can_be_paused() {
    let mut bench = Bench::new(&(plain("") + &plain("unit = 2").replace("'m'", "'n'")));
    let conn = bench.accept();
    bench.serve(seconds(3), |asked| Some(orderly(asked)));
    bench.set("$device/n/enabled", "false");
    bench.serve(seconds(2), |asked| Some(orderly(asked)));
    bench.serve(seconds(10), |asked| (asked.unit == 1).then(|| orderly(asked)));
    assert_eq!((bench.count("n", "timeouts"), &*bench.figure("n", "state")), (0, "disabled"));
    bench.check("n/a", "2010 uncertain");
    bench.check("m/a", "1010 good");
    // Also over a new connection.
    bench.rig.break_off(conn);
    bench.serve(millis(500), |asked| Some(orderly(asked)));
    assert_eq!(bench.figure("n", "state"), "disabled");
    let writer = bench.set("n/a", "1");
    assert!(bench.said(writer).starts_with("ERR "));
    bench.set("$device/n/enabled", "true");
    bench.serve(seconds(3), |asked| Some(orderly(asked)));
    bench.check("n/a", "2010 good");
    assert_eq!(bench.figure("n", "state"), "online");
    bench.wind_up();
}

#[test]
fn a_device_that_is_paused_before_it_was_reached_says_so() {
    let mut bench = Bench::new(&plain(""));
    bench.set("$device/m/enabled", "false");
    bench.refuse();
    bench.advance(seconds(20));
    assert!(bench.rig.lines.dialled.is_empty());
    assert_eq!(bench.figure("m", "state"), "disabled");
    bench.wind_up();
}

/// A peer that takes nothing: what was not taken is forgotten with the connection.
#[test]
fn a_device_that_takes_nothing_is_connected_to_again() {
    let mut bench = Bench::new(&plain(""));
    let conn = bench.accept();
    bench.answer();
    bench.rig.shut_window(conn);
    let mut waited = 0;
    while !bench.is_closed(conn) {
        bench.advance(millis(100));
        waited += 100;
        assert!(waited < 10_000, "never closed");
    }
    bench.check("m/a", "1010 uncertain");
    bench.accept();
    let asked = bench.next();
    bench.reply(&asked, &orderly(&asked));
    bench.check("m/a", "1010 good");
    bench.wind_up();
}

/// Ids go round; those given out of late are late, the others never were.
#[test]
fn transaction_ids_go_round() {
    let mut bench = Bench::new(&plain("rate = '1ms'"));
    bench.accept();
    let mut last = bench.next();
    for _ in 0..70_000 {
        bench.reply(&last, &orderly(&last));
        let asked = bench.next();
        assert_eq!(asked.tid, last.tid.wrapping_add(1));
        last = asked;
    }
    assert_eq!(bench.count("m", "late") + bench.count("m", "mismatched"), 0);
    bench.send_frame(last.conn, last.tid.wrapping_sub(10), 1, &orderly(&last));
    assert_eq!(bench.count("m", "late"), 1);
    // Nothing comes so late.
    bench.send_frame(last.conn, last.tid.wrapping_sub(1_000), 1, &orderly(&last));
    assert_eq!((bench.count("m", "late"), bench.count("m", "mismatched")), (1, 1));
    bench.wind_up();
}
