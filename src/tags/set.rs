//! A set of tags as a sparse bitmap: what changed in a turn, or what a lagging subscriber has still to see.

use super::TagId;

const WORDS: usize = 64;
/// Tags that one leaf covers: 512 bytes of bits.
const LEAF_TAGS: usize = WORDS * 64;
/// Emptied leaves that are kept for the next insertion, so that a set which fills and drains every turn
/// allocates nothing: at most 4 KiB.
const MAX_SPARE_LEAVES: usize = 8;

type Leaf = Box<[u64; WORDS]>;

/// A set of tag ids that costs memory only near the ids that it holds.
#[derive(Debug, Default)]
pub struct TagSet {
    /// The last is never `None`.
    leaves: Vec<Option<Leaf>>,
    /// All zero.
    spare: Vec<Leaf>,
    len: usize,
}

/// Where an id lives: leaf, word, bit.
fn place(id: TagId) -> (usize, usize, u64) {
    let at = id.0 as usize;
    (at / LEAF_TAGS, at / 64 % WORDS, 1 << (at % 64))
}

impl TagSet {
    /// Empty; nothing is allocated.
    pub fn new() -> TagSet {
        TagSet::default()
    }

    /// How many ids it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether it holds the id.
    pub fn contains(&self, id: TagId) -> bool {
        let (leaf, word, bit) = place(id);
        matches!(self.leaves.get(leaf), Some(Some(words)) if words[word] & bit != 0)
    }

    /// Whether the id was not there before.
    pub fn insert(&mut self, id: TagId) -> bool {
        let (leaf, word, bit) = place(id);
        if leaf >= self.leaves.len() {
            self.leaves.resize_with(leaf + 1, || None);
        }
        let spare = &mut self.spare;
        let words =
            self.leaves[leaf].get_or_insert_with(|| spare.pop().unwrap_or_else(|| Box::new([0; WORDS])));
        let new = words[word] & bit == 0;
        words[word] |= bit;
        self.len += usize::from(new);
        new
    }

    /// Whether the id was there. A leaf that becomes empty is given back.
    pub fn remove(&mut self, id: TagId) -> bool {
        let (leaf, word, bit) = place(id);
        let Some(Some(words)) = self.leaves.get_mut(leaf) else { return false };
        if words[word] & bit == 0 {
            return false;
        }
        words[word] &= !bit;
        self.len -= 1;
        // Looked at once for each word that empties: cheaper than a count kept by every insertion.
        if words[word] == 0 && words.iter().all(|&word| word == 0) {
            self.release(leaf);
        }
        true
    }

    /// The first id of the set that is not below `id`. Ids may be removed and inserted between two calls.
    pub fn next_from(&self, id: TagId) -> Option<TagId> {
        let (first_leaf, first_word, bit) = place(id);
        let mut start = first_word;
        // The bits not below `bit`.
        let mut mask = bit.wrapping_neg();
        for (at, leaf) in self.leaves.iter().enumerate().skip(first_leaf) {
            if let Some(words) = leaf {
                for (word, &bits) in words.iter().enumerate().skip(start) {
                    let bits = bits & mask;
                    mask = u64::MAX;
                    if bits != 0 {
                        let id = at * LEAF_TAGS + word * 64 + bits.trailing_zeros() as usize;
                        return Some(TagId(u32::try_from(id).expect("an inserted id has 32 bits")));
                    }
                }
            }
            (start, mask) = (0, u64::MAX);
        }
        None
    }

    /// All ids, in order.
    pub fn iter(&self) -> impl Iterator<Item = TagId> {
        let after = |id: &TagId| self.next_from(TagId(id.0.checked_add(1)?));
        std::iter::successors(self.next_from(TagId(0)), after)
    }

    /// Removes everything and frees all memory.
    pub fn clear(&mut self) {
        *self = TagSet::default();
    }

    /// Bytes held on the heap.
    pub fn bytes(&self) -> usize {
        let leaves = self.leaves.iter().flatten().count() + self.spare.len();
        leaves * size_of::<[u64; WORDS]>()
            + self.leaves.capacity() * size_of::<Option<Leaf>>()
            + self.spare.capacity() * size_of::<Leaf>()
    }

    fn release(&mut self, leaf: usize) {
        let words = self.leaves[leaf].take();
        if self.spare.len() < MAX_SPARE_LEAVES {
            self.spare.extend(words);
        }
        while let Some(None) = self.leaves.last() {
            self.leaves.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn next_from_finds_the_first_id_that_is_not_below() {
        #[track_caller]
        fn check(ids: &[u32], from: u32, want: Option<u32>) {
            let mut set = TagSet::new();
            ids.iter().for_each(|&id| assert!(set.insert(TagId(id))));
            assert_eq!(set.next_from(TagId(from)), want.map(TagId), "{ids:?} from {from}");
        }
        check(&[], 0, None);
        check(&[0], 0, Some(0));
        check(&[0], 1, None);
        check(&[63, 64], 63, Some(63));
        check(&[63, 64], 64, Some(64));
        check(&[4095, 4096], 4096, Some(4096));
        check(&[5, 9000], 6, Some(9000));
        check(&[9000], 5000, Some(9000));
        check(&[4100], 63, Some(4100));
        check(&[1], u32::MAX, None);
        check(&[1_000_000], 999_999, Some(1_000_000));
    }

    #[test]
    fn the_largest_id_works() {
        let mut set = TagSet::new();
        assert!(set.insert(TagId(u32::MAX)) && !set.insert(TagId(u32::MAX)));
        assert_eq!(set.iter().collect::<Vec<_>>(), [TagId(u32::MAX)]);
        assert!(set.remove(TagId(u32::MAX)) && !set.remove(TagId(u32::MAX)));
    }

    #[test]
    fn memory_follows_the_content() {
        let mut set = TagSet::new();
        assert_eq!(set.bytes(), 0);
        for id in 0..100_000 {
            set.insert(TagId(id));
        }
        assert!((12_800..14_000).contains(&set.bytes()), "{}", set.bytes());
        for id in 0..100_000 {
            set.remove(TagId(id));
        }
        assert!(set.is_empty() && set.bytes() <= 5_000, "{}", set.bytes());
        let drained = set.bytes();
        // Filling and draining again needs nothing more.
        for id in [1, 5_000, 20_000] {
            set.insert(TagId(id));
            set.remove(TagId(id));
        }
        assert_eq!(set.bytes(), drained);
        set.clear();
        assert_eq!(set.bytes(), 0);
    }

    proptest! {
        #[test]
        fn agrees_with_a_btree_set(
            steps in prop::collection::vec(
                (any::<bool>(), prop_oneof![0..200_u32, 4_000..4_200_u32, 0..60_000_u32]),
                0..300,
            )
        ) {
            let (mut set, mut model) = (TagSet::new(), BTreeSet::new());
            for (insert, id) in steps {
                let id = TagId(id);
                if insert {
                    prop_assert_eq!(set.insert(id), model.insert(id));
                } else {
                    // Most removals hit: the nearest id that is there.
                    let id = model.range(id..).next().copied().unwrap_or(id);
                    prop_assert_eq!(set.remove(id), model.remove(&id));
                }
                prop_assert_eq!(set.len(), model.len());
                prop_assert_eq!(set.contains(id), insert);
                prop_assert_eq!(set.next_from(id), model.range(id..).next().copied());
                prop_assert!(!matches!(set.leaves.last(), Some(None)));
                prop_assert!(set.leaves.iter().flatten().all(|leaf| leaf.iter().any(|&word| word != 0)));
                prop_assert!(set.spare.iter().all(|leaf| leaf.iter().all(|&word| word == 0)));
            }
            prop_assert!(set.iter().eq(model.iter().copied()));
        }
    }
}
