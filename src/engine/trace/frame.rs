//! What a recorded frame is, for those who follow it.

use std::fmt;
use std::net::SocketAddr;

use crate::base::time::Timestamp;
use crate::tags::name::{DeviceName, NameError};

/// Which way a frame went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// It came from the peer.
    In,
    /// It went to the peer.
    Out,
}

impl Direction {
    /// As the line protocol writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Direction::In => "in",
            Direction::Out => "out",
        }
    }
}

/// Who a frame is from, in a protocol in which one side asks and the other answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It is a request.
    Asks,
    /// It is an answer.
    Answers,
}

/// A connection as frames have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The scheme of its protocol; empty where that is not known.
    pub scheme: &'static str,
    /// Whether the requests are ours, and the peer answers.
    pub we_ask: bool,
    /// The other end.
    pub peer: SocketAddr,
    /// Tells it from other connections with the same peer.
    pub serial: u32,
}

/// A recorded frame, on its way to a follower.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// What is followed: a device, or a peer's address.
    pub name: &'a str,
    /// When it was recorded.
    pub time: Timestamp,
    /// Which way it went.
    pub direction: Direction,
    /// Whose it is.
    pub origin: Origin,
    /// What was sent, or what the session finished with, in one go: mostly a whole frame, or several.
    pub bytes: &'a [u8],
    /// Frames before it that the follower was too slow for.
    pub skipped: u64,
    /// As the follower asked.
    pub detailed: bool,
}

/// What can be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traced<'a> {
    /// A device, polled or one that said `HELLO`.
    Device(DeviceName<'a>),
    /// The connection with this peer. Its name may be a device's, too.
    Peer(SocketAddr),
}

impl<'a> Traced<'a> {
    /// The name of a device, or an address as the log shows it: `10.0.0.7:49152`, `[fe80::7]:49152`.
    pub fn parse(text: &'a str) -> Result<Traced<'a>, NameError> {
        match text.parse() {
            Ok(peer) => Ok(Traced::Peer(peer)),
            Err(_) => DeviceName::parse(text).map(Traced::Device),
        }
    }
}

impl fmt::Display for Traced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Traced::Device(name) => name.fmt(f),
            Traced::Peer(peer) => peer.fmt(f),
        }
    }
}
