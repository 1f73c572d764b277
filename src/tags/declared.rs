//! The tags that a configuration declares, collected before the server starts: by `[[tag]]`, and by protocols
//! and drivers that show or own some.

use std::collections::HashMap;

use super::value::Value;
use super::{Declaration, OwnerId};

/// Declared tags in the order of their declaration, each once.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    tags: Vec<DeclaredTag>,
    by_name: HashMap<Box<str>, usize>,
    owners: HashMap<Box<str>, OwnerId>,
}

/// A tag that is there from the start.
#[derive(Clone, Debug)]
pub struct DeclaredTag {
    /// Its name, which is valid.
    pub name: Box<str>,
    /// What is declared of it.
    pub declaration: Declaration,
    /// Its value at start.
    pub initial: Option<Value>,
}

impl Declared {
    /// What is declared of the tag `name`.
    pub fn get(&self, name: &str) -> Option<&Declaration> {
        self.by_name.get(name).map(|&at| &self.tags[at].declaration)
    }

    /// Add a tag; one of that name that was declared before stays as it is.
    pub fn add(&mut self, tag: DeclaredTag) {
        if !self.by_name.contains_key(&tag.name) {
            self.by_name.insert(tag.name.clone(), self.tags.len());
            self.tags.push(tag);
        }
    }

    /// There is a polled device of that name.
    pub fn add_owner(&mut self, name: &str, owner: OwnerId) {
        self.owners.insert(name.into(), owner);
    }

    /// The polled device of that name.
    pub fn owner(&self, name: &str) -> Option<OwnerId> {
        self.owners.get(name).copied()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.tags.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &DeclaredTag> {
        self.tags.iter()
    }
}

impl IntoIterator for Declared {
    type Item = DeclaredTag;
    type IntoIter = std::vec::IntoIter<DeclaredTag>;

    fn into_iter(self) -> Self::IntoIter {
        self.tags.into_iter()
    }
}
