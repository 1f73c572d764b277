//! The table: one row per figure, held against what it must reach.

use std::fmt;

#[derive(Clone)]
pub struct Row {
    figure: String,
    measured: String,
    reach: String,
    verdict: Verdict,
}

#[derive(Clone, Copy, PartialEq)]
enum Verdict {
    Reached,
    Missed,
    Seen,
    Skipped,
    Failed,
}

impl Row {
    /// A figure that must not be above `reach`; `show` prints either.
    pub fn at_most(figure: &str, value: f64, reach: f64, show: impl Fn(f64) -> String) -> Row {
        let verdict = if value <= reach { Verdict::Reached } else { Verdict::Missed };
        Row { figure: figure.into(), measured: show(value), reach: format!("≤ {}", show(reach)), verdict }
    }

    /// A figure that must not be below `reach`; `show` prints either.
    pub fn at_least(figure: &str, value: f64, reach: f64, show: impl Fn(f64) -> String) -> Row {
        let verdict = if value >= reach { Verdict::Reached } else { Verdict::Missed };
        Row { figure: figure.into(), measured: show(value), reach: format!("≥ {}", show(reach)), verdict }
    }

    /// A figure that is held against nothing.
    pub fn seen(figure: &str, value: f64, show: impl Fn(f64) -> String) -> Row {
        Row { figure: figure.into(), measured: show(value), reach: "".into(), verdict: Verdict::Seen }
    }

    /// A ratio that must be 1 within `tolerance` either way.
    pub fn even(figure: &str, ratio: f64, tolerance: f64) -> Row {
        let verdict = if (ratio - 1.0).abs() <= tolerance { Verdict::Reached } else { Verdict::Missed };
        let (measured, reach) = (format!("{ratio:.3} ×"), format!("1 ± {tolerance}"));
        Row { figure: figure.into(), measured, reach, verdict }
    }

    pub fn skipped(figure: &str, why: &str) -> Row {
        Row { figure: figure.into(), measured: why.into(), reach: "".into(), verdict: Verdict::Skipped }
    }

    /// Not measured: the run of `figure` went wrong.
    pub fn failure(figure: &str, why: &str) -> Row {
        let measured = why.replace(['\n', '|'], " ");
        Row { figure: figure.into(), measured, reach: "".into(), verdict: Verdict::Failed }
    }

    /// Says in brackets what the figure was made of.
    pub fn made_of(mut self, detail: String) -> Row {
        self.measured = format!("{} ({detail})", self.measured);
        self
    }

    pub fn failed(&self) -> bool {
        self.verdict == Verdict::Failed
    }

    pub fn missed(&self) -> bool {
        self.verdict == Verdict::Missed
    }
}

impl fmt::Display for Row {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Reached => "ok",
            Verdict::Missed => "MISSED",
            Verdict::Seen => "seen",
            Verdict::Skipped => "skipped",
            Verdict::Failed => "FAILED",
        };
        write!(out, "| {} | {} | {} | {verdict} |", self.figure, self.measured, self.reach)
    }
}

pub fn print(rows: &[Row]) {
    println!("| figure | measured | reach | ok |\n| --- | --- | --- | --- |");
    for row in rows {
        println!("{row}");
    }
}

pub fn times(ratio: f64) -> String {
    format!("{ratio:.3} ×")
}

pub fn bytes(count: f64) -> String {
    match count {
        MIB.. => format!("{:.2} MiB", count / MIB),
        KIB.. => format!("{:.0} KiB", count / KIB),
        _ => format!("{count:.0} bytes"),
    }
}

pub fn milliseconds(count: f64) -> String {
    format!("{count:.1} ms")
}

pub const KIB: f64 = 1024.0;
pub const MIB: f64 = 1024.0 * KIB;
