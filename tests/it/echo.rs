//! `echo://`: what the first Lumina server did on port 5000. Unframed text in, `Echo: ` and that text out.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;

use crate::client::Client;
use crate::server::{DEADLINE, Server};

const PREFIX: &str = "Echo: ";

fn start() -> Server {
    Server::build().listen("echo://127.0.0.1:0").start()
}

/// As the first client did: send a text without a line end, then one `recv(1024)`, on one connection.
#[test]
fn an_old_client_is_served() {
    let server = start();
    let mut old = connect(&server);
    for text in ["Hello, Lumina!", "x", "two\nlines\r\n", " ", "21 °C", "bye", "GET tag", "after bye"] {
        old.write_all(text.as_bytes()).expect("the server takes what is sent");
        assert_eq!(receive(&mut old, text.len()), format!("{PREFIX}{text}"));
    }
}

#[test]
fn the_end_of_the_stream_is_answered_with_the_end() {
    let server = start();
    let mut old = connect(&server);
    old.write_all(b"last words").expect("the server takes what is sent");
    old.shutdown(Shutdown::Write).expect("an open connection can be half-closed");
    let mut all = String::new();
    old.read_to_string(&mut all).expect("the end, and no reset");
    assert_eq!(all, "Echo: last words");
}

/// Where the chunks of a long text were cut is the network's doing, but not a byte is lost or moved.
#[test]
fn a_long_text_comes_back_whole() {
    let server = start();
    let mut old = connect(&server);
    let text: String = (0..150_000).map(|number| format!("{number},")).collect();
    let mut sender = old.try_clone().expect("a descriptor for the sender");
    let sent = text.clone();
    let sender = thread::spawn(move || {
        sender.write_all(sent.as_bytes()).expect("the server takes what is sent");
        sender.shutdown(Shutdown::Write).expect("an open connection can be half-closed");
    });
    let mut all = String::new();
    old.read_to_string(&mut all).expect("the end, and no reset");
    sender.join().expect("the sender got through");
    assert!(all.starts_with(PREFIX));
    assert!(all.replace(PREFIX, "") == text, "{} bytes came back of {}", all.len(), text.len());
}

#[test]
fn many_at_once_each_get_their_own() {
    let server = start();
    let mut clients: Vec<TcpStream> = (0..100).map(|_| connect(&server)).collect();
    for round in 0..3 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.write_all(text_of(number, round).as_bytes()).expect("the server takes what is sent");
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let text = text_of(number, round);
            assert_eq!(receive(client, text.len()), format!("{PREFIX}{text}"));
        }
    }
}

/// Two protocols in one server know nothing of each other.
#[test]
fn beside_a_line_listener() {
    let server = Server::build().listen("line://127.0.0.1:0").listen("echo://127.0.0.1:0").start();
    let mut old = TcpStream::connect(server.addr(1)).expect("the server listens");
    old.write_all(b"SET a 1\n").expect("the server takes what is sent");
    assert_eq!(receive(&mut old, 8), "Echo: SET a 1\n");
    let mut line = Client::connect(server.addr(0));
    line.send("GET a\n");
    line.expect("ERR not-found");
}

fn text_of(number: usize, round: usize) -> String {
    format!("message {round} of {number}")
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.addr(0)).expect("the server listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a socket has a read timeout");
    stream
}

/// The answer to a text of `bytes` bytes.
fn receive(stream: &mut TcpStream, bytes: usize) -> String {
    let mut buffer = vec![0; PREFIX.len() + bytes];
    stream.read_exact(&mut buffer).expect("as many bytes as are due");
    String::from_utf8(buffer).expect("what was sent is UTF-8")
}
