//! Peers that leave in bad ways, send nonsense, or stop in the middle.

use std::io::Write;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::client::{Client, Peek};
use crate::server::{DEADLINE, Server, until};

/// How long a test that sets the pace looks at a quiet connection before its next move.
const PACE: Duration = Duration::from_millis(20);
/// Growth of the server's memory that no peer is to blame for.
const SLACK_KIB: u64 = 8 * 1024;

/// Requests and the end of the stream are all there before the server looks: one event may tell of both. Half
/// of the connections were even made while it was stopped.
#[test]
fn requests_before_a_half_close_are_all_answered() {
    let server = Server::start();
    let mut other = server.client();
    assert_eq!(other.ask_one("PING"), "OK");
    let baseline = server.descriptors();
    let mut clients = server.clients(50);
    for client in &mut clients {
        assert_eq!(client.ask_one("PING"), "OK");
    }

    server.freeze();
    clients.extend(server.clients(50));
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(format!("SET half/{number} {number} good 7\nGET half/{number}\nPING {number}\n"));
        client.shut();
    }
    server.signal(Signal::CONT);

    for (number, client) in clients.iter_mut().enumerate() {
        let expected = ["OK".to_owned(), format!("OK {number} good 7"), format!("OK {number}")];
        assert_eq!(client.read_to_end(), expected);
    }
    until("all descriptors are given back", || server.descriptors() == baseline);
    assert_eq!(other.ask("READ half/#").len(), 101);
}

/// The same with replies far longer than what a connection may owe.
#[test]
fn long_replies_go_on_after_a_half_close() {
    const TAGS: usize = 2000;
    const READS: usize = 50;
    let server = Server::start();
    server.fill(TAGS);
    let mut client = server.client();
    client.send("READ #\n".repeat(READS) + "PING last\n");
    client.shut();
    let lines = client.read_to_end();
    assert_eq!(lines.len(), READS * (TAGS + 1) + 1);
    assert_eq!(lines.iter().filter(|line| **line == format!("OK {TAGS}")).count(), READS);
    assert_eq!(lines[lines.len() - 1], "OK last");
}

/// Closing with unread input would turn the last words into a reset, which a sender meets when it goes on
/// sending. The client panics on one.
#[test]
fn a_megabyte_without_an_end_of_line() {
    let server = Server::start();
    let chunk = [b'x'; 64 * 1024];
    for half_close in [false, true] {
        let mut client = server.client();
        client.send(chunk);
        assert_eq!(client.peek(DEADLINE), Peek::Data, "the verdict");
        for _ in 1..16 {
            client.send(chunk);
        }
        if half_close {
            client.shut();
        }
        client.expect("ERR too-long");
        client.expect_end();
    }
    // The same, all of it there before the server looks, behind a request that is still answered.
    server.freeze();
    let mut client = server.client();
    client.send("PING first\n");
    client.send(vec![b'x'; 1 << 20]);
    server.signal(Signal::CONT);
    client.expect("OK first");
    client.expect("ERR too-long");
    client.expect_end();
    assert_eq!(server.client().ask_one("PING"), "OK");
}

#[test]
fn resets() {
    let server = Server::start();
    let mut other = server.client();
    assert_eq!(other.ask_one("SET keep 1 good 7"), "OK");
    let baseline = server.descriptors();
    for round in 0..50 {
        // In the middle of a line, with replies on their way, with a subscription, and before anything was
        // said.
        let [mut middle, mut unread, mut subscriber, fresh] = [(); 4].map(|()| server.client());
        assert_eq!(middle.ask_one("PING"), "OK");
        middle.send(format!("SET reset/{round} 1"));
        unread.send("READ #\nPING\n".repeat(100));
        subscriber.ask("SUB #");
        for client in [middle, unread, subscriber, fresh] {
            client.reset();
        }
        assert_eq!(other.ask_one(&format!("SET keep {round} good 7")), "OK");
    }
    until("all descriptors are given back", || server.descriptors() == baseline);
    assert_eq!(other.ask("READ #"), ["VAL keep 49 good 7", "OK 1"]);
}

/// A line begun must end within `frame_timeout`, however busily it is continued. A connection between two
/// lines may be silent for as long as it likes.
#[test]
fn a_slow_loris_is_closed() {
    let server = Server::with("[[listen]]\nurl = 'line://127.0.0.1:0'\nframe_timeout = '400ms'");
    let (mut silent, mut stuck, mut loris) = (server.client(), server.client(), server.client());
    for client in [&mut silent, &mut stuck, &mut loris] {
        assert_eq!(client.ask_one("PING"), "OK");
    }
    stuck.send("PING for ev");
    loris.send("PING ");
    let end = Instant::now() + DEADLINE;
    while loris.peek(PACE) == Peek::Quiet {
        loris.send("x");
        assert!(Instant::now() < end, "a line that never ends is read for ever");
    }
    // What it says on closing is open; that no such line is executed is not.
    for client in [&mut stuck, &mut loris] {
        assert!(client.read_to_end().iter().all(|line| line.starts_with("ERR ")));
    }
    assert_eq!(silent.ask_one("PING"), "OK");
}

#[test]
fn an_idle_connection_is_closed_where_the_listener_says_so() {
    let server = Server::with(
        "
        [[listen]]
        url = 'line://127.0.0.1:0'
        idle_timeout = '3s'
        [[listen]]
        url = 'line://127.0.0.1:0'
        ",
    );
    let mut elsewhere = Client::connect(server.addr(1));
    let (mut idle, mut busy) = (server.client(), server.client());
    for client in [&mut elsewhere, &mut idle, &mut busy] {
        assert_eq!(client.ask_one("PING"), "OK");
    }
    let end = Instant::now() + DEADLINE;
    while idle.peek(PACE) == Peek::Quiet {
        assert_eq!(busy.ask_one("PING"), "OK");
        assert!(Instant::now() < end, "an idle connection is never closed");
    }
    assert!(idle.read_to_end().iter().all(|line| line.starts_with("ERR ")));
    assert_eq!(busy.ask_one("PING"), "OK");
    assert_eq!(elsewhere.ask_one("PING"), "OK");
}

/// Random bytes, and random words of the protocol in random order: each line that is not blank gets one final
/// line, nothing else happens to anybody.
#[test]
fn garbage() {
    let mut server = Server::start();
    let mut other = server.client();
    assert_eq!(other.ask_one("SET keep/this 1 good 7"), "OK");
    for seed in 1..=60 {
        let mut random = Random(seed);
        let bytes = if seed % 2 == 0 { random.bytes(20_000) } else { random.words(3_000) };
        let mut client = server.client();
        client.send(&bytes);
        client.shut();
        let finals = client.read_to_end().iter().filter(|line| crate::client::is_final(line)).count();
        assert_eq!(finals, requests_in(&bytes), "seed {seed}");
    }
    assert_eq!(other.ask_one("GET keep/this"), "OK 1 good 7");
    assert!(server.is_running());
}

/// Who does not read while bytes are owed and the kernel takes none is closed after `write_stall`, as slow.
#[test]
fn a_stalled_reader_is_closed() {
    let server = Server::with("[server]\nwrite_stall = '300ms'");
    let mut other = server.client();
    assert_eq!(other.ask_one("PING"), "OK");
    let baseline = server.descriptors();
    server.fill(5000);
    until("the filling connection is gone", || server.descriptors() == baseline);
    let mut stalled = Client::narrow(server.addr(0));
    stalled.send("READ #\n".repeat(100));
    assert_eq!(stalled.peek(DEADLINE), Peek::Data);
    until("it is closed", || {
        assert_eq!(other.ask_one("PING"), "OK");
        server.descriptors() == baseline
    });
}

/// Forty stalled readers may owe more together than `buffer_memory` allows. The server lives within it, and
/// serves.
#[test]
fn buffers_of_all_connections_have_a_bound() {
    let mut server = Server::with("[server]\nbuffer_memory = '1MiB'\nwrite_stall = '600s'");
    server.fill(5000);
    let mut other = server.client();
    assert_eq!(other.ask_one("PING"), "OK");
    let before = server.anonymous_kib();
    let mut readers: Vec<Client> = (0..40).map(|_| Client::narrow(server.addr(0))).collect();
    for reader in &mut readers {
        reader.send("READ #\n".repeat(50));
    }
    let mut grown = 0;
    for number in 0..200 {
        assert_eq!(other.ask_one(&format!("SET after {number} good 7")), "OK");
        assert_eq!(other.ask_one("GET after"), format!("OK {number} good 7"));
        grown = grown.max(server.anonymous_kib().saturating_sub(before));
    }
    assert_eq!(server.client().ask_one("PING"), "OK", "a new connection is served as well");
    assert!(grown <= 1024 + SLACK_KIB, "{grown} KiB");
    assert!(server.is_running());
}

/// The same with input: a thousand long lines that were begun and are not continued.
#[test]
fn lines_begun_have_a_bound_as_well() {
    const CLIENTS: usize = 1000;
    let listener = "[[listen]]\nurl = 'line://127.0.0.1:0'\nmax_line = 16000\nframe_timeout = '600s'";
    let mut server = Server::with(&format!("[server]\nbuffer_memory = '1MiB'\n{listener}"));
    let mut other = server.client();
    assert_eq!(other.ask_one("PING"), "OK");
    let mut clients = server.clients(CLIENTS);
    for client in &mut clients {
        assert_eq!(client.ask_one("PING"), "OK");
    }
    let before = server.anonymous_kib();
    let begun = format!("PING {}", "x".repeat(15_000));
    let mut grown = 0;
    for client in &mut clients {
        // Whoever was closed as the largest debtor may see it here.
        let _ = client.stream().write_all(begun.as_bytes());
        assert_eq!(other.ask_one("PING"), "OK");
        grown = grown.max(server.anonymous_kib().saturating_sub(before));
    }
    assert_eq!(server.client().ask_one("PING"), "OK", "a new connection is served as well");
    assert!(grown <= 1024 + SLACK_KIB / 2, "{grown} KiB");
    assert!(server.is_running());
}

/// Input is not read while replies to it are owed: a peer that only ever sends is stopped by TCP itself.
#[test]
fn senders_that_do_not_read_are_held_back() {
    const ENOUGH: usize = 64 << 20;
    for scheme in ["line", "echo"] {
        let server = Server::build()
            .config("[server]\nwrite_stall = '600s'")
            .listen("line://127.0.0.1:0")
            .listen(&format!("{scheme}://127.0.0.1:0"))
            .start();
        let mut other = server.client();
        assert_eq!(other.ask_one("PING"), "OK");
        let before = server.anonymous_kib();
        let sender = Client::narrow(server.addr(1));
        sender
            .stream()
            .set_write_timeout(Some(Duration::from_millis(500)))
            .expect("a socket has a write timeout");
        let text = format!("PING {}\n", "x".repeat(250)).repeat(256);
        let mut sent = 0;
        while sent < ENOUGH {
            match sender.stream().write(text.as_bytes()) {
                Ok(count) => sent += count,
                Err(_) => break,
            }
        }
        assert!(sent < ENOUGH, "{scheme}: {sent} bytes were taken of one that does not read");
        assert_eq!(other.ask_one("PING"), "OK");
        let grown = server.anonymous_kib().saturating_sub(before);
        assert!(grown <= SLACK_KIB, "{scheme}: {grown} KiB");
    }
}

/// How many final lines these bytes are owed, by the section “Lines”.
fn requests_in(bytes: &[u8]) -> usize {
    const MAX_LINE: usize = 4096;
    let mut count = 0;
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let unfinished = lines.pop().unwrap_or_default();
    for line in lines {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > MAX_LINE {
            return count + 1;
        }
        count += usize::from(!line.iter().all(|byte| matches!(byte, b' ' | b'\t')));
    }
    count + usize::from(unfinished.len() > MAX_LINE)
}

/// Xorshift: the same seed, the same bytes.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.next() >> 24) as u8).collect()
    }

    /// Neither `QUIT`, after which the count would end, nor `HELLO`, by which connections could close one
    /// another.
    fn words(&mut self, count: usize) -> Vec<u8> {
        const WORDS: &[u8] = b"GET set SET READ SUB UNSUB LIST PING TIME AUTH HELP INFO a a/b # +/b a//b \
            $server/connections \
            1 -7 1.5 nan null true \"x y\" \"\\u00e9\" \" \\ good bad uncertain @ \xff \r \x01 x=y";
        const ENDS: [&[u8]; 8] = [b" ", b" ", b" ", b"\t", b"  ", b"\n", b"\r\n", b"\n\n"];
        let words: Vec<&[u8]> = WORDS.split(|byte| *byte == b' ').collect();
        let mut bytes = Vec::new();
        for _ in 0..count {
            bytes.extend_from_slice(words[(self.next() >> 24) as usize % words.len()]);
            bytes.extend_from_slice(ENDS[(self.next() >> 24) as usize % ENDS.len()]);
        }
        bytes
    }
}
