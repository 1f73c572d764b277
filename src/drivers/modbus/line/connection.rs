//! What becomes of a line when its connection is made, is lost, or cannot be made, and who is told why.

use std::sync::Arc;
use std::time::Duration;

use super::super::device::Ask;
use super::super::figures::{Reason, State};
use super::{Line, name_of};
use crate::engine::{Context, End};
use crate::protocols::modbus::rtu;
use crate::tags::Refusal;

impl Line {
    /// The connection is there.
    pub(in crate::drivers::modbus) fn on_connected(&mut self, cx: &mut Context<'_>) {
        let now = cx.now().tick;
        (self.unheard_since, self.ready_at) = (None, now);
        self.hold = None;
        self.framing = rtu::Framing::new(rtu::Direction::Responses);
        (self.partial_bytes, self.void_bytes) = (0, 0);
        if let [device] = &self.devices[..] {
            cx.record_as(name_of(device));
        }
        for device in &mut self.devices {
            cx.attach(device.settings.owner, Arc::clone(&device.outlook) as _);
            device.on_connected(now);
            device.figures.set_fault(cx.tags(), None, cx.now().wall);
            if self.was_connected {
                device.on_return(now);
                device.figures.reconnects.add(1);
            }
        }
        self.was_connected = true;
        self.fault = None;
        log::info!("{} connected", self.url);
        self.pump(cx);
    }

    /// There is no connection, and this is why.
    pub(in crate::drivers::modbus) fn on_fault(&mut self, why: &str) {
        if self.fault.as_deref() != Some(why) {
            self.fault = Some(why.into());
            self.is_fault_news = true;
        }
    }

    /// For people. That a name cannot be looked up is told once, for it takes no more than a look into the
    /// configuration, or patience.
    pub(in crate::drivers::modbus) fn tell_of_fault(&mut self, why: End, wait: Duration) {
        let is_news = std::mem::take(&mut self.is_fault_news);
        if let Some(fault) = self.fault.as_ref().filter(|_| is_news || why != End::Unresolved) {
            log::warn!("{}: {fault}; again in {} ms", self.url, wait.as_millis());
        }
    }

    /// The connection is gone, or could not be made.
    pub(in crate::drivers::modbus) fn on_lost(&mut self, cx: &mut Context<'_>, why: End) {
        if why != End::Unresolved {
            self.on_fault(&match why {
                End::NotConnected(_) | End::Broken(_) => why.to_string(),
                why => format!("the connection was closed: {why}"),
            });
            // The address that answered last is the first to be tried again.
            if !std::mem::take(&mut self.has_answered) {
                self.to.host.turn();
            }
        }
        for flight in std::mem::take(&mut self.flights) {
            match flight.ask {
                Ask::Read(_) => {}
                Ask::Write(writing) => cx.settle(writing.ticket(), Err(Refusal::Timeout)),
                Ask::Question(asked) => asked.answer(cx, Err(Refusal::Timeout)),
            }
        }
        for device in &mut self.devices {
            let (state, reason, fault) = match device.figures.is_enabled() {
                true if why == End::Unresolved => (State::Offline, Reason::Unresolved, self.fault.as_ref()),
                true => (State::Offline, Reason::Offline, self.fault.as_ref()),
                false => (State::Disabled, Reason::Disabled, None),
            };
            device.figures.set_fault(cx.tags(), fault, cx.now().wall);
            device.give_up(cx, state, reason);
        }
    }
}
