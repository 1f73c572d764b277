//! Devices that are silent, gone, replaced or overdue.

use crate::tags::Declaration;
use crate::tags::value::{Input, Quality, Value};

use super::super::shard::DOUBTS_PER_TURN;
use super::*;

/// The beginning of the reply to a `GET`.
#[track_caller]
fn reads(rig: &mut Rig, reader: ConnKey, tag: &str, sample: &str) {
    let reply = rig.ask(reader, &format!("GET {tag}\n"));
    assert!(reply.starts_with(&format!("OK {sample} ")), "{tag}: {reply}");
}

#[test]
fn a_silent_device_turns_uncertain_and_good_again() {
    let mut rig = Rig::new("line");
    let (device, reader) = (rig.connect(), rig.connect());
    rig.ask(device, "HELLO press3 2s\nSET p/t 81.5\n");
    rig.ask(reader, "SUB p/#\n");
    rig.advance(millis(1_999));
    reads(&mut rig, reader, "p/t", "81.5 good");
    rig.advance(millis(1));
    assert_eq!(rig.take(reader), "UPD p/t 81.5 uncertain 1700000000000\n", "value and time unchanged");
    rig.ask(device, "PING\n");
    rig.advance(seconds(10));
    reads(&mut rig, reader, "p/t", "81.5 uncertain");
    rig.ask(device, "SET p/t 81.5\n");
    assert_eq!(rig.take(reader), "UPD p/t 81.5 good 1700000012000\n");
    // Any byte breaks the silence.
    for _ in 0..5 {
        rig.advance(millis(1_999));
        rig.ask(device, " ");
    }
    reads(&mut rig, reader, "p/t", "81.5 good");
    rig.wind_up();
}

#[test]
fn a_device_that_left_leaves_its_values_in_doubt() {
    let mut rig = Rig::new("line");
    let (device, reader) = (rig.connect(), rig.connect());
    rig.ask(device, "HELLO press3\nSET p/a 1\nSET p/b 2 uncertain\nSET p/c null bad\nSET p/d 4\n");
    rig.ask(reader, "SET p/d 5\nSET p/e 6\n");
    rig.advance(seconds(3_600));
    reads(&mut rig, reader, "p/a", "1 good");
    rig.half_close(device);
    rig.settle();
    reads(&mut rig, reader, "p/a", "1 uncertain");
    reads(&mut rig, reader, "p/b", "2 uncertain");
    reads(&mut rig, reader, "p/c", "null bad");
    reads(&mut rig, reader, "p/d", "5 good");
    reads(&mut rig, reader, "p/e", "6 good");
    check(&mut rig, reader, "LIST p/a", &["TAG p/a any rw press3", "OK 1"]);
    rig.wind_up();
}

#[test]
fn hello_takes_over() {
    let mut rig = Rig::new("line");
    let (old, reader) = (rig.connect(), rig.connect());
    rig.ask(old, "HELLO press3 5s\nSET p 1\nSUB p\n");
    let new = rig.connect();
    check(&mut rig, new, "HELLO press3", &["OK lumina 1"]);
    assert_eq!(rig.take(old), "", "without a line");
    assert!(rig.line(old).finished);
    rig.advance(seconds(60));
    reads(&mut rig, reader, "p", "1 good");
    check(&mut rig, new, "HELLO other", &["ERR bad-request HELLO is said once per connection"]);
    rig.half_close(new);
    rig.settle();
    reads(&mut rig, reader, "p", "1 uncertain");
    // Who was replaced and who replaces may be in one turn, in either order.
    let (one, two) = (rig.connect(), rig.connect());
    rig.send(one, "HELLO press3\nSET p 1\n");
    rig.send(two, "HELLO press3\nSET p 2\n");
    rig.settle();
    assert!(rig.line(one).finished && !rig.line(two).finished);
    reads(&mut rig, reader, "p", "2 good");
    // What the replaced one has still to say is not carried out, not even in the same turn.
    let (next, last) = (rig.connect(), rig.connect());
    rig.ask(last, "HELLO press3\n");
    rig.send(next, "HELLO press3\nSET p 3\n");
    rig.send(last, "SET p 2\n");
    rig.settle();
    reads(&mut rig, reader, "p", "3 good");
    rig.wind_up();
}

#[test]
fn a_takeover_from_one_that_takes_nothing() {
    let mut rig = Rig::new("line");
    fill(&mut rig, 5_000);
    let old = rig.connect();
    rig.ask(old, "HELLO press3\nSET p 1\n");
    rig.shut_window(old);
    rig.send(old, "READ #\nSET p 2\n");
    rig.settle();
    let new = rig.connect();
    check(&mut rig, new, "HELLO press3", &["OK lumina 1"]);
    rig.advance(seconds(30));
    assert_eq!(rig.line(old).closed, Some(End::Slow));
    check(&mut rig, new, "GET p", &[&format!("OK 1 good {RIG_EPOCH_MS}")]);
    rig.wind_up();
}

#[test]
fn many_doubts_are_worked_off_in_slices() {
    const TAGS: usize = 2 * DOUBTS_PER_TURN + 1_000;
    let mut rig = Rig::new("line");
    let device = rig.connect();
    rig.ask(device, "HELLO press3\n");
    let names: Vec<String> = (0..TAGS).map(|number| format!("p/{number:05}")).collect();
    let requests: String = names.iter().map(|name| format!("SET {name} 1\n")).collect();
    assert_eq!(rig.ask(device, &requests), "OK\n".repeat(TAGS));
    let quality_is =
        |rig: &Rig, quality| names.iter().filter(|name| rig.sample(name).quality == quality).count();

    let again = rig.connect();
    rig.half_close(device);
    rig.turn();
    rig.turn();
    let doubted = quality_is(&rig, Quality::Uncertain);
    assert!(doubted > 0 && doubted <= 2 * DOUBTS_PER_TURN, "{doubted} in two turns");
    // It is back, and writes some that were doubted and some that would be.
    rig.send(again, "HELLO press3\n");
    let (mut rewritten, mut left) = (Vec::new(), [100, 100]);
    for name in &names {
        let kind = usize::from(rig.sample(name).quality == Quality::Good);
        if left[kind] > 0 {
            left[kind] -= 1;
            rewritten.push(name);
            rig.send(again, format!("SET {name} 2\n"));
        }
    }
    assert_eq!(rewritten.len(), 200);
    rig.settle();
    assert_eq!(quality_is(&rig, Quality::Uncertain), TAGS - 200);
    for name in rewritten {
        assert!(rig.sample(name).value.same(&Value::Int(2)), "{name}");
        assert_eq!(rig.sample(name).quality, Quality::Good, "{name}");
    }
    rig.wind_up();
}

#[test]
fn a_name_that_is_used_again_is_not_doubted() {
    let mut rig = Rig::new("line");
    let (first, writer) = (rig.connect(), rig.connect());
    rig.ask(first, "HELLO press3\nSET p 1\n");
    rig.half_close(first);
    rig.settle();
    rig.ask(writer, "SET p 2\n");
    let second = rig.connect();
    rig.ask(second, "HELLO press4\nSET p 3\n");
    reads(&mut rig, writer, "p", "3 good");
    check(&mut rig, writer, "LIST p", &["TAG p any rw press4", "OK 1"]);
    rig.wind_up();
}

#[test]
fn what_is_overdue_turns_uncertain() {
    let mut rig = Rig::new("line");
    let declaration = Declaration { stale_after: Some(seconds(5)), ..Declaration::default() };
    let tag = rig.declare("p/declared", declaration);
    let peer = rig.connect();
    rig.ask(peer, "SET p/declared 1\nSET p/other 1\nSUB p/#\n");
    // The same value again, and with an old time, is a refresh.
    for _ in 0..3 {
        rig.advance(millis(4_999));
        check(&mut rig, peer, "SET p/declared 1 good 7", &["OK"]);
    }
    rig.advance(millis(4_999));
    assert_eq!(rig.take(peer), "");
    rig.advance(millis(1));
    assert_eq!(rig.take(peer), "UPD p/declared 1 uncertain 7\n");
    rig.advance(seconds(100));
    assert_eq!((rig.take(peer), rig.next), (String::new(), Tick::NEVER));
    check(&mut rig, peer, "SET p/declared 1 good 8", &["OK", "UPD p/declared 1 good 8"]);
    rig.advance(seconds(5));
    assert_eq!(rig.take(peer), "UPD p/declared 1 uncertain 8\n");
    check(&mut rig, peer, "SET p/declared null bad 9", &["OK", "UPD p/declared null bad 9"]);
    rig.advance(seconds(5));
    assert_eq!(rig.take(peer), "", "bad stays bad");

    // A value from the configuration ages as well.
    let (value, time) = (Input::Int(3), crate::base::time::Timestamp(7));
    let due = Tick::from_micros(0) + seconds(1_000);
    let write = crate::tags::Write { value, quality: Quality::Good, time, source: None, stale_at: due };
    rig.tags().store(tag, write);
    rig.engine.watch_staleness(tag, due);
    rig.advance(seconds(1));
    assert_eq!(rig.take(peer), "UPD p/declared 3 good 7\n");
    rig.advance(seconds(900));
    assert_eq!(rig.take(peer), "UPD p/declared 3 uncertain 7\n");
    rig.wind_up();
}

#[test]
fn a_listener_makes_all_its_writes_age() {
    let mut rig = Rig::with("line", RigSettings { stale_after: Some(seconds(5)), ..RigSettings::default() });
    for (name, span) in [("p/short", seconds(2)), ("p/long", seconds(60))] {
        rig.declare(name, Declaration { stale_after: Some(span), ..Declaration::default() });
    }
    let peer = rig.connect();
    rig.ask(peer, "SET p/short 1 good 7\nSET p/long 1 good 7\nSET p/any 1 good 7\nSUB p/#\n");
    rig.advance(seconds(2));
    assert_eq!(rig.take(peer), "UPD p/short 1 uncertain 7\n", "the shorter one counts");
    rig.advance(millis(2_999));
    assert_eq!(rig.take(peer), "");
    rig.advance(millis(1));
    let updates = rig.take(peer);
    let mut updates: Vec<&str> = updates.lines().collect();
    updates.sort_unstable();
    assert_eq!(updates, ["UPD p/any 1 uncertain 7", "UPD p/long 1 uncertain 7"]);
    rig.wind_up();
}

#[test]
fn many_are_overdue_at_once() {
    const TAGS: usize = DOUBTS_PER_TURN + 1_000;
    let mut rig = Rig::with("line", RigSettings { stale_after: Some(seconds(5)), ..RigSettings::default() });
    fill(&mut rig, TAGS);
    rig.advance(seconds(5));
    assert_eq!(rig.sample("t/00000").quality, Quality::Uncertain);
    let good = (0..TAGS).filter(|n| rig.sample(&format!("t/{n:05}")).quality == Quality::Good).count();
    assert_eq!((good, rig.next), (0, Tick::NEVER));
    rig.wind_up();
}
