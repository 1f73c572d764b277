//! The field of a world: Modbus slaves that the real driver polls, and what stands in their registers.
//!
//! Each register's value says whose it is: the device, the register, and a version. What is only read changes
//! its version with the time, so that a value tells when it was true as well; what is written has the version
//! that somebody wrote.

use std::fmt::Write;

use super::net::device_host;
use crate::base::random::Random;
use crate::protocols::modbus::Area;

/// A version of a register that is only read lasts so long.
pub const PERIOD_US: u64 = 25_000;
/// Versions are below.
pub const VERSIONS: u64 = 256;
/// Whoever writes without a pause begins when devices are polled at their rates.
pub const FLOOD_BEGINS_AT_US: u64 = 2_500_000;
/// Where the first register of a device stands.
const FIRST_ADDRESS: u16 = 100;
/// Holding registers of a device that can be read.
pub const HOLDINGS: u16 = 15;
/// How the only input register is called in values.
const INPUT_SLOT: u16 = 15;

/// The lines of a world, and the devices behind them.
#[derive(Clone, Debug)]
pub struct FieldPlan {
    pub lines: Vec<LinePlan>,
    /// Of hundred devices, so many die for good.
    pub dead_percent: usize,
    /// The line whose points are written without a pause.
    pub flooded: Option<usize>,
}

/// How requests travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    Tcp,
    /// TCP, and the slave answers with transaction id 0.
    WithoutIds,
    Rtu,
    Udp,
}

/// A connection.
#[derive(Clone, Debug)]
pub struct LinePlan {
    pub carrier: Carrier,
    pub window: usize,
    pub timeout_ms: u64,
    pub retries: u64,
    /// Nothing goes wrong on it but that devices die.
    pub is_calm: bool,
    /// How long an ordinary answer takes.
    pub answer_us: u64,
    /// Now and then its devices answer nothing for so long, then everything; 0: never. It is less than the
    /// timeout, and more than a device is waited for that answers soon.
    pub stall_us: u64,
    pub devices: Vec<DevicePlan>,
}

/// A device.
#[derive(Clone, Debug)]
pub struct DevicePlan {
    /// From 1 on; part of all its values.
    pub number: u16,
    pub unit: u8,
    /// It is dead from then on, until all comes to rest.
    pub dies_at_us: Option<u64>,
    /// Of its two groups of points.
    pub rates_ms: [u64; 2],
    pub stale_after_ms: Option<u64>,
    pub write_expiry_ms: u64,
    pub merge_gap: u16,
    pub write_single: bool,
    pub verify: bool,
    /// One point is an address that it does not have.
    pub refuses: bool,
}

/// What a point is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Read,
    /// Written by one operator, and read.
    Written,
    /// The device has no such register.
    Refused,
}

/// How many registers a value has, and which comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    One,
    HighFirst,
    LowFirst,
}

/// A point that devices have.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    pub name: &'static str,
    pub area: Area,
    /// The register, as values name it.
    slot: u16,
    pub shape: Shape,
    pub role: Role,
    /// The group that it is polled with.
    pub group: usize,
}

const fn holding(name: &'static str, slot: u16, shape: Shape, role: Role, group: usize) -> Point {
    Point { name, area: Area::Holding, slot, shape, role, group }
}

/// Blocks of the two groups are as long as each other where they are not merged: an answer to one fits the
/// other.
const POINTS: [Point; 8] = [
    holding("r0", 0, Shape::One, Role::Read, 0),
    holding("r1", 1, Shape::HighFirst, Role::Read, 0),
    holding("r4", 4, Shape::One, Role::Read, 1),
    holding("r5", 5, Shape::LowFirst, Role::Read, 1),
    holding("w8", 8, Shape::One, Role::Written, 0),
    holding("w9", 9, Shape::HighFirst, Role::Written, 1),
    Point { area: Area::Input, ..holding("i0", INPUT_SLOT, Shape::One, Role::Read, 0) },
    holding("x13", REFUSED_SLOT, Shape::One, Role::Refused, 1),
];
const REFUSED_SLOT: u16 = 13;

/// What a register holds.
fn word(device: u16, slot: u16, version: u64) -> u16 {
    device << 12 | slot << 8 | (version % VERSIONS) as u16
}

/// The version of what is only read, at that time.
pub fn version_at(us: u64) -> u64 {
    us / PERIOD_US % VERSIONS
}

impl Point {
    pub fn address(&self) -> u16 {
        FIRST_ADDRESS + if self.area == Area::Input { 0 } else { self.slot }
    }

    /// The tag's value with that version.
    pub fn value(&self, device: u16, version: u64) -> i64 {
        let [first, second] = [self.slot, self.slot + 1].map(|slot| i64::from(word(device, slot, version)));
        match self.shape {
            Shape::One => first,
            Shape::HighFirst => first << 16 | second,
            Shape::LowFirst => second << 16 | first,
        }
    }

    /// The version of a value, if it is one of this point of that device.
    pub fn version_of(&self, device: u16, value: i64) -> Option<u64> {
        let version = value as u64 % VERSIONS;
        (self.value(device, version) == value).then_some(version)
    }

    /// The registers that hold a value of it.
    pub fn value_in(&self, words: &[u16]) -> i64 {
        match (self.shape, words) {
            (Shape::HighFirst, [high, low]) => i64::from(*high) << 16 | i64::from(*low),
            (Shape::LowFirst, [low, high]) => i64::from(*high) << 16 | i64::from(*low),
            _ => i64::from(words[0]),
        }
    }

    pub fn registers(&self) -> u16 {
        if self.shape == Shape::One { 1 } else { 2 }
    }
}

/// A register of a device at a time; `None` if it has none there. What is written is in `written`, by slot.
pub fn register_at(
    plan: &DevicePlan,
    area: Area,
    address: u16,
    us: u64,
    written: &[Option<u16>],
) -> Option<u16> {
    let slot = address.checked_sub(FIRST_ADDRESS)?;
    match area {
        Area::Input => (slot < 4).then(|| word(plan.number, INPUT_SLOT, version_at(us))),
        Area::Holding if slot < HOLDINGS && !(plan.refuses && slot == REFUSED_SLOT) => {
            let written = written.get(usize::from(slot)).copied().flatten();
            Some(written.unwrap_or(word(plan.number, slot, version_at(us))))
        }
        _ => None,
    }
}

/// Where a register is in what is written.
pub fn slot_of(address: u16) -> usize {
    usize::from(address - FIRST_ADDRESS)
}

impl Carrier {
    pub fn has_ids(self) -> bool {
        matches!(self, Carrier::Tcp | Carrier::Udp)
    }
}

impl DevicePlan {
    pub fn name(&self) -> String {
        format!("fld{}", self.number)
    }

    pub fn tag(&self, point: &Point) -> String {
        format!("fld{}/{}", self.number, point.name)
    }

    pub fn points(&self) -> impl Iterator<Item = &'static Point> + use<> {
        let refuses = self.refuses;
        POINTS.iter().filter(move |point| refuses || point.role != Role::Refused)
    }

    /// What is written stands in these registers at first.
    pub fn written_at_first(&self) -> Vec<Option<u16>> {
        let mut written = vec![None; usize::from(HOLDINGS)];
        for point in self.points().filter(|point| point.role == Role::Written) {
            for slot in point.slot..point.slot + point.registers() {
                written[usize::from(slot)] = Some(word(self.number, slot, 0));
            }
        }
        written
    }

    fn draw(random: &mut Random, number: u16, unit: u8, dead_percent: usize, busy_us: u64) -> DevicePlan {
        let is_dead = random.below(100) < dead_percent;
        let mut rate = || *random.pick(&[&100, &150, &200, &300, &500]);
        DevicePlan {
            number,
            unit,
            rates_ms: [rate(), rate()],
            dies_at_us: is_dead.then(|| random.below(3) as u64 * busy_us / 4),
            stale_after_ms: *random.pick(&[&None, &None, &Some(700), &Some(2_500)]),
            write_expiry_ms: *random.pick(&[&2_000, &400]),
            merge_gap: *random.pick(&[&0, &1, &8]),
            write_single: random.one_in(2),
            verify: random.one_in(3),
            refuses: random.one_in(3),
        }
    }
}

impl LinePlan {
    fn draw(random: &mut Random, first: u16, dead_percent: usize, busy_us: u64) -> LinePlan {
        let carrier =
            *random.pick(&[&Carrier::Tcp, &Carrier::Tcp, &Carrier::WithoutIds, &Carrier::Rtu, &Carrier::Udp]);
        let count = *random.pick(&[&1, &1, &2, &3]);
        let units = random.within(1..=200) as u8;
        let devices = (0..count).map(|at| {
            let unit = units + 3 * at as u8;
            DevicePlan::draw(random, first + at, unit, dead_percent, busy_us)
        });
        let devices = devices.collect();
        LinePlan {
            carrier,
            window: if carrier.has_ids() { *random.pick(&[&1, &4]) } else { 1 },
            timeout_ms: random.within(150..=400),
            retries: random.within(0..=2),
            is_calm: random.one_in(2),
            answer_us: random.within(300..=8_000),
            stall_us: 0,
            devices,
        }
    }

    /// Whether nothing at all goes wrong on it.
    fn is_sound(&self) -> bool {
        self.is_calm && self.devices.iter().all(|device| device.dies_at_us.is_none())
    }

    /// Its device stalls now and then, with several requests in flight.
    fn stall(&mut self, random: &mut Random) {
        (self.window, self.retries) = (4, 1);
        self.stall_us = 1_000 * random.within(110..=self.timeout_ms - 40);
        for device in &mut self.devices {
            (device.merge_gap, device.refuses) = (0, false);
        }
    }
}

/// Devices of a world, at most.
const MOST_DEVICES: u16 = 10;

impl FieldPlan {
    pub fn draw(random: &mut Random, busy_us: u64) -> FieldPlan {
        let dead_percent = *random.pick(&[&0, &5, &50]);
        let most_lines = 2 + random.below(4);
        let mut lines: Vec<LinePlan> = Vec::new();
        let mut next = 1;
        while lines.len() < most_lines && next + 3 <= MOST_DEVICES {
            let line = LinePlan::draw(random, next, dead_percent, busy_us);
            next += line.devices.len() as u16;
            lines.push(line);
        }
        let may_stall = |line: &&mut LinePlan| {
            line.is_sound() && line.devices.len() == 1 && line.carrier.has_ids() && line.timeout_ms >= 150
        };
        lines.iter_mut().filter(may_stall).take(1).for_each(|line| line.stall(random));
        let flooded = lines.iter().position(|line| line.is_sound() && line.stall_us == 0);
        FieldPlan { lines, dead_percent, flooded }
    }

    /// All devices with their lines, in the order of the configuration.
    pub fn devices(&self) -> impl Iterator<Item = (&LinePlan, &DevicePlan)> {
        self.lines.iter().flat_map(|line| line.devices.iter().map(move |device| (line, device)))
    }

    /// The tags that are written, by their devices and points.
    pub fn written(&self) -> impl Iterator<Item = (&DevicePlan, &'static Point)> {
        self.lines.iter().flat_map(LinePlan::written)
    }

    /// Those of them that are written without a pause; or the others.
    pub fn written_in_flood(&self, is_flood: bool) -> impl Iterator<Item = (&DevicePlan, &'static Point)> {
        let lines = self.lines.iter().enumerate();
        let lines = lines.filter(move |(at, _)| (Some(*at) == self.flooded) == is_flood);
        lines.flat_map(|(_, line)| line.written())
    }

    /// The configuration: slaves are the first peers of a world, one a line.
    pub fn config(&self) -> String {
        let mut text = String::new();
        for (place, line) in self.lines.iter().enumerate() {
            for device in &line.devices {
                line.write_config(place, device, &mut text).expect("a string takes all");
            }
        }
        text
    }
}

impl LinePlan {
    fn written(&self) -> impl Iterator<Item = (&DevicePlan, &'static Point)> {
        let written = |point: &&Point| point.role == Role::Written;
        let devices = self.devices.iter();
        devices.flat_map(move |device| device.points().filter(written).map(move |point| (device, point)))
    }

    fn write_config(&self, place: usize, device: &DevicePlan, out: &mut String) -> std::fmt::Result {
        let scheme = match self.carrier {
            Carrier::Tcp | Carrier::WithoutIds => "modbus",
            Carrier::Rtu => "modbus-rtu",
            Carrier::Udp => "modbus+udp",
        };
        let DevicePlan { unit, merge_gap, rates_ms, write_expiry_ms, write_single, .. } = device;
        writeln!(out, "[[device]]\nname = \"{}\"", device.name())?;
        writeln!(out, "url = \"{scheme}://{}\"\nunit = {unit}", device_host(place))?;
        writeln!(out, "rate = \"{}ms\"\ntimeout = \"{}ms\"", rates_ms[0], self.timeout_ms)?;
        writeln!(out, "retries = {}\nwindow = {}\nmerge_gap = {merge_gap}", self.retries, self.window)?;
        writeln!(out, "write_expiry = \"{write_expiry_ms}ms\"\nwrite_single = {write_single}")?;
        if self.carrier == Carrier::WithoutIds {
            writeln!(out, "echo_tid = false")?;
        }
        if let Some(stale) = device.stale_after_ms {
            writeln!(out, "stale_after = \"{stale}ms\"")?;
        }
        for point in device.points() {
            let area = if point.area == Area::Input { "input" } else { "holding" };
            writeln!(out, "[[device.tag]]\nname = \"{}\"", point.name)?;
            writeln!(
                out,
                "address = \"{area}:{}\"\nrate = \"{}ms\"",
                point.address(),
                rates_ms[point.group]
            )?;
            out.write_str(match point.shape {
                Shape::One => "type = \"u16\"\n",
                Shape::HighFirst => "type = \"u32\"\n",
                Shape::LowFirst => "type = \"u32\"\norder = \"cdab\"\n",
            })?;
            if point.role == Role::Written {
                writeln!(out, "access = \"rw\"\nverify = {}", device.verify)?;
            }
        }
        Ok(())
    }
}
