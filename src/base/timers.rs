//! Deadlines of numbered things (connections by slab index, tags by id): a binary heap with at most one entry
//! a number, moved in place.
//!
//! Where activity only pushes a deadline back a little, owners re-arm lazily: it does not touch the heap; the
//! entry comes up at its old time and the owner arms it anew. So a busy connection costs nothing here.

use super::time::Tick;

const ABSENT: u32 = u32::MAX;

/// A heap of deadlines, one for each armed number.
#[derive(Debug, Default)]
pub struct Timers {
    heap: Vec<(Tick, u32)>,
    /// Where each number stands in the heap, or `ABSENT`. Grows to the largest number ever armed.
    position: Vec<u32>,
}

impl Timers {
    /// The earliest deadline.
    pub fn next(&self) -> Option<Tick> {
        self.heap.first().map(|&(at, _)| at)
    }

    /// When `number` comes up, if it is armed.
    pub fn armed(&self, number: u32) -> Option<Tick> {
        match self.position.get(number as usize) {
            Some(&at) if at != ABSENT => Some(self.heap[at as usize].0),
            _ => None,
        }
    }

    /// Let `number` come up at `at`, instead of whenever it was armed for.
    pub fn arm(&mut self, number: u32, at: Tick) {
        if self.armed(number) == Some(at) {
            return;
        }
        let slot = number as usize;
        if slot >= self.position.len() {
            self.position.resize(slot + 1, ABSENT);
        }
        let place = match self.position[slot] {
            ABSENT => {
                self.heap.push((at, number));
                self.heap.len() - 1
            }
            place => {
                self.heap[place as usize].0 = at;
                place as usize
            }
        };
        let place = self.sift_up(place);
        self.sift_down(place);
    }

    /// Like [`arm`](Self::arm), but only if `at` is earlier than what `number` is armed for.
    pub fn arm_no_later(&mut self, number: u32, at: Tick) {
        if self.armed(number).is_none_or(|armed| at < armed) {
            self.arm(number, at);
        }
    }

    /// Forget `number`.
    pub fn disarm(&mut self, number: u32) {
        if let Some(&place) = self.position.get(number as usize) {
            if place != ABSENT {
                self.remove(place as usize);
            }
        }
    }

    /// Take out a number whose deadline is at or before `now`, the earliest first.
    pub fn pop_due(&mut self, now: Tick) -> Option<u32> {
        let &(at, number) = self.heap.first()?;
        if at > now {
            return None;
        }
        self.remove(0);
        Some(number)
    }

    fn remove(&mut self, place: usize) {
        let (_, number) = self.heap.swap_remove(place);
        self.position[number as usize] = ABSENT;
        if place < self.heap.len() {
            let place = self.sift_up(place);
            self.sift_down(place);
        }
    }

    fn sift_up(&mut self, mut place: usize) -> usize {
        let entry = self.heap[place];
        while place > 0 {
            let up = (place - 1) / 2;
            let parent = self.heap[up];
            if parent.0 <= entry.0 {
                break;
            }
            self.put(place, parent);
            place = up;
        }
        self.put(place, entry);
        place
    }

    fn sift_down(&mut self, mut place: usize) {
        let entry = self.heap[place];
        while let Some(&left) = self.heap.get(2 * place + 1) {
            let right = self.heap.get(2 * place + 2).filter(|right| right.0 < left.0);
            let (down, child) = right.map_or((2 * place + 1, left), |&right| (2 * place + 2, right));
            if entry.0 <= child.0 {
                break;
            }
            self.put(place, child);
            place = down;
        }
        self.put(place, entry);
    }

    fn put(&mut self, place: usize, entry: (Tick, u32)) {
        self.heap[place] = entry;
        self.position[entry.1 as usize] = place as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn agrees_with_a_plain_map(steps in prop::collection::vec((0u8..4, 0u32..20, 0u64..50), 0..200)) {
            let mut timers = Timers::default();
            let mut model: HashMap<u32, u64> = HashMap::new();
            for (what, number, at) in steps {
                match what {
                    0 => {
                        timers.arm(number, Tick::from_micros(at));
                        model.insert(number, at);
                    }
                    1 => {
                        timers.arm_no_later(number, Tick::from_micros(at));
                        let armed = model.entry(number).or_insert(at);
                        *armed = at.min(*armed);
                    }
                    2 => {
                        timers.disarm(number);
                        model.remove(&number);
                    }
                    _ => match timers.pop_due(Tick::from_micros(at)) {
                        Some(due) => {
                            let earliest = model.values().copied().min();
                            let popped = model.remove(&due);
                            prop_assert!(popped.is_some() && popped == earliest && popped <= Some(at));
                        }
                        None => prop_assert!(model.values().all(|&armed| armed > at)),
                    },
                }
                prop_assert_eq!(timers.next().map(Tick::as_micros), model.values().copied().min());
                let armed = timers.armed(number).map(Tick::as_micros);
                prop_assert_eq!(armed, model.get(&number).copied());
            }
        }
    }
}
