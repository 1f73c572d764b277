//! The engine behind byte queues: what no protocol alone shows.

mod any;
mod datagrams;
mod devices;
mod endings;
mod memory;
mod questions;
mod replies;
mod shards;
mod subscriptions;
mod system;
mod times;
mod traces;
mod writes;

use std::time::Duration;

use super::rig::{RIG_EPOCH_MS, RIG_UDP_PEERS, Rig, RigSettings, Undemanding};
use super::*;

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Ask one request after another; each is answered at once with the lines below it.
#[track_caller]
fn check(rig: &mut Rig, peer: ConnKey, request: &str, reply: &[&str]) {
    let got = rig.ask(peer, &format!("{request}\n"));
    assert_eq!(got.lines().collect::<Vec<_>>(), reply, "{request}");
}

/// Write `count` tags `t/00000`, `t/00001` … through a connection of their own.
fn fill(rig: &mut Rig, count: usize) {
    let writer = rig.connect();
    let requests: String = (0..count).map(|number| format!("SET t/{number:05} {number} good 7\n")).collect();
    assert_eq!(rig.ask(writer, &requests), "OK\n".repeat(count));
    rig.half_close(writer);
    rig.settle();
}

/// The second field of a line: the tag of a `VAL` or an `UPD`.
fn tag_of(line: &str) -> &str {
    line.split(' ').nth(1).unwrap_or_default()
}

#[test]
fn replies_and_updates_of_a_turn_leave_in_one_write() {
    let mut rig = Rig::new("line");
    let peer = rig.connect();
    let replies = rig.ask(peer, "SUB a/#\nSET a/b 1\nSET a/b 2\nGET a/b\n");
    let (requests, update) = replies.split_at(replies.find("UPD").unwrap());
    assert_eq!(requests.lines().count(), 4);
    assert_eq!(update, "UPD a/b 2 good 1700000000000\n", "changes of a turn are one update");
    assert_eq!(rig.line(peer).writes, 1);
    assert_eq!(rig.engine.buffer_bytes(), 0, "a quiet connection owns no buffer");
    rig.wind_up();
}

#[test]
fn an_idle_engine_is_never_due() {
    let mut rig = Rig::new("line");
    let (one, other) = (rig.connect(), rig.connect());
    rig.ask(one, "SUB #\nSET a 1\n");
    rig.ask(other, "HELLO other\nREAD #\nSET a 2\nUNSUB #\n");
    assert_eq!(rig.next, Tick::NEVER);
    let writes = rig.line(one).writes;
    rig.advance(seconds(24 * 3_600));
    assert_eq!((rig.next, rig.line(one).writes), (Tick::NEVER, writes));
    rig.wind_up();
}

#[test]
fn who_sends_much_does_not_hold_up_others() {
    let mut rig = Rig::new("line");
    let (greedy, modest) = (rig.connect(), rig.connect());
    rig.send(greedy, "PING 0123456789\n".repeat(20_000));
    rig.send(modest, "PING\n");
    rig.turn();
    assert_eq!(rig.take(modest), "OK\n", "answered in the first turn");
    let first = rig.line(greedy).received.len();
    assert!(first > 0 && first <= 2 * SCRATCH_BYTES, "{first} bytes in one turn");
    rig.settle();
    assert_eq!(rig.take(greedy), "OK 0123456789\n".repeat(20_000));
    rig.wind_up();
}

#[test]
fn stale_events_meet_nobody() {
    let mut rig = Rig::new("line");
    let first = rig.connect();
    rig.half_close(first);
    rig.settle();
    let all = Ready { readable: true, writable: true, read_closed: true };
    rig.engine.on_ready(first.index, all, &mut rig.lines);
    let second = rig.connect();
    assert_eq!(second.index, first.index, "the slot is used again");
    assert_ne!(second, first);
    check(&mut rig, second, "PING", &["OK"]);
    rig.wind_up();
}
