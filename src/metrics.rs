//! Plain counters, one set a shard: written by that shard alone, read by any.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread writes and all may read. No read-modify-write is needed, so counting costs an
/// addition.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Count `n` more.
    pub fn add(&self, n: u64) {
        self.set(self.value().wrapping_add(n));
    }

    /// Count `n` less.
    pub fn sub(&self, n: u64) {
        self.set(self.value().wrapping_sub(n));
    }

    /// Replace the number.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The number now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a shard counts. No other shard's counters share a cache line with them.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Metrics {
    /// Connections that are open now.
    pub connections: Counter,
    /// Connections accepted since start.
    pub accepted: Counter,
    /// Connections turned away since start.
    pub refused: Counter,
    /// Requests handled since start, refused ones included.
    pub requests: Counter,
    /// Frames dropped since start because they are damaged, or no frames.
    pub damaged: Counter,
    /// Bytes read since start.
    pub bytes_in: Counter,
    /// Bytes written since start.
    pub bytes_out: Counter,
    /// Subscriptions now.
    pub subscriptions: Counter,
    /// Memory in connections' buffers, in bytes, as it was at the end of the last turn.
    pub buffer_bytes: Counter,
    /// How long a turn of the loop takes: mean of the last ones, in microseconds.
    pub turn_mean_us: Counter,
    /// The longest turn of the last ten seconds or so, in microseconds.
    pub turn_max_us: Counter,
}
