//! Addresses that a device does not have, through all of the driver; what is learned when is the quarantine's
//! and is tested there.

use super::*;

/// Registers 0 to 5 in one block.
fn six() -> String {
    let names = [0, 1, 2, 3, 4, 5].map(|address| (format!("t{address}"), format!("holding:{address}")));
    device("", &names.each_ref().map(|(name, address)| (&**name, &**address, "type = 'u16'")))
}

/// A slave that does not have these registers.
fn without(missing: &'static [u8]) -> impl FnMut(&Asked) -> Option<Vec<u8>> {
    move |asked| {
        let (start, end) = (asked.pdu[2], asked.pdu[2] + asked.pdu[4]);
        let refuses = missing.iter().any(|address| (start..end).contains(address));
        Some(if refuses { vec![0x83, 2] } else { orderly(asked) })
    }
}

#[track_caller]
fn check_tags(bench: &mut Bench, bad: &[u16]) {
    for address in 0..6 {
        let sample = match bad.contains(&address) {
            true => "null bad".to_owned(),
            false => format!("{} good", 1_000 + address),
        };
        bench.check(&format!("m/t{address}"), &sample);
    }
    assert_eq!(bench.count("m", "quarantined"), bad.len() as u64);
    assert_eq!(bench.count("m", "not_good"), bad.len() as u64);
    assert_eq!(bench.figure("m", "state"), "online");
}

#[test]
fn an_address_that_is_missing_leaves_the_poll_and_the_others_are_good() {
    let mut bench = Bench::new(&six());
    let conn = bench.accept();
    bench.serve(seconds(10), without(&[3]));
    check_tags(&mut bench, &[3]);
    bench.check_reason("m", "t3", "illegal data address");
    bench.check_reason("m", "t4", "");
    assert!(!bench.is_closed(conn));
    // It is asked for seldom.
    let mut asked_for = 0;
    bench.serve(seconds(60), |asked| {
        let has_it = (asked.pdu[2]..asked.pdu[2] + asked.pdu[4]).contains(&3);
        asked_for += u32::from(has_it);
        without(&[3])(asked)
    });
    assert!((1..=8).contains(&asked_for), "{asked_for} times in a minute");
    check_tags(&mut bench, &[3]);
    bench.wind_up();
}

/// Scans in between follow each other a second apart, and end when all is learned.
#[test]
fn learning_does_not_wait_for_a_slow_rate() {
    let mut bench = Bench::new(&six().replacen("\n[[", "\nrate = '10m'\n[[", 1));
    bench.accept();
    let mut scans: Vec<Vec<Asked>> = Vec::new();
    bench.serve(seconds(30), |asked| {
        match scans.last_mut().filter(|scan| asked.at - scan[0].at < millis(500)) {
            Some(scan) => scan.push(asked.clone()),
            None => scans.push(vec![asked.clone()]),
        }
        without(&[1, 4])(asked)
    });
    check_tags(&mut bench, &[1, 4]);
    assert!((3..=8).contains(&scans.len()), "{scans:?}");
    for two in scans.windows(2) {
        assert!(two[1][0].at - two[0][0].at >= seconds(1), "{scans:?}");
    }
    bench.serve(seconds(500), without(&[1, 4]));
    assert_eq!(bench.count("m", "requests"), scans.iter().map(|scan| scan.len() as u64).sum::<u64>());
    bench.wind_up();
}

/// A device that answers, but not as it should, is not asked the more often for it.
#[test]
fn what_teaches_nothing_is_not_asked_for_in_between() {
    let mut bench = Bench::new(&six().replacen("\n[[", "\nrate = '10m'\n[[", 1));
    bench.accept();
    bench.serve(seconds(60), |_| Some(vec![0x83, 4]));
    assert_eq!(bench.count("m", "requests"), 1);
    bench.wind_up();
}

#[test]
fn one_refusal_is_not_believed() {
    let mut bench = Bench::new(&six());
    bench.accept();
    bench.answer();
    let asked = bench.next();
    bench.reply(&asked, b"\x83\x02");
    bench.check("m/t0", "1000 uncertain");
    bench.serve(seconds(2), |asked| Some(orderly(asked)));
    check_tags(&mut bench, &[]);
    bench.wind_up();
}

#[test]
fn what_is_there_again_is_polled_again() {
    let mut bench = Bench::new(&six());
    bench.accept();
    bench.serve(seconds(10), without(&[1, 4]));
    check_tags(&mut bench, &[1, 4]);
    bench.serve(seconds(30), |asked| Some(orderly(asked)));
    check_tags(&mut bench, &[]);
    bench.wind_up();
}

#[test]
fn a_new_connection_may_be_to_a_device_that_has_it() {
    let mut bench = Bench::new(&six());
    let conn = bench.accept();
    bench.serve(seconds(120), without(&[3]));
    check_tags(&mut bench, &[3]);
    bench.rig.break_off(conn);
    bench.serve(seconds(4), |asked| Some(orderly(asked)));
    check_tags(&mut bench, &[]);
    bench.wind_up();
}

#[test]
fn a_device_that_refuses_everything_fails_as_a_whole() {
    let mut bench = Bench::new(&six());
    bench.accept();
    let mut requests = 0;
    bench.serve(seconds(60), |asked| {
        requests += 1;
        without(&[0, 1, 2, 3, 4, 5])(asked)
    });
    for address in 0..6 {
        bench.check(&format!("m/t{address}"), "null bad");
    }
    assert_eq!((bench.count("m", "quarantined"), &*bench.figure("m", "state")), (0, "online"));
    assert!(requests <= 120, "{requests} requests");
    bench.serve(seconds(4), |asked| Some(orderly(asked)));
    check_tags(&mut bench, &[]);
    bench.wind_up();
}

#[test]
fn no_scan_has_more_than_two_requests_that_learn() {
    let mut bench = Bench::new(&six());
    bench.accept();
    let mut slave = without(&[0, 2, 5]);
    let mut times = Vec::new();
    bench.serve(seconds(30), |asked| {
        times.push(asked.at.as_micros() / 1_000_000);
        slave(asked)
    });
    let most = times.chunk_by(|one, next| one == next).map(<[_]>::len).max();
    // What is polled by then, in pieces, and two more.
    assert!(most <= Some(6), "{most:?} requests in a second");
    check_tags(&mut bench, &[0, 2, 5]);
    bench.wind_up();
}
