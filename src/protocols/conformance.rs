//! What every row of the table of protocols promises.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::PROTOCOLS;
use crate::engine::rig::{Rig, RigSettings};
use crate::engine::{Protocol, Side, Transport};

/// Rounds of random input for each row.
const CASES: u32 = 200;
/// What a session may cost while its peer is silent.
const IDLE_SESSION_BYTES: usize = 128;

/// A row, and one of the configurations to try it with.
#[derive(Clone, Copy)]
struct Case {
    row: &'static Protocol,
    sample: &'static str,
}

impl Case {
    fn rig(self) -> Rig {
        Rig::with(self.row.scheme, RigSettings { shared: self.sample, ..RigSettings::default() })
    }
}

fn cases() -> impl Iterator<Item = Case> {
    PROTOCOLS.iter().flat_map(|row| row.samples().map(move |sample| Case { row, sample }))
}

fn cases_of(transport: Transport) -> impl Iterator<Item = Case> {
    cases().filter(move |case| case.row.transport == transport)
}

/// Try a property of a row with random input; what fails is shrunk and shown.
fn try_out<S: Strategy>(row: &Protocol, input: S, property: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() };
    if let Err(why) = TestRunner::new(config).run(&input, property) {
        panic!("{}: {why}", row.scheme);
    }
}

/// What a peer gets that sends these pieces; each is read before the next comes, all in one turn.
fn answer(case: Case, pieces: &[&[u8]]) -> Vec<u8> {
    let mut rig = case.rig();
    let peer = rig.connect();
    rig.send_in_pieces(peer, pieces);
    rig.settle();
    let answer = std::mem::take(&mut rig.line(peer).received);
    rig.wind_up();
    answer
}

/// Without the figure that says how many bytes were read so far: it alone may depend on the chopping.
fn steady(answer: &[u8]) -> Vec<&[u8]> {
    let counts_bytes = |line: &&[u8]| line.windows(8).any(|word| word == b"bytes_in");
    answer.split(|&byte| byte == b'\n').filter(|line| !counts_bytes(line)).collect()
}

fn check_chopping(case: Case, whole: &[u8], pieces: &[&[u8]]) {
    let Case { row, sample } = case;
    let chopped = answer(case, pieces);
    let expected = if row.framed {
        whole.to_vec()
    } else {
        pieces.iter().flat_map(|piece| answer(case, &[piece])).collect()
    };
    assert_eq!(steady(&chopped), steady(&expected), "{} in pieces: {pieces:?}{sample}", row.scheme);
}

#[test]
fn any_chopping_gives_the_same_answer() {
    for case in cases_of(Transport::Stream) {
        let row = case.row;
        for specimen in row.specimens {
            let whole = answer(case, &[specimen]);
            assert!(!whole.is_empty(), "a specimen of {} is answered", row.scheme);
            for cut in 1..specimen.len() {
                let (one, other) = specimen.split_at(cut);
                check_chopping(case, &whole, &[one, other]);
            }
            let single: Vec<&[u8]> = specimen.chunks(1).collect();
            check_chopping(case, &whole, &single);
            let cuts = prop::collection::btree_set(1..specimen.len(), 2..10.min(specimen.len()));
            try_out(row, cuts, |cuts| {
                let ends = cuts.iter().copied().chain([specimen.len()]);
                let pieces: Vec<&[u8]> =
                    ends.scan(0, |begin, end| Some(&specimen[std::mem::replace(begin, end)..end])).collect();
                check_chopping(case, &whole, &pieces);
                Ok(())
            });
        }
    }
}

/// Bytes that are nothing, and specimens in which some bytes are others.
fn any_input(row: &'static Protocol) -> impl Strategy<Value = Vec<u8>> {
    let specimens: Vec<Vec<u8>> = row.specimens.iter().map(|specimen| specimen.to_vec()).collect();
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let mutated = (prop::sample::select(specimens), edits).prop_map(|(mut specimen, edits)| {
        for (place, byte) in edits {
            let place = place.index(specimen.len());
            match byte % 3 {
                0 => specimen[place] = byte,
                1 => specimen.insert(place, byte),
                _ => specimen.truncate(place + 1),
            }
        }
        specimen
    });
    prop_oneof![mutated, prop::collection::vec(any::<u8>(), 0..200)]
}

#[test]
fn any_bytes_are_survived() {
    for case in cases_of(Transport::Stream) {
        let row = case.row;
        let chunks = prop::collection::vec(any_input(row), 1..6);
        try_out(row, chunks, |chunks| {
            let mut rig = case.rig();
            let (peer, other) = (rig.connect(), rig.connect());
            for chunk in chunks {
                rig.send(peer, chunk);
                rig.settle();
            }
            // Another peer is served as ever, and nothing is left.
            rig.send(other, row.specimens[0]);
            rig.settle();
            prop_assert!(!rig.line(other).received.is_empty());
            rig.wind_up();
            Ok(())
        });
    }
    for case in cases_of(Transport::Datagram) {
        let row = case.row;
        let datagrams = prop::collection::vec((1u16..8, any_input(row)), 1..6);
        try_out(row, datagrams, |datagrams| {
            let mut rig = case.rig();
            for (port, datagram) in datagrams {
                rig.datagram(port, datagram);
            }
            prop_assert!(!rig.datagram(9, row.specimens[0]).is_empty());
            prop_assert_eq!(rig.engine.buffer_bytes(), 0);
            rig.wind_up();
            Ok(())
        });
    }
}

/// Every whole frame of the input, decoded and encoded again.
fn recode(row: &Protocol, mut input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(length) = (row.recode)(input, &mut out) {
        assert!(length > 0 && length <= input.len(), "{}: a frame of {length} bytes", row.scheme);
        input = &input[length..];
    }
    out
}

#[test]
fn what_is_encoded_is_decoded_to_the_same() {
    for row in PROTOCOLS {
        for specimen in row.specimens {
            let once = recode(row, specimen);
            assert!(!once.is_empty(), "a specimen of {} has a frame", row.scheme);
            assert_eq!(recode(row, &once), once, "{}", row.scheme);
        }
        try_out(row, any_input(row), |input| {
            let once = recode(row, &input);
            prop_assert_eq!(recode(row, &once), once);
            Ok(())
        });
    }
}

/// Our code may not be unsafe, and so may have no allocator that counts. What can be seen is the size of the
/// session itself, and that the engine holds no buffer for it; that it keeps nothing else on the heap between
/// two frames is for the benches to measure, which count all of the process.
#[test]
fn an_idle_session_is_small() {
    for case in cases() {
        let row = case.row;
        let mut seen = false;
        for specimen in row.specimens {
            let mut rig = case.rig();
            match row.transport {
                Transport::Stream => {
                    let peer = rig.connect();
                    rig.send(peer, specimen);
                    rig.settle();
                }
                Transport::Datagram => drop(rig.datagram(1, specimen)),
            }
            if let Some(bytes) = rig.session_bytes() {
                assert!(bytes <= IDLE_SESSION_BYTES, "{}: {bytes} bytes", row.scheme);
                seen = true;
            }
            assert_eq!(rig.engine.buffer_bytes(), 0, "{}", row.scheme);
            rig.wind_up();
        }
        assert!(seen, "{}: no specimen leaves an idle session", row.scheme);
    }
}

#[test]
fn any_bytes_have_words_on_one_line() {
    for row in PROTOCOLS {
        try_out(row, any_input(row), |input| {
            for side in [Side::Asks, Side::Answers] {
                let words = (row.words)(side, &input);
                prop_assert!(!words.contains(char::is_control), "{:?}", words);
            }
            Ok(())
        });
    }
}

#[test]
fn rows_are_complete() {
    for (place, row) in PROTOCOLS.iter().enumerate() {
        assert!(PROTOCOLS[..place].iter().all(|other| other.scheme != row.scheme), "{} twice", row.scheme);
        assert!(!row.specimens.is_empty() && !row.summary.is_empty());
        assert!(row.default_port != 0 && row.capture_port != Some(0));
        assert!(super::by_scheme(row.scheme).is_some_and(|found| found.scheme == row.scheme));
    }
    assert!(super::by_scheme("lime").is_none());
}
