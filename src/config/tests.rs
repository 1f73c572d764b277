//! Configuration files, good and bad.

use super::*;

fn parse(text: &str) -> Result<Config, Vec<ConfigError>> {
    Config::parse("f", text, &[])
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|errors| panic!("{text}\n{errors:?}"))
}

/// All that is wrong with a file, and nothing else.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let errors: Vec<String> = parse(text).err().unwrap_or_default().iter().map(ToString::to_string).collect();
    assert_eq!(errors, expected, "{text}");
}

#[test]
fn an_empty_file_is_all_defaults() {
    let Config { server, listeners, services, fleet: _, tags, warnings: _ } = good("");
    let default = ServerConfig::default();
    assert_eq!(format!("{server:?}"), format!("{default:?}"));
    assert_eq!((&*server.name, server.max_connections, server.buffer_memory), ("lumina", 65_536, 16 << 20));
    assert_eq!((server.tags.max_tags, server.tags.max_text, server.tags.create_tags), (100_000, 1_024, true));
    assert_eq!((server.trace_memory, server.shutdown_grace), (8 << 20, Duration::from_secs(5)));
    assert_eq!((listeners.len(), listeners[0].url.to_string().as_str()), (1, DEFAULT_LISTENER));
    assert_eq!((listeners[0].idle_timeout, listeners[0].stale_after), (None, None));
    assert_eq!(listeners[0].frame_timeout, Duration::from_secs(30));
    let KeepAlive { time, interval, retries } = listeners[0].keep_alive;
    assert_eq!((time.as_secs(), interval.as_secs(), retries), (60, 10, 3));
    assert!(tags.is_empty() && services.is_empty());
}

#[test]
fn what_is_no_number_of_shards() {
    let table =
        [("0", "integer 0"), ("2.5", "float 2.5"), ("true", "boolean true"), ("'many'", "text \"many\"")];
    for (value, shown) in table {
        let expected = format!("f:2:10: 'shards' is the {shown}, expected a number from 1 to 64, or auto");
        check(&format!("[server]\nshards = {value}"), &[&expected]);
    }
}

#[test]
fn every_key() {
    let Config { server, listeners, services: _, fleet: _, tags, warnings: _ } = good(
        "[server]
        name = 'hall 2'
        max_connections = 10
        max_subscriptions = 11
        max_udp_peers = 12
        max_tags = 13
        max_text = 16
        create_tags = false
        buffer_memory = '1MiB'
        trace_memory = '64KiB'
        write_stall = '1.5s'
        shutdown_grace = '0s'
        [[listen]]
        url = 'line://127.0.0.1:0'
        idle_timeout = '10m'
        frame_timeout = '1s'
        stale_after = '1h'
        max_line = 64
        keepalive = '1m'
        keepalive_interval = '2s'
        keepalive_retries = 4
        [[listen]]
        url = 'echo://[::1]'
        [[listen]]
        url = 'line+udp://127.0.0.1:7000'
        [[tag]]
        name = 'a/b'
        type = 'float'
        access = 'ro'
        initial = 20
        min = -40
        max = 250.5
        stale_after = '30s'
        description = 'oil'
        units = '°C'
        [[tag]]
        name = 'a'",
    );
    assert_eq!((&*server.name, server.max_connections, server.max_subscriptions), ("hall 2", 10, 11));
    assert_eq!((server.max_udp_peers, server.tags.max_tags, server.tags.max_text), (12, 13, 16));
    assert_eq!((server.tags.create_tags, server.buffer_memory), (false, 1 << 20));
    assert_eq!(server.trace_memory, 64 << 10);
    assert_eq!((server.write_stall, server.shutdown_grace), (Duration::from_millis(1_500), Duration::ZERO));

    let [line, echo, datagrams] = &listeners[..] else { panic!("{} listeners", listeners.len()) };
    assert_eq!((line.url.protocol.scheme, line.idle_timeout), ("line", Some(Duration::from_secs(600))));
    assert_eq!((line.frame_timeout.as_secs(), line.stale_after), (1, Some(Duration::from_secs(3_600))));
    assert_eq!((line.keep_alive.time.as_secs(), line.keep_alive.interval.as_secs()), (60, 2));
    assert_eq!(line.keep_alive.retries, 4);
    assert_eq!(echo.url.addresses, ["[::1]:5000".parse().unwrap()], "the protocol's own port");
    assert_eq!(datagrams.url.addresses, ["127.0.0.1:7000".parse().unwrap()]);
    assert_eq!(datagrams.idle_timeout, Some(Duration::from_secs(30)), "such peers never say goodbye");

    let tags: Vec<DeclaredTag> = tags.into_iter().collect();
    assert_eq!((&*tags[0].name, tags[0].declaration.kind, tags[0].declaration.access), {
        ("a/b", Kind::Float, Access::ReadOnly)
    });
    assert!(tags[0].initial.as_ref().is_some_and(|value| value.same(&Value::Float(20.0))), "converted");
    let limits = Limits::new(Some(Number::Int(-40)), Some(Number::Float(250.5)));
    assert_eq!(Some(tags[0].declaration.limits), limits);
    assert_eq!(tags[0].declaration.stale_after, Some(Duration::from_secs(30)));
    assert_eq!((&*tags[0].declaration.description, &*tags[0].declaration.units), ("oil", "°C"));
    assert_eq!((tags[1].declaration.kind, tags[1].declaration.access), (Kind::Any, Access::ReadWrite));
    assert!(tags[1].initial.is_none());
}

#[test]
fn the_example_is_good() {
    let config = good(include_str!("../../lumina.toml"));
    assert!(!config.listeners.is_empty() && !config.tags.is_empty());
}

#[test]
fn listeners_of_the_command_line() {
    let urls = |text: &str, listen: &[&str]| -> Vec<String> {
        let listen: Vec<String> = listen.iter().map(|url| (*url).to_owned()).collect();
        match Config::parse("f", text, &listen) {
            Ok(config) => config.listeners.iter().map(|listener| listener.url.to_string()).collect(),
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        }
    };
    let echo = "echo://127.0.0.1:0";
    assert_eq!(urls("", &[echo]), [echo], "then there is no default");
    let file = "[[listen]]\nurl = 'line://127.0.0.1:0'\n";
    assert_eq!(urls(file, &[]), ["line://127.0.0.1:0"]);
    assert_eq!(urls(file, &[echo, echo]), ["line://127.0.0.1:0", echo, echo]);
    let wrong = [
        "f:1:15: 'name' is the integer 5, expected text in quotes",
        "--listen:1:7: 'url': unknown protocol 'lime', expected one of line, line+udp, modbus, \
             modbus+udp, modbus-rtu, echo",
        "--listen:1:7: 'url': 'x' is not a listener, expected one such as line://127.0.0.1:5000",
    ];
    assert_eq!(urls("server.name = 5\n", &["lime://127.0.0.1", echo, "x"]), wrong);
    assert_eq!(urls("", &["lime://127.0.0.1", echo, "x"]), wrong[1..]);
}

#[test]
fn urls_of_listeners() {
    #[track_caller]
    fn check(url: &str, expected: Result<&str, &str>) {
        let got = ListenUrl::parse(url).map(|url| url.addresses[0].to_string());
        match expected {
            Ok(address) => assert_eq!(got.as_deref(), Ok(address), "{url}"),
            Err(wrong) => assert!(got.as_ref().is_err_and(|error| error.contains(wrong)), "{url}: {got:?}"),
        }
    }
    check("line://127.0.0.1:5000", Ok("127.0.0.1:5000"));
    check("line://127.0.0.1:0/", Ok("127.0.0.1:0"));
    check("line://127.0.0.1", Ok("127.0.0.1:5000"));
    check("echo://[::1]:7", Ok("[::1]:7"));
    check("echo://[::1]", Ok("[::1]:5000"));
    check("line://0.0.0.0:1", Ok("0.0.0.0:1"));
    check("", Err("'' is not a listener"));
    check("127.0.0.1:5000", Err("is not a listener"));
    check("LINE://127.0.0.1:5000", Err("unknown protocol 'LINE'"));
    check("line://127.0.0.1:99999", Err("'99999' is not a port"));
    check("line://127.0.0.1:", Err("'' is not a port"));
    check("line://127.0.0.1:-1", Err("'-1' is not a port"));
    check("line://", Err("is no address"));
    check("line://256.0.0.1:1", Err("'256.0.0.1' is no address"));
    let shown = |url| ListenUrl::parse(url).map(|url| url.to_string());
    assert_eq!(shown("modbus://[::1]").as_deref(), Ok("modbus://[::1]:502"));
    assert_eq!(shown("line://127.0.0.1:7/").as_deref(), Ok("line://127.0.0.1:7"));
}

#[test]
fn all_errors_at_once() {
    check(
        "[server]
name = 5
max_conections = 10
max_tags = 'many'
max_text = 8
create_tags = 'yes'
buffer_memory = '16 apples'
write_stall = '0s'
shutdown_grace = 5
[[listen]]
idle_timeout = '5s'
[[listen]]
url = 'lime://127.0.0.1:0'
[[listen]]
url = 'line://127.0.0.1:0'
idle_timeot = '5s'
max_line = 20000
keepalive_retries = 0
[[listen]]
url = 'echo://127.0.0.1:0'
max_line = 100
[[tag]]
name = 'a//b'
type = 'number'
access = 'wr'
stale_after = '-5s'
[tags]
",
        &[
            "f:2:8: 'name' is the integer 5, expected text in quotes",
            "f:3:1: unknown key 'max_conections', did you mean 'max_connections'?",
            "f:4:12: 'max_tags' is the text \"many\", expected an integer from 1 to 16000000",
            "f:5:12: 'max_text' is the integer 8, expected an integer from 16 to 4096",
            "f:6:15: 'create_tags' is the text \"yes\", expected true or false",
            "f:7:17: 'buffer_memory': '16 apples' is not a size, expected a number and a unit such as 512B, \
             64KiB or 16MiB",
            "f:8:15: 'write_stall' is the text \"0s\", expected a duration above zero",
            "f:9:18: 'shutdown_grace' is the integer 5, expected a duration in quotes such as \"500ms\" or \
             \"10s\"",
            "f:10:1: 'url' is missing in listen[1], expected such as \"line://127.0.0.1:5000\"",
            "f:13:7: 'url': unknown protocol 'lime', expected one of line, line+udp, modbus, \
             modbus+udp, modbus-rtu, echo",
            "f:16:1: unknown key 'idle_timeot', did you mean 'idle_timeout'?",
            "f:17:12: 'max_line' is the integer 20000, expected an integer from 64 to 16384",
            "f:18:21: 'keepalive_retries' is the integer 0, expected an integer from 1 to 100",
            "f:21:1: unknown key 'max_line', expected one of 'url', 'idle_timeout', 'frame_timeout', \
             'stale_after', 'read', 'write', 'keepalive', 'keepalive_interval', 'keepalive_retries', \
             'max_connections'",
            "f:23:8: 'name': a level of the name is empty",
            "f:24:8: 'type': 'number' is unknown, expected one of 'any', 'bool', 'int', 'float', 'text'",
            "f:25:10: 'access': 'wr' is unknown, did you mean 'rw'? Expected one of 'rw', 'ro'",
            "f:26:15: 'stale_after': '-5s' is not a duration, expected a number and a unit such as 500ms, \
             1.5s, 10m, 2h or 1d",
            "f:27:2: unknown key 'tags', did you mean 'tag'?",
        ],
    );
}

#[test]
fn errors_of_tags() {
    let tag = |keys: &str| format!("[[tag]]\nname = 'a'\n{keys}");
    check("[[tag]]", &["f:1:1: 'name' is missing in tag[1], expected such as \"line1/press3/temperature\""]);
    check("[[tag]]\nname = '$a'", &["f:2:8: 'name': names that begin with $ are the server's own"]);
    check("[[tag]]\nname = 'a/#'", &["f:2:8: 'name': '#' cannot stand in a name"]);
    check(
        "[[tag]]\nname = 'a'\n[[tag]]\nname = 'b'\n[[tag]]\nname = 'a'\n[[tag]]\nname = 'a'",
        &[
            "f:6:8: the tag 'a' is declared already, in line 2",
            "f:8:8: the tag 'a' is declared already, in line 6",
        ],
    );
    for (keys, wrong) in [
        ("type = 'int'\ninitial = 'x'", "f:4:11: 'initial' does not fit the tag's type, int"),
        ("type = 'int'\ninitial = 1.5", "f:4:11: 'initial' does not fit the tag's type, int"),
        ("type = 'bool'\ninitial = 1", "f:4:11: 'initial' does not fit the tag's type, bool"),
        ("max = 5\ninitial = 6", "f:4:11: 'initial' is outside 'min' and 'max'"),
        ("min = 5\ninitial = nan", "f:4:11: 'initial' is outside 'min' and 'max'"),
        ("min = 2\nmax = 1.5", "f:4:7: 'max' is below 'min'"),
        ("min = nan", "f:3:7: 'min' is not a number"),
        ("max = '5'", "f:3:7: 'max' is not a number"),
        ("initial = [1]", "f:3:11: 'initial' is a list, expected text, a number, true or false"),
        ("description = 5", "f:3:15: 'description' is the integer 5, expected text in quotes"),
    ] {
        check(&tag(keys), &[wrong]);
    }
    let long = format!("initial = '{}'", "x".repeat(1_025));
    check(&tag(&long), &["f:3:11: 'initial' is longer than 1024 bytes (max_text)"]);
    check(
        "[server]\nmax_tags = 1\n[[tag]]\nname = 'a'\n[[tag]]\nname = 'b'\n[[tag]]\nname = 'c'",
        &["f:6:8: there are more than 1 tags (max_tags)"],
    );
    for good in ["type = 'int'\ninitial = 2.0", "initial = inf", "min = 1\nmax = 1.0\ninitial = 1"] {
        check(&tag(good), &[]);
    }
}

#[test]
fn frames_are_kept_in_enough_memory_or_none() {
    let wrong = "f:1:23: 'trace_memory' is too small; expected at least 64KiB, or 0B for none";
    check("server.trace_memory = '63KiB'", &[wrong]);
    check("server.trace_memory = '0B'", &[]);
}

#[test]
fn names_of_the_server_are_one_line() {
    let wrong = "f:1:15: 'name': expected 1 to 255 bytes without control characters";
    check("server.name = \"a\\nINFO x\"", &[wrong]);
    check("server.name = ''", &[wrong]);
    check(&format!("server.name = '{}'", "x".repeat(256)), &[wrong]);
    check("server.name = 'Halle 2, Süd'", &[]);
}
