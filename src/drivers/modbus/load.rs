//! Whether a line can carry what is configured: how many requests a second it takes, how many there can be,
//! and which polls come later than they should.

use std::time::Duration;

use super::places::Block;
use super::settings::{Carrier, DeviceSettings, LineSettings};
use crate::base::order::sorted_by;

/// Bytes of a request that reads, and of its reply without the data, by header or checksum.
const MBAP_BYTES: u32 = (7 + 5) + (7 + 2);
const RTU_BYTES: u32 = (1 + 5 + 2) + (1 + 2 + 2);
/// A shortfall that is less than this part is none: it is how numbers are rounded.
const ROUNDING: f64 = 1e-9;

/// What a line has to carry at some round trip.
#[derive(Debug)]
pub struct LineLoad<'a> {
    /// Requests per second that the rates ask for, if all of them can be met.
    pub wanted: f64,
    /// Requests per second that there can be.
    pub most: f64,
    /// Bytes per second, both ways, for what the rates ask for; without the headers of TCP or UDP.
    pub bytes: f64,
    /// What cannot be read as often as configured.
    pub late: Vec<Late<'a>>,
}

/// Points of a device that cannot be read as often as configured.
#[derive(Debug)]
pub struct Late<'a> {
    pub device: &'a str,
    /// The names of the points, without the device's.
    pub points: Vec<&'a str>,
    pub rate: Duration,
    /// How often instead; `None`: never, for no reply comes within the timeout.
    pub at_best: Option<Duration>,
}

/// What becomes of a line when each request is answered after `round_trip`. Masters that ask by a proxy, and
/// writes, come on top.
pub fn of(line: &LineSettings, round_trip: Duration) -> LineLoad<'_> {
    let lane = Lane { round: seconds(round_trip + line.min_gap).max(1e-6), window: line.window as f64 };
    let scans: Vec<Vec<Scan>> = line.devices.iter().map(scans).collect();
    let cycles = lane.cycles(&scans);
    let mut late = Vec::new();
    for ((device, scans), cycles) in line.devices.iter().zip(&scans).zip(cycles) {
        for ((group, scan), cycle) in scans.iter().enumerate().zip(cycles) {
            let is_deaf = round_trip > device.timeout;
            if !is_deaf && cycle <= scan.rate * (1.0 + ROUNDING) {
                continue;
            }
            let rate = device.model.rates[group];
            let points = device.model.points.iter().filter(|point| point.rate == rate);
            late.push(Late {
                device: &device.name,
                points: points.map(|point| &*point.name).collect(),
                rate,
                at_best: (!is_deaf).then(|| Duration::from_secs_f64(cycle)),
            });
        }
    }
    let bytes = line.devices.iter().flat_map(|device| {
        let rates = &device.model.rates;
        let blocks = device.model.plan.blocks().iter();
        blocks.map(|block| bytes(line.carrier, block) / seconds(rates[usize::from(block.group)]))
    });
    LineLoad {
        wanted: scans.iter().fold(0.0, |sum, scans| sum + demand(scans)),
        most: lane.most(),
        bytes: bytes.fold(0.0, |sum, bytes| sum + bytes),
        late,
    }
}

/// A poll group: so many requests, once a rate (in seconds).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Scan {
    requests: f64,
    rate: f64,
}

fn scans(device: &DeviceSettings) -> Vec<Scan> {
    let requests = |group| device.model.plan.blocks().iter().filter(|block| block.group == group).count();
    let scan =
        |(group, rate): (u16, &Duration)| Scan { requests: requests(group) as f64, rate: seconds(*rate) };
    (0..).zip(&device.model.rates).map(scan).collect()
}

fn demand(scans: &[Scan]) -> f64 {
    // Not `sum`, which makes -0 of nothing.
    scans.iter().fold(0.0, |sum, scan| sum + scan.requests / scan.rate)
}

fn bytes(carrier: Carrier, block: &Block) -> f64 {
    let quantity = u32::from(block.span.quantity);
    let data = if block.area.is_bits() { quantity.div_ceil(8) } else { 2 * quantity };
    let around = if carrier == Carrier::Rtu { RTU_BYTES } else { MBAP_BYTES };
    f64::from(around + data)
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

/// What a line can do: `window` requests in the time that one takes, its gap included.
#[derive(Clone, Copy, Debug)]
struct Lane {
    round: f64,
    window: f64,
}

impl Lane {
    fn most(self) -> f64 {
        self.window / self.round
    }

    /// For each scan of each device, how often it is done, in seconds. Devices take turns request by request:
    /// who wants less than its share has what it wants, and the others share what that leaves.
    fn cycles(self, devices: &[Vec<Scan>]) -> Vec<Vec<f64>> {
        let demands: Vec<f64> = devices.iter().map(|scans| demand(scans)).collect();
        let by_demand = sorted_by(devices.len(), &|one, other| demands[one].total_cmp(&demands[other]));
        let mut cycles = vec![Vec::new(); devices.len()];
        let mut left = self.most();
        for (done, at) in by_demand.into_iter().enumerate() {
            let share = left / (devices.len() - done) as f64;
            left -= share.min(demands[at]);
            let slowed = slowed_to(&devices[at], share);
            let cycle = |scan: &Scan| {
                // A scan begins when the one before is done.
                let alone = (scan.requests / self.window).ceil() * self.round;
                scan.rate.max(slowed).max(alone)
            };
            cycles[at] = devices[at].iter().map(cycle).collect();
        }
        cycles
    }
}

/// The cycle to which a device's faster scans are slowed down by having only so many requests per second; 0
/// if they are not. The scan that is due for the longest time comes first, so the slow ones are on time.
fn slowed_to(scans: &[Scan], share: f64) -> f64 {
    if demand(scans) <= share * (1.0 + ROUNDING) {
        return 0.0;
    }
    let by_rate = sorted_by(scans.len(), &|one, other| scans[one].rate.total_cmp(&scans[other].rate));
    let sorted: Vec<Scan> = by_rate.into_iter().map(|at| scans[at]).collect();
    let mut requests = 0.0;
    for (at, scan) in sorted.iter().enumerate() {
        requests += scan.requests;
        let slower = &sorted[at + 1..];
        let rest = share - demand(slower);
        if rest > 0.0 && slower.first().is_none_or(|next| requests / rest <= next.rate) {
            return requests / rest;
        }
    }
    unreachable!("all scans together take the whole share")
}

#[cfg(test)]
mod tests;
