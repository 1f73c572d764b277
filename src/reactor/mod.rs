//! The mio poll loop: sockets, clocks and signals around an [`Engine`]. The only module that knows mio.

mod alarm;
mod descriptors;
mod listen;
mod signals;
mod sockets;

use std::io;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::event::Event;
use mio::{Events, Poll, Token};

use crate::base::time::{Now, Tick, Timestamp};
use crate::engine::{Engine, Ready};

pub use descriptors::{Descriptors, raise_descriptor_limit};
pub use listen::{BoundSocket, KeepAlive, bind};

use alarm::Alarm;
use listen::{Accepted, Door, Newcomer};
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

/// Tokens of connections are their slab indices, which stay far below these.
const FIRST_LISTENER: usize = 1 << 30;
const SIGNALS: Token = Token((1 << 30) - 1);
const ALARM: Token = Token((1 << 30) - 2);

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
    signals: Signals,
    /// Only where milliseconds are too coarse.
    alarm: Option<Alarm>,
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
        let poll = Poll::new()?;
        let signals = Signals::register(poll.registry(), SIGNALS)?;
        let mut doors = Vec::new();
        let mut sockets = Sockets::new(poll.registry().try_clone()?);
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
            signals,
            alarm: None,
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
    pub fn conduct(mut self, mut conduct: impl FnMut(&mut Engine, Now, bool) -> Course) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut stop_by: Option<Tick> = None;
        let mut next = self.clock.tick();
        loop {
            let timeout = self.timeout(next, stop_by);
            if let (Some(alarm), Some(timeout)) = (&self.alarm, timeout) {
                alarm.set(timeout)?;
            }
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now = self.clock.now();
            self.engine.begin(now, &mut self.sockets);
            for event in &events {
                self.on_event(event);
            }
            let mut again = Tick::NEVER;
            if stop_by.is_none() {
                match conduct(&mut self.engine, now, self.signals.take()) {
                    Course::GoOn(at) => again = at,
                    Course::Stop => {
                        log::info!("stopping: {} connections are answered and closed", self.engine.len());
                        self.doors.clear();
                        self.somebody_waits = false;
                        self.engine.stop(&mut self.sockets);
                        stop_by = Some(now.tick + self.shutdown_grace);
                    }
                }
            }
            self.accept(now.tick);
            self.receive();
            while let Some((key, why)) = self.sockets.take_failed() {
                self.engine.on_dialled(key, Err(why), &mut self.sockets);
            }
            next = self.engine.end(&mut self.sockets).min(again);
            self.engine.on_turn_measured(self.clock.tick() - now.tick);
            if let Some(stop_by) = stop_by {
                if self.engine.is_empty() {
                    return Ok(());
                }
                if now.tick >= stop_by {
                    log::warn!("{} connections were cut at the end of shutdown_grace", self.engine.len());
                    return Ok(());
                }
            }
        }
    }

    /// How long to wait for events: until the next deadline of the engine or of our own.
    fn timeout(&self, next: Tick, stop_by: Option<Tick>) -> Option<Duration> {
        let may_accept = self.accept_again.is_none() || self.sockets.has_closed();
        if (may_accept && self.somebody_waits) || self.sockets.have_datagrams() {
            return Some(Duration::ZERO);
        }
        let due = [Some(next), self.accept_again, stop_by].into_iter().flatten().min();
        due.filter(|due| *due < Tick::NEVER).map(|due| due - self.clock.tick())
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
            self.signals.on_event();
        } else if event.token() != ALARM {
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

    fn welcome(&mut self, listener: usize, newcomer: Newcomer) {
        let Newcomer { stream, peer, local } = newcomer;
        let Some(key) = self.engine.accept_at(listener, peer, local) else { return };
        match self.sockets.add(key, stream) {
            Ok(()) => self.engine.on_open(key),
            Err(error) => {
                log::warn!("{peer} cannot be served: {error}");
                self.engine.on_broken(key, error.kind(), &mut self.sockets);
            }
        }
    }
}
