//! A unit whose registers show tags: each cell of an area is one tag's value, or some bits of one register.

use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use super::super::address::{AREA_SIZE, AREAS, Area};
use super::super::convert::{Conversion, Order, Unreadable};
use super::super::pdu::{Bits, Exception, MOST_READ_BITS, MOST_READ_REGISTERS, Mask, Pdu, Registers, Span};
use super::super::request::Request;
use super::super::response::{Response, encode_bits, encode_registers};
use super::Outcome;
#[cfg(test)]
use crate::base::mutants::{self, Mutant};
use crate::base::time::{Tick, Timestamp};
use crate::engine::{Context, Ticket, Written};
use crate::tags::name::TagName;
use crate::tags::value::{Input, Quality, Value};
use crate::tags::{Refusal, TagId, Tags};

/// The cells of a unit, in the order of [`AREAS`], and what they show.
pub(super) struct Mapped {
    areas: [Vec<Cell>; AREAS.len()],
    entries: Vec<Entry>,
    /// What registers hold that show nothing; `None`: they are not there.
    fill: Option<u16>,
    /// For each entry; known when the tags are there.
    tags: OnceLock<Box<[TagId]>>,
    /// Held while a request reads or writes, so that no shard sees half of another's write.
    whole: Mutex<()>,
}

/// Addresses that are read and written as one.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) start: u16,
    pub(super) len: u16,
    pub(super) holds: Holds,
}

#[derive(Debug)]
pub(super) enum Holds {
    /// An entry.
    Value(usize),
    /// Bits of one register, and the entry of each.
    Bits(Vec<(u8, usize)>),
}

/// A line of the map: a tag, and how it is shown.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) tag: Box<str>,
    pub(super) shows: Shows,
    pub(super) on_bad: OnBad,
    pub(super) guard: Option<Guard>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Shows {
    /// The value, in registers.
    Registers(Conversion),
    /// The value, which is a bool, in one bit.
    Bit,
    /// The quality: 0 good, 1 uncertain, 2 bad.
    Quality(Order),
}

/// What is shown of a value that is not good.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum OnBad {
    /// Nothing: the request is answered with an exception.
    Exception,
    /// The last value, while it is uncertain.
    Last,
    /// These registers (of a bit: one that is 0 or 1).
    Instead(Box<[u8]>),
}

/// What becomes of a tag that masters do not write for a while.
#[derive(Debug)]
pub(super) struct Guard {
    /// How long that is.
    pub(super) watchdog: Duration,
    /// What the tag becomes.
    pub(super) safe: Value,
    written: Mutex<Tick>,
}

/// The longest value, in bytes of registers; a request that reads has room for it.
const MOST_BYTES: usize = 2 * MOST_READ_REGISTERS as usize;

/// A part of a span.
enum Piece<'a> {
    /// A cell that begins so far behind the start of the span.
    Cell(&'a Cell, u16),
    /// Addresses that show nothing.
    Gap(u16),
}

/// What a request writes.
#[derive(Clone, Copy)]
enum Data<'a> {
    Coils(Bits<'a>),
    Registers(Registers<'a>),
    /// Some bits of a register.
    Masked(Mask),
}

impl Mapped {
    pub(super) fn new(areas: [Vec<Cell>; AREAS.len()], entries: Vec<Entry>, fill: Option<u16>) -> Mapped {
        debug_assert!(areas.iter().all(|cells| cells.is_sorted_by_key(|cell| cell.start)));
        Mapped { areas, entries, fill, tags: OnceLock::new(), whole: Mutex::new(()) }
    }

    /// Find the tags.
    pub(super) fn bind(&self, tags: &Tags, time: Timestamp) -> Result<(), (String, Refusal)> {
        let find = |entry: &Entry| {
            let name = TagName::parse(&entry.tag).expect("the configuration's names are names");
            tags.find_or_name(name, time).map_err(|refusal| (entry.tag.to_string(), refusal))
        };
        let found = self.entries.iter().map(find).collect::<Result<_, _>>()?;
        self.tags.set(found).expect("tags are bound once");
        Ok(())
    }

    pub(super) fn tag(&self, entry: usize) -> TagId {
        self.tags.get().expect("tags are bound before anybody asks")[entry]
    }

    /// What becomes of an entry that masters do not write.
    pub(super) fn guard(&self, entry: usize) -> Option<&Guard> {
        self.entries[entry].guard.as_ref()
    }

    pub(super) fn tag_name(&self, entry: usize) -> &str {
        &self.entries[entry].tag
    }

    pub(super) fn entries(&self) -> usize {
        self.entries.len()
    }

    /// Carry a request out, and write the reply if that can be done now.
    pub(super) fn execute(
        &self,
        cx: &mut Context<'_>,
        request: &Request<'_>,
        reply: &mut Pdu,
    ) -> Result<Outcome, Exception> {
        let _whole = self.whole.lock().expect("a panic ends the process, so no lock is poisoned");
        for (area, span) in [request.writes(), request.reads()].into_iter().flatten() {
            self.pieces(area, span).try_for_each(|piece| piece.map(drop))?;
        }
        self.check_read_besides(cx, request)?;
        let tickets = self.write(cx, request)?;
        if !tickets.is_empty() {
            return Ok(Outcome::Pending(tickets));
        }
        self.put_answer(cx, request, reply).map(|()| Outcome::Done)
    }

    /// What a request reads besides what it writes must be readable before anything is written.
    fn check_read_besides(&self, cx: &Context<'_>, request: &Request<'_>) -> Result<(), Exception> {
        let (Some((area, span)), Some((_, written))) = (request.reads(), request.writes()) else {
            return Ok(());
        };
        let is_written =
            |cell: &Cell| u32::from(cell.start) < written.end() && cell.end() > u32::from(written.start);
        for piece in self.pieces(area, span) {
            if let Piece::Cell(cell, _) = piece? {
                if !is_written(cell) {
                    self.show_cell(cx, cell, &mut [0; MOST_BYTES][..2 * usize::from(cell.len)])?;
                }
            }
        }
        Ok(())
    }

    /// Write the reply to a request that is carried out.
    pub(super) fn answer(
        &self,
        cx: &Context<'_>,
        request: &Request<'_>,
        reply: &mut Pdu,
    ) -> Result<(), Exception> {
        let _whole = self.whole.lock().expect("a panic ends the process, so no lock is poisoned");
        self.put_answer(cx, request, reply)
    }

    fn put_answer(&self, cx: &Context<'_>, request: &Request<'_>, reply: &mut Pdu) -> Result<(), Exception> {
        match (request.reads(), Response::echo(request)) {
            (Some((area, span)), _) if area.is_bits() => {
                let mut bits = [false; MOST_READ_BITS as usize];
                self.read_bits(cx, area, span, &mut bits)?;
                encode_bits(request.function(), bits.into_iter().take(span.quantity.into()), reply);
            }
            (Some((area, span)), _) => {
                let mut bytes = [0; MOST_BYTES];
                let bytes = &mut bytes[..2 * usize::from(span.quantity)];
                self.read_registers(cx, area, span, bytes)?;
                let registers = Registers::new(bytes).expect("two bytes a register");
                encode_registers(request.function(), registers.iter(), reply);
            }
            (None, Some(echo)) => echo.encode(reply),
            (None, None) => unreachable!("a request that neither reads nor writes is not for the tags"),
        }
        Ok(())
    }

    /// The cells of a span. It must not cut one, nor have gaps unless they are filled.
    fn pieces(&self, area: Area, span: Span) -> impl Iterator<Item = Result<Piece<'_>, Exception>> {
        let cells = &self.areas[area as usize];
        let mut next = cells.partition_point(|cell| cell.end() <= u32::from(span.start));
        let mut at = u32::from(span.start);
        std::iter::from_fn(move || {
            if at >= span.end() {
                return None;
            }
            if span.end() > AREA_SIZE {
                at = span.end();
                return Some(Err(Exception::IllegalDataAddress));
            }
            let cell = cells.get(next).filter(|cell| u32::from(cell.start) < span.end());
            let start = cell.map_or(span.end(), |cell| u32::from(cell.start));
            let piece = match cell {
                _ if start > at && self.fill.is_some() => Ok(Piece::Gap((start - at) as u16)),
                Some(cell) if start == at && cell.end() <= span.end() => {
                    Ok(Piece::Cell(cell, cell.start - span.start))
                }
                _ => Err(Exception::IllegalDataAddress),
            };
            at = match &piece {
                Ok(Piece::Gap(_)) => start,
                Ok(Piece::Cell(cell, _)) => {
                    next += 1;
                    cell.end()
                }
                Err(_) => span.end(),
            };
            Some(piece)
        })
    }

    fn read_bits(
        &self,
        cx: &Context<'_>,
        area: Area,
        span: Span,
        bits: &mut [bool],
    ) -> Result<(), Exception> {
        let mut at = 0;
        for piece in self.pieces(area, span) {
            match piece? {
                Piece::Gap(len) => {
                    bits[at..at + usize::from(len)].fill(self.fill != Some(0));
                    at += usize::from(len);
                }
                Piece::Cell(cell, _) => {
                    let Holds::Value(entry) = cell.holds else { unreachable!("a coil is one bit") };
                    bits[at] = self.bit(cx, entry)?;
                    at += 1;
                }
            }
        }
        Ok(())
    }

    fn read_registers(
        &self,
        cx: &Context<'_>,
        area: Area,
        span: Span,
        mut bytes: &mut [u8],
    ) -> Result<(), Exception> {
        for piece in self.pieces(area, span) {
            let piece = piece?;
            let len = match piece {
                Piece::Gap(len) => len,
                Piece::Cell(cell, _) => cell.len,
            };
            let (out, rest) = bytes.split_at_mut(2 * usize::from(len));
            bytes = rest;
            match piece {
                Piece::Gap(_) => {
                    let fill = self.fill.expect("only what is filled has gaps").to_be_bytes();
                    out.chunks_exact_mut(2).for_each(|register| register.copy_from_slice(&fill));
                }
                Piece::Cell(cell, _) => self.show_cell(cx, cell, out)?,
            }
        }
        Ok(())
    }

    /// Write what a cell of registers shows.
    fn show_cell(&self, cx: &Context<'_>, cell: &Cell, out: &mut [u8]) -> Result<(), Exception> {
        match &cell.holds {
            Holds::Value(entry) => self.show(cx, *entry, out),
            Holds::Bits(bits) => {
                let mut register = 0;
                for &(bit, entry) in bits {
                    register |= u16::from(self.bit(cx, entry)?) << bit;
                }
                out.copy_from_slice(&register.to_be_bytes());
                Ok(())
            }
        }
    }

    fn bit(&self, cx: &Context<'_>, entry: usize) -> Result<bool, Exception> {
        let mut register = [0; 2];
        self.show(cx, entry, &mut register)?;
        Ok(register != [0, 0])
    }

    /// Write what an entry shows into the bytes of its registers.
    fn show(&self, cx: &Context<'_>, at: usize, out: &mut [u8]) -> Result<(), Exception> {
        let entry = &self.entries[at];
        let sample = cx.read(self.tag(at));
        let is_usable = match sample.quality {
            Quality::Good => true,
            Quality::Uncertain => entry.on_bad == OnBad::Last,
            Quality::Bad => false,
        };
        let is_shown = match (entry.shows, &sample.value) {
            (Shows::Quality(order), _) => {
                out.copy_from_slice(&u16::to_be_bytes(sample.quality as u16));
                if order.swaps_bytes() {
                    out.swap(0, 1);
                }
                true
            }
            (Shows::Bit, Value::Bool(bit)) if is_usable => {
                out.copy_from_slice(&[0, u8::from(*bit)]);
                true
            }
            (Shows::Registers(conversion), value) if is_usable => {
                conversion.write(&value.as_input(), out).is_ok()
            }
            _ => false,
        };
        match &entry.on_bad {
            _ if is_shown => Ok(()),
            OnBad::Instead(bytes) => {
                out.copy_from_slice(bytes);
                Ok(())
            }
            OnBad::Exception | OnBad::Last => Err(Exception::ServerDeviceFailure),
        }
    }

    /// No master wrote an entry in time, if none has written it after `written`: it takes its safe value.
    /// `None` if one has.
    pub(super) fn take_safe_value(
        &self,
        entry: usize,
        written: Tick,
        cx: &mut Context<'_>,
    ) -> Result<Option<Written>, Refusal> {
        let _whole = self.whole.lock().expect("a panic ends the process, so no lock is poisoned");
        let Some(guard) = self.guard(entry).filter(|guard| guard.written() == written) else {
            return Ok(None);
        };
        let mut value = guard.safe.as_input();
        let admitted = cx.check(self.tag(entry), &mut value)?;
        cx.write_checked(admitted, value).map(Some)
    }

    /// Check all that a request writes, then write it. The tickets are of devices that have to confirm.
    fn write(&self, cx: &mut Context<'_>, request: &Request<'_>) -> Result<Vec<Ticket>, Exception> {
        let (register, coil);
        let data = match *request {
            Request::WriteCoil { on, .. } => {
                coil = [u8::from(on)];
                Data::Coils(Bits::new(&coil, 1).expect("one bit"))
            }
            Request::WriteCoils { coils, .. } => Data::Coils(coils),
            Request::WriteRegister { value, .. } => {
                register = value.to_be_bytes();
                Data::Registers(Registers::new(&register).expect("one register"))
            }
            Request::WriteRegisters { registers, .. } | Request::ReadWrite { registers, .. } => {
                Data::Registers(registers)
            }
            Request::MaskWrite { mask, .. } => Data::Masked(mask),
            _ => return Ok(Vec::new()),
        };
        let (area, span) = request.writes().expect("a request with data writes it");
        self.each_value(cx, area, span, data, &mut |cx, entry, mut input| {
            cx.check(self.tag(entry), &mut input)?;
            Ok(())
        })?;
        let mut tickets = Vec::new();
        self.each_value(cx, area, span, data, &mut |cx, entry, mut input| {
            #[cfg(test)]
            if span.quantity > 4 && mutants::strikes(Mutant::TagLeftOut) {
                return Ok(());
            }
            let admitted = cx.check(self.tag(entry), &mut input)?;
            if let Written::Pending(ticket) = cx.write_checked(admitted, input)? {
                tickets.push(ticket);
            }
            if let Some(guard) = self.guard(entry) {
                guard.note_written(cx.now().tick);
            }
            Ok(())
        })?;
        Ok(tickets)
    }

    /// What each entry within the span gets.
    fn each_value(
        &self,
        cx: &mut Context<'_>,
        area: Area,
        span: Span,
        data: Data<'_>,
        act: &mut dyn FnMut(&mut Context<'_>, usize, Input<'_>) -> Result<(), Exception>,
    ) -> Result<(), Exception> {
        for piece in self.pieces(area, span) {
            let Piece::Cell(cell, at) = piece? else { continue };
            match (&cell.holds, data) {
                (&Holds::Value(entry), Data::Coils(bits)) => {
                    act(cx, entry, Input::Bool(bits.get(at) == Some(true)))?;
                }
                (&Holds::Value(entry), Data::Registers(registers)) => {
                    let registers = registers.part(at, cell.len).expect("no cell is cut");
                    act(cx, entry, self.entries[entry].value(registers)?)?;
                }
                (&Holds::Value(entry), Data::Masked(mask)) => {
                    let mut bytes = [0; 2];
                    self.show(cx, entry, &mut bytes)?;
                    let bytes = mask.apply(u16::from_be_bytes(bytes)).to_be_bytes();
                    let register = Registers::new(&bytes).expect("one register");
                    act(cx, entry, self.entries[entry].value(register)?)?;
                }
                (Holds::Bits(bits), data) => {
                    let (register, touched) = match data {
                        Data::Registers(registers) => (registers.get(at).expect("no cell is cut"), u16::MAX),
                        Data::Masked(mask) => (mask.or, !mask.and),
                        Data::Coils(_) => unreachable!("coils have no bits"),
                    };
                    for &(bit, entry) in bits.iter().filter(|(bit, _)| touched >> bit & 1 == 1) {
                        act(cx, entry, Input::Bool(register >> bit & 1 == 1))?;
                    }
                }
            }
        }
        Ok(())
    }
}

impl Cell {
    /// The address behind the last.
    pub(super) fn end(&self) -> u32 {
        u32::from(self.start) + u32::from(self.len)
    }
}

impl Entry {
    /// What a master that writes these registers means.
    fn value(&self, registers: Registers<'_>) -> Result<Input<'static>, Exception> {
        match self.shows {
            Shows::Registers(conversion) => conversion.read(registers).map_err(|why| match why {
                Unreadable::TooLarge => Exception::ServerDeviceFailure,
                Unreadable::Digit | Unreadable::NotText => Exception::IllegalDataValue,
            }),
            Shows::Bit => Ok(Input::Bool(registers.as_bytes() != [0, 0])),
            Shows::Quality(_) => Err(Exception::IllegalDataAddress),
        }
    }
}

impl Guard {
    pub(super) fn new(watchdog: Duration, safe: Value) -> Guard {
        Guard { watchdog, safe, written: Mutex::default() }
    }

    /// When a master wrote the tag last; at first, when the clock began.
    pub(super) fn written(&self) -> Tick {
        *self.written.lock().expect("a panic ends the process, so no lock is poisoned")
    }

    fn note_written(&self, now: Tick) {
        *self.written.lock().expect("a panic ends the process, so no lock is poisoned") = now;
    }
}
