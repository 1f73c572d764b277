use super::super::settings;
use super::*;
use crate::base::section::Document;
use crate::tags::Declared;
use proptest::prelude::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What is said of the only line of a configuration: requests wanted and most, bytes, and who is late.
#[track_caller]
fn check(text: &str, round_trip_ms: u64, want: &str) {
    let document = Document::parse("load", text);
    let (root, mut declared) = (document.root(), Declared::default());
    let (fleet, _) = settings::read(&root, &mut declared, &|_| unreachable!("no file is named"));
    root.finish();
    assert_eq!(document.errors(), []);
    let [line] = &fleet.lines[..] else { panic!("{} lines", fleet.lines.len()) };
    let LineLoad { wanted, most, bytes, late } = of(line, ms(round_trip_ms));
    let mut said = format!("{wanted:.1} of {most:.1}/s, {bytes:.0} B/s");
    for Late { device, points, rate, at_best } in late {
        let best = at_best.map_or("never".to_owned(), |best| format!("{:.0}", 1_000.0 * best.as_secs_f64()));
        said += &format!("; {device} {} {} not {best}", points.join(","), rate.as_millis());
    }
    assert_eq!(said, want, "{text} at {round_trip_ms} ms");
}

/// A device with a point for each `name address rate`; all of them are u16.
fn device(name: &str, keys: &str, points: &[&str]) -> String {
    let mut text = format!("[[device]]\nname = '{name}'\nurl = 'modbus://10.0.0.7'\n{keys}\n");
    for point in points {
        let [name, address, rate] = point.split(' ').collect::<Vec<_>>()[..] else { panic!("{point}") };
        let kind = if address.starts_with("coil") { "" } else { "type = 'u16'\n" };
        text += &format!("[[device.tag]]\nname = '{name}'\naddress = '{address}'\n{kind}rate = '{rate}'\n");
    }
    text
}

#[test]
fn what_a_line_carries() {
    let one = device("m", "", &["a holding:0 1s", "b holding:1 1s"]);
    check(&one, 20, "1.0 of 50.0/s, 25 B/s");
    let two = device("m", "merge_gap = 0", &["a holding:0 100ms", "b holding:9 100ms", "c coil:0 1s"]);
    check(&two, 20, "21.0 of 50.0/s, 482 B/s");
    check(&device("m", "min_gap = '30ms'", &["a holding:0 1s"]), 20, "1.0 of 20.0/s, 23 B/s");
    check(&device("m", "window = 4", &["a holding:0 1s"]), 20, "1.0 of 200.0/s, 23 B/s");
    check(&device("m", "", &[]), 20, "0.0 of 50.0/s, 0 B/s");
    let rtu = device("m", "", &["a holding:0 1s"]).replace("modbus:", "modbus-rtu:");
    check(&rtu, 20, "1.0 of 50.0/s, 15 B/s");
}

#[test]
fn who_is_late_on_a_line_of_its_own() {
    let fast = device("m", "", &["a holding:0 10ms", "b holding:1 10ms"]);
    check(&fast, 10, "100.0 of 100.0/s, 2500 B/s");
    check(&fast, 11, "100.0 of 90.9/s, 2500 B/s; m a,b 10 not 11");
    // Two requests that take turns; the slow one is on time, and the fast one has what is left.
    let both = device("m", "merge_gap = 0", &["a holding:0 10ms", "b holding:9 10ms", "c holding:20 1s"]);
    check(&both, 10, "201.0 of 100.0/s, 4623 B/s; m a,b 10 not 20");
    // Room enough for many requests at a time, but one does not come again before it is answered.
    check(
        &device("m", "window = 16", &["a holding:0 10ms"]),
        20,
        "100.0 of 800.0/s, 2300 B/s; m a 10 not 20",
    );
    check(
        &device("m", "timeout = '15ms'", &["a holding:0 1s"]),
        20,
        "1.0 of 50.0/s, 23 B/s; m a 1000 not never",
    );
}

#[test]
fn who_is_late_on_a_line_that_is_shared() {
    // The first wants a tenth of the line and has it; the others share the rest.
    let slow = device("slow", "", &["a holding:0 100ms"]);
    let greedy = device("greedy", "unit = 2", &["b holding:0 10ms", "c holding:99 1s"]);
    let other = device("other", "unit = 3", &["d holding:0 20ms"]);
    check(&(slow.clone() + &greedy), 10, "111.0 of 100.0/s, 2553 B/s; greedy b 10 not 11");
    check(
        &(slow + &greedy + &other),
        10,
        "161.0 of 100.0/s, 3703 B/s; greedy b 10 not 23; other d 20 not 22",
    );
}

proptest! {
    /// Nobody is promised more than there is, and where somebody is late nothing is left over.
    #[test]
    fn the_line_is_shared_out(
        devices in prop::collection::vec(prop::collection::vec((1..20_u32, 1..5_000_u32), 0..4), 1..8),
        round_ms in 1..100_u32,
        window in 1..16_u32,
    ) {
        let scan = |(requests, rate_ms): (u32, u32)| {
            Scan { requests: requests.into(), rate: f64::from(rate_ms) / 1_000.0 }
        };
        let devices: Vec<Vec<Scan>> =
            devices.into_iter().map(|scans| scans.into_iter().map(scan).collect()).collect();
        let lane = Lane { round: f64::from(round_ms) / 1_000.0, window: window.into() };
        let cycles = lane.cycles(&devices);
        let mut done = 0.0;
        let mut is_late = false;
        for (scan, cycle) in devices.iter().flatten().zip(cycles.iter().flatten()) {
            prop_assert!(*cycle >= scan.rate);
            done += scan.requests / cycle;
            // Those that are late for their own length leave room to others.
            let alone = (scan.requests / lane.window).ceil() * lane.round;
            is_late |= *cycle > scan.rate.max(alone) * 1.000_001;
        }
        prop_assert!(done <= lane.most() * 1.000_001, "{done} of {}", lane.most());
        let wanted: f64 = devices.iter().map(|scans| demand(scans)).sum();
        prop_assert_eq!(is_late && wanted <= lane.most(), false);
    }
}
