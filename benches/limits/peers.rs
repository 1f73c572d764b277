//! Lumina beside other servers, each under the same load: what `scripts/peers` makes its table and charts of.
//!
//! The load is that of the figures (`talk.rs`): a value is written and read in turn, in the words of each
//! server, one operation after the other or 16 in one write. Every server is measured in alternating windows
//! with the bare echo, so that what else the machine does meets both.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::Outcome;
use super::compare::{CLOSED_WINDOW, Comparison, Side, median};
use super::load::{Fleet, Load};
use super::server::Server;
use super::setup::{Peer, Setup};

/// How much is measured.
struct Plan {
    /// Of fresh servers.
    rounds: usize,
    /// Of windows, in each round and load.
    pairs: usize,
    /// Of a timed load, in each round.
    slices: usize,
    /// Connections that are open and idle, when memory is measured.
    idle: usize,
}

const LONG: Plan = Plan { rounds: 8, pairs: 20, slices: 10, idle: 5_000 };
const SHORT: Plan = Plan { rounds: 1, pairs: 4, slices: 1, idle: FEW_IDLE };

/// In the order of the table.
const PEERS: [Peer; 9] = [
    Peer::BareEcho,
    Peer::Echo,
    Peer::ThreadEcho,
    Peer::Line,
    Peer::Redis,
    Peer::Mosquitto,
    Peer::Modbus,
    Peer::Libmodbus,
    Peer::Pymodbus,
];

/// Connections, and operations in one write of each.
const LOADS: [(usize, usize); 3] = [(50, 1), (50, 16), (1_000, 1)];

/// Requests a second for which the latency is measured, from all of `TIMED_CONNECTIONS`: few enough for the
/// slowest.
const TIMED_RATE: u32 = 5_000;
const TIMED_CONNECTIONS: usize = 1_000;
/// Each has a 99th percentile of its own: where somebody else takes a core for some milliseconds now and
/// then, the median of them is the server's.
const TIMED_SLICE: Duration = Duration::from_millis(200);

/// What libmodbus waits with knows no descriptor above 1,023, and each connection is a thread of the echo
/// with threads.
const FEW_IDLE: usize = 1_000;
/// What else a process has open.
const OTHER_DESCRIPTORS: usize = 200;

/// What one peer showed: costs and memory round by round, latencies slice by slice.
#[derive(Default)]
struct Found {
    /// In the order of `LOADS`; nothing where a peer takes no such load.
    costs: [Vec<Comparison>; LOADS.len()],
    p99_us: Vec<f64>,
    idle_bytes: Vec<f64>,
    fresh_bytes: Vec<f64>,
}

/// Measures all peers that are there, and writes a line for each to the file.
pub fn run(setup: &Setup, short: bool, file: &Path) -> Outcome<()> {
    let plan = if short { SHORT } else { LONG };
    if !setup.has(&[Peer::BareEcho, Peer::Line]) {
        return Err("the peers are held against --bare and --lumina".into());
    }
    let descriptors = plan.descriptors();
    if setup.descriptors < descriptors as u64 {
        return Err(format!("the peers need a hard limit of {descriptors} descriptors").into());
    }
    let peers: Vec<Peer> = PEERS.into_iter().filter(|&peer| setup.has(&[peer])).collect();
    let mut found: Vec<Found> = peers.iter().map(|_| Found::default()).collect();
    for round in 1..=plan.rounds {
        for (&peer, found) in peers.iter().zip(&mut found) {
            eprintln!("peers: round {round} of {}: {}", plan.rounds, peer.name());
            found.round(setup, &plan, peer).map_err(|error| format!("{}: {error}", peer.name()))?;
        }
    }
    let mut table = "peer,connections,pipelined,floor_ns,cpu_ns,ratio,ratio_low,ratio_high,p99_us,p99_low,\
                     p99_high,idle_bytes,fresh_bytes\n"
        .to_owned();
    let floors: [f64; LOADS.len()] = std::array::from_fn(|load| {
        let all = found.iter().flat_map(|found| &found.costs[load]);
        median(all.map(|cost| cost.base).collect())
    });
    for (peer, found) in peers.into_iter().zip(found) {
        found.write(peer, &floors, &mut table);
    }
    Ok(fs::write(file, table)?)
}

impl Plan {
    /// How many the driver needs, which has a fleet at a server and as large a one at the bare echo.
    fn descriptors(&self) -> usize {
        let loads = LOADS.into_iter().map(|(connections, _)| 2 * connections);
        loads.fold(self.idle, usize::max) + OTHER_DESCRIPTORS
    }
}

impl Found {
    fn round(&mut self, setup: &Setup, plan: &Plan, peer: Peer) -> Outcome<()> {
        self.memory(setup, plan, peer)?;
        let (server, bare) = (setup.serve(peer)?, setup.serve(Peer::BareEcho)?);
        for ((connections, batch), costs) in LOADS.into_iter().zip(&mut self.costs) {
            if batch > 1 && !pipelines(peer) {
                continue;
            }
            let mut left = side(setup, &server, peer, connections, batch)?;
            let mut right = side(setup, &bare, Peer::BareEcho, connections, batch)?;
            let pairs = setup.alternate(Load::Closed, CLOSED_WINDOW, &mut left, &mut right, plan.pairs)?;
            costs.push(Comparison::median_of(pairs));
            drop((left, right));
            // Its threads may have to end.
            server.settle()?;
        }
        let mut fleet = setup.connect(&server, peer, TIMED_CONNECTIONS, 1)?;
        for _ in 0..plan.slices {
            let mut took = fleet.run_timed(TIMED_RATE, TIMED_SLICE)?;
            took.sort_unstable();
            self.p99_us.push(took[(took.len() - 1) * 99 / 100].as_secs_f64() * 1e6);
        }
        Ok(())
    }

    /// Of a server that has done nothing else.
    fn memory(&mut self, setup: &Setup, plan: &Plan, peer: Peer) -> Outcome<()> {
        let server = setup.serve(peer)?;
        server.settle()?;
        let fresh = server.memory()?;
        // What the first peer needs, once for all, is not what one more takes.
        let first = setup.connect(&server, peer, 1, 1)?;
        server.settle()?;
        let before = server.memory()?.anonymous;
        let idle = if matches!(peer, Peer::Libmodbus | Peer::ThreadEcho) { FEW_IDLE } else { plan.idle };
        let others = setup.connect(&server, peer, idle, 1)?;
        server.settle()?;
        let grown = server.memory()?.anonymous.saturating_sub(before);
        drop((first, others));
        self.fresh_bytes.push(fresh.resident as f64);
        self.idle_bytes.push(grown as f64 / idle as f64);
        Ok(())
    }

    /// `floors` is what an operation costs the bare echo under each load, over the whole run. What it costs
    /// the peer is said as its ratio to that: the machine is not as fast in each round, and only ratios are
    /// of one and the same moment. The bare echo as a peer is held against a second one, which shows how
    /// exact that is.
    fn write(self, peer: Peer, floors: &[f64], table: &mut String) {
        let [p99, p99_low, p99_high] = spread(self.p99_us);
        let (idle, fresh) = (median(self.idle_bytes), median(self.fresh_bytes));
        for (((connections, batch), costs), floor) in LOADS.into_iter().zip(self.costs).zip(floors) {
            if costs.is_empty() {
                continue;
            }
            let [ratio, low, high] = spread(costs.iter().map(|cost| cost.ratio).collect());
            let cpu = floor * ratio;
            writeln!(
                table,
                "{},{connections},{batch},{floor:.1},{cpu:.1},{ratio:.4},{low:.4},{high:.4},{p99:.1},\
                 {p99_low:.1},{p99_high:.1},{idle:.0},{fresh:.0}",
                peer.name()
            )
            .expect("a string takes all");
        }
    }
}

fn side<'a>(
    setup: &Setup,
    server: &'a Server,
    peer: Peer,
    connections: usize,
    batch: usize,
) -> Outcome<Side<'a, Fleet>> {
    Ok(Side { fleet: setup.connect(server, peer, connections, batch)?, server })
}

/// A Modbus master waits for its reply.
fn pipelines(peer: Peer) -> bool {
    !matches!(peer, Peer::Modbus | Peer::Libmodbus | Peer::Pymodbus)
}

/// The median, and the quartiles around it.
pub fn spread(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len() - 1;
    let (low, high) = (values[last / 4], values[last - last / 4]);
    [median(values), low, high]
}
