//! The line on a terminal that shows how a run is going.
//!
//! By hand, not by a library: the one at hand estimates with `pow`, and so brought libm into the memory of
//! every server, a tenth of all it needs.

use std::fmt;
use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use super::run::Run;
use crate::base::time::Tick;

const PERIOD: Duration = Duration::from_millis(200);
const BAR_CELLS: usize = 24;

pub(super) struct Progress {
    /// That of the run; zero where it has no end.
    span: Duration,
    due: Tick,
    /// Values confirmed, and when they were counted last: for the rate.
    before: (u64, Tick),
    rate: u64,
}

impl Progress {
    /// `None` where nobody would see it.
    pub(super) fn new(span: Duration) -> Option<Progress> {
        let progress = Progress { span, due: Tick::default(), before: (0, Tick::default()), rate: 0 };
        stderr().is_terminal().then_some(progress)
    }

    /// Says when to show it again.
    pub(super) fn show(&mut self, run: &Run, now: Tick) -> Tick {
        if now < self.due {
            return self.due;
        }
        let confirmed = run.counts.confirmed.value();
        let passed = now - self.before.1;
        if passed >= Duration::from_secs(1) {
            self.rate = ((confirmed - self.before.0) as f64 / passed.as_secs_f64()) as u64;
            self.before = (confirmed, now);
        }
        draw(format_args!(
            "{}{} devices, {} values/s, {confirmed} confirmed, {} errors",
            bar(now - run.schedule.begin(), self.span),
            run.counts.online.value(),
            self.rate,
            run.counts.errors.value(),
        ));
        self.due = now + PERIOD;
        self.due
    }

    pub(super) fn clear(self) {
        draw(format_args!(""));
    }
}

/// In place of the line before. A terminal that is gone is no matter.
fn draw(line: fmt::Arguments<'_>) {
    const BACK_AND_CLEAR: &str = "\r\x1b[K";
    let _ = write!(stderr(), "{BACK_AND_CLEAR}{line}");
}

/// How much of the span is over; nothing where it has no end.
fn bar(passed: Duration, span: Duration) -> String {
    if span.is_zero() {
        return String::new();
    }
    let share = (passed.as_secs_f64() / span.as_secs_f64()).min(1.0);
    let full = (share * BAR_CELLS as f64) as usize;
    format!("[{:<BAR_CELLS$}] ", "=".repeat(full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_fills() {
        let check = |passed, span, shown: &str| {
            assert_eq!(bar(Duration::from_secs(passed), Duration::from_secs(span)), shown);
        };
        check(0, 10, "[                        ] ");
        check(5, 10, "[============            ] ");
        check(11, 10, "[========================] ");
        check(5, 0, "");
    }
}
