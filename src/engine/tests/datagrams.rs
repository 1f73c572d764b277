//! Peers that send datagrams.

use super::*;

fn ask(rig: &mut Rig, port: u16, datagram: &str) -> String {
    let replies = rig.datagram(port, datagram);
    assert!(replies.len() <= 1, "{} datagrams", replies.len());
    String::from_utf8(replies.concat()).unwrap()
}

/// Tags enough for more than a turn's share of a scan.
fn filled() -> Rig {
    let mut rig = Rig::new("line+udp");
    for number in 0..20_000 {
        ask(&mut rig, 1, &format!("SET t/{number:05} {number} good 7"));
    }
    rig
}

#[test]
fn a_datagram_has_its_reply() {
    let mut rig = Rig::new("line+udp");
    assert_eq!(ask(&mut rig, 1, "SET a 1 good 7\r\nGET a\n\nPING x"), "OK\nOK 1 good 7\nOK x\n");
    assert_eq!(ask(&mut rig, 2, "GET a"), "OK 1 good 7\n");
    assert_eq!(ask(&mut rig, 2, "GE"), "ERR bad-request unknown request 'GE'; HELP lists what there is\n");
    assert_eq!(ask(&mut rig, 2, "T a\n"), "ERR bad-request unknown request 'T'; HELP lists what there is\n");
    assert_eq!(ask(&mut rig, 2, ""), "");
    assert_eq!(rig.engine.buffer_bytes(), 0);
    rig.wind_up();
}

#[test]
fn peers_are_forgotten_when_others_come() {
    let mut rig = Rig::new("line+udp");
    for port in 1..=100 {
        assert_eq!(ask(&mut rig, port, "PING"), "OK\n");
        assert_eq!(rig.engine.len(), RIG_UDP_PEERS.min(usize::from(port)));
    }
    rig.wind_up();
}

#[test]
fn silent_peers_are_forgotten() {
    let mut rig =
        Rig::with("line+udp", RigSettings { idle_timeout: Some(seconds(30)), ..RigSettings::default() });
    ask(&mut rig, 1, "PING");
    rig.advance(seconds(20));
    ask(&mut rig, 2, "PING");
    rig.advance(seconds(10));
    assert_eq!(rig.engine.len(), 1);
    rig.advance(seconds(20));
    assert_eq!((rig.engine.len(), rig.next), (0, Tick::NEVER));
    assert_eq!(ask(&mut rig, 1, "PING"), "OK\n");
    rig.wind_up();
}

#[test]
fn replies_are_cut_at_line_ends() {
    let mut rig = filled();
    let replies = rig.datagram(1, "READ t/00000\nREAD t/0000\nPING a\n");
    assert_eq!(replies.concat(), b"VAL t/00000 0 good 7\nOK 1\nOK 0\nOK a\n");
    let requests = "GET t/19999\n".repeat(300);
    let replies = rig.datagram(1, &requests);
    assert!(replies.iter().all(|datagram| datagram.len() <= 1_472 && datagram.ends_with(b"\n")));
    assert_eq!(replies.concat(), "OK 19999 good 7\n".repeat(300).as_bytes());
    assert_eq!(replies.len(), 4);
    rig.wind_up();
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut rig = filled();
    let refused = "ERR limit reply: it needs more than 8 datagrams of 1,472 bytes; ask for less, or by TCP\n";
    assert_eq!(
        ask(&mut rig, 1, "GET t/00001\nREAD #\nGET t/00002"),
        format!("OK 1 good 7\n{refused}OK 2 good 7\n")
    );
    assert_eq!(ask(&mut rig, 1, "LIST #"), refused);
    rig.wind_up();
}

#[test]
fn a_reply_that_takes_several_turns_goes_out_as_one() {
    let mut rig = filled();
    let replies = rig.datagram(1, "GET t/00000\nREAD +/19999\nPING");
    let expected = "OK 0 good 7\nVAL t/19999 19999 good 7\nOK 1\nOK\n";
    assert_eq!(String::from_utf8(replies.concat()).unwrap(), expected);
    assert_eq!(replies.len(), 1);
    rig.wind_up();
}

/// Says something at once.
struct Greeter;

impl Session for Greeter {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Flow {
        cx.put(b"hello device");
        cx.cut(cx.owed().len());
        Flow::Continue
    }

    fn on_bytes(&mut self, _: &mut Context<'_>, input: &[u8]) -> Consumed {
        Consumed { bytes: input.len(), flow: Flow::Continue }
    }
}

#[test]
fn a_socket_of_ours_breaks_before_what_is_owed_was_sent() {
    let mut rig = Rig::new("line");
    let address: SocketAddr = "10.0.0.7:502".parse().unwrap();
    let to = Endpoint { host: address.into(), from: None, transport: Transport::Datagram };
    rig.engine.dial_at(Tick::from_micros(0), to, Box::new(Greeter));
    rig.turn();
    let (key, _) = rig.lines.dialled.pop().unwrap();
    rig.turn_with(|engine, lines| {
        engine.on_dialled(key, Ok(()), lines);
        engine.on_broken(key, ErrorKind::ConnectionRefused, lines);
    });
    assert_eq!((rig.engine.len(), rig.engine.buffer_bytes()), (0, 0));
    rig.wind_up();
}
