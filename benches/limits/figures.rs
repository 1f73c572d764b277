//! The figures, one function each, and what each must reach.

use std::fs;
use std::net::TcpStream;

use super::Outcome;
use super::compare::median;
use super::polling::polling;
use super::report::{self, KIB, MIB, Row};
use super::server::Server;
use super::setup::{Peer, Setup};
use super::shards::shards;
use super::tags::{create_tags, read_some_back, tag_name};

const PIPELINED: usize = 16;

/// What a ratio of a server with itself may be off by.
const NOISE: f64 = 0.03;

/// Open and idle.
const IDLE: usize = 10_000;
/// These, or those of a server that grows to 19,000, and what else a process has open.
const IDLE_DESCRIPTORS: u64 = 10_200;
const GROWTH_DESCRIPTORS: u64 = 19_200;

/// Of one tag.
const SUBSCRIBERS: usize = 1_000;

const TAGS: usize = 1_000_000;

pub type Figure = fn(&Setup) -> Outcome<Vec<Row>>;

/// In the order of the table. The name is for `--only`.
pub const FIGURES: [(&str, Figure); 13] = [
    ("noise", noise),
    ("turn", round_trip),
    ("pipelined", pipelined),
    ("modbus", modbus),
    ("polling", polling),
    ("growth", growth),
    ("fan-out", fan_out),
    ("shards", shards),
    ("idle", idle_connections),
    ("session", idle_session),
    ("fresh", fresh),
    ("tags", tags),
    ("start", size_and_start),
];

/// The bare echo against a second one: what is left of ratios that have no reason to be other than 1.
fn noise(setup: &Setup) -> Outcome<Vec<Row>> {
    const FIGURE: &str = "noise: the bare echo against itself, 50 connections";
    const PIPELINED_FIGURE: &str = "noise: the same, 16 pipelined";
    const GROWTH_FIGURE: &str = "noise: its growth against its own growth";
    if !setup.has(&[Peer::BareEcho]) {
        return skip(&[FIGURE, PIPELINED_FIGURE, GROWTH_FIGURE], "--bare");
    }
    let single = setup.compare(Peer::BareEcho, Peer::BareEcho, 1)?;
    let batch = setup.compare(Peer::BareEcho, Peer::BareEcho, PIPELINED)?;
    let growth = setup.compare_growth(Peer::BareEcho, Peer::BareEcho)?;
    Ok(vec![
        Row::even(FIGURE, single.ratio, NOISE).made_of(single.of_time()),
        Row::even(PIPELINED_FIGURE, batch.ratio, NOISE).made_of(batch.of_time()),
        Row::even(GROWTH_FIGURE, growth.ratio, NOISE).made_of(growth.of_growth()),
    ])
}

fn round_trip(setup: &Setup) -> Outcome<Vec<Row>> {
    const FIGURE: &str = "server CPU per SET/GET round trip, 50 connections, against the bare echo";
    if !setup.has(&[Peer::Line, Peer::BareEcho]) {
        return skip(&[FIGURE], "--lumina and --bare");
    }
    let found = setup.compare(Peer::Line, Peer::BareEcho, 1)?;
    Ok(vec![Row::at_most(FIGURE, found.ratio, 1.15, report::times).made_of(found.of_time())])
}

fn pipelined(setup: &Setup) -> Outcome<Vec<Row>> {
    const FIGURE: &str = "server CPU per SET/GET, 50 connections, 16 pipelined, against Redis";
    if !setup.has(&[Peer::Line, Peer::Redis]) {
        return skip(&[FIGURE], "--lumina and --redis");
    }
    let found = setup.compare(Peer::Line, Peer::Redis, PIPELINED)?;
    Ok(vec![Row::at_most(FIGURE, found.ratio, 0.6, report::times).made_of(found.of_time())])
}

fn modbus(setup: &Setup) -> Outcome<Vec<Row>> {
    const LIBMODBUS: &str =
        "server CPU per request of 10 registers, 50 masters, against libmodbus under epoll";
    const PYMODBUS: &str = "server CPU per request of 10 registers, 50 masters, against pymodbus";
    let mut rows = Vec::new();
    if setup.has(&[Peer::Modbus, Peer::Libmodbus]) {
        let found = setup.compare(Peer::Modbus, Peer::Libmodbus, 1)?;
        rows.push(Row::at_most(LIBMODBUS, found.ratio, 0.7, report::times).made_of(found.of_time()));
    } else {
        rows.extend(skip(&[LIBMODBUS], "--lumina and --libmodbus")?);
    }
    if setup.has(&[Peer::Modbus, Peer::Pymodbus]) {
        let found = setup.compare_roughly(Peer::Modbus, Peer::Pymodbus, 1)?;
        rows.push(Row::at_most(PYMODBUS, found.ratio, 0.1, report::times).made_of(found.of_time()));
    } else {
        rows.extend(skip(&[PYMODBUS], "--lumina and --pymodbus")?);
    }
    Ok(rows)
}

fn growth(setup: &Setup) -> Outcome<Vec<Row>> {
    const FIGURE: &str = "growth of CPU per operation from 1,000 to 19,000 connections, against the echo's";
    if !setup.has(&[Peer::Line, Peer::BareEcho]) {
        return skip(&[FIGURE], "--lumina and --bare");
    }
    if setup.descriptors < GROWTH_DESCRIPTORS {
        return skip(&[FIGURE], "a hard limit of 19,200 descriptors");
    }
    let found = setup.compare_growth(Peer::Line, Peer::BareEcho)?;
    Ok(vec![Row::at_most(FIGURE, found.ratio, 1.1, report::times).made_of(found.of_growth())])
}

fn fan_out(setup: &Setup) -> Outcome<Vec<Row>> {
    const FIGURE: &str =
        "one tag to 1,000 subscribers: server CPU per update, against a bare write of the same bytes";
    if !setup.has(&[Peer::Line, Peer::BareEcho]) {
        return skip(&[FIGURE], "--lumina and --bare");
    }
    let found = setup.compare_fan_out(SUBSCRIBERS)?;
    Ok(vec![Row::at_most(FIGURE, found.ratio, 1.2, report::times).made_of(found.of_time())])
}

fn idle_connections(setup: &Setup) -> Outcome<Vec<Row>> {
    const FIGURE: &str = "user-space memory per idle connection, 10,000 that sent one PING each";
    if !setup.has(&[Peer::Line]) {
        return skip(&[FIGURE], "--lumina");
    }
    if setup.descriptors < IDLE_DESCRIPTORS {
        return skip(&[FIGURE], "a hard limit of 10,200 descriptors");
    }
    let server = setup.serve(Peer::Line)?;
    let fresh = anonymous_at_rest(&server)?;
    let fleet = setup.connect(&server, Peer::Line, IDLE, 1)?;
    let held = anonymous_at_rest(&server)?.saturating_sub(fresh);
    drop(fleet);
    Ok(vec![Row::at_most(FIGURE, held as f64 / IDLE as f64, 256.0, report::bytes)])
}

/// The echo's session is an object without size, which takes no memory at all; all else about its connection
/// is what any connection takes. So what a Modbus connection takes beyond it is its session, with what that
/// keeps on the heap and what the allocator puts around it.
fn idle_session(setup: &Setup) -> Outcome<Vec<Row>> {
    const FIGURE: &str = "an idle Modbus session: what its connection takes beyond an echo's, 10,000 open";
    if !setup.has(&[Peer::Modbus, Peer::Echo]) {
        return skip(&[FIGURE], "--lumina");
    }
    if setup.descriptors < IDLE_DESCRIPTORS {
        return skip(&[FIGURE], "a hard limit of 10,200 descriptors");
    }
    let modbus = one_more_takes(setup, Peer::Modbus)?;
    let echo = one_more_takes(setup, Peer::Echo)?;
    let detail = format!("{} against {}", report::bytes(modbus), report::bytes(echo));
    Ok(vec![Row::at_most(FIGURE, modbus - echo, 128.0, report::bytes).made_of(detail)])
}

/// User-space memory that one more connection takes, which makes one request: the median over blocks of the
/// second half of many. Where the list of connections has to grow, it leaves holes in the heap, and the first
/// sessions fill them: over all connections that would hide a third of a session.
fn one_more_takes(setup: &Setup, peer: Peer) -> Outcome<f64> {
    const BLOCK: usize = 1_000;
    let server = setup.serve(peer)?;
    let mut fleets = vec![setup.connect(&server, peer, IDLE / 2, 1)?];
    let mut before = anonymous_at_rest(&server)?;
    let mut growth = Vec::new();
    for _ in 0..IDLE / 2 / BLOCK {
        fleets.push(setup.connect(&server, peer, BLOCK, 1)?);
        let now = anonymous_at_rest(&server)?;
        growth.push((now as f64 - before as f64) / BLOCK as f64);
        before = now;
    }
    Ok(median(growth))
}

fn anonymous_at_rest(server: &Server) -> Outcome<u64> {
    server.settle()?;
    Ok(server.memory()?.anonymous)
}

fn fresh(setup: &Setup) -> Outcome<Vec<Row>> {
    const RESIDENT: &str = "a fresh server: resident";
    const ANONYMOUS: &str = "a fresh server: its anonymous part";
    let Some(program) = &setup.programs.lumina else {
        return skip(&[RESIDENT, ANONYMOUS], "--lumina");
    };
    let server = Server::lumina(&setup.cores, program, &["--listen", "line://127.0.0.1:0"], &setup.work)?;
    server.settle()?;
    let memory = server.memory()?;
    Ok(vec![
        Row::at_most(RESIDENT, memory.resident as f64, 3.0 * MIB, report::bytes),
        Row::at_most(ANONYMOUS, memory.anonymous as f64, 512.0 * KIB, report::bytes),
    ])
}

fn tags(setup: &Setup) -> Outcome<Vec<Row>> {
    const FIGURE: &str = "memory per tag at 1,000,000 tags, name included";
    if !setup.has(&[Peer::Line]) {
        return skip(&[FIGURE], "--lumina");
    }
    let server = setup.serve(Peer::Line)?;
    let fresh = anonymous_at_rest(&server)?;
    let mut stream = TcpStream::connect(server.address)?;
    create_tags(&mut stream, TAGS)?;
    let held = anonymous_at_rest(&server)?.saturating_sub(fresh);
    read_some_back(&mut stream, TAGS)?;
    let detail = format!("names of {} bytes", tag_name(0).len());
    Ok(vec![Row::at_most(FIGURE, held as f64 / TAGS as f64, 200.0, report::bytes).made_of(detail)])
}

fn size_and_start(setup: &Setup) -> Outcome<Vec<Row>> {
    const SIZE: &str = "binary, stripped";
    const START: &str = "from exec to listening";
    let Some(program) = &setup.programs.lumina else {
        return skip(&[SIZE, START], "--lumina");
    };
    let mut starts = Vec::new();
    for _ in 0..setup.plan.starts {
        let server = Server::lumina(&setup.cores, program, &["--listen", "line://127.0.0.1:0"], &setup.work)?;
        starts.push(server.start.as_secs_f64() * 1000.0);
    }
    let detail = format!("median of {}", starts.len());
    Ok(vec![
        Row::at_most(SIZE, fs::metadata(program)?.len() as f64, 2.0 * MIB, report::bytes),
        Row::at_most(START, median(starts), 20.0, report::milliseconds).made_of(detail),
    ])
}

fn skip(figures: &[&str], wants: &str) -> Outcome<Vec<Row>> {
    Ok(figures.iter().map(|figure| Row::skipped(figure, &format!("needs {wants}"))).collect())
}
