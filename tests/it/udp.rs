//! `line+udp://`: requests in datagrams, replies in a few of them.

use std::collections::HashSet;
use std::net::UdpSocket;

use crate::client::Client;
use crate::server::{DEADLINE, Server};

/// What fits one Ethernet frame, and what the reply to one datagram may take.
const DATAGRAM_BYTES: usize = 1_472;
const MOST_DATAGRAMS: usize = 8;

struct Peer {
    socket: UdpSocket,
}

impl Peer {
    fn of(server: &Server) -> Peer {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        socket.connect(server.addr(0)).expect("a datagram socket connects to anything");
        socket.set_read_timeout(Some(DEADLINE)).expect("a socket has a read timeout");
        Peer { socket }
    }

    fn send(&self, datagram: impl AsRef<[u8]>) {
        self.socket.send(datagram.as_ref()).expect("a datagram is sent");
    }

    fn receive(&self) -> String {
        let mut datagram = [0; 65_536];
        let count = self.socket.recv(&mut datagram).expect("a reply, and in time");
        assert!(count <= DATAGRAM_BYTES, "a datagram of {count} bytes");
        let text = std::str::from_utf8(&datagram[..count]).expect("replies are UTF-8").to_owned();
        assert!(text.ends_with('\n'), "cut at a line's end: {text:?}");
        text
    }

    /// The datagrams that answer `datagram`: all that come before the answer to a second one.
    fn ask(&self, datagram: impl AsRef<[u8]>) -> Vec<String> {
        self.send(datagram);
        self.send("PING that was all\n");
        let mut replies = Vec::new();
        loop {
            match self.receive() {
                end if end == "OK that was all\n" => return replies,
                reply => replies.push(reply),
            }
        }
    }
}

fn start() -> Server {
    Server::build().listen("line+udp://127.0.0.1:0").listen("line://127.0.0.1:0").start()
}

#[test]
fn a_datagram_holds_whole_lines() {
    let server = start();
    let peer = Peer::of(&server);
    let check = |datagram: &str, reply: &str| {
        let replies = peer.ask(datagram);
        assert_eq!(replies.concat(), reply, "{datagram:?}");
        assert!(replies.len() <= 1, "{datagram:?}: {replies:?}");
    };
    check("PING a\n", "OK a\n");
    check("PING the last LF may be missing", "OK the last LF may be missing\n");
    check("PING a\r\n\n \t\nPING b\r\n", "OK a\nOK b\n");
    check("\n", "");
    check("SET a/b 1 good 5\nGET a/b\nset a/b 2 bad 6\nGET a/b", "OK\nOK 1 good 5\nOK\nOK 2 bad 6\n");
    check("READ a/+\n", "VAL a/b 2 bad 6\nOK 1\n");
    check("LIST a/b\n", "TAG a/b any rw -\nOK 1\n");
    check("GET a/c\nPING b\n", "ERR not-found no such tag\nOK b\n");
}

#[test]
fn what_needs_a_connection_is_refused() {
    let server = start();
    let peer = Peer::of(&server);
    for verb in ["SUB", "UNSUB", "HELLO", "AUTH", "QUIT"] {
        // The transport is checked before the number of fields, and the lines after it are executed.
        for fields in ["", " a/b", " a b", " a b c d e"] {
            let reply = peer.ask(format!("{verb}{fields}\nPING b\n")).concat();
            assert!(reply.starts_with("ERR bad-request "), "{verb}{fields}: {reply}");
            assert!(reply.ends_with("\nOK b\n"), "{verb}{fields}: {reply}");
        }
    }
}

#[test]
fn a_long_line_is_refused_and_the_next_executed() {
    let server = start();
    let reply = Peer::of(&server).ask(format!("PING {}\nPING b\n", "x".repeat(4_092))).concat();
    assert!(reply.starts_with("ERR too-long ") && reply.ends_with("\nOK b\n"), "{reply}");
}

#[test]
fn a_reply_is_cut_at_line_ends_into_eight_datagrams_at_most() {
    let server = start();
    let (peer, mut client) = (Peer::of(&server), Client::connect(server.addr(1)));
    let text = "x".repeat(480);
    client.ok_all((0..60).map(|n| format!("SET t/{n:02} \"{text}\"")));
    // Each line has some 510 bytes: two of them fill a datagram.
    let replies = peer.ask((0..15).map(|n| format!("GET t/{n:02}\n")).collect::<String>());
    assert_eq!((replies.len(), replies.concat().lines().count()), (8, 15));
    let replies = peer.ask("READ t/#\nPING b\n");
    assert_eq!(replies.len(), 1, "{replies:?}");
    let mut lines = replies[0].lines();
    assert!(lines.next().is_some_and(|line| line.starts_with("ERR limit reply")), "{replies:?}");
    assert_eq!(lines.next(), Some("OK b"));
}

/// Whoever forges a sender's address gets it 8 datagrams for one of its own, and what is not answered is not
/// done.
#[test]
fn no_datagram_is_answered_with_more_than_eight() {
    let server = start();
    let (peer, mut client) = (Peer::of(&server), Client::connect(server.addr(1)));
    let replies = peer.ask("HELP\n".repeat(10_000));
    assert!(replies.len() <= MOST_DATAGRAMS, "{} datagrams", replies.len());
    let replies = peer.ask("SET n 1\n".repeat(7_000) + "SET last 1\n");
    assert_eq!(replies.len(), MOST_DATAGRAMS);
    assert!(replies.concat().lines().count() < 7_000);
    assert!(client.ask_one("GET last").starts_with("ERR not-found "));
}

#[test]
fn thousands_of_senders_are_answered_and_few_are_remembered() {
    const SENDERS: usize = 3_000;
    let server = Server::build()
        .config("[server]\nmax_udp_peers = 100\n[[listen]]\nurl = 'line+udp://127.0.0.1:0'")
        .listen("line://127.0.0.1:0")
        .start();
    let mut client = Client::connect(server.addr(1));
    assert_eq!(client.ask_one("PING"), "OK");
    let before = server.descriptors();
    let mut ports = HashSet::new();
    for number in 0..SENDERS {
        let peer = Peer::of(&server);
        ports.insert(peer.socket.local_addr().expect("it is bound").port());
        peer.send(format!("PING {number}"));
        assert_eq!(peer.receive(), format!("OK {number}\n"));
    }
    assert!(ports.len() > 100, "the senders differ");
    assert_eq!(server.descriptors(), before);
    let connections = client.ask("GET $server/connections");
    assert!(connections[0].starts_with("OK 101 "), "100 peers and this client: {connections:?}");
}

/// Two processes on one port would share the datagrams.
#[test]
fn a_port_belongs_to_one_server() {
    let server = start();
    let taken = format!("line+udp://{}", server.addr(0));
    let outcome = crate::server::run(&crate::server::Folder::new(), &["serve", "--listen", &taken]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains(&taken), "{}", outcome.stderr);
}

#[test]
fn a_stop_does_not_wait_for_peers() {
    let mut server = start();
    assert_eq!(Peer::of(&server).ask("PING a"), ["OK a\n"]);
    server.signal(rustix::process::Signal::TERM);
    assert!(server.wait_for_exit().success());
}
