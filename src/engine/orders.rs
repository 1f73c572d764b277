//! Orders and questions on their way to whoever drives the device, and what came of them on its way back. The
//! driver may be on another shard; then both ways are letters.
//!
//! An engine has at most [`MOST_ELSEWHERE`] letters of its own under way to each other shard, an answer that
//! is still to come included. So no mailbox can overflow, and what is settled always finds room.

use std::sync::Arc;
use std::time::Duration;

use super::pending_writes::{Asker, Carrier, Driven, Question, Ticket, Wanted, WriteOrder};
use super::session::ConnKey;
use super::shard::{Errand, Shard};
use super::shared::Letter;
#[cfg(test)]
use crate::base::mutants::{self, Mutant};
use crate::tags::value::{Input, Value};
use crate::tags::{Limit, OwnerId, Refusal, TagId};

/// Orders and questions that one shard may have pending at another.
pub(super) const MOST_ELSEWHERE: usize = 4_096;

/// What came of an order or a question.
pub(super) enum Outcome {
    Settled(Result<(), Refusal>),
    Answered(Result<Box<[u8]>, Refusal>),
}

impl Outcome {
    fn refused(wanted: Wanted, refusal: Refusal) -> Outcome {
        match wanted {
            Wanted::Write => Outcome::Settled(Err(refusal)),
            Wanted::Answer => Outcome::Answered(Err(refusal)),
        }
    }

    fn wanted(&self) -> Wanted {
        match self {
            Outcome::Settled(_) => Wanted::Write,
            Outcome::Answered(_) => Wanted::Answer,
        }
    }
}

impl Shard {
    /// Whether an order for a device would be admitted: it is driven, on whatever shard, and its driver could
    /// send the value.
    pub(super) fn check_order(&self, owner: OwnerId, tag: TagId, value: &Input<'_>) -> Result<(), Refusal> {
        let carrier = self.carrier(owner).ok_or(Refusal::Offline)?;
        self.check_room(carrier)?;
        self.shared.check(owner, tag, value)
    }

    fn check_room(&self, carrier: Carrier) -> Result<(), Refusal> {
        match carrier {
            Carrier::Shard(to) if self.elsewhere[to] == MOST_ELSEWHERE => {
                Err(Refusal::Limit(Limit::PendingWrites(MOST_ELSEWHERE)))
            }
            _ => Ok(()),
        }
    }

    fn carrier(&self, owner: OwnerId) -> Option<Carrier> {
        match self.driver(owner) {
            Some(driver) => Some(Carrier::Connection(driver)),
            None => self.shared.driver(owner).filter(|&shard| shard != self.number).map(Carrier::Shard),
        }
    }

    fn driver(&self, owner: OwnerId) -> Option<ConnKey> {
        self.drivers.get(usize::from(owner.0)).copied().flatten()
    }

    /// Orders for the tags of `owner` go to that connection from now on.
    pub(super) fn attach(&mut self, owner: OwnerId, driver: ConnKey, device: Arc<dyn Driven>) {
        let index = usize::from(owner.0);
        if self.drivers.len() <= index {
            self.drivers.resize(index + 1, None);
        }
        self.drivers[index] = Some(driver);
        self.shared.attach(owner, self.number, device);
    }

    /// A driver is gone. Another may have taken its place; the orders that it has go with it all the same.
    pub(super) fn detach_all(&mut self, driver: ConnKey) {
        for (index, place) in self.drivers.iter_mut().enumerate() {
            if *place == Some(driver) {
                *place = None;
                self.shared.detach(OwnerId(index as u16), self.number);
            }
        }
        let mut abandoned = Vec::new();
        self.pending_writes.abandon(driver, |asker, ticket, wanted, refusal| {
            abandoned.push((asker, ticket, Outcome::refused(wanted, refusal)));
        });
        for (asker, ticket, outcome) in abandoned {
            self.tell(asker, ticket, outcome);
        }
    }

    /// `asker` wants a value written to a device.
    pub(super) fn order(
        &mut self,
        asker: ConnKey,
        owner: OwnerId,
        tag: TagId,
        value: Value,
    ) -> Result<Ticket, Refusal> {
        let (ticket, carrier) = self.admit(asker, owner, Wanted::Write)?;
        match carrier {
            Carrier::Connection(driver) => {
                self.errands.push_back(Errand::Order(driver, WriteOrder { ticket, tag, value }));
                Ok(ticket)
            }
            Carrier::Shard(to) => {
                let from = self.number as u16;
                self.send(to, ticket, Letter::Order { from, ticket, owner, tag, value })
            }
        }
    }

    /// `asker` wants to know something of a device.
    pub(super) fn question(
        &mut self,
        asker: ConnKey,
        owner: OwnerId,
        bytes: Box<[u8]>,
        max_age: Duration,
    ) -> Result<Ticket, Refusal> {
        let (ticket, carrier) = self.admit(asker, owner, Wanted::Answer)?;
        let question = Question { ticket, owner, bytes, max_age };
        match carrier {
            Carrier::Connection(driver) => {
                self.errands.push_back(Errand::Question(driver, question));
                Ok(ticket)
            }
            Carrier::Shard(to) => {
                let from = self.number as u16;
                self.send(to, ticket, Letter::Question { from, question })
            }
        }
    }

    fn admit(
        &mut self,
        asker: ConnKey,
        owner: OwnerId,
        wanted: Wanted,
    ) -> Result<(Ticket, Carrier), Refusal> {
        let carrier = self.carrier(owner).ok_or(Refusal::Offline)?;
        self.check_room(carrier)?;
        let ticket = self.pending_writes.admit(Asker::Connection(asker), carrier, wanted)?;
        if let Carrier::Shard(to) = carrier {
            self.elsewhere[to] += 1;
        }
        Ok((ticket, carrier))
    }

    fn send(&mut self, to: usize, ticket: Ticket, letter: Letter) -> Result<Ticket, Refusal> {
        if let Err(letter) = self.shared.post(to, letter) {
            let wanted = if let Letter::Order { .. } = letter { Wanted::Write } else { Wanted::Answer };
            self.strike_off(ticket, wanted);
            return Err(Refusal::Offline);
        }
        Ok(ticket)
    }

    /// What a driver says came of what it was given; the second time does nothing.
    pub(super) fn settle(&mut self, ticket: Ticket, outcome: Outcome) {
        if let Some(asker) = self.strike_off(ticket, outcome.wanted()) {
            self.tell(asker, ticket, outcome);
        }
    }

    fn strike_off(&mut self, ticket: Ticket, wanted: Wanted) -> Option<Asker> {
        let (asker, carrier) = self.pending_writes.settle(ticket, wanted)?;
        if let Carrier::Shard(to) = carrier {
            #[cfg(test)]
            if mutants::strikes(Mutant::LeakedPlace) {
                return Some(asker);
            }
            self.elsewhere[to] -= 1;
        }
        Some(asker)
    }

    fn tell(&mut self, asker: Asker, ticket: Ticket, outcome: Outcome) {
        match (asker, outcome) {
            (Asker::Connection(key), Outcome::Settled(result)) => {
                self.errands.push_back(Errand::Settled(key, ticket, result));
            }
            (Asker::Connection(key), Outcome::Answered(result)) => {
                self.errands.push_back(Errand::Answered(key, ticket, result));
            }
            (Asker::Shard(to, its_ticket), outcome) => {
                let letter = match outcome {
                    Outcome::Settled(result) => Letter::Settled(its_ticket, result),
                    Outcome::Answered(result) => Letter::Answered(its_ticket, result),
                };
                // Where the shard is over, whoever asked is gone.
                let _ = self.shared.post(usize::from(to), letter);
            }
        }
    }

    /// Make errands of what other shards have left here.
    pub(super) fn open_letters(&mut self) {
        let mut letters = std::mem::take(&mut self.letters);
        self.shared.take_letters(self.number, &mut letters);
        for letter in letters.drain(..) {
            match letter {
                Letter::Order { from, ticket, owner, tag, value } => {
                    let asker = Asker::Shard(from, ticket);
                    if let Some((driver, ticket)) = self.take_on(asker, owner, Wanted::Write) {
                        let order = WriteOrder { ticket, tag, value };
                        self.errands.push_back(Errand::Order(driver, order));
                    }
                }
                Letter::Question { from, question } => {
                    let asker = Asker::Shard(from, question.ticket);
                    if let Some((driver, ticket)) = self.take_on(asker, question.owner, Wanted::Answer) {
                        self.errands.push_back(Errand::Question(driver, Question { ticket, ..question }));
                    }
                }
                Letter::Settled(ticket, result) => self.settle(ticket, Outcome::Settled(result)),
                Letter::Answered(ticket, result) => self.settle(ticket, Outcome::Answered(result)),
                Letter::TakenOver(key) => self.taken_over.push(key),
            }
        }
        self.letters = letters;
    }

    /// Something that another shard wants of a device: who drives it, and the ticket that it settles.
    fn take_on(&mut self, asker: Asker, owner: OwnerId, wanted: Wanted) -> Option<(ConnKey, Ticket)> {
        let driver = self.driver(owner).ok_or(Refusal::Offline);
        let admitted = driver.and_then(|driver| {
            let ticket = self.pending_writes.admit(asker, Carrier::Connection(driver), wanted)?;
            Ok((driver, ticket))
        });
        match admitted {
            Ok(admitted) => Some(admitted),
            Err(refusal) => {
                self.refuse(asker, Outcome::refused(wanted, refusal));
                None
            }
        }
    }

    /// The shard is over: refuse what others have left here, and what they would leave.
    pub(super) fn close_mailbox(&mut self) {
        for letter in self.shared.close_mailbox(self.number) {
            match letter {
                Letter::Order { from, ticket, .. } => {
                    let outcome = Outcome::refused(Wanted::Write, Refusal::Offline);
                    self.refuse(Asker::Shard(from, ticket), outcome);
                }
                Letter::Question { from, question } => {
                    let outcome = Outcome::refused(Wanted::Answer, Refusal::Offline);
                    self.refuse(Asker::Shard(from, question.ticket), outcome);
                }
                Letter::Settled(..) | Letter::Answered(..) | Letter::TakenOver(_) => {}
            }
        }
    }

    /// Another shard is told, by its own ticket; there is none here.
    fn refuse(&mut self, asker: Asker, outcome: Outcome) {
        if let Asker::Shard(_, its_ticket) = asker {
            self.tell(asker, its_ticket, outcome);
        }
    }
}
