//! How a run goes: all get ready, requests go out, the last answers come. Called once a turn of the loop.

use std::sync::Arc;
use std::time::Duration;

use crate::base::time::Tick;
use crate::cli::load::{Family, OwnTime, Progress, Usage};
use crate::reactor::Course;

use super::requester::LOOK;
use super::run::{Done, Run};
use super::subscriber::Watch;

/// For so long nothing may happen while all get ready.
const READY_WITHIN: Duration = Duration::from_secs(5);
/// So long after the first fault before the run, what else comes of its cause is waited for: a refusal, and
/// then the end of its connection.
const FAULTS_WITHIN: Duration = Duration::from_millis(250);
/// For so long after the end what was due before is still sent.
const BACKLOG_WITHIN: Duration = Duration::from_secs(5);
/// How long the last answers and updates may take, and how often they are looked at.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
const UPDATES_POLL: Duration = Duration::from_millis(20);
/// Where writers share tags, it cannot be known which update is the last: none came for so long.
const QUIET: Duration = Duration::from_millis(200);

pub(super) struct Conductor {
    run: Arc<Run>,
    watches: Vec<Arc<Watch>>,
    server: Option<Family>,
    /// What the server had in memory before anybody connected.
    pub(super) resident_before: u64,
    progress: Option<Progress>,
    phase: Phase,
    /// The phase ends then, whatever came of it.
    until: Tick,
    /// How many of what is waited for were seen so far, and when there were more.
    seen: (u64, Tick),
    /// At the beginning of what is measured, and at its end.
    marks: Vec<Mark>,
    /// How long after that end the last answers were waited for.
    pub(super) waited: Duration,
    pub(super) interrupted: bool,
    /// Why there was no run.
    pub(super) failed: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Preparing,
    WarmingUp,
    Measuring,
    /// What was due before the end is sent.
    Backlog,
    /// The last answers come.
    Answers,
    Over,
}

/// How things stood at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) at: Tick,
    /// Answers of any kind.
    pub(super) answers: u64,
    pub(super) done: Done,
    pub(super) own: OwnTime,
    /// `None` also where it is gone.
    pub(super) server: Option<Usage>,
}

impl Conductor {
    pub(super) fn new(
        run: Arc<Run>,
        watches: Vec<Arc<Watch>>,
        server: Option<Family>,
        progress: Option<Progress>,
    ) -> Conductor {
        let resident_before = server.as_ref().and_then(|family| family.usage().ok());
        Conductor {
            run,
            watches,
            server,
            resident_before: resident_before.unwrap_or_default().resident_bytes,
            progress,
            phase: Phase::Preparing,
            until: Tick::NEVER,
            seen: (0, Tick::default()),
            marks: Vec::new(),
            waited: Duration::ZERO,
            interrupted: false,
            failed: None,
        }
    }

    /// A turn.
    pub(super) fn conduct(&mut self, now: Tick, signalled: bool) -> Course {
        if signalled {
            self.interrupt(now);
        }
        let shown = self.show(now);
        loop {
            let before = self.phase;
            match before {
                Phase::Preparing => self.prepare(now),
                Phase::WarmingUp if self.all_are_lost() => {
                    let faults = self.run.faults.lines().join("; ");
                    self.fail(format!(
                        "all connections were lost before there was anything to measure: {faults}"
                    ));
                }
                Phase::WarmingUp if now >= self.until => {
                    self.mark(now);
                    self.enter(Phase::Measuring, self.run.end());
                }
                Phase::Measuring if now >= self.until || self.all_are_lost() => {
                    self.run.end_now(now);
                    self.mark(now);
                    self.enter(Phase::Backlog, now + BACKLOG_WITHIN);
                    self.seen = (self.come(), now);
                }
                Phase::Backlog if now >= self.until || self.all_has_come(now) || self.nothing_comes(now) => {
                    self.run.close();
                    self.enter(Phase::Answers, now + ANSWERS_WITHIN);
                }
                Phase::Answers if now >= self.until || self.all_has_come(now) || self.nothing_comes(now) => {
                    self.enter(Phase::Over, Tick::NEVER);
                }
                Phase::Over => {
                    self.waited = self.marks.last().map_or(Duration::ZERO, |end| now - end.at);
                    return Course::Stop;
                }
                Phase::WarmingUp | Phase::Measuring | Phase::Backlog | Phase::Answers => {}
            }
            if self.phase == before {
                let looks = matches!(self.phase, Phase::Preparing | Phase::Backlog | Phase::Answers);
                let again = if looks { now + UPDATES_POLL } else { Tick::NEVER };
                return Course::GoOn(again.min(self.until).min(shown));
            }
        }
    }

    fn interrupt(&mut self, now: Tick) {
        self.interrupted = true;
        match self.phase {
            Phase::Preparing | Phase::WarmingUp => {
                self.fail("ended before there was anything to measure".to_owned());
            }
            Phase::Measuring => {
                self.run.end_now(now);
                self.until = now;
            }
            // Impatience.
            Phase::Backlog | Phase::Answers | Phase::Over => self.enter(Phase::Over, Tick::NEVER),
        }
    }

    fn prepare(&mut self, now: Tick) {
        let counts = &self.run.counts;
        let wanted = self.run.plan.connections + self.run.plan.subscribers;
        let ready = counts.ready.value() as usize;
        if self.run.faults.count() > 0 {
            self.until = self.until.min(now + FAULTS_WITHIN);
            if now < self.until {
                return;
            }
            let faults = self.run.faults.lines().join("; ");
            // Whoever answers otherwise than a server of that protocol has no such limit.
            let was_turned_away = counts.closed.value() > 0 && counts.wrong.value() == 0;
            let hint = if was_turned_away {
                format!("; does the server allow {wanted} connections (max_connections)?")
            } else {
                String::new()
            };
            self.fail(format!("the run could not begin: {faults}{hint}"));
        } else if ready == wanted {
            if let Some(family) = &mut self.server {
                // Whom it made for our connections; that it is there is found out by its usage.
                let _ = family.look();
            }
            let begin = now + 2 * LOOK;
            self.run.begin_at(begin);
            self.enter(Phase::WarmingUp, self.run.measured());
        } else if self.is_quiet(now, READY_WITHIN, counts.answers.value() + ready as u64) {
            let (left, seconds) = (wanted - ready, READY_WITHIN.as_secs());
            self.fail(format!(
                "the run could not begin: {left} of {wanted} connections were not answered for {seconds} s; \
                 is the server overloaded, or stopped?"
            ));
        }
    }

    /// Whether a count has stayed as it is for so long.
    fn is_quiet(&mut self, now: Tick, span: Duration, count: u64) -> bool {
        if count != self.seen.0 {
            self.seen = (count, now);
        }
        now - self.seen.1 >= span
    }

    fn fail(&mut self, why: String) {
        self.failed = Some(why);
        self.enter(Phase::Over, Tick::NEVER);
    }

    fn enter(&mut self, phase: Phase, until: Tick) {
        (self.phase, self.until) = (phase, until);
    }

    fn mark(&mut self, now: Tick) {
        let server = self.server.as_mut().and_then(|family| {
            if self.phase == Phase::Measuring {
                family.look().ok()?;
            }
            family.usage().ok()
        });
        let counts = &self.run.counts;
        let (answers, done) = (counts.answers.value(), counts.done());
        self.marks.push(Mark { at: now, answers, done, own: OwnTime::now(), server });
    }

    fn all_are_lost(&self) -> bool {
        self.run.counts.lost.value() as usize >= self.run.plan.connections + self.run.plan.subscribers
    }

    /// Answers and updates.
    fn come(&self) -> u64 {
        self.run.counts.answers.value() + self.run.counts.all_updates.value()
    }

    /// What is still on its way will hardly come.
    fn nothing_comes(&mut self, now: Tick) -> bool {
        self.is_quiet(now, ANSWERS_WITHIN, self.come())
    }

    fn all_has_come(&mut self, now: Tick) -> bool {
        if self.run.counts.in_flight.value() > 0 {
            return false;
        }
        if self.watches.is_empty() || self.all_are_lost() {
            return true;
        }
        if self.run.plan.is_exclusive() {
            return self.watches.iter().all(|watch| watch.behind(&self.run) == 0);
        }
        self.is_quiet(now, QUIET, self.come())
    }

    fn show(&mut self, now: Tick) -> Tick {
        let Some(progress) = &mut self.progress else { return Tick::NEVER };
        let run = &self.run;
        let (answers, begin) = (run.counts.answers.value(), run.begin());
        let ready = run.counts.ready.value();
        progress.show(now, now - begin, answers, |rate| {
            if begin == Tick::NEVER {
                return format!("{ready} connections ready");
            }
            format!("{rate} requests/s, {} errors", run.faults.count())
        })
    }

    /// The process of the server, if it is known.
    pub(super) fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Family::eldest)
    }

    /// It is over: whoever is behind now stays so. The marks, unless there was no run.
    pub(super) fn finish(&mut self) -> Result<(Mark, Mark), String> {
        if let Some(progress) = self.progress.take() {
            progress.clear();
        }
        if let Some(why) = self.failed.take() {
            return Err(why);
        }
        if self.run.plan.is_exclusive() && !self.all_are_lost() {
            for watch in &self.watches {
                let behind = watch.behind(&self.run);
                if behind > 0 {
                    self.run.counts.wrong.add(1);
                    self.run
                        .faults
                        .note(format_args!("a subscriber was not told the last value of {behind} tags"));
                }
            }
        }
        match self.marks[..] {
            [first, last] if first.at < last.at => Ok((first, last)),
            [_, _] => {
                Err("nothing was measured: --duration passed while the client had no processor; let it be \
                           longer"
                    .to_owned())
            }
            _ => Err("stopped before there was anything to measure".to_owned()),
        }
    }
}
