//! The subscriptions of one shard. Distinct patterns live in a trie of levels, each with its subscribers;
//! which patterns match a tag is found once and cached by tag. Subscribers × tags is stored nowhere: 1,000
//! clients that watch `#` of 100,000 tags are one pattern, one cached set and 1,000 entries.

use std::ops::Range;

use hashbrown::HashMap;

use super::TagId;
use super::match_cache::MatchCache;
use super::name::Pattern;

/// A connection's index in its shard's slab.
pub type Subscriber = u32;

/// A distinct pattern that has subscribers. Reused after the last of them left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PatternId(pub(super) u32);

/// What became of a request to subscribe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    New,
    /// It was there, and stays as it was.
    Already,
}

impl Added {
    /// Whether the subscription was not there before.
    pub fn is_new(self) -> bool {
        self == Added::New
    }
}

/// Who wants to hear of which tags.
#[derive(Debug, Default)]
pub struct Subscriptions {
    root: Node,
    /// By [`PatternId`]; those in `free` are blank.
    patterns: Vec<Entry>,
    free: Vec<PatternId>,
    /// Pairs of pattern and subscriber.
    count: usize,
    system_patterns: usize,
    cache: MatchCache,
}

/// A distinct pattern. Two columns, so that the search for a subscriber reads nothing else.
#[derive(Debug, Default)]
struct Entry {
    text: Box<str>,
    subscribers: Vec<Subscriber>,
    since: Vec<u64>,
}

impl Subscriptions {
    /// Nobody wants anything; nothing is allocated.
    pub fn new() -> Subscriptions {
        Subscriptions::default()
    }

    /// Whether nobody wants anything.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many pairs of subscriber and pattern there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether anyone subscribed to the server's own tags: a pattern's first level begins with `$`.
    pub fn wants_system(&self) -> bool {
        self.system_patterns > 0
    }

    /// Subscribes to changes that are numbered above `since`. Searches the pattern's subscribers, 4 bytes
    /// each.
    pub fn add(&mut self, subscriber: Subscriber, pattern: Pattern<'_>, since: u64) -> (PatternId, Added) {
        let id = match self.find(pattern.as_str()) {
            Some(id) => id,
            None => self.add_pattern(pattern),
        };
        let entry = &mut self.patterns[id.index()];
        if entry.subscribers.contains(&subscriber) {
            return (id, Added::Already);
        }
        entry.subscribers.push(subscriber);
        entry.since.push(since);
        self.count += 1;
        (id, Added::New)
    }

    /// Ends a subscription; false if there is none. Searches the pattern's subscribers, 4 bytes each: some
    /// microseconds for 10,000, paid at `UNSUB` and at the end of a connection, never for a change.
    pub fn remove(&mut self, subscriber: Subscriber, id: PatternId) -> bool {
        let Some(entry) = self.patterns.get_mut(id.index()) else { return false };
        let Some(at) = entry.subscribers.iter().position(|&other| other == subscriber) else { return false };
        entry.subscribers.swap_remove(at);
        entry.since.swap_remove(at);
        self.count -= 1;
        if self.patterns[id.index()].subscribers.is_empty() {
            self.remove_pattern(id);
        }
        true
    }

    /// The id of the pattern of that text, if it has subscribers.
    pub fn find(&self, pattern: &str) -> Option<PatternId> {
        self.root.find(pattern)
    }

    /// The patterns that match a tag, each once. `name` is asked for only if the tag is not in the cache; it
    /// has to be the same at each call.
    pub fn matching<N: AsRef<str>>(&mut self, tag: TagId, name: impl FnOnce() -> N) -> &[PatternId] {
        let found = self.look_up(tag, name);
        self.cache.ids(found)
    }

    /// The subscribers of a pattern, each with the number of the last change that it does not want.
    pub fn subscribers(&self, id: PatternId) -> impl Iterator<Item = (Subscriber, u64)> {
        let entry = &self.patterns[id.index()];
        entry.subscribers.iter().copied().zip(entry.since.iter().copied())
    }

    /// Calls `f` for each subscription that matches a tag, with its subscriber and `since`: more than once
    /// for a subscriber that has several such. For `name` see [`Subscriptions::matching`].
    pub fn for_each_match<N: AsRef<str>>(
        &mut self,
        tag: TagId,
        name: impl FnOnce() -> N,
        mut f: impl FnMut(Subscriber, u64),
    ) {
        let found = self.look_up(tag, name);
        for &id in self.cache.ids(found) {
            self.subscribers(id).for_each(|(subscriber, since)| f(subscriber, since));
        }
    }

    fn look_up<N: AsRef<str>>(&mut self, tag: TagId, name: impl FnOnce() -> N) -> Range<usize> {
        if self.is_empty() {
            return 0..0;
        }
        if let Some(found) = self.cache.look_up(tag) {
            return found;
        }
        let name = name();
        let name = name.as_ref();
        let wild = !name.starts_with('$');
        self.cache.store(tag, |ids| self.root.collect(Some(name), wild, ids))
    }

    fn add_pattern(&mut self, pattern: Pattern<'_>) -> PatternId {
        let id = self.free.pop().unwrap_or_else(|| {
            self.patterns.push(Entry::default());
            PatternId(
                u32::try_from(self.patterns.len() - 1).expect("subscriptions are limited far below 2^32"),
            )
        });
        self.patterns[id.index()].text = pattern.as_str().into();
        *self.root.place(pattern) = Some(id);
        self.system_patterns += usize::from(pattern.is_system());
        self.cache.retire();
        id
    }

    fn remove_pattern(&mut self, id: PatternId) {
        let entry = std::mem::take(&mut self.patterns[id.index()]);
        self.root.remove(Some(&entry.text));
        self.system_patterns -= usize::from(entry.text.starts_with('$'));
        self.free.push(id);
        self.cache.retire();
        if self.is_empty() {
            *self = Subscriptions::default();
        }
    }
}

impl PatternId {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// One level of the trie. Its depth is bounded by the length of a name: 128 levels.
#[derive(Debug, Default)]
struct Node {
    /// The pattern that ends here.
    here: Option<PatternId>,
    /// The pattern that goes on with `#`, which matches this level too.
    below: Option<PatternId>,
    plus: Option<Box<Node>>,
    /// Boxed: a table has four places at the least, and most levels of a trie have one child.
    children: HashMap<Box<str>, Box<Node>>,
}

impl Node {
    fn is_bare(&self) -> bool {
        self.here.is_none() && self.below.is_none() && self.plus.is_none() && self.children.is_empty()
    }

    fn find(&self, pattern: &str) -> Option<PatternId> {
        let (mut node, mut rest) = (self, Some(pattern));
        while let Some((level, after)) = rest.map(split_level) {
            node = match level {
                "#" => return node.below.filter(|_| after.is_none()),
                "+" => node.plus.as_ref()?,
                _ => node.children.get(level)?,
            };
            rest = after;
        }
        node.here
    }

    fn place(&mut self, pattern: Pattern<'_>) -> &mut Option<PatternId> {
        let mut node = self;
        for level in pattern.levels() {
            node = match level {
                "#" => return &mut node.below,
                "+" => node.plus.get_or_insert_default(),
                _ => node.children.entry_ref(level).or_default(),
            };
        }
        &mut node.here
    }

    /// Removes the pattern whose levels from here on are `rest`, and the nodes that nothing else needs.
    fn remove(&mut self, rest: Option<&str>) {
        let Some((level, rest)) = rest.map(split_level) else {
            self.here = None;
            return;
        };
        match level {
            "#" => self.below = None,
            "+" => {
                let child = self.plus.as_mut().expect("a pattern with subscribers is in the trie");
                child.remove(rest);
                self.plus.take_if(|child| child.is_bare());
            }
            _ => {
                let child = self.children.get_mut(level).expect("a pattern with subscribers is in the trie");
                child.remove(rest);
                if child.is_bare() {
                    self.children.remove(level);
                }
            }
        }
    }

    /// Appends the patterns that match a name whose levels from here on are `rest`. Two patterns part at a
    /// level where one is met before the other whatever the name, so equal sets come out as equal lists.
    fn collect(&self, rest: Option<&str>, wild: bool, ids: &mut Vec<PatternId>) {
        if wild {
            ids.extend(self.below);
        }
        let Some((level, rest)) = rest.map(split_level) else {
            ids.extend(self.here);
            return;
        };
        if let Some(child) = self.children.get(level) {
            child.collect(rest, true, ids);
        }
        if let Some(child) = self.plus.as_ref().filter(|_| wild) {
            child.collect(rest, true, ids);
        }
    }
}

fn split_level(path: &str) -> (&str, Option<&str>) {
    path.split_once('/').map_or((path, None), |(level, rest)| (level, Some(rest)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tags::name::TagName;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn pattern(text: &str) -> Pattern<'_> {
        Pattern::parse(text).unwrap()
    }

    fn matches(subscriptions: &mut Subscriptions, tag: u32, name: &str) -> Vec<(Subscriber, u64)> {
        let mut found = Vec::new();
        subscriptions.for_each_match(
            TagId(tag),
            || name,
            |subscriber, since| found.push((subscriber, since)),
        );
        found.sort_unstable();
        found
    }

    #[test]
    fn each_matching_subscription_is_reported() {
        #[track_caller]
        fn check(name: &str, want: &[Subscriber]) {
            let patterns = ["#", "+", "a/b", "a/+", "a/#", "+/b", "a/+/#", "$s/#", "$s/x", "+/+/c"];
            let mut subscriptions = Subscriptions::new();
            for (subscriber, text) in (0..).zip(patterns) {
                let since = u64::from(subscriber) + 100;
                assert_eq!(subscriptions.add(subscriber, pattern(text), since).1, Added::New);
            }
            let want: Vec<_> =
                want.iter().map(|&subscriber| (subscriber, u64::from(subscriber) + 100)).collect();
            assert_eq!(matches(&mut subscriptions, 3, name), want, "{name}");
            assert_eq!(matches(&mut subscriptions, 3, "not asked for"), want, "{name} from the cache");
        }
        check("a", &[0, 1, 4]);
        check("a/b", &[0, 2, 3, 4, 5, 6]);
        check("a/x", &[0, 3, 4, 6]);
        check("a/b/c", &[0, 4, 6, 9]);
        check("x/b", &[0, 5]);
        check("ab", &[0, 1]);
        check("$s", &[7]);
        check("$s/x", &[7, 8]);
        check("$s/b/c", &[7]);
        check("$t/b", &[]);
    }

    #[test]
    fn adding_twice_keeps_the_first() {
        let mut subscriptions = Subscriptions::new();
        assert!(subscriptions.is_empty() && subscriptions.find("a/#").is_none());
        let (id, added) = subscriptions.add(1, pattern("a/#"), 5);
        assert_eq!((subscriptions.find("a/#"), added), (Some(id), Added::New));
        assert_eq!(subscriptions.add(1, pattern("a/#"), 9), (id, Added::Already));
        assert_eq!(subscriptions.add(2, pattern("a/#"), 9), (id, Added::New));
        assert_eq!(subscriptions.count(), 2);
        for other in ["", "a", "a/", "a/#/b", "#", "a/+", "a/#/"] {
            assert_eq!(subscriptions.find(other), None, "{other}");
        }
        assert_eq!(matches(&mut subscriptions, 0, "a"), [(1, 5), (2, 9)]);
        assert_eq!(subscriptions.matching(TagId(0), || "a"), [id]);
        assert!(subscriptions.remove(1, id) && !subscriptions.remove(1, id) && !subscriptions.remove(3, id));
        assert_eq!(matches(&mut subscriptions, 0, "a"), [(2, 9)]);
        assert!(subscriptions.remove(2, id) && !subscriptions.remove(2, id));
        assert!(subscriptions.is_empty() && subscriptions.root.is_bare() && subscriptions.cache.tags() == 0);
    }

    #[test]
    fn system_patterns_are_counted() {
        let mut subscriptions = Subscriptions::new();
        subscriptions.add(1, pattern("#"), 0);
        assert!(!subscriptions.wants_system());
        let (id, _) = subscriptions.add(1, pattern("$server/#"), 0);
        subscriptions.add(2, pattern("$server/#"), 0);
        assert!(subscriptions.wants_system() && subscriptions.remove(1, id) && subscriptions.wants_system());
        assert!(subscriptions.remove(2, id) && !subscriptions.wants_system());
    }

    #[test]
    fn removed_patterns_leave_no_nodes() {
        let mut subscriptions = Subscriptions::new();
        subscriptions.add(1, pattern("a"), 0);
        for text in ["a/b/c", "a/+/c/#", "a/#", "+/+/+", "x/y/z", "a/b"] {
            let (id, _) = subscriptions.add(2, pattern(text), 0);
            assert!(subscriptions.remove(2, id));
            let Node { below: None, plus: None, ref children, .. } = subscriptions.root else {
                panic!("{text}")
            };
            assert_eq!(children.len(), 1, "{text}");
            assert!(children["a"].children.is_empty() && children["a"].plus.is_none(), "{text}");
        }
        assert_eq!(subscriptions.patterns.len(), 2);
    }

    #[test]
    fn tags_share_their_match_sets() {
        let mut subscriptions = Subscriptions::new();
        subscriptions.add(1, pattern("line1/#"), 0);
        subscriptions.add(2, pattern("+/t"), 0);
        for tag in 0..1000 {
            let name = format!("line{}/{}", tag % 3, ["t", "p", "s"][tag as usize / 3 % 3]);
            matches(&mut subscriptions, tag, &name);
        }
        let lengths: Vec<_> = subscriptions.cache.sets().map(<[_]>::len).collect();
        assert_eq!(lengths, [1, 2, 0, 1]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(Subscriber, String),
        Remove(Subscriber, usize),
        Look,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let text = "([ab+]|\\$a)(/[ab+]){0,3}(/#)?|#";
        prop_oneof![
            3 => (0..4_u32, text).prop_map(|(subscriber, text)| Step::Add(subscriber, text)),
            2 => (0..4_u32, 0..100_usize).prop_map(|(subscriber, at)| Step::Remove(subscriber, at)),
            1 => Just(Step::Look),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_brute_force(
            steps in prop::collection::vec(any_step(), 1..60),
            names in prop::collection::vec("([ab]|\\$a)(/[ab]){0,4}", 1..10),
        ) {
            let mut subscriptions = Subscriptions::new();
            let mut model: Vec<(String, Subscriber, u64)> = Vec::new();
            for (since, step) in (0..).zip(steps.into_iter().chain([Step::Look])) {
                match step {
                    Step::Add(subscriber, text) => {
                        let (id, added) = subscriptions.add(subscriber, pattern(&text), since);
                        prop_assert_eq!(subscriptions.find(&text), Some(id));
                        let is_known = model.iter().any(|(other, by, _)| *other == text && *by == subscriber);
                        prop_assert_eq!(added, if is_known { Added::Already } else { Added::New });
                        if !is_known {
                            model.push((text, subscriber, since));
                        }
                    }
                    Step::Remove(subscriber, at) if !model.is_empty() => {
                        let text = model[at % model.len()].0.clone();
                        let id = subscriptions.find(&text).unwrap();
                        let before = model.len();
                        model.retain(|(other, by, _)| *other != text || *by != subscriber);
                        prop_assert_eq!(subscriptions.remove(subscriber, id), model.len() < before);
                        let is_left = model.iter().any(|(other, ..)| *other == text);
                        prop_assert_eq!(subscriptions.find(&text).is_some(), is_left);
                    }
                    Step::Remove(..) => {}
                    Step::Look => for (tag, name) in (0..).zip(&names) {
                        let hits = |text: &str| pattern(text).matches(TagName::parse(name).unwrap());
                        let mut want: Vec<_> = model.iter().filter(|(text, ..)| hits(text)).collect();
                        want.sort_unstable_by_key(|(_, subscriber, since)| (*subscriber, *since));
                        let want: Vec<_> = want.iter().map(|&&(_, who, since)| (who, since)).collect();
                        prop_assert_eq!(matches(&mut subscriptions, tag, name), want);
                        // Equal sets came out as equal lists: none is cached twice.
                        let mut distinct = BTreeSet::new();
                        for set in subscriptions.cache.sets() {
                            prop_assert!(distinct.insert(set.iter().map(|id| id.0).collect::<BTreeSet<_>>()));
                        }
                    },
                }
                prop_assert_eq!(subscriptions.count(), model.len());
                let system = model.iter().any(|(text, ..)| text.starts_with('$'));
                prop_assert_eq!(subscriptions.wants_system(), system);
            }
        }
    }
}
