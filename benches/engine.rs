//! What the engine itself costs, without sockets and clocks: requests a second through a wire that takes
//! everything, changes dealt out, patterns matched.

mod support;

use std::fmt::Write;
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lumina::tags::name::Pattern;
use lumina::tags::{Subscriptions, TagId};
use support::Bench;

const TAG: &str = "line1/press3/temperature";

/// One request a turn, then 16: what a turn costs shows in the difference.
fn requests(c: &mut Criterion) {
    let mut group = c.benchmark_group("requests");
    let (get, low, high) =
        (format!("GET {TAG}\n"), format!("SET {TAG} 81.5\n"), format!("SET {TAG} 82.25\n"));
    let both = [format!("{low}{get}"), format!("{high}{get}")];
    let rows = [
        ("get", 1, [get.clone(), get]),
        ("set_float", 1, [low, high]),
        ("set_get_16_pipelined", 16, both.map(|pair| pair.repeat(8))),
    ];
    for (name, count, [even, odd]) in rows {
        let mut bench = Bench::new();
        let peer = bench.connect();
        bench.ask(peer, &format!("SET {TAG} 80.0\n"));
        assert_eq!(bench.ask(peer, &even).lines().count(), count);
        group.throughput(Throughput::Elements(2 * count as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                bench.turn(peer, even.as_bytes());
                bench.turn(peer, odd.as_bytes());
            });
        });
    }
    group.finish();
}

/// A tag changes, and all its subscribers are told; counted by deliveries.
fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan_out");
    for count in [1, 100, 1_000] {
        let mut bench = Bench::new();
        let writer = bench.connect();
        bench.ask(writer, &format!("SET {TAG} 80.0\n"));
        for _ in 0..count {
            let subscriber = bench.connect();
            bench.ask(subscriber, &format!("SUB {TAG}\n"));
        }
        let [even, odd] = ["81.5", "82.25"].map(|value| format!("SET {TAG} {value}\n"));
        let before = bench.sent_bytes();
        bench.turn(writer, even.as_bytes());
        assert!(bench.sent_bytes() - before > count * 20, "all subscribers are told");
        bench.turn(writer, odd.as_bytes());
        group.throughput(Throughput::Elements(2 * count));
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| {
                bench.turn(writer, even.as_bytes());
                bench.turn(writer, odd.as_bytes());
            });
        });
    }
    group.finish();
}

/// The long reply: `READ #` of 10,000 tags, counted by tags.
fn read_all(c: &mut Criterion) {
    const TAGS: usize = 10_000;
    let mut bench = Bench::new();
    let peer = bench.connect();
    let mut requests = String::new();
    for tag in 0..TAGS {
        let _ = writeln!(requests, "SET {} {}.5", tag_name(tag), tag);
    }
    bench.ask(peer, &requests);
    assert_eq!(bench.ask(peer, "READ #\n").lines().count(), TAGS + 1);
    let mut group = c.benchmark_group("read_all");
    group.throughput(Throughput::Elements(TAGS as u64));
    group.bench_function(BenchmarkId::from_parameter(TAGS), |b| {
        b.iter(|| {
            let mut more = bench.turn(peer, b"READ #\n");
            while more {
                more = bench.turn(peer, b"");
            }
        });
    });
    group.finish();
}

/// 1,000 patterns over 100,000 tags: found in the cache, and looked for in the trie.
fn matching(c: &mut Criterion) {
    const TAGS: usize = 100_000;
    let names: Vec<String> = (0..TAGS).map(tag_name).collect();
    let mut subscriptions = Subscriptions::new();
    for (subscriber, text) in (0..).zip(thousand_patterns()) {
        assert!(subscriptions.add(subscriber, pattern(&text), 0).1.is_new(), "{text} comes twice");
    }
    let mut group = c.benchmark_group("matching");
    group.throughput(Throughput::Elements(TAGS as u64));
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    group.bench_function("cache_hit", |b| b.iter(|| match_all(&mut subscriptions, &names)));
    group.bench_function("cache_miss", |b| {
        b.iter(|| {
            // A pattern that comes and goes retires what is cached.
            let (id, _) = subscriptions.add(0, pattern("retire/#"), 0);
            subscriptions.remove(0, id);
            match_all(&mut subscriptions, &names);
        });
    });
    group.finish();
}

fn match_all(subscriptions: &mut Subscriptions, names: &[String]) {
    let mut found = 0_u64;
    for (tag, name) in (0..).zip(names) {
        subscriptions.for_each_match(TagId(tag), || name, |_, _| found += 1);
    }
    // Nine of ten presses are subscribed to.
    assert!(black_box(found) >= names.len() as u64 * 9 / 10);
}

/// 10 lines of 100 presses with signals, until there are enough.
fn tag_name(tag: usize) -> String {
    format!("line{}/press{}/signal{}", tag % 10, tag / 10 % 100, tag / 1_000)
}

fn pattern(text: &str) -> Pattern<'_> {
    Pattern::parse(text).expect("a pattern")
}

/// 900 presses, a signal of presses of all lines 50 times, a signal of all presses of a line 50 times.
fn thousand_patterns() -> Vec<String> {
    let presses = (0..1_000).map(|at| format!("line{}/press{}/#", at % 10, at / 10));
    let across = (0..50).map(|at| format!("+/press{at}/signal{at}"));
    let signals = (0..50).map(|at| format!("line{}/+/signal{at}", at % 10));
    across.chain(signals).chain(presses.take(900)).collect()
}

criterion_group!(benches, requests, fan_out, read_all, matching);
criterion_main!(benches);
