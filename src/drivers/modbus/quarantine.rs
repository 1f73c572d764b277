//! Which requests a unit is polled with once it has refused some of them: what it does not have leaves the
//! poll, and nothing else.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use super::places::Block;
use super::plan::Plan;
use crate::base::time::Tick;
use crate::drivers::backoff::doubled;

/// Requests of one scan, at most, that are sent to learn, besides those of the poll.
pub const LEARNING_REQUESTS: u8 = 2;
/// A refusal is believed when it is repeated, so much later.
const BELIEVED_AFTER: Duration = Duration::from_secs(1);
/// What was found to be bad is tried again after so long, then after twice as long, and so on.
const FIRST_RETRY_AFTER: Duration = Duration::from_secs(10);
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(600);

/// What the scans of one unit read, and what is known of its addresses by what it refused (exception 2).
///
/// All places of the [`Plan`] are divided into *parts*, at first its blocks, each of which is polled. One
/// that is refused twice is halved, and the halves are *suspects*. A suspect that can be read is polled from
/// then on; one that is refused is halved again, until single places are left: those are *bad*, and read no
/// more but for a retry now and then. Parts that lie side by side are joined again as soon as a request for
/// both was answered; if that is refused, it is the gap between them that the unit does not have (or a
/// request of that length), and they stay apart. So:
///
/// - what was read once is read in each scan, whatever is learned meanwhile;
/// - what is not known yet is found out for as many places at once as can be.
///
/// A refusal says something of addresses only while the unit answers something else. Refusals of a time when
/// it does not are forgotten when it answers again; if they have come to all its places, nothing is held for
/// bad: it is the unit that fails, and it is polled as at first, and for a while nothing is learned.
#[derive(Clone, Debug)]
pub struct Quarantine {
    plan: Arc<Plan>,
    /// In the order of their places, of which each lies in one part.
    parts: Vec<Part>,
    requests_left: u8,
    /// How often in a row all places were found to be refused.
    failures: u32,
    /// After such a failure nothing is learned until then.
    learns_from: Tick,
}

#[derive(Clone, Debug)]
struct Part {
    block: Block,
    state: State,
    /// It cannot be read together with the part before.
    apart: bool,
    /// A request of this scan is about it.
    tried: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Read in each scan.
    Polled,
    /// Polled as well, but refused since then; believed once it was refused again.
    Refused { since: Tick, believed: bool },
    /// Half of what was refused, and not tried by itself yet.
    Suspect,
    /// One place, so often refused by itself. Not polled.
    Bad { refusals: u32, retry_at: Tick },
}

/// Refused while the unit answered nothing: the next refusal is a repeated one.
const REFUSED_BEFORE: State = State::Refused { since: Tick::from_micros(0), believed: false };

/// What a refusal says of the points of the refused block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet: some are good, perhaps.
    Open,
    /// They are bad: the unit does not have them.
    Bad,
    /// The unit refuses whatever it is asked for.
    Unit,
}

impl Quarantine {
    /// Nothing is known yet.
    pub fn new(plan: Arc<Plan>) -> Quarantine {
        let parts = planned(&plan, State::Polled);
        Quarantine { plan, parts, requests_left: 0, failures: 0, learns_from: Tick::default() }
    }

    /// A scan of a poll group begins; all requests of its scan before are settled. What it reads in any case.
    pub fn on_scan(&mut self, group: u16) -> impl Iterator<Item = Block> {
        self.requests_left = LEARNING_REQUESTS;
        self.parts.iter_mut().filter(|part| part.block.group == group).for_each(|part| part.tried = false);
        self.parts
            .iter()
            .filter(move |part| part.block.group == group && part.is_polled())
            .map(|part| part.block)
    }

    /// One more request for this scan of a group, from which something is learned; `None` for now. Each
    /// outcome may give reason for another, so this is asked again after each; first of all when the scan's
    /// other requests are settled, for a block that waits for a reply may be halved as well.
    ///
    /// If it is answered, its points are as good as those of any other block.
    pub fn next_trial(&mut self, group: u16, now: Tick) -> Option<Block> {
        if self.requests_left == 0 {
            return None;
        }
        let trial = self
            .try_suspect(group)
            .or_else(|| self.try_joined(group))
            .or_else(|| self.retry_bad(group, now))?;
        self.requests_left -= 1;
        Some(trial)
    }

    /// The unit answered with the block's values.
    pub fn on_read(&mut self, block: &Block) {
        let was_silent = !self.is_answering();
        self.failures = 0;
        self.learns_from = Tick::default();
        let Some((at, subject)) = self.subject(block) else { return };
        if subject == Subject::Pair {
            self.parts[at].block = *block;
            self.parts[at].tried = false;
            self.parts.remove(at + 1);
        }
        self.parts[at].state = State::Polled;
        self.take_in_covered(at);
        if was_silent {
            self.forget_refusals(at);
        }
    }

    /// The unit refused the block with exception 2.
    pub fn on_refused(&mut self, block: &Block, now: Tick) -> Verdict {
        match self.subject(block) {
            Some((at, Subject::Part)) => self.on_part_refused(at, now),
            Some((at, Subject::Pair)) => {
                // Of two that were answered by themselves; not if one was refused meanwhile, nor of a
                // block that was halved before its own reply came.
                if self.parts[at..=at + 1].iter().all(|part| part.state == State::Polled) {
                    self.parts[at + 1].apart = true;
                }
                Verdict::Open
            }
            None => Verdict::Open,
        }
    }

    /// The connection is a new one, and the unit may be another: all that was refused is tried again. What is
    /// polled remains so meanwhile.
    pub fn on_reconnect(&mut self) {
        self.learns_from = Tick::default();
        for part in &mut self.parts {
            part.apart = false;
            if let State::Refused { .. } = part.state {
                part.state = State::Polled;
            }
            part.retry_at_once();
        }
    }

    /// Whether something of a group was refused and it is not known yet what is bad: where the rate is slow
    /// the next scan should not wait for it, for learning takes several.
    pub fn is_learning(&self, group: u16, now: Tick) -> bool {
        let is_unclear = |part: &Part| matches!(part.state, State::Refused { .. } | State::Suspect);
        now >= self.learns_from && self.parts.iter().any(|part| part.block.group == group && is_unclear(part))
    }

    /// What is held for bad, a block for each place.
    pub fn bad(&self) -> impl Iterator<Item = Block> {
        let is_answering = self.is_answering();
        self.parts.iter().filter(move |part| is_answering && part.is_bad()).map(|part| part.block)
    }

    /// Whether the unit answers anything, as far as is known.
    fn is_answering(&self) -> bool {
        self.parts.iter().any(|part| part.state == State::Polled)
    }

    /// Of what was refused, as many places as can be of which it is not known which are bad.
    fn try_suspect(&mut self, group: u16) -> Option<Block> {
        let suspects = self.untried(group).filter_map(|(at, part)| match part.state {
            State::Suspect => Some((at, part.block.len())),
            State::Refused { believed: true, .. } if !part.is_single() => Some((at, part.block.len() / 2)),
            _ => None,
        });
        // Of two as large the one that is polled comes last: the halves of one block before another block.
        let order = |&(at, places): &(usize, u32)| (places, !self.parts[at].is_polled(), Reverse(at));
        let (at, _) = suspects.max_by_key(order)?;
        if self.parts[at].is_polled() {
            self.halve(at);
        }
        self.parts[at].tried = true;
        Some(self.parts[at].block)
    }

    fn retry_bad(&mut self, group: u16, now: Tick) -> Option<Block> {
        let is_due = |part: &Part| matches!(part.state, State::Bad { retry_at, .. } if retry_at <= now);
        let (at, _) = self.untried(group).find(|(_, part)| is_due(part))?;
        self.parts[at].tried = true;
        Some(self.parts[at].block)
    }

    /// Two parts that are polled, as one.
    fn try_joined(&mut self, group: u16) -> Option<Block> {
        let (at, joined) = self.parts.windows(2).enumerate().find_map(|(at, pair)| {
            let (part, next) = (&pair[0], &pair[1]);
            let is_free =
                |part: &Part| part.state == State::Polled && !part.tried && part.block.group == group;
            let are_free = is_free(part) && is_free(next) && !next.apart;
            Some((at, are_free.then(|| self.plan.joined(&part.block, &next.block))??))
        })?;
        (self.parts[at].tried, self.parts[at + 1].tried) = (true, true);
        Some(joined)
    }

    /// The parts of a group that no request of this scan is to teach about yet, with their numbers.
    fn untried(&self, group: u16) -> impl Iterator<Item = (usize, &Part)> {
        let parts = self.parts.iter().enumerate();
        parts.filter(move |(_, part)| part.block.group == group && !part.tried)
    }

    fn on_part_refused(&mut self, at: usize, now: Tick) -> Verdict {
        let is_single = self.parts[at].is_single();
        match self.parts[at].state {
            State::Polled => self.parts[at].state = State::Refused { since: now, believed: false },
            State::Refused { since, .. } => {
                let believed = now - since >= BELIEVED_AFTER && now >= self.learns_from;
                self.parts[at].state = State::Refused { since, believed };
                // Which of several places are bad, `try_suspect` finds out.
                if believed && is_single {
                    self.condemn(at, 0, now);
                }
            }
            State::Suspect if is_single => self.condemn(at, 0, now),
            State::Suspect => self.halve(at),
            State::Bad { refusals, .. } => self.condemn(at, refusals, now),
        }
        if self.parts.iter().all(Part::is_bad) {
            self.on_unit_refused(now);
            return Verdict::Unit;
        }
        match self.parts[at].state {
            State::Bad { .. } if self.is_answering() => Verdict::Bad,
            _ if self.failures > 0 => Verdict::Unit,
            _ => Verdict::Open,
        }
    }

    fn condemn(&mut self, at: usize, refusals_before: u32, now: Tick) {
        let retry_at = now + doubled(FIRST_RETRY_AFTER, refusals_before, LONGEST_RETRY_AFTER);
        self.parts[at].state = State::Bad { refusals: refusals_before.saturating_add(1), retry_at };
    }

    /// All places were refused.
    fn on_unit_refused(&mut self, now: Tick) {
        self.learns_from = now + doubled(FIRST_RETRY_AFTER, self.failures, LONGEST_RETRY_AFTER);
        self.failures = self.failures.saturating_add(1);
        self.parts = planned(&self.plan, REFUSED_BEFORE);
    }

    /// One part is the first to be answered after a time in which none was. The other blocks of the plan are
    /// polled as at first; in its own block, what was found may be true, and is tried again.
    fn forget_refusals(&mut self, answered: usize) {
        let mut parts = Vec::with_capacity(self.parts.len());
        let mut first = 0;
        for planned in planned(&self.plan, REFUSED_BEFORE) {
            let end = self.parts.partition_point(|part| part.block.first < planned.block.end);
            let run = &mut self.parts[first..end];
            let is_whole = run.first().is_some_and(|part| part.block.first == planned.block.first)
                && run.last().is_some_and(|part| part.block.end == planned.block.end);
            if is_whole && !(first..end).contains(&answered) {
                parts.push(planned);
            } else {
                run.iter_mut().for_each(Part::retry_at_once);
                parts.extend_from_slice(run);
            }
            first = end;
        }
        self.parts = parts;
    }

    fn halve(&mut self, at: usize) {
        let Part { block, apart, .. } = self.parts[at];
        let halves = self.plan.halves(&block).into_iter().map(|half| {
            let apart = apart && half.first == block.first;
            Part { block: half, state: State::Suspect, apart, tried: false }
        });
        self.parts.splice(at..=at, halves);
    }

    /// What lies inside a part that was read needs no request of its own.
    fn take_in_covered(&mut self, at: usize) {
        let block = self.parts[at].block;
        let covered = self.parts[at + 1..].iter().take_while(|next| block.covers(&next.block)).count();
        self.parts[at].block.end = self.parts[at + covered].block.end;
        self.parts.drain(at + 1..=at + covered);
    }

    /// What the outcome of a request is about; nothing if the parts have changed since it was sent.
    fn subject(&self, block: &Block) -> Option<(usize, Subject)> {
        let at = self.parts.binary_search_by_key(&block.first, |part| part.block.first).ok()?;
        let ends = |part: Option<&Part>| part.is_some_and(|part| part.block.end == block.end);
        if ends(self.parts.get(at)) {
            return Some((at, Subject::Part));
        }
        ends(self.parts.get(at + 1)).then_some((at, Subject::Pair))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Part,
    /// It and the next.
    Pair,
}

impl Part {
    fn retry_at_once(&mut self) {
        if let State::Bad { retry_at, .. } = &mut self.state {
            *retry_at = Tick::default();
        }
    }

    fn is_single(&self) -> bool {
        self.block.len() == 1
    }

    fn is_polled(&self) -> bool {
        matches!(self.state, State::Polled | State::Refused { .. })
    }

    fn is_bad(&self) -> bool {
        matches!(self.state, State::Bad { .. })
    }
}

/// The blocks of the plan.
fn planned(plan: &Plan, state: State) -> Vec<Part> {
    let blocks = plan.blocks().iter();
    blocks.map(|&block| Part { block, state, apart: false, tried: false }).collect()
}

#[cfg(test)]
mod tests;
