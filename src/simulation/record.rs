//! What is known of a world while it runs: the time, what has happened, what was written, what must not be.
//! All of it stands behind one [`Book`], which peers, sessions and the world itself write to.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::checkers::{Known, Verdict, Violation};
use super::trace::{Shown, Trace};
use crate::engine::{End, Ticket};
use crate::tags::Refusal;

/// Names a virtual link; never used twice in a world.
pub type LinkId = usize;

/// The record of one world, shared by all who are in it.
#[derive(Clone, Default)]
pub struct Book(Arc<Mutex<Record>>);

/// What is known of a world.
#[derive(Default)]
pub struct Record {
    /// The world's time.
    pub now_us: u64,
    /// What happened.
    pub trace: Trace,
    /// The newest version of each tag that its writer has sent.
    pub newest: BTreeMap<String, i64>,
    /// The newest version of each tag of whose write the writer was told that it is done.
    pub confirmed: BTreeMap<String, i64>,
    /// Why the server ended the conversation on a link.
    pub ended: BTreeMap<LinkId, End>,
    /// Links that the world has harmed, so that nothing can be asked of them.
    pub harmed: BTreeSet<LinkId>,
    /// Links of peers that were one too many.
    pub turned_away: BTreeSet<LinkId>,
    /// Links whose reader stands still for longer than the server bears.
    pub stuck: BTreeSet<LinkId>,
    /// The engine whose turn it is.
    pub turn_of: usize,
    /// The connection that said `HELLO` last in the name of each device, and its engine.
    pub speakers: BTreeMap<String, (usize, LinkId)>,
    /// The engine that drives the device of the simulation's own protocol.
    pub plc_at: Option<usize>,
    /// The tickets of write orders that drivers were given, by engine, and what is to be written.
    pub ordered: HashMap<(usize, Ticket), (String, i64)>,
    /// What is known of the devices that the driver polls.
    pub field: Known,
    /// What polled devices say that they have written.
    pub device_did: HashSet<(String, i64)>,
    /// What became of orders, as their driver knows it: done, or how Modbus calls what went wrong. One may be
    /// given twice, by datagrams that were doubled.
    pub ends_of_orders: HashMap<(String, i64), Vec<Option<u8>>>,
    /// The tickets that who asked was told the end of, by engine.
    pub settled: HashSet<(usize, Ticket)>,
    /// What the worlds have come across: a simulation that never meets a case proves nothing of it.
    pub met: BTreeMap<String, u64>,
    /// All comes to rest: nobody begins anything.
    pub quiet: bool,
    /// The first rule that was broken.
    pub violation: Option<Violation>,
}

impl Book {
    /// The record, for as long as the guard lives; nobody calls another while holding it.
    pub fn open(&self) -> MutexGuard<'_, Record> {
        // A panic of the engine is a result of the simulation, and its trace is wanted.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something happened to `who`.
    pub fn note(&self, who: fmt::Arguments<'_>, what: fmt::Arguments<'_>) {
        self.open().note(who, what);
    }

    /// What a checker found.
    pub fn judge(&self, verdict: Verdict) {
        self.open().judge(verdict);
    }

    /// A case was met.
    pub fn meet(&self, what: impl Into<String>) {
        self.open().meet(what);
    }
}

impl Record {
    /// Something happened to `who`.
    pub fn note(&mut self, who: fmt::Arguments<'_>, what: fmt::Arguments<'_>) {
        self.trace.note(self.now_us, who, what);
    }

    /// Bytes went from one to another.
    pub fn note_bytes(&mut self, who: fmt::Arguments<'_>, arrow: &str, bytes: &[u8]) {
        self.trace.note(self.now_us, who, format_args!("{arrow} {}", Shown(bytes)));
    }

    /// What a checker found; the first violation is what counts, the others follow from it.
    pub fn judge(&mut self, verdict: Verdict) {
        if let Err(violation) = verdict {
            self.note(format_args!("VIOLATION"), format_args!("{violation}"));
            self.violation.get_or_insert(violation);
        }
    }

    /// The writer of a tag was told that a version is written.
    pub fn confirm(&mut self, tag: &str, version: i64) {
        match self.confirmed.get_mut(tag) {
            Some(confirmed) => *confirmed = version.max(*confirmed),
            None => drop(self.confirmed.insert(tag.to_owned(), version)),
        }
    }

    /// The writer of a tag was told that it is not known what came of a version. If the device has it by
    /// then, no older one may be good any more.
    pub fn outdate(&mut self, tag: &str, version: i64) {
        let write = (tag.to_owned(), version);
        if self.device_did.contains(&write) {
            let outdated = self.field.outdated.entry(write.0).or_insert(version);
            *outdated = version.max(*outdated);
        }
    }

    /// A driver, in its turn, knows what became of an order.
    pub fn end_order(&mut self, ticket: Ticket, result: &Result<(), Refusal>) {
        let write = self.ordered.get(&(self.turn_of, ticket)).expect("a driver ends what it was given");
        self.ends_of_orders.entry(write.clone()).or_default().push(exception_of(result));
    }

    /// A case was met.
    pub fn meet(&mut self, what: impl Into<String>) {
        *self.met.entry(what.into()).or_default() += 1;
    }
}

/// How Modbus calls what went wrong with a write to a device.
fn exception_of(result: &Result<(), Refusal>) -> Option<u8> {
    match result {
        Ok(()) => None,
        Err(Refusal::Device { code: Some(code), .. }) => Some(*code),
        Err(Refusal::Offline) => Some(10),
        Err(Refusal::Timeout) => Some(11),
        Err(_) => Some(4),
    }
}
