//! Read Device Identification (§6.21): who made a unit and what it is, as numbered texts.

use super::pdu::{Exception, Function, MEI_IDENTIFICATION, MOST_PDU_BYTES, Pdu};

/// Bytes of a response before its objects.
const HEADER_BYTES: usize = 7;
/// An object's id and length.
const OBJECT_HEADER_BYTES: usize = 2;
/// The longest value that an answer has room for.
pub const MOST_OBJECT_BYTES: usize = MOST_PDU_BYTES - HEADER_BYTES - OBJECT_HEADER_BYTES;
/// "More follows".
const MORE: u8 = 0xFF;
/// Set in the conformity level of a unit in which objects can be asked for one by one as well.
const INDIVIDUAL_TOO: u8 = 0x80;

/// What is asked for, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Access {
    /// Vendor, product, revision, as a stream.
    Basic = 1,
    /// Those, and the other objects that the standard names.
    Regular = 2,
    /// Those, and the vendor's own.
    Extended = 3,
    /// One object.
    Individual = 4,
}

impl Access {
    fn from_code(code: u8) -> Option<Access> {
        [Access::Basic, Access::Regular, Access::Extended, Access::Individual]
            .into_iter()
            .find(|access| *access as u8 == code)
    }

    /// The largest id of a stream.
    fn last_object(self) -> u8 {
        match self {
            Access::Basic => 0x02,
            Access::Regular => 0x7F,
            Access::Extended | Access::Individual => 0xFF,
        }
    }
}

/// A request for objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identify {
    /// Which.
    pub access: Access,
    /// The one object, or where the stream begins.
    pub object: u8,
}

impl Identify {
    pub(super) fn decode(body: &[u8]) -> Option<Identify> {
        let &[MEI_IDENTIFICATION, access, object] = body else { return None };
        Some(Identify { access: Access::from_code(access)?, object })
    }
}

/// A numbered text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object<'a> {
    /// 0 vendor, 1 product code, 2 revision, 3 vendor's URL, 4 product, 5 model, 6 application; from 0x80 the
    /// vendor's.
    pub id: u8,
    /// Its text.
    pub value: &'a [u8],
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identification<'a> {
    /// As asked.
    pub access: Access,
    /// What the unit has: 1 basic, 2 regular, 3 extended; 0x80 is added if objects can be asked for one by
    /// one.
    pub conformity: u8,
    /// The object to ask for next, if there are more.
    pub next: Option<u8>,
    objects: Objects<'a>,
}

/// Objects as a message carries them: id, length, value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Objects<'a> {
    bytes: &'a [u8],
    count: u8,
}

impl<'a> Iterator for Objects<'a> {
    type Item = Object<'a>;

    fn next(&mut self) -> Option<Object<'a>> {
        let &[id, len, ref rest @ ..] = self.bytes else { return None };
        let (value, rest) = rest.split_at_checked(usize::from(len))?;
        self.bytes = rest;
        Some(Object { id, value })
    }
}

impl<'a> Identification<'a> {
    /// What comes behind the function code of an answer to `asked`.
    pub(super) fn decode(asked: Identify, body: &'a [u8]) -> Option<Identification<'a>> {
        let &[MEI_IDENTIFICATION, access, conformity, more, next, count, ref bytes @ ..] = body else {
            return None;
        };
        let next = match more {
            MORE => Some(next),
            0 => None,
            _ => return None,
        };
        let access = Access::from_code(access).filter(|access| *access == asked.access)?;
        let objects = Objects { bytes, count };
        let mut left = objects;
        let is_whole = left.by_ref().count() == usize::from(count) && left.bytes.is_empty();
        let mut ids = objects.map(|object| object.id);
        let is_asked = access != Access::Individual || (count == 1 && ids.next() == Some(asked.object));
        (is_whole && is_asked).then_some(Identification { access, conformity, next, objects })
    }

    /// The objects, in the order of the message.
    pub fn objects(&self) -> impl Iterator<Item = Object<'a>> + use<'a> {
        self.objects
    }

    pub(super) fn encode(&self, pdu: &mut Pdu) {
        pdu.begin(Function::Identify.code());
        pdu.push(MEI_IDENTIFICATION);
        pdu.push(self.access as u8);
        pdu.push(self.conformity);
        pdu.push(if self.next.is_some() { MORE } else { 0 });
        pdu.push(self.next.unwrap_or(0));
        pdu.push(self.objects.count);
        pdu.extend(self.objects.bytes);
    }
}

/// Write the answer of a unit that has these `objects`, in the order of their ids. A stream that asks for
/// more than the unit has gets what it has; one that begins at an object which is not there begins at the
/// first; what does not fit follows when asked for. The only error is that a single object is not there.
pub fn answer(asked: Identify, objects: &[Object<'_>], pdu: &mut Pdu) -> Result<(), Exception> {
    debug_assert!(objects.is_sorted_by_key(|object| object.id), "objects come in the order of their ids");
    let level = objects.last().map_or(Access::Basic, |last| match last.id {
        0..=0x02 => Access::Basic,
        0x03..=0x7F => Access::Regular,
        0x80.. => Access::Extended,
    });
    let at = objects.iter().position(|object| object.id == asked.object);
    let wanted = match (asked.access, at) {
        (Access::Individual, Some(at)) => &objects[at..=at],
        (Access::Individual, None) => return Err(Exception::IllegalDataAddress),
        (stream, at) => {
            let end = objects.partition_point(|object| object.id <= stream.last_object());
            &objects[at.filter(|at| *at < end).unwrap_or(0)..end]
        }
    };
    pdu.begin(Function::Identify.code());
    pdu.push(MEI_IDENTIFICATION);
    pdu.push(asked.access as u8);
    pdu.push(level as u8 | INDIVIDUAL_TOO);
    pdu.extend(&[0, 0, 0]);
    let (more_at, next_at, count_at) = (HEADER_BYTES - 3, HEADER_BYTES - 2, HEADER_BYTES - 1);
    for (count, object) in wanted.iter().enumerate() {
        let value = &object.value[..object.value.len().min(MOST_OBJECT_BYTES)];
        if pdu.room() < OBJECT_HEADER_BYTES + value.len() {
            pdu.set(more_at, MORE);
            pdu.set(next_at, object.id);
            break;
        }
        pdu.push(object.id);
        pdu.push(value.len() as u8);
        pdu.extend(value);
        pdu.set(count_at, count as u8 + 1);
    }
    Ok(())
}
