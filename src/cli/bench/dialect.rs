//! How requests and answers look in a protocol: all that differs between them.

use std::collections::VecDeque;

use crate::base::time::Tick;
use crate::engine::Context;

/// A request that waits for its answer.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Where the protocol numbers requests.
    pub(super) id: u16,
    pub(super) place: usize,
    pub(super) what: What,
    pub(super) due: Tick,
    pub(super) is_measured: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// The value that is read is this at least, and, where it is known, at most.
    Read { least: u64, most: Option<u64> },
    /// This value.
    Write(u64),
}

/// What is at the front of the input.
#[derive(Debug)]
pub(super) enum Taken {
    /// The beginning of an answer.
    Part,
    /// So many bytes of an answer to that: what was read, if it is known.
    Answer(usize, Asked, Result<Option<u64>, Fault>),
    /// What is no answer. The connection cannot go on.
    Violation(Fault),
}

/// What may be wrong with an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The server does not want to.
    Refused(String),
    /// It cannot be the answer to what was asked.
    Wrong(String),
    /// It has a value that this run did not write, or not last: that is wrong too, unless somebody else
    /// writes there.
    Foreign(String),
}

pub(super) trait Dialect: Send {
    /// Whether a server carries out the requests of a connection one after another, as they were sent.
    fn keeps_order(&self) -> bool;

    /// The value to write after `last`, by a request that is due then: larger.
    fn next_value(&self, last: u64, due: Tick) -> u64;

    /// What is known of a read before the run, if only reads are to come: whether to write the places first.
    fn writes_first(&self) -> bool;

    /// No request is longer.
    fn longest_bytes(&self) -> usize;

    /// Send a request.
    fn put(&mut self, cx: &mut Context<'_>, asked: &mut Asked);

    /// Take the next answer, and the request out of those that wait for one.
    fn take(&mut self, waiting: &mut VecDeque<Asked>, input: &[u8]) -> Taken;
}
