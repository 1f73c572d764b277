//! What a server says in the line protocol, from the asker's side: lines, and what they mean.

use std::str;

/// A longer line is none of the protocol's: a text of 4,096 bytes that is all escapes, and a name beside it.
const LONGEST_LINE_BYTES: usize = 32 * 1024;

/// The whole lines at the front of some bytes, without their ends.
pub(in crate::cli) struct Lines<'a> {
    input: &'a [u8],
    at: usize,
}

/// What a line says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::cli) enum Reply<'a> {
    /// A final line: done, and what it says besides.
    Ok(&'a [u8]),
    /// A final line: refused; the code and the text.
    Err(&'a str),
    /// A data line: a tag as it is now.
    Val(Told<'a>),
    /// Between replies: a tag changed.
    Upd(Told<'a>),
    /// Nothing that we know: later versions of the protocol may say more.
    Other,
}

/// What is told of a tag.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::cli) struct Told<'a> {
    pub(in crate::cli) name: &'a str,
    /// As it is written.
    pub(in crate::cli) value: &'a str,
    pub(in crate::cli) time: i64,
}

/// A sample as it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::cli) struct Sample<'a> {
    pub(in crate::cli) value: &'a str,
    pub(in crate::cli) quality: &'a [u8],
    pub(in crate::cli) time: i64,
}

impl<'a> Sample<'a> {
    /// `value quality time`: only the value can hold blanks, so it is what the others leave.
    pub(in crate::cli) fn parse(fields: &'a [u8]) -> Option<Sample<'a>> {
        let (rest, time) = split_last(fields)?;
        let (value, quality) = split_last(rest)?;
        let time = str::from_utf8(time).ok()?.parse().ok()?;
        Some(Sample { value: str::from_utf8(value).ok()?, quality, time })
    }
}

impl<'a> Lines<'a> {
    pub(in crate::cli) fn of(input: &'a [u8]) -> Lines<'a> {
        Lines { input, at: 0 }
    }

    /// Bytes of the lines so far, their ends included.
    pub(in crate::cli) fn consumed(&self) -> usize {
        self.at
    }

    /// Whether what is left is longer than the beginning of any line can be.
    pub(in crate::cli) fn rest_is_too_long(&self) -> bool {
        self.input.len() - self.at > LONGEST_LINE_BYTES
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = &self.input[self.at..];
        let end = memchr::memchr(b'\n', rest)?;
        self.at += end + 1;
        let line = &rest[..end];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

impl<'a> Reply<'a> {
    pub(in crate::cli) fn parse(line: &'a [u8]) -> Reply<'a> {
        let (word, rest) = split_first(line);
        match word {
            b"OK" => Reply::Ok(rest),
            b"ERR" => Reply::Err(str::from_utf8(rest).unwrap_or("not UTF-8")),
            b"VAL" => told(rest).map_or(Reply::Other, Reply::Val),
            b"UPD" => told(rest).map_or(Reply::Other, Reply::Upd),
            _ => Reply::Other,
        }
    }
}

/// `tag value quality time`
fn told(fields: &[u8]) -> Option<Told<'_>> {
    let (name, rest) = split_first(fields);
    let Sample { value, time, .. } = Sample::parse(rest)?;
    Some(Told { name: str::from_utf8(name).ok()?, value, time })
}

fn split_first(line: &[u8]) -> (&[u8], &[u8]) {
    let line = line.trim_ascii_start();
    let end = line.iter().position(|byte| is_blank(*byte)).unwrap_or(line.len());
    (&line[..end], line[end..].trim_ascii_start())
}

fn split_last(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.trim_ascii_end();
    let begin = line.iter().rposition(|byte| is_blank(*byte))?;
    Some((line[..begin].trim_ascii_end(), &line[begin + 1..]))
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_lf_and_may_be_unfinished() {
        let mut lines = Lines::of(b"OK\r\n\nUPD a 1 go");
        assert_eq!(lines.by_ref().collect::<Vec<_>>(), [&b"OK"[..], b""]);
        assert_eq!(lines.consumed(), 5);
        assert!(!lines.rest_is_too_long());
        assert!(Lines::of(&[b'x'; LONGEST_LINE_BYTES + 1]).rest_is_too_long());
    }

    #[test]
    fn a_line_says() {
        let told = |name, value: &'static str, time| Told { name, value, time };
        #[rustfmt::skip]
        let table = [
            ("OK",                             Reply::Ok(b"")),
            ("OK lumina 1",                    Reply::Ok(b"lumina 1")),
            ("ERR limit 100 connections",      Reply::Err("limit 100 connections")),
            ("VAL a/b 81.5 good 7",            Reply::Val(told("a/b", "81.5", 7))),
            ("UPD  a/b\t81.5  good -7 ",       Reply::Upd(told("a/b", "81.5", -7))),
            (r#"UPD a "off line " bad 0"#,     Reply::Upd(told("a", r#""off line ""#, 0))),
            ("UPD a 1 good",                   Reply::Other),
            ("UPD a 1 good soon",              Reply::Other),
            ("INFO tags 7",                    Reply::Other),
            ("OKAY",                           Reply::Other),
            ("",                               Reply::Other),
        ];
        for (line, reply) in table {
            assert_eq!(Reply::parse(line.as_bytes()), reply, "{line}");
        }
    }
}
