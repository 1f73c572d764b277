//! Two shards against one: what an operation costs, and how many there are where cores are free.

use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};

use super::Outcome;
use super::compare::{CLOSED_WINDOW, Comparison, PACED_RATE, PACED_WINDOW, Side, median};
use super::load::{Drive, Fleet, Load};
use super::report::{self, Row};
use super::server::Server;
use super::setup::{Peer, Setup};
use super::talk::{SetGet, Tongue};

const CONNECTIONS: usize = 1_000;
const SHARDS: usize = 2;
/// Threads of load where there are cores for them: one could be what is measured.
const LOADS: usize = 2;
/// In flight on each connection, for how many operations there are.
const PIPELINED: usize = 16;

pub fn shards(setup: &Setup) -> Outcome<Vec<Row>> {
    const COST: &str = "2 shards against 1: server CPU per SET/GET at the same rate, 1,000 connections";
    const THROUGHPUT: &str = "2 shards against 1: SET/GETs a second, 1,000 connections, 16 pipelined";
    if !setup.has(&[Peer::Line]) {
        return Ok([COST, THROUGHPUT].map(|figure| Row::skipped(figure, "needs --lumina")).into());
    }
    let cores = setup.cores.of_shards();
    let cost = setup.rounds(|| {
        let (two, one) = (setup.serve_sharded(&cores, SHARDS)?, setup.serve_sharded(&cores, 1)?);
        let (mut two, mut one) = (side(setup, &two)?, side(setup, &one)?);
        let load = Load::Paced(PACED_RATE);
        setup.alternate(load, PACED_WINDOW, &mut two, &mut one, setup.plan.pairs).map(Comparison::median_of)
    })?;
    let free = setup.cores.for_throughput(SHARDS, LOADS);
    let has_cores = free.is_some();
    let (cores, of_loads) = free.unwrap_or_else(|| (setup.cores.shared(), vec![setup.cores.driver]));
    let throughput = setup.rounds(|| {
        let (two, one) = (setup.serve_sharded(&cores, SHARDS)?, setup.serve_sharded(&cores, 1)?);
        let mut two = Loads::connect(&two, &of_loads, has_cores)?;
        let mut one = Loads::connect(&one, &of_loads, has_cores)?;
        let (mut left, mut base) = (Vec::new(), Vec::new());
        for _ in 0..setup.plan.pairs {
            left.push(two.a_second()?);
            base.push(one.a_second()?);
        }
        let (left, base) = (median(left), median(base));
        Ok(Comparison { ratio: left / base, left, base })
    })?;
    let seen = format!("of {:.0} thousand a second", throughput.base / 1_000.0);
    let throughput = if has_cores {
        let seen = format!("{seen}; load from {} cores", of_loads.len());
        Row::at_least(THROUGHPUT, throughput.ratio, 1.6, report::times).made_of(seen)
    } else {
        let why = format!("{} cores, of which the load needs one", setup.cores.count());
        Row::seen(THROUGHPUT, throughput.ratio, report::times).made_of(format!("{seen}; {why}"))
    };
    Ok(vec![Row::at_most(COST, cost.ratio, 1.1, report::times).made_of(cost.of_time()), throughput])
}

fn side<'a>(setup: &Setup, server: &'a Server) -> Outcome<Side<'a, Fleet>> {
    Ok(Side { server, fleet: setup.connect(server, Peer::Line, CONNECTIONS, 1)? })
}

/// Fleets that load a server side by side, each from a core.
struct Loads {
    fleets: Vec<(CpuSet, Fleet)>,
}

impl Loads {
    /// `own_cores`: no server runs there.
    fn connect(server: &Server, cores: &[CpuSet], own_cores: bool) -> Outcome<Loads> {
        let each = CONNECTIONS / cores.len();
        let connect = |(number, &core): (usize, &CpuSet)| {
            let talk = SetGet::new(Tongue::Line, PIPELINED).beside(number * each);
            Ok((core, Fleet::connect(server.address, each, Box::new(talk), own_cores)?))
        };
        let fleets: Outcome<_> = cores.iter().enumerate().map(connect).collect();
        Ok(Loads { fleets: fleets? })
    }

    /// How many operations there were a second.
    fn a_second(&mut self) -> Outcome<f64> {
        let since = Instant::now();
        let operations: Outcome<u64> = thread::scope(|scope| {
            let load = |(core, fleet): &mut (CpuSet, Fleet)| -> Outcome<u64> {
                sched_setaffinity(None, core)?;
                fleet.run(Load::Closed, CLOSED_WINDOW)
            };
            let threads: Vec<_> =
                self.fleets.iter_mut().map(|fleet| scope.spawn(move || load(fleet))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a load does not panic")).sum()
        });
        Ok(operations? as f64 / since.elapsed().as_secs_f64())
    }
}

impl Setup {
    fn rounds(&self, measure: impl Fn() -> Outcome<Comparison>) -> Outcome<Comparison> {
        let end = Instant::now() + self.plan.patience.max(Duration::from_secs(1));
        let mut rounds = Vec::new();
        while rounds.len() < self.plan.far_rounds && (rounds.is_empty() || Instant::now() < end) {
            rounds.push(measure()?);
        }
        Ok(Comparison::median_of(rounds))
    }
}
