//! The read planner: which requests read all points of a unit.

use std::collections::VecDeque;
use std::ops::Range;

use super::places::{Block, Found, Places, Point};
use crate::protocols::modbus::address::AREA_SIZE;
use crate::protocols::modbus::pdu::{MOST_READ_BITS, MOST_READ_REGISTERS};
use crate::protocols::modbus::{Area, Span};

/// What a request to a device may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Registers in a request, at most [`MOST_READ_REGISTERS`].
    pub max_registers: u16,
    /// Bits in a request, at most [`MOST_READ_BITS`].
    pub max_bits: u16,
    /// Registers that are read in vain, at most, to read what lies before and behind them in one request.
    pub merge_gap: u16,
    /// The same in bits, of coils and discretes.
    pub merge_gap_bits: u16,
}

/// The requests that read all points of one unit: the fewest there can be, and of those that are as few, the
/// ones that read least.
#[derive(Clone, Debug)]
pub struct Plan {
    places: Places,
    blocks: Vec<Block>,
    limits: Limits,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits::with_gap(8)
    }
}

impl Limits {
    /// What the standard allows, and gaps of so many registers or as many bits as those have.
    pub fn with_gap(merge_gap: u16) -> Limits {
        Limits {
            max_registers: MOST_READ_REGISTERS,
            max_bits: MOST_READ_BITS,
            merge_gap,
            merge_gap_bits: merge_gap.saturating_mul(16),
        }
    }

    /// Whether one request can read it. Configuration refuses points of which that is not true.
    pub fn allow(&self, area: Area, span: Span) -> bool {
        span.quantity > 0 && span.quantity <= self.most(area) && span.is_within(AREA_SIZE)
    }

    fn most(&self, area: Area) -> u16 {
        if area.is_bits() { self.max_bits } else { self.max_registers }
    }

    fn gap(&self, area: Area) -> u16 {
        if area.is_bits() { self.merge_gap_bits } else { self.merge_gap }
    }
}

impl Plan {
    /// Points may overlap or be equal, and come in any order.
    ///
    /// # Panics
    /// If the limits do not [allow](Limits::allow) a point.
    pub fn new(points: &[Point], limits: Limits) -> Plan {
        for point in points {
            assert!(limits.allow(point.area, point.span), "no request can read {point:?}");
        }
        let places = Places::new(points);
        let mut blocks = Vec::new();
        for table in places.tables() {
            let runs = fewest_runs(&places, table, limits);
            blocks.extend(runs.into_iter().map(|run| places.block(run)));
        }
        Plan { places, blocks, limits }
    }

    /// The requests, by group, area and start.
    pub fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// The points that a block reads.
    pub fn found(&self, block: &Block) -> impl Iterator<Item = Found> {
        self.places.found(block)
    }

    /// Two blocks as one, if a request may read it. The places of `next` follow those of `block`.
    pub(super) fn joined(&self, block: &Block, next: &Block) -> Option<Block> {
        debug_assert_eq!(block.end, next.first, "only neighbours are joined");
        if (block.group, block.area) != (next.group, next.area) {
            return None;
        }
        let joined = self.places.block(block.first as usize..next.end as usize);
        let gap = u32::from(next.span.start).saturating_sub(block.span.end());
        let allowed =
            self.limits.allow(joined.area, joined.span) && gap <= u32::from(self.limits.gap(joined.area));
        allowed.then_some(joined)
    }

    /// The places of a block in two halves, each of which may have to be more than one block: what was read
    /// with a long place that lies in the other half may be far apart.
    pub(super) fn halves(&self, block: &Block) -> Vec<Block> {
        let gap = u32::from(self.limits.gap(block.area));
        let (first, end) = (block.first as usize, block.end as usize);
        let middle = first + (end - first) / 2;
        let mut halves = Vec::new();
        let (mut run, mut run_end) = (first, 0);
        for place in first..end {
            let span = self.places.span(place);
            if place == middle || (place > run && u32::from(span.start) > run_end + gap) {
                halves.push(self.places.block(run..place));
                (run, run_end) = (place, 0);
            }
            run_end = run_end.max(span.end());
        }
        halves.push(self.places.block(run..end));
        halves
    }
}

/// The runs of places of one table that are the best blocks.
///
/// A place inside another comes with it, and is left out at first. The other places rise in their starts and
/// in their ends alike; so a block is a run of them, a part of what can be a block can be one too, and the
/// best blocks of the first so many places follow from the best ones of fewer. The last of those blocks
/// begins with one of the places from where it would not be too long; kept in a queue by what they cost, the
/// cheapest is always at its front, and all takes no longer than a step or two for each place.
fn fewest_runs(places: &Places, table: Range<usize>, limits: Limits) -> Vec<Range<usize>> {
    /// A request costs more than any registers.
    const REQUEST: i64 = 1 << 32;
    let area = places.block(table.start..table.start + 1).area;
    let (most, gap) = (i64::from(limits.most(area)), i64::from(limits.gap(area)));
    let outer = outer_places(places, table.clone());

    // For each number of places: what reading the first so many costs, and where the last block begins.
    let mut costs = vec![0];
    let mut begins = Vec::with_capacity(outer.len());
    // Where a block with the place at hand can begin, and what it costs but for its end; the cost rises.
    let mut candidates: VecDeque<(usize, i64)> = VecDeque::new();
    for (at, place) in outer.iter().enumerate() {
        if at > 0 && place.start > outer[at - 1].end + gap {
            candidates.clear();
        }
        let cost = costs[at] + REQUEST - place.start;
        while candidates.back().is_some_and(|&(_, other)| other > cost) {
            candidates.pop_back();
        }
        candidates.push_back((at, cost));
        while candidates.front().is_some_and(|&(begin, _)| place.end - outer[begin].start > most) {
            candidates.pop_front();
        }
        let &(begin, cost) = candidates.front().expect("a place by itself is not too long");
        costs.push(cost + place.end);
        begins.push(begin);
    }

    let mut runs = Vec::new();
    let (mut left, mut end) = (outer.len(), table.end);
    while left > 0 {
        left = begins[left - 1];
        runs.push(outer[left].place..end);
        end = outer[left].place;
    }
    runs.reverse();
    runs
}

/// A place that lies in no other one.
struct Outer {
    place: usize,
    start: i64,
    end: i64,
}

fn outer_places(places: &Places, table: Range<usize>) -> Vec<Outer> {
    let mut outer: Vec<Outer> = Vec::new();
    for place in table {
        let span = places.span(place);
        let (start, end) = (i64::from(span.start), i64::from(span.end()));
        if outer.last().is_none_or(|last| end > last.end) {
            outer.push(Outer { place, start, end });
        }
    }
    outer
}

#[cfg(test)]
mod tests;
