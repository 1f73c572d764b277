//! Who wrote a tag last: devices by the name they gave in `HELLO`, and the tags each of them has written.
//!
//! A name is kept for as long as a connection holds it or a tag was last written under it, so what is held
//! here is bounded by the connections and the tags.

use std::num::NonZeroU32;

use hashbrown::{HashMap, HashSet};
use slab::Slab;

use super::TagId;

/// A device that said `HELLO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SourceId(NonZeroU32);

impl SourceId {
    fn new(index: usize) -> SourceId {
        SourceId(NonZeroU32::MIN.saturating_add(index as u32))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// The connection that speaks for a source; the number means something to the engine only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder(pub u64);

/// A device, and the connection that wants to write in its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// The device.
    pub source: SourceId,
    /// The connection.
    pub holder: Holder,
}

#[derive(Debug, Default)]
pub(super) struct Sources {
    by_name: HashMap<Box<str>, SourceId>,
    sources: Slab<Source>,
}

#[derive(Debug)]
struct Source {
    name: Box<str>,
    holder: Option<Holder>,
    /// The tags that were last written under this name.
    tags: HashSet<TagId>,
}

impl Sources {
    /// `holder` speaks for `name` from now on; says who did before.
    pub(super) fn take_over(&mut self, name: &str, holder: Holder) -> (SourceId, Option<Holder>) {
        if let Some(&id) = self.by_name.get(name) {
            return (id, self.sources[id.index()].holder.replace(holder));
        }
        let name: Box<str> = name.into();
        let source = Source { name: name.clone(), holder: Some(holder), tags: HashSet::new() };
        let id = SourceId::new(self.sources.insert(source));
        self.by_name.insert(name, id);
        (id, None)
    }

    /// Whether it is the connection that speaks for the source.
    pub(super) fn is_speaker(&self, speaker: Speaker) -> bool {
        self.holder(speaker.source) == Some(speaker.holder)
    }

    /// Who speaks for a source.
    fn holder(&self, id: SourceId) -> Option<Holder> {
        self.sources.get(id.index()).and_then(|source| source.holder)
    }

    /// The connection is gone; if another has taken over, nothing happens.
    pub(super) fn leave(&mut self, speaker: Speaker) {
        if self.is_speaker(speaker) {
            self.sources[speaker.source.index()].holder = None;
            self.forget_if_unused(speaker.source);
        }
    }

    pub(super) fn name(&self, id: SourceId) -> &str {
        &self.sources[id.index()].name
    }

    /// The tags that were last written by `id`.
    pub(super) fn tags(&self, id: SourceId) -> impl Iterator<Item = TagId> {
        self.sources.get(id.index()).into_iter().flat_map(|source| &source.tags).copied()
    }

    /// `tag` was last written by `from`, and now by `to`.
    pub(super) fn hand_over(&mut self, tag: TagId, from: Option<SourceId>, to: Option<SourceId>) {
        if from == to {
            return;
        }
        if let Some(to) = to {
            self.sources[to.index()].tags.insert(tag);
        }
        if let Some(from) = from {
            let tags = &mut self.sources[from.index()].tags;
            tags.remove(&tag);
            if tags.capacity() > 64 && tags.len() < tags.capacity() / 8 {
                tags.shrink_to(2 * tags.len());
            }
            self.forget_if_unused(from);
        }
    }

    fn forget_if_unused(&mut self, id: SourceId) {
        let source = &self.sources[id.index()];
        if source.holder.is_none() && source.tags.is_empty() {
            let source = self.sources.remove(id.index());
            self.by_name.remove(&source.name);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.sources.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_lives_as_long_as_a_holder_or_a_tag() {
        let (a, b) = (Holder(1), Holder(2));
        let mut sources = Sources::default();
        let (press, before) = sources.take_over("press3", a);
        assert_eq!(before, None);
        sources.hand_over(TagId(7), None, Some(press));
        assert_eq!(sources.take_over("press3", b), (press, Some(a)));
        sources.leave(Speaker { source: press, holder: a });
        assert_eq!(sources.holder(press), Some(b), "b took over");
        sources.leave(Speaker { source: press, holder: b });
        assert_eq!(
            (sources.name(press), sources.tags(press).collect::<Vec<_>>()),
            ("press3", vec![TagId(7)])
        );
        sources.hand_over(TagId(7), Some(press), None);
        assert_eq!(sources.len(), 0);
    }
}
