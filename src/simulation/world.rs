//! A world: engines, peers and the network between them, on a time of its own.

mod field;
mod server;

use std::sync::{Arc, Mutex};

use super::checkers;
use super::client::Client;
use super::field_watch::FieldWatch;
use super::link::{Holder, Port, Side};
use super::net::{Happening, Net, device_address, host_address};
use super::peers::{DatagramPeer, Ended, Hand, Master, MasterByDatagrams, Noise, Part, Peer, Plc, Talker};
use super::plan::Plan;
use super::plant;
use super::record::{Book, LinkId};
use super::sessions::{Driver, EPOCH, Reporter};
use super::units;
use crate::base::random::Random;
use crate::base::time::{Now, Tick, Timestamp};
use crate::engine::{End, Endpoint, Transport};

use server::Host;

/// All that was begun ends within this time: longer than any timeout of the engine.
const REST_US: u64 = 9_000_000;
/// The tags of polled devices are looked at after each turn, and so often.
const LOOK_US: u64 = 20_000;

/// A peer and its connection.
struct Slot {
    peer: Box<dyn Peer>,
    port: Option<Port>,
}

pub(super) struct World {
    plan: Plan,
    net: Net,
    /// The engines of the server come first.
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
        let hosts = plan.shards + usize::from(plan.reporter);
        let (shards, has_reporter) = (plan.shards, plan.reporter);
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
        world.add_server(shards);
        if has_reporter {
            world.add_server(1);
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
        self.stop_all();
        if self.pass_time(REST_US) {
            self.check_end();
        }
    }

    pub(super) fn turns(&self) -> u64 {
        self.turns
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
            let to = Endpoint { host: address.into(), from: None, transport: Transport::Stream };
            let driver = Driver::new(to.clone(), self.book.clone(), self.random.fork());
            let host = self.give_a_line();
            self.hosts[host].engine.dial_at(Tick::from_micros(100), to, Box::new(driver));
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
        let to = Endpoint { host: host_address(0).into(), from: None, transport: Transport::Stream };
        let reporter = Reporter {
            to: to.clone(),
            book: self.book.clone(),
            random: self.random.fork(),
            client,
            next: Tick::NEVER,
            version: 0,
            tags: 0,
        };
        let host = self.plan.shards;
        self.hosts[host].engine.dial_at(Tick::from_micros(100), to, Box::new(reporter));
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
            self.wake_who_is_rung_for();
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
            Happening::HandedOver(shard) => self.on_handed_over(shard),
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
        for (number, host) in self.hosts.iter().enumerate() {
            self.book.judge(checkers::quiet_owns_no_buffer(&host.engine));
            self.book.judge(checkers::nothing_is_pending(&format!("host{number}"), &host.engine));
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
