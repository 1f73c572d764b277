//! The engines of a world: what they share, and their turns, as the reactor would have them. Engines of one
//! server share their tags, leave each other letters, and wake each other.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{LOOK_US, World};
use crate::base::section::Document;
use crate::base::time::Tick;
use crate::engine::{
    Admission, ConnKey, Engine, Figures, Listener, Ready, Service, Settings, Shared, Transport,
};
use crate::protocols::by_scheme;
use crate::security::Grants;
use crate::simulation::checkers;
use crate::simulation::field_watch::FieldWatch;
use crate::simulation::link::{Holder, Port, Side};
use crate::simulation::net::{Happening, HostWire, LATENCY_US, host_address};
use crate::simulation::plan::LISTENERS;
use crate::simulation::plant::{self, Plant};
use crate::simulation::record::LinkId;
use crate::simulation::watched::{address_of, watched};
use crate::tags::Tags;

/// Calls that are taken in one turn.
const CALLS_PER_TURN: usize = 4;
/// The longest that a peer is under way from the engine that accepts it to the one that serves it.
const HAND_OVER_US: u64 = 3_000;
/// Once in so many turns an engine is held up for at most this time, as a thread is that others keep from
/// running: what was left for it meanwhile comes all at once.
const HELD_UP_ONE_IN: usize = 30;
const HELD_UP_US: u64 = 20_000;
/// The engines of a server are stopped within this time.
const STOPPED_WITHIN_US: u64 = 20_000;

/// An engine and its tags.
pub(super) struct Host {
    pub(super) engine: Engine,
    pub(super) tags: Arc<Tags>,
    buffer_memory: usize,
    /// Turns in a row that the engine asked for at once, and in which nothing happened.
    turns_for_nothing: u32,
    /// Somebody rang for it while it was asleep.
    is_rung_for: Arc<AtomicBool>,
    /// Lines that it was given.
    lines: usize,
    /// Peers that were handed over and that it has not taken in.
    gate: VecDeque<(Admission, LinkId)>,
    /// Of these, those that have come.
    at_gate: usize,
    /// It has no turn before.
    held_until_us: u64,
    course: Course,
}

/// What an engine is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    Serves,
    /// It is to stop in its next turn.
    Stops,
    /// It answers what it has, and closes.
    Ends,
    /// It has no more turns.
    IsOver,
}

impl World {
    /// So many engines that share all that engines share; the first accepts.
    pub(super) fn add_server(&mut self, shards: usize) {
        let first = self.hosts.len();
        let Plant { tags, units, polled } = plant::plant(&self.plan, shards, first == 0);
        let settings = self.settings(first, &units);
        let buffer_memory = settings.buffer_memory_of_each(shards);
        let shared = Shared::new(settings, Arc::clone(&tags));
        for number in 0..shards {
            let engine = Engine::new(number, &shared, self.now());
            let is_rung_for = Arc::new(AtomicBool::new(false));
            if shards > 1 {
                let rung = Arc::clone(&is_rung_for);
                shared.bell(number).hang(move || rung.store(true, Ordering::Relaxed));
            }
            self.hosts.push(Host {
                engine,
                tags: Arc::clone(&tags),
                buffer_memory,
                turns_for_nothing: 0,
                is_rung_for,
                lines: 0,
                gate: VecDeque::new(),
                at_gate: 0,
                held_until_us: 0,
                course: Course::Serves,
            });
            self.net.call_turn(first + number, 100);
        }
        if let Some((field, fleet, figures)) = polled {
            let newest =
                field.written().map(|(device, point)| (device.tag(point), point.value(device.number, 0)));
            self.book.open().newest.extend(newest);
            for host in &mut self.hosts {
                host.engine.compute(Arc::clone(&figures) as Arc<dyn Figures>);
            }
            let watch = FieldWatch::begin(field, fleet, figures, &tags, |session| {
                let host = self.give_a_line();
                self.hosts[host].engine.house(session);
            });
            self.field = Some(watch);
            self.net.after(LOOK_US, Happening::Look);
        }
        units.resident().into_iter().for_each(|session| self.hosts[first].engine.house(session));
    }

    fn settings(&self, host: usize, units: &Arc<dyn Service>) -> Settings {
        let plan = &self.plan;
        let document = Document::parse("world", "");
        let listeners = LISTENERS.map(|scheme| {
            let protocol = by_scheme(scheme).expect("a protocol of the table");
            let acceptor = protocol.listener(Some(units), &mut document.root());
            Listener {
                scheme: protocol.scheme,
                transport: protocol.transport,
                acceptor: watched(acceptor, &self.book),
                grants: Grants::default(),
                max_connections: None,
                idle_timeout: (protocol.transport == Transport::Datagram).then_some(Duration::from_secs(2)),
                frame_timeout: plan.frame_timeout,
                stale_after: plan.stale_after,
            }
        });
        Settings {
            name: format!("host{host}"),
            max_connections: plan.max_connections,
            max_subscriptions: plan.max_subscriptions,
            max_udp_peers: plan.max_udp_peers,
            buffer_memory: plan.buffer_memory,
            trace_memory: 64 * 1024,
            write_stall: plan.write_stall,
            listeners: listeners.into(),
            memory_probe: || 0,
        }
    }

    /// An engine of the server dials devices from now on.
    pub(super) fn give_a_line(&mut self) -> usize {
        let host = self.hosts[0].engine.shared().give_to_least_loaded();
        self.hosts[host].lines += 1;
        host
    }

    /// The engines of the server.
    fn shards(&self) -> usize {
        self.plan.shards
    }

    fn engine(&mut self, host: usize) -> (&mut Engine, HostWire<'_>) {
        (&mut self.hosts[host].engine, HostWire { net: &mut self.net, host })
    }

    /// Each engine stops in one of its next turns.
    pub(super) fn stop_all(&mut self) {
        for host in 0..self.hosts.len() {
            self.hosts[host].course = Course::Stops;
            let us = self.random.within(1..=STOPPED_WITHIN_US);
            self.net.call_turn(host, us);
        }
    }

    /// One turn of an engine, as the reactor would do it.
    pub(super) fn turn(&mut self, host: usize) {
        if self.hosts[host].course == Course::IsOver || self.is_held_up(host) {
            return;
        }
        self.turns += 1;
        self.net.inboxes[host].turn_at = None;
        let now = self.now();
        // What the poll found, in any order; more may arrive while it is worked off.
        let mut edges = std::mem::take(&mut self.net.inboxes[host].edges);
        self.random.shuffle(&mut edges);
        let noted = self.book.open().trace.count();
        self.book.open().turn_of = host;
        let events: Vec<(Port, ConnKey, Ready)> =
            edges.into_iter().filter_map(|port| self.event(host, port)).collect();
        let (engine, mut wire) = self.engine(host);
        engine.begin(now, &mut wire);
        for event in events {
            self.hand_in(host, event);
        }
        if self.hosts[host].course == Course::Stops {
            self.hosts[host].course = Course::Ends;
            let (engine, mut wire) = self.engine(host);
            engine.stop(&mut wire);
        }
        for _ in 0..CALLS_PER_TURN {
            let Some(link) = self.net.inboxes[host].calls.pop_front() else { break };
            self.take_call(host, link);
        }
        self.take_in_newcomers(host);
        while let Some((listener, from, bytes)) = self.net.inboxes[host].datagrams.pop_front() {
            let (engine, mut wire) = self.engine(host);
            engine.on_datagram(listener, from, &bytes, &mut wire);
        }
        for (key, result) in std::mem::take(&mut self.net.inboxes[host].dialled) {
            let (engine, mut wire) = self.engine(host);
            engine.on_dialled(key, result, &mut wire);
        }
        for key in std::mem::take(&mut self.net.inboxes[host].unresolved) {
            self.book.meet("a name without an address");
            let (engine, mut wire) = self.engine(host);
            engine.on_unresolved(key, "nobody knows it", &mut wire);
        }
        let (engine, mut wire) = self.engine(host);
        let next = engine.end(&mut wire);
        let waits = !self.net.inboxes[host].calls.is_empty();
        if waits || next <= now.tick {
            self.net.call_turn(host, 20);
        } else if next < Tick::NEVER {
            self.net.call_turn(host, next.as_micros() - now.tick.as_micros());
        }
        let nothing = next <= now.tick && !waits && self.book.open().trace.count() == noted;
        self.end_if_over(host);
        let Host { engine, buffer_memory, turns_for_nothing, .. } = &mut self.hosts[host];
        *turns_for_nothing = if nothing { *turns_for_nothing + 1 } else { 0 };
        self.book.judge(checkers::nobody_spins(host, *turns_for_nothing));
        self.book.judge(checkers::buffers_within_memory(engine, *buffer_memory));
        if let (true, Some(field)) = (host < self.plan.shards, &mut self.field) {
            field.look_at_new(&self.hosts[0].tags, &mut self.book.open());
        }
    }

    /// Whether an engine has its turn later. Where polls are to be on time, none has.
    fn is_held_up(&mut self, host: usize) -> bool {
        let now_us = self.net.now_us;
        let is_free = self.hosts[host].held_until_us <= now_us;
        let may_be_held_up = host < self.shards() && self.shards() > 1 && self.field.is_none() && !self.quiet;
        if is_free && may_be_held_up && self.random.one_in(HELD_UP_ONE_IN) {
            self.hosts[host].held_until_us = now_us + self.random.within(1..=HELD_UP_US);
        }
        let held_until_us = self.hosts[host].held_until_us;
        if held_until_us <= now_us {
            return false;
        }
        self.net.inboxes[host].turn_at = None;
        self.net.call_turn(host, held_until_us - now_us);
        true
    }

    /// What a poll says of an end that had an event.
    fn event(&mut self, host: usize, port: Port) -> Option<(Port, ConnKey, Ready)> {
        let (link, side) = port;
        let Holder::Host(of, Some(key)) = self.holder(port) else { return None };
        assert_eq!(of, host, "an event comes to the engine that has the connection");
        let link = &mut self.net.links[link];
        let pipe = link.to(side);
        let (readable, read_closed) = (pipe.is_readable(), pipe.end_arrived || pipe.broken);
        let writable = pipe.broken || link.from(side).room() > 0;
        Some((port, key, Ready { readable, writable, read_closed }))
    }

    fn hand_in(&mut self, host: usize, (port, key, ready): (Port, ConnKey, Ready)) {
        let dialled = &mut self.net.inboxes[host].dialled;
        if let Some(at) = dialled.iter().position(|dialled| *dialled == (key, Ok(()))) {
            dialled.swap_remove(at).1.expect("it was found as a success");
            let (engine, mut wire) = self.engine(host);
            engine.on_dialled(key, Ok(()), &mut wire);
        }
        if self.random.one_in(8) {
            self.net.hurry(port);
        }
        let (engine, mut wire) = self.engine(host);
        engine.on_ready(key.index, ready, &mut wire);
    }

    /// The first engine of a server accepts a call.
    fn take_call(&mut self, host: usize, link: LinkId) {
        let port = (link, Side::Taker);
        if self.hosts[host].course != Course::Serves {
            self.book.open().harmed.insert(link);
            return self.net.close(port);
        }
        let loads = self.loads();
        let lines = self.hosts.iter().map(|host| host.lines).sum::<usize>();
        let open = loads.iter().sum::<usize>() - lines - self.hosts[host].engine.datagram_peers();
        let turned_away = self.turned_away();
        let address: SocketAddr = address_of(link);
        let listener = self.net.links[link].listener;
        let engine = &mut self.hosts[host].engine;
        let refused = engine.metrics().refused.value();
        let admission = engine.admit(listener, address, host_address(host));
        let is_refused = engine.metrics().refused.value() > refused;
        if is_refused {
            let mut record = self.book.open();
            record.harmed.insert(link);
            record.turned_away.insert(link);
            record.meet("a connection too many");
        }
        let (most, is_closed) = (self.plan.max_connections, admission.is_none());
        self.book.judge(checkers::connections_within_limits(open - turned_away, most, is_refused));
        if is_refused {
            self.book.judge(checkers::few_hear_why(turned_away, is_closed));
        }
        let Some(admission) = admission else { return self.net.close(port) };
        let shard = admission.shard();
        self.book.judge(checkers::peers_go_to_the_least_loaded(&loads, shard));
        if shard == host {
            return self.take_in(host, admission, link);
        }
        self.net.links[link].holders[Side::Taker as usize] = Holder::Host(shard, None);
        self.hosts[shard].gate.push_back((admission, link));
        let us = self.random.within(0..=HAND_OVER_US);
        self.net.after(us, Happening::HandedOver(shard));
    }

    /// How many connections each engine of the server was given and has not closed.
    fn loads(&self) -> Vec<usize> {
        let known = |host: &Host| host.lines + host.gate.len() + host.engine.datagram_peers();
        let mut loads: Vec<usize> = self.hosts[..self.shards()].iter().map(known).collect();
        for link in &self.net.links {
            if let Holder::Host(host, Some(_)) = link.holder(Side::Taker) {
                loads[host] += 1;
            }
        }
        loads
    }

    /// How many of them only hear that they are not served.
    fn turned_away(&self) -> usize {
        let is_held = |link: &&LinkId| {
            let holder = self.net.links[**link].holder(Side::Taker);
            let waits = |host: &Host| host.gate.iter().any(|(_, waiting)| waiting == *link);
            matches!(holder, Holder::Host(_, Some(_))) || self.hosts.iter().any(waits)
        };
        self.book.open().turned_away.iter().filter(is_held).count()
    }

    /// A peer has come to the engine that is to serve it.
    pub(super) fn on_handed_over(&mut self, shard: usize) {
        self.hosts[shard].at_gate += 1;
        self.hosts[0].engine.shared().bell(shard).ring();
    }

    /// Those who have come. Where nobody is served any more they are closed.
    fn take_in_newcomers(&mut self, host: usize) {
        for _ in 0..std::mem::take(&mut self.hosts[host].at_gate) {
            let newcomer = self.hosts[host].gate.pop_front();
            let (admission, link) = newcomer.expect("somebody waits who has come");
            if self.hosts[host].course == Course::Serves {
                self.take_in(host, admission, link);
            } else {
                self.book.open().harmed.insert(link);
                self.net.close((link, Side::Taker));
            }
        }
    }

    fn take_in(&mut self, host: usize, admission: Admission, link: LinkId) {
        let port = (link, Side::Taker);
        let key = self.hosts[host].engine.enter(admission);
        self.net.bind(port, host, key);
        if self.random.one_in(60) {
            self.book.open().harmed.insert(link);
            let (engine, mut wire) = self.engine(host);
            return engine.on_broken(key, ErrorKind::OutOfMemory, &mut wire);
        }
        self.hosts[host].engine.on_open(key);
        self.net.poke(port);
    }

    /// Who was asked to stop and has closed all connections has no more turns.
    fn end_if_over(&mut self, host: usize) {
        let Host { engine, course, .. } = &mut self.hosts[host];
        if *course == Course::Ends && engine.is_empty() {
            engine.retire();
            *course = Course::IsOver;
        }
    }

    /// Engines for which somebody rang have a turn soon; the others none for that.
    pub(super) fn wake_who_is_rung_for(&mut self) {
        if self.shards() == 1 {
            return;
        }
        for number in 0..self.shards() {
            let host = &self.hosts[number];
            if host.is_rung_for.swap(false, Ordering::Relaxed) {
                self.net.wake_host(number);
            }
            let shared = host.engine.shared();
            let is_left = host.at_gate > 0 || shared.has_left(number) || host.tags.has_changes(number);
            let soon_us = host.held_until_us.max(self.net.now_us + LATENCY_US);
            let is_called = self.net.inboxes[number].turn_at.is_some_and(|at_us| at_us <= soon_us);
            if host.course != Course::IsOver {
                let verdict = checkers::who_is_left_something_is_woken(number, is_left, is_called);
                self.book.judge(verdict);
            }
        }
    }
}
