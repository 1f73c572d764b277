//! Many devices, many requests, many tags; and readers that do not read.

use crate::client::{Client, Peek};
use crate::server::{DEADLINE, Server};

/// What a connection may owe before production stops for it.
const MARK_KIB: u64 = 64;
/// For the allocator's own ways, and for what a turn needs besides.
const SLACK_KIB: u64 = 8 * 1024;
/// Stalled readers of these tests are stalled for longer than `write_stall` allows by default.
const PATIENT: &str = "[server]\nwrite_stall = '600s'";

#[test]
fn two_thousand_devices_with_four_requests_in_flight_each() {
    const DEVICES: usize = 2000;
    const ROUNDS: usize = 3;
    let server = Server::start();
    let mut devices = server.clients(DEVICES);
    for round in 0..ROUNDS {
        for (number, device) in devices.iter_mut().enumerate() {
            device.send(format!(
                "SET dev/{number:04} {round} good {number}\nGET dev/{number:04}\nPING {number} {round}\n\
                 READ dev/{number:04}\n"
            ));
        }
        for (number, device) in devices.iter_mut().enumerate() {
            let sample = format!("{round} good {number}");
            assert_eq!(device.reply(), ["OK"], "device {number}");
            assert_eq!(device.reply(), [format!("OK {sample}")], "device {number}");
            assert_eq!(device.reply(), [format!("OK {number} {round}")], "device {number}");
            assert_eq!(
                device.reply(),
                [format!("VAL dev/{number:04} {sample}"), "OK 1".to_owned()],
                "device {number}"
            );
        }
    }
    // Nobody has gone, and nothing was written to another's tag.
    let all = devices[0].ask("READ #");
    let mut expected: Vec<_> =
        (0..DEVICES).map(|number| format!("VAL dev/{number:04} {} good {number}", ROUNDS - 1)).collect();
    expected.push(format!("OK {DEVICES}"));
    assert!(all == expected, "{} lines", all.len());
    devices[0].send("GET $server/connections\n");
    devices[0].expect(&format!("OK {DEVICES} good @"));
}

#[test]
fn ten_thousand_pipelined_lines() {
    const LINES: usize = 10_000;
    let server = Server::start();
    let mut client = server.client();
    let request = |number: usize| match number % 4 {
        0 => (format!("SET pipe {number} good {number}"), "OK".to_owned()),
        1 => ("GET pipe".to_owned(), format!("OK {} good {}", number - 1, number - 1)),
        2 => (format!("PING {number}"), format!("OK {number}")),
        _ => (format!("GET none/{number}"), "ERR not-found".to_owned()),
    };
    let bytes: String = (0..LINES).map(|number| request(number).0 + "\n").collect();
    let sender = client.send_aside(bytes.into_bytes());
    for number in 0..LINES {
        client.expect(&request(number).1);
    }
    sender.join().expect("the sender got through");
    assert_eq!(client.ask_one("PING end"), "OK end");
}

/// Fifty times some six megabytes are asked for, and nobody reads. The server may owe no more than its mark
/// to each.
#[test]
fn readers_of_everything_that_do_not_read() {
    const TAGS: usize = 100_000;
    const READERS: usize = 50;
    let server = Server::with(&format!("{PATIENT}\nmax_tags = 200_000"));
    let mut other = server.client();
    let name = |number: usize| format!("plant/production-hall/machine/sensor-{number:06}");
    other.ok_all((0..TAGS).map(|number| format!("SET {} {number} good {number}", name(number))));
    let mut whole: String =
        (0..TAGS).map(|number| format!("VAL {} {number} good {number}\n", name(number))).collect();
    whole += &format!("OK {TAGS}\n");

    let before = server.anonymous_kib();
    let mut readers: Vec<Client> = (0..READERS).map(|_| Client::narrow(server.addr(0))).collect();
    for reader in &mut readers {
        reader.send("READ #\n");
    }
    for reader in &readers {
        assert_eq!(reader.peek(DEADLINE), Peek::Data, "the reply begins");
    }
    let mut grown = 0;
    for number in 0..200 {
        assert_eq!(other.ask_one(&format!("PING {number}")), format!("OK {number}"));
        assert_eq!(other.ask(&format!("READ {}", name(number))).len(), 2);
        grown = grown.max(server.anonymous_kib().saturating_sub(before));
    }
    let bound = READERS as u64 * MARK_KIB + SLACK_KIB;
    assert!(grown <= bound, "{grown} KiB for {READERS} readers; the bound is {bound} KiB");

    // Each line was current when written, and nothing has been written since: all get the same bytes.
    let mut chunk = vec![0; 64 * 1024];
    for (number, reader) in readers.iter_mut().enumerate() {
        for expected in whole.as_bytes().chunks(chunk.len()) {
            let got = &mut chunk[..expected.len()];
            reader.read_exact(got);
            assert!(
                got == expected,
                "reader {number}: {}",
                String::from_utf8_lossy(&got[..200.min(got.len())])
            );
        }
        assert_eq!(reader.ask_one("PING"), "OK");
    }
}

/// Twenty-five megabytes of updates are due to each, and nobody reads. What the server owes is bounded by the
/// tags; who reads again gets the newest sample of each, and never an older one after a newer.
#[test]
fn subscribers_that_do_not_read() {
    const TAGS: usize = 10_000;
    const SUBSCRIBERS: usize = 4;
    const ROUNDS: usize = 20;
    let server = Server::with(PATIENT);
    let (mut writer, mut other) = (server.client(), server.client());
    let padding = "x".repeat(100);
    let sets = |round: usize| {
        let padding = &padding;
        (0..TAGS).map(move |tag| format!("SET tag/{tag} \"{padding}{round}\" good {round}"))
    };
    writer.ok_all(sets(0));
    let mut subscribers: Vec<Client> = (0..SUBSCRIBERS).map(|_| Client::narrow(server.addr(0))).collect();
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.ask("SUB #").len(), TAGS + 1);
    }

    let before = server.anonymous_kib();
    let mut grown = 0;
    for round in 1..=ROUNDS {
        writer.ok_all(sets(round));
        assert_eq!(other.ask_one(&format!("PING {round}")), format!("OK {round}"));
        grown = grown.max(server.anonymous_kib().saturating_sub(before));
    }
    let bound = SUBSCRIBERS as u64 * MARK_KIB + SLACK_KIB;
    assert!(grown <= bound, "{grown} KiB for {SUBSCRIBERS} subscribers; the bound is {bound} KiB");

    for subscriber in &mut subscribers {
        let mut rounds = vec![0; TAGS];
        let mut behind = TAGS;
        while behind > 0 {
            let line = subscriber.update();
            let (tag, round) = tag_and_round(&line);
            assert!(
                line.contains(&format!("x{round}\" good")),
                "value and time of different samples: {line}"
            );
            assert!(round > rounds[tag], "round {round} of tag {tag} after round {}", rounds[tag]);
            rounds[tag] = round;
            behind -= usize::from(round == ROUNDS);
        }
        for _ in 0..2 {
            subscriber.ask_one("PING");
        }
        assert!(
            subscriber.updates_left().is_empty(),
            "more after the newest: {:?}",
            subscriber.updates_left()
        );
    }
}

/// A reply of many slices, while changes for the same connection come in without a pause: none of them may
/// get between its lines (the client checks that), and none may be lost for having waited.
#[test]
fn updates_wait_for_the_end_of_a_long_reply() {
    const TAGS: usize = 10_000;
    const READS: usize = 10;
    const HOT: usize = 10;
    const WRITES: usize = 20_000;
    let server = Server::start();
    server.fill(TAGS);
    let (mut reader, mut writer) = (server.client(), server.client());
    assert_eq!(reader.ask_one("SUB hot/+"), "OK 0");
    reader.send("READ plant/#\n".repeat(READS));
    let writes: String = (1..=WRITES).map(|n| format!("SET hot/{} {n} good {n}\n", n % HOT)).collect();
    let sender = writer.send_aside(writes.into_bytes());
    for _ in 0..READS {
        assert_eq!(reader.reply().len(), TAGS + 1);
    }
    for _ in 0..WRITES {
        assert_eq!(writer.reply_line(), "OK");
    }
    sender.join().expect("the sender got through");
    let mut newest = [0; HOT];
    while newest.iter().sum::<usize>() < (WRITES - HOT + 1..=WRITES).sum() {
        let line = reader.update();
        let value: usize = line.rsplit(' ').next().and_then(|time| time.parse().ok()).expect("a time");
        assert_eq!(line, format!("UPD hot/{} {value} good {value}", value % HOT));
        assert!(value > newest[value % HOT], "{line} after {}", newest[value % HOT]);
        newest[value % HOT] = value;
    }
}

/// Many clients, each with its own tags and with everybody's: what is confirmed is never lost.
#[test]
fn writers_side_by_side() {
    const WRITERS: usize = 20;
    const WRITES: usize = 200;
    let server = Server::start();
    let mut reader = server.client();
    assert_eq!(reader.ask_one("SUB #"), "OK 0");
    std::thread::scope(|scope| {
        for number in 0..WRITERS {
            let mut client = server.client();
            scope.spawn(move || {
                for write in 0..WRITES {
                    assert_eq!(client.ask_one(&format!("SET own/{number} {write}")), "OK");
                    assert_eq!(client.ask_one(&format!("SET shared {number}")), "OK");
                    let got = client.ask_one(&format!("GET own/{number}"));
                    assert!(client.matches(&format!("OK {write} good @"), &got), "{got}");
                }
            });
        }
    });
    let all = reader.ask("READ own/+");
    assert_eq!(all.len(), WRITERS + 1);
    for line in &all[..WRITERS] {
        assert!(reader.matches(&format!("VAL * {} good @", WRITES - 1), line), "{line}");
    }
    // The subscriber has heard of the last state of each as well.
    for number in 0..WRITERS {
        let last = format!("UPD own/{number} {} good @", WRITES - 1);
        let mut update = reader.update_of(&format!("own/{number}"));
        while !reader.matches(&last, &update) {
            update = reader.update_of(&format!("own/{number}"));
        }
    }
}

/// `UPD tag/17 "…" good 3` → (17, 3).
fn tag_and_round(line: &str) -> (usize, usize) {
    let tag = line.split(' ').nth(1).and_then(|tag| tag.strip_prefix("tag/")?.parse().ok());
    let round = line.rsplit(' ').next().and_then(|time| time.parse().ok());
    tag.zip(round).unwrap_or_else(|| panic!("{line}"))
}
