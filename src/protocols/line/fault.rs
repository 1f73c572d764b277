//! What is wrong with a request, as the line protocol says it: `ERR code text`.

use std::borrow::Cow;
use std::fmt;

use crate::tags::Refusal;

/// The codes of `ERR` lines, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Unknown verb, wrong number of fields, not UTF-8, not allowed on this transport or now.
    BadRequest,
    /// Not a tag name, a pattern or a device name.
    BadName,
    /// Not a value, or not one that may be written.
    BadValue,
    /// Neither a quality nor a time.
    BadTime,
    /// The tag's type cannot hold the value.
    WrongType,
    /// Outside the tag's declared limits.
    OutOfRange,
    /// No such tag or subscription.
    NotFound,
    /// The tag cannot be written.
    ReadOnly,
    /// Not logged in, or not allowed.
    Denied,
    /// The device refused.
    Device,
    /// The device did not answer in time.
    Timeout,
    /// Nothing was sent to the device.
    Offline,
    /// A limit of the server is reached.
    Limit,
    /// The line is longer than `max_line`.
    TooLong,
}

impl Code {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::BadRequest => "bad-request",
            Code::BadName => "bad-name",
            Code::BadValue => "bad-value",
            Code::BadTime => "bad-time",
            Code::WrongType => "wrong-type",
            Code::OutOfRange => "out-of-range",
            Code::NotFound => "not-found",
            Code::ReadOnly => "read-only",
            Code::Denied => "denied",
            Code::Device => "device",
            Code::Timeout => "timeout",
            Code::Offline => "offline",
            Code::Limit => "limit",
            Code::TooLong => "too-long",
        }
    }
}

/// A request that is answered with `ERR`.
#[derive(Clone, Debug, PartialEq)]
pub struct Fault {
    /// For programs.
    pub code: Code,
    /// For people.
    text: Cow<'static, str>,
}

impl Fault {
    pub(super) fn new(code: Code, text: impl Into<Cow<'static, str>>) -> Fault {
        Fault { code, text: text.into() }
    }
}

/// The one place where refusals get their code.
impl From<&Refusal> for Fault {
    fn from(refusal: &Refusal) -> Fault {
        let code = match refusal {
            Refusal::NoSuchTag | Refusal::NoSuchPoint | Refusal::NoSuchSubscription => Code::NotFound,
            Refusal::ReadOnly => Code::ReadOnly,
            Refusal::ValueOnly => Code::BadRequest,
            Refusal::WrongType(_) => Code::WrongType,
            Refusal::OutOfRange | Refusal::DoesNotFit(_) => Code::OutOfRange,
            Refusal::Denied | Refusal::TakenOver => Code::Denied,
            Refusal::Device { .. } => Code::Device,
            Refusal::Timeout => Code::Timeout,
            Refusal::Offline => Code::Offline,
            Refusal::Limit(_) => Code::Limit,
        };
        Fault::new(code, refusal.to_string())
    }
}

/// The longest text of an `ERR` line, in bytes.
const MOST_TEXT_BYTES: usize = 120;

/// The whole line, its end included.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ERR {} ", self.code.as_str())?;
        let mut left = MOST_TEXT_BYTES;
        for mut character in self.text.chars() {
            if character.is_control() {
                character = '?';
            }
            if character.len_utf8() > left {
                break;
            }
            left -= character.len_utf8();
            fmt::Write::write_char(f, character)?;
        }
        f.write_str("\n")
    }
}

/// A field as it is quoted in an error.
pub(super) fn quoted(field: &str) -> String {
    format!("'{}'", clipped(field))
}

/// A field, cut where it is long.
pub(super) fn clipped(field: &str) -> Cow<'_, str> {
    const MOST_CHARS: usize = 24;
    match field.char_indices().nth(MOST_CHARS) {
        None => field.into(),
        Some((end, _)) => format!("{}…", &field[..end]).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_one_short_line() {
        let check = |text: &str, line: &str| {
            assert_eq!(Fault::new(Code::BadValue, text.to_owned()).to_string(), line);
        };
        check("two\nlines\u{85}", "ERR bad-value two?lines?\n");
        check(&"é".repeat(100), &format!("ERR bad-value {}\n", "é".repeat(60)));
        check(&format!("{}é", "x".repeat(119)), &format!("ERR bad-value {}\n", "x".repeat(119)));
    }
}
