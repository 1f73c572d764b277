//! Comparing the CPU time of two servers under one load.
//!
//! What makes such a ratio noisy, measured with the bare echo against itself on a virtual machine of two
//! cores on which others compile:
//! - Every 100 ms or so somebody else takes a core, or stops to. Where both cores are two threads of one,
//!   that alone makes the same work cost up to twice as much. Hence many short windows, one side right after
//!   the other and in changing order, so that both meet the same; and a driver that never sleeps
//!   (`load.rs`). To leave out windows in which a core was taken gained nothing.
//! - Each process has its own luck with where its pages lie, worth up to 3 % for as long as it lives. Hence
//!   fresh servers for each round. (Windows of half a second between two servers that lived on were off by 4
//!   % in one run of three.)

use std::time::{Duration, Instant};

use super::Outcome;
use super::load::{Drive, Load};
use super::polling::Polling;
use super::remote::RemoteFleet;
use super::server::Server;
use super::setup::{Peer, Setup};

/// Connections that are never idle.
const CLIENTS: usize = 50;
pub const CLOSED_WINDOW: Duration = Duration::from_millis(20);

/// A plant with few devices, and one with many.
const FEW: usize = 1_000;
const MANY: usize = 19_000;

/// Requests a second from all of them together: about a fifth of what one core can do, so that no queue forms
/// and the cost of a request is its own.
pub const PACED_RATE: u32 = 40_000;
pub const PACED_WINDOW: Duration = Duration::from_millis(50);

/// How much is measured. `--only noise` shows what is left of it when a server is held against itself.
pub struct Plan {
    /// Of fresh servers.
    pub rounds: usize,
    /// The same, where the reach is far from what is found.
    pub far_rounds: usize,
    /// Of windows, in each round.
    pub pairs: usize,
    pub growth_rounds: usize,
    pub growth_pairs: usize,
    /// After this time no further round is begun: a machine that is busy with something else would need
    /// several times as long for all of them.
    pub patience: Duration,
    pub starts: usize,
    pub polling: Polling,
}

pub const LONG: Plan = Plan {
    rounds: 16,
    far_rounds: 8,
    pairs: 40,
    growth_rounds: 12,
    growth_pairs: 20,
    patience: Duration::from_secs(80),
    starts: 20,
    polling: Polling {
        devices: 5_000,
        warm_up: Duration::from_secs(15),
        slices: 15,
        readings: 20,
        writes: 1_000,
    },
};

pub const SHORT: Plan = Plan {
    rounds: 5,
    far_rounds: 3,
    pairs: 20,
    growth_rounds: 4,
    growth_pairs: 10,
    patience: Duration::from_secs(9),
    starts: 20,
    polling: Polling { devices: 500, warm_up: Duration::from_secs(3), slices: 3, readings: 5, writes: 200 },
};

/// Medians; that of the ratios is not the ratio of the other two.
#[derive(Clone, Copy)]
pub struct Comparison {
    pub ratio: f64,
    /// The left side: nanoseconds per operation, or its growth.
    pub left: f64,
    /// The right side.
    pub base: f64,
}

/// A server, and the load that it gets.
pub struct Side<'a, D> {
    pub server: &'a Server,
    pub fleet: D,
}

/// Per operation.
struct Cost {
    cpu_ns: f64,
    /// How often the server was put on its core.
    turns: f64,
}

impl Setup {
    /// CPU time per operation of one server against another's, 50 connections, `batch` operations in flight
    /// on each.
    pub fn compare(&self, left: Peer, right: Peer, batch: usize) -> Outcome<Comparison> {
        self.compare_for(self.plan.rounds, left, right, batch)
    }

    /// The same, less exactly.
    pub fn compare_roughly(&self, left: Peer, right: Peer, batch: usize) -> Outcome<Comparison> {
        self.compare_for(self.plan.far_rounds, left, right, batch)
    }

    fn compare_for(&self, most: usize, left: Peer, right: Peer, batch: usize) -> Outcome<Comparison> {
        let mut rounds = Vec::new();
        let end = Instant::now() + self.plan.patience;
        while rounds.len() < most && (rounds.is_empty() || Instant::now() < end) {
            let (left_server, right_server) = (self.serve(left)?, self.serve(right)?);
            let mut left =
                Side { fleet: self.connect(&left_server, left, CLIENTS, batch)?, server: &left_server };
            let mut right =
                Side { fleet: self.connect(&right_server, right, CLIENTS, batch)?, server: &right_server };
            let pairs =
                self.alternate(Load::Closed, CLOSED_WINDOW, &mut left, &mut right, self.plan.pairs)?;
            rounds.push(Comparison::median_of(pairs));
        }
        Ok(Comparison::median_of(rounds))
    }

    /// How the CPU time per operation grows from 1,000 to 19,000 connections at the same total rate: one
    /// server's growth against another's.
    ///
    /// Every device writes and reads its own tag, so more connections are more tags too, as
    /// in a plant. The bare echo's growth is what the kernel's sockets cost once they outgrow the caches.
    pub fn compare_growth(&self, left: Peer, right: Peer) -> Outcome<Comparison> {
        let mut rounds = Vec::new();
        let end = Instant::now() + self.plan.patience;
        while rounds.len() < self.plan.growth_rounds && (rounds.is_empty() || Instant::now() < end) {
            // The same, in changing order.
            let (left, right) = if rounds.len() % 2 == 0 {
                let left = self.growth(left)?;
                (left, self.growth(right)?)
            } else {
                let right = self.growth(right)?;
                (self.growth(left)?, right)
            };
            rounds.push(Comparison { ratio: left / right, left, base: right });
        }
        Ok(Comparison::median_of(rounds))
    }

    /// Two servers of one kind side by side, one with few connections and one with many, in alternating
    /// windows; opening 19,000 connections anew for each window would set the windows a second apart.
    fn growth(&self, peer: Peer) -> Outcome<f64> {
        let (many, few) = (self.serve(peer)?, self.serve(peer)?);
        let mut many = self.paced_side(&many, peer, MANY)?;
        let mut few = self.paced_side(&few, peer, FEW)?;
        let pairs = self.plan.growth_pairs;
        let pairs = self.alternate(Load::Paced(PACED_RATE), PACED_WINDOW, &mut many, &mut few, pairs)?;
        Ok(Comparison::median_of(pairs).ratio)
    }

    /// So many connections, which have gone once round, so that every tag is there.
    pub fn paced_side<'a>(
        &self,
        server: &'a Server,
        peer: Peer,
        connections: usize,
    ) -> Outcome<Side<'a, RemoteFleet>> {
        let mut fleet = RemoteFleet::connect(self, server, peer, connections, 1)?;
        let round = Duration::from_secs_f64(connections as f64 / f64::from(PACED_RATE));
        fleet.run(Load::Paced(PACED_RATE), round)?;
        server.settle()?;
        Ok(Side { server, fleet })
    }

    /// Windows of two servers in changing order: how the cost of an operation compares in each pair.
    pub fn alternate<L: Drive, R: Drive>(
        &self,
        load: Load,
        window: Duration,
        left: &mut Side<'_, L>,
        right: &mut Side<'_, R>,
        pairs: usize,
    ) -> Outcome<Vec<Comparison>> {
        let mut found = Vec::new();
        for pair in 0..=pairs {
            let (a, b) = if pair % 2 == 0 {
                let a = self.window(load, window, left)?;
                (a, self.window(load, window, right)?)
            } else {
                let b = self.window(load, window, right)?;
                (self.window(load, window, left)?, b)
            };
            let ratio = a.cpu_ns / b.cpu_ns;
            if self.trace {
                let (left, right) = ((a.cpu_ns, a.turns), (b.cpu_ns, b.turns));
                eprintln!(
                    "{ratio:.3} = {:.0} / {:.0} ns, turns {:.3} {:.3}",
                    left.0, right.0, left.1, right.1
                );
            }
            // The first pair warms up caches and predictors.
            if pair > 0 {
                found.push(Comparison { ratio, left: a.cpu_ns, base: b.cpu_ns });
            }
        }
        Ok(found)
    }

    fn window<D: Drive>(&self, load: Load, time: Duration, side: &mut Side<'_, D>) -> Outcome<Cost> {
        let before = side.server.usage()?;
        let operations = side.fleet.run(load, time)?;
        let after = side.server.usage()?;
        let cpu_ns = after.cpu_ns - before.cpu_ns;
        self.contention.add(after.waited_ns - before.waited_ns, cpu_ns);
        let per_operation = |sum: u64| sum as f64 / operations as f64;
        Ok(Cost { cpu_ns: per_operation(cpu_ns), turns: per_operation(after.turns - before.turns) })
    }
}

impl Comparison {
    pub fn median_of(all: Vec<Comparison>) -> Comparison {
        let of = |pick: fn(&Comparison) -> f64| median(all.iter().map(pick).collect());
        Comparison { ratio: of(|one| one.ratio), left: of(|one| one.left), base: of(|one| one.base) }
    }

    /// What the ratio is held against, where that is CPU time per operation.
    pub fn of_time(&self) -> String {
        format!("of {:.2} µs", self.base / 1000.0)
    }

    /// What the ratio is held against, where that is growth.
    pub fn of_growth(&self) -> String {
        format!("of {:.2} ×", self.base)
    }
}

pub fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    let middle = of.len() / 2;
    if of.len() % 2 == 1 { of[middle] } else { (of[middle - 1] + of[middle]) / 2.0 }
}
