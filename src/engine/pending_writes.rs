//! Writes on their way to a polled device: who asked, which driver has it, until it is settled exactly once.

use slab::Slab;

use super::session::ConnKey;
#[cfg(test)]
use crate::base::mutants::{self, Mutant};
use crate::tags::value::Value;
use crate::tags::{Limit, Refusal, TagId};

/// Names a pending write; never used twice.
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

/// Writes that may be pending at once in a shard.
const MOST_PENDING: usize = 65_536;

#[derive(Debug, Default)]
pub(super) struct PendingWrites {
    pending: Slab<Pending>,
    serial: u64,
}

#[derive(Debug)]
struct Pending {
    serial: u64,
    asker: ConnKey,
    driver: ConnKey,
    /// Whether the driver was given it; from then on it may have reached the device.
    handed_out: bool,
}

impl PendingWrites {
    /// `asker` wants something written by `driver`.
    pub(super) fn admit(&mut self, asker: ConnKey, driver: ConnKey) -> Result<Ticket, Refusal> {
        if self.pending.len() == MOST_PENDING {
            return Err(Refusal::Limit(Limit::PendingWrites(MOST_PENDING)));
        }
        self.serial += 1;
        let serial = self.serial;
        let index = self.pending.insert(Pending { serial, asker, driver, handed_out: false });
        Ok(Ticket { index: index as u32, serial })
    }

    /// The driver is given the order now. Whether it is still wanted: a driver that is gone settled it.
    pub(super) fn hand_out(&mut self, ticket: Ticket) -> bool {
        let pending = self.pending.get_mut(ticket.index as usize).filter(|p| p.serial == ticket.serial);
        pending.map(|pending| pending.handed_out = true).is_some()
    }

    /// The write is done or refused: says who asked. `None` if it was settled before.
    pub(super) fn settle(&mut self, ticket: Ticket) -> Option<ConnKey> {
        let index = ticket.index as usize;
        self.pending.get(index).filter(|pending| pending.serial == ticket.serial)?;
        #[cfg(test)]
        if mutants::strikes(Mutant::TicketSettledTwice) {
            return Some(self.pending[index].asker);
        }
        Some(self.pending.remove(index).asker)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// A driver is gone: settles all that it had, with what is known of each.
    pub(super) fn abandon(&mut self, driver: ConnKey, mut settled: impl FnMut(ConnKey, Ticket, Refusal)) {
        self.pending.retain(|index, pending| {
            if pending.driver != driver {
                return true;
            }
            let ticket = Ticket { index: index as u32, serial: pending.serial };
            let refusal = if pending.handed_out { Refusal::Timeout } else { Refusal::Offline };
            settled(pending.asker, ticket, refusal);
            false
        });
    }
}
