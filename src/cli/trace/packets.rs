//! IP packets around frames, as they may have looked: a conversation by TCP with its three-way handshake and
//! acknowledgements, or datagrams. Peers' addresses are real; Lumina's are of the ranges for documentation.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::frame::Frame;
use crate::engine::{Direction, Transport};

/// Lumina's addresses (RFC 5737, RFC 3849).
const OUR_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OUR_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
/// The first port of who asks, where that is us: each connection has one of its own.
const FIRST_PORT: u16 = 49_152;
/// The port of who is asked in a protocol that readers of captures do not know; it stands for no other.
const UNKNOWN_PORT: u16 = 49_151;

const TCP: u8 = 6;
const UDP: u8 = 17;
const TIME_TO_LIVE: u8 = 64;
const WINDOW: u16 = 65_535;

const SYN: u8 = 0x02;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// A packet, its IP header first.
pub(super) struct Packet {
    pub(super) direction: Direction,
    pub(super) bytes: Vec<u8>,
}

/// A conversation.
pub(super) struct Flow {
    transport: Transport,
    us: End,
    peer: End,
    /// Which way the last frame went, if its receiver has not acknowledged it.
    unacknowledged: Option<Direction>,
}

/// One end of it.
struct End {
    address: SocketAddr,
    /// The sequence number of its next byte.
    next: u32,
}

impl Flow {
    /// The beginning of the connection that a frame is of, the `count`th.
    pub(super) fn open(frame: &Frame<'_>, count: u16, packets: &mut Vec<Packet>) -> Flow {
        let protocol = frame.protocol();
        let port = protocol.and_then(|protocol| protocol.capture_port).unwrap_or(UNKNOWN_PORT);
        let peer = frame.peer.ip().to_canonical();
        let us = match peer {
            IpAddr::V4(_) => IpAddr::V4(OUR_V4),
            IpAddr::V6(_) => IpAddr::V6(OUR_V6),
        };
        let (our_port, peer_port) = match frame.we_ask {
            // Who is asked has the port by which the protocol is known, whatever it was.
            true => (FIRST_PORT + count % (u16::MAX - FIRST_PORT), port),
            false => (port, frame.peer.port()),
        };
        let end = |ip, port| End { address: SocketAddr::new(ip, port), next: 0 };
        let mut flow = Flow {
            transport: protocol.map_or(Transport::Stream, |protocol| protocol.transport),
            us: end(us, our_port),
            peer: end(peer, peer_port),
            unacknowledged: None,
        };
        if flow.transport == Transport::Stream {
            let (there, back) = match frame.we_ask {
                true => (Direction::Out, Direction::In),
                false => (Direction::In, Direction::Out),
            };
            for (direction, flags) in [(there, SYN), (back, SYN | ACK), (there, ACK)] {
                packets.push(flow.segment(direction, flags, &[]));
                // A SYN counts as a byte.
                let (sender, _) = flow.ends(direction);
                sender.next += u32::from(flags & SYN != 0);
            }
        }
        flow
    }

    /// Sender and receiver of what goes that way.
    fn ends(&mut self, direction: Direction) -> (&mut End, &mut End) {
        match direction {
            Direction::In => (&mut self.peer, &mut self.us),
            Direction::Out => (&mut self.us, &mut self.peer),
        }
    }

    /// The packets of a frame.
    pub(super) fn put(&mut self, direction: Direction, payload: &[u8], packets: &mut Vec<Packet>) {
        if self.transport == Transport::Datagram {
            packets.push(self.datagram(direction, payload));
            return;
        }
        // What went the same way before is acknowledged, so that no window ever fills up.
        if self.unacknowledged == Some(direction) {
            let back = match direction {
                Direction::In => Direction::Out,
                Direction::Out => Direction::In,
            };
            packets.push(self.segment(back, ACK, &[]));
        }
        packets.push(self.segment(direction, PSH | ACK, payload));
        let (sender, _) = self.ends(direction);
        sender.next = sender.next.wrapping_add(payload.len() as u32);
        self.unacknowledged = Some(direction);
    }

    fn segment(&mut self, direction: Direction, flags: u8, payload: &[u8]) -> Packet {
        let (sender, receiver) = self.ends(direction);
        let acknowledged = if flags & ACK != 0 { receiver.next } else { 0 };
        let mut segment = Vec::new();
        segment.extend_from_slice(&sender.address.port().to_be_bytes());
        segment.extend_from_slice(&receiver.address.port().to_be_bytes());
        segment.extend_from_slice(&sender.next.to_be_bytes());
        segment.extend_from_slice(&acknowledged.to_be_bytes());
        // Five words of header, and no options.
        segment.extend_from_slice(&[5 << 4, flags]);
        segment.extend_from_slice(&WINDOW.to_be_bytes());
        // The checksum, and nothing urgent.
        segment.extend_from_slice(&[0; 4]);
        segment.extend_from_slice(payload);
        packet(direction, sender.address.ip(), receiver.address.ip(), TCP, 16, segment)
    }

    fn datagram(&mut self, direction: Direction, payload: &[u8]) -> Packet {
        let (sender, receiver) = self.ends(direction);
        let mut datagram = Vec::new();
        datagram.extend_from_slice(&sender.address.port().to_be_bytes());
        datagram.extend_from_slice(&receiver.address.port().to_be_bytes());
        datagram.extend_from_slice(&(8 + payload.len() as u16).to_be_bytes());
        datagram.extend_from_slice(&[0; 2]);
        datagram.extend_from_slice(payload);
        packet(direction, sender.address.ip(), receiver.address.ip(), UDP, 6, datagram)
    }
}

/// An IP header around `body`, whose checksum is missing at `checksum_at`.
fn packet(
    direction: Direction,
    from: IpAddr,
    to: IpAddr,
    protocol: u8,
    checksum_at: usize,
    mut body: Vec<u8>,
) -> Packet {
    let len = (body.len() as u16).to_be_bytes();
    let mut addresses = Vec::new();
    let mut bytes = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            addresses.extend_from_slice(&from.octets());
            addresses.extend_from_slice(&to.octets());
            let total = (20 + body.len() as u16).to_be_bytes();
            // Version and length of the header, not to be fragmented.
            bytes.extend_from_slice(&[0x45, 0, total[0], total[1], 0, 0, 0x40, 0]);
            bytes.extend_from_slice(&[TIME_TO_LIVE, protocol, 0, 0]);
            bytes.extend_from_slice(&addresses);
            let sum = checksum(&[&bytes]).to_be_bytes();
            bytes[10..12].copy_from_slice(&sum);
        }
        (from, to) => {
            let octets = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            addresses.extend_from_slice(&octets(from));
            addresses.extend_from_slice(&octets(to));
            bytes.extend_from_slice(&[0x60, 0, 0, 0, len[0], len[1], protocol, TIME_TO_LIVE]);
            bytes.extend_from_slice(&addresses);
        }
    }
    let sum = checksum(&[&addresses, &[0, protocol], &len, &body]).to_be_bytes();
    body[checksum_at..checksum_at + 2].copy_from_slice(&sum);
    bytes.extend_from_slice(&body);
    Packet { direction, bytes }
}

/// The checksum of the internet (RFC 1071) over parts that begin at even places.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u64 = words.map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0))).sum();
    let sum = (sum & 0xFFFF) + (sum >> 16);
    !((sum & 0xFFFF) + (sum >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a receiver sees of a packet.
    #[derive(Debug, PartialEq)]
    struct Seen<'a> {
        from: SocketAddr,
        to: SocketAddr,
        flags: u8,
        sequence: u32,
        acknowledged: u32,
        payload: &'a [u8],
    }

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    /// Take it apart, and verify its lengths and checksums.
    fn see(packet: &Packet) -> Seen<'_> {
        let bytes = &packet.bytes;
        let (header, addresses, length, protocol) = match bytes[0] >> 4 {
            4 => {
                assert_eq!(checksum(&[&bytes[..20]]), 0);
                (20, &bytes[12..20], u16::from_be_bytes([bytes[2], bytes[3]]) as usize, bytes[9])
            }
            _ => (40, &bytes[8..40], 40 + u16::from_be_bytes([bytes[4], bytes[5]]) as usize, bytes[6]),
        };
        assert_eq!(length, bytes.len());
        let body = &bytes[header..];
        let body_length = (body.len() as u16).to_be_bytes();
        assert_eq!(checksum(&[addresses, &[0, protocol], &body_length, body]), 0);
        let address = |at: usize, port: usize| {
            let ip = match addresses.len() {
                8 => IpAddr::from(<[u8; 4]>::try_from(&addresses[at * 4..at * 4 + 4]).unwrap()),
                _ => IpAddr::from(<[u8; 16]>::try_from(&addresses[at * 16..at * 16 + 16]).unwrap()),
            };
            SocketAddr::new(ip, u16::from_be_bytes([body[port], body[port + 1]]))
        };
        let (from, to) = (address(0, 0), address(1, 2));
        if protocol == UDP {
            assert_eq!(u16::from_be_bytes([body[4], body[5]]) as usize, body.len());
            return Seen { from, to, flags: 0, sequence: 0, acknowledged: 0, payload: &body[8..] };
        }
        assert_eq!(protocol, TCP);
        let (sequence, acknowledged) = (word(body, 4), word(body, 8));
        Seen { from, to, flags: body[13], sequence, acknowledged, payload: &body[20..] }
    }

    fn play(details: &str, frames: &[(Direction, &[u8])]) -> Vec<Packet> {
        let line = format!("FRAME 5 a in 00 {details}");
        let mut packets = Vec::new();
        let mut flow = Flow::open(&Frame::parse(&line).unwrap(), 1, &mut packets);
        frames.iter().for_each(|(direction, bytes)| flow.put(*direction, bytes, &mut packets));
        packets
    }

    #[track_caller]
    fn check(details: &str, client: &str, server: &str, there: Direction, back: Direction) {
        let frames: [(Direction, &[u8]); 4] =
            [(there, b"ask"), (back, b"answer"), (back, b"more"), (there, b"")];
        let packets = play(details, &frames[..3]);
        let (client, server): (SocketAddr, SocketAddr) = (client.parse().unwrap(), server.parse().unwrap());
        let row = |asks: bool, flags, sequence, acknowledged, payload| {
            let (from, to) = if asks { (client, server) } else { (server, client) };
            Seen { from, to, flags, sequence, acknowledged, payload }
        };
        let expected = [
            row(true, SYN, 0, 0, b""),
            row(false, SYN | ACK, 0, 1, b""),
            row(true, ACK, 1, 1, b""),
            row(true, PSH | ACK, 1, 1, b"ask"),
            row(false, PSH | ACK, 1, 4, b"answer"),
            row(true, ACK, 4, 7, b""),
            row(false, PSH | ACK, 7, 4, b"more"),
        ];
        assert_eq!(packets.iter().map(see).collect::<Vec<_>>(), expected);
        let ways: Vec<Direction> = packets.iter().map(|packet| packet.direction).collect();
        assert_eq!(ways, [there, back, there, there, back, there, back]);
    }

    #[test]
    fn conversations_by_tcp() {
        let (to_us, from_us) = (Direction::In, Direction::Out);
        check("via=modbus from=10.0.0.1:40000", "10.0.0.1:40000", "192.0.2.1:502", to_us, from_us);
        check("via=modbus to=10.0.0.7:1502", "192.0.2.1:49153", "10.0.0.7:502", from_us, to_us);
        check("via=line from=[fe80::1]:40000", "[fe80::1]:40000", "[2001:db8::1]:49151", to_us, from_us);
        check("via=modbus from=[::ffff:10.0.0.1]:4", "10.0.0.1:4", "192.0.2.1:502", to_us, from_us);
        check("via=later to=10.0.0.7:1", "192.0.2.1:49153", "10.0.0.7:49151", from_us, to_us);
    }

    #[test]
    fn datagrams() {
        let packets = play(
            "via=modbus+udp from=10.0.0.1:40000",
            &[(Direction::In, b"ask"), (Direction::Out, b"answer of odd length")],
        );
        let seen: Vec<Seen<'_>> = packets.iter().map(see).collect();
        assert_eq!(seen.len(), 2);
        assert_eq!((seen[0].to.to_string().as_str(), seen[0].payload), ("192.0.2.1:502", &b"ask"[..]));
        assert_eq!((seen[1].from, seen[1].to), (seen[0].to, seen[0].from));
    }

    /// RFC 1071 §3
    #[test]
    fn checksums() {
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
        assert_eq!(checksum(&[&[0xff; 65_535]]), !0xff00);
        assert_eq!(checksum(&[]), 0xffff);
    }
}
