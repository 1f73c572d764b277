//! A plant in which one seed decides everything: engines, peers, and a network between them that delays,
//! splits, stalls, reorders and cuts, on a time of its own. No socket, no clock, no thread: the same seed is
//! the same world.
//!
//! [`run`] lives through one of them, and the rules of [`checkers`] are held against it at every step. It is
//! test support, and not in a release: `cargo test` runs 200 worlds, `LUMINA_SEEDS=n` as many as wanted, and
//! `LUMINA_SEED=x` one, whose trace it prints.

pub mod checkers;
mod client;
pub mod field;
mod field_watch;
mod judge;
mod link;
mod net;
mod peers;
mod plan;
mod plant;
mod questions;
mod record;
mod sessions;
#[cfg(test)]
mod tests;
pub mod trace;
pub mod units;
mod watched;
mod world;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use checkers::Violation;
use record::Book;
use world::World;

/// A world that kept all rules.
#[derive(Clone, Debug)]
pub struct Report {
    /// Of all that happened: equal for equal worlds.
    pub hash: u64,
    /// How much happened.
    pub events: u64,
    /// Turns of all engines.
    pub turns: u64,
    /// How often the cases were met that a simulation has to meet.
    pub met: BTreeMap<String, u64>,
    /// The last events.
    pub trace: String,
}

/// A world that broke one.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The same seed fails again.
    pub seed: u64,
    /// Which rule, and how. An assertion of the engine counts as a rule.
    pub violation: Violation,
    /// The last events.
    pub trace: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { seed, violation, trace } = self;
        writeln!(f, "{trace}\nseed {seed} broke a rule: {violation}")?;
        write!(f, "again: LUMINA_SEED={seed} cargo test --lib simulation")
    }
}

/// The name of the rule that a panic breaks.
pub const ASSERTION: &str = "an assertion of the engine";

/// Live through the world of that seed.
pub fn run(seed: u64) -> Result<Report, Box<Failure>> {
    let book = Book::default();
    let lived = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(seed, book.clone());
        world.run();
        world.turns()
    }));
    let record = book.open();
    let trace = record.trace.to_string();
    let panicked = lived.as_ref().err().map(|panic| text_of(panic.as_ref()));
    let asserted = panicked.map(|what| Violation { checker: ASSERTION, what });
    match (asserted.or_else(|| record.violation.clone()), lived) {
        (None, Ok(turns)) => {
            let (hash, events) = (record.trace.hash(), record.trace.count());
            Ok(Report { hash, events, turns, met: record.met.clone(), trace })
        }
        (violation, _) => {
            let violation = violation.expect("a world that ended otherwise broke a rule");
            Err(Box::new(Failure { seed, violation, trace }))
        }
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}
