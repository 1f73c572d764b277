//! Which of many has the most: a heap that knows where each one stands, so that sizes can change.

/// Numbers from 0, and a size for each.
#[derive(Default)]
pub(super) struct Largest {
    /// The largest first: those at 2n + 1 and 2n + 2 are no larger than the one at n.
    heap: Vec<(u32, u32)>,
    /// Where in the heap a number stands; meaningless for one that is not there.
    at: Vec<u32>,
}

impl Largest {
    /// The number that has the most.
    pub(super) fn first(&self) -> Option<u32> {
        self.heap.first().map(|&(_, number)| number)
    }

    /// There will be so many more.
    pub(super) fn reserve_exact(&mut self, more: usize) {
        self.heap.reserve_exact(more);
        self.at.reserve_exact(more);
    }

    /// A number is new; it has nothing.
    pub(super) fn add(&mut self, number: u32) {
        if self.at.len() <= number as usize {
            self.at.resize(number as usize + 1, 0);
        }
        self.at[number as usize] = self.heap.len() as u32;
        self.heap.push((0, number));
    }

    /// Its size is now that.
    pub(super) fn set(&mut self, number: u32, size: usize) {
        let at = self.at[number as usize] as usize;
        let before = std::mem::replace(&mut self.heap[at].0, size as u32);
        if before < size as u32 { self.rise(at) } else { self.sink(at) }
    }

    /// The number is there no more.
    pub(super) fn remove(&mut self, number: u32) {
        let at = self.at[number as usize] as usize;
        self.heap.swap_remove(at);
        if at < self.heap.len() {
            self.at[self.heap[at].1 as usize] = at as u32;
            self.rise(at);
            self.sink(at);
        }
    }

    fn rise(&mut self, mut at: usize) {
        while at > 0 && self.heap[(at - 1) / 2].0 < self.heap[at].0 {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
    }

    fn sink(&mut self, mut at: usize) {
        loop {
            let children = 2 * at + 1..self.heap.len().min(2 * at + 3);
            match children.max_by_key(|&child| self.heap[child].0) {
                Some(child) if self.heap[child].0 > self.heap[at].0 => {
                    self.swap(at, child);
                    at = child;
                }
                _ => return,
            }
        }
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.heap.swap(one, other);
        self.at[self.heap[one].1 as usize] = one as u32;
        self.at[self.heap[other].1 as usize] = other as u32;
    }

    /// What it holds, in bytes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.heap.capacity() * size_of::<(u32, u32)>() + self.at.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A number gets a size, or is removed.
    fn any_step() -> impl Strategy<Value = (u32, Option<usize>)> {
        (0..20_u32, prop::option::of(0..9_usize))
    }

    proptest! {
        #[test]
        fn the_first_is_the_largest(steps in prop::collection::vec(any_step(), 1..300)) {
            let (mut largest, mut model) = (Largest::default(), BTreeMap::new());
            for (number, size) in steps {
                match (model.contains_key(&number), size) {
                    (false, _) => {
                        largest.add(number);
                        model.insert(number, 0);
                    }
                    (true, Some(size)) => {
                        largest.set(number, size);
                        model.insert(number, size);
                    }
                    (true, None) => {
                        largest.remove(number);
                        model.remove(&number);
                    }
                }
                let first = largest.first().map(|number| model[&number]);
                prop_assert_eq!(first, model.values().max().copied());
            }
        }
    }
}
