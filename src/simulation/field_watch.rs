//! The polled devices of a world as the server sees them: their tags are looked at after each turn.

use std::sync::Arc;

use super::checkers;
use super::field::{DevicePlan, FLOOD_BEGINS_AT_US, FieldPlan, LinePlan, Point, Role};
use super::record::Record;
use crate::base::section::Document;
use crate::base::time::Tick;
use crate::drivers::modbus::figures::FleetFigures;
use crate::drivers::modbus::sessions;
use crate::drivers::modbus::settings::{Fleet, read};
use crate::engine::Session;
use crate::tags::name::TagName;
use crate::tags::value::{Quality, Value};
use crate::tags::{Declared, OwnerId, TagId, Tags};

/// Polled devices, and what is known of them from their plan.
pub(super) struct FieldWatch {
    plan: FieldPlan,
    figures: Arc<FleetFigures>,
    /// All points of all devices, with their lines.
    points: Vec<Watched>,
}

struct Watched {
    line: usize,
    device: usize,
    point: &'static Point,
    tag: TagId,
    /// What it was when it was looked at last, if it was good.
    value: Option<i64>,
}

/// A turn, and what it takes on the way.
const ROUND_US: u64 = 4_000;
/// Connections of calm lines are made within this time, and first polls sent.
const BEGUN_WITHIN_US: u64 = 1_500_000;
/// By then some points are written without a pause.
const FLOODED_BY_US: u64 = FLOOD_BEGINS_AT_US + 500_000;
/// Until the driver knows which addresses a device does not have: a refusal is repeated after a second.
const LEARNED_WITHIN_US: u64 = 2_000_000;

/// What the driver makes of the configuration.
pub(super) fn fleet_of(plan: &FieldPlan, declared: &mut Declared) -> Fleet {
    let document = Document::parse("world", &plan.config());
    let (fleet, errors) = read(&document.root(), declared, &|_| unreachable!("no files are named"));
    assert_eq!((document.errors(), errors), (Vec::new(), Vec::new()));
    fleet
}

impl FieldWatch {
    /// The driver's sessions are housed from now on. Its tags are declared.
    pub(super) fn begin(
        plan: FieldPlan,
        fleet: Fleet,
        figures: Arc<FleetFigures>,
        tags: &Tags,
        house: impl FnMut(Box<dyn Session>),
    ) -> FieldWatch {
        sessions(fleet.lines, &figures, tags, Tick::default()).for_each(house);
        let mut points = Vec::new();
        for (line, line_plan) in plan.lines.iter().enumerate() {
            for (device, device_plan) in line_plan.devices.iter().enumerate() {
                points.extend(device_plan.points().map(|point| {
                    let name = device_plan.tag(point);
                    let tag = tags.find(TagName::parse(&name).expect("it is a name"));
                    Watched { line, device, point, tag: tag.expect("it is declared"), value: None }
                }));
            }
        }
        FieldWatch { plan, figures, points }
    }

    fn plans(&self, watched: &Watched) -> (&LinePlan, &DevicePlan) {
        let line = &self.plan.lines[watched.line];
        (line, &line.devices[watched.device])
    }

    /// A turn is over: what it made good has to be so.
    pub(super) fn look_at_new(&mut self, tags: &Tags, record: &mut Record) {
        self.see_who_is_paused(record);
        for at in 0..self.points.len() {
            let value = good_value(tags, self.points[at].tag);
            if std::mem::replace(&mut self.points[at].value, value) != value && value.is_some() {
                let verdict = self.judge(record, &self.points[at]);
                record.judge(verdict);
            }
        }
    }

    /// Time has passed: nothing may be too old, nor anybody be asked who is paused.
    pub(super) fn look_at_all(&mut self, tags: &Tags, record: &mut Record) {
        for at in 0..self.points.len() {
            self.points[at].value = good_value(tags, self.points[at].tag);
            let verdict = self.judge(record, &self.points[at]);
            record.judge(verdict);
        }
        let now_us = record.now_us;
        let mut on_time = self.points.iter().filter(|watched| self.on_time_us(watched, now_us).is_some());
        let is_flooded = |watched: &Watched| Some(watched.line) == self.plan.flooded;
        if on_time.clone().any(is_flooded) && !record.quiet && now_us > FLOODED_BY_US {
            record.meet("polls on time beside a flood of writes");
        }
        if on_time.next().is_some() && !record.quiet {
            record.meet(match self.plan.dead_percent {
                0 => "polls on time while nobody is dead",
                5 => "polls on time while one in twenty is dead",
                _ => "polls on time while half are dead",
            });
        }
    }

    fn see_who_is_paused(&self, record: &mut Record) {
        for (_, device) in self.plan.devices() {
            let is_enabled = self.figures.of(OwnerId(device.number - 1)).is_enabled();
            if is_enabled {
                record.field.paused_since.remove(&device.number);
            } else {
                let now_us = record.now_us;
                record.field.paused_since.entry(device.number).or_insert(now_us);
            }
        }
    }

    fn judge(&self, record: &Record, watched: &Watched) -> checkers::Verdict {
        let (line, device) = self.plans(watched);
        let &Watched { point, value, .. } = watched;
        if let Some(value) = value {
            checkers::good_values_are_the_points_own(record, device, point, value)?;
            let most_us = [most_good_us, most_good_when_dead_us].map(|most| most(line, device, point));
            checkers::nothing_is_good_for_too_long(record, device, point, value, most_us)?;
            checkers::the_paused_are_left_alone(record, device, "has good tags")?;
        }
        match self.on_time_us(watched, record.now_us) {
            Some(most_us) if !record.quiet => {
                checkers::healthy_devices_are_polled_on_time(record, device, point, value, most_us)
            }
            _ => Ok(()),
        }
    }

    /// How old the value of a healthy device may be at that time, if there is something that can be said.
    fn on_time_us(&self, watched: &Watched, now_us: u64) -> Option<u64> {
        let (line, device) = self.plans(watched);
        on_time_us(line, device, watched.point, self.plan.flooded == Some(watched.line), now_us)
    }

    /// All devices are polled again.
    pub(super) fn go_on(&self) {
        self.plan.devices().for_each(|(_, device)| self.set_enabled(device, true));
    }

    /// No device is polled any more.
    pub(super) fn pause(&self) {
        self.plan.devices().for_each(|(_, device)| self.set_enabled(device, false));
    }

    fn set_enabled(&self, device: &DevicePlan, is_enabled: bool) {
        self.figures.of(OwnerId(device.number - 1)).set_enabled(is_enabled);
    }

    /// A point that should be good and is not.
    pub(super) fn not_good(&self, tags: &Tags) -> Option<(&DevicePlan, &'static Point)> {
        let watched = self
            .points
            .iter()
            .find(|watched| watched.point.role != Role::Refused && good_value(tags, watched.tag).is_none())?;
        Some((self.plans(watched).1, watched.point))
    }
}

/// The value of a tag that is good.
fn good_value(tags: &Tags, tag: TagId) -> Option<i64> {
    let sample = tags.read(tag);
    match (sample.quality, sample.value) {
        (Quality::Good, Value::Int(value)) => Some(value),
        _ => None,
    }
}

/// How long a value may be good: it was true when it was asked for, came within the timeout, and is too old
/// after `stale_after`.
fn most_good_us(line: &LinePlan, device: &DevicePlan, point: &Point) -> u64 {
    let stale_ms = device.stale_after_ms.unwrap_or(3 * device.rates_ms[point.group]);
    (line.timeout_ms + stale_ms) * 1_000
}

/// How long it may be good after its device has died: who is alone on a line is found to be silent when all
/// attempts are used up.
fn most_good_when_dead_us(line: &LinePlan, device: &DevicePlan, point: &Point) -> u64 {
    let most_us = most_good_us(line, device, point);
    match line.devices.len() {
        1 => most_us.min((line.timeout_ms + device.rates_ms[point.group] + wait_ms(line)) * 1_000),
        _ => most_us,
    }
}

/// How long one unit that does not answer can hold up its line until it is asked no more.
fn wait_ms(line: &LinePlan) -> u64 {
    2 * (line.retries + 1) * hold_ms(line)
}

/// How long a request in vain takes: without ids the line is held for as long again.
fn hold_ms(line: &LinePlan) -> u64 {
    if line.carrier.has_ids() { line.timeout_ms } else { 2 * line.timeout_ms }
}

/// How old a value of a healthy device may be at that time, if there is something that can be said.
fn on_time_us(
    line: &LinePlan,
    device: &DevicePlan,
    point: &Point,
    is_flooded: bool,
    now_us: u64,
) -> Option<u64> {
    if !line.is_calm || device.dies_at_us.is_some() || point.role == Role::Refused {
        return None;
    }
    let rate_us = device.rates_ms[point.group] * 1_000;
    let dead: Vec<u64> = line.devices.iter().filter_map(|device| device.dies_at_us).collect();
    let in_vain_us = dead.len() as u64 * wait_ms(line) * 1_500;
    let all_dead_us = dead.iter().max().map_or(0, |died_us| died_us + in_vain_us);
    let learned_us = if device.refuses { LEARNED_WITHIN_US + 6 * rate_us } else { 0 };
    let steady_us = BEGUN_WITHIN_US + rate_us + learned_us + all_dead_us;
    // Each of its requests, and those of others on the line, go one after the other at worst; and a probe of
    // each unit that is dead.
    let requests = line.devices.iter().map(|device| device.points().count() as u64 + 2).sum::<u64>();
    // Before each a write, perhaps one that is read back.
    let requests = if is_flooded { 3 * requests } else { requests };
    let held_us = dead.len() as u64 * hold_ms(line) * 1_000;
    let most_us = rate_us + requests * (line.answer_us + ROUND_US) + held_us + line.stall_us;
    let stale_us = device.stale_after_ms.unwrap_or(3 * device.rates_ms[point.group]) * 1_000;
    (now_us > steady_us && most_us < stale_us).then_some(most_us)
}
