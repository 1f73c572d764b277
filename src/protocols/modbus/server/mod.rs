//! The Modbus server: masters read and write the tags, or plain memory as in a PLC.
//!
//! [`session`] is one master's conversation. A unit is either raw memory ([`raw`]) or tags shown as registers
//! ([`mapped`]), as [`settings`] reads it from the configuration; [`watch`] sees that what masters no longer
//! write takes its safe value.

mod fault;
mod mapped;
mod raw;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::address::Area;
use super::pdu::{Exception, Pdu};
use super::{mbap, rtu, words};
use crate::base::section::Section;
use crate::base::time::{Tick, Timestamp};
use crate::engine::{
    Acceptor, Context, Listening, Protocol, Service, ServiceRow, Session, Ticket, Transport,
};
use crate::protocols::modbus::Request;
use crate::tags::value::{Input, Kind};
use crate::tags::{Memory, Refusal, TagId, Tags, Write};

use mapped::Mapped;
use raw::{Raw, SharedRaw};
use session::{Conversation, Framing};
use watch::Watch;

/// The row of the table.
pub const PROTOCOL: Protocol = Protocol {
    scheme: "modbus",
    summary: "Modbus TCP: masters read and write tags as registers, or the memory of a stand-in PLC",
    hint: "mbpoll -m tcp -p {port} -a 1 -r 1 -c 10 -1 {ip}",
    transport: Transport::Stream,
    framed: true,
    default_port: 502,
    frame_timeout: FRAME_TIMEOUT,
    listening: Listening::Together(&SERVICE),
    specimens: &[
        // Of unit 1: write registers 0 to 1, read them, write and read coils, mask, write and read.
        b"\0\x01\0\0\0\x0b\x01\x10\0\0\0\x02\x04\x12\x34\x56\x78\0\x02\0\0\0\x06\x01\x03\0\0\0\x02",
        b"\0\x03\0\0\0\x06\x01\x05\0\x07\xff\0\0\x04\0\0\0\x06\x01\x01\0\0\0\x0a\
          \0\x05\0\0\0\x08\x01\x16\0\x04\0\xf2\0\x25\
          \0\x06\0\0\0\x0d\x01\x17\0\0\0\x02\0\x09\0\x01\x02\xab\xcd",
        // Who are you; no such function, unit, quantity, address; a length that is none.
        b"\0\x07\0\0\0\x05\x01\x2b\x0e\x01\0\0\x08\0\0\0\x02\x01\x63\0\x09\0\0\0\x06\x07\x03\0\0\0\x01\
          \0\x0a\0\0\0\x06\x01\x04\0\0\0\0\0\x0b\0\0\0\x06\x01\x02\xff\xff\0\x02\0\x0c\0\0\0\x01",
    ],
    recode: recode_mbap,
    words: words::of_mbap,
    capture_port: Some(502),
};

/// The row of the table for datagrams: one frame each.
pub const DATAGRAM_PROTOCOL: Protocol = Protocol {
    scheme: "modbus+udp",
    summary: "Modbus with the frames of Modbus TCP, one a datagram",
    hint: "mbpoll speaks TCP only; pymodbus has ModbusUdpClient('{ip}', port={port})",
    transport: Transport::Datagram,
    framed: true,
    default_port: 502,
    frame_timeout: FRAME_TIMEOUT,
    listening: Listening::Together(&SERVICE),
    specimens: &[
        b"\0\x01\0\0\0\x0b\x01\x10\0\0\0\x02\x04\x12\x34\x56\x78",
        b"\0\x02\0\0\0\x06\x01\x03\0\0\0\x02",
    ],
    recode: recode_mbap,
    words: words::of_mbap,
    capture_port: Some(502),
};

/// The row of the table for serial converters.
pub const RTU_PROTOCOL: Protocol = Protocol {
    scheme: "modbus-rtu",
    summary: "Modbus with RTU frames over TCP, as serial converters speak it",
    hint: "mbpoll speaks it on serial lines only; pymodbus has FramerType.RTU on {ip}, port {port}",
    transport: Transport::Stream,
    framed: true,
    default_port: 502,
    frame_timeout: FRAME_TIMEOUT,
    listening: Listening::Together(&SERVICE),
    specimens: &[
        // As for TCP; the last has a CRC that is wrong, and one that is right behind it.
        b"\x01\x10\0\0\0\x02\x04\x12\x34\x56\x78\x29\xba\x01\x03\0\0\0\x02\xc4\x0b",
        b"\x01\x03\0\0\0\x02\xc4\x0c\x01\x03\0\0\0\x02\xc4\x0b",
    ],
    recode: |input, out| match rtu::Framing::new(rtu::Direction::Requests).next(input) {
        rtu::Next::Incomplete => None,
        rtu::Next::Damaged(bytes) => Some(bytes),
        rtu::Next::Frame(frame) => {
            let pdu = recoded(frame.pdu);
            out.push(frame.unit);
            out.extend_from_slice(&pdu);
            out.extend_from_slice(&rtu::trailer(frame.unit, &pdu));
            Some(frame.bytes())
        }
    },
    words: words::of_rtu,
    // What comes to 502 is taken for frames of Modbus TCP.
    capture_port: None,
};

/// A master sends its frame in one go.
const FRAME_TIMEOUT: Duration = Duration::from_secs(2);

static SERVICE: ServiceRow = ServiceRow {
    section: "modbus",
    configure: |section, declared| Arc::new(Units::new(settings::read(section, declared))),
    samples: &[SAMPLE],
};

/// Unit 1 shows tags where the specimens write and read, and a few of the other kinds; unit 2 is memory.
const SAMPLE: &str = r#"
[[modbus.unit]]
id = 1
fill = 0
[[modbus.unit]]
id = 2
coils = 9
holdings = { size = 3, watchdog = "2s", safe = 7 }
[[modbus.map]]
unit = 1
address = "holding:0"
tag = "sample/level"
type = "f32"
order = "cdab"
[[modbus.map]]
unit = 1
address = "holding:4"
tag = "sample/count"
type = "u16"
scale = 0.1
watchdog = "1s"
safe = -1
[[modbus.map]]
unit = 1
address = "holding:9.0"
tag = "sample/open"
[[modbus.map]]
unit = 1
address = "holding:9.15"
tag = "sample/hot"
on_bad = 1
[[modbus.map]]
unit = 1
address = "holding:10"
tag = "sample/text"
type = "string(4)"
[[modbus.map]]
unit = 1
address = "coil:7"
tag = "sample/run"
on_bad = "last"
serve_uncertain = true
[[modbus.map]]
unit = 1
address = "input:0"
tag = "modbus/2/holding/1"
type = "bcd32"
[[modbus.map]]
unit = 1
address = "input:2"
tag = "sample/level"
show = "quality"
"#;

fn recode_mbap(input: &[u8], out: &mut Vec<u8>) -> Option<usize> {
    let frame = mbap::Frame::parse(input).ok().flatten()?;
    let pdu = recoded(frame.pdu);
    out.extend_from_slice(&mbap::header(frame.transaction, frame.unit, pdu.len()));
    out.extend_from_slice(&pdu);
    Some(frame.bytes())
}

/// What is no request stays as it is.
fn recoded(pdu: &[u8]) -> Vec<u8> {
    let mut recoded = Pdu::new();
    match Request::decode(pdu) {
        Ok(request) => {
            request.encode(&mut recoded);
            recoded.to_vec()
        }
        Err(_) => pdu.to_vec(),
    }
}

/// The units of this server: the same behind all its listeners.
pub(super) struct Units {
    units: Box<[Unit]>,
    /// For each id the place in `units`.
    by_id: [Option<u8>; 256],
}

/// A unit.
pub(super) struct Unit {
    id: u8,
    content: Content,
}

enum Content {
    Raw(SharedRaw),
    Mapped(Mapped),
}

/// What came of a request that could be carried out.
#[derive(Debug, PartialEq)]
enum Outcome {
    /// It is done, and the reply is written.
    Done,
    /// Devices are asked; when all of them have confirmed, [`Unit::answer`] writes the reply.
    Pending(Vec<Ticket>),
}

impl Units {
    fn new(units: Vec<Unit>) -> Units {
        let mut by_id = [None; 256];
        for (place, unit) in units.iter().enumerate() {
            by_id[usize::from(unit.id)] = Some(place as u8);
        }
        Units { units: units.into(), by_id }
    }

    /// The unit that a frame is for. Where there is just one, 0 and 255 mean it: masters that know of no
    /// units send them.
    fn find(&self, id: u8) -> Option<&Unit> {
        match (self.by_id[usize::from(id)], &*self.units) {
            (Some(place), units) => Some(&units[usize::from(place)]),
            (None, [only]) if matches!(id, 0 | 255) => Some(only),
            _ => None,
        }
    }
}

impl Service for Units {
    fn listener(self: Arc<Self>, protocol: &Protocol, _: &mut Section<'_>) -> Box<dyn Acceptor> {
        let framing = match (protocol.scheme, protocol.transport) {
            ("modbus-rtu", _) => Framing::Rtu(rtu::Framing::new(rtu::Direction::Requests)),
            (_, Transport::Stream) => Framing::Tcp,
            (_, Transport::Datagram) => Framing::Udp,
        };
        Box::new(ModbusListener { units: self, framing })
    }

    fn describe(&self) -> Vec<String> {
        let describe = |unit: &Unit| match &unit.content {
            Content::Raw(raw) => format!("Modbus unit {}: raw memory, {}", unit.id, raw.lock().describe()),
            Content::Mapped(mapped) => format!("Modbus unit {}: {} tags", unit.id, mapped.entries()),
        };
        self.units.iter().map(describe).collect()
    }

    fn memory(self: Arc<Self>) -> Option<Arc<dyn Memory>> {
        let is_raw = |unit: &Unit| matches!(unit.content, Content::Raw(_));
        if self.units.iter().any(is_raw) { Some(self) } else { None }
    }

    fn bind(&self, tags: &Tags, time: Timestamp) -> Result<(), (String, Refusal)> {
        self.units.iter().try_for_each(|unit| match &unit.content {
            Content::Raw(_) => Ok(()),
            Content::Mapped(mapped) => mapped.bind(tags, time),
        })
    }

    fn resident(self: Arc<Self>) -> Option<Box<dyn Session>> {
        Watch::over(self).map(|watch| Box::new(watch) as Box<dyn Session>)
    }
}

/// Registers of raw memory are tags when somebody names them: `modbus/1/holding/100`.
impl Memory for Units {
    fn prefix(&self) -> &'static str {
        NAMES_BEGIN_WITH
    }

    fn find(&self, rest: &str) -> Option<(u32, Kind)> {
        let (id, area, address) = register(rest)?;
        let place = self.by_id[usize::from(id)]?;
        match &self.units[usize::from(place)].content {
            Content::Raw(raw) if raw.lock().has(area, address) => {
                let at = u32::from(place) << 24 | (area as u32) << 16 | u32::from(address);
                Some((at, if area.is_bits() { Kind::Bool } else { Kind::Int }))
            }
            _ => None,
        }
    }

    fn adopt(&self, tags: &Tags, at: u32, tag: TagId, time: Timestamp) {
        let (raw, area, address) = self.cell(at);
        raw.lock().adopt(tags, area, address, tag, time);
    }

    fn holds(&self, _: u32, value: &Input<'_>) -> bool {
        !matches!(value, Input::Int(register) if u16::try_from(*register).is_err())
    }

    fn write(&self, tags: &Tags, at: u32, tag: TagId, now: Tick, write: Write<'_>) {
        let (raw, area, address) = self.cell(at);
        raw.lock().write_tag(tags, area, address, tag, now, write);
    }
}

/// The first level of the names of raw registers.
const NAMES_BEGIN_WITH: &str = "modbus";

impl Units {
    /// The place that [`Memory::find`] gave a number.
    fn cell(&self, at: u32) -> (&SharedRaw, Area, u16) {
        let Content::Raw(raw) = &self.units[(at >> 24) as usize].content else {
            unreachable!("cells of raw units only have numbers")
        };
        let area = super::address::AREAS[(at >> 16 & 0xFF) as usize];
        (raw, area, at as u16)
    }
}

/// Unit, area and address of a register, from what its tag's name has behind the first level.
fn register(rest: &str) -> Option<(u8, Area, u16)> {
    let mut levels = rest.split('/');
    let (id, area, address) =
        (number(levels.next()?)?, Area::parse(levels.next()?)?, number(levels.next()?)?);
    if levels.next().is_some() {
        return None;
    }
    Some((u8::try_from(id).ok()?, area, address))
}

/// A number as it is printed: each register has one name.
fn number(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}

impl Unit {
    fn raw(id: u8, raw: Raw) -> Unit {
        Unit { id, content: Content::Raw(SharedRaw::new(raw)) }
    }

    fn mapped(id: u8, mapped: Mapped) -> Unit {
        Unit { id, content: Content::Mapped(mapped) }
    }

    /// Carry a request out, all of it or nothing, and write the reply.
    fn execute(
        &self,
        cx: &mut Context<'_>,
        request: &Request<'_>,
        reply: &mut Pdu,
    ) -> Result<Outcome, Exception> {
        match &self.content {
            Content::Raw(raw) => raw.lock().execute(cx, request, reply).map(|()| Outcome::Done),
            Content::Mapped(mapped) => mapped.execute(cx, request, reply),
        }
    }

    /// Write the reply to a request that had to wait and is carried out now.
    fn answer(&self, cx: &Context<'_>, request: &Request<'_>, reply: &mut Pdu) -> Result<(), Exception> {
        match &self.content {
            Content::Raw(_) => unreachable!("a request to raw memory does not wait"),
            Content::Mapped(mapped) => mapped.answer(cx, request, reply),
        }
    }
}

struct ModbusListener {
    units: Arc<Units>,
    framing: Framing,
}

impl Acceptor for ModbusListener {
    fn accept(&self, _peer: SocketAddr) -> Box<dyn Session> {
        Box::new(Conversation::new(Arc::clone(&self.units), self.framing))
    }

    /// There is no word for it in Modbus.
    fn refuse(&self, _: &Refusal, _: &mut String) {}
}
