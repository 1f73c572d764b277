//! Two shards against one: what an operation costs, and how many there are where cores are free.

use std::time::{Duration, Instant};

use super::Outcome;
use super::compare::{CLOSED_WINDOW, Comparison, PACED_RATE, PACED_WINDOW, Side, median};
use super::load::{Drive, Fleet, Load};
use super::report::{self, Row};
use super::server::Server;
use super::setup::{Peer, Setup, talk};

const CONNECTIONS: usize = 1_000;
/// The driver has a core, and each of two shards.
const CORES: usize = 3;
/// In flight on each connection, for how many operations there are.
const PIPELINED: usize = 16;

pub fn shards(setup: &Setup) -> Outcome<Vec<Row>> {
    const COST: &str = "2 shards against 1: server CPU per SET/GET at the same rate, 1,000 connections";
    const THROUGHPUT: &str = "2 shards against 1: SET/GETs a second, 1,000 connections, 16 pipelined";
    if !setup.has(&[Peer::Line]) {
        return Ok([COST, THROUGHPUT].map(|figure| Row::skipped(figure, "needs --lumina")).into());
    }
    let count = setup.cores.count();
    let has_cores = count >= CORES;
    let (all, cores) = (setup.cores.shared(), setup.cores.of_shards());
    let cost = setup.rounds(|| {
        let (two, one) = (setup.serve_sharded(&cores, 2)?, setup.serve_sharded(&cores, 1)?);
        let (mut two, mut one) = (side(&two, 1, setup.cores.apart)?, side(&one, 1, setup.cores.apart)?);
        let load = Load::Paced(PACED_RATE);
        setup.alternate(load, PACED_WINDOW, &mut two, &mut one, setup.plan.pairs).map(Comparison::median_of)
    })?;
    let throughput = setup.rounds(|| {
        let (two, one) = (setup.serve_sharded(&all, 2)?, setup.serve_sharded(&all, 1)?);
        let (mut two, mut one) = (side(&two, PIPELINED, has_cores)?, side(&one, PIPELINED, has_cores)?);
        let (mut left, mut base) = (Vec::new(), Vec::new());
        for _ in 0..setup.plan.pairs {
            left.push(a_second(&mut two)?);
            base.push(a_second(&mut one)?);
        }
        let (left, base) = (median(left), median(base));
        Ok(Comparison { ratio: left / base, left, base })
    })?;
    let seen = format!("of {:.0} thousand a second", throughput.base / 1_000.0);
    let throughput = if has_cores {
        Row::at_least(THROUGHPUT, throughput.ratio, 1.6, report::times).made_of(seen)
    } else {
        let why = format!("{count} cores, of which the load needs one");
        Row::seen(THROUGHPUT, throughput.ratio, report::times).made_of(format!("{seen}; {why}"))
    };
    Ok(vec![Row::at_most(COST, cost.ratio, 1.1, report::times).made_of(cost.of_time()), throughput])
}

/// So many connections, with so many operations in flight on each once it is under load. `own_core`: the load
/// has one to itself.
fn side(server: &Server, batch: usize, own_core: bool) -> Outcome<Side<'_, Fleet>> {
    let fleet = Fleet::connect(server.address, CONNECTIONS, talk(Peer::Line, batch), own_core)?;
    Ok(Side { server, fleet })
}

fn a_second(side: &mut Side<'_, Fleet>) -> Outcome<f64> {
    let since = Instant::now();
    let operations = side.fleet.run(Load::Closed, CLOSED_WINDOW)?;
    Ok(operations as f64 / since.elapsed().as_secs_f64())
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
