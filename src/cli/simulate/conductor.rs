//! How a run goes: reports, the last answers, the question what the server holds, the subscribers' last
//! updates. Called once a turn of the loop.

use std::sync::Arc;
use std::time::Duration;

use super::audit::Audit;
use super::run::{Run, Verdict};
use super::subscriber::Watch;
use crate::base::time::{Now, Tick};
use crate::cli::load::Progress;
use crate::engine::Engine;
use crate::reactor::Course;

/// How long the last answers may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// How long the server may take to say what it holds.
const AUDIT_WITHIN: Duration = Duration::from_secs(10);
/// Where it could not be asked: once more after, but for no longer than.
const AUDIT_AGAIN: Duration = Duration::from_millis(200);
const AUDIT_AGAIN_WITHIN: Duration = Duration::from_secs(2);
/// How long the subscribers' last updates may take, and how often they are looked at.
const UPDATES_WITHIN: Duration = Duration::from_secs(5);
const UPDATES_POLL: Duration = Duration::from_millis(20);

pub(super) struct Conductor {
    run: Arc<Run>,
    watches: Vec<Arc<Watch>>,
    progress: Option<Progress>,
    phase: Phase,
    /// The phase ends then, whatever came of it.
    until: Tick,
    /// Whether a signal ended the run.
    pub(super) interrupted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Reporting,
    /// The last reports are being answered.
    Answers,
    /// The server is asked; again, where it could not be, until then.
    Audit {
        again_until: Tick,
    },
    /// Subscribers are being told the last changes.
    Updates,
    Over,
}

impl Conductor {
    pub(super) fn new(run: Arc<Run>, watches: Vec<Arc<Watch>>, progress: Option<Progress>) -> Conductor {
        let until = run.schedule.end();
        Conductor { run, watches, progress, phase: Phase::Reporting, until, interrupted: false }
    }

    /// A turn.
    pub(super) fn conduct(&mut self, engine: &mut Engine, now: Now, signalled: bool) -> Course {
        let now = now.tick;
        if signalled {
            self.interrupted = true;
            self.run.schedule.end_now(now);
            if self.phase == Phase::Reporting {
                self.until = now;
            }
        }
        let shown = self.show(now);
        let mut again = self.until;
        loop {
            let before = self.phase;
            match self.phase {
                Phase::Reporting if now >= self.until => self.enter(Phase::Answers, now + ANSWERS_WITHIN),
                Phase::Answers if self.run.counts.in_flight.value() == 0 || now >= self.until => {
                    let again_until = now + AUDIT_AGAIN_WITHIN;
                    self.count_missed();
                    self.enter(Phase::Audit { again_until }, now + AUDIT_WITHIN);
                    self.ask(engine, now);
                }
                Phase::Audit { again_until } => self.look_at_verdict(engine, now, again_until),
                Phase::Updates if now >= self.until || !self.anyone_is_behind() => {
                    self.enter(Phase::Over, Tick::NEVER);
                }
                Phase::Updates => again = now + UPDATES_POLL,
                Phase::Over => return Course::Stop,
                Phase::Reporting | Phase::Answers => {}
            }
            if self.phase == before {
                return Course::GoOn(again.min(self.until).min(shown));
            }
        }
    }

    fn show(&mut self, now: Tick) -> Tick {
        let (Some(progress), Run { counts, schedule, faults, .. }) = (&mut self.progress, &*self.run) else {
            return Tick::NEVER;
        };
        let confirmed = counts.confirmed.value();
        progress.show(now, now - schedule.begin(), confirmed, |rate| {
            let (online, errors) = (counts.online.value(), faults.count());
            format!("{online} devices, {rate} values/s, {confirmed} confirmed, {errors} errors")
        })
    }

    fn enter(&mut self, phase: Phase, until: Tick) {
        (self.phase, self.until) = (phase, until);
    }

    fn ask(&self, engine: &mut Engine, at: Tick) {
        engine.dial_at(at, self.run.endpoint(0), Box::new(Audit::new(Arc::clone(&self.run))));
    }

    fn look_at_verdict(&mut self, engine: &mut Engine, now: Tick, again_until: Tick) {
        let verdict = self.run.verdict().clone();
        match verdict {
            Verdict::Known => self.enter(Phase::Updates, now + UPDATES_WITHIN),
            Verdict::Failed(_) if now < again_until => self.ask(engine, now + AUDIT_AGAIN),
            Verdict::Failed(_) => self.enter(Phase::Over, Tick::NEVER),
            Verdict::Asking if now < self.until => {}
            Verdict::Asking => {
                let seconds = AUDIT_WITHIN.as_secs();
                *self.run.verdict() = Verdict::Failed(format!("no whole answer in {seconds} s"));
                self.enter(Phase::Over, Tick::NEVER);
            }
        }
    }

    fn anyone_is_behind(&self) -> bool {
        let ledger = self.run.ledger();
        self.watches.iter().any(|watch| watch.behind(&ledger) > 0)
    }

    /// Reports that were due, and whose devices were away until the end.
    fn count_missed(&self) {
        let ledger = self.run.ledger();
        let left = (0..ledger.devices()).map(|device| self.run.schedule.left(device, ledger.slot(device)));
        self.run.counts.missed.add(left.sum());
    }

    /// It is over: whoever is behind now stays so.
    pub(super) fn finish(self) {
        if let Some(progress) = self.progress {
            progress.clear();
        }
        if *self.run.verdict() != Verdict::Known {
            return;
        }
        let ledger = self.run.ledger();
        for watch in &self.watches {
            let behind = watch.behind(&ledger);
            if behind > 0 {
                self.run.error(format_args!("a subscriber was not told the last state of {behind} tags"));
            }
        }
    }
}
