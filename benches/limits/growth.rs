//! How costs grow with connections, tags, subscribers, shards and polled devices: what `scripts/growth` makes
//! its tables and charts of. Wherever it can do the same, the bare echo is measured beside it.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::Outcome;
use super::compare::{CLOSED_WINDOW, Comparison, PACED_RATE, PACED_WINDOW, Side};
use super::load::{Drive, Fleet, Load};
use super::peers::spread;
use super::polling::{Line, Slaves};
use super::remote::RemoteFleet;
use super::server::Server;
use super::setup::{Peer, Setup, talk};
use super::tags::{RandomTags, create_tags};

/// How much is measured.
struct Plan {
    connections: &'static [usize],
    tags: &'static [usize],
    subscribers: &'static [usize],
    shards: &'static [usize],
    devices: &'static [usize],
    /// Of fresh servers.
    rounds: usize,
    /// Of windows, in each round.
    pairs: usize,
    /// Until all devices are connected, and how long their polls are counted then.
    warm_up: Duration,
    polled: Duration,
}

const LONG: Plan = Plan {
    connections: &[10, 100, 1_000, 5_000, 10_000, 19_000],
    tags: &[10, 100, 1_000, 10_000, 100_000, 1_000_000],
    subscribers: &[1, 10, 100, 1_000],
    shards: &[1, 2],
    devices: &[1, 10, 100, 1_000, 5_000],
    rounds: 5,
    pairs: 20,
    warm_up: Duration::from_secs(10),
    polled: Duration::from_secs(15),
};

const SHORT: Plan = Plan {
    connections: &[10, 100, 1_000],
    tags: &[10, 1_000, 100_000],
    subscribers: &[1, 10, 100],
    shards: &[1, 2],
    devices: &[10, 100],
    rounds: 1,
    pairs: 4,
    warm_up: Duration::from_secs(2),
    polled: Duration::from_secs(2),
};

/// Where a load needs connections, but not their number is what grows.
const CLIENTS: usize = 50;
const PIPELINED: usize = 16;
const SHARD_CLIENTS: usize = 1_000;

/// What else a process has open.
const OTHER_DESCRIPTORS: u64 = 200;

/// Of polling; and until a server has told how often it polled.
const POLLED_WINDOWS: u32 = 3;
const BREATH: Duration = Duration::from_millis(300);

/// What is measured at one place of one curve, round by round. What was not measured is empty.
#[derive(Default)]
struct Point {
    series: &'static str,
    server: &'static str,
    x: usize,
    /// CPU time of an operation.
    cpu_ns: Vec<f64>,
    /// Of that to the bare echo's, window by window.
    ratio: Vec<f64>,
    /// User-space memory beyond that of a fresh server.
    bytes: Vec<f64>,
    /// Memory of the kernel for both ends of all connections.
    kernel_bytes: Vec<f64>,
    /// CPU time to accept a connection and answer its first request.
    open_ns: Vec<f64>,
}

/// Measures all of it, and writes a line for each point to the file.
pub fn run(setup: &Setup, short: bool, file: &Path) -> Outcome<()> {
    let plan = if short { SHORT } else { LONG };
    if !setup.has(&[Peer::BareEcho, Peer::Line]) {
        return Err("growth needs --lumina and --bare".into());
    }
    let begin = Instant::now();
    let (mut points, mut failed) = (Vec::new(), false);
    // With the rounds, and how many descriptors a process needs for one.
    let series: [(&str, &[usize], Series, usize, usize); 5] = [
        ("connections", plan.connections, connections, plan.rounds, 1),
        ("tags", plan.tags, tags, plan.rounds, 0),
        ("subscribers", plan.subscribers, subscribers, plan.rounds, 1),
        ("shards", plan.shards, shards, plan.rounds, 0),
        ("devices", plan.devices, devices, 1, 3),
    ];
    for (name, places, measure, rounds, descriptors) in series {
        let fits = |x: &&usize| (**x * descriptors) as u64 + OTHER_DESCRIPTORS <= setup.descriptors;
        for x in places.iter().filter(|x| !fits(x)) {
            eprintln!("growth: {x} {name} need more descriptors: left out");
        }
        // Round by round over the whole curve: what the machine does meanwhile must not bend it.
        for round in 1..=rounds {
            for &x in places.iter().filter(fits) {
                eprintln!("growth: {:3} s: {x} {name}, round {round}", begin.elapsed().as_secs());
                match measure(setup, &plan, x) {
                    Ok(found) => found.into_iter().for_each(|point| point.join(&mut points)),
                    // It does not keep us from the others.
                    Err(error) => {
                        eprintln!("growth: {x} {name}: {error}");
                        failed = true;
                    }
                }
            }
        }
    }
    let mut table = "series,server,x,cpu_ns,cpu_low,cpu_high,ratio,bytes,kernel_bytes,open_ns\n".to_owned();
    points.into_iter().for_each(|point| point.write(&mut table));
    fs::write(file, table)?;
    if failed { Err("not all could be measured; it says above what".into()) } else { Ok(()) }
}

type Series = fn(&Setup, &Plan, usize) -> Outcome<Vec<Point>>;

impl Point {
    fn new(series: &'static str, server: &'static str, x: usize) -> Point {
        Point { series, server, x, ..Point::default() }
    }

    /// Joins what was measured in earlier rounds.
    fn join(self, points: &mut Vec<Point>) {
        let same =
            |other: &&mut Point| (other.series, other.server, other.x) == (self.series, self.server, self.x);
        match points.iter_mut().find(same) {
            Some(earlier) => {
                earlier.cpu_ns.extend(self.cpu_ns);
                earlier.ratio.extend(self.ratio);
                earlier.bytes.extend(self.bytes);
                earlier.kernel_bytes.extend(self.kernel_bytes);
                earlier.open_ns.extend(self.open_ns);
            }
            None => points.push(self),
        }
    }

    fn write(self, table: &mut String) {
        let [cpu, low, high] = spread(self.cpu_ns);
        let median = |values: Vec<f64>, decimals: usize| match values.is_empty() {
            true => String::new(),
            false => format!("{:.decimals$}", spread(values)[0]),
        };
        let ratio = median(self.ratio, 4);
        let [bytes, kernel, open] =
            [self.bytes, self.kernel_bytes, self.open_ns].map(|values| median(values, 0));
        let Point { series, server, x, .. } = self;
        writeln!(table, "{series},{server},{x},{cpu:.1},{low:.1},{high:.1},{ratio},{bytes},{kernel},{open}")
            .expect("a string takes all");
    }
}

/// The load goes round all connections at the same total rate, so that what grows is their number alone.
fn connections(setup: &Setup, plan: &Plan, count: usize) -> Outcome<Vec<Point>> {
    let mut ours = Point::new("connections", "lumina", count);
    let mut bare = Point::new("connections", "bare", count);
    let (line, echo) = (setup.serve(Peer::Line)?, setup.serve(Peer::BareEcho)?);
    let mut left = open(setup, &line, Peer::Line, &mut ours)?;
    let mut right = open(setup, &echo, Peer::BareEcho, &mut bare)?;
    let pairs = setup.alternate(Load::Paced(PACED_RATE), PACED_WINDOW, &mut left, &mut right, plan.pairs)?;
    add(Comparison::median_of(pairs), &mut ours, &mut bare);
    Ok(vec![ours, bare])
}

/// Opens the connections of a point, and takes down what they cost.
fn open<'a>(
    setup: &Setup,
    server: &'a Server,
    peer: Peer,
    point: &mut Point,
) -> Outcome<Side<'a, RemoteFleet>> {
    server.settle()?;
    let (memory, usage, kernel) = (server.memory()?, server.usage()?, kernel_bytes()?);
    let mut fleet = RemoteFleet::connect(setup, server, peer, point.x, 1)?;
    server.settle()?;
    point.open_ns.push((server.usage()?.cpu_ns - usage.cpu_ns) as f64 / point.x as f64);
    point.bytes.push(server.memory()?.anonymous.saturating_sub(memory.anonymous) as f64);
    point.kernel_bytes.push(kernel_bytes()?.saturating_sub(kernel) as f64);
    // Once round, so that every tag is there.
    fleet.run(Load::Paced(PACED_RATE), Duration::from_secs(1) * point.x as u32 / PACED_RATE)?;
    server.settle()?;
    Ok(Side { server, fleet })
}

/// The kernel's objects, such as sockets. It counts them for the whole machine, whatever else goes on there.
fn kernel_bytes() -> Outcome<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Slab:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    Ok(kib.ok_or("/proc/meminfo has no Slab")? * 1024)
}

/// Each operation is on a tag that is drawn out of all of them.
fn tags(setup: &Setup, plan: &Plan, count: usize) -> Outcome<Vec<Point>> {
    let mut points = [
        Point::new("tags", "lumina", count),
        Point::new("tags", "bare", count),
        Point::new("tags-pipelined", "lumina", count),
        Point::new("tags-pipelined", "bare", count),
    ];
    let (line, echo) = (setup.serve(Peer::Line)?, setup.serve(Peer::BareEcho)?);
    line.settle()?;
    let fresh = line.memory()?.anonymous;
    create_tags(&mut TcpStream::connect(line.address)?, count)?;
    line.settle()?;
    let [single, echo_single, batch, echo_batch] = &mut points;
    single.bytes.push(line.memory()?.anonymous.saturating_sub(fresh) as f64);
    for (pipelined, ours, bare) in [(1, single, echo_single), (PIPELINED, batch, echo_batch)] {
        let talk = Box::new(RandomTags::new(count, pipelined));
        let mut left = Side { fleet: setup.connect_saying(&line, CLIENTS, talk)?, server: &line };
        let fleet = setup.connect(&echo, Peer::BareEcho, CLIENTS, pipelined)?;
        let mut right = Side { fleet, server: &echo };
        let pairs = setup.alternate(Load::Closed, CLOSED_WINDOW, &mut left, &mut right, plan.pairs)?;
        add(Comparison::median_of(pairs), ours, bare);
    }
    Ok(points.into())
}

/// An operation is one delivery of one change.
fn subscribers(setup: &Setup, plan: &Plan, count: usize) -> Outcome<Vec<Point>> {
    let mut ours = Point::new("subscribers", "lumina", count);
    let mut bare = Point::new("subscribers", "bare", count);
    add(setup.fan_out_round(count, plan.pairs)?, &mut ours, &mut bare);
    Ok(vec![ours, bare])
}

/// What more shards cost, not what they gain.
fn shards(setup: &Setup, plan: &Plan, count: usize) -> Outcome<Vec<Point>> {
    let mut ours = Point::new("shards", "lumina", count);
    let mut bare = Point::new("shards", "bare", count);
    let cores = setup.cores.of_shards();
    let (line, echo) = (setup.serve_sharded(&cores, count)?, setup.serve_on(&cores, Peer::BareEcho)?);
    line.settle()?;
    ours.bytes.push(line.memory()?.anonymous as f64);
    let own_core = setup.cores.apart;
    let fleet =
        |server: &Server, peer| Fleet::connect(server.address, SHARD_CLIENTS, talk(peer, 1), own_core);
    let mut left = Side { fleet: fleet(&line, Peer::Line)?, server: &line };
    let mut right = Side { fleet: fleet(&echo, Peer::BareEcho)?, server: &echo };
    let pairs = setup.alternate(Load::Paced(PACED_RATE), PACED_WINDOW, &mut left, &mut right, plan.pairs)?;
    add(Comparison::median_of(pairs), &mut ours, &mut bare);
    Ok(vec![ours, bare])
}

/// So many Modbus devices, one poll of 20 registers each second each; beside it the bare echo, from which as
/// many connections ask as many answers.
fn devices(setup: &Setup, plan: &Plan, count: usize) -> Outcome<Vec<Point>> {
    let mut ours = Point::new("devices", "lumina", count);
    let mut bare = Point::new("devices", "bare", count);
    let program = setup.programs.lumina.as_deref().expect("growth looks for it first");
    {
        let slaves = Slaves::start(program, setup, count, 0)?;
        let server = slaves.poll_from(program, setup)?;
        thread::sleep(plan.warm_up);
        let mut line = Line::connect(server.address)?;
        let (begin, first) = (Instant::now(), polls(&mut line, count)?);
        let mut a_second = Vec::new();
        for _ in 0..POLLED_WINDOWS {
            thread::sleep(BREATH);
            let (usage, since) = (server.usage()?, Instant::now());
            thread::sleep(plan.polled / POLLED_WINDOWS);
            let cpu_ns = server.usage()?.cpu_ns - usage.cpu_ns;
            a_second.push(cpu_ns as f64 / since.elapsed().as_secs_f64());
        }
        let (end, last) = (Instant::now(), polls(&mut line, count)?);
        let rate = (last - first) as f64 / (end - begin).as_secs_f64();
        ours.cpu_ns.extend(a_second.into_iter().map(|cpu_ns| cpu_ns / rate));
        ours.bytes.push(server.memory()?.anonymous as f64);
    }
    let echo = setup.serve(Peer::BareEcho)?;
    let mut fleet = setup.connect(&echo, Peer::BareEcho, count, 1)?;
    for _ in 0..POLLED_WINDOWS {
        echo.settle()?;
        let usage = echo.usage()?;
        let answers = fleet.run_timed(count as u32, plan.polled / POLLED_WINDOWS)?.len();
        bare.cpu_ns.push((echo.usage()?.cpu_ns - usage.cpu_ns) as f64 / answers as f64);
    }
    Ok(vec![ours, bare])
}

/// How many requests all devices got so far.
fn polls(line: &mut Line, devices: usize) -> Outcome<u64> {
    let replies = line.ask("READ $device/+/requests\n", devices + 1)?;
    let count = |reply: &String| reply.split(' ').nth(2)?.parse::<u64>().ok();
    let counts: Option<Vec<u64>> = replies[..devices].iter().map(count).collect();
    Ok(counts.ok_or("a device does not count its requests")?.iter().sum())
}

fn add(found: Comparison, ours: &mut Point, bare: &mut Point) {
    ours.cpu_ns.push(found.left);
    ours.ratio.push(found.ratio);
    bare.cpu_ns.push(found.base);
}
