//! The bodies of the fuzz targets (`tests/fuzz`): any bytes must leave the server in order. Each panics where
//! they do not.

use std::time::Duration;

use crate::engine::rig::{Rig, RigSettings};
use crate::engine::{ConnKey, Protocol, Transport};
use crate::protocols::PROTOCOLS;

/// The row and its configuration that the first byte of an input chooses.
fn case(first: u8) -> (&'static Protocol, &'static str) {
    let protocol = &PROTOCOLS[usize::from(first) % PROTOCOLS.len()];
    let mut samples = protocol.samples().cycle();
    let sample = samples.nth(usize::from(first) / PROTOCOLS.len());
    (protocol, sample.expect("there is none at least, over and over"))
}

/// Decoding what was encoded gives the same again, for every protocol.
pub fn codecs(data: &[u8]) {
    for protocol in PROTOCOLS {
        let (mut once, mut twice) = (Vec::new(), Vec::new());
        let Some(length) = (protocol.recode)(data, &mut once) else { continue };
        assert!((1..=data.len()).contains(&length), "{}: a frame of {length} bytes", protocol.scheme);
        if !once.is_empty() {
            (protocol.recode)(&once, &mut twice).expect("what was encoded is a frame");
            assert_eq!(once, twice, "{}", protocol.scheme);
        }
    }
}

/// Peers that connect, send, stall, shut and go in any order, while time passes: the engine comes to rest,
/// stays within its bounds, and gives everything back in the end.
pub fn engine(data: &[u8]) {
    const BUFFER_MEMORY: usize = 256 * 1024;
    let Some((&first, mut data)) = data.split_first() else { return };
    let (protocol, shared) = case(first);
    let settings = RigSettings {
        shared,
        max_connections: 8,
        buffer_memory: BUFFER_MEMORY,
        write_stall: Duration::from_secs(3),
        frame_timeout: Duration::from_secs(5),
        idle_timeout: Some(Duration::from_secs(20)),
        ..RigSettings::default()
    };
    let mut rig = Rig::with(protocol.scheme, settings);
    let mut peers: Vec<ConnKey> = Vec::new();
    while let Some((&operation, rest)) = data.split_first() {
        data = rest;
        let number = usize::from(operation >> 3);
        let peer = peers.get(number % peers.len().max(1)).copied();
        if protocol.transport == Transport::Datagram && operation & 7 != 1 {
            rig.datagram(u16::from(operation & 7), take(&mut data, 8 * number));
            continue;
        }
        match (operation & 7, peer) {
            (0, _) => peers.extend(rig.try_connect(0)),
            (1, _) => rig.advance(Duration::from_millis(10 << (number % 10))),
            (2, Some(peer)) => rig.half_close(peer),
            (3, Some(peer)) => rig.shut_window(peer),
            (4, Some(peer)) => rig.open_window(peer, 64 << number),
            (_, Some(peer)) => {
                let bytes = take(&mut data, 4 * number + 1);
                rig.send(peer, bytes);
                rig.turn();
            }
            (_, None) => {}
        }
        let held = rig.engine.buffer_bytes();
        assert!(held <= 2 * BUFFER_MEMORY, "{held} bytes are held");
    }
    for peer in peers {
        rig.half_close(peer);
        rig.open_window(peer, usize::MAX);
    }
    rig.advance(Duration::from_secs(60));
    assert_eq!((rig.engine.len(), rig.engine.buffer_bytes()), (0, 0), "everything is given back");
}

fn take<'a>(data: &mut &'a [u8], most: usize) -> &'a [u8] {
    let (taken, rest) = data.split_at(most.min(data.len()));
    *data = rest;
    taken
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_leave_the_server_in_order(data in prop::collection::vec(any::<u8>(), 0..400)) {
            codecs(&data);
            engine(&data);
        }
    }

    #[test]
    fn specimens_are_seeds() {
        for (row, protocol) in PROTOCOLS.iter().enumerate() {
            for specimen in protocol.specimens {
                codecs(specimen);
                for (number, sample) in protocol.samples().enumerate() {
                    let first = (row + number * PROTOCOLS.len()) as u8;
                    assert_eq!((case(first).0.scheme, case(first).1), (protocol.scheme, sample));
                    // Connect, and send it in pieces of 13 bytes.
                    let pieces = specimen.chunks(13).flat_map(|piece| [&[6 | 3 << 3], piece].concat());
                    engine(&[first, 0].into_iter().chain(pieces).collect::<Vec<u8>>());
                }
            }
        }
    }
}
