//! The line protocol: its requests as tables, and what only a conversation shows.

use std::time::Duration;

use proptest::prelude::*;

use super::request::parse_on;
use super::*;
use crate::base::time::Timestamp;
use crate::engine::rig::{RIG_EPOCH_MS, Rig, RigSettings};
use crate::tags::name::{DeviceName, Pattern, TagName};
use crate::tags::value::{Input, Kind, Limits, Number, Quality, Value};
use crate::tags::{Access, Declaration, Limit, TagSettings};

/// What is understood, printed; or the `ERR` line without its end; or nothing, for blanks.
fn meaning(line: &[u8]) -> String {
    match parse(line) {
        Ok(request) => request.map(|request| request.to_string()).unwrap_or_default(),
        Err(fault) => fault.to_string().trim_end().to_owned(),
    }
}

#[track_caller]
fn check(line: &str, expected: &str) {
    assert_eq!(meaning(line.as_bytes()), expected, "{line:?}");
}

#[test]
fn requests() {
    check("GET a/b", "GET a/b");
    check("SET a/b 1", "SET a/b 1");
    check("SET a/b 1 good", "SET a/b 1 good");
    check("SET a/b 1 7", "SET a/b 1 7");
    check("SET a/b 1 uncertain -7", "SET a/b 1 uncertain -7");
    check("SET a/b null bad", "SET a/b null bad");
    check("SET a/b 81.50", "SET a/b 81.5");
    check("SET a/b 1e3", "SET a/b 1000.0");
    check("SET a/b \"\\u0041\\/\"", "SET a/b \"A/\"");
    check("READ a/#", "READ a/#");
    check("SUB +/b", "SUB +/b");
    check("UNSUB #", "UNSUB #");
    check("LIST $server/+", "LIST $server/+");
    check("HELLO press3", "HELLO press3");
    check("HELLO press3 1.5s", "HELLO press3 1500000us");
    check("AUTH user secret", "AUTH - -");
    check("TIME", "TIME");
    check("PING", "PING");
    check("PING a", "PING a");
    check("INFO", "INFO");
    check("TRACE press3", "TRACE press3");
    check("trace 10.0.0.7:49152 detail=no", "TRACE 10.0.0.7:49152");
    check("TRACE [::1]:80 detail=yes", "TRACE [::1]:80 detail=yes");
    check("UNTRACE press3", "UNTRACE press3");
    check("HELP", "HELP");
    check("QUIT", "QUIT");
}

#[test]
fn blanks_and_case() {
    check("", "");
    check(" \t ", "");
    check(" \t GET \t a/b\t ", "GET a/b");
    check("get A/b", "GET A/b");
    check("gEt a/b", "GET a/b");
    check("PING \t as  it\tstands \t", "PING as  it\tstands \t");
    check("PING  ", "PING");
    check("ping \"a", "PING \"a");
    // Only the one CR before the end is no part of the line, and it is gone by now.
    check("PING a\r", "PING a\r");
    check("GET a\r", "ERR bad-name byte 0x0D cannot stand in a name");
    check("\r", "ERR bad-request unknown request '?'; HELP lists what there is");
    check("GET\u{a0}a", "ERR bad-request unknown request 'GET\u{a0}a'; HELP lists what there is");
}

#[test]
fn quotes() {
    check(r#"SET a "b c""#, r#"SET a "b c""#);
    check(r#"SET a  "b  c"  bad  7 "#, r#"SET a "b  c" bad 7"#);
    check(r#"SET a "b \" c""#, r#"SET a "b \" c""#);
    check(r#"SET a "b \\" good"#, r#"SET a "b \\" good"#);
    check(r#"SET a """#, r#"SET a """#);
    check(r#"SET a "b c"#, "ERR bad-value the text has no closing quote");
    check(r#"SET a "b\"#, "ERR bad-value not an escape of JSON");
    check(r#"SET a "b"c d"#, "ERR bad-value something follows the closing quote");
    check("SET a \"b\tc\"", "ERR bad-value a control character in text must be escaped");
    check(r#"SET a "\x""#, "ERR bad-value not an escape of JSON");
    check(r#"SET a "\ud800""#, "ERR bad-value half of a surrogate pair stands alone");
    // A quote within a field is an ordinary byte.
    check(r#"SET a b"c d""#, r#"ERR bad-value 'b"c' is not a value; write text as "b"c""#);
    check(r#"SET "a" 1"#, "ERR bad-name '\"' cannot stand in a name");
    check(r#""GET" a"#, "ERR bad-request unknown request '\"GET\"'; HELP lists what there is");
}

#[test]
fn numbers_of_fields() {
    for verb in VERBS {
        let usage = format!("ERR bad-request usage: {}", verb.full_usage());
        let (least, most) = match verb.name {
            "SET" => (2, 4),
            "GET" | "READ" | "SUB" | "UNSUB" | "LIST" => (1, 1),
            "HELLO" => (1, 2),
            "AUTH" => (2, 2),
            // What may follow is an option, and `a` is none.
            "TRACE" | "UNTRACE" => (1, 1),
            "PING" => (0, 9),
            _ => (0, 0),
        };
        for count in 0..=6 {
            let line = format!("{}{}", verb.name, " a".repeat(count));
            let wrong = meaning(line.as_bytes()) == usage;
            assert_eq!(wrong, count < least || count > most, "{line}");
        }
    }
}

#[test]
fn checks_come_in_order() {
    let utf8 = meaning(b"NOPE \xff");
    assert_eq!(utf8, "ERR bad-request the line is not UTF-8");
    check("NOPE", "ERR bad-request unknown request 'NOPE'; HELP lists what there is");
    check("@x GET a", "ERR bad-request unknown request '@x'; HELP lists what there is");
    check("GET a//b c", "ERR bad-request usage: GET tag");
    check("SET a//b warm x y", "ERR bad-name a level of the name is empty");
    check("SET a/# 1", "ERR bad-name '#' cannot stand in a name");
    check("SET a warm x y", "ERR bad-value 'warm' is not a value; write text as \"warm\"");
    check("SET a 9223372036854775808", "ERR bad-value the number does not fit 64 bits");
    let null = "ERR bad-value null is no value; a broken sensor says SET tag null bad";
    check("SET a null", null);
    check("SET a null good", null);
    check("SET a null 7", null);
    let time = |field: &str| {
        format!("ERR bad-time '{field}' is neither good, uncertain or bad nor milliseconds since 1970")
    };
    check("SET a 1 GOOD", &time("GOOD"));
    check("SET a 1 good now", &time("now"));
    check("SET a 1 good +7", &time("+7"));
    check("SET a 1 7.0", &time("7.0"));
    check("SET a 1 -", &time("-"));
    check("SET a 1 9223372036854775808", &time("9223372036854775808"));
    check("SET a 1 fine 7", "ERR bad-time 'fine' is not a quality: good, uncertain or bad, then the time");
    check("SET a 1 -9223372036854775808", "SET a 1 -9223372036854775808");
    check("HELLO a/b soon", "ERR bad-name a device name is one level, without '/' and '$'");
    check("HELLO a soon", "ERR bad-value 'soon' is not a timeout such as 10s or 500ms");
    check("HELLO a 0s", "ERR bad-value '0s' is not a timeout such as 10s or 500ms");
    check("TRACE a/b", "ERR bad-name a device name is one level, without '/' and '$'");
    check("TRACE a detail", "ERR bad-request usage: TRACE device [detail=yes]");
    check("UNTRACE [::1]", "ERR bad-name '[' cannot stand in a name");
    check("READ a/#/b", "ERR bad-name '+' stands for a whole level, '#' for the last levels of a pattern");
    check("GET ", "ERR bad-request usage: GET tag");
    let name = "a".repeat(256);
    check(&format!("GET {name}"), "ERR bad-name a name has at most 255 bytes");
    assert_eq!(meaning(format!("GET {}", &name[1..]).as_bytes()), format!("GET {}", &name[1..]));
}

#[test]
fn datagrams_take_what_stands_for_itself() {
    for verb in VERBS {
        let fields = if verb.name == "AUTH" || verb.name == "SET" { " a 1" } else { " a" };
        let fields = if verb.usage.is_empty() { "" } else { fields };
        let line = format!("{}{fields}", verb.name);
        let refused = match parse_on(Transport::Datagram, line.as_bytes()) {
            Ok(request) => {
                assert!(request.is_some());
                false
            }
            Err(fault) => {
                assert_eq!(fault.code, Code::BadRequest, "{line}");
                true
            }
        };
        let stream_only = ["SUB", "UNSUB", "HELLO", "AUTH", "TRACE", "UNTRACE", "QUIT"].contains(&verb.name);
        assert_eq!(refused, stream_only, "{line}");
        // Where it cannot be asked at all, the number of fields does not matter.
        let code = parse_on(Transport::Datagram, format!("{line} a a a a a").as_bytes()).err();
        assert_eq!(
            code.map(|fault| fault.to_string().contains("usage")),
            match verb.name {
                "PING" => None,
                _ => Some(!stream_only),
            }
        );
    }
}

/// Every refusal's answer is one short line.
#[test]
fn refusals_have_their_codes() {
    #[track_caller]
    fn check(refusal: Refusal, code: &str) {
        let line = Fault::from(&refusal).to_string();
        let text = line.strip_prefix(&format!("ERR {code} ")).unwrap_or_else(|| panic!("{line}"));
        let text = text.strip_suffix('\n').unwrap();
        assert!(!text.is_empty() && text.len() <= 120, "{line}");
        assert_eq!(text, refusal.to_string(), "nothing is cut off");
    }
    check(Refusal::NoSuchTag, "not-found");
    check(Refusal::NoSuchSubscription, "not-found");
    check(Refusal::ReadOnly, "read-only");
    check(Refusal::ValueOnly, "bad-request");
    check(Refusal::WrongType(Kind::Float), "wrong-type");
    check(Refusal::OutOfRange, "out-of-range");
    check(Refusal::Device { reason: "illegal data address".into(), code: Some(2) }, "device");
    check(Refusal::Timeout, "timeout");
    check(Refusal::Offline, "offline");
    let limits = [
        Limit::Tags(usize::MAX),
        Limit::Text(usize::MAX),
        Limit::Subscriptions(usize::MAX),
        Limit::Connections(usize::MAX),
        Limit::Traces(usize::MAX),
        Limit::PendingWrites(usize::MAX),
    ];
    for limit in limits {
        check(Refusal::Limit(limit), "limit");
    }
}

fn any_time() -> impl Strategy<Value = Option<i64>> {
    prop::option::of(any::<i64>())
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
        any::<String>().prop_map(|text| Value::Text(text.into())),
        Just(Value::Null),
    ]
}

/// The request that `line` is, whatever it is made of.
#[track_caller]
fn parsed(line: &str) -> Request<'_> {
    parse(line.as_bytes()).unwrap_or_else(|fault| panic!("{line:?}: {fault}")).expect("not blank")
}

proptest! {
    #[test]
    fn a_printed_set_reads_back(
        name in "[$]?[a-zA-Z0-9_.:~-]{1,8}(/[a-zA-Z0-9_.:~-]{1,8}){0,4}",
        value in any_value(),
        quality in prop::sample::select(vec![
            None, Some(Quality::Good), Some(Quality::Uncertain), Some(Quality::Bad),
        ]),
        time in any_time(),
    ) {
        let quality = if matches!(value, Value::Null) { Some(Quality::Bad) } else { quality };
        let input = value.as_input();
        let time = time.map(Timestamp);
        let set = Set { name: TagName::parse(&name).unwrap(), value: input, quality, time };
        let line = Request::Set(set).to_string();
        match parsed(&line) {
            Request::Set(read) => {
                prop_assert!(read.value.into_value().same(&value), "{}", line);
                prop_assert_eq!((read.name.as_str(), read.quality, read.time), (&*name, quality, time));
            }
            other => prop_assert!(false, "{}", other),
        }
        prop_assert_eq!(parsed(&line).to_string(), line);
    }

    #[test]
    fn any_printed_request_reads_back(
        which in 0usize..12,
        name in "[$]?[a-z0-9]{1,8}(/[a-z0-9]{1,8}){0,4}",
        pattern in "([a-z]{1,3}/|[+]/){0,4}([a-z]{1,3}|[+]|#)",
        device in "[a-zA-Z0-9_.:~-]{1,20}",
        timeout in prop::option::of(1u64..u64::MAX),
        text in "([^ \t\n]([^\n]{0,20})?)?",
    ) {
        let pattern = Pattern::parse(&pattern).unwrap();
        let request = match which {
            0 => Request::Get(TagName::parse(&name).unwrap()),
            1 => Request::Read(pattern),
            2 => Request::Sub(pattern),
            3 => Request::Unsub(pattern),
            4 => Request::List(pattern),
            5 => Request::Hello(DeviceName::parse(&device).unwrap(), timeout.map(Duration::from_micros)),
            6 => Request::Auth,
            7 => Request::Time,
            8 => Request::Ping(&text),
            9 => Request::Info,
            10 => Request::Help,
            _ => Request::Quit,
        };
        let line = request.to_string();
        let read = parsed(&line);
        prop_assert_eq!(std::mem::discriminant(&read), std::mem::discriminant(&request));
        prop_assert_eq!(&read.to_string(), &line);
        if let (Request::Hello(_, read), Request::Hello(_, asked)) = (&read, &request) {
            prop_assert_eq!(read, asked);
        }
    }

    #[test]
    fn any_line_is_understood_or_refused(
        line in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..100),
            "(SET|GET|PING|HELLO|sub) ?[a/+#$ \t\"\\\\]{0,12}[ -~]{0,8}".prop_map(String::into_bytes),
        ]
    ) {
        for transport in [Transport::Stream, Transport::Datagram] {
            match parse_on(transport, &line) {
                Ok(None) => prop_assert!(line.iter().all(|byte| b" \t".contains(byte))),
                Ok(Some(request)) => {
                    let printed = request.to_string();
                    prop_assert_eq!(parsed(&printed).to_string(), printed);
                }
                Err(fault) => {
                    let line = fault.to_string();
                    let text = line.strip_prefix(&format!("ERR {} ", fault.code.as_str())).unwrap();
                    let text = text.strip_suffix('\n').unwrap();
                    prop_assert!(!text.is_empty() && text.len() <= 120);
                    prop_assert!(!text.contains(char::is_control));
                }
            }
        }
    }
}

/// A conversation: what is asked, and the lines that come back.
#[track_caller]
fn asks(rig: &mut Rig, peer: crate::engine::ConnKey, request: &str, reply: &[&str]) {
    let got = rig.ask(peer, &format!("{request}\n"));
    assert_eq!(got.lines().collect::<Vec<_>>(), reply, "{request}");
}

#[test]
fn read_and_list_are_in_byte_order() {
    let mut rig = Rig::new("line");
    let peer = rig.connect();
    for name in ["b", "a/b", "a.b", "a", "a/B", "a0", "a/b/c", "A", "~"] {
        rig.ask(peer, &format!("SET {name} 1 good 7\n"));
    }
    let names = ["A", "a", "a.b", "a/B", "a/b", "a/b/c", "a0", "b", "~"];
    let expected: Vec<String> =
        names.map(|name| format!("VAL {name} 1 good 7")).into_iter().chain(["OK 9".into()]).collect();
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    asks(&mut rig, peer, "READ #", &expected);
    asks(&mut rig, peer, "READ a/#", &[expected[1], expected[3], expected[4], expected[5], "OK 4"]);
    asks(&mut rig, peer, "READ a", &["VAL a 1 good 7", "OK 1"]);
    asks(&mut rig, peer, "READ x", &["OK 0"]);
    rig.wind_up();
}

#[test]
fn list_tells_type_access_and_source() {
    let settings = RigSettings { owners: vec!["plc".into()], ..RigSettings::default() };
    let mut rig = Rig::with("line", settings);
    let limits = Limits::new(Some(Number::Int(0)), None).unwrap();
    let owner = Some(crate::tags::OwnerId(0));
    rig.declare("d/out", Declaration { kind: Kind::Bool, owner, ..Declaration::default() });
    let access = Access::ReadOnly;
    rig.declare("d/in", Declaration { kind: Kind::Float, owner, access, ..Declaration::default() });
    rig.declare("p/count", Declaration { kind: Kind::Int, limits, ..Declaration::default() });
    rig.declare("p/name", Declaration { kind: Kind::Text, access, ..Declaration::default() });
    let (peer, other) = (rig.connect(), rig.connect());
    rig.ask(peer, "HELLO press3\nSET p/count 5\nSET p/any 1\n");
    rig.ask(other, "SET p/any 2\n");
    let list = [
        "TAG d/in float ro plc",
        "TAG d/out bool rw plc",
        "TAG p/any any rw -",
        "TAG p/count int rw press3",
        "TAG p/name text ro -",
        "OK 5",
    ];
    asks(&mut rig, other, "LIST #", &list);
    rig.half_close(peer);
    rig.settle();
    asks(&mut rig, other, "LIST p/count", &["TAG p/count int rw press3", "OK 1"]);
    asks(&mut rig, other, "SET p/count -1", &["ERR out-of-range the value is outside the tag's limits"]);
    asks(&mut rig, other, "SET p/count 5.0", &["OK"]);
    asks(
        &mut rig,
        other,
        "SET p/count 5.5",
        &["ERR wrong-type the tag's type is int and cannot hold the value"],
    );
    asks(&mut rig, other, "SET p/name 1", &["ERR read-only the tag cannot be written"]);
    asks(&mut rig, other, "LIST p/count", &["TAG p/count int rw -", "OK 1"]);
    asks(&mut rig, other, "GET p/name", &["OK null bad 0"]);
    rig.wind_up();
}

#[test]
fn small_requests() {
    let mut rig = Rig::new("line");
    let peer = rig.connect();
    asks(&mut rig, peer, "AUTH user secret", &["ERR denied this server has no users"]);
    asks(&mut rig, peer, "AUTH user", &["ERR bad-request usage: AUTH user secret"]);
    asks(&mut rig, peer, "PING", &["OK"]);
    asks(&mut rig, peer, "PING  a \t b ", &["OK a \t b "]);
    asks(&mut rig, peer, " \t", &[]);
    rig.advance(Duration::from_millis(1_500));
    asks(&mut rig, peer, "TIME", &[&format!("OK {}", RIG_EPOCH_MS + 1_500)]);
    asks(&mut rig, peer, "GET none", &["ERR not-found no such tag"]);
    rig.send(peer, b"\xff\xfe\nPING\n");
    rig.settle();
    assert_eq!(rig.take(peer), "ERR bad-request the line is not UTF-8\nOK\n", "the connection stays open");
    asks(&mut rig, peer, "quit", &["OK"]);
    assert!(rig.line(peer).finished);
    rig.wind_up();
}

#[test]
fn info_and_help() {
    let mut rig = Rig::new("line");
    let peer = rig.connect();
    rig.ask(peer, "SET a 1\nSUB a\n");
    rig.advance(Duration::from_secs(90));
    let info = rig.ask(peer, "INFO\n");
    let version = format!("INFO version {}", env!("CARGO_PKG_VERSION"));
    let promised = [
        version.as_str(),
        "INFO protocol 1",
        "INFO name rig",
        "INFO uptime_s 90",
        "INFO connections 1",
        "INFO tags 1",
        "INFO requests 3",
        "INFO subscriptions 1",
        "INFO memory_bytes 0",
    ];
    for line in promised {
        assert!(info.lines().any(|told| told == line), "{line}: {info}");
    }
    assert!(info.ends_with(&format!("OK {}\n", info.lines().count() - 1)), "{info}");

    let help = rig.ask(peer, "HELP\n");
    let lines: Vec<&str> = help.lines().collect();
    assert_eq!(lines.len(), VERBS.len() + 1);
    assert_eq!(lines[VERBS.len()], format!("OK {}", VERBS.len()));
    for (line, verb) in lines.iter().zip(VERBS) {
        assert!(line.starts_with(&format!("HELP {}: ", verb.full_usage())), "{line}");
        assert!(line.len() <= 120 && line.len() > verb.full_usage().len() + "HELP : ".len(), "{line}");
    }
    assert!(help.len() <= REPLY_FRAME_BYTES && info.len() <= REPLY_FRAME_BYTES);
    rig.wind_up();
}

#[test]
fn the_longest_line() {
    let too_long = "ERR too-long the line is longer than this server takes (max_line)\n";
    for (keys, most) in [("", DEFAULT_MAX_LINE), ("max_line = 64", 64)] {
        let mut rig = Rig::with("line", RigSettings { keys, ..RigSettings::default() });
        let ping = |bytes: usize| format!("PING {}", "x".repeat(bytes - 5));
        let fits = format!("OK {}\n", "x".repeat(most - 5));
        // The end is not counted, and one CR before it neither; any other CR is.
        let table = [
            (ping(most) + "\n", fits.as_str()),
            (ping(most) + "\r\n", &fits),
            (" ".repeat(most) + "\n", ""),
            (" ".repeat(most) + "\r\n", ""),
            (ping(most + 1) + "\n", too_long),
            (ping(most) + "\r\r\n", too_long),
            (" ".repeat(most + 1) + "\n", too_long),
            // What does not end can be seen to be too long.
            (ping(most), ""),
            (ping(most) + "\r", ""),
            (ping(most + 1), too_long),
            (ping(most) + "\rx", too_long),
            (" ".repeat(most + 1), too_long),
        ];
        for (line, reply) in table {
            for pieces in [1, 2, 7] {
                let peer = rig.connect();
                for piece in line.as_bytes().chunks(line.len().div_ceil(pieces)) {
                    rig.send(peer, piece);
                    rig.settle();
                }
                assert_eq!(rig.take(peer), reply, "{} bytes in {pieces} pieces", line.len());
                assert_eq!(rig.line(peer).finished, reply == too_long);
                if reply == too_long {
                    assert_eq!(rig.ask(peer, "\nPING\n"), "", "the rest is ignored");
                } else if reply.is_empty() && !line.ends_with('\n') {
                    assert_eq!(rig.ask(peer, "\n"), fits);
                }
            }
        }
        rig.wind_up();
    }
}

#[test]
fn limits_of_tags_and_texts() {
    let tags = TagSettings { max_tags: 2, max_text: 16, create_tags: true };
    let mut rig = Rig::with("line", RigSettings { tags, ..RigSettings::default() });
    let peer = rig.connect();
    let long = "ERR limit text: a value has at most 16 bytes (max_text)";
    asks(&mut rig, peer, "SET a \"0123456789abcdefg\"", &[long]);
    asks(&mut rig, peer, "GET a", &["ERR not-found no such tag"]);
    asks(&mut rig, peer, "SET a \"0123456789abcdef\"", &["OK"]);
    asks(&mut rig, peer, "SET a \"0123456789abcd\\u00e9\"", &["OK"]);
    asks(&mut rig, peer, "SET a \"0123456789abcde\\u00e9\"", &[long]);
    asks(&mut rig, peer, "SET b 1", &["OK"]);
    asks(&mut rig, peer, "SET c 1", &["ERR limit tags: this server holds at most 2 (max_tags)"]);
    asks(&mut rig, peer, "SET b 2", &["OK"]);
    rig.wind_up();

    let tags = TagSettings { create_tags: false, ..TagSettings::default() };
    let mut rig = Rig::with("line", RigSettings { tags, ..RigSettings::default() });
    rig.declare("a", Declaration::default());
    let peer = rig.connect();
    asks(&mut rig, peer, "SET a 1", &["OK"]);
    asks(&mut rig, peer, "SET b 1", &["ERR not-found no such tag"]);
    asks(&mut rig, peer, "SET $b 1", &["ERR read-only the tag cannot be written"]);
    asks(&mut rig, peer, "LIST #", &["TAG a any rw -", "OK 1"]);
    rig.wind_up();
}

#[test]
fn values_come_back_as_they_were_written() {
    let mut rig = Rig::new("line");
    let peer = rig.connect();
    let mut runner = proptest::test_runner::TestRunner::default();
    let strategy = any_value().prop_filter("null is no value", |value| !matches!(value, Value::Null));
    for _ in 0..200 {
        let value = proptest::strategy::ValueTree::current(&strategy.new_tree(&mut runner).unwrap());
        asks(&mut rig, peer, &format!("SET a {value} bad -7"), &["OK"]);
        let reply = rig.ask(peer, "GET a\n");
        let printed = reply.strip_prefix("OK ").and_then(|rest| rest.strip_suffix(" bad -7\n")).unwrap();
        assert!(Input::parse(printed).unwrap().into_value().same(&value), "{value} {reply}");
    }
    rig.wind_up();
}
