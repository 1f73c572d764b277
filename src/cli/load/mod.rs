//! What load is made with, whatever its kind: an engine whose peers are servers under load, the reactor that
//! runs it, and what its sessions measure and read with.

mod faults;
mod figures;
mod latency;
mod options;
mod process;
mod progress;
mod reach;
mod replies;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::base::time::Now;
use crate::engine::{Endpoint, Engine, Listener, Settings, Shared, Transport};
use crate::reactor::{BoundSocket, Clock, Course, Reactor};
use crate::tags::{TagSettings, Tags};

pub(super) use faults::{Faults, say_end};
pub(super) use figures::{LATE_US, Outcome, object, per_second, tell, text, texts};
pub(super) use latency::{Latency, Percentiles};
pub(super) use options::{make_room, number, one_of, root, share, span};
pub(super) use process::{Family, OwnTime, Usage, processor_time};
pub(super) use progress::Progress;
pub(super) use reach::{find, reach};
pub(super) use replies::{Lines, Reply, Sample, Told};

/// What all connections' buffers may hold: far more than load that is answered ever needs.
const BUFFER_MEMORY_BYTES: usize = 256 * 1024 * 1024;
/// A server that takes nothing for so long is not waited for any longer.
const WRITE_STALL: Duration = Duration::from_secs(30);
/// How long the connections may take to close at the end.
const CLOSE_WITHIN: Duration = Duration::from_millis(1_000);

/// Connections from one address of ours. Linux hands out every other port of its 28,000 at first; beyond
/// those it searches for milliseconds at each connection.
const CONNECTIONS_PER_ADDRESS: usize = 4_000;

/// Connections are made at 5,000 a second: a server accepts them faster, and its backlog holds as many.
pub(super) const CONNECT_EVERY: Duration = Duration::from_micros(200);

/// How exactly deadlines are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deadlines {
    /// To microseconds, for what is due at a time: what is sent late counts as slow.
    Fine,
    /// As a server's are, so that those of a millisecond are one turn.
    Coarse,
}

/// Where the connection of that number goes, and from where: on the loopback network there are addresses to
/// choose from.
pub(super) fn endpoint(server: SocketAddr, number: usize) -> Endpoint {
    let host = 1 + number / CONNECTIONS_PER_ADDRESS;
    let from = match server.ip() {
        IpAddr::V4(ip) if ip.is_loopback() && host > 1 => {
            u8::try_from(host).ok().map(|host| IpAddr::V4(Ipv4Addr::new(127, 0, 0, host)))
        }
        _ => None,
    };
    Endpoint { host: server.into(), from, transport: Transport::Stream }
}

/// An engine that nobody can connect to: its sessions are those that it dials.
pub(super) fn engine(now: Now) -> Engine {
    serving_engine(now, Vec::new(), 0)
}

/// An engine to which others connect, so many at once.
pub(super) fn serving_engine(now: Now, listeners: Vec<Listener>, max_connections: usize) -> Engine {
    let settings = Settings {
        name: "load".to_owned(),
        max_connections,
        max_subscriptions: 0,
        max_udp_peers: 1,
        buffer_memory: BUFFER_MEMORY_BYTES,
        trace_memory: 0,
        write_stall: WRITE_STALL,
        listeners,
        memory_probe: || 0,
    };
    let tags = Tags::new(TagSettings::default(), Vec::new(), 1);
    Engine::new(0, &Shared::new(settings, Arc::new(tags)), now)
}

/// Run it until `conduct` says stop; see [`Reactor::conduct`].
pub(super) fn run(
    engine: Engine,
    clock: Clock,
    deadlines: Deadlines,
    conduct: &mut dyn FnMut(&mut Engine, Now, bool) -> Course,
) -> io::Result<()> {
    let mut reactor = Reactor::new(engine, clock, Vec::new(), CLOSE_WITHIN)?;
    if deadlines == Deadlines::Fine {
        reactor = reactor.with_fine_deadlines()?;
    }
    reactor.conduct(conduct)
}

/// The same for an engine to which others connect at these sockets; deadlines are coarse.
pub(super) fn serve(
    engine: Engine,
    clock: Clock,
    sockets: Vec<BoundSocket>,
    conduct: &mut dyn FnMut(&mut Engine, Now, bool) -> Course,
) -> io::Result<()> {
    Reactor::new(engine, clock, sockets, CLOSE_WITHIN)?.conduct(conduct)
}
