//! How devices are, as `$device/<name>/…` shows it: written by the line that polls them, read by anybody.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard};

use super::settings::{Fleet, Model};
use crate::base::order::sorted_by;
use crate::base::time::{Now, Tick, Timestamp};
use crate::engine::Figures;
use crate::metrics::Counter;
use crate::protocols::modbus::Exception;
use crate::tags::name::{Pattern, TagName};
use crate::tags::value::{Input, Kind, Quality, Value};
use crate::tags::{Access, Declaration, Memory, OwnerId, Refusal, TagId, Tags, Write};

/// How a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// A connection is being made, or it has not answered yet.
    Connecting,
    /// It answers.
    Online,
    /// It does not answer, though the connection is there: it is asked now and then only.
    Silent,
    /// There is no connection.
    Offline,
    /// It is paused.
    Disabled,
}

const STATES: [(State, &str); 5] = [
    (State::Connecting, "connecting"),
    (State::Online, "online"),
    (State::Silent, "silent"),
    (State::Offline, "offline"),
    (State::Disabled, "disabled"),
];

/// Why a tag of a device is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is good.
    None,
    /// Nothing was read yet.
    NotRead,
    /// Its requests were not answered in time.
    Timeout,
    /// The device does not answer at all.
    Silent,
    /// There is no connection.
    Offline,
    /// The name of its host cannot be looked up; which, and why, the device's own reason says.
    Unresolved,
    /// The device is paused.
    Disabled,
    /// It was not read in time, for whatever cause.
    Stale,
    /// Its registers have no meaning in its type.
    Unreadable,
    /// Its registers were written, or may have been, and not read since.
    Overwritten,
    /// The device refuses it.
    Exception(u8),
}

/// Exceptions are stored from here on.
const FIRST_EXCEPTION: u8 = 16;

impl Reason {
    fn code(self) -> u8 {
        match self {
            Reason::None => 0,
            Reason::NotRead => 1,
            Reason::Timeout => 2,
            Reason::Silent => 3,
            Reason::Offline => 4,
            Reason::Disabled => 5,
            Reason::Stale => 6,
            Reason::Unreadable => 7,
            Reason::Unresolved => 8,
            Reason::Overwritten => 9,
            Reason::Exception(code) => FIRST_EXCEPTION.saturating_add(code),
        }
    }

    fn from_code(code: u8) -> Reason {
        match code {
            0 => Reason::None,
            1 => Reason::NotRead,
            2 => Reason::Timeout,
            3 => Reason::Silent,
            4 => Reason::Offline,
            5 => Reason::Disabled,
            6 => Reason::Stale,
            7 => Reason::Unreadable,
            8 => Reason::Unresolved,
            9 => Reason::Overwritten,
            code => Reason::Exception(code.saturating_sub(FIRST_EXCEPTION)),
        }
    }

    /// For people; nothing for a tag that is good.
    pub fn text(self) -> Cow<'static, str> {
        let text = match self {
            Reason::None => "",
            Reason::NotRead => "not read yet",
            Reason::Timeout => "the device did not answer in time",
            Reason::Silent => "the device is silent",
            Reason::Offline => "the device is not connected",
            Reason::Unresolved => "the name of the device's host could not be looked up",
            Reason::Disabled => "the device is paused",
            Reason::Stale => "not read for stale_after",
            Reason::Unreadable => "the registers have no meaning in the tag's type",
            Reason::Overwritten => "written, or it may have been, and not read since",
            Reason::Exception(code) => return Exception::from_code(code).text(),
        };
        text.into()
    }
}

/// The figures of one device.
pub struct DeviceFigures {
    state: AtomicU8,
    is_enabled: AtomicBool,
    /// Smoothed round trip in microseconds.
    pub rtt_us: Counter,
    pub requests: Counter,
    pub timeouts: Counter,
    pub exceptions: Counter,
    /// Writes after which the device had another value than was asked for.
    pub altered: Counter,
    pub reconnects: Counter,
    /// Answers that came after their time.
    pub late: Counter,
    /// Answers that fit no request.
    pub mismatched: Counter,
    /// Polls skipped because the one before was still running.
    pub overruns: Counter,
    /// Addresses that left the poll because the device refuses them.
    pub quarantined: Counter,
    /// When the point that was read longest ago was read, in microseconds of the clock's ticks.
    oldest_us: AtomicU64,
    /// Why each point is not good.
    reasons: Box<[AtomicU8]>,
    /// Whether the reason of any point is a tag.
    has_named: AtomicBool,
    named: Mutex<Named>,
}

#[derive(Default)]
struct Named {
    /// Of points whose reason is a tag, which; the device itself stands behind its last point.
    tags: BTreeMap<usize, TagId>,
    /// Why there is no connection.
    fault: Option<Arc<str>>,
}

impl DeviceFigures {
    pub fn new(points: usize) -> DeviceFigures {
        DeviceFigures {
            state: AtomicU8::new(State::Connecting as u8),
            is_enabled: AtomicBool::new(true),
            rtt_us: Counter::default(),
            requests: Counter::default(),
            timeouts: Counter::default(),
            exceptions: Counter::default(),
            altered: Counter::default(),
            reconnects: Counter::default(),
            late: Counter::default(),
            mismatched: Counter::default(),
            overruns: Counter::default(),
            quarantined: Counter::default(),
            oldest_us: AtomicU64::new(0),
            has_named: AtomicBool::new(false),
            named: Mutex::default(),
            reasons: (0..points).map(|_| AtomicU8::new(Reason::NotRead.code())).collect(),
        }
    }

    pub fn state(&self) -> State {
        STATES[usize::from(self.state.load(Relaxed))].0
    }

    pub fn set_state(&self, state: State) {
        self.state.store(state as u8, Relaxed);
    }

    /// Whether it is to be polled.
    pub fn is_enabled(&self) -> bool {
        self.is_enabled.load(Relaxed)
    }

    pub fn set_enabled(&self, is_enabled: bool) {
        self.is_enabled.store(is_enabled, Relaxed);
    }

    pub fn set_oldest(&self, oldest: Tick) {
        self.oldest_us.store(oldest.as_micros(), Relaxed);
    }

    /// Why a point is not good.
    pub fn reason(&self, point: usize) -> Reason {
        Reason::from_code(self.reasons[point].load(Relaxed))
    }

    /// Of each point, whether the device refuses it.
    pub fn are_refused(&self) -> impl Iterator<Item = bool> {
        self.reasons.iter().map(|reason| reason.load(Relaxed) >= FIRST_EXCEPTION)
    }

    /// Sets why a point is not good, and the tag that says so if there is one.
    #[inline]
    pub fn set_reason(&self, tags: &Tags, point: usize, reason: Reason, time: Timestamp) {
        // Only the line that polls the device sets it.
        if self.reasons[point].load(Relaxed) != reason.code() {
            self.change_reason(tags, point, reason, time);
        }
    }

    fn change_reason(&self, tags: &Tags, point: usize, reason: Reason, time: Timestamp) {
        // Either this sees that there are tags, or who makes the first one sees the new reason.
        self.reasons[point].store(reason.code(), SeqCst);
        if self.has_named.load(SeqCst) {
            let named = self.named();
            if let Some(&tag) = named.tags.get(&point) {
                self.show_reason(&named, tags, point, tag, time);
            }
        }
    }

    /// Under the lock, so that of two shards that show it the later shows the newer.
    fn name_reason(&self, tags: &Tags, point: usize, tag: TagId, time: Timestamp) {
        let mut named = self.named();
        named.tags.insert(point, tag);
        self.has_named.store(true, SeqCst);
        self.show_reason(&named, tags, point, tag, time);
    }

    /// Sets why there is no connection, and the tags that say so.
    pub fn set_fault(&self, tags: &Tags, fault: Option<&Arc<str>>, time: Timestamp) {
        let mut named = self.named();
        if named.fault.as_ref() != fault {
            named.fault = fault.cloned();
            for (&point, &tag) in &named.tags {
                self.show_reason(&named, tags, point, tag, time);
            }
        }
    }

    fn has_fault(&self) -> bool {
        self.named().fault.is_some()
    }

    fn show_reason(&self, named: &Named, tags: &Tags, point: usize, tag: TagId, time: Timestamp) {
        let reason = self.reasons.get(point).map(|reason| Reason::from_code(reason.load(SeqCst)));
        let text = match (reason, named.fault.as_deref()) {
            (None | Some(Reason::Unresolved), Some(fault)) => fault.into(),
            (None, None) => "".into(),
            (Some(reason), _) => reason.text(),
        };
        let (value, quality) = (Input::Text(text), Quality::Good);
        tags.store(tag, Write { value, quality, time, source: None, stale_at: Tick::NEVER });
    }

    fn named(&self) -> MutexGuard<'_, Named> {
        self.named.lock().expect("a panic ends the process, so no lock is poisoned")
    }
}

/// One of a device's figures.
struct Field {
    name: &'static str,
    kind: Kind,
    access: Access,
    units: &'static str,
    description: &'static str,
    value: fn(&DeviceFigures, Now) -> Value,
}

macro_rules! count {
    ($name:ident, $description:literal) => {
        Field {
            name: stringify!($name),
            kind: Kind::Int,
            access: Access::ReadOnly,
            units: "",
            description: $description,
            value: |figures, _| Value::Int(figures.$name.value() as i64),
        }
    };
}

/// Those of each device, in this order.
const FIELDS: [Field; 14] = [
    Field {
        name: "state",
        kind: Kind::Text,
        access: Access::ReadOnly,
        units: "",
        description: "connecting, online, silent, offline or disabled",
        value: |figures, _| Value::Text(STATES[figures.state() as usize].1.into()),
    },
    Field {
        name: "enabled",
        kind: Kind::Bool,
        access: Access::ReadWrite,
        units: "",
        description: "false pauses the device and closes its connection",
        value: |figures, _| Value::Bool(figures.is_enabled()),
    },
    Field {
        name: "rtt_ms",
        kind: Kind::Float,
        access: Access::ReadOnly,
        units: "ms",
        description: "smoothed time from request to reply",
        value: |figures, _| Value::Float(figures.rtt_us.value() as f64 / 1_000.0),
    },
    count!(requests, "requests since start"),
    count!(timeouts, "requests that were not answered in time"),
    count!(exceptions, "requests that the device refused"),
    count!(altered, "writes after which the device had another value than was asked for"),
    count!(reconnects, "connections after the first"),
    count!(late, "answers that came after their time, and were dropped"),
    count!(mismatched, "answers that fit no request, and were dropped"),
    count!(overruns, "polls skipped because the one before was still running or waiting for its turn"),
    count!(quarantined, "addresses out of the poll because the device refuses them"),
    Field {
        name: "oldest_ms",
        kind: Kind::Int,
        access: Access::ReadOnly,
        units: "ms",
        description: "age of the point that was read longest ago",
        value: |figures, now| {
            let oldest = Tick::from_micros(figures.oldest_us.load(Relaxed));
            Value::Int((now.tick - oldest).as_millis() as i64)
        },
    },
    Field {
        name: "not_good",
        kind: Kind::Int,
        access: Access::ReadOnly,
        units: "",
        description: "tags that are not good",
        value: |figures, _| {
            let not_good = figures.reasons.iter().filter(|reason| reason.load(Relaxed) != 0).count();
            Value::Int(not_good as i64)
        },
    },
];

const ENABLED: usize = 1;

/// The figures of all devices, by their owner's number.
pub struct FleetFigures {
    devices: Vec<Known>,
    by_name: HashMap<Box<str>, usize>,
    /// Of all devices together.
    points: u32,
}

/// A device as its figures know it.
struct Known {
    name: Box<str>,
    model: Arc<Model>,
    figures: Arc<DeviceFigures>,
    /// The number of its first point among all devices' points.
    first_point: u32,
}

impl FleetFigures {
    pub fn new(fleet: &Fleet) -> FleetFigures {
        let devices: Vec<_> = fleet.lines.iter().flat_map(|line| &line.devices).collect();
        let by_owner =
            sorted_by(devices.len(), &|one, other| devices[one].owner.0.cmp(&devices[other].owner.0));
        let mut points = 0;
        let known = by_owner.into_iter().map(|at| devices[at]).map(|device| {
            let (name, model) = (device.name.clone(), Arc::clone(&device.model));
            let figures = Arc::new(DeviceFigures::new(model.points.len()));
            let known = Known { name, figures, first_point: points, model };
            points += known.model.points.len() as u32;
            known
        });
        let devices: Vec<Known> = known.collect();
        let by_name = devices.iter().enumerate().map(|(at, device)| (device.name.clone(), at)).collect();
        FleetFigures { devices, by_name, points }
    }

    pub fn of(&self, owner: OwnerId) -> Arc<DeviceFigures> {
        Arc::clone(&self.devices[usize::from(owner.0)].figures)
    }

    /// How many tags there may be of them: figures, and a reason for each device and each point.
    pub fn most_tags(&self) -> usize {
        self.len() + self.devices.len() + self.points as usize
    }

    /// The device and the point of a cell. Behind those of points are those of devices.
    fn reason_at(&self, at: u32) -> (&Known, usize) {
        if let Some(number) = at.checked_sub(self.points) {
            let device = &self.devices[number as usize];
            return (device, device.model.points.len());
        }
        let after = self.devices.partition_point(|device| device.first_point <= at);
        // Devices without points have the first point of the next.
        let device = &self.devices[after - 1];
        (device, (at - device.first_point) as usize)
    }
}

/// `$device/<name>/reason/<tag>`: why a tag is not good. Seen in listings while it is not.
/// `$device/<name>/reason`: why there is no connection. Seen in listings while there is none.
impl Memory for FleetFigures {
    fn prefix(&self) -> &'static str {
        "$device"
    }

    fn find(&self, rest: &str) -> Option<(u32, Kind)> {
        let (device, rest) = rest.split_once('/')?;
        let number = *self.by_name.get(device)?;
        if rest == "reason" {
            return Some((self.points + number as u32, Kind::Text));
        }
        let name = rest.strip_prefix("reason/")?;
        let device = &self.devices[number];
        let point = device.model.points.iter().position(|point| *point.name == *name)?;
        Some((device.first_point + point as u32, Kind::Text))
    }

    fn show(&self, pattern: Pattern<'_>, name: &mut dyn FnMut(TagName<'_>)) {
        // Who asks for all that there is of all devices does not mean each of their tags.
        if !pattern.levels().any(|level| level == "reason") {
            return;
        }
        let mut show = |text: String| {
            TagName::parse(&text).into_iter().filter(|tag| pattern.matches(*tag)).for_each(&mut *name);
        };
        for device in &self.devices {
            if device.figures.has_fault() {
                show(format!("$device/{}/reason", device.name));
            }
            for (point, settings) in device.model.points.iter().enumerate() {
                if device.figures.reason(point) != Reason::None {
                    show(format!("$device/{}/reason/{}", device.name, settings.name));
                }
            }
        }
    }

    fn adopt(&self, tags: &Tags, at: u32, tag: TagId, time: Timestamp) {
        let (device, point) = self.reason_at(at);
        device.figures.name_reason(tags, point, tag, time);
    }

    fn is_writable(&self) -> bool {
        false
    }

    fn holds(&self, _: u32, _: &Input<'_>) -> bool {
        false
    }

    fn write(&self, _: &Tags, _: u32, _: TagId, _: Tick, _: Write<'_>) {
        unreachable!("reasons are read-only")
    }
}

impl Figures for FleetFigures {
    fn len(&self) -> usize {
        self.devices.len() * FIELDS.len()
    }

    fn declare(&self, number: usize) -> (String, Declaration) {
        let (device, field) = (&self.devices[number / FIELDS.len()], &FIELDS[number % FIELDS.len()]);
        let declaration = Declaration {
            kind: field.kind,
            access: field.access,
            units: field.units.into(),
            description: field.description.into(),
            ..Declaration::default()
        };
        (format!("$device/{}/{}", device.name, field.name), declaration)
    }

    fn value(&self, number: usize, now: Now) -> Value {
        (FIELDS[number % FIELDS.len()].value)(&self.devices[number / FIELDS.len()].figures, now)
    }

    fn write(&self, number: usize, value: &Input<'_>) -> Result<(), Refusal> {
        match (number % FIELDS.len(), value) {
            (ENABLED, Input::Bool(enabled)) => {
                self.devices[number / FIELDS.len()].figures.set_enabled(*enabled);
                Ok(())
            }
            _ => Err(Refusal::ReadOnly),
        }
    }
}
