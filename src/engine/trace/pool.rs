//! Memory in blocks of one size, and chains of them that are written behind and dropped in front. Blocks go
//! round: nothing is allocated once the pool has grown, and nothing can be too scattered to be used.

/// What a block holds besides its link.
pub(super) const PAYLOAD_BYTES: usize = 124;
/// The pool grows by so many blocks, 64 KiB.
const SEGMENT_BLOCKS: usize = 512;
/// No block.
const NONE: u32 = u32::MAX;

/// Bytes that a block takes.
pub(super) const BLOCK_BYTES: usize = size_of::<Block>();

#[derive(Clone)]
struct Block {
    /// The next of its chain, or of the free ones.
    next: u32,
    bytes: [u8; PAYLOAD_BYTES],
}

/// All blocks.
pub(super) struct Pool {
    segments: Vec<Box<[Block]>>,
    /// Blocks that there may be.
    most: usize,
    /// Blocks that there are.
    made: usize,
    free: u32,
    free_count: usize,
}

/// A place in a chain; at the end of a block the next one begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    block: u32,
    at: u16,
}

/// Bytes in blocks, the first come in front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    head: Place,
    tail: Place,
    blocks: u32,
}

impl Chain {
    const NOWHERE: Place = Place { block: NONE, at: 0 };
    /// Without blocks.
    pub(super) const EMPTY: Chain = Chain { head: Chain::NOWHERE, tail: Chain::NOWHERE, blocks: 0 };

    /// Where the first byte is.
    pub(super) fn head(&self) -> Place {
        self.head
    }

    /// How many blocks it has; there is something in each.
    pub(super) fn blocks(&self) -> usize {
        self.blocks as usize
    }

    /// How many blocks more it needs for so many bytes more.
    pub(super) fn blocks_for(&self, bytes: usize) -> usize {
        let room = if self.blocks == 0 { 0 } else { PAYLOAD_BYTES - usize::from(self.tail.at) };
        bytes.saturating_sub(room).div_ceil(PAYLOAD_BYTES)
    }
}

impl Pool {
    /// A pool of so many blocks; they are made as they are needed.
    pub(super) fn new(most: usize) -> Pool {
        // Without the last number, which is no block.
        let most = most.min(NONE as usize);
        Pool { segments: Vec::new(), most, made: 0, free: NONE, free_count: 0 }
    }

    /// Blocks that can be taken.
    pub(super) fn available(&self) -> usize {
        self.free_count + self.most - self.made
    }

    /// What it holds, in bytes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        let blocks: usize = self.segments.iter().map(|segment| segment.len()).sum();
        blocks * BLOCK_BYTES
    }

    fn block(&self, number: u32) -> &Block {
        &self.segments[number as usize / SEGMENT_BLOCKS][number as usize % SEGMENT_BLOCKS]
    }

    fn block_mut(&mut self, number: u32) -> &mut Block {
        &mut self.segments[number as usize / SEGMENT_BLOCKS][number as usize % SEGMENT_BLOCKS]
    }

    fn take(&mut self) -> u32 {
        if self.free != NONE {
            let number = self.free;
            self.free = self.block(number).next;
            self.free_count -= 1;
            self.block_mut(number).next = NONE;
            return number;
        }
        assert!(self.made < self.most, "whoever appends has made room");
        if self.made == self.segments.len() * SEGMENT_BLOCKS {
            let blocks = SEGMENT_BLOCKS.min(self.most - self.made);
            let block = Block { next: NONE, bytes: [0; PAYLOAD_BYTES] };
            self.segments.push(vec![block; blocks].into_boxed_slice());
        }
        self.made += 1;
        (self.made - 1) as u32
    }

    fn give_back(&mut self, number: u32) {
        self.block_mut(number).next = self.free;
        self.free = number;
        self.free_count += 1;
    }

    /// Append bytes; the blocks for them must be available.
    pub(super) fn append(&mut self, chain: &mut Chain, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if chain.blocks == 0 || usize::from(chain.tail.at) == PAYLOAD_BYTES {
                let number = self.take();
                if chain.blocks == 0 {
                    chain.head = Place { block: number, at: 0 };
                } else {
                    self.block_mut(chain.tail.block).next = number;
                }
                chain.tail = Place { block: number, at: 0 };
                chain.blocks += 1;
            }
            let at = usize::from(chain.tail.at);
            let count = bytes.len().min(PAYLOAD_BYTES - at);
            self.block_mut(chain.tail.block).bytes[at..at + count].copy_from_slice(&bytes[..count]);
            chain.tail.at += count as u16;
            bytes = &bytes[count..];
        }
    }

    /// Copy the bytes from a place on, and move the place behind them.
    pub(super) fn read(&self, place: &mut Place, mut into: &mut [u8]) {
        while !into.is_empty() {
            let count = self.step(place, into.len());
            let end = usize::from(place.at);
            let (now, later) = into.split_at_mut(count);
            now.copy_from_slice(&self.block(place.block).bytes[end - count..end]);
            into = later;
        }
    }

    /// Move a place on.
    pub(super) fn skip(&self, place: &mut Place, mut bytes: usize) {
        while bytes > 0 {
            bytes -= self.step(place, bytes);
        }
    }

    /// Move a place on, by that much at most and within one block; by how much.
    fn step(&self, place: &mut Place, most: usize) -> usize {
        if usize::from(place.at) == PAYLOAD_BYTES {
            *place = Place { block: self.block(place.block).next, at: 0 };
        }
        let count = most.min(PAYLOAD_BYTES - usize::from(place.at));
        place.at += count as u16;
        count
    }

    /// Drop what is before a place.
    pub(super) fn drop_until(&mut self, chain: &mut Chain, place: Place) {
        if place == chain.tail {
            return self.clear(chain);
        }
        while chain.head.block != place.block {
            let next = self.block(chain.head.block).next;
            self.give_back(chain.head.block);
            chain.head.block = next;
            chain.blocks -= 1;
        }
        chain.head = place;
        if usize::from(place.at) == PAYLOAD_BYTES {
            // There is more behind, in the next block.
            chain.head = Place { block: self.block(place.block).next, at: 0 };
            self.give_back(place.block);
            chain.blocks -= 1;
        }
    }

    /// Drop all.
    pub(super) fn clear(&mut self, chain: &mut Chain) {
        let mut number = chain.head.block;
        while number != NONE {
            let next = self.block(number).next;
            self.give_back(number);
            number = next;
        }
        *chain = Chain::EMPTY;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// Append so many bytes to a chain, or drop so many from its front.
    fn any_step() -> impl Strategy<Value = (bool, usize, usize)> {
        (any::<bool>(), 0..3_usize, prop_oneof![0..20_usize, 100..400_usize, Just(PAYLOAD_BYTES)])
    }

    proptest! {
        #[test]
        fn chains_hold_what_was_appended(steps in prop::collection::vec(any_step(), 1..200)) {
            const MOST: usize = 600;
            let mut pool = Pool::new(MOST);
            let mut chains = [Chain::EMPTY; 3];
            let mut models: [VecDeque<u8>; 3] = Default::default();
            let mut byte = 0u8;
            for (appends, number, bytes) in steps {
                let (chain, model) = (&mut chains[number], &mut models[number]);
                if appends && chain.blocks_for(bytes) <= pool.available() {
                    let before = chain.blocks();
                    let needed = chain.blocks_for(bytes);
                    let new: Vec<u8> = (0..bytes).map(|_| { byte = byte.wrapping_add(1); byte }).collect();
                    pool.append(chain, &new);
                    model.extend(new);
                    prop_assert_eq!(chain.blocks(), before + needed);
                } else if chain.blocks() > 0 {
                    let bytes = bytes.min(model.len());
                    let mut place = chain.head();
                    pool.skip(&mut place, bytes);
                    pool.drop_until(chain, place);
                    model.drain(..bytes);
                }
                for (chain, model) in chains.iter().zip(&models) {
                    let mut found = vec![0; model.len()];
                    pool.read(&mut chain.head(), &mut found);
                    prop_assert!(found.iter().eq(model));
                    prop_assert!(chain.blocks() <= model.len().div_ceil(PAYLOAD_BYTES) + 1);
                    prop_assert_eq!(chain.blocks() == 0, model.is_empty());
                }
                let taken: usize = chains.iter().map(Chain::blocks).sum();
                prop_assert_eq!(pool.available() + taken, MOST);
                prop_assert!(pool.bytes() <= MOST * BLOCK_BYTES);
            }
            chains.iter_mut().for_each(|chain| pool.clear(chain));
            prop_assert_eq!(pool.available(), MOST);
        }
    }
}
