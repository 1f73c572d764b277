//! `[[device]]` and `[[template]]`: which devices are polled, what of them, and how.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use super::places::Point;
use super::plan::{Limits as ReadLimits, Plan};
use super::points::{Draft, PointSettings, read_points};
use super::sources::{Place, Sources};
use crate::base::host::Host;
use crate::base::section::{ConfigError, Section, Spot};
use crate::engine::Transport;
use crate::protocols::modbus::pdu::{MOST_READ_BITS, MOST_READ_REGISTERS};
use crate::protocols::modbus::rtu;
use crate::tags::name::{DeviceName, TagName};
use crate::tags::{Declared, DeclaredTag, OwnerId};

/// How bytes travel to devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// `modbus://`
    Tcp,
    /// `modbus+udp://`
    Udp,
    /// `modbus-rtu://`: RTU frames over TCP.
    Rtu,
}

impl Carrier {
    /// That of its URLs.
    pub(super) fn scheme(self) -> &'static str {
        let row = SCHEMES.into_iter().find(|(_, carrier)| *carrier == self);
        row.map(|(scheme, _)| scheme).expect("each has a scheme")
    }

    pub(super) fn transport(self) -> Transport {
        match self {
            Carrier::Tcp | Carrier::Rtu => Transport::Stream,
            Carrier::Udp => Transport::Datagram,
        }
    }
}

/// The schemes of device URLs.
pub const SCHEMES: [(&str, Carrier); 3] =
    [("modbus", Carrier::Tcp), ("modbus+udp", Carrier::Udp), ("modbus-rtu", Carrier::Rtu)];

const DEFAULT_PORT: u16 = 502;
/// So many an [`OwnerId`] can tell apart.
const MOST_DEVICES: usize = 65_535;
/// Leaves room for what names are made of it.
const MOST_NAME_BYTES: usize = 128;

/// All that is polled.
#[derive(Default)]
pub struct Fleet {
    /// The names of the devices, by [`OwnerId`].
    pub names: Vec<Box<str>>,
    /// The connections to be made.
    pub lines: Vec<LineSettings>,
    /// What can be polled so, but is hardly meant so; each begins with its place.
    pub warnings: Vec<String>,
}

/// One connection, and the devices behind it.
pub struct LineSettings {
    pub url: Box<str>,
    pub carrier: Carrier,
    pub host: Host,
    /// Where the configuration says the URL first.
    pub spot: Spot,
    /// Requests in flight.
    pub window: usize,
    /// From a reply to the next request.
    pub min_gap: Duration,
    /// The device repeats transaction ids.
    pub echo_tid: bool,
    /// How many hundredths of the time units that do not answer may take.
    pub dead_share: u32,
    pub devices: Vec<DeviceSettings>,
}

/// One device.
pub struct DeviceSettings {
    pub owner: OwnerId,
    pub name: Box<str>,
    pub unit: u8,
    pub timeout: Duration,
    pub retries: u8,
    pub write_retries: u8,
    /// How long an order may wait for its turn.
    pub write_expiry: Duration,
    pub stale_after: Option<Duration>,
    pub model: Arc<Model>,
}

/// What is polled of a device: the same for all devices of a template with the same settings.
pub struct Model {
    pub points: Vec<PointSettings>,
    /// Of the groups of points.
    pub rates: Vec<Duration>,
    pub plan: Arc<Plan>,
    /// Functions 5 and 6 may be used.
    pub write_single: bool,
    pub bit_write: Option<BitWrite>,
}

/// How a single bit of a register is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BitWrite {
    /// By function 22.
    Mask,
    /// By reading the register and writing it.
    ReadModifyWrite,
}

/// What decides whether devices can share a model.
#[derive(PartialEq, Eq, Hash)]
struct ModelKey {
    template: String,
    rate: Duration,
    limits: (u16, u16, u16, u16),
    write_single: bool,
    bit_write: Option<BitWrite>,
}

/// Reads the sections. Files that they name are read by `load`; what is wrong in those is returned, all else
/// goes to the document.
pub fn read(
    root: &Section<'_>,
    declared: &mut Declared,
    load: &dyn Fn(&str) -> std::io::Result<String>,
) -> (Fleet, Vec<ConfigError>) {
    let mut reader = Reader {
        templates: HashMap::new(),
        models: HashMap::new(),
        lines: HashMap::new(),
        units: HashMap::new(),
        fleet: Fleet::default(),
        declared,
        load,
        sources: Sources::new(root.document()),
    };
    for section in root.tables("template") {
        reader.read_template(section);
    }
    for section in root.tables("device") {
        reader.read_device(section);
    }
    (reader.fleet, reader.sources.into_errors())
}

struct Reader<'a> {
    templates: HashMap<String, Arc<[Draft]>>,
    models: HashMap<ModelKey, Arc<Model>>,
    /// The place of each URL's line.
    lines: HashMap<String, usize>,
    /// Which device was the first of a line with a unit, and where.
    units: HashMap<(usize, u8), (Box<str>, Spot)>,
    fleet: Fleet,
    declared: &'a mut Declared,
    load: &'a dyn Fn(&str) -> std::io::Result<String>,
    sources: Sources<'a>,
}

impl Reader<'_> {
    fn read_template(&mut self, section: Section<'_>) {
        let name = section.required_text("name").map(str::to_owned);
        let points = read_points(section.tables("tag"), None);
        if let Some(name) = name {
            if self.templates.contains_key(&name) {
                section.error("name", format!("there is a template '{name}' already"));
            }
            self.templates.insert(name, points.into());
        }
        section.finish();
    }

    fn read_device(&mut self, section: Section<'_>) {
        section.require("name", "one level of a tag's name, such as \"meter7\"");
        section.require("url", "such as \"modbus://10.0.0.7:502\"");
        let name = section.parse("name", |text| {
            DeviceName::parse(text)
                .map(|name| Box::<str>::from(name.as_str()))
                .map_err(|error| error.to_string())
        });
        let name = name.filter(|name| {
            if name.len() > MOST_NAME_BYTES {
                section.error("name", format!("a device's name has at most {MOST_NAME_BYTES} bytes"));
                return false;
            }
            if self.fleet.names.len() == MOST_DEVICES {
                section.error("name", format!("there are at most {MOST_DEVICES} devices"));
                return false;
            }
            let is_new = !self.fleet.names.contains(name);
            if !is_new {
                section.error("name", format!("there is a device '{name}' already"));
            }
            is_new
        });
        let url = section.parse("url", parse_url);
        let duration = |key, default| section.duration(key).unwrap_or(default);
        let second = Duration::from_secs(1);
        let unit = section.integer("unit", 0..=255).unwrap_or(1) as u8;
        if unit == rtu::BROADCAST_UNIT && url.as_ref().is_some_and(|(carrier, ..)| *carrier == Carrier::Rtu) {
            section.error("unit", "0 is all units of a serial line, which none answers; expected 1 to 247");
        }
        let timeout = duration("timeout", second);
        let retries = section.integer("retries", 0..=10).unwrap_or(1) as u8;
        let write_retries = section.integer("write_retries", 0..=10).unwrap_or(0) as u8;
        let write_expiry = duration("write_expiry", 2 * second);
        let stale_after = section.duration("stale_after");
        let owner = OwnerId(self.fleet.names.len() as u16);
        if let Some(name) = &name {
            // Also where something else is wrong with it: that it is missing would be another mistake.
            self.declared.add_owner(name, owner);
        }
        let line = self.line(&section, url);
        let model = self.model(&section, name.as_deref());
        if let (Some(name), Some(line), Some(model)) = (name, line, model) {
            let slowest = model.points.iter().max_by_key(|point| point.rate);
            if let Some((point, stale_after)) = slowest.zip(stale_after) {
                if stale_after < point.rate {
                    let warning = format!(
                        "'stale_after' is {stale_after:?}, and {name}/{} is read each {:?} only: it is \
                         uncertain in between",
                        point.name, point.rate
                    );
                    let place = section.place(section.spot("stale_after"));
                    self.fleet.warnings.push(format!("{place}: {warning}"));
                }
            }
            for point in &model.points {
                let declaration = point.declaration(owner);
                let tag: Box<str> = format!("{name}/{}", point.name).into();
                // Its reason has the longest name of all that is made of the two.
                if let Err(why) = TagName::parse(&format!("$device/{name}/reason/{}", point.name)) {
                    section.error("name", format!("'{tag}' cannot be a tag: {why}"));
                    continue;
                }
                // The tags of a device are consecutive.
                if self.declared.get(&tag).is_some() {
                    section.error("name", format!("the tag '{tag}' is declared already"));
                }
                self.declared.add(DeclaredTag { name: tag, declaration, initial: None });
            }
            self.see_twin(&section, line, unit, &name);
            self.fleet.names.push(name.clone());
            self.fleet.lines[line].devices.push(DeviceSettings {
                owner,
                name,
                unit,
                timeout,
                retries,
                write_retries,
                write_expiry,
                stale_after,
                model,
            });
        }
        section.finish();
    }

    /// Two devices may be one unit, with points of their own; but each is polled as if it were the only one.
    fn see_twin(&mut self, section: &Section<'_>, line: usize, unit: u8, name: &str) {
        let here = section.spot("unit");
        match self.units.entry((line, unit)) {
            Entry::Vacant(free) => {
                free.insert((name.into(), here));
            }
            Entry::Occupied(taken) => {
                let (first, there) = taken.get();
                self.fleet.warnings.push(format!(
                    "{}: '{name}' is unit {unit} of {}, as '{first}' is ({}): each of the two is polled and \
                     written by itself",
                    section.place(here),
                    self.fleet.lines[line].url,
                    section.place(*there),
                ));
            }
        }
    }

    /// The place of the line that a device is on. What is of the line may be said by any of its devices; the
    /// first that does decides, and others must agree.
    fn line(&mut self, section: &Section<'_>, url: Option<(Carrier, Host, String)>) -> Option<usize> {
        let window = section.integer("window", 1..=16).map(|window| window as usize);
        let min_gap = section.duration_in("min_gap", Duration::ZERO..=Duration::from_secs(60));
        let echo_tid = section.bool("echo_tid");
        let dead_share = section.integer("dead_share", 1..=100).map(|share| share as u32);
        let (carrier, host, url) = url?;
        let has_ids = carrier != Carrier::Rtu && echo_tid != Some(false);
        if !has_ids && window.is_some_and(|window| window > 1) {
            section.error("window", "without transaction ids (modbus-rtu, echo_tid = false) the window is 1");
        }
        let line = match self.lines.get(&url) {
            Some(&line) => line,
            None => {
                let line = self.fleet.lines.len();
                self.lines.insert(url.clone(), line);
                self.fleet.lines.push(LineSettings {
                    url: url.into(),
                    carrier,
                    host,
                    spot: section.spot("url"),
                    window: window.unwrap_or(1),
                    min_gap: min_gap.unwrap_or_default(),
                    echo_tid: has_ids,
                    dead_share: dead_share.unwrap_or(10),
                    devices: Vec::new(),
                });
                return Some(line);
            }
        };
        let settings = &self.fleet.lines[line];
        let agree = |key, agrees: bool| {
            if !agrees {
                let first = &settings.devices.first().map_or("another device", |device| &device.name);
                section.error(key, format!("'{key}' is of the connection, which {first} set otherwise"));
            }
        };
        agree("window", window.is_none_or(|window| window == settings.window));
        agree("min_gap", min_gap.is_none_or(|gap| gap == settings.min_gap));
        agree("echo_tid", echo_tid.is_none_or(|_| has_ids == settings.echo_tid));
        agree("dead_share", dead_share.is_none_or(|share| share == settings.dead_share));
        Some(line)
    }

    fn model(&mut self, section: &Section<'_>, device: Option<&str>) -> Option<Arc<Model>> {
        let rate = section.duration("rate").unwrap_or(Duration::from_secs(1));
        let registers = section.integer("max_registers", 1..=MOST_READ_REGISTERS.into());
        let bits = section.integer("max_bits", 1..=MOST_READ_BITS.into());
        let gap = section.integer("merge_gap", 0..=MOST_READ_REGISTERS.into()).unwrap_or(8) as u16;
        let limits = ReadLimits {
            max_registers: registers.map_or(MOST_READ_REGISTERS, |most| most as u16),
            max_bits: bits.map_or(MOST_READ_BITS, |most| most as u16),
            ..ReadLimits::with_gap(gap)
        };
        let write_single = section.bool("write_single").unwrap_or(true);
        let use_fc22 = section.bool("use_fc22");
        let bit_writes = [("fc22", BitWrite::Mask), ("rmw", BitWrite::ReadModifyWrite)];
        let bit_write = section.one_of("bit_write", &bit_writes);
        if use_fc22 == Some(false) && bit_write == Some(BitWrite::Mask) {
            section.error("bit_write", "the device has function 22 if 'use_fc22' is true");
        }
        let bit_write = bit_write.or((use_fc22 == Some(true)).then_some(BitWrite::Mask));

        let template = section.text("template");
        let mut drafts: Vec<Draft> = Vec::new();
        if let Some(name) = template {
            match self.templates.get(name) {
                Some(points) => drafts.extend(points.iter().cloned()),
                None => section.error("template", format!("there is no [[template]] of the name '{name}'")),
            }
        }
        let from_template = drafts.len();
        if let Some(file) = section.text("tags") {
            self.read_table(section, file, &mut drafts);
        }
        drafts.extend(read_points(section.tables("tag"), None));
        let key = ModelKey {
            template: template.unwrap_or_default().to_owned(),
            rate,
            limits: (limits.max_registers, limits.max_bits, limits.merge_gap, limits.merge_gap_bits),
            write_single,
            bit_write,
        };
        let is_shared = drafts.len() == from_template;
        if let Some(model) = self.models.get(&key).filter(|_| is_shared) {
            return Some(Arc::clone(model));
        }
        let prefix = device.map(|device| format!("{device}/")).unwrap_or_default();
        let context = (&self.sources, &*prefix);
        let model = Arc::new(Model::new(context, drafts, rate, limits, write_single, bit_write));
        if is_shared {
            self.models.insert(key, Arc::clone(&model));
        }
        Some(model)
    }

    /// The points of a CSV file.
    fn read_table(&mut self, section: &Section<'_>, file: &str, drafts: &mut Vec<Draft>) {
        if let Some(points) = self.sources.points(file) {
            drafts.extend_from_slice(points);
            return;
        }
        match (self.load)(file) {
            Ok(text) => drafts.extend_from_slice(self.sources.add(file, &text)),
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                section.error(
                    "tags",
                    format!("'{file}' is not in UTF-8, expected a file saved as \"CSV UTF-8\""),
                );
            }
            Err(error) => section.error("tags", format!("'{file}' cannot be read: {error}")),
        }
    }
}

impl Model {
    /// Mistakes name the tags behind the prefix, and stand at the points.
    fn new(
        (sources, prefix): (&Sources<'_>, &str),
        drafts: Vec<Draft>,
        rate: Duration,
        limits: ReadLimits,
        write_single: bool,
        bit_write: Option<BitWrite>,
    ) -> Model {
        let mut rates = Vec::new();
        let mut planned = Vec::new();
        let mut points: Vec<PointSettings> = Vec::new();
        let mut places: HashMap<Box<str>, Place> = HashMap::new();
        for draft in drafts {
            let rate = draft.rate.unwrap_or(rate);
            let group = rates.iter().position(|known| *known == rate).unwrap_or_else(|| {
                rates.push(rate);
                rates.len() - 1
            });
            let mut point = draft.point;
            point.rate = rate;
            let (area, span) = (point.address.area(), point.span());
            let wrong = if let Some(first) = places.get(&point.name) {
                Some(format!("is there twice, first at {}", sources.show(*first)))
            } else if !limits.allow(area, span) {
                Some(format!(
                    "is longer than a request may read at {}, or reaches beyond 65535",
                    point.address
                ))
            } else if point.is_writable && point.address.bit().is_some() && bit_write.is_none() {
                Some(
                    "is a bit of a register: 'bit_write' of the device says how it can be written".to_owned(),
                )
            } else {
                None
            };
            places.entry(point.name.clone()).or_insert(draft.place);
            match wrong {
                Some(why) => sources.error(draft.place, format!("the tag '{prefix}{}' {why}", point.name)),
                None => {
                    planned.push(Point { group: group as u16, area, span });
                    points.push(point);
                }
            }
        }
        let plan = Arc::new(Plan::new(&planned, limits));
        Model { points, rates, plan, write_single, bit_write }
    }
}

/// `scheme://host:port`, and the form in which equal ones are the same text.
fn parse_url(text: &str) -> Result<(Carrier, Host, String), String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!("'{text}' is not a device, expected one such as modbus://10.0.0.7:502"));
    };
    let Some((scheme, carrier)) = SCHEMES.into_iter().find(|(known, _)| *known == scheme) else {
        let known = SCHEMES.map(|(scheme, _)| scheme).join(", ");
        return Err(format!("unknown protocol '{scheme}', expected one of {known}"));
    };
    let host = Host::parse(rest, DEFAULT_PORT)?;
    let url = format!("{scheme}://{host}");
    Ok((carrier, host, url))
}
