//! Tags whose truth is elsewhere: the cells of a protocol's memory (registers of a Modbus unit, say) that
//! become tags when somebody names them, and cost none before.

use super::name::{Pattern, TagName};
use super::value::{Input, Kind};
use super::{TagId, Tags, Write};
use crate::base::time::{Tick, Timestamp};

/// A cell of one of the memories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Which memory, by its place in [`Tags::with_memories`].
    pub(super) memory: u8,
    /// Which cell, as the memory numbers them.
    pub at: u32,
}

/// Many cells with names, of which few are ever tags. It locks itself; within, it may call [`Tags::store`].
pub trait Memory: Send + Sync {
    /// The first level of all its names. No other tag has it.
    fn prefix(&self) -> &'static str;

    /// The cell whose name goes on with `rest` behind the prefix and a slash, and what it holds.
    fn find(&self, rest: &str) -> Option<(u32, Kind)>;

    /// Whether its tags can be written.
    fn is_writable(&self) -> bool {
        true
    }

    /// Cells that are to be seen wherever `pattern`, which has a wildcard, matches them: most memories have
    /// none.
    fn show(&self, _pattern: Pattern<'_>, _name: &mut dyn FnMut(TagName<'_>)) {}

    /// The cell is a tag from now on: store what it holds, and from then on each change of it.
    fn adopt(&self, tags: &Tags, at: u32, tag: TagId, time: Timestamp);

    /// Whether the cell can hold a value, which is of its kind or null.
    fn holds(&self, at: u32, value: &Input<'_>) -> bool;

    /// Take a value that the cell can hold and that is not null, and store it as the tag's.
    fn write(&self, tags: &Tags, at: u32, tag: TagId, now: Tick, write: Write<'_>);
}
