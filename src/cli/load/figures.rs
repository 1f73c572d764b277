//! What comes of any run: figures for people and for programs, and complaints.

use std::fmt;
use std::io::Write;
use std::time::Duration;

use crate::cli::{Exit, say_error};
use crate::tags::value::Value;

/// What is sent later than this says more of this machine than of what is tested.
pub(in crate::cli) const LATE_US: u64 = 5_000;

/// The figures of a run that is over.
pub(in crate::cli) trait Outcome: fmt::Display {
    /// What must not be, one line each; nothing where all is well.
    fn complaints(&self) -> Vec<String>;

    /// One JSON object, in one line.
    fn json(&self) -> String;
}

/// Print what came of a `command`.
pub(in crate::cli) fn tell(command: &str, outcome: &impl Outcome, as_json: bool) -> Exit {
    let complaints = outcome.complaints();
    let mut out = std::io::stdout().lock();
    // Nobody may be reading, which changes nothing of what came of it.
    let _ = if as_json { writeln!(out, "{}", outcome.json()) } else { writeln!(out, "{outcome}") };
    for complaint in &complaints {
        say_error(format_args!("lumina {command}: {complaint}"));
    }
    if complaints.is_empty() { Exit::Fine } else { Exit::Failed }
}

/// A JSON object of fields whose values are written already.
pub(in crate::cli) fn object(fields: &[(&str, String)]) -> String {
    let fields: Vec<_> = fields.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

/// A text as JSON (and TOML) has it, which is how the values' printer writes it.
pub(in crate::cli) fn text(text: &str) -> String {
    Value::Text(text.into()).to_string()
}

/// A JSON array of texts.
pub(in crate::cli) fn texts(all: &[String]) -> String {
    let all: Vec<_> = all.iter().map(|one| text(one)).collect();
    format!("[{}]", all.join(","))
}

/// How many in a second.
pub(in crate::cli) fn per_second(count: u64, span: Duration) -> u64 {
    let seconds = span.as_secs_f64();
    if seconds > 0.0 { (count as f64 / seconds).round() as u64 } else { 0 }
}
