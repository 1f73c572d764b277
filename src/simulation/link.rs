//! A virtual connection: two one-way pipes with a bounded window each, on which segments take their time.

use std::collections::VecDeque;
use std::io::ErrorKind;

use super::record::LinkId;
use crate::engine::ConnKey;

/// The ends of a link: who asked for it, and who took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Caller = 0,
    Taker = 1,
}

impl Side {
    pub(super) fn other(self) -> Side {
        match self {
            Side::Caller => Side::Taker,
            Side::Taker => Side::Caller,
        }
    }
}

/// One end of a link.
pub(super) type Port = (LinkId, Side);

/// Who is at an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// A peer, by its place in the world.
    Peer(usize),
    /// An engine, and its name for the connection once it has one.
    Host(usize, Option<ConnKey>),
    /// Closed, or not there any more.
    Nobody,
}

/// How fast a peer takes what it is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Appetite {
    pub(super) pause_us: u64,
    pub(super) most_bytes: usize,
}

impl Appetite {
    pub(super) const HEARTY: Appetite = Appetite { pause_us: 200, most_bytes: 64 * 1024 };
}

/// How a link treats what is sent on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// The least and the longest time that a segment takes.
    pub(super) delay_us: (u64, u64),
    /// Once in so many calls a read or a write moves less than it could.
    pub(super) short_one_in: usize,
}

#[derive(Debug)]
pub(super) enum Payload {
    Bytes(Vec<u8>),
    /// The sender sends no more.
    End,
}

/// One way.
#[derive(Debug)]
pub(super) struct Pipe {
    /// Bytes that may be under way or unread: what the kernels at both ends buffer.
    pub(super) window: usize,
    pub(super) outstanding: usize,
    pub(super) flying: VecDeque<(u64, Payload)>,
    /// Nothing sent from now on arrives before.
    pub(super) not_before_us: u64,
    pub(super) arrived: VecDeque<u8>,
    /// How long each datagram is that has arrived, where there are any.
    datagrams: Option<VecDeque<usize>>,
    pub(super) end_sent: bool,
    pub(super) end_arrived: bool,
    /// The sender was refused, and waits to hear of room.
    pub(super) sender_waits: bool,
    /// What the sender, a peer, could not get into the window yet.
    pub(super) outbox: VecDeque<u8>,
    /// The sender, a peer, ends when its outbox is empty.
    pub(super) end_wanted: bool,
    /// The reader, a peer, has been told to look.
    pub(super) reader_called: bool,
    /// How fast the reader, a peer, takes what has arrived.
    pub(super) appetite: Appetite,
    /// A reset is under way to the reader: nothing comes after it.
    pub(super) doomed: bool,
    /// The reader has learned that the link is broken.
    pub(super) broken: bool,
}

impl Pipe {
    fn new(window: usize) -> Pipe {
        Pipe {
            window,
            outstanding: 0,
            flying: VecDeque::new(),
            not_before_us: 0,
            arrived: VecDeque::new(),
            datagrams: None,
            end_sent: false,
            end_arrived: false,
            sender_waits: false,
            outbox: VecDeque::new(),
            end_wanted: false,
            reader_called: false,
            appetite: Appetite::HEARTY,
            doomed: false,
            broken: false,
        }
    }

    /// Let arrive what is due.
    pub(super) fn arrive(&mut self, now_us: u64) -> bool {
        let mut any = false;
        while self.flying.front().is_some_and(|(at, _)| *at <= now_us) {
            any = true;
            match self.flying.pop_front() {
                Some((_, Payload::Bytes(bytes))) => {
                    self.datagrams.iter_mut().for_each(|datagrams| datagrams.push_back(bytes.len()));
                    self.arrived.extend(bytes);
                }
                Some((_, Payload::End)) => self.end_arrived = true,
                None => {}
            }
        }
        any
    }

    /// Whether a read would tell something.
    pub(super) fn is_readable(&self) -> bool {
        !self.arrived.is_empty() || self.end_arrived || self.broken
    }

    /// What has arrived is not wanted any more.
    pub(super) fn drop_arrived(&mut self) {
        self.arrived.clear();
        self.datagrams.iter_mut().for_each(VecDeque::clear);
    }

    /// Read up to `most` bytes, or a datagram. `Ok(0)` is the end.
    pub(super) fn take(&mut self, into: &mut [u8]) -> Result<usize, ErrorKind> {
        let most = match &mut self.datagrams {
            Some(datagrams) => datagrams.pop_front().unwrap_or(0),
            None => self.arrived.len(),
        };
        let count = into.len().min(most);
        if count > 0 {
            let (first, second) = self.arrived.as_slices();
            let split = first.len().min(count);
            into[..split].copy_from_slice(&first[..split]);
            into[split..count].copy_from_slice(&second[..count - split]);
            self.arrived.drain(..count);
            self.outstanding -= count;
            return Ok(count);
        }
        if self.broken {
            Err(ErrorKind::ConnectionReset)
        } else if self.end_arrived {
            Ok(0)
        } else {
            Err(ErrorKind::WouldBlock)
        }
    }

    pub(super) fn room(&self) -> usize {
        self.window - self.outstanding
    }

    /// Nothing more gets through.
    pub(super) fn lose_all(&mut self) {
        self.flying.clear();
        self.outbox.clear();
        self.end_wanted = false;
    }
}

#[derive(Debug)]
pub(super) struct Link {
    /// By `Side`.
    pub(super) holders: [Holder; 2],
    /// By the `Side` that reads.
    pub(super) pipes: [Pipe; 2],
    pub(super) weather: Weather,
    /// Which listener of the taker, an engine, was called.
    pub(super) listener: usize,
    /// What is sent is lost, and nobody is told.
    pub(super) vanished: bool,
    /// What is sent goes as a whole, and by itself.
    pub(super) is_datagram: bool,
}

impl Link {
    pub(super) fn new(caller: Holder, taker: Holder, weather: Weather, windows: [usize; 2]) -> Link {
        let pipes = [Pipe::new(windows[0]), Pipe::new(windows[1])];
        Link { holders: [caller, taker], pipes, weather, listener: 0, vanished: false, is_datagram: false }
    }

    /// It carries datagrams, for which nobody waits until there is room.
    pub(super) fn be_datagrams(&mut self) {
        self.is_datagram = true;
        for pipe in &mut self.pipes {
            (pipe.window, pipe.datagrams) = (1 << 20, Some(VecDeque::new()));
        }
    }

    /// The pipe that `side` reads from.
    pub(super) fn to(&mut self, side: Side) -> &mut Pipe {
        &mut self.pipes[side as usize]
    }

    /// The pipe that `side` writes to.
    pub(super) fn from(&mut self, side: Side) -> &mut Pipe {
        self.to(side.other())
    }

    pub(super) fn holder(&self, side: Side) -> Holder {
        self.holders[side as usize]
    }
}
