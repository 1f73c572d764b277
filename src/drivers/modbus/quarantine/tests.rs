//! A unit that the test makes, and what is asked of it scan by scan.

mod any;
mod units;

use super::super::places::Point;
use super::super::plan::Limits;
use super::*;
use crate::protocols::modbus::{Area, Span};

/// A unit, the scans of its group 0, and what they read.
struct Plant {
    points: Vec<Point>,
    plan: Arc<Plan>,
    quarantine: Quarantine,
    unit: Unit,
    /// Milliseconds.
    now: u64,
    rate: u64,
}

/// What a unit has. It refuses requests for anything else.
#[derive(Clone, Debug, Default)]
struct Unit {
    missing: Vec<u16>,
    /// No request may read both this address and the one before.
    borders: Vec<u16>,
    /// Registers in a request; 0 is any number.
    most: u16,
}

impl Unit {
    fn without(missing: &[u16]) -> Unit {
        Unit { missing: missing.to_vec(), ..Unit::default() }
    }

    fn reads(&self, span: Span) -> bool {
        let inside = |address: &u16| (u32::from(span.start)..span.end()).contains(&u32::from(*address));
        !self.missing.iter().any(inside)
            && !self.borders.iter().any(|border| *border > span.start && inside(border))
            && (self.most == 0 || span.quantity <= self.most)
    }
}

impl Plant {
    /// Points of the group 0, as start and length.
    fn new(points: &[(u16, u16)], unit: Unit) -> Plant {
        Plant::with_most(125, points, unit)
    }

    /// So many registers in a request.
    fn with_most(max_registers: u16, points: &[(u16, u16)], unit: Unit) -> Plant {
        let point = |&(start, quantity)| holding(0, start, quantity);
        let limits = Limits { max_registers, ..Limits::default() };
        Plant::of(&points.iter().map(point).collect::<Vec<_>>(), limits, unit)
    }

    fn of(points: &[Point], limits: Limits, unit: Unit) -> Plant {
        let plan = Arc::new(Plan::new(points, limits));
        let quarantine = Quarantine::new(Arc::clone(&plan));
        Plant { points: points.to_vec(), plan, quarantine, unit, now: 0, rate: 1_000 }
    }

    fn tick(&self) -> Tick {
        Tick::from_micros(self.now * 1_000)
    }

    /// Live through a scan of the group 0, and wait for the next: what was asked for, in parentheses if to
    /// learn. Refused: `?` if nothing is known of it yet, `!` if it is bad, `!!` if it is the unit.
    fn scan(&mut self) -> String {
        let mut said = Vec::new();
        let polled: Vec<Block> = self.quarantine.on_scan(0).collect();
        for block in polled {
            said.push(self.ask(&block));
        }
        while let Some(trial) = self.quarantine.next_trial(0, self.tick()) {
            said.push(format!("({})", self.ask(&trial)));
        }
        self.now += self.rate;
        said.join(" ")
    }

    fn ask(&mut self, block: &Block) -> String {
        let name = name(block);
        if self.unit.reads(block.span) {
            self.quarantine.on_read(block);
            return name;
        }
        match self.quarantine.on_refused(block, self.tick()) {
            Verdict::Open => name + "?",
            Verdict::Bad => name + "!",
            Verdict::Unit => name + "!!",
        }
    }

    fn scans(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.scan()).collect()
    }

    fn bad(&self) -> Vec<String> {
        self.quarantine.bad().map(|block| name(&block)).collect()
    }

    /// The points that the next scan reads in any case.
    fn polled(&mut self) -> Vec<usize> {
        let polled: Vec<Block> = self.quarantine.on_scan(0).collect();
        self.points_of(polled.into_iter().filter(|block| self.unit.reads(block.span)))
    }

    fn points_of(&self, blocks: impl Iterator<Item = Block>) -> Vec<usize> {
        let found = blocks.flat_map(|block| self.plan.found(&block).collect::<Vec<_>>());
        let mut points: Vec<usize> = found.map(|found| found.point).collect();
        points.sort_unstable();
        points
    }
}

/// `4` or `4-7`.
fn name(block: &Block) -> String {
    let Span { start, quantity } = block.span;
    if quantity == 1 { start.to_string() } else { format!("{start}-{}", start + quantity - 1) }
}

fn holding(group: u16, start: u16, quantity: u16) -> Point {
    Point { group, area: Area::Holding, span: Span { start, quantity } }
}

/// Registers with a point each.
fn registers(starts: impl Iterator<Item = u16>) -> Vec<(u16, u16)> {
    starts.map(|start| (start, 1)).collect()
}

/// The scans of some points, one a second, beginning with the first.
#[track_caller]
fn check(points: &[(u16, u16)], unit: Unit, want: &[&str]) {
    let mut plant = Plant::new(points, unit);
    assert_eq!(plant.scans(want.len()), want);
}

#[test]
fn what_is_answered_is_polled() {
    check(&registers(0..8), Unit::default(), &["0-7", "0-7"]);
}

/// All that can be read is, as early as two requests a scan allow.
#[test]
fn a_bad_address_is_found_by_halving() {
    check(
        &registers(0..8),
        Unit::without(&[5]),
        &["0-7?", "0-7? (0-3) (4-7?)", "0-3 (4-5?) (6-7)", "0-3 6-7 (4) (5!)", "0-3 4 6-7 (0-4)", "0-4 6-7"],
    );
}

#[test]
fn a_refusal_is_believed_when_it_is_repeated_a_second_later() {
    let mut plant = Plant::new(&registers(0..2), Unit::without(&[1]));
    plant.rate = 400;
    assert_eq!(plant.scans(4), ["0-1?", "0-1?", "0-1?", "0-1? (0) (1!)"]);

    let mut flickering = Plant::new(&registers(0..2), Unit::default());
    for _ in 0..20 {
        flickering.unit = Unit::without(&[1]);
        assert_eq!(flickering.scan(), "0-1?");
        flickering.unit = Unit::default();
        assert_eq!(flickering.scan(), "0-1");
    }
}

/// The points are good, and so are the registers before and behind the gap.
#[test]
fn a_bad_gap_keeps_what_is_beside_it_apart() {
    check(
        &registers((0..4).chain(6..10)),
        Unit::without(&[4]),
        &["0-9?", "0-9? (0-3) (6-9)", "0-3 6-9 (0-9?)", "0-3 6-9", "0-3 6-9"],
    );
    // The gap is not where the halves meet.
    check(
        &registers((0..1).chain(3..10)),
        Unit::without(&[2]),
        &[
            "0-9?",
            "0-9? (0-5?) (6-9)",
            "6-9 (0-3?) (4-5)",
            "4-5 6-9 (0) (3)",
            "0 3 4-5 6-9 (0-3?) (4-9)",
            "0 3 4-9 (3-9)",
            "0 3-9",
        ],
    );
}

#[test]
fn a_border_or_a_length_that_the_unit_does_not_read_across_keeps_apart_as_well() {
    let want = ["0-7?", "0-7? (0-3) (4-7)", "0-3 4-7 (0-7?)", "0-3 4-7"];
    check(&registers(0..8), Unit { borders: vec![4], ..Unit::default() }, &want);
    check(&registers(0..8), Unit { most: 4, ..Unit::default() }, &want);
}

#[test]
fn several_bad_addresses_are_found_the_largest_suspects_first() {
    check(
        &registers(0..8),
        Unit::without(&[0, 7]),
        &[
            "0-7?",
            "0-7? (0-3?) (4-7?)",
            "(0-1?) (2-3)",
            "2-3 (4-5) (6-7?)",
            "2-3 4-5 (0!) (1)",
            "1 2-3 4-5 (6) (7!)",
            "1 2-3 4-5 6 (1-3) (1-5)",
            "1-5 6 (1-6)",
            "1-6",
        ],
    );
}

/// What is refused stays in the poll until there is a request to spare for it, and others are not touched.
#[test]
fn of_several_refused_blocks_one_is_learned_from_at_a_time() {
    let points: Vec<_> = [0, 100, 200].into_iter().flat_map(|base| registers(base..base + 4)).collect();
    check(
        &points,
        Unit::without(&[0, 103]),
        &[
            "0-3? 100-103? 200-203",
            "0-3? 100-103? 200-203 (0-1?) (2-3)",
            "2-3 100-103? 200-203 (100-101) (102-103?)",
            "2-3 100-101 200-203 (0!) (1)",
            "1 2-3 100-101 200-203 (102) (103!)",
            "1 2-3 100-101 102 200-203 (1-3) (100-102)",
            "1-3 100-102 200-203",
        ],
    );
}

#[test]
fn a_value_of_several_registers_is_not_cut() {
    check(
        &[(0, 4), (4, 2), (6, 2)],
        Unit::without(&[7]),
        &["0-7?", "0-7? (0-3) (4-7?)", "0-3 (4-5) (6-7!)", "0-3 4-5 (0-5)", "0-5"],
    );
}

/// Of a long text with a bad register in it, what tags read of the rest is good.
#[test]
fn what_lies_in_a_bad_place_is_tried_by_itself() {
    check(
        &[(0, 20), (1, 1), (15, 1), (18, 2)],
        Unit::without(&[7]),
        &["0-19?", "0-19? (0-19?) (15-19)", "15-19 (0-19!) (1)", "1 15-19", "1 15-19"],
    );
}

/// The text is back: what lies in it needs no request.
#[test]
fn what_lies_in_a_place_that_is_read_comes_with_it() {
    let mut plant = Plant::new(&[(0, 1), (0, 20), (15, 1), (18, 2)], Unit::without(&[7]));
    plant.scans(5);
    plant.unit = Unit::default();
    plant.quarantine.on_reconnect();
    assert_eq!(plant.scans(2), ["0 15-19 (0-19)", "0-19"]);
    assert_eq!(plant.polled(), [0, 1, 2, 3]);
}

/// Both are tried again at the same time, and the reply for the long one says all.
#[test]
fn an_outcome_that_has_become_needless_changes_nothing() {
    let mut plant = Plant::new(&[(0, 20), (5, 1), (30, 1)], Unit::without(&[5]));
    plant.scans(5);
    assert_eq!(plant.bad(), ["0-19", "5"]);
    plant.quarantine.on_reconnect();
    plant.quarantine.on_scan(0).for_each(drop);
    let trials: Vec<_> = std::iter::from_fn(|| plant.quarantine.next_trial(0, plant.tick())).collect();
    plant.quarantine.on_read(&trials[0]);
    assert_eq!(plant.quarantine.on_refused(&trials[1], plant.tick()), Verdict::Open);
    plant.unit = Unit::default();
    assert_eq!(plant.scan(), "0-19 30");
}

#[test]
fn points_of_one_place_are_judged_together() {
    let mut plant = Plant::new(&[(0, 1), (1, 1), (0, 1), (0, 1)], Unit::without(&[0]));
    assert_eq!(plant.scans(3), ["0-1?", "0-1? (0?) (1)", "1 (0!)"]);
    assert_eq!(plant.points_of(plant.quarantine.bad()), [0, 2, 3]);
}

#[test]
fn blocks_that_would_be_too_long_together_are_not_joined() {
    check(&[(0, 125), (125, 125)], Unit::default(), &["0-124 125-249"; 3]);
    let mut plant = Plant::with_most(4, &registers(0..8), Unit::without(&[1]));
    plant.scans(10);
    assert_eq!(plant.scan(), "0 2-3 4-7");
}

#[test]
fn what_is_kept_apart_stays_so_when_it_is_halved() {
    let mut plant = Plant::new(&registers((0..4).chain(6..10)), Unit::without(&[4]));
    plant.scans(4);
    plant.unit = Unit::without(&[4, 9]);
    assert_eq!(
        plant.scans(5),
        ["0-3 6-9?", "0-3 6-9? (6-7) (8-9?)", "0-3 6-7 (8) (9!)", "0-3 6-7 8 (6-8)", "0-3 6-8"]
    );
}

/// Its block has those addresses, but of another area, or it is read at another rate.
#[test]
fn what_another_area_or_group_has_at_the_same_addresses_keeps_its_request() {
    let input = |start| Point { area: Area::Input, ..holding(0, start, 1) };
    let points = [input(0), input(9), holding(0, 2, 1), holding(0, 8, 1), holding(1, 3, 4)];
    let mut plant = Plant::of(&points, Limits::default(), Unit::default());
    assert_eq!(plant.scans(2), ["0-9 2-8", "0-9 2-8"]);
    let slow: Vec<Block> = plant.quarantine.on_scan(1).collect();
    assert_eq!(plant.points_of(slow.into_iter()), [4]);
    assert_eq!(plant.polled(), [0, 1, 2, 3]);
}

#[test]
fn bad_places_are_tried_again_after_ten_seconds_doubling_to_ten_minutes() {
    let mut plant = Plant::new(&registers(0..2), Unit::without(&[1]));
    let mut tried = Vec::new();
    for _ in 0..3_000 {
        let second = plant.now / 1_000;
        if plant.scan().contains("(1!)") {
            tried.push(second);
        }
    }
    let waits: Vec<u64> = tried.windows(2).map(|two| two[1] - two[0]).collect();
    assert_eq!((tried[0], &waits[..]), (1, &[10, 20, 40, 80, 160, 320, 600, 600, 600][..]));
    assert_eq!(plant.bad(), ["1"]);
}

#[test]
fn a_bad_place_that_is_there_again_is_polled_with_its_neighbours() {
    let mut plant = Plant::new(&registers(0..4), Unit::without(&[1]));
    plant.scans(10);
    assert_eq!(plant.bad(), ["1"]);
    plant.unit = Unit::default();
    assert_eq!(plant.scans(5), ["0 2-3", "0 2-3", "0 2-3 (1)", "0 1 2-3 (0-1) (0-3)", "0-3"]);
    assert!(plant.bad().is_empty());
}

#[test]
fn a_new_connection_puts_all_refusals_to_the_test_and_drops_no_poll() {
    let mut plant = Plant::new(&registers((0..4).chain(6..10)), Unit::without(&[4, 9]));
    plant.scans(30);
    assert_eq!((plant.scan(), plant.bad()), ("0-3 6-8".to_owned(), vec!["9".to_owned()]));
    plant.quarantine.on_reconnect();
    assert_eq!(plant.scans(2), ["0-3 6-8 (0-8?) (9!)", "0-3 6-8"]);
    plant.unit = Unit::default();
    plant.quarantine.on_reconnect();
    assert_eq!(plant.scans(3), ["0-3 6-8 (0-8) (9)", "0-8 9 (0-9)", "0-9"]);
}

/// One refusal on each of two connections is not two refusals.
#[test]
fn a_refusal_does_not_outlive_its_connection() {
    let mut plant = Plant::new(&registers(0..2), Unit::without(&[1]));
    for _ in 0..10 {
        assert_eq!(plant.scan(), "0-1?");
        plant.quarantine.on_reconnect();
    }
}

#[test]
fn groups_learn_in_their_own_scans() {
    let mut points = vec![holding(0, 0, 1)];
    points.extend((0..4).map(|start| holding(1, start, 1)));
    let mut plant = Plant::of(&points, Limits::default(), Unit::without(&[3]));
    for _ in 0..2 {
        assert_eq!(plant.scan(), "0");
        let slow = plant.quarantine.on_scan(1).next().expect("it is polled");
        assert_eq!((slow.group, plant.ask(&slow)), (1, "0-3?".to_owned()));
    }
    assert_eq!(plant.scan(), "0", "the suspect is of the other group");
    plant.quarantine.on_scan(1).for_each(drop);
    let first = plant.quarantine.next_trial(1, plant.tick()).expect("a half");
    assert_eq!(plant.scan(), "0");
    let second = plant.quarantine.next_trial(1, plant.tick()).expect("the other half");
    assert_eq!([plant.ask(&first), plant.ask(&second)], ["0-1", "2-3?"], "the first was under way still");
    plant.quarantine.on_scan(1).for_each(drop);
    while let Some(trial) = plant.quarantine.next_trial(1, plant.tick()) {
        plant.ask(&trial);
    }
    assert_eq!(plant.bad(), ["3"]);
    plant.quarantine.on_scan(1).for_each(drop);
    assert_eq!(plant.scan(), "0", "what could be joined is of the other group");
    assert_eq!(
        plant.quarantine.next_trial(1, plant.tick()).map(|joined| name(&joined)),
        Some("0-2".to_owned())
    );
}

#[test]
fn groups_judge_the_unit_together() {
    let mut plant = Plant::of(&[holding(0, 0, 1), holding(1, 1, 1)], Limits::default(), Unit::without(&[0]));
    assert_eq!(plant.scans(2), ["0?", "0!"]);
    plant.unit = Unit::without(&[0, 1]);
    let slow = plant.quarantine.on_scan(1).next().expect("it is polled");
    assert_eq!(plant.ask(&slow), "1?");
    assert!(plant.bad().is_empty(), "nothing else is answered");
    plant.now += 1_000;
    assert_eq!(plant.ask(&slow), "1!!");
}

/// The same address in another area or group is another place.
#[test]
fn places_of_other_tables_are_not_taken_in() {
    let input = Point { area: Area::Input, ..holding(0, 0, 1) };
    let mut plant =
        Plant::of(&[holding(0, 0, 1), input, holding(1, 0, 1)], Limits::default(), Unit::default());
    assert_eq!(plant.scans(2), ["0 0"; 2]);
    assert_eq!(plant.quarantine.on_scan(1).count(), 1);
}

#[test]
fn it_learns_until_all_that_was_refused_is_understood() {
    let mut plant = Plant::new(&registers(0..4), Unit::without(&[3]));
    let mut learns = Vec::new();
    for _ in 0..6 {
        plant.scan();
        learns.push((
            plant.quarantine.is_learning(0, plant.tick()),
            plant.quarantine.is_learning(1, plant.tick()),
        ));
    }
    let (yes, no) = ((true, false), (false, false));
    assert_eq!(learns, [yes, yes, no, no, no, no]);

    let mut failing = Plant::new(&registers(0..1), Unit::without(&[0]));
    let learns: Vec<bool> = (0..12)
        .map(|_| {
            failing.scan();
            failing.quarantine.is_learning(0, failing.tick())
        })
        .collect();
    assert_eq!(learns, [true, false, false, false, false, false, false, false, false, false, true, false]);
}

#[test]
fn what_is_lost_is_asked_for_in_the_next_scan() {
    let mut plant = Plant::new(&registers(0..4), Unit::without(&[3]));
    plant.scans(1);
    let polled: Vec<Block> = plant.quarantine.on_scan(0).collect();
    plant.ask(&polled[0]);
    let tick = plant.tick();
    let mut trials = || std::iter::from_fn(|| plant.quarantine.next_trial(0, tick)).collect::<Vec<_>>();
    let first = trials();
    assert_eq!(first.len(), 2);
    assert!(trials().is_empty(), "they are under way");
    assert_eq!(plant.quarantine.on_scan(0).count(), 0);
    let mut trials = || std::iter::from_fn(|| plant.quarantine.next_trial(0, tick)).collect::<Vec<_>>();
    assert_eq!(trials(), first);
}

/// The block is halved before the reply to its own request has come.
#[test]
fn a_block_may_be_halved_before_its_own_reply() {
    let halved = || {
        let mut plant = Plant::new(&registers(0..4), Unit::without(&[3]));
        plant.scans(1);
        let polled = plant.quarantine.on_scan(0).next().expect("it is polled");
        plant.ask(&polled);
        plant.quarantine.on_scan(0).for_each(drop);
        let half = plant.quarantine.next_trial(0, plant.tick()).expect("the refusal is believed");
        assert_eq!(name(&half), "0-1");
        (plant, polled, half)
    };
    let (mut plant, polled, half) = halved();
    plant.quarantine.on_read(&polled);
    assert_eq!(plant.quarantine.on_scan(0).collect::<Vec<_>>(), [polled]);
    assert_eq!(plant.quarantine.on_refused(&half, plant.tick()), Verdict::Open, "there is no such part");
    assert_eq!(plant.quarantine.on_scan(0).collect::<Vec<_>>(), [polled]);

    // Refused once more, it says nothing new: the halves are joined as soon as both are answered.
    let (mut plant, polled, half) = halved();
    plant.quarantine.on_refused(&polled, plant.tick());
    plant.unit = Unit::default();
    plant.ask(&half);
    assert_eq!(plant.scans(3), ["0-1 (2-3)", "0-1 2-3 (0-3)", "0-3"]);
}
