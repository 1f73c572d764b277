//! The seams between the engine and what it carries: a protocol's `Session` above, the `Wire` below.

use std::cell::{Ref, RefCell};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::context::Context;
use super::pending_writes::{Question, Ticket, WriteOrder};
use super::service::ServiceRow;
use super::trace::{Frame, Side};
use crate::base::host::Host;
use crate::base::section::Section;
use crate::base::time::Tick;
use crate::tags::value::Sample;
use crate::tags::{Refusal, TagId};

/// One peer's conversation in one protocol. It never sees a socket, a clock or a thread: bytes and changes
/// come in, output goes to the context.
pub trait Session: Send {
    /// The connection is there; a protocol in which the server speaks first speaks now.
    fn on_open(&mut self, _cx: &mut Context<'_>) -> Flow {
        Flow::Continue
    }

    /// Handle every whole frame in `input`, and report how many bytes are finished with. What is left comes
    /// again, with more behind it.
    fn on_bytes(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Consumed;

    /// There is room again: go on with what [`Flow::More`] was returned for.
    fn on_room(&mut self, _cx: &mut Context<'_>) -> Flow {
        Flow::Continue
    }

    /// A subscribed tag changed. Only called between two replies and when there is room.
    fn on_change(&mut self, _cx: &mut Context<'_>, _change: &Change<'_>) -> Flow {
        Flow::Continue
    }

    /// What became of a write that was pending.
    fn on_write_done(
        &mut self,
        _cx: &mut Context<'_>,
        _ticket: Ticket,
        _result: Result<(), Refusal>,
    ) -> Flow {
        Flow::Continue
    }

    /// Drivers only: somebody wants a value written to the device.
    fn on_write_order(&mut self, _cx: &mut Context<'_>, _order: WriteOrder) -> Flow {
        Flow::Continue
    }

    /// What the device answered to a question.
    fn on_answer(&mut self, _cx: &mut Context<'_>, _ticket: Ticket, _result: Result<&[u8], Refusal>) -> Flow {
        Flow::Continue
    }

    /// Drivers only: somebody wants a request of their own passed on to the device.
    fn on_question(&mut self, cx: &mut Context<'_>, question: Question) -> Flow {
        cx.answer(question.ticket, Err(Refusal::Offline));
        Flow::Continue
    }

    /// The tick that [`deadline`](Self::deadline) named has come.
    fn on_deadline(&mut self, _cx: &mut Context<'_>) -> Flow {
        Flow::Continue
    }

    /// The conversation is over (or could not be begun); output is no longer taken. A session that dialled
    /// may arrange for its successor here, with [`Context::dial_at`].
    fn on_end(&mut self, _cx: &mut Context<'_>, _why: End) {}

    /// The name of the host that it wants to be connected to cannot be looked up, as `why` says;
    /// [`on_end`](Self::on_end) follows.
    fn on_unresolved(&mut self, _why: &str) {}

    /// A frame of what is followed. Only called between two replies and when there is room.
    fn on_frame(&mut self, _cx: &mut Context<'_>, _frame: &Frame<'_>) -> Flow {
        Flow::Continue
    }

    /// Drivers: the scheme of the protocol in which we ask here and the peer answers, for who reads the
    /// frames.
    fn asks_in(&self) -> Option<&'static str> {
        None
    }

    /// When [`on_deadline`](Self::on_deadline) is to be called. Asked after every call into the session.
    fn deadline(&self) -> Option<Tick> {
        None
    }
}

/// What a session made of its input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consumed {
    /// The bytes at the front that are finished with.
    pub bytes: usize,
    /// How to go on.
    pub flow: Flow,
}

/// How to go on with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// With more input. From `on_bytes` it also says that what is left of the input is the beginning of a
    /// frame.
    Continue,
    /// With `on_room`, as soon as there is room, and no input or change before: a reply is under way, or
    /// whole frames are left because there was no room.
    More,
    /// With no input until a pending write is settled, or a question answered.
    Hold,
    /// Not at all: send what is owed, then close; with [`End::Aborted`] close at once.
    Close(End),
}

/// Why a conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer closed its side, and everything it sent was answered.
    PeerClosed,
    /// The connection broke.
    Broken(io::ErrorKind),
    /// The connection that we wanted could not be made.
    NotConnected(io::ErrorKind),
    /// The same, for nobody knows the address of its host.
    Unresolved,
    /// The peer asked for it.
    Quit,
    /// We cut it off: what is owed is not sent, and the peer sees a reset.
    Aborted,
    /// The peer broke the protocol.
    Violation,
    /// Nothing came for `idle_timeout`.
    Idle,
    /// A frame was begun and not ended within `frame_timeout`.
    FrameTimeout,
    /// The peer took nothing of what it is owed for `write_stall`.
    Slow,
    /// All buffers together were full and this peer's held the most.
    Memory,
    /// Another connection spoke for the same device.
    TakenOver,
    /// The peer, known by its datagrams only, was forgotten for another one.
    Forgotten,
    /// The server stops.
    Shutdown,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            End::PeerClosed => "by the peer",
            End::Broken(kind) => return write!(f, "the connection broke ({kind})"),
            End::NotConnected(kind) => return write!(f, "the connection could not be made ({kind})"),
            End::Unresolved => "the name of the host could not be looked up",
            End::Quit => "at the peer's request",
            End::Aborted => "we cut it off",
            End::Violation => "it broke the protocol",
            End::Idle => "nothing came for idle_timeout",
            End::FrameTimeout => "a frame was begun and not ended within frame_timeout",
            End::Slow => "it took nothing of what it is owed for write_stall",
            End::Memory => "buffer_memory was used up and it held the most",
            End::TakenOver => "another connection speaks for the same device",
            End::Forgotten => "it was forgotten for another peer (max_udp_peers)",
            End::Shutdown => "the server stops",
        })
    }
}

/// A change on its way to a subscriber.
pub struct Change<'a> {
    /// The tag.
    pub tag: TagId,
    /// Its name.
    pub name: &'a str,
    /// Its state now.
    pub sample: &'a Sample,
    pub(super) rendering: &'a Rendering,
}

/// A change as a protocol writes it, made for the first subscriber and copied for the others.
#[derive(Default)]
pub(super) struct Rendering {
    made: RefCell<(Option<&'static str>, String)>,
}

impl Rendering {
    pub(super) fn clear(&self) {
        self.made.borrow_mut().0 = None;
    }
}

impl Change<'_> {
    /// The change as `protocol` writes it; `write` is called if no session of that protocol has had it made
    /// yet.
    pub fn rendered(&self, protocol: &'static str, write: impl FnOnce(&mut String)) -> Ref<'_, str> {
        let mut made = self.rendering.made.borrow_mut();
        if made.0 != Some(protocol) {
            made.0 = Some(protocol);
            made.1.clear();
            write(&mut made.1);
        }
        drop(made);
        Ref::map(self.rendering.made.borrow(), |made| made.1.as_str())
    }
}

/// A row of the table of protocols: everything that the rest of the server knows of one.
pub struct Protocol {
    /// The scheme of its listener URLs.
    pub scheme: &'static str,
    /// One line for people.
    pub summary: &'static str,
    /// A command to try it with; `{ip}` and `{port}` stand for the address.
    pub hint: &'static str,
    /// What carries it.
    pub transport: Transport,
    /// Whether its frames show where they end: then any chopping of them gives the same answer. Without
    /// frames, each chunk that comes is answered by itself.
    pub framed: bool,
    /// The port where a URL names none.
    pub default_port: u16,
    /// A frame that was begun must end within this time, where the listener sets none.
    pub frame_timeout: Duration,
    /// How its listeners are made.
    pub listening: Listening,
    /// Input that covers the protocol, for the conformance tests and the fuzzer: each is a conversation's
    /// requests.
    pub specimens: &'static [&'static [u8]],
    /// Decode the frame at the front of the input, and encode it again; how long it was. `None` if there is
    /// none.
    pub recode: fn(&[u8], &mut Vec<u8>) -> Option<usize>,
    /// What recorded bytes say, in words and on one line: mostly a frame, but it may be several, or a part.
    pub words: fn(Side, &[u8]) -> String,
    /// The port by which readers of captures know the protocol, if they do.
    pub capture_port: Option<u16>,
}

/// How the listeners of a protocol are made: from the keys of a `[[listen]]` section that are its own.
pub enum Listening {
    /// Each stands by itself.
    Alone(fn(&mut Section<'_>) -> Box<dyn Acceptor>),
    /// They share a service; the rows of several protocols may name the same.
    Together(&'static ServiceRow),
}

/// What carries a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP: a stream each way.
    Stream,
    /// UDP: a session gets whole datagrams, finishes with each at once, and says where its output may be cut.
    Datagram,
}

/// Where a connection of ours goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The peer. If it has a name, the wire looks that up.
    pub host: Host,
    /// What carries it there. By datagrams a connection is made at once, whoever may hear it.
    pub transport: Transport,
    /// From this address of ours; the system chooses where there is none.
    pub from: Option<IpAddr>,
}

/// Meets the peers of one listener.
pub trait Acceptor: Send + Sync {
    /// The session for a new peer.
    fn accept(&self, peer: SocketAddr) -> Box<dyn Session>;

    /// The session for a new peer that came to the address `local` of ours: for a listener that stands for
    /// many.
    fn accept_at(&self, peer: SocketAddr, _local: SocketAddr) -> Box<dyn Session> {
        self.accept(peer)
    }

    /// The last words for a peer that is turned away.
    fn refuse(&self, refusal: &Refusal, out: &mut String);
}

/// Names a connection: the index is the slab's and the poll token, the serial tells it from others that had
/// or will have the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnKey {
    /// Slab index.
    pub index: u32,
    /// Counted up for each connection of a shard.
    pub serial: u32,
}

/// The only I/O seam: sockets, or byte queues in a test, or a seeded bad network.
pub trait Wire {
    /// Read some bytes. `Ok(0)`: the peer closed its side. `WouldBlock`: nothing now, an event will tell.
    fn recv(&mut self, conn: ConnKey, into: &mut [u8]) -> io::Result<usize>;
    /// Write some bytes. Fewer than given or `WouldBlock`: no more now, an event will tell.
    fn send(&mut self, conn: ConnKey, bytes: &[u8]) -> io::Result<usize>;
    /// Send a datagram from the socket of a listener. An error loses it, as the network may.
    fn send_to(&mut self, listener: usize, peer: SocketAddr, datagram: &[u8]) -> io::Result<()>;
    /// Begin to connect; [`Engine::on_dialled`](super::Engine::on_dialled) tells how it went, also if it
    /// fails here. Where a name is looked up first, [`Engine::on_looked_up`](super::Engine::on_looked_up)
    /// comes before, or [`Engine::on_unresolved`](super::Engine::on_unresolved) instead.
    fn dial(&mut self, conn: ConnKey, to: Endpoint);
    /// There is no more to send: shut down the sending side.
    fn finish(&mut self, conn: ConnKey);
    /// Close; the key is not used again. With [`End::Aborted`] the peer is to see a reset.
    fn close(&mut self, conn: ConnKey, why: End);
}

/// What an event says of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// Bytes (or an end, or an error) can be read.
    pub readable: bool,
    /// Bytes can be written.
    pub writable: bool,
    /// The peer has closed its side; an end follows the last byte, and no other event tells.
    pub read_closed: bool,
}
