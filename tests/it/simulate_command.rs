//! `lumina simulate`: devices, readers and faulty peers against a real server, and what is said when it
//! fails.

use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::{Pid, Signal};

use crate::client::Client;
use crate::server::{Folder, Outcome, Server, run, until};

/// Run it against `server` with these arguments, and `--json`.
fn simulate(server: &Server, args: &[&str]) -> Outcome {
    let url = format!("line://{}", server.addr(0));
    let args: Vec<&str> = ["simulate", "--json"].iter().chain(args).copied().chain([&*url]).collect();
    run(&Folder::new(), &args)
}

/// A number of the summary.
#[track_caller]
fn number(outcome: &Outcome, key: &str) -> f64 {
    let value = outcome.stdout.split_once(&format!("\"{key}\":")).map(|(_, rest)| rest);
    let digits = value.and_then(|value| value.split([',', '}']).next()?.parse().ok());
    digits.unwrap_or_else(|| panic!("no number {key}: {}{}", outcome.stdout, outcome.stderr))
}

#[track_caller]
fn check(outcome: &Outcome, expected: &[(&str, f64)]) {
    for (key, value) in expected {
        assert_eq!(number(outcome, key), *value, "{key}: {}{}", outcome.stdout, outcome.stderr);
    }
}

const NOTHING_WRONG: [(&str, f64); 2] = [("lost", 0.0), ("errors", 0.0)];

#[test]
fn two_hundred_devices() {
    let server = Server::start();
    let outcome = simulate(&server, &["--devices", "200", "--interval", "250", "--secs", "5"]);
    check(&outcome, &NOTHING_WRONG);
    check(&outcome, &[("devices", 200.0), ("connected", 200.0), ("connections", 200.0), ("unknown", 0.0)]);
    assert_eq!((outcome.code, &*outcome.stderr), (Some(0), ""));
    assert_eq!(outcome.stdout.lines().count(), 1, "one object in one line: {}", outcome.stdout);
    assert!(outcome.stdout.starts_with('{') && outcome.stdout.ends_with("}\n"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("\"verified\":true"), "{}", outcome.stdout);
    // Twenty reports of each, as far as they fit into the five seconds.
    let reports = number(&outcome, "reports") + number(&outcome, "missed");
    assert!((200.0 * 19.0..=200.0 * 20.0).contains(&reports), "{reports}");
    check(&outcome, &[("sent", number(&outcome, "reports") * 5.0)]);
    check(&outcome, &[("confirmed", number(&outcome, "sent"))]);
    let figures = ["p50_us", "p99_us", "p999_us", "max_us"].map(|key| number(&outcome, key));
    assert!(figures[0] > 0.0 && figures.is_sorted(), "{figures:?}");
    assert!(number(&outcome, "late_p99_us") <= figures[3], "{}", outcome.stdout);

    // All of it is on the server, and the devices are gone.
    let mut client = server.client();
    let tags = client.ask("READ sim/#");
    assert_eq!(tags.len(), 200 * 5 + 1);
    until("the devices are gone", || client.ask_one("GET sim/00199/parts").contains(" uncertain "));
    let listed = client.ask("LIST sim/00007/state");
    assert_eq!(listed[0], "TAG sim/00007/state any rw sim-00007");
}

#[test]
fn churn_faults_and_readers_disturb_nobody() {
    let server = Server::start();
    let args = ["--devices", "200", "--interval", "50", "--subscribers", "5", "--name", "hall", "--json"];
    let others = ["--churn", "20%", "--faults", "--seed", "7"];
    let simulator = Running::start(&server, &[&args[..], &others].concat());
    let mut client = server.client();
    // Besides those that were there first, some came back, and some are the faulty ones.
    until("they come and go", || figure(&mut client, "accepted") > 450);
    until("all have reported", || client.ask("READ hall/#").len() == 200 * 5 + 1);
    until("there is much to do", || figure(&mut client, "requests") > 10_000);
    let outcome = simulator.interrupt();
    check(&outcome, &NOTHING_WRONG);
    check(&outcome, &[("connected", 200.0), ("subscribers", 5.0)]);
    assert_eq!((outcome.code, &*outcome.stderr), (Some(0), ""));
    assert!(number(&outcome, "connections") > 250.0, "nobody left: {}", outcome.stdout);
    assert!(number(&outcome, "unknown") > 0.0, "nobody left in the middle of a report: {}", outcome.stdout);
    assert!(number(&outcome, "faults") > 10.0, "nobody was faulty: {}", outcome.stdout);
    assert!(number(&outcome, "updates") > 1_000.0, "{}", outcome.stdout);
    let all = number(&outcome, "confirmed") + number(&outcome, "unknown");
    check(&outcome, &[("sent", all)]);
    assert_eq!(client.ask("READ hall/#").len(), 200 * 5 + 1);
}

/// What the server counts of itself.
fn figure(client: &mut Client, name: &str) -> u64 {
    let reply = client.ask_one(&format!("GET $server/{name}"));
    reply.split(' ').nth(1).and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{name}: {reply}"))
}

#[test]
fn a_summary_for_people() {
    let server = Server::start();
    let address = server.addr(0).to_string();
    let outcome =
        run(&Folder::new(), &["simulate", "--devices", "3", "--secs", "1", "--interval", "20", &address]);
    assert_eq!((outcome.code, &*outcome.stderr), (Some(0), ""), "no progress line where no terminal is");
    for part in ["3 of 3 devices", "lost       0", "errors     0", "p99.9"] {
        assert!(outcome.stdout.contains(part), "no {part:?} in {}", outcome.stdout);
    }
}

#[test]
fn a_server_that_dies() {
    let server = Server::start();
    let outcome = thread::scope(|scope| {
        let simulator =
            scope.spawn(|| simulate(&server, &["--devices", "200", "--interval", "100", "--secs", "6"]));
        let mut client = server.client();
        until("they report", || client.ask("READ sim/#").len() > 1_000);
        // They have read what confirms a report when they have sent some more.
        let before = figure(&mut client, "requests");
        until("they go on", || figure(&mut client, "requests") > before + 3 * 1_000);
        server.signal(Signal::KILL);
        simulator.join().expect("the simulator ends")
    });
    assert_eq!(outcome.code, Some(1));
    for part in ["could not be asked", "refused", "× the server "] {
        assert!(outcome.stderr.contains(part), "no {part:?} in {}", outcome.stderr);
    }
    assert!(outcome.stdout.contains("\"verified\":false"), "{}", outcome.stdout);
    assert!(number(&outcome, "errors") >= 200.0 && number(&outcome, "lost") >= 1_000.0, "{}", outcome.stdout);
}

/// A value that another one overwrote with an older one is lost to who wrote it.
#[test]
fn what_was_confirmed_and_is_not_there() {
    let server = Server::start();
    let simulator = Running::start(&server, &[&SELDOM[..], &["--json"]].concat());
    let device = simulator.first_device(&server);
    let old = format!("SET sim/{device}/state \"on fire\" good 5");
    assert_eq!(server.client().ask_one(&old), "OK");
    let outcome = simulator.interrupt();
    assert_eq!(outcome.code, Some(1), "{}", outcome.stdout);
    assert!(outcome.stderr.contains("1 confirmed values are not on the server"), "{}", outcome.stderr);
    check(&outcome, &[("lost", 1.0), ("errors", 0.0)]);
}

#[test]
fn refusals_are_errors() {
    let server = Server::with("[server]\nmax_tags = 50");
    let outcome = simulate(&server, &["--devices", "20", "--interval", "100", "--secs", "1"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains(" × ERR limit "), "{}", outcome.stderr);
    check(&outcome, &[("lost", 0.0), ("connected", 20.0)]);
    check(&outcome, &[("errors", number(&outcome, "sent") - number(&outcome, "confirmed"))]);
}

#[test]
fn sigint_ends_it_early() {
    let mut server = Server::start();
    let simulator = Running::start(&server, &SELDOM);
    simulator.first_device(&server);
    let outcome = simulator.interrupt();
    assert_eq!((outcome.code, &*outcome.stderr), (Some(0), ""), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("lost       0"), "{}", outcome.stdout);
    assert!(server.is_running());
}

#[test]
fn what_cannot_be_simulated() {
    let server = Server::build().listen("echo://127.0.0.1:0").start();
    let echo = server.addr(0).to_string();
    #[rustfmt::skip]
    let table: [(&[&str], i32, &str); 9] = [
        (&["127.0.0.1:1"],           1, "no server at 127.0.0.1:1"),
        (&[&echo],                   1, "does not speak the line protocol"),
        (&["--devices", "1000000"],  1, "ulimit -n"),
        (&["--devices", "0"],        2, "'0' is not possible"),
        (&["--interval", "0"],       2, "'0' is not possible"),
        (&["--churn", "120%"],       2, "'120%' is not a share"),
        (&["--name", "a/b"],         2, "a/b"),
        (&["echo://127.0.0.1:1"],    2, "not echo://"),
        (&["--fast"],                2, "--fast"),
    ];
    for (args, code, part) in table {
        let outcome = run(&Folder::new(), &[&["simulate"], args].concat());
        assert_eq!((outcome.code, &*outcome.stdout), (Some(code), ""), "{args:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(part), "{args:?}: {}", outcome.stderr);
    }
}

/// Devices that report every ten seconds.
const SELDOM: [&str; 4] = ["--devices", "40", "--interval", "10000"];

/// A simulator until it is interrupted.
struct Running(Child);

impl Running {
    fn start(server: &Server, args: &[&str]) -> Running {
        let address = server.addr(0).to_string();
        let child = Command::new(env!("CARGO_BIN_EXE_lumina"))
            .args(["simulate", "--secs", "0", &address])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Running(child.expect("the lumina executable starts"))
    }

    /// The number of a device that has reported, and does not again so soon.
    fn first_device(&self, server: &Server) -> String {
        let mut client = server.client();
        let mut tags = Vec::new();
        until("a device has reported", || {
            tags = client.ask("READ sim/+/state");
            tags.len() > 1
        });
        tags[0].split('/').nth(1).expect("a tag of a device").to_owned()
    }

    fn interrupt(self) -> Outcome {
        rustix::process::kill_process(Pid::from_child(&self.0), Signal::INT).expect("it is running");
        let output = self.0.wait_with_output().expect("a child can be waited for");
        let text = |bytes| String::from_utf8(bytes).expect("its output is UTF-8");
        Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}
