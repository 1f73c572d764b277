//! The load: one thread drives thousands of connections and checks every byte that comes back.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};

use super::Outcome;
use super::talk::{Heard, Talk};

/// Connections are opened in blocks, each greeted before the next: far below a backlog of 4,096, and no
/// larger burst than a plant that switches on shows a server, so that its pools grow no more than they would
/// there.
const CONNECT_BLOCK: usize = 256;

/// A reply that is this late is lost.
const REPLY_LIMIT: Duration = Duration::from_secs(60);

/// Requests that a paced load sends at once. A burst of one would pay a wake-up of the server for each
/// request, which hides what the request itself costs; the load of thousands of devices comes in small
/// bunches.
const PACED_BURST: usize = 20;

/// From one address of ours. Linux hands out every other port of its 28,000 at first; beyond those it
/// searches for milliseconds at each connection.
const CONNECTIONS_PER_SOURCE: usize = 4_000;

const EVENTS: usize = 1024;
const BUFFER_BYTES: usize = 64 * 1024;

/// Connections to one server, all saying the same talk.
pub struct Fleet {
    poll: Poll,
    events: Events,
    connections: Vec<Connection>,
    talk: Box<dyn Talk>,
    /// How long it sleeps when nothing has come. Not at all, where it has a core of its own: a sleeping
    /// driver has to be woken by the server, at its cost, and lets it run faster where both cores are two
    /// threads of one (a round trip of the bare echo took from 2.0 to 4.2 µs). A spinning one varies far
    /// less.
    nap: Duration,
    /// Exchanges that were sent and not yet answered.
    waiting: usize,
    /// The order in which a paced load goes round, and where it is. Shuffled: a server must not profit from
    /// the neighbourhood that connections happen to have in its memory.
    order: Vec<usize>,
    place: usize,
    /// How long after it was due each reply of a timed load was there.
    took: Vec<Duration>,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    /// The exchange under way, or the last one.
    step: usize,
    /// Bytes of its reply that have come.
    heard: usize,
    waiting: bool,
    /// When the request under way was due, if somebody wants to know.
    due: Option<Instant>,
}

#[derive(Clone, Copy)]
pub enum Load {
    /// The next request as soon as the last is answered.
    Closed,
    /// So many requests a second from all connections together: they come when they come.
    Paced(u32),
}

/// What makes a server work.
pub trait Drive {
    /// For so long, and until all is answered. Returns how many operations were.
    fn run(&mut self, load: Load, time: Duration) -> Outcome<u64>;
}

impl Drive for Fleet {
    fn run(&mut self, load: Load, time: Duration) -> Outcome<u64> {
        match load {
            Load::Closed => self.run_closed(time),
            Load::Paced(rate) => self.run_paced(rate, time),
        }
    }
}

impl Fleet {
    /// Opens `count` connections and exchanges the greeting on each.
    pub fn connect(to: SocketAddr, count: usize, talk: Box<dyn Talk>, own_core: bool) -> Outcome<Fleet> {
        let mut from = next_source();
        let mut fleet = Fleet {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            connections: Vec::with_capacity(count),
            talk,
            nap: if own_core { Duration::ZERO } else { Duration::from_millis(1) },
            waiting: 0,
            order: shuffled(count),
            place: 0,
            took: Vec::new(),
            request: Vec::new(),
            buffer: vec![0; BUFFER_BYTES],
        };
        while fleet.connections.len() < count {
            let block = CONNECT_BLOCK.min(count - fleet.connections.len());
            for _ in 0..block {
                let index = fleet.connections.len();
                if index > 0 && index % CONNECTIONS_PER_SOURCE == 0 {
                    from = next_source();
                }
                let mut stream = open(from, to).map_err(|e| format!("connection {index} to {to}: {e}"))?;
                fleet.poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
                fleet.connections.push(Connection { stream, step: 0, heard: 0, waiting: false, due: None });
                fleet.send(index)?;
            }
            fleet.drain(&mut 0)?;
        }
        Ok(fleet)
    }

    /// Every connection sends its next request as soon as it has the last reply, for `time`.
    fn run_closed(&mut self, time: Duration) -> Outcome<u64> {
        let mut done = 0;
        let end = Instant::now() + time;
        for index in 0..self.connections.len() {
            self.send_next(index)?;
        }
        while Instant::now() < end {
            self.collect(self.nap, &mut done, true)?;
        }
        self.drain(&mut done)?;
        Ok(done)
    }

    /// `rate` exchanges a second in all, each by the next connection in order, as many as `time` has room
    /// for.
    fn run_paced(&mut self, rate: u32, time: Duration) -> Outcome<u64> {
        let mut done = 0;
        let burst = PACED_BURST.min(self.connections.len());
        let bursts = (time.as_secs_f64() * f64::from(rate)) as usize / burst;
        let interval = Duration::from_secs_f64(burst as f64 / f64::from(rate));
        let mut due = Instant::now();
        for _ in 0..bursts {
            while Instant::now() < due {
                self.collect(self.nap, &mut done, false)?;
            }
            // Late means that somebody else had our core. What was not sent then is sent later, at the same
            // pace: to make up for it at once would be another load.
            due = due.max(Instant::now() - interval) + interval;
            for _ in 0..burst {
                let index = self.next_in_order();
                // One that still waits loses its turn; only what was answered counts.
                if !self.connections[index].waiting {
                    self.send_next(index)?;
                }
            }
        }
        self.drain(&mut done)?;
        Ok(done)
    }

    /// Single requests at the same distance, `rate` a second. Returns how long after it was due each reply
    /// was there, also where the driver was late: whoever waits does not ask why.
    pub fn run_timed(&mut self, rate: u32, time: Duration) -> Outcome<Vec<Duration>> {
        let requests = (time.as_secs_f64() * f64::from(rate)) as u32;
        let begin = Instant::now();
        self.took.clear();
        for request in 0..requests {
            let due = begin + Duration::from_secs(1) * request / rate;
            while Instant::now() < due {
                self.collect(self.nap, &mut 0, false)?;
            }
            let index = self.next_in_order();
            // Its turn comes only when all others have had theirs.
            while self.connections[index].waiting {
                self.collect(self.nap, &mut 0, false)?;
            }
            self.connections[index].due = Some(due);
            self.send_next(index)?;
        }
        self.drain(&mut 0)?;
        Ok(std::mem::take(&mut self.took))
    }

    fn next_in_order(&mut self) -> usize {
        let index = self.order[self.place];
        self.place = (self.place + 1) % self.order.len();
        index
    }

    /// Waits for all replies: a server's CPU time is exact only when it has gone to sleep again.
    fn drain(&mut self, done: &mut u64) -> Outcome<()> {
        let end = Instant::now() + REPLY_LIMIT;
        while self.waiting > 0 {
            if Instant::now() > end {
                return Err(format!("{} replies were not there after {REPLY_LIMIT:?}", self.waiting).into());
            }
            self.collect(Duration::from_millis(100), done, false)?;
        }
        Ok(())
    }

    /// Takes what has come; with `go_on`, each connection whose reply is whole sends its next request.
    fn collect(&mut self, wait: Duration, done: &mut u64, go_on: bool) -> Outcome<()> {
        // Out of `self` while it is walked; an empty `Events` owns no memory worth speaking of.
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        match self.poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &events {
            let index = event.token().0;
            if self.receive(index)? {
                if let Some(due) = self.connections[index].due.take() {
                    self.took.push(due.elapsed());
                }
                *done += self.talk.operations(self.connections[index].step);
                if go_on {
                    self.send_next(index)?;
                }
            }
        }
        self.events = events;
        Ok(())
    }

    /// Whether the reply is now whole.
    fn receive(&mut self, index: usize) -> Outcome<bool> {
        let connection = &mut self.connections[index];
        // One read takes all: no reply is near 64 KiB, and nothing comes unasked.
        let got = match connection.stream.read(&mut self.buffer) {
            Ok(0) => return Err(format!("the server closed connection {index}").into()),
            Ok(count) => &self.buffer[..count],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(format!("connection {index}: {error}").into()),
        };
        if !connection.waiting {
            return Err(format!("connection {index} got {} bytes that it did not ask for", got.len()).into());
        }
        match self.talk.hear(connection.step, index, connection.heard, got) {
            Heard::Part => {
                connection.heard += got.len();
                Ok(false)
            }
            Heard::Whole => {
                connection.waiting = false;
                self.waiting -= 1;
                Ok(true)
            }
            Heard::Wrong(why) => Err(format!("connection {index}: {why}").into()),
        }
    }

    fn send_next(&mut self, index: usize) -> Outcome<()> {
        let connection = &mut self.connections[index];
        connection.step = self.talk.after(connection.step, index);
        self.send(index)
    }

    fn send(&mut self, index: usize) -> Outcome<()> {
        let connection = &mut self.connections[index];
        self.talk.speak(connection.step, index, &mut self.request);
        // Nothing else is on its way on this connection, so the kernel has room for a request this small.
        match connection.stream.write(&self.request) {
            Ok(count) if count == self.request.len() => {}
            Ok(count) => return Err(format!("connection {index} took only {count} bytes").into()),
            Err(error) => return Err(format!("connection {index}: {error}").into()),
        }
        connection.heard = 0;
        connection.waiting = true;
        self.waiting += 1;
        Ok(())
    }
}

fn open(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.cloexec(), None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    // Blocking: on loopback the handshake is over as soon as the call is.
    socket.connect(&to.into())?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    Ok(TcpStream::from_std(socket.into()))
}

/// A loopback address of its own for each fleet: the side that closes first, ours, leaves its ports in
/// TIME_WAIT, and 10,000 at a time would soon use up the 28,000 of one address, also over runs that follow
/// each other. (Closing by reset would leave none, but a reset is a fault that the server may rightly treat
/// otherwise than an ordinary end.)
fn next_source() -> Ipv4Addr {
    static FLEETS: AtomicU8 = AtomicU8::new(0);
    let run = (std::process::id() % 250) as u8;
    Ipv4Addr::new(127, 0, 1 + run, 1 + FLEETS.fetch_add(1, Ordering::Relaxed) % 250)
}

/// `0..count` in an order without pattern, the same in every run (Fisher-Yates over a linear congruence).
fn shuffled(count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for last in (1..count).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(last, (state >> 33) as usize % (last + 1));
    }
    order
}
