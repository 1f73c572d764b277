//! Nothing is allocated per frame once the engine has warmed up. A binary of its own, because the counter
//! replaces the allocator of the whole process.

#[path = "../benches/support/mod.rs"]
mod support;

use lumina::engine::ConnKey;
use support::Bench;

/// Turns that are counted, at least.
const TURNS: usize = 1_000;
const SUBSCRIBERS: usize = 100;

/// What a peer sends, turn by turn, over and over; how many allocations one round of it may cost.
struct Load {
    name: &'static str,
    turns: Vec<Vec<u8>>,
    allowed: u64,
}

fn load(name: &'static str, turns: &[&str], allowed: u64) -> Load {
    Load { name, turns: turns.iter().map(|turn| turn.as_bytes().to_vec()).collect(), allowed }
}

/// A request that comes in two parts, cut at every place.
fn in_two_parts(requests: &[&str]) -> Vec<Vec<u8>> {
    let cuts = |request: &str| {
        let bytes = request.as_bytes().to_vec();
        (1..bytes.len()).flat_map(move |at| [bytes[..at].to_vec(), bytes[at..].to_vec()])
    };
    requests.iter().flat_map(|request| cuts(request)).collect()
}

fn loads() -> Vec<Load> {
    let singles = [
        load("GET", &["GET plain/float\n"], 0),
        load("SET bool", &["SET plain/bool true\n", "SET plain/bool false\n"], 0),
        load("SET int", &["SET plain/int -7\n", "SET plain/int 1234567890123\n"], 0),
        load("SET float", &["SET plain/float 81.5\n", "SET plain/float 1e-300 uncertain 5\n"], 0),
        load("SET text, equal", &["SET plain/text \"off line\"\n"], 0),
        load("SET text, new", &["SET plain/text \"off\"\n", "SET plain/text \"on line\"\n"], 2),
        load("16 pipelined", &["SET plain/int 1\nGET plain/text\n".repeat(8).as_str()], 0),
        load("UPD to 100", &["SET watched/float 81.5\n", "SET watched/float 82.25\n"], 0),
        load("SET and UPD of text", &["SET watched/text \"a\"\n", "SET watched/text \"b\"\n"], 2),
    ];
    let parts = ["GET plain/text\n", "SET watched/float 5.5\r\n", "SET watched/float 6.5 good 7\n"];
    let partial = Load { name: "partial frames", turns: in_two_parts(&parts), allowed: 0 };
    // Here no text equals the one before it.
    let mut mix = Load { name: "all mixed", turns: partial.turns.clone(), allowed: 5 };
    mix.turns.extend(singles.iter().flat_map(|load| load.turns.iter().cloned()));
    singles.into_iter().chain([partial, mix]).collect()
}

fn run(bench: &mut Bench, peer: ConnKey, load: &Load, rounds: usize) {
    for _ in 0..rounds {
        for bytes in &load.turns {
            bench.turn(peer, bytes);
        }
    }
}

#[test]
fn nothing_is_allocated_in_steady_state() {
    let mut bench = Bench::new();
    let peer = bench.connect();
    for tag in ["plain/bool", "plain/int", "plain/float", "plain/text", "watched/float", "watched/text"] {
        bench.ask(peer, &format!("SET {tag} 0\n"));
    }
    for _ in 0..SUBSCRIBERS {
        let subscriber = bench.connect();
        bench.ask(subscriber, "SUB watched/#\nSUB watched/float\n");
    }
    let before = bench.sent_bytes();
    bench.ask(peer, "SET watched/float 1\n");
    assert!(bench.sent_bytes() - before > SUBSCRIBERS as u64 * 20, "all subscribers are told");

    let mut faults = Vec::new();
    for load in loads() {
        // What is asked is checked; the rounds that warm up and those that are counted go unchecked.
        for turn in &load.turns {
            bench.ask(peer, std::str::from_utf8(turn).expect("the loads are text"));
        }
        let rounds = TURNS.div_ceil(load.turns.len());
        run(&mut bench, peer, &load, rounds);
        let counted = allocation_counter::measure(|| run(&mut bench, peer, &load, rounds));
        let (count, turns) = (counted.count_total, rounds * load.turns.len());
        let row = format!("{:20} {count:5} allocations in {turns} turns", load.name);
        println!("{row}");
        if count > load.allowed * rounds as u64 {
            faults.push(row);
        }
    }
    assert!(faults.is_empty(), "allocations in steady state:\n{}", faults.join("\n"));
    let counted = allocation_counter::measure(|| drop(bench.ask(peer, "READ #\n")));
    assert!(counted.count_total > 0, "the counter counts");
}

/// A device whose frames are recorded, and somebody who follows them: the memory for them is full soon, and
/// goes round from then on.
#[test]
fn recorded_frames_cost_no_allocation() {
    let mut bench = Bench::new();
    let (device, reader) = (bench.connect(), bench.connect());
    bench.ask(device, "HELLO press3\nSET plain/float 0\n");
    let load = load("recorded", &["SET plain/float 81.5\nGET plain/float\n", "SET plain/float 1\n"], 0);
    run(&mut bench, device, &load, 2 * TURNS);
    bench.ask(reader, "TRACE press3\n");
    run(&mut bench, device, &load, TURNS);
    let before = bench.sent_bytes();
    let counted = allocation_counter::measure(|| run(&mut bench, device, &load, TURNS));
    assert!(bench.sent_bytes() - before > TURNS as u64 * 200, "the reader is told");
    assert_eq!(counted.count_total, 0);
}

/// The codec of Modbus and the numbers in its registers: bytes in, bytes out, and nothing between.
#[test]
fn modbus_messages_and_numbers_cost_no_allocation() {
    use lumina::protocols::modbus::{Conversion, Order, Pdu, Request, Response, Type, mbap};

    let asked = [0, 1, 0, 0, 0, 6, 9, 3, 0, 100, 0, 2];
    let round = || {
        let frame = mbap::Frame::parse(&asked).expect("a frame").expect("a whole one");
        let request = Request::decode(frame.pdu).expect("a request");
        let answered = [3, 4, 0x42, 0xA3, 0x33, 0x33];
        let Ok(Response::ReadHoldings(registers)) = Response::decode(&request, &answered) else {
            panic!("{answered:?} is no answer")
        };
        for (kind, scale) in [(Type::F32, 0.1), (Type::U32, 0.1), (Type::I32, 10.0), (Type::Bcd32, 1.0)] {
            let conversion = Conversion::new(kind, Order::Cdab, Some(scale), None).expect("a scale");
            let mut bytes = [0; 4];
            if let Ok(value) = conversion.read(registers) {
                conversion.write(&value, &mut bytes).expect("what was read can be written");
                assert_eq!(bytes, registers.as_bytes());
            }
        }
        let mut pdu = Pdu::new();
        Response::ReadHoldings(registers).encode(&mut pdu);
        assert_eq!(*pdu, answered);
        std::hint::black_box(mbap::header(frame.transaction, frame.unit, pdu.len()));
    };
    let counted = allocation_counter::measure(|| (0..100).for_each(|_| round()));
    assert_eq!(counted.count_total, 0);
}
