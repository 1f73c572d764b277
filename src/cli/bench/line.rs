//! `SET` and `GET`. Each value is the microsecond since 1970 at which its write was due, so that a subscriber
//! knows how old it is, and that it is none of an earlier run.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::time::Tick;
use crate::cli::load::{Lines, Reply, Sample};
use crate::engine::Context;

use super::dialect::{Asked, Dialect, Fault, Taken, What};
use super::run::Run;

/// The digits of the largest value.
const DIGITS: usize = 20;
/// `SET`, blanks, quotes, a slash, a number, the end of the line.
const BESIDES_BYTES: usize = 40;

pub(super) struct Line {
    run: Arc<Run>,
    root: String,
    /// Texts of that length; whole numbers where there is none.
    value_bytes: Option<usize>,
    /// The request that is made.
    line: Vec<u8>,
}

impl Line {
    pub(super) fn new(run: Arc<Run>, root: &str, value_bytes: Option<usize>) -> Line {
        Line { run, root: root.to_owned(), value_bytes, line: Vec::new() }
    }

    fn push_name(&mut self, place: usize) {
        self.line.extend_from_slice(self.root.as_bytes());
        self.line.push(b'/');
        self.line.extend_from_slice(itoa::Buffer::new().format(place).as_bytes());
    }

    fn push_value(&mut self, value: u64) {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(value).as_bytes();
        match self.value_bytes {
            None => self.line.extend_from_slice(digits),
            Some(bytes) => {
                self.line.push(b'"');
                let zeros = bytes.saturating_sub(digits.len());
                self.line.resize(self.line.len() + zeros, b'0');
                self.line.extend_from_slice(digits);
                self.line.push(b'"');
            }
        }
    }
}

/// The name of a tag below `root`, and which it is.
pub(super) fn place_of(root: &str, name: &str) -> Option<usize> {
    name.strip_prefix(root)?.strip_prefix('/')?.parse().ok()
}

/// The value that was written so.
pub(super) fn value_of(text: &str) -> Option<u64> {
    let digits = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    digits.parse().ok()
}

impl Dialect for Line {
    fn keeps_order(&self) -> bool {
        true
    }

    fn next_value(&self, last: u64, due: Tick) -> u64 {
        self.run.value_at(due).max(last + 1)
    }

    /// A tag is there once it was written.
    fn writes_first(&self) -> bool {
        true
    }

    fn longest_bytes(&self) -> usize {
        self.root.len() + self.value_bytes.unwrap_or(DIGITS) + BESIDES_BYTES
    }

    fn put(&mut self, cx: &mut Context<'_>, asked: &mut Asked) {
        self.line.clear();
        match asked.what {
            What::Read { .. } => {
                self.line.extend_from_slice(b"GET ");
                self.push_name(asked.place);
            }
            What::Write(value) => {
                self.line.extend_from_slice(b"SET ");
                self.push_name(asked.place);
                self.line.push(b' ');
                self.push_value(value);
            }
        }
        self.line.push(b'\n');
        cx.put(&self.line);
    }

    fn take(&mut self, waiting: &mut VecDeque<Asked>, input: &[u8]) -> Taken {
        let mut lines = Lines::of(input);
        let Some(line) = lines.next() else {
            let too_long = lines.rest_is_too_long();
            let fault = || Fault::Wrong("a line without an end".to_owned());
            return if too_long { Taken::Violation(fault()) } else { Taken::Part };
        };
        let result = match Reply::parse(line) {
            Reply::Ok(rest) => Ok(rest),
            Reply::Err(text) => Err(Fault::Refused(format!("ERR {text}"))),
            _ => {
                return Taken::Violation(Fault::Wrong(format!("a line that is no answer: {}", shown(line))));
            }
        };
        let Some(asked) = waiting.pop_front() else {
            let unasked = || Fault::Wrong(format!("unasked: {}", shown(line)));
            // It may refuse the connection itself, such as when there are too many.
            return Taken::Violation(result.err().unwrap_or_else(unasked));
        };
        let result = result.and_then(|rest| match asked.what {
            What::Write(_) if rest.is_empty() => Ok(None),
            What::Read { .. } => match Sample::parse(rest) {
                Some(Sample { value, quality: b"good", .. }) => value_of(value)
                    .map(Some)
                    .ok_or_else(|| Fault::Foreign(format!("a value that nobody wrote: {}", shown(line)))),
                _ => Err(Fault::Wrong(format!("no good sample in answer to GET: {}", shown(line)))),
            },
            What::Write(_) => Err(Fault::Wrong(format!("no answer to SET: {}", shown(line)))),
        });
        Taken::Answer(lines.consumed(), asked, result)
    }
}

/// Enough of a line to recognize it.
fn shown(line: &[u8]) -> String {
    const MOST_CHARS: usize = 60;
    String::from_utf8_lossy(line).escape_debug().take(MOST_CHARS).collect()
}
