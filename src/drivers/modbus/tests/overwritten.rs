//! Registers that several points show: what a write of one of them, or of a master, means for the others.

use super::writes::{ready, writable};
use super::*;

const WORD: (&str, &str, &str) = ("word", "holding:10", "type = 'u16'\naccess = 'rw'");
const BIT: (&str, &str, &str) = ("bit", "holding:10.0", "access = 'rw'");
const OTHER: (&str, &str, &str) = ("other", "holding:10.3", "");
const FLOAT: (&str, &str, &str) = ("float", "holding:10", "type = 'f32'\naccess = 'rw'");
const WHY: &str = "written, or it may have been, and not read since";

/// A device that is polled each hour, and was read once.
#[track_caller]
fn hourly(keys: &str, tags: &[(&str, &str, &str)]) -> Bench {
    ready(&device(&format!("rate = '1h'\n{keys}"), tags))
}

/// The device is polled now, and these points are in doubt until it answers.
#[track_caller]
fn check_polled_at_once(bench: &mut Bench, tags: &[&str]) {
    for tag in tags {
        assert!(bench.get(&format!("m/{tag}")).ends_with(" uncertain"), "{tag}");
        bench.check_reason("m", tag, WHY);
    }
    let poll = bench.next_after(0);
    assert_eq!(poll.pdu[0], 3);
    bench.reply(&poll, &orderly(&poll));
    for tag in tags {
        assert!(bench.get(&format!("m/{tag}")).ends_with(" good"), "{tag}");
        bench.check_reason("m", tag, "");
    }
    bench.quiet_for(seconds(60));
}

#[test]
fn who_shows_a_part_of_what_was_written_has_it_at_once() {
    let mut bench = hourly("bit_write = 'rmw'", &[WORD, BIT, OTHER]);
    let writer = bench.set("m/word", "9");
    let asked = bench.next();
    bench.reply(&asked, &orderly(&asked));
    assert_eq!(bench.said(writer), "OK\n");
    for (tag, value) in [("word", "9"), ("bit", "true"), ("other", "true")] {
        bench.check(&format!("m/{tag}"), &format!("{value} good"));
    }
    bench.quiet_for(seconds(60));
    bench.wind_up();
}

#[test]
fn a_bit_that_is_written_with_its_register_is_told_to_all_of_it() {
    let mut bench = hourly("bit_write = 'rmw'", &[WORD, BIT, OTHER]);
    let writer = bench.set("m/bit", "true");
    let read = bench.next();
    bench.reply(&read, b"\x03\x02\0\x08");
    let write = bench.next();
    bench.reply(&write, &orderly(&write));
    assert_eq!(bench.said(writer), "OK\n");
    for (tag, value) in [("word", "9"), ("bit", "true"), ("other", "true")] {
        bench.check(&format!("m/{tag}"), &format!("{value} good"));
    }
    bench.quiet_for(seconds(60));
    bench.wind_up();
}

/// Nobody knows the other bits, but that they are as they were.
#[test]
fn of_a_masked_register_the_word_is_polled_and_the_other_bits_are_as_they_were() {
    let mut bench = hourly("bit_write = 'fc22'", &[WORD, BIT, OTHER]);
    bench.check("m/other", "false good");
    let writer = bench.set("m/bit", "true");
    let asked = bench.next();
    bench.reply(&asked, &orderly(&asked));
    assert_eq!(bench.said(writer), "OK\n");
    bench.check("m/bit", "true good");
    bench.check("m/other", "false good");
    check_polled_at_once(&mut bench, &["word"]);
    bench.wind_up();
}

#[test]
fn half_of_a_float_leaves_none_of_it_good() {
    let mut bench = hourly("", &[FLOAT, ("low", "holding:11", "type = 'u16'\naccess = 'rw'")]);
    let writer = bench.set("m/low", "9");
    let asked = bench.next();
    bench.reply(&asked, &orderly(&asked));
    assert_eq!(bench.said(writer), "OK\n");
    bench.check("m/low", "9 good");
    check_polled_at_once(&mut bench, &["float"]);
    bench.wind_up();
}

#[test]
fn a_write_that_may_have_happened_leaves_nothing_good_that_it_would_have_changed() {
    let far = ("far", "holding:12", "type = 'u16'");
    let mut bench = hourly("bit_write = 'rmw'", &[WORD, BIT, far]);
    let writer = bench.set("m/word", "9");
    bench.next();
    bench.advance(millis(1_000));
    assert!(bench.said(writer).starts_with("ERR timeout "));
    bench.check("m/far", "1012 good");
    check_polled_at_once(&mut bench, &["word", "bit"]);
    bench.wind_up();
}

/// A poll that was sent before it is known what came of the write tells nothing of what was written.
#[test]
fn a_poll_that_was_under_way_makes_nothing_good_again() {
    let mut bench = Bench::new(&device("window = 2\nrate = '1s'", &[WORD]));
    bench.accept();
    bench.answer();
    let poll = bench.next();
    let writer = bench.set("m/word", "9");
    let write = bench.next();
    assert_eq!((poll.pdu[0], write.pdu[0]), (3, 6));
    bench.advance(millis(10));
    bench.reply(&write, b"\x86\x04");
    assert_eq!(bench.said(writer), "ERR device server device failure\n");
    bench.reply(&poll, &orderly(&poll));
    bench.check("m/word", "1010 uncertain");
    let poll = bench.next_after(0);
    bench.reply(&poll, &orderly(&poll));
    bench.check("m/word", "1010 good");
    bench.wind_up();
}

#[test]
fn a_failure_of_the_device_is_no_proof_that_nothing_happened() {
    let named = [(4, "server device failure"), (5, "acknowledge: it takes long")];
    let unnamed = (7, "exception 7, a code that the standard does not name");
    for (code, text) in named.into_iter().chain([unnamed]) {
        let mut bench = hourly("", &[WORD]);
        let writer = bench.set("m/word", "42");
        let asked = bench.next();
        bench.reply(&asked, &[0x86, code]);
        assert_eq!(bench.said(writer), format!("ERR device {text}\n"));
        check_polled_at_once(&mut bench, &["word"]);
        bench.wind_up();
    }
}

#[test]
fn what_reads_back_otherwise_is_in_doubt_wherever_else_it_is_shown() {
    let word = ("word", "holding:10", "type = 'u16'\naccess = 'rw'\nverify = true");
    let mut bench = hourly("bit_write = 'rmw'", &[word, BIT]);
    for refused in [false, true] {
        let writer = bench.set("m/word", "42");
        let write = bench.next();
        bench.reply(&write, &orderly(&write));
        let read = bench.next();
        if refused {
            bench.reply(&read, b"\x83\x06");
            assert_eq!(bench.said(writer), "ERR device server device busy\n");
            check_polled_at_once(&mut bench, &["word", "bit"]);
        } else {
            bench.reply(&read, &read_reply(&read, &[41]));
            assert_eq!(bench.said(writer), "ERR device read-back differs\n");
            bench.check("m/word", "41 good");
            check_polled_at_once(&mut bench, &["bit"]);
        }
    }
    bench.wind_up();
}

/// Nothing is written before the register was read.
#[test]
fn a_bit_that_could_not_be_read_first_was_not_written() {
    let mut bench = hourly("bit_write = 'rmw'", &[WORD, BIT]);
    let writer = bench.set("m/bit", "true");
    bench.next();
    bench.advance(millis(1_000));
    assert!(bench.said(writer).starts_with("ERR timeout "));
    bench.check("m/word", "1010 good");
    bench.quiet_for(seconds(60));
    bench.wind_up();
}

#[test]
fn a_write_of_a_point_that_nothing_overlaps_costs_no_poll() {
    let mut bench = ready(&writable("", ""));
    let writer = bench.set("m/a", "9");
    let asked = bench.next();
    bench.reply(&asked, &orderly(&asked));
    assert_eq!(bench.said(writer), "OK\n");
    bench.quiet_for(seconds(60));
    bench.wind_up();
}
