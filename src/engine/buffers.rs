//! Pooled buffers: for the output of a turn, and for what a connection cannot get rid of within one (a
//! partial frame, refused output). An idle connection owns none.

#[cfg(test)]
use crate::base::mutants::{self, Mutant};

/// The sizes that buffers come in. What is longer than the longest (nothing, in the protocols at hand) is
/// allocated as needed and not pooled.
const CLASS_BYTES: [usize; 5] = [256, 1_024, 4_096, 16_384, 65_536];

/// Free buffers kept for use, all sizes together; what comes back beyond that is freed.
const POOL_BYTES: usize = 1024 * 1024;

/// The pool of one shard, and the account of what is taken from it.
#[derive(Debug)]
pub(super) struct Buffers {
    free: [Vec<Vec<u8>>; CLASS_BYTES.len()],
    free_bytes: usize,
    taken_bytes: usize,
    most_taken_bytes: usize,
}

impl Buffers {
    pub(super) fn new(most_taken_bytes: usize) -> Buffers {
        Buffers { free: Default::default(), free_bytes: 0, taken_bytes: 0, most_taken_bytes }
    }

    /// The capacity of all buffers that are out.
    pub(super) fn taken_bytes(&self) -> usize {
        self.taken_bytes
    }

    /// Whether so much is taken (`buffer_memory`) that nothing should be read or produced until some is back.
    pub(super) fn are_short(&self) -> bool {
        self.taken_bytes >= self.most_taken_bytes
    }

    /// Whether enough is back for the server to breathe: three quarters of the limit.
    pub(super) fn are_relieved(&self) -> bool {
        self.taken_bytes <= self.most_taken_bytes / 4 * 3
    }

    /// Append to a buffer; an empty one without capacity takes its memory from the pool here.
    pub(super) fn append(&mut self, buffer: &mut Vec<u8>, bytes: &[u8]) {
        if buffer.capacity() - buffer.len() < bytes.len() {
            self.grow(buffer, bytes.len());
        }
        buffer.extend_from_slice(bytes);
    }

    #[cold]
    fn grow(&mut self, buffer: &mut Vec<u8>, more: usize) {
        let mut larger = self.take(buffer.len() + more);
        larger.extend_from_slice(buffer);
        self.give_back(buffer);
        *buffer = larger;
    }

    fn take(&mut self, least: usize) -> Vec<u8> {
        let class = CLASS_BYTES.iter().position(|&bytes| bytes >= least);
        let buffer = match class.and_then(|class| self.free[class].pop()) {
            Some(buffer) => {
                self.free_bytes -= buffer.capacity();
                buffer
            }
            None => Vec::with_capacity(class.map_or(least, |class| CLASS_BYTES[class])),
        };
        self.taken_bytes += buffer.capacity();
        buffer
    }

    /// Empty a buffer and take its memory back.
    pub(super) fn give_back(&mut self, buffer: &mut Vec<u8>) {
        let mut buffer = std::mem::take(buffer);
        let bytes = buffer.capacity();
        #[cfg(test)]
        if bytes > 0 && mutants::strikes(Mutant::LeakedBuffer) {
            return;
        }
        self.taken_bytes -= bytes;
        if let Some(class) = CLASS_BYTES.iter().position(|&class| class == bytes) {
            if self.free_bytes + bytes <= POOL_BYTES {
                buffer.clear();
                self.free_bytes += bytes;
                self.free[class].push(buffer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_goes_round_and_is_accounted_for() {
        let mut buffers = Buffers::new(1_024);
        let mut buffer = Vec::new();
        buffers.append(&mut buffer, &[1; 200]);
        assert_eq!((buffer.capacity(), buffers.taken_bytes()), (256, 256));
        buffers.append(&mut buffer, &[2; 100]);
        assert_eq!((buffer.len(), buffer.capacity(), buffers.taken_bytes()), (300, 1_024, 1_024));
        assert!(buffers.are_short() && !buffers.are_relieved());
        let address = buffer.as_ptr();
        buffers.give_back(&mut buffer);
        assert_eq!((buffer.capacity(), buffers.taken_bytes()), (0, 0));
        buffers.append(&mut buffer, &[3; 257]);
        assert_eq!(buffer.as_ptr(), address, "the pooled buffer is used again");
    }

    #[test]
    fn the_pool_keeps_no_more_than_its_limit() {
        let mut buffers = Buffers::new(usize::MAX);
        let mut many: Vec<Vec<u8>> = vec![Vec::new(); 2 * POOL_BYTES / CLASS_BYTES[4]];
        many.iter_mut().for_each(|buffer| buffers.append(buffer, &[0; 65_536]));
        many.iter_mut().for_each(|buffer| buffers.give_back(buffer));
        assert_eq!((buffers.free_bytes, buffers.taken_bytes()), (POOL_BYTES, 0));
    }
}
