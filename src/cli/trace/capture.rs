//! A capture in the format pcapng (draft-ietf-opsawg-pcapng): a section, one interface, and a block for each
//! packet. All numbers are little-endian.

use std::io::{self, Write};
use std::num::NonZeroUsize;

use lru::LruCache;

use super::frame::Frame;
use super::packets::{Flow, Packet};
use crate::engine::Direction;

const SECTION_HEADER: u32 = 0x0A0D_0D0A;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;
const BYTE_ORDER_MAGIC: u32 = 0x1A2B_3C4D;
/// Packets begin with an IP header.
const LINKTYPE_RAW: u16 = 101;

const OPT_END: u16 = 0;
const OPT_COMMENT: u16 = 1;
const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;
/// Times are in microseconds.
const MICROSECONDS: u8 = 6;

/// Connections that are remembered; one that was forgotten begins anew.
const MOST_FLOWS: NonZeroUsize = NonZeroUsize::new(1_024).expect("more than 0");

/// Output that is written at once, if so much has come.
const MOST_WAITING_BYTES: usize = 64 * 1024;

/// A file that is being written. Whole blocks are: when flushed, or when there are many.
pub(super) struct Capture<W> {
    out: W,
    waiting: Vec<u8>,
    flows: LruCache<u32, Flow>,
    /// How many connections there were.
    count: u16,
}

impl<W: Write> Capture<W> {
    /// Begin with a section for the frames of that name.
    pub(super) fn begin(out: W, name: &str) -> Capture<W> {
        let mut waiting = Vec::new();
        let mut section = Vec::new();
        section.extend_from_slice(&BYTE_ORDER_MAGIC.to_le_bytes());
        section.extend_from_slice(&[1, 0, 0, 0]);
        section.extend_from_slice(&u64::MAX.to_le_bytes());
        let comment = format!(
            "The frames of {name} as Lumina recorded them. The addresses of Lumina, its ports, and all of IP \
             and TCP but what they carry are made up."
        );
        put_option(&mut section, OPT_COMMENT, comment.as_bytes());
        put_option(&mut section, SHB_USERAPPL, concat!("lumina ", env!("CARGO_PKG_VERSION")).as_bytes());
        put_option(&mut section, OPT_END, &[]);
        put_block(&mut waiting, SECTION_HEADER, &section);

        let mut interface = Vec::new();
        interface.extend_from_slice(&LINKTYPE_RAW.to_le_bytes());
        // Reserved; and packets may have any length.
        interface.extend_from_slice(&[0; 6]);
        put_option(&mut interface, IF_NAME, name.as_bytes());
        put_option(&mut interface, IF_TSRESOL, &[MICROSECONDS]);
        put_option(&mut interface, OPT_END, &[]);
        put_block(&mut waiting, INTERFACE_DESCRIPTION, &interface);
        Capture { out, waiting, flows: LruCache::new(MOST_FLOWS), count: 0 }
    }

    /// Write a frame, and what TCP would have said around it.
    pub(super) fn put(&mut self, frame: &Frame<'_>) -> io::Result<()> {
        let Capture { waiting, flows, count, .. } = self;
        let mut packets = Vec::new();
        let flow = flows.get_or_insert_mut(frame.connection, || {
            *count = count.wrapping_add(1);
            Flow::open(frame, *count, &mut packets)
        });
        flow.put(frame.direction, &frame.bytes, &mut packets);
        let last = packets.len() - 1;
        for (at, packet) in packets.iter().enumerate() {
            put_packet(waiting, frame, packet, at == last);
        }
        if waiting.len() < MOST_WAITING_BYTES { Ok(()) } else { self.flush() }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.waiting)?;
        self.waiting.clear();
        self.out.flush()
    }
}

fn put_packet(out: &mut Vec<u8>, frame: &Frame<'_>, packet: &Packet, is_frame: bool) {
    // Before 1970 there was no Lumina.
    let micros = 1_000 * frame.time.max(0) as u64;
    let len = packet.bytes.len() as u32;
    let flags: u32 = match packet.direction {
        Direction::In => 1,
        Direction::Out => 2,
    };
    let mut block = Vec::new();
    for word in [0, (micros >> 32) as u32, micros as u32, len, len] {
        block.extend_from_slice(&word.to_le_bytes());
    }
    put_padded(&mut block, &packet.bytes);
    if is_frame && frame.skipped > 0 {
        let comment = format!("{} frames before this one were skipped", frame.skipped);
        put_option(&mut block, OPT_COMMENT, comment.as_bytes());
    }
    put_option(&mut block, EPB_FLAGS, &flags.to_le_bytes());
    put_option(&mut block, OPT_END, &[]);
    put_block(out, ENHANCED_PACKET, &block);
}

/// Type, length, body, and the length again.
fn put_block(out: &mut Vec<u8>, kind: u32, body: &[u8]) {
    let length = (body.len() as u32 + 12).to_le_bytes();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&length);
    out.extend_from_slice(body);
    out.extend_from_slice(&length);
}

fn put_option(block: &mut Vec<u8>, code: u16, value: &[u8]) {
    block.extend_from_slice(&code.to_le_bytes());
    block.extend_from_slice(&(value.len() as u16).to_le_bytes());
    put_padded(block, value);
}

/// Up to the next four bytes.
fn put_padded(block: &mut Vec<u8>, bytes: &[u8]) {
    block.extend_from_slice(bytes);
    block.resize(block.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    /// Kind and body of each block.
    fn blocks(mut file: &[u8]) -> Vec<(u32, &[u8])> {
        let mut blocks = Vec::new();
        while !file.is_empty() {
            let (kind, length) = (word(file, 0), word(file, 4) as usize);
            assert!(length % 4 == 0 && word(file, length - 4) as usize == length);
            blocks.push((kind, &file[8..length - 4]));
            file = &file[length..];
        }
        blocks
    }

    /// Code and value of each option.
    fn options(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
        let mut options = Vec::new();
        loop {
            let (code, length) = (word(bytes, 0) as u16, (word(bytes, 0) >> 16) as usize);
            if code == OPT_END {
                assert_eq!((length, bytes.len()), (0, 4), "the end is the last");
                return options;
            }
            options.push((code, &bytes[4..4 + length]));
            bytes = &bytes[4 + length.next_multiple_of(4)..];
        }
    }

    #[test]
    fn a_file_can_be_read() {
        let mut capture = Capture::begin(Vec::new(), "press3");
        let lines = [
            "FRAME 1763798401123 press3 in 50494e470a via=line from=10.0.0.1:40000 conn=5",
            "FRAME 1763798401124 press3 out 4f4b0a skipped=7 via=line from=10.0.0.1:40000 conn=5",
        ];
        for line in lines {
            capture.put(&Frame::parse(line).unwrap()).unwrap();
        }
        capture.flush().unwrap();
        let file = capture.out;
        let blocks = blocks(&file);
        let kinds: Vec<u32> = blocks.iter().map(|(kind, _)| *kind).collect();
        // A handshake of three, and two frames.
        assert_eq!(kinds, [vec![SECTION_HEADER, INTERFACE_DESCRIPTION], vec![ENHANCED_PACKET; 5]].concat());

        let section = blocks[0].1;
        assert_eq!((word(section, 0), word(section, 4)), (BYTE_ORDER_MAGIC, 1));
        let application = options(&section[16..])[1];
        assert!(application.0 == SHB_USERAPPL && application.1.starts_with(b"lumina "));

        let interface = blocks[1].1;
        assert_eq!((word(interface, 0), word(interface, 4)), (LINKTYPE_RAW.into(), 0));
        assert_eq!(options(&interface[8..]), [(IF_NAME, &b"press3"[..]), (IF_TSRESOL, &[6])]);

        let packet = |at: usize| {
            let block = blocks[at].1;
            let micros = u64::from(word(block, 4)) << 32 | u64::from(word(block, 8));
            let length = word(block, 12) as usize;
            assert_eq!((word(block, 0), word(block, 16) as usize), (0, length));
            (micros, &block[20..20 + length], options(&block[20 + length.next_multiple_of(4)..]))
        };
        let (time, bytes, more) = packet(5);
        assert_eq!((time, &bytes[40..]), (1_763_798_401_123_000, &b"PING\n"[..]));
        assert_eq!(more, [(EPB_FLAGS, &[1, 0, 0, 0][..])]);
        let (time, bytes, more) = packet(6);
        assert_eq!((time, &bytes[40..]), (1_763_798_401_124_000, &b"OK\n"[..]));
        let comment = b"7 frames before this one were skipped";
        assert_eq!(more, [(OPT_COMMENT, &comment[..]), (EPB_FLAGS, &[2, 0, 0, 0][..])]);
    }
}
