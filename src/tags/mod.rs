//! The plant's tags: names, current samples, who wrote them, who wants to know. Shared by all shards; every
//! call here is short and takes at most one lock at a time of each kind, in the order catalog, slot, sources
//! or changes.

mod catalog;
mod changes;
mod declared;
mod in_order;
mod kind;
mod match_cache;
mod memory;
pub mod name;
mod owners;
mod refusal;
mod set;
mod sources;
mod subscriptions;
mod table;
#[cfg(test)]
mod tests;
pub mod value;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard};
use std::time::Duration;

use crate::base::bell::Bell;
#[cfg(test)]
use crate::base::mutants::{self, Mutant};
use crate::base::time::{Tick, Timestamp};

pub use catalog::{Access, Catalog, Declaration, OwnerId};
pub use declared::{Declared, DeclaredTag};
pub use memory::{Cell, Memory};
pub use refusal::{Limit, Refusal};
pub use set::TagSet;
pub use sources::{Holder, SourceId, Speaker};
pub use subscriptions::{PatternId, Subscriptions};

use changes::Changes;
use name::{DeviceName, Pattern, TagName};
use owners::Owners;
use sources::Sources;
use table::{Slot, Table};
use value::{Input, Kind, Quality, Sample};

/// A tag: an index for as long as the server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TagId(pub u32);

/// What bounds the tags.
#[derive(Clone, Debug)]
pub struct TagSettings {
    /// How many there may be besides the server's own.
    pub max_tags: usize,
    /// How long a text value may be, in bytes.
    pub max_text: usize,
    /// Whether the first write creates a tag.
    pub create_tags: bool,
}

impl Default for TagSettings {
    fn default() -> Self {
        TagSettings { max_tags: 100_000, max_text: 1_024, create_tags: true }
    }
}

/// The server's own tags need no part of `max_tags`. So many there may be unless more are announced.
const SYSTEM_TAGS: usize = 4_096;

/// All tags of a server.
pub struct Tags {
    settings: TagSettings,
    catalog: RwLock<Catalog>,
    table: Table,
    most_system_tags: usize,
    sources: Mutex<Sources>,
    changes: Changes,
    /// The number of the last write.
    sequence: AtomicU64,
    /// The polled devices.
    owners: Owners,
    memories: Vec<Arc<dyn Memory>>,
}

/// What a write must know of the tag that it goes to.
#[derive(Clone, Copy, Debug)]
pub struct Admitted {
    /// The tag.
    pub tag: TagId,
    /// The polled device that the write must go to first.
    pub owner: Option<OwnerId>,
    /// The cell whose value the tag shows.
    pub cell: Option<Cell>,
    /// From the tag's declaration.
    pub stale_after: Option<Duration>,
}

/// A sample on its way into the table.
#[derive(Debug)]
pub struct Write<'a> {
    /// Its value, of the tag's type. A text is allocated only where it is not the one that is there.
    pub value: Input<'a>,
    /// Its quality.
    pub quality: Quality,
    /// Its time.
    pub time: Timestamp,
    /// The device that wrote it.
    pub source: Option<Speaker>,
    /// When it is too old to be good.
    pub stale_at: Tick,
}

/// What a scan by pattern has come to.
#[derive(Debug, Default)]
pub struct Scan {
    /// Tags found, in byte order of their names; the caller takes them from the front.
    pub found: std::collections::VecDeque<TagId>,
    after: Option<TagId>,
    ended: bool,
    batch: Vec<TagId>,
}

/// Names looked at, at most, while the catalog is locked for one slice of a scan.
const SCAN_VISITS: usize = 4_096;
/// Tags found, at most, by one slice of a scan.
const SCAN_FOUND: usize = 128;

impl Scan {
    /// Whether everything was found and taken.
    pub fn is_over(&self) -> bool {
        self.ended && self.found.is_empty()
    }
}

impl Tags {
    /// No tags yet. `owners` are the names of the polled devices; `shards` will read the changes.
    pub fn new(settings: TagSettings, owners: Vec<Box<str>>, shards: usize) -> Tags {
        Tags {
            catalog: RwLock::default(),
            table: Table::new(settings.max_tags + SYSTEM_TAGS),
            most_system_tags: SYSTEM_TAGS,
            sources: Mutex::default(),
            changes: Changes::new(shards),
            sequence: AtomicU64::new(0),
            owners: Owners::new(owners),
            memories: Vec::new(),
            settings,
        }
    }

    /// There may be so many more of the server's own tags.
    pub fn with_system_tags(mut self, more: usize) -> Tags {
        self.most_system_tags += more;
        self.table = Table::new(self.settings.max_tags + self.most_system_tags);
        self
    }

    /// Cells of these memories become tags when they are named.
    pub fn with_memories(mut self, memories: Vec<Arc<dyn Memory>>) -> Tags {
        assert!(memories.len() < usize::from(u8::MAX), "there are as many memories as protocols, at most");
        self.memories = memories;
        self
    }

    /// What bounds the tags.
    pub fn settings(&self) -> &TagSettings {
        &self.settings
    }

    /// How many tags there are, without the server's own.
    pub fn len(&self) -> usize {
        self.catalog().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tag of that name.
    pub fn find(&self, name: TagName<'_>) -> Option<TagId> {
        self.catalog().find(name.as_str())
    }

    /// The tag of that name; a cell of a memory that is named for the first time becomes one. `Err` if there
    /// is no such tag, or no room for it.
    pub fn find_or_name(&self, name: TagName<'_>, time: Timestamp) -> Result<TagId, Refusal> {
        if let Some(tag) = self.find(name) {
            return Ok(tag);
        }
        match self.cell_of(name) {
            Some(Some(_)) => self.declare(name, Declaration::default(), time).or_else(|refusal| {
                // Another shard may have been faster.
                self.find(name).ok_or(refusal)
            }),
            _ => Err(Refusal::NoSuchTag),
        }
    }

    /// `None`: the name is not of a memory. `Some(None)`: it is, and there is no such cell. Among the
    /// server's own names cells have no level to themselves.
    fn cell_of(&self, name: TagName<'_>) -> Option<Option<(Cell, Kind)>> {
        let found = self.memories.iter().enumerate().find_map(|(number, memory)| {
            let rest = name.as_str().strip_prefix(memory.prefix())?.strip_prefix('/')?;
            let cell = |at| Cell { memory: number as u8, at };
            Some(memory.find(rest).map(|(at, kind)| (cell(at), kind)))
        });
        found.filter(|cell| cell.is_some() || !name.is_system())
    }

    /// Name the cells that are to be seen wherever a pattern matches them.
    pub fn name_cells(&self, pattern: Pattern<'_>, time: Timestamp) {
        for memory in &self.memories {
            memory.show(pattern, &mut |name| {
                // Where there is no room for it, it is not seen.
                let _ = self.find_or_name(name, time);
            });
        }
    }

    fn memory(&self, cell: Cell) -> &dyn Memory {
        &*self.memories[usize::from(cell.memory)]
    }

    /// Append the name of a tag to `out`.
    pub fn push_name(&self, tag: TagId, out: &mut String) {
        out.push_str(self.catalog().name(tag));
    }

    /// The catalog, for as long as the guard lives: what a caller does with it must be short.
    pub fn catalog(&self) -> RwLockReadGuard<'_, Catalog> {
        self.catalog.read().expect("a panic ends the process, so no lock is poisoned")
    }

    /// Add a declared tag. One that is a cell of a memory is of the cell's kind. `Err` if the name is taken,
    /// is no cell of the memory that it belongs to, or the table is full.
    pub fn declare(
        &self,
        name: TagName<'_>,
        mut declaration: Declaration,
        time: Timestamp,
    ) -> Result<TagId, Refusal> {
        let cell = match self.cell_of(name) {
            None => None,
            Some(None) => return Err(Refusal::NoSuchTag),
            Some(Some((cell, kind))) => {
                if declaration.kind != Kind::Any && declaration.kind != kind {
                    return Err(Refusal::WrongType(kind));
                }
                declaration.kind = kind;
                if !self.memory(cell).is_writable() {
                    declaration.access = Access::ReadOnly;
                }
                Some(cell)
            }
        };
        declaration.cell = cell;
        let mut catalog = self.catalog.write().expect("a panic ends the process, so no lock is poisoned");
        let tag = {
            if catalog.find(name.as_str()).is_some() {
                return Err(Refusal::ReadOnly);
            }
            let (count, most) = match name.is_system() {
                true => (catalog.system_len(), self.most_system_tags),
                false => (catalog.len(), self.settings.max_tags),
            };
            if count >= most {
                return Err(Refusal::Limit(Limit::Tags(most)));
            }
            catalog.add(name, Some(declaration))
        };
        if let Some(cell) = cell {
            // Before anybody finds the tag.
            self.memory(cell).adopt(self, cell.at, tag, time);
        }
        Ok(tag)
    }

    /// Whether `value` may be written to the tag `name`, which is created if need be; what the tag's type
    /// makes of it is left in `value`. The checks come in the order that the line protocol lists them.
    pub fn admit(
        &self,
        name: TagName<'_>,
        value: &mut Input<'_>,
        time: Timestamp,
    ) -> Result<Admitted, Refusal> {
        {
            let catalog = self.catalog();
            if let Some(tag) = catalog.find(name.as_str()) {
                return self.admit_in(&catalog, tag, value);
            }
        }
        match self.cell_of(name) {
            None => self.create(name, value),
            Some(_) => self.admit_to(self.find_or_name(name, time)?, value),
        }
    }

    /// Like [`admit`](Self::admit), for a tag that is there.
    pub fn admit_to(&self, tag: TagId, value: &mut Input<'_>) -> Result<Admitted, Refusal> {
        self.admit_in(&self.catalog(), tag, value)
    }

    fn admit_in(&self, catalog: &Catalog, tag: TagId, value: &mut Input<'_>) -> Result<Admitted, Refusal> {
        let declaration = catalog.declaration(tag);
        if declaration.access == Access::ReadOnly {
            return Err(Refusal::ReadOnly);
        }
        let &Declaration { cell, stale_after, .. } = declaration;
        let owner = catalog.owner(tag);
        *value = self.fitted(declaration, std::mem::replace(value, Input::Null))?;
        self.check_text(value)?;
        Ok(Admitted { tag, owner, cell, stale_after })
    }

    /// What a tag's type makes of a value, if its limits and its cell allow it.
    fn fitted<'a>(&self, declaration: &Declaration, value: Input<'a>) -> Result<Input<'a>, Refusal> {
        let &Declaration { kind, limits, cell, .. } = declaration;
        let value = kind.convert(value).map_err(|_| Refusal::WrongType(kind))?;
        let is_held = cell.is_none_or(|cell| self.memory(cell).holds(cell.at, &value));
        match (limits.contains(&value), is_held) {
            (true, true) => Ok(value),
            (true, false) => Err(Refusal::DoesNotFit("the register cannot hold the value")),
            (false, _) => Err(Refusal::OutOfRange),
        }
    }

    fn create(&self, name: TagName<'_>, value: &Input<'_>) -> Result<Admitted, Refusal> {
        if name.is_system() {
            return Err(Refusal::ReadOnly);
        }
        if !self.settings.create_tags {
            return Err(Refusal::NoSuchTag);
        }
        if self.owners.is_below_one(name) {
            return Err(Refusal::NoSuchPoint);
        }
        self.check_text(value)?;
        let mut catalog = self.catalog.write().expect("a panic ends the process, so no lock is poisoned");
        // Another shard may have been faster.
        let tag = match catalog.find(name.as_str()) {
            Some(tag) => tag,
            None if catalog.len() >= self.settings.max_tags => {
                return Err(Refusal::Limit(Limit::Tags(self.settings.max_tags)));
            }
            None => catalog.add(name, None),
        };
        Ok(Admitted { tag, owner: None, cell: None, stale_after: None })
    }

    fn check_text(&self, value: &Input<'_>) -> Result<(), Refusal> {
        match value {
            Input::Text(text) if text.len() > self.settings.max_text => {
                Err(Refusal::Limit(Limit::Text(self.settings.max_text)))
            }
            _ => Ok(()),
        }
    }

    /// Carry out an admitted write: to the cell that the tag shows, or to the table. Whether it was: a
    /// connection writes nothing more once another speaks for its device.
    #[must_use]
    pub fn write(&self, admitted: Admitted, now: Tick, write: Write<'_>) -> bool {
        let Admitted { tag, cell, .. } = admitted;
        match cell {
            Some(_) => {
                let may_write = write.source.is_none_or(|speaker| self.is_speaker(speaker));
                if may_write {
                    self.put(tag, cell, now, write);
                }
                may_write
            }
            None => self.store_if(tag, write, |is_speaker| is_speaker),
        }
    }

    /// Give a declared tag its first value, also where it is read-only.
    pub fn preset(&self, tag: TagId, now: Tick, mut write: Write<'_>) -> Result<(), Refusal> {
        let cell = {
            let catalog = self.catalog();
            let declaration = catalog.declaration(tag);
            write.value = self.fitted(declaration, write.value)?;
            declaration.cell
        };
        self.put(tag, cell, now, write);
        Ok(())
    }

    fn put(&self, tag: TagId, cell: Option<Cell>, now: Tick, write: Write<'_>) {
        match cell {
            Some(cell) => self.memory(cell).write(self, cell.at, tag, now, write),
            None => self.store(tag, write),
        }
    }

    /// Put an admitted sample into the table and let the subscribers know if it is a change. In the name of a
    /// device for which another connection speaks by now, it is nobody's.
    pub fn store(&self, tag: TagId, write: Write<'_>) {
        self.store_if(tag, write, |_| true);
    }

    /// Like [`store`](Self::store), if whether the connection speaks for its device is as it should be. That
    /// is decided while the slot is locked: what one that has taken over writes is never replaced by what the
    /// one before it wrote.
    fn store_if(&self, tag: TagId, write: Write<'_>, is_allowed: impl FnOnce(bool) -> bool) -> bool {
        let mut slot = self.table.lock(tag);
        let before = slot.source;
        slot.source = match write.source {
            Some(speaker) => {
                let mut sources = self.sources();
                let is_speaker = sources.is_speaker(speaker);
                #[cfg(test)]
                let is_speaker = is_speaker || mutants::strikes(Mutant::OldWriter);
                if !is_allowed(is_speaker) {
                    return false;
                }
                let source = is_speaker.then_some(speaker.source);
                sources.hand_over(tag, before, source);
                source
            }
            None => {
                if before.is_some() {
                    self.sources().hand_over(tag, before, None);
                }
                None
            }
        };
        let number = self.next_number();
        let changed = slot.quality != write.quality || !write.value.same(&slot.value.as_input());
        #[cfg(test)]
        let before = slot.sample();
        slot.written = number;
        slot.time = write.time;
        #[cfg(test)]
        if mutants::strikes(Mutant::TornSample) {
            drop(slot);
            mutants::let_others_run();
            slot = self.table.lock(tag);
        }
        slot.stale_at = write.stale_at;
        if changed {
            slot.changed = number;
            slot.quality = write.quality;
            slot.value = write.value.into_value();
            self.changes.mark(tag);
            drop(slot);
            self.changes.ring();
            #[cfg(test)]
            if mutants::strikes(Mutant::OldAfterNew) {
                self.bring_back(tag, before);
            }
        }
        true
    }

    /// The current sample of a tag.
    pub fn read(&self, tag: TagId) -> Sample {
        self.table.lock(tag).sample()
    }

    /// The current sample of a tag that `shard` has taken as changed, and the number of the write that made
    /// it what it is. Whatever comes later is a change of its own.
    pub fn read_change(&self, shard: usize, tag: TagId) -> (Sample, u64) {
        let slot = self.table.lock(tag);
        #[cfg(test)]
        if mutants::strikes(Mutant::MarkClearedLate) {
            let read = (slot.sample(), slot.changed);
            drop(slot);
            mutants::let_others_run();
            self.changes.clear(shard, tag);
            return read;
        }
        self.changes.clear(shard, tag);
        (slot.sample(), slot.changed)
    }

    /// The current sample; and if `shard` is still to hear of it as a change, its number.
    pub fn read_before_change(&self, shard: usize, tag: TagId) -> (Sample, Option<u64>) {
        let slot = self.table.lock(tag);
        let is_marked = self.changes.is_marked(shard, tag);
        (slot.sample(), is_marked.then_some(slot.changed))
    }

    /// Let a value that was not refreshed in time turn uncertain. `Some`: it is due later, at that tick.
    pub fn expire(&self, tag: TagId, now: Tick) -> Option<Tick> {
        let slot = self.table.lock(tag);
        if slot.stale_at > now {
            return (slot.stale_at < Tick::NEVER).then_some(slot.stale_at);
        }
        self.doubt(tag, slot);
        None
    }

    /// Let a value that `source` wrote, up to write number `up_to`, turn uncertain.
    pub fn degrade(&self, tag: TagId, source: SourceId, up_to: u64) {
        let slot = self.table.lock(tag);
        if slot.source == Some(source) && slot.written <= up_to {
            self.doubt(tag, slot);
        }
    }

    /// Let a value turn uncertain, whoever wrote it.
    pub fn degrade_now(&self, tag: TagId) {
        self.doubt(tag, self.table.lock(tag));
    }

    fn doubt(&self, tag: TagId, mut slot: MutexGuard<'_, Slot>) {
        if slot.quality == Quality::Good {
            slot.quality = Quality::Uncertain;
            slot.changed = self.next_number();
            self.changes.mark(tag);
            drop(slot);
            self.changes.ring();
        }
    }

    /// The number of the last write. Taken before a tag is read, it tells which changes the reader may have
    /// missed.
    pub fn last_number(&self) -> u64 {
        self.sequence.load(Ordering::Acquire)
    }

    fn next_number(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Find some more of the tags that match `pattern`; at most a slice, so that the caller's turn stays
    /// short.
    pub fn scan(&self, pattern: Pattern<'_>, scan: &mut Scan) {
        if scan.ended {
            return;
        }
        let catalog = self.catalog();
        scan.after = catalog.scan(pattern, scan.after, SCAN_FOUND, SCAN_VISITS, &mut scan.batch);
        scan.ended = scan.after.is_none();
        scan.found.extend(scan.batch.drain(..));
    }

    /// `holder` speaks for the device `name` from now on; says who did before.
    pub fn take_over(&self, name: &str, holder: Holder) -> (SourceId, Option<Holder>) {
        self.sources().take_over(name, holder)
    }

    /// The connection of a device is silent: says what was last written in its name, and the number of the
    /// last write. `None` if another connection has taken over.
    pub fn fall_silent(&self, speaker: Speaker) -> Option<(Vec<TagId>, u64)> {
        self.left_by(&self.sources(), speaker)
    }

    /// Like [`fall_silent`](Self::fall_silent), and the connection is gone.
    pub fn leave(&self, speaker: Speaker) -> Option<(Vec<TagId>, u64)> {
        let mut sources = self.sources();
        let left = self.left_by(&sources, speaker);
        sources.leave(speaker);
        left
    }

    /// Under the lock, so that whatever another connection writes once it has taken over has a higher number.
    fn left_by(&self, sources: &Sources, speaker: Speaker) -> Option<(Vec<TagId>, u64)> {
        let is_speaker = sources.is_speaker(speaker);
        is_speaker.then(|| (sources.tags(speaker.source).collect(), self.last_number()))
    }

    /// Whether it is the connection that speaks for its device.
    pub fn is_speaker(&self, speaker: Speaker) -> bool {
        self.sources().is_speaker(speaker)
    }

    /// Append who is behind a tag: the polled device that owns it, else its last writer, else `-`.
    pub fn push_source(&self, tag: TagId, out: &mut String) {
        if let Some(owner) = self.catalog().owner(tag) {
            return out.push_str(self.owners.name(owner));
        }
        // The slot stays locked, so that the name is not forgotten in between.
        let slot = self.table.lock(tag);
        match slot.source {
            Some(source) => out.push_str(self.sources().name(source)),
            None => out.push('-'),
        }
    }

    /// How many shards read the changes.
    pub fn shards(&self) -> usize {
        self.changes.shards()
    }

    /// Wakes `shard`, which looks for changes (and whatever else is left for it) after it fell asleep.
    pub fn bell(&self, shard: usize) -> &Bell {
        self.changes.bell(shard)
    }

    /// How many polled devices there are.
    pub fn owners(&self) -> usize {
        self.owners.len()
    }

    /// Whether there is a polled device of that name.
    pub fn is_polled(&self, device: DeviceName<'_>) -> bool {
        self.owners.has(device.as_str())
    }

    /// Whether `shard` wants to know of changes.
    pub fn want_changes(&self, shard: usize, wanted: bool) {
        self.changes.open(shard, wanted);
    }

    /// Whether there are changes for `shard`.
    pub fn has_changes(&self, shard: usize) -> bool {
        !self.changes.is_empty(shard)
    }

    /// Take up to `most` changed tags for `shard`, the longest waiting first.
    pub fn take_changes(&self, shard: usize, most: usize, tags: &mut Vec<TagId>) {
        self.changes.take(shard, most, tags);
    }

    fn sources(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().expect("a panic ends the process, so no lock is poisoned")
    }
}
