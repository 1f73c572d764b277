//! A world: engines, peers and the network between them, on a time of its own.

mod field;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::checkers;
use super::client::Client;
use super::field_watch::FieldWatch;
use super::link::{Holder, Port, Side};
use super::net::{Happening, HostWire, Net, device_address, host_address};
use super::peers::{DatagramPeer, Ended, Hand, Master, MasterByDatagrams, Noise, Part, Peer, Plc, Talker};
use super::plan::{LISTENERS, Plan};
use super::plant::{self, Plant};
use super::record::{Book, LinkId};
use super::sessions::{Driver, EPOCH, Reporter};
use super::units;
use super::watched::{address_of, watched};
use crate::base::random::Random;
use crate::base::section::Document;
use crate::base::time::{Now, Tick, Timestamp};
use crate::engine::{ConnKey, End, Endpoint, Engine, Listener, Ready, Settings, Shared, Transport};
use crate::protocols::by_scheme;
use crate::security::Grants;
use crate::tags::Tags;

/// All that was begun ends within this time: longer than any timeout of the engine.
const REST_US: u64 = 9_000_000;
/// The tags of polled devices are looked at after each turn, and so often.
const LOOK_US: u64 = 20_000;
/// Calls that are taken in one turn.
const CALLS_PER_TURN: usize = 4;

/// An engine and its tags.
struct Host {
    engine: Engine,
    tags: Arc<Tags>,
    buffer_memory: usize,
    /// Turns in a row that the engine asked for at once, and in which nothing happened.
    turns_for_nothing: u32,
}

/// A peer and its connection.
struct Slot {
    peer: Box<dyn Peer>,
    port: Option<Port>,
}

pub(super) struct World {
    plan: Plan,
    net: Net,
    /// The server is the first.
    hosts: Vec<Host>,
    peers: Vec<Slot>,
    /// What the driver of the server polls.
    field: Option<FieldWatch>,
    /// The clients of sessions on other engines.
    reporters: Vec<Arc<Mutex<Client>>>,
    random: Random,
    book: Book,
    quiet: bool,
    /// What an operator did to the wall clock.
    wall_off_ms: i64,
    turns: u64,
}

impl World {
    pub(super) fn new(seed: u64, book: Book) -> World {
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random);
        let hosts = 1 + usize::from(plan.reporter);
        let net = Net::new(random.fork(), book.clone(), hosts);
        let mut world = World {
            plan,
            net,
            hosts: Vec::new(),
            peers: Vec::new(),
            field: None,
            reporters: Vec::new(),
            random,
            book,
            quiet: false,
            wall_off_ms: 0,
            turns: 0,
        };
        for host in 0..hosts {
            world.add_host(host);
        }
        world.book.open().newest.extend(units::owned_tags().map(|tag| (tag, 0)));
        world.populate();
        world
    }

    /// Live through it. The book says whether a rule was broken.
    pub(super) fn run(&mut self) {
        let plan = format!("{:?}", self.plan);
        self.book.note(format_args!("world"), format_args!("{plan}"));
        if !self.pass_time(self.plan.busy_us) {
            return;
        }
        self.come_to_rest();
        if !self.let_all_come_back() || !self.pass_time(REST_US) {
            return;
        }
        self.check_rest();
        self.book.note(format_args!("world"), format_args!("the engines are stopped"));
        for host in 0..self.hosts.len() {
            let Host { engine, .. } = &mut self.hosts[host];
            engine.stop(&mut HostWire { net: &mut self.net, host });
            self.net.call_turn(host, 1);
        }
        if self.pass_time(REST_US) {
            self.check_end();
        }
    }

    pub(super) fn turns(&self) -> u64 {
        self.turns
    }

    fn add_host(&mut self, host: usize) {
        let plan = &self.plan;
        let Plant { tags, units, polled } = plant::plant(plan, host);
        let document = Document::parse("world", "");
        let listeners = LISTENERS.map(|scheme| {
            let protocol = by_scheme(scheme).expect("a protocol of the table");
            let acceptor = protocol.listener(Some(&units), &mut document.root());
            Listener {
                scheme: protocol.scheme,
                transport: protocol.transport,
                acceptor: watched(acceptor, &self.book, host),
                grants: Grants::default(),
                max_connections: None,
                idle_timeout: (protocol.transport == Transport::Datagram).then_some(Duration::from_secs(2)),
                frame_timeout: plan.frame_timeout,
                stale_after: plan.stale_after,
            }
        });
        let settings = Settings {
            name: format!("host{host}"),
            max_connections: plan.max_connections,
            max_subscriptions: plan.max_subscriptions,
            max_udp_peers: plan.max_udp_peers,
            buffer_memory: plan.buffer_memory,
            trace_memory: 64 * 1024,
            write_stall: plan.write_stall,
            listeners: listeners.into(),
            memory_probe: || 0,
        };
        let buffer_memory = settings.buffer_memory;
        let mut engine = Engine::new(0, &Shared::new(settings, Arc::clone(&tags)), self.now());
        units.resident().into_iter().for_each(|session| engine.house(session));
        if let Some((field, fleet, figures)) = polled {
            let newest =
                field.written().map(|(device, point)| (device.tag(point), point.value(device.number, 0)));
            self.book.open().newest.extend(newest);
            self.field = Some(FieldWatch::begin(field, fleet, figures, &mut engine, &tags));
            self.net.call_turn(host, 100);
            self.net.after(LOOK_US, Happening::Look);
        }
        self.hosts.push(Host { engine, tags, buffer_memory, turns_for_nothing: 0 });
    }

    fn populate(&mut self) {
        let plan = self.plan.clone();
        self.populate_field(&plan);
        let parts = [
            (Part::Device, "dev", plan.devices),
            (Part::Subscriber { slow: false }, "fast", plan.fast),
            (Part::Subscriber { slow: true }, "slow", plan.slow),
            (Part::HalfCloser, "half", plan.half_closers),
            (Part::Operator, "oper", plan.operators),
        ];
        for (part, prefix, count) in parts {
            for number in 0..count {
                let name = format!("{prefix}{number}");
                let mut talker =
                    Talker::new(part, &name, plan.tags_each, &mut self.random, self.book.clone());
                if plan.is_short_of_memory() {
                    talker.excuse(End::Memory);
                }
                self.add_peer(name, Box::new(talker));
            }
        }
        for number in 0..plan.noises {
            let name = format!("noise{number}");
            self.add_peer(name.clone(), Box::new(Noise::new(&name)));
        }
        for number in 0..plan.datagram_peers {
            let name = format!("udp{number}");
            self.add_peer(name.clone(), Box::new(DatagramPeer::new(&name)));
        }
        for number in 0..plan.masters + plan.rtu_masters {
            let is_serial = number >= plan.masters;
            let name = if is_serial { format!("rtu{number}") } else { format!("master{number}") };
            let operators = plan.shown_operators();
            let mut master =
                Master::new(&name, number, is_serial, operators, &mut self.random, self.book.clone());
            if plan.is_short_of_memory() {
                master.excuse(End::Memory);
            }
            self.add_peer(name, Box::new(master));
        }
        for number in 0..plan.udp_masters {
            let name = format!("mudp{number}");
            let master = MasterByDatagrams::new(&name, plan.polled, self.book.clone());
            self.add_peer(name, Box::new(master));
        }
        if plan.polled {
            let address = device_address(self.add_peer("plc0".to_owned(), Box::new(Plc::default())));
            let driver = Driver::new(
                0,
                Endpoint { address, from: None, transport: Transport::Stream },
                self.book.clone(),
                self.random.fork(),
            );
            self.hosts[0].engine.dial_at(
                Tick::from_micros(100),
                Endpoint { address, from: None, transport: Transport::Stream },
                Box::new(driver),
            );
            self.net.call_turn(0, 100);
        }
        if plan.reporter {
            self.add_reporter();
        }
        if plan.fault_us < plan.busy_us {
            self.net.after(plan.fault_us, Happening::Fault);
        }
    }

    fn add_peer(&mut self, name: String, peer: Box<dyn Peer>) -> usize {
        self.net.names.push(name);
        self.peers.push(Slot { peer, port: None });
        let me = self.peers.len() - 1;
        let us = self.random.within(0..=100_000);
        self.net.after(us, Happening::Wake(me));
        me
    }

    fn add_reporter(&mut self) {
        let client = Arc::new(Mutex::new(Client::new("rep0".to_owned(), self.book.clone())));
        self.reporters.push(Arc::clone(&client));
        let to = Endpoint { address: host_address(0), from: None, transport: Transport::Stream };
        let reporter = Reporter {
            to,
            book: self.book.clone(),
            random: self.random.fork(),
            client,
            next: Tick::NEVER,
            version: 0,
            tags: 0,
        };
        self.hosts[1].engine.dial_at(Tick::from_micros(100), to, Box::new(reporter));
        self.net.call_turn(1, 100);
    }

    fn now(&self) -> Now {
        let us = self.net.now_us;
        let wall = Timestamp(EPOCH.0 + (us / 1_000) as i64 + self.wall_off_ms);
        Now { tick: Tick::from_micros(us), wall }
    }

    /// Let so much time pass. False if a rule was broken meanwhile.
    fn pass_time(&mut self, us: u64) -> bool {
        let until_us = self.net.now_us + us;
        while let Some(what) = self.net.next(until_us) {
            self.happen(what);
            if self.book.open().violation.is_some() {
                return false;
            }
        }
        self.net.set_now(until_us);
        true
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Arrival(port) => self.net.on_arrival(port),
            Happening::Broken(port) => self.net.on_broken(port),
            Happening::Room(port) => match self.holder(port) {
                Holder::Peer(_) => self.net.empty_outbox(port),
                _ => self.net.poke(port),
            },
            Happening::Readable(port) => match self.holder(port) {
                Holder::Peer(peer) => self.peer_reads(peer, port),
                _ => self.net.poke(port),
            },
            Happening::Call(link) => self.on_call(link),
            Happening::Taken(link) => match self.net.on_taken(link) {
                Some(Holder::Peer(peer)) => self.on_dialled_peer(peer, (link, Side::Taker)),
                Some(_) => self.on_call(link),
                None => {}
            },
            Happening::Refused(link) => {
                let Holder::Peer(peer) = self.holder((link, Side::Caller)) else { return };
                self.end_of_peer(peer, (link, Side::Caller), Ended::Broken);
            }
            Happening::DatagramIn { host, listener, from, bytes } => {
                self.net.inboxes[host].datagrams.push_back((listener, from, bytes));
                self.net.call_turn(host, 30);
            }
            Happening::DatagramOut { peer, bytes } => {
                self.with_peer(peer, |peer, hand| peer.on_datagram(hand, &bytes));
            }
            Happening::Turn(host) => {
                // Another time may have been set since.
                if self.net.inboxes[host].turn_at == Some(self.net.now_us) {
                    self.turn(host);
                }
            }
            Happening::Wake(peer) => self.with_peer(peer, |peer, hand| peer.on_wake(hand)),
            Happening::Fault => self.do_harm(),
            Happening::Look => {
                if let Some(field) = &mut self.field {
                    field.look_at_all(&self.hosts[0].tags, &mut self.book.open());
                }
                self.net.after(LOOK_US, Happening::Look);
            }
        }
    }

    fn holder(&self, (link, side): Port) -> Holder {
        self.net.links[link].holder(side)
    }

    fn with_peer(&mut self, me: usize, call: impl FnOnce(&mut dyn Peer, &mut Hand<'_>)) {
        let Slot { peer, port } = &mut self.peers[me];
        call(peer.as_mut(), &mut Hand { net: &mut self.net, me, port, quiet: self.quiet });
    }

    fn on_call(&mut self, link: LinkId) {
        if let Holder::Host(host, None) = self.holder((link, Side::Taker)) {
            self.net.inboxes[host].calls.push_back(link);
            self.net.call_turn(host, 50);
        }
    }

    /// A device takes one call at a time: the newest.
    fn on_dialled_peer(&mut self, peer: usize, port: Port) {
        if let Some(before) = self.peers[peer].port.replace(port) {
            if self.field.is_some() {
                let has_another = matches!(self.holder((before.0, Side::Caller)), Holder::Host(..));
                let who = &self.net.names[peer];
                self.book.judge(checkers::one_connection_at_a_time(who, has_another));
            }
            self.net.abandon(before, true);
        }
        self.with_peer(peer, |peer, hand| peer.on_open(hand));
    }

    fn peer_reads(&mut self, peer: usize, port: Port) {
        let (link, side) = port;
        let pipe = self.net.links[link].to(side);
        pipe.reader_called = false;
        let mut bytes = vec![0; pipe.appetite.most_bytes.min(pipe.arrived.len()).max(1)];
        if self.peers[peer].port != Some(port) {
            return;
        }
        match self.net.recv(port, &mut bytes) {
            Ok(0) => self.end_of_peer(peer, port, Ended::Orderly),
            Ok(count) => {
                let name = self.net.name_of(port);
                self.book.open().note_bytes(format_args!("{name}"), "◀──", &bytes[..count]);
                self.with_peer(peer, |peer, hand| peer.on_bytes(hand, &bytes[..count]));
                self.net.poke(port);
            }
            Err(std::io::ErrorKind::WouldBlock) => {}
            Err(_) => self.end_of_peer(peer, port, Ended::Broken),
        }
    }

    fn end_of_peer(&mut self, peer: usize, port: Port, how: Ended) {
        let (link, side) = port;
        let name = self.net.name_of(port);
        self.net.close(port);
        self.peers[peer].port = None;
        {
            let mut record = self.book.open();
            record.note(format_args!("{name}"), format_args!("◀── {how:?} end"));
            // Who was dialled is left when it pleases the one who dialled.
            if side == Side::Caller && !record.harmed.contains(&link) {
                let why = record.ended.get(&link).copied();
                let excused = self.peers[peer].peer.excused();
                record.judge(checkers::nobody_is_closed_without_cause(&name, why, excused));
                record.judge(checkers::last_words_are_heard(&name, why, how == Ended::Broken));
            }
        }
        // Whose session was not at its own end may have been left without replies.
        let why = self.book.open().ended.get(&link).copied();
        let own = matches!(why, Some(End::PeerClosed | End::Quit));
        let how = if own { how } else { Ended::Broken };
        self.with_peer(peer, |peer, hand| peer.on_end(hand, how));
    }

    /// One turn of an engine, as the reactor would do it.
    fn turn(&mut self, host: usize) {
        self.turns += 1;
        self.net.inboxes[host].turn_at = None;
        let now = self.now();
        // What the poll found, in any order; more may arrive while it is worked off.
        let mut edges = std::mem::take(&mut self.net.inboxes[host].edges);
        self.random.shuffle(&mut edges);
        let noted = self.book.open().trace.count();
        let events: Vec<(Port, ConnKey, Ready)> =
            edges.into_iter().filter_map(|port| self.event(host, port)).collect();
        let Host { engine, .. } = &mut self.hosts[host];
        let wire = &mut HostWire { net: &mut self.net, host };
        engine.begin(now, wire);
        for (port, key, ready) in events {
            let dialled = &mut wire.net.inboxes[host].dialled;
            if let Some(at) = dialled.iter().position(|dialled| *dialled == (key, Ok(()))) {
                dialled.swap_remove(at).1.expect("it was found as a success");
                engine.on_dialled(key, Ok(()), wire);
            }
            if self.random.one_in(8) {
                wire.net.hurry(port);
            }
            engine.on_ready(key.index, ready, wire);
        }
        for _ in 0..CALLS_PER_TURN {
            let Some(link) = wire.net.inboxes[host].calls.pop_front() else { break };
            take_call(engine, wire, link, &mut self.random);
        }
        while let Some((listener, from, bytes)) = wire.net.inboxes[host].datagrams.pop_front() {
            engine.on_datagram(listener, from, &bytes, wire);
        }
        for (key, result) in std::mem::take(&mut wire.net.inboxes[host].dialled) {
            engine.on_dialled(key, result, wire);
        }
        let next = engine.end(wire);
        let waits = !wire.net.inboxes[host].calls.is_empty();
        if waits || next <= now.tick {
            wire.net.call_turn(host, 20);
        } else if next < Tick::NEVER {
            wire.net.call_turn(host, next.as_micros() - now.tick.as_micros());
        }
        let nothing = next <= now.tick && !waits && self.book.open().trace.count() == noted;
        let Host { engine, buffer_memory, turns_for_nothing, .. } = &mut self.hosts[host];
        *turns_for_nothing = if nothing { *turns_for_nothing + 1 } else { 0 };
        self.book.judge(checkers::nobody_spins(host, *turns_for_nothing));
        self.book.judge(checkers::buffers_within_memory(engine, *buffer_memory));
        if let (0, Some(field)) = (host, &mut self.field) {
            field.look_at_new(&self.hosts[0].tags, &mut self.book.open());
        }
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

    /// Something goes wrong that is nobody's fault.
    fn do_harm(&mut self) {
        if self.quiet {
            return;
        }
        let live: Vec<LinkId> = (0..self.net.links.len())
            .filter(|&link| !self.net.links[link].holders.contains(&Holder::Nobody))
            .filter(|&link| !self.net.is_spared(link))
            .collect();
        if !live.is_empty() {
            let link = live[self.random.below(live.len())];
            match self.random.below(10) {
                0 | 1 => {
                    self.book.note(format_args!("world"), format_args!("~{link} is cut"));
                    self.net.cut(link);
                }
                2 => {
                    self.wall_off_ms += self.random.within(0..=20_000_000) as i64 - 10_000_000;
                    self.book.note(format_args!("world"), format_args!("the wall clock jumps"));
                }
                _ => {
                    let us = self.random.within(1_000..=900_000);
                    let side = *self.random.pick(&[&Side::Caller, &Side::Taker]);
                    self.book.note(format_args!("world"), format_args!("~{link} stalls for {us} µs"));
                    let pipe = self.net.links[link].to(side);
                    pipe.not_before_us = pipe.not_before_us.max(self.net.now_us + us);
                }
            }
        }
        let us = self.random.within(1..=2 * self.plan.fault_us);
        self.net.after(us, Happening::Fault);
    }

    /// From now on nothing goes wrong, and nothing is begun.
    fn come_to_rest(&mut self) {
        self.book.note(format_args!("world"), format_args!("all comes to rest"));
        self.quiet = true;
        self.net.rough = false;
        self.book.open().quiet = true;
        for peer in 0..self.peers.len() {
            self.with_peer(peer, |peer, hand| peer.on_quiet(hand));
        }
    }

    fn check_rest(&mut self) {
        let table = plant::table_of(&self.hosts[0].tags);
        self.check_tags();
        for slot in self.peers.iter().filter(|slot| slot.port.is_some()) {
            slot.peer.check_quiet(&table);
        }
        for client in &self.reporters {
            let client = client.lock().expect("nobody panicked");
            client.check_nothing_waits("when all is quiet");
            client.check_told(&table);
        }
        for host in &self.hosts {
            self.book.judge(checkers::quiet_owns_no_buffer(&host.engine));
        }
    }

    /// Registers that nobody has named so far are named here: what they hold is looked at, too.
    fn check_tags(&mut self) {
        let tags = &self.hosts[0].tags;
        let mut record = self.book.open();
        let confirmed = record.confirmed.clone();
        for (tag, version) in confirmed.iter().filter(|(tag, _)| checkers::is_versioned(tag)) {
            let now = plant::state_of(tags, tag);
            record.judge(checkers::confirmed_writes_are_seen("the table", tag, *version, &now));
        }
        for (tag, safe) in units::guarded_tags() {
            record.judge(checkers::watchdogs_have_struck(tag, &plant::state_of(tags, tag).value, &safe));
        }
    }

    fn check_end(&mut self) {
        for (number, host) in self.hosts.iter().enumerate() {
            self.book.judge(checkers::all_is_given_back(&format!("host{number}"), &host.engine));
        }
        for (peer, name) in self.peers.iter().zip(&self.net.names) {
            self.book.judge(checkers::everybody_hears_of_the_end(name, peer.port.is_some()));
        }
    }
}

/// An engine accepts a call.
fn take_call(engine: &mut Engine, wire: &mut HostWire<'_>, link: LinkId, random: &mut Random) {
    let port = (link, Side::Taker);
    let refused = engine.metrics().refused.value();
    let address: SocketAddr = address_of(link);
    let key = engine.accept(wire.net.links[link].listener, address);
    if engine.metrics().refused.value() > refused {
        let mut record = wire.net.book.open();
        record.harmed.insert(link);
        record.meet("a connection too many");
    }
    let Some(key) = key else { return wire.net.close(port) };
    wire.net.bind(port, wire.host, key);
    if random.one_in(60) {
        wire.net.book.open().harmed.insert(link);
        return engine.on_broken(key, std::io::ErrorKind::OutOfMemory, wire);
    }
    engine.on_open(key);
    wire.net.poke(port);
}
