//! A connection that sends requests: in a closed loop the next when one is answered, in an open loop when the
//! next is due.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::base::random::Random;
use crate::base::time::Tick;
use crate::cli::load::say_end;
use crate::engine::{Consumed, Context, End, Flow, Session};

use super::dialect::{Asked, Dialect, Fault, Taken, What};
use super::line::Line;
use super::modbus::Modbus;
use super::plan::{Places, Speech};
use super::run::Run;

/// How often one that waits looks whether the run begins.
pub(super) const LOOK: Duration = Duration::from_millis(50);
/// Requests in flight before the run.
const PREPARING_AT_ONCE: usize = 16;
/// What is not sent yet stays below this: far from where the engine reads no more, as a server that reads no
/// more either would then wait for us, and we for it.
const MOST_OWED_BYTES: usize = 24 * 1024;

pub(super) struct Requester {
    run: Arc<Run>,
    dialect: Box<dyn Dialect>,
    number: usize,
    places: Places,
    random: Random,
    phase: Phase,
    /// In the order in which they were sent.
    waiting: VecDeque<Asked>,
    /// Requests so far.
    sent: u64,
    /// No more could be sent; an answer makes room.
    is_full: bool,
    /// Since when more can be sent.
    free_since: Tick,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// So many requests are to be sent before the run.
    Preparing(usize),
    /// Ready; looks again then.
    Waiting(Tick),
    Running,
}

impl Requester {
    pub(super) fn new(run: Arc<Run>, number: usize) -> Requester {
        let dialect: Box<dyn Dialect> = match &run.plan.speech {
            Speech::Line { root, value_bytes } => Box::new(Line::new(Arc::clone(&run), root, *value_bytes)),
            Speech::Modbus { unit, address, registers } => {
                Box::new(Modbus::new(Arc::clone(&run), *unit, *address, *registers))
            }
        };
        let places = run.plan.places_of(number);
        let preparing = match (run.plan.prepares(number), dialect.writes_first()) {
            (true, true) => places.count,
            (false, true) => 0,
            // Whether it can be read at all.
            (_, false) => 1,
        };
        Requester {
            dialect,
            number,
            places,
            random: Random::of(run.plan.seed, number as u64),
            phase: Phase::Preparing(preparing),
            waiting: VecDeque::new(),
            sent: 0,
            is_full: false,
            free_since: Tick::default(),
            run,
        }
    }

    /// Send what is due, as far as it may.
    fn fill(&mut self, cx: &mut Context<'_>) {
        match self.phase {
            Phase::Preparing(left) => self.prepare(cx, left),
            Phase::Waiting(_) => {}
            Phase::Running => {
                self.skip_warm_up(cx.now().tick);
                while let Some(due) = self.due(cx.now().tick) {
                    self.is_full = !self.has_room(cx, self.run.plan.pipeline);
                    if self.is_full {
                        break;
                    }
                    self.note_sending(cx.now().tick, due);
                    let place = self.places.get(self.random.below(self.places.count));
                    let writes = self.random.unit() < self.run.plan.writes;
                    self.send(cx, place, writes, due);
                }
            }
        }
    }

    /// What is due before the time that is measured, and was not sent by then, is not sent: a server that is
    /// asked for more than it can would have to answer all that before anything counts.
    fn skip_warm_up(&mut self, now: Tick) {
        let (plan, measured) = (&self.run.plan, self.run.measured());
        let is_behind = now >= measured && self.next_due().is_some_and(|due| due < measured);
        if let Some(pace) = plan.pace.filter(|_| is_behind) {
            self.sent = pace.first_from(self.number, plan.warm_up);
        }
    }

    fn prepare(&mut self, cx: &mut Context<'_>, mut left: usize) {
        while left > 0 && self.has_room(cx, PREPARING_AT_ONCE) {
            left -= 1;
            let now = cx.now().tick;
            self.send(cx, self.places.get(left), self.dialect.writes_first(), now);
        }
        self.phase = Phase::Preparing(left);
        if left == 0 && self.waiting.is_empty() {
            self.phase = Phase::Waiting(cx.now().tick + LOOK);
            self.run.counts.ready.add(1);
            self.sent = 0;
        }
    }

    fn has_room(&self, cx: &Context<'_>, most: usize) -> bool {
        let owed = cx.owed().len() + self.dialect.longest_bytes();
        self.waiting.len() < most && (owed <= MOST_OWED_BYTES || cx.owed().is_empty())
    }

    /// When the next request is due, if it is to be sent at `now`.
    fn due(&self, now: Tick) -> Option<Tick> {
        let due = self.next_due().unwrap_or(now);
        (due <= now && due < self.run.end() && !self.run.is_closed()).then_some(due)
    }

    /// In an open loop.
    fn next_due(&self) -> Option<Tick> {
        let pace = self.run.plan.pace?;
        Some(self.run.begin() + pace.due(self.number, self.sent))
    }

    fn note_sending(&self, now: Tick, due: Tick) {
        if self.run.plan.pace.is_none() || !self.run.counts_at(due) {
            return;
        }
        if self.free_since > due {
            self.run.counts.queued.add(1);
        }
        self.run.lateness.note(now - due.max(self.free_since));
    }

    fn send(&mut self, cx: &mut Context<'_>, place: usize, writes: bool, due: Tick) {
        let run = &*self.run;
        let last = run.sent(place);
        let (what, is_measured) = if writes {
            let value = self.dialect.next_value(last, due);
            run.on_sent(place, value);
            (What::Write(value), run.counts_at(due))
        } else if !run.plan.is_exclusive() {
            (What::Read { least: 0, most: None }, run.counts_at(due))
        } else if self.dialect.keeps_order() {
            (What::Read { least: last, most: Some(last) }, run.counts_at(due))
        } else {
            (What::Read { least: run.confirmed(place), most: None }, run.counts_at(due))
        };
        let mut asked = Asked { id: 0, place, what, due, is_measured };
        self.dialect.put(cx, &mut asked);
        self.waiting.push_back(asked);
        run.counts.in_flight.add(1);
        self.sent += 1;
    }

    fn on_answer(&mut self, now: Tick, asked: &Asked, result: Result<Option<u64>, Fault>) {
        let Requester { run, .. } = self;
        run.counts.in_flight.sub(1);
        run.counts.answers.add(1);
        let fault = match (result, asked.what) {
            (Ok(_), What::Write(value)) => {
                run.on_confirmed(asked.place, value);
                None
            }
            (Ok(Some(value)), What::Read { least, most }) => {
                let most = most.unwrap_or_else(|| run.sent(asked.place));
                let is_right = (least..=most).contains(&value);
                (!is_right).then(|| Fault::Foreign("a value that was not there when it was read".to_owned()))
            }
            (Ok(None), What::Read { .. }) => None,
            (Err(fault), _) => Some(fault),
        };
        match fault {
            None => {
                let Run { counts, .. } = &**run;
                let (all, measured, latency) = match asked.what {
                    What::Read { .. } => (&counts.all_reads, &counts.reads, &run.reads),
                    What::Write(_) => (&counts.all_writes, &counts.writes, &run.writes),
                };
                all.add(1);
                if asked.is_measured {
                    measured.add(1);
                    latency.note(now - asked.due);
                }
            }
            Some(fault) => self.on_fault(fault),
        }
    }

    fn on_fault(&self, fault: Fault) {
        let Run { counts, faults, .. } = &*self.run;
        let (count, text) = match fault {
            Fault::Refused(text) => (&counts.refused, text),
            Fault::Wrong(text) => (&counts.wrong, text),
            Fault::Foreign(text) => {
                counts.foreign.add(1);
                (&counts.wrong, text)
            }
        };
        count.add(1);
        faults.note(text);
    }

    /// No answer came, or will come: it took so long at least.
    fn note_unanswered(&self, now: Tick, writes: bool, due: Tick) {
        let latency = if writes { &self.run.writes } else { &self.run.reads };
        latency.note(now - due);
    }
}

impl Session for Requester {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Flow {
        self.fill(cx);
        Flow::Continue
    }

    fn on_bytes(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Consumed {
        let now = cx.now().tick;
        let mut bytes = 0;
        loop {
            match self.dialect.take(&mut self.waiting, &input[bytes..]) {
                Taken::Part => break,
                Taken::Answer(taken, asked, result) => {
                    bytes += taken;
                    self.on_answer(now, &asked, result);
                }
                Taken::Violation(why) => {
                    self.on_fault(why);
                    return Consumed { bytes, flow: Flow::Close(End::Violation) };
                }
            }
        }
        if std::mem::take(&mut self.is_full) {
            self.free_since = now;
        }
        self.fill(cx);
        Consumed { bytes, flow: Flow::Continue }
    }

    fn on_deadline(&mut self, cx: &mut Context<'_>) -> Flow {
        let now = cx.now().tick;
        if let Phase::Waiting(_) = self.phase {
            self.phase = if now >= self.run.begin() { Phase::Running } else { Phase::Waiting(now + LOOK) };
        }
        self.fill(cx);
        Flow::Continue
    }

    fn deadline(&self) -> Option<Tick> {
        match self.phase {
            Phase::Preparing(_) => None,
            Phase::Waiting(look) => Some(look.min(self.run.begin())),
            Phase::Running if self.is_full || self.run.is_closed() => None,
            Phase::Running => self.next_due().filter(|due| *due < self.run.end()),
        }
    }

    fn on_end(&mut self, cx: &mut Context<'_>, why: End) {
        let now = cx.now().tick;
        if why != End::Shutdown {
            self.run.on_lost(why);
            if why != End::Violation {
                self.run.faults.note(say_end(why));
            }
        }
        for asked in std::mem::take(&mut self.waiting) {
            self.run.counts.in_flight.sub(1);
            self.run.counts.unanswered.add(1);
            self.run.counts.cut.add(u64::from(why != End::Shutdown));
            // One of the warm-up may have waited all the time that is measured.
            if now >= self.run.measured() {
                self.note_unanswered(now, matches!(asked.what, What::Write(_)), asked.due);
            }
        }
        if self.phase != Phase::Running {
            return;
        }
        while let Some(due) = self.next_due().filter(|due| *due < now.min(self.run.end())) {
            if self.run.counts_at(due) {
                self.run.counts.unsent.add(1);
                let writes = self.random.unit() < self.run.plan.writes;
                self.note_unanswered(now, writes, due);
            }
            self.sent += 1;
        }
    }
}
