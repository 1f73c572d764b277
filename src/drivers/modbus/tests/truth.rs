//! What tags say of their devices: good only what was just read, and why not.

use super::*;

#[test]
fn what_was_read_is_kept_when_the_connection_is_lost() {
    let mut bench = Bench::new(&plain("stale_after = '1h'"));
    bench.check("m/a", "null bad");
    let conn = bench.accept();
    assert_eq!(bench.figure("m", "state"), "connecting");
    bench.advance(millis(40));
    bench.answer();
    bench.check("m/a", "1010 good");
    assert_eq!(bench.time("m/a"), 40, "the time is the reply's");
    bench.advance(millis(500));
    bench.rig.break_off(conn);
    bench.rig.settle();
    bench.check("m/a", "1010 uncertain");
    assert_eq!((bench.time("m/a"), &*bench.figure("m", "state")), (40, "offline"));
    bench.check_reason("m", "a", "the device is not connected");
    bench.accept();
    bench.check("m/a", "1010 uncertain");
    let asked = bench.next();
    bench.reply(&asked, &orderly(&asked));
    bench.check("m/a", "1010 good");
    assert_eq!(bench.time("m/a"), bench.ms() as i64);
    bench.wind_up();
}

#[test]
fn a_value_is_too_old_in_time_while_the_line_is_busy_and_others_wait() {
    let mut bench = Bench::new(
        "
        [[device]]
        name = 'm'
        url = 'modbus://10.0.0.7'
        rate = '400ms'
        stale_after = '500ms'
          [[device.tag]]
          name = 'a'
          address = 'holding:10'
          type = 'u16'
          [[device.tag]]
          name = 'b'
          address = 'holding:50'
          type = 'u16'
          rate = '450ms'
        ",
    );
    bench.accept();
    // It is a slow one, and so it is waited for.
    for tag in ["a", "b"] {
        let asked = bench.next();
        bench.advance(millis(250));
        bench.reply(&asked, &orderly(&asked));
        assert!(bench.get(&format!("m/{tag}")).ends_with(" good"));
    }
    // Now it is asked for one of them, and the other one waits.
    let read = bench.time("m/a") as u64;
    bench.advance(millis(read + 499 - bench.ms()));
    bench.check("m/a", "1010 good");
    bench.advance(millis(1));
    bench.check("m/a", "1010 uncertain");
    bench.check_reason("m", "a", "not read for stale_after");
    bench.wind_up();
}

#[test]
fn retries_used_up_leave_the_value_in_doubt() {
    let mut bench = Bench::new(&plain("timeout = '100ms'\nretries = 2\nstale_after = '1h'"));
    bench.accept();
    bench.answer();
    let first = bench.next_after(1_000);
    for _ in 0..2 {
        assert_eq!(bench.next_after(100).pdu, first.pdu);
        bench.check("m/a", "1010 good");
    }
    bench.advance(millis(100));
    bench.check("m/a", "1010 uncertain");
    assert_eq!((bench.count("m", "timeouts"), &*bench.figure("m", "state")), (3, "online"));
    bench.check_reason("m", "a", "the device did not answer in time");
    let next = bench.next_after(700);
    bench.reply(&next, &orderly(&next));
    bench.check("m/a", "1010 good");
    bench.wind_up();
}

#[test]
fn exceptions_that_pass_are_retried_within_the_scan() {
    for code in [5, 6] {
        let mut bench = Bench::new(&plain("retries = 2"));
        bench.accept();
        for _ in 0..2 {
            let asked = bench.next_after(0);
            bench.reply(&asked, &[0x83, code]);
        }
        let asked = bench.next_after(0);
        bench.reply(&asked, &orderly(&asked));
        bench.check("m/a", "1010 good");
        assert_eq!(bench.count("m", "exceptions"), 2);
        // Used up: in doubt, and asked again with the next scan.
        let mut asked = bench.next_after(1_000);
        bench.reply(&asked, &[0x83, code]);
        for _ in 0..2 {
            asked = bench.next_after(0);
            bench.reply(&asked, &[0x83, code]);
        }
        bench.check("m/a", "1010 uncertain");
        assert_eq!((&*bench.figure("m", "state"), bench.count("m", "not_good")), ("online", 2));
        let asked = bench.next_after(1_000);
        bench.reply(&asked, &orderly(&asked));
        bench.check("m/a", "1010 good");
        assert_eq!(bench.count("m", "not_good"), 0);
        bench.wind_up();
    }
}

#[test]
fn what_the_device_refuses_is_bad() {
    for code in [1, 3, 4, 8, 0x40] {
        let mut bench = Bench::new(&plain(""));
        let conn = bench.accept();
        bench.answer();
        let asked = bench.next();
        bench.reply(&asked, &[0x83, code]);
        bench.check("m/a", "null bad");
        assert_eq!((bench.count("m", "exceptions"), bench.count("m", "not_good")), (1, 2));
        bench.rig.break_off(conn);
        bench.rig.settle();
        bench.check("m/a", "null bad");
        assert_ne!(bench.figure("m", "reason/a"), "the device is not connected", "it was more than that");
        bench.serve(seconds(2), |asked| Some(orderly(asked)));
        bench.check("m/a", "1010 good");
        assert_eq!(bench.count("m", "not_good"), 0);
        bench.wind_up();
    }
}

#[test]
fn registers_without_a_meaning_are_bad() {
    let tags = [("a", "holding:10", "type = 'bcd16'"), ("f", "holding:11", "type = 'f32'")];
    let mut bench = Bench::new(&device("", &tags));
    bench.accept();
    let asked = bench.next();
    bench.reply(&asked, &read_reply(&asked, &[0x1234, 0x4148, 0]));
    bench.check("m/a", "1234 good");
    bench.check("m/f", "12.5 good");
    let asked = bench.next();
    bench.reply(&asked, &read_reply(&asked, &[0x12f4, 0x4148, 0]));
    bench.check("m/a", "null bad");
    bench.check("m/f", "12.5 good");
    assert_eq!(bench.count("m", "not_good"), 1);
    bench.check_reason("m", "a", "the registers have no meaning in the tag's type");
    let asked = bench.next();
    bench.reply(&asked, &read_reply(&asked, &[0x4321, 0x4148, 0]));
    bench.check("m/a", "4321 good");
    bench.wind_up();
}

/// It was read, whatever it means.
#[test]
fn registers_without_a_meaning_are_not_old() {
    let mut bench = Bench::new(&device("rate = '100ms'", &[("a", "holding:10", "type = 'bcd16'")]));
    bench.accept();
    bench.serve(seconds(10), |asked| Some(read_reply(asked, &[0x00c8])));
    bench.check("m/a", "null bad");
    let oldest_ms = bench.count("m", "oldest_ms");
    assert!(oldest_ms <= 100, "read each 100 ms, the last time {oldest_ms} ms ago");
    bench.wind_up();
}

/// The device answers once, and then no more, though the connection stays.
#[track_caller]
fn check_stale(keys: &str, after_ms: u64) {
    let mut bench = Bench::new(&plain(&format!("timeout = '1h'\n{keys}")));
    let conn = bench.accept();
    bench.answer();
    bench.advance(millis(after_ms - 1));
    bench.check("m/a", "1010 good");
    bench.advance(millis(1));
    bench.check("m/a", "1010 uncertain");
    assert_eq!((bench.time("m/a"), bench.is_closed(conn)), (0, false), "{keys}");
    assert!(bench.count("m", "oldest_ms") >= after_ms);
    bench.check_reason("m", "a", "not read for stale_after");
    bench.wind_up();
}

#[test]
fn what_is_too_old_is_in_doubt_whatever_the_cause() {
    check_stale("", 3_000);
    check_stale("rate = '200ms'", 600);
    check_stale("stale_after = '450ms'", 450);
    check_stale("rate = '200ms'\nstale_after = '2500ms'", 2_500);
}

#[test]
fn each_rate_has_its_own_age() {
    let tags = [("slow", "holding:10", "type = 'u16'\nrate = '10s'"), ("fast", "holding:11", "type = 'u16'")];
    let mut bench = Bench::new(&device("", &tags));
    bench.accept();
    let mut blocks = Vec::new();
    bench.serve(seconds(25), |asked| {
        blocks.push(asked.pdu[2]);
        Some(orderly(asked))
    });
    assert_eq!(blocks.iter().filter(|start| **start == 10).count(), 3);
    assert!(blocks.iter().filter(|start| **start == 11).count() >= 25);
    bench.check("m/slow", "1010 good");
    bench.serve(seconds(5), |_| None);
    bench.check("m/fast", "1011 uncertain");
    bench.wind_up();
}

/// Values of one tag, and what it shows of them.
#[track_caller]
fn check_deadband(keys: &str, values: &[(u16, &str)]) {
    let tag = [("a", "holding:10", &*format!("type = 'i16'\n{keys}"))];
    let mut bench = Bench::new(&device("", &tag));
    bench.accept();
    for (register, shown) in values {
        let asked = bench.next();
        bench.reply(&asked, &read_reply(&asked, &[*register]));
        bench.check("m/a", &format!("{shown} good"));
        assert_eq!(bench.time("m/a"), bench.ms() as i64, "it was read, changed or not");
    }
    bench.wind_up();
}

#[test]
fn a_deadband_holds_back_small_changes() {
    let minus = |number: i16| number as u16;
    check_deadband("deadband = 2", &[(10, "10"), (12, "10"), (13, "13"), (11, "13"), (10, "10")]);
    check_deadband("deadband = 0", &[(10, "10"), (11, "11")]);
    check_deadband("scale = 0.1\ndeadband = 0.5", &[(100, "10.0"), (105, "10.0"), (106, "10.6")]);
    check_deadband("deadband = '10%'", &[(100, "100"), (110, "100"), (111, "111"), (100, "111"), (99, "99")]);
    check_deadband(
        "deadband = '10%'",
        &[(minus(-100), "-100"), (minus(-110), "-100"), (minus(-111), "-111")],
    );
    check_deadband("deadband = '50%'", &[(0, "0"), (1, "1")]);
}

#[test]
fn a_value_within_its_deadband_is_good_again_after_a_doubt() {
    let mut bench = Bench::new(&device("", &[("a", "holding:10", "type = 'u16'\ndeadband = 5")]));
    let conn = bench.accept();
    bench.answer();
    bench.rig.break_off(conn);
    bench.rig.settle();
    bench.check("m/a", "1010 uncertain");
    bench.accept();
    let asked = bench.next();
    bench.reply(&asked, &read_reply(&asked, &[1_012]));
    bench.check("m/a", "1010 good");
    bench.wind_up();
}

#[test]
fn all_areas_and_types_are_read() {
    let tags = [
        ("coil", "coil:7", ""),
        ("discrete", "discrete:8", ""),
        ("input", "input:3", "type = 'u16'\nscale = 0.5\noffset = 1"),
        ("bit", "holding:100.3", ""),
        ("bit-off", "holding:100.4", ""),
        ("swapped", "holding:101", "type = 'u32'\norder = 'cdab'"),
        ("modicon", "40104", "type = 'u16'"),
        ("text", "holding:105", "type = 'string(4)'"),
    ];
    let mut bench = Bench::new(&device("window = 16", &tags));
    bench.accept();
    for asked in bench.asked() {
        let reply = match asked.pdu[0] {
            3 => read_reply(&asked, &[0b1000, 2, 1, 44, 0, 0x4142, 0x4300]),
            _ => orderly(&asked),
        };
        bench.reply(&asked, &reply);
    }
    for (tag, sample) in [
        ("coil", "true good"),
        ("discrete", "false good"),
        ("input", "502.5 good"),
        ("bit", "true good"),
        ("bit-off", "false good"),
        ("swapped", "65538 good"),
        ("modicon", "44 good"),
        ("text", "\"ABC\" good"),
    ] {
        bench.check(&format!("m/{tag}"), sample);
    }
    bench.wind_up();
}

#[test]
fn how_long_a_device_takes_is_told() {
    let mut bench = Bench::new(&plain("timeout = '2s'"));
    bench.accept();
    for _ in 0..50 {
        let asked = bench.next();
        bench.advance(millis(40));
        bench.reply(&asked, &orderly(&asked));
    }
    let rtt: f64 = bench.figure("m", "rtt_ms").parse().expect("a number");
    assert!((39.5..=40.0).contains(&rtt), "{rtt} ms");
    assert_eq!((bench.count("m", "requests"), bench.count("m", "oldest_ms")), (50, 0));
    bench.advance(millis(300));
    assert_eq!(bench.count("m", "oldest_ms"), 300);
    bench.wind_up();
}

#[test]
fn a_device_without_tags_is_asked_nothing() {
    let mut bench = Bench::new(&device("", &[]));
    bench.accept();
    bench.quiet_for(seconds(60));
    assert_eq!(bench.figure("m", "state"), "connecting");
    bench.wind_up();
}
