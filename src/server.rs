//! Assembly: a configuration made into tags, an engine and a reactor. The only place that knows every part.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::time::{Now, Tick};
use crate::config::{Config, ListenConfig};
use crate::drivers::{self, modbus::figures::FleetFigures};
use crate::engine::{Engine, Figures, Listener, Protocol, Settings, Shared, declare_system_tags};
use crate::reactor::{
    BoundSocket, Clock, DESCRIPTORS_OF_SHARD, Reactor, ServiceManager, bind, raise_descriptor_limit, run_all,
};
use crate::tags::name::TagName;
use crate::tags::value::Quality;
use crate::tags::{DeclaredTag, Memory, Refusal, Tags, Write};

/// A server that has bound all its listeners, and accepts on none of them yet.
pub struct Server {
    /// One a shard.
    reactors: Vec<Reactor>,
    bound: Vec<Bound>,
}

/// An address that a server listens on.
#[derive(Clone, Copy)]
pub struct Bound {
    /// The protocol spoken there.
    pub protocol: &'static Protocol,
    /// With the port that was found, where any was asked for.
    pub address: SocketAddr,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.protocol.scheme, self.address)
    }
}

/// Why a server cannot start.
#[derive(Debug)]
pub enum StartError {
    /// An address cannot be listened on.
    Bind(String, io::Error),
    /// The poll or the signals cannot be set up.
    System(io::Error),
    /// The limit of file descriptors leaves none for a connection.
    Descriptors(u64),
    /// The configured tags do not fit.
    Tag(String, Refusal),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Bind(url, error) if error.kind() == io::ErrorKind::AddrInUse => {
                write!(f, "cannot listen on {url}: another process does; stop it or choose another port")
            }
            StartError::Bind(url, error) => write!(f, "cannot listen on {url}: {error}"),
            StartError::System(error) => write!(f, "cannot set up the event loop: {error}"),
            StartError::Descriptors(limit) => {
                write!(
                    f,
                    "a limit of {limit} file descriptors leaves none for connections; raise it (ulimit -n)"
                )
            }
            StartError::Tag(name, refusal) => write!(f, "cannot declare the tag {name}: {refusal}"),
        }
    }
}

impl std::error::Error for StartError {}

impl Server {
    /// Bind all listeners and declare all tags.
    pub fn bind(config: Config) -> Result<Server, StartError> {
        let clock = Clock::start();
        let now = clock.now();
        let AllBound { sockets, listeners, bound } = bind_all(&config.listeners)?;
        let shards = config.server.shards.count();
        let taken = sockets.len() + config.fleet.lines.len() + DESCRIPTORS_OF_SHARD * (shards - 1);
        let descriptors = raise_descriptor_limit(taken);
        if descriptors.connections == 0 {
            return Err(StartError::Descriptors(descriptors.limit));
        }
        let max_connections = config.server.max_connections.min(descriptors.connections);
        log::info!("{max_connections} connections at most; the descriptor limit is {}", descriptors.limit);

        let mut memories: Vec<Arc<dyn Memory>> =
            config.services.iter().filter_map(|service| Arc::clone(service).memory()).collect();
        config.fleet.warnings.iter().for_each(|warning| log::warn!("{warning}"));
        let figures = Arc::new(FleetFigures::new(&config.fleet));
        memories.push(Arc::clone(&figures) as Arc<dyn Memory>);
        let tags = Tags::new(config.server.tags.clone(), config.fleet.names, shards)
            .with_system_tags(figures.most_tags())
            .with_memories(memories);
        let tags = Arc::new(tags);
        declare_system_tags(&tags, Some(&*figures))
            .map_err(|refusal| StartError::Tag("$server".to_owned(), refusal))?;
        let settings = Settings {
            name: config.server.name,
            max_connections,
            max_subscriptions: config.server.max_subscriptions,
            max_udp_peers: config.server.max_udp_peers,
            buffer_memory: config.server.buffer_memory,
            trace_memory: config.server.trace_memory,
            write_stall: config.server.write_stall,
            listeners,
            memory_probe: resident_bytes,
        };
        let shared = Shared::new(settings, Arc::clone(&tags));
        let mut engines: Vec<Engine> = (0..shards).map(|number| Engine::new(number, &shared, now)).collect();
        for engine in &mut engines {
            engine.compute(Arc::clone(&figures) as Arc<dyn Figures>);
        }
        for tag in config.tags {
            declare(&tags, &mut engines[0], tag, now)?;
        }
        for session in drivers::modbus::sessions(config.fleet.lines, &figures, &tags, now.tick) {
            engines[shared.give_to_least_loaded()].house(session);
        }
        for service in config.services {
            service.bind(&tags, now.wall).map_err(|(name, refusal)| StartError::Tag(name, refusal))?;
            if let Some(session) = service.resident() {
                engines[0].house(session);
            }
        }
        if shards > 1 {
            log::info!("{shards} shards serve connections, a thread each");
        }
        let grace = config.server.shutdown_grace;
        let mut reactors = Reactor::of_all(engines, clock, sockets, grace).map_err(StartError::System)?;
        match ServiceManager::from_environment() {
            Ok(Some(manager)) => manager.watch(&mut reactors),
            Ok(None) => {}
            Err(why) => {
                log::warn!("{why}; a service manager, such as systemd, will not hear that the server runs");
            }
        }
        Ok(Server { reactors, bound })
    }

    /// The addresses listened on, in the order of the configuration.
    pub fn bound(&self) -> &[Bound] {
        &self.bound
    }

    /// Serve until a signal asks to stop.
    pub fn run(self) -> io::Result<()> {
        run_all(self.reactors)
    }
}

/// What was bound, in the order of the configuration.
#[derive(Default)]
struct AllBound {
    sockets: Vec<BoundSocket>,
    /// The settings of each socket.
    listeners: Vec<Listener>,
    /// The address of each socket.
    bound: Vec<Bound>,
}

fn bind_all(configs: &[ListenConfig]) -> Result<AllBound, StartError> {
    let mut all = AllBound::default();
    for config in configs {
        let protocol = config.url.protocol;
        let before = all.bound.len();
        let mut addresses = config.url.addresses.iter().peekable();
        while let Some(&address) = addresses.next() {
            let fault = |error| StartError::Bind(config.url.to_string(), error);
            let socket = match bind(protocol.transport, address, config.keep_alive) {
                // `localhost` is often two addresses, of which one is not there.
                Err(error)
                    if error.kind() == io::ErrorKind::AddrNotAvailable
                        && (all.bound.len() > before || addresses.peek().is_some()) =>
                {
                    log::warn!("not listening on {address}: {error}");
                    continue;
                }
                result => result.map_err(fault)?,
            };
            let address = socket.local_addr().map_err(fault)?;
            if !address.ip().is_loopback() && config.grants.write.is_none() {
                log::warn!(
                    "{address} can be reached from other machines, and whoever reaches it writes everything: \
                     there is no login yet; 'write' in its [[listen]] section says who may"
                );
            }
            all.bound.push(Bound { protocol, address });
            all.listeners.push(listener(config));
            all.sockets.push(socket);
        }
    }
    Ok(all)
}

fn listener(config: &ListenConfig) -> Listener {
    Listener {
        scheme: config.url.protocol.scheme,
        transport: config.url.protocol.transport,
        acceptor: Arc::clone(&config.acceptor),
        grants: config.grants.clone(),
        max_connections: config.max_connections,
        idle_timeout: config.idle_timeout,
        frame_timeout: config.frame_timeout,
        stale_after: config.stale_after,
    }
}

fn declare(tags: &Tags, engine: &mut Engine, tag: DeclaredTag, now: Now) -> Result<(), StartError> {
    let name = TagName::parse(&tag.name).expect("the configuration's names are names");
    let stale_after = tag.declaration.stale_after;
    let refused = |refusal| StartError::Tag(tag.name.to_string(), refusal);
    let id = tags.declare(name, tag.declaration, now.wall).map_err(refused)?;
    if let Some(value) = tag.initial {
        let stale_at = stale_after.map_or(Tick::NEVER, |span| now.tick + span);
        let value = value.as_input();
        let write = Write { value, quality: Quality::Good, time: now.wall, source: None, stale_at };
        tags.preset(id, now.tick, write).map_err(refused)?;
        if stale_at < Tick::NEVER {
            engine.watch_staleness(id, stale_at);
        }
    }
    Ok(())
}

/// The resident memory of this process, in bytes; 0 where the system does not say.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok().and_then(|text| {
        let resident = text.split_ascii_whitespace().nth(1)?;
        resident.parse::<u64>().ok()
    });
    pages.unwrap_or(0) * rustix::param::page_size() as u64
}
