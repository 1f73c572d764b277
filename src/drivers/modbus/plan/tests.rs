use super::*;
use crate::protocols::modbus::Request;
use crate::protocols::modbus::address::AREAS;
use proptest::prelude::*;
use std::fmt::Write;

fn span(start: u16, quantity: u16) -> Span {
    Span { start, quantity }
}

fn holding(start: u16, quantity: u16) -> Point {
    Point { group: 0, area: Area::Holding, span: span(start, quantity) }
}

/// `0+4 7 9+2` → holding registers 0 to 3, 7, 9 and 10.
fn points(text: &str) -> Vec<Point> {
    let number = |digits: &str| digits.parse().expect("a number");
    let point = |word: &str| match word.split_once('+') {
        Some((start, quantity)) => holding(number(start), number(quantity)),
        None => holding(number(word), 1),
    };
    text.split_whitespace().map(point).collect()
}

/// The blocks of a plan, each with its points in the order in which they were given: `0+4:a,b 7+1:c`.
fn text_of(plan: &Plan) -> String {
    let mut text = String::new();
    for block in plan.blocks() {
        let mut found: Vec<usize> = plan.found(block).map(|found| found.point).collect();
        found.sort_unstable();
        let names: Vec<String> =
            found.iter().map(|&point| char::from(b'a' + point as u8).to_string()).collect();
        let Span { start, quantity } = block.span;
        write!(text, " {start}+{quantity}:{}", names.join(",")).expect("text takes all");
    }
    text.trim_start().to_owned()
}

/// Points, at most so many registers, gaps of at most so many, and the plan.
#[track_caller]
fn check(given: &str, max_registers: u16, merge_gap: u16, want: &str) {
    let limits = Limits { max_registers, ..Limits::with_gap(merge_gap) };
    assert_eq!(text_of(&Plan::new(&points(given), limits)), want, "{given}");
}

#[test]
fn nothing_is_read_for_nothing() {
    check("", 125, 8, "");
}

#[test]
fn points_are_merged_across_gaps() {
    check("0 1 2", 125, 0, "0+3:a,b,c");
    check("0 2", 125, 0, "0+1:a 2+1:b");
    check("0 9", 125, 8, "0+10:a,b");
    check("0 10", 125, 8, "0+1:a 10+1:b");
    check("0+4 12+2 23", 125, 8, "0+14:a,b 23+1:c");
    check("65535 65526", 125, 8, "65526+10:a,b");
}

#[test]
fn no_request_is_longer_than_allowed_and_no_value_is_cut() {
    check("0+2 2+2 4+2", 6, 8, "0+6:a,b,c");
    check("0+2 2+2 4+2", 5, 8, "0+2:a 2+4:b,c");
    check("0+4 4+4 8+4", 9, 8, "0+4:a 4+8:b,c");
    check("0+125 125+125", 125, 8, "0+125:a 125+125:b");
}

#[test]
fn points_may_overlap_and_come_in_any_order() {
    check("3 3 3", 125, 8, "3+1:a,b,c");
    check("9 0+2 1 0", 125, 8, "0+10:a,b,c,d");
    check("0+4 1 2+2 2", 4, 0, "0+4:a,b,c,d");
    check("0+4 2+4", 4, 0, "0+4:a 2+4:b");
    check("0+3 2+3 4+3", 5, 0, "0+3:a 2+5:b,c");
}

/// The long point fits into no request with the first one; what lies in it comes with it.
#[test]
fn a_long_point_takes_what_lies_in_it() {
    check("0 5+8 6", 10, 4, "0+1:a 5+8:b,c");
    check("0 1+60 30 61", 62, 0, "0+62:a,b,c,d");
    check("0 1+60 30 62", 62, 0, "0+61:a,b,c 62+1:d");
}

#[test]
fn of_as_few_requests_those_that_read_least() {
    // Filling the first request up would read the gap.
    check("0 9 10 19", 18, 8, "0+1:a 9+11:b,c,d");
    check("0 1 6 7 12 13", 8, 8, "0+2:a,b 6+8:c,d,e,f");
}

#[test]
fn areas_and_groups_are_read_apart() {
    let in_area = |area| Point { group: 0, area, span: span(1, 1) };
    let mut given: Vec<Point> = AREAS.map(in_area).to_vec();
    given.push(Point { group: 1, ..holding(1, 1) });
    given.push(Point { group: 1, ..holding(2, 1) });
    let plan = Plan::new(&given, Limits::default());
    assert_eq!(text_of(&plan), "1+1:a 1+1:b 1+1:c 1+1:d 1+2:e,f");
    let tables: Vec<_> = plan.blocks().iter().map(|block| (block.group, block.area)).collect();
    let [coil, discrete, input, holding] = AREAS;
    assert_eq!(tables, [(0, coil), (0, discrete), (0, input), (0, holding), (1, holding)]);
}

#[test]
fn bits_have_limits_of_their_own() {
    #[track_caller]
    fn check(area: Area, starts: &[u16], want: &str) {
        let bits: Vec<_> =
            starts.iter().map(|&start| Point { group: 0, area, span: span(start, 1) }).collect();
        assert_eq!(text_of(&Plan::new(&bits, Limits::default())), want);
    }
    check(Area::Coil, &[0, 129], "0+130:a,b");
    check(Area::Discrete, &[0, 130], "0+1:a 130+1:b");
    let ladder: Vec<u16> = (0..=20).map(|step| 100 * step).collect();
    check(Area::Coil, &ladder[..20], "0+1901:a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t");
    check(Area::Coil, &ladder, "0+1:a 100+1901:b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q,r,s,t,u");
}

#[test]
fn limits_are_those_of_the_standard_unless_told() {
    let Limits { max_registers, max_bits, merge_gap, merge_gap_bits } = Limits::default();
    assert_eq!([max_registers, max_bits, merge_gap, merge_gap_bits], [125, 2_000, 8, 128]);
    assert_eq!(Limits::with_gap(u16::MAX).merge_gap_bits, u16::MAX);
}

#[test]
fn what_no_request_can_read_is_not_allowed() {
    let limits = Limits { max_registers: 10, max_bits: 20, ..Limits::default() };
    #[rustfmt::skip]
    let table = [
        (Area::Holding, span(0, 10),     true),
        (Area::Holding, span(0, 11),     false),
        (Area::Coil,    span(0, 20),     true),
        (Area::Coil,    span(0, 21),     false),
        (Area::Input,   span(0, 0),      false),
        (Area::Input,   span(65_535, 1), true),
        (Area::Input,   span(65_535, 2), false),
    ];
    for (area, span, want) in table {
        assert_eq!(limits.allow(area, span), want, "{area} {span:?}");
    }
}

#[test]
#[should_panic(expected = "no request can read")]
fn what_is_not_allowed_is_not_planned() {
    Plan::new(&[holding(0, 126)], Limits::default());
}

#[test]
fn a_point_is_found_where_it_is() {
    let plan = Plan::new(&points("14+2 10+4 15 10+4 30"), Limits::default());
    let [first, second] = plan.blocks() else { panic!("two blocks: {}", text_of(&plan)) };
    let places = |block| plan.found(block).map(|found| (found.point, found.offset)).collect::<Vec<_>>();
    assert_eq!(places(first), [(1, 0), (3, 0), (0, 4), (2, 5)]);
    assert_eq!(places(second), [(4, 0)]);
}

/// Of one in six registers 21 fit into a request, of one in six bits 334.
#[test]
fn ten_thousand_points() {
    #[track_caller]
    fn check(area: Area, want: usize) {
        let point = |number| Point { group: 0, area, span: span((number * 7_919 % 10_000 * 6) as u16, 1) };
        let given: Vec<Point> = (0..10_000).map(point).collect();
        assert_eq!(Plan::new(&given, Limits::default()).blocks().len(), want);
    }
    check(Area::Holding, 477);
    check(Area::Coil, 30);
}

/// The blocks of a valid plan hold each point once and as a whole, are no longer than allowed, and have no
/// gap wider than allowed. What they cost: requests, then registers.
fn audit(given: &[Point], limits: Limits, plan: &Plan) -> Result<(usize, u32), TestCaseError> {
    let mut seen = vec![0; given.len()];
    let mut registers = 0;
    for block in plan.blocks() {
        let mut inside = Vec::new();
        for Found { point, offset } in plan.found(block) {
            seen[point] += 1;
            let Point { group, area, span } = given[point];
            prop_assert_eq!((group, area), (block.group, block.area));
            prop_assert_eq!(block.span.start + offset, span.start);
            inside.push(span);
        }
        prop_assert_eq!(
            cost_of(block.area, inside, limits),
            Some(u32::from(block.span.quantity)),
            "{:?}",
            block
        );
        Request::read(block.area, block.span).encode(&mut Default::default());
        registers += u32::from(block.span.quantity);
    }
    prop_assert!(seen.iter().all(|&count| count == 1), "{seen:?}");
    Ok((plan.blocks().len(), registers))
}

/// What one request for these points reads, if it may.
fn cost_of(area: Area, mut spans: Vec<Span>, limits: Limits) -> Option<u32> {
    spans.sort_by_key(|span| span.start);
    let start = spans.first()?.start;
    let mut end = u32::from(start);
    for span in spans {
        if u32::from(span.start) > end + u32::from(limits.gap(area)) {
            return None;
        }
        end = end.max(span.end());
    }
    let quantity = end - u32::from(start);
    (quantity <= u32::from(limits.most(area))).then_some(quantity)
}

/// The cheapest of all plans there are: `groups` is each way to divide the points seen so far.
fn exhaustive(given: &[Point], limits: Limits, groups: &mut Vec<Vec<Span>>) -> Option<(usize, u32)> {
    let Some((point, rest)) = given.split_first() else {
        let costs = groups.iter().map(|group| cost_of(Area::Holding, group.clone(), limits));
        return Some((groups.len(), costs.sum::<Option<u32>>()?));
    };
    let mut least: Option<(usize, u32)> = None;
    let mut note = |cost: Option<(usize, u32)>| least = [least, cost].into_iter().flatten().min();
    for number in 0..groups.len() {
        groups[number].push(point.span);
        note(exhaustive(rest, limits, groups));
        groups[number].pop();
    }
    groups.push(vec![point.span]);
    note(exhaustive(rest, limits, groups));
    groups.pop();
    least
}

fn any_points(most: usize, places: u16, longest: u16) -> impl Strategy<Value = Vec<Point>> {
    let any_holding = (0..places, 1..=longest).prop_map(|(start, quantity)| holding(start, quantity));
    prop::collection::vec(any_holding, 0..=most)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn no_valid_plan_is_cheaper(
        given in any_points(7, 30, 5),
        max_registers in 5..16_u16,
        merge_gap in 0..5_u16,
    ) {
        let limits = Limits { max_registers, ..Limits::with_gap(merge_gap) };
        let cost = audit(&given, limits, &Plan::new(&given, limits))?;
        prop_assert_eq!(Some(cost), exhaustive(&given, limits, &mut Vec::new()));
    }

    #[test]
    fn the_order_of_the_points_is_of_no_account(given in any_points(30, 200, 10), seed: u64) {
        let mut other = given.clone();
        crate::base::random::Random::new(seed).shuffle(&mut other);
        let limits = Limits { max_registers: 40, ..Limits::default() };
        let (plan, other) = (Plan::new(&given, limits), Plan::new(&other, limits));
        prop_assert_eq!(plan.blocks(), other.blocks());
    }

    #[test]
    fn plans_of_any_points_are_valid(
        given in prop::collection::vec((0..3_u16, 0..4_usize, any::<u16>(), 1..=125_u32), 0..300),
        gap in 0..200_u16,
    ) {
        let limits = Limits::with_gap(gap);
        let points: Vec<Point> = given
            .into_iter()
            .map(|(group, area, start, quantity)| {
                let quantity = (AREA_SIZE - u32::from(start)).min(quantity) as u16;
                Point { group, area: AREAS[area], span: span(start, quantity) }
            })
            .collect();
        audit(&points, limits, &Plan::new(&points, limits))?;
    }
}
