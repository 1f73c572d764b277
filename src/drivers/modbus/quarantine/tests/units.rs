//! A unit that refuses everything: at fault itself, or none of its blocks is good.

use super::*;

#[test]
fn a_unit_that_refuses_everything_is_at_fault_itself() {
    let mut plant = Plant::new(&registers(0..4), Unit::without(&[0, 1, 2, 3]));
    assert_eq!(plant.scans(3), ["0-3?", "0-3? (0-1?) (2-3?)", "(0?) (1?)"]);
    assert_eq!(plant.scan(), "(2?) (3!!)");
    assert!(plant.bad().is_empty());
    // It is polled as at first, and for ten seconds nothing is learned, then for twenty.
    assert_eq!(plant.scans(9), ["0-3!!"; 9]);
    assert_eq!(plant.scans(3), ["0-3!! (0-1!!) (2-3!!)", "(0!!) (1!!)", "(2!!) (3!!)"]);
    assert_eq!(plant.scans(19), ["0-3!!"; 19]);
    assert_eq!(plant.scan(), "0-3!! (0-1!!) (2-3!!)");
    plant.scans(2);
    plant.unit = Unit::default();
    assert_eq!(plant.scan(), "0-3");
    // Once it has answered, it is learned from.
    plant.unit = Unit::without(&[3]);
    assert_eq!(plant.scans(2), ["0-3?", "0-3? (0-1) (2-3?)"]);
}

#[test]
fn a_unit_that_fails_is_learned_from_on_a_new_connection() {
    let mut plant = Plant::new(&registers(0..2), Unit::without(&[0, 1]));
    assert_eq!(plant.scans(3), ["0-1?", "0-1? (0?) (1!!)", "0-1!!"]);
    plant.quarantine.on_reconnect();
    assert_eq!(plant.scans(2), ["0-1!!", "0-1!! (0!!) (1!!)"]);
}

#[test]
fn a_unit_that_has_failed_need_not_be_refused_twice_again() {
    let mut plant = Plant::new(&registers(0..2), Unit::without(&[0, 1]));
    plant.rate = 60_000;
    assert_eq!(plant.scans(3), ["0-1?", "0-1? (0?) (1!!)", "0-1!! (0!!) (1!!)"]);
}

#[test]
fn the_only_point_of_a_unit_is_never_held_for_bad() {
    let mut plant = Plant::new(&[(7, 2)], Unit::without(&[8]));
    assert_eq!(plant.scans(2), ["7-8?", "7-8!!"]);
    for _ in 0..100 {
        assert_eq!((plant.scan(), plant.bad().len()), ("7-8!!".to_owned(), 0));
    }
}

/// Twenty blocks, some of a single point. What is learned while all is refused is forgotten.
#[test]
fn a_unit_that_refuses_everything_for_a_while_is_back_at_once() {
    let blocks = (0..20).map(|block| 100 * block);
    let points: Vec<_> = blocks.flat_map(|base| registers(base..base + 1 + base / 100 % 2 * 3)).collect();
    for seconds in [1, 2, 3, 10, 100, 1_000] {
        let mut plant = Plant::new(&points, Unit::default());
        plant.scans(5);
        plant.unit = Unit::without(&(0..2_000).collect::<Vec<_>>());
        plant.scans(seconds);
        assert!(plant.bad().is_empty(), "after {seconds} s");
        plant.unit = Unit::default();
        plant.scan();
        let missing = points.len() - plant.polled().len();
        assert!(missing <= 4, "{missing} points of other blocks than one after {seconds} s");
        plant.scans(5);
        assert_eq!(plant.polled().len(), points.len());
        assert_eq!(plant.scan(), plant.scan(), "nothing is left to learn");
    }
}

/// All its blocks are refused, by a fault in each: it is not taken for a unit that fails.
#[test]
fn a_unit_none_of_whose_blocks_is_good_is_learned_from() {
    check(
        &[(0, 1), (1, 1), (100, 1), (101, 1), (200, 1)],
        Unit::without(&[0, 101, 200]),
        &[
            "0-1? 100-101? 200?",
            "0-1? 100-101? 200? (0?) (1)",
            "1 100-101? 200! (100) (101!)",
            "1 100 (0!)",
            "1 100",
        ],
    );
}
