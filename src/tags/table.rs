//! The current samples: one small lock a tag, in chunks that are allocated as tags come and never move.
//!
//! An uncontended lock is a thousandth of a round trip, and unlike a sequence lock it holds text safely.

use std::sync::{Mutex, MutexGuard, OnceLock};

use super::sources::SourceId;
use super::value::{Quality, Sample, Value};
use super::{TagId, Timestamp};
use crate::base::time::Tick;

/// 20 KiB a chunk: what the first tag costs.
const CHUNK_SLOTS: usize = 256;

/// One tag's current state.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) value: Value,
    pub(super) time: Timestamp,
    pub(super) quality: Quality,
    /// Who wrote it last.
    pub(super) source: Option<SourceId>,
    /// The number of the last write.
    pub(super) written: u64,
    /// The number of the last write (or other event) that changed type, value or quality.
    pub(super) changed: u64,
    /// When the value is too old to be good, unless it is written before.
    pub(super) stale_at: Tick,
}

impl Slot {
    fn never() -> Slot {
        let Sample { value, quality, time } = Sample::never();
        Slot { value, time, quality, source: None, written: 0, changed: 0, stale_at: Tick::NEVER }
    }

    pub(super) fn sample(&self) -> Sample {
        Sample { value: self.value.clone(), quality: self.quality, time: self.time }
    }
}

/// Allocated when the first of its tags comes.
type Chunk = OnceLock<Box<[Mutex<Slot>]>>;

#[derive(Debug)]
pub(super) struct Table {
    chunks: Box<[Chunk]>,
}

impl Table {
    pub(super) fn new(max_tags: usize) -> Table {
        Table { chunks: (0..max_tags.div_ceil(CHUNK_SLOTS)).map(|_| OnceLock::new()).collect() }
    }

    /// The slot of a tag, which must be an id that the catalog gave out.
    #[inline]
    pub(super) fn lock(&self, tag: TagId) -> MutexGuard<'_, Slot> {
        let (chunk, slot) = (tag.0 as usize / CHUNK_SLOTS, tag.0 as usize % CHUNK_SLOTS);
        let chunk =
            self.chunks[chunk].get_or_init(|| (0..CHUNK_SLOTS).map(|_| Mutex::new(Slot::never())).collect());
        chunk[slot].lock().expect("a panic ends the process, so no lock is poisoned")
    }
}
