//! A device: says who it is, reports its machine's values when they are due, and comes back wherever it was
//! cut off.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use super::ledger::Seen;
use super::machine::{Machine, SIGNALS, fingerprint};
use super::run::Run;
use crate::base::random::Random;
use crate::base::time::Tick;
use crate::cli::load::{Lines, Reply, say_end};
use crate::engine::{Consumed, Context, End, Flow, Session};
use crate::tags::value::write_value;

/// Reports that may be unanswered. Beyond that a report waits, and the wait counts as the server's: it is
/// late from when it was due.
const MOST_IN_FLIGHT: usize = 32;
/// A device that leaves of its own accord is away for so long, and up to ten times that.
const AWAY: Duration = Duration::from_millis(100);
/// Sets a device's chance apart from that of the schedule.
const CHANCE: u64 = 0xd1ce;

/// One connection of a device.
pub(super) struct Device {
    run: Arc<Run>,
    life: Life,
    /// `HELLO` was answered.
    greeted: bool,
    manner: Manner,
    in_flight: VecDeque<Report>,
}

/// What outlives a connection.
#[derive(Clone)]
struct Life {
    number: usize,
    random: Random,
    machine: Machine,
    /// The next report, and when it is due.
    slot: u64,
    due: Tick,
    /// When it leaves next.
    leave_at: Tick,
    /// To connect, since it was greeted last.
    attempts: u32,
}

/// How the connection is going to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Not, if it is for us to say.
    Stay,
    /// `QUIT` was sent.
    Quit,
    /// In the middle of the next report.
    Collapse,
    /// By us, now.
    Leave,
}

struct Report {
    due: Tick,
    time: i64,
    prints: [u64; SIGNALS.len()],
    answered: usize,
}

impl Device {
    pub(super) fn new(run: Arc<Run>, number: usize) -> Device {
        let mut random = Random::of(run.seed ^ CHANCE, number as u64);
        let machine = Machine::new(random.fork());
        let due = run.schedule.due(number, 0);
        let life = Life { number, random, machine, slot: 0, due, leave_at: Tick::NEVER, attempts: 0 };
        Device::live(run, life)
    }

    fn live(run: Arc<Run>, life: Life) -> Device {
        Device { run, life, greeted: false, manner: Manner::Stay, in_flight: VecDeque::new() }
    }

    fn on_final(&mut self, cx: &mut Context<'_>, refused: Option<&str>) -> Flow {
        if let Some(text) = refused {
            self.run.error(format_args!("ERR {text}"));
        }
        if !self.greeted {
            if refused.is_some() {
                return self.leave();
            }
            self.on_greeted(cx.now().tick);
            return Flow::Continue;
        }
        let Some(report) = self.in_flight.front_mut() else {
            if self.manner == Manner::Quit {
                return Flow::Continue;
            }
            self.run.error("a reply that nothing was asked for");
            return self.leave();
        };
        let signal = report.answered;
        report.answered += 1;
        if refused.is_none() {
            self.run.counts.confirmed.add(1);
            let seen = Seen { time: report.time, print: report.prints[signal] };
            self.run.ledger().on_confirmed(self.life.number, signal, seen);
        }
        if report.answered == SIGNALS.len() {
            self.run.latency.note(cx.now().tick - report.due);
            self.run.counts.in_flight.sub(1);
            self.in_flight.pop_front();
        }
        Flow::Continue
    }

    fn on_greeted(&mut self, now: Tick) {
        let Device { run, life, .. } = self;
        self.greeted = true;
        life.attempts = 0;
        life.leave_at = now + life.random.wait(run.churn);
        let slot = run.schedule.next(life.number, life.slot, now.min(run.schedule.end()));
        run.counts.missed.add(slot - life.slot);
        life.slot = slot;
        life.due = run.schedule.due(life.number, slot);
        run.counts.online.add(1);
        run.counts.connections.add(1);
        run.ledger().on_greeted(life.number, slot);
    }

    /// Send what is due.
    fn report(&mut self, cx: &mut Context<'_>) -> Flow {
        let (now, end) = (cx.now().tick, self.run.schedule.end());
        while self.may_report() && self.life.due <= now && self.life.due < end {
            self.put_report(cx);
            if self.manner == Manner::Collapse {
                return self.leave();
            }
        }
        Flow::Continue
    }

    fn may_report(&self) -> bool {
        self.greeted && self.manner != Manner::Quit && self.in_flight.len() < MOST_IN_FLIGHT
    }

    fn put_report(&mut self, cx: &mut Context<'_>) {
        let Device { run, life, .. } = self;
        let (number, due) = (life.number, life.due);
        let values = life.machine.measure(run.schedule.seconds(due));
        let time = run.ledger().on_report(number, run.schedule.wall_ms(due));
        for (signal, value) in SIGNALS.iter().zip(&values) {
            // Writing to a context cannot fail.
            let _ = write!(cx, "SET {}/{number:05}/{signal} ", run.root);
            let _ = write_value(value, cx);
            let _ = writeln!(cx, " good {time}");
        }
        let prints = values.map(|value| fingerprint(&value.as_input()));
        self.in_flight.push_back(Report { due, time, prints, answered: 0 });
        life.slot += 1;
        life.due = run.schedule.due(number, life.slot);
        run.counts.reports.add(1);
        run.counts.in_flight.add(1);
        run.counts.sent.add(SIGNALS.len() as u64);
    }

    fn leave(&mut self) -> Flow {
        self.manner = Manner::Leave;
        Flow::Close(End::Quit)
    }

    /// Leave as devices do: with a word, in the middle of a report, or as if the power failed.
    fn begin_to_leave(&mut self, cx: &mut Context<'_>) -> Flow {
        self.life.leave_at = Tick::NEVER;
        match self.life.random.below(3) {
            0 => {
                cx.put(b"QUIT\n");
                self.manner = Manner::Quit;
                Flow::Continue
            }
            1 => {
                self.manner = Manner::Collapse;
                Flow::Continue
            }
            _ => {
                self.manner = Manner::Leave;
                Flow::Close(End::Aborted)
            }
        }
    }

    /// What was not answered never will be.
    fn forget_in_flight(&mut self) {
        let (Some(first), Some(last)) = (self.in_flight.front(), self.in_flight.back()) else { return };
        let counts = &self.run.counts;
        counts.in_flight.sub(self.in_flight.len() as u64);
        let unanswered = self.in_flight.iter().map(|report| SIGNALS.len() - report.answered).sum::<usize>();
        counts.unknown.add(unanswered as u64);
        self.run.ledger().on_unknown(self.life.number, first.time, last.time);
        self.in_flight.clear();
    }
}

impl Session for Device {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Flow {
        let _ = writeln!(cx, "HELLO {}-{:05}", self.run.root, self.life.number);
        Flow::Continue
    }

    fn on_bytes(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Consumed {
        let mut lines = Lines::of(input);
        while let Some(line) = lines.next() {
            let flow = match Reply::parse(line) {
                Reply::Ok(_) => self.on_final(cx, None),
                Reply::Err(text) => self.on_final(cx, Some(text)),
                Reply::Val(_) | Reply::Upd(_) | Reply::Other => Flow::Continue,
            };
            if flow != Flow::Continue {
                return Consumed { bytes: lines.consumed(), flow };
            }
        }
        if lines.rest_is_too_long() {
            self.run.error("a line without an end");
            return Consumed { bytes: lines.consumed(), flow: self.leave() };
        }
        Consumed { bytes: lines.consumed(), flow: self.report(cx) }
    }

    fn on_deadline(&mut self, cx: &mut Context<'_>) -> Flow {
        let now = cx.now().tick;
        if self.may_report() && self.life.due <= now {
            self.run.lateness.note(now - self.life.due);
        }
        if self.life.leave_at <= now && self.manner == Manner::Stay {
            let flow = self.begin_to_leave(cx);
            if flow != Flow::Continue {
                return flow;
            }
        }
        self.report(cx)
    }

    fn deadline(&self) -> Option<Tick> {
        let report = if self.may_report() { self.life.due } else { Tick::NEVER };
        let leave = if self.greeted { self.life.leave_at } else { Tick::NEVER };
        Some(report.min(leave)).filter(|&at| !self.run.is_over(at))
    }

    fn on_end(&mut self, cx: &mut Context<'_>, why: End) {
        let Device { run, greeted, .. } = self;
        if *greeted {
            run.counts.online.sub(1);
        }
        self.forget_in_flight();
        if why == End::Shutdown {
            return;
        }
        let meant = self.manner != Manner::Stay;
        if !meant {
            self.run.error(say_end(why));
        }
        let now = cx.now().tick;
        if self.run.is_over(now) {
            return;
        }
        let Life { random, attempts, .. } = &mut self.life;
        let wait = if meant && self.greeted {
            AWAY + random.part_of(AWAY * 9)
        } else {
            *attempts += 1;
            self.run.backoff(random, *attempts - 1)
        };
        let again = Device::live(Arc::clone(&self.run), self.life.clone());
        cx.dial_at(now + wait, self.run.endpoint(self.life.number), Box::new(again));
    }
}
