//! What subscribers are told, and when.

use super::*;
use crate::tags::name::Pattern;

const TAGS: usize = 20_000;

#[test]
fn changes_during_a_reply_come_after_it_and_once() {
    let mut rig = Rig::new("line");
    fill(&mut rig, TAGS);
    let (reader, writer) = (rig.connect(), rig.connect());
    rig.shut_window(reader);
    rig.send(reader, "SUB #\n");
    rig.settle();
    // Told already, and not told yet; names behind and before the place that the reply has come to.
    check(&mut rig, writer, "SET t/00000 -1 good 8", &["OK"]);
    check(&mut rig, writer, "SET t/19999 -1 good 8", &["OK"]);
    check(&mut rig, writer, "SET a/new 1 good 8", &["OK"]);
    check(&mut rig, writer, "SET z/new 1 good 8", &["OK"]);
    while rig.owed(reader) > 0 {
        rig.open_window(reader, 50_000);
        rig.settle();
    }
    let reply = rig.take(reader);
    let lines: Vec<&str> = reply.lines().collect();
    let end = lines.iter().position(|line| line.starts_with("OK")).unwrap();
    assert_eq!(lines[end], "OK 20001", "the new one at the end is part of the reply");
    assert!(lines[..end].is_sorted_by_key(|line| tag_of(line)));
    assert_eq!(lines[0], "VAL t/00000 0 good 7");
    assert_eq!(lines[end - 2..end], ["VAL t/19999 -1 good 8", "VAL z/new 1 good 8"]);
    let mut updates = lines[end + 1..].to_vec();
    updates.sort_unstable();
    assert_eq!(updates, ["UPD a/new 1 good 8", "UPD t/00000 -1 good 8"]);
    rig.wind_up();
}

#[test]
fn what_a_reply_tells_is_not_told_again() {
    let mut rig = Rig::new("line");
    fill(&mut rig, TAGS);
    let (writer, reader) = (rig.connect(), rig.connect());
    rig.send(reader, "SUB #\n");
    // In each turn the same tags change, before the reply has come to them and after.
    for turn in 1.. {
        let requests = (100..200).map(|tag| format!("SET t/{tag}00 -{turn} good 8\n"));
        rig.send(writer, requests.collect::<String>());
        rig.turn();
        if rig.line(reader).received.windows(9).any(|end| end == b"\nOK 20000") {
            break;
        }
    }
    rig.settle();
    let lines = rig.take(reader);
    let mut told = std::collections::HashMap::new();
    for line in lines.lines().filter(|line| !line.starts_with("OK")) {
        let state = line.split(' ').nth(2);
        assert_ne!(told.insert(tag_of(line), state), Some(state), "told twice: {line}");
    }
    rig.wind_up();
}

#[test]
fn a_subscription_begins_where_its_reply_ends() {
    let mut rig = Rig::new("line");
    let (other, peer) = (rig.connect(), rig.connect());
    check(&mut rig, other, "SUB #", &["OK 0"]);
    // Somebody listens, so the change is on its way when the subscription comes; its reply has told of it.
    rig.send(peer, "SET a 1 good 7\nSUB a\n");
    rig.settle();
    assert_eq!(rig.take(peer), "OK\nVAL a 1 good 7\nOK 1\n");
    assert_eq!(rig.take(other), "UPD a 1 good 7\n");
    // In the same turn, but later: nothing is missed.
    rig.send(other, "SET a 2 good 7\n");
    rig.send(peer, "UNSUB a\nSUB a\nSET a 3 good 7\n");
    rig.settle();
    assert_eq!(rig.take(peer), "OK\nVAL a 2 good 7\nOK 1\nOK\nUPD a 3 good 7\n");
    rig.wind_up();
}

#[test]
fn what_is_no_change_is_not_told() {
    let mut rig = Rig::new("line");
    let peer = rig.connect();
    check(&mut rig, peer, "SUB #", &["OK 0"]);
    check(&mut rig, peer, "SET a 1 good 7", &["OK", "UPD a 1 good 7"]);
    check(&mut rig, peer, "SET a 1 good 8", &["OK"]);
    check(&mut rig, peer, "SET a 1.0 good 9", &["OK", "UPD a 1.0 good 9"]);
    check(&mut rig, peer, "SET a nan good 9", &["OK", "UPD a nan good 9"]);
    check(&mut rig, peer, "SET a nan good 10", &["OK"]);
    check(&mut rig, peer, "SET a nan uncertain 10", &["OK", "UPD a nan uncertain 10"]);
    check(&mut rig, peer, "SET a null bad 10", &["OK", "UPD a null bad 10"]);
    rig.wind_up();
}

#[test]
fn several_patterns_give_one_update() {
    let mut rig = Rig::new("line");
    let (reader, writer) = (rig.connect(), rig.connect());
    rig.ask(reader, "SUB #\nSUB a/#\nSUB a/+\nSUB a/b\nSUB a/b\n");
    check(&mut rig, writer, "SET a/b 1 good 7", &["OK"]);
    assert_eq!(rig.take(reader), "UPD a/b 1 good 7\n");
    rig.ask(reader, "UNSUB a/+\nUNSUB #\nUNSUB a/b\n");
    check(&mut rig, writer, "SET a/b 2 good 7", &["OK"]);
    assert_eq!(rig.take(reader), "UPD a/b 2 good 7\n");
    rig.ask(reader, "UNSUB a/#\n");
    check(&mut rig, writer, "SET a/b 3 good 7", &["OK"]);
    assert_eq!(rig.take(reader), "");
    rig.wind_up();
}

/// Write `a/b` so often, a turn each, that the subscriber is behind; its last value is `rounds`.
fn overrun(rig: &mut Rig, writer: ConnKey, rounds: usize) {
    for round in 1..=rounds {
        check(rig, writer, &format!("SET a/b {round} good 7"), &["OK"]);
    }
}

#[test]
fn who_is_behind_gets_the_newest_value() {
    let mut rig = Rig::new("line");
    let (reader, writer) = (rig.connect(), rig.connect());
    rig.ask(reader, "SUB #\nSUB a/#\n");
    rig.shut_window(reader);
    overrun(&mut rig, writer, 5_000);
    check(&mut rig, writer, "SET a/c 1 good 7", &["OK"]);
    let held = rig.engine.buffer_bytes();
    overrun(&mut rig, writer, 5_000);
    check(&mut rig, writer, "SET a/b 5001 good 7", &["OK"]);
    assert_eq!(rig.engine.buffer_bytes(), held, "no more is held for it");
    rig.open_window(reader, usize::MAX);
    rig.settle();
    let updates = rig.take(reader);
    let values: Vec<u64> = updates
        .lines()
        .filter(|line| tag_of(line) == "a/b")
        .map(|line| line.split(' ').nth(2).unwrap().parse().unwrap())
        .collect();
    assert!(values.is_sorted(), "never an older sample after a newer one");
    assert_eq!(values.last(), Some(&5_001));
    assert_eq!(updates.matches("UPD a/c").count(), 1);
    assert!(updates.lines().count() < 5_000, "what there was no room for was left out");
    check(&mut rig, writer, "SET a/b 0 good 7", &["OK"]);
    assert_eq!(rig.take(reader), "UPD a/b 0 good 7\n", "and then it goes on as ever");
    rig.wind_up();
}

#[test]
fn after_unsub_there_is_no_update_any_more() {
    let mut rig = Rig::new("line");
    let (reader, writer) = (rig.connect(), rig.connect());
    rig.ask(reader, "SUB a/#\nSUB x\n");
    rig.shut_window(reader);
    overrun(&mut rig, writer, 3_000);
    rig.send(reader, "UNSUB a/#\nPING\n");
    rig.settle();
    overrun(&mut rig, writer, 10);
    rig.open_window(reader, 10_000);
    rig.settle();
    overrun(&mut rig, writer, 10);
    rig.open_window(reader, usize::MAX);
    rig.settle();
    let received = rig.take(reader);
    let (updates, rest) = received.split_at(received.find("OK").unwrap());
    assert!(updates.lines().all(|line| tag_of(line) == "a/b"));
    assert_eq!(rest, "OK\nOK\n");
    overrun(&mut rig, writer, 10);
    assert_eq!(rig.take(reader), "");
    rig.wind_up();
}

#[test]
fn the_last_unsub_while_changes_wait() {
    let mut rig = Rig::new("line");
    let peer = rig.connect();
    rig.ask(peer, "SUB a/#\n");
    assert_eq!(rig.ask(peer, "SET a/b 1 good 7\nUNSUB a/#\nSUB c\n"), "OK\nOK\nOK 0\n");
    assert_eq!(rig.ask(peer, "SET c 1 good 7\n"), "OK\nUPD c 1 good 7\n");
    rig.wind_up();
}

#[test]
fn tags_created_later_are_told_of() {
    let mut rig = Rig::new("line");
    let (reader, writer) = (rig.connect(), rig.connect());
    rig.ask(reader, "SUB a/+/c\nSUB z\n");
    check(&mut rig, writer, "SET a/b/c 1 good 7", &["OK"]);
    check(&mut rig, writer, "SET z 1 good 7", &["OK"]);
    check(&mut rig, writer, "SET a/b 1 good 7", &["OK"]);
    assert_eq!(rig.take(reader), "UPD a/b/c 1 good 7\nUPD z 1 good 7\n");
    rig.wind_up();
}

#[test]
fn more_changes_than_a_turn_deals() {
    let mut rig = Rig::new("line");
    fill(&mut rig, TAGS);
    let readers: Vec<ConnKey> = (0..3).map(|_| rig.connect()).collect();
    for &reader in &readers {
        assert!(rig.ask(reader, "SUB t/#\n").ends_with("OK 20000\n"));
    }
    let writer = rig.connect();
    let requests: String = (0..TAGS).map(|number| format!("SET t/{number:05} -1 good 8\n")).collect();
    assert_eq!(rig.ask(writer, &requests), "OK\n".repeat(TAGS));
    for reader in readers {
        let updates = rig.take(reader);
        let mut tags: Vec<&str> = updates.lines().map(tag_of).collect();
        tags.sort_unstable();
        tags.dedup();
        assert_eq!((tags.len(), updates.lines().count()), (TAGS, TAGS), "each tag once");
    }
    rig.wind_up();
}

#[test]
fn subscriptions_have_a_limit() {
    let mut rig = Rig::with("line", RigSettings { max_subscriptions: 2, ..RigSettings::default() });
    let peer = rig.connect();
    check(&mut rig, peer, "SUB a", &["OK 0"]);
    check(&mut rig, peer, "SUB b", &["OK 0"]);
    let refused = "ERR limit subscriptions: a connection has at most 2 (max_subscriptions)";
    check(&mut rig, peer, "SUB c", &[refused]);
    check(&mut rig, peer, "SUB a", &["OK 0"]);
    check(&mut rig, peer, "UNSUB a", &["OK"]);
    check(&mut rig, peer, "UNSUB a", &["ERR not-found no such subscription"]);
    check(&mut rig, peer, "SUB c", &["OK 0"]);
    let other = rig.connect();
    check(&mut rig, other, "SUB a", &["OK 0"]);
    assert_eq!(rig.engine.metrics().subscriptions.value(), 3);
    rig.wind_up();
}

#[test]
fn what_changed_before_the_end_is_told() {
    let mut rig = Rig::new("line");
    let peer = rig.connect();
    rig.send(peer, "SUB a\nSET a 1 good 7\n");
    rig.half_close(peer);
    rig.settle();
    assert_eq!(rig.take(peer), "OK 0\nOK\nUPD a 1 good 7\n");
    rig.wind_up();
}

/// A conversation that is over with the first change, which two of its patterns match.
struct Once;

impl Session for Once {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Flow {
        for pattern in ["#", "a"] {
            cx.subscribe(Pattern::parse(pattern).unwrap()).unwrap();
        }
        Flow::Continue
    }

    fn on_bytes(&mut self, _cx: &mut Context<'_>, input: &[u8]) -> Consumed {
        Consumed { bytes: input.len(), flow: Flow::Continue }
    }

    fn on_change(&mut self, cx: &mut Context<'_>, change: &Change<'_>) -> Flow {
        cx.put(change.name.as_bytes());
        Flow::Close(End::Quit)
    }
}

struct OnceAcceptor;

impl Acceptor for OnceAcceptor {
    fn accept(&self, _peer: SocketAddr) -> Box<dyn Session> {
        Box::new(Once)
    }

    fn refuse(&self, _refusal: &Refusal, _out: &mut String) {}
}

#[test]
fn a_session_may_end_at_a_change() {
    let more: Vec<Box<dyn Acceptor>> = vec![Box::new(OnceAcceptor)];
    let mut rig = Rig::with("line", RigSettings { more, ..RigSettings::default() });
    let (once, writer) = (rig.connect_to(1), rig.connect());
    check(&mut rig, writer, "SET a 1", &["OK"]);
    assert_eq!(rig.take(once), "a");
    assert!(rig.line(once).finished);
    check(&mut rig, writer, "SET a 2", &["OK"]);
    assert_eq!(rig.take(once), "");
    rig.wind_up();
}
