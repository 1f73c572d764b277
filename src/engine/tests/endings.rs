//! How connections begin and end.

use super::*;

#[test]
fn last_words_then_our_end_then_theirs() {
    let mut rig = Rig::new("line");
    let peer = rig.connect();
    assert_eq!(rig.ask(peer, "PING\nQUIT\nPING\n"), "OK\nOK\n", "what follows is ignored");
    assert_eq!((rig.line(peer).finished, rig.line(peer).closed), (true, None));
    rig.send(peer, "x".repeat(1_000_000));
    rig.settle();
    assert_eq!(rig.take(peer), "");
    assert_eq!(rig.engine.buffer_bytes(), 0, "it is discarded");
    rig.half_close(peer);
    rig.settle();
    assert_eq!(rig.line(peer).closed, Some(End::Quit));
    assert!(rig.engine.is_empty());
    rig.wind_up();
}

#[test]
fn a_peer_that_does_not_close_is_closed_after_a_second() {
    let mut rig = Rig::new("line");
    let peer = rig.connect();
    rig.ask(peer, "QUIT\n");
    rig.advance(millis(LINGER_MS - 1));
    rig.send(peer, "still here\n");
    rig.settle();
    assert_eq!(rig.line(peer).closed, None);
    rig.advance(millis(1));
    assert_eq!(rig.line(peer).closed, Some(End::Quit));
    rig.wind_up();
}

#[test]
fn what_is_owed_is_sent_before_the_end() {
    let mut rig = Rig::new("line");
    let peer = rig.connect();
    rig.shut_window(peer);
    rig.ask(peer, "PING abc\nQUIT\n");
    for _ in 0.."OK abc\nOK".len() {
        rig.open_window(peer, 1);
        rig.settle();
        assert!(!rig.line(peer).finished);
    }
    rig.open_window(peer, 1);
    rig.settle();
    assert_eq!((rig.take(peer).as_str(), rig.line(peer).finished), ("OK abc\nOK\n", true));
    rig.wind_up();
}

#[test]
fn a_line_too_long_gets_its_answer_and_no_reset() {
    let mut rig = Rig::new("line");
    let peer = rig.connect();
    let reply = rig.ask(peer, &format!("PING\n{}", "x".repeat(1_000_000)));
    assert_eq!(reply.lines().count(), 2);
    assert!(reply.starts_with("OK\nERR too-long "), "{reply}");
    assert!(rig.line(peer).finished && rig.line(peer).closed.is_none());
    rig.wind_up();
}

#[test]
fn requests_before_a_half_close_are_answered() {
    let mut rig = Rig::new("line");
    fill(&mut rig, 5_000);
    let peer = rig.connect();
    rig.shut_window(peer);
    rig.send(peer, format!("{}READ #\nPING end\nPING unfinished", "PING 0123456789\n".repeat(10_000)));
    rig.half_close(peer);
    rig.settle();
    assert!(!rig.line(peer).finished);
    while rig.line(peer).closed.is_none() {
        rig.open_window(peer, 30_000);
        rig.settle();
    }
    assert_eq!(rig.line(peer).closed, Some(End::PeerClosed));
    let replies = rig.take(peer);
    assert_eq!(replies.lines().count(), 10_000 + 5_001 + 1);
    assert!(replies.ends_with("OK 5000\nOK end\n"), "an unfinished line is dropped");
    rig.wind_up();
}

#[test]
fn an_end_without_a_word() {
    let mut rig = Rig::new("line");
    let peer = rig.connect();
    rig.half_close(peer);
    rig.settle();
    assert_eq!(rig.line(peer).closed, Some(End::PeerClosed));
    assert!(rig.line(peer).finished, "our side is shut down as well");
    rig.wind_up();
}

#[test]
fn broken_connections_leave_nothing() {
    let mut rig = Rig::new("line");
    fill(&mut rig, 5_000);
    let broken = End::Broken(ErrorKind::ConnectionReset);
    let watcher = rig.connect();
    rig.ask(watcher, "SUB p\n");
    for requests in ["", "PI", "PING\n", "SUB #\n", "READ #\nPING\n", "HELLO press\nSET p 1\nSUB #\nREAD #\n"]
    {
        for window in [0, 1_000, usize::MAX] {
            let peer = rig.connect();
            rig.shut_window(peer);
            rig.open_window(peer, window);
            rig.ask(peer, requests);
            rig.break_off(peer);
            rig.settle();
            assert_eq!(rig.line(peer).closed, Some(broken), "{requests}");
        }
    }
    assert_eq!(rig.engine.len(), 1);
    let last = rig.take(watcher);
    assert!(last.lines().last().unwrap().starts_with("UPD p 1 uncertain "), "{last}");
    // A connection that breaks when it is written to, and one that breaks before it was used.
    let (writer, unused) = (rig.connect(), rig.connect());
    rig.break_off(watcher);
    rig.send(writer, "SET p 2\n");
    rig.settle();
    assert_eq!(rig.line(watcher).closed, Some(broken));
    rig.turn_with(|engine, lines| engine.on_broken(unused, ErrorKind::ConnectionReset, lines));
    assert_eq!(rig.line(unused).closed, Some(broken));
    rig.wind_up();
}

#[test]
fn the_house_is_full() {
    let mut rig = Rig::with("line", RigSettings { max_connections: 3, ..RigSettings::default() });
    let guests: Vec<ConnKey> = (0..3).map(|_| rig.connect()).collect();
    let turned_away: Vec<ConnKey> = (0..REFUSED_AT_ONCE).map(|_| rig.connect()).collect();
    assert_eq!(rig.try_connect(0), None, "the 17th is not even told");
    rig.settle();
    for &peer in &turned_away {
        let words = "ERR limit connections: this server serves at most 3 (max_connections)\n";
        assert_eq!(rig.ask(peer, "PING\n"), words);
        assert!(rig.line(peer).finished);
    }
    assert_eq!(rig.try_connect(0), None);
    let metrics = rig.engine.metrics();
    let counted = (metrics.connections.value(), metrics.accepted.value(), metrics.refused.value());
    assert_eq!(counted, (3, 3, 18));
    rig.advance(millis(LINGER_MS));
    for peer in turned_away {
        assert!(rig.line(peer).closed.is_some());
    }
    assert_eq!(rig.engine.len(), 3);
    rig.half_close(guests[1]);
    rig.settle();
    let next = rig.connect();
    check(&mut rig, next, "PING", &["OK"]);
    check(&mut rig, guests[0], "PING", &["OK"]);
    rig.wind_up();
}

#[test]
fn who_is_turned_away_takes_nobodys_place() {
    let mut rig = Rig::with("line", RigSettings { max_connections: 3, ..RigSettings::default() });
    let guests: Vec<ConnKey> = (0..3).map(|_| rig.connect()).collect();
    for _ in 0..REFUSED_AT_ONCE {
        rig.connect();
    }
    rig.settle();
    for guest in guests {
        rig.half_close(guest);
    }
    rig.settle();
    // Those who were turned away have not hung up.
    assert_eq!(rig.engine.len(), REFUSED_AT_ONCE);
    for _ in 0..3 {
        let next = rig.connect();
        check(&mut rig, next, "PING", &["OK"]);
    }
    rig.wind_up();
}

#[test]
fn a_stop_answers_what_was_read() {
    let mut rig = Rig::new("line");
    fill(&mut rig, 20_000);
    let (idle, busy, slow) = (rig.connect(), rig.connect(), rig.connect());
    rig.shut_window(slow);
    rig.send(slow, "READ #\nPING end\nPING part");
    rig.send(busy, "PING 1\nPING 2\n");
    rig.turn();
    rig.turn_with(|engine, lines| engine.stop(lines));
    rig.send(idle, "PING too late\n");
    rig.settle();
    assert_eq!(rig.take(busy), "OK 1\nOK 2\n");
    assert!(rig.line(busy).finished && rig.line(idle).finished);
    assert!(!rig.line(slow).finished, "a reply that was begun is finished");
    while !rig.line(slow).finished {
        rig.open_window(slow, 50_000);
        rig.settle();
    }
    assert!(rig.take(slow).ends_with("VAL t/19999 19999 good 7\nOK 20000\nOK end\n"));
    rig.advance(millis(LINGER_MS));
    assert!(rig.engine.is_empty());
    assert_eq!(rig.take(idle), "", "nothing more was read");
    rig.wind_up();
}

#[test]
fn a_stop_gives_input_that_waits_its_answer() {
    let mut rig = Rig::new("line");
    let peer = rig.connect();
    rig.shut_window(peer);
    rig.send(peer, format!("PING {}\n", "x".repeat(95)).repeat(600));
    rig.settle();
    rig.turn_with(|engine, lines| engine.stop(lines));
    rig.settle();
    rig.open_window(peer, usize::MAX);
    rig.settle();
    assert_eq!(rig.take(peer).lines().count(), 600);
    assert!(rig.line(peer).finished);
    rig.wind_up();
}
