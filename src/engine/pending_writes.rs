//! Writes and questions on their way to a polled device: who asked, who has it, until it is settled exactly
//! once.

use std::time::Duration;

use slab::Slab;

use super::session::ConnKey;
#[cfg(test)]
use crate::base::mutants::{self, Mutant};
use crate::tags::value::{Input, Value};
use crate::tags::{Limit, OwnerId, Refusal, TagId};

/// Names a pending write or question; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    index: u32,
    serial: u64,
}

/// A write for a driver to carry out and to settle.
#[derive(Clone, Debug)]
pub struct WriteOrder {
    /// What to settle it by.
    pub ticket: Ticket,
    /// The tag.
    pub tag: TagId,
    /// The value, of the tag's type and within its limits.
    pub value: Value,
}

/// A request in the device's own language, for a driver to pass on and to answer.
#[derive(Clone, Debug)]
pub struct Question {
    /// What to answer it by.
    pub ticket: Ticket,
    /// The device.
    pub owner: OwnerId,
    /// The request.
    pub bytes: Box<[u8]>,
    /// An answer that the device gave to the same request will do if it is younger.
    pub max_age: Duration,
}

/// What a driver knows of a device without asking it, whichever shard wants to know.
pub trait Driven: Send + Sync {
    /// Whether the device could be sent `value`, which the tag admits; if not, what an order would be refused
    /// with.
    fn check(&self, tag: TagId, value: &Input<'_>) -> Result<(), Refusal>;
}

/// What is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    Write,
    Answer,
}

/// Who wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// A connection of this shard.
    Connection(ConnKey),
    /// Another shard, which knows it by a ticket of its own.
    Shard(u16, Ticket),
}

/// Who has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carrier {
    /// A driver of this shard.
    Connection(ConnKey),
    /// Another shard.
    Shard(usize),
}

/// Writes and questions that may be pending at once in a shard.
const MOST_PENDING: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct PendingWrites {
    pending: Slab<Pending>,
    serial: u64,
}

#[derive(Debug)]
struct Pending {
    serial: u64,
    asker: Asker,
    carrier: Carrier,
    wanted: Wanted,
    /// Whether the driver was given it; from then on it may have reached the device.
    handed_out: bool,
}

impl PendingWrites {
    /// `asker` wants something of `carrier`.
    pub(super) fn admit(
        &mut self,
        asker: Asker,
        carrier: Carrier,
        wanted: Wanted,
    ) -> Result<Ticket, Refusal> {
        if self.pending.len() == MOST_PENDING {
            return Err(Refusal::Limit(Limit::PendingWrites(MOST_PENDING)));
        }
        self.serial += 1;
        let serial = self.serial;
        let index = self.pending.insert(Pending { serial, asker, carrier, wanted, handed_out: false });
        Ok(Ticket { index: index as u32, serial })
    }

    /// The driver is given it now. Whether it is still wanted: a driver that is gone settled it.
    pub(super) fn hand_out(&mut self, ticket: Ticket) -> bool {
        let pending = self.pending.get_mut(ticket.index as usize).filter(|p| p.serial == ticket.serial);
        pending.map(|pending| pending.handed_out = true).is_some()
    }

    /// It is done, answered or refused: says who asked, and who had it. `None` if it was settled before.
    pub(super) fn settle(&mut self, ticket: Ticket, as_what: Wanted) -> Option<(Asker, Carrier)> {
        let index = ticket.index as usize;
        let pending = self.pending.get(index).filter(|pending| pending.serial == ticket.serial)?;
        assert_eq!(pending.wanted, as_what, "orders are settled and questions answered");
        #[cfg(test)]
        if mutants::strikes(Mutant::TicketSettledTwice) {
            let Pending { asker, carrier, .. } = self.pending[index];
            return Some((asker, carrier));
        }
        let Pending { asker, carrier, .. } = self.pending.remove(index);
        Some((asker, carrier))
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// A driver is gone: settles all that it had, with what is known of each.
    pub(super) fn abandon(
        &mut self,
        driver: ConnKey,
        mut settled: impl FnMut(Asker, Ticket, Wanted, Refusal),
    ) {
        self.pending.retain(|index, pending| {
            if pending.carrier != Carrier::Connection(driver) {
                return true;
            }
            let ticket = Ticket { index: index as u32, serial: pending.serial };
            let refusal = if pending.handed_out { Refusal::Timeout } else { Refusal::Offline };
            settled(pending.asker, ticket, pending.wanted, refusal);
            false
        });
    }
}
