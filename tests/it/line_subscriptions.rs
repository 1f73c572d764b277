//! The line protocol: `SUB`, `UNSUB` and `UPD`.

use crate::client::{Client, is_final};
use crate::script::check;
use crate::server::Server;

#[test]
fn the_example_of_the_specification() {
    check(
        "",
        r#"
        > HELLO press3 10s
        < OK lumina 1
        > SET line1/press3/temperature 81.5
        < OK
        > GET line1/press3/temperature
        < OK 81.5 good @
        > SUB line1/#
        < VAL line1/press3/temperature 81.5 good @
        < OK 1
        b> SET line1/press3/temperature 81.7
        b< OK
        < UPD line1/press3/temperature 81.7 good @
        > SET line1/press3/temperature warm
        < ERR bad-value
        "#,
    );
}

#[test]
fn everyone_who_asked_hears_of_a_change_and_nobody_else() {
    check(
        "",
        "
        a> SUB hall/#
        a< OK 0
        b> SUB hall/x
        b< OK 0
        c> SUB +
        c< OK 0
        # A tag created later.
        w> SET hall/x 1 good 7
        w< OK
        a< UPD hall/x 1 good 7
        b< UPD hall/x 1 good 7
        w> SET hall/y 2 good 7
        w< OK
        a< UPD hall/y 2 good 7
        w> SET top 3 good 7
        w< OK
        c< UPD top 3 good 7
        w> SET $server/x 1
        w< ERR read-only
        ",
    );
}

#[test]
fn the_writer_gets_its_own() {
    check(
        "",
        "
        > SUB t
        < OK 0
        > SET t 1 good 7
        < OK
        < UPD t 1 good 7
        > SET t 2 good 7
        < OK
        < UPD t 2 good 7
        ",
    );
}

#[test]
fn several_subscriptions_that_match_give_one_update() {
    check(
        "",
        "
        > SUB a/#
        < OK 0
        > SUB a/b
        < OK 0
        > SUB +/b
        < OK 0
        b> SET a/b 1 good 7
        b< OK
        < UPD a/b 1 good 7
        > UNSUB a/b
        < OK
        > UNSUB a/#
        < OK
        b> SET a/b 2 good 7
        b< OK
        < UPD a/b 2 good 7
        b> SET a/c 2 good 7
        b< OK
        > UNSUB +/b
        < OK
        b> SET a/b 3 good 7
        b< OK
        # Each SUB shows the state as it is, whatever was subscribed before.
        > SUB a/b
        < VAL a/b 3 good 7
        < OK 1
        > SUB a/+
        < VAL a/b 3 good 7
        < VAL a/c 2 good 7
        < OK 2
        b> SET a/b 4 good 7
        b< OK
        < UPD a/b 4 good 7
        ",
    );
}

#[test]
fn unsub_ends_the_one_it_names() {
    check(
        "",
        "
        > UNSUB a/#
        < ERR not-found
        > SUB a/#
        < OK 0
        > UNSUB a/b
        < ERR not-found
        > UNSUB a
        < ERR not-found
        > UNSUB #
        < ERR not-found
        > UNSUB a//b
        < ERR bad-name
        # It is the connection's own.
        b> UNSUB a/#
        b< ERR not-found
        b> SET a/b 1 good 7
        b< OK
        < UPD a/b 1 good 7
        > UNSUB a/#
        < OK
        > UNSUB a/#
        < ERR not-found
        b> SET a/b 2 good 7
        b< OK
        ",
    );
}

/// Another type, another bit pattern or another quality is a change. A new time alone is none.
#[test]
fn what_is_a_change() {
    #[rustfmt::skip]
    let table = [
        ("1 good 7",            "1 good 7",            false),
        ("1 good 7",            "1 good 8",            false),
        ("1 good 7",            "2 good 7",            true),
        ("1 good 7",            "1 uncertain 7",       true),
        ("1 good 7",            "1 bad 7",             true),
        ("1 good 7",            "1.0 good 7",          true),
        ("1 good 7",            "\"1\" good 7",        true),
        ("true good 7",         "1 good 7",            true),
        ("0 good 7",            "null bad 7",          true),
        ("null bad 7",          "null bad 8",          false),
        ("\"a\" good 7",        "\"a\" good 8",        false),
        ("\"a\" good 7",        "\"\\u0061\" good 8",  false),
        ("\"a\" good 7",        "\"A\" good 7",        true),
        ("0.0 good 7",          "-0.0 good 7",         true),
        ("0 good 7",            "-0 good 8",           false),
        ("0.1 good 7",          "0.10 good 8",         false),
        ("0.1 good 7",          "0.10000000000000002 good 7", true),
        ("nan good 7",          "nan good 8",          false),
        ("nan good 7",          "inf good 7",          true),
        ("inf good 7",          "-inf good 7",         true),
    ];
    let server = Server::start();
    let (mut reader, mut writer) = (server.client(), server.client());
    assert_eq!(reader.ask_one("SUB #"), "OK 0");
    for (index, (before, after, change)) in table.into_iter().enumerate() {
        let tag = format!("row{index}");
        for (sample, expected) in [("\"something else\" good 7", true), (before, true), (after, change)] {
            assert_eq!(writer.ask_one(&format!("SET {tag} {sample}")), "OK");
            if expected {
                let update = reader.update_of(&tag);
                assert!(
                    update.ends_with(sample.rsplit(' ').next().unwrap_or_default()),
                    "{before} → {after}: {update}"
                );
            }
        }
        // An update that there should not be would be among what has come by the second reply.
        reader.ask_one("PING");
        reader.ask_one("PING");
        assert!(reader.updates_left().is_empty(), "{before} → {after}: {:?}", reader.updates_left());
    }
}

/// Updates while requests of the subscriber are answered: none is inside a reply (the client checks that),
/// none is missed after the `VAL`, nothing shows an older sample than what came before it, and the last one
/// is the newest.
#[test]
fn updates_between_pipelined_replies() {
    const TAGS: usize = 50;
    const WRITES: usize = 5000;
    const READS: usize = 300;
    let server = Server::start();
    let mut writer = server.client();
    writer.ok_all((0..TAGS).map(|tag| format!("SET mix/{tag} {tag} good 0")));
    // Write number n goes to tag n % 50, so what each tag holds only ever grows.
    let writes: String = (TAGS..WRITES).map(|n| format!("SET mix/{} {n} good 0\n", n % TAGS)).collect();
    let sender = writer.send_aside(writes.into_bytes());

    let mut reader = server.client();
    reader.send("SUB mix/#\n".to_owned() + &"READ mix/#\nPING x\n".repeat(READS));
    let mut seen = [0; TAGS];
    let mut updated = [0; TAGS];
    let mut replies = 0;
    while replies < 1 + 2 * READS || seen.iter().any(|value| *value < WRITES - TAGS) {
        let line = reader.next_line();
        if is_final(&line) {
            let expected = if replies > 0 && replies % 2 == 0 { "OK x" } else { "OK 50" };
            assert_eq!(line, expected, "reply {replies}");
            replies += 1;
            continue;
        }
        let value = field(&line, 2);
        let tag = value % TAGS;
        assert!(line.contains(&format!(" mix/{tag} ")), "{line}");
        assert!(value >= seen[tag], "{line} after {}", seen[tag]);
        seen[tag] = value;
        if line.starts_with("UPD") || replies == 0 {
            assert!(
                line.starts_with("VAL") || value > updated[tag],
                "no change: {line} after {}",
                updated[tag]
            );
            updated[tag] = value;
        }
    }
    for number in TAGS..WRITES {
        assert_eq!(writer.reply_line(), "OK", "write {number}");
    }
    sender.join().expect("the sender got through");
    // A last `READ` may have shown a sample before its update came: two round trips, and it is there.
    for _ in 0..2 {
        reader.ask_one("PING");
    }
    for line in reader.updates_left() {
        let value = field(&line, 2);
        assert!(value > updated[value % TAGS], "no change: {line}");
        updated[value % TAGS] = value;
    }
    assert!(updated.iter().all(|value| *value >= WRITES - TAGS), "missed: {updated:?}");
}

/// What a `VAL` has shown is not told again, although it may be dealt out only after that.
#[test]
fn a_change_before_the_subscription_is_not_told_again() {
    let server = Server::start();
    let (mut reader, mut writer) = (server.client(), server.client());
    assert_eq!(reader.ask_one("SUB other"), "OK 0");
    for round in (0..200).step_by(2) {
        // On one connection, and so in one turn.
        reader.send(format!("SET t {round} good 7\nSUB t\nPING\n"));
        for expected in ["OK", &format!("VAL t {round} good 7"), "OK 1", "OK"] {
            reader.expect(expected);
        }
        assert_eq!(reader.ask_one("UNSUB t"), "OK");
        // On two, both before the server looks.
        let next = round + 1;
        server.freeze();
        writer.send(format!("SET t {next} good 7\n"));
        reader.send("SUB t\n");
        server.signal(rustix::process::Signal::CONT);
        writer.expect("OK");
        let reply = reader.reply();
        if !reply.contains(&format!("VAL t {next} good 7")) {
            reader.expect_update(&format!("UPD t {next} good 7"));
        }
        for request in ["PING", "UNSUB t"] {
            assert_eq!(reader.ask_one(request), "OK");
        }
        assert!(reader.updates_left().is_empty(), "round {round}: {:?}", reader.updates_left());
    }
}

#[test]
fn a_server_tag_can_be_followed() {
    let server = Server::start();
    let mut reader = server.client();
    assert_eq!(reader.ask("SUB $server/connections").len(), 2);
    let mut others: Vec<Client> = server.clients(3);
    for other in &mut others {
        assert_eq!(other.ask_one("PING"), "OK");
    }
    loop {
        let update = reader.update();
        assert!(update.starts_with("UPD $server/connections "), "{update}");
        if field(&update, 2) == 4 {
            break;
        }
    }
}

/// The patterns of many connections at once: each hears of exactly what it asked for.
#[test]
fn many_subscribers_of_many_patterns() {
    const LINES: usize = 20;
    const MACHINES: usize = 10;
    let server = Server::start();
    let mut writer = server.client();
    let mut of_line: Vec<Client> = server.clients(LINES);
    let mut of_machine: Vec<Client> = server.clients(MACHINES);
    for (line, client) in of_line.iter_mut().enumerate() {
        assert_eq!(client.ask_one(&format!("SUB line{line}/#")), "OK 0");
    }
    for (machine, client) in of_machine.iter_mut().enumerate() {
        assert_eq!(client.ask_one(&format!("SUB +/machine{machine}/state")), "OK 0");
    }
    let all = (0..LINES).flat_map(|line| (0..MACHINES).map(move |machine| (line, machine)));
    writer.ok_all(
        all.clone()
            .map(|(line, machine)| format!("SET line{line}/machine{machine}/state {line} good {machine}")),
    );
    for (line, machine) in all {
        let update = format!("UPD line{line}/machine{machine}/state {line} good {machine}");
        of_line[line].expect_update(&update);
        of_machine[machine].expect_update(&update);
    }
    for client in of_line.iter_mut().chain(&mut of_machine) {
        client.ask_one("PING");
        assert!(client.updates_left().is_empty(), "{:?}", client.updates_left());
    }
}

fn field(line: &str, index: usize) -> usize {
    line.split(' ').nth(index).and_then(|field| field.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}
