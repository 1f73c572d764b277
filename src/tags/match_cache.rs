//! Which patterns match a tag, remembered. Most tags share few sets of patterns, so sets are kept once and a
//! tag costs 4 bytes. A hit allocates nothing.

use std::hash::BuildHasher;
use std::ops::Range;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::TagId;
use super::subscriptions::PatternId;

/// The cache's bound: pattern ids in all cached match sets together, 1 MiB. When it is reached the cache
/// starts over. A set that is larger by itself is cached alone.
const MAX_CACHED_IDS: usize = 1 << 18;

/// Match sets by tag; each distinct set is kept once.
#[derive(Debug, Default)]
pub(super) struct MatchCache {
    /// The number of each tag's set; one that is not above `retired` tells nothing.
    by_tag: Vec<u32>,
    /// The numbers up to this one belonged to earlier patterns. Sets are numbered on and on, so that a new
    /// pattern costs no walk over the tags.
    retired: u32,
    /// The sets, one after another.
    ids: Vec<PatternId>,
    /// Where each set ends in `ids`.
    ends: Vec<u32>,
    /// Positions in `ends`, by content.
    known: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl MatchCache {
    /// The tag's set, if it is known: a place for [`MatchCache::ids`], good until the next change.
    pub(super) fn look_up(&self, tag: TagId) -> Option<Range<usize>> {
        let number = *self.by_tag.get(tag.0 as usize)?;
        (number > self.retired).then(|| range(&self.ends, number - self.retired - 1))
    }

    /// Caches for a tag the set that `collect` appends.
    pub(super) fn store(&mut self, tag: TagId, collect: impl FnOnce(&mut Vec<PatternId>)) -> Range<usize> {
        let start = self.ids.len();
        collect(&mut self.ids);
        let hash = self.hasher.hash_one(&self.ids[start..]);
        let same = |&position: &u32| self.ids[range(&self.ends, position)] == self.ids[start..];
        let position = match self.known.find(hash, same).copied() {
            Some(position) => {
                self.ids.truncate(start);
                position
            }
            None => {
                if self.ids.len() > MAX_CACHED_IDS {
                    self.ids.drain(..start);
                    self.renumber();
                }
                let position = count(&self.ends);
                self.ends.push(count(&self.ids));
                let (ids, ends, hasher) = (&self.ids, &self.ends, &self.hasher);
                let rehash = |&position: &u32| hasher.hash_one(&ids[range(ends, position)]);
                self.known.insert_unique(hash, position, rehash);
                position
            }
        };
        if tag.0 as usize >= self.by_tag.len() {
            self.by_tag.resize(tag.0 as usize + 1, 0);
        }
        self.by_tag[tag.0 as usize] = self.retired + 1 + position;
        range(&self.ends, position)
    }

    /// The patterns of a set.
    pub(super) fn ids(&self, found: Range<usize>) -> &[PatternId] {
        &self.ids[found]
    }

    /// Forgets all sets: the patterns have changed.
    pub(super) fn retire(&mut self) {
        self.ids.clear();
        self.renumber();
    }

    /// Forgets the sets, but not what `ids` holds.
    fn renumber(&mut self) {
        self.retired += count(&self.ends);
        self.ends.clear();
        self.known.clear();
        // Far enough below the end for a full cache to be numbered.
        if self.retired > u32::MAX / 2 {
            self.by_tag.fill(0);
            self.retired = 0;
        }
    }
}

fn count<T>(of: &[T]) -> u32 {
    u32::try_from(of.len()).expect("a cache holds at most its limit and one set")
}

fn range(ends: &[u32], position: u32) -> Range<usize> {
    let position = position as usize;
    let start = position.checked_sub(1).map_or(0, |before| ends[before]);
    start as usize..ends[position] as usize
}

#[cfg(test)]
impl MatchCache {
    /// How many tags there is room for.
    pub(super) fn tags(&self) -> usize {
        self.by_tag.len()
    }

    pub(super) fn sets(&self) -> impl Iterator<Item = &[PatternId]> {
        (0..count(&self.ends)).map(|position| &self.ids[range(&self.ends, position)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_bounded_and_its_numbers_wrap() {
        let mut cache = MatchCache { retired: u32::MAX / 2 - 10, ..MatchCache::default() };
        let set = |first: u32| (first..first + 1000).map(PatternId);
        let (mut largest, mut wrapped) = (0, false);
        for first in 0..1000 {
            let found = cache.store(TagId(first), |ids| ids.extend(set(first)));
            assert!(cache.ids[found].iter().copied().eq(set(first)));
            assert!(
                cache
                    .look_up(TagId(first))
                    .is_some_and(|found| cache.ids[found].iter().copied().eq(set(first)))
            );
            largest = largest.max(cache.ids.len());
            wrapped |= cache.retired == 0;
            // A tag either is forgotten or has the set that it was stored with.
            for tag in 0..first {
                let found = cache.look_up(TagId(tag));
                assert!(
                    found.is_none_or(|found| cache.ids[found.start] == PatternId(tag) && found.len() == 1000)
                );
            }
        }
        assert!(largest <= MAX_CACHED_IDS && wrapped);
        let larger = |ids: &mut Vec<PatternId>| ids.extend((0..2 * MAX_CACHED_IDS as u32).map(PatternId));
        assert_eq!(cache.store(TagId(0), larger), 0..2 * MAX_CACHED_IDS);
        assert_eq!(cache.store(TagId(1), |_| {}), 0..0);
        assert!(cache.look_up(TagId(0)).is_none() && cache.look_up(TagId(1)) == Some(0..0));
    }
}
