//! Descriptors and connections run out: nobody who is connected notices, and the server neither dies nor
//! spins.

use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, prlimit};

use crate::client::{Client, Peek};
use crate::server::{Server, until};

/// The limit falls while the server runs, so that `accept` itself fails: what no reckoning at its start
/// foresees.
#[test]
fn accepting_pauses_when_descriptors_run_out() {
    const SPARE: usize = 3;
    const MEASURED: Duration = Duration::from_millis(1500);
    let server = Server::start();
    let mut connected = server.clients(10);
    for client in &mut connected {
        assert_eq!(client.ask_one("PING"), "OK");
    }
    let limit = server.descriptors() + SPARE;
    let old = set_limit(&server, Some(limit as u64));
    let mut waiting = server.clients(20);
    for client in &mut waiting {
        client.send("PING\n");
    }
    until("the server has used the last descriptor", || server.descriptors() == limit);
    assert!(answered(&waiting) <= SPARE);

    // A loop that tries again and again would use all the time there is, or half of it on a busy machine.
    let lines = server.stderr().lines().count();
    let (ticks, start) = (server.cpu_ticks(), Instant::now());
    while start.elapsed() < MEASURED {
        for client in &mut connected {
            assert_eq!(client.ask_one("PING"), "OK");
        }
        assert_eq!(connected[0].peek(Duration::from_millis(50)), Peek::Quiet);
    }
    let used = server.cpu_ticks() - ticks;
    assert!(used <= 30, "{used} hundredths of a second of {:?}", start.elapsed());
    let said = server.stderr().lines().count() - lines;
    assert!(said <= 10, "{said} lines of log while nothing changes");

    // Each one that leaves makes room for one that waits.
    connected.truncate(5);
    until("as many are served as have left", || answered(&waiting) >= SPARE + 5);
    set_limit(&server, old.current);
    for client in &mut waiting {
        client.expect("OK");
    }
    for client in connected.iter_mut().chain(&mut waiting) {
        assert_eq!(client.ask_one("PING again"), "OK again");
    }
}

/// Under a limit that was there from the start, the server knows how many it can take and says so to the
/// rest.
#[test]
fn a_small_limit_is_told_and_kept() {
    let server = Server::build().ulimit("-n 80").start();
    let mut clients = server.clients(150);
    for client in &mut clients {
        client.send("PING\n");
    }
    let mut served = Vec::new();
    let mut refused = 0;
    for mut client in clients {
        let line = client.reply_line();
        if line == "OK" {
            served.push(client);
        } else {
            assert!(client.matches("ERR limit", &line), "{line}");
            client.expect_end();
            refused += 1;
        }
    }
    // 80 less a reserve of 32 and what the server holds open itself.
    assert!((20..=48).contains(&served.len()), "{} served, {refused} refused", served.len());
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

fn first_reply(server: &Server) -> String {
    let mut client = server.client();
    client.send("PING\n");
    client.reply_line()
}

fn answered(clients: &[Client]) -> usize {
    clients.iter().filter(|client| client.peek(Duration::from_millis(1)) == Peek::Data).count()
}

/// Change how many descriptors the running server may have; returns what it was.
fn set_limit(server: &Server, soft: Option<u64>) -> Rlimit {
    // Only the soft limit, which can be raised again.
    let now = rustix::process::getrlimit(Resource::Nofile);
    prlimit(Some(server.pid()), Resource::Nofile, Rlimit { current: soft, maximum: now.maximum })
        .expect("the limits of a child can be changed")
}
