//! The names of all tags, each stored once, and what is declared of each: type, access, limits, owner.
//!
//! Tags are never deleted, so an id is an index for ever and names can live end to end in shared chunks.

use std::hash::BuildHasher;
use std::time::Duration;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::TagId;
use super::in_order::InOrder;
use super::memory::Cell;
use super::name::{Pattern, TagName};
use super::value::{Kind, Limits};

/// Who may write a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    ReadWrite,
    /// Only its source.
    ReadOnly,
}

impl Access {
    /// `rw` or `ro`.
    pub fn as_str(self) -> &'static str {
        match self {
            Access::ReadWrite => "rw",
            Access::ReadOnly => "ro",
        }
    }
}

/// A polled device that owns tags: writes to them go to it first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OwnerId(pub u16);

/// What may be declared of a tag; the default is what the first `SET` creates.
#[derive(Clone, Debug, PartialEq)]
pub struct Declaration {
    /// The type that its values are converted to.
    pub kind: Kind,
    /// Who may write it.
    pub access: Access,
    /// What its numbers must lie within.
    pub limits: Limits,
    /// Not written for so long, a `good` value turns `uncertain`.
    pub stale_after: Option<Duration>,
    /// The polled device behind it.
    pub owner: Option<OwnerId>,
    /// The cell of a memory that it shows; [`Tags::declare`](super::Tags::declare) knows.
    pub cell: Option<Cell>,
    /// For people.
    pub description: Box<str>,
    /// For people: `°C`, `1/min`.
    pub units: Box<str>,
}

impl Default for Declaration {
    fn default() -> Self {
        Declaration {
            kind: Kind::Any,
            access: Access::ReadWrite,
            limits: Limits::default(),
            stale_after: None,
            owner: None,
            cell: None,
            description: "".into(),
            units: "".into(),
        }
    }
}

/// All names, by id, by hash and in byte order.
#[derive(Debug, Default)]
pub struct Catalog {
    names: Names,
    entries: Vec<Entry>,
    by_hash: HashTable<TagId>,
    hasher: DefaultHashBuilder,
    in_order: InOrder,
    /// Few tags have one: most are created by their first write.
    declarations: Vec<Declaration>,
    /// How many are the server's own.
    system: usize,
    default: Declaration,
}

/// 16 bytes a tag.
#[derive(Debug)]
struct Entry {
    name: NameAt,
    declaration: u32,
    /// Not a part of what is shared: tags of many devices are declared alike.
    owner: Option<OwnerId>,
}

const _: () = assert!(size_of::<Entry>() == 16);

/// A new declaration is compared with so many of the last ones.
const COMPARED: usize = 64;

const NOT_DECLARED: u32 = u32::MAX;

impl Catalog {
    /// The number of tags, without the server's own.
    pub fn len(&self) -> usize {
        self.entries.len() - self.system
    }

    /// The number of the server's own tags.
    pub fn system_len(&self) -> usize {
        self.system
    }

    /// Whether there is no tag but the server's own.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tag of that name.
    pub fn find(&self, name: &str) -> Option<TagId> {
        let hash = self.hasher.hash_one(name);
        self.by_hash.find(hash, |&id| self.name(id) == name).copied()
    }

    /// The name of a tag.
    pub fn name(&self, id: TagId) -> &str {
        self.names.at(self.entries[id.0 as usize].name)
    }

    /// The polled device behind a tag.
    pub fn owner(&self, id: TagId) -> Option<OwnerId> {
        self.entries[id.0 as usize].owner
    }

    /// What is declared of a tag, but for its owner.
    pub fn declaration(&self, id: TagId) -> &Declaration {
        match self.entries[id.0 as usize].declaration {
            NOT_DECLARED => &self.default,
            at => &self.declarations[at as usize],
        }
    }

    /// Add a tag; the caller has made sure that the name is new and that there is room for another id.
    pub fn add(&mut self, name: TagName<'_>, declaration: Option<Declaration>) -> TagId {
        self.system += usize::from(name.is_system());
        let name = name.as_str();
        debug_assert!(self.find(name).is_none(), "a tag is added once");
        let id = TagId(self.entries.len() as u32);
        let mut owner = None;
        let declaration = declaration.map_or(NOT_DECLARED, |mut declaration| {
            owner = declaration.owner.take();
            self.shared(declaration)
        });
        self.entries.push(Entry { name: self.names.push(name), declaration, owner });
        let Catalog { names, entries, by_hash, hasher, in_order, .. } = self;
        let name_of = |id: TagId| names.at(entries[id.0 as usize].name);
        by_hash.insert_unique(hasher.hash_one(name), id, |&id| hasher.hash_one(name_of(id)));
        in_order.insert(id, name, name_of);
        id
    }

    /// The place of a declaration, or of an equal one: those of a template come again with each device.
    fn shared(&mut self, declaration: Declaration) -> u32 {
        let from = self.declarations.len().saturating_sub(COMPARED);
        let equal = self.declarations[from..].iter().position(|known| *known == declaration);
        let place = equal.map_or(self.declarations.len(), |place| from + place);
        if place == self.declarations.len() {
            self.declarations.push(declaration);
        }
        place as u32
    }

    /// Append to `found`, in byte order of the names, tags that match `pattern` and come after `after`, until
    /// `found` holds `most_found` or `most_visited` names were looked at. `Some` says after which to go on.
    pub fn scan(
        &self,
        pattern: Pattern<'_>,
        after: Option<TagId>,
        most_found: usize,
        most_visited: usize,
        found: &mut Vec<TagId>,
    ) -> Option<TagId> {
        let prefix = pattern.literal_prefix();
        let subtree = pattern.as_str().strip_prefix(prefix) == Some("/#");
        let name_of = |id: TagId| self.name(id);
        let start = match after {
            Some(id) => self.in_order.after(self.name(id), name_of),
            None => self.in_order.from(prefix, name_of),
        };
        let mut last = after;
        for (visited, id) in self.in_order.iter_from(start).enumerate() {
            if visited == most_visited || found.len() == most_found {
                return last;
            }
            let name = self.name(id);
            let Some(rest) = name.strip_prefix(prefix) else { break };
            if subtree && rest.as_bytes().first() > Some(&b'/') {
                break;
            }
            if pattern.matches(TagName::trusted(name)) {
                found.push(id);
            }
            last = Some(id);
        }
        None
    }
}

/// Names end to end in chunks that never move, so that growth copies nothing.
#[derive(Debug, Default)]
struct Names {
    chunks: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
struct NameAt {
    chunk: u32,
    offset: u16,
    len: u16,
}

/// An offset within a chunk fits 16 bits.
const NAME_CHUNK_BYTES: usize = 16 * 1024;

impl Names {
    fn push(&mut self, name: &str) -> NameAt {
        let full = |chunk: &String| chunk.len() + name.len() > NAME_CHUNK_BYTES;
        if self.chunks.last().is_none_or(full) {
            self.chunks.push(String::with_capacity(NAME_CHUNK_BYTES));
        }
        let at = self.chunks.len() - 1;
        let offset = self.chunks[at].len() as u16;
        self.chunks[at].push_str(name);
        NameAt { chunk: at as u32, offset, len: name.len() as u16 }
    }

    fn at(&self, at: NameAt) -> &str {
        let offset = usize::from(at.offset);
        &self.chunks[at.chunk as usize][offset..offset + usize::from(at.len)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn catalog(names: &[&str]) -> Catalog {
        let mut catalog = Catalog::default();
        for name in names {
            catalog.add(TagName::parse(name).unwrap(), None);
        }
        catalog
    }

    fn matching(catalog: &Catalog, pattern: &str, most_found: usize, most_visited: usize) -> Vec<String> {
        let pattern = Pattern::parse(pattern).unwrap();
        let (mut names, mut after) = (Vec::new(), None);
        loop {
            let mut found = Vec::new();
            after = catalog.scan(pattern, after, most_found, most_visited, &mut found);
            names.extend(found.iter().map(|&id| catalog.name(id).to_owned()));
            if after.is_none() {
                return names;
            }
        }
    }

    #[test]
    fn a_subtree_is_read_in_byte_order_without_its_neighbours() {
        let catalog = catalog(&["a/b", "a-b", "a", "b", "a0/b", "a/a", "a/b/c", "$server/x"]);
        assert_eq!(matching(&catalog, "a/#", 2, 3), ["a", "a/a", "a/b", "a/b/c"]);
        assert_eq!(matching(&catalog, "+", 8, 8), ["a", "a-b", "b"]);
        assert_eq!(matching(&catalog, "$server/#", 8, 8), ["$server/x"]);
        assert_eq!(matching(&catalog, "a/b", 8, 8), ["a/b"]);
        assert_eq!(matching(&catalog, "c/#", 8, 8), [""; 0]);
    }

    proptest! {
        #[test]
        fn scanning_in_slices_finds_what_matches_in_order(
            names in prop::collection::btree_set("[ab](/[ab-]){0,3}", 0..60),
            pattern in "([ab+]/){0,2}[ab+#]",
            most_found in 1usize..5,
            most_visited in 1usize..9,
        ) {
            let shuffled: Vec<&str> = names.iter().rev().map(String::as_str).collect();
            let catalog = catalog(&shuffled);
            let parsed = Pattern::parse(&pattern).unwrap();
            let expected: Vec<String> = names
                .iter()
                .filter(|name| parsed.matches(TagName::parse(name.as_str()).unwrap()))
                .cloned()
                .collect();
            prop_assert_eq!(matching(&catalog, &pattern, most_found, most_visited), expected);
            for name in &names {
                let id = catalog.find(name);
                prop_assert_eq!(id.map(|id| catalog.name(id)), Some(name.as_str()));
            }
        }
    }
}
