//! `lumina simulate --protocol modbus`: thousands of slaves in one process, for a server that polls. They are
//! sessions of the engine that the server runs on, behind one listening socket where they can be.
//!
//! [`spread`] says where they are, [`signals`] what they hold, [`faults`] what is wrong with some of them; a
//! [`slave`] carries requests out, and a [`session`] is a master's connection to it.

mod configuration;
mod faults;
mod garbage;
mod plant;
mod session;
mod signals;
mod slave;
mod spread;
mod summary;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{Simulate, Trouble};
use crate::base::time::{Now, Tick};
use crate::cli::load::{self, Progress, tell};
use crate::cli::{Exit, say_error};
use crate::config::ListenUrl;
use crate::engine::{Engine, Listener, Transport};
use crate::protocols::modbus::server::PROTOCOL;
use crate::reactor::{BoundSocket, Clock, Course, KeepAlive, bind, raise_descriptor_limit};
use crate::security::{Grants, Prefix};
use crate::server::StartError;

use configuration::Polling;
use faults::{FAULTS, Fault};
use plant::Plant;
use session::Reception;
use spread::Places;
use summary::{Served, Summary};

pub(super) use spread::{SPREADS, Spread};

/// Where slaves are if it is not said.
const DEFAULT_URL: &str = "modbus://127.0.0.1:1502";
/// Peers that are let in where we listen at all addresses for the loopback network's sake.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1"];

/// Carry out the command.
pub(super) fn simulate(options: &Simulate) -> Result<Exit, Trouble> {
    let slaves = options.devices as u32;
    let faults =
        faults::choose(options.seed, options.devices as usize, &shares(options)).map_err(Trouble::Usage)?;
    let first = parse_url(options.url.as_deref().unwrap_or(DEFAULT_URL)).map_err(Trouble::Usage)?;
    let mut places =
        Places::new(options.spread.unwrap_or(Spread::Addresses), slaves, first).map_err(Trouble::Usage)?;
    if let Some(file) = &options.configuration {
        configuration::check(file).map_err(Trouble::Failed)?;
    }
    let most_connections = room(&places).map_err(Trouble::Failed)?;
    let sockets = listen(&places).map_err(|error| Trouble::Failed(error.to_string()))?;
    places.on_bound(ports(&sockets)?);
    if let Some(file) = &options.configuration {
        let polling = Polling {
            name: options.root(),
            tags: options.tags(),
            rate: options.interval(),
            timeout: options.timeout(),
        };
        configuration::write(file, &polling, &places).map_err(Trouble::Failed)?;
    }
    // Not to stdout, which is for what came of it.
    say_error(format_args!("{slaves} slaves at {}", places.describe()));
    let plant = Plant::new(places, options.seed, faults, options.latency(), options.timeout());
    let span = Duration::from_secs(options.secs);
    let summary = play(Arc::new(plant), sockets, most_connections, span)?;
    Ok(tell("simulate", &summary, options.json))
}

fn shares(options: &Simulate) -> [f64; FAULTS.len()] {
    let share = |fault| match fault {
        Fault::Silent => options.silent,
        Fault::Slow => options.slow,
        Fault::Garbage => options.garbage,
        Fault::Late => options.late,
        Fault::Exceptions => options.exceptions,
        Fault::Cut => options.cut,
    };
    FAULTS.map(share).map(Option::unwrap_or_default)
}

/// The address of the first slave.
fn parse_url(text: &str) -> Result<std::net::SocketAddr, String> {
    let url = if text.contains("://") { text.to_owned() } else { format!("{}://{text}", PROTOCOL.scheme) };
    let url = ListenUrl::parse(&url)?;
    if url.protocol.scheme != PROTOCOL.scheme {
        let (wanted, given) = (PROTOCOL.scheme, url.protocol.scheme);
        return Err(format!("'{text}' is not where slaves can be: they speak {wanted}://, not {given}://"));
    }
    Ok(url.addresses[0])
}

/// How many connections fit, if that is enough for one to each slave.
fn room(places: &Places) -> Result<usize, String> {
    let listeners = places.listeners().len();
    let descriptors = raise_descriptor_limit(listeners);
    let wanted = places.groups() as usize;
    if wanted > descriptors.connections {
        let limit = descriptors.limit;
        let (besides, way_out) = match listeners {
            1 => (String::new(), ""),
            _ => (format!("{listeners} listeners and "), "; --spread addresses needs one listener for all"),
        };
        return Err(format!(
            "{besides}{wanted} connections do not fit below the limit of {limit} descriptors; raise it with \
             'ulimit -n', or let fewer --devices be in this process{way_out}"
        ));
    }
    Ok(descriptors.connections)
}

fn listen(places: &Places) -> Result<Vec<BoundSocket>, StartError> {
    let bind_one = |address| {
        let fault = |error| StartError::Bind(format!("{}://{address}", PROTOCOL.scheme), error);
        bind(Transport::Stream, address, KeepAlive::default()).map_err(fault)
    };
    places.listeners().into_iter().map(bind_one).collect()
}

fn ports(sockets: &[BoundSocket]) -> io::Result<Vec<u16>> {
    sockets.iter().map(|socket| Ok(socket.local_addr()?.port())).collect()
}

/// Let masters come for so long; without end if that is zero.
fn play(
    plant: Arc<Plant>,
    sockets: Vec<BoundSocket>,
    most_connections: usize,
    span: Duration,
) -> io::Result<Summary> {
    let clock = Clock::start();
    let now = clock.now();
    let listeners = (0..sockets.len()).map(|number| listener(&plant, number)).collect();
    let engine = load::serving_engine(now, listeners, most_connections);
    let end = if span.is_zero() { Tick::NEVER } else { now.tick + span };
    let progress = Progress::new(span);
    let mut watch = Watch { plant, progress, begin: now.tick, end, first_request: None, last: now.tick };
    load::serve(engine, clock, sockets, &mut |engine, now, signalled| watch.conduct(engine, now, signalled))?;
    Ok(watch.finish())
}

fn listener(plant: &Arc<Plant>, number: usize) -> Listener {
    let loopback = || LOOPBACK.map(|text| Prefix::parse(text).expect("a prefix")).into();
    let prefixes: Option<Vec<Prefix>> = plant.places.is_loopback_only().then(loopback);
    Listener {
        scheme: PROTOCOL.scheme,
        transport: Transport::Stream,
        acceptor: Arc::new(Reception::new(Arc::clone(plant), number)),
        grants: Grants { read: prefixes.clone(), write: prefixes },
        max_connections: None,
        idle_timeout: None,
        frame_timeout: PROTOCOL.frame_timeout,
        stale_after: None,
    }
}

/// How a run goes. Called once a turn of the loop.
struct Watch {
    plant: Arc<Plant>,
    progress: Option<Progress>,
    begin: Tick,
    end: Tick,
    /// When the first request came, and what this process had used of a processor by then.
    first_request: Option<(Tick, Duration)>,
    last: Tick,
}

impl Watch {
    fn conduct(&mut self, engine: &Engine, now: Now, signalled: bool) -> Course {
        let now = now.tick;
        self.last = now;
        let requests = self.plant.counts.requests.value();
        if self.first_request.is_none() && requests > 0 {
            self.first_request = Some((now, load::processor_time()));
        }
        if signalled || now >= self.end {
            return Course::Stop;
        }
        let shown = self.progress.as_mut().map_or(Tick::NEVER, |progress| {
            progress.show(now, now - self.begin, requests, |rate| {
                format!("{} connections, {rate} requests/s, {requests} requests", engine.len())
            })
        });
        Course::GoOn(self.end.min(shown))
    }

    fn finish(self) -> Summary {
        if let Some(progress) = self.progress {
            progress.clear();
        }
        let served = self.first_request.map_or(Served::default(), |(since, cpu)| Served {
            span: self.last - since,
            cpu: load::processor_time().saturating_sub(cpu),
        });
        Summary::of(&self.plant, self.last - self.begin, served)
    }
}
