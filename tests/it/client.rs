//! A blocking client of the line protocol that checks, on every line it reads, what holds for all of them.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use socket2::{Domain, SockRef, Socket, Type};

use crate::server::DEADLINE;

/// Every code of the table “Errors”.
const CODES: [&str; 14] = [
    "bad-request",
    "bad-name",
    "bad-value",
    "bad-time",
    "wrong-type",
    "out-of-range",
    "not-found",
    "read-only",
    "denied",
    "device",
    "timeout",
    "offline",
    "limit",
    "too-long",
];
const ERROR_TEXT_BYTES: usize = 120;

/// How far the clocks of server and test, which are one clock, may seem apart by rounding.
const CLOCK_SLACK_MS: i64 = 2;

/// One connection. Updates, and frames of a trace, are kept apart from replies, as they may come between any
/// two of these.
pub struct Client {
    stream: BufReader<TcpStream>,
    replies: VecDeque<String>,
    updates: VecDeque<String>,
    /// A data line has been read whose final line has not.
    in_reply: bool,
    /// What `@` in a pattern may not be earlier than.
    since_ms: i64,
}

impl Client {
    pub fn connect(addr: SocketAddr) -> Client {
        Client::over(TcpStream::connect(addr).expect("the server listens"))
    }

    /// With a receive buffer as small as the kernel allows, so that a reader that stops is felt soon.
    pub fn narrow(addr: SocketAddr) -> Client {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(1).expect("the kernel rounds it up");
        socket.connect(&addr.into()).expect("the server listens");
        Client::over(socket.into())
    }

    /// On a connection that is there.
    pub fn over(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket has a read timeout");
        stream.set_write_timeout(Some(DEADLINE)).expect("a socket has a write timeout");
        stream.set_nodelay(true).expect("a socket has TCP_NODELAY");
        Client {
            stream: BufReader::new(stream),
            replies: VecDeque::new(),
            updates: VecDeque::new(),
            in_reply: false,
            since_ms: now_ms(),
        }
    }

    /// A time that began before this client, such as the server's start.
    pub fn since(mut self, ms: i64) -> Client {
        self.since_ms = ms;
        self
    }

    pub fn stream(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.get_mut().write_all(bytes.as_ref()).expect("the server takes what is sent");
    }

    /// Bytes from a thread of its own, for what is more than the sockets hold; meanwhile replies can be read.
    pub fn send_aside(&self, bytes: Vec<u8>) -> thread::JoinHandle<()> {
        let mut stream = self.stream().try_clone().expect("a descriptor for the sender");
        thread::spawn(move || stream.write_all(&bytes).expect("the server takes what is sent"))
    }

    /// No more to send.
    pub fn shut(&mut self) {
        self.stream().shutdown(Shutdown::Write).expect("an open connection can be half-closed");
    }

    /// Close with a reset instead of the end of the stream.
    pub fn reset(self) {
        SockRef::from(self.stream()).set_linger(Some(Duration::ZERO)).expect("a socket has SO_LINGER");
    }

    /// Send a request, read its whole reply: data lines and the final line.
    pub fn ask(&mut self, request: &str) -> Vec<String> {
        self.send(format!("{request}\n"));
        self.reply()
    }

    /// A request whose reply has no data lines.
    #[track_caller]
    pub fn ask_one(&mut self, request: &str) -> String {
        let mut reply = self.ask(request);
        assert_eq!(reply.len(), 1, "{request}: {reply:?}");
        reply.remove(0)
    }

    /// Requests that are each answered by `OK` alone, pipelined.
    pub fn ok_all(&mut self, requests: impl IntoIterator<Item = String>) {
        let mut count = 0;
        let mut bytes = Vec::new();
        for request in requests {
            bytes.extend_from_slice(request.as_bytes());
            bytes.push(b'\n');
            count += 1;
        }
        let sender = self.send_aside(bytes);
        for number in 0..count {
            assert_eq!(self.reply_line(), "OK", "request {number}");
        }
        sender.join().expect("the sender got through");
    }

    /// The lines of one reply.
    pub fn reply(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            lines.push(self.reply_line());
            if is_final(&lines[lines.len() - 1]) {
                return lines;
            }
        }
    }

    /// The next line that is no update.
    #[track_caller]
    pub fn reply_line(&mut self) -> String {
        while self.replies.is_empty() {
            assert!(self.pull(), "the connection ended where a reply was due");
        }
        self.replies.pop_front().expect("the loop ended with one")
    }

    /// The next line that is no update, or `None` where the stream ends instead.
    pub fn reply_or_end(&mut self) -> Option<String> {
        while self.replies.is_empty() && self.pull() {}
        self.replies.pop_front()
    }

    /// The next line of any kind, for tests of the order among replies and updates.
    pub fn next_line(&mut self) -> String {
        assert!(self.replies.is_empty() && self.updates.is_empty(), "these were asked for apart before");
        assert!(self.pull(), "the connection ended where a line was due");
        self.replies.pop_front().or_else(|| self.updates.pop_front()).expect("a line was read")
    }

    /// The oldest update not yet taken.
    pub fn update(&mut self) -> String {
        while self.updates.is_empty() {
            assert!(self.pull(), "the connection ended where an update was due");
        }
        self.updates.pop_front().expect("the loop ended with one")
    }

    /// The oldest update of `tag` not yet taken; updates of different tags have no order among them.
    #[track_caller]
    pub fn update_of(&mut self, tag: &str) -> String {
        loop {
            let found = self.updates.iter().position(|line| line.split(' ').nth(1) == Some(tag));
            if let Some(line) = found.and_then(|at| self.updates.remove(at)) {
                return line;
            }
            assert!(self.pull(), "the connection ended where an update of {tag} was due");
        }
    }

    /// Updates that came along with replies and that nobody has asked for.
    pub fn updates_left(&self) -> Vec<String> {
        self.updates.iter().cloned().collect()
    }

    /// The next line that is no update matches `pattern`; see [`matches`].
    #[track_caller]
    pub fn expect(&mut self, pattern: &str) {
        let line = self.reply_line();
        assert!(self.matches(pattern, &line), "expected {pattern:?}, got {line:?}");
    }

    /// The next update of the pattern's tag matches it.
    #[track_caller]
    pub fn expect_update(&mut self, pattern: &str) {
        let line = self.update_of(pattern.split(' ').nth(1).expect("an update names its tag"));
        assert!(self.matches(pattern, &line), "expected {pattern:?}, got {line:?}");
    }

    pub fn matches(&self, pattern: &str, line: &str) -> bool {
        matches(pattern, line, self.since_ms)
    }

    /// The stream ends here, and with an end: neither another line nor a reset.
    #[track_caller]
    pub fn expect_end(&mut self) {
        let ended = !self.pull();
        assert!(ended && self.replies.is_empty(), "a line instead of the end: {:?}", self.replies);
    }

    /// Every line up to the stream's end. A reset or a part of a line is a failure.
    pub fn read_to_end(&mut self) -> Vec<String> {
        while self.pull() {}
        self.replies.drain(..).collect()
    }

    /// Look what has come, waiting a little: for tests whose pace is set by the other end.
    pub fn peek(&self, patience: Duration) -> Peek {
        let stream = self.stream();
        stream.set_read_timeout(Some(patience)).expect("a socket has a read timeout");
        let result = stream.peek(&mut [0]);
        stream.set_read_timeout(Some(DEADLINE)).expect("a socket has a read timeout");
        match result {
            Ok(0) => Peek::End,
            Ok(_) => Peek::Data,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Peek::Quiet,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Peek::Reset,
            Err(error) => panic!("looking at the stream: {error}"),
        }
    }

    /// The raw stream, for what is not lines. Only before the first line is read.
    pub fn read_exact(&mut self, buffer: &mut [u8]) {
        self.stream.read_exact(buffer).expect("as many bytes as are due");
    }

    /// Read one line and put it where it belongs; false at the end of the stream.
    #[track_caller]
    fn pull(&mut self) -> bool {
        let mut bytes = Vec::new();
        self.stream.read_until(b'\n', &mut bytes).expect("a line or the end, and in time");
        if bytes.is_empty() {
            return false;
        }
        assert_eq!(bytes.pop(), Some(b'\n'), "the stream ends inside a line: {:?}", lossy(&bytes));
        let line = String::from_utf8(bytes).expect("every line is UTF-8");
        match line.split(' ').next() {
            Some("UPD" | "FRAME") => {
                assert!(!self.in_reply, "an update inside a reply: {line:?}");
                self.updates.push_back(line);
                return true;
            }
            Some("VAL" | "TAG" | "INFO" | "HELP") => self.in_reply = true,
            Some("OK") => self.in_reply = false,
            Some("ERR") => {
                check_error(&line);
                self.in_reply = false;
            }
            _ => panic!("neither data nor a final line: {line:?}"),
        }
        self.replies.push_back(line);
        true
    }
}

/// What [`Client::peek`] saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    Quiet,
    Data,
    End,
    Reset,
}

/// Does `line` match `pattern`, field by field? `*` stands for any field, `@` for a time that the server's
/// clock can have shown, a last `...` for any rest. `ERR code` leaves the text open.
pub fn matches(pattern: &str, line: &str, since_ms: i64) -> bool {
    if let Some(code) = pattern.strip_prefix("ERR ").filter(|code| !code.contains(' ')) {
        return line.split(' ').nth(1) == Some(code) && line.starts_with("ERR ");
    }
    let mut fields = line.split(' ');
    for expected in pattern.split(' ') {
        let matched = match (expected, fields.next()) {
            ("...", _) => return true,
            (_, None) => false,
            ("*", Some(field)) => !field.is_empty(),
            ("@", Some(field)) => field
                .parse()
                .is_ok_and(|ms| (since_ms - CLOCK_SLACK_MS..=now_ms() + CLOCK_SLACK_MS).contains(&ms)),
            (_, Some(field)) => field == expected,
        };
        if !matched {
            return false;
        }
    }
    fields.next().is_none()
}

pub fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(now.as_millis()).expect("the clock is before the year 292,000,000")
}

pub fn is_final(line: &str) -> bool {
    matches!(line.split(' ').next(), Some("OK" | "ERR"))
}

/// `ERR code text`, the text at most 120 bytes without control characters, whatever the request was.
fn check_error(line: &str) {
    let (code, text) = line["ERR ".len()..].split_once(' ').unwrap_or_else(|| panic!("no text: {line:?}"));
    assert!(CODES.contains(&code), "no code of the table: {line:?}");
    assert!((1..=ERROR_TEXT_BYTES).contains(&text.len()), "a text of {} bytes: {line:?}", text.len());
    assert!(!text.chars().any(char::is_control), "a control character: {line:?}");
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned()
}

#[test]
fn patterns_match_what_they_should() {
    let now = now_ms();
    #[rustfmt::skip]
    let table = [
        ("OK 1 good @",    format!("OK 1 good {now}"),          true),
        ("OK 1 good @",    format!("OK 1 good {}", now - 9999), false),
        ("OK 1 good @",    "OK 1 good x".to_owned(),            false),
        ("OK 1 good *",    "OK 1 good 5".to_owned(),            true),
        ("OK 1 good *",    "OK 1 good".to_owned(),              false),
        ("OK 1 good",      "OK 1 good 5".to_owned(),            false),
        ("OK ...",         "OK 1 good 5".to_owned(),            true),
        ("ERR not-found",  "ERR not-found no tag a".to_owned(), true),
        ("ERR not-found",  "ERR bad-name no tag a".to_owned(),  false),
    ];
    for (pattern, line, expected) in table {
        assert_eq!(matches(pattern, &line, now), expected, "{pattern:?} on {line:?}");
    }
}
