//! Bugs that a test can plant: proof that the simulation would notice them. Only in tests; the hooks in the
//! engine compile to nothing elsewhere.

use std::cell::Cell;

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A change is written, and no shard is told.
    LostMark,
    /// A connection that should go on next turn is not remembered.
    ForgottenResume,
    /// Lines leave in another order than they were put.
    FlushOutOfOrder,
    /// The memory of a buffer is neither pooled nor struck off the account.
    LeakedBuffer,
    /// A ticket that was settled can be settled again.
    TicketSettledTwice,
    /// A Modbus reply goes before those that are owed.
    ReplyOvertakes,
    /// Of several registers that are written, the last one is left out.
    TornWrite,
    /// Of several tags that one request writes, one is left out.
    TagLeftOut,
    /// A raw register is written, and its tag is not.
    RegisterUnseen,
    /// A device's refusal is taken for its consent.
    RefusalUnheard,
    /// Whatever a device answers is taken for the answer to the request that was sent first.
    IdIgnored,
    /// The answer of one unit is taken for that of another.
    UnitIgnored,
    /// A shard sleeps on though something was left for it.
    LostWake,
    /// What one shard leaves for another never gets there.
    LostLetter,
    /// What was settled at another shard still takes its place there.
    LeakedPlace,
    /// A connection writes on after another has taken over its device.
    OldWriter,
    /// A sample is written in two steps, and may be read in between.
    TornSample,
    /// A sample that was replaced is back for a moment.
    OldAfterNew,
    /// A mark is cleared after the tag was read, not with it.
    MarkClearedLate,
    /// A shard is thought to serve a connection that is closed.
    UnevenLoad,
    /// Who was silent once is never asked again.
    BreakerStaysOpen,
    /// However much is written, reads wait for it.
    WritesAlwaysFirst,
    /// Requests that were in flight together and not answered count one by one.
    MissesAddUp,
}

thread_local! {
    /// The bug of this thread, how rare it is, and how often it might have struck.
    static PLANTED: Cell<Option<(Mutant, u32, u32)>> = const { Cell::new(None) };
}

/// Plant a bug in this thread, which strikes once in `one_in` times, until the guard is dropped.
pub(crate) fn plant(mutant: Mutant, one_in: u32) -> Planted {
    PLANTED.set(Some((mutant, one_in, 0)));
    Planted
}

/// A bug is there.
#[must_use = "the bug is gone when this is dropped"]
pub(crate) struct Planted;

impl Drop for Planted {
    fn drop(&mut self) {
        PLANTED.set(None);
    }
}

/// Whether this bug strikes now.
pub(crate) fn strikes(mutant: Mutant) -> bool {
    match PLANTED.get() {
        Some((planted, one_in, count)) if planted == mutant => {
            PLANTED.set(Some((planted, one_in, count + 1)));
            (count + 1) % one_in == 0
        }
        _ => false,
    }
}

/// Between two steps of a bug, so that another thread meets what is between them.
pub(crate) fn let_others_run() {
    std::thread::yield_now();
}
