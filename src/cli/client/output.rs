//! How received lines are shown: as they are, or as JSON, one object a line.

use std::io::{self, Write};

use super::connection::{Asked, Kind, Reply};
use crate::protocols::line::next_field;
use crate::tags::value::{Input, Value, write_text, write_value};

/// Lines that are written at once, if so many have come.
const MOST_WAITING_BYTES: usize = 64 * 1024;

/// What the line of a frame may have besides.
const FRAME_KEYS: [&str; 5] = ["skipped", "via", "from", "to", "conn"];

/// The form of the lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As they came.
    Text,
    /// One JSON object each.
    Json,
}

impl Form {
    /// Append a line to `out`, its end included.
    pub(super) fn put(self, reply: &Reply, out: &mut String) {
        match self {
            Form::Text => out.push_str(&reply.line),
            Form::Json => put_json(reply, out),
        }
        out.push('\n');
    }
}

/// Standard output, in one of the forms. Whole lines are written: when flushed, or when there are many.
pub(super) struct Output {
    form: Form,
    lines: String,
}

impl Output {
    pub(super) fn new(form: Form) -> Output {
        Output { form, lines: String::new() }
    }

    pub(super) fn put(&mut self, reply: &Reply) -> io::Result<()> {
        self.form.put(reply, &mut self.lines);
        if self.lines.len() < MOST_WAITING_BYTES { Ok(()) } else { self.flush() }
    }

    /// An error is for the caller, and not a panic as with `println!`: the other end of a pipe may be gone.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(self.lines.as_bytes())?;
        self.lines.clear();
        out.flush()
    }
}

/// The fields of a JSON object, one after another.
struct Object<'a> {
    out: &'a mut String,
}

impl Object<'_> {
    fn begin<'a>(out: &'a mut String, reply: &str) -> Object<'a> {
        out.push_str("{\"reply\":");
        let _ = write_text(reply, out);
        Object { out }
    }

    fn key(&mut self, key: &str) {
        self.out.push_str(",\"");
        self.out.push_str(key);
        self.out.push_str("\":");
    }

    fn text(&mut self, key: &str, text: &str) {
        self.key(key);
        let _ = write_text(text, self.out);
    }

    /// A value as the line protocol prints it. What JSON has no number for (`nan`, `inf`, `-inf`) is a
    /// string.
    fn value(&mut self, key: &str, field: &str) {
        let value = Input::parse(field).map(Input::into_value);
        match value {
            Ok(Value::Float(float)) if !float.is_finite() => self.text(key, field),
            Ok(value) => {
                self.key(key);
                let _ = write_value(&value, self.out);
            }
            Err(_) => self.text(key, field),
        }
    }

    /// An integer, where it is one.
    fn integer(&mut self, key: &str, field: &str) {
        match field.parse::<i64>() {
            Ok(_) => self.value(key, field),
            Err(_) => self.text(key, field),
        }
    }

    /// `value quality time`.
    fn sample(&mut self, fields: &[&str; 3]) {
        self.value("value", fields[0]);
        self.text("quality", fields[1]);
        self.integer("time", fields[2]);
    }

    fn end(self) {
        self.out.push('}');
    }
}

fn put_json(reply: &Reply, out: &mut String) {
    let (verb, rest) = next_field(&reply.line).unwrap_or(("", ""));
    let mut object = Object::begin(out, verb);
    if !put_known(reply, verb, rest, &mut object) && !rest.is_empty() {
        object.text("text", rest);
    }
    object.end();
}

/// The fields of a line of this protocol version, or false.
fn put_known(reply: &Reply, verb: &str, rest: &str, object: &mut Object<'_>) -> bool {
    match (verb, &reply.asked) {
        ("VAL" | "UPD", _) => {
            let Some([tag, sample @ ..]) = fields::<4>(rest) else { return false };
            object.text("tag", tag);
            object.sample(&sample);
        }
        ("TAG", _) => {
            let Some([tag, kind, access, source]) = fields(rest) else { return false };
            object.text("tag", tag);
            object.text("type", kind);
            object.text("access", access);
            object.text("source", source);
        }
        ("FRAME", _) => {
            let Some([time, device, direction, bytes]) = fields(rest) else { return false };
            object.integer("time", time);
            object.text("device", device);
            object.text("direction", direction);
            object.text("bytes", bytes);
            for (key, value) in rest.split(' ').filter_map(|field| field.split_once('=')) {
                if FRAME_KEYS.contains(&key) {
                    object.integer(key, value);
                }
            }
        }
        ("INFO", _) => {
            let Some((key, value)) = rest.split_once(' ') else { return false };
            object.text("key", key);
            object.integer("value", value);
        }
        ("ERR", _) if reply.kind == Kind::Refused => {
            let (code, text) = rest.split_once(' ').unwrap_or((rest, ""));
            object.text("code", code);
            object.text("text", text);
        }
        ("OK", Asked::Sample(tag)) => {
            let Some(sample) = fields(rest) else { return false };
            object.text("tag", tag);
            object.sample(&sample);
        }
        ("OK", Asked::Count) if rest.parse::<i64>().is_ok() => object.integer("count", rest),
        ("OK", Asked::Time) if rest.parse::<i64>().is_ok() => object.integer("time", rest),
        _ => return false,
    }
    true
}

/// The first fields; later versions may add more.
fn fields<const COUNT: usize>(text: &str) -> Option<[&str; COUNT]> {
    let mut fields = [""; COUNT];
    let mut rest = text;
    for place in &mut fields {
        (*place, rest) = next_field(rest)?;
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_asked(line: &str, asked: Asked, json: &str) {
        let kind = match line.split(' ').next() {
            Some("OK") => Kind::Done,
            Some("ERR") => Kind::Refused,
            _ => Kind::Data,
        };
        let reply = Reply { line: line.to_owned(), kind, asked };
        let mut out = String::new();
        Form::Json.put(&reply, &mut out);
        assert_eq!(out, format!("{json}\n"), "{line:?}");
        out.clear();
        Form::Text.put(&reply, &mut out);
        assert_eq!(out, format!("{line}\n"));
    }

    #[track_caller]
    fn check(line: &str, json: &str) {
        check_asked(line, Asked::Text, json);
    }

    #[test]
    fn samples_as_json() {
        #[track_caller]
        fn value(value: &str, json: &str) {
            check(
                &format!("UPD a/b {value} good 1763798401123"),
                &format!(
                    r#"{{"reply":"UPD","tag":"a/b","value":{json},"quality":"good","time":1763798401123}}"#
                ),
            );
        }
        value("81.5", "81.5");
        value("80.0", "80.0");
        value("1e300", "1e300");
        value("1e-7", "1e-7");
        value("-0.0", "-0.0");
        value("80", "80");
        value("-9223372036854775808", "-9223372036854775808");
        value("true", "true");
        value("null", "null");
        value("nan", r#""nan""#);
        value("inf", r#""inf""#);
        value("-inf", r#""-inf""#);
        value(r#""off line""#, r#""off line""#);
        value(r#""a\"b\\c\u0000\n é 😀""#, r#""a\"b\\c\u0000\n é 😀""#);
        value(r#""""#, r#""""#);
        // Of a later version, perhaps.
        value("0x12", r#""0x12""#);
        value(r#"2020-01-01T00:00:00Z"#, r#""2020-01-01T00:00:00Z""#);
        check("VAL a null bad 0", r#"{"reply":"VAL","tag":"a","value":null,"quality":"bad","time":0}"#);
        check("VAL a 1 good -5 unit=C", r#"{"reply":"VAL","tag":"a","value":1,"quality":"good","time":-5}"#);
        check("VAL a 1", r#"{"reply":"VAL","text":"a 1"}"#);
    }

    #[test]
    fn other_lines_as_json() {
        check(
            "TAG a/b float rw press3",
            r#"{"reply":"TAG","tag":"a/b","type":"float","access":"rw","source":"press3"}"#,
        );
        check(
            "FRAME 5 press3 in 0102",
            r#"{"reply":"FRAME","time":5,"device":"press3","direction":"in","bytes":"0102"}"#,
        );
        let frame = r#"{"reply":"FRAME","time":5,"device":"a","direction":"out","bytes":"00","skipped":3,"#;
        check("FRAME 5 a out 00 skipped=3 from=[::1]:5", &format!(r#"{frame}"from":"[::1]:5"}}"#));
        check("INFO tags 12", r#"{"reply":"INFO","key":"tags","value":12}"#);
        check("INFO name my plant", r#"{"reply":"INFO","key":"name","value":"my plant"}"#);
        check("INFO version 0.1.0", r#"{"reply":"INFO","key":"version","value":"0.1.0"}"#);
        check("HELP GET tag: it", r#"{"reply":"HELP","text":"GET tag: it"}"#);
        check(
            r#"ERR bad-value 'warm' is not a value; write text as "warm""#,
            r#"{"reply":"ERR","code":"bad-value","text":"'warm' is not a value; write text as \"warm\""}"#,
        );
        check("ERR odd", r#"{"reply":"ERR","code":"odd","text":""}"#);
        check("Echo: \u{1b}[2J", r#"{"reply":"Echo:","text":"\u001b[2J"}"#);
        check("", r#"{"reply":""}"#);
    }

    #[test]
    fn an_ok_says_what_was_asked_for() {
        let tag = || Asked::Sample("a/b".to_owned());
        let sample = r#"{"reply":"OK","tag":"a/b","value":"x y","quality":"good","time":5}"#;
        check_asked(r#"OK "x y" good 5"#, tag(), sample);
        check_asked("OK", tag(), r#"{"reply":"OK"}"#);
        check_asked("OK 3", Asked::Count, r#"{"reply":"OK","count":3}"#);
        check_asked("OK 3", Asked::Time, r#"{"reply":"OK","time":3}"#);
        check_asked("OK 3", Asked::Text, r#"{"reply":"OK","text":"3"}"#);
        check_asked("OK lumina 1", Asked::Text, r#"{"reply":"OK","text":"lumina 1"}"#);
        check_asked("OK many", Asked::Count, r#"{"reply":"OK","text":"many"}"#);
        check_asked(
            "ERR limit too many connections",
            tag(),
            r#"{"reply":"ERR","code":"limit","text":"too many connections"}"#,
        );
    }
}
