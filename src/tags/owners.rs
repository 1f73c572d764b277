//! The names of the polled devices, by number and by name.

use hashbrown::HashSet;

use super::catalog::OwnerId;
use super::name::TagName;

#[derive(Debug, Default)]
pub(super) struct Owners {
    names: Vec<Box<str>>,
    known: HashSet<Box<str>>,
}

impl Owners {
    pub(super) fn new(names: Vec<Box<str>>) -> Owners {
        Owners { known: names.iter().cloned().collect(), names }
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn name(&self, owner: OwnerId) -> &str {
        &self.names[usize::from(owner.0)]
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.known.contains(name)
    }

    /// Whether a tag lies below the name of a polled device, which is one level.
    pub(super) fn is_below_one(&self, tag: TagName<'_>) -> bool {
        tag.as_str().split_once('/').is_some_and(|(device, _)| self.has(device))
    }
}
