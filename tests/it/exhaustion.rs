//! Descriptors and connections run out: nobody who is connected notices, and the server neither dies nor
//! spins.

use std::io::Write;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, prlimit};

use crate::client::{Client, Peek};
use crate::server::{DEADLINE, Server, until};

/// The limit falls while the server runs, so that `accept` itself fails: what no reckoning at its start
/// foresees.
#[test]
fn accepting_pauses_when_descriptors_run_out() {
    const SPARE: usize = 3;
    /// Twice as long as until the next attempt to accept.
    const MEASURED: Duration = Duration::from_millis(2500);
    let server = Server::start();
    let mut connected = server.clients(10);
    for client in &mut connected {
        assert_eq!(client.ask_one("PING"), "OK");
    }
    let used = server.descriptor_numbers();
    let limit = (0..).filter(|number| !used.contains(number)).nth(SPARE).expect("numbers do not end");
    let old = limit_descriptors(&server, Some(limit));
    let mut waiting = server.clients(20);
    for client in &mut waiting {
        client.send("PING\n");
    }
    until("the server has used the last descriptor", || server.descriptors() == used.len() + SPARE);

    // A loop that tries again and again would use all the time there is, or half of it on a busy machine.
    let lines = server.stderr().lines().count();
    let (ticks, start) = (server.cpu_ticks(), Instant::now());
    while start.elapsed() < MEASURED {
        for client in &mut connected {
            assert_eq!(client.ask_one("PING"), "OK");
        }
        assert_eq!(connected[0].peek(Duration::from_millis(50)), Peek::Quiet);
    }
    let spent = server.cpu_ticks() - ticks;
    assert!(spent <= 50, "{spent} hundredths of a second of {:?}", start.elapsed());
    assert_eq!(answered(&waiting), SPARE);
    let said = server.stderr().lines().count() - lines;
    assert!(said <= 1, "{said} lines of log while nothing changes:\n{}", server.stderr());

    // Each one that leaves makes room for one that waits.
    connected.truncate(5);
    until("as many are served as have left", || answered(&waiting) == SPARE + 5);
    limit_descriptors(&server, old.current);
    for client in &mut waiting {
        client.expect("OK");
    }
    for client in connected.iter_mut().chain(&mut waiting) {
        assert_eq!(client.ask_one("PING again"), "OK again");
    }
}

/// Under a limit that was there from the start, the server knows how many it can take and says so to the
/// rest. In a storm some are closed without a word: to tell them takes a descriptor, and of these there are
/// few.
#[test]
fn a_small_limit_is_told_and_kept() {
    let server = Server::build().ulimit("-n 80").start();
    let mut clients = server.clients(150);
    for client in &mut clients {
        // Those that were closed already may see it here.
        let _ = client.stream().write_all(b"PING\n");
    }
    let mut served = Vec::new();
    let mut told = 0;
    for mut client in clients {
        if client.peek(DEADLINE) != Peek::Data {
            continue;
        }
        let line = client.reply_line();
        if line == "OK" {
            served.push(client);
        } else {
            assert!(client.matches("ERR limit", &line), "{line}");
            told += 1;
        }
    }
    // 80 less a reserve of 32 and what the server holds open itself.
    assert!((20..=48).contains(&served.len()), "{} served, {told} told", served.len());
    assert!(told > 0, "{} served", served.len());
    for client in &mut served {
        assert_eq!(client.ask_one("PING"), "OK");
    }
    drop(served);
    until("a new one is served", || first_reply(&server) == "OK");
}

#[test]
fn the_soft_limit_is_raised_to_the_hard_one() {
    let server = Server::build().ulimit("-Sn 40").start();
    let mut clients = server.clients(200);
    for client in &mut clients {
        assert_eq!(client.ask_one("PING"), "OK");
    }
}

#[test]
fn max_connections() {
    let server = Server::with("[server]\nmax_connections = 5");
    let mut connected = server.clients(5);
    for client in &mut connected {
        assert_eq!(client.ask_one("PING"), "OK");
    }
    for _ in 0..20 {
        let mut refused = server.client();
        refused.expect("ERR limit");
        refused.expect_end();
    }
    // Also one that has already sent something: it hears why, not a reset.
    let mut refused = server.client();
    refused.send("SET refused 1\n");
    refused.expect("ERR limit");
    refused.expect_end();
    for client in &mut connected {
        client.send("GET refused\n");
        client.expect("ERR not-found");
    }
    connected.pop();
    until("the place is free again", || first_reply(&server) == "OK");
}

/// What a new connection hears; nothing if it is closed without a word.
fn first_reply(server: &Server) -> String {
    let mut client = server.client();
    // If it was closed already, this may be where it shows.
    let _ = client.stream().write_all(b"PING\n");
    if client.peek(DEADLINE) == Peek::Data { client.reply_line() } else { String::new() }
}

fn answered(clients: &[Client]) -> usize {
    clients.iter().filter(|client| client.peek(Duration::from_millis(1)) == Peek::Data).count()
}

/// Change how many descriptors the running server may have; returns what it was.
pub fn limit_descriptors(server: &Server, soft: Option<u64>) -> Rlimit {
    // Only the soft limit, which can be raised again.
    let now = rustix::process::getrlimit(Resource::Nofile);
    prlimit(Some(server.pid()), Resource::Nofile, Rlimit { current: soft, maximum: now.maximum })
        .expect("the limits of a child can be changed")
}
