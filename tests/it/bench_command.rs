//! `lumina bench`: load on real servers of both protocols, and on servers that are wrong, cut or stall.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal};

use crate::modbus::Master;
use crate::server::{Folder, Outcome, Server, run, until};
use crate::slave::{Framing, Request, Slave};
use crate::terminal::Terminal;

const SHORT: [&str; 4] = ["--duration", "300ms", "--warm-up", "50ms"];

/// A short run, unless the arguments say how long, which prints an object.
fn json(url: &str, args: &[&str]) -> Outcome {
    let span = if args.contains(&"--duration") { &[][..] } else { &SHORT[..] };
    measured(&Folder::new(), &[&["bench", "--json", url], span, args].concat())
}

/// A run for which the machine had a processor: one that had none shows nothing, and says so.
fn measured(dir: &Folder, args: &[&str]) -> Outcome {
    loop {
        let outcome = run(dir, args);
        if !outcome.stderr.contains("while the client had no processor") {
            return outcome;
        }
    }
}

/// Wait until the run's requests go out: the server has read more than those that prepare it, and those that
/// are asked here.
fn until_it_measures(server: &Server) {
    const PREPARING: u64 = 1_001;
    let mut client = server.client();
    let mut own = 0;
    until("it measures", || {
        own += 1;
        let line = client.ask_one("GET $server/requests");
        let all: u64 = line.split(' ').nth(1).and_then(|count| count.parse().ok()).expect("a count");
        all > PREPARING + own + 50
    });
}

/// What stands behind a key of the object.
#[track_caller]
fn value<'a>(outcome: &'a Outcome, key: &str) -> &'a str {
    let value = outcome.stdout.split_once(&format!("\"{key}\":")).map(|(_, rest)| rest);
    let value = value.and_then(|value| value.split([',', '}']).next());
    value.unwrap_or_else(|| panic!("no {key}: {}{}", outcome.stdout, outcome.stderr))
}

#[track_caller]
fn number(outcome: &Outcome, key: &str) -> f64 {
    value(outcome, key).parse().unwrap_or_else(|_| panic!("{key} is no number: {}", outcome.stdout))
}

/// It ended well: all was answered, and the figures fit together.
#[track_caller]
fn check_well(outcome: &Outcome) {
    let all = format!("{}{}", outcome.stdout, outcome.stderr);
    assert_eq!(outcome.code, Some(0), "{all}");
    assert_eq!(outcome.stdout.lines().count(), 1, "one object in one line: {all}");
    for key in ["errors", "refused", "wrong", "unanswered", "lost_connections"] {
        assert_eq!(number(outcome, key), 0.0, "{key}: {all}");
    }
    assert!(number(outcome, "requests") > 0.0, "{all}");
    assert_eq!(number(outcome, "requests"), number(outcome, "reads") + number(outcome, "writes"), "{all}");
    for row in ["requests", "reads", "writes", "updates"] {
        let figures = ["p50", "p90", "p99", "p999", "max"].map(|figure| format!("{row}_{figure}_us"));
        if number(outcome, row) == 0.0 {
            assert!(figures.iter().all(|key| value(outcome, key) == "null"), "{row}: {all}");
            continue;
        }
        let figures = figures.map(|key| number(outcome, &key));
        assert!(figures.is_sorted() && figures[0] > 0.0, "{row}: {all}");
    }
}

fn line(server: &Server) -> String {
    format!("line://{}", server.addr(0))
}

fn modbus() -> (Server, String) {
    let server = Server::build().listen("modbus://127.0.0.1:0").start();
    let url = format!("modbus://{}", server.addr(0));
    (server, url)
}

#[test]
fn closed_loops() {
    let server = Server::start();
    for args in [
        &["--connections", "10"][..],
        &["--connections", "3", "--pipeline", "100", "--writes", "20%"],
        &["--connections", "20", "--tags", "7", "--name", "shared"],
        &[
            "--connections",
            "2",
            "--pipeline",
            "50",
            "--value-bytes",
            "1000",
            "--tags",
            "50",
            "--name",
            "text",
        ],
        &["--writes", "0", "--name", "read"],
    ] {
        let outcome = json(&line(&server), args);
        check_well(&outcome);
        assert_eq!(value(&outcome, "rate"), "null", "{}", outcome.stdout);
        assert_eq!(number(&outcome, "duration_s"), 0.3);
        assert_eq!(number(&outcome, "writes") > 0.0, !args.contains(&"0"), "{}", outcome.stdout);
    }
    let mut client = server.client();
    for (name, tags) in [("bench", 1_000), ("shared", 7), ("text", 50), ("read", 1_000)] {
        assert_eq!(client.ask(&format!("READ {name}/+")).len(), tags + 1, "{name}");
    }
    let text = client.ask_one("GET text/49");
    assert_eq!(text.find(" good "), Some("OK \"\"".len() + 1_000), "{text}");
}

#[test]
fn an_open_loop_sends_what_is_due() {
    let server = Server::start();
    let args = ["--rate", "400", "--connections", "7", "--duration", "500ms", "--warm-up", "50ms"];
    let outcome = json(&line(&server), &args);
    check_well(&outcome);
    let due = number(&outcome, "requests") + number(&outcome, "unsent");
    assert!((199.0..=201.0).contains(&due), "{}", outcome.stdout);
    assert!(number(&outcome, "late_max_us") <= number(&outcome, "requests_max_us"), "{}", outcome.stdout);
}

#[test]
fn subscribers_are_told_each_write_or_a_newer_one() {
    let server = Server::start();
    for tags in ["10", "2"] {
        let args = ["--writes", "100%", "--connections", "5", "--tags", tags, "--subscribers", "4"];
        for rate in [&["--rate", "500"][..], &["--pipeline", "20"]] {
            let outcome = json(&line(&server), &[&args[..], rate].concat());
            check_well(&outcome);
            let told = number(&outcome, "updates") + number(&outcome, "conflated");
            assert_eq!(told, 4.0 * number(&outcome, "writes"), "{}", outcome.stdout);
            assert!(number(&outcome, "updates") > 0.0, "{}", outcome.stdout);
        }
    }
}

/// A preparing write that repeated what the run before had left would be no change, and told to nobody.
#[test]
fn one_run_after_another_on_the_same_tags() {
    let server = Server::start();
    let args = ["--writes", "100%", "--tags", "20000", "--rate", "500", "--subscribers", "2"];
    for _ in 0..4 {
        check_well(&json(&line(&server), &[&args[..], &["--duration", "100ms", "--warm-up", "0s"]].concat()));
    }
}

#[test]
fn a_modbus_server_is_not_written_unless_asked() {
    let (server, url) = modbus();
    let mut master = Master::tcp(server.addr(0));
    master.check(1, "10 0000 0002 04 1234 5678", "10 0000 0002");
    let outcome = json(&url, &["--connections", "5", "--pipeline", "3"]);
    check_well(&outcome);
    assert_eq!((number(&outcome, "registers"), number(&outcome, "writes")), (10.0, 0.0));
    master.check(1, "03 0000 0003", "03 06 1234 5678 0000");
}

#[test]
fn modbus_reads_and_writes() {
    let (server, url) = modbus();
    for args in [
        &["--connections", "10", "--registers", "1", "--address", "7"][..],
        &["--connections", "10", "--registers", "123", "--tags", "20", "--pipeline", "8"],
        &["--connections", "3", "--tags", "3", "--rate", "300"],
    ] {
        let outcome = json(&url, &[&["--writes", "40%"], args].concat());
        check_well(&outcome);
        assert!(number(&outcome, "reads") > 0.0 && number(&outcome, "writes") > 0.0, "{}", outcome.stdout);
    }
    // The last block of the second run counts up.
    let mut master = Master::tcp(server.addr(0));
    let reply = master.ask(1, "03 0921 0002");
    let [first, second] = [&reply[2..4], &reply[4..6]].map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    assert_eq!(second, first.wrapping_add(1), "{reply:?}");
}

#[test]
fn a_table_for_people_and_a_comparison() {
    let server = Server::start();
    let folder = Folder::new();
    let url = line(&server);
    let pid = server.pid().as_raw_nonzero().to_string();
    let args = [&["bench", &url, "--pid", &pid], &SHORT[..]].concat();
    // The kernel counts in hundredths of a second, and a short run on a busy machine may not have taken one.
    let mut first = measured(&folder, &[&args[..], &["--json"]].concat());
    until("it costs the server something", || {
        let has_cost = number(&first, "server_cpu_us_per_request") > 0.0;
        if !has_cost {
            first = measured(&folder, &[&args[..], &["--json"]].concat());
        }
        has_cost
    });
    check_well(&first);
    assert!(number(&first, "server_rss_before_bytes") > 1e6, "{}", first.stdout);
    assert!(number(&first, "server_rss_after_bytes") > 1e6, "{}", first.stdout);
    let parts = ["server_user_us_per_request", "server_system_us_per_request"].map(|key| number(&first, key));
    let sum = number(&first, "server_cpu_us_per_request");
    assert!((sum - parts[0] - parts[1]).abs() < 0.01 && sum > 0.0, "{}", first.stdout);
    folder.write("before.json", &first.stdout);

    let compare = ["--compare", "before.json", "--connections", "9"];
    let outcome = measured(&folder, &[&args[..], &compare].concat());
    assert_eq!((outcome.code, &*outcome.stderr), (Some(0), ""), "no progress line where no terminal is");
    for part in [
        "9 connections, 1 in flight on each, 50 % writes, 1000 tags",
        "p99.9",
        "\nrequests ",
        "\nerrors    0\n",
        " of CPU a request (user ",
        "\nclient    ",
        "note: not the same measurement as in before.json: connections 50, now 9\n",
        "\nrequests_per_s ",
        "\nserver_cpu_us_per_request ",
    ] {
        assert!(outcome.stdout.contains(part), "no {part:?} in {}", outcome.stdout);
    }
    // What was compared stays out of the object.
    let outcome = measured(&folder, &[&args[..], &["--json", "--compare", "before.json"]].concat());
    check_well(&outcome);
    assert!(outcome.stderr.contains("\nrequests_per_s "), "{}", outcome.stderr);
}

/// Who answers lines of the line protocol, each by what a function makes of it and of its number; until that
/// makes nothing. The preparing writes are answered.
fn fake(answer: impl Fn(&str, usize) -> Option<String> + Send + Sync + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            thread::spawn(move || talk(&stream, answer));
        }
    });
    address
}

fn talk(stream: &TcpStream, answer: impl Fn(&str, usize) -> Option<String>) {
    let mut out = stream;
    for (number, line) in BufReader::new(stream).lines().map_while(Result::ok).enumerate() {
        let Some(text) = answer(&line, number) else { return };
        if out.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

#[test]
fn wrong_answers_are_errors() {
    // Right for the first write and for each later one; a read is never right.
    let server = fake(|line, _| {
        Some(if line.starts_with("GET") { "OK 1 good 5\n".to_owned() } else { "OK\n".to_owned() })
    });
    let outcome = json(&server.to_string(), &["--connections", "2", "--tags", "2"]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.stdout);
    assert!(number(&outcome, "wrong") > 0.0 && number(&outcome, "writes") > 0.0, "{}", outcome.stdout);
    assert_eq!(number(&outcome, "errors"), number(&outcome, "wrong"));
    assert_eq!(number(&outcome, "reads"), 0.0, "what is wrong is no answer: {}", outcome.stdout);
    assert!(outcome.stderr.contains(" × a value that was not there when it was read"), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("was not there"), "{}", outcome.stdout);
    let hint = "somebody else may write these tags, such as another bench with the same --name";
    assert!(outcome.stdout.contains(hint) && outcome.stderr.contains(hint), "{}", outcome.stderr);
}

#[test]
fn refusals_are_errors() {
    let server = Server::with("[server]\nmax_connections = 10");
    let outcome = json(&line(&server), &[]);
    assert_eq!((outcome.code, &*outcome.stdout), (Some(1), ""));
    // Those that came too late are told so, or, if they are many, just closed.
    for part in ["could not begin: ", "does the server allow 50 connections (max_connections)?"] {
        assert!(outcome.stderr.contains(part), "no {part:?} in {}", outcome.stderr);
    }

    let refusing = fake(|line, number| {
        let refused = number > 10 && line.starts_with("SET");
        Some(
            if refused {
                "ERR denied\n"
            } else if line.starts_with("GET") {
                "OK 1 good 5\n"
            } else {
                "OK\n"
            }
            .to_owned(),
        )
    });
    let args = ["--connections", "1", "--tags", "1", "--writes", "100%"];
    let outcome = json(&refusing.to_string(), &args);
    assert_eq!(outcome.code, Some(1));
    assert!(number(&outcome, "refused") > 0.0, "{}", outcome.stdout);
    assert!(outcome.stderr.contains(" × ERR denied"), "{}", outcome.stderr);
}

#[test]
fn a_server_that_cuts_ends_the_run() {
    let server = fake(|_, number| (number < 100).then(|| "OK\n".to_owned()));
    let args = ["--connections", "3", "--tags", "3", "--writes", "100%", "--duration", "1h"];
    let outcome = json(&server.to_string(), &[&args[..], &["--warm-up", "0s"]].concat());
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert_eq!((number(&outcome, "lost_connections"), number(&outcome, "writes")), (3.0, 297.0));
    assert!(
        outcome.stderr.contains("all 3 connections were lost, which ended the run"),
        "{}",
        outcome.stderr
    );
    assert!(outcome.stderr.contains(" × the server "), "{}", outcome.stderr);
}

/// What it answers after the end was asked in time, and is counted; its speed is that of the time measured.
#[test]
fn a_server_that_does_not_keep_up() {
    let server = fake(|_, number| {
        // Long after the end, and before the last answers are given up; what it is asked meanwhile waits.
        if number == 100 {
            thread::sleep(Duration::from_secs(3));
        }
        Some("OK\n".to_owned())
    });
    let args = ["--connections", "1", "--pipeline", "1000", "--tags", "1", "--writes", "100%"];
    let pace = ["--rate", "1000", "--duration", "500ms", "--warm-up", "0s"];
    let outcome = json(&server.to_string(), &[&args[..], &pace].concat());
    assert!(number(&outcome, "requests") > 200.0, "{}{}", outcome.stdout, outcome.stderr);
    // All that there are in the time of that pause, where we were held up as well.
    assert!(number(&outcome, "requests_per_s") <= 260.0, "{}", outcome.stdout);
    assert_eq!(number(&outcome, "requests_per_s"), number(&outcome, "writes_per_s"), "{}", outcome.stdout);
    assert!(outcome.stderr.contains("the rate was not reached"), "{}", outcome.stderr);
}

/// Nothing is sent in the time that is measured, as all wait for answers from before.
#[test]
fn a_server_that_hangs_in_the_warm_up() {
    let server = fake(|_, number| {
        // The first is that which prepares.
        if number > 0 {
            thread::sleep(Duration::from_secs(3_600));
        }
        Some("OK\n".to_owned())
    });
    let args = ["--connections", "3", "--tags", "3", "--writes", "100%", "--pipeline", "2"];
    let spans = ["--warm-up", "2s", "--duration", "1s"];
    let outcome = json(&server.to_string(), &[&args[..], &spans].concat());
    assert_eq!(outcome.code, Some(1), "{}{}", outcome.stdout, outcome.stderr);
    let figures = ["requests", "unanswered", "errors", "requests_per_s"].map(|key| number(&outcome, key));
    assert_eq!(figures, [0.0, 6.0, 6.0, 0.0], "{}", outcome.stdout);
    assert!(number(&outcome, "requests_max_us") > 5e6, "{}", outcome.stdout);
    for part in ["6 requests were not answered", "nothing was measured"] {
        assert!(outcome.stderr.contains(part), "no {part:?} in {}", outcome.stderr);
    }
}

#[test]
fn a_server_that_cuts_in_the_warm_up() {
    let server = fake(|_, number| (number < 100).then(|| "OK\n".to_owned()));
    let args = ["--connections", "3", "--tags", "3", "--duration", "300ms", "--warm-up", "1h"];
    let outcome = json(&server.to_string(), &[&args[..], &["--writes", "100%"]].concat());
    assert_eq!((outcome.code, &*outcome.stdout), (Some(1), ""));
    for part in ["all connections were lost before there was anything to measure", " × the server "] {
        assert!(outcome.stderr.contains(part), "no {part:?} in {}", outcome.stderr);
    }
}

#[test]
fn a_server_that_stalls() {
    let server = Server::start();
    let outcome = thread::scope(|scope| {
        let args = ["--duration", "8s", "--warm-up", "0s", "--connections", "4", "--rate", "50"];
        let url = line(&server);
        let running = scope.spawn(move || json(&url, &args));
        until_it_measures(&server);
        server.freeze();
        running.join().expect("it ends by itself")
    });
    assert_eq!(outcome.code, Some(1), "{}", outcome.stdout);
    let figures = ["requests", "unanswered", "unsent"].map(|key| number(&outcome, key));
    assert!((399.0..=401.0).contains(&figures.iter().sum()), "{}", outcome.stdout);
    assert!((1.0..=4.0).contains(&figures[1]), "one on each connection at most: {}", outcome.stdout);
    assert!(number(&outcome, "requests_max_us") > 5e6, "{}", outcome.stdout);
    assert!(outcome.stderr.contains(" requests were not answered"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("the rate was not reached"), "{}", outcome.stderr);
}

#[test]
fn a_server_that_is_killed() {
    let server = Server::start();
    let pid = server.pid().as_raw_nonzero().to_string();
    let outcome = thread::scope(|scope| {
        let args = ["--duration", "1h", "--warm-up", "0s", "--connections", "4", "--pid", &pid];
        let url = line(&server);
        let running = scope.spawn(move || json(&url, &args));
        let mut client = server.client();
        until("it runs", || client.ask("READ bench/#").len() > 1_000);
        thread::sleep(Duration::from_millis(300));
        server.signal(Signal::KILL);
        running.join().expect("it ends by itself")
    });
    assert_eq!(outcome.code, Some(1), "{}", outcome.stdout);
    assert_eq!(value(&outcome, "server_cpu_us_per_request"), "null", "{}", outcome.stdout);
    for part in [
        "all 4 connections were lost, which ended the run at ",
        " requests were not answered before their connections were lost",
        &format!("process {pid} was gone before the end"),
    ] {
        assert!(outcome.stderr.contains(part), "no {part:?} in {}", outcome.stderr);
    }
    assert!(!outcome.stderr.contains("after the end"), "{}", outcome.stderr);
}

#[test]
fn a_server_that_is_stopped() {
    let server = Server::start();
    server.freeze();
    let outcome = json(&line(&server), &[]);
    assert_eq!(outcome.code, Some(1));
    let why = format!("{} did not answer for 3 s; is the server overloaded or stopped", server.addr(0));
    assert!(outcome.stderr.contains(&why), "{}", outcome.stderr);
}

/// Each key of the object that is none of an option's is explained.
#[test]
fn help_names_what_json_prints() {
    let (server, folder) = (Server::start(), Folder::new());
    let help = run(&folder, &["bench", "--help"]).stdout;
    let outcome = json(&line(&server), &["--rate", "100"]);
    let (_, figures) = outcome.stdout.split_once("\"seed\":").expect("the last of the options");
    let keys = figures.split(",\"").skip(1).filter_map(|field| field.split_once("\":"));
    let mut count = 0;
    for (key, _) in keys {
        let rows = ["requests", "reads", "writes", "updates"];
        let figure = rows.iter().find_map(|row| key.strip_prefix(row)).unwrap_or(key);
        assert!(help.contains(figure), "no {key} in {help}");
        count += 1;
    }
    assert!(count > 40, "{figures}");
}

#[test]
fn faults_of_modbus_servers() {
    let check = |habit: fn(&Request) -> Option<Vec<u8>>, part: &str| {
        let slave = Slave::with(Framing::Tcp, habit);
        let outcome = json(&slave.url(), &["--connections", "1", "--writes", "10%"]);
        assert_eq!(outcome.code, Some(1), "{part}: {}", outcome.stdout);
        assert!(outcome.stderr.contains(part), "no {part:?} in {}", outcome.stderr);
    };
    check(|request| Some(request.answer(&[request.pdu[0] | 0x80, 2])), "exception 2, illegal data address");
    check(
        |request| {
            let other = Request { unit: request.unit + 1, ..request.clone() };
            Some(other.answer(&request.orderly(0)))
        },
        "the answer of unit 2",
    );
    check(
        |request| {
            let other = Request { transaction: request.transaction + 1, ..request.clone() };
            Some(other.answer(&request.orderly(0)))
        },
        "an answer to transaction 2, unasked",
    );
    // Registers that never change.
    check(|request| Some(request.answer(&request.orderly(7))), "a value that");
    check(
        |request| {
            let answer = request.orderly(0);
            Some(request.answer(if request.is_write() { &answer } else { &answer[..answer.len() - 2] }))
        },
        "the reply's length",
    );
}

#[test]
fn sigint_ends_it_early_with_figures() {
    let server = Server::start();
    let child = Command::new(env!("CARGO_BIN_EXE_lumina"))
        .args(["bench", &line(&server), "--duration", "1h", "--warm-up", "0s", "--rate", "200"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the lumina executable starts");
    until_it_measures(&server);
    rustix::process::kill_process(Pid::from_child(&child), Signal::INT).expect("it is running");
    let output = child.wait_with_output().expect("a child can be waited for");
    let stdout = String::from_utf8(output.stdout).expect("its output is UTF-8");
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    assert!(stdout.contains("\nrequests ") && stdout.contains("note: ended early"), "{stdout}");
}

#[test]
fn a_terminal_shows_how_it_goes() {
    let server = Server::start();
    let mut terminal = Terminal::start(&Folder::new(), &["bench", &line(&server), "--duration", "1s"]);
    terminal.expect(" requests/s, 0 errors");
    terminal.expect("p99.9 ms");
    assert_eq!(terminal.code(), Some(0));
}

#[test]
fn what_cannot_be_measured() {
    let server = Server::start();
    let echo = Server::build().listen("echo://127.0.0.1:0").start();
    let (url, echo) = (line(&server), echo.addr(0).to_string());
    let of_line = format!("modbus://{}", server.addr(0));
    let folder = Folder::new();
    folder.write("other.json", "{\"lines\":3}");
    #[rustfmt::skip]
    let table: [(&[&str], i32, &str); 20] = [
        (&[],                                               2, "url"),
        (&["127.0.0.1:1"],                                  1, "no server at 127.0.0.1:1"),
        (&["modbus://127.0.0.1:1"],                         1, "no server at 127.0.0.1:1"),
        (&[&echo],                                          1, "does not speak the line protocol"),
        (&[&of_line],                                       1, "no Modbus"),
        (&["echo://127.0.0.1:1"],                           2, "only line:// and modbus:// are spoken here"),
        (&[&url, "--connections", "1000000"],               1, "ulimit -n"),
        (&[&url, "--connections", "0"],                     2, "'0' is not possible"),
        (&[&url, "--rate", "0"],                            2, "'0' is not possible"),
        (&[&url, "--writes", "150%"],                       2, "'150%' is not a share"),
        (&[&url, "--duration", "0s"],                       2, "'0s' is not possible"),
        (&[&url, "--unit", "1"],                            2, "--unit is for modbus://"),
        (&["modbus://127.0.0.1:1", "--subscribers", "1"],   2, "--subscribers is for line://"),
        (&["modbus://127.0.0.1:1", "--tags", "6554"],       2, "beyond register 65535"),
        (&["modbus://127.0.0.1:1", "--pipeline", "101"],    2, "101 is not possible with modbus://"),
        (&["modbus://127.0.0.1:1", "--registers", "124", "--writes", "1%"], 2, "can write: 123"),
        (&[&url, "--subscribers", "1", "--writes", "0"],    2, "raise --writes"),
        (&[&url, "--pid", "4000000000"],                    2, "there is no such process"),
        (&[&url, "--compare", "none.json"],                 2, "--compare none.json: No such file"),
        (&[&url, "--compare", "other.json"],                2, "not what 'lumina bench --json' prints"),
    ];
    for (args, code, part) in table {
        let outcome = run(&folder, &[&["bench"], args].concat());
        assert_eq!((outcome.code, &*outcome.stdout), (Some(code), ""), "{args:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(part), "{args:?}: {}", outcome.stderr);
        // Whoever is not there, or speaks otherwise, has not turned anybody away.
        assert!(!outcome.stderr.contains("max_connections"), "{args:?}: {}", outcome.stderr);
    }
}
