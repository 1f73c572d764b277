//! `lumina check`: validate a configuration and print what would run, and whether devices can be polled as
//! often as it says.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use argh::FromArgs;

use super::{Exit, complain, read_config, say};
use crate::base::host::{self, Host};
use crate::base::section::{Document, parse_duration};
use crate::config::Config;
use crate::drivers::modbus::load::{self, Late};
use crate::drivers::modbus::settings::{Carrier, LineSettings};

/// Validate a configuration and print what would run.
#[derive(FromArgs)]
#[argh(subcommand, name = "check")]
pub(super) struct Check {
    /// the configuration file (default: lumina.toml in the current folder)
    #[argh(option, arg_name = "file", default = "String::from(\"lumina.toml\")")]
    config: String,
    /// how long devices take to answer, for the question whether they can be polled as often as the file says
    /// (default: 20ms)
    #[argh(option, arg_name = "time", default = "ROUND_TRIP", from_str_fn(parse_duration))]
    round_trip: Duration,
}

/// What a device on a plant's network takes, more or less.
const ROUND_TRIP: Duration = Duration::from_millis(20);
/// Points that are named in one line; of more, the number is told.
const NAMED_POINTS: usize = 5;
/// Names are looked up for no longer than this, and for one more.
const LOOKUP_TIME: Duration = Duration::from_secs(10);

impl Check {
    pub(super) fn run(self) -> Exit {
        let text = match read_config(&self.config) {
            Ok(text) => text,
            Err(exit) => return exit,
        };
        match Config::parse(&self.config, &text, &[]) {
            Ok(config) => {
                print(&self.config, &config);
                print_lines(&config.fleet.lines, self.round_trip);
                print_hosts(&self.config, &text, &config.fleet.lines);
                // What cannot be met or looked up is no mistake: it may be another network, or another time,
                // and late values say that they are late.
                Exit::Fine
            }
            Err(errors) => complain(&errors),
        }
    }
}

fn print(file: &str, config: &Config) {
    let server = &config.server;
    for warning in &config.warnings {
        say(format_args!("warning: {warning}"));
    }
    say(format_args!("{file} is fine. It would run:"));
    say(format_args!(
        "server '{}': at most {} connections (fewer where the descriptor limit is lower), {} tags, \
         {} MiB of buffers, {}",
        server.name,
        server.max_connections,
        server.tags.max_tags,
        server.buffer_memory / (1024 * 1024),
        match server.shards.count() {
            1 => "one thread".to_owned(),
            count => format!("{count} threads (shards)"),
        },
    ));
    for warning in &config.fleet.warnings {
        say(format_args!("warning: {warning}"));
    }
    for listener in &config.listeners {
        say(format_args!("listen {}: {}", listener.url, listener.url.protocol.summary));
    }
    for line in config.services.iter().flat_map(|service| service.describe()) {
        say(format_args!("{line}"));
    }
    say(format_args!(
        "{} declared tags; others {}",
        config.tags.len(),
        if server.tags.create_tags { "are created by their first write" } else { "cannot be created" }
    ));
}

/// What each connection to devices has to carry, and what comes later than configured.
fn print_lines(lines: &[LineSettings], round_trip: Duration) {
    if lines.is_empty() {
        return;
    }
    say(format_args!("polling, where each reply takes {round_trip:?} (--round-trip):"));
    for line in lines {
        let load = load::of(line, round_trip);
        let devices = match &line.devices[..] {
            [device] => format!("the device {}", device.name),
            devices => format!("{} devices", devices.len()),
        };
        say(format_args!(
            "{}: {devices}, {:.1} requests/s of {:.1} at most, {:.0} bytes/s",
            line.url, load.wanted, load.most, load.bytes
        ));
        for late in &load.late {
            say(format_args!("warning: {}", describe(late)));
        }
    }
}

/// Which names of hosts nobody knows just now, and which connections lead to the same place.
fn print_hosts(file: &str, text: &str, lines: &[LineSettings]) {
    let document = Document::parse(file, text);
    let mut lookups = Lookups { since: Instant::now(), found: HashMap::new() };
    let mut leads_to: HashMap<(bool, SocketAddr), &str> = HashMap::new();
    for line in lines {
        let addresses = match lookups.addresses(&line.host) {
            Ok(addresses) => addresses,
            Err(why) => {
                document.warn_at(line.spot, why);
                continue;
            }
        };
        let is_udp = line.carrier == Carrier::Udp;
        let other = addresses.iter().find_map(|address| leads_to.get(&(is_udp, *address)));
        if let Some(other) = other {
            let message = format!("this is where {other} leads: two connections are made; use the same URL");
            document.warn_at(line.spot, message);
        }
        for address in addresses {
            leads_to.entry((is_udp, address)).or_insert(&line.url);
        }
    }
    for warning in document.warnings() {
        say(format_args!("warning: {warning}"));
    }
}

/// Names that were looked up, each once.
struct Lookups<'a> {
    since: Instant,
    found: HashMap<&'a str, Result<Vec<SocketAddr>, String>>,
}

impl<'a> Lookups<'a> {
    /// The addresses of a host; or what is to be said of it.
    fn addresses(&mut self, host: &'a Host) -> Result<Vec<SocketAddr>, String> {
        let host = match host {
            Host::Address(address) => return Ok(vec![*address]),
            Host::Name(host) => host,
        };
        let name = &*host.name;
        if !self.found.contains_key(name) && self.since.elapsed() > LOOKUP_TIME {
            return Err(format!("'{name}' was not looked up, for others took too long"));
        }
        match self.found.entry(name).or_insert_with(|| host::look_up(name)) {
            Ok(addresses) => {
                Ok(addresses.iter().map(|address| SocketAddr::new(address.ip(), host.port)).collect())
            }
            Err(why) => Err(format!(
                "'{name}' cannot be looked up now: {why}; the server tries again whenever it connects"
            )),
        }
    }
}

fn describe(late: &Late<'_>) -> String {
    let Late { device, points, rate, at_best } = late;
    let (named, others) = points.split_at(points.len().min(NAMED_POINTS));
    let mut text = format!("{device} cannot be read as often as configured: {}", named.join(", "));
    if !others.is_empty() {
        text += &format!(" and {} more", others.len());
    }
    match at_best {
        Some(at_best) => {
            let at_best = Duration::from_millis(at_best.as_micros().div_ceil(1_000) as u64);
            format!("{text}: {rate:?} is wanted, {at_best:?} is the best there can be")
        }
        None => format!("{text}: no reply comes within the timeout"),
    }
}
