//! The mio poll loop: sockets, clocks and signals around an [`Engine`]. The only module that knows mio.

mod alarm;
mod descriptors;
mod listen;
mod names;
mod notify;
mod shards;
mod signals;
mod sockets;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Poll, Token, Waker};

use crate::base::host;
use crate::base::time::{Now, Tick, Timestamp};
use crate::engine::{Admission, Engine, Ready};

pub use descriptors::{Descriptors, raise_descriptor_limit};
pub use listen::{BoundSocket, KeepAlive, bind};
pub use notify::ServiceManager;
pub use shards::{DESCRIPTORS_OF_SHARD, run_all};

use alarm::Alarm;
use listen::{Accepted, Door, Newcomer};
use names::{Lookups, Resolver};
use notify::Pulse;
use shards::Gates;
use signals::Signals;
use sockets::Sockets;

/// Events taken from the kernel at once.
const EVENTS_PER_TURN: usize = 1_024;
/// Peers accepted on one listener in a turn, before those connected have theirs.
const ACCEPTS_PER_TURN: usize = 64;
/// Datagrams received in a turn: so many bytes of them, where a short one counts as some.
const DATAGRAM_BYTES_PER_TURN: usize = 256 * 1024;
const LEAST_DATAGRAM_COST_BYTES: usize = 1024;
/// No datagram is longer.
const DATAGRAM_BYTES: usize = 64 * 1024;
/// When descriptors ran out and none came back: try again after.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);
/// When a shard has not taken in those that wait for it: try again after.
const GATES_AGAIN: Duration = Duration::from_millis(5);

/// Tokens of connections are their slab indices, which stay far below these.
const FIRST_LISTENER: usize = 1 << 30;
const SIGNALS: Token = Token((1 << 30) - 1);
const ALARM: Token = Token((1 << 30) - 2);
const WAKER: Token = Token((1 << 30) - 3);

/// The clocks. Read once a turn, and only here.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock whose ticks begin now.
    pub fn start() -> Clock {
        Clock { started: Instant::now() }
    }

    /// Both clocks.
    pub fn now(&self) -> Now {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis = match since_1970 {
            Ok(after) => after.as_millis() as i64,
            Err(before) => -(before.duration().as_millis() as i64),
        };
        Now { tick: self.tick(), wall: Timestamp(millis) }
    }

    fn tick(&self) -> Tick {
        Tick::from_micros(self.started.elapsed().as_micros() as u64)
    }
}

/// What whoever conducts a reactor wants of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Course {
    /// Go on, and ask again at this tick at the latest.
    GoOn(Tick),
    /// Stop: answer what was read, close, and return when all is closed or `shutdown_grace` is over.
    Stop,
}

/// An engine and the sockets that it speaks through.
pub struct Reactor {
    poll: Poll,
    clock: Clock,
    engine: Engine,
    sockets: Sockets,
    /// Listening sockets, in the order of their numbers; none from shutdown on.
    doors: Vec<Door>,
    /// Whether there may be somebody at some door: there may be thousands of doors.
    somebody_waits: bool,
    /// The first shard's only.
    signals: Option<Signals>,
    gates: Arc<Gates>,
    resolver: Arc<Resolver>,
    /// Only where milliseconds are too coarse.
    alarm: Option<Alarm>,
    /// Where a service manager wants to hear of us.
    pulse: Option<Pulse>,
    /// Where datagrams are received; empty where no listener gets any.
    datagram: Vec<u8>,
    /// Descriptors ran out: nobody is accepted until then, or until one is closed.
    accept_again: Option<Tick>,
    /// The last attempt to accept found no descriptor: that was said once.
    out_of_descriptors: bool,
    shutdown_grace: Duration,
}

impl Reactor {
    /// A reactor for bound sockets, in the order of the engine's listeners. Nobody is accepted before
    /// [`run`](Self::run).
    pub fn new(
        engine: Engine,
        clock: Clock,
        bound: Vec<BoundSocket>,
        shutdown_grace: Duration,
    ) -> io::Result<Reactor> {
        let gates = Gates::new(engine.shared());
        let resolver = Resolver::new(engine.shared(), host::look_up);
        let mut reactor = Reactor::at(gates, resolver, engine, clock, bound, shutdown_grace)?;
        reactor.signals = Some(Signals::register(reactor.poll.registry(), SIGNALS)?);
        Ok(reactor)
    }

    /// A reactor for each engine of a server, in the order of their shards, to be [run](run_all) all at once.
    /// Peers come to the first.
    pub fn of_all(
        engines: Vec<Engine>,
        clock: Clock,
        bound: Vec<BoundSocket>,
        shutdown_grace: Duration,
    ) -> io::Result<Vec<Reactor>> {
        let mut engines = engines.into_iter();
        let Some(first) = engines.next() else { return Ok(Vec::new()) };
        let mut reactors = vec![Reactor::new(first, clock, bound, shutdown_grace)?];
        for engine in engines {
            let gates = Arc::clone(&reactors[0].gates);
            let resolver = Arc::clone(&reactors[0].resolver);
            reactors.push(Reactor::at(gates, resolver, engine, clock, Vec::new(), shutdown_grace)?);
        }
        Ok(reactors)
    }

    fn at(
        gates: Arc<Gates>,
        resolver: Arc<Resolver>,
        engine: Engine,
        clock: Clock,
        bound: Vec<BoundSocket>,
        shutdown_grace: Duration,
    ) -> io::Result<Reactor> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        // It fails where the shard is over.
        engine.shared().bell(engine.number()).hang(move || drop(waker.wake()));
        let mut doors = Vec::new();
        let lookups = Lookups::new(&resolver, engine.number());
        let mut sockets = Sockets::new(poll.registry().try_clone()?, lookups);
        for (number, socket) in bound.into_iter().enumerate() {
            let token = Token(FIRST_LISTENER + number);
            match socket {
                BoundSocket::Stream(listener) => {
                    doors.push(Door::open(number, listener, poll.registry(), token)?);
                }
                BoundSocket::Datagram(socket) => sockets.open(number, socket, token)?,
            }
        }
        let datagram = vec![0; if sockets.get_datagrams() { DATAGRAM_BYTES } else { 0 }];
        Ok(Reactor {
            poll,
            clock,
            engine,
            sockets,
            doors,
            somebody_waits: false,
            signals: None,
            gates,
            resolver,
            alarm: None,
            pulse: None,
            datagram,
            accept_again: None,
            out_of_descriptors: false,
            shutdown_grace,
        })
    }

    /// Wake up for deadlines to some 50 µs, where a poll alone may be a millisecond late: for measuring.
    /// Costs a system call a turn.
    pub fn with_fine_deadlines(mut self) -> io::Result<Reactor> {
        self.alarm = Some(Alarm::register(self.poll.registry(), ALARM)?);
        Ok(self)
    }

    /// Serve until a signal asks to stop, and everybody was answered or `shutdown_grace` is over.
    pub fn run(self) -> io::Result<()> {
        self.conduct(|_, _, signalled| if signalled { Course::Stop } else { Course::GoOn(Tick::NEVER) })
    }

    /// Like [`run`](Self::run), but `conduct` says when to stop. It is called in every turn, after what
    /// happened was handled, with the engine, the clocks, and whether a signal (the first; a second ends the
    /// process) came.
    pub fn conduct(mut self, conduct: impl FnMut(&mut Engine, Now, bool) -> Course) -> io::Result<()> {
        let result = self.turn_until_stopped(conduct);
        // However it ended: nobody waits for what this shard would have done.
        self.engine.retire();
        result
    }

    fn turn_until_stopped(
        &mut self,
        mut conduct: impl FnMut(&mut Engine, Now, bool) -> Course,
    ) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut stop_by: Option<Tick> = None;
        let mut ended = self.clock.tick();
        let mut next = ended;
        loop {
            let timeout = self.timeout(ended, next, stop_by);
            if let (Some(alarm), Some(timeout)) = (&self.alarm, timeout) {
                alarm.set(timeout)?;
            }
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = self.clock.now();
            self.sockets.lookups.on_turn(now.tick);
            self.engine.begin(now, &mut self.sockets);
            for event in &events {
                self.on_event(event);
            }
            let mut again = self.pulse.as_mut().map_or(Tick::NEVER, |pulse| pulse.on_turn(now.tick));
            if stop_by.is_none() {
                let signalled = self.signals.as_mut().is_some_and(Signals::take);
                match conduct(&mut self.engine, now, signalled) {
                    Course::GoOn(at) => again = again.min(at),
                    Course::Stop => self.gates.stop(),
                }
                if self.gates.are_stopping() {
                    self.stop();
                    stop_by = Some(now.tick + self.shutdown_grace);
                }
            }
            self.accept(now.tick);
            self.take_in_newcomers(stop_by.is_some());
            self.receive();
            self.dial_looked_up();
            while let Some((key, why)) = self.sockets.take_failed() {
                self.engine.on_dialled(key, Err(why), &mut self.sockets);
            }
            next = self.engine.end(&mut self.sockets).min(again);
            ended = self.clock.tick();
            self.engine.on_turn_measured(ended - now.tick);
            if let Some(stop_by) = stop_by {
                let is_late = now.tick >= stop_by;
                if is_late && !self.engine.is_empty() {
                    self.warn_of_cutting();
                }
                if is_late || self.engine.is_empty() {
                    return Ok(());
                }
            }
        }
    }

    fn stop(&mut self) {
        if self.signals.is_some() {
            let connections = self.engine.shared().connections();
            log::info!("stopping: {connections} connections are answered and closed");
            if let Some(pulse) = &mut self.pulse {
                pulse.on_stop();
            }
        }
        self.doors.clear();
        self.somebody_waits = false;
        self.engine.stop(&mut self.sockets);
    }

    fn warn_of_cutting(&self) {
        // Each says it of its own; the numbers are those of the threads' names.
        let of_shard = match self.engine.shared().shards() {
            1 => String::new(),
            _ => format!(" of shard {}", self.engine.number()),
        };
        log::warn!("{} connections{of_shard} were cut at the end of shutdown_grace", self.engine.len());
    }

    /// How long to wait for events: until the next deadline of the engine or of our own.
    fn timeout(&self, now: Tick, next: Tick, stop_by: Option<Tick>) -> Option<Duration> {
        let may_accept = self.accept_again.is_none() || self.sockets.has_closed();
        let has_newcomers = self.gates.has_any(self.engine.number());
        // Whoever let all stop rang before this shard fell asleep, or sees to it that it wakes up.
        let is_to_stop = stop_by.is_none() && self.gates.are_stopping();
        let has_peers = (may_accept && self.somebody_waits) || has_newcomers;
        if has_peers || self.sockets.have_datagrams() || self.sockets.lookups.have_answers() || is_to_stop {
            return Some(Duration::ZERO);
        }
        let due =
            [Some(next), self.accept_again, stop_by, self.sockets.lookups.next()].into_iter().flatten().min();
        due.filter(|due| *due < Tick::NEVER).map(|due| due - now)
    }

    fn on_event(&mut self, event: &Event) {
        let Token(token) = event.token();
        if token >= FIRST_LISTENER {
            let listener = token - FIRST_LISTENER;
            self.sockets.on_datagrams(listener);
            if let Ok(place) = self.doors.binary_search_by_key(&listener, |door| door.listener) {
                self.doors[place].waiting = true;
                self.somebody_waits = true;
            }
        } else if event.token() == SIGNALS {
            self.signals.as_mut().expect("registered by those that there are").on_event();
        } else if !matches!(event.token(), ALARM | WAKER) {
            let index = token as u32;
            if let Some((key, result)) = self.sockets.dialled(index) {
                self.engine.on_dialled(key, result, &mut self.sockets);
            }
            let ready = Ready {
                // An error is learned by reading.
                readable: event.is_readable() || event.is_error(),
                writable: event.is_writable(),
                read_closed: event.is_read_closed(),
            };
            self.engine.on_ready(index, ready, &mut self.sockets);
        }
    }

    /// Accept some of those who wait.
    fn accept(&mut self, now: Tick) {
        if let Some(again) = self.accept_again {
            if now < again && !self.sockets.take_closed() {
                return;
            }
            self.accept_again = None;
        }
        if !self.somebody_waits {
            return;
        }
        if self.gates.are_full() {
            self.accept_again = Some(now + GATES_AGAIN);
            return;
        }
        for place in 0..self.doors.len() {
            for _ in 0..ACCEPTS_PER_TURN {
                if !self.doors[place].waiting {
                    break;
                }
                match self.doors[place].accept() {
                    Accepted::Peer(newcomer) => {
                        self.out_of_descriptors = false;
                        let listener = self.doors[place].listener;
                        self.welcome(listener, newcomer);
                    }
                    Accepted::Nobody => {}
                    Accepted::NotNow(error) => {
                        if !std::mem::replace(&mut self.out_of_descriptors, true) {
                            log::warn!(
                                "accepting pauses: {error}; is the descriptor limit (ulimit -n) too low?"
                            );
                        }
                        self.sockets.take_closed();
                        self.accept_again = Some(now + ACCEPT_AGAIN);
                        return;
                    }
                }
            }
        }
        self.somebody_waits = self.doors.iter().any(|door| door.waiting);
    }

    /// Hand some of the datagrams that have come to the engine.
    fn receive(&mut self) {
        let mut datagram = std::mem::take(&mut self.datagram);
        let mut budget = DATAGRAM_BYTES_PER_TURN;
        while budget > 0 {
            let Some((listener, peer, bytes)) = self.sockets.receive(&mut datagram) else { break };
            budget = budget.saturating_sub(bytes.max(LEAST_DATAGRAM_COST_BYTES));
            self.engine.on_datagram(listener, peer, &datagram[..bytes], &mut self.sockets);
        }
        self.datagram = datagram;
    }

    /// Connect to what has been looked up.
    fn dial_looked_up(&mut self) {
        while let Some(looked_up) = self.sockets.lookups.take() {
            let conn = looked_up.conn;
            match self.sockets.on_looked_up(looked_up) {
                Ok(address) => self.engine.on_looked_up(conn, address),
                Err(why) => self.engine.on_unresolved(conn, &why, &mut self.sockets),
            }
        }
    }

    fn welcome(&mut self, listener: usize, newcomer: Newcomer) {
        let Newcomer { stream, peer, local } = newcomer;
        let Some(admission) = self.engine.admit(listener, peer, local) else { return };
        if admission.shard() == self.engine.number() {
            self.take_in(admission, stream);
        } else {
            self.gates.hand_over(admission, stream);
        }
    }

    /// Those that were handed over. Where nobody is served any more they are closed.
    fn take_in_newcomers(&mut self, is_stopping: bool) {
        while let Some((admission, stream)) = self.gates.take(self.engine.number()) {
            if !is_stopping {
                self.take_in(admission, stream);
            }
        }
    }

    fn take_in(&mut self, admission: Admission, stream: TcpStream) {
        let peer = admission.peer();
        let key = self.engine.enter(admission);
        match self.sockets.add(key, stream) {
            Ok(()) => self.engine.on_open(key),
            Err(error) => {
                log::warn!("{peer} cannot be served: {error}");
                self.engine.on_broken(key, error.kind(), &mut self.sockets);
            }
        }
    }
}
