//! The requests of the line protocol: one table that drives parsing, `HELP` and the tests; parsed into strict
//! types, and printed for those who send them.

use std::fmt::{self, Write};
use std::time::Duration;

use super::fault::{Code, Fault, clipped, quoted};
use crate::base::section::parse_duration;
use crate::base::time::Timestamp;
use crate::engine::{Traced, Transport};
use crate::tags::name::{DeviceName, Pattern, TagName};
use crate::tags::value::{Input, Quality, ValueError, write_value};

/// A well-formed request line.
#[derive(Clone, Debug)]
pub enum Request<'a> {
    /// The current sample of a tag.
    Get(TagName<'a>),
    /// Write a sample.
    Set(Set<'a>),
    /// The current samples of all tags that match.
    Read(Pattern<'a>),
    /// As `Read`, and their changes from then on.
    Sub(Pattern<'a>),
    /// End a subscription.
    Unsub(Pattern<'a>),
    /// The matching tags themselves.
    List(Pattern<'a>),
    /// Which device is at the other end, and after what silence its values are in doubt.
    Hello(DeviceName<'a>, Option<Duration>),
    /// Log in.
    Auth,
    /// The server's clock.
    Time,
    /// Answered with its own text.
    Ping(&'a str),
    /// Figures about the server.
    Info,
    /// Follow the frames of a device or of a connection; with all that is known of them?
    Trace(Traced<'a>, bool),
    /// End that.
    Untrace(Traced<'a>),
    /// The requests there are.
    Help,
    /// Close.
    Quit,
}

/// What a `SET` asks for.
#[derive(Clone, Debug)]
pub struct Set<'a> {
    /// The tag.
    pub name: TagName<'a>,
    /// Its new value.
    pub value: Input<'a>,
    /// Its quality, if not `good`.
    pub quality: Option<Quality>,
    /// Its time, if not now.
    pub time: Option<Timestamp>,
}

/// A row of the table of requests.
pub struct Verb {
    /// As it is written.
    pub name: &'static str,
    /// Its fields, for people.
    pub usage: &'static str,
    /// What it does, for people.
    pub summary: &'static str,
    /// Whether it is refused where each datagram stands for itself.
    pub stream_only: bool,
    /// How many fields follow it, at least and at most.
    fields: (usize, usize),
    parse: for<'a> fn(&Fields<'a>) -> Result<Request<'a>, Fault>,
}

/// No request has more fields behind its verb.
const MOST_FIELDS: usize = 4;

/// All requests; the frequent ones first, as the table is searched from the top.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "SET",
        usage: "tag value [quality] [time]",
        summary: "write a sample",
        stream_only: false,
        fields: (2, 4),
        parse: |fields| Ok(Request::Set(parse_set(fields)?)),
    },
    Verb {
        name: "GET",
        usage: "tag",
        summary: "the current sample",
        stream_only: false,
        fields: (1, 1),
        parse: |fields| Ok(Request::Get(tag_name(fields.at(0))?)),
    },
    Verb {
        name: "READ",
        usage: "pattern",
        summary: "the current samples of all matching tags; + is one level, # this level and all below",
        stream_only: false,
        fields: (1, 1),
        parse: |fields| Ok(Request::Read(pattern(fields.at(0))?)),
    },
    Verb {
        name: "SUB",
        usage: "pattern",
        summary: "as READ, and then an UPD line at each change",
        stream_only: true,
        fields: (1, 1),
        parse: |fields| Ok(Request::Sub(pattern(fields.at(0))?)),
    },
    Verb {
        name: "UNSUB",
        usage: "pattern",
        summary: "end that subscription",
        stream_only: true,
        fields: (1, 1),
        parse: |fields| Ok(Request::Unsub(pattern(fields.at(0))?)),
    },
    Verb {
        name: "LIST",
        usage: "pattern",
        summary: "the matching tags: type, access, source",
        stream_only: false,
        fields: (1, 1),
        parse: |fields| Ok(Request::List(pattern(fields.at(0))?)),
    },
    Verb {
        name: "HELLO",
        usage: "device [timeout]",
        summary: "name this device; when it is gone or silent its tags turn uncertain",
        stream_only: true,
        fields: (1, 2),
        parse: parse_hello,
    },
    Verb {
        name: "AUTH",
        usage: "user secret",
        summary: "log in",
        stream_only: true,
        fields: (2, 2),
        parse: |_| Ok(Request::Auth),
    },
    Verb {
        name: "TIME",
        usage: "",
        summary: "the server's clock, in milliseconds since 1970",
        stream_only: false,
        fields: (0, 0),
        parse: |_| Ok(Request::Time),
    },
    Verb {
        name: "PING",
        usage: "[text]",
        summary: "answered with the text",
        stream_only: false,
        fields: (0, usize::MAX),
        parse: |fields| Ok(Request::Ping(fields.text)),
    },
    Verb {
        name: "INFO",
        usage: "",
        summary: "figures about the server",
        stream_only: false,
        fields: (0, 0),
        parse: |_| Ok(Request::Info),
    },
    Verb {
        name: "TRACE",
        usage: "device [detail=yes]",
        summary: "follow the frames of a device, or of the connection with that peer",
        stream_only: true,
        fields: (1, 2),
        parse: parse_trace,
    },
    Verb {
        name: "UNTRACE",
        usage: "device",
        summary: "end that",
        stream_only: true,
        fields: (1, 1),
        parse: |fields| Ok(Request::Untrace(traced(fields.at(0))?)),
    },
    Verb {
        name: "HELP",
        usage: "",
        summary: "this list",
        stream_only: false,
        fields: (0, 0),
        parse: |_| Ok(Request::Help),
    },
    Verb {
        name: "QUIT",
        usage: "",
        summary: "close the connection",
        stream_only: true,
        fields: (0, 0),
        parse: |_| Ok(Request::Quit),
    },
];

impl Verb {
    /// Verb and fields, as a person types them.
    pub fn full_usage(&self) -> String {
        format!("{} {}", self.name, self.usage).trim_end().to_owned()
    }
}

/// The fields behind a verb, blanks and quotes seen to.
struct Fields<'a> {
    /// All that follows the verb, as it stands.
    text: &'a str,
    fields: [&'a str; MOST_FIELDS],
    count: usize,
}

impl<'a> Fields<'a> {
    fn new(text: &'a str) -> Fields<'a> {
        let mut fields = Fields { text, fields: [""; MOST_FIELDS], count: 0 };
        let mut rest = text;
        while let Some((field, after)) = next_field(rest) {
            if let Some(place) = fields.fields.get_mut(fields.count) {
                *place = field;
            }
            fields.count += 1;
            rest = after;
        }
        fields
    }

    fn at(&self, place: usize) -> &'a str {
        self.fields[place]
    }

    /// A field that may be missing.
    fn get(&self, place: usize) -> Option<&'a str> {
        (place < self.count).then(|| self.fields[place])
    }
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn without_leading_blanks(text: &str) -> &str {
    let blanks = text.bytes().take_while(is_blank).count();
    &text[blanks..]
}

/// The first field of a text without leading blanks, and what follows it, without leading blanks. A field
/// that begins with a quote runs to its closing quote and on to the next blank.
pub fn next_field(text: &str) -> Option<(&str, &str)> {
    if text.is_empty() {
        return None;
    }
    let bytes = text.as_bytes();
    let mut end = 0;
    if bytes[0] == b'"' {
        end = 1;
        while end < bytes.len() && bytes[end] != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        // A backslash at the very end would lead past it.
        end = end.min(bytes.len());
    }
    end = bytes[end..].iter().position(is_blank).map_or(bytes.len(), |blank| end + blank);
    let (field, rest) = text.split_at(end);
    Some((field, without_leading_blanks(rest)))
}

/// Parse a line of a stream, without its end. `None`: there are only blanks in it. The checks come in the
/// order that the protocol demands; those that need the server's state are made later.
pub fn parse(line: &[u8]) -> Result<Option<Request<'_>>, Fault> {
    parse_on(Transport::Stream, line)
}

/// Parse a line that came by that transport.
pub(super) fn parse_on(transport: Transport, line: &[u8]) -> Result<Option<Request<'_>>, Fault> {
    let text = std::str::from_utf8(line);
    let text = text.map_err(|_| Fault::new(Code::BadRequest, "the line is not UTF-8"))?;
    let Some((name, rest)) = next_field(without_leading_blanks(text)) else { return Ok(None) };
    let verb = VERBS.iter().find(|verb| verb.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
        Fault::new(Code::BadRequest, format!("unknown request {}; HELP lists what there is", quoted(name)))
    })?;
    if verb.stream_only && transport == Transport::Datagram {
        return Err(Fault::new(Code::BadRequest, format!("{} needs a TCP connection", verb.name)));
    }
    let fields = Fields::new(rest);
    let (least, most) = verb.fields;
    if fields.count < least || fields.count > most {
        return Err(Fault::new(Code::BadRequest, format!("usage: {}", verb.full_usage())));
    }
    (verb.parse)(&fields).map(Some)
}

/// Whether a line, which may be wrong otherwise, is to log somebody in.
pub(super) fn is_login(line: &[u8]) -> bool {
    let blanks = line.iter().take_while(|byte| is_blank(byte)).count();
    line[blanks..].get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH"))
}

fn tag_name(field: &str) -> Result<TagName<'_>, Fault> {
    TagName::parse(field).map_err(|error| Fault::new(Code::BadName, error.to_string()))
}

fn pattern(field: &str) -> Result<Pattern<'_>, Fault> {
    Pattern::parse(field).map_err(|error| Fault::new(Code::BadName, error.to_string()))
}

fn traced(field: &str) -> Result<Traced<'_>, Fault> {
    Traced::parse(field).map_err(|error| Fault::new(Code::BadName, error.to_string()))
}

fn parse_trace<'a>(fields: &Fields<'a>) -> Result<Request<'a>, Fault> {
    let is_detailed = match fields.get(1) {
        None | Some("detail=no") => false,
        Some("detail=yes") => true,
        Some(_) => return Err(Fault::new(Code::BadRequest, "usage: TRACE device [detail=yes]")),
    };
    Ok(Request::Trace(traced(fields.at(0))?, is_detailed))
}

fn parse_hello<'a>(fields: &Fields<'a>) -> Result<Request<'a>, Fault> {
    let device =
        DeviceName::parse(fields.at(0)).map_err(|error| Fault::new(Code::BadName, error.to_string()))?;
    let timeout = match fields.get(1) {
        None => None,
        Some(text) => match parse_duration(text) {
            Ok(timeout) if !timeout.is_zero() => Some(timeout),
            _ => {
                let message = format!("{} is not a timeout such as 10s or 500ms", quoted(text));
                return Err(Fault::new(Code::BadValue, message));
            }
        },
    };
    Ok(Request::Hello(device, timeout))
}

fn parse_set<'a>(fields: &Fields<'a>) -> Result<Set<'a>, Fault> {
    let name = tag_name(fields.at(0))?;
    let value = Input::parse(fields.at(1)).map_err(|error| bad_value(fields.at(1), error))?;
    let (third, fourth) = (fields.get(2), fields.get(3));
    let quality = third.and_then(Quality::parse);
    if matches!(value, Input::Null) && quality != Some(Quality::Bad) {
        return Err(Fault::new(Code::BadValue, "null is no value; a broken sensor says SET tag null bad"));
    }
    // The quality may be left out where a time is given.
    let time = match (third, quality, fourth) {
        (None, ..) | (Some(_), Some(_), None) => None,
        (Some(_), Some(_), Some(time)) => Some(parse_time(time)?),
        (Some(time), None, None) => Some(parse_time(time)?),
        (Some(quality), None, Some(_)) => {
            let message =
                format!("{} is not a quality: good, uncertain or bad, then the time", quoted(quality));
            return Err(Fault::new(Code::BadTime, message));
        }
    };
    Ok(Set { name, value, quality, time })
}

fn parse_time(field: &str) -> Result<Timestamp, Fault> {
    let digits = field.strip_prefix('-').unwrap_or(field);
    let is_integer = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let millis = if is_integer { field.parse().ok() } else { None };
    millis.map(Timestamp).ok_or_else(|| bad_time(field))
}

fn bad_time(field: &str) -> Fault {
    let message = format!("{} is neither good, uncertain or bad nor milliseconds since 1970", quoted(field));
    Fault::new(Code::BadTime, message)
}

fn bad_value(field: &str, error: ValueError) -> Fault {
    let message = match error {
        ValueError::Unknown => {
            let field = clipped(field);
            format!("'{field}' is not a value; write text as \"{field}\"")
        }
        error => error.to_string(),
    };
    Fault::new(Code::BadValue, message)
}

impl fmt::Display for Request<'_> {
    /// The request as a line, without its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Get(name) => write!(f, "GET {name}"),
            Request::Set(set) => set.fmt(f),
            Request::Read(pattern) => write!(f, "READ {pattern}"),
            Request::Sub(pattern) => write!(f, "SUB {pattern}"),
            Request::Unsub(pattern) => write!(f, "UNSUB {pattern}"),
            Request::List(pattern) => write!(f, "LIST {pattern}"),
            Request::Hello(device, None) => write!(f, "HELLO {device}"),
            Request::Hello(device, Some(timeout)) => write!(f, "HELLO {device} {}us", timeout.as_micros()),
            // A secret is not kept, and so not printed.
            Request::Auth => f.write_str("AUTH - -"),
            Request::Time => f.write_str("TIME"),
            Request::Ping("") => f.write_str("PING"),
            Request::Ping(text) => write!(f, "PING {text}"),
            Request::Info => f.write_str("INFO"),
            Request::Trace(traced, false) => write!(f, "TRACE {traced}"),
            Request::Trace(traced, true) => write!(f, "TRACE {traced} detail=yes"),
            Request::Untrace(traced) => write!(f, "UNTRACE {traced}"),
            Request::Help => f.write_str("HELP"),
            Request::Quit => f.write_str("QUIT"),
        }
    }
}

impl fmt::Display for Set<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SET {} ", self.name)?;
        write_value(&self.value.clone().into_value(), f)?;
        if let Some(quality) = self.quality {
            write!(f, " {}", quality.as_str())?;
        }
        if let Some(Timestamp(millis)) = self.time {
            f.write_char(' ')?;
            millis.fmt(f)?;
        }
        Ok(())
    }
}
