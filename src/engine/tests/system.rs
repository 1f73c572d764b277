//! The server's own tags.

use super::*;

#[test]
fn they_are_read_as_they_are() {
    let mut rig = Rig::new("line");
    let peer = rig.connect();
    check(&mut rig, peer, "GET $server/name", &["OK \"rig\" good 1700000000000"]);
    check(&mut rig, peer, "GET $server/requests", &["OK 2 good 1700000000000"]);
    rig.advance(millis(12_345));
    check(&mut rig, peer, "GET $server/uptime_s", &["OK 12 good 1700000012345"]);
    rig.connect();
    check(&mut rig, peer, "GET $server/connections", &["OK 2 good 1700000012345"]);
    check(&mut rig, peer, "SET $server/name 1", &["ERR read-only the tag cannot be written"]);
    check(&mut rig, peer, "SET $server/none 1", &["ERR read-only the tag cannot be written"]);
    check(&mut rig, peer, "GET $server/none", &["ERR not-found no such tag"]);
    check(&mut rig, peer, "READ #", &["OK 0"]);
    check(&mut rig, peer, "READ +/name", &["OK 0"]);
    let list = rig.ask(peer, "LIST $server/#\n");
    assert!(list.contains("TAG $server/name text ro -\n"), "{list}");
    assert!(list.lines().rev().skip(1).collect::<Vec<_>>().is_sorted_by(|a, b| a >= b), "{list}");
    assert_eq!(rig.next, Tick::NEVER);
    rig.wind_up();
}

#[test]
fn they_are_told_once_a_second_while_somebody_subscribes() {
    let mut rig = Rig::new("line");
    let (peer, other) = (rig.connect(), rig.connect());
    let reply = rig.ask(peer, "SUB $server/+\n");
    assert!(reply.starts_with("VAL $server/accepted 2 good "), "{reply}");
    rig.take(peer);
    for second in 1..=3 {
        rig.advance(millis(999));
        assert_eq!(rig.take(peer), "");
        rig.advance(millis(1));
        let updates = rig.take(peer);
        let uptime = format!("UPD $server/uptime_s {second} good {}\n", RIG_EPOCH_MS + second * 1_000);
        assert_eq!(updates.matches("UPD $server/uptime_s").count(), 1, "{updates}");
        assert!(updates.contains(&uptime), "{updates}");
        assert!(!updates.contains("$server/name"), "what does not change is not told: {updates}");
    }
    // A second subscriber changes nothing about the rate.
    rig.ask(other, "SUB $server/uptime_s\n");
    rig.take(peer);
    for second in 4..=5 {
        rig.advance(seconds(1));
        assert_eq!(rig.take(other).lines().count(), 1, "second {second}");
    }
    rig.take(peer);
    rig.ask(peer, "UNSUB $server/+\n");
    assert!(rig.next < Tick::NEVER);
    rig.half_close(other);
    rig.settle();
    assert_eq!(rig.next, Tick::NEVER, "an idle engine is never due");
    rig.advance(seconds(10));
    assert_eq!(rig.take(peer), "");
    rig.wind_up();
}
