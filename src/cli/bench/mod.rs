//! `lumina bench`: load on a server, and what came of it. Here are the options.
//!
//! Connections, and subscribers beside them, are sessions of the engine that the server runs on
//! ([`super::load`]): a [`requester`] asks in a [`dialect`], a [`conductor`] says when.

mod compare;
mod conductor;
mod dialect;
mod json;
mod line;
mod modbus;
mod plan;
mod requester;
mod run;
mod subscriber;
mod summary;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use argh::FromArgs;

use super::address::Address;
use super::load::{
    self, CONNECT_EVERY, Deadlines, Family, Outcome, Progress, number, root, share, span, tell,
};
use super::{Exit, say, say_error};
use crate::base::time::Now;
use crate::engine::{Engine, Session};
use crate::protocols;
use crate::protocols::modbus::pdu::{MOST_READ_REGISTERS, MOST_WRITTEN_REGISTERS};
use crate::reactor::Clock;

use compare::Before;
use conductor::Conductor;
use plan::{Pace, Plan, Speech};
use requester::Requester;
use run::Run;
use subscriber::{Subscriber, Watch};
use summary::Summary;

const CONNECTIONS: RangeInclusive<u64> = 1..=1_000_000;
const PIPELINE: RangeInclusive<u64> = 1..=10_000;
const RATE: RangeInclusive<u64> = 1..=100_000_000;
const TAGS: RangeInclusive<u64> = 1..=10_000_000;
const SUBSCRIBERS: RangeInclusive<u64> = 0..=100_000;
/// The digits of a value, and what `max_text` allows.
const VALUE_BYTES: RangeInclusive<u64> = 20..=4_096;
const UNIT: RangeInclusive<u64> = 0..=255;
const ADDRESS: RangeInclusive<u64> = 0..=65_535;
const REGISTERS: RangeInclusive<u64> = 1..=MOST_READ_REGISTERS as u64;
/// In flight on one Modbus connection: the one that is answered is searched for. Servers are to take 1 to 16
/// (`Modbus Messaging on TCP/IP Implementation Guide`, NumberMaxOfServerTransaction).
const MOST_TRANSACTIONS: u64 = 100;
const ALL_REGISTERS: usize = 65_536;
/// What each subscriber was told last of each tag is remembered: 8 bytes.
const MOST_WATCHED: usize = 50_000_000;

const DEFAULT_NAME: &str = "bench";
const DEFAULT_TAGS: u64 = 1_000;
const DEFAULT_LINE_WRITES: f64 = 0.5;
const DEFAULT_UNIT: u64 = 1;
const DEFAULT_REGISTERS: u64 = 10;

/// Put load on a server, and say what it answers how fast.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "bench",
    example = "lumina bench 127.0.0.1:5000",
    example = "lumina bench 127.0.0.1:5000 --rate 20000 --connections 500 --pid $(pgrep -o lumina)",
    example = "lumina bench 127.0.0.1:5000 --rate 1000 --writes 100% --tags 100 --subscribers 50",
    example = "lumina bench modbus://127.0.0.1:1502 --registers 10 --json > before.json",
    example = "lumina bench modbus://127.0.0.1:1502 --registers 10 --compare before.json",
    note = "In a closed loop each connection sends its next request when one is answered, so a slow server \
is asked less. With --rate the loop is open: requests are due evenly, whatever is answered, and their times \
count from when they were due, so that waiting for a turn is in them.",
    note = "Tags are <name>/0, <name>/1 and so on; they stay on the server until it is restarted. Each \
answer is checked: that it fits its request, and that a value read was written, the newest where \
connections share no tags (--tags not below --connections). Modbus: nothing is written unless --writes \
says so; then holding registers from --address on are overwritten.",
    note = "--json prints one object: version; url; the options; duration_s, the time that was measured; \
interrupted, whether Ctrl-C ended it; requests, requests_per_s, requests_p50_us, _p90_us, _p99_us, _p999_us, \
_max_us, the same of reads, writes and updates; conflated; errors, and of them refused, \
wrong, unanswered; lost_connections; queued, unsent, late_p99_us, late_max_us (--rate); client_cpu_share, \
client_waited_share, client_was_bottleneck; server_cpu_us_per_request, server_user_us_per_request, \
server_system_us_per_request, server_cpu_share, server_rss_before_bytes, server_rss_after_bytes (--pid); \
notes; complaints. What was not measured is null.",
    note = "Ctrl-C ends the run early, with its figures; a second one ends it at once.",
    error_code(0, "all was answered, and rightly"),
    error_code(1, "something was refused, wrong, lost or not answered; or there was no run"),
    error_code(2, "the command line is wrong")
)]
pub(super) struct Bench {
    /// how many connections send requests (default: 50)
    #[argh(option, arg_name = "n", default = "50", from_str_fn(connections))]
    connections: u64,
    /// requests in flight on each connection, at most (default: 1; modbus: up to 100)
    #[argh(option, arg_name = "n", default = "1", from_str_fn(pipeline))]
    pipeline: u64,
    /// open loop: requests a second, of all connections together
    #[argh(option, arg_name = "n", from_str_fn(rate))]
    rate: Option<u64>,
    /// the share of requests that write; the others read (default: 50%; modbus: 0%)
    #[argh(option, arg_name = "share", from_str_fn(share))]
    writes: Option<f64>,
    /// line: how many tags; modbus: how many blocks of --registers, one behind another (default: 1000;
    /// modbus: 1)
    #[argh(option, arg_name = "n", from_str_fn(tags))]
    tags: Option<u64>,
    /// line: what the tags' names begin with (default: bench)
    #[argh(option, arg_name = "name", from_str_fn(root))]
    name: Option<String>,
    /// line: write texts of that length instead of numbers
    #[argh(option, arg_name = "n", from_str_fn(value_bytes))]
    value_bytes: Option<u64>,
    /// line: further connections that are told of every change (default: 0)
    #[argh(option, arg_name = "k", from_str_fn(subscribers))]
    subscribers: Option<u64>,
    /// modbus: the unit (default: 1)
    #[argh(option, arg_name = "u", from_str_fn(unit))]
    unit: Option<u64>,
    /// modbus: the first holding register, counted from 0 (default: 0)
    #[argh(option, arg_name = "a", from_str_fn(address))]
    address: Option<u64>,
    /// modbus: registers that a request reads or writes (default: 10)
    #[argh(option, arg_name = "n", from_str_fn(registers))]
    registers: Option<u64>,
    /// how long to measure (default: 10s)
    #[argh(option, arg_name = "time", default = "Duration::from_secs(10)", from_str_fn(duration))]
    duration: Duration,
    /// requests before that, which do not count (default: 1s)
    #[argh(option, arg_name = "time", default = "Duration::from_secs(1)", from_str_fn(span))]
    warm_up: Duration,
    /// decides what is read and written; the same seed gives the same requests (default: 1)
    #[argh(option, arg_name = "n", default = "1")]
    seed: u64,
    /// the server's process on this machine: shows its CPU time and memory, with all its children
    #[argh(option, arg_name = "pid")]
    pid: Option<u32>,
    /// print the figures as one JSON object
    #[argh(switch)]
    json: bool,
    /// show the figures beside those of an earlier run, a file that --json wrote
    #[argh(option, arg_name = "file")]
    compare: Option<String>,
    /// the server: line://HOST:PORT (or HOST:PORT), modbus://HOST:PORT
    #[argh(positional, arg_name = "url")]
    url: String,
}

/// Why there are no figures.
#[derive(Debug)]
enum Trouble {
    /// The command line is wrong.
    Usage(String),
    Failed(String),
}

impl Bench {
    pub(super) fn run(self) -> Exit {
        let (exit, why) = match self.measure() {
            Ok(exit) => return exit,
            Err(Trouble::Usage(why)) => (Exit::Usage, why),
            Err(Trouble::Failed(why)) => (Exit::Failed, why),
        };
        say_error(format_args!("lumina bench: {why}"));
        exit
    }

    fn measure(&self) -> Result<Exit, Trouble> {
        let server = Address::parse_any(
            &self.url,
            &[&protocols::line::PROTOCOL, &protocols::modbus::server::PROTOCOL],
        );
        let (protocol, address) = server.map_err(Trouble::Usage)?;
        let speaks_line = protocol.scheme == protocols::line::PROTOCOL.scheme;
        let speech = self.speech(speaks_line).map_err(Trouble::Usage)?;
        let before = self.compare.as_deref().map(Before::read).transpose().map_err(Trouble::Usage)?;
        let family = self.pid.map(|pid| Family::of(pid).map_err(|error| no_process(pid, &error)));
        let family = family.transpose().map_err(Trouble::Usage)?;
        let connections = (self.connections + self.subscribers.unwrap_or(0)) as usize;
        load::make_room(connections, "let there be fewer --connections").map_err(Trouble::Failed)?;
        let found = if speaks_line { load::reach(&address) } else { load::find(&address) };
        let plan = Plan {
            url: format!("{}://{address}", protocol.scheme),
            server: found.map_err(|error| Trouble::Failed(error.to_string()))?,
            connections: self.connections as usize,
            pipeline: self.pipeline as usize,
            pace: self.rate.map(|rate| Pace { rate, connections: self.connections as usize }),
            writes: self.writes(speaks_line),
            places: self.places(speaks_line),
            subscribers: self.subscribers.unwrap_or(0) as usize,
            warm_up: self.warm_up,
            duration: self.duration,
            seed: self.seed,
            speech,
        };
        self.play(plan, family, before)
    }

    fn writes(&self, speaks_line: bool) -> f64 {
        self.writes.unwrap_or(if speaks_line { DEFAULT_LINE_WRITES } else { 0.0 })
    }

    fn places(&self, speaks_line: bool) -> usize {
        self.tags.unwrap_or(if speaks_line { DEFAULT_TAGS } else { 1 }) as usize
    }

    /// What is spoken, unless the options say what cannot be.
    fn speech(&self, speaks_line: bool) -> Result<Speech, String> {
        let (writes, places) = (self.writes(speaks_line), self.places(speaks_line));
        if speaks_line {
            let of_modbus = [
                ("--unit", self.unit.is_some()),
                ("--address", self.address.is_some()),
                ("--registers", self.registers.is_some()),
            ];
            if let Some((option, _)) = of_modbus.iter().find(|(_, is_given)| *is_given) {
                return Err(format!("{option} is for modbus://, not for line://"));
            }
            let subscribers = self.subscribers.unwrap_or(0) as usize;
            if subscribers > 0 && writes == 0.0 {
                return Err("--subscribers are told of writes, and there are none: raise --writes".to_owned());
            }
            if subscribers * places > MOST_WATCHED {
                return Err(format!(
                    "{subscribers} --subscribers of {places} --tags each are more than can be checked; \
                     {MOST_WATCHED} in all are possible"
                ));
            }
            let root = self.name.clone().unwrap_or_else(|| DEFAULT_NAME.to_owned());
            return Ok(Speech::Line { root, value_bytes: self.value_bytes.map(|bytes| bytes as usize) });
        }
        let of_line = [
            ("--name", self.name.is_some()),
            ("--value-bytes", self.value_bytes.is_some()),
            ("--subscribers", self.subscribers.is_some()),
        ];
        if let Some((option, _)) = of_line.iter().find(|(_, is_given)| *is_given) {
            return Err(format!("{option} is for line://, not for modbus://"));
        }
        let (unit, address) = (self.unit.unwrap_or(DEFAULT_UNIT), self.address.unwrap_or(0));
        let registers = self.registers.unwrap_or(DEFAULT_REGISTERS) as usize;
        if writes > 0.0 && registers > usize::from(MOST_WRITTEN_REGISTERS) {
            return Err(format!(
                "{registers} --registers are more than one request can write: {MOST_WRITTEN_REGISTERS}"
            ));
        }
        if self.pipeline > MOST_TRANSACTIONS {
            return Err(format!(
                "--pipeline {} is not possible with modbus://, expected at most {MOST_TRANSACTIONS}",
                self.pipeline
            ));
        }
        if address as usize + places * registers > ALL_REGISTERS {
            return Err(format!(
                "{places} --tags of {registers} registers from --address {address} go beyond register 65535"
            ));
        }
        Ok(Speech::Modbus { unit: unit as u8, address: address as u16, registers: registers as u16 })
    }

    fn play(&self, plan: Plan, family: Option<Family>, before: Option<Before>) -> Result<Exit, Trouble> {
        let clock = Clock::start();
        let now = clock.now();
        let mut engine = load::engine(now);
        let deadlines = if plan.pace.is_some() { Deadlines::Fine } else { Deadlines::Coarse };
        let progress = Progress::new(plan.warm_up + plan.duration);
        let run = Arc::new(Run::new(plan, now));
        let watches: Vec<_> =
            (0..run.plan.subscribers).map(|_| Arc::new(Watch::new(run.plan.places))).collect();
        let mut number = 0;
        let mut dial = |session: Box<dyn Session>| {
            let at = now.tick + CONNECT_EVERY * number as u32;
            engine.dial_at(at, load::endpoint(run.plan.server, number), session);
            number += 1;
        };
        if let Speech::Line { root, .. } = &run.plan.speech {
            for watch in &watches {
                dial(Box::new(Subscriber::new(Arc::clone(&run), Arc::clone(watch), root)));
            }
        }
        for connection in 0..run.plan.connections {
            dial(Box::new(Requester::new(Arc::clone(&run), connection)));
        }
        let mut conductor = Conductor::new(Arc::clone(&run), watches, family, progress);
        let mut conduct = |_: &mut Engine, now: Now, signalled| conductor.conduct(now.tick, signalled);
        let ended = load::run(engine, clock, deadlines, &mut conduct);
        ended.map_err(|error| Trouble::Failed(error.to_string()))?;
        let summary = Summary::of(&run, &mut conductor).map_err(Trouble::Failed)?;
        let exit = tell("bench", &summary, self.json);
        if let Some(before) = before {
            let beside = before.beside(&summary.json());
            // Standard output is the object's alone.
            if self.json { say_error(format_args!("{beside}")) } else { say(format_args!("\n{beside}")) }
        }
        if self.json {
            summary.notes().iter().for_each(|note| say_error(format_args!("lumina bench: note: {note}")));
        }
        Ok(exit)
    }
}

fn no_process(pid: u32, error: &std::io::Error) -> String {
    format!("--pid {pid}: there is no such process on this machine, or it is not to be seen ({error})")
}

fn connections(text: &str) -> Result<u64, String> {
    number(text, CONNECTIONS)
}

fn pipeline(text: &str) -> Result<u64, String> {
    number(text, PIPELINE)
}

fn rate(text: &str) -> Result<u64, String> {
    number(text, RATE)
}

fn tags(text: &str) -> Result<u64, String> {
    number(text, TAGS)
}

fn subscribers(text: &str) -> Result<u64, String> {
    number(text, SUBSCRIBERS)
}

fn value_bytes(text: &str) -> Result<u64, String> {
    number(text, VALUE_BYTES)
}

fn unit(text: &str) -> Result<u64, String> {
    number(text, UNIT)
}

fn address(text: &str) -> Result<u64, String> {
    number(text, ADDRESS)
}

fn registers(text: &str) -> Result<u64, String> {
    number(text, REGISTERS)
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = span(text)?;
    if duration.is_zero() {
        return Err(format!("'{text}' is not possible, expected some time such as 10s"));
    }
    Ok(duration)
}
