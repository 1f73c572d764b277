//! The engine behind byte queues: what no protocol alone shows.

use std::time::Duration;

use super::rig::Rig;
use super::*;

#[test]
fn replies_and_updates_of_a_turn_leave_in_one_write() {
    let mut rig = Rig::new("line");
    let peer = rig.connect().unwrap();
    let replies = rig.ask(peer, "SUB a/#\nSET a/b 1\nSET a/b 2\nGET a/b\n");
    let (requests, update) = replies.split_at(replies.find("UPD").unwrap());
    assert_eq!(requests.lines().count(), 4);
    assert_eq!(update, "UPD a/b 2 good 1700000000000\n", "changes of a turn are one update");
    assert_eq!(rig.line(peer).writes, 1);
    assert_eq!(rig.engine.buffer_bytes(), 0, "a quiet connection owns no buffer");
}

#[test]
fn a_silent_device_turns_uncertain_and_good_again() {
    let mut rig = Rig::new("line");
    let device = rig.connect().unwrap();
    let reader = rig.connect().unwrap();
    rig.ask(device, "HELLO press3 2s\nSET p/t 81.5\n");
    rig.advance(Duration::from_millis(1_999));
    assert!(rig.ask(reader, "GET p/t\n").starts_with("OK 81.5 good "));
    rig.advance(Duration::from_millis(1));
    assert!(rig.ask(reader, "GET p/t\n").starts_with("OK 81.5 uncertain "));
    rig.ask(device, "SET p/t 81.5\n");
    assert!(rig.ask(reader, "GET p/t\n").starts_with("OK 81.5 good "));
}
