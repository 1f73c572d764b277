//! Watchdogs: what nobody writes in time takes its safe value, once, until it is written again.

use std::sync::Arc;
use std::time::Duration;

use super::super::address::{AREAS, Area};
use super::{Content, Units};
use crate::base::time::Tick;
use crate::engine::{Consumed, Context, Flow, Session, Ticket, Written};
use crate::tags::Refusal;

/// The session without a peer that watches.
pub(super) struct Watch {
    units: Arc<Units>,
    places: Vec<Place>,
    next: Tick,
}

/// What is watched.
struct Place {
    /// By its place in `Units`.
    unit: usize,
    within: Within,
    /// The last write before the safe value was taken: it is not taken for that one again.
    taken_for: Option<Tick>,
    /// A device has to confirm it.
    ticket: Option<Ticket>,
}

enum Within {
    Area(Area),
    Entry(usize),
}

impl Watch {
    /// `None` if there is no watchdog.
    pub(super) fn over(units: Arc<Units>) -> Option<Watch> {
        let mut places = Vec::new();
        for (number, unit) in units.units.iter().enumerate() {
            let mut add = |within| places.push(Place { unit: number, within, taken_for: None, ticket: None });
            match &unit.content {
                Content::Raw(raw) => {
                    let raw = raw.lock();
                    let watched = AREAS.into_iter().filter(|area| raw.watched(*area).is_some());
                    watched.for_each(|area| add(Within::Area(area)));
                }
                // What becomes of a device without its masters is for the device to know.
                Content::Proxied(_) => {}
                Content::Mapped(mapped) => {
                    let watched = (0..mapped.entries()).filter(|entry| mapped.guard(*entry).is_some());
                    watched.for_each(|entry| add(Within::Entry(entry)));
                }
            }
        }
        (!places.is_empty()).then_some(Watch { units, places, next: Tick::NEVER })
    }

    /// See to what is due. A place that has taken its safe value is looked at again after as long as its
    /// watchdog: whatever is written in between is not due before.
    fn look(&mut self, cx: &mut Context<'_>) {
        let now = cx.now();
        self.next = Tick::NEVER;
        for place in &mut self.places {
            let content = &self.units.units[place.unit].content;
            let (watchdog, written) = place.within.watched(content);
            let due = if place.taken_for == Some(written) { now.tick + watchdog } else { written + watchdog };
            if due > now.tick {
                self.next = self.next.min(due);
                continue;
            }
            self.next = self.next.min(now.tick + watchdog);
            let ticket = match place.within.take_safe_value(content, written, cx) {
                // Somebody on another shard has written it just now.
                Ok(None) => continue,
                Ok(Some(Written::Done)) => None,
                Ok(Some(Written::Pending(ticket))) => Some(ticket),
                // A device that is not there now may be next time.
                Err(refusal) => {
                    log::error!("the safe value cannot be taken: {refusal}");
                    continue;
                }
            };
            (place.taken_for, place.ticket) = (Some(written), ticket);
            log::warn!(
                "unit {}: {} was not written for {watchdog:?} and takes its safe value",
                self.units.units[place.unit].id,
                place.within.name(content)
            );
        }
    }
}

impl Within {
    /// The watchdog, and when the place was written last.
    fn watched(&self, content: &Content) -> (Duration, Tick) {
        match (self, content) {
            (Within::Area(area), Content::Raw(raw)) => {
                let (guard, written) = raw.lock().watched(*area).expect(WATCHED);
                (guard.watchdog, written)
            }
            (Within::Entry(entry), Content::Mapped(mapped)) => {
                let guard = mapped.guard(*entry).expect(WATCHED);
                (guard.watchdog, guard.written())
            }
            _ => unreachable!("{WATCHED}"),
        }
    }

    fn name(&self, content: &Content) -> String {
        match (self, content) {
            (Within::Entry(entry), Content::Mapped(mapped)) => mapped.tag_name(*entry).to_owned(),
            (Within::Area(area), _) => format!("the area '{area}'"),
            _ => unreachable!("{WATCHED}"),
        }
    }

    /// `None` if it was written after `written`.
    fn take_safe_value(
        &self,
        content: &Content,
        written: Tick,
        cx: &mut Context<'_>,
    ) -> Result<Option<Written>, Refusal> {
        match (self, content) {
            (Within::Area(area), Content::Raw(raw)) => {
                let is_taken = raw.lock().take_safe_value(cx.tags(), *area, written, cx.now());
                Ok(is_taken.then_some(Written::Done))
            }
            (Within::Entry(entry), Content::Mapped(mapped)) => mapped.take_safe_value(*entry, written, cx),
            _ => unreachable!("{WATCHED}"),
        }
    }
}

const WATCHED: &str = "places are listed because they have a watchdog";

impl Session for Watch {
    fn on_open(&mut self, cx: &mut Context<'_>) -> Flow {
        self.look(cx);
        Flow::Continue
    }

    fn on_bytes(&mut self, _: &mut Context<'_>, _: &[u8]) -> Consumed {
        unreachable!("there is no peer that could send")
    }

    fn on_deadline(&mut self, cx: &mut Context<'_>) -> Flow {
        self.look(cx);
        Flow::Continue
    }

    fn on_write_done(&mut self, _: &mut Context<'_>, ticket: Ticket, result: Result<(), Refusal>) -> Flow {
        let place = self.places.iter_mut().find(|place| place.ticket == Some(ticket));
        if let (Some(place), Err(refusal)) = (place, result) {
            log::error!("a device did not take its safe value: {refusal}; it is tried again");
            (place.taken_for, place.ticket) = (None, None);
        }
        Flow::Continue
    }

    fn deadline(&self) -> Option<Tick> {
        Some(self.next)
    }
}
