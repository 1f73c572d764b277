//! Orders on their way to devices: each is settled exactly once, and reaches the device once at most.

use super::*;

/// A writable register, polled seldom so that writes stand alone.
pub(super) fn writable(keys: &str, tag: &str) -> String {
    device(
        &format!("rate = '100s'\n{keys}"),
        &[("a", "holding:10", &format!("type = 'u16'\naccess = 'rw'\n{tag}"))],
    )
}

/// A device that was polled once.
#[track_caller]
pub(super) fn ready(config: &str) -> Bench {
    let mut bench = Bench::new(config);
    bench.accept();
    bench.answer();
    bench.asked();
    bench
}

/// One tag, one order, and the requests that it becomes, each with its reply. Then the tag has the value.
#[track_caller]
fn check_write(keys: &str, tag: (&str, &str), value: &str, exchange: &[(&[u8], &[u8])]) {
    let config =
        device(&format!("rate = '100s'\n{keys}"), &[("a", tag.0, &format!("access = 'rw'\n{}", tag.1))]);
    let mut bench = ready(&config);
    let writer = bench.set("m/a", value);
    for (request, reply) in exchange {
        assert_eq!(bench.said(writer), "", "not before the last reply");
        let asked = bench.next();
        assert_eq!(asked.pdu, *request, "{tag:?}");
        bench.reply(&asked, reply);
    }
    assert_eq!(bench.said(writer), "OK\n", "{tag:?}");
    bench.check("m/a", &format!("{value} good"));
    assert_eq!(bench.time("m/a"), bench.ms() as i64);
    assert_eq!(bench.asked(), []);
    bench.wind_up();
}

/// Who wrote reads what was written, and nothing of a paused device is good.
#[test]
fn a_write_that_is_confirmed_after_a_pause_is_told_and_not_good() {
    let mut bench = ready(&writable("timeout = '3s'", ""));
    let writer = bench.set("m/a", "7");
    let asked = bench.next();
    bench.set("$device/m/enabled", "false");
    bench.advance(seconds(2));
    bench.reply(&asked, &orderly(&asked));
    assert_eq!(bench.said(writer), "OK\n");
    bench.check("m/a", "7 uncertain");
    bench.wind_up();
}

#[test]
fn each_kind_of_point_is_written_by_the_function_that_fits() {
    let echo = |pdu: &'static [u8]| [(pdu, pdu)];
    let u16s = ("holding:10", "type = 'u16'");
    check_write("", u16s, "42", &echo(b"\x06\0\x0a\0\x2a"));
    check_write("write_single = false", u16s, "42", &[(b"\x10\0\x0a\0\x01\x02\0\x2a", b"\x10\0\x0a\0\x01")]);
    check_write("", ("holding:10", "type = 'u16'\nscale = 0.1"), "4.2", &echo(b"\x06\0\x0a\0\x2a"));
    check_write("", ("holding:10", "type = 'i16'"), "-2", &echo(b"\x06\0\x0a\xff\xfe"));
    let cdab = ("holding:10", "type = 'u32'\norder = 'cdab'");
    check_write("", cdab, "65538", &[(b"\x10\0\x0a\0\x02\x04\0\x02\0\x01", b"\x10\0\x0a\0\x02")]);
    let float = ("holding:10", "type = 'f32'");
    check_write("", float, "12.5", &[(b"\x10\0\x0a\0\x02\x04\x41\x48\0\0", b"\x10\0\x0a\0\x02")]);
    let text = ("holding:10", "type = 'string(4)'");
    check_write("", text, "\"AB\"", &[(b"\x10\0\x0a\0\x02\x04AB\0\0", b"\x10\0\x0a\0\x02")]);
    check_write("", ("coil:7", ""), "true", &echo(b"\x05\0\x07\xff\0"));
    check_write("", ("coil:7", ""), "false", &echo(b"\x05\0\x07\0\0"));
    check_write(
        "write_single = false",
        ("coil:7", ""),
        "true",
        &[(b"\x0f\0\x07\0\x01\x01\x01", b"\x0f\0\x07\0\x01")],
    );
}

#[test]
fn a_bit_of_a_register_leaves_the_others_alone() {
    let bit = ("holding:10.3", "");
    let mask = |pdu: &'static [u8]| [(pdu, pdu)];
    for keys in ["use_fc22 = true", "bit_write = 'fc22'"] {
        check_write(keys, bit, "true", &mask(b"\x16\0\x0a\xff\xf7\0\x08"));
        check_write(keys, bit, "false", &mask(b"\x16\0\x0a\xff\xf7\0\0"));
    }
    let read = (&b"\x03\0\x0a\0\x01"[..], &b"\x03\x02\x12\x34"[..]);
    check_write("bit_write = 'rmw'", bit, "true", &[read, (b"\x06\0\x0a\x12\x3c", b"\x06\0\x0a\x12\x3c")]);
    let many = (&b"\x10\0\x0a\0\x01\x02\x12\x34"[..], &b"\x10\0\x0a\0\x01"[..]);
    check_write("bit_write = 'rmw'\nwrite_single = false", bit, "false", &[read, many]);
}

#[test]
fn what_was_written_is_read_back_where_that_is_wanted() {
    let verified = ("holding:10", "type = 'u16'\nverify = true");
    let write = (&b"\x06\0\x0a\0\x2a"[..], &b"\x06\0\x0a\0\x2a"[..]);
    check_write("", verified, "42", &[write, (b"\x03\0\x0a\0\x01", b"\x03\x02\0\x2a")]);
    let coil = (&b"\x05\0\x07\xff\0"[..], &b"\x05\0\x07\xff\0"[..]);
    check_write("", ("coil:7", "verify = true"), "true", &[coil, (b"\x01\0\x07\0\x01", b"\x01\x01\x01")]);
    let bit = (&b"\x16\0\x0a\xff\xf7\0\x08"[..], &b"\x16\0\x0a\xff\xf7\0\x08"[..]);
    let keys = "use_fc22 = true";
    check_write(
        keys,
        ("holding:10.3", "verify = true"),
        "true",
        &[bit, (b"\x03\0\x0a\0\x01", b"\x03\x02\xff\xff")],
    );

    let mut bench = ready(&writable("", "verify = true"));
    let writer = bench.set("m/a", "42");
    let asked = bench.next();
    bench.reply(&asked, &orderly(&asked));
    let asked = bench.next();
    bench.reply(&asked, &read_reply(&asked, &[41]));
    assert_eq!(bench.said(writer), "ERR device read-back differs\n");
    bench.check("m/a", "41 good");
    bench.wind_up();
}

/// A device that limits a value may say so. What it has is read, told, and no `OK`.
#[test]
fn what_the_device_wrote_instead_is_told() {
    for (tag, value, exchange, said, sample) in [
        (
            ("holding:10", "type = 'u16'\nscale = 0.1"),
            "70",
            [&b"\x06\0\x0a\x02\xbc"[..], b"\x06\0\x0a\0\x64", b"\x03\0\x0a\0\x01", b"\x03\x02\0\x64"],
            "ERR device read back 10.0 instead of 70.0\n",
            "10.0 good",
        ),
        (
            ("coil:7", ""),
            "true",
            [&b"\x05\0\x07\xff\0"[..], b"\x05\0\x07\0\0", b"\x01\0\x07\0\x01", b"\x01\x01\0"],
            "ERR device read back false instead of true\n",
            "false good",
        ),
        // It cannot be read: what the device said is all that is known, until the tag is polled.
        (
            ("holding:10", "type = 'u16'"),
            "700",
            [&b"\x06\0\x0a\x02\xbc"[..], b"\x06\0\x0a\0\x64", b"\x03\0\x0a\0\x01", b"\x83\x02"],
            "ERR device wrote 100 instead of 700\n",
            "1010 uncertain",
        ),
    ] {
        let config = device("rate = '100s'", &[("a", tag.0, &format!("access = 'rw'\n{}", tag.1))]);
        let mut bench = ready(&config);
        let writer = bench.set("m/a", value);
        for step in exchange.chunks(2) {
            assert_eq!(bench.said(writer), "", "not before the last reply");
            let asked = bench.next();
            assert_eq!(asked.pdu, step[0], "{tag:?}");
            bench.reply(&asked, step[1]);
        }
        assert_eq!(bench.said(writer), said);
        bench.check("m/a", sample);
        let counts = ["altered", "mismatched", "timeouts"].map(|name| bench.count("m", name));
        assert_eq!(counts, [1, 0, 0], "{tag:?}");
        bench.wind_up();
    }
}

/// What the device says of the other bits is its own affair.
#[test]
fn a_bit_is_written_whatever_the_device_makes_of_the_register() {
    let register = [
        (&b"\x03\0\x0a\0\x01"[..], &b"\x03\x02\x12\x34"[..]),
        (b"\x06\0\x0a\x12\x3c", b"\x06\0\x0a\0\x08"),
        (b"\x03\0\x0a\0\x01", b"\x03\x02\0\x08"),
    ];
    check_write("bit_write = 'rmw'", ("holding:10.3", ""), "true", &register);
}

/// The answer to the first write comes when the line is held for it no more. Another value is no news then:
/// what is read back is what the second write has left.
#[test]
fn without_ids_an_answer_that_comes_too_late_is_not_believed() {
    let config = writable("echo_tid = false\nwrite_retries = 0", "");
    let mut bench = ready(&config.replace("modbus://", "modbus-rtu://"));
    let first = bench.set("m/a", "1");
    let asked = bench.next();
    bench.advance(millis(1_000));
    assert!(bench.said(first).starts_with("ERR timeout "));
    let second = bench.set("m/a", "2");
    let late = asked;
    let asked = bench.next_after(1_000);
    assert_eq!(asked.pdu, b"\x06\0\x0a\0\x02");
    bench.reply(&late, &orderly(&late));
    bench.reply(&asked, &orderly(&asked));
    assert_eq!(bench.said(second), "");
    let asked = bench.next();
    assert_eq!(asked.pdu, b"\x03\0\x0a\0\x01");
    bench.reply(&asked, &read_reply(&asked, &[2]));
    assert_eq!(bench.said(second), "OK\n");
    bench.check("m/a", "2 good");
    assert_eq!((bench.count("m", "mismatched"), bench.count("m", "altered")), (1, 0));
    bench.wind_up();
}

#[test]
fn what_cannot_be_written_is_not_sent() {
    let tags = [
        ("limited", "holding:10", "type = 'u16'\nscale = 0.1\nmin = 0\nmax = 100\naccess = 'rw'"),
        ("rounded", "holding:11", "type = 'u16'\nscale = 0.1\nmax = 99.96\naccess = 'rw'"),
        ("small", "holding:12", "type = 'u16'\naccess = 'rw'"),
        ("coil", "coil:1", "access = 'rw'"),
        ("text", "holding:20", "type = 'string(4)'\naccess = 'rw'"),
        ("fixed", "holding:30", "type = 'u16'"),
        ("input", "input:30", "type = 'u16'"),
    ];
    let mut bench = Bench::new(&device("rate = '100s'", &tags));
    bench.accept();
    bench.serve(seconds(1), |asked| Some(orderly(asked)));
    for (tag, value, code) in [
        ("limited", "100.1", "out-of-range"),
        ("limited", "-0.1", "out-of-range"),
        ("limited", "true", "wrong-type"),
        ("limited", "\"5\"", "wrong-type"),
        ("rounded", "99.96", "out-of-range what the registers hold next to it"),
        ("small", "65536", "out-of-range the number does not fit"),
        ("small", "-1", "out-of-range"),
        ("small", "1.5", "wrong-type"),
        ("coil", "1", "wrong-type"),
        ("text", "\"ABCDE\"", "out-of-range the text does not fit"),
        ("text", "\"A\\u0000\"", "out-of-range a text in registers cannot hold a zero"),
        ("fixed", "1", "read-only"),
        ("input", "1", "read-only"),
        ("small", "1 good", "bad-request"),
        ("small", "null", "bad-value"),
    ] {
        let writer = bench.set(&format!("m/{tag}"), value);
        let said = bench.said(writer);
        assert!(said.starts_with(&format!("ERR {code} ")), "{tag} {value}: {said:?}");
    }
    assert_eq!(bench.asked(), []);
    bench.wind_up();
}

#[test]
fn writes_go_before_polls_and_in_order() {
    let tags = [0, 100, 200].map(|address| (format!("t{address}"), format!("holding:{address}")));
    let tags = tags.each_ref().map(|(name, address)| (&**name, &**address, "type = 'u16'\naccess = 'rw'"));
    let mut bench = Bench::new(&device("", &tags));
    bench.accept();
    let poll = bench.next();
    let writers: Vec<_> =
        [("m/t200", "1"), ("m/t0", "2"), ("m/t200", "3")].map(|(tag, value)| bench.set(tag, value)).into();
    assert_eq!(bench.asked(), [], "one at a time");
    bench.reply(&poll, &orderly(&poll));
    for (writer, pdu) in writers.iter().zip([b"\x06\0\xc8\0\x01", b"\x06\0\0\0\x02", b"\x06\0\xc8\0\x03"]) {
        let asked = bench.next_after(0);
        assert_eq!(asked.pdu, pdu);
        assert_eq!(bench.said(*writer), "");
        bench.reply(&asked, &orderly(&asked));
        assert_eq!(bench.said(*writer), "OK\n");
    }
    bench.check("m/t200", "3 good");
    assert_eq!(bench.next_after(0).pdu[0], 3, "the poll goes on");
    bench.wind_up();
}

/// Also where several requests may be in flight: the writes of one device are not.
#[test]
fn one_write_at_a_time_for_each_device() {
    let mut bench = ready(&writable("window = 8", ""));
    let writers = ["1", "2", "3"].map(|value| bench.set("m/a", value));
    for (at, writer) in writers.into_iter().enumerate() {
        let asked = bench.asked();
        assert_eq!(asked.len(), 1);
        assert_eq!(usize::from(asked[0].pdu[4]), at + 1);
        bench.reply(&asked[0], &orderly(&asked[0]));
        assert_eq!(bench.said(writer), "OK\n");
    }
    bench.wind_up();
}

#[test]
fn what_the_device_says_of_a_write_is_passed_on() {
    for (code, text) in [(2, "illegal data address"), (3, "illegal data value"), (6, "server device busy")] {
        let mut bench = ready(&writable("write_retries = 3", ""));
        let writer = bench.set("m/a", "42");
        let asked = bench.next();
        bench.reply(&asked, &[0x86, code]);
        assert_eq!(bench.said(writer), format!("ERR device {text}\n"));
        bench.check("m/a", "1010 good");
        assert_eq!((bench.asked(), bench.count("m", "exceptions")), (vec![], 1));
        bench.wind_up();
    }
}

#[test]
fn a_write_that_is_not_confirmed_is_not_tried_again() {
    let mut bench = ready(&writable("", ""));
    let writer = bench.set("m/a", "42");
    let asked = bench.next();
    bench.advance(millis(999));
    assert_eq!(bench.said(writer), "");
    // What confirms something else confirms nothing.
    bench.reply(&asked, b"\x06\0\x0b\0\x2b");
    bench.reply(&asked, b"\x06\0\x0b\0\x2a");
    assert_eq!((&*bench.said(writer), bench.count("m", "mismatched")), ("", 2));
    bench.advance(millis(1));
    assert!(bench.said(writer).starts_with("ERR timeout "));
    bench.reply(&asked, &orderly(&asked));
    assert_eq!((&*bench.said(writer), bench.count("m", "late")), ("", 1));
    let poll = bench.next_after(0);
    assert_eq!(poll.pdu[0], 3, "it is read, and not written again");
    bench.reply(&poll, &orderly(&poll));
    bench.check("m/a", "1010 good");
    bench.quiet_for(seconds(60));
    bench.wind_up();
}

#[test]
fn a_write_is_tried_again_where_that_is_wanted() {
    let mut bench = ready(&writable("write_retries = 1", ""));
    for is_answered in [true, false] {
        let writer = bench.set("m/a", "42");
        let first = bench.next();
        let second = bench.next_after(1_000);
        assert_eq!(second.pdu, first.pdu);
        assert_eq!(bench.said(writer), "");
        if is_answered {
            bench.reply(&second, &orderly(&second));
            assert_eq!(bench.said(writer), "OK\n");
        } else {
            bench.advance(millis(1_000));
            assert!(bench.said(writer).starts_with("ERR timeout "));
        }
    }
    bench.wind_up();
}

#[test]
fn orders_of_a_connection_that_is_lost_are_settled_and_never_sent() {
    let mut bench = ready(&writable("", ""));
    let sent = bench.set("m/a", "1");
    let waiting = bench.set("m/a", "2");
    let conn = bench.next().conn;
    bench.rig.break_off(conn);
    bench.rig.settle();
    assert!(bench.said(sent).starts_with("ERR timeout "));
    assert!(bench.said(waiting).starts_with("ERR offline "));
    let meanwhile = bench.set("m/a", "3");
    assert!(bench.said(meanwhile).starts_with("ERR offline "));
    bench.accept();
    bench.advance(seconds(30));
    assert!(bench.asked().iter().all(|asked| asked.pdu[0] == 3), "something was written");
    for writer in [sent, waiting, meanwhile] {
        assert_eq!(bench.said(writer), "");
    }
    bench.wind_up();
}

#[test]
fn an_order_that_waits_too_long_is_refused_and_never_sent() {
    for (keys, expiry_ms) in [("", 2_000), ("write_expiry = '300ms'", 300)] {
        let mut bench = Bench::new(&writable(&format!("timeout = '10s'\n{keys}"), ""));
        bench.accept();
        let poll = bench.next();
        let writer = bench.set("m/a", "42");
        bench.advance(millis(expiry_ms - 1));
        assert_eq!(bench.said(writer), "");
        bench.advance(millis(1));
        assert!(bench.said(writer).starts_with("ERR offline "), "{expiry_ms} ms");
        bench.reply(&poll, &orderly(&poll));
        bench.quiet_for(seconds(5));
        bench.wind_up();
    }
}

#[test]
fn nothing_is_sent_to_a_silent_device() {
    let healthy = plain("unit = 2").replace("'m'", "'n'");
    let mut bench = Bench::new(
        &(writable("timeout = '200ms'\nretries = 0\nrate = '1s'", "").replace("rate = '100s'\n", "")
            + &healthy),
    );
    bench.accept();
    bench.serve(seconds(10), |asked| (asked.unit == 2).then(|| orderly(asked)));
    assert_eq!(bench.figure("m", "state"), "silent");
    let writer = bench.set("m/a", "42");
    assert!(bench.said(writer).starts_with("ERR offline "));
    bench.serve(seconds(15), |asked| {
        assert_ne!(asked.pdu[0], 6);
        Some(orderly(asked))
    });
    let writer = bench.set("m/a", "43");
    bench.serve(millis(100), |asked| Some(orderly(asked)));
    assert_eq!(bench.said(writer), "OK\n");
    bench.wind_up();
}

#[test]
fn a_device_that_falls_silent_takes_its_orders_with_it() {
    let mut bench = ready(&writable("timeout = '200ms'\nretries = 0\nwrite_expiry = '1h'", ""));
    let writers = ["1", "2", "3", "4"].map(|value| bench.set("m/a", value));
    let mut writes = 0;
    bench.serve(seconds(2), |asked| {
        writes += u32::from(asked.pdu[0] == 6);
        None
    });
    assert_eq!((writes, &*bench.figure("m", "state")), (2, "silent"));
    for (writer, code) in writers.into_iter().zip(["timeout", "timeout", "offline", "offline"]) {
        assert!(bench.said(writer).starts_with(&format!("ERR {code} ")));
    }
    bench.wind_up();
}

/// With several requests in flight a poll may have been answered before the write was carried out.
#[test]
fn a_poll_that_was_under_way_does_not_bring_the_old_value_back() {
    let tag = [("a", "holding:10", "type = 'u16'\naccess = 'rw'"), ("b", "holding:11", "type = 'u16'")];
    let mut bench = Bench::new(&device("window = 2", &tag));
    bench.accept();
    bench.answer();
    let poll = bench.next();
    bench.advance(millis(10));
    let writer = bench.set("m/a", "42");
    let write = bench.next();
    assert_eq!(write.pdu[0], 6);
    bench.reply(&write, &orderly(&write));
    assert_eq!(bench.said(writer), "OK\n");
    bench.check("m/a", "42 good");
    bench.reply(&poll, &read_reply(&poll, &[7, 8]));
    bench.check("m/a", "42 good");
    bench.check("m/b", "8 good");
    let poll = bench.next();
    bench.reply(&poll, &read_reply(&poll, &[43, 8]));
    bench.check("m/a", "43 good");
    bench.wind_up();
}

#[test]
fn a_deadband_does_not_hide_what_was_written() {
    let mut bench = ready(&writable("", "deadband = 100"));
    let writer = bench.set("m/a", "1015");
    let asked = bench.next();
    bench.reply(&asked, &orderly(&asked));
    assert_eq!(bench.said(writer), "OK\n");
    bench.check("m/a", "1015 good");
    bench.wind_up();
}

#[test]
fn half_of_a_write_is_no_write() {
    let bit = [("a", "holding:10.3", "access = 'rw'")];
    let mut bench = ready(&device("rate = '100s'\nbit_write = 'rmw'", &bit));
    let writer = bench.set("m/a", "true");
    let asked = bench.next();
    bench.reply(&asked, b"\x83\x02");
    assert_eq!(bench.said(writer), "ERR device illegal data address\n");
    let writer = bench.set("m/a", "true");
    let asked = bench.next();
    bench.rig.break_off(asked.conn);
    assert!(bench.said(writer).starts_with("ERR timeout "));
    bench.accept();
    bench.advance(seconds(20));
    assert!(bench.asked().iter().all(|asked| asked.pdu[0] == 3));
    bench.wind_up();
}

/// What came to the line while two clients wrote to unit 1 all the time, one always waiting for the other:
/// writes, and reads by unit. `and` is done after each request.
fn flooded(
    bench: &mut Bench,
    requests: usize,
    mut and: impl FnMut(&mut Bench, &Asked),
) -> (usize, [usize; 3]) {
    let (mut writes, mut reads) = (0, [0; 3]);
    let tags = ["m1/a", "m1/b"];
    let writers = tags.map(|tag| bench.set(tag, "1"));
    for _ in 0..requests {
        let asked = bench.next();
        if asked.pdu[0] == 6 {
            writes += 1;
        } else {
            reads[usize::from(asked.unit) - 1] += 1;
        }
        bench.advance(millis(10));
        bench.reply(&asked, &orderly(&asked));
        and(bench, &asked);
        for (writer, tag) in writers.into_iter().zip(tags) {
            if bench.said(writer) == "OK\n" {
                bench.rig.send(writer, format!("SET {tag} 1\n"));
                bench.rig.settle();
            }
        }
    }
    (writes, reads)
}

/// Three units on a line, with two registers that can be written, and one that needs a request of its own.
fn three_units(rate: &str) -> Bench {
    let unit = |number: u8| {
        let register = "type = 'u16'\naccess = 'rw'";
        let tags =
            [("a", "holding:10", register), ("b", "holding:11", register), ("c", "input:10", "type = 'u16'")];
        device(&format!("rate = '{rate}'\nunit = {number}"), &tags).replace("'m'", &format!("'m{number}'"))
    };
    let mut bench = Bench::new(&(1..=3).map(unit).collect::<String>());
    bench.accept();
    bench.serve(seconds(3), |asked| Some(orderly(asked)));
    bench
}

#[test]
fn however_much_is_written_all_are_polled() {
    let mut bench = three_units("500ms");
    // Six seconds: twelve polls of two requests each.
    let (writes, reads) = flooded(&mut bench, 600, |_, _| {});
    assert!(reads.iter().all(|reads| (22..=26).contains(reads)), "{reads:?} beside {writes} writes");
    for unit in 1..=3 {
        assert_eq!(bench.count(&format!("m{unit}"), "overruns"), 0);
        bench.check(&format!("m{unit}/c"), &format!("{unit}010 good"));
    }
    bench.wind_up();
}

/// Where there is more to be polled than the line can carry, too: writes have half of it, and all units the
/// same part of the rest.
#[test]
fn writes_and_polls_share_a_line_that_is_short_of_time() {
    let mut bench = three_units("20ms");
    let (writes, reads) = flooded(&mut bench, 600, |_, _| {});
    assert!((295..=305).contains(&writes), "{writes} writes beside {reads:?}");
    assert!(reads.iter().all(|reads| (98..=102).contains(reads)), "{reads:?}");
    bench.wind_up();
}

#[test]
fn a_flood_of_writes_to_one_unit_leaves_room_for_those_to_others() {
    let mut bench = three_units("20ms");
    let other = bench.set("m3/a", "7");
    let (mut since, mut written) = (0, 0);
    flooded(&mut bench, 300, |bench, _| {
        since += 1;
        if bench.said(other) == "OK\n" {
            (since, written) = (0, written + 1);
            bench.rig.send(other, "SET m3/a 7\n");
            bench.rig.settle();
        }
        // Behind the one that is under way, one of the other unit, and a poll after each.
        assert!(since <= 6, "{since} requests, and it was not written");
    });
    assert!(written >= 70, "{written} times");
    bench.wind_up();
}

/// What belongs together is not torn apart by a poll.
#[test]
fn a_write_is_read_back_at_once() {
    let config = writable("", "verify = true") + &plain("unit = 2\nrate = '10ms'").replace("'m'", "'n'");
    let mut bench = Bench::new(&config);
    bench.accept();
    bench.serve(seconds(3), |asked| Some(orderly(asked)));
    bench.set("m/a", "1010");
    let asked = loop {
        let asked = bench.next();
        bench.advance(millis(20));
        bench.reply(&asked, &orderly(&asked));
        if asked.pdu[0] == 6 {
            break bench.next();
        }
    };
    assert_eq!((asked.unit, asked.pdu), (1, b"\x03\0\x0a\0\x01".to_vec()));
    bench.wind_up();
}
