//! The line protocol, sections “Requests” and “Errors”: one test for each row, and declared tags.

use std::collections::BTreeMap;

use crate::client::{Client, is_final};
use crate::script::{check, check_streams};
use crate::server::Server;

/// Every request with too few or too many fields. Options to come are `key=value`; for now there are none.
#[test]
fn numbers_of_fields() {
    let server = Server::start();
    let mut client = server.client();
    for request in [
        "GET",
        "GET a b",
        "GET a key=value",
        "SET",
        "SET a",
        "SET a 1 good 7 8",
        "READ",
        "READ a b",
        "SUB",
        "SUB a b",
        "UNSUB",
        "UNSUB a b",
        "LIST",
        "LIST a b",
        "HELLO",
        "HELLO d 5s x",
        "TIME now",
        "INFO name",
        "HELP GET",
        "QUIT now",
    ] {
        let line = client.ask_one(request);
        assert!(client.matches("ERR bad-request", &line), "{request}: {line}");
    }
    assert_eq!(client.ask("LIST #"), ["OK 0"]);
}

#[test]
fn get_and_set() {
    check(
        "",
        "
        > GET line1/press3/temperature
        < ERR not-found
        > SET line1/press3/temperature 81.5
        < OK
        > GET line1/press3/temperature
        < OK 81.5 good @
        > SET line1/press3/temperature warm
        < ERR bad-value
        # A tag created by its first SET holds any type.
        > SET line1/press3/temperature \"warm\" uncertain 7
        < OK
        b> GET line1/press3/temperature
        b< OK \"warm\" uncertain 7
        b> GET bad//name
        b< ERR bad-name
        b> GET line1/#
        b< ERR bad-name
        b> SET line1/+ 1
        b< ERR bad-name
        ",
    );
}

#[test]
fn read_and_list() {
    check(
        "
        [[tag]]
        name = 'press/count'
        type = 'int'
        [[tag]]
        name = 'press/model'
        type = 'text'
        access = 'ro'
        initial = 'P-7'
        [[tag]]
        name = 'press/on'
        type = 'bool'
        initial = false
        [[tag]]
        name = 'press/speed'
        type = 'float'
        initial = 80
        [[tag]]
        name = 'press/x'
        type = 'any'
        ",
        r#"
        > READ press/#
        < VAL press/count null bad 0
        < VAL press/model "P-7" good @
        < VAL press/on false good @
        < VAL press/speed 80.0 good @
        < VAL press/x null bad 0
        < OK 5
        > SET press/x nan uncertain 9
        < OK
        > SET oven 1
        < OK
        > READ +/x
        < VAL press/x nan uncertain 9
        < OK 1
        > READ oven
        < VAL oven 1 good @
        < OK 1
        > READ none
        < OK 0
        > LIST #
        < TAG oven any rw -
        < TAG press/count int rw -
        < TAG press/model text ro -
        < TAG press/on bool rw -
        < TAG press/speed float rw -
        < TAG press/x any rw -
        < OK 6
        > LIST none/#
        < OK 0
        "#,
    );
}

/// A declared tag takes what converts exactly and refuses the rest; what it refuses leaves it as it was.
#[test]
fn declared_types() {
    let server = Server::with(
        "
        [[tag]]
        name = 'bool'
        type = 'bool'
        [[tag]]
        name = 'int'
        type = 'int'
        [[tag]]
        name = 'float'
        type = 'float'
        [[tag]]
        name = 'text'
        type = 'text'
        [[tag]]
        name = 'any'
        type = 'any'
        ",
    );
    #[rustfmt::skip]
    let table = [
        ("bool",  "true",                 "true"),
        ("bool",  "1",                    "wrong-type"),
        ("bool",  "0.0",                  "wrong-type"),
        ("bool",  "\"true\"",             "wrong-type"),
        ("int",   "80",                   "80"),
        ("int",   "80.0",                 "80"),
        ("int",   "8e1",                  "80"),
        ("int",   "-80.0",                "-80"),
        ("int",   "9007199254740992.0",   "9007199254740992"),
        ("int",   "-9223372036854775808.0", "-9223372036854775808"),
        ("int",   "9223372036854775808.0", "wrong-type"),
        ("int",   "80.5",                 "wrong-type"),
        ("int",   "1e300",                "wrong-type"),
        ("int",   "nan",                  "wrong-type"),
        ("int",   "inf",                  "wrong-type"),
        ("int",   "-inf",                 "wrong-type"),
        ("int",   "true",                 "wrong-type"),
        ("int",   "\"80\"",               "wrong-type"),
        ("float", "80.5",                 "80.5"),
        ("float", "80",                   "80.0"),
        ("float", "-9007199254740992",    "-9007199254740992.0"),
        ("float", "9007199254740993",     "wrong-type"),
        ("float", "9223372036854775807",  "wrong-type"),
        ("float", "nan",                  "nan"),
        ("float", "-inf",                 "-inf"),
        ("float", "false",                "wrong-type"),
        ("float", "\"80\"",               "wrong-type"),
        ("text",  "\"80\"",               "\"80\""),
        ("text",  "80",                   "wrong-type"),
        ("text",  "80.5",                 "wrong-type"),
        ("text",  "true",                 "wrong-type"),
        ("any",   "true",                 "true"),
        ("any",   "80",                   "80"),
        ("any",   "80.5",                 "80.5"),
        ("any",   "\"80\"",               "\"80\""),
    ];
    let mut client = server.client();
    for (tag, written, expected) in table {
        set_and_get(&mut client, tag, written, expected);
    }
}

/// `expected` is the sample after the `SET`, or the code with which it is refused and nothing changes.
fn set_and_get(client: &mut Client, tag: &str, written: &str, expected: &str) {
    client.send(format!("SET {tag} null bad 7\nSET {tag} {written} good 8\nGET {tag}\n"));
    client.expect("OK");
    if matches!(expected, "out-of-range" | "wrong-type") {
        client.expect(&format!("ERR {expected}"));
        client.expect("OK null bad 7");
    } else {
        client.expect("OK");
        let printed = client.reply_line();
        assert!(same_sample(&printed, expected), "SET {tag} {written}: {printed}");
    }
}

#[test]
fn declared_limits() {
    let server = Server::with(
        "
        [[tag]]
        name = 'int'
        type = 'int'
        min = -5
        max = 10
        [[tag]]
        name = 'float'
        type = 'float'
        min = 0.5
        max = 2.5
        [[tag]]
        name = 'least'
        type = 'float'
        min = 0.0
        [[tag]]
        name = 'most'
        type = 'float'
        max = 0.0
        ",
    );
    #[rustfmt::skip]
    let table = [
        ("int",   "-5",   "-5"),
        ("int",   "10",   "10"),
        ("int",   "10.0", "10"),
        ("int",   "-6",   "out-of-range"),
        ("int",   "11",   "out-of-range"),
        ("int",   "11.0", "out-of-range"),
        ("int",   "9.5",  "wrong-type"),
        ("float", "0.5",  "0.5"),
        ("float", "2.5",  "2.5"),
        ("float", "1",    "1.0"),
        ("float", "0.49", "out-of-range"),
        ("float", "2.51", "out-of-range"),
        ("float", "3",    "out-of-range"),
        ("float", "inf",  "out-of-range"),
        ("float", "nan",  "out-of-range"),
        ("least", "inf",  "inf"),
        ("least", "-1e-9", "out-of-range"),
        ("least", "nan",  "out-of-range"),
        ("most",  "-inf", "-inf"),
        ("most",  "1e-9", "out-of-range"),
        ("most",  "nan",  "out-of-range"),
    ];
    let mut client = server.client();
    for (tag, written, expected) in table {
        set_and_get(&mut client, tag, written, expected);
    }
}

#[test]
fn tags_that_cannot_be_written_or_created() {
    check(
        "
        [server]
        create_tags = false
        [[tag]]
        name = 'fixed'
        access = 'ro'
        type = 'int'
        initial = 7
        [[tag]]
        name = 'open'
        access = 'rw'
        type = 'int'
        ",
        "
        > SET fixed 7
        < ERR read-only
        > SET fixed null bad
        < ERR read-only
        > GET fixed
        < OK 7 good @
        > SET other 1
        < ERR not-found
        > GET other
        < ERR not-found
        > SET open 1 good 5
        < OK
        > READ #
        < VAL fixed 7 good @
        < VAL open 1 good 5
        < OK 2
        ",
    );
}

#[test]
fn limits_of_subscriptions_and_texts() {
    check(
        "
        [server]
        max_subscriptions = 2
        max_text = 16
        ",
        r#"
        > SET b 1 good 5
        < OK
        > SET c "0123456789abcdef"
        < OK
        > SET c "0123456789abcdefg"
        < ERR limit
        > SET c 2 good 5
        < OK
        > SUB b
        < VAL b 1 good 5
        < OK 1
        > SUB c
        < VAL c 2 good 5
        < OK 1
        > SUB +
        < ERR limit
        > UNSUB b
        < OK
        > SUB none/#
        < OK 0
        > SUB b
        < ERR limit
        > UNSUB b
        < ERR not-found
        "#,
    );
}

/// The limit is that of the plant's own tags, declared and created; those below `$server` are not among them.
#[test]
fn limit_of_tags() {
    let server = Server::with("[server]\nmax_tags = 100\n[[tag]]\nname = 'declared'\ntype = 'int'");
    let mut client = server.client();
    client.ok_all((1..100).map(|number| format!("SET tag/{number:02} {number}")));
    client.send("SET one/more 1\nGET one/more\nLIST one/more\n");
    for expected in ["ERR limit", "ERR not-found", "OK 0"] {
        client.expect(expected);
    }
    client.send("SET tag/99 100 good 5\nGET tag/99\nSET declared 1\n");
    for expected in ["OK", "OK 100 good 5", "OK"] {
        client.expect(expected);
    }
    assert_eq!(client.ask("LIST #").len(), 101);
}

#[test]
fn auth_is_denied_where_there_are_no_users() {
    check(
        "",
        "
        > AUTH admin secret
        < ERR denied
        > PING still here
        < OK still here
        ",
    );
}

#[test]
fn ping_returns_the_rest_as_it_stands() {
    check_streams(
        "",
        &[
            ("nothing", b"PING\n", &["OK"]),
            ("a word", b"PING a\n", &["OK a"]),
            ("blanks between", b"PING a  b\t c\n", &["OK a  b\t c"]),
            ("a quote that does not end", b"PING \"a b\n", &["OK \"a b"]),
            ("what looks like a reply", b"PING ERR limit\n", &["OK ERR limit"]),
            ("UTF-8", "PING Grüße 😀\n".as_bytes(), &["OK Grüße 😀"]),
        ],
    );
}

#[test]
fn time_is_the_servers_clock() {
    check(
        "",
        "
        > TIME
        < OK @
        > TIME
        < OK @
        ",
    );
}

#[test]
fn info_tells_at_least_what_is_promised() {
    let server = Server::with("[server]\nname = 'press hall 3'");
    let mut client = server.client();
    let before = info(&mut client);
    for key in ["version", "protocol", "name", "uptime_s", "connections", "tags", "requests", "subscriptions"]
    {
        assert!(before.contains_key(key), "{key}: {before:?}");
    }
    assert_eq!(before["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(before["protocol"], "1");
    assert!(before["name"].contains("press hall 3"), "{before:?}");
    assert_eq!(number(&before, "connections"), 1);
    assert_eq!(number(&before, "subscriptions"), 0);
    assert!(number(&before, "memory_bytes") > 0);
    // Seconds, not milliseconds and not the time of day.
    assert!(number(&before, "uptime_s") < 600);

    let mut second = server.client();
    assert_eq!(second.ask_one("SET one 1"), "OK");
    assert_eq!(second.ask_one("SET two 2"), "OK");
    assert_eq!(second.ask("SUB +").len(), 3);
    let after = info(&mut client);
    assert_eq!(number(&after, "connections"), 2);
    assert_eq!(number(&after, "subscriptions"), 1);
    assert_eq!(number(&after, "tags"), number(&before, "tags") + 2);
    // Three of the second client; whether an INFO counts itself is open.
    let grown = number(&after, "requests") - number(&before, "requests");
    assert!((3..=5).contains(&grown), "{grown}");
}

#[test]
fn help_names_every_request() {
    let server = Server::start();
    let help = server.client().ask("HELP");
    for verb in [
        "GET", "SET", "READ", "SUB", "UNSUB", "LIST", "HELLO", "AUTH", "TIME", "PING", "INFO", "HELP",
        "QUIT", "TRACE", "UNTRACE",
    ] {
        let about = help.iter().filter(|line| line.split([' ', ':']).nth(1) == Some(verb)).count();
        assert_eq!(about, 1, "{verb}: {help:?}");
    }
    assert_eq!(help.last(), Some(&format!("OK {}", help.len() - 1)));
}

fn number(info: &BTreeMap<String, String>, key: &str) -> u64 {
    info[key].parse().unwrap_or_else(|_| panic!("{key}: {info:?}"))
}

fn info(client: &mut Client) -> BTreeMap<String, String> {
    let reply = client.ask("INFO");
    assert_eq!(reply.last(), Some(&format!("OK {}", reply.len() - 1)));
    let pairs = reply.iter().filter(|line| !is_final(line)).map(|line| {
        let (key, value) = line["INFO ".len()..].split_once(' ').unwrap_or_else(|| panic!("{line}"));
        (key.to_owned(), value.to_owned())
    });
    pairs.collect()
}

/// `OK value good 8` with this value; floats may be printed in any form that says the same.
fn same_sample(line: &str, expected: &str) -> bool {
    let Some(value) = line.strip_prefix("OK ").and_then(|rest| rest.strip_suffix(" good 8")) else {
        return false;
    };
    let float = |text: &str| text.contains(['.', 'e', 'E']).then(|| text.parse::<f64>().ok()).flatten();
    value == expected || (float(expected).is_some() && float(value) == float(expected))
}
