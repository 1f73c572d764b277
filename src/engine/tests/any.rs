//! Any peers in any order: what holds whatever they do.

use std::collections::{HashMap, HashSet, VecDeque};

use proptest::prelude::*;

use super::*;

const TAGS: usize = 3_000;

#[derive(Clone, Debug)]
enum Step {
    Connect,
    /// Some peer, by its place among all that came, sends this.
    Send(usize, String),
    /// It takes nothing from now on, or so much more.
    Window(usize, usize),
    HalfClose(usize),
    BreakOff(usize),
    Turn,
    Advance(u64),
}

fn any_request() -> impl Strategy<Value = String> {
    let tag = prop_oneof![3 => 0..TAGS, 1 => TAGS - 20..TAGS + 20];
    let set = (tag, -9..9i64).prop_map(|(tag, value)| format!("SET t/{tag:05} {value}\n"));
    let plain = [
        "READ #\n",
        "LIST t/+\n",
        "READ +/00001\n",
        "UNSUB #\n",
        "HELLO one\n",
        "HELLO two 500ms\n",
        "HELP\n",
        "nonsense\n",
        "PING begun ",
        "SET t/00000 ",
    ];
    prop_oneof![
        6 => prop::collection::vec(set, 1..20).prop_map(|sets| sets.concat()),
        3 => Just("SUB #\n".to_owned()),
        3 => (0..4_000usize, 1..30usize).prop_map(|(size, count)| {
            format!("PING {}\n", "x".repeat(size)).repeat(count)
        }),
        4 => prop::sample::select(plain.to_vec()).prop_map(str::to_owned),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let peer = 0..100usize;
    let window = prop_oneof![Just(0), 1..2_000usize, Just(100_000), Just(usize::MAX)];
    prop_oneof![
        2 => Just(Step::Connect),
        12 => (peer.clone(), any_request()).prop_map(|(peer, request)| Step::Send(peer, request)),
        6 => (peer.clone(), window).prop_map(|(peer, window)| Step::Window(peer, window)),
        1 => peer.clone().prop_map(Step::HalfClose),
        1 => peer.prop_map(Step::BreakOff),
        6 => Just(Step::Turn),
        2 => (1..3_000u64).prop_map(Step::Advance),
    ]
}

/// What a peer received must be the replies to what it sent, in order, with updates between two of them. Says
/// what it knows of each tag, if it is subscribed to all.
fn follow(sent: &str, received: &str) -> Result<Option<HashMap<String, String>>, TestCaseError> {
    let mut requests: VecDeque<&str> =
        sent.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
    let mut known = None;
    let mut within = false;
    for line in received.lines() {
        let request = requests.front().copied().unwrap_or_default();
        let mut fields = line.split(' ');
        let (word, tag) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        let state = || line.split(' ').skip(2).take(2).collect::<Vec<_>>().join(" ");
        match word {
            "OK" | "ERR" => {
                match request {
                    "SUB #\n" => _ = known.get_or_insert_with(HashMap::new),
                    "UNSUB #\n" => known = None,
                    _ => {}
                }
                prop_assert!(requests.pop_front().is_some(), "a reply to nothing: {}", line);
                within = false;
            }
            "UPD" => {
                prop_assert!(!within, "within a reply: {}", line);
                let Some(known) = &mut known else { return Err(TestCaseError::fail(line.to_owned())) };
                known.insert(tag.to_owned(), state());
            }
            _ => {
                within = true;
                if word == "VAL" && request == "SUB #\n" {
                    known.get_or_insert_with(HashMap::new).insert(tag.to_owned(), state());
                }
            }
        }
    }
    prop_assert!(requests.is_empty(), "{} requests have no reply", requests.len());
    Ok(known)
}

fn play(steps: Vec<Step>, buffer_memory: usize) -> Result<(), TestCaseError> {
    let mut rig = Rig::with("line", RigSettings { buffer_memory, ..RigSettings::default() });
    fill(&mut rig, TAGS);
    let mut peers: Vec<ConnKey> = vec![rig.connect(), rig.connect()];
    let mut sent: HashMap<ConnKey, String> = HashMap::new();
    let mut silent = HashSet::new();
    for step in steps {
        let peer_of = |place: usize| peers[place % peers.len()];
        match step {
            Step::Connect => peers.push(rig.connect()),
            Step::Send(place, request) => {
                let peer = peer_of(place);
                if !silent.contains(&peer) {
                    rig.send(peer, &request);
                    sent.entry(peer).or_default().push_str(&request);
                }
            }
            Step::Window(place, 0) => rig.shut_window(peer_of(place)),
            Step::Window(place, bytes) => rig.open_window(peer_of(place), bytes),
            Step::HalfClose(place) => {
                silent.insert(peer_of(place));
                rig.half_close(peer_of(place));
            }
            Step::BreakOff(place) => rig.break_off(peer_of(place)),
            Step::Turn => rig.turn(),
            Step::Advance(span) => rig.advance(millis(span)),
        }
        prop_assert!(rig.engine.buffer_bytes() <= buffer_memory + 3 * SCRATCH_BYTES);
    }
    for &peer in &peers {
        rig.open_window(peer, usize::MAX);
    }
    rig.settle();
    // Devices may turn silent; then that is told as well.
    rig.advance(seconds(2));
    for peer in peers {
        let line = rig.line(peer);
        let served = !line.finished && line.closed.is_none();
        let received = rig.take(peer);
        if !served {
            continue;
        }
        let Some(known) = follow(sent.get(&peer).map_or("", String::as_str), &received)? else { continue };
        prop_assert_eq!(known.len(), rig.tags().len(), "it knows all tags");
        for (name, state) in known {
            let sample = rig.sample(&name);
            prop_assert_eq!(state, format!("{} {}", sample.value, sample.quality.as_str()), "{}", name);
        }
    }
    rig.wind_up();
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replies_are_whole_and_subscribers_know_the_truth(
        steps in prop::collection::vec(any_step(), 1..120),
        scarce in any::<bool>(),
    ) {
        play(steps, if scarce { 256 * 1024 } else { 16 * 1024 * 1024 })?;
    }
}
