//! How frames stand in a ring: one behind the other, each with a header; and before those of another
//! connection a record that says which.

use std::net::{IpAddr, SocketAddr};

use super::MOST_FRAME_BYTES;
use super::frame::{Direction, Origin};
use super::pool::{Place, Pool};
use crate::base::time::Timestamp;

/// What stands in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Frame(Direction),
    /// The connection of the frames behind it.
    Origin,
}

pub(super) struct Record {
    pub(super) time: Timestamp,
    pub(super) kind: Kind,
    pub(super) len: usize,
}

/// Time, kind and length.
pub(super) const HEADER_BYTES: usize = 10;
/// The bits of the length; those above are the kind.
const LENGTH_BITS: u32 = 14;
const _: () = assert!(MOST_FRAME_BYTES < 1 << LENGTH_BITS);

pub(super) fn header(time: Timestamp, kind: Kind, len: usize) -> [u8; HEADER_BYTES] {
    let kind: u16 = match kind {
        Kind::Frame(Direction::In) => 0,
        Kind::Frame(Direction::Out) => 1,
        Kind::Origin => 2,
    };
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&time.0.to_le_bytes());
    header[8..].copy_from_slice(&(kind << LENGTH_BITS | len as u16).to_le_bytes());
    header
}

pub(super) fn read_header(pool: &Pool, place: &mut Place) -> Record {
    let mut header = [0; HEADER_BYTES];
    pool.read(place, &mut header);
    let (time, rest) = header.split_first_chunk().expect("a header begins with eight bytes");
    let word = u16::from_le_bytes([rest[0], rest[1]]);
    let kind = match word >> LENGTH_BITS {
        0 => Kind::Frame(Direction::In),
        1 => Kind::Frame(Direction::Out),
        _ => Kind::Origin,
    };
    let len = usize::from(word & ((1 << LENGTH_BITS) - 1));
    Record { time: Timestamp(i64::from_le_bytes(*time)), kind, len }
}

/// An origin as rings keep it: scheme by number, who asks and which kind of address, port, serial, address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PackedOrigin(pub(super) [u8; 24]);

const WE_ASK: u8 = 1;
const IS_V6: u8 = 2;

impl PackedOrigin {
    /// `schemes` are those that have a number; it may get one more.
    pub(super) fn pack(origin: &Origin, schemes: &mut Vec<&'static str>) -> PackedOrigin {
        let known = schemes.iter().position(|scheme| *scheme == origin.scheme);
        let scheme = known.unwrap_or_else(|| {
            schemes.push(origin.scheme);
            schemes.len() - 1
        });
        let mut packed = [0; 24];
        packed[0] = u8::try_from(scheme).expect("there are fewer protocols");
        packed[1] = if origin.we_ask { WE_ASK } else { 0 };
        packed[2..4].copy_from_slice(&origin.peer.port().to_le_bytes());
        packed[4..8].copy_from_slice(&origin.serial.to_le_bytes());
        match origin.peer.ip() {
            IpAddr::V4(ip) => packed[8..12].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => {
                packed[1] |= IS_V6;
                packed[8..].copy_from_slice(&ip.octets());
            }
        }
        PackedOrigin(packed)
    }

    pub(super) fn unpack(&self, schemes: &[&'static str]) -> Origin {
        let [scheme, flags, p0, p1, s0, s1, s2, s3, ip @ ..] = self.0;
        let ip = match ip {
            [a, b, c, d, ..] if flags & IS_V6 == 0 => IpAddr::from([a, b, c, d]),
            ip => IpAddr::from(ip),
        };
        Origin {
            scheme: schemes.get(usize::from(scheme)).copied().unwrap_or_default(),
            we_ask: flags & WE_ASK != 0,
            peer: SocketAddr::new(ip, u16::from_le_bytes([p0, p1])),
            serial: u32::from_le_bytes([s0, s1, s2, s3]),
        }
    }
}
