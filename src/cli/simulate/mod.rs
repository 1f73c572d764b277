//! `lumina simulate`: thousands of devices in one process, as sessions of the engine that the server runs on.

mod audit;
mod conductor;
mod device;
mod faulty;
mod ledger;
mod machine;
mod progress;
mod run;
mod schedule;
mod subscriber;
mod summary;
#[cfg(test)]
mod tests;

use std::io::Write;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use argh::FromArgs;

use super::address::Address;
use super::load;
use super::{Exit, say_error};
use crate::base::time::Tick;
use crate::engine::Engine;
use crate::reactor::{Clock, raise_descriptor_limit};
use crate::tags::name::DeviceName;

use conductor::Conductor;
use device::Device;
use faulty::Faulty;
use progress::Progress;
use run::Run;
use schedule::Schedule;
use subscriber::{Scope, Subscriber, Watch};
use summary::Summary;

/// Connections are made at 5,000 a second: a server accepts them faster, and its backlog holds as many.
const CONNECT_EVERY: Duration = Duration::from_micros(200);
/// From the last connection until the first reports are due.
const SETTLE: Duration = Duration::from_millis(300);
/// The audit's connection.
const OTHER_CONNECTIONS: usize = 1;

const DEVICES: RangeInclusive<u64> = 1..=1_000_000;
const INTERVAL_MS: RangeInclusive<u64> = 1..=3_600_000;
const SECS: RangeInclusive<u64> = 0..=31_536_000;
const SUBSCRIBERS: RangeInclusive<u64> = 0..=100_000;

/// Simulate devices that report to a server, and check that what it confirmed is there.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "simulate",
    example = "lumina simulate --devices 5000 --secs 60",
    example = "lumina simulate --devices 200 --interval 100 --churn 1% --faults --subscribers 4 gateway",
    note = "Device 123 says HELLO sim-00123, and sets sim/00123/temperature, level, parts, state, pressure. \
Answer times count from when a report was due, not from when it was sent.",
    note = "Ctrl-C ends the run early, with the check and the summary; a second one ends it at once.",
    error_code(0, "all is fine"),
    error_code(1, "something confirmed was lost, or anything else went wrong"),
    error_code(2, "the command line is wrong")
)]
pub(super) struct Simulate {
    /// how many devices (default: 100)
    #[argh(option, arg_name = "n", default = "100", from_str_fn(devices))]
    devices: u64,
    /// milliseconds between two reports of a device, each of five values (default: 1000)
    #[argh(option, arg_name = "ms", default = "1_000", from_str_fn(interval))]
    interval: u64,
    /// how long they report (default: 30; 0: until Ctrl-C)
    #[argh(option, arg_name = "s", default = "30", from_str_fn(secs))]
    secs: u64,
    /// print the summary as one JSON object
    #[argh(switch)]
    json: bool,
    /// the share of devices that leave and come back in a second, such as 1%
    #[argh(option, arg_name = "share", default = "0.0", from_str_fn(share))]
    churn: f64,
    /// add faulty peers, one for 20 devices: half lines, resets, stalls, garbage
    #[argh(switch)]
    faults: bool,
    /// add readers that subscribe to patterns, and check that they see values in order
    #[argh(option, arg_name = "k", default = "0", from_str_fn(subscribers))]
    subscribers: u64,
    /// what the names of devices and tags begin with (default: sim)
    #[argh(option, arg_name = "name", default = "String::from(\"sim\")", from_str_fn(root))]
    name: String,
    /// decides all chance; the same seed gives the same devices (default: 1)
    #[argh(option, arg_name = "n", default = "1")]
    seed: u64,
    /// the server (default: line://127.0.0.1:5000)
    #[argh(positional, arg_name = "url", default = "Address::default()", from_str_fn(Address::parse))]
    server: Address,
}

impl Simulate {
    pub(super) fn run(self) -> Exit {
        match self.simulate() {
            Ok(exit) => exit,
            Err(why) => {
                say_error(format_args!("lumina simulate: {why}"));
                Exit::Failed
            }
        }
    }

    fn simulate(&self) -> Result<Exit, String> {
        let devices = self.devices as usize;
        let faulty = if self.faults { faulty::how_many(devices) } else { 0 };
        let connections = devices + self.subscribers as usize + faulty + OTHER_CONNECTIONS;
        let descriptors = raise_descriptor_limit(0);
        if connections > descriptors.connections {
            let limit = descriptors.limit;
            return Err(format!(
                "{connections} connections do not fit below the limit of {limit} descriptors; raise it with \
                 'ulimit -n', or start a second process with another --name"
            ));
        }
        let address = load::reach(&self.server).map_err(|error| error.to_string())?;
        let summary = self.play(address, devices, faulty).map_err(|error| error.to_string())?;
        let complaints = summary.complaints();
        let mut out = std::io::stdout().lock();
        // Nobody may be reading, which changes nothing of what came of it.
        let _ = if self.json { writeln!(out, "{}", summary.json()) } else { writeln!(out, "{summary}") };
        for complaint in &complaints {
            say_error(format_args!("lumina simulate: {complaint}"));
        }
        Ok(if complaints.is_empty() { Exit::Fine } else { Exit::Failed })
    }

    fn play(&self, address: SocketAddr, devices: usize, faulty: usize) -> std::io::Result<Summary> {
        let clock = Clock::start();
        let now = clock.now();
        let ramp = CONNECT_EVERY * (devices + self.subscribers as usize + faulty) as u32;
        let begin = now.tick + ramp + SETTLE;
        let span = if self.secs == 0 { Duration::MAX } else { Duration::from_secs(self.secs) };
        let interval = Duration::from_millis(self.interval);
        let schedule = Schedule::new(self.seed, interval, now, begin, span);
        let root = self.name.clone();
        let run = Arc::new(Run::new(address, root, self.seed, schedule, self.churn, ramp, devices));

        let mut engine = load::engine(now);
        let watches = self.dial(&mut engine, &run, now.tick, devices, faulty);
        let progress = Progress::new(Duration::from_secs(self.secs));
        let mut conductor = Conductor::new(Arc::clone(&run), watches, progress);
        load::run(engine, clock, |engine, now, signalled| conductor.conduct(engine, now, signalled))?;

        let interrupted = conductor.interrupted;
        conductor.finish();
        let reported = run.schedule.end() - begin;
        Ok(Summary::of(
            &run,
            format!("line://{}", self.server),
            self.subscribers as usize,
            reported,
            interrupted,
        ))
    }

    /// Readers first: they are to see everything. Faulty peers come among the devices.
    fn dial(
        &self,
        engine: &mut Engine,
        run: &Arc<Run>,
        from: Tick,
        devices: usize,
        faulty: usize,
    ) -> Vec<Arc<Watch>> {
        let scopes = (0..self.subscribers as usize).map(|reader| Scope::of(reader, devices));
        let watches: Vec<_> = scopes.map(|scope| Arc::new(Watch::new(scope, devices))).collect();
        for (number, watch) in watches.iter().enumerate() {
            let subscriber = Subscriber::new(Arc::clone(run), Arc::clone(watch), number);
            engine.dial_at(from + CONNECT_EVERY * number as u32, run.endpoint(0), Box::new(subscriber));
        }
        let from = from + CONNECT_EVERY * watches.len() as u32;
        for number in 0..devices {
            let device = Device::new(Arc::clone(run), number);
            engine.dial_at(from + CONNECT_EVERY * number as u32, run.endpoint(number), Box::new(device));
        }
        for number in 0..faulty {
            let at = from + CONNECT_EVERY * (number * devices / faulty) as u32;
            engine.dial_at(at, run.endpoint(0), Box::new(Faulty::new(Arc::clone(run), number)));
        }
        watches
    }
}

fn devices(text: &str) -> Result<u64, String> {
    number(text, DEVICES)
}

fn interval(text: &str) -> Result<u64, String> {
    number(text, INTERVAL_MS)
}

fn secs(text: &str) -> Result<u64, String> {
    number(text, SECS)
}

fn subscribers(text: &str) -> Result<u64, String> {
    number(text, SUBSCRIBERS)
}

fn number(text: &str, range: RangeInclusive<u64>) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| {
        format!("'{text}' is not possible, expected a number from {} to {}", range.start(), range.end())
    })
}

/// `1%` or `0.01`
fn share(text: &str) -> Result<f64, String> {
    let (digits, whole) = text.strip_suffix('%').map_or((text, 1.0), |digits| (digits, 100.0));
    let share = digits.parse::<f64>().ok().map(|share| share / whole);
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| format!("'{text}' is not a share, expected one such as 1% or 0.01"))
}

fn root(text: &str) -> Result<String, String> {
    match DeviceName::parse(text) {
        Ok(name) if !text.starts_with('$') => Ok(name.as_str().to_owned()),
        Ok(_) => Err("names that begin with $ are the server's own".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}
