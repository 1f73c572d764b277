//! Where the points of a unit lie: sorted, each place once, and blocks of them that one request reads.

use std::cmp::Reverse;
use std::ops::Range;

use crate::base::order::sorted_by;
use crate::protocols::modbus::{Area, Span};

/// What one tag needs to have read: a coil, a discrete, or the registers of a value, which are never read in
/// two requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The poll group it is read with; points of different groups are never read together.
    pub group: u16,
    pub area: Area,
    /// In registers, or in bits.
    pub span: Span,
}

/// What one request reads: a run of places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The poll group.
    pub group: u16,
    pub area: Area,
    /// What the request asks for.
    pub span: Span,
    /// The first of its places.
    pub(super) first: u32,
    /// The place behind its last.
    pub(super) end: u32,
}

/// A point that a block reads, and where in the reply it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The point's number: its place in the list that was planned.
    pub point: usize,
    /// Registers (or bits) before it in the reply.
    pub offset: u16,
}

/// The distinct places of all points of a unit, by group, area and start, the longer one first.
#[derive(Clone, Debug)]
pub(super) struct Places {
    places: Vec<Place>,
    /// All points, by place.
    points: Vec<Placed>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    at: Point,
    /// Where its points begin in `Places::points`; they end where those of the next place begin.
    first_point: u32,
}

/// A point and where its place starts, which is what each answer asks for.
#[derive(Clone, Copy, Debug)]
struct Placed {
    point: u32,
    start: u16,
}

impl Block {
    /// Reads no place: for who only wants to know whether the unit answers. Also that it has no such register
    /// is an answer.
    pub(super) const ANY: Block =
        Block { group: 0, area: Area::Holding, span: Span { start: 0, quantity: 1 }, first: 0, end: 0 };

    /// How many places it reads.
    pub(super) fn len(&self) -> u32 {
        self.end - self.first
    }

    /// Whether its request reads all that the other one's does.
    pub(super) fn covers(&self, other: &Block) -> bool {
        (self.group, self.area) == (other.group, other.area)
            && self.span.start <= other.span.start
            && other.span.end() <= self.span.end()
    }
}

impl Places {
    pub(super) fn new(points: &[Point]) -> Places {
        let key = |number: usize| {
            let Point { group, area, span } = points[number];
            (group, area, span.start, Reverse(span.quantity))
        };
        let numbers = sorted_by(points.len(), &|one, other| key(one).cmp(&key(other)));
        let mut places: Vec<Place> = Vec::new();
        for (first_point, number) in numbers.iter().enumerate() {
            let at = points[*number];
            if places.last().is_none_or(|last| last.at != at) {
                places.push(Place { at, first_point: first_point as u32 });
            }
        }
        places.shrink_to_fit();
        let placed = |point: usize| Placed { point: point as u32, start: points[point].span.start };
        Places { places, points: numbers.into_iter().map(placed).collect() }
    }

    /// The places of each area of each group.
    pub(super) fn tables(&self) -> impl Iterator<Item = Range<usize>> {
        let tables =
            self.places.chunk_by(|one, next| (one.at.group, one.at.area) == (next.at.group, next.at.area));
        tables.scan(0, |first, table| {
            let range = *first..*first + table.len();
            *first = range.end;
            Some(range)
        })
    }

    pub(super) fn span(&self, place: usize) -> Span {
        self.places[place].at.span
    }

    /// The block of a run of places, which has at least one and lies in one table.
    pub(super) fn block(&self, run: Range<usize>) -> Block {
        let Point { group, area, span: Span { start, .. } } = self.places[run.start].at;
        let ends = self.places[run.clone()].iter().map(|place| place.at.span.end());
        let quantity = ends.max().expect("a block has a place") - u32::from(start);
        let span = Span { start, quantity: quantity as u16 };
        Block { group, area, span, first: run.start as u32, end: run.end as u32 }
    }

    /// The points of a block.
    pub(super) fn found(&self, block: &Block) -> impl Iterator<Item = Found> {
        let base = block.span.start;
        let points = &self.points[self.first_point(block.first)..self.first_point(block.end)];
        points
            .iter()
            .map(move |&Placed { point, start }| Found { point: point as usize, offset: start - base })
    }

    /// The place of the first point of a place, or behind the last.
    fn first_point(&self, place: u32) -> usize {
        self.places.get(place as usize).map_or(self.points.len(), |place| place.first_point as usize)
    }
}
