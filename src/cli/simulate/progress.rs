//! The line on a terminal that shows how a run is going.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::run::Run;
use crate::base::time::Tick;

const PERIOD: Duration = Duration::from_millis(200);

pub(super) struct Progress {
    bar: ProgressBar,
    due: Tick,
    /// Values confirmed, and when they were counted last: for the rate.
    before: (u64, Tick),
    rate: u64,
}

impl Progress {
    /// `None` where nobody would see it. The length is that of the run; 0 where it has none.
    pub(super) fn new(span: Duration) -> Option<Progress> {
        if !stderr().is_terminal() {
            return None;
        }
        let millis = span.as_millis() as u64;
        let template = if millis == 0 { "{msg}" } else { "[{bar:24}] {msg}" };
        let style = ProgressStyle::with_template(template).expect("the template is well-formed");
        let bar = ProgressBar::with_draw_target(Some(millis), ProgressDrawTarget::stderr());
        bar.set_style(style.progress_chars("=> "));
        Some(Progress { bar, due: Tick::default(), before: (0, Tick::default()), rate: 0 })
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
        let counts = &run.counts;
        self.bar.set_message(format!(
            "{} devices, {} values/s, {} confirmed, {} errors",
            counts.online.value(),
            self.rate,
            confirmed,
            counts.errors.value(),
        ));
        self.bar.set_position((now - run.schedule.begin()).as_millis() as u64);
        self.due = now + PERIOD;
        self.due
    }

    pub(super) fn clear(self) {
        self.bar.finish_and_clear();
    }
}
