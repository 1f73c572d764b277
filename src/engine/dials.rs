//! Connections to be made, each at its time: the earliest first.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use super::session::{Endpoint, Session};
use crate::base::time::Tick;

#[derive(Default)]
pub(super) struct Dials {
    waiting: BinaryHeap<Reverse<Dial>>,
    count: u64,
}

pub(super) struct Dial {
    at: Tick,
    /// Among those of the same time the first come is the first.
    number: u64,
    pub(super) to: Endpoint,
    pub(super) session: Box<dyn Session>,
}

impl Dials {
    pub(super) fn add(&mut self, at: Tick, to: Endpoint, session: Box<dyn Session>) {
        self.count += 1;
        self.waiting.push(Reverse(Dial { at, number: self.count, to, session }));
    }

    pub(super) fn next(&self) -> Option<Tick> {
        self.waiting.peek().map(|Reverse(dial)| dial.at)
    }

    pub(super) fn pop_due(&mut self, now: Tick) -> Option<Dial> {
        if self.next()? > now {
            return None;
        }
        self.waiting.pop().map(|Reverse(dial)| dial)
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}

impl Ord for Dial {
    fn cmp(&self, other: &Dial) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Dial {
    fn partial_cmp(&self, other: &Dial) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Dial {
    fn eq(&self, other: &Dial) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Dial {}
