//! `write_stall`, `idle_timeout`, `frame_timeout`.

use super::*;

fn is_over(rig: &mut Rig, peer: ConnKey) -> bool {
    let line = rig.line(peer);
    line.finished || line.closed.is_some()
}

#[test]
fn only_time_without_progress_is_a_stall() {
    let mut rig = Rig::with("line", RigSettings { write_stall: seconds(10), ..RigSettings::default() });
    let (quiet, slow) = (rig.connect(), rig.connect());
    rig.shut_window(quiet);
    rig.advance(seconds(100));
    rig.shut_window(slow);
    rig.ask(slow, "PING 0123456789\n");
    for _ in 0..5 {
        rig.advance(millis(9_999));
        rig.open_window(slow, 1);
        rig.settle();
    }
    assert_eq!(rig.take(slow), "OK 01", "a byte in ten seconds is progress");
    // Neither is an event that comes for nothing.
    rig.advance(seconds(5));
    rig.poke(slow);
    rig.advance(millis(4_999));
    assert_eq!(rig.line(slow).closed, None);
    rig.advance(millis(1));
    assert_eq!(rig.line(slow).closed, Some(End::Slow));
    assert_eq!(rig.line(quiet).closed, None, "nothing is owed to it");
    rig.wind_up();
}

#[test]
fn more_output_is_no_progress() {
    let mut rig = Rig::with("line", RigSettings { write_stall: seconds(10), ..RigSettings::default() });
    let (slow, writer) = (rig.connect(), rig.connect());
    rig.ask(slow, "SUB a\n");
    rig.shut_window(slow);
    for second in 0..10 {
        check(&mut rig, writer, &format!("SET a {second}"), &["OK"]);
        assert_eq!(rig.line(slow).closed, None);
        rig.advance(seconds(1));
    }
    assert_eq!(rig.line(slow).closed, Some(End::Slow));
    check(&mut rig, writer, "SET a 0", &["OK"]);
    rig.wind_up();
}

#[test]
fn all_taken_ends_the_stall() {
    let mut rig = Rig::with("line", RigSettings { write_stall: seconds(10), ..RigSettings::default() });
    let peer = rig.connect();
    rig.shut_window(peer);
    rig.ask(peer, "PING\n");
    rig.advance(seconds(9));
    rig.open_window(peer, usize::MAX);
    rig.advance(seconds(60));
    assert_eq!((rig.take(peer), rig.next), ("OK\n".to_owned(), Tick::NEVER));
    rig.wind_up();
}

#[test]
fn last_words_that_nobody_takes() {
    let mut rig = Rig::with("line", RigSettings { write_stall: seconds(10), ..RigSettings::default() });
    let peer = rig.connect();
    rig.shut_window(peer);
    rig.ask(peer, "QUIT\n");
    rig.advance(millis(9_999));
    assert_eq!((rig.line(peer).finished, rig.line(peer).closed), (false, None));
    rig.advance(millis(1));
    assert_eq!(rig.line(peer).closed, Some(End::Slow));
    rig.wind_up();
}

#[test]
fn idle_connections_are_closed() {
    let mut rig =
        Rig::with("line", RigSettings { idle_timeout: Some(seconds(10)), ..RigSettings::default() });
    let (idle, busy) = (rig.connect(), rig.connect());
    rig.ask(idle, "SUB a\n");
    rig.advance(millis(9_999));
    rig.ask(busy, "SET a 1\n");
    assert!(!is_over(&mut rig, idle));
    rig.take(idle);
    rig.advance(millis(1));
    assert!(is_over(&mut rig, idle), "what it is told does not count");
    assert_eq!(rig.take(idle), "");
    rig.advance(millis(9_998));
    assert!(!is_over(&mut rig, busy));
    rig.advance(millis(1));
    assert!(is_over(&mut rig, busy));
    rig.wind_up();
}

#[test]
fn a_frame_that_was_begun_must_end() {
    let mut rig = Rig::with("line", RigSettings { frame_timeout: seconds(10), ..RigSettings::default() });
    let (quiet, slow, mended) = (rig.connect(), rig.connect(), rig.connect());
    rig.ask(mended, "PING a\nPI");
    // A byte a second does not help.
    for _ in 0..10 {
        assert!(!is_over(&mut rig, slow));
        rig.ask(slow, "P");
        rig.advance(seconds(1));
        rig.take(mended);
    }
    assert!(is_over(&mut rig, slow) && is_over(&mut rig, mended));
    assert_eq!(rig.take(slow), "");
    assert!(!is_over(&mut rig, quiet), "between frames there is no hurry");

    let peer = rig.connect();
    for _ in 0..5 {
        rig.ask(peer, "PI");
        rig.advance(millis(9_999));
        assert_eq!(rig.ask(peer, "NG\nPI"), "OK\n", "each frame has its own time");
        rig.advance(millis(9_999));
        assert_eq!(rig.ask(peer, "NG\n"), "OK\n");
    }
    rig.advance(seconds(100));
    assert!(!is_over(&mut rig, peer));
    rig.wind_up();
}

#[test]
fn a_frame_has_time_while_the_engine_does_not_read() {
    let settings =
        RigSettings { frame_timeout: seconds(10), write_stall: seconds(1_000), ..RigSettings::default() };
    let mut rig = Rig::with("line", settings);
    let peer = rig.connect();
    rig.shut_window(peer);
    let requests = format!("{}PI", format!("PING {}\n", "x".repeat(95)).repeat(700));
    rig.send(peer, requests);
    rig.advance(seconds(100));
    assert!(!is_over(&mut rig, peer), "it was us who did not read on");
    rig.open_window(peer, usize::MAX);
    rig.advance(millis(9_999));
    assert_eq!(rig.ask(peer, "NG\n").lines().count(), 701);
    rig.ask(peer, "PI");
    rig.advance(seconds(10));
    assert!(is_over(&mut rig, peer));
    rig.wind_up();
}

#[test]
fn a_frame_has_time_while_its_peer_is_behind() {
    let settings =
        RigSettings { frame_timeout: seconds(10), write_stall: seconds(1_000), ..RigSettings::default() };
    let mut rig = Rig::with("line", settings);
    let (peer, writer) = (rig.connect(), rig.connect());
    rig.ask(peer, "SUB a\nPI");
    rig.shut_window(peer);
    for round in 0..3_000 {
        check(&mut rig, writer, &format!("SET a {round}"), &["OK"]);
    }
    // The frame ends, but there is no room to tell of the changes that come first.
    rig.ask(peer, "NG\n");
    rig.advance(seconds(100));
    assert!(!is_over(&mut rig, peer));
    rig.open_window(peer, usize::MAX);
    rig.settle();
    assert!(rig.take(peer).ends_with("\nOK\n"));
    rig.wind_up();
}

#[test]
fn a_frame_has_time_while_memory_is_short() {
    let settings = RigSettings {
        frame_timeout: millis(100),
        write_stall: seconds(1_000),
        buffer_memory: 64 * 1024,
        ..RigSettings::default()
    };
    let mut rig = Rig::with("line", settings);
    fill(&mut rig, 5_000);
    let (peer, debtor) = (rig.connect(), rig.connect());
    rig.ask(peer, "PI");
    rig.shut_window(debtor);
    rig.ask(debtor, "READ #\n");
    assert_eq!(rig.ask(peer, "NG\n"), "");
    rig.advance(millis(200));
    assert_eq!(rig.take(peer), "");
    assert!(!is_over(&mut rig, peer));
    rig.open_window(debtor, usize::MAX);
    rig.settle();
    assert_eq!(rig.take(peer), "OK\n");
    rig.wind_up();
}
