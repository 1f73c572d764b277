//! What Modbus masters ask, and what they may be answered.

use std::collections::BTreeMap;
use std::fmt;

use super::peers::polled_tag;
use super::record::Book;
use super::units::{self, NOBODY, RAW, SHOWN};
use crate::base::random::Random;
use crate::protocols::modbus::identification::{Access, Identify};
use crate::protocols::modbus::{Area, Bits, Mask, Pdu, Registers, Request, Span};

/// A request, and what is known of its answer when it is sent.
pub(super) struct Question {
    pub(super) unit: u8,
    pub(super) pdu: Vec<u8>,
    /// The tags that only its asker writes, and their new versions.
    pub(super) writes: Vec<(String, i64)>,
    /// A device has to agree.
    pub(super) by_device: bool,
    pub(super) reads: Reads,
    /// Exceptions that may be the answer.
    pub(super) refusals: &'static [u8],
    /// One of them has to be.
    pub(super) is_wrong: bool,
}

/// What an answer holds.
pub(super) enum Reads {
    /// Nothing that could be checked.
    Nothing,
    /// Registers of a block of unit 1, from this one on. The stamp that the same request has written.
    Block(u16, Option<u16>),
    /// All coils of the block.
    Coils,
    /// The same as a block, of unit 2.
    BlockOfTags(u16, Option<u16>),
    /// The register that is guarded.
    Guarded,
    /// Values that have a writer each, and qualities.
    Fields(Vec<Field>),
}

/// A value, in an answer of several.
pub(super) enum Field {
    /// A register, its tag, and the version that was known to be written.
    Word(String, i64),
    /// The same in two registers.
    Long(String, i64),
    /// A quality, and the worst that it may be.
    Quality(u16),
}

// Exceptions, as the standard numbers them.
const FUNCTION: u8 = 1;
const ADDRESS: u8 = 2;
const VALUE: u8 = 3;
/// There is nothing that could be shown.
const FAILURE: u8 = 4;
const PATH: u8 = 10;

fn pdu_of(request: &Request<'_>) -> Vec<u8> {
    let mut pdu = Pdu::new();
    request.encode(&mut pdu);
    pdu.to_vec()
}

fn bytes_of(words: impl IntoIterator<Item = u16>) -> Vec<u8> {
    words.into_iter().flat_map(u16::to_be_bytes).collect()
}

fn registers(bytes: &[u8]) -> Registers<'_> {
    Registers::new(bytes).expect("two bytes a register")
}

fn bytes_of_long(value: i64) -> [u8; 4] {
    (value as i32).to_be_bytes()
}

impl Question {
    fn of(unit: u8, request: &Request<'_>) -> Question {
        Question {
            unit,
            pdu: pdu_of(request),
            writes: Vec::new(),
            by_device: false,
            reads: Reads::Nothing,
            refusals: &[],
            is_wrong: false,
        }
    }

    fn read(unit: u8, start: u16, quantity: u16, reads: Reads) -> Question {
        let span = Span { start, quantity };
        Question { reads, ..Question::of(unit, &Request::ReadHoldings(span)) }
    }

    fn wrong(unit: u8, pdu: &[u8], refusals: &'static [u8]) -> Question {
        let span = Span { start: 0, quantity: 1 };
        Question {
            pdu: pdu.to_vec(),
            refusals,
            is_wrong: true,
            ..Question::of(unit, &Request::ReadCoils(span))
        }
    }

    /// Whether its function is one that we know: of a reply to any other only the CRC tells where it ends.
    pub(super) fn is_of_known_function(&self) -> bool {
        crate::protocols::modbus::Function::of(&self.pdu).is_some()
    }

    /// Something that anybody may ask, also if it is carried out twice and in any order.
    pub(super) fn of_anybody(random: &mut Random, book: &Book) -> Question {
        match random.below(16) {
            0..=4 => of_block(random),
            5 | 6 => of_coils(random),
            7..=10 => of_block_of_tags(random, book),
            11 | 12 => of_device(random, book),
            13 => of_guarded(random, book),
            14 => wrong(random),
            _ => {
                let access = *random.pick(&[&Access::Basic, &Access::Regular]);
                Question::of(RAW, &Request::Identify(Identify { access, object: 0 }))
            }
        }
    }
}

fn of_block(random: &mut Random) -> Question {
    let Span { start, quantity } = *random.pick(&[&units::BLOCKS[0], &units::BLOCKS[1]]);
    let stamp = random.draw() as u16;
    let written = bytes_of((0..quantity).map(|at| units::block_word(at, stamp)));
    let from = random.below(quantity.into()) as u16;
    let len = 1 + random.below((quantity - from).into()) as u16;
    let read = Span { start: start + from, quantity: len };
    match random.below(5) {
        0 | 1 => {
            Question::of(RAW, &Request::WriteRegisters { address: start, registers: registers(&written) })
        }
        2 => {
            let request = Request::ReadWrite { read, address: start, registers: registers(&written) };
            Question { reads: Reads::Block(from, Some(stamp)), ..Question::of(RAW, &request) }
        }
        _ => Question::read(RAW, read.start, read.quantity, Reads::Block(from, None)),
    }
}

fn of_coils(random: &mut Random) -> Question {
    if random.one_in(2) {
        return Question { reads: Reads::Coils, ..Question::of(RAW, &Request::ReadCoils(units::COILS)) };
    }
    let coils = units::coils(random.draw() as u16);
    let byte = |eight: &[bool]| eight.iter().rev().fold(0, |byte, coil| byte << 1 | u8::from(*coil));
    let bytes: Vec<u8> = coils.chunks(8).map(byte).collect();
    let coils = Bits::new(&bytes, units::COILS.quantity).expect("eight a byte");
    Question::of(RAW, &Request::WriteCoils { address: units::COILS.start, coils })
}

fn of_block_of_tags(random: &mut Random, book: &Book) -> Question {
    let stamp = random.below(units::STAMPS.into()) as u16;
    let written = bytes_of(units::block_of_tags(stamp));
    let first = random.below(units::CUTS.len() - 1);
    let behind = first + 1 + random.below(units::CUTS.len() - 1 - first);
    let (from, to) = (units::CUTS[first], units::CUTS[behind]);
    let read = Span { start: from, quantity: to - from };
    let writes = vec![(units::TAG_OF_BLOCK.to_owned(), 0)];
    match random.below(4) {
        0 => {
            let request = Request::WriteRegisters { address: 0, registers: registers(&written) };
            Question { writes, ..Question::of(SHOWN, &request) }
        }
        1 => {
            let request = Request::ReadWrite { read, address: 0, registers: registers(&written) };
            let reads = Reads::BlockOfTags(from, Some(stamp));
            Question { writes, reads, ..Question::of(SHOWN, &request) }
        }
        _ => {
            let is_there = book.open().confirmed.contains_key(units::TAG_OF_BLOCK);
            let refusals: &[u8] = if is_there { &[] } else { &[FAILURE] };
            let reads = Reads::BlockOfTags(from, None);
            Question { refusals, ..Question::read(SHOWN, from, to - from, reads) }
        }
    }
}

fn confirmed(book: &Book, tag: &str) -> i64 {
    book.open().confirmed.get(tag).copied().unwrap_or(-1)
}

fn of_device(random: &mut Random, book: &Book) -> Question {
    let device = random.below(units::DEVICES);
    let first = units::device_registers(device);
    let long = |tag: &str| {
        let tag = format!("dev{device}/{tag}");
        let at_least = confirmed(book, &tag);
        Field::Long(tag, at_least)
    };
    let all = units::DEVICE_REGISTERS;
    let (at, quantity, fields) = match random.below(4) {
        0 => (0, 2, vec![long("t0")]),
        1 => (3, 3, vec![long("t1"), Field::Quality(1)]),
        2 => (2, 1, vec![Field::Quality(2)]),
        _ => (0, all, vec![long("t0"), Field::Quality(0), long("t1"), Field::Quality(1)]),
    };
    // A device may be lost, and some write text, which is not shown as a number.
    let refusals: &[u8] = if quantity == 1 { &[] } else { &[FAILURE] };
    Question { refusals, ..Question::read(SHOWN, first + at, quantity, Reads::Fields(fields)) }
}

fn of_guarded(random: &mut Random, book: &Book) -> Question {
    let address = units::GUARDED;
    if random.one_in(2) {
        let value = random.below(units::UNSAFE_BELOW.into()) as u16;
        let writes = vec![(units::GUARDED_TAG.to_owned(), 0)];
        return Question { writes, ..Question::of(SHOWN, &Request::WriteRegister { address, value }) };
    }
    let refusals: &[u8] = if confirmed(book, units::GUARDED_TAG) == 0 { &[] } else { &[FAILURE] };
    Question { refusals, ..Question::read(SHOWN, address, 1, Reads::Guarded) }
}

/// Something that is refused.
fn wrong(random: &mut Random) -> Question {
    let long_after = [3, 0xff, 0xff, 0, 2];
    let quality_of_device = [6, 0, units::device_registers(0) as u8 + 2, 0, 1];
    let half_of_a_block = [16, 0, 0, 0, 3, 6, 0, 1, 0, 2, 0, 3];
    let cases: [(u8, &[u8], &'static [u8]); 11] = [
        (RAW, &[99, 1, 2, 3], &[FUNCTION]),
        (RAW, &[43, 13, 0], &[FUNCTION]),
        (NOBODY, &[3, 0, 0, 0, 1], &[PATH]),
        // There are two units, so 255 is not the only one.
        (255, &[3, 0, 0, 0, 1], &[PATH]),
        (RAW, &[3, 0, 0, 0, 0], &[VALUE]),
        (RAW, &[5, 0, 0, 0, 1], &[VALUE]),
        (RAW, &long_after, &[ADDRESS]),
        (SHOWN, &[3, 0, 1, 0, 1], &[ADDRESS]),
        (SHOWN, &[3, 0, 0, 0, 20], &[ADDRESS]),
        (SHOWN, &quality_of_device, &[ADDRESS]),
        (SHOWN, &half_of_a_block, &[ADDRESS]),
    ];
    let (unit, pdu, refusals) = cases[random.below(cases.len())];
    Question::wrong(unit, pdu, refusals)
}

/// Something that a damaged frame asks for.
pub(super) fn read_in_vain() -> Question {
    Question::read(RAW, 0, 1, Reads::Nothing)
}

/// A unit and an address where a master's register is.
fn place_of(master: usize, connection: usize, random: &mut Random) -> (u8, u16) {
    if connection == units::SHOWN_CONNECTION && random.one_in(2) {
        return (SHOWN, units::shown_register(master));
    }
    (RAW, units::own_register(master, connection))
}

/// What one connection of a master owns.
pub(super) struct Own {
    master: usize,
    connection: usize,
    /// Of all that is written on this connection.
    version: i64,
    /// The newest version of each register that was sent on it.
    sent: BTreeMap<String, i64>,
    /// Of the polled device, if there is one behind the tags.
    operators: Option<usize>,
}

impl Own {
    pub(super) fn new(master: usize, connection: usize, operators: Option<usize>) -> Own {
        Own { master, connection, version: 0, sent: BTreeMap::new(), operators }
    }

    /// Something to ask.
    pub(super) fn question(&mut self, random: &mut Random, book: &Book) -> Question {
        let has_polled_tags = self.operators.is_some() && self.connection < units::POLLED_CONNECTIONS_EACH;
        match random.below(24) {
            0..=3 => self.write_register(random, book),
            4 | 5 => self.read_register(self.master, self.connection, random, book),
            6 => {
                let master = random.below(units::MOST_MASTERS);
                let connection = random.below(units::CONNECTIONS_EACH);
                self.read_register(master, connection, random, book)
            }
            7 => {
                let address = units::line_register(random.below(3), random.below(units::LINE_REGISTERS_EACH));
                self.read_at((RAW, address), address, book)
            }
            8..=10 if has_polled_tags => self.write_polled(random, book),
            8..=11 => match self.operators {
                Some(operators) => self.read_polled(operators, random, book),
                None => Question::of_anybody(random, book),
            },
            _ => Question::of_anybody(random, book),
        }
    }

    fn next_version(&mut self, tags: &[String], book: &Book) -> Vec<(String, i64)> {
        self.version += 1;
        let mut record = book.open();
        let write = |tag: &String| {
            record.newest.insert(tag.clone(), self.version);
            (tag.clone(), self.version)
        };
        tags.iter().map(write).collect()
    }

    /// Write the connection's register.
    pub(super) fn write_register(&mut self, random: &mut Random, book: &Book) -> Question {
        let (unit, address) = place_of(self.master, self.connection, random);
        let tag = units::tag_of(units::own_register(self.master, self.connection));
        let writes = self.next_version(std::slice::from_ref(&tag), book);
        self.sent.insert(tag.clone(), self.version);
        let value = self.version as u16;
        let bytes = value.to_be_bytes();
        let (request, reads) = match random.below(4) {
            0 => (Request::WriteRegisters { address, registers: registers(&bytes) }, Reads::Nothing),
            1 => (Request::MaskWrite { address, mask: Mask { and: 0, or: value } }, Reads::Nothing),
            2 => {
                let read = Span { start: address, quantity: 1 };
                let reads = Reads::Fields(vec![Field::Word(tag, self.version)]);
                (Request::ReadWrite { read, address, registers: registers(&bytes) }, reads)
            }
            _ => (Request::WriteRegister { address, value }, Reads::Nothing),
        };
        Question { writes, reads, ..Question::of(unit, &request) }
    }

    /// The same for all units and with no answer: only unit 1 has the register.
    pub(super) fn broadcast(&mut self, book: &Book) -> Question {
        let address = units::own_register(self.master, self.connection);
        let tag = units::tag_of(address);
        let writes = self.next_version(std::slice::from_ref(&tag), book);
        self.sent.insert(tag, self.version);
        let request = Request::WriteRegister { address, value: self.version as u16 };
        Question { writes, ..Question::of(0, &request) }
    }

    /// Read a register that some master's connection owns.
    fn read_register(&self, master: usize, connection: usize, random: &mut Random, book: &Book) -> Question {
        let register = units::own_register(master, connection);
        self.read_at(place_of(master, connection, random), register, book)
    }

    fn read_at(&self, (unit, address): (u8, u16), register: u16, book: &Book) -> Question {
        let tag = units::tag_of(register);
        let sent = self.sent.get(&tag).copied().unwrap_or(-1);
        let at_least = confirmed(book, &tag).max(sent);
        Question::read(unit, address, 1, Reads::Fields(vec![Field::Word(tag, at_least)]))
    }

    /// One or both tags of the device that are this connection's.
    fn write_polled(&mut self, random: &mut Random, book: &Book) -> Question {
        let mut tags = units::polled_tags(self.master, self.connection).to_vec();
        let address = units::polled_registers(self.master, self.connection);
        tags.truncate(1 + random.below(2));
        let writes = self.next_version(&tags, book);
        let bytes = bytes_of_long(self.version).repeat(tags.len());
        let (request, reads) = if random.one_in(3) {
            let read = Span { start: address, quantity: 2 };
            let reads = Reads::Fields(vec![Field::Long(tags[0].clone(), self.version)]);
            (Request::ReadWrite { read, address, registers: registers(&bytes) }, reads)
        } else {
            (Request::WriteRegisters { address, registers: registers(&bytes) }, Reads::Nothing)
        };
        Question { writes, by_device: true, reads, ..Question::of(SHOWN, &request) }
    }

    /// A tag of the device, of whomever it is.
    fn read_polled(&self, operators: usize, random: &mut Random, book: &Book) -> Question {
        let (tag, address) = if random.one_in(3) {
            let operator = random.below(operators);
            let number = random.below(units::SHOWN_OF_OPERATORS);
            (polled_tag(operator, number), units::operator_registers(operator, number))
        } else {
            let master = random.below(units::MOST_MASTERS);
            let connection = random.below(units::POLLED_CONNECTIONS_EACH);
            let [tag, _] = units::polled_tags(master, connection);
            (tag, units::polled_registers(master, connection))
        };
        let at_least = confirmed(book, &tag);
        let refusals: &[u8] = if at_least < 0 { &[FAILURE] } else { &[] };
        let reads = Reads::Fields(vec![Field::Long(tag, at_least)]);
        Question { refusals, ..Question::read(SHOWN, address, 2, reads) }
    }
}

/// A write to the polled device by somebody whose requests may be lost and doubled: no version is counted.
pub(super) fn write_by_datagram(value: i64) -> Question {
    let bytes = bytes_of_long(value);
    let request = Request::WriteRegisters { address: units::UDP_POLLED, registers: registers(&bytes) };
    let writes = vec![(units::UDP_POLLED_TAG.to_owned(), value)];
    // Of two that were doubled, one may find the device and the other not.
    let refusals: &[u8] = &[PATH];
    Question { writes, by_device: true, refusals, ..Question::of(SHOWN, &request) }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Request::decode(&self.pdu) {
            Ok(request) => write!(f, "{request:?} of unit {}", self.unit),
            Err(_) => write!(f, "{:02x?} of unit {}", self.pdu, self.unit),
        }
    }
}

/// An area whose registers nobody checks.
pub(super) fn scratch_request(random: &mut Random) -> Vec<u8> {
    let start = units::FIRST_SCRATCH + random.below(30) as u16;
    let span = Span { start, quantity: 1 + random.below(20) as u16 };
    let bytes = bytes_of((0..span.quantity).map(|at| at * 77));
    let request = match random.below(3) {
        0 => Request::read(Area::Holding, span),
        1 => Request::WriteRegister { address: start, value: 7 },
        _ => Request::WriteRegisters { address: start, registers: registers(&bytes) },
    };
    pdu_of(&request)
}
