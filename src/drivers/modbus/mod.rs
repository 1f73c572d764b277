//! The Modbus driver: it connects to devices, reads their points again and again, and writes them.
//!
//! [`settings`] and [`points`] are the configuration, a [`table`] is a spreadsheet's, [`sources`] know where
//! points stand. A [`line`] is one connection and decides who is asked next; a [`device`] behind it knows
//! what to ask: [`places`] and [`plan`] say which requests read its points, [`quarantine`] which of them are
//! sent once it has refused some, [`writing`] how a write is done, [`asking`] what masters ask of it through
//! us. [`figures`] show how devices are; a [`session`] is the life of a line, with a connection or without.
//! [`load`] says beforehand what a line can carry.

mod asking;
mod device;
pub mod figures;
mod line;
pub mod load;
pub mod places;
pub mod plan;
pub mod points;
pub mod quarantine;
pub mod session;
pub mod settings;
mod sources;
mod table;
#[cfg(test)]
mod tests;
mod writing;
mod written;

use std::sync::Arc;
use std::time::Duration;

use crate::base::time::Tick;
use crate::engine::Session;
use crate::tags::Tags;
use crate::tags::name::TagName;

use figures::FleetFigures;
use line::Line;
use session::Parked;
use settings::LineSettings;

/// First connections are spread over the devices' rates, but over no more than this.
const FIRST_CONNECTS_WITHIN: Duration = Duration::from_secs(2);

/// A session for each line, to be housed by an engine. The devices' tags have to be there.
pub fn sessions(
    lines: Vec<LineSettings>,
    figures: &Arc<FleetFigures>,
    tags: &Tags,
    now: Tick,
) -> impl Iterator<Item = Box<dyn Session>> {
    let count = lines.len().max(1) as u32;
    lines.into_iter().zip(0_u32..).map(move |(settings, number)| {
        let rates = settings.devices.iter().flat_map(|device| &device.model.rates);
        let within = rates.min().copied().unwrap_or_default().min(FIRST_CONNECTS_WITHIN);
        let first_tag = |name: &str| {
            let name = TagName::parse(name).expect("the configuration's names are names");
            tags.find(name).expect("the tags of devices are declared")
        };
        let line = Line::new(settings, figures, first_tag, now);
        Box::new(Parked::until(now + within * number / count, Box::new(line))) as Box<dyn Session>
    })
}
