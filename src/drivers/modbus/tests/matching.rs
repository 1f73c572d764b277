//! Which frame answers which request.

use super::*;

/// A frame that comes while a request of `url` waits. It is dropped, and the right one behind it is taken.
#[track_caller]
fn check_dropped(frame: (i32, u8, &[u8]), figure: &str) {
    let mut bench = Bench::new(&plain("unit = 5"));
    bench.accept();
    bench.answer();
    bench.check("m/a", "5010 good");
    let asked = bench.next_after(1_000);
    let (shift, unit, pdu) = frame;
    bench.send_frame(asked.conn, asked.tid.wrapping_add_signed(shift as i16), unit, pdu);
    assert_eq!(bench.count("m", figure), 1, "{frame:02x?}");
    assert_eq!(bench.count("m", "late") + bench.count("m", "mismatched"), 1, "{frame:02x?}");
    bench.check("m/a", "5010 good");
    assert!(!bench.is_closed(asked.conn));
    bench.reply(&asked, &read_reply(&asked, &[7, 8]));
    bench.check("m/a", "7 good");
    bench.check("m/b", "8 good");
    assert_eq!(bench.count("m", "timeouts"), 0);
    bench.wind_up();
}

#[test]
fn what_does_not_fit_is_counted_and_never_used() {
    let fitting = b"\x03\x04\0\x63\0\x64";
    check_dropped((100, 5, fitting), "mismatched");
    check_dropped((-1, 5, fitting), "late");
    // Ids that were never given out: the first is 1.
    for shift in [-2, -100, -5_000, -32_000] {
        check_dropped((shift, 5, fitting), "mismatched");
    }
    check_dropped((0, 6, fitting), "mismatched");
    check_dropped((0, 0, fitting), "mismatched");
    for pdu in [
        &b"\x04\x04\0\x63\0\x64"[..],
        b"\x01\x04\0\x63\0\x64",
        b"\x03\x02\0\x63",
        b"\x03\x06\0\x63\0\x64\0\x65",
        b"\x03\x04\0\x63\0",
        b"\x03\x02\0\x63\0\x64",
        b"\x03",
        b"\x84\x02",
        b"\x83",
        b"\x83\x02\0",
        b"\x06\0\x0a\0\x63",
    ] {
        check_dropped((0, 5, pdu), "mismatched");
    }
}

#[test]
fn a_late_reply_is_never_taken_for_the_next_one() {
    let mut bench = Bench::new(&plain(""));
    bench.accept();
    let first = bench.next();
    let second = bench.next_after(1_000);
    assert_eq!(second.pdu, first.pdu, "it is tried again");
    assert_ne!(second.tid, first.tid);
    bench.reply(&first, &read_reply(&first, &[77, 78]));
    bench.check("m/a", "null bad");
    assert_eq!((bench.count("m", "late"), bench.count("m", "timeouts")), (1, 1));
    bench.reply(&second, &orderly(&second));
    bench.check("m/a", "1010 good");

    // Also when nothing is under way, and when it comes twice.
    bench.reply(&first, &read_reply(&first, &[77, 78]));
    bench.reply(&second, &read_reply(&second, &[77, 78]));
    bench.check("m/a", "1010 good");
    assert_eq!(bench.count("m", "late"), 3);
    bench.wind_up();
}

/// Without ids: two polls of different addresses and one length.
fn without_ids(url: &str, keys: &str) -> String {
    let tags = [("a", "holding:10", "type = 'u16'"), ("z", "holding:900", "type = 'u16'")];
    device(&format!("echo_tid = false\n{keys}"), &tags).replace("modbus://10.0.0.7", url)
}

#[test]
fn without_ids_a_timeout_holds_the_line_until_the_late_reply_came() {
    for url in ["modbus://10.0.0.7", "modbus-rtu://10.0.0.7:4001", "modbus+udp://10.0.0.7"] {
        let mut bench = Bench::new(&without_ids(url, "retries = 0"));
        bench.accept();
        let asked = bench.next();
        assert_eq!(bench.asked(), [], "one at a time");
        bench.advance(millis(1_000));
        assert_eq!(bench.count("m", "timeouts"), 1);
        bench.quiet_for(millis(900));
        bench.send_frame(asked.conn, 0, 1, b"\x03\x02\0\x4d");
        assert_eq!(bench.count("m", "late"), 1);
        let other = bench.next_after(0);
        assert_ne!(other.pdu, asked.pdu);
        bench.send_frame(other.conn, 0, 1, &orderly(&other));
        bench.check("m/z", "1900 good");
        bench.check("m/a", "null bad");
        bench.wind_up();
    }
}

#[test]
fn without_ids_a_line_that_was_quiet_for_one_timeout_goes_on() {
    let mut bench = Bench::new(&without_ids("modbus-rtu://10.0.0.7", "retries = 0"));
    bench.accept();
    bench.next();
    let after_silence = bench.next_after(2_000);
    // It is not quiet while bytes come, be they no frame.
    bench.advance(millis(1_000));
    for _ in 0..5 {
        bench.quiet_for(millis(900));
        bench.send(after_silence.conn, b"\x55");
    }
    bench.quiet_for(millis(990));
    let next = bench.next_after(10);
    bench.reply(&next, &orderly(&next));
    let tag = if next.pdu[1..3] == [0, 10] { "m/a" } else { "m/z" };
    assert!(bench.get(tag).ends_with(" good"));
    bench.wind_up();
}

/// A device that answers in no time is soon missed; but its reply may still come until the timeout that was
/// configured, and without an id it would be taken for the next one.
#[test]
fn without_ids_a_short_timeout_does_not_let_a_late_reply_in() {
    let mut bench = Bench::new(&without_ids("modbus-rtu://10.0.0.7", ""));
    bench.accept();
    bench.serve(seconds(5), |asked| Some(orderly(asked)));
    bench.check("m/a", "1010 good");
    let asked = bench.next();
    bench.advance(millis(800));
    assert_eq!((bench.count("m", "timeouts"), bench.asked()), (1, vec![]));
    bench.reply(&asked, &orderly(&asked));
    assert_eq!(bench.count("m", "late"), 1);
    bench.serve(seconds(5), |asked| Some(orderly(asked)));
    bench.check("m/a", "1010 good");
    bench.check("m/z", "1900 good");
    bench.wind_up();
}

#[test]
fn several_requests_in_flight_are_answered_in_any_order() {
    let tags = [0, 100, 200, 300, 400].map(|address| (format!("t{address}"), format!("input:{address}")));
    let tags: Vec<_> = tags.iter().map(|(name, address)| (&**name, &**address, "type = 'u16'")).collect();
    let mut bench = Bench::new(&device("window = 4\nretries = 0", &tags));
    bench.accept();
    let mut asked = bench.asked();
    assert_eq!(asked.len(), 4);
    let first = asked.remove(0);
    bench.advance(millis(10));
    for asked in asked.iter().rev() {
        bench.reply(asked, &orderly(asked));
    }
    let fifth = bench.next_after(0);
    bench.reply(&fifth, &orderly(&fifth));
    for address in [100, 200, 300, 400] {
        bench.check(&format!("m/t{address}"), &format!("{} good", 1_000 + address));
    }
    bench.check("m/t0", "null bad");
    bench.advance(millis(500));
    bench.reply(&first, &orderly(&first));
    bench.check("m/t0", "1000 good");
    assert_eq!(bench.time("m/t0") - bench.time("m/t100"), 500, "each has the time of its reply");
    bench.wind_up();
}

#[test]
fn replies_may_come_in_any_pieces() {
    for url in ["modbus://10.0.0.7", "modbus-rtu://10.0.0.7"] {
        let mut bench = Bench::new(&plain("").replace("modbus://10.0.0.7", url));
        let conn = bench.accept();
        let asked = bench.next();
        let frame = bench.frame(asked.tid, asked.unit, &orderly(&asked));
        for byte in frame {
            bench.check("m/a", "null bad");
            bench.send(conn, &[byte]);
        }
        bench.check("m/a", "1010 good");
        bench.wind_up();
    }
}

#[test]
fn a_damaged_or_torn_rtu_frame_costs_its_own_request_only() {
    for cut in [true, false] {
        let mut bench = Bench::new(&plain("timeout = '200ms'").replace("modbus://", "modbus-rtu://"));
        let conn = bench.accept();
        let asked = bench.next();
        let mut frame = bench.frame(0, 1, &orderly(&asked));
        if cut {
            frame.truncate(5);
        } else {
            frame[4] ^= 0x10;
        }
        bench.send(conn, &frame);
        bench.check("m/a", "null bad");
        bench.serve(seconds(4), |asked| Some(orderly(asked)));
        bench.check("m/a", "1010 good");
        assert!(bench.count("m", "timeouts") <= 3, "{} timeouts", bench.count("m", "timeouts"));
        assert!(!bench.is_closed(conn));
        bench.wind_up();
    }
}

#[test]
fn an_rtu_frame_that_never_ends_swallows_one_answer() {
    let mut bench = Bench::new(&plain("timeout = '200ms'").replace("modbus://", "modbus-rtu://"));
    let conn = bench.accept();
    bench.next();
    // The head of an answer of a hundred registers.
    bench.send(conn, &[1, 3, 200]);
    bench.serve(seconds(4), |asked| Some(orderly(asked)));
    bench.check("m/a", "1010 good");
    assert!(bench.count("m", "timeouts") <= 2, "{} timeouts", bench.count("m", "timeouts"));
    assert!(!bench.is_closed(conn));
    bench.wind_up();
}

#[test]
fn a_datagram_that_is_no_frame_is_dropped_by_itself() {
    let mut bench = Bench::new(&plain("").replace("modbus:", "modbus+udp:"));
    let conn = bench.accept();
    let asked = bench.next();
    for garbage in
        [&b"\0\x01\0\x07\0\x05\x01\x03"[..], b"\x01", b"\0\x01\0\0\0\x06\x01\x03\x04\0", &[0xff; 300]]
    {
        bench.send(conn, garbage);
        bench.check("m/a", "null bad");
        assert!(!bench.is_closed(conn));
    }
    bench.reply(&asked, &orderly(&asked));
    bench.check("m/a", "1010 good");
    assert_eq!((&*bench.get("$server/damaged"), bench.count("m", "mismatched")), ("4 good", 4));
    bench.wind_up();
}

#[test]
fn what_is_not_modbus_ends_the_connection() {
    let mut bench = Bench::new(&plain(""));
    let conn = bench.accept();
    bench.next();
    bench.send(conn, b"\0\x01\0\x07\0\x05\x01");
    assert!(bench.is_closed(conn));
    assert_eq!((bench.count("m", "mismatched"), &*bench.figure("m", "state")), (1, "offline"));
    bench.accept();
    let asked = bench.next();
    bench.reply(&asked, &orderly(&asked));
    bench.check("m/a", "1010 good");
    assert_eq!(bench.count("m", "reconnects"), 1);
    bench.wind_up();
}

/// The units 1 and 2 on a line.
fn pair(scheme: &str) -> String {
    let keys = "timeout = '200ms'\nretries = 0\ndead_share = 100";
    let both = plain(keys) + &plain(&format!("{keys}\nunit = 2")).replace("'m'", "'n'");
    both.replace("modbus:", scheme)
}

/// The next request to unit 2; those to unit 1 are answered.
fn next_of_second(bench: &mut Bench) -> Asked {
    loop {
        let asked = bench.next();
        if asked.unit == 2 {
            return asked;
        }
        bench.reply(&asked, &orderly(&asked));
    }
}

/// What came for a device, as its recorder shows it.
fn recorded(bench: &mut Bench, name: &str) -> Vec<String> {
    let reader = bench.rig.connect();
    bench.rig.send(reader, format!("TRACE {name}\n"));
    let said = bench.said(reader);
    said.lines().filter_map(|line| Some(line.split_once(" in ")?.1.to_owned())).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn bytes_that_are_no_frame_are_those_of_whoever_is_waited_for() {
    let mut bench = Bench::new(&pair("modbus-rtu:"));
    let conn = bench.accept();
    bench.serve(seconds(3), |asked| Some(orderly(asked)));
    let asked = next_of_second(&mut bench);
    let mut damaged = bench.frame(0, 2, &orderly(&asked));
    damaged[4] ^= 0x10;
    bench.send(conn, &damaged);
    assert_eq!((bench.count("m", "mismatched"), bench.count("n", "mismatched")), (0, 1));
    assert_eq!(recorded(&mut bench, "n").last(), Some(&hex(&damaged)));

    // Half a frame is known to be no more when another request was sent and something else comes.
    bench.serve(seconds(3), |asked| Some(orderly(asked)));
    let asked = next_of_second(&mut bench);
    let half = &bench.frame(0, 2, &orderly(&asked))[..5];
    bench.send(conn, half);
    bench.serve(seconds(3), |asked| Some(orderly(asked)));
    assert_eq!((bench.count("m", "mismatched"), bench.count("n", "mismatched")), (0, 2));
    assert!(recorded(&mut bench, "n").contains(&hex(half)));
    assert!(!recorded(&mut bench, "m").contains(&hex(half)));
    bench.check("n/a", "2010 good");
    bench.wind_up();
}

#[test]
fn an_answer_of_a_stranger_is_in_the_recorder_of_whoever_asked() {
    for scheme in ["modbus:", "modbus-rtu:"] {
        let mut bench = Bench::new(&pair(scheme));
        let conn = bench.accept();
        let asked = next_of_second(&mut bench);
        let frame = bench.frame(asked.tid, 77, &orderly(&asked));
        bench.send(conn, &frame);
        assert_eq!(recorded(&mut bench, "n"), [hex(&frame)], "{scheme}");
        assert_eq!((bench.count("m", "mismatched"), bench.count("n", "mismatched")), (0, 1), "{scheme}");
        bench.wind_up();
    }
}

#[test]
fn what_ends_the_connection_is_in_the_recorder_of_whoever_was_waited_for() {
    let mut bench = Bench::new(&pair("modbus:"));
    let conn = bench.accept();
    next_of_second(&mut bench);
    bench.send(conn, b"SSH-2.0-OpenSSH_9.6");
    assert!(bench.is_closed(conn));
    assert_eq!(recorded(&mut bench, "n"), [hex(b"SSH-2.0-OpenSSH_9.6")]);
    assert_eq!((bench.count("m", "mismatched"), bench.count("n", "mismatched")), (0, 1));
    bench.wind_up();
}

/// Two devices may be one unit: each has its own answers in its recorder.
#[test]
fn whoever_asked_has_the_answer_in_its_recorder() {
    for scheme in ["modbus:", "modbus-rtu:"] {
        let twins = (plain("") + &plain("").replace("'m'", "'twin'")).replace("modbus:", scheme);
        let mut bench = Bench::new(&twins);
        bench.accept();
        bench.serve(seconds(5), |asked| Some(orderly(asked)));
        for name in ["m", "twin"] {
            bench.check(&format!("{name}/a"), "1010 good");
            let requests = bench.count(name, "requests");
            assert_eq!(recorded(&mut bench, name).len() as u64, requests, "{scheme} {name}");
        }
        bench.wind_up();
    }
}
