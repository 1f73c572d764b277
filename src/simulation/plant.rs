//! The tags and units that the engines of a world begin with, and how they stand.

use std::sync::Arc;

use super::checkers::State;
use super::field::FieldPlan;
use super::field_watch::fleet_of;
use super::peers::{POLLED_TAGS_EACH, Table, polled_tag};
use super::plan::Plan;
use super::sessions::EPOCH;
use super::units;
use crate::base::section::Document;
use crate::base::time::Timestamp;
use crate::drivers::modbus::figures::FleetFigures;
use crate::drivers::modbus::settings::Fleet;
use crate::engine::{Figures, Protocol, Service, declare_system_tags};
use crate::protocols::by_scheme;
use crate::tags::name::{Pattern, TagName};
use crate::tags::value::{Kind, write_value};
use crate::tags::{Declaration, Declared, DeclaredTag, Memory, OwnerId, Scan, TagId, TagSettings, Tags};

/// What the engines of a server begin with.
pub(super) struct Plant {
    pub(super) tags: Arc<Tags>,
    /// Modbus units.
    pub(super) units: Arc<dyn Service>,
    /// Devices that the driver polls.
    pub(super) polled: Option<(FieldPlan, Fleet, Arc<FleetFigures>)>,
}

/// What the engines of a server begin with, so many of them; one of several servers has the field.
pub(super) fn plant(plan: &Plan, shards: usize, has_field: bool) -> Plant {
    let mut declared = declared_tags(plan);
    let units = service(&units::config(plan.shown_operators()), &mut declared);
    let polled = plan.field.clone().filter(|_| has_field).map(|field| {
        let fleet = fleet_of(&field, &mut declared);
        let figures = Arc::new(FleetFigures::new(&fleet));
        (field, fleet, figures)
    });
    let owners = match &polled {
        Some((_, fleet, _)) => fleet.names.clone(),
        None if plan.polled => vec!["plc0".into()],
        None => Vec::new(),
    };
    let figures = polled.as_ref().map(|(_, _, figures)| figures);
    let settings = TagSettings { max_tags: 1_000, ..TagSettings::default() };
    let mut memories: Vec<Arc<dyn Memory>> = Arc::clone(&units).memory().into_iter().collect();
    memories.extend(figures.map(|figures| Arc::clone(figures) as Arc<dyn Memory>));
    let most_figures = figures.map_or(0, |figures| figures.most_tags());
    let tags = Tags::new(settings, owners, shards).with_system_tags(most_figures).with_memories(memories);
    let tags = Arc::new(tags);
    let shown = figures.map(|figures| &**figures as &dyn Figures);
    declare_system_tags(&tags, shown).expect("the table is empty");
    for tag in declared {
        let name = TagName::parse(&tag.name).expect("these are names");
        tags.declare(name, tag.declaration, Timestamp(0)).expect("there is room for a few tags");
    }
    units.bind(&tags, Timestamp(0)).expect("the tags are declared");
    Plant { tags, units, polled }
}

/// The tags that a world begins with: those of the polled device, and those of devices that units show,
/// whatever they write.
fn declared_tags(plan: &Plan) -> Declared {
    let mut declared = Declared::default();
    let mut declare = |name: String, kind, owner| {
        let declaration = Declaration { kind, owner, ..Declaration::default() };
        declared.add(DeclaredTag { name: name.into(), declaration, initial: None });
    };
    if plan.polled {
        let each = |operator| (0..POLLED_TAGS_EACH).map(move |number| polled_tag(operator, number));
        let of_operators = (0..plan.operators).flat_map(each);
        let of_masters = units::polled_connections()
            .flat_map(|(master, number)| units::polled_tags(master, number).into_iter());
        for name in of_operators.chain(of_masters).chain([units::UDP_POLLED_TAG.to_owned()]) {
            declare(name, Kind::Int, Some(OwnerId(0)));
        }
    }
    for device in 0..units::DEVICES {
        for tag in ["t0", "t1"] {
            declare(format!("dev{device}/{tag}"), Kind::Any, None);
        }
    }
    declared
}

/// What the Modbus listeners of an engine share.
fn service(config: &str, declared: &mut Declared) -> Arc<dyn Service> {
    let document = Document::parse("world", config);
    let row = by_scheme("modbus").and_then(Protocol::service).expect("Modbus has units");
    let service = (row.configure)(document.root().table(row.section), declared);
    assert_eq!(document.errors(), Vec::new());
    service
}

/// All tags but the server's own, as they stand.
pub(super) fn table_of(tags: &Tags) -> Table {
    let (mut scan, mut table) = (Scan::default(), Table::new());
    let all = Pattern::parse("#").expect("it is a pattern");
    while !scan.is_over() {
        tags.scan(all, &mut scan);
        while let Some(tag) = scan.found.pop_front() {
            let mut name = String::new();
            tags.push_name(tag, &mut name);
            table.insert(name, state_as_told(tags, tag));
        }
    }
    table
}

/// A tag as a line tells of it.
fn state_as_told(tags: &Tags, tag: TagId) -> State {
    let sample = tags.read(tag);
    let mut text = String::new();
    write_value(&sample.value, &mut text).expect("a string takes all");
    let text = format!("{text} {} 0", sample.quality.as_str());
    State::parse(&text).expect("a sample is printed as one")
}

/// The same for a name; a register may have none so far.
pub(super) fn state_of(tags: &Tags, name: &str) -> State {
    let name = TagName::parse(name).expect("these are names");
    state_as_told(tags, tags.find_or_name(name, EPOCH).expect("there is such a tag"))
}
