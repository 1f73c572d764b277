//! `buffer_memory`: what all connections' buffers together may hold.

use super::*;

/// Room for four buffers of the largest size.
const FOUR_BUFFERS: usize = 4 * 64 * 1024;

fn rig() -> Rig {
    let settings =
        RigSettings { buffer_memory: FOUR_BUFFERS, write_stall: seconds(1_000), ..RigSettings::default() };
    let mut rig = Rig::with("line", settings);
    fill(&mut rig, 5_000);
    rig
}

/// Peers that ask for much and take nothing.
fn debtors(rig: &mut Rig, count: usize) -> Vec<ConnKey> {
    let peers: Vec<ConnKey> = (0..count).map(|_| rig.connect()).collect();
    for &peer in &peers {
        rig.shut_window(peer);
        rig.send(peer, "READ #\n");
    }
    rig.settle();
    peers
}

fn closed(rig: &mut Rig, peers: &[ConnKey]) -> usize {
    peers.iter().filter(|peer| rig.line(**peer).closed == Some(End::Memory)).count()
}

#[test]
fn the_largest_debtors_are_closed() {
    let mut rig = rig();
    let modest = rig.connect();
    check(&mut rig, modest, "PING", &["OK"]);
    let greedy = debtors(&mut rig, 4);
    assert!(rig.engine.buffer_bytes() >= FOUR_BUFFERS);
    assert!(rig.engine.buffer_bytes() <= FOUR_BUFFERS + 64 * 1024, "no more is produced");
    assert_eq!(rig.ask(modest, "PING 1\n"), "", "nothing is read");
    rig.advance(SHORT_OF_MEMORY - millis(1));
    assert_eq!(closed(&mut rig, &greedy), 0);
    assert_eq!(rig.take(modest), "");
    rig.advance(millis(1));
    assert_eq!(closed(&mut rig, &greedy), 1);
    assert_eq!(rig.take(modest), "OK 1\n", "and it goes on");
    // More of them wait in line before the modest one, which has its turn in the end.
    let more = debtors(&mut rig, 5);
    assert_eq!(rig.ask(modest, "PING 2\n"), "");
    rig.advance(seconds(60));
    assert_eq!((closed(&mut rig, &greedy) + closed(&mut rig, &more), rig.line(modest).closed), (6, None));
    assert_eq!(rig.take(modest), "OK 2\n");
    for peer in greedy.into_iter().chain(more) {
        rig.open_window(peer, usize::MAX);
    }
    rig.settle();
    assert_eq!(rig.engine.buffer_bytes(), 0);
    rig.wind_up();
}

#[test]
fn relief_before_anyone_is_closed() {
    let mut rig = rig();
    let modest = rig.connect();
    let greedy = debtors(&mut rig, 4);
    assert_eq!(rig.ask(modest, "PING\n"), "");
    rig.advance(SHORT_OF_MEMORY - millis(1));
    rig.open_window(greedy[0], usize::MAX);
    rig.settle();
    assert_eq!(rig.take(modest), "OK\n");
    assert!(rig.take(greedy[0]).ends_with("OK 5000\n"));
    rig.advance(seconds(60));
    assert_eq!(closed(&mut rig, &greedy), 0);
    rig.wind_up();
}

#[test]
fn a_subscriber_misses_nothing_while_memory_is_short() {
    let mut rig = rig();
    let (reader, writer) = (rig.connect(), rig.connect());
    rig.ask(reader, "SUB a/#\n");
    debtors(&mut rig, 3);
    // The last buffer goes in the very turn in which the change is made.
    let last = rig.connect();
    rig.shut_window(last);
    rig.send(writer, "SET a/b 1 good 7\n");
    rig.send(last, "READ #\n");
    rig.settle();
    rig.advance(SHORT_OF_MEMORY);
    assert_eq!(rig.take(reader), "UPD a/b 1 good 7\n");
    rig.wind_up();
}

#[test]
fn half_frames_that_fill_the_memory() {
    let mut rig = rig();
    let modest = rig.connect();
    let many: Vec<ConnKey> = (0..FOUR_BUFFERS / 4_096).map(|_| rig.connect()).collect();
    for &peer in &many {
        rig.send(peer, "x".repeat(4_000));
    }
    rig.settle();
    assert_eq!(rig.engine.buffer_bytes(), FOUR_BUFFERS);
    assert_eq!(rig.ask(modest, "PING\n"), "");
    rig.advance(SHORT_OF_MEMORY);
    assert_eq!(rig.take(modest), "OK\n", "who holds memory without end is closed");
    assert!(closed(&mut rig, &many) > 0);
    rig.wind_up();
}
