//! `lumina check` and `lumina serve`: arguments, the configuration file, exit codes, listeners.

use std::net::{TcpListener, TcpStream};

use rustix::process::Signal;

use crate::client::Client;
use crate::server::{Folder, Outcome, Server, run, until};

const GOOD: &str = "
[server]
name = 'press hall'
max_connections = 1000
max_tags = 5000
create_tags = false
max_text = 100
max_subscriptions = 50
buffer_memory = '4MiB'
write_stall = '10s'
shutdown_grace = '500ms'

[[listen]]
url = 'line://127.0.0.1:0'
idle_timeout = '60s'
frame_timeout = '10s'
stale_after = '5s'
max_line = 1000

[[listen]]
url = 'echo://127.0.0.1:0'

[[tag]]
name = 'press/temperature'
type = 'float'
access = 'rw'
initial = 20.5
min = -40
max = 400.0
stale_after = '5s'
description = 'at the upper plate'
units = '°C'

[[tag]]
name = 'press/serial'
type = 'text'
access = 'ro'
initial = 'P-7'
";

#[test]
fn a_good_configuration() {
    let dir = Folder::new();
    dir.write("good.toml", GOOD);
    let outcome = run(&dir, &["check", "--config", "good.toml"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    // It prints what would run.
    for part in ["line://127.0.0.1:0", "echo://127.0.0.1:0"] {
        assert!(outcome.stdout.contains(part), "{part}: {}", outcome.stdout);
    }

    let server = Server::with(GOOD);
    let mut client = server.client();
    client.send("READ #\nSET other 1\nINFO\n");
    client.expect("VAL press/serial \"P-7\" good *");
    client.expect("VAL press/temperature 20.5 good *");
    client.expect("OK 2");
    client.expect("ERR not-found");
    assert!(client.reply().contains(&"INFO name press hall".to_owned()));
}

/// What cannot be polled as often as configured is a warning.
#[test]
fn check_says_whether_rates_can_be_met() {
    const LINE: &str = "
[[device]]
name = 'meter7'
url = 'modbus://127.0.0.1:502'
min_gap = '5ms'
[[device.tag]]
name = 'voltage'
address = 'holding:0'
type = 'u16'
rate = '40ms'
";
    let dir = Folder::new();
    dir.write("line.toml", LINE);
    #[rustfmt::skip]
    let table: [(&[&str], &str, &str); 3] = [
        (&[],                       "the device meter7, 25.0 requests/s of 40.0 at most",
                                    ""),
        (&["--round-trip", "50ms"], "25.0 requests/s of 18.2 at most",
                                    "meter7 cannot be read as often as configured: voltage: 40ms"),
        (&["--round-trip", "1.5s"], "of 0.7 at most",
                                    "voltage: no reply comes within the timeout"),
    ];
    for (arguments, said, warned) in table {
        let outcome = run(&dir, &[&["check", "--config", "line.toml"], arguments].concat());
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
        assert!(outcome.stdout.contains(said), "{said}: {}", outcome.stdout);
        let warning = outcome.stdout.lines().find_map(|line| line.strip_prefix("warning: "));
        assert!(warning.unwrap_or_default().contains(warned), "{warned}: {}", outcome.stdout);
        assert_eq!(warning.is_some(), !warned.is_empty(), "{}", outcome.stdout);
    }
    assert_eq!(run(&dir, &["check", "--config", "line.toml", "--round-trip", "soon"]).code, Some(2));
}

/// That a name cannot be looked up now is a warning, for it is looked up again; what is no name is a mistake.
#[test]
fn check_looks_names_up() {
    let device = |name: &str, url: &str| {
        format!(
            "[[device]]\nname = '{name}'\nurl = '{url}'\n[[device.tag]]\nname = 'a'\naddress = 'coil:1'\n"
        )
    };
    let dir = Folder::new();
    let urls = ["modbus://localhost:1502", "modbus+udp://Nowhere.invalid", "modbus://127.0.0.1:1502"];
    let text: String = ["a", "b", "c"].iter().zip(urls).map(|(name, url)| device(name, url)).collect();
    dir.write("names.toml", &text);
    let outcome = run(&dir, &["check", "--config", "names.toml"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let warnings: Vec<&str> =
        outcome.stdout.lines().filter_map(|line| line.strip_prefix("warning: names.toml:")).collect();
    let [unknown, same] = warnings[..] else { panic!("{}", outcome.stdout) };
    assert!(unknown.starts_with("9:7: 'nowhere.invalid' cannot be looked up now: "), "{unknown}");
    assert!(unknown.ends_with("; the server tries again whenever it connects"), "{unknown}");
    assert!(same.starts_with("15:7: this is where modbus://localhost:1502 leads"), "{same}");

    for url in ["modbus://10.0.0.300", "modbus://meter..local:502", "modbus://meter 7", "modbus-rtu://:502"] {
        check_errors(&device("a", url), &[(3, "is neither an address nor a name")]);
    }
    check_errors(&device("a", "modbus://meter7:70000"), &[(3, "'70000' is not a port")]);
}

/// Line by line what is wrong; all of it is told at once, each at its place.
#[test]
fn all_errors_at_once() {
    #[rustfmt::skip]
    let table: [(&str, &str); 24] = [
        ("[server]",                             ""),
        ("name = 5",                             "name"),
        ("max_conections = 10",                  "max_connections"),
        ("max_tags = 'many'",                    "max_tags"),
        ("max_text = -1",                        "max_text"),
        ("create_tags = 'yes'",                  "create_tags"),
        ("buffer_memory = '16 apples'",          "buffer_memory"),
        ("write_stall = 'soon'",                 "write_stall"),
        ("shutdown_grace = 5",                   "shutdown_grace"),
        ("[[listen]]",                           ""),
        ("url = 'lime://127.0.0.1:0'",           "line"),
        ("[[listen]]",                           ""),
        ("url = 'line://127.0.0.1:99999'",       "99999"),
        ("[[listen]]",                           ""),
        ("url = 'echo://127.0.0.1:0'",           ""),
        ("idle_timeot = '5s'",                   "idle_timeout"),
        ("[[tag]]",                              ""),
        ("name = 'press//temperature'",          "name"),
        ("type = 'number'",                      "float"),
        ("access = 'wr'",                        "rw"),
        ("stale_after = '-5s'",                  "stale_after"),
        ("[[tags]]",                             "tag"),
        ("[[tag]]",                              ""),
        ("name = 'press/ok'",                    ""),
    ];
    let text: String = table.iter().map(|(line, _)| format!("{line}\n")).collect();
    let expected: Vec<_> = table
        .iter()
        .enumerate()
        .filter(|(_, (_, word))| !word.is_empty())
        .map(|(at, row)| (at + 1, row.1))
        .collect();
    check_errors(&text, &expected);
}

/// One error each: what is only seen when keys are compared with one another.
#[test]
fn errors_of_tags() {
    #[rustfmt::skip]
    let table: [(&str, usize, &str); 10] = [
        ("[[tag]]\ntype = 'int'",                                                  1, "name"),
        ("[[tag]]\nname = 'a'\ntype = 'int'\ninitial = 'x'",                       4, "int"),
        ("[[tag]]\nname = 'a'\ntype = 'int'\ninitial = 1.5",                       4, "int"),
        ("[[tag]]\nname = 'a'\ntype = 'bool'\ninitial = 1",                        4, "bool"),
        ("[[tag]]\nname = 'a'\ntype = 'int'\nmax = 5\ninitial = 6",                5, "max"),
        ("[[tag]]\nname = 'a'\ntype = 'float'\nmin = 2.0\nmax = 1.0",              0, "m"),
        ("[[tag]]\nname = 'a'\ntype = 'int'\n[[tag]]\nname = 'a'\ntype = 'int'",   5, "a"),
        ("[[tag]]\nname = '$a'\ntype = 'int'",                                     2, "name"),
        ("[[tag]]\nname = 'a/#'\ntype = 'int'",                                    2, "name"),
        ("[[tag]]\nname = 'a'\ntype = 'int'\ndescription = 5",                     4, "description"),
    ];
    for (text, line, word) in table {
        check_errors(text, &[(line, word)]);
    }
}

/// What `check` calls fine must start.
#[test]
fn more_tags_than_are_allowed() {
    let tags: String = (0..101).map(|number| format!("[[tag]]\nname = 'tag/{number}'\n")).collect();
    check_errors(&format!("[server]\nmax_tags = 100\n{tags}"), &[(0, "max_tags")]);
}

#[test]
fn errors_of_syntax_do_not_hide_others() {
    check_errors("[server]\nname = = 5\nmax_tags = 'many'\n", &[(2, ""), (3, "max_tags")]);
    check_errors("[server]\nmax_tags = 5\nmax_tags = 6\n", &[(3, "max_tags")]);
    check_errors("[server\n", &[(1, "")]);
}

#[test]
fn check_reads_lumina_toml_where_none_is_named() {
    let dir = Folder::new();
    let missing = run(&dir, &["check"]);
    assert_eq!(missing.code, Some(2), "{}", missing.stdout);
    assert!(missing.stderr.contains("lumina.toml"), "{}", missing.stderr);

    dir.write("lumina.toml", GOOD);
    let good = run(&dir, &["check"]);
    assert_eq!(good.code, Some(0), "{}", good.stderr);
    assert!(good.stdout.contains("echo://127.0.0.1:0"), "{}", good.stdout);

    // Nothing configured: the default listener.
    dir.write("lumina.toml", "");
    let empty = run(&dir, &["check"]);
    assert_eq!(empty.code, Some(0), "{}", empty.stderr);
    assert!(empty.stdout.contains("line://127.0.0.1:5000"), "{}", empty.stdout);
}

#[test]
fn serve_reads_a_configuration_only_where_one_is_named() {
    let dir = Folder::new();
    let missing = run(&dir, &["serve", "--config", "elsewhere.toml"]);
    assert_eq!(missing.code, Some(2), "{}", missing.stderr);
    assert!(missing.stderr.contains("elsewhere.toml"), "{}", missing.stderr);
    assert!(!missing.stdout.contains("listening on"), "{}", missing.stdout);

    // A lumina.toml full of errors lies there and is not looked at; the port in use ends this one.
    dir.write("lumina.toml", "nonsense");
    let busy = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("line://{}", busy.local_addr().expect("a bound port"));
    assert_eq!(run(&dir, &["serve", "--listen", &url]).code, Some(1));
}

#[test]
fn wrong_usage() {
    let dir = Folder::new();
    for args in [
        &["frobnicate"][..],
        &["serve", "--bogus"],
        &["serve", "extra"],
        &["serve", "--listen"],
        &["serve", "--listen", "nonsense"],
        &["serve", "--listen", "line://"],
        &["serve", "--listen", "lime://127.0.0.1:0"],
        &["serve", "--log", "loud", "--listen", "line://127.0.0.1:0"],
        &["check", "--bogus"],
    ] {
        let Outcome { code, stdout, stderr } = run(&dir, args);
        assert_eq!(code, Some(2), "{args:?}\n{stdout}\n{stderr}");
        assert!(!stderr.is_empty(), "{args:?} says nothing");
        assert!(!stdout.contains("listening on"), "{args:?} listened");
    }
    let outcome = run(&dir, &["serve", "--listen", "lime://127.0.0.1:0"]);
    assert!(outcome.stderr.contains("line"), "no schemes named: {}", outcome.stderr);
}

#[test]
fn help_and_version() {
    let dir = Folder::new();
    #[rustfmt::skip]
    let table: [(&[&str], &[&str]); 4] = [
        (&["--help"],          &["serve", "check", "--version"]),
        (&["serve", "--help"], &["--config", "--listen", "--log"]),
        (&["check", "--help"], &["--config"]),
        (&["--version"],       &["lumina", env!("CARGO_PKG_VERSION")]),
    ];
    for (args, words) in table {
        let outcome = run(&dir, args);
        assert_eq!(outcome.code, Some(0), "{args:?}\n{}", outcome.stderr);
        for word in words {
            assert!(outcome.stdout.contains(word), "{args:?}: no {word} in {}", outcome.stdout);
        }
    }
}

/// All listeners are bound before any accepts: with one that cannot be, the server does not start at all.
#[test]
fn a_port_in_use() {
    let dir = Folder::new();
    let busy = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = busy.local_addr().expect("a bound port").to_string();
    let url = format!("line://{addr}");
    let outcome = run(&dir, &["serve", "--listen", "line://127.0.0.1:0", "--listen", &url]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains(&addr), "{}", outcome.stderr);
    assert!(!outcome.stdout.contains("listening on"), "{}", outcome.stdout);
}

#[test]
fn an_address_in_use_by_another_server_and_free_after_it() {
    let dir = Folder::new();
    let mut first = Server::start();
    let url = format!("line://{}", first.addr(0));
    // A connection that the server closes leaves the address in TIME_WAIT, which must not matter.
    let mut client = first.client();
    assert_eq!(client.ask_one("QUIT"), "OK");
    client.expect_end();
    assert_eq!(run(&dir, &["serve", "--listen", &url]).code, Some(1));
    first.signal(Signal::TERM);
    assert_eq!(first.wait_for_exit().code(), Some(0));
    let second = Server::build().listen(&url).start();
    assert_eq!(second.client().ask_one("PING"), "OK");
}

#[test]
fn several_listeners_serve_the_same_tags() {
    let server = Server::build().listen("line://127.0.0.1:0").listen("line://127.0.0.1:0").start();
    assert_ne!(server.addr(0), server.addr(1));
    let (mut one, mut two) = (Client::connect(server.addr(0)), Client::connect(server.addr(1)));
    assert_eq!(one.ask_one("SET a 1 good 7"), "OK");
    assert_eq!(two.ask_one("GET a"), "OK 1 good 7");
}

#[test]
fn ipv6() {
    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("not tested: this machine has no ::1");
        return;
    }
    let server = Server::build().listen("line://[::1]:0").listen("line://127.0.0.1:0").start();
    assert!(server.addr(0).is_ipv6());
    for index in [0, 1] {
        assert_eq!(Client::connect(server.addr(index)).ask_one("PING"), "OK");
    }
    // A listener on every IPv6 address leaves IPv4 to others.
    let all = Server::build().listen("line://[::]:0").start();
    assert_eq!(
        Client::connect((std::net::Ipv6Addr::LOCALHOST, all.addr(0).port()).into()).ask_one("PING"),
        "OK"
    );
    assert!(TcpStream::connect(("127.0.0.1", all.addr(0).port())).is_err(), "it took IPv4 as well");
}

/// Tags that are too old between two polls are hardly meant so.
#[test]
fn check_warns_of_a_stale_after_below_the_rate() {
    let config = |stale_after: &str| {
        format!(
            "[[device]]\nname = 'm'\nurl = 'modbus://127.0.0.1'\nstale_after = '{stale_after}'\n\
             [[device.tag]]\nname = 'a'\naddress = 'coil:0'\nrate = '2s'\n"
        )
    };
    let dir = Folder::new();
    for (stale_after, is_warned) in [("1s", true), ("2s", false)] {
        dir.write("stale.toml", &config(stale_after));
        let outcome = run(&dir, &["check", "--config", "stale.toml"]);
        let warning = "warning: stale.toml:4: 'stale_after' is 1s, and m/a is read each 2s only";
        assert_eq!(
            (outcome.code, outcome.stdout.contains(warning)),
            (Some(0), is_warned),
            "{}",
            outcome.stdout
        );
    }
}

#[test]
fn an_address_that_is_not_loopback_is_warned_of() {
    let open = Server::build().listen("line://0.0.0.0:0").start();
    let warned = |server: &Server| {
        server.stderr().lines().any(|line| line.contains("WARN") && line.contains("0.0.0.0"))
    };
    until("there is a warning", || warned(&open));
    let mut client = Client::connect(([127, 0, 0, 1], open.addr(0).port()).into());
    assert_eq!(client.ask_one("PING"), "OK");

    let mut own = Server::start();
    assert_eq!(own.client().ask_one("PING"), "OK");
    own.signal(Signal::TERM);
    own.wait_for_exit();
    assert!(!own.stderr().contains("WARN"), "a warning of nothing");
}

/// `serve` and `check` both refuse `text`, and name exactly these lines, each with a word. Line 0 leaves it
/// open which of two keys is to blame; a word left empty marks a line that is not TOML at all.
#[track_caller]
fn check_errors(text: &str, expected: &[(usize, &str)]) {
    let dir = Folder::new();
    dir.write("bad.toml", text);
    for command in ["check", "serve"] {
        let Outcome { code, stdout, stderr } = run(&dir, &[command, "--config", "bad.toml"]);
        assert_eq!(code, Some(2), "{command} of\n{text}\n{stdout}\n{stderr}");
        assert!(!stdout.contains("listening on"), "{command} listened");
        let mut errors: Vec<_> = stderr.lines().filter_map(|line| line.strip_prefix("bad.toml:")).collect();
        for (line, word) in expected {
            let found = errors.iter().position(|error| {
                let (at, column, what) = place(error);
                (*line == 0 || at == *line) && column > 0 && what.contains(word)
            });
            let Some(found) = found else { panic!("no error of line {line} with {word:?} in\n{stderr}") };
            errors.remove(found);
        }
        // One fault of syntax may be told in several ways, in its own line.
        errors.retain(|error| !expected.contains(&(place(error).0, "")));
        assert!(errors.is_empty(), "{command}: not expected: {errors:?}\nof\n{text}");
    }
}

/// `3:14: what is wrong` → (3, 14, what is wrong).
fn place(error: &str) -> (usize, usize, &str) {
    let mut parts = error.splitn(3, ':');
    let mut number = || parts.next().and_then(|part| part.parse().ok());
    let (line, column) = (number(), number());
    match (line, column, parts.next()) {
        (Some(line), Some(column), Some(what)) if what.starts_with(' ') => (line, column, what),
        _ => panic!("no line:column: in {error:?}"),
    }
}
