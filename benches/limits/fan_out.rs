//! One tag and many subscribers: what a change costs the server for each of them.
//!
//! Beside it the bare program, which writes the same bytes to each connection, one `write` each
//! (`benches/bare_echo.rs`). The subscribers are here, on the driver's core.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use super::Outcome;
use super::compare::{Comparison, Side};
use super::load::{Drive, Load};
use super::server::Server;
use super::setup::{Peer, Setup};
use super::talk::{Heard, VALUES};

const WINDOW: Duration = Duration::from_millis(50);
const REPLY_LIMIT: Duration = Duration::from_secs(60);
const BUFFER_BYTES: usize = 4096;
const TAG: &str = "fan/value";

impl Setup {
    /// CPU time per delivered update, Lumina's against a bare `write`.
    pub fn compare_fan_out(&self, subscribers: usize) -> Outcome<Comparison> {
        let mut rounds = Vec::new();
        let end = Instant::now() + self.plan.patience;
        while rounds.len() < self.plan.far_rounds && (rounds.is_empty() || Instant::now() < end) {
            rounds.push(self.fan_out_round(subscribers, self.plan.pairs)?);
        }
        Ok(Comparison::median_of(rounds))
    }

    /// The same in so many pairs of windows between two fresh servers.
    pub fn fan_out_round(&self, subscribers: usize, pairs: usize) -> Outcome<Comparison> {
        let (lumina, bare) = (self.serve(Peer::Line)?, self.serve_bare_fan_out()?);
        let mut left = Side { fleet: Fan::subscribe(&lumina, subscribers)?, server: &lumina };
        let mut right = Side { fleet: Fan::listen(&bare, subscribers)?, server: &bare };
        let pairs = self.alternate(Load::Closed, WINDOW, &mut left, &mut right, pairs)?;
        Ok(Comparison::median_of(pairs))
    }
}

/// One that publishes, and all who are told.
struct Fan {
    publisher: TcpStream,
    subscribers: Vec<mio::net::TcpStream>,
    poll: Poll,
    words: Words,
    round: usize,
}

/// What is said for a value: by the publisher, to it, and to each subscriber.
struct Words {
    publish: fn(&str) -> String,
    confirmed: &'static str,
    /// A `#` is any digit: the time is the server's.
    update: fn(&str) -> String,
}

impl Fan {
    fn subscribe(lumina: &Server, subscribers: usize) -> Outcome<Fan> {
        let words = Words {
            publish: |value| format!("SET {TAG} {value}\n"),
            confirmed: "OK\n",
            update: |value| format!("UPD {TAG} {value} good #############\n"),
        };
        let mut fan = Fan::connect(lumina.address, subscribers, words)?;
        // So that the tag is there, and each is told one value.
        fan.publish(VALUES[0])?;
        let told = format!("VAL {TAG} {} good {:13}\nOK 1\n", VALUES[0], "").len();
        for _ in 0..subscribers {
            let mut stream = connect(lumina.address)?;
            stream.write_all(format!("SUB {TAG}\n").as_bytes())?;
            let mut reply = vec![0; told];
            stream.read_exact(&mut reply)?;
            if !reply.ends_with(b"\nOK 1\n") {
                return Err(format!("SUB: {:?}", String::from_utf8_lossy(&reply)).into());
            }
            fan.add(stream)?;
        }
        Ok(fan)
    }

    fn listen(bare: &Server, subscribers: usize) -> Outcome<Fan> {
        // The very bytes that the server sends, with some time.
        let line = |value: &str| format!("UPD {TAG} {value} good 1700000000000\n");
        let words = Words { publish: line, confirmed: "", update: line };
        let mut fan = Fan::connect(bare.address, subscribers, words)?;
        for _ in 0..subscribers {
            fan.add(connect(bare.address)?)?;
        }
        // Until all are accepted.
        bare.settle()?;
        Ok(fan)
    }

    fn connect(to: SocketAddr, subscribers: usize, words: Words) -> Outcome<Fan> {
        let subscribers = Vec::with_capacity(subscribers);
        Ok(Fan { publisher: connect(to)?, subscribers, poll: Poll::new()?, words, round: 0 })
    }

    fn add(&mut self, stream: TcpStream) -> Outcome<()> {
        stream.set_nonblocking(true)?;
        let mut stream = mio::net::TcpStream::from_std(stream);
        self.poll.registry().register(&mut stream, Token(self.subscribers.len()), Interest::READABLE)?;
        self.subscribers.push(stream);
        Ok(())
    }

    fn publish(&mut self, value: &str) -> Outcome<()> {
        self.publisher.write_all((self.words.publish)(value).as_bytes())?;
        let mut reply = vec![0; self.words.confirmed.len()];
        self.publisher.read_exact(&mut reply)?;
        match reply == self.words.confirmed.as_bytes() {
            true => Ok(()),
            false => Err(format!("the publisher is told {:?}", String::from_utf8_lossy(&reply)).into()),
        }
    }

    /// Publishes one value, and waits until all have it.
    fn round(&mut self, events: &mut Events, buffer: &mut [u8]) -> Outcome<()> {
        self.round += 1;
        let value = VALUES[self.round % VALUES.len()];
        let update = (self.words.update)(value);
        self.publish(value)?;
        let mut missing = self.subscribers.len();
        let end = Instant::now() + REPLY_LIMIT;
        while missing > 0 {
            if Instant::now() > end {
                return Err(format!("{missing} subscribers were not told {value}").into());
            }
            // Without sleep, as in `load.rs`.
            self.poll.poll(events, Some(Duration::ZERO))?;
            for event in events.iter() {
                let index = event.token().0;
                let got = match self.subscribers[index].read(buffer) {
                    Ok(count) => &buffer[..count],
                    Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                    Err(error) => return Err(format!("subscriber {index}: {error}").into()),
                };
                let fits = |want: u8, got: u8| want == got || (want == b'#' && got.is_ascii_digit());
                match Heard::of(update.as_bytes(), 0, got, fits) {
                    Some(Heard::Whole) => missing -= 1,
                    _ => {
                        let got = String::from_utf8_lossy(got);
                        return Err(format!("subscriber {index}: {got:?} instead of {update:?}").into());
                    }
                }
            }
        }
        Ok(())
    }
}

impl Drive for Fan {
    /// Publishes one value after the other. An operation is a delivery.
    fn run(&mut self, _load: Load, time: Duration) -> Outcome<u64> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = [0; BUFFER_BYTES];
        let (end, before) = (Instant::now() + time, self.round);
        while Instant::now() < end {
            self.round(&mut events, &mut buffer)?;
        }
        Ok(((self.round - before) * self.subscribers.len()) as u64)
    }
}

fn connect(to: SocketAddr) -> Outcome<TcpStream> {
    let stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(REPLY_LIMIT))?;
    Ok(stream)
}
