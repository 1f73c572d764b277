//! `lumina client` without a terminal: requests as arguments, by a pipe, and watching.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal};

use crate::client::matches;
use crate::server::{DEADLINE, Folder, Outcome, Server, lines_of, nobody, run, wait};

/// Run the client with these arguments behind the server's address.
fn client(server: &Server, args: &[&str]) -> Outcome {
    let addr = server.addr(0).to_string();
    let args: Vec<&str> = ["client", &addr].iter().chain(args).copied().collect();
    run(&Folder::new(), &args)
}

#[track_caller]
fn check_lines(stdout: &str, expected: &[&str]) {
    let lines: Vec<&str> = stdout.lines().collect();
    let same = lines.len() == expected.len()
        && expected.iter().zip(&lines).all(|(pattern, line)| matches(pattern, line, 0));
    assert!(same, "\n expected {expected:?}\n got      {lines:?}");
}

#[test]
fn requests_as_arguments() {
    #[rustfmt::skip]
    let table: [(&[&str], i32, &[&str]); 13] = [
        (&["SET a/b 1", "GET a/b"],                     0, &["OK", "OK 1 good @"]),
        (&["SET a/c \"x  y\" bad 5", "READ a/#"],       0,
            &["OK", "VAL a/b 1 good @", "VAL a/c \"x  y\" bad 5", "OK 2"]),
        (&["set a/b 2", "get a/b"],                     0, &["OK", "OK 2 good @"]),
        (&["SET a/b warm", "SET a/b 3"],                1, &["ERR bad-value"]),
        (&["GET a/b", "GET nope", "SET a/b 4"],         1, &["OK 2 good @", "ERR not-found"]),
        (&["SUB a/b", "SET a/b 5 good 1", "PING", "PING"], 0,
            &["VAL a/b 2 good @", "OK 1", "OK", "UPD a/b 5 good 1", "OK", "OK"]),
        (&["PING hello  world"],                        0, &["OK hello  world"]),
        (&["PING", "", " \t", "PING 2"],                0, &["OK", "OK 2"]),
        (&["PING 1", "bye", "PING 2"],                  0, &["OK 1"]),
        (&["QUIT", "PING 2"],                           0, &["OK"]),
        (&["SET a/ü 1"],                                1, &["ERR bad-name"]),
        (&["NOPE"],                                     1, &["ERR bad-request"]),
        (&["GTE a/b"],                                  1, &["ERR bad-request"]),
    ];
    let server = Server::start();
    for (requests, code, lines) in table {
        let outcome = client(&server, requests);
        check_lines(&updates_last(&outcome.stdout), &updates_last_of(lines));
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(code), ""), "{requests:?}");
    }
}

/// Updates may come between any two replies.
fn updates_last(lines: &str) -> String {
    updates_last_of(&lines.lines().collect::<Vec<_>>()).join("\n")
}

fn updates_last_of<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    let mut lines = lines.to_vec();
    lines.sort_by_key(|line| line.starts_with("UPD"));
    lines
}

#[test]
fn the_address_may_be_left_out_or_a_url() {
    let server = Server::start();
    let dir = Folder::new();
    let url = format!("line://{}", server.addr(0));
    let outcome = run(&dir, &["client", &url, "PING x"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), "OK x\n"), "{}", outcome.stderr);
    let localhost = format!("localhost:{}", server.addr(0).port());
    assert_eq!(run(&dir, &["client", &localhost, "PING x"]).stdout, "OK x\n");

    #[rustfmt::skip]
    let table: [(&[&str], &str); 7] = [
        (&["127.0.0.1:x", "PING"],            "'127.0.0.1:x' is not an address"),
        (&["echo://127.0.0.1:5000"],          "only line:// is spoken here"),
        (&["127.0.0.1:1", "GET a\nGET b"],    "a request is one line"),
        (&["--watch", "a/#/b"],               "'a/#/b' is not a pattern"),
        (&["--watch", "a b"],                 "is not a pattern"),
        (&["--nope"],                         "--nope"),
        (&["--watch"],                        "--watch"),
    ];
    for (args, message) in table {
        let args: Vec<&str> = ["client"].iter().chain(args).copied().collect();
        let outcome = run(&dir, &args);
        assert_eq!(outcome.code, Some(2), "{args:?} {}", outcome.stderr);
        assert!(outcome.stderr.contains(message), "{args:?} {}", outcome.stderr);
    }
    let help = run(&dir, &["client", "--help"]);
    assert_eq!(help.code, Some(0));
    for word in ["--watch", "--json", "HOST:PORT", "127.0.0.1:5000", "QUIT"] {
        assert!(help.stdout.contains(word), "{word}: {}", help.stdout);
    }
}

#[test]
fn no_server() {
    let (_reserved, addr) = nobody();
    let addr = addr.to_string();
    for args in [&["client", &addr, "PING"][..], &["client", &addr], &["client", "--watch", "#", &addr]] {
        let outcome = run(&Folder::new(), args);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""));
        let message = format!("lumina: no server listens on {addr}");
        assert!(outcome.stderr.starts_with(&message), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("'lumina serve'"), "{}", outcome.stderr);
    }
    let outcome = run(&Folder::new(), &["client", "no-such-host.invalid", "PING"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("'no-such-host.invalid'"), "{}", outcome.stderr);
}

#[test]
fn lines_as_json() {
    let server = Server::start();
    let outcome = client(
        &server,
        &[
            "--json",
            "SET a/b nan uncertain 5",
            "SET a/c \"x \\\"y\\\"\" good 6",
            "GET a/b",
            "READ a/#",
            "LIST a/c",
            "PING 7",
            "HELLO press3",
            "SET a/c null",
        ],
    );
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(1), ""));
    let expected = [
        r#"{"reply":"OK"}"#,
        r#"{"reply":"OK"}"#,
        r#"{"reply":"OK","tag":"a/b","value":"nan","quality":"uncertain","time":5}"#,
        r#"{"reply":"VAL","tag":"a/b","value":"nan","quality":"uncertain","time":5}"#,
        r#"{"reply":"VAL","tag":"a/c","value":"x \"y\"","quality":"good","time":6}"#,
        r#"{"reply":"OK","count":2}"#,
        r#"{"reply":"TAG","tag":"a/c","type":"any","access":"rw","source":"-"}"#,
        r#"{"reply":"OK","count":1}"#,
        r#"{"reply":"OK","text":"7"}"#,
        r#"{"reply":"OK","text":"lumina 1"}"#,
    ];
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines[..expected.len()], expected);
    assert!(
        lines[expected.len()].starts_with(r#"{"reply":"ERR","code":"bad-value","text":"null "#),
        "{lines:?}"
    );
    assert_eq!(lines.len(), expected.len() + 1);
}

#[test]
fn requests_by_a_pipe() {
    #[rustfmt::skip]
    let table: [(&str, i32, &[&str]); 9] = [
        ("SET p/a 1 good 5\nGET p/a\n",           0, &["OK", "OK 1 good 5"]),
        ("GET p/a",                               0, &["OK 1 good 5"]),
        ("\n \t\n\r\nGET p/a\r\n",                0, &["OK 1 good 5"]),
        ("",                                      0, &[]),
        ("GET nope\nNOPE\nGET p/a\n",             1, &["ERR not-found", "ERR bad-request", "OK 1 good 5"]),
        ("PING\nQUIT\nPING never\n",              0, &["OK", "OK"]),
        ("PING\n bye\nPING never\n",              0, &["OK"]),
        ("PING\nbye",                             0, &["OK"]),
        ("SUB p/#\nSET p/a 2 good 6\nPING\n",     0,
            &["VAL p/a 1 good 5", "OK 1", "OK", "OK", "UPD p/a 2 good 6"]),
    ];
    let server = Server::start();
    for (input, code, lines) in table {
        let mut running = Running::start(&server, &[]);
        running.stdin.take().expect("stdin is piped").write_all(input.as_bytes()).expect("it reads");
        let outcome = running.finish();
        check_lines(&updates_last(&outcome.stdout), lines);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(code), ""), "{input:?}");
    }
}

/// Far more than any buffer holds, and what is no text.
#[test]
fn a_long_pipe_is_answered_completely() {
    const COUNT: usize = 200_000;
    let server = Server::start();
    let mut running = Running::start(&server, &[]);
    let mut stdin = running.stdin.take().expect("stdin is piped");
    let writer = thread::spawn(move || {
        stdin.write_all("PING some text\n".repeat(COUNT).as_bytes()).expect("it reads");
        stdin.write_all(b"PING \xff\n").expect("it reads");
    });
    let outcome = running.finish();
    writer.join().expect("all was taken");
    assert_eq!(outcome.stdout.lines().filter(|line| *line == "OK some text").count(), COUNT);
    assert_eq!(outcome.stdout.lines().count(), COUNT + 1);
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
}

/// Replies come while the input stays open.
#[test]
fn a_pipe_is_a_conversation() {
    let server = Server::start();
    let mut running = Running::start(&server, &[]);
    running.send("PING 1\n");
    running.expect("OK 1");
    running.send("SUB a\n");
    running.expect("OK 0");
    server.client().ask_one("SET a 1 good 5");
    running.expect("UPD a 1 good 5");
    running.stdin = None;
    assert_eq!(running.finish().code, Some(0));
}

#[test]
fn a_line_that_is_too_long_ends_it() {
    let server = Server::start();
    let mut running = Running::start(&server, &[]);
    let mut stdin = running.stdin.take().expect("stdin is piped");
    // It may leave before it has read all.
    let _ = stdin.write_all(format!("PING {}\nPING\n", "x".repeat(200_000)).as_bytes());
    drop(stdin);
    let outcome = running.finish();
    check_lines(&outcome.stdout, &["ERR too-long"]);
    assert_eq!(outcome.code, Some(1));
}

#[test]
fn watching_ends_with_ctrl_c() {
    let server = Server::start();
    let mut device = server.client();
    device.ask_one("SET w/a 1 good 5");
    device.ask_one("SET v 1 good 5");
    let running = Running::start(&server, &["--watch", "w/#", "--watch", "v", "SET w/a 2 good 6"]);
    for line in ["OK", "VAL w/a 2 good 6", "VAL v 1 good 5"] {
        running.expect(line);
    }
    device.ask_one("SET v 2 good 7");
    running.expect("UPD v 2 good 7");
    device.ask_one("SET w/new \"x\" good 8");
    running.expect("UPD w/new \"x\" good 8");
    running.signal(Signal::INT);
    let outcome = running.finish();
    assert_eq!((outcome.code, outcome.stdout.as_str(), outcome.stderr.as_str()), (Some(0), "", ""));
}

#[test]
fn watching_as_json() {
    let server = Server::start();
    let running = Running::start(&server, &["--json", "--watch", "w"]);
    // Only lines of data are printed, and there is none: so it is watched when the server says so.
    let mut device = server.client();
    crate::server::until("it is subscribed", || {
        device.ask("INFO").contains(&"INFO subscriptions 1".to_owned())
    });
    device.ask_one("SET w -inf good 5");
    running.expect(r#"{"reply":"UPD","tag":"w","value":"-inf","quality":"good","time":5}"#);
}

#[test]
fn watching_what_is_refused() {
    let server = Server::with("[server]\nmax_subscriptions = 1");
    let running = Running::start(&server, &["--watch", "a", "--watch", "b"]);
    let outcome = running.finish();
    check_lines(&outcome.stdout, &["ERR limit"]);
    assert_eq!(outcome.code, Some(1));
    let running = Running::start(&server, &["--watch", "a", "GET nope"]);
    assert_eq!(running.finish().code, Some(1));
}

#[test]
fn a_lost_server() {
    for (args, input) in [(&["--watch", "a"][..], ""), (&[], "PING\n")] {
        let mut server = Server::start();
        server.client().ask_one("SET a 1 good 5");
        let mut running = Running::start(&server, args);
        running.send(input);
        running.expect(if input.is_empty() { "VAL a 1 good 5" } else { "OK" });
        server.signal(Signal::TERM);
        server.wait_for_exit();
        let addr = server.addr(0);
        let outcome = running.finish();
        assert_eq!(outcome.code, Some(1));
        let message = format!("lumina: the server at {addr} closed the connection");
        assert!(outcome.stderr.starts_with(&message), "{}", outcome.stderr);
    }
}

/// A server that leaves without a reply, and one that leaves in the middle of it.
#[test]
fn a_reply_that_does_not_come() {
    for reply in ["", "VAL a 1 good 5\nVAL b 1"] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let addr = listener.local_addr().expect("its address").to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 7];
            stream.read_exact(&mut request).expect("a request");
            stream.write_all(reply.as_bytes()).expect("the client reads");
        });
        let outcome = run(&Folder::new(), &["client", &addr, "READ #", "PING"]);
        server.join().expect("the server had its request");
        let whole = reply.rsplit_once('\n').map_or(String::new(), |(whole, _)| format!("{whole}\n"));
        assert_eq!((outcome.code, outcome.stdout), (Some(1), whole));
        assert!(outcome.stderr.contains("may or may not have been carried out"), "{}", outcome.stderr);
    }
}

#[test]
fn nobody_reads_the_output() {
    let server = Server::start();
    server.fill(20_000);
    let mut running = Running::spawn(&server, &["READ #"]);
    drop(running.stdout.take());
    let mut stderr = String::new();
    running.stderr.take().expect("stderr is piped").read_to_string(&mut stderr).expect("a pipe can be read");
    let status = wait(&mut running).expect("the client ends");
    assert_eq!((status.code(), stderr.as_str()), (Some(0), ""));
}

/// A client that runs while the test goes on.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    stderr: Option<JoinHandle<String>>,
}

impl Running {
    fn spawn(server: &Server, args: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_lumina"))
            .args(["client", &server.addr(0).to_string()])
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the lumina executable starts")
    }

    fn start(server: &Server, args: &[&str]) -> Running {
        let mut child = Running::spawn(server, args);
        let lines = lines_of(child.stdout.take().expect("stdout is piped"));
        let mut pipe = child.stderr.take().expect("stderr is piped");
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            pipe.read_to_string(&mut text).expect("messages are UTF-8");
            text
        });
        Running { stdin: child.stdin.take(), child, lines, stderr: Some(stderr) }
    }

    fn send(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is open");
        stdin.write_all(text.as_bytes()).expect("it reads");
    }

    #[track_caller]
    fn expect(&self, line: &str) {
        assert_eq!(self.lines.recv_timeout(DEADLINE).as_deref(), Ok(line));
    }

    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal)
            .expect("it is there to be signalled");
    }

    /// Its end, and the lines that nobody expected.
    fn finish(mut self) -> Outcome {
        let code = wait(&mut self.child).expect("the client ends").code();
        let stdout = self.lines.iter().map(|line| line + "\n").collect();
        let stderr = self.stderr.take().expect("it is finished once").join().expect("a pipe can be read");
        Outcome { code, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
