//! `lumina check`: validate a configuration and print what would run, and whether devices can be polled as
//! often as it says.

use std::time::Duration;

use argh::FromArgs;

use super::{Exit, complain, read_config, say};
use crate::base::section::parse_duration;
use crate::config::Config;
use crate::drivers::modbus::load::{self, Late};
use crate::drivers::modbus::settings::LineSettings;

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
                // What cannot be met is no mistake: it may be another network, and late values say that they
                // are late.
                Exit::Fine
            }
            Err(errors) => complain(&errors),
        }
    }
}

fn print(file: &str, config: &Config) {
    let server = &config.server;
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
