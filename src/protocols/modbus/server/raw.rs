//! A unit that is plain memory, as in a PLC: four arrays from address 0. The memory is the truth; registers
//! that somebody named are tags besides, which show each change.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use super::super::address::{AREAS, Area};
use super::super::pdu::{Exception, Pdu, Span};
use super::super::request::Request;
use super::super::response::{Response, encode_bits, encode_registers};
#[cfg(test)]
use crate::base::mutants::{self, Mutant};
use crate::base::time::{Now, Tick, Timestamp};
use crate::engine::Context;
use crate::tags::value::{Input, Quality};
use crate::tags::{TagId, Tags, Write};

/// The memory of a unit, of all shards: one request's registers are read and written as one.
pub(super) struct SharedRaw(Mutex<Raw>);

impl SharedRaw {
    pub(super) fn new(raw: Raw) -> SharedRaw {
        SharedRaw(Mutex::new(raw))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Raw> {
        self.0.lock().expect("a panic ends the process, so no lock is poisoned")
    }
}

/// The areas of a unit, in the order of [`AREAS`].
pub(super) struct Raw {
    areas: [RawArea; AREAS.len()],
}

pub(super) struct RawArea {
    cells: Cells,
    /// The tags that show some of them, by address.
    named: BTreeMap<u16, TagId>,
    /// When something was written last.
    written: Tick,
    guard: Option<Guard>,
}

/// What becomes of an area to which nothing is written for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Guard {
    /// How long that is.
    pub(super) watchdog: Duration,
    /// What all of it becomes.
    pub(super) safe: u16,
}

enum Cells {
    /// Eight a byte, the first one lowest.
    Bits {
        bytes: Box<[u8]>,
        len: u32,
    },
    Registers(Box<[u16]>),
}

impl Cells {
    fn len(&self) -> u32 {
        match self {
            Cells::Bits { len, .. } => *len,
            Cells::Registers(registers) => registers.len() as u32,
        }
    }

    /// A bit is 0 or 1.
    fn get(&self, at: u16) -> u16 {
        let at = usize::from(at);
        match self {
            Cells::Bits { bytes, .. } => u16::from(bytes[at / 8] >> (at % 8) & 1),
            Cells::Registers(registers) => registers[at],
        }
    }

    /// A bit is set by anything but 0.
    fn set(&mut self, at: u16, value: u16) {
        let at = usize::from(at);
        match self {
            Cells::Bits { bytes, .. } => {
                let bit = 1 << (at % 8);
                bytes[at / 8] = if value == 0 { bytes[at / 8] & !bit } else { bytes[at / 8] | bit };
            }
            Cells::Registers(registers) => registers[at] = value,
        }
    }

    fn value(&self, at: u16) -> Input<'static> {
        match self {
            Cells::Bits { .. } => Input::Bool(self.get(at) != 0),
            Cells::Registers(_) => Input::Int(self.get(at).into()),
        }
    }
}

impl RawArea {
    /// An area of `size` addresses, 65,536 at most, all 0. Memory that nobody touches costs none.
    pub(super) fn new(area: Area, size: u32, guard: Option<Guard>) -> RawArea {
        let cells = if area.is_bits() {
            Cells::Bits { bytes: vec![0; size.div_ceil(8) as usize].into(), len: size }
        } else {
            Cells::Registers(vec![0; size as usize].into())
        };
        RawArea { cells, named: BTreeMap::new(), written: Tick::default(), guard }
    }

    fn values(&self, span: Span) -> impl Iterator<Item = u16> {
        (0..span.quantity).map(move |at| self.cells.get(span.start + at))
    }

    /// Store values from `start` on, which are there; their tags follow.
    fn write(&mut self, tags: &Tags, now: Now, start: u16, values: impl ExactSizeIterator<Item = u16>) {
        let Some(last) = (values.len() as u16).checked_sub(1).map(|more| start + more) else { return };
        for (at, value) in (start..=last).zip(values) {
            #[cfg(test)]
            if at == last && last > start && mutants::strikes(Mutant::TornWrite) {
                break;
            }
            self.cells.set(at, value);
        }
        self.written = now.tick;
        #[cfg(test)]
        if mutants::strikes(Mutant::RegisterUnseen) {
            return;
        }
        for (&at, &tag) in self.named.range(start..=last) {
            self.show(tags, at, tag, now.wall);
        }
    }

    fn show(&self, tags: &Tags, at: u16, tag: TagId, time: Timestamp) {
        let value = self.cells.value(at);
        tags.store(tag, Write { value, quality: Quality::Good, time, source: None, stale_at: Tick::NEVER });
    }
}

impl Raw {
    pub(super) fn new(areas: [RawArea; AREAS.len()]) -> Raw {
        Raw { areas }
    }

    fn area(&self, area: Area) -> &RawArea {
        &self.areas[area as usize]
    }

    pub(super) fn has(&self, area: Area, address: u16) -> bool {
        u32::from(address) < self.area(area).cells.len()
    }

    /// The sizes of its areas, for people.
    pub(super) fn describe(&self) -> String {
        AREAS.map(|area| format!("{} {area}s", self.area(area).cells.len())).join(", ")
    }

    /// Carry a request out and write the reply.
    pub(super) fn execute(
        &mut self,
        cx: &Context<'_>,
        request: &Request<'_>,
        reply: &mut Pdu,
    ) -> Result<(), Exception> {
        for (area, span) in [request.writes(), request.reads()].into_iter().flatten() {
            if !span.is_within(self.area(area).cells.len()) {
                return Err(Exception::IllegalDataAddress);
            }
        }
        self.write(cx.tags(), cx.now(), request);
        let function = request.function();
        match (request.reads(), Response::echo(request)) {
            (Some((area, span)), _) if area.is_bits() => {
                encode_bits(function, self.area(area).values(span).map(|bit| bit != 0), reply);
            }
            (Some((area, span)), _) => encode_registers(function, self.area(area).values(span), reply),
            (None, Some(echo)) => echo.encode(reply),
            (None, None) => unreachable!("a request that neither reads nor writes is not for the memory"),
        }
        Ok(())
    }

    fn write(&mut self, tags: &Tags, now: Now, request: &Request<'_>) {
        let [coils, _, _, holdings] = &mut self.areas;
        match *request {
            Request::WriteCoil { address, on } => {
                coils.write(tags, now, address, [u16::from(on)].into_iter())
            }
            Request::WriteCoils { address, coils: bits } => {
                coils.write(tags, now, address, bits.iter().map(u16::from));
            }
            Request::WriteRegister { address, value } => {
                holdings.write(tags, now, address, [value].into_iter());
            }
            Request::WriteRegisters { address, registers }
            | Request::ReadWrite { address, registers, .. } => {
                holdings.write(tags, now, address, registers.iter());
            }
            Request::MaskWrite { address, mask } => {
                let value = mask.apply(holdings.cells.get(address));
                holdings.write(tags, now, address, [value].into_iter());
            }
            _ => {}
        }
    }

    /// A register has become a tag.
    pub(super) fn adopt(&mut self, tags: &Tags, area: Area, address: u16, tag: TagId, time: Timestamp) {
        let area = &mut self.areas[area as usize];
        area.named.insert(address, tag);
        area.show(tags, address, tag, time);
    }

    /// Somebody writes the tag of a register.
    pub(super) fn write_tag(
        &mut self,
        tags: &Tags,
        area: Area,
        address: u16,
        tag: TagId,
        now: Tick,
        write: Write<'_>,
    ) {
        let value = match write.value {
            Input::Bool(bit) => u16::from(bit),
            Input::Int(register) => u16::try_from(register).expect("what a register cannot hold is refused"),
            _ => unreachable!("a register's tag is of the register's kind"),
        };
        let area = &mut self.areas[area as usize];
        area.cells.set(address, value);
        area.written = now;
        tags.store(tag, write);
    }

    /// Who watches an area, and when it was written last.
    pub(super) fn watched(&self, area: Area) -> Option<(Guard, Tick)> {
        let area = self.area(area);
        area.guard.map(|guard| (guard, area.written))
    }

    /// Nothing was written in time, if it was not written after `written`. Whether that is so.
    pub(super) fn take_safe_value(&mut self, tags: &Tags, area: Area, written: Tick, now: Now) -> bool {
        let area = &mut self.areas[area as usize];
        let Some(Guard { safe, .. }) = area.guard.filter(|_| area.written == written) else { return false };
        for at in 0..area.cells.len() {
            area.cells.set(at as u16, safe);
        }
        for (&at, &tag) in &area.named {
            area.show(tags, at, tag, now.wall);
        }
        true
    }
}
