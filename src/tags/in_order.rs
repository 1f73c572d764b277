//! Ids kept in the byte order of their names: a sorted list in blocks, so that an insert moves little and a
//! slice of it can be read from any name on.
//!
//! Some 6 bytes a tag. A `BTreeMap` would need each name in its keys, and 40 bytes a tag.

use super::TagId;

/// A block is split in two when it holds so many; 2 KiB are moved at most by an insert.
const BLOCK_IDS: usize = 512;

/// Ids ordered by name. The names are the caller's: each call is told how to look one up.
#[derive(Debug, Default)]
pub(super) struct InOrder {
    /// None is empty.
    blocks: Vec<Vec<TagId>>,
}

/// A place between two ids.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    block: usize,
    offset: usize,
}

impl InOrder {
    pub(super) fn insert<'a>(&mut self, id: TagId, name: &str, name_of: impl Fn(TagId) -> &'a str) {
        if self.blocks.is_empty() {
            self.blocks.push(vec![id]);
            return;
        }
        let Place { mut block, mut offset } = self.place(|other| name_of(other) < name);
        if block == self.blocks.len() {
            block -= 1;
            offset = self.blocks[block].len();
        }
        let ids = &mut self.blocks[block];
        ids.insert(offset, id);
        if ids.len() == BLOCK_IDS {
            // Names that come in order would leave every block half full if it were split in the middle.
            let appended = offset == BLOCK_IDS - 1;
            let upper = ids.split_off(if appended { BLOCK_IDS - 1 } else { BLOCK_IDS / 2 });
            ids.shrink_to_fit();
            self.blocks.insert(block + 1, upper);
        }
    }

    /// Before the first name that is `name` or comes after it.
    pub(super) fn from<'a>(&self, name: &str, name_of: impl Fn(TagId) -> &'a str) -> Place {
        self.place(|other| name_of(other) < name)
    }

    /// Before the first name that comes after `name`.
    pub(super) fn after<'a>(&self, name: &str, name_of: impl Fn(TagId) -> &'a str) -> Place {
        self.place(|other| name_of(other) <= name)
    }

    pub(super) fn iter_from(&self, place: Place) -> impl Iterator<Item = TagId> {
        let first = self.blocks.get(place.block).map_or(&[][..], |ids| &ids[place.offset..]);
        let rest = self.blocks.iter().skip(place.block + 1).flatten();
        first.iter().chain(rest).copied()
    }

    fn place(&self, is_before: impl Fn(TagId) -> bool) -> Place {
        let is_before = &is_before;
        let last = |ids: &Vec<TagId>| *ids.last().expect("no block is empty");
        let block = self.blocks.partition_point(|ids| is_before(last(ids)));
        let offset = self.blocks.get(block).map_or(0, |ids| ids.partition_point(|&id| is_before(id)));
        Place { block, offset }
    }
}
