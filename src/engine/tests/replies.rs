//! Requests in pieces, long replies, and peers that read slowly.

use super::*;
use crate::tags::TagSettings;

#[test]
fn a_request_may_come_byte_by_byte() {
    let mut rig = Rig::new("line");
    let peer = rig.connect();
    let requests = "SET a/b 1 good 7\r\nGET a/b\n\nGET a/c\nPING  x \n";
    let whole = rig.ask(peer, requests);
    assert_eq!(whole, "OK\nOK 1 good 7\nERR not-found no such tag\nOK x \n");
    for byte in requests.as_bytes() {
        rig.send(peer, [*byte]);
        rig.settle();
        assert!(rig.engine.buffer_bytes() <= 256, "a partial frame takes the smallest buffer");
    }
    assert_eq!(rig.take(peer), whole);
    assert_eq!(rig.engine.buffer_bytes(), 0);
    rig.wind_up();
}

#[test]
fn a_long_reply_is_made_as_it_is_taken() {
    const TAGS: usize = 20_000;
    let mut rig = Rig::new("line");
    fill(&mut rig, TAGS);
    let peer = rig.connect();
    rig.shut_window(peer);
    rig.send(peer, "READ #\nPING after\n");
    // `turn` sees to it that never more than the high-water mark is owed.
    let mut most_owed = 0;
    while !rig.line(peer).received.ends_with(b"OK after\n") {
        let before = rig.line(peer).received.len();
        rig.open_window(peer, 1_000);
        rig.settle();
        most_owed = most_owed.max(rig.owed(peer));
        assert!(rig.line(peer).received.len() > before, "the reply got stuck");
    }
    assert!(most_owed > LOW_WATER_BYTES, "the room is used");
    let reply = rig.take(peer);
    let expected = (0..TAGS).map(|number| format!("VAL t/{number:05} {number} good 7"));
    let end = ["OK 20000".to_owned(), "OK after".to_owned()];
    assert!(reply.lines().eq(expected.chain(end)), "complete and in order");
    rig.wind_up();
}

#[test]
fn a_long_reply_leaves_others_their_turn() {
    let mut rig = Rig::new("line");
    fill(&mut rig, 20_000);
    let (greedy, modest) = (rig.connect(), rig.connect());
    rig.send(greedy, "READ #\n");
    rig.turn();
    let first = rig.line(greedy).received.len();
    assert!(first < HIGH_WATER_BYTES, "a slice a turn, not {first} bytes");
    rig.send(modest, "PING\n");
    rig.turn();
    assert_eq!(rig.take(modest), "OK\n");
    rig.settle();
    assert!(rig.take(greedy).ends_with("OK 20000\n"));
    rig.wind_up();
}

#[test]
fn what_matches_little_of_much_is_found() {
    let mut rig = Rig::new("line");
    fill(&mut rig, 20_000);
    let peer = rig.connect();
    check(&mut rig, peer, "READ +/19999", &["VAL t/19999 19999 good 7", "OK 1"]);
    check(&mut rig, peer, "READ +/none", &["OK 0"]);
    rig.wind_up();
}

#[test]
fn who_does_not_read_is_not_read() {
    let mut rig = Rig::new("line");
    let peer = rig.connect();
    rig.shut_window(peer);
    let line = format!("PING {}\n", "x".repeat(95));
    rig.send(peer, line.repeat(10_000));
    rig.settle();
    let (owed, held) = (rig.owed(peer), rig.engine.buffer_bytes());
    assert!(owed > HIGH_WATER_BYTES / 2 && held <= 2 * SCRATCH_BYTES, "{owed} owed, {held} held");
    rig.advance(seconds(29));
    assert_eq!((rig.owed(peer), rig.engine.buffer_bytes()), (owed, held), "nothing goes on");
    while rig.owed(peer) > 0 {
        rig.open_window(peer, 20_000);
        rig.settle();
    }
    assert_eq!(rig.take(peer), line.replace("PING", "OK").repeat(10_000));
    rig.wind_up();
}

#[test]
fn the_mark_holds_with_the_smallest_limits() {
    let tags = TagSettings { max_text: 16, ..TagSettings::default() };
    let mut rig = Rig::with("line", RigSettings { tags, keys: "max_line = 64", ..RigSettings::default() });
    let peer = rig.connect();
    rig.shut_window(peer);
    rig.send(peer, "HELP\nINFO\n".repeat(200));
    rig.settle();
    rig.open_window(peer, usize::MAX);
    rig.settle();
    let finals = rig.take(peer).lines().filter(|line| line.starts_with("OK")).count();
    assert_eq!(finals, 400);
    rig.wind_up();
}

#[test]
fn the_mark_holds_with_the_longest_texts() {
    let tags = TagSettings { max_text: 4_096, ..TagSettings::default() };
    let settings = RigSettings { tags, keys: "max_line = 16384", ..RigSettings::default() };
    let mut rig = Rig::with("line", settings);
    let (reader, writer) = (rig.connect(), rig.connect());
    rig.ask(reader, "SUB #\n");
    rig.shut_window(reader);
    // Each byte is written as six.
    let text = "\u{7f}".repeat(10) + &"\\u0001".repeat(2_700);
    for tag in 0..20 {
        let text = if tag % 4 == 3 { "x".repeat(4_096) } else { text.clone() };
        check(&mut rig, writer, &format!("SET {tag} \"{text}\" good 7"), &["OK"]);
    }
    rig.open_window(reader, usize::MAX);
    rig.settle();
    assert_eq!(rig.take(reader).lines().map(tag_of).collect::<std::collections::HashSet<_>>().len(), 20);
    rig.wind_up();
}

#[test]
fn echo_keeps_to_the_marks() {
    let mut rig = Rig::new("echo");
    let peer = rig.connect();
    rig.shut_window(peer);
    let text = "0123456789abcdef".repeat(20_000);
    rig.send(peer, &text);
    rig.settle();
    assert!(rig.owed(peer) > HIGH_WATER_BYTES / 2);
    while rig.line(peer).received.len() < text.len() || rig.owed(peer) > 0 {
        rig.open_window(peer, 10_000);
        rig.settle();
    }
    assert_eq!(rig.take(peer).replace("Echo: ", ""), text);
    rig.wind_up();
}

/// Fills its output to the mark for each chunk that comes.
struct Brim;

impl Session for Brim {
    fn on_bytes(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Consumed {
        cx.put(&vec![input[0]; cx.room()]);
        Consumed { bytes: input.len(), flow: Flow::Continue }
    }
}

impl Acceptor for Brim {
    fn accept(&self, _peer: SocketAddr) -> Box<dyn Session> {
        Box::new(Brim)
    }

    fn refuse(&self, _refusal: &Refusal, _out: &mut String) {}
}

#[test]
fn at_the_mark_nothing_is_read() {
    let more: Vec<Box<dyn Acceptor>> = vec![Box::new(Brim)];
    let mut rig = Rig::with("line", RigSettings { more, ..RigSettings::default() });
    let peer = rig.connect_to(1);
    rig.shut_window(peer);
    rig.ask(peer, "a");
    assert_eq!(rig.owed(peer), HIGH_WATER_BYTES);
    rig.ask(peer, "b");
    rig.open_window(peer, HIGH_WATER_BYTES - LOW_WATER_BYTES - 1);
    rig.settle();
    assert!(!rig.take(peer).contains('b') && rig.owed(peer) == LOW_WATER_BYTES + 1);
    rig.open_window(peer, 1);
    rig.settle();
    assert!(rig.owed(peer) > HIGH_WATER_BYTES - 2, "when there is room again it goes on");
    rig.ask(peer, "c");
    assert_eq!(rig.owed(peer), HIGH_WATER_BYTES);
    rig.ask(peer, "d");
    rig.open_window(peer, usize::MAX);
    rig.settle();
    assert!(rig.take(peer).ends_with('d'));
    rig.wind_up();
}
