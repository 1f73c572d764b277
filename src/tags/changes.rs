//! Which tags changed, from the shard that wrote to the shards that have subscribers: one dirty set a shard,
//! conflating (a tag stands in it once) and so bounded by the number of tags.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use super::{TagId, TagSet};
#[cfg(test)]
use crate::base::mutants::{self, Mutant};

/// The dirty sets of all shards.
#[derive(Debug)]
pub(super) struct Changes {
    inboxes: Box<[Inbox]>,
}

#[derive(Debug, Default)]
struct Inbox {
    /// Whether the shard has any subscription; where it has none, nothing is marked.
    open: AtomicBool,
    dirty: Mutex<Dirty>,
}

#[derive(Debug, Default)]
struct Dirty {
    marks: TagSet,
    /// The marked tags, the first marked first.
    queue: VecDeque<TagId>,
}

impl Changes {
    pub(super) fn new(shards: usize) -> Changes {
        Changes { inboxes: (0..shards).map(|_| Inbox::default()).collect() }
    }

    /// Let every shard that has subscriptions know.
    pub(super) fn mark(&self, tag: TagId) {
        #[cfg(test)]
        if mutants::strikes(Mutant::LostMark) {
            return;
        }
        for inbox in &self.inboxes {
            if inbox.open.load(Ordering::Acquire) {
                let mut dirty = inbox.lock();
                if dirty.marks.insert(tag) {
                    dirty.queue.push_back(tag);
                }
            }
        }
    }

    /// Whether `shard` wants to know of changes.
    pub(super) fn open(&self, shard: usize, wanted: bool) {
        self.inboxes[shard].open.store(wanted, Ordering::Release);
        if !wanted {
            *self.inboxes[shard].lock() = Dirty::default();
        }
    }

    /// Whether nothing is marked for `shard`.
    pub(super) fn is_empty(&self, shard: usize) -> bool {
        let inbox = &self.inboxes[shard];
        !inbox.open.load(Ordering::Acquire) || inbox.lock().queue.is_empty()
    }

    /// Append up to `most` marked tags to `taken`. Their marks go first, so that a write from now on marks
    /// anew and whoever reads the tag after this call misses nothing.
    pub(super) fn take(&self, shard: usize, most: usize, taken: &mut Vec<TagId>) {
        if !self.inboxes[shard].open.load(Ordering::Acquire) {
            return;
        }
        let mut dirty = self.inboxes[shard].lock();
        let count = most.min(dirty.queue.len());
        let Dirty { marks, queue } = &mut *dirty;
        taken.extend(queue.drain(..count).inspect(|&tag| {
            marks.remove(tag);
        }));
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Dirty> {
        self.dirty.lock().expect("a panic ends the process, so no lock is poisoned")
    }
}
