//! How the server ends, what it does without stderr, and that it sleeps when there is nothing to do.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::client::{Client, Peek};
use crate::server::{DEADLINE, Server, Stderr, until};

#[test]
fn sigterm_and_sigint_end_it_well() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::start();
        let mut clients = server.clients(3);
        for client in &mut clients {
            assert_eq!(client.ask_one("PING"), "OK");
        }
        clients[2].send("PING half a li");
        server.signal(signal);
        for client in &mut clients {
            client.expect_end();
        }
        assert_eq!(server.wait_for_exit().code(), Some(0), "{signal:?}");
    }
}

#[test]
fn it_also_ends_when_nobody_ever_came() {
    let mut server = Server::build().listen("line://127.0.0.1:0").listen("echo://127.0.0.1:0").start();
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

/// Every client sees complete replies, in order, and then the end: no reset, no part of a line.
#[test]
fn sigterm_under_load() {
    const CLIENTS: usize = 20;
    const BATCH: usize = 200;
    let mut server = Server::start();
    let mut first = server.client();
    let answered: Vec<usize> = thread::scope(|scope| {
        let threads: Vec<_> = server
            .clients(CLIENTS)
            .into_iter()
            .map(|mut client| {
                scope.spawn(move || {
                    for batch in 0.. {
                        let from = batch * BATCH;
                        for number in from..from + BATCH {
                            // Each in a write of its own: one after a reset would get through, the next not.
                            client.send(format!("PING {number}\n"));
                        }
                        for number in from..from + BATCH {
                            match client.reply_or_end() {
                                Some(line) => assert_eq!(line, format!("OK {number}")),
                                None => return number,
                            }
                        }
                    }
                    unreachable!("a thread that ran out of numbers")
                })
            })
            .collect();
        until("there is load", || requests(&mut first) > CLIENTS * BATCH * 3);
        server.signal(Signal::TERM);
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a client saw only whole replies and the end"))
            .collect()
    });
    assert!(answered.iter().sum::<usize>() >= CLIENTS * BATCH, "{answered:?}");
    first.expect_end();
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

/// More than a turn's worth of requests is there when the signal comes. What is not read any more must not
/// turn the end into a reset.
#[test]
fn sigterm_with_requests_waiting() {
    const CLIENTS: usize = 20;
    const REQUESTS: usize = 20_000;
    let mut server = Server::start();
    let mut clients = server.clients(CLIENTS);
    for client in &mut clients {
        assert_eq!(client.ask_one("PING"), "OK");
    }
    server.freeze();
    for client in &mut clients {
        client.send((0..REQUESTS).map(|number| format!("PING {number}\n")).collect::<String>());
    }
    server.signal(Signal::TERM);
    server.signal(Signal::CONT);
    for client in &mut clients {
        for (number, line) in client.read_to_end().into_iter().enumerate() {
            assert_eq!(line, format!("OK {number}"));
        }
    }
    drop(clients);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

/// What has been read is answered, however long the reply, as long as it is taken.
#[test]
fn a_long_reply_is_finished_before_the_end() {
    const TAGS: usize = 20_000;
    const READS: usize = 10;
    let mut server = Server::with("[server]\nshutdown_grace = '600s'");
    server.fill(TAGS);
    let mut reader = Client::narrow(server.addr(0));
    reader.send("READ #\n".repeat(READS));
    assert_eq!(reader.peek(DEADLINE), Peek::Data);
    server.signal(Signal::TERM);
    until_it_refuses(&server);
    assert!(server.is_running(), "it left a reader in the middle of a reply");
    let lines = reader.read_to_end();
    let whole = lines.iter().filter(|line| **line == format!("OK {TAGS}")).count();
    // They came in one segment, so they were read together.
    assert_eq!(whole, READS, "{} lines", lines.len());
    assert_eq!(lines.len(), whole * (TAGS + 1));
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut server = Server::with("[server]\nshutdown_grace = '600s'\nwrite_stall = '600s'");
    let _stalled = stalled_reader(&server);
    server.signal(Signal::TERM);
    until_it_refuses(&server);
    assert!(server.is_running(), "bytes are owed, and the grace is long");
    server.signal(Signal::TERM);
    server.wait_for_exit();
}

#[test]
fn the_grace_has_an_end() {
    let mut server = Server::with("[server]\nshutdown_grace = '300ms'\nwrite_stall = '600s'");
    let _stalled = stalled_reader(&server);
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn stderr_can_be_gone_or_full() {
    for stderr in [Stderr::Closed, Stderr::Full] {
        let server = Server::build().log("trace").stderr(stderr).start();
        for _ in 0..100 {
            make_noise(&server);
        }
        serves_and_stops(server);
    }
}

fn serves_and_stops(mut server: Server) {
    assert_eq!(server.client().ask_one("PING"), "OK");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

/// A pipe holds 64 KiB. Whoever writes to it after that waits for ever, unless it looks first.
#[test]
fn stderr_can_be_stalled() {
    /// The kernel calls a pipe writable while a page of it is free.
    const NEARLY_FULL: u64 = 56 * 1024;
    let server = Server::build().log("trace").stderr(Stderr::Stalled).start();
    until("the pipe is full", || {
        make_noise(&server);
        server.stalled_bytes() >= NEARLY_FULL
    });
    for _ in 0..100 {
        make_noise(&server);
    }
    serves_and_stops(server);
}

#[test]
fn an_idle_server_sleeps() {
    let server = Server::start();
    let mut clients = server.clients(20);
    assert_eq!(clients[0].ask_one("HELLO idle"), "OK lumina 1");
    for client in &mut clients {
        assert_eq!(client.ask_one("SET idle 1 good 7"), "OK");
        client.ask("SUB idle");
    }
    // What the requests left to do may take a little; a tick that never ends shows in every second.
    until("a second passes without a wake-up", || {
        let before = server.wake_ups();
        assert_eq!(clients[0].peek(Duration::from_millis(1100)), Peek::Quiet);
        server.wake_ups() == before
    });
}

/// A connection that comes, says something wrong, and goes.
fn make_noise(server: &Server) {
    let mut client = server.client();
    client.send("NOISE\n\u{1}\u{2}\u{3}\nGET a//b\n");
    for code in ["bad-request", "bad-request", "bad-name"] {
        client.expect(&format!("ERR {code}"));
    }
}

/// A reader to whom bytes are owed that the kernel does not take.
pub fn stalled_reader(server: &Server) -> Client {
    const TAGS: usize = 20_000;
    server.fill(TAGS);
    let mut stalled = Client::narrow(server.addr(0));
    stalled.send("READ #\n".repeat(20));
    assert_eq!(stalled.peek(DEADLINE), Peek::Data);
    stalled
}

/// The first sign of a signal that was taken: nobody is accepted any more.
fn until_it_refuses(server: &Server) {
    until("it stops accepting", || TcpStream::connect(server.addr(0)).is_err());
}

fn requests(client: &mut Client) -> usize {
    let info = client.ask("INFO");
    let line = info.iter().find_map(|line| line.strip_prefix("INFO requests "));
    line.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{info:?}"))
}
