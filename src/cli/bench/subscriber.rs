//! A connection that is told of every change, and says how old each was.

use std::fmt::Write;
use std::sync::Arc;

use crate::base::time::Tick;
use crate::cli::load::{Lines, Reply, say_end};
use crate::engine::{Consumed, Context, End, Flow, Session};
use crate::metrics::Counter;

use super::line::{place_of, value_of};
use super::run::Run;

/// What a subscriber was told last of each tag.
pub(super) struct Watch(Vec<Counter>);

impl Watch {
    pub(super) fn new(places: usize) -> Watch {
        Watch((0..places).map(|_| Counter::default()).collect())
    }

    /// Of how many tags it was not told the last that was confirmed.
    pub(super) fn behind(&self, run: &Run) -> usize {
        let told = self.0.iter().map(Counter::value).enumerate();
        told.filter(|(place, told)| *told < run.confirmed(*place)).count()
    }
}

pub(super) struct Subscriber {
    run: Arc<Run>,
    watch: Arc<Watch>,
    root: String,
    is_ready: bool,
}

impl Subscriber {
    pub(super) fn new(run: Arc<Run>, watch: Arc<Watch>, root: &str) -> Subscriber {
        Subscriber { run, watch, root: root.to_owned(), is_ready: false }
    }

    fn foreign(&self, what: &str) {
        self.run.counts.foreign.add(1);
        self.wrong(what);
    }

    fn wrong(&self, what: &str) {
        self.run.counts.wrong.add(1);
        self.run.faults.note(what);
    }

    /// What was there before: written by this run, or by one before.
    fn on_found(&self, name: &str, value: &str) {
        if let Some((place, told)) = self.watched(name) {
            let ours = value_of(value).filter(|value| *value <= self.run.sent(place));
            told.set(ours.unwrap_or_default());
        }
    }

    fn watched(&self, name: &str) -> Option<(usize, &Counter)> {
        let place = place_of(&self.root, name)?;
        Some((place, self.watch.0.get(place)?))
    }

    fn on_told(&self, now: Tick, name: &str, value: &str) {
        let Some((place, told)) = self.watched(name) else { return };
        let value = match value_of(value) {
            Some(value) if value <= self.run.sent(place) => value,
            _ => return self.foreign("an update with a value that nobody wrote"),
        };
        // Writes of several connections may be carried out in another order than they were made.
        if value < told.value() && self.run.plan.is_exclusive() {
            self.foreign("an update that is older than one before");
        }
        told.set(value);
        self.run.counts.all_updates.add(1);
        let due = self.run.due_of(value);
        if self.run.counts_at(due) {
            self.run.counts.updates.add(1);
            self.run.updates.note(now - due);
        }
    }
}

impl Session for Subscriber {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Flow {
        let _ = writeln!(cx, "SUB {}/+", self.root);
        Flow::Continue
    }

    fn on_bytes(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Consumed {
        let now = cx.now().tick;
        let mut lines = Lines::of(input);
        for line in lines.by_ref() {
            match Reply::parse(line) {
                Reply::Upd(told) => self.on_told(now, told.name, told.value),
                Reply::Val(told) => self.on_found(told.name, told.value),
                Reply::Ok(_) if !self.is_ready => {
                    self.is_ready = true;
                    self.run.counts.ready.add(1);
                }
                Reply::Err(text) => {
                    self.run.counts.refused.add(1);
                    self.run.faults.note(format_args!("ERR {text}"));
                }
                Reply::Ok(_) | Reply::Other => self.wrong("a line that is no update"),
            }
        }
        let too_long = lines.rest_is_too_long();
        if too_long {
            self.wrong("a line without an end");
        }
        let flow = if too_long { Flow::Close(End::Violation) } else { Flow::Continue };
        Consumed { bytes: lines.consumed(), flow }
    }

    fn on_end(&mut self, _cx: &mut Context<'_>, why: End) {
        if why != End::Shutdown {
            self.run.on_lost(why);
            self.run.faults.note(format_args!("of a subscriber: {}", say_end(why)));
        }
    }
}
