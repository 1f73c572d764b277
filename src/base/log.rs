//! The process's log: `simple_logger` behind a gate, so that logging can never block, end or fill anything.
//! Lines are dropped while stderr takes none, one call site cannot repeat itself without end, and what a peer
//! sent cannot forge a second line.
//!
//! `simple_logger` prints with `eprintln!`, which waits where stderr is full and panics where a write fails,
//! and a panic ends the process. So it prints into a pipe of our own, which always has room for a line, and
//! from there each line goes to the real stderr in one write that may fail.

mod stderr;

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::io;
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, LevelFilter, Log, Metadata, Record};
use rustix::pipe::PIPE_BUF;
use simple_logger::SimpleLogger;

use self::stderr::{Relay, is_writable};
use super::order::sorted_by;

const MESSAGE_BYTES_MAX: usize = 3800;
const TARGET_BYTES_MAX: usize = 128;
/// With `2025-01-31T23:59:59.999Z ERROR [` … `] ` … LF around them.
const _: () = assert!(24 + 1 + 5 + 1 + 1 + TARGET_BYTES_MAX + 2 + MESSAGE_BYTES_MAX + 1 < PIPE_BUF);

/// How many lines one call site may log in a window.
const SITE_LINES_MAX: u32 = 10;
const SITE_WINDOW: Duration = Duration::from_secs(10);
/// How much of a suppressed line its announcement repeats.
const EXCERPT_BYTES_MAX: usize = 120;

static LOGGER: OnceLock<Logger> = OnceLock::new();
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Sends the `log` macros' lines of `level` and above to stderr, and panics too: from now on nothing else
/// should print there. For `main`, once: a second call changes nothing.
///
/// Where the detour through the pipe cannot be set up (no descriptors left), lines and panics go to stderr
/// directly, still polled before each line, and a warning says so.
pub fn init(level: LevelFilter) {
    let logger = LOGGER.get_or_init(|| Logger {
        printer: SimpleLogger::new().with_level(level).with_utc_timestamps(),
        relay: OnceLock::new(),
        gate: Mutex::default(),
    });
    if log::set_logger(logger).is_err() {
        return;
    }
    log::set_max_level(level);
    match Relay::install() {
        Ok(relay) => pass_on_panics(logger.relay.get_or_init(|| relay)),
        Err(error) => log::warn!("a full disk behind stderr would end this process: no pipe for it: {error}"),
    }
}

/// Has a panic's message, which also goes to fd 2, follow what was printed before. No lock is taken: the
/// panic may come from within the logger, and at worst two texts that meet here change places.
fn pass_on_panics(relay: &'static Relay) {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        relay.pass_on_if_ready();
        print(panic);
        relay.pass_on_if_ready();
    }));
}

/// How many lines were dropped since the start because stderr took none. Lines held back as repeats are not
/// counted: the log itself announces them.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

struct Logger {
    printer: SimpleLogger,
    /// Empty where stderr is printed to directly.
    relay: OnceLock<Relay>,
    gate: Mutex<Gate>,
}

impl Logger {
    /// Printing is done under the lock, so that no other thread's line comes between a poll and its write.
    fn with_gate(&self, act: impl FnOnce(&mut Gate, &mut dyn Sink)) {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut gate, &mut { self });
        DROPPED.store(gate.dropped, Ordering::Relaxed);
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.printer.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        // Before the lock: an argument's Display might log itself.
        let message = one_line(record.args(), MESSAGE_BYTES_MAX);
        let target = one_line(record.target(), TARGET_BYTES_MAX);
        let line = Line { level: record.level(), target: &target, message: &message };
        // A bridge from another logging system may not know its place; all such lines are one site, so that
        // the table has no more entries than the program has log macros.
        let site = (record.file_static().unwrap_or(""), record.line().unwrap_or(0));
        self.with_gate(|gate, sink| gate.offer(Instant::now(), site, line, sink));
    }

    /// Announces at once what would be announced with the next line, and passes on what others printed. To be
    /// called before the process ends.
    fn flush(&self) {
        self.with_gate(|gate, sink| gate.flush(Instant::now(), sink));
        if let Some(relay) = self.relay.get() {
            relay.pass_on_if_ready();
        }
    }
}

/// Where lines go that passed the gate.
trait Sink {
    /// Prints the line if that needs no waiting; whether it did.
    fn print(&mut self, line: Line<'_>) -> bool;
}

impl Sink for &Logger {
    fn print(&mut self, line: Line<'_>) -> bool {
        let relay = self.relay.get();
        if !relay.map_or_else(|| is_writable(io::stderr()), Relay::is_ready) {
            return false;
        }
        let mut record = Record::builder();
        record.level(line.level).target(line.target);
        self.printer.log(&record.args(format_args!("{}", line.message)).build());
        relay.is_none_or(Relay::pass_on)
    }
}

#[derive(Clone, Copy)]
struct Line<'l> {
    level: Level,
    target: &'l str,
    message: &'l str,
}

/// A log macro in the source: file and line.
type SiteKey = (&'static str, u32);

/// One call site's current window.
struct Site {
    since: Instant,
    printed: u32,
    held_back: Option<HeldBack>,
}

struct HeldBack {
    lines: u64,
    level: Level,
    target: String,
    /// The start of the first of them: an operator knows a message, not a source line.
    excerpt: String,
}

/// Decides about every line; free of clocks and files.
#[derive(Default)]
struct Gate {
    /// Bounded by nature: call sites are static, a program has a few hundred.
    sites: HashMap<SiteKey, Site>,
    /// When the first window ends that held lines back.
    next_rollover: Option<Instant>,
    dropped: u64,
    /// How many of the dropped no line has told of yet.
    dropped_untold: u64,
}

impl Gate {
    fn offer(&mut self, now: Instant, site: SiteKey, line: Line<'_>, sink: &mut dyn Sink) {
        if self.next_rollover.is_some_and(|at| at <= now) {
            self.announce(now, SITE_WINDOW, sink);
        }
        // Who asks for debug or trace wants all of it.
        if line.level > Level::Info || self.admit(now, site, line) {
            self.print(line, sink);
        }
    }

    fn flush(&mut self, now: Instant, sink: &mut dyn Sink) {
        self.announce(now, Duration::ZERO, sink);
        self.tell_dropped(sink);
    }

    fn admit(&mut self, now: Instant, key: SiteKey, line: Line<'_>) -> bool {
        let site = self.sites.entry(key).or_insert_with(|| Site { since: now, printed: 0, held_back: None });
        if now.saturating_duration_since(site.since) >= SITE_WINDOW {
            // Whatever this window held back, the rollover announced.
            *site = Site { since: now, printed: 0, held_back: None };
        }
        if site.printed < SITE_LINES_MAX {
            site.printed += 1;
            return true;
        }
        let held_back = site.held_back.get_or_insert_with(|| HeldBack {
            lines: 0,
            level: line.level,
            target: line.target.to_owned(),
            excerpt: one_line(line.message, EXCERPT_BYTES_MAX),
        });
        held_back.lines += 1;
        let end = site.since + SITE_WINDOW;
        self.next_rollover = Some(self.next_rollover.map_or(end, |next| next.min(end)));
        false
    }

    /// Tells what was held back in the windows that are `age` old or older.
    fn announce(&mut self, now: Instant, age: Duration, sink: &mut dyn Sink) {
        let mut announcements = Vec::new();
        self.next_rollover = None;
        for site in self.sites.values_mut() {
            let elapsed = now.saturating_duration_since(site.since);
            if elapsed >= age {
                announcements.extend(site.held_back.take().map(|held_back| (site.since, elapsed, held_back)));
            } else if site.held_back.is_some() {
                let end = site.since + SITE_WINDOW;
                self.next_rollover = Some(self.next_rollover.map_or(end, |next| next.min(end)));
            }
        }
        let since = |at: usize| announcements[at].0;
        for at in sorted_by(announcements.len(), &|one, other| since(one).cmp(&since(other))) {
            let (_, elapsed, HeldBack { lines, level, target, excerpt }) = &announcements[at];
            let seconds = elapsed.min(&SITE_WINDOW).as_secs_f64().ceil();
            let message = format!("{excerpt} … {lines} more like this in {seconds} s");
            self.print(Line { level: *level, target, message: &message }, sink);
        }
    }

    fn print(&mut self, line: Line<'_>, sink: &mut dyn Sink) {
        self.tell_dropped(sink);
        // While some are untold the sink took nothing a moment ago, and lines must not overtake that notice.
        if self.dropped_untold > 0 || !sink.print(line) {
            self.dropped += 1;
            self.dropped_untold += 1;
        }
    }

    fn tell_dropped(&mut self, sink: &mut dyn Sink) {
        let message = match self.dropped_untold {
            0 => return,
            1 => "1 log line was dropped while stderr was stalled".to_owned(),
            many => format!("{many} log lines were dropped while stderr was stalled"),
        };
        if sink.print(Line { level: Level::Warn, target: module_path!(), message: &message }) {
            self.dropped_untold = 0;
        }
    }
}

/// Formats into at most `bytes_max` bytes without a line break or any other character that could move a
/// terminal's cursor, reorder its text or start a line of its own.
pub fn one_line(text: impl fmt::Display, bytes_max: usize) -> String {
    let mut line = OneLine { text: String::new(), bytes_max, is_full: false };
    // OneLine never fails; a Display that does has written as much as it could.
    let _ = write!(line, "{text}");
    line.text
}

struct OneLine {
    text: String,
    bytes_max: usize,
    is_full: bool,
}

impl OneLine {
    fn push(&mut self, piece: &str) {
        const MORE: &str = "…";
        if self.is_full {
            return;
        }
        if self.text.len() + piece.len() > self.bytes_max {
            self.is_full = true;
            while self.text.len() + MORE.len() > self.bytes_max {
                self.text.pop();
            }
            self.text.push_str(MORE);
        } else {
            self.text.push_str(piece);
        }
    }
}

impl Write for OneLine {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Once full the rest is skipped, not refused: an error here would be a surprise to some Display.
        for c in text.chars() {
            if self.is_full {
                break;
            }
            if is_harmless(c) {
                self.push(c.encode_utf8(&mut [0; 4]));
            } else {
                self.push(&c.escape_default().to_string());
            }
        }
        Ok(())
    }
}

fn is_harmless(c: char) -> bool {
    // Line and paragraph separators; marks that change the direction of text.
    let breaks = matches!(c, '\u{2028}' | '\u{2029}');
    let turns =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !(c.is_control() || breaks || turns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Paper {
        lines: Vec<String>,
        /// How many lines it still takes.
        room: usize,
    }

    impl Sink for Paper {
        fn print(&mut self, line: Line<'_>) -> bool {
            let has_room = self.room > 0;
            if has_room {
                self.room -= 1;
                self.lines.push(format!("{} {}", line.level, line.message));
            }
            has_room
        }
    }

    enum Step {
        /// So many lines at a second, from a source line, at a level.
        Log(u64, u32, Level, usize),
        Room(usize),
        Flush(u64),
    }
    use Step::{Flush, Log as Say, Room};

    #[track_caller]
    fn check(steps: &[Step], expected: &[&str]) -> u64 {
        let (mut gate, mut paper) = (Gate::default(), Paper { room: usize::MAX, ..Paper::default() });
        let start = Instant::now();
        for step in steps {
            match *step {
                Room(room) => paper.room = room,
                Flush(second) => gate.flush(start + Duration::from_secs(second), &mut paper),
                Say(second, site, level, count) => {
                    for number in 1..=count {
                        let message = format!("site {site} #{number}");
                        let line = Line { level, target: "t", message: &message };
                        gate.offer(start + Duration::from_secs(second), ("x.rs", site), line, &mut paper);
                    }
                }
            }
        }
        // Runs of the limit's length are noted short, or the tables would be unreadable.
        let lines = paper.lines.join("\n");
        let ten = |site: u32| (1..=10).map(|n| format!("WARN site {site} #{n}\n")).collect::<String>();
        let lines =
            (1..=3).fold(lines + "\n", |lines, site| lines.replace(&ten(site), &format!("ten of {site}\n")));
        assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
        gate.dropped
    }

    #[test]
    fn repeats_are_limited_per_call_site() {
        use Level::{Debug, Info, Warn};
        check(&[Say(0, 1, Warn, 10)], &["ten of 1"]);
        check(&[Say(0, 1, Warn, 500), Say(9, 1, Warn, 500)], &["ten of 1"]);
        check(
            &[Say(0, 1, Warn, 500), Say(9, 2, Warn, 1), Say(10, 2, Warn, 1)],
            &["ten of 1", "WARN site 2 #1", "WARN site 1 #11 … 490 more like this in 10 s", "WARN site 2 #1"],
        );
        check(
            &[Say(0, 1, Warn, 11), Say(60, 1, Warn, 10)],
            &["ten of 1", "WARN site 1 #11 … 1 more like this in 10 s", "ten of 1"],
        );
        check(
            &[Say(0, 1, Warn, 11), Say(5, 2, Warn, 12), Say(10, 3, Info, 1), Say(15, 3, Debug, 1)],
            &[
                "ten of 1",
                "ten of 2",
                "WARN site 1 #11 … 1 more like this in 10 s",
                "INFO site 3 #1",
                "WARN site 2 #11 … 2 more like this in 10 s",
                "DEBUG site 3 #1",
            ],
        );
        check(
            &[Say(0, 1, Warn, 12), Flush(3), Say(4, 1, Warn, 1), Flush(5), Flush(6)],
            &[
                "ten of 1",
                "WARN site 1 #11 … 2 more like this in 3 s",
                "WARN site 1 #1 … 1 more like this in 5 s",
            ],
        );
        let debug = (1..=12).map(|n| format!("DEBUG site 1 #{n}")).collect::<Vec<_>>();
        check(&[Say(0, 1, Debug, 12)], &debug.iter().map(String::as_str).collect::<Vec<_>>());
    }

    #[test]
    fn a_stalled_stderr_costs_lines_only() {
        use Level::Warn;
        let told = "WARN 3 log lines were dropped while stderr was stalled";
        let dropped = check(
            &[Room(0), Say(0, 1, Warn, 3), Room(9), Say(1, 2, Warn, 2)],
            &[told, "WARN site 2 #1", "WARN site 2 #2"],
        );
        assert_eq!(dropped, 3);
        // Room for the notice alone: the line behind it counts for the next notice.
        let dropped = check(
            &[Room(0), Say(0, 1, Warn, 3), Room(1), Say(1, 2, Warn, 1), Room(9), Say(2, 3, Warn, 1)],
            &[told, "WARN 1 log line was dropped while stderr was stalled", "WARN site 3 #1"],
        );
        assert_eq!(dropped, 4);
        check(&[Room(0), Say(0, 1, Warn, 3), Flush(1), Room(1), Flush(2), Flush(3)], &[told]);
    }

    #[test]
    fn messages_become_one_short_line() {
        let table = [
            ("plain Grüße → 日本", "plain Grüße → 日本"),
            ("a\r\nb\tc", "a\\r\\nb\\tc"),
            ("\u{1b}[31mred\u{7f}\0\u{9b}", "\\u{1b}[31mred\\u{7f}\\u{0}\\u{9b}"),
            ("a\u{2028}b\u{202e}c", "a\\u{2028}b\\u{202e}c"),
        ];
        for (text, line) in table {
            assert_eq!(one_line(text, 100), line);
        }
        let cuts = [
            ("12345678", "12345678"),
            ("123456789", "12345…"),
            ("123éééé", "123é…"),
            ("1234567\n", "12345…"),
        ];
        for (text, line) in cuts {
            assert_eq!(one_line(text, 8), line);
        }
        for piece in ["x", "é", "日", "\n", "𝄞"] {
            let line = one_line(format_args!("{}{}", piece.repeat(9_000), piece), MESSAGE_BYTES_MAX);
            assert!(
                line.len() <= MESSAGE_BYTES_MAX && line.len() > MESSAGE_BYTES_MAX - 10 && line.ends_with('…')
            );
        }
    }
}
