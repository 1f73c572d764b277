//! The line on a terminal that shows how a run is going.
//!
//! By hand, not by a library: the one at hand estimates with `pow`, and so brought libm into the memory of
//! every server, a tenth of all it needs.

use std::fmt;
use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use crate::base::time::Tick;

const PERIOD: Duration = Duration::from_millis(200);
const BAR_CELLS: usize = 24;

pub(in crate::cli) struct Progress {
    /// That of the run; zero where it has no end.
    span: Duration,
    due: Tick,
    /// What is counted, and when it was looked at last: for the rate.
    before: (u64, Tick),
    rate: u64,
}

impl Progress {
    /// `None` where nobody would see it.
    pub(in crate::cli) fn new(span: Duration) -> Option<Progress> {
        let progress = Progress { span, due: Tick::default(), before: (0, Tick::default()), rate: 0 };
        stderr().is_terminal().then_some(progress)
    }

    /// Show `line` of how many a second are added to `count`; so much of the run's span is over. Says when to
    /// show it again.
    pub(in crate::cli) fn show(
        &mut self,
        now: Tick,
        passed: Duration,
        count: u64,
        line: impl FnOnce(u64) -> String,
    ) -> Tick {
        if now < self.due {
            return self.due;
        }
        let since = now - self.before.1;
        if since >= Duration::from_secs(1) {
            self.rate = ((count - self.before.0) as f64 / since.as_secs_f64()) as u64;
            self.before = (count, now);
        }
        draw(format_args!("{}{}", bar(passed, self.span), line(self.rate)));
        self.due = now + PERIOD;
        self.due
    }

    pub(in crate::cli) fn clear(self) {
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
