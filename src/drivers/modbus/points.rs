//! `[[device.tag]]`: one point of a device, the registers (or the bit) of one tag.

use std::time::Duration;

use super::sources::Place;
use crate::base::section::{Scalar, Section};
use crate::protocols::modbus::{Address, Conversion, Registers, Span, Type, convert::ORDERS};
use crate::tags::name::TagName;
use crate::tags::value::{Input, Kind, Limits, Number};
use crate::tags::{Access, Declaration, OwnerId};

/// What is known of a point.
#[derive(Clone, Debug)]
pub struct PointSettings {
    /// Behind the device's name.
    pub name: Box<str>,
    pub address: Address,
    /// None for a bit.
    pub conversion: Option<Conversion>,
    pub is_writable: bool,
    /// Read back after a write.
    pub verify: bool,
    pub deadband: Option<Deadband>,
    /// How often it is read.
    pub rate: Duration,
    limits: Limits,
    units: Box<str>,
    description: Box<str>,
}

/// How far a number may move without being a change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Deadband {
    /// In the tag's units.
    Absolute(f64),
    /// A part of the value that was told last.
    Relative(f64),
}

/// A point, the rate that it asks for, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) point: PointSettings,
    pub(super) rate: Option<Duration>,
    pub(super) place: Place,
}

impl PointSettings {
    /// How many registers, or bits, are read for it.
    pub fn quantity(&self) -> u16 {
        self.conversion.map_or(1, |conversion| conversion.registers())
    }

    /// What is read for it.
    pub fn span(&self) -> Span {
        Span { start: self.address.number(), quantity: self.quantity() }
    }

    /// What its tag is.
    pub fn declaration(&self, owner: OwnerId) -> Declaration {
        Declaration {
            kind: self.conversion.map_or(Kind::Bool, |conversion| conversion.tag_kind()),
            access: if self.is_writable { Access::ReadWrite } else { Access::ReadOnly },
            limits: self.limits,
            owner: Some(owner),
            description: self.description.clone(),
            units: self.units.clone(),
            ..Declaration::default()
        }
    }

    /// Whether what is to be written is within the limits as well as the value that it was made of: whole
    /// registers hold the nearest that they can. Of floats that is too near to be another value.
    pub(super) fn may_hold(&self, bytes: &[u8]) -> bool {
        match self.conversion.map(|conversion| conversion.of()) {
            None | Some(Type::F32 | Type::F64) => true,
            Some(_) => Registers::new(bytes)
                .and_then(|registers| self.value(registers).ok())
                .is_none_or(|value| self.limits.contains(&value)),
        }
    }

    /// The value in its registers; `Err` says why they have no meaning. Of a bit of a register the register
    /// is given.
    pub fn value(&self, registers: Registers<'_>) -> Result<Input<'static>, &'static str> {
        match (self.conversion, self.address.bit()) {
            (Some(conversion), _) => conversion.read(registers).map_err(|why| why.as_str()),
            (None, bit) => {
                let register = registers.get(0).expect("a bit is in one register");
                Ok(Input::Bool(register >> bit.unwrap_or(0) & 1 == 1))
            }
        }
    }
}

impl Deadband {
    /// `0.5` or `"1%"`.
    fn parse(scalar: Scalar<'_>) -> Option<Deadband> {
        let (number, is_relative) = match scalar {
            Scalar::Integer(number) => (number as f64, false),
            Scalar::Float(number) => (number, false),
            Scalar::Text(text) => (text.strip_suffix('%')?.trim().parse().ok()?, true),
            Scalar::Bool(_) => return None,
        };
        let band = if is_relative { Deadband::Relative(number / 100.0) } else { Deadband::Absolute(number) };
        (number >= 0.0 && number.is_finite()).then_some(band)
    }

    /// Whether a number that was `told` is still good enough.
    pub fn holds(self, told: &Input<'_>, new: &Input<'_>) -> bool {
        let number = |input: &Input<'_>| match *input {
            Input::Int(int) => Some(int as f64),
            Input::Float(float) => Some(float),
            _ => None,
        };
        let (Some(told), Some(new)) = (number(told), number(new)) else { return false };
        if !told.is_finite() || !new.is_finite() {
            return false;
        }
        let band = match self {
            Deadband::Absolute(band) => band,
            Deadband::Relative(part) => part * told.abs(),
        };
        (new - told).abs() <= band
    }
}

/// Reads the points of a device, a template or a table; `table` is the number of the latter.
pub(super) fn read_points(sections: Vec<Section<'_>>, table: Option<usize>) -> Vec<Draft> {
    sections.into_iter().filter_map(|section| read_point(section, table)).collect()
}

fn read_point(section: Section<'_>, table: Option<usize>) -> Option<Draft> {
    section.require("name", "such as \"voltage/l1\"");
    section.require("address", "such as \"holding:10\"");
    let name = section.parse("name", |text| {
        TagName::parse(text).map(|name| Box::from(name.as_str())).map_err(|error| error.to_string())
    });
    let address = section.parse("address", |text| Address::parse(text).map_err(|error| error.to_string()));
    let kind = section.parse("type", Type::parse);
    let order = section.one_of("order", &ORDERS).unwrap_or_default();
    let (scale, offset) = (section.float("scale"), section.float("offset"));
    let bound = |key| section.float(key).map(Number::Float);
    let (min, max) = (bound("min"), bound("max"));
    let access = section.one_of("access", &[("ro", Access::ReadOnly), ("rw", Access::ReadWrite)]);
    let verify = section.bool("verify").unwrap_or(false);
    let rate = section.duration("rate");
    let deadband = section.scalar("deadband").and_then(|scalar| {
        let deadband = Deadband::parse(scalar);
        if deadband.is_none() {
            section.error("deadband", "'deadband' is not one, expected a number such as 0.5, or \"1%\"");
        }
        deadband
    });
    let limits = Limits::new(min, max).unwrap_or_else(|| {
        section.error("max", "'max' is below 'min'");
        Limits::default()
    });
    let (units, description) = (section.text("units").unwrap_or_default(), section.text("description"));
    let conversion = match address {
        Some(address) if address.is_bit() => {
            if kind.is_some_and(|kind| kind != Type::Bool) || scale.or(offset).is_some() {
                section.error("address", format!("{address} is one bit: a bool, without scale and offset"));
            }
            None
        }
        _ => {
            section.require("type", "what the registers hold, such as \"u16\" or \"f32\"");
            let made = kind.map(|kind| Conversion::new(kind, order, scale, offset));
            made.and_then(|made| made.map_err(|why| section.error("scale", why.to_string())).ok())
        }
    };
    let is_bit = address.is_some_and(|address| address.is_bit());
    if is_bit && section.has("order") {
        section.error("order", "'order' means nothing for one bit");
    }
    if is_bit || matches!(kind, Some(Type::Bool | Type::Text(_))) {
        for key in ["min", "max", "deadband"].into_iter().filter(|key| section.has(key)) {
            section.error(key, format!("'{key}' means nothing for a tag that is no number"));
        }
    }
    let is_writable = access == Some(Access::ReadWrite);
    if is_writable && address.is_some_and(|address| !address.area().is_writable()) {
        section.error("access", "inputs and discretes cannot be written, expected \"ro\"");
    }
    let draft = name.zip(address).map(|(name, address)| Draft {
        point: PointSettings {
            name,
            address,
            conversion,
            is_writable,
            verify,
            deadband,
            // Its own, or what the device says.
            rate: rate.unwrap_or_default(),
            limits,
            units: units.into(),
            description: description.unwrap_or_default().into(),
        },
        rate,
        place: Place { table, at: section.spot("name") },
    });
    section.finish();
    draft
}
