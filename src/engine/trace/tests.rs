//! The recorder alone: what it keeps, for how long, and what followers are told of it.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::pool::PAYLOAD_BYTES;
use super::*;

/// A small recorder: some 90 rings, 48 KiB for frames.
const MEMORY: usize = LEAST_TRACE_MEMORY;

impl Recorder {
    /// All memory that it holds but for what follows, in bytes.
    fn bytes(&self) -> usize {
        // A name is a piece of memory of its own.
        let names = self.name_bytes + 16 * self.rings.len();
        let rings = self.rings.capacity() * size_of::<Option<Ring>>() + self.by_name.allocation_size();
        rings + names + self.largest.bytes() + self.pool.bytes()
    }

    /// Every frame that a new follower of a name is told now.
    fn kept(&mut self, name: &str) -> Vec<Vec<u8>> {
        const FOLLOWER: Seat = seat(1_000_000);
        self.follow(FOLLOWER, device(name), false).unwrap();
        let mut frames = Vec::new();
        while let Some((_, bytes)) = self.told(FOLLOWER) {
            frames.push(bytes);
        }
        self.unfollow_all(FOLLOWER);
        self.take_due(0, &mut Vec::new());
        frames
    }

    fn told(&mut self, follower: Seat) -> Option<(Told, Vec<u8>)> {
        let (mut name, mut bytes) = (String::new(), Vec::new());
        let told = self.next_frame(follower, &mut name, &mut bytes)?;
        Some((told, bytes))
    }

    fn put(&mut self, ring: RingId, connection: u32, bytes: &[u8]) {
        self.record(ring, Timestamp(7), &origin(connection), Direction::In, bytes);
    }
}

/// A recorder of one shard.
fn recorder_of(memory: usize) -> Recorder {
    Recorder::new(memory, [AtomicBool::default()].into())
}

const fn seat(index: u32) -> Seat {
    Seat { shard: 0, index }
}

fn device(name: &str) -> Traced<'_> {
    Traced::Device(DeviceName::parse(name).unwrap())
}

fn attach(recorder: &mut Recorder, name: &str) -> RingId {
    recorder.attach(DeviceName::parse(name).unwrap()).expect("there is room for a ring")
}

fn origin(connection: u32) -> Origin {
    let peer = SocketAddr::from(([10, 0, 0, 1], connection as u16));
    Origin { scheme: "line", we_ask: false, peer, serial: connection }
}

#[test]
fn frames_come_back_as_they_were() {
    let mut recorder = recorder_of(MEMORY);
    let ring = attach(&mut recorder, "press3");
    let peers = ["10.0.0.1:4000", "[fe80::1]:4001"].map(|peer| peer.parse().unwrap());
    let schemes = ["modbus", "line"];
    let origins: Vec<Origin> = (0..4)
        .map(|at| Origin {
            scheme: schemes[at % 2],
            we_ask: at == 1,
            peer: peers[at / 2],
            serial: u32::MAX - at as u32,
        })
        .collect();
    let mut expected = Vec::new();
    for (at, origin) in origins.iter().flat_map(|origin| [origin; 2]).enumerate() {
        let direction = if at % 3 == 0 { Direction::Out } else { Direction::In };
        let (time, bytes) = (Timestamp(-5 + at as i64), vec![at as u8; at * 50 + 1]);
        recorder.record(ring, time, origin, direction, &bytes);
        expected.push((time, direction, *origin, bytes));
    }
    recorder.follow(seat(1), device("press3"), true).unwrap();
    for (time, direction, origin, bytes) in expected {
        let (told, got) = recorder.told(seat(1)).expect("a frame is left");
        assert_eq!((told.time, told.direction, told.origin, got), (time, direction, origin, bytes));
        assert_eq!((told.skipped, told.detailed), (0, true));
    }
    assert!(recorder.told(seat(1)).is_none() && !recorder.is_behind(seat(1)));
    recorder.put(ring, 9, b"more");
    assert!(recorder.is_behind(seat(1)));
    assert_eq!(recorder.told(seat(1)).map(|(_, bytes)| bytes), Some(b"more".to_vec()));
    recorder.unfollow_all(seat(1));
    recorder.release(ring);
    recorder.assert_unused();
}

#[test]
fn long_frames_are_kept_in_pieces() {
    let mut recorder = recorder_of(MEMORY);
    let ring = attach(&mut recorder, "a");
    let long: Vec<u8> = (0..3 * MOST_FRAME_BYTES / 2).map(|at| at as u8).collect();
    recorder.put(ring, 1, &long);
    let kept = recorder.kept("a");
    assert_eq!(kept.iter().map(Vec::len).collect::<Vec<_>>(), [MOST_FRAME_BYTES, MOST_FRAME_BYTES / 2]);
    assert_eq!(kept.concat(), long);
    recorder.put(ring, 1, b"");
    assert_eq!(recorder.kept("a").len(), 2, "nothing is no frame");
}

#[test]
fn a_chatty_device_leaves_the_others_their_share() {
    let mut recorder = recorder_of(MEMORY);
    let (chatty, quiet, middle) =
        (attach(&mut recorder, "chatty"), attach(&mut recorder, "quiet"), attach(&mut recorder, "middle"));
    for number in 0..10u8 {
        recorder.put(quiet, 1, &[number; 20]);
    }
    for number in 0..50_000u32 {
        recorder.put(chatty, 2, &number.to_le_bytes());
        if number % 10 == 0 {
            recorder.put(middle, 3, &number.to_le_bytes());
        }
    }
    assert_eq!(recorder.kept("quiet").len(), 10, "all of it, though it is old");
    let (chatty, middle) = (recorder.kept("chatty"), recorder.kept("middle"));
    assert_eq!(chatty.last(), Some(&49_999u32.to_le_bytes().to_vec()), "the newest are kept");
    assert_eq!(middle.last(), Some(&49_990u32.to_le_bytes().to_vec()));
    let more = chatty.len().abs_diff(middle.len());
    assert!(more < 100 && chatty.len() > 1_000, "{} and {}", chatty.len(), middle.len());
    assert!(recorder.bytes() <= MEMORY, "{} bytes", recorder.bytes());
}

#[test]
fn slow_followers_are_told_what_they_missed() {
    let mut recorder = recorder_of(MEMORY);
    let ring = attach(&mut recorder, "a");
    recorder.follow(seat(1), device("a"), false).unwrap();
    recorder.put(ring, 1, b"first");
    assert_eq!(recorder.told(seat(1)).unwrap().1, b"first");
    const COUNT: u64 = 20_000;
    for number in 0..COUNT {
        recorder.put(ring, 2, &number.to_le_bytes());
    }
    let (told, bytes) = recorder.told(seat(1)).unwrap();
    assert!(told.skipped > 0);
    assert_eq!(bytes, told.skipped.to_le_bytes(), "it goes on with the oldest that is kept");
    assert_eq!(told.origin.serial, 2, "the record that says whose they are is gone, and yet it is known");
    let mut count = told.skipped + 1;
    while let Some((told, bytes)) = recorder.told(seat(1)) {
        assert_eq!((told.skipped, bytes), (0, count.to_le_bytes().to_vec()));
        count += 1;
    }
    assert_eq!(count, COUNT);
}

#[test]
fn what_many_follow_is_named_once_a_turn() {
    let mut recorder = recorder_of(MEMORY);
    let ring = attach(&mut recorder, "a");
    for follower in [1, 2] {
        recorder.follow(seat(follower), device("a"), false).unwrap();
        recorder.follow(seat(follower), device("b"), false).unwrap();
    }
    let mut due = Vec::new();
    recorder.take_due(0, &mut due);
    due.clear();
    recorder.put(ring, 1, b"1");
    recorder.put(ring, 1, b"2");
    recorder.take_due(0, &mut due);
    due.sort_unstable();
    assert_eq!(due, [1, 2]);
    assert!(!recorder.due.flags[0].load(Ordering::SeqCst));
    assert!(recorder.unfollow(seat(1), device("a")) && !recorder.unfollow(seat(1), device("a")));
    due.clear();
    recorder.put(ring, 1, b"3");
    recorder.take_due(0, &mut due);
    assert_eq!(due, [2]);
    // A second time it begins anew.
    assert_eq!(recorder.told(seat(2)).unwrap().1, b"1");
    recorder.follow(seat(2), device("a"), true).unwrap();
    let (told, bytes) = recorder.told(seat(2)).unwrap();
    assert_eq!((told.detailed, bytes), (true, b"1".to_vec()));
    assert_eq!(recorder.follows, 3);
}

#[test]
fn what_was_only_asked_for_is_forgotten_with_the_last_who_asked() {
    let mut recorder = recorder_of(MEMORY);
    let peer = "10.0.0.1:4000".parse().unwrap();
    assert_eq!(recorder.follow(seat(1), Traced::Peer(peer), false), Ok(true));
    assert_eq!(recorder.follow(seat(2), Traced::Peer(peer), false), Ok(false), "it is looked for already");
    assert!(recorder.wants(peer));
    recorder.watch(seat(5), peer);
    let ring = recorder.watched(seat(5)).unwrap();
    recorder.put(ring, 5, b"1");
    assert!(recorder.unfollow(seat(1), Traced::Peer(peer)));
    assert_eq!(recorder.told(seat(2)).unwrap().1, b"1");
    recorder.unfollow_all(seat(2));
    assert!(recorder.rings.is_empty() && !recorder.wants(peer) && recorder.watched(seat(5)).is_none());
    assert_eq!(recorder.name_bytes, 0);
    // A device's frames stay, also where somebody followed it before it came.
    recorder.follow(seat(1), device("a"), false).unwrap();
    let ring = attach(&mut recorder, "a");
    recorder.put(ring, 6, b"2");
    recorder.release(ring);
    recorder.unfollow_all(seat(1));
    assert_eq!(recorder.kept("a"), [b"2"]);
}

#[test]
fn names_have_a_limit() {
    let mut recorder = recorder_of(MEMORY);
    let most = recorder.most_rings;
    let names: Vec<String> = (0..most + 10).map(|number| format!("device{number:04}")).collect();
    for (number, name) in names.iter().enumerate() {
        let ring = attach(&mut recorder, name);
        recorder.put(ring, number as u32, b"hello");
        recorder.release(ring);
    }
    assert_eq!(recorder.rings.len(), most);
    assert!(recorder.kept(&names[most + 9]) == [b"hello"] && recorder.kept(&names[20]) == [b"hello"]);
    assert!(recorder.by_name.len() == most && recorder.bytes() <= MEMORY);
    // Who is connected is not forgotten for others.
    let mut recorder = recorder_of(MEMORY);
    names[..most].iter().for_each(|name| _ = attach(&mut recorder, name));
    let another = DeviceName::parse("another").unwrap();
    assert!(recorder.attach(another).is_none() && recorder.of_device(another).is_none());
    assert!(recorder.of_device(DeviceName::parse(&names[0]).unwrap()).is_some());
    assert!(recorder.follow(seat(1), device(another.as_str()), false).is_err());
    assert!(recorder.follow(seat(1), device(&names[0]), false).is_ok());
    // Nor is there room for long names without end.
    let mut recorder = recorder_of(MEMORY);
    let long: Vec<String> = (0..most).map(|number| format!("{number:0250}")).collect();
    let held = long.iter().filter_map(|name| recorder.attach(DeviceName::parse(name).unwrap())).count();
    assert_eq!(held, NAME_BYTES * most / 250);
    assert!(recorder.bytes() <= MEMORY);
}

#[test]
fn traces_have_a_limit() {
    let mut recorder = recorder_of(MEMORY);
    let most = recorder.most_rings / RINGS_PER_FOLLOW;
    for number in 0..most {
        recorder.follow(seat(number as u32), device("a"), false).unwrap();
    }
    assert_eq!(recorder.follow(seat(999), device("a"), false), Err(Refusal::Limit(Limit::Traces(most))));
    assert!(!recorder.is_tracer(seat(999)));
    assert!(recorder.follow(seat(0), device("a"), false).is_ok(), "the same again is not one more");
    recorder.unfollow_all(seat(0));
    assert!(recorder.follow(seat(999), device("b"), false).is_ok());
}

#[test]
fn without_memory_nothing_is_recorded() {
    for memory in [0, LEAST_TRACE_MEMORY - 1] {
        let mut recorder = recorder_of(memory);
        let name = DeviceName::parse("a").unwrap();
        assert!(recorder.attach(name).is_none() && recorder.of_device(name).is_none());
        let refusal = recorder.follow(seat(1), Traced::Device(name), false).unwrap_err();
        let message = "traces: this server follows at most 0 at once (trace_memory)";
        assert_eq!(refusal.to_string(), message);
        assert_eq!(recorder.bytes(), 0);
    }
}

#[test]
fn names_of_what_can_be_followed() {
    let check = |text: &str, printed: Option<&str>| {
        let traced = Traced::parse(text).ok().map(|traced| traced.to_string());
        assert_eq!(traced.as_deref(), printed, "{text}");
    };
    check("press3", Some("press3"));
    check("10.0.0.7:49152", Some("10.0.0.7:49152"));
    check("[fe80:0::7]:80", Some("[fe80::7]:80"));
    check("fe80::7", Some("fe80::7"));
    check("a/b", None);
    check("[fe80::7]", None);
    check("", None);
}

/// One thing that happens: to the device of that number.
#[derive(Clone, Copy, Debug)]
enum Step {
    Come(u8),
    Leave(u8),
    /// A frame of so many bytes.
    Record(u8, usize),
    /// The same, without a connection of its own.
    Trace(u8, usize),
    Follow(u8),
    Unfollow(u8),
    /// The follower takes so many.
    Take(u8),
}

fn any_step() -> impl Strategy<Value = Step> {
    let len = || prop_oneof![4 => 1..40_usize, 2 => 200..300_usize, 1 => 1_000..2 * MOST_FRAME_BYTES];
    prop_oneof![
        2 => (0..8u8).prop_map(Step::Come),
        1 => (0..8u8).prop_map(Step::Leave),
        12 => (0..8u8, len()).prop_map(|(number, len)| Step::Record(number, len)),
        3 => (0..8u8, len()).prop_map(|(number, len)| Step::Trace(number, len)),
        1 => (0..8u8).prop_map(Step::Follow),
        1 => (0..8u8).prop_map(Step::Unfollow),
        3 => (0..20u8).prop_map(Step::Take),
    ]
}

/// What is known of a device.
#[derive(Default)]
struct Model {
    ring: Option<RingId>,
    /// All pieces ever recorded, as number and length.
    frames: Vec<(u32, usize)>,
    /// The next that the follower is to be told; it follows if there is one.
    next: Option<usize>,
}

fn payload(number: u32, len: usize) -> Vec<u8> {
    number.to_le_bytes().into_iter().cycle().take(len).collect()
}

const FOLLOWER: Seat = seat(77);

fn play(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut recorder = recorder_of(MEMORY);
    let names: Vec<String> = (0..8).map(|number| format!("d{number}")).collect();
    let mut models: Vec<Model> = (0..8).map(|_| Model::default()).collect();
    for (number, &step) in (0u32..).zip(steps) {
        match step {
            Step::Come(at) => {
                let model = &mut models[usize::from(at)];
                if model.ring.is_none() {
                    model.ring = Some(attach(&mut recorder, &names[usize::from(at)]));
                }
            }
            Step::Leave(at) => {
                if let Some(ring) = models[usize::from(at)].ring.take() {
                    recorder.release(ring);
                }
            }
            Step::Record(at, len) | Step::Trace(at, len) => {
                let model = &mut models[usize::from(at)];
                let name = DeviceName::parse(&names[usize::from(at)]).unwrap();
                let ring = match step {
                    Step::Trace(..) => recorder.of_device(name),
                    _ => model.ring,
                };
                let Some(ring) = ring else { continue };
                let bytes = payload(number, len);
                recorder.put(ring, number / 5, &bytes);
                let pieces = bytes.chunks(MOST_FRAME_BYTES);
                model.frames.extend(pieces.map(|piece| (number, piece.len())));
            }
            Step::Follow(at) => {
                recorder.follow(FOLLOWER, device(&names[usize::from(at)]), false).unwrap();
                let ring = recorder.ring(&names[usize::from(at)], false).unwrap();
                let ring = &recorder.rings[ring.key()];
                // What was recorded before the ring was forgotten and made anew is not counted by it.
                let forgotten = models[usize::from(at)].frames.len() - ring.next as usize;
                models[usize::from(at)].next = Some(forgotten + ring.first as usize);
            }
            Step::Unfollow(at) => {
                let model = &mut models[usize::from(at)];
                let did = recorder.unfollow(FOLLOWER, device(&names[usize::from(at)]));
                prop_assert_eq!(did, model.next.take().is_some());
            }
            Step::Take(count) => {
                for _ in 0..count {
                    let (mut name, mut bytes) = (String::new(), Vec::new());
                    let Some(told) = recorder.next_frame(FOLLOWER, &mut name, &mut bytes) else { break };
                    let model = &mut models[names.iter().position(|known| *known == name).unwrap()];
                    let at = model.next.unwrap() + told.skipped as usize;
                    model.next = Some(at + 1);
                    let (number, len) = model.frames[at];
                    prop_assert_eq!(bytes, payload(number, len));
                    prop_assert_eq!(told.origin, origin(number / 5));
                }
            }
        }
        prop_assert!(recorder.bytes() <= MEMORY, "{} bytes", recorder.bytes());
    }
    check_kept(&mut recorder, &names, &models)
}

/// What is kept of each device is the newest; and all of it, or its share.
fn check_kept(recorder: &mut Recorder, names: &[String], models: &[Model]) -> Result<(), TestCaseError> {
    let blocks = (MEMORY - MEMORY / SHARE_OF_RINGS) / BLOCK_BYTES;
    let longest = (MOST_FRAME_BYTES + HEADER_BYTES).div_ceil(PAYLOAD_BYTES) + 1;
    let share = blocks / recorder.rings.len().max(1) - longest;
    for (name, model) in names.iter().zip(models) {
        let Some(ring) = recorder.rings.iter().find(|(_, ring)| *ring.name == **name) else { continue };
        let (taken, count) = (ring.1.chain.blocks(), (ring.1.next - ring.1.first) as usize);
        let kept: VecDeque<Vec<u8>> = recorder.kept(name).into();
        prop_assert_eq!(kept.len(), count);
        let newest = &model.frames[model.frames.len() - count..];
        prop_assert!(newest.iter().zip(&kept).all(|(&(number, len), kept)| *kept == payload(number, len)));
        prop_assert!(taken >= share || count == model.frames.len(), "{} blocks of {}", taken, share);
    }
    let numbers: BTreeMap<_, _> = recorder.rings.iter().map(|(key, ring)| (&ring.name, key)).collect();
    prop_assert_eq!(numbers.len(), recorder.rings.len());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_newest_frames_are_kept_within_the_memory(steps in prop::collection::vec(any_step(), 1..600)) {
        play(&steps)?;
    }
}
