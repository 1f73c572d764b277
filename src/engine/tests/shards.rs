//! Several shards, each in a thread of its own and as fast as they can: no value is torn, none is told after
//! a newer one or twice, what was confirmed is seen everywhere, and who sleeps is woken.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::Instant;

use super::*;
use crate::base::mutants::{Mutant, plant};
use crate::base::random::Random;
use crate::base::time::Timestamp;
use crate::tags::value::{Kind, Quality};
use crate::tags::{Declaration, OwnerId};

const SHARDS: usize = 3;
/// Tags that one shard writes.
const TAGS_EACH: usize = 8;
/// Versions of each of them.
const VERSIONS: u64 = 2_000;
/// A tag of the device is written once in so many versions.
const VERSIONS_PER_ORDER: u64 = 4;
/// All wait for each other once in so many versions: then nothing that comes later makes up for a change or a
/// wake-up that was lost.
const VERSIONS_PER_MEETING: u64 = 10;
/// Whoever sleeps for so long was not woken; where that is what a planted bug leads to, it may be said
/// sooner.
const LONGEST_SLEEP: Duration = Duration::from_secs(20);
const LONGEST_SLEEP_WITH_BUG: Duration = Duration::from_secs(2);
const NOT_WOKEN: &str = "was not woken";

/// What all threads know.
struct Common {
    /// The newest version of each tag that its writer was told is written.
    confirmed: Vec<AtomicU64>,
    /// Shards whose writer and reader have seen all there is.
    finished: AtomicU64,
    /// Somebody complains: all may go.
    failed: AtomicBool,
}

/// However a thread ends, the others hear of it if it had something to complain about.
struct TellsOthers<'a>(&'a Common, Arc<Shared>);

impl Drop for TellsOthers<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.failed.store(true, SeqCst);
            (0..SHARDS).for_each(|shard| self.1.bell(shard).ring());
        }
    }
}

/// Confirms whatever it is told to write.
struct Device;

impl Session for Device {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Flow {
        cx.attach(OwnerId(0), Arc::new(Undemanding));
        Flow::Continue
    }

    fn on_bytes(&mut self, _cx: &mut Context<'_>, _input: &[u8]) -> Consumed {
        unreachable!("it has no peer")
    }

    fn on_write_order(&mut self, cx: &mut Context<'_>, order: WriteOrder) -> Flow {
        cx.report(order.tag, order.value.as_input(), Quality::Good, Timestamp(7));
        cx.settle(order.ticket, Ok(()));
        Flow::Continue
    }
}

fn checksum(tag: usize, version: u64) -> u64 {
    (version + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ tag as u64
}

/// A text that cannot be mistaken for a mixture of two: of any length, with a sum at either end.
fn text(tag: usize, version: u64) -> String {
    let sum = checksum(tag, version);
    let padding = "x".repeat((sum % 50) as usize);
    format!("{sum:x}.{version}.{padding}.{sum:x}")
}

/// The version of a sample, which is its time as well.
fn parse(tag: usize, value: &str, time: &str) -> u64 {
    let version = value.split('.').nth(1).and_then(|version| version.parse().ok());
    let version = version.unwrap_or_else(|| panic!("tag {tag} is {value}"));
    let (whole, its_time) = (format!("\"{}\"", text(tag, version)), version.to_string());
    assert_eq!((value, time), (&*whole, &*its_time), "tag {tag} is torn");
    version
}

/// One shard with a writer and a reader of its own.
struct Runner {
    shard: usize,
    rig: Rig,
    writer: ConnKey,
    reader: ConnKey,
    random: Random,
    longest_sleep: Duration,
    /// The version that is written now.
    version: u64,
    /// What the writer waits for.
    awaited: Vec<Awaited>,
    /// The newest version of each tag that the reader was told.
    told: Vec<u64>,
    told_of_device: Vec<u64>,
}

enum Awaited {
    Set(usize),
    Get { tag: usize, at_least: u64 },
    Order,
}

impl Runner {
    fn run(mut self, common: &Common) -> Rig {
        let me = thread::current();
        let _tells_others = TellsOthers(common, Arc::clone(self.rig.engine.shared()));
        self.rig.engine.shared().bell(self.shard).hang(move || me.unpark());
        self.rig.send(self.reader, "SUB #\n");
        let mut was_finished = false;
        loop {
            self.rig.turn();
            self.read_replies(common);
            self.read_changes();
            if self.may_write() {
                self.write(common);
                continue;
            }
            if self.has_seen_all() && !was_finished {
                was_finished = true;
                common.finished.fetch_add(1, SeqCst);
                (0..SHARDS).for_each(|shard| self.rig.engine.shared().bell(shard).ring());
            }
            if common.finished.load(SeqCst) == SHARDS as u64 || common.failed.load(SeqCst) {
                return self.rig;
            }
            if self.rig.next > self.rig.now() {
                let since = Instant::now();
                thread::park_timeout(self.longest_sleep);
                assert!(since.elapsed() < self.longest_sleep, "shard {} {NOT_WOKEN}", self.shard);
            }
        }
    }

    fn may_write(&self) -> bool {
        let meets = self.version % VERSIONS_PER_MEETING == 0;
        let has_met = !meets || self.told.iter().all(|&version| version >= self.version);
        self.awaited.is_empty() && self.version < VERSIONS && has_met
    }

    fn write(&mut self, common: &Common) {
        self.version += 1;
        let mut requests = String::new();
        for place in 0..TAGS_EACH {
            let tag = self.shard * TAGS_EACH + place;
            requests += &format!("SET t/{tag} \"{}\" good {}\n", text(tag, self.version), self.version);
            self.awaited.push(Awaited::Set(tag));
        }
        if self.version % VERSIONS_PER_ORDER == 0 {
            requests += &format!("SET dev/{} {}\n", self.shard, self.version);
            self.awaited.push(Awaited::Order);
        }
        let tag = self.random.below(SHARDS * TAGS_EACH);
        let at_least = common.confirmed[tag].load(SeqCst);
        requests += &format!("GET t/{tag}\n");
        self.awaited.push(Awaited::Get { tag, at_least });
        self.awaited.reverse();
        self.rig.send(self.writer, requests);
    }

    fn read_replies(&mut self, common: &Common) {
        for line in self.rig.take(self.writer).lines() {
            match self.awaited.pop().expect("a reply answers a request") {
                Awaited::Set(tag) => {
                    assert_eq!(line, "OK");
                    common.confirmed[tag].store(self.version, SeqCst);
                }
                Awaited::Order => assert_eq!(line, "OK"),
                Awaited::Get { tag, at_least } => {
                    let version = match line.split(' ').collect::<Vec<_>>()[..] {
                        ["OK", value, "good", time] => parse(tag, value, time),
                        _ => 0,
                    };
                    assert!(version >= at_least, "{at_least} of {tag} was confirmed, and read {line}");
                }
            }
        }
    }

    fn read_changes(&mut self) {
        for line in self.rig.take(self.reader).lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let &["VAL" | "UPD", name, value, quality, time] = &fields[..] else { continue };
            if (value, quality, time) == ("null", "bad", "0") {
                // It was made just now, and its first value is on its way.
                continue;
            }
            let (kind, number) = name.split_once('/').expect("the tags have two levels");
            let number: usize = number.parse().expect("the tags are numbered");
            let (told, version) = match kind {
                "t" => (&mut self.told[number], parse(number, value, time)),
                _ => (&mut self.told_of_device[number], value.parse().unwrap_or(0)),
            };
            assert!(version > *told, "{name} was {told} and is {version}");
            *told = version;
        }
    }

    fn has_seen_all(&self) -> bool {
        let last_order = VERSIONS / VERSIONS_PER_ORDER * VERSIONS_PER_ORDER;
        self.awaited.is_empty()
            && self.version == VERSIONS
            && self.told.iter().all(|&version| version == VERSIONS)
            && self.told_of_device.iter().all(|&version| version == last_order)
    }
}

/// Live through it, with a bug in each thread that strikes once in so many times. What the threads have to
/// complain about.
fn run(bug: Option<(Mutant, u32)>, longest_sleep: Duration) -> Result<(), Vec<String>> {
    let owners = vec!["dev".into()];
    let mut rigs = Rig::shards(SHARDS, "line", RigSettings { owners, ..RigSettings::default() });
    for shard in 0..SHARDS {
        let owner = Some(OwnerId(0));
        rigs[0].declare(
            &format!("dev/{shard}"),
            Declaration { kind: Kind::Int, owner, ..Declaration::default() },
        );
    }
    rigs[1].engine.house(Box::new(Device));
    // One each in the order of the shards.
    let writers: Vec<_> = (0..SHARDS).map(|_| Rig::connect_to_some(&mut rigs)).collect();
    let readers: Vec<_> = (0..SHARDS).map(|_| Rig::connect_to_some(&mut rigs)).collect();
    let common = Common {
        confirmed: (0..SHARDS * TAGS_EACH).map(|_| AtomicU64::new(0)).collect(),
        finished: AtomicU64::new(0),
        failed: AtomicBool::new(false),
    };
    let ends: Vec<thread::Result<Rig>> = thread::scope(|scope| {
        let runners = rigs.into_iter().enumerate().map(|(shard, rig)| Runner {
            shard,
            rig,
            writer: writers[shard].1,
            reader: readers[shard].1,
            random: Random::new(shard as u64),
            longest_sleep,
            version: 0,
            awaited: Vec::new(),
            told: vec![0; SHARDS * TAGS_EACH],
            told_of_device: vec![0; SHARDS],
        });
        let common = &common;
        let spawn = |runner: Runner| {
            scope.spawn(move || {
                let _planted = bug.map(|(mutant, one_in)| plant(mutant, one_in));
                runner.run(common)
            })
        };
        let threads: Vec<_> = runners.map(spawn).collect();
        threads.into_iter().map(|thread| thread.join()).collect()
    });
    assert!([&writers, &readers].iter().all(|keys| keys.iter().map(|key| key.0).eq(0..SHARDS)));
    let (mut rigs, mut complaints) = (Vec::new(), Vec::new());
    for end in ends {
        match end {
            Ok(rig) => rigs.push(rig),
            Err(panic) => complaints.extend(panic.downcast::<String>().ok().map(|text| *text)),
        }
    }
    if complaints.is_empty() {
        assert_eq!(rigs.len(), SHARDS, "who panics says why");
        rigs.into_iter().for_each(Rig::wind_up);
        return Ok(());
    }
    Err(complaints)
}

#[test]
fn threads_see_each_others_values_whole_in_order_and_at_once() {
    assert_eq!(run(None, LONGEST_SLEEP), Ok(()));
}

#[track_caller]
fn is_noticed(mutant: Mutant, one_in: u32, how: &[&str]) {
    let longest_sleep = if how == [NOT_WOKEN] { LONGEST_SLEEP_WITH_BUG } else { LONGEST_SLEEP };
    let complaints = run(Some((mutant, one_in)), longest_sleep).expect_err("nobody noticed the bug");
    let is_so = |complaint: &String| how.iter().any(|how| complaint.contains(how));
    assert!(complaints.iter().any(is_so), "{complaints:?}");
}

#[test]
fn a_lost_wake_up_is_noticed() {
    is_noticed(Mutant::LostWake, 20, &[NOT_WOKEN]);
}

#[test]
fn a_torn_sample_is_noticed() {
    // The first of a tag is torn where it has a time and no value yet.
    is_noticed(Mutant::TornSample, 5, &["is torn", "is null"]);
}

#[test]
fn an_old_sample_after_a_new_one_is_noticed() {
    is_noticed(Mutant::OldAfterNew, 5, &[" and is ", "was confirmed, and read"]);
}

#[test]
fn a_change_that_is_never_told_is_noticed() {
    is_noticed(Mutant::MarkClearedLate, 2, &[NOT_WOKEN]);
}
