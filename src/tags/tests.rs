//! Many tags at once, and a bug that can be planted.

use super::*;

impl Tags {
    /// A planted bug: for a moment a tag is what it was before.
    pub(super) fn bring_back(&self, tag: TagId, before: Sample) {
        let new = self.read(tag);
        for sample in [before, new] {
            mutants::let_others_run();
            let mut slot = self.table.lock(tag);
            slot.changed = self.next_number();
            (slot.value, slot.quality, slot.time) = (sample.value, sample.quality, sample.time);
            self.changes.mark(tag);
            drop(slot);
            self.changes.ring();
        }
    }
}

#[test]
fn a_million_tags_are_held_listed_in_order_and_bounded() {
    const MANY: usize = 1_000_000;
    let tags = Tags::new(TagSettings { max_tags: MANY, ..TagSettings::default() }, Vec::new(), 1);
    let admit = |number: usize| {
        // Not in the order of the names.
        let name = format!("line{}/m{}", number % 7, number);
        tags.admit(TagName::parse(&name).unwrap(), &mut Input::Int(1), Timestamp(0))
            .map(|admitted| admitted.tag)
    };
    assert!((0..MANY).all(|number| admit(number).is_ok()));
    assert_eq!(admit(MANY), Err(Refusal::Limit(Limit::Tags(MANY))));
    assert_eq!(admit(5), Ok(TagId(5)), "one that is there is found");

    let (mut scan, mut before, mut count) = (Scan::default(), String::new(), 0);
    while !scan.is_over() {
        tags.scan(Pattern::parse("#").unwrap(), &mut scan);
        for tag in scan.found.drain(..) {
            let mut name = String::new();
            tags.push_name(tag, &mut name);
            assert!(before < name, "{before} comes before {name}");
            (before, count) = (name, count + 1);
        }
    }
    assert_eq!(count, MANY);
}
