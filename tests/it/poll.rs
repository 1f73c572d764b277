//! Polling: real slaves on loopback that die and return, answer late, wrongly or not at all.

use std::sync::mpsc;

use rustix::process::Signal;

use crate::client::Client;
use crate::server::{DEADLINE, Folder, Server, run, until};
use crate::slave::{Framing, Request, Slave, rtu};

/// What no slave's register holds: it must never be seen.
const WRONG: u16 = 0xBAD;

/// However long a slave of the test is held up, it is not silent.
const PATIENT: &str = "timeout = '30s'";
/// Where a slave is silent, or says what is no answer.
const IMPATIENT: &str = "timeout = '1s'";

/// A device with the writable register 10 and register 11, polled often, and with patience.
fn device(name: &str, slave: &Slave, keys: &str) -> String {
    format!(
        "
        [[device]]
        name = '{name}'
        url = '{}'
        rate = '30ms'
        {PATIENT}
        stale_after = '1h'
        {keys}
        [[device.tag]]
        name = 'a'
        address = 'holding:10'
        type = 'u16'
        access = 'rw'
        [[device.tag]]
        name = 'b'
        address = 'holding:11'
        type = 'u16'
        ",
        slave.url()
    )
}

/// The same, which soon takes one that does not answer for silent.
fn impatient(name: &str, slave: &Slave, keys: &str) -> String {
    device(name, slave, keys).replace(PATIENT, IMPATIENT)
}

/// Wait until a tag reads so: value and quality.
#[track_caller]
fn until_reads(client: &mut Client, tag: &str, sample: &str) {
    let begin = format!("OK {sample} ");
    until(&format!("{tag} is {sample}"), || client.ask_one(&format!("GET {tag}")).starts_with(&begin));
}

/// One of the figures of a device, as a number.
fn count(client: &mut Client, device: &str, name: &str) -> u64 {
    let reply = client.ask_one(&format!("GET $device/{device}/{name}"));
    reply.split(' ').nth(1).and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{name}: {reply}"))
}

fn orderly(request: &Request) -> Option<Vec<u8>> {
    Some(request.answer(&request.orderly(0)))
}

fn silent(_: &Request) -> Option<Vec<u8>> {
    Some(Vec::new())
}

#[test]
fn slaves_of_all_framings_are_polled() {
    for framing in [Framing::Tcp, Framing::Udp, Framing::Rtu] {
        let slave = Slave::with(framing, move |request| {
            let pdu = request.orderly(100);
            Some(if framing == Framing::Rtu { rtu(request.unit, &pdu) } else { request.answer(&pdu) })
        });
        let server = Server::with(&device("m", &slave, "unit = 7"));
        let mut client = server.client();
        until_reads(&mut client, "m/a", "110 good");
        until_reads(&mut client, "m/b", "111 good");
        assert_eq!(client.ask("LIST m/a")[0], "TAG m/a int rw m");
    }
}

#[test]
fn the_figures_of_a_device_are_tags() {
    let slave = Slave::start(0);
    let server = Server::with(&device("m", &slave, ""));
    let mut client = server.client();
    until_reads(&mut client, "m/a", "10 good");
    until_reads(&mut client, "$device/m/state", "\"online\" good");
    until_reads(&mut client, "$device/m/reason/a", "\"\" good");
    until("polls are counted", || count(&mut client, "m", "requests") >= 5);
    for (name, value) in [("reconnects", 0), ("exceptions", 0), ("mismatched", 0), ("quarantined", 0)] {
        assert_eq!(count(&mut client, "m", name), value, "{name}");
    }
    assert!(client.ask_one("SET $device/m/state \"online\"").starts_with("ERR read-only "));
    // They are subscribed to like any other tag.
    assert!(client.ask("SUB $device/m/state")[0].starts_with("VAL $device/m/state \"online\" good "));
    slave.does(|_| None);
    client.expect_update("UPD $device/m/state \"offline\" good @");
}

/// As on a gateway whose network is not up yet: connecting fails at once, before there is a socket.
#[test]
fn a_device_to_which_there_is_no_route() {
    let slave = Slave::start(0);
    let unreachable = device("m", &slave, "").replace(&slave.url(), "modbus://255.255.255.255:502");
    let server = Server::with(&(unreachable + &device("n", &slave, "")));
    let mut client = server.client();
    until_reads(&mut client, "$device/m/state", "\"offline\" good");
    until_reads(&mut client, "n/a", "10 good");
    assert!(client.ask_one("GET m/a").contains(" bad "));
}

/// A device's URL, with the host by its name.
fn named(url: &str) -> String {
    url.replace("127.0.0.1", "localhost")
}

#[test]
fn hosts_by_name() {
    for framing in [Framing::Tcp, Framing::Udp, Framing::Rtu] {
        let slave = Slave::with(framing, move |request| {
            let pdu = request.orderly(0);
            Some(if framing == Framing::Rtu { rtu(request.unit, &pdu) } else { request.answer(&pdu) })
        });
        let config = device("m", &slave, "unit = 7").replace(&slave.url(), &named(&slave.url()));
        let mut server = Server::build().config(&config).log("info").start();
        let mut client = server.client();
        until_reads(&mut client, "m/a", "10 good");
        until_reads(&mut client, "$device/m/reason", "\"\" good");
        server.signal(Signal::TERM);
        assert!(server.wait_for_exit().success());
        let connected = format!("{} connected", named(&slave.url()));
        assert!(server.stderr().contains(&connected), "{}", server.stderr());
    }
}

/// The server starts, whatever it cannot look up, and polls the others.
#[test]
fn a_name_that_cannot_be_looked_up() {
    let slave = Slave::start(0);
    let lost = |scheme: &str, name: &str| {
        device(name, &slave, "").replace(&slave.url(), &format!("{scheme}://nowhere.invalid:1502"))
    };
    let (tcp, udp) = (lost("modbus", "x"), lost("modbus+udp", "u"));
    let mut server = Server::with(&(tcp + &udp + &device("n", &slave, "")));
    let mut client = server.client();
    until_reads(&mut client, "n/a", "10 good");
    let prefix = "OK \"'nowhere.invalid' could not be looked up: ";
    for name in ["x", "u"] {
        until_reads(&mut client, &format!("$device/{name}/state"), "\"offline\" good");
        for reason in ["reason", "reason/a"] {
            let reply = client.ask_one(&format!("GET $device/{name}/{reason}"));
            assert!(reply.starts_with(prefix), "{reply}");
        }
        assert!(client.ask_one(&format!("GET {name}/a")).contains(" bad "));
        assert!(client.ask_one(&format!("SET {name}/a 5")).starts_with("ERR offline "));
    }
    let address = server.addr(0).to_string();
    let devices = run(&Folder::new(), &["devices", &address]);
    assert_eq!(devices.code, Some(1), "{}", devices.stdout);
    let told = devices.stdout.lines().find(|line| line.starts_with("x: "));
    assert!(told.is_some_and(|line| line.contains("'nowhere.invalid' could not be")), "{}", devices.stdout);
    let before = count(&mut client, "n", "requests");
    until("the other is polled on", || count(&mut client, "n", "requests") > before + 10);
    server.signal(Signal::TERM);
    assert!(server.wait_for_exit().success());
    let said = server.stderr();
    let lines = said.lines().filter(|line| line.contains("modbus://nowhere.invalid:1502: 'nowhere.invalid'"));
    // For each change, not for each attempt: an answer may come late once.
    assert!((1..=2).contains(&lines.count()), "{said}");
}

/// A typo must not look like a write that the device has confirmed, nor anybody speak in its name.
#[test]
fn what_a_polled_device_does_not_have_is_not_created() {
    let slave = Slave::start(0);
    let declared = "[[tag]]\nname = 'm/note'\n";
    let server = Server::with(&(declared.to_owned() + &device("m", &slave, "")));
    let mut client = server.client();
    for tag in ["m/aa", "m/a/b", "m/A"] {
        let reply = client.ask_one(&format!("SET {tag} 60"));
        assert!(reply.starts_with("ERR not-found ") && reply.contains("device"), "{tag}: {reply}");
        assert!(client.ask_one(&format!("GET {tag}")).starts_with("ERR not-found "));
    }
    for tag in ["m/note", "m", "mm/a", "other/m/a"] {
        assert_eq!(client.ask_one(&format!("SET {tag} 60")), "OK", "{tag}");
    }
    assert!(client.ask_one("HELLO m").starts_with("ERR denied "));
    assert_eq!(client.ask_one("HELLO mm"), "OK lumina 1", "it was not said before");
}

#[test]
fn death_and_return() {
    let (mut mortal, other) = (Slave::start(0), Slave::start(200));
    let server = Server::with(&(device("m", &mortal, "") + &device("n", &other, "")));
    let mut client = server.client();
    until_reads(&mut client, "m/a", "10 good");
    mortal.goes();
    until_reads(&mut client, "m/a", "10 uncertain");
    until_reads(&mut client, "$device/m/state", "\"offline\" good");
    until_reads(&mut client, "$device/m/reason/a", "\"the device is not connected\" good");
    assert!(client.ask_one("SET m/a 5").starts_with("ERR offline "));
    let before = count(&mut client, "n", "requests");
    until("the other is polled on", || count(&mut client, "n", "requests") > before + 10);
    assert!(client.ask_one("GET n/a").starts_with("OK 210 good "));
    mortal.does(|request| Some(request.answer(&request.orderly(1_000))));
    mortal.comes();
    until_reads(&mut client, "m/a", "1010 good");
    assert_eq!((count(&mut client, "m", "reconnects"), count(&mut client, "n", "reconnects")), (1, 0));
    assert_eq!(client.ask_one("SET m/a 5"), "OK");
}

/// A weekend in small: it goes and comes in every way, again and again.
#[test]
fn many_deaths_and_many_returns() {
    let mut slave = Slave::start(0);
    let server = Server::with(&impatient("m", &slave, "retries = 0"));
    let mut client = server.client();
    for round in 1..=6 {
        until_reads(&mut client, "m/a", &format!("{} good", 10 + 100 * (round - 1)));
        match round % 3 {
            // Nobody is there.
            0 => slave.goes(),
            // Whoever comes is turned away with the first request.
            1 => slave.does(|_| None),
            // It is there and says nothing.
            _ => slave.does(silent),
        }
        until_reads(&mut client, "m/a", &format!("{} uncertain", 10 + 100 * (round - 1)));
        let attempts = slave.accepted();
        if round % 3 == 1 {
            until("it was tried a few times", || slave.accepted() > attempts + 2);
        }
        slave.does(move |request| Some(request.answer(&request.orderly(100 * round))));
        if round % 3 == 0 {
            slave.comes();
        }
    }
    until_reads(&mut client, "m/a", "610 good");
    assert!(count(&mut client, "m", "reconnects") >= 4);
    assert_eq!(slave.intruders(), 0);
}

/// Many devices take one connection only, and turn a second away while the first lives.
#[test]
fn a_slave_for_one_connection_never_sees_two() {
    let slave = Slave::start(0);
    let server = Server::with(&impatient("m", &slave, ""));
    let mut client = server.client();
    until_reads(&mut client, "m/a", "10 good");
    // The server ends it, for what comes is not Modbus; then the slave does.
    for round in 1..=6 {
        if round % 2 == 0 {
            slave.does(|_| Some(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()));
        } else {
            slave.does(|_| None);
        }
        until_reads(&mut client, "m/a", "10 uncertain");
        let before = slave.accepted();
        until("there is another connection", || slave.accepted() > before);
        slave.does(orderly);
        until_reads(&mut client, "m/a", "10 good");
    }
    // Five seconds without a byte are the end, too.
    slave.does(silent);
    let before = slave.accepted();
    until("there is another connection", || slave.accepted() > before);
    slave.does(orderly);
    until_reads(&mut client, "m/a", "10 good");
    assert_eq!((slave.intruders(), slave.open()), (0, 1));
}

#[test]
fn two_units_on_a_line_and_one_is_deaf() {
    for framing in [Framing::Tcp, Framing::Rtu] {
        let frame = move |request: &Request| {
            let pdu = request.orderly(100 * u16::from(request.unit));
            if framing == Framing::Rtu { rtu(request.unit, &pdu) } else { request.answer(&pdu) }
        };
        let slave = Slave::with(framing, move |request| Some(frame(request)));
        let config = device("m", &slave, "unit = 1") + &impatient("deaf", &slave, "unit = 2");
        let server = Server::with(&config.replace("'1s'", "'500ms'"));
        let mut client = server.client();
        until_reads(&mut client, "m/a", "110 good");
        until_reads(&mut client, "deaf/a", "210 good");
        slave.does(move |request| Some(if request.unit == 1 { frame(request) } else { Vec::new() }));
        until_reads(&mut client, "$device/deaf/state", "\"silent\" good");
        assert!(client.ask_one("GET deaf/a").starts_with("OK 210 uncertain "));
        assert!(client.ask_one("SET deaf/a 1").starts_with("ERR offline "));
        let (before, probes) = (count(&mut client, "m", "requests"), count(&mut client, "deaf", "requests"));
        until("the other is polled on", || count(&mut client, "m", "requests") >= before + 100);
        let probes = count(&mut client, "deaf", "requests") - probes;
        assert!(probes <= 30, "{probes} probes beside a hundred polls");
        assert!(client.ask_one("GET m/a").starts_with("OK 110 good "));
        assert_eq!(client.ask_one("SET m/a 5"), "OK");
        assert_eq!((slave.accepted(), slave.intruders()), (1, 0), "one deaf unit is no reason to reconnect");
        slave.does(move |request| Some(frame(request)));
        until_reads(&mut client, "deaf/a", "210 good");
    }
}

/// Whatever comes instead of an answer: no tag ever shows what it holds.
#[test]
fn garbage_is_never_taken_for_a_value() {
    let slave = Slave::start(0);
    let server = Server::with(&impatient("m", &slave, ""));
    let (mut client, mut watcher) = (server.client(), server.client());
    watcher.ask("SUB m/+");
    until_reads(&mut client, "m/a", "10 good");
    let mut number = 0;
    slave.does(move |request| {
        number += 1;
        if number % 2 == 0 {
            return orderly(request);
        }
        let mut wrong = request.orderly(WRONG);
        let mut other = request.clone();
        match number / 2 % 7 {
            0 => other.transaction = other.transaction.wrapping_sub(1),
            1 => other.transaction = other.transaction.wrapping_add(1_000),
            2 => other.unit += 1,
            3 => wrong[0] = 4,
            4 => wrong.truncate(4),
            5 => wrong.extend([0, 1]),
            _ => wrong[1] = 2,
        }
        Some(other.answer(&wrong))
    });
    until("much was dropped", || count(&mut client, "m", "mismatched") > 20);
    assert!(count(&mut client, "m", "late") > 0);
    let mut noise = 1_u32;
    slave.does(move |_| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some(noise.to_le_bytes().repeat(1 + noise as usize % 60))
    });
    let before = count(&mut client, "m", "reconnects");
    until("it was connected to again", || count(&mut client, "m", "reconnects") > before + 3);
    slave.does(orderly);
    until_reads(&mut client, "m/a", "10 good");
    until_reads(&mut client, "m/b", "11 good");
    watcher.ask_one("PING");
    for update in watcher.updates_left() {
        let value = update.split(' ').nth(2).expect("an update has a value");
        assert!(["null", "10", "11"].contains(&value), "{update}");
    }
}

#[test]
fn late_answers_are_never_taken_for_the_next() {
    let slave = Slave::with(Framing::Tcp, orderly);
    let server = Server::with(&impatient("m", &slave, ""));
    let mut client = server.client();
    until_reads(&mut client, "m/a", "10 good");
    // Every other request is answered when the next one comes, before that one.
    let mut waiting: Option<Request> = None;
    slave.does(move |request| {
        let late = waiting.take();
        let Some(late) = late else {
            waiting = Some(request.clone());
            return Some(Vec::new());
        };
        let frames = [late.answer(&late.orderly(WRONG)), request.answer(&request.orderly(0))];
        Some(frames.concat())
    });
    until("some came late", || {
        let reply = client.ask_one("GET m/a");
        assert!(reply.starts_with("OK 10 "), "{reply}");
        count(&mut client, "m", "late") >= 5
    });
    slave.does(orderly);
    until_reads(&mut client, "m/a", "10 good");
}

#[test]
fn a_write_is_confirmed_by_the_device() {
    let (sender, written) = mpsc::channel();
    let slave = Slave::start(0);
    let server =
        Server::with(&device("m", &slave, "").replacen("access = 'rw'", "access = 'rw'\nmax = 99", 1));
    let mut client = server.client();
    until_reads(&mut client, "m/a", "10 good");
    let mut held = 0;
    slave.does(move |request| {
        if request.is_write() {
            held = request.pdu[4];
            // The test may be over.
            let _ = sender.send(request.pdu.clone());
            return Some(request.answer(&request.pdu));
        }
        Some(request.answer(&[3, 4, 0, held, 0, 11]))
    });
    for value in 1..=20 {
        assert_eq!(client.ask_one(&format!("SET m/a {value}")), "OK");
        assert!(client.ask_one("GET m/a").starts_with(&format!("OK {value} good ")));
        assert_eq!(written.recv_timeout(DEADLINE).expect("it was sent"), [6, 0, 10, 0, value]);
    }
    for (value, code) in
        [("100", "out-of-range"), ("-1", "out-of-range"), ("1.5", "wrong-type"), ("true", "wrong-type")]
    {
        assert!(client.ask_one(&format!("SET m/a {value}")).starts_with(&format!("ERR {code} ")), "{value}");
    }
    assert!(client.ask_one("SET m/b 1").starts_with("ERR read-only "));
    assert!(written.try_recv().is_err(), "what is refused is not sent");

    slave.does(|request| {
        let refused = request.is_write().then(|| vec![request.pdu[0] | 0x80, 4]);
        Some(request.answer(&refused.unwrap_or_else(|| request.orderly(0))))
    });
    assert_eq!(client.ask_one("SET m/a 7"), "ERR device server device failure");
}

/// The device has it, perhaps: it is not sent again, neither at once nor later.
#[test]
fn a_write_that_is_not_confirmed_is_not_sent_again() {
    let (sender, written) = mpsc::channel();
    let slave = Slave::start(0);
    let server = Server::with(&impatient("m", &slave, ""));
    let mut client = server.client();
    for is_cut in [false, true] {
        until_reads(&mut client, "m/a", "10 good");
        let sender = sender.clone();
        slave.does(move |request| {
            if !request.is_write() {
                return Some(request.answer(&request.orderly(0)));
            }
            let _ = sender.send(());
            if is_cut { None } else { Some(Vec::new()) }
        });
        assert!(client.ask_one("SET m/a 7").starts_with("ERR timeout "));
        written.recv_timeout(DEADLINE).expect("it was sent");
        until_reads(&mut client, "m/a", "10 good");
        let before = slave.requests();
        until("there are more polls", || slave.requests() > before + 5);
        assert!(written.try_recv().is_err(), "it was sent again");
    }
}

#[test]
fn what_is_read_back_may_differ() {
    let slave = Slave::start(0);
    let verified = device("m", &slave, "").replacen("access = 'rw'", "access = 'rw'\nverify = true", 1);
    let server = Server::with(&verified);
    let mut client = server.client();
    until_reads(&mut client, "m/a", "10 good");
    // It confirms, and keeps what it has.
    assert_eq!(client.ask_one("SET m/a 7"), "ERR device read-back differs");
    assert!(client.ask_one("GET m/a").starts_with("OK 10 good "));
    assert_eq!(client.ask_one("SET m/a 10"), "OK");
}

#[test]
fn a_paused_device_is_left_alone() {
    let slave = Slave::start(0);
    let server = Server::with(&device("m", &slave, ""));
    let mut client = server.client();
    until_reads(&mut client, "m/a", "10 good");
    assert_eq!(client.ask_one("SET $device/m/enabled false"), "OK");
    until_reads(&mut client, "$device/m/state", "\"disabled\" good");
    until_reads(&mut client, "m/a", "10 uncertain");
    until("its connection is closed", || slave.open() == 0);
    let accepted = slave.accepted();
    assert!(client.ask_one("SET m/a 5").starts_with("ERR offline "));
    assert_eq!(client.ask_one("SET $device/m/enabled true"), "OK");
    until_reads(&mut client, "m/a", "10 good");
    assert_eq!(slave.accepted(), accepted + 1);
}

#[test]
fn an_address_that_the_device_does_not_have() {
    let slave = Slave::start(0);
    let has = |request: &Request| !(request.pdu[2]..request.pdu[2] + request.pdu[4]).contains(&11);
    slave.does(move |request| {
        Some(request.answer(&if has(request) { request.orderly(0) } else { vec![0x83, 2] }))
    });
    let server = Server::with(&device("m", &slave, ""));
    let mut client = server.client();
    until_reads(&mut client, "$device/m/quarantined", "1 good");
    until_reads(&mut client, "m/a", "10 good");
    until_reads(&mut client, "m/b", "null bad");
    until_reads(&mut client, "$device/m/reason/b", "\"illegal data address\" good");
    slave.cut();
    slave.does(orderly);
    until_reads(&mut client, "m/b", "11 good");
    until_reads(&mut client, "$device/m/quarantined", "0 good");
}

#[test]
fn points_come_from_a_spreadsheet_beside_the_configuration() {
    let dir = Folder::new();
    let config = "[[device]]\nname = 'm'\nurl = 'modbus://127.0.0.1:1'\ntags = 'points.csv'\n";
    dir.write("plant.toml", config);
    dir.write("points.csv", "name,address,type\na,holding:10,u16\nb,holding:11,u17\n");
    for command in ["check", "serve"] {
        let outcome = run(&dir, &[command, "--config", "plant.toml"]);
        assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("points.csv:3:"), "{}", outcome.stderr);
    }
    dir.write("points.csv", "name,address,type\na,holding:10,u16\nb,holding:11,u16\n");
    let outcome = run(&dir, &["check", "--config", "plant.toml"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
}

#[test]
fn two_devices_that_are_one_unit_are_pointed_out() {
    let dir = Folder::new();
    let device = |name: &str| format!("[[device]]\nname = '{name}'\nurl = 'modbus://127.0.0.1:1'\n");
    dir.write("plant.toml", &(device("one") + &device("twin")));
    let outcome = run(&dir, &["check", "--config", "plant.toml"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let warning =
        "warning: plant.toml:4: 'twin' is unit 1 of modbus://127.0.0.1:1, as 'one' is (plant.toml:1)";
    assert!(outcome.stdout.contains(warning), "{}", outcome.stdout);
}
