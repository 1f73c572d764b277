//! The Lumina line protocol, version 1: what a device maker implements with `printf` and a person types with
//! `nc`.
//!
//! Here is the session: what each request does. `request` is the table of requests and their parsing, `fault`
//! the answers to what is wrong, `listing` the replies of many lines.

mod datagrams;
mod fault;
mod frames;
mod listing;
mod request;
#[cfg(test)]
mod tests;

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use crate::base::log::one_line;
use crate::base::section::Section;
use crate::base::time::Tick;
use crate::engine::{
    Acceptor, Change, Consumed, Context, End, Flow, Frame, Listening, Protocol, Session, Side, Ticket,
    Transport, Written,
};
use crate::tags::Refusal;
use crate::tags::name::Pattern;
use crate::tags::value::{Sample, write_value};

pub use fault::{Code, Fault};
pub use request::{Request, Set, VERBS, Verb, next_field, parse};

use listing::{Listing, What};
use request::is_login;

/// The row of the table.
pub const PROTOCOL: Protocol = Protocol {
    scheme: "line",
    summary: "Lumina's own: one request a line, for printf and nc",
    hint: "printf 'SET demo/hello 42\\nGET demo/hello\\nQUIT\\n' | nc {ip} {port}",
    transport: Transport::Stream,
    framed: true,
    default_port: 5000,
    frame_timeout: Duration::from_secs(30),
    listening: Listening::Alone(|section| Box::new(LineListener::configure(section))),
    specimens: &[
        b"HELLO press3 10s\r\nSET line1/press3/temperature 81.5\r\nGET line1/press3/temperature\n",
        b"SET a/b \"off \\\"line\\\" \\u00e9\" uncertain 1763798401123\nSET a/b null bad\nSET a/n -7 5\n",
        b"SUB a/#\nSET a/b true\nREAD +/b\nLIST #\nUNSUB a/#\nUNSUB a/#\n",
        b"ping  as it stands \n\n \t\nTIME\nINFO\nHELP\nAUTH u s\nNOPE\n\xff\nSET a/b warm\nGET a//b\n",
        b"TRACE press3 detail=yes\nTRACE [::1]:5000\nUNTRACE press3\nUNTRACE press3\nTRACE a/b\n",
        b"PING\nQUIT\nPING\n",
    ],
    recode: |input, out| {
        let end = input.iter().position(|&byte| byte == b'\n')?;
        recode_line(&input[..end], out);
        Some(end + 1)
    },
    words,
    capture_port: None,
};

/// The row of the table for datagrams.
pub const DATAGRAM_PROTOCOL: Protocol = Protocol {
    scheme: "line+udp",
    summary: "the line protocol in datagrams, each for itself; a reply has at most 8",
    hint: "printf 'SET demo/hello 42\\nGET demo/hello\\n' | nc -u -w 1 {ip} {port}",
    transport: Transport::Datagram,
    framed: true,
    default_port: 5000,
    frame_timeout: Duration::from_secs(30),
    listening: Listening::Alone(|section| Box::new(datagrams::Listener(LineListener::configure(section)))),
    specimens: &[
        b"SET a/b 81.5\r\nGET a/b\nSUB a/b\nREAD #\nLIST #\nPING x",
        b"HELLO d\nAUTH u s\nUNSUB a\nQUIT\n \n\xff\nTIME\nINFO\nHELP\n",
    ],
    recode: |input, out| {
        let end = input.iter().position(|&byte| byte == b'\n').unwrap_or(input.len());
        recode_line(&input[..end], out);
        (!input.is_empty()).then_some(input.len().min(end + 1))
    },
    words,
    capture_port: None,
};

/// Lines are words already.
fn words(_: Side, bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    one_line(text.trim_end_matches(['\r', '\n']), MOST_WORDS_BYTES)
}

fn recode_line(line: &[u8], out: &mut Vec<u8>) {
    match parse(without_cr(line)) {
        Ok(Some(request)) => out.extend_from_slice(format!("{request}\n").as_bytes()),
        Ok(None) => {}
        Err(fault) => out.extend_from_slice(format!("PING {fault}").as_bytes()),
    }
}

/// `max_line` where the listener sets none.
pub const DEFAULT_MAX_LINE: usize = 4_096;
/// The largest `max_line`: a partial line must leave the scratch buffer room for a read.
const LARGEST_MAX_LINE: i64 = 16 * 1024;
/// What a reply needs besides a value's text: verb, name, quality, time; or all of `HELP` or `INFO`.
const REPLY_FRAME_BYTES: usize = 2 * 1024;
/// A byte of text may be printed as `\u001f`.
const LONGEST_ESCAPE_BYTES: usize = 6;
/// The longest text that is shown of recorded bytes.
const MOST_WORDS_BYTES: usize = 1_024;

struct LineListener {
    max_line: usize,
}

impl LineListener {
    fn configure(section: &mut Section<'_>) -> LineListener {
        let max_line = section.integer("max_line", 64..=LARGEST_MAX_LINE);
        LineListener { max_line: max_line.map_or(DEFAULT_MAX_LINE, |bytes| bytes as usize) }
    }
}

impl Acceptor for LineListener {
    fn accept(&self, _peer: SocketAddr) -> Box<dyn Session> {
        Box::new(Line::new(self.max_line, Transport::Stream))
    }

    fn refuse(&self, refusal: &Refusal, out: &mut String) {
        let _ = write!(out, "{}", Fault::from(refusal));
    }
}

/// One peer's conversation. Small: most of many thousands are idle.
struct Line {
    max_line: u32,
    transport: Transport,
    /// Whether `HELLO` was said.
    introduced: bool,
    /// From `HELLO`: after so long without a byte the device's tags are in doubt.
    timeout: Option<Duration>,
    /// When the silence is too long; `None` if it is already, or there is no timeout.
    silent_at: Option<Tick>,
    /// A reply of many lines that is under way.
    listing: Option<Box<Listing>>,
}

impl Session for Line {
    fn on_bytes(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Consumed {
        self.on_heard(cx);
        let mut bytes = 0;
        loop {
            if cx.room() < self.most_reply_bytes(cx) {
                return Consumed { bytes, flow: Flow::More };
            }
            let rest = &input[bytes..];
            let Some(end) = memchr::memchr(b'\n', rest) else {
                // A CR at the end may turn out to belong to the line's end.
                let too_long = without_cr(rest).len() > self.max_line as usize;
                let flow = if too_long { self.refuse_long_line(cx) } else { Flow::Continue };
                return Consumed { bytes, flow };
            };
            let line = without_cr(&rest[..end]);
            bytes += end + 1;
            let flow = self.on_line(cx, line);
            if flow != Flow::Continue {
                return Consumed { bytes, flow };
            }
        }
    }

    fn on_room(&mut self, cx: &mut Context<'_>) -> Flow {
        let most_reply_bytes = self.most_reply_bytes(cx);
        let Some(listing) = &mut self.listing else { return Flow::Continue };
        let flow = listing.go_on(cx, most_reply_bytes);
        if flow == Flow::Continue {
            self.listing = None;
        }
        flow
    }

    fn on_change(&mut self, cx: &mut Context<'_>, change: &Change<'_>) -> Flow {
        let line = change.rendered(PROTOCOL.scheme, |line| {
            let _ = write!(line, "UPD {} ", change.name);
            let _ = put_sample(line, change.sample);
        });
        cx.put(line.as_bytes());
        Flow::Continue
    }

    fn on_frame(&mut self, cx: &mut Context<'_>, frame: &Frame<'_>) -> Flow {
        frames::put(cx, frame);
        Flow::Continue
    }

    fn on_write_done(&mut self, cx: &mut Context<'_>, _ticket: Ticket, result: Result<(), Refusal>) -> Flow {
        match result {
            Ok(()) => cx.put(b"OK\n"),
            Err(refusal) => put_fault(cx, &Fault::from(&refusal)),
        }
        Flow::Continue
    }

    fn on_deadline(&mut self, cx: &mut Context<'_>) -> Flow {
        self.silent_at = None;
        cx.doubt_own_tags();
        Flow::Continue
    }

    fn deadline(&self) -> Option<Tick> {
        self.silent_at
    }
}

impl Line {
    fn new(max_line: usize, transport: Transport) -> Line {
        let max_line = max_line as u32;
        Line { max_line, transport, introduced: false, timeout: None, silent_at: None, listing: None }
    }

    fn on_heard(&mut self, cx: &Context<'_>) {
        if let Some(timeout) = self.timeout {
            self.silent_at = Some(cx.heard() + timeout);
        }
    }

    /// No line of a reply is longer: a value's text, or that of a `PING`.
    fn most_reply_bytes(&self, cx: &Context<'_>) -> usize {
        (self.max_line as usize).max(LONGEST_ESCAPE_BYTES * cx.max_text()) + REPLY_FRAME_BYTES
    }

    fn on_line(&mut self, cx: &mut Context<'_>, line: &[u8]) -> Flow {
        if line.len() > self.max_line as usize {
            return self.refuse_long_line(cx);
        }
        let request = match request::parse_on(self.transport, line) {
            Ok(None) => return Flow::Continue,
            Ok(Some(request)) => request,
            Err(fault) => {
                if is_login(line) {
                    cx.keep_secret();
                }
                cx.count_request();
                put_fault(cx, &fault);
                return Flow::Continue;
            }
        };
        cx.count_request();
        self.on_request(cx, request).unwrap_or_else(|fault| {
            put_fault(cx, &fault);
            Flow::Continue
        })
    }

    fn refuse_long_line(&mut self, cx: &mut Context<'_>) -> Flow {
        cx.count_request();
        put_fault(cx, &Fault::new(Code::TooLong, "the line is longer than this server takes (max_line)"));
        match self.transport {
            // Where the next line begins may never be learned.
            Transport::Stream => Flow::Close(End::Violation),
            Transport::Datagram => Flow::Continue,
        }
    }

    fn on_request(&mut self, cx: &mut Context<'_>, request: Request<'_>) -> Result<Flow, Fault> {
        match request {
            Request::Set(Set { name, value, quality, time }) => {
                let written = cx.write(name, value, quality, time);
                if let Written::Pending(_) = written.map_err(|refusal| Fault::from(&refusal))? {
                    return Ok(Flow::Hold);
                }
                cx.put(b"OK\n");
            }
            Request::Get(name) => {
                let tag = cx.find(name).map_err(|refusal| Fault::from(&refusal))?;
                let sample = cx.read(tag);
                cx.put(b"OK ");
                let _ = put_sample(cx, &sample);
            }
            Request::Read(pattern) => return self.begin(cx, pattern, What::Samples),
            Request::List(pattern) => return self.begin(cx, pattern, What::Tags),
            Request::Sub(pattern) => {
                cx.subscribe(pattern).map_err(|refusal| Fault::from(&refusal))?;
                return self.begin(cx, pattern, What::Subscribed);
            }
            Request::Unsub(pattern) => {
                cx.unsubscribe(pattern).map_err(|refusal| Fault::from(&refusal))?;
                cx.put(b"OK\n");
            }
            Request::Hello(device, timeout) => {
                if cx.tags().is_polled(device) {
                    return Err(Fault::new(Code::Denied, "this server polls a device of that name"));
                }
                if std::mem::replace(&mut self.introduced, true) {
                    return Err(Fault::new(Code::BadRequest, "HELLO is said once per connection"));
                }
                cx.introduce(device);
                self.timeout = timeout;
                self.on_heard(cx);
                cx.put(b"OK lumina 1\n");
            }
            Request::Auth => {
                // Whoever follows this connection's frames would read the secret.
                cx.keep_secret();
                return Err(Fault::new(Code::Denied, "this server has no users"));
            }
            Request::Time => put_line(cx, format_args!("OK {}", cx.now().wall.0)),
            Request::Ping("") => cx.put(b"OK\n"),
            Request::Ping(text) => put_line(cx, format_args!("OK {text}")),
            Request::Info => put_info(cx),
            Request::Trace(traced, is_detailed) => {
                cx.follow(traced, is_detailed).map_err(|refusal| Fault::from(&refusal))?;
                cx.put(b"OK\n");
            }
            Request::Untrace(traced) => {
                if !cx.unfollow(traced) {
                    return Err(Fault::new(Code::NotFound, "no such trace"));
                }
                cx.put(b"OK\n");
            }
            Request::Help => {
                for verb in VERBS {
                    put_line(cx, format_args!("HELP {}: {}", verb.full_usage(), verb.summary));
                }
                put_line(cx, format_args!("OK {}", VERBS.len()));
            }
            Request::Quit => {
                cx.put(b"OK\n");
                return Ok(Flow::Close(End::Quit));
            }
        }
        Ok(Flow::Continue)
    }

    /// Begin a reply of many lines; most end at once.
    fn begin(&mut self, cx: &mut Context<'_>, pattern: Pattern<'_>, what: What) -> Result<Flow, Fault> {
        let scan = cx.begin_scan(pattern).map_err(|refusal| Fault::from(&refusal))?;
        self.listing = Some(Box::new(Listing::new(pattern, what, scan)));
        Ok(self.on_room(cx))
    }
}

fn put_info(cx: &mut Context<'_>) {
    let info = cx.info();
    let rows: [(&str, &dyn fmt::Display); 11] = [
        ("version", &env!("CARGO_PKG_VERSION")),
        ("protocol", &1),
        ("name", &info.name),
        ("uptime_s", &info.uptime.as_secs()),
        ("connections", &info.connections),
        ("tags", &info.tags),
        ("requests", &info.requests),
        ("subscriptions", &info.subscriptions),
        ("memory_bytes", &info.memory_bytes),
        ("bytes_in", &info.bytes_in),
        ("bytes_out", &info.bytes_out),
    ];
    for (key, value) in rows {
        put_line(cx, format_args!("INFO {key} {value}"));
    }
    put_line(cx, format_args!("OK {}", rows.len()));
}

fn put_fault(cx: &mut Context<'_>, fault: &Fault) {
    let _ = write!(cx, "{fault}");
}

fn put_line(cx: &mut Context<'_>, line: fmt::Arguments<'_>) {
    let _ = cx.write_fmt(line);
    cx.put(b"\n");
}

/// `value quality time`, and the end of the line.
fn put_sample(out: &mut impl Write, sample: &Sample) -> fmt::Result {
    write_value(&sample.value, out)?;
    out.write_str(" ")?;
    out.write_str(sample.quality.as_str())?;
    out.write_str(" ")?;
    out.write_str(itoa::Buffer::new().format(sample.time.0))?;
    out.write_str("\n")
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}
