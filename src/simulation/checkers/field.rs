//! The rules for devices that the driver polls.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::super::field::{DevicePlan, PERIOD_US, Point, Role, VERSIONS, version_at};
use super::super::record::{LinkId, Record};
use super::{Verdict, violation};

/// What is known of the devices of a world.
#[derive(Default)]
pub struct Known {
    /// Devices that do not answer, and since when.
    pub dead_since: BTreeMap<u16, u64>,
    /// Devices that are paused, and since when.
    pub paused_since: BTreeMap<u16, u64>,
    /// Writes that were answered `offline`.
    pub offline: HashSet<(String, i64)>,
    /// Of tags, what their devices had when it was answered that nobody knows.
    pub outdated: HashMap<String, i64>,
    /// Writes that devices were asked for, by which request. A datagram may be doubled.
    pub reached: HashMap<(String, i64), (LinkId, u16)>,
}

/// A turn takes its time, and what happens is noticed a little later.
const NOTICED_US: u64 = 10_000;

/// How long ago a value of that version was true, at least.
fn age_us(version: u64, now_us: u64) -> u64 {
    let periods = (version_at(now_us) + VERSIONS - version) % VERSIONS;
    match periods.checked_sub(1) {
        None => 0,
        Some(whole) => whole * PERIOD_US + now_us % PERIOD_US,
    }
}

/// A good value is one of this point of this device, and one that it had; if it is written by confirmed
/// writes, none from before the last one, nor from before one that was done and not confirmed.
pub fn good_values_are_the_points_own(
    record: &Record,
    device: &DevicePlan,
    point: &Point,
    value: i64,
) -> Verdict {
    let rule = "good_values_are_the_points_own";
    let Some(version) = point.version_of(device.number, value) else {
        let tag = device.tag(point);
        return violation(rule, format_args!("{tag} is {value:#x}, which is another's"));
    };
    match point.role {
        Role::Read => Ok(()),
        Role::Refused => violation(rule, format_args!("{} is not there", device.tag(point))),
        Role::Written => {
            let tag = device.tag(point);
            let outdated = record.field.outdated.get(&tag).copied().unwrap_or(-1);
            if value < outdated {
                return violation(
                    rule,
                    format_args!("{tag} is {value:#x}, and its device had {outdated:#x} before"),
                );
            }
            let confirmed = record.confirmed.get(&tag).copied().unwrap_or(-1);
            if value < confirmed {
                return violation(
                    rule,
                    format_args!("{tag} is {value:#x}, and was confirmed to be {confirmed:#x}"),
                );
            }
            if version > 0 && !record.device_did.contains(&(tag.clone(), value)) {
                return violation(rule, format_args!("{tag} is {value:#x}, which the device never had"));
            }
            Ok(())
        }
    }
}

/// Nothing is good for longer than so many microseconds after it was true, and after the device died.
pub fn nothing_is_good_for_too_long(
    record: &Record,
    device: &DevicePlan,
    point: &Point,
    value: i64,
    [most_us, most_when_dead_us]: [u64; 2],
) -> Verdict {
    let rule = "nothing_is_good_for_too_long";
    let now_us = record.now_us;
    let since = record.field.dead_since.get(&device.number);
    if let Some(since) = since.filter(|since| now_us > **since + most_when_dead_us + NOTICED_US) {
        let tag = device.tag(point);
        return violation(rule, format_args!("{tag} is good, and its device died at {since} µs"));
    }
    match point.version_of(device.number, value) {
        Some(version) if point.role == Role::Read => {
            let age_us = age_us(version, now_us);
            if age_us > most_us + NOTICED_US {
                let tag = device.tag(point);
                return violation(
                    rule,
                    format_args!("{tag} is good, and was true {age_us} µs ago ({most_us} at most)"),
                );
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A healthy device's points are polled at their rates, whoever else is dead: no value is older than that and
/// its own answer time, and all are good. `value` is that of a good one.
pub fn healthy_devices_are_polled_on_time(
    record: &Record,
    device: &DevicePlan,
    point: &Point,
    value: Option<i64>,
    most_us: u64,
) -> Verdict {
    let rule = "healthy_devices_are_polled_on_time";
    let Some(value) = value else {
        return violation(rule, format_args!("{} is not good", device.tag(point)));
    };
    match point.version_of(device.number, value) {
        Some(version) if point.role == Role::Read => {
            let age_us = age_us(version, record.now_us);
            if age_us > most_us + NOTICED_US {
                let tag = device.tag(point);
                return violation(rule, format_args!("{tag} was true {age_us} µs ago, {most_us} at most"));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What is written reaches a device once at most, and a whole value of the point that is meant; never if the
/// one who asked was told that the device is offline.
pub fn each_write_reaches_the_device_once(
    record: &mut Record,
    tag: &str,
    value: i64,
    is_of_point: bool,
    request: (LinkId, u16),
) -> Verdict {
    let rule = "each_write_reaches_the_device_once";
    if !is_of_point {
        return violation(rule, format_args!("{value:#x} was written to {tag}"));
    }
    let write = (tag.to_owned(), value);
    if record.field.offline.contains(&write) {
        return offline_writes_never_reach_the_device(tag, value);
    }
    match record.field.reached.insert(write, request) {
        Some(before) if before != request => violation(
            rule,
            format_args!("{value:#x} came to {tag} by the requests {before:?} and {request:?}"),
        ),
        _ => Ok(()),
    }
}

fn offline_writes_never_reach_the_device(tag: &str, value: i64) -> Verdict {
    let rule = "offline_writes_never_reach_the_device";
    violation(rule, format_args!("{value:#x} came to {tag}, and was answered 'offline'"))
}

/// A write was answered `offline`.
pub fn on_offline(record: &mut Record, tag: &str, value: i64) -> Verdict {
    let write = (tag.to_owned(), value);
    let has_come = record.field.reached.contains_key(&write);
    record.field.offline.insert(write);
    if has_come { offline_writes_never_reach_the_device(tag, value) } else { Ok(()) }
}

/// How long it takes until a pause is noticed, and what was asked before is answered.
const PAUSED_WITHIN_US: u64 = 1_000_000;

/// A paused device is not asked, nor is anything good of it.
pub fn the_paused_are_left_alone(record: &Record, device: &DevicePlan, why: &str) -> Verdict {
    let since = record.field.paused_since.get(&device.number);
    match since.filter(|since| record.now_us > **since + PAUSED_WITHIN_US + NOTICED_US) {
        Some(since) => violation(
            "the_paused_are_left_alone",
            format_args!("{} {why}, and is paused since {since} µs", device.name()),
        ),
        None => Ok(()),
    }
}

/// When nothing goes wrong any more, all points of all devices that are not paused are good again, in time.
pub fn who_is_well_comes_back(device: &DevicePlan, point: &Point, after_us: u64) -> Verdict {
    let tag = device.tag(point);
    violation("who_is_well_comes_back", format_args!("{tag} is not good {after_us} µs after all faults"))
}

/// A new connection to a device is made only when the one before is closed.
pub fn one_connection_at_a_time(who: &str, has_another: bool) -> Verdict {
    if has_another {
        return violation("one_connection_at_a_time", format_args!("{who} was called twice"));
    }
    Ok(())
}
