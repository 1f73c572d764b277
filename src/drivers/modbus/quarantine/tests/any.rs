//! Whatever a unit has and however it answers: what learning keeps to on the way, and where it ends.

use proptest::prelude::*;

use super::*;

/// Points, registers in a request, and a unit.
fn any_plant() -> impl Strategy<Value = (Vec<(u16, u16)>, u16, Unit)> {
    let points = prop::collection::vec((0..60_u16, 1..5_u16), 1..16);
    let missing = prop::collection::vec(0..64_u16, 0..5);
    let borders = prop::collection::vec(0..64_u16, 0..3);
    let unit = (missing, borders, prop::option::of(4..40_u16)).prop_map(|(missing, borders, most)| Unit {
        missing,
        borders,
        most: most.unwrap_or(0),
    });
    (points, 4..70_u16, unit)
}

/// What no learning may change, whatever a unit has and however it answers: each place lies in one part, and
/// no request is longer or has wider gaps than is allowed.
fn audit(plant: &mut Plant, most: u16) -> Result<(), TestCaseError> {
    let parts = &plant.quarantine.parts;
    prop_assert_eq!(plant.points_of(parts.iter().map(|part| part.block)).len(), plant.points.len());
    prop_assert!(parts.windows(2).all(|pair| pair[0].block.end == pair[1].block.first), "{parts:?}");
    let mut asked: Vec<Block> = plant.quarantine.on_scan(0).collect();
    asked.extend(std::iter::from_fn(|| plant.quarantine.next_trial(0, plant.tick())));
    for block in asked {
        let points = plant.points_of(std::iter::once(block));
        let mut spans: Vec<Span> = points.iter().map(|&point| plant.points[point].span).collect();
        spans.sort_by_key(|span| span.start);
        let mut end = u32::from(block.span.start);
        for span in spans {
            prop_assert!(u32::from(span.start) <= end + 8, "a gap that is too wide: {block:?}");
            end = end.max(span.end());
        }
        prop_assert!(end == block.span.end() && block.span.quantity <= most, "{block:?}");
    }
    Ok(())
}

/// What is polled cannot be had in fewer requests by joining two.
fn is_joined(plant: &mut Plant) -> bool {
    let polled: Vec<Block> = plant.quarantine.on_scan(0).collect();
    let mut pairs = polled.windows(2).filter(|pair| pair[0].end == pair[1].first);
    pairs
        .all(|pair| plant.plan.joined(&pair[0], &pair[1]).is_none_or(|joined| !plant.unit.reads(joined.span)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// In the end all that can be read is polled, in blocks that cannot be joined, and nothing else is asked
    /// for; on the way, what was read once is read in each scan, with two requests more at most.
    #[test]
    fn all_that_is_there_is_read_and_all_else_is_held_for_bad((points, most, unit) in any_plant()) {
        let mut plant = Plant::with_most(most, &points, unit);
        let mut read_before = Vec::new();
        for scan in 0..100 {
            let said = plant.scan();
            prop_assert!(said.matches('(').count() <= usize::from(LEARNING_REQUESTS), "{said}");
            let read = plant.polled();
            prop_assert!(read_before.iter().all(|point| read.contains(point)), "scan {scan}: {said}");
            read_before = read;
        }
        let (good, bad): (Vec<usize>, Vec<usize>) =
            (0..points.len()).partition(|&at| plant.unit.reads(plant.points[at].span));
        prop_assert_eq!(&plant.polled(), &good);
        if good.is_empty() {
            prop_assert!(plant.quarantine.failures > 0, "it is the unit");
            return Ok(());
        }
        prop_assert_eq!(plant.points_of(plant.quarantine.bad()), bad);
        prop_assert!(is_joined(&mut plant));
    }

    /// A unit that is never the same for long, and new connections.
    #[test]
    fn learning_keeps_to_the_plan(
        (points, most, unit) in any_plant(),
        others in prop::collection::vec((any_plant(), 0..6_u8), 1..20),
    ) {
        let mut plant = Plant::with_most(most, &points, unit);
        for ((_, _, unit), step) in others {
            plant.unit = unit;
            match step {
                0 => plant.quarantine.on_reconnect(),
                1 => plant.unit = Unit::default(),
                2 => plant.unit = Unit::without(&(0..70).collect::<Vec<_>>()),
                _ => {}
            }
            plant.scans(usize::from(step));
            audit(&mut plant, most)?;
        }
        plant.unit = Unit::default();
        plant.quarantine.on_reconnect();
        plant.scans(40);
        prop_assert_eq!(plant.polled().len(), points.len());
        prop_assert!(is_joined(&mut plant));
    }
}
