//! What all sessions of a run share. They run in one thread, one after another: the locks are for the
//! compiler, and none is held across a call into another session.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::ledger::Ledger;
use super::schedule::Schedule;
use crate::base::random::Random;
use crate::base::time::Tick;
use crate::cli::load::{self, Faults, Latency};
use crate::engine::Endpoint;
use crate::metrics::Counter;

/// Waiting before the second attempt to connect; twice as long before each further one.
const BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);

pub(super) struct Run {
    server: SocketAddr,
    /// What the devices' names and tags begin with.
    pub(super) root: String,
    pub(super) seed: u64,
    pub(super) schedule: Schedule,
    /// How often a device leaves and comes back, in a second.
    pub(super) churn: f64,
    /// Time that so many connections need, if the server's backlog is not to overflow.
    pub(super) ramp: Duration,
    pub(super) counts: Counts,
    pub(super) latency: Latency,
    /// How late reports were sent though the server was not behind, which is for us to answer for.
    pub(super) lateness: Latency,
    pub(super) faults: Faults,
    ledger: Mutex<Ledger>,
    verdict: Mutex<Verdict>,
}

/// Values are counted unless it says otherwise.
#[derive(Default)]
pub(super) struct Counts {
    /// Devices that are connected now.
    pub(super) online: Counter,
    /// Connections of devices, since the beginning.
    pub(super) connections: Counter,
    pub(super) sent: Counter,
    pub(super) confirmed: Counter,
    /// Sent and not answered when the connection, or the run, ended.
    pub(super) unknown: Counter,
    /// Reports sent.
    pub(super) reports: Counter,
    /// Reports whose last answer is not there yet.
    pub(super) in_flight: Counter,
    /// Reports that were due and not sent: the device was away, or the server far behind.
    pub(super) missed: Counter,
    /// Updates that subscribers saw.
    pub(super) updates: Counter,
    /// What faulty peers did.
    pub(super) faults: Counter,
}

/// What came of asking the server for what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Asking,
    Known,
    Failed(String),
}

impl Run {
    pub(super) fn new(
        server: SocketAddr,
        root: String,
        seed: u64,
        schedule: Schedule,
        churn: f64,
        ramp: Duration,
        devices: usize,
    ) -> Run {
        Run {
            server,
            root,
            seed,
            schedule,
            churn,
            ramp,
            counts: Counts::default(),
            latency: Latency::default(),
            lateness: Latency::default(),
            faults: Faults::default(),
            ledger: Mutex::new(Ledger::new(devices)),
            verdict: Mutex::new(Verdict::Asking),
        }
    }

    /// For the connection of that number: a device's is its own, all others' is 0.
    pub(super) fn endpoint(&self, number: usize) -> Endpoint {
        load::endpoint(self.server, number)
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn verdict(&self) -> MutexGuard<'_, Verdict> {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether reports are over.
    pub(super) fn is_over(&self, now: Tick) -> bool {
        now >= self.schedule.end()
    }

    /// Something is wrong with the server, or with us.
    pub(super) fn error(&self, what: impl fmt::Display) {
        self.faults.note(what);
    }

    /// How long to wait before an attempt to connect, so that all together do not overrun a server that came
    /// back.
    pub(super) fn backoff(&self, random: &mut Random, attempts: u32) -> Duration {
        let backoff = BACKOFF.saturating_mul(1 << attempts.min(16)).min(LONGEST_BACKOFF);
        backoff / 2 + random.part_of(backoff.max(self.ramp))
    }
}
