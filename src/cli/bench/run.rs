//! What all sessions of a run share. They run in one thread, one after another: the locks are for the
//! compiler.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::time::{Now, Tick};
use crate::cli::load::{Faults, Latency};
use crate::engine::End;
use crate::metrics::Counter;

use super::plan::Plan;

pub(super) struct Run {
    pub(super) plan: Plan,
    pub(super) counts: Counts,
    pub(super) faults: Faults,
    /// Of requests that read and that write, from when they were due.
    pub(super) reads: Latency,
    pub(super) writes: Latency,
    /// From when a write was due until a subscriber was told.
    pub(super) updates: Latency,
    /// How late requests were sent though their connection was free: ours to answer for.
    pub(super) lateness: Latency,
    board: Vec<Place>,
    /// Microseconds from 1970 to tick 0: values count from 1970, so that no run writes those of one before.
    epoch_us: u64,
    /// Nothing is sent any more, whatever was due.
    is_closed: AtomicBool,
    /// When requests begin, in microseconds; when those begin that are measured; when they end.
    begin: Counter,
    measured: Counter,
    end: Counter,
}

/// Requests are counted that are measured, unless it says otherwise.
#[derive(Default)]
pub(super) struct Counts {
    /// Connections and subscribers that wait for the beginning.
    pub(super) ready: Counter,
    /// Answers of any kind, since the start of the program.
    pub(super) answers: Counter,
    /// Requests that are not answered yet, measured or not.
    pub(super) in_flight: Counter,
    pub(super) reads: Counter,
    pub(super) writes: Counter,
    /// Answered rightly, measured or not.
    pub(super) all_reads: Counter,
    pub(super) all_writes: Counter,
    /// Answered by a refusal.
    pub(super) refused: Counter,
    /// Answered by what cannot be.
    pub(super) wrong: Counter,
    /// Of those, and of updates: values that this run did not write, or not last.
    pub(super) foreign: Counter,
    /// Never answered, measured or not.
    pub(super) unanswered: Counter,
    /// Of those, the ones whose connection ended before the run did.
    pub(super) cut: Counter,
    /// Due while as many were in flight on their connection as may be; sent later.
    pub(super) queued: Counter,
    /// Due, and never sent.
    pub(super) unsent: Counter,
    /// Connections that ended before the run did.
    pub(super) lost: Counter,
    /// Of those, the ones that the server ended.
    pub(super) closed: Counter,
    pub(super) updates: Counter,
    /// Rightly told, measured or not.
    pub(super) all_updates: Counter,
}

/// What was answered rightly and told so far, measured or not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Done {
    pub(super) reads: u64,
    pub(super) writes: u64,
    pub(super) updates: u64,
}

impl Counts {
    pub(super) fn done(&self) -> Done {
        Done {
            reads: self.all_reads.value(),
            writes: self.all_writes.value(),
            updates: self.all_updates.value(),
        }
    }
}

/// A tag or a block of registers: what was written there.
#[derive(Default)]
struct Place {
    /// The newest value that was sent.
    sent: Counter,
    /// The newest of those that were confirmed.
    confirmed: Counter,
}

impl Run {
    pub(super) fn new(plan: Plan, now: Now) -> Run {
        let wall_us = u64::try_from(now.wall.0).unwrap_or(0) * 1_000;
        let run = Run {
            counts: Counts::default(),
            faults: Faults::default(),
            reads: Latency::default(),
            writes: Latency::default(),
            updates: Latency::default(),
            lateness: Latency::default(),
            board: (0..plan.places).map(|_| Place::default()).collect(),
            plan,
            epoch_us: wall_us.saturating_sub(now.tick.as_micros()),
            is_closed: AtomicBool::new(false),
            begin: Counter::default(),
            measured: Counter::default(),
            end: Counter::default(),
        };
        for tick in [&run.begin, &run.measured, &run.end] {
            tick.set(Tick::NEVER.as_micros());
        }
        run
    }

    /// All are ready: requests go out from that tick on.
    pub(super) fn begin_at(&self, begin: Tick) {
        let measured = begin + self.plan.warm_up;
        self.begin.set(begin.as_micros());
        self.measured.set(measured.as_micros());
        self.end.set((measured + self.plan.duration).as_micros());
    }

    pub(super) fn begin(&self) -> Tick {
        Tick::from_micros(self.begin.value())
    }

    /// From when on requests count.
    pub(super) fn measured(&self) -> Tick {
        Tick::from_micros(self.measured.value())
    }

    /// No request is due from then on.
    pub(super) fn end(&self) -> Tick {
        Tick::from_micros(self.end.value())
    }

    pub(super) fn end_now(&self, now: Tick) {
        self.end.set(self.end.value().min(now.as_micros()));
    }

    /// Send nothing any more, though it was due.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    /// The value of a write that is due then, where values say when that was.
    pub(super) fn value_at(&self, due: Tick) -> u64 {
        self.epoch_us + due.as_micros()
    }

    /// When the write of that value was due.
    pub(super) fn due_of(&self, value: u64) -> Tick {
        Tick::from_micros(value.saturating_sub(self.epoch_us))
    }

    /// Below all values, where they only count up.
    pub(super) fn value_before_all(&self) -> u64 {
        self.epoch_us / 1_000
    }

    /// A connection ended before the run did.
    pub(super) fn on_lost(&self, why: End) {
        self.counts.lost.add(1);
        if matches!(why, End::PeerClosed | End::Broken(_)) {
            self.counts.closed.add(1);
        }
    }

    /// Whether what was due then counts.
    pub(super) fn counts_at(&self, due: Tick) -> bool {
        (self.measured()..self.end()).contains(&due)
    }

    pub(super) fn sent(&self, place: usize) -> u64 {
        self.board[place].sent.value()
    }

    pub(super) fn on_sent(&self, place: usize, value: u64) {
        self.board[place].sent.set(value);
    }

    pub(super) fn confirmed(&self, place: usize) -> u64 {
        self.board[place].confirmed.value()
    }

    pub(super) fn on_confirmed(&self, place: usize, value: u64) {
        let confirmed = &self.board[place].confirmed;
        confirmed.set(confirmed.value().max(value));
    }
}
