//! The network of a world: all links, what is under way on them, and the agenda of everything that will
//! happen.

mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;
use std::net::SocketAddr;

use super::link::{Appetite, Holder, Link, Payload, Port, Side, Weather};
use super::record::{Book, LinkId};
use crate::base::host::NamedHost;
use crate::base::random::Random;
use crate::engine::ConnKey;

pub(super) use wire::HostWire;

/// Something that will happen at its time.
#[derive(Debug)]
pub(super) enum Happening {
    /// What is due on the pipe to this end arrives.
    Arrival(Port),
    /// This end hears that it can write again.
    Room(Port),
    /// This end hears that it can read (on).
    Readable(Port),
    /// This end learns that the link is broken.
    Broken(Port),
    /// The caller's request reaches the taker.
    Call(LinkId),
    /// The caller, an engine, hears that its call was taken.
    Taken(LinkId),
    /// The caller, a peer, hears that its call was refused.
    Refused(LinkId),
    /// A datagram reaches an engine's listener.
    DatagramIn { host: usize, listener: usize, from: SocketAddr, bytes: Vec<u8> },
    /// A datagram reaches a peer.
    DatagramOut { peer: usize, bytes: Vec<u8> },
    /// An engine's turn.
    Turn(usize),
    /// A peer that another engine has accepted comes to the engine that serves it.
    HandedOver(usize),
    /// A peer asked to be called.
    Wake(usize),
    /// The world does harm.
    Fault,
    /// The tags of polled devices are looked at.
    Look,
}

/// What becomes of calls to a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Dials {
    /// Most are taken.
    #[default]
    ByChance,
    Taken,
    Refused,
    /// Nobody ever answers.
    Unheard,
}

/// How the world treats a peer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manners {
    /// Its links have good weather, and no harm is done to them.
    pub(super) is_spared: bool,
    pub(super) dials: Dials,
}

/// What waits for the next turn of an engine.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) turn_at: Option<u64>,
    pub(super) edges: Vec<Port>,
    pub(super) calls: VecDeque<LinkId>,
    pub(super) dialled: Vec<(ConnKey, Result<(), ErrorKind>)>,
    /// Connections whose host's name nobody knows just now.
    pub(super) unresolved: Vec<ConnKey>,
    pub(super) datagrams: VecDeque<(usize, SocketAddr, Vec<u8>)>,
}

/// The longest that a turn waits for its events to be noticed.
pub(super) const LATENCY_US: u64 = 120;
/// Datagrams of peers come from the links that stand from here on.
pub(super) const FIRST_UDP_LINK: LinkId = 0x00f0_0000;

pub(super) struct Net {
    pub(super) now_us: u64,
    pub(super) random: Random,
    pub(super) book: Book,
    pub(super) links: Vec<Link>,
    pub(super) inboxes: Vec<Inbox>,
    /// Names of the peers, for the trace.
    pub(super) names: Vec<String>,
    /// Calls fail, links are slow, datagrams are lost.
    pub(super) rough: bool,
    manners: BTreeMap<usize, Manners>,
    agenda: BTreeMap<(u64, u64), Happening>,
    happenings: u64,
    by_key: BTreeMap<(usize, u32, u32), Port>,
}

impl Net {
    pub(super) fn new(random: Random, book: Book, hosts: usize) -> Net {
        Net {
            now_us: 0,
            random,
            book,
            links: Vec::new(),
            inboxes: (0..hosts).map(|_| Inbox::default()).collect(),
            names: Vec::new(),
            rough: true,
            manners: BTreeMap::new(),
            agenda: BTreeMap::new(),
            happenings: 0,
            by_key: BTreeMap::new(),
        }
    }

    /// How a peer is treated.
    pub(super) fn manners_of(&mut self, peer: usize) -> &mut Manners {
        self.manners.entry(peer).or_default()
    }

    /// Whether somebody at the link is to be spared.
    pub(super) fn is_spared(&self, link: LinkId) -> bool {
        let is_spared = |peer| self.manners.get(&peer).is_some_and(|manners| manners.is_spared);
        let mut holders = self.links[link].holders.iter();
        holders.any(|holder| matches!(*holder, Holder::Peer(peer) if is_spared(peer)))
    }

    /// Let something happen after `us`.
    pub(super) fn after(&mut self, us: u64, what: Happening) {
        self.happenings += 1;
        self.agenda.insert((self.now_us + us, self.happenings), what);
    }

    /// What happens next, if it happens before `until_us`; it is now then.
    pub(super) fn next(&mut self, until_us: u64) -> Option<Happening> {
        let (&(at_us, _), _) = self.agenda.first_key_value()?;
        if at_us >= until_us {
            return None;
        }
        let (_, what) = self.agenda.pop_first()?;
        self.set_now(at_us);
        Some(what)
    }

    pub(super) fn set_now(&mut self, at_us: u64) {
        self.now_us = at_us;
        self.book.open().now_us = at_us;
    }

    /// Let an engine have a turn after `us`, unless it has one before.
    pub(super) fn call_turn(&mut self, host: usize, us: u64) {
        let at_us = self.now_us + us;
        let turn_at = &mut self.inboxes[host].turn_at;
        if turn_at.is_none_or(|before| at_us < before) {
            *turn_at = Some(at_us);
            self.after(us, Happening::Turn(host));
        }
    }

    /// An engine is woken, and has a turn soon.
    pub(super) fn wake_host(&mut self, host: usize) {
        let latency_us = self.random.within(1..=LATENCY_US);
        self.call_turn(host, latency_us);
    }

    /// This end's holder should look at it.
    fn alert(&mut self, port: Port) {
        let (link, side) = port;
        match self.links[link].holder(side) {
            Holder::Host(host, Some(_)) => {
                let edges = &mut self.inboxes[host].edges;
                if !edges.contains(&port) {
                    edges.push(port);
                }
                self.wake_host(host);
            }
            Holder::Peer(_) => {
                let pipe = self.links[link].to(side);
                if pipe.is_readable() && !std::mem::replace(&mut pipe.reader_called, true) {
                    let pause_us = pipe.appetite.pause_us;
                    self.after(pause_us, Happening::Readable(port));
                }
            }
            Holder::Host(_, None) | Holder::Nobody => {}
        }
    }

    /// An event of an engine's end.
    pub(super) fn poke(&mut self, port: Port) {
        self.alert(port);
    }

    /// What is due on the pipe to this end arrives.
    pub(super) fn on_arrival(&mut self, port: Port) {
        let (link, side) = port;
        let now_us = self.now_us;
        let any = self.links[link].to(side).arrive(now_us);
        if !any {
            return;
        }
        let unread = !self.links[link].to(side).arrived.is_empty();
        if self.links[link].holder(side) == Holder::Nobody && unread {
            // Who has closed wants no more bytes: its kernel says so.
            self.links[link].to(side).drop_arrived();
            self.break_for((link, side.other()));
            return;
        }
        self.alert(port);
    }

    /// Let the next segment to this end arrive now, while the engine is in the middle of a turn.
    pub(super) fn hurry(&mut self, port: Port) {
        let (link, side) = port;
        let now_us = self.now_us;
        if let Some((at_us, _)) = self.links[link].to(side).flying.front_mut() {
            if *at_us < now_us + 2_000 {
                *at_us = now_us;
                self.on_arrival(port);
            }
        }
    }

    fn delay(&mut self, link: LinkId) -> u64 {
        let (least, most) = self.links[link].weather.delay_us;
        self.random.within(least..=if self.rough { most } else { least + 500 })
    }

    fn fly(&mut self, port: Port, payload: Payload) {
        let (link, side) = port;
        if self.links[link].vanished || self.links[link].to(side).doomed {
            return;
        }
        if let (true, Payload::Bytes(datagram)) = (self.links[link].is_datagram, &payload) {
            let datagram = datagram.clone();
            return self.fly_apart(port, &datagram);
        }
        let at_us = (self.now_us + self.delay(link)).max(self.links[link].to(side).not_before_us);
        let pipe = self.links[link].to(side);
        pipe.not_before_us = at_us;
        pipe.flying.push_back((at_us, payload));
        self.after(at_us - self.now_us, Happening::Arrival(port));
    }

    /// A datagram may be lost, doubled, and overtaken.
    fn fly_apart(&mut self, port: Port, datagram: &[u8]) {
        let (link, side) = port;
        let choice = if self.rough && !self.is_spared(link) { self.random.below(20) } else { 2 };
        self.links[link].to(side).outstanding -= datagram.len();
        for _ in 0..[0, 2, 1][choice.min(2)] {
            let at_us = self.now_us + self.delay(link);
            let pipe = self.links[link].to(side);
            let before = pipe.flying.iter().take_while(|(other, _)| *other <= at_us).count();
            pipe.flying.insert(before, (at_us, Payload::Bytes(datagram.to_vec())));
            pipe.outstanding += datagram.len();
            self.after(at_us - self.now_us, Happening::Arrival(port));
        }
    }

    /// Write from an end.
    pub(super) fn send(&mut self, port: Port, bytes: &[u8]) -> Result<usize, ErrorKind> {
        let (link, side) = port;
        let to = (link, side.other());
        if self.links[link].to(side).broken {
            return Err(ErrorKind::BrokenPipe);
        }
        let in_parts = self.rough && !self.links[link].is_datagram;
        let short = in_parts && self.random.one_in(self.links[link].weather.short_one_in);
        let pipe = self.links[link].from(side);
        let room = pipe.room();
        let mut count = bytes.len().min(room);
        if short && count > 1 {
            count = 1 + self.random.below(count - 1);
        }
        let pipe = self.links[link].from(side);
        pipe.outstanding += count;
        if count < bytes.len() {
            pipe.sender_waits = true;
            if count < room {
                // A short write though there was room: the room is noticed a little later.
                self.after(300, Happening::Room(port));
            }
        }
        if count == 0 {
            return Err(ErrorKind::WouldBlock);
        }
        let cut = if in_parts && self.random.one_in(4) { self.random.below(count) } else { 0 };
        let (first, second) = bytes[..count].split_at(cut);
        for part in [first, second].into_iter().filter(|part| !part.is_empty()) {
            self.fly(to, Payload::Bytes(part.to_vec()));
        }
        Ok(count)
    }

    /// Read at an end.
    pub(super) fn recv(&mut self, port: Port, into: &mut [u8]) -> Result<usize, ErrorKind> {
        let (link, side) = port;
        let in_parts = self.rough && !self.links[link].is_datagram;
        let short = in_parts && self.random.one_in(self.links[link].weather.short_one_in);
        let pipe = self.links[link].to(side);
        let count = into.len().min(pipe.arrived.len());
        let most = if short && count > 1 { 1 + self.random.below(count - 1) } else { into.len() };
        if most < count {
            // To the reader it looks as if that were all; the rest comes with an event of its own.
            self.after(250, Happening::Readable(port));
        }
        let pipe = self.links[link].to(side);
        let result = pipe.take(&mut into[..most]);
        if pipe.sender_waits && pipe.room() * 3 >= pipe.window {
            pipe.sender_waits = false;
            let us = self.delay(link);
            self.after(us, Happening::Room((link, side.other())));
        }
        result
    }

    /// This end sends no more.
    pub(super) fn finish(&mut self, port: Port) {
        let (link, side) = port;
        if !std::mem::replace(&mut self.links[link].from(side).end_sent, true) {
            self.fly((link, side.other()), Payload::End);
        }
    }

    /// This end is closed. What it has not read makes it a reset.
    pub(super) fn close(&mut self, port: Port) {
        let (link, side) = port;
        let unread = !self.links[link].to(side).arrived.is_empty();
        self.links[link].holders[side as usize] = Holder::Nobody;
        self.links[link].from(side).outbox.clear();
        if unread {
            self.break_for((link, side.other()));
        } else {
            self.finish(port);
        }
    }

    /// A reset goes to this end, past all that is under way.
    pub(super) fn break_for(&mut self, port: Port) {
        let (link, side) = port;
        if self.links[link].vanished {
            return;
        }
        let pipe = self.links[link].to(side);
        pipe.lose_all();
        if std::mem::replace(&mut pipe.doomed, true) {
            return;
        }
        let us = self.delay(link);
        self.after(us, Happening::Broken(port));
    }

    /// This end learns that the link is broken. Some systems still hand out what had arrived, others do not.
    pub(super) fn on_broken(&mut self, port: Port) {
        let (link, side) = port;
        let keeps = self.random.one_in(2);
        self.links[link].from(side).lose_all();
        let pipe = self.links[link].to(side);
        pipe.lose_all();
        pipe.broken = true;
        if !keeps {
            pipe.outstanding -= pipe.arrived.len();
            pipe.drop_arrived();
        }
        self.alert(port);
    }

    /// The link is cut: both ends learn of it, each in its time.
    pub(super) fn cut(&mut self, link: LinkId) {
        self.book.open().harmed.insert(link);
        self.break_for((link, Side::Caller));
        self.break_for((link, Side::Taker));
    }

    /// A peer writes; what does not fit the window waits in its outbox.
    pub(super) fn peer_send(&mut self, port: Port, bytes: &[u8]) {
        let (link, side) = port;
        let pipe = self.links[link].from(side);
        if pipe.end_wanted || pipe.end_sent {
            return;
        }
        let name = self.name_of(port);
        self.book.open().note_bytes(format_args!("{name}"), "──▶", bytes);
        self.links[link].from(side).outbox.extend(bytes);
        self.empty_outbox(port);
    }

    /// A peer sends no more than what it has sent by now.
    pub(super) fn peer_finish(&mut self, port: Port) {
        let (link, side) = port;
        self.links[link].from(side).end_wanted = true;
        self.empty_outbox(port);
    }

    /// There is room in the window of a peer's pipe.
    pub(super) fn empty_outbox(&mut self, port: Port) {
        let (link, side) = port;
        let mut outbox = std::mem::take(&mut self.links[link].from(side).outbox);
        let sent = if outbox.is_empty() { Ok(0) } else { self.send(port, outbox.make_contiguous()) };
        match sent {
            Ok(count) => drop(outbox.drain(..count)),
            Err(ErrorKind::WouldBlock) => {}
            Err(_) => outbox.clear(),
        }
        let done = outbox.is_empty();
        let pipe = self.links[link].from(side);
        pipe.outbox = outbox;
        if done && std::mem::take(&mut pipe.end_wanted) {
            let name = self.name_of(port);
            self.book.note(format_args!("{name}"), format_args!("──▶ end"));
            self.finish(port);
        }
    }

    /// A peer's name and link, for the trace.
    pub(super) fn name_of(&self, (link, side): Port) -> String {
        match self.links[link].holder(side) {
            Holder::Peer(peer) => format!("{}~{link}", self.names[peer]),
            Holder::Host(host, _) => format!("host{host}~{link}"),
            Holder::Nobody => format!("~{link}"),
        }
    }

    pub(super) fn set_appetite(&mut self, port: Port, appetite: Appetite) {
        let (link, side) = port;
        let pipe = self.links[link].to(side);
        pipe.appetite = appetite;
        // Who was to look later may look sooner now.
        if pipe.reader_called {
            self.after(appetite.pause_us, Happening::Readable(port));
        }
    }

    /// A peer is gone from its end: with a reset, or without a word.
    pub(super) fn abandon(&mut self, port: Port, reset: bool) {
        let (link, side) = port;
        self.book.open().harmed.insert(link);
        self.links[link].holders[side as usize] = Holder::Nobody;
        self.links[link].from(side).outbox.clear();
        if reset {
            self.break_for((link, side.other()));
        } else {
            // What is under way arrives all the same.
            self.links[link].vanished = true;
        }
    }

    /// A link with the weather of its day.
    fn lay(&mut self, caller: Holder, taker: Holder) -> LinkId {
        let least_us = self.random.within(20..=400);
        let most_us = least_us + self.random.pick(&[&100, &2_000, &40_000]);
        let short_one_in = *self.random.pick(&[&2, &6, &40, &1_000_000]);
        let weather = Weather { delay_us: (least_us, most_us), short_one_in };
        let mut window = || 1_024 << self.random.below(7);
        let windows = [window(), window()];
        self.links.push(Link::new(caller, taker, weather, windows));
        self.links.len() - 1
    }

    /// A peer calls a listener of a host.
    pub(super) fn call(&mut self, peer: usize, host: usize, listener: usize) -> Port {
        let link = self.lay(Holder::Peer(peer), Holder::Host(host, None));
        self.links[link].listener = listener;
        let us = self.delay(link);
        let refused = self.rough && self.random.one_in(20);
        if refused {
            self.book.open().harmed.insert(link);
            self.links[link].holders[Side::Taker as usize] = Holder::Nobody;
        }
        self.links[link].to(Side::Taker).not_before_us = self.now_us + us;
        self.after(us, if refused { Happening::Refused(link) } else { Happening::Call(link) });
        (link, Side::Caller)
    }

    /// The engine has taken a call.
    pub(super) fn bind(&mut self, port: Port, host: usize, key: ConnKey) {
        let (link, side) = port;
        self.links[link].holders[side as usize] = Holder::Host(host, Some(key));
        self.by_key.insert((host, key.index, key.serial), port);
    }

    fn port_of(&self, host: usize, key: ConnKey) -> Option<Port> {
        self.by_key.get(&(host, key.index, key.serial)).copied()
    }
}

/// Where the field devices are: 10.200.0.n, by their place among the peers.
pub(super) fn device_address(peer: usize) -> SocketAddr {
    SocketAddr::from(([10, 200, 0, peer as u8], 502))
}

/// How the configuration calls that place: every other one by a name.
pub(super) fn device_host(peer: usize) -> String {
    if peer % 2 == 0 { device_address(peer).to_string() } else { format!("slave{peer}.plant:502") }
}

/// The address of a name that the configuration has.
fn looked_up(host: &NamedHost) -> SocketAddr {
    let number = host.name.strip_prefix("slave").and_then(|rest| rest.strip_suffix(".plant"));
    device_address(number.and_then(|number| number.parse().ok()).expect("the world's names are slaves'"))
}

/// Where an engine's first listener is.
pub(super) fn host_address(host: usize) -> SocketAddr {
    SocketAddr::from(([10, 201, 0, host as u8], 5_000))
}

impl Net {
    /// A datagram may be lost, doubled, and overtaken.
    pub(super) fn send_datagram(&mut self, arrival: impl Fn(Vec<u8>) -> Happening, bytes: &[u8]) {
        let copies = match self.random.below(20) {
            0 => 0,
            1 => 2,
            _ => 1,
        };
        for _ in 0..copies {
            let us = self.random.within(50..=5_000);
            self.after(us, arrival(bytes.to_vec()));
        }
    }

    /// An engine dialled, and its call is taken: both ends may begin.
    pub(super) fn on_taken(&mut self, link: LinkId) -> Option<Holder> {
        let Holder::Host(host, Some(key)) = self.links[link].holder(Side::Caller) else { return None };
        self.inboxes[host].dialled.push((key, Ok(())));
        self.alert((link, Side::Caller));
        Some(self.links[link].holder(Side::Taker))
    }
}
