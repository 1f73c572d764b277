//! Which tags changed, from the shard that wrote to the shards that have subscribers: one dirty set a shard,
//! conflating (a tag stands in it once) and so bounded by the number of tags.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use super::{TagId, TagSet};
use crate::base::bell::Bell;
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
    /// Wakes the shard.
    bell: Bell,
}

#[derive(Debug, Default)]
struct Dirty {
    /// Those that changed since the shard read them last.
    marks: TagSet,
    /// Of these, the ones that were not taken yet; the first marked first.
    queue: VecDeque<TagId>,
}

impl Changes {
    pub(super) fn new(shards: usize) -> Changes {
        Changes { inboxes: (0..shards).map(|_| Inbox::default()).collect() }
    }

    /// Let every shard that has subscriptions know. Called while the tag cannot be read, so that a mark
    /// stands for a state that its shard has not seen, and never for one that it has. Then
    /// [`ring`](Self::ring).
    #[inline]
    pub(super) fn mark(&self, tag: TagId) {
        #[cfg(test)]
        if mutants::strikes(Mutant::LostMark) {
            return;
        }
        for inbox in &self.inboxes {
            if inbox.open.load(Ordering::Acquire) {
                inbox.mark(tag);
            }
        }
    }

    /// Wake those that sleep and were let know: once for a burst.
    pub(super) fn ring(&self) {
        let open = self.inboxes.iter().filter(|inbox| inbox.open.load(Ordering::Acquire));
        open.for_each(|inbox| inbox.bell.ring());
    }

    /// Wakes `shard`, which looks for changes after it fell asleep.
    pub(super) fn bell(&self, shard: usize) -> &Bell {
        &self.inboxes[shard].bell
    }

    /// How many shards there are.
    pub(super) fn shards(&self) -> usize {
        self.inboxes.len()
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

    /// Append up to `most` marked tags to `taken`. Each is to be read, and its mark to be
    /// [cleared](Self::clear).
    pub(super) fn take(&self, shard: usize, most: usize, taken: &mut Vec<TagId>) {
        if !self.inboxes[shard].open.load(Ordering::Acquire) {
            return;
        }
        let mut dirty = self.inboxes[shard].lock();
        let count = most.min(dirty.queue.len());
        taken.extend(dirty.queue.drain(..count));
    }

    /// The tag is read now. Called while nobody can write it.
    pub(super) fn clear(&self, shard: usize, tag: TagId) {
        self.inboxes[shard].lock().marks.remove(tag);
    }

    /// Whether the shard will hear of a change of the tag that it has not seen yet. Called while nobody can
    /// write it.
    pub(super) fn is_marked(&self, shard: usize, tag: TagId) -> bool {
        let inbox = &self.inboxes[shard];
        inbox.open.load(Ordering::Acquire) && inbox.lock().marks.contains(tag)
    }
}

impl Inbox {
    #[inline(never)]
    fn mark(&self, tag: TagId) {
        let mut dirty = self.lock();
        if dirty.marks.insert(tag) {
            dirty.queue.push_back(tag);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Dirty> {
        self.dirty.lock().expect("a panic ends the process, so no lock is poisoned")
    }
}
