//! A frame as the server tells it, and as a person reads it.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};

use crate::engine::{Direction, Protocol, Side};
use crate::protocols::by_scheme;

/// Bytes that are shown; of a longer frame the first ones. No frame of Modbus is longer.
const MOST_SHOWN_BYTES: usize = 260;
/// Output that is written at once, if so much has come.
const MOST_WAITING_BYTES: usize = 64 * 1024;

/// A `FRAME` line.
pub(super) struct Frame<'a> {
    /// Milliseconds since 1970.
    pub(super) time: i64,
    pub(super) direction: Direction,
    pub(super) bytes: Vec<u8>,
    /// Frames before it that the server did not tell.
    pub(super) skipped: u64,
    pub(super) scheme: &'a str,
    /// Whether the requests are the server's.
    pub(super) we_ask: bool,
    pub(super) peer: SocketAddr,
    /// Tells it from other connections.
    pub(super) connection: u32,
}

impl<'a> Frame<'a> {
    /// A line that is none is `None`, also one that is not understood: a later server may say more.
    pub(super) fn parse(line: &'a str) -> Option<Frame<'a>> {
        let mut fields = line.split(' ');
        if fields.next() != Some("FRAME") {
            return None;
        }
        let time = fields.next()?.parse().ok()?;
        let _name = fields.next()?;
        let direction = match fields.next()? {
            "in" => Direction::In,
            "out" => Direction::Out,
            _ => return None,
        };
        let bytes = unhex(fields.next()?)?;
        let nobody = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let mut frame = Frame {
            time,
            direction,
            bytes,
            skipped: 0,
            scheme: "",
            we_ask: false,
            peer: nobody,
            connection: 0,
        };
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            match key {
                "skipped" => frame.skipped = value.parse().ok()?,
                "via" => frame.scheme = value,
                "conn" => frame.connection = value.parse().ok()?,
                "from" | "to" => (frame.we_ask, frame.peer) = (key == "to", value.parse().ok()?),
                _ => {}
            }
        }
        Some(frame)
    }

    pub(super) fn protocol(&self) -> Option<&'static Protocol> {
        by_scheme(self.scheme)
    }

    pub(super) fn side(&self) -> Side {
        if (self.direction == Direction::Out) == self.we_ask { Side::Asks } else { Side::Answers }
    }

    fn put(&self, out: &mut String) {
        let arrow = match self.direction {
            Direction::In => "<-",
            Direction::Out => "->",
        };
        put_time(self.time, out);
        let _ = write!(out, " {arrow} {:4} ", self.bytes.len());
        for byte in self.bytes.iter().take(MOST_SHOWN_BYTES) {
            let _ = write!(out, " {byte:02x}");
        }
        if self.bytes.len() > MOST_SHOWN_BYTES {
            out.push_str(" …");
        }
        if let Some(protocol) = self.protocol() {
            out.push_str("  ");
            out.push_str(&(protocol.words)(self.side(), &self.bytes));
        }
        out.push('\n');
    }
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        digits.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits.filter(|digits| digits.len() % 2 == 0)?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// As the log writes it: `2025-11-22T08:00:01.123Z`.
fn put_time(millis: i64, out: &mut String) {
    const DAY_MS: i64 = 24 * 3_600 * 1_000;
    let (year, month, day) = date(millis.div_euclid(DAY_MS));
    let in_day = millis.rem_euclid(DAY_MS);
    let (hour, minute, second) = (in_day / 3_600_000, in_day / 60_000 % 60, in_day / 1_000 % 60);
    let _ =
        write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", in_day % 1_000);
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. Counted in spans of 400
/// years, which are all of the same length, and in years that begin with March, so that the odd day is the
/// last.
fn date(day: i64) -> (i64, i64, i64) {
    const DAYS_OF_400_YEARS: i64 = 146_097;
    const DAYS_FROM_YEAR_0_TO_1970: i64 = 719_468;
    let day = day + DAYS_FROM_YEAR_0_TO_1970;
    let (span, day) = (day.div_euclid(DAYS_OF_400_YEARS), day.rem_euclid(DAYS_OF_400_YEARS));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (400 * span + year + i64::from(month <= 2), month, day_of_month)
}

/// Standard output: a line a frame, written when flushed, or when there are many.
#[derive(Default)]
pub(super) struct Screen {
    lines: String,
    connection: Option<u32>,
}

impl Screen {
    pub(super) fn put(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        let lines = &mut self.lines;
        if frame.skipped > 0 {
            let _ = writeln!(lines, "# {} frames were skipped", frame.skipped);
        }
        if self.connection.replace(frame.connection) != Some(frame.connection) {
            let (way, peer) = (if frame.we_ask { "to" } else { "from" }, frame.peer);
            let _ = writeln!(lines, "# connection {} {way} {peer}: {}", frame.connection, frame.scheme);
        }
        frame.put(lines);
        if lines.len() < MOST_WAITING_BYTES { Ok(()) } else { self.flush() }
    }

    /// An error is for the caller, and not a panic as with `println!`: the other end of a pipe may be gone.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(self.lines.as_bytes())?;
        self.lines.clear();
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &[&str], expected: &[&str]) {
        let mut screen = Screen::default();
        for line in lines {
            screen.put(&Frame::parse(line).unwrap_or_else(|| panic!("{line}"))).unwrap();
        }
        assert_eq!(screen.lines.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn frames_in_words() {
        let ours = "via=modbus to=10.0.0.7:502 conn=3";
        let theirs = "via=modbus from=10.0.0.1:40000 conn=4";
        check(
            &[
                &format!("FRAME 1763798401123 meter7 out 00070000000601030064000a {ours}"),
                &format!("FRAME 1763798401125 meter7 in 000700000003018302 {ours}"),
                &format!("FRAME 1763798401126 10.0.0.1:40000 in 00070000000601030064000a skipped=5 {theirs}"),
                "FRAME 1763798401127 press3 in 53455420612031 skipped=1 via=line from=10.0.0.2:40000 conn=5",
                "FRAME 1763798401127 press3 out 00ff",
            ],
            &[
                "# connection 3 to 10.0.0.7:502: modbus",
                "2025-11-22T08:00:01.123Z ->   12  00 07 00 00 00 06 01 03 00 64 00 0a  \
                 transaction 7, unit 1: read holding registers 100..109",
                "2025-11-22T08:00:01.125Z <-    9  00 07 00 00 00 03 01 83 02  \
                 transaction 7, unit 1: exception 2, illegal data address",
                "# 5 frames were skipped",
                "# connection 4 from 10.0.0.1:40000: modbus",
                "2025-11-22T08:00:01.126Z <-   12  00 07 00 00 00 06 01 03 00 64 00 0a  \
                 transaction 7, unit 1: read holding registers 100..109",
                "# 1 frames were skipped",
                "# connection 5 from 10.0.0.2:40000: line",
                "2025-11-22T08:00:01.127Z <-    7  53 45 54 20 61 20 31  SET a 1",
                "# connection 0 from 0.0.0.0:0: ",
                "2025-11-22T08:00:01.127Z ->    2  00 ff",
            ],
        );
    }

    #[test]
    fn lines_that_are_no_frames() {
        for line in [
            "OK",
            "UPD a 1 good 5",
            "FRAME 5 a in",
            "FRAME x a in 00",
            "FRAME 5 a by 00",
            "FRAME 5 a in 0",
            "FRAME 5 a in 0g",
            "FRAME 5 a in 00 skipped=many",
        ] {
            assert!(Frame::parse(line).is_none(), "{line}");
        }
        assert!(Frame::parse("FRAME 5 a in 00 later=x and more").is_some());
    }

    #[test]
    fn times() {
        let check = |millis, text: &str| {
            let mut out = String::new();
            put_time(millis, &mut out);
            assert_eq!(out, text);
        };
        check(0, "1970-01-01T00:00:00.000Z");
        check(-1, "1969-12-31T23:59:59.999Z");
        check(951_782_400_000, "2000-02-29T00:00:00.000Z");
        check(951_868_799_999, "2000-02-29T23:59:59.999Z");
        check(951_868_800_000, "2000-03-01T00:00:00.000Z");
        check(1_709_164_800_000, "2024-02-29T00:00:00.000Z");
        check(4_107_542_400_000, "2100-03-01T00:00:00.000Z");
        check(4_107_542_399_999, "2100-02-28T23:59:59.999Z");
        check(253_402_300_799_999, "9999-12-31T23:59:59.999Z");
        // Each day follows the one before.
        let mut before = (1599, 12, 31);
        for day in -135_140..170_000 {
            let today = date(day);
            let (year, month, of_month) = before;
            let tomorrow = [(year, month, of_month + 1), (year, month + 1, 1), (year + 1, 1, 1)];
            assert!(tomorrow.contains(&today) && (1..=12).contains(&today.1) && (1..=31).contains(&today.2));
            before = today;
        }
    }

    #[test]
    fn long_frames_are_shown_in_part() {
        let mut out = String::new();
        let line = format!("FRAME 5 a in {}", "ab".repeat(300));
        Frame::parse(&line).unwrap().put(&mut out);
        assert!(out.contains("<-  300  ab") && out.trim_end().ends_with("ab …"));
        assert_eq!(out.matches(" ab").count(), MOST_SHOWN_BYTES);
    }
}
