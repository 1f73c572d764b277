//! `lumina simulate`: thousands of devices in one process, as sessions of the engine that the server runs on.
//! Here are the options, and the devices that report; [`modbus`] has the slaves that are polled.

mod audit;
mod conductor;
mod device;
mod faulty;
mod ledger;
mod machine;
mod modbus;
mod run;
mod schedule;
mod subscriber;
mod summary;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use argh::FromArgs;

use super::address::Address;
use super::load::{self, CONNECT_EVERY, Deadlines, Progress, number, one_of, root, share, span, tell};
use super::{Exit, say_error};
use crate::base::time::Tick;
use crate::engine::Engine;
use crate::reactor::Clock;

use conductor::Conductor;
use device::Device;
use faulty::Faulty;
use modbus::{SPREADS, Spread};
use run::Run;
use schedule::Schedule;
use subscriber::{Scope, Subscriber, Watch};
use summary::Summary;

/// From the last connection until the first reports are due.
const SETTLE: Duration = Duration::from_millis(300);
/// The audit's connection.
const OTHER_CONNECTIONS: usize = 1;

const DEVICES: RangeInclusive<u64> = 1..=1_000_000;
const INTERVAL_MS: RangeInclusive<u64> = 1..=3_600_000;
const SECS: RangeInclusive<u64> = 0..=31_536_000;
const SUBSCRIBERS: RangeInclusive<u64> = 0..=100_000;
const TAGS: RangeInclusive<u64> = 1..=10_000;

const DEFAULT_INTERVAL_MS: u64 = 1_000;
const DEFAULT_ROOT: &str = "sim";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);
const DEFAULT_TAGS: u16 = 20;

/// Simulate devices that report to a server, and check that what it confirmed is there; or slaves that a
/// server polls.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "simulate",
    example = "lumina simulate --devices 5000 --secs 60",
    example = "lumina simulate --devices 200 --interval 100 --churn 1% --faults --subscribers 4 gateway",
    example = "lumina simulate --protocol modbus --devices 5000 --silent 5% --latency 20ms \
--configuration plant.toml",
    note = "Device 123 says HELLO sim-00123, and sets sim/00123/temperature, level, parts, state, pressure. \
Answer times count from when a report was due, not from when it was sent.",
    note = "Slave 1 is at 127.0.0.1, slave 2 at 127.0.0.2, and so on; or at the next port, or the next unit. \
Its registers 0, 4, 8… are ramps, 1, 5, 9… sines, 2, 6, 10… count seconds, 3, 7, 11… are setpoints; coils \
change each 5 s. What is written stays, and is read back. A slave has one fault at most; 'now and then' is \
one in 8 requests, with --cut one in 32.",
    note = "Ctrl-C ends the run early, with the check and the summary; a second one ends it at once.",
    error_code(0, "all is fine"),
    error_code(1, "something confirmed was lost, or anything else went wrong"),
    error_code(2, "the command line is wrong")
)]
pub(super) struct Simulate {
    /// line: devices that report to a server (the default); modbus: slaves that a server polls
    #[argh(option, arg_name = "p", default = "Protocol::Line", from_str_fn(protocol))]
    protocol: Protocol,
    /// how many devices or slaves (default: 100)
    #[argh(option, arg_name = "n", default = "100", from_str_fn(devices))]
    devices: u64,
    /// milliseconds between two reports of a device, each of five values; with --configuration, between two
    /// polls (default: 1000)
    #[argh(option, arg_name = "ms", from_str_fn(interval))]
    interval: Option<u64>,
    /// how long they are there (default: 30; 0: until Ctrl-C)
    #[argh(option, arg_name = "s", default = "30", from_str_fn(secs))]
    secs: u64,
    /// print the summary as one JSON object
    #[argh(switch)]
    json: bool,
    /// what the names of devices and tags begin with (default: sim)
    #[argh(option, arg_name = "name", from_str_fn(root))]
    name: Option<String>,
    /// decides all chance; the same seed gives the same devices (default: 1)
    #[argh(option, arg_name = "n", default = "1")]
    seed: u64,
    /// line: the share of devices that leave and come back in a second, such as 1%
    #[argh(option, arg_name = "share", from_str_fn(share))]
    churn: Option<f64>,
    /// line: add faulty peers, one for 20 devices: half lines, resets, stalls, garbage
    #[argh(switch)]
    faults: bool,
    /// line: add readers that subscribe to patterns, and check that they see values in order
    #[argh(option, arg_name = "k", from_str_fn(subscribers))]
    subscribers: Option<u64>,
    /// modbus: what each slave has of its own: addresses (the default: 127.0.0.1 and on, one port), ports, or
    /// units (of one address, 247 each)
    #[argh(option, arg_name = "what", from_str_fn(spread))]
    spread: Option<Spread>,
    /// modbus: how long an answer takes, less or more by a fifth (default: 0ms)
    #[argh(option, arg_name = "time", from_str_fn(span))]
    latency: Option<Duration>,
    /// modbus: when the server gives an answer up, for --slow, --late and --configuration (default: 1s)
    #[argh(option, arg_name = "time", from_str_fn(span))]
    timeout: Option<Duration>,
    /// modbus: the share of slaves that never answer, such as 5%
    #[argh(option, arg_name = "share", from_str_fn(share))]
    silent: Option<f64>,
    /// modbus: the share that takes half to nine tenths of --timeout more for each answer
    #[argh(option, arg_name = "share", from_str_fn(share))]
    slow: Option<f64>,
    /// modbus: the share that now and then sends what is no frame, or has a wrong id, unit, function or
    /// length
    #[argh(option, arg_name = "share", from_str_fn(share))]
    garbage: Option<f64>,
    /// modbus: the share that now and then takes 1.1 to 2 times --timeout more
    #[argh(option, arg_name = "share", from_str_fn(share))]
    late: Option<f64>,
    /// modbus: the share with exceptions: 2 for addresses that end with 7, sometimes 6 for those with 3
    #[argh(option, arg_name = "share", from_str_fn(share))]
    exceptions: Option<f64>,
    /// modbus: the share that now and then closes the connection instead of answering
    #[argh(option, arg_name = "share", from_str_fn(share))]
    cut: Option<f64>,
    /// modbus: write a configuration for 'lumina serve' that polls the slaves
    #[argh(option, arg_name = "file")]
    configuration: Option<String>,
    /// modbus: registers of each slave that it polls (default: 20)
    #[argh(option, arg_name = "k", from_str_fn(tags))]
    tags: Option<u16>,
    /// line: the server (default: line://127.0.0.1:5000); modbus: the first slave (default:
    /// modbus://127.0.0.1:1502; port 0 takes any free one)
    #[argh(positional, arg_name = "url")]
    url: Option<String>,
}

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Line,
    Modbus,
}

const PROTOCOLS: [(&str, Protocol); 2] = [("line", Protocol::Line), ("modbus", Protocol::Modbus)];

/// Why nothing was simulated.
#[derive(Debug)]
enum Trouble {
    /// The command line is wrong.
    Usage(String),
    Failed(String),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Trouble {
        Trouble::Failed(error.to_string())
    }
}

impl Simulate {
    pub(super) fn run(self) -> Exit {
        let result = match (self.misplaced(), self.protocol) {
            (Some(why), _) => Err(Trouble::Usage(why)),
            (None, Protocol::Line) => self.simulate(),
            (None, Protocol::Modbus) => modbus::simulate(&self),
        };
        let (exit, why) = match result {
            Ok(exit) => return exit,
            Err(Trouble::Usage(why)) => (Exit::Usage, why),
            Err(Trouble::Failed(why)) => (Exit::Failed, why),
        };
        say_error(format_args!("lumina simulate: {why}"));
        exit
    }

    /// What is wrong with an option that says nothing here.
    fn misplaced(&self) -> Option<String> {
        let of_line = [
            ("--churn", self.churn.is_some()),
            ("--faults", self.faults),
            ("--subscribers", self.subscribers.is_some()),
        ];
        let of_modbus = [
            ("--spread", self.spread.is_some()),
            ("--latency", self.latency.is_some()),
            ("--timeout", self.timeout.is_some()),
            ("--silent", self.silent.is_some()),
            ("--slow", self.slow.is_some()),
            ("--garbage", self.garbage.is_some()),
            ("--late", self.late.is_some()),
            ("--exceptions", self.exceptions.is_some()),
            ("--cut", self.cut.is_some()),
            ("--configuration", self.configuration.is_some()),
            ("--tags", self.tags.is_some()),
        ];
        let of_configuration = [
            ("--interval", self.interval.is_some()),
            ("--name", self.name.is_some()),
            ("--tags", self.tags.is_some()),
        ];
        let given = |options: &[(&'static str, bool)]| {
            options.iter().find(|(_, is_given)| *is_given).map(|(option, _)| *option)
        };
        match self.protocol {
            Protocol::Line => given(&of_modbus)
                .map(|option| format!("{option} is for slaves that a server polls: add --protocol modbus")),
            Protocol::Modbus => given(&of_line)
                .map(|option| {
                    format!(
                        "{option} is for devices that report to a server, not for --protocol modbus; its \
                         slaves are faulty by --silent, --slow, --garbage, --late, --exceptions and --cut"
                    )
                })
                .or_else(|| {
                    let option = given(&of_configuration).filter(|_| self.configuration.is_none())?;
                    Some(format!("{option} says how slaves are polled: add --configuration FILE"))
                }),
        }
    }

    fn interval(&self) -> Duration {
        Duration::from_millis(self.interval.unwrap_or(DEFAULT_INTERVAL_MS))
    }

    fn root(&self) -> &str {
        self.name.as_deref().unwrap_or(DEFAULT_ROOT)
    }

    fn latency(&self) -> Duration {
        self.latency.unwrap_or_default()
    }

    fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(DEFAULT_TIMEOUT)
    }

    fn tags(&self) -> u16 {
        self.tags.unwrap_or(DEFAULT_TAGS)
    }

    /// Devices that report.
    fn simulate(&self) -> Result<Exit, Trouble> {
        let server = self.url.as_deref().map_or_else(|| Ok(Address::default()), Address::parse);
        let server = server.map_err(Trouble::Usage)?;
        let devices = self.devices as usize;
        let faulty = if self.faults { faulty::how_many(devices) } else { 0 };
        let connections = devices + self.subscribers() + faulty + OTHER_CONNECTIONS;
        load::make_room(connections, "start a second process with another --name")
            .map_err(Trouble::Failed)?;
        let address = load::reach(&server).map_err(|error| Trouble::Failed(error.to_string()))?;
        let summary = self.play(format!("line://{server}"), address, devices, faulty)?;
        Ok(tell("simulate", &summary, self.json))
    }

    fn subscribers(&self) -> usize {
        self.subscribers.unwrap_or(0) as usize
    }

    fn play(
        &self,
        url: String,
        address: SocketAddr,
        devices: usize,
        faulty: usize,
    ) -> std::io::Result<Summary> {
        let clock = Clock::start();
        let now = clock.now();
        let ramp = CONNECT_EVERY * (devices + self.subscribers() + faulty) as u32;
        let begin = now.tick + ramp + SETTLE;
        let span = if self.secs == 0 { Duration::MAX } else { Duration::from_secs(self.secs) };
        let schedule = Schedule::new(self.seed, self.interval(), now, begin, span);
        let (root, churn) = (self.root().to_owned(), self.churn.unwrap_or_default());
        let run = Arc::new(Run::new(address, root, self.seed, schedule, churn, ramp, devices));

        let mut engine = load::engine(now);
        let watches = self.dial(&mut engine, &run, now.tick, devices, faulty);
        let progress = Progress::new(Duration::from_secs(self.secs));
        let mut conductor = Conductor::new(Arc::clone(&run), watches, progress);
        load::run(engine, clock, Deadlines::Fine, &mut |engine, now, signalled| {
            conductor.conduct(engine, now, signalled)
        })?;

        let interrupted = conductor.interrupted;
        conductor.finish();
        let reported = run.schedule.end() - begin;
        Ok(Summary::of(&run, url, self.subscribers(), reported, interrupted))
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
        let scopes = (0..self.subscribers()).map(|reader| Scope::of(reader, devices));
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

fn tags(text: &str) -> Result<u16, String> {
    number(text, TAGS).map(|tags| tags as u16)
}

fn protocol(text: &str) -> Result<Protocol, String> {
    one_of(text, &PROTOCOLS)
}

fn spread(text: &str) -> Result<Spread, String> {
    one_of(text, &SPREADS)
}
