//! The `[modbus]` table: which units there are, and what they hold.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::address::{AREA_SIZE, AREAS, Address, Area};
use super::super::convert::{Conversion, ORDERS, Order, ScaleError, Type};
use super::Unit;
use super::mapped::{self, Cell, Entry, Holds, Mapped, OnBad, Shows};
use super::proxied::Proxied;
use super::raw::{self, Raw, RawArea};
use crate::base::section::{Scalar, Section};
use crate::engine::system_tag_kind;
use crate::tags::name::TagName;
use crate::tags::value::{Input, Kind, Limits, Number};
use crate::tags::{Access, Declaration, Declared, DeclaredTag};

/// The unit of a server that is told of none: all of a PLC's memory.
const DEFAULT_UNIT: u8 = 1;
/// An answer that is older is of no use to anybody.
const MOST_MAX_AGE: Duration = Duration::from_secs(3_600);

/// The units of the table. Mistakes go to the document; tags that are shown and not declared are declared.
pub(super) fn read(section: Option<Section<'_>>, declared: &mut Declared) -> Vec<Unit> {
    let mut units = Drafts::new();
    if let Some(section) = section {
        for unit in section.tables("unit") {
            read_unit(unit, &mut units);
        }
        for proxy in section.tables("proxy") {
            read_proxy(proxy, &mut units, declared);
        }
        for map in section.tables("map") {
            read_map(map, &mut units, declared);
        }
        section.finish();
    }
    declare_tags_of_qualities(&units, declared);
    if units.is_empty() {
        let full = AREAS.map(|area| RawArea::new(area, AREA_SIZE, None));
        return vec![Unit::raw(DEFAULT_UNIT, Raw::new(full))];
    }
    units.into_iter().map(|(id, draft)| draft.finish(id)).collect()
}

/// Those of which only the quality is shown; where a value is shown as well, its type counts.
fn declare_tags_of_qualities(units: &Drafts, declared: &mut Declared) {
    let maps = units.values().filter_map(|draft| match draft {
        Draft::Mapped { map, .. } => Some(&map.entries),
        Draft::Raw(_) | Draft::Proxied(_) => None,
    });
    for entry in maps.flatten().filter(|entry| matches!(entry.shows, Shows::Quality(_))) {
        if Target::find(&entry.tag, declared, units).is_ok_and(|target| target.is_new) {
            declare(&entry.tag, Kind::Any, declared);
        }
    }
}

/// Units by their numbers.
type Drafts = BTreeMap<u8, Draft>;

/// A unit that is being read.
enum Draft {
    Raw(Raw),
    Mapped { map: Map, fill: Option<u16> },
    Proxied(Proxied),
}

/// What a unit shows so far: for each area the cells by their start.
#[derive(Default)]
struct Map {
    areas: [BTreeMap<u16, Cell>; AREAS.len()],
    entries: Vec<Entry>,
}

impl Draft {
    fn is_raw(&self) -> bool {
        matches!(self, Draft::Raw(_))
    }

    fn finish(self, id: u8) -> Unit {
        match self {
            Draft::Raw(raw) => Unit::raw(id, raw),
            Draft::Proxied(proxied) => Unit::proxied(id, proxied),
            Draft::Mapped { map, fill } => {
                let areas = map.areas.map(|cells| cells.into_values().collect());
                Unit::mapped(id, Mapped::new(areas, map.entries, fill))
            }
        }
    }
}

fn read_unit(section: Section<'_>, units: &mut Drafts) {
    section.require("id", "a unit from 1 to 255");
    let id = section.integer("id", 1..=255).map(|id| id as u8);
    let sizes = AREAS.map(|area| section.has(key_of(area)));
    let areas = AREAS.map(|area| read_area(&section, area));
    let fill = section.integer("fill", 0..=65_535).map(|fill| fill as u16);
    if sizes.contains(&true) && fill.is_some() {
        section.error("fill", "'fill' is for a unit that shows tags, and this one is raw memory");
    }
    if let Some(id) = id {
        if units.contains_key(&id) {
            section.error("id", format!("the unit {id} is there already"));
        }
        let draft = if sizes.contains(&true) {
            Draft::Raw(Raw::new(areas))
        } else {
            Draft::Mapped { map: Map::default(), fill }
        };
        units.insert(id, draft);
    }
    section.finish();
}

fn read_proxy(section: Section<'_>, units: &mut BTreeMap<u8, Draft>, declared: &Declared) {
    section.require("unit", "a unit from 1 to 255");
    section.require("device", "the name of a [[device]]");
    let unit = section.integer("unit", 1..=255).map(|unit| unit as u8);
    let device = section.parse("device", |name| match declared.owner(name) {
        Some(owner) => Ok((Box::from(name), owner)),
        None => Err(format!("there is no [[device]] of the name '{name}'")),
    });
    let max_age = section.duration_in("max_age", Duration::ZERO..=MOST_MAX_AGE).unwrap_or_default();
    if let Some(unit) = unit.filter(|unit| units.contains_key(unit)) {
        section.error("unit", format!("the unit {unit} is there already"));
    }
    if let (Some(unit), Some((device, owner))) = (unit, device) {
        units.entry(unit).or_insert(Draft::Proxied(Proxied { device, owner, max_age }));
    }
    section.finish();
}

fn key_of(area: Area) -> &'static str {
    match area {
        Area::Coil => "coils",
        Area::Discrete => "discretes",
        Area::Input => "inputs",
        Area::Holding => "holdings",
    }
}

/// `holdings = 1000`, or `holdings = { size = 1000, watchdog = "5s", safe = 0 }`.
fn read_area(section: &Section<'_>, area: Area) -> RawArea {
    let key = key_of(area);
    let size_of = |section: &Section<'_>, key| section.integer(key, 0..=AREA_SIZE.into()).unwrap_or(0) as u32;
    if !section.is_table(key) {
        return RawArea::new(area, size_of(section, key), None);
    }
    let Some(table) = section.table(key) else { return RawArea::new(area, 0, None) };
    table.require("size", "how many addresses there are");
    let size = size_of(&table, "size");
    let watchdog = table.duration("watchdog");
    let safe = match area.is_bits() {
        true => table.bool("safe").map(u16::from),
        false => table.integer("safe", 0..=65_535).map(|safe| safe as u16),
    };
    check_pair(&table);
    table.finish();
    let guard = watchdog.zip(safe).map(|(watchdog, safe)| raw::Guard { watchdog, safe });
    RawArea::new(area, size, guard)
}

/// A watchdog needs a value to fall back to, and the other way round.
fn check_pair(section: &Section<'_>) {
    match (section.has("watchdog"), section.has("safe")) {
        (true, false) => {
            section.error("watchdog", "'safe' is missing: what is taken when nothing is written")
        }
        (false, true) => section.error("safe", "'watchdog' is missing: after how long it is taken"),
        _ => {}
    }
}

fn read_map(section: Section<'_>, units: &mut Drafts, declared: &mut Declared) {
    section.require("unit", "a unit from 1 to 255");
    section.require("address", "such as \"holding:100\"");
    section.require("tag", "such as \"line1/press3/temperature\"");
    let unit = section.integer("unit", 1..=255).map(|unit| unit as u8);
    let address = section.parse("address", |text| Address::parse(text).map_err(|error| error.to_string()));
    let tag = section.parse("tag", |text| {
        TagName::parse(text).map_err(|error| error.to_string())?;
        Ok(Box::<str>::from(text))
    });
    if let (Some(address), Some(tag)) = (address, tag) {
        let entry = read_entry(&section, address, tag, declared, units);
        if let (Some(unit), Some(entry)) = (unit, entry) {
            let empty = || Draft::Mapped { map: Map::default(), fill: None };
            match units.entry(unit).or_insert_with(empty) {
                Draft::Raw(_) => {
                    section.error("unit", format!("the unit {unit} is raw memory; show tags in another"))
                }
                Draft::Proxied(Proxied { device, .. }) => section
                    .error("unit", format!("the unit {unit} is the device {device}; show tags in another")),
                Draft::Mapped { map, .. } => {
                    if let Err(why) = map.add(address, entry) {
                        section.error("address", why);
                    }
                }
            }
        }
    }
    // What was not asked for because of a mistake is no other mistake.
    for key in ["type", "order", "scale", "offset", "on_bad", "serve_uncertain", "show", "watchdog", "safe"] {
        section.has(key);
    }
    section.finish();
}

fn read_entry(
    section: &Section<'_>,
    address: Address,
    tag: Box<str>,
    declared: &mut Declared,
    units: &Drafts,
) -> Option<Entry> {
    let order = section.one_of("order", &ORDERS).unwrap_or_default();
    let shows = match section.one_of("show", &[("value", false), ("quality", true)]) {
        Some(true) => quality(section, address, order)?,
        // What belongs to it cannot be known.
        None if section.has("show") => return None,
        Some(false) | None => value(section, address, order)?,
    };
    let kind = match shows {
        Shows::Registers(conversion) => conversion.tag_kind(),
        Shows::Bit => Kind::Bool,
        Shows::Quality(_) => Kind::Any,
    };
    let target = match Target::find(&tag, declared, units).and_then(|target| target.showing(&tag, kind)) {
        Ok(target) => target,
        Err(why) => {
            section.error("tag", why);
            return None;
        }
    };
    if target.is_new && kind != Kind::Any {
        declare(&tag, kind, declared);
    }
    let on_bad = on_bad(section, shows);
    let guard = guard(section, address, shows, &target);
    Some(Entry { tag, shows, on_bad, guard })
}

/// `show = "quality"`
fn quality(section: &Section<'_>, address: Address, order: Order) -> Option<Shows> {
    if address.is_bit() {
        section.error("show", "a quality is 0, 1 or 2 and needs a whole register");
        return None;
    }
    let mut wrong = false;
    for key in ["type", "scale", "offset", "on_bad", "watchdog"] {
        if section.has(key) {
            section.error(key, format!("'{key}' is for a value, and this shows a quality (in a u16)"));
            wrong = true;
        }
    }
    (!wrong).then_some(Shows::Quality(order))
}

fn value(section: &Section<'_>, address: Address, order: Order) -> Option<Shows> {
    let kind = section.parse("type", Type::parse);
    let (scale, offset) = (section.float("scale"), section.float("offset"));
    if address.is_bit() {
        if kind.is_some_and(|kind| kind != Type::Bool) || scale.or(offset).is_some() {
            section.error(
                "address",
                format!("{address} is one bit: its type is bool, without scale and offset"),
            );
            return None;
        }
        return Some(Shows::Bit);
    }
    if !section.has("type") {
        section.require("type", "what the registers hold, such as \"u16\" or \"f32\"");
    }
    match Conversion::new(kind?, order, scale, offset) {
        Ok(conversion) => Some(Shows::Registers(conversion)),
        Err(why) => {
            let is_of_offset = match why {
                ScaleError::Scale => false,
                ScaleError::Offset => true,
                ScaleError::NotANumber => scale.is_none(),
            };
            section.error(if is_of_offset { "offset" } else { "scale" }, why.to_string());
            None
        }
    }
}

/// What is known of a tag that is to be shown.
struct Target {
    kind: Kind,
    access: Access,
    limits: Limits,
    /// Nobody has declared it.
    is_new: bool,
}

impl Target {
    /// `Err` if there can be no such tag.
    fn find(tag: &str, declared: &Declared, units: &Drafts) -> Result<Target, String> {
        let declaration = declared.get(tag);
        let mut target = Target {
            kind: declaration.map_or(Kind::Any, |declaration| declaration.kind),
            access: declaration.map_or(Access::ReadWrite, |declaration| declaration.access),
            limits: declaration.map_or_else(Limits::default, |declaration| declaration.limits),
            is_new: declaration.is_none(),
        };
        if tag.starts_with("$server/") {
            let kind = system_tag_kind(tag);
            target.kind = kind.ok_or_else(|| format!("the server has no tag '{tag}' of its own"))?;
            (target.access, target.is_new) = (Access::ReadOnly, false);
        } else if tag.starts_with('$') {
            // Of what runs in the server; known when it does.
            target.is_new = false;
        } else if let Some(rest) = below_raw_memory(tag).filter(|_| units.values().any(Draft::is_raw)) {
            // Registers of raw memory are tags by themselves.
            let found = super::register(rest).filter(|(id, area, address)| {
                matches!(units.get(id), Some(Draft::Raw(raw)) if raw.has(*area, *address))
            });
            let (_, area, _) = found.ok_or_else(|| format!("there is no register '{tag}'"))?;
            target.kind = if area.is_bits() { Kind::Bool } else { Kind::Int };
            if declaration.is_none() {
                target.limits = register_limits();
            }
            target.is_new = false;
        }
        Ok(target)
    }

    /// `Err` if it is of a type that is not shown as `kind`.
    fn showing(self, tag: &str, kind: Kind) -> Result<Target, String> {
        let is_number = |kind| matches!(kind, Kind::Int | Kind::Float);
        let is_fit = self.kind == kind || (is_number(self.kind) && is_number(kind));
        if is_fit || self.kind == Kind::Any || kind == Kind::Any {
            return Ok(self);
        }
        let (own, shown) = (self.kind.as_str(), kind.as_str());
        Err(format!("the tag '{tag}' is of type {own}, and the registers hold a {shown}"))
    }
}

fn below_raw_memory(tag: &str) -> Option<&str> {
    tag.strip_prefix(super::NAMES_BEGIN_WITH)?.strip_prefix('/')
}

fn register_limits() -> Limits {
    let [least, most] = [0, u16::MAX.into()].map(|bound| Some(Number::Int(bound)));
    Limits::new(least, most).expect("0 is below 65,535")
}

fn declare(tag: &str, kind: Kind, declared: &mut Declared) {
    let declaration = Declaration { kind, ..Declaration::default() };
    declared.add(DeclaredTag { name: tag.into(), declaration, initial: None });
}

/// `"exception"`, `"last"`, or what the registers show instead, as a number without scale and offset.
fn on_bad(section: &Section<'_>, shows: Shows) -> OnBad {
    let serve_uncertain = section.bool("serve_uncertain").unwrap_or(false);
    let on_bad = section.scalar("on_bad");
    if serve_uncertain && on_bad != Some(Scalar::Text("last")) {
        section.warn("serve_uncertain", "'serve_uncertain' changes nothing without on_bad = \"last\"");
    }
    let instead = match on_bad {
        None | Some(Scalar::Text("exception")) => return OnBad::Exception,
        Some(Scalar::Text("last")) if serve_uncertain => return OnBad::Last,
        // Nothing says that the value shown is old: only who asks for it in so many words gets it.
        Some(Scalar::Text("last")) => {
            let why = "'on_bad' is \"last\" and masters get an exception all the same: \
                       'serve_uncertain = true' lets them see values that may be old";
            section.warn("on_bad", why);
            return OnBad::Exception;
        }
        Some(Scalar::Text(_)) => None,
        Some(Scalar::Bool(bit)) => Some(Input::Bool(bit)),
        Some(Scalar::Integer(number)) => Some(Input::Int(number)),
        Some(Scalar::Float(number)) => Some(Input::Float(number)),
    };
    let bytes = instead.and_then(|instead| registers_of(shows, &instead));
    bytes.map(OnBad::Instead).unwrap_or_else(|| {
        let expected = "expected \"exception\", \"last\", or a number that its registers can hold";
        section.error("on_bad", format!("'on_bad' cannot be shown, {expected}"));
        OnBad::Exception
    })
}

fn registers_of(shows: Shows, value: &Input<'_>) -> Option<Box<[u8]>> {
    match (shows, value) {
        (Shows::Registers(conversion), value) => {
            let plain = Conversion::new(conversion.of(), conversion.order(), None, None).ok()?;
            let mut bytes = vec![0; 2 * usize::from(plain.registers())];
            plain.write(value, &mut bytes).ok()?;
            Some(bytes.into())
        }
        (Shows::Bit, Input::Bool(bit)) => Some([0, u8::from(*bit)].into()),
        (Shows::Bit, Input::Int(bit @ (0 | 1))) => Some([0, *bit as u8].into()),
        _ => None,
    }
}

fn guard(section: &Section<'_>, address: Address, shows: Shows, target: &Target) -> Option<mapped::Guard> {
    check_pair(section);
    let watchdog = section.duration("watchdog");
    let safe = match section.scalar("safe")? {
        Scalar::Bool(bit) => Input::Bool(bit),
        Scalar::Integer(number) => Input::Int(number),
        Scalar::Float(number) => Input::Float(number),
        Scalar::Text(text) => Input::Text(text.into()),
    };
    if !address.area().is_writable() {
        section.error("watchdog", format!("masters do not write {address}, so nothing is missed there"));
        return None;
    }
    if target.access == Access::ReadOnly {
        section.error("watchdog", "masters do not write a read-only tag, so nothing is missed there");
        return None;
    }
    let kind = match shows {
        _ if target.kind != Kind::Any => target.kind,
        Shows::Registers(conversion) => conversion.tag_kind(),
        Shows::Bit => Kind::Bool,
        Shows::Quality(_) => return None,
    };
    match kind.convert(safe) {
        Ok(safe) if target.limits.contains(&safe) => Some(mapped::Guard::new(watchdog?, safe.into_value())),
        Ok(_) => {
            section.error("safe", "'safe' is outside what the tag accepts, its 'min' and 'max'");
            None
        }
        Err(_) => {
            section.error("safe", format!("'safe' does not fit the tag's type, {}", kind.as_str()));
            None
        }
    }
}

impl Map {
    /// Show one more thing. `Err` says what is there already.
    fn add(&mut self, address: Address, entry: Entry) -> Result<(), String> {
        let len = match entry.shows {
            Shows::Registers(conversion) => conversion.registers(),
            Shows::Bit | Shows::Quality(_) => 1,
        };
        let (start, number) = (address.number(), self.entries.len());
        let end = u32::from(start) + u32::from(len);
        if end > AREA_SIZE {
            return Err(format!("{address} and the {} behind it reach beyond 65535", len - 1));
        }
        let cells = &mut self.areas[address.area() as usize];
        let before = cells.range_mut(..=(end - 1) as u16).next_back().map(|(_, cell)| cell);
        match (before.filter(|cell| cell.end() > u32::from(start)), address.bit()) {
            (Some(Cell { holds: Holds::Bits(bits), start: at, .. }), Some(bit)) if *at == start => {
                if bits.iter().any(|(taken, _)| *taken == bit) {
                    return Err(format!("{address} shows another tag already"));
                }
                bits.push((bit, number));
            }
            (Some(cell), _) => {
                let taken = Address::new(address.area(), cell.start);
                return Err(format!("{address} shows another tag already, that of {taken}"));
            }
            (None, Some(bit)) => {
                cells.insert(start, Cell { start, len, holds: Holds::Bits(vec![(bit, number)]) });
            }
            (None, None) => {
                cells.insert(start, Cell { start, len, holds: Holds::Value(number) });
            }
        }
        self.entries.push(entry);
        Ok(())
    }
}
