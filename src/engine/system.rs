//! The server's own tags, `$server/…`: computed when read, and once a second while somebody subscribes to
//! them.

use std::sync::Arc;
use std::time::Duration;

use super::shard::Shard;
use crate::base::time::{Now, Tick, Timestamp};
use crate::tags::name::TagName;
use crate::tags::value::{Input, Kind, Quality, Sample, Value};
use crate::tags::{Access, Declaration, Refusal, TagId, Tags, Write};

/// How often subscribers are told.
const PERIOD: Duration = Duration::from_secs(1);
/// What one shard has refreshed another one does not, for so long: its own second begins at another time.
const LEAST_PERIOD: Duration = Duration::from_millis(500);

/// One of the server's tags.
struct SystemTag {
    name: &'static str,
    kind: Kind,
    units: &'static str,
    description: &'static str,
    value: fn(&Shard) -> Value,
}

macro_rules! count {
    ($name:literal, $units:literal, $description:literal, $value:expr) => {
        SystemTag {
            name: concat!("$server/", $name),
            kind: Kind::Int,
            units: $units,
            description: $description,
            value: |shard| {
                let value: fn(&Shard) -> u64 = $value;
                Value::Int(i64::try_from(value(shard)).unwrap_or(i64::MAX))
            },
        }
    };
}

macro_rules! text {
    ($name:literal, $description:literal, $value:expr) => {
        SystemTag {
            name: concat!("$server/", $name),
            kind: Kind::Text,
            units: "",
            description: $description,
            value: |shard| {
                let value: fn(&Shard) -> &str = $value;
                Value::Text(value(shard).into())
            },
        }
    };
}

/// The table of them; a tag's id is its row.
const SYSTEM_TAGS: &[SystemTag] = &[
    text!("version", "the server's version", |_| env!("CARGO_PKG_VERSION")),
    text!("name", "the server's configured name", |shard| &shard.settings.name),
    count!("uptime_s", "s", "time since start", |shard| (shard.now.tick - shard.started).as_secs()),
    count!("connections", "", "open connections", |shard| shard.shared.total(|metrics| &metrics.connections)),
    count!("accepted", "", "connections since start", |shard| shard
        .shared
        .total(|metrics| &metrics.accepted)),
    count!("refused", "", "connections turned away since start", |shard| shard
        .shared
        .total(|metrics| &metrics.refused)),
    count!("requests", "", "requests since start", |shard| shard.shared.total(|metrics| &metrics.requests)),
    count!("damaged", "", "damaged frames dropped since start", |shard| shard
        .shared
        .total(|metrics| &metrics.damaged)),
    count!("bytes_in", "B", "bytes read since start", |shard| shard
        .shared
        .total(|metrics| &metrics.bytes_in)),
    count!("bytes_out", "B", "bytes written since start", |shard| shard
        .shared
        .total(|metrics| &metrics.bytes_out)),
    count!("tags", "", "tags, without those of the server", |shard| shard.tags.len() as u64),
    count!("subscriptions", "", "subscriptions", |shard| shard
        .shared
        .total(|metrics| &metrics.subscriptions)),
    count!("turn_mean_us", "µs", "mean time of a turn of the loop, of the slowest shard", |shard| {
        shard.shared.largest(|metrics| &metrics.turn_mean_us)
    }),
    count!("turn_max_us", "µs", "longest turn of the last ten seconds", |shard| {
        shard.shared.largest(|metrics| &metrics.turn_max_us)
    }),
    count!("memory_bytes", "B", "resident memory of the process", |shard| (shard.settings.memory_probe)()),
    count!("buffer_bytes", "B", "memory in connections' buffers", |shard| {
        shard.shared.total(|metrics| &metrics.buffer_bytes)
    }),
    count!("shards", "", "threads that serve connections", |shard| shard.shared.shards() as u64),
    count!("busiest_connections", "", "open connections of the shard that has the most", |shard| {
        shard.shared.largest(|metrics| &metrics.connections)
    }),
    count!("dropped_log_lines", "", "log lines dropped while stderr was stalled", |_| {
        crate::base::log::dropped()
    }),
];

/// Further tags that are computed when read: the server's own, of what runs in it.
pub trait Figures: Send + Sync {
    /// How many.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The name of one, and what is declared of it.
    fn declare(&self, number: usize) -> (String, Declaration);
    /// Its value.
    fn value(&self, number: usize, now: Now) -> Value;
    /// Somebody writes it, where that is declared.
    fn write(&self, number: usize, value: &Input<'_>) -> Result<(), Refusal>;
}

/// When the server's tags are refreshed next, and what is computed besides.
#[derive(Default)]
pub(super) struct SystemTags {
    due: Option<Tick>,
    figures: Option<Arc<dyn Figures>>,
    /// How many figures there are: that a tag is none of them must be known at once.
    count: usize,
}

impl SystemTags {
    pub(super) fn compute(&mut self, figures: Arc<dyn Figures>) {
        self.count = figures.len();
        self.figures = Some(figures);
    }
}

/// What one of the server's own tags holds; `None` if there is none of that name.
pub fn system_tag_kind(name: &str) -> Option<Kind> {
    SYSTEM_TAGS.iter().find(|tag| tag.name == name).map(|tag| tag.kind)
}

/// Declare the server's own tags; they must be the first.
pub fn declare_system_tags(tags: &Tags, figures: Option<&dyn Figures>) -> Result<(), Refusal> {
    for (row, tag) in SYSTEM_TAGS.iter().enumerate() {
        let name = TagName::parse(tag.name).expect("the table's names are names");
        let declaration = Declaration {
            kind: tag.kind,
            access: Access::ReadOnly,
            description: tag.description.into(),
            units: tag.units.into(),
            ..Declaration::default()
        };
        let id = tags.declare(name, declaration, Timestamp(0))?;
        assert_eq!(id.0 as usize, row, "the server's own tags are declared first");
    }
    for number in 0..figures.map_or(0, Figures::len) {
        let (name, declaration) = figures.expect("there are some").declare(number);
        let name = TagName::parse(&name).expect("the names of figures are names");
        tags.declare(name, declaration, Timestamp(0))?;
    }
    Ok(())
}

impl Shard {
    /// The sample of one of the server's own tags as it is now.
    pub(super) fn system_sample(&self, tag: TagId) -> Option<Sample> {
        if tag.0 as usize >= SYSTEM_TAGS.len() + self.system.count {
            return None;
        }
        let value = match SYSTEM_TAGS.get(tag.0 as usize) {
            Some(row) => (row.value)(self),
            None => {
                let (figures, number) = self.figure(tag)?;
                figures.value(number, self.now)
            }
        };
        Some(Sample { value, quality: Quality::Good, time: self.now.wall })
    }

    /// If the tag is computed from figures, which of them.
    pub(super) fn figure(&self, tag: TagId) -> Option<(&dyn Figures, usize)> {
        let number = (tag.0 as usize).checked_sub(SYSTEM_TAGS.len())?;
        if number >= self.system.count {
            return None;
        }
        Some((self.system.figures.as_deref()?, number))
    }

    /// Refresh the server's own tags if that is due. Says when it is due again: never, where nobody
    /// subscribes.
    pub(super) fn refresh_due_system_tags(&mut self) -> Option<Tick> {
        if !self.subscriptions.wants_system() {
            self.system.due = None;
            return None;
        }
        if self.system.due.is_none_or(|due| due <= self.now.tick) {
            self.system.due = Some(self.now.tick + PERIOD);
            // Of several shards one does it for all.
            if self.shared.may_refresh(self.now.tick, LEAST_PERIOD) {
                self.refresh_system_tags();
            }
        }
        self.system.due
    }

    /// Refresh the server's own tags, unless that was done in this turn.
    pub(super) fn refresh_system_tags_once(&mut self) {
        if self.system.due != Some(self.now.tick + PERIOD) {
            self.refresh_system_tags();
        }
    }

    /// Put the server's own tags into the table, so that subscribers are told of changes.
    pub(super) fn refresh_system_tags(&mut self) {
        self.system.due = Some(self.now.tick + PERIOD);
        for number in 0..SYSTEM_TAGS.len() + self.system.count {
            let tag = TagId(number as u32);
            let Sample { value, quality, time } = self.system_sample(tag).expect("one of the server's own");
            let value = value.as_input();
            self.tags.store(tag, Write { value, quality, time, source: None, stale_at: Tick::NEVER });
        }
    }
}
