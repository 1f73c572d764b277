//! A server of several shards: connections are dealt out, and no peer can tell on which shard it is.

use std::num::NonZero;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::client::{Client, Peek};
use crate::server::{DEADLINE, Folder, Server, run, until};
use crate::shutdown::stalled_reader;
use crate::slave::{Framing, Slave};

const SHARDS: &str = "[server]\nshards = 4\n";

fn number(client: &mut Client, tag: &str) -> usize {
    let reply = client.ask_one(&format!("GET {tag}"));
    reply.split(' ').nth(1).and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{tag}: {reply}"))
}

/// The busiest shard has at most 1.2 times the average.
#[track_caller]
fn check_balance(client: &mut Client, connections: usize) {
    until("all connections are counted", || number(client, "$server/connections") == connections);
    let (shards, busiest) = (number(client, "$server/shards"), number(client, "$server/busiest_connections"));
    assert!(5 * busiest * shards <= 6 * connections, "{busiest} of {connections}, {shards} shards");
}

#[test]
fn connections_are_dealt_to_the_least_loaded_shard() {
    let server = Server::with(SHARDS);
    let mut client = server.client();
    let mut others = server.clients(99);
    others.iter_mut().for_each(|other| assert_eq!(other.ask_one("PING"), "OK"));
    check_balance(&mut client, 100);
    // Those that stay are on fewer shards than there are.
    let mut number = 0;
    others.retain(|_| {
        number += 1;
        number % 2 == 0
    });
    let left = others.len() + 1;
    until("half of them are gone", || {
        client.ask_one("GET $server/connections").starts_with(&format!("OK {left} "))
    });
    others.extend(server.clients(200));
    others.iter_mut().for_each(|other| assert_eq!(other.ask_one("PING"), "OK"));
    check_balance(&mut client, left + 200);
}

#[test]
fn everybody_sees_what_anybody_writes() {
    const PEERS: usize = 8;
    const ROUNDS: usize = 50;
    let server = Server::with(SHARDS);
    let mut peers = server.clients(PEERS);
    for peer in &mut peers {
        assert_eq!(peer.ask_one("SUB t/#"), "OK 0");
    }
    for round in 0..ROUNDS {
        for writer in 0..PEERS {
            assert_eq!(peers[writer].ask_one(&format!("SET t/{writer} {round} good {round}")), "OK");
            // What was confirmed is there, wherever it is read.
            let reader = (writer + round) % PEERS;
            let read = peers[reader].ask_one(&format!("GET t/{writer}"));
            assert_eq!(read, format!("OK {round} good {round}"));
            for peer in &mut peers {
                peer.expect_update(&format!("UPD t/{writer} {round} good {round}"));
            }
        }
    }
    for peer in &mut peers {
        assert_eq!(peer.ask_one("PING"), "OK");
        assert!(peer.updates_left().is_empty(), "{:?}", peer.updates_left());
    }
}

/// A slave whose holding register 10 is what was last written to it, and all that was written.
fn slave_of_one_register() -> (Slave, mpsc::Receiver<u16>) {
    let (written, all_written) = mpsc::channel();
    let mut register = 0;
    let slave = Slave::with(Framing::Tcp, move |request| match request.pdu[..] {
        [3, 0, 10, 0, 1] => {
            let [high, low] = u16::to_be_bytes(register);
            Some(request.answer(&[3, 2, high, low]))
        }
        [6, 0, 10, high, low] => {
            register = u16::from_be_bytes([high, low]);
            written.send(register).expect("the test lives longer than its slaves");
            Some(request.answer(&request.pdu))
        }
        // No such address, or no such function.
        [function, ..] => Some(request.answer(&[function | 0x80, 2])),
        [] => None,
    });
    (slave, all_written)
}

#[test]
fn writes_reach_devices_of_any_shard_and_come_back() {
    const ROUNDS: usize = 10;
    let (slaves, written): (Vec<Slave>, Vec<_>) = (0..4).map(|_| slave_of_one_register()).unzip();
    let mut configuration = SHARDS.to_owned();
    for (number, slave) in slaves.iter().enumerate() {
        configuration += &format!(
            "[[device]]
            name = 'm{number}'
            url = '{}'
            rate = '50ms'
            timeout = '30s'
            [[device.tag]]
            name = 'a'
            address = 'holding:10'
            type = 'u16'
            access = 'rw'
            ",
            slave.url()
        );
    }
    let server = Server::with(&configuration);
    let mut clients = server.clients(6);
    for device in 0..slaves.len() {
        until("it is online", || {
            clients[0].ask_one(&format!("GET $device/m{device}/state")).starts_with("OK \"online\" ")
        });
    }
    for round in 1..=ROUNDS {
        for (place, client) in clients.iter_mut().enumerate() {
            let value = 100 * round + place;
            // Several at once, of which each is settled once and in order.
            let devices = 0..slaves.len();
            client
                .send(devices.clone().map(|device| format!("SET m{device}/a {value}\n")).collect::<String>());
            devices.for_each(|_| client.expect("OK"));
        }
    }
    let last = 100 * ROUNDS + clients.len() - 1;
    for client in &mut clients {
        for device in 0..slaves.len() {
            until("what was written last is read back", || {
                client.ask_one(&format!("GET m{device}/a")).starts_with(&format!("OK {last} good "))
            });
        }
    }
    // Each device got each write once, in the order in which they were confirmed.
    let all: Vec<usize> =
        (1..=ROUNDS).flat_map(|round| (0..clients.len()).map(move |place| 100 * round + place)).collect();
    for (device, written) in written.into_iter().enumerate() {
        assert_eq!(written.try_iter().map(usize::from).collect::<Vec<_>>(), all, "m{device}");
    }
    drop(slaves);
    for client in &mut clients {
        until("it is known to be gone", || {
            let reply = client.ask_one("SET m1/a 1");
            assert!(reply.starts_with("ERR offline ") || reply.starts_with("ERR timeout "), "{reply}");
            reply.starts_with("ERR offline ")
        });
    }
}

#[test]
fn a_device_takes_over_from_its_connection_on_another_shard() {
    let server = Server::with(SHARDS);
    let mut watcher = server.client();
    let mut before: Option<Client> = None;
    for round in 0..8 {
        let mut device = server.client();
        assert_eq!(device.ask_one("HELLO press3"), "OK lumina 1");
        assert_eq!(device.ask_one(&format!("SET a {round} good 7")), "OK");
        if let Some(mut before) = before.replace(device) {
            before.expect_end();
        }
        assert_eq!(watcher.ask_one("GET a"), format!("OK {round} good 7"), "the old one's end is no doubt");
    }
    drop(before);
    until("it is gone", || watcher.ask_one("GET a") == "OK 7 uncertain 7");
}

#[test]
fn frames_are_told_wherever_they_are_followed() {
    let server = Server::with(SHARDS);
    let mut device = server.client();
    assert_eq!(device.ask_one("HELLO press3"), "OK lumina 1");
    let mut followers = server.clients(4);
    for follower in &mut followers {
        follower.send("TRACE press3\n");
        follower.expect("OK");
    }
    assert_eq!(device.ask_one("PING 7"), "OK 7");
    for follower in &mut followers {
        until("the reply is told", || follower.next_line().ends_with(" out 4f4b20370a"));
    }
}

#[test]
fn all_shards_stop() {
    let slave = Slave::with(Framing::Tcp, |_| Some(Vec::new()));
    let server_with = format!(
        "{SHARDS}[[device]]
        name = 'm'
        url = '{}'
        timeout = '20s'
        [[device.tag]]
        name = 'a'
        address = 'coil:0'
        access = 'rw'
        ",
        slave.url()
    );
    let mut server = Server::with(&server_with);
    let mut clients = server.clients(8);
    until("the device is asked", || slave.requests() > 0);
    for client in &mut clients {
        // In one write, and so in one read: once the first is answered, the second is under way.
        client.send("PING\nSET m/a true\n");
        client.expect("OK");
    }
    server.signal(Signal::TERM);
    for client in &mut clients {
        // The device will never answer: whoever waits for it is told so, once.
        let last = client.read_to_end();
        let [line] = &last[..] else { panic!("not one line: {last:?}") };
        assert!(line.starts_with("ERR offline ") || line.starts_with("ERR timeout "), "{line}");
    }
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn an_idle_server_of_several_shards_sleeps() {
    let server = Server::with(SHARDS);
    let mut clients = server.clients(8);
    for client in &mut clients {
        assert_eq!(client.ask_one("SUB #"), "OK 0");
    }
    until("a second passes without a wake-up", || {
        let before = server.wake_ups();
        assert_eq!(clients[0].peek(Duration::from_millis(1100)), Peek::Quiet);
        server.wake_ups() == before
    });
}

#[test]
fn how_many_shards_there_may_be() {
    let folder = Folder::new();
    for wrong in ["0", "65", "-1", "1.5", "'two'", "true"] {
        let file = folder.write("lumina.toml", &format!("[server]\nshards = {wrong}\n"));
        let outcome = run(&folder, &["check", "--config", &file.display().to_string()]);
        assert_eq!(outcome.code, Some(2), "{wrong}");
        assert!(outcome.stderr.contains("expected a number from 1 to 64, or auto"), "{}", outcome.stderr);
    }
    for wrong in ["0", "65", "two"] {
        let outcome = run(&folder, &["serve", "--listen", "line://127.0.0.1:0", "--shards", wrong]);
        assert_eq!(outcome.code, Some(2), "{wrong}");
        assert!(outcome.stderr.contains("expected a number from 1 to 64, or auto"), "{}", outcome.stderr);
    }
    for right in ["1", "64", "'auto'"] {
        let file = folder.write("lumina.toml", &format!("[server]\nshards = {right}\n"));
        assert_eq!(
            run(&folder, &["check", "--config", &file.display().to_string()]).code,
            Some(0),
            "{right}"
        );
    }
    let server = Server::with("[server]\nshards = 'auto'");
    // The command line, on which LUMINA_SHARDS is passed, comes before the file.
    let overridden = std::env::var("LUMINA_SHARDS").ok().and_then(|shards| shards.parse().ok());
    let cores = thread::available_parallelism().map_or(1, NonZero::get).min(64);
    assert_eq!(number(&mut server.client(), "$server/shards"), overridden.unwrap_or(cores));
}

#[test]
fn each_shard_says_of_itself_whom_it_cut() {
    let mut server = Server::with("[server]\nshards = 2\nshutdown_grace = '300ms'\nwrite_stall = '600s'");
    let _stalled = stalled_reader(&server);
    let mut others: [Client; 3] = std::array::from_fn(|_| Client::narrow(server.addr(0)));
    for other in &mut others {
        other.send("READ #\n".repeat(20));
        assert_eq!(other.peek(DEADLINE), Peek::Data);
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    let log = server.stderr();
    for number in 0..2 {
        let line = format!(" connections of shard {number} were cut at the end of shutdown_grace");
        assert!(log.contains(&line), "no {line:?} in {log}");
    }
}
