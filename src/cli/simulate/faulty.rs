//! Peers that do what none should, one thing after another. Whatever they do, the healthy must not notice:
//! half of a `SET` aims at a tag of theirs.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use super::machine::SIGNALS;
use super::run::Run;
use crate::base::random::Random;
use crate::base::time::Tick;
use crate::engine::{Consumed, Context, End, Flow, Session};

/// Faulty peers for each device, and how many there are at least: one of each fault.
const DEVICES_PER_FAULTY: usize = 20;
const FEWEST: usize = 4;
/// Longer than any server takes by default.
const LONG_LINE_BYTES: usize = 6_000;
/// Before the next fault of the same peer.
const PAUSE: Duration = Duration::from_millis(500);
/// Sets its chance apart from a device's.
const CHANCE: u64 = 0xbad;

/// How many go with so many devices.
pub(super) fn how_many(devices: usize) -> usize {
    (devices / DEVICES_PER_FAULTY).max(FEWEST)
}

/// What a connection is made for.
#[derive(Clone, Copy)]
enum Fault {
    /// A line that never ends, from a peer that goes.
    HalfLine,
    /// A reset, with answers on their way.
    Reset,
    /// Much is asked for, and nothing read.
    Stall,
    /// No text at all, or a line that is too long.
    Garbage,
}

pub(super) struct Faulty {
    run: Arc<Run>,
    random: Random,
    fault: Fault,
    /// When the connection ends, if the server does not end it.
    until: Option<Tick>,
}

impl Faulty {
    pub(super) fn new(run: Arc<Run>, number: usize) -> Faulty {
        let random = Random::of(run.seed ^ CHANCE, number as u64);
        Faulty::next(run, random)
    }

    fn next(run: Arc<Run>, mut random: Random) -> Faulty {
        let fault = match random.below(4) {
            0 => Fault::HalfLine,
            1 => Fault::Reset,
            2 => Fault::Stall,
            _ => Fault::Garbage,
        };
        Faulty { run, random, fault, until: None }
    }

    fn put_half_line(&mut self, cx: &mut Context<'_>) {
        let victim = self.random.below(self.run.ledger().devices());
        let signal = SIGNALS[self.random.below(SIGNALS.len())];
        let _ = write!(cx, "SET {}/{victim:05}/{signal} -273.15", self.run.root);
    }

    fn put_garbage(&mut self, cx: &mut Context<'_>) {
        let mut garbage = Vec::new();
        if self.random.one_in(2) {
            garbage.resize(LONG_LINE_BYTES, b'x');
        }
        for _ in 0..self.random.below(LONG_LINE_BYTES / 8) {
            garbage.extend(self.random.draw().to_le_bytes());
        }
        cx.put(&garbage);
    }
}

impl Session for Faulty {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Flow {
        let (longest_ms, flow) = match self.fault {
            Fault::HalfLine => {
                self.put_half_line(cx);
                (500, Flow::Continue)
            }
            Fault::Reset => {
                let _ = write!(cx, "READ {}/#\n{}", self.run.root, "HELP\n".repeat(50));
                (20, Flow::Continue)
            }
            Fault::Stall => {
                let _ = write!(cx, "SUB #\n{}", "READ #\n".repeat(20));
                // Input is read no more.
                (2_000, Flow::Hold)
            }
            Fault::Garbage => {
                self.put_garbage(cx);
                (200, Flow::Continue)
            }
        };
        self.until = Some(cx.now().tick + self.random.part_of(Duration::from_millis(longest_ms)));
        flow
    }

    fn on_bytes(&mut self, _cx: &mut Context<'_>, input: &[u8]) -> Consumed {
        Consumed { bytes: input.len(), flow: Flow::Continue }
    }

    fn on_deadline(&mut self, _cx: &mut Context<'_>) -> Flow {
        let polite = matches!(self.fault, Fault::HalfLine | Fault::Garbage) && self.random.one_in(2);
        Flow::Close(if polite { End::Quit } else { End::Aborted })
    }

    fn deadline(&self) -> Option<Tick> {
        self.until
    }

    fn on_end(&mut self, cx: &mut Context<'_>, why: End) {
        if !matches!(why, End::NotConnected(_) | End::Shutdown) {
            self.run.counts.faults.add(1);
        }
        let now = cx.now().tick;
        if why == End::Shutdown || self.run.is_over(now) {
            return;
        }
        let wait = self.random.part_of(PAUSE);
        let next = Faulty::next(Arc::clone(&self.run), self.random.clone());
        cx.dial_at(now + wait, self.run.endpoint(0), Box::new(next));
    }
}
