//! A client of the line protocol that plays one of several parts.

use super::{Ended, Hand, Peer, Table};
use crate::base::random::Random;
use crate::engine::End;
use crate::simulation::client::{Asked, Client};
use crate::simulation::link::Appetite;
use crate::simulation::plan::LINE;
use crate::simulation::record::Book;
use crate::simulation::units;

/// What a talker does all day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::simulation) enum Part {
    /// Says `HELLO`, writes its tags, sometimes asks something; comes again when it is cut off.
    Device,
    /// Subscribes to patterns, at whatever speed it can read.
    Subscriber { slow: bool },
    /// Sends some requests and its end, takes all replies and the end, and comes again.
    HalfCloser,
    /// Writes the tags of a polled device, which takes its time.
    Operator,
}

/// Requests that wait for replies, at most: more would only queue at the peer.
const MOST_WAITING: usize = 48;
const PATTERNS: [&str; 13] = [
    "#",
    "dev0/#",
    "+/t0",
    "dev1/+",
    "plc0/#",
    "udp/+",
    "half0/t1",
    "$server/connections",
    "rep0/+/x",
    "mb/#",
    "modbus/#",
    // A master's register, and one of a block: there is no such tag before somebody names it.
    "modbus/1/holding/600",
    "modbus/1/holding/3",
];
/// Tags that somebody may ask for.
const KNOWN_TAGS: [&str; 11] = [
    "dev0/t0",
    "dev0/t1",
    "dev1/t0",
    "dev2/t2",
    "half0/t0",
    "plc0/r0-0",
    "rep0/a0/x",
    "mb/f",
    "modbus/1/holding/600",
    "modbus/1/holding/601",
    "modbus/1/holding/616",
];
/// A slow reader: between 20 and 60 KB a second.
const SLOW: Appetite = Appetite { pause_us: 25_000, most_bytes: 1_024 };
/// Reads nothing for longer than `write_stall`.
const STUCK: Appetite = Appetite { pause_us: 60_000_000, most_bytes: 1_024 };

/// Tags of the polled device for each operator.
pub(in crate::simulation) const POLLED_TAGS_EACH: usize = 8;

/// The name of a tag of the polled device.
pub(in crate::simulation) fn polled_tag(operator: impl std::fmt::Display, number: usize) -> String {
    format!("plc0/r{operator}-{number}")
}

pub(in crate::simulation) struct Talker {
    part: Part,
    client: Client,
    tags: Vec<String>,
    /// How many connections there were.
    connections: usize,
    /// The last version that was sent of any tag of ours.
    version: i64,
    /// Text that makes a value long; 0 for numbers.
    padding: usize,
    pause_us: u64,
    /// A line whose end is sent later.
    rest: Vec<u8>,
    /// We have sent our end.
    finished: bool,
    pings: u64,
    /// When the next wake-up is; others are left over from earlier connections.
    wake_at_us: u64,
    excused: Vec<End>,
}

impl Talker {
    pub(in crate::simulation) fn new(
        part: Part,
        name: &str,
        tags: usize,
        random: &mut Random,
        book: Book,
    ) -> Talker {
        let count = 1 + random.below(tags);
        let tags = match part {
            Part::Operator | Part::HalfCloser => Vec::new(),
            _ => (0..count).map(|tag| format!("{name}/t{tag}")).collect(),
        };
        let wide = part != Part::Operator && random.one_in(2);
        let mut excused = Vec::new();
        match part {
            Part::Device => excused.push(End::TakenOver),
            Part::Subscriber { slow: true } => excused.push(End::Slow),
            _ => {}
        }
        Talker {
            part,
            client: Client::new(name.to_owned(), book),
            tags,
            connections: 0,
            version: 0,
            padding: if wide { 200 + random.below(700) } else { 0 },
            pause_us: random.within(2_000..=60_000),
            rest: Vec::new(),
            finished: false,
            pings: 0,
            wake_at_us: 0,
            excused,
        }
    }

    /// Besides, the server may close it for this.
    pub(in crate::simulation) fn excuse(&mut self, why: End) {
        self.excused.push(why);
    }

    fn sleep(&mut self, hand: &mut Hand<'_>, us: u64) {
        self.wake_at_us = hand.net.now_us + us;
        hand.wake_in(us);
    }

    fn begin(&mut self, hand: &mut Hand<'_>) {
        self.choose_tags();
        self.client.on_open();
        self.rest.clear();
        self.finished = false;
        hand.call(LINE);
        let mut out = String::new();
        match self.part {
            Part::Device => {
                let timeout = hand.random().pick(&["", "", " 300ms", " 1s"]);
                let line = format!("HELLO {}{timeout}", self.client.name);
                self.client.ask(Asked::Hello, &line, &mut out);
            }
            Part::Subscriber { slow } => {
                if slow {
                    hand.read_at(SLOW);
                }
                for _ in 0..1 + hand.random().below(3) {
                    self.subscribe(hand.random(), &mut out);
                }
            }
            Part::HalfCloser | Part::Operator => {}
        }
        hand.send(out.as_bytes());
        if self.part == Part::HalfCloser {
            self.speak_once(hand);
        }
    }

    /// Who does not say `HELLO` is not known when it comes again, and what it sent on an earlier connection
    /// may still be carried out; so may a `HELLO` that was not answered, and then the earlier connection
    /// takes over from the later one. So that each tag has one writer, such a connection is followed by one
    /// with other tags.
    fn choose_tags(&mut self) {
        let (name, number) = (&self.client.name, self.connections);
        self.connections += 1;
        match self.part {
            Part::Operator => self.tags = vec![polled_tag(name.trim_start_matches("oper"), number)],
            Part::HalfCloser => {
                self.tags = vec![format!("{name}/t{number}")];
                // A register is a tag like others, but for what it can hold.
                if self.padding == 0 && number < units::LINE_REGISTERS_EACH {
                    let client = name.trim_start_matches("half").parse().expect("half-closers are numbered");
                    self.tags.push(units::tag_of(units::line_register(client, number)));
                }
            }
            Part::Device if number > 0 && !self.client.is_greeted() => {
                let tags = self.tags.len();
                self.tags = (0..tags).map(|tag| format!("{name}/t{tag}-{number}")).collect();
            }
            Part::Device | Part::Subscriber { .. } => {}
        }
    }

    /// All requests, perhaps the beginning of another, and the end.
    fn speak_once(&mut self, hand: &mut Hand<'_>) {
        let mut out = String::new();
        for _ in 0..1 + hand.random().below(24) {
            self.request(hand.random(), &mut out);
        }
        if hand.random().one_in(3) {
            self.client.ask(Asked::Read("#".to_owned()), "READ #", &mut out);
        }
        if hand.random().one_in(4) {
            out.push_str("PING unfinished");
        }
        hand.send(out.as_bytes());
        hand.finish();
        self.finished = true;
    }

    fn subscribe(&mut self, random: &mut Random, out: &mut String) {
        let pattern = random.pick(&PATTERNS);
        if self.client.is_settled(pattern) {
            self.client.ask(Asked::Sub(pattern.to_owned()), &format!("SUB {pattern}"), out);
        }
    }

    fn unsubscribe(&mut self, random: &mut Random, out: &mut String) {
        let patterns = self.client.patterns();
        if patterns.len() > 1 {
            let pattern = &patterns[random.below(patterns.len())];
            if self.client.is_settled(pattern) {
                self.client.ask(Asked::Unsub(pattern.clone()), &format!("UNSUB {pattern}"), out);
            }
        }
    }

    fn write(&mut self, random: &mut Random, out: &mut String) {
        self.version += 1;
        let tag = random.below(self.tags.len());
        self.client.ask_set(&self.tags[tag], self.version, self.padding, out);
    }

    fn write_some(&mut self, hand: &mut Hand<'_>) {
        let mut out = String::new();
        for _ in 0..1 + hand.random().below(4) {
            self.write(hand.random(), &mut out);
        }
        hand.send(out.as_bytes());
    }

    fn ping(&mut self, out: &mut String) {
        self.pings += 1;
        let text = format!("{}-{}", self.client.name, self.pings);
        self.client.ask(Asked::Ping(text.clone()), &format!("PING {text}"), out);
    }

    /// One request, of those that suit the part.
    fn request(&mut self, random: &mut Random, out: &mut String) {
        let writes = match self.part {
            Part::Device | Part::Operator => 6,
            Part::HalfCloser => 3,
            Part::Subscriber { .. } => 0,
        };
        let turns = match self.part {
            Part::Subscriber { .. } => 3,
            _ => 0,
        };
        let choice = random.below(writes + turns + 7);
        if choice < writes {
            return self.write(random, out);
        }
        match choice - writes {
            0 | 1 => self.ping(out),
            2 => self.client.ask_get(random.pick(&KNOWN_TAGS), out),
            3 if self.part != (Part::Subscriber { slow: true }) => {
                let tag = self.tags[random.below(self.tags.len())].clone();
                self.client.ask_get(&tag, out);
            }
            3 | 4 => self.wrong(random, out),
            5 => self.long(random, out),
            6 => self.client.ask(Asked::Time, "time", out),
            7 => self.unsubscribe(random, out),
            _ => self.subscribe(random, out),
        }
    }

    fn wrong(&mut self, random: &mut Random, out: &mut String) {
        const WRONG: [(&str, &str); 6] = [
            ("NOPE a/b", "bad-request"),
            ("GET a//b", "bad-name"),
            ("GET no/such", "not-found"),
            ("SET $server/name 1", "read-only"),
            ("UNSUB never/held", "not-found"),
            ("SET a/b warm", "bad-value"),
        ];
        let (line, code) = WRONG[random.below(WRONG.len())];
        self.client.ask(Asked::Wrong(code), line, out);
    }

    fn long(&mut self, random: &mut Random, out: &mut String) {
        match random.below(6) {
            0 => self.client.ask(Asked::Info, "INFO", out),
            1 => self.client.ask(Asked::Help, "HELP", out),
            2 => self.client.ask(Asked::List("#".to_owned()), "LIST #", out),
            3 => self.client.ask(Asked::Read("$server/#".to_owned()), "READ $server/#", out),
            _ => {
                let pattern = random.pick(&PATTERNS).to_owned();
                let line = format!("READ {pattern}");
                self.client.ask(Asked::Read(pattern), &line, out);
            }
        }
    }

    /// Something harmful to oneself: once in a while.
    fn misbehave(&mut self, hand: &mut Hand<'_>) -> bool {
        match (self.part, hand.random().below(60)) {
            (Part::Device, 0) => hand.reset(),
            (Part::Device, 1) => hand.vanish(),
            (Part::Device, 2) => {
                // It restarts, and is back before the server knows that it was gone; what it said before is
                // still under way.
                self.write_some(hand);
                hand.vanish();
                self.begin(hand);
                self.write_some(hand);
                return false;
            }
            (Part::Subscriber { slow: true }, 0 | 2..=4) => {
                hand.read_at(STUCK);
                return false;
            }
            (Part::Subscriber { .. }, 1) => hand.reset(),
            (Part::Operator, 0) => hand.reset(),
            _ => return false,
        }
        true
    }
}

impl Peer for Talker {
    fn on_bytes(&mut self, _hand: &mut Hand<'_>, bytes: &[u8]) {
        self.client.on_bytes(bytes);
    }

    fn on_end(&mut self, hand: &mut Hand<'_>, how: Ended) {
        if how == Ended::Orderly {
            self.client.on_end();
        }
        let us = hand.random().within(1_000..=300_000);
        self.sleep(hand, us);
    }

    fn on_wake(&mut self, hand: &mut Hand<'_>) {
        if hand.net.now_us < self.wake_at_us {
            return;
        }
        if !hand.is_connected() {
            let spent = self.part == Part::Operator && self.connections == POLLED_TAGS_EACH;
            if !hand.quiet && !spent {
                self.begin(hand);
                let us = self.pause_us;
                self.sleep(hand, us);
            }
            return;
        }
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            hand.send(&rest);
        }
        if self.finished || hand.quiet {
            return;
        }
        if !self.misbehave(hand) && self.client.waiting() < MOST_WAITING && !self.client.is_refused() {
            let mut out = String::new();
            let burst = hand.random().pick(&[&1, &1, &3, &12]);
            for _ in 0..*burst {
                self.request(hand.random(), &mut out);
            }
            let mut bytes = out.into_bytes();
            if hand.random().one_in(5) && bytes.len() > 1 {
                let cut = 1 + hand.random().below(bytes.len() - 1);
                self.rest = bytes.split_off(cut);
            }
            hand.send(&bytes);
            if self.rest.is_empty() && hand.random().one_in(80) {
                let mut out = String::new();
                self.client.ask(Asked::Quit, "QUIT", &mut out);
                hand.send(out.as_bytes());
                self.finished = true;
            }
        }
        let us = self.pause_us / 2 + hand.random().below(self.pause_us as usize) as u64;
        self.sleep(hand, us);
    }

    fn on_quiet(&mut self, hand: &mut Hand<'_>) {
        let rest = std::mem::take(&mut self.rest);
        hand.send(&rest);
        hand.read_at(Appetite::HEARTY);
    }

    fn check_quiet(&self, table: &Table) {
        if !self.client.is_refused() {
            self.client.check_nothing_waits("when all is quiet");
            self.client.check_told(table);
        }
    }

    fn excused(&self) -> &[End] {
        &self.excused
    }
}
