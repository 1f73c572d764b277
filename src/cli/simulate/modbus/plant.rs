//! What all connections of a run share. They run in one thread, one after another: the locks are for the
//! compiler, and none is held across a call into another session.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::faults::{FAULTS, Fault};
use super::slave::Slave;
use super::spread::Places;
use crate::base::random::Random;
use crate::cli::load::Latency;
use crate::metrics::Counter;

/// An answer takes this much less or more than the latency, as a share of it.
const JITTER: f64 = 0.2;

/// All slaves.
pub(super) struct Plant {
    pub(super) places: Places,
    slaves: Box<[Mutex<Slave>]>,
    latency: Duration,
    /// After which pollers take an answer for missing.
    timeout: Duration,
    pub(super) counts: Counts,
    /// How late answers were sent, which is for us to answer for.
    pub(super) lateness: Latency,
}

/// Requests are counted unless it says otherwise.
#[derive(Default)]
pub(super) struct Counts {
    /// Connections since the beginning.
    pub(super) connections: Counter,
    /// Slaves that were asked anything.
    pub(super) asked: Counter,
    pub(super) requests: Counter,
    /// Right answers sent, exceptions included.
    pub(super) answers: Counter,
    /// Those with an exception, whatever it was for.
    pub(super) exceptions: Counter,
    /// Refused because too many were waiting for their answers.
    pub(super) overruns: Counter,
    /// For units that are not there.
    pub(super) elsewhere: Counter,
    /// Answers that were waiting when their connection ended.
    pub(super) unsent: Counter,
    /// Connections closed because what came is not Modbus.
    pub(super) violations: Counter,
    /// Connections to addresses where no slave is.
    pub(super) strays: Counter,
    /// Places that masters have written.
    pub(super) written: Counter,
    /// In the order of [`FAULTS`].
    pub(super) faults: [FaultCounts; FAULTS.len()],
}

/// Of all slaves with a fault.
#[derive(Default)]
pub(super) struct FaultCounts {
    /// How many slaves.
    pub(super) slaves: Counter,
    pub(super) requests: Counter,
    /// Those at which the fault struck.
    pub(super) deeds: Counter,
}

impl Counts {
    pub(super) fn of(&self, fault: Fault) -> &FaultCounts {
        &self.faults[fault as usize]
    }
}

impl Plant {
    /// The slaves of these places, each with its fault.
    pub(super) fn new(
        places: Places,
        seed: u64,
        faults: Vec<Option<Fault>>,
        latency: Duration,
        timeout: Duration,
    ) -> Plant {
        assert_eq!(faults.len(), places.slaves() as usize, "each slave has a fault or none");
        let counts = Counts::default();
        for fault in faults.iter().flatten() {
            counts.of(*fault).slaves.add(1);
        }
        let slaves = (1..).zip(faults).map(|(number, fault)| Mutex::new(Slave::new(seed, number, fault)));
        let slaves = slaves.collect();
        Plant { places, slaves, latency, timeout, counts, lateness: Latency::default() }
    }

    /// A slave by its number, from 1.
    pub(super) fn slave(&self, number: u32) -> MutexGuard<'_, Slave> {
        self.slaves[number as usize - 1].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long an answer takes.
    pub(super) fn delay(&self, random: &mut Random) -> Duration {
        if self.latency.is_zero() {
            return Duration::ZERO;
        }
        self.latency.mul_f64(1.0 - JITTER + 2.0 * JITTER * random.unit())
    }

    /// How much longer a fault makes an answer take, where it strikes.
    pub(super) fn fault_delay(&self, fault: Fault, random: &mut Random) -> Duration {
        fault.delay(random, self.timeout)
    }
}
